//! Records in a folder, as JSON lines or Parquet.
//!
//! ```text
//! usage-00000000000000000001-00000000000000007200-20270115T080000Z-0f3a9c1e.parquet
//! ^kind ^first sequence      ^last                ^time of the first  ^head of its id
//! ```
//!
//! A batch becomes one file for each kind in it; how large a batch is, and how long it may wait, say the sink's terms. A file is
//! written under another name that begins with a point, synced, renamed, and the folder synced: what stands there under its own name
//! is whole and never changes. What a crash left half-written is removed when the sink next writes.
//!
//! Nothing stands in two files. When records come again, their first one is the first of a file that is there, because they always
//! come again from the same place on; then all up to that file's last sequence are in it, and the rest goes on behind it. The name
//! holds the head of the first record's id, so that files of another reporting process, which counts from 1 as well, are not mistaken
//! for its own.
//!
//! Rejected: one file that grows for an hour. Who reads the folder would see halves, Parquet has its directory at the end,
//! and a crash would leave the question what is in it.

mod parquet_file;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::rows::{RecordKind, json_lines};
use super::{Sink, SinkError, Terms};
use crate::domain::usage::record::Record;

/// What files are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// One JSON object a line.
    JsonLines,
    /// Apache Parquet.
    Parquet,
}

impl FileFormat {
    fn extension(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::Parquet => "parquet",
        }
    }
}

/// See the module's essay.
pub struct FilesSink {
    terms: Terms,
    place: Place,
}

#[derive(Clone)]
struct Place {
    folder: PathBuf,
    format: FileFormat,
    /// Held while something is written: a batch that was given up goes on in its thread, and must not meet the one after it.
    writing: Arc<Mutex<()>>,
}

impl FilesSink {
    /// A sink that writes into this folder, which is there and belongs to it alone.
    pub fn new(terms: Terms, folder: PathBuf, format: FileFormat) -> Self {
        Self { terms, place: Place { folder, format, writing: Arc::default() } }
    }
}

#[async_trait]
impl Sink for FilesSink {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    async fn take(&mut self, records: &[Record]) -> Result<(), SinkError> {
        let (place, records) = (self.place.clone(), records.to_vec());
        let written = tokio::task::spawn_blocking(move || place.write(&records)).await;
        let folder = self.place.folder.display();
        match written {
            Ok(written) => written.map_err(|error| SinkError::Later(format!("{folder}: {error}"))),
            Err(error) => Err(SinkError::Later(format!("writing to {folder} ended early: {error}"))),
        }
    }
}

impl Place {
    fn write(&self, records: &[Record]) -> io::Result<()> {
        let _alone = self.writing.lock();
        let mut there = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            match name.to_str() {
                Some(name) if name.starts_with('.') && name.ends_with(PART) => {
                    std::fs::remove_file(self.folder.join(name))?;
                }
                Some(name) => there.push(name.to_owned()),
                None => {}
            }
        }
        for kind in RecordKind::ALL {
            let of_kind: Vec<&Record> = records.iter().filter(|record| RecordKind::of(record) == kind).collect();
            self.write_kind(kind, &there, &of_kind)?;
        }
        Ok(())
    }

    fn write_kind(&self, kind: RecordKind, there: &[String], records: &[&Record]) -> io::Result<()> {
        let mut rest = records;
        loop {
            let (Some(first), Some(last)) = (rest.first(), rest.last()) else { return Ok(()) };
            let Some(covered_to) = there.iter().filter_map(|name| covers(name, kind, first)).max() else {
                let content = match self.format {
                    FileFormat::JsonLines => json_lines(rest.iter().copied()),
                    FileFormat::Parquet => parquet_file::file(kind, rest)?,
                };
                let name = format!("{}.{}", stem(kind, first, last.sequence), self.format.extension());
                return write_whole(&self.folder, &name, &content);
            };
            rest = &rest[rest.partition_point(|record| record.sequence <= covered_to)..];
        }
    }
}

const PART: &str = ".part";

fn stem(kind: RecordKind, first: &Record, last: u64) -> String {
    let milliseconds = i64::try_from(first.at_ms).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_millisecond(milliseconds).unwrap_or(jiff::Timestamp::MAX);
    let id = first.id.simple().to_string();
    format!("{}-{:020}-{last:020}-{}-{}", kind.word(), first.sequence, at.strftime("%Y%m%dT%H%M%SZ"), &id[..8])
}

/// The last sequence in the file of this name, where it is one that begins with this record.
fn covers(name: &str, kind: RecordKind, first: &Record) -> Option<u64> {
    let (stem_there, _) = name.rsplit_once('.')?;
    let rest = stem_there.strip_prefix(kind.word())?.strip_prefix('-')?;
    let last = rest.split('-').nth(1)?.parse().ok()?;
    (stem_there == stem(kind, first, last)).then_some(last)
}

fn write_whole(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let beside = folder.join(format!(".{name}{PART}"));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&beside, folder.join(name))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
