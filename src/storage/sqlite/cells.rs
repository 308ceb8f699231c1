//! Items as rows of `cells`, and back.
//!
//! An item is one row with the empty path, which holds its version, and one row for each leaf. A
//! replaced item is compared with the rows that are there, path by path: rows that are the same are
//! left alone, so that a changed leaf costs its own row and the item's own, and nothing else. Long
//! values lie in `large_values`; their rows hold the id, and a type number with 64 added. An item's own row has no type:
//! in its place stands how large the item is, so that what is replaced need not be read whole to know how much a range
//! stores. Where that is 0, the row was written by a version that did not count. Entries of local indexes are written
//! along (`index_entries`).

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::domain::cell::{Assembler, Cell, CellData, CellType, cells_of};
use crate::domain::document::Document;
use crate::domain::key::PackedKey;
use crate::domain::version::ItemVersion;
use crate::storage::store::{BatchChanges, ItemWrite, KeyInterval, StoreError, StoredSize, item_bytes};
use crate::storage::vfs::VfsError;

use super::index_entries::{EntryWriter, KnownIndex};

/// Added to the type number of a value that lies in `large_values`.
pub(super) const LARGE: i64 = 64;
/// Values longer than this, in bytes, lie in `large_values`: a row of more than about a quarter of a
/// page would spill over, and every read of its neighbours would be dearer.
const INLINE_BYTES_MAX: usize = 700;
/// No key and no entry is as high as this: it stands for "to the end".
pub(super) const OPEN_END: [u8; 5] = [0xff; 5];

/// Items of a scan, and whether the interval is exhausted.
type Scanned = (Vec<(PackedKey, Document, ItemVersion)>, bool);

/// What the encrypting layer's error means to a store.
pub(crate) fn vfs_failure(error: &VfsError) -> StoreError {
    let text = error.to_string();
    match error {
        VfsError::WrongKey { .. } => StoreError::Key(text),
        VfsError::NotDstore { .. }
        | VfsError::HeaderDamaged { .. }
        | VfsError::Truncated { .. }
        | VfsError::Swapped { .. }
        | VfsError::Damaged(_) => StoreError::Damaged(text),
        _ => StoreError::Failed(text),
    }
}

/// A row as it is stored.
pub(super) struct Row {
    pub(super) path: String,
    pub(super) number: i64,
    pub(super) data: Stored,
}

#[derive(PartialEq)]
pub(super) enum Stored {
    None,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

fn stored(value: ValueRef<'_>) -> Stored {
    match value {
        ValueRef::Null | ValueRef::Real(_) => Stored::None,
        ValueRef::Integer(number) => Stored::Integer(number),
        ValueRef::Text(text) => Stored::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Stored::Bytes(bytes.to_vec()),
    }
}

/// Writes items; keeps its statements for the time of one transaction.
pub struct CellWriter<'a> {
    connection: &'a Connection,
    read: CachedStatement<'a>,
    insert: CachedStatement<'a>,
    update: CachedStatement<'a>,
    delete: CachedStatement<'a>,
    entries: Option<EntryWriter<'a>>,
    changes: BatchChanges,
    bytes_added: i64,
}

