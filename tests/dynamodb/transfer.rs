//! `dstore control table import` and `export` against a server: what goes in comes out, through plain and compressed files, after stops
//! at any place, and with lines that cannot be taken.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::process::{DevProcess, dstore};
use crate::{Door, run};

/// A server with a table of String keys, and a folder.
struct Bench {
    dev: DevProcess,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(tables: &[&str]) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let bench = Bench { dev: DevProcess::start(&folder.path().join("data"), &[]), folder };
        for table in tables {
            bench.dev.cli_prints(&["table", "create", table, "--id-type", "String"]);
        }
        bench
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// `dstore control table …` with the flags that name the server.
    fn table(&self, arguments: &[&str]) -> Output {
        let mut command = dstore(&self.dev.contexts());
        command.args(["control", "--output", "json", "table"]).args(arguments).args(["--url", &self.dev.url]);
        command.arg("--access-key-file").arg(self.path("data/credentials.json")).current_dir(self.folder.path());
        command.output().expect("the binary starts")
    }

    /// The same, which has to succeed; the JSON that it printed.
    fn table_prints(&self, arguments: &[&str]) -> Value {
        let ran = self.table(arguments);
        assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice(&ran.stdout).expect("is JSON")
    }

    fn write(&self, name: &str, lines: &[String]) {
        std::fs::write(self.path(name), lines.join("\n") + "\n").expect("is written");
    }

    /// The lines of a file, in order.
    fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(name)).expect("is there");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }
}

fn line(number: usize) -> String {
    format!(
        r#"{{"Item":{{"big":{{"S":"{}"}},"id":{{"S":"item {number:05}"}},"n":{{"N":"{number}"}},"set":{{"NS":["1.5","{number}"]}}}}}}"#,
        "x".repeat(number % 97)
    )
}

/// Lines as values, in the order of their IDs. The order of a set's members means nothing.
fn values(lines: &[String]) -> Vec<Value> {
    let ordered = |line: &String| {
        let mut value: Value = serde_json::from_str(line).expect("is JSON");
        if let Some(set) = value["Item"]["set"]["NS"].as_array_mut() {
            set.sort_by_key(|member| member.as_str().map(str::to_owned));
        }
        value
    };
    let mut values: Vec<Value> = lines.iter().map(ordered).collect();
    values.sort_by_key(|value| value["Item"]["id"]["S"].as_str().map(str::to_owned));
    values
}

