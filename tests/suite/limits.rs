//! Limits of tenants as clients and operators meet them: soft ones say so, hard ones refuse, and none needs control.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::process::{DEADLINE, DevProcess};

const TABLE: &str = "/v1/tenant/acme/table/things";

/// A `dstore dev` with a tenant and its table.
async fn dev(folder: &tempfile::TempDir) -> DevProcess {
    let dev = DevProcess::start(folder.path(), &[]);
    assert_eq!(dev.put("/v1/tenant/acme", "").await.0, 201);
    let definition = r#"{"id_type":"Integer","initial_ranges":2}"#;
    assert_eq!(dev.put(TABLE, definition).await.0, 201);
    dev
}

/// An item of a hundred thousand bytes.
fn large(number: u32) -> String {
    format!(r#"{{"n":{number},"pad":"{}"}}"#, "x".repeat(100_000))
}

/// Puts the same item until the answer has this status; the answer's body.
async fn until_put(dev: &DevProcess, expected: u16) -> Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (status, body) = dev.put(&format!("{TABLE}/id/0"), &large(0)).await;
        if status == expected {
            return serde_json::from_str(&body).unwrap_or_default();
        }
        assert!(Instant::now() < deadline, "{status} {body}, not {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Notices about the tenant, with how often each was said.
fn notices(dev: &DevProcess) -> Vec<(String, u64)> {
    let list: Value = serde_json::from_str(&dev.cli_prints(&["notice", "list", "--output", "json"])).unwrap();
    let all = list.as_array().unwrap().iter();
    let told = all.map(|notice| (notice["details"].as_str().unwrap().to_owned(), notice["count"].as_u64().unwrap()));
    told.filter(|(details, _)| details.contains("the tenant acme")).collect()
}

async fn until_notice(dev: &DevProcess, words: &str) -> u64 {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some((_, count)) = notices(dev).into_iter().find(|(details, _)| details.contains(words)) {
            return count;
        }
        assert!(Instant::now() < deadline, "no notice says {words:?}: {:?}", notices(dev));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_full_tenant_reads_and_deletes_and_writes_again_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let dev = dev(&folder).await;
    for number in 0..12 {
        assert_eq!(dev.put(&format!("{TABLE}/id/{number}"), &large(number)).await.0, 201);
    }
    dev.cli_prints(&["tenant", "set", "acme", "--storage-limit", "1 MiB"]);
    let problem = until_put(&dev, 507).await;
    assert_eq!(problem["type"], "urn:dstore:problem:storage-full", "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("the tenant acme stores 1.1 MiB and may store 1 MiB"), "{detail}");
    assert_eq!(dev.get(&format!("{TABLE}/id/3")).await.0, 200, "reads go on");
    let merge = |body: &'static str| {
        dev.request(Method::POST, &format!("{TABLE}/id/3")).header("content-type", "application/json").body(body).send()
    };
    assert_eq!(merge(r#"{"more":1}"#).await.unwrap().status(), 507);
    assert_eq!(merge(r#"{"pad":null}"#).await.unwrap().status(), 200, "what only takes away goes on");
    let shown: Value = serde_json::from_str(&dev.cli_prints(&["tenant", "show", "acme", "--output", "json"])).unwrap();
    assert!(shown["stored_bytes"].as_u64().unwrap() >= 1 << 20, "{shown}");
    assert_eq!(until_notice(&dev, "stores as much as it may, 1 MiB: writes are answered 507").await, 1);

    for number in 4..12 {
        let deleted = dev.request(Method::DELETE, &format!("{TABLE}/id/{number}")).send().await.unwrap();
        assert_eq!(deleted.status(), 204, "deletes go on");
    }
    until_put(&dev, 200).await;

    // Full again, and let write: first because the limit is soft, then because there is none.
    dev.cli_prints(&["tenant", "set", "acme", "--storage-limit", "200 KiB"]);
    until_put(&dev, 507).await;
    dev.cli_prints(&["tenant", "set", "acme", "--soft"]);
    until_put(&dev, 200).await;
    dev.cli_prints(&["tenant", "set", "acme", "--hard"]);
    until_put(&dev, 507).await;
    dev.cli_prints(&["tenant", "set", "acme", "--storage-limit", "none"]);
    until_put(&dev, 200).await;
}

#[tokio::test]
async fn a_soft_limit_of_storage_is_only_told() {
    let folder = tempfile::tempdir().unwrap();
    let dev = dev(&folder).await;
    dev.cli_prints(&["tenant", "set", "acme", "--storage-limit", "200 KiB", "--soft"]);
    for number in 0..4 {
        assert_eq!(dev.put(&format!("{TABLE}/id/{number}"), &large(number)).await.0, 201);
    }
    assert_eq!(until_notice(&dev, "the limit is soft, so nothing is refused").await, 1);
    assert_eq!(dev.put(&format!("{TABLE}/id/4"), &large(4)).await.0, 201);
}

/// How many of a hundred small writes, one after the other, were refused for want of units.
async fn refused(dev: &DevProcess) -> usize {
    let mut refused = 0;
    for number in 0..100 {
        let put = dev.request(Method::PUT, &format!("{TABLE}/id/{number}"));
        let answer = put.header("content-type", "application/json").body("{}").send().await.unwrap();
        match answer.status().as_u16() {
            200 | 201 => {}
            429 => {
                let seconds: u32 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
                assert!((1..=11).contains(&seconds), "{seconds}");
                let problem: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
                assert_eq!(problem["type"], "urn:dstore:problem:throttled", "{problem}");
                assert!(problem["detail"].as_str().unwrap().contains("its limit of 1 capacity units"), "{problem}");
                refused += 1;
            }
            status => panic!("{status}: {}", answer.text().await.unwrap()),
        }
    }
    refused
}

/// Writes until as many were refused as it should be.
async fn until_refused(dev: &DevProcess, is_right: impl Fn(usize) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let refused = refused(dev).await;
        if is_right(refused) {
            return;
        }
        assert!(Instant::now() < deadline, "{refused} of a hundred were refused");
    }
}

#[tokio::test]
async fn a_hard_limit_of_requests_refuses_and_a_soft_one_tells() {
    let folder = tempfile::tempdir().unwrap();
    let dev = dev(&folder).await;
    assert_eq!(refused(&dev).await, 0);
    dev.cli_prints(&["tenant", "set", "acme", "--request-limit", "1"]);
    until_refused(&dev, |refused| refused > 50).await;
    assert_eq!(dev.put("/v1/tenant/default/table/things", r#"{"id_type":"Integer"}"#).await.0, 201);
    assert_eq!(dev.put("/v1/tenant/default/table/things/id/1", "{}").await.0, 201, "other tenants are not held");
    until_notice(&dev, "asks for more than its limit of 1 capacity units a second: requests beyond it").await;
    dev.cli_prints(&["tenant", "set", "acme", "--soft"]);
    until_refused(&dev, |refused| refused == 0).await;
    dev.cli_prints(&["tenant", "set", "acme", "--hard"]);
    until_refused(&dev, |refused| refused > 50).await;
    dev.cli_prints(&["tenant", "set", "acme", "--request-limit", "none"]);
    until_refused(&dev, |refused| refused == 0).await;
}

/// Asks a member until a request ends so; another one may still have units left.
async fn until_status(cluster: &Cluster, method: Method, url: &str, body: Option<&Value>, expected: u16) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (status, said) = cluster.send(method.clone(), url, body).await;
        if status == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{method} {url}: {status} {said}, not {expected}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_without_control_at_proxies_and_at_nodes() {
    let mut cluster = Cluster::start();
    cluster.add_nodes(1);
    cluster.add_proxies(1);
    cluster.until_ready().await;
    let (proxy, node) = (cluster.proxies[0].url(), cluster.nodes[0].url());
    assert_eq!(cluster.send(Method::PUT, &format!("{proxy}/v1/tenant/acme"), None).await.0, 201);
    let definition = json!({ "id_type": "Integer", "initial_ranges": 2, "replication_factor": 1 });
    assert_eq!(cluster.put(&format!("{proxy}{TABLE}"), &definition).await.0, 201);
    let large = json!({ "pad": "x".repeat(100_000) });
    for number in 0..3 {
        assert_eq!(cluster.put(&format!("{proxy}{TABLE}/id/{number}"), &large).await.0, 201);
    }
    let limited = cluster.admin(&["tenant", "set", "acme", "--storage-limit", "200 KiB"]);
    assert_eq!(limited["limits"], json!({ "storage_bytes": 204_800, "mode": "hard" }));
    cluster.kill_control();
    for member in [&proxy, &node] {
        let url = format!("{member}{TABLE}/id/1");
        until_status(&cluster, Method::PUT, &url, Some(&large), 507).await;
        assert_eq!(cluster.get(&url).await.0, 200, "{member}");
    }
    assert_eq!(cluster.send(Method::DELETE, &format!("{node}{TABLE}/id/2"), None).await.0, 204);
    assert_eq!(cluster.send(Method::DELETE, &format!("{proxy}{TABLE}/id/1"), None).await.0, 204);
    until_status(&cluster, Method::PUT, &format!("{proxy}{TABLE}/id/4"), Some(&json!({})), 201).await;

    cluster.start_control();
    let limited = cluster.admin(&["tenant", "set", "acme", "--storage-limit", "none", "--request-limit", "1"]);
    assert_eq!(limited["limits"]["shares"], json!({ "proxies": 1, "nodes": 1 }));
    cluster.kill_control();
    for member in [&proxy, &node] {
        let url = format!("{member}{TABLE}/id/0");
        cluster.until_answer(&url, 429).await;
    }
    cluster.start_control();
    cluster.admin(&["tenant", "set", "acme", "--request-limit", "none"]);
    for member in [&proxy, &node] {
        cluster.until_answer(&format!("{member}{TABLE}/id/0"), 200).await;
    }
}
