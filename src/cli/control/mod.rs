//! `dstore control …`: the admin commands. Most talk to the admin API of the context in use; `init`, `serve` and
//! `recovery` need the control key and are handed to the role, on control's own machine.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | refused: what was asked for does not fit what is there |
//! | 2 | the command line could not be understood |
//! | 3 | control could not be reached, or gave no answer |
//! | 4 | there is no such thing |
//! | 5 | not logged in, or not allowed |
//!
//! Results go to stdout, as a table for people or as JSON; everything else to stderr. Secrets come from files or stdin (`-`),
//! never as arguments.

mod access;
mod call;
mod chart;
pub(super) mod examples;
mod local_indexes;
mod log_level;
mod login;
mod members;
mod nodes;
mod output;
mod ranges;
mod tenants;
mod transfer;
mod upgrade;
mod usage;
mod waiting;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::OutputFormat;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ControlFormat {
    /// For people
    #[default]
    #[value(alias = "text")]
    Human,
    /// For programs
    Json,
    /// Comma-separated; of `usage` alone
    #[value(hide = true)]
    Csv,
}

/// `dstore control …`
#[derive(Debug, Args)]
#[command(after_help = examples::CONTROL)]
pub struct ControlCommand {
    /// For people or for programs
    #[arg(long, value_enum, default_value_t, global = true)]
    pub output: ControlFormat,
    /// What to do
    #[command(subcommand)]
    pub noun: Noun,
}

/// What people see of the status first.
const STATUS: &[&str] = &[
    "plane",
    "created_at",
    "nodes",
    "nodes_alive",
    "nodes_draining",
    "nodes_down",
    "ranges",
    "ranges_under_replicated",
    "ranges_changing",
    "ranges_unavailable",
    "copies",
    "tenants",
    "notices",
    "leader",
    "instance",
];

/// What people see first of what `init`, `recovery` and `serve` tell.
const LOCAL: &[&str] = &[
    "plane",
    "made_at",
    "control_key_file",
    "root_token_file",
    "authority_file",
    "recovery_file",
    "join_token_files",
    "is_new",
    "secrets",
    "missing",
    "admin",
    "inside",
];

/// The nouns.
#[derive(Debug, Subcommand)]
pub enum Noun {
    /// Make a cluster: its keys, its certificate authority, its root session, its recovery file
    #[command(after_help = examples::INIT)]
    Init(InitFlags),
    /// Serve the admin API and the inside listener of control
    #[command(after_help = examples::SERVE)]
    Serve(PlaceFlags),
    /// Keep, check and use the file that survives losing everything else
    #[command(subcommand, after_help = examples::RECOVERY)]
    Recovery(Recovery),
    /// Keep the address and token of a control plane for later commands
    #[command(after_help = examples::LOGIN)]
    Login(login::LoginFlags),
    /// The control planes that this user knows
    #[command(subcommand, after_help = examples::CONTEXT)]
    Context(login::ContextCommand),
    /// How the cluster is
    #[command(after_help = examples::STATUS)]
    Status,
    /// Tenants: who owns tables
    #[command(subcommand, after_help = examples::TENANT)]
    Tenant(tenants::TenantCommand),
    /// Tables of a tenant
    #[command(subcommand, after_help = examples::TABLE)]
    Table(tenants::TableCommand),
    /// Ranges of a table, and who serves them
    #[command(subcommand, after_help = examples::RANGE)]
    Range(ranges::RangeCommand),
    /// Nodes, which store data
    #[command(subcommand, after_help = examples::NODE)]
    Node(nodes::NodeCommand),
    /// Proxies, which route requests
    #[command(subcommand, after_help = examples::PROXY)]
    Proxy(members::MemberCommand),
    /// Reporters, which collect usage
    #[command(subcommand, after_help = examples::REPORTER)]
    Reporter(members::MemberCommand),
    /// Upgrades: which program each node runs, and the formats that all of them know
    #[command(subcommand, after_help = examples::UPGRADE)]
    Upgrade(upgrade::UpgradeCommand),
    /// How much all processes of the cluster log, for a while
    #[command(subcommand, after_help = examples::LOG_LEVEL)]
    LogLevel(log_level::LogLevelCommand),
    /// What tenants used: requests, bytes, capacity units and how long it took
    #[command(after_help = examples::USAGE)]
    Usage(usage::UsageFlags),
    /// Encryption keys: which there are and how old they are, never their bytes
    #[command(subcommand, after_help = examples::KEY)]
    Key(members::KeyCommand),
    /// Principals: who may ask
    #[command(subcommand, after_help = examples::PRINCIPAL)]
    Principal(access::PrincipalCommand),
    /// Access keys, for the DynamoDB protocol
    #[command(subcommand, after_help = examples::ACCESS_KEY)]
    AccessKey(access::AccessKeyCommand),
    /// Bearer tokens and their sessions
    #[command(subcommand, after_help = examples::TOKEN)]
    Token(access::TokenCommand),
    /// Notices: what the cluster wants a person to know
    #[command(subcommand, after_help = examples::NOTICE)]
    Notice(members::NoticeCommand),
    /// Who changed a resource, when, and how; as in: history table/acme/users
    #[command(after_help = examples::HISTORY)]
    History {
        /// The resource: tenant/NAME, table/TENANT/NAME, node/UUID, …
        resource: String,
    },
}

