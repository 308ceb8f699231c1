//! Which of a node's replica files are open, and which is closed where another one is to be opened.
//!
//! The one not used for the longest time goes, but not one with much in its write-ahead log, as long as there are others: opening
//! that again means to read the whole log, which costs more than all that was saved. It has been seen that a node which took over
//! a thousand ranges at once opened the files of all of them, closed the sixty busiest for that, because those had
//! waited for a leader meanwhile, and then stood still for seconds while one after the other was opened again.
//!
//! Nor is one closed that is in use at this moment: whoever opens a file never waits for another one. So for a moment there may be a few
//! more than `max`.
//!
//! Whether a store is listed is decided under one lock, and its time of use says the same: 0 where it is not listed,
//! else not 0. Only a store that is listed gets a later time without the lock, by an exchange that never makes a 0
//! another number; so none is taken for listed that is not, which would leave its file open for ever. What is being
//! closed is remembered beside until that is done: whoever forgets or uses it in between has the last word.
//!
//! A replica whose file was set aside or came back has another store under the same name. The one used last is listed;
//! the other one is closed, and listed again with its next use.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::range_store::SqliteRangeStore;
use crate::domain::ids::ReplicaId;
use crate::storage::store::RangeStore;

/// A write-ahead log above this is much: some sixty pages to read.
const LOG_BYTES_SMALL: u64 = 256 << 10;

/// A store, and when it was last used: 0 while it is not among the open ones, which only changes under their lock.
#[derive(Clone)]
pub(super) struct OpenPlace {
    pub(super) replica: ReplicaId,
    pub(super) store: Arc<SqliteRangeStore>,
    used: Arc<AtomicU64>,
}

impl OpenPlace {
    pub(super) fn new(replica: ReplicaId, store: Arc<SqliteRangeStore>) -> Self {
        Self { replica, store, used: Arc::default() }
    }

    /// Whether it is the same store, and not only one of the same replica.
    fn is(&self, other: &OpenPlace) -> bool {
        Arc::ptr_eq(&self.used, &other.used)
    }
}

/// See the module's essay.
#[derive(Default)]
struct Lists {
    open: HashMap<ReplicaId, OpenPlace>,
    /// Those that are being closed at this moment.
    leaving: HashMap<ReplicaId, OpenPlace>,
}

/// See the module's essay.
pub(super) struct OpenFiles {
    max: usize,
    ticks: AtomicU64,
    lists: Mutex<Lists>,
}

impl OpenFiles {
    /// No file is open, and so many may be; at least one.
    pub(super) fn new(max: usize) -> Self {
        Self { max: max.max(1), ticks: AtomicU64::new(0), lists: Mutex::default() }
    }

    /// How many are open.
    pub(super) fn count(&self) -> usize {
        self.lists.lock().open.len()
    }

