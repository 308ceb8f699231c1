//! A small node's whole folder is damaged a byte at a time, and opened: an error that names the place, or a repair
//! from the commit log with a notice, or bytes that nobody uses. Only what stood in the last group of the log, which
//! may be taken for torn, may be missing, and then its index is named.
//!
//! Every byte of the formats themselves is flipped by the tests beside them; here a stride goes over all files, since
//! each flip costs a start of the engine.

use std::path::{Path, PathBuf};

use dstore::domain::ids::RangeId;
use dstore::roles::node_parts::with_sources;
use dstore::services::engine::flusher::FlushBudget;
use dstore::services::engine::keys::{NodeKeys, PartVersions};
use dstore::services::engine::{EngineOptions, FileToScrub};
use dstore::services::ports::Consistency;
use dstore::services::ranges::{RangeAddress, RangeService};
use dstore::storage::log::LogOptions;

use crate::engine::{
    Node, apply, create, fixed_keys, key, open, packed, plane_folder, put, read, record, small, table, tenant, try_open,
};
use crate::process::DEADLINE;

const ITEMS: usize = 8;

fn quick_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn options() -> EngineOptions {
    EngineOptions {
        log: LogOptions { segment_bytes: 64 << 10, reserve_bytes: 0, ..small().log },
        flush: FlushBudget { memory_bytes_soft: 8 << 20, memory_bytes_hard: 16 << 20, checkpoint_bytes: 8 << 20 },
        apply_lanes: 1,
        read_threads: 1,
        ..small()
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

fn files_in(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_in(&path, found) } else { found.push(path) }
    }
}

fn value(number: usize) -> String {
    format!(r#"{{"n":{number},"pad":"{}"}}"#, "x".repeat(300))
}

fn make_durable(node: &Node) {
    let rounds = node.engine.flusher().rounds_done();
    node.engine.flusher().ask_for_durability();
    let deadline = std::time::Instant::now() + DEADLINE;
    while node.engine.flusher().rounds_done() == rounds {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
}

/// What a kill leaves of a node whose items are in a file, in its write-ahead log, and in the commit log alone.
async fn image() -> tempfile::TempDir {
    let (folder, image) = (quick_folder(), quick_folder());
    let node = open(folder.path(), options());
    let address = create(&node, 1);
    for number in 0..ITEMS {
        apply(&node, address, put(&format!("k{number}"), &value(number))).await;
        match number {
            3 => make_durable(&node),
            5 => assert!(node.engine.replicas()[0].flush().is_ok()),
            _ => {}
        }
    }
    copy_folder(folder.path(), image.path());
    node.engine.stop();
    image
}

/// What became of a damaged folder.
#[derive(Debug, PartialEq)]
enum Seen {
    /// An error, or a notice about data out of service, that names the place.
    Named,
    /// All is there; a notice tells what was repaired.
    Repaired,
    /// All is there, and nothing was noticed.
    Unnoticed,
    /// The last item is missing, and a notice names its index.
    TornTail,
}

async fn look(folder: &Path, what: &str) -> Seen {
    let node = match try_open(folder, options(), fixed_keys(), |_| {}) {
        Ok(node) => node,
        Err(error) => {
            let text = with_sources(&error);
            assert!(text.contains(".db") || text.contains("segment") || text.contains("log"), "{what}: {text}");
            return Seen::Named;
        }
    };
    let address = RangeAddress { table: table(1).id, range: RangeId::from_bytes([1; 16]) };
    let mut refused = 0;
    let mut missing = Vec::new();
    for number in 0..ITEMS {
        match node.engine.read(address, packed(&format!("k{number}")), Consistency::Strong).await {
            Ok(Some(item)) => assert_eq!(item.document.to_json(), value(number), "{what}"),
            Ok(None) => missing.push(number),
            Err(_) => refused += 1,
        }
    }
    let notices: Vec<_> = node.notices.take().into_iter().map(|notice| notice.details).collect();
    node.engine.stop();
    if refused > 0 {
        let names = |notice: &String| notice.contains(".db") || notice.contains("index") || notice.contains("entry");
        assert!(notices.iter().any(names), "{what}: {refused} reads refused, and no notice says why: {notices:?}");
        return Seen::Named;
    }
    if !missing.is_empty() {
        assert_eq!(missing, [ITEMS - 1], "{what}: {notices:?}");
        assert!(notices.iter().any(|notice| notice.contains(&format!("index {ITEMS}"))), "{what}: {notices:?}");
        return Seen::TornTail;
    }
    if notices.is_empty() { Seen::Unnoticed } else { Seen::Repaired }
}

/// Positions to flip: closer together where headers are.
fn positions(path: &Path, length: usize) -> Vec<usize> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let is_log = path.parent().unwrap().ends_with("log");
    let (dense_until, dense, sparse) = match () {
        () if name.ends_with("-wal") => (60, 5, 307),
        () if is_log => (4000, 29, 4099),
        () => (4096, 67, 613),
    };
    (0..length.min(dense_until)).step_by(dense).chain((dense_until..length).step_by(sparse)).collect()
}

/// Whether the byte is provably of no use: the free key slot of a file, or a commit log's space behind its last batch.
fn is_unused(path: &Path, bytes: &[u8], at: usize) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    if name.ends_with(".db") {
        return (2048..2560).contains(&at);
    }
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    path.parent().unwrap().ends_with("log") && at >= used
}

