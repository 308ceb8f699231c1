//! Writing one item: PUT replaces, POST merges, DELETE deletes. What the request says becomes one
//! [`Operation`]; conditions, the client's request id and the receipt travel in it and are evaluated
//! where it is applied.
//!
//! An `Idempotency-Key` is digested into a request id (the first 16 bytes of its SHA-256), and so
//! is what was asked under it: method, table, key, conditions and body. The key of the item stands in
//! its packed form, so `7` and `007` are the same request, as they are the same item. How the answer is
//! wanted (`Prefer`) is no part of it: who lost a 202 may ask again and wait.
//!
//! `Prefer: respond-async` (RFC 7240 §4.1) gives the operation a receipt id: a UUID of version 8 (RFC
//! 9562 §5.8) whose first four bytes are the hash of the item's key, so that any proxy can find the
//! range that knows about it.

use actix_web::HttpResponse;
use actix_web::http::header::{ETAG, HeaderMap, HeaderName, HeaderValue, LOCATION};
use actix_web::http::{Method, StatusCode};
use sha2::{Digest, Sha256};

use super::asked::Asked;
use super::conditions;
use super::items::no_item;
use super::keys::{self, ItemKey};
use super::receipts;
use super::rid::RID_HEADER;
use super::routes::Action;
use crate::domain::document::Document;
use crate::domain::ids::{ReceiptId, RequestId};
use crate::domain::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::domain::version::ItemVersion;
use crate::domain::{Random, Refusal, RefusalKind};
use crate::replication::operation::{Change, ClientRequest, Operation, Outcome, RequestIdentity};
use crate::services::ports::WriteAnswer;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Writes the item.
///
/// # Errors
/// Those of the outcome (see [`ended`]), `BadInput`, and those of the service.
pub async fn write(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    let table = asked.table();
    let key = keys::of_item(asked)?;
    let change = change(asked, &key)?;
    let headers = asked.request.headers();
    let preconditions = conditions::preconditions(headers)?;
    let request = client_request(asked, &key)?;
    let respond_async = prefers_async(headers);
    let receipt = respond_async.then(|| receipt_id(key.packed.hash(), &*asked.state.random));
    let operation = Operation { key: key.packed, change, preconditions, conditional: None, request, receipt };
    let sent_bytes = operation.sent_bytes();
    let answer = asked.state.items.write(table, operation, respond_async).await?;
    asked.cost.set(answer.cost(sent_bytes));
    match (answer, receipt) {
        (WriteAnswer::Applied(outcome), _) => Ok(applied(asked, ended(&outcome)?)),
        (WriteAnswer::Queued, Some(receipt)) => Ok(queued(asked, receipt)),
        (WriteAnswer::Queued, None) => Err(Refusal::internal("a write was queued that nobody asked to be queued")),
    }
}

/// How a write ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The status that a waiting client gets.
    pub status: StatusCode,
    /// The item's new version; none after a deletion.
    pub version: Option<ItemVersion>,
}

/// What an outcome means to the client.
///
/// # Errors
/// `NotFound`, `PreconditionFailed`, `BadInput` (the merged item cannot be), `RequestIdReused`, or what became of a proxy's
/// own id.
pub fn ended(outcome: &Outcome) -> Result<Ended, Refusal> {
    let well = |status, version| Ok(Ended { status, version });
    match outcome {
        Outcome::Created(version) => well(StatusCode::CREATED, Some(*version)),
        Outcome::Updated(version) => well(StatusCode::OK, Some(*version)),
        Outcome::Deleted => well(StatusCode::NO_CONTENT, None),
        Outcome::NotFound => Err(no_item()),
        Outcome::PreconditionFailed | Outcome::ConditionFailed(_) => Err(conditions::precondition_failed()),
        Outcome::Changed(changed) => match changed.version {
            Some(version) if changed.existed => well(StatusCode::OK, Some(version)),
            Some(version) => well(StatusCode::CREATED, Some(version)),
            None if changed.existed => well(StatusCode::NO_CONTENT, None),
            None => Err(no_item()),
        },
        Outcome::Invalid(message) => Err(Refusal::bad_input(message.as_str())),
        Outcome::RequestIdExpired => {
            let what = "the write was under way for so long that nobody knows whether it happened; read the item, and ask again if it did not";
            Err(Refusal::new(RefusalKind::OutcomeUnknown, what))
        }
        Outcome::RequestIdOutside(_) => {
            let what = "the clocks of this cluster are more than a minute apart, and the write was not done; ask again, and have the clocks looked at";
            Err(Refusal::unavailable(what, 1))
        }
        Outcome::RequestIdReused => {
            let what = "this Idempotency-Key was used before with another request; use a new one for each request";
            Err(Refusal::new(RefusalKind::RequestIdReused, what))
        }
    }
}

