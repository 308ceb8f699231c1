#!/bin/bash
# Runs the steps of `make test` (all) or `make check` (check), keeps the time of each, adds up what the
# test binaries report, and ends with one line: `N passed, N failed, N skipped`.
#
# Counted are tests; a step without tests of its own (format, lints) counts only when it fails (as one failure)
# or cannot run here (as one skip, said out loud). Everything is compiled once: lints share nothing with the
# tests but that is their nature, and all test binaries come from a single cargo call, so that no second
# set of features is built. Steps go on after a failure: one run tells everything.
set -uo pipefail
cd "$(dirname "$0")/.."

mode=${1:-all}
fuzz_seconds=${FUZZ_SECONDS:-10}
fuzz_jobs=${FUZZ_JOBS:-2}
passed=0 failed=0 skipped=0
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
steps="$logs/steps" tests="$logs/tests"
: >"$steps" >"$tests"

# step NAME COMMAND...: runs it, shows its output, records its time and its tests.
step() {
    local name=$1 log="$logs/log" began ended status summaries
    shift
    echo "== $name"
    began=$(date +%s%N)
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    ended=$(date +%s%N)
    printf '%d.%02d %s\n' $(((ended - began) / 1000000000)) $((((ended - began) / 10000000) % 100)) "$name" >>"$steps"
    # test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
    summaries=$(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored;.*/\1 \2 \3/p' "$log" |
        awk '{p += $1; f += $2; s += $3} END {print p + 0, f + 0, s + 0}')
    read -r step_passed step_failed step_skipped <<<"$summaries"
    # A test that finds something missing here says so in a line of its own, and counts as passed to its harness.
    said=$(grep -c '^SKIPPED: ' "$log")
    step_passed=$((step_passed - said)) step_skipped=$((step_skipped + said))
    if [ "$status" -ne 0 ] && [ "$step_failed" -eq 0 ]; then
        step_failed=1
        echo "== $name FAILED (exit $status)"
    fi
    passed=$((passed + step_passed)) failed=$((failed + step_failed)) skipped=$((skipped + step_skipped))
    # test module::name ... ok <1.234s>
    sed -nE 's/^test ([^ ]+) .*<([0-9.]+)s>$/\2 \1/p' "$log" >>"$tests"
    return "$status"
}

skip() { # skip NAME REASON
    echo "== $1: SKIPPED, $2"
    skipped=$((skipped + 1))
}

finish() {
    if [ -s "$tests" ]; then
        echo "== slowest tests, in seconds"
        sort -rn "$tests" | head -10
    fi
    echo "== slowest steps, in seconds"
    sort -rn "$steps" | head -10
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ] || exit 1
    [ "$mode" = check ] || [ "$passed" -gt 0 ] || exit 1
    exit 0
}

if cargo fmt --version >/dev/null 2>&1; then
    step format cargo fmt --all --check
else
    skip format "this toolchain has no rustfmt (rustup component add rustfmt)"
fi
if cargo clippy --version >/dev/null 2>&1; then
    step lints cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
else
    skip lints "this toolchain has no clippy (rustup component add clippy)"
fi
if cargo deny --version >/dev/null 2>&1; then
    # Advisories need a database from the network and say something new every day: not a reason for a commit to fail.
    step licences cargo deny --offline check bans licenses sources
else
    skip licences "cargo-deny is not installed (cargo install cargo-deny)"
fi

if [ "$mode" = check ]; then
    step tidy cargo test --quiet --locked --workspace --test tidy
    finish
fi

# One call builds every test binary, the dstore binary that the suite starts, and the fuzz driver.
build_log="$logs/build"
build() { cargo test --locked --workspace --no-run 2>&1 | tee "$build_log"; }
step build build || finish

# binary NAME SOURCE: the test binary of this name that cargo built from it; several packages have a src/lib.rs.
binary() { sed -nE "s#^ *Executable (unittests )?$2 \((.*/$1-[0-9a-f]+)\)\$#\2#p" "$build_log" | head -1; }
# Times per test are behind an unstable flag of the test harness, which RUSTC_BOOTSTRAP opens; cargo and
# rustc do not see it, because the binaries are started directly.
run() {
    local program
    program=$(binary "$1" "$2")
    [ -x "$program" ] || { echo "no test binary for $2"; return 1; }
    shift 2
    CARGO_MANIFEST_DIR=$PWD RUSTC_BOOTSTRAP=1 "$program" -Zunstable-options --report-time "$@"
}

step tidy run tidy tests/tidy.rs
step unit run dstore src/lib.rs
step command run dstore src/main.rs
step checkers run dstore_checkers src/lib.rs
step model run check tests/check.rs --test-threads 1
step suite run suite tests/suite/main.rs
step groups run groups tests/groups/main.rs
step dynamodb run dynamodb tests/dynamodb/main.rs
step sdk run sdk tests/sdk.rs
step chaos run chaos tests/chaos/main.rs
# Only where a Docker Engine answers; it says so itself where not.
step swarm run swarm tests/swarm/main.rs
step simulation run simulation tests/simulation/main.rs --test-threads 1
step fuzz target/debug/dstore-fuzz all --seconds "$fuzz_seconds" --jobs "$fuzz_jobs"
finish
