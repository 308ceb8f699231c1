//! Mutual TLS between components: configurations for rustls, whose certificates can be exchanged while
//! connections run.
//!
//! Both sides check the other's chain against the cluster's authority and nothing else: the system's
//! roots count for nothing here. Host names are not compared, because components are known by role and UUID
//! ([`PeerIdentity`]): every certificate holds one common name, and that is asked for. A client that knows
//! which role it means to reach says so, and a node posing as control is refused in the handshake. One that
//! knows the very component it means ([`client_config_of`]) is not served by another of the same role, which
//! may listen by now where that one used to.
//!
//! [`Identity`] is the certificate that is shown. It is looked up anew for each handshake, so a
//! renewal is a swap of a pointer: running connections go on, new ones show the new certificate.
//!
//! Before a component has joined it knows the authority's fingerprint only, from its join token. [`joining_client`]
//! accepts a server that shows a chain up to a certificate of that fingerprint, and that chain is then checked
//! like any other.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};

use super::pki::{INSIDE_NAME, PeerIdentity, PkiError, certificate_fingerprint, renewal_due};
use crate::domain::ids::Role;
use crate::domain::{Refusal, Timestamp};

/// What can be wrong when TLS is set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// rustls refuses the certificate, the key or the roots.
    #[error("TLS cannot be set up")]
    Rustls(#[from] Error),
    /// The roots for checking clients cannot be used.
    #[error("the authority's certificate cannot be used")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// A certificate or key is not what it should be.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Not PEM.
    #[error("this is not PEM of a certificate or key")]
    Pem(#[from] rustls::pki_types::pem::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(authority_pem: &str) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority_pem.as_bytes())?)?;
    Ok(Arc::new(roots))
}

/// A certificate with its key, exchangeable while it is in use.
pub struct Identity {
    current: ArcSwap<CertifiedKey>,
}

impl Identity {
    /// The identity of a certificate and its key, both PEM. The authority's certificate is shown with
    /// it, so that one who has only its fingerprint can check the chain.
    ///
    /// # Errors
    /// Where they cannot be read or do not belong together.
    pub fn new(certificate_pem: &str, key_pem: &str, authority_pem: &str) -> Result<Arc<Self>, TlsError> {
        let current = ArcSwap::from_pointee(certified(certificate_pem, key_pem, authority_pem)?);
        Ok(Arc::new(Self { current }))
    }

    /// Shows another certificate from now on.
    ///
    /// # Errors
    /// As [`Identity::new`]; the one before stays then.
    pub fn replace(&self, certificate_pem: &str, key_pem: &str, authority_pem: &str) -> Result<(), TlsError> {
        self.current.store(Arc::new(certified(certificate_pem, key_pem, authority_pem)?));
        Ok(())
    }

    /// Whether two thirds of the certificate's life are over.
    pub fn renewal_due(&self, now: Timestamp) -> bool {
        self.current.load().cert.first().is_none_or(|certificate| renewal_due(certificate, now))
    }

    /// Who this is.
    ///
    /// # Errors
    /// Where the certificate names nobody.
    pub fn peer(&self) -> Result<PeerIdentity, PkiError> {
        let current = self.current.load();
        PeerIdentity::of_certificate(current.cert.first().ok_or(PkiError::Unnamed)?)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Identity(…)")
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl rustls::client::ResolvesClientCert for Identity {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certified(certificate_pem: &str, key_pem: &str, authority_pem: &str) -> Result<CertifiedKey, TlsError> {
    let chain = vec![
        CertificateDer::from_pem_slice(certificate_pem.as_bytes())?,
        CertificateDer::from_pem_slice(authority_pem.as_bytes())?,
    ];
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?;
    Ok(CertifiedKey::from_der(chain, key, &provider())?)
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// All of them.
    Required,
    /// Those that have one; the routes decide what one without may ask (joining; the admin API).
    Optional,
}

/// The configuration of a listener that shows `identity` and trusts this authority's clients.
///
/// # Errors
/// See [`TlsError`].
pub fn server_config(
    identity: Arc<Identity>,
    authority_pem: &str,
    clients: ClientCertificates,
) -> Result<ServerConfig, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots(authority_pem)?, provider());
    let verifier = match clients {
        ClientCertificates::Required => builder.build()?,
        ClientCertificates::Optional => builder.allow_unauthenticated().build()?,
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The configuration of a listener for clients, who know the server by its host name and show no certificate: a chain
/// and its key, both PEM, from an authority of the operator's choice.
///
/// # Errors
/// See [`TlsError`].
pub fn public_server_config(chain_pem: &[u8], key_pem: &[u8]) -> Result<ServerConfig, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain_pem).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key_pem)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The configuration of a client that reaches peers of role `expected`, showing `identity` where it has one.
///
/// # Errors
/// See [`TlsError`].
pub fn client_config(
    identity: Option<Arc<Identity>>,
    authority_pem: &str,
    expected: Role,
) -> Result<ClientConfig, TlsError> {
    checking_client(identity, authority_pem, Expected::Role(expected))
}

/// The configuration of a client that reaches this one peer and no other, showing `identity`.
///
/// # Errors
/// See [`TlsError`].
pub fn client_config_of(
    identity: Arc<Identity>,
    authority_pem: &str,
    expected: PeerIdentity,
) -> Result<ClientConfig, TlsError> {
    checking_client(Some(identity), authority_pem, Expected::Peer(expected))
}

fn checking_client(
    identity: Option<Arc<Identity>>,
    authority_pem: &str,
    expected: Expected,
) -> Result<ClientConfig, TlsError> {
    let chain = WebPkiServerVerifier::builder_with_provider(roots(authority_pem)?, provider()).build()?;
    finish_client(identity, Arc::new(PeerVerifier { chain, expected }))
}

/// The configuration of a client that has nothing but the fingerprint of a join token, and reaches control.
///
/// # Errors
/// See [`TlsError`].
pub fn joining_client(fingerprint: &str) -> Result<ClientConfig, TlsError> {
    finish_client(None, Arc::new(FingerprintVerifier { fingerprint: fingerprint.to_owned(), provider: provider() }))
}

/// The configuration of a client that speaks no TLS: any certificate is refused.
///
/// # Errors
/// `BadInput`, which none of this shape can fail with.
pub(super) fn trusting_nobody() -> Result<ClientConfig, Refusal> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|problem| Refusal::bad_input(format!("TLS cannot be set up: {problem}")))?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn finish_client(
    identity: Option<Arc<Identity>>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    })
}

