//! Ranges: who serves them, how far their copies are, moving copies and leaderships, and splitting.
//!
//! Commands that move something write the wish and wait until it has come true, saying on stderr how far it is; with
//! `--no-wait` they return at once.

use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::call::{Admin, Failure, escape};
use super::output::Shown;
use super::tenants::{WhichTable, path_of};
use super::waiting::{State, wait};
use crate::cli::OutputFormat;

/// Which range of a table.
#[derive(Debug, Args)]
pub struct WhichRange {
    /// Which table
    #[command(flatten)]
    table: WhichTable,
    /// The range's UUID
    #[arg(long, value_name = "UUID", conflicts_with = "hash")]
    range: Option<String>,
    /// A hash, 0 to 4294967295
    #[arg(long, default_value_t = 0)]
    hash: u32,
}

/// `dstore control range …`
#[derive(Debug, Subcommand)]
pub enum RangeCommand {
    /// The ranges of a table, with what their nodes say of them: description and quantity, about
    List(WhichTable),
    /// One range: the one of a UUID, or the one that holds a hash
    Show(WhichRange),
    /// Have another node lead a range; it needs a copy that votes
    MoveLeader {
        /// Which
        #[command(flatten)]
        which: WhichRange,
        /// The name or UUID of the node that is to lead
        #[arg(long, value_name = "NODE")]
        to: String,
        /// Return when the wish is written
        #[arg(long)]
        no_wait: bool,
    },
    /// Move a copy of a range from one node to another
    MoveReplica {
        /// Which
        #[command(flatten)]
        which: WhichRange,
        /// The name or UUID of the node whose copy goes
        #[arg(long, value_name = "NODE")]
        from: String,
        /// The name or UUID of the node that gets one
        #[arg(long, value_name = "NODE")]
        to: String,
        /// Return when the wish is written
        #[arg(long)]
        no_wait: bool,
    },
    /// Split a range in two, in the middle of its hashes or at one; its writes wait while its copies are made
    Split {
        /// Which
        #[command(flatten)]
        which: WhichRange,
        /// The first hash of the upper part [default: the middle]
        #[arg(long, value_name = "HASH")]
        at: Option<u32>,
        /// Return when the wish is written
        #[arg(long)]
        no_wait: bool,
    },
}

const RANGE: &[&str] = &[
    "RID_TENANT",
    "RID_TABLE",
    "HASH_START",
    "HASH_END",
    "QUANTITY",
    "UUID",
    "TABLE_VERSION",
    "range",
    "epoch",
    "leader",
    "replicas",
    "health",
    "lag",
];

pub(super) async fn range(command: &RangeCommand, format: OutputFormat) -> Result<Shown, Failure> {
    let admin = Admin::open()?;
    let (is_one, answer) = match command {
        RangeCommand::List(which) => (false, admin.get(&format!("{}/range", path_of(&admin, which)?)).await?),
        RangeCommand::Show(which) => (true, found(&admin, which).await?),
        RangeCommand::MoveLeader { which, to, no_wait } => return move_leader(&admin, which, to, *no_wait).await,
        RangeCommand::MoveReplica { which, from, to, no_wait } => {
            return move_replica(&admin, which, [from, to], *no_wait).await;
        }
        RangeCommand::Split { which, at, no_wait } => return split(&admin, which, *at, *no_wait, format).await,
    };
    let answer = match (format, answer) {
        (OutputFormat::Json, answer) => answer,
        (OutputFormat::Human, Value::Array(ranges)) => ranges.iter().map(flat).collect(),
        (OutputFormat::Human, range) => {
            let mut row = flat(&range);
            if is_one {
                row["copies"] = copies(&range).into();
            }
            row
        }
    };
    Ok(Shown::new(answer, RANGE))
}

/// The range that is meant.
async fn found(admin: &Admin, which: &WhichRange) -> Result<Value, Failure> {
    let path = path_of(admin, &which.table)?;
    if let Some(range) = &which.range {
        return admin.get(&format!("{path}/range/{}", escape(range))).await;
    }
    let hash = which.hash;
    let ranges = admin.get(&format!("{path}/range")).await?;
    let holds = |range: &&Value| {
        let bound = |name: &str| range[name].as_u64().unwrap_or(u64::MAX);
        (bound("low_hash")..=bound("high_hash")).contains(&u64::from(hash))
    };
    let found = ranges.as_array().and_then(|ranges| ranges.iter().find(holds)).cloned();
    found.ok_or_else(|| Failure::not_found(format!("no range holds the hash {hash}")))
}

/// The path of the range that is meant.
async fn range_path(admin: &Admin, which: &WhichRange) -> Result<String, Failure> {
    let range = found(admin, which).await?;
    let id = range["range"].as_str().unwrap_or_default();
    Ok(format!("{}/range/{}", path_of(admin, &which.table)?, escape(id)))
}

