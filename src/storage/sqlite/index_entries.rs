//! Local indexes of a file: an entry for each item that is in one, kept together with the items.
//!
//! The file knows its indexes itself (`local_indexes`): they are written into it when it is made, and read once for each
//! connection that writes, so that a file without any pays nothing for an item. An entry (`index_entries`) holds keys
//! only; what is shown is read from the item, which lies in the same file.
//!
//! What an item's entry was is told by the rows that the item has before the write, which are read anyway for
//! comparing: one of them is the attribute's. So an item whose attribute stays costs no row here, nor, as a rule, a
//! statement. Beside an entry stand the bytes that its index shows of the item, and beside the definition the sums, which makes
//! the size of an index one look-up. An entry that should be there and is not, or the other way round, is damage:
//! the batch is not written.

use bytes::Bytes;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::domain::cell::{CellType, attribute_path};
use crate::domain::document::{Document, Node};
use crate::domain::key::{KeyType, KeyValue, PackedKey, index_entry, read_index_entry};
use crate::domain::local_index::{IndexProjection, LocalIndex};
use crate::storage::store::{IndexedItem, ItemWrite, KeyInterval, StoreError, StoredSize, no_index, no_indexed_item};

use super::cells::{LARGE, OPEN_END, Row, Stored, large_value, read_item};

/// Items of a scan, and whether the interval is exhausted.
type Scanned = (Vec<IndexedItem>, bool);

/// An index as a connection that writes knows it.
pub struct KnownIndex {
    position: u8,
    definition: LocalIndex,
    /// The path of the row that holds its attribute.
    path: String,
}

impl KnownIndex {
    /// The indexes of a table, by their positions.
    pub fn all(definitions: &[LocalIndex]) -> Vec<KnownIndex> {
        (0..).zip(definitions).map(|(position, definition)| Self::new(position, definition.clone())).collect()
    }

    fn new(position: u8, definition: LocalIndex) -> Self {
        let path = attribute_path(&definition.attribute);
        Self { position, definition, path }
    }

    /// The value that an item has in the index which has these rows, in the order of their paths.
    fn stored_value(&self, connection: &Connection, rows: &[Row]) -> rusqlite::Result<Option<KeyValue>> {
        let Ok(found) = rows.binary_search_by(|row| row.path.as_bytes().cmp(self.path.as_bytes())) else {
            return Ok(None);
        };
        let row = &rows[found];
        let number = match self.definition.key_type {
            KeyType::Integer => CellType::Number,
            KeyType::String => CellType::String,
            KeyType::Bytes => CellType::Binary,
        } as i64;
        if row.number == number + LARGE
            && let Stored::Integer(id) = row.data
        {
            return Ok(self.value_in(&large_value(connection, id)?));
        }
        Ok(if row.number == number { self.value_in(&row.data) } else { None })
    }

    fn value_in(&self, data: &Stored) -> Option<KeyValue> {
        let node = match (self.definition.key_type, data) {
            (KeyType::Integer, Stored::Text(text)) => Node::Number(text),
            (KeyType::String, Stored::Text(text)) => Node::String(text),
            (KeyType::Bytes, Stored::Bytes(bytes)) => Node::Binary(bytes),
            _ => return None,
        };
        self.definition.value_of(&node)
    }
}

/// Writes the definitions of a new file, each as JSON.
pub(super) fn define(connection: &Connection, definitions: &[String]) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare("INSERT INTO local_indexes (position, definition, entries, bytes) VALUES (?1, ?2, 0, 0)")?;
    for (position, definition) in definitions.iter().enumerate() {
        statement.execute(params![position as i64, definition])?;
    }
    Ok(())
}

/// The indexes of a file.
pub(super) fn known_indexes(connection: &Connection) -> rusqlite::Result<Result<Vec<KnownIndex>, StoreError>> {
    let mut statement = connection.prepare("SELECT position, definition FROM local_indexes ORDER BY position")?;
    let mut rows = statement.query([])?;
    let mut known = Vec::new();
    while let Some(row) = rows.next()? {
        match serde_json::from_str(row.get_ref(1)?.as_str()?) {
            Ok(definition) => known.push(KnownIndex::new(row.get(0)?, definition)),
            Err(_) => return Ok(Err(StoreError::Damaged("the definition of a local index makes no sense".to_owned()))),
        }
    }
    Ok(Ok(known))
}

