//! Keeping the coordinator itself in order: its past is cut off after some minutes, and a person is told before it
//! is full.
//!
//! etcd keeps every change until it is told to forget, and refuses all writes once its quota is used up. So the
//! leading instance notes now and then which revision there is, and lets go what was before the one it noted
//! [`HISTORY_SECONDS_KEPT`] ago: a watcher that was away for less goes on where it was, one that was away for
//! longer lists again. The embedded store bounds its past by itself as well; compacting it does no harm. etcd may be
//! shared with others under another prefix: compaction cuts their past off, too, which is etcd's own semantics.
//!
//! Compaction frees pages inside the file; the quota counts the file. Only a defragmentation makes it smaller, and
//! that stops a member for a while, so it is left to the operator, and the notice says so.
//!
//! A full coordinator can take no notice of it. That is why the warning comes early, at
//! [`FULL_PERCENT_WARNED`]; what has happened all the same is logged, shown by `status`, and written down as soon
//! as there is room again.

use std::collections::VecDeque;

use crate::coordination::{Error, Revision, StoreHealth};
use crate::domain::{Refusal, Timestamp};
use crate::services::notices::NoticeWriter;

use super::history::refusal;
use super::plane::ControlPlane;

/// How long the coordinator's past is kept at least, in seconds.
pub const HISTORY_SECONDS_KEPT: u64 = 300;
/// How full its file may be before a notice is written, in percent of the quota.
pub(super) const FULL_PERCENT_WARNED: u64 = 80;
/// How often the same warning is repeated while its reason lasts, in seconds.
const WARNING_SECONDS: u64 = 3600;

/// What an operator does about a full etcd.
pub(super) const HOW_TO_MAKE_ROOM: &str = "Defragment each member of etcd (`etcdctl defrag`), or start them with a \
     larger --quota-backend-bytes; then lift the alarm, where there is one (`etcdctl alarm disarm`)";

/// What is remembered between two rounds.
pub(super) struct Hygiene {
    notices: NoticeWriter,
    /// Which revision there was when, oldest first.
    noted: VecDeque<(Timestamp, Revision)>,
    warned: Option<(Warning, Timestamp)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Warning {
    NearlyFull,
    Full,
}

impl Hygiene {
    pub(super) fn new(notices: NoticeWriter) -> Self {
        Self { notices, noted: VecDeque::new(), warned: None }
    }

    /// Writes a notice of the control plane.
    ///
    /// # Errors
    /// Those of the coordinator.
    pub(super) async fn tell(&mut self, what: &str) -> Result<(), Error> {
        self.notices.write(what, 1).await
    }

    /// Notes the revision of now; gives the one to compact at, if there is a new one.
    fn note(&mut self, now: Timestamp, revision: Revision) -> Option<Revision> {
        if self.noted.back().is_none_or(|(_, last)| *last < revision) {
            self.noted.push_back((now, revision));
        }
        let mut past = None;
        // Kept until a younger one is old enough: the last that is let go is the youngest of the old ones.
        while let Some((at, revision)) = self.noted.front().copied()
            && now.seconds_since(at) >= HISTORY_SECONDS_KEPT
        {
            past = Some(revision);
            self.noted.pop_front();
        }
        past
    }

    /// What is to be said now, if anything.
    fn warning(&mut self, now: Timestamp, health: &StoreHealth) -> Option<(Warning, String)> {
        let quota = health.quota_bytes.unwrap_or(0);
        let nearly_full = quota > 0 && health.bytes / FULL_PERCENT_WARNED >= quota / 100;
        let warning = match (health.no_space, nearly_full) {
            (true, _) => Warning::Full,
            (false, true) => Warning::NearlyFull,
            (false, false) => {
                self.warned = None;
                return None;
            }
        };
        let said_lately =
            self.warned.is_some_and(|(before, at)| before == warning && now.seconds_since(at) < WARNING_SECONDS);
        let mebibytes = quota >> 20;
        let what = match warning {
            Warning::NearlyFull => format!(
                "the coordinator's database takes more than {FULL_PERCENT_WARNED} % of its quota of {mebibytes} MiB; \
                 when it is full, nothing can be changed any more. {HOW_TO_MAKE_ROOM}"
            ),
            Warning::Full => format!(
                "the coordinator's quota of {mebibytes} MiB was used up: it refused to store anything. {HOW_TO_MAKE_ROOM}"
            ),
        };
        (!said_lately).then_some((warning, what))
    }
}

impl ControlPlane {
    /// How the coordinator is.
    ///
    /// # Errors
    /// `Unavailable` where it cannot be asked.
    pub async fn coordinator_health(&self) -> Result<StoreHealth, Refusal> {
        self.coordinator.health().await.map_err(refusal)
    }

