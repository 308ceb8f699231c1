//! Real files, real SQLite. Each of the traps that were found before this was written has a test.

mod basics;
mod support;
