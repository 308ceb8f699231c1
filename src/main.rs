//! The `dstore` binary: reads the command line and hands over to one role. Everything else is in the library, so
//! that tests reach it.

use dstore::cli::{self, Entry};
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::enter(std::env::args_os()) {
        Entry::Finished(code) => code,
        Entry::Serve(serve) => {
            eprintln!("error: this build cannot run the role {}", serve.command.role().as_str());
            ExitCode::FAILURE
        }
    }
}
