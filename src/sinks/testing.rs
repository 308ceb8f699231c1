//! What tests of sinks share.

use std::sync::Arc;

use super::{Sink, SinkError, Terms};
use crate::domain::usage::record::Record;

pub(super) use super::receiver::{Answer, Receiver, Request};

/// Rules of TLS for a receiver that speaks none.
pub(super) fn no_tls() -> rustls::ClientConfig {
    trusting(rustls::RootCertStore::empty())
}

/// Rules of TLS that trust these authorities.
pub(super) fn trusting(roots: rustls::RootCertStore) -> rustls::ClientConfig {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions there are")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Terms that ask for everything.
pub(super) fn terms() -> Terms {
    Terms::prompt("test", super::rows::RecordKind::ALL.to_vec())
}

/// Offers the batch until it is taken, at most so often; how often it was not.
pub(super) async fn offer_until_taken(sink: &mut dyn Sink, records: &[Record], most: usize) -> usize {
    for failures in 0..most {
        match sink.take(records).await {
            Ok(()) => return failures,
            Err(SinkError::Later(told)) => assert!(!told.contains("hunter2"), "a secret: {told}"),
            Err(unacceptable) => panic!("{unacceptable}"),
        }
    }
    panic!("not taken in {most} times")
}
