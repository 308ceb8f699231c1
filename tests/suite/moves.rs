//! Copies and leaderships that move because somebody says so, in a cluster of processes over etcd, with data in the files and
//! writers that never stop: a leader and a copy moved, a node that hands over, is emptied and comes back, fewer copies and
//! then more, and a node that is given up.
//!
//! After each step every range is as it shall be, all its copies hold as many items, the writers have got on, and each item is
//! there in the version that was acknowledged last, or in one sent since. Whether the copies are the same to the byte the
//! nodes say themselves: they compare them all the time, by their digests.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::backup::{compared, until_compared};
use crate::cluster::Cluster;
use crate::splits::{TABLE, fill, is_passing, listed, range_files, ranges, until_read};

const NODES: usize = 4;
const RANGES: usize = 2;
const ITEMS: u64 = 200;
const WRITERS: usize = 3;
/// How long a step may take. Long before the 600 seconds are over after which a silent node would be given up anyway.
const PATIENCE: Duration = Duration::from_secs(180);
/// What a writer rests after each write: the nodes are to have time for the rest, too.
const PACE: Duration = Duration::from_millis(5);
/// The pause before what was refused is asked again.
const PAUSE: Duration = Duration::from_millis(50);
/// How many writes of each writer show that it has got on: enough for all ranges.
const FURTHER: u64 = 20;

/// A range that is as it shall be.
#[derive(Debug)]
struct Stand {
    range: String,
    leader: String,
    /// Where its copies are, all of which vote and hold as many items.
    nodes: BTreeSet<String>,
    items: u64,
}

/// How a range stands, as the command lists it; none while something about it is under way, missing or not told.
fn stand(range: &Value) -> Option<Stand> {
    let copies = range["replicas"].as_array()?;
    let is_whole = |copy: &Value| copy["state"] == "voter" && copy["table"]["quantity"] == range["quantity"];
    let is_well = range["health"] == "good" && range["coming"].is_null() && range["wished_leader"].is_null();
    if !is_well || !copies.iter().all(is_whole) {
        return None;
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Stand {
        range: text(&range["range"])?,
        leader: text(&range["leader"])?,
        nodes: copies.iter().filter_map(|copy| text(&copy["node"])).collect(),
        items: range["quantity"].as_u64()?,
    })
}

