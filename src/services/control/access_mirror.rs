//! What control knows of credentials, at a member: asked for every few seconds, well within the 30 seconds that
//! a revocation may take, and kept in a sealed copy on disk, from which a member that starts goes on
//! while control is away. Then a session revoked meanwhile is still let in: that is why it is said in
//! `/readyz` and in the log, with the time of what is used.
//!
//! The body of the copy ([`sealed_copy`] seals it):
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | when control told it, in microseconds since 1970, little-endian |
//! | 8 | n | JSON as control answers `/inside/v1/access`: token keys, revoked sessions, principals, access keys |
//!
//! It is written anew when what control tells has changed, and not only because time has passed: a copy
//! from last month that is still what control last told is as good as one of today, but for the seconds in which the
//! process was not running.
//!
//! Asking, taking in and writing are one step: who asks at the same time waits until that is done, so what control
//! told later never gives way to what it told before, in memory or on disk. Who only looks waits for none of it:
//! the disk is written under no lock that a reader takes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::domain::{Clock, Random, Refusal, Timestamp};
use crate::services::access::{AccessLists, TokenKeys};
use crate::services::sealed_copy::{self, CopyKind, DiskCopyError, DiskCopyOptions};

use super::access_feed::{AccessSnapshot, apply};
use super::remote::RemoteControl;
use super::wire::WireAccess;

/// How often control is asked.
pub const ACCESS_PAUSE: Duration = Duration::from_secs(5);
/// The length of the time before the JSON.
const TIME_BYTES: usize = 8;

/// Where the snapshot comes from.
#[async_trait]
pub trait AccessSource: Send + Sync + 'static {
    /// The snapshot as it is now.
    ///
    /// # Errors
    /// `Unavailable`, `Denied`.
    async fn access(&self) -> Result<AccessSnapshot, Refusal>;
}

#[async_trait]
impl AccessSource for RemoteControl {
    async fn access(&self) -> Result<AccessSnapshot, Refusal> {
        self.access_snapshot().await
    }
}

/// How good the lists are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessStatus {
    /// Nothing is known: nobody is let in.
    Nothing,
    /// Control told them, and answered when it was last asked.
    Current,
    /// Control told them at that time, and has been away since; why.
    Stale(Timestamp, String),
}

struct State {
    status: AccessStatus,
    told_at: Timestamp,
}

/// What the copy on disk holds, without its time; none where it is not known.
type Saved = Option<Zeroizing<Vec<u8>>>;

/// Writes a copy under a fresh nonce.
type Save = Box<dyn Fn(&DiskCopyOptions, [u8; 12], &[u8]) -> Result<(), DiskCopyError> + Send + Sync>;

/// See the module's text.
pub struct AccessMirror {
    /// The keys that tokens open with.
    pub keys: Arc<TokenKeys>,
    /// Who may come in.
    pub lists: Arc<AccessLists>,
    copy: DiskCopyOptions,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    save: Save,
    /// Held by whoever asks, until what was told is on disk.
    saved: tokio::sync::Mutex<Saved>,
    /// Held for moments only.
    state: Mutex<State>,
}

impl AccessMirror {
    /// Begins with the copy on disk, if there is one.
    pub fn open(copy: DiskCopyOptions, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let (keys, lists) = (Arc::new(TokenKeys::new(Vec::new())), Arc::new(AccessLists::default()));
        let mut state = State { status: AccessStatus::Nothing, told_at: Timestamp(0) };
        let mut saved = None;
        match load(&copy) {
            Ok((snapshot, told_at)) => {
                apply(&snapshot, &keys, &lists);
                state.told_at = told_at;
                state.status = AccessStatus::Stale(told_at, "control was not asked yet".to_owned());
                saved = Some(body(&snapshot));
            }
            Err(DiskCopyError::Missing) => {}
            Err(error) => {
                tracing::error!(path = %copy.path.display(), %error, "starting without a list of who may come in");
            }
        }
        let save: Save = Box::new(|copy, nonce, content| sealed_copy::save(CopyKind::Access, copy, nonce, content));
        let (saved, state) = (tokio::sync::Mutex::new(saved), Mutex::new(state));
        Self { keys, lists, copy, clock, random, save, saved, state }
    }

