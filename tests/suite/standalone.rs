//! A node on its own: it serves the whole core API, and its folder can go on as that of a `dstore dev`.

use rustix::process::Signal;

use crate::process::{DevProcess, dstore, wait_for_output};

const USERS: &str = "/v1/tenant/acme/table/users";

#[tokio::test]
async fn a_node_on_its_own_serves_the_whole_core_api() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = DevProcess::start_as(&["node", "--standalone"], folder.path(), &[]);
    assert_eq!(node.put("/v1/tenant/acme", "").await.0, 201);
    assert_eq!(node.put(USERS, r#"{"id_type":"String"}"#).await.0, 201);
    assert_eq!(node.put(&format!("{USERS}/id/ada"), r#"{"name":"Ada"}"#).await.0, 201);
    assert!(!node.contexts().exists(), "a server touches nobody's contexts");
    let credentials = folder.path().join("credentials.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&credentials).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    node.cli_prints(&["login", "--credentials-file", credentials.to_str().unwrap()]);
    assert!(node.cli_prints(&["table", "list", "--tenant", "acme"]).contains("users"));
    node.signal(Signal::TERM);
    assert_eq!(node.ended(), Some(0), "a clean stop");

    let mut again = DevProcess::start_as(&["node", "--standalone"], folder.path(), &[]);
    assert_eq!(again.token, node.token, "the credentials stay");
    assert_eq!(again.get(&format!("{USERS}/id/ada")).await.1, r#"{"name":"Ada"}"#);
    again.signal(Signal::TERM);
    assert_eq!(again.ended(), Some(0));

    let mut dev = DevProcess::start(folder.path(), &["--nodes", "2"]);
    assert_eq!(dev.get(&format!("{USERS}/id/ada")).await.1, r#"{"name":"Ada"}"#);
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended(), Some(0));
    let refused = start_and_refuse(folder.path());
    assert!(refused.contains("2 nodes") && refused.contains("--nodes 2"), "{refused}");
}

fn start_and_refuse(data: &std::path::Path) -> String {
    let refused = wait_for_output(
        dstore(&data.join("cli.toml")).args(["node", "--standalone", "--listen", "127.0.0.1:0", "--data"]).arg(data),
    );
    assert_eq!(refused.status.code(), Some(1));
    String::from_utf8(refused.stderr).unwrap()
}

#[test]
fn what_is_printed_for_people_holds_no_secret() {
    use std::io::BufRead;
    let folder = tempfile::tempdir().unwrap();
    let mut child = dstore(&folder.path().join("cli.toml"))
        .args(["node", "--standalone", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("data"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = String::new();
    for line in std::io::BufReader::new(child.stdout.take().unwrap()).lines() {
        told.push_str(&format!("{}\n", line.unwrap()));
        if told.contains("Stop with") {
            break;
        }
    }
    let kept = std::fs::read_to_string(folder.path().join("data/credentials.json"));
    child.kill().unwrap();
    child.wait().unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept.unwrap()).unwrap();
    assert!(told.contains(kept["url"].as_str().unwrap()) && told.contains("credentials.json"), "{told}");
    for secret in ["token", "secret_access_key"] {
        assert!(!told.contains(kept[secret].as_str().unwrap()), "{secret}");
    }
}

#[tokio::test]
async fn clients_are_served_with_a_certificate_where_one_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let settings = [format!("client.tls_cert={}", cert.display()), format!("client.tls_key={}", key.display())];
    let flags = ["--set", &settings[0], "--set", &settings[1]];
    let node = DevProcess::start_as(&["node", "--standalone"], &folder.path().join("data"), &flags);
    assert!(node.url.starts_with("https://127.0.0.1:"), "{}", node.url);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let trusting = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(trusting).build().unwrap();
    let asked = client.get(format!("{}/v1/tenant", node.url)).bearer_auth(&node.token).send().await.unwrap();
    assert_eq!(asked.status(), 200);
    let distrusting = node.request(reqwest::Method::GET, "/v1/tenant").send().await;
    assert!(distrusting.is_err(), "who does not know the authority talks to nobody");
}
