//! Clients outside of the stack, as applications are: they know both proxies, ask the other one where the first does not answer, and
//! write down what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dstore::domain::ambient::random_uuid;
use dstore::roles::ambient::random;
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::stack::Stack;

/// Clients at once.
const CLIENTS: usize = 4;
/// How often a request is tried, under one Idempotency-Key.
const TRIES: usize = 3;
/// How long all tries of a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one try may take: three of them and the pauses between are less than the patience.
const TRY_TIMEOUT: Duration = Duration::from_millis(2_800);
/// How long a client waits between two tries.
const TRY_PAUSE: Duration = Duration::from_millis(450);
/// How long a client thinks: the machine has the containers to run, too.
const THINK: Duration = Duration::from_millis(25);
const TABLE: &str = "/v1/tenant/demo/table/things";

/// What clients were told.
#[derive(Default)]
pub struct Told {
    /// What was acknowledged.
    pub written: BTreeMap<String, Value>,
    /// Reads that were answered.
    pub reads: usize,
    /// Requests that were not answered in time, or not as they should.
    pub complaints: Vec<String>,
    /// The most tries that a request took.
    pub tries_max: usize,
    /// The longest that a request took.
    pub slowest: Duration,
}

struct Shared {
    client: reqwest::Client,
    urls: [String; 2],
    token: String,
    told: Mutex<Told>,
    acknowledged: AtomicUsize,
    has_ended: AtomicBool,
}

/// Clients at work.
pub struct Clients {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Makes a table of three copies, and begins.
    pub async fn begin(stack: &Stack) -> Clients {
        let shared = Arc::new(Shared::new(stack));
        let definition = json!({ "id_type": "String", "replication_factor": 3, "initial_ranges": 6 });
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let (status, body) = shared.ask(0, Method::PUT, TABLE, Some(&definition), None).await;
            if matches!(status, 200 | 201) {
                break;
            }
            assert!(Instant::now() < deadline, "{status} {body}");
            wait_for(TRY_PAUSE).await;
        }
        let tasks = (0..CLIENTS).map(|number| tokio::spawn(shared.clone().work(number))).collect();
        Clients { shared, tasks }
    }

    /// Waits until so many more writes were acknowledged.
    pub async fn until_progress(&self, more: usize, patience: Duration) {
        let (goal, deadline) = (self.shared.acknowledged.load(Ordering::Relaxed) + more, Instant::now() + patience);
        while self.shared.acknowledged.load(Ordering::Relaxed) < goal {
            let now = self.shared.acknowledged.load(Ordering::Relaxed);
            assert!(Instant::now() < deadline, "{now} of {goal}: {:?}", self.shared.told.lock().complaints);
            wait_for(THINK).await;
        }
    }

    /// Lets each end what it has begun; what they were told.
    pub async fn end(self) -> Told {
        self.shared.has_ended.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a client ends");
        }
        std::mem::take(&mut *self.shared.told.lock())
    }
}

impl Told {
    /// What was acknowledged and is not there, or is not what was written, through one proxy or the other.
    pub async fn missing(&self, stack: &Stack) -> Vec<String> {
        let shared = Shared::new(stack);
        let mut missing = Vec::new();
        for (path, item) in &self.written {
            // Through each of them: tries of an application, which go from one to the other, would hide what one does not find.
            for (proxy, url) in shared.urls.iter().enumerate() {
                let mut said = shared.ask(proxy, Method::GET, path, None, None).await;
                for _ in 1..TRIES {
                    if !says_nothing(said.0) {
                        break;
                    }
                    wait_for(TRY_PAUSE).await;
                    said = shared.ask(proxy, Method::GET, path, None, None).await;
                }
                if (said.0, &said.1) != (200, item) {
                    missing.push(format!("{url}{path}: {} {}", said.0, said.1));
                }
            }
        }
        missing
    }
}

impl Shared {
    fn new(stack: &Stack) -> Shared {
        // Another test may have been first; any provider will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = stack.read("client-ca.pem");
        let authority = reqwest::Certificate::from_pem(authority.as_bytes()).expect("a certificate");
        let builder = reqwest::Client::builder().no_proxy().tls_certs_only([authority]);
        Shared {
            client: builder.timeout(TRY_TIMEOUT).build().expect("a client"),
            urls: stack.urls(),
            token: stack.read("token").trim().to_owned(),
            told: Mutex::default(),
            acknowledged: AtomicUsize::new(0),
            has_ended: AtomicBool::new(false),
        }
    }

    async fn work(self: Arc<Self>, client: usize) {
        let mut number = 0;
        while !self.has_ended.load(Ordering::Relaxed) {
            let path = format!("{TABLE}/id/c{client}-{number}");
            let item = json!({ "client": client, "number": number, "text": "x".repeat(100) });
            let (status, body, _) = self.request(client + number, Method::PUT, &path, Some(&item)).await;
            if matches!(status, 200 | 201) {
                self.told.lock().written.insert(path.clone(), item.clone());
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                // Through the other proxy.
                let (status, body, _) = self.request(client + number + 1, Method::GET, &path, None).await;
                match (status, body) == (200, item) {
                    true => self.told.lock().reads += 1,
                    false => self.complain(format!("GET {path}: {status}")),
                }
            } else {
                self.complain(format!("PUT {path}: {status} {body}"));
            }
            number += 1;
            wait_for(THINK).await;
        }
    }

    fn complain(&self, complaint: String) {
        self.told.lock().complaints.push(complaint);
    }

    /// A request as an application sends it: some tries, each at the other proxy, under one Idempotency-Key.
    async fn request(&self, first: usize, method: Method, path: &str, body: Option<&Value>) -> (u16, Value, usize) {
        let (began, key) = (Instant::now(), random_uuid(&*random()).to_string());
        let mut said = (0, Value::Null);
        for tries in 1..=TRIES {
            if tries > 1 {
                wait_for(TRY_PAUSE).await;
            }
            let key = body.is_some().then_some(key.as_str());
            said = self.ask(first + tries - 1, method.clone(), path, body, key).await;
            let took = began.elapsed();
            if took > PATIENCE {
                self.complain(format!("{method} {path}: answered {} after {} ms", said.0, took.as_millis()));
            }
            if matches!(said.0, 200..=299) {
                let mut told = self.told.lock();
                (told.tries_max, told.slowest) = (told.tries_max.max(tries), told.slowest.max(took));
                return (said.0, said.1, tries);
            }
            // An answer about the item is one, and a second try must not hide it.
            if !says_nothing(said.0) {
                return (said.0, said.1, tries);
            }
        }
        (said.0, said.1, TRIES)
    }

    /// One try; status 0 where there is no answer.
    async fn ask(
        &self,
        proxy: usize,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> (u16, Value) {
        let url = format!("{}{path}", self.urls[proxy % self.urls.len()]);
        let mut request = self.client.request(method, url).bearer_auth(&self.token);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return (0, Value::String(format!("{error:?}"))),
        };
        let status = answer.status().as_u16();
        match answer.text().await {
            Ok(text) => (status, serde_json::from_str(&text).unwrap_or(Value::String(text))),
            Err(error) => (0, Value::String(error.to_string())),
        }
    }
}

/// Whether an answer says nothing about the item, so that one asks again: none at all, too late, elsewhere, too much, or not now.
fn says_nothing(status: u16) -> bool {
    matches!(status, 0 | 408 | 421 | 429 | 500..=599)
}

async fn wait_for(time: Duration) {
    tokio::time::sleep(time).await;
}
