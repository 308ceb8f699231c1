//! Where the nodes are that this node shares ranges with: addresses that messages are sent to and routes show.
//!
//! A node must find its peers when it starts and the coordinator is away; without them no range would have a leader.
//! So what was learnt is kept on disk, sealed as [`super::sealed_copy`] says; the body is JSON:
//!
//! ```text
//! [{"node":"<uuid>","uri":"https://…/","inside_uri":"https://…/"}, …]      in order of the nodes
//! ```
//!
//! Who is a peer is told by the plan: each range that a node is given lists the nodes of all its copies. Each peer's
//! `node/{uuid}/details` is followed by itself. All of `node/` in one would bring every range of every node along, which
//! in a large cluster is a thousand times more.
//!
//! An address is a hint and no right: who answers there shows a certificate. So an address whose key vanishes is kept; an
//! emptied coordinator does not make the nodes blind. A node that is no peer any more costs a line in a file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::coordination::values::{NodeDetails, from_json, to_json};
use crate::coordination::{Coordinator, EventKind, KeyValue, Reflected, Reflector, ReflectorOptions, layout};
use crate::domain::Random;
use crate::domain::ids::{NodeId, PlaneId};
use crate::storage::keys::{FileKeys, KeyOwner};
use crate::storage::workers;

use super::items::NodeAddress;
use super::sealed_copy::{self, CopyKind, DiskCopyError, DiskCopyOptions};

/// Addresses seldom change: they are compared with the coordinator's once in so many seconds.
const COMPARE_SECONDS: u64 = 3_600;

/// Where the copy on disk is, and whose key seals it.
pub struct DirectoryCopy {
    /// The file; its folder must be there.
    pub path: PathBuf,
    /// The control plane.
    pub plane: PlaneId,
    /// Gives the node's key, of which the newest version seals it.
    pub keys: Arc<dyn FileKeys>,
}

/// See the module's essay. Dropping it ends the following.
pub struct NodeDirectory {
    shared: Arc<Shared>,
    followed: Mutex<BTreeMap<NodeId, JoinHandle<()>>>,
}

struct Shared {
    coordinator: Arc<dyn Coordinator>,
    random: Arc<dyn Random>,
    copy: DirectoryCopy,
    known: RwLock<BTreeMap<NodeId, NodeAddress>>,
    /// Grows with each change of what is known.
    generation: watch::Sender<u64>,
    /// Held while the copy is written: the generation in it, and the version of the key that seals it.
    saved: Mutex<Option<(u64, u32)>>,
}

/// A node as it stands in the copy on disk.
#[derive(Serialize, Deserialize)]
struct KnownNode {
    node: NodeId,
    uri: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inside_uri: Option<String>,
}

impl NodeDirectory {
    /// A directory of what is in the copy on disk. Blocks on the disk. A copy that cannot be used is none: the coordinator
    /// knows better.
    pub fn open(coordinator: Arc<dyn Coordinator>, copy: DirectoryCopy, random: Arc<dyn Random>) -> Self {
        let (known, saved) = match copy.load() {
            Ok((known, version)) => (known, Some((0, version))),
            Err(DiskCopyError::Missing) => Default::default(),
            Err(error) => {
                tracing::warn!(%error, "where the other nodes are is learnt from the coordinator alone");
                Default::default()
            }
        };
        let shared = Shared {
            coordinator,
            random,
            copy,
            known: RwLock::new(known),
            generation: watch::Sender::new(0),
            saved: Mutex::new(saved),
        };
        Self { shared: Arc::new(shared), followed: Mutex::default() }
    }

    /// Follows these nodes' addresses from now on, too. Must be called in a tokio runtime; returns at once.
    pub fn want(&self, nodes: impl IntoIterator<Item = NodeId>) {
        let mut followed = self.followed.lock();
        for node in nodes {
            followed.entry(node).or_insert_with(|| tokio::spawn(Arc::clone(&self.shared).follow(node)));
        }
    }

    /// Where this node is; none where that was never heard.
    pub fn address(&self, node: NodeId) -> Option<NodeAddress> {
        self.shared.known.read().get(&node).cloned()
    }

    /// Grows with each change of what is known.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// Writes the copy on disk where it is older than what is known or sealed under an older key. Blocks on the disk.
    pub fn save(&self) {
        self.shared.save();
    }
}

impl Drop for NodeDirectory {
    fn drop(&mut self) {
        self.followed.lock().values().for_each(JoinHandle::abort);
    }
}