/// Where control keeps its data.
#[derive(Debug, Clone, Args)]
pub struct PlaceFlags {
    /// Folder for control's key and, with the embedded coordinator, everything (setting data.dir)
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// File with the passphrase that seals the control key on this machine (setting keys.passphrase_file)
    #[arg(long, value_name = "FILE")]
    pub keys_passphrase_file: Option<PathBuf>,
}

impl PlaceFlags {
    fn overrides(&self) -> Vec<(String, String)> {
        let settings = [("data.dir", &self.data), ("keys.passphrase_file", &self.keys_passphrase_file)];
        let given = settings.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?)));
        given.map(|(key, path)| (key.to_owned(), path.display().to_string())).collect()
    }
}

/// Flags of `init`.
#[derive(Debug, Clone, Args)]
pub struct InitFlags {
    /// Where
    #[command(flatten)]
    pub place: PlaceFlags,
    /// File with the passphrase for the recovery file, at least 12 bytes; `-` reads stdin
    #[arg(long, value_name = "FILE")]
    pub recovery_passphrase_file: PathBuf,
    /// File with the first key for tokens, 64 hexadecimal digits; random where none is given
    #[arg(long, value_name = "FILE")]
    pub token_key_file: Option<PathBuf>,
    /// Invite somebody at once, as in --invite node=node-1; may be given several times
    #[arg(long, value_name = "ROLE=NAME")]
    pub invite: Vec<String>,
    /// Folder for the join tokens of those invited, as NAME.join-token; the data folder where none is given
    #[arg(long, value_name = "DIR", requires = "invite")]
    pub join_tokens: Option<PathBuf>,
    /// Where there is a cluster already, leave it as it is and say so, instead of refusing
    #[arg(long)]
    pub unless_there: bool,
}

/// `dstore control recovery …`
#[derive(Debug, Clone, Subcommand)]
pub enum Recovery {
    /// Write a fresh recovery file; needed after nodes joined or tenants were made
    Export(RecoveryFlags),
    /// Check that a recovery file opens, and say what it lacks
    Verify(RecoveryFlags),
    /// Put the control key on this machine and what is missing into the coordinator
    Restore(RecoveryFlags),
}

/// Flags of `recovery`.
#[derive(Debug, Clone, Args)]
pub struct RecoveryFlags {
    /// Where
    #[command(flatten)]
    pub place: PlaceFlags,
    /// The recovery file
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
    /// File with its passphrase; `-` reads stdin
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: PathBuf,
}

impl ControlCommand {
    /// Whether it runs on control's own machine, in the role: then [`ControlCommand::run`] is not for it.
    pub fn is_local(&self) -> bool {
        matches!(self.noun, Noun::Init(_) | Noun::Serve(_) | Noun::Recovery(_))
    }

