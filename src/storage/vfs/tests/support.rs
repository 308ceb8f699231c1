//! What the tests share: a folder with one encrypted file, and ways to look at it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use uuid::Uuid;

use super::super::*;
use crate::crypto::Key256;
use crate::crypto::cipher::tests::SystemRandom;
use crate::domain::ids::{FileId, NodeId, PlaneId, TableId, TenantId};

/// A folder with one encrypted file that was just made.
pub(super) struct Fixture {
    pub(super) folder: tempfile::TempDir,
    pub(super) path: PathBuf,
    pub(super) identity: FileIdentity,
    pub(super) kek: Key256,
    pub(super) key: Key256,
}

/// A key-encryption key by number.
pub(super) fn kek(number: u8) -> Key256 {
    Key256::new([number; 32])
}

pub(super) fn random() -> Arc<SystemRandom> {
    Arc::new(SystemRandom::default())
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        register(random()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("items.db");
        let identity = identity();
        let key = create_file(&path, &identity, 1, &kek(1), &*random()).unwrap();
        Fixture { folder, path, identity, kek: kek(1), key }
    }

    /// A file with a table and `rows` rows of about 500 bytes, all in the database file.
    pub(super) fn with_rows(rows: u32) -> Fixture {
        let fixture = Fixture::new();
        let connection = fixture.open();
        connection.execute_batch("CREATE TABLE secret_table (id INTEGER PRIMARY KEY, secret_column TEXT)").unwrap();
        insert(&connection, 0..rows);
        assert!(checkpoint(&connection).unwrap().truncated);
        fixture
    }

    pub(super) fn open(&self) -> Connection {
        self.try_open().unwrap()
    }

    pub(super) fn try_open(&self) -> Result<Connection, VfsError> {
        open(&self.path, self.identity.file, &self.key, &OpenOptions::default())
    }

    pub(super) fn log_path(&self) -> PathBuf {
        with_suffix(&self.path, "-wal")
    }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn identity() -> FileIdentity {
    FileIdentity {
        plane: PlaneId(Uuid::from_u128(1)),
        node: NodeId(Uuid::from_u128(2)),
        tenant: Some(TenantId(Uuid::from_u128(3))),
        table: Some(TableId(Uuid::from_u128(4))),
        file: FileId::random(&*random()),
    }
}

/// The text of row `id`, with something in it to look for on disk.
pub(super) fn text(id: u32) -> String {
    format!("sentinel-{id}-").repeat(40)
}

/// Inserts rows in one transaction.
pub(super) fn insert(connection: &Connection, ids: std::ops::Range<u32>) {
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    for id in ids {
        connection.execute("INSERT INTO secret_table VALUES (?1, ?2)", (id, text(id))).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
}

/// All ids in order, each checked to have its own text.
pub(super) fn rows(connection: &Connection) -> rusqlite::Result<Vec<u32>> {
    let mut statement = connection.prepare("SELECT id, secret_column FROM secret_table ORDER BY id")?;
    let found = statement.query_map([], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?)))?;
    found
        .map(|row| {
            let (id, content) = row?;
            assert_eq!(content, text(id), "row {id} has the content it was given");
            Ok(id)
        })
        .collect()
}

pub(super) fn integrity(connection: &Connection) -> String {
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

/// Every page of the database in clear, as SQLite's pager gives them; zeroes for one that cannot be read.
pub(super) fn pages(connection: &Connection) -> Vec<u8> {
    let mut length = 0;
    // SAFETY: the handle is open; what SQLite allocated is copied and given back.
    unsafe {
        let bytes = rusqlite::ffi::sqlite3_serialize(connection.handle(), c"main".as_ptr(), &mut length, 0);
        assert!(!bytes.is_null());
        let pages = std::slice::from_raw_parts(bytes, length as usize).to_vec();
        rusqlite::ffi::sqlite3_free(bytes.cast());
        pages
    }
}

/// Changes one byte of a file that nobody has open.
pub(super) fn flip(path: &Path, position: u64, flip: u8) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ flip], position).unwrap();
}

/// Whether `needle` occurs in `haystack`.
pub(super) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
