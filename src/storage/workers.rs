//! Where the lasting work of a node runs: the commit log's writing, applying, flushing, reading files.
//!
//! In production each such worker has a thread of its own, for it waits for disks and must not hold up whoever serves
//! requests. In a simulation there are no threads: each worker is a task on the node's one runtime, takes one step at a
//! time, and pauses before each as long as the simulated disk would take. Then nothing happens at the same time as
//! anything else, and a run can be repeated from its seed.
//!
//! So a worker is written as a step that is taken again and again, and says how it waits. On a thread it waits itself, at
//! whatever lock or channel is fastest; that path costs nothing more than it did as a loop. As a task it only
//! looks, and whoever brings it work rings its [`Bell`].
//!
//! Rejected: threads that hand a baton to each other in the simulation (it works, and is slow); one async form for both (the
//! log's thread would need an executor, and its calls of the disk would block that).
//!
//! What the next author must keep: a step never waits where it is told not to, and nobody holds a lock that a step takes while
//! calling [`Running::drive`].

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How a step waits for something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until there is something.
    Wait,
    /// Not at all.
    Look,
    /// Not at all, and the time that [`Step::Idle`] named has come.
    TimeIsUp,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something was done; there may be more.
    Worked,
    /// There is nothing to do until the bell rings, or until this time.
    Idle(Option<Instant>),
    /// There will never be anything to do again.
    Ended,
}

/// Work that comes again and again.
pub trait Worker: Send + 'static {
    /// Does the next piece of work.
    fn step(&mut self, patience: Patience) -> Step;
}

/// Says how long a worker that is a task pauses before a step.
pub trait Pace: Send + Sync + 'static {
    /// Ends when the worker of this name may take its next step.
    fn pause(&self, worker: &str) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// See the module's essay.
#[derive(Clone, Default)]
pub enum Workers {
    /// Each on a thread.
    #[default]
    Threads,
    /// Each a task of the runtime in which it is started.
    Tasks(Arc<dyn Pace>),
}

impl fmt::Debug for Workers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Workers::Threads => "Threads",
            Workers::Tasks(_) => "Tasks",
        })
    }
}

/// Tells a worker that is a task of new work; silent where it is a thread, which has its own way to wait.
#[derive(Debug, Clone, Default)]
pub struct Bell(Option<Arc<Notify>>);

impl Bell {
    /// There is something to do.
    pub fn ring(&self) {
        if let Some(notify) = &self.0 {
            notify.notify_one();
        }
    }
}

/// The work given to [`Workers::run`] panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work ended unexpectedly")]
pub struct Panicked;

impl Workers {
    /// A bell for one worker.
    pub fn bell(&self) -> Bell {
        match self {
            Workers::Threads => Bell(None),
            Workers::Tasks(_) => Bell(Some(Arc::default())),
        }
    }

    /// Starts a worker. A task must be started within a runtime.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(&self, name: &str, bell: &Bell, mut worker: impl Worker) -> io::Result<Running> {
        match self {
            Workers::Threads => {
                let work = move || while worker.step(Patience::Wait) != Step::Ended {};
                Ok(Running(Inner::Thread(std::thread::Builder::new().name(name.to_owned()).spawn(work)?)))
            }
            Workers::Tasks(pace) => {
                let slot = Arc::new(Slot(Mutex::new(Some(worker))));
                let bell = bell.0.clone().unwrap_or_default();
                tokio::spawn(pump(name.to_owned(), Arc::clone(&slot), bell, Arc::clone(pace)));
                Ok(Running(Inner::Task(slot)))
            }
        }
    }

    /// Does something that waits for a disk, off the threads that serve: for what is rare. Reads have their own threads.
    ///
    /// # Errors
    /// Where the work panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
        match self {
            Workers::Threads => blocking(work).await,
            Workers::Tasks(pace) => {
                pace.pause("run").await;
                catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked)
            }
        }
    }
}

thread_local! {
    static HAS_NO_THREADS: Cell<bool> = const { Cell::new(false) };
}

/// From now on [`blocking`] does its work on the thread that asks, where that is this one: for a simulation, in which two
/// threads would run a race.
pub fn work_on_this_thread() {
    HAS_NO_THREADS.set(true);
}

/// Does something that may wait for a file, where it holds nobody up: on one of tokio's threads for that.
///
/// # Errors
/// Where the work panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Panicked> {
    if HAS_NO_THREADS.get() {
        return catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked);
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| Panicked)
}

/// A worker at work.
pub struct Running(Inner);

enum Inner {
    Thread(JoinHandle<()>),
    Task(Arc<dyn Driven>),
}

impl Running {
    /// Has a worker that is a task do at once all that waits for it, for a caller that is about to block on that. A thread
    /// does so by itself.
    pub fn drive(&self) {
        if let Inner::Task(worker) = &self.0 {
            while worker.step(Patience::Look) == Step::Worked {}
        }
    }