    /// How good the lists are.
    pub fn status(&self) -> AccessStatus {
        self.state.lock().status.clone()
    }

    /// Asks once, and keeps what was told. Blocks on the disk where something changed.
    ///
    /// # Errors
    /// What control refuses; the last known stays.
    pub async fn refresh(&self, source: &dyn AccessSource) -> Result<(), Refusal> {
        // From the question to the disk: else an answer that was long on its way could come over a newer one.
        let mut saved = self.saved.lock().await;
        match source.access().await {
            Ok(snapshot) => {
                self.take(&snapshot, &mut saved);
                Ok(())
            }
            Err(refusal) => {
                self.note_away(&refusal);
                Err(refusal)
            }
        }
    }

    /// Asks every [`ACCESS_PAUSE`], and when a token may be newer than what is known, until dropped.
    pub async fn follow(self: Arc<Self>, source: Arc<dyn AccessSource>) {
        let mut tick = tokio::time::interval(ACCESS_PAUSE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.lists.news_wanted() => {}
            }
            // What is wrong is in the status, and was logged when it began.
            let _ = self.refresh(&*source).await;
            self.lists.note_told();
        }
    }

    fn take(&self, snapshot: &AccessSnapshot, saved: &mut Saved) {
        let told = body(snapshot);
        let has_changed = saved.as_ref() != Some(&told);
        if has_changed {
            // Each time they are taken, every remembered token is checked anew: so only where something changed.
            apply(snapshot, &self.keys, &self.lists);
        }
        let told_at = self.clock.now();
        self.note_current(told_at);
        if !has_changed {
            return;
        }
        let mut nonce = [0; 12];
        self.random.fill(&mut nonce);
        let mut content = Zeroizing::new(told_at.0.to_le_bytes().to_vec());
        content.extend_from_slice(&told);
        // Before: where it fails, nobody knows what is there.
        *saved = None;
        match (self.save)(&self.copy, nonce, &content) {
            Ok(()) => *saved = Some(told),
            Err(error) => {
                tracing::error!(path = %self.copy.path.display(), %error, "the list of who may come in was not saved");
            }
        }
    }

    fn note_current(&self, told_at: Timestamp) {
        let mut state = self.state.lock();
        if let AccessStatus::Stale(since, _) = &state.status {
            tracing::info!(%since, "control tells again who may come in");
        }
        state.told_at = told_at;
        state.status = AccessStatus::Current;
    }

    fn note_away(&self, refusal: &Refusal) {
        let mut state = self.state.lock();
        match &state.status {
            AccessStatus::Nothing => {}
            AccessStatus::Current => {
                tracing::warn!(%refusal, "control does not tell who may come in; the last known holds");
                state.status = AccessStatus::Stale(state.told_at, refusal.message.clone());
            }
            AccessStatus::Stale(since, _) => state.status = AccessStatus::Stale(*since, refusal.message.clone()),
        }
    }
}

/// The snapshot as JSON, in one form for one content.
fn body(snapshot: &AccessSnapshot) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(serde_json::to_vec(&WireAccess::new(snapshot)).unwrap_or_default())
}

fn load(copy: &DiskCopyOptions) -> Result<(AccessSnapshot, Timestamp), DiskCopyError> {
    decode(&sealed_copy::load(CopyKind::Access, copy)?)
}

fn decode(content: &[u8]) -> Result<(AccessSnapshot, Timestamp), DiskCopyError> {
    let (time, json) = content.split_first_chunk::<TIME_BYTES>().ok_or(DiskCopyError::Damaged("it ends early"))?;
    let wire: WireAccess =
        serde_json::from_slice(json).map_err(|_| DiskCopyError::Damaged("its JSON is not understood"))?;
    let snapshot = wire.snapshot().map_err(|_| DiskCopyError::Damaged("a key in it is none"))?;
    Ok((snapshot, Timestamp(u64::from_le_bytes(*time))))
}

