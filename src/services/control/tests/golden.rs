//! What stands in the coordinator under `control/…`, spelled out. A cluster outlives the program that made it, so a
//! line that changes here is a format that changed: readers of both must be thought of.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use uuid::Uuid;

use crate::coordination::values::AssignedReplica;
use crate::domain::ids::{NodeId, PlaneId, PrincipalId, RangeId, ReplicaId, Role, SessionId, TableId, TenantId};
use crate::domain::key::KeyType;
use crate::domain::local_index::{IndexProjection, LocalIndex};
use crate::domain::table::{TableDefinition, TableSpecification, Tenant};
use crate::domain::table_options::{OptionTimes, TableClass, Throughput};
use crate::domain::tenant_limits::TenantLimits;
use crate::domain::{TableName, TenantName, Timestamp};
use crate::services::control::records::*;
use crate::services::control::testing::{Cluster, specification, table};
use crate::services::control::{PrincipalRequest, SessionStart};
use crate::services::log_level::{LogLevel, WishedLevel};
use crate::services::ports::{Capability, Catalog};

/// `{1}` to `{4}` stand for UUIDs of that digit.
fn pinned<T: Serialize + DeserializeOwned + PartialEq>(value: T, text: &str) {
    let text = (1..=4).fold(text.to_owned(), |text, digit| {
        text.replace(&format!("{{{digit}}}"), &Uuid::from_bytes([digit * 0x11; 16]).to_string())
    });
    assert_eq!(serde_json::to_string(&value).unwrap(), text);
    assert!(serde_json::from_str::<T>(&text).unwrap() == value, "{text}");
    let mut newer: serde_json::Value = serde_json::from_str(&text).unwrap();
    newer["a name of a newer version"] = json!(1);
    assert!(serde_json::from_value::<T>(newer).unwrap() == value, "a name that is not known is read past: {text}");
}

fn id(digit: u8) -> [u8; 16] {
    [digit * 0x11; 16]
}

fn names() -> (TenantName, TableName) {
    (TenantName::new("acme").unwrap(), TableName::new("users").unwrap())
}

fn definition() -> TableDefinition {
    let (tenant, name) = names();
    TableDefinition {
        tenant_id: TenantId::from_bytes(id(1)),
        tenant,
        id: TableId::from_bytes(id(2)),
        name,
        specification: TableSpecification::new(KeyType::String),
        created_at: Timestamp(5),
        version: 1,
        option_times: OptionTimes::default(),
    }
}

const TABLE: &str = r#"{"tenant_id":"{1}","tenant":"acme","id":"{2}","name":"users","id_type":"String","id_name":"id","sort_name":"sort","created_at":5,"version":1}"#;

