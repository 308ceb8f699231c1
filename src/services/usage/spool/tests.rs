//! A spool is compared with a list: through stops, crashes in the middle of a write, dropping, and several reporters that ask
//! when they like.

use super::*;
use crate::crypto::Key256;
use crate::crypto::cipher::tests::SystemRandom;
use crate::domain::ids::{PlaneId, Role};
use crate::domain::usage::{BatchId, Component};
use crate::storage::keys::{FileKeys, KeyOwner, KeyUnavailable, VersionedKey};
use parking_lot::Mutex;
use proptest::prelude::*;
use std::sync::Arc;

const COMPONENT: Component = Component { role: Role::Proxy, id: Uuid::from_bytes([2; 16]) };

/// Keys of which each version is that byte; those from the first to the second are there.
pub(in crate::services::usage) struct Versions(pub Mutex<(u32, u32)>);

impl FileKeys for Versions {
    fn newest(&self, owner: KeyOwner) -> Result<VersionedKey, KeyUnavailable> {
        let version = self.0.lock().1;
        Ok(VersionedKey { version, key: self.of_version(owner, version)? })
    }

    fn of_version(&self, _: KeyOwner, version: u32) -> Result<Key256, KeyUnavailable> {
        let (oldest, newest) = *self.0.lock();
        let is_there = (oldest..=newest).contains(&version);
        if is_there { Ok(Key256::new([version as u8; 32])) } else { Err(KeyUnavailable("it is gone".into())) }
    }
}

/// What a spool of tests is opened with.
pub(in crate::services::usage) fn context() -> (KeyContext, Arc<Versions>) {
    let keys = Arc::new(Versions(Mutex::new((1, 1))));
    let random = Arc::new(SystemRandom::default());
    let context =
        KeyContext { plane: PlaneId::from_bytes([1; 16]), component: COMPONENT.id, keys: keys.clone(), random };
    (context, keys)
}

fn boot(number: usize) -> Uuid {
    Uuid::from_u128(number as u128)
}

/// A batch with so many bytes in it.
fn batch(number: usize, interval: u64, bytes: usize) -> UsageBatch {
    UsageBatch {
        id: BatchId { component: COMPONENT, boot: boot(number), interval },
        began_ms: 1000 * interval,
        ended_ms: 1000 * interval + 1000,
        before: None,
        is_last: false,
        counts: Vec::new(),
        ranges: Vec::new(),
        node: None,
        names: BTreeMap::from([(boot(7), "x".repeat(bytes))]),
    }
}

fn name(batch: &UsageBatch) -> KeptUpTo {
    KeptUpTo { boot: batch.id.boot, interval: batch.id.interval }
}

#[derive(Debug, Clone)]
enum Step {
    /// Keeps a batch of so many bytes.
    Append(usize),
    /// Starts anew, with this part of a batch's frame (in 256ths) behind what was written.
    Crash(u8),
    /// A write fails: its frame stands there whole, and the batch comes again, larger.
    Fail,
    /// A reporter asks for so many.
    Pull(u8, u32),
    /// A reporter asks, and says that it has nothing.
    Forget(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0usize..3_000).prop_map(Step::Append),
        2 => any::<u8>().prop_map(Step::Crash),
        1 => Just(Step::Fail),
        5 => (0u8..3, 1u32..40).prop_map(|(reporter, max)| Step::Pull(reporter, max)),
        1 => (0u8..3).prop_map(Step::Forget),
    ];
    prop::collection::vec(step, 1..120)
}

/// A spool, all batches that were ever kept, how many of them each reporter has, and how many each that ever asked said that it has.
struct Run {
    folder: tempfile::TempDir,
    boots: usize,
    spool: Spool,
    all: Vec<UsageBatch>,
    has: [usize; 3],
    said: [Option<usize>; 3],
    /// So many all who had asked by then had said that they have: who asks for the first time later is not given them.
    let_go: usize,
}

