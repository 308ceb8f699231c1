//! Tokens in, callers out: what lets somebody in, and what ends it.

use super::*;

struct FixedClock(AtomicU64);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

struct Fixture {
    keys: Arc<TokenKeys>,
    lists: Arc<AccessLists>,
    clock: Arc<FixedClock>,
    authenticator: TokenAuthenticator,
    claims: Claims,
}

fn fixture() -> Fixture {
    let claims = Claims {
        principal: PrincipalId::from_bytes([1; 16]),
        name: "ada".into(),
        tenant: Some(ClaimedTenant { id: TenantId::from_bytes([2; 16]), name: TenantName::new("acme").unwrap() }),
        session: SessionId::from_bytes([3; 16]),
        capabilities: vec![Capability::Read],
        issued_at_seconds: 100,
        expires_at_seconds: 200,
    };
    let keys = Arc::new(TokenKeys::new(vec![TokenKey::new("k1", Key256::new([4; 32]))]));
    let lists = Arc::new(AccessLists::default());
    lists.set_principals(HashSet::from([claims.principal]));
    let clock = Arc::new(FixedClock(AtomicU64::new(150_000_000)));
    let authenticator = TokenAuthenticator::new(keys.clone(), lists.clone(), clock.clone());
    Fixture { keys, lists, clock, authenticator, claims }
}

impl Fixture {
    fn token(&self) -> String {
        issue(self.keys.load()[0].key(), "k1", &self.claims, [5; 12]).unwrap()
    }

    fn ask(&self, token: &str) -> Result<Arc<Caller>, RefusalKind> {
        self.ask_with(token, || ()).0
    }

    /// Asks while someone answers the wish for news with `tell`; how often that was.
    fn ask_with(&self, token: &str, tell: impl Fn()) -> (Result<Arc<Caller>, RefusalKind>, u32) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let asked = std::cell::Cell::new(0);
        let feeder = async {
            loop {
                self.lists.news_wanted().await;
                asked.set(asked.get() + 1);
                tell();
                self.lists.note_told();
            }
        };
        let answer = runtime.block_on(async {
            tokio::select! {
                answer = self.authenticator.authenticate(token) => answer,
                () = feeder => unreachable!("the feeder never ends"),
            }
        });
        (answer.map_err(|refusal| refusal.kind), asked.get())
    }
}

#[test]
fn a_good_token_tells_the_caller_and_is_remembered() {
    let fixture = fixture();
    let token = fixture.token();
    assert!(fixture.authenticator.recall(&token).is_none());
    let caller = fixture.ask(&token).unwrap();
    assert_eq!((caller.name.as_str(), caller.capabilities.as_slice()), ("ada", &[Capability::Read][..]));
    assert!(Arc::ptr_eq(&fixture.ask(&token).unwrap(), &caller), "the second time it is remembered");
}

#[test]
fn a_token_ends_at_its_expiry_also_when_remembered() {
    let fixture = fixture();
    let token = fixture.token();
    fixture.ask(&token).unwrap();
    fixture.clock.0.store(200_000_000, Ordering::Relaxed);
    assert_eq!(fixture.ask(&token), Err(RefusalKind::Unauthenticated));
}

#[test]
fn revoking_a_session_ends_a_remembered_token() {
    let fixture = fixture();
    let token = fixture.token();
    fixture.ask(&token).unwrap();
    fixture.lists.set_revoked_sessions(HashSet::from([SessionId::from_bytes([9; 16])]));
    assert!(fixture.ask(&token).is_ok(), "another session was revoked");
    fixture.lists.set_revoked_sessions(HashSet::from([fixture.claims.session]));
    assert_eq!(fixture.ask(&token), Err(RefusalKind::Unauthenticated));
}

#[test]
fn removing_a_principal_ends_a_remembered_token() {
    let fixture = fixture();
    let token = fixture.token();
    fixture.ask(&token).unwrap();
    fixture.lists.set_principals(HashSet::new());
    assert_eq!(fixture.ask(&token), Err(RefusalKind::Unauthenticated));
}

