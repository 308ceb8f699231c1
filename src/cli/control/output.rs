//! How answers are printed: JSON as it came, or for people a table (lists), a line for each name (single things) or, for
//! histories, a block for each version.
//!
//! A command only names the [`columns`](Shown::columns) that people want to see of it, in their order: a list shows
//! exactly these, a single thing shows them first and the rest behind. A column is the path of a field (`table.name`,
//! `tenant.1`), with a title before it where the path would make a poor one (`tenant=tenant.1`). Programs get all
//! fields under their own names, so what people see may change and scripts go on.

use std::path::Path;

use serde_json::Value;

use super::local_indexes;
use crate::cli::OutputFormat;
use crate::domain::byte_size;

/// An answer, and how people want it.
pub(super) struct Shown {
    pub(super) answer: Value,
    /// See the module's text.
    pub(super) columns: &'static [&'static str],
    /// What is said where the answer is empty because all there was to do is done.
    pub(super) done: String,
    /// Whether it is a history.
    pub(super) is_history: bool,
}

impl Shown {
    /// This answer in these columns.
    pub(super) fn new(answer: Value, columns: &'static [&'static str]) -> Self {
        Self { answer, columns, done: "done".to_owned(), is_history: false }
    }

    /// An empty answer, and what was done.
    pub(super) fn done(answer: Value, what: impl Into<String>) -> Self {
        Self { done: what.into(), ..Self::new(answer, &[]) }
    }

    /// A list in the order of these fields: the coordinator gives what goes by UUID in no order that means anything.
    pub(super) fn sorted_by(mut self, paths: &[&str]) -> Self {
        if let Value::Array(rows) = &mut self.answer {
            // Times are numbers, names are text; neither is compared with the other.
            let key = |row: &Value| {
                let part = |path: &&str| {
                    let value = field(row, path);
                    (value.as_u64(), value.as_str().unwrap_or_default().to_owned())
                };
                paths.iter().map(part).collect::<Vec<_>>()
            };
            rows.sort_by_cached_key(key);
        }
        self
    }

    /// Prints it to stdout.
    pub(super) fn print(&self, format: OutputFormat) {
        match format {
            OutputFormat::Json => println!("{}", self.answer),
            OutputFormat::Human => print!("{}", self.human()),
        }
    }

    /// As people see it.
    pub(super) fn human(&self) -> String {
        match &self.answer {
            Value::Null => format!("{}\n", self.done),
            Value::Array(rows) if rows.is_empty() => "(none)\n".to_owned(),
            Value::Array(rows) if self.is_history => rows.iter().map(version).collect::<Vec<_>>().join("\n"),
            Value::Array(rows) => table(rows, self.columns),
            Value::Object(_) => lines(&self.answer, self.columns),
            other => format!("{}\n", cell("", other)),
        }
    }
}

/// A column's title and path.
fn column(text: &str) -> (String, &str) {
    let (title, path) = text.split_once('=').unwrap_or((text, text));
    (title.replace(['_', '.'], " "), path)
}

fn field<'a>(row: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(row, |value, step| match step.parse::<usize>() {
        Ok(index) if value.is_array() => &value[index],
        _ => &value[step],
    })
}

/// All names of these rows, in alphabetical order, but for those that `columns` draws from.
fn other_names(rows: &[Value], columns: &[&str]) -> Vec<String> {
    let is_drawn = |name: &str| columns.iter().any(|text| column(text).1.split('.').next() == Some(name));
    let names = rows.iter().filter_map(Value::as_object).flat_map(|row| row.keys());
    let names: std::collections::BTreeSet<&String> = names.filter(|name| !is_drawn(name)).collect();
    names.into_iter().cloned().collect()
}

