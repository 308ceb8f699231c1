//! Each part of the keys is rotated while the node serves; whatever is cut off goes on; and afterwards the old
//! part opens nothing, nor do the new parts open an old copy.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use dstore::config::Config;
use dstore::crypto::Key256;
use dstore::domain::ids::TenantId;
use dstore::domain::{Refusal, TableName, TenantName};
use dstore::roles::own_keys::OwnKeys;
use dstore::roles::{ambient, lifecycle, one_process};
use dstore::services::assignments::{HandedPart, HandedParts, KeyParts, ready_tenant};
use dstore::services::control::SecretName;
use dstore::services::engine::EngineOptions;
use dstore::services::engine::keys::{NodeKeys, PartVersions, Versions};
use dstore::services::engine::rotation::{KeyRotation, Step};
use dstore::services::key_rounds::KeyRounds;
use dstore::services::ports::{Caller, Catalog};
use dstore::storage::keys::{FileKeys, KeyOwner};
use dstore::storage::log::LogOptions;
use dstore::storage::store::StoreError;
use dstore::storage::vfs;
use parking_lot::Mutex;

use crate::engine::{Node, apply, create, plane_folder, put, read, small, table, tenant, try_open};
use crate::process::DEADLINE;

/// Control's parts: the node's own under `None`, and tenants'. Kept across restarts of the node.
#[derive(Default)]
struct Control(Mutex<HashMap<Option<TenantId>, BTreeMap<u32, Key256>>>);

impl Control {
    fn new() -> Arc<Control> {
        let control = Control::default();
        for owner in [None, Some(tenant(1)), Some(tenant(2))] {
            control.rotate(owner);
        }
        Arc::new(control)
    }

    fn rotate(&self, owner: Option<TenantId>) {
        let mut parts = self.0.lock();
        let versions = parts.entry(owner).or_default();
        assert!(versions.len() < 2, "the last rotation has not ended");
        let next = versions.last_key_value().map_or(1, |(version, _)| version + 1);
        versions.insert(next, Key256::random(&*ambient::random()));
    }

    fn handed(&self, owner: Option<TenantId>) -> Vec<HandedPart> {
        let parts = self.0.lock();
        parts[&owner].iter().map(|(version, part)| HandedPart { version: *version, part: part.clone() }).collect()
    }
}

#[async_trait]
impl KeyParts for Control {
    async fn node_part(&self) -> Result<Vec<HandedPart>, Refusal> {
        Ok(self.handed(None))
    }
    async fn tenant_part(&self, tenant: TenantId) -> Result<Vec<HandedPart>, Refusal> {
        Ok(self.handed(Some(tenant)))
    }
    async fn all(&self) -> Result<HandedParts, Refusal> {
        let tenants = [tenant(1), tenant(2)].map(|tenant| (tenant, self.handed(Some(tenant))));
        Ok(HandedParts { node: self.handed(None), tenants: tenants.into() })
    }
    async fn in_use(&self, tenant: Option<TenantId>, version_min: u32) -> Result<(), Refusal> {
        let mut parts = self.0.lock();
        let versions = parts.get_mut(&tenant).unwrap();
        if versions.last_key_value().is_some_and(|(newest, _)| version_min >= *newest) {
            *versions = versions.split_off(&version_min);
        }
        Ok(())
    }
}

struct Rotating {
    node: Node,
    rotation: Arc<KeyRotation>,
    control: Arc<Control>,
}

impl Rotating {
    /// A node over a folder with whatever keys it finds there and at control.
    async fn open(folder: &Path, control: &Arc<Control>) -> Rotating {
        let random = ambient::random();
        let (own_file, own) = OwnKeys::open(&plane_folder(folder), None, random.clone()).unwrap();
        let mut at_control = PartVersions::default();
        control.handed(None).into_iter().for_each(|handed| at_control.add(handed.version, handed.part));
        let keys = Arc::new(NodeKeys::new(own, at_control));
        let log = LogOptions { segment_bytes: 128 << 10, reserve_bytes: 0, ..small().log };
        let node = try_open(folder, EngineOptions { log, ..small() }, keys.clone(), |database| {
            for part in database.tenant_keys().unwrap() {
                keys.add_tenant_at_node(part.tenant, part.version, part.part);
                for handed in control.handed(Some(part.tenant)) {
                    keys.add_tenant_at_control(part.tenant, handed.version, handed.part);
                }
            }
        });
        let node = node.expect("the node opens with what is there");
        for number in [1, 2] {
            ready_tenant(tenant(number), &keys, &node.database, &**control, &*random).await.unwrap();
        }
        let rotation = KeyRotation::new(keys, node.database.clone(), Arc::new(own_file), random);
        Rotating { node, rotation: Arc::new(rotation), control: control.clone() }
    }

    fn rounds(&self) -> KeyRounds {
        let (keys, engine) = (self.node.keys.clone(), self.node.engine.clone());
        KeyRounds::new(keys, engine, self.rotation.clone(), self.control.clone())
    }

