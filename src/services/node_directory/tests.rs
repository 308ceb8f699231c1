//! Addresses of peers: learnt, kept, and found again without the coordinator.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::coordination::Writer;
use crate::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use crate::coordination::values::NodeStatus;
use crate::crypto::Key256;
use crate::storage::keys::{KeyUnavailable, VersionedKey};

/// A node's key of this version.
struct Keys(Mutex<u32>);

impl FileKeys for Keys {
    fn newest(&self, owner: KeyOwner) -> Result<VersionedKey, KeyUnavailable> {
        let version = *self.0.lock();
        Ok(VersionedKey { version, key: self.of_version(owner, version)? })
    }

    fn of_version(&self, _: KeyOwner, version: u32) -> Result<Key256, KeyUnavailable> {
        Ok(Key256::new([version as u8; 32]))
    }
}

/// Bytes that are the same each time; nothing secret is sealed here.
struct Same;

impl Random for Same {
    fn fill(&self, buffer: &mut [u8]) {
        buffer.fill(3);
    }
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn details(uri: &str) -> NodeDetails {
    NodeDetails {
        status: NodeStatus::Okay,
        uri: uri.to_owned(),
        inside_uri: Some(format!("{uri}inside/")),
        zone: None,
        incarnation: None,
        boot: None,
        capacity_bytes: None,
        free_bytes: None,
        version: None,
        format: None,
    }
}

struct Fixture {
    store: EmbeddedStore,
    control: Arc<dyn Coordinator>,
    keys: Arc<Keys>,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&folder.path().join("c.db"), EmbeddedOptions::default()).unwrap();
        let control: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Control));
        Self { store, control, keys: Arc::new(Keys(Mutex::new(1))), folder }
    }

    fn directory(&self) -> NodeDirectory {
        open(&self.store, self.folder.path(), &self.keys)
    }

    async fn put(&self, number: u8, uri: &str) {
        self.control.put(&layout::node_details(node(number)), to_json(&details(uri)), None).await.unwrap();
    }
}

fn open(store: &EmbeddedStore, folder: &Path, keys: &Arc<Keys>) -> NodeDirectory {
    let copy = DirectoryCopy {
        path: folder.join("nodes.copy"),
        plane: PlaneId(uuid::Uuid::from_u128(7)),
        keys: keys.clone() as Arc<dyn FileKeys>,
    };
    NodeDirectory::open(Arc::new(store.handle(Writer::Node(node(1)))), copy, Arc::new(Same))
}

/// Waits until the directory knows the node under this address.
async fn until(directory: &NodeDirectory, number: u8, uri: &str) {
    let is_there = |_: &u64| directory.address(node(number)).is_some_and(|address| address.uri == uri);
    let mut generations = directory.generations();
    let waited = tokio::time::timeout(Duration::from_secs(30), generations.wait_for(is_there)).await;
    waited.expect("the address is learnt").unwrap();
}

#[tokio::test]
async fn peers_are_followed_and_others_are_not() {
    let fixture = Fixture::new();
    fixture.put(2, "http://two:1/").await;
    fixture.put(3, "http://three:1/").await;
    let directory = fixture.directory();
    directory.want([node(2)]);
    directory.want([node(2)]);
    assert_eq!(directory.followed.lock().len(), 1);
    until(&directory, 2, "http://two:1/").await;
    assert_eq!(directory.address(node(2)).unwrap().inside(), "http://two:1/inside/");
    fixture.put(2, "http://two:2/").await;
    until(&directory, 2, "http://two:2/").await;
    assert_eq!(directory.address(node(3)), None);
    // A key that vanishes says nothing about where the node is.
    fixture.control.delete(&layout::node_details(node(2))).await.unwrap();
    directory.want([node(3)]);
    until(&directory, 3, "http://three:1/").await;
    assert!(directory.address(node(2)).is_some());
}

#[tokio::test]
async fn a_start_without_the_coordinator_knows_the_peers() {
    let fixture = Fixture::new();
    fixture.put(2, "http://two:1/").await;
    let directory = fixture.directory();
    directory.want([node(2)]);
    until(&directory, 2, "http://two:1/").await;
    directory.save();
    drop(directory);
    // Another store: empty, as one that is away.
    let elsewhere = tempfile::tempdir().unwrap();
    let empty = EmbeddedStore::open(&elsewhere.path().join("c.db"), EmbeddedOptions::default()).unwrap();
    let again = open(&empty, fixture.folder.path(), &fixture.keys);
    assert_eq!(again.address(node(2)).unwrap().uri, "http://two:1/");
    again.want([node(2)]);
    // After a rotation the copy is sealed under the new key without anything having changed.
    *fixture.keys.0.lock() = 2;
    again.save();
    drop(again);
    assert!(open(&empty, fixture.folder.path(), &fixture.keys).address(node(2)).is_some());
    // Under a key that is gone it is as if there were none.
    *fixture.keys.0.lock() = 3;
    assert!(open(&empty, fixture.folder.path(), &fixture.keys).address(node(2)).is_none());
}

proptest! {
    #[test]
    fn what_is_written_is_read(nodes in proptest::collection::btree_map(any::<[u8; 16]>(), (".{0,20}", proptest::option::of(".{1,20}")), 0..20)) {
        let address = |(id, (uri, inside)): ([u8; 16], (String, Option<String>))| {
            let node = NodeId::from_bytes(id);
            (node, NodeAddress::new(node, uri, inside))
        };
        let known: BTreeMap<NodeId, NodeAddress> = nodes.into_iter().map(address).collect();
        prop_assert_eq!(decode(&encode(&known)).unwrap(), known);
    }

    #[test]
    fn garbage_is_refused_or_stable(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz_nodes_copy(&data);
    }
}
