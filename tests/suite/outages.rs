//! What each role does while the coordinator, control, or both are away: running, and restarted. One table, and
//! real processes for each of its cells; docs/OPERATIONS.md shows the same table to operators.
//!
//! Nodes and proxies come in pairs: the first of each keeps no key parts, the second keeps them under a passphrase.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Member};

const TABLE: &str = "/v1/tenant/acme/table/things";
const ITEMS: u64 = 12;

/// What is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    Coordinator,
    Control,
    Both,
}

/// What a role does then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Reads and writes go on, from what may be old; `/readyz` names it.
    ServesStale(&'static str),
    /// Nothing is served before this is over; `/readyz` names what is waited for.
    Waits(&'static str),
}

use Does::{ServesStale, Waits};

/// Whether the role was running all the time, or was restarted meanwhile; with key parts kept on its disk or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Running,
    Restarted,
    RestartedWithKeptParts,
}

/// The table. Nodes and proxies are alike in it; control has rows of its own.
#[rustfmt::skip] // a table reads best as one
const MEMBERS: &[(How, Away, Does)] = &[
    (How::Running,                Away::Coordinator, ServesStale("routing table")),
    (How::Running,                Away::Control,     ServesStale("access lists")),
    (How::Running,                Away::Both,        ServesStale("routing table")),
    (How::Restarted,              Away::Coordinator, ServesStale("routing table")),
    (How::Restarted,              Away::Control,     Waits("key parts")),
    (How::Restarted,              Away::Both,        Waits("key parts")),
    (How::RestartedWithKeptParts, Away::Coordinator, ServesStale("routing table")),
    (How::RestartedWithKeptParts, Away::Control,     ServesStale("access lists")),
    (How::RestartedWithKeptParts, Away::Both,        ServesStale("routing table")),
];
/// Control's: running it hands members what it handed them before; restarted it needs the coordinator.
const CONTROL: &[(How, Away, Does)] = &[
    (How::Running, Away::Coordinator, ServesStale("coordinator")),
    (How::Restarted, Away::Coordinator, Waits("coordinator")),
];

