//! Names of tables as the protocol gives and shows them: plain (`Music`) or as an ARN,
//! `arn:aws:dynamodb:<location>:<tenant>:table/<table>`, which is accepted wherever a name is. An ARN of another
//! tenant or location names nothing that the caller may know of, so it reads like that of a table that is not there.

use std::fmt::Write as _;

use crate::domain::rid::Location;
use crate::domain::{TableName, TenantName};

/// What every ARN of ours begins with.
const ARN_PREFIX: &str = "arn:aws:dynamodb:";

/// The ARN of a table.
pub fn table_arn(location: &Location, tenant: &TenantName, table: &TableName) -> String {
    let mut arn = String::with_capacity(ARN_PREFIX.len() + 64);
    // Writing to a string does not fail.
    let _ = write!(arn, "{ARN_PREFIX}{}:{tenant}:table/{table}", location.as_str());
    arn
}

/// What a `TableName` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// A table of this name, of the caller's tenant.
    Plain(&'a str),
    /// An ARN: location, tenant, table.
    Arn {
        /// Where.
        location: &'a str,
        /// Whose.
        tenant: &'a str,
        /// Its name.
        table: &'a str,
    },
    /// It begins like an ARN and is no table's.
    Malformed,
}

/// Takes apart what a `TableName` says.
pub fn named(text: &str) -> Named<'_> {
    if !text.starts_with("arn:") {
        return Named::Plain(text);
    }
    let mut parts = text.strip_prefix(ARN_PREFIX).unwrap_or_default().splitn(3, ':');
    match (parts.next(), parts.next(), parts.next().and_then(|resource| resource.strip_prefix("table/"))) {
        (Some(location), Some(tenant), Some(table)) if !location.is_empty() && !tenant.is_empty() => {
            Named::Arn { location, tenant, table }
        }
        _ => Named::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arns_are_told_apart() {
        assert_eq!(named("Music"), Named::Plain("Music"));
        assert_eq!(
            named("arn:aws:dynamodb:eu-1:acme:table/Music"),
            Named::Arn { location: "eu-1", tenant: "acme", table: "Music" }
        );
        for bad in ["arn:", "arn:aws:dynamodb:", "arn:aws:s3:a:b:table/x", "arn:aws:dynamodb:a:b:stream/x"] {
            assert_eq!(named(bad), Named::Malformed, "{bad}");
        }
    }

    #[test]
    fn an_arn_reads_back() {
        let (tenant, table) = (TenantName::new("acme").unwrap(), TableName::new("a.b-c_D").unwrap());
        let location = Location::default();
        let arn = table_arn(&location, &tenant, &table);
        assert_eq!(named(&arn), Named::Arn { location: "NA", tenant: "acme", table: "a.b-c_D" });
    }
}
