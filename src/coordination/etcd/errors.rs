//! etcd's errors as ours. etcd tells them by gRPC code and text (`api/v3rpc/rpctypes/error.go` in its
//! source); the texts have been stable since 3.0 and say more than the codes.
//!
//! The rule: an error of a write is `OutcomeUnknown` unless the server said that it refused, or the
//! request cannot have left this machine.

use std::error::Error as _;

use crate::coordination::Error;

/// Whether a failed request may have changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It only read, or doing it twice is the same as once.
    None,
    /// It may have changed something.
    Change,
}

/// Makes our error of etcd's text.
type Meaning = fn(String) -> Error;

/// Texts by which etcd says what was wrong with a request it did not carry out.
const REFUSALS: [(&str, Meaning); 16] = [
    ("required revision has been compacted", |_| Error::Compacted { compacted_revision: 0 }),
    // The store was restored from a backup: what was read before is not the past of what is now.
    ("required revision is a future revision", |_| Error::Compacted { compacted_revision: 0 }),
    ("database space exceeded", Error::NoSpace),
    ("requested lease not found", |_| Error::LeaseNotFound),
    ("lease not found", |_| Error::LeaseNotFound),
    ("permission denied", Error::Denied),
    ("authentication failed", Error::Denied),
    ("user name is empty", Error::Denied),
    ("invalid auth token", Error::Denied),
    ("revision of auth store is old", Error::Unavailable),
    ("request is too large", Error::TooLarge),
    ("too many operations", Error::TooLarge),
    ("duplicate key given", Error::BadRequest),
    ("key is not provided", Error::BadRequest),
    ("too many requests", Error::Unavailable),
    ("no leader", Error::Unavailable),
];

/// The error of a request that had this effect.
pub(super) fn translate(error: &etcd_client::Error, effect: Effect) -> Error {
    let text = match error {
        etcd_client::Error::GRpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    };
    if let Some((_, refusal)) = REFUSALS.iter().find(|(words, _)| text.contains(words)) {
        return refusal(text);
    }
    if effect == Effect::Change && !was_never_sent(error) {
        return Error::OutcomeUnknown(text);
    }
    Error::Unavailable(text)
}

/// Whether the server does not know our token (any more), so that a new one is worth a try. A watch
/// under an unknown token is told "permission denied", which is why that counts, too.
pub(super) fn wants_new_token(error: &Error) -> bool {
    match error {
        Error::Denied(_) => true,
        Error::Unavailable(text) => text.contains("revision of auth store is old"),
        _ => false,
    }
}

/// Whether no connection could be made: then nothing was sent.
fn was_never_sent(error: &etcd_client::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = match error {
        etcd_client::Error::GRpcStatus(status) => status.source(),
        etcd_client::Error::TransportError(error) => error.source(),
        _ => None,
    };
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>()
            && error.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        source = error.source();
    }
    false
}
