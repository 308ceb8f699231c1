//! The promise a coordinator makes, in the words of etcd's v3 API
//! (<https://etcd.io/docs/v3.4/learning/api/>), cut down to what we use.
//!
//! * **Keys** are text, relative to the handle's prefix; `layout.rs` spells them. Values are bytes.
//! * **Revision**: a number of the whole store; each transaction that changes something takes the next
//!   one. A key remembers the revision that made it, the last that changed it, and how often it
//!   changed since it was made (`version`, from 1).
//! * **Transactions**: all compares hold → all operations happen at one revision; else nothing does.
//!   A key may be changed once in a transaction. An acknowledged change is on disk (of a majority).
//! * **Reads** are linearizable: they see every change acknowledged before.
//! * **Leases**: a key under a lease goes when the lease ends; a restart of the store never shortens a
//!   lease, it may lengthen it by one more time-to-live.
//! * **Watch**: every change from a revision on, in order, once, whole transactions at a time. Where
//!   the past is gone the watch says [`Error::Compacted`] and the watcher lists again. A watch that
//!   lost its server ends with [`Error::Unavailable`]; `Reflector` hides both.
//!
//! Only success branches of transactions exist: an "else" branch was never needed, and a plain read
//! after a failed compare says the same.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::error::{Error, Result};

/// A number of the whole store that grows with each change.
pub type Revision = i64;

/// A lease's number; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub i64);

/// etcd refuses transactions of more operations (its `--max-txn-ops`); the embedded store does too.
pub const OPERATIONS_PER_TRANSACTION_MAX: usize = 128;
/// How many operations we put in one transaction when there are many.
pub const OPERATIONS_PER_BATCH: usize = 60;
/// etcd refuses larger requests (its `--max-request-bytes`); the embedded store does too.
pub const REQUEST_BYTES_MAX: usize = 1_500_000;

/// A key and its value, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, without the handle's prefix.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// The revision that last changed it.
    pub mod_revision: Revision,
    /// The revision that made it.
    pub create_revision: Revision,
    /// How often it was written since it was made; from 1.
    pub version: i64,
    /// The lease it lives under.
    pub lease: Option<LeaseId>,
}

/// One page of a listing, in order of the keys' bytes.
#[derive(Debug, Clone)]
pub struct Page {
    /// The keys of this page.
    pub entries: Vec<KeyValue>,
    /// The revision at which it was read: ask for the next page and watch from it.
    pub revision: Revision,
    /// Whether there are keys after these.
    pub more: bool,
}

/// All keys under a prefix, at one revision, in order.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The keys.
    pub entries: Vec<KeyValue>,
    /// The revision at which they were read; watch from the next.
    pub revision: Revision,
}

/// What must hold of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There is no such key.
    Absent,
    /// There is such a key.
    Present,
    /// It was last changed by this revision.
    ModRevision(Revision),
    /// It was written so often since it was made.
    Version(i64),
    /// It has this value.
    Value(Bytes),
}

/// A condition on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: String,
    /// What must hold of it.
    pub condition: Condition,
}

impl Compare {
    /// There is no such key.
    pub fn absent(key: impl Into<String>) -> Self {
        Self { key: key.into(), condition: Condition::Absent }
    }

    /// There is such a key.
    pub fn present(key: impl Into<String>) -> Self {
        Self { key: key.into(), condition: Condition::Present }
    }

    /// It was last changed by this revision; 0 means there is no such key, as in etcd.
    pub fn mod_revision(key: impl Into<String>, revision: Revision) -> Self {
        let condition = if revision == 0 { Condition::Absent } else { Condition::ModRevision(revision) };
        Self { key: key.into(), condition }
    }

    /// It is still as it was read; `None` means it still is not there.
    pub fn unchanged(key: impl Into<String>, read: Option<&KeyValue>) -> Self {
        Self::mod_revision(key, read.map_or(0, |entry| entry.mod_revision))
    }

    /// It has this value.
    pub fn value(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), condition: Condition::Value(value.into()) }
    }

    /// It was written so often since it was made.
    pub fn version(key: impl Into<String>, version: i64) -> Self {
        Self { key: key.into(), condition: Condition::Version(version) }
    }
}

