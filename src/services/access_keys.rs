//! Access keys where signatures are checked: by id, in memory, with their secrets. The protocol of DynamoDB signs with a
//! secret that both sides know, so whoever checks has to have it; proxies and nodes are told all that are good by
//! control, together with what they know of tokens ([`super::control`]), and keep them on disk sealed only.
//!
//! The whole book is replaced when anything in it changes, so a revoked key is gone as soon as control has told it:
//! nothing of it is remembered elsewhere. Secrets, and the keys derived from them that are kept, wipe their memory; none of this
//! has a `Debug` that shows one.
//!
//! What is signed with is derived from the secret by four rounds of HMAC, for one day, region and service. A client
//! uses the same for a day, so the last derived one is kept beside the secret, as an HMAC that has taken in its key
//! already: to sign, or to check, is to copy it and to go on.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::ports::Caller;

/// What an id looks like: `DSTK` and 16 letters and digits of base32.
const ID_PREFIX: &str = "DSTK";
const ID_BYTES: usize = 20;

/// A key that signatures are made with: the HMAC-SHA-256 that has taken it in, and nothing else yet.
pub type SigningKey = Hmac<Sha256>;

/// For what a signing key is good.
#[derive(Debug, Clone, Copy)]
pub struct SigningScope<'a> {
    /// The day, as `YYYYMMDD`.
    pub date: &'a str,
    /// The region that the client was set to; any will do.
    pub region: &'a str,
    /// The service.
    pub service: &'a str,
}

/// One access key.
pub struct AccessKey {
    secret: Zeroizing<String>,
    caller: Arc<Caller>,
    /// The last one derived.
    derived: Mutex<Option<Derived>>,
}

/// A signing key that is kept, and for what it is good.
struct Derived {
    date: String,
    region: String,
    service: String,
    key: SigningKey,
}

impl Derived {
    fn new(scope: SigningScope<'_>, key: SigningKey) -> Self {
        let SigningScope { date, region, service } = scope;
        Self { date: date.to_owned(), region: region.to_owned(), service: service.to_owned(), key }
    }

    fn is_for(&self, scope: SigningScope<'_>) -> bool {
        self.date == scope.date && self.region == scope.region && self.service == scope.service
    }
}

/// An HMAC does not wipe its memory itself, so another one is put in its place.
impl Drop for Derived {
    fn drop(&mut self) {
        self.key = keyed(&[]);
        std::hint::black_box(&self.key);
    }
}

impl AccessKey {
    /// The access key with this secret, which stands for this caller.
    pub fn new(secret: Zeroizing<String>, caller: Caller) -> Self {
        Self { secret, caller: Arc::new(caller), derived: Mutex::new(None) }
    }

    /// Whose it is.
    pub fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// The key that signatures of this scope are made with.
    pub fn signing_key(&self, scope: SigningScope<'_>) -> SigningKey {
        let mut derived = self.derived.lock();
        match &*derived {
            Some(known) if known.is_for(scope) => known.key.clone(),
            _ => {
                let key = keyed(&*derive(&self.secret, scope));
                *derived = Some(Derived::new(scope, key.clone()));
                key
            }
        }
    }
}

/// An HMAC that has taken in this key.
fn keyed(key: &[u8]) -> SigningKey {
    Hmac::new_from_slice(key).expect("a key of any length will do")
}

fn hmac_sha256(key: &[u8], data: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(keyed(key).chain_update(data).finalize().into_bytes().into())
}

/// The signing key of AWS Signature Version 4.
fn derive(secret: &str, scope: SigningScope<'_>) -> Zeroizing<[u8; 32]> {
    let first = Zeroizing::new([b"AWS4".as_slice(), secret.as_bytes()].concat());
    let date = hmac_sha256(&first, scope.date.as_bytes());
    let region = hmac_sha256(&*date, scope.region.as_bytes());
    let service = hmac_sha256(&*region, scope.service.as_bytes());
    hmac_sha256(&*service, b"aws4_request")
}

/// All access keys that are good.
#[derive(Default)]
pub struct AccessKeyBook {
    keys: ArcSwap<HashMap<Box<str>, Arc<AccessKey>>>,
}

