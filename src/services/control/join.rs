//! How a component becomes a member: an invitation, used once.
//!
//! `invite` makes a secret of 256 bits and keeps its SHA-256 digest only; the token that is shown
//! once to the administrator is `dsj1.{secret}.{fingerprint}`, where the fingerprint is the SHA-256
//! of the certificate authority's certificate (both base64url). A joiner has nothing yet that could
//! tell it whether it talks to the right control plane: the fingerprint does.
//!
//! `join` takes the token and a certificate signing request. In one transaction the invitation is
//! removed, the member recorded, and its part of its key made; so a token that two use at once
//! lets one in. Nothing of the request decides who the member is: role and name come from the
//! invitation, the UUID is made here.
//!
//! A lost answer costs the invitation: the member that was recorded has no certificate, holds
//! nothing, and is removed by `node remove`. That was chosen over remembering answers, which would be
//! certificates that a second reader of the token could fetch.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::coordination::values::{NodeDetails, NodeStatus, from_json, to_json};
use crate::coordination::{Compare, Operation, layout};
use crate::crypto::Key256;
use crate::domain::ambient::random_uuid;
use crate::domain::ids::{NodeId, PlaneId, Role};
use crate::domain::{Refusal, RefusalKind, Timestamp};
use crate::services::ports::Caller;
use crate::transport::pki::{Authority, CERTIFICATE_SECONDS, PeerIdentity, authority_fingerprint};

use super::history::{Change, refusal};
use super::keys::{KeyOwner, member_key, member_secret};
use super::plane::ControlPlane;
use super::records::{JoinTokenRecord, MemberRecord, NodeWish};
use super::sealed::{SecretName, unreadable};
use super::tenants::json;

const TOKEN_PREFIX: &str = "dsj1";
const INVITATION_SECONDS_MAX: u64 = 30 * 24 * 3600;

/// An invitation as it is shown once.
pub struct Invitation {
    /// The token. Whoever has it can join.
    pub token: Zeroizing<String>,
    /// What it lets in.
    pub role: Role,
    /// Until when.
    pub expires_at: Timestamp,
}

/// What a joiner sends.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The invitation's token.
    pub token: String,
    /// The role that it wants to play; must be the invitation's.
    pub role: Role,
    /// A certificate signing request, PEM. Only its public key is used.
    pub certificate_request_pem: String,
    /// For a node: where clients reach it.
    #[serde(default)]
    pub uri: Option<String>,
    /// For a node: where other components reach it.
    #[serde(default)]
    pub inside_uri: Option<String>,
    /// For a node: its zone.
    #[serde(default)]
    pub zone: Option<String>,
    /// The highest version of the cluster's formats that it knows; 1 where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u32>,
}

/// What a joiner gets. Nothing in it is secret: key parts are asked for with the certificate.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Joined {
    /// The control plane.
    pub plane: PlaneId,
    /// The member's UUID here.
    pub id: Uuid,
    /// Its certificate, PEM.
    pub certificate_pem: String,
    /// The authority's certificate, PEM.
    pub authority_pem: String,
}

