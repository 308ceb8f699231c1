//! Clients that ask for what clients ask for, through both proxies, and write down what they asked and what they were told.
//!
//! A few keys are hot: every client writes and reads them, with conditions on versions that somebody saw. Many are cold. The
//! hot ones change their names now and then, so that no key's history grows too long to be judged.
//!
//! Each write has an Idempotency-Key and is sent again under it, to one proxy after the other, until it is answered or its
//! time is over; it is one operation from the first request to the last. Some ask to be answered early; what their receipt tells
//! in the end is their answer, and one that was lost must never be seen. A read that is not answered tells nothing and is forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dstore_checkers::{Action, Answer, Condition, Document, NEVER, Operation, Patch};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, TABLE};
use crate::process::DEADLINE;
use crate::rest::{self, Told};

/// Hot keys at a time.
const HOT_KEYS: u64 = 4;
/// Cold keys at a time.
const COLD_KEYS: u64 = 100;
/// So many operations until the keys change their names.
const OPERATIONS_PER_NAME: u64 = 8_000;
/// How long a write is tried.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one request may take in a storm, where many are never answered.
pub const STORM_TIMEOUT: Duration = Duration::from_secs(4);
/// The same where none may fail: longer than a proxy tries, so that a refusal fails and a busy machine does not.
pub const CALM_TIMEOUT: Duration = Duration::from_secs(15);
/// How long to wait before a request is sent again.
const PAUSE: Duration = Duration::from_millis(50);

/// How many requests that were not served are kept.
const COMPLAINTS_MAX: usize = 10_000;

/// What the clients share.
pub struct Workload {
    urls: Vec<String>,
    token: String,
    /// So that a key of one run is none of another's.
    name: String,
    began: Instant,
    stopped: AtomicBool,
    numbers: AtomicU64,
    operations: AtomicU64,
    seen: Mutex<BTreeMap<String, u64>>,
    histories: Mutex<BTreeMap<String, Vec<Operation>>>,
    tally: Mutex<BTreeMap<String, u64>>,
    wrong: Mutex<Vec<String>>,
    /// Requests that were not served, whatever became of the operation.
    unserved: Mutex<Vec<String>>,
}

/// Clients at work.
pub struct Running {
    pub workload: Arc<Workload>,
    clients: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts so many clients of a cluster, each of whose requests may take so long.
    pub fn start(cluster: &Cluster, clients: u64, seed: u64, request_timeout: Duration) -> Running {
        let workload = Arc::new(Workload::new(cluster, seed));
        let clients = (0..clients)
            .map(|number| {
                let dice = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
                tokio::spawn(Client::new(workload.clone(), number, dice, request_timeout).work())
            })
            .collect();
        Running { workload, clients }
    }

    /// Lets the clients work until so many operations more are written down: how many that are in a second, the machine says.
    pub async fn until_operations(&self, more: u64) {
        let (goal, deadline) = (self.workload.operations() + more, Instant::now() + DEADLINE);
        while self.workload.operations() < goal {
            assert!(Instant::now() < deadline, "clients hardly get on");
            wait_a_moment().await;
        }
    }

    /// Lets each end what it has begun.
    pub async fn stop(self) -> Arc<Workload> {
        self.workload.stopped.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("a client ends well");
        }
        self.workload
    }
}

impl Workload {
    /// Nothing is asked yet.
    pub fn new(cluster: &Cluster, seed: u64) -> Workload {
        Workload {
            urls: cluster.proxies.iter().map(|proxy| proxy.url()).collect(),
            token: cluster.token.clone(),
            name: format!("{seed:x}"),
            began: Instant::now(),
            stopped: AtomicBool::new(false),
            numbers: AtomicU64::new(1),
            operations: AtomicU64::new(0),
            seen: Mutex::default(),
            histories: Mutex::default(),
            tally: Mutex::default(),
            wrong: Mutex::default(),
            unserved: Mutex::default(),
        }
    }

    /// Nanoseconds since it began: the one clock of all clients.
    pub fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// How many operations were written down.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// How many ended so, of which kind.
    pub fn tally(&self) -> BTreeMap<String, u64> {
        self.tally.lock().clone()
    }

    /// Answers that nothing explains but a fault.
    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().clone()
    }

    /// Requests that were not served.
    pub fn unserved(&self) -> Vec<String> {
        self.unserved.lock().clone()
    }

    fn complain(&self, operation: &Operation, what: String) {
        let mut unserved = self.unserved.lock();
        if unserved.len() < COMPLAINTS_MAX {
            unserved.push(format!("{operation}: {what}"));
        }
    }

    /// What was written down, by key.
    pub fn histories(&self) -> BTreeMap<String, Vec<Operation>> {
        self.histories.lock().clone()
    }

    /// Writes an operation down.
    pub fn note(&self, key: &str, operation: Operation) {
        if let Answer::Item(Some(item)) = &operation.answer {
            self.seen.lock().insert(key.to_owned(), item.version);
        }
        if let Some(version) = operation.acknowledged_version() {
            self.seen.lock().insert(key.to_owned(), version);
        }
        *self.tally.lock().entry(kind(&operation)).or_default() += 1;
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.histories.lock().entry(key.to_owned()).or_default().push(operation);
    }
}

fn kind(operation: &Operation) -> String {
    let action = match operation.action {
        Action::Read => "read",
        Action::Put(_) => "put",
        Action::Merge(_) => "merge",
        Action::Delete => "delete",
    };
    let answer = match operation.answer {
        Answer::Item(_) | Answer::Created(_) | Answer::Updated(_) | Answer::Deleted => "done",
        Answer::NotFound | Answer::PreconditionFailed => "refused",
        Answer::NotDone => "unavailable",
        Answer::Unknown => "unknown",
    };
    format!("{action} {answer}")
}

