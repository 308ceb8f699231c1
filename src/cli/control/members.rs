//! Nodes, proxies, reporters, keys and notices.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::call::{Admin, Failure, escape};

/// Whom to invite.
#[derive(Debug, Args)]
pub struct InviteFlags {
    /// The name that it will have
    #[arg(long)]
    name: Option<String>,
    /// How long the join token is good, in seconds; a day where none is given
    #[arg(long)]
    seconds: Option<u64>,
}

/// `dstore control node …`
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Print a one-time join token for a new node
    Invite(InviteFlags),
    /// All nodes
    List,
    /// One node and the ranges it holds
    Show {
        /// Its UUID
        id: String,
    },
    /// Remove a node; refused while it holds ranges
    Remove {
        /// Its UUID
        id: String,
        /// Remove it though it holds ranges, whose data is lost; type the node's name
        #[arg(long, value_name = "NAME")]
        lose_data: Option<String>,
    },
    /// Say that a node is given up (down) or welcome (okay)
    Status {
        /// Its UUID
        id: String,
        /// okay, draining or down
        status: String,
    },
}

/// `dstore control proxy|reporter …`
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Print a one-time join token
    Invite(InviteFlags),
    /// All of them
    List,
    /// One of them
    Show {
        /// Its UUID
        id: String,
    },
    /// Remove one; its certificate opens nothing any more
    Remove {
        /// Its UUID
        id: String,
    },
}

/// `dstore control key …`
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// All keys: UUID, kind, version, age
    List,
    /// Begin the rotation of control's part of a key
    Rotate {
        /// token, node, proxy, reporting or tenant
        kind: String,
        /// Whose, but for token
        #[arg(long)]
        owner: Option<String>,
    },
}

/// `dstore control notice …`
#[derive(Debug, Subcommand)]
pub enum NoticeCommand {
    /// All notices, repeats counted
    List,
    /// Remove a component's notices
    Acknowledge {
        /// The component's UUID
        component: String,
        /// Up to this timestamp; all where none is given
        #[arg(long)]
        up_to: Option<String>,
    },
}

async fn invite(role: &str, flags: &InviteFlags) -> Result<Value, Failure> {
    let body = json!({ "role": role, "name": flags.name, "seconds": flags.seconds });
    Admin::open()?.post("invitation", &body).await
}

pub(super) async fn node(command: &NodeCommand) -> Result<Value, Failure> {
    if let NodeCommand::Invite(flags) = command {
        return invite("node", flags).await;
    }
    let admin = Admin::open()?;
    match command {
        NodeCommand::Invite(_) | NodeCommand::List => admin.get("node").await,
        NodeCommand::Show { id } => admin.get(&format!("node/{}", escape(id))).await,
        NodeCommand::Remove { id, lose_data } => {
            let body = json!({ "lose_data": lose_data.is_some(), "typed_name": lose_data });
            admin.delete(&format!("node/{}", escape(id)), Some(&body)).await
        }
        NodeCommand::Status { id, status } => {
            admin.post(&format!("node/{}/status", escape(id)), &json!({ "status": status })).await
        }
    }
}

pub(super) async fn member(noun: &str, role: &str, command: &MemberCommand) -> Result<Value, Failure> {
    if let MemberCommand::Invite(flags) = command {
        return invite(role, flags).await;
    }
    let admin = Admin::open()?;
    match command {
        MemberCommand::Invite(_) | MemberCommand::List => admin.get(noun).await,
        MemberCommand::Show { id } => {
            let all = admin.get(noun).await?;
            let found = all.as_array().and_then(|all| all.iter().find(|one| one["id"] == id.as_str())).cloned();
            found.ok_or_else(|| format!("there is no {noun} {id}").into())
        }
        MemberCommand::Remove { id } => admin.delete(&format!("{noun}/{}", escape(id)), None).await,
    }
}

pub(super) async fn key(command: &KeyCommand) -> Result<Value, Failure> {
    let admin = Admin::open()?;
    match command {
        KeyCommand::List => admin.get("key").await,
        KeyCommand::Rotate { kind, owner } => {
            let owner = owner.as_ref().map(|owner| format!("?owner={}", escape(owner))).unwrap_or_default();
            admin.post(&format!("key/{}/rotate{owner}", escape(kind)), &json!({})).await
        }
    }
}

pub(super) async fn notice(command: &NoticeCommand) -> Result<Value, Failure> {
    let admin = Admin::open()?;
    match command {
        NoticeCommand::List => admin.get("notice").await,
        NoticeCommand::Acknowledge { component, up_to } => {
            let up_to = up_to.as_ref().map(|up_to| format!("?up_to={}", escape(up_to))).unwrap_or_default();
            admin.post(&format!("notice/{}/acknowledge{up_to}", escape(component)), &json!({})).await
        }
    }
}