impl ControlPlane {
    /// Invites a component. `seconds` is how long the token is good; a day where none is given.
    ///
    /// # Errors
    /// `BadInput` for the control role or a time over thirty days.
    pub async fn invite(
        &self,
        caller: &Caller,
        role: Role,
        name: Option<String>,
        seconds: Option<u64>,
    ) -> Result<Invitation, Refusal> {
        if role == Role::Control {
            return Err(Refusal::bad_input("instances of control are not invited: they share the control key"));
        }
        let seconds = seconds.unwrap_or(self.options.invitation_seconds);
        if !(1..=INVITATION_SECONDS_MAX).contains(&seconds) {
            return Err(Refusal::bad_input("an invitation is good for 1 second to 30 days"));
        }
        if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > 100 || name.chars().any(char::is_control)) {
            return Err(Refusal::bad_input("a name is 1 to 100 characters without control characters"));
        }
        let secret = Key256::random(self.random.as_ref());
        let encoded = Zeroizing::new(BASE64URL.encode(secret.expose()));
        let fingerprint = authority_fingerprint(&self.cluster.authority_pem)
            .map_err(|problem| Refusal::internal(format!("the authority's certificate: {problem}")))?;
        let token = Zeroizing::new(format!("{TOKEN_PREFIX}.{}.{fingerprint}", encoded.as_str()));
        let now = self.now();
        let record = JoinTokenRecord {
            role,
            name,
            created_at: now,
            created_by: caller.name.clone(),
            expires_at: now.plus_seconds(seconds),
        };
        let key = layout::control_join_token(&digest_hex(encoded.as_bytes()));
        self.coordinator
            .transact(
                vec![Compare::absent(&key)],
                vec![
                    Operation::put(&key, to_json(&record)),
                    self.admin_event(&caller.name, "invited", &role.to_string()),
                ],
            )
            .await
            .map_err(refusal)?;
        tracing::info!(%role, who = %caller.name, "invited");
        Ok(Invitation { token, role, expires_at: record.expires_at })
    }

    /// Lets a joiner in.
    ///
    /// # Errors
    /// `Unauthenticated` for a token that is unknown, used, expired or for another role; `BadInput` for
    /// a request that cannot be signed.
    pub async fn join(&self, request: JoinRequest) -> Result<Joined, Refusal> {
        let bad = || {
            Refusal::new(
                RefusalKind::Unauthenticated,
                "this join token is not (or no longer) good; ask for a new invitation",
            )
        };
        let secret = token_parts(&request.token).ok_or_else(bad)?.0;
        let token_key = layout::control_join_token(&digest_hex(secret.as_bytes()));
        let entry = self.coordinator.get(&token_key).await.map_err(refusal)?.ok_or_else(bad)?;
        let invitation: JoinTokenRecord = from_json(&entry.value).map_err(|_| unreadable(&token_key))?;
        let now = self.now();
        if invitation.role != request.role || invitation.expires_at <= now {
            return Err(bad());
        }
        let cluster = self.cluster_read().await?;
        super::upgrade::check_format(cluster.0.format, request.format.unwrap_or(1))?;
        let id = random_uuid(self.random.as_ref());
        let certificate_pem = self.certificate_sign(request.role, id, &request.certificate_request_pem, now).await?;
        let (Some(record_key), Some(secret)) = (member_key(request.role, id), member_secret(request.role, id)) else {
            return Err(bad());
        };
        let record = MemberRecord {
            role: request.role,
            id,
            name: invitation.name,
            joined_at: now,
            certificate_until: now.plus_seconds(CERTIFICATE_SECONDS),
            wish: NodeWish::Serve,
            hand_over_until: None,
            inside_url: None,
        };
        let part = Key256::random(self.random.as_ref());
        let mut operations = vec![
            Operation::delete(&token_key),
            Operation::put(record_key, to_json(&record)),
            Operation::put(secret.key(), to_json(&self.vault.first_version(secret, part.expose(), now))),
        ];
        if request.role == Role::Node {
            operations.push(Operation::put(layout::node_details(NodeId(id)), to_json(&details_of(&request)?)));
        }
        let done = self
            .commit(Change {
                resource: format!("{}/{id}", request.role),
                who: &format!("invitation by {}", invitation.created_by),
                before: None,
                after: Some(json(&record)),
                compares: vec![
                    Compare::unchanged(&token_key, Some(&entry)),
                    // The formats are not raised while one that does not know them comes in.
                    Compare::unchanged(&cluster.1.key, Some(&cluster.1)),
                ],
                operations,
            })
            .await?;
        if !done {
            return Err(bad());
        }
        let authority_pem = self.cluster.authority_pem.clone();
        Ok(Joined { plane: self.plane(), id, certificate_pem, authority_pem })
    }

    /// A new certificate for a member, which proved who it is with the one it has.
    ///
    /// # Errors
    /// `Denied` where it is no member any more.
    pub async fn certificate_renew(&self, peer: KeyOwner, request_pem: &str) -> Result<String, Refusal> {
        self.member_check(peer).await?;
        let now = self.now();
        let certificate = self.certificate_sign(peer.role, peer.id, request_pem, now).await?;
        if let Some(key) = member_key(peer.role, peer.id)
            && let Some(entry) = self.coordinator.get(&key).await.map_err(refusal)?
        {
            let mut record: MemberRecord = from_json(&entry.value).map_err(|_| unreadable(&key))?;
            record.certificate_until = now.plus_seconds(CERTIFICATE_SECONDS);
            // Only what people are shown; where someone else was quicker, the next renewal will say it.
            let compares = vec![Compare::unchanged(&key, Some(&entry))];
            self.coordinator.transact(compares, vec![Operation::put(&key, to_json(&record))]).await.map_err(refusal)?;
        }
        tracing::info!(role = %peer.role, id = %peer.id, "certificate renewed");
        Ok(certificate)
    }

    /// Signs a certificate for control itself: no member, but it serves the inside listener.
    ///
    /// # Errors
    /// `BadInput` for a request that cannot be signed.
    pub async fn certificate_for_control(&self, id: Uuid, request_pem: &str) -> Result<String, Refusal> {
        self.certificate_sign(Role::Control, id, request_pem, self.now()).await
    }

    async fn certificate_sign(
        &self,
        role: Role,
        id: Uuid,
        request_pem: &str,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        let versions = self.secret_versions(SecretName::Authority).await?;
        let (_, key_pem) = versions.last().ok_or_else(|| Refusal::internal("the authority has no key"))?;
        let key_pem = std::str::from_utf8(key_pem).map_err(|_| Refusal::internal("the authority's key is not PEM"))?;
        let authority = Authority::open(&self.cluster.authority_pem, key_pem)
            .map_err(|problem| Refusal::internal(format!("the authority cannot be opened: {problem}")))?;
        let mut serial = [0u8; 16];
        self.random.fill(&mut serial);
        authority
            .sign(request_pem, PeerIdentity { plane: self.plane(), role, id }, serial, now)
            .map_err(|problem| Refusal::bad_input(format!("the certificate request cannot be signed: {problem}")))
    }
}

