//! Usage as it is reported is what was asked: over proxies that stop and come back, and a reporter that is killed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, Member};
use crate::process::DEADLINE;

const ITEMS: &str = "/v1/tenant/acme/table/things/id";

/// Puts and reads so many items through a proxy, each once.
async fn load(cluster: &Cluster, proxy: &Member, first: u64, count: u64) {
    for number in first..first + count {
        let url = format!("{}{ITEMS}/{number}", proxy.url());
        let (status, body) = cluster.put(&url, &json!({ "number": number })).await;
        assert_eq!(status, 201, "{body}");
        assert_eq!(cluster.get(&url).await.0, 200);
    }
}

/// Requests of an operation, as usage tells them.
fn requests(usage: &Value, operation: &str) -> u64 {
    let rows = usage["rows"].as_array().expect("rows");
    let of = rows.iter().filter(|row| row["operation"] == operation);
    of.map(|row| row["counts"]["requests"].as_u64().expect("a number")).sum()
}

/// Waits until usage tells as many puts and reads as were sent; it never tells more.
async fn until_told(cluster: &Cluster, sent: u64) {
    // An interval ends ten seconds after it began, and a minute after that at the latest.
    let deadline = Instant::now() + 3 * DEADLINE;
    loop {
        let asked = ["usage", "--tenant", "acme", "--by", "operation", "--last", "3h", "--step", "1m"];
        let usage = cluster.admin(&asked);
        let told = (requests(&usage, "put-item"), requests(&usage, "get-item"));
        assert!(told.0 <= sent && told.1 <= sent, "{told:?} of {sent}: something counts twice");
        if told == (sent, sent) {
            return;
        }
        assert!(Instant::now() < deadline, "{told:?} of {sent}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Requests of an operation in the files that the reporter wrote, which hold every record once.
fn exported(cluster: &Cluster, operation: &str) -> u64 {
    let (mut ids, mut requests) = (BTreeSet::new(), 0);
    for entry in std::fs::read_dir(cluster.path("reported")).into_iter().flatten() {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        for line in std::fs::read_to_string(&path).expect("text").lines() {
            let record: Value = serde_json::from_str(line).expect("a record");
            assert!(ids.insert(record["id"].to_string()), "{record} stands there twice");
            if record["tenant_name"] == "acme" && record["operation"] == operation {
                requests += record["requests"].as_u64().expect("a number");
            }
        }
    }
    requests
}

/// Waits until the files tell as many puts and reads as were sent.
async fn until_exported(cluster: &Cluster, sent: u64) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let told = (exported(cluster, "put-item"), exported(cluster, "get-item"));
        assert!(told.0 <= sent && told.1 <= sent, "{told:?} of {sent}: something counts twice");
        if told == (sent, sent) {
            return;
        }
        assert!(Instant::now() < deadline, "{told:?} of {sent} are in files");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_is_what_is_reported() {
    let mut cluster = Cluster::start();
    cluster.add_nodes(1);
    cluster.add_proxies(2);
    cluster.until_ready().await;
    let refused = cluster.run(&["control", "usage"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("dstore control reporter invite"), "{refused:?}");

    cluster.succeed(&["control", "tenant", "create", "acme"]);
    cluster.succeed(&["control", "table", "create", "things", "--tenant", "acme", "--id-type", "String"]);
    for proxy in &cluster.proxies {
        cluster.until_answer(&format!("{}{ITEMS}", proxy.url()), 200).await;
    }
    // Before there is a reporter: proxies keep it.
    load(&cluster, &cluster.proxies[0], 0, 40).await;
    cluster.add_reporters(1);
    cluster.until_ready().await;
    let reporters = cluster.admin(&["reporter", "list"]);
    assert_eq!(reporters.as_array().map(Vec::len), Some(1));
    load(&cluster, &cluster.proxies[1], 40, 40).await;
    until_told(&cluster, 80).await;

    // A proxy stops and comes back, the reporter is killed in between.
    load(&cluster, &cluster.proxies[0], 80, 40).await;
    let mut proxy = cluster.proxies.remove(0);
    assert_eq!(proxy.stop(), Some(0));
    cluster.reporters[0].kill();
    load(&cluster, &cluster.proxies[0], 120, 40).await;
    cluster.begin(&mut proxy);
    cluster.until_member(&proxy, "ready").await;
    load(&cluster, &proxy, 160, 40).await;
    let mut reporter = cluster.reporters.remove(0);
    cluster.begin(&mut reporter);
    cluster.until_member(&reporter, "ready").await;
    until_told(&cluster, 200).await;
    reporter.kill();
    cluster.begin(&mut reporter);
    cluster.until_member(&reporter, "ready").await;
    until_told(&cluster, 200).await;
    until_exported(&cluster, 200).await;

    let text = cluster.succeed(&["control", "usage", "--tenant", "acme", "--by", "operation"]);
    let puts = text.lines().find(|line| line.starts_with("put-item")).expect("a line of its own");
    assert!(puts.split_whitespace().nth(1) == Some("200") && text.contains('█'), "{text}");
    let csv = cluster.succeed(&["control", "--output", "csv", "usage", "--tenant", "acme"]);
    assert!(csv.starts_with("at,tenant,") && csv.contains(",acme,"), "{csv}");
    assert_eq!(reporter.stop(), Some(0));
    // It is gone, and its certificate with it.
    cluster.succeed(&["control", "reporter", "remove", "reporting-0"]);
    let refused = cluster.run(&["control", "usage"]);
    assert_eq!(refused.status.code(), Some(4));
}
