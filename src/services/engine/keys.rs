//! The keys a node works with, and how they are put together.
//!
//! A tenant's key-encryption key is made of three parts: the node's own key (a local file), the
//! tenant's key at this node (in the node's database), and the tenant's key at the control plane
//! (fetched, kept in memory only). Each part has a version of its own and can be rotated by itself;
//! the version of the combination names all three, so that whatever was wrapped says by which parts:
//!
//! | bits of the combined version | part |
//! |---|---|
//! | 31–24 | node's own key, 1 to 255 |
//! | 23–12 | part at the node, 0 to 4095 (0: there is none, as for the node's database) |
//! | 11–0 | part at the control plane, 1 to 4095 |
//!
//! While a part is being rotated its old and new versions both exist; the old one goes only when
//! nothing that is wrapped names it any more.
//!
//! A tenant whose key was destroyed, or whose control plane is away, is refused by itself; everyone
//! else goes on.

use std::collections::{BTreeMap, HashMap};

use parking_lot::RwLock;

use crate::crypto::Key256;
use crate::crypto::hierarchy::KeyKind;
use crate::domain::ids::TenantId;
use crate::storage::keys::{FileKeys, KeyOwner, KeyUnavailable, VersionedKey};

/// The versions of one part, the newest of which is used for what is wrapped from now on.
#[derive(Debug, Clone, Default)]
pub struct PartVersions(BTreeMap<u32, Key256>);

impl PartVersions {
    /// A part with one version.
    pub fn single(version: u32, key: Key256) -> Self {
        Self(BTreeMap::from([(version, key)]))
    }

    /// Adds a version.
    pub fn add(&mut self, version: u32, key: Key256) {
        self.0.insert(version, key);
    }

    /// Forgets the versions below `version`.
    pub fn drop_below(&mut self, version: u32) {
        self.0 = self.0.split_off(&version);
    }

    /// The newest version.
    pub fn newest(&self) -> Option<(u32, &Key256)> {
        self.0.last_key_value().map(|(version, key)| (*version, key))
    }

    /// All versions, ascending.
    pub fn all(&self) -> Vec<(u32, Key256)> {
        self.0.iter().map(|(version, key)| (*version, key.clone())).collect()
    }

    /// Whether it is being rotated: there is an older version.
    pub fn is_rotating(&self) -> bool {
        self.0.len() > 1
    }

    fn get(&self, version: u32) -> Option<&Key256> {
        self.0.get(&version)
    }
}

/// The highest version that the node's own key can have.
pub const OWN_VERSION_MAX: u32 = 255;
/// The highest version that the other parts can have.
pub const PART_VERSION_MAX: u32 = 4095;

/// The parts of a combined key, by version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The node's own key.
    pub own: u32,
    /// The tenant's part at this node; 0 where there is none.
    pub at_node: u32,
    /// The part at the control plane.
    pub at_control: u32,
}

impl Versions {
    /// As one number; see the module's essay.
    pub fn pack(self) -> u32 {
        (self.own << 24) | (self.at_node << 12) | self.at_control
    }

    /// Back from one number.
    pub fn unpack(packed: u32) -> Self {
        Self { own: packed >> 24, at_node: (packed >> 12) & 0xfff, at_control: packed & 0xfff }
    }
}

#[derive(Default)]
struct TenantParts {
    at_node: PartVersions,
    at_control: PartVersions,
}

#[derive(Default)]
struct Parts {
    own: PartVersions,
    node_at_control: PartVersions,
    tenants: HashMap<TenantId, TenantParts>,
}

/// See the module's essay.
#[derive(Default)]
pub struct NodeKeys {
    parts: RwLock<Parts>,
}

impl NodeKeys {
    /// Keys of a node: its own, and its part at the control plane.
    pub fn new(own: PartVersions, node_at_control: PartVersions) -> Self {
        Self { parts: RwLock::new(Parts { own, node_at_control, tenants: HashMap::new() }) }
    }

    /// Adds a version of the node's own key.
    pub fn add_own(&self, version: u32, key: Key256) {
        self.parts.write().own.add(version, key);
    }

    /// Adds a version of the node's part at the control plane.
    pub fn add_node_at_control(&self, version: u32, key: Key256) {
        self.parts.write().node_at_control.add(version, key);
    }

    /// Adds a version of a tenant's part at this node.
    pub fn add_tenant_at_node(&self, tenant: TenantId, version: u32, key: Key256) {
        self.parts.write().tenants.entry(tenant).or_default().at_node.add(version, key);
    }

