//! Upgrades: which program each node runs, and raising the version of the formats when all know it.

use clap::Subcommand;
use serde_json::{Value, json};

use super::call::{Admin, Failure};
use super::output::Shown;
use crate::cli::OutputFormat;

/// `dstore control upgrade …`
#[derive(Debug, Subcommand)]
pub enum UpgradeCommand {
    /// The program of each node, and the version of the formats that the cluster uses
    Status,
    /// Use the newest version of the formats, from which there is no way back; refused while a node does not know it
    Finish,
}

const NODE: &[&str] = &["name", "id", "alive", "program", "format", "is_awaited"];
const FINISHED: &[&str] = &["format", "program"];

pub(super) async fn upgrade(command: &UpgradeCommand, format: OutputFormat) -> Result<Shown, Failure> {
    let admin = Admin::open()?;
    match command {
        UpgradeCommand::Status => {
            let answer = admin.get("upgrade").await?;
            if format == OutputFormat::Json {
                return Ok(Shown::new(answer, &[]));
            }
            eprintln!("{}", said(&answer));
            Ok(Shown::new(answer["nodes"].clone(), NODE).sorted_by(&["name", "id"]))
        }
        UpgradeCommand::Finish => {
            let answer = admin.post("upgrade/finish", &json!({})).await?;
            if format == OutputFormat::Json {
                return Ok(Shown::new(answer, &[]));
            }
            Ok(Shown::new(json!({ "format": answer["format"], "program": answer["program"] }), FINISHED))
        }
    }
}

/// The state in one line.
fn said(answer: &Value) -> String {
    let (now, known) = (&answer["format"], &answer["program_format"]);
    let awaited = answer["nodes"].as_array().into_iter().flatten().filter(|node| node["is_awaited"] == true).count();
    if now == known {
        format!(
            "the cluster uses version {now} of the formats, the newest that control {} knows",
            answer["program"].as_str().unwrap_or("-")
        )
    } else if awaited == 0 {
        format!(
            "the cluster uses version {now} of the formats; every node knows version {known}: `dstore control upgrade finish` raises it"
        )
    } else {
        format!("the cluster uses version {now} of the formats; {awaited} of its nodes do not know version {known} yet")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_said_in_one_line() {
        let answer = |format, awaited: bool| json!({ "format": format, "program_format": 2, "program": "1.0", "nodes": [{ "is_awaited": awaited }] });
        assert_eq!(
            said(&answer(2, false)),
            "the cluster uses version 2 of the formats, the newest that control 1.0 knows"
        );
        assert!(said(&answer(1, false)).contains("upgrade finish"));
        assert!(said(&answer(1, true)).contains("1 of its nodes do not know version 2 yet"));
    }
}
