//! One suite for every coordinator. Each case is written once, against a [`Cluster`] that is either a
//! real etcd with authentication and roles, or the embedded store over a real file; the macro at the
//! end makes a test of every pair. A case takes a fresh cluster, so cases do not see each other.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::embedded::{EmbeddedOptions, EmbeddedStore};
use super::etcd::{EtcdCoordinator, EtcdOptions, enable_authentication, install_roles};
use super::reflector::{Reflected, Reflector, ReflectorOptions};
use super::testing::EtcdServer;
use super::{Compare, Coordinator, Error, EventKind, LeaseId, Operation, Result, Watch, WatchEvent, Writer};
use crate::domain::ids::{NodeId, ProxyId, ReporterId};

const DEADLINE: Duration = Duration::from_secs(30);
const NODE: Writer = Writer::Node(NodeId(uuid::Uuid::from_u128(1)));
const OTHER_NODE: Writer = Writer::Node(NodeId(uuid::Uuid::from_u128(2)));
const PROXY: Writer = Writer::Proxy(ProxyId(uuid::Uuid::from_u128(3)));
const REPORTING: Writer = Writer::Reporting(ReporterId(uuid::Uuid::from_u128(4)));
const PASSWORD: &str = "correct horse";

/// What a case runs on.
pub(super) enum Cluster {
    Etcd { server: EtcdServer, handles: BTreeMap<String, Arc<EtcdCoordinator>> },
    Embedded { folder: tempfile::TempDir, store: Option<EmbeddedStore> },
}

impl Cluster {
    pub(super) async fn etcd() -> Self {
        let server = EtcdServer::start().expect("etcd starts; is it installed?");
        let root = |password: Option<&str>| {
            let mut options = EtcdOptions::plain(server.endpoint(), "dstore/test/");
            options.user = password.map(|password| ("root".to_owned(), password.to_owned().into()));
            EtcdCoordinator::new(options)
        };
        enable_authentication(&root(None), PASSWORD).await.unwrap();
        let root = root(Some(PASSWORD));
        let mut handles = BTreeMap::new();
        for writer in [Writer::Control, NODE, OTHER_NODE, PROXY, REPORTING] {
            install_roles(&root, &writer, Some(PASSWORD)).await.unwrap();
            let mut options = EtcdOptions::plain(server.endpoint(), "dstore/test/");
            options.user = Some((writer.name(), PASSWORD.to_owned().into()));
            options.request_timeout_ms = 20_000;
            handles.insert(writer.name(), Arc::new(EtcdCoordinator::new(options)));
        }
        Cluster::Etcd { server, handles }
    }

    pub(super) async fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::Embedded { folder, store: None };
        cluster.restart().await;
        cluster
    }

    fn handle(&self, writer: Writer) -> Arc<dyn Coordinator> {
        match self {
            Cluster::Etcd { handles, .. } => handles[&writer.name()].clone(),
            Cluster::Embedded { store, .. } => Arc::new(store.as_ref().unwrap().handle(writer)),
        }
    }

    pub(super) fn control(&self) -> Arc<dyn Coordinator> {
        self.handle(Writer::Control)
    }

    /// Stops the server without a farewell and starts it over the same data.
    async fn restart(&mut self) {
        match self {
            Cluster::Etcd { server, .. } => server.restart().unwrap(),
            Cluster::Embedded { folder, store } => {
                drop(store.take());
                *store = Some(EmbeddedStore::open(&folder.path().join("db"), EmbeddedOptions::default()).unwrap());
            }
        }
    }
}

/// Asks again until it holds; fails the test at the deadline.
async fn eventually<Answer: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> Answer) {
    let deadline = Instant::now() + DEADLINE;
    while !ask().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The next `count` events of a watch.
async fn events(watch: &mut Watch, count: usize) -> Vec<WatchEvent> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(timeout(DEADLINE, watch.next()).await.expect("an event in time").unwrap().events);
    }
    all
}

/// The error a watch ends with.
async fn watch_end(watch: Result<Watch>) -> Error {
    let mut watch = match watch {
        Ok(watch) => watch,
        Err(error) => return error,
    };
    loop {
        if let Err(error) = timeout(DEADLINE, watch.next()).await.expect("the watch ends in time") {
            return error;
        }
    }
}