async fn move_leader(admin: &Admin, which: &WhichRange, to: &str, no_wait: bool) -> Result<Shown, Failure> {
    let (path, node) = (range_path(admin, which).await?, admin.id_of("node", to).await?);
    let answer = admin.post(&format!("{path}/move-leader"), &json!({ "to": node })).await?;
    if no_wait {
        return Ok(Shown::done(
            answer,
            format!("{to} is to lead the range; `dstore control range show` tells when it does"),
        ));
    }
    let was_wished = AtomicBool::new(false);
    wait(admin, &path, |range| leadership(range, &node, &was_wished)).await?;
    Ok(Shown::done(answer, format!("{to} leads the range")))
}

/// How far the wish is that this node lead the range. Where it was seen once and is gone, another took its place.
fn leadership(range: &Value, node: &str, was_wished: &AtomicBool) -> State {
    let leader = range["leader"].as_str();
    if leader == Some(node) {
        return State::Done;
    }
    let is_wished = range["wished_leader"] == node;
    if was_wished.fetch_or(is_wished, Ordering::Relaxed) && !is_wished {
        return State::Never(
            "another node is to lead the range by now: control spreads leaderships evenly over the nodes that hold copies. Move that of another range away from this node first".to_owned(),
        );
    }
    State::Waiting(format!("the range is still led by {}", leader.unwrap_or("nobody")))
}

async fn move_replica(
    admin: &Admin,
    which: &WhichRange,
    [from, to]: [&String; 2],
    no_wait: bool,
) -> Result<Shown, Failure> {
    let path = range_path(admin, which).await?;
    let (leaving, coming) = (admin.id_of("node", from).await?, admin.id_of("node", to).await?);
    let answer = admin.post(&format!("{path}/move-replica"), &json!({ "from": leaving, "to": coming })).await?;
    if no_wait {
        let what = format!("the copy on {from} is to move to {to}; `dstore control range show` tells when it has");
        return Ok(Shown::done(answer, what));
    }
    let has_moved = |range: &Value| {
        let state = |node: &str| {
            let replicas = range["replicas"].as_array().into_iter().flatten();
            replicas.filter(|replica| replica["node"] == node).map(|replica| replica["state"].clone()).next()
        };
        match (state(&leaving), state(&coming)) {
            (None, Some(Value::String(state))) if state == "voter" => State::Done,
            (_, None) => State::Waiting(format!("{to} has no copy yet")),
            (_, Some(Value::String(state))) if state != "voter" => {
                State::Waiting(format!("the copy on {to} is being filled"))
            }
            _ => State::Waiting(format!("the copy on {from} is leaving")),
        }
    };
    wait(admin, &path, has_moved).await?;
    Ok(Shown::done(answer, format!("the copy is on {to}")))
}

async fn split(
    admin: &Admin,
    which: &WhichRange,
    at: Option<u32>,
    no_wait: bool,
    format: OutputFormat,
) -> Result<Shown, Failure> {
    // A range that is named is asked for even where no list shows it: control knows whether it was split.
    let table = path_of(admin, &which.table)?;
    let id = match &which.range {
        Some(range) => range.clone(),
        None => found(admin, which).await?["range"].as_str().unwrap_or_default().to_owned(),
    };
    let answer = admin.post(&format!("{table}/range/{}/split", escape(&id)), &json!({ "at": at })).await?;
    let hash = answer["hash"].as_u64().unwrap_or_default();
    // People are told in a sentence.
    let shown = |answer: Value| if format == OutputFormat::Json { answer } else { Value::Null };
    if no_wait {
        let what = format!("the range is to be split at {hash}; `dstore control range list` tells when it is");
        return Ok(Shown::done(shown(answer), what));
    }
    let ranges = wait(admin, &format!("{table}/range"), |ranges| split_state(ranges, &id)).await?;
    let answer = json!({ "hash": hash, "ranges": children_of(&ranges, &id).collect::<Vec<_>>() });
    let names: Vec<&str> = children_of(&ranges, &id).filter_map(|range| range["range"].as_str()).collect();
    let what = format!("the range is split at {hash}, into {}", names.join(" and "));
    Ok(Shown::done(shown(answer), what))
}

/// The children of a range.
fn children_of<'a>(ranges: &'a Value, parent: &'a str) -> impl Iterator<Item = &'a Value> {
    let ranges = ranges.as_array().into_iter().flatten();
    ranges.filter(move |range| range["split_from"]["range"] == parent)
}

/// How far a split is, as the table's ranges show it.
fn split_state(ranges: &Value, parent: &str) -> State {
    let is_there = ranges.as_array().into_iter().flatten().any(|range| range["range"] == parent);
    let children: Vec<&Value> = children_of(ranges, parent).collect();
    if is_there {
        return State::Waiting("the copies of the range make the copies of its parts".to_owned());
    }
    if children.is_empty() {
        return State::Never("the range is gone and nothing comes from it: was its table dropped?".to_owned());
    }
    if children.iter().any(|child| child["health"] == "changing") {
        return State::Waiting("the parts are given to their nodes".to_owned());
    }
    State::Done
}

