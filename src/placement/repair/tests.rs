//! Plans, and what comes of them when leaders obey: nothing that is needed goes, and it comes to an end.

use super::*;
use proptest::prelude::*;

fn id(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn copy(node: u8, replica: u8) -> PlacedCopy {
    PlacedCopy { node: id(node), replica: ReplicaId::from_bytes([replica; 16]) }
}

fn node(number: u8, zone: &str) -> RepairNode {
    RepairNode {
        node: id(number),
        zone: zone.to_owned(),
        standing: Standing::Okay,
        silent_seconds: None,
        capacity: 1,
        has_room: true,
        may_lead: true,
    }
}

fn nodes(count: u8) -> Vec<RepairNode> {
    (1..=count).map(|number| node(number, "")).collect()
}

/// A settled range with a copy on each of these nodes, the first of which leads. Its copies are numbered as its nodes.
fn range(number: u8, factor: usize, on: &[u8]) -> RepairRange {
    let copies: Vec<PlacedCopy> = on.iter().map(|node| copy(*node, *node)).collect();
    RepairRange {
        range: RangeId::from_bytes([number; 16]),
        factor,
        is_served: true,
        leader: copies[0].node,
        voters: copies.clone(),
        learners: Vec::new(),
        wanted: copies,
        wished_leader: None,
        lost: BTreeSet::new(),
    }
}

fn steps(nodes: &[RepairNode], ranges: &[RepairRange]) -> Vec<Step> {
    repair(nodes, ranges, &RepairLimits::default()).into_iter().map(|planned| planned.step).collect()
}

fn silent(mut nodes: Vec<RepairNode>, which: &[u8], seconds: u64) -> Vec<RepairNode> {
    for node in nodes.iter_mut().filter(|node| which.iter().any(|number| id(*number) == node.node)) {
        node.silent_seconds = Some(seconds);
    }
    nodes
}

#[test]
fn what_is_good_stays() {
    assert_eq!(steps(&nodes(5), &[range(1, 3, &[1, 2, 3])]), []);
    assert_eq!(health(&nodes(5), &range(1, 3, &[1, 2, 3]), &RepairLimits::default()), RangeHealth::Good);
}

#[test]
fn a_range_grows_by_one_copy_at_a_time_and_not_to_four() {
    let mut growing = range(1, 5, &[1]);
    assert_eq!(steps(&nodes(1), &[growing.clone()]), [], "one node, one copy");
    assert_eq!(steps(&nodes(2), &[growing.clone()]), [Step::Add(id(2))]);
    let both = Step::AddTwo(id(2), id(3));
    assert_eq!(steps(&nodes(5), &[growing.clone()]), [both], "but from one to three");
    let tight = RepairLimits { fills_max: 1, ..RepairLimits::default() };
    assert_eq!(repair(&nodes(5), &[growing.clone()], &tight), [], "there is no room for both now");
    growing.wanted.push(copy(2, 2));
    assert_eq!(steps(&nodes(5), &[growing.clone()]), [], "the second is on its way");
    assert_eq!(steps(&nodes(5), &[range(1, 5, &[1, 2])]), [Step::Add(id(3))]);
    assert_eq!(steps(&nodes(4), &[range(1, 5, &[1, 2, 3])]), [], "four bear no more than three");
    assert_eq!(steps(&nodes(5), &[range(1, 5, &[1, 2, 3])]), [Step::Add(id(4))]);
    assert_eq!(steps(&nodes(5), &[range(1, 5, &[1, 2, 3, 4])]), [Step::Add(id(5))]);
}

#[test]
fn a_range_shrinks_by_what_it_can_do_without() {
    let mut shrinking = range(1, 3, &[1, 2, 3, 4, 5]);
    assert_eq!(steps(&nodes(5), &[shrinking.clone()]), [Step::Remove(copy(5, 5).replica)]);
    let gone = silent(nodes(5), &[2], 600);
    assert_eq!(steps(&gone, &[shrinking.clone()]), [Step::Remove(copy(2, 2).replica)]);
    let quiet = silent(nodes(5), &[2], 1);
    assert_eq!(steps(&quiet, &[shrinking.clone()]), [Step::Remove(copy(2, 2).replica)]);
    let mut zones = nodes(5);
    (zones[0].zone, zones[3].zone) = ("a".to_owned(), "a".to_owned());
    (zones[1].zone, zones[2].zone) = ("b".to_owned(), "c".to_owned());
    assert_eq!(
        steps(&zones, &[shrinking.clone()]),
        [Step::Remove(copy(4, 4).replica)],
        "the crowded zone's, not the leader"
    );
    shrinking.factor = 1;
    assert_eq!(steps(&nodes(5), &[range(1, 1, &[1, 2])]), [Step::Remove(copy(2, 2).replica)]);
}

#[test]
fn a_silent_node_keeps_its_copies_until_the_delay_is_over() {
    let good = [range(1, 3, &[1, 2, 3])];
    assert_eq!(steps(&silent(nodes(4), &[3], 599), &good), []);
    assert_eq!(steps(&silent(nodes(4), &[3], 600), &good), [Step::Replace(copy(3, 3).replica, id(4))]);
    assert_eq!(steps(&silent(nodes(3), &[3], 600), &good), [], "there is no other node");
    let mut given_up = nodes(4);
    given_up[2].standing = Standing::GivenUp;
    assert_eq!(steps(&given_up, &good), [Step::Replace(copy(3, 3).replica, id(4))], "said so, at once");
    let unknown: Vec<RepairNode> = nodes(4).into_iter().filter(|node| node.node != id(3)).collect();
    assert_eq!(steps(&unknown, &good), [Step::Replace(copy(3, 3).replica, id(4))], "removed");
    let mut stopped = silent(nodes(4), &[3], 10);
    stopped[2].standing = Standing::Stopped;
    assert_eq!(steps(&stopped, &good), []);
}

#[test]
fn when_more_than_half_are_silent_nothing_is_moved() {
    let good = [range(1, 3, &[1, 2, 3]), range(2, 5, &[1, 2, 4])];
    assert_eq!(steps(&silent(nodes(5), &[3, 4, 5], 9999), &good), []);
    assert_ne!(
        steps(&silent(nodes(6), &[3, 5, 6], 9999), &[range(1, 3, &[1, 2, 3])]),
        [],
        "half is not more than half"
    );
}

#[test]
fn without_a_majority_nothing_is_moved() {
    let good = [range(1, 3, &[1, 2, 3])];
    assert_eq!(steps(&silent(nodes(7), &[2, 3], 9999), &good), []);
    let half_gone = silent(nodes(5), &[2], 9999);
    assert_eq!(steps(&half_gone, &[range(1, 3, &[1, 2])]), []);
    let limits = RepairLimits::default();
    assert_eq!(health(&half_gone, &range(1, 3, &[1, 2]), &limits), RangeHealth::Unavailable);
    assert_eq!(health(&half_gone, &good[0], &limits), RangeHealth::UnderReplicated);
}

#[test]
fn a_lost_copy_is_made_anew_at_once_and_the_last_one_never() {
    let mut damaged = range(1, 3, &[1, 2, 3]);
    damaged.lost.insert(copy(2, 2).replica);
    assert_eq!(steps(&nodes(3), &[damaged.clone()]), [Step::Replace(copy(2, 2).replica, id(2))], "on its own node");
    let mut single = range(1, 1, &[1]);
    single.lost.insert(copy(1, 1).replica);
    assert_eq!(steps(&nodes(3), &[single]), [], "an empty copy is no copy");
    damaged.lost.insert(copy(3, 3).replica);
    assert_eq!(steps(&nodes(5), &[damaged]), [], "no majority is left");
}

#[test]
fn what_will_never_come_is_given_another_place() {
    let mut waiting = range(1, 3, &[1, 2, 3]);
    waiting.wanted[2] = copy(4, 4);
    assert_eq!(steps(&nodes(6), &[waiting.clone()]), []);
    assert_eq!(steps(&silent(nodes(6), &[4], 600), &[waiting.clone()]), [Step::Replace(copy(4, 4).replica, id(5))]);
    let mut growing = range(1, 3, &[1]);
    growing.wanted.extend([copy(2, 2), copy(3, 3)]);
    let gone = silent(nodes(3), &[2], 600);
    assert_eq!(
        steps(&gone, &[growing]),
        [Step::Remove(copy(2, 2).replica)],
        "there is no other place: it is not waited for"
    );
    waiting.lost.insert(copy(4, 4).replica);
    assert_eq!(steps(&nodes(4), &[waiting]), [Step::Replace(copy(4, 4).replica, id(4))]);
}

#[test]
fn what_nobody_served_yet_is_left_alone() {
    let new = RepairRange { is_served: false, ..range(1, 3, &[1, 2]) };
    assert_eq!(steps(&silent(nodes(5), &[2], 9999), &[new]), []);
}

#[test]
fn a_draining_node_is_emptied_and_leads_nothing() {
    let mut draining = nodes(4);
    draining[0].standing = Standing::Draining;
    let planned = repair(&draining, &[range(1, 3, &[1, 2, 3])], &RepairLimits::default());
    let expected = RepairMove {
        range: RangeId::from_bytes([1; 16]),
        step: Step::Replace(copy(1, 1).replica, id(4)),
        leader: Some(id(2)),
    };
    assert_eq!(planned, [expected]);
    let planned = repair(&draining, &[range(1, 1, &[1])], &RepairLimits::default());
    assert_eq!(
        (planned[0].step, planned[0].leader),
        (Step::Replace(copy(1, 1).replica, id(2)), None),
        "a single copy moves too"
    );
    draining.pop();
    let planned = repair(&draining, &[range(1, 3, &[1, 2, 3])], &RepairLimits::default());
    assert_eq!(
        (planned[0].step, planned[0].leader),
        (Step::Lead, Some(id(2))),
        "no node takes the copy; another leads"
    );
    assert_eq!(
        without_refuge(&draining, &[range(1, 3, &[1, 2, 3]), range(2, 1, &[1])], id(1)),
        [RangeId::from_bytes([1; 16])]
    );
}

#[test]
fn zones_come_before_load() {
    let mut zoned = vec![node(1, "a"), node(2, "b"), node(3, "c"), node(4, "a"), node(5, "c")];
    zoned[2].silent_seconds = Some(600);
    let busy: Vec<RepairRange> = (10..20).map(|number| range(number, 1, &[5])).collect();
    let all: Vec<RepairRange> = [range(1, 3, &[1, 2, 3])].into_iter().chain(busy).collect();
    assert_eq!(steps(&zoned, &all)[0], Step::Replace(copy(3, 3).replica, id(5)));
}

#[test]
fn a_full_disk_takes_nothing() {
    let mut full = nodes(4);
    full[2].has_room = false;
    assert_eq!(steps(&full, &[range(1, 3, &[1, 2])]), [Step::Add(id(4))]);
}

#[test]
fn limits_hold_in_all_and_for_each_node() {
    let ranges: Vec<RepairRange> = (0..20).map(|number| range(number, 3, &[1, 2])).collect();
    let limits = RepairLimits { fills_max: 6, fills_per_node_max: 4, ..RepairLimits::default() };
    assert_eq!(repair(&nodes(3), &ranges, &limits).iter().filter(|one| one.step != Step::Lead).count(), 4);
    assert_eq!(repair(&nodes(5), &ranges, &limits).iter().filter(|one| one.step != Step::Lead).count(), 6);
    let mut under_way = ranges;
    under_way[0].wanted.push(copy(3, 3));
    assert_eq!(repair(&nodes(3), &under_way, &limits).iter().filter(|one| one.step != Step::Lead).count(), 3);
    // Ranges that cannot go on do not count.
    for stuck in under_way.iter_mut().take(10) {
        stuck.wanted = vec![copy(1, 1), copy(2, 2), copy(3, 3)];
        stuck.lost.insert(copy(2, 2).replica);
    }
    assert_eq!(repair(&nodes(3), &under_way, &limits).iter().filter(|one| one.step != Step::Lead).count(), 4);
}

#[test]
fn the_range_that_is_next_to_fail_comes_first() {
    let limits = RepairLimits { fills_max: 1, ..RepairLimits::default() };
    let ranges = [range(1, 5, &[1, 2, 3]), range(2, 3, &[1, 2, 3])];
    let mut damaged = ranges.clone();
    damaged[1].lost.insert(copy(3, 3).replica);
    assert_eq!(repair(&nodes(6), &damaged, &limits)[0].range, RangeId::from_bytes([2; 16]));
    assert_eq!(repair(&nodes(6), &ranges, &limits)[0].range, RangeId::from_bytes([1; 16]));
}

#[test]
fn leaderships_are_spread_and_leave_who_hands_over() {
    let ranges: Vec<RepairRange> = (0..6).map(|number| range(number, 3, &[1, 2, 3])).collect();
    let planned = repair(&nodes(3), &ranges, &RepairLimits::default());
    let to = |node: u8| planned.iter().filter(|one| one.leader == Some(id(node))).count();
    assert_eq!((planned.len(), to(2), to(3)), (4, 2, 2));
    let mut handing_over = nodes(3);
    handing_over[0].may_lead = false;
    assert_eq!(repair(&handing_over, &ranges, &RepairLimits::default()).len(), 6);
    // A node that is only silent keeps the wishes for it.
    let wishes: Vec<RepairRange> =
        ranges.iter().map(|range| RepairRange { wished_leader: Some(id(1)), leader: id(2), ..range.clone() }).collect();
    assert_eq!(repair(&silent(nodes(3), &[1], 5), &wishes, &RepairLimits::default()), []);
}

/// What a leader does: the next step towards the wanted copies, if a majority answers.
fn obey(range: &mut RepairRange, nodes: &[RepairNode]) {
    let alive = |copy: &PlacedCopy| nodes.iter().any(|node| node.node == copy.node && node.is_alive());
    let answering = range.voters.iter().filter(|copy| alive(copy) && !range.lost.contains(&copy.replica)).count();
    if answering < majority(range.voters.len()) {
        return;
    }
    let wanted = range.wanted.clone();
    range.learners.retain(|learner| wanted.contains(learner));
    if let Some(new) = wanted.iter().find(|copy| !range.voters.contains(copy) && !range.learners.contains(copy)) {
        range.learners.push(*new);
    } else if range.learners.iter().all(|copy| alive(copy) && !range.lost.contains(&copy.replica)) {
        range.voters = wanted;
        range.learners.clear();
        let led = range.wished_leader.filter(|node| range.voters.iter().any(|copy| copy.node == *node));
        let still = range.voters.iter().find(|copy| copy.node == range.leader).map(|copy| copy.node);
        range.leader = led.or(still).unwrap_or(range.voters[0].node);
    }
    if let Some(wished) = range.wished_leader
        && range.voters.iter().any(|copy| copy.node == wished && alive(copy))
    {
        range.leader = wished;
    }
}

/// Writes down what was planned, as control does.
fn write(planned: &RepairMove, range: &mut RepairRange, fresh: &mut u32) {
    *fresh += 1;
    let mut bytes = [0xff; 16];
    bytes[..4].copy_from_slice(&fresh.to_be_bytes());
    let new = move |node| PlacedCopy { node, replica: ReplicaId::from_bytes(bytes) };
    match planned.step {
        Step::Add(node) => range.wanted.push(new(node)),
        Step::AddTwo(one, other) => {
            bytes[15] = 0;
            range.wanted.extend([new(one), PlacedCopy { node: other, replica: ReplicaId::from_bytes(bytes) }]);
        }
        Step::Replace(old, node) => {
            range.wanted.retain(|copy| copy.replica != old);
            range.wanted.push(new(node));
        }
        Step::Remove(old) => range.wanted.retain(|copy| copy.replica != old),
        Step::Lead => {}
    }
    range.wished_leader = planned.leader;
}

prop_compose! {
    fn any_node(number: u8)(zone in 0u8..3, condition in 0u8..12, capacity in 1u64..4) -> RepairNode {
        let standing = match condition {
            0 => Standing::Draining,
            1 => Standing::GivenUp,
            2 => Standing::Stopped,
            _ => Standing::Okay,
        };
        let silent_seconds = match condition {
            1..=3 => Some(10_000),
            4 => Some(30),
            _ => None,
        };
        let (has_room, may_lead) = (condition != 5, condition != 6);
        RepairNode { standing, silent_seconds, capacity, has_room, may_lead, ..node(number, &format!("zone-{zone}")) }
    }
}

fn any_cluster() -> impl Strategy<Value = (Vec<RepairNode>, Vec<RepairRange>)> {
    let nodes: Vec<_> = (0..8).map(any_node).collect();
    let members = proptest::sample::subsequence((0u8..8).collect::<Vec<_>>(), 1..=5).prop_shuffle();
    let described = (members, proptest::sample::select(vec![1usize, 3, 5]), proptest::option::weighted(0.2, 0usize..5));
    (nodes, proptest::collection::vec(described, 1..12)).prop_map(|(nodes, ranges)| {
        let made = ranges.into_iter().enumerate().map(|(number, (members, factor, lost))| {
            let mut made = range(number as u8, factor, &members);
            made.lost.extend(lost.and_then(|at| made.voters.get(at)).map(|copy| copy.replica));
            made
        });
        (nodes, made.collect())
    })
}

proptest! {
    #[test]
    fn plans_are_safe_come_to_an_end_and_leave_things_better((nodes, mut ranges) in any_cluster()) {
        let limits = RepairLimits::default();
        let mut fresh = 0;
        let answering = |range: &RepairRange| {
            let alive = |copy: &&PlacedCopy| nodes.iter().any(|node| node.node == copy.node && node.is_alive());
            range.voters.iter().filter(alive).filter(|copy| !range.lost.contains(&copy.replica)).count()
        };
        let before: Vec<(usize, bool)> =
            ranges.iter().map(|range| (answering(range), answering(range) >= majority(range.voters.len()))).collect();
        let mut rounds = 0;
        loop {
            let planned = repair(&nodes, &ranges, &limits);
            let mut turned = (nodes.clone(), ranges.clone());
            turned.0.reverse();
            turned.1.reverse();
            prop_assert_eq!(&repair(&turned.0, &turned.1, &limits), &planned, "the order of the input does not matter");
            let mut touched = BTreeSet::new();
            for planned in &planned {
                prop_assert!(touched.insert(planned.range), "one change of a range at a time");
                let range = ranges.iter_mut().find(|range| range.range == planned.range).unwrap();
                let kept = range.voters.iter().filter(|copy| range.wanted.contains(copy)).count();
                write(planned, range, &mut fresh);
                let on: BTreeSet<NodeId> = range.wanted.iter().map(|copy| copy.node).collect();
                prop_assert_eq!(on.len(), range.wanted.len(), "never two copies on one node");
                let still = range.voters.iter().filter(|copy| range.wanted.contains(copy)).count();
                prop_assert!(still + 1 >= kept.max(range.voters.len()), "at most one voter leaves at a time");
                let leader_is_there = planned.leader.is_none_or(|leader| on.contains(&leader));
                prop_assert!(leader_is_there, "who shall lead holds a copy");
            }
            let calm = planned.is_empty();
            let unsettled = ranges.iter().any(|range| !range.is_settled());
            let old = ranges.clone();
            for range in &mut ranges {
                obey(range, &nodes);
            }
            for (range, (good, could_serve)) in ranges.iter().zip(&before) {
                prop_assert!(answering(range) >= 1 || *good == 0, "a last good copy is never taken away");
                prop_assert!(!could_serve || answering(range) >= majority(range.voters.len()), "it goes on serving");
            }
            if calm && (!unsettled || old == ranges) {
                break;
            }
            rounds += 1;
            prop_assert!(rounds < 200, "it comes to an end");
        }
        let silent = nodes.iter().filter(|node| node.standing != Standing::GivenUp && !node.is_alive()).count();
        let expected = nodes.iter().filter(|node| node.standing != Standing::GivenUp).count();
        if silent * 2 > expected {
            return Ok(());
        }
        let takers = |range: &RepairRange| {
            nodes.iter().filter(|node| node.takes_copies() && !range.wanted.iter().any(|copy| copy.node == node.node)).count()
        };
        for (range, (_, could_serve)) in ranges.iter().zip(&before) {
            if !could_serve || takers(range) < 2 {
                continue;
            }
            // There are nodes enough: everything is as it shall be.
            prop_assert_eq!(range.wanted.len(), range.factor);
            for copy in &range.voters {
                let node = nodes.iter().find(|node| node.node == copy.node).unwrap();
                prop_assert!(!node.is_gone(&limits) && node.standing != Standing::Draining);
                prop_assert!(!range.lost.contains(&copy.replica));
            }
        }
    }

    #[test]
    fn new_copies_are_spread_over_zones(zones in proptest::collection::vec(0u8..4, 5..12), factor in proptest::sample::select(vec![3usize, 5])) {
        let nodes: Vec<RepairNode> =
            zones.iter().enumerate().map(|(number, zone)| node(number as u8, &format!("zone-{zone}"))).collect();
        let mut ranges: Vec<RepairRange> = (0..6).map(|number| range(number, factor, &[number % 5])).collect();
        let mut fresh = 0;
        for round in 0.. {
            prop_assert!(round < 100, "it comes to an end");
            let planned = repair(&nodes, &ranges, &RepairLimits::default());
            if planned.is_empty() && ranges.iter().all(RepairRange::is_settled) {
                break;
            }
            for planned in planned {
                write(&planned, ranges.iter_mut().find(|range| range.range == planned.range).unwrap(), &mut fresh);
            }
            ranges.iter_mut().for_each(|range| obey(range, &nodes));
        }
        let zone_count = zones.iter().collect::<BTreeSet<_>>().len();
        for range in &ranges {
            prop_assert_eq!(range.voters.len(), factor);
            let zone = |copy: &PlacedCopy| zones[usize::from(copy.node.as_bytes()[0])];
            let spread: BTreeSet<u8> = range.voters.iter().map(zone).collect();
            prop_assert!(spread.len() >= factor.min(zone_count));
        }
        let leads: Vec<usize> =
            nodes.iter().map(|node| ranges.iter().filter(|range| range.leader == node.node).count()).collect();
        prop_assert_eq!(leads.iter().sum::<usize>(), ranges.len());
    }
}
