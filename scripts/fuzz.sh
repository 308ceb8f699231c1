#!/bin/bash
# Fuzzes one target without end, guided by coverage: scripts/fuzz.sh [TARGET [FLAGS]]
#
# The coverage counters are put in by LLVM's pass, which stable rustc takes; only crates of this workspace get
# them (RUSTC_WORKSPACE_WRAPPER), so that dependencies are not compiled again.
set -eu
cd "$(dirname "$0")/.."
export RUSTC_WORKSPACE_WRAPPER="$PWD/scripts/rustc-coverage.sh"
cargo build --quiet --locked --package dstore-fuzz --profile fuzzing
program=target/fuzzing/dstore-fuzz
if [ $# -eq 0 ]; then
    exec "$program" list
fi
exec "$program" run "$@"
