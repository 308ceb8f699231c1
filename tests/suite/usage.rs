//! What is counted, from requests over HTTP to what reporting is given: exact over a planned stop, and asked for by reporting
//! alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dstore::api::inside::{USAGE_PATH, usage_surface};
use dstore::api::server::{Listener, ServerOptions, start};
use dstore::config::Config;
use dstore::domain::ids::{PlaneId, Role};
use dstore::domain::usage::{Component, KeptUpTo, UsageBatch, UsageOperation, UsagePull, UsagePulled, UsageResult};
use dstore::domain::{Refusal, RefusalKind};
use dstore::roles::{lifecycle, one_process};
use dstore::services::control::SecretName;
use dstore::services::ports::Caller;
use dstore::services::usage::UsageSource;
use dstore::transport::client::JsonClient;
use dstore::transport::tls::{ClientCertificates, client_config, server_config};
use reqwest::Method;
use uuid::Uuid;

use crate::process::{DEADLINE, client};
use crate::ranges::{Cluster, PLANE};

const REPORTER: Uuid = Uuid::from_bytes([9; 16]);

/// What a reporter has got so far.
#[derive(Default)]
struct Gathered {
    batches: Vec<UsageBatch>,
}

impl Gathered {
    async fn pull(&mut self, source: &dyn UsageSource) {
        let acknowledged = self.batches.last().map(|last| KeptUpTo { boot: last.id.boot, interval: last.id.interval });
        let pulled = source.pull(REPORTER, UsagePull { acknowledged, batches_max: 7 }).await;
        // Until the spool is open.
        let Ok(UsagePulled { batches, dropped, .. }) = pulled else { return };
        assert_eq!(dropped, 0);
        self.batches.extend(batches);
    }

    fn requests(&self) -> BTreeMap<(UsageOperation, UsageResult), u64> {
        let mut requests = BTreeMap::new();
        for (key, counts) in self.batches.iter().flat_map(|batch| &batch.counts) {
            if key.table.is_some() {
                *requests.entry((key.operation, key.result)).or_default() += counts.requests;
            }
        }
        requests
    }

    async fn until(&mut self, source: &dyn UsageSource, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "in vain: {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.pull(source).await;
        }
    }
}

async fn dev(folder: &std::path::Path) -> one_process::OneProcess {
    let (config, origins) = Config::load(None, [], Vec::new()).unwrap();
    let mut options = lifecycle::one_process_options("dstore dev", &config, &origins, 1).unwrap();
    options.data = folder.to_owned();
    options.listen = "127.0.0.1:0".parse().unwrap();
    options.admin_listen = options.listen;
    options.node.key_round_seconds = 1;
    one_process::start(options).await.unwrap()
}

