//! The window: what it remembers, what it refuses, and that it is a function of the log.

use super::*;
use crate::domain::document::Document;
use crate::domain::version::ItemVersion;
use crate::replication::operation::Changed;
use proptest::prelude::*;

const BOUND: usize = 5;

fn id(seconds: u64, random: u8) -> RequestId {
    make(Timestamp(0).plus_seconds(seconds), [random; 8])
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(0).plus_seconds(seconds)
}

fn done(index: u64) -> Outcome {
    Outcome::Created(ItemVersion(index))
}

#[test]
fn an_id_carries_its_time() {
    let made = Timestamp(1_700_000_000_123_456);
    assert_eq!(made_at(make(made, [7; 8])), made);
}

#[test]
fn a_repeat_is_answered_as_before_until_it_is_refused() {
    let mut window = Window::default();
    window.advance(at(1000));
    assert_eq!(window.judge(id(1000, 1)), Verdict::Fresh);
    window.remember(id(1000, 1), 7, done(1));
    window.advance(at(1000 + WINDOW_SECONDS - 1));
    assert_eq!(window.judge(id(1000, 1)), Verdict::Repeat(Some(done(1))));
    window.advance(at(1000 + WINDOW_SECONDS));
    assert_eq!(window.judge(id(1000, 1)), Verdict::Unknown);
    assert!(window.is_empty());
}

#[test]
fn a_leaders_clock_that_goes_back_changes_nothing() {
    let mut window = Window::default();
    window.advance(at(1000));
    let before = window.clone();
    window.advance(at(10));
    assert_eq!(window, before);
    assert_eq!(window.judge(id(900, 1)), Verdict::Unknown);
}

#[test]
fn an_id_from_the_future_is_refused() {
    let mut window = Window::default();
    window.advance(at(1000));
    assert_eq!(window.judge(id(1000 + AHEAD_SECONDS_MAX, 1)), Verdict::Fresh);
    assert_eq!(window.judge(id(1001 + AHEAD_SECONDS_MAX, 1)), Verdict::Unknown);
}

#[test]
fn past_its_bound_it_is_shorter_and_not_wrong() {
    let mut window = Window::default();
    window.advance(at(1000));
    for number in 1..=6 {
        window.remember_bounded(id(1000 + number, 0), 0, Some(done(number)), BOUND);
    }
    assert_eq!((window.len(), window.horizon()), (BOUND, at(1001)));
    assert_eq!(window.judge(id(1001, 0)), Verdict::Unknown);
    assert_eq!(window.judge(id(1001, 9)), Verdict::Unknown, "made in the same moment as one that was forgotten");
    assert_eq!(window.judge(id(1002, 0)), Verdict::Repeat(Some(done(2))));
}

#[test]
fn a_split_takes_the_ids_by_their_hash_and_the_horizon_twice() {
    let mut window = Window::default();
    window.advance(at(1000));
    window.remember(id(1000, 1), 99, done(1));
    window.remember(id(1000, 2), 100, done(2));
    let [lower, upper] = window.split(100);
    assert_eq!(lower.judge(id(1000, 1)), Verdict::Repeat(Some(done(1))));
    assert_eq!(upper.judge(id(1000, 2)), Verdict::Repeat(Some(done(2))));
    assert_eq!((lower.len(), upper.len()), (1, 1));
    assert_eq!((lower.horizon(), upper.horizon()), (window.horizon(), window.horizon()));
}

/// An update that is told with an item of so many bytes.
fn told(index: u64, bytes: usize) -> Outcome {
    let document = Document::from_json(format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes)).as_bytes()).unwrap();
    Outcome::Changed(Box::new(Changed {
        version: Some(ItemVersion(index)),
        existed: true,
        before: None,
        after: Some(document),
        before_bytes: 7,
        after_bytes: 8,
    }))
}

#[test]
fn past_their_bound_the_oldest_images_are_forgotten_and_no_id_is() {
    let bound = 3 * told(0, 100).told_bytes();
    let mut window = Window::default();
    window.advance(at(1000));
    window.remember_with_images(id(1000, 0), 1, done(7), bound);
    for number in 1..=5 {
        window.remember_with_images(id(1000, number), 1, told(u64::from(number), 100), bound);
    }
    window.remember_with_images(id(1000, 6), 1, told(6, 1000), bound);
    assert_eq!(window.len(), 7);
    assert_eq!(window.judge(id(1000, 0)), Verdict::Repeat(Some(done(7))), "what has no image is not forgotten for it");
    for forgotten in [1, 2, 6] {
        assert_eq!(window.judge(id(1000, forgotten)), Verdict::Repeat(None), "{forgotten}");
    }
    for number in 3..=5 {
        assert_eq!(window.judge(id(1000, number)), Verdict::Repeat(Some(told(u64::from(number), 100))));
    }
    assert_eq!(window.horizon(), at(1000 - WINDOW_SECONDS));
    window.advance(at(1000 + WINDOW_SECONDS));
    assert!(window.is_empty());
    assert_eq!(window.images, ImageBytes::default(), "what is forgotten costs nothing");
}

