//! What was measured as text, part by part: tables, the ratios, the targets and whether each was met. [`crate::page`] puts the
//! parts into docs/benchmarks.md.

use crate::Options;
use crate::against::spread;
use crate::growth::{SMALL_RECORDS, TENANTS};
use crate::measure::{Peer, Phase, Results};
use crate::protocols::{Pair, Protocols};
use crate::replication::Load;
use std::fmt::Write;

/// All parts that were measured, by name. Writing to a `String` cannot fail, so results of `write!` are dropped.
pub fn parts(options: &Options, results: &Results) -> Vec<(&'static str, String)> {
    let mut parts = Vec::new();
    let mut add = |name: &'static str, write: &dyn Fn(&mut String)| {
        let mut text = String::new();
        write(&mut text);
        if !text.is_empty() {
            parts.push((name, text));
        }
    };
    add("peers", &|text| {
        if !results.peers.is_empty() {
            let _ = writeln!(text, "{}\n", circumstances(options));
            peers(text, &results.peers);
            targets(text, results);
        }
    });
    add("dynamodb", &|text| {
        if let Some(measured) = &results.dynamodb {
            let _ = writeln!(text, "## The DynamoDB protocol\n\n{} {DYNAMODB_SERVERS}\n", circumstances(options));
            peers(text, &measured.peers);
            beside_servers(text, &measured.peers);
            beside_rest(text, measured);
        }
    });
    add("tenants", &|text| tenants(text, results));
    add("growth", &|text| growth(text, results));
    add("files", &|text| files(text, results));
    add("group", &|text| group(text, results));
    add("replication", &|text| replication(text, options, results));
    add("sleep", &|text| sleep(text, options, results));
    add("against", &|text| against(text, options, results));
    add("unavailability", &|text| {
        if let Some(measured) = &results.unavailability {
            let _ = writeln!(text, "## When a node is killed\n\nOn {}.\n\n{}", machine(), measured.trim_end());
        }
    });
    parts
}

fn against(text: &mut String, options: &Options, results: &Results) {
    let Some(measured) = &results.against else { return };
    let _ = writeln!(
        text,
        "## Beside another build\n\nOn {}. CPU of the server per operation, in parts of what {} takes, {} alternating pairs of {} s:\n",
        machine(),
        measured.other.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
        options.pairs,
        options.seconds
    );
    let _ = writeln!(text, "| operation | median | least | most |\n|---|--:|--:|--:|");
    for (operation, ratios) in [("GET", &measured.get), ("PUT", &measured.put)] {
        if let Some([median, least, most]) = spread(ratios.clone()) {
            let _ = writeln!(text, "| {operation} | {median:.3} | {least:.3} | {most:.3} |");
        }
    }
}

fn circumstances(options: &Options) -> String {
    format!(
        "On {}. {} items of about 1 KiB whose values differ at every write, {} connections with one request at a time each, {} s a \
         measurement after {} s of warming up. Client and server share the machine. What is compared is operations per CPU-second of \
         the server's processes.",
        machine(),
        options.records,
        options.connections,
        options.seconds,
        options.warm_up
    )
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {}, Linux {}", model.unwrap_or("an unknown processor"), kernel.trim())
}

