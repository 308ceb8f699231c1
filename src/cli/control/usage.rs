//! `dstore control usage`: what tenants used, as a table and a chart for people, as JSON or comma-separated for programs.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use super::ControlFormat;
use super::call::{Admin, Failure, escape};
use super::chart::chart;
use super::output::Shown;
use crate::domain::Timestamp;
use crate::domain::usage::UsageCounts;
use crate::domain::usage::query::{UsageAnswer, UsageBy, UsageOf};

/// What to ask for.
#[derive(Debug, Clone, Args)]
pub struct UsageFlags {
    /// Of this tenant only, by name or UUID
    #[arg(long)]
    tenant: Option<String>,
    /// Of this table only, by name or UUID
    #[arg(long)]
    table: Option<String>,
    /// From this time on, as 2026-01-31T15:00:00Z or 2026-01-31
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Until this time; now where none is given
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// The last so many minutes, hours or days, as in 90m, 24h or 30d; a day where nothing is given
    #[arg(long, value_name = "LENGTH", conflicts_with = "from")]
    last: Option<String>,
    /// What to keep apart: tables of a tenant where one is named, tenants else
    #[arg(long, value_parser = ["tenant", "table", "operation", "principal", "result"])]
    by: Option<String>,
    /// How long a step is: a minute (30 days are kept), an hour (400 days), or a day in UTC; as it fits where none is given
    #[arg(long, value_parser = ["1m", "1h", "1d"])]
    step: Option<String>,
}

impl UsageFlags {
    /// The question as a query string.
    fn query(&self, admin: &Admin) -> Result<String, Failure> {
        let tenant = match (&self.tenant, &self.table) {
            // A table's name is one of a tenant.
            (None, Some(table)) if uuid::Uuid::parse_str(table).is_err() => Some(admin.tenant(None)?),
            (tenant, _) => tenant.clone(),
        };
        let given = [
            ("tenant", &tenant),
            ("table", &self.table),
            ("from", &self.from),
            ("to", &self.to),
            ("last", &self.last),
            ("by", &self.by),
            ("step", &self.step),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", escape(value.as_ref()?))));
        Ok(given.collect::<Vec<_>>().join("&"))
    }
}

/// Asks, and prints the answer.
pub(super) async fn usage(flags: &UsageFlags, format: ControlFormat) -> Result<(), Failure> {
    let admin = Admin::open()?;
    let answer = admin.get(&format!("usage?{}", flags.query(&admin)?)).await?;
    if format == ControlFormat::Json {
        println!("{answer}");
        return Ok(());
    }
    let answer: UsageAnswer =
        serde_json::from_value(answer).map_err(|problem| format!("the answer is not understood: {problem}"))?;
    match format {
        ControlFormat::Csv => print!("{}", csv(&answer)),
        _ => print!("{}", text(&answer, columns_of_terminal())),
    }
    Ok(())
}

/// How wide the terminal is; 80 where it is none.
fn columns_of_terminal() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns >= 20).unwrap_or(80)
}

fn time(at_ms: u64) -> String {
    Timestamp(at_ms.saturating_mul(1000)).to_string()
}

/// A choice as JSON spells it.
fn word(choice: &impl serde::Serialize) -> String {
    json!(choice).as_str().unwrap_or_default().to_owned()
}

const SUMS: [&str; 7] =
    ["requests", "read units=read_units", "write units=write_units", "read", "written", "p50", "p99"];
const BY_TENANT: [&str; 8] = columns(["tenant"]);
const BY_TABLE: [&str; 9] = columns(["tenant", "table"]);
const BY_OPERATION: [&str; 8] = columns(["operation"]);
const BY_PRINCIPAL: [&str; 9] = columns(["tenant", "principal"]);
const BY_RESULT: [&str; 8] = columns(["result"]);

/// These columns, then those of numbers.
const fn columns<const FIRST: usize, const ALL: usize>(first: [&'static str; FIRST]) -> [&'static str; ALL] {
    let mut all = [""; ALL];
    let mut at = 0;
    while at < ALL {
        all[at] = if at < FIRST { first[at] } else { SUMS[at - FIRST] };
        at += 1;
    }
    all
}

fn columns_by(by: UsageBy) -> &'static [&'static str] {
    match by {
        UsageBy::Tenant => &BY_TENANT,
        UsageBy::Table => &BY_TABLE,
        UsageBy::Operation => &BY_OPERATION,
        UsageBy::Principal => &BY_PRINCIPAL,
        UsageBy::Result => &BY_RESULT,
    }
}

