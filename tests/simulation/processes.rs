//! Each seed in a process of its own: this program again, told one seed. Libraries count in variables of the whole process
//! (tokio's choice of whom to wake first follows from how many runtimes there were before), so only a new process gives a seed
//! the same history whatever ran before it. And a run that aborts or never ends harms no other.

use std::ops::RangeInclusive;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use dstore::domain::mutation::{self, Mutation};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::run::run;

/// The test that runs one seed when it is told one.
const TEST: [&str; 3] = ["every_seed_holds", "--exact", "--nocapture"];

/// A run that takes longer will never end: others take a second.
const RUN_TIME_MAX: Duration = Duration::from_secs(180);

/// What a run told.
pub struct Told {
    /// Its seed.
    pub seed: u64,
    /// Whether all was well.
    pub holds: bool,
    /// All that happened, as a number in hexadecimal; none where it did not come to its end.
    pub history: Option<String>,
    /// Operations whose answer is known.
    pub answered: u64,
    /// Reads that may lag and showed an item.
    pub lagging: u64,
    /// All it said.
    pub text: String,
}

impl Told {
    /// What was wrong, in a line.
    pub fn first_wrong(&self) -> &str {
        let is_panic = |line: &&str| line.contains("panicked at");
        let after_report = self.text.lines().skip_while(|line| !line.starts_with("seed ")).nth(1);
        after_report.or_else(|| self.text.lines().find(is_panic)).unwrap_or("it came to no end")
    }
}

/// In the process of a seed: runs it and tells.
///
/// # Panics
/// Where something is wrong.
pub fn tell(seed: u64) {
    let mistake = std::env::var("DSTORE_MISTAKE").ok();
    let mistake = mistake.map(|name| mutation::named(&name).unwrap_or_else(|| panic!("there is no mistake {name:?}")));
    if let Ok(filter) = std::env::var("DSTORE_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).without_time().init();
    }
    match run(seed, mistake) {
        Ok(report) => {
            println!("{}", report.describe());
            assert!(report.wrong.is_empty(), "seed {seed}");
        }
        Err(_) => {
            println!("it panics; to see it again: make sim SEED={seed}");
            panic!("seed {seed} panics");
        }
    }
}

/// Runs a seed in a process.
fn run_one(seed: u64, mistake: Option<Mutation>) -> Told {
    let program = std::env::current_exe().unwrap_or_else(|error| panic!("this program's path: {error}"));
    let mut command = Command::new(program);
    command.args(TEST).env("DSTORE_SEED", seed.to_string()).env("RUST_BACKTRACE", "0");
    if let Some(mistake) = mistake {
        command.env("DSTORE_MISTAKE", format!("{mistake:?}"));
    }
    let output = wait_for(command);
    let [said, complained] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let word_after = |mark: &str| said.split(mark).nth(1).and_then(|rest| rest.split_whitespace().next());
    let history = word_after("history ").map(str::to_owned);
    let number_after = |mark: &str| word_after(mark).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    let (answered, lagging) = (number_after(&format!("seed {seed}: ")), number_after(" unknown, "));
    let holds = output.status.success() && history.is_some();
    Told { seed, holds, history, answered, lagging, text: format!("{said}{complained}") }
}

/// What a program says until it ends, or has taken far longer than any run does.
fn wait_for(mut command: Command) -> Output {
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = started.unwrap_or_else(|error| panic!("this program does not start: {error}"));
    let id = Pid::from_child(&child);
    let (ended, end) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if end.recv_timeout(RUN_TIME_MAX) == Err(RecvTimeoutError::Timeout) {
                let _ = kill_process(id, Signal::KILL);
            }
        });
        let output = child.wait_with_output();
        drop(ended);
        output.unwrap_or_else(|error| panic!("a run is lost: {error}"))
    })
}

/// Runs these seeds, as many at a time as the machine has cores; what each told, in their order.
pub fn run_all(seeds: RangeInclusive<u64>, mistake: Option<Mutation>) -> Vec<Told> {
    run_until(seeds, mistake, |_| false)
}

/// The first of seeds from 1 on that fails with this mistake, or one of the first.
pub fn first_that_fails(seeds: u64, mistake: Mutation) -> Option<Told> {
    let told = run_until(1..=seeds, Some(mistake), |told| !told.holds);
    told.into_iter().find(|told| !told.holds)
}

fn run_until(seeds: RangeInclusive<u64>, mistake: Option<Mutation>, ends: impl Fn(&Told) -> bool + Sync) -> Vec<Told> {
    let (next, is_over, all) = (AtomicU64::new(*seeds.start()), AtomicBool::new(false), Mutex::new(Vec::new()));
    let work = || {
        while !is_over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > *seeds.end() {
                return;
            }
            let told = run_one(seed, mistake);
            if !told.holds && mistake.is_none() {
                // At once: the others may take their time.
                eprintln!("seed {seed}: {}", told.first_wrong());
            }
            is_over.fetch_or(ends(&told), Ordering::Relaxed);
            all.lock().push(told);
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
    let mut all = all.into_inner();
    all.sort_by_key(|told| told.seed);
    all
}
