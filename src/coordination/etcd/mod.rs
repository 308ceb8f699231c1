//! The coordinator for clusters: etcd, version 3.4 or later.
//!
//! * `client.rs`: [`EtcdCoordinator`], our trait over the `etcd-client` crate.
//! * `watch.rs`: etcd's watch stream as ours.
//! * `errors.rs`: which of etcd's errors means what to us. What may have happened is told apart from what did not.
//! * `roles.rs`: the roles and users in etcd that hold each [`Writer`](super::Writer) to its keys.
//!
//! The connection is made when it is first needed, not at start: a proxy must be able to start, and
//! route from its copy on disk, while etcd is away. The client library connects again by itself; what it
//! does not do, and we do, is bound every request by a time and fetch a new token where a restarted
//! server no longer knows the old one. Nothing else is tried twice here: whoever called knows better.

mod client;
mod errors;
mod roles;
#[cfg(test)]
mod tests;
mod watch;

pub use client::{EtcdCoordinator, EtcdOptions, EtcdTls, QUOTA_BYTES_DEFAULT};
pub use roles::{enable_authentication, install_roles, remove_writer};
