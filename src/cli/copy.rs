//! `dstore copy FROM TO`: a data folder is copied while its process runs, as a backup. What lies in TO afterwards is what
//! FROM would be after the machine had lost power at one moment between the beginning and the end of the command: a state
//! that every role starts from.
//!
//! Reading files one after the other does not give that by itself. A database that is written meanwhile has old and
//! new pages, and a log that grows has holes. So:
//!
//! * **Databases** and all that is written in place or anew are copied, and copied again where they have changed since (by
//!   length, time of change and inode), until a whole pass has seen no change from its beginning to its end. Since only what changed is
//!   copied again, passes get short: a node brings memory into files now and then, not all the time.
//! * **The commit log** is growing all the time, and only at its end. It is copied within that last pass, the youngest
//!   segment first, and each from its end to its beginning, a page of memory at a time. Whatever was read of a later place
//!   was written after all that stands before it, which is read later: so there is no hole, and what may be cut off is the end, as
//!   after a crash.
//! * What a time of change cannot tell (it moves in steps of some milliseconds) is not believed: a file that changed just now counts as
//!   changing.
//!
//! Owners are kept where that is allowed; others may read nothing of a copy. The lock is not copied. The log's reserve and spares, which hold nothing, are not either; they are made anew. Counts of usage and copies of
//! what the process was told are taken as they are found: they are replaced or appended whole.
//!
//! What it does not do: it knows nothing of other nodes. Copies of several nodes are from several moments, which is fine for everything
//! that was acknowledged before the first of them began (docs/OPERATIONS.md).
//!
//! Rejected: asking the process for a copy. That needs a right to read everything, over a port. And a snapshot of the file system is better than this
//! wherever there is one; this is for where there is none, as in a volume of Docker.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, chown, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Args;

/// How many times what changes is copied again.
const PASSES_MAX: usize = 200;
/// How long to wait between two passes.
const PASS_PAUSE: Duration = Duration::from_millis(50);
/// A time of change younger than that may hide a later change.
const SETTLED: Duration = Duration::from_millis(100);
/// A piece of a log that is read at once; memory is handed out in such pages.
const PAGE_BYTES: usize = 4096;

/// Flags of `dstore copy`.
#[derive(Debug, Args)]
pub struct CopyFlags {
    /// The data folder of a process, which may be running
    from: PathBuf,
    /// A folder that is not there yet, or empty
    to: PathBuf,
}

/// Copies, and says how much.
pub fn run(flags: &CopyFlags) -> bool {
    let Copied { files, bytes, passes } = match copy(&flags.from, &flags.to, &System) {
        Ok(copied) => copied,
        Err(error) => {
            eprintln!("error: {} to {}: {error}", flags.from.display(), flags.to.display());
            return false;
        }
    };
    println!("{}", serde_json::json!({ "files": files, "bytes": bytes, "passes": passes }));
    true
}

/// What goes on beside a copy: time, and in tests somebody who writes.
trait Beside {
    /// The time by which the system writes the times of files.
    fn now(&self) -> SystemTime;

    /// Waits before the next pass.
    fn wait(&self);

    /// A file, or a page of a log, is about to be read.
    fn before_read(&self) {}
}

/// The machine's own.
struct System;

impl Beside for System {
    #[expect(clippy::disallowed_methods, reason = "it is compared with what the file system says")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn wait(&self) {
        std::thread::sleep(PASS_PAUSE);
    }
}

/// What was done.
struct Copied {
    files: usize,
    bytes: u64,
    passes: usize,
}

/// What tells whether a file has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed_at: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { inode: metadata.ino(), bytes: metadata.len(), changed_at: (metadata.mtime(), metadata.mtime_nsec()) }
    }

    /// Whether a change after this was taken would show.
    fn is_settled(&self, now: SystemTime) -> bool {
        let age = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::new(self.changed_at.0.max(0) as u64, self.changed_at.1.max(0) as u32);
        age.saturating_sub(changed) > SETTLED
    }
}

/// How a file is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It must not change while the last pass is under way.
    Still,
    /// It grows at its end.
    Log,
    /// It may change; any state of it will do.
    Loose,
    /// It is not copied.
    Nothing,
}

fn kind(path: &Path) -> Kind {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    match (folder, name) {
        (_, "lock") => Kind::Nothing,
        ("log", name) if name == "reserve" || name.starts_with("spare-") => Kind::Nothing,
        ("log", _) => Kind::Log,
        ("usage", _) => Kind::Loose,
        (_, name) if name.ends_with(".copy") => Kind::Loose,
        // Half of something that takes its place by renaming, a moment later.
        (_, name) if name.ends_with(".new") && !name.contains(".db") => Kind::Nothing,
        _ => Kind::Still,
    }
}

