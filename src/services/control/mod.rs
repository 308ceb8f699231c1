//! The control plane's services: tenants, tables, members, keys, principals. All state stands in the
//! coordinator; a control process can be killed at any moment and another goes on.
//!
//! # How a change is made
//! Read what is there, decide, and commit with a compare on what was read; where the compare fails,
//! begin again. So any number of instances may change things at once and none overwrites what it
//! has not seen. Each commit carries its history record in the same transaction (`history.rs`).
//!
//! What does not fit one transaction (a table of a thousand ranges; etcd takes 128 operations) begins
//! with an intent record and ends with the one record that makes it visible; `maintain.rs` carries
//! on or takes back what a killed process left. The order is always: what others act on last when
//! something is made, first when it is removed.
//!
//! # Secrets
//! Every secret that control keeps (key parts, token keys, the certificate authority's key, secrets
//! of access keys) is sealed under the control key before it goes to the coordinator (`sealed.rs`).
//! Parts of keys are handed to exactly the role and UUID that the peer's certificate names
//! (`keys.rs`); no function here gives a part to anyone else, and the admin API has no way to ask.
//!
//! | file | what |
//! |---|---|
//! | `plane.rs` | [`ControlPlane`]: made by `create`, opened by `open` |
//! | `records.rs` | the records under `control/…` |
//! | `sealed.rs` | secrets, sealed in the coordinator |
//! | `history.rs` | commits with history; optimistic numbers |
//! | `view.rs` | tenants and tables in memory, kept true by a watch |
//! | `tenants.rs`, `tables.rs`, `ranges.rs`, `range_list.rs`, `undelete.rs` | what users own, and where it lives |
//! | `reconcile.rs`, `range_map.rs`, `range_moves.rs`, `range_splits.rs` | copies of ranges: how many, where, who leads |
//! | `catalog.rs` | all that as [`Catalog`](crate::services::ports::Catalog) |
//! | `join.rs`, `members.rs`, `keys.rs` | nodes, proxies, reporters, and their parts of keys |
//! | `handed.rs` | what members were given, given again while the coordinator is away |
//! | `access_feed.rs`, `access_mirror.rs` | what whoever checks credentials has to know, here and at members |
//! | `set_aside.rs` | records that cannot be read, passed over |
//! | `principals.rs`, `access_keys.rs`, `sessions.rs` | who may ask |
//! | `notices.rs`, `events.rs` | what a person should know, and what admins did |
//! | `recovery.rs` | what survives losing everything |
//! | `remote.rs`, `wire.rs` | control as its members reach it, and what is said |
//! | `log_level.rs` | how much all processes log, for a while |
//! | `upgrade.rs` | the version of the formats that all members know |
//! | `remote_reports.rs`, `remote_usage.rs` | nodes and reporters as control reaches them |
//! | `usage.rs` | what was used, asked of a reporter |
//! | `election.rs`, `maintain.rs`, `hygiene.rs` | one instance leads, cleans up, and keeps the coordinator small |
//!
//! Left out on purpose: permission checks. They stand in one place, in front of the handlers; what
//! is here does what it is told, by whom is only written into the history.

mod access_feed;
mod access_keys;
mod access_mirror;
mod catalog;
pub mod election;
mod events;
mod handed;
mod history;
mod hygiene;
mod inside_members;
mod join;
mod keys;
mod log_level;
mod maintain;
mod members;
mod notices;
mod plane;
mod principals;
mod range_list;
mod range_map;
mod range_moves;
mod range_splits;
mod ranges;
mod reconcile;
pub mod records;
mod recovery;
pub mod remote;
mod remote_reports;
mod remote_usage;
mod sealed;
mod sessions;
mod set_aside;
mod tables;
mod tenant_limits;
mod tenants;
mod undelete;
mod upgrade;
mod usage;
mod view;
pub mod wire;

pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use access_feed::{AccessSnapshot, apply as access_apply};
pub use access_keys::{AccessKeyCreated, AccessKeySecret, no_access_key};
pub use access_mirror::{ACCESS_PAUSE, AccessMirror, AccessSource, AccessStatus, fuzz_access_copy};
pub use history::{HistoryPage, no_history};
pub use hygiene::HISTORY_SECONDS_KEPT;
pub use join::{Invitation, JoinRequest, Joined, token_parts};
pub use keys::{KeyDescription, KeyOwner, KeyPart, KeyParts};
pub use maintain::MaintenanceReport;
pub use members::{NodeSummary, RemoveNode};
pub use notices::NoticeEntry;
pub use plane::{ControlOptions, ControlPlane, Created, NODE_LOST_AFTER_SECONDS};
pub use principals::{PrincipalRequest, no_principal};
pub use range_moves::HAND_OVER_SECONDS;
pub use range_splits::SplitAnswer;
pub use ranges::{RangeDescription, ReplicaDescription};
pub use reconcile::{PlacementReport, PlacementSummary};
pub use recovery::{RecoveryContents, RecoverySummary};
pub use remote_reports::RemoteReports;
pub use remote_usage::RemoteUsageReports;
pub use sealed::SecretName;
pub use sessions::{SessionStart, TokenGrant, no_session};
pub use upgrade::{NodeUpgrade, UpgradeStatus, check_cluster_format};
pub use usage::UsageAsked;
