//! Records for tests: any at all, one of each kind that is always the same, and read back from their JSON by means of serde alone,
//! so that a mistake in writing them is not made twice.

use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

use super::rows::RecordKind;
use crate::domain::ids::{PrincipalId, RangeId, Role, TableId, TenantId};
use crate::domain::usage::latency::BUCKETS;
use crate::domain::usage::record::{EventRecord, NodeRecord, RangeRecord, Record, RecordBody, UsageRecord};
use crate::domain::usage::{
    Component, LatencyHistogram, NodeGauge, RangeGauge, UsageCounts, UsageKey, UsageOperation, UsageResult,
};

/// The record of this kind with this sequence; the id follows from both.
pub(crate) fn record(kind: RecordKind, sequence: u64) -> Record {
    let component = Component { role: Role::Proxy, id: Uuid::from_u128(1) };
    let (tenant, table) = (TenantId(Uuid::from_u128(2)), TableId(Uuid::from_u128(3)));
    let (tenant_name, table_name) = (Some("acme".to_owned()), Some("users".to_owned()));
    let event = EventRecord { what: "split".to_owned(), subject: "users".to_owned(), message: "a \"word\"".to_owned() };
    let body = match kind {
        RecordKind::Usage => {
            let (operation, result) = (UsageOperation::PutItem, UsageResult::Ok);
            let key = UsageKey { tenant, table: Some(table), principal: None, operation, result };
            let mut latency = LatencyHistogram::default();
            latency.add(150);
            let (read_bytes, written_bytes) = (20, 30);
            let counts =
                UsageCounts { requests: 1, read_bytes, written_bytes, read_half_units: 5, write_units: 2, latency };
            RecordBody::Usage(UsageRecord { component, key, tenant_name, table_name, counts })
        }
        RecordKind::Range => {
            let range = RangeId(Uuid::from_u128(4));
            let (items, stored_bytes, file_bytes, log_bytes, lag_entries) = (1, 2, 3, 4, 5);
            let gauge = RangeGauge { range, table, tenant, items, stored_bytes, file_bytes, log_bytes, lag_entries };
            RecordBody::Range(RangeRecord { component, gauge, tenant_name, table_name })
        }
        RecordKind::Node => {
            let gauge = NodeGauge { cache_hits: 1, disk_free_bytes: 2, disk_bytes: 3, ..NodeGauge::default() };
            RecordBody::Node(NodeRecord { component, gauge })
        }
        RecordKind::Notice => RecordBody::Notice(event),
        RecordKind::AdminEvent => RecordBody::AdminEvent(event),
    };
    let id = Uuid::from_u128((u128::from(sequence) << 64) | kind as u128);
    Record { sequence, id, at_ms: 1_800_000_000_000 + sequence * 10_000, body }
}

fn any_uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn any_name() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(any::<String>())
}

fn any_component() -> impl Strategy<Value = Component> {
    (any::<bool>(), any_uuid())
        .prop_map(|(is_node, id)| Component { role: if is_node { Role::Node } else { Role::Proxy }, id })
}

fn any_usage() -> impl Strategy<Value = RecordBody> {
    let key = (
        any_uuid(),
        proptest::option::of(any_uuid()),
        proptest::option::of(any_uuid()),
        0..UsageOperation::ALL.len(),
        0..UsageResult::ALL.len(),
    );
    let key = key.prop_map(|(tenant, table, principal, operation, result)| UsageKey {
        tenant: TenantId(tenant),
        table: table.map(TableId),
        principal: principal.map(PrincipalId),
        operation: UsageOperation::ALL[operation],
        result: UsageResult::ALL[result],
    });
    let counts = (any::<[u64; 6]>(), any::<[u64; BUCKETS]>()).prop_map(|(numbers, buckets)| {
        let [requests, read_bytes, written_bytes, read_half_units, write_units, sum_us] = numbers;
        let latency = LatencyHistogram { buckets, sum_us };
        UsageCounts { requests, read_bytes, written_bytes, read_half_units, write_units, latency }
    });
    (any_component(), key, any_name(), any_name(), counts).prop_map(
        |(component, key, tenant_name, table_name, counts)| {
            RecordBody::Usage(UsageRecord { component, key, tenant_name, table_name, counts })
        },
    )
}

fn any_range() -> impl Strategy<Value = RecordBody> {
    let gauge = (any_uuid(), any_uuid(), any_uuid(), any::<[u64; 5]>()).prop_map(|(range, table, tenant, numbers)| {
        let [items, stored_bytes, file_bytes, log_bytes, lag_entries] = numbers;
        let (range, table, tenant) = (RangeId(range), TableId(table), TenantId(tenant));
        RangeGauge { range, table, tenant, items, stored_bytes, file_bytes, log_bytes, lag_entries }
    });
    (any_component(), gauge, any_name(), any_name()).prop_map(|(component, gauge, tenant_name, table_name)| {
        RecordBody::Range(RangeRecord { component, gauge, tenant_name, table_name })
    })
}

