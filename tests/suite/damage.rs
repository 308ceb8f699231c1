//! The worst that a disk does short of failing: a byte of a file turns, and a folder is put back from an older copy. The
//! cluster finds out by itself, replaces the copies, and loses nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::splits::{TABLE, until_put};

/// How long a copy may take to be found damaged and replaced.
const PATIENCE: Duration = Duration::from_secs(120);

fn item(number: u64) -> Value {
    json!({ "n": number, "text": "so much text ".repeat(40) })
}

async fn write(cluster: &Cluster, numbers: std::ops::Range<u64>) {
    for number in numbers {
        until_put(cluster, number, &item(number)).await;
    }
}

async fn all_are_there(cluster: &Cluster, count: u64) {
    let url = cluster.proxies[0].url();
    for number in 0..count {
        assert_eq!(cluster.until_answer(&format!("{url}{TABLE}/id/{number}"), 200).await, item(number));
    }
}

fn range(cluster: &Cluster) -> Value {
    cluster.admin(&["range", "list", "things", "--tenant", "acme"])[0].clone()
}

/// The voters of the range by their nodes, where it is in good health and has three.
fn copies(cluster: &Cluster) -> Option<BTreeMap<String, String>> {
    let range = range(cluster);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let replicas = range["replicas"].as_array()?.iter();
    let voters = replicas.filter(|copy| copy["state"] == "voter");
    let voters: BTreeMap<_, _> =
        voters.filter_map(|copy| Some((text(&copy["node"])?, text(&copy["replica"])?))).collect();
    (range["health"] == "good" && voters.len() == 3).then_some(voters)
}

/// Waits until the range is in good health and `holds`.
async fn until_copies(
    cluster: &Cluster,
    what: &str,
    holds: impl Fn(&BTreeMap<String, String>) -> bool,
) -> BTreeMap<String, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match copies(cluster) {
            Some(copies) if holds(&copies) => return copies,
            _ => {}
        }
        assert!(Instant::now() < deadline, "not in time: {what}: {}, {}", range(cluster), notices(cluster));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn notices(cluster: &Cluster) -> String {
    cluster.succeed(&["control", "notice", "list"])
}

async fn until_told(cluster: &Cluster, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !notices(cluster).contains(text) {
        assert!(Instant::now() < deadline, "{text} is not in {}", notices(cluster));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn node_id(cluster: &Cluster, name: &str) -> String {
    let nodes = cluster.admin(&["node", "list"]);
    let node = nodes.as_array().unwrap().iter().find(|node| node["name"] == name).expect("it is there");
    node["id"].as_str().expect("an id").to_owned()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn copy_folder(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, target).unwrap();
    }
}

/// Flips a byte in the middle of the largest file of items in a node's folder; whether it did. It does not where the file
/// has a write-ahead log, as when a reader was at work as the node stopped: a page that stands there, too, is copied from
/// there into the file, over the flipped byte, before anybody meets it.
fn flip(folder: &Path) -> bool {
    let is_items = |path: &PathBuf| path.extension().is_some_and(|end| end == "db") && !path.ends_with("node.db");
    let length = |path: &PathBuf| std::fs::metadata(path).unwrap().len();
    let largest = files(folder).into_iter().filter(is_items).max_by_key(length).expect("a file of items");
    let log = largest.with_extension("db-wal");
    if log.exists() && length(&log) > 0 {
        return false;
    }
    let file = std::fs::File::options().read(true).write(true).open(&largest).unwrap();
    let position = length(&largest) / 8192 * 4096 + 2000;
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 4], position).unwrap();
    true
}

/// Stops the node of this number, does something to its folder, and starts it again.
fn change_folder<T>(cluster: &mut Cluster, number: usize, change: impl FnOnce(&Path) -> T) -> T {
    let mut node = cluster.nodes.remove(number);
    assert_eq!(node.stop(), Some(0));
    let changed = change(&cluster.path(&format!("node-{number}")));
    cluster.begin(&mut node);
    cluster.nodes.insert(number, node);
    changed
}

/// Flips a byte in a file of the node of this number, once it stops with all that it has in its files.
async fn damage(cluster: &mut Cluster, number: usize) {
    let deadline = Instant::now() + PATIENCE;
    while !change_folder(cluster, number, flip) {
        assert!(Instant::now() < deadline, "the node never stops with an empty write-ahead log");
        cluster.until_ready().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turned_byte_and_a_folder_that_was_put_back_are_found_out_and_replaced() {
    let mut cluster = Cluster::start();
    cluster.node_settings = vec!["node.scrub_period=2"];
    cluster.add_nodes(3);
    cluster.add_proxies(1);
    cluster.until_ready().await;
    let url = cluster.proxies[0].url();
    assert_eq!(cluster.send(reqwest::Method::PUT, &format!("{url}/v1/tenant/acme"), None).await.0, 201);
    let definition = json!({ "id_type": "Integer", "initial_ranges": 1, "replication_factor": 3 });
    assert_eq!(cluster.put(&format!("{url}{TABLE}"), &definition).await.0, 201);
    let first = until_copies(&cluster, "three copies", |_| true).await;
    write(&cluster, 0..200).await;

    let damaged = node_id(&cluster, "node-0");
    damage(&mut cluster, 0).await;
    let second = until_copies(&cluster, "the damaged copy is replaced", |copies| {
        copies.get(&damaged).is_some_and(|copy| *copy != first[&damaged])
    })
    .await;
    assert!(first.iter().all(|(node, copy)| *node == damaged || second[node] == *copy), "the good ones stay");
    until_told(&cluster, "of its file is damaged").await;
    until_told(&cluster, "another one takes its place").await;
    all_are_there(&cluster, 200).await;

    let older = node_id(&cluster, "node-1");
    let copy = tempfile::tempdir().unwrap();
    change_folder(&mut cluster, 1, |folder| copy_folder(folder, copy.path()));
    cluster.until_ready().await;
    write(&cluster, 200..260).await;
    change_folder(&mut cluster, 1, |folder| {
        std::fs::remove_dir_all(folder).unwrap();
        copy_folder(copy.path(), folder);
    });
    let third = until_copies(&cluster, "the copy of an older folder is replaced", |copies| {
        copies.get(&older).is_some_and(|copy| *copy != second[&older])
    })
    .await;
    assert!(second.iter().all(|(node, copy)| *node == older || third[node] == *copy), "the good ones stay");
    until_told(&cluster, "an older copy of itself").await;
    all_are_there(&cluster, 260).await;
    write(&cluster, 260..270).await;
}
