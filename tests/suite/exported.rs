//! Usage as it reaches the outside: PostgreSQL and a receiver of the operator's own are told what was asked, all of it and nothing
//! twice, over sinks that are away, a reporter that is killed, and proxies that are stopped. A proxy that is killed may miss
//! what it counted last, and a notice says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::cluster::{Cluster, Member, private_file};
use crate::process::DEADLINE;
use postgres::Server;
use receiver::{Answer, Receiver, Request};

#[path = "../../src/sinks/postgres/server.rs"]
mod postgres;
#[path = "../../src/sinks/receiver.rs"]
#[expect(dead_code, reason = "unit tests of the sinks use the rest")]
mod receiver;

const SECRET: &str = "a secret that both know";
const NOTICES: &str =
    "SELECT count(*) FROM events WHERE kind = 'notice' AND message LIKE '%proxy did not stop as planned%'";

/// What the receiver was told, by the ids of records.
#[derive(Default)]
struct Told {
    is_away: AtomicBool,
    records: Mutex<BTreeMap<String, Value>>,
}

impl Told {
    /// Takes a batch, as the documentation asks of a receiver: the signature first.
    fn take(&self, request: &Request) -> Answer {
        if self.is_away.load(Ordering::Relaxed) {
            return Answer::Status(503, Vec::new());
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
        mac.update(format!("{}.", request.headers["x-dstore-timestamp"]).as_bytes());
        mac.update(&request.body);
        let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(request.headers["x-dstore-signature"], format!("v1={expected}"));
        let text = String::from_utf8(request.unpacked()).expect("text");
        for line in text.lines() {
            let record: Value = serde_json::from_str(line).expect("a record");
            let before = self.records.lock().insert(record["id"].to_string(), record.clone());
            assert!(before.is_none_or(|before| before == record), "two records under one id");
        }
        Answer::Status(200, Vec::new())
    }

    fn requests(&self, table: &str, operation: &str) -> u64 {
        let records = self.records.lock();
        let of = records.values().filter(|record| record["table_name"] == table && record["operation"] == operation);
        of.map(|record| record["requests"].as_u64().expect("a number")).sum()
    }
}

/// Where usage goes: both count for themselves.
struct Sinks {
    database: Server,
    told: Arc<Told>,
    _receiver: Receiver,
}

impl Sinks {
    /// Starts both and names them to the reporters of the cluster; none where PostgreSQL is not installed, which is said.
    async fn start(cluster: &mut Cluster) -> Option<Sinks> {
        let database = Server::start(None).await?;
        let told = Arc::new(Told::default());
        let taking = Arc::clone(&told);
        let receiver = Receiver::start(|_| false, move |request| taking.take(&request)).await;
        private_file(&cluster.path("database.password"), "hunter2");
        private_file(&cluster.path("receiver.secret"), SECRET);
        let file = |name: &str| cluster.path(name).display().to_string();
        let (port, password, secret) = (database.port, file("database.password"), file("receiver.secret"));
        cluster.sinks = format!(
            "[[sink]]\nname = \"warehouse\"\nkind = \"postgres\"\nrecords = [\"usage\", \"notice\"]\npassword_file = \"{password}\"\n\
             connection = \"host=127.0.0.1 port={port} dbname=postgres user=postgres sslmode=disable\"\n\
             [[sink]]\nname = \"billing\"\nkind = \"http\"\nurl = \"{}\"\nsecret_file = \"{secret}\"\n",
            receiver.url
        );
        Some(Sinks { database, told, _receiver: receiver })
    }

    /// What the database answers; 0 while it has no tables yet, or is away.
    async fn ask(&self, question: &str) -> u64 {
        let Ok((client, connection)) = self.database.config().connect(tokio_postgres::NoTls).await else { return 0 };
        let connection = tokio::spawn(connection);
        let answer = async {
            client.batch_execute("SET search_path TO dstore").await.ok()?;
            client.query_one(question, &[]).await.ok()?.try_get::<_, i64>(0).ok()
        };
        let answer = answer.await.unwrap_or(0);
        connection.abort();
        u64::try_from(answer).expect("a count")
    }

    /// Puts and reads of a table, as the database and the receiver have them.
    async fn counts(&self, table: &str) -> [[u64; 2]; 2] {
        let in_database = async |operation: &str| {
            let sum = "SELECT sum(requests)::bigint FROM usage";
            self.ask(&format!("{sum} WHERE table_name = '{table}' AND operation = '{operation}'")).await
        };
        let database = [in_database("put-item").await, in_database("get-item").await];
        [database, ["put-item", "get-item"].map(|operation| self.told.requests(table, operation))]
    }

