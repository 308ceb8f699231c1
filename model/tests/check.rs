//! The models, each within its bounds: all that can happen is tried. The numbers of states are pinned: another number means
//! another world, and whoever changes one looks at why.
//!
//! Larger bounds (`--ignored`) are for `make check-model`: those worlds are searched for a while, not tried in full.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use dstore_model::publish::{self, Publishing};
use dstore_model::receipts::{self, Receipts};
use dstore_model::replacement::{self, Replacing};
use dstore_model::split::{self, Splitting};
use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

/// Threads that explore. More would not help where tests share two cores.
const THREADS: usize = 2;

/// Tries everything, and demands that the world has this size.
fn explore<M>(model: M, states: usize)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Debug + Clone + PartialEq,
{
    assert_eq!(tried(model), states);
}

/// Tries everything; fails where a promise is broken or something that should be reached is not. How many states there are.
fn tried<M>(model: M) -> usize
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Debug + Clone + PartialEq,
{
    let checker = model.checker().threads(THREADS).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!("{states} states, {} with repeats, depth {}", checker.state_count(), checker.max_depth());
    checker.assert_properties();
    states
}

/// Demands that a mistake is found out, by this promise.
fn finds<M>(model: M, promise: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Debug + Clone + PartialEq,
{
    let wanted = HasDiscoveries::AnyOf([promise].into());
    let checker = model.checker().threads(THREADS).finish_when(wanted).spawn_bfs().join();
    let path = checker.discovery(promise).expect("a counterexample");
    let steps = path.into_actions();
    println!("{} states, then: {steps:#?}", checker.unique_state_count());
    assert!(!steps.is_empty());
}

const PUBLISHING: Publishing = Publishing {
    terms_max: 2,
    entries_max: 2,
    changes_max: 1,
    in_flight_max: 1,
    versions_max: 3,
    faults_max: 1,
    mistake: None,
};

/// One leader; control changes its mind.
const REPLACING: Replacing = Replacing {
    terms_max: 1,
    entries_max: 5,
    wishes_max: 2,
    writes_max: 0,
    wipes_max: 1,
    faults_max: 0,
    mistake: None,
};

/// A second leader.
const REPLACING_LED_TWICE: Replacing =
    Replacing { terms_max: 2, entries_max: 4, wishes_max: 1, wipes_max: 0, ..REPLACING };

/// One leader, a write, and a fault: an answer that is lost, or a process that starts again.
const REPLACING_WITH_A_FAULT: Replacing =
    Replacing { entries_max: 4, wishes_max: 1, writes_max: 1, wipes_max: 0, faults_max: 1, ..REPLACING };

const SPLITTING: Splitting =
    Splitting { writes: 1, moments_max: 1, entries_max: 2, restarts_max: 1, faults_max: 1, mistake: None };

const RECEIPTS: Receipts = Receipts { terms_max: 2, entries_max: 3, writes_max: 1, faults_max: 1, mistake: None };

#[test]
fn routes_are_published() {
    explore(PUBLISHING, 237_166);
}

#[test]
fn copies_are_replaced() {
    explore(REPLACING, 334_183);
}

#[test]
fn copies_are_replaced_by_two_leaders() {
    explore(REPLACING_LED_TWICE, 162_854);
}

#[test]
fn copies_are_replaced_over_a_write_and_a_fault() {
    explore(REPLACING_WITH_A_FAULT, 99_061);
}

#[test]
fn ranges_are_split() {
    explore(SPLITTING, 279_020);
}

#[test]
fn receipts_are_answered() {
    explore(RECEIPTS, 162_708);
}

#[test]
fn receipts_are_answered_by_three_leaders() {
    explore(Receipts { terms_max: 3, faults_max: 0, ..RECEIPTS }, 126_774);
}

#[test]
fn a_route_written_without_compare_is_found_out() {
    let mistake = Some(publish::Mistake::WriteWithoutCompare);
    finds(
        Publishing { mistake, in_flight_max: 2, versions_max: 4, ..PUBLISHING },
        "a route never goes back, and never over another range",
    );
}

#[test]
fn members_published_too_early_are_found_out() {
    let mistake = Some(publish::Mistake::PublishUncommitted);
    finds(Publishing { mistake, ..PUBLISHING }, "a route names what was committed");
}

#[test]
fn a_copy_that_goes_by_one_reading_is_found_out() {
    let mistake = Some(replacement::Mistake::RemoveOnOneReading);
    finds(Replacing { mistake, entries_max: 4, wipes_max: 0, ..REPLACING }, "a copy that counts is never removed");
}

#[test]
fn a_copy_that_goes_without_a_look_at_its_log_is_found_out() {
    let mistake = Some(replacement::Mistake::RemoveWithoutOwnLog);
    finds(Replacing { mistake, entries_max: 4, wipes_max: 0, ..REPLACING }, "a copy that counts is never removed");
}

#[test]
fn a_copy_that_goes_by_members_that_were_not_committed_is_found_out() {
    let mistake = Some(replacement::Mistake::PublishUncommitted);
    finds(
        Replacing { mistake, entries_max: 4, wishes_max: 1, wipes_max: 0, ..REPLACING },
        "a copy that counts is never removed",
    );
}

#[test]
fn a_replica_id_used_again_is_found_out() {
    let mistake = Some(replacement::Mistake::ReuseReplicaId);
    finds(
        Replacing { mistake, terms_max: 2, entries_max: 3, wishes_max: 0, ..REPLACING },
        "what is acknowledged stays",
    );
}

#[test]
fn ids_forgotten_in_a_split_are_found_out() {
    let mistake = Some(split::Mistake::ForgetWindowInSplit);
    finds(Splitting { mistake, entries_max: 3, restarts_max: 0, ..SPLITTING }, "no write is applied twice");
}

#[test]
fn ids_forgotten_at_a_restart_are_found_out() {
    let mistake = Some(split::Mistake::ForgetWindowAtRestart);
    finds(Splitting { mistake, ..SPLITTING }, "no write is applied twice");
}

#[test]
fn a_write_applied_behind_a_split_is_found_out() {
    let mistake = Some(split::Mistake::ApplyBehindSplit);
    finds(Splitting { mistake, ..SPLITTING }, "what is acknowledged is there");
}

#[test]
fn an_id_applied_after_its_time_is_found_out() {
    let mistake = Some(split::Mistake::ApplyUnknown);
    finds(Splitting { mistake, moments_max: 2, restarts_max: 0, ..SPLITTING }, "no write is applied twice");
}

#[test]
fn a_copy_that_knows_nothing_and_says_lost_is_found_out() {
    let mistake = Some(receipts::Mistake::LostWhenNotHere);
    finds(Receipts { mistake, ..RECEIPTS }, "what is lost is never applied, and what is done is");
}

#[test]
fn a_leader_that_only_thinks_it_leads_is_found_out() {
    let mistake = Some(receipts::Mistake::LostWithoutConfirmation);
    finds(Receipts { mistake, ..RECEIPTS }, "what is lost is never applied, and what is done is");
}

#[test]
fn a_leader_that_has_not_applied_its_term_is_found_out() {
    let mistake = Some(receipts::Mistake::LostBeforeOwnTerm);
    finds(Receipts { mistake, ..RECEIPTS }, "what is lost is never applied, and what is done is");
}

#[test]
fn a_lost_write_proposed_again_is_found_out() {
    let mistake = Some(receipts::Mistake::ProposeAgain);
    finds(
        Receipts { mistake, terms_max: 3, entries_max: 4, faults_max: 0, ..RECEIPTS },
        "what is lost is never applied, and what is done is",
    );
}

/// For this long each of the larger worlds is searched, unless all of it has been tried before. `DSTORE_SEARCH_SECONDS` says
/// another time.
const SEARCH_SECONDS: u64 = 600;

fn search_time() -> Duration {
    let seconds: u64 = match std::env::var("DSTORE_SEARCH_SECONDS") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("DSTORE_SEARCH_SECONDS is no number of seconds: {text}")),
        Err(_) => SEARCH_SECONDS,
    };
    Duration::from_secs(seconds)
}

