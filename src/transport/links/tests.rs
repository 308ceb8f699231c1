//! Messages are counted, never timed: how many frames they took, who waited for whom, what was refused and lost.

use std::sync::atomic::AtomicBool;

use tokio::sync::Notify;

use super::*;

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

/// A carrier whose frames wait until they are let through, or fail.
#[derive(Default)]
struct Doors {
    carried: Mutex<Vec<(NodeId, Vec<Bytes>)>>,
    is_open: AtomicBool,
    is_broken: AtomicBool,
    begun: AtomicU64,
    moved: Notify,
}

impl Doors {
    fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
        self.moved.notify_waiters();
    }

    fn carried(&self) -> Vec<(NodeId, Vec<Bytes>)> {
        self.carried.lock().clone()
    }
}

#[async_trait]
impl Carrier for Doors {
    async fn carry(&self, to: NodeId, frame: Bytes) -> Result<(), CarryError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        // Pieces of snapshots never get through while the doors are closed; everything else waits for them likewise.
        loop {
            let moved = self.moved.notified();
            if self.is_broken.load(Ordering::SeqCst) {
                return Err(CarryError { node: to, reason: "broken".to_owned() });
            }
            if self.is_open.load(Ordering::SeqCst) {
                self.carried.lock().push((to, frames::decode(&frame).unwrap()));
                return Ok(());
            }
            moved.await;
        }
    }
}

fn links(doors: &Arc<Doors>, options: LinkOptions) -> Links {
    Links::new(doors.clone(), Handle::current(), options)
}

/// Waits until a condition holds, twenty seconds at most.
async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to that: {what}");
}

async fn wait_idle(links: &Links) {
    wait_until("nothing waits any more", || links.busy_count() == 0).await;
}

#[tokio::test]
async fn a_burst_of_a_thousand_messages_goes_in_two_frames() {
    let doors = Arc::new(Doors::default());
    let links = links(&doors, LinkOptions::default());
    links.send(node(1), Bytes::from_static(b"first"), Lane::Small).unwrap();
    wait_until("the first is under way", || doors.begun.load(Ordering::SeqCst) == 1).await;
    for number in 0..1000u32 {
        links.send(node(1), Bytes::copy_from_slice(&number.to_be_bytes()), Lane::Small).unwrap();
    }
    doors.open();
    wait_idle(&links).await;
    let counts = links.counts(Lane::Small);
    assert_eq!((counts.frames, counts.messages), (2, 1001));
    assert_eq!(counts.bytes, 1 + 4 + 5 + 1 + 1000 * 8);
    let carried = doors.carried();
    let numbers: Vec<u32> =
        carried[1].1.iter().map(|message| u32::from_be_bytes(message[..].try_into().unwrap())).collect();
    assert!(numbers.iter().copied().eq(0..1000), "the order is kept");
}

#[tokio::test]
async fn an_idle_pair_of_nodes_costs_no_frame_and_no_task() {
    let doors = Arc::new(Doors::default());
    doors.open();
    let links = links(&doors, LinkOptions::default());
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    links.send(node(1), Bytes::from_static(b"x"), Lane::Small).unwrap();
    assert_eq!((links.busy_count(), tasks()), (1, before + 1));
    wait_idle(&links).await;
    // There is nothing left that could send: no task, and so no timer either.
    wait_until("its task is gone", || tasks() == before).await;
    assert_eq!((links.counts(Lane::Small).frames, links.busy_count()), (1, 0));
}

#[tokio::test]
async fn a_frame_holds_a_mebibyte_or_one_larger_message() {
    let doors = Arc::new(Doors::default());
    doors.open();
    let links = links(&doors, LinkOptions::default());
    let sizes = [FRAME_BYTES / 2, FRAME_BYTES / 2 - 8, 1, 3 * FRAME_BYTES, 1];
    for size in sizes {
        links.send(node(1), Bytes::from(vec![7; size]), Lane::Small).unwrap();
    }
    wait_idle(&links).await;
    let carried: Vec<Vec<usize>> =
        doors.carried().iter().map(|(_, messages)| messages.iter().map(Bytes::len).collect()).collect();
    assert_eq!(carried, [vec![sizes[0], sizes[1]], vec![1], vec![sizes[3]], vec![1]]);
}

#[tokio::test]
async fn pieces_of_snapshots_hold_up_no_small_message_and_no_other_node() {
    let doors = Arc::new(Doors::default());
    let links = links(&doors, LinkOptions::default());
    links.send(node(1), Bytes::from(vec![0; 1000]), Lane::Bulk).unwrap();
    wait_until("the piece is under way", || doors.begun.load(Ordering::SeqCst) == 1).await;
    links.send(node(1), Bytes::from_static(b"vote"), Lane::Small).unwrap();
    links.send(node(2), Bytes::from_static(b"vote"), Lane::Small).unwrap();
    wait_until("all three are", || doors.begun.load(Ordering::SeqCst) == 3).await;
    assert_eq!(links.busy_count(), 3);
    doors.open();
    wait_idle(&links).await;
    assert_eq!((links.counts(Lane::Bulk).frames, links.counts(Lane::Small).frames), (1, 2));
}

