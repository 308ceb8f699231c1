//! Taste as a test: what the project asks of its own text, checked in well under a second and without the
//! library, so that it says no before a reviewer has to.
//!
//! | rule | why |
//! |---|---|
//! | imports point down, never up or sideways | a floor can be read, tested and replaced without those above |
//! | floors 0 and 1 name no async, file, socket, clock or dice | the same input gives the same output, so it can be simulated |
//! | only `roles` names implementations of a port | services work on any |
//! | every file opens with `//!` | the tree is the manual |
//! | no file that no `mod` names | dead code is read as if it lived |
//! | files and functions stay short | an old long one is listed in `tidy_exceptions.txt` and may only shrink |
//! | no sleep in tests, save in `wait…`, `until…` or `eventually…` functions | a test waits for a condition with a deadline |
//! | no `.unwrap()` outside tests | what cannot fail says why in an `expect`; what can fail returns |
//! | no paths of one machine, package hosts or notes of ours | the text must make sense to a stranger |

#[path = "tidy/monitoring.rs"]
mod monitoring;
#[path = "tidy/source.rs"]
mod source;

use source::{Source, files, functions, sources};
use std::collections::{BTreeMap, BTreeSet};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const EXCEPTIONS: &str = "tests/tidy_exceptions.txt";

const FLOORS: &[(&str, u8)] = &[
    ("roles", 5),
    ("cli", 5),
    ("config", 5),
    ("api", 4),
    ("jobs", 4),
    ("services", 3),
    ("storage", 2),
    ("coordination", 2),
    ("transport", 2),
    ("sinks", 2),
    ("replication", 1),
    ("placement", 1),
    ("expression", 1),
    ("crypto", 1),
    ("domain", 0),
];
/// What may be imported although it stands on the same floor: settings are read by those who are started with them, and
/// log entries carry expressions.
const SIDEWAYS: &[(&str, &str)] = &[("roles", "config"), ("cli", "config"), ("replication", "expression")];
/// What code on floors 0 and 1 never names.
const IMPURE: &[&str] = &[
    "async fn",
    "async move",
    ".await",
    "tokio",
    "std::fs",
    "std::net",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "getrandom",
    " rand::",
    "(rand::",
    "use rand",
    "std::env",
];
/// Traits whose implementations only `roles` may choose.
const PORTS: &[&str] = &["Coordinator", "Store", "Network", "Sink"];

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// Fails with every finding at once.
fn none(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

fn in_src() -> Vec<Source> {
    sources().into_iter().filter(|source| source.path.starts_with("src/")).collect()
}

/// The modules that `line` reaches by `crate::name` or `crate::{name, …}`.
fn imported(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if at > 0 && matches!(code.as_bytes()[at - 1], b'$' | b'_' | b'a'..=b'z') {
            continue;
        }
        let line = 1 + code[..at].matches('\n').count();
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        let Some(group) = rest.strip_prefix('{') else {
            found.push((line, word(rest)));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for character in group.chars() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => found.push((line, word(std::mem::take(&mut item).trim()))),
                _ if depth == 0 => item.push(character),
                _ => {}
            }
        }
        found.push((line, word(item.trim())));
    }
    found
}

#[test]
fn imports_point_down() {
    let mut findings = Vec::new();
    for source in in_src() {
        let Some(module) = source.module() else { continue };
        let Some(own) = floor(module) else {
            findings.push(format!("{}: module `{module}` stands on no floor", source.path));
            continue;
        };
        for (line, other) in imported(&source.code) {
            let Some(theirs) = floor(&other) else { continue };
            let allowed = theirs < own || other == module || SIDEWAYS.contains(&(module, other.as_str()));
            if !allowed {
                findings.push(format!("{}:{line}: {module} (floor {own}) → {other} (floor {theirs})", source.path));
            }
        }
    }
    none("imports point down only", findings);
}

