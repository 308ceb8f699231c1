//! A small fuzz driver that runs on stable Rust, keeps its corpus as text, and needs no C++ engine.
//!
//! ```text
//! dstore-fuzz list                                       the targets and what each reads
//! dstore-fuzz all --seconds 10 --jobs 2                  every target, as `make test` does
//! dstore-fuzz run TARGET [--seconds N] [--seed N]        one target; without --seconds until it breaks
//! ```
//!
//! A target is a function of bytes that must return whatever the bytes are ([`targets`]). An input is a
//! finding when the target panics, takes longer than [`runner::INPUT_SECONDS_MAX`], or asks for more memory at
//! once than [`runner::ALLOCATION_BYTES_MAX`]. A finding is made smaller and written beside the
//! corpus as `finding-*.txt`, where `git status` shows it; the repair keeps it as a seed.
//!
//! How it looks for findings: inputs are changed at random ([`mutate`]), starting from the stored corpus
//! ([`corpus`]). Built by `scripts/fuzz.sh`, every edge of dStore's control flow counts how often it ran
//! ([`coverage`]) and an input that reaches something new joins the corpus in memory. Built by plain
//! cargo there are no counters, and the seeds alone guide the search: that is what `make test` does for a
//! few seconds a target, so that nothing is compiled twice.
//!
//! Rejected: cargo-fuzz (nightly only), bolero with libFuzzer (its own cargo command and a C++ compiler, and
//! a corpus of binary files). See docs/decisions/fuzz-driver.md.

mod corpus;
mod coverage;
mod mutate;
mod runner;
mod targets;

use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str =
    "dstore-fuzz list | all --seconds N [--jobs N] | run TARGET [--seconds N] [--seed N]\nTargets: dstore-fuzz list";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<bool, String> {
    let seconds = flag(arguments, "--seconds")?;
    match arguments.first().map(String::as_str) {
        Some("list") => {
            for target in targets::ALL {
                println!("{:<18} {}", target.name, target.reads);
            }
            Ok(true)
        }
        Some("run") => {
            let name = arguments.get(1).ok_or("run wants the name of a target")?;
            let target = targets::find(name).ok_or_else(|| format!("there is no target {name:?}"))?;
            let seed = flag(arguments, "--seed")?.unwrap_or(1);
            Ok(runner::run(target, seconds.map(Duration::from_secs), seed))
        }
        Some("all") => {
            let jobs = flag(arguments, "--jobs")?.unwrap_or(1);
            runner::run_all(seconds.unwrap_or(10), usize::try_from(jobs).unwrap_or(1).max(1))
        }
        _ => Err("nothing to do".to_owned()),
    }
}

/// The number after `name`, where it was given.
fn flag(arguments: &[String], name: &str) -> Result<Option<u64>, String> {
    let Some(position) = arguments.iter().position(|argument| argument == name) else { return Ok(None) };
    let text = arguments.get(position + 1).ok_or_else(|| format!("{name} wants a number"))?;
    text.parse().map(Some).map_err(|_| format!("{name} wants a number, not {text:?}"))
}
