//! Limits of tenants in their records, and among how many they are shared.

use std::collections::BTreeMap;

use crate::coordination::layout;
use crate::coordination::values::{StoredBytes, to_json};
use crate::domain::ids::{NodeId, ProxyId};
use crate::domain::table::Tenant;
use crate::domain::tenant_limits::{LimitMode, LimitShares, TenantLimitsChange};
use crate::domain::{Refusal, RefusalKind, TenantName};
use crate::services::control::testing::{Cluster, specification, table};
use crate::services::ports::Catalog;

async fn set(cluster: &Cluster, tenant: &TenantName, change: &str) -> Result<Tenant, Refusal> {
    let change: TenantLimitsChange = serde_json::from_str(change).unwrap();
    cluster.plane.tenant_limits_set(&cluster.root, tenant, &change).await
}

/// Whether a proxy gives a sign of life from now on.
async fn proxy(cluster: &Cluster, number: u8, is_alive: bool) {
    let key = layout::proxy_alive(ProxyId::from_bytes([number; 16]));
    if is_alive {
        cluster.coordinator.put(&key, "{}".into(), None).await.unwrap();
    } else {
        cluster.coordinator.delete(&key).await.unwrap();
    }
}

#[tokio::test]
async fn limits_are_set_in_the_record_with_their_history() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    cluster.node(1, "a").await;
    let limited = set(&cluster, &acme, r#"{"storage_bytes":1000,"request_units":50,"mode":"soft"}"#).await.unwrap();
    assert_eq!((limited.limits.storage_bytes, limited.limits.mode), (Some(1000), LimitMode::Soft));
    assert_eq!(limited.limits.shares, Some(LimitShares { proxies: 0, nodes: 1 }));
    assert_eq!(*cluster.plane.tenant(&acme).unwrap(), limited, "at once");
    let same = set(&cluster, &acme, r#"{"mode":"soft"}"#).await.unwrap();
    assert_eq!(same, limited);
    let history = cluster.plane.history("tenant/acme", None, 10).await.unwrap();
    assert_eq!(history.versions.len(), 2, "what changes nothing is no version");
    // The table's making writes the tenant's record anew, as it is.
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(1, 1)).await.unwrap();
    assert_eq!(*cluster.another().await.tenant(&acme).unwrap(), limited);
    let free = set(&cluster, &acme, r#"{"storage_bytes":null,"request_units":null,"mode":"hard"}"#).await.unwrap();
    assert!(free.limits.is_default());
    let record = cluster.coordinator.get(&layout::control_tenant(&acme)).await.unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&record.value).contains("limits"), "as it was before there were any");
}

#[tokio::test]
async fn what_cannot_be_held_is_refused() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let refusal = set(&cluster, &acme, r#"{"request_units":0}"#).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::BadInput);
    let nobody = TenantName::new("nobody").unwrap();
    assert_eq!(set(&cluster, &nobody, "{}").await.unwrap_err().kind, RefusalKind::NotFound);
}

#[tokio::test]
async fn shares_follow_who_comes_and_goes() {
    let cluster = Cluster::start().await;
    let (acme, globex) = (cluster.tenant("acme").await, cluster.tenant("globex").await);
    cluster.node(1, "a").await;
    proxy(&cluster, 1, true).await;
    set(&cluster, &acme, r#"{"request_units":50}"#).await.unwrap();
    set(&cluster, &globex, r#"{"storage_bytes":50}"#).await.unwrap();
    assert_eq!(cluster.plane.maintain().await.unwrap().shares_renewed, 0);
    proxy(&cluster, 2, true).await;
    assert_eq!(cluster.plane.maintain().await.unwrap().shares_renewed, 1);
    let shares = async || cluster.another().await.tenant(&acme).unwrap().limits.shares;
    assert_eq!(shares().await, Some(LimitShares { proxies: 2, nodes: 1 }));
    proxy(&cluster, 1, false).await;
    assert_eq!(cluster.plane.maintain().await.unwrap().shares_renewed, 1);
    assert_eq!(shares().await, Some(LimitShares { proxies: 1, nodes: 1 }));
    assert_eq!(cluster.another().await.tenant(&globex).unwrap().limits.shares, None);
}

#[tokio::test]
async fn what_nodes_tell_is_added_up() {
    let cluster = Cluster::start().await;
    let acme = cluster.plane.tenant(&cluster.tenant("acme").await).unwrap();
    assert_eq!(cluster.plane.tenant_stored(acme.id).await.unwrap(), 0);
    for (number, bytes) in [(1, 10), (2, 32)] {
        let told = StoredBytes { tenants: BTreeMap::from([(acme.id, bytes)]) };
        let key = layout::stored(NodeId::from_bytes([number; 16]));
        cluster.coordinator.put(&key, to_json(&told), None).await.unwrap();
    }
    assert_eq!(cluster.plane.tenant_stored(acme.id).await.unwrap(), 42);
}
