//! File descriptors: a process gets a soft limit that is often as low as 1,024 and may raise it up to the hard limit by
//! itself. A node needs one for each client and several for each open replica file, so it raises the limit before it opens
//! anything, and keeps fewer files open where the hard limit is too low as well.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What one open replica file costs: a writing and a reading connection with two each, its share of the spare
/// connections, and the two by which the encrypting layer reads its header and syncs its log.
const DESCRIPTORS_PER_FILE: u64 = 8;
/// The commit log, the node's database, the coordinator, listeners, and what the libraries need.
const DESCRIPTORS_BESIDE: u64 = 256;

/// Raises the limit and says how many of the `wanted` replica files may be open at once beside so many clients.
pub fn replica_files_max(wanted: usize, connections: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| limit.maximum.is_none_or(|maximum| current < maximum)) {
        let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit = raised,
            Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
        }
    }
    let fitting = fitting(wanted, connections, limit.current);
    if fitting < wanted {
        tracing::warn!(
            limit = limit.current,
            wanted,
            fitting,
            "the limit of open files is low: fewer replica files are kept open than limits.open_files says. Raise it \
             (LimitNOFILE= in systemd, ulimit -n in a shell)"
        );
    }
    fitting
}

/// How many files fit; clients may take up to half.
fn fitting(wanted: usize, connections: usize, limit: Option<u64>) -> usize {
    let Some(limit) = limit else { return wanted };
    let left = limit.saturating_sub(DESCRIPTORS_BESIDE);
    let left = left - (connections as u64).min(left / 2);
    wanted.min((left / DESCRIPTORS_PER_FILE) as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_clients_share_what_there_is() {
        assert_eq!(fitting(512, 10_000, None), 512);
        assert_eq!(fitting(512, 10_000, Some(524_288)), 512);
        assert_eq!(fitting(512, 10_000, Some(4_096)), 240);
        assert_eq!(fitting(512, 100, Some(1_024)), 83);
        assert_eq!(fitting(512, 100, Some(64)), 1);
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        assert!(replica_files_max(16, 10) > 0);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