/// A range as a row for people: the description by the leader's node, and who that is. What is not known is empty.
fn flat(range: &Value) -> Value {
    let replicas = range["replicas"].as_array().map(Vec::as_slice).unwrap_or_default();
    let said = replicas.iter().find(|replica| replica["node"] == range["leader"]).map(|replica| &replica["table"]);
    let said = |name: &str| said.map_or(Value::Null, |table| table[name].clone());
    json!({
        "RID_TENANT": said("rid_tenant"),
        "RID_TABLE": said("rid_table"),
        "HASH_START": range["low_hash"],
        "HASH_END": range["high_hash"],
        "QUANTITY": range["quantity"],
        "UUID": said("uuid"),
        "TABLE_VERSION": said("table_version"),
        "range": range["range"],
        "epoch": range["epoch"],
        "leader": range["leader"],
        "replicas": replicas.len(),
        "health": match range["split_at"].as_u64() {
            Some(at) => Value::from(format!("splitting at {at}")),
            None => range["health"].clone(),
        },
        "lag": replicas.iter().filter_map(|replica| replica["lag"].as_u64()).max(),
    })
}

/// Each copy in a few words.
fn copies(range: &Value) -> Vec<String> {
    let of = |replica: &Value| {
        let mut words = vec![replica["node"].as_str().unwrap_or("-").to_owned()];
        let is_leader = replica["node"] == range["leader"];
        words.push(if is_leader { "leader".to_owned() } else { replica["state"].as_str().unwrap_or("-").to_owned() });
        words.extend(replica["lag"].as_u64().filter(|lag| *lag > 0).map(|lag| format!("{lag} behind")));
        words.extend((replica["is_leaving"] == true).then(|| "leaving".to_owned()));
        words.join(" ")
    };
    let members = range["replicas"].as_array().into_iter().flatten().map(of);
    let coming = range["coming"].as_array().into_iter().flatten();
    members.chain(coming.map(|copy| format!("{} coming", copy["node"].as_str().unwrap_or("-")))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_done_when_its_parts_are_and_the_range_is_gone() {
        let parent = json!({"range": "p", "health": "changing", "split_at": 5});
        let child = |range: &str, health: &str| json!({"range": range, "health": health, "split_from": {"range": "p", "index": 1, "begun": false}});
        let state = |ranges: Value| split_state(&ranges, "p");
        assert!(matches!(state(json!([parent])), State::Waiting(_)));
        assert!(matches!(state(json!([child("a", "changing"), child("b", "good")])), State::Waiting(_)));
        assert_eq!(state(json!([child("a", "good"), child("b", "under-replicated")])), State::Done);
        assert!(matches!(state(json!([{"range": "other", "health": "good"}])), State::Never(_)));
    }

    #[test]
    fn a_wish_for_a_leader_ends_when_it_comes_true_or_another_takes_its_place() {
        let was_wished = AtomicBool::new(false);
        let state = |leader: &str, wished: Option<&str>| {
            leadership(&json!({"leader": leader, "wished_leader": wished}), "n2", &was_wished)
        };
        assert!(matches!(state("n1", None), State::Waiting(_)), "the wish may not be known yet");
        assert!(matches!(state("n1", Some("n2")), State::Waiting(_)));
        assert_eq!(state("n2", None), State::Done);
        assert!(matches!(state("n1", None), State::Never(_)));
        assert!(matches!(state("n1", Some("n3")), State::Never(_)));
        assert!(matches!(state("n1", Some("n2")), State::Waiting(_)));
    }

    #[test]
    fn a_range_is_a_row_also_where_its_node_is_silent() {
        let report =
            json!({"rid_tenant": "acme", "rid_table": "users", "uuid": "u", "table_version": 2, "quantity": 7});
        let mut range = json!({
            "range": "r", "low_hash": 0, "high_hash": 9, "epoch": 1, "leader": "n2", "quantity": 7,
            "replicas": [{"node": "n1", "table": null}, {"node": "n2", "table": report}],
        });
        let row = flat(&range);
        let shown =
            ["RID_TENANT", "HASH_END", "QUANTITY", "UUID", "TABLE_VERSION", "replicas"].map(|name| row[name].clone());
        assert_eq!(shown, [json!("acme"), json!(9), json!(7), json!("u"), json!(2), json!(2)]);
        range["replicas"][0]["state"] = json!("learner");
        range["replicas"][0]["lag"] = json!(12);
        range["coming"] = json!([{"node": "n3", "replica": "r3"}]);
        assert_eq!(copies(&range), ["n1 learner 12 behind", "n2 leader", "n3 coming"]);
        assert_eq!(flat(&range)["lag"], 12);
        range["split_at"] = json!(5);
        assert_eq!(flat(&range)["health"], "splitting at 5");
        range["replicas"][1]["table"] = Value::Null;
        range["quantity"] = Value::Null;
        let row = flat(&range);
        assert_eq!((&row["QUANTITY"], &row["UUID"], &row["leader"]), (&Value::Null, &Value::Null, &json!("n2")));
    }
}
