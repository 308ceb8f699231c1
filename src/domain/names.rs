//! Names that people give. A tenant's: 1–63 of `[a-z0-9-]`. A table's: 3–255 of `[A-Za-z0-9_.-]`,
//! as in DynamoDB, and never `.` or `..`, which no three characters can be anyway. A value of one
//! of these types has been checked.

use super::refusal::Refusal;

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $check:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks `text` and makes a name of it.
            ///
            /// # Errors
            /// A `BadInput` refusal that tells the rule.
            pub fn new(text: &str) -> Result<Self, Refusal> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Refusal::bad_input(format!("{:?} is not a name that can be used: {}", text.chars().take(80).collect::<String>(), $rule)))
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Refusal;
            fn try_from(text: String) -> Result<Self, Refusal> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.to_string()
            }
        }
    };
}

checked_name!(
    /// The name of a tenant.
    TenantName,
    |text| (1..=63).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')),
    "a tenant's name is 1 to 63 characters of a-z, 0-9 and '-'"
);

checked_name!(
    /// The name of a table, unique within its tenant.
    TableName,
    |text| (3..=255).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-')),
    "a table's name is 3 to 255 characters of A-Z, a-z, 0-9, '_', '.' and '-'"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_names_follow_the_rule() {
        for good in ["a", "acme-7", &"x".repeat(63)] {
            assert!(TenantName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "Acme", "a.b", "a/b", "ä", &"x".repeat(64)] {
            assert!(TenantName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn table_names_follow_the_rule() {
        for good in ["abc", "A.b_c-9", &"x".repeat(255)] {
            assert!(TableName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "ab", "a b c", "a/b", "..", "täble", &"x".repeat(256)] {
            assert!(TableName::new(bad).is_err(), "{bad}");
        }
    }
}
