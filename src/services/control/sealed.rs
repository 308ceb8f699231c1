//! Secrets in the coordinator, sealed under the control plane's own key.
//!
//! A secret has a name and versions. Each version is sealed by itself, and the label binds it to its
//! cluster, name and version (`dstore/vault/v1/{plane}/{name}/{version}`): whoever can write to the
//! coordinator can destroy a secret, but not pass one off as another or bring an old one back.
//!
//! Rotation adds a version and keeps the one before until every holder has reported that nothing of
//! its own is sealed under it any longer; so a third version is refused while there are two.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::coordination::values::from_json;
use crate::coordination::{KeyValue, layout};
use crate::crypto::hierarchy::KeyKind;
use crate::crypto::{Key256, envelope};
use crate::domain::ids::{NodeId, PlaneId, ProxyId, ReporterId, TenantId};
use crate::domain::{Random, Refusal, RefusalKind, Timestamp};

use super::history::refusal;
use super::plane::ControlPlane;
use super::records::{SealedKeyRecord, SealedVersion};

/// What a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretName {
    /// The key that tokens are sealed under.
    Token,
    /// The private key of the inside's certificate authority.
    Authority,
    /// A node's part at this control plane.
    Node(NodeId),
    /// A proxy's part at this control plane.
    Proxy(ProxyId),
    /// A reporter's part at this control plane.
    Reporting(ReporterId),
    /// A tenant's part at this control plane.
    Tenant(TenantId),
}

impl SecretName {
    /// The kind, as the coordinator's key and the CLI spell it.
    pub fn kind(self) -> &'static str {
        match self {
            SecretName::Token => "token",
            SecretName::Authority => "authority",
            SecretName::Node(_) => "node",
            SecretName::Proxy(_) => "proxy",
            SecretName::Reporting(_) => "reporting",
            SecretName::Tenant(_) => "tenant",
        }
    }

    /// Whose it is; none for those that the cluster has once.
    pub fn owner(self) -> Option<Uuid> {
        match self {
            SecretName::Token | SecretName::Authority => None,
            SecretName::Node(id) => Some(id.0),
            SecretName::Proxy(id) => Some(id.0),
            SecretName::Reporting(id) => Some(id.0),
            SecretName::Tenant(id) => Some(id.0),
        }
    }

    /// The name of this kind and owner.
    pub fn from_parts(kind: &str, owner: Option<Uuid>) -> Option<Self> {
        Some(match (kind, owner) {
            ("token", None) => SecretName::Token,
            ("authority", None) => SecretName::Authority,
            ("node", Some(id)) => SecretName::Node(NodeId(id)),
            ("proxy", Some(id)) => SecretName::Proxy(ProxyId(id)),
            ("reporting", Some(id)) => SecretName::Reporting(ReporterId(id)),
            ("tenant", Some(id)) => SecretName::Tenant(TenantId(id)),
            _ => return None,
        })
    }

    /// Its key in the coordinator.
    pub fn key(self) -> String {
        match self.owner() {
            Some(owner) => layout::control_key(&[self.kind(), &owner.to_string()]),
            None => layout::control_key(&[self.kind()]),
        }
    }

    /// The name whose key this is.
    pub fn from_key(key: &str) -> Option<Self> {
        let rest = key.strip_prefix(layout::CONTROL_KEYS)?;
        match rest.split_once('/') {
            Some((kind, owner)) => Self::from_parts(kind, Some(Uuid::parse_str(owner).ok()?)),
            None => Self::from_parts(rest, None),
        }
    }
}

/// Seals and opens for one cluster.
pub(super) struct Vault {
    plane: PlaneId,
    key: Key256,
    random: Arc<dyn Random>,
}

impl Vault {
    pub(super) fn new(plane: PlaneId, control_key: &Key256, random: Arc<dyn Random>) -> Result<Self, Refusal> {
        let key = KeyKind::Control
            .combine(&[control_key])
            .map_err(|problem| Refusal::bad_input(format!("the control key cannot be used: {problem}")))?;
        Ok(Self { plane, key, random })
    }

