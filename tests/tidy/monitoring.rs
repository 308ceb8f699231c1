//! What operators look at is there: the table of numbers in `docs/METRICS.md`, the dashboards and alert rules in
//! `monitoring/`, and the runbook name the same numbers as the source, each other, and nothing else.
//!
//! Names are found in the source as literals (`"dstore_…"` and `"process_…"`, tests apart), which is how numbers are told. Whether types,
//! labels and help texts are right, `tests/suite/numbers.rs` asks processes that run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::none;
use super::source::{files, root, sources};

/// Labels that Prometheus adds by itself.
const ADDED_LABELS: &[&str] = &["instance", "job", "le"];

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The numbers in the table, with their types and labels.
fn table() -> BTreeMap<String, (String, Vec<String>)> {
    let text = read("docs/METRICS.md");
    let inner = text.split("<!-- numbers -->\n").nth(1).and_then(|rest| rest.split("<!-- end").next());
    let rows = inner.expect("docs/METRICS.md has its marks").lines().skip(2);
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels))
    };
    rows.map(row).collect()
}

/// The words of a text that are names of numbers, each with what follows it.
fn names(text: &str) -> Vec<(&str, &str)> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_part) {
        let word = &rest[at..];
        let end = word.find(|letter| !is_part(letter)).unwrap_or(word.len());
        let (word, behind) = word.split_at(end);
        // `dstore_node-a` is a service of the stack `dstore`.
        if behind.starts_with(['-', '$']) {
            rest = behind;
            continue;
        }
        if word.starts_with("dstore_") || word.starts_with("process_") {
            found.push((word, behind));
        }
        rest = behind;
    }
    found
}

/// What a query names that is not in the table: numbers, and labels in the braces behind them.
fn unknown(query: &str) -> Vec<String> {
    let table = table();
    let mut findings = Vec::new();
    for (name, behind) in names(query) {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let is_histogram = |family: &&str| table.get(*family).is_some_and(|(kind, _)| kind == "histogram");
        let family = family.filter(is_histogram).unwrap_or(name);
        let Some((_, labels)) = table.get(family) else {
            findings.push(name.to_owned());
            continue;
        };
        let selector = behind.strip_prefix('{').and_then(|behind| behind.split('}').next()).unwrap_or_default();
        // A comma within a value does not come before a label.
        let pairs = selector.split(',').filter_map(|pair| pair.split_once(['=', '!']));
        let known = |label: &str| ADDED_LABELS.contains(&label) || labels.iter().any(|known| known == label);
        findings.extend(pairs.filter(|(label, _)| !known(label.trim())).map(|(label, _)| format!("{name}{{{label}}}")));
    }
    findings
}

#[test]
fn every_number_is_in_the_table() {
    let mut told = BTreeSet::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/")) {
        for ((_, _, is_test), line) in source.lines().into_iter().zip(source.text.lines()) {
            let literals = line.split('"').skip(1).step_by(2).filter(|_| !is_test);
            told.extend(
                literals.filter(|text| names(text).first().is_some_and(|(name, _)| name == text)).map(str::to_owned),
            );
        }
    }
    let table: BTreeSet<String> = table().into_keys().collect();
    none("told and not in docs/METRICS.md", told.difference(&table).cloned().collect());
    none("in docs/METRICS.md and not told", table.difference(&told).cloned().collect());
}

