//! The spelling of every key in the coordinator; nobody else puts one together or takes one apart.
//!
//! Keys are relative to the configured prefix, which the implementations add. Parts are divided by
//! `/`; no part can hold one, since names are checked and ids are UUIDs. A prefix to list always ends
//! in `/`, so that table `ab` never shows the keys of `abc`.
//!
//! | key | value | written by |
//! |---|---|---|
//! | `node/{uuid}/details` | [`NodeDetails`](super::values::NodeDetails) | node, control |
//! | `node/{uuid}/alive` | `{}`, under a lease | node |
//! | `node/{uuid}/id/{tenant}/{table}/hash/{lowHash}` | [`AssignedRange`](super::values::AssignedRange) | control |
//! | `node/{uuid}/id/{tenant}/{table}/details` | [`TableAtNode`](super::values::TableAtNode) | node |
//! | `proxy/{uuid}/alive` | [`ProxyAlive`](super::values::ProxyAlive), under a lease | proxy |
//! | `tenant/{tenant}/{table}/{lowHash}` | [`Route`](super::values::Route) | control creates; the range's leader |
//! | `notice/{uuid}/{timestamp}` | [`Notice`](super::values::Notice) | node, proxy |
//! | `stored/{uuid}` | [`StoredBytes`](super::values::StoredBytes), under a lease | node |
//! | `control/range/{uuid}` | [`RangeWish`](super::values::RangeWish) | control |
//! | `control/…` | what control needs | control |
//!
//! `{lowHash}` is ten decimals with leading zeros (`u32::MAX` has ten), so that the order of keys is the
//! order of hashes. `{timestamp}` is RFC 3339 in UTC with microseconds, `-` and a counter of six digits:
//! two notices of one microsecond stay two, and the order of keys is the order of time.
//!
//! Keys name tables by name, as people read them; values carry the table's UUID, which is what counts
//! when a name was deleted and given again.

use std::str::FromStr;

use crate::domain::ids::{ControlId, NodeId, PrincipalId, ProxyId, ReporterId, SessionId, TableId};
use crate::domain::{TableName, TenantName, Timestamp};

/// All routes.
pub const ROUTES: &str = "tenant/";
/// All nodes' own keys.
pub const NODES: &str = "node/";
/// All proxies' own keys.
pub const PROXIES: &str = "proxy/";
/// All notices.
pub const NOTICES: &str = "notice/";
/// What nodes store of tenants that have a limit of it.
pub const STORED: &str = "stored/";
/// All tenants' definitions.
pub const CONTROL_TENANTS: &str = "control/tenant/";
/// All tables' definitions.
pub const CONTROL_TABLES: &str = "control/table/";
/// Tables that were dropped and can still be brought back.
pub const CONTROL_TABLES_DELETED: &str = "control/table-deleted/";
/// All principals.
pub const CONTROL_PRINCIPALS: &str = "control/principal/";
/// All access keys (sealed secrets).
pub const CONTROL_ACCESS_KEYS: &str = "control/access-key/";
/// All sessions, with revocations.
pub const CONTROL_SESSIONS: &str = "control/session/";
/// All roles: named sets of grants.
pub const CONTROL_ROLES: &str = "control/role/";
/// Control's records of nodes.
pub const CONTROL_NODES: &str = "control/node/";
/// Control's records of proxies.
pub const CONTROL_PROXIES: &str = "control/proxy/";
/// Control's records of reporters.
pub const CONTROL_REPORTERS: &str = "control/reporter/";
/// Join tokens not yet used (digests).
pub const CONTROL_JOIN_TOKENS: &str = "control/join-token/";
/// Sealed keys.
pub const CONTROL_KEYS: &str = "control/key/";
/// What admins did, by time.
pub const CONTROL_EVENTS: &str = "control/event/";
/// Long-running jobs.
pub const CONTROL_JOBS: &str = "control/job/";
/// Versions of resources.
pub const CONTROL_HISTORY: &str = "control/history/";
/// Changes control asks of a range's leader.
pub const CONTROL_RANGES: &str = "control/range/";
/// Who leads control; under a lease.
pub const CONTROL_ELECTION: &str = "control/election";
/// The cluster's own record.
pub const CONTROL_CLUSTER: &str = "control/cluster";
/// The log level that is wished for.
pub const CONTROL_LOG_LEVEL: &str = "control/log-level";

/// `{lowHash}`: ten decimals.
pub fn low_hash_text(low_hash: u32) -> String {
    format!("{low_hash:010}")
}

