//! Nodes: invited, listed, emptied, removed.

use clap::Subcommand;
use serde_json::{Value, json};

use super::call::{Admin, Failure, escape};
use super::members::{InviteFlags, invite};
use super::output::Shown;
use super::waiting::{State, wait};
use crate::services::control::HAND_OVER_SECONDS;

/// `dstore control node …`
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Print a one-time join token for a new node
    Invite(InviteFlags),
    /// All nodes
    List,
    /// One node and the ranges it holds
    Show {
        /// Its name or UUID
        node: String,
    },
    /// Empty a node: all its copies of ranges move to other nodes
    Drain {
        /// Its name or UUID
        node: String,
        /// Return when it has begun
        #[arg(long)]
        no_wait: bool,
    },
    /// Hand the leaderships of a node over to others, as before a restart; its copies stay
    HandOver {
        /// Its name or UUID
        node: String,
        /// Return when it has begun
        #[arg(long)]
        no_wait: bool,
    },
    /// Remove a node; refused while it holds ranges
    Remove {
        /// Its name or UUID
        node: String,
        /// Remove it though it holds ranges, whose data is lost; type the node's name
        #[arg(long, value_name = "NAME")]
        lose_data: Option<String>,
    },
    /// Say that a node is given up (down), leaving (draining) or welcome (okay)
    Status {
        /// Its name or UUID
        node: String,
        /// What it is from now on
        #[arg(value_parser = ["okay", "draining", "down"])]
        status: String,
    },
}

const NODE: &[&str] = &["name", "id", "status", "alive", "zone", "ranges", "leads", "uri", "joined_at"];

pub(super) async fn node(command: &NodeCommand) -> Result<Shown, Failure> {
    if let NodeCommand::Invite(flags) = command {
        return invite("node", flags).await;
    }
    let admin = Admin::open()?;
    match command {
        NodeCommand::Invite(_) | NodeCommand::List => {
            Ok(Shown::new(admin.get("node").await?, NODE).sorted_by(&["name", "id"]))
        }
        NodeCommand::Show { node } => {
            let id = admin.id_of("node", node).await?;
            Ok(Shown::new(admin.get(&format!("node/{}", escape(&id))).await?, NODE))
        }
        NodeCommand::Drain { node, no_wait } => {
            let id = admin.id_of("node", node).await?;
            let answer = admin.post(&format!("node/{}/drain", escape(&id)), &json!({})).await?;
            if *no_wait {
                let what = format!("{node} is being emptied; `dstore control node show {node}` tells how far it is");
                return Ok(Shown::done(answer, what));
            }
            wait(&admin, &format!("node/{}", escape(&id)), emptied).await?;
            let next = format!("dstore control node remove {node}");
            Ok(Shown::done(answer, format!("{node} holds no range any more; stop it, and remove it with\n  {next}")))
        }
        NodeCommand::HandOver { node, no_wait } => {
            let id = admin.id_of("node", node).await?;
            let answer = admin.post(&format!("node/{}/hand-over", escape(&id)), &json!({})).await?;
            let minutes = HAND_OVER_SECONDS / 60;
            if *no_wait {
                let what = format!("{node} hands its leaderships over, and is given none for {minutes} minutes");
                return Ok(Shown::done(answer, what));
            }
            wait(&admin, &format!("node/{}", escape(&id)), handed_over).await?;
            Ok(Shown::done(
                answer,
                format!("{node} leads no range that another can lead; for {minutes} minutes it is given none"),
            ))
        }
        NodeCommand::Remove { node, lose_data } => {
            let id = admin.id_of("node", node).await?;
            let body = json!({ "lose_data": lose_data.is_some(), "typed_name": lose_data });
            let answer = admin.delete(&format!("node/{}", escape(&id)), Some(&body)).await?;
            Ok(Shown::done(answer, "removed; its certificate opens nothing any more"))
        }
        NodeCommand::Status { node, status } => {
            let id = admin.id_of("node", node).await?;
            let answer = admin.post(&format!("node/{}/status", escape(&id)), &json!({ "status": status })).await?;
            Ok(Shown::done(answer, format!("the node is {status} now")))
        }
    }
}

/// Whether a node that is being emptied holds nothing any more.
fn emptied(node: &Value) -> State {
    let count = |name: &str| node[name].as_u64().unwrap_or(0);
    let ranges = |count: u64| if count == 1 { "1 range".to_owned() } else { format!("{count} ranges") };
    match (count("ranges"), count("stuck")) {
        (0, _) => State::Done,
        (_, _) if node["status"] != "draining" => State::Never(format!(
            "the node is {} again; it is no longer emptied",
            node["status"].as_str().unwrap_or("-")
        )),
        (left, 0) => State::Waiting(format!("{} left", ranges(left))),
        (left, stuck) => State::Waiting(format!(
            "{} left, {stuck} of which no other node can take: start another node, or ask for fewer copies with `dstore control table set`",
            ranges(left)
        )),
    }
}

/// Whether a node that hands over leads nothing that another could lead.
fn handed_over(node: &Value) -> State {
    match node["leads_shared"].as_u64().or(node["leads"].as_u64()).unwrap_or(0) {
        0 => State::Done,
        1 => State::Waiting("it leads 1 range".to_owned()),
        left => State::Waiting(format!("it leads {left} ranges")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emptying_ends_when_nothing_is_left_and_says_what_is_stuck() {
        let node = |ranges, stuck| emptied(&json!({ "status": "draining", "ranges": ranges, "stuck": stuck }));
        assert_eq!(node(0, 0), State::Done);
        assert_eq!(node(1, 0), State::Waiting("1 range left".to_owned()));
        let State::Waiting(why) = node(7, 2) else { panic!("it is not empty") };
        assert!(why.starts_with("7 ranges left, 2 of which no other node can take"), "{why}");
        let back = emptied(&json!({ "status": "okay", "ranges": 3 }));
        assert_eq!(back, State::Never("the node is okay again; it is no longer emptied".to_owned()));
        assert_eq!(handed_over(&json!({ "leads": 5, "leads_shared": 0 })), State::Done);
    }
}