fn peers(text: &mut String, peers: &[Peer]) {
    let _ = writeln!(
        text,
        "| | operation | per CPU-second | per second | p50 µs | p99 µs | flushes per operation |\n|---|---|--:|--:|--:|--:|--:|"
    );
    for peer in peers {
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

const DYNAMODB_SERVERS: &str = "Requests are signed; GET is GetItem with ConsistentRead, PUT is PutItem. dStore \
     checks signatures, encrypts, and syncs each write before it answers. The others are servers for tests. dynoxide \
     keeps items in a file of SQLite and syncs each write before it answers, too (WAL, `synchronous` FULL, as it \
     comes); it asks for a signature but cannot check it, and does not encrypt. moto keeps items in memory, does not \
     check signatures as it comes, and closes each connection after one answer.";

/// What dStore is to reach of each of the others: operations per CPU-second of GetItem and PutItem.
const DYNAMODB_TARGETS: [(&str, Option<[f64; 2]>); 2] = [("dynoxide", Some([1.8, 3.5])), ("moto", None)];

/// Times the CPU of REST that the DynamoDB protocol may take for the same operation.
const DYNAMODB_REST_TARGET: f64 = 1.25;

fn beside_servers(text: &mut String, peers: &[Peer]) {
    let find = |name: &str| peers.iter().find(|peer| peer.name == name);
    let Some(own) = find("dStore") else { return };
    let _ = writeln!(text, "| dStore against | ratio | target | |\n|---|--:|--:|---|");
    for (name, wanted) in DYNAMODB_TARGETS {
        let Some(other) = find(name) else {
            let _ = writeln!(text, "| {name}, which is not installed | | | not measured |");
            continue;
        };
        let phases = [("GetItem", Some((&own.get, &other.get))), ("PutItem", own.put.as_ref().zip(other.put.as_ref()))];
        for (at, (operation, phases)) in phases.into_iter().enumerate() {
            let Some((own, other)) = phases else { continue };
            let ratio = rate(own) / rate(other).max(1.0);
            let what = format!("{name}, {operation} per CPU-second");
            if let Some(wanted) = wanted {
                target(text, &what, ratio, wanted[at], true);
            } else {
                let _ = writeln!(text, "| {what} | {ratio:.2} | none | |");
            }
        }
    }
    text.push('\n');
}

fn beside_rest(text: &mut String, measured: &Protocols) {
    let mut told = Vec::new();
    for (operation, pairs) in [("GetItem against GET", &measured.get), ("PutItem against PUT", &measured.put)] {
        let spread_of = |number: fn(&Pair) -> f64| spread(pairs.iter().map(number).collect());
        let Some([ratio, least, most]) = spread_of(Pair::ratio) else { continue };
        if told.is_empty() {
            let _ = writeln!(text, "| dStore's DynamoDB protocol | ratio | target | |\n|---|--:|--:|---|");
        }
        target(text, &format!("{operation} by REST, CPU"), ratio, DYNAMODB_REST_TARGET, false);
        let microseconds = |number: fn(&Pair) -> f64| spread_of(number).map_or(0.0, |[median, ..]| median * 1e6);
        told.push(format!(
            "{operation} {least:.2} to {most:.2}, {:.1} µs against {:.1} µs (medians)",
            microseconds(|pair| pair.dynamodb),
            microseconds(|pair| pair.rest)
        ));
    }
    if !told.is_empty() {
        let _ = writeln!(
            text,
            "\nBoth protocols are spoken in turn to the same process, about the same items of one table: {} \
             alternating pairs of {} s, of whose ratios the median is given. The least and the most: {}.",
            measured.get.len(),
            measured.pair_seconds,
            told.join("; ")
        );
    }
}

/// CPU time of one operation.
fn cost(phase: &Phase) -> f64 {
    1e6 / rate(phase).max(1.0)
}

const GROWTH_HEAD: &str = "| what must not grow | ratio | target | |\n|---|--:|--:|---|";

fn tenants(text: &mut String, results: &Results) {
    let Some(tenants) = &results.tenants else { return };
    let _ = writeln!(text, "{GROWTH_HEAD}");
    let ratio = cost(&tenants.many) / cost(&tenants.one);
    let what = format!("CPU per PUT, a table in each of {TENANTS} tenants against one table");
    target(text, &what, ratio, 1.2, false);
    let ratio = flushes(&tenants.many) / flushes(&tenants.one).max(1e-9);
    target(text, "disk flushes per PUT, the same", ratio, 1.5, false);
}

fn growth(text: &mut String, results: &Results) {
    let Some(growth) = &results.growth else { return };
    let _ = writeln!(text, "{GROWTH_HEAD}");
    let sizes = format!("{} items against {SMALL_RECORDS}, both from files", growth.records);
    for (operation, small, large) in
        [("GET", &growth.small.0, &growth.large.0), ("PUT", &growth.small.1, &growth.large.1)]
    {
        let costs = format!("{:.1} µs against {:.1} µs", cost(large), cost(small));
        target(text, &format!("CPU per {operation}, {sizes} ({costs})"), cost(large) / cost(small), 1.5, false);
    }
}

fn files(text: &mut String, results: &Results) {
    let Some(files) = &results.files else { return };
    let _ = writeln!(
        text,
        "{} replica files in one process: {} files open, {} threads, {} MiB of memory (before: {} MiB).",
        files.tables, files.open_files, files.threads, files.memory_after_mib, files.memory_before_mib
    );
}

fn group(text: &mut String, results: &Results) {
    let Some(group) = &results.group else { return };
    let _ = writeln!(
        text,
        "A range with one copy, items of 1 KiB, through a node's engine without HTTP (decisions/group-of-one.md); the median of \
         three alternating runs:\n\n| way | CPU µs an entry | entries a sync | entries |\n|---|--:|--:|--:|"
    );
    for (way, cost) in [("short-cut: committed when durable", &group.short_cut), ("openraft", &group.raft)] {
        let _ = writeln!(text, "| {way} | {:.1} | {:.1} | {} |", cost.cpu_us, cost.entries_per_sync, cost.entries);
    }
    let _ = writeln!(text, "| ratio | {:.2} | | |\n", group.raft.cpu_us / group.short_cut.cpu_us.max(0.1));
}

fn replication(text: &mut String, options: &Options, results: &Results) {
    let Some(loads) = &results.replication else { return };
    let _ = writeln!(
        text,
        "## Replication\n\nDurable writes of 1 KiB through a proxy to three nodes, all of them processes on {}, with mutual TLS \
         between them; a table of {} ranges with one copy of each beside one with three. {} s a measurement. Syncs are those of the \
         nodes' commit logs, frames and messages those between nodes.\n\n\
         | writers | copies | writes/s | p50 µs | p99 µs | nodes' CPU µs a write | proxy's | syncs a write and copy | frames a write | messages a write | bytes a write |\n\
         |--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        machine(),
        options.replication_ranges,
        options.seconds
    );
    for load in loads {
        let Load { factor, writers, per_second, p50, p99, nodes_cpu_us, proxy_cpu_us, syncs, frames, messages, bytes } =
            load;
        let _ = writeln!(
            text,
            "| {writers} | {factor} | {per_second:.0} | {p50} | {p99} | {nodes_cpu_us:.1} | {proxy_cpu_us:.1} | {syncs:.3} | {frames:.2} | {messages:.2} | {bytes:.0} |"
        );
    }
    let _ = writeln!(text, "\n| three copies against one | ratio | target | |\n|---|--:|--:|---|");
    let of = |writers: usize, factor: usize| loads.iter().find(|load| (load.writers, load.factor) == (writers, factor));
    for writers in &options.writers {
        let (Some(one), Some(three)) = (of(*writers, 1), of(*writers, 3)) else { continue };
        let ratio = three.nodes_cpu_us / one.nodes_cpu_us.max(0.1);
        let _ = writeln!(text, "| nodes' CPU a write, {writers} writers | {ratio:.2} | none | |");
    }
    if let Some(three) = of(64, 3) {
        target(text, "syncs a write and copy, 64 writers (no ratio)", three.syncs, 0.2, false);
    }
}

fn sleep(text: &mut String, options: &Options, results: &Results) {
    let Some(sleeping) = &results.sleeping else { return };
    let _ = writeln!(
        text,
        "## Ranges that nobody uses\n\n{} ranges with three copies each, on three nodes, all asleep; on {}. CPU over {} s. They were made and \
         asleep after {:.0} s. After a node was killed all slept again after {:.0} s, led by others.\n\n\
         | a node | measured | target | |\n|---|--:|--:|---|",
        sleeping.ranges,
        machine(),
        options.idle_seconds,
        sleeping.made_seconds,
        sleeping.asleep_again_seconds
    );
    let _ = writeln!(text, "| CPU without ranges, percent of a core | {:.2} | none | |", sleeping.cpu_before);
    target(text, "CPU with all asleep, percent of a core", sleeping.cpu_asleep, 1.0, false);
    target(text, "the same after one of three nodes was killed", sleeping.cpu_after_kill, 1.0, false);
    target(text, "memory for each range beside its file, KiB", sleeping.memory_kib, 8.0, false);
    let looked_at = sleeping.looked_at + sleeping.looked_at_after_kill;
    let _ = writeln!(text, "| groups that regular looks looked at meanwhile, all nodes | {looked_at:.0} | 0 | |");
    target(text, "first write to a sleeping range, median, ms", sleeping.first_p50, 50.0, false);
    target(text, "99 of 100, ms", sleeping.first_p99, 50.0, false);
    let _ = writeln!(text, "| the longest of them, ms | {:.1} | none | |", sleeping.first_max);
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use dstore::cli::bench::report::Report;
    use std::collections::BTreeMap;

    fn phase(rate: f64) -> Phase {
        let report = Report {
            workload: "get",
            records: 1,
            connections: 32,
            seconds: 1.0,
            operations: 1,
            failures: 0,
            operations_per_second: 1.0,
            server_cpu_seconds: Some(1.0),
            operations_per_cpu_second: Some(rate),
            kinds: Vec::new(),
            failures_by_text: BTreeMap::new(),
        };
        Phase { report, flushes: 0 }
    }

    fn peer(name: &'static str, get: f64, put: f64) -> Peer {
        Peer { name, get: phase(get), put: Some(phase(put)) }
    }

    fn pairs(costs: &[(f64, f64)]) -> Vec<Pair> {
        costs.iter().map(|(rest, dynamodb)| Pair { rest: rest / 1e6, dynamodb: dynamodb / 1e6 }).collect()
    }

    /// The part `dynamodb`, alone.
    fn dynamodb(measured: Protocols) -> String {
        let results = Results { dynamodb: Some(measured), ..Results::default() };
        let parts = parts(&Options::parse_from(["bench"]), &results);
        let [(name, text)] = parts.as_slice() else { panic!("{} parts", parts.len()) };
        assert_eq!(*name, "dynamodb");
        text.clone()
    }

    fn holds(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|one| one == *line), "{line:?} is not in {text}");
        }
    }

    #[test]
    fn what_was_not_measured_is_no_part() {
        assert!(parts(&Options::parse_from(["bench"]), &Results::default()).is_empty());
    }

    #[test]
    fn other_servers_of_the_protocol_have_their_targets() {
        let peers = vec![peer("dStore", 1900.0, 3080.0), peer("dynoxide", 1000.0, 1000.0), peer("moto", 100.0, 110.0)];
        let text = dynamodb(Protocols { peers, get: Vec::new(), put: Vec::new(), pair_seconds: 5 });
        holds(
            &text,
            &[
                "| dynoxide, GetItem per CPU-second | 1.90 | ≥ 1.8 | met |",
                "| dynoxide, PutItem per CPU-second | 3.08 | ≥ 3.5 | missed by 12 % |",
                "| moto, GetItem per CPU-second | 19.00 | none | |",
                "| moto, PutItem per CPU-second | 28.00 | none | |",
            ],
        );
        assert!(!text.contains("REST"), "no pairs, no ratio: {text}");
    }

    #[test]
    fn a_peer_that_is_not_there_is_told() {
        let peers = vec![peer("dStore", 2.0, 1.0), peer("moto", 1.0, 1.0)];
        let text = dynamodb(Protocols { peers, get: Vec::new(), put: Vec::new(), pair_seconds: 5 });
        holds(
            &text,
            &[
                "| dynoxide, which is not installed | | | not measured |",
                "| moto, GetItem per CPU-second | 2.00 | none | |",
            ],
        );
    }

    #[test]
    fn beside_rest_the_median_of_the_ratios_counts() {
        let measured = Protocols {
            peers: vec![peer("dStore", 1.0, 1.0)],
            // The ratio of the medians would be 4, the mean of the ratios 2.1.
            get: pairs(&[(10.0, 12.0), (100.0, 110.0), (20.0, 80.0)]),
            put: pairs(&[(10.0, 14.0), (10.0, 15.0), (10.0, 11.0)]),
            pair_seconds: 4,
        };
        let text = dynamodb(measured);
        holds(
            &text,
            &[
                "| GetItem against GET by REST, CPU | 1.20 | ≤ 1.25 | met |",
                "| PutItem against PUT by REST, CPU | 1.40 | ≤ 1.25 | missed by 12 % |",
            ],
        );
        assert!(text.contains("3 alternating pairs of 4 s"), "{text}");
        assert!(text.contains("GetItem against GET 1.10 to 4.00, 80.0 µs against 20.0 µs"), "{text}");
        assert!(text.contains("PutItem against PUT 1.10 to 1.50, 14.0 µs against 10.0 µs"), "{text}");
    }
}
