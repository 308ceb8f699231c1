//! Items that expire, through a proxy to three nodes: not seen from their second on, and removed a moment later.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::cluster::Cluster;
use crate::process::DEADLINE;

const TABLE: &str = "/v1/tenant/acme/table/sessions";

fn now() -> u64 {
    dstore::roles::ambient::clock().now().0 / 1_000_000
}

/// Makes the item of this id anew when nothing is stored there any more.
async fn until_removed(cluster: &Cluster, url: &str, id: u32) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let request = cluster.request(Method::PUT, &format!("{url}{TABLE}/id/{id}"));
        let request = request.header("content-type", "application/json").header("if-none-match", "*").body("{}");
        let status = request.send().await.unwrap().status();
        if status == 201 {
            return;
        }
        assert!(Instant::now() < deadline, "item {id} is still stored: {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_expired_is_not_seen_and_then_not_stored() {
    let mut cluster = Cluster::start();
    cluster.node_settings = vec!["node.expiry_period=1"];
    cluster.add_nodes(3);
    cluster.add_proxies(1);
    cluster.until_ready().await;
    let url = cluster.proxies[0].url();
    assert_eq!(cluster.send(Method::PUT, &format!("{url}/v1/tenant/acme"), None).await.0, 201);
    let definition = json!({ "id_type": "Integer", "initial_ranges": 3, "replication_factor": 3 });
    assert_eq!(cluster.put(&format!("{url}{TABLE}"), &definition).await.0, 201);
    let past = now() - 60;
    for id in 0..40 {
        let item = if id % 2 == 0 { json!({ "until": past }) } else { json!({ "until": past + 1_000_000 }) };
        assert_eq!(cluster.put(&format!("{url}{TABLE}/id/{id}"), &item).await.0, 201);
    }
    assert_eq!(cluster.get(&format!("{url}{TABLE}/id/0")).await.0, 200, "the table has no time to live yet");
    let change = json!({ "time_to_live": "until" });
    let (status, table) = cluster.send(Method::POST, &format!("{url}{TABLE}"), Some(&change)).await;
    assert_eq!((status, &table["time_to_live"]), (200, &json!("until")));
    for id in 0..40 {
        let expected = if id % 2 == 0 { 404 } else { 200 };
        assert_eq!(cluster.get(&format!("{url}{TABLE}/id/{id}")).await.0, expected, "{id}");
    }
    let (_, page) = cluster.get(&format!("{url}{TABLE}/id?limit=100")).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 20, "{page}");
    for id in (0..40).step_by(2) {
        until_removed(&cluster, &url, id).await;
    }
    let (_, page) = cluster.get(&format!("{url}{TABLE}/id?limit=100")).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 40, "all others are as they were: {page}");
}
