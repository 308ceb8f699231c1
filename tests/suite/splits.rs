//! A range that is split by the command, in a cluster of processes over etcd: items through a proxy before, meanwhile and
//! after, with a node that is away, and what is left on the nodes' disks.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::process::DEADLINE;

/// The table of these tests.
pub const TABLE: &str = "/v1/tenant/acme/table/things";
/// The pause before what was refused is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether this status says that a range is between two leaders, and nothing else: on a busy machine that may last longer than
/// a proxy tries.
pub fn is_passing(status: u16) -> bool {
    matches!(status, 421 | 503 | 504)
}

/// Reads what is at this address. A range may refuse for a moment; that something is not there is no such moment.
pub async fn until_read(cluster: &Cluster, url: &str) -> Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (status, body) = cluster.get(url).await;
        if status == 200 {
            return body;
        }
        assert!(is_passing(status) && Instant::now() < deadline, "{url}: {status} {body}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Items by their numbers, as the table lists them, page by page.
pub async fn listed(cluster: &Cluster) -> Vec<u64> {
    let mut all = Vec::new();
    let mut query = "?limit=7".to_owned();
    loop {
        let page = until_read(cluster, &format!("{}{TABLE}/id{query}", cluster.proxies[0].url())).await;
        all.extend(page["items"].as_array().unwrap().iter().map(|item| item["item"]["n"].as_u64().unwrap()));
        match page["cursor"].as_str() {
            Some(cursor) => query = format!("?limit=7&cursor={cursor}"),
            None => break,
        }
    }
    all.sort_unstable();
    all
}

/// Puts an item that is not there yet until that is acknowledged. Under its key it is one write, however often it is sent.
pub async fn until_put(cluster: &Cluster, number: u64, item: &Value) {
    let url = format!("{}{TABLE}/id/{number}", cluster.proxies[0].url());
    let deadline = Instant::now() + DEADLINE;
    loop {
        let request = cluster.request(Method::PUT, &url).header("idempotency-key", format!("put-{number}"));
        let request = request.header("content-type", "application/json").body(item.to_string());
        let answer = request.send().await.expect("the proxy answers");
        let status = answer.status().as_u16();
        if status == 201 {
            return;
        }
        let body = answer.text().await.unwrap_or_default();
        assert!(is_passing(status) && Instant::now() < deadline, "item {number}: {status} {body}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Puts the items of these numbers.
async fn put(cluster: &Cluster, numbers: Range<u64>) {
    for number in numbers {
        until_put(cluster, number, &json!({ "n": number })).await;
    }
}

/// The ranges of the table, as the command lists them.
pub fn ranges(cluster: &Cluster) -> Vec<Value> {
    let all = cluster.admin(&["range", "list", "--tenant", "acme", "things"]);
    all.as_array().expect("a list").clone()
}

/// Waits until the leaders count so many items in all. One that leads only just now is published a moment later, and until
/// then a copy is asked that may lack the last entries; a node that does not answer in time leaves a gap.
pub async fn until_quantity(cluster: &Cluster, expected: u64) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let told = ranges(cluster);
        let quantities: Option<Vec<u64>> = told.iter().map(|range| range["quantity"].as_u64()).collect();
        if quantities.is_some_and(|all| all.iter().sum::<u64>() == expected) {
            return;
        }
        assert!(Instant::now() < deadline, "not {expected} items: {told:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn id(range: &Value) -> String {
    range["range"].as_str().expect("an id").to_owned()
}

/// Files of ranges under a folder.
pub fn range_files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let count = |entry: std::fs::DirEntry| match entry.path() {
        path if path.is_dir() => range_files(&path),
        path => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            usize::from(name.ends_with(".db") && name != "node.db")
        }
    };
    entries.filter_map(Result::ok).map(count).sum()
}

/// Waits until each node has files of as many ranges as it was given, and no others.
async fn until_files(cluster: &Cluster, count: usize) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found: Vec<usize> = (0..3).map(|node| range_files(&cluster.path(&format!("node-{node}")))).collect();
        if found.iter().all(|files| *files == count) {
            return;
        }
        assert!(Instant::now() < deadline, "files on the nodes: {found:?}, not {count}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until all ranges are well.
async fn until_good(cluster: &Cluster) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let all = ranges(cluster);
        if all.iter().all(|range| range["health"] == "good" && range["split_from"]["begun"] != json!(false)) {
            return;
        }
        assert!(Instant::now() < deadline, "{all:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Adds so many nodes, a proxy, and a table of so many ranges with three copies each, and puts so many items into it.
pub async fn fill(cluster: &mut Cluster, nodes: usize, initial_ranges: u64, items: u64) {
    cluster.add_nodes(nodes);
    cluster.add_proxies(1);
    cluster.until_ready().await;
    let url = cluster.proxies[0].url();
    assert_eq!(cluster.send(Method::PUT, &format!("{url}/v1/tenant/acme"), None).await.0, 201);
    let definition = json!({ "id_type": "Integer", "initial_ranges": initial_ranges, "replication_factor": 3 });
    assert_eq!(cluster.put(&format!("{url}{TABLE}"), &definition).await.0, 201);
    put(cluster, 0..items).await;
}

async fn filled() -> Cluster {
    let mut cluster = Cluster::start();
    fill(&mut cluster, 3, 1, 40).await;
    cluster
}

/// Writes and reads through the proxy, one item after the other, until told to stop.
fn under_load(cluster: &Arc<Cluster>, next: &Arc<AtomicU64>, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let (cluster, next, stop) = (cluster.clone(), next.clone(), stop.clone());
    tokio::spawn(async move {
        while !stop.load(Ordering::SeqCst) {
            let number = next.fetch_add(1, Ordering::SeqCst);
            until_put(&cluster, number, &json!({ "n": number })).await;
            let known = number / 2;
            let url = format!("{}{TABLE}/id/{known}", cluster.proxies[0].url());
            assert_eq!(until_read(&cluster, &url).await, json!({ "n": known }));
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_is_split_while_it_serves_and_its_files_go() {
    let cluster = Arc::new(filled().await);
    until_files(&cluster, 1).await;
    let parent = id(&ranges(&cluster)[0]);
    let (next, stop) = (Arc::new(AtomicU64::new(40)), Arc::new(AtomicBool::new(false)));
    let load = under_load(&cluster, &next, &stop);
    let split = tokio::task::spawn_blocking({
        let cluster = cluster.clone();
        move || cluster.admin(&["range", "split", "--tenant", "acme", "things"])
    });
    let answer = split.await.unwrap();
    assert_eq!((answer["hash"].as_u64(), answer["ranges"].as_array().map(Vec::len)), (Some(1 << 31), Some(2)));
    stop.store(true, Ordering::SeqCst);
    load.await.unwrap();
    let written = next.load(Ordering::SeqCst);
    assert!(written > 40, "something was written meanwhile");
    let children = ranges(&cluster);
    let hashes = |range: &Value| (range["low_hash"].as_u64().unwrap(), range["high_hash"].as_u64().unwrap());
    assert_eq!(children.iter().map(hashes).collect::<Vec<_>>(), [(0, (1 << 31) - 1), (1 << 31, (1 << 32) - 1)]);
    assert!(children.iter().all(|range| range["split_from"]["range"] == parent.as_str()), "{children:?}");
    assert_eq!(listed(&cluster).await, (0..written).collect::<Vec<_>>());
    until_quantity(&cluster, written).await;
    // The parent's copies go, the children's stay.
    until_good(&cluster).await;
    until_files(&cluster, 2).await;
    // What makes no sense is told.
    for (arguments, told) in [
        (vec!["--range", &parent], "was split already, into"),
        (vec!["--range", "00000000-0000-4000-8000-000000000000"], "has no range"),
        (vec!["--hash", "5", "--at", "4000000000"], "choose one from 1 to 2147483647"),
    ] {
        let all = [&["control", "range", "split", "--tenant", "acme", "things"][..], &arguments].concat();
        let output = cluster.run(&all);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(told), "{all:?}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_takes_its_part_when_it_comes_back() {
    let mut cluster = filled().await;
    let leader = ranges(&cluster)[0]["leader"].as_str().unwrap().to_owned();
    let nodes = cluster.admin(&["node", "list"]);
    let name = |id: &str| {
        let node = nodes.as_array().unwrap().iter().find(|node| node["id"] == id).unwrap();
        node["name"].as_str().unwrap().to_owned()
    };
    let away = (0..3).find(|number| format!("node-{number}") != name(&leader)).unwrap();
    cluster.nodes[away].kill();
    cluster.admin(&["range", "split", "--tenant", "acme", "things", "--at", "1000000000"]);
    put(&cluster, 40..60).await;
    assert_eq!(listed(&cluster).await, (0..60).collect::<Vec<_>>());
    let waiting = ranges(&cluster);
    assert!(waiting.iter().all(|range| range["split_from"]["begun"] == json!(false)), "{waiting:?}");
    let mut nodes = std::mem::take(&mut cluster.nodes);
    cluster.begin(&mut nodes[away]);
    cluster.nodes = nodes;
    cluster.until_ready().await;
    until_good(&cluster).await;
    until_files(&cluster, 2).await;
    assert_eq!(listed(&cluster).await, (0..60).collect::<Vec<_>>());
    // A child is a range like any other: it is split again, and its leader is killed meanwhile.
    let upper = id(&ranges(&cluster)[1]);
    cluster.admin(&["range", "split", "--tenant", "acme", "things", "--range", &upper, "--no-wait"]);
    let leader = ranges(&cluster)[1]["leader"].as_str().unwrap().to_owned();
    let killed = (0..3).find(|number| format!("node-{number}") == name(&leader)).unwrap();
    cluster.nodes[killed].kill();
    put(&cluster, 60..80).await;
    let mut nodes = std::mem::take(&mut cluster.nodes);
    cluster.begin(&mut nodes[killed]);
    cluster.nodes = nodes;
    cluster.until_ready().await;
    until_files(&cluster, 3).await;
    until_good(&cluster).await;
    assert_eq!(ranges(&cluster).len(), 3);
    assert_eq!(listed(&cluster).await, (0..80).collect::<Vec<_>>());
}
