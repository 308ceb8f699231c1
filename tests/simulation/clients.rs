//! The clients: each asks one thing after another of random keys, as a proxy would for it, and writes down what it was
//! answered.
//!
//! Most writes carry a request id, and are asked again under it where the outcome is not known; those without one are then
//! written down as unknown. Each write holds a number of its own, so that what is read tells which write it comes from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dstore::domain::ids::{PrincipalId, RequestId};
use dstore::domain::key::{KeyValue, PackedKey};
use dstore::domain::refusal::RefusalKind;
use dstore::domain::version::ItemVersion;
use dstore::domain::{Refusal, document};
use dstore::replication::operation::{
    Change, ClientRequest, Operation as Asked, Outcome, Preconditions, RequestIdentity, TagCondition,
};
use dstore::services::ports::{Consistency, StoredItem, WriteAnswer};
use dstore::services::ranges::RangeAddress;
use dstore_checkers::{Action, Answer, Condition, Document, NEVER, Operation, Patch, Stored};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::dice::Dice;
use crate::network::{CLIENTS, Load, Network};
use crate::question::{self, Question};
use crate::trace::Trace;

/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How often a client asks for one write.
const ATTEMPTS: usize = 12;

/// A key of a range.
pub type Key = (u8, u8);

/// Where a range may be found: the places of the nodes that have a replica of it.
pub type Places = BTreeMap<u8, Vec<usize>>;

/// What all clients of a run share.
pub struct Shared {
    /// What they saw, by key.
    pub seen: Mutex<BTreeMap<Key, Vec<Operation>>>,
    /// Where ranges are.
    pub places: Mutex<Places>,
    /// What must never be answered, and was.
    pub wrong: Mutex<Vec<String>>,
    /// The ways to nodes.
    pub network: Network,
    /// All that happens.
    pub trace: Trace,
    /// Counts moments, so that no two are the same.
    moments: AtomicU64,
    numbers: AtomicU64,
    /// The keys of each range.
    pub keys: u8,
}

