//! `dstore dev` as a newcomer meets it, and as a power cut does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::Method;
use rustix::process::Signal;

use crate::process::{DevProcess, dstore, wait_for_output};

const TABLE: &str = "/v1/tenant/default/table/things";

#[tokio::test]
async fn the_tutorial_works_and_data_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = DevProcess::start(folder.path(), &[]);
    assert_eq!(dev.put("/v1/tenant/acme", "").await.0, 201);
    assert_eq!(dev.put("/v1/tenant/acme", "").await.0, 200);
    let users = "/v1/tenant/acme/table/users";
    let (status, body) = dev.put(users, r#"{"id_type":"String"}"#).await;
    assert_eq!(status, 201, "{body}");
    let (status, body) = dev.put(&format!("{users}/id/ada"), r#"{"name":"Ada","langs":["en","fr"]}"#).await;
    assert_eq!(status, 201, "{body}");
    let (status, body) = dev.get(&format!("{users}/id/ada")).await;
    assert_eq!(status, 200, "{body}");
    let stored: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(stored, serde_json::json!({"name": "Ada", "langs": ["en", "fr"]}));
    let merge = dev.request(Method::POST, &format!("{users}/id/ada")).header("content-type", "application/json");
    assert_eq!(merge.body(r#"{"born":1815,"langs":null}"#).send().await.unwrap().status(), 200);
    let (_, body) = dev.get(&format!("{users}/id?limit=10")).await;
    assert!(body.contains(r#""born":1815"#) && !body.contains("langs"), "{body}");

    let posts = "/v1/tenant/acme/table/posts";
    assert_eq!(dev.put(posts, r#"{"id_type":"String","sort_type":"Integer"}"#).await.0, 201);
    for number in 1..=12 {
        assert_eq!(dev.put(&format!("{posts}/id/ada/sort/{number}"), r#"{"title":"Notes"}"#).await.0, 201);
    }
    let (_, body) = dev.get(&format!("{posts}/id/ada?sort_from=2&sort_to=10")).await;
    let page: serde_json::Value = serde_json::from_str(&body).unwrap();
    let sorts: Vec<String> = page["items"].as_array().unwrap().iter().map(|item| item["sort"].to_string()).collect();
    assert_eq!(sorts.len(), 9, "{body}");
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended(), Some(0), "a clean stop");

    let again = DevProcess::start(folder.path(), &[]);
    assert_eq!(again.token, dev.token, "the credentials stay");
    let stored: serde_json::Value = serde_json::from_str(&again.get(&format!("{users}/id/ada")).await.1).unwrap();
    assert_eq!(stored, serde_json::json!({"name": "Ada", "born": 1815}));
    assert_eq!(again.request(Method::DELETE, &format!("{users}/id/ada")).send().await.unwrap().status(), 204);
    assert_eq!(again.get(&format!("{users}/id/ada")).await.0, 404);
}

#[tokio::test]
async fn several_nodes_share_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let dev = DevProcess::start(folder.path(), &["--nodes", "3"]);
    assert_eq!(dev.put(TABLE, r#"{"id_type":"Integer","initial_ranges":6}"#).await.0, 201);
    for number in 0..60 {
        assert_eq!(dev.put(&format!("{TABLE}/id/{number}"), &format!(r#"{{"n":{number}}}"#)).await.0, 201);
    }
    let mut seen = Vec::new();
    let mut path = format!("{TABLE}/id?limit=7");
    loop {
        let page: serde_json::Value = serde_json::from_str(&dev.get(&path).await.1).unwrap();
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["item"]["n"].as_u64().unwrap()));
        match page["cursor"].as_str() {
            Some(cursor) => path = format!("{TABLE}/id?limit=7&cursor={cursor}"),
            None => break,
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
}

#[test]
fn a_second_process_over_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = DevProcess::start(folder.path(), &[]);
    let second = wait_for_output(
        dstore(&folder.path().join("cli.toml")).args(["dev", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path()),
    );
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another dstore"));
}

#[test]
fn admin_commands_work_in_the_next_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let dev = DevProcess::start(folder.path(), &[]);
    let status: serde_json::Value =
        serde_json::from_str(&dev.cli_prints(&["status", "--output", "json"])).expect("a line of JSON");
    assert_eq!((&status["nodes"], &status["tenants"]), (&1.into(), &1.into()), "{status}");
    assert!(dev.cli_prints(&["context", "show"]).contains("default"), "the default tenant is the context's");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(dev.contexts()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_context_in_use_stays_in_use() {
    let (folder, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let work = "current = 'work'\n[contexts.work]\nurl = 'http://127.0.0.1:1'\ntoken = 'x'\n";
    std::fs::write(home.path().join("cli.toml"), work).unwrap();
    let dev = DevProcess::start_at_home(home, &["dev"], folder.path(), &[]);
    let elsewhere = dev.cli(&["status"]);
    assert_eq!(elsewhere.status.code(), Some(3), "it still asks the cluster of work, which is not there");
    dev.cli_prints(&["context", "use", "dev"]);
    dev.cli_prints(&["status"]);
    let list = dev.cli_prints(&["context", "list", "--output", "json"]);
    assert!(list.contains("work") && list.contains("dev"), "{list}");
}

#[tokio::test]
async fn credentials_that_were_revoked_are_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let kept = || -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(folder.path().join("credentials.json")).unwrap()).unwrap()
    };
    let mut dev = DevProcess::start(folder.path(), &[]);
    let before = kept();
    let sessions: serde_json::Value =
        serde_json::from_str(&dev.cli_prints(&["token", "list", "--output", "json"])).unwrap();
    dev.cli_prints(&["token", "revoke", sessions[0]["id"].as_str().unwrap()]);
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended(), Some(0));

    let mut dev = DevProcess::start(folder.path(), &[]);
    assert_ne!(dev.token, before["token"].as_str().unwrap());
    assert_eq!(dev.get("/v1/tenant").await.0, 200);
    assert_eq!(kept()["access_key_id"], before["access_key_id"], "what still works stays");
    dev.cli_prints(&["access-key", "revoke", before["access_key_id"].as_str().unwrap()]);
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended(), Some(0));

    let again = DevProcess::start(folder.path(), &[]);
    assert_eq!(again.token, dev.token);
    assert_ne!(kept()["access_key_id"], before["access_key_id"]);
}

#[test]
fn a_node_that_was_removed_does_not_come_back_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = DevProcess::start(folder.path(), &["--nodes", "2"]);
    dev.cli_prints(&["node", "remove", "node-2"]);
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended(), Some(0));
    let refused = wait_for_output(
        dstore(&dev.contexts()).args(["dev", "--listen", "127.0.0.1:0", "--nodes", "2", "--data"]).arg(folder.path()),
    );
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && told.contains("delete the folder"), "{told}");
    std::fs::remove_dir_all(folder.path().join("node-2")).unwrap();
    let again = DevProcess::start(folder.path(), &["--nodes", "2"]);
    let status = again.cli_prints(&["status"]);
    let alive = status.lines().find_map(|line| line.strip_prefix("nodes alive")).map(str::trim);
    assert_eq!(alive, Some("2"), "a new node in its place");
}

#[test]
fn an_admin_port_that_is_taken_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = wait_for_output(
        dstore(&folder.path().join("cli.toml"))
            .args(["dev", "--listen", "127.0.0.1:0", "--admin-listen", &address, "--data"])
            .arg(folder.path().join("data")),
    );
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("Choose another with --admin-listen"), "{told}");
}

#[tokio::test]
async fn a_passphrase_seals_every_key_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (data, words) = (folder.path().join("data"), folder.path().join("passphrase"));
    std::fs::write(&words, "correct horse battery staple\n").unwrap();
    std::fs::set_permissions(&words, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // Begun in clear, so that what is there has to be sealed.
    let mut dev = DevProcess::start(&data, &["--nodes", "2"]);
    assert_eq!(dev.put(TABLE, r#"{"id_type":"String"}"#).await.0, 201);
    assert_eq!(dev.put(&format!("{TABLE}/id/a"), r#"{"n":1}"#).await.0, 201);
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended(), Some(0));
    let flags = ["--nodes", "2", "--passphrase-file", words.to_str().unwrap()];
    for _ in 0..2 {
        let mut dev = DevProcess::start(&data, &flags);
        assert_eq!(dev.get(&format!("{TABLE}/id/a")).await.1, r#"{"n":1}"#);
        dev.signal(Signal::TERM);
        assert_eq!(dev.ended(), Some(0));
    }
    let keys = files_named(&data, &["control.key", "node.key"]);
    assert_eq!(keys.len(), 3, "{keys:?}");
    for key in keys {
        assert!(std::fs::read(&key).unwrap().starts_with(b"dStoreCK"), "{} is in clear", key.display());
    }
    let refused = wait_for_output(
        dstore(&folder.path().join("cli.toml"))
            .args(["dev", "--listen", "127.0.0.1:0", "--nodes", "2", "--data"])
            .arg(&data),
    );
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && told.contains("--passphrase-file"), "{told}");
}

fn files_named(folder: &std::path::Path, names: &[&str]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_named(&path, names));
        } else if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| names.contains(&name)) {
            found.push(path);
        }
    }
    found
}

/// Writers go on until the process dies; what each knows to be acknowledged is checked after the restart.
async fn write_until_killed(dev: Arc<DevProcess>, writer: u64, first: u64, acknowledged: Arc<AtomicU64>) {
    for number in first.. {
        let path = format!("{TABLE}/id/{writer}");
        let put = dev
            .request(Method::PUT, &path)
            .header("content-type", "application/json")
            .body(format!(r#"{{"n":{number},"pad":"{}"}}"#, "x".repeat(300)));
        match put.send().await {
            Ok(answer) if answer.status().is_success() => acknowledged.store(number, Ordering::SeqCst),
            _ => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_kills_lose_nothing_acknowledged() {
    const WRITERS: u64 = 8;
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--set", "log.segment_mib=4", "--set", "log.budget_mib=64", "--set", "memory.tables_mib=2"];
    let acknowledged: Vec<Arc<AtomicU64>> = (0..WRITERS).map(|_| Arc::default()).collect();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..200 {
        let dev = Arc::new(DevProcess::start(folder.path(), &flags));
        if round == 0 {
            assert_eq!(dev.put(TABLE, r#"{"id_type":"Integer"}"#).await.0, 201);
        }
        for (writer, known) in acknowledged.iter().enumerate() {
            let known = known.load(Ordering::SeqCst);
            let (status, body) = dev.get(&format!("{TABLE}/id/{writer}")).await;
            if known == 0 && status == 404 {
                continue;
            }
            let stored: serde_json::Value =
                serde_json::from_str(&body).unwrap_or_else(|_| panic!("round {round}: {status} {body}"));
            let stored = stored["n"].as_u64().unwrap();
            assert!(
                stored == known || stored == known + 1,
                "round {round}, writer {writer}: stored {stored}, acknowledged {known}"
            );
            acknowledged[writer].store(stored, Ordering::SeqCst);
        }
        let tasks: Vec<_> = acknowledged
            .iter()
            .enumerate()
            .map(|(writer, known)| {
                let first = known.load(Ordering::SeqCst) + 1;
                tokio::spawn(write_until_killed(dev.clone(), writer as u64, first, known.clone()))
            })
            .collect();
        // A random number of acknowledged writes, not a random time: the kill falls anywhere in the work.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let start: u64 = acknowledged.iter().map(|known| known.load(Ordering::SeqCst)).sum();
        let goal = start + (random >> 33) % 60;
        let deadline = std::time::Instant::now() + crate::process::DEADLINE;
        while acknowledged.iter().map(|known| known.load(Ordering::SeqCst)).sum::<u64>() < goal {
            assert!(std::time::Instant::now() < deadline, "round {round}: writes came to a stop");
            tokio::task::yield_now().await;
        }
        dev.signal(Signal::KILL);
        for task in tasks {
            task.await.unwrap();
        }
    }
    assert_eq!(crate::integrity::check_all_files(folder.path()).await, 1, "every file is sound");
}