/// For the fuzzer: whatever decodes is written and read back as itself.
#[doc(hidden)]
pub fn fuzz_access_copy(data: &[u8]) {
    if let Ok((snapshot, at)) = decode(data) {
        let written = body(&snapshot);
        let content = [at.0.to_le_bytes().as_slice(), &written].concat();
        let (again, again_at) = decode(&content).expect("what was written can be read");
        assert!(again_at == at && body(&again) == written);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::{OnceLock, Weak};
    use std::task::Poll;

    use proptest::prelude::*;

    use super::super::testing::SystemRandom;
    use super::*;
    use crate::crypto::Key256;
    use crate::domain::TenantName;
    use crate::domain::ids::{PrincipalId, SessionId, TenantId};
    use crate::services::access::TokenKey;
    use crate::services::control::AccessKeySecret;
    use crate::services::ports::{Caller, Capability};

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp(1_800_000_000_000_000)
        }
    }

    /// Control that answers what it is told to, or is away.
    struct Told(Mutex<Option<AccessSnapshot>>);

    #[async_trait]
    impl AccessSource for Told {
        async fn access(&self) -> Result<AccessSnapshot, Refusal> {
            self.0.lock().clone().ok_or_else(|| Refusal::unavailable("control is away", 1))
        }
    }

    fn snapshot(principals: u8, revoked: u8) -> AccessSnapshot {
        AccessSnapshot {
            token_keys: vec![TokenKey::new("2", Key256::new([2; 32])), TokenKey::new("1", Key256::new([1; 32]))],
            revoked_sessions: (0..revoked).map(|number| SessionId::from_bytes([number; 16])).collect(),
            principals: (0..principals).map(|number| PrincipalId::from_bytes([number; 16])).collect(),
            access_keys: (0..principals).map(access_key).collect(),
        }
    }

    fn access_key(number: u8) -> AccessKeySecret {
        AccessKeySecret {
            access_key_id: format!("DSTK{number:016}"),
            secret_access_key: Zeroizing::new(format!("secret of {number}")),
            caller: Caller {
                principal: PrincipalId::from_bytes([number; 16]),
                name: "ada".to_owned(),
                tenant: Some((TenantId::from_bytes([9; 16]), TenantName::new("acme").unwrap())),
                capabilities: vec![Capability::Read],
            },
        }
    }

    fn open(folder: &tempfile::TempDir) -> AccessMirror {
        let options = crate::services::sealed_copy::tests::options(folder.path());
        AccessMirror::open(options, Arc::new(Still), Arc::new(SystemRandom))
    }

    #[tokio::test]
    async fn what_control_told_is_there_after_a_restart_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let control = Told(Mutex::new(None));
        let first = open(&folder);
        assert!(first.refresh(&control).await.is_err());
        assert_eq!(first.status(), AccessStatus::Nothing);
        *control.0.lock() = Some(snapshot(3, 1));
        first.refresh(&control).await.unwrap();
        assert_eq!(first.status(), AccessStatus::Current);
        *control.0.lock() = None;
        assert!(first.refresh(&control).await.is_err());
        let at = Still.now();
        assert_eq!(first.status(), AccessStatus::Stale(at, "control is away".to_owned()));

        let second = open(&folder);
        assert!(matches!(second.status(), AccessStatus::Stale(told, _) if told == at));
        assert_eq!(second.lists.principals().len(), 3);
        let known = second.lists.access_keys.find("DSTK0000000000000002").unwrap();
        assert_eq!(known.caller().principal, PrincipalId::from_bytes([2; 16]));
        let ids: Vec<String> = second.keys.load().iter().map(|key| key.id().to_owned()).collect();
        assert_eq!(ids, ["2", "1"], "the current key stays the first");
    }

    #[tokio::test]
    async fn the_file_is_written_only_where_something_changed() {
        let folder = tempfile::tempdir().unwrap();
        let control = Told(Mutex::new(Some(snapshot(2, 0))));
        let mirror = open(&folder);
        mirror.refresh(&control).await.unwrap();
        let read = || std::fs::read(folder.path().join("copy")).unwrap();
        let before = read();
        mirror.refresh(&control).await.unwrap();
        assert!(read() == before, "a new nonce would show");
        *control.0.lock() = Some(snapshot(2, 1));
        mirror.refresh(&control).await.unwrap();
        assert!(read() != before);
    }

    #[tokio::test]
    async fn who_looks_does_not_wait_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (own, seen) = (Arc::new(OnceLock::<Weak<AccessMirror>>::new()), Arc::new(Mutex::new(Vec::new())));
        let (looked_at, noted) = (own.clone(), seen.clone());
        let save: Save = Box::new(move |copy, nonce, content| {
            let mirror = looked_at.get().and_then(Weak::upgrade).unwrap();
            // A reader of this moment: it must get the lock, or it would wait for what is being written.
            let status = mirror.state.try_lock().map(|state| state.status.clone());
            noted.lock().push((status, mirror.lists.principals().len()));
            sealed_copy::save(CopyKind::Access, copy, nonce, content)
        });
        let mirror = Arc::new(AccessMirror { save, ..open(&folder) });
        own.set(Arc::downgrade(&mirror)).unwrap();
        mirror.refresh(&Told(Mutex::new(Some(snapshot(2, 0))))).await.unwrap();
        assert_eq!(*seen.lock(), [(Some(AccessStatus::Current), 2)], "and it is in force before it is on disk");
        assert_eq!(open(&folder).lists.principals().len(), 2);
    }

    #[tokio::test]
    async fn what_was_told_before_never_comes_over_what_was_told_later() {
        let folder = tempfile::tempdir().unwrap();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
        let first = Mutex::new(Some((begun, may_go_on)));
        let save: Save = Box::new(move |copy, nonce, content| {
            // The first one is on its way to the disk for as long as the test likes.
            let waits = first.lock().take();
            if let Some((begun, may_go_on)) = waits {
                begun.send(()).unwrap();
                may_go_on.recv().unwrap();
            }
            sealed_copy::save(CopyKind::Access, copy, nonce, content)
        });
        let mirror = Arc::new(AccessMirror { save, ..open(&folder) });
        let (runtime, slow) = (tokio::runtime::Handle::current(), mirror.clone());
        let writing = std::thread::spawn(move || {
            runtime.block_on(slow.refresh(&Told(Mutex::new(Some(snapshot(1, 0)))))).unwrap();
        });
        has_begun.await.unwrap();
        let newer = Told(Mutex::new(Some(snapshot(3, 0))));
        let mut later = std::pin::pin!(mirror.refresh(&newer));
        let is_done = std::future::poll_fn(|context| Poll::Ready(later.as_mut().poll(context).is_ready())).await;
        assert!(!is_done, "it would be on disk by now, and the first one be written over it");
        go_on.send(()).unwrap();
        writing.join().unwrap();
        later.await.unwrap();
        assert_eq!(open(&folder).lists.principals().len(), 3);
    }

    proptest! {
        #[test]
        fn copies_come_back(principals: HashSet<[u8; 16]>, revoked: HashSet<[u8; 16]>, at: u64) {
            let told = AccessSnapshot {
                principals: principals.iter().map(|id| PrincipalId::from_bytes(*id)).collect(),
                revoked_sessions: revoked.iter().map(|id| SessionId::from_bytes(*id)).collect(),
                ..snapshot(2, 0)
            };
            let content = [at.to_le_bytes().as_slice(), &body(&told)].concat();
            let (read, read_at) = decode(&content).unwrap();
            prop_assert_eq!(read_at, Timestamp(at));
            prop_assert_eq!(read.principals, told.principals);
            prop_assert_eq!(read.revoked_sessions, told.revoked_sessions);
            let secrets = |told: &[AccessKeySecret]| -> Vec<String> {
                told.iter().map(|key| key.secret_access_key.to_string()).collect()
            };
            prop_assert_eq!(secrets(&read.access_keys), secrets(&told.access_keys));
        }

        #[test]
        fn garbage_is_refused_or_stable(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz_access_copy(&data);
        }

        #[test]
        fn damaged_copies_are_refused_or_stable(at in 0usize..2_000, value: u8) {
            let mut content = [0u64.to_le_bytes().as_slice(), &body(&snapshot(2, 1))].concat();
            let length = content.len();
            content[at % length] = value;
            fuzz_access_copy(&content);
        }
    }
}
