//! What whoever checks credentials has to know, kept up to date: token keys, revoked sessions,
//! principals, access keys. In this process by watches; proxies and nodes ask for the same snapshot over the inside
//! API every few seconds, well within the 30 seconds that a revocation may take.
//!
//! A change of any of the four makes the whole snapshot anew. They are small and change rarely, and a
//! snapshot cannot be half applied.
//!
//! One record that cannot be read does not keep the others from being taken in: a principal or an access key is then
//! not in the snapshot, a session is in it as revoked, so that each is refused ([`super::set_aside`]). Token keys are
//! no such matter: without them nothing is known, and the last known stay.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::coordination::{Reflected, Reflector, ReflectorOptions, layout};
use crate::domain::Refusal;
use crate::domain::ids::{PrincipalId, SessionId};
use crate::services::access::{AccessLists, TokenKey, TokenKeys};

use super::access_keys::AccessKeySecret;
use super::plane::ControlPlane;
use super::records::{PrincipalRecord, SessionRecord};

/// The pause before lists that could not be read are read again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Everything needed to check tokens and signatures.
#[derive(Clone)]
pub struct AccessSnapshot {
    /// Token keys, the current one first.
    pub token_keys: Vec<TokenKey>,
    /// Sessions revoked whose tokens have not expired by themselves.
    pub revoked_sessions: HashSet<SessionId>,
    /// Principals that are there and not revoked.
    pub principals: HashSet<PrincipalId>,
    /// Access keys that are good, by their ids.
    pub access_keys: Vec<AccessKeySecret>,
}

impl ControlPlane {
    /// The snapshot as it is now.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn access_snapshot(&self) -> Result<AccessSnapshot, Refusal> {
        let now = self.now();
        let sessions = self.records_readable::<SessionRecord>(layout::CONTROL_SESSIONS).await?;
        let principals = self.records_readable::<PrincipalRecord>(layout::CONTROL_PRINCIPALS).await?.records;
        let access_keys = self.access_keys_of(&principals).await?;
        // Whether such a one was revoked nobody can tell, so it is.
        let unreadable = sessions.unreadable.iter().filter_map(|key| session_of(key));
        let revoked =
            sessions.records.iter().filter(|session| session.revoked_at.is_some() && session.expires_at > now);
        Ok(AccessSnapshot {
            access_keys,
            token_keys: self.access_token_keys().await?,
            revoked_sessions: revoked.map(|session| session.id).chain(unreadable).collect(),
            principals: principals
                .into_iter()
                .filter(|principal| principal.revoked_at.is_none())
                .map(|principal| principal.id)
                .collect(),
        })
    }

    /// Fills `keys` and `lists` and keeps them up to date until the task is aborted or control is gone.
    ///
    /// # Errors
    /// `Unavailable` where they cannot be filled now.
    pub async fn access_follow(
        self: &Arc<Self>,
        keys: Arc<TokenKeys>,
        lists: Arc<AccessLists>,
    ) -> Result<JoinHandle<()>, Refusal> {
        apply(&self.access_snapshot().await?, &keys, &lists);
        let start = |prefix: String| Reflector::start(self.coordinator.clone(), prefix, ReflectorOptions::default());
        let sources = [
            start(layout::CONTROL_SESSIONS.to_owned()),
            start(layout::CONTROL_PRINCIPALS.to_owned()),
            start(layout::CONTROL_ACCESS_KEYS.to_owned()),
            start(super::sealed::SecretName::Token.key()),
        ];
        Ok(tokio::spawn(follow(Arc::downgrade(self), sources, keys, lists)))
    }
}

/// The session whose record has this key.
fn session_of(key: &str) -> Option<SessionId> {
    key.strip_prefix(layout::CONTROL_SESSIONS)?.parse().ok()
}

/// Puts a snapshot where the authenticator looks.
pub fn apply(snapshot: &AccessSnapshot, keys: &TokenKeys, lists: &AccessLists) {
    keys.replace(snapshot.token_keys.clone());
    lists.set_principals(snapshot.principals.clone());
    lists.set_revoked_sessions(snapshot.revoked_sessions.clone());
    let entry = |key: &AccessKeySecret| (key.access_key_id.clone(), key.secret_access_key.clone(), key.caller.clone());
    lists.access_keys.replace(snapshot.access_keys.iter().map(entry));
}

async fn follow(plane: Weak<ControlPlane>, sources: [Reflector; 4], keys: Arc<TokenKeys>, lists: Arc<AccessLists>) {
    let [mut sessions, mut principals, mut access_keys, mut token_keys] = sources;
    // Whether a change could not be read: then it is tried again, since a revocation may be in it.
    let mut is_behind = false;
    loop {
        let is_due = tokio::select! {
            news = sessions.next() => is_news(news),
            news = principals.next() => is_news(news),
            news = access_keys.next() => is_news(news),
            news = token_keys.next() => is_news(news),
            () = lists.news_wanted() => Some(true),
            () = tokio::time::sleep(RETRY_PAUSE), if is_behind => Some(true),
        };
        match is_due {
            None => return,
            Some(false) => continue,
            Some(true) => {}
        }
        let Some(plane) = plane.upgrade() else { return };
        let read = plane.access_snapshot().await;
        is_behind = read.is_err();
        match read {
            Ok(snapshot) => apply(&snapshot, &keys, &lists),
            Err(problem) => {
                tracing::warn!(%problem, "principals, sessions and access keys could not be read again; the last known stay")
            }
        }
        lists.note_told();
    }
}

/// Whether something may have changed; none where nothing is followed any more.
fn is_news(told: Option<Reflected>) -> Option<bool> {
    Some(match told? {
        Reflected::Changes(batch) => !batch.events.is_empty(),
        Reflected::Lost(_) => false,
        Reflected::Snapshot(_) | Reflected::Resumed(_) => true,
    })
}
