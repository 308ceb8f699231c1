//! The clients: each asks proxies one thing after another of random keys, and writes down what it was answered.
//!
//! Many writes carry a request id, and are asked again under it where the outcome is not known; those without one are then
//! written down as unknown, and those answered early by what their receipt tells. Each write holds a number of its own, so that
//! what is read tells which write it comes from.
//!
//! One operation of twenty is a read that any copy may answer, however much it lags. Such reads are kept apart, for they must
//! only show what was written, by a write that was not answered as not done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dstore::domain::document;
use dstore::domain::ids::{PrincipalId, ReceiptId, RequestId};
use dstore::domain::key::{KeyValue, PackedKey};
use dstore::domain::refusal::RefusalKind;
use dstore::domain::version::ItemVersion;
use dstore::replication::operation::{
    Change, ClientRequest, Operation as Asked, Outcome, Preconditions, RequestIdentity, TagCondition,
};
use dstore::services::ports::{Consistency, ReceiptState, StoredItem, WriteAnswer};
use dstore_checkers::{Action, Answer, Condition, Document, NEVER, Operation, Patch, Stored};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::dice::Dice;
use crate::network::{CLIENTS, Load, Network, PROXIES};
use crate::question::{self, Matter, Question};
use crate::trace::Trace;
use crate::world::PROXY_COUNT;

/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_millis(2500);
/// How often a client asks for one write.
const ATTEMPTS: usize = 12;
/// How often it asks what became of a write that was answered early.
const QUESTIONS_FOR_RECEIPT: usize = 40;

/// A key of the table, by its number.
pub type Key = u8;

/// What all clients of a run share.
pub struct Shared {
    /// What they saw, by key.
    pub seen: Mutex<BTreeMap<Key, Vec<Operation>>>,
    /// What reads showed that may lag, by key: they have no place in the order of the others.
    pub lagging: Mutex<BTreeMap<Key, Vec<Operation>>>,
    /// What must never be answered, and was.
    pub wrong: Mutex<Vec<String>>,
    /// The ways to nodes.
    pub network: Network,
    /// All that happens.
    pub trace: Trace,
    /// Counts moments, so that no two are the same.
    moments: AtomicU64,
    numbers: AtomicU64,
    /// How many keys there are.
    pub keys: u8,
}

impl Shared {
    /// Nothing has been asked yet.
    pub fn new(network: Network, trace: Trace, keys: u8) -> Shared {
        Shared {
            seen: Mutex::default(),
            lagging: Mutex::default(),
            wrong: Mutex::default(),
            network,
            trace,
            moments: AtomicU64::new(0),
            numbers: AtomicU64::new(1),
            keys,
        }
    }

    /// This moment, in nanoseconds; each is later than the one before.
    fn moment(&self) -> u64 {
        self.trace.now.get() * 1_000_000 + self.moments.fetch_add(1, Ordering::Relaxed) % 1_000_000
    }
}

/// One client.
pub struct Client {
    number: u64,
    dice: Dice,
    shared: Arc<Shared>,
    /// The proxy that it asks.
    proxy: usize,
    /// The last version it saw of each key.
    versions: BTreeMap<Key, u64>,
}

/// The key of this number as the product knows it.
pub fn packed(key: Key) -> PackedKey {
    PackedKey::new(&KeyValue::String(format!("key-{key}").into()), None)
}

impl Client {
    /// A client that knows nothing.
    pub fn new(number: u64, dice: Dice, shared: Arc<Shared>) -> Client {
        Client { number, dice, shared, proxy: number as usize % PROXY_COUNT, versions: BTreeMap::new() }
    }

    /// Asks one thing after another until this simulated time, in milliseconds.
    pub async fn work(mut self, until: u64) {
        while self.shared.trace.now.get() < until {
            let key = self.dice.between(1, u64::from(self.shared.keys)) as u8;
            match self.dice.between(0, 19) {
                0 => self.read_lagging(key).await,
                1..=7 => drop(self.read(key).await),
                8..=10 => self.write_early(key).await,
                _ => self.write(key).await,
            }
            self.wait(1, 120).await;
        }
    }

    /// Reads a key, and writes down what it saw; whether it was answered.
    pub async fn read(&mut self, key: Key) -> Option<Option<Stored>> {
        let asked = self.shared.moment();
        for _ in 0..3 {
            match self.exchange(Matter::Read(packed(key), Consistency::Strong)).await {
                Some(question::Answer::Read(Ok(item))) => {
                    let seen = item.map(|item| stored(&item));
                    if let Some(item) = &seen {
                        self.versions.insert(key, item.version);
                    }
                    self.note(key, Action::Read, Condition::Always, asked, Answer::Item(seen.clone()));
                    return Some(seen);
                }
                _ => self.look_elsewhere().await,
            }
        }
        None
    }

