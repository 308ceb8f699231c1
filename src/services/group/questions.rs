//! Questions to other nodes that wait for their answers.
//!
//! A question has a number, its answer repeats it. Numbers start anywhere (a random number for each start of the process)
//! and count up, so that an answer to a process that is no more is not taken for one to a question of this one: taken for
//! an acknowledgement, it would be one that nobody gave. For the same reason an answer counts only when it comes from
//! the node and the replica that were asked.
//!
//! Whoever asks holds a [`Question`]. When it is dropped, its place here is free: nothing is left of an answer that
//! comes late, and nothing has to be cleaned up. Their number is bounded, because a peer that never answers must
//! not fill the memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::wire::{self, Envelope, Message, Reason};
use crate::domain::Random;
use crate::domain::ids::{NodeId, RangeId, ReplicaId};
use crate::transport::links::{NotSent, Undelivered};

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Too many questions wait.
    #[error("too many questions wait for answers")]
    TooMany,
    /// It was not sent.
    #[error(transparent)]
    NotSent(#[from] NotSent),
    /// The frame that it was in failed. It may have arrived all the same.
    #[error("it did not get through")]
    Undelivered,
    /// It was refused.
    #[error("it was refused: {0:?}")]
    Refused(Reason),
    /// Nothing came in time.
    #[error("no answer came within {0:?}")]
    Late(Duration),
    /// Something else than an answer to this question came.
    #[error("the answer makes no sense")]
    Senseless,
}

/// Whom a question goes to, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Between {
    /// The group's range.
    pub range: RangeId,
    /// Who asks.
    pub own: ReplicaId,
    /// Who is asked.
    pub peer: ReplicaId,
    /// The node of the one who is asked.
    pub node: NodeId,
}

type Answer = Result<Message, Unanswered>;

/// See the module's essay.
pub struct Questions {
    waiting: Mutex<BTreeMap<u64, (Between, oneshot::Sender<Answer>)>>,
    next: AtomicU64,
    count_max: usize,
    /// Answers that nobody waited for.
    stray: AtomicU64,
}

impl Questions {
    /// No questions yet, and never more than `count_max`.
    pub fn new(random: &dyn Random, count_max: usize) -> Arc<Self> {
        let mut first = [0; 8];
        random.fill(&mut first);
        let next = AtomicU64::new(u64::from_be_bytes(first));
        Arc::new(Self { waiting: Mutex::default(), next, count_max, stray: AtomicU64::new(0) })
    }

    /// A place for one more question.
    ///
    /// # Errors
    /// [`Unanswered::TooMany`].
    pub fn begin(self: &Arc<Self>, between: Between) -> Result<Question, Unanswered> {
        // 0 says that no answer is expected.
        let number = match self.next.fetch_add(1, Ordering::Relaxed) {
            0 => self.next.fetch_add(1, Ordering::Relaxed),
            number => number,
        };
        let (sender, answer) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.count_max {
            return Err(Unanswered::TooMany);
        }
        waiting.insert(number, (between, sender));
        Ok(Question { questions: self.clone(), number, answer })
    }

    /// Takes an answer in. One that nobody waits for, any more or from this peer, is counted and dropped.
    pub fn answered(&self, from: NodeId, answer: Envelope) {
        let Envelope { range, from: peer, to: own, correlation, message } = answer;
        let told = match message {
            Message::Refused(reason) => Err(Unanswered::Refused(reason)),
            message => Ok(message),
        };
        if !self.end(correlation, Between { range, own, peer, node: from }, told) {
            self.stray.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Questions that wait.
    pub fn waiting_count(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Answers so far that nobody waited for.
    pub fn stray_count(&self) -> u64 {
        self.stray.load(Ordering::Relaxed)
    }

    fn end(&self, number: u64, between: Between, told: Answer) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.get(&number).is_none_or(|(meant, _)| *meant != between) {
            return false;
        }
        waiting.remove(&number).is_some_and(|(_, sender)| sender.send(told).is_ok())
    }
}

impl Undelivered for Questions {
    fn undelivered(&self, to: NodeId, message: &Bytes) {
        let Some(number) = wire::question_in(message) else { return };
        let mut waiting = self.waiting.lock();
        if waiting.get(&number).is_some_and(|(between, _)| between.node == to)
            && let Some((_, sender)) = waiting.remove(&number)
        {
            let _ = sender.send(Err(Unanswered::Undelivered));
        }
    }
}

/// A question that waits for its answer.
pub struct Question {
    questions: Arc<Questions>,
    number: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Question {
    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The answer, within a time.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn wait(mut self, time: Duration) -> Answer {
        match tokio::time::timeout(time, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            // The sender is dropped nowhere without having sent, but it costs nothing to say so.
            Ok(Err(_)) => Err(Unanswered::Undelivered),
            Err(_) => Err(Unanswered::Late(time)),
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.questions.waiting.lock().remove(&self.number);
    }
}
