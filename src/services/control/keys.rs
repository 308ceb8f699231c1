//! Control's parts of keys: handed out, rotated, listed.
//!
//! A part goes to exactly the component it is for. The caller of these functions is the inside API,
//! which has the peer's role and UUID from its certificate; nothing a peer writes into a request
//! decides what it gets:
//!
//! | peer | gets |
//! |---|---|
//! | node | its own part; the parts of tenants that have (or had, while recoverable) ranges on it |
//! | proxy | its own part; the token keys |
//! | reporting | its own part |
//!
//! # Rotation
//! `key_rotate` adds a version; old and new are handed out together, and holders rewrap what is
//! sealed under the old. A holder reports the lowest version it still uses (`key_in_use`), counted
//! from what is durable on its disk, log segments included. When every holder reports the new one
//! the old version is removed, and cannot come back. A holder that was never heard of keeps the old
//! one: a node that is down for a week must find its key.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::coordination::values::to_json;
use crate::coordination::{Compare, Operation, layout};
use crate::crypto::Key256;
use crate::domain::ids::{NodeId, ProxyId, ReporterId, Role, TenantId};
use crate::domain::table::Tenant;
use crate::domain::{Refusal, RefusalKind, Timestamp};
use crate::services::ports::Caller;

use super::history::{ATTEMPTS_MAX, Change, contended, refusal};
use super::plane::ControlPlane;
use super::ranges::holders;
use super::records::{DeletedTableRecord, MemberRecord, SealedKeyRecord};
use super::sealed::{SecretName, key_of};

/// Versions of a key that may exist at once.
const VERSIONS_MAX: usize = 2;

/// The peer that asks, as its certificate names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyOwner {
    /// Its role.
    pub role: Role,
    /// Its UUID.
    pub id: Uuid,
}

/// One version of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPart {
    /// Its version.
    pub version: u32,
    /// The part.
    pub part: Key256,
}

/// What a component is given.
#[derive(Debug, Clone, Default)]
pub struct KeyParts {
    /// Its own part, all versions that are kept, ascending.
    pub own: Vec<KeyPart>,
    /// For a node: the parts of the tenants it holds ranges of.
    pub tenants: Vec<(TenantId, Vec<KeyPart>)>,
    /// For nodes and proxies: the keys that tokens are sealed under, the current one last.
    pub token_keys: Vec<KeyPart>,
}

/// What `key list` shows of a key: never bytes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeyDescription {
    /// `node`, `proxy`, `reporting`, `tenant`, `token` or `authority`.
    pub kind: String,
    /// Whose it is; none for what the cluster has once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Uuid>,
    /// The newest version.
    pub version: u32,
    /// The older version, while it is rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_version: Option<u32>,
    /// When the newest version was made.
    pub created_at: Timestamp,
    /// Its age, in whole seconds.
    pub age_seconds: u64,
}

impl ControlPlane {
    /// The parts that a peer may have, as the coordinator has them.
    ///
    /// # Errors
    /// `Denied` where the peer is no (longer a) member, or of a role that has none.
    pub(super) async fn key_parts_now(&self, peer: KeyOwner) -> Result<KeyParts, Refusal> {
        self.member_check(peer).await?;
        match peer.role {
            Role::Node => {
                let node = NodeId(peer.id);
                let mut tenants = Vec::new();
                for tenant in self.tenants_on(node).await? {
                    // A tenant removed meanwhile has no key any more, and nobody needs one.
                    if let Some(stored) = self.secret_record(SecretName::Tenant(tenant)).await? {
                        tenants.push((tenant, self.parts(SecretName::Tenant(tenant), &stored.record)?));
                    }
                }
                Ok(KeyParts {
                    own: self.parts_of(SecretName::Node(node)).await?,
                    tenants,
                    token_keys: self.parts_of(SecretName::Token).await?,
                })
            }
            Role::Proxy => Ok(KeyParts {
                own: self.parts_of(SecretName::Proxy(ProxyId(peer.id))).await?,
                tenants: Vec::new(),
                token_keys: self.parts_of(SecretName::Token).await?,
            }),
            Role::Reporting => Ok(KeyParts {
                own: self.parts_of(SecretName::Reporting(ReporterId(peer.id))).await?,
                ..KeyParts::default()
            }),
            Role::Control => Err(not_yours()),
        }
    }

    /// A tenant's part for a node, which must have ranges of the tenant, as the coordinator has it.
    ///
    /// # Errors
    /// `NotFound` for a node where there is no such part (any more): it may destroy its own. `Denied` for
    /// anyone else.
    pub(super) async fn tenant_key_parts_now(&self, peer: KeyOwner, tenant: TenantId) -> Result<Vec<KeyPart>, Refusal> {
        self.member_check(peer).await?;
        if peer.role != Role::Node {
            return Err(not_yours());
        }
        if self.secret_record(SecretName::Tenant(tenant)).await?.is_none() {
            return Err(Refusal::not_found("this control plane has no key of that tenant"));
        }
        if !self.tenants_on(NodeId(peer.id)).await?.contains(&tenant) {
            return Err(not_yours());
        }
        self.parts_of(SecretName::Tenant(tenant)).await
    }