    /// Notes a use, and closes another one for it where there are too many.
    pub(super) fn note(&self, place: &OpenPlace) {
        let tick = self.ticks.fetch_add(1, Ordering::Relaxed) + 1;
        let is_listed = |used: u64| (used != 0).then_some(tick);
        if place.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_listed).is_ok() {
            return;
        }
        let (displaced, leaving) = self.take_in(place, tick);
        if let Some(leaving) = leaving {
            let is_closed = leaving.store.release_if_idle();
            self.settle(leaving, is_closed, tick);
        }
        // One that is in use at this moment is listed again with its next use, or gone before.
        if let Some(displaced) = displaced {
            displaced.store.release_if_idle();
        }
    }

    /// Lists a store. Gives another one of the same replica that was listed, and one that is to be closed for it.
    fn take_in(&self, place: &OpenPlace, tick: u64) -> (Option<OpenPlace>, Option<OpenPlace>) {
        let mut lists = self.lists.lock();
        place.used.store(tick, Ordering::Relaxed);
        if lists.leaving.get(&place.replica).is_some_and(|leaving| leaving.is(place)) {
            lists.leaving.remove(&place.replica);
        }
        let displaced = lists.open.insert(place.replica, place.clone()).filter(|before| !before.is(place));
        if let Some(displaced) = &displaced {
            displaced.used.store(0, Ordering::Relaxed);
        }
        if lists.open.len() <= self.max {
            return (displaced, None);
        }
        let others = lists.open.values().filter(|other| other.replica != place.replica);
        let cost = |other: &&OpenPlace| (other.store.log_bytes() > LOG_BYTES_SMALL, other.used.load(Ordering::Relaxed));
        let leaving = others.min_by_key(cost).map(|leaving| leaving.replica);
        let leaving = leaving.and_then(|leaving| lists.open.remove(&leaving));
        if let Some(leaving) = &leaving {
            leaving.used.store(0, Ordering::Relaxed);
            lists.leaving.insert(leaving.replica, leaving.clone());
        }
        (displaced, leaving)
    }

    /// One that was to be closed is, or is in use and stays. Where somebody used or forgot it meanwhile, that holds.
    fn settle(&self, place: OpenPlace, is_closed: bool, tick: u64) {
        let mut lists = self.lists.lock();
        if !lists.leaving.get(&place.replica).is_some_and(|leaving| leaving.is(&place)) {
            return;
        }
        lists.leaving.remove(&place.replica);
        if is_closed || lists.open.contains_key(&place.replica) {
            return;
        }
        place.used.store(tick, Ordering::Relaxed);
        lists.open.insert(place.replica, place);
    }

    /// Which are open, in order.
    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<ReplicaId> {
        let mut all: Vec<_> = self.lists.lock().open.keys().copied().collect();
        all.sort();
        all
    }

    /// Closes this one, if it is open or about to be closed. Waits for who uses it.
    pub(super) fn forget(&self, replica: ReplicaId) {
        let forgotten = {
            let mut lists = self.lists.lock();
            let forgotten = [lists.open.remove(&replica), lists.leaving.remove(&replica)];
            forgotten.iter().flatten().for_each(|place| place.used.store(0, Ordering::Relaxed));
            forgotten
        };
        for place in forgotten.into_iter().flatten() {
            place.store.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{OpenFiles, OpenPlace};
    use crate::crypto::cipher::tests::SystemRandom;
    use crate::domain::ids::{NodeId, PlaneId};
    use crate::storage::contract::{OneKey, batch, name};
    use crate::storage::sqlite::keeper::{KeeperOptions, SqliteKeeper};
    use crate::storage::sqlite::range_store::{FileOptions, KeySource, SpareConnections, SqliteRangeStore};
    use crate::storage::store::{StoreError, StoreKeeper};
    use crate::storage::vfs;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    /// A store that nobody opens.
    fn place(number: u8) -> OpenPlace {
        let key: KeySource = Arc::new(|| Err(StoreError::Key("this test opens nothing".to_owned())));
        let options = FileOptions { cache_pages: 50, readers_max: 2 };
        let store = SqliteRangeStore::new("nowhere".into(), key, options, SpareConnections::new(1));
        OpenPlace::new(name(number).replica, Arc::new(store))
    }

    /// Which of these are listed; after a check that each itself says the same.
    fn listed(files: &OpenFiles, places: &[&OpenPlace]) -> Vec<bool> {
        let lists = files.lists.lock();
        let is_listed = |place: &&OpenPlace| {
            let is_listed = lists.open.get(&place.replica).is_some_and(|open| open.is(place));
            assert_eq!(place.used.load(Ordering::Relaxed) != 0, is_listed, "{:?}", place.replica);
            is_listed
        };
        places.iter().map(is_listed).collect()
    }

    /// What happens between the two steps of closing one for another: each step is under the lock, so that these orders
    /// are all there are.
    #[test]
    fn whoever_forgets_or_uses_one_that_is_being_closed_has_the_last_word() {
        for is_closed in [true, false] {
            let (files, first, second) = (OpenFiles::new(1), place(1), place(2));
            files.note(&first);
            let (_, leaving) = files.take_in(&second, 10);
            assert_eq!(listed(&files, &[&first, &second]), [false, true]);
            files.forget(first.replica);
            files.settle(leaving.unwrap(), is_closed, 10);
            assert_eq!(listed(&files, &[&first, &second]), [false, true], "it was forgotten, closed: {is_closed}");

            let (files, first, second) = (OpenFiles::new(1), place(1), place(2));
            files.note(&first);
            let (_, leaving) = files.take_in(&second, 10);
            // The first step of a use; the second one would be closed for it in turn.
            files.take_in(&first, 11);
            files.settle(leaving.unwrap(), is_closed, 10);
            assert!(listed(&files, &[&first])[0], "it was used, closed: {is_closed}");
            assert_eq!(first.used.load(Ordering::Relaxed), 11, "and its time is not set back");
        }
        let (files, first, second) = (OpenFiles::new(1), place(1), place(2));
        files.note(&first);
        let (_, leaving) = files.take_in(&second, 10);
        files.settle(leaving.unwrap(), false, 10);
        assert_eq!(listed(&files, &[&first, &second]), [true, true], "what is in use stays, though it is one too many");
        assert!(files.lists.lock().leaving.is_empty());
    }

    #[test]
    fn of_two_stores_of_a_replica_none_is_taken_for_listed_that_is_not() {
        let (files, before, after) = (OpenFiles::new(4), place(1), place(1));
        files.note(&before);
        files.note(&after);
        assert_eq!(listed(&files, &[&before, &after]), [false, true]);
        // A late use of the old one, as by who had it at hand when its file was set aside.
        files.note(&before);
        assert_eq!(listed(&files, &[&before, &after]), [true, false]);
        files.note(&after);
        assert_eq!(listed(&files, &[&before, &after]), [false, true], "it can be closed again");
        assert_eq!(files.count(), 1);
        files.forget(after.replica);
        assert_eq!((listed(&files, &[&before, &after]), files.count()), (vec![false, false], 0));
    }

    #[test]
    fn many_who_use_and_forget_at_once_leave_nothing_that_is_wrong() {
        let (files, places) = (OpenFiles::new(2), [1, 1, 2, 3].map(place));
        std::thread::scope(|scope| {
            for at in 0..places.len() {
                let (files, places) = (&files, &places);
                scope.spawn(move || {
                    for round in 0..500 {
                        files.note(&places[at]);
                        if round % 3 == 0 {
                            files.forget(places[(at + round) % places.len()].replica);
                        }
                    }
                });
            }
        });
        listed(&files, &places.each_ref());
        assert!(files.lists.lock().leaving.is_empty());
        for number in 1..=3 {
            files.forget(name(number).replica);
        }
        assert_eq!(files.count(), 0);
    }

    /// A keeper with so many files open at most.
    fn keeper(folder: &std::path::Path, open_files_max: usize) -> SqliteKeeper {
        let random = Arc::new(SystemRandom::default());
        vfs::register(random.clone()).unwrap();
        let options = KeeperOptions { open_files_max, file: FileOptions { cache_pages: 50, readers_max: 2 } };
        let (plane, node) = (PlaneId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        SqliteKeeper::new(folder.to_owned(), plane, node, Arc::new(OneKey), random, options)
    }

    #[test]
    fn what_is_dear_to_open_again_stays_open() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = keeper(folder.path(), 2);
        let stores: Vec<_> = (1..=4).map(|number| keeper.create(name(number), &[]).unwrap()).collect();
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(300 << 10));
        stores[0].write(&batch(1, &[("a", Some(&long))])).unwrap();
        stores[1].state().unwrap();
        stores[2].state().unwrap();
        assert_eq!(keeper.open_files(), [1, 3].map(|number| name(number).replica), "the log of the first is long");
        stores[0].checkpoint().unwrap();
        stores[2].state().unwrap();
        stores[3].state().unwrap();
        assert_eq!(keeper.open_files(), [3, 4].map(|number| name(number).replica), "it is not any more");
        // Where all are dear, the one not used for the longest time goes all the same.
        for store in &stores {
            store.write(&batch(2, &[("b", Some(&long))])).unwrap();
        }
        assert_eq!(keeper.open_files(), [3, 4].map(|number| name(number).replica));
        assert_eq!(stores[0].state().unwrap().applied_index, 2, "a closed one opens by itself");
    }
}