/// A change of one key.
#[derive(Clone, PartialEq, Eq)]
pub enum Operation {
    /// Writes the key.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: Bytes,
        /// The lease it is to live under; `None` takes it from any it was under.
        lease: Option<LeaseId>,
    },
    /// Removes the key, if there.
    Delete {
        /// The key.
        key: String,
    },
}

impl Operation {
    /// Writes a key.
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Operation::Put { key: key.into(), value: value.into(), lease: None }
    }

    /// Writes a key under a lease.
    pub fn put_leased(key: impl Into<String>, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        Operation::Put { key: key.into(), value: value.into(), lease: Some(lease) }
    }

    /// Removes a key.
    pub fn delete(key: impl Into<String>) -> Self {
        Operation::Delete { key: key.into() }
    }

    /// The key it changes.
    pub fn key(&self) -> &str {
        match self {
            Operation::Put { key, .. } | Operation::Delete { key } => key,
        }
    }

    /// About how many bytes it takes in a request.
    pub fn size_bytes(&self) -> usize {
        match self {
            Operation::Put { key, value, .. } => key.len() + value.len() + 64,
            Operation::Delete { key } => key.len() + 64,
        }
    }
}

/// Values may be sealed secrets and tables of thousands: only their size is shown.
impl std::fmt::Debug for Operation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Operation::Put { key, value, lease } => {
                write!(formatter, "Put({key:?}, {} bytes, {lease:?})", value.len())
            }
            Operation::Delete { key } => write!(formatter, "Delete({key:?})"),
        }
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionResult {
    /// Whether all compares held and the operations happened.
    pub succeeded: bool,
    /// The store's revision after it; where it succeeded and changed something, the changed keys' `mod_revision`.
    pub revision: Revision,
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// Written.
    Put(KeyValue),
    /// Removed, by a transaction or with its lease.
    Delete {
        /// The key.
        key: String,
    },
}

/// A change seen by a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    /// What happened.
    pub kind: EventKind,
    /// The revision it happened at.
    pub revision: Revision,
}

impl WatchEvent {
    /// The key it is about.
    pub fn key(&self) -> &str {
        match &self.kind {
            EventKind::Put(entry) => &entry.key,
            EventKind::Delete { key } => key,
        }
    }
}

/// Changes that arrived together: whole transactions, in order.
#[derive(Debug, Clone, Default)]
pub struct WatchBatch {
    /// The changes; none where the batch only tells that nothing happened up to `revision`.
    pub events: Vec<WatchEvent>,
    /// All changes under the prefix up to here have been told; watch from the next after a break.
    pub revision: Revision,
}

/// A watch that is running; dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    batches: mpsc::Receiver<Result<WatchBatch>>,
}

impl Watch {
    /// A watch fed from this channel. An implementation ends it by an error or by closing the channel.
    pub fn new(batches: mpsc::Receiver<Result<WatchBatch>>) -> Self {
        Self { batches }
    }

    /// The next changes; waits for them. Cancel safe.
    ///
    /// # Errors
    /// `Compacted` where the past is gone, `Unavailable` where the connection or the store is. The watch
    /// has ended then.
    pub async fn next(&mut self) -> Result<WatchBatch> {
        match self.batches.recv().await {
            Some(batch) => batch,
            None => Err(Error::Unavailable("the watch has ended".into())),
        }
    }
}

/// How the store itself is doing: control warns by it before it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreHealth {
    /// The revision now.
    pub revision: Revision,
    /// What its file takes, in bytes; free pages inside count, because etcd's quota counts them.
    pub bytes: u64,
    /// What is used of it, in bytes: what it would take after defragmenting.
    pub bytes_in_use: u64,
    /// What it may take, in bytes; none where only the disk limits it.
    pub quota_bytes: Option<u64>,
    /// Whether it refuses to store anything because its quota is used up.
    pub no_space: bool,
}

