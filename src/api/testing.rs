//! What the tests of `api` stand on: services in memory that keep every promise of their traits, and a
//! server on loopback that is asked over real HTTP. Writes are evaluated by the same pure function
//! that the storage engine uses, so a test here cannot agree with a rule that nobody else has.

#![cfg(test)]

mod memory_items;

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::api::body::Limits;
use crate::api::doors::surface;
use crate::api::dynamodb::body_budget::BodyBudget;
use crate::api::rest::RestState;
use crate::api::server::{self, Listener, RunningServer, ServerOptions};
use crate::crypto::Key256;
use crate::domain::ids::{PrincipalId, SessionId, TableId, TenantId};
use crate::domain::observed::tag::TagNumbers;
use crate::domain::rid::Location;
use crate::domain::table::{TableChange, TableDefinition, TableSpecification, Tenant};
use crate::domain::table_options::OptionTimes;
use crate::domain::tenant_limits::TenantLimits;
use crate::domain::{Clock, Random, Refusal, TableName, TenantName, Timestamp};
use crate::services::access::{AccessLists, ClaimedTenant, Claims, TokenAuthenticator, TokenKey, TokenKeys, issue};
use crate::services::observing::{Logged, Observing};
use crate::services::ports::*;
use crate::services::usage::Meter;

pub use memory_items::MemoryItems;

/// A clock that stands still, in 2026.
pub struct StandingClock;

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_790_000_000_000_000)
    }
}

/// Bytes that never come twice: a counter.
#[derive(Default)]
pub struct CountingRandom(AtomicU64);

impl Random for CountingRandom {
    fn fill(&self, buffer: &mut [u8]) {
        for piece in buffer.chunks_mut(8) {
            let next = (self.0.fetch_add(1, Ordering::Relaxed) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            piece.copy_from_slice(&next.to_be_bytes()[..piece.len()]);
        }
    }
}

type Tables = BTreeMap<TableName, Arc<TableDefinition>>;

/// Tenants and tables in memory.
#[derive(Default)]
pub struct MemoryCatalog {
    tenants: Mutex<BTreeMap<TenantName, (Arc<Tenant>, Tables)>>,
    random: CountingRandom,
}

fn no_tenant() -> Refusal {
    Refusal::not_found("there is no such tenant")
}

#[async_trait]
impl Catalog for MemoryCatalog {
    fn table(&self, tenant: &TenantName, table: &TableName) -> Option<Arc<TableDefinition>> {
        self.tenants.lock().get(tenant)?.1.get(table).cloned()
    }

    fn tenant(&self, tenant: &TenantName) -> Option<Arc<Tenant>> {
        self.tenants.lock().get(tenant).map(|(tenant, _)| tenant.clone())
    }

    async fn list_tenants(&self, after: Option<&str>, limit: usize) -> Result<Vec<Tenant>, Refusal> {
        let tenants = self.tenants.lock();
        let wanted = tenants.values().map(|(tenant, _)| tenant);
        let wanted = wanted.filter(|tenant| after.is_none_or(|after| tenant.name.as_str() > after));
        Ok(wanted.take(limit).map(|tenant| (**tenant).clone()).collect())
    }

