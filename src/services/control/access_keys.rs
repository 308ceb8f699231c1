//! Access keys: what SigV4 signs with. The id is 20 letters and digits that begin with `DSTK` (AWS's
//! long-lived ones begin with `AKIA`; ours cannot be mistaken for those by secret scanners), the secret
//! 40 characters of base64. The secret is shown once, when it is made; it is kept sealed, because the
//! protocol needs it to check a signature.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::coordination::values::{from_json, to_json};
use crate::coordination::{Compare, Operation, layout};
use crate::domain::ids::{PrincipalId, Role};
use crate::domain::{Refusal, RefusalKind};
use crate::services::ports::Caller;

use super::history::{ATTEMPTS_MAX, Change, contended, refusal};
use super::keys::KeyOwner;
use super::plane::ControlPlane;
use super::principals::caller_of;
use super::records::{AccessKeyRecord, PrincipalRecord};
use super::sealed::unreadable;

const ID_PREFIX: &str = "DSTK";
const ID_LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// An access key as it is shown once.
pub struct AccessKeyCreated {
    /// The public part.
    pub access_key_id: String,
    /// The secret part.
    pub secret_access_key: Zeroizing<String>,
}

/// An access key for whoever checks signatures.
#[derive(Clone)]
pub struct AccessKeySecret {
    /// The public part.
    pub access_key_id: String,
    /// The secret part.
    pub secret_access_key: Zeroizing<String>,
    /// Whose it is.
    pub caller: Caller,
}

