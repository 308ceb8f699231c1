//! Entries of local indexes in a file: which rows a write costs, and what is found to be damage.

use std::cell::Cell as Counter;

use super::*;
use crate::domain::version::ItemVersion;
use crate::storage::sqlite::cells::CellWriter;
use crate::storage::sqlite::migrate::{RANGE, migrate};

/// The three ways to show an item; the last two are by one attribute.
fn definitions() -> Vec<LocalIndex> {
    vec![
        LocalIndex::of("all", "n", KeyType::Integer, IndexProjection::All),
        LocalIndex::of("keys", "t", KeyType::String, IndexProjection::KeysOnly),
        LocalIndex::of("some", "t", KeyType::String, IndexProjection::Include(vec!["x".to_owned()])),
    ]
}

/// A file in memory, without encryption, which the rows do not know of.
struct File {
    connection: Connection,
    indexes: Vec<KnownIndex>,
    version: Counter<u64>,
}

fn file() -> File {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection, RANGE).unwrap();
    let texts: Vec<_> = definitions().iter().map(|index| serde_json::to_string(index).unwrap()).collect();
    define(&connection, &texts).unwrap();
    let indexes = known_indexes(&connection).unwrap().unwrap();
    File { connection, indexes, version: Counter::new(0) }
}

fn key(sort: i64) -> PackedKey {
    PackedKey::new(&KeyValue::String("a".into()), Some(&KeyValue::Integer(sort.into())))
}

impl File {
    /// Writes one item; how many rows that changed beside those of cells and of long values.
    fn try_write(&self, sort: i64, text: Option<&str>) -> Result<u64, StoreError> {
        self.version.set(self.version.get() + 1);
        let document = text.map(|text| Document::from_json(text.as_bytes()).unwrap());
        let item = ItemWrite { key: key(sort), version: ItemVersion(self.version.get()), document };
        let (before, long) = (self.connection.total_changes(), self.long_values());
        let mut writer = CellWriter::new(&self.connection, &self.indexes).unwrap();
        writer.write(&item).unwrap();
        writer.finish_indexes().unwrap()?;
        let cells = writer.changes().cells_written + writer.changes().cells_removed;
        Ok(self.connection.total_changes() - before - cells - self.long_values().abs_diff(long))
    }

    fn write(&self, sort: i64, text: Option<&str>) -> u64 {
        self.try_write(sort, text).unwrap()
    }

    fn long_values(&self) -> u64 {
        self.count("SELECT count(*) FROM large_values")
    }

    fn count(&self, sql: &str) -> u64 {
        self.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64
    }

    fn execute(&self, sql: &str) {
        assert_eq!(self.connection.execute(sql, []).unwrap(), 1, "{sql}");
    }

    /// The sort keys of the items in an index, in its order.
    fn sorts(&self, position: u8) -> Vec<i64> {
        let (items, complete) = self.scan(position).unwrap();
        assert!(complete);
        let sort_of = |item: IndexedItem| match item.key.decode().unwrap().1 {
            Some(KeyValue::Integer(number)) => number.to_i64().unwrap(),
            _ => unreachable!("all sort keys are numbers"),
        };
        items.into_iter().map(sort_of).collect()
    }

    fn scan(&self, position: u8) -> Result<Scanned, StoreError> {
        let everything = KeyInterval { start: PackedKey::hash_floor(0), end: None };
        scan(&self.connection, position, &everything, false, 100, 1 << 20).unwrap()
    }

    fn sizes(&self) -> Vec<(u64, u64)> {
        let size = |position| size(&self.connection, position).unwrap().unwrap();
        (0..3).map(size).map(|size| (size.items, size.bytes)).collect()
    }
}

