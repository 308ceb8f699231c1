//! Rotation of each of the three parts of the keys at a node, while it serves.
//!
//! A part is rotated by adding a version: the old and the new one both exist, on disk and synced, before anything
//! is wrapped under the new one. Then everything that is wrapped by the old one is wrapped anew: the header of
//! each file, in two synced steps between which both versions open it, and the data keys of the commit
//! log's segments, by records at its head. No page and no record is rewritten. Then what is wrapped is *counted*, on
//! disk, while no file can be made; and only a version that nothing names is destroyed: in the node's key
//! file, in the node's database, or by control, which is told the lowest version in use here.
//!
//! Who begins a rotation: control, for its parts (`dstore control key rotate`). A node that finds a newer version
//! of its own part at control rotates its own key too, and one that finds a newer version of a tenant's part rotates its own
//! part of that tenant too. So one command renews all parts of a key, and none lives longer than
//! the others. That a node has answered already is told by what is wrapped, not by a note of its own.
//!
//! Every step may be cut off and done again: what remains to be done is always found by looking at what is
//! there ([`Step`] names the places where a test cuts).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::crypto::Key256;
use crate::domain::Random;
use crate::domain::ids::TenantId;
use crate::storage::keys::KeyOwner;
use crate::storage::log;
use crate::storage::node_database::{NodeDatabase, TenantKeyPart};
use crate::storage::store::{RewrapStep, StoreError};

use super::keys::{NodeKeys, OWN_VERSION_MAX, PART_VERSION_MAX, Versions};
use super::opening::Engine;

/// Where the versions of the node's own key are kept: a file of the role's.
pub trait OwnKeyFile: Send + Sync + 'static {
    /// Keeps exactly these versions, ascending; returns when that is synced, and leaves all as it was otherwise.
    fn keep(&self, versions: &[(u32, Key256)]) -> Result<(), StoreError>;
}

/// What has just been done, for tests that stop there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A new version of the node's own key is kept.
    OwnAdded,
    /// A new version of a tenant's part is kept.
    TenantPartAdded,
    /// All files of an owner open by the newest version, too.
    FilesAdded,
    /// All files of an owner open by the newest version only.
    FilesMoved,
    /// All data keys of the log of an owner are wrapped by the newest version.
    LogMoved,
    /// The older versions of a tenant's part are destroyed.
    TenantPartDropped,
    /// The older versions of the node's own key are destroyed.
    OwnDropped,
}

/// Called after each step; an error stops the rotation there.
pub type AfterStep<'a> = &'a dyn Fn(Step) -> Result<(), StoreError>;

/// The lowest versions of the parts at control that anything here is wrapped by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    /// Of the node's own part.
    pub node: Option<u32>,
    /// Of tenants' parts.
    pub tenants: Vec<(TenantId, u32)>,
}

/// See the module's essay.
pub struct KeyRotation {
    keys: Arc<NodeKeys>,
    database: Arc<dyn NodeDatabase>,
    own: Arc<dyn OwnKeyFile>,
    random: Arc<dyn Random>,
}

impl KeyRotation {
    /// Rotation of the keys of one node.
    pub fn new(
        keys: Arc<NodeKeys>,
        database: Arc<dyn NodeDatabase>,
        own: Arc<dyn OwnKeyFile>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { keys, database, own, random }
    }

    /// Carries on whatever rotation there is to its end, as far as this node goes, and tells what is in
    /// use. Costs nothing where no part has two versions. Blocks on disk.
    ///
    /// # Errors
    /// What failed; everything opens as before, and the next call goes on.
    pub fn settle(&self, engine: &Engine, after: AfterStep<'_>) -> Result<InUse, StoreError> {
        if !self.keys.is_rotating() {
            return Ok(InUse::default());
        }
        for owner in self.owners_rotating() {
            self.answer_control(engine, owner, after)?;
        }
        // Asked again: where the node's own key has a new version by now, everyone is concerned.
        let owners = self.owners_rotating();
        for owner in &owners {
            self.wrap_anew(engine, *owner, after)?;
        }
        self.drop_unused(engine, &owners, after)
    }

    /// The owners of whose key a part has two versions.
    fn owners_rotating(&self) -> Vec<KeyOwner> {
        let is_own_rotating = self.keys.own().is_rotating();
        let concerns = |tenant: &TenantId| {
            let parts = self.keys.tenant(*tenant);
            is_own_rotating || parts.is_some_and(|(here, control)| here.is_rotating() || control.is_rotating())
        };
        let node = (is_own_rotating || self.keys.node_at_control().is_rotating()).then_some(KeyOwner::Node);
        let tenants = self.keys.tenants().into_iter().filter(concerns).map(KeyOwner::Tenant);
        node.into_iter().chain(tenants).collect()
    }

    /// Rotates the node's own key: adds a version. The caller settles.
    ///
    /// # Errors
    /// Where the key file cannot be written.
    pub fn rotate_own(&self) -> Result<(), StoreError> {
        let mut versions = self.keys.own();
        let next = versions.newest().map_or(1, |(version, _)| version + 1);
        if next > OWN_VERSION_MAX {
            return Err(StoreError::Failed("the node's own key was rotated as often as its format allows".to_owned()));
        }
        let key = Key256::random(&*self.random);
        versions.add(next, key.clone());
        self.own.keep(&versions.all())?;
        self.keys.add_own(next, key);
        Ok(())
    }

