//! Ends a run whose server takes requests and answers none. A connection of the closed loop has no time limit of its own (one
//! would cost the client a timer a request), so it would wait for ever. Instead the count of operations is looked at now and
//! then: where it stands still for a minute, that is an error like any other, after which the servers that were started are
//! stopped.

use crate::peers::Failure;
use dstore::cli::bench::report::Report;
use dstore::cli::bench::runner::{BenchError, Plan, Session, drive};
use indicatif::ProgressBar;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// How often the count is looked at while patience lasts.
const LOOKS: u32 = 10;

/// Drives the connections.
///
/// # Errors
/// As [`drive`], and where nothing is begun for a minute.
pub async fn driven<S: Session>(sessions: Vec<S>, plan: &Plan, bar: &ProgressBar) -> Result<(Report, Vec<S>), Failure> {
    unless_still(drive(sessions, plan, bar), || bar.position(), PATIENCE).await
}

/// What the work comes to, as long as the count moves.
async fn unless_still<T>(
    work: impl Future<Output = Result<T, BenchError>>,
    count: impl Fn() -> u64,
    patience: Duration,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => Ok(done?),
        () = still(count, patience) => {
            Err(format!("the server has answered nothing for {} s", patience.as_secs()).into())
        }
    }
}

/// Returns when the count has stood still for so long.
async fn still(count: impl Fn() -> u64, patience: Duration) {
    let (mut seen, mut since) = (count(), Instant::now());
    loop {
        tokio::time::sleep(patience / LOOKS).await;
        let now = count();
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() >= patience {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_server_that_answers_nothing_is_not_waited_for() {
        let failed = unless_still(std::future::pending::<Result<(), BenchError>>(), || 7, SHORT).await;
        assert!(failed.unwrap_err().to_string().contains("has answered nothing"));
    }

    #[tokio::test]
    async fn work_that_goes_on_may_take_longer_than_patience() {
        let looks = Cell::new(0);
        let count = || {
            looks.set(looks.get() + 1);
            looks.get()
        };
        let work = async {
            while looks.get() < u64::from(3 * LOOKS) {
                tokio::task::yield_now().await;
            }
            Ok::<u64, BenchError>(looks.get())
        };
        assert_eq!(unless_still(work, count, SHORT).await.unwrap(), u64::from(3 * LOOKS));
    }

    #[tokio::test]
    async fn what_goes_wrong_with_the_work_is_told() {
        let failed = unless_still(async { Err::<(), _>(BenchError::NoProcess(7)) }, || 0, SHORT).await;
        assert_eq!(failed.unwrap_err().to_string(), "there is no process 7");
    }
}
