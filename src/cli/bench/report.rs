//! Takes times into HdrHistograms (three significant digits, 1 µs to 60 s) and prints what they say.

use super::runner::Plan;
use super::workload::Kind;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

const MICROSECONDS_MAX: u64 = 60_000_000;

/// Times and failures of one connection, or of all after merging.
#[derive(Default)]
pub struct Recorder {
    times: BTreeMap<Kind, Histogram<u64>>,
    failures: BTreeMap<String, u64>,
}

impl Recorder {
    /// Takes one operation in. A failed one counts by its text and not in the times.
    pub fn record(&mut self, kind: Kind, time: Duration, result: Result<(), String>) {
        match result {
            Ok(()) => {
                let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                self.histogram(kind).saturating_record(microseconds.clamp(1, MICROSECONDS_MAX));
            }
            Err(text) => *self.failures.entry(text).or_default() += 1,
        }
    }

    fn histogram(&mut self, kind: Kind) -> &mut Histogram<u64> {
        self.times.entry(kind).or_insert_with(|| {
            Histogram::new_with_bounds(1, MICROSECONDS_MAX, 3)
                .expect("these bounds are valid: 1 ≥ 1, maximum ≥ 2, digits ≤ 5")
        })
    }

    /// Adds another connection's.
    pub fn merge(&mut self, other: Recorder) {
        for (kind, times) in other.times {
            self.histogram(kind).add(times).expect("all histograms have the same bounds");
        }
        for (text, count) in other.failures {
            *self.failures.entry(text).or_default() += count;
        }
    }

    /// What came out.
    pub fn report(self, plan: &Plan, connections: usize, elapsed: Duration, cpu_seconds: Option<f64>) -> Report {
        let operations: u64 = self.times.values().map(Histogram::len).sum();
        let seconds = elapsed.as_secs_f64();
        Report {
            workload: plan.workload.as_str(),
            records: plan.records,
            connections,
            seconds,
            operations,
            failures: self.failures.values().sum(),
            operations_per_second: operations as f64 / seconds.max(f64::MIN_POSITIVE),
            server_cpu_seconds: cpu_seconds,
            operations_per_cpu_second: cpu_seconds.filter(|cpu| *cpu > 0.0).map(|cpu| operations as f64 / cpu),
            kinds: self.times.iter().map(|(kind, times)| KindReport::new(*kind, times)).collect(),
            failures_by_text: self.failures,
        }
    }
}

/// The result of one measurement. Times are in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The mix.
    pub workload: &'static str,
    /// How many records there were.
    pub records: u64,
    /// How many connections.
    pub connections: usize,
    /// How long it took.
    pub seconds: f64,
    /// Operations that succeeded.
    pub operations: u64,
    /// Operations that failed.
    pub failures: u64,
    /// Throughput.
    pub operations_per_second: f64,
    /// CPU time of the server, where its process is known.
    pub server_cpu_seconds: Option<f64>,
    /// The measure to compare by.
    pub operations_per_cpu_second: Option<f64>,
    /// By kind of operation.
    pub kinds: Vec<KindReport>,
    /// Failures by what was said.
    pub failures_by_text: BTreeMap<String, u64>,
}

/// Times of one kind of operation, in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct KindReport {
    /// Which kind.
    pub kind: &'static str,
    /// How many.
    pub count: u64,
    /// Average.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 95 of 100 were at most this.
    pub p95: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1000.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

impl KindReport {
    fn new(kind: Kind, times: &Histogram<u64>) -> KindReport {
        KindReport {
            kind: kind.as_str(),
            count: times.len(),
            mean: times.mean(),
            p50: times.value_at_quantile(0.5),
            p95: times.value_at_quantile(0.95),
            p99: times.value_at_quantile(0.99),
            p999: times.value_at_quantile(0.999),
            max: times.max(),
        }
    }
}

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        // Writing to a `String` cannot fail.
        let mut text = String::new();
        let _ = writeln!(
            text,
            "workload {}, {} records, {} connections: {} operations in {:.1} s, {:.0}/s, {} failures",
            self.workload,
            self.records,
            self.connections,
            self.operations,
            self.seconds,
            self.operations_per_second,
            self.failures
        );
        if let (Some(seconds), Some(rate)) = (self.server_cpu_seconds, self.operations_per_cpu_second) {
            let _ = writeln!(text, "server: {seconds:.2} CPU-seconds, {rate:.0} operations per CPU-second");
        }
        let _ = writeln!(
            text,
            "{:<18} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "µs", "count", "mean", "p50", "p95", "p99", "p99.9", "max"
        );
        for kind in &self.kinds {
            let _ = writeln!(
                text,
                "{:<18} {:>9} {:>9.0} {:>9} {:>9} {:>9} {:>9} {:>9}",
                kind.kind, kind.count, kind.mean, kind.p50, kind.p95, kind.p99, kind.p999, kind.max
            );
        }
        for (reason, count) in &self.failures_by_text {
            let _ = writeln!(text, "failed {count} times: {reason}");
        }
        text
    }

    /// For programs: one line.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::super::runner::Extent;
    use super::super::workload::{Distribution, Workload};
    use super::*;

    #[test]
    fn percentiles_and_failures_are_told_in_both_forms() {
        let plan = Plan {
            workload: Workload::Get,
            distribution: Distribution::Uniform,
            records: 10,
            extent: Extent::Operations(102),
            seed: 1,
            server_pid: None,
        };
        let (mut first, mut second) = (Recorder::default(), Recorder::default());
        for milliseconds in 1..=50 {
            first.record(Kind::Read, Duration::from_millis(milliseconds), Ok(()));
            second.record(Kind::Read, Duration::from_millis(50 + milliseconds), Ok(()));
        }
        second.record(Kind::Update, Duration::from_micros(7), Ok(()));
        second.record(Kind::Read, Duration::from_secs(9), Err("GET answered 503".to_owned()));
        first.merge(second);
        let report = first.report(&plan, 2, Duration::from_secs(2), Some(0.5));
        assert_eq!((report.operations, report.failures), (101, 1));
        assert_eq!(report.operations_per_cpu_second, Some(202.0));
        let read = &report.kinds[0];
        assert!(read.p50.abs_diff(50_000) < 100 && read.p99.abs_diff(99_000) < 200, "{read:?}");
        let table = report.table();
        assert!(table.contains("failed 1 times: GET answered 503") && table.contains("202 operations per CPU-second"));
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("is JSON");
        assert_eq!(json["kinds"][1]["p99"], 7);
    }
}
