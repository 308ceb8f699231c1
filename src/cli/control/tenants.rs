//! Tenants and tables.

use clap::{Args, Subcommand};
use serde_json::json;

use super::call::{Admin, Failure, escape};
use super::examples::TRANSFER;
use super::local_indexes;
use super::output::Shown;
use super::transfer::{ExportFlags, ImportFlags};
use crate::domain::local_index::LocalIndex;
use crate::domain::rid::{Resource, Rid};
use crate::domain::table::TableChange;
use crate::domain::tenant_limits::{LimitMode, TenantLimitsChange};
use crate::domain::{Refusal, byte_size};

/// `dstore control tenant …`
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Make a tenant
    Create {
        /// Its name: 1 to 63 of a-z, 0-9 and -
        name: String,
    },
    /// All tenants
    List,
    /// One tenant
    Show {
        /// Its name or RID
        name: String,
    },
    /// Limit what a tenant may use; what is not given stays
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
    Set {
        /// Its name or RID
        name: String,
        /// What it may store: an amount such as "10 GiB", or none
        #[arg(long, value_name = "SIZE", group = "change", value_parser = storage_limit)]
        storage_limit: Option<Limit>,
        /// Capacity units a second, reads and writes together, or none
        #[arg(long, value_name = "UNITS", group = "change", value_parser = request_limit)]
        request_limit: Option<Limit>,
        /// Past a limit, write a notice and refuse nothing
        #[arg(long, group = "change")]
        soft: bool,
        /// Past a limit, write a notice and refuse: writes with 507, requests with 429. So it is where nothing is said
        #[arg(long, group = "change", conflicts_with = "soft")]
        hard: bool,
    },
    /// Remove a tenant; its keys are destroyed at once
    Delete {
        /// Its name or RID
        name: String,
        /// With its tables, for good
        #[arg(long)]
        recursive: bool,
    },
}

/// A limit, or that there is to be none. A type of its own, since clap takes an `Option` for a flag that may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(Option<u64>);

fn storage_limit(text: &str) -> Result<Limit, String> {
    limit(text, byte_size::parse)
}

fn request_limit(text: &str) -> Result<Limit, String> {
    limit(text, |text| {
        text.parse().map_err(|_| {
            Refusal::bad_input(format!(
                "{text:?} is no whole number of capacity units a second: 1 is a strong read of up to 4 KiB, or a write of up to 1 KiB"
            ))
        })
    })
}

fn limit(text: &str, read: impl Fn(&str) -> Result<u64, Refusal>) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    read(text).map(|limit| Limit(Some(limit))).map_err(|refusal| format!("{refusal}; or none"))
}

/// An attribute, or that there is to be none; as with [`Limit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeToLive(Option<String>);

fn time_to_live(text: &str) -> Result<TimeToLive, std::convert::Infallible> {
    Ok(TimeToLive((text != "none").then(|| text.to_owned())))
}

/// Which table.
#[derive(Debug, Args)]
pub struct WhichTable {
    /// The table's name, TENANT/TABLE, or RID
    name: String,
    /// The tenant; the context's where none is given
    #[arg(long)]
    tenant: Option<String>,
}

