//! What of a call is counted and noted, as of a request of REST ([`crate::api::rest::metered`]): for whom, what for, how
//! it ended, what it cost, how long it took.
//!
//! A call that was not let in is counted for nobody: nobody can run up the usage of others. One that touched several tables is counted for
//! each of them, with what that one cost.

use std::sync::Arc;
use std::time::Instant;

use super::call::{Answered, DynamoState};
use super::dispatch::{Admitted, Operation};
use crate::domain::table::TableDefinition;
use crate::domain::usage::{Cost, UsageOperation, UsageResult};
use crate::services::observing::{self, Subject};
use crate::services::ports::Caller;
use crate::services::usage::{Served, Whose};

/// Counts a call that was begun then and ended so.
pub(super) fn count(
    state: &DynamoState,
    admitted: &Admitted,
    tables: &[(Arc<TableDefinition>, Cost)],
    began: Instant,
    ended: &Answered,
) {
    let Some(operation) = admitted.operation else { return };
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let caller = admitted.key.as_ref().map(|key| key.caller());
    let served = Served {
        whose: None,
        principal: caller.map(|caller| caller.principal),
        operation: counted(operation),
        result: ended.as_ref().map_or_else(|failure| failure.result(), |_| UsageResult::Ok),
        cost: Cost::default(),
        micros,
    };
    for (table, cost) in tables {
        state.meter.count(&Served { whose: Some(Whose::Table(table)), cost: *cost, ..served });
    }
    if tables.is_empty() {
        let own = caller.and_then(|caller| caller.tenant.as_ref());
        let tenant = own.and_then(|(id, name)| state.catalog.tenant(name).filter(|tenant| tenant.id == *id));
        state.meter.count(&Served { whose: tenant.as_ref().map(Whose::Tenant), ..served });
    }
}

/// Notes what a caller asks for.
pub(super) fn about(operation: Operation, caller: &Caller) {
    let tenant = caller.tenant.as_ref().map(|(_, name)| name.clone());
    observing::about(Subject { operation: operation.word(), tenant, is_quick: operation.is_quick() });
}

fn counted(operation: Operation) -> UsageOperation {
    match operation {
        Operation::GetItem => UsageOperation::GetItem,
        Operation::PutItem => UsageOperation::PutItem,
        Operation::UpdateItem => UsageOperation::UpdateItem,
        Operation::DeleteItem => UsageOperation::DeleteItem,
        Operation::BatchGetItem => UsageOperation::BatchGetItem,
        Operation::BatchWriteItem => UsageOperation::BatchWriteItem,
        Operation::Query => UsageOperation::Query,
        Operation::Scan => UsageOperation::Scan,
        _ => UsageOperation::Administer,
    }
}
