//! Resource identifiers: the unique names that answers carry and that the CLI and grants accept.
//!
//! ```text
//! rid:dStore:<tenant>:<location>:tenant            a tenant
//! rid:dStore:<tenant>:<location>:table:<table>     a table
//! ```
//!
//! `location` is the set of zones a resource is pinned to, `NA` while it is free. A tenant's RID ends in the
//! bare word `tenant`: its name stands in the third field already, and one name in two places could differ.
//! None of the parts can hold a colon, so the text splits without escapes; upper and lower case matter.

use super::names::{TableName, TenantName};
use super::refusal::Refusal;

const LOCATION_BYTES_MAX: usize = 63;

/// Where a resource is pinned: `NA` or zones, 1 to 63 of `[A-Za-z0-9_.-]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(std::sync::Arc<str>);

impl Location {
    /// Not pinned.
    pub fn free() -> Self {
        Self("NA".into())
    }

    /// Checks `text` and makes a location of it.
    ///
    /// # Errors
    /// `BadInput` that tells the rule.
    pub fn new(text: &str) -> Result<Self, Refusal> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if (1..=LOCATION_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(Refusal::bad_input("a location is `NA` or 1 to 63 characters of A-Z, a-z, 0-9, '_', '.' and '-'"))
        }
    }

    /// Whether the resource may live anywhere.
    pub fn is_free(&self) -> bool {
        &*self.0 == "NA"
    }

    /// The location as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Location {
    fn default() -> Self {
        Self::free()
    }
}

/// The kinds of resources that a RID names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// The tenant itself.
    Tenant,
    /// One of its tables.
    Table(TableName),
}

/// The unique name of a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rid {
    /// Whose it is.
    pub tenant: TenantName,
    /// Where it is pinned.
    pub location: Location,
    /// What it is.
    pub resource: Resource,
}

impl Rid {
    /// The RID of a tenant that is not pinned.
    pub fn tenant(tenant: TenantName) -> Self {
        Self { tenant, location: Location::free(), resource: Resource::Tenant }
    }

    /// The RID of a table that is not pinned.
    pub fn table(tenant: TenantName, table: TableName) -> Self {
        Self { tenant, location: Location::free(), resource: Resource::Table(table) }
    }
}

impl std::fmt::Display for Rid {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "rid:dStore:{}:{}:", self.tenant, self.location.as_str())?;
        match &self.resource {
            Resource::Tenant => formatter.write_str("tenant"),
            Resource::Table(table) => write!(formatter, "table:{table}"),
        }
    }
}

impl std::str::FromStr for Rid {
    type Err = Refusal;
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let wrong = || {
            Refusal::bad_input(
                "a RID reads `rid:dStore:<tenant>:<location>:tenant` or `rid:dStore:<tenant>:<location>:table:<table>`",
            )
        };
        let rest = text.strip_prefix("rid:dStore:").ok_or_else(wrong)?;
        let (tenant, rest) = rest.split_once(':').ok_or_else(wrong)?;
        let (location, resource) = rest.split_once(':').ok_or_else(wrong)?;
        let resource = match resource.strip_prefix("table:") {
            Some(table) => Resource::Table(TableName::new(table)?),
            None if resource == "tenant" => Resource::Tenant,
            None => return Err(wrong()),
        };
        Ok(Self { tenant: TenantName::new(tenant)?, location: Location::new(location)?, resource })
    }
}

impl TryFrom<String> for Rid {
    type Error = Refusal;
    fn try_from(text: String) -> Result<Self, Refusal> {
        text.parse()
    }
}

impl From<Rid> for String {
    fn from(rid: Rid) -> String {
        rid.to_string()
    }
}

/// Reads any bytes as a RID; what is read must print as it was.
#[doc(hidden)]
pub fn fuzz_rid(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(rid) = text.parse::<Rid>() {
        assert_eq!(rid.to_string(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rids_print_as_documented() {
        let tenant = TenantName::new("acme").unwrap();
        let table = TableName::new("orders").unwrap();
        assert_eq!(Rid::tenant(tenant.clone()).to_string(), "rid:dStore:acme:NA:tenant");
        let rid = Rid::table(tenant, table);
        assert_eq!(rid.to_string(), "rid:dStore:acme:NA:table:orders");
        assert!(rid.location.is_free());
        assert_eq!(serde_json::to_string(&rid).unwrap(), "\"rid:dStore:acme:NA:table:orders\"");
    }

    #[test]
    fn what_is_no_rid_is_refused() {
        for bad in [
            "",
            "rid:dStore:acme:NA",
            "rid:dstore:acme:NA:tenant",
            "rid:dStore:acme:NA:tenant:",
            "rid:dStore:acme:NA:tenant:acme",
            "rid:dStore:Acme:NA:tenant",
            "rid:dStore:acme::tenant",
            "rid:dStore:acme:NA:table:",
            "rid:dStore:acme:NA:table:a:b",
            "rid:dStore:acme:NA:TABLE:orders",
            " rid:dStore:acme:NA:tenant",
        ] {
            assert!(bad.parse::<Rid>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn rids_read_back(tenant in "[a-z0-9-]{1,63}", location in "[A-Za-z0-9_.-]{1,63}", table in "[A-Za-z0-9_.-]{3,255}") {
            for resource in [Resource::Tenant, Resource::Table(TableName::new(&table).unwrap())] {
                let rid = Rid { tenant: TenantName::new(&tenant).unwrap(), location: Location::new(&location).unwrap(), resource };
                prop_assert_eq!(rid.to_string().parse::<Rid>(), Ok(rid));
            }
        }

        #[test]
        fn no_text_panics(text in "(rid:dStore:)?[a-z:.]{0,30}(NA:)?\\PC{0,20}") {
            fuzz_rid(text.as_bytes());
        }
    }
}
