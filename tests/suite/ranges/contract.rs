//! What whoever calls a range relies on, whether it is in the process or across the network.

use std::collections::BTreeMap;

use dstore::domain::RefusalKind;
use dstore::domain::ids::{PrincipalId, RangeId, ReceiptId, RequestId, TableId};
use dstore::domain::key::PackedKey;
use dstore::domain::version::ItemVersion;
use dstore::expression::Condition;
use dstore::replication::operation::{
    Change, ClientRequest, Images, Operation, Outcome, Preconditions, RequestIdentity, TagCondition,
};
use dstore::services::ports::{Consistency, ListRequest, ReceiptState, StoredItem, StoredPart, WriteAnswer};
use dstore::services::ranges::{RangeAddress, RangeService};

use crate::conditional::{asking, count, path};
use crate::engine::{document, packed, put};

/// All of it. The range is empty before.
pub async fn contract(range: &dyn RangeService, address: RangeAddress) {
    pages_show_each_item_once(range, address).await;
    what_is_written_is_read(range, address).await;
    conditions_are_checked(range, address).await;
    merges_change_what_they_name(range, address).await;
    requests_are_done_once(range, address).await;
    expressions_are_evaluated_and_items_told(range, address).await;
    early_answers_have_receipts(range, address).await;
    large_items_fit_and_too_large_ones_do_not(range, address).await;
    what_is_not_here_is_not_answered(range, address).await;
}

async fn apply(range: &dyn RangeService, address: RangeAddress, operation: Operation) -> Outcome {
    match range.write(address, operation, false).await.expect("the write is taken") {
        WriteAnswer::Applied(outcome) => outcome,
        WriteAnswer::Queued => panic!("nobody asked for that"),
    }
}

fn version(outcome: Outcome) -> ItemVersion {
    match outcome {
        Outcome::Created(version) | Outcome::Updated(version) => version,
        other => panic!("{other:?} has no version"),
    }
}

pub async fn read(range: &dyn RangeService, address: RangeAddress, id: &str) -> Option<StoredItem> {
    range.read(address, packed(id), Consistency::Strong).await.expect("the read is answered")
}

fn delete(id: &str) -> Operation {
    Operation { change: Change::Delete, ..put(id, "{}") }
}

