//! Records that cannot be read, set aside. One that a hand, a damaged backup or a newer program has put there must not
//! keep all others from being used: whoever tells members who may come in passes over it and goes on, and so do the rounds
//! of maintenance.
//!
//! What is passed over is never let in. A principal or an access key that is not in the list is refused; a session
//! that cannot be read counts as revoked, since its record may say just that ([`super::access_feed`]). Maintenance leaves
//! it where it is ([`super::maintain`]): nobody can tell whether it is past its time. A person is told
//! once, by the log and by a notice, which record it is: by its key, never by what stands in it. When it can be read
//! again, and cannot later, that is told anew.
//!
//! Changes do not pass over anything: what they would overwrite or count must be readable.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::coordination::values::from_json;
use crate::coordination::{KeyValue, layout};
use crate::domain::Refusal;

use super::history::refusal;
use super::plane::ControlPlane;

/// Where records stand by which somebody is let in.
const CREDENTIALS: [&str; 4] =
    [layout::CONTROL_PRINCIPALS, layout::CONTROL_ACCESS_KEYS, layout::CONTROL_SESSIONS, layout::CONTROL_JOIN_TOKENS];

/// Which records were told of and are still not readable, by their keys.
#[derive(Default)]
pub(super) struct SetAside(Mutex<BTreeSet<String>>);

impl SetAside {
    /// Takes what cannot be read under a prefix now. Gives the keys that nobody was told of: they count as told when
    /// [`SetAside::told`] says so.
    fn note(&self, prefix: &str, unreadable: &[String]) -> Vec<String> {
        let mut told = self.0.lock();
        told.retain(|key| !key.starts_with(prefix) || unreadable.contains(key));
        unreadable.iter().filter(|key| !told.contains(*key)).cloned().collect()
    }

    fn told(&self, key: &str) {
        self.0.lock().insert(key.to_owned());
    }
}

/// What stands under a prefix.
pub(super) struct Readable<T> {
    /// The records that can be read.
    pub(super) records: Vec<T>,
    /// The keys of the others.
    pub(super) unreadable: Vec<String>,
}

impl ControlPlane {
    /// All records under a prefix that can be read; a person is told of the others.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub(super) async fn records_readable<T: serde::de::DeserializeOwned>(
        &self,
        prefix: &str,
    ) -> Result<Readable<T>, Refusal> {
        let Readable { records, unreadable } = self.entries_readable::<T>(prefix).await?;
        Ok(Readable { records: records.into_iter().map(|(_, record)| record).collect(), unreadable })
    }

    /// As [`Self::records_readable`], with their entries.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub(super) async fn entries_readable<T: serde::de::DeserializeOwned>(
        &self,
        prefix: &str,
    ) -> Result<Readable<(KeyValue, T)>, Refusal> {
        let listing = self.coordinator.list(prefix).await.map_err(refusal)?;
        let mut found = Readable { records: Vec::new(), unreadable: Vec::new() };
        for entry in listing.entries {
            match from_json(&entry.value) {
                Ok(record) => found.records.push((entry, record)),
                Err(_) => found.unreadable.push(entry.key),
            }
        }
        for key in self.set_aside.note(prefix, &found.unreadable) {
            self.tell_set_aside(&key).await;
        }
        Ok(found)
    }

    async fn tell_set_aside(&self, key: &str) {
        // What stands for no person may be all that is known of a table or a tenant: that is not to be deleted.
        let (follows, remedy) = match CREDENTIALS.iter().any(|prefix| key.starts_with(prefix)) {
            true => ("whoever it stands for is refused", ", or delete it there and make a new one"),
            false => ("it is left as it is", ""),
        };
        let what = format!(
            "the record {key:?} in the coordinator cannot be read: {follows}, and all others go on. Put it back from a \
             backup of the coordinator{remedy}"
        );
        tracing::error!(key, "{what}");
        match self.hygiene.lock().await.tell(&what).await {
            Ok(()) => self.set_aside.told(key),
            // It is told again with the next look.
            Err(error) => tracing::warn!(key, %error, "the notice of a record that cannot be read was not written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_until_it_can_be_read_again() {
        let aside = SetAside::default();
        let keys = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let look = |prefix: &str, unreadable: &[&str]| {
            let new = aside.note(prefix, &keys(unreadable));
            new.iter().for_each(|key| aside.told(key));
            new
        };
        assert_eq!(aside.note("a/", &keys(&["a/1"])), ["a/1"], "nobody was told, whatever came between");
        assert_eq!(look("a/", &["a/1"]), ["a/1"]);
        assert_eq!(look("a/", &["a/1", "a/2"]), ["a/2"]);
        assert_eq!(look("b/", &["b/1"]), ["b/1"], "what stands elsewhere is another matter");
        assert!(look("a/", &["a/1", "a/2"]).is_empty());
        assert!(look("a/", &[]).is_empty());
        assert_eq!(look("a/", &["a/2"]), ["a/2"], "it was mended and is broken again");
    }
}
