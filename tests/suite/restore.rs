//! The worst day: etcd and control's machine are gone. What is left is the recovery file, a snapshot of etcd, and the nodes
//! with their disks; then every item is there again.

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::process::DEADLINE;

const TABLE: &str = "/v1/tenant/acme/table/things";
const ITEMS: u64 = 30;

fn etcdctl(arguments: &[&str]) {
    let output = Command::new("etcdctl").env("ETCDCTL_API", "3").args(arguments).output().expect("etcdctl is there");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_and_control_come_back_from_snapshot_and_recovery_file() {
    let mut cluster = Cluster::start();
    cluster.add_nodes(2);
    cluster.add_proxies(1);
    cluster.until_ready().await;
    let url = cluster.proxies[0].url();
    assert_eq!(cluster.send(reqwest::Method::PUT, &format!("{url}/v1/tenant/acme"), None).await.0, 201);
    let definition = json!({ "id_type": "Integer", "initial_ranges": 4 });
    assert_eq!(cluster.put(&format!("{url}{TABLE}"), &definition).await.0, 201);
    for number in 0..ITEMS {
        assert_eq!(cluster.put(&format!("{url}{TABLE}/id/{number}"), &json!({ "n": number })).await.0, 201);
    }

    let (file, snapshot) =
        (cluster.path("recovery").display().to_string(), cluster.path("snapshot").display().to_string());
    let recovery = |verb: &str| {
        ["control", "recovery", verb, "--data", "{control}", "--file", &file, "--passphrase-file", "{passphrase}"]
            .map(str::to_owned)
    };
    let run = |cluster: &Cluster, verb: &str| {
        let arguments = recovery(verb);
        cluster.succeed(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    run(&cluster, "export");
    etcdctl(&["--endpoints", &cluster.etcd.endpoint(), "snapshot", "save", &snapshot]);
    // Later than the snapshot, and on the nodes' disks all the same.
    assert_eq!(cluster.put(&format!("{url}{TABLE}/id/{ITEMS}"), &json!({ "n": ITEMS })).await.0, 201);

    for member in cluster.nodes.iter_mut().chain(&mut cluster.proxies) {
        member.kill();
    }
    cluster.kill_control();
    cluster.etcd.kill().unwrap();
    let data = cluster.etcd.folder().join("data");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::remove_dir_all(cluster.path("control")).unwrap();

    etcdctl(&["snapshot", "restore", &snapshot, "--data-dir", &data.display().to_string()]);
    cluster.etcd.restart().unwrap();
    run(&cluster, "restore");
    let said = run(&cluster, "verify");
    assert!(!said.contains("version"), "nothing is missing: {said}");
    cluster.start_control();
    let (mut nodes, mut proxies) = (std::mem::take(&mut cluster.nodes), std::mem::take(&mut cluster.proxies));
    for member in nodes.iter_mut().chain(&mut proxies) {
        cluster.begin(member);
    }
    (cluster.nodes, cluster.proxies) = (nodes, proxies);
    // A proxy that had seen more than the snapshot knows says so, and serves.
    for member in cluster.nodes.iter().chain(&cluster.proxies) {
        cluster
            .until_member_says(member, "serving", |said| said["status"] == "ready" || said["status"] == "stale")
            .await;
    }
    for number in 0..=ITEMS {
        let item = cluster.until_answer(&format!("{}{TABLE}/id/{number}", cluster.proxies[0].url()), 200).await;
        assert_eq!(item, json!({ "n": number }));
        // by whichever node holds it, asked directly.
        let item = until_found(&cluster, format!("{}{TABLE}/id/{number}", cluster.nodes[0].url())).await;
        assert_eq!(item, json!({ "n": number }));
    }
    let (status, _) =
        cluster.put(&format!("{}/v1/tenant/acme/table/after", cluster.proxies[0].url()), &definition).await;
    assert_eq!(status, 201, "and life goes on");
}

/// Asks one node after the other, as each says which; a range may be handed over meanwhile.
async fn until_found(cluster: &Cluster, mut url: String) -> Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = cluster.request(reqwest::Method::GET, &url).send().await.unwrap();
        let status = answer.status().as_u16();
        if status != 421 {
            assert_eq!(status, 200, "{url}");
            return answer.json().await.unwrap();
        }
        assert!(Instant::now() < deadline, "{url} sends on and on");
        url = answer.headers()["location"].to_str().unwrap().to_owned();
    }
}
