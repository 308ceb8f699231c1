//! Reporting within a process that is its own control plane: the store, the puller and the answers of `dstore reporting`, over calls instead
//! of connections. It is a member as any reporter is, with a key of two parts, and has the control plane's UUID as its own.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::task::JoinHandle;

use super::credentials::told;
use super::key_files::Passphrase;
use super::node_parts::StartError;
use super::reporting_store::{self, ReportingSettings, Sources};
use crate::api::health::Health;
use crate::domain::ids::{ReporterId, Role};
use crate::domain::usage::Component;
use crate::domain::{Clock, Random, Refusal};
use crate::services::control::{ControlPlane, KeyOwner, SecretName};
use crate::services::reporting::Reporting;
use crate::services::reporting::events::EventFeed;
use crate::services::reporting::puller::Components;
use crate::services::usage::UsageSource;

/// What it stands on.
pub struct LocalReporting<'a> {
    /// Control.
    pub control: &'a Arc<ControlPlane>,
    /// The data folder of the process.
    pub data: &'a Path,
    /// Seals its own part of its key.
    pub passphrase: Option<&'a Passphrase>,
    /// The system's clock.
    pub clock: &'a Arc<dyn Clock>,
    /// The system's random source.
    pub random: &'a Arc<dyn Random>,
}

/// Who counts in this process.
struct LocalComponents(Vec<(Component, Arc<dyn UsageSource>)>);

#[async_trait]
impl Components for LocalComponents {
    async fn list(&self) -> Result<Vec<(Component, String)>, Refusal> {
        Ok(self.0.iter().map(|(component, _)| (*component, String::new())).collect())
    }

    fn reach(&self, component: Component, _address: &str) -> Result<Arc<dyn UsageSource>, Refusal> {
        let found = self.0.iter().find(|(known, _)| *known == component);
        found.map(|(_, source)| source.clone()).ok_or_else(|| Refusal::not_found("nobody of that name counts here"))
    }
}

/// Starts to gather from these, and to answer for control. The tasks end when they are aborted.
///
/// # Errors
/// Where the store cannot be opened.
pub async fn start(
    ground: &LocalReporting<'_>,
    counting: Vec<(Component, Arc<dyn UsageSource>)>,
    health: &Health,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let (control, plane) = (ground.control, ground.control.plane());
    let (reporter, owner) = (ReporterId(plane.0), KeyOwner { role: Role::Reporting, id: plane.0 });
    let registered = control.member_register_local(Role::Reporting, plane.0, Some("reporting".to_owned()));
    registered.await.map_err(told("registering the reporter"))?;
    let parts = control.key_parts(owner).await.map_err(told("the reporter's key"))?.own;
    let newest = parts.last().map_or(0, |part| part.version);
    let folder = ground.data.join("reporting");
    let at_control = Box::new(move || parts.clone());
    let store = reporting_store::open(&folder, plane, reporter, at_control, ground.passphrase, ground.random)?;
    // The store's key is wrapped under the newest version by now: a rotation that was begun ends here.
    let in_use = control.key_in_use(owner, SecretName::Reporting(reporter), newest);
    in_use.await.map_err(told("the reporter's key"))?;
    let reporting = Reporting::over(store, ground.clock.clone(), &[])
        .map_err(|error| StartError(format!("the reporter's store: {error}")))?;
    control.ask_reporters_through(reporting.clone());
    let feed: Arc<dyn EventFeed> = control.clone();
    let sources = Sources { components: Arc::new(LocalComponents(counting)), events: Some(feed) };
    Ok(reporting_store::gather(&reporting, reporter, sources, &folder, &ReportingSettings::default(), health))
}
