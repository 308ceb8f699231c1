//! Cells and back: documents, damage, and differences.

use std::collections::BTreeMap;

use super::*;
use crate::domain::cell::{CellChange, CellData, cells_of, diff_cells, for_each_cell};
use crate::domain::document::sample::{self, items, of_text as document};
use proptest::prelude::*;

type Rows = BTreeMap<String, (CellType, Vec<u8>)>;

/// The rows that storage would hold.
fn rows(document: &Document) -> Rows {
    let mut rows = Rows::new();
    for_each_cell(document, |path, cell| {
        let row = (cell.cell_type, cell.data.as_bytes().to_vec());
        assert_eq!(rows.insert(path.to_owned(), row), None, "{path} comes twice");
    });
    rows
}

fn rebuilt(rows: &Rows) -> Result<Document, DocumentError> {
    let mut assembler = Assembler::default();
    rows.iter().try_for_each(|(path, (cell_type, data))| assembler.add(path, *cell_type, data))?;
    assembler.finish()
}

fn changes(old: &str, new: &str) -> Vec<String> {
    let mut changes = Vec::new();
    diff_cells(&document(old), &document(new), |path, change| {
        let sign = if change == CellChange::Remove { '-' } else { '+' };
        changes.push(format!("{sign}{path}"));
    });
    changes
}

#[test]
fn paths_are_as_documented() {
    let document = document(r#"{"a":{"b":[1,[]]},"c.d":{},"":null,"a!":true}"#);
    let cells = cells_of(&document);
    let paths: Vec<&str> = cells.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["\\e", "a!", "a.b[000000]", "a.b[000001]", "c\\.d"]);
    assert_eq!(cells[2].1, Cell { cell_type: CellType::Number, data: CellData::Text("1") });
    assert_eq!(cells[3].1, Cell { cell_type: CellType::EmptyList, data: CellData::None });
    assert_eq!(from_cells(cells).unwrap(), document);
    assert_eq!(from_cells::<&str>([]).unwrap(), Document::empty());
}

#[test]
fn rows_that_do_not_go_together_are_refused() {
    let null = || Cell { cell_type: CellType::Null, data: CellData::None };
    for bad in [
        &[""][..],
        &["a", "a"],
        &["a", "a.b"],
        &["a.b", "a[000000]"],
        &["a[000001]"],
        &["a[000000]", "a[000002]"],
        &["a[000001]", "a[000000]"],
        &["a.b", "c", "a.d"],
        &["a.b.c", "a.b"],
        &["[000000]"],
        &["a."],
        &["a[000000]b"],
        &["a[000000]."],
        &[".a"],
    ] {
        assert!(from_cells(bad.iter().map(|path| (*path, null()))).is_err(), "{bad:?}");
    }
    let deep = "a.".repeat(31);
    assert!(from_cells([(format!("{deep}a"), null())]).is_ok());
    assert!(from_cells([(format!("{deep}a.a"), null())]).is_err());
}

#[test]
fn data_that_is_not_of_its_type_is_refused() {
    for (cell_type, data) in [
        (CellType::Number, &b"x"[..]),
        (CellType::String, b"\xff"),
        (CellType::StringSet, b""),
        (CellType::StringSet, b"\x01b\x01a"),
        (CellType::StringSet, b"\x02a"),
        (CellType::NumberSet, b"\x0201"),
        (CellType::BinarySet, b"\x01a\x01a"),
    ] {
        assert!(Assembler::default().add("a", cell_type, data).is_err(), "{cell_type:?} {data:?}");
    }
}

#[test]
fn only_what_differs_is_changed() {
    let changed = r#"{"a":{"x":1,"y":[1,2,{"z":3}]},"b":"text"}"#;
    assert_eq!(changes(changed, changed), [""; 0]);
    assert_eq!(changes(changed, &changed.replace('3', "4")), ["+a.y[000002].z"]);
    assert_eq!(
        changes(changed, r#"{"a":{"x":1},"b":"text","c":[]}"#),
        ["-a.y[000000]", "-a.y[000001]", "-a.y[000002].z", "+c"]
    );
    assert_eq!(changes(r#"{"a":1}"#, r#"{"a":{}}"#), ["+a"]);
    assert_eq!(changes(r#"{"a":{}}"#, r#"{"a":{"b":[]}}"#), ["-a", "+a.b"]);
    assert_eq!(changes(r#"{"a":{"b":1}}"#, r#"{"a":[1]}"#), ["-a.b", "+a[000000]"]);
    assert_eq!(changes(r#"{"a":[1,2]}"#, r#"{"a":[]}"#), ["-a[000000]", "-a[000001]", "+a"]);
    assert_eq!(changes(r#"{"a":[1,2]}"#, r#"{"a":[1]}"#), ["-a[000001]"]);
}

proptest! {
    #[test]
    fn documents_come_back_from_their_rows(item in items()) {
        let document = sample::document(&item);
        let rows = rows(&document);
        let leaves: usize = item.values().map(sample::Tree::leaves).sum();
        prop_assert_eq!(rows.len(), leaves);
        prop_assert!(!rows.contains_key(""));
        prop_assert_eq!(&rebuilt(&rows).unwrap(), &document);
        let cells = cells_of(&document);
        prop_assert!(cells.is_sorted_by(|(left, _), (right, _)| left.as_bytes() < right.as_bytes()));
        prop_assert_eq!(from_cells(cells).unwrap(), document);
    }

    #[test]
    fn changes_lead_from_the_old_rows_to_the_new(old in items(), new in items(), like: bool) {
        let old_document = sample::document(&old);
        // Half of the time, something that was made from the old by a few changes.
        let new_document = if like { old_document.merge_patch(&sample::document(&new)).unwrap() } else { sample::document(&new) };
        let old_rows = rows(&old_document);
        let mut patched = old_rows.clone();
        let mut touched = std::collections::BTreeSet::new();
        diff_cells(&old_document, &new_document, |path, change| {
            assert!(touched.insert(path.to_owned()), "{path} comes twice");
            match change {
                CellChange::Remove => assert!(patched.remove(path).is_some(), "{path} was not there"),
                CellChange::Upsert(cell) => {
                    let row = (cell.cell_type, cell.data.as_bytes().to_vec());
                    assert_ne!(old_rows.get(path), Some(&row), "{path} has not changed");
                    patched.insert(path.to_owned(), row);
                }
            }
        });
        prop_assert_eq!(patched, rows(&new_document));
    }
}
