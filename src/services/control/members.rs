//! Nodes, proxies and reporters: listed, shown, removed.
//!
//! A node that holds ranges is not removed: it is drained first, or given up where it will not come back, and its copies
//! are made on other nodes ([`super::reconcile`]). Where the only copy of a range is on it, its data would be gone.
//! `lose_data` removes it all the same, and wants the node's name (or UUID, where it has
//! none) typed, so that nobody loses the wrong one. What the node held is then recorded in notices, and
//! its ranges are made anew, empty, on other nodes. A removed member's certificate opens nothing: every
//! inside route looks for its record.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::coordination::values::{NodeDetails, NodeStatus, Notice, Route, from_json, to_json};
use crate::coordination::{Compare, KeyValue, Operation, batches, layout};
use crate::crypto::Key256;
use crate::domain::hash::HashRange;
use crate::domain::ids::{NodeId, Role};
use crate::domain::{Refusal, RefusalKind, TableName, TenantName, Timestamp};
use crate::services::ports::Caller;

use super::history::{ATTEMPTS_MAX, Change, contended, refusal};
use super::keys::{KeyOwner, member_key, member_secret};
use super::plane::ControlPlane;
use super::ranges::{NodeRow, PlannedRange, group_of, holders};
use super::records::{MemberRecord, NodeWish};
use super::sealed::{SecretName, unreadable};
use super::tenants::json;

/// Ranges that a refusal names, at most.
const RANGES_NAMED_MAX: usize = 20;

/// A node for people.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NodeSummary {
    /// Its UUID.
    pub id: NodeId,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How it is, as it or control last wrote.
    pub status: NodeStatus,
    /// Whether its lease runs.
    pub alive: bool,
    /// Where clients reach it.
    pub uri: String,
    /// Its zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Ranges given to it.
    pub ranges: usize,
    /// Ranges that it leads, as last published.
    #[serde(default)]
    pub leads: usize,
    /// Until when it is given no leaderships, because it handed them over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hand_over_until: Option<Timestamp>,
    /// When it joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined_at: Option<Timestamp>,
    /// Free bytes on its data disk, as it last said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
}

/// How a node is to be removed.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveNode {
    /// Remove it though it holds ranges; their data is lost.
    #[serde(default)]
    pub lose_data: bool,
    /// The node's name, typed by a person; needed with `lose_data`.
    #[serde(default)]
    pub typed_name: Option<String>,
}

