//! What control hands to its members, and goes on handing to the same ones while the coordinator is away.
//!
//! Keys, members and access lists rest in the coordinator, so without it control could tell nobody anything, and a
//! proxy that has its whole routing table on its own disk could not start for want of one key part. So each answer that
//! control gave is remembered in its memory, by who asked, and given again to that one as long as the coordinator cannot
//! be asked. Members ask every minute, so a control process that has served for a while remembers all that are alive.
//!
//! Nobody gets anything it did not get before, and any answer of the coordinator counts more: a member that was removed
//! is forgotten with the first refusal. While the coordinator is away nobody can be removed, and no session be
//! revoked, by this instance or by another that reaches as little.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::access_feed::AccessSnapshot;
use super::keys::{KeyOwner, KeyPart, KeyParts};
use super::plane::ControlPlane;
use crate::domain::ids::TenantId;
use crate::domain::{Refusal, RefusalKind};

/// What was handed out.
#[derive(Default)]
pub(super) struct Handed {
    parts: Mutex<HashMap<KeyOwner, KeyParts>>,
    access: Mutex<Option<AccessSnapshot>>,
}

impl ControlPlane {
    /// The parts that a peer may have; while the coordinator is away, those that it was given before.
    ///
    /// # Errors
    /// `Denied` where the peer is no (longer a) member, or of a role that has none; `Unavailable`.
    pub async fn key_parts(&self, peer: KeyOwner) -> Result<KeyParts, Refusal> {
        match self.key_parts_now(peer).await {
            Ok(parts) => {
                self.handed.parts.lock().insert(peer, parts.clone());
                Ok(parts)
            }
            Err(refusal) => self.given_before(peer, refusal),
        }
    }

    /// A tenant's part for a node, which must have ranges of the tenant; while the coordinator is away, as it was given before.
    ///
    /// # Errors
    /// `NotFound` where there is no such part (any more); `Denied` for anyone else; `Unavailable`.
    pub async fn tenant_key_parts(&self, peer: KeyOwner, tenant: TenantId) -> Result<Vec<KeyPart>, Refusal> {
        match self.tenant_key_parts_now(peer, tenant).await {
            Err(refusal) if refusal.kind == RefusalKind::Unavailable => {
                let given = self.given_before(peer, refusal.clone())?;
                let parts = given.tenants.into_iter().find(|(known, _)| *known == tenant);
                parts.map(|(_, parts)| parts).ok_or(refusal)
            }
            answered => {
                if let (Ok(parts), Some(known)) = (&answered, self.handed.parts.lock().get_mut(&peer)) {
                    known.tenants.retain(|(known, _)| *known != tenant);
                    known.tenants.push((tenant, parts.clone()));
                }
                answered
            }
        }
    }

    /// What a peer that checks tokens has to know; while the coordinator is away, as it was last told to anyone.
    ///
    /// # Errors
    /// `Denied` where the peer is no (longer a) member; `Unavailable`.
    pub async fn access_for(&self, peer: KeyOwner) -> Result<AccessSnapshot, Refusal> {
        let told = async {
            self.member_check(peer).await?;
            self.access_snapshot().await
        };
        match told.await {
            Ok(snapshot) => {
                *self.handed.access.lock() = Some(snapshot.clone());
                Ok(snapshot)
            }
            Err(refusal) => {
                self.given_before(peer, refusal.clone())?;
                self.handed.access.lock().clone().ok_or(refusal)
            }
        }
    }

    fn given_before(&self, peer: KeyOwner, refusal: Refusal) -> Result<KeyParts, Refusal> {
        let mut parts = self.handed.parts.lock();
        if refusal.kind != RefusalKind::Unavailable {
            parts.remove(&peer);
            return Err(refusal);
        }
        parts.get(&peer).cloned().ok_or(refusal)
    }
}
