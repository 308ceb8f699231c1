//! A leader tells its followers how far it has committed with each append. openraft also makes an append without entries as
//! soon as that point has moved and nothing else is to be sent: for a write that comes alone, as many messages again as the write itself
//! took, for something that nobody waits for. A follower learns it with the next entries, or with the next heartbeat.
//!
//! So such an append waits a while ([`super::NetworkOptions::commit_pause`]): where entries come meanwhile, it is not sent, because they tell the
//! same and more.
//!
//! It is sound to drop it: openraft takes one answer for all that was sent before the entries that it acknowledges. And an append
//! that says anything else than how far is committed (a probe, the first one to a follower) is never held back: only one that
//! follows directly on what was sent last, in the same stream, by the same leader.

use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, timeout_at};

use super::super::types::{LogId, Types, Vote};

type Request = AppendEntriesRequest<Types>;

/// What was handed on last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    vote: Vote,
    last: Option<LogId>,
}

impl Sent {
    fn of(request: &Request) -> Self {
        Self { vote: request.vote, last: request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id) }
    }

    /// Whether this says nothing new but how far is committed.
    fn is_repeated_by(self, request: &Request) -> bool {
        request.entries.is_empty() && request.vote == self.vote && request.prev_log_id == self.last
    }
}

struct Waiting<S> {
    input: S,
    pause: Duration,
    sent: Option<Sent>,
    held: Option<(Request, Instant)>,
}

/// The same appends, without those that others make superfluous within `pause`.
pub(super) fn shared<S>(input: S, pause: Duration) -> impl Stream<Item = Request> + Send
where
    S: Stream<Item = Request> + Send + Unpin,
{
    stream::unfold(Waiting { input: input.fuse(), pause, sent: None, held: None }, |mut waiting| async move {
        let request = waiting.next().await?;
        waiting.sent = Some(Sent::of(&request));
        Some((request, waiting))
    })
}

impl<S: Stream<Item = Request> + Unpin> Waiting<S> {
    async fn next(&mut self) -> Option<Request> {
        loop {
            let Some((held, until)) = self.held.take() else {
                let request = self.input.next().await?;
                if self.pause.is_zero() || !self.sent.is_some_and(|sent| sent.is_repeated_by(&request)) {
                    return Some(request);
                }
                self.held = Some((request, Instant::now() + self.pause));
                continue;
            };
            match timeout_at(until, self.input.next()).await {
                Ok(Some(request)) if self.sent.is_some_and(|sent| sent.is_repeated_by(&request)) => {
                    self.held = Some((request, until));
                }
                Ok(Some(request)) => return Some(request),
                // The end of the stream is met again.
                Ok(None) | Err(_) => return Some(held),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::ReplicaId;
    use crate::replication::machine_state::LogPlace;
    use crate::services::group::convert::log_id;
    use openraft::entry::RaftEntry;
    use tokio::sync::mpsc;

    const PAUSE: Duration = Duration::from_millis(50);

    fn place(index: u64) -> LogId {
        log_id(LogPlace { term: 1, index })
    }

    /// An append of the entries above `previous` up to `last`, by a leader that has committed so far.
    fn append(previous: u64, last: u64, committed: u64) -> Request {
        let entries = (previous + 1..=last).map(|index| RaftEntry::new_blank(place(index))).collect();
        let vote = Vote::new_committed(1, ReplicaId::from_bytes([1; 16]));
        AppendEntriesRequest {
            vote,
            prev_log_id: Some(place(previous)),
            entries,
            leader_commit: Some(place(committed)),
        }
    }

    /// Previous, last and committed index of each append that is sent.
    async fn sent(requests: Vec<Request>) -> Vec<(u64, u64, u64)> {
        let index = |id: Option<LogId>| id.unwrap().index;
        let seen = shared(stream::iter(requests), PAUSE).map(|request| {
            let last = Sent::of(&request).last;
            (index(request.prev_log_id), index(last), index(request.leader_commit))
        });
        seen.collect().await
    }

    #[tokio::test(start_paused = true)]
    async fn writes_one_after_the_other_need_one_append_each() {
        let began = Instant::now();
        let requests = vec![append(0, 1, 0), append(1, 1, 1), append(1, 2, 1), append(2, 2, 2), append(2, 3, 2)];
        assert_eq!(sent(requests).await, [(0, 1, 0), (1, 2, 1), (2, 3, 2)]);
        assert_eq!(Instant::now(), began, "and nobody waits");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_commit_point_is_told_in_the_end() {
        assert_eq!(sent(vec![append(0, 2, 0), append(2, 2, 1), append(2, 2, 2)]).await, [(0, 2, 0), (2, 2, 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_point_waits_for_a_pause_and_no_longer() {
        let (sender, receiver) = mpsc::channel(2);
        let input = stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
        let mut requests = Box::pin(shared(Box::pin(input), PAUSE));
        sender.try_send(append(0, 1, 0)).unwrap();
        requests.next().await.unwrap();
        let began = Instant::now();
        sender.try_send(append(1, 1, 1)).unwrap();
        assert!(requests.next().await.unwrap().entries.is_empty());
        assert_eq!(Instant::now() - began, PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_and_another_leaders_append_are_sent_as_they_are() {
        assert_eq!(sent(vec![append(4, 4, 4)]).await, [(4, 4, 4)], "the first one asks where the follower is");
        let jump = vec![append(0, 2, 0), append(1, 1, 1), append(1, 2, 2)];
        assert_eq!(sent(jump).await, [(0, 2, 0), (1, 1, 1), (1, 2, 2)], "it goes back");
        let mut other = append(2, 2, 1);
        other.vote = Vote::new_committed(2, ReplicaId::from_bytes([2; 16]));
        let began = Instant::now();
        assert_eq!(sent(vec![append(0, 2, 0), other]).await.len(), 2);
        assert_eq!(Instant::now(), began);
    }
}
