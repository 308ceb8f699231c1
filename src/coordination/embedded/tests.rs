//! What only the embedded store can get wrong: its file, its one process, its history. The promises
//! both coordinators share are tested by the contract suite.

use std::path::Path;
use std::time::Duration;

use super::store::Store;
use super::{EmbeddedCoordinator, EmbeddedOptions, EmbeddedStore};
use crate::coordination::{Coordinator, Error, Operation, Writer};

const SMALL: EmbeddedOptions = EmbeddedOptions { history_revisions: 10 };

impl EmbeddedCoordinator {
    async fn execute(&self, sql: String) {
        self.shared.read(move |store| store.execute(&sql)).await.unwrap();
    }

    /// Bounds the file as a full disk would.
    async fn set_pages_max(&self, pages: u32) {
        self.execute(format!("PRAGMA max_page_count={pages}")).await;
    }

    /// Lets the next commit fail, by a constraint that is checked only then.
    async fn break_next_commit(&self) {
        let sql = "PRAGMA foreign_keys=ON; CREATE TEMP TABLE parent (id INTEGER PRIMARY KEY);
            CREATE TEMP TABLE child (id REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
            CREATE TEMP TRIGGER breaks AFTER UPDATE ON main.meta BEGIN INSERT INTO child VALUES (1); END;";
        self.execute(sql.to_owned()).await;
    }
}

fn open(path: &Path) -> (EmbeddedStore, EmbeddedCoordinator) {
    let store = EmbeddedStore::open(path, SMALL).unwrap();
    let control = store.handle(Writer::Control);
    (store, control)
}

#[tokio::test]
async fn an_answered_change_is_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let (_store, control) = open(&path);
    for number in 0..5 {
        control.put("tenant/a", number.to_string().into(), None).await.unwrap();
        // What a crash at this very moment would leave behind.
        let left = tempfile::tempdir().unwrap();
        for file in ["db", "db-wal"] {
            std::fs::copy(folder.path().join(file), left.path().join(file)).unwrap();
        }
        let after = Store::open(&left.path().join("db")).unwrap();
        assert_eq!(after.get("tenant/a").unwrap().unwrap().value, number.to_string());
    }
}

#[tokio::test]
async fn the_file_is_private_and_has_one_process() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let (store, _control) = open(&path);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let second = EmbeddedStore::open(&path, SMALL).err();
    assert!(matches!(&second, Some(Error::Storage(text)) if text.contains("another process")), "{second:?}");
    drop(store);
    open(&path);
}

#[test]
fn a_foreign_or_newer_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreign");
    let foreign = rusqlite::Connection::open(&path).unwrap();
    foreign.execute_batch("CREATE TABLE t (x); PRAGMA user_version=1;").unwrap();
    drop(foreign);
    assert!(matches!(EmbeddedStore::open(&path, SMALL).err(), Some(Error::Storage(_))));
    let text = folder.path().join("text");
    std::fs::write(&text, "no database at all, but long enough to be looked at".repeat(100)).unwrap();
    assert!(matches!(EmbeddedStore::open(&text, SMALL).err(), Some(Error::Storage(_))));
    let newer = folder.path().join("newer");
    drop(Store::open(&newer).unwrap());
    rusqlite::Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version=99").unwrap();
    assert!(matches!(EmbeddedStore::open(&newer, SMALL).err(), Some(Error::Storage(_))));
}

#[tokio::test]
async fn history_is_bounded_and_its_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, control) = open(&folder.path().join("db"));
    control.put("tenant/still", "1".into(), None).await.unwrap();
    let mut last = 0;
    for number in 0..100 {
        last = control.put(&format!("tenant/{}", number % 3), "x".into(), None).await.unwrap();
    }
    let mut watch = control.watch("tenant/", 1).await.unwrap();
    assert!(matches!(watch.next().await, Err(Error::Compacted { .. })));
    let mut watch = control.watch("tenant/", last - 9).await.unwrap();
    assert_eq!(watch.next().await.unwrap().events.len(), 10, "as many as were promised are kept");
    let past = control.list_page("tenant/", None, Some(last - 9), 10).await.unwrap();
    assert_eq!(past.entries.len(), 4, "what did not change since is not forgotten");
}

#[tokio::test]
async fn a_full_disk_refuses_everything_at_once_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, control) = open(&folder.path().join("db"));
    let before = control.put("tenant/a", "1".into(), None).await.unwrap();
    control.set_pages_max(40).await;
    let large = vec![Operation::put("tenant/b", "2"), Operation::put("tenant/large", vec![7; 1_000_000])];
    let full = control.transact(vec![], large.clone()).await;
    assert!(matches!(full, Err(Error::NoSpace(_))), "{full:?}");
    assert_eq!(control.get("tenant/b").await.unwrap(), None, "half of a transaction is none");
    control.set_pages_max(1_000_000).await;
    assert_eq!(control.transact(vec![], large).await.unwrap().revision, before + 1);
}

#[tokio::test]
async fn after_a_failed_commit_nothing_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let (store, control) = open(&path);
    control.put("tenant/a", "1".into(), None).await.unwrap();
    control.break_next_commit().await;
    let unknown = control.put("tenant/a", "2".into(), None).await;
    assert!(matches!(unknown, Err(Error::OutcomeUnknown(_))), "{unknown:?}");
    assert!(matches!(control.get("tenant/a").await, Err(Error::Unavailable(_))));
    assert!(matches!(control.put("tenant/a", "3".into(), None).await, Err(Error::Unavailable(_))));
    drop(store);
    let (_store, control) = open(&path);
    assert_eq!(control.get("tenant/a").await.unwrap().unwrap().value, "1");
}

#[tokio::test]
async fn leases_have_new_numbers_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let (store, control) = open(&path);
    let first = control.lease_grant(60).await.unwrap();
    control.lease_revoke(first).await.unwrap();
    drop(store);
    let (_store, control) = open(&path);
    assert_ne!(control.lease_grant(60).await.unwrap(), first);
}

#[tokio::test]
async fn handles_outlive_the_store_without_hanging() {
    let folder = tempfile::tempdir().unwrap();
    let (store, control) = open(&folder.path().join("db"));
    let mut watch = control.watch("tenant/", 2).await.unwrap();
    drop(store);
    let end = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("an end in time");
    assert!(matches!(end, Err(Error::Unavailable(_))));
    assert!(matches!(control.get("tenant/a").await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn commits_are_synced() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("db")).unwrap();
    let pragma = |name: &str| -> rusqlite::types::Value {
        store.connection.pragma_query_value(None, name, |row| row.get(0)).unwrap()
    };
    // 2 is FULL: SQLite syncs the WAL at each commit.
    assert_eq!(pragma("synchronous"), 2.into());
    assert_eq!(pragma("journal_mode"), "wal".to_owned().into());
    assert_eq!(pragma("locking_mode"), "exclusive".to_owned().into());
}
