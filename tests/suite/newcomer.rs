//! What a newcomer types: every line of the README's tutorial, and every line that `dstore dev` prints to be pasted.
//! Both are taken from where they stand and run by bash, so that neither can rot.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::process::{DevProcess, dstore, wait_for_output};

/// The commands of the tutorial, as they stand in the README.
fn tutorial() -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let section = readme.split("\n## Tutorial\n").nth(1).expect("the README has a tutorial");
    let block = section.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    block.expect("the tutorial has a block of commands").to_owned()
}

fn bash(script: &str, folder: &Path, contexts: &Path) -> Output {
    let mut command = Command::new("bash");
    command.args(["-eu", "-o", "pipefail", "-c", script]).current_dir(folder);
    command.env_remove("DSTORE_CONFIG").env_remove("DSTORE_CONTEXT").env("DSTORE_CLI_CONFIG", contexts);
    // Where scripts/bootstrap.sh puts aws-cli.
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/bin");
    command.env("PATH", format!("{}:{}", clients.display(), std::env::var("PATH").unwrap_or_default()));
    wait_for_output(&mut command)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_tutorial_in_the_readme_works_line_by_line() {
    let tutorial = tutorial();
    assert!(tutorial.lines().count() <= 20, "a tutorial of at most 20 lines");
    let (start, rest) = tutorial.split_once('\n').unwrap();
    assert!(start.starts_with("make dev "), "{start}");
    let folder = tempfile::tempdir().unwrap();
    let dev = DevProcess::start(&folder.path().join("dstore-data"), &[]);
    let binaries = Path::new(env!("CARGO_BIN_EXE_dstore")).parent().unwrap();
    for (stands, count) in [("http://127.0.0.1:8080", 1), ("$PWD/target/quick", 1)] {
        assert_eq!(rest.matches(stands).count(), count, "{stands}");
    }
    let script =
        rest.replace("http://127.0.0.1:8080", &dev.url).replace("$PWD/target/quick", &binaries.display().to_string());
    let ran = bash(&script, folder.path(), &dev.contexts());
    let told = text(&ran.stdout);
    assert!(ran.status.success(), "{told}\n{}", text(&ran.stderr));
    let lines: Vec<&str> = told.lines().collect();
    // What each line of the tutorial has to bring, in its order.
    let expected = [
        ("\"tenant\":\"acme\"", "201"),
        ("\"table\":\"users\"", "201"),
        ("", "201"),
        ("{\"langs\":[\"en\",\"fr\"],\"name\":\"Ada\"}", "200"),
        ("", "200"),
        ("\"born\":1815", "200"),
        ("\"sort_type\":\"Integer\"", "201"),
        ("", "201"),
        ("{\"title\":\"Notes\"}", "200"),
        ("", "204"),
    ];
    for (line, (part, status)) in lines.iter().zip(expected) {
        assert!(line.contains(part) && line.ends_with(&format!(" {status}")), "{line} has no {part} {status}");
    }
    for part in ["nodes", "posts", "users", "root"] {
        assert!(told.contains(part), "{part} in:\n{told}");
    }
}

#[test]
fn what_dev_prints_can_be_pasted() {
    let folder = tempfile::tempdir().unwrap();
    let contexts = folder.path().join("cli.toml");
    let mut child = dstore(&contexts)
        .args(["dev", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("data"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut printed = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        printed.push(line.unwrap());
        if printed.last().unwrap().starts_with("Stop with") {
            break;
        }
    }
    let commands: Vec<&str> = printed
        .iter()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| line.contains(" -") || line.contains(" control "))
        .collect();
    let ran = bash(&commands.join("\n"), folder.path(), &contexts);
    child.kill().unwrap();
    child.wait().unwrap();
    let told = text(&ran.stdout);
    assert!(ran.status.success(), "{commands:?}\n{told}\n{}", text(&ran.stderr));
    assert_eq!(commands.len(), 6, "{commands:?}");
    let wanted = [
        "\"table\":\"things\"",
        "HTTP 201",
        "{\"greeting\":\"world\",\"stars\":[1,2,3]}",
        "TableNames",
        "nodes",
        "things",
    ];
    for part in wanted {
        assert!(told.contains(part), "{part} in:\n{told}");
    }
}