/// `dstore control table …`
#[derive(Debug, Subcommand)]
pub enum TableCommand {
    /// Make a table
    Create {
        /// Which
        #[command(flatten)]
        which: WhichTable,
        /// The type of the ID
        #[arg(long, value_parser = ["String", "Integer", "Bytes"])]
        id_type: String,
        /// The type of the sort key, where there is one
        #[arg(long, value_parser = ["String", "Integer", "Bytes"])]
        sort_type: Option<String>,
        /// A local index: another order of the items of each ID, as in by-total=total:Integer, with :keys-only or
        /// :include=A,B behind it where not all of an item is shown; may be given several times
        #[arg(long, value_name = "NAME=ATTRIBUTE:TYPE", value_parser = local_indexes::parse, requires = "sort_type")]
        local_index: Vec<LocalIndex>,
        /// How many ranges it starts with, 1 to 1024
        #[arg(long)]
        initial_ranges: Option<u16>,
        /// Replicas of each range: 1, 3 or 5; 3 where none is given, or as many as there are nodes
        #[arg(long)]
        replication_factor: Option<u8>,
    },
    /// A tenant's tables
    List {
        /// The tenant; the context's where none is given
        #[arg(long)]
        tenant: Option<String>,
        /// Those dropped within seven days instead
        #[arg(long)]
        deleted: bool,
    },
    /// One table
    Show(WhichTable),
    /// Change a table while it serves; what is not given stays
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
    Set {
        /// Which
        #[command(flatten)]
        which: WhichTable,
        /// Replicas of each range: 1, 3 or 5
        #[arg(long, group = "change")]
        replication_factor: Option<u8>,
        /// The attribute that holds when an item expires, in seconds since 1970; or none
        #[arg(long, value_name = "ATTRIBUTE", group = "change", value_parser = time_to_live)]
        time_to_live: Option<TimeToLive>,
        /// Whether the table cannot be deleted
        #[arg(long, value_name = "true|false", group = "change")]
        deletion_protection: Option<bool>,
    },
    /// Drop a table; it can be brought back for seven days
    Delete(WhichTable),
    /// Bring a dropped table back
    Undelete {
        /// Which
        #[command(flatten)]
        which: WhichTable,
        /// Its UUID, where several had the name
        #[arg(long, value_name = "UUID")]
        uuid: Option<String>,
        /// Another name, where the old one is taken
        #[arg(long, value_name = "NAME")]
        new_name: Option<String>,
    },
    /// Write all items of a table into a new file, as DynamoDB's JSON; give it again to go on after a stop
    #[command(after_help = TRANSFER)]
    Export(ExportFlags),
    /// Put the items of such a file into a table; give it again to go on after a stop
    #[command(after_help = TRANSFER)]
    Import(ImportFlags),
}

const TENANT: &[&str] = &["name", "id", "created_at", "rid"];
const TENANT_SHOWN: &[&str] = &[
    "name",
    "id",
    "created_at",
    "rid",
    "storage_limit=limits.storage_bytes",
    "stored=stored_bytes",
    "request_limit=limits.request_units",
    "limits=limits.mode",
];
const TABLE: &[&str] = &["name", "tenant", "id_type", "sort_type", "local_indexes", "version", "created_at"];
const TABLE_SHOWN: &[&str] =
    &["name", "rid", "tenant", "id", "id_type", "id_name", "sort_type", "sort_name", "local_indexes"];
const DELETED: &[&str] =
    &["name=table.name", "tenant=table.tenant", "uuid=table.id", "id_type=table.id_type", "deleted_at", "deleted_by"];
/// The tenant that a name or RID means.
fn tenant_of(text: &str) -> Result<String, Failure> {
    if !text.starts_with("rid:") {
        return Ok(text.to_owned());
    }
    Ok(text.parse::<Rid>()?.tenant.to_string())
}

pub(super) async fn tenant(command: &TenantCommand) -> Result<Shown, Failure> {
    let admin = Admin::open()?;
    match command {
        TenantCommand::Create { name } => {
            Ok(Shown::new(admin.put(&format!("tenant/{}", escape(name)), &json!({})).await?, TENANT_SHOWN))
        }
        TenantCommand::List => Ok(Shown::new(admin.all("tenant", "name").await?, TENANT)),
        TenantCommand::Show { name } => {
            Ok(Shown::new(admin.get(&format!("tenant/{}", escape(&tenant_of(name)?))).await?, TENANT_SHOWN))
        }
        TenantCommand::Set { name, storage_limit, request_limit, soft, hard } => {
            let mode = [(*soft, LimitMode::Soft), (*hard, LimitMode::Hard)];
            let change = TenantLimitsChange {
                storage_bytes: storage_limit.map(|Limit(limit)| limit),
                request_units: request_limit.map(|Limit(limit)| limit),
                mode: mode.into_iter().find_map(|(is_given, mode)| is_given.then_some(mode)),
            };
            let path = format!("tenant/{}", escape(&tenant_of(name)?));
            Ok(Shown::new(admin.post(&path, &json!(change)).await?, TENANT_SHOWN))
        }
        TenantCommand::Delete { name, recursive } => {
            let tenant = tenant_of(name)?;
            let path = format!("tenant/{}?recursive={recursive}", escape(&tenant));
            let answer = admin
                .delete(&path, None)
                .await
                .map_err(|failure| failure.instead_of("ask with recursive=true", "use --recursive"))?;
            Ok(Shown::done(answer, format!("removed the tenant {tenant}; its keys are destroyed")))
        }
    }
}

