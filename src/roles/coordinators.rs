//! Which coordinator a process stands on, by its settings: etcd, or the embedded store in its data folder.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::{Coordinator as Settings, CoordinatorKind};
use crate::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use crate::coordination::etcd::{EtcdCoordinator, EtcdOptions, EtcdTls};
use crate::coordination::{Coordinator, Writer};

/// How long one request to etcd may take, in milliseconds.
const REQUEST_TIMEOUT_MS: u64 = 5_000;

/// An open coordinator; the embedded store closes when this is dropped.
pub struct OpenCoordinator {
    /// The handle.
    pub handle: Arc<dyn Coordinator>,
    _store: Option<EmbeddedStore>,
}

/// Opens the coordinator of these settings for `writer`. etcd is not asked yet.
///
/// # Errors
/// Where a named file cannot be read, or the embedded store not opened.
pub fn open(settings: &Settings, data: &Path, writer: Writer) -> std::io::Result<OpenCoordinator> {
    if settings.kind == CoordinatorKind::Embedded {
        let store = EmbeddedStore::open(&data.join("coordinator.db"), EmbeddedOptions::default())
            .map_err(std::io::Error::other)?;
        return Ok(OpenCoordinator { handle: Arc::new(store.handle(writer)), _store: Some(store) });
    }
    let password = match (&settings.password, &settings.password_file) {
        (Some(password), _) => Some(Zeroizing::new(password.expose().to_owned())),
        (None, Some(file)) => Some(Zeroizing::new(std::fs::read_to_string(file)?.trim_end().to_owned())),
        (None, None) => None,
    };
    let identity_pem = match (&settings.cert, &settings.key) {
        (Some(certificate), Some(key)) => Some((std::fs::read(certificate)?, Zeroizing::new(std::fs::read(key)?))),
        _ => None,
    };
    let tls = match &settings.ca {
        Some(ca) => Some(EtcdTls { ca_pem: std::fs::read(ca)?, identity_pem, server_name: None }),
        None => None,
    };
    let options = EtcdOptions {
        endpoints: settings.endpoints.clone(),
        prefix: settings.prefix.clone(),
        user: settings.user.clone().zip(password),
        tls,
        request_timeout_ms: REQUEST_TIMEOUT_MS,
        quota_bytes: settings.quota_mib << 20,
    };
    Ok(OpenCoordinator { handle: Arc::new(EtcdCoordinator::new(options)), _store: None })
}
