//! The `dstore` binary: reads the command line and hands over to one role. Everything else is in the library, so
//! that tests reach it.

use dstore::cli::control::{ControlCommand, InitFlags, Noun, Recovery, read_secret};
use dstore::cli::{self, Entry, OutputFormat, ServeCommand};
use dstore::config::Config;
use dstore::roles::control::{LocalCommand, Newcomer};
use dstore::roles::lifecycle;
use std::process::ExitCode;
use zeroize::Zeroizing;

fn main() -> ExitCode {
    dstore::roles::memory::prepare();
    match cli::enter(std::env::args_os()) {
        Entry::Finished(code) => code,
        Entry::Serve(serve) => match serve.command {
            ServeCommand::Dev(flags) => {
                lifecycle::run_dev(&serve.config, &serve.origins, flags.nodes, flags.output == OutputFormat::Json)
            }
            ServeCommand::Node(flags) if flags.standalone => {
                lifecycle::run_standalone(&serve.config, &serve.origins, flags.output == OutputFormat::Json)
            }
            ServeCommand::Node(_) => lifecycle::run_node(&serve.config),
            ServeCommand::Proxy(_) => lifecycle::run_proxy(&serve.config, &serve.origins),
            ServeCommand::Reporting(_) => lifecycle::run_reporting(&serve.config),
            ServeCommand::Control(command) => run_control(&serve.config, &command),
        },
    }
}

/// Making a cluster, from its flags.
fn init(flags: &InitFlags, passphrase: Zeroizing<String>) -> Result<LocalCommand, String> {
    let invitations: Result<Vec<Newcomer>, String> = flags.invite.iter().map(|text| text.parse()).collect();
    Ok(LocalCommand::Init {
        passphrase,
        token_key_file: flags.token_key_file.clone(),
        invitations: invitations.map_err(|problem| format!("--invite: {problem}"))?,
        join_tokens: flags.join_tokens.clone(),
        unless_there: flags.unless_there,
    })
}

/// Runs a command that needs the control key.
fn run_control(config: &Config, command: &ControlCommand) -> ExitCode {
    let secret = |path| read_secret(path).map_err(|error| format!("{}: {error}", path.display()));
    let local = match &command.noun {
        Noun::Init(flags) => secret(&flags.recovery_passphrase_file).and_then(|passphrase| init(flags, passphrase)),
        Noun::Recovery(Recovery::Export(flags)) => secret(&flags.passphrase_file)
            .map(|passphrase| LocalCommand::RecoveryExport { passphrase, file: flags.file.clone() }),
        Noun::Recovery(Recovery::Verify(flags)) => secret(&flags.passphrase_file)
            .map(|passphrase| LocalCommand::RecoveryVerify { passphrase, file: flags.file.clone() }),
        Noun::Recovery(Recovery::Restore(flags)) => secret(&flags.passphrase_file)
            .map(|passphrase| LocalCommand::RecoveryRestore { passphrase, file: flags.file.clone() }),
        _ => Ok(LocalCommand::Serve),
    };
    match local {
        Ok(local) => {
            if let Some(what) = command.takes_a_moment() {
                eprintln!("{what}");
            }
            lifecycle::run_control(config, local, |answer| command.show(answer))
        }
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}