#[test]
fn tenants_and_tables() {
    let (tenant, _) = names();
    let limits = TenantLimits::default();
    let owner = Tenant { id: TenantId::from_bytes(id(1)), name: tenant, created_at: Timestamp(5), limits };
    pinned(owner.clone(), r#"{"id":"{1}","name":"acme","created_at":5}"#);
    let limits = TenantLimits { storage_bytes: Some(7), ..limits };
    let text = r#"{"id":"{1}","name":"acme","created_at":5,"limits":{"storage_bytes":7,"mode":"hard"}}"#;
    pinned(Tenant { limits, ..owner }, text);
    pinned(definition(), TABLE);
    let mut all = definition();
    all.specification.sort_type = Some(KeyType::Bytes);
    all.specification.replication_factor = Some(3);
    all.specification.initial_ranges = Some(8);
    let more = r#""sort_type":"Bytes","sort_name":"sort","replication_factor":3,"initial_ranges":8"#;
    pinned(all, &TABLE.replace(r#""sort_name":"sort""#, more));
    tables_with_options();
    tables_with_local_indexes();
    let range = DeletedRange {
        range: RangeId::from_bytes(id(3)),
        low: 0,
        high: 9,
        epoch: 7,
        replicas: vec![
            (NodeId::from_bytes(id(4)), Some(ReplicaId::from_bytes(id(1)))),
            (NodeId::from_bytes(id(2)), None),
        ],
        learners: Vec::new(),
        wanted: Vec::new(),
    };
    let learner = AssignedReplica { node: NodeId::from_bytes(id(2)), replica: ReplicaId::from_bytes(id(3)) };
    let changing = DeletedRange { learners: vec![learner.replica], wanted: vec![learner], ..range.clone() };
    let text = r#"{"range":"{3}","low":0,"high":9,"epoch":7,"replicas":[["{4}","{1}"],["{2}",null]],"learners":["{3}"],"wanted":[{"node":"{2}","replica":"{3}"}]}"#;
    pinned(changing, text);
    let dropped = DeletedTableRecord {
        table: definition(),
        deleted_at: Timestamp(6),
        deleted_by: "root".to_owned(),
        ranges: vec![range],
    };
    let range = r#"{"range":"{3}","low":0,"high":9,"epoch":7,"replicas":[["{4}","{1}"],["{2}",null]]}"#;
    pinned(dropped, &format!(r#"{{"table":{TABLE},"deleted_at":6,"deleted_by":"root","ranges":[{range}]}}"#));
}

fn tables_with_options() {
    let mut told = definition();
    told.specification.throughput = Some(Throughput { read: 5, write: 6 });
    told.specification.table_class = TableClass::InfrequentAccess;
    told.specification.deletion_protection = true;
    told.specification.time_to_live = Some("until".to_owned());
    told.specification.tags = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
    told.option_times = OptionTimes {
        by_request_since: Some(Timestamp(6)),
        raised_at: Some(Timestamp(7)),
        lowered_at: Some(Timestamp(8)),
        lowered_count: 2,
        class_changed_at: Some(Timestamp(9)),
    };
    let options = r#""sort_name":"sort","throughput":{"read":5,"write":6},"table_class":"infrequent-access","deletion_protection":true,"time_to_live":"until","tags":{"team":"blue"}"#;
    let times = r#""version":1,"option_times":{"by_request_since":6,"raised_at":7,"lowered_at":8,"lowered_count":2,"class_changed_at":9}"#;
    pinned(told, &TABLE.replace(r#""sort_name":"sort""#, options).replace(r#""version":1"#, times));
}

fn tables_with_local_indexes() {
    let mut told = definition();
    told.specification.sort_type = Some(KeyType::String);
    let some = IndexProjection::Include(vec!["a".to_owned(), "b".to_owned()]);
    told.specification.local_indexes = vec![
        LocalIndex::of("by-total", "total", KeyType::Integer, IndexProjection::All),
        LocalIndex::of("by-hash", "hash", KeyType::Bytes, IndexProjection::KeysOnly),
        LocalIndex::of("by-name", "name", KeyType::String, some),
    ];
    let sorted = r#""sort_type":"String","sort_name":"sort""#;
    let indexes = r#"{"name":"by-total","attribute":"total","key_type":"Integer","projection":"all"},{"name":"by-hash","attribute":"hash","key_type":"Bytes","projection":"keys-only"},{"name":"by-name","attribute":"name","key_type":"String","projection":{"include":["a","b"]}}"#;
    let text = format!(r#"{sorted},"local_indexes":[{indexes}]"#);
    pinned(told, &TABLE.replace(r#""sort_name":"sort""#, &text));
}

#[test]
fn the_cluster_and_its_members() {
    let cluster = ClusterRecord {
        plane: PlaneId::from_bytes(id(1)),
        format: 1,
        created_at: Timestamp(5),
        authority_pem: "PEM".to_owned(),
    };
    pinned(cluster, r#"{"plane":"{1}","format":1,"created_at":5,"authority_pem":"PEM"}"#);
    for (role, word) in [(Role::Node, "node"), (Role::Proxy, "proxy"), (Role::Reporting, "reporting")] {
        let member = MemberRecord {
            role,
            id: Uuid::from_bytes(id(1)),
            name: Some("n-1".to_owned()),
            joined_at: Timestamp(5),
            certificate_until: Timestamp(6),
            wish: NodeWish::Serve,
            hand_over_until: None,
            inside_url: None,
        };
        let leaving =
            MemberRecord { wish: NodeWish::Drain, hand_over_until: Some(Timestamp(7)), name: None, ..member.clone() };
        let text =
            r#"{"role":"ROLE","id":"{1}","joined_at":5,"certificate_until":6,"wish":"drain","hand_over_until":7}"#;
        pinned(leaving, &text.replace("ROLE", word));
        let text = r#"{"role":"ROLE","id":"{1}","name":"n-1","joined_at":5,"certificate_until":6}"#;
        pinned(member, &text.replace("ROLE", word));
    }
    let reporter = MemberRecord {
        role: Role::Reporting,
        id: Uuid::from_bytes(id(1)),
        name: None,
        joined_at: Timestamp(5),
        certificate_until: Timestamp(6),
        wish: NodeWish::Serve,
        hand_over_until: None,
        inside_url: Some("https://r:8081/".to_owned()),
    };
    let text = r#"{"role":"reporting","id":"{1}","joined_at":5,"certificate_until":6,"inside_url":"https://r:8081/"}"#;
    pinned(reporter, text);
    let event =
        AdminEventRecord { who: "root".to_owned(), what: "created".to_owned(), resource: "tenant/acme".to_owned() };
    pinned(event, r#"{"who":"root","what":"created","resource":"tenant/acme"}"#);
    let invitation = JoinTokenRecord {
        role: Role::Node,
        name: None,
        created_at: Timestamp(1),
        created_by: "root".to_owned(),
        expires_at: Timestamp(2),
    };
    pinned(invitation, r#"{"role":"node","created_at":1,"created_by":"root","expires_at":2}"#);
}

#[test]
fn who_may_ask() {
    let root = PrincipalRecord {
        id: PrincipalId::from_bytes(id(1)),
        name: "root".to_owned(),
        tenant: None,
        capabilities: Vec::new(),
        created_at: Timestamp(5),
        revoked_at: None,
    };
    pinned(root.clone(), r#"{"id":"{1}","name":"root","capabilities":[],"created_at":5}"#);
    let of_tenant = PrincipalRecord {
        name: "ada".to_owned(),
        tenant: Some((TenantId::from_bytes(id(2)), names().0)),
        capabilities: vec![Capability::Read, Capability::Write, Capability::Admin],
        revoked_at: Some(Timestamp(6)),
        ..root
    };
    let text = r#"{"id":"{1}","name":"ada","tenant":["{2}","acme"],"capabilities":["read","write","admin"],"created_at":5,"revoked_at":6}"#;
    pinned(of_tenant, text);
    let key = AccessKeyRecord {
        access_key_id: "DSTK1".to_owned(),
        principal: PrincipalId::from_bytes(id(1)),
        created_at: Timestamp(5),
        revoked_at: Some(Timestamp(6)),
        sealed: "AAAA".to_owned(),
    };
    pinned(key, r#"{"access_key_id":"DSTK1","principal":"{1}","created_at":5,"revoked_at":6,"sealed":"AAAA"}"#);
    let session = SessionRecord {
        id: SessionId::from_bytes(id(1)),
        principal: PrincipalId::from_bytes(id(2)),
        note: "ci".to_owned(),
        created_at: Timestamp(5),
        expires_at: Timestamp(6),
        revoked_at: Some(Timestamp(7)),
    };
    let text = r#"{"id":"{1}","principal":"{2}","note":"ci","created_at":5,"expires_at":6,"revoked_at":7}"#;
    pinned(session, text);
}

#[test]
fn sealed_keys_histories_and_intents() {
    let versions = vec![SealedVersion { version: 1, created_at: Timestamp(7), sealed: "AAAA".to_owned() }];
    let text = r#"{"versions":[{"version":1,"created_at":7,"sealed":"AAAA"}]}"#;
    pinned(SealedKeyRecord { versions: versions.clone(), in_use: BTreeMap::new() }, text);
    let in_use = BTreeMap::from([(Uuid::from_bytes(id(1)), 1)]);
    let text = r#"{"versions":[{"version":1,"created_at":7,"sealed":"AAAA"}],"in_use":{"{1}":1}}"#;
    pinned(SealedKeyRecord { versions, in_use }, text);
    let change = HistoryRecord {
        number: 2,
        who: "root".to_owned(),
        at: Timestamp(5),
        before: Some(json!({"a": 1})),
        after: Some(json!({"a": 2})),
    };
    pinned(change, r#"{"number":2,"who":"root","at":5,"before":{"a":1},"after":{"a":2}}"#);
    pinned(HistoryHead { last: 2 }, r#"{"last":2}"#);
    let ((tenant, table), started_at) = (names(), Timestamp(3));
    let (one, two, three) = (tenant.clone(), tenant.clone(), tenant.clone());
    pinned(
        IntentRecord::CreateTable { tenant: one, table: table.clone(), started_at },
        r#"{"kind":"create-table","tenant":"acme","table":"users","started_at":3}"#,
    );
    pinned(
        IntentRecord::RemoveRoutes { tenant: two, table: table.clone(), started_at },
        r#"{"kind":"remove-routes","tenant":"acme","table":"users","started_at":3}"#,
    );
    pinned(
        IntentRecord::UndeleteTable { tenant: three, table, started_at },
        r#"{"kind":"undelete-table","tenant":"acme","table":"users","started_at":3}"#,
    );
    pinned(
        IntentRecord::RemoveTenant { tenant, tenant_id: TenantId::from_bytes(id(1)), started_at },
        r#"{"kind":"remove-tenant","tenant":"acme","tenant_id":"{1}","started_at":3}"#,
    );
}

/// A part of a key with what differs from cluster to cluster named instead of spelled.
fn shape(part: &str) -> String {
    if Uuid::parse_str(part).is_ok() {
        return "UUID".to_owned();
    }
    if part.len() == 10 && part.bytes().all(|byte| byte.is_ascii_digit()) {
        return "TEN DIGITS".to_owned();
    }
    if part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return "DIGEST".to_owned();
    }
    if part.len() == 34 && part.contains('T') && part.as_bytes()[26] == b'Z' {
        return "TIME".to_owned();
    }
    if part.starts_with("DSTK") { "ACCESS KEY ID".to_owned() } else { part.to_owned() }
}

/// What a cluster's keys look like: no other is written by what people commonly do.
#[tokio::test]
async fn every_key_is_of_the_layout() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    cluster.node(1, "a").await;
    let (plane, root) = (&cluster.plane, &cluster.root);
    plane.create_table(root, &acme, &table("users"), specification(1, 1)).await.unwrap();
    plane.create_table(root, &acme, &table("dropped"), specification(1, 1)).await.unwrap();
    plane.delete_table(root, &acme, &table("dropped")).await.unwrap();
    plane.invite(root, Role::Proxy, None, None).await.unwrap();
    let asked =
        PrincipalRequest { name: "ada".to_owned(), tenant: Some(acme.clone()), capabilities: vec![Capability::Read] };
    let ada = plane.principal_create(root, asked).await.unwrap().id;
    plane.session_start(root, ada, SessionStart::default()).await.unwrap();
    plane.access_key_create(root, ada).await.unwrap();
    let keys = cluster.keys("").await;
    let shapes: BTreeSet<String> =
        keys.iter().map(|key| key.split('/').map(shape).collect::<Vec<_>>().join("/")).collect();
    let shapes: Vec<&str> = shapes.iter().map(String::as_str).collect();
    let expected = [
        "control/access-key/ACCESS KEY ID",
        "control/cluster",
        "control/event/TIME",
        "control/history/access-key/ACCESS KEY ID/TEN DIGITS",
        "control/history/node/UUID/TEN DIGITS",
        "control/history/principal/acme/ada/TEN DIGITS",
        "control/history/table/acme/dropped/TEN DIGITS",
        "control/history/table/acme/users/TEN DIGITS",
        "control/history/tenant/acme/TEN DIGITS",
        "control/history/token/UUID/TEN DIGITS",
        "control/join-token/DIGEST",
        "control/key/authority",
        "control/key/node/UUID",
        "control/key/tenant/UUID",
        "control/key/token",
        "control/node/UUID",
        "control/principal/UUID",
        "control/session/UUID",
        "control/table-deleted/UUID",
        "control/table/acme/users",
        "control/tenant/acme",
        "node/UUID/details",
        "node/UUID/id/acme/users/hash/TEN DIGITS",
        "tenant/acme/users/TEN DIGITS",
    ];
    assert_eq!(shapes, expected);
}

#[test]
fn the_wished_log_level() {
    let wish = WishedLevel { level: LogLevel::Debug, ends_at: Timestamp(5) };
    pinned(wish, r#"{"level":"debug","ends_at":5}"#);
}
