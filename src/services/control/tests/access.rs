//! Principals, access keys, sessions and their tokens; notices; the election.

use std::sync::Arc;
use std::time::Duration;

use crate::coordination::values::{Notice, to_json};
use crate::coordination::{Writer, layout};
use crate::domain::ids::{ControlId, NodeId, ProxyId, Role, TableId, TenantId};
use crate::domain::{Clock, RefusalKind, TenantName};
use crate::services::access::{AccessLists, TokenAuthenticator, TokenKeys};
use crate::services::control::election::Election;
use crate::services::control::records::IntentRecord;
use crate::services::control::testing::{Cluster, specification, table};
use crate::services::control::{PrincipalRequest, SessionStart};
use crate::services::ports::{Authenticator, Capability, Catalog};

fn reader(cluster_tenant: &crate::domain::TenantName) -> PrincipalRequest {
    PrincipalRequest {
        name: "reader".to_owned(),
        tenant: Some(cluster_tenant.clone()),
        capabilities: vec![Capability::Read, Capability::Read],
    }
}

/// Waits until `done` says so.
async fn until(mut done: impl AsyncFnMut() -> bool) {
    tokio::time::timeout(Duration::from_secs(20), async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("within the deadline");
}

#[tokio::test]
async fn a_token_says_who_it_is_for_until_it_is_revoked() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let principal = cluster.plane.principal_create(&cluster.root, reader(&acme)).await.unwrap();
    assert_eq!(principal.capabilities, [Capability::Read]);
    let (keys, lists) = (Arc::new(TokenKeys::new(Vec::new())), Arc::new(AccessLists::default()));
    let clock: Arc<dyn Clock> = cluster.clock.clone();
    let authenticator = TokenAuthenticator::new(keys.clone(), lists.clone(), clock);
    let feed = cluster.plane.access_follow(keys, lists).await.unwrap();

    let grant = cluster.plane.session_start(&cluster.root, principal.id, SessionStart::default()).await.unwrap();
    let caller = authenticator.authenticate(&grant.token).await.unwrap();
    assert_eq!((caller.principal, caller.capabilities.as_slice()), (principal.id, [Capability::Read].as_slice()));
    assert_eq!(caller.tenant.as_ref().unwrap().1, acme);

    cluster.plane.session_revoke(&cluster.root, grant.session.id).await.unwrap();
    until(async || authenticator.authenticate(&grant.token).await.is_err()).await;

    let second = cluster.plane.session_start(&cluster.root, principal.id, SessionStart::default()).await.unwrap();
    assert!(authenticator.authenticate(&second.token).await.is_ok());
    cluster.plane.principal_revoke(&cluster.root, principal.id).await.unwrap();
    until(async || authenticator.authenticate(&second.token).await.is_err()).await;
    let third = cluster.plane.session_start(&cluster.root, principal.id, SessionStart::default()).await;
    assert_eq!(third.err().unwrap().kind, RefusalKind::Conflict);
    feed.abort();
}

#[tokio::test]
async fn tokens_end_and_their_sessions_are_forgotten() {
    let cluster = Cluster::start().await;
    let start = SessionStart { note: "ci".to_owned(), seconds: Some(60) };
    cluster.plane.session_start(&cluster.root, cluster.root.principal, start).await.unwrap();
    assert_eq!(cluster.plane.session_list(None).await.unwrap()[0].note, "ci");
    cluster.clock.forward(60);
    cluster.plane.maintain().await.unwrap();
    assert!(cluster.plane.session_list(None).await.unwrap().is_empty());
    let too_long = SessionStart { note: String::new(), seconds: Some(u64::MAX) };
    let refused = cluster.plane.session_start(&cluster.root, cluster.root.principal, too_long).await;
    assert_eq!(refused.err().unwrap().kind, RefusalKind::BadInput);
}