    /// Rotates this node's part of a tenant's key: adds a version. The caller settles.
    ///
    /// # Errors
    /// Where the node's database cannot be written.
    pub fn rotate_tenant(&self, tenant: TenantId) -> Result<(), StoreError> {
        let next = self.keys.tenant_at_node_version(tenant) + 1;
        if next > PART_VERSION_MAX {
            return Err(StoreError::Failed(format!(
                "the part of tenant {tenant} was rotated as often as its format allows"
            )));
        }
        let part = TenantKeyPart {
            tenant,
            version: next,
            uuid: crate::domain::ambient::random_uuid(&*self.random),
            part: Key256::random(&*self.random),
        };
        self.database.add_tenant_key(&part)?;
        self.keys.add_tenant_at_node(tenant, next, part.part);
        Ok(())
    }

    /// Where control has rotated its part and nothing is wrapped under the new one yet, this node rotates its own.
    fn answer_control(&self, engine: &Engine, owner: KeyOwner, after: AfterStep<'_>) -> Result<(), StoreError> {
        let (here, at_control) = match owner {
            KeyOwner::Node => (self.keys.own(), self.keys.node_at_control()),
            KeyOwner::Tenant(tenant) => match self.keys.tenant(tenant) {
                Some(parts) => parts,
                None => return Ok(()),
            },
        };
        let Some((newest, _)) = at_control.newest() else { return Ok(()) };
        if here.is_rotating() || !at_control.is_rotating() {
            return Ok(());
        }
        if self.versions_in_use(engine, owner)?.iter().all(|versions| versions.at_control >= newest) {
            return Ok(());
        }
        match owner {
            KeyOwner::Node => {
                self.rotate_own()?;
                after(Step::OwnAdded)
            }
            KeyOwner::Tenant(tenant) => {
                self.rotate_tenant(tenant)?;
                after(Step::TenantPartAdded)
            }
        }
    }

    fn wrap_anew(&self, engine: &Engine, owner: KeyOwner, after: AfterStep<'_>) -> Result<(), StoreError> {
        let keeper = &engine.parts.keeper;
        let files = |step| match owner {
            KeyOwner::Node => self.database.rewrap(step),
            KeyOwner::Tenant(tenant) => keeper.rewrap(tenant, step).map(|_| ()),
        };
        files(RewrapStep::AddNew)?;
        after(Step::FilesAdded)?;
        files(RewrapStep::DropOld)?;
        after(Step::FilesMoved)?;
        let rewrapped = engine.log().rewrap(log_owner(owner));
        rewrapped.map_err(|error| StoreError::Failed(format!("the commit log's keys: {error}")))?;
        after(Step::LogMoved)
    }

    /// Destroys the versions that nothing names, after counting what is on disk.
    fn drop_unused(&self, engine: &Engine, owners: &[KeyOwner], after: AfterStep<'_>) -> Result<InUse, StoreError> {
        // While this is held no file is made: none can appear under an older version after it was counted.
        let _no_file_is_made = engine.making_files.write();
        let mut in_use = InUse::default();
        let mut own_lowest = self.keys.own().newest().map_or(0, |(version, _)| version);
        for owner in owners {
            let versions = self.versions_in_use(engine, *owner)?;
            own_lowest = versions.iter().map(|versions| versions.own).fold(own_lowest, u32::min);
            let at_control = versions.iter().map(|versions| versions.at_control).min();
            match owner {
                KeyOwner::Node => {
                    let newest = self.keys.node_at_control().newest().map(|(version, _)| version);
                    in_use.node = at_control.or(newest);
                }
                KeyOwner::Tenant(tenant) => {
                    let Some((here, control)) = self.keys.tenant(*tenant) else { continue };
                    let newest = control.newest().map(|(version, _)| version);
                    in_use.tenants.extend(at_control.or(newest).map(|version| (*tenant, version)));
                    let newest_here = here.newest().map_or(0, |(version, _)| version);
                    let lowest = versions.iter().map(|versions| versions.at_node).fold(newest_here, u32::min);
                    if here.all().first().is_some_and(|(version, _)| *version < lowest) {
                        self.database.remove_tenant_keys(*tenant, Some(lowest))?;
                        self.keys.drop_tenant_at_node_below(*tenant, lowest);
                        after(Step::TenantPartDropped)?;
                    }
                }
            }
        }
        let mut own = self.keys.own();
        // A tenant whose parts are not all here has files that nobody can look after at present.
        let is_all_counted = self.tenants_known()?.iter().all(|tenant| owners.contains(&KeyOwner::Tenant(*tenant)));
        if is_all_counted && own.all().first().is_some_and(|(version, _)| *version < own_lowest) {
            own.drop_below(own_lowest);
            self.own.keep(&own.all())?;
            self.keys.drop_own_below(own_lowest);
            after(Step::OwnDropped)?;
        }
        Ok(in_use)
    }

    /// Tenants that this node has a part for, in its database.
    fn tenants_known(&self) -> Result<BTreeSet<TenantId>, StoreError> {
        Ok(self.database.tenant_keys()?.into_iter().map(|part| part.tenant).collect())
    }

    /// By which versions anything of the owner's is wrapped: files and log.
    fn versions_in_use(&self, engine: &Engine, owner: KeyOwner) -> Result<Vec<Versions>, StoreError> {
        let mut packed = engine.log().key_versions(log_owner(owner));
        packed.append(&mut match owner {
            KeyOwner::Node => self.database.key_versions()?,
            KeyOwner::Tenant(tenant) => engine.parts.keeper.key_versions(tenant)?,
        });
        Ok(packed.into_iter().map(Versions::unpack).collect())
    }
}

fn log_owner(owner: KeyOwner) -> log::KeyOwner {
    match owner {
        KeyOwner::Node => log::KeyOwner::Node,
        KeyOwner::Tenant(tenant) => log::KeyOwner::Tenant(tenant),
    }
}