/// Whom a client means to reach.
#[derive(Debug, Clone, Copy)]
enum Expected {
    Role(Role),
    Peer(PeerIdentity),
}

impl Expected {
    fn is(self, peer: PeerIdentity) -> bool {
        match self {
            Expected::Role(role) => peer.role == role,
            Expected::Peer(expected) => peer == expected,
        }
    }
}

/// Checks the chain by the authority, and who the peer is instead of the host name.
#[derive(Debug)]
struct PeerVerifier {
    chain: Arc<WebPkiServerVerifier>,
    expected: Expected,
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = ServerName::try_from(INSIDE_NAME).map_err(|_| CertificateError::NotValidForName)?;
        let verified = self.chain.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)?;
        let peer = PeerIdentity::of_certificate(end_entity).map_err(|_| CertificateError::NotValidForName)?;
        if self.expected.is(peer) { Ok(verified) } else { Err(CertificateError::NotValidForName.into()) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Finds the authority in the chain by its fingerprint, then checks as [`PeerVerifier`] does.
#[derive(Debug)]
struct FingerprintVerifier {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for FingerprintVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| certificate_fingerprint(certificate) == self.fingerprint)
            .ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|_| CertificateError::UnknownIssuer)?;
        let verifier = PeerVerifier { chain, expected: Expected::Role(Role::Control) };
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
