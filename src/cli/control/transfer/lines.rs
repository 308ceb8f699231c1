//! Reads a file of items line by line, plain or compressed, and sets aside lines that are no items: as they are into
//! `FILE.rejected`, which can be mended and imported itself, and why into `FILE.reasons`. Neither is made before it is needed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;
use serde_json::Value;

use super::super::call::Failure;
use super::{at, beside};

/// The longest line: far more than an item can have, escapes included.
const LINE_BYTES_MAX: usize = 64 << 20;
/// So many reasons are told at once; all of them stand in the file.
const TOLD_MAX: u64 = 10;

/// The lines of a file.
pub(super) struct Lines {
    reader: Box<dyn BufRead>,
    path: PathBuf,
    /// The number of the last line that was read, from 1.
    pub(super) number: u64,
    /// Why there is no further line, to be told when all lines before are done.
    pub(super) failure: Option<Failure>,
}

impl Lines {
    /// Opens a file and passes over the first `read` lines. The bar shows how much of the file was read.
    pub(super) fn open(path: &Path, read: u64, bar: &ProgressBar) -> Result<Lines, Failure> {
        let mut file = File::open(path).map_err(at(path))?;
        let mut head = [0; 2];
        let is_compressed = file.read(&mut head).map_err(at(path))? == 2 && head == [0x1f, 0x8b];
        file.rewind().map_err(at(path))?;
        let raw = BufReader::with_capacity(1 << 17, bar.wrap_read(file));
        let reader: Box<dyn BufRead> =
            if is_compressed { Box::new(BufReader::new(MultiGzDecoder::new(raw))) } else { Box::new(raw) };
        let mut lines = Lines { reader, path: path.to_owned(), number: 0, failure: None };
        while lines.number < read {
            if lines.next_line()?.is_none() {
                return Err(Failure::from(format!("{} has {} lines, and had {read}", path.display(), lines.number)));
            }
        }
        Ok(lines)
    }

    /// The next line without its end; none behind the last.
    pub(super) fn next_line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut line = Vec::new();
        let told = |error: std::io::Error| {
            let line = self.number + 1;
            Failure::from(format!("{}, line {line}: {error}; all lines before it are done", self.path.display()))
        };
        let most = LINE_BYTES_MAX as u64 + 1;
        if self.reader.by_ref().take(most).read_until(b'\n', &mut line).map_err(told)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if line.len() > LINE_BYTES_MAX {
            let (path, number) = (self.path.display(), self.number);
            return Err(Failure::from(format!(
                "{path}, line {number} is so long that this is no file of items, one a line"
            )));
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }
}

/// The item of a line.
///
/// # Errors
/// Why it is none.
pub(super) fn item(line: &[u8]) -> Result<Value, String> {
    let mut json: Value = serde_json::from_slice(line).map_err(|problem| format!("no JSON: {problem}"))?;
    match json.get_mut("Item").map(Value::take) {
        Some(item) if item.is_object() => Ok(item),
        Some(_) => Err("\"Item\" is no object".to_owned()),
        None if json.get("Keys").is_some() => {
            Err("no \"Item\": a line of an incremental export, which tells a change and not an item".to_owned())
        }
        None => Err("no \"Item\"; a line looks like {\"Item\":{\"id\":{\"S\":\"ada\"}}}".to_owned()),
    }
}

/// Where bad lines go.
pub(super) struct Aside {
    paths: [PathBuf; 2],
    files: Option<[File; 2]>,
    /// How much of them is of lines that are done.
    pub(super) bytes: [u64; 2],
    told: u64,
}