impl ControlPlane {
    /// Makes an access key for a principal of a tenant.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for a revoked principal, `BadInput` for a root principal, because an access
    /// key stands for one tenant.
    pub async fn access_key_create(
        &self,
        caller: &Caller,
        principal: PrincipalId,
    ) -> Result<AccessKeyCreated, Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let (owner, owner_entry) = self.principal_read(principal).await?;
            if owner.revoked_at.is_some() {
                return Err(Refusal::conflict("the principal was revoked"));
            }
            if owner.tenant.is_none() {
                return Err(Refusal::bad_input("an access key belongs to a principal of a tenant, not to root"));
            }
            let created = self.access_key_draw();
            let record = AccessKeyRecord {
                access_key_id: created.access_key_id.clone(),
                principal,
                created_at: self.now(),
                revoked_at: None,
                sealed: self.vault.seal(&label(&created.access_key_id), created.secret_access_key.as_bytes()),
            };
            let key = layout::control_access_key(&record.access_key_id);
            let done = self
                .commit(Change {
                    resource: format!("access-key/{}", record.access_key_id),
                    who: &caller.name,
                    before: None,
                    after: Some(serde_json::json!({ "principal": principal })),
                    compares: vec![Compare::absent(&key), Compare::unchanged(&owner_entry.key, Some(&owner_entry))],
                    operations: vec![Operation::put(&key, to_json(&record))],
                })
                .await?;
            if done {
                return Ok(created);
            }
        }
        Err(contended())
    }

    fn access_key_draw(&self) -> AccessKeyCreated {
        let mut letters = [0u8; 16];
        self.random.fill(&mut letters);
        let letters = letters.iter().map(|byte| ID_LETTERS[usize::from(byte % 32)] as char);
        let mut secret = Zeroizing::new([0u8; 30]);
        self.random.fill(secret.as_mut_slice());
        AccessKeyCreated {
            access_key_id: ID_PREFIX.chars().chain(letters).collect(),
            secret_access_key: Zeroizing::new(BASE64.encode(secret.as_slice())),
        }
    }

    /// Access keys, without their secrets: all, or a principal's.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn access_key_list(&self, principal: Option<PrincipalId>) -> Result<Vec<AccessKeyRecord>, Refusal> {
        let records = self.records::<AccessKeyRecord>(layout::CONTROL_ACCESS_KEYS).await?;
        let wanted = |record: &AccessKeyRecord| principal.is_none_or(|principal| record.principal == principal);
        Ok(records.into_iter().map(|(_, record)| record).filter(wanted).collect())
    }

    /// Revokes an access key. Its secret is destroyed; that it was there stays recorded.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub async fn access_key_revoke(&self, caller: &Caller, access_key_id: &str) -> Result<(), Refusal> {
        let key = layout::control_access_key(access_key_id);
        for _ in 0..ATTEMPTS_MAX {
            let entry = self.coordinator.get(&key).await.map_err(refusal)?;
            let entry = entry.ok_or_else(|| no_access_key(access_key_id))?;
            let mut record: AccessKeyRecord = from_json(&entry.value).map_err(|_| unreadable(&key))?;
            if record.revoked_at.is_some() {
                return Ok(());
            }
            record.revoked_at = Some(self.now());
            record.sealed.clear();
            let principal = record.principal;
            let done = self
                .commit(Change {
                    resource: format!("access-key/{}", record.access_key_id),
                    who: &caller.name,
                    before: Some(serde_json::json!({ "principal": principal })),
                    after: Some(serde_json::json!({ "principal": principal, "revoked_at": record.revoked_at })),
                    compares: vec![Compare::unchanged(&key, Some(&entry))],
                    operations: vec![Operation::put(&key, to_json(&record))],
                })
                .await?;
            if done {
                return Ok(());
            }
        }
        Err(contended())
    }

    /// All access keys that are good, with secrets, for a peer that checks signatures: a proxy, or a
    /// node that clients are pointed at.
    ///
    /// # Errors
    /// `Denied` for every other peer.
    pub async fn access_keys_for(&self, peer: KeyOwner) -> Result<Vec<AccessKeySecret>, Refusal> {
        if !matches!(peer.role, Role::Proxy | Role::Node) {
            return Err(Refusal::new(RefusalKind::Denied, "access keys are for proxies and nodes only"));
        }
        self.member_check(peer).await?;
        self.access_keys_local().await
    }

    /// All access keys that are good, with secrets, for this process (`dstore dev`).
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn access_keys_local(&self) -> Result<Vec<AccessKeySecret>, Refusal> {
        let principals = self.records_readable::<PrincipalRecord>(layout::CONTROL_PRINCIPALS).await?.records;
        self.access_keys_of(&principals).await
    }

    /// All access keys that are good of these principals, with secrets, in the order of their ids. One whose record cannot
    /// be read is not among them.
    pub(super) async fn access_keys_of(&self, principals: &[PrincipalRecord]) -> Result<Vec<AccessKeySecret>, Refusal> {
        let owners = principals.iter().filter(|owner| owner.revoked_at.is_none()).map(|owner| (owner.id, owner));
        let owners: HashMap<PrincipalId, &PrincipalRecord> = owners.collect();
        let mut keys = Vec::new();
        for record in self.records_readable::<AccessKeyRecord>(layout::CONTROL_ACCESS_KEYS).await?.records {
            let (Some(owner), None) = (owners.get(&record.principal), record.revoked_at) else { continue };
            let opened = self.vault.open(&label(&record.access_key_id), &record.sealed);
            let Some(secret) = opened.ok().and_then(|secret| String::from_utf8(secret.to_vec()).ok()) else {
                // All others are let in.
                tracing::error!(access_key_id = %record.access_key_id, "the secret of an access key does not open");
                continue;
            };
            keys.push(AccessKeySecret {
                access_key_id: record.access_key_id,
                secret_access_key: Zeroizing::new(secret),
                caller: caller_of(owner),
            });
        }
        keys.sort_unstable_by(|one, other| one.access_key_id.cmp(&other.access_key_id));
        Ok(keys)
    }
}

/// The refusal for an access key that is not there, or not for the caller to know of.
pub fn no_access_key(access_key_id: &str) -> Refusal {
    Refusal::not_found(format!("there is no access key {access_key_id:?}"))
}

fn label(access_key_id: &str) -> String {
    format!("access-key/{access_key_id}")
}