    /// Waits until the worker has ended; it must have been told to.
    ///
    /// # Errors
    /// Where it panicked.
    pub fn join(self) -> Result<(), Panicked> {
        match self.0 {
            Inner::Thread(thread) => thread.join().map_err(|_| Panicked),
            Inner::Task(worker) => {
                while worker.step(Patience::Look) == Step::Worked {}
                Ok(())
            }
        }
    }
}

/// A worker that is a task; gone when it has ended.
struct Slot<W>(Mutex<Option<W>>);

trait Driven: Send + Sync {
    fn step(&self, patience: Patience) -> Step;
}

impl<W: Worker> Driven for Slot<W> {
    fn step(&self, patience: Patience) -> Step {
        let mut slot = self.0.lock();
        let step = slot.as_mut().map_or(Step::Ended, |worker| worker.step(patience));
        if step == Step::Ended {
            *slot = None;
        }
        step
    }
}

async fn pump<W: Worker>(name: String, worker: Arc<Slot<W>>, bell: Arc<Notify>, pace: Arc<dyn Pace>) {
    let mut patience = Patience::Look;
    loop {
        match worker.step(patience) {
            Step::Worked => patience = Patience::Look,
            Step::Ended => return,
            Step::Idle(None) => {
                bell.notified().await;
                patience = Patience::Look;
            }
            Step::Idle(Some(due)) => {
                let rang = timeout_at(due, bell.notified()).await.is_ok();
                patience = if rang { Patience::Look } else { Patience::TimeIsUp };
            }
        }
        pace.pause(&name).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::mpsc::{Receiver, TryRecvError, channel};
    use tokio::sync::Semaphore;

    /// Takes numbers until there will be no more, and notes them; a zero panics.
    struct Taker(Receiver<u32>, Arc<Mutex<VecDeque<u32>>>);

    impl Worker for Taker {
        fn step(&mut self, patience: Patience) -> Step {
            let taken = match patience {
                Patience::Wait => self.0.recv().map_err(|_| TryRecvError::Disconnected),
                Patience::Look | Patience::TimeIsUp => self.0.try_recv(),
            };
            match taken {
                Ok(0) => panic!("as the test wants"),
                Ok(number) => {
                    self.1.lock().push_back(number);
                    Step::Worked
                }
                Err(TryRecvError::Empty) => Step::Idle(None),
                Err(TryRecvError::Disconnected) => Step::Ended,
            }
        }
    }

    /// Ends a pause for each permit.
    struct Gate(Arc<Semaphore>);

    impl Pace for Gate {
        fn pause(&self, _worker: &str) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let gate = Arc::clone(&self.0);
            Box::pin(async move { gate.acquire().await.unwrap().forget() })
        }
    }

    /// Lets all tasks run until none has anything to do: there is one thread, and each yields to all others.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_thread_does_all_that_comes_and_ends() {
        let (sender, receiver) = channel();
        let taken = Arc::new(Mutex::default());
        let workers = Workers::Threads;
        let running = workers.start("taker", &workers.bell(), Taker(receiver, Arc::clone(&taken))).unwrap();
        (1..=100).for_each(|number| sender.send(number).unwrap());
        drop(sender);
        running.join().unwrap();
        assert!(taken.lock().iter().copied().eq(1..=100));
    }

    #[test]
    fn a_panic_on_a_thread_is_told() {
        let (sender, receiver) = channel();
        let workers = Workers::Threads;
        let running = workers.start("taker", &workers.bell(), Taker(receiver, Arc::default())).unwrap();
        sender.send(0).unwrap();
        assert_eq!(running.join(), Err(Panicked));
    }

    #[tokio::test]
    async fn a_task_takes_a_step_for_each_pause_and_all_when_driven() {
        let (sender, receiver) = channel();
        let (taken, gate) = (Arc::new(Mutex::new(VecDeque::new())), Arc::new(Semaphore::new(3)));
        let workers = Workers::Tasks(Arc::new(Gate(Arc::clone(&gate))));
        let bell = workers.bell();
        let running = workers.start("taker", &bell, Taker(receiver, Arc::clone(&taken))).unwrap();
        (1..=10).for_each(|number| sender.send(number).unwrap());
        bell.ring();
        settle().await;
        assert_eq!(taken.lock().len(), 4, "one at once, and one for each pause that ended");
        running.drive();
        assert!(taken.lock().iter().copied().eq(1..=10));
        sender.send(11).unwrap();
        drop(sender);
        running.join().unwrap();
        assert!(taken.lock().iter().copied().eq(1..=11));
    }

    #[tokio::test]
    async fn what_is_run_gives_its_answer() {
        for workers in [Workers::Threads, Workers::Tasks(Arc::new(Gate(Arc::new(Semaphore::new(9)))))] {
            assert_eq!(workers.run(|| 7).await, Ok(7));
            assert_eq!(workers.run(|| -> u32 { panic!("as the test wants") }).await, Err(Panicked));
        }
    }
}
