//! Proxies, reporters, keys and notices; and invitations of all members.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::access::keep_token;
use super::call::{Admin, Failure, escape};
use super::output::{SecretFile, Shown};

/// Whom to invite.
#[derive(Debug, Args)]
pub struct InviteFlags {
    /// The name that it will have
    #[arg(long)]
    name: Option<String>,
    /// How long the join token is good, in seconds; a day where none is given
    #[arg(long)]
    seconds: Option<u64>,
    /// Write the token to this new file (mode 0600), instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
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
        /// Its name or UUID
        member: String,
    },
    /// Remove one; its certificate opens nothing any more
    Remove {
        /// Its name or UUID
        member: String,
    },
}

/// `dstore control key …`
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// All keys: UUID, kind, version, age
    List,
    /// Begin the rotation of control's part of a key
    Rotate {
        /// Which kind of key
        #[arg(value_parser = ["token", "node", "proxy", "reporting", "tenant"])]
        kind: String,
        /// UUID of the node, proxy, reporter or tenant that it belongs to; none for token
        #[arg(long, value_name = "UUID")]
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
        /// The component's UUID, as `notice list` shows it
        component: String,
        /// Up to this timestamp, as `notice list` shows it; all where none is given
        #[arg(long)]
        up_to: Option<String>,
    },
}

const MEMBER: &[&str] = &["name", "id", "role", "joined_at", "certificate_until"];
const KEY: &[&str] = &["kind", "owner", "version", "old_version", "age=age_seconds", "created_at"];
const NOTICE: &[&str] = &["timestamp", "component", "count", "details"];

pub(super) async fn invite(role: &str, flags: &InviteFlags) -> Result<Shown, Failure> {
    let file = SecretFile::create(flags.out.as_deref())?;
    let body = json!({ "role": role, "name": flags.name, "seconds": flags.seconds });
    let answer = Admin::open()?.post("invitation", &body).await?;
    Ok(Shown::new(keep_token(answer, file)?, &["role", "expires_at", "token"]))
}

pub(super) async fn member(noun: &str, role: &str, command: &MemberCommand) -> Result<Shown, Failure> {
    if let MemberCommand::Invite(flags) = command {
        return invite(role, flags).await;
    }
    let admin = Admin::open()?;
    match command {
        MemberCommand::Invite(_) | MemberCommand::List => {
            Ok(Shown::new(admin.get(noun).await?, MEMBER).sorted_by(&["name", "id"]))
        }
        MemberCommand::Show { member } => {
            let id = admin.id_of(noun, member).await?;
            let all = admin.get(noun).await?;
            let found = all.as_array().and_then(|all| all.iter().find(|one| one["id"] == id.as_str())).cloned();
            let found = found.ok_or_else(|| Failure::not_found(format!("there is no {noun} {member}")))?;
            Ok(Shown::new(found, MEMBER))
        }
        MemberCommand::Remove { member } => {
            let id = admin.id_of(noun, member).await?;
            let answer = admin.delete(&format!("{noun}/{}", escape(&id)), None).await?;
            Ok(Shown::done(answer, "removed; its certificate opens nothing any more"))
        }
    }
}

pub(super) async fn key(command: &KeyCommand) -> Result<Shown, Failure> {
    let admin = Admin::open()?;
    match command {
        KeyCommand::List => Ok(Shown::new(admin.get("key").await?, KEY).sorted_by(&["kind", "created_at"])),
        KeyCommand::Rotate { kind, owner } => {
            let owner = owner.as_ref().map(|owner| format!("?owner={}", escape(owner))).unwrap_or_default();
            let answer = admin.post(&format!("key/{}/rotate{owner}", escape(kind)), &json!({})).await?;
            Ok(Shown::new(answer, &["version"]))
        }
    }
}

pub(super) async fn notice(command: &NoticeCommand) -> Result<Shown, Failure> {
    let admin = Admin::open()?;
    match command {
        NoticeCommand::List => Ok(Shown::new(admin.get("notice").await?, NOTICE)),
        NoticeCommand::Acknowledge { component, up_to } => {
            let up_to = up_to.as_ref().map(|up_to| format!("?up_to={}", escape(up_to))).unwrap_or_default();
            let path = format!("notice/{}/acknowledge{up_to}", escape(component));
            Ok(Shown::new(admin.post(&path, &json!({})).await?, &["acknowledged"]))
        }
    }
}
