//! What the handlers of REST work with. `roles` fills it: at the proxy with services that route, at
//! the node with the storage engine.

use std::sync::Arc;

use crate::api::body::Limits;
use crate::domain::rid::Location;
use crate::domain::{Clock, Random, Refusal};
use crate::services::access::TokenKeys;
use crate::services::ports::{Authenticator, Catalog, Items};

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
}