impl Shared {
    async fn follow(self: Arc<Self>, node: NodeId) {
        let options = ReflectorOptions { compare_seconds: COMPARE_SECONDS, ..ReflectorOptions::default() };
        let key = layout::node_details(node);
        let mut reflector = Reflector::start(Arc::clone(&self.coordinator), key.clone(), options);
        while let Some(told) = reflector.next().await {
            let entries: Vec<KeyValue> = match told {
                Reflected::Snapshot(listing) => listing.entries,
                Reflected::Changes(batch) => batch.events.into_iter().filter_map(|event| written(event.kind)).collect(),
                Reflected::Lost(_) | Reflected::Resumed(_) => continue,
            };
            if let Some(entry) = entries.iter().rfind(|entry| entry.key == key)
                && self.learn(node, entry)
            {
                let shared = Arc::clone(&self);
                // It fails only where the runtime is ending.
                let _ = workers::blocking(move || shared.save()).await;
            }
        }
    }

    /// Takes in a node's details. Whether that was news.
    fn learn(&self, node: NodeId, entry: &KeyValue) -> bool {
        let Ok(details) = from_json::<NodeDetails>(&entry.value) else {
            tracing::error!(key = entry.key, "a node's details cannot be read; its address stays what it was");
            return false;
        };
        let address = NodeAddress::new(node, details.uri, details.inside_uri);
        let is_news = self.known.write().insert(node, address.clone()).is_none_or(|before| before != address);
        if is_news {
            self.generation.send_modify(|generation| *generation += 1);
        }
        is_news
    }

    fn save(&self) {
        let mut saved = self.saved.lock();
        let generation = *self.generation.borrow();
        let known = self.known.read().clone();
        let is_saved = |version| *saved == Some((generation, version)) || known.is_empty();
        match self.copy.save(&known, &*self.random, is_saved) {
            Ok(version) => *saved = Some((generation, version)),
            Err(error) => tracing::warn!(%error, "where the other nodes are could not be written to disk"),
        }
    }
}

fn written(event: EventKind) -> Option<KeyValue> {
    match event {
        EventKind::Put(entry) => Some(entry),
        EventKind::Delete { .. } => None,
    }
}

impl DirectoryCopy {
    /// The copy under the newest key, and that key's version.
    fn newest(&self) -> Result<(DiskCopyOptions, u32), DiskCopyError> {
        let key = self.keys.newest(KeyOwner::Node).map_err(|_| DiskCopyError::WrongKey)?;
        Ok((DiskCopyOptions { path: self.path.clone(), key: key.key, plane: self.plane }, key.version))
    }

    fn load(&self) -> Result<(BTreeMap<NodeId, NodeAddress>, u32), DiskCopyError> {
        let (options, version) = self.newest()?;
        let known = decode(&sealed_copy::load(CopyKind::Nodes, &options)?)?;
        Ok((known, version))
    }

    /// Writes the copy unless it is there already; the version of the key that seals it.
    fn save(
        &self,
        known: &BTreeMap<NodeId, NodeAddress>,
        random: &dyn Random,
        is_saved: impl Fn(u32) -> bool,
    ) -> Result<u32, DiskCopyError> {
        let (options, version) = self.newest()?;
        if !is_saved(version) {
            let mut nonce = [0; 12];
            random.fill(&mut nonce);
            sealed_copy::save(CopyKind::Nodes, &options, nonce, &encode(known))?;
        }
        Ok(version)
    }
}

fn encode(known: &BTreeMap<NodeId, NodeAddress>) -> Vec<u8> {
    let entry = |address: &NodeAddress| KnownNode {
        node: address.node,
        uri: address.uri.clone(),
        inside_uri: address.inside_uri.clone(),
    };
    to_json(&known.values().map(entry).collect::<Vec<_>>()).to_vec()
}

fn decode(body: &[u8]) -> Result<BTreeMap<NodeId, NodeAddress>, DiskCopyError> {
    let entries: Vec<KnownNode> = from_json(body).map_err(|_| DiskCopyError::Damaged("it is no list of nodes"))?;
    let address = |entry: KnownNode| (entry.node, NodeAddress::new(entry.node, entry.uri, entry.inside_uri));
    Ok(entries.into_iter().map(address).collect())
}

/// For the fuzzer: whatever decodes is written and read back as itself.
#[doc(hidden)]
pub fn fuzz_nodes_copy(data: &[u8]) {
    if let Ok(known) = decode(data) {
        let again = decode(&encode(&known)).expect("what was written can be read");
        assert!(again == known);
    }
}

#[cfg(test)]
mod tests;
