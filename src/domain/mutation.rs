//! Deliberate mistakes, for judging the tests: a simulation that cannot see that an acknowledgement came before its sync proves
//! nothing when it is green. Each is one `if` at the place where the mistake would be made, and is switched on for one thread at a
//! time, so that a simulation with a mistake may run beside one without.
//!
//! Builds without debug assertions, releases among them, have no mistakes: [`is_on`] is then `false` for the compiler, and the
//! place is as if nothing stood there.

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutation {
    /// The commit log does not wait for the disk.
    AcknowledgeBeforeSync,
    /// A request id that was seen before is not looked at.
    ForgetRequests,
    /// The node's database is told that a file is durable before it is.
    RecordBeforeDurable,
    /// A leader reads without asking whether it still leads.
    ReadWithoutLease,
    /// A leader reads before it has applied all that its predecessors acknowledged.
    ReadBeforeCaughtUp,
    /// A snapshot is without the requests that were answered.
    SnapshotWithoutRequests,
    /// A copy that was lost starts empty under its old id.
    StartLostEmpty,
    /// A proxy asks again for a write that nobody can know as a repeat.
    RepeatUnknown,
    /// A proxy's request id that is older than what is remembered counts as new.
    ApplyAfterWindow,
    /// The children of a split know nothing of requests that their parent answered.
    ForgetRequestsInSplit,
    /// A proxy says of a write that it has not happened, though one of its attempts may have.
    ForgetAttempts,
}

/// All there are.
pub const ALL: &[Mutation] = &[
    Mutation::AcknowledgeBeforeSync,
    Mutation::ForgetRequests,
    Mutation::RecordBeforeDurable,
    Mutation::ReadWithoutLease,
    Mutation::ReadBeforeCaughtUp,
    Mutation::SnapshotWithoutRequests,
    Mutation::StartLostEmpty,
    Mutation::RepeatUnknown,
    Mutation::ForgetAttempts,
    Mutation::ForgetRequestsInSplit,
    Mutation::ApplyAfterWindow,
];

#[cfg(debug_assertions)]
thread_local! {
    static ON: std::cell::Cell<Option<Mutation>> = const { std::cell::Cell::new(None) };
}

/// The one of this name, as it is spelt here.
pub fn named(name: &str) -> Option<Mutation> {
    ALL.iter().copied().find(|mutation| format!("{mutation:?}") == name)
}

/// Switches one on, or all off, for this thread. Where there are no mistakes it does nothing.
pub fn switch(mutation: Option<Mutation>) {
    #[cfg(debug_assertions)]
    ON.set(mutation);
    #[cfg(not(debug_assertions))]
    let _ = mutation;
}

/// Whether this mistake is to be made here.
#[inline]
pub fn is_on(mutation: Mutation) -> bool {
    #[cfg(debug_assertions)]
    {
        ON.get() == Some(mutation)
    }
    #[cfg(not(debug_assertions))]
    {
        let _ = mutation;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_is_switched_on_is_on() {
        switch(Some(Mutation::ForgetRequests));
        assert_eq!(is_on(Mutation::ForgetRequests), cfg!(debug_assertions));
        assert!(!is_on(Mutation::AcknowledgeBeforeSync));
        switch(None);
        assert!(!is_on(Mutation::ForgetRequests));
    }
}