#[tokio::test]
async fn principals_have_names_of_their_own() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let other = cluster.tenant("other").await;
    cluster.plane.principal_create(&cluster.root, reader(&acme)).await.unwrap();
    let twice = cluster.plane.principal_create(&cluster.root, reader(&acme)).await.unwrap_err();
    assert_eq!(twice.kind, RefusalKind::Conflict);
    cluster.plane.principal_create(&cluster.root, reader(&other)).await.unwrap();
    for round in 0..20 {
        let both = || PrincipalRequest { name: format!("both {round}"), ..reader(&acme) };
        let (first, second) = tokio::join!(
            cluster.plane.principal_create(&cluster.root, both()),
            cluster.plane.principal_create(&cluster.root, both()),
        );
        assert_eq!([first.is_ok(), second.is_ok()].iter().filter(|ok| **ok).count(), 1, "round {round}");
    }
    for bad in [
        PrincipalRequest { name: String::new(), ..reader(&acme) },
        PrincipalRequest { capabilities: Vec::new(), ..reader(&acme) },
        PrincipalRequest { tenant: None, ..reader(&acme) },
    ] {
        assert_eq!(cluster.plane.principal_create(&cluster.root, bad).await.unwrap_err().kind, RefusalKind::BadInput);
    }
    let last = cluster.plane.principal_revoke(&cluster.root, cluster.root.principal).await.unwrap_err();
    assert_eq!(last.kind, RefusalKind::Conflict, "the last root stays");
}

#[tokio::test]
async fn an_access_key_is_shown_once_and_kept_sealed() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let principal = cluster.plane.principal_create(&cluster.root, reader(&acme)).await.unwrap();
    let created = cluster.plane.access_key_create(&cluster.root, principal.id).await.unwrap();
    assert_eq!((created.access_key_id.len(), created.secret_access_key.len()), (20, 40));
    for entry in cluster.coordinator.list("").await.unwrap().entries {
        let value = String::from_utf8_lossy(&entry.value).into_owned();
        assert!(!value.contains(created.secret_access_key.as_str()), "{}", entry.key);
    }
    let local = cluster.plane.access_keys_local().await.unwrap();
    assert_eq!(local[0].secret_access_key, created.secret_access_key);
    assert_eq!(local[0].caller.principal, principal.id);
    cluster.plane.access_key_revoke(&cluster.root, &created.access_key_id).await.unwrap();
    assert!(cluster.plane.access_keys_local().await.unwrap().is_empty());
    assert!(cluster.plane.access_key_list(None).await.unwrap()[0].sealed.is_empty());
    let of_root = cluster.plane.access_key_create(&cluster.root, cluster.root.principal).await;
    assert_eq!(of_root.err().unwrap().kind, RefusalKind::BadInput);
}