impl<'a> CellWriter<'a> {
    /// A writer on this connection, which keeps these indexes.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn new(connection: &'a Connection, indexes: &'a [KnownIndex]) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            read: connection.prepare_cached("SELECT path, type, data FROM cells WHERE key = ?1 ORDER BY path")?,
            insert: connection.prepare_cached("INSERT INTO cells (key, path, type, data) VALUES (?1, ?2, ?3, ?4)")?,
            update: connection.prepare_cached("UPDATE cells SET type = ?3, data = ?4 WHERE key = ?1 AND path = ?2")?,
            delete: connection.prepare_cached("DELETE FROM cells WHERE key = ?1 AND path = ?2")?,
            entries: EntryWriter::new(connection, indexes)?,
            changes: BatchChanges::default(),
            bytes_added: 0,
        })
    }

    /// What was changed so far.
    pub fn changes(&self) -> BatchChanges {
        self.changes
    }

    /// By how many bytes all items together have grown.
    pub fn bytes_added(&self) -> i64 {
        self.bytes_added
    }

    /// Ends the work on indexes.
    ///
    /// # Errors
    /// What SQLite says outside, entries that are not those of the items inside.
    pub fn finish_indexes(&self) -> rusqlite::Result<Result<(), StoreError>> {
        self.entries.as_ref().map_or(Ok(Ok(())), EntryWriter::finish)
    }

    /// Brings one item to its new state.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn write(&mut self, item: &ItemWrite) -> rusqlite::Result<()> {
        let key = item.key.as_bytes();
        let present = self.rows(key)?;
        if let Some(entries) = &mut self.entries {
            entries.write(item, &present)?;
        }
        let Some(document) = &item.document else {
            return present.iter().try_for_each(|row| self.remove(key, row));
        };
        let cells = cells_of(document);
        let mut old = present.iter().peekable();
        // The item's own row comes first: the empty path is the lowest.
        let own = old.next_if(|row| row.path.is_empty());
        self.write_own_row(key, own, item.version, item_bytes(&item.key, document) as i64)?;
        for (path, cell) in &cells {
            while let Some(gone) = old.next_if(|row| row.path.as_bytes() < path.as_bytes()) {
                self.remove(key, gone)?;
            }
            match old.next_if(|row| row.path == *path) {
                Some(known) => self.change(key, known, cell)?,
                None => self.add(key, path, cell)?,
            }
        }
        old.try_for_each(|gone| self.remove(key, gone))
    }

    fn rows(&mut self, key: &[u8]) -> rusqlite::Result<Vec<Row>> {
        let mut rows = self.read.query([key])?;
        let mut read = Vec::new();
        while let Some(row) = rows.next()? {
            read.push(Row { path: row.get(0)?, number: row.get(1)?, data: stored(row.get_ref(2)?) });
        }
        Ok(read)
    }

    fn write_own_row(
        &mut self,
        key: &[u8],
        known: Option<&Row>,
        version: ItemVersion,
        bytes: i64,
    ) -> rusqlite::Result<()> {
        let version = version.0 as i64;
        match known {
            Some(row) if row.data == Stored::Integer(version) => return Ok(()),
            Some(_) => self.update.execute(params![key, "", bytes, version])?,
            None => self.insert.execute(params![key, "", bytes, version])?,
        };
        self.changes.cells_written += 1;
        self.bytes_added += bytes - known.map_or(0, |row| row.number);
        Ok(())
    }

    fn add(&mut self, key: &[u8], path: &str, cell: &Cell<'_>) -> rusqlite::Result<()> {
        let number = cell.cell_type as i64;
        self.changes.cells_written += 1;
        if let Some(large) = self.put_large(cell)? {
            return self.insert.execute(params![key, path, number + LARGE, large]).map(|_| ());
        }
        match &cell.data {
            CellData::None => self.insert.execute(params![key, path, number, rusqlite::types::Null]),
            CellData::Text(text) => self.insert.execute(params![key, path, number, text]),
            CellData::Bytes(bytes) => self.insert.execute(params![key, path, number, bytes.as_ref()]),
        }
        .map(|_| ())
    }

    fn change(&mut self, key: &[u8], known: &Row, cell: &Cell<'_>) -> rusqlite::Result<()> {
        if self.is_same(known, cell)? {
            return Ok(());
        }
        self.drop_large(known)?;
        let number = cell.cell_type as i64;
        self.changes.cells_written += 1;
        if let Some(large) = self.put_large(cell)? {
            return self.update.execute(params![key, known.path, number + LARGE, large]).map(|_| ());
        }
        match &cell.data {
            CellData::None => self.update.execute(params![key, known.path, number, rusqlite::types::Null]),
            CellData::Text(text) => self.update.execute(params![key, known.path, number, text]),
            CellData::Bytes(bytes) => self.update.execute(params![key, known.path, number, bytes.as_ref()]),
        }
        .map(|_| ())
    }

    fn is_same(&self, known: &Row, cell: &Cell<'_>) -> rusqlite::Result<bool> {
        let number = cell.cell_type as i64;
        if known.number == number + LARGE {
            let Stored::Integer(id) = known.data else { return Ok(false) };
            return Ok(holds(&large_value(self.connection, id)?, &cell.data));
        }
        Ok(known.number == number && holds(&known.data, &cell.data))
    }

    fn remove(&mut self, key: &[u8], row: &Row) -> rusqlite::Result<()> {
        if row.path.is_empty() {
            self.bytes_added -= row.number;
        } else {
            self.drop_large(row)?;
        }
        self.changes.cells_removed += 1;
        self.delete.execute(params![key, row.path]).map(|_| ())
    }

    fn drop_large(&self, row: &Row) -> rusqlite::Result<()> {
        match row.data {
            Stored::Integer(id) if row.number >= LARGE => {
                self.connection.prepare_cached("DELETE FROM large_values WHERE id = ?1")?.execute([id]).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Puts a long value where it belongs, and gives its id; none where it is short.
    fn put_large(&self, cell: &Cell<'_>) -> rusqlite::Result<Option<i64>> {
        let mut statement = match &cell.data {
            CellData::Text(text) if text.len() > INLINE_BYTES_MAX => {
                self.connection.prepare_cached("INSERT INTO large_values (data) VALUES (?1)")?
            }
            CellData::Bytes(bytes) if bytes.len() > INLINE_BYTES_MAX => {
                self.connection.prepare_cached("INSERT INTO large_values (data) VALUES (?1)")?
            }
            _ => return Ok(None),
        };
        match &cell.data {
            CellData::Text(text) => statement.insert([text]),
            CellData::Bytes(bytes) => statement.insert([bytes.as_ref()]),
            CellData::None => return Ok(None),
        }
        .map(Some)
    }
}

/// A value that lies in `large_values`.
pub(super) fn large_value(connection: &Connection, id: i64) -> rusqlite::Result<Stored> {
    let mut statement = connection.prepare_cached("SELECT data FROM large_values WHERE id = ?1")?;
    statement.query_row([id], |row| Ok(stored(row.get_ref(0)?)))
}

fn holds(stored: &Stored, data: &CellData<'_>) -> bool {
    match (stored, data) {
        (Stored::None, CellData::None) => true,
        (Stored::Text(stored), CellData::Text(text)) => stored == text,
        (Stored::Bytes(stored), CellData::Bytes(bytes)) => stored.as_slice() == bytes.as_ref(),
        _ => false,
    }
}

/// Reads an item's version.
///
/// # Errors
/// What SQLite says.
pub fn read_version(connection: &Connection, key: &PackedKey) -> rusqlite::Result<Option<ItemVersion>> {
    let mut statement = connection.prepare_cached("SELECT data FROM cells WHERE key = ?1 AND path = ''")?;
    let version = statement.query_row([key.as_bytes()], |row| row.get::<_, i64>(0)).optional()?;
    Ok(version.map(|version| ItemVersion(version as u64)))
}

/// Reads an item.
///
/// # Errors
/// What SQLite says outside, rows that make no item inside.
pub fn read_item(
    connection: &Connection,
    key: &PackedKey,
) -> rusqlite::Result<Result<Option<(Document, ItemVersion)>, StoreError>> {
    let mut statement = connection.prepare_cached("SELECT path, type, data FROM cells WHERE key = ?1 ORDER BY path")?;
    let mut rows = statement.query([key.as_bytes()])?;
    let mut item: Option<ItemRows> = None;
    while let Some(row) = rows.next()? {
        if let Err(error) = take_row(connection, &mut item, row, 0)? {
            return Ok(Err(error));
        }
    }
    Ok(item.map(ItemRows::finish).transpose())
}

/// The rows of one item, as they come.
struct ItemRows {
    version: ItemVersion,
    assembler: Assembler,
}

impl ItemRows {
    fn finish(self) -> Result<(Document, ItemVersion), StoreError> {
        let document = self.assembler.finish().map_err(|_| nonsense())?;
        Ok((document, self.version))
    }
}

fn nonsense() -> StoreError {
    StoreError::Damaged("the rows of an item do not go together".to_owned())
}

/// Adds a row with path, type and data from column `first` on.
fn take_row(
    connection: &Connection,
    item: &mut Option<ItemRows>,
    row: &rusqlite::Row<'_>,
    first: usize,
) -> rusqlite::Result<Result<(), StoreError>> {
    let path = match row.get_ref(first)? {
        ValueRef::Text(path) => std::str::from_utf8(path).unwrap_or_default(),
        _ => return Ok(Err(nonsense())),
    };
    let number: i64 = row.get(first + 1)?;
    let data = row.get_ref(first + 2)?;
    if path.is_empty() {
        let ValueRef::Integer(version) = data else { return Ok(Err(nonsense())) };
        *item = Some(ItemRows { version: ItemVersion(version as u64), assembler: Assembler::default() });
        return Ok(Ok(()));
    }
    let Some(item) = item else { return Ok(Err(nonsense())) };
    let Some(cell_type) = u8::try_from(number % LARGE).ok().and_then(CellType::from_number) else {
        return Ok(Err(nonsense()));
    };
    let added = match data {
        ValueRef::Integer(id) if number >= LARGE => {
            let mut statement = connection.prepare_cached("SELECT data FROM large_values WHERE id = ?1")?;
            let mut rows = statement.query([id])?;
            match rows.next()? {
                Some(row) => item.assembler.add(path, cell_type, bytes_of(row.get_ref(0)?)),
                None => return Ok(Err(nonsense())),
            }
        }
        data => item.assembler.add(path, cell_type, bytes_of(data)),
    };
    Ok(added.map_err(|_| nonsense()))
}

fn bytes_of(value: ValueRef<'_>) -> &[u8] {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => &[],
    }
}

/// Reads the items of an interval.
///
/// # Errors
/// As [`read_item`].
pub fn scan(
    connection: &Connection,
    interval: &KeyInterval,
    descending: bool,
    items_max: usize,
    bytes_max: usize,
) -> rusqlite::Result<Result<Scanned, StoreError>> {
    let keys = match keys_of(connection, interval, descending, items_max)? {
        Ok(keys) => keys,
        Err(error) => return Ok(Err(error)),
    };
    let mut items = Vec::with_capacity(keys.len());
    let mut bytes = 0;
    let found = keys.len();
    for key in keys {
        match read_item(connection, &key)? {
            Ok(Some((document, version))) => {
                bytes += key.len() + document.as_bytes().len();
                items.push((key, document, version));
            }
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
        if bytes >= bytes_max {
            break;
        }
    }
    let complete = items.len() == found && found < items_max;
    Ok(Ok((items, complete)))
}

/// How many items are in an interval, and their bytes. Walks over all of their rows.
///
/// # Errors
/// What SQLite says.
pub fn interval_size(connection: &Connection, interval: &KeyInterval) -> rusqlite::Result<StoredSize> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*), coalesce(sum(type), 0) FROM cells WHERE key >= ?1 AND key < ?2 AND path = ''",
    )?;
    let end = interval.end.as_ref().map_or(&OPEN_END[..], PackedKey::as_bytes);
    statement.query_row(params![interval.start.as_bytes(), end], |row| {
        let (items, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(StoredSize { items: items.max(0) as u64, bytes: bytes.max(0) as u64 })
    })
}

/// The keys of the items in an interval, found by skipping from one item to the next: a step costs
/// one look-up, however many cells an item has.
fn keys_of(
    connection: &Connection,
    interval: &KeyInterval,
    descending: bool,
    items_max: usize,
) -> rusqlite::Result<Result<Vec<PackedKey>, StoreError>> {
    let mut statement = connection.prepare_cached(if descending {
        "SELECT key FROM cells WHERE key >= ?1 AND key < ?2 ORDER BY key DESC LIMIT 1"
    } else {
        "SELECT key FROM cells WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1"
    })?;
    let mut start = interval.start.as_bytes().to_vec();
    let mut end = interval.end.as_ref().map_or(&OPEN_END[..], PackedKey::as_bytes).to_vec();
    let mut keys = Vec::new();
    while keys.len() < items_max {
        let Some(key) = statement.query_row(params![start, end], |row| row.get::<_, Vec<u8>>(0)).optional()? else {
            break;
        };
        if descending {
            end.clone_from(&key);
        } else {
            start.clone_from(&key);
            start.push(0);
        }
        match PackedKey::from_bytes(key.into()) {
            Ok(key) => keys.push(key),
            Err(_) => return Ok(Err(nonsense())),
        }
    }
    Ok(Ok(keys))
}