/// Whether reading every page of a file tells of the damage.
fn is_found_by_reading_all(folder: &Path, path: &Path) -> bool {
    use dstore::storage::keys::{FileKeys, KeyOwner};
    use dstore::storage::vfs;
    let owner = if path.file_name().unwrap() == "node.db" { KeyOwner::Node } else { KeyOwner::Tenant(tenant(1)) };
    let keys = fixed_keys();
    let look = || -> Result<String, String> {
        let versions = vfs::key_versions(path).map_err(|error| error.to_string())?;
        let version = *versions.first().ok_or("no slot is intact")?;
        let kek = keys.of_version(owner, version).map_err(|error| error.to_string())?;
        let data_key = vfs::unlock(path, &kek).map_err(|error| error.to_string())?;
        let file = vfs::read_identity(path).map_err(|error| error.to_string())?.file;
        let connection =
            vfs::open(path, file, &data_key, &vfs::OpenOptions::default()).map_err(|error| error.to_string())?;
        let checked = connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
        checked.map_err(|error| vfs::explain(path, error).to_string())
    };
    assert!(path.starts_with(folder));
    look().map_or(true, |told| told != "ok")
}

#[tokio::test]
async fn damage_anywhere_in_a_nodes_folder_is_named_repaired_or_of_no_consequence() {
    let image = image().await;
    let mut files = Vec::new();
    files_in(image.path(), &mut files);
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for original in &files {
        let bytes = std::fs::read(original).unwrap();
        let inner = original.strip_prefix(image.path()).unwrap();
        for (number, at) in positions(original, bytes.len()).into_iter().enumerate() {
            let flip = if number % 2 == 0 { 1u8 << (number / 2 % 8) } else { 0xff };
            let work = quick_folder();
            copy_folder(image.path(), work.path());
            let path = work.path().join(inner);
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            std::fs::write(&path, &changed).unwrap();
            let what = format!("byte {at} of {}", inner.display());
            let is_found = || is_found_by_reading_all(work.path(), &path);
            let is_database = path.extension().is_some_and(|extension| extension == "db");
            let is_harmless = is_unused(original, &bytes, at) || (is_database && is_found());
            let seen = look(work.path(), &what).await;
            match seen {
                // A page that the write-ahead log has a newer copy of: never read, and overwritten by now.
                Seen::Unnoticed if is_database && !is_harmless => assert!(!is_found(), "{what} was changed unnoticed"),
                Seen::Unnoticed => assert!(is_harmless, "{what} was changed unnoticed"),
                Seen::TornTail => assert!(inner.parent().unwrap().ends_with("log"), "{what}"),
                Seen::Named | Seen::Repaired => {}
            }
            *counts.entry(format!("{seen:?}")).or_default() += 1;
        }
    }
    for class in ["Named", "Repaired", "Unnoticed", "TornTail"] {
        assert!(counts.get(class).is_some_and(|count| *count > 3), "{class} was not met: {counts:?}");
    }
}

/// The file of a range.
fn file_of(node: &Node, address: RangeAddress) -> FileToScrub {
    let files = node.engine.files_to_scrub();
    files.into_iter().find(|file| file.replica.name.range == address.range).expect("the range is there")
}

/// Brings all of a range into its file, synced and recorded, without a word to the log.
fn bring_into_file(node: &Node, address: RangeAddress) {
    let file = file_of(node, address);
    assert!(file.replica.flush().is_ok());
    node.engine.judge_pages(&file, &[]).unwrap();
}

/// A file that was made anew from the log has nothing that is synced, whatever the one before had. Until it has, the log is
/// all that there is.
#[tokio::test]
async fn the_log_is_kept_until_a_file_that_was_made_of_it_is_synced() {
    const MANY: u64 = 400;
    let (folder, image, again) = (quick_folder(), quick_folder(), quick_folder());
    let node = open(folder.path(), options());
    let (address, other) = (create(&node, 1), create(&node, 2));
    for number in 0..4 {
        apply(&node, address, put(&format!("k{number}"), &value(number))).await;
    }
    bring_into_file(&node, address);
    // These keep the segment in which the items are, and fill others.
    for number in 0..MANY {
        apply(&node, other, put(&format!("o{number}"), &value(0))).await;
    }
    apply(&node, address, put("k4", &value(4))).await;
    copy_folder(folder.path(), image.path());
    node.engine.stop();

    let name = record(1).name;
    let inner = Path::new(&tenant(1).to_string()).join(table(1).id.to_string()).join(format!("{}.db", name.replica));
    let path = plane_folder(image.path()).join(inner);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096 + 2000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let node = open(image.path(), options());
    let told = node.notices.take();
    assert!(told.iter().any(|notice| notice.details.contains("rebuilt from the commit log")), "{told:?}");
    bring_into_file(&node, other);
    let closed = node.engine.log().closed_segments();
    assert!(closed.end > closed.start + 1, "{closed:?}");
    node.engine.log().set_durable(other.range, MANY);
    node.engine.log().drop_segments().unwrap();
    copy_folder(image.path(), again.path());
    node.engine.stop();

    let node = open(again.path(), options());
    for number in 0..5 {
        assert_eq!(read(&node, address, &format!("k{number}")).await, Some(value(number)), "k{number}");
    }
    node.engine.stop();
}