/// See the module's text for the promises.
#[async_trait]
pub trait Coordinator: Send + Sync + 'static {
    /// One key; `None` where it is not there.
    async fn get(&self, key: &str) -> Result<Option<KeyValue>>;

    /// Up to `limit` keys that begin with `prefix` and follow `after`, in order, as they were at
    /// `revision` (now, where `None`).
    ///
    /// # Errors
    /// `Compacted` where `revision` is no longer kept.
    async fn list_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        revision: Option<Revision>,
        limit: usize,
    ) -> Result<Page>;

    /// All keys that begin with `prefix`, at one revision, read a page at a time. Begins anew where the
    /// revision is compacted away underneath.
    async fn list(&self, prefix: &str) -> Result<Listing> {
        loop {
            match list_at_one_revision(self, prefix).await {
                Err(Error::Compacted { .. }) => continue,
                other => return other,
            }
        }
    }

    /// Does all `operations` at one revision if all `compares` hold, else nothing.
    ///
    /// # Errors
    /// `TooLarge` past [`OPERATIONS_PER_TRANSACTION_MAX`] or [`REQUEST_BYTES_MAX`], `Denied`,
    /// `LeaseNotFound` where a put names a lease that has ended, `OutcomeUnknown` where no answer came.
    async fn transact(&self, compares: Vec<Compare>, operations: Vec<Operation>) -> Result<TransactionResult>;

    /// Writes a key, whatever was there.
    async fn put(&self, key: &str, value: Bytes, lease: Option<LeaseId>) -> Result<Revision> {
        let operation = Operation::Put { key: key.into(), value, lease };
        Ok(self.transact(Vec::new(), vec![operation]).await?.revision)
    }

    /// Removes a key, if there.
    async fn delete(&self, key: &str) -> Result<Revision> {
        Ok(self.transact(Vec::new(), vec![Operation::delete(key)]).await?.revision)
    }

    /// A new lease of `ttl_seconds` (at least 1; a server may lengthen it).
    async fn lease_grant(&self, ttl_seconds: u32) -> Result<LeaseId>;

    /// Starts the lease's time anew; gives the seconds it now has.
    ///
    /// # Errors
    /// `LeaseNotFound` where it has ended.
    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<u32>;

    /// Ends the lease; its keys go. One that has ended already is no error.
    async fn lease_revoke(&self, lease: LeaseId) -> Result<()>;

    /// All changes of keys that begin with `prefix`, from `from_revision` on (inclusive).
    async fn watch(&self, prefix: &str, from_revision: Revision) -> Result<Watch>;

    /// Forgets what was before `revision`, current values excepted. Control does this.
    async fn compact(&self, revision: Revision) -> Result<()>;

    /// How the store itself is doing. Control asks this; others may be denied.
    async fn health(&self) -> Result<StoreHealth>;
}

/// Keys a page, when all are wanted: well below etcd's message limit with values of a kilobyte.
const LIST_PAGE_KEYS: usize = 1000;

async fn list_at_one_revision<C: Coordinator + ?Sized>(coordinator: &C, prefix: &str) -> Result<Listing> {
    let mut page = coordinator.list_page(prefix, None, None, LIST_PAGE_KEYS).await?;
    let revision = page.revision;
    let mut entries = std::mem::take(&mut page.entries);
    while page.more {
        let after = entries.last().map(|entry| entry.key.clone());
        page = coordinator.list_page(prefix, after.as_deref(), Some(revision), LIST_PAGE_KEYS).await?;
        if page.entries.is_empty() {
            break;
        }
        entries.append(&mut page.entries);
    }
    Ok(Listing { entries, revision })
}

/// Cuts many operations into pieces that fit a transaction each: [`OPERATIONS_PER_BATCH`] at a time
/// and well below [`REQUEST_BYTES_MAX`]. Order is kept. Use where the pieces need not happen together.
pub fn batches(operations: impl IntoIterator<Item = Operation>) -> Vec<Vec<Operation>> {
    let mut pieces: Vec<Vec<Operation>> = Vec::new();
    let mut piece_bytes = 0;
    for operation in operations {
        let size_bytes = operation.size_bytes();
        match pieces.last_mut() {
            Some(piece) if piece.len() < OPERATIONS_PER_BATCH && piece_bytes + size_bytes <= REQUEST_BYTES_MAX / 2 => {
                piece.push(operation);
                piece_bytes += size_bytes;
            }
            _ => {
                pieces.push(vec![operation]);
                piece_bytes = size_bytes;
            }
        }
    }
    pieces
}