fn any_node() -> impl Strategy<Value = RecordBody> {
    (any_component(), any::<[u64; 10]>()).prop_map(|(component, numbers)| {
        let gauge = NodeGauge {
            cache_hits: numbers[0],
            cache_misses: numbers[1],
            queue_age_us: numbers[2],
            rejections: numbers[3],
            syncs: numbers[4],
            sync_us: numbers[5],
            log_bytes: numbers[6],
            disk_free_bytes: numbers[7],
            disk_bytes: numbers[8],
            lag_entries: numbers[9],
        };
        RecordBody::Node(NodeRecord { component, gauge })
    })
}

/// Any record at all.
pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    let event = any::<[String; 3]>().prop_map(|[what, subject, message]| EventRecord { what, subject, message });
    let body = prop_oneof![
        any_usage(),
        any_range(),
        any_node(),
        event.clone().prop_map(RecordBody::Notice),
        event.prop_map(RecordBody::AdminEvent),
    ];
    (any::<u64>(), any_uuid(), any::<u64>(), body).prop_map(|(sequence, id, at_ms, body)| Record {
        sequence,
        id,
        at_ms,
        body,
    })
}

type Fields = serde_json::Map<String, Value>;

fn take<T: serde::de::DeserializeOwned>(fields: &mut Fields, name: &str) -> T {
    let value = fields.remove(name).unwrap_or_else(|| panic!("no {name} in {fields:?}"));
    serde_json::from_value(value).unwrap_or_else(|problem| panic!("{name}: {problem}"))
}

fn component(fields: &mut Fields) -> Component {
    Component { role: take(fields, "component_role"), id: take(fields, "component_id") }
}

fn usage(fields: &mut Fields) -> UsageRecord {
    let key = UsageKey {
        tenant: take(fields, "tenant_id"),
        table: take(fields, "table_id"),
        principal: take(fields, "principal_id"),
        operation: take(fields, "operation"),
        result: take(fields, "result"),
    };
    let latency = LatencyHistogram { buckets: take(fields, "latency_buckets"), sum_us: take(fields, "latency_sum_us") };
    let counts = UsageCounts {
        requests: take(fields, "requests"),
        read_bytes: take(fields, "read_bytes"),
        written_bytes: take(fields, "written_bytes"),
        read_half_units: take(fields, "read_half_units"),
        write_units: take(fields, "write_units"),
        latency,
    };
    let (tenant_name, table_name) = (take(fields, "tenant_name"), take(fields, "table_name"));
    UsageRecord { component: component(fields), key, tenant_name, table_name, counts }
}

fn range(fields: &mut Fields) -> RangeRecord {
    let gauge = RangeGauge {
        range: take(fields, "range_id"),
        table: take(fields, "table_id"),
        tenant: take(fields, "tenant_id"),
        items: take(fields, "items"),
        stored_bytes: take(fields, "stored_bytes"),
        file_bytes: take(fields, "file_bytes"),
        log_bytes: take(fields, "log_bytes"),
        lag_entries: take(fields, "lag_entries"),
    };
    let (tenant_name, table_name) = (take(fields, "tenant_name"), take(fields, "table_name"));
    RangeRecord { component: component(fields), gauge, tenant_name, table_name }
}

fn event(fields: &mut Fields) -> EventRecord {
    EventRecord { what: take(fields, "what"), subject: take(fields, "subject"), message: take(fields, "message") }
}

/// The record that a line of JSON tells; every field has to be there, and no other.
pub(crate) fn read_back(line: &[u8]) -> Record {
    let Ok(Value::Object(mut all)) = serde_json::from_slice(line) else { panic!("{}", String::from_utf8_lossy(line)) };
    let fields = &mut all;
    let kind: String = take(fields, "kind");
    let body = match kind.as_str() {
        "usage" => RecordBody::Usage(usage(fields)),
        "range" => RecordBody::Range(range(fields)),
        // The names of its gauge are those of the structure: it is made below, of all that is left.
        "node" => RecordBody::Node(NodeRecord { component: component(fields), gauge: NodeGauge::default() }),
        "notice" => RecordBody::Notice(event(fields)),
        "admin-event" => RecordBody::AdminEvent(event(fields)),
        other => panic!("{other}"),
    };
    let (sequence, id, at_ms) = (take(fields, "sequence"), take(fields, "id"), take(fields, "at_ms"));
    let mut record = Record { sequence, id, at_ms, body };
    if let RecordBody::Node(node) = &mut record.body {
        let rest = Value::Object(std::mem::take(fields));
        node.gauge = serde_json::from_value(rest.clone()).expect("the gauge of a node");
        assert_eq!(serde_json::to_value(node.gauge).expect("is JSON"), rest, "and nothing else");
    }
    assert!(fields.is_empty(), "nobody reads {fields:?}");
    record
}
