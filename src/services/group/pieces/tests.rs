//! Pieces are written and read back; damaged ones and any other bytes are refused.

use super::*;
use crate::domain::ids::NodeId;
use crate::domain::key::KeyValue;
use crate::replication::membership::Membership;
use crate::replication::outcome::tests::outcome;
use proptest::prelude::*;

fn any_record() -> impl Strategy<Value = PieceRecord> {
    let state = (any::<[u64; 5]>(), any::<[u8; 16]>()).prop_map(|(numbers, id)| {
        let [count, time, term, index, at] = numbers;
        let member = (ReplicaId::from_bytes(id), NodeId::from_bytes(id));
        let machine = MachineState {
            applied: LogPlace { term, index },
            membership_at: LogPlace { term, index: at },
            membership: Membership::founding([member]),
            ..MachineState::default()
        };
        PieceRecord::State(count, Timestamp(time), machine)
    });
    let item = (".{0,30}", any::<u64>(), 0u32..5).prop_map(|(id, version, number)| {
        let document = Document::from_json(format!(r#"{{"n":{number},"t":["x",{{}}]}}"#).as_bytes()).unwrap();
        PieceRecord::Item(PackedKey::new(&KeyValue::String(id.into()), None), ItemVersion(version), document)
    });
    let request = (any::<[u8; 16]>(), any::<[u8; 32]>(), any::<[u64; 2]>(), outcome()).prop_map(
        |(id, digest, [index, at], outcome)| {
            let known = Remembered { digest, outcome, index, at: Timestamp(at) };
            PieceRecord::Request((PrincipalId::from_bytes(id), RequestId::from_bytes(id), known))
        },
    );
    let receipt = (any::<[u8; 16]>(), any::<u64>(), outcome())
        .prop_map(|(id, at, outcome)| PieceRecord::Receipt((ReceiptId::from_bytes(id), outcome, Timestamp(at))));
    prop_oneof![state, item, request, receipt]
}

fn any_header() -> impl Strategy<Value = PieceHeader> {
    (any::<[u8; 16]>(), any::<[u64; 2]>(), any::<u32>(), any::<bool>()).prop_map(
        |(replica, [term, index], number, is_last)| PieceHeader {
            identity: SnapshotIdentity { replica: ReplicaId::from_bytes(replica), place: LogPlace { term, index } },
            number,
            is_last,
        },
    )
}

fn build(header: &PieceHeader, records: &[PieceRecord]) -> Bytes {
    let mut builder = PieceBuilder::default();
    records.iter().for_each(|record| builder.push(record));
    builder.finish(header)
}

proptest! {
    #[test]
    fn what_is_written_is_read(header in any_header(), records in proptest::collection::vec(any_record(), 0..12)) {
        let piece = build(&header, &records);
        prop_assert_eq!(read_header(&piece).unwrap(), header);
        prop_assert_eq!(read_records(&piece).unwrap(), records);
        fuzz_snapshot_piece(&piece);
    }

    /// A flipped bit anywhere, or a cut, is found before anything is believed.
    #[test]
    fn damage_is_found(
        header in any_header(),
        records in proptest::collection::vec(any_record(), 0..4),
        place: proptest::sample::Index,
        bit in 0u8..8,
    ) {
        let mut bytes = build(&header, &records).to_vec();
        let at = place.index(bytes.len());
        prop_assert!(read_header(&bytes[..at]).is_err());
        bytes[at] ^= 1 << bit;
        prop_assert!(read_header(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz_snapshot_piece(&data);
    }
}
