//! REST: `/v1/tenant/{tenant}/table/{table}/id/{id}` and what leads there. The same code answers at
//! the proxy and at the node; what differs is behind the service traits in [`RestState`].
//!
//! The life of a request: [`crate::api::server`] hands it over as it came → [`crate::api::doors`] finds that it
//! is for REST → [`dispatch`] finds its endpoint in [`routes`] → the token is checked and the endpoint's need with
//! it → query parameters are read → tenant and table are looked up in memory → the body is collected → one handler
//! translates, calls a service and translates back. A refusal anywhere becomes a problem in
//! [`crate::api::error`].
//!
//! | module | what |
//! |---|---|
//! | [`routes`], [`parameters`] | what can be asked, as data |
//! | [`dispatch`], [`asked`] | from a request to its handler, and what the handler is given |
//! | [`items`], [`write`] | reading, and writing, one item |
//! | [`listing`] | items of a table, and of one ID |
//! | [`receipts`] | what became of a write that was answered early |
//! | [`tables`], [`tenants`] | definitions |
//! | [`keys`], [`conditions`], [`pages`], [`rid`] | keys, ETags, cursors and names of resources, as text |
//! | [`metered`] | what of each request is counted |
//! | [`openapi`], [`start_page`] | the service described, for programs and for people |
//!
//! The next author must keep: item answers have no body but the item, so that a GET streams what is
//! stored; what else there is to say stands in headers (`ETag`, `DStore-Rid`).

pub mod asked;
pub mod conditions;
pub mod dispatch;
pub mod items;
pub mod keys;
pub mod listing;
pub mod metered;
pub mod openapi;
pub mod pages;
pub mod parameters;
pub mod receipts;
pub mod rid;
pub mod routes;
pub mod start_page;
pub mod state;
pub mod tables;
pub mod tenants;
pub mod write;

#[cfg(test)]
mod tests;

pub use rid::RID_HEADER;
pub use state::{Readiness, RestState};
