//! What processes tell at `/metrics`: that it is Prometheus' text format to the letter, and what `docs/METRICS.md` says.
//!
//! After a change that is meant, `DSTORE_NUMBERS=write cargo test --test suite numbers` writes the table anew. Rows of
//! numbers that no process of this test tells stay as they are; `tests/tidy/monitoring.rs` finds those that nobody tells.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::cluster::Cluster;
use crate::process::DEADLINE;

/// All that is told under one name.
#[derive(Debug, Clone, Default, PartialEq)]
struct Family {
    kind: String,
    help: String,
    labels: Vec<String>,
    roles: BTreeSet<String>,
}

type Families = BTreeMap<String, Family>;

/// A sample: its name, its labels in order, its value.
fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let value = match value {
        "+Inf" => f64::INFINITY,
        number => number.parse().unwrap_or_else(|_| panic!("no number: {line}")),
    };
    let Some((name, labels)) = series.split_once('{') else { return (series.to_owned(), Vec::new(), value) };
    let mut rest = labels.strip_suffix('}').unwrap_or_else(|| panic!("no end: {line}"));
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
        let (mut text, mut letters) = (String::new(), quoted.char_indices());
        let end = loop {
            match letters.next().unwrap_or_else(|| panic!("no end of a value: {line}")) {
                (at, '"') => break at,
                (_, '\\') => match letters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, letter @ ('"' | '\\'))) => text.push(letter),
                    other => panic!("{other:?} is escaped: {line}"),
                },
                (_, letter) => text.push(letter),
            }
        };
        found.push((label.to_owned(), text));
        rest = quoted[end + 1..].trim_start_matches(',');
    }
    (name.to_owned(), found, value)
}

/// Reads what a process of this role told, and checks that it is what the format asks for.
fn read(text: &str, role: &str, families: &mut Families) {
    let is_name = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') && !name.is_empty()
    };
    assert!(text.ends_with('\n'));
    let (mut open, mut ended, mut seen) = (String::new(), BTreeSet::new(), BTreeSet::new());
    let mut buckets: BTreeMap<String, f64> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
            assert!(is_name(name) && ended.insert(name.to_owned()), "{name} begins twice");
            open = name.to_owned();
            let family = families.entry(open.clone()).or_default();
            assert!(family.help.is_empty() || family.help == help, "{name} has two helps: {help:?}, {:?}", family.help);
            assert!(help.ends_with('.'), "{line}");
            family.help = help.to_owned();
            family.roles.insert(role.to_owned());
            continue;
        }
        let family = families.get_mut(&open).unwrap_or_else(|| panic!("no name is open: {line}"));
        if let Some(kind) = line.strip_prefix(&format!("# TYPE {open} ")) {
            assert!(family.kind.is_empty() || family.kind == kind, "{open} has two types");
            assert!(["gauge", "counter", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", open.ends_with("_total"), "{open}");
            family.kind = kind.to_owned();
            continue;
        }
        let (name, labels, value) = sample(line);
        assert!(seen.insert((name.clone(), labels.clone())), "twice: {line}");
        let suffix = name.strip_prefix(&open).unwrap_or_else(|| panic!("{line} stands under {open}"));
        let is_bucket = suffix == "_bucket";
        assert!(
            if family.kind == "histogram" {
                ["_bucket", "_sum", "_count"].contains(&suffix)
            } else {
                suffix.is_empty()
            },
            "{line}"
        );
        assert_eq!(labels.last().is_some_and(|(label, _)| label == "le"), is_bucket, "{line}");
        let own: Vec<_> = labels.iter().filter(|(label, _)| label != "le").collect();
        for (label, _) in own.iter().filter(|(label, _)| !family.labels.contains(label)).collect::<Vec<_>>() {
            assert!(is_name(label), "{line}");
            family.labels.push(label.clone());
        }
        let series = format!("{open}{own:?}");
        if is_bucket {
            let before = buckets.insert(series, value).unwrap_or(0.0);
            assert!(before <= value, "buckets add up: {line}");
        } else if suffix == "_count" {
            assert_eq!(buckets.get(&series), Some(&value), "the last bucket holds all: {line}");
        }
    }
}

