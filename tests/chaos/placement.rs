//! Changes of placement, as a person asks for them by the command, while other things go wrong: ranges are split, and copies and
//! leaderships move. Nobody waits for them, so what comes next meets them half done; when the storm is over, all of
//! them have to come to their end.
//!
//! Whether control hears it, and whether it refuses, is no matter: it may be away, or the range may be changing already. What is
//! drawn from the seed are numbers, which choose among the ranges and nodes that there are when it is asked.

use std::time::Instant;

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::process::DEADLINE;

/// So many more ranges than at the beginning, at most: disks are small, and each range takes some MiB of them.
const SPLITS_MAX: usize = 4;
/// The table, in the command's words.
const OF_TABLE: [&str; 3] = ["--tenant", "acme", "things"];

/// What is asked for. The numbers choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Two ranges in place of this one.
    Split(usize),
    /// Another leader of a range.
    Lead(usize, usize),
    /// A copy of a range from where one is to where none is.
    Move(usize, usize, usize),
    /// No leaderships at this node.
    HandOver(String),
}

impl Wish {
    /// Draws one; a node that it may be about is drawn already.
    pub fn draw(node: String, dice: &mut StdRng) -> Wish {
        let [range, one, other] = [(); 3].map(|()| dice.random_range(0..1000));
        match dice.random_range(0..8) {
            0 | 1 => Wish::Split(range),
            2 | 3 => Wish::Lead(range, one),
            4..=6 => Wish::Move(range, one, other),
            _ => Wish::HandOver(node),
        }
    }

    /// Asks for it, and says what came of that.
    pub async fn ask(&self, cluster: &Cluster) {
        let asked = async {
            let words = self.words(cluster).await?;
            cluster.ask(&words.iter().map(String::as_str).collect::<Vec<_>>()).await?;
            Ok::<String, String>(words.join(" "))
        };
        let told = asked.await.unwrap_or_else(|why| format!("refused, or not known: {why}"));
        crate::say(&format!("        {told}"));
    }

    /// The command, or why there is none.
    async fn words(&self, cluster: &Cluster) -> Result<Vec<String>, String> {
        let range = match self {
            Wish::HandOver(node) => return Ok(command(&["node", "hand-over", node])),
            Wish::Split(range) | Wish::Lead(range, _) | Wish::Move(range, ..) => *range,
        };
        let ranges = ranges(cluster).await?;
        let range = ranges.get(range % ranges.len().max(1)).ok_or("no range is there")?;
        let holders = nodes_of(&range["replicas"], "node");
        match self {
            Wish::Lead(_, to) => Ok(of_range("move-leader", range, &["--to", some(&holders, *to)?])),
            Wish::Move(_, from, to) => {
                let mut free = cluster.ask(&["node", "list"]).await?;
                let taken = [holders.clone(), nodes_of(&range["coming"], "node")].concat();
                if let Some(nodes) = free.as_array_mut() {
                    nodes.retain(|node| node["id"].as_str().is_some_and(|id| !taken.contains(&id)));
                }
                let (from, to) = (some(&holders, *from)?, some(&nodes_of(&free, "id"), *to)?);
                Ok(of_range("move-replica", range, &["--from", from, "--to", to]))
            }
            _ if parts(&ranges) < cluster.shape.ranges + SPLITS_MAX => Ok(of_range("split", range, &[])),
            _ => Err("there are enough ranges".to_owned()),
        }
    }
}

/// The ranges of the table.
async fn ranges(cluster: &Cluster) -> Result<Vec<Value>, String> {
    let listed = cluster.ask(&[&["range", "list"][..], &OF_TABLE].concat()).await?;
    listed.as_array().cloned().ok_or_else(|| format!("no list: {listed}"))
}

/// How many ranges there are when all have been split that are to be.
fn parts(ranges: &[Value]) -> usize {
    ranges.len() + ranges.iter().filter(|range| range["split_at"].is_u64()).count()
}

/// The nodes that a list names.
fn nodes_of<'a>(list: &'a Value, name: &str) -> Vec<&'a str> {
    list.as_array().into_iter().flatten().filter_map(|one| one[name].as_str()).collect()
}

/// One of these.
fn some<'a>(nodes: &[&'a str], choice: usize) -> Result<&'a str, String> {
    nodes.get(choice % nodes.len().max(1)).copied().ok_or_else(|| "no node is free".to_owned())
}

fn of_range(verb: &str, range: &Value, rest: &[&str]) -> Vec<String> {
    let id = range["range"].as_str().expect("a range has an id");
    command(&[&["range", verb][..], &OF_TABLE, &["--range", id], rest].concat())
}

fn command(words: &[&str]) -> Vec<String> {
    words.iter().chain(&["--no-wait"]).map(|word| (*word).to_owned()).collect()
}

/// Waits until every range is as it shall be: nothing that was asked for is left half done.
///
/// # Panics
/// Where that does not come.
pub async fn until_settled(cluster: &Cluster) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let ranges = ranges(cluster).await;
        let is_well = |range: &Value| range["health"] == "good" && range["split_from"]["begun"] != false;
        if let Ok(ranges) = &ranges
            && ranges.len() >= cluster.shape.ranges
            && ranges.iter().all(is_well)
        {
            return crate::say(&format!("{} ranges, all as they shall be", ranges.len()));
        }
        assert!(Instant::now() < deadline, "some ranges never come to be as they shall be: {ranges:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