    /// Seals `secret` for good as `label`; base64.
    pub(super) fn seal(&self, label: &str, secret: &[u8]) -> String {
        let mut nonce = [0u8; 12];
        self.random.fill(&mut nonce);
        BASE64.encode(envelope::seal_secret(&self.key, self.full_label(label).as_bytes(), secret, nonce))
    }

    /// Opens what [`Vault::seal`] sealed as the same label.
    pub(super) fn open(&self, label: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let wrong = || {
            Refusal::new(
                RefusalKind::Denied,
                format!(
                    "the secret {label:?} does not open under this control key: it is another cluster's key, or the record was changed"
                ),
            )
        };
        let sealed = BASE64.decode(sealed).map_err(|_| wrong())?;
        envelope::open_secret(&self.key, self.full_label(label).as_bytes(), &sealed).map_err(|_| wrong())
    }

    /// A record of `secret` in its first version.
    pub(super) fn first_version(&self, name: SecretName, secret: &[u8], now: Timestamp) -> SealedKeyRecord {
        SealedKeyRecord { versions: vec![self.version(name, 1, secret, now)], in_use: Default::default() }
    }

    /// One sealed version of `secret`.
    pub(super) fn version(&self, name: SecretName, version: u32, secret: &[u8], now: Timestamp) -> SealedVersion {
        SealedVersion { version, created_at: now, sealed: self.seal(&version_label(name, version), secret) }
    }

    fn full_label(&self, label: &str) -> String {
        format!("dstore/vault/v1/{}/{label}", self.plane)
    }
}

fn version_label(name: SecretName, version: u32) -> String {
    match name.owner() {
        Some(owner) => format!("{}/{owner}/{version}", name.kind()),
        None => format!("{}/{version}", name.kind()),
    }
}

/// A secret as it was read: its record, and the coordinator's entry to compare with.
pub(super) struct StoredSecret {
    pub(super) record: SealedKeyRecord,
    pub(super) entry: KeyValue,
}

impl ControlPlane {
    /// The record of a secret; none where it is not there (or no longer).
    pub(super) async fn secret_record(&self, name: SecretName) -> Result<Option<StoredSecret>, Refusal> {
        let Some(entry) = self.coordinator.get(&name.key()).await.map_err(refusal)? else { return Ok(None) };
        let record = from_json(&entry.value).map_err(|_| unreadable(&entry.key))?;
        Ok(Some(StoredSecret { record, entry }))
    }

    /// All versions of a secret, opened, ascending.
    pub(super) async fn secret_versions(&self, name: SecretName) -> Result<Vec<(u32, Zeroizing<Vec<u8>>)>, Refusal> {
        let stored = self.secret_record(name).await?.ok_or_else(|| {
            Refusal::not_found(format!("there is no {} key of that UUID at this control plane", name.kind()))
        })?;
        self.open_versions(name, &stored.record)
    }

    pub(super) fn open_versions(
        &self,
        name: SecretName,
        record: &SealedKeyRecord,
    ) -> Result<Vec<(u32, Zeroizing<Vec<u8>>)>, Refusal> {
        let open = |version: &SealedVersion| {
            let secret = self.vault.open(&version_label(name, version.version), &version.sealed)?;
            Ok((version.version, secret))
        };
        record.versions.iter().map(open).collect()
    }

    /// All versions of a 256-bit secret.
    pub(super) async fn key_versions(&self, name: SecretName) -> Result<Vec<(u32, Key256)>, Refusal> {
        self.secret_versions(name).await?.into_iter().map(|(version, secret)| Ok((version, key_of(&secret)?))).collect()
    }
}

/// 32 bytes as a key.
pub(super) fn key_of(secret: &[u8]) -> Result<Key256, Refusal> {
    let bytes: [u8; 32] = secret.try_into().map_err(|_| Refusal::internal("a stored key has not 256 bits"))?;
    Ok(Key256::new(bytes))
}

/// A record that does not parse.
pub(super) fn unreadable(key: &str) -> Refusal {
    Refusal::new(RefusalKind::Damaged, format!("the record {key:?} in the coordinator cannot be read"))
}