async fn value(coordinator: &Arc<dyn Coordinator>, key: &str) -> Option<String> {
    let entry = coordinator.get(key).await.unwrap()?;
    Some(String::from_utf8(entry.value.to_vec()).unwrap())
}

fn told(events: &[WatchEvent]) -> Vec<String> {
    let tell = |event: &WatchEvent| match &event.kind {
        EventKind::Put(entry) => format!("{}={}", entry.key, String::from_utf8_lossy(&entry.value)),
        EventKind::Delete { key } => format!("{key} gone"),
    };
    events.iter().map(tell).collect()
}

async fn keys_remember_their_revisions(cluster: Cluster) {
    let control = cluster.control();
    assert_eq!(control.get("tenant/a").await.unwrap(), None);
    let first = control.put("tenant/a", "1".into(), None).await.unwrap();
    let second = control.put("tenant/a", "2".into(), None).await.unwrap();
    assert!(second > first);
    let entry = control.get("tenant/a").await.unwrap().unwrap();
    assert_eq!((entry.key.as_str(), entry.value.as_ref()), ("tenant/a", b"2".as_slice()));
    assert_eq!((entry.create_revision, entry.mod_revision, entry.version, entry.lease), (first, second, 2, None));
    let third = control.delete("tenant/a").await.unwrap();
    assert!(third > second);
    assert_eq!(control.delete("tenant/a").await.unwrap(), third, "removing nothing is no change");
    let fourth = control.put("tenant/a", "3".into(), None).await.unwrap();
    let entry = control.get("tenant/a").await.unwrap().unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision, entry.version), (fourth, fourth, 1));
}

async fn all_compares_hold_or_nothing_happens(cluster: Cluster) {
    let control = cluster.control();
    let made = control
        .transact(
            vec![Compare::absent("tenant/a"), Compare::mod_revision("tenant/b", 0), Compare::version("tenant/c", 0)],
            vec![Operation::put("tenant/a", "1"), Operation::put("tenant/b", "1"), Operation::delete("tenant/c")],
        )
        .await
        .unwrap();
    assert!(made.succeeded);
    let a = control.get("tenant/a").await.unwrap();
    let b = control.get("tenant/b").await.unwrap();
    assert_eq!(a.as_ref().unwrap().mod_revision, made.revision);
    assert_eq!(b.as_ref().unwrap().mod_revision, made.revision, "one transaction, one revision");

    let both = vec![Operation::put("tenant/a", "2"), Operation::delete("tenant/b")];
    for broken in [
        Compare::absent("tenant/b"),
        Compare::present("tenant/c"),
        Compare::mod_revision("tenant/b", made.revision - 1),
        Compare::version("tenant/b", 2),
        Compare::value("tenant/b", "2"),
        Compare::value("tenant/c", ""),
    ] {
        let compares = vec![Compare::unchanged("tenant/a", a.as_ref()), broken.clone()];
        let refused = control.transact(compares, both.clone()).await.unwrap();
        assert!(!refused.succeeded, "{broken:?}");
        assert_eq!(refused.revision, made.revision);
    }
    assert_eq!(value(&control, "tenant/a").await.as_deref(), Some("1"));

    let compares = vec![
        Compare::unchanged("tenant/a", a.as_ref()),
        Compare::value("tenant/b", "1"),
        Compare::version("tenant/b", 1),
        Compare::present("tenant/b"),
    ];
    assert!(control.transact(compares, both).await.unwrap().succeeded);
    assert_eq!(value(&control, "tenant/a").await.as_deref(), Some("2"));
    assert_eq!(value(&control, "tenant/b").await, None);
}

async fn of_many_that_compare_and_set_one_wins_each_round(cluster: Cluster) {
    let control = cluster.control();
    let adders = (0..8).map(|_| {
        let control = control.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while done < 10 {
                let read = control.get("tenant/counter").await.unwrap();
                let number: u32 =
                    read.as_ref().map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap());
                let compares = vec![Compare::unchanged("tenant/counter", read.as_ref())];
                let operations = vec![Operation::put("tenant/counter", (number + 1).to_string())];
                done += u32::from(control.transact(compares, operations).await.unwrap().succeeded);
            }
        })
    });
    for adder in adders.collect::<Vec<_>>() {
        timeout(DEADLINE, adder).await.unwrap().unwrap();
    }
    assert_eq!(value(&control, "tenant/counter").await.as_deref(), Some("80"));
}