#[tokio::test]
async fn a_full_queue_refuses_the_newest_and_counts_them() {
    let doors = Arc::new(Doors::default());
    let links = links(&doors, LinkOptions { queue_bytes_max: 100, ..LinkOptions::default() });
    links.send(node(1), Bytes::from_static(b"under way"), Lane::Small).unwrap();
    wait_until("the first is under way", || doors.begun.load(Ordering::SeqCst) == 1).await;
    let sent: Vec<_> =
        (0..10u8).map(|number| links.send(node(1), Bytes::from(vec![number; 16]), Lane::Small)).collect();
    assert_eq!(sent, [[Ok(()); 5], [Err(NotSent::Full); 5]].concat());
    assert_eq!(links.waiting_bytes(), 100);
    links.send(node(2), Bytes::from(vec![0; 5000]), Lane::Small).unwrap();
    let too_large = Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1]);
    assert_eq!(links.send(node(2), too_large, Lane::Small), Err(NotSent::TooLarge(MESSAGE_BYTES_MAX + 1)));
    doors.open();
    wait_idle(&links).await;
    let counts = links.counts(Lane::Small);
    assert_eq!((counts.messages, counts.messages_refused, links.waiting_bytes()), (7, 6, 0));
    let firsts: Vec<u8> = doors
        .carried()
        .iter()
        .filter(|(to, _)| *to == node(1))
        .flat_map(|(_, all)| all.iter().map(|message| message[0]))
        .collect();
    assert_eq!(firsts, [b'u', 0, 1, 2, 3, 4], "what was sent is a row without gaps");
}

#[derive(Default)]
struct Losses(Mutex<Vec<(NodeId, Bytes)>>);

impl Undelivered for Losses {
    fn undelivered(&self, to: NodeId, message: &Bytes) {
        self.0.lock().push((to, message.clone()));
    }
}

#[tokio::test]
async fn a_frame_that_fails_is_told_and_what_comes_meanwhile_shares_the_next_one() {
    let doors = Arc::new(Doors::default());
    doors.is_broken.store(true, Ordering::SeqCst);
    let links = links(&doors, LinkOptions { pause_min: Duration::from_millis(50), ..LinkOptions::default() });
    let losses = Arc::new(Losses::default());
    links.tell_of_undelivered(Arc::downgrade(&losses) as Weak<dyn Undelivered>);
    links.send(node(1), Bytes::from_static(b"a"), Lane::Small).unwrap();
    let told = losses.clone();
    wait_until("the loss is told", || !told.0.lock().is_empty()).await;
    for _ in 0..1000 {
        links.send(node(1), Bytes::from_static(b"b"), Lane::Small).unwrap();
    }
    wait_idle(&links).await;
    let counts = links.counts(Lane::Small);
    assert_eq!((counts.frames, counts.messages, counts.messages_lost, counts.frames_failed), (0, 0, 1001, 2));
    assert_eq!(losses.0.lock().len(), 1001);
    assert_eq!(losses.0.lock()[0], (node(1), Bytes::from_static(b"a")));
    assert_eq!((links.unreached(Lane::Small), links.unreached(Lane::Bulk), counts.reconnects), (1, 0, 0));
    doors.is_broken.store(false, Ordering::SeqCst);
    doors.open();
    links.send(node(1), Bytes::from_static(b"c"), Lane::Small).unwrap();
    wait_idle(&links).await;
    assert_eq!(doors.carried(), [(node(1), vec![Bytes::from_static(b"c")])]);
    assert_eq!((links.unreached(Lane::Small), links.counts(Lane::Small).reconnects), (0, 1));
}

#[tokio::test]
async fn what_is_dropped_ends_what_it_runs() {
    let doors = Arc::new(Doors::default());
    let links = links(&doors, LinkOptions::default());
    let before = Handle::current().metrics().num_alive_tasks();
    links.send(node(1), Bytes::from_static(b"under way"), Lane::Small).unwrap();
    wait_until("it is under way", || doors.begun.load(Ordering::SeqCst) == 1).await;
    links.send(node(1), Bytes::from_static(b"never"), Lane::Small).unwrap();
    drop(links);
    doors.open();
    wait_until("the task ends", || Handle::current().metrics().num_alive_tasks() == before).await;
    assert_eq!(doors.carried(), [(node(1), vec![Bytes::from_static(b"under way")])]);
}

struct Panicking(AtomicBool);

#[async_trait]
impl Carrier for Panicking {
    async fn carry(&self, _to: NodeId, _frame: Bytes) -> Result<(), CarryError> {
        assert!(self.0.swap(false, Ordering::SeqCst), "the carrier is asked again");
        panic!("a carrier that panics, as this test wants it");
    }
}

#[tokio::test]
async fn a_carrier_that_panics_leaves_no_queue_that_nobody_empties() {
    let links = Links::new(Arc::new(Panicking(AtomicBool::new(true))), Handle::current(), LinkOptions::default());
    links.send(node(1), Bytes::from_static(b"x"), Lane::Small).unwrap();
    wait_idle(&links).await;
    assert_eq!(links.waiting_bytes(), 0);
}