async fn pages_show_each_item_once(range: &dyn RangeService, address: RangeAddress) {
    let mut expected = BTreeMap::new();
    for number in 0..40 {
        let (id, text) = (format!("page-{number}"), format!(r#"{{"number":{number}}}"#));
        let version = version(apply(range, address, put(&id, &text)).await);
        expected.insert(packed(&id), StoredItem { document: document(&text), version });
    }
    for (limit, descending) in [(7, false), (40, false), (7, true), (1000, true)] {
        let mut seen = Vec::new();
        let (start, consistency) = (PackedKey::hash_floor(0), Consistency::Strong);
        let mut request =
            ListRequest { index: None, start, end: None, limit, descending, consistency, bytes_max: None };
        loop {
            let page = range.list(address, request.clone()).await.unwrap();
            assert!(page.items.len() <= limit);
            seen.extend(page.items);
            match page.last {
                None => break,
                Some(last) if descending => request.end = Some(last),
                Some(last) => request.start = last.successor(),
            }
        }
        let mut wanted: Vec<_> = expected.clone().into_iter().collect();
        if descending {
            wanted.reverse();
        }
        assert!(seen == wanted, "limit {limit}, descending {descending}");
    }
}

async fn what_is_written_is_read(range: &dyn RangeService, address: RangeAddress) {
    assert_eq!(read(range, address, "read").await, None);
    let created = apply(range, address, put("read", r#"{"x":1}"#)).await;
    assert!(matches!(created, Outcome::Created(_)), "{created:?}");
    let updated = apply(range, address, put("read", r#"{"x":2}"#)).await;
    assert!(matches!(updated, Outcome::Updated(_)), "{updated:?}");
    let expected = StoredItem { document: document(r#"{"x":2}"#), version: version(updated) };
    assert_eq!(read(range, address, "read").await, Some(expected));
    apply(range, address, put("gone", "{}")).await;
    assert_eq!(apply(range, address, delete("gone")).await, Outcome::Deleted);
    assert_eq!(apply(range, address, delete("gone")).await, Outcome::NotFound);
    assert_eq!(read(range, address, "gone").await, None);
}

async fn conditions_are_checked(range: &dyn RangeService, address: RangeAddress) {
    let only = |if_match, if_none_match| Operation {
        preconditions: Preconditions { if_match, if_none_match },
        ..put("conditions", r#"{"x":1}"#)
    };
    let these = |versions: &[ItemVersion]| Some(TagCondition::Versions(versions.to_vec()));
    assert_eq!(apply(range, address, only(Some(TagCondition::Any), None)).await, Outcome::PreconditionFailed);
    let first = version(apply(range, address, only(None, Some(TagCondition::Any))).await);
    assert_eq!(apply(range, address, only(None, Some(TagCondition::Any))).await, Outcome::PreconditionFailed);
    let other = ItemVersion(first.0 + 1000);
    assert_eq!(apply(range, address, only(these(&[other]), None)).await, Outcome::PreconditionFailed);
    let second = version(apply(range, address, only(these(&[other, first]), None)).await);
    assert_eq!(apply(range, address, only(None, these(&[second]))).await, Outcome::PreconditionFailed);
    assert_eq!(read(range, address, "conditions").await.unwrap().version, second);
}

async fn merges_change_what_they_name(range: &dyn RangeService, address: RangeAddress) {
    let merge = |text: &str| Operation { change: Change::Merge(document(text)), ..put("merge", "{}") };
    assert_eq!(apply(range, address, merge(r#"{"a":1}"#)).await, Outcome::NotFound);
    apply(range, address, put("merge", r#"{"a":1,"b":{"c":2}}"#)).await;
    let merged = apply(range, address, merge(r#"{"a":null,"b":{"d":3}}"#)).await;
    assert!(matches!(merged, Outcome::Updated(_)), "{merged:?}");
    assert_eq!(read(range, address, "merge").await.unwrap().document, document(r#"{"b":{"c":2,"d":3}}"#));
    let long = format!(r#"{{"e":"{}"}}"#, "x".repeat(300 * 1024));
    apply(range, address, merge(&long)).await;
    let refused = apply(range, address, merge(&long.replace("\"e\"", "\"f\""))).await;
    assert!(matches!(&refused, Outcome::Invalid(message) if message.contains("larger")), "{refused:?}");
}

async fn requests_are_done_once(range: &dyn RangeService, address: RangeAddress) {
    let request = ClientRequest {
        principal: PrincipalId::from_bytes([1; 16]),
        request_id: RequestId::from_bytes([2; 16]),
        digest: [3; 32],
    };
    let first = Operation { request: Some(RequestIdentity::Client(request.clone())), ..put("once", r#"{"x":1}"#) };
    let outcome = apply(range, address, first.clone()).await;
    apply(range, address, put("once", r#"{"x":2}"#)).await;
    assert_eq!(apply(range, address, first).await, outcome);
    let other = ClientRequest { digest: [4; 32], ..request };
    let other = Operation { request: Some(RequestIdentity::Client(other)), ..put("once", r#"{"x":3}"#) };
    assert_eq!(apply(range, address, other).await, Outcome::RequestIdReused);
    assert_eq!(read(range, address, "once").await.unwrap().document, document(r#"{"x":2}"#));
}

async fn expressions_are_evaluated_and_items_told(range: &dyn RangeService, address: RangeAddress) {
    let told = |outcome| match outcome {
        Outcome::Changed(changed) => *changed,
        other => panic!("{other:?}"),
    };
    let before = range.stored(address, 7, StoredPart::Table).await.unwrap();
    let first = told(apply(range, address, count("count", 5)).await);
    assert_eq!((first.existed, first.after), (false, Some(document(r#"{"n":5}"#))));
    let second = told(apply(range, address, count("count", 6)).await);
    assert_eq!((second.existed, second.after), (true, Some(document(r#"{"n":11}"#))));
    assert_eq!(read(range, address, "count").await.map(|item| item.version), second.version);
    let images = Images { before_on_failure: true, ..Images::default() };
    let none = Some(Condition::NotExists(path("id")));
    let outcome = apply(range, address, asking("count", Change::Remove, none.clone(), images)).await;
    let Outcome::ConditionFailed(failed) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failed.before, Some(document(r#"{"n":11}"#)));
    apply(range, address, put("count", r#"{"n":"text"}"#)).await;
    assert!(matches!(apply(range, address, count("count", 1)).await, Outcome::Invalid(_)));
    assert_eq!(range.stored(address, 7, StoredPart::Table).await.unwrap().items, before.items + 1);
    assert!(told(apply(range, address, asking("count", Change::Remove, None, images)).await).existed);
    assert!(!told(apply(range, address, asking("count", Change::Remove, none, images)).await).existed);
    let one = ListRequest {
        index: None,
        start: PackedKey::hash_floor(0),
        end: None,
        limit: 10,
        descending: false,
        consistency: Consistency::Strong,
        bytes_max: Some(1),
    };
    assert_eq!(range.list(address, one).await.unwrap().items.len(), 1);
}

async fn early_answers_have_receipts(range: &dyn RangeService, address: RangeAddress) {
    let receipt = ReceiptId::from_bytes([9; 16]);
    let operation = Operation { receipt: Some(receipt), ..put("early", r#"{"x":1}"#) };
    assert_eq!(range.write(address, operation, true).await.unwrap(), WriteAnswer::Queued);
    assert_eq!(read(range, address, "early").await.unwrap().document, document(r#"{"x":1}"#));
    let state = range.receipt(address, receipt).await.unwrap();
    assert!(matches!(state, Some(ReceiptState::Ended(Outcome::Created(_)))), "{state:?}");
    assert_eq!(range.receipt(address, ReceiptId::from_bytes([1; 16])).await.unwrap(), None);
}

async fn large_items_fit_and_too_large_ones_do_not(range: &dyn RangeService, address: RangeAddress) {
    let text = |bytes: usize| format!(r#"{{"x":"{}"}}"#, "y".repeat(bytes));
    apply(range, address, put("large", &text(390 * 1024))).await;
    assert_eq!(read(range, address, "large").await.unwrap().document, document(&text(390 * 1024)));
    let refused = range.write(address, put("large", &text(410 * 1024)), false).await.unwrap_err();
    assert_eq!(refused.kind, RefusalKind::TooLarge, "{refused:?}");
    let page = ListRequest {
        index: None,
        start: packed("large"),
        end: Some(packed("large").successor()),
        limit: 10,
        descending: false,
        consistency: Consistency::Strong,
        bytes_max: None,
    };
    assert_eq!(range.list(address, page).await.unwrap().items.len(), 1);
}

async fn what_is_not_here_is_not_answered(range: &dyn RangeService, address: RangeAddress) {
    let other_range = RangeAddress { range: RangeId::from_bytes([99; 16]), ..address };
    let other_table = RangeAddress { table: TableId::from_bytes([99; 16]), ..address };
    for wrong in [other_range, other_table] {
        let (start, consistency) = (PackedKey::hash_floor(0), Consistency::Strong);
        let page =
            ListRequest { index: None, start, end: None, limit: 10, descending: false, consistency, bytes_max: None };
        let refused = [
            range.read(wrong, packed("read"), Consistency::Strong).await.unwrap_err(),
            range.write(wrong, put("read", "{}"), false).await.unwrap_err(),
            range.list(wrong, page).await.unwrap_err(),
            range.receipt(wrong, ReceiptId::from_bytes([9; 16])).await.unwrap_err(),
            range.stored(wrong, 7, StoredPart::Table).await.unwrap_err(),
        ];
        for refusal in refused {
            assert_eq!((refusal.kind, refusal.location), (RefusalKind::WrongNode, None));
        }
    }
}
