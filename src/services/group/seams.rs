//! The groups as assignments and the changes of placement see them.

use async_trait::async_trait;
use tokio::time::Instant;

use super::host::Groups;
use super::ports::{GroupOperations, GroupStatus};
use crate::domain::Refusal;
use crate::domain::ids::{NodeId, RangeId};
use crate::services::assignments::GroupInstances;
use crate::services::reconfiguring::Surroundings;

#[async_trait]
impl GroupInstances for Groups {
    fn status(&self, range: RangeId) -> Option<GroupStatus> {
        GroupOperations::status(self, range)
    }

    fn wake(&self, range: RangeId) {
        self.wake_later(range);
    }

    /// The engine has taken the replica out of service before, so it is not woken again. It may be waking from parts that were
    /// fetched before that, and is awake afterwards: so the end of that is waited for, and one that waits for its disk
    /// is given up.
    async fn end(&self, range: RangeId) {
        self.out_of_service.notify_waiters();
        self.stop_group(range).await;
        let mut slots = self.slots.lock();
        // What is left busy is somebody else's, who finds no replica.
        if slots.asleep(range).is_some() {
            slots.forget(range);
        }
    }
}

#[async_trait]
impl Surroundings for Groups {
    fn is_alone(&self, range: RangeId) -> bool {
        let replica = self.parts.engine.replica_of(range);
        replica.is_some_and(|replica| !replica.is_grouped() && replica.damage().is_none())
    }

    async fn begin_group(&self, range: RangeId) -> Result<(), Refusal> {
        self.parts.engine.begin_group(range, self.parts.node).await?;
        self.wake_later(range);
        self.tell_change(range);
        Ok(())
    }

    fn wake(&self, range: RangeId) {
        self.wake_later(range);
    }

    fn is_heard(&self, node: NodeId) -> bool {
        self.presence.lock().stays(node, Instant::now())
    }
}
