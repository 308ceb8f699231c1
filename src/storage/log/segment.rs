//! The files of the log's folder, and reading batches from them.
//!
//! | file | |
//! |---|---|
//! | `0000000000000001.log` … | segments, numbered in hexadecimal from 1 |
//! | `spare-0001.log` … | preallocated files that become segments by renaming |
//! | `reserve` | space given up for a spare when the disk is full |
//! | `lock` | locked while the log is open |
//!
//! A file gets a segment's name only when it is allocated and synced, so a segment shorter than it should be was
//! cut by somebody. Dropped segments become spares: blocks that were written before sync faster than fresh ones,
//! whose first write also changes the file system's block map. Their old batches cannot be taken for new ones, for each
//! batch names its log, segment and offset; and the first header's place is zeroed before the file is a spare.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use super::error::LogError;
use super::format::{BATCH_HEADER_BYTES, BatchHeader, Place, padded};

/// The folder of a log.
pub(crate) struct LogFolder {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    segment_bytes: u64,
    spares: Vec<PathBuf>,
    spares_named: u64,
    has_reserve: bool,
    segments: BTreeSet<u64>,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::Disk { action, path, source }
}

/// The file of a segment of the log in `folder`.
pub(crate) fn path_in(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:016x}.log"))
}

/// Whether an error says that the disk is full.
pub(crate) fn is_full(error: &LogError) -> bool {
    matches!(error, LogError::Disk { source, .. }
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

/// Whether an error says that the file is not there.
pub(crate) fn is_missing(error: &LogError) -> bool {
    matches!(error, LogError::Disk { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

impl LogFolder {
    /// Makes the folder where it is missing, and locks it: the file returned holds the lock.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        segment_bytes: u64,
    ) -> Result<(LogFolder, Box<dyn DiskFile>), LogError> {
        disk.make_folder(folder).map_err(failed("make", folder))?;
        let lock_path = folder.join("lock");
        let lock = match disk.open(&lock_path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.open(&lock_path, true),
            opened => opened,
        };
        let lock = lock.map_err(failed("open", &lock_path))?;
        if !lock.lock().map_err(failed("lock", &lock_path))? {
            return Err(LogError::InUse { folder: folder.to_owned() });
        }
        let mut this = LogFolder {
            disk,
            folder: folder.to_owned(),
            segment_bytes,
            spares: Vec::new(),
            spares_named: 0,
            has_reserve: false,
            segments: BTreeSet::new(),
        };
        this.list()?;
        Ok((this, lock))
    }

    fn list(&mut self) -> Result<(), LogError> {
        for path in self.disk.list(&self.folder).map_err(failed("list", &self.folder))? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name == "reserve" {
                self.has_reserve = true;
            } else if let Some(number) = name.strip_prefix("spare-").and_then(|rest| rest.strip_suffix(".log")) {
                self.spares_named = self.spares_named.max(u64::from_str_radix(number, 16).unwrap_or(0));
                self.spares.push(path);
            } else if let Some(number) = name.strip_suffix(".log").filter(|number| number.len() == 16) {
                self.segments.extend(u64::from_str_radix(number, 16));
            }
        }
        self.spares.sort();
        Ok(())
    }

    /// Where the log is.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// The segment's file.
    pub(crate) fn segment_path(&self, number: u64) -> PathBuf {
        path_in(&self.folder, number)
    }

    /// Numbers of the segments whose files are there.
    pub(crate) fn segments(&self) -> &BTreeSet<u64> {
        &self.segments
    }

    /// How many spares there are.
    pub(crate) fn spare_count(&self) -> usize {
        self.spares.len()
    }

    /// Whether the reserve is there.
    pub(crate) fn has_reserve(&self) -> bool {
        self.has_reserve
    }

    /// Opens a segment's file and says how long it is.
    pub(crate) fn open_segment(&self, number: u64) -> Result<(Box<dyn DiskFile>, u64), LogError> {
        open_in(&*self.disk, &self.segment_path(number))
    }

    /// Syncs all segments and the folder.
    pub(crate) fn sync_all(&self) -> Result<(), LogError> {
        for number in &self.segments {
            let (file, _) = self.open_segment(*number)?;
            file.sync_data().map_err(failed("sync", &self.segment_path(*number)))?;
        }
        self.sync()
    }

    /// Syncs the folder.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        self.disk.sync_folder(&self.folder).map_err(failed("sync", &self.folder))
    }

    /// Removes spares of another size or that were not finished: a crash while one was made.
    pub(crate) fn discard_odd_spares(&mut self) -> Result<(), LogError> {
        for path in std::mem::take(&mut self.spares) {
            let length = self.disk.open(&path, false).and_then(|file| file.length()).map_err(failed("open", &path))?;
            if length == self.segment_bytes {
                self.spares.push(path);
            } else {
                self.disk.remove(&path).map_err(failed("remove", &path))?;
            }
        }
        self.sync()
    }

    /// Makes one more spare, allocated and synced.
    pub(crate) fn make_spare(&mut self) -> Result<(), LogError> {
        let path = self.name_spare();
        let file = self.disk.open(&path, true).map_err(failed("make", &path))?;
        let made = file.allocate(self.segment_bytes).and_then(|()| file.sync_data());
        if let Err(source) = made {
            drop(file);
            // Best effort: an unfinished spare is discarded at the next start.
            if self.disk.remove(&path).is_err() {
                tracing::warn!(path = %path.display(), "an unfinished spare of the log could not be removed");
            }
            return Err(LogError::Disk { action: "allocate", path, source });
        }
        self.sync()?;
        self.spares.push(path);
        Ok(())
    }

    fn name_spare(&mut self) -> PathBuf {
        self.spares_named += 1;
        self.folder.join(format!("spare-{:04x}.log", self.spares_named))
    }

    /// Makes the reserve.
    pub(crate) fn make_reserve(&mut self, bytes: u64) -> Result<(), LogError> {
        let path = self.folder.join("reserve");
        if self.has_reserve {
            return Ok(());
        }
        let file = self.disk.open(&path, true).map_err(failed("make", &path))?;
        if let Err(source) = file.allocate(bytes) {
            drop(file);
            self.disk.remove(&path).map_err(failed("remove", &path))?;
            return Err(LogError::Disk { action: "allocate", path, source });
        }
        self.has_reserve = true;
        self.sync()
    }

    /// Gives the reserve's space back to the disk.
    pub(crate) fn give_up_reserve(&mut self) -> Result<(), LogError> {
        let path = self.folder.join("reserve");
        self.disk.remove(&path).map_err(failed("remove", &path))?;
        self.has_reserve = false;
        self.sync()
    }

    /// Turns a spare into a segment; `None` where there is no spare. A file that is there already is taken as it is:
    /// it was made just before a crash and has nothing but a mark at its start.
    pub(crate) fn begin_segment(&mut self, number: u64) -> Result<Option<(Box<dyn DiskFile>, u64)>, LogError> {
        if !self.segments.contains(&number) {
            let Some(spare) = self.spares.pop() else { return Ok(None) };
            let path = self.segment_path(number);
            self.disk.rename(&spare, &path).map_err(failed("rename", &spare))?;
            self.segments.insert(number);
        }
        self.sync()?;
        self.open_segment(number).map(Some)
    }

    /// Makes a spare of a segment that is no longer needed, or removes it where there are enough. The folder is
    /// not synced: if the old name comes back, it is below the oldest number and retired again.
    pub(crate) fn retire(&mut self, number: u64, spares_wanted: usize) -> Result<(), LogError> {
        let path = self.segment_path(number);
        let (file, length) = match self.open_segment(number) {
            // It was to go anyway, and must not keep those behind it.
            Err(error) if is_missing(&error) => {
                self.segments.remove(&number);
                return Ok(());
            }
            opened => opened?,
        };
        if length == self.segment_bytes && self.spares.len() < spares_wanted {
            file.write_at(&[0; BATCH_HEADER_BYTES], 0).map_err(failed("write", &path))?;
            file.sync_data().map_err(failed("sync", &path))?;
            let spare = self.name_spare();
            self.disk.rename(&path, &spare).map_err(failed("rename", &path))?;
            self.spares.push(spare);
        } else {
            self.disk.remove(&path).map_err(failed("remove", &path))?;
        }
        self.segments.remove(&number);
        Ok(())
    }

    /// A reader of a segment.
    pub(crate) fn reader(&self, number: u64) -> Result<SegmentReader, LogError> {
        SegmentReader::open(&*self.disk, &self.folder, number)
    }
}

fn open_in(disk: &dyn Disk, path: &Path) -> Result<(Box<dyn DiskFile>, u64), LogError> {
    let file = disk.open(path, false).map_err(failed("open", path))?;
    let length = file.length().map_err(failed("measure", path))?;
    Ok((file, length))
}

/// Reads a segment through a window of a mebibyte, or of one batch where that is larger.
pub(crate) struct SegmentReader {
    file: Box<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) number: u64,
    pub(crate) length: u64,
    window: Vec<u8>,
    window_start: u64,
    is_lenient: bool,
}

const WINDOW_BYTES: usize = 1 << 20;
/// What a disk does not give, it does not give in blocks of this length.
const BLOCK_BYTES: usize = 4096;

/// What stands at a place of a segment.
#[derive(Debug)]
pub(crate) enum Found {
    /// A batch, whole.
    Batch(BatchHeader),
    /// Zeros where a header would be: nothing was written here.
    Blank,
    /// Something else.
    Bad {
        /// The header, where that is whole and only the body is not.
        header: Option<BatchHeader>,
        /// What is wrong.
        detail: String,
    },
}

impl SegmentReader {
    /// A reader of a segment of the log in `folder`.
    pub(crate) fn open(disk: &dyn Disk, folder: &Path, number: u64) -> Result<SegmentReader, LogError> {
        let path = path_in(folder, number);
        let (file, length) = open_in(disk, &path)?;
        Ok(SegmentReader { file, path, number, length, window: Vec::new(), window_start: 0, is_lenient: false })
    }

    /// The same reader, for whom blocks that the disk does not give are zeros: those are no batch, and fail a checksum.
    pub(crate) fn lenient(self) -> SegmentReader {
        SegmentReader { is_lenient: true, ..self }
    }

    /// Up to `length` bytes from `offset`; fewer only at the end of the file.
    pub(crate) fn bytes(&mut self, offset: u64, length: usize) -> Result<&[u8], LogError> {
        let window_end = self.window_start + self.window.len() as u64;
        if offset < self.window_start || offset + length as u64 > window_end {
            let wanted = (length.max(WINDOW_BYTES) as u64).min(self.length.saturating_sub(offset));
            self.window.resize(wanted as usize, 0);
            let read = match self.file.read_at(&mut self.window, offset) {
                Ok(read) => read,
                Err(_) if self.is_lenient => {
                    self.read_blocks(offset);
                    self.window.len()
                }
                Err(source) => {
                    // What is in it belongs to no place.
                    self.window.clear();
                    return Err(failed("read", &self.path)(source));
                }
            };
            self.window.truncate(read);
            self.window_start = offset;
        }
        let start = (offset - self.window_start) as usize;
        let end = (start + length).min(self.window.len());
        Ok(&self.window[start..end])
    }

    /// Fills the window from `offset` on, each block by itself.
    fn read_blocks(&mut self, offset: u64) {
        let mut at = 0;
        while at < self.window.len() {
            let place = offset + at as u64;
            let end = (at + BLOCK_BYTES - place as usize % BLOCK_BYTES).min(self.window.len());
            let block = &mut self.window[at..end];
            block.fill(0);
            if self.file.read_at(block, place).is_err() {
                block.fill(0);
            }
            at = end;
        }
    }

    /// What stands at `offset`.
    pub(crate) fn find(&mut self, offset: u64) -> Result<Found, LogError> {
        let place = Place { segment: self.number, offset };
        let length = self.length;
        let bytes = self.bytes(offset, BATCH_HEADER_BYTES)?;
        if bytes.len() < BATCH_HEADER_BYTES {
            return Ok(Found::Bad { header: None, detail: "the file ends there".into() });
        }
        let Some(header) = BatchHeader::decode(bytes) else {
            let is_blank = bytes.iter().all(|byte| *byte == 0);
            let detail = "no batch begins there".into();
            return Ok(if is_blank { Found::Blank } else { Found::Bad { header: None, detail } });
        };
        if header.place != place {
            let detail = format!("it holds the batch of segment {}, {}", header.place.segment, header.place.offset);
            return Ok(Found::Bad { header: None, detail });
        }
        if offset + header.batch_bytes() > length {
            return Ok(Found::Bad { header: Some(header), detail: "the file ends within the batch".into() });
        }
        let body_offset = offset + BATCH_HEADER_BYTES as u64;
        let body = self.bytes(body_offset, padded(header.body_bytes as usize))?;
        if header.fits_body(body) {
            Ok(Found::Batch(header))
        } else {
            let detail = format!("the checksum of a batch of {} records does not fit", header.record_count);
            Ok(Found::Bad { header: Some(header), detail })
        }
    }

    /// The body of a batch, without its padding.
    pub(crate) fn body(&mut self, header: &BatchHeader) -> Result<&[u8], LogError> {
        self.bytes(header.place.offset + BATCH_HEADER_BYTES as u64, header.body_bytes as usize)
    }

    /// Writes bytes of the file once more, from `start` to `end`.
    pub(crate) fn rewrite(&mut self, start: u64, end: u64) -> Result<(), LogError> {
        let mut offset = start;
        while offset < end {
            let length = (end - offset).min(WINDOW_BYTES as u64) as usize;
            let bytes = self.bytes(offset, length)?.to_vec();
            self.file.write_at(&bytes, offset).map_err(failed("write", &self.path))?;
            offset += length as u64;
        }
        Ok(())
    }
}
