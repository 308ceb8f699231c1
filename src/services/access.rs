//! Who is asking: bearer tokens in, callers out. A token is a JWE ([`crate::crypto::token`]) whose claims say all that
//! a request needs: principal, tenant, capabilities, session and expiry. So no store is asked on the
//! way of a request; what can change meanwhile (a session revoked, a principal removed, a token key
//! rotated) is kept in memory by [`AccessLists`] and [`TokenKeys`], fed by whoever watches the
//! coordinator.
//!
//! Claims follow RFC 7519 where it has a name:
//!
//! | claim | what |
//! |---|---|
//! | `sub` | UUID of the principal |
//! | `name` | its name, for the history of changes |
//! | `tenant` | `{"id","name"}`; absent for a principal of the whole cluster (root) |
//! | `sid` | UUID of the session; revoking it ends all its tokens |
//! | `cap` | what it may do: `read`, `write`, `admin` |
//! | `iat`, `exp` | issued and expires, seconds since 1970 |
//!
//! Claims with more in them are refused: a later version may narrow what a token allows, and an older
//! one that overlooks it would allow too much.
//!
//! Opening a token costs some microseconds, so checked ones are remembered by their text. An entry is
//! good while it has not expired and while nothing was revoked, removed or rotated since it was made:
//! each such change moves one generation number, and entries of an older generation are checked
//! anew. So a hit looks at one map and two numbers, and allocates nothing. The next author must keep that
//! every change that could end a token moves the generation.
//!
//! A token can be newer than what is known here: its principal was made a moment ago, or its key is. Then whoever
//! feeds the lists is asked for news ([`AccessLists::news_wanted`]), once a second at most, and the token is checked again
//! when they are there. So nobody who has just been given a token is turned away, and garbage costs little.
//!
//! Rejected: looking at the revocation list on each hit (three set look-ups where a number will
//! do); remembering refused tokens (an attacker would fill the memory).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use hashbrown::HashMap;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::access_keys::{AccessKey, AccessKeyBook, is_id};
use super::ports::{Authenticator, Caller, Capability};
use crate::crypto::{Key256, cursor, token};
use crate::domain::ids::{PrincipalId, SessionId, TenantId};
use crate::domain::{Clock, Refusal, RefusalKind, TenantName, Timestamp};

/// How long a token that may be too new waits for news.
const NEWS_WAIT: std::time::Duration = std::time::Duration::from_secs(1);
/// A token issued so long ago, in seconds, is not too new for what is known here.
const NEW_SECONDS: u64 = 60;
/// Checked tokens that are remembered, at most.
const REMEMBERED_MAX: usize = 65_536;
const SHARDS: usize = 16;

/// The tenant that a principal belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimedTenant {
    /// Its id: a later tenant of the same name is another.
    pub id: TenantId,
    /// Its name.
    pub name: TenantName,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Whose token it is.
    #[serde(rename = "sub")]
    pub principal: PrincipalId,
    /// The principal's name.
    pub name: String,
    /// The principal's tenant; none for root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<ClaimedTenant>,
    /// The session that the token belongs to.
    #[serde(rename = "sid")]
    pub session: SessionId,
    /// What it may do within its tenant.
    #[serde(rename = "cap")]
    pub capabilities: Vec<Capability>,
    /// When it was issued, in seconds since 1970.
    #[serde(rename = "iat")]
    pub issued_at_seconds: u64,
    /// When it ends, in seconds since 1970.
    #[serde(rename = "exp")]
    pub expires_at_seconds: u64,
}

/// Makes a token of these claims. The nonce must be random and fresh.
///
/// # Errors
/// `Internal` where the claims cannot be written, which none of this shape can fail to be.
pub fn issue(
    token_key: &Key256,
    key_id: &str,
    claims: &Claims,
    nonce: [u8; token::NONCE_BYTES],
) -> Result<String, Refusal> {
    token::seal(token_key, key_id, claims, nonce).map_err(|error| Refusal::internal(error.to_string()))
}

/// One token key with its id, and the key for cursors that follows from it.
#[derive(Clone)]
pub struct TokenKey {
    id: String,
    key: Key256,
    cursor_key: Key256,
}