fn parse_low_hash(text: &str) -> Option<u32> {
    (text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// `{timestamp}`: RFC 3339 in UTC with microseconds, then `-` and the counter in six digits.
pub fn timestamp_text(at: Timestamp, counter: u32) -> String {
    // RFC 3339 ends with the year 9999; later times are shown as the last there is.
    let micros = i64::try_from(at.0).unwrap_or(i64::MAX);
    let instant = jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX);
    format!("{instant:.6}-{counter:06}")
}

/// Everything of one node.
pub fn node(node: NodeId) -> String {
    format!("node/{node}/")
}

/// A node's state and address.
pub fn node_details(node: NodeId) -> String {
    format!("node/{node}/details")
}

/// There while the node renews its lease.
pub fn node_alive(node: NodeId) -> String {
    format!("node/{node}/alive")
}

/// Everything a node holds, or should.
pub fn node_tables(node: NodeId) -> String {
    format!("node/{node}/id/")
}

/// What a node says of one table it holds.
pub fn node_table_details(node: NodeId, tenant: &TenantName, table: &TableName) -> String {
    format!("node/{node}/id/{tenant}/{table}/details")
}

/// The ranges of one table that control has given to a node.
pub fn node_table_ranges(node: NodeId, tenant: &TenantName, table: &TableName) -> String {
    format!("node/{node}/id/{tenant}/{table}/hash/")
}

/// One range that control has given to a node.
pub fn node_range(node: NodeId, tenant: &TenantName, table: &TableName, low_hash: u32) -> String {
    format!("node/{node}/id/{tenant}/{table}/hash/{low_hash:010}")
}

/// Everything of one proxy.
pub fn proxy(proxy: ProxyId) -> String {
    format!("{PROXIES}{proxy}/")
}

/// Where a proxy is reached; there while it renews its lease.
pub fn proxy_alive(proxy: ProxyId) -> String {
    format!("{PROXIES}{proxy}/alive")
}

/// All routes of a tenant.
pub fn tenant_routes(tenant: &TenantName) -> String {
    format!("tenant/{tenant}/")
}

/// All routes of a table.
pub fn table_routes(tenant: &TenantName, table: &TableName) -> String {
    format!("tenant/{tenant}/{table}/")
}

/// The route of the range that begins at `low_hash`.
pub fn route(tenant: &TenantName, table: &TableName, low_hash: u32) -> String {
    format!("tenant/{tenant}/{table}/{low_hash:010}")
}

/// All notices of a node, or of another component under its UUID.
pub fn node_notices(node: NodeId) -> String {
    format!("notice/{node}/")
}

/// One notice of a node.
pub fn notice(node: NodeId, at: Timestamp, counter: u32) -> String {
    format!("notice/{node}/{}", timestamp_text(at, counter))
}

/// What a node stores of tenants that have a limit of it; there while the node renews its lease.
pub fn stored(node: NodeId) -> String {
    format!("{STORED}{node}")
}

/// A tenant's definition.
pub fn control_tenant(tenant: &TenantName) -> String {
    format!("{CONTROL_TENANTS}{tenant}")
}

/// All of a tenant's tables' definitions.
pub fn control_tenant_tables(tenant: &TenantName) -> String {
    format!("{CONTROL_TABLES}{tenant}/")
}

/// A table's definition.
pub fn control_table(tenant: &TenantName, table: &TableName) -> String {
    format!("{CONTROL_TABLES}{tenant}/{table}")
}

/// A dropped table, until it is gone for good.
pub fn control_table_deleted(table: TableId) -> String {
    format!("{CONTROL_TABLES_DELETED}{table}")
}

/// A principal.
pub fn control_principal(principal: PrincipalId) -> String {
    format!("{CONTROL_PRINCIPALS}{principal}")
}

/// An access key, by its public id (letters and digits; anything else is escaped).
pub fn control_access_key(access_key_id: &str) -> String {
    format!("{CONTROL_ACCESS_KEYS}{}", escape(access_key_id))
}

/// A session.
pub fn control_session(session: SessionId) -> String {
    format!("{CONTROL_SESSIONS}{session}")
}

/// A named set of grants.
pub fn control_role(name: &str) -> String {
    format!("{CONTROL_ROLES}{}", escape(name))
}

/// Control's record of a node.
pub fn control_node(node: NodeId) -> String {
    format!("{CONTROL_NODES}{node}")
}

/// Control's record of a proxy.
pub fn control_proxy(proxy: ProxyId) -> String {
    format!("{CONTROL_PROXIES}{proxy}")
}

/// Control's record of a reporter.
pub fn control_reporter(reporter: ReporterId) -> String {
    format!("{CONTROL_REPORTERS}{reporter}")
}

/// A join token, by the hexadecimal digest of its secret.
pub fn control_join_token(digest_hex: &str) -> String {
    format!("{CONTROL_JOIN_TOKENS}{}", escape(digest_hex))
}

/// A sealed key, by its name; the name may have parts (`tenant/{uuid}`).
pub fn control_key(parts: &[&str]) -> String {
    let escaped: Vec<String> = parts.iter().map(|part| escape(part)).collect();
    format!("{CONTROL_KEYS}{}", escaped.join("/"))
}

/// A long-running job.
pub fn control_job(job: uuid::Uuid) -> String {
    format!("{CONTROL_JOBS}{job}")
}

/// One version of a resource, named by its key under `control/` (`table/acme/users`); ten decimals.
pub fn control_history(resource: &str, number: u32) -> String {
    format!("{CONTROL_HISTORY}{resource}/{number:010}")
}

/// Something that an admin did; the counter tells apart what was done at the same time.
pub fn control_event(at: Timestamp, counter: u32) -> String {
    format!("{CONTROL_EVENTS}{}", timestamp_text(at, counter))
}

/// All versions of a resource.
pub fn control_history_of(resource: &str) -> String {
    format!("{CONTROL_HISTORY}{resource}/")
}

/// What control asks the leader of a range to change.
pub fn control_range(range: crate::domain::ids::RangeId) -> String {
    format!("{CONTROL_RANGES}{range}")
}

/// What an instance of control writes under [`CONTROL_ELECTION`].
pub fn control_election_value(instance: ControlId) -> String {
    instance.to_string()
}

/// Keeps letters, digits, `-`, `_` and `.`; everything else becomes `%` and two hexadecimal digits.
fn escape(part: &str) -> String {
    let mut text = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            text.push(byte as char);
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// A route's key, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// The tenant.
    pub tenant: TenantName,
    /// The table.
    pub table: TableName,
    /// Where the range begins.
    pub low_hash: u32,
}

impl RouteKey {
    /// The parts of `tenant/{tenant}/{table}/{lowHash}`; `None` for anything else.
    pub fn parse(key: &str) -> Option<Self> {
        let mut parts = key.strip_prefix(ROUTES)?.split('/');
        let parsed = Self {
            tenant: TenantName::new(parts.next()?).ok()?,
            table: TableName::new(parts.next()?).ok()?,
            low_hash: parse_low_hash(parts.next()?)?,
        };
        parts.next().is_none().then_some(parsed)
    }
}

/// A key under `node/`, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKey {
    /// `node/{uuid}/details`
    Details(NodeId),
    /// `node/{uuid}/alive`
    Alive(NodeId),
    /// `node/{uuid}/id/{tenant}/{table}/details`
    Table(NodeId, TenantName, TableName),
    /// `node/{uuid}/id/{tenant}/{table}/hash/{lowHash}`
    Range(NodeId, RouteKey),
}

