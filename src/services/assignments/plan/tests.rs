//! What a node takes from readings of its plan, and what it says of its tables.

use super::*;
use crate::coordination::values::to_json;
use crate::coordination::{KeyValue, WatchEvent};

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn replica(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

/// The assignment of the range of this number to node 1, with this copy there and these wanted.
fn assigned(number: u8, copy: u8, wanted: &[u8]) -> (String, AssignedRange) {
    let low_hash = u32::from(number) * 100;
    let wanted = wanted.iter().map(|number| AssignedReplica { node: node(*number), replica: replica(*number) });
    let assigned = AssignedRange {
        low_hash,
        high_hash: low_hash + 99,
        range: Some(RangeId::from_bytes([number; 16])),
        replica: Some(replica(copy)),
        table_uuid: Some(TableId::from_bytes([7; 16])),
        replicas: wanted.collect(),
        leader: None,
        is_new: false,
    };
    (layout::node_range(node(1), &tenant(), &table(), low_hash), assigned)
}

fn tenant() -> TenantName {
    TenantName::new("acme").unwrap()
}

fn table() -> TableName {
    TableName::new("users").unwrap()
}

fn listing(revision: Revision, assignments: &[(String, AssignedRange)]) -> Listing {
    let entry = |(key, assigned): &(String, AssignedRange)| KeyValue {
        key: key.clone(),
        value: to_json(assigned),
        mod_revision: revision,
        create_revision: revision,
        version: 1,
        lease: None,
    };
    Listing { entries: assignments.iter().map(entry).collect(), revision }
}

/// A change of an assignment at this revision.
fn changed(revision: Revision, (key, assigned): (String, AssignedRange)) -> WatchBatch {
    let entry = listing(revision, &[(key, assigned)]).entries.remove(0);
    WatchBatch { events: vec![WatchEvent { kind: EventKind::Put(entry), revision }], revision }
}

#[test]
fn changes_that_a_reading_has_brought_already_do_not_undo_it() {
    let mut plan = Plan::default();
    plan.take_listing(&listing(10, &[assigned(1, 1, &[1, 2])]));
    // The reading of later, in which the copy is taken back; the watch has still to tell of what came before that.
    plan.take_listing(&listing(20, &[]));
    plan.take_changes(changed(15, assigned(1, 1, &[2])));
    assert!(plan.given().is_empty());
    plan.take_changes(changed(21, assigned(1, 9, &[2, 9])));
    assert_eq!(plan.given()[&RangeId::from_bytes([1; 16])].replica, replica(9));
    assert_eq!((plan.newest, plan.known_through), (21, 21));
}

#[test]
fn changes_after_the_coordinator_was_set_back_are_taken_in() {
    let mut plan = Plan::default();
    plan.take_listing(&listing(100, &[]));
    plan.take_listing(&listing(50, &[]));
    plan.take_changes(changed(51, assigned(1, 1, &[1])));
    assert_eq!((plan.given().len(), plan.newest, plan.known_through), (1, 100, 51));
}

#[test]
fn an_older_plan_adds_and_changes_nothing() {
    let mut plan = Plan::default();
    plan.take_listing(&listing(10, &[assigned(1, 1, &[1, 2, 3]), assigned(2, 1, &[1])]));
    // From a backup: fewer copies of the one, nothing of the other, and one that was taken away since.
    plan.take_listing(&listing(5, &[assigned(1, 1, &[1]), assigned(3, 1, &[1])]));
    let given = plan.given();
    let wanted = |number: u8| given.get(&RangeId::from_bytes([number; 16])).map(|given| given.wanted.len());
    assert_eq!([1, 2, 3].map(wanted), [Some(3), Some(1), Some(1)]);
    assert_eq!(plan.newest, 10);
    plan.take_listing(&listing(11, &[assigned(1, 1, &[1])]));
    let given = plan.given();
    assert_eq!(given.values().map(|given| given.wanted.len()).collect::<Vec<_>>(), [1]);
}

#[test]
fn what_is_said_of_a_table_follows_its_copies() {
    let mut plan = Plan::default();
    plan.take_listing(&listing(1, &[assigned(1, 1, &[]), assigned(2, 2, &[])]));
    let word = |plan: &Plan, standing: [CopyStanding; 2]| {
        let of = |given: &ServedRange| standing[usize::from(given.range.as_bytes()[0]) - 1];
        let mut unsaid = plan.unsaid(node(1), of);
        assert!(unsaid.len() <= 1);
        unsaid.pop().map(|(key, said)| {
            assert_eq!(key, layout::node_table_details(node(1), &tenant(), &table()));
            (said.status.clone(), said.lost.clone(), said)
        })
    };
    use CopyStanding::{Absent, Lost, Ready};
    assert!(word(&plan, [Ready, Absent]).is_none(), "not before all of them are there");
    let (status, lost, said) = word(&plan, [Ready, Ready]).unwrap();
    assert_eq!((status.as_str(), lost.len()), ("okay", 0));
    let key = layout::node_table_details(node(1), &tenant(), &table());
    plan.said.insert(key.clone(), said);
    assert!(word(&plan, [Ready, Ready]).is_none(), "said already");
    let (status, lost, said) = word(&plan, [Absent, Lost]).unwrap();
    assert_eq!((status.as_str(), lost), ("lost", vec![replica(2)]));
    plan.said.insert(key, said);
    assert!(plan.was_said_lost(node(1), &tenant(), &table(), replica(2)));
    assert!(!plan.was_said_lost(node(1), &tenant(), &table(), replica(1)));
    let (status, lost, _) = word(&plan, [Ready, Ready]).unwrap();
    assert_eq!((status.as_str(), lost.len()), ("okay", 0), "another copy took its place");
}

#[test]
fn a_copy_is_fresh_where_it_surely_never_was() {
    let new = |number: u8, copy: u8, is_new: bool| {
        let (key, assigned) = assigned(number, copy, &[1]);
        (key, AssignedRange { is_new, ..assigned })
    };
    let mut plan = Plan::default();
    plan.take_listing(&listing(1, &[new(1, 1, true)]));
    plan.take_changes(changed(2, new(2, 2, true)));
    plan.take_changes(changed(3, new(3, 3, false)));
    let fresh = |plan: &Plan| [1, 2, 3].map(|copy| [false, true].map(|learns| plan.is_fresh(replica(copy), learns)));
    let before_the_process = [false, false];
    assert_eq!(fresh(&plan), [before_the_process, [true, true], [false, true]], "else only what has no vote");
    // Control changed its wish meanwhile: what was given with a new range still was.
    plan.take_changes(changed(4, new(2, 2, false)));
    assert_eq!(fresh(&plan)[1], [true, true]);
    plan.note_made(replica(2));
    assert_eq!(fresh(&plan)[1], [false, false], "if it is gone now, it was here");
}
