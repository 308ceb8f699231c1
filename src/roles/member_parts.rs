//! Control's parts of a member's keys: asked for at the start and now and then afterwards (a rotation adds versions), kept
//! in memory, and on this disk only where the operator gave a passphrase to seal them under. Then a restart needs no
//! control; without one it waits for it.
//!
//! What control refuses is never answered from what was kept: a member that was removed gets nothing. Only where control
//! gives no answer do the last known parts count.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use uuid::Uuid;

use super::key_files::{self, Passphrase};
use super::node_parts::StartError;
use crate::api::health::{Condition, Health};
use crate::crypto::kept_parts::KeptPart;
use crate::domain::ids::TenantId;
use crate::domain::{Random, Refusal, RefusalKind};
use crate::services::assignments::{HandedPart, HandedParts, KeyParts as NodeKeyParts};
use crate::services::control::remote::{RemoteControl, handed_parts};
use crate::services::control::{KeyPart, KeyParts};

/// What `/readyz` calls them.
pub const WHAT: &str = "key parts";
/// How long to wait before control is asked again for what a start needs.
const WAIT_PAUSE: Duration = Duration::from_millis(500);
/// How long to wait before control is asked again after a start with kept parts.
const TOLD_PAUSE: Duration = Duration::from_secs(3);
/// How often parts are asked for while serving.
const REFRESH_PAUSE: Duration = Duration::from_secs(60);

/// Where parts are kept, and what seals them.
pub struct KeptAt {
    /// The file.
    pub path: PathBuf,
    /// The operator's passphrase.
    pub passphrase: Arc<Passphrase>,
}

/// See the module's text.
pub struct MemberParts {
    control: RemoteControl,
    own: Uuid,
    kept_at: Option<KeptAt>,
    random: Arc<dyn Random>,
    last: Mutex<KeyParts>,
    /// Where it is said how parts are.
    health: Mutex<Option<Arc<Health>>>,
    /// While the member starts, what cannot be had now is waited for.
    is_starting: AtomicBool,
    /// The parts are those that were kept here; control has not told them since the start.
    is_kept: AtomicBool,
}

/// Whether control gave no answer, so that what it said before still counts.
pub fn is_away(refusal: &Refusal) -> bool {
    matches!(refusal.kind, RefusalKind::Unavailable | RefusalKind::OutcomeUnknown)
}

impl MemberParts {
    /// Parts of the member `own`; none are known yet.
    pub fn new(control: RemoteControl, own: Uuid, kept_at: Option<KeptAt>, random: Arc<dyn Random>) -> Self {
        Self {
            control,
            own,
            kept_at,
            random,
            last: Mutex::default(),
            health: Mutex::default(),
            is_starting: AtomicBool::new(true),
            is_kept: AtomicBool::new(false),
        }
    }

    /// The member's own part, all versions, ascending.
    pub fn own(&self) -> Vec<KeyPart> {
        self.last.lock().own.clone()
    }

    /// Waits until there are parts: from control, or from those kept here. Says in `health` for what it waits.
    ///
    /// # Errors
    /// Where control refuses (the member was removed), or what was kept does not open.
    pub async fn wait(&self, health: &Arc<Health>) -> Result<(), StartError> {
        *self.health.lock() = Some(health.clone());
        loop {
            let refusal = match self.refresh().await {
                Ok(()) => {
                    health.note(WHAT, Condition::Good);
                    return Ok(());
                }
                Err(refusal) if is_away(&refusal) => refusal,
                Err(refusal) => return Err(StartError(format!("control hands out no key parts: {refusal}"))),
            };
            if self.open_kept().await? {
                tracing::warn!(%refusal, "starting with the key parts that were kept on this machine");
                health.note(WHAT, Condition::Stale(format!("kept on this machine: {refusal}")));
                return Ok(());
            }
            health.note(WHAT, Condition::Waiting(refusal.to_string()));
            tracing::warn!(%refusal, "waiting for key parts from control");
            tokio::time::sleep(WAIT_PAUSE).await;
        }
    }

    /// The member serves: from now on a part that cannot be had is refused, not waited for.
    pub fn started(&self) {
        self.is_starting.store(false, Ordering::Relaxed);
    }

    /// Asks control for a tenant's part. While the member starts its data cannot be opened without it, so then it is
    /// waited for.
    async fn tenant_from_control(&self, tenant: TenantId) -> Result<Vec<KeyPart>, Refusal> {
        loop {
            let starting = self.health.lock().clone().filter(|_| self.is_starting.load(Ordering::Relaxed));
            match (self.control.tenant_key_parts(tenant).await, starting) {
                (Err(refusal), Some(health)) if is_away(&refusal) => {
                    tracing::warn!(%tenant, %refusal, "waiting for a tenant's key part");
                    health.note(WHAT, Condition::Waiting(format!("of tenant {tenant}: {refusal}")));
                    tokio::time::sleep(WAIT_PAUSE).await;
                }
                (Ok(parts), Some(health)) => {
                    health.note(WHAT, Condition::Good);
                    return Ok(parts);
                }
                (answered, _) => return answered,
            }
        }
    }

