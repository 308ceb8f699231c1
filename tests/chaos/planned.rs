//! What is planned, or touches nobody's data, fails no request: nodes restarted one by one, the coordinator gone, control
//! gone. Proxies may ask again; clients do not notice.

use crate::cluster::{Cluster, Shape};
use crate::faults::{Fault, wait};
use crate::verify::verify;
use crate::workload::{CALM_TIMEOUT, Running};

const SHAPE: Shape = Shape { nodes: 3, replication_factor: crate::FACTOR, ranges: 6 };
const CLIENTS: u64 = 4;
const SEED: u64 = 1;
/// So much is asked before something is done, and again before it is judged.
const OPERATIONS: u64 = 100;

async fn nothing_fails(running: &Running) {
    running.until_operations(OPERATIONS).await;
    let unserved = running.workload.unserved();
    assert!(
        unserved.is_empty(),
        "{} requests were not served:\n{}",
        unserved.len(),
        unserved[..unserved.len().min(20)].join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_request() {
    let _alone = crate::alone().await;
    if crate::FACTOR == 1 {
        return crate::say("SKIPPED: a restart that fails no request takes more than one copy of a range");
    }
    let Some(mut cluster) = Cluster::start(SHAPE).await else { return };
    let running = Running::start(&cluster, CLIENTS, SEED, CALM_TIMEOUT);
    running.until_operations(OPERATIONS).await;
    for number in 0..SHAPE.nodes {
        let name = format!("node-{number}");
        let restart = Fault::Restart(name.clone());
        restart.begin(&mut cluster).await;
        restart.end(&mut cluster);
        cluster.until_ready(&[&name]).await;
        cluster.until_caught_up().await;
    }
    nothing_fails(&running).await;
    let workload = running.stop().await;
    verify(&mut cluster, &workload, SEED).await;
}

/// Reads and writes go on while one of these is gone, and so does failover.
async fn goes_on_without(name: &str) {
    let _alone = crate::alone().await;
    let Some(mut cluster) = Cluster::start(SHAPE).await else { return };
    cluster.until_copies_are_saved().await;
    let running = Running::start(&cluster, CLIENTS, SEED, CALM_TIMEOUT);
    running.until_operations(OPERATIONS).await;
    cluster.member(name).kill();
    wait(3.0).await;
    nothing_fails(&running).await;
    if crate::FACTOR > 1 {
        cluster.nodes[0].kill();
        // Every range answers again, though nobody tells the proxies who leads it now.
        cluster.until_every_range_answers().await;
        cluster.begin("node-0");
        cluster.until_ready(&["node-0"]).await;
        cluster.until_caught_up().await;
    }
    let workload = running.stop().await;
    cluster.begin(name);
    verify(&mut cluster, &workload, SEED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_coordinator_reads_writes_and_failover_go_on() {
    goes_on_without("etcd").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_control_reads_writes_and_failover_go_on() {
    goes_on_without("control").await;
}
