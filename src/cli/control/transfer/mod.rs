//! `dstore control table export` and `import`: all items of a table as a file, and back.
//!
//! The file has one item a line, in the JSON of DynamoDB, as AWS exports tables to S3:
//!
//! ```text
//! {"Item":{"id":{"S":"ada"},"born":{"N":"1815"}}}
//! ```
//!
//! A name that ends with `.gz` is written compressed; what is read is looked at, not its name. Items travel through the DynamoDB
//! door, not REST: the file's JSON is that door's own, so that sets, binary values and numbers keep their types on the way, and both
//! commands work against AWS itself or anything else that speaks the protocol. So it is an access key that says whose table
//! is meant, not the context of the admin commands.
//!
//! Both can be broken off at any time and go on where they were when the same command is given again: a position is kept beside the
//! file (`FILE.position`), replaced in one step, only after what it speaks of is on the disk or acknowledged. What stands in the output
//! behind the position is cut off; what was put behind it is put again, which changes nothing.
//!
//! | file | what it does |
//! |---|---|
//! | [`position`] | keeps how far it is |
//! | [`export`] | a table into a file |
//! | [`import`] | a file into a table |
//! | [`lines`] | reads lines, sets bad ones aside |
//! | [`batches`] | puts items, many at a time |

mod batches;
mod export;
mod import;
mod lines;
mod position;
mod testing;

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::call::Failure;
use crate::cli::dynamodb::door::Trouble;

pub use export::ExportFlags;
pub(super) use export::export;
pub use import::ImportFlags;
pub(super) use import::import;

/// The file of this kind beside another one: `users.json.position`.
fn beside(path: &Path, kind: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(kind);
    name.into()
}

/// An error of a file, with its name.
fn at(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::from(format!("{}: {error}", path.display()))
}

/// What a command ends with where the server does not do as asked.
fn failed(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Flags(text) => Failure::usage(text),
        Trouble::Unreached(text) => Failure::unreached(format!("{text}\nGive the same command again to go on.")),
        Trouble::Refused { name, message } => {
            let text = format!("{name}: {message}");
            match name.as_str() {
                "ResourceNotFoundException" => Failure::not_found(text),
                "AccessDeniedException"
                | "UnrecognizedClientException"
                | "InvalidSignatureException"
                | "IncompleteSignatureException"
                | "MissingAuthenticationTokenException"
                | "ExpiredTokenException" => Failure::not_allowed(text),
                _ => Failure::from(text),
            }
        }
    }
}

/// A progress bar on stderr; invisible where that is no terminal.
fn bar(name: &'static str, count: Option<u64>, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = count.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(style).with_prefix(name)
}