/// Tenant and name of a table.
fn named(admin: &Admin, which: &WhichTable) -> Result<(String, String), Failure> {
    if let Some((tenant, table)) = which.name.split_once('/').filter(|_| which.tenant.is_none()) {
        return Ok((tenant.to_owned(), table.to_owned()));
    }
    if !which.name.starts_with("rid:") {
        return Ok((admin.tenant(which.tenant.as_deref())?, which.name.clone()));
    }
    let rid: Rid = which.name.parse()?;
    match rid.resource {
        Resource::Table(table) => Ok((rid.tenant.to_string(), table.to_string())),
        Resource::Tenant => Err(Failure::usage(format!("{} names a tenant, not a table", which.name))),
    }
}

pub(super) fn path_of(admin: &Admin, which: &WhichTable) -> Result<String, Failure> {
    let (tenant, table) = named(admin, which)?;
    Ok(format!("tenant/{}/table/{}", escape(&tenant), escape(&table)))
}

pub(super) async fn table(command: &TableCommand) -> Result<Shown, Failure> {
    let admin = Admin::open()?;
    match command {
        TableCommand::Create { which, id_type, sort_type, local_index, initial_ranges, replication_factor } => {
            let mut body = json!({ "id_type": id_type });
            let optional = [
                ("sort_type", sort_type.as_ref().map(|text| json!(text))),
                ("local_indexes", (!local_index.is_empty()).then(|| json!(local_index))),
                ("initial_ranges", initial_ranges.map(|count| json!(count))),
                ("replication_factor", replication_factor.map(|count| json!(count))),
            ];
            for (name, value) in optional {
                if let Some(value) = value {
                    body[name] = value;
                }
            }
            Ok(Shown::new(admin.put(&path_of(&admin, which)?, &body).await?, TABLE_SHOWN))
        }
        TableCommand::List { tenant, deleted } => {
            let tenant = admin.tenant(tenant.as_deref())?;
            let of_tenant = format!("tenant/{}", escape(&tenant_of(&tenant)?));
            if *deleted {
                return Ok(Shown::new(admin.get(&format!("{of_tenant}/deleted-table")).await?, DELETED));
            }
            Ok(Shown::new(admin.all(&format!("{of_tenant}/table"), "name").await?, TABLE))
        }
        TableCommand::Show(which) => Ok(Shown::new(admin.get(&path_of(&admin, which)?).await?, TABLE_SHOWN)),
        TableCommand::Set { which, replication_factor, time_to_live, deletion_protection } => {
            let change = TableChange {
                replication_factor: *replication_factor,
                time_to_live: time_to_live.clone().map(|TimeToLive(attribute)| attribute),
                deletion_protection: *deletion_protection,
                ..TableChange::default()
            };
            Ok(Shown::new(admin.post(&path_of(&admin, which)?, &json!(change)).await?, TABLE_SHOWN))
        }
        TableCommand::Delete(which) => {
            let (tenant, table) = named(&admin, which)?;
            let answer = admin.delete(&path_of(&admin, which)?, None).await?;
            let back = format!("dstore control table undelete {table} --tenant {tenant}");
            Ok(Shown::done(answer, format!("dropped the table {table}; for seven days this brings it back:\n  {back}")))
        }
        TableCommand::Undelete { which, uuid, new_name } => {
            let body = json!({ "table_uuid": uuid, "new_name": new_name });
            let answer = admin.post(&format!("{}/undelete", path_of(&admin, which)?), &body).await;
            let answer = answer.map_err(|failure| {
                failure.instead_of("give another one for the table", "give another one with --new-name to the table")
            })?;
            Ok(Shown::new(answer, TABLE_SHOWN))
        }
        TableCommand::Export(_) | TableCommand::Import(_) => {
            Err(Failure::usage("items travel through the port for clients, not through the admin API"))
        }
    }
}