/// Writes entries; keeps its statements for the time of one transaction.
pub(super) struct EntryWriter<'a> {
    connection: &'a Connection,
    indexes: &'a [KnownIndex],
    insert: CachedStatement<'a>,
    delete: CachedStatement<'a>,
    /// What each index has more than before.
    added: Vec<Added>,
    is_inconsistent: bool,
}

#[derive(Clone, Default, PartialEq)]
struct Added {
    entries: i64,
    bytes: i64,
}

impl<'a> EntryWriter<'a> {
    /// A writer on this connection; none where there is no index.
    pub(super) fn new(connection: &'a Connection, indexes: &'a [KnownIndex]) -> rusqlite::Result<Option<Self>> {
        if indexes.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            connection,
            indexes,
            insert: connection.prepare_cached(
                "INSERT INTO index_entries (position, entry, bytes) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            )?,
            delete: connection
                .prepare_cached("DELETE FROM index_entries WHERE position = ?1 AND entry = ?2 RETURNING bytes")?,
            added: vec![Added::default(); indexes.len()],
            is_inconsistent: false,
        }))
    }

    /// Brings the entries of an item to its new state. `present` are the rows that it still has.
    pub(super) fn write(&mut self, item: &ItemWrite, present: &[Row]) -> rusqlite::Result<()> {
        for (at, index) in self.indexes.iter().enumerate() {
            let before = index.stored_value(self.connection, present)?;
            let document = item.document.as_ref();
            let after = document.and_then(|document| index.definition.value(document).map(|value| (value, document)));
            match (before, after) {
                (None, None) => {}
                (Some(before), Some((after, document))) if before == after => {
                    self.keep(at, &item.key, &after, document, present)?;
                }
                (before, after) => {
                    if let Some(value) = before {
                        self.remove(at, &item.key, &value)?;
                    }
                    if let Some((value, document)) = after {
                        self.add(at, &item.key, &value, document)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The entry of an item; where there can be none, that is damage.
    fn entry(&mut self, key: &PackedKey, value: &KeyValue) -> Option<PackedKey> {
        let entry = index_entry(key, value).ok();
        self.is_inconsistent |= entry.is_none();
        entry
    }

    fn add(&mut self, at: usize, key: &PackedKey, value: &KeyValue, document: &Document) -> rusqlite::Result<()> {
        let Some(entry) = self.entry(key, value) else { return Ok(()) };
        let index = &self.indexes[at];
        let bytes = index.definition.projected_bytes(key, document) as i64;
        let rows = self.insert.execute(params![index.position, entry.as_bytes(), bytes])?;
        self.is_inconsistent |= rows != 1;
        self.added[at].entries += 1;
        self.added[at].bytes += bytes;
        Ok(())
    }

    fn remove(&mut self, at: usize, key: &PackedKey, value: &KeyValue) -> rusqlite::Result<()> {
        let Some(entry) = self.entry(key, value) else { return Ok(()) };
        let parameters = params![self.indexes[at].position, entry.as_bytes()];
        let bytes = self.delete.query_row(parameters, |row| row.get::<_, i64>(0)).optional()?;
        self.is_inconsistent |= bytes.is_none();
        self.added[at].entries -= 1;
        self.added[at].bytes -= bytes.unwrap_or(0);
        Ok(())
    }

    /// The entry stays; what is shown of the item may be another.
    fn keep(
        &mut self,
        at: usize,
        key: &PackedKey,
        value: &KeyValue,
        document: &Document,
        present: &[Row],
    ) -> rusqlite::Result<()> {
        let indexes = self.indexes;
        let index = &indexes[at];
        // What shows the whole item has its size beside its version already, and what shows nothing but keys
        // shows the same as before.
        let own = match &index.definition.projection {
            IndexProjection::All => present.first().filter(|row| row.path.is_empty()).map(|row| row.number),
            IndexProjection::KeysOnly => return Ok(()),
            IndexProjection::Include(_) => None,
        };
        let after = index.definition.projected_bytes(key, document) as i64;
        if own == Some(after) {
            return Ok(());
        }
        let Some(entry) = self.entry(key, value) else { return Ok(()) };
        let before = {
            let sql = "SELECT bytes FROM index_entries WHERE position = ?1 AND entry = ?2";
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_row(params![index.position, entry.as_bytes()], |row| row.get::<_, i64>(0)).optional()?
        };
        self.is_inconsistent |= before.is_none();
        if before.is_some_and(|before| before != after) {
            let sql = "UPDATE index_entries SET bytes = ?3 WHERE position = ?1 AND entry = ?2";
            self.connection.prepare_cached(sql)?.execute(params![index.position, entry.as_bytes(), after])?;
            self.added[at].bytes += after - before.unwrap_or(0);
        }
        Ok(())
    }

    /// Writes how much each index has now. Damage inside, where entries were not as the items say: then nothing of the
    /// transaction is to be kept.
    pub(super) fn finish(&self) -> rusqlite::Result<Result<(), StoreError>> {
        if self.is_inconsistent {
            let text = "the entries of a local index are not those of the items";
            return Ok(Err(StoreError::Damaged(text.to_owned())));
        }
        let mut statement = self.connection.prepare_cached(
            "UPDATE local_indexes SET entries = entries + ?2, bytes = bytes + ?3 WHERE position = ?1",
        )?;
        for (index, added) in self.indexes.iter().zip(&self.added) {
            if *added != Added::default() {
                statement.execute(params![index.position, added.entries, added.bytes])?;
            }
        }
        Ok(Ok(()))
    }
}

/// How much is in an index.
pub(super) fn size(connection: &Connection, position: u8) -> rusqlite::Result<Result<StoredSize, StoreError>> {
    let mut statement = connection.prepare_cached("SELECT entries, bytes FROM local_indexes WHERE position = ?1")?;
    let size = statement
        .query_row(params![position], |row| {
            let (items, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok(StoredSize { items: items.max(0) as u64, bytes: bytes.max(0) as u64 })
        })
        .optional()?;
    Ok(size.ok_or_else(|| no_index(position)))
}

/// Reads items in the order of an index. The caller holds a transaction.
pub(super) fn scan(
    connection: &Connection,
    position: u8,
    interval: &KeyInterval,
    descending: bool,
    items_max: usize,
    bytes_max: usize,
) -> rusqlite::Result<Result<Scanned, StoreError>> {
    let mut statement = connection.prepare_cached(if descending {
        "SELECT entry FROM index_entries WHERE position = ?1 AND entry >= ?2 AND entry < ?3 ORDER BY entry DESC LIMIT ?4"
    } else {
        "SELECT entry FROM index_entries WHERE position = ?1 AND entry >= ?2 AND entry < ?3 ORDER BY entry LIMIT ?4"
    })?;
    let end = interval.end.as_ref().map_or(&OPEN_END[..], PackedKey::as_bytes);
    let mut rows = statement.query(params![position, interval.start.as_bytes(), end, items_max as i64])?;
    let mut items: Vec<IndexedItem> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if bytes >= bytes_max && !items.is_empty() {
            return Ok(Ok((items, false)));
        }
        match indexed_item(connection, row.get_ref(0)?.as_blob()?)? {
            Ok(item) => {
                bytes += item.key.len() + item.document.as_bytes().len();
                items.push(item);
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    // An index that is not there must not pass for one without items.
    if items.is_empty()
        && let Err(error) = size(connection, position)?
    {
        return Ok(Err(error));
    }
    let complete = items.len() < items_max;
    Ok(Ok((items, complete)))
}

/// The item that an entry stands for.
fn indexed_item(connection: &Connection, entry: &[u8]) -> rusqlite::Result<Result<IndexedItem, StoreError>> {
    let Ok(entry) = PackedKey::from_bytes(Bytes::copy_from_slice(entry)) else { return Ok(Err(no_indexed_item())) };
    let Ok((key, _)) = read_index_entry(&entry) else { return Ok(Err(no_indexed_item())) };
    Ok(match read_item(connection, &key)? {
        Ok(Some((document, version))) => Ok(IndexedItem { entry, key, document, version }),
        Ok(None) => Err(no_indexed_item()),
        Err(error) => Err(error),
    })
}

#[cfg(test)]
mod tests;