/// A row of the table.
fn row(name: &str, family: &Family) -> String {
    let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
    let all = ["control", "node", "proxy"].iter().all(|role| family.roles.contains(*role));
    let roles = if all { "all".to_owned() } else { family.roles.iter().cloned().collect::<Vec<_>>().join(", ") };
    format!("| `{name}` | {} | {} | {roles} | {} |", family.kind, labels.join(", "), family.help.replace('|', "\\|"))
}

/// The family that a row describes.
fn described(row: &str) -> (String, Family) {
    let cells: Vec<&str> = row.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
    let list = |text: &str| {
        text.split(", ").map(|one| one.trim_matches('`').to_owned()).filter(|one| !one.is_empty()).collect::<Vec<_>>()
    };
    let roles = if cells[3] == "all" { "control, node, proxy" } else { cells[3] };
    let (labels, roles) = (list(cells[2]), list(roles).into_iter().collect());
    let help = cells[4..].join(" | ").replace("\\|", "|");
    (cells[0].trim_matches('`').to_owned(), Family { kind: cells[1].to_owned(), help, labels, roles })
}

fn compare(told: &Families) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md");
    let text = std::fs::read_to_string(&path).unwrap();
    const HEAD: &str = "| name | type | labels | of | what it tells |\n|---|---|---|---|---|\n";
    let (before, rest) = text.split_once(HEAD).expect("the table's head");
    let (rows, behind) = rest.split_once("<!-- end").expect("the table's end");
    let mut written: Families = rows.lines().map(described).collect();
    let mut findings = Vec::new();
    for (name, family) in told {
        let known = written.entry(name.clone()).or_default();
        // Not every role tells every number in this test.
        let family = Family { roles: family.roles.union(&known.roles).cloned().collect(), ..family.clone() };
        if *known != family {
            findings.push(row(name, &family));
            *known = family;
        }
    }
    if std::env::var_os("DSTORE_NUMBERS").is_some_and(|wish| wish == "write") {
        let rows: String = written.iter().map(|(name, family)| row(name, family) + "\n").collect();
        std::fs::write(&path, format!("{before}{HEAD}{rows}<!-- end{behind}")).unwrap();
        return;
    }
    assert!(
        findings.is_empty(),
        "docs/METRICS.md has other rows; DSTORE_NUMBERS=write renews it:\n{}",
        findings.join("\n")
    );
}

#[tokio::test]
async fn numbers_are_what_the_table_says() {
    let mut cluster = Cluster::start();
    cluster.member_settings.extend(["tracing.endpoint=http://127.0.0.1:9".to_owned(), "tracing.sample=1".to_owned()]);
    cluster.add_nodes(3);
    cluster.add_proxies(1);
    cluster.until_ready().await;
    let acme = format!("{}/v1/tenant/acme", cluster.proxies[0].url());
    cluster.put(&acme, &json!({})).await;
    let table = json!({ "id_type": "String", "replication_factor": 3 });
    assert_eq!(cluster.put(&format!("{acme}/table/things"), &table).await.0, 201);
    // Until a copy is followed, by which its leader tells how far behind it is.
    let deadline = Instant::now() + DEADLINE;
    let told = loop {
        let (status, body) = cluster.put(&format!("{acme}/table/things/id/a"), &json!({ "b": 1 })).await;
        assert!(status < 300, "{status}: {body}");
        cluster.get(&format!("{acme}/table/things/id/a")).await;
        let mut families = Families::new();
        let control = [("control", cluster.control_health().replace("readyz", "metrics"))];
        let members = cluster.nodes.iter().chain(&cluster.proxies).map(|member| (member.role(), member.metrics_url()));
        for (role, url) in control.into_iter().chain(members) {
            let answer = cluster.client.get(&url).send().await.unwrap();
            assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
            read(&answer.text().await.unwrap(), role, &mut families);
        }
        if families.contains_key("dstore_node_replication_lag_entries") {
            break families;
        }
        assert!(Instant::now() < deadline, "no copy is followed");
    };
    compare(&told);
}

#[test]
fn rows_come_back() {
    let family = Family {
        kind: "histogram".to_owned(),
        help: "Of a | b.".to_owned(),
        labels: vec!["x".to_owned(), "y".to_owned()],
        roles: ["node".to_owned(), "proxy".to_owned()].into(),
    };
    assert_eq!(described(&row("dstore_x", &family)), ("dstore_x".to_owned(), family));
}
