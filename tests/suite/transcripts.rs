//! Transcripts of the admin commands, in `tests/scripts/*.txt`: what is typed, and all that is answered.
//!
//! ```text
//! # a comment
//! $ dstore control tenant create acme      a line for bash, run against a `dstore dev` of the script's own
//! name        acme                         what stdout said
//! ! error: …                               what stderr said, after it
//! [exit 4]                                 how it ended, where not with 0
//! ```
//!
//! What differs from run to run is masked: `<uuid>`, `<time>`, `<age>`, `<port>`, and secrets by their kind. Masks differ
//! in length from what they hide, so rows of two spaces or more count as two; how tables are aligned is tested
//! beside the code. A script whose first line is `# no server` runs without one; what follows `# dev` there are flags for it.
//!
//! After a change that is meant, `DSTORE_TRANSCRIPTS=write cargo test --test suite transcripts` writes the answers
//! anew; the difference belongs in the review.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{DevProcess, dstore, wait_for_output};

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts")
}

/// Runs one script and compares, or writes it.
fn check(name: &str) {
    let path = scripts().join(name);
    let script = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let folder = tempfile::tempdir().unwrap();
    let served = !script.starts_with("# no server");
    let flags = script.lines().next().and_then(|line| line.strip_prefix("# dev ")).unwrap_or_default();
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let dev = served.then(|| DevProcess::start(&folder.path().join("data"), &flags));
    let contexts = dev.as_ref().map_or_else(|| folder.path().join("cli.toml"), DevProcess::contexts);
    let mut actual = String::new();
    for line in script.lines().filter(|line| line.starts_with("$ ") || line.starts_with('#') || line.is_empty()) {
        actual.push_str(line);
        actual.push('\n');
        if let Some(command) = line.strip_prefix("$ ") {
            actual.push_str(&masked(&run(command, folder.path(), &contexts)));
        }
    }
    if std::env::var_os("DSTORE_TRANSCRIPTS").is_some_and(|wish| wish == "write") {
        std::fs::write(&path, &actual).unwrap();
        return;
    }
    let lines = |text: &str| text.lines().map(squeezed).collect::<Vec<_>>();
    let (expected, actual_lines) = (lines(&script), lines(&actual));
    let differs = (0..expected.len().max(actual_lines.len())).find(|at| expected.get(*at) != actual_lines.get(*at));
    if let Some(at) = differs {
        panic!(
            "{name}:{}: expected\n  {}\nand got\n  {}\nAll of it:\n{actual}",
            at + 1,
            expected.get(at).map_or("(the end)", String::as_str),
            actual_lines.get(at).map_or("(the end)", String::as_str)
        );
    }
}

/// What a command says: stdout, stderr, and how it ended.
fn run(command: &str, folder: &Path, contexts: &Path) -> String {
    let binaries = Path::new(env!("CARGO_BIN_EXE_dstore")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut bash = Command::new("bash");
    bash.args(["-c", command]).current_dir(folder).env("PATH", format!("{}:{path}", binaries.display()));
    for (name, value) in dstore(contexts).get_envs() {
        match value {
            Some(value) => bash.env(name, value),
            None => bash.env_remove(name),
        };
    }
    let ran = wait_for_output(bash.env_remove("COLUMNS"));
    let mut text = String::from_utf8(ran.stdout).expect("text");
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    // An empty line separates commands of a script; one within an answer is shown as what it is.
    text = text.lines().map(|line| format!("{}\n", if line.is_empty() { "|" } else { line })).collect();
    let errors = String::from_utf8(ran.stderr).expect("text");
    // A command that waits for an answer for more than a second says so, and on a busy machine each of them may.
    for line in errors.lines().filter(|line| !line.starts_with("waiting for http")) {
        text.push_str(&format!("! {line}\n"));
    }
    if ran.status.code() != Some(0) {
        text.push_str(&format!("[exit {}]\n", ran.status.code().unwrap_or(-1)));
    }
    text
}

fn squeezed(line: &str) -> String {
    let mut text = line.trim_end().to_owned();
    while text.contains("   ") {
        text = text.replace("   ", "  ");
    }
    text
}

/// What differs from run to run, by its kind.
fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut word = String::new();
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "-_.:/+=".contains(letter);
    for letter in text.chars() {
        if is_word(letter) {
            word.push(letter);
        } else {
            masked.push_str(&mask(&std::mem::take(&mut word)));
            masked.push(letter);
        }
    }
    masked.push_str(&mask(&word));
    ages_masked(&masked)
}