/// What both implementations refuse before anything is sent: too many operations, too many bytes, a key
/// changed twice, an empty key.
pub(super) fn check_transaction(compares: &[Compare], operations: &[Operation]) -> Result<()> {
    let count = operations.len().max(compares.len());
    if count > OPERATIONS_PER_TRANSACTION_MAX {
        return Err(Error::TooLarge(format!("{count} operations; {OPERATIONS_PER_TRANSACTION_MAX} are the most")));
    }
    let compared_bytes = |compare: &Compare| match &compare.condition {
        Condition::Value(value) => compare.key.len() + value.len() + 64,
        _ => compare.key.len() + 64,
    };
    let bytes: usize = operations.iter().map(Operation::size_bytes).sum::<usize>()
        + compares.iter().map(compared_bytes).sum::<usize>();
    if bytes > REQUEST_BYTES_MAX {
        return Err(Error::TooLarge(format!("{bytes} bytes; {REQUEST_BYTES_MAX} are the most")));
    }
    let mut keys: Vec<&str> = operations.iter().map(Operation::key).collect();
    keys.sort_unstable();
    match keys.iter().zip(keys.iter().skip(1)).find(|(one, next)| one == next) {
        Some((key, _)) => Err(Error::BadRequest(format!("{key:?} is changed twice in one transaction"))),
        None if keys.first().is_some_and(|key| key.is_empty()) => Err(Error::BadRequest("an empty key".into())),
        None => Ok(()),
    }
}

/// The first key after all that begin with `prefix`; `None` where there is no end.
pub(super) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_keep_order_and_both_limits() {
        let operations: Vec<_> =
            (0..150).map(|number| Operation::put(format!("k{number}"), vec![0u8; 30_000])).collect();
        let pieces = batches(operations.clone());
        assert!(pieces.iter().all(|piece| piece.iter().map(Operation::size_bytes).sum::<usize>() <= REQUEST_BYTES_MAX));
        assert!(pieces.len() > 3);
        assert_eq!(pieces.concat(), operations);
        let small = batches((0..150).map(|number| Operation::delete(format!("k{number}"))));
        assert_eq!(small.iter().map(Vec::len).collect::<Vec<_>>(), [60, 60, 30]);
        assert!(batches([]).is_empty());
    }

    #[test]
    fn a_prefix_ends_where_its_keys_end() {
        assert_eq!(prefix_end(b"node/"), Some(b"node0".to_vec()));
        assert_eq!(prefix_end(&[7, 255]), Some(vec![8]));
        assert_eq!(prefix_end(&[255]), None);
        assert_eq!(prefix_end(b""), None);
    }

    #[test]
    fn what_etcd_would_refuse_is_refused_before_it_is_sent() {
        let put = |key: &str, bytes: usize| Operation::put(key, vec![0; bytes]);
        let many = |count: usize| (0..count).map(|number| Operation::delete(number.to_string())).collect::<Vec<_>>();
        assert!(check_transaction(&[], &many(OPERATIONS_PER_TRANSACTION_MAX)).is_ok());
        assert!(matches!(check_transaction(&[], &many(129)), Err(Error::TooLarge(_))));
        assert!(matches!(check_transaction(&[], &[put("a", REQUEST_BYTES_MAX)]), Err(Error::TooLarge(_))));
        let compare = Compare::value("a", vec![0; REQUEST_BYTES_MAX]);
        assert!(matches!(check_transaction(&[compare], &[]), Err(Error::TooLarge(_))));
        assert!(matches!(check_transaction(&[], &[put("a", 1), put("a", 2)]), Err(Error::BadRequest(_))));
        assert!(matches!(check_transaction(&[], &[put("", 1)]), Err(Error::BadRequest(_))));
    }

    #[test]
    fn values_do_not_show_in_debug() {
        let text = format!("{:?}", Operation::put("control/key/root", "hunter2"));
        assert!(!text.contains("hunter2") && text.contains("7 bytes"), "{text}");
    }
}
