//! Select: which attributes of the items are wanted, or only their number. It says little that the other parameters do not say,
//! and must not say anything else than they do. Where nothing is said, a table gives all attributes and an index those that it
//! shows.

use crate::api::dynamodb::failure::Failure;

/// Select.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Select {
    /// All of them, also those that an index does not show.
    AllAttributes,
    /// All that an index shows.
    AllProjectedAttributes,
    /// Those that are named.
    SpecificAttributes,
    /// None: the items are counted.
    Count,
}

impl Select {
    /// Its words, in the order in which AWS tells them.
    pub(super) const WORDS: &'static [(&'static str, Select)] = &[
        ("SPECIFIC_ATTRIBUTES", Select::SpecificAttributes),
        ("COUNT", Select::Count),
        ("ALL_ATTRIBUTES", Select::AllAttributes),
        ("ALL_PROJECTED_ATTRIBUTES", Select::AllProjectedAttributes),
    ];
}

/// Checks Select against the parameter that names attributes, if one does, and against IndexName.
pub(super) fn check(select: Option<Select>, projecting: Option<&str>, has_index: bool) -> Result<(), Failure> {
    let wanted = match (select, projecting) {
        (Some(Select::SpecificAttributes), None) => {
            return Err(Failure::validation(
                "Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES",
            ));
        }
        (Some(Select::AllProjectedAttributes), _) if !has_index => {
            return Err(Failure::validation(
                "ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName",
            ));
        }
        (None | Some(Select::SpecificAttributes), _) | (Some(_), None) => return Ok(()),
        (Some(Select::AllAttributes), Some(_)) => "ALL_ATTRIBUTES",
        (Some(Select::AllProjectedAttributes), Some(_)) => "ALL_PROJECTED_ATTRIBUTES",
        (Some(Select::Count), Some(_)) => "only the Count",
    };
    let projecting = projecting.unwrap_or_default();
    Err(Failure::validation(format!("Cannot specify the {projecting} when choosing to get {wanted}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_must_be_wanted() {
        let text = |select, projecting, has_index| {
            check(select, projecting, has_index).err().and_then(|failure| failure.message().map(str::to_owned))
        };
        let specific = Some(Select::SpecificAttributes);
        assert_eq!(text(None, Some("AttributesToGet"), false), None);
        assert_eq!(text(specific, Some("ProjectionExpression"), false), None);
        assert_eq!(text(Some(Select::AllAttributes), None, false), None);
        assert_eq!(text(Some(Select::Count), None, false), None);
        assert_eq!(text(Some(Select::AllProjectedAttributes), None, true), None);
        assert_eq!(
            text(specific, None, false).unwrap(),
            "Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES"
        );
        assert_eq!(
            text(Some(Select::Count), Some("ProjectionExpression"), false).unwrap(),
            "Cannot specify the ProjectionExpression when choosing to get only the Count"
        );
        assert_eq!(
            text(Some(Select::AllAttributes), Some("AttributesToGet"), false).unwrap(),
            "Cannot specify the AttributesToGet when choosing to get ALL_ATTRIBUTES"
        );
        assert_eq!(
            text(Some(Select::AllProjectedAttributes), None, false).unwrap(),
            "ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName"
        );
    }
}