#[test]
fn a_write_changes_the_rows_of_an_index_where_that_changes() {
    let file = file();
    // An entry is a row, and so is how much an index has.
    assert_eq!(file.write(1, Some(r#"{"n":1,"t":"a"}"#)), 6, "in all three");
    assert_eq!(file.write(1, Some(r#"{"n":1,"t":"a","pad":"p"}"#)), 2, "the first shows more");
    assert_eq!(file.write(1, Some(r#"{"n":1,"t":"a","pad":"q"}"#)), 0, "nothing of it is in an index");
    assert_eq!(file.write(1, Some(r#"{"n":1,"t":"a","pad":"q","x":1}"#)), 4, "the first and the last show more");
    assert_eq!(file.write(1, Some(r#"{"n":2,"t":"a","pad":"q","x":1}"#)), 2, "it moves in the first");
    assert_eq!(file.write(1, Some(r#"{"n":2,"pad":"q","x":1}"#)), 6, "it leaves two; the first shows less");
    let document = Document::from_json(br#"{"n":2,"pad":"q","x":1}"#).unwrap();
    let bytes = (key(1).len() + document.item_size()) as u64;
    assert_eq!(file.sizes(), [(1, bytes), (0, 0), (0, 0)]);
    assert_eq!(file.write(1, None), 2);
    assert_eq!(file.write(1, None), 0, "it was gone");
    assert_eq!(file.sizes(), [(0, 0); 3]);
    assert_eq!(file.count("SELECT count(*) FROM index_entries"), 0);
}

#[test]
fn long_values_are_indexed_from_where_they_lie() {
    let file = file();
    let long = |letter: &str, pad: &str| format!(r#"{{"t":"{}","pad":"{pad}"}}"#, letter.repeat(1024));
    for (sort, letter) in [(1, "c"), (2, "a"), (3, "b")] {
        file.write(sort, Some(&long(letter, "p")));
    }
    assert_eq!((file.long_values(), file.sorts(1)), (3, vec![2, 3, 1]));
    assert_eq!(file.write(2, Some(&long("a", "q"))), 0, "the attribute stayed");
    file.write(2, Some(&long("d", "q")));
    file.write(1, Some("{}"));
    assert_eq!((file.sorts(1), file.sorts(2), file.sorts(0)), (vec![3, 2], vec![3, 2], vec![]));
    // What an index cannot hold is refused before it comes here; were it not, it would be in none.
    file.write(3, Some(&format!(r#"{{"t":"{}"}}"#, "b".repeat(1025))));
    assert_eq!(file.sorts(1), [2]);
    file.write(3, Some(r#"{"t":"b"}"#));
    assert_eq!(file.sorts(1), [3, 2]);
}

#[test]
fn entries_that_are_not_those_of_the_items_are_damage() {
    let is_damage = |error: StoreError| matches!(error, StoreError::Damaged(_));
    let text = r#"{"n":1,"t":"a"}"#;
    let missing = file();
    missing.write(1, Some(text));
    missing.execute("DELETE FROM index_entries WHERE position = 0");
    assert!(is_damage(missing.try_write(1, Some(r#"{"n":2,"t":"a"}"#)).unwrap_err()));
    let missing = file();
    missing.write(1, Some(text));
    missing.execute("DELETE FROM index_entries WHERE position = 2");
    assert!(is_damage(missing.try_write(1, Some(r#"{"n":1,"t":"a","x":1}"#)).unwrap_err()));
    let stray = file();
    stray.write(1, Some(r#"{"n":1}"#));
    stray.execute("INSERT INTO index_entries SELECT 1, entry, bytes FROM index_entries WHERE position = 0");
    let entry = definitions()[1].entry(&key(1), &Document::from_json(br#"{"t":"a"}"#).unwrap()).unwrap();
    let sql = "UPDATE index_entries SET entry = ?1 WHERE position = 1";
    stray.connection.execute(sql, [entry.as_bytes()]).unwrap();
    assert!(is_damage(stray.try_write(1, Some(text)).unwrap_err()));
    let gone = file();
    gone.write(1, Some(text));
    gone.connection.execute("DELETE FROM cells", []).unwrap();
    assert!(is_damage(gone.scan(0).unwrap_err()));
    let nonsense = file();
    nonsense.write(1, Some(text));
    nonsense.execute("UPDATE index_entries SET entry = x'00000000' WHERE position = 0");
    assert!(is_damage(nonsense.scan(0).unwrap_err()));
    nonsense.execute("UPDATE local_indexes SET definition = '{' WHERE position = 1");
    assert!(known_indexes(&nonsense.connection).unwrap().is_err_and(is_damage));
}

#[test]
fn an_older_file_has_no_indexes() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate(&mut connection, &RANGE[..1]).unwrap();
    let document = Document::from_json(br#"{"n":1,"t":"a"}"#).unwrap();
    let item = ItemWrite { key: key(1), version: ItemVersion(7), document: Some(document.clone()) };
    CellWriter::new(&connection, &[]).unwrap().write(&item).unwrap();
    migrate(&mut connection, RANGE).unwrap();
    assert!(known_indexes(&connection).unwrap().unwrap().is_empty());
    assert_eq!(read_item(&connection, &key(1)).unwrap().unwrap(), Some((document, ItemVersion(7))));
    let everything = KeyInterval { start: PackedKey::hash_floor(0), end: None };
    let scanned = scan(&connection, 0, &everything, false, 10, 10).unwrap();
    assert!(matches!(scanned, Err(StoreError::Failed(_))), "and says so");
    assert!(matches!(size(&connection, 0).unwrap(), Err(StoreError::Failed(_))));
}
