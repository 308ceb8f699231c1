//! [`ControlPlane`]: everything that control can do, in process. `dstore control serve` puts HTTP in
//! front of it, `dstore dev` calls it.
//!
//! `create` is what `dstore control init` does: it refuses where a cluster is already recorded, so
//! running it twice never replaces keys. `open` needs the control key and proves that it is the right
//! one by opening a sealed secret before anything is served.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwapOption;

use crate::coordination::values::{from_json, to_json};
use crate::coordination::{Compare, Coordinator, Operation, layout};
use crate::crypto::Key256;
use crate::domain::ids::{ControlId, NodeId, PlaneId, PrincipalId};
use crate::domain::rid::Location;
use crate::domain::{Clock, Random, Refusal, Timestamp};
use crate::services::notices::NoticeWriter;
use crate::services::range_reports::RangeReports;
use crate::services::reporting::UsageReports;
use crate::transport::pki::Authority;

use super::handed::Handed;
use super::hygiene::Hygiene;
use super::reconcile::Silence;
use super::records::{ClusterRecord, PrincipalRecord, RECORDS_FORMAT};
use super::sealed::{SecretName, Vault};
use super::set_aside::SetAside;
use super::view::View;

/// After how many seconds of silence a node counts as lost, where nothing else is chosen.
pub const NODE_LOST_AFTER_SECONDS: u64 = 600;

/// What can be chosen about a control plane.
#[derive(Debug, Clone)]
pub struct ControlOptions {
    /// Replicas that are placed, at most, whatever a table asks for. What it asks for is kept, and is
    /// given when the cluster can.
    pub replicas_max: u8,
    /// After how many seconds of silence a node's copies are made anew elsewhere.
    pub node_lost_after_seconds: u64,
    /// The version of the cluster's formats that this program reads and writes; see [`RECORDS_FORMAT`].
    pub program_format: u32,
    /// How long a new table is waited for until its nodes serve it, in milliseconds; 0 does not wait.
    pub table_ready_wait_ms: u64,
    /// How long an invitation is good where none is said, in seconds.
    pub invitation_seconds: u64,
    /// The location in every RID.
    pub location: Location,
}

impl Default for ControlOptions {
    fn default() -> Self {
        let location = Location::free();
        Self {
            replicas_max: 5,
            node_lost_after_seconds: NODE_LOST_AFTER_SECONDS,
            program_format: RECORDS_FORMAT,
            table_ready_wait_ms: 10_000,
            invitation_seconds: 24 * 3600,
            location,
        }
    }
}

/// What `create` made.
#[derive(Debug, Clone)]
pub struct Created {
    /// The new control plane's id.
    pub plane: PlaneId,
    /// The root principal, who may do everything.
    pub root: PrincipalId,
}

/// See the module's text.
pub struct ControlPlane {
    pub(super) cluster: ClusterRecord,
    pub(super) coordinator: Arc<dyn Coordinator>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) vault: Vault,
    pub(super) view: View,
    pub(super) options: ControlOptions,
    /// This instance, among those that serve the cluster.
    pub(super) instance: ControlId,
    pub(super) hygiene: tokio::sync::Mutex<Hygiene>,
    pub(super) maintenance_rounds: AtomicU64,
    /// How nodes are asked what they hold.
    pub(super) range_reports: ArcSwapOption<Arc<dyn RangeReports>>,
    /// How it is asked what was used.
    pub(super) usage_reports: ArcSwapOption<Arc<dyn UsageReports>>,
    pub(super) handed: Handed,
    /// Records that cannot be read, of which a person was told.
    pub(super) set_aside: SetAside,
    /// Which nodes are silent, and for how long this instance has seen it.
    pub(super) silence: parking_lot::Mutex<Silence>,
}

