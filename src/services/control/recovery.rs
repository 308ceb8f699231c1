//! What survives losing everything else: the recovery file.
//!
//! Data needs three parts to be opened, and one of them rests in the coordinator, sealed under the
//! control key. Without the coordinator, or without the control key, all data would be lost for ever. The recovery
//! file holds both: the control key itself, and every secret that is sealed under it. It is written by
//! `control init`, renewed by `recovery export` (after a node joined or a tenant was made, it lacks their
//! parts), checked by `recovery verify`, and sealed under a passphrase (`crypto::recovery`).
//!
//! It holds neither routes nor tables nor principals: those come from a snapshot of the coordinator.
//! Restoring puts in what is missing and never overwrites what is there, so it may be run on an
//! empty coordinator, on one restored from an older snapshot, or on a whole one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::coordination::values::to_json;
use crate::coordination::{Compare, Coordinator, Operation, layout};
use crate::crypto::Key256;
use crate::domain::ids::PlaneId;
use crate::domain::{Random, Refusal, Timestamp};

use super::history::refusal;
use super::plane::ControlPlane;
use super::records::{ClusterRecord, SealedKeyRecord};
use super::sealed::{SecretName, Vault};

/// What a recovery file holds, before it is sealed. Neither `Debug` nor `Clone`: it is all secrets.
#[derive(Serialize, Deserialize)]
pub struct RecoveryContents {
    /// The format of this JSON.
    pub format: u32,
    /// When it was made.
    pub made_at: Timestamp,
    /// The cluster's record.
    pub cluster: ClusterRecord,
    control_key: SecretText,
    secrets: Vec<RecoveredSecret>,
}

#[derive(Serialize, Deserialize)]
struct RecoveredSecret {
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<Uuid>,
    version: u32,
    created_at: Timestamp,
    secret: SecretText,
}

/// A secret in base64 that wipes itself.
#[derive(Serialize, Deserialize, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
#[serde(transparent)]
struct SecretText(String);

impl SecretText {
    fn new(bytes: &[u8]) -> Self {
        Self(BASE64.encode(bytes))
    }

    fn bytes(&self) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let bytes = BASE64
            .decode(&self.0)
            .map_err(|_| Refusal::bad_input("the recovery file's contents are not understood"))?;
        Ok(Zeroizing::new(bytes))
    }
}

/// What a recovery file holds, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverySummary {
    /// The control plane.
    pub plane: PlaneId,
    /// When it was made.
    pub made_at: Timestamp,
    /// How many secrets of each kind.
    pub secrets: std::collections::BTreeMap<String, usize>,
    /// Secrets that the control plane has and the file lacks (`verify` against a running control only).
    #[serde(default)]
    pub missing: Vec<String>,
}

