//! What a table is: its names, its ids, and the types of its keys. Made by control, read by everyone.

use serde::{Deserialize, Serialize};

use super::ambient::Timestamp;
use super::ids::{TableId, TenantId};
use super::key::KeyType;
use super::names::{TableName, TenantName};
use super::refusal::Refusal;

/// What is asked for when a table is created: the body of `PUT …/table/{table}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSpecification {
    /// The type of the ID. Must be given.
    pub id_type: KeyType,
    /// The attribute that the DynamoDB protocol shows the ID as.
    #[serde(default = "default_id_name")]
    pub id_name: String,
    /// The type of the sort key, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort_type: Option<KeyType>,
    /// The attribute that the DynamoDB protocol shows the sort key as.
    #[serde(default = "default_sort_name")]
    pub sort_name: String,
    /// How many replicas each range shall have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<u8>,
    /// How many ranges the table starts with (1 to 1024); chosen by control where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_ranges: Option<u16>,
}

fn default_id_name() -> String {
    "id".to_owned()
}

fn default_sort_name() -> String {
    "sort".to_owned()
}

/// What of a table can be changed later: the body of `POST …/table/{table}`. What is not given stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableChange {
    /// How many replicas each range shall have from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<u8>,
}

/// Whether ranges can have so many replicas. An even number bears the loss of no more nodes than the odd one below it.
///
/// # Errors
/// `BadInput` for any number but 1, 3 and 5.
pub fn check_replication_factor(factor: u8) -> Result<(), Refusal> {
    match factor {
        1 | 3 | 5 => Ok(()),
        2 | 4 => Err(Refusal::bad_input(format!(
            "replication_factor is 1, 3 or 5; {factor} replicas bear the loss of no more nodes than {} do",
            factor - 1
        ))),
        _ => Err(Refusal::bad_input("replication_factor is 1, 3 or 5")),
    }
}

/// A table as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDefinition {
    /// The tenant's id at this control plane.
    pub tenant_id: TenantId,
    /// The tenant's name.
    pub tenant: TenantName,
    /// The table's id, never used again.
    pub id: TableId,
    /// The table's name.
    pub name: TableName,
    /// What was asked for.
    #[serde(flatten)]
    pub specification: TableSpecification,
    /// When it was created.
    pub created_at: Timestamp,
    /// Grows with each change of the definition.
    pub version: u64,
}

/// A tenant as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// The tenant's id at this control plane.
    pub id: TenantId,
    /// The tenant's name.
    pub name: TenantName,
    /// When it was created.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_numbers_of_replicas_up_to_five() {
        let good: Vec<u8> = (0..=u8::MAX).filter(|factor| check_replication_factor(*factor).is_ok()).collect();
        assert_eq!(good, [1, 3, 5]);
        let why = check_replication_factor(4).unwrap_err().message;
        assert!(why.contains("4 replicas bear the loss of no more nodes than 3 do"), "{why}");
    }

    #[test]
    fn a_change_names_only_what_it_changes() {
        let change: TableChange = serde_json::from_str("{}").unwrap();
        assert_eq!((change, serde_json::to_string(&change).unwrap().as_str()), (TableChange::default(), "{}"));
        assert!(serde_json::from_str::<TableChange>(r#"{"id_type":"String"}"#).is_err());
    }
}
