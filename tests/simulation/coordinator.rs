//! The coordinator's store in a simulation: keys, revisions, leases and watches, in memory, as etcd has them. It is a machine of its
//! own: whoever asks it does so across the network ([`super::coordinator_client`]).
//!
//! It loses nothing, for its disk and its own consensus are not what is tested. What it does to those who ask is: answers get
//! lost after a change was made, watches break, the past is compacted away under a listing, and for a while nobody answers,
//! in which time no lease ends.

use std::collections::BTreeMap;

use dstore::coordination::{
    Compare, Condition, Error, EventKind, KeyValue, LeaseId, Operation, Page, Result, Revision, StoreHealth,
    TransactionResult, WatchBatch, WatchEvent,
};

/// What is asked.
#[derive(Debug)]
pub enum Ask {
    /// One key.
    Get(String),
    /// A page: of this prefix, after this key, at this revision, so many.
    List(String, Option<String>, Option<Revision>, usize),
    /// A transaction.
    Transact(Vec<Compare>, Vec<Operation>),
    /// A lease of so many seconds.
    Grant(u32),
    /// Its time begins anew.
    KeepAlive(LeaseId),
    /// It ends.
    Revoke(LeaseId),
    /// The past before this revision is forgotten.
    Compact(Revision),
    /// How it is.
    Health,
}

impl Ask {
    /// Whether it changes something.
    pub fn changes(&self) -> bool {
        matches!(self, Ask::Transact(_, operations) if !operations.is_empty()) || matches!(self, Ask::Revoke(_))
    }
}

/// What is answered.
#[derive(Debug)]
pub enum Reply {
    /// The key.
    Entry(Option<KeyValue>),
    /// The page.
    Page(Page),
    /// How the transaction ended.
    Done(TransactionResult),
    /// The lease.
    Lease(LeaseId),
    /// The seconds it has.
    Kept(u32),
    /// It is so.
    Ended,
    /// How it is.
    Health(StoreHealth),
}

#[derive(Debug, Clone)]
struct Lease {
    seconds: u32,
    ends: u64,
}

/// See the module's essay.
#[derive(Debug, Clone, Default)]
pub struct Store {
    present: BTreeMap<String, KeyValue>,
    /// What was there at `compacted`.
    past: BTreeMap<String, KeyValue>,
    history: Vec<WatchEvent>,
    revision: Revision,
    compacted: Revision,
    leases: BTreeMap<i64, Lease>,
    leases_made: i64,
}

impl Store {
    /// Answers, at this simulated time in milliseconds.
    ///
    /// # Errors
    /// What a coordinator says.
    pub fn answer(&mut self, ask: Ask, now: u64) -> Result<Reply> {
        Ok(match ask {
            Ask::Get(key) => Reply::Entry(self.present.get(&key).cloned()),
            Ask::List(prefix, after, revision, limit) => {
                Reply::Page(self.page(&prefix, after.as_deref(), revision, limit)?)
            }
            Ask::Transact(compares, operations) => Reply::Done(self.transact(&compares, operations)?),
            Ask::Grant(seconds) => {
                self.leases_made += 1;
                self.leases.insert(self.leases_made, Lease { seconds, ends: now + u64::from(seconds) * 1000 });
                Reply::Lease(LeaseId(self.leases_made))
            }
            Ask::KeepAlive(lease) => {
                let lease = self.leases.get_mut(&lease.0).ok_or(Error::LeaseNotFound)?;
                lease.ends = now + u64::from(lease.seconds) * 1000;
                Reply::Kept(lease.seconds)
            }
            Ask::Revoke(lease) => {
                self.end_lease(lease.0);
                Reply::Ended
            }
            Ask::Compact(revision) => {
                self.compact(revision)?;
                Reply::Ended
            }
            Ask::Health => Reply::Health(StoreHealth {
                revision: self.revision,
                bytes: 1 << 20,
                bytes_in_use: 1 << 19,
                quota_bytes: Some(2 << 30),
                no_space: false,
            }),
        })
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision up to which the past is forgotten.
    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// What stands under a prefix now.
    pub fn standing<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a KeyValue> {
        let from = self.present.range(prefix.to_owned()..);
        from.take_while(move |(key, _)| key.starts_with(prefix)).map(|(_, entry)| entry)
    }

    /// Ends leases whose time is over.
    pub fn expire(&mut self, now: u64) {
        let over: Vec<i64> = self.leases.iter().filter(|(_, lease)| lease.ends <= now).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|lease| self.end_lease(lease));
    }

    /// Gives every lease this much more time, in milliseconds.
    pub fn lengthen_leases(&mut self, by: u64) {
        self.leases.values_mut().for_each(|lease| lease.ends += by);
    }

