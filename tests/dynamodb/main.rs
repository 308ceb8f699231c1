//! The DynamoDB door as clients use it that AWS publishes: boto3 (client and resource) and aws-cli, unmodified, against `dstore dev`
//! with one node and with three, over HTTPS, and against a cluster of processes of which the leading node is killed.
//!
//! What is checked stands in the scripts beside this file, a check a function; `checks.py` tells how they speak. Here servers are started,
//! and each line of a script becomes part of one assertion. The clients live in `target/clients`, which `scripts/bootstrap.sh test`
//! makes. Which check covers which parameter stands in docs/dynamodb.md, and a check of that page keeps it true.

#![allow(dead_code)] // of helpers that the suite uses otherwise

#[path = "../suite/cluster.rs"]
mod cluster;
mod hosts;
#[path = "../suite/process.rs"]
mod process;
mod transfer;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use cluster::Cluster;
use process::DevProcess;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Python with the clients.
fn python() -> PathBuf {
    let python = root().join("target/clients/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/bootstrap.sh test", python.display());
    python
}

/// What a script needs to know of a server.
struct Door {
    url: String,
    token: String,
    tenant: String,
    access_key_id: String,
    secret_access_key: String,
}

impl Door {
    fn of(dev: &DevProcess, data: &Path) -> Door {
        let kept = std::fs::read(data.join("credentials.json")).expect("credentials are kept");
        let kept: Value = serde_json::from_slice(&kept).expect("is JSON");
        let text = |name: &str| kept[name].as_str().unwrap_or_else(|| panic!("{name} is kept")).to_owned();
        Door {
            url: dev.url.clone(),
            token: dev.token.clone(),
            tenant: text("tenant"),
            access_key_id: text("access_key_id"),
            secret_access_key: text("secret_access_key"),
        }
    }

    /// A script as a command, knowing nothing of who runs the tests.
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(python());
        command.args(["-B", "-W", "ignore"]).arg(root().join("tests/dynamodb").join(script));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            command.env_remove(name);
        }
        command
            .env("DSTORE_URL", &self.url)
            .env("DSTORE_TOKEN", &self.token)
            .env("DSTORE_TENANT", &self.tenant)
            .env("AWS_ACCESS_KEY_ID", &self.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret_access_key)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1");
        command
    }
}

/// Runs a script and asserts what it tells; `spoken` sees each line, and may answer to the script's stdin.
fn run(mut command: Command, script: &str, mut spoken: impl FnMut(&str, &mut Child)) {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut child = child.expect("python starts");
    let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    let (mut good, mut bad, mut done) = (0, Vec::new(), None);
    for line in lines {
        let line = line.expect("a line is text");
        match line.split_once(' ') {
            Some(("ok", _)) => good += 1,
            Some(("not", rest)) => bad.push(rest.trim_start_matches("ok ").to_owned()),
            Some(("done", count)) => done = count.parse::<usize>().ok(),
            Some(("#", told)) => println!("{script}: {told}"),
            _ => {}
        }
        spoken(&line, &mut child);
    }
    let ended = child.wait().expect("the script ends");
    assert!(bad.is_empty(), "{script}: {} of {} checks failed:\n  {}", bad.len(), good + bad.len(), bad.join("\n  "));
    assert!(ended.success() && done == Some(good) && good > 0, "{script} broke off after {good} checks: {ended}");
}

/// Runs scripts one after another against a `dstore dev` of their own.
fn against_dev(flags: &[&str], scripts: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let dev = DevProcess::start(folder.path(), flags);
    let door = Door::of(&dev, folder.path());
    for script in scripts {
        run(door.command(script), script, |_, _| {});
    }
}

#[test]
fn items() {
    against_dev(&[], &["items.py", "batches.py"]);
}

#[test]
fn updates_and_conditions() {
    against_dev(&[], &["updates.py", "conditions.py"]);
}

#[test]
fn reading() {
    against_dev(&[], &["reading.py", "eventual.py"]);
}

#[test]
fn values() {
    against_dev(&[], &["values.py"]);
}

#[test]
fn tables() {
    against_dev(&[], &["tables.py", "table_changes.py", "arns.py"]);
}

/// Items whose time is over are looked for every second, so that a check can wait until they are removed.
const EXPIRY_EACH_SECOND: [&str; 2] = ["--set", "node.expiry_period=1"];

#[test]
fn sizes_of_tables() {
    against_dev(&EXPIRY_EACH_SECOND, &["table_sizes.py"]);
}

#[test]
fn local_indexes() {
    against_dev(&EXPIRY_EACH_SECOND, &["local_indexes.py", "local_index_writes.py", "local_index_tables.py"]);
}

