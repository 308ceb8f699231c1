//! The runtime that openraft sees: tokio, with its dice in our hands.
//!
//! openraft throws dice for one thing, how long a replica waits before it campaigns, and takes them from the thread. In
//! production these are the system's. A simulation of a whole cluster seeds the thread that it runs on
//! ([`seed_this_thread`]), so that each run can be repeated. openraft's own deterministic runtime was rejected: it keeps its seed
//! with the task, and panics where a task was spawned by anyone else.
//!
//! What the next author must keep: openraft chooses between futures in the order given (it has no `select!` with dice of its
//! own), and everything here only passes on to tokio.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use openraft::{AsyncRuntime, TokioRuntime};

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// From now on the dice of groups that run on this thread follow from this seed.
pub fn seed_this_thread(seed: u64) {
    SEED.set(Some(seed));
}

/// See the module's essay.
#[derive(Debug)]
pub struct GroupRuntime(TokioRuntime);

/// The dice of the thread that asks.
#[derive(Debug, Clone, Copy)]
pub struct Dice(());

impl rand::TryRng for Dice {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|number| (number >> 32) as u32)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "when to campaign is no secret, and openraft takes it from the thread"
    )]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let Some(seed) = SEED.get() else { return rand::TryRng::try_next_u64(&mut rand::rng()) };
        // SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
        let next = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        SEED.set(Some(next));
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(mixed ^ (mixed >> 31))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for part in bytes.chunks_mut(8) {
            let number = self.try_next_u64()?.to_le_bytes();
            part.copy_from_slice(&number[..part.len()]);
        }
        Ok(())
    }
}

impl AsyncRuntime for GroupRuntime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: Send + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + Send> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Dice;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: Send + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + Send>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Dice {
        Dice(())
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    fn throws(count: usize) -> Vec<u64> {
        (0..count).map(|_| GroupRuntime::thread_rng().next_u64()).collect()
    }

    #[test]
    fn a_seeded_thread_throws_the_same_again_and_another_does_not() {
        let seeded = |seed| {
            std::thread::spawn(move || {
                seed_this_thread(seed);
                throws(8)
            })
        };
        let [first, again, other] = [5, 5, 6].map(|seed| seeded(seed).join().unwrap());
        assert_eq!(first, again);
        assert_ne!(first, other);
        let [system, system_again] = [0, 1].map(|_| std::thread::spawn(|| throws(8)).join().unwrap());
        assert_ne!(system, system_again);
        assert_ne!(system, first);
    }

    #[test]
    fn all_bytes_are_filled() {
        seed_this_thread(1);
        let mut bytes = [0; 1027];
        GroupRuntime::thread_rng().fill_bytes(&mut bytes);
        assert!(bytes.chunks(103).all(|part| part.iter().any(|byte| *byte != 0)));
    }
}
