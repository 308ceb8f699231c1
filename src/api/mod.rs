//! Floor 4: requests come in. Each surface translates HTTP into a call of a service and the
//! service's answer back into HTTP, and does nothing else: no rule about items, tables or tenants is
//! decided here.
//!
//! | module | what |
//! |---|---|
//! | [`server`] | sockets, TLS, limits and a graceful stop, for every surface |
//! | [`path`] | paths and query strings, decoded once |
//! | [`body`] | bodies, within a size and a time |
//! | [`deadline`] | the end of waiting for a body |
//! | [`auth`] | who is asking, and whether they may: in one place, before any handler |
//! | [`error`] | the one table from a refusal to a status and a problem |
//! | [`calls`] | routes of JSON in and out, as data |
//! | [`gate`] | a listener that is open before what it serves is ready |
//! | [`health`] | `/healthz`, `/readyz`, `/metrics`: the same for every role |
//! | [`admin`] | `/admin/v1/…`: everything that control can do |
//! | [`inside`] | `/inside/v1/…`: what members ask of control |
//! | [`usage_metrics`] | what was served, as numbers for `/metrics` |
//! | [`observed`] | tags, traces and times of requests |
//! | [`doors`] | the port of clients: REST, or the protocol of DynamoDB |
//! | [`rest`] | `/v1/…`: tenants, tables and items, at the proxy and at the node alike |
//! | [`dynamodb`] | the protocol of DynamoDB, at `/` beside REST |

pub mod admin;
pub mod auth;
pub mod body;
pub mod calls;
pub mod deadline;
pub mod doors;
pub mod dynamodb;
pub mod error;
pub mod gate;
pub mod health;
pub mod inside;
pub mod observed;
pub mod path;
pub mod rest;
pub mod server;
pub(crate) mod testing;
pub mod usage_metrics;