struct Client {
    workload: Arc<Workload>,
    number: u64,
    dice: StdRng,
    http: reqwest::Client,
}

impl Client {
    fn new(workload: Arc<Workload>, number: u64, dice: StdRng, request_timeout: Duration) -> Client {
        let http = reqwest::Client::builder().no_proxy().timeout(request_timeout).build().expect("a client");
        Client { workload, number, dice, http }
    }

    async fn work(mut self) {
        while !self.workload.stopped.load(Ordering::Relaxed) {
            let (key, operation) = self.choose();
            match operation.action {
                Action::Read => self.read(&key, operation).await,
                _ => self.write(&key, operation).await,
            }
        }
    }

    fn choose(&mut self) -> (String, Operation) {
        let epoch = self.workload.operations() / OPERATIONS_PER_NAME;
        let name = &self.workload.name;
        let key = match self.dice.random_range(0..10) {
            0..=6 => format!("{name}-hot-{epoch}-{}", self.dice.random_range(0..HOT_KEYS)),
            _ => format!("{name}-cold-{epoch}-{}", self.dice.random_range(0..COLD_KEYS)),
        };
        let number = self.workload.numbers.fetch_add(1, Ordering::Relaxed);
        let condition = match (self.dice.random_range(0..6), self.workload.seen.lock().get(&key)) {
            (0 | 1, Some(version)) => Condition::IfVersion(*version),
            (2, _) => Condition::IfAbsent,
            _ => Condition::Always,
        };
        let (action, condition) = match self.dice.random_range(0..20) {
            0..=7 => (Action::Read, Condition::Always),
            8..=14 => (Action::Put(Document::of(&[("a", number)])), condition),
            15..=17 => (Action::Merge(Patch([("b".to_owned(), Some(number))].into())), condition),
            _ => (Action::Delete, if condition == Condition::IfAbsent { Condition::Always } else { condition }),
        };
        let asked = self.workload.now();
        (key, Operation { client: self.number, action, condition, asked, answered: NEVER, answer: Answer::Unknown })
    }

    /// One proxy after the other.
    fn url(&self, key: &str, attempt: usize) -> String {
        let urls = &self.workload.urls;
        format!("{}{TABLE}/id/{key}", urls[(self.number as usize + attempt) % urls.len()])
    }

    async fn read(&mut self, key: &str, operation: Operation) {
        let proxy = self.dice.random_range(0..2);
        let url = self.url(key, proxy);
        let told = rest::send(rest::request(&self.http, &url, &self.workload.token, &operation), true).await;
        match told {
            Told::Ended(answer) => {
                let answered = self.workload.now();
                self.workload.note(key, Operation { answered, answer, ..operation });
            }
            Told::Wrong(what) => self.workload.wrong.lock().push(format!("{key}: {operation}: {what}")),
            Told::Queued(what) | Told::NotDone(what) | Told::Unknown(what) => {
                self.workload.complain(&operation, what);
                wait_a_moment().await;
            }
        }
    }

    async fn write(&mut self, key: &str, operation: Operation) {
        let id =
            format!("{}-{}-{}", self.workload.name, self.number, self.workload.numbers.fetch_add(1, Ordering::Relaxed));
        let (deadline, mut may_have_happened) = (Instant::now() + PATIENCE, false);
        let is_early = self.dice.random_range(0..8) == 0;
        for attempt in 0.. {
            let url = self.url(key, attempt);
            let mut request = rest::request(&self.http, &url, &self.workload.token, &operation);
            if is_early {
                request = request.header("prefer", "respond-async");
            }
            let told = match rest::send(request.header("idempotency-key", &id), false).await {
                Told::Queued(receipt) => self.wait_for_receipt(&receipt, deadline).await,
                told => told,
            };
            match told {
                Told::Ended(answer) => {
                    let answered = self.workload.now();
                    return self.workload.note(key, Operation { answered, answer, ..operation });
                }
                Told::NotDone(what) => self.workload.complain(&operation, what),
                Told::Queued(what) | Told::Unknown(what) => {
                    may_have_happened = true;
                    self.workload.complain(&operation, what);
                }
                Told::Wrong(what) => {
                    may_have_happened = true;
                    self.workload.wrong.lock().push(format!("{key}: {operation}: {what}"));
                }
            }
            if Instant::now() > deadline || (attempt > 0 && self.workload.stopped.load(Ordering::Relaxed)) {
                break;
            }
            wait_a_moment().await;
        }
        let (answered, answer) = match may_have_happened {
            true => (NEVER, Answer::Unknown),
            false => (self.workload.now(), Answer::NotDone),
        };
        self.workload.note(key, Operation { answered, answer, ..operation });
    }
}

impl Client {
    /// Asks one proxy after the other what became of a write that was answered early.
    async fn wait_for_receipt(&self, path: &str, deadline: Instant) -> Told {
        for attempt in 0.. {
            let urls = &self.workload.urls;
            let url = &urls[(self.number as usize + attempt) % urls.len()];
            let told = rest::receipt(&self.http, url, path, &self.workload.token).await;
            if !matches!(told, Told::Queued(_)) || Instant::now() > deadline {
                return told;
            }
            wait_a_moment().await;
        }
        unreachable!("it ends at the deadline")
    }
}

async fn wait_a_moment() {
    tokio::time::sleep(PAUSE).await;
}
