//! The spool of a component as its counting and reporting use it: opened when the disk lets it, one at a time, and with what
//! a person should know told in notices.

use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::domain::ambient::random_uuid;
use crate::domain::usage::{BatchId, UsageBatch, UsagePull, UsagePulled};
use crate::domain::{Refusal, Timestamp};

use super::counting::UsageParts;
use super::spool::key::{KeyContext, KeyError};
use super::spool::{Spool, SpoolNumbers};

/// See the module's essay. All but the numbers blocks on the disk.
pub(super) struct Keeper {
    parts: UsageParts,
    bytes_max: u64,
    boot: Uuid,
    /// Held while the disk is used; none while it could not be opened.
    spool: Mutex<Option<Spool>>,
    /// As it last was, and whether the disk did not take the last batch.
    numbers: Mutex<(SpoolNumbers, bool)>,
}

impl Keeper {
    /// Of a start of the process that has kept nothing yet.
    pub fn new(parts: UsageParts, bytes_max: u64) -> Self {
        let boot = random_uuid(&*parts.random);
        Self { parts, bytes_max, boot, spool: Mutex::default(), numbers: Mutex::default() }
    }

    /// The present time in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.parts.clock.now().0 / 1000
    }

    /// How the spool last was, and whether the disk did not take the last batch.
    pub fn numbers(&self) -> (SpoolNumbers, bool) {
        *self.numbers.lock()
    }

    /// The name of a batch of this start, but for its number, which it gets when it is kept.
    pub fn unnumbered(&self) -> BatchId {
        BatchId { component: self.parts.component, boot: self.boot, interval: 0 }
    }

    /// Has the newest version of the component's key open the spool.
    ///
    /// # Errors
    /// Where that was not possible: the old version is still needed.
    pub fn wrap_anew(&self) -> Result<(), String> {
        self.opened(&mut self.spool.lock())?.wrap_anew().map_err(|error| error.to_string())
    }

    /// Keeps a batch, and opens the spool before where that was not possible until now. Whether it is kept.
    pub fn keep(&self, mut batch: UsageBatch) -> bool {
        let mut spool = self.spool.lock();
        let kept = self.opened(&mut spool).and_then(|spool| {
            if let Err(error) = spool.wrap_anew() {
                tracing::warn!(%error, "the key of the usage spool could not be wrapped anew; it opens as before");
            }
            batch.id.interval = spool.next_interval();
            batch.before = spool.earlier().filter(|_| batch.id.interval == 1);
            spool.append(&batch).map_err(|error| error.to_string())
        });
        let numbers = spool.as_ref().map(Spool::numbers).unwrap_or_default();
        drop(spool);
        let was_failing = std::mem::replace(&mut *self.numbers.lock(), (numbers, kept.is_err())).1;
        if let Err(error) = &kept
            && !was_failing
        {
            let what =
                "usage counts cannot be written to disk and wait in memory; they are lost if the process is killed";
            self.parts.notices.write(format!("{what}. Look after the disk: {error}"));
        }
        kept.is_ok()
    }

    fn opened<'a>(&self, spool: &'a mut Option<Spool>) -> Result<&'a mut Spool, String> {
        if spool.is_none() {
            *spool = Some(self.open().map_err(|error| error.to_string())?);
        }
        spool.as_mut().ok_or_else(|| "it is not open".to_owned())
    }

    fn open(&self) -> Result<Spool, KeyError> {
        let UsageParts { component, plane, folder, keys, random, notices, .. } = &self.parts;
        let open = || {
            let (keys, random) = (Arc::clone(keys), Arc::clone(random));
            let context = KeyContext { plane: *plane, component: component.id, keys, random };
            Spool::open(folder.clone(), context, self.boot, self.bytes_max)
        };
        let opened = match open() {
            Err(KeyError::Lost(why)) => {
                let aside = folder.with_extension(format!("unreadable-{}", self.now_ms()));
                std::fs::rename(folder, &aside)?;
                notices.write(format!(
                    "the usage counts of earlier starts that nobody had taken yet cannot be read, {why}; they were set aside as {}",
                    aside.display()
                ));
                open()
            }
            opened => opened,
        };
        let (spool, told) = opened?;
        told.into_iter().for_each(|details| notices.write(details));
        if let Some(earlier) = spool.earlier().filter(|earlier| !earlier.was_planned) {
            let until = Timestamp(earlier.ended_ms * 1000);
            let role = component.role;
            notices.write(format!(
                "the {role} did not stop as planned before this start: what it counted of usage after {until}, the last second before its end at most, is missing"
            ));
        }
        Ok(spool)
    }

    /// Gives a reporter what it asks for.
    ///
    /// # Errors
    /// `Unavailable` where the disk does not answer.
    pub fn pull(&self, reporter: Uuid, pull: &UsagePull) -> Result<UsagePulled, Refusal> {
        let unread = |error: &str| Refusal::unavailable(format!("the usage spool cannot be read: {error}"), 5);
        let mut spool = self.spool.lock();
        let spool = spool.as_mut().ok_or_else(|| unread("it is not open yet"))?;
        let batches = spool.pull(reporter, pull, self.now_ms()).map_err(|error| unread(&error.to_string()))?;
        let numbers = spool.numbers();
        self.numbers.lock().0 = numbers;
        Ok(UsagePulled { component: self.parts.component, batches, dropped: numbers.dropped })
    }
}