async fn limits_are_the_same(cluster: Cluster) {
    let control = cluster.control();
    let many = |count: usize| (0..count).map(|number| Operation::put(format!("tenant/{number}"), "")).collect();
    assert!(control.transact(vec![], many(128)).await.unwrap().succeeded);
    assert!(matches!(control.transact(vec![], many(129)).await, Err(Error::TooLarge(_))));
    let large = vec![Operation::put("tenant/large", vec![7; 1_400_000])];
    assert!(control.transact(vec![], large).await.unwrap().succeeded);
    assert_eq!(control.get("tenant/large").await.unwrap().unwrap().value.len(), 1_400_000);
    let too_large = vec![Operation::put("tenant/large", vec![7; 1_500_000])];
    assert!(matches!(control.transact(vec![], too_large).await, Err(Error::TooLarge(_))));
    let twice = vec![Operation::put("tenant/a", "1"), Operation::delete("tenant/a")];
    assert!(matches!(control.transact(vec![], twice).await, Err(Error::BadRequest(_))));
}

async fn thousands_of_keys_are_listed_at_one_revision(cluster: Cluster) {
    const KEYS: usize = 3_000;
    let control = cluster.control();
    let operations = (0..KEYS).map(|number| Operation::put(format!("tenant/acme/users/{number:010}"), "v"));
    for piece in super::batches(operations) {
        assert!(control.transact(vec![], piece).await.unwrap().succeeded);
    }
    control.put("tenant/acme/users2/0000000000", "not of users".into(), None).await.unwrap();
    let page = control.list_page("tenant/acme/users/", None, None, 1_000).await.unwrap();
    assert!(page.more && page.entries.len() == 1_000);
    // Changes between two pages do not show in the second.
    control.delete("tenant/acme/users/0000001500").await.unwrap();
    control.put("tenant/acme/users/0000001501", "changed".into(), None).await.unwrap();
    control.put("tenant/acme/users/0000001501x", "new".into(), None).await.unwrap();
    let after = page.entries.last().map(|entry| entry.key.clone());
    let next = control.list_page("tenant/acme/users/", after.as_deref(), Some(page.revision), 1_000).await.unwrap();
    assert_eq!(next.revision, page.revision);
    let keys: Vec<&str> = next.entries.iter().map(|entry| entry.key.as_str()).collect();
    let expected: Vec<String> = (1_000..2_000).map(|number| format!("tenant/acme/users/{number:010}")).collect();
    assert_eq!(keys, expected);
    assert!(next.entries.iter().all(|entry| entry.value.as_ref() == b"v" && entry.version == 1));

    let all = control.list("tenant/acme/users/").await.unwrap();
    assert_eq!(all.entries.len(), KEYS, "one removed, one new");
    assert!(all.entries.windows(2).all(|pair| pair[0].key < pair[1].key));
    assert!(control.list("tenant/nobody/").await.unwrap().entries.is_empty());
}

async fn a_watch_tells_everything_from_its_revision_on(cluster: Cluster) {
    let control = cluster.control();
    let start = control.put("tenant/a", "1".into(), None).await.unwrap();
    control.put("node/elsewhere", "x".into(), None).await.unwrap();
    control.transact(vec![], vec![Operation::put("tenant/b", "1"), Operation::delete("tenant/a")]).await.unwrap();
    let mut watch = control.watch("tenant/", start).await.unwrap();
    let past = events(&mut watch, 3).await;
    assert_eq!(told(&past), ["tenant/a=1", "tenant/b=1", "tenant/a gone"]);
    assert_eq!(past[1].revision, past[2].revision);
    let revision = control.put("tenant/c", "1".into(), None).await.unwrap();
    let now = events(&mut watch, 1).await;
    assert_eq!(told(&now), ["tenant/c=1"]);
    assert_eq!(now[0].revision, revision);
    let EventKind::Put(entry) = &now[0].kind else { panic!("a put") };
    assert_eq!((entry.create_revision, entry.mod_revision, entry.version), (revision, revision, 1));
    let mut resumed = control.watch("tenant/", now[0].revision).await.unwrap();
    assert_eq!(told(&events(&mut resumed, 1).await), ["tenant/c=1"]);
}

