//! Against a receiver that checks what every receiver should, counts each id once, and fails in every way it can.

use std::collections::BTreeSet;

use super::*;
use crate::domain::Timestamp;
use crate::sinks::rows::RecordKind;
use crate::sinks::samples::{read_back, record};
use crate::sinks::testing::{Answer, Receiver, Request, no_tls, offer_until_taken, terms};
use parking_lot::Mutex;

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000_000)
    }
}

fn sink(receiver: &Receiver) -> HttpSink {
    let secret = Zeroizing::new("hunter2".to_owned());
    HttpSink::new(terms(), &receiver.url, secret, no_tls(), Arc::new(Still)).unwrap()
}

/// By the library's own comparison, from what the headers say.
fn is_signed(request: &Request) -> bool {
    let mut mac = Hmac::<Sha256>::new_from_slice(b"hunter2").unwrap();
    mac.update(format!("{}.", request.headers["x-dstore-timestamp"]).as_bytes());
    mac.update(&request.body);
    let signature = request.headers["x-dstore-signature"].strip_prefix("v1=").unwrap();
    let bytes: Vec<u8> =
        (0..signature.len() / 2).map(|at| u8::from_str_radix(&signature[2 * at..2 * at + 2], 16).unwrap()).collect();
    mac.verify_slice(&bytes).is_ok()
}

#[test]
fn the_signature_is_the_documented_one() {
    // printf '1800000000.body' | openssl dgst -sha256 -hmac secret
    let wanted = "v1=1d26931343beaba0d64eb505a123c227f639c345becfd8d121c41755e6a46674";
    assert_eq!(signature("secret", "1800000000", b"body"), wanted);
}

#[tokio::test]
async fn each_record_counts_once_whatever_fails() {
    let held: Arc<Mutex<(usize, BTreeSet<uuid::Uuid>)>> = Arc::default();
    let receiving = Arc::clone(&held);
    // The first connection is cut; then comes an error, an answer that is lost after the batch was taken, and a redirect.
    let receiver = Receiver::start(
        |number| number == 0,
        move |request| {
            assert!(is_signed(&request));
            assert_eq!(request.headers["x-dstore-timestamp"], "1800000000");
            assert_eq!(request.headers["content-type"], "application/x-ndjson");
            let mut held = receiving.lock();
            held.0 += 1;
            match held.0 {
                1 => return Answer::Status(500, Vec::new()),
                3 => return Answer::Status(302, Vec::new()),
                _ => {}
            }
            let records: Vec<Record> =
                request.unpacked().split_inclusive(|byte| *byte == b'\n').map(read_back).collect();
            let (first, last) = (records[0].sequence, records[records.len() - 1].sequence);
            assert_eq!(request.headers["x-dstore-batch"], format!("{first}-{last}"));
            let times = held.0;
            held.1.extend(records.iter().map(|record| record.id));
            if times == 2 { Answer::Cut } else { Answer::Status(204, Vec::new()) }
        },
    )
    .await;
    let records: Vec<Record> =
        (1..=50).map(|sequence| record(RecordKind::ALL[sequence % 5], sequence as u64)).collect();
    let mut sink = sink(&receiver);
    assert_eq!(offer_until_taken(&mut sink, &records, 10).await, 4);
    assert_eq!(offer_until_taken(&mut sink, &records[40..], 10).await, 0);
    let ids: BTreeSet<_> = records.iter().map(|record| record.id).collect();
    assert_eq!(*held.lock(), (5, ids));
}

#[tokio::test]
async fn only_two_answers_say_never() {
    for status in [400, 401, 403, 404, 409, 413, 422, 429, 500, 503] {
        let receiver = Receiver::start(|_| false, move |_| Answer::Status(status, Vec::new())).await;
        let took = sink(&receiver).take(&[record(RecordKind::Usage, 1)]).await;
        let is_for_good = matches!(took, Err(SinkError::Unacceptable(_)));
        assert_eq!((took.is_err(), is_for_good), (true, [413, 422].contains(&status)), "{status}");
    }
    let nobody = Receiver::start(|_| false, |_| Answer::Cut).await.url.clone();
    let secret = Zeroizing::new("x".to_owned());
    let mut sink = HttpSink::new(terms(), &nobody, secret, no_tls(), Arc::new(Still)).unwrap();
    let took = sink.take(&[record(RecordKind::Usage, 1)]).await;
    assert!(matches!(took, Err(SinkError::Later(told)) if !told.contains("hunter2")));
}
