//! Bearer tokens as JWE in compact form (RFC 7516 §3.1), `alg` = `dir` and `enc` = `A256GCM`
//! (RFC 7518 §4.5 and §5.3): five parts of base64url without padding, joined by dots.
//!
//! | part | what |
//! |---|---|
//! | 1 | protected header: `{"alg":"dir","enc":"A256GCM","kid":"…","typ":"JWT"}` |
//! | 2 | encrypted key: empty, the token key itself is the content key |
//! | 3 | nonce, 12 bytes, random |
//! | 4 | ciphertext of the claims (JSON) |
//! | 5 | tag, 16 bytes, over part 1 as it is spelled (associated data) and part 4 |
//!
//! What the claims mean is no business of this file: it seals and opens any JSON. That keeps it a
//! pure format, and `services::access` the only place that knows who may do what. The nonce is
//! handed in. Nonces are random, so one token key may seal some 2^32 tokens (NIST SP 800-38D
//! §8.3) before it must be rotated; the key id in the header is there for that.
//!
//! Rejected: signed tokens (JWS), because clients and everything between would read names and
//! capabilities; a JOSE library, because all of them accept many algorithms, and the history of
//! JOSE is one of tokens that chose their own. Here a header is either exactly of our kind or the
//! token is refused: the algorithm is never taken from the token. The next author must keep that.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::secret::Key256;

/// Tokens longer than this are not looked at, in bytes of text.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// The nonce of AES-GCM, in bytes.
pub const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// Why a token was not opened. None of these tells anything about the key or the claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not five parts of base64url, or longer than [`TOKEN_BYTES_MAX`].
    #[error("this is not a token in JWE compact form")]
    Malformed,
    /// Another algorithm or encryption than ours, or a header with more in it.
    #[error("this token was not made by dStore")]
    Foreign,
    /// Sealed under a key that is not (or no longer) known here.
    #[error("the key of this token is not known here; it may have been rotated away")]
    UnknownKey,
    /// The tag does not fit: changed, cut, or sealed under another key of the same id.
    #[error("this token was changed or sealed under another key")]
    Forged,
    /// Opened, but the claims are not of the expected shape.
    #[error("the claims of this token are not understood")]
    Claims,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    #[serde(borrow)]
    alg: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    enc: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    kid: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    typ: std::borrow::Cow<'a, str>,
}

/// Seals `claims` under `key`, whose id is `key_id`. The nonce must never come twice with one key.
///
/// # Errors
/// `Claims` where they cannot be written as JSON (a map whose keys are no strings, say).
pub fn seal<C: Serialize>(
    key: &Key256,
    key_id: &str,
    claims: &C,
    nonce: [u8; NONCE_BYTES],
) -> Result<String, TokenError> {
    let header = Header { alg: "dir".into(), enc: "A256GCM".into(), kid: key_id.into(), typ: "JWT".into() };
    let header = serde_json::to_vec(&header).map_err(|_| TokenError::Claims)?;
    let claims = serde_json::to_vec(claims).map_err(|_| TokenError::Claims)?;
    let mut token = URL_SAFE_NO_PAD.encode(header);
    let sealed = encrypt(key, token.as_bytes(), &claims, nonce);
    let (ciphertext, tag) = sealed.split_at(claims.len());
    token.push_str("..");
    URL_SAFE_NO_PAD.encode_string(nonce, &mut token);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(ciphertext, &mut token);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(tag, &mut token);
    Ok(token)
}

/// Opens a token. `key` gives the key of an id, where it is known.
///
/// # Errors
/// See [`TokenError`]. That the claims are still good (expiry, revocation) is not looked at here.
pub fn open<C, K>(token: &str, key: K) -> Result<C, TokenError>
where
    C: serde::de::DeserializeOwned,
    K: FnOnce(&str) -> Option<Key256>,
{
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Malformed);
    }
    let mut parts = token.split('.');
    let mut part = || parts.next().ok_or(TokenError::Malformed);
    let (header_text, wrapped_key, nonce, ciphertext, tag) = (part()?, part()?, part()?, part()?, part()?);
    if parts.next().is_some() || !wrapped_key.is_empty() {
        return Err(TokenError::Malformed);
    }
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed);
    let header_bytes = decode(header_text)?;
    let header: Header = serde_json::from_slice(&header_bytes).map_err(|_| TokenError::Foreign)?;
    if header.alg != "dir" || header.enc != "A256GCM" || header.typ != "JWT" {
        return Err(TokenError::Foreign);
    }
    let nonce: [u8; NONCE_BYTES] = decode(nonce)?.try_into().map_err(|_| TokenError::Malformed)?;
    let mut sealed = decode(ciphertext)?;
    let tag = decode(tag)?;
    if tag.len() != TAG_BYTES {
        return Err(TokenError::Malformed);
    }
    sealed.extend_from_slice(&tag);
    let key = key(&header.kid).ok_or(TokenError::UnknownKey)?;
    let claims = decrypt(&key, header_text.as_bytes(), &sealed, nonce).ok_or(TokenError::Forged)?;
    serde_json::from_slice(&claims).map_err(|_| TokenError::Claims)
}

