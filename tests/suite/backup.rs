//! A backup of a cluster that goes on serving: a snapshot of etcd, then copies of the data folders while they are written, and
//! the recovery file. Nothing is stopped for it, or even asked. From these alone a cluster is brought back elsewhere, and has every item
//! that was acknowledged before the first copy began. Of what was written meanwhile the nodes' copies know more or less, since each is of
//! another moment; they have to agree again all the same, which their digests tell.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::process::DEADLINE;
use crate::splits::until_put;

const TABLE: &str = "/v1/tenant/acme/table/things";
const NODES: usize = 3;
const RANGES: usize = 4;
/// Items that are there before anything is copied; more are written all the while.
const ITEMS: usize = 300;
const WRITERS: usize = 4;

fn etcdctl(arguments: &[&str]) {
    let output = Command::new("etcdctl").env("ETCDCTL_API", "3").args(arguments).output().expect("etcdctl is there");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Some who write one item after the other and note which were acknowledged.
struct Writers {
    acknowledged: Arc<Mutex<Vec<usize>>>,
    has_ended: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    fn begin(cluster: &Arc<Cluster>) -> Writers {
        let (acknowledged, has_ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let tasks = (0..WRITERS).map(|first| {
            let (cluster, noted, ended) = (cluster.clone(), acknowledged.clone(), has_ended.clone());
            tokio::spawn(async move {
                for number in (first..).step_by(WRITERS) {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    until_put(&cluster, number as u64, &item(number)).await;
                    noted.lock().push(number);
                }
            })
        });
        Writers { tasks: tasks.collect(), acknowledged, has_ended }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().len()
    }

    async fn until(&self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.count() < count {
            let is_working = !self.tasks.iter().any(tokio::task::JoinHandle::is_finished);
            assert!(Instant::now() < deadline && is_working, "{} of {count}", self.count());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) {
        self.has_ended.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no write failed");
        }
    }
}

fn item(number: usize) -> Value {
    json!({ "n": number, "text": "x".repeat(200) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_copied_while_it_serves_and_brought_back_elsewhere() {
    let mut cluster = Cluster::start();
    // Memory goes to files all the time, so that these are written while they are copied.
    cluster.node_settings = vec!["memory.tables_mib=1"];
    cluster.add_nodes(NODES);
    cluster.add_proxies(1);
    cluster.until_ready().await;
    let url = cluster.proxies[0].url();
    assert_eq!(cluster.send(Method::PUT, &format!("{url}/v1/tenant/acme"), None).await.0, 201);
    let definition = json!({ "id_type": "Integer", "initial_ranges": RANGES, "replication_factor": NODES });
    assert_eq!(cluster.put(&format!("{url}{TABLE}"), &definition).await.0, 201);
    let cluster = Arc::new(cluster);
    let writers = Writers::begin(&cluster);
    writers.until(ITEMS).await;

    let mut other = Cluster::empty();
    let snapshot = other.path("snapshot").display().to_string();
    let before = writers.acknowledged.lock().clone();
    etcdctl(&["--endpoints", &cluster.etcd.endpoint(), "snapshot", "save", &snapshot]);
    let names = (0..NODES).map(|number| format!("node-{number}")).chain(["proxy-0".to_owned()]);
    for name in names {
        let [from, to] = [cluster.path(&name), other.path(&name)].map(|path| path.display().to_string());
        cluster.succeed(&["copy", &from, &to]);
    }
    let recovery = other.path("recovery.dstore").display().to_string();
    let file = ["--file", &recovery, "--passphrase-file", "{passphrase}"];
    cluster.succeed(&[&["control", "recovery", "export", "--data", "{control}"][..], &file].concat());
    let during = writers.count();
    assert!(during > before.len(), "it went on: {during}");
    writers.until(during + 10).await;
    writers.end().await;

    // Were the old ones there, the new ones would take them for themselves, by the addresses in the snapshot.
    let token = cluster.token.clone();
    drop(Arc::into_inner(cluster).expect("the writers have ended"));
    other.token = token;
    other.etcd.kill().unwrap();
    let data = other.etcd.folder().join("data");
    std::fs::remove_dir_all(&data).unwrap();
    etcdctl(&["snapshot", "restore", &snapshot, "--data-dir", &data.display().to_string()]);
    other.etcd.restart().unwrap();
    other.succeed(&[&["control", "recovery", "restore", "--data", "{control}"][..], &file].concat());
    other.start_control();
    other.node_settings = vec!["node.scrub_period=2"];
    other.begin_over_folders(NODES, 1);
    for member in other.nodes.iter().chain(&other.proxies) {
        other.until_member_says(member, "serving", |said| said["status"] == "ready" || said["status"] == "stale").await;
    }
    for number in before {
        let read = other.until_answer(&format!("{}{TABLE}/id/{number}", other.proxies[0].url()), 200).await;
        assert_eq!(read, item(number));
    }
    let after = format!("{}{TABLE}/id/1000000", other.proxies[0].url());
    assert_eq!(other.put(&after, &json!({ "n": 1 })).await.0, 201, "and life goes on");
    until_compared(&other, RANGES as f64 * 2.0).await;
}

/// How often these nodes have compared all copies of a range, in all; nothing may differ.
pub async fn compared(cluster: &Cluster) -> f64 {
    let mut compared = 0.0;
    for node in &cluster.nodes {
        let answer = cluster.client.get(node.metrics_url()).send().await.expect("an answer");
        let text = answer.text().await.expect("a whole answer");
        // One that is not told, or with labels now, is no 0: nothing would be compared by it.
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            line.unwrap_or_else(|| panic!("{} does not tell {name}", node.metrics_url()))
        };
        compared += number("dstore_node_scrub_ranges_compared_total");
        assert_eq!(number("dstore_node_scrub_copies_differing_total"), 0.0, "copies agree");
    }
    compared
}

/// Waits until ranges were compared so often. For a copy that is silent a comparison waits a minute, and a node compares its
/// ranges one after the other.
pub async fn until_compared(cluster: &Cluster, count: f64) {
    let deadline = Instant::now() + 3 * DEADLINE;
    loop {
        let compared = compared(cluster).await;
        if compared >= count {
            return;
        }
        assert!(Instant::now() < deadline, "{compared} ranges were compared, not {count}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