    /// Cuts off the coordinator's past and warns where it is nearly full. Whether something was cut off.
    pub(super) async fn coordinator_tend(&self) -> Result<bool, Refusal> {
        let health = self.coordinator.health().await.map_err(refusal)?;
        let now = self.now();
        let mut hygiene = self.hygiene.lock().await;
        let mut compacted = false;
        if let Some(revision) = hygiene.note(now, health.revision) {
            compacted = match self.coordinator.compact(revision).await {
                Ok(()) => true,
                // Another instance that led before was quicker.
                Err(Error::Compacted { .. }) => false,
                Err(error) => return Err(refusal(error)),
            };
        }
        if let Some((warning, what)) = hygiene.warning(now, &health) {
            tracing::error!(bytes = health.bytes, in_use = health.bytes_in_use, "{what}");
            match hygiene.tell(&what).await {
                Ok(()) => hygiene.warned = Some((warning, now)),
                Err(error) => tracing::warn!(%error, "the notice of it could not be written; trying again later"),
            }
        }
        Ok(compacted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::layout;
    use crate::services::control::testing::Cluster;

    fn health(bytes: u64, no_space: bool) -> StoreHealth {
        StoreHealth { revision: 1, bytes, bytes_in_use: bytes / 2, quota_bytes: Some(1000 << 20), no_space }
    }

    async fn hygiene(cluster: &Cluster) -> tokio::sync::MutexGuard<'_, Hygiene> {
        cluster.plane.hygiene.lock().await
    }

    #[tokio::test]
    async fn a_warning_comes_before_it_is_full_and_is_not_said_every_minute() {
        let cluster = Cluster::start().await;
        let mut hygiene = hygiene(&cluster).await;
        let at = |seconds: u64| Timestamp(seconds * 1_000_000);
        assert_eq!(hygiene.warning(at(0), &health(799 << 20, false)), None);
        let (warning, what) = hygiene.warning(at(0), &health(800 << 20, false)).unwrap();
        assert_eq!(warning, Warning::NearlyFull);
        assert!(what.contains("80 %") && what.contains("1000 MiB") && what.contains("defrag"), "{what}");
        assert!(hygiene.warning(at(1), &health(800 << 20, false)).is_some(), "it was not written yet");
        hygiene.warned = Some((warning, at(1)));
        assert_eq!(hygiene.warning(at(2), &health(810 << 20, false)), None);
        assert_eq!(hygiene.warning(at(2), &health(999 << 20, true)).unwrap().0, Warning::Full, "worse is said at once");
        let (_, again) = hygiene.warning(at(3601), &health(810 << 20, false)).unwrap();
        assert_eq!(again, what, "the same words, so that repeats are counted");
        let unlimited = StoreHealth { quota_bytes: None, ..health(u64::MAX, false) };
        assert_eq!(hygiene.warning(at(9999), &unlimited), None);
        assert_eq!(hygiene.warned, None, "the reason is gone");
    }

    #[tokio::test]
    async fn the_past_is_kept_for_some_minutes_and_then_forgotten() {
        let cluster = Cluster::start().await;
        let old = cluster.coordinator.put("control/x", "1".into(), None).await.unwrap();
        cluster.coordinator.put("control/x", "2".into(), None).await.unwrap();
        assert!(!cluster.plane.maintain().await.unwrap().compacted);
        cluster.coordinator.put("control/x", "3".into(), None).await.unwrap();
        cluster.clock.forward(HISTORY_SECONDS_KEPT - 1);
        assert!(!cluster.plane.maintain().await.unwrap().compacted);
        assert!(cluster.coordinator.list_page("control/x", None, Some(old), 1).await.is_ok());
        cluster.clock.forward(1);
        assert!(cluster.plane.maintain().await.unwrap().compacted);
        let past = cluster.coordinator.list_page("control/x", None, Some(old), 1).await;
        assert!(matches!(past, Err(Error::Compacted { .. })), "{past:?}");
        assert_eq!(cluster.coordinator.get("control/x").await.unwrap().unwrap().value.as_ref(), b"3");
        cluster.clock.forward(HISTORY_SECONDS_KEPT);
        assert!(cluster.plane.maintain().await.unwrap().compacted, "what was noted a moment before");
        cluster.clock.forward(HISTORY_SECONDS_KEPT);
        assert!(!cluster.plane.maintain().await.unwrap().compacted, "nothing has happened since");
    }

    #[tokio::test]
    async fn what_control_has_to_say_is_a_notice_of_the_control_plane() {
        let cluster = Cluster::start().await;
        hygiene(&cluster).await.notices.write("nearly full", 1).await.unwrap();
        hygiene(&cluster).await.notices.write("nearly full", 1).await.unwrap();
        let notices = cluster.plane.notice_list(Some(cluster.plane.plane().0)).await.unwrap();
        assert_eq!((notices.len(), notices[0].count), (1, 2));
        assert_eq!(cluster.keys(layout::NOTICES).await.len(), 1);
    }
}
