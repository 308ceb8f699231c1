//! The order of sources, the errors, and that schema, structures and example file are one.

use super::schema::{SECTIONS, SETTINGS};
use super::*;
use std::path::Path;

fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<(Config, Origins), ConfigError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("dstore.toml");
    std::fs::write(&path, file).expect("is written");
    let pairs = |list: &[(&str, &str)]| list.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let environment: Vec<(String, String)> = pairs(environment);
    Config::load(Some(&path), environment, pairs(flags))
}

fn message(result: Result<(Config, Origins), ConfigError>) -> String {
    result.expect_err("is refused").to_string()
}

#[test]
fn defaults_fit_types_and_pass_the_checks() {
    let (config, origins) = Config::load(None, [], Vec::new()).expect("defaults load");
    assert_eq!(config.client.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.limits.disk_refuse, Watermark::Bytes(512 << 20));
    assert_eq!(config.coordinator.endpoints, ["http://127.0.0.1:2379"]);
    for role in [Role::Dev, Role::Standalone, Role::Node, Role::Proxy, Role::Control, Role::Reporting] {
        assert_eq!(config.check(role, &origins), [], "{role:?}");
    }
}

#[test]
fn later_sources_win_and_say_so() {
    let file = "[client]\nlisten = '127.0.0.1:1'\n[log]\nsegment_mib = 8\n[node]\nzone = 'file'\n";
    let environment = [("DSTORE__NODE__ZONE", "environment"), ("DSTORE__LOG__SEGMENT_MIB", "16"), ("HOME", "x")];
    let (config, origins) = load(file, &environment, &[("node.zone", "flag")]).expect("loads");
    assert_eq!(config.client.listen.port(), 1);
    assert_eq!((config.log.segment_mib, config.node.zone.as_str()), (16, "flag"));
    let origin = |key: &str| origins.get(key).map(|(_, origin)| origin.to_string()).expect("is known");
    assert!(origin("client.listen").starts_with("file /"));
    assert_eq!(origin("log.segment_mib"), "environment DSTORE__LOG__SEGMENT_MIB");
    assert_eq!(origin("node.zone"), "flag");
    assert_eq!(origin("log.budget_mib"), "default");
}

#[test]
fn lists_come_as_arrays_or_with_commas() {
    let (config, _) = load("[coordinator]\nendpoints = ['http://a:1', 'http://b:2']", &[], &[]).expect("loads");
    assert_eq!(config.coordinator.endpoints, ["http://a:1", "http://b:2"]);
    let environment = [("DSTORE__COORDINATOR__ENDPOINTS", "http://a:1, http://b:2")];
    let (config, origins) = load("", &environment, &[]).expect("loads");
    assert_eq!(config.coordinator.endpoints, ["http://a:1", "http://b:2"]);
    assert_eq!(origins.get("coordinator.endpoints").and_then(|(value, _)| value), Some("http://a:1, http://b:2"));
}

#[test]
fn unknown_keys_name_their_neighbour() {
    let cases = [
        ("[client]\nlissten = 'x'", "client.lissten", "client.listen"),
        ("[klient]\ntls_cert = 'x'", "klient.tls_cert", "client.tls_cert"),
        ("segment_mib = 3", "segment_mib", "log.segment_mib"),
        ("[limits]\nopen_file = 3", "limits.open_file", "limits.open_files"),
    ];
    for (file, key, nearest) in cases {
        let text = message(load(file, &[], &[]));
        assert!(text.contains(&format!("no setting {key} (file /")), "{text}");
        assert!(text.ends_with(&format!("did you mean {nearest}?")), "{text}");
    }
    let text = message(load("", &[("DSTORE__LOG__BUDGETMIB", "3")], &[]));
    assert!(text.contains("environment DSTORE__LOG__BUDGETMIB") && text.ends_with("log.budget_mib?"), "{text}");
}

#[test]
fn values_that_do_not_fit_are_refused_with_what_would() {
    let cases = [
        ("client.listen", "8080", "an address with a port"),
        ("coordinator.kind", "zookeeper", "none of embedded, etcd"),
        ("log.segment_mib", "0", "from 1 to 1024"),
        ("log.segment_mib", "many", "from 1 to 1024"),
        ("client.plain_http", "yes", "true or false"),
        ("tracing.sample", "1.5", "from 0 to 1"),
        ("logging.requests", "some", "none of none, errors, all"),
        ("limits.disk_refuse", "100%", "512 MiB"),
        ("control.url", "control:8081", "http://"),
        ("coordinator.endpoints", "http://a, b", "separated by commas"),
        ("data.dir", "", "not empty"),
    ];
    for (key, value, wanted) in cases {
        let text = message(load("", &[], &[(key, value)]));
        assert!(text.starts_with(&format!("{key} (flag): ")) && text.contains(wanted), "{text}");
    }
}

#[test]
fn secrets_come_by_environment_and_never_print() {
    let text = message(load("[coordinator]\npassword = 'hunter2'", &[], &[]));
    assert!(text.contains("coordinator.password_file") && !text.contains("hunter2"), "{text}");
    let environment = [("DSTORE__COORDINATOR__PASSWORD", "hunter2"), ("DSTORE__COORDINATOR__USER", "me")];
    let (config, origins) = load("", &environment, &[]).expect("loads");
    assert_eq!(config.coordinator.password.as_ref().map(Secret::expose), Some("hunter2"));
    assert!(!format!("{config:?}{origins:?}").contains("hunter2"));
    assert_eq!(config.check(Role::Proxy, &origins), []);
}

