//! Records in PostgreSQL: tables and views in a schema of their own, made and brought up to date here.
//!
//! A batch is one transaction with one statement for each table: the records go over as one JSON text, which the server takes apart by
//! `json_to_recordset`, and a row whose id is there already is left alone. So a batch that comes again, or in part, changes
//! nothing. Statements are prepared once for a connection.
//!
//! Tables are versioned as files are: `schema_version` holds how many of [`MIGRATIONS`] were carried out, each within the transaction
//! that says so, under a lock of the database, so that two reporters may start at once. A migration that was published never
//! changes; views are replaced by a further one. What exists is looked up before anything is made, because making
//! takes a privilege even where there is nothing to do, and an administrator may prefer to make the schema himself.
//!
//! TLS is either demanded, with the server's certificate checked against the authority and its name, or off (`sslmode=disable`):
//! there is nothing in between that someone on the way could talk down.
//!
//! Rejected: COPY into a temporary table (two more round trips, and temporary tables bloat the catalogue of a database that runs for
//! years); arrays and UNNEST (a parameter for each column, which say the same as the JSON in more words).
//!
//! The texts of PostgreSQL's errors quote values, so only their codes are told.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls, Statement, Transaction};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::posting::with_causes;
use super::rows::{RecordKind, Type, columns, write_json};
use super::{Sink, SinkError, Terms};
use crate::domain::usage::record::Record;

const MIGRATIONS: &[&str] = &[include_str!("../../migrations/postgres/0001_usage.sql")];

/// See the module's essay.
pub struct PostgresSink {
    terms: Terms,
    config: Config,
    tls: Option<rustls::ClientConfig>,
    schema: String,
    session: Option<Session>,
}

impl PostgresSink {
    /// A sink that writes to the database that `config` names, into this schema, a name of lower-case letters, digits and `_`;
    /// without `tls` in clear.
    pub fn new(terms: Terms, mut config: Config, tls: Option<rustls::ClientConfig>, schema: &str) -> Self {
        use tokio_postgres::config::SslMode;
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        config.connect_timeout(std::time::Duration::from_secs(10)).application_name("dstore reporting");
        Self { terms, config, tls, schema: schema.to_owned(), session: None }
    }

    async fn open(&self) -> Result<Session, SinkError> {
        let connected = match self.tls.clone() {
            Some(tls) => {
                let connected = self.config.connect(MakeRustlsConnect::new(tls)).await;
                connected.map(|(client, connection)| (client, tokio::spawn(async { drop(connection.await) })))
            }
            None => {
                let connected = self.config.connect(NoTls).await;
                connected.map(|(client, connection)| (client, tokio::spawn(async { drop(connection.await) })))
            }
        };
        let (client, connection) = connected.map_err(unopened)?;
        let mut session = Session { client, inserts: BTreeMap::new(), connection };
        session.client.batch_execute(&format!("SET search_path TO \"{}\"", self.schema)).await.map_err(unopened)?;
        session.bring_up(&self.schema).await?;
        for kind in RecordKind::ALL {
            let insert = session.client.prepare(&insert(kind)).await.map_err(unopened)?;
            session.inserts.insert(table(kind), insert);
        }
        Ok(session)
    }
}

#[async_trait]
impl Sink for PostgresSink {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    async fn take(&mut self, records: &[Record]) -> Result<(), SinkError> {
        // Whatever ends half-way leaves no session behind, so a connection in the middle of something is never used again.
        let mut session = match self.session.take() {
            Some(session) if !session.client.is_closed() => session,
            _ => self.open().await?,
        };
        session.insert(records).await.map_err(refused)?;
        self.session = Some(session);
        Ok(())
    }
}