    /// The past up to now is forgotten.
    pub fn forget_the_past(&mut self) {
        let _ = self.compact(self.revision);
    }

    /// All changes under a prefix from this revision on.
    ///
    /// # Errors
    /// Where they are not all known any more.
    pub fn events(&self, prefix: &str, from: Revision) -> Result<WatchBatch> {
        if from <= self.compacted {
            return Err(Error::Compacted { compacted_revision: self.compacted });
        }
        let first = self.history.partition_point(|event| event.revision < from);
        let events = self.history[first..].iter().filter(|event| event.key().starts_with(prefix)).cloned().collect();
        Ok(WatchBatch { events, revision: self.revision.max(from - 1) })
    }

    fn page(&self, prefix: &str, after: Option<&str>, revision: Option<Revision>, limit: usize) -> Result<Page> {
        let at = revision.unwrap_or(self.revision);
        if at < self.compacted || at > self.revision {
            return Err(Error::Compacted { compacted_revision: self.compacted });
        }
        let rebuilt;
        let entries = if at == self.revision {
            &self.present
        } else {
            rebuilt = self.as_of(at);
            &rebuilt
        };
        let from = after.unwrap_or(prefix);
        let mut entries: Vec<KeyValue> = entries
            .range(from.to_owned()..)
            .filter(|(key, _)| after != Some(key.as_str()))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit + 1)
            .map(|(_, entry)| entry.clone())
            .collect();
        let more = entries.len() > limit;
        entries.truncate(limit);
        Ok(Page { entries, revision: at, more })
    }

    fn as_of(&self, revision: Revision) -> BTreeMap<String, KeyValue> {
        let mut entries = self.past.clone();
        for event in self.history.iter().take_while(|event| event.revision <= revision) {
            match &event.kind {
                EventKind::Put(entry) => drop(entries.insert(entry.key.clone(), entry.clone())),
                EventKind::Delete { key } => drop(entries.remove(key)),
            }
        }
        entries
    }

    fn compact(&mut self, revision: Revision) -> Result<()> {
        if revision <= self.compacted {
            return Err(Error::Compacted { compacted_revision: self.compacted });
        }
        if revision > self.revision {
            return Err(Error::BadRequest(format!("revision {revision} is not reached yet")));
        }
        self.past = self.as_of(revision);
        self.compacted = revision;
        self.history.retain(|event| event.revision > revision);
        Ok(())
    }

    fn transact(&mut self, compares: &[Compare], operations: Vec<Operation>) -> Result<TransactionResult> {
        let holds = |compare: &Compare| holds(&compare.condition, self.present.get(&compare.key));
        if !compares.iter().all(holds) {
            return Ok(TransactionResult { succeeded: false, revision: self.revision });
        }
        let is_known = |operation: &Operation| match operation {
            Operation::Put { lease: Some(lease), .. } => self.leases.contains_key(&lease.0),
            _ => true,
        };
        if !operations.iter().all(is_known) {
            return Err(Error::LeaseNotFound);
        }
        let revision = self.revision + 1;
        for operation in operations {
            if let Some(kind) = self.change(operation, revision) {
                self.revision = revision;
                self.history.push(WatchEvent { kind, revision });
            }
        }
        Ok(TransactionResult { succeeded: true, revision: self.revision })
    }

    fn change(&mut self, operation: Operation, revision: Revision) -> Option<EventKind> {
        match operation {
            Operation::Put { key, value, lease } => {
                let before = self.present.get(&key);
                let create_revision = before.map_or(revision, |entry| entry.create_revision);
                let version = before.map_or(1, |entry| entry.version + 1);
                let entry =
                    KeyValue { key: key.clone(), value, mod_revision: revision, create_revision, version, lease };
                self.present.insert(key, entry.clone());
                Some(EventKind::Put(entry))
            }
            Operation::Delete { key } => self.present.remove(&key).map(|_| EventKind::Delete { key }),
        }
    }

    fn end_lease(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let keys = self.present.values().filter(|entry| entry.lease == Some(LeaseId(lease)));
        let operations = keys.map(|entry| Operation::delete(&entry.key)).collect();
        let _ = self.transact(&[], operations);
    }
}

fn holds(condition: &Condition, entry: Option<&KeyValue>) -> bool {
    match (condition, entry) {
        (Condition::Absent, entry) => entry.is_none(),
        (Condition::Present, entry) => entry.is_some(),
        (Condition::ModRevision(revision), Some(entry)) => entry.mod_revision == *revision,
        (Condition::Version(version), Some(entry)) => entry.version == *version,
        (Condition::Value(value), Some(entry)) => entry.value == *value,
        (Condition::Version(version), None) => *version == 0,
        (Condition::ModRevision(_) | Condition::Value(_), None) => false,
    }
}
