//! The example, what is refused and where, and that nothing secret is told.

use super::*;

const EXAMPLE: &str = include_str!("../../../docs/sinks.example.toml");

fn refused(text: &str) -> String {
    SinksConfig::parse(text).expect_err(text).to_string()
}

#[test]
fn the_example_is_understood() {
    let config = SinksConfig::parse(EXAMPLE).unwrap();
    let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["warehouse", "billing", "archive", "collector"]);
    assert_eq!(config.sinks[0].records, RecordKind::ALL);
    assert_eq!(config.sinks[1].records, [RecordKind::Usage]);
    let secret = SecretFrom::File("/etc/dstore/billing.secret".into());
    let url = "https://billing.example.com/dstore".to_owned();
    assert_eq!(config.sinks[1].target, Target::Http { url, secret, ca_file: None });
    let (folder, format) = ("/var/lib/dstore/usage".into(), FileFormat::Parquet);
    let patience = Duration::from_secs(3600);
    assert_eq!(config.sinks[2].target, Target::Files { folder, format, records_max: 50_000, patience });
}

#[test]
fn the_example_shows_every_field() {
    for (kind, fields) in KINDS {
        for field in COMMON.iter().chain(*fields) {
            assert!(EXAMPLE.contains(field), "{field} of {kind}");
        }
    }
    // Also those that are commented out, or named in a comment, are taken.
    let commented = EXAMPLE.replace("\n#ca_file", "\nca_file").replace("\n#authorization_env", "\nauthorization_env");
    let with_variables = commented.replace("secret_file = \"/etc/dstore/billing.secret\"", "secret_env = \"SECRET\"");
    let config = SinksConfig::parse(&with_variables).unwrap();
    let secret = SecretFrom::Variable("SECRET".to_owned());
    assert!(matches!(&config.sinks[1].target, Target::Http { secret: own, .. } if *own == secret));
    assert_eq!(SinksConfig::parse("").unwrap(), SinksConfig::default());
}

#[test]
fn errors_name_the_line_and_what_would_be_right() {
    let sink = |rest: &str| format!("# a file\n[[sink]]\nname = \"a\"\n{rest}");
    let cases = [
        ("[[sinks]]\n".to_owned(), "line 1: sinks is not known here; every sink begins with [[sink]]"),
        ("\nsink = 3".to_owned(), "line 2: every sink begins with [[sink]]"),
        ("[[sink]]\nkind = \"http\"".to_owned(), "line 1: name is missing"),
        ("[[sink]]\nname = \"A b\"".to_owned(), "line 2: sink \"A b\": name: this is not 1 to 40 lower-case"),
        (sink(""), "line 2: sink \"a\": kind is missing"),
        (sink("kind = \"kafka\""), "line 4: sink \"a\": kind: this is not one of postgres, http, files, otlp"),
        (sink("kind = \"http\"\nurl = \"https://x\""), "secret_file is missing: requests are signed with a secret"),
        (
            sink("kind = \"http\"\nsecretfile = \"x\""),
            "line 5: sink \"a\": secretfile: no such field here; did you mean secret_file?",
        ),
        (sink("kind = \"files\"\npath = \"x\""), "line 5: sink \"a\": path: no such field here"),
        (sink("kind = \"files\"\nfolder = 7"), "line 5: sink \"a\": folder: this is not a text in quotes"),
        (
            sink("kind = \"files\"\nfolder = \"x\"\nformat = \"csv\""),
            "line 6: sink \"a\": format: this is not json-lines or parquet",
        ),
        (sink("kind = \"files\"\nfolder = \"x\"\nrecords_per_file = 0"), "whole number from 1 to 1000000"),
        (
            sink("kind = \"otlp\"\nurl = \"ftp://x\""),
            "line 5: sink \"a\": url: this is not a URL that begins with http",
        ),
        (
            sink("kind = \"otlp\"\nurl = \"http://x\"\nrecords = [\"notice\"]"),
            "line 6: sink \"a\": records: this is not a list of usage, range, node for",
        ),
        (
            sink("kind = \"files\"\nfolder = \"x\"\nrecords = []"),
            "records: this is not a list of usage, range, node, notice, admin-event for",
        ),
        (
            sink("kind = \"postgres\"\nconnection = \"host=a sslmode=maybe\""),
            "line 5: sink \"a\": connection: this is not a connection string",
        ),
        (
            sink("kind = \"postgres\"\nconnection = \"host=a\"\nschema = \"Usage\""),
            "line 6: sink \"a\": schema: this is not",
        ),
        (
            sink("kind = \"otlp\"\nurl = \"http://x\"\nauthorization_file = \"x\"\nauthorization_env = \"X\""),
            "line 7: sink \"a\": authorization_env: authorization_file is set already",
        ),
        (
            sink("kind = \"files\"\nfolder = \"x\"\n[[sink]]\nname = \"a\"\nkind = \"files\"\nfolder = \"y\""),
            "line 6: there are two sinks called a",
        ),
        ("[[sink]\n".to_owned(), "line 1: "),
    ];
    for (text, wanted) in cases {
        let told = refused(&text);
        assert!(told.contains(wanted), "{text}\n{told}\nand not\n{wanted}");
    }
}

#[test]
fn passwords_are_refused_where_they_would_be_seen_and_not_told() {
    let cases = [
        "kind = \"postgres\"\nconnection = \"host=a password=hunter2\"",
        "kind = \"postgres\"\nconnection = \"postgres://me:hunter2@a/b\"",
        "kind = \"http\"\nsecret_env = \"X\"\nurl = \"https://me:hunter2@a/b\"",
    ];
    for case in cases {
        let told = refused(&format!("[[sink]]\nname = \"a\"\n{case}"));
        assert!(told.contains("does not belong here") && !told.contains("hunter2"), "{told}");
    }
}