/// One connection.
struct Session {
    client: Client,
    inserts: BTreeMap<&'static str, Statement>,
    connection: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Session {
    async fn bring_up(&mut self, schema: &str) -> Result<(), SinkError> {
        let transaction = self.client.transaction().await.map_err(unopened)?;
        // A number that is nobody else's: these locks have no names.
        transaction.batch_execute("SELECT pg_advisory_xact_lock(7236843)").await.map_err(unopened)?;
        if !is_there(&transaction, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema).await? {
            transaction.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await.map_err(unopened)?;
        }
        if !is_there(&transaction, "SELECT to_regclass($1) IS NOT NULL", "schema_version").await? {
            let make = "CREATE TABLE schema_version (version integer NOT NULL); INSERT INTO schema_version VALUES (0)";
            transaction.batch_execute(make).await.map_err(unopened)?;
        }
        let row = transaction.query_one("SELECT version FROM schema_version", &[]).await.map_err(unopened)?;
        let version = usize::try_from(row.try_get::<_, i32>(0).map_err(unopened)?).unwrap_or(usize::MAX);
        let Some(missing) = MIGRATIONS.get(version..) else {
            let known = MIGRATIONS.len();
            return Err(SinkError::Later(format!(
                "the tables in schema {schema} have version {version}, and this dstore knows {known}: start a newer one"
            )));
        };
        for migration in missing {
            transaction.batch_execute(migration).await.map_err(unopened)?;
        }
        if !missing.is_empty() {
            let version = MIGRATIONS.len();
            let update = format!("UPDATE schema_version SET version = {version}");
            transaction.batch_execute(&update).await.map_err(unopened)?;
        }
        transaction.commit().await.map_err(unopened)
    }

    async fn insert(&mut self, records: &[Record]) -> Result<(), tokio_postgres::Error> {
        let mut rows: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
        for record in records {
            let json = rows.entry(table(RecordKind::of(record))).or_default();
            json.push(if json.is_empty() { b'[' } else { b',' });
            write_json(record, json);
        }
        let transaction = self.client.transaction().await?;
        for (table, mut json) in rows {
            json.push(b']');
            let json = String::from_utf8(json).expect("JSON is UTF-8");
            transaction.execute(&self.inserts[table], &[&json]).await?;
        }
        transaction.commit().await
    }
}

async fn is_there(transaction: &Transaction<'_>, question: &str, name: &str) -> Result<bool, SinkError> {
    let row = transaction.query_one(question, &[&name]).await.map_err(unopened)?;
    row.try_get(0).map_err(unopened)
}

fn table(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Usage => "usage",
        RecordKind::Range => "ranges",
        RecordKind::Node => "nodes",
        RecordKind::Notice | RecordKind::AdminEvent => "events",
    }
}

/// The statement that takes a JSON array of records of this kind.
fn insert(kind: RecordKind) -> String {
    let (mut into, mut from, mut read) = (Vec::new(), Vec::new(), Vec::new());
    for column in columns(kind) {
        let name = column.name;
        let (to, value, holds) = match column.holds {
            Type::Milliseconds => ("at", format!("to_timestamp({name} / 1000.0)"), "bigint"),
            Type::Id => (name, name.to_owned(), "uuid"),
            Type::Text => (name, name.to_owned(), "text"),
            Type::Number => (name, name.to_owned(), "bigint"),
            Type::Numbers => (name, name.to_owned(), "bigint[]"),
        };
        into.push(to);
        from.push(value);
        read.push(format!("{name} {holds}"));
    }
    let table = table(kind);
    if table == "events" {
        into.push("kind");
        from.push("kind".to_owned());
        read.push("kind text".to_owned());
    }
    format!(
        "INSERT INTO {table} ({}) SELECT {} FROM json_to_recordset($1::text::json) AS record ({}) ON CONFLICT (id) DO NOTHING",
        into.join(", "),
        from.join(", "),
        read.join(", ")
    )
}

/// Before any record goes over, errors are told as they are.
fn unopened(error: tokio_postgres::Error) -> SinkError {
    SinkError::Later(with_causes(&error))
}

/// What becomes of the batch after an error: values that do not fit their columns (class 22), or that a constraint or trigger of the
/// database's owner refuses (class 23), will not do so later either.
fn refused(error: tokio_postgres::Error) -> SinkError {
    let Some(code) = error.code() else { return SinkError::Later(with_causes(&error)) };
    let code = code.code();
    let message = format!("PostgreSQL refuses with code {code}; its log says more");
    let is_for_good = code.starts_with("22") || code.starts_with("23");
    if is_for_good { SinkError::Unacceptable(message) } else { SinkError::Later(message) }
}

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