#[tokio::test]
async fn an_access_key_is_good_where_signatures_are_checked_until_it_is_revoked() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let principal = cluster.plane.principal_create(&cluster.root, reader(&acme)).await.unwrap();
    let (keys, lists) = (Arc::new(TokenKeys::new(Vec::new())), Arc::new(AccessLists::default()));
    let feed = cluster.plane.access_follow(keys, lists.clone()).await.unwrap();

    let first = cluster.plane.access_key_create(&cluster.root, principal.id).await.unwrap();
    // One that was just made is asked for, and does not wait for the next round.
    let found = lists.access_key(&first.access_key_id, cluster.clock.now()).await.unwrap();
    assert_eq!((found.caller().principal, found.caller().tenant.as_ref().unwrap().1.clone()), (principal.id, acme));
    cluster.plane.access_key_revoke(&cluster.root, &first.access_key_id).await.unwrap();
    until(async || lists.access_keys.is_empty()).await;

    let second = cluster.plane.access_key_create(&cluster.root, principal.id).await.unwrap();
    until(async || lists.access_keys.find(&second.access_key_id).is_some()).await;
    cluster.plane.principal_revoke(&cluster.root, principal.id).await.unwrap();
    until(async || lists.access_keys.is_empty()).await;
    feed.abort();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_refused_and_all_others_go_on() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let make = async |name: &str| {
        let request = PrincipalRequest { name: name.to_owned(), ..reader(&acme) };
        let principal = cluster.plane.principal_create(&cluster.root, request).await.unwrap().id;
        let key = cluster.plane.access_key_create(&cluster.root, principal).await.unwrap().access_key_id;
        let grant = cluster.plane.session_start(&cluster.root, principal, SessionStart::default()).await.unwrap();
        (principal, key, grant)
    };
    let (good, good_key, good_grant) = make("good").await;
    let (broken, broken_key, broken_grant) = make("broken").await;
    let second_key = cluster.plane.access_key_create(&cluster.root, good).await.unwrap().access_key_id;
    let second_grant = cluster.plane.session_start(&cluster.root, good, SessionStart::default()).await.unwrap();
    let (keys, lists) = (Arc::new(TokenKeys::new(Vec::new())), Arc::new(AccessLists::default()));
    let clock: Arc<dyn Clock> = cluster.clock.clone();
    let authenticator = TokenAuthenticator::new(keys.clone(), lists.clone(), clock);
    let feed = cluster.plane.access_follow(keys, lists.clone()).await.unwrap();
    assert_eq!((lists.access_keys.len(), lists.principals().len()), (3, 3), "with root");

    let records = [
        layout::control_principal(broken),
        layout::control_access_key(&second_key),
        layout::control_session(second_grant.session.id),
    ];
    for record in &records {
        cluster.coordinator.put(record, r#"{"id":"what-stands-in-it"}"#.into(), None).await.unwrap();
    }
    until(async || lists.access_keys.len() == 1 && lists.principals().len() == 2).await;
    until(async || authenticator.authenticate(&second_grant.token).await.is_err()).await;
    assert!(authenticator.authenticate(&broken_grant.token).await.is_err());
    assert!(lists.access_keys.find(&broken_key).is_none() && lists.access_keys.find(&second_key).is_none());
    assert!(lists.access_keys.find(&good_key).is_some());
    assert!(authenticator.authenticate(&good_grant.token).await.is_ok());

    // What comes after it is taken in: who is made, and who is revoked.
    let later = cluster.plane.access_key_create(&cluster.root, good).await.unwrap().access_key_id;
    until(async || lists.access_keys.find(&later).is_some()).await;
    cluster.plane.session_revoke(&cluster.root, good_grant.session.id).await.unwrap();
    until(async || authenticator.authenticate(&good_grant.token).await.is_err()).await;

    let notices = cluster.plane.notice_list(Some(cluster.plane.plane().0)).await.unwrap();
    assert_eq!(notices.iter().map(|notice| notice.count).collect::<Vec<_>>(), [1, 1, 1], "once, and not each time");
    for record in &records {
        assert!(notices.iter().any(|notice| notice.details.contains(record.as_str())), "{record}");
    }
    assert!(!notices.iter().any(|notice| notice.details.contains("what-stands-in-it")));
    feed.abort();
}

/// Something of each kind that maintenance sees to, due after seven days. Gives the key of a session among it.
async fn leave_work(cluster: &Cluster) -> String {
    let acme = cluster.tenant("acme").await;
    cluster.node(1, "a").await;
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(1, 1)).await.unwrap();
    cluster.plane.delete_table(&cluster.root, &acme, &table("users")).await.unwrap();
    cluster.plane.invite(&cluster.root, Role::Proxy, None, Some(60)).await.unwrap();
    let start = || SessionStart { note: String::new(), seconds: Some(60) };
    let first = cluster.plane.session_start(&cluster.root, cluster.root.principal, start()).await.unwrap();
    cluster.plane.session_start(&cluster.root, cluster.root.principal, start()).await.unwrap();
    let limit = serde_json::from_str(r#"{"request_units":50}"#).unwrap();
    cluster.plane.tenant_limits_set(&cluster.root, &acme, &limit).await.unwrap();
    let (id, started_at) = (TenantId::from_bytes([1; 16]), cluster.clock.now());
    let removal = IntentRecord::RemoveTenant { tenant: TenantName::new("gone").unwrap(), tenant_id: id, started_at };
    let creation = IntentRecord::CreateTable { tenant: acme, table: table("never"), started_at };
    for (job, intent) in [(id.0, removal), (TableId::from_bytes([2; 16]).0, creation)] {
        cluster.coordinator.put(&layout::control_job(job), to_json(&intent), None).await.unwrap();
    }
    cluster.coordinator.put(&layout::proxy_alive(ProxyId::from_bytes([1; 16])), "{}".into(), None).await.unwrap();
    layout::control_session(first.session.id)
}