    /// Asks control once, and keeps what it says.
    ///
    /// # Errors
    /// What control refuses.
    pub async fn refresh(&self) -> Result<(), Refusal> {
        let parts = self.control.key_parts().await?;
        if parts.own.is_empty() {
            return Err(Refusal::internal("control knows no part of this member's key"));
        }
        *self.last.lock() = parts;
        self.is_kept.store(false, Ordering::Relaxed);
        self.keep().await;
        Ok(())
    }

    /// Asks now and then until dropped, where nobody else does: a node makes rounds of its own.
    pub async fn follow(self: Arc<Self>) {
        self.clone().until_told().await;
        loop {
            tokio::time::sleep(REFRESH_PAUSE).await;
            match self.all().await {
                Ok(_) => {}
                Err(refusal) => tracing::debug!(%refusal, "key parts were not told; the last known stay"),
            }
        }
    }

    /// After a start with kept parts: asks every few seconds until control has told them.
    pub async fn until_told(self: Arc<Self>) {
        while self.is_kept.load(Ordering::Relaxed) {
            tokio::time::sleep(TOLD_PAUSE).await;
            if let Err(refusal) = self.all().await {
                tracing::debug!(%refusal, "going on with the key parts that were kept");
            }
        }
    }

    async fn keep(&self) {
        let Some(kept_at) = &self.kept_at else { return };
        let (path, passphrase, random) = (kept_at.path.clone(), kept_at.passphrase.clone(), self.random.clone());
        let parts = self.to_keep();
        let written = tokio::task::spawn_blocking(move || match key_files::kept_parts(&path, Some(&passphrase)) {
            Ok(Some(there)) if there == parts => Ok(()),
            _ => key_files::keep_parts(&path, &parts, &passphrase, &*random),
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "key parts could not be kept: a restart needs control"),
            Err(error) => tracing::error!(%error, "key parts could not be kept"),
        }
    }

    fn to_keep(&self) -> Vec<KeptPart> {
        let last = self.last.lock();
        let kept = |owner: Uuid, part: &KeyPart| KeptPart { owner, version: part.version, part: part.part.clone() };
        let own = last.own.iter().map(|part| kept(self.own, part));
        let tenants = last.tenants.iter().flat_map(|(tenant, parts)| parts.iter().map(|part| kept(tenant.0, part)));
        own.chain(tenants).collect()
    }

    /// Takes the parts that were kept here. Whether there were any.
    async fn open_kept(&self) -> Result<bool, StartError> {
        let Some(kept_at) = &self.kept_at else { return Ok(false) };
        let (path, passphrase) = (kept_at.path.clone(), kept_at.passphrase.clone());
        let kept = tokio::task::spawn_blocking(move || key_files::kept_parts(&path, Some(&passphrase)));
        let kept = kept.await.map_err(|error| StartError(error.to_string()))??.unwrap_or_default();
        let mut parts = KeyParts::default();
        for KeptPart { owner, version, part } in kept {
            let part = KeyPart { version, part };
            if owner == self.own {
                parts.own.push(part);
                continue;
            }
            match parts.tenants.iter_mut().find(|(tenant, _)| tenant.0 == owner) {
                Some((_, known)) => known.push(part),
                None => parts.tenants.push((TenantId(owner), vec![part])),
            }
        }
        let found = !parts.own.is_empty();
        if found {
            *self.last.lock() = parts;
            self.is_kept.store(true, Ordering::Relaxed);
        }
        Ok(found)
    }
}

fn handed(parts: &[KeyPart]) -> Vec<HandedPart> {
    parts.iter().map(|part| HandedPart { version: part.version, part: part.part.clone() }).collect()
}

#[async_trait]
impl NodeKeyParts for MemberParts {
    /// As it was told at the start, for which it was waited.
    async fn node_part(&self) -> Result<Vec<HandedPart>, Refusal> {
        Ok(handed(&self.own()))
    }

    async fn all(&self) -> Result<HandedParts, Refusal> {
        self.refresh().await?;
        if let Some(health) = &*self.health.lock() {
            health.note(WHAT, Condition::Good);
        }
        Ok(handed_parts(self.last.lock().clone()))
    }

    async fn in_use(&self, tenant: Option<TenantId>, version_min: u32) -> Result<(), Refusal> {
        self.control.in_use(tenant, version_min).await
    }

    async fn tenant_part(&self, tenant: TenantId) -> Result<Vec<HandedPart>, Refusal> {
        let known =
            |parts: &KeyParts| parts.tenants.iter().find(|(known, _)| *known == tenant).map(|(_, parts)| handed(parts));
        let known = known(&self.last.lock());
        // At the start all were told in one answer a moment ago.
        if self.is_starting.load(Ordering::Relaxed)
            && let Some(known) = known
        {
            return Ok(known);
        }
        let told = match (self.tenant_from_control(tenant).await, known) {
            (Err(refusal), Some(known)) if is_away(&refusal) => return Ok(known),
            (told, _) => told?,
        };
        let answer = handed(&told);
        {
            let mut last = self.last.lock();
            last.tenants.retain(|(known, _)| *known != tenant);
            last.tenants.push((tenant, told));
        }
        self.keep().await;
        Ok(answer)
    }
}