    /// Reads what some copy has, which may lag, and writes down what it showed.
    async fn read_lagging(&mut self, key: Key) {
        let (client, asked) = (self.number, self.shared.moment());
        let Some(question::Answer::Read(Ok(item))) =
            self.exchange(Matter::Read(packed(key), Consistency::Eventual)).await
        else {
            return self.look_elsewhere().await;
        };
        let (answered, answer) = (self.shared.moment(), Answer::Item(item.map(|item| stored(&item))));
        let read = Operation { client, action: Action::Read, condition: Condition::Always, asked, answered, answer };
        self.shared.trace.note(format_args!("key {key:?} as some copy has it: {read}"));
        self.shared.lagging.lock().entry(key).or_default().push(read);
    }

    async fn write(&mut self, key: Key) {
        let number = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let (action, change) = self.change(number);
        let condition = match (self.dice.between(0, 9), self.versions.get(&key)) {
            (0, Some(version)) => Condition::IfVersion(*version),
            (1, _) if matches!(action, Action::Put(_)) => Condition::IfAbsent,
            _ => Condition::Always,
        };
        let request = self.dice.chance(60).then(|| RequestIdentity::Client(self.request(number)));
        let preconditions = match condition {
            Condition::Always => Preconditions::default(),
            Condition::IfVersion(version) => Preconditions {
                if_match: Some(TagCondition::Versions(vec![ItemVersion(version)])),
                ..Preconditions::default()
            },
            Condition::IfAbsent => Preconditions { if_none_match: Some(TagCondition::Any), ..Preconditions::default() },
        };
        let operation = Asked { key: packed(key), change, preconditions, conditional: None, request, receipt: None };
        let asked = self.shared.moment();
        let answer = self.write_until_known(operation).await;
        if let Answer::Created(version) | Answer::Updated(version) = answer {
            self.versions.insert(key, version);
        }
        self.note(key, action, condition, asked, answer);
    }

    fn change(&mut self, number: u64) -> (Action, Change) {
        match self.dice.between(0, 9) {
            0..=5 => (Action::Put(Document::of(&[("a", number)])), Change::Put(json(&format!("{{\"a\":{number}}}")))),
            6..=7 => (
                Action::Merge(Patch([("b".to_owned(), Some(number))].into())),
                Change::Merge(json(&format!("{{\"b\":{number}}}"))),
            ),
            _ => (Action::Delete, Change::Delete),
        }
    }

    /// A write that is answered when it is durable at one node. What its receipt tells counts: where that is that it was lost, it
    /// must never be seen.
    async fn write_early(&mut self, key: Key) {
        let number = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let (action, change) = self.change(number);
        let key_packed = packed(key);
        let mut receipt = [0; 16];
        receipt[..4].copy_from_slice(&key_packed.hash().to_be_bytes());
        receipt[8..].copy_from_slice(&number.to_be_bytes());
        let receipt = ReceiptId::from_bytes(receipt);
        let operation = Asked {
            key: key_packed,
            change,
            preconditions: Preconditions::default(),
            request: None,
            receipt: Some(receipt),
            conditional: None,
        };
        let asked = self.shared.moment();
        let answer = match self.exchange(Matter::Write(operation, true)).await {
            Some(question::Answer::Write(Ok(WriteAnswer::Applied(outcome)))) => self.outcome(outcome),
            Some(question::Answer::Write(Ok(WriteAnswer::Queued))) => self.receipt_until_known(receipt).await,
            Some(question::Answer::Write(Err(refusal))) if not_done(refusal.kind) => Answer::NotDone,
            Some(question::Answer::Nobody) => Answer::NotDone,
            _ => Answer::Unknown,
        };
        self.note(key, action, Condition::Always, asked, answer);
    }