async fn leases_end_unless_kept_alive(cluster: Cluster) {
    let node = cluster.handle(NODE);
    let key = |name: &str| format!("node/{}/{name}", uuid::Uuid::from_u128(1));
    // Long enough that neither is over before it is used, on a slow disk too.
    let (kept, left) = (node.lease_grant(15).await.unwrap(), node.lease_grant(4).await.unwrap());
    let start = node.put(&key("kept"), "{}".into(), Some(kept)).await.unwrap();
    node.put(&key("left"), "{}".into(), Some(left)).await.unwrap();
    node.put(&key("freed"), "{}".into(), Some(left)).await.unwrap();
    node.put(&key("freed"), "{}".into(), None).await.unwrap();
    assert_eq!(node.get(&key("kept")).await.unwrap().unwrap().lease, Some(kept));
    let mut watch = node.watch(&key(""), start).await.unwrap();
    eventually("the lease left alone ends", || async {
        assert!(node.lease_keep_alive(kept).await.unwrap() >= 1);
        node.get(&key("left")).await.unwrap().is_none()
    })
    .await;
    assert!(node.get(&key("kept")).await.unwrap().is_some() && node.get(&key("freed")).await.unwrap().is_some());
    assert_eq!(told(&events(&mut watch, 5).await)[4], format!("{} gone", key("left")));
    assert!(matches!(node.lease_keep_alive(left).await, Err(Error::LeaseNotFound)));
    assert!(matches!(node.put(&key("late"), "{}".into(), Some(left)).await, Err(Error::LeaseNotFound)));
    node.lease_revoke(kept).await.unwrap();
    node.lease_revoke(kept).await.unwrap();
    assert!(node.get(&key("kept")).await.unwrap().is_none());
    assert!(matches!(node.lease_keep_alive(LeaseId(123_456_789)).await, Err(Error::LeaseNotFound)));
}

async fn what_is_compacted_is_said_and_listed_again(cluster: Cluster) {
    let control = cluster.control();
    let first = control.put("tenant/a", "1".into(), None).await.unwrap();
    control.put("tenant/b", "1".into(), None).await.unwrap();
    control.delete("tenant/b").await.unwrap();
    let last = control.put("tenant/a", "2".into(), None).await.unwrap();
    control.compact(last).await.unwrap();
    assert!(matches!(watch_end(control.watch("tenant/", first).await).await, Error::Compacted { .. }));
    let past = control.list_page("tenant/", None, Some(first), 10).await;
    assert!(matches!(past, Err(Error::Compacted { .. })), "{past:?}");
    assert!(matches!(control.compact(first).await, Err(Error::Compacted { .. })));
    let listing = control.list("tenant/").await.unwrap();
    assert_eq!(listing.entries.len(), 1);
    assert_eq!(listing.entries[0].value.as_ref(), b"2");
    let mut watch = control.watch("tenant/", listing.revision + 1).await.unwrap();
    control.put("tenant/c", "1".into(), None).await.unwrap();
    assert_eq!(told(&events(&mut watch, 1).await), ["tenant/c=1"]);
}

async fn the_store_says_how_it_is(cluster: Cluster) {
    let control = cluster.control();
    let revision = control.put("tenant/a", vec![7; 100_000].into(), None).await.unwrap();
    let before = control.health().await.unwrap();
    assert_eq!((before.revision, before.no_space), (revision, false));
    assert!(before.bytes_in_use <= before.bytes && before.bytes_in_use > 0, "{before:?}");
    assert!(before.quota_bytes.is_none_or(|quota| quota > before.bytes), "{before:?}");
    // Thirty revisions of one key take room until the past is compacted away.
    for _ in 0..30 {
        control.put("tenant/a", vec![8; 100_000].into(), None).await.unwrap();
    }
    eventually("the file has grown", || async { control.health().await.unwrap().bytes > before.bytes + 2_000_000 })
        .await;
    let grown = control.health().await.unwrap();
    assert_eq!(grown.revision, revision + 30);
    control.compact(grown.revision).await.unwrap();
    eventually("what was compacted is room again", || async {
        // etcd counts what it frees with the next commit.
        control.put("tenant/b", "1".into(), None).await.unwrap();
        control.health().await.unwrap().bytes_in_use + 1_000_000 < grown.bytes
    })
    .await;
}

