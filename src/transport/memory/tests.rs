//! Faults happen as they are asked for, and the same seed gives the same run.

use super::*;
use crate::transport::frames;

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

#[derive(Default)]
struct Kept(Mutex<Vec<(NodeId, Bytes)>>);

impl Kept {
    fn numbers(&self) -> Vec<u32> {
        self.0.lock().iter().map(|(_, frame)| u32::from_be_bytes(frame[..].try_into().unwrap())).collect()
    }
}

impl Inbox for Kept {
    fn deliver(&self, from: NodeId, frame: Bytes) {
        self.0.lock().push((from, frame));
    }
}

/// Numbers that look random and depend on a seed.
struct Seeded(Mutex<u64>);

impl Random for Seeded {
    fn fill(&self, buffer: &mut [u8]) {
        let mut state = self.0.lock();
        for byte in buffer {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (*state >> 56) as u8;
        }
    }
}

fn seeded(seed: u64, faults: Faults) -> MemoryNetwork {
    MemoryNetwork::faulty(Arc::new(Seeded(Mutex::new(seed))), faults)
}

fn attach(network: &MemoryNetwork, number: u8) -> Arc<Kept> {
    let kept = Arc::new(Kept::default());
    network.attach(node(number), &(kept.clone() as Arc<dyn Inbox>));
    kept
}

/// What arrives of a thousand frames, in the order of its arrival.
async fn run(seed: u64, faults: Faults) -> Vec<u32> {
    let network = seeded(seed, faults);
    let kept = attach(&network, 2);
    let carrier = network.carrier(node(1));
    for number in 0..1000u32 {
        carrier.carry(node(2), Bytes::copy_from_slice(&number.to_be_bytes())).await.unwrap();
    }
    wait_for_stragglers().await;
    kept.numbers()
}

/// Until nothing is left that could still deliver.
async fn wait_for_stragglers() {
    for _ in 0..20_000 {
        if tokio::runtime::Handle::current().metrics().num_alive_tasks() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("frames are under way for ever");
}

#[tokio::test]
async fn without_faults_everything_arrives_once_and_in_order() {
    let arrived = run(1, Faults { delay_max: Duration::from_micros(10), ..Faults::default() }).await;
    assert!(arrived.into_iter().eq(0..1000));
    let network = MemoryNetwork::direct();
    let kept = attach(&network, 2);
    network.carrier(node(1)).carry(node(2), frames::encode(&[])).await.unwrap();
    assert_eq!(*kept.0.lock(), [(node(1), frames::encode(&[]))]);
}

#[test]
fn the_same_seed_gives_the_same_fates() {
    let faults = Faults {
        dropped: 100,
        duplicated: 100,
        overtaken: 100,
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(9),
    };
    let fates = |seed| {
        let network = seeded(seed, faults);
        (0..100).map(|_| network.draw()).collect::<Vec<_>>()
    };
    assert_eq!(fates(7), fates(7));
    assert_ne!(fates(7), fates(8));
    assert!(fates(7).iter().all(|fate| (faults.delay_min..=faults.delay_max).contains(&fate.delay)));
}

#[tokio::test]
async fn faults_happen_about_as_often_as_asked() {
    let arrived = run(7, Faults { dropped: 100, duplicated: 100, overtaken: 100, ..Faults::default() }).await;
    let mut once = arrived.clone();
    once.sort_unstable();
    once.dedup();
    let twice = arrived.len() - once.len();
    assert!((850..950).contains(&once.len()), "{} of a thousand arrived", once.len());
    assert!((50..150).contains(&twice), "{twice} arrived twice");
}

#[tokio::test]
async fn those_behind_overtake() {
    let faults = Faults { overtaken: 500, delay_max: Duration::from_millis(1), ..Faults::default() };
    let mut arrived = run(7, faults).await;
    assert!(!arrived.is_sorted());
    arrived.sort_unstable();
    assert!(arrived.into_iter().eq(0..1000), "and none is lost");
}

#[tokio::test]
async fn a_cut_goes_one_way_and_ends() {
    let network = seeded(1, Faults::default());
    let (first, second) = (attach(&network, 1), attach(&network, 2));
    let there = network.carrier(node(1));
    let back = network.carrier(node(2));
    network.cut(node(1), node(2));
    assert!(there.carry(node(2), Bytes::from_static(b"1")).await.is_err());
    back.carry(node(1), Bytes::from_static(b"2")).await.unwrap();
    network.mend(node(1), node(2));
    there.carry(node(2), Bytes::from_static(b"3")).await.unwrap();
    network.detach(node(2));
    assert!(there.carry(node(2), Bytes::from_static(b"4")).await.is_err());
    drop(first);
    assert!(back.carry(node(1), Bytes::from_static(b"5")).await.is_err(), "whoever is gone is not reached");
    assert_eq!(second.0.lock().len(), 1);
}
