//! How answers are printed: JSON as it came, or a table for people. Any answer can be shown either way, so a
//! command does not say how it looks.

use serde_json::Value;

use crate::cli::OutputFormat;

/// Prints an answer to stdout.
pub(super) fn print(answer: &Value, format: OutputFormat) {
    match format {
        OutputFormat::Json => println!("{answer}"),
        OutputFormat::Human => print!("{}", human(answer)),
    }
}

/// An answer as text: a list is a table, an object is a line for each name.
fn human(answer: &Value) -> String {
    match answer {
        Value::Null => "done\n".to_owned(),
        Value::Array(rows) if rows.is_empty() => "(none)\n".to_owned(),
        Value::Array(rows) => table(rows),
        Value::Object(fields) => {
            let width = fields.keys().map(String::len).max().unwrap_or(0);
            fields.iter().map(|(name, value)| format!("{name:width$}  {}\n", cell(name, value))).collect()
        }
        other => format!("{}\n", cell("", other)),
    }
}

fn table(rows: &[Value]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for row in rows.iter().filter_map(Value::as_object) {
        for name in row.keys() {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
    }
    let mut lines: Vec<Vec<String>> = vec![names.iter().map(|name| name.to_uppercase().replace('_', " ")).collect()];
    lines.extend(rows.iter().map(|row| names.iter().map(|name| cell(name, &row[*name])).collect()));
    let widths: Vec<usize> = (0..names.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn cell(name: &str, value: &Value) -> String {
    let is_time = name.ends_with("_at") || name == "at" || name.ends_with("_until");
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if is_time => number
            .as_i64()
            .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
            .map_or_else(|| number.to_string(), |time| format!("{time:.0}")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_are_tables_and_objects_are_lines() {
        let rows = json!([{ "id": "a", "created_at": 1_767_225_600_000_000_u64 }, { "id": "long", "zone": "b" }]);
        let expected = "\
            CREATED AT            ID    ZONE\n\
            2026-01-01T00:00:00Z  a     -\n\
            -                     long  b\n";
        assert_eq!(human(&rows), expected);
        assert_eq!(human(&json!({ "nodes": 3, "plane": "x" })), "nodes  3\nplane  x\n");
        assert_eq!(human(&json!([])), "(none)\n");
        assert_eq!(human(&Value::Null), "done\n");
    }
}
