//! What is published, case by case, and for any pair of a route and a group.

use super::*;
use proptest::prelude::*;

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn replica(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

fn range(number: u8) -> RangeId {
    RangeId::from_bytes([number; 16])
}

fn address(number: u8) -> Address {
    Address { uri: format!("http://node-{number}/"), inside_uri: None }
}

fn addresses() -> BTreeMap<NodeId, Address> {
    (1..=4).map(|number| (node(number), address(number))).collect()
}

fn membership(replicas: &[u8]) -> Membership {
    Membership::founding(replicas.iter().map(|number| (replica(*number), node(*number))))
}

fn group(term: u64, at: u64, replicas: &[u8]) -> GroupView {
    GroupView {
        range: range(1),
        table: TableId::from_bytes([9; 16]),
        hashes: HashRange { low: 0, high: 99 },
        node: node(1),
        leads: true,
        term,
        membership: membership(replicas),
        membership_at: LogPlace { term, index: at },
        committed: at,
        matched: BTreeMap::new(),
    }
}

fn route(of: &GroupView) -> RouteView {
    route_of(of, of.epoch(), None, &addresses()).unwrap()
}

fn reason(route: Option<&RouteView>, group: &GroupView) -> Reason {
    match publication(route, group, &addresses()) {
        Publication::Leave(reason) => reason,
        Publication::Write(route) => panic!("{route:?}"),
    }
}

#[test]
fn a_leader_publishes_what_is_newer_and_committed() {
    let before = route(&group(1, 5, &[1, 2, 3]));
    let now = group(1, 8, &[1, 2, 4]);
    assert_eq!(publication(Some(&before), &now, &addresses()), Publication::Write(route(&now)));
    assert_eq!(reason(Some(&before), &GroupView { leads: false, ..now.clone() }), Reason::NotLeader);
    assert_eq!(reason(Some(&before), &GroupView { committed: 7, ..now.clone() }), Reason::NotCommitted);
    assert_eq!(reason(None, &now), Reason::NoRoute);
    assert_eq!(reason(Some(&route(&now)), &now), Reason::Same);
    assert_eq!(reason(Some(&route(&group(2, 0, &[1, 2, 3]))), &now), Reason::Newer);
    assert_eq!(reason(Some(&RouteView { range: range(2), ..before.clone() }), &now), Reason::OtherRange);
    assert_eq!(reason(Some(&RouteView { table: TableId::from_bytes([8; 16]), ..before }), &now), Reason::OtherRange);
}

#[test]
fn under_one_epoch_only_addresses_change() {
    let now = group(1, 8, &[1, 2, 3]);
    let mut moved = addresses();
    moved.insert(node(2), address(9));
    let Publication::Write(new) = publication(Some(&route(&now)), &now, &moved) else { panic!("an address changed") };
    assert_eq!((new.epoch, &new.copies[1].address), (now.epoch(), &address(9)));
    let other = RouteView { leader: node(2), ..route(&now) };
    assert_eq!(reason(Some(&other), &now), Reason::Contradiction);
}

#[test]
fn an_unknown_address_stays_as_it_was() {
    let now = group(1, 8, &[1, 2, 3]);
    let old = RouteView { epoch: 0, ..route(&now) };
    let known: BTreeMap<_, _> = [(node(1), address(1))].into();
    assert_eq!(publication(Some(&old), &now, &known), Publication::Write(route(&now)));
    let bare = RouteView { copies: Vec::new(), ..old };
    assert_eq!(publication(Some(&bare), &now, &known), Publication::Leave(Reason::AddressUnknown(node(2))));
}

#[test]
fn the_first_leader_of_a_child_publishes_both() {
    let parent = route(&group(3, 5, &[1, 2, 3]));
    let start = LogPlace { term: 3, index: 20 };
    let child = |number, low, high, term, leads| GroupView {
        range: range(number),
        hashes: HashRange { low, high },
        term,
        leads,
        membership_at: start,
        committed: 21,
        ..group(3, 5, &[1, 2, 3])
    };
    let (lower, upper) = (child(5, 0, 49, 3, false), child(6, 50, 99, 4, true));
    let SplitPublication::Write { lower: first, upper: second } =
        split_publication(range(1), Some(&parent), &upper, &lower, &addresses())
    else {
        panic!("a child's leader publishes")
    };
    assert_eq!((first.range, first.hashes, first.epoch), (range(5), lower.hashes, epoch_of(3, 20)));
    assert_eq!((second.range, second.hashes, second.epoch), (range(6), upper.hashes, epoch_of(4, 20)));
    assert!(first.epoch > parent.epoch && second.epoch > parent.epoch);
    let leave =
        |own: &GroupView, route: Option<&RouteView>| split_publication(range(1), route, own, &upper, &addresses());
    assert_eq!(leave(&lower, Some(&parent)), SplitPublication::Leave(Reason::NotLeader));
    let leader = child(5, 0, 49, 4, true);
    assert_eq!(leave(&leader, Some(&first)), SplitPublication::Leave(Reason::OtherRange));
    assert_eq!(leave(&leader, None), SplitPublication::Leave(Reason::NoRoute));
    // Afterwards each publishes for itself: the lower child's leader over what its sister said of it.
    let published = RouteView { split_from: first.split_from, ..route(&leader) };
    assert_eq!(publication(Some(&first), &leader, &addresses()), Publication::Write(published.clone()));
    let from = SplitFrom { range: range(1), index: 20, begun: false };
    assert_eq!([first.split_from, second.split_from], [Some(from); 2]);
    // It says once that all members have begun, and only then is it done.
    let at = |indexes: [u64; 3]| GroupView {
        matched: [1, 2, 3].map(replica).into_iter().zip(indexes).collect(),
        ..leader.clone()
    };
    assert_eq!(reason(Some(&published), &leader), Reason::NotBegun);
    assert_eq!(reason(Some(&published), &at([21, 19, 25])), Reason::NotBegun);
    let begun = RouteView { split_from: Some(SplitFrom { begun: true, ..from }), ..published.clone() };
    assert_eq!(publication(Some(&published), &at([21, 20, 25]), &addresses()), Publication::Write(begun.clone()));
    assert_eq!(reason(Some(&begun), &leader), Reason::Same);
}

proptest! {
    #[test]
    fn what_is_written_is_newer_and_of_this_range(
        (route_term, route_at, term, at, committed) in (0u64..4, 0u64..6, 0u64..4, 0u64..6, 0u64..6),
        (copies, members) in (1u8..4, 1u8..4),
        (leads, other_range) in (any::<bool>(), any::<bool>()),
    ) {
        let mut before = route(&group(route_term, route_at, &(1..=copies).collect::<Vec<_>>()));
        if other_range {
            before.range = range(7);
        }
        let mut now = group(term, at, &(1..=members).collect::<Vec<_>>());
        (now.leads, now.committed) = (leads, committed);
        if let Publication::Write(new) = publication(Some(&before), &now, &addresses()) {
            prop_assert!(leads && !other_range && at <= committed);
            prop_assert!(new.epoch > before.epoch || (new.epoch == before.epoch && new.same_configuration(&before)));
            prop_assert_eq!(publication(Some(&new), &now, &addresses()), Publication::Leave(Reason::Same));
        }
    }
}
