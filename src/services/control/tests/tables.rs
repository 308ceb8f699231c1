//! Tenants and tables: created whole, dropped, brought back, finished after a crash.

use std::collections::BTreeSet;

use crate::coordination::layout;
use crate::coordination::values::{AssignedRange, Route, TableAtNode, from_json, to_json};
use crate::domain::ids::TableId;
use crate::domain::table::{TableChange, TableDefinition};
use crate::domain::{RefusalKind, TenantName};
use crate::services::control::records::IntentRecord;
use crate::services::control::testing::{Cluster, specification, table};
use crate::services::ports::{Catalog, Creation};

async fn routes(cluster: &Cluster) -> Vec<(String, Route)> {
    let listing = cluster.coordinator.list(layout::ROUTES).await.unwrap();
    listing.entries.into_iter().map(|entry| (entry.key, from_json(&entry.value).unwrap())).collect()
}

/// Where the leader and each replica are reached, by clients and by the other components.
fn addresses(route: &Route) -> Vec<(&str, Option<&str>)> {
    let replicas = route.replicas.iter().map(|replica| (&*replica.uri, replica.inside_uri.as_deref()));
    std::iter::once((&*route.uri, route.inside_uri.as_deref())).chain(replicas).collect()
}

#[tokio::test]
async fn a_tenant_is_made_once_and_has_a_key() {
    let cluster = Cluster::start().await;
    let acme = TenantName::new("acme").unwrap();
    let (made, creation) = cluster.plane.create_tenant(&cluster.root, &acme).await.unwrap();
    assert_eq!(creation, Creation::Created);
    assert_eq!(cluster.plane.create_tenant(&cluster.root, &acme).await.unwrap(), (made.clone(), Creation::Unchanged));
    assert_eq!(cluster.plane.tenant(&acme).as_deref(), Some(&made));
    assert_eq!(cluster.plane.tenant_key_local(made.id).await.unwrap().len(), 1);
    assert_eq!(cluster.plane.list_tenants(None, 10).await.unwrap(), [made]);
}

#[tokio::test]
async fn a_small_table_is_routed_as_soon_as_it_is_there() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let node = cluster.node(1, "a").await;
    let (definition, creation) =
        cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(4, 1)).await.unwrap();
    assert_eq!(creation, Creation::Created);
    assert_eq!(cluster.plane.table(&acme, &table("users")).as_deref(), Some(&definition));
    let routes = routes(&cluster).await;
    assert_eq!(routes.len(), 4);
    for (key, route) in &routes {
        assert_eq!((route.node, route.epoch, route.table_uuid), (node, 0, definition.id));
        assert_eq!(addresses(route), vec![("http://node-1:8080/", Some("https://node-1:8081/")); 2]);
        let low = layout::RouteKey::parse(key).unwrap().low_hash;
        let assigned = cluster.coordinator.get(&layout::node_range(node, &acme, &table("users"), low)).await.unwrap();
        let assigned: AssignedRange = from_json(&assigned.unwrap().value).unwrap();
        assert_eq!((assigned.range, assigned.high_hash), (Some(route.range), route.high_hash));
        assert!(assigned.replica.is_some());
    }
    assert_eq!(routes.iter().map(|(_, route)| route.range).collect::<BTreeSet<_>>().len(), 4);
}

#[tokio::test]
async fn the_same_definition_is_unchanged_and_another_a_conflict() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    cluster.node(1, "a").await;
    let users = table("users");
    let (first, _) = cluster.plane.create_table(&cluster.root, &acme, &users, specification(2, 1)).await.unwrap();
    let again = cluster.plane.create_table(&cluster.root, &acme, &users, specification(2, 1)).await.unwrap();
    assert_eq!(again, (first, Creation::Unchanged));
    let other = cluster.plane.create_table(&cluster.root, &acme, &users, specification(3, 1)).await.unwrap_err();
    assert_eq!(other.kind, RefusalKind::Conflict);
}

