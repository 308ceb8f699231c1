//! How much all processes of the cluster log, for a while.

use clap::Subcommand;
use serde_json::json;

use super::call::{Admin, Failure};
use super::output::Shown;

/// `dstore control log-level …`
#[derive(Debug, Subcommand)]
pub enum LogLevelCommand {
    /// The level that was wished for, and until when; none where the settings of each process hold
    Show,
    /// Have every process of the cluster log at this level, within ten seconds and for a while
    Set {
        /// The level
        #[arg(value_parser = ["error", "warn", "info", "debug", "trace"])]
        level: String,
        /// How long, as in 30m, 1h or 2d; seven days at most
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = seconds)]
        seconds: u64,
    },
    /// Go back to the settings of each process
    Reset,
}

const LEVEL: &[&str] = &["level", "ends_at"];

pub(super) async fn log_level(command: &LogLevelCommand) -> Result<Shown, Failure> {
    let admin = Admin::open()?;
    match command {
        LogLevelCommand::Show => {
            let nothing = "no level is wished for: each process logs as its settings say";
            Ok(Shown { columns: LEVEL, ..Shown::done(admin.get("log-level").await?, nothing) })
        }
        LogLevelCommand::Set { level, seconds } => {
            let asked = json!({ "level": level, "seconds": seconds });
            Ok(Shown::new(admin.put("log-level", &asked).await?, LEVEL))
        }
        LogLevelCommand::Reset => {
            let answer = admin.delete("log-level", None).await?;
            Ok(Shown::done(answer, "each process logs as its settings say, within ten seconds"))
        }
    }
}

/// Reads a time as people write it: `90s`, `30m`, `1h 30m`.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no time; write it as 30m, 1h or 2d");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let relative = jiff::SpanRelativeTo::days_are_24_hours();
    let time = span.to_duration(relative).map_err(|_| wrong())?;
    u64::try_from(time.as_secs()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, expected) in [("90s", 90), ("30m", 1800), ("1h", 3600), ("1h 30m", 5400), ("2d", 172_800)] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for wrong in ["", "5", "soon", "-1h", "1h30"] {
            assert!(seconds(wrong).unwrap_err().contains("30m, 1h or 2d"), "{wrong}");
        }
    }
}
