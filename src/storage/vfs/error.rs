//! What goes wrong with encrypted files, told apart: each has another remedy. SQLite itself can
//! only say "disk I/O error" (8202) for a page that does not open; the shim notes a [`Damage`]
//! beside the file, and [`super::explain`] puts the two together again.

use std::path::PathBuf;

use crate::domain::ids::FileId;

/// Why an encrypted file was not created, opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum VfsError {
    /// [`super::register`] was not called yet.
    #[error("the encrypting VFS is not registered")]
    NotRegistered,
    /// Before 3.51.3 a WAL reset could lose commits.
    #[error("SQLite {found} is older than 3.51.3, which lost commits when a write-ahead log was reset")]
    SqliteTooOld {
        /// Version of the linked SQLite, as `major * 1_000_000 + minor * 1_000 + patch`.
        found: i32,
    },
    /// A file of that name is there already.
    #[error("{path}: already exists")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The first bytes are not ours.
    #[error("{path}: not a dStore database file")]
    NotDstore {
        /// The file.
        path: PathBuf,
    },
    /// Written by a later dStore.
    #[error("{path}: format version {found} is newer than {known}, which this dStore knows")]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        found: u32,
        /// Latest version known here.
        known: u32,
    },
    /// The header block is damaged.
    #[error("{path}: the header block is damaged: {what}")]
    HeaderDamaged {
        /// The file.
        path: PathBuf,
        /// Which part.
        what: &'static str,
    },
    /// Shorter than it says of itself.
    #[error("{path}: truncated, {found} of {expected} bytes are there")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes there should be, at least.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// No key slot opens with this key-encryption key, or the data key is not this file's.
    #[error("{path}: the key is wrong")]
    WrongKey {
        /// The file.
        path: PathBuf,
    },
    /// Another file lies where this one should.
    #[error("{path}: is file {found}, expected was {expected}")]
    Swapped {
        /// The file.
        path: PathBuf,
        /// Who should be there.
        expected: FileId,
        /// Who is.
        found: FileId,
    },
    /// Both key slots are taken by other versions: a rotation is not finished.
    #[error("{path}: both key slots are in use, finish the earlier rotation first")]
    RotationPending {
        /// The file.
        path: PathBuf,
    },
    /// Nobody in this process has the file open.
    #[error("{path}: is not open")]
    NotOpen {
        /// The file.
        path: PathBuf,
    },
    /// A page or frame does not open.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The operating system refused.
    #[error("{path}: {action} failed")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Its reason.
        source: std::io::Error,
    },
    /// SQLite refused, for a reason of its own.
    #[error("{path}: SQLite refused")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: rusqlite::Error,
    },
}

/// A place in a file that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {kind}, at {} {page}", file.display(), kind.unit())]
pub struct Damage {
    /// The database file, also where its log is meant.
    pub file: PathBuf,
    /// Page number from 1 in the database, frame number from 0 in its log.
    pub page: u64,
    /// What is wrong there.
    pub kind: DamageKind,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DamageKind {
    /// A page of the database file does not open.
    Page,
    /// A page opens but was not laid out for this VFS.
    ForeignPage,
    /// A page that should be there lies behind the end of the file.
    Missing,
    /// A frame of the write-ahead log does not open.
    Frame,
    /// Recovery stopped at a frame, or log header, that does not open. A torn tail after a crash
    /// looks like this too: whoever knows what was synced must decide.
    LogCut,
    /// A rollback journal lies beside the file. None is ever written here.
    Journal,
}

impl DamageKind {
    fn unit(self) -> &'static str {
        match self {
            DamageKind::Page | DamageKind::ForeignPage | DamageKind::Missing | DamageKind::Journal => "page",
            DamageKind::Frame | DamageKind::LogCut => "frame",
        }
    }
}

impl std::fmt::Display for DamageKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            DamageKind::Page => "a page is damaged, swapped or of another file",
            DamageKind::ForeignPage => "a page has another layout",
            DamageKind::Missing => "a page is missing at the end",
            DamageKind::Frame => "the write-ahead log is damaged",
            DamageKind::LogCut => "the write-ahead log ends early",
            DamageKind::Journal => "a rollback journal lies beside the file",
        })
    }
}
