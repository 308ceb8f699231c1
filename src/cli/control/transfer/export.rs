//! A table into a file. It is read by Scan, a page after another, strongly consistent. That is not a picture of one
//! moment: an item that is written meanwhile is there as it was when its page was read.
//!
//! Each page is appended, synced, and then the position says where the next one begins. In a compressed file a page is a member of its own
//! (RFC 1952, 2.2: a gzip file is any number of members), so that it can be cut behind any page.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::call::Failure;
use super::super::output::Shown;
use super::position::{self, Position};
use super::{at, bar, beside, failed};
use crate::cli::dynamodb::door::{Door, DoorFlags};

/// Flags of `table export`.
#[derive(Debug, Clone, Args)]
pub struct ExportFlags {
    /// The table's name or ARN; the access key says of which tenant
    table: String,
    /// The new file; compressed where its name ends with .gz
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Which server
    #[command(flatten)]
    door: DoorFlags,
}

/// How far it is.
#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    table: String,
    url: String,
    items: u64,
    /// So much of the file is of pages that were read whole.
    bytes: u64,
    /// Where the next page begins.
    next: Option<Value>,
    /// Nothing comes any more.
    is_read: bool,
}

impl Position for Progress {
    fn is_of(&self, other: &Self) -> bool {
        (&self.table, &self.url) == (&other.table, &other.url)
    }
}

pub(in crate::cli::control) async fn export(flags: &ExportFlags) -> Result<Shown, Failure> {
    let door = Door::open(&flags.door).map_err(failed)?;
    export_through(&door, flags).await
}

async fn export_through(door: &Door, flags: &ExportFlags) -> Result<Shown, Failure> {
    let kept_at = beside(&flags.out, "position");
    let beginning = Progress {
        table: flags.table.clone(),
        url: flags.door.url.clone(),
        items: 0,
        bytes: 0,
        next: None,
        is_read: false,
    };
    let kept = position::load(&kept_at, &beginning)?;
    let described = door.ask("DescribeTable", &json!({ "TableName": flags.table })).await.map_err(failed)?;
    let count = described["Table"]["ItemCount"].as_u64().filter(|count| *count > 0);
    let is_new = kept.is_none();
    let mut progress = kept.unwrap_or(beginning);
    if is_new {
        // Before the output is made: one without a position is never gone on with, nor one of somebody else's.
        if flags.out.exists() {
            return Err(taken(&flags.out));
        }
        position::save(&kept_at, &progress)?;
    }
    let mut output = match open(&flags.out, is_new, progress.bytes) {
        Ok(output) => output,
        Err(failure) if is_new => {
            position::forget(&kept_at)?;
            return Err(failure);
        }
        Err(failure) => return Err(failure),
    };
    if !is_new {
        eprintln!("going on behind {} items", progress.items);
    }
    let template = "{prefix} {wide_bar} {human_pos}/{human_len} items {per_sec} eta {eta}";
    let bar =
        bar("export", count, if count.is_some() { template } else { "{prefix} {spinner} {human_pos} items {per_sec}" });
    let is_compressed = flags.out.extension().is_some_and(|extension| extension == "gz");
    while !progress.is_read {
        let mut page = read_page(door, &progress).await?;
        // A page without them is no empty page: the file would end too early and look whole.
        let items = page["Items"].as_array().map(Vec::as_slice);
        let items = items.ok_or_else(|| Failure::from(format!("{} answers a Scan without Items", flags.door.url)))?;
        let bytes = written(items, is_compressed).map_err(at(&flags.out))?;
        output.write_all(&bytes).and_then(|()| output.sync_data()).map_err(at(&flags.out))?;
        progress.items += items.len() as u64;
        progress.bytes += bytes.len() as u64;
        progress.next = Some(page["LastEvaluatedKey"].take()).filter(|key| !key.is_null());
        progress.is_read = progress.next.is_none();
        position::save(&kept_at, &progress)?;
        bar.set_position(progress.items);
    }
    bar.finish_and_clear();
    output.sync_all().map_err(at(&flags.out))?;
    position::forget(&kept_at)?;
    let answer = json!({ "table": flags.table, "items": progress.items, "file": flags.out.display().to_string(), "bytes": progress.bytes });
    Ok(Shown::new(answer, &["table", "items", "file", "bytes"]))
}

async fn read_page(door: &Door, progress: &Progress) -> Result<Value, Failure> {
    let mut body = json!({ "TableName": progress.table, "ConsistentRead": true });
    if let Some(next) = &progress.next {
        body["ExclusiveStartKey"] = next.clone();
    }
    door.ask("Scan", &body).await.map_err(failed)
}