    /// Adds a version of a tenant's part at the control plane.
    pub fn add_tenant_at_control(&self, tenant: TenantId, version: u32, key: Key256) {
        self.parts.write().tenants.entry(tenant).or_default().at_control.add(version, key);
    }

    /// The node's own key, all versions, ascending.
    pub fn own(&self) -> PartVersions {
        self.parts.read().own.clone()
    }

    /// The node's part at the control plane.
    pub fn node_at_control(&self) -> PartVersions {
        self.parts.read().node_at_control.clone()
    }

    /// The tenant's part at this node, and the one at the control plane.
    pub fn tenant(&self, tenant: TenantId) -> Option<(PartVersions, PartVersions)> {
        self.parts.read().tenants.get(&tenant).map(|parts| (parts.at_node.clone(), parts.at_control.clone()))
    }

    /// The tenants of which both parts are here.
    pub fn tenants(&self) -> Vec<TenantId> {
        let parts = self.parts.read();
        let is_whole = |parts: &TenantParts| parts.at_node.newest().is_some() && parts.at_control.newest().is_some();
        parts.tenants.iter().filter(|(_, parts)| is_whole(parts)).map(|(tenant, _)| *tenant).collect()
    }

    /// Whether any part is being rotated.
    pub fn is_rotating(&self) -> bool {
        let parts = self.parts.read();
        let of_tenants = parts.tenants.values().flat_map(|tenant| [&tenant.at_node, &tenant.at_control]);
        of_tenants.chain([&parts.own, &parts.node_at_control]).any(PartVersions::is_rotating)
    }

    /// Forgets versions of the node's part at the control plane below `version`.
    pub fn drop_node_at_control_below(&self, version: u32) {
        self.parts.write().node_at_control.drop_below(version);
    }

    /// Forgets versions of the node's own key below `version`: nothing names them any more.
    pub fn drop_own_below(&self, version: u32) {
        self.parts.write().own.drop_below(version);
    }

    /// Forgets versions of a tenant's part at this node below `version`.
    pub fn drop_tenant_at_node_below(&self, tenant: TenantId, version: u32) {
        if let Some(parts) = self.parts.write().tenants.get_mut(&tenant) {
            parts.at_node.drop_below(version);
        }
    }

    /// Forgets versions of a tenant's part at the control plane below `version`.
    pub fn drop_tenant_at_control_below(&self, tenant: TenantId, version: u32) {
        if let Some(parts) = self.parts.write().tenants.get_mut(&tenant) {
            parts.at_control.drop_below(version);
        }
    }

    /// Forgets a tenant altogether: nothing of it can be read from here on.
    pub fn forget_tenant(&self, tenant: TenantId) {
        self.parts.write().tenants.remove(&tenant);
    }

    /// Whether both parts of the tenant's key are here.
    pub fn has_tenant(&self, tenant: TenantId) -> bool {
        self.parts
            .read()
            .tenants
            .get(&tenant)
            .is_some_and(|parts| parts.at_node.newest().is_some() && parts.at_control.newest().is_some())
    }

    /// The newest version of the tenant's part at this node; 0 where there is none.
    pub fn tenant_at_node_version(&self, tenant: TenantId) -> u32 {
        self.parts
            .read()
            .tenants
            .get(&tenant)
            .and_then(|parts| parts.at_node.newest())
            .map_or(0, |(version, _)| version)
    }
}

impl FileKeys for NodeKeys {
    fn newest(&self, owner: KeyOwner) -> Result<VersionedKey, KeyUnavailable> {
        let parts = self.parts.read();
        let own = newest_of(&parts.own, owner, "the node's own key")?;
        let versions = match owner {
            KeyOwner::Node => Versions {
                own,
                at_node: 0,
                at_control: newest_of(&parts.node_at_control, owner, "the node's key at the control plane")?,
            },
            KeyOwner::Tenant(tenant) => {
                let tenant =
                    parts.tenants.get(&tenant).ok_or_else(|| missing(owner, "the tenant's key at this node"))?;
                Versions {
                    own,
                    at_node: newest_of(&tenant.at_node, owner, "the tenant's key at this node")?,
                    at_control: newest_of(&tenant.at_control, owner, "the tenant's key at the control plane")?,
                }
            }
        };
        let is_too_high = versions.own > OWN_VERSION_MAX
            || versions.at_node > PART_VERSION_MAX
            || versions.at_control > PART_VERSION_MAX;
        if is_too_high {
            return Err(KeyUnavailable(format!(
                "a part of the key of {owner} was rotated more often than is possible"
            )));
        }
        combine(&parts, owner, versions).map(|key| VersionedKey { version: versions.pack(), key })
    }

