//! Which instance of control leads: the one whose lease holds `control/election`.
//!
//! Leading means running [`ControlPlane::maintain`](super::ControlPlane::maintain) and nothing else.
//! Every change is committed with compares, so an instance that wrongly believes to lead can do no
//! harm; the election only keeps instances from doing the same work.
//!
//! The lease is renewed every third of its life. An instance that could not renew for two thirds of it
//! says that it no longer leads before the lease can have run out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::coordination::{Compare, Coordinator, Error, LeaseId, Operation, layout};
use crate::domain::ids::ControlId;

/// How long the leader's lease lives, in seconds.
pub const LEASE_SECONDS: u32 = 9;

/// A running candidacy; dropping it ends it, and the lease with it after its time.
pub struct Election {
    leading: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Election {
    /// Stands for election until dropped.
    pub fn stand(coordinator: Arc<dyn Coordinator>, instance: ControlId, lease_seconds: u32) -> Self {
        let (sender, leading) = watch::channel(false);
        Self { leading, task: tokio::spawn(run(coordinator, instance, lease_seconds.max(1), sender)) }
    }

    /// Whether this instance leads now.
    pub fn leads(&self) -> bool {
        *self.leading.borrow()
    }

    /// Tells each change of [`Election::leads`].
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }
}

impl Drop for Election {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(coordinator: Arc<dyn Coordinator>, instance: ControlId, lease_seconds: u32, leading: watch::Sender<bool>) {
    let third = Duration::from_secs(u64::from(lease_seconds)) / 3;
    loop {
        match campaign(coordinator.as_ref(), instance, lease_seconds).await {
            Ok(Some(lease)) => {
                tracing::info!(%instance, "leading the control plane");
                leading.send_replace(true);
                hold(coordinator.as_ref(), lease, third).await;
                leading.send_replace(false);
                tracing::warn!(%instance, "no longer leading the control plane");
            }
            Ok(None) => {}
            Err(problem) => tracing::debug!(%problem, "could not stand for election"),
        }
        tokio::time::sleep(third).await;
    }
}

/// Takes the lead if nobody has it.
async fn campaign(
    coordinator: &dyn Coordinator,
    instance: ControlId,
    lease_seconds: u32,
) -> Result<Option<LeaseId>, Error> {
    if coordinator.get(layout::CONTROL_ELECTION).await?.is_some() {
        return Ok(None);
    }
    let lease = coordinator.lease_grant(lease_seconds).await?;
    let value = layout::control_election_value(instance);
    let done = coordinator
        .transact(
            vec![Compare::absent(layout::CONTROL_ELECTION)],
            vec![Operation::put_leased(layout::CONTROL_ELECTION, value, lease)],
        )
        .await;
    match done {
        Ok(done) if done.succeeded => Ok(Some(lease)),
        other => {
            // Not ours, or unknown: a lease that nobody renews would end by itself, but later.
            let _ = coordinator.lease_revoke(lease).await;
            other.map(|_| None)
        }
    }
}

/// Renews until that fails for two thirds of the lease's life.
async fn hold(coordinator: &dyn Coordinator, lease: LeaseId, third: Duration) {
    let mut renewed = Instant::now();
    loop {
        tokio::time::sleep(third / 2).await;
        let asked = Instant::now();
        let answer = tokio::time::timeout(third, coordinator.lease_keep_alive(lease)).await;
        match answer {
            Ok(Ok(_)) => renewed = asked,
            Ok(Err(Error::LeaseNotFound)) => return,
            Ok(Err(_)) | Err(_) if renewed.elapsed() >= third * 2 => return,
            Ok(Err(_)) | Err(_) => {}
        }
    }
}
