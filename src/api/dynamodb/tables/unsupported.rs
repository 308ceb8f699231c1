//! What dStore does not have, in one place: parameters of CreateTable and UpdateTable that would change what the table
//! does are refused while there is nothing behind them. What is asked to be off is off already.
//!
//! Whoever builds one of these takes its line away here, as was done for local indexes ([`super::local_indexes`]).

use serde::Deserialize;

use super::invalid;
use super::parameters::structure;
use crate::api::dynamodb::failure::Failure;
use crate::api::dynamodb::request::{self, Flag, Raw};

/// Members of the two operations that nothing else reads.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Beyond<'a> {
    #[serde(borrow)]
    global_secondary_indexes: Raw<'a>,
    #[serde(borrow)]
    global_secondary_index_updates: Raw<'a>,
    #[serde(borrow)]
    vector_indexes: Raw<'a>,
    #[serde(borrow)]
    vector_index_updates: Raw<'a>,
    #[serde(borrow)]
    stream_specification: Raw<'a>,
    #[serde(borrow, rename = "SSESpecification")]
    encryption: Raw<'a>,
    #[serde(borrow)]
    resource_policy: Raw<'a>,
    #[serde(borrow)]
    on_demand_throughput: Raw<'a>,
    #[serde(borrow)]
    warm_throughput: Raw<'a>,
    #[serde(borrow)]
    replica_updates: Raw<'a>,
    #[serde(borrow)]
    global_table_source_arn: Raw<'a>,
    #[serde(borrow)]
    global_table_settings_replication_mode: Raw<'a>,
    #[serde(borrow)]
    global_table_witness_updates: Raw<'a>,
    #[serde(borrow)]
    multi_region_consistency: Raw<'a>,
    disassociation_protection_enabled: Flag,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Stream {
    stream_enabled: Flag,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Encryption<'a> {
    enabled: Flag,
    #[serde(borrow, rename = "SSEType")]
    kind: Raw<'a>,
    #[serde(borrow, rename = "KMSMasterKeyId")]
    key: Raw<'a>,
}

/// Refuses a table, or a change of one, that asks for what there is not.
pub(super) fn refuse(body: &[u8]) -> Result<(), Failure> {
    let asked: Beyond<'_> = request::parse(body)?;
    if asked.global_secondary_indexes.is_some_and(|list| is_empty_list(list.get())) {
        return Err(invalid("List of GlobalSecondaryIndexes is empty"));
    }
    let stream: Option<Stream> = structure(asked.stream_specification)?;
    let encryption: Option<Encryption<'_>> = structure(asked.encryption)?;
    let asks_for_key = |asked: &Encryption<'_>| asked.enabled.is_set() || asked.kind.is_some() || asked.key.is_some();
    let updates = |list: Raw<'_>| list.is_some_and(|list| !is_empty_list(list.get()));
    for (is_asked, what) in [
        (asked.global_secondary_indexes.is_some(), "GlobalSecondaryIndexes"),
        (updates(asked.global_secondary_index_updates), "GlobalSecondaryIndexUpdates"),
        (updates(asked.vector_indexes), "VectorIndexes"),
        (updates(asked.vector_index_updates), "VectorIndexUpdates"),
        (stream.is_some_and(|stream| stream.stream_enabled.is_set()), "StreamSpecification with StreamEnabled"),
        (encryption.as_ref().is_some_and(asks_for_key), "SSESpecification with a KMS key"),
        (asked.resource_policy.is_some(), "ResourcePolicy"),
        (asked.on_demand_throughput.is_some(), "OnDemandThroughput"),
        (asked.warm_throughput.is_some(), "WarmThroughput"),
        (updates(asked.replica_updates), "ReplicaUpdates"),
        (asked.global_table_source_arn.is_some(), "GlobalTableSourceArn"),
        (asked.global_table_settings_replication_mode.is_some(), "GlobalTableSettingsReplicationMode"),
        (updates(asked.global_table_witness_updates), "GlobalTableWitnessUpdates"),
        (asked.multi_region_consistency.is_some(), "MultiRegionConsistency"),
        (asked.disassociation_protection_enabled.is_set(), "DisassociationProtectionEnabled"),
    ] {
        if is_asked {
            return Err(not_supported(what));
        }
    }
    Ok(())
}

/// The refusal of what there is not.
fn not_supported(what: &str) -> Failure {
    invalid(format!("{what} is not supported by dStore yet"))
}

fn is_empty_list(json: &str) -> bool {
    let inner = json.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_built_is_refused_by_name_and_what_is_off_is_not() {
        for (body, text) in [
            (r#"{"GlobalSecondaryIndexes":[{}]}"#, "GlobalSecondaryIndexes is not supported by dStore yet"),
            (r#"{"GlobalSecondaryIndexes":[ ]}"#, "List of GlobalSecondaryIndexes is empty"),
            (r#"{"GlobalSecondaryIndexUpdates":[{}]}"#, "GlobalSecondaryIndexUpdates is not supported by dStore yet"),
            (
                r#"{"StreamSpecification":{"StreamEnabled":true,"StreamViewType":"KEYS_ONLY"}}"#,
                "StreamSpecification with StreamEnabled is not supported by dStore yet",
            ),
            (
                r#"{"SSESpecification":{"Enabled":true}}"#,
                "SSESpecification with a KMS key is not supported by dStore yet",
            ),
            (
                r#"{"SSESpecification":{"KMSMasterKeyId":"x"}}"#,
                "SSESpecification with a KMS key is not supported by dStore yet",
            ),
            (r#"{"ResourcePolicy":"{}"}"#, "ResourcePolicy is not supported by dStore yet"),
            (r#"{"WarmThroughput":{}}"#, "WarmThroughput is not supported by dStore yet"),
        ] {
            let failure = refuse(body.as_bytes()).unwrap_err();
            let expected = format!("One or more parameter values were invalid: {text}");
            assert_eq!(failure.message(), Some(expected.as_str()), "{body}");
            assert_eq!(failure.name(), "ValidationException");
        }
        for fine in [
            "{}",
            r#"{"StreamSpecification":{"StreamEnabled":false},"SSESpecification":{"Enabled":false}}"#,
            r#"{"GlobalSecondaryIndexes":null,"ReplicaUpdates":[],"DisassociationProtectionEnabled":false}"#,
            r#"{"LocalSecondaryIndexes":[{}]}"#,
        ] {
            assert!(refuse(fine.as_bytes()).is_ok(), "{fine}");
        }
    }
}
