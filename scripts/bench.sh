#!/bin/bash
# Builds the release binary and the measuring program, then measures: scripts/bench.sh [FLAGS of dstore-bench-peers]
set -eu
cd "$(dirname "$0")/.."
cargo build --locked --release --bin dstore
# The client and the bare handler: optimised, but not worth minutes of linking.
cargo build --locked --profile quick --package dstore-bench-peers
exec target/quick/dstore-bench-peers "$@"
