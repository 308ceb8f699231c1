#!/bin/sh
# Stands between cargo and rustc for the crates of this workspace: adds counters to every edge of the control
# flow. The fuzz driver's `coverage` module reads them.
exec "$@" -C passes=sancov-module \
    -C llvm-args=-sanitizer-coverage-level=3 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters
