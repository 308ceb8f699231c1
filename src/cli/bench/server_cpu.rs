//! CPU time of a process and everything it started, from `/proc` (proc_pid_stat(5)).
//!
//! Field 14 to 17 of `stat` are user and system time of the process and of its children that have ended and were waited
//! for, in ticks of 1/100 s (Linux fixes `USER_HZ` at 100 for all it exports). Living children are walked to by their
//! parent's number, so a server of many processes, as PostgreSQL, counts whole.

use std::collections::HashMap;

const TICKS_PER_SECOND: f64 = 100.0;

struct Process {
    parent: u32,
    ticks: u64,
}

/// Seconds of CPU that `pid` and its descendants have used so far; `None` where there is no such process.
pub fn seconds(pid: u32) -> Option<f64> {
    let processes = all();
    processes.get(&pid)?;
    let mut ticks = 0;
    let mut open = vec![pid];
    while let Some(current) = open.pop() {
        ticks += processes.get(&current).map_or(0, |process| process.ticks);
        open.extend(processes.iter().filter(|(_, process)| process.parent == current).map(|(pid, _)| *pid));
    }
    Some(ticks as f64 / TICKS_PER_SECOND)
}

fn all() -> HashMap<u32, Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbered
        .filter_map(|pid| Some((pid, parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect()
}

/// Reads one line of `stat`; the command's name stands in parentheses and may hold anything.
fn parse(stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Counted from the state, which is field 3.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = number(14)? + number(15)? + number(16)? + number(17)?;
    Some(Process { parent: u32::try_from(number(4)?).ok()?, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_name_does_not_shift_the_fields() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 5 6 7";
        let process = parse(line).expect("is read");
        assert_eq!((process.parent, process.ticks), (3, 110));
        assert!(parse("7 (cut").is_none());
    }

    #[test]
    fn this_process_uses_cpu_and_no_process_does_not() {
        assert!(seconds(std::process::id()).is_some());
        assert!(seconds(u32::MAX).is_none());
    }
}