impl Aside {
    /// Beside `path`: new ones, or where an import goes on those it had, with what stands behind its position cut off.
    ///
    /// # Errors
    /// Where there should be new ones, and those of an earlier import are there.
    pub(super) fn open(path: &Path, kept: Option<[u64; 2]>) -> Result<Aside, Failure> {
        let paths = [beside(path, "rejected"), beside(path, "reasons")];
        let mut aside = Aside { paths, files: None, bytes: kept.unwrap_or_default(), told: 0 };
        let there = aside.paths.iter().find(|path| std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0));
        match (kept, there) {
            (None, Some(there)) => {
                Err(Failure::from(format!("{} is there from an earlier import; move it away", there.display())))
            }
            (Some(_), Some(_)) => {
                aside.make()?;
                Ok(aside)
            }
            (_, None) => {
                aside.bytes = [0; 2];
                Ok(aside)
            }
        }
    }

    /// Opens both files, cut to what is done.
    fn make(&mut self) -> Result<&mut [File; 2], Failure> {
        if self.files.is_none() {
            let open = |number: usize| {
                let path = &self.paths[number];
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(at(path))?;
                file.set_len(self.bytes[number]).map_err(at(path))?;
                Ok::<File, Failure>(file)
            };
            self.files = Some([open(0)?, open(1)?]);
        }
        self.files.as_mut().ok_or_else(|| Failure::from("the files for bad lines are not open".to_owned()))
    }

    /// Sets a line aside.
    pub(super) fn put(&mut self, number: u64, line: &[u8], reason: &str, bar: &ProgressBar) -> Result<(), Failure> {
        let reason = format!("line {number}: {reason}\n");
        let (first, second) = (self.paths[0].clone(), self.paths[1].clone());
        let [rejected, reasons] = self.make()?;
        rejected.write_all(&[line, &b"\n"[..]].concat()).map_err(at(&first))?;
        reasons.write_all(reason.as_bytes()).map_err(at(&second))?;
        self.bytes[0] += line.len() as u64 + 1;
        self.bytes[1] += reason.len() as u64;
        self.told += 1;
        if self.told <= TOLD_MAX {
            bar.suspend(|| eprint!("{reason}"));
        }
        if self.told == TOLD_MAX {
            bar.suspend(|| eprintln!("further ones are told in {} only", second.display()));
        }
        Ok(())
    }

    /// Puts what was set aside on the disk.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        for (file, path) in self.files.iter().flatten().zip(&self.paths) {
            file.sync_data().map_err(at(path))?;
        }
        Ok(())
    }

    /// Where the lines themselves are.
    pub(super) fn rejected(&self) -> &Path {
        &self.paths[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn all(path: &Path, read: u64) -> Result<Vec<String>, Failure> {
        let mut lines = Lines::open(path, read, &ProgressBar::hidden())?;
        let mut all = Vec::new();
        while let Some(line) = lines.next_line()? {
            all.push(String::from_utf8(line).unwrap());
        }
        Ok(all)
    }

    #[test]
    fn plain_and_compressed_files_have_the_same_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let members = [gzip(b"a\r\n\nb"), gzip(b"b\nc")].concat();
        for content in [&b"a\r\n\nbb\nc"[..], members.as_slice()] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(all(&path, 0).unwrap(), ["a", "", "bb", "c"]);
            assert_eq!(all(&path, 3).unwrap(), ["c"]);
            assert!(all(&path, 5).is_err(), "it was longer");
        }
        std::fs::write(&path, &members[..members.len() - 4]).unwrap();
        assert!(all(&path, 0).is_err(), "a file that was cut is not taken for a whole one");
        std::fs::write(&path, b"").unwrap();
        assert!(all(&path, 0).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_item_says_why() {
        assert_eq!(item(br#"{"Item":{"id":{"S":"a"}}}"#).unwrap()["id"]["S"], "a");
        let cases: [(&[u8], &str); 5] = [
            (b"{", "no JSON"),
            (b"\xff", "no JSON"),
            (b"[]", "no \"Item\""),
            (b"{\"Item\":7}", "no object"),
            (b"{\"Keys\":{},\"NewImage\":{}}", "incremental"),
        ];
        for (line, told) in cases {
            let reason = item(line).unwrap_err();
            assert!(reason.contains(told), "{reason}");
        }
    }

    #[test]
    fn bad_lines_are_kept_and_those_behind_the_position_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in");
        let bar = ProgressBar::hidden();
        let mut aside = Aside::open(&path, None).unwrap();
        assert!(!aside.rejected().exists(), "not before it is needed");
        aside.put(3, b"bad", "why", &bar).unwrap();
        aside.sync().unwrap();
        let kept = aside.bytes;
        aside.put(4, b"worse", "why", &bar).unwrap();
        assert!(Aside::open(&path, None).is_err(), "those of an earlier import are not mixed with new ones");
        let mut again = Aside::open(&path, Some(kept)).unwrap();
        again.put(5, b"other", "because", &bar).unwrap();
        assert_eq!(std::fs::read(beside(&path, "rejected")).unwrap(), b"bad\nother\n");
        assert_eq!(std::fs::read(beside(&path, "reasons")).unwrap(), b"line 3: why\nline 5: because\n");
    }
}