/// A stopped node with two tables, both only in files.
async fn two_tables() -> (tempfile::TempDir, [PathBuf; 2]) {
    let folder = quick_folder();
    let node = open(folder.path(), options());
    for number in [1, 2] {
        let address = create(&node, number);
        apply(&node, address, put("a", r#"{"x":1}"#)).await;
    }
    node.engine.stop();
    let path = |number: u8| {
        let of_tenant = plane_folder(folder.path()).join(tenant(number).to_string());
        of_tenant.join(table(number).id.to_string()).join(format!("{}.db", record(number).name.replica))
    };
    let paths = [path(1), path(2)];
    (folder, paths)
}

/// What reading the first table says, to the reader and in notices.
async fn told(folder: &Path) -> String {
    let node = open(folder, options());
    let address = RangeAddress { table: table(1).id, range: RangeId::from_bytes([1; 16]) };
    let answer = node.engine.read(address, packed("a"), Consistency::Strong).await;
    let refused = answer.expect_err("what was tampered with is not answered from");
    let notices: Vec<_> = node.notices.take().into_iter().map(|notice| notice.details).collect();
    let other = RangeAddress { table: table(2).id, range: RangeId::from_bytes([2; 16]) };
    let _ = node.engine.read(other, packed("a"), Consistency::Strong).await;
    node.engine.stop();
    format!("{} {}", refused.message, notices.join(" "))
}

#[tokio::test]
async fn swapped_cut_and_older_files_are_told_apart() {
    let (folder, [one, other]) = two_tables().await;
    let (first, second) = (std::fs::read(&one).unwrap(), std::fs::read(&other).unwrap());
    std::fs::write(&one, &second).unwrap();
    let swapped = told(folder.path()).await;
    assert!(
        swapped.contains("expected was") || swapped.contains("the key is wrong") || swapped.contains("not here"),
        "{swapped}"
    );

    let mut pages = first.clone();
    pages.truncate(first.len() - 4096);
    std::fs::write(&one, &pages).unwrap();
    let cut = told(folder.path()).await;
    assert!(cut.contains("truncated"), "{cut}");

    let mut pages = first.clone();
    let (left, right) = pages.split_at_mut(4096 * 3);
    left[4096 * 2..].swap_with_slice(&mut right[..4096]);
    std::fs::write(&one, &pages).unwrap();
    let pages_swapped = told(folder.path()).await;
    assert!(pages_swapped.contains("page"), "{pages_swapped}");

    // An older copy of the file itself: every page of it opens.
    std::fs::write(&one, &first).unwrap();
    let node = open(folder.path(), options());
    let address = create(&node, 1);
    apply(&node, address, put("a", r#"{"x":2}"#)).await;
    node.engine.stop();
    drop(node);
    std::fs::write(&one, &first).unwrap();
    let older = told(folder.path()).await;
    assert!(older.contains("ends at index 1 though index 2"), "{older}");
}

#[tokio::test]
async fn a_wrong_key_is_told_as_such() {
    let (folder, _) = two_tables().await;
    let wrong = |own: u8, tenant_part: u8| {
        let keys = NodeKeys::new(PartVersions::single(1, key(own)), PartVersions::single(1, key(2)));
        for number in [1, 2] {
            keys.add_tenant_at_node(tenant(number), 1, key(tenant_part));
            keys.add_tenant_at_control(tenant(number), 1, key(77));
        }
        std::sync::Arc::new(keys)
    };
    let error = try_open(folder.path(), options(), wrong(9, 5), |_| {}).err().expect("the node's key is wrong");
    assert!(with_sources(&error).contains("the key is wrong"), "{}", with_sources(&error));
    match try_open(folder.path(), options(), wrong(1, 5), |_| {}) {
        Err(error) => assert!(with_sources(&error).contains("does not unwrap"), "{}", with_sources(&error)),
        Ok(node) => {
            let address = RangeAddress { table: table(1).id, range: RangeId::from_bytes([1; 16]) };
            let refused = node.engine.read(address, packed("a"), Consistency::Strong).await.unwrap_err();
            assert!(refused.message.contains("keys"), "{refused}");
            node.engine.stop();
        }
    }
}