#[test]
fn pure_floors_stay_pure() {
    let mut findings = Vec::new();
    for source in in_src().iter().filter(|source| source.module().and_then(floor).is_some_and(|floor| floor <= 1)) {
        for (number, line, test) in source.lines() {
            for word in IMPURE.iter().filter(|word| !test && line.contains(*word)) {
                findings.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    none("floors 0 and 1 know no async, file, socket, clock or dice", findings);
}

#[test]
fn only_roles_name_implementations() {
    let sources = in_src();
    // Implementations found where they are written: `impl Coordinator for Embedded` in coordination/.
    let mut implementations: BTreeMap<String, String> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.module().and_then(floor) == Some(2)) {
        for (_, line, test) in source.lines() {
            let Some((left, right)) = line.split_once(" for ") else { continue };
            let port = left.rsplit([' ', ':']).next().unwrap_or_default();
            let name: String = right.chars().take_while(|c| c.is_alphanumeric()).collect();
            if !test && left.trim_start().starts_with("impl") && PORTS.contains(&port) && !name.is_empty() {
                implementations.insert(name, source.module().unwrap_or_default().to_owned());
            }
        }
    }
    let mut findings = Vec::new();
    for source in &sources {
        let module = source.module().unwrap_or("roles");
        for (number, line, test) in source.lines() {
            let words: BTreeSet<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
            for (name, home) in &implementations {
                let at_home = module == home || module == "roles";
                if !test && !at_home && words.contains(name.as_str()) && line.contains("crate::") {
                    findings.push(format!("{}:{number}: {name} of {home}", source.path));
                }
            }
        }
    }
    none("only roles/ chooses implementations", findings);
}

#[test]
fn every_file_opens_with_its_essay() {
    let mut findings = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//!") {
            findings.push(source.path);
        } else if source.text.contains(concat!("(essay", " to come)")) {
            findings.push(format!("{}: the essay is still to come", source.path));
        }
    }
    none("every file starts with //!", findings);
}

#[test]
fn no_file_is_dead() {
    let mut alive: BTreeSet<String> = BTreeSet::new();
    let roots =
        ["build.rs", "src/lib.rs", "src/main.rs", "tests/tidy.rs", "tests/suite/main.rs", "tests/chaos/main.rs"];
    let members = [
        "fuzz/src/main.rs",
        "fuzz/tests/corpus.rs",
        "bench/src/main.rs",
        "bench/src/unavailability/main.rs",
        "cipher/src/lib.rs",
        "checkers/src/lib.rs",
        "model/src/lib.rs",
        "model/tests/check.rs",
        "tests/simulation/main.rs",
        "tests/swarm/main.rs",
        "tests/groups/main.rs",
        "tests/dynamodb/main.rs",
        "sdk-tests/src/lib.rs",
        "sdk-tests/tests/sdk.rs",
    ];
    let starts: BTreeSet<String> = roots.iter().chain(&members).map(|path| (*path).to_owned()).collect();
    let mut open: Vec<String> = starts.iter().cloned().collect();
    let all: BTreeSet<String> = files(".rs").into_iter().collect();
    while let Some(path) = open.pop() {
        if !all.contains(&path) || !alive.insert(path.clone()) {
            continue;
        }
        let source = Source::read(&path);
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let stem = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        let owns_folder = matches!(stem, "mod" | "lib" | "main") || starts.contains(&path);
        let base = if owns_folder { folder.to_owned() } else { format!("{folder}/{stem}") };
        for line in source.code.lines() {
            let Some(at) = line.find("mod ") else { continue };
            let Some(name) = line[at + 4..].trim().strip_suffix(';') else { continue };
            open.push(format!("{base}/{name}.rs"));
            open.push(format!("{base}/{name}/mod.rs"));
        }
        for piece in source.text.split("#[path = \"").skip(1) {
            open.push(format!("{folder}/{}", piece.split('"').next().unwrap_or_default()));
        }
    }
    none("every .rs file is named by a mod", all.difference(&alive).cloned().collect());
}

