//! The inside's own certificate authority and the certificates it signs.
//!
//! Components know each other by role and UUID, not by host name: a node may move to another machine
//! and stays the same node. So a certificate's subject alternative names are
//!
//! | name | for what |
//! |---|---|
//! | URI `dstore://{plane}/{role}/{uuid}` | who it is; every inside route looks at it |
//! | DNS `inside.dstore.internal` | the same in each: TLS wants a DNS name, and we ask for this one |
//!
//! Certificates hold [`CERTIFICATE_SECONDS`] and are renewed at two thirds of that, over the
//! connection that they still prove. They are not revoked: each inside route also looks for the
//! member's record, and that is gone as soon as the member is removed. The authority's certificate holds for twenty
//! years; exchanging it is a rebuilding of trust between all components, and is not done by itself.
//!
//! A certificate request gives its public key and nothing else. Names in it are not looked at, so there
//! is nothing to check and nothing to forget to check. Keys are ECDSA P-256, made where they are used;
//! a private key never travels.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::domain::Timestamp;
use crate::domain::ids::{PlaneId, Role};

/// How long a component's certificate holds: 90 days.
pub const CERTIFICATE_SECONDS: u64 = 90 * 24 * 3600;
/// How long the authority's certificate holds: twenty years.
const AUTHORITY_SECONDS: u64 = 20 * 365 * 24 * 3600;
/// Certificates begin this much before now, because clocks differ.
const BACKDATED_SECONDS: u64 = 3600;
/// The DNS name that every certificate holds.
pub const INSIDE_NAME: &str = "inside.dstore.internal";

/// What can be wrong with a certificate, a request or a key.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The certificate library refuses it.
    #[error("the certificate, request or key cannot be used")]
    Certificate(#[from] rcgen::Error),
    /// Not PEM, or not of what was expected.
    #[error("this is not PEM of a certificate or key")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// Not X.509, or without our names.
    #[error("the certificate does not name a role and UUID of dStore")]
    Unnamed,
}

/// Who a certificate says its holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    /// The control plane that it belongs to.
    pub plane: PlaneId,
    /// Its role.
    pub role: Role,
    /// Its UUID.
    pub id: Uuid,
}

impl PeerIdentity {
    /// The URI in the certificate.
    pub fn uri(&self) -> String {
        format!("dstore://{}/{}/{}", self.plane, self.role, self.id)
    }

    /// The identity that a URI names; none for any other spelling.
    pub fn from_uri(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("dstore://")?.split('/');
        let plane = PlaneId(Uuid::parse_str(parts.next()?).ok()?);
        let role = match parts.next()? {
            "control" => Role::Control,
            "node" => Role::Node,
            "proxy" => Role::Proxy,
            "reporting" => Role::Reporting,
            _ => return None,
        };
        let identity = Self { plane, role, id: Uuid::parse_str(parts.next()?).ok()? };
        // One spelling only, so that two texts are never one peer.
        (parts.next().is_none() && identity.uri() == uri).then_some(identity)
    }

    /// The identity in a certificate that TLS has verified.
    ///
    /// # Errors
    /// `Unnamed` where it names none, or more than one.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, PkiError> {
        let (_, parsed) =
            x509_parser::certificate::X509Certificate::from_der(certificate).map_err(|_| PkiError::Unnamed)?;
        let names = parsed.subject_alternative_name().map_err(|_| PkiError::Unnamed)?.ok_or(PkiError::Unnamed)?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let identity = uris.next().and_then(Self::from_uri).ok_or(PkiError::Unnamed)?;
        if uris.next().is_some() { Err(PkiError::Unnamed) } else { Ok(identity) }
    }
}

/// The authority, able to sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority: its certificate and its private key, both PEM.
    ///
    /// # Errors
    /// Where the library cannot make a key.
    pub fn create(plane: PlaneId, now: Timestamp) -> Result<(String, Zeroizing<String>), PkiError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, format!("dStore control plane {plane}"));
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, now, AUTHORITY_SECONDS);
        let certificate = params.self_signed(&key)?;
        Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
    }

    /// The authority of this certificate and key.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn open(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem)?;
        Ok(Self { issuer: Issuer::from_ca_cert_pem(certificate_pem, key)? })
    }

    /// Signs a certificate for the public key in `request_pem`, naming `identity`; PEM.
    ///
    /// # Errors
    /// Where the request cannot be read or does not prove that its maker has the key.
    pub fn sign(
        &self,
        request_pem: &str,
        identity: PeerIdentity,
        serial: [u8; 16],
        now: Timestamp,
    ) -> Result<String, PkiError> {
        let request = CertificateSigningRequestParams::from_pem(request_pem)?;
        let mut params = CertificateParams::new(vec![INSIDE_NAME.to_owned()])?;
        params.subject_alt_names.push(SanType::URI(identity.uri().try_into()?));
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, format!("{} {}", identity.role, identity.id));
        params.distinguished_name = name;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        // RFC 5280 §4.1.2.2: at most 20 octets and positive.
        let mut serial = serial;
        serial[0] &= 0x7f;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, CERTIFICATE_SECONDS);
        let certificate = params.signed_by(&request.public_key, &self.issuer)?;
        Ok(certificate.pem())
    }
}