    /// Waits until both have so many puts and reads of a table; they never have more.
    async fn until_told(&self, table: &str, sent: u64) {
        let deadline = Instant::now() + 3 * DEADLINE;
        loop {
            let counts = self.counts(table).await;
            assert!(
                counts.iter().flatten().all(|count| *count <= sent),
                "{counts:?} of {sent}: something counts twice"
            );
            if counts == [[sent; 2]; 2] {
                return;
            }
            assert!(Instant::now() < deadline, "{counts:?}, {sent} wanted");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits until the reporter says that its receiver is away.
    async fn until_missed(cluster: &Cluster, reporter: &Member) {
        let url = reporter.metrics_url().replace("/metrics", "/readyz");
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = cluster.client.get(&url).send().await.expect("an answer");
            let (status, text) = (answer.status().as_u16(), answer.text().await.expect("text"));
            assert_eq!(status, 200, "it serves all the same: {text}");
            if text.contains("the sink billing takes nothing since") {
                return;
            }
            assert!(Instant::now() < deadline, "{text}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn until_noticed(&self) {
        let deadline = Instant::now() + 3 * DEADLINE;
        while self.ask(NOTICES).await == 0 {
            assert!(Instant::now() < deadline, "no notice of what is missing");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// How many items a load puts and reads.
const ITEMS: u64 = 30;

/// Puts and reads items of a table through a proxy, each once.
async fn load(cluster: &Cluster, proxy: &Member, table: &str, name: &str) {
    for number in 0..ITEMS {
        let url = format!("{}/v1/tenant/acme/table/{table}/id/{name}-{number}", proxy.url());
        let (status, body) = cluster.put(&url, &json!({ "number": number })).await;
        assert_eq!(status, 201, "{body}");
        assert_eq!(cluster.get(&url).await.0, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_are_told_what_was_asked_over_outages_and_kills() {
    let mut cluster = Cluster::start();
    let Some(mut sinks) = Sinks::start(&mut cluster).await else { return };
    cluster.add_nodes(1);
    cluster.add_proxies(2);
    cluster.add_reporters(1);
    cluster.until_ready().await;
    cluster.succeed(&["control", "tenant", "create", "acme"]);
    for table in ["exact", "killed", "after"] {
        cluster.succeed(&["control", "table", "create", table, "--tenant", "acme", "--id-type", "String"]);
        for proxy in &cluster.proxies {
            cluster.until_answer(&format!("{}/v1/tenant/acme/table/{table}/id", proxy.url()), 200).await;
        }
    }

    // Both sinks are away; a proxy stops and comes back; the reporter is killed with what it has gathered.
    sinks.told.is_away.store(true, Ordering::Relaxed);
    sinks.database.stop();
    load(&cluster, &cluster.proxies[0], "exact", "away").await;
    Sinks::until_missed(&cluster, &cluster.reporters[0]).await;
    let mut proxy = cluster.proxies.remove(0);
    assert_eq!(proxy.stop(), Some(0));
    load(&cluster, &cluster.proxies[0], "exact", "stopped").await;
    cluster.reporters[0].kill();
    load(&cluster, &cluster.proxies[0], "exact", "unheard").await;
    cluster.begin(&mut proxy);
    cluster.until_member(&proxy, "ready").await;
    load(&cluster, &proxy, "exact", "back").await;
    let mut reporter = cluster.reporters.remove(0);
    cluster.begin(&mut reporter);
    sinks.told.is_away.store(false, Ordering::Relaxed);
    sinks.database.start_again().await;
    sinks.until_told("exact", 4 * ITEMS).await;

    // A proxy is killed at once after it answered: what it counted last may be missing, and that is said.
    load(&cluster, &proxy, "killed", "lost").await;
    proxy.kill();
    reporter.kill();
    cluster.begin(&mut proxy);
    cluster.until_member(&proxy, "ready").await;
    load(&cluster, &proxy, "after", "after").await;
    cluster.begin(&mut reporter);
    sinks.until_noticed().await;
    // What it counts after it came is told after what it counted before; whatever that was, it is the same everywhere.
    sinks.until_told("after", ITEMS).await;
    sinks.until_told("exact", 4 * ITEMS).await;
    let [database, receiver] = sinks.counts("killed").await;
    assert!(database == receiver && database.iter().all(|count| *count <= ITEMS), "{database:?} {receiver:?}");
}