fn applied(asked: &Asked<'_>, ended: Ended) -> HttpResponse {
    let mut answer = HttpResponse::build(ended.status);
    answer.insert_header((RID_HEADER, asked.table_rid(asked.table())));
    if let Some(version) = ended.version {
        answer.insert_header((ETAG, version.to_etag()));
    }
    if ended.status == StatusCode::CREATED {
        answer.insert_header((LOCATION, asked.request.uri().path()));
    }
    answer.finish()
}

fn queued(asked: &Asked<'_>, receipt: ReceiptId) -> HttpResponse {
    let mut answer = HttpResponse::Accepted();
    answer.insert_header((LOCATION, receipts::path(asked.table(), receipt)));
    answer.insert_header((PREFERENCE_APPLIED, HeaderValue::from_static("respond-async")));
    answer.json(receipts::queued(asked, receipt))
}

fn change(asked: &Asked<'_>, key: &ItemKey) -> Result<Change, Refusal> {
    if asked.endpoint.action == Action::DeleteItem {
        return Ok(Change::Delete);
    }
    let document = Document::from_json(&asked.body)?;
    keys::check_attributes(&asked.table().specification, key, &document)?;
    match asked.endpoint.action {
        Action::MergeItem => Ok(Change::Merge(document)),
        _ => Ok(Change::Put(document)),
    }
}

fn client_request(asked: &Asked<'_>, key: &ItemKey) -> Result<Option<RequestIdentity>, Refusal> {
    let headers = asked.request.headers();
    let mut given = headers.get_all(IDEMPOTENCY_KEY);
    let Some(value) = given.next() else { return Ok(None) };
    let bytes = value.as_bytes();
    if given.next().is_some() || bytes.is_empty() || bytes.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        let rule = format!("Idempotency-Key is one value of 1 to {IDEMPOTENCY_KEY_BYTES_MAX} bytes");
        return Err(Refusal::bad_input(rule));
    }
    let hashed: [u8; 32] = Sha256::digest(bytes).into();
    let (id, _) = hashed.split_first_chunk::<16>().expect("a SHA-256 has 32 bytes");
    Ok(Some(RequestIdentity::Client(ClientRequest {
        principal: asked.caller().principal,
        request_id: RequestId::from_bytes(*id),
        digest: digest(asked, key),
    })))
}

/// What the same request has the same of.
fn digest(asked: &Asked<'_>, key: &ItemKey) -> [u8; 32] {
    let headers = asked.request.headers();
    let condition = |name: &str| -> Vec<u8> {
        let values: Vec<&[u8]> = headers.get_all(name).map(HeaderValue::as_bytes).collect();
        values.join(&b", "[..])
    };
    let method: &Method = asked.request.method();
    let fields: [&[u8]; 6] = [
        method.as_str().as_bytes(),
        asked.table().id.as_bytes(),
        key.packed.as_bytes(),
        &condition("if-match"),
        &condition("if-none-match"),
        &asked.body,
    ];
    let mut digest = Sha256::new();
    for field in fields {
        digest.update((field.len() as u64).to_be_bytes());
        digest.update(field);
    }
    digest.finalize().into()
}

/// Whether `respond-async` is among the preferences (RFC 7240 §2); others are ignored, as it wants.
fn prefers_async(headers: &HeaderMap) -> bool {
    headers.get_all(PREFER).filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).any(|preference| {
        let name = preference.split([';', '=']).next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("respond-async")
    })
}

fn receipt_id(hash: u32, random: &dyn Random) -> ReceiptId {
    let mut bytes = [0u8; 16];
    random.fill(&mut bytes[4..]);
    bytes[..4].copy_from_slice(&hash.to_be_bytes());
    ReceiptId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ones;

    impl Random for Ones {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(0xFF);
        }
    }

    #[test]
    fn a_receipt_tells_the_hash_of_its_key() {
        let receipt = receipt_id(0x0102_0304, &Ones);
        assert_eq!(receipt.to_string(), "01020304-ffff-8fff-bfff-ffffffffffff");
        assert_eq!(receipt.0.get_version_num(), 8);
    }

    #[test]
    fn preferences_are_found_among_others() {
        let prefers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PREFER, HeaderValue::from_static(value));
            }
            prefers_async(&headers)
        };
        assert!(prefers(&["respond-async"]) && prefers(&["wait=10, Respond-Async; x=y"]));
        assert!(prefers(&["return=minimal", "respond-async"]));
        assert!(!prefers(&[]) && !prefers(&["wait=10"]) && !prefers(&["respond-asynchronously"]));
    }
}