fn encrypt(key: &Key256, associated: &[u8], plaintext: &[u8], nonce: [u8; NONCE_BYTES]) -> Vec<u8> {
    Aes256Gcm::new(key.expose().into())
        .encrypt(&nonce.into(), Payload { msg: plaintext, aad: associated })
        .expect("AES-GCM seals anything shorter than 64 GiB")
}

fn decrypt(key: &Key256, associated: &[u8], sealed: &[u8], nonce: [u8; NONCE_BYTES]) -> Option<Vec<u8>> {
    Aes256Gcm::new(key.expose().into()).decrypt(&nonce.into(), Payload { msg: sealed, aad: associated }).ok()
}

/// For the fuzzer: any text opens or is refused, never panics.
#[doc(hidden)]
pub fn fuzz_token_open(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = open::<serde_json::Value, _>(text, |_| Some(Key256::new([7; 32])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn key(byte: u8) -> Key256 {
        Key256::new([byte; 32])
    }

    fn header(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    /// RFC 7516 appendix A.1: the content encryption is A256GCM there too, with a known key and nonce.
    #[test]
    fn content_encryption_gives_the_bytes_of_rfc_7516() {
        let key = Key256::new([
            177, 161, 244, 128, 84, 143, 225, 115, 63, 180, 3, 255, 107, 154, 212, 246, 138, 7, 110, 91, 112, 46, 34,
            105, 47, 130, 203, 46, 122, 234, 64, 252,
        ]);
        let nonce = [227, 197, 117, 252, 2, 219, 233, 68, 180, 225, 77, 219];
        let plaintext = b"The true sign of intelligence is not knowledge but imagination.";
        let sealed = encrypt(&key, b"eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ", plaintext, nonce);
        let (ciphertext, tag) = sealed.split_at(plaintext.len());
        assert_eq!(
            URL_SAFE_NO_PAD.encode(ciphertext),
            "5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6jiSdiwkIr3ajwQzaBtQD_A"
        );
        assert_eq!(URL_SAFE_NO_PAD.encode(tag), "XFBoMYUZodetZdvTiFvSkQ");
    }

    #[test]
    fn the_key_id_chooses_the_key() {
        let token = seal(&key(1), "k1", &json!({"a": 1}), [0; 12]).unwrap();
        let opened: Value = open(&token, |id| (id == "k1").then(|| key(1))).unwrap();
        assert_eq!(opened, json!({"a": 1}));
        assert_eq!(open::<Value, _>(&token, |_| None), Err(TokenError::UnknownKey));
        assert_eq!(open::<Value, _>(&token, |_| Some(key(2))), Err(TokenError::Forged));
    }

    #[test]
    fn other_algorithms_and_shapes_are_refused() {
        let token = seal(&key(1), "k", &json!({}), [0; 12]).unwrap();
        let tail = token.split_once('.').unwrap().1;
        let foreign = [
            r#"{"alg":"none","enc":"A256GCM","kid":"k","typ":"JWT"}"#,
            r#"{"alg":"dir","enc":"A128GCM","kid":"k","typ":"JWT"}"#,
            r#"{"alg":"dir","enc":"A256GCM","kid":"k","typ":"JWT","zip":"DEF"}"#,
            r#"{"alg":"dir","enc":"A256GCM","typ":"JWT"}"#,
            "[]",
        ];
        for text in foreign {
            let changed = format!("{}.{tail}", header(text));
            assert_eq!(open::<Value, _>(&changed, |_| Some(key(1))), Err(TokenError::Foreign), "{text}");
        }
        let respelled = format!("{}.{tail}", header(r#"{ "alg":"dir","enc":"A256GCM","kid":"k","typ":"JWT"}"#));
        assert_eq!(open::<Value, _>(&respelled, |_| Some(key(1))), Err(TokenError::Forged));
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        for text in ["", "a.b", "....", "a.b.c.d.e.f", &token[..token.len() - 4], &format!("{token}."), &long] {
            assert!(open::<Value, _>(text, |_| Some(key(1))).is_err(), "{text}");
        }
    }

    #[test]
    fn claims_of_another_shape_are_told_apart_from_forgery() {
        let token = seal(&key(1), "k", &json!({"a": 1}), [0; 12]).unwrap();
        assert_eq!(open::<Vec<u8>, _>(&token, |_| Some(key(1))), Err(TokenError::Claims));
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_equal(text: String, key_id: String, nonce: [u8; 12], bytes: [u8; 32]) {
            let token = seal(&Key256::new(bytes), &key_id, &text, nonce).unwrap();
            prop_assume!(token.len() <= TOKEN_BYTES_MAX);
            let opened = open::<String, _>(&token, |id| (id == key_id).then(|| Key256::new(bytes)));
            prop_assert_eq!(opened, Ok(text));
        }

        #[test]
        fn a_changed_character_never_opens(place in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.-]") {
            let token = seal(&key(1), "k", &json!({"name": "someone"}), [9; 12]).unwrap();
            let place = place.index(token.len());
            let mut changed = token.clone();
            changed.replace_range(place..place + 1, &with);
            prop_assume!(changed != token);
            prop_assert!(open::<Value, _>(&changed, |_| Some(key(1))).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
            fuzz_token_open(&bytes);
        }
    }
}