    fn of_version(&self, owner: KeyOwner, version: u32) -> Result<Key256, KeyUnavailable> {
        combine(&self.parts.read(), owner, Versions::unpack(version))
    }
}

fn combine(parts: &Parts, owner: KeyOwner, versions: Versions) -> Result<Key256, KeyUnavailable> {
    let own = parts.own.get(versions.own).ok_or_else(|| missing(owner, "the node's own key"))?;
    let combined = match owner {
        KeyOwner::Node => {
            let at_control = parts
                .node_at_control
                .get(versions.at_control)
                .ok_or_else(|| missing(owner, "the node's key at the control plane"))?;
            KeyKind::NodeDatabase.combine(&[own, at_control])
        }
        KeyOwner::Tenant(tenant) => {
            let tenant = parts.tenants.get(&tenant).ok_or_else(|| missing(owner, "the tenant's key at this node"))?;
            let at_node =
                tenant.at_node.get(versions.at_node).ok_or_else(|| missing(owner, "the tenant's key at this node"))?;
            let at_control = tenant
                .at_control
                .get(versions.at_control)
                .ok_or_else(|| missing(owner, "the tenant's key at the control plane"))?;
            KeyKind::Tenant.combine(&[own, at_node, at_control])
        }
    };
    combined.map_err(|error| KeyUnavailable(format!("the parts of the key of {owner} cannot be combined: {error}")))
}

fn newest_of(part: &PartVersions, owner: KeyOwner, what: &str) -> Result<u32, KeyUnavailable> {
    part.newest().map(|(version, _)| version).ok_or_else(|| missing(owner, what))
}

fn missing(owner: KeyOwner, what: &str) -> KeyUnavailable {
    KeyUnavailable(format!(
        "{what} ({owner}) is not here in the version that is asked for: it was destroyed, or the control plane has not handed it out yet"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Key256 {
        Key256::new([byte; 32])
    }

    fn keys() -> (NodeKeys, TenantId) {
        let tenant = TenantId::from_bytes([9; 16]);
        let keys = NodeKeys::new(PartVersions::single(1, key(1)), PartVersions::single(1, key(2)));
        keys.add_tenant_at_node(tenant, 1, key(3));
        keys.add_tenant_at_control(tenant, 1, key(4));
        (keys, tenant)
    }

    #[test]
    fn each_part_changes_the_combined_key() {
        let (keys, tenant) = keys();
        let owner = KeyOwner::Tenant(tenant);
        let mut seen = vec![keys.newest(owner).unwrap()];
        keys.add_own(2, key(5));
        seen.push(keys.newest(owner).unwrap());
        keys.add_tenant_at_node(tenant, 2, key(6));
        seen.push(keys.newest(owner).unwrap());
        keys.add_tenant_at_control(tenant, 2, key(7));
        seen.push(keys.newest(owner).unwrap());
        for (position, known) in seen.iter().enumerate() {
            assert!(seen[..position].iter().all(|other| other.key != known.key && other.version != known.version));
            assert!(keys.of_version(owner, known.version).unwrap() == known.key);
        }
    }

    #[test]
    fn an_old_version_is_gone_when_a_part_of_it_is() {
        let (keys, tenant) = keys();
        let owner = KeyOwner::Tenant(tenant);
        let old = keys.newest(owner).unwrap();
        keys.add_tenant_at_node(tenant, 2, key(6));
        keys.drop_tenant_at_node_below(tenant, 2);
        assert!(keys.of_version(owner, old.version).is_err());
        assert!(keys.newest(owner).is_ok());
    }

    #[test]
    fn a_forgotten_tenant_is_refused_and_others_are_not() {
        let (keys, tenant) = keys();
        keys.forget_tenant(tenant);
        assert!(keys.newest(KeyOwner::Tenant(tenant)).is_err());
        assert!(keys.newest(KeyOwner::Node).is_ok());
    }

    #[test]
    fn versions_pack_and_unpack() {
        let versions = Versions { own: 255, at_node: 4095, at_control: 17 };
        assert_eq!(Versions::unpack(versions.pack()), versions);
    }
}
