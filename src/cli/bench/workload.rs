//! YCSB's core workloads (Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", SoCC 2010): what the next
//! operation does and which record it concerns.
//!
//! | workload | reads | updates | inserts | scans | read-modify-writes | records are chosen |
//! |---|---|---|---|---|---|---|
//! | a | 50 | 50 | | | | zipfian |
//! | b | 95 | 5 | | | | zipfian |
//! | c | 100 | | | | | zipfian |
//! | d | 95 | | 5 | | | latest |
//! | e | | | 5 | 95 | | zipfian |
//! | f | 50 | | | | 50 | zipfian |
//! | get | 100 | | | | | uniform |
//! | put | 100 replacements of whole items | | | | | uniform |
//!
//! Zipfian means exponent 0.99 with the popular records scattered over the key space by a hash, as YCSB's "scrambled"
//! one. Latest means the same curve counted back from the newest record that was acknowledged.

use clap::ValueEnum;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution as _, Zipf};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

const ZIPFIAN_EXPONENT: f64 = 0.99;
/// The longest scan, in items.
pub const SCAN_ITEMS_MAX: usize = 100;

/// A mix of operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Update heavy
    A,
    /// Read mostly
    B,
    /// Read only
    C,
    /// Read latest
    D,
    /// Short ranges
    E,
    /// Read, modify, write
    F,
    /// Reads of any record
    Get,
    /// Replacements of any record
    Put,
    /// Inserts from record 0 on
    #[value(skip)]
    Load,
}

/// How records are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Distribution {
    /// A few records often, most seldom
    Zipfian,
    /// Each as often as any other
    Uniform,
    /// The newest most often
    Latest,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Reads an item.
    Read,
    /// Changes one field of an item.
    Update,
    /// Writes an item that is new.
    Insert,
    /// Replaces a whole item.
    Put,
    /// Reads several items in order.
    Scan,
    /// Reads an item, then changes one field.
    ReadModifyWrite,
}

impl Kind {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Update => "update",
            Kind::Insert => "insert",
            Kind::Put => "put",
            Kind::Scan => "scan",
            Kind::ReadModifyWrite => "read-modify-write",
        }
    }
}

impl Workload {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Workload::A => "a",
            Workload::B => "b",
            Workload::C => "c",
            Workload::D => "d",
            Workload::E => "e",
            Workload::F => "f",
            Workload::Get => "get",
            Workload::Put => "put",
            Workload::Load => "load",
        }
    }

    /// How its records are chosen where nobody says otherwise.
    pub fn distribution(self) -> Distribution {
        match self {
            Workload::D => Distribution::Latest,
            Workload::Get | Workload::Put | Workload::Load => Distribution::Uniform,
            _ => Distribution::Zipfian,
        }
    }

    /// What to do for a number from 0 to 99.
    fn kind(self, percent: u32) -> Kind {
        match (self, percent) {
            (Workload::A, 50..) | (Workload::B, 95..) => Kind::Update,
            (Workload::D | Workload::E, 95..) | (Workload::Load, _) => Kind::Insert,
            (Workload::E, _) => Kind::Scan,
            (Workload::F, 50..) => Kind::ReadModifyWrite,
            (Workload::Put, _) => Kind::Put,
            _ => Kind::Read,
        }
    }
}

/// One operation to carry out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// What to do.
    pub kind: Kind,
    /// The number of the record, from 0.
    pub record: u64,
    /// How many items a scan reads.
    pub items: usize,
}

impl Operation {
    /// The record's ID: `user` and a hash of its number, so that IDs in order of insertion are in no order.
    pub fn id(&self) -> String {
        format!("user{}", scatter(self.record))
    }
}

/// Numbers of records given out and acknowledged, shared by all connections.
#[derive(Debug, Default)]
pub struct Records {
    next: Cell<u64>,
    under_way: RefCell<BTreeSet<u64>>,
}

impl Records {
    /// `count` records are there.
    pub fn new(count: u64) -> Rc<Records> {
        Rc::new(Records { next: Cell::new(count), under_way: RefCell::default() })
    }

    /// All below this number are acknowledged.
    pub fn readable(&self) -> u64 {
        self.under_way.borrow().first().copied().unwrap_or(self.next.get())
    }

    fn begin(&self) -> u64 {
        let record = self.next.get();
        self.next.set(record + 1);
        self.under_way.borrow_mut().insert(record);
        record
    }

    /// The insert of `record` ended.
    pub fn end(&self, record: u64) {
        self.under_way.borrow_mut().remove(&record);
    }
}

/// The sequence of operations of one connection.
pub struct Generator {
    workload: Workload,
    distribution: Distribution,
    records: Rc<Records>,
    /// The curve and the number of records it was made for.
    zipf: Option<(u64, Zipf<f64>)>,
    random: SmallRng,
}