    async fn list_tables(
        &self,
        tenant: &TenantName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TableDefinition>, Refusal> {
        let tenants = self.tenants.lock();
        let (_, tables) = tenants.get(tenant).ok_or_else(no_tenant)?;
        let wanted = tables.values().filter(|table| after.is_none_or(|after| table.name.as_str() > after));
        Ok(wanted.take(limit).map(|table| (**table).clone()).collect())
    }

    async fn create_tenant(&self, _caller: &Caller, tenant: &TenantName) -> Result<(Tenant, Creation), Refusal> {
        let mut tenants = self.tenants.lock();
        if let Some((known, _)) = tenants.get(tenant) {
            return Ok(((**known).clone(), Creation::Unchanged));
        }
        let id = TenantId::random(&self.random);
        let (name, limits) = (tenant.clone(), TenantLimits::default());
        let new = Tenant { id, name, created_at: StandingClock.now(), limits };
        tenants.insert(tenant.clone(), (Arc::new(new.clone()), Tables::new()));
        Ok((new, Creation::Created))
    }

    async fn delete_tenant(&self, _caller: &Caller, tenant: &TenantName, recursive: bool) -> Result<(), Refusal> {
        let mut tenants = self.tenants.lock();
        let (_, tables) = tenants.get(tenant).ok_or_else(no_tenant)?;
        if !tables.is_empty() && !recursive {
            return Err(Refusal::conflict("the tenant has tables; delete them first, or ask with ?recursive=true"));
        }
        tenants.remove(tenant);
        Ok(())
    }

    async fn create_table(
        &self,
        _caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
        specification: TableSpecification,
    ) -> Result<(TableDefinition, Creation), Refusal> {
        let mut tenants = self.tenants.lock();
        let (owner, tables) = tenants.get_mut(tenant).ok_or_else(no_tenant)?;
        if let Some(known) = tables.get(table) {
            let same = known.specification == specification;
            let different = || Refusal::conflict("there is a table of this name with another definition");
            return if same { Ok(((**known).clone(), Creation::Unchanged)) } else { Err(different()) };
        }
        let new = TableDefinition {
            tenant_id: owner.id,
            tenant: tenant.clone(),
            id: TableId::random(&self.random),
            name: table.clone(),
            specification,
            created_at: StandingClock.now(),
            version: 1,
            option_times: OptionTimes::default(),
        };
        tables.insert(table.clone(), Arc::new(new.clone()));
        Ok((new, Creation::Created))
    }

    async fn change_table(
        &self,
        _caller: &Caller,
        tenant: &TenantName,
        table: &TableName,
        change: TableChange,
    ) -> Result<TableDefinition, Refusal> {
        let mut tenants = self.tenants.lock();
        let (_, tables) = tenants.get_mut(tenant).ok_or_else(no_tenant)?;
        let there = tables.get_mut(table).ok_or_else(|| Refusal::not_found("there is no such table"))?;
        let mut changed = (**there).clone();
        change.apply(&mut changed.specification)?;
        if changed == **there {
            return Ok(changed);
        }
        changed.option_times.note(&there.specification, &changed.specification, StandingClock.now());
        changed.version += 1;
        *there = Arc::new(changed.clone());
        Ok(changed)
    }

    async fn delete_table(&self, _caller: &Caller, tenant: &TenantName, table: &TableName) -> Result<(), Refusal> {
        let mut tenants = self.tenants.lock();
        let (_, tables) = tenants.get_mut(tenant).ok_or_else(no_tenant)?;
        if tables.get(table).is_some_and(|there| there.specification.deletion_protection) {
            return Err(Refusal::conflict("the table is protected from being deleted"));
        }
        tables.remove(table).map(|_| ()).ok_or_else(|| Refusal::not_found("there is no such table"))
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {}", self.text))
    }

    /// A header as text; empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The last part of a problem's type, after checking that it is a whole problem of this status.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert!(!problem["detail"].as_str().unwrap().is_empty() && !problem["title"].as_str().unwrap().is_empty());
        problem["type"].as_str().unwrap().strip_prefix("urn:dstore:problem:").unwrap().to_owned()
    }
}

/// A server over services in memory, with tenants `acme` and `globex` in which tables `plain` (String)
/// and `sorted` (String, Integer) stand.
pub struct Fixture {
    /// The items.
    pub items: Arc<MemoryItems>,
    /// The tenants and tables.
    pub catalog: Arc<MemoryCatalog>,
    /// What was counted.
    pub meter: Arc<Meter>,
    /// What handlers work with.
    pub state: Arc<RestState>,
    /// Where the server listens.
    pub address: SocketAddr,
    /// A token of root.
    pub root: String,
    token_key: TokenKey,
    lists: Arc<AccessLists>,
    client: reqwest::Client,
    _server: RunningServer,
}

impl Fixture {
    /// Starts the server.
    pub async fn start() -> Fixture {
        Self::start_with(Limits::default()).await
    }

    /// Starts the server with other limits for bodies.
    pub async fn start_with(body_limits: Limits) -> Fixture {
        Self::start_over(body_limits, |items, _| items).await
    }

