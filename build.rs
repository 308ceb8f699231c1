//! Tells the binary which commit it was built from, for `dstore --version`. Builds without git (a source archive)
//! say "unknown"; a packager may set DSTORE_COMMIT instead. Only optimised builds ask: were a debug build to
//! depend on git's HEAD, every commit would compile everything again.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DSTORE_COMMIT");
    let given = std::env::var("DSTORE_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(|| (std::env::var("PROFILE").as_deref() == Ok("release")).then(from_git).flatten());
    println!("cargo:rustc-env=DSTORE_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

fn from_git() -> Option<String> {
    for path in ["HEAD", "logs/HEAD", "index"] {
        println!("cargo:rerun-if-changed={}", git(&["rev-parse", "--git-path", path])?);
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit} with changes") })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