    /// The keys that tokens are sealed under, the current one last. For control itself and `dstore dev`.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn token_keys(&self) -> Result<Vec<KeyPart>, Refusal> {
        self.parts_of(SecretName::Token).await
    }

    /// A tenant's part for a node in this process (`dstore dev`), where no certificate stands between.
    ///
    /// # Errors
    /// `NotFound` where the tenant has none.
    pub async fn tenant_key_local(&self, tenant: TenantId) -> Result<Vec<KeyPart>, Refusal> {
        self.parts_of(SecretName::Tenant(tenant)).await
    }

    async fn parts_of(&self, name: SecretName) -> Result<Vec<KeyPart>, Refusal> {
        let stored = self
            .secret_record(name)
            .await?
            .ok_or_else(|| Refusal::not_found(format!("this control plane has no {} key of that UUID", name.kind())))?;
        self.parts(name, &stored.record)
    }

    fn parts(&self, name: SecretName, record: &SealedKeyRecord) -> Result<Vec<KeyPart>, Refusal> {
        let part =
            |(version, secret): (u32, zeroize::Zeroizing<Vec<u8>>)| Ok(KeyPart { version, part: key_of(&secret)? });
        self.open_versions(name, record)?.into_iter().map(part).collect()
    }

    /// Tenants that have ranges on a node, or had, in tables that can still be brought back.
    async fn tenants_on(&self, node: NodeId) -> Result<BTreeSet<TenantId>, Refusal> {
        let listing = self.coordinator.list(&layout::node_tables(node)).await.map_err(refusal)?;
        let names: BTreeSet<_> = listing
            .entries
            .iter()
            .filter_map(|entry| match layout::NodeKey::parse(&entry.key) {
                Some(layout::NodeKey::Range(_, range)) => Some(range.tenant),
                _ => None,
            })
            .collect();
        let mut tenants = BTreeSet::new();
        for name in names {
            if let Some((tenant, _)) = self.tenant_read(&name).await? {
                tenants.insert(tenant.id);
            }
        }
        for (_, dropped) in self.records::<DeletedTableRecord>(layout::CONTROL_TABLES_DELETED).await? {
            if dropped.ranges.iter().any(|range| range.replicas.iter().any(|(holder, _)| *holder == node)) {
                tenants.insert(dropped.table.tenant_id);
            }
        }
        Ok(tenants)
    }

    /// Confirms that a peer is a member.
    ///
    /// # Errors
    /// `Denied` where it is not (any more).
    pub async fn member_confirm(&self, peer: KeyOwner) -> Result<(), Refusal> {
        self.member_check(peer).await
    }

    /// Refuses whoever is no member: a certificate outlives a removal, the record does not.
    pub(super) async fn member_check(&self, peer: KeyOwner) -> Result<(), Refusal> {
        let key = member_key(peer.role, peer.id).ok_or_else(not_yours)?;
        match self.coordinator.get(&key).await.map_err(refusal)? {
            Some(_) => Ok(()),
            None => Err(Refusal::new(
                RefusalKind::Denied,
                format!("{} {} is not a member of this control plane (any more)", peer.role, peer.id),
            )),
        }
    }

    /// All keys, without a byte of them.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn key_list(&self) -> Result<Vec<KeyDescription>, Refusal> {
        let now = self.now();
        let mut keys = Vec::new();
        for (entry, record) in self.records::<SealedKeyRecord>(layout::CONTROL_KEYS).await? {
            let (Some(name), Some(newest)) = (SecretName::from_key(&entry.key), record.versions.last()) else {
                continue;
            };
            keys.push(KeyDescription {
                kind: name.kind().to_owned(),
                owner: name.owner(),
                version: newest.version,
                old_version: (record.versions.len() > 1).then(|| record.versions[0].version),
                created_at: newest.created_at,
                age_seconds: now.seconds_since(newest.created_at),
            });
        }
        Ok(keys)
    }

    /// Begins the rotation of a key: adds a version, keeps the one before. The new version.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while the last rotation has not ended; `BadInput` for the authority.
    pub async fn key_rotate(&self, caller: &Caller, name: SecretName) -> Result<u32, Refusal> {
        if name == SecretName::Authority {
            return Err(Refusal::bad_input("the authority's key cannot be rotated alone: its certificate names it"));
        }
        for _ in 0..ATTEMPTS_MAX {
            let Some(stored) = self.secret_record(name).await? else {
                return Err(Refusal::not_found(format!("there is no {} key of that UUID", name.kind())));
            };
            let mut record = stored.record;
            if record.versions.len() >= VERSIONS_MAX {
                return Err(Refusal::conflict(
                    "the last rotation has not ended: some holder still uses the older version",
                ));
            }
            let version = record.versions.last().map_or(1, |newest| newest.version + 1);
            let secret = Key256::random(self.random.as_ref());
            record.versions.push(self.vault.version(name, version, secret.expose(), self.now()));
            record.in_use.clear();
            let owner = name.owner().map(|owner| format!("/{owner}")).unwrap_or_default();
            let done = self
                .commit(Change {
                    resource: format!("key/{}{owner}", name.kind()),
                    who: &caller.name,
                    before: Some(serde_json::json!({ "version": version - 1 })),
                    after: Some(serde_json::json!({ "version": version })),
                    compares: vec![Compare::unchanged(&stored.entry.key, Some(&stored.entry))],
                    operations: vec![Operation::put(&stored.entry.key, to_json(&record))],
                })
                .await?;
            if done {
                return Ok(version);
            }
        }
        Err(contended())
    }

    /// A holder says which version of a key is the lowest that it still uses. Where that ends the
    /// rotation, the older version is removed; true then.
    ///
    /// # Errors
    /// `Denied` where the peer does not hold this key.
    pub async fn key_in_use(&self, peer: KeyOwner, name: SecretName, version_min: u32) -> Result<bool, Refusal> {
        self.member_check(peer).await?;
        for _ in 0..ATTEMPTS_MAX {
            let holders = self.key_holders(name).await?;
            if !holders.contains(&peer.id) {
                return Err(not_yours());
            }
            let Some(stored) = self.secret_record(name).await? else { return Err(not_yours()) };
            let mut record = stored.record;
            let before = record.clone();
            record.in_use.retain(|holder, _| holders.contains(holder));
            record.in_use.insert(peer.id, version_min);
            let newest = record.versions.last().map_or(0, |version| version.version);
            let ended = record.versions.len() > 1
                && holders.iter().all(|holder| record.in_use.get(holder).is_some_and(|version| *version >= newest));
            if ended {
                record.versions.retain(|version| version.version == newest);
            }
            if record == before {
                return Ok(false);
            }
            let compares = vec![Compare::unchanged(&stored.entry.key, Some(&stored.entry))];
            let operations = vec![Operation::put(&stored.entry.key, to_json(&record))];
            if self.coordinator.transact(compares, operations).await.map_err(refusal)?.succeeded {
                return Ok(ended);
            }
        }
        Err(contended())
    }

    /// Who holds something that is sealed under a key.
    async fn key_holders(&self, name: SecretName) -> Result<BTreeSet<Uuid>, Refusal> {
        match name {
            SecretName::Node(_) | SecretName::Proxy(_) | SecretName::Reporting(_) => {
                Ok(name.owner().into_iter().collect())
            }
            SecretName::Token | SecretName::Authority => Ok(BTreeSet::new()),
            SecretName::Tenant(tenant) => {
                let mut nodes = BTreeSet::new();
                for (_, other) in self.records::<Tenant>(layout::CONTROL_TENANTS).await? {
                    if other.id != tenant {
                        continue;
                    }
                    for (_, route) in
                        self.records::<crate::coordination::values::Route>(&layout::tenant_routes(&other.name)).await?
                    {
                        nodes.extend(holders(&route).map(|node| node.0));
                    }
                }
                for (_, dropped) in self.records::<DeletedTableRecord>(layout::CONTROL_TABLES_DELETED).await? {
                    if dropped.table.tenant_id == tenant {
                        nodes.extend(
                            dropped.ranges.iter().flat_map(|range| range.replicas.iter().map(|(node, _)| node.0)),
                        );
                    }
                }
                Ok(nodes)
            }
        }
    }

    /// Members of a role.
    pub(super) async fn member_records(&self, role: Role) -> Result<Vec<MemberRecord>, Refusal> {
        let prefix = match role {
            Role::Node => layout::CONTROL_NODES,
            Role::Proxy => layout::CONTROL_PROXIES,
            Role::Reporting => layout::CONTROL_REPORTERS,
            Role::Control => return Ok(Vec::new()),
        };
        Ok(self.records(prefix).await?.into_iter().map(|(_, record)| record).collect())
    }
}

/// Where a member's record stands; none for roles that do not join.
pub(super) fn member_key(role: Role, id: Uuid) -> Option<String> {
    match role {
        Role::Node => Some(layout::control_node(NodeId(id))),
        Role::Proxy => Some(layout::control_proxy(ProxyId(id))),
        Role::Reporting => Some(layout::control_reporter(ReporterId(id))),
        Role::Control => None,
    }
}

/// The name of a member's own key.
pub(super) fn member_secret(role: Role, id: Uuid) -> Option<SecretName> {
    match role {
        Role::Node => Some(SecretName::Node(NodeId(id))),
        Role::Proxy => Some(SecretName::Proxy(ProxyId(id))),
        Role::Reporting => Some(SecretName::Reporting(ReporterId(id))),
        Role::Control => None,
    }
}

fn not_yours() -> Refusal {
    Refusal::new(RefusalKind::Denied, "this key is not for the role and UUID that your certificate names")
}
