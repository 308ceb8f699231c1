//! The end of patience with what nearly always comes at once, such as a body that is sent right behind its head.
//!
//! A timer of the runtime costs each such wait an allocation, a place in a wheel under a lock, and all of that once more when it
//! is given up; and of a million none goes off. So waits stand in a list of their thread here, and as long as there are any, one
//! task looks at the list every [`LOOK_EVERY`] and wakes whose time is over. The clock is looked at once for all: the time of
//! a wait runs from the first look at it. So it ends up to two looks late, and never early.
//!
//! What the next author must keep: a wait that is dropped takes its entry with it, and a task that ends, by itself or
//! together with its runtime, says so; else nobody would ever look again. A thread drives one runtime at a time.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use slab::Slab;
use tokio::time::Instant;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Places that are kept when nobody waits: many may have waited at once, and all are walked over at each look.
const PLACES_KEPT: usize = 1024;

thread_local! {
    static WAITS: Arc<Mutex<Waits>> = Arc::default();
}

/// Those who wait on one thread.
#[derive(Default)]
struct Waits {
    waits: Slab<Wait>,
    /// Whether a task looks at them.
    is_watched: bool,
}

struct Wait {
    time_max: Duration,
    /// When its time is over; known from the first look on.
    ends_at: Option<Instant>,
    is_late: bool,
    waker: Waker,
}

impl Wait {
    fn new(time_max: Duration, waker: Waker) -> Self {
        Self { time_max, ends_at: None, is_late: false, waker }
    }

    /// Whether its time is over; one that is too long to be told never ends.
    fn look(&mut self, now: Instant) -> bool {
        match self.ends_at {
            Some(ends_at) => self.is_late = now >= ends_at,
            None => self.ends_at = now.checked_add(self.time_max),
        }
        self.is_late
    }
}

/// The time of one wait, from its first poll on.
pub struct Deadline {
    time_max: Duration,
    entry: Option<(Arc<Mutex<Waits>>, usize)>,
}

impl Deadline {
    /// One that is over when it was waited for so long.
    pub fn new(time_max: Duration) -> Self {
        Self { time_max, entry: None }
    }

    /// Whether the time is over; else the task is woken when it is. Must be called within a Tokio runtime.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some((waits, place)) = &self.entry else {
            self.entry = Some(enter(self.time_max, context.waker().clone()));
            return Poll::Pending;
        };
        let mut waits = waits.lock();
        let wait = &mut waits.waits[*place];
        if wait.is_late {
            return Poll::Ready(());
        }
        if !wait.waker.will_wake(context.waker()) {
            let other = std::mem::replace(&mut wait.waker, context.waker().clone());
            // What it woke may end with it, and wait here itself.
            drop((waits, other));
        }
        Poll::Pending
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some((waits, place)) = self.entry.take() {
            let wait = waits.lock().waits.remove(place);
            // Without the lock: what its waker woke may end with it, and wait here itself.
            drop(wait);
        }
    }
}

fn enter(time_max: Duration, waker: Waker) -> (Arc<Mutex<Waits>>, usize) {
    let shared = WAITS.with(Arc::clone);
    let mut waits = shared.lock();
    let place = waits.waits.insert(Wait::new(time_max, waker));
    let is_watched = std::mem::replace(&mut waits.is_watched, true);
    // A runtime that is over drops the task at once, which then says so under the lock.
    drop(waits);
    if !is_watched {
        tokio::spawn(watch(Watch { waits: Arc::clone(&shared), is_over: false }));
    }
    (shared, place)
}

/// A task that looks.
struct Watch {
    waits: Arc<Mutex<Waits>>,
    is_over: bool,
}

impl Watch {
    /// Looks once; gives those to be woken. It is over when nobody waits any more.
    fn look(&mut self, now: Instant) -> Vec<Waker> {
        let mut waits = self.waits.lock();
        let late = waits.waits.iter_mut().filter_map(|(_, wait)| wait.look(now).then(|| wait.waker.clone())).collect();
        self.is_over = waits.waits.is_empty();
        waits.is_watched = !self.is_over;
        if self.is_over && waits.waits.capacity() > PLACES_KEPT {
            waits.waits = Slab::new();
        }
        late
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It ends with its runtime; who waits in another one on this thread needs a new one.
        if !self.is_over {
            self.waits.lock().is_watched = false;
        }
    }
}

async fn watch(mut watch: Watch) {
    while !watch.is_over {
        tokio::time::sleep(LOOK_EVERY).await;
        watch.look(Instant::now()).into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn waiting() -> (usize, bool) {
        WAITS.with(|waits| {
            let waits = waits.lock();
            (waits.waits.len(), waits.is_watched)
        })
    }

    #[test]
    fn a_wait_ends_at_the_first_look_after_its_time_and_not_before() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let mut wait = Wait::new(Duration::from_millis(250), Waker::noop().clone());
        let looks = [70, 170, 270, 319, 320, 900].map(|millis| wait.look(at(millis)));
        assert_eq!(looks, [false, false, false, false, true, true], "its time runs from the first look on");
        let mut endless = Wait::new(Duration::MAX, Waker::noop().clone());
        assert_eq!([at(0), at(1)].map(|now| endless.look(now)), [false, false]);
    }

    #[tokio::test]
    async fn a_wait_ends_when_its_time_is_over_and_others_go_on() {
        let mut long = Deadline::new(Duration::from_secs(3600));
        let mut short = Deadline::new(Duration::from_millis(1));
        poll_fn(|context| {
            assert!(long.poll(context).is_pending());
            short.poll(context)
        })
        .await;
        assert_eq!(waiting(), (2, true));
        drop((long, short));
        assert_eq!(waiting().0, 0);
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_leaves_nothing_and_the_next_is_watched_again() {
        for _ in 0..2 {
            let mut deadline = Deadline::new(Duration::from_secs(1));
            poll_fn(|context| {
                assert!(deadline.poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            assert_eq!(waiting(), (1, true));
            drop(deadline);
            let ended = async {
                while waiting().1 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the task ends when nobody waits");
        }
    }

    #[test]
    fn waits_of_a_new_runtime_on_the_same_thread_are_watched() {
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let mut deadline = Deadline::new(Duration::ZERO);
                poll_fn(|context| deadline.poll(context)).await;
            });
        }
        assert_eq!(waiting(), (0, false));
    }

    #[test]
    fn all_that_wait_are_looked_at_and_many_places_are_given_back() {
        let (began, waits) = (Instant::now(), Arc::new(Mutex::new(Waits::default())));
        for seconds in 0..2000 {
            waits.lock().waits.insert(Wait::new(Duration::from_secs(seconds), Waker::noop().clone()));
        }
        let mut watch = Watch { waits: Arc::clone(&waits), is_over: false };
        let late = |watch: &mut Watch, seconds| watch.look(began + Duration::from_secs(seconds)).len();
        assert_eq!([late(&mut watch, 0), late(&mut watch, 1), late(&mut watch, 9)], [0, 2, 10]);
        assert!(!watch.is_over, "who is late is woken until it goes");
        waits.lock().waits.clear();
        assert_eq!(late(&mut watch, 10), 0);
        assert!(watch.is_over && !waits.lock().is_watched && waits.lock().waits.capacity() <= PLACES_KEPT);
    }

    #[test]
    fn without_a_runtime_nobody_is_said_to_look() {
        let mut deadline = Deadline::new(Duration::ZERO);
        let wait = || deadline.poll(&mut Context::from_waker(Waker::noop()));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait)).is_err());
        assert!(!waiting().1);
    }
}