/// One entry: the leader's time, when the id was made, its random part and the hash of the key.
type Write = (u64, u64, u8, u32);

fn apply(window: &mut Window, write: Write, index: u64) -> Verdict {
    let (time, made, random, hash) = write;
    window.advance(at(time));
    let verdict = window.judge(id(made, random));
    if verdict == Verdict::Fresh {
        window.remember_bounded(id(made, random), hash, Some(done(index)), BOUND);
    }
    verdict
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    proptest::collection::vec((100u64..200, 100u64..200, 0u8..2, 0u32..4), 0..60)
}

proptest! {
    /// No id is fresh twice, whatever the clocks do, in the window of the parent or of its children.
    #[test]
    fn no_write_is_applied_twice(writes in writes(), cut in 0usize..60, split_at in 1u32..4) {
        let mut seen = std::collections::BTreeSet::new();
        let mut windows = vec![Window::default()];
        for (index, write) in writes.into_iter().enumerate() {
            if index == cut {
                windows = windows[0].split(split_at).to_vec();
            }
            // A key has one hash: the random part stands for the key as well.
            let write = (write.0, write.1, write.2, u32::from(write.2) * 2);
            let place = if windows.len() == 2 && write.3 >= split_at { 1 } else { 0 };
            if apply(&mut windows[place], write, index as u64) == Verdict::Fresh {
                prop_assert!(seen.insert((write.1, write.2)), "{write:?} is fresh twice");
            }
            prop_assert!(windows.iter().all(|window| window.len() <= BOUND));
        }
    }

    /// Whoever starts from a window that was written down comes to the same as who never stopped.
    #[test]
    fn it_is_a_function_of_the_log(writes in writes(), cut in 0usize..60) {
        let cut = cut.min(writes.len());
        let mut all = Window::default();
        let mut from_snapshot = None;
        for (index, write) in writes.iter().enumerate() {
            if index == cut {
                from_snapshot = Window::decode(&all.encode());
            }
            let verdict = apply(&mut all, *write, index as u64);
            if let Some(window) = &mut from_snapshot {
                prop_assert_eq!(apply(window, *write, index as u64), verdict);
            }
        }
        prop_assert!(from_snapshot.is_none_or(|window| window == all));
    }

    /// So are the images that it remembers, whoever starts where.
    #[test]
    fn its_images_are_a_function_of_the_log(
        writes in writes(),
        sizes in proptest::collection::vec(0usize..80, 60),
        cut in 0usize..60,
        split_at in 0u32..5,
    ) {
        let bound = 200;
        let (mut all, mut again) = (Window::default(), None);
        for (index, ((time, made, random, hash), bytes)) in writes.into_iter().zip(sizes).enumerate() {
            if index == cut {
                all = all.split(split_at)[0].clone();
                again = Window::decode(&all.encode());
            }
            for window in std::iter::once(&mut all).chain(again.as_mut()) {
                window.advance(at(time));
                if window.judge(id(made, random)) == Verdict::Fresh {
                    let outcome = if bytes < 20 { done(index as u64) } else { told(index as u64, bytes) };
                    window.remember_with_images(id(made, random), hash, outcome, bound);
                }
                let bytes: usize =
                    window.known.values().filter_map(|known| Some(known.outcome.as_ref()?.told_bytes())).sum();
                prop_assert_eq!(window.images.total, bytes);
                prop_assert!(bytes <= bound);
            }
            prop_assert!(again.as_ref().is_none_or(|again| *again == all));
        }
        fuzz_window(&all.encode());
    }

    /// A window that was shown the log again knows the same ids, and not how they ended.
    #[test]
    fn a_replay_knows_the_same_ids(writes in writes(), cut in 0usize..60, probe in (100u64..200, 0u8..2)) {
        let (mut all, mut again) = (Window::default(), Window::default());
        for (index, (time, made, random, hash)) in writes.into_iter().enumerate() {
            all.advance(at(time));
            if all.judge(id(made, random)) == Verdict::Fresh {
                all.remember(id(made, random), hash, done(index as u64));
            }
            if index == cut {
                again = Window::decode(&all.encode()).unwrap();
            } else {
                again.replay(at(time), Some((id(made, random), hash)));
            }
        }
        let kind = |window: &Window| match window.judge(id(probe.0, probe.1)) {
            Verdict::Repeat(_) => Verdict::Repeat(None),
            other => other,
        };
        prop_assert_eq!(kind(&all), kind(&again));
        prop_assert_eq!((all.horizon(), all.len()), (again.horizon(), again.len()));
        prop_assert_eq!(Window::decode(&again.encode()), Some(again));
    }

    #[test]
    fn what_is_written_is_read(writes in writes()) {
        let mut window = Window::default();
        for (index, write) in writes.into_iter().enumerate() {
            apply(&mut window, write, index as u64);
        }
        window.remember(id(250, 0), 1, Outcome::Invalid("too large".into()));
        fuzz_window(&window.encode());
        prop_assert_eq!(Window::decode(&window.encode()), Some(window));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz_window(&bytes);
    }
}
