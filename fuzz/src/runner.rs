//! Runs a target: the stored inputs first, then changed ones until the time is up or something breaks.
//!
//! Three things guard an input: `catch_unwind` for panics, a watchdog thread for endless loops (it writes the input
//! down and ends the process, because a thread cannot be stopped), and an allocator that notes the largest single
//! request. [`run_all`] starts one process per target, so that a target that takes the process down is
//! one failure and the rest go on; it reports in the words of `cargo test`, which `scripts/test.sh` adds up.

use crate::corpus;
use crate::coverage::{self, Seen};
use crate::mutate::{Dice, mutate};
use crate::targets::{ALL, Target};
use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// An input that takes longer is a finding.
pub const INPUT_SECONDS_MAX: u64 = 5;
/// An input that makes the target ask for more than this at once is a finding: lengths must be checked
/// before memory is taken for them. The largest honest body has 2 MiB.
pub const ALLOCATION_BYTES_MAX: usize = 64 * 1024 * 1024;

static ALLOCATION_LARGEST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, noting the largest request.
struct Watched;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATION_LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATION_LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATION_LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: as promised by the caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// The input that runs now and when it began, for the watchdog.
static CURRENT: Mutex<Option<(Instant, Vec<u8>)>> = Mutex::new(None);

/// Runs `target` for `time` (endlessly without); false where an input broke it.
pub fn run(target: &'static Target, time: Option<Duration>, seed: u64) -> bool {
    let mut inputs = match corpus::load(target.name) {
        Ok(inputs) => inputs,
        Err(message) => {
            eprintln!("{}: {message}", target.name);
            return false;
        }
    };
    // Panics are what we look for; their text is kept for the finding and not printed a thousand times over.
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::spawn(move || watch(target));
    let mut seen = Seen::default();
    seen.absorb();
    for input in inputs.clone() {
        if !check(target, &input, "stored") {
            return false;
        }
        seen.absorb();
    }
    let began = Instant::now();
    let mut reported = began;
    let mut dice = Dice::new(seed);
    let mut runs = 0u64;
    while time.is_none_or(|time| began.elapsed() < time) {
        let input = mutate(&inputs, &mut dice);
        if !check(target, &input, "new") {
            return false;
        }
        runs += 1;
        if seen.absorb() {
            inputs.push(input);
        }
        if time.is_none() && reported.elapsed() > Duration::from_secs(5) {
            reported = Instant::now();
            let rate = runs / began.elapsed().as_secs().max(1);
            eprintln!("{}: {runs} runs, {rate}/s, {} inputs, {} features", target.name, inputs.len(), seen.features);
        }
    }
    let guided = if coverage::available() { "guided by coverage" } else { "not guided" };
    println!("{}: {runs} runs, {guided}, nothing found", target.name);
    true
}

/// Runs one input; false where it is a finding, which is then made small and stored.
fn check(target: &Target, input: &[u8], origin: &str) -> bool {
    let Err(what) = attempt(target, input) else { return true };
    let small = shrink(target, input.to_vec());
    let path = store(target, &small, &what);
    println!("{}: {origin} input breaks it: {what}\n{}", target.name, clipped(&corpus::line(&small)));
    println!("{}: stored as {}", target.name, path.display());
    false
}

fn attempt(target: &Target, input: &[u8]) -> Result<(), String> {
    set_current(Some((Instant::now(), input.to_vec())));
    ALLOCATION_LARGEST.store(0, Ordering::Relaxed);
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let largest = ALLOCATION_LARGEST.load(Ordering::Relaxed);
    set_current(None);
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        return Err(format!("panic: {}", text.unwrap_or_default()));
    }
    if largest > ALLOCATION_BYTES_MAX {
        return Err(format!("asked for {largest} bytes at once"));
    }
    Ok(())
}

fn set_current(current: Option<(Instant, Vec<u8>)>) {
    if let Ok(mut guard) = CURRENT.lock() {
        *guard = current;
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread that loops cannot be stopped, and nothing is left to save")]
fn watch(target: &'static Target) {
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let Ok(guard) = CURRENT.lock() else { return };
        if let Some((began, input)) = guard.as_ref()
            && began.elapsed() > Duration::from_secs(INPUT_SECONDS_MAX)
        {
            let path = store(target, input, "took too long");
            println!("{}: an input took longer than {INPUT_SECONDS_MAX} s, stored as {}", target.name, path.display());
            std::process::exit(1);
        }
    }
}

/// Cuts pieces out of a finding for as long as it still breaks the target, a few hundred tries at most.
fn shrink(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let mut tries = 0;
    let mut piece = input.len() / 2;
    while piece > 0 && tries < 500 {
        let mut place = 0;
        while place + piece <= input.len() && tries < 500 {
            let mut smaller = input.clone();
            smaller.drain(place..place + piece);
            tries += 1;
            if attempt(target, &smaller).is_err() {
                input = smaller;
            } else {
                place += piece;
            }
        }
        piece /= 2;
    }
    input
}

fn store(target: &Target, input: &[u8], what: &str) -> PathBuf {
    let hash = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let path = corpus::folder(target.name).join(format!("finding-{hash:016x}.txt"));
    let what = what.lines().next().unwrap_or_default();
    if let Err(error) = std::fs::write(&path, format!("# {}\n{}\n", clipped(what), corpus::line(input))) {
        eprintln!("{}: {error}", path.display());
    }
    path
}

fn clipped(text: &str) -> String {
    text.chars().take(400).collect()
}

/// Runs every target for `seconds`, `jobs` at a time, each in its own process.
///
/// # Errors
/// Where this program cannot be started again.
pub fn run_all(seconds: u64, jobs: usize) -> Result<bool, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(target) = ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut command = Command::new(&program);
                    command.args(["run", target.name, "--seconds", &seconds.to_string()]).stdin(Stdio::null());
                    let output = command.output();
                    let good = output.as_ref().is_ok_and(|output| output.status.success());
                    if !good {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    println!("test fuzz::{} ... {}", target.name, if good { "ok" } else { "FAILED" });
                    match output {
                        Ok(output) => {
                            print!("{}", String::from_utf8_lossy(&output.stdout));
                            eprint!("{}", String::from_utf8_lossy(&output.stderr));
                        }
                        Err(error) => eprintln!("{}: {error}", target.name),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "test result: {verdict}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        ALL.len() - failed,
        began.elapsed().as_secs_f64()
    );
    Ok(failed == 0)
}