async fn a_restart_keeps_everything(mut cluster: Cluster) {
    let control = cluster.control();
    let lease = control.lease_grant(60).await.unwrap();
    let short = control.lease_grant(4).await.unwrap();
    let start = control.put("tenant/a", "1".into(), None).await.unwrap();
    control.put("tenant/leased", "1".into(), Some(lease)).await.unwrap();
    control.put("tenant/short", "1".into(), Some(short)).await.unwrap();
    let mut broken = control.watch("tenant/", start).await.unwrap();
    events(&mut broken, 3).await;
    cluster.restart().await;
    let control = cluster.control();
    assert!(matches!(watch_end(Ok(broken)).await, Error::Unavailable(_)), "a watch ends with its server");
    eventually("the server answers again", || async { control.get("tenant/a").await.is_ok() }).await;
    let entry = control.get("tenant/a").await.unwrap().unwrap();
    assert_eq!((entry.mod_revision, entry.version), (start, 1));
    assert_eq!(control.get("tenant/leased").await.unwrap().unwrap().lease, Some(lease));
    assert!(control.lease_keep_alive(lease).await.unwrap() > 1);
    let revision = control.put("tenant/b", "1".into(), None).await.unwrap();
    assert!(revision > start + 2, "revisions go on");
    let mut resumed = control.watch("tenant/", start).await.unwrap();
    assert_eq!(told(&events(&mut resumed, 1).await)[0], "tenant/a=1", "watches reach back over the restart");
    eventually("a lease ends after the restart, too", || async {
        control.get("tenant/short").await.unwrap().is_none()
    })
    .await;
    assert!(control.get("tenant/leased").await.unwrap().is_some());
}

async fn everyone_keeps_to_their_keys(cluster: Cluster) {
    let (control, node, proxy) = (cluster.control(), cluster.handle(NODE), cluster.handle(PROXY));
    let own = format!("node/{}/details", uuid::Uuid::from_u128(1));
    let foreign = format!("node/{}/details", uuid::Uuid::from_u128(2));
    for allowed in [own.clone(), format!("notice/{}/x", uuid::Uuid::from_u128(1)), "tenant/acme/users/1".into()] {
        node.put(&allowed, "{}".into(), None).await.unwrap();
        assert!(node.get(&allowed).await.unwrap().is_some());
    }
    control.put("control/key/root", "sealed".into(), None).await.unwrap();
    control.put("control/table/acme/users", "{}".into(), None).await.unwrap();
    cluster.handle(OTHER_NODE).put(&foreign, "{}".into(), None).await.unwrap();
    for denied in [foreign.as_str(), "control/table/acme/users", "notice/x", "tenants/x", "x"] {
        assert!(matches!(node.put(denied, "{}".into(), None).await, Err(Error::Denied(_))), "{denied}");
        assert!(matches!(node.delete(denied).await, Err(Error::Denied(_))), "{denied}");
    }
    let mixed = vec![Operation::put(own.clone(), "2"), Operation::put(foreign.clone(), "2")];
    assert!(matches!(node.transact(vec![], mixed).await, Err(Error::Denied(_))));
    assert_eq!(value(&control, &own).await.as_deref(), Some("{}"), "nothing of a denied transaction happens");
    assert!(matches!(proxy.put("tenant/acme/users/1", "{}".into(), None).await, Err(Error::Denied(_))));
    let (own_proxy, foreign_proxy) = (uuid::Uuid::from_u128(3), uuid::Uuid::from_u128(1));
    for (allowed, denied) in [
        (format!("proxy/{own_proxy}/alive"), format!("proxy/{foreign_proxy}/alive")),
        (format!("notice/{own_proxy}/x"), format!("notice/{foreign_proxy}/x")),
    ] {
        proxy.put(&allowed, "{}".into(), None).await.unwrap();
        assert!(proxy.get(&allowed).await.unwrap().is_some());
        assert!(matches!(proxy.put(&denied, "{}".into(), None).await, Err(Error::Denied(_))), "{denied}");
        assert!(matches!(node.put(&allowed, "{}".into(), None).await, Err(Error::Denied(_))), "{allowed}");
        proxy.delete(&allowed).await.unwrap();
    }
    let reporting = cluster.handle(REPORTING);
    assert_eq!(reporting.list("notice/").await.unwrap().entries.len(), 1);
    assert!(matches!(proxy.list("notice/").await, Err(Error::Denied(_))));
    for key in ["tenant/acme/users/1", own.as_str(), "notice/x", "control/x"] {
        assert!(matches!(reporting.put(key, "{}".into(), None).await, Err(Error::Denied(_))), "{key}");
    }
    for reader in [&node, &proxy, &reporting] {
        assert!(reader.get("control/table/acme/users").await.unwrap().is_some());
        assert_eq!(reader.list("tenant/").await.unwrap().entries.len(), 1);
        assert!(matches!(reader.get("control/key/root").await, Err(Error::Denied(_))));
        assert!(matches!(reader.list("control/").await, Err(Error::Denied(_))));
        assert!(matches!(watch_end(reader.watch("control/key/", 1).await).await, Error::Denied(_)));
        let peek = vec![Compare::value("control/key/root", "sealed")];
        assert!(matches!(reader.transact(peek, vec![]).await, Err(Error::Denied(_))), "a compare is a read");
    }
}

