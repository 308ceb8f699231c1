//! A call of the DynamoDB protocol on its way to its function: the signature is good, the tenant is known, the
//! capability is there, the body is whole and unpacked. What it holds of JSON the function reads itself.
//!
//! A call may touch several tables (a batch does). So what it cost is noted for each table, and each table is counted
//! for itself; where none was noted, the call is counted for the tenant.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::dispatch::Operation;
use super::failure::Failure;
use crate::domain::ids::TenantId;
use crate::domain::rid::Location;
use crate::domain::table::TableDefinition;
use crate::domain::usage::Cost;
use crate::domain::{TableName, TenantName};
use crate::services::ports::{Caller, Capability};

/// What the functions of the protocol work with: the same as REST's.
pub type DynamoState = crate::api::rest::RestState;

/// What a function answers: the JSON of the body. An empty one is a body of no bytes.
pub type Answered = Result<Vec<u8>, Failure>;

/// Tables, and what was read and written of each: most calls are about one.
pub type Noted = SmallVec<[(Arc<TableDefinition>, Cost); 1]>;

/// A call on its way to its function.
pub struct Call<'a> {
    /// What functions work with.
    pub state: &'a DynamoState,
    /// What is asked for.
    pub operation: Operation,
    /// Who is asking: always a principal of one tenant.
    pub caller: &'a Arc<Caller>,
    /// The tenant of the caller.
    pub tenant: &'a TenantName,
    /// Its id: a tenant that was made again under the same name is another one.
    pub tenant_id: TenantId,
    /// The body: a JSON text, not parsed yet.
    pub body: Bytes,
    /// The location in ARNs.
    pub location: &'a Location,
    /// Host and port by which the client reached this process, for DescribeEndpoints; may be empty.
    pub host: &'a str,
    /// What was read and written of which table.
    pub served: RefCell<Noted>,
}

impl Call<'_> {
    /// The table of this name, if the caller's tenant has it. From memory.
    pub fn find_table(&self, name: &TableName) -> Option<Arc<TableDefinition>> {
        self.state.catalog.table(self.tenant, name).filter(|table| table.tenant_id == self.tenant_id)
    }

    /// Checks that the caller has this capability, besides what the operation needs: an answer holds nothing of items that
    /// the caller may not read.
    ///
    /// # Errors
    /// AccessDeniedException.
    pub fn check(&self, capability: Capability) -> Result<(), Failure> {
        super::credential::check(self.caller, &[capability], self.operation.name())
    }

    /// Notes that the call is about this table, so that it is counted for it even if it costs nothing.
    pub fn note_table(&self, table: &Arc<TableDefinition>) {
        self.note_cost(table, Cost::default());
    }

    /// Notes what was read or written of this table. Said several times, it adds up.
    pub fn note_cost(&self, table: &Arc<TableDefinition>, cost: Cost) {
        let mut served = self.served.borrow_mut();
        match served.iter_mut().find(|(noted, _)| noted.id == table.id) {
            Some((_, sum)) => {
                sum.read_bytes += cost.read_bytes;
                sum.written_bytes += cost.written_bytes;
                sum.read_half_units += cost.read_half_units;
                sum.write_units += cost.write_units;
            }
            None => served.push((Arc::clone(table), cost)),
        }
    }
}
