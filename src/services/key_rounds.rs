//! A node follows the key parts that control hands out: it takes in new versions, has everything wrapped
//! anew, tells control the lowest version still in use, and forgets what control has destroyed.
//!
//! One question a minute for the whole node, whatever it holds; a watch was rejected, since the sealed keys in the
//! coordinator are not for nodes to read. Between rotations a round touches no file.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::Refusal;
use crate::storage::store::StoreError;

use super::assignments::{HandedPart, HandedParts, KeyParts, blocking};
use super::engine::Engine;
use super::engine::keys::NodeKeys;
use super::engine::rotation::{InUse, KeyRotation};

/// See the module's essay.
pub struct KeyRounds {
    keys: Arc<NodeKeys>,
    engine: Arc<Engine>,
    rotation: Arc<KeyRotation>,
    parts: Arc<dyn KeyParts>,
    also: Option<WrapAlso>,
}

/// Has the newest version of the node's key wrap something that neither engine nor database knows of. Costs nothing where it does.
pub type WrapAlso = Arc<dyn Fn() -> Result<(), StoreError> + Send + Sync>;

impl KeyRounds {
    /// What a node follows its key parts with.
    pub fn new(keys: Arc<NodeKeys>, engine: Arc<Engine>, rotation: Arc<KeyRotation>, parts: Arc<dyn KeyParts>) -> Self {
        Self { keys, engine, rotation, parts, also: None }
    }

    /// The same, with something else that is wrapped anew before any old version is destroyed.
    pub fn with(self, also: WrapAlso) -> Self {
        Self { also: Some(also), ..self }
    }

    /// Makes a round now and then until dropped.
    pub async fn follow(self, seconds: u64) {
        let mut tick = tokio::time::interval(Duration::from_secs(seconds.max(1)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(refusal) = self.round().await {
                tracing::warn!(%refusal, "key parts could not be followed; everything opens as before, and it is tried again");
            }
        }
    }

    /// One round.
    ///
    /// # Errors
    /// What failed; the next round goes on from there.
    pub async fn round(&self) -> Result<(), Refusal> {
        // A rotation of the node's own parts goes on also while control is away.
        let handed = self.parts.all().await;
        if let Ok(handed) = &handed {
            self.take_in(handed);
        }
        let (rotation, engine) = (Arc::clone(&self.rotation), Arc::clone(&self.engine));
        let also = self.also.clone();
        let wrap_also = move || also.as_ref().map_or(Ok(()), |wrap| wrap());
        let in_use = blocking(move || rotation.settle(&engine, &|_| wrap_also())).await?;
        let handed = handed?;
        if self.report(&handed, &in_use).await? {
            self.forget(&self.parts.all().await?, &in_use);
        } else {
            self.forget(&handed, &in_use);
        }
        Ok(())
    }

    fn take_in(&self, handed: &HandedParts) {
        for part in &handed.node {
            self.keys.add_node_at_control(part.version, part.part.clone());
        }
        for (tenant, parts) in &handed.tenants {
            // A tenant without a part here gets one with its first range.
            if self.keys.has_tenant(*tenant) {
                parts.iter().for_each(|part| {
                    self.keys.add_tenant_at_control(*tenant, part.version, part.part.clone());
                });
            }
        }
    }

    /// Tells control what is in use of the parts that it keeps two versions of; whether there was any.
    async fn report(&self, handed: &HandedParts, in_use: &InUse) -> Result<bool, Refusal> {
        let mut reported = false;
        if let Some(lowest) = in_use.node.filter(|_| handed.node.len() > 1) {
            self.parts.in_use(None, lowest).await?;
            reported = true;
        }
        for (tenant, lowest) in &in_use.tenants {
            if handed.tenants.iter().any(|(of, parts)| of == tenant && parts.len() > 1) {
                self.parts.in_use(Some(*tenant), *lowest).await?;
                reported = true;
            }
        }
        Ok(reported)
    }

    /// Forgets the versions that control no longer hands out, where nothing here is wrapped by them.
    fn forget(&self, handed: &HandedParts, in_use: &InUse) {
        let oldest = |parts: &[HandedPart]| parts.iter().map(|part| part.version).min();
        if let (Some(oldest), Some(lowest)) = (oldest(&handed.node), in_use.node) {
            self.keys.drop_node_at_control_below(oldest.min(lowest));
        }
        for (tenant, lowest) in &in_use.tenants {
            let parts = handed.tenants.iter().find(|(of, _)| of == tenant);
            if let Some(oldest) = parts.and_then(|(_, parts)| oldest(parts)) {
                self.keys.drop_tenant_at_control_below(*tenant, oldest.min(*lowest));
            }
        }
    }
}