#[tokio::test]
async fn local_indexes_are_checked_kept_and_part_of_the_definition() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    cluster.node(1, "a").await;
    let orders = table("orders");
    let create = |text: String| {
        let specification = serde_json::from_str(&text).unwrap();
        cluster.plane.create_table(&cluster.root, &acme, &orders, specification)
    };
    let sorted = |indexes: &str| format!(r#"{{"id_type":"String","sort_type":"String","local_indexes":[{indexes}]}}"#);
    let by_total = r#"{"name":"by-total","attribute":"total","key_type":"Integer","projection":"keys-only"}"#;
    for bad in [sorted(by_total).replace(r#""sort_type":"String","#, ""), sorted(&format!("{by_total},{by_total}"))] {
        assert_eq!(create(bad.clone()).await.unwrap_err().kind, RefusalKind::BadInput, "{bad}");
    }
    let (made, _) = create(sorted(by_total)).await.unwrap();
    assert_eq!(made.specification.local_indexes[0].attribute, "total");
    assert_eq!(create(sorted(by_total)).await.unwrap(), (made.clone(), Creation::Unchanged));
    for other in [sorted(""), sorted(&by_total.replace("total", "sum")), sorted(&by_total.replace("keys-only", "all"))]
    {
        assert_eq!(create(other.clone()).await.unwrap_err().kind, RefusalKind::Conflict, "{other}");
    }
    cluster.plane.delete_table(&cluster.root, &acme, &orders).await.unwrap();
    let back = cluster.plane.table_undelete(&cluster.root, &acme, &orders, None, None).await.unwrap();
    assert_eq!(back.specification, made.specification, "an index comes back with its table");
}

fn change(text: &str) -> TableChange {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn options_are_changed_by_name_and_a_protected_table_stays() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    cluster.node(1, "a").await;
    let (plane, root, users) = (&cluster.plane, &cluster.root, table("users"));
    let options = r#"{"id_type":"String","deletion_protection":true,"throughput":{"read":5,"write":5}}"#;
    plane.create_table(root, &acme, &users, serde_json::from_str(options).unwrap()).await.unwrap();
    let protected = plane.delete_table(root, &acme, &users).await.unwrap_err();
    assert_eq!(protected.kind, RefusalKind::Conflict);
    assert!(protected.message.contains("--deletion-protection false"), "{}", protected.message);

    let change_of = |text: &str| plane.change_table(root, &acme, &users, change(text));
    let changed = change_of(r#"{"time_to_live":"until","tags":{"team":"blue"}}"#).await.unwrap();
    assert_eq!((changed.version, changed.specification.time_to_live.as_deref()), (2, Some("until")));
    assert_eq!(change_of(r#"{"time_to_live":"until"}"#).await.unwrap().version, 2, "nothing new is no change");
    let lowered = change_of(r#"{"throughput":{"read":1,"write":9}}"#).await.unwrap();
    assert_eq!(lowered.option_times.lowered_count, 1);
    assert!(lowered.option_times.raised_at.is_some());
    assert_eq!(lowered.specification.tags["team"], "blue");
    assert_eq!(change_of(r#"{"time_to_live":""}"#).await.unwrap_err().kind, RefusalKind::BadInput);
    assert_eq!(plane.table(&acme, &users).unwrap().version, 3, "what is refused changes nothing");

    change_of(r#"{"deletion_protection":false}"#).await.unwrap();
    plane.delete_table(root, &acme, &users).await.unwrap();
    let back = plane.table_undelete(root, &acme, &users, None, None).await.unwrap();
    assert_eq!(back.specification.time_to_live.as_deref(), Some("until"), "options come back, too");
    change_of(r#"{"deletion_protection":true}"#).await.unwrap();
    plane.delete_tenant(root, &acme, true).await.unwrap();
}

#[tokio::test]
async fn a_large_table_takes_several_transactions_and_shows_no_trace_of_them() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    for (number, zone) in [(1, "a"), (2, "b"), (3, "c"), (4, "c")] {
        cluster.node(number, zone).await;
    }
    let (definition, _) =
        cluster.plane.create_table(&cluster.root, &acme, &table("large"), specification(1024, 3)).await.unwrap();
    let routes = routes(&cluster).await;
    assert_eq!(routes.len(), 1024);
    assert!(routes.iter().all(|(_, route)| route.replicas.len() == 3 && route.table_uuid == definition.id));
    assert!(cluster.keys(layout::CONTROL_JOBS).await.is_empty());
    cluster.plane.delete_table(&cluster.root, &acme, &table("large")).await.unwrap();
    assert!(cluster.keys(layout::ROUTES).await.is_empty());
    assert!(cluster.keys("node/").await.iter().all(|key| !key.contains("/hash/")));
    assert!(cluster.keys(layout::CONTROL_JOBS).await.is_empty());
}

#[tokio::test]
async fn many_makers_of_one_name_make_one_table() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    cluster.node(1, "a").await;
    let mut makers = Vec::new();
    for _ in 0..4 {
        let (plane, root, acme) = (cluster.another().await, cluster.root.clone(), acme.clone());
        makers.push(tokio::spawn(async move {
            plane.create_table(&root, &acme, &table("users"), specification(100, 1)).await
        }));
    }
    let mut made = Vec::new();
    for maker in makers {
        // Whoever waited too long is told to try again; nobody is told of two tables.
        match maker.await.unwrap() {
            Ok(answer) => made.push(answer),
            Err(refusal) => assert_eq!(refusal.kind, RefusalKind::Unavailable),
        }
    }
    assert_eq!(made.iter().filter(|(_, creation)| *creation == Creation::Created).count(), 1);
    assert_eq!(made.iter().map(|(definition, _)| definition.id).collect::<BTreeSet<_>>().len(), 1);
    let routes = routes(&cluster).await;
    assert_eq!(routes.len(), 100);
    assert!(routes.iter().all(|(_, route)| route.table_uuid == made[0].0.id));
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let create = async |tenant: &TenantName, ranges, factor| {
        let (users, specification) = (table("users"), specification(ranges, factor));
        cluster.plane.create_table(&cluster.root, tenant, &users, specification).await.unwrap_err().kind
    };
    assert_eq!(create(&acme, 1, 1).await, RefusalKind::Unavailable, "there is no node");
    cluster.node(1, "a").await;
    for (ranges, factor) in [(0, 1), (1025, 1), (1, 0), (1, 6)] {
        assert_eq!(create(&acme, ranges, factor).await, RefusalKind::BadInput);
    }
    assert_eq!(create(&TenantName::new("nobody").unwrap(), 1, 1).await, RefusalKind::NotFound);
    assert!(cluster.keys(layout::ROUTES).await.is_empty());
}

#[tokio::test]
async fn a_dropped_table_comes_back_with_its_replicas() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let node = cluster.node(1, "a").await;
    let users = table("users");
    let (first, _) = cluster.plane.create_table(&cluster.root, &acme, &users, specification(90, 1)).await.unwrap();
    let assignments = async |name| {
        let listing = cluster.coordinator.list(&layout::node_table_ranges(node, &acme, &table(name))).await.unwrap();
        listing.entries.iter().map(|entry| from_json::<AssignedRange>(&entry.value).unwrap()).collect::<Vec<_>>()
    };
    // One range was served: its epoch must never begin again at 0.
    let key = layout::route(&acme, &users, 0);
    let mut served: Route = from_json(&cluster.coordinator.get(&key).await.unwrap().unwrap().value).unwrap();
    served.epoch = 7;
    cluster.coordinator.put(&key, to_json(&served), None).await.unwrap();
    let before = assignments("users").await;

    cluster.plane.delete_table(&cluster.root, &acme, &users).await.unwrap();
    assert_eq!(cluster.plane.table(&acme, &users), None);
    assert_eq!(cluster.plane.deleted_tables(&acme).await.unwrap().len(), 1);
    // The name is free at once.
    let (second, creation) =
        cluster.plane.create_table(&cluster.root, &acme, &users, specification(1, 1)).await.unwrap();
    assert_eq!(creation, Creation::Created);
    assert_ne!(first.id, second.id);

    let taken = cluster.plane.table_undelete(&cluster.root, &acme, &users, None, None).await.unwrap_err();
    assert_eq!(taken.kind, RefusalKind::Conflict);
    let back = cluster
        .plane
        .table_undelete(&cluster.root, &acme, &users, Some(first.id), Some(table("users-old")))
        .await
        .unwrap();
    assert_eq!((back.id, back.version), (first.id, 2));
    let again = |assigned: AssignedRange| AssignedRange { is_new: false, ..assigned };
    assert!(before.iter().all(|assigned| assigned.is_new));
    assert_eq!(assignments("users-old").await, before.into_iter().map(again).collect::<Vec<_>>());
    let route = cluster.coordinator.get(&layout::route(&acme, &table("users-old"), 0)).await.unwrap().unwrap();
    let route = from_json::<Route>(&route.value).unwrap();
    assert_eq!(route.epoch, 7);
    assert_eq!(addresses(&route), vec![("http://node-1:8080/", Some("https://node-1:8081/")); 2]);
    assert!(cluster.plane.deleted_tables(&acme).await.unwrap().is_empty());
}

#[tokio::test]
async fn after_seven_days_a_dropped_table_is_gone() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    cluster.node(1, "a").await;
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(1, 1)).await.unwrap();
    cluster.plane.delete_table(&cluster.root, &acme, &table("users")).await.unwrap();
    cluster.clock.forward(7 * 24 * 3600 - 1);
    assert_eq!(cluster.plane.maintain().await.unwrap().tables_expired, 0);
    cluster.clock.forward(1);
    let late = cluster.plane.table_undelete(&cluster.root, &acme, &table("users"), None, None).await.unwrap_err();
    assert_eq!(late.kind, RefusalKind::NotFound);
    assert_eq!(cluster.plane.maintain().await.unwrap().tables_expired, 1);
    assert!(cluster.keys(layout::CONTROL_TABLES_DELETED).await.is_empty());
}

#[tokio::test]
async fn a_tenant_with_tables_goes_only_when_asked_for_and_leaves_nothing() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let id = cluster.plane.tenant(&acme).unwrap().id;
    cluster.node(1, "a").await;
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(3, 1)).await.unwrap();
    cluster.plane.create_table(&cluster.root, &acme, &table("dropped"), specification(1, 1)).await.unwrap();
    cluster.plane.delete_table(&cluster.root, &acme, &table("dropped")).await.unwrap();
    let refused = cluster.plane.delete_tenant(&cluster.root, &acme, false).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Conflict);
    cluster.plane.delete_tenant(&cluster.root, &acme, true).await.unwrap();
    assert_eq!(cluster.plane.tenant_key_local(id).await.unwrap_err().kind, RefusalKind::NotFound);
    for prefix in [layout::ROUTES, layout::CONTROL_TABLES, layout::CONTROL_TABLES_DELETED, layout::CONTROL_JOBS] {
        assert!(cluster.keys(prefix).await.is_empty(), "{prefix}");
    }
    assert!(cluster.keys("node/").await.iter().all(|key| !key.contains("/hash/")));
    assert_eq!(cluster.plane.table(&acme, &table("users")), None);
    // A tenant of the same name is another.
    assert_ne!(cluster.plane.create_tenant(&cluster.root, &acme).await.unwrap().0.id, id);
}

#[tokio::test]
async fn a_creation_that_was_killed_is_taken_back() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    cluster.node(1, "a").await;
    // What a process leaves that is killed after its intent and its first routes.
    let id = TableId::from_bytes([0x77; 16]);
    cluster.plane.create_table(&cluster.root, &acme, &table("other"), specification(2, 1)).await.unwrap();
    let (_, mut route) = routes(&cluster).await.remove(0);
    route.table_uuid = id;
    let key = layout::route(&acme, &table("users"), 0);
    cluster.coordinator.put(&key, to_json(&route), None).await.unwrap();
    let intent = IntentRecord::CreateTable {
        tenant: acme.clone(),
        table: table("users"),
        started_at: crate::domain::Clock::now(cluster.clock.as_ref()),
    };
    cluster.coordinator.put(&layout::control_job(id.0), to_json(&intent), None).await.unwrap();

    assert_eq!(cluster.plane.maintain().await.unwrap().intents, 0, "its maker may still be at work");
    cluster.clock.forward(61);
    assert_eq!(cluster.plane.maintain().await.unwrap().intents, 1);
    assert!(cluster.keys(&layout::table_routes(&acme, &table("users"))).await.is_empty());
    assert_eq!(cluster.keys(&layout::table_routes(&acme, &table("other"))).await.len(), 2);
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(80, 1)).await.unwrap();
}

