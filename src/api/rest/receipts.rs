//! Receipts: what became of a write that was answered with 202 before it was applied.
//!
//! ```json
//! {"receipt":"01020304-…","state":"done","status":201,"etag":"\"v17\"","rid":"rid:dStore:…"}
//! ```
//!
//! | state | meaning | further |
//! |---|---|---|
//! | `queued` | durable, not yet applied | |
//! | `done` | applied | `status` that a waiting client would have got, `etag` where there is an item |
//! | `refused` | applied, and changed nothing | `problem`, as a waiting client would have got it |
//! | `lost` | never durable on a majority; it will never be applied | |
//!
//! A receipt is kept for 24 hours, then it is 404, like one of another table.

use actix_web::HttpResponse;
use serde::Serialize;

use super::asked::Asked;
use super::parameters::Parameter;
use super::write;
use crate::api::{error, path};
use crate::domain::Refusal;
use crate::domain::ids::ReceiptId;
use crate::domain::table::TableDefinition;
use crate::services::ports::ReceiptState;

/// A receipt as JSON.
#[derive(Debug, Serialize)]
pub struct Receipt {
    receipt: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<serde_json::Value>,
    rid: String,
}

/// Tells what became of the write.
///
/// # Errors
/// `NotFound` where there is no such receipt, and those of the service.
pub async fn read(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    let text = asked.parameter(Parameter::Receipt)?;
    let unknown = || Refusal::not_found("there is no such receipt; receipts are kept for 24 hours");
    // One spelling only, the one that was given out.
    let receipt: ReceiptId = text.parse().map_err(|_| unknown())?;
    if receipt.to_string() != text {
        return Err(unknown());
    }
    let state = asked.state.items.receipt(asked.table(), receipt).await?.ok_or_else(unknown)?;
    Ok(HttpResponse::Ok().json(show(asked, receipt, &state)))
}

/// The receipt of a write that has just been queued.
pub fn queued(asked: &Asked<'_>, receipt: ReceiptId) -> Receipt {
    show(asked, receipt, &ReceiptState::Queued)
}

/// The path of a receipt.
pub fn path(table: &TableDefinition, receipt: ReceiptId) -> String {
    let mut text = String::from("/v1/tenant/");
    path::encode_segment(table.tenant.as_str(), &mut text);
    text.push_str("/table/");
    path::encode_segment(table.name.as_str(), &mut text);
    text + "/receipt/" + &receipt.to_string()
}

fn show(asked: &Asked<'_>, receipt: ReceiptId, state: &ReceiptState) -> Receipt {
    let rid = asked.table_rid(asked.table());
    let plain =
        |state, rid| Receipt { receipt: receipt.to_string(), state, status: None, etag: None, problem: None, rid };
    match state {
        ReceiptState::Queued => plain("queued", rid),
        ReceiptState::Lost => plain("lost", rid),
        ReceiptState::Ended(outcome) => match write::ended(outcome) {
            Ok(ended) => Receipt {
                status: Some(ended.status.as_u16()),
                etag: ended.version.map(|version| version.to_etag()),
                ..plain("done", rid)
            },
            Err(refusal) => {
                let problem = error::problem_json(error::problem_kind(refusal.kind), &refusal.message, Some(&rid));
                Receipt { problem: Some(problem), ..plain("refused", rid) }
            }
        },
    }
}
