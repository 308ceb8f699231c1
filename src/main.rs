//! The `dstore` binary: reads the command line and hands over to one role. Everything else is in the library, so
//! that tests reach it.

use dstore::cli::{self, Entry, OutputFormat, ServeCommand};
use dstore::roles::lifecycle;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::enter(std::env::args_os()) {
        Entry::Finished(code) => code,
        Entry::Serve(serve) => match serve.command {
            ServeCommand::Dev(flags) => {
                lifecycle::run_dev(&serve.config, flags.nodes, flags.output == OutputFormat::Json)
            }
        },
    }
}