impl TokenKey {
    /// The token key of this id.
    pub fn new(id: impl Into<String>, key: Key256) -> Self {
        let cursor_key = cursor::derive_key(&key);
        Self { id: id.into(), key, cursor_key }
    }

    /// The id, as tokens name it (`kid`).
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key that tokens are sealed under.
    pub fn key(&self) -> &Key256 {
        &self.key
    }

    /// The key that cursors are sealed under.
    pub fn cursor_key(&self) -> &Key256 {
        &self.cursor_key
    }
}

/// The token keys of the cluster: the current one first, then those that still open.
pub struct TokenKeys {
    keys: ArcSwap<Vec<TokenKey>>,
    generation: AtomicU64,
}

impl TokenKeys {
    /// These keys, the current one first. Without any, no token opens.
    pub fn new(keys: Vec<TokenKey>) -> Self {
        Self { keys: ArcSwap::from_pointee(keys), generation: AtomicU64::new(0) }
    }

    /// Takes other keys, after a rotation.
    pub fn replace(&self, keys: Vec<TokenKey>) {
        self.keys.store(Arc::new(keys));
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The keys as they are now, the current one first.
    pub fn load(&self) -> Arc<Vec<TokenKey>> {
        self.keys.load_full()
    }
}

/// What ended before its time: sessions revoked, and which principals are still there; and the access keys that are good.
#[derive(Default)]
pub struct AccessLists {
    /// The access keys, for whoever checks signatures.
    pub access_keys: AccessKeyBook,
    revoked_sessions: ArcSwap<HashSet<SessionId>>,
    principals: ArcSwap<HashSet<PrincipalId>>,
    generation: AtomicU64,
    wanted: Notify,
    told: Notify,
    asked_at_seconds: AtomicU64,
}

impl AccessLists {
    /// Takes the whole list of revoked sessions. A session may leave it when its last token expired.
    pub fn set_revoked_sessions(&self, sessions: HashSet<SessionId>) {
        self.revoked_sessions.store(Arc::new(sessions));
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The principals that are there.
    pub fn principals(&self) -> Arc<HashSet<PrincipalId>> {
        self.principals.load_full()
    }

    /// Waits until a token came that may be newer than what is known here: whoever feeds the lists then asks anew.
    pub async fn news_wanted(&self) {
        self.wanted.notified().await;
    }

    /// Says that everything is here that was known a moment ago, whether it is new or not.
    pub fn note_told(&self) {
        self.told.notify_waiters();
    }

    /// Asks for news and waits for them, for [`NEWS_WAIT`] at most.
    async fn news(&self, now_seconds: u64) {
        let told = self.told.notified();
        tokio::pin!(told);
        // Before asking: what is told in between is not missed.
        told.as_mut().enable();
        if self.asked_at_seconds.swap(now_seconds, Ordering::AcqRel) != now_seconds {
            self.wanted.notify_one();
        }
        // Where nobody tells anything, the lists stay as they are, and so does the answer.
        let _ = tokio::time::timeout(NEWS_WAIT, told).await;
    }

    /// The access key of this id. One that is not known may have been made a moment ago, so news of it is asked for first.
    pub async fn access_key(&self, id: &str, now: Timestamp) -> Option<Arc<AccessKey>> {
        let known = self.access_keys.find(id);
        if known.is_some() || !is_id(id) {
            return known;
        }
        self.news(now.0 / 1_000_000).await;
        self.access_keys.find(id)
    }

    /// Takes the whole list of principals. A token of any other is refused.
    pub fn set_principals(&self, principals: HashSet<PrincipalId>) {
        self.principals.store(Arc::new(principals));
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

/// A token that was checked.
struct Remembered {
    caller: Arc<Caller>,
    expires_at: Timestamp,
    generation: u64,
}

/// Tells callers by their tokens.
pub struct TokenAuthenticator {
    keys: Arc<TokenKeys>,
    lists: Arc<AccessLists>,
    clock: Arc<dyn Clock>,
    hasher: hashbrown::DefaultHashBuilder,
    shards: [RwLock<HashMap<Box<str>, Remembered>>; SHARDS],
}

impl TokenAuthenticator {
    /// An authenticator over these keys and lists, which others keep up to date.
    pub fn new(keys: Arc<TokenKeys>, lists: Arc<AccessLists>, clock: Arc<dyn Clock>) -> Self {
        let shards = std::array::from_fn(|_| RwLock::new(HashMap::new()));
        Self { keys, lists, clock, hasher: hashbrown::DefaultHashBuilder::default(), shards }
    }

    fn generation(&self) -> u64 {
        // Both only grow, so their sum is the same only while neither moved.
        self.keys.generation.load(Ordering::Acquire) + self.lists.generation.load(Ordering::Acquire)
    }

    fn now_seconds(&self) -> u64 {
        self.clock.now().0 / 1_000_000
    }

    fn shard(&self, token: &str) -> &RwLock<HashMap<Box<str>, Remembered>> {
        use std::hash::BuildHasher;
        &self.shards[self.hasher.hash_one(token) as usize % SHARDS]
    }

    fn check(&self, text: &str) -> Result<Arc<Caller>, NotLetIn> {
        // Read before the lists: a change in between makes the entry old at once, never too young.
        let generation = self.generation();
        let keys = self.keys.load();
        let claims: Claims = token::open(text, |id| keys.iter().find(|key| key.id == id).map(|key| key.key.clone()))
            .map_err(|error| {
                let refusal = refused(&format!("{error}; ask for a new token"));
                if error == token::TokenError::UnknownKey { NotLetIn::Yet(refusal) } else { NotLetIn::Ever(refusal) }
            })?;
        let expires_at = Timestamp(claims.expires_at_seconds.saturating_mul(1_000_000));
        if expires_at <= self.clock.now() {
            return Err(NotLetIn::Ever(refused("this token has expired; ask for a new one")));
        }
        if self.lists.revoked_sessions.load().contains(&claims.session) {
            return Err(NotLetIn::Ever(refused("the session of this token was revoked; log in again")));
        }
        if !self.lists.principals.load().contains(&claims.principal) {
            let refusal = refused("the principal of this token is not known here; it may have been removed");
            let is_new = claims.issued_at_seconds.saturating_add(NEW_SECONDS) > self.now_seconds();
            return Err(if is_new { NotLetIn::Yet(refusal) } else { NotLetIn::Ever(refusal) });
        }
        let caller = Arc::new(Caller {
            principal: claims.principal,
            name: claims.name,
            tenant: claims.tenant.map(|tenant| (tenant.id, tenant.name)),
            capabilities: claims.capabilities,
        });
        self.remember(text, Remembered { caller: caller.clone(), expires_at, generation });
        Ok(caller)
    }

    fn remember(&self, text: &str, checked: Remembered) {
        let mut shard = self.shard(text).write();
        if shard.len() >= REMEMBERED_MAX / SHARDS {
            let (now, generation) = (self.clock.now(), checked.generation);
            shard.retain(|_, old| old.expires_at > now && old.generation == generation);
            if shard.len() >= REMEMBERED_MAX / SHARDS {
                shard.clear();
            }
        }
        shard.insert(text.into(), checked);
    }
}

/// Why a token was not accepted.
enum NotLetIn {
    /// News would not change it.
    Ever(Refusal),
    /// It may be newer than what is known here.
    Yet(Refusal),
}

impl NotLetIn {
    fn refusal(self) -> Refusal {
        match self {
            NotLetIn::Ever(refusal) | NotLetIn::Yet(refusal) => refusal,
        }
    }
}

fn refused(message: &str) -> Refusal {
    Refusal::new(RefusalKind::Unauthenticated, message)
}

#[async_trait]
impl Authenticator for TokenAuthenticator {
    fn recall(&self, token: &str) -> Option<Arc<Caller>> {
        let shard = self.shard(token).read();
        let known = shard.get(token)?;
        let good = known.generation == self.generation() && known.expires_at > self.clock.now();
        good.then(|| known.caller.clone())
    }

    async fn authenticate(&self, token: &str) -> Result<Arc<Caller>, Refusal> {
        match self.recall(token) {
            Some(caller) => Ok(caller),
            None => match self.check(token) {
                Ok(caller) => Ok(caller),
                Err(NotLetIn::Ever(refusal)) => Err(refusal),
                Err(NotLetIn::Yet(_)) => {
                    self.lists.news(self.now_seconds()).await;
                    self.check(token).map_err(NotLetIn::refusal)
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
