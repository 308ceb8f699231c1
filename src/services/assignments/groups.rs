//! What assignments ask of the groups on the node: that founders begin, and that nothing runs of a copy that goes.

use async_trait::async_trait;

use crate::domain::ids::RangeId;
use crate::services::group::ports::GroupStatus;

/// See the module's essay.
#[async_trait]
pub trait GroupInstances: Send + Sync + 'static {
    /// How the range's group stands; none where this node has no copy of it that is a member of a group.
    fn status(&self, range: RangeId) -> Option<GroupStatus>;

    /// Wakes the range's group, so that one of its copies stands for election where none leads. Returns at once.
    fn wake(&self, range: RangeId);

    /// Ends what runs here of the range's group, if anything does. When it returns, the copy answers nothing until it is
    /// woken again.
    async fn end(&self, range: RangeId);
}

/// A node without groups: every range has one copy.
pub struct NoGroups;

#[async_trait]
impl GroupInstances for NoGroups {
    fn status(&self, _range: RangeId) -> Option<GroupStatus> {
        None
    }

    fn wake(&self, _range: RangeId) {}

    async fn end(&self, _range: RangeId) {}
}
