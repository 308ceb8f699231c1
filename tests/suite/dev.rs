//! `dstore dev` as a newcomer meets it, and as a power cut does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::Method;
use rustix::process::Signal;

use crate::process::DevProcess;

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
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_dstore"))
        .args(["dev", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another dstore"));
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
}
