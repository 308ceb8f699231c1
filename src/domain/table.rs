//! What a table is: its names, its ids, and the types of its keys. Made by control, read by everyone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ambient::Timestamp;
use super::ids::{TableId, TenantId};
use super::key::KeyType;
use super::local_index::LocalIndex;
use super::names::{TableName, TenantName};
use super::refusal::Refusal;
use super::table_options::{OptionTimes, TableClass, Throughput, given};
use super::tenant_limits::TenantLimits;

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
    /// Capacity that was asked for; none: it pays by the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<Throughput>,
    /// The class of its storage.
    #[serde(default, skip_serializing_if = "TableClass::is_default")]
    pub table_class: TableClass,
    /// Whether it cannot be deleted until this is taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deletion_protection: bool,
    /// The attribute that holds when an item expires, in seconds since 1970; none: items do not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_live: Option<String>,
    /// Labels, for people and their tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Its local indexes, each of which goes by its position; settled when the table is created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_indexes: Vec<LocalIndex>,
}

impl TableSpecification {
    /// A table whose IDs are of this type, and all else as where nothing is said.
    pub fn new(id_type: KeyType) -> Self {
        Self {
            id_type,
            id_name: default_id_name(),
            sort_type: None,
            sort_name: default_sort_name(),
            replication_factor: None,
            initial_ranges: None,
            throughput: None,
            table_class: TableClass::default(),
            deletion_protection: false,
            time_to_live: None,
            tags: BTreeMap::new(),
            local_indexes: Vec::new(),
        }
    }
}

fn default_id_name() -> String {
    "id".to_owned()
}

fn default_sort_name() -> String {
    "sort".to_owned()
}

/// What of a table can be changed later: the body of `POST …/table/{table}`. What is not given stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableChange {
    /// How many replicas each range shall have from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<u8>,
    /// Capacity that is asked for; null: it pays by the request.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub throughput: Option<Option<Throughput>>,
    /// The class of its storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_class: Option<TableClass>,
    /// Whether it cannot be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_protection: Option<bool>,
    /// The attribute that holds when an item expires; null: items do not expire any more.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub time_to_live: Option<Option<String>>,
    /// Labels to be set; null takes one away. Others stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, Option<String>>,
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
    /// When its options were last changed.
    #[serde(default, skip_serializing_if = "OptionTimes::is_default")]
    pub option_times: OptionTimes,
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
    /// What it may use at most.
    #[serde(default, skip_serializing_if = "TenantLimits::is_default")]
    pub limits: TenantLimits,
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
        assert_eq!((&change, serde_json::to_string(&change).unwrap().as_str()), (&TableChange::default(), "{}"));
        assert!(serde_json::from_str::<TableChange>(r#"{"id_type":"String"}"#).is_err());
    }
}
