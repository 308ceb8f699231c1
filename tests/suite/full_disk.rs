//! A node on a disk that runs full: a file system in memory of a few megabytes, mounted by the test.
//! Where the test may not mount (it is not root), it says so and does nothing.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use dstore::domain::Refusal;
use dstore::domain::refusal::RefusalKind;
use dstore::domain::watermark::Watermark;
use dstore::replication::operation::{Change, Operation};
use dstore::services::engine::EngineOptions;
use dstore::services::engine::admission::AdmissionLimits;
use dstore::services::engine::flusher::FlushBudget;
use dstore::services::ranges::{RangeAddress, RangeService};

use crate::engine::{Node, create, open, put, read, small};
use crate::process::DEADLINE;

const DISK_BYTES: u64 = 24 << 20;

/// A small file system; gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={DISK_BYTES}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk(folder)),
            _ => {
                // Past the harness, which would keep what a test prints that passes.
                let why = b"SKIPPED: a small file system cannot be mounted here, which takes root\n";
                std::io::stderr().write_all(why).unwrap();
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Another one, with the same on it.
    fn copy(&self) -> Option<SmallDisk> {
        let copy = SmallDisk::mount()?;
        let copied = Command::new("cp").arg("-a").arg(self.path().join(".")).arg(copy.path()).status().unwrap();
        assert!(copied.success());
        Some(copy)
    }

    fn free(&self) -> u64 {
        let status = rustix::fs::statvfs(self.path()).unwrap();
        status.f_bavail * status.f_frsize
    }

    /// Takes space until so many bytes are left.
    fn leave(&self, bytes: u64) {
        let file = std::fs::File::options().create(true).append(true).open(self.path().join("ballast")).unwrap();
        let length = file.metadata().unwrap().len() + self.free().saturating_sub(bytes);
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length).unwrap();
    }

    fn give_back(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn options(notice: u64, refuse: u64) -> EngineOptions {
    let admission = AdmissionLimits {
        disk_notice: Watermark::Bytes(notice),
        disk_refuse: Watermark::Bytes(refuse),
        ..AdmissionLimits::default()
    };
    EngineOptions { admission, ..small() }
}

fn value(number: usize) -> String {
    format!(r#"{{"n":{number},"pad":"{}"}}"#, "x".repeat(20_000))
}

async fn write(node: &Node, address: RangeAddress, number: usize) -> Result<(), Refusal> {
    node.engine.write(address, put(&format!("k{number}"), &value(number)), false).await.map(|_| ())
}

async fn delete(node: &Node, address: RangeAddress, number: usize) -> Result<(), Refusal> {
    let operation = Operation { change: Change::Delete, ..put(&format!("k{number}"), "{}") };
    node.engine.write(address, operation, false).await.map(|_| ())
}

fn assert_told_to_come_back(refused: Refusal) {
    assert_eq!(refused.kind, RefusalKind::Unavailable, "{refused}");
    assert!(refused.retry_after_seconds.is_some(), "{refused}");
}

/// Everything acknowledged is there, before and after a restart.
async fn assert_all_there(disk: &SmallDisk, node: Node, address: RangeAddress, written: usize, deleted: usize) {
    let check = async |node: &Node| {
        for number in 0..written {
            let stored = read(node, address, &format!("k{number}")).await;
            assert_eq!(stored.is_some(), number >= deleted, "item {number}");
        }
    };
    check(&node).await;
    node.engine.stop();
    drop(node);
    let node = open(disk.path(), options(0, 0));
    check(&node).await;
    node.engine.stop();
}

#[tokio::test]
async fn a_notice_comes_first_then_writes_are_refused_and_deletes_are_not() {
    let Some(disk) = SmallDisk::mount() else { return };
    let node = open(disk.path(), options(6 << 20, 3 << 20));
    let address = create(&node, 1);
    for number in 0..20 {
        write(&node, address, number).await.unwrap();
    }
    node.engine.look_after();
    assert!(node.notices.take().is_empty(), "there is space enough");
    disk.leave(5 << 20);
    node.engine.look_after();
    let notices = node.notices.take();
    assert!(notices.len() == 1 && notices[0].details.contains("refuses writes"), "{notices:?}");
    write(&node, address, 20).await.expect("the notice comes before the limit");
    disk.leave(2 << 20);
    node.engine.look_after();
    assert_told_to_come_back(write(&node, address, 21).await.unwrap_err());
    assert!(read(&node, address, "k3").await.is_some(), "reads go on");
    for number in 0..3 {
        delete(&node, address, number).await.expect("deletes go on");
    }
    disk.give_back();
    node.engine.look_after();
    write(&node, address, 21).await.expect("by itself, when there is space again");
    assert_all_there(&disk, node, address, 22, 3).await;
}

/// Bytes in the write-ahead logs of all files.
fn beside_files(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.path() {
        path if path.is_dir() => beside_files(&path),
        path if path.to_string_lossy().ends_with("-wal") => entry.metadata().map_or(0, |file| file.len()),
        _ => 0,
    });
    sizes.sum()
}

/// Waits until it holds, while the node is looked after as once a second in a process: what is flushed after one look is seen by the
/// next.
async fn until_beside_files(disk: &SmallDisk, node: &Node, holds: impl Fn(u64) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds(beside_files(disk.path())) {
        node.engine.look_after();
        assert!(Instant::now() < deadline, "{} bytes stand beside the files", beside_files(disk.path()));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Each file may have much in its write-ahead log before that is brought back, and a node has many files.
#[tokio::test]
async fn what_stands_beside_the_files_is_brought_back_when_the_disk_runs_full() {
    let Some(disk) = SmallDisk::mount() else { return };
    let patient = FlushBudget { checkpoint_bytes: u64::MAX, ..small().flush };
    let node = open(disk.path(), EngineOptions { flush: patient, ..options(4 << 20, 2 << 20) });
    let address = create(&node, 1);
    for number in 0..80 {
        write(&node, address, number).await.unwrap();
    }
    until_beside_files(&disk, &node, |bytes| bytes > 100_000).await;
    node.engine.look_after();
    assert!(beside_files(disk.path()) > 100_000, "there is space enough");
    disk.leave(3 << 20);
    node.engine.look_after();
    until_beside_files(&disk, &node, |bytes| bytes == 0).await;
    disk.give_back();
    assert_all_there(&disk, node, address, 80, 0).await;
}

/// Also what an earlier start of the process left there, of ranges that nobody writes to any more: on a disk that is full nobody can.
#[tokio::test]
async fn what_an_earlier_start_left_beside_the_files_is_brought_back_too() {
    let Some(disk) = SmallDisk::mount() else { return };
    let patient = || EngineOptions {
        flush: FlushBudget { checkpoint_bytes: u64::MAX, ..small().flush },
        ..options(6 << 20, 4 << 20)
    };
    let node = open(disk.path(), patient());
    let address = create(&node, 1);
    for number in 0..80 {
        write(&node, address, number).await.unwrap();
    }
    until_beside_files(&disk, &node, |bytes| bytes > 100_000).await;
    // What a process that is killed leaves: one that stops as planned brings everything back.
    let Some(disk) = disk.copy() else { return };
    node.engine.stop();
    let node = open(disk.path(), patient());
    assert!(beside_files(disk.path()) > 100_000);
    // Room for the files to grow by what stands beside them: so much is kept by refusing writes before.
    disk.leave(3 << 20);
    node.engine.look_after();
    assert_told_to_come_back(write(&node, address, 81).await.unwrap_err());
    until_beside_files(&disk, &node, |bytes| bytes == 0).await;
    disk.give_back();
    assert_all_there(&disk, node, address, 80, 0).await;
}

/// The same without watermarks, which look once a second only: the disk is filled to the last byte.
#[tokio::test]
async fn a_disk_full_to_the_last_byte_loses_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount() else { return };
    let node = open(disk.path(), options(0, 0));
    let address = create(&node, 1);
    let mut written = 0;
    for _ in 0..20 {
        write(&node, address, written).await.unwrap();
        written += 1;
    }
    disk.leave(0);
    let refused = loop {
        match write(&node, address, written).await {
            Ok(()) => written += 1,
            Err(refused) => break refused,
        }
        assert!(written < 1000, "twenty megabytes went somewhere");
    };
    assert_told_to_come_back(refused);
    assert!(read(&node, address, "k7").await.is_some(), "reads go on");
    for number in 0..5 {
        delete(&node, address, number).await.expect("deletes go on");
    }
    // Memory cannot be flushed either; that is tried again, and hurts nobody.
    node.engine.flusher().ask_for_durability();
    disk.give_back();
    let deadline = Instant::now() + DEADLINE;
    while let Err(refused) = write(&node, address, written).await {
        assert!(Instant::now() < deadline, "still refused: {refused}");
        node.engine.look_after();
        tokio::task::yield_now().await;
    }
    written += 1;
    assert_all_there(&disk, node, address, written, 5).await;
}