impl RecoveryContents {
    /// The bytes that are sealed.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(to_json(self).to_vec())
    }

    /// The contents of opened bytes.
    ///
    /// # Errors
    /// `BadInput` where they are not understood.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let contents: Self = serde_json::from_slice(bytes)
            .map_err(|_| Refusal::bad_input("the recovery file's contents are not understood"))?;
        if contents.format > 1 {
            return Err(Refusal::bad_input("the recovery file was written by a newer dstore"));
        }
        Ok(contents)
    }

    /// The control key.
    ///
    /// # Errors
    /// `BadInput` where it is not 256 bits.
    pub fn control_key(&self) -> Result<Key256, Refusal> {
        super::sealed::key_of(&self.control_key.bytes()?)
    }

    /// What it holds, for people.
    pub fn summary(&self) -> RecoverySummary {
        let mut secrets = std::collections::BTreeMap::new();
        for secret in &self.secrets {
            *secrets.entry(secret.kind.clone()).or_default() += 1;
        }
        RecoverySummary { plane: self.cluster.plane, made_at: self.made_at, secrets, missing: Vec::new() }
    }

    /// Puts what is missing into a coordinator. How many records were written.
    ///
    /// # Errors
    /// `Conflict` where the coordinator holds another cluster.
    pub async fn restore(
        &self,
        coordinator: &dyn Coordinator,
        random: std::sync::Arc<dyn Random>,
    ) -> Result<usize, Refusal> {
        let there = coordinator.get(layout::CONTROL_CLUSTER).await.map_err(refusal)?;
        if let Some(entry) = &there {
            let cluster: ClusterRecord = crate::coordination::values::from_json(&entry.value)
                .map_err(|_| super::sealed::unreadable(layout::CONTROL_CLUSTER))?;
            if cluster.plane != self.cluster.plane {
                return Err(Refusal::conflict(format!(
                    "the coordinator holds the cluster {}, and the recovery file is of {}",
                    cluster.plane, self.cluster.plane
                )));
            }
        }
        let vault = Vault::new(self.cluster.plane, &self.control_key()?, random)?;
        let mut written = 0;
        if there.is_none() {
            written += put_absent(coordinator, layout::CONTROL_CLUSTER.to_owned(), to_json(&self.cluster)).await?;
        }
        let mut records: std::collections::BTreeMap<SecretName, SealedKeyRecord> = std::collections::BTreeMap::new();
        for secret in &self.secrets {
            let name = SecretName::from_parts(&secret.kind, secret.owner).ok_or_else(|| {
                Refusal::bad_input(format!("the recovery file holds a key of unknown kind {:?}", secret.kind))
            })?;
            let record = records
                .entry(name)
                .or_insert_with(|| SealedKeyRecord { versions: Vec::new(), in_use: Default::default() });
            record.versions.push(vault.version(name, secret.version, &secret.secret.bytes()?, secret.created_at));
        }
        for (name, mut record) in records {
            record.versions.sort_by_key(|version| version.version);
            written += put_absent(coordinator, name.key(), to_json(&record)).await?;
        }
        Ok(written)
    }
}

async fn put_absent(coordinator: &dyn Coordinator, key: String, value: bytes::Bytes) -> Result<usize, Refusal> {
    let done =
        coordinator.transact(vec![Compare::absent(&key)], vec![Operation::put(&key, value)]).await.map_err(refusal)?;
    Ok(usize::from(done.succeeded))
}

impl ControlPlane {
    /// Everything that a recovery file is to hold, now.
    ///
    /// # Errors
    /// `Denied` where `control_key` is not this cluster's; `Unavailable`.
    pub async fn recovery_contents(&self, control_key: &Key256) -> Result<RecoveryContents, Refusal> {
        let mut secrets = Vec::new();
        for (entry, record) in self.records::<SealedKeyRecord>(layout::CONTROL_KEYS).await? {
            let Some(name) = SecretName::from_key(&entry.key) else { continue };
            for ((version, secret), sealed) in self.open_versions(name, &record)?.into_iter().zip(&record.versions) {
                secrets.push(RecoveredSecret {
                    kind: name.kind().to_owned(),
                    owner: name.owner(),
                    version,
                    created_at: sealed.created_at,
                    secret: SecretText::new(&secret),
                });
            }
        }
        Ok(RecoveryContents {
            format: 1,
            made_at: self.now(),
            cluster: self.cluster.clone(),
            control_key: SecretText::new(control_key.expose()),
            secrets,
        })
    }

    /// What a recovery file holds, and what it lacks of what there is now.
    ///
    /// # Errors
    /// `Conflict` where it is another cluster's.
    pub async fn recovery_verify(&self, contents: &RecoveryContents) -> Result<RecoverySummary, Refusal> {
        if contents.cluster.plane != self.plane() {
            return Err(Refusal::conflict("the recovery file is of another cluster"));
        }
        let mut summary = contents.summary();
        for (entry, record) in self.records::<SealedKeyRecord>(layout::CONTROL_KEYS).await? {
            let Some(name) = SecretName::from_key(&entry.key) else { continue };
            for (version, secret) in self.open_versions(name, &record)? {
                let same = |kept: &RecoveredSecret| {
                    kept.kind == name.kind()
                        && kept.owner == name.owner()
                        && kept.version == version
                        && kept.secret.bytes().is_ok_and(|bytes| *bytes == *secret)
                };
                if !contents.secrets.iter().any(same) {
                    let owner = name.owner().map(|owner| format!(" {owner}")).unwrap_or_default();
                    summary.missing.push(format!("{}{owner} version {version}", name.kind()));
                }
            }
        }
        Ok(summary)
    }
}