impl Run {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spool = Self::open(&folder, 1);
        Self { folder, boots: 1, spool, all: Vec::new(), has: [0; 3], said: [None; 3], let_go: 0 }
    }

    /// Room for some forty batches.
    fn open(folder: &tempfile::TempDir, boots: usize) -> Spool {
        let (spool, notices) = Spool::open(folder.path().join("usage"), context().0, boot(boots), 64 << 10).unwrap();
        assert_eq!(notices, Vec::<String>::new());
        spool
    }

    fn next(&self, bytes: usize) -> UsageBatch {
        batch(self.boots, self.spool.next_interval(), bytes)
    }

    fn append(&mut self, batch: UsageBatch) {
        self.spool.append(&batch).unwrap();
        self.all.push(batch);
    }

    /// Writes this part of the frame of a next batch behind the last file, and says whether all of it.
    fn tear(&mut self, batch: &UsageBatch, part: u8) -> bool {
        let Some(kept) = self.spool.files.back() else { return false };
        // Only the start that began a file writes to it.
        if kept.boot != boot(self.boots) {
            return false;
        }
        let mut frame = Vec::new();
        let content = serde_json::to_vec(batch).unwrap();
        push_frame(&mut frame, &self.spool.key, kept.number, kept.bytes, [3; 12], &content);
        let torn = frame.len() * usize::from(part) / 255;
        let file = std::fs::OpenOptions::new().write(true).open(path_of(&self.spool.folder, kept.number)).unwrap();
        file.write_all_at(&frame[..torn], kept.bytes).unwrap();
        torn == frame.len()
    }

    fn restart(&mut self, part: u8) {
        let batch = self.next(50);
        if self.tear(&batch, part) {
            self.all.push(batch);
        }
        self.boots += 1;
        self.spool = Self::open(&self.folder, self.boots);
        let earlier = self.spool.earlier();
        assert_eq!(
            earlier.map(|earlier| (earlier.boot, earlier.interval)),
            self.all.last().map(|last| (last.id.boot, last.id.interval))
        );
    }

    fn pull(&mut self, reporter: u8, max: u32, acknowledged: Option<KeptUpTo>) -> Vec<UsageBatch> {
        let pull = UsagePull { acknowledged, batches_max: max };
        let pulled = self.spool.pull(Uuid::from_u128(reporter.into()), &pull, 1_000_000).unwrap();
        let has = acknowledged.map_or(0, |_| self.has[usize::from(reporter)]);
        self.said[usize::from(reporter)] = Some(has);
        self.let_go = self.let_go.max(self.said.iter().flatten().min().copied().unwrap_or(0));
        let missing = match pulled.first() {
            Some(first) => self.all[has..].iter().position(|batch| batch == first).expect("only what it lacks"),
            None => self.all.len() - has,
        };
        let not_dropped = missing.saturating_sub(self.let_go.saturating_sub(has)) as u64;
        assert!(not_dropped <= self.spool.numbers().dropped, "what is not given was dropped and counted");
        assert_eq!(pulled, self.all[has + missing..][..pulled.len()], "all that follows, in order");
        self.has[usize::from(reporter)] = has + missing + pulled.len();
        pulled
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(bytes) => self.append(self.next(bytes)),
            Step::Crash(part) => self.restart(part),
            Step::Fail => {
                let batch = self.next(50);
                self.tear(&batch, 255);
                self.spool.open = None;
                self.append(self.next(60));
            }
            Step::Pull(reporter, max) => {
                let has = self.has[usize::from(reporter)].checked_sub(1).map(|last| name(&self.all[last]));
                self.pull(reporter, max, has);
            }
            Step::Forget(reporter) => {
                self.has[usize::from(reporter)] = 0;
                self.pull(reporter, 5, None);
            }
        }
        let SpoolNumbers { bytes, batches, .. } = self.spool.numbers();
        assert!(bytes <= (64 << 10) + self.spool.file_bytes_max(), "{bytes}");
        assert!(batches <= self.all.len() as u64 && (batches > 0 || self.all.is_empty()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_unless_it_is_counted_as_dropped(steps in steps()) {
        let mut run = Run::start();
        steps.into_iter().for_each(|step| run.step(step));
    }

    #[test]
    fn a_file_cut_anywhere_gives_the_frames_before(contents in prop::collection::vec("[a-z]{0,40}", 0..6), cut: prop::sample::Index) {
        let folder = tempfile::tempdir().unwrap();
        let key = SpoolKey::open_or_make(folder.path().join("key"), context().0).unwrap();
        let mut bytes = begin(9);
        let mut ends = vec![FRAMES_AT];
        for content in &contents {
            let at = bytes.len() as u64;
            push_frame(&mut bytes, &key, 9, at, [at as u8; 12], content.as_bytes());
            ends.push(bytes.len());
        }
        let cut = cut.index(bytes.len() + 1);
        match scan(&bytes[..cut]) {
            None => prop_assert!(cut < FRAMES_AT),
            Some(found) => {
                prop_assert_eq!(found.number, 9);
                prop_assert_eq!(found.frames.len(), ends.iter().filter(|end| **end <= cut).count() - 1);
                for (frame, content) in found.frames.iter().zip(&contents) {
                    let opened = open_frame(&key, 9, frame.start as u64, &bytes[frame.clone()]).unwrap();
                    prop_assert_eq!(&**opened, content.as_bytes());
                    prop_assert!(open_frame(&key, 8, frame.start as u64, &bytes[frame.clone()]).is_err(), "another file");
                    prop_assert!(open_frame(&key, 9, 1 + frame.start as u64, &bytes[frame.clone()]).is_err(), "elsewhere");
                }
            }
        }
    }
}

#[test]
fn files_go_when_every_reporter_has_them_or_is_away_for_a_week() {
    let mut run = Run::start();
    (0..30).for_each(|_| run.append(run.next(1_000)));
    let files = |run: &Run| run.spool.files.len();
    let before = files(&run);
    let all: Vec<_> = (0..2).map(|reporter| run.pull(reporter, 100, None)).collect();
    assert!(all.iter().all(|pulled| pulled.len() == 30));
    let last = Some(name(&run.all[29]));
    run.pull(0, 1, last);
    assert!(files(&run) >= before, "the other one has not said that it has them");
    run.spool = Run::open(&run.folder, 2);
    let ask = |run: &mut Run, now| {
        let pull = UsagePull { acknowledged: last, batches_max: 1 };
        run.spool.pull(Uuid::from_u128(0), &pull, now).unwrap()
    };
    ask(&mut run, 1_000_000);
    assert!(files(&run) >= before, "that it asks is known over a restart");
    ask(&mut run, 1_000_000 + REPORTER_MS + REPORTER_OLD_MS);
    assert!(files(&run) <= 4 && run.spool.numbers().batches > 0, "the last with a batch in it stays");
    assert_eq!(run.spool.numbers().dropped, 0);
}

#[test]
fn what_is_thrown_away_is_counted_once_also_over_a_restart() {
    let mut run = Run::start();
    (0..200).for_each(|_| run.append(run.next(1_000)));
    let SpoolNumbers { batches, dropped, .. } = run.spool.numbers();
    assert_eq!(batches + dropped, 200);
    assert!(batches > 20, "there is room for more than forty: {batches}");
    run.restart(0);
    let now = run.spool.numbers();
    assert_eq!((now.batches, now.dropped), (batches, dropped));
}

#[test]
fn damage_in_the_middle_is_told() {
    let mut run = Run::start();
    (0..30).for_each(|_| run.append(run.next(1_000)));
    let (number, lost) = (run.spool.files[1].number, run.spool.files[1].frames.len() - 1);
    let path = path_of(&run.spool.folder, number);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[run.spool.files[1].frames[1].start as usize + 20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (mut spool, notices) = Spool::open(run.spool.folder.clone(), context().0, boot(2), 64 << 10).unwrap();
    assert!(notices.len() == 1 && notices[0].starts_with(&format!("{lost} batches")), "{notices:?}");
    let pull = UsagePull { acknowledged: None, batches_max: 100 };
    assert_eq!(spool.pull(boot(1), &pull, 5).unwrap().len(), 30 - lost);
}

#[test]
fn the_key_follows_the_components_key() {
    let folder = tempfile::tempdir().unwrap();
    let (context, keys) = context();
    let open = || Spool::open(folder.path().join("usage"), context.clone(), boot(1), 64 << 10).map(|(spool, _)| spool);
    let mut spool = open().unwrap();
    spool.append(&batch(1, 1, 10)).unwrap();
    let file = std::fs::read(path_of(&spool.folder, 1)).unwrap();
    assert!(!file.windows(5).any(|window| window == b"names"), "nothing stands in it in clear");
    *keys.0.lock() = (1, 2);
    spool.wrap_anew().unwrap();
    *keys.0.lock() = (2, 2);
    assert_eq!(open().unwrap().numbers().batches, 1, "the old version is needed no more");
    *keys.0.lock() = (3, 3);
    assert!(matches!(open(), Err(KeyError::Lost(_))));
    *keys.0.lock() = (2, 2);
    let path = folder.path().join("usage/key");
    let whole = std::fs::read(&path).unwrap();
    for index in 0..whole.len() {
        let mut changed = whole.clone();
        changed[index] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        assert!(matches!(open(), Err(KeyError::Lost(_))), "byte {index}");
        std::fs::write(&path, &whole[..index]).unwrap();
        assert!(matches!(open(), Err(KeyError::Lost(_))), "cut at {index}");
    }
}