impl Generator {
    /// A sequence that depends on `seed` only (and on what other connections insert meanwhile).
    pub fn new(workload: Workload, distribution: Distribution, records: Rc<Records>, seed: u64) -> Generator {
        Generator { workload, distribution, records, zipf: None, random: SmallRng::seed_from_u64(seed) }
    }

    /// The next operation.
    pub fn draw(&mut self) -> Operation {
        let kind = self.workload.kind(self.random.random_range(0..100));
        let record = if kind == Kind::Insert { self.records.begin() } else { self.choose() };
        let items = if kind == Kind::Scan { self.random.random_range(1..=SCAN_ITEMS_MAX) } else { 1 };
        Operation { kind, record, items }
    }

    fn choose(&mut self) -> u64 {
        let count = self.records.readable().max(1);
        match self.distribution {
            Distribution::Uniform => self.random.random_range(0..count),
            Distribution::Zipfian => scatter(self.rank(count)) % count,
            Distribution::Latest => count - 1 - self.rank(count),
        }
    }

    /// How popular a record to take, 0 the most, below `count`.
    fn rank(&mut self, count: u64) -> u64 {
        if self.zipf.as_ref().is_none_or(|(made_for, _)| *made_for != count) {
            self.zipf = Zipf::new(count as f64, ZIPFIAN_EXPONENT).ok().map(|zipf| (count, zipf));
        }
        let drawn = self.zipf.as_ref().map_or(1.0, |(_, zipf)| zipf.sample(&mut self.random));
        (drawn as u64).clamp(1, count) - 1
    }
}

/// FNV-1a over the eight bytes of a number, as YCSB scatters records.
pub fn scatter(number: u64) -> u64 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    number.to_le_bytes().into_iter().fold(0xcbf2_9ce4_8422_2325, hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn counts(workload: Workload, distribution: Distribution) -> (BTreeMap<Kind, usize>, BTreeMap<u64, usize>) {
        let records = Records::new(1000);
        let mut generator = Generator::new(workload, distribution, Rc::clone(&records), 7);
        let (mut kinds, mut chosen) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..20_000 {
            let operation = generator.draw();
            *kinds.entry(operation.kind).or_default() += 1;
            if operation.kind == Kind::Insert {
                records.end(operation.record);
            } else {
                assert!(operation.record < records.readable());
                *chosen.entry(operation.record).or_default() += 1;
            }
        }
        (kinds, chosen)
    }

    #[test]
    fn mixes_are_those_of_ycsb() {
        let cases: [(Workload, &[(Kind, usize)]); 8] = [
            (Workload::A, &[(Kind::Read, 50), (Kind::Update, 50)]),
            (Workload::B, &[(Kind::Read, 95), (Kind::Update, 5)]),
            (Workload::C, &[(Kind::Read, 100)]),
            (Workload::D, &[(Kind::Read, 95), (Kind::Insert, 5)]),
            (Workload::E, &[(Kind::Scan, 95), (Kind::Insert, 5)]),
            (Workload::F, &[(Kind::Read, 50), (Kind::ReadModifyWrite, 50)]),
            (Workload::Get, &[(Kind::Read, 100)]),
            (Workload::Put, &[(Kind::Put, 100)]),
        ];
        for (workload, wanted) in cases {
            let (kinds, _) = counts(workload, workload.distribution());
            assert_eq!(kinds.len(), wanted.len(), "{workload:?}");
            for (kind, percent) in wanted {
                assert!(kinds[kind].abs_diff(percent * 200) < 300, "{workload:?} {kind:?} {}", kinds[kind]);
            }
        }
    }

    #[test]
    fn distributions_have_their_shapes() {
        let (_, uniform) = counts(Workload::Get, Distribution::Uniform);
        assert!(uniform.values().all(|count| *count < 60), "no record stands out");
        let (_, zipfian) = counts(Workload::C, Distribution::Zipfian);
        let mut by_count: Vec<usize> = zipfian.values().copied().collect();
        by_count.sort_unstable_by(|a, b| b.cmp(a));
        assert!(by_count[0] > 1500 && by_count[0] > 3 * by_count[5], "a few stand out: {:?}", &by_count[..6]);
        assert_ne!(zipfian.iter().max_by_key(|(_, count)| **count).map(|(record, _)| *record), Some(0), "scattered");
        let (_, latest) = counts(Workload::D, Distribution::Latest);
        let newest: usize = latest.range(1000..).map(|(_, count)| count).sum();
        assert!(newest > 10_000, "records inserted lately are read most: {newest}");
    }

    #[test]
    fn only_acknowledged_records_are_readable() {
        let records = Records::new(5);
        let (first, second) = (records.begin(), records.begin());
        assert_eq!((first, second, records.readable()), (5, 6, 5));
        records.end(second);
        assert_eq!(records.readable(), 5);
        records.end(first);
        assert_eq!(records.readable(), 7);
    }
}