/// For people: a table of what each used, most first, then requests over time.
fn text(answer: &UsageAnswer, columns: usize) -> String {
    let (from, to, step, by) = (time(answer.from_ms), time(answer.to_ms), word(&answer.step), word(&answer.by));
    let head = format!("{from} to {to}, by {by}\n");
    if answer.rows.is_empty() {
        return format!("{head}(nothing was used)\n");
    }
    let mut sums: BTreeMap<&UsageOf, UsageCounts> = BTreeMap::new();
    let length = answer.step.length_ms();
    let mut steps = vec![0; ((answer.to_ms - answer.from_ms) / length) as usize];
    for row in &answer.rows {
        sums.entry(&row.of).or_default().merge(&row.counts);
        if let Some(sum) = steps.get_mut((row.at_ms.saturating_sub(answer.from_ms) / length) as usize) {
            *sum += row.counts.requests;
        }
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.requests));
    let mut rows: Vec<Value> = sums.iter().map(|(of, counts)| shown(&names(of), counts)).collect();
    if rows.len() > 1 {
        let names = ["tenant", "operation", "result"].map(|name| (name, "total".to_owned()));
        rows.push(shown(&names, &answer.total));
    }
    let table = Shown::new(Value::Array(rows), columns_by(answer.by)).human();
    let drawn = chart(&steps, columns);
    let bar = match drawn.values_per_bar {
        1 => step,
        several => format!("{several} × {step}"),
    };
    format!("{head}\n{table}\nrequests per {bar}, {from} to {to}\n{}", drawn.text)
}

