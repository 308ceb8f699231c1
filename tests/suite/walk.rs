//! A cluster as its operators and users meet it: made, joined, used through every door, and killed under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::process::DEADLINE;
use crate::splits::{TABLE, until_quantity};

/// Items of the walk.
const ITEMS: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_from_the_first_command_to_a_killed_node() {
    let mut cluster = Cluster::start();
    cluster.add_nodes(2);
    cluster.add_proxies(2);
    cluster.until_ready().await;
    refuses_second_starts(&mut cluster);
    makes_tables_by_either_proxy(&cluster).await;
    keeps_promises_through_proxies(&cluster).await;
    lists_over_nodes(&cluster).await;
    sends_clients_on(&cluster).await;
    tells_nobody_anothers_key(&cluster).await;
    revokes_within_seconds(&cluster).await;
    loses_nothing_when_a_node_is_killed(&mut cluster).await;
    brings_a_dropped_table_back(&mut cluster).await;
    stops_as_planned(&mut cluster).await;
}

/// One folder, one process; one token, one member; no folder of another role.
fn refuses_second_starts(cluster: &mut Cluster) {
    let url = format!("https://{}", cluster.control().address("inside"));
    let data = cluster.path("node-0").display().to_string();
    let token = cluster.path("node-0.token").display().to_string();
    let refused = |arguments: &[&str]| {
        let ports = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--control", &url];
        let output = cluster.run(&[arguments, &ports].concat());
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let node =
        |data: &str| refused(&["node", "--inside-listen", "127.0.0.1:0", "--data", data, "--join-token-file", &token]);
    let busy = node(&data);
    assert!(busy.contains("in use by another dstore"), "{busy}");
    let new = cluster.path("another").display().to_string();
    let used = node(&new);
    assert!(used.contains("not (or no longer) good"), "{used}");
    let tokenless = refused(&["proxy", "--data", &new]);
    assert!(tokenless.contains("--join-token-file"), "{tokenless}");
}

async fn makes_tables_by_either_proxy(cluster: &Cluster) {
    let (first, second) = (cluster.proxies[0].url(), cluster.proxies[1].url());
    let (status, body) = cluster.send(Method::PUT, &format!("{first}/v1/tenant/acme"), None).await;
    assert_eq!(status, 201, "{body}");
    let definition = json!({ "id_type": "Integer", "initial_ranges": 6, "replication_factor": 1 });
    let (status, body) = cluster.put(&format!("{first}{TABLE}"), &definition).await;
    assert_eq!(status, 201, "{body}");
    assert_eq!(cluster.put(&format!("{first}{TABLE}"), &definition).await.0, 200);
    cluster.until_answer(&format!("{second}{TABLE}"), 200).await;
    // It may know a table before it knows where the ranges are.
    cluster.until_answer(&format!("{second}{TABLE}/id?limit=1"), 200).await;
    let (status, _) = cluster.put(&format!("{second}{TABLE}"), &json!({ "id_type": "String" })).await;
    assert_eq!(status, 409);
    let ranges = cluster.admin(&["range", "list", "things", "--tenant", "acme"]);
    let ranges = ranges.as_array().unwrap();
    assert_eq!(ranges.len(), 6);
    assert!(ranges.iter().all(|range| range["epoch"] == 1), "each is published by its leader: {ranges:?}");
    let leaders: std::collections::HashSet<&str> =
        ranges.iter().map(|range| range["leader"].as_str().unwrap()).collect();
    assert_eq!(leaders.len(), 2, "both nodes have some");
}

async fn keeps_promises_through_proxies(cluster: &Cluster) {
    let urls = [cluster.proxies[0].url(), cluster.proxies[1].url()];
    let item = |door: usize, number: u64| format!("{}{TABLE}/id/{number}", urls[door]);
    for number in 0..ITEMS {
        let door = (number % 2) as usize;
        let (status, body) = cluster.put(&item(door, number), &json!({ "n": number })).await;
        assert_eq!(status, 201, "{body}");
        assert_eq!(cluster.get(&item(1 - door, number)).await, (200, json!({ "n": number })), "at once by the other");
    }
    // A condition travels to the node and is decided there.
    let old = cluster.request(Method::GET, &item(0, 1)).send().await.unwrap();
    let tag = old.headers()["etag"].clone();
    assert_eq!(cluster.send(Method::POST, &item(1, 1), Some(&json!({ "seen": true }))).await.0, 200);
    let stale =
        cluster.request(Method::PUT, &item(0, 1)).header("if-match", tag).header("content-type", "application/json");
    assert_eq!(stale.body("{}").send().await.unwrap().status(), 412);
    assert_eq!(cluster.get(&item(0, 1)).await.1, json!({ "n": 1, "seen": true }));

    // One write, asked for twice through two doors, happens once.
    let once = async |door: usize, body: &str| {
        let request = cluster.request(Method::PUT, &item(door, 1000)).header("idempotency-key", "the-same-write");
        let answer = request.header("content-type", "application/json").body(body.to_owned()).send().await.unwrap();
        (answer.status().as_u16(), answer.headers().get("etag").cloned())
    };
    let first = once(0, r#"{"n":1000}"#).await;
    assert_eq!((first.0, once(1, r#"{"n":1000}"#).await), (201, first.clone()));
    assert_eq!(once(1, r#"{"n":1001}"#).await.0, 422);

    // Answered early by one proxy, the receipt is read by the other.
    let early = cluster.request(Method::PUT, &item(0, 1001)).header("prefer", "respond-async");
    let early = early.header("content-type", "application/json").body(r#"{"n":1001}"#).send().await.unwrap();
    assert_eq!(early.status(), 202);
    let receipt = early.headers()["location"].to_str().unwrap().to_owned();
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (status, body) = cluster.get(&format!("{}{receipt}", urls[1])).await;
        assert_eq!(status, 200, "{body}");
        if body["state"] == "done" || body["status"] == "done" {
            break;
        }
        assert!(Instant::now() < deadline, "{body}");
    }
    for number in [1000, 1001] {
        assert_eq!(cluster.send(Method::DELETE, &item(1, number), None).await.0, 204);
    }
}

async fn lists_over_nodes(cluster: &Cluster) {
    // Control asks the nodes what they hold, over their inside listeners.
    until_quantity(cluster, ITEMS).await;

    let mut seen = Vec::new();
    let mut cursor = String::new();
    // Each page by the other proxy: cursors hold everything that a page needs.
    for page in 0.. {
        let url = format!("{}{TABLE}/id?limit=7{cursor}", cluster.proxies[page % 2].url());
        let (status, body) = cluster.get(&url).await;
        assert_eq!(status, 200, "{body}");
        let items = body["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["item"]["n"].as_u64().unwrap()));
        match body["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..ITEMS).collect::<Vec<_>>());

    let posts = format!("{}/v1/tenant/acme/table/posts", cluster.proxies[0].url());
    let definition =
        json!({ "id_type": "String", "sort_type": "Integer", "initial_ranges": 2, "replication_factor": 1 });
    assert_eq!(cluster.put(&posts, &definition).await.0, 201);
    for number in 1..=9 {
        assert_eq!(cluster.put(&format!("{posts}/id/ada/sort/{number}"), &json!({ "n": number })).await.0, 201);
    }
    let (_, body) = cluster.get(&format!("{posts}/id/ada?sort_from=3&sort_to=6&descending=true")).await;
    let sorts: Vec<i64> =
        body["items"].as_array().unwrap().iter().map(|item| item["item"]["n"].as_i64().unwrap()).collect();
    assert_eq!(sorts, [6, 5, 4, 3], "{body}");
}

/// A node asked directly serves what it holds, and says who holds the rest.
async fn sends_clients_on(cluster: &Cluster) {
    let (mut own, mut foreign) = (0, 0);
    let urls = [cluster.nodes[0].url(), cluster.nodes[1].url()];
    let alone = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for number in 0..ITEMS {
        let request = alone.get(format!("{}{TABLE}/id/{number}", urls[0])).bearer_auth(&cluster.token);
        let answer = request.send().await.unwrap();
        match answer.status().as_u16() {
            200 => own += 1,
            421 => {
                foreign += 1;
                let location = answer.headers()["location"].to_str().unwrap().to_owned();
                assert!(location.starts_with(&urls[1]), "{location}");
                assert_eq!(cluster.get(&location).await.1["n"], json!(number));
            }
            other => panic!("{other}: {:?}", answer.text().await),
        }
    }
    assert!(own > 0 && foreign > 0, "{own} here, {foreign} there");
    let (status, _) = cluster.get(&format!("{}/v1/tenant/acme", urls[1])).await;
    assert_eq!(status, 200, "a node knows the catalogue");
}

/// Over the real listener, with the real certificates: a part goes to whom it is for and to nobody else.
async fn tells_nobody_anothers_key(cluster: &Cluster) {
    let member = |name: &str| {
        let folder = std::fs::read_dir(cluster.path(name)).unwrap();
        let mut files = folder.map(|entry| entry.unwrap().path().join("member.json"));
        let file = files.find(|path| path.exists()).expect("a membership");
        serde_json::from_slice::<Value>(&std::fs::read(file).unwrap()).unwrap()
    };
    let url = format!("https://{}", cluster.control().address("inside"));
    let remote = |member: &Value| {
        let text = |name: &str| member[name].as_str().unwrap().to_owned();
        let (certificate, key, authority) = (text("certificate_pem"), text("key_pem"), text("authority_pem"));
        let identity = dstore::transport::tls::Identity::new(&certificate, &key, &authority).unwrap();
        dstore::services::control::remote::RemoteControl::new(&url, identity, &authority).unwrap()
    };
    let (node, other, proxy) = (remote(&member("node-0")), remote(&member("node-1")), remote(&member("proxy-0")));
    let own = node.key_parts().await.unwrap();
    let theirs = other.key_parts().await.unwrap();
    let proxys = proxy.key_parts().await.unwrap();
    assert!(own.own != theirs.own && own.own != proxys.own, "each has its own");
    assert!(proxys.tenants.is_empty(), "a proxy gets no tenant's part");
    let tenant = own.tenants.first().expect("the node has ranges of a tenant").0;
    assert!(node.tenant_key_parts(tenant).await.is_ok());
    let denied = dstore::domain::RefusalKind::Denied;
    assert_eq!(proxy.tenant_key_parts(tenant).await.unwrap_err().kind, denied);
    let nobodys = dstore::domain::ids::TenantId::from_bytes([9; 16]);
    let unknown = node.tenant_key_parts(nobodys).await.unwrap_err().kind;
    assert_eq!(unknown, dstore::domain::RefusalKind::NotFound, "there is no such part for anyone");
    let node_key = dstore::services::control::SecretName::from_parts(
        "node",
        member("node-1")["id"].as_str().map(|id| id.parse().unwrap()),
    );
    assert_eq!(node.key_in_use(node_key.unwrap(), 1).await.unwrap_err().kind, denied);
    // Neither does a node answer a proxy that shows no certificate of this cluster.
    let inside = cluster.nodes[0].url();
    assert_eq!(
        cluster.get(&format!("{inside}/inside/v1/key-parts")).await.0,
        404,
        "nor are inside paths served to clients"
    );
}

async fn revokes_within_seconds(cluster: &Cluster) {
    let principal = cluster.admin(&["principal", "create", "ada", "--tenant", "acme", "--may", "read"]);
    let principal = principal["id"].as_str().unwrap();
    let token = cluster.admin(&["token", "create", principal]);
    let ask = async |url: String| {
        let answer = cluster.client.get(format!("{url}{TABLE}/id/1")).bearer_auth(token["token"].as_str().unwrap());
        answer.send().await.unwrap().status().as_u16()
    };
    let eventually = async |expected: u16| {
        let started = Instant::now();
        for url in [cluster.proxies[0].url(), cluster.proxies[1].url()] {
            while ask(url.clone()).await != expected {
                assert!(started.elapsed() < DEADLINE, "never {expected}");
                tokio::task::yield_now().await;
            }
        }
        started.elapsed()
    };
    eventually(200).await;
    cluster.succeed(&["control", "principal", "revoke", principal]);
    let took = eventually(401).await;
    assert!(took.as_secs() < 30, "revoked after {took:?}");
}

/// Writers go on until the node dies; after its restart every acknowledged write is there.
async fn loses_nothing_when_a_node_is_killed(cluster: &mut Cluster) {
    const WRITERS: u64 = 8;
    let acknowledged: Vec<Arc<AtomicU64>> = (0..WRITERS).map(|_| Arc::default()).collect();
    for _ in 0..2 {
        let url = cluster.proxies[0].url();
        let tasks: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (client, token, known) =
                    (cluster.client.clone(), cluster.token.clone(), acknowledged[writer as usize].clone());
                let url = format!("{url}{TABLE}/id/{}", 5000 + writer);
                tokio::spawn(async move {
                    for number in known.load(Ordering::SeqCst) + 1.. {
                        let put = client.put(&url).bearer_auth(&token).header("content-type", "application/json");
                        match put.body(format!(r#"{{"n":{number}}}"#)).send().await {
                            Ok(answer) if answer.status().is_success() => known.store(number, Ordering::SeqCst),
                            _ => return,
                        }
                    }
                })
            })
            .collect();
        let sum = || acknowledged.iter().map(|known| known.load(Ordering::SeqCst)).sum::<u64>();
        let (goal, deadline) = (sum() + 200, Instant::now() + DEADLINE);
        while sum() < goal {
            assert!(Instant::now() < deadline, "writes came to a stop");
            tokio::task::yield_now().await;
        }
        for member in &mut cluster.nodes {
            member.kill();
            // The new addresses are published, and learned by the proxies.
            member.forget_ports();
        }
        for task in tasks {
            task.await.unwrap();
        }
        let mut nodes = std::mem::take(&mut cluster.nodes);
        nodes.iter_mut().for_each(|member| cluster.begin(member));
        cluster.nodes = nodes;
        cluster.until_ready().await;
        for (writer, known) in acknowledged.iter().enumerate() {
            let known = known.load(Ordering::SeqCst);
            // Through the other proxy; the nodes listen on other ports now, and that is learned.
            let body =
                cluster.until_answer(&format!("{}{TABLE}/id/{}", cluster.proxies[1].url(), 5000 + writer), 200).await;
            let stored = body["n"].as_u64().unwrap();
            assert!(stored == known || stored == known + 1, "writer {writer}: stored {stored}, acknowledged {known}");
            acknowledged[writer].store(stored, Ordering::SeqCst);
        }
    }
}

/// A table that is dropped and brought back has its items, though its ranges were served before.
async fn brings_a_dropped_table_back(cluster: &mut Cluster) {
    let url = format!("{}{TABLE}", cluster.proxies[0].url());
    assert_eq!(cluster.send(Method::DELETE, &url, None).await.0, 204);
    cluster.until_answer(&url, 404).await;
    cluster.succeed(&["control", "table", "undelete", "things", "--tenant", "acme"]);
    for number in 2..ITEMS {
        assert_eq!(cluster.until_answer(&format!("{url}/id/{number}"), 200).await, json!({ "n": number }));
    }
}

/// A node that is asked to stop says that it is down, and comes back as it was.
async fn stops_as_planned(cluster: &mut Cluster) {
    let mut nodes = std::mem::take(&mut cluster.nodes);
    assert_eq!(nodes[0].stop(), Some(0));
    let listed = cluster.admin(&["node", "list"]);
    let stopped = listed.as_array().unwrap().iter().find(|node| node["name"] == "node-0").unwrap();
    assert_eq!((&stopped["status"], &stopped["alive"]), (&json!("down"), &json!(false)), "{listed}");
    cluster.begin(&mut nodes[0]);
    cluster.nodes = nodes;
    cluster.until_ready().await;
    assert_eq!(
        cluster.until_answer(&format!("{}{TABLE}/id/2", cluster.proxies[0].url()), 200).await,
        json!({ "n": 2 })
    );
    for member in &mut cluster.proxies {
        assert_eq!(member.stop(), Some(0));
    }
    cluster.control().signal(Signal::TERM);
    assert_eq!(cluster.control.take().unwrap().wait_for_end(), Some(0));
}