/// Waits until all ranges are as they shall be, with all items, and `holds`.
async fn until_stands(cluster: &Cluster, what: &str, holds: impl Fn(&[Stand]) -> bool) -> Vec<Stand> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = ranges(cluster);
        let stands: Vec<Stand> = told.iter().filter_map(stand).collect();
        let items: u64 = stands.iter().map(|range| range.items).sum();
        if told.len() == RANGES && stands.len() == RANGES && items == ITEMS && holds(stands.as_slice()) {
            return stands;
        }
        assert!(Instant::now() < deadline, "not in time: {what}: {told:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The nodes' names by their ids.
fn names(cluster: &Cluster) -> BTreeMap<String, String> {
    let nodes = cluster.admin(&["node", "list"]);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    nodes.as_array().expect("a list").iter().map(|node| (text(&node["id"]), text(&node["name"]))).collect()
}

/// Waits until each of these nodes has the files of the copies that it is to have, and no others.
async fn until_files(cluster: &Cluster, nodes: &BTreeMap<String, String>, stands: &[Stand]) {
    let copies = |node: &String| stands.iter().filter(|range| range.nodes.contains(node)).count();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let look = |(node, name): (&String, &String)| (name.clone(), range_files(&cluster.path(name)), copies(node));
        let found: Vec<(String, usize, usize)> = nodes.iter().map(look).collect();
        if found.iter().all(|(_, files, copies)| files == copies) {
            return;
        }
        assert!(Instant::now() < deadline, "files on the nodes, and how many there are to be: {found:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn shown(cluster: &Cluster, node: &str) -> Value {
    cluster.admin(&["node", "show", node])
}

/// Waits until nothing is given to a node any more.
async fn until_empty(cluster: &Cluster, node: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = shown(cluster, node);
        if shown["ranges"] == json!(0) && shown["held"] == json!([]) {
            return;
        }
        assert!(Instant::now() < deadline, "{shown}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Gives an admin command, which ends when what it asks for has come true.
async fn give(cluster: &Cluster, arguments: &[&str]) {
    let all = [&["control", "--output", "json"][..], arguments].concat();
    let mut command = tokio::process::Command::from(cluster.command(&all));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let Ok(ended) = tokio::time::timeout(PATIENCE, command.output()).await else {
        panic!("{arguments:?} did not end; the ranges: {:?}", ranges(cluster));
    };
    let output = ended.expect("the binary starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn give_of_range(cluster: &Cluster, verb: &str, range: &str, rest: &[&str]) {
    give(cluster, &[&["range", verb, "--tenant", "acme", "things", "--range", range][..], rest].concat()).await;
}

async fn give_factor(cluster: &Cluster, factor: &str) {
    give(cluster, &["table", "set", "--tenant", "acme", "things", "--replication-factor", factor]).await;
}

/// The versions of an item: the last that was acknowledged, and the last that was sent.
#[derive(Debug, Clone, Copy, Default)]
struct Versions {
    acknowledged: u64,
    sent: u64,
}

/// One who writes items of its own over and over.
struct Writer {
    client: reqwest::Client,
    token: String,
    url: String,
    known: Arc<Mutex<Vec<Versions>>>,
    has_ended: Arc<AtomicBool>,
}

impl Writer {
    async fn write(self, writer: u64) {
        for version in 1u64.. {
            for number in (writer..ITEMS).step_by(WRITERS) {
                if self.has_ended.load(Ordering::Relaxed) {
                    return;
                }
                self.known.lock()[number as usize].sent = version;
                self.until_acknowledged(number, version).await;
                self.known.lock()[number as usize].acknowledged = version;
            }
        }
    }

    /// Puts an item until that is acknowledged. Under its key it is one write, however often it is sent.
    async fn until_acknowledged(&self, number: u64, version: u64) {
        let url = format!("{}{TABLE}/id/{number}", self.url);
        let (key, item) = (format!("{number}-{version}"), json!({ "n": number, "v": version }).to_string());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = self.client.put(&url).bearer_auth(&self.token).header("idempotency-key", &key);
            let request = request.header("content-type", "application/json").body(item.clone());
            let answer = request.send().await.expect("the proxy answers");
            let status = answer.status().as_u16();
            // With 201 it would say that the item was not there before.
            if status == 200 {
                return tokio::time::sleep(PACE).await;
            }
            let body = answer.text().await.unwrap_or_default();
            assert!(is_passing(status) && Instant::now() < deadline, "item {number}: {status} {body}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The writers at work.
struct Load {
    known: Arc<Mutex<Vec<Versions>>>,
    has_ended: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn begin(cluster: &Cluster) -> Load {
        let known = Arc::new(Mutex::new(vec![Versions::default(); ITEMS as usize]));
        let has_ended = Arc::new(AtomicBool::new(false));
        let begin = |number: u64| {
            let writer = Writer {
                client: cluster.client.clone(),
                token: cluster.token.clone(),
                url: cluster.proxies[0].url(),
                known: known.clone(),
                has_ended: has_ended.clone(),
            };
            tokio::spawn(writer.write(number))
        };
        let tasks = (0..WRITERS as u64).map(begin).collect();
        Load { known, has_ended, tasks }
    }

    /// How many writes of each writer were acknowledged.
    fn written(&self) -> Vec<u64> {
        let known = self.known.lock();
        let of = |writer: usize| known.iter().skip(writer).step_by(WRITERS).map(|item| item.acknowledged).sum::<u64>();
        (0..WRITERS).map(of).collect()
    }

    /// Waits until every writer has got on, whose items are in all ranges.
    async fn until_further(&self) {
        let (before, deadline) = (self.written(), Instant::now() + PATIENCE);
        while self.written().iter().zip(&before).any(|(now, before)| *now < before + FURTHER) {
            let is_working = !self.tasks.iter().any(tokio::task::JoinHandle::is_finished);
            assert!(is_working && Instant::now() < deadline, "{:?} writes, before {before:?}", self.written());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The table lists all items and no others, and each is what was acknowledged last, or was sent since.
    async fn check(&self, cluster: &Cluster) {
        assert_eq!(listed(cluster).await, (0..ITEMS).collect::<Vec<u64>>());
        for number in 0..ITEMS {
            let least = self.known.lock()[number as usize].acknowledged;
            let item = until_read(cluster, &format!("{}{TABLE}/id/{number}", cluster.proxies[0].url())).await;
            let most = self.known.lock()[number as usize].sent;
            let version = item["v"].as_u64().unwrap_or(0);
            assert!(item["n"] == json!(number) && (least..=most).contains(&version), "{item}: {least} to {most}");
        }
    }

    /// Writes and reads go on, and nothing is lost.
    async fn goes_on(&self, cluster: &Cluster) {
        self.until_further().await;
        self.check(cluster).await;
    }

    /// Lets each writer end what it has begun; nothing is lost.
    async fn end(mut self, cluster: &Cluster) {
        self.has_ended.store(true, Ordering::Relaxed);
        for task in std::mem::take(&mut self.tasks) {
            task.await.expect("no write failed");
        }
        self.check(cluster).await;
    }
}

async fn filled() -> Cluster {
    let mut cluster = Cluster::start();
    cluster.node_settings = vec!["node.scrub_period=1"];
    fill(&mut cluster, NODES, RANGES as u64, ITEMS).await;
    cluster
}

/// All copies are compared, and are the same.
async fn until_all_compared(cluster: &Cluster) {
    let before = compared(cluster).await;
    until_compared(cluster, before + RANGES as f64 * 2.0).await;
}

fn have_copies(stands: &[Stand], count: usize) -> bool {
    stands.iter().all(|range| range.nodes.len() == count)
}

/// Of two ranges one can be given to any node that leads nothing. With as many ranges as nodes, leaderships would be spread
/// again at once, whatever the command says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_and_copies_go_where_they_are_told_to_go_while_the_table_serves() {
    let cluster = filled().await;
    let nodes = names(&cluster);
    let load = Load::begin(&cluster);
    let begun = until_stands(&cluster, "three copies", |all| have_copies(all, 3)).await;

    let (range, from) = (&begun[0].range, &begun[0].leader);
    let leads_nothing = |node: &&String| begun.iter().all(|range| range.leader != **node);
    let to = begun[0].nodes.iter().find(leads_nothing).expect("two ranges have two leaders at most");
    give_of_range(&cluster, "move-leader", range, &["--to", to]).await;
    let led = until_stands(&cluster, "another leader", |all| all[0].leader == *to).await;
    assert_eq!(led[0].nodes, begun[0].nodes, "the copies stay");
    load.goes_on(&cluster).await;

    let free = nodes.keys().find(|node| !led[0].nodes.contains(*node)).expect("a fourth node");
    give_of_range(&cluster, "move-replica", range, &["--from", from, "--to", free]).await;
    let mut expected = led[0].nodes.clone();
    assert!(expected.remove(from) && expected.insert(free.clone()));
    let moved = until_stands(&cluster, "the copy is elsewhere", |all| all[0].nodes == expected).await;
    assert_eq!(moved[1].nodes, begun[1].nodes, "the other range's copies stay");
    load.goes_on(&cluster).await;
    until_files(&cluster, &nodes, &moved).await;

    let giver = &moved[0].leader;
    give(&cluster, &["node", "hand-over", giver]).await;
    let leads = |all: &[Stand], node: &String| all.iter().any(|range| range.leader == *node);
    let handed = until_stands(&cluster, "it leads nothing", |all| !leads(all, giver)).await;
    assert!(handed.iter().zip(&moved).all(|(now, before)| now.nodes == before.nodes), "its copies stay: {handed:?}");
    assert!(!shown(&cluster, giver)["hand_over_until"].is_null());
    load.goes_on(&cluster).await;

    let leaving = &handed[0].leader;
    give(&cluster, &["node", "drain", leaving]).await;
    let is_on = |all: &[Stand], node: &String| all.iter().any(|range| range.nodes.contains(node));
    let is_gone = |all: &[Stand]| have_copies(all, 3) && !is_on(all, leaving);
    let emptied = until_stands(&cluster, "it has no copy left", is_gone).await;
    until_empty(&cluster, leaving).await;
    until_files(&cluster, &nodes, &emptied).await;
    load.goes_on(&cluster).await;
    let shown_leaving = shown(&cluster, leaving);
    assert_eq!((&shown_leaving["status"], &shown_leaving["leads"]), (&json!("draining"), &json!(0)));
    comes_back(&cluster, leaving).await;
    give(&cluster, &["node", "status", giver, "okay"]).await;
    assert!(shown(&cluster, giver)["hand_over_until"].is_null(), "that it handed over is taken back, too");
    until_all_compared(&cluster).await;
    load.end(&cluster).await;
}

/// A node that was emptied is given nothing; when it is welcome again, it is.
async fn comes_back(cluster: &Cluster, node: &str) {
    let emptied = until_stands(cluster, "three copies", |all| have_copies(all, 3)).await;
    let leaving = emptied[1].nodes.iter().find(|node| **node != emptied[1].leader).expect("one that does not lead");
    let (verb, which) = (["control", "range", "move-replica"], ["--range", &emptied[1].range]);
    let of_table = ["--tenant", "acme", "things", "--from", leaving, "--to", node];
    let output = cluster.run(&[&verb[..], &of_table, &which].concat());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && errors.contains("cannot take a copy now"), "{errors}");
    give(cluster, &["node", "status", node, "okay"]).await;
    assert_eq!(shown(cluster, node)["status"], json!("okay"));
    give_of_range(cluster, "move-replica", &emptied[1].range, &["--from", leaving, "--to", node]).await;
    let has_moved = |all: &[Stand]| all[1].nodes.contains(node) && !all[1].nodes.contains(leaving);
    let back = until_stands(cluster, "it has a copy again", |all| have_copies(all, 3) && has_moved(all)).await;
    until_files(cluster, &names(cluster), &back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_taken_away_and_made_anew_and_a_lost_node_is_replaced_when_it_is_given_up() {
    let mut cluster = filled().await;
    let mut nodes = names(&cluster);
    let load = Load::begin(&cluster);
    until_stands(&cluster, "three copies", |all| have_copies(all, 3)).await;

    give_factor(&cluster, "1").await;
    let alone = until_stands(&cluster, "one copy", |all| have_copies(all, 1)).await;
    until_files(&cluster, &nodes, &alone).await;
    load.goes_on(&cluster).await;

    give_factor(&cluster, "3").await;
    let made = until_stands(&cluster, "three copies again", |all| have_copies(all, 3)).await;
    until_files(&cluster, &nodes, &made).await;
    load.goes_on(&cluster).await;
    until_all_compared(&cluster).await;

    // The node that had the only copy: what is read from now on, is read from those that were made.
    let lost = &alone[0].leader;
    let name = nodes.remove(lost).expect("one of the nodes");
    let number = (0..NODES).find(|number| format!("node-{number}") == name).expect("one of the nodes");
    cluster.nodes[number].kill();
    load.goes_on(&cluster).await;
    let copies = |range: &Value| range["replicas"].as_array().cloned().unwrap_or_default();
    let is_named = ranges(&cluster).iter().flat_map(copies).any(|copy| copy["node"] == *lost);
    assert!(is_named, "that it is silent is no reason yet");
    give(&cluster, &["node", "status", lost, "down"]).await;
    let is_replaced = |all: &[Stand]| have_copies(all, 3) && all.iter().all(|range| !range.nodes.contains(lost));
    let restored = until_stands(&cluster, "three copies on the others", is_replaced).await;
    until_empty(&cluster, lost).await;
    assert_eq!(shown(&cluster, lost)["status"], json!("down"));
    until_files(&cluster, &nodes, &restored).await;
    load.goes_on(&cluster).await;
    load.end(&cluster).await;
}