fn lines(answer: &Value, columns: &[&str]) -> String {
    let others = other_names(std::slice::from_ref(answer), columns);
    let shown = columns.iter().copied().chain(others.iter().map(String::as_str)).map(column);
    let shown: Vec<(String, String)> = shown
        .filter(|(_, path)| !field(answer, path).is_null())
        .map(|(title, path)| (title, cell(path, field(answer, path))))
        .collect();
    let width = shown.iter().map(|(title, _)| title.len()).max().unwrap_or(0);
    shown.into_iter().map(|(title, text)| format!("{title:width$}  {text}\n")).collect()
}

fn table(rows: &[Value], columns: &[&str]) -> String {
    let others = if columns.is_empty() { other_names(rows, columns) } else { Vec::new() };
    let columns: Vec<(String, &str)> =
        columns.iter().copied().chain(others.iter().map(String::as_str)).map(column).collect();
    let mut all: Vec<Vec<String>> = vec![columns.iter().map(|(title, _)| title.to_uppercase()).collect()];
    all.extend(rows.iter().map(|row| columns.iter().map(|(_, path)| cell(path, field(row, path))).collect()));
    let width = |column: usize| all.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in &all {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// One version of a resource: number, when, who; then what it was and what it became.
fn version(version: &Value) -> String {
    let shown = |name: &str| cell(name, &version[name]);
    let (number, at, who) = (shown("number"), shown("at"), shown("who"));
    format!("{number}  {at}  {who}\n   before  {}\n   after   {}\n", shown("before"), shown("after"))
}

fn cell(path: &str, value: &Value) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(is_so) if name == "current" => if *is_so { "*" } else { "" }.to_owned(),
        Value::Bool(is_so) => if *is_so { "yes" } else { "no" }.to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if is_time(name) => time(number).unwrap_or_else(|| number.to_string()),
        Value::Number(number) if name == "age_seconds" => age(number.as_u64().unwrap_or(0)),
        Value::Number(number) if ["storage_bytes", "stored_bytes"].contains(&name) => {
            byte_size::show(number.as_u64().unwrap_or(0))
        }
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Array(_) if name == "local_indexes" => {
            local_indexes::shown(value).unwrap_or_else(|| readable(value).to_string())
        }
        Value::Array(values) if values.iter().all(Value::is_string) => {
            values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        }
        other => readable(other).to_string(),
    }
}

fn is_time(name: &str) -> bool {
    name.ends_with("_at") || name == "at" || name.ends_with("_until")
}

/// Microseconds since 1970 as people write them.
fn time(number: &serde_json::Number) -> Option<String> {
    let time = jiff::Timestamp::from_microsecond(number.as_i64()?).ok()?;
    Some(format!("{time:.0}"))
}

/// The two largest units of a time span.
fn age(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, length) in units {
        if rest >= length || (unit == "s" && parts.is_empty()) {
            parts.push(format!("{}{unit}", rest / length));
        }
        rest %= length;
    }
    parts.truncate(2);
    parts.join(" ")
}

/// The same value with times that can be read.
fn readable(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let shown = fields.iter().map(|(name, value)| {
                let text = value.as_number().filter(|_| is_time(name)).and_then(time);
                (name.clone(), text.map_or_else(|| readable(value), Value::String))
            });
            Value::Object(shown.collect())
        }
        Value::Array(values) => values.iter().map(readable).collect(),
        other => other.clone(),
    }
}

/// A file for a secret, made before the secret is: what cannot be kept is not asked for. Removed again unless it
/// is written.
pub(super) struct SecretFile<'a> {
    path: Option<&'a Path>,
    file: Option<std::fs::File>,
}

impl<'a> SecretFile<'a> {
    /// A new file, for its owner only; nothing where no path is given.
    pub(super) fn create(path: Option<&'a Path>) -> Result<Self, String> {
        use std::os::unix::fs::OpenOptionsExt;
        let Some(at) = path else { return Ok(Self { path, file: None }) };
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(at);
        let file = file.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => format!("{} is there already; choose another file", at.display()),
            _ => format!("{}: {error}", at.display()),
        })?;
        Ok(Self { path, file: Some(file) })
    }

    /// Whether there is one.
    pub(super) fn is_wanted(&self) -> bool {
        self.file.is_some()
    }

    /// Writes a line to it.
    pub(super) fn write(mut self, text: &str) -> Result<(), String> {
        use std::io::Write;
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let written =
            file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all());
        let shown = self.path.map(|path| path.display().to_string()).unwrap_or_default();
        written.map_err(|error| format!("{shown}: {error}"))
    }
}

