//! Writes docs/benchmarks.md: what was measured, the ratios, the targets and whether each was met, and how to repeat it.

use crate::Options;
use crate::growth::{SMALL_RECORDS, TENANTS};
use crate::measure::{Peer, Phase, Results};
use std::fmt::Write;

/// The whole page. Writing to a `String` cannot fail, so results of `write!` are dropped.
pub fn markdown(options: &Options, results: &Results) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "# Benchmarks\n");
    let _ = writeln!(
        text,
        "Written by `make bench`; do not edit. Everything below comes from one run on one machine: {}. Compare the ratios, \
         not the numbers. {} items of about 1 KiB whose values differ at every write, {} connections with one request \
         at a time each, {} s a measurement after {} s of warming up. Client and server share the machine. What is \
         compared is operations per CPU-second of the server's processes.\n",
        machine(),
        options.records,
        options.connections,
        options.seconds,
        options.warm_up
    );
    let _ = writeln!(
        text,
        "Repeat: `make bench`, a part of it: `make bench BENCH_FLAGS='--only dstore,postgres --seconds 5'`.\n"
    );
    peers(&mut text, results);
    targets(&mut text, results);
    growth(&mut text, results);
    group(&mut text, results);
    text
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {}, Linux {}", model.unwrap_or("an unknown processor"), kernel.trim())
}

fn peers(text: &mut String, results: &Results) {
    if results.peers.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "| | operation | per CPU-second | per second | p50 µs | p99 µs | flushes per operation |\n|---|---|--:|--:|--:|--:|--:|"
    );
    for peer in &results.peers {
        for (operation, phase) in [("GET", Some(&peer.get)), ("PUT", peer.put.as_ref())] {
            let Some(phase) = phase else { continue };
            let kind = phase.report.kinds.first();
            let _ = writeln!(
                text,
                "| {} | {operation} | {:.0} | {:.0} | {} | {} | {:.3} |",
                peer.name,
                rate(phase),
                phase.report.operations_per_second,
                kind.map_or(0, |kind| kind.p50),
                kind.map_or(0, |kind| kind.p99),
                flushes(phase)
            );
        }
    }
    text.push('\n');
}

fn rate(phase: &Phase) -> f64 {
    phase.report.operations_per_cpu_second.unwrap_or(0.0)
}

fn flushes(phase: &Phase) -> f64 {
    phase.flushes as f64 / phase.report.operations.max(1) as f64
}

fn p99(phase: &Phase) -> f64 {
    phase.report.kinds.first().map_or(0.0, |kind| kind.p99 as f64)
}

/// One line of the table of targets.
fn target(text: &mut String, what: &str, ratio: f64, wanted: f64, at_least: bool) {
    let met = if at_least { ratio >= wanted } else { ratio <= wanted };
    let verdict = match (met, at_least) {
        (true, _) => "met".to_owned(),
        (false, true) => format!("missed by {:.0} %", (1.0 - ratio / wanted) * 100.0),
        (false, false) => format!("missed by {:.0} %", (ratio / wanted - 1.0) * 100.0),
    };
    let bound = if at_least { "≥" } else { "≤" };
    let _ = writeln!(text, "| {what} | {ratio:.2} | {bound} {wanted} | {verdict} |");
}

fn targets(text: &mut String, results: &Results) {
    let Some(own) = results.peer("dStore") else { return };
    let _ = writeln!(text, "| dStore against | ratio | target | |\n|---|--:|--:|---|");
    let get = |peer: &Peer| rate(&own.get) / rate(&peer.get).max(1.0);
    let put = |peer: &Peer| {
        let (own, other) = (own.put.as_ref()?, peer.put.as_ref()?);
        Some((rate(own) / rate(other).max(1.0), p99(own) / p99(other).max(1.0)))
    };
    if let Some(peer) = results.peer("PostgreSQL") {
        target(text, "PostgreSQL, GET per CPU-second", get(peer), 1.3, true);
        if let Some((rate, latency)) = put(peer) {
            target(text, "PostgreSQL, durable PUT per CPU-second", rate, 1.3, true);
            target(text, "PostgreSQL, p99 of durable PUT", latency, 1.5, false);
        }
    }
    if let Some(peer) = results.peer("bare") {
        target(text, "a bare actix-web handler, GET per CPU-second", get(peer), 0.4, true);
    }
    if let Some(peer) = results.peer("etcd") {
        target(text, "etcd, GET per CPU-second", get(peer), 3.0, true);
        if let Some((rate, _)) = put(peer) {
            target(text, "etcd, durable PUT per CPU-second", rate, 1.4, true);
        }
    }
    if let Some(peer) = results.peer("Redis") {
        let _ = writeln!(text, "| Redis, GET per CPU-second | {:.2} | none | |", get(peer));
        if let Some((rate, _)) = put(peer) {
            let _ = writeln!(text, "| Redis, durable PUT per CPU-second | {rate:.2} | none | |");
        }
    }
    text.push('\n');
}

/// CPU time of one operation.
fn cost(phase: &Phase) -> f64 {
    1e6 / rate(phase).max(1.0)
}

fn growth(text: &mut String, results: &Results) {
    if results.tenants.is_none() && results.growth.is_none() && results.files.is_none() {
        return;
    }
    let _ = writeln!(text, "| what must not grow | ratio | target | |\n|---|--:|--:|---|");
    if let Some(tenants) = &results.tenants {
        let ratio = cost(&tenants.many) / cost(&tenants.one);
        target(
            text,
            &format!("CPU per PUT, a table in each of {TENANTS} tenants against one table"),
            ratio,
            1.2,
            false,
        );
        let ratio = flushes(&tenants.many) / flushes(&tenants.one).max(1e-9);
        target(text, "disk flushes per PUT, the same", ratio, 1.5, false);
    }
    if let Some(growth) = &results.growth {
        let sizes = format!("{} items against {SMALL_RECORDS}, both from files", growth.records);
        for (operation, small, large) in
            [("GET", &growth.small.0, &growth.large.0), ("PUT", &growth.small.1, &growth.large.1)]
        {
            let costs = format!("{:.1} µs against {:.1} µs", cost(large), cost(small));
            target(text, &format!("CPU per {operation}, {sizes} ({costs})"), cost(large) / cost(small), 1.5, false);
        }
    }
    if let Some(files) = &results.files {
        let _ = writeln!(
            text,
            "| {} replica files: {} open, {} threads, {} MiB (before: {} MiB) | | bounded | |",
            files.tables, files.open_files, files.threads, files.memory_after_mib, files.memory_before_mib
        );
    }
    text.push('\n');
}

fn group(text: &mut String, results: &Results) {
    let Some(group) = &results.group else { return };
    let _ = writeln!(
        text,
        "A group of one, 1 KiB entries, on the same commit log (decisions/group-of-one.md); the median of three \
         alternating runs:\n\n| way | CPU µs an entry | entries a sync | entries |\n|---|--:|--:|--:|"
    );
    for (way, cost) in [("short-cut: committed when durable", &group.short_cut), ("openraft", &group.raft)] {
        let _ = writeln!(text, "| {way} | {:.1} | {:.1} | {} |", cost.cpu_us, cost.entries_per_sync, cost.entries);
    }
    let _ = writeln!(text, "| ratio | {:.2} | | |\n", group.raft.cpu_us / group.short_cut.cpu_us.max(0.1));
}
