//! Floor 5: assembly. Each role is built here from its parts, started bottom up and stopped top
//! down; this is the only place that names SQLite, etcd or a real clock.

pub mod ambient;
pub mod boots;
pub mod control;
mod control_serving;
#[cfg(test)]
mod control_tests;
pub mod coordinators;
pub mod credentials;
pub mod descriptors;
pub mod dev;
pub mod group_parts;
mod incarnation;
pub mod key_files;
pub mod lifecycle;
mod local_wiring;
pub mod member;
pub mod member_parts;
pub mod membership;
pub mod memory;
pub mod node;
mod node_metrics;
pub mod node_parts;
pub mod one_process;
pub mod own_keys;
pub mod presence;
mod private_files;
pub mod proxy;
mod renewal;
mod serving;
pub mod standalone;