impl Drop for SecretFile<'_> {
    fn drop(&mut self) {
        if let (Some(_), Some(path)) = (&self.file, self.path) {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn human(answer: Value, columns: &'static [&'static str]) -> String {
        Shown::new(answer, columns).human()
    }

    #[test]
    fn lists_are_tables_in_the_order_that_was_asked_for() {
        let rows = json!([
            { "id": "a", "created_at": 1_767_225_600_000_000_u64, "owner": ["u", "acme"], "more": 1 },
            { "id": "long", "is_new": true, "owner": null }
        ]);
        let expected = "\
            ID    OWNER  CREATED AT\n\
            a     acme   2026-01-01T00:00:00Z\n\
            long  -      -\n";
        assert_eq!(human(rows.clone(), &["id", "owner=owner.1", "created_at"]), expected);
        assert!(human(rows, &[]).starts_with("CREATED AT            ID    IS NEW  MORE  OWNER\n"));
        assert_eq!(human(json!([]), &["id"]), "(none)\n");
    }

    #[test]
    fn single_things_are_lines_and_nothing_is_left_out() {
        let answer = json!({ "nodes": 3, "plane": "x", "note": "", "gone": null, "may": ["read", "write"] });
        assert_eq!(human(answer, &["plane"]), "plane  x\nmay    read,write\nnodes  3\nnote   -\n");
        assert_eq!(Shown::done(Value::Null, "dropped").human(), "dropped\n");
    }

    #[test]
    fn local_indexes_are_spelled_as_they_are_typed() {
        let index =
            json!({ "name": "by-total", "attribute": "total", "key_type": "Integer", "projection": "keys-only" });
        let rows =
            json!([{ "name": "a", "local_indexes": [index] }, { "name": "b" }, { "name": "c", "local_indexes": [1] }]);
        let expected = "\
            NAME  LOCAL INDEXES\n\
            a     by-total=total:Integer:keys-only\n\
            b     -\n\
            c     [1]\n";
        assert_eq!(human(rows, &["name", "local_indexes"]), expected);
    }

    #[test]
    fn lists_are_put_in_order() {
        let rows = json!([{ "n": "b", "at": 2 }, { "n": "a", "at": 10 }, { "n": "a", "at": 9 }, { "at": 1 }]);
        let shown = Shown::new(rows, &[]).sorted_by(&["n", "at"]);
        let order: Vec<u64> = shown.answer.as_array().unwrap().iter().map(|row| row["at"].as_u64().unwrap()).collect();
        assert_eq!(order, [1, 9, 10, 2]);
    }

    #[test]
    fn a_history_is_a_block_for_each_version() {
        let versions = json!([{ "number": 2, "at": 1_767_225_600_000_000_u64, "who": "root", "before": {"created_at": 1_767_225_600_000_000_u64} }]);
        let shown = Shown { is_history: true, ..Shown::new(versions, &[]) };
        let expected =
            "2  2026-01-01T00:00:00Z  root\n   before  {\"created_at\":\"2026-01-01T00:00:00Z\"}\n   after   -\n";
        assert_eq!(shown.human(), expected);
    }

    #[test]
    fn ages_have_two_units() {
        let ages = [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3600, "1h"), (90_061, "1d 1h"), (172_800, "2d")];
        for (seconds, text) in ages {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn a_secret_file_is_new_closed_to_others_and_gone_if_there_was_no_secret() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        drop(SecretFile::create(Some(&path)).unwrap());
        assert!(!path.exists());
        SecretFile::create(Some(&path)).unwrap().write("t").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "t\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(SecretFile::create(Some(&path)).is_err(), "never over another");
    }
}
