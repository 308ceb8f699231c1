//! The end of a run: everything is whole again, every key is read, and the judges look at what the clients wrote down.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dstore_checkers::{Action, Answer, Condition, NEVER, Operation, Stored, check_end, check_key, check_versions};
use futures_util::{StreamExt, stream};

use crate::cluster::{Cluster, TABLE};
use crate::process::DEADLINE;
use crate::rest::{self, Told};
use crate::workload::Workload;

/// Who reads at the end, in histories.
const LAST_READER: u64 = 1_000;
/// Reads at the same time.
const READERS: usize = 8;

/// Waits until the cluster is whole, reads every key, and judges.
///
/// # Panics
/// With what was found, and where so little was done that nothing is proven.
pub async fn verify(cluster: &mut Cluster, workload: &Arc<Workload>, seed: u64) {
    let findings = findings(cluster, workload, seed).await;
    let tally = workload.tally();
    crate::say(&format!("{} operations: {tally:?}", workload.operations()));
    assert!(findings.is_empty(), "seed {seed}:\n{}", findings.join("\n"));
    for kind in ["read done", "put done", "merge done", "delete done", "put refused", "merge refused"] {
        assert!(tally.get(kind).is_some_and(|count| *count > 0), "no {kind}: this run proves little: {tally:?}");
    }
}

/// Waits until the cluster is whole, reads every key, and tells what cannot be explained.
pub async fn findings(cluster: &mut Cluster, workload: &Arc<Workload>, seed: u64) -> Vec<String> {
    cluster.until_all_ready().await;
    let keys: Vec<String> = workload.histories().into_keys().collect();
    let found: BTreeMap<String, Option<Stored>> = stream::iter(keys.iter())
        .map(|key| async { (key.clone(), last_read(cluster, workload, key).await) })
        .buffer_unordered(READERS)
        .collect()
        .await;
    until_copies_agree(cluster, &found).await;
    let mut findings = workload.wrong();
    for (key, history) in workload.histories() {
        let verdicts = [
            check_versions(&history),
            check_end(&history, found[&key].as_ref()),
            check_key(&history).map_err(|violation| violation.explanation),
        ];
        for problem in verdicts.into_iter().filter_map(Result::err) {
            findings.push(format!("{key}: {problem}\n(all of it: {})", write_out(seed, &key, &history)));
        }
    }
    findings
}

fn write_out(seed: u64, key: &str, history: &[Operation]) -> String {
    let path = std::env::temp_dir().join(format!("dstore-chaos-{seed}-{key}.txt"));
    let mut sorted: Vec<&Operation> = history.iter().collect();
    sorted.sort_by_key(|operation| operation.asked);
    let mut text = String::new();
    for operation in sorted {
        let _ = writeln!(text, "{operation}");
    }
    let _ = std::fs::write(&path, text);
    path.display().to_string()
}

/// Reads a key until there is an answer, and writes that down like any other read.
async fn last_read(cluster: &Cluster, workload: &Workload, key: &str) -> Option<Stored> {
    let deadline = Instant::now() + DEADLINE;
    for attempt in 0.. {
        let asked = workload.now();
        let operation = Operation {
            client: LAST_READER,
            action: Action::Read,
            condition: Condition::Always,
            asked,
            answered: NEVER,
            answer: Answer::Unknown,
        };
        let url = format!("{}{TABLE}/id/{key}", cluster.proxies[attempt % cluster.proxies.len()].url());
        match rest::send(rest::request(&cluster.client, &url, &cluster.token, &operation), true).await {
            Told::Ended(answer) => {
                workload.note(key, Operation { answered: workload.now(), answer: answer.clone(), ..operation });
                let Answer::Item(item) = answer else { panic!("{key}: {answer:?} to a read") };
                return item;
            }
            other => assert!(Instant::now() < deadline, "{key} cannot be read at the end: {other:?}"),
        }
        wait_a_moment().await;
    }
    None
}

/// Waits until every node that has a copy of a key shows what the strong read showed.
async fn until_copies_agree(cluster: &Cluster, found: &BTreeMap<String, Option<Stored>>) {
    let copies = stream::iter(found.iter())
        .map(|(key, item)| until_copies_show(cluster, key, item.as_ref()))
        .buffer_unordered(READERS)
        .fold(0, |sum, copies| async move { sum + copies })
        .await;
    crate::say(&format!("{copies} copies of {} keys agree", found.len()));
}

/// Waits until as many nodes as there shall be copies show this item, and no node another one; how many those are. All are
/// asked again where some are missing, for a copy may move from one that is asked later to one that was asked before.
async fn until_copies_show(cluster: &Cluster, key: &str, item: Option<&Stored>) -> usize {
    let operation = Operation {
        client: LAST_READER,
        action: Action::Read,
        condition: Condition::Always,
        asked: 0,
        answered: NEVER,
        answer: Answer::Unknown,
    };
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (mut copies, mut others) = (0, Vec::new());
        for node in &cluster.nodes {
            let url = format!("{}{TABLE}/id/{key}?consistency=eventual", node.url());
            match rest::send(rest::request(&cluster.client, &url, &cluster.token, &operation), true).await {
                Told::NotDone(why) if why.starts_with("421") => {}
                Told::Ended(Answer::Item(copy)) if copy.as_ref() == item => copies += 1,
                other => others.push(format!("{} says {other:?}", node.host.name)),
            }
        }
        if others.is_empty() && copies >= cluster.shape.replication_factor {
            return copies;
        }
        assert!(
            Instant::now() < deadline,
            "{key}: a strong read shows {item:?}, and so do {copies} copies; {}",
            if others.is_empty() { "the others are nowhere".to_owned() } else { others.join(", ") }
        );
        wait_a_moment().await;
    }
}

async fn wait_a_moment() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