#[test]
fn what_is_imported_is_exported() {
    let bench = Bench::new(&["one", "two"]);
    let lines: Vec<String> = (0..1234).map(line).collect();
    bench.write("in.json", &lines);
    let told = bench.table_prints(&["import", "one", "in.json"]);
    assert_eq!((&told["items"], &told["rejected"]), (&1234.into(), &0.into()), "{told}");
    let told = bench.table_prints(&["export", "one", "--out", "out.json.gz"]);
    assert_eq!(told["items"], 1234, "{told}");
    bench.table_prints(&["import", "two", "out.json.gz"]);
    bench.table_prints(&["export", "two", "--out", "out.json"]);
    assert!(values(&bench.lines("out.json")) == values(&lines), "what came out is not what went in");
    let left = std::fs::read_dir(bench.folder.path()).expect("is there").filter_map(Result::ok);
    let left: Vec<String> = left.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    assert!(!left.iter().any(|name| name.contains("position") || name.contains("rejected")), "{left:?}");
    let again = bench.table(&["export", "two", "--out", "out.json"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("is there already"), "nothing is written over");
}

#[test]
fn lines_that_cannot_be_taken_are_set_aside_and_nothing_else_is_lost() {
    let bench = Bench::new(&["one"]);
    let mut lines: Vec<String> = (0..300).map(line).collect();
    let bad = [
        (7, "no JSON at all".to_owned()),
        (100, r#"{"Item":{"n":{"N":"1"}}}"#.to_owned()),
        (101, r#"{"Item":{"n":{"N":"2"}}}"#.to_owned()),
        (250, r#"{"Item":{"id":{"S":"x"},"n":{"N":"many"}}}"#.to_owned()),
        (299, r#"{"Keys":{},"NewImage":{}}"#.to_owned()),
    ];
    for (at, line) in &bad {
        lines.insert(*at, line.clone());
    }
    // Of two lines with one key the later one wins.
    lines.push(r#"{"Item":{"id":{"S":"item 00000"},"n":{"N":"1000"}}}"#.to_owned());
    bench.write("in.json", &lines);
    let ran = bench.table(&["import", "one", "in.json"]);
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(1), "{told}");
    assert!(told.contains("5 lines were set aside"), "{told}");
    let mut rejected: Vec<String> = bad.into_iter().map(|(_, line)| line).collect();
    rejected.sort_unstable();
    assert_eq!(bench.lines("in.json.rejected"), rejected);
    assert_eq!(bench.lines("in.json.reasons").len(), 5);
    let summary: Value = serde_json::from_slice(&ran.stdout).expect("is JSON");
    assert_eq!((&summary["lines"], &summary["items"]), (&306.into(), &301.into()), "{summary}");
    assert_eq!(bench.table_prints(&["export", "one", "--out", "out.json"])["items"], 300);
    assert!(bench.lines("out.json").iter().any(|line| line.contains("\"1000\"")), "the later line won");
    let again = bench.table(&["import", "one", "in.json"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("move it away"), "old rejects are not mixed with new ones");
}

#[test]
fn both_go_on_where_they_were() {
    let bench = Bench::new(&["one", "two"]);
    let lines: Vec<String> = (0..450).map(line).collect();
    // A file that breaks off in the middle of its third wave, as a copy does that was cut.
    let whole = compressed(&lines);
    std::fs::write(bench.path("in.gz"), &whole[..whole.len() - 6]).expect("is written");
    let cut = bench.table(&["import", "one", "in.gz"]);
    assert_eq!(cut.status.code(), Some(1), "{}", String::from_utf8_lossy(&cut.stderr));
    let kept: Value =
        serde_json::from_slice(&std::fs::read(bench.path("in.gz.position")).expect("is kept")).expect("JSON");
    assert!(kept["lines"].as_u64().is_some_and(|lines| lines >= 400), "{kept}");
    // The position is of a file of that length; the whole one is another work until it is told so.
    std::fs::write(bench.path("in.gz"), &whole).expect("is written");
    let other = bench.table(&["import", "one", "in.gz"]);
    assert!(String::from_utf8_lossy(&other.stderr).contains("belongs to another work"));
    let renewed = kept.to_string().replace(&(whole.len() - 6).to_string(), &whole.len().to_string());
    std::fs::write(bench.path("in.gz.position"), renewed).expect("is written");
    let told = bench.table_prints(&["import", "one", "in.gz"]);
    assert_eq!((&told["lines"], &told["items"]), (&450.into(), &450.into()), "{told}");

    // An export that was killed behind its first page: the output holds more than the position says.
    bench.table_prints(&["export", "one", "--out", "whole.json"]);
    let url = &bench.dev.url;
    let position = format!(r#"{{"table":"one","url":"{url}","items":0,"bytes":0,"next":null,"is_read":false}}"#);
    std::fs::write(bench.path("out.json.position"), position).expect("is written");
    std::fs::write(bench.path("out.json"), "{\"Item\":{\"torn").expect("is written");
    assert_eq!(bench.table_prints(&["export", "one", "--out", "out.json"])["items"], 450);
    assert_eq!(bench.lines("out.json"), bench.lines("whole.json"));
}

/// The same item with a sort key and, for two of three, an attribute that an index orders by.
fn indexed_line(number: usize) -> String {
    let word = if number.is_multiple_of(3) { String::new() } else { format!(r#""word":{{"S":"w{}"}},"#, number % 7) };
    line(number).replace(r#""set":"#, &format!(r#""sort":{{"N":"{number}"}},{word}"set":"#))
}

/// What the index has of both tables.
const INDEX_SCRIPT: &str = r#"
import os, boto3
db = boto3.client("dynamodb", endpoint_url=os.environ["DSTORE_URL"], region_name="us-east-1")
for table in ["one", "two"]:
    items = db.scan(TableName=table, IndexName="by-word", ConsistentRead=True)["Items"]
    found = sorted((int(item["sort"]["N"]), item["word"]["S"]) for item in items)
    assert found == [(number, f"w{number % 7}") for number in range(300) if number % 3], found
    assert all(set(item) == {"id", "sort", "word"} for item in items), items[0]
    print(f"ok {table}")
print("done 2")
"#;

#[test]
fn a_table_with_local_indexes_is_imported_and_exported_like_any_other() {
    let bench = Bench::new(&[]);
    for table in ["one", "two"] {
        let keys = ["--id-type", "String", "--sort-type", "Integer", "--local-index", "by-word=word:String:keys-only"];
        bench.dev.cli_prints(&[&["table", "create", table][..], &keys].concat());
    }
    let lines: Vec<String> = (0..300).map(indexed_line).collect();
    bench.write("in.json", &lines);
    bench.table_prints(&["import", "one", "in.json"]);
    bench.table_prints(&["export", "one", "--out", "out.json"]);
    assert!(values(&bench.lines("out.json")) == values(&lines), "what came out is not what went in");

    // What no index can hold is set aside like any other line that cannot be taken.
    let mut bad = [(1, r#"{"N":"1"}"#), (2, r#"{"S":""}"#)]
        .map(|(sort, word)| format!(r#"{{"Item":{{"id":{{"S":"bad"}},"sort":{{"N":"{sort}"}},"word":{word}}}}}"#));
    let mut mixed = bench.lines("out.json");
    bad.iter().for_each(|line| mixed.insert(100, line.clone()));
    bench.write("mixed.json", &mixed);
    let ran = bench.table(&["import", "two", "mixed.json"]);
    assert_eq!(ran.status.code(), Some(1), "{}", String::from_utf8_lossy(&ran.stderr));
    bad.sort_unstable();
    assert_eq!(bench.lines("mixed.json.rejected"), bad);

    let path = bench.path("index.py");
    std::fs::write(&path, INDEX_SCRIPT).expect("is written");
    let door = Door::of(&bench.dev, &bench.path("data"));
    run(door.command(&path.display().to_string()), "what the indexes have", |_, _| {});
}

fn compressed(lines: &[String]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all((lines.join("\n") + "\n").as_bytes()).expect("is compressed");
    encoder.finish().expect("is compressed")
}

#[test]
fn what_is_missing_is_said_with_its_code() {
    let bench = Bench::new(&[]);
    bench.write("in.json", &[line(1)]);
    assert_eq!(bench.table(&["export", "nowhere", "--out", "out.json"]).status.code(), Some(4));
    assert_eq!(bench.table(&["import", "nowhere", "in.json"]).status.code(), Some(4));
    assert!(!bench.path("out.json").exists(), "nothing is left behind");
    let key = bench.path("wrong.json");
    std::fs::write(&key, r#"{"access_key_id":"DSTKAAAAAAAAAAAAAAAA","secret_access_key":"x"}"#).expect("is written");
    let mut command = dstore(&bench.dev.contexts());
    command.args(["control", "table", "import", "one"]).arg(bench.path("in.json")).args(["--url", &bench.dev.url]);
    let refused = command.arg("--access-key-file").arg(&key).output().expect("the binary starts");
    assert_eq!(refused.status.code(), Some(5), "{}", String::from_utf8_lossy(&refused.stderr));
}

/// `dstore bench --protocol dynamodb` measures every workload without a failure.
#[test]
fn the_benchmark_speaks_the_protocol() {
    let bench = Bench::new(&[]);
    for workload in ["a", "e", "f", "put"] {
        let mut command = dstore(&bench.dev.contexts());
        command.args([
            "bench",
            "--protocol",
            "dynamodb",
            "--workload",
            workload,
            "--records",
            "200",
            "--operations",
            "400",
        ]);
        command.args(["--connections", "4", "--warm-up", "0", "--output", "json", "--url", &bench.dev.url]);
        command.arg("--access-key-file").arg(bench.path("data/credentials.json"));
        let ran = command.output().expect("the binary starts");
        assert!(ran.status.success(), "{workload}: {}", String::from_utf8_lossy(&ran.stderr));
        let report: Value = serde_json::from_slice(&ran.stdout).expect("is JSON");
        assert_eq!((&report["operations"], &report["failures"]), (&400.into(), &0.into()), "{report}");
    }
}

/// The example in the README, as it stands there but for the address and the place of the credentials.
#[test]
fn the_example_in_the_readme_works() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("is there");
    let block = readme.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = block.expect("the README has an example in Python");
    assert!(example.lines().filter(|line| !line.trim().is_empty()).count() <= 5, "an example of at most five lines");
    let bench = Bench::new(&[]);
    assert_eq!(example.matches("http://127.0.0.1:8080").count(), 1);
    let script = example.replace("http://127.0.0.1:8080", &bench.dev.url);
    let path = bench.path("example.py");
    std::fs::write(&path, format!("{script}\nprint('ok example')\nprint('done 1')\n")).expect("is written");
    let door = Door::of(&bench.dev, &bench.path("data"));
    let mut printed = String::new();
    run(door.command(&path.display().to_string()), "the README's example", |line, _| printed += line);
    assert!(printed.contains("'name': 'Ada'"), "{printed}");
}
