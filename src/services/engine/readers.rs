//! The threads on which files are read: as few as keep the machine's cores and disk busy, for all ranges of a node.
//!
//! A read of a file may wait for the disk, so it does not run where requests are served. More threads than cores would
//! only get into each other's way, and each that reads a file at the same time needs a connection of its own with a page
//! cache of its own. So reads wait in one queue; it is bounded, and what does not fit is refused at once. A thread that
//! has work left takes it without going to sleep in between.
//!
//! Rejected: tokio's threads for blocking work. There are hundreds of them in each of the web server's runtimes, and
//! thirty-two requests at a time opened connections faster than they could be kept.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::domain::Refusal;
use crate::storage::workers::{Bell, Patience, Running, Step, Worker, Workers};

type Job = Box<dyn FnOnce() + Send>;

/// How many threads read files at once where nothing else is said: two for each core, since some wait for the disk.
pub fn threads_default() -> usize {
    2 * std::thread::available_parallelism().map_or(2, usize::from)
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    idle: usize,
    is_closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Rung with `wake`; one for all, since tasks are as good as one.
    bell: Bell,
    waiting_max: usize,
}

/// See the module's essay. Dropped, it lets its threads end when they have done what waits.
pub struct ReadPool {
    shared: Arc<Shared>,
    running: Mutex<Vec<Running>>,
}

impl ReadPool {
    /// Starts so many threads; at most `waiting_max` reads wait for them.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(threads: usize, waiting_max: usize, workers: &Workers) -> std::io::Result<Self> {
        let bell = workers.bell();
        let shared = Arc::new(Shared { queue: Mutex::default(), wake: Condvar::new(), bell, waiting_max });
        let pool = Self { shared: Arc::clone(&shared), running: Mutex::default() };
        for number in 0..threads.max(1) {
            let reader = Reader(Arc::clone(&shared));
            pool.running.lock().push(workers.start(&format!("read-{number}"), &shared.bell, reader)?);
        }
        Ok(pool)
    }

    /// Runs `work` on one of the threads.
    ///
    /// # Errors
    /// `Unavailable` where too many wait or the node is stopping, `Internal` where the work panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let (sender, done) = oneshot::channel();
        self.submit(Box::new(move || {
            // Whoever asked may have gone meanwhile.
            let _ = sender.send(work());
        }))?;
        done.await.map_err(|_| Refusal::internal("a read ended unexpectedly"))
    }

    fn submit(&self, job: Job) -> Result<(), Refusal> {
        let mut queue = self.shared.queue.lock();
        if queue.is_closed {
            return Err(Refusal::unavailable("this node is stopping", 1));
        }
        if queue.jobs.len() >= self.shared.waiting_max {
            return Err(Refusal::unavailable("too many reads wait for this node's disk; try again in a moment", 1));
        }
        queue.jobs.push_back(job);
        let is_anyone_idle = queue.idle > 0;
        drop(queue);
        if is_anyone_idle {
            self.shared.wake.notify_one();
            self.shared.bell.ring();
        }
        Ok(())
    }

    /// Takes no more, does what waits, and waits for the threads.
    pub fn stop(&self) {
        self.close();
        for reader in self.running.lock().drain(..) {
            if reader.join().is_err() {
                tracing::error!("a thread that reads files panicked");
            }
        }
    }

    fn close(&self) {
        self.shared.queue.lock().is_closed = true;
        self.shared.wake.notify_all();
    }
}

impl Drop for ReadPool {
    fn drop(&mut self) {
        self.close();
    }
}

struct Reader(Arc<Shared>);

impl Worker for Reader {
    fn step(&mut self, patience: Patience) -> Step {
        let mut queue = self.0.queue.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                // Its asker sees the answer dropped; the thread serves the others.
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("a read panicked");
                }
                return Step::Worked;
            }
            if queue.is_closed {
                return Step::Ended;
            }
            if patience != Patience::Wait {
                // A task that waits is always to be woken.
                queue.idle = queue.idle.max(1);
                return Step::Idle(None);
            }
            queue.idle += 1;
            self.0.wake.wait(&mut queue);
            queue.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RefusalKind;
    use std::pin::Pin;
    use std::sync::mpsc::channel;
    use std::task::{Context, Waker};

    fn is_pending(future: Pin<&mut impl Future>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn work_is_done_and_a_panic_costs_one_answer() {
        let pool = ReadPool::start(2, 10, &Workers::Threads).unwrap();
        assert_eq!(pool.run(|| 1 + 1).await, Ok(2));
        for _ in 0..4 {
            let panicked = pool.run(|| -> u32 { panic!("as the test wants") }).await;
            assert_eq!(panicked.unwrap_err().kind, RefusalKind::Internal);
        }
        assert_eq!(pool.run(|| 3).await, Ok(3), "more panics than threads, and still there");
        pool.stop();
        assert_eq!(pool.run(|| 4).await.unwrap_err().kind, RefusalKind::Unavailable);
    }

    #[tokio::test]
    async fn what_waits_is_bounded() {
        let pool = ReadPool::start(1, 1, &Workers::Threads).unwrap();
        let (release, held) = channel::<()>();
        let (begun, has_begun) = channel();
        let mut first = Box::pin(pool.run(move || {
            begun.send(()).unwrap();
            held.recv().unwrap();
        }));
        assert!(is_pending(first.as_mut()));
        has_begun.recv().unwrap();
        let mut second = Box::pin(pool.run(|| ()));
        assert!(is_pending(second.as_mut()));
        assert_eq!(pool.run(|| ()).await.unwrap_err().kind, RefusalKind::Unavailable);
        release.send(()).unwrap();
        assert_eq!((first.await, second.await), (Ok(()), Ok(())));
    }
}