    /// Starts the server over items that stand before those in memory. Two servers have the same keys and
    /// the same ids of tables.
    pub async fn start_over(
        body_limits: Limits,
        before: impl FnOnce(Arc<MemoryItems>, Arc<MemoryCatalog>) -> Arc<dyn Items>,
    ) -> Fixture {
        let items = Arc::new(MemoryItems::default());
        let catalog = Arc::new(MemoryCatalog::default());
        let token_key = TokenKey::new("k1", Key256::new([7; 32]));
        let token_keys = Arc::new(TokenKeys::new(vec![token_key.clone()]));
        let lists = Arc::new(AccessLists::default());
        let clock = Arc::new(StandingClock);
        let meter = Arc::<Meter>::default();
        let state = Arc::new(RestState {
            items: before(items.clone(), catalog.clone()),
            catalog: catalog.clone(),
            authenticator: Arc::new(TokenAuthenticator::new(token_keys.clone(), lists.clone(), clock.clone())),
            access: lists.clone(),
            domain: Some("db.example".into()),
            token_keys,
            clock,
            random: Arc::new(CountingRandom::default()),
            location: Location::free(),
            readiness: Arc::new(|| Ok(())),
            body_limits,
            body_budget: BodyBudget::default(),
            meter: meter.clone(),
            observing: Arc::new(Observing {
                logged: Logged::All,
                slow: None,
                tracing: None,
                numbers: TagNumbers::new(&CountingRandom::default()),
            }),
        });
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), None).unwrap();
        let options = ServerOptions { workers: 1, ..ServerOptions::default() };
        let served = state.clone();
        let server = server::start(vec![listener], &options, move || surface(served.clone())).unwrap();
        let address = server.addresses()[0];
        // Another test may have been first; any provider will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        let root = String::new();
        let mut fixture =
            Fixture { items, catalog, meter, state, address, root, token_key, lists, client, _server: server };
        fixture.root = fixture.token(None, &[]);
        fixture.fill().await;
        fixture
    }

    async fn fill(&self) {
        for tenant in ["acme", "globex"] {
            let path = format!("/v1/tenant/{tenant}");
            assert_eq!(self.ask("PUT", &path, &[], "").await.status, 201);
            for (table, body) in
                [("plain", r#"{"id_type":"String"}"#), ("sorted", r#"{"id_type":"String","sort_type":"Integer"}"#)]
            {
                let answer = self.ask("PUT", &format!("{path}/table/{table}"), &[], body).await;
                assert_eq!(answer.status, 201, "{answer:?}");
            }
        }
    }

    /// A token of a principal of this tenant (none: root) with these capabilities. All principals
    /// of a tenant share a name and an id, which no test depends on.
    pub fn token(&self, tenant: Option<&str>, capabilities: &[Capability]) -> String {
        let tenant = tenant.map(|name| {
            let name = TenantName::new(name).unwrap();
            let id = self.catalog.tenant(&name).map_or(TenantId::from_bytes([9; 16]), |tenant| tenant.id);
            ClaimedTenant { id, name }
        });
        let principal = PrincipalId::from_bytes(tenant.as_ref().map_or([1; 16], |tenant| *tenant.id.as_bytes()));
        let mut known: HashSet<PrincipalId> = self.lists.principals().iter().copied().collect();
        known.insert(principal);
        self.lists.set_principals(known);
        let claims = Claims {
            principal,
            name: "someone".into(),
            tenant,
            session: SessionId::from_bytes([3; 16]),
            capabilities: capabilities.to_vec(),
            issued_at_seconds: 1_789_999_000,
            expires_at_seconds: 1_790_001_000,
        };
        issue(self.token_key.key(), self.token_key.id(), &claims, [5; 12]).unwrap()
    }

    /// Asks as root. A body is sent as JSON unless a header says otherwise.
    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask_as(&self.root, method, path, headers, body).await
    }

    /// Asks with this token (empty: none).
    pub async fn ask_as(&self, token: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("http://{}{path}", self.address));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if !body.is_empty() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body.to_owned()).send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }
}
