//! [`EtcdCoordinator`]: the trait over `etcd-client`. Every request is bounded by a time, because a
//! connection that goes nowhere gives no error of its own for minutes.

use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    AlarmAction, AlarmType, Certificate, Client, Compare as EtcdCompare, CompareOp, ConnectOptions, GetOptions,
    Identity, PutOptions, SortOrder, SortTarget, TlsOptions, Txn, TxnOp,
};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::errors::{Effect, translate, wants_new_token};
use crate::coordination::coordinator::{check_transaction, prefix_end};
use crate::coordination::{
    Compare, Condition, Coordinator, Error, KeyValue, LeaseId, Operation, Page, Result, Revision, StoreHealth,
    TransactionResult, Watch,
};

/// Where etcd is and who we are to it.
#[derive(Clone)]
pub struct EtcdOptions {
    /// `http://host:2379` or `https://host:2379`, each member of the cluster.
    pub endpoints: Vec<String>,
    /// Put before every key; several clusters may share an etcd under different prefixes.
    pub prefix: String,
    /// User and password, where etcd's authentication is on and the client certificate does not say it.
    pub user: Option<(String, Zeroizing<String>)>,
    /// Certificates, for `https` endpoints.
    pub tls: Option<EtcdTls>,
    /// How long a request may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// The quota its servers were started with (`--quota-backend-bytes`), where they do not tell it themselves; etcd
    /// tells it from 3.6 on.
    pub quota_bytes: u64,
}

/// The quota of an etcd that was given none.
pub const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;

/// PEM texts for TLS.
#[derive(Clone)]
pub struct EtcdTls {
    /// Who may sign the server's certificate.
    pub ca_pem: Vec<u8>,
    /// Our certificate and its key, where the server asks for one.
    pub identity_pem: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// The name in the server's certificate, where it is not the endpoint's host.
    pub server_name: Option<String>,
}

impl EtcdOptions {
    /// Plain and without authentication; for development and tests.
    pub fn plain(endpoint: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            endpoints: vec![endpoint.into()],
            prefix: prefix.into(),
            user: None,
            tls: None,
            request_timeout_ms: 5_000,
            quota_bytes: QUOTA_BYTES_DEFAULT,
        }
    }
}

impl std::fmt::Debug for EtcdOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// The largest answer we take: a page of a listing with large values.
pub(super) const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// A connection that is silent for so long is asked for a sign of life, and given up after the second.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// One writer's handle on etcd; who it is, etcd knows by user or certificate.
pub struct EtcdCoordinator {
    options: EtcdOptions,
    client: Mutex<Option<Client>>,
}