impl Shared {
    /// Nothing has been asked yet.
    pub fn new(network: Network, trace: Trace, places: Places, keys: u8) -> Shared {
        Shared {
            seen: Mutex::default(),
            places: Mutex::new(places),
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
    /// Which node it believes leads each range.
    leaders: BTreeMap<u8, usize>,
    /// The last version it saw of each key.
    versions: BTreeMap<Key, u64>,
}

/// The address of a range by its number.
pub fn address(range: u8) -> RangeAddress {
    crate::node::address(range)
}

/// The key of this number as the product knows it.
pub fn packed(key: Key) -> PackedKey {
    PackedKey::new(&KeyValue::String(format!("key-{}-{}", key.0, key.1).into()), None)
}

/// How one attempt ended.
enum Attempt {
    Answered(question::Answer),
    Silence,
}

impl Client {
    /// A client that knows nothing.
    pub fn new(number: u64, dice: Dice, shared: Arc<Shared>) -> Client {
        Client { number, dice, shared, leaders: BTreeMap::new(), versions: BTreeMap::new() }
    }

    /// Asks one thing after another until this simulated time, in milliseconds.
    pub async fn work(mut self, until: u64) {
        while self.shared.trace.now.get() < until {
            let ranges: Vec<u8> = self.shared.places.lock().keys().copied().collect();
            let key = (*self.dice.choose(&ranges), self.dice.between(1, u64::from(self.shared.keys)) as u8);
            if self.dice.chance(40) {
                self.read(key).await;
            } else {
                self.write(key).await;
            }
            self.wait(1, 120).await;
        }
    }

    /// Reads a key, and writes down what it saw; whether it was answered.
    pub async fn read(&mut self, key: Key) -> Option<Option<Stored>> {
        let asked = self.shared.moment();
        let question = Question::Read(address(key.0), packed(key), Consistency::Strong);
        for _ in 0..3 {
            match self.exchange(key.0, question.clone()).await {
                Attempt::Answered(question::Answer::Read(Ok(item))) => {
                    let seen = item.map(|item| stored(&item));
                    if let Some(item) = &seen {
                        self.versions.insert(key, item.version);
                    }
                    self.note(key, Action::Read, Condition::Always, asked, Answer::Item(seen.clone()));
                    return Some(seen);
                }
                Attempt::Answered(question::Answer::Read(Err(refusal))) => self.refused(key.0, &refusal).await,
                Attempt::Answered(_) | Attempt::Silence => self.look_elsewhere(key.0).await,
            }
        }
        None
    }

    async fn write(&mut self, key: Key) {
        let number = self.shared.numbers.fetch_add(1, Ordering::Relaxed);
        let (action, change) = match self.dice.between(0, 9) {
            0..=5 => (Action::Put(Document::of(&[("a", number)])), Change::Put(json(&format!("{{\"a\":{number}}}")))),
            6..=7 => (
                Action::Merge(Patch([("b".to_owned(), Some(number))].into())),
                Change::Merge(json(&format!("{{\"b\":{number}}}"))),
            ),
            _ => (Action::Delete, Change::Delete),
        };
        let condition = match (self.dice.between(0, 9), self.versions.get(&key)) {
            (0, Some(version)) => Condition::IfVersion(*version),
            (1, _) if matches!(action, Action::Put(_)) => Condition::IfAbsent,
            _ => Condition::Always,
        };
        let request = self.dice.chance(75).then(|| RequestIdentity::Client(self.request(number)));
        let preconditions = match condition {
            Condition::Always => Preconditions::default(),
            Condition::IfVersion(version) => Preconditions {
                if_match: Some(TagCondition::Versions(vec![ItemVersion(version)])),
                ..Preconditions::default()
            },
            Condition::IfAbsent => Preconditions { if_none_match: Some(TagCondition::Any), ..Preconditions::default() },
        };
        let operation = Asked { key: packed(key), change, preconditions, request, receipt: None };
        let asked = self.shared.moment();
        let answer = self.write_until_known(key, operation).await;
        if let Answer::Created(version) | Answer::Updated(version) = answer {
            self.versions.insert(key, version);
        }
        self.note(key, action, condition, asked, answer);
    }

    fn request(&self, number: u64) -> ClientRequest {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        ClientRequest { principal: PrincipalId::from_bytes([1; 16]), request_id: RequestId::from_bytes(bytes), digest }
    }

    async fn write_until_known(&mut self, key: Key, operation: Asked) -> Answer {
        let mut uncertain = false;
        for _ in 0..ATTEMPTS {
            match self.exchange(key.0, Question::Write(address(key.0), operation.clone())).await {
                Attempt::Answered(question::Answer::Write(Ok(WriteAnswer::Applied(outcome)))) => {
                    return self.outcome(outcome);
                }
                Attempt::Answered(question::Answer::Write(Err(refusal))) => {
                    uncertain |= !matches!(
                        refusal.kind,
                        RefusalKind::WrongNode | RefusalKind::Unavailable | RefusalKind::Throttled
                    );
                    if uncertain && operation.request.is_none() {
                        return Answer::Unknown;
                    }
                    self.refused(key.0, &refusal).await;
                }
                Attempt::Answered(question::Answer::Nobody) => self.look_elsewhere(key.0).await,
                Attempt::Answered(_) | Attempt::Silence => {
                    uncertain = true;
                    if operation.request.is_none() {
                        return Answer::Unknown;
                    }
                    self.look_elsewhere(key.0).await;
                }
            }
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
            Outcome::Invalid(_) | Outcome::RequestIdReused | Outcome::RequestIdExpired => {
                self.shared.wrong.lock().push(format!("client {} was answered {outcome:?}", self.number));
                Answer::Unknown
            }
        }
    }

    async fn exchange(&mut self, range: u8, question: Question) -> Attempt {
        let places = self.shared.places.lock().get(&range).cloned().unwrap_or_default();
        let guess = self.leaders.get(&range).copied().filter(|place| places.contains(place));
        let place = guess.unwrap_or_else(|| *self.dice.choose(&places));
        self.leaders.insert(range, place);
        let (told, answered) = oneshot::channel();
        self.shared.network.send(CLIENTS, place, Load::Question(question, told));
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => Attempt::Answered(answer),
            Ok(Err(_)) | Err(_) => Attempt::Silence,
        }
    }

    async fn refused(&mut self, range: u8, refusal: &Refusal) {
        let place = refusal.leader.and_then(|node| (0..64).find(|place| crate::node::node_id(*place) == node));
        match place {
            Some(place) => {
                self.leaders.insert(range, place);
                self.wait(0, 10).await;
            }
            None => self.look_elsewhere(range).await,
        }
    }

    async fn look_elsewhere(&mut self, range: u8) {
        self.leaders.remove(&range);
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
