//! Local indexes of a table as the command line spells them:
//!
//! ```text
//! by-total=total:Integer                       the whole of each item
//! by-total=total:Integer:keys-only             its keys
//! by-total=total:Integer:include=name,street   and these attributes
//! ```
//!
//! What is shown of a table is spelled as it is typed, so it can be copied into the next command. An attribute may hold colons,
//! as many names do. What cannot be told apart so, an attribute `a:String:b` or one to include with a comma in its name, is
//! left to the APIs.

use serde_json::Value;

use crate::domain::key::KeyType;
use crate::domain::local_index::{IndexProjection, LocalIndex};

/// What begins the attributes that an index includes.
const INCLUDE: &str = "include=";
const TYPES: [KeyType; 3] = [KeyType::String, KeyType::Integer, KeyType::Bytes];

/// Reads one.
///
/// # Errors
/// Where it is none, with an example of one.
pub(super) fn parse(text: &str) -> Result<LocalIndex, String> {
    let wrong = || {
        format!(
            "{text:?} is no index such as by-total=total:Integer, with :keys-only or :include=A,B behind it where not all is shown; types are String, Integer and Bytes"
        )
    };
    let (name, rest) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    let typed = |(at, _): (usize, &str)| {
        let (attribute, behind) = (&rest[..at], &rest[at + 1..]);
        let (word, projection) = behind.split_once(':').unwrap_or((behind, "all"));
        let key_type = TYPES.into_iter().find(|known| known.to_string() == word)?;
        Some((attribute, key_type, projection))
    };
    let found = rest.match_indices(':').find_map(typed).filter(|(attribute, ..)| !attribute.is_empty());
    let (attribute, key_type, projection) = found.ok_or_else(wrong)?;
    let projection = match projection {
        "all" => IndexProjection::All,
        "keys-only" => IndexProjection::KeysOnly,
        other => {
            let names = other.strip_prefix(INCLUDE).filter(|names| !names.is_empty()).ok_or_else(wrong)?;
            IndexProjection::Include(names.split(',').map(str::to_owned).collect())
        }
    };
    Ok(LocalIndex { name: name.to_owned(), attribute: attribute.to_owned(), key_type, projection })
}

/// A table's indexes as its answer has them; none where it is something else.
pub(super) fn shown(answer: &Value) -> Option<String> {
    let indexes: Vec<LocalIndex> = serde_json::from_value(answer.clone()).ok()?;
    Some(indexes.iter().map(spelled).collect::<Vec<_>>().join(" "))
}

fn spelled(index: &LocalIndex) -> String {
    let LocalIndex { name, attribute, key_type, projection } = index;
    let projection = match projection {
        IndexProjection::All => String::new(),
        IndexProjection::KeysOnly => ":keys-only".to_owned(),
        IndexProjection::Include(names) => format!(":{INCLUDE}{}", names.join(",")),
    };
    format!("{name}={attribute}:{key_type}{projection}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_typed_is_shown_again() {
        for text in [
            "by-total=total:Integer",
            "by-total=total:String:keys-only",
            "by-total=total:Bytes:include=name",
            "by-total=total:Bytes:include=name,street",
            "by.total_1=geo:lat:Integer:keys-only",
            "by-total=String:String",
            "by-total=a=b:String",
        ] {
            let index = parse(text).unwrap();
            assert_eq!(spelled(&index), text);
            assert_eq!(shown(&json!([index, index])).unwrap(), format!("{text} {text}"));
        }
        let all = parse("by-total=geo:lat:Integer:all").unwrap();
        assert_eq!(
            (all.attribute.as_str(), all.key_type, all.projection),
            ("geo:lat", KeyType::Integer, IndexProjection::All)
        );
    }

    #[test]
    fn anything_else_is_told_how_it_goes() {
        for text in [
            "",
            "by-total",
            "=total:Integer",
            "by-total=:Integer",
            "by-total=total",
            "by-total=total:Number",
            "by-total=total:Integer:some",
            "by-total=total:Integer:include=",
            "by-total=total:Integer:",
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains("by-total=total:Integer, with :keys-only"), "{text}: {why}");
        }
        assert_eq!(shown(&json!("by-total")), None);
        assert_eq!(shown(&json!([{"name": "by-total"}])), None);
    }
}
