//! Proof that the cluster of containers keeps its promises: `docker/swarm.yml` as `make swarm` deploys it, clients that write down
//! what they were told, and one thing after the other taken away from under them.
//!
//! | what happens, while clients write and read | what is asked |
//! |---|---|
//! | the container of a node is killed; then that of a proxy | each request is answered within 3 tries and 10 seconds, under one Idempotency-Key |
//! | all of control and two of three members of etcd are stopped, and brought back | the same |
//! | another image is rolled out to all nodes | the same |
//! | the end | every acknowledged write is there, through both proxies |
//! | from a container in the clients' network | nobody but the proxies can be reached |
//! | `scripts/swarm.sh down` | nothing is left, and a swarm that was there before still is |
//!
//! It needs a Docker Engine and says that it was skipped where none answers. Where the Engine has no overlay networks, the script puts the same
//! containers into bridge networks and says so; `DSTORE_NETWORKS=bridge` asks for that. `DSTORE_TEST_BINARY` names another binary than
//! the one that was built for the tests, as an optimised one.

mod clients;
mod stack;

use std::time::Duration;

use clients::Clients;
use stack::Stack;

/// So many more acknowledged writes tell that the cluster serves on.
const PROGRESS: usize = 60;
/// How long clients may take for that.
const PROGRESS_WAIT: Duration = Duration::from_secs(60);

/// Says something past the harness, which would keep what a test prints that passes.
fn say(what: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(format!("{what}\n").as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_serves_on_while_its_parts_are_killed_stopped_and_updated() {
    if let Err(why) = stack::engine() {
        return say(&format!("SKIPPED: {why}"));
    }
    let mut stack = Stack::up();
    let clients = Clients::begin(&stack).await;
    clients.until_progress(PROGRESS, PROGRESS_WAIT).await;

    stack.kill("node-b");
    clients.until_progress(PROGRESS, PROGRESS_WAIT).await;
    stack.start(&["node-b"]);
    stack.until_caught_up().await;
    stack.kill("proxy-1");
    clients.until_progress(PROGRESS, PROGRESS_WAIT).await;
    stack.start(&["proxy-1"]);

    let away = ["control-1", "control-2", "etcd-2", "etcd-3"];
    stack.stop(&away);
    clients.until_progress(PROGRESS, PROGRESS_WAIT).await;
    stack.start(&away);
    stack.until_caught_up().await;

    let image = stack.another_image();
    stack.script(&["update", &image, "node-a", "node-b", "node-c"]);
    for node in ["node-a", "node-b", "node-c"] {
        assert_eq!(stack.image_of(node), stack.id_of(&image), "{node}");
    }
    clients.until_progress(PROGRESS, PROGRESS_WAIT).await;

    let told = clients.end().await;
    assert!(told.complaints.is_empty(), "{:#?}", told.complaints);
    let missing = told.missing(&stack).await;
    assert!(missing.is_empty(), "acknowledged and gone: {missing:#?}");
    say(&format!(
        "swarm: {} writes acknowledged and there, {} reads, the slowest request took {} tries and {} ms, on {} networks",
        told.written.len(),
        told.reads,
        told.tries_max,
        told.slowest.as_millis(),
        stack.networks(),
    ));
    let reached = stack.reached_by_clients();
    assert!(reached.is_empty(), "clients reach {reached:?}");
    stack.down();
}
