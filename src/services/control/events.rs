//! What happened in the cluster, by time, for whoever gathers it: notices, and what admins did.
//!
//! What admins did is written with each change, in its transaction ([`super::history`]): who, what, on what. It is kept as long as notices are, and
//! no more than [`EVENTS_MAX`] of it: a resource's own history tells more, and longer. What was refused changed nothing and stands
//! in the log of control alone.

use async_trait::async_trait;

use crate::coordination::values::{Notice, from_json, to_json};
use crate::coordination::{Operation, batches, layout};
use crate::domain::{Refusal, Timestamp};
use crate::services::reporting::events::{ClusterEvent, EventFeed, EventKind};

use super::history::refusal;
use super::notices::NOTICE_SECONDS;
use super::plane::ControlPlane;
use super::records::AdminEventRecord;

/// Admin events that are kept.
const EVENTS_MAX: usize = 2000;

impl ControlPlane {
    /// Writes down what was done; to be put into the transaction that does it.
    pub(super) fn admin_event(&self, who: &str, what: &str, resource: &str) -> Operation {
        let record = AdminEventRecord { who: who.to_owned(), what: what.to_owned(), resource: resource.to_owned() };
        // Several instances may write at the same microsecond.
        let mut dice = [0; 4];
        self.random.fill(&mut dice);
        let key = layout::control_event(self.now(), u32::from_be_bytes(dice) % 1_000_000);
        Operation::put(key, to_json(&record))
    }

    async fn notices_since(&self, since: Timestamp) -> Result<Vec<ClusterEvent>, Refusal> {
        let listing = self.coordinator.list(layout::NOTICES).await.map_err(refusal)?;
        let event = |entry: crate::coordination::KeyValue| {
            let (component, timestamp) = layout::parse_notice(&entry.key)?;
            let at = layout::parse_timestamp(timestamp).filter(|at| *at > since)?;
            let notice: Notice = from_json(&entry.value).ok()?;
            Some(ClusterEvent {
                kind: EventKind::Notice,
                at,
                what: "notice".to_owned(),
                subject: component.to_string(),
                message: notice.details,
                name: entry.key,
            })
        };
        Ok(listing.entries.into_iter().filter_map(event).collect())
    }

    async fn admin_events_since(&self, since: Timestamp) -> Result<Vec<ClusterEvent>, Refusal> {
        let listing = self.coordinator.list(layout::CONTROL_EVENTS).await.map_err(refusal)?;
        let event = |entry: crate::coordination::KeyValue| {
            let timestamp = entry.key.strip_prefix(layout::CONTROL_EVENTS)?;
            let at = layout::parse_timestamp(timestamp).filter(|at| *at > since)?;
            let AdminEventRecord { who, what, resource } = from_json(&entry.value).ok()?;
            Some(ClusterEvent {
                kind: EventKind::AdminEvent,
                at,
                message: format!("{who} {what} {resource}"),
                what,
                subject: resource,
                name: entry.key,
            })
        };
        Ok(listing.entries.into_iter().filter_map(event).collect())
    }

    /// Removes admin events that are too old or too many. How many.
    pub(super) async fn events_trim(&self) -> Result<usize, Refusal> {
        let listing = self.coordinator.list(layout::CONTROL_EVENTS).await.map_err(refusal)?;
        let oldest = layout::control_event(Timestamp(self.now().0.saturating_sub(NOTICE_SECONDS * 1_000_000)), 0);
        let too_many = listing.entries.len().saturating_sub(EVENTS_MAX);
        let keys = listing.entries.into_iter().map(|entry| entry.key).enumerate();
        let gone: Vec<Operation> = keys
            .filter(|(index, key)| *index < too_many || *key < oldest)
            .map(|(_, key)| Operation::delete(key))
            .collect();
        let count = gone.len();
        for piece in batches(gone) {
            self.coordinator.transact(Vec::new(), piece).await.map_err(refusal)?;
        }
        Ok(count)
    }
}

#[async_trait]
impl EventFeed for ControlPlane {
    async fn events_since(&self, since: Timestamp) -> Result<Vec<ClusterEvent>, Refusal> {
        let mut events = self.notices_since(since).await?;
        events.extend(self.admin_events_since(since).await?);
        events.sort_by_key(|event| event.at);
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::control::testing::Cluster;

    #[tokio::test]
    async fn what_was_done_is_told_by_time_and_forgotten_in_time() {
        let cluster = Cluster::start().await;
        let told = async |since| cluster.plane.events_since(since).await.unwrap();
        let words = |events: &[ClusterEvent]| events.iter().map(|event| event.message.clone()).collect::<Vec<_>>();
        cluster.tenant("acme").await;
        let role = crate::domain::ids::Role::Reporting;
        cluster.plane.invite(&cluster.root, role, None, None).await.unwrap();
        let first = told(Timestamp(0)).await;
        assert_eq!(first.len(), 2);
        for words_of in ["root created tenant/acme", "root invited reporting"] {
            assert!(words(&first).contains(&words_of.to_owned()), "{first:?}");
        }
        assert!(
            first.iter().all(|event| event.kind == EventKind::AdminEvent && event.name.starts_with("control/event/"))
        );

        cluster.clock.forward(10);
        let key = layout::notice(cluster.node(1, "a").await, cluster.plane.now(), 0);
        cluster.coordinator.put(&key, to_json(&Notice::new("mind the gap", 3)), None).await.unwrap();
        let later = told(first[1].at).await;
        assert_eq!(words(&later).iter().filter(|words| *words == "mind the gap").count(), 1);
        assert!(later.iter().all(|event| event.at > first[1].at));

        cluster.clock.forward(NOTICE_SECONDS - 5);
        assert_eq!(cluster.plane.events_trim().await.unwrap(), 2, "the first two");
        let now = cluster.plane.now();
        let many = (0..EVENTS_MAX as u32).map(|number| Operation::put(layout::control_event(now, number), "{}"));
        for piece in batches(many) {
            cluster.coordinator.transact(Vec::new(), piece).await.unwrap();
        }
        assert_eq!(cluster.plane.events_trim().await.unwrap(), 1, "the oldest of one too many");
    }
}