/// The secret and the authority's fingerprint in a join token.
pub fn token_parts(token: &str) -> Option<(&str, &str)> {
    let mut parts = token.trim().split('.');
    let (prefix, secret, fingerprint) = (parts.next()?, parts.next()?, parts.next()?);
    (prefix == TOKEN_PREFIX && secret.len() == 43 && fingerprint.len() == 43 && parts.next().is_none())
        .then_some((secret, fingerprint))
}

fn details_of(request: &JoinRequest) -> Result<NodeDetails, Refusal> {
    let uri = request.uri.clone().ok_or_else(|| Refusal::bad_input("a node that joins says its uri"))?;
    Ok(NodeDetails {
        // The node itself says okay when it serves; until then nothing is placed on it.
        status: NodeStatus::Down,
        uri,
        inside_uri: request.inside_uri.clone(),
        zone: request.zone.clone(),
        incarnation: None,
        boot: None,
        capacity_bytes: None,
        free_bytes: None,
        version: None,
        format: request.format,
    })
}

fn digest_hex(secret: &[u8]) -> String {
    Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_taken_apart_or_not_at_all() {
        let (secret, fingerprint) = ("s".repeat(43), "f".repeat(43));
        let token = format!("dsj1.{secret}.{fingerprint}\n");
        assert_eq!(token_parts(&token), Some((secret.as_str(), fingerprint.as_str())));
        for bad in ["", "dsj1", "dsj2.a.b", &format!("dsj1.{secret}"), &format!("{}.x", token.trim())] {
            assert_eq!(token_parts(bad), None, "{bad}");
        }
    }
}
