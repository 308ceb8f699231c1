//! A file into a table. Lines are read, those that are no items set aside, the others put in waves; after each wave the
//! position says how many lines are done. Nothing is given up because of one line: what cannot be taken is in
//! `FILE.rejected` at the end, and the command ends with code 1.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::call::Failure;
use super::super::output::Shown;
use super::batches::{Table, WAVE_BYTES_MAX, WAVE_ITEMS_MAX, Wait, Waiting, wait};
use super::lines::{Aside, Lines, item};
use super::position::{self, Position};
use super::{at, bar, beside, failed};
use crate::cli::dynamodb::door::{Door, DoorFlags};

/// Flags of `table import`.
#[derive(Debug, Clone, Args)]
pub struct ImportFlags {
    /// The table's name or ARN; the access key says of which tenant
    table: String,
    /// The file: a line {"Item":{…}} for each item, plain or gzip
    file: PathBuf,
    /// Folder for the position and for lines that are set aside; the file's own where none is given
    #[arg(long, value_name = "DIR")]
    aside: Option<PathBuf>,
    /// Which server
    #[command(flatten)]
    door: DoorFlags,
}

/// How far it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Progress {
    table: String,
    url: String,
    file_bytes: u64,
    /// Lines that are done: their items are acknowledged, or they were set aside.
    lines: u64,
    items: u64,
    rejected: u64,
    /// So much of both files of bad lines is of lines that are done.
    aside_bytes: [u64; 2],
}

impl Position for Progress {
    fn is_of(&self, other: &Self) -> bool {
        (&self.table, &self.url, self.file_bytes) == (&other.table, &other.url, other.file_bytes)
    }
}

/// Imports; the failure that is to be told behind what was done is that lines were set aside.
pub(in crate::cli::control) async fn import(flags: &ImportFlags) -> Result<(Shown, Option<Failure>), Failure> {
    let door = Door::open(&flags.door).map_err(failed)?;
    import_through(&door, flags, wait).await
}

async fn import_through(door: &Door, flags: &ImportFlags, wait: Wait) -> Result<(Shown, Option<Failure>), Failure> {
    let named = match (&flags.aside, flags.file.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => flags.file.clone(),
    };
    let kept_at = beside(&named, "position");
    let beginning = Progress {
        table: flags.table.clone(),
        url: flags.door.url.clone(),
        file_bytes: std::fs::metadata(&flags.file).map_err(at(&flags.file))?.len(),
        lines: 0,
        items: 0,
        rejected: 0,
        aside_bytes: [0; 2],
    };
    let kept = position::load(&kept_at, &beginning)?;
    let described = door.ask("DescribeTable", &json!({ "TableName": flags.table })).await.map_err(failed)?;
    let schema = described["Table"]["KeySchema"].as_array().into_iter().flatten();
    let key: Vec<String> = schema.filter_map(|part| part["AttributeName"].as_str().map(str::to_owned)).collect();
    if key.is_empty() {
        return Err(Failure::from(format!(
            "{} does not say what the key of the table {} is",
            flags.door.url, flags.table
        )));
    }
    let mut aside = Aside::open(&named, kept.as_ref().map(|kept| kept.aside_bytes))?;
    match &kept {
        Some(kept) => eprintln!("going on behind line {}", kept.lines),
        None => position::save(&kept_at, &beginning)?,
    }
    let mut progress = kept.unwrap_or(beginning);
    let table = Table { door, name: &flags.table, key, wait };
    let bar = bar(
        "import",
        Some(progress.file_bytes),
        "{prefix} {wide_bar} {binary_bytes}/{binary_total_bytes} {msg} eta {eta}",
    );
    let mut lines = Lines::open(&flags.file, progress.lines, &bar)?;
    loop {
        let wave = next_wave(&mut lines)?;
        if lines.number == progress.lines && lines.failure.is_none() {
            break;
        }
        let bad = put(&table, wave, &mut progress).await?;
        for (number, line, reason) in bad {
            aside.put(number, &line, &reason, &bar)?;
            progress.rejected += 1;
        }
        aside.sync()?;
        progress.lines = lines.number;
        progress.aside_bytes = aside.bytes;
        position::save(&kept_at, &progress)?;
        bar.set_message(format!("{} items", progress.items));
    }
    bar.finish_and_clear();
    position::forget(&kept_at)?;
    let rejected = progress.rejected;
    let answer =
        json!({ "table": flags.table, "lines": progress.lines, "items": progress.items, "rejected": rejected });
    let failure = (rejected > 0).then(|| {
        let (path, what) = (aside.rejected().display(), if rejected == 1 { "line was" } else { "lines were" });
        Failure::from(format!(
            "{rejected} {what} set aside in {path}; why stands in the .reasons beside it. Mend and import that file"
        ))
    });
    Ok((Shown::new(answer, &["table", "lines", "items", "rejected"]), failure))
}

/// A wave as read: items, and lines that are none.
#[derive(Default)]
struct Wave {
    items: Vec<Waiting>,
    bad: Vec<(u64, Vec<u8>, String)>,
}

fn next_wave(lines: &mut Lines) -> Result<Wave, Failure> {
    if let Some(failure) = lines.failure.take() {
        return Err(failure);
    }
    let (mut wave, mut bytes) = (Wave::default(), 0);
    while wave.items.len() + wave.bad.len() < WAVE_ITEMS_MAX && bytes < WAVE_BYTES_MAX {
        let read = match lines.next_line() {
            Ok(read) => read,
            // What was read before is done first.
            Err(failure) => {
                lines.failure = Some(failure);
                break;
            }
        };
        let Some(line) = read else { break };
        bytes += line.len().max(1);
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match item(&line) {
            Ok(item) => wave.items.push(Waiting { number: lines.number, line, item }),
            Err(reason) => wave.bad.push((lines.number, line, reason)),
        }
    }
    Ok(wave)
}

