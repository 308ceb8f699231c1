//! Sessions and the bearer tokens that belong to them. A token is shown once and kept nowhere: it
//! says by itself who it is for (`services::access`), and the session's record is only there to be
//! listed and revoked. Whoever checks tokens follows the list of revoked sessions and of principals.

use crate::coordination::values::to_json;
use crate::coordination::{Compare, Operation, layout};
use crate::crypto::token::NONCE_BYTES;
use crate::domain::ids::{PrincipalId, SessionId};
use crate::domain::{Refusal, Timestamp};
use crate::services::access::{ClaimedTenant, Claims, TokenKey, issue};
use crate::services::ports::Caller;

use super::history::{ATTEMPTS_MAX, Change, contended, refusal};
use super::plane::ControlPlane;
use super::records::{PrincipalRecord, SessionRecord};
use super::sealed::unreadable;

/// The longest time that a token may be good, in seconds.
pub const SESSION_SECONDS_MAX: u64 = 366 * 24 * 3600;
/// How long one is good where none is said.
pub const SESSION_SECONDS_DEFAULT: u64 = 30 * 24 * 3600;

/// What a new session is to be.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionStart {
    /// What it is for, in its maker's words.
    #[serde(default)]
    pub note: String,
    /// How long its token is good, in seconds.
    #[serde(default)]
    pub seconds: Option<u64>,
}

/// A session with its token, shown once.
pub struct TokenGrant {
    /// The session.
    pub session: SessionRecord,
    /// The token.
    pub token: zeroize::Zeroizing<String>,
}

impl ControlPlane {
    /// Begins a session of a principal and issues its token.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for a revoked principal, `BadInput` for too long a time.
    pub async fn session_start(
        &self,
        caller: &Caller,
        principal: PrincipalId,
        start: SessionStart,
    ) -> Result<TokenGrant, Refusal> {
        let seconds = start.seconds.unwrap_or(SESSION_SECONDS_DEFAULT);
        if !(1..=SESSION_SECONDS_MAX).contains(&seconds) || start.note.len() > 200 {
            return Err(Refusal::bad_input(
                "a token is good for 1 second to 366 days, and its note has 200 bytes at most",
            ));
        }
        for _ in 0..ATTEMPTS_MAX {
            let (owner, owner_entry) = self.principal_read(principal).await?;
            if owner.revoked_at.is_some() {
                return Err(Refusal::conflict("the principal was revoked"));
            }
            let now = self.now();
            let session = SessionRecord {
                id: SessionId::random(self.random.as_ref()),
                principal,
                note: start.note.clone(),
                created_at: now,
                expires_at: now.plus_seconds(seconds),
                revoked_at: None,
            };
            let token = self.token_issue(&owner, &session).await?;
            let done = self
                .commit(Change {
                    resource: format!("token/{}", session.id),
                    who: &caller.name,
                    before: None,
                    after: Some(super::tenants::json(&session)),
                    compares: vec![Compare::unchanged(&owner_entry.key, Some(&owner_entry))],
                    operations: vec![Operation::put(layout::control_session(session.id), to_json(&session))],
                })
                .await?;
            if done {
                return Ok(TokenGrant { session, token: token.into() });
            }
        }
        Err(contended())
    }

    async fn token_issue(&self, owner: &PrincipalRecord, session: &SessionRecord) -> Result<String, Refusal> {
        let keys = self.access_token_keys().await?;
        let key = keys.first().ok_or_else(|| Refusal::internal("there is no token key"))?;
        let claims = Claims {
            principal: owner.id,
            name: owner.name.clone(),
            tenant: owner.tenant.clone().map(|(id, name)| ClaimedTenant { id, name }),
            session: session.id,
            capabilities: owner.capabilities.clone(),
            issued_at_seconds: session.created_at.seconds_since(Timestamp(0)),
            expires_at_seconds: session.expires_at.seconds_since(Timestamp(0)),
        };
        let mut nonce = [0u8; NONCE_BYTES];
        self.random.fill(&mut nonce);
        issue(key.key(), key.id(), &claims, nonce)
    }

    /// The token keys as the authenticator takes them: the current one first.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn access_token_keys(&self) -> Result<Vec<TokenKey>, Refusal> {
        let mut keys: Vec<TokenKey> = self
            .token_keys()
            .await?
            .into_iter()
            .map(|part| TokenKey::new(part.version.to_string(), part.part))
            .collect();
        keys.reverse();
        Ok(keys)
    }

    /// Sessions: all, or a principal's.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn session_list(&self, principal: Option<PrincipalId>) -> Result<Vec<SessionRecord>, Refusal> {
        let records = self.records::<SessionRecord>(layout::CONTROL_SESSIONS).await?;
        let wanted = |record: &SessionRecord| principal.is_none_or(|principal| record.principal == principal);
        Ok(records.into_iter().map(|(_, record)| record).filter(wanted).collect())
    }

    /// One session.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub async fn session(&self, id: SessionId) -> Result<SessionRecord, Refusal> {
        let found = self.session_list(None).await?.into_iter().find(|session| session.id == id);
        found.ok_or_else(|| no_session(id))
    }

    /// Revokes a session: its tokens are refused as soon as those who check have heard.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub async fn session_revoke(&self, caller: &Caller, id: SessionId) -> Result<(), Refusal> {
        let key = layout::control_session(id);
        for _ in 0..ATTEMPTS_MAX {
            let entry = self.coordinator.get(&key).await.map_err(refusal)?;
            let entry = entry.ok_or_else(|| no_session(id))?;
            let before: SessionRecord =
                crate::coordination::values::from_json(&entry.value).map_err(|_| unreadable(&key))?;
            if before.revoked_at.is_some() {
                return Ok(());
            }
            let after = SessionRecord { revoked_at: Some(self.now()), ..before.clone() };
            let done = self
                .commit(Change {
                    resource: format!("token/{id}"),
                    who: &caller.name,
                    before: Some(super::tenants::json(&before)),
                    after: Some(super::tenants::json(&after)),
                    compares: vec![Compare::unchanged(&key, Some(&entry))],
                    operations: vec![Operation::put(&key, to_json(&after))],
                })
                .await?;
            if done {
                return Ok(());
            }
        }
        Err(contended())
    }
}

/// The refusal for a session that is not there, or not for the caller to know of.
pub fn no_session(id: SessionId) -> Refusal {
    Refusal::not_found(format!("there is no session {id}"))
}