impl NodeKey {
    /// The parts of a key under `node/`; `None` for one that is not of this layout.
    pub fn parse(key: &str) -> Option<Self> {
        let (node, rest) = key.strip_prefix(NODES)?.split_once('/')?;
        let node = NodeId::from_str(node).ok()?;
        match rest {
            "details" => return Some(NodeKey::Details(node)),
            "alive" => return Some(NodeKey::Alive(node)),
            _ => {}
        }
        let parts: Vec<&str> = rest.strip_prefix("id/")?.split('/').collect();
        match parts.as_slice() {
            [tenant, table, "details"] => {
                Some(NodeKey::Table(node, TenantName::new(tenant).ok()?, TableName::new(table).ok()?))
            }
            [tenant, table, "hash", low_hash] => {
                let tenant = TenantName::new(tenant).ok()?;
                let table = TableName::new(table).ok()?;
                Some(NodeKey::Range(node, RouteKey { tenant, table, low_hash: parse_low_hash(low_hash)? }))
            }
            _ => None,
        }
    }
}

/// The range of `control/range/{uuid}`.
pub fn parse_control_range(key: &str) -> Option<crate::domain::ids::RangeId> {
    key.strip_prefix(CONTROL_RANGES)?.parse().ok()
}

/// The proxy of `proxy/{uuid}/alive`.
pub fn parse_proxy_alive(key: &str) -> Option<ProxyId> {
    key.strip_prefix(PROXIES)?.strip_suffix("/alive")?.parse().ok()
}

/// The time in a `{timestamp}`.
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let (at, _) = text.rsplit_once('-')?;
    let at: jiff::Timestamp = at.parse().ok()?;
    u64::try_from(at.as_microsecond()).ok().map(Timestamp)
}

/// The parts of `control/table/{tenant}/{table}`.
pub fn parse_control_table(key: &str) -> Option<(TenantName, TableName)> {
    let (tenant, table) = key.strip_prefix(CONTROL_TABLES)?.split_once('/')?;
    Some((TenantName::new(tenant).ok()?, TableName::new(table).ok()?))
}

/// The name in `control/tenant/{tenant}`.
pub fn parse_control_tenant(key: &str) -> Option<TenantName> {
    TenantName::new(key.strip_prefix(CONTROL_TENANTS)?).ok()
}

/// The node of `stored/{uuid}`.
pub fn parse_stored(key: &str) -> Option<NodeId> {
    key.strip_prefix(STORED)?.parse().ok()
}

/// The node and the `{timestamp}` of `notice/{uuid}/{timestamp}`.
pub fn parse_notice(key: &str) -> Option<(NodeId, &str)> {
    let (node, timestamp) = key.strip_prefix(NOTICES)?.split_once('/')?;
    Some((NodeId::from_str(node).ok()?, timestamp))
}

#[cfg(test)]
mod tests;