impl EtcdCoordinator {
    /// A handle. Nothing is sent before the first request.
    pub fn new(options: EtcdOptions) -> Self {
        Self { options, client: Mutex::new(None) }
    }

    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.options.request_timeout_ms)
    }

    pub(super) fn full_key(&self, key: &str) -> String {
        format!("{}{key}", self.options.prefix)
    }

    /// First key and first key after those that begin with `prefix`, as etcd wants them.
    pub(super) fn key_range(&self, prefix: &str) -> (Vec<u8>, Vec<u8>) {
        let full = self.full_key(prefix).into_bytes();
        let end = prefix_end(&full).unwrap_or_else(|| vec![0]);
        (if full.is_empty() { vec![0] } else { full }, end)
    }

    /// What turns etcd's keys into ours.
    pub(super) fn key_reader(&self) -> KeyReader {
        KeyReader { prefix: self.options.prefix.as_str().into() }
    }

    async fn client(&self) -> Result<Client> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_ref() {
            return Ok(client.clone());
        }
        let client = Client::connect(&self.options.endpoints, Some(self.connect_options()))
            .await
            .map_err(|error| translate(&error, Effect::None))?;
        *slot = Some(client.clone());
        Ok(client)
    }

    fn connect_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.request_timeout())
            .with_keep_alive(KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some((name, password)) = &self.options.user {
            options = options.with_user(name, password.as_str());
        }
        if let Some(tls) = &self.options.tls {
            let mut settings = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca_pem));
            if let Some((certificate, key)) = &tls.identity_pem {
                settings = settings.identity(Identity::from_pem(certificate, key.as_slice()));
            }
            if let Some(name) = &tls.server_name {
                settings = settings.domain_name(name);
            }
            options = options.with_tls(settings);
        }
        options
    }

    /// Sends a request, bounded by a time; a second time with a new token where the server does not know
    /// ours, which it says before it does anything.
    pub(super) async fn call<T, Answer>(&self, effect: Effect, request: impl Fn(Client) -> Answer) -> Result<T>
    where
        Answer: Future<Output = std::result::Result<T, etcd_client::Error>>,
    {
        let first = self.call_once(effect, &request).await;
        match &first {
            Err(error) if self.options.user.is_some() && wants_new_token(error) => {
                self.refresh_token().await?;
                self.call_once(effect, &request).await
            }
            _ => first,
        }
    }

    async fn call_once<T, Answer>(&self, effect: Effect, request: &impl Fn(Client) -> Answer) -> Result<T>
    where
        Answer: Future<Output = std::result::Result<T, etcd_client::Error>>,
    {
        let late = |what: &str| format!("{what} within {} ms", self.options.request_timeout_ms);
        let client = tokio::time::timeout(self.request_timeout(), self.client())
            .await
            .map_err(|_| Error::Unavailable(late("no connection")))??;
        match tokio::time::timeout(self.request_timeout(), request(client)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(translate(&error, effect)),
            Err(_) if effect == Effect::Change => Err(Error::OutcomeUnknown(late("no answer"))),
            Err(_) => Err(Error::Unavailable(late("no answer"))),
        }
    }

    pub(super) async fn refresh_token(&self) -> Result<()> {
        self.call_once(Effect::None, &|client: Client| async move { client.refresh_token().await }).await
    }
}

/// Turns etcd's keys into ours.
pub(super) struct KeyReader {
    prefix: std::sync::Arc<str>,
}

impl KeyReader {
    /// One of etcd's keys as ours; `None` for one that is not text, which we did not write.
    pub(super) fn key_value(&self, entry: &etcd_client::KeyValue) -> Option<KeyValue> {
        Some(KeyValue {
            key: entry.key_str().ok()?.strip_prefix(&*self.prefix)?.to_owned(),
            value: Bytes::copy_from_slice(entry.value()),
            mod_revision: entry.mod_revision(),
            create_revision: entry.create_revision(),
            version: entry.version(),
            lease: (entry.lease() != 0).then(|| LeaseId(entry.lease())),
        })
    }
}

fn etcd_compare(key: String, condition: Condition) -> EtcdCompare {
    match condition {
        Condition::Absent => EtcdCompare::create_revision(key, CompareOp::Equal, 0),
        Condition::Present => EtcdCompare::create_revision(key, CompareOp::Greater, 0),
        Condition::ModRevision(revision) => EtcdCompare::mod_revision(key, CompareOp::Equal, revision),
        Condition::Version(version) => EtcdCompare::version(key, CompareOp::Equal, version),
        Condition::Value(value) => EtcdCompare::value(key, CompareOp::Equal, value),
    }
}

