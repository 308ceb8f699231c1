//! Keys: per segment and owner, rewrapped without touching records, and never in the way of the others.

use super::super::format::{BATCH_HEADER_BYTES, BatchHeader, Records, StoredKind, padded};
use super::super::*;
use super::harness::*;
use std::sync::Arc;

#[test]
fn a_destroyed_or_unavailable_key_never_blocks_replay_of_the_rest() {
    let harness = Harness::new();
    let open = harness.open();
    for index in 1..=5 {
        open.write(vec![entry(1, index), entry(2, index), entry(3, index)]);
    }
    open.log.close().unwrap();
    harness.keys.destroy(tenant(2));
    let again = harness.open();
    assert_eq!(again.summary.records, 10);
    assert_eq!(again.summary.records_unreadable, 5);
    for index in 1..=5 {
        assert_eq!(again.seen.entries[&(range(1), index)], Some(payload(range(1), index, 100)));
        assert_eq!(again.seen.entries[&(range(2), index)], None);
    }
    // Its records are refused one by one, in their place in the order; the others' go on.
    again.log.append(vec![entry(1, 6), entry(2, 6), entry(3, 6)]).unwrap();
    let fates: Vec<_> = again.sink.wait_for(3).into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(fates, [Outcome::Durable, Outcome::Refused(AppendRefused::KeyUnavailable), Outcome::Durable]);
}

#[test]
fn a_wrong_key_is_an_error_of_its_own() {
    let harness = Harness::new();
    let open = harness.open();
    open.write(vec![entry(1, 1)]);
    open.log.close().unwrap();
    let wrong = Harness { keys: Arc::new(TestKeys::with_secret(9)), ..harness };
    let error = wrong.refused();
    assert!(matches!(error, LogError::WrongKey { owner, .. } if owner == tenant(1)), "{error}");
}

/// Whose key records a segment has, in order of the owners.
fn key_records(harness: &Harness, segment: u64) -> Vec<KeyOwner> {
    let bytes = harness.disk.bytes(&segment_path(segment)).unwrap();
    let mut offset = 0;
    let mut owners = Vec::new();
    while let Some(header) = BatchHeader::decode(&bytes[offset..]) {
        let body = &bytes[offset + BATCH_HEADER_BYTES..][..header.body_bytes as usize];
        owners.extend(Records::new(body).filter_map(|record| record.header.key_owner()).map(|(owner, _)| owner));
        offset += header.batch_bytes() as usize;
    }
    owners.sort();
    owners
}

#[test]
fn each_segment_has_one_key_per_owner_before_its_first_use() {
    let harness = Harness::new();
    let open = harness.open();
    for index in 1..=60 {
        open.write(vec![entry(1, index), entry(2, index)]);
    }
    assert!(open.log.stats().segments >= 3);
    assert_eq!(key_records(&harness, 1), [tenant(1), tenant(2)]);
    assert_eq!(key_records(&harness, 2), [tenant(1), tenant(2)]);
}

#[test]
fn rewrapping_moves_every_key_to_the_new_version_without_the_old() {
    let harness = Harness::new();
    let open = harness.open();
    for index in 1..=60 {
        open.write(vec![entry(1, index), entry(2, index)]);
    }
    let keys = open.log.keys_in_use(tenant(1), 1);
    assert_eq!(keys, open.log.stats().segments, "one per segment");
    let version = harness.keys.rotate(tenant(1));
    assert_eq!(open.log.keys_in_use(tenant(1), version), 0);
    assert_eq!(open.log.rewrap(tenant(1)).unwrap(), keys);
    assert_eq!(open.log.keys_in_use(tenant(1), 1), 0, "the old version can go");
    assert_eq!(open.log.keys_in_use(tenant(1), version), keys);
    assert_eq!(open.log.keys_in_use(tenant(2), 1), keys, "another owner's stay");
    // At once after the answer power is cut, and the old version is gone.
    let crashed = harness.on(harness.disk.crash(&mut || false));
    let again = crashed.open();
    assert_eq!(again.log.keys_in_use(tenant(1), 1), 0);
    again.log.close().unwrap();
    harness.keys.rotate(tenant(2));
    again.log.rewrap(tenant(2)).unwrap_err();
    let last = crashed.open();
    last.log.rewrap(tenant(2)).unwrap();
    last.log.close().unwrap();
    harness.keys.forget_versions_below(2);
    let seen = crashed.open().seen;
    assert_eq!(seen.indexes(range(1)).len(), 60);
    assert!(seen.entries.values().all(Option::is_some), "all open under the new version");
}

/// A record that is copied takes the newest form of its key along, and dropping the old segment loses nothing.
#[test]
fn copied_records_take_their_key_along() {
    let options = LogOptions { segment_bytes: 4096, budget_bytes: 16384, ..small_options() };
    let harness = Harness::with_options(options);
    let open = harness.open();
    open.write(vec![plain(record(9, RecordKind::Entry, 1, 900))]);
    harness.keys.rotate(tenant(1));
    open.log.rewrap(tenant(1)).unwrap();
    for index in 1..=40 {
        open.write(vec![plain(record(2, RecordKind::Entry, index, 900))]);
        open.log.set_durable(range(2), index);
        open.log.drop_segments().unwrap();
    }
    assert!(open.log.stats().segments_dropped > 5);
    open.log.close().unwrap();
    harness.keys.forget_versions_below(2);
    assert_eq!(harness.open().seen.entries[&(range(9), 1)], Some(payload(range(9), 1, 900)));
}

/// Someone who can write to the disk and knows the format can make the checksums right, not the seals.
#[test]
fn a_forged_record_is_an_error_of_its_own() {
    let harness = Harness::new();
    let open = harness.open();
    open.write(vec![entry(1, 1)]);
    open.log.close().unwrap();
    let bytes = harness.disk.bytes(&segment_path(1)).unwrap();
    let header = BatchHeader::decode(&bytes[96..]).unwrap();
    let body_at = 96 + BATCH_HEADER_BYTES;
    let body = &bytes[body_at..body_at + header.body_bytes as usize];
    let key_bytes = Records::new(body).next().filter(|key| key.header.kind == StoredKind::Key).unwrap().bytes.len();
    let record_at = body_at + key_bytes;
    // Range, term, index, nonce, payload, tag.
    for at in [24, 40, 48, 56, 68, 68 + 100] {
        let disk = harness.disk.fork();
        let mut forged = bytes.clone();
        forged[record_at + at] ^= 1;
        let body_crc = crc32c::crc32c(&forged[body_at..body_at + padded(header.body_bytes as usize)]);
        let header = BatchHeader { body_crc, ..header.clone() };
        forged[96..96 + BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
        disk.set_bytes(&segment_path(1), forged);
        let error = harness.on(disk).refused();
        assert!(matches!(error, LogError::RecordForged { segment: 1, offset: 96, .. }), "byte {at}: {error}");
    }
}
