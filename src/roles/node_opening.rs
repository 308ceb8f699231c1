//! What of a node is on its disk, opened in its order: keys, the node's database, the engine with log and files.

use std::path::PathBuf;
use std::sync::Arc;

use crate::crypto::cipher::NonceSource;
use crate::domain::{Clock, Random};
use crate::services::assignments::KeyParts;
use crate::services::engine::keys::{NodeKeys, PartVersions};
use crate::services::engine::log_keys::CommitLogKeys;
use crate::services::engine::notices::Notices;
use crate::services::engine::{Engine, EngineOptions, EngineParts};
use crate::services::rolled_back::OwnBoots;
use crate::storage::keys::FileKeys;
use crate::storage::log::SystemDisk;
use crate::storage::node_database::NodeDatabase;
use crate::storage::sqlite::keeper::{KeeperOptions, SqliteKeeper};
use crate::storage::sqlite::node_database::SqliteNodeDatabase;
use crate::storage::sqlite::range_store::FileOptions;

use super::key_files::Passphrase;
use super::node_parts::{NodeIdentity, NodeSettings, StartError, with_sources};
use super::own_keys::OwnKeys;
use super::{boots, incarnation};

/// What of a node is on its disk, opened.
pub(super) struct Opened {
    pub(super) folder: PathBuf,
    pub(super) boots: Arc<OwnBoots>,
    pub(super) incarnation: uuid::Uuid,
    pub(super) own_file: OwnKeys,
    pub(super) keys: Arc<NodeKeys>,
    pub(super) file_keys: Arc<dyn FileKeys>,
    pub(super) database: Arc<dyn NodeDatabase>,
    pub(super) notices: Arc<Notices>,
    pub(super) engine: Arc<Engine>,
}

/// Opens all of it; waits for the control plane's key parts.
///
/// # Errors
/// Where it cannot be opened, with the reason.
pub(super) async fn open(
    identity: &NodeIdentity,
    settings: &NodeSettings,
    parts: &dyn KeyParts,
    passphrase: Option<Arc<Passphrase>>,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<Opened, StartError> {
    let folder = identity.data.join(identity.plane.to_string());
    let boots = boots::begin(&folder, &**clock, &**random)?;
    let incarnation = incarnation::read_or_make(&folder, &**random)?;
    let (own_file, own) = OwnKeys::open(&folder, passphrase, Arc::clone(random))?;
    let at_control = node_part(parts).await?;
    let keys = Arc::new(NodeKeys::new(own, at_control));
    let file_keys: Arc<dyn FileKeys> = Arc::clone(&keys) as Arc<dyn FileKeys>;
    let database = open_database(identity, &file_keys, random)?;
    take_tenant_keys(&keys, &database, parts).await?;
    let notices = Arc::new(Notices::default());
    let engine = open_engine(identity, settings.clone(), file_keys.clone(), &database, &notices, clock, random).await?;
    Ok(Opened { folder, boots, incarnation, own_file, keys, file_keys, database, notices, engine })
}

async fn node_part(parts: &dyn KeyParts) -> Result<PartVersions, StartError> {
    let mut at_control = PartVersions::default();
    for handed in parts.node_part().await.map_err(|refusal| StartError(format!("the node's key part: {refusal}")))? {
        at_control.add(handed.version, handed.part);
    }
    Ok(at_control)
}

fn open_database(
    identity: &NodeIdentity,
    keys: &Arc<dyn FileKeys>,
    random: &Arc<dyn Random>,
) -> Result<Arc<dyn NodeDatabase>, StartError> {
    let (keys, random) = (Arc::clone(keys), Arc::clone(random));
    let opened = SqliteNodeDatabase::open(&identity.data, identity.plane, identity.node, keys, random);
    Ok(opened.map_err(|error| StartError(error.to_string()))?)
}

async fn open_engine(
    identity: &NodeIdentity,
    settings: NodeSettings,
    keys: Arc<dyn FileKeys>,
    database: &Arc<dyn NodeDatabase>,
    notices: &Arc<Notices>,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<Arc<Engine>, StartError> {
    let folder = identity.data.join(identity.plane.to_string());
    let keeper_options = KeeperOptions {
        open_files_max: settings.open_files_max,
        file: FileOptions {
            cache_pages: settings.cache_pages,
            // The apply stage and the flusher look into files, too.
            readers_max: settings.read_threads + 2,
        },
    };
    let keeper = SqliteKeeper::new(
        identity.data.clone(),
        identity.plane,
        identity.node,
        Arc::clone(&keys),
        Arc::clone(random),
        keeper_options,
    );
    let nonces = NonceSource::new(Arc::clone(random));
    let parts = EngineParts {
        keeper: Arc::new(keeper),
        database: Arc::clone(database),
        log_keys: Arc::new(CommitLogKeys::new(identity.plane, identity.node, keys, nonces)),
        disk: Arc::new(SystemDisk),
        clock: Arc::clone(clock),
        random: Arc::clone(random),
        notices: Arc::clone(notices),
    };
    let options = EngineOptions {
        log_folder: folder.join("log"),
        log: settings.log,
        flush: settings.flush,
        admission: settings.admission,
        cache_bytes: settings.cache_bytes,
        apply_lanes: 1,
        read_threads: settings.read_threads,
        reads_waiting_max: settings.admission.writes_max,
    };
    let opened = tokio::task::spawn_blocking(move || Engine::open(parts, options)).await;
    opened
        .map_err(|_| StartError("the engine panicked while it opened".to_owned()))?
        .map_err(|error| StartError(with_sources(&error)))
}

/// Puts the parts of all tenants that the node has data of into `keys`.
async fn take_tenant_keys(
    keys: &NodeKeys,
    database: &Arc<dyn NodeDatabase>,
    parts: &dyn KeyParts,
) -> Result<(), StartError> {
    let known = database.tenant_keys().map_err(|error| StartError(error.to_string()))?;
    let mut tenants = std::collections::BTreeSet::new();
    for part in known {
        tenants.insert(part.tenant);
        keys.add_tenant_at_node(part.tenant, part.version, part.part);
    }
    for tenant in tenants {
        match parts.tenant_part(tenant).await {
            Ok(handed) => {
                handed.into_iter().for_each(|handed| keys.add_tenant_at_control(tenant, handed.version, handed.part))
            }
            // Its data stays sealed; everyone else is served.
            Err(refusal) => {
                tracing::warn!(%tenant, %refusal, "a tenant's key part is not to be had: its ranges are out of service")
            }
        }
    }
    Ok(())
}