/// Puts a wave; all its bad lines, in their order.
async fn put(
    table: &Table<'_>,
    mut wave: Wave,
    progress: &mut Progress,
) -> Result<Vec<(u64, Vec<u8>, String)>, Failure> {
    let refused = table.put(&wave.items).await?;
    progress.items += (wave.items.len() - refused.len()) as u64;
    for (at, reason) in refused {
        let waiting = &mut wave.items[at];
        wave.bad.push((waiting.number, std::mem::take(&mut waiting.line), reason));
    }
    wave.bad.sort_unstable_by_key(|(number, _, _)| *number);
    Ok(wave.bad)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Server, answer, cut, json_answer};
    use super::*;
    use indicatif::ProgressBar;
    use serde_json::Value;

    const DESCRIBED: &str = r#"{"Table":{"KeySchema":[{"AttributeName":"id","KeyType":"HASH"}]}}"#;

    /// Three items in a file, to be imported through a server.
    fn flags(server: &Server, folder: &tempfile::TempDir) -> ImportFlags {
        let file = folder.path().join("in");
        let lines = ["a", "b", "c"].map(|id| format!("{{\"Item\":{{\"id\":{{\"S\":\"{id}\"}}}}}}\n"));
        std::fs::write(&file, lines.concat()).unwrap();
        ImportFlags { table: "t".to_owned(), file, aside: None, door: server.flags() }
    }

    /// Imports without waiting.
    async fn imported(server: &Server, flags: &ImportFlags) -> Result<Value, Failure> {
        let ended = import_through(&server.door(), flags, |_| Box::pin(std::future::ready(()))).await;
        ended.map(|(shown, _)| shown.answer)
    }

    #[tokio::test]
    async fn an_import_that_was_given_up_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let stubborn = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let takes_nothing = stubborn.clone();
        let server = Server::start(move |_, operation, body| match operation {
            "DescribeTable" => answer(DESCRIBED),
            _ if takes_nothing.load(std::sync::atomic::Ordering::Relaxed) => {
                json_answer(&json!({ "UnprocessedItems": body["RequestItems"] }))
            }
            _ => answer(r#"{"UnprocessedItems":{}}"#),
        })
        .await;
        let flags = flags(&server, &folder);
        let failure = format!("{:?}", imported(&server, &flags).await.unwrap_err());
        assert!(failure.contains("unprocessed") && failure.contains("to go on"), "{failure}");
        assert!(beside(&flags.file, "position").exists());
        stubborn.store(false, std::sync::atomic::Ordering::Relaxed);
        let told = imported(&server, &flags).await.unwrap();
        assert_eq!((&told["lines"], &told["items"], &told["rejected"]), (&json!(3), &json!(3), &json!(0)));
        assert!(!beside(&flags.file, "position").exists());
    }

    #[tokio::test]
    async fn broken_answers_end_an_import_and_nothing_is_taken_for_done() {
        let taken = answer(r#"{"UnprocessedItems":{}}"#);
        let puts = [answer("<html>"), answer("{"), answer(""), answer("{}"), cut(taken.clone()), Vec::new()];
        let describes = [answer("<html>"), answer(""), answer("{}"), answer("[]"), cut(answer(DESCRIBED)), Vec::new()];
        let puts = puts.map(|put| (answer(DESCRIBED), put));
        let describes = describes.map(|described| (described, taken.clone()));
        for (described, put) in puts.into_iter().chain(describes) {
            let text = String::from_utf8_lossy(&[&described[..], b" | ", &put[..]].concat()).into_owned();
            let folder = tempfile::tempdir().unwrap();
            let is_mended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let answers_well = is_mended.clone();
            let good = taken.clone();
            let server = Server::start(move |_, operation, _| {
                let is_well = answers_well.load(std::sync::atomic::Ordering::Relaxed);
                match (operation, is_well) {
                    ("DescribeTable", true) => answer(DESCRIBED),
                    ("DescribeTable", false) => described.clone(),
                    (_, true) => good.clone(),
                    (_, false) => put.clone(),
                }
            })
            .await;
            let flags = flags(&server, &folder);
            assert!(imported(&server, &flags).await.is_err(), "{text}");
            is_mended.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(imported(&server, &flags).await.unwrap()["items"], 3, "{text}");
        }
    }

    #[test]
    fn a_wave_holds_items_and_bad_lines_with_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in");
        std::fs::write(&path, "{\"Item\":{\"id\":{\"S\":\"a\"}}}\n\nnonsense\n  \n{\"Item\":{}}").unwrap();
        let mut lines = Lines::open(&path, 0, &ProgressBar::hidden()).unwrap();
        let wave = next_wave(&mut lines).unwrap();
        assert_eq!(wave.items.iter().map(|waiting| waiting.number).collect::<Vec<_>>(), [1, 5]);
        assert_eq!(wave.bad.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [3]);
        assert_eq!(lines.number, 5);
        let end = next_wave(&mut lines).unwrap();
        assert!(end.items.is_empty() && end.bad.is_empty() && lines.number == 5);
    }

    #[test]
    fn waves_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in");
        std::fs::write(&path, "{\"Item\":{}}\n".repeat(WAVE_ITEMS_MAX + 1)).unwrap();
        let mut lines = Lines::open(&path, 0, &ProgressBar::hidden()).unwrap();
        assert_eq!(next_wave(&mut lines).unwrap().items.len(), WAVE_ITEMS_MAX);
        assert_eq!(next_wave(&mut lines).unwrap().items.len(), 1);
    }
}