fn expected(table: &[(How, Away, Does)], how: How, away: Away) -> Does {
    table.iter().find(|row| (row.0, row.1) == (how, away)).expect("a row").2
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outages_are_as_the_table_says() {
    let mut cluster = Cluster::start();
    cluster.add_nodes(2);
    cluster.add_proxies(2);
    cluster.until_ready().await;
    fill(&cluster).await;

    cluster.etcd.kill().unwrap();
    check(&cluster, How::Running, Away::Coordinator).await;
    check_control(&cluster, How::Running).await;
    restart_members(&mut cluster);
    check_pairs(&cluster, Away::Coordinator).await;

    cluster.kill_control();
    check(&cluster, How::Running, Away::Both).await;
    restart_members(&mut cluster);
    check_pairs(&cluster, Away::Both).await;
    cluster.begin_control();
    check_control(&cluster, How::Restarted).await;

    // Everything comes back by itself, and what was made meanwhile is found.
    cluster.etcd.restart().unwrap();
    cluster.finish_control();
    cluster.until_ready().await;
    let later = format!("{}/v1/tenant/acme/table/later", cluster.proxies[0].url());
    assert_eq!(cluster.put(&later, &json!({ "id_type": "String" })).await.0, 201);
    assert_eq!(cluster.put(&format!("{later}/id/x"), &json!({ "found": true })).await.0, 201);
    serves(&cluster, &cluster.proxies[1]).await;

    cluster.kill_control();
    check(&cluster, How::Running, Away::Control).await;
    restart_members(&mut cluster);
    check_pairs(&cluster, Away::Control).await;
    cluster.start_control();
    cluster.until_ready().await;
    cluster.until_answer(&format!("{}/v1/tenant/acme/table/later/id/x", cluster.proxies[1].url()), 200).await;
}

async fn fill(cluster: &Cluster) {
    let url = cluster.proxies[0].url();
    assert_eq!(cluster.send(reqwest::Method::PUT, &format!("{url}/v1/tenant/acme"), None).await.0, 201);
    let definition = json!({ "id_type": "Integer", "initial_ranges": 4, "replication_factor": 1 });
    assert_eq!(cluster.put(&format!("{url}{TABLE}"), &definition).await.0, 201);
    for number in 0..ITEMS {
        assert_eq!(cluster.put(&format!("{url}{TABLE}/id/{number}"), &json!({ "n": number })).await.0, 201);
    }
    // The copies on disk hold the table before anything is taken away.
    for proxy in &cluster.proxies {
        serves(cluster, proxy).await;
    }
    cluster.until_copies_are_saved().await;
}

/// Kills nodes and proxies as they stand, and starts them.
fn restart_members(cluster: &mut Cluster) {
    let (mut nodes, mut proxies) = (std::mem::take(&mut cluster.nodes), std::mem::take(&mut cluster.proxies));
    for member in nodes.iter_mut().chain(&mut proxies) {
        member.kill();
        cluster.begin(member);
    }
    (cluster.nodes, cluster.proxies) = (nodes, proxies);
}

/// All four members, as they were before.
async fn check(cluster: &Cluster, how: How, away: Away) {
    let does = expected(MEMBERS, how, away);
    for member in cluster.nodes.iter().chain(&cluster.proxies) {
        check_member(cluster, member, does).await;
    }
    if how == How::Running {
        // The proxies route as before, so every node is asked.
        serves(cluster, &cluster.proxies[0]).await;
        serves(cluster, &cluster.proxies[1]).await;
    }
}

/// After a restart: the first of each pair without kept parts, the second with them.
async fn check_pairs(cluster: &Cluster, away: Away) {
    for pair in [&cluster.nodes, &cluster.proxies] {
        check_member(cluster, &pair[0], expected(MEMBERS, How::Restarted, away)).await;
        check_member(cluster, &pair[1], expected(MEMBERS, How::RestartedWithKeptParts, away)).await;
    }
    for (proxy, how) in cluster.proxies.iter().zip([How::Restarted, How::RestartedWithKeptParts]) {
        match expected(MEMBERS, how, away) {
            ServesStale(_) => reaches_the_nodes_that_serve(cluster, proxy, away).await,
            Waits(what) => {
                let (status, body) = cluster.get(&format!("{}{TABLE}/id/1", proxy.url())).await;
                assert_eq!(status, 503, "{body}");
                assert!(body["detail"].as_str().unwrap().contains(what), "{body}");
            }
        }
    }
}

async fn check_member(cluster: &Cluster, member: &Member, does: Does) {
    let (status, list, what) = match does {
        ServesStale(what) => ("stale", "stale", what),
        Waits(what) => ("waiting", "waiting", what),
    };
    let names = |said: &Value| said[list].as_array().is_some_and(|list| list.iter().any(|one| one["what"] == what));
    cluster
        .until_member_says(member, &format!("{status} because of {what}"), |said| {
            said["status"] == status && names(said)
        })
        .await;
}

async fn check_control(cluster: &Cluster, how: How) {
    let (status, what) = match expected(CONTROL, how, Away::Coordinator) {
        ServesStale(what) => ("stale", what),
        Waits(what) => ("waiting", what),
    };
    let said = cluster.until_status(&cluster.control_health(), status, "control").await;
    assert_eq!(said[status][0]["what"], what, "{said}");
}

/// Every item is read and written through this proxy.
async fn serves(cluster: &Cluster, proxy: &Member) {
    for number in 0..ITEMS {
        let url = format!("{}{TABLE}/id/{number}", proxy.url());
        cluster.until_answer(&url, 200).await;
        assert_eq!(cluster.put(&url, &json!({ "n": number })).await.0, 200);
    }
}

/// What lies on nodes that serve is read; of the others it is said that they cannot be asked.
async fn reaches_the_nodes_that_serve(cluster: &Cluster, proxy: &Member, away: Away) {
    if away == Away::Coordinator {
        return serves(cluster, proxy).await;
    }
    let (mut served, mut refused) = (0, 0);
    for number in 0..ITEMS {
        let (status, body) = cluster.get(&format!("{}{TABLE}/id/{number}", proxy.url())).await;
        match status {
            200 => served += 1,
            503 => refused += 1,
            other => panic!("{other}: {body}"),
        }
    }
    assert!(served > 0 && refused > 0, "{served} on the node with kept parts, {refused} on the one that waits");
}