/// Follows a prefix as a consumer would, and says when its copy equals what is expected.
struct Copy {
    reflector: Reflector,
    entries: BTreeMap<String, String>,
    snapshots: usize,
}

impl Copy {
    fn of(coordinator: Arc<dyn Coordinator>, prefix: &str) -> Self {
        let options = ReflectorOptions { backoff_ms_max: 200, ..ReflectorOptions::default() };
        let reflector = Reflector::start(coordinator, prefix, options);
        Self { reflector, entries: BTreeMap::new(), snapshots: 0 }
    }

    async fn becomes(&mut self, expected: &[(&str, &str)]) {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let expected: BTreeMap<String, String> = expected.iter().map(owned).collect();
        let deadline = Instant::now() + DEADLINE;
        while self.entries != expected {
            let next = tokio::time::timeout_at(deadline, self.reflector.next()).await;
            match next.unwrap_or_else(|_| panic!("{:?} does not become {expected:?}", self.entries)).unwrap() {
                Reflected::Snapshot(listing) => {
                    self.snapshots += 1;
                    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
                    self.entries = listing.entries.into_iter().map(|entry| (entry.key, text(&entry.value))).collect();
                }
                Reflected::Changes(batch) => batch.events.into_iter().for_each(|event| self.change(event)),
                Reflected::Lost(_) | Reflected::Resumed(_) => {}
            }
        }
    }

    fn change(&mut self, event: WatchEvent) {
        match event.kind {
            EventKind::Put(entry) => {
                self.entries.insert(entry.key, String::from_utf8(entry.value.to_vec()).unwrap());
            }
            EventKind::Delete { key } => {
                self.entries.remove(&key);
            }
        }
    }
}

async fn a_reflector_stays_true(cluster: Cluster) {
    let control = cluster.control();
    control.put("tenant/a", "1".into(), None).await.unwrap();
    let mut copy = Copy::of(cluster.handle(PROXY), "tenant/");
    copy.becomes(&[("tenant/a", "1")]).await;
    control.put("tenant/b", "1".into(), None).await.unwrap();
    copy.becomes(&[("tenant/a", "1"), ("tenant/b", "1")]).await;
    control.delete("tenant/a").await.unwrap();
    let revision = control.put("tenant/b", "2".into(), None).await.unwrap();
    copy.becomes(&[("tenant/b", "2")]).await;
    control.compact(revision).await.unwrap();
    control.put("tenant/c", "1".into(), None).await.unwrap();
    copy.becomes(&[("tenant/b", "2"), ("tenant/c", "1")]).await;
    assert_eq!(copy.snapshots, 1, "changes come by the watch, not by listing again");
}

macro_rules! contract {
    ($($case:ident),+ $(,)?) => {
        mod etcd { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case(super::Cluster::etcd().await).await; }
        )+ }
        mod embedded { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case(super::Cluster::embedded().await).await; }
        )+ }
    };
}

contract!(
    keys_remember_their_revisions,
    all_compares_hold_or_nothing_happens,
    of_many_that_compare_and_set_one_wins_each_round,
    limits_are_the_same,
    thousands_of_keys_are_listed_at_one_revision,
    a_watch_tells_everything_from_its_revision_on,
    leases_end_unless_kept_alive,
    what_is_compacted_is_said_and_listed_again,
    the_store_says_how_it_is,
    a_restart_keeps_everything,
    everyone_keeps_to_their_keys,
    a_reflector_stays_true,
);
