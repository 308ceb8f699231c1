//! The end of patience with what nearly always comes at once, such as a body that is sent right behind its head.
//!
//! A timer of the runtime costs each such wait an allocation, a place in a wheel under a lock, and all of that once more when it
//! is given up; and of a million none goes off. So waits stand in a list of their thread here, and as long as there are any, one
//! task looks at the list every [`LOOK_EVERY`] and wakes whose time is over. Nothing looks at a clock for a single wait: what
//! is counted are the looks. Therefore a wait ends up to two of them late, and never early.
//!
//! What the next author must keep: a wait that is dropped takes its entry with it, and a task that ends, by itself or
//! together with its runtime, says so; else nobody would ever look again.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use slab::Slab;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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
    /// At the last of these its time is over.
    looks_left: u32,
    waker: Waker,
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
        if wait.looks_left == 0 {
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
    let place = waits.waits.insert(Wait { looks_left: looks(time_max), waker });
    if !std::mem::replace(&mut waits.is_watched, true) {
        tokio::spawn(watch(Watch { waits: Arc::clone(&shared), is_over: false }));
    }
    drop(waits);
    (shared, place)
}

/// Looks until so much time has surely passed: the first may come at once.
fn looks(time: Duration) -> u32 {
    const MILLIS: u32 = LOOK_EVERY.as_millis() as u32;
    let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    seconds.saturating_mul(1000 / MILLIS).saturating_add(time.subsec_millis() / MILLIS + 2)
}

/// A task that looks.
struct Watch {
    waits: Arc<Mutex<Waits>>,
    is_over: bool,
}

impl Watch {
    /// Looks once; gives those to be woken. It is over when nobody waits any more.
    fn look(&mut self) -> Vec<Waker> {
        let mut waits = self.waits.lock();
        let mut late = Vec::new();
        for (_, wait) in &mut waits.waits {
            wait.looks_left = wait.looks_left.saturating_sub(1);
            if wait.looks_left == 0 {
                late.push(wait.waker.clone());
            }
        }
        self.is_over = waits.waits.is_empty();
        waits.is_watched = !self.is_over;
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
        watch.look().into_iter().for_each(Waker::wake);
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
    fn no_wait_ends_early() {
        for (millis, least) in [(0, 2), (1, 2), (99, 2), (100, 3), (250, 4), (30_000, 302)] {
            assert_eq!(looks(Duration::from_millis(millis)), least, "{millis} ms");
        }
        assert_eq!(looks(Duration::MAX), u32::MAX);
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
            poll_fn(|context| Poll::Ready(assert!(deadline.poll(context).is_pending()))).await;
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
    fn all_that_wait_are_counted_down_together() {
        let waits = Arc::new(Mutex::new(Waits::default()));
        for looks_left in [1, 2] {
            waits.lock().waits.insert(Wait { looks_left, waker: Waker::noop().clone() });
        }
        let mut watch = Watch { waits: Arc::clone(&waits), is_over: false };
        assert_eq!((watch.look().len(), watch.look().len()), (1, 2));
        assert!(!watch.is_over, "who is late is woken until it goes");
        waits.lock().waits.clear();
        assert_eq!((watch.look().len(), watch.is_over, waits.lock().is_watched), (0, true, false));
    }
}
