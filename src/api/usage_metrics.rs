//! What was served, as numbers for Prometheus: by operation, and by tenant for those that ask the most. Their
//! number does not grow with what there is: operations and results are few, and tenants bounded by `usage.tenants`.
//!
//! All tenants without counters of their own are told together as `_other`, which is no name that a tenant can have.

use super::health::Metrics;
use crate::domain::usage::latency::BOUNDS_US;
use crate::domain::usage::{UsageOperation, UsageResult};
use crate::services::usage::counting::UsageNumbers;
use crate::services::usage::tenants::TenantTotals;

/// Those without counters of their own.
const OTHER: &str = "_other";

/// Tells them.
pub fn tell(metrics: &mut Metrics, numbers: &UsageNumbers) {
    for operation in UsageOperation::ALL {
        let requests = &numbers.totals.requests[*operation as usize];
        for result in UsageResult::ALL {
            let labels = [("operation", operation.word()), ("result", result.word())];
            let help = "Requests of clients that were answered.";
            metrics.counter("dstore_requests_total", help, &labels, requests[*result as usize] as f64);
        }
        let latency = &numbers.totals.latency[*operation as usize];
        let help = "How long they took, from their head to the answer.";
        let labels = [("operation", operation.word())];
        let bounds = BOUNDS_US.map(|bound| bound as f64 / 1e6);
        metrics.histogram(
            "dstore_request_seconds",
            help,
            &labels,
            &bounds,
            &latency.buckets,
            latency.sum_us as f64 / 1e6,
        );
    }
    let (named, other) = &numbers.tenants;
    named.iter().for_each(|(name, totals)| tenant(metrics, name, totals));
    tenant(metrics, OTHER, other);
    let spool = &numbers.spool;
    let help = "Bytes of usage counts on disk; most of them reporting does not have.";
    metrics.gauge("dstore_usage_spool_bytes", help, &[], spool.bytes as f64);
    metrics.gauge("dstore_usage_spool_batches", "Batches of usage counts on disk.", &[], spool.batches as f64);
    let help = "Batches thrown away because the spool was full before every reporter had them.";
    metrics.counter("dstore_usage_batches_dropped_total", help, &[], spool.dropped as f64);
    let help = "1 where the disk did not take the last batch of usage counts: they wait in memory.";
    metrics.gauge("dstore_usage_spool_failing", help, &[], f64::from(u8::from(numbers.is_failing)));
}

fn tenant(metrics: &mut Metrics, name: &str, totals: &TenantTotals) {
    let help = "Requests for a tenant.";
    metrics.counter("dstore_tenant_requests_total", help, &[("tenant", name)], totals.requests as f64);
    let units = [("read", totals.read_half_units as f64 / 2.0), ("write", totals.write_units as f64)];
    for (kind, units) in units {
        let help = "Capacity units that a tenant's requests took.";
        metrics.counter("dstore_tenant_capacity_units_total", help, &[("tenant", name), ("kind", kind)], units);
    }
    for (direction, bytes) in [("read", totals.read_bytes), ("written", totals.written_bytes)] {
        let help = "Bytes of items that were read and written for a tenant.";
        let labels = [("tenant", name), ("direction", direction)];
        metrics.counter("dstore_tenant_bytes_total", help, &labels, bytes as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TenantId;
    use crate::domain::usage::UsageCounts;
    use crate::services::usage::meter::Totals;
    use crate::services::usage::spool::SpoolNumbers;
    use crate::services::usage::tenants::TopTenants;

    /// What is told where so many tenants ask.
    fn text(tenants: u32) -> String {
        let mut top = TopTenants::new(3);
        let counts = UsageCounts { requests: 2, read_half_units: 3, write_units: 4, ..UsageCounts::default() };
        let of = |number: u32| (TenantId(uuid::Uuid::from_u128(number.into())), &counts);
        top.add((0..tenants).map(of), |tenant| format!("t-{}", tenant.0.as_u128()));
        let mut totals = Totals::default();
        totals.requests[UsageOperation::PutItem as usize][UsageResult::Throttled as usize] = 7;
        [150, 250, 60_000_000].iter().for_each(|micros| totals.latency[UsageOperation::PutItem as usize].add(*micros));
        let spool = SpoolNumbers { bytes: 1, batches: 2, dropped: 3 };
        let mut metrics = Metrics::default();
        tell(&mut metrics, &UsageNumbers { totals, tenants: top.totals(), spool, is_failing: true });
        metrics.text()
    }

    #[test]
    fn however_many_tenants_there_are_there_are_few_lines() {
        let (few, many) = (text(4), text(1_000));
        assert_eq!(few.lines().count(), many.lines().count());
        for line in [
            r#"dstore_tenant_requests_total{tenant="t-0"} 2"#,
            r#"dstore_tenant_requests_total{tenant="_other"} 1994"#,
            r#"dstore_tenant_capacity_units_total{tenant="t-1",kind="read"} 1.5"#,
            r#"dstore_tenant_capacity_units_total{tenant="t-1",kind="write"} 4"#,
            r#"dstore_requests_total{operation="put-item",result="throttled"} 7"#,
            "dstore_usage_batches_dropped_total 3",
            "dstore_usage_spool_failing 1",
        ] {
            assert!(many.lines().any(|told| told == line), "{line} in {many}");
        }
    }

    #[test]
    fn a_histogram_adds_up_its_buckets() {
        let text = text(0);
        for line in [
            "# TYPE dstore_request_seconds histogram",
            r#"dstore_request_seconds_bucket{operation="put-item",le="0.0001"} 0"#,
            r#"dstore_request_seconds_bucket{operation="put-item",le="0.0002"} 1"#,
            r#"dstore_request_seconds_bucket{operation="put-item",le="30"} 2"#,
            r#"dstore_request_seconds_bucket{operation="put-item",le="+Inf"} 3"#,
            r#"dstore_request_seconds_sum{operation="put-item"} 60.0004"#,
            r#"dstore_request_seconds_count{operation="put-item"} 3"#,
        ] {
            assert!(text.lines().any(|told| told == line), "{line} in {text}");
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE dstore_request_seconds")).count(), 1);
    }
}
