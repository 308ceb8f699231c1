//! The stages of a request, and how long each took: what the slow-request log tells.
//!
//! A request has one clock hand that is moved on from stage to stage: what has passed since it was last moved is the
//! stage's. So the times add up to the whole, and a stage that comes twice, as when a second node is asked, has both times.
//! It is a few words that are copied, so that it costs no allocation to keep it for requests that turn out to be quick.

use std::time::Duration;

/// A part of the way of a request. Those from `Lead` on are at the node; in a process that has both roles all are its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Checking who asks.
    Authenticate,
    /// Finding tenant and table.
    Route,
    /// Waiting for the body.
    Body,
    /// Reading it, until a range can be asked.
    Prepare,
    /// Waking the range's group and being sure who leads it.
    Lead,
    /// Waiting to be let in: for a place, memory, or the log to have room.
    Admit,
    /// From handing a write to the log until it was durable, on a majority where there are several copies.
    Commit,
    /// From there until it was carried out and the request went on.
    Apply,
    /// Looking into memory.
    Memory,
    /// Reading the file, waiting for a thread included.
    File,
    /// Waiting for another process: the node that was asked.
    Node,
    /// Making the answer.
    Reply,
}

impl Stage {
    /// All, in order.
    pub const ALL: [Stage; 12] = [
        Stage::Authenticate,
        Stage::Route,
        Stage::Body,
        Stage::Prepare,
        Stage::Lead,
        Stage::Admit,
        Stage::Commit,
        Stage::Apply,
        Stage::Memory,
        Stage::File,
        Stage::Node,
        Stage::Reply,
    ];

    /// The word for it, in logs and traces.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Authenticate => "authenticate",
            Stage::Route => "route",
            Stage::Body => "body",
            Stage::Prepare => "prepare",
            Stage::Lead => "lead",
            Stage::Admit => "admit",
            Stage::Commit => "commit",
            Stage::Apply => "apply",
            Stage::Memory => "memory",
            Stage::File => "file",
            Stage::Node => "node",
            Stage::Reply => "reply",
        }
    }
}

/// How long each stage took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stages {
    micros: [u32; Stage::ALL.len()],
}

impl Stages {
    /// So long more in this stage.
    pub fn add(&mut self, stage: Stage, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let held = &mut self.micros[stage as usize];
        *held = held.saturating_add(micros);
    }

    /// How long it took.
    pub fn micros(&self, stage: Stage) -> u32 {
        self.micros[stage as usize]
    }
}

/// `commit=812.4 apply=0.3`: in milliseconds, in order, without those that took less than a twentieth of one.
impl std::fmt::Display for Stages {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut space = "";
        for stage in Stage::ALL {
            let micros = self.micros(stage);
            if micros >= 50 {
                write!(formatter, "{space}{}={:.1}", stage.word(), f64::from(micros) / 1000.0)?;
                space = " ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_took_no_time_is_not_told() {
        let mut stages = Stages::default();
        assert_eq!(stages.to_string(), "");
        stages.add(Stage::Apply, Duration::from_micros(49));
        stages.add(Stage::Commit, Duration::from_micros(812_449));
        stages.add(Stage::Body, Duration::from_micros(50));
        assert_eq!(stages.to_string(), "body=0.1 commit=812.4");
        stages.add(Stage::Apply, Duration::from_micros(300));
        assert_eq!(stages.to_string(), "body=0.1 commit=812.4 apply=0.3");
        stages.add(Stage::Apply, Duration::MAX);
        assert_eq!(stages.micros(Stage::Apply), u32::MAX, "an hour and more is told as the most there is");
    }

    #[test]
    fn every_stage_stands_at_its_place() {
        assert!(Stage::ALL.iter().enumerate().all(|(place, stage)| *stage as usize == place));
    }

    proptest! {
        #[test]
        fn times_add_up(parts in proptest::collection::vec((0..Stage::ALL.len(), 0u64..1_000_000), 0..40)) {
            let mut stages = Stages::default();
            for (place, micros) in &parts {
                stages.add(Stage::ALL[*place], Duration::from_micros(*micros));
            }
            let told: u64 = Stage::ALL.iter().map(|stage| u64::from(stages.micros(*stage))).sum();
            prop_assert_eq!(told, parts.iter().map(|(_, micros)| micros).sum::<u64>());
        }
    }
}
