//! Principals, access keys and tokens.

use clap::Subcommand;
use serde_json::{Value, json};

use super::call::{Admin, Failure, escape};

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
        #[arg(long, value_delimiter = ',', conflicts_with = "root")]
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
        /// Its UUID
        id: String,
    },
}

/// `dstore control access-key …`
#[derive(Debug, Subcommand)]
pub enum AccessKeyCommand {
    /// Make an access key; its secret is shown once
    Create {
        /// The principal's UUID
        principal: String,
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
        /// The principal's UUID
        principal: String,
        /// What it is for
        #[arg(long, default_value = "")]
        note: String,
        /// How long it is good, in seconds; thirty days where none is given
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// All sessions that tokens belong to
    List,
    /// Revoke a session; its token is refused within 30 seconds
    Revoke {
        /// The session's UUID
        session: String,
    },
}

pub(super) async fn principal(command: &PrincipalCommand) -> Result<Value, Failure> {
    let admin = Admin::open()?;
    match command {
        PrincipalCommand::Create { name, tenant, may, root } => {
            let tenant = if *root { None } else { Some(admin.tenant(tenant.as_deref())?) };
            admin.post("principal", &json!({ "name": name, "tenant": tenant, "capabilities": may })).await
        }
        PrincipalCommand::List { tenant } => {
            let tenant = tenant.as_ref().map(|tenant| format!("?tenant={}", escape(tenant))).unwrap_or_default();
            admin.get(&format!("principal{tenant}")).await
        }
        PrincipalCommand::Revoke { id } => admin.delete(&format!("principal/{}", escape(id)), None).await,
    }
}

pub(super) async fn access_key(command: &AccessKeyCommand) -> Result<Value, Failure> {
    let admin = Admin::open()?;
    match command {
        AccessKeyCommand::Create { principal } => admin.post("access-key", &json!({ "principal": principal })).await,
        AccessKeyCommand::List => admin.get("access-key").await,
        AccessKeyCommand::Revoke { access_key_id } => {
            admin.delete(&format!("access-key/{}", escape(access_key_id)), None).await
        }
    }
}

pub(super) async fn token(command: &TokenCommand) -> Result<Value, Failure> {
    let admin = Admin::open()?;
    match command {
        TokenCommand::Create { principal, note, seconds } => {
            admin.post("token", &json!({ "principal": principal, "note": note, "seconds": seconds })).await
        }
        TokenCommand::List => admin.get("token").await,
        TokenCommand::Revoke { session } => admin.delete(&format!("token/{}", escape(session)), None).await,
    }
}
