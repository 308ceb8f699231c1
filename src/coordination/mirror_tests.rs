//! The same requests to etcd and to the embedded store, and the same answers from both: hundreds of
//! requests drawn by seed, in the hope of a difference nobody thought of. Revisions are compared as
//! distances from where each store began.

use std::sync::Arc;

use super::contract::Cluster;
use super::{Compare, Condition, Coordinator, Error, KeyValue, Operation, Revision};

/// A small generator with a seed (splitmix64, Steele et al. 2014), so that a difference can be had again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn key(&mut self) -> String {
        ["tenant/a", "tenant/a/", "tenant/a/1", "tenant/b", "tenant/\u{e4}", "tenant/\u{ffff}"][self.below(6) as usize]
            .into()
    }

    fn value(&mut self) -> String {
        self.below(3).to_string()
    }
}

/// A request; revisions are distances.
#[derive(Debug, Clone)]
enum Request {
    Get(String),
    List { prefix: String, after: Option<String>, at: Option<Revision>, limit: usize },
    Transact(Vec<Compare>, Vec<Operation>),
    Compact(Revision),
}

fn draw(dice: &mut Dice, now: Revision) -> Request {
    let past = |dice: &mut Dice| (now - dice.below(12) as Revision).max(0);
    match dice.below(20) {
        0..=3 => Request::Get(dice.key()),
        4..=8 => {
            let prefix = ["", "tenant/", "tenant/a", "tenant/a/", "tenant/\u{ffff}"][dice.below(5) as usize].to_owned();
            let after = (dice.below(2) == 0).then(|| dice.key()).filter(|after| after.starts_with(&prefix));
            let at = (dice.below(2) == 0).then(|| past(dice));
            Request::List { prefix, after, at, limit: 1 + dice.below(4) as usize }
        }
        9 => Request::Compact(past(dice)),
        _ => {
            let compares = (0..dice.below(3)).map(|_| compare(dice, now)).collect();
            let operations = (0..dice.below(4)).map(|_| match dice.below(3) {
                0 => Operation::delete(dice.key()),
                _ => Operation::put(dice.key(), dice.value()),
            });
            Request::Transact(compares, operations.collect())
        }
    }
}

fn compare(dice: &mut Dice, now: Revision) -> Compare {
    let condition = match dice.below(5) {
        0 => Condition::Absent,
        1 => Condition::Present,
        2 => Condition::ModRevision(now - dice.below(4) as Revision),
        3 => Condition::Version(dice.below(4) as i64),
        _ => Condition::Value(dice.value().into()),
    };
    Compare { key: dice.key(), condition }
}

/// One of the two, and where its revisions began.
struct Side {
    coordinator: Arc<dyn Coordinator>,
    base: Revision,
}

impl Side {
    async fn of(cluster: &Cluster) -> Self {
        let coordinator = cluster.control();
        let base = coordinator.put("tenant/base", "".into(), None).await.unwrap();
        Self { coordinator, base }
    }

    fn told(&self, entry: &KeyValue) -> String {
        let (created, changed) = (entry.create_revision - self.base, entry.mod_revision - self.base);
        format!("{}={:?} {created} {changed} {}", entry.key, entry.value, entry.version)
    }

    /// The answer, in words that do not depend on where revisions began.
    async fn answer(&self, request: Request) -> String {
        let failed = |error: Error| match error {
            Error::Compacted { .. } => "compacted".to_owned(),
            Error::BadRequest(_) => "bad request".to_owned(),
            other => panic!("{other:?}"),
        };
        match request {
            Request::Get(key) => {
                let entry = self.coordinator.get(&key).await.unwrap();
                entry.map_or("none".to_owned(), |entry| self.told(&entry))
            }
            Request::List { prefix, after, at, limit } => {
                let at = at.map(|at| at + self.base);
                match self.coordinator.list_page(&prefix, after.as_deref(), at, limit).await {
                    Ok(page) => {
                        let entries: Vec<String> = page.entries.iter().map(|entry| self.told(entry)).collect();
                        format!("{entries:?} at {} more {}", page.revision - self.base, page.more)
                    }
                    Err(error) => failed(error),
                }
            }
            Request::Transact(mut compares, operations) => {
                for compare in &mut compares {
                    if let Condition::ModRevision(revision) = &mut compare.condition {
                        *revision += self.base;
                    }
                }
                match self.coordinator.transact(compares, operations).await {
                    Ok(result) => format!("{} {}", result.succeeded, result.revision - self.base),
                    Err(error) => failed(error),
                }
            }
            Request::Compact(revision) => match self.coordinator.compact(revision + self.base).await {
                Ok(()) => "done".to_owned(),
                Err(error) => failed(error),
            },
        }
    }

    async fn revision(&self) -> Revision {
        self.coordinator.list_page("tenant/", None, None, 1).await.unwrap().revision - self.base
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_answer_alike() {
    let (etcd, embedded) = (Cluster::etcd().await, Cluster::embedded().await);
    let (one, other) = (Side::of(&etcd).await, Side::of(&embedded).await);
    let mut kinds = std::collections::BTreeMap::<String, u32>::new();
    for seed in 0..4 {
        let mut dice = Dice(seed);
        let mut before = Vec::new();
        for _ in 0..300 {
            let request = draw(&mut dice, one.revision().await);
            before.push(format!("{request:?}"));
            let (expected, answer) = (one.answer(request.clone()).await, other.answer(request).await);
            assert_eq!(answer, expected, "seed {seed}, after {:#?}", &before[before.len().saturating_sub(10)..]);
            *kinds.entry(answer.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    for kind in ["compacted", "true", "false", "none", "done", "bad"] {
        assert!(kinds.get(kind).is_some_and(|count| *count >= 5), "{kind} is hardly ever an answer: {kinds:?}");
    }
}
