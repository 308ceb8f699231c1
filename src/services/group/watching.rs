//! What happens beside the requests while a group is awake: its news are passed on, and it may campaign once the promises
//! that it may have forgotten are over.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use openraft::async_runtime::WatchReceiver;

use super::awake::Group;
use super::host::{Groups, asleep_now};
use super::questions::Between;
use super::slots::Slot;
use super::wire::Message;
use crate::domain::ids::RangeId;

/// Watches a group until openraft ends.
pub(super) async fn watch(groups: Weak<Groups>, range: RangeId, group: Arc<Group>) {
    let mut news = group.raft.server_metrics();
    let mut known = None;
    let mut led_in = group.beginning.leads_in;
    let mut is_quiet = true;
    loop {
        let now = {
            let news = news.borrow_and_update();
            let membership = &news.membership_config;
            (news.current_leader, *membership.log_id(), membership.membership().get_joint_config().len())
        };
        if known != Some(now) {
            known = Some(now);
            let Some(groups) = groups.upgrade() else { return };
            group.look(|metrics| {
                let nodes = metrics.membership_config.membership().nodes().map(|(_, node)| *node);
                groups.partners.lock().note(range, nodes);
            });
            groups.tell_change(range);
        }
        let view = group.view();
        if view.leads && led_in != Some(view.term) {
            led_in = Some(view.term);
            let Some(groups) = groups.upgrade() else { return };
            groups.counters.elections.fetch_add(1, Ordering::Relaxed);
            tracing::info!(%range, term = view.term, "this node leads a group");
        }
        tokio::select! {
            biased;
            changed = news.changed() => if changed.is_err() { break },
            () = tokio::time::sleep_until(group.quiet_until), if is_quiet => {
                is_quiet = false;
                group.raft.runtime_config().elect(true);
                begin(&groups, range, &group).await;
            }
        }
    }
    if let Some(groups) = groups.upgrade() {
        groups.ended(range, &group);
    }
}

/// Finds its place in the group: tells its leader that it is awake, or campaigns where nobody leads.
async fn begin(groups: &Weak<Groups>, range: RangeId, group: &Arc<Group>) {
    let Some(groups) = groups.upgrade() else { return };
    let view = group.view();
    let is_first = || {
        group.look(|metrics| {
            let vote = &metrics.vote.leader_id;
            let led_last = vote.term > 0 && vote.voted_for == group.member();
            let is_founding = vote.term == 0 && metrics.membership_config.voter_ids().min() == Some(group.member());
            led_last || is_founding
        })
    };
    match view.leader {
        _ if view.leads => {}
        _ if group.heard().is_some() => {}
        Some((leader, Some(node))) if !group.beginning.campaigns && node != groups.parts.node => {
            let between = Between { range, own: group.member(), peer: leader, node };
            // Where it is not sent, this replica campaigns after a while.
            let _ = groups.parts.networks.tell(between, Message::Wake);
        }
        Some(_) if group.beginning.campaigns => campaign(group).await,
        // A child of a split, beside its parent's leader.
        None if is_first() && groups.is_child(range) => {
            groups.spawn(super::splitting::ask_to_lead(Arc::clone(group)));
        }
        // It led before the process began, and openraft lets it forget that; or nobody has ever led.
        None if group.beginning.campaigns || is_first() => campaign(group).await,
        _ => {}
    }
}

/// Asks the others whether they would vote for it, and if they would, for their votes.
async fn campaign(group: &Group) {
    if let Err(error) = group.raft.trigger().elect(true).await {
        tracing::debug!(%error, "a group ended before it campaigned");
    }
}

impl Groups {
    /// openraft has ended. If we did not end it, its log or machine failed: it sleeps then, and is woken from fresh parts.
    fn ended(&self, range: RangeId, group: &Arc<Group>) {
        let mut slots = self.slots.lock();
        if slots.awake(range).is_some_and(|awake| Arc::ptr_eq(&awake, group)) {
            tracing::error!(%range, "a group ended, because its log or its data failed");
            slots.set(range, Slot::Asleep(asleep_now(group, false)));
            drop(slots);
            self.tell_change(range);
        }
    }
}
