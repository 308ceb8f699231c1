//! By which names the door is reached: over HTTPS with a certificate, by HTTP/2, and at hosts of tenants.
//!
//! The hosts lie below a domain that nobody has. No resolver is asked for them: the clients here are told where they are.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use dstore::cli::dynamodb::credentials::Credentials;
use dstore::cli::dynamodb::signing::{CONTENT_TYPE, Signer, TARGET_PREFIX};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::process::DevProcess;
use crate::{Door, run};

/// The domain below which tenants have hosts.
const DOMAIN: &str = "db.test";
/// The operation that tells by which host it was asked.
const OPERATION: &str = "DescribeEndpoints";

/// A node on its own that serves HTTPS, and the authority that signed its certificate: in `authority.pem`, and as it is.
fn serve_https(folder: &Path) -> (DevProcess, rcgen::Certificate) {
    let mut authority = rcgen::CertificateParams::new(vec![]).expect("no names");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(rcgen::DnType::CommonName, "an authority of a test");
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let trusted = authority.self_signed(&authority_key).expect("is signed");
    let issuer = rcgen::Issuer::new(authority, authority_key);

    let mut leaf = rcgen::CertificateParams::new(["127.0.0.1".to_owned(), format!("*.{DOMAIN}")]).expect("names");
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "a server of a test");
    leaf.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let leaf_key = rcgen::KeyPair::generate().expect("a key");
    let shown = leaf.signed_by(&leaf_key, &issuer).expect("is signed");

    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(folder.join("authority.pem"), trusted.pem()).expect("is written");
    std::fs::write(&cert, shown.pem()).expect("is written");
    std::fs::write(&key, leaf_key.serialize_pem()).expect("is written");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("is private");
    let settings = [
        format!("client.tls_cert={}", cert.display()),
        format!("client.tls_key={}", key.display()),
        format!("client.domain={DOMAIN}"),
    ];
    let flags: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting.as_str()]).collect();
    (DevProcess::start_as(&["node", "--standalone"], &folder.join("data"), &flags), trusted)
}

/// A script that asks hosts by their names, for which no proxy is to be asked either.
fn by_name(door: &Door, script: &str) -> Command {
    let mut command = door.command(script);
    command.env("DSTORE_DOMAIN", DOMAIN).env("NO_PROXY", "*").env("no_proxy", "*");
    command
}

#[test]
fn https_for_those_who_know_the_authority() {
    let folder = tempfile::tempdir().expect("a folder");
    let (node, _) = serve_https(folder.path());
    let door = Door::of(&node, &folder.path().join("data"));
    let mut command = by_name(&door, "https.py");
    command.env("DSTORE_AUTHORITY", folder.path().join("authority.pem"));
    run(command, "https.py", |_, _| {});
}

/// Asks one host by HTTP/2, with a signature for a host that may be another; status and body.
async fn ask(client: &reqwest::Client, door: &Door, asked: &str, signed: &str) -> (u16, Value) {
    let credentials = Credentials {
        access_key_id: door.access_key_id.clone(),
        secret_access_key: Zeroizing::new(door.secret_access_key.clone()),
        session_token: None,
    };
    let mut signer = Signer::new(credentials, "us-east-1".to_owned(), signed.to_owned());
    let signature = signer.sign(jiff::Timestamp::now(), OPERATION, b"{}");
    let request = client
        .post(format!("https://{asked}/"))
        .header("content-type", CONTENT_TYPE)
        .header("x-amz-target", format!("{TARGET_PREFIX}{OPERATION}"))
        .header("x-amz-date", signature.date)
        .header("authorization", signature.authorization);
    let answer = request.body("{}").send().await.expect("an answer");
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    let status = answer.status().as_u16();
    (status, answer.json().await.expect("is JSON"))
}

/// HTTP/2 has no header `host`: what counts, for signatures and for tenants, is `:authority`.
#[tokio::test]
async fn the_authority_of_http_2_is_the_host() {
    let folder = tempfile::tempdir().expect("a folder");
    let (node, trusted) = serve_https(folder.path());
    let door = Door::of(&node, &folder.path().join("data"));
    let place: SocketAddr = node.url.trim_start_matches("https://").parse().expect("an address");
    let port = place.port();
    let (own, foreign) = (format!("{}.{DOMAIN}", door.tenant), format!("nobody.{DOMAIN}"));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.der().clone()).expect("an authority");
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let client = reqwest::Client::builder().no_proxy().timeout(crate::process::DEADLINE).tls_backend_preconfigured(tls);
    let client = client.resolve(&own, place).resolve(&foreign, place).build().expect("a client");

    let (own, foreign) = (format!("{own}:{port}"), format!("{foreign}:{port}"));
    let plain = place.to_string();
    // Signed as it is asked, and as some clients do it, without the port.
    for (asked, signed) in [(&plain, plain.as_str()), (&plain, "127.0.0.1"), (&own, own.as_str())] {
        let (status, told) = ask(&client, &door, asked, signed).await;
        assert_eq!((status, told["Endpoints"][0]["Address"].as_str()), (200, Some(asked.as_str())), "{told}");
    }
    let invalid = "com.amazon.coral.service#InvalidSignatureException";
    let unknown = "com.amazon.coral.service#UnrecognizedClientException";
    for (asked, signed, kind) in
        [(&plain, "127.0.0.2", invalid), (&own, plain.as_str(), invalid), (&foreign, foreign.as_str(), unknown)]
    {
        let (status, told) = ask(&client, &door, asked, signed).await;
        assert_eq!((status, told["__type"].as_str()), (400, Some(kind)), "{asked} signed as {signed}: {told}");
    }
}

#[test]
fn a_host_of_a_tenant_takes_its_keys_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let setting = format!("client.domain={DOMAIN}");
    let dev = DevProcess::start(folder.path(), &["--set", &setting]);
    dev.cli_prints(&["tenant", "create", "other"]);
    dev.cli_prints(&["principal", "create", "other-app", "--tenant", "other", "--may", "read,write,admin"]);
    let key = dev.cli_prints(&["--output", "json", "access-key", "create", "other-app"]);
    let key: Value = serde_json::from_str(&key).expect("is JSON");
    let text = |name: &str| key[name].as_str().expect("an access key").to_owned();
    let mut command = by_name(&Door::of(&dev, folder.path()), "hosts.py");
    command.env("DSTORE_OTHER_ACCESS_KEY_ID", text("access_key_id"));
    command.env("DSTORE_OTHER_SECRET_ACCESS_KEY", text("secret_access_key"));
    run(command, "hosts.py", |_, _| {});
}
