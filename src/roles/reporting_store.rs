//! A reporter's store and what runs over it, the same in a process of its own ([`super::reporting`]) and within `dstore dev`
//! ([`super::one_process`]).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::key_files::{Passphrase, read_or_make_key};
use super::node_parts::StartError;
use crate::api::health::{Condition, Health};
use crate::crypto::Key256;
use crate::crypto::hierarchy::KeyKind;
use crate::domain::Random;
use crate::domain::ids::{PlaneId, ReporterId};
use crate::domain::watermark::Watermark;
use crate::services::control::KeyPart;
use crate::services::reporting::Reporting;
use crate::services::reporting::events::EventFeed;
use crate::services::reporting::puller::{Components, PullCounters, Puller};
use crate::storage::keys::{FileKeys, KeyOwner, KeyUnavailable, VersionedKey};
use crate::storage::log::{Disk, SystemDisk};
use crate::storage::sqlite::reporting::SqliteReportingStore;

/// What can be chosen about reporting.
#[derive(Debug, Clone)]
pub struct ReportingSettings {
    /// How long records are kept that all sinks have.
    pub records_kept: Duration,
    /// Free space on the disk below which nothing more is pulled.
    pub disk_refuse: Watermark,
}

impl Default for ReportingSettings {
    fn default() -> Self {
        Self { records_kept: Duration::from_secs(24 * 3600), disk_refuse: Watermark::Bytes(512 << 20) }
    }
}

/// Gives control's part of the reporter's key, all versions, ascending.
pub type PartsAtControl = Box<dyn Fn() -> Vec<KeyPart> + Send + Sync>;

/// The reporter's key: its own part and control's.
struct StoreKeys {
    own: Key256,
    at_control: PartsAtControl,
}

impl StoreKeys {
    fn combined(&self, part: &KeyPart) -> Result<Key256, KeyUnavailable> {
        KeyKind::Reporting.combine(&[&self.own, &part.part]).map_err(|error| KeyUnavailable(error.to_string()))
    }
}

impl FileKeys for StoreKeys {
    fn newest(&self, _: KeyOwner) -> Result<VersionedKey, KeyUnavailable> {
        let parts = (self.at_control)();
        let newest =
            parts.last().ok_or_else(|| KeyUnavailable("control told no part of the reporter's key".to_owned()))?;
        Ok(VersionedKey { version: newest.version, key: self.combined(newest)? })
    }

    fn of_version(&self, _: KeyOwner, version: u32) -> Result<Key256, KeyUnavailable> {
        let parts = (self.at_control)();
        let part = parts.iter().find(|part| part.version == version);
        self.combined(part.ok_or_else(|| {
            KeyUnavailable(format!("control has no version {version} of its part of the reporter's key any more"))
        })?)
    }
}

/// Opens a reporter's store in a folder, or makes it.
///
/// # Errors
/// Where keys or file cannot be had; with what to do.
pub fn open(
    folder: &Path,
    plane: PlaneId,
    reporter: ReporterId,
    at_control: PartsAtControl,
    passphrase: Option<&Passphrase>,
    random: &Arc<dyn Random>,
) -> Result<Arc<SqliteReportingStore>, StartError> {
    let own = read_or_make_key(&folder.join("reporting.key"), passphrase, &**random)?;
    let keys = Arc::new(StoreKeys { own, at_control });
    SqliteReportingStore::open(folder, plane, reporter, keys, random.clone()).map_err(|error| {
        StartError(format!(
            "the store in {} does not open: {error}. Where it is damaged beyond help, move reporting.db away: what was not exported \
             is lost, and what components still keep is gathered anew",
            folder.display()
        ))
    })
}

/// Where records come from.
pub struct Sources {
    /// Who counts.
    pub components: Arc<dyn Components>,
    /// Who tells what happened; none where nobody wants to know.
    pub events: Option<Arc<dyn EventFeed>>,
}

/// Starts to gather: batches, events, and the upkeep of what is kept. The tasks end when they are aborted.
pub fn gather(
    reporting: &Arc<Reporting>,
    reporter: ReporterId,
    sources: Sources,
    folder: &Path,
    settings: &ReportingSettings,
    health: &Health,
) -> Vec<JoinHandle<()>> {
    let (folder, disk_refuse, records_kept) = (folder.to_owned(), settings.disk_refuse, settings.records_kept);
    let has_room: Arc<dyn Fn() -> bool + Send + Sync> = Arc::new(move || {
        let (free, total) = (SystemDisk.free_bytes(&folder), SystemDisk.total_bytes(&folder));
        // A disk that does not tell is found full when it is.
        !matches!((free, total), (Ok(free), Ok(total)) if free < disk_refuse.bytes(total))
    });
    let counters = Arc::new(PullCounters::default());
    watch(health, reporting, &counters, has_room.clone());
    let components = sources.components;
    let puller = Puller { reporting: reporting.clone(), reporter: reporter.0, components, has_room, counters };
    let (tidied, events) = (reporting.clone(), reporting.clone());
    let mut tasks =
        vec![tokio::spawn(Arc::new(puller).run()), tokio::spawn(async move { tidied.tidy(records_kept).await })];
    if let Some(feed) = sources.events {
        tasks.push(tokio::spawn(async move { events.follow_events(feed).await }));
    }
    tasks
}

/// What `/readyz` calls the disk.
const DISK: &str = "reporting disk";
/// What `/readyz` calls those that are asked.
const COMPONENTS: &str = "components";

fn watch(
    health: &Health,
    reporting: &Arc<Reporting>,
    counters: &Arc<PullCounters>,
    has_room: Arc<dyn Fn() -> bool + Send + Sync>,
) {
    health.watch(DISK, move || match has_room() {
        true => Condition::Good,
        false => Condition::Waiting(
            "the disk is nearly full (reporting.disk_refuse): nothing is pulled, and components keep what they count until there \
             is room again; look for a sink that is away"
                .to_owned(),
        ),
    });
    let asked = counters.clone();
    health.watch(COMPONENTS, move || {
        let away = asked.away.lock();
        let silent: Vec<_> = away.iter().filter_map(|(component, why)| Some((component, why.as_ref()?))).collect();
        match silent.first() {
            None => Condition::Good,
            Some((component, why)) => Condition::Stale(format!(
                "{} of {} do not tell what they counted, as the {} {}: {why}",
                silent.len(),
                away.len(),
                component.role,
                component.id
            )),
        }
    });
    let (reporting, counters) = (reporting.clone(), counters.clone());
    health.count(move |metrics| {
        let (asked, silent) = {
            let away = counters.away.lock();
            (away.len() as f64, away.values().filter(|why| why.is_some()).count() as f64)
        };
        let help = "Proxies and nodes that are asked what they counted.";
        metrics.gauge("dstore_reporting_components", help, &[("state", "answering")], asked - silent);
        metrics.gauge("dstore_reporting_components", help, &[("state", "away")], silent);
        let batches = counters.batches.load(Ordering::Relaxed) as f64;
        metrics.counter("dstore_reporting_batches_total", "Batches of counts that were pulled.", &[], batches);
        let help = "The sequence of the newest record: how many were ever made.";
        metrics.gauge("dstore_reporting_newest_record", help, &[], reporting.newest() as f64);
    });
}