    async fn receipt_until_known(&mut self, receipt: ReceiptId) -> Answer {
        for _ in 0..QUESTIONS_FOR_RECEIPT {
            match self.exchange(Matter::Receipt(receipt)).await {
                // The leader's clock was far off that of the proxy, whose id it was: it was turned down, for good.
                Some(question::Answer::Receipt(Ok(Some(ReceiptState::Ended(Outcome::RequestIdOutside(_)))))) => {
                    return Answer::NotDone;
                }
                Some(question::Answer::Receipt(Ok(Some(ReceiptState::Ended(outcome))))) => {
                    return self.outcome(outcome);
                }
                Some(question::Answer::Receipt(Ok(Some(ReceiptState::Lost)))) => return Answer::NotDone,
                Some(question::Answer::Receipt(Ok(Some(ReceiptState::Queued)))) => self.wait(10, 200).await,
                Some(question::Answer::Receipt(Ok(None))) => {
                    self.shared.wrong.lock().push(format!("the receipt {receipt} of a durable write is not known"));
                    return Answer::Unknown;
                }
                _ => self.look_elsewhere().await,
            }
        }
        Answer::Unknown
    }

    fn request(&self, number: u64) -> ClientRequest {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        ClientRequest { principal: PrincipalId::from_bytes([1; 16]), request_id: RequestId::from_bytes(bytes), digest }
    }

    async fn write_until_known(&mut self, operation: Asked) -> Answer {
        let mut uncertain = false;
        for _ in 0..ATTEMPTS {
            match self.exchange(Matter::Write(operation.clone(), false)).await {
                Some(question::Answer::Write(Ok(WriteAnswer::Applied(outcome)))) => return self.outcome(outcome),
                Some(question::Answer::Write(Err(refusal))) => uncertain |= !not_done(refusal.kind),
                Some(question::Answer::Nobody) => {}
                _ => uncertain = true,
            }
            if uncertain && operation.request.is_none() {
                return Answer::Unknown;
            }
            self.look_elsewhere().await;
        }
        if uncertain { Answer::Unknown } else { Answer::NotDone }
    }

    fn outcome(&self, outcome: Outcome) -> Answer {
        match outcome {
            Outcome::Created(version) => Answer::Created(version.0),
            Outcome::Updated(version) => Answer::Updated(version.0),
            Outcome::Deleted => Answer::Deleted,
            Outcome::NotFound => Answer::NotFound,
            Outcome::PreconditionFailed => Answer::PreconditionFailed,
            Outcome::Invalid(_)
            | Outcome::RequestIdReused
            | Outcome::RequestIdExpired
            | Outcome::RequestIdOutside(_)
            | Outcome::ConditionFailed(_)
            | Outcome::Changed(_) => {
                self.shared.wrong.lock().push(format!("client {} was answered {outcome:?}", self.number));
                Answer::Unknown
            }
        }
    }

    /// The proxy's answer; none where none came.
    async fn exchange(&mut self, matter: Matter) -> Option<question::Answer> {
        let (told, answered) = oneshot::channel();
        let question = Question { range: None, matter };
        self.shared.network.send(CLIENTS, PROXIES + self.proxy, Load::Question(question, told));
        tokio::time::timeout(PATIENCE, answered).await.ok()?.ok()
    }

    async fn look_elsewhere(&mut self) {
        self.proxy = self.dice.place(PROXY_COUNT);
        self.wait(10, 300).await;
    }

    /// Lets simulated time pass, in milliseconds.
    async fn wait(&mut self, shortest: u64, longest: u64) {
        tokio::time::sleep(Duration::from_millis(self.dice.between(shortest, longest))).await;
    }

    fn note(&self, key: Key, action: Action, condition: Condition, asked: u64, answer: Answer) {
        let answered = if answer == Answer::Unknown { NEVER } else { self.shared.moment() };
        let operation = Operation { client: self.number, action, condition, asked, answered, answer };
        self.shared.trace.note(format_args!("key {key:?} {operation}"));
        self.shared.seen.lock().entry(key).or_default().push(operation);
    }
}

/// Whether a write that was refused so has not happened and never will.
fn not_done(kind: RefusalKind) -> bool {
    matches!(kind, RefusalKind::WrongNode | RefusalKind::Unavailable | RefusalKind::Throttled)
}

fn json(text: &str) -> document::Document {
    document::Document::from_json(text.as_bytes()).unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// An item in the checkers' words.
pub fn stored(item: &StoredItem) -> Stored {
    let mut document = Document::default();
    let text = item.document.to_json();
    for field in text.trim_matches(['{', '}']).split(',').filter(|field| !field.is_empty()) {
        let (name, number) = field.split_once(':').unwrap_or_else(|| panic!("an item of another shape: {text}"));
        let number = number.trim().parse().unwrap_or_else(|_| panic!("an item of another shape: {text}"));
        document.0.insert(name.trim().trim_matches('"').to_owned(), number);
    }
    Stored { version: item.version.0, document }
}