impl ControlPlane {
    /// Makes a new cluster in an empty coordinator: its id, its certificate authority, its root principal.
    /// `token_key` is the first key that tokens are sealed under, where the administrator chose one.
    ///
    /// # Errors
    /// `Conflict` where there is one already; `BadInput` where a chosen key is zero or equal to another.
    pub async fn create(
        coordinator: &Arc<dyn Coordinator>,
        control_key: &Key256,
        token_key: Option<Key256>,
        clock: &Arc<dyn Clock>,
        random: &Arc<dyn Random>,
    ) -> Result<Created, Refusal> {
        let token_key = token_key.unwrap_or_else(|| Key256::random(random.as_ref()));
        if control_key.is_zero() || token_key.is_zero() || *control_key == token_key {
            return Err(Refusal::bad_input("the control key and the token key must be random and different"));
        }
        let now = clock.now();
        let plane = PlaneId::random(random.as_ref());
        let (authority_pem, authority_key_pem) = Authority::create(plane, now)
            .map_err(|problem| Refusal::internal(format!("no certificate authority could be made: {problem}")))?;
        let cluster = ClusterRecord { plane, format: RECORDS_FORMAT, created_at: now, authority_pem };
        let root = root_principal(now, random.as_ref());
        let vault = Vault::new(cluster.plane, control_key, random.clone())?;
        let sealed = |name: SecretName, secret: &[u8]| {
            Operation::put(name.key(), to_json(&vault.first_version(name, secret, now)))
        };
        let operations = vec![
            Operation::put(layout::CONTROL_CLUSTER, to_json(&cluster)),
            Operation::put(layout::control_principal(root.id), to_json(&root)),
            sealed(SecretName::Token, token_key.expose()),
            sealed(SecretName::Authority, authority_key_pem.as_bytes()),
        ];
        let done = coordinator
            .transact(vec![Compare::absent(layout::CONTROL_CLUSTER)], operations)
            .await
            .map_err(super::history::refusal)?;
        if !done.succeeded {
            return Err(Refusal::conflict(
                "the coordinator already holds a cluster under this prefix; open it, or choose another prefix",
            ));
        }
        Ok(Created { plane: cluster.plane, root: root.id })
    }

    /// Whether the coordinator holds a cluster.
    ///
    /// # Errors
    /// `Unavailable` where it cannot be asked.
    pub async fn exists(coordinator: &dyn Coordinator) -> Result<bool, Refusal> {
        let entry = coordinator.get(layout::CONTROL_CLUSTER).await.map_err(super::history::refusal)?;
        Ok(entry.is_some())
    }

    /// Opens the cluster that the coordinator holds and starts to follow its tenants and tables.
    ///
    /// # Errors
    /// `NotFound` where there is none, `Denied` where the control key is not the one it was made with,
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn open(
        coordinator: Arc<dyn Coordinator>,
        control_key: &Key256,
        options: ControlOptions,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Arc<Self>, Refusal> {
        let entry = coordinator.get(layout::CONTROL_CLUSTER).await.map_err(super::history::refusal)?;
        let Some(entry) = entry else {
            return Err(Refusal::not_found(
                "the coordinator holds no cluster under this prefix; make one with `dstore control init`",
            ));
        };
        let cluster: ClusterRecord = from_json(&entry.value)
            .map_err(|_| Refusal::internal("the cluster's record in the coordinator cannot be read"))?;
        super::upgrade::check_format(cluster.format, options.program_format)?;
        let vault = Vault::new(cluster.plane, control_key, random.clone())?;
        let view = View::follow(coordinator.clone()).await?;
        let own = NodeId(cluster.plane.0);
        let notices = NoticeWriter::new(own, coordinator.clone(), clock.clone());
        let plane = Arc::new(Self {
            instance: ControlId::random(random.as_ref()),
            hygiene: tokio::sync::Mutex::new(Hygiene::new(notices)),
            maintenance_rounds: AtomicU64::new(0),
            range_reports: ArcSwapOption::empty(),
            usage_reports: ArcSwapOption::empty(),
            handed: Handed::default(),
            set_aside: SetAside::default(),
            silence: parking_lot::Mutex::default(),
            cluster,
            coordinator,
            clock,
            random,
            vault,
            view,
            options,
        });
        plane.secret_versions(SecretName::Token).await?;
        Ok(plane)
    }

    /// The control plane's id.
    pub fn plane(&self) -> PlaneId {
        self.cluster.plane
    }

    /// The location in every RID.
    pub fn location(&self) -> &Location {
        &self.options.location
    }

    /// This instance's id; each start has another.
    pub fn instance(&self) -> ControlId {
        self.instance
    }

    /// The instance that leads, if any does.
    ///
    /// # Errors
    /// `Unavailable` where the coordinator cannot be asked.
    pub async fn leader(&self) -> Result<Option<ControlId>, Refusal> {
        let entry = self.coordinator.get(layout::CONTROL_ELECTION).await.map_err(super::history::refusal)?;
        Ok(entry.and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse().ok()))
    }

    /// The cluster's own record.
    pub fn cluster(&self) -> &ClusterRecord {
        &self.cluster
    }

    /// The coordinator it stands on.
    pub fn coordinator(&self) -> &Arc<dyn Coordinator> {
        &self.coordinator
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// A fresh root principal.
fn root_principal(now: Timestamp, random: &dyn Random) -> PrincipalRecord {
    PrincipalRecord {
        id: PrincipalId::random(random),
        name: "root".to_owned(),
        tenant: None,
        capabilities: Vec::new(),
        created_at: now,
        revoked_at: None,
    }
}