#[test]
fn a_rotated_key_opens_until_it_is_taken_away() {
    let fixture = fixture();
    let token = fixture.token();
    fixture.ask(&token).unwrap();
    let (old, new) = (fixture.keys.load()[0].clone(), TokenKey::new("k2", Key256::new([6; 32])));
    fixture.keys.replace(vec![new.clone(), old]);
    assert!(fixture.ask(&token).is_ok());
    fixture.keys.replace(vec![new]);
    assert_eq!(fixture.ask(&token), Err(RefusalKind::Unauthenticated));
}

#[test]
fn a_token_newer_than_the_lists_waits_for_the_news() {
    let fixture = fixture();
    let token = fixture.token();
    let known = HashSet::from([fixture.claims.principal]);
    fixture.lists.set_principals(HashSet::new());
    assert_eq!(fixture.ask_with(&token, || ()), (Err(RefusalKind::Unauthenticated), 1));
    fixture.clock.0.fetch_add(1_000_000, Ordering::Relaxed);
    let (caller, asked) = fixture.ask_with(&token, || fixture.lists.set_principals(known.clone()));
    assert!(caller.is_ok() && asked == 1);
    assert_eq!(fixture.ask_with(&token, || ()).1, 0, "what is known asks for nothing");

    let new = TokenKey::new("k2", Key256::new([6; 32]));
    let under_new = issue(new.key(), "k2", &fixture.claims, [7; 12]).unwrap();
    fixture.clock.0.fetch_add(1_000_000, Ordering::Relaxed);
    let keys = || fixture.keys.replace(vec![new.clone()]);
    assert!(fixture.ask_with(&under_new, keys).0.is_ok(), "a key rotated a moment ago");
}

#[test]
fn an_old_token_of_an_unknown_principal_waits_for_nothing() {
    let fixture = fixture();
    let token = fixture.token();
    fixture.lists.set_principals(HashSet::new());
    fixture.clock.0.store((fixture.claims.issued_at_seconds + NEW_SECONDS) * 1_000_000, Ordering::Relaxed);
    assert_eq!(fixture.ask_with(&token, || ()), (Err(RefusalKind::Unauthenticated), 0));
}

#[test]
fn what_is_no_token_is_refused_and_not_remembered() {
    let fixture = fixture();
    for text in ["", "Bearer", "a.b.c", "eyJhbGciOiJub25lIn0..."] {
        assert_eq!(fixture.ask(text), Err(RefusalKind::Unauthenticated), "{text}");
    }
    assert!(fixture.authenticator.shards.iter().all(|shard| shard.read().is_empty()));
}

#[test]
fn what_is_remembered_is_bounded() {
    let fixture = fixture();
    let caller = fixture.ask(&fixture.token()).unwrap();
    for number in 0..2 * REMEMBERED_MAX {
        let entry = Remembered { caller: caller.clone(), expires_at: Timestamp(u64::MAX), generation: 1 };
        fixture.authenticator.remember(&number.to_string(), entry);
    }
    let remembered: usize = fixture.authenticator.shards.iter().map(|shard| shard.read().len()).sum();
    assert!(remembered <= REMEMBERED_MAX, "{remembered}");
}

#[test]
fn claims_with_more_in_them_are_refused() {
    let fixture = fixture();
    let mut claims = serde_json::to_value(&fixture.claims).unwrap();
    claims["only_prefix"] = "a".into();
    let token = token::seal(fixture.keys.load()[0].key(), "k1", &claims, [0; 12]).unwrap();
    assert_eq!(fixture.ask(&token), Err(RefusalKind::Unauthenticated));
}

/// The spelling of claims is a format: tokens outlive the process that made them.
#[test]
fn claims_are_spelled_as_documented() {
    let claims = serde_json::to_string(&fixture().claims).unwrap();
    assert_eq!(
        claims,
        r#"{"sub":"01010101-0101-0101-0101-010101010101","name":"ada","tenant":{"id":"02020202-0202-0202-0202-020202020202","name":"acme"},"sid":"03030303-0303-0303-0303-030303030303","cap":["read"],"iat":100,"exp":200}"#
    );
}