#[tokio::test]
async fn changes_are_numbered_and_say_who() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    cluster.node(1, "a").await;
    let users = table("users");
    cluster.plane.create_table(&cluster.root, &acme, &users, specification(1, 1)).await.unwrap();
    cluster.plane.delete_table(&cluster.root, &acme, &users).await.unwrap();
    cluster.plane.create_table(&cluster.root, &acme, &users, specification(2, 1)).await.unwrap();
    let page = cluster.plane.history("table/acme/users", None, 2).await.unwrap();
    assert!(page.more);
    assert_eq!(page.versions.iter().map(|version| version.number).collect::<Vec<_>>(), [3, 2]);
    assert!(page.versions.iter().all(|version| version.who == "root"));
    assert!(page.versions[1].after.is_none());
    assert_eq!(page.versions[1].before.as_ref().unwrap()["initial_ranges"], 1);
    let rest = cluster.plane.history("table/acme/users", Some(2), 10).await.unwrap();
    assert_eq!(rest.versions.len(), 1);
    assert_eq!(cluster.plane.history("table/acme/never", None, 1).await.unwrap_err().kind, RefusalKind::NotFound);
}

#[tokio::test]
async fn another_instance_sees_what_this_one_made() {
    let cluster = Cluster::start().await;
    let other = cluster.another().await;
    let acme = cluster.tenant("acme").await;
    cluster.node(1, "a").await;
    cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(1, 1)).await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while other.table(&acme, &table("users")).is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_new_table_is_waited_for_until_its_node_says_it_is_ready() {
    let cluster = Cluster::start().await;
    let acme = cluster.tenant("acme").await;
    let node = cluster.node(1, "a").await;
    let patient = cluster.patient().await;
    let users = table("users");
    let mut making = Box::pin(patient.create_table(&cluster.root, &acme, &users, specification(2, 1)));
    let definition = loop {
        tokio::select! {
            biased;
            made = &mut making => panic!("nobody serves the table yet, and it was answered: {made:?}"),
            () = tokio::task::yield_now() => {
                if let Some(entry) = cluster.coordinator.get(&layout::control_table(&acme, &users)).await.unwrap() {
                    break from_json::<TableDefinition>(&entry.value).unwrap();
                }
            }
        }
    };
    let ready = TableAtNode { status: "okay".to_owned(), lost: Vec::new(), table_uuid: Some(definition.id) };
    let key = layout::node_table_details(node, &acme, &users);
    cluster.coordinator.put(&key, to_json(&ready), None).await.unwrap();
    assert_eq!(making.await.unwrap(), (definition, Creation::Created));
}
