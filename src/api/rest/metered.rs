//! What of a request is counted: for whom, what for, how it ended, what it cost, how long it took. Handlers say what a
//! request cost where they have the items at hand; everything else the dispatcher knows.
//!
//! A request is counted for a tenant only after its sender was found to be allowed to know of it: nobody can run up the
//! usage of others. What is no use of the store (the description of the service, health) is not counted at all.

use std::time::Instant;

use actix_web::HttpResponse;

use super::asked::{Asked, Target};
use super::items;
use super::routes::Action;
use crate::domain::usage::{Cost, UsageOperation, UsageResult};
use crate::domain::{Refusal, RefusalKind};
use crate::services::ports::{Consistency, Page, StoredItem};
use crate::services::usage::{Served, Whose};

/// Counts a request that was begun then and ended so.
pub fn count(asked: &Asked<'_>, began: Instant, ended: &Result<HttpResponse, Refusal>) {
    let Some(operation) = operation(asked) else { return };
    let whose = match &asked.target {
        Target::Service => None,
        Target::Tenant(tenant) => Some(Whose::Tenant(tenant)),
        Target::Table(table) => Some(Whose::Table(table)),
    };
    asked.state.meter.count(&Served {
        whose,
        principal: asked.caller.as_ref().map(|caller| caller.principal),
        operation,
        result: ended.as_ref().map_or_else(|refusal| result(refusal.kind), |_| UsageResult::Ok),
        cost: asked.cost.get(),
        micros: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
    });
}

fn operation(asked: &Asked<'_>) -> Option<UsageOperation> {
    Some(match asked.endpoint.action {
        Action::ReadItem if items::is_listing(asked) => UsageOperation::ListItems,
        Action::ReadItem => UsageOperation::GetItem,
        Action::PutItem => UsageOperation::PutItem,
        Action::MergeItem => UsageOperation::UpdateItem,
        Action::DeleteItem => UsageOperation::DeleteItem,
        Action::ListItems => UsageOperation::ListItems,
        Action::ReadReceipt => UsageOperation::GetReceipt,
        Action::ListTenants
        | Action::ReadTenant
        | Action::CreateTenant
        | Action::DeleteTenant
        | Action::ListTables
        | Action::ReadTable
        | Action::CreateTable
        | Action::ChangeTable
        | Action::DeleteTable => UsageOperation::Administer,
        Action::ShowStartPage | Action::ShowOpenApi | Action::TellAlive | Action::TellReady => return None,
    })
}

fn result(kind: RefusalKind) -> UsageResult {
    match kind {
        RefusalKind::NotFound => UsageResult::NotFound,
        RefusalKind::Conflict | RefusalKind::PreconditionFailed | RefusalKind::RequestIdReused => UsageResult::Conflict,
        RefusalKind::BadInput
        | RefusalKind::Unauthenticated
        | RefusalKind::Denied
        | RefusalKind::TooLarge
        | RefusalKind::UnsupportedMediaType
        | RefusalKind::WrongNode
        | RefusalKind::TooSlow => UsageResult::Refused,
        RefusalKind::Throttled | RefusalKind::StorageFull => UsageResult::Throttled,
        RefusalKind::Unavailable | RefusalKind::OutcomeUnknown | RefusalKind::Damaged | RefusalKind::Internal => {
            UsageResult::Failed
        }
    }
}

/// What it cost to read an item with a key of so many bytes, or to find that there is none.
pub fn read(asked: &Asked<'_>, key_bytes: usize, found: Option<&StoredItem>, consistency: Consistency) {
    let bytes = found.map_or(0, |item| key_bytes + item.document.item_size());
    asked.cost.set(Cost::read(bytes as u64, consistency == Consistency::Strong));
}

/// What it cost to read a page.
pub fn listed(asked: &Asked<'_>, page: &Page, consistency: Consistency) {
    let bytes: usize = page.items.iter().map(|(key, item)| key.len() + item.document.item_size()).sum();
    asked.cost.set(Cost::read(bytes as u64, consistency == Consistency::Strong));
}