/// Searches a world that may be too large to be tried in full, depth first, which needs the least memory.
fn searched<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Debug + Clone + PartialEq,
{
    let began = Instant::now();
    let limit = search_time();
    let checker =
        model.checker().threads(THREADS).timeout(limit).finish_when(HasDiscoveries::AnyFailures).spawn_dfs().join();
    let extent = if began.elapsed() < limit { "all" } else { "a part" };
    println!("{name}: {} states, {extent} of its world", checker.unique_state_count());
    let is_promise = |property: &&Property<M>| property.expectation == Expectation::Always;
    for property in checker.model().properties().iter().filter(is_promise) {
        checker.assert_no_discovery(property.name);
    }
}

#[test]
#[ignore = "takes up to an hour: make check-model"]
fn larger_worlds_are_searched() {
    searched("publish", Publishing { entries_max: 3, versions_max: 4, in_flight_max: 2, ..PUBLISHING });
    searched("replacement", Replacing { writes_max: 1, faults_max: 1, ..REPLACING });
    let led_twice = Replacing { entries_max: 5, wishes_max: 2, writes_max: 1, wipes_max: 1, ..REPLACING_LED_TWICE };
    searched("replacement, led twice", led_twice);
    let with_a_fault = Replacing { writes_max: 1, faults_max: 1, ..REPLACING_LED_TWICE };
    searched("replacement, led twice, with a fault", with_a_fault);
    searched("split", Splitting { writes: 2, moments_max: 2, entries_max: 3, ..SPLITTING });
    searched("receipts", Receipts { terms_max: 3, entries_max: 4, writes_max: 2, ..RECEIPTS });
}