#[async_trait]
impl Coordinator for EtcdCoordinator {
    async fn get(&self, key: &str) -> Result<Option<KeyValue>> {
        let key = self.full_key(key);
        let answer = self
            .call(Effect::None, |client| {
                let key = key.clone();
                async move { client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX).get(key, None).await }
            })
            .await?;
        Ok(answer.kvs().first().and_then(|entry| self.key_reader().key_value(entry)))
    }

    async fn list_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        revision: Option<Revision>,
        limit: usize,
    ) -> Result<Page> {
        let (first, end) = self.key_range(prefix);
        // A key after `after` is one not below it with a zero byte added.
        let from = after.map_or(first, |after| [self.full_key(after).as_bytes(), &[0]].concat());
        let options = GetOptions::new()
            .with_range(end)
            .with_limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .with_revision(revision.unwrap_or(0))
            .with_sort(SortTarget::Key, SortOrder::Ascend);
        let answer = self
            .call(Effect::None, |client| {
                let (from, options) = (from.clone(), options.clone());
                async move {
                    client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX).get(from, Some(options)).await
                }
            })
            .await?;
        let now = answer.header().map_or(0, |header| header.revision());
        let keys = self.key_reader();
        let entries = answer.kvs().iter().filter_map(|entry| keys.key_value(entry)).collect();
        Ok(Page { entries, revision: revision.unwrap_or(now), more: answer.more() })
    }

    async fn transact(&self, compares: Vec<Compare>, operations: Vec<Operation>) -> Result<TransactionResult> {
        check_transaction(&compares, &operations)?;
        let compares: Vec<EtcdCompare> =
            compares.into_iter().map(|compare| etcd_compare(self.full_key(&compare.key), compare.condition)).collect();
        let operations: Vec<TxnOp> = operations
            .into_iter()
            .map(|operation| match operation {
                Operation::Put { key, value, lease } => {
                    let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
                    TxnOp::put(self.full_key(&key), value, options)
                }
                Operation::Delete { key } => TxnOp::delete(self.full_key(&key), None),
            })
            .collect();
        let transaction = Txn::new().when(compares).and_then(operations);
        let answer = self
            .call(Effect::Change, |mut client| {
                let transaction = transaction.clone();
                async move { client.txn(transaction).await }
            })
            .await?;
        let revision = answer.header().map_or(0, |header| header.revision());
        Ok(TransactionResult { succeeded: answer.succeeded(), revision })
    }

    async fn lease_grant(&self, ttl_seconds: u32) -> Result<LeaseId> {
        let ttl_seconds = i64::from(ttl_seconds.max(1));
        // A lease nobody knows of ends by itself, so an unknown outcome is as good as none.
        let answer =
            self.call(Effect::None, |mut client| async move { client.lease_grant(ttl_seconds, None).await }).await?;
        Ok(LeaseId(answer.id()))
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<u32> {
        let answer = self
            .call(Effect::None, |mut client| async move {
                // The library keeps the first answer to itself; the second has the time.
                let (mut keeper, mut answers) = client.lease_keep_alive(lease.0).await?;
                keeper.keep_alive().await?;
                answers.message().await
            })
            .await?;
        match answer {
            Some(answer) if answer.ttl() > 0 => Ok(u32::try_from(answer.ttl()).unwrap_or(u32::MAX)),
            Some(_) => Err(Error::LeaseNotFound),
            None => Err(Error::Unavailable("the keep-alive stream has ended".into())),
        }
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<()> {
        let answer =
            self.call(Effect::None, |mut client| async move { client.lease_revoke(lease.0).await.map(drop) }).await;
        match answer {
            Err(Error::LeaseNotFound) => Ok(()),
            other => other,
        }
    }

    async fn watch(&self, prefix: &str, from_revision: Revision) -> Result<Watch> {
        super::watch::start(self, prefix, from_revision).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.call(Effect::None, |mut client| async move { client.compact(revision, None).await.map(drop) }).await
    }

    /// As the member tells that answers; members differ by little.
    async fn health(&self) -> Result<StoreHealth> {
        let status = self.call(Effect::None, |mut client| async move { client.status().await }).await?;
        let alarms = self
            .call(Effect::None, |mut client| async move { client.alarm(AlarmAction::Get, AlarmType::None, None).await })
            .await?;
        let bytes = |number: i64| u64::try_from(number).unwrap_or(0);
        let told = bytes(status.db_size_quota());
        Ok(StoreHealth {
            // The header of a status has no revision in older versions; every answer to a read has.
            revision: self.list_page("", None, None, 1).await?.revision,
            bytes: bytes(status.db_size()),
            bytes_in_use: bytes(status.raft_used_db_size()),
            quota_bytes: Some(if told > 0 { told } else { self.options.quota_bytes }),
            no_space: alarms.alarms().iter().any(|alarm| alarm.alarm() == AlarmType::Nospace),
        })
    }
}