/// All files below a folder, by their path within it. One that goes while this looks is not there.
fn files(root: &Path) -> Result<BTreeMap<PathBuf, Stamp>> {
    let mut found = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        let entries = match std::fs::read_dir(root.join(&folder)) {
            Err(error) if error.kind() == ErrorKind::NotFound && !folder.as_os_str().is_empty() => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => open.push(path),
                Ok(metadata) if metadata.is_file() && kind(&path) != Kind::Nothing => {
                    found.insert(path, Stamp::of(&metadata));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

fn copy(from: &Path, to: &Path, beside: &impl Beside) -> Result<Copied> {
    DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    if std::fs::read_dir(to)?.next().is_some() {
        return Err(Error::new(ErrorKind::AlreadyExists, "there is something in the folder to copy to"));
    }
    let mut copied: BTreeMap<PathBuf, Stamp> = BTreeMap::new();
    for passes in 1..=PASSES_MAX {
        let before = files(from)?;
        let mut is_still = true;
        for gone in copied.keys().filter(|path| !before.contains_key(*path)) {
            std::fs::remove_file(to.join(gone))?;
        }
        copied.retain(|path, _| before.contains_key(path));
        // Logs last, and the youngest of their segments first.
        let (logs, others): (Vec<_>, Vec<_>) = before.iter().partition(|(path, _)| kind(path) == Kind::Log);
        for (path, stamp) in others.into_iter().chain(logs.into_iter().rev()) {
            if copied.get(path) == Some(stamp) {
                continue;
            }
            let settled = stamp.is_settled(beside.now());
            match copy_file(from, to, path, beside) {
                Ok(()) if settled => drop(copied.insert(path.clone(), stamp.clone())),
                Ok(()) => drop(copied.insert(path.clone(), Stamp { inode: 0, ..stamp.clone() })),
                Err(error) if error.kind() == ErrorKind::NotFound => is_still = false,
                Err(error) => return Err(error),
            }
            is_still &= kind(path) != Kind::Still || settled;
        }
        is_still &= still(&before, &files(from)?);
        if is_still {
            sync(to)?;
            let bytes = copied.values().map(|stamp| stamp.bytes).sum();
            return Ok(Copied { files: copied.len(), bytes, passes });
        }
        beside.wait();
    }
    Err(Error::other(
        "its files changed all the while; copy it when less is written, from a snapshot of its file system, or with the process frozen",
    ))
}

/// Whether nothing has changed that must not, and no segment of a log has come or gone.
fn still(before: &BTreeMap<PathBuf, Stamp>, after: &BTreeMap<PathBuf, Stamp>) -> bool {
    let part = |all: &BTreeMap<PathBuf, Stamp>| {
        let counted = all.iter().filter_map(|(path, stamp)| match kind(path) {
            Kind::Still => Some((path.clone(), Some(stamp.clone()))),
            Kind::Log => Some((path.clone(), None)),
            _ => None,
        });
        counted.collect::<Vec<_>>()
    };
    part(before) == part(after)
}

fn copy_file(from: &Path, to: &Path, path: &Path, beside: &impl Beside) -> Result<()> {
    beside.before_read();
    let source = File::open(from.join(path))?;
    make_folders(from, to, path)?;
    let target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to.join(path))?;
    let metadata = source.metadata()?;
    give(&metadata, |user, group| fchown(&target, user, group))?;
    if kind(path) == Kind::Log {
        return copy_backwards(&source, &target, metadata.len(), beside);
    }
    let (mut source, mut target) = (source, target);
    std::io::copy(&mut source, &mut target).map(drop)
}

/// The folders above a file that are not there yet.
fn make_folders(from: &Path, to: &Path, path: &Path) -> Result<()> {
    let missing = path.ancestors().skip(1).take_while(|folder| !to.join(folder).exists());
    for folder in missing.collect::<Vec<_>>().into_iter().rev() {
        DirBuilder::new().mode(0o700).create(to.join(folder))?;
        give(&std::fs::metadata(from.join(folder))?, |user, group| chown(to.join(folder), user, group))?;
    }
    Ok(())
}

/// Whoever may, which is root, leaves copies to whom the original belongs.
fn give(original: &Metadata, change: impl Fn(Option<u32>, Option<u32>) -> Result<()>) -> Result<()> {
    match change(Some(original.uid()), Some(original.gid())) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        changed => changed,
    }
}

/// From the end to the beginning. Pages of zeros become a hole, since segments are as long as they may get from the start.
fn copy_backwards(source: &File, target: &File, bytes: u64, beside: &impl Beside) -> Result<()> {
    target.set_len(bytes)?;
    let mut page = [0; PAGE_BYTES];
    for number in (0..bytes.div_ceil(PAGE_BYTES as u64)).rev() {
        let at = number * PAGE_BYTES as u64;
        let piece = &mut page[..(bytes - at).min(PAGE_BYTES as u64) as usize];
        beside.before_read();
        source.read_exact_at(piece, at)?;
        if piece.iter().any(|byte| *byte != 0) {
            target.write_all_at(piece, at)?;
        }
    }
    Ok(())
}

/// A copy that is not durable is none.
fn sync(root: &Path) -> Result<()> {
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            match entry.metadata()?.is_dir() {
                true => open.push(entry.path()),
                false => File::open(entry.path())?.sync_all()?,
            }
        }
        File::open(&folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_kept_is_copied_and_nothing_else() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let put = |path: &str| {
            let path = from.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, path.file_name().unwrap().as_encoded_bytes()).unwrap();
        };
        let kept =
            ["p/node.db", "p/node.db-wal", "p/t/a.db", "p/log/0000000000000001.log", "p/usage/1.spool", "p/boots"];
        let left = ["lock", "p/log/lock", "p/log/reserve", "p/log/spare-0002.log", "p/boots.new"];
        kept.iter().chain(&left).for_each(|path| put(path));
        let copied = copy(from.path(), &to.path().join("new"), &System).unwrap();
        assert_eq!(copied.files, kept.len());
        for path in kept {
            let read = |root: &Path| std::fs::read(root.join(path)).unwrap();
            assert_eq!(read(from.path()), read(&to.path().join("new")), "{path}");
        }
        for path in left {
            assert!(!to.path().join("new").join(path).exists(), "{path}");
        }
        assert!(copy(from.path(), &to.path().join("new"), &System).is_err(), "never over something");
    }

    /// How long a segment of the writer's log is.
    const SEGMENT: u64 = 256 << 10;
    /// What it writes at once.
    const PIECE: usize = 1 << 10;
    /// How much it writes before it notes that.
    const NOTED_BYTES: u64 = 64 << 10;
    /// After so many reads it writes as many pieces: reading gets ahead of it, and it overtakes reading.
    const BURST: u64 = 13;
    /// How often it notes something while a copy is made. Then only the log grows, or no copy would come to an end.
    const NOTES: u32 = 3;

    /// Writes while a copy reads. Notes in a "database" how long its log is, always after the log, and begins another segment
    /// now and then. Its clock, by which the files' times of change are, moves only with what it writes and with the pauses.
    struct Writer {
        root: PathBuf,
        milliseconds: Cell<u64>,
        reads: Cell<u64>,
        written: Cell<u64>,
        notes_left: Cell<u32>,
    }

    impl Writer {
        fn write(&self, pieces: u64) {
            for _ in 0..pieces {
                let (segment, at) = (self.written.get() / SEGMENT, self.written.get() % SEGMENT);
                let path = self.root.join(format!("log/{segment:04}.log"));
                let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
                file.set_len(SEGMENT).unwrap();
                file.write_all_at(&[7; PIECE], at).unwrap();
                self.changed(&file);
                self.written.set(self.written.get() + PIECE as u64);
                if self.written.get().is_multiple_of(NOTED_BYTES) && self.notes_left.get() > 0 {
                    self.notes_left.set(self.notes_left.get() - 1);
                    let file = File::create(self.root.join("items.db")).unwrap();
                    file.write_all_at(&self.written.get().to_le_bytes(), 0).unwrap();
                    self.changed(&file);
                }
            }
        }

        fn changed(&self, file: &File) {
            self.milliseconds.set(self.milliseconds.get() + 1);
            file.set_modified(self.now()).unwrap();
        }
    }

    impl Beside for Writer {
        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_millis(self.milliseconds.get())
        }

        fn wait(&self) {
            self.milliseconds.set(self.milliseconds.get() + PASS_PAUSE.as_millis() as u64);
        }

        fn before_read(&self) {
            self.reads.set(self.reads.get() + 1);
            if self.reads.get().is_multiple_of(BURST) {
                self.write(BURST);
            }
        }
    }

    #[test]
    fn a_log_that_grows_has_no_hole_and_reaches_as_far_as_the_database_says() {
        let from = tempfile::tempdir().unwrap();
        std::fs::create_dir(from.path().join("log")).unwrap();
        let writer = Writer {
            root: from.path().to_owned(),
            milliseconds: Cell::new(0),
            reads: Cell::new(0),
            written: Cell::new(0),
            notes_left: Cell::new(1),
        };
        // Before the database says anything, no log would be too short for it.
        writer.write(NOTED_BYTES / PIECE as u64);
        let mut before = 0;
        for round in 0..4 {
            writer.notes_left.set(NOTES);
            let to = tempfile::tempdir().unwrap();
            let copied = copy(from.path(), to.path(), &writer).unwrap();
            assert!(copied.passes > 1, "round {round}: it was written to meanwhile");
            let noted = std::fs::read(to.path().join("items.db")).unwrap();
            let noted = u64::from_le_bytes(noted.try_into().expect("the database was copied whole"));
            assert!(noted > before, "round {round}: {noted} behind {before}");
            before = noted;
            let mut log: Vec<u8> = Vec::new();
            for path in files(to.path()).unwrap().keys().filter(|path| kind(path) == Kind::Log) {
                log.extend(std::fs::read(to.path().join(path)).unwrap());
            }
            let length = log.iter().take_while(|byte| **byte == 7).count();
            assert!(log[length..].iter().all(|byte| *byte == 0), "round {round}: no hole");
            assert!(length as u64 >= noted, "round {round}: {length} of {noted}");
        }
    }
}
