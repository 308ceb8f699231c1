//! Every file of a stopped `dstore dev`: each page of it opens, and SQLite finds nothing to complain of.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dstore::coordination::embedded::{EmbeddedOptions, EmbeddedStore};
use dstore::coordination::{Coordinator, Writer};
use dstore::crypto::Key256;
use dstore::domain::ids::NodeId;
use dstore::roles::ambient;
use dstore::roles::key_files::read_key;
use dstore::roles::own_keys::OwnKeys;
use dstore::services::control::{ControlOptions, ControlPlane};
use dstore::services::engine::keys::{NodeKeys, PartVersions};
use dstore::storage::keys::FileKeys;
use dstore::storage::node_database::NodeDatabase;
use dstore::storage::sqlite::keeper::{KeeperOptions, SqliteKeeper};
use dstore::storage::sqlite::node_database::SqliteNodeDatabase;
use dstore::storage::sqlite::range_store::FileOptions;
use dstore::storage::store::StoreKeeper;

/// Checks all files of the only node of a folder, and the coordinator's; how many replicas there were.
pub async fn check_all_files(data: &Path) -> usize {
    let coordinator_path = data.join("control/coordinator.db");
    let (clock, random) = (ambient::clock(), ambient::random());
    dstore::storage::vfs::register(random.clone()).expect("the VFS registers");
    let store = EmbeddedStore::open(&coordinator_path, EmbeddedOptions::default()).expect("the coordinator opens");
    let coordinator: Arc<dyn Coordinator> = Arc::new(store.handle(Writer::Control));
    let control_key: Key256 = read_key(&data.join("control/control.key"), None, &*random).expect("the control key");
    let control = ControlPlane::open(coordinator, &control_key, ControlOptions::default(), clock, random.clone());
    let control = control.await.expect("the control plane opens");

    let node_folder = data.join("node-1");
    let node: NodeId = std::fs::read_to_string(node_folder.join("node.id")).unwrap().trim().parse().unwrap();
    let plane = control.plane();
    let (_, own) = OwnKeys::open(&node_folder.join(plane.to_string()), None, random.clone()).expect("the node's key");
    let mut at_control = PartVersions::default();
    for (version, part) in control.node_key_local(node).await.expect("the node's part") {
        at_control.add(version, part);
    }
    let keys = Arc::new(NodeKeys::new(own, at_control));
    let file_keys: Arc<dyn FileKeys> = keys.clone();
    // Opening it reads every page.
    let database = SqliteNodeDatabase::open(&node_folder, plane, node, file_keys.clone(), random.clone());
    let database = database.expect("the node's database is sound");
    for part in database.tenant_keys().unwrap() {
        for handed in control.tenant_key_local(part.tenant).await.expect("the tenant's part") {
            keys.add_tenant_at_control(part.tenant, handed.version, handed.part);
        }
        keys.add_tenant_at_node(part.tenant, part.version, part.part);
    }
    let file = FileOptions { cache_pages: 200, readers_max: 1 };
    let options = KeeperOptions { open_files_max: 16, file };
    let keeper = SqliteKeeper::new(PathBuf::from(&node_folder), plane, node, file_keys, random, options);
    let replicas = database.replicas().unwrap();
    for replica in &replicas {
        let checked = keeper.open(replica.name).and_then(|store| store.verify());
        checked.unwrap_or_else(|error| panic!("replica {}: {error}", replica.name.replica));
    }
    drop((control, store));
    let coordinator = rusqlite::Connection::open(&coordinator_path).unwrap();
    let told: String = coordinator.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(told, "ok", "the coordinator's file");
    replicas.len()
}
