//! The times of a group, in one place, because they hold each other up.
//!
//! | time | why so long |
//! |---|---|
//! | a heartbeat each 300 ms | several are lost before anyone campaigns |
//! | a lease of 1.5 s | counted by the leader from sending, by a follower from receiving; openraft takes it from the longest election time |
//! | strong reads end 150 ms before it | so much may the clocks of two machines drift apart within one lease: a tenth, which is far more than any does |
//! | a campaign 0.9 to 1.5 s after the lease | so that two seldom campaign at once |
//! | a beacon each 500 ms, silence after 1.2 s | two beacons are lost before a node counts as gone |
//! | of many groups that nobody waits for one is woken each 5 ms | a few hundred are awake at a time then, which leaves most of a core to those that are used |
//! | a hand-over fails after 2 s, its leader ends after 5 s | whoever is awake and misses the leader has campaigned by then |
//! | sleep after 10 s | waking costs about as much as a second of being awake |
//! | after 2 s where nobody has used it since it woke | when a node goes or comes, thousands of groups wake that nobody waits for |
//!
//! What the next author must keep: [`LEASE`] is openraft's lease (its longest election time), and every guard against
//! promises that were forgotten is at least that long.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy, StepDownPolicy};

/// How often a leader that is awake says that it is there.
pub const HEARTBEAT: Duration = Duration::from_millis(300);
/// The shortest wait before a campaign, behind the lease.
pub const ELECTION_MIN: Duration = Duration::from_millis(900);
/// How long a replica that acknowledged a leader gives no other its vote.
pub const LEASE: Duration = Duration::from_millis(1500);
/// How long after the sending of what a majority acknowledged a leader reads without asking.
pub const LEASE_FOR_READS: Duration = Duration::from_millis(1350);
/// How often a node says that it is there, to each node it shares groups with.
pub const BEACON: Duration = Duration::from_millis(500);
/// After so long without a beacon a node counts as gone.
pub const SILENCE: Duration = Duration::from_millis(1200);
/// Between two of many groups that are woken without anybody waiting for them.
pub const WAKE_PACE: Duration = Duration::from_millis(5);
/// A group that nobody has used for so long is put to sleep.
pub const IDLE: Duration = Duration::from_secs(10);
/// The same for one that nobody has used since it woke: it was made, or its leader or a member was gone.
pub const IDLE_UNUSED: Duration = Duration::from_secs(2);
/// How long a request waits for its group to have a leader, or for its leader to be sure of itself.
pub const LEADER_WAIT: Duration = Duration::from_secs(3);
/// How long a write that has been handed to the group waits for its outcome.
pub const OUTCOME_WAIT: Duration = Duration::from_secs(10);
/// How long a leader waits for the others to agree to sleep.
pub const SLEEP_WAIT: Duration = Duration::from_millis(600);
/// How long a hand-over may take before it has failed.
pub const HAND_OVER_WAIT: Duration = Duration::from_secs(2);
/// How long after the beginning of a hand-over a leader that nobody has relieved ends.
pub const HAND_OVER_END: Duration = Duration::from_secs(5);

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// What openraft is told. With `restores`, a replica that led goes on leading; see the essay of `sleep` for when that is
/// sound. Nothing else makes a replica leader but a majority.
///
/// Snapshots are made when a replica is to be filled, and the log is cut by what is durable in the range's file, both in
/// the storage's hands: openraft starts neither by itself. A leader that is no member any more does not hand over by
/// itself, because its strong reads have to end before: see `operations`.
///
/// # Errors
/// Where openraft finds that the times do not fit together.
pub fn config(restores: bool) -> Result<Arc<Config>, openraft::ConfigError> {
    let config = Config {
        cluster_name: "range".to_owned(),
        heartbeat_interval: millis(HEARTBEAT),
        election_timeout_min: millis(ELECTION_MIN),
        election_timeout_max: millis(LEASE),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(restores),
        removed_leader_step_down: StepDownPolicy::Never,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        install_snapshot_timeout: 60_000,
        // Buffers that each instance makes when it begins; writers of one range at the same time are fewer.
        api_batch_capacity: 256,
        log_stage_capacity: Some(16),
        max_payload_entries: 256,
        ..Config::default()
    };
    config.validate().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_hold_each_other_up() {
        for restores in [false, true] {
            let config = config(restores).unwrap();
            assert_eq!(config.election_timeout_max, millis(LEASE), "openraft takes the lease from there");
            assert_eq!(config.enable_leader_restore, Some(restores));
        }
        assert!(LEASE_FOR_READS < LEASE && HEARTBEAT * 4 < LEASE_FOR_READS && BEACON * 2 < SILENCE);
        assert!(SLEEP_WAIT + HEARTBEAT < LEASE, "nobody campaigns while the group goes to sleep");
        // The longest election time is as long as the lease, behind which it begins.
        assert!(HAND_OVER_END > HAND_OVER_WAIT.max(LEASE * 2) + ELECTION_MIN, "who is awake has elected by itself");
    }
}