impl AccessKeyBook {
    /// Takes these in place of all before. A key whose secret and caller are the same stays what it was.
    pub fn replace(&self, keys: impl Iterator<Item = (String, Zeroizing<String>, Caller)>) {
        let before = self.keys.load();
        let renewed = keys.map(|(id, secret, caller)| {
            let known = before.get(id.as_str()).filter(|known| known.secret == secret && *known.caller == caller);
            let key = known.map_or_else(|| Arc::new(AccessKey::new(secret, caller)), Arc::clone);
            (id.into_boxed_str(), key)
        });
        let renewed: HashMap<Box<str>, Arc<AccessKey>> = renewed.collect();
        self.keys.store(Arc::new(renewed));
    }

    /// The access key of this id, if it is good.
    pub fn find(&self, id: &str) -> Option<Arc<AccessKey>> {
        self.keys.load().get(id).cloned()
    }

    /// Whether the access key of this id is still this one.
    pub fn has_still(&self, id: &str, key: &Arc<AccessKey>) -> bool {
        self.keys.load().get(id).is_some_and(|still| Arc::ptr_eq(still, key))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.load().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether this may be the id of an access key of ours, known or not.
pub fn is_id(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
    text.len() == ID_BYTES && text.starts_with(ID_PREFIX) && text.bytes().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TenantName;
    use crate::domain::ids::{PrincipalId, TenantId};
    use crate::services::ports::Capability;

    fn caller(name: &str) -> Caller {
        Caller {
            principal: PrincipalId::from_bytes([1; 16]),
            name: name.to_owned(),
            tenant: Some((TenantId::from_bytes([2; 16]), TenantName::new("acme").unwrap())),
            capabilities: vec![Capability::Read],
        }
    }

    fn entry(id: &str, secret: &str, name: &str) -> (String, Zeroizing<String>, Caller) {
        (id.to_owned(), Zeroizing::new(secret.to_owned()), caller(name))
    }

    /// The example of AWS's documentation ("Deriving a signing key").
    #[test]
    fn a_signing_key_is_derived_as_published() {
        let scope = SigningScope { date: "20150830", region: "us-east-1", service: "iam" };
        let key = derive("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", scope);
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }

    #[test]
    fn what_is_kept_is_looked_at_by_its_whole_scope() {
        let key = AccessKey::new(Zeroizing::new("secret".to_owned()), caller("ada"));
        let one = SigningScope { date: "20150830", region: "us-east-1", service: "iam" };
        let others = [
            SigningScope { date: "20150831", ..one },
            SigningScope { region: "us-east-2", ..one },
            SigningScope { service: "s3", ..one },
        ];
        for scope in others.into_iter().flat_map(|other| [one, one, other, other]) {
            let signed: [u8; 32] = key.signing_key(scope).chain_update(b"text").finalize().into_bytes().into();
            assert_eq!(signed, *hmac_sha256(&*derive("secret", scope), b"text"), "{scope:?}");
        }
    }

    #[test]
    fn what_is_no_longer_told_is_gone_and_what_stayed_is_the_same() {
        let book = AccessKeyBook::default();
        assert!(book.is_empty());
        book.replace([entry("A", "one", "ada"), entry("B", "two", "bob")].into_iter());
        let first = book.find("A").unwrap();
        assert_eq!((book.len(), first.caller().name.as_str()), (2, "ada"));
        book.replace([entry("A", "one", "ada")].into_iter());
        assert!(Arc::ptr_eq(&first, &book.find("A").unwrap()) && book.has_still("A", &first));
        assert!(book.find("B").is_none() && !book.has_still("B", &first));
        book.replace([entry("A", "one", "eve")].into_iter());
        assert!(!book.has_still("A", &first));
        assert_eq!(book.find("A").unwrap().caller().name, "eve", "who it is may change");
    }

    #[test]
    fn ids_are_known_by_their_looks() {
        assert!(is_id("DSTKABCDEFGHIJ234567"));
        for other in
            ["", "AKIAIOSFODNN7EXAMPLE", "DSTKABCDEFGHIJ23456", "DSTKabcdefghij234567", "DSTKABCDEFGHIJ234567A"]
        {
            assert!(!is_id(other), "{other}");
        }
    }
}