#[test]
fn problems_between_settings_are_found_for_the_role_that_reads_them() {
    let file = "[client]\nlisten = '0.0.0.0:9090'\ntls_cert = '/nowhere/cert.pem'\n[log]\nbudget_mib = 8\n\
                [metrics]\nlisten = '0.0.0.0:9090'\n[limits]\ndisk_notice = '1 MiB'\n[coordinator]\nuser = 'me'\n";
    let (config, origins) = load(file, &[], &[]).expect("loads");
    let keys = |role| config.check(role, &origins).iter().map(|problem| problem.key).collect::<Vec<_>>();
    let both = ["client.tls_cert", "client.tls_cert"];
    let node = [&both[..], &["metrics.listen", "coordinator.user", "log.budget_mib", "limits.disk_notice"]].concat();
    assert_eq!(keys(Role::Node), node);
    assert_eq!(keys(Role::Dev)[2], "client.listen");
    assert_eq!(keys(Role::Reporting), [""; 0]);
}

#[test]
fn who_is_their_own_control_plane_serves_admins_on_loopback() {
    for role in [Role::Dev, Role::Standalone] {
        let (config, origins) = load("", &[], &[("admin.listen", "0.0.0.0:8082")]).expect("loads");
        let keys: Vec<_> = config.check(role, &origins).iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["admin.listen"], "{role:?}");
    }
    let (config, origins) = load("", &[], &[("admin.listen", "0.0.0.0:8082")]).expect("loads");
    assert_eq!(config.check(Role::Control, &origins), []);
}

#[test]
fn an_open_address_wants_tls() {
    let (config, origins) = load("", &[], &[("client.listen", "0.0.0.0:0")]).expect("loads");
    assert_eq!(config.check(Role::Proxy, &origins).len(), 1);
    let flags = [("client.listen", "0.0.0.0:0"), ("client.plain_http", "true")];
    let (config, origins) = load("", &[], &flags).expect("loads");
    assert_eq!(config.check(Role::Proxy, &origins), []);
}

#[test]
fn traces_go_to_a_collector_near_by() {
    let keys = |flags: &[(&str, &str)]| {
        let (config, origins) = load("", &[], flags).expect("loads");
        config.check(Role::Proxy, &origins).iter().map(|problem| problem.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(&[("tracing.endpoint", "http://127.0.0.1:4318"), ("tracing.sample", "0.25")]), [""; 0]);
    assert_eq!(keys(&[("tracing.endpoint", "https://collector:4318")]), ["tracing.endpoint"]);
    assert_eq!(keys(&[("tracing.sample", "1")]), ["tracing.sample"]);
}

#[test]
fn a_secret_file_open_to_others_is_a_problem() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("passphrase");
    std::fs::write(&path, "x").expect("is written");
    let flags = vec![("keys.passphrase_file".to_owned(), path.display().to_string())];
    let (config, origins) = Config::load(None, [], flags).expect("loads");
    for (mode, problems) in [(0o644, 1), (0o600, 0)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("is changed");
        assert_eq!(config.check(Role::Node, &origins).len(), problems, "{mode:o}");
    }
}

#[test]
fn a_control_key_that_init_is_to_make_may_be_missing() {
    let flags = vec![("control.key_file".to_owned(), "/nowhere/control.key".to_owned())];
    let (config, origins) = Config::load(None, [], flags).expect("loads");
    assert_eq!(config.check(Role::Control, &origins), []);
}

#[test]
fn schema_and_structures_name_the_same_settings() {
    // Each key is set to something that fits and must arrive: deny_unknown_fields refuses keys without a field, and
    // a field without a key is missing and would be refused by the defaults (or is an Option, which this counts).
    let text = format!("{:?}", Config::load(None, [], Vec::new()).expect("loads").0);
    let fields = text.matches(": ").count() - SECTIONS.len();
    assert_eq!(fields, SETTINGS.len(), "{text}");
    for setting in SETTINGS {
        assert!(SECTIONS.iter().any(|section| section.name == setting.section()), "{}", setting.key);
        assert!(setting.about.ends_with('.') && setting.about.len() < 140, "{}", setting.key);
    }
}

#[test]
fn the_example_file_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dstore.example.toml");
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(stored, example(), "renew it: dstore config example > docs/dstore.example.toml");
}

#[test]
fn the_example_loads_also_with_its_comments_removed() {
    let (_, origins) = load(&example(), &[], &[]).expect("loads as it is");
    assert_eq!(origins.get("client.listen").map(|(_, origin)| origin), Some(&Origin::Default));
    let bare = |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned();
    let all: Vec<String> = example().lines().map(bare).collect();
    let (_, origins) = load(&all.join("\n"), &[], &[]).expect("loads with every line active");
    for setting in SETTINGS.iter().filter(|setting| setting.default.is_some()) {
        let (value, origin) = origins.get(setting.key).expect("is known");
        assert_eq!((value, matches!(origin, Origin::File(_))), (setting.default, true), "{}", setting.key);
    }
}
