//! Holds the driver and its corpus together: every target has seeds, every folder of seeds has a target, files
//! stay small, and the stored inputs pass.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn targets() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_dstore-fuzz")).arg("list").output().expect("the driver starts");
    let text = String::from_utf8(output.stdout).expect("its list is text");
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn every_target_has_seeds_and_all_seeds_have_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let folders: BTreeSet<String> = std::fs::read_dir(&corpus)
        .expect("fuzz/corpus is there")
        .map(|entry| entry.expect("is readable").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(targets(), folders);
    for folder in folders {
        for entry in std::fs::read_dir(corpus.join(folder)).expect("is a folder") {
            let path = entry.expect("is readable").path();
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(text.len() <= 64 * 1024, "{} is larger than 64 KiB", path.display());
        }
    }
}

#[test]
fn stored_inputs_pass() {
    for target in targets() {
        let output = Command::new(env!("CARGO_BIN_EXE_dstore-fuzz"))
            .args(["run", &target, "--seconds", "0"])
            .output()
            .expect("the driver starts");
        assert!(output.status.success(), "{target}:\n{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn unknown_targets_and_flags_are_refused() {
    for arguments in [&["run", "no-such-target"][..], &["run"], &["all", "--seconds", "x"], &["dance"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_dstore-fuzz")).args(arguments).output().expect("it starts");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