    fn begin(&self, part: Part) {
        match part {
            Part::Own => self.rotation.rotate_own().unwrap(),
            Part::TenantAtNode => self.rotation.rotate_tenant(tenant(1)).unwrap(),
            Part::TenantAtControl => self.control.rotate(Some(tenant(1))),
            Part::NodeAtControl => self.control.rotate(None),
        }
    }

    /// The newest version of each part, where nothing else is left anywhere.
    fn settled(&self, folder: &Path) -> (u32, u32, u32, u32) {
        assert!(!self.node.keys.is_rotating(), "a part has two versions");
        let (here, at_control) = self.node.keys.tenant(tenant(1)).unwrap();
        let newest = |part: &PartVersions| part.newest().unwrap().0;
        let versions = (
            newest(&self.node.keys.own()),
            newest(&here),
            newest(&at_control),
            newest(&self.node.keys.node_at_control()),
        );
        let files = std::fs::read_dir(plane_folder(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(files.filter(|name| name.to_str().unwrap().starts_with("node.key")).count(), 1);
        assert_eq!(self.node.database.tenant_keys().unwrap().len(), 2);
        assert!(self.control.0.lock().values().all(|versions| versions.len() == 1), "control keeps an old one");
        versions
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Own,
    TenantAtNode,
    TenantAtControl,
    NodeAtControl,
}

const PARTS: [Part; 4] = [Part::Own, Part::TenantAtNode, Part::TenantAtControl, Part::NodeAtControl];

/// What the versions are after one rotation, as in [`Rotating::settled`]: what control begins is answered.
fn expected(part: Part) -> (u32, u32, u32, u32) {
    match part {
        Part::Own => (2, 1, 1, 1),
        Part::TenantAtNode => (1, 2, 1, 1),
        Part::TenantAtControl => (1, 2, 2, 1),
        Part::NodeAtControl => (2, 1, 1, 2),
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

fn replica_file(folder: &Path, number: u8) -> PathBuf {
    let of_tenant = plane_folder(folder).join(tenant(number).to_string()).join(table(number).id.to_string());
    let files = std::fs::read_dir(of_tenant).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "db")).unwrap()
}

async fn assert_items(node: &Node, count: usize) {
    for number in [1, 2] {
        let address = create(node, number);
        for item in 0..count {
            let stored = read(node, address, &format!("k{item}")).await;
            assert_eq!(stored, Some(format!(r#"{{"n":{item}}}"#)), "table {number}, item {item}");
        }
    }
}

async fn fill(node: &Node, count: usize) {
    for number in [1, 2] {
        let address = create(node, number);
        for item in 0..count {
            apply(node, address, put(&format!("k{item}"), &format!(r#"{{"n":{item}}}"#))).await;
            if item == count / 2 {
                for replica in node.engine.replicas() {
                    replica.flush().unwrap();
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_part_is_rotated_while_serving_and_the_old_one_opens_nothing() {
    for part in PARTS {
        let folder = tempfile::tempdir().unwrap();
        let control = Control::new();
        let rotating = Arc::new(Rotating::open(folder.path(), &control).await);
        fill(&rotating.node, 20).await;
        let owner = if part == Part::NodeAtControl { KeyOwner::Node } else { KeyOwner::Tenant(tenant(1)) };
        let path = if owner == KeyOwner::Node {
            plane_folder(folder.path()).join("node.db")
        } else {
            replica_file(folder.path(), 1)
        };
        let old_copy = folder.path().join("old-copy.db");
        std::fs::copy(&path, &old_copy).unwrap();
        let old_version = vfs::key_versions(&old_copy).unwrap()[0];

        let enough = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn({
            let (rotating, enough) = (rotating.clone(), enough.clone());
            async move {
                let address = create(&rotating.node, 1);
                let mut written = 0;
                while !enough.load(Ordering::Relaxed) || written == 0 {
                    let id = format!("busy{written}");
                    apply(&rotating.node, address, put(&id, r#"{"x":1}"#)).await;
                    assert!(read(&rotating.node, address, &id).await.is_some());
                    written += 1;
                }
                written
            }
        });
        rotating.begin(part);
        rotating.rounds().round().await.unwrap();
        enough.store(true, Ordering::Relaxed);
        let busy = writer.await.unwrap();

        assert_eq!(rotating.settled(folder.path()), expected(part), "{part:?}");
        let keys = &rotating.node.keys;
        assert!(keys.of_version(owner, old_version).is_err(), "{part:?}: the old part is gone");
        let newest = keys.newest(owner).unwrap();
        assert_ne!(Versions::unpack(newest.version), Versions::unpack(old_version));
        let refused = vfs::unlock(&old_copy, &newest.key).unwrap_err();
        assert!(matches!(refused, vfs::VfsError::WrongKey { .. }), "{part:?}: {refused}");
        assert_eq!(vfs::key_versions(&path).unwrap(), [newest.version], "{part:?}");
        assert_items(&rotating.node, 20).await;
        rotating.node.engine.stop();
        drop(rotating);

        let rotating = Rotating::open(folder.path(), &control).await;
        assert_items(&rotating.node, 20).await;
        let address = create(&rotating.node, 1);
        for number in 0..busy {
            assert!(read(&rotating.node, address, &format!("busy{number}")).await.is_some());
        }
        rotating.node.engine.stop();
    }
}

/// In memory where that can be had: these tests look at what is there, not at what survives a power cut.
fn quick_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Stops after step `cut`, counted from 0; whether it came that far.
fn settle_until(rotating: &Rotating, cut: usize) -> bool {
    let steps = Cell::new(0);
    let after = |step: Step| {
        steps.set(steps.get() + 1);
        if steps.get() > cut { Err(StoreError::Failed(format!("cut after {step:?}"))) } else { Ok(()) }
    };
    let settled = rotating.rotation.settle(&rotating.node.engine, &after);
    assert_eq!(settled.is_err(), steps.get() > cut, "{settled:?}");
    settled.is_err()
}

#[tokio::test]
async fn a_rotation_cut_off_after_any_step_goes_on_after_a_restart() {
    for part in PARTS {
        let mut cuts = 0;
        loop {
            let (folder, image) = (quick_folder(), quick_folder());
            let control = Control::new();
            let rotating = Rotating::open(folder.path(), &control).await;
            fill(&rotating.node, 6).await;
            rotating.begin(part);
            // Takes in what control hands out, as a round does first.
            for handed in control.handed(None) {
                rotating.node.keys.add_node_at_control(handed.version, handed.part);
            }
            for handed in control.handed(Some(tenant(1))) {
                rotating.node.keys.add_tenant_at_control(tenant(1), handed.version, handed.part);
            }
            let is_cut = settle_until(&rotating, cuts);
            // What a kill leaves is what is in the folder now.
            copy_folder(folder.path(), image.path());
            rotating.node.engine.stop();
            drop(rotating);

            let again = Rotating::open(image.path(), &control).await;
            assert_items(&again.node, 6).await;
            again.rounds().round().await.unwrap();
            assert_eq!(again.settled(image.path()), expected(part), "{part:?} cut after {cuts} steps");
            assert_items(&again.node, 6).await;
            again.node.engine.stop();
            if !is_cut {
                break;
            }
            cuts += 1;
        }
        assert!(cuts >= 4, "{part:?} has {cuts} steps");
    }
}

/// A second rotation begins before the first has ended: every file has two full slots then.
#[tokio::test]
async fn rotations_of_different_parts_may_overlap() {
    let folder = tempfile::tempdir().unwrap();
    let control = Control::new();
    let rotating = Rotating::open(folder.path(), &control).await;
    fill(&rotating.node, 6).await;
    rotating.begin(Part::TenantAtNode);
    assert!(settle_until(&rotating, 0), "cut where the files have both");
    rotating.begin(Part::Own);
    rotating.begin(Part::TenantAtControl);
    rotating.rounds().round().await.unwrap();
    assert_eq!(rotating.settled(folder.path()), (2, 2, 2, 1));
    assert_items(&rotating.node, 6).await;
    rotating.node.engine.stop();
}

/// The whole way: control's admin command, a node's round, control destroys the old part.
#[tokio::test]
async fn a_rotation_at_control_ends_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (config, origins) = Config::load(None, [], Vec::new()).unwrap();
    let mut options = lifecycle::one_process_options("dstore dev", &config, &origins, 1).unwrap();
    options.data = folder.path().to_owned();
    options.listen = "127.0.0.1:0".parse().unwrap();
    options.admin_listen = options.listen;
    options.node.key_round_seconds = 1;
    let dev = one_process::start(options).await.unwrap();
    let root = dev.control.principal_root().await.unwrap();
    let caller = Caller { principal: root.id, name: "test".into(), tenant: None, capabilities: vec![] };
    let (tenant_name, table_name) = (TenantName::new("default").unwrap(), TableName::new("things").unwrap());
    let specification = table(1).specification;
    let made = dev.control.create_table(&caller, &tenant_name, &table_name, specification).await.unwrap().0;
    let names = [SecretName::Tenant(made.tenant_id), SecretName::Node(dev.control.node_list().await.unwrap()[0].id)];
    for name in names {
        assert_eq!(dev.control.key_rotate(&caller, name).await.unwrap(), 2);
        let deadline = std::time::Instant::now() + DEADLINE;
        loop {
            let keys = dev.control.key_list().await.unwrap();
            let key = keys.iter().find(|key| key.kind == name.kind() && key.owner == name.owner()).unwrap();
            if key.version == 2 && key.old_version.is_none() {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "the old version of {name:?} is still there");
            tokio::task::yield_now().await;
        }
    }
    dev.stop().await;
}
