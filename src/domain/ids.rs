//! Identities. Each kind of UUID is a type of its own, so that a tenant's id cannot be handed over
//! where a table's is wanted. Ids of tables, ranges, replicas and files are never used again.

use uuid::Uuid;

use super::ambient::{Random, random_uuid};

macro_rules! uuid_kinds {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh random id.
            pub fn random(random: &dyn Random) -> Self {
                Self(random_uuid(random))
            }

            /// The sixteen bytes, in network order, as they stand in files and on the wire.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id with these sixteen bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.as_hyphenated().fmt(formatter)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+ };
}

uuid_kinds! {
    /// A control plane: one cluster. A process may serve several; their data never meet.
    PlaneId,
    /// A data node, at one control plane.
    NodeId,
    /// A proxy, at one control plane.
    ProxyId,
    /// One instance of the control role.
    ControlId,
    /// A reporting process.
    ReporterId,
    /// A tenant, at one control plane.
    TenantId,
    /// A table.
    TableId,
    /// A contiguous interval of hashes of one table; a split or merge makes new ones.
    RangeId,
    /// One copy of a range on one node.
    ReplicaId,
    /// An encrypted file. A rebuilt file has a new one.
    FileId,
    /// A commit log: one incarnation of a node's log folder.
    LogId,
    /// A data key in the commit log.
    LogKeyId,
    /// Who may ask: a principal of a tenant, or root.
    PrincipalId,
    /// A session, to which tokens belong; revoking it revokes them.
    SessionId,
    /// A write that was answered before it was applied.
    ReceiptId,
    /// A write: the client's Idempotency-Key is digested into one, else the proxy makes one.
    RequestId,
}

/// The roles a component can have; certificates name one, and routes check it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves the admin API and places ranges.
    Control,
    /// Stores data.
    Node,
    /// Routes requests.
    Proxy,
    /// Collects usage.
    Reporting,
}

impl Role {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Role::Control => "control",
            Role::Node => "node",
            Role::Proxy => "proxy",
            Role::Reporting => "reporting",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.word())
    }
}