    /// The settings that its flags stand for.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let place = match &self.noun {
            Noun::Init(flags) => &flags.place,
            Noun::Serve(place) => place,
            Noun::Recovery(Recovery::Export(flags) | Recovery::Verify(flags) | Recovery::Restore(flags)) => {
                &flags.place
            }
            _ => return Vec::new(),
        };
        place.overrides()
    }

    /// What is said on stderr before a command that takes a moment: a passphrase is made hard to guess by work.
    pub fn takes_a_moment(&self) -> Option<&'static str> {
        match &self.noun {
            Noun::Init(_) => Some("making keys, authority and recovery file"),
            Noun::Recovery(Recovery::Export(_)) => Some("sealing the recovery file"),
            Noun::Recovery(_) => Some("opening the recovery file"),
            _ => None,
        }
    }

    /// Prints what a command on control's own machine has to tell.
    pub fn show(&self, answer: serde_json::Value) {
        let is_made = answer["is_new"] == true;
        output::Shown::new(answer, LOCAL).print(self.format());
        if self.format() == OutputFormat::Human && is_made {
            println!("\nNext: move the recovery file away from this machine, then\n{}", examples::AFTER_INIT);
        }
    }

    /// Asks the admin API and prints the answer.
    pub fn run(&self) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return call::failed(&format!("no runtime: {error}")),
        };
        match runtime.block_on(self.ask()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        }
    }

    /// For people or for programs.
    fn format(&self) -> OutputFormat {
        match self.output {
            ControlFormat::Human | ControlFormat::Csv => OutputFormat::Human,
            ControlFormat::Json => OutputFormat::Json,
        }
    }

    async fn ask(&self) -> Result<(), call::Failure> {
        if self.output == ControlFormat::Csv && !matches!(self.noun, Noun::Usage(_)) {
            return Err(call::Failure::usage("only `dstore control usage` can print csv; use --output json"));
        }
        let shown = match &self.noun {
            Noun::Login(flags) => login::login(flags).await?,
            Noun::Context(command) => login::context(command)?,
            Noun::Status => output::Shown::new(call::Admin::open()?.get("status").await?, STATUS),
            Noun::Tenant(command) => tenants::tenant(command).await?,
            Noun::Table(tenants::TableCommand::Export(flags)) => transfer::export(flags).await?,
            Noun::Table(tenants::TableCommand::Import(flags)) => {
                let (shown, failure) = transfer::import(flags).await?;
                shown.print(self.format());
                return failure.map_or(Ok(()), Err);
            }
            Noun::Table(command) => tenants::table(command).await?,
            Noun::Range(command) => ranges::range(command, self.format()).await?,
            Noun::Node(command) => nodes::node(command).await?,
            Noun::Proxy(command) => members::member("proxy", "proxy", command).await?,
            Noun::Reporter(command) => members::member("reporter", "reporting", command).await?,
            Noun::Upgrade(command) => upgrade::upgrade(command, self.format()).await?,
            Noun::LogLevel(command) => log_level::log_level(command).await?,
            Noun::Usage(flags) => return usage::usage(flags, self.output).await,
            Noun::Key(command) => members::key(command).await?,
            Noun::Principal(command) => access::principal(command).await?,
            Noun::AccessKey(command) => access::access_key(command).await?,
            Noun::Token(command) => access::token(command).await?,
            Noun::Notice(command) => members::notice(command).await?,
            Noun::History { resource } => {
                let answer = call::Admin::open()?.get(&format!("history?resource={}", call::escape(resource))).await?;
                output::Shown { is_history: true, ..output::Shown::new(answer, &[]) }
            }
            Noun::Init(_) | Noun::Serve(_) | Noun::Recovery(_) => {
                return Err(call::Failure::usage("this command runs on control's own machine"));
            }
        };
        shown.print(self.format());
        Ok(())
    }
}

/// Reads a secret from a file, or from stdin for `-`. The last line break does not count.
///
/// # Errors
/// Where it cannot be read.
pub fn read_secret(path: &std::path::Path) -> std::io::Result<zeroize::Zeroizing<String>> {
    let text = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        std::fs::read_to_string(path)?
    };
    Ok(zeroize::Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}