/// The output: a new file, or what is there, cut behind the last whole page.
fn open(path: &Path, is_new: bool, bytes: u64) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600);
    if is_new {
        return options.create_new(true).open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => taken(path),
            _ => at(path)(error),
        });
    }
    // A file that was made, but broken off before it was there, has no byte that is missed.
    let file = options.create(bytes == 0).open(path).map_err(at(path))?;
    let there = file.metadata().map_err(at(path))?.len();
    if there < bytes {
        return Err(Failure::from(format!(
            "{} has {there} bytes, and had {bytes}; delete it and its .position to begin anew",
            path.display()
        )));
    }
    file.set_len(bytes).map_err(at(path))?;
    Ok(file)
}

fn taken(path: &Path) -> Failure {
    Failure::from(format!("{} is there already, and no position beside it; choose another file", path.display()))
}

/// A page as it stands in the file.
fn written(items: &[Value], is_compressed: bool) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for item in items {
        text.extend_from_slice(b"{\"Item\":");
        serde_json::to_writer(&mut text, item)?;
        text.extend_from_slice(b"}\n");
    }
    // A page without items, as behind a filter or at the end, adds nothing.
    if !is_compressed || text.is_empty() {
        return Ok(text);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&text)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Server, answer, cut};
    use super::*;
    use std::io::Read;

    const FIRST: &str = r#"{"Items":[{"id":{"S":"a"}}],"LastEvaluatedKey":{"id":{"S":"a"}}}"#;
    const LAST: &str = r#"{"Items":[{"id":{"S":"b"}}]}"#;
    const WHOLE: &str = "{\"Item\":{\"id\":{\"S\":\"a\"}}}\n{\"Item\":{\"id\":{\"S\":\"b\"}}}\n";

    /// What answers the second page, or else the description of the table, is broken; then the server is mended.
    async fn broken_and_mended(is_page: bool, broken: Vec<u8>) {
        let text = String::from_utf8_lossy(&broken).into_owned();
        let folder = tempfile::tempdir().unwrap();
        let is_mended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let answers_well = is_mended.clone();
        let server = Server::start(move |_, operation, body| {
            let is_well = answers_well.load(std::sync::atomic::Ordering::Relaxed);
            match (operation, body["ExclusiveStartKey"].is_object()) {
                ("DescribeTable", _) if is_well || is_page => answer("{\"Table\":{}}"),
                ("Scan", true) if is_well || !is_page => answer(LAST),
                ("Scan", false) => answer(FIRST),
                _ => broken.clone(),
            }
        })
        .await;
        let out = folder.path().join("out");
        let flags = ExportFlags { table: "t".to_owned(), out: out.clone(), door: server.flags() };
        let failure = export_through(&server.door(), &flags).await.map(|_| ()).unwrap_err();
        assert_eq!(out.exists(), is_page, "{text}: {failure:?}");
        assert!(!is_page || beside(&out, "position").exists(), "{text}: what was read can be gone on with");
        is_mended.store(true, std::sync::atomic::Ordering::Relaxed);
        let told = export_through(&server.door(), &flags).await.unwrap();
        assert_eq!(told.answer["items"], 2, "{text}");
        assert_eq!(std::fs::read_to_string(&out).unwrap(), WHOLE, "{text}");
    }

    #[tokio::test]
    async fn broken_answers_end_an_export_which_goes_on_later() {
        for broken in ["<html>", "{", "", "{}", "[]", r#"{"Items":{}}"#, r#"{"LastEvaluatedKey":null}"#] {
            broken_and_mended(true, answer(broken)).await;
        }
        for broken in [cut(answer(LAST)), Vec::new()] {
            broken_and_mended(true, broken).await;
        }
        for broken in [answer("<html>"), cut(answer("{}")), Vec::new()] {
            broken_and_mended(false, broken).await;
        }
    }

    #[test]
    fn pages_are_lines_and_members_of_gzip() {
        let items = [json!({ "id": { "S": "a\n" } }), json!({ "id": { "N": "7" } })];
        let plain = written(&items, false).unwrap();
        assert_eq!(
            String::from_utf8(plain.clone()).unwrap(),
            "{\"Item\":{\"id\":{\"S\":\"a\\n\"}}}\n{\"Item\":{\"id\":{\"N\":\"7\"}}}\n"
        );
        let two =
            [written(&items, true).unwrap(), written(&[], true).unwrap(), written(&items, true).unwrap()].concat();
        let mut text = Vec::new();
        flate2::read::MultiGzDecoder::new(two.as_slice()).read_to_end(&mut text).unwrap();
        assert_eq!(text, [plain.clone(), plain].concat());
    }

    #[test]
    fn what_is_there_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        open(&path, true, 0).unwrap().write_all(b"whole-torn").unwrap();
        assert!(open(&path, true, 0).is_err(), "a new one over it");
        assert!(open(&path, false, 11).is_err(), "shorter than it was");
        open(&path, false, 6).unwrap().write_all(b"next").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole-next");
        assert!(open(&folder.path().join("gone"), false, 1).is_err());
        assert!(open(&folder.path().join("not yet"), false, 0).is_ok());
    }
}
