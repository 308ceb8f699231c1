//! A node whose data folder is an older copy of itself gives up its copies of ranges: they have forgotten votes and
//! acknowledgements that a majority may count on. How it is found stands in [`crate::replication::boots`]; here, who asks whom.
//!
//! | who knows | what | when the node learns it |
//! |---|---|---|
//! | the coordinator | the last boot number that was settled | at its start, as soon as the coordinator answers ([`super::assignments::incarnation`]) |
//! | each node that it shares a range with | its boot number, and how far its log was synced, as its beacons said | before it votes in that range's group, if that node answers within a lease ([`super::group::boots`]) |
//! | a leader | what the copy acknowledged in the leader's term | when the leader's next append does not fit ([`super::group::network`]) |
//!
//! Whoever is away cannot object, and the node does not wait for it: a node must be able to start alone with one other, or the
//! loss of a minority would stop the range. So what remains is a folder that is put back while everybody who has heard more
//! of it is away or was started anew since, and the coordinator, too, or knows of no later start.
//!
//! Giving up is written in the node's database before anything else, so that no restart makes the copies voters again.
//! Then they are out of service, are reported lost, and control has new ones made under new ids. Copies that have no others
//! are left: they are all that there is, and people are told that they may be old.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::{Random, Timestamp};
use crate::replication::boots::{Boots, Heard};

use super::assignments::GroupInstances;
use super::engine::Engine;
use super::engine::replica::Replica;
use super::group::host::Groups;

/// Writes down a folder's boot numbers, so that they are on the disk when it returns.
pub type KeepBoots = Box<dyn Fn(&str) -> std::io::Result<()> + Send + Sync>;

/// The boot numbers of this node's folder.
pub struct OwnBoots {
    boots: Mutex<Boots>,
    keep: KeepBoots,
}

impl OwnBoots {
    /// The numbers of a folder, the last of which is this start's, on the disk when this returns.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn new(boots: Boots, keep: KeepBoots) -> std::io::Result<Arc<Self>> {
        keep(&boots.print())?;
        Ok(Arc::new(Self { boots: Mutex::new(boots), keep }))
    }

    /// The number of this start.
    pub fn present(&self) -> u64 {
        self.boots.lock().last()
    }

    /// Whether somebody knows a start that the folder has forgotten.
    pub fn has_forgotten(&self, known: u64) -> bool {
        self.boots.lock().has_forgotten(known)
    }

    /// Whether the log, which ended here when it was opened, has lost something that somebody has heard of.
    pub fn is_behind(&self, opened_at: u64, heard: &Heard) -> bool {
        self.boots.lock().is_behind(opened_at, heard)
    }

    /// Numbers below this are of no interest.
    pub fn floor(&self) -> u64 {
        self.boots.lock().floor()
    }

    /// All that was promised was given up, also what the start of number `forgotten` has promised: there is another number
    /// from here on, on the disk when this returns. May block on the disk.
    ///
    /// # Errors
    /// Where it cannot be written; then the number is the one before.
    pub fn start_over(&self, forgotten: u64, now: Timestamp, random: &dyn Random) -> std::io::Result<()> {
        let mut dice = [0; 4];
        random.fill(&mut dice);
        let mut boots = self.boots.lock();
        let mut over = boots.clone();
        over.start_over(forgotten, seconds(now), u32::from_be_bytes(dice));
        (self.keep)(&over.print())?;
        *boots = over;
        Ok(())
    }

    /// The coordinator has the present number. May block on the disk.
    pub fn settle(&self) {
        let mut boots = self.boots.lock();
        let mut settled = boots.clone();
        settled.settle();
        match (self.keep)(&settled.print()) {
            Ok(()) => *boots = settled,
            // The file knows more than it has to, which does no harm.
            Err(error) => tracing::warn!(%error, "that the boot number is settled could not be written down"),
        }
    }
}

/// The time as boot numbers have it.
pub fn seconds(now: Timestamp) -> u32 {
    u32::try_from(now.0 / 1_000_000).unwrap_or(u32::MAX)
}

/// Somebody knows more of this node than its folder does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// What.
    pub why: String,
    /// The boot number that it is about; 0 where it is about none.
    pub boot: u64,
}

/// Gives up all copies on this node whose ranges have others; asked again, it does so for those that have come since.
/// When this returns without an error they are out of service, also after a restart.
///
/// # Errors
/// Where the node's database cannot be written: nothing may be answered then, and it is to be tried again.
pub async fn give_up_copies(engine: &Arc<Engine>, groups: &Arc<Groups>, objection: &Objection) -> Result<(), String> {
    let why = &objection.why;
    let replicas = engine.replicas();
    let (looked, reason) = (Arc::clone(engine), format!("this node's data folder is an older copy of itself: {why}"));
    let written = engine.workers().run(move || {
        let (several, alone): (Vec<_>, Vec<_>) = replicas.into_iter().partition(has_others);
        let several: Vec<_> = several.into_iter().filter(|replica| replica.damage().is_none()).collect();
        looked.distrust(&several, &reason).map(|()| (several, alone.len()))
    });
    let (given_up, alone) = match written.await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("giving up copies ended unexpectedly".to_owned()),
    };
    for replica in &given_up {
        GroupInstances::end(&**groups, replica.name.range).await;
    }
    groups.start_over(objection.boot).await?;
    engine.notices().write(format!(
        "this node's data folder is an older copy of itself: {why}. {} copies of ranges on it are given up, since they have forgotten what they promised; control makes new ones in their place, from the other copies. {alone} ranges have their only copy here: they are served as they are in the folder, and what was written to them since it was copied is missing",
        given_up.len()
    ));
    Ok(())
}

/// Whether the replica's range has other copies, or that cannot be told.
fn has_others(replica: &Arc<Replica>) -> bool {
    let members = || replica.last_membership().map(|known| known.map(|(_, membership)| membership.members.len()));
    replica.is_grouped() && !matches!(members(), Ok(Some(1)))
}

/// Gives up the node's copies when others object to what it says of itself; ends when its groups do.
pub async fn follow_objections(engine: Arc<Engine>, groups: Arc<Groups>) {
    let mut objections = groups.objections();
    while objections.changed().await.is_ok() {
        let Some(objection) = objections.borrow_and_update().clone() else { continue };
        while let Err(error) = give_up_copies(&engine, &groups, &objection).await {
            tracing::error!(error, "copies that are not to be believed could not be given up; it is tried again");
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }
}
