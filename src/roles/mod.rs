//! Floor 5: assembly. Each role is built here from its parts, started bottom up and stopped top
//! down; this is the only place that names SQLite, etcd or a real clock.

pub mod ambient;
mod away;
pub mod boots;
pub mod control;
mod control_serving;
#[cfg(test)]
mod control_tests;
pub mod coordinators;
pub mod credentials;
pub mod descriptors;
pub mod dev;
mod expiring;
pub mod group_parts;
mod incarnation;
mod inside;
pub mod key_files;
pub mod lifecycle;
pub mod limiting;
mod local_reporting;
mod local_wiring;
mod logging;
pub mod member;
pub mod member_parts;
pub mod membership;
pub mod memory;
pub mod node;
mod node_gauges;
mod node_metrics;
mod node_opening;
pub mod node_parts;
mod observing;
pub mod one_process;
pub mod own_keys;
pub mod presence;
mod private_files;
mod process_metrics;
pub mod proxy;
mod proxy_presence;
mod renewal;
pub mod reporting;
mod reporting_store;
mod serving;
pub mod sinks;
pub mod standalone;
