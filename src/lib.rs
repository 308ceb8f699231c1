//! dStore: a federated, multi-tenant, encrypted, distributed key/value store.
//!
//! This is the map. Modules stand on floors, and imports point down only, never up and never
//! sideways (`tests/tidy.rs` holds that):
//!
//! | floor | modules | what happens there |
//! |---|---|---|
//! | 5 | [`roles`], [`cli`], [`config`] | processes are assembled; the command line is read |
//! | 4 | [`api`] | requests come in: translate, authenticate, call a service |
//! | 3 | [`services`] | use cases: items, tables, tenants, keys, members |
//! | 2 | [`storage`], [`coordination`], [`transport`], [`sinks`] | files, etcd, sockets, receivers of reports, each behind a trait |
//! | 1 | [`replication`], [`placement`], [`expression`], [`crypto`] | pure decisions and formats |
//! | 0 | [`domain`] | words: ids, names, keys, values, limits, refusals |
//!
//! Floors 0 and 1 know no async, file, socket, clock or dice.

pub mod api;
pub mod cli;
pub mod config;
pub mod coordination;
pub mod crypto;
pub mod domain;
pub mod expression;
pub mod placement;
pub mod replication;
pub mod roles;
pub mod services;
pub mod sinks;
pub mod storage;
pub mod transport;
