//! Splits as bytes, what makes one valid, and what children start from.

use super::*;
use crate::domain::ids::NodeId;
use proptest::prelude::*;

const PARENT: RangeId = RangeId(uuid::Uuid::from_bytes([1; 16]));
const HASHES: HashRange = HashRange { low: 100, high: 199 };
const PLACE: LogPlace = LogPlace { term: 4, index: 30 };

fn replica(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

fn membership(numbers: &[u8]) -> Membership {
    Membership::founding(numbers.iter().map(|number| (replica(*number), NodeId::from_bytes([*number; 16]))))
}

fn split(at: u32, numbers: &[u8]) -> Split {
    let child = |number: &u8| ChildReplicas { lower: replica(number + 100), upper: replica(number + 200) };
    Split {
        at,
        lower: RangeId::from_bytes([2; 16]),
        upper: RangeId::from_bytes([3; 16]),
        members: numbers.iter().map(|number| (replica(*number), child(number))).collect(),
    }
}

#[test]
fn a_split_fits_the_range_and_its_members() {
    let good = split(150, &[1, 2, 3]);
    let members = membership(&[1, 2, 3]);
    let ask = |split: &Split, members: &Membership| check(split, PARENT, HASHES, members, None);
    assert_eq!(ask(&good, &members), Ok(()));
    assert_eq!(check(&good, PARENT, HASHES, &members, Some(&good)), Err(SplitRefused::Done));
    for (at, expected) in [(100, Err(SplitRefused::Hash)), (101, Ok(())), (199, Ok(())), (200, Err(SplitRefused::Hash))]
    {
        assert_eq!(ask(&Split { at, ..good.clone() }, &members), expected, "{at}");
    }
    assert_eq!(ask(&good, &membership(&[1, 2, 4])), Err(SplitRefused::Members));
    assert_eq!(ask(&good, &membership(&[1, 2])), Err(SplitRefused::Members));
    let mut joint = members.clone();
    joint.voters.push([replica(1)].into());
    assert_eq!(ask(&good, &joint), Err(SplitRefused::Changing));
    assert_eq!(ask(&Split { lower: PARENT, ..good.clone() }, &members), Err(SplitRefused::Ids));
    assert_eq!(ask(&Split { lower: good.upper, ..good.clone() }, &members), Err(SplitRefused::Ids));
    let mut twice = good.clone();
    twice.members.insert(replica(1), ChildReplicas { lower: replica(2), upper: replica(9) });
    assert_eq!(ask(&twice, &members), Err(SplitRefused::Ids));
}

#[test]
fn children_start_at_the_split_with_the_same_nodes() {
    let split = split(150, &[1, 2, 3]);
    let mut members = membership(&[1, 2, 3]);
    members.voters[0].remove(&replica(3));
    let [lower, upper] = split.children(replica(2), HASHES, &members, PLACE).unwrap();
    assert_eq!((lower.hashes, upper.hashes), (HashRange { low: 100, high: 149 }, HashRange { low: 150, high: 199 }));
    assert_eq!((lower.replica, upper.replica), (replica(102), replica(202)));
    for (child, base) in [(&lower, 100), (&upper, 200)] {
        assert_eq!((child.machine.applied, child.machine.membership_at), (PLACE, PLACE));
        assert_eq!(child.machine.membership.voters, [[replica(base + 1), replica(base + 2)].into()]);
        assert_eq!(child.machine.membership.members[&replica(base + 3)], NodeId::from_bytes([3; 16]));
    }
    assert_eq!((split.child_of(149), split.child_of(150)), (lower.range, upper.range));
    assert!(split.refuses(PLACE, 31) && !split.refuses(PLACE, 29));
    assert_eq!(split.children(replica(9), HASHES, &members, PLACE), None);
}

#[test]
fn the_parent_stays_until_every_member_has_begun() {
    let progress = |numbers: &[u8], matched: &[(u8, u64)]| ChildProgress {
        membership: membership(numbers),
        matched: matched.iter().map(|(number, index)| (replica(*number), *index)).collect(),
    };
    let all = progress(&[1, 2, 3], &[(1, 31), (2, 30), (3, 30)]);
    let lagging = progress(&[1, 2, 3], &[(1, 31), (2, 31), (3, 29)]);
    let silent = progress(&[1, 2, 3], &[(1, 31), (2, 31)]);
    let replaced = progress(&[1, 2], &[(1, 31), (2, 31)]);
    assert!(parent_copy_may_go(PLACE, [Some(&all), Some(&replaced)]));
    for child in [Some(&lagging), Some(&silent), Some(&ChildProgress::default()), None] {
        assert!(!parent_copy_may_go(PLACE, [Some(&all), child]));
        assert!(!parent_copy_may_go(PLACE, [child, Some(&all)]));
    }
}

fn any_split() -> impl Strategy<Value = Split> {
    let replica = any::<[u8; 16]>().prop_map(ReplicaId::from_bytes);
    let child = (replica.clone(), replica.clone()).prop_map(|(lower, upper)| ChildReplicas { lower, upper });
    let members = proptest::collection::btree_map(replica, child, 0..6);
    (any::<u32>(), any::<[u8; 16]>(), any::<[u8; 16]>(), members).prop_map(|(at, lower, upper, members)| Split {
        at,
        lower: RangeId::from_bytes(lower),
        upper: RangeId::from_bytes(upper),
        members,
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(split in any_split()) {
        prop_assert_eq!(Split::decode(&split.encode()), Some(split));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz_split(&bytes);
    }

    #[test]
    fn children_cover_the_parent(at in 0u32..300, probe in 100u32..200) {
        let split = split(at, &[1, 2]);
        let members = membership(&[1, 2]);
        if check(&split, PARENT, HASHES, &members, None).is_ok() {
            let children = split.children(replica(1), HASHES, &members, PLACE).unwrap();
            let holders: Vec<_> = children.iter().filter(|child| child.hashes.contains(probe)).collect();
            prop_assert_eq!(holders.len(), 1);
            prop_assert_eq!(holders[0].range, split.child_of(probe));
        }
    }
}