#[tokio::test]
async fn what_clients_do_is_what_reporting_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let mut gathered = Gathered::default();
    let running = dev(folder.path()).await;
    let (url, token, client) = (running.credentials.url.clone(), running.credentials.token.clone(), client());
    let table = format!("{url}/v1/tenant/{}/table/things", running.credentials.tenant);
    let ask = async |method: Method, path: &str, body: &str| {
        let request = client.request(method, format!("{table}{path}")).bearer_auth(&token);
        let request = request.header("content-type", "application/json").body(body.to_owned());
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask(Method::PUT, "", r#"{"id_type":"Integer","initial_ranges":1}"#).await, 201);
    for number in 0..30 {
        assert_eq!(ask(Method::PUT, &format!("/id/{number}"), r#"{"n":"0123456789"}"#).await, 201);
        assert_eq!(ask(Method::GET, &format!("/id/{number}"), "").await, 200);
        assert_eq!(ask(Method::GET, &format!("/id/{}", 1000 + number), "").await, 404);
    }
    let source = running.usage().remove(0);
    let ranges = |gathered: &Gathered| gathered.batches.iter().flat_map(|batch| &batch.ranges).last().cloned();
    let has_items = |gathered: &Gathered| ranges(gathered).is_some_and(|range| range.items == 30);
    gathered.until(&*source, "the range is told of with its items", has_items).await;
    let range = ranges(&gathered).unwrap();
    assert!(range.stored_bytes >= 30 * 11 && range.stored_bytes < 30 * 40, "{range:?}");
    assert_eq!(
        gathered.batches.iter().flat_map(|batch| &batch.names).find(|(id, _)| **id == range.table.0).unwrap().1,
        "things"
    );
    running.stop().await;

    let running = dev(folder.path()).await;
    let source = running.usage().remove(0);
    let has_begun = |gathered: &Gathered| gathered.batches.iter().filter(|batch| batch.before.is_some()).count() == 1;
    gathered.until(&*source, "the second start is told", has_begun).await;
    let expected = [
        ((UsageOperation::GetItem, UsageResult::Ok), 30),
        ((UsageOperation::GetItem, UsageResult::NotFound), 30),
        ((UsageOperation::PutItem, UsageResult::Ok), 30),
    ];
    assert_eq!(gathered.requests(), BTreeMap::from(expected));
    let second = gathered.batches.iter().position(|batch| batch.before.is_some()).unwrap();
    let (before, last) = (gathered.batches[second].before.unwrap(), &gathered.batches[second - 1]);
    assert!(before.was_planned && last.is_last && before.interval == last.id.interval, "{before:?}");
    assert_eq!(running.control.notice_list(None).await.unwrap(), []);
    running.stop().await;
}

/// What was kept under the node's key before a rotation is read after it, though the old version is destroyed.
#[tokio::test]
async fn a_rotation_of_the_nodes_key_loses_no_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut gathered = Gathered::default();
    let running = dev(folder.path()).await;
    let source = running.usage().remove(0);
    gathered.until(&*source, "the start is told", |gathered| !gathered.batches.is_empty()).await;
    let root = running.control.principal_root().await.unwrap();
    let caller = Caller { principal: root.id, name: "test".into(), tenant: None, capabilities: vec![] };
    let name = SecretName::Node(running.control.node_list().await.unwrap()[0].id);
    assert_eq!(running.control.key_rotate(&caller, name).await.unwrap(), 2);
    until_old_is_gone(&running, name).await;
    running.stop().await;

    let running = dev(folder.path()).await;
    let (source, mut anew) = (running.usage().remove(0), Gathered::default());
    let is_all = |anew: &Gathered| anew.batches.iter().any(|batch| batch.before.is_some());
    anew.until(&*source, "both starts are told", is_all).await;
    assert_eq!(anew.batches[0], gathered.batches[0]);
    assert_eq!(running.control.notice_list(None).await.unwrap(), []);
    running.stop().await;
}

async fn until_old_is_gone(running: &one_process::OneProcess, name: SecretName) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let keys = running.control.key_list().await.unwrap();
        let key = keys.iter().find(|key| key.kind == name.kind() && key.owner == name.owner()).unwrap();
        if key.version == 2 && key.old_version.is_none() {
            return;
        }
        assert!(Instant::now() < deadline, "the old version is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Has counted nothing, and says who asked.
struct Empty;

#[async_trait::async_trait]
impl UsageSource for Empty {
    async fn pull(&self, reporter: Uuid, _: UsagePull) -> Result<UsagePulled, Refusal> {
        let component = Component { role: Role::Proxy, id: reporter };
        Ok(UsagePulled { component, batches: Vec::new(), dropped: 0 })
    }
}

#[tokio::test]
async fn a_proxy_tells_reporting_and_nobody_else() {
    let cluster = Cluster::new();
    let own = cluster.identity(PLANE, Role::Proxy, 3);
    let tls = server_config(own, &cluster.authority_pem, ClientCertificates::Required).unwrap();
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), Some(tls)).unwrap();
    let options = ServerOptions { workers: 1, ..ServerOptions::default() };
    let server = start(vec![listener], &options, || usage_surface(Arc::new(Empty), PLANE)).unwrap();
    let url = format!("https://{}", server.addresses()[0]);
    let ask = async |plane: PlaneId, role: Role| {
        let tls = client_config(Some(cluster.identity(plane, role, 9)), &cluster.authority_pem, Role::Proxy).unwrap();
        let pull = UsagePull { acknowledged: None, batches_max: 5 };
        JsonClient::new(&url, Some(tls)).unwrap().send::<_, UsagePulled>(Method::POST, USAGE_PATH, Some(&pull)).await
    };
    assert_eq!(
        ask(PLANE, Role::Reporting).await.unwrap().component.id,
        REPORTER,
        "who asks is who its certificate names"
    );
    for role in [Role::Control, Role::Node, Role::Proxy] {
        assert_eq!(ask(PLANE, role).await.unwrap_err().kind, RefusalKind::Denied, "{role}");
    }
    let other_plane = PlaneId::from_bytes([99; 16]);
    assert!(ask(other_plane, Role::Reporting).await.is_err());
    server.stop().await.unwrap();
}
