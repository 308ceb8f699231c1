//! Follows the coordinator: three reflectors, one plan, and the copy on disk now and then.
//!
//! A listing of a million routes takes seconds to read; that happens on a thread for blocking work, not
//! on one that serves requests. Meanwhile the reflectors' channels fill and hold the coordinator back.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::plan::Kind;
use super::table::{RoutingOptions, RoutingSource, Shared};
use crate::coordination::{Coordinator, Reflected, Reflector};
use crate::storage::workers;

/// Which of what is followed is live: as the coordinator has it now.
#[derive(Default)]
struct Live([bool; Kind::ALL.len()]);

pub(super) async fn run(shared: Arc<Shared>, coordinator: Arc<dyn Coordinator>, options: RoutingOptions) {
    let start = |kind: Kind| Reflector::start(coordinator.clone(), kind.prefix(), options.reflector.clone());
    let (mut routes, mut tables, mut tenants) = (start(Kind::Routes), start(Kind::Tables), start(Kind::Tenants));
    let mut live = Live::default();
    let save_pause = Duration::from_millis(options.save_pause_ms);
    let mut save_at = Instant::now();
    loop {
        let unsaved = shared.is_unsaved();
        let (kind, told) = tokio::select! {
            biased;
            // Now and then, also while there is always more to take in.
            () = tokio::time::sleep_until(save_at), if unsaved => {
                blocking(&shared, Shared::save).await;
                save_at = Instant::now() + save_pause;
                continue;
            }
            told = routes.next() => (Kind::Routes, told),
            told = tables.next() => (Kind::Tables, told),
            told = tenants.next() => (Kind::Tenants, told),
        };
        let Some(told) = told else { return };
        take(&shared, &mut live, kind, told).await;
    }
}

async fn take(shared: &Arc<Shared>, live: &mut Live, kind: Kind, told: Reflected) {
    let is_live = !matches!(told, Reflected::Lost(_));
    match told {
        Reflected::Snapshot(listing) => {
            blocking(shared, move |shared| {
                let mut distrust = None;
                shared.change(|plan| {
                    distrust = plan.replace(kind, &listing);
                    true
                });
                if let Some(distrust) = distrust {
                    tracing::error!(prefix = kind.prefix(), ?distrust, "a listing is not obeyed; the old plan stays");
                }
                shared.set_distrust(kind, distrust);
            })
            .await;
        }
        Reflected::Changes(batch) => shared.change(|plan| plan.change(kind, &batch)),
        Reflected::Lost(_) | Reflected::Resumed(_) => {}
    }
    live.0[kind as usize] = is_live;
    match (live.0.iter().all(|live| *live), shared.source()) {
        (true, _) => shared.set_source(RoutingSource::Live),
        (false, RoutingSource::Live) => shared.set_source(RoutingSource::Memory),
        // What was never live is still what it was: the copy on disk, or nothing.
        (false, _) => {}
    }
}

async fn blocking(shared: &Arc<Shared>, work: impl FnOnce(&Shared) + Send + 'static) {
    let shared = shared.clone();
    // It fails only where the runtime is ending, and then nobody asks any more.
    let _ = workers::blocking(move || work(&shared)).await;
}