fn mask(word: &str) -> String {
    let (start, word) = match word.strip_prefix(':') {
        Some(rest) => (":", rest),
        None => ("", word),
    };
    let (word, end) = match word.strip_suffix(['.', ':']) {
        Some(rest) => (rest, &word[rest.len()..]),
        None => (word, ""),
    };
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_uuid = |word: &str| {
        let groups: Vec<&str> = word.split('-').collect();
        groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(|group| is_hex(group))
    };
    // A notice's timestamp has a counter behind the time, a resource's name a UUID behind its kind.
    let is_time = |word: &str| {
        let time = word.split_once("Z-").map_or(word, |(time, _)| time).trim_end_matches('Z');
        time.len() >= 19 && time.len() < word.len() && time.starts_with("20") && time.contains('T')
    };
    // Since 1970, in the years 2023 to 2065.
    let is_microseconds = |word: &str| {
        let number = word.parse::<u64>().unwrap_or(0);
        word.len() == 16 && (1_700_000_000_000_000..3_000_000_000_000_000).contains(&number)
    };
    let parts = |mark: char| {
        let parts: Vec<String> =
            word.split(mark).map(|part| if is_uuid(part) { "<uuid>".to_owned() } else { part.to_owned() }).collect();
        parts.join(&mark.to_string())
    };
    let shown = if is_uuid(word) {
        "<uuid>".to_owned()
    } else if is_time(word) {
        "<time>".to_owned()
    } else if word.starts_with("dsj1.") {
        "<join token>".to_owned()
    } else if word.starts_with("eyJ") && word.matches('.').count() == 4 {
        "<token>".to_owned()
    } else if word.starts_with("DSTK") && word.len() == 20 {
        "<access key>".to_owned()
    } else if let Some((scheme, rest)) = free_port(word) {
        format!("{scheme}127.0.0.1:<port>{rest}")
    } else if word.len() == 40 && word.bytes().any(|byte| byte.is_ascii_uppercase()) {
        "<secret>".to_owned()
    } else if is_microseconds(word) {
        "<time>".to_owned()
    } else {
        parts('/')
    };
    format!("{start}{shown}{end}")
}

/// What stands before and behind a free port of this machine: five digits, where those of the settings have four.
fn free_port(word: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = word.split_once("127.0.0.1:")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    (end == 5).then(|| (scheme, &rest[end..]))
}

/// `3s` and `1m 3s` in a column of their own; and counts that go on by themselves.
fn ages_masked(text: &str) -> String {
    let is_age = |part: &str| {
        !part.is_empty()
            && part.split(' ').all(|piece| {
                let digits = piece.trim_end_matches(['d', 'h', 'm', 's']);
                !digits.is_empty()
                    && digits.len() + 1 == piece.len()
                    && digits.bytes().all(|byte| byte.is_ascii_digit())
            })
    };
    let masked = text.lines().map(|line| {
        let counted = ["coordinator bytes", "free bytes", "maintenance rounds"];
        if let Some(name) = counted.iter().find(|name| line.starts_with(&format!("{name}  "))) {
            return format!("{name}  <count>\n");
        }
        let parts = line
            .split("  ")
            .map(|part| if is_age(part.trim()) { part.replace(part.trim(), "<age>") } else { part.to_owned() });
        parts.collect::<Vec<_>>().join("  ") + "\n"
    });
    masked.collect()
}

/// A test for each script; the list is checked against the folder.
macro_rules! transcripts {
    ($($name:ident),+ $(,)?) => {
        $(#[test]
        fn $name() {
            check(concat!(stringify!($name), ".txt"));
        })+

        #[test]
        fn every_script_has_its_test() {
            let mut listed = vec![$(concat!(stringify!($name), ".txt").to_owned()),+];
            listed.sort();
            let entries = std::fs::read_dir(scripts()).unwrap();
            let mut there: Vec<String> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            there.sort();
            assert_eq!(listed, there);
        }
    };
}

transcripts!(
    access,
    contexts,
    control,
    help,
    json,
    limits,
    log_level,
    members,
    mistakes,
    placement,
    removal,
    split,
    tables,
    tenant_admin,
    tenants
);

#[test]
fn masks_hide_what_differs_and_nothing_else() {
    let text = "node/0b6a2c3e-5d0f-4a53-9f0c-2f6f3f1f7a11 at 2026-01-01T00:00:00Z of http://127.0.0.1:38082/x.  3s  1m 3s  node-1";
    assert_eq!(masked(text).trim_end(), "node/<uuid> at <time> of http://127.0.0.1:<port>/x.  <age>  <age>  node-1");
    assert_eq!(mask("2026"), "2026");
    assert_eq!(["1767225600000000", "1893456000000000", "2900000000000000"].map(mask), ["<time>"; 3]);
    assert_eq!(mask("1600000000000000"), "1600000000000000");
    assert_eq!(mask("0123456789012345678901234567890123456789"), "0123456789012345678901234567890123456789");
}
