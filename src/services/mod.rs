//! Floor 3: use cases. A request that has been read and checked by `api` ends up here; what stands on
//! the disk, in etcd or across the network is behind traits of floor 2.
//!
//! - [`ports`]: what `api` calls: items, the catalogue of tenants and tables, who is asking.
//! - [`ranges`]: the operations of one range, by ids: what a proxy asks of a node.
//! - [`range_reports`]: what a node says of the ranges that it holds.
//! - [`wire_reader`]: messages of other processes, taken apart.
//! - [`items`]: from a table and a key to the range and its node.
//! - [`engine`]: a node's storage engine, with the life of a write told in its essay.
//! - [`group`]: the replicas of one range, which agree on its log.
//! - [`replicated`]: a node's ranges, each through its group where it has one.
//! - [`access`]: bearer tokens in, callers out.
//! - [`access_keys`]: the access keys that signatures are checked with.
//! - [`routing`]: who serves which hash, followed from the coordinator and kept on disk.
//! - [`sealed_copy`]: copies on disk, sealed under the component's key.
//! - [`assignments`]: a node follows what control gives it.
//! - [`node_directory`]: where the nodes are that it shares ranges with.
//! - [`log_level`]: how much is logged, changed while the cluster runs.
//! - [`observing`]: what is noted of a request: its tag, its trace, its stages.
//! - [`notices`]: what a component wants a person to know, on its way into the coordinator.
//! - [`publishing`]: and says under its routes that it serves them.
//! - [`reconfiguring`]: its leaders bring their groups to the copies that control wants.
//! - [`splitting`]: and split their ranges where control wishes for it.
//! - [`tenant_limits`]: what tenants may use at most is held.
//! - [`expiring`]: items that have expired are removed.
//! - [`scrubbing`]: damage is looked for in the background, and damaged copies are given up.
//! - [`usage`]: what tenants use is counted, and kept on disk until reporting has it.
//! - [`rolled_back`]: a node whose data folder is an older copy of itself gives its copies up.
//! - [`usage`]: what a component counted, as whoever gathers it asks for it.
//! - [`reporting`]: it is gathered, kept, answered and handed on.
//! - [`control`]: the control plane: tenants, tables, members, keys, principals.

pub mod access;
pub mod access_keys;
pub mod assignments;
pub mod control;
pub mod engine;
pub mod expiring;
pub mod group;
pub mod items;
pub mod key_rounds;
pub mod log_level;
pub mod node_directory;
pub mod notices;
pub mod observing;
pub mod ports;
pub mod publishing;
pub mod range_reports;
pub mod ranges;
pub mod reconfiguring;
pub mod replicated;
pub mod reporting;
pub mod retirement;
pub mod rolled_back;
pub mod routing;
pub mod scrubbing;
pub mod sealed_copy;
pub mod splitting;
pub mod tenant_limits;
pub mod usage;
pub mod wire_reader;