#[test]
fn files_and_functions_stay_short() {
    let text = std::fs::read_to_string(source::root().join(EXCEPTIONS)).unwrap_or_default();
    let mut listed: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (name, size) = line.split_once(' ').unwrap_or((line, ""));
        listed.insert(name, size.trim().parse().unwrap_or_else(|_| panic!("{EXCEPTIONS}: {line}")));
    }
    let mut findings = Vec::new();
    let mut long = BTreeSet::new();
    let mut measure = |name: String, place: String, size: usize, limit: usize| {
        if size > limit {
            if size > listed.get(name.as_str()).copied().unwrap_or(limit) {
                findings.push(format!("{place}: {size} lines, {limit} at most"));
            }
            long.insert(name);
        }
    };
    for source in sources() {
        measure(source.path.clone(), source.path.clone(), source.text.lines().count(), FILE_LINES_MAX);
        for function in functions(&source.code) {
            let name = format!("{}::{}", source.path, function.name);
            measure(
                name,
                format!("{}:{} {}", source.path, function.line, function.name),
                function.length,
                FUNCTION_LINES_MAX,
            );
        }
    }
    for name in listed.keys().filter(|name| !long.contains(**name)) {
        findings.push(format!("{EXCEPTIONS} still lists {name}, which is short enough now"));
    }
    none("files and functions stay short (split it; do not list it)", findings);
}

#[test]
fn tests_do_not_sleep_and_hope() {
    let mut findings = Vec::new();
    for source in sources() {
        let functions = functions(&source.code);
        let mut start = 0;
        for (number, line, test) in source.lines() {
            let at = start + line.find("sleep(").unwrap_or(0);
            start += line.len() + 1;
            if !test || !line.contains("sleep(") {
                continue;
            }
            let inside =
                functions.iter().filter(|function| function.range.contains(&at)).map(|function| &function.name);
            let mut waits =
                inside.filter(|name| ["wait", "until", "eventually"].iter().any(|word| name.starts_with(word)));
            if waits.next().is_none() {
                findings.push(format!("{}:{number}", source.path));
            }
        }
    }
    none("wait for a condition with a deadline, in a function called wait…, until… or eventually…", findings);
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let mut findings = Vec::new();
    for source in in_src() {
        for (number, line, test) in source.lines() {
            if !test && line.contains(".unwrap()") {
                findings.push(format!("{}:{number}", source.path));
            }
        }
    }
    none("no .unwrap() outside tests", findings);
}

#[test]
fn text_makes_sense_to_a_stranger() {
    // Put together from pieces, so that this file does not hold what it looks for.
    let words = [
        ["DESIGN", ".md"],
        ["DESIGN", " §"],
        ["examples-to", "-follow"],
        ["storage", "-notes.md"],
        ["/wo", "rk/"],
        ["/tmp/", "wt"],
        ["/ro", "ot/"],
        ["/ho", "me/"],
        ["static.crates", ".io"],
        ["index.crates", ".io"],
        ["issue", " #"],
    ]
    .map(|pieces| pieces.concat());
    let mut findings = Vec::new();
    for suffix in
        [".rs", ".md", ".toml", ".sh", ".sql", ".json", ".txt", ".html", ".js", ".css", "Makefile", ".yml", "run"]
    {
        for path in files(suffix) {
            let Ok(text) = std::fs::read_to_string(source::root().join(&path)) else { continue };
            for (index, line) in text.lines().enumerate() {
                for word in words.iter().filter(|word| line.contains(word.as_str())) {
                    findings.push(format!("{path}:{}: {word}", index + 1));
                }
            }
        }
    }
    none("no paths of one machine, package hosts or notes of ours", findings);
}

#[test]
fn the_lexer_reads_what_rust_means() {
    let text = "fn a<'x>(c: &'x str) { let q = '\"'; } // fn no() {}\n/* /* */ fn no() {} */ fn b() -> [u8; 2] {\n\"{ fn no() {\"; r#\"\"}\"#\n}\ntrait T { fn c(); }\n";
    let code = source::blank(text);
    assert_eq!(code.lines().count(), text.lines().count());
    let found: Vec<(String, usize, usize)> =
        functions(&code).into_iter().map(|function| (function.name, function.line, function.length)).collect();
    assert_eq!(found, [("a".to_owned(), 1, 1), ("b".to_owned(), 2, 3)]);
    let imports = imported("use crate::a::b;\nuse crate::{c::{d, e}, f};\n$crate::no::x");
    assert_eq!(imports, [(1, "a".to_owned()), (2, "c".to_owned()), (2, "f".to_owned())]);
}