#[tokio::test]
async fn what_cannot_be_read_is_told_of_once_and_keeps_nothing_else_from_being_maintained() {
    let cluster = Cluster::start().await;
    let session = leave_work(&cluster).await;
    let broken = |prefix: &str| format!("{prefix}broken");
    let records = [
        session,
        broken(layout::CONTROL_JOIN_TOKENS),
        broken(layout::CONTROL_TABLES_DELETED),
        broken(layout::CONTROL_JOBS),
        broken(layout::CONTROL_TENANTS),
    ];
    for record in &records {
        cluster.coordinator.put(record, "what-stands-in-it".into(), None).await.unwrap();
    }
    cluster.clock.forward(7 * 24 * 3600);
    let report = cluster.plane.maintain().await.unwrap();
    assert_eq!((report.tables_expired, report.credentials_expired, report.shares_renewed), (1, 2, 1));
    // What is left of a tenant may stand in a record that cannot be read: its removal is not ended.
    assert_eq!(report.intents, 1, "the one beside it");
    for record in &records {
        assert!(cluster.coordinator.get(record).await.unwrap().is_some(), "{record}");
    }

    cluster.plane.maintain().await.unwrap();
    let notices = cluster.plane.notice_list(Some(cluster.plane.plane().0)).await.unwrap();
    assert_eq!(notices.iter().map(|notice| notice.count).collect::<Vec<_>>(), [1; 5], "once, and not in each round");
    for (number, record) in records.iter().enumerate() {
        let notice = notices.iter().find(|notice| notice.details.contains(record.as_str())).expect(record);
        assert!(!notice.details.contains("what-stands-in-it"));
        assert_eq!(notice.details.contains("delete it"), number < 2, "only what can be made anew: {record}");
    }

    for record in &records {
        cluster.coordinator.delete(record).await.unwrap();
    }
    assert_eq!(cluster.plane.maintain().await.unwrap().intents, 1);
    assert!(cluster.keys(layout::CONTROL_JOBS).await.is_empty());
}

#[tokio::test]
async fn notices_are_counted_acknowledged_and_trimmed() {
    let cluster = Cluster::start().await;
    let node = NodeId::from_bytes([1; 16]);
    let note = async |counter: u32, details: &str| {
        let notice = Notice::new(details, 1);
        let key = layout::notice(node, cluster.clock.now(), counter);
        cluster.coordinator.put(&key, to_json(&notice), None).await.unwrap();
    };
    for counter in 0..3 {
        note(counter, "the disk is nearly full").await;
    }
    note(3, "a replica is damaged").await;
    let notices = cluster.plane.notice_list(Some(node.0)).await.unwrap();
    assert_eq!(notices.iter().map(|notice| notice.count).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(cluster.plane.notice_acknowledge(node.0, Some(&notices[1].timestamp)).await.unwrap(), 3);
    let counted = Notice::new("a replica is damaged", 4);
    let key = layout::notice(node, cluster.clock.now(), 4);
    cluster.coordinator.put(&key, to_json(&counted), None).await.unwrap();
    assert_eq!(cluster.plane.notice_list(None).await.unwrap()[0].count, 5, "what its component counted counts");
    assert_eq!(cluster.plane.notice_acknowledge(node.0, None).await.unwrap(), 2);
    note(5, "a replica is damaged").await;
    assert_eq!(cluster.plane.notice_list(None).await.unwrap().len(), 1);
    cluster.clock.forward(7 * 24 * 3600 + 1);
    assert_eq!(cluster.plane.maintain().await.unwrap().notices_removed, 1);
    for counter in 0..1003 {
        note(counter, "again").await;
    }
    assert_eq!(cluster.plane.maintain().await.unwrap().notices_removed, 3);
    assert_eq!(cluster.plane.notice_list(None).await.unwrap()[0].count, 1000);
}

#[tokio::test]
async fn one_instance_leads_and_another_takes_over() {
    let cluster = Cluster::start().await;
    let handle = || Arc::new(cluster.store.handle(Writer::Control));
    let first = Election::stand(handle(), ControlId::from_bytes([1; 16]), 1);
    until(async || first.leads()).await;
    let second = Election::stand(handle(), ControlId::from_bytes([2; 16]), 1);
    let mut changes = second.changes();
    assert!(!second.leads());
    drop(first);
    tokio::time::timeout(Duration::from_secs(20), changes.wait_for(|leads| *leads)).await.unwrap().unwrap();
    let holder = cluster.coordinator.get(layout::CONTROL_ELECTION).await.unwrap().unwrap();
    assert_eq!(holder.value, layout::control_election_value(ControlId::from_bytes([2; 16])));
}
