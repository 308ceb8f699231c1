//! What a component keeps of its membership at a control plane: `<data>/<plane>/member.json`, mode 0600.
//!
//! | name | what |
//! |---|---|
//! | `format` | 1 |
//! | `plane` | the control plane's UUID, as in the folder's name |
//! | `role`, `id` | which role was joined as, and the UUID that control gave |
//! | `control_url` | control's inside listener, as it was when last reached |
//! | `authority_pem` | the certificate authority of the control plane |
//! | `certificate_pem`, `key_pem` | the certificate, and its private key |
//!
//! All of it stands in one file that is replaced by renaming: so a membership is there whole or not at all, and a
//! renewed certificate never lies beside the key of the one before. Each control plane has a folder of its own, with its own
//! UUID, keys and data: a component can be joined to a second one, and nothing of the two ever meets. Which one a
//! process serves is told by the control URL or by the join token ([`find`]).
//!
//! A process killed between control's answer and the writing of this file has lost its invitation and nothing
//! else: the member that control recorded has no ranges and is removed by command.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::node_parts::StartError;
use super::private_files;
use crate::domain::ids::{PlaneId, Role};
use crate::services::control::token_parts;
use crate::transport::pki::authority_fingerprint;

const FORMAT: u32 = 1;
/// The name of the file.
const FILE: &str = "member.json";

/// See the module's text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    format: u32,
    /// The control plane.
    pub plane: PlaneId,
    /// The role.
    pub role: Role,
    /// The UUID there.
    pub id: Uuid,
    /// Where control was last reached.
    pub control_url: String,
    /// The authority's certificate, PEM.
    pub authority_pem: String,
    /// The certificate, PEM.
    pub certificate_pem: String,
    key_pem: KeyText,
}

/// A private key as text, that wipes itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
struct KeyText(String);

impl std::fmt::Debug for Membership {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Membership({} {} at {})", self.role, self.id, self.plane)
    }
}

impl Membership {
    /// What joining gave.
    pub fn new(
        role: Role,
        control_url: &str,
        joined: crate::services::control::Joined,
        key_pem: &Zeroizing<String>,
    ) -> Self {
        Self {
            format: FORMAT,
            plane: joined.plane,
            role,
            id: joined.id,
            control_url: control_url.to_owned(),
            authority_pem: joined.authority_pem,
            certificate_pem: joined.certificate_pem,
            key_pem: KeyText(key_pem.as_str().to_owned()),
        }
    }

    /// The same with a renewed certificate.
    pub fn renewed(&self, certificate_pem: String, key_pem: &Zeroizing<String>) -> Self {
        Self { certificate_pem, key_pem: KeyText(key_pem.as_str().to_owned()), ..self.clone() }
    }

    /// The private key of the certificate, PEM.
    pub fn key_pem(&self) -> &str {
        &self.key_pem.0
    }

    /// The folder of this control plane under `data`.
    pub fn folder(&self, data: &Path) -> PathBuf {
        data.join(self.plane.to_string())
    }

    /// Keeps it, in place of what was kept for this control plane.
    ///
    /// # Errors
    /// Those of the file system; what was kept before is still there then.
    pub fn keep(&self, data: &Path) -> std::io::Result<()> {
        let bytes = Zeroizing::new(self.to_bytes());
        private_files::replace(&self.folder(data).join(FILE), &bytes)?;
        // The folder's own name, which may be new.
        std::fs::File::open(data)?.sync_all()
    }

    fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let membership: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match membership.format {
            FORMAT => Ok(membership),
            _ => Err("it was written by another version of dstore".to_owned()),
        }
    }

    fn has_authority(&self, fingerprint: &str) -> bool {
        authority_fingerprint(&self.authority_pem).is_ok_and(|own| own == fingerprint)
    }
}

/// All memberships in this data folder.
///
/// # Errors
/// Where a file cannot be read or is not understood: a component without its identity must not join as another.
pub fn all(data: &Path) -> Result<Vec<Membership>, StartError> {
    let failed = |path: &Path, why: String| StartError(format!("{}: {why}", path.display()));
    let mut memberships = Vec::new();
    let entries = match std::fs::read_dir(data) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(memberships),
        other => other.map_err(|error| failed(data, error.to_string()))?,
    };
    for entry in entries {
        let folder = entry.map_err(|error| failed(data, error.to_string()))?.path();
        let name = folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<PlaneId>().ok());
        let (Some(plane), path) = (name, folder.join(FILE)) else { continue };
        let bytes = match std::fs::read(&path) {
            // A folder that was begun and never joined, or of a node that stands alone.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => Zeroizing::new(other.map_err(|error| failed(&path, error.to_string()))?),
        };
        let membership = Membership::from_bytes(&bytes)
            .map_err(|why| failed(&path, format!("{why}; restore it from a copy, or join anew")))?;
        if membership.plane != plane {
            return Err(failed(
                &path,
                format!("it is of the control plane {}, not of this folder's", membership.plane),
            ));
        }
        memberships.push(membership);
    }
    memberships.sort_by_key(|membership| membership.plane);
    Ok(memberships)
}