impl ControlPlane {
    /// All nodes.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn node_list(&self) -> Result<Vec<NodeSummary>, Refusal> {
        let rows = self.node_rows().await?;
        let members = self.member_records(Role::Node).await?;
        let now = self.now();
        let mut leads: BTreeMap<NodeId, usize> = BTreeMap::new();
        for entry in self.coordinator.list(layout::ROUTES).await.map_err(refusal)?.entries {
            if let Ok(route) = from_json::<Route>(&entry.value) {
                *leads.entry(route.node).or_default() += 1;
            }
        }
        let summary = |(id, row): (NodeId, NodeRow)| {
            let member = members.iter().find(|member| member.id == id.0);
            NodeSummary {
                id,
                name: member.and_then(|member| member.name.clone()),
                status: row.status(),
                alive: row.alive,
                uri: row.details.uri,
                zone: row.details.zone,
                ranges: row.ranges.len(),
                leads: leads.get(&id).copied().unwrap_or(0),
                hand_over_until: row.hand_over_until.filter(|until| *until > now),
                joined_at: member.map(|member| member.joined_at),
                free_bytes: row.details.free_bytes,
            }
        };
        Ok(rows.into_iter().map(summary).collect())
    }

    /// How many of the ranges that a node leads another node could lead.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn node_leads_shared(&self, node: NodeId) -> Result<usize, Refusal> {
        let map = self.range_map().await?;
        let alive = |node: &NodeId| map.rows.get(node).is_some_and(|row| row.alive);
        let ranges = map.repair_ranges();
        let led = ranges.iter().filter(|range| range.leader == node);
        Ok(led.filter(|range| range.voters.iter().any(|copy| copy.node != node && alive(&copy.node))).count())
    }

    /// How many of a node's copies could go nowhere if it were emptied.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn node_stuck(&self, node: NodeId) -> Result<usize, Refusal> {
        Ok(self.stuck_at(&self.range_map().await?, node).len())
    }

    /// The ranges given to a node, as (tenant, table, first hash).
    ///
    /// # Errors
    /// `NotFound` where there is no such node.
    pub async fn node_ranges(&self, node: NodeId) -> Result<Vec<(TenantName, TableName, u32)>, Refusal> {
        let row = self.node_rows().await?.remove(&node).ok_or_else(|| no_member(Role::Node, node.0))?;
        Ok(row.ranges.into_iter().map(|key| (key.tenant, key.table, key.low_hash)).collect())
    }

    /// Proxies or reporters.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn member_list(&self, role: Role) -> Result<Vec<MemberRecord>, Refusal> {
        self.member_records(role).await
    }

    /// Records a node that lives in this process (`dstore dev`); details are the node's to write. See
    /// [`ControlPlane::member_register_local`].
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn node_register_local(&self, node: NodeId, name: Option<String>) -> Result<(), Refusal> {
        self.member_register_local(Role::Node, node.0, name).await
    }

    /// Records a member that lives in this process (`dstore dev`) and needs neither invitation nor
    /// certificate, and its part of its key. Safe to call at each start.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn member_register_local(&self, role: Role, id: Uuid, name: Option<String>) -> Result<(), Refusal> {
        let (Some(key), Some(secret)) = (member_key(role, id), member_secret(role, id)) else {
            return Err(no_member(role, id));
        };
        if self.coordinator.get(&key).await.map_err(refusal)?.is_some() {
            return Ok(());
        }
        let now = self.now();
        let record = MemberRecord {
            role,
            id,
            name,
            joined_at: now,
            certificate_until: now,
            wish: NodeWish::Serve,
            hand_over_until: None,
            inside_url: None,
        };
        let part = Key256::random(self.random.as_ref());
        self.commit(Change {
            resource: format!("{role}/{id}"),
            who: "this process",
            before: None,
            after: Some(json(&record)),
            compares: vec![Compare::absent(&key)],
            operations: vec![
                Operation::put(&key, to_json(&record)),
                Operation::put(secret.key(), to_json(&self.vault.first_version(secret, part.expose(), now))),
            ],
        })
        .await?;
        Ok(())
    }

    /// A reporter says where it is asked.
    ///
    /// # Errors
    /// `Denied` where it is no member any more; `BadInput` for what is no URL of TLS.
    pub async fn member_address_set(&self, peer: KeyOwner, inside_url: String) -> Result<(), Refusal> {
        if !inside_url.starts_with("https://") || inside_url.len() > 300 || inside_url.chars().any(char::is_control) {
            return Err(Refusal::bad_input(
                "the inside URL of a member begins with https:// and has 300 characters at most",
            ));
        }
        self.member_confirm(peer).await?;
        let key = member_key(peer.role, peer.id).ok_or_else(|| no_member(peer.role, peer.id))?;
        for _ in 0..ATTEMPTS_MAX {
            let entry = self.coordinator.get(&key).await.map_err(refusal)?;
            let entry = entry.ok_or_else(|| no_member(peer.role, peer.id))?;
            let mut record: MemberRecord = from_json(&entry.value).map_err(|_| unreadable(&key))?;
            if record.inside_url.as_ref() == Some(&inside_url) {
                return Ok(());
            }
            record.inside_url = Some(inside_url.clone());
            let compares = vec![Compare::unchanged(&key, Some(&entry))];
            let operations = vec![Operation::put(&key, to_json(&record))];
            if self.coordinator.transact(compares, operations).await.map_err(refusal)?.succeeded {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// Whether this control plane knows a node.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn node_is_known(&self, node: NodeId) -> Result<bool, Refusal> {
        Ok(self.coordinator.get(&layout::control_node(node)).await.map_err(refusal)?.is_some())
    }

    /// A node's part for a node in this process (`dstore dev`).
    ///
    /// # Errors
    /// `NotFound` where it is not registered.
    pub async fn node_key_local(&self, node: NodeId) -> Result<Vec<(u32, Key256)>, Refusal> {
        self.key_versions(SecretName::Node(node)).await
    }

    /// Says that a node is given up (`down`), to be emptied (`draining`), or welcome again (`okay`). The node writes its
    /// details anew when it starts and when it stops; this is the operator's word, and counts before what they say.
    ///
    /// # Errors
    /// `NotFound` where there is no such node.
    pub async fn node_status_set(&self, caller: &Caller, node: NodeId, status: NodeStatus) -> Result<(), Refusal> {
        let wish = match status {
            NodeStatus::Okay => NodeWish::Serve,
            NodeStatus::Draining => NodeWish::Drain,
            NodeStatus::Down => NodeWish::GiveUp,
            NodeStatus::Unknown => return Err(Refusal::bad_input("a node is okay, draining or down")),
        };
        self.node_wish(caller, node, wish).await
    }

    /// Writes what an operator wants of a node. To serve ends a handing over, too.
    pub(super) async fn node_wish(&self, caller: &Caller, node: NodeId, wish: NodeWish) -> Result<(), Refusal> {
        let set = |record: &mut MemberRecord| {
            record.wish = wish;
            if wish == NodeWish::Serve {
                record.hand_over_until = None;
            }
        };
        self.node_record_set(caller, node, set).await
    }

    /// Changes a node's record; nothing is written where that changes nothing.
    pub(super) async fn node_record_set(
        &self,
        caller: &Caller,
        node: NodeId,
        set: impl Fn(&mut MemberRecord),
    ) -> Result<(), Refusal> {
        let key = layout::control_node(node);
        for _ in 0..ATTEMPTS_MAX {
            let entry = self.coordinator.get(&key).await.map_err(refusal)?;
            let entry = entry.ok_or_else(|| no_member(Role::Node, node.0))?;
            let before: MemberRecord = from_json(&entry.value).map_err(|_| unreadable(&key))?;
            let mut after = before.clone();
            set(&mut after);
            if before == after {
                return Ok(());
            }
            let (mut compares, mut operations) =
                (vec![Compare::unchanged(&key, Some(&entry))], vec![Operation::put(&key, to_json(&after))]);
            if before.wish != after.wish
                && let Some((entry, details)) = self.details_after(node, after.wish).await?
            {
                compares.push(Compare::unchanged(&entry.key, Some(&entry)));
                operations.push(Operation::put(&entry.key, to_json(&details)));
            }
            let done = self
                .commit(Change {
                    resource: format!("node/{node}"),
                    who: &caller.name,
                    before: Some(json(&before)),
                    after: Some(json(&after)),
                    compares,
                    operations,
                })
                .await?;
            if done {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// A node's details with the operator's word in them, for those that read only these; none where it has none yet.
    async fn details_after(&self, node: NodeId, wish: NodeWish) -> Result<Option<(KeyValue, NodeDetails)>, Refusal> {
        let Some(entry) = self.coordinator.get(&layout::node_details(node)).await.map_err(refusal)? else {
            return Ok(None);
        };
        let details: NodeDetails = from_json(&entry.value).map_err(|_| unreadable(&entry.key))?;
        let status = match wish {
            NodeWish::Serve => NodeStatus::Okay,
            NodeWish::Drain => NodeStatus::Draining,
            NodeWish::GiveUp => NodeStatus::Down,
        };
        Ok(Some((entry, NodeDetails { status, ..details })))
    }

    /// Removes a proxy or reporter; its certificate opens nothing from then on.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub async fn member_remove(&self, caller: &Caller, role: Role, id: Uuid) -> Result<(), Refusal> {
        let (Some(key), Some(secret)) = (member_key(role, id), member_secret(role, id)) else {
            return Err(no_member(role, id));
        };
        for _ in 0..ATTEMPTS_MAX {
            let entry = self.coordinator.get(&key).await.map_err(refusal)?.ok_or_else(|| no_member(role, id))?;
            let record: MemberRecord = from_json(&entry.value).map_err(|_| unreadable(&key))?;
            let mut operations = vec![Operation::delete(&key), Operation::delete(secret.key())];
            if role == Role::Node {
                operations.push(Operation::delete(layout::node_details(NodeId(id))));
            }
            let done = self
                .commit(Change {
                    resource: format!("{role}/{id}"),
                    who: &caller.name,
                    before: Some(json(&record)),
                    after: None,
                    compares: vec![Compare::unchanged(&key, Some(&entry))],
                    operations,
                })
                .await?;
            if done {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// Removes a node; see the module's text.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while it holds ranges and `lose_data` is not set; `BadInput` where the name
    /// typed is another.
    pub async fn node_remove(&self, caller: &Caller, node: NodeId, how: RemoveNode) -> Result<(), Refusal> {
        let mut rows = self.node_rows().await?;
        let members = self.member_records(Role::Node).await?;
        let member = members.iter().find(|member| member.id == node.0);
        if member.is_none() && !rows.contains_key(&node) {
            return Err(no_member(Role::Node, node.0));
        }
        let row = rows.remove(&node);
        let held = row.as_ref().map(|row| row.ranges.clone()).unwrap_or_default();
        if !held.is_empty() {
            if !how.lose_data {
                return Err(holds_ranges(node, &held));
            }
            let name = member.and_then(|member| member.name.clone()).unwrap_or_else(|| node.to_string());
            if how.typed_name.as_deref() != Some(name.as_str()) {
                return Err(Refusal::bad_input(format!("to lose the data of this node, type its name: {name}")));
            }
            self.ranges_lose(caller, node, &held, &rows).await?;
        }
        self.member_remove(caller, Role::Node, node.0).await
    }

    /// Makes the ranges of a lost node anew, empty, on other nodes, and says so in notices.
    async fn ranges_lose(
        &self,
        caller: &Caller,
        node: NodeId,
        held: &[layout::RouteKey],
        others: &BTreeMap<NodeId, NodeRow>,
    ) -> Result<(), Refusal> {
        let mut lost_tables: BTreeSet<(TenantName, TableName)> = BTreeSet::new();
        for key in held {
            let route_key = layout::route(&key.tenant, &key.table, key.low_hash);
            let assigned = Operation::delete(layout::node_range(node, &key.tenant, &key.table, key.low_hash));
            let Some(entry) = self.coordinator.get(&route_key).await.map_err(refusal)? else {
                self.coordinator.transact(Vec::new(), vec![assigned]).await.map_err(refusal)?;
                continue;
            };
            let route: Route = from_json(&entry.value).map_err(|_| unreadable(&route_key))?;
            if holders(&route).any(|holder| holder != node) {
                return Err(Refusal::conflict(format!(
                    "the range at {}/{}/{} has copies on other nodes, and loses nothing with this one: give the node up with `dstore control node status {node} down`, wait until it holds nothing that others have too, and remove it then",
                    key.tenant,
                    key.table,
                    layout::low_hash_text(key.low_hash)
                )));
            }
            let single = crate::placement::assign(&super::ranges::candidates(others), 1, 1)
                .map_err(|_| Refusal::unavailable("there is no other node to make the lost ranges on", 5))?;
            let interval = HashRange { low: key.low_hash, high: route.high_hash };
            let nodes = single.into_iter().next().unwrap_or_default();
            let anew = PlannedRange::new(interval, nodes, self.random.as_ref());
            let mut group = group_of(&key.tenant, &key.table, route.table_uuid, &anew, others);
            group.operations.push(assigned);
            let compares = vec![Compare::unchanged(&route_key, Some(&entry))];
            if !self.coordinator.transact(compares, group.operations).await.map_err(refusal)?.succeeded {
                return Err(contended());
            }
            lost_tables.insert((key.tenant.clone(), key.table.clone()));
        }
        let notices = lost_tables.into_iter().enumerate().map(|(index, (tenant, table))| {
            let details = format!(
                "data of the table {table} of {tenant} was lost: the node {node} was removed with --lose-data by {}",
                caller.name
            );
            let key = layout::notice(NodeId(self.plane().0), self.now(), index as u32);
            Operation::put(key, to_json(&Notice::new(details, 1)))
        });
        for piece in batches(notices.collect::<Vec<_>>()) {
            self.coordinator.transact(Vec::new(), piece).await.map_err(refusal)?;
        }
        Ok(())
    }
}

fn holds_ranges(node: NodeId, held: &[layout::RouteKey]) -> Refusal {
    let named: Vec<String> = held
        .iter()
        .take(RANGES_NAMED_MAX)
        .map(|key| format!("{}/{}/{}", key.tenant, key.table, layout::low_hash_text(key.low_hash)))
        .collect();
    let more = held.len().saturating_sub(RANGES_NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let count = if held.len() == 1 { "1 range".to_owned() } else { format!("{} ranges", held.len()) };
    Refusal::conflict(format!(
        "the node {node} holds {count}: {}{more}. Move them to other nodes first with `dstore control node drain`; or lose their data: remove the node with --lose-data and its name",
        named.join(", ")
    ))
}

fn no_member(role: Role, id: Uuid) -> Refusal {
    Refusal::new(RefusalKind::NotFound, format!("there is no {role} {id} at this control plane"))
}
