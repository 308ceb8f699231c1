//! What whoever checks credentials has to know, kept up to date: token keys, revoked sessions,
//! principals. In this process by watches; proxies and nodes ask for the same snapshot over the inside
//! API every few seconds, well within the 30 seconds that a revocation may take.
//!
//! A change of any of the three makes the whole snapshot anew. They are small and change rarely, and a
//! snapshot cannot be half applied.

use std::collections::HashSet;
use std::sync::{Arc, Weak};

use tokio::task::JoinHandle;

use crate::coordination::{Reflected, Reflector, ReflectorOptions, layout};
use crate::domain::Refusal;
use crate::domain::ids::{PrincipalId, SessionId};
use crate::services::access::{AccessLists, TokenKey, TokenKeys};

use super::plane::ControlPlane;

/// Everything needed to check tokens.
#[derive(Clone)]
pub struct AccessSnapshot {
    /// Token keys, the current one first.
    pub token_keys: Vec<TokenKey>,
    /// Sessions revoked whose tokens have not expired by themselves.
    pub revoked_sessions: HashSet<SessionId>,
    /// Principals that are there and not revoked.
    pub principals: HashSet<PrincipalId>,
}

impl ControlPlane {
    /// The snapshot as it is now.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn access_snapshot(&self) -> Result<AccessSnapshot, Refusal> {
        let now = self.now();
        let sessions = self.session_list(None).await?;
        let principals = self.principal_list(None).await?;
        Ok(AccessSnapshot {
            token_keys: self.access_token_keys().await?,
            revoked_sessions: sessions
                .into_iter()
                .filter(|session| session.revoked_at.is_some() && session.expires_at > now)
                .map(|session| session.id)
                .collect(),
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
            start(super::sealed::SecretName::Token.key()),
        ];
        Ok(tokio::spawn(follow(Arc::downgrade(self), sources, keys, lists)))
    }
}

/// Puts a snapshot where the authenticator looks.
pub fn apply(snapshot: &AccessSnapshot, keys: &TokenKeys, lists: &AccessLists) {
    keys.replace(snapshot.token_keys.clone());
    lists.set_principals(snapshot.principals.clone());
    lists.set_revoked_sessions(snapshot.revoked_sessions.clone());
}

async fn follow(plane: Weak<ControlPlane>, sources: [Reflector; 3], keys: Arc<TokenKeys>, lists: Arc<AccessLists>) {
    let [mut sessions, mut principals, mut token_keys] = sources;
    loop {
        let is_due = tokio::select! {
            news = sessions.next() => is_news(news),
            news = principals.next() => is_news(news),
            news = token_keys.next() => is_news(news),
            () = lists.news_wanted() => Some(true),
        };
        match is_due {
            None => return,
            Some(false) => continue,
            Some(true) => {}
        }
        let Some(plane) = plane.upgrade() else { return };
        match plane.access_snapshot().await {
            Ok(snapshot) => apply(&snapshot, &keys, &lists),
            // The reflectors list again when the coordinator is back, and that leads here once more.
            Err(problem) => {
                tracing::warn!(%problem, "principals and sessions could not be read again; the last known stay")
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
