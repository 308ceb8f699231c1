//! Processes that are killed in mid-write. The test program starts itself again as a child, which
//! runs only the test [`child_process`].

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::support::*;
use crate::domain::ids::FileId;
use crate::storage::vfs::*;

const ROUNDS: u32 = 40;

/// Starts a child that does `work` with the fixture's file.
pub(super) fn child(work: &str, fixture: &Fixture) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "storage::vfs::tests::crash::child_process", "--ignored", "--nocapture", "--test-threads=1"])
        .env("DSTORE_TEST_WORK", work)
        .env("DSTORE_TEST_PATH", &fixture.path)
        .env("DSTORE_TEST_FILE", fixture.identity.file.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What a child said last, when it has ended.
pub(super) fn last_line(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().filter_map(|line| line.strip_prefix("say ")).next_back().unwrap_or_default().to_owned()
}

fn say(words: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nsay {words}").unwrap();
    out.flush().unwrap();
}

/// Not a test of its own: what the children of the other tests do.
#[test]
#[ignore = "runs only as a child of other tests"]
fn child_process() {
    let Ok(path) = std::env::var("DSTORE_TEST_PATH") else { return };
    let path = std::path::Path::new(&path);
    let file: FileId = std::env::var("DSTORE_TEST_FILE").unwrap().parse().unwrap();
    register(random()).unwrap();
    let key = unlock(path, &kek(1)).unwrap();
    let options = OpenOptions { cache_pages: 10, busy_timeout_ms: 10, ..OpenOptions::default() };
    let connection = match open(path, file, &key, &options) {
        Ok(connection) => connection,
        Err(_) => return say(format_args!("refused")),
    };
    if std::env::var("DSTORE_TEST_WORK").as_deref() == Ok("open") {
        return say(format_args!("opened"));
    }
    let first: u32 =
        connection.query_row("SELECT coalesce(max(id), -1) + 1 FROM secret_table", [], |row| row.get(0)).unwrap();
    for id in (first..).step_by(3) {
        insert(&connection, id..id + 3);
        if id % 5 == 0 {
            // Enough to spill out of the cache, so that frames are overwritten.
            connection.execute_batch("BEGIN IMMEDIATE; UPDATE secret_table SET secret_column = upper(secret_column); UPDATE secret_table SET secret_column = lower(secret_column); COMMIT").unwrap();
        }
        sync_wal(path).unwrap();
        say(format_args!("{}", id + 2));
        if id % 7 == 0 {
            checkpoint(&connection).unwrap();
        }
    }
}

#[test]
fn kill_9_loses_no_synced_commit() {
    let fixture = Fixture::with_rows(3);
    for round in 0..ROUNDS {
        let mut child = child("write", &fixture);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = None;
        // After one to thirteen acknowledged commits; the child is at work on the next one when it dies.
        let mut wanted = 1 + round * 7 % 13;
        while wanted > 0 {
            let line = lines.next().expect("the child writes until it is killed").unwrap();
            if let Some(id) = line.strip_prefix("say ") {
                acknowledged = Some(id.parse::<u32>().unwrap());
                wanted -= 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            acknowledged = line.strip_prefix("say ").and_then(|id| id.parse().ok()).or(acknowledged);
        }
        let connection = fixture.open();
        let found = rows(&connection).unwrap();
        assert!(found.iter().copied().eq(0..found.len() as u32), "whole commits, in order");
        assert_eq!(found.len() % 3, 0, "a commit has three rows");
        assert!(found.len() as u32 > acknowledged.unwrap(), "round {round}: every acknowledged row is there");
        assert_eq!(integrity(&connection), "ok");
    }
    assert!(rows(&fixture.open()).unwrap().len() as u32 > ROUNDS * 3);
}
