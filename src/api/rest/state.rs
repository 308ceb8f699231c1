//! What the handlers of clients' requests work with, in REST and in the protocol of DynamoDB alike. `roles` fills it: at the
//! proxy with services that route, at the node with the storage engine.

use std::sync::Arc;

use crate::api::body::Limits;
use crate::api::dynamodb::body_budget::BodyBudget;
use crate::domain::rid::Location;
use crate::domain::{Clock, Random, Refusal};
use crate::services::access::{AccessLists, TokenKeys};
use crate::services::observing::Observing;
use crate::services::ports::{Authenticator, Catalog, Items};
use crate::services::usage::Meter;

/// Tells whether requests can be served now, and if not, why.
pub type Readiness = Arc<dyn Fn() -> Result<(), Refusal> + Send + Sync>;

/// What the handlers of REST work with.
pub struct RestState {
    /// Reads and writes of items.
    pub items: Arc<dyn Items>,
    /// Tenants and tables.
    pub catalog: Arc<dyn Catalog>,
    /// Tells who is asking.
    pub authenticator: Arc<dyn Authenticator>,
    /// The access keys that signatures are checked with.
    pub access: Arc<AccessLists>,
    /// The domain below which tenants have hosts of their own.
    pub domain: Option<Arc<str>>,
    /// Cursors are sealed under keys that follow from these.
    pub token_keys: Arc<TokenKeys>,
    /// The present time.
    pub clock: Arc<dyn Clock>,
    /// Fresh bytes, for cursors and receipts.
    pub random: Arc<dyn Random>,
    /// The location in every RID.
    pub location: Location,
    /// What `/readyz` tells.
    pub readiness: Readiness,
    /// What a body may take.
    pub body_limits: Limits,
    /// What all bodies of the protocol of DynamoDB may take together.
    pub body_budget: BodyBudget,
    /// Counts what is served.
    pub meter: Arc<Meter>,
    /// What is noted of requests.
    pub observing: Arc<Observing>,
}