#[test]
fn dashboards_query_what_is_there() {
    fn queries<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                let asks = |name: &str| matches!(name, "expr" | "query");
                found.extend(fields.iter().filter(|(name, _)| asks(name)).filter_map(|(_, value)| value.as_str()));
                fields.values().for_each(|value| queries(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
            _ => {}
        }
    }
    let dashboards: Vec<String> = files(".json").into_iter().filter(|path| path.starts_with("monitoring/")).collect();
    assert_eq!(dashboards.len(), 3, "{dashboards:?}");
    let (mut findings, mut uids) = (Vec::new(), BTreeSet::new());
    for path in dashboards {
        let json: Value = serde_json::from_str(&read(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let uid = json["uid"].as_str().unwrap_or_else(|| panic!("{path} has a uid"));
        assert!(uids.insert(uid.to_owned()), "{uid} is there twice");
        for panel in json["panels"].as_array().unwrap_or_else(|| panic!("{path} has panels")) {
            let mut found = Vec::new();
            queries(panel, &mut found);
            assert!(
                !found.is_empty() && found.iter().all(|query| !names(query).is_empty()),
                "{path}: {}",
                panel["title"]
            );
        }
        let mut found = Vec::new();
        queries(&json, &mut found);
        findings.extend(found.into_iter().flat_map(unknown).map(|what| format!("{path}: {what}")));
    }
    none("dashboards query what docs/METRICS.md has", findings);
}

/// One alert rule.
#[derive(Default)]
struct Alert {
    name: String,
    query: String,
    severity: String,
    runbook: String,
}

/// The rules, in the one shape that the file is kept in, which is a part of YAML that means what it looks like.
fn alerts() -> Vec<Alert> {
    let text = read("monitoring/alerts.yml");
    let mut alerts: Vec<Alert> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once(':').unwrap_or_else(|| panic!("no key: {line}"));
        let value = value.trim();
        if key == "      - alert" {
            alerts.push(Alert { name: value.to_owned(), ..Alert::default() });
            continue;
        }
        let alert = alerts.last_mut();
        match (key, alert) {
            ("groups" | "  - name" | "    rules", None) => {}
            ("        expr", Some(alert)) => alert.query = value.to_owned(),
            ("        for", Some(_)) => assert!(value.ends_with(['m', 'h']), "{line}"),
            ("        labels", Some(alert)) => {
                let inner = value.strip_prefix("{severity: ").and_then(|value| value.strip_suffix('}'));
                alert.severity = inner.unwrap_or_else(|| panic!("{line}")).to_owned();
            }
            ("        annotations", Some(_)) => assert_eq!(value, "", "{line}"),
            ("          summary", Some(_)) => assert!(value.starts_with('"') && value.ends_with('"'), "{line}"),
            ("          runbook_url", Some(alert)) => alert.runbook = value.to_owned(),
            _ => panic!("not of the shape that rules are kept in: {line}"),
        }
    }
    alerts
}

#[test]
fn alerts_query_what_is_there_and_lead_to_the_runbook() {
    let alerts = alerts();
    let runbook = read("docs/RUNBOOK.md");
    let sections: BTreeSet<String> =
        runbook.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    let named: BTreeSet<String> = alerts.iter().map(|alert| alert.name.clone()).collect();
    assert_eq!(named.len(), alerts.len(), "each name once");
    none("alerts without a section in docs/RUNBOOK.md", named.difference(&sections).cloned().collect());
    none("sections of docs/RUNBOOK.md without an alert", sections.difference(&named).cloned().collect());
    let mut findings = Vec::new();
    for Alert { name, query, severity, runbook } in &alerts {
        findings.extend(unknown(query).into_iter().map(|what| format!("{name}: {what}")));
        let anchor = format!("/docs/RUNBOOK.md#{}", name.to_lowercase());
        let is_whole = runbook.ends_with(&anchor) && ["critical", "warning", "info"].contains(&severity.as_str());
        // In YAML these would end a text, or begin another kind of value.
        let is_plain = !query.contains(": ")
            && !query.contains(" #")
            && query.starts_with(|first: char| first.is_ascii_lowercase());
        let asks = query.starts_with("up{") || !names(query).is_empty();
        if !(is_whole && is_plain && asks) {
            findings.push(format!("{name}: severity, runbook or expr"));
        }
    }
    none("alerts are whole and query what docs/METRICS.md has", findings);
}

/// The sum of nothing is no number, and equals none.
#[test]
fn an_alert_of_a_sum_that_is_zero_fires_where_nobody_tells_the_number() {
    let is_blind =
        |query: &str| query.starts_with("sum(") && query.ends_with(") == 0") && !query.contains(" or vector(0))");
    assert!(is_blind("sum(dstore_control_leads) == 0"), "it would be found");
    let blind = alerts().into_iter().filter(|alert| is_blind(&alert.query)).map(|alert| alert.name);
    none("alerts that never fire when all processes of a kind are down", blind.collect());
}

#[test]
fn documents_name_numbers_that_are_there() {
    let mut findings = Vec::new();
    for path in files(".md").iter().filter(|path| path.starts_with("docs/")) {
        findings.extend(unknown(&read(path)).into_iter().map(|what| format!("{path}: {what}")));
    }
    none("documents name what docs/METRICS.md has", findings);
}

#[test]
fn what_is_not_there_is_found() {
    assert_eq!(unknown("sum(rate(dstore_requsts_total[5m]))"), ["dstore_requsts_total"]);
    assert_eq!(unknown("dstore_node_ranges{status=\"damaged\"} > 0"), ["dstore_node_ranges{status}"]);
    assert_eq!(unknown("dstore_node_ranges_count"), ["dstore_node_ranges_count"], "it is no histogram");
    assert_eq!(unknown("dstore_request_seconds_bucket{le=\"1\",operation=~\"a|b\"} / on (x) up"), [""; 0]);
}