/// What counts are of, by column.
fn names(of: &UsageOf) -> [(&'static str, String); 5] {
    let named = |name: &Option<String>, id: Option<String>| name.clone().or(id).unwrap_or_default();
    [
        ("tenant", named(&of.tenant_name, of.tenant.map(|id| id.to_string()))),
        ("table", named(&of.table_name, of.table.map(|id| id.to_string()))),
        ("principal", of.principal.map(|id| id.to_string()).unwrap_or_default()),
        ("operation", of.operation.clone().unwrap_or_default()),
        ("result", of.result.clone().unwrap_or_default()),
    ]
}

fn shown(names: &[(&'static str, String)], counts: &UsageCounts) -> Value {
    let mut row = json!({
        "requests": counts.requests,
        "read_units": units(counts),
        "write_units": counts.write_units,
        "read": bytes(counts.read_bytes),
        "written": bytes(counts.written_bytes),
        "p50": latency(counts, 0.5),
        "p99": latency(counts, 0.99),
    });
    for (name, value) in names {
        row[*name] = value.as_str().into();
    }
    row
}

/// Read capacity in whole units, which are two halves.
fn units(counts: &UsageCounts) -> String {
    let half = if counts.read_half_units % 2 == 1 { ".5" } else { "" };
    format!("{}{half}", counts.read_half_units / 2)
}

fn bytes(count: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, shift)| count >> shift > 0) {
        Some((unit, shift)) => format!("{:.1} {unit}", count as f64 / f64::from(1u32 << shift)),
        None => format!("{count} B"),
    }
}

/// Under how much this part of all requests lie.
fn latency(counts: &UsageCounts, part: f64) -> String {
    match counts.latency.quantile_us(part) {
        None => String::new(),
        Some(micros) if micros < 1_000 => format!("{micros} µs"),
        Some(micros) if micros < 1_000_000 => format!("{} ms", micros / 1_000),
        Some(micros) => format!("{} s", micros / 1_000_000),
    }
}

/// A line for each row, and one with the names of columns first.
fn csv(answer: &UsageAnswer) -> String {
    let mut text =
        "at,tenant,tenant_id,table,table_id,principal,operation,result,requests,read_bytes,written_bytes,read_units,\
                    write_units,latency_p50_us,latency_p99_us,latency_sum_us\n"
            .to_owned();
    for row in &answer.rows {
        let (of, counts) = (&row.of, &row.counts);
        let id = |id: Option<String>| id.unwrap_or_default();
        let micros = |part| counts.latency.quantile_us(part).map(|micros| micros.to_string()).unwrap_or_default();
        let fields = [
            time(row.at_ms),
            of.tenant_name.clone().unwrap_or_default(),
            id(of.tenant.map(|id| id.to_string())),
            of.table_name.clone().unwrap_or_default(),
            id(of.table.map(|id| id.to_string())),
            id(of.principal.map(|id| id.to_string())),
            of.operation.clone().unwrap_or_default(),
            of.result.clone().unwrap_or_default(),
            counts.requests.to_string(),
            counts.read_bytes.to_string(),
            counts.written_bytes.to_string(),
            units(counts),
            counts.write_units.to_string(),
            micros(0.5),
            micros(0.99),
            counts.latency.sum_us.to_string(),
        ];
        // Nothing in it can hold a comma or a quote: names are letters, digits and a few marks.
        text.push_str(&fields.join(","));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{TableId, TenantId};
    use crate::domain::usage::query::{UsageRow, UsageStep};

    fn answer() -> UsageAnswer {
        let row = |hour: u64, table: &str, number: u8, requests: u64| {
            let of = UsageOf {
                tenant_name: Some("acme".to_owned()),
                table_name: Some(table.to_owned()),
                tenant: Some(TenantId::from_bytes([1; 16])),
                table: Some(TableId::from_bytes([number; 16])),
                ..UsageOf::default()
            };
            let mut counts =
                UsageCounts { requests, read_bytes: 3 << 20, read_half_units: 5, ..UsageCounts::default() };
            (0..requests).for_each(|_| counts.latency.add(1_500));
            UsageRow { at_ms: 1_767_225_600_000 + hour * 3_600_000, of, counts }
        };
        let rows = vec![row(0, "posts", 3, 1), row(1, "posts", 3, 1), row(1, "users", 2, 8)];
        let mut total = UsageCounts::default();
        rows.iter().for_each(|row| total.merge(&row.counts));
        UsageAnswer {
            from_ms: 1_767_225_600_000,
            to_ms: 1_767_225_600_000 + 3 * 3_600_000,
            step: UsageStep::Hour,
            by: UsageBy::Table,
            total,
            rows,
        }
    }

    #[test]
    fn people_see_a_table_and_a_chart() {
        let expected = "\
            2026-01-01T00:00:00Z to 2026-01-01T03:00:00Z, by table\n\n\
            TENANT  TABLE  REQUESTS  READ UNITS  WRITE UNITS  READ     WRITTEN  P50   P99\n\
            acme    users  8         2.5         0            3.0 MiB  0 B      2 ms  2 ms\n\
            acme    posts  2         5           0            6.0 MiB  0 B      2 ms  2 ms\n\
            total   -      10        7.5         0            9.0 MiB  0 B      2 ms  2 ms\n\n\
            requests per 1h, 2026-01-01T00:00:00Z to 2026-01-01T03:00:00Z\n\
            9 │    ████\n  │    ████\n  │    ████\n  │    ████\n  │    ████\n  │    ████\n  │    ████\n0 │████████\n";
        assert_eq!(text(&answer(), 40), expected);
        let nothing = UsageAnswer { rows: Vec::new(), ..answer() };
        assert!(text(&nothing, 40).ends_with("by table\n(nothing was used)\n"));
    }

    #[test]
    fn programs_get_a_line_for_each_row() {
        let text = csv(&answer());
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()));
        let column = |name: &str| lines[0].iter().position(|other| *other == name).unwrap();
        assert_eq!(lines[3][column("table")], "users");
        assert_eq!((lines[3][column("requests")], lines[3][column("read_units")]), ("8", "2.5"));
        assert_eq!(lines[3][column("at")], "2026-01-01T01:00:00Z");
    }

    #[test]
    fn sizes_and_times_are_told_in_fitting_units() {
        assert_eq!([5, 2048, 5 << 30].map(bytes), ["5 B", "2.0 KiB", "5.0 GiB"]);
        let of = |micros| {
            let mut counts = UsageCounts::default();
            counts.latency.add(micros);
            latency(&counts, 0.5)
        };
        assert_eq!([90, 1_500, 9_000_000].map(of), ["100 µs", "2 ms", "10 s"]);
        assert_eq!(latency(&UsageCounts::default(), 0.5), "");
    }
}