/// A fresh private key and a certificate request for it, both PEM.
///
/// # Errors
/// Where the library cannot make a key.
pub fn certificate_request() -> Result<(Zeroizing<String>, String), PkiError> {
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    Ok((Zeroizing::new(key.serialize_pem()), request.pem()?))
}

/// The SHA-256 of the authority's certificate, base64url: what a join token carries.
///
/// # Errors
/// Where it is not PEM.
pub fn authority_fingerprint(certificate_pem: &str) -> Result<String, PkiError> {
    Ok(certificate_fingerprint(&CertificateDer::from_pem_slice(certificate_pem.as_bytes())?))
}

/// The SHA-256 of a certificate, base64url.
pub fn certificate_fingerprint(certificate: &CertificateDer<'_>) -> String {
    BASE64URL.encode(Sha256::digest(certificate.as_ref()))
}

/// From and until when a certificate holds, in seconds since 1970.
///
/// # Errors
/// `Unnamed` where it is not X.509.
pub fn certificate_seconds(certificate: &CertificateDer<'_>) -> Result<(i64, i64), PkiError> {
    let (_, parsed) =
        x509_parser::certificate::X509Certificate::from_der(certificate).map_err(|_| PkiError::Unnamed)?;
    let validity = parsed.validity();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// Whether it is time for a new certificate: two thirds of its life are over.
pub fn renewal_due(certificate: &CertificateDer<'_>, now: Timestamp) -> bool {
    let Ok((from, until)) = certificate_seconds(certificate) else { return true };
    let now = i64::try_from(now.0 / 1_000_000).unwrap_or(i64::MAX);
    now >= from + (until - from) / 3 * 2
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, seconds: u64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now_seconds = now.0 / 1_000_000;
    params.not_before = epoch + Duration::from_secs(now_seconds.saturating_sub(BACKDATED_SECONDS));
    params.not_after = epoch + Duration::from_secs(now_seconds + seconds);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn identity() -> PeerIdentity {
        PeerIdentity { plane: PlaneId::from_bytes([1; 16]), role: Role::Node, id: Uuid::from_bytes([2; 16]) }
    }

    fn signed() -> CertificateDer<'static> {
        let (authority_pem, key_pem) = Authority::create(identity().plane, NOW).unwrap();
        let authority = Authority::open(&authority_pem, &key_pem).unwrap();
        let (_, request) = certificate_request().unwrap();
        let pem = authority.sign(&request, identity(), [0xff; 16], NOW).unwrap();
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[test]
    fn a_certificate_names_its_holder() {
        assert_eq!(PeerIdentity::of_certificate(&signed()).unwrap(), identity());
    }

    #[test]
    fn the_spelling_of_identities_is_pinned() {
        let uri = "dstore://01010101-0101-0101-0101-010101010101/node/02020202-0202-0202-0202-020202020202";
        assert_eq!(identity().uri(), uri);
        assert_eq!(PeerIdentity::from_uri(uri), Some(identity()));
        for other in [
            uri.to_uppercase(),
            format!("{uri}/"),
            format!("{uri}/x"),
            uri.replace("node", "root"),
            uri.replace('-', ""),
        ] {
            assert_eq!(PeerIdentity::from_uri(&other), None, "{other}");
        }
    }

    #[test]
    fn names_in_a_request_are_not_taken_over() {
        let (authority_pem, key_pem) = Authority::create(identity().plane, NOW).unwrap();
        let authority = Authority::open(&authority_pem, &key_pem).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        let control = PeerIdentity { role: Role::Control, ..identity() };
        params.subject_alt_names.push(SanType::URI(control.uri().try_into().unwrap()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let pem = authority.sign(&request, identity(), [3; 16], NOW).unwrap();
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(PeerIdentity::of_certificate(&certificate).unwrap(), identity());
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&certificate).unwrap();
        assert!(!parsed.is_ca());
        assert!(!format!("{:?}", parsed.subject_alternative_name()).contains("evil"));
    }

    #[test]
    fn renewal_is_due_after_sixty_of_ninety_days() {
        let certificate = signed();
        let (from, until) = certificate_seconds(&certificate).unwrap();
        assert_eq!(until - from, (CERTIFICATE_SECONDS + BACKDATED_SECONDS) as i64);
        assert!(!renewal_due(&certificate, NOW));
        assert!(!renewal_due(&certificate, NOW.plus_seconds(59 * 24 * 3600)));
        assert!(renewal_due(&certificate, NOW.plus_seconds(60 * 24 * 3600)));
    }
}