#[test]
fn local_indexes_over_three_nodes() {
    let flags = [&["--nodes", "3"][..], &EXPIRY_EACH_SECOND].concat();
    against_dev(&flags, &["local_indexes.py", "local_index_writes.py", "local_index_tables.py"]);
}

#[test]
fn parameters_from_before_expressions() {
    against_dev(&[], &["legacy.py"]);
}

#[test]
fn what_stands_around_operations() {
    against_dev(&[], &["errors.py"]);
}

#[test]
fn both_doors_lead_to_the_same_items() {
    against_dev(&[], &["doors.py"]);
}

#[test]
fn applications_and_aws_cli() {
    against_dev(&[], &["applications.py"]);
}

#[test]
fn the_same_over_three_nodes() {
    against_dev(&["--nodes", "3"], &["items.py", "updates.py", "batches.py", "reading.py", "doors.py", "tables.py"]);
}

#[test]
fn more_of_the_same_over_three_nodes() {
    against_dev(&["--nodes", "3"], &["eventual.py", "conditions.py", "values.py", "legacy.py", "errors.py"]);
}

#[test]
fn random_operations_do_as_a_model_does() {
    against_dev(&[], &["model.py"]);
    against_dev(&["--nodes", "3"], &["model.py"]);
}

#[test]
fn the_page_names_every_parameter_and_checks_that_are_there() {
    let door = Door {
        url: String::new(),
        token: String::new(),
        tenant: String::new(),
        access_key_id: "none".to_owned(),
        secret_access_key: "none".to_owned(),
    };
    run(door.command("page.py"), "page.py", |_, _| {});
}

/// A cluster of processes, and the door of its first proxy.
struct Served {
    cluster: Cluster,
    door: Door,
}

impl Served {
    /// Three nodes and two proxies, with a tenant and an access key.
    async fn start() -> Served {
        let mut cluster = Cluster::start();
        cluster.add_nodes(3);
        cluster.add_proxies(2);
        cluster.until_ready().await;
        cluster.succeed(&["control", "tenant", "create", "acme"]);
        cluster.succeed(&["control", "principal", "create", "app", "--tenant", "acme", "--may", "read,write,admin"]);
        let key = cluster.admin(&["access-key", "create", "app"]);
        let text = |name: &str| key[name].as_str().expect("an access key").to_owned();
        let door = Door {
            url: cluster.proxies[0].url(),
            token: cluster.token.clone(),
            tenant: "acme".to_owned(),
            access_key_id: text("access_key_id"),
            secret_access_key: text("secret_access_key"),
        };
        Served { cluster, door }
    }

    /// Runs a script that is told of both proxies and of a table. Where it asks for it, the node is killed that leads the first
    /// range of a table.
    fn run(mut self, script: &str, table: &str) {
        let mut command = self.door.command(script);
        let urls: Vec<String> = self.cluster.proxies.iter().map(cluster::Member::url).collect();
        command.env("DSTORE_PROXIES", urls.join(",")).env("DSTORE_TABLE", table);
        let mut kills = 0;
        tokio::task::block_in_place(|| {
            run(command, script, |line, child| {
                let Some(table) = line.strip_prefix("kill the leader of ") else { return };
                kill_leader(&mut self.cluster, table);
                kills += 1;
                let stdin = child.stdin.as_mut().expect("stdin is piped");
                stdin.write_all(b"killed\n").expect("is told");
            });
        });
        assert_eq!(kills, 1, "a node was killed while {script} was at work");
    }
}

/// Two clients at two proxies, while the node that leads the counter's range is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_and_repeats_nothing() {
    Served::start().await.run("counter.py", "counters");
}

/// boto3's resource and aws-cli, with the retries that they have as they are shipped, while the node is killed that leads all
/// they use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_of_an_application_fails_for_a_killed_leader() {
    let served = Served::start().await;
    let keys = ["--id-type", "String", "--sort-type", "Integer", "--initial-ranges", "1"];
    served.cluster.succeed(&[&["control", "table", "create", "failover", "--tenant", "acme"][..], &keys].concat());
    served.run("failover.py", "failover");
}

/// Kills the node that leads the first range of a table, with SIGKILL.
fn kill_leader(cluster: &mut Cluster, table: &str) {
    let ranges = cluster.admin(&["range", "list", table, "--tenant", "acme"]);
    let leader = ranges[0]["leader"].as_str().expect("a leader").to_owned();
    let nodes = cluster.admin(&["node", "list"]);
    let node = nodes.as_array().expect("nodes").iter().find(|node| node["id"] == leader.as_str()).expect("is a node");
    let number: usize =
        node["name"].as_str().and_then(|name| name.strip_prefix("node-")?.parse().ok()).expect("a name");
    cluster.nodes[number].kill();
}
