//! `login` and `context`: which control plane later commands talk to.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::call::{Admin, Failure};
use super::output::Shown;
use super::read_secret;
use crate::config::contexts::{Context, Contexts};

/// `dstore control login`
#[derive(Debug, Args)]
pub struct LoginFlags {
    /// The admin API, as in https://control:8082
    #[arg(required_unless_present = "credentials_file")]
    url: Option<String>,
    /// File with the bearer token; `-` reads stdin
    #[arg(long, value_name = "FILE", required_unless_present = "credentials_file")]
    token_file: Option<PathBuf>,
    /// The credentials.json of a dstore dev or a standalone node, which names address and token
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "token_file"])]
    credentials_file: Option<PathBuf>,
    /// File with the certificate of the cluster's authority (authority.pem), for https
    #[arg(long, value_name = "FILE")]
    authority_file: Option<PathBuf>,
    /// The name under which it is kept
    #[arg(long, default_value = "default")]
    name: String,
    /// The tenant where a command names none
    #[arg(long)]
    tenant: Option<String>,
}

/// `dstore control context …`
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// All contexts
    List,
    /// Use another one from now on, or another tenant in it
    Use {
        /// Its name
        name: String,
        /// The tenant from now on where a command names none
        #[arg(long)]
        tenant: Option<String>,
    },
    /// The one in use, without its token
    Show,
}

/// What of a credentials file is needed here.
#[derive(serde::Deserialize)]
struct KeptCredentials {
    admin_url: String,
    token: String,
    tenant: String,
}

pub(super) async fn login(flags: &LoginFlags) -> Result<Shown, Failure> {
    let read = |path: &PathBuf| read_secret(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut context = Context {
        url: flags.url.clone().unwrap_or_default(),
        token: flags.token_file.as_ref().map(read).transpose()?.map_or_else(String::new, |token| token.to_string()),
        authority_pem: flags.authority_file.as_ref().map(read).transpose()?.map(|pem| format!("{}\n", pem.as_str())),
        tenant: flags.tenant.clone(),
    };
    if let Some(path) = &flags.credentials_file {
        let kept: KeptCredentials = serde_json::from_str(&read(path)?)
            .map_err(|_| format!("{} is no credentials.json of a dstore dev or standalone node", path.display()))?;
        context.url = kept.admin_url;
        context.token = kept.token;
        context.tenant = context.tenant.or(Some(kept.tenant));
    }
    // Only what works is kept.
    let plane = proven(&mut context).await?;
    let (url, tenant) = (context.url.clone(), context.tenant.clone());
    Contexts::change(|contexts| {
        contexts.contexts.insert(flags.name.clone(), context);
        contexts.current = Some(flags.name.clone());
        Ok(())
    })?;
    let answer = json!({ "context": flags.name, "url": url, "plane": plane, "tenant": tenant });
    Ok(Shown::new(answer, &["context", "url", "plane", "tenant"]))
}

/// Asks with this context. The control plane's id, where it may be known: an admin of a tenant sees that tenant only, which
/// is then the one that is meant where a command names none.
async fn proven(context: &mut Context) -> Result<Value, Failure> {
    let admin = Admin::of(context)?;
    match admin.get("status").await {
        Ok(status) => Ok(status["plane"].clone()),
        Err(failure) if failure.is_not_allowed() => {
            let tenants = admin.get("tenant").await?;
            if let Some([only]) = tenants.as_array().map(Vec::as_slice) {
                context.tenant = context.tenant.take().or_else(|| only["name"].as_str().map(str::to_owned));
            }
            Ok(Value::Null)
        }
        Err(failure) => Err(failure),
    }
}

pub(super) fn context(command: &ContextCommand) -> Result<Shown, Failure> {
    match command {
        ContextCommand::List => {
            let contexts = Contexts::load()?;
            let rows = contexts.contexts.iter().map(|(name, context)| {
                let current = contexts.current.as_ref() == Some(name);
                json!({ "name": name, "url": context.url, "tenant": context.tenant, "current": current })
            });
            Ok(Shown::new(rows.collect(), &["current", "name", "url", "tenant"]))
        }
        ContextCommand::Use { name, tenant } => {
            let used = Contexts::change(|contexts| {
                let context = contexts.contexts.get_mut(name).ok_or_else(|| {
                    format!("there is no context {name:?}; `dstore control context list` shows those there are")
                })?;
                if tenant.is_some() {
                    context.tenant.clone_from(tenant);
                }
                let used = json!({ "name": name, "url": context.url, "tenant": context.tenant });
                contexts.current = Some(name.clone());
                Ok(used)
            });
            Ok(Shown::new(used?, &["name", "url", "tenant"]))
        }
        ContextCommand::Show => {
            let contexts = Contexts::load()?;
            let (name, context) = contexts.chosen()?;
            let answer = json!({ "name": name, "url": context.url, "tenant": context.tenant });
            Ok(Shown::new(answer, &["name", "url", "tenant"]))
        }
    }
}