/// The membership that a process is to serve under; none where it has to join first. A token decides: of the control plane
/// that it is an invitation to, membership is taken or begun. Without one the control URL does, where there are several.
///
/// # Errors
/// Where another role has joined from this folder, or it cannot be told which membership is meant.
pub fn find(
    memberships: Vec<Membership>,
    role: Role,
    control_url: Option<&str>,
    token: Option<&str>,
) -> Result<Option<Membership>, StartError> {
    if let Some(other) = memberships.iter().find(|membership| membership.role != role) {
        return Err(StartError(format!(
            "this data folder is of a {}, not of a {role}: give each its own with --data",
            other.role
        )));
    }
    if let Some((_, fingerprint)) = token.and_then(token_parts) {
        return Ok(memberships.into_iter().find(|membership| membership.has_authority(fingerprint)));
    }
    if memberships.len() <= 1 {
        return Ok(memberships.into_iter().next());
    }
    let planes: Vec<String> =
        memberships.iter().map(|known| format!("{} ({})", known.plane, known.control_url)).collect();
    let meant = memberships.into_iter().find(|membership| Some(membership.control_url.as_str()) == control_url);
    meant.map(Some).ok_or_else(|| {
        StartError(format!(
            "this data folder is joined to several control planes: {}. Say which with --control URL",
            planes.join(", ")
        ))
    })
}

/// For the fuzzer: what is understood is written and read back as itself.
#[doc(hidden)]
pub fn fuzz_membership(bytes: &[u8]) {
    if let Ok(membership) = Membership::from_bytes(bytes) {
        assert!(Membership::from_bytes(&membership.to_bytes()).as_ref() == Ok(&membership));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Timestamp;
    use crate::transport::pki::Authority;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn membership(number: u8, role: Role) -> Membership {
        let plane = PlaneId::from_bytes([number; 16]);
        let (authority_pem, _) = Authority::create(plane, NOW).unwrap();
        let id = Uuid::from_bytes([number; 16]);
        let joined = crate::services::control::Joined { plane, id, certificate_pem: "c".into(), authority_pem };
        Membership::new(role, &format!("https://control-{number}:8081"), joined, &Zeroizing::new("k".to_owned()))
    }

    fn token_of(membership: &Membership) -> String {
        let fingerprint = authority_fingerprint(&membership.authority_pem).unwrap();
        format!("dsj1.{}.{fingerprint}", "s".repeat(43))
    }

    #[test]
    fn what_is_kept_is_found_private_and_whole() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().unwrap();
        assert!(all(data.path()).unwrap().is_empty());
        let (first, second) = (membership(1, Role::Node), membership(2, Role::Node));
        first.keep(data.path()).unwrap();
        second.keep(data.path()).unwrap();
        assert_eq!(all(data.path()).unwrap(), [first.clone(), second]);
        let path = first.folder(data.path()).join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{first:?}").contains("\"k\""));

        let renewed = first.renewed("c2".into(), &Zeroizing::new("k2".to_owned()));
        renewed.keep(data.path()).unwrap();
        let read = all(data.path()).unwrap();
        assert_eq!((read[0].certificate_pem.as_str(), read[0].key_pem()), ("c2", "k2"));
        std::fs::write(&path, "{").unwrap();
        assert!(all(data.path()).unwrap_err().to_string().contains("member.json"));
    }

    #[test]
    fn a_crash_in_the_middle_of_joining_leaves_none() {
        let data = tempfile::tempdir().unwrap();
        let member = membership(1, Role::Node);
        let folder = member.folder(data.path());
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("member.json.new"), &member.to_bytes()[..40]).unwrap();
        assert!(all(data.path()).unwrap().is_empty());
        member.keep(data.path()).unwrap();
        assert_eq!(all(data.path()).unwrap(), [member]);
    }

    #[test]
    fn a_file_in_another_planes_folder_is_refused() {
        let data = tempfile::tempdir().unwrap();
        let member = membership(1, Role::Node);
        member.keep(data.path()).unwrap();
        let other = data.path().join(PlaneId::from_bytes([9; 16]).to_string());
        std::fs::rename(member.folder(data.path()), &other).unwrap();
        assert!(all(data.path()).unwrap_err().to_string().contains("not of this folder's"));
    }

    #[test]
    fn which_one_is_meant() {
        let (first, second) = (membership(1, Role::Node), membership(2, Role::Node));
        let both = || vec![first.clone(), second.clone()];
        fn found(
            known: Vec<Membership>,
            url: Option<&str>,
            token: Option<&str>,
        ) -> Result<Option<Membership>, StartError> {
            find(known, Role::Node, url, token)
        }
        assert_eq!(found(Vec::new(), None, None).unwrap(), None);
        let elsewhere = Some("https://moved:8081");
        assert_eq!(found(vec![first.clone()], elsewhere, None).unwrap(), Some(first.clone()), "control may move");
        assert_eq!(found(both(), Some("https://control-2:8081"), None).unwrap(), Some(second.clone()));
        assert!(found(both(), elsewhere, None).unwrap_err().to_string().contains("--control"));
        assert_eq!(found(both(), elsewhere, Some(&token_of(&first))).unwrap(), Some(first.clone()));
        let third = membership(3, Role::Node);
        assert_eq!(found(both(), elsewhere, Some(&token_of(&third))).unwrap(), None, "a third plane is joined");
        let proxy = find(both(), Role::Proxy, None, None).unwrap_err().to_string();
        assert!(proxy.contains("of a node, not of a proxy"), "{proxy}");
    }

    proptest! {
        #[test]
        fn memberships_come_back(id: [u8; 16], url: String, certificate: String, key: String) {
            let base = membership(1, Role::Proxy);
            let member = Membership { id: Uuid::from_bytes(id), control_url: url, ..base }
                .renewed(certificate, &Zeroizing::new(key));
            prop_assert!(Membership::from_bytes(&member.to_bytes()).unwrap() == member);
        }

        #[test]
        fn any_bytes_are_understood_or_refused(at in 0usize..500, value: u8) {
            let mut bytes = membership(1, Role::Node).to_bytes();
            bytes[at] = value;
            fuzz_membership(&bytes);
        }
    }
}
