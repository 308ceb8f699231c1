//! What a process takes of its machine, in the names that Prometheus' own client libraries use, so that the dashboards
//! everybody has show it: processor time, memory, open files, and since when it runs.
//!
//! Read from `/proc/self` when somebody asks. Where it cannot be read, the number is not told rather than told wrong.

use crate::api::health::{Health, Metrics};
use crate::domain::Timestamp;

/// Has `health` tell of this process, which began at this time.
pub fn watch(health: &Health, began: Timestamp) {
    health.count(move |metrics| tell(metrics, began));
}

fn tell(metrics: &mut Metrics, began: Timestamp) {
    let help = "When the process began, in seconds since 1970.";
    metrics.gauge("process_start_time_seconds", help, &[], began.0 as f64 / 1e6);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(taken) = taken(&stat) {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let help = "Processor time that the process has used.";
        metrics.counter("process_cpu_seconds_total", help, &[], taken.ticks as f64 / ticks);
        let help = "Memory of the process that is resident.";
        let resident = taken.resident_pages as f64 * rustix::param::page_size() as f64;
        metrics.gauge("process_resident_memory_bytes", help, &[], resident);
        let help = "Memory that the process has addresses for.";
        metrics.gauge("process_virtual_memory_bytes", help, &[], taken.virtual_bytes as f64);
        metrics.gauge("process_threads", "Threads of the process.", &[], taken.threads as f64);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is open only to count.
        let count = open.count().saturating_sub(1);
        metrics.gauge("process_open_fds", "Files and sockets that the process has open.", &[], count as f64);
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.map_or(f64::INFINITY, |limit| limit as f64);
    metrics.gauge("process_max_fds", "Files and sockets that the process may have open.", &[], limit);
}

/// What a process takes.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    ticks: u64,
    threads: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// The numbers in `/proc/self/stat` (proc(5)). The second field, the program's name in brackets, may hold anything.
fn taken(stat: &str) -> Option<Taken> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // The first of these is the third in the manual.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Taken {
        ticks: field(14)? + field(15)?,
        threads: field(20)?,
        virtual_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 21 0 0 0 150 50 0 0 20 0 9 0 100 4096000 250 18446744073709551615";
        let expected = Taken { ticks: 200, threads: 9, virtual_bytes: 4_096_000, resident_pages: 250 };
        assert_eq!(taken(stat), Some(expected));
        assert_eq!(taken("7 (a) S 1"), None);
        assert_eq!(taken(""), None);
    }

    #[test]
    fn this_process_takes_something() {
        let taken = taken(&std::fs::read_to_string("/proc/self/stat").unwrap()).unwrap();
        assert!(taken.resident_pages > 0 && taken.threads > 0 && taken.virtual_bytes > 0);
    }
}
