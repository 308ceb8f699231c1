//! Principals, access keys and tokens.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::call::{Admin, Failure, escape};
use super::output::{SecretFile, Shown};

/// `dstore control principal …`
#[derive(Debug, Subcommand)]
pub enum PrincipalCommand {
    /// Make a principal of a tenant, or with --root one of the whole cluster
    Create {
        /// Its name
        name: String,
        /// The tenant; the context's where none is given
        #[arg(long, conflicts_with = "root")]
        tenant: Option<String>,
        /// What it may do: read, write, admin; several with commas
        #[arg(long, value_delimiter = ',', conflicts_with = "root", required_unless_present = "root")]
        #[arg(value_parser = ["read", "write", "admin"])]
        may: Vec<String>,
        /// One of the whole cluster, who may do everything
        #[arg(long)]
        root: bool,
    },
    /// All principals
    List {
        /// Only this tenant's
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Revoke a principal, and with it its tokens and access keys
    Revoke {
        /// Its name or UUID
        principal: String,
    },
}

/// `dstore control access-key …`
#[derive(Debug, Subcommand)]
pub enum AccessKeyCommand {
    /// Make an access key; its secret is shown once
    Create {
        /// The principal's name or UUID
        principal: String,
        /// Write the key to this new file (mode 0600) as JSON, instead of printing its secret
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// All access keys, without their secrets
    List,
    /// Revoke an access key
    Revoke {
        /// Its id
        access_key_id: String,
    },
}

/// `dstore control token …`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown once
    Create {
        /// The principal's name or UUID
        principal: String,
        /// What it is for
        #[arg(long, default_value = "")]
        note: String,
        /// How long it is good, in seconds; thirty days where none is given
        #[arg(long)]
        seconds: Option<u64>,
        /// Write the token to this new file (mode 0600), instead of printing it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// All sessions that tokens belong to
    List,
    /// Revoke a session; its token is refused within 30 seconds
    Revoke {
        /// The session's UUID
        session: String,
    },
}

const PRINCIPAL: &[&str] = &["name", "id", "tenant=tenant.1", "capabilities", "created_at", "revoked_at"];
const ACCESS_KEY: &[&str] = &["access_key_id", "principal", "created_at", "revoked_at"];
const TOKEN: &[&str] = &["id", "principal", "note", "created_at", "expires_at", "revoked_at"];

pub(super) async fn principal(command: &PrincipalCommand) -> Result<Shown, Failure> {
    let admin = Admin::open()?;
    let answer = match command {
        PrincipalCommand::Create { name, tenant, may, root } => {
            let tenant = if *root { None } else { Some(admin.tenant(tenant.as_deref())?) };
            admin.post("principal", &json!({ "name": name, "tenant": tenant, "capabilities": may })).await?
        }
        PrincipalCommand::List { tenant } => {
            let tenant = tenant.as_ref().map(|tenant| format!("?tenant={}", escape(tenant))).unwrap_or_default();
            admin.get(&format!("principal{tenant}")).await?
        }
        PrincipalCommand::Revoke { principal } => {
            let id = admin.id_of("principal", principal).await?;
            let answer = admin.delete(&format!("principal/{}", escape(&id)), None).await?;
            return Ok(Shown::done(answer, "revoked, with its tokens and access keys"));
        }
    };
    Ok(Shown::new(answer, PRINCIPAL).sorted_by(&["tenant.1", "name", "created_at"]))
}

pub(super) async fn access_key(command: &AccessKeyCommand) -> Result<Shown, Failure> {
    let admin = Admin::open()?;
    let answer = match command {
        AccessKeyCommand::Create { principal, out } => {
            let file = SecretFile::create(out.as_deref())?;
            let principal = admin.id_of("principal", principal).await?;
            let mut answer = admin.post("access-key", &json!({ "principal": principal })).await?;
            if file.is_wanted() {
                file.write(&answer.to_string())?;
                answer = json!({ "access_key_id": answer["access_key_id"] });
            }
            answer
        }
        AccessKeyCommand::List => admin.get("access-key").await?,
        AccessKeyCommand::Revoke { access_key_id } => {
            let answer = admin.delete(&format!("access-key/{}", escape(access_key_id)), None).await?;
            return Ok(Shown::done(answer, "revoked"));
        }
    };
    Ok(Shown::new(answer, ACCESS_KEY).sorted_by(&["created_at"]))
}

pub(super) async fn token(command: &TokenCommand) -> Result<Shown, Failure> {
    let admin = Admin::open()?;
    let answer = match command {
        TokenCommand::Create { principal, note, seconds, out } => {
            let file = SecretFile::create(out.as_deref())?;
            let principal = admin.id_of("principal", principal).await?;
            let body = json!({ "principal": principal, "note": note, "seconds": seconds });
            keep_token(admin.post("token", &body).await?, file)?
        }
        TokenCommand::List => admin.get("token").await?,
        TokenCommand::Revoke { session } => {
            let answer = admin.delete(&format!("token/{}", escape(session)), None).await?;
            return Ok(Shown::done(answer, "revoked; the token is refused within 30 seconds"));
        }
    };
    Ok(Shown::new(answer, TOKEN).sorted_by(&["created_at"]))
}

/// Moves the token of an answer into the file, where one is wanted.
pub(super) fn keep_token(mut answer: Value, file: SecretFile<'_>) -> Result<Value, Failure> {
    if file.is_wanted()
        && let Some(fields) = answer.as_object_mut()
    {
        let token = fields.remove("token").unwrap_or_default();
        file.write(token.as_str().unwrap_or_default())?;
    }
    Ok(answer)
}
