//! Proof from outside: clusters of real processes on networks of their own, faults that are done to them, clients that write
//! down what they saw, and judges (the package `checkers`) that say whether a correct store could have answered so.
//!
//! Nothing in here knows dStore's library: what is tested is the binary, REST and the admin command.
//!
//! One test runs at a time, because each fills the machine. Each takes root; where that is missing it says so and is counted as
//! skipped.
//!
//! | variable | what it sets |
//! |---|---|
//! | `DSTORE_CHAOS_SEED` | the faults and the clients' choices; printed by each run |
//! | `DSTORE_CHAOS_SECONDS` | the length of the long storm |
//! | `DSTORE_CHAOS_LOG` | the processes' log level |

mod cluster;
mod faults;
mod network;
mod placement;
mod planned;
mod process;
mod rest;
mod storms;
mod verify;
mod workload;

/// Copies of each range.
const FACTOR: usize = 3;

/// The binary that is tested.
fn program() -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_BIN_EXE_dstore"))
}

/// Held by the test that runs.
async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

/// Says something past the harness, which would keep what a test prints that passes.
fn say(what: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(format!("{what}\n").as_bytes());
}
