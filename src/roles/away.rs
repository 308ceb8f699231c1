//! A notice of a node or a proxy when the coordinator or control has been away for a while, so that a person learns of it who
//! looks at notices alone. Requests are served meanwhile; what waits is everything that control and ranges' leaders agree on
//! with them.
//!
//! Who is away is asked of what `/readyz` goes by, and not of its words: the routing table, which follows the coordinator,
//! and the access lists, which control tells. A listing that is not obeyed makes the table old, too, but there the
//! coordinator answers. Each outage is told once, in words without a time, so that notices of many outages are one with a
//! count. While the coordinator is away the notice waits in memory ([`crate::services::notices`]), and is in the log at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::services::control::{AccessMirror, AccessStatus};
use crate::services::engine::notices::Notices;
use crate::services::routing::{RoutingSource, RoutingTable};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(10);
/// How long somebody is away before it is told. A restart, or an election of the coordinator, is over by then.
const PATIENCE: Duration = Duration::from_secs(60);

const COORDINATOR: &str = "the coordinator did not answer this process for a minute: while it is away requests are \
                           served, and changes of placement wait";
const CONTROL: &str = "control did not answer this process for a minute: while it is away requests are served, \
                       changes of placement wait, and what was revoked meanwhile may still be let in";

/// Starts to look, until what is returned is aborted.
pub(super) fn watch(routing: Arc<RoutingTable>, access: Arc<AccessMirror>, notices: Arc<Notices>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut outages = Outages::default();
        loop {
            tokio::time::sleep(LOOK).await;
            let away = Away::of(routing.status().source, &access.status());
            for words in outages.looked(Instant::now(), away) {
                notices.write(words);
            }
        }
    })
}

/// Who is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Away {
    coordinator: bool,
    control: bool,
}

impl Away {
    fn of(routing: RoutingSource, access: &AccessStatus) -> Self {
        Self { coordinator: routing != RoutingSource::Live, control: *access != AccessStatus::Current }
    }
}

/// What has been seen of both.
#[derive(Debug, Default)]
struct Outages {
    coordinator: Outage,
    control: Outage,
}

impl Outages {
    /// Takes a look in, and says what is to be told now.
    fn looked(&mut self, now: Instant, away: Away) -> Vec<&'static str> {
        let coordinator = self.coordinator.looked(now, away.coordinator).then_some(COORDINATOR);
        let control = self.control.looked(now, away.control).then_some(CONTROL);
        coordinator.into_iter().chain(control).collect()
    }
}

/// How long somebody has been away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Outage {
    /// It is there.
    #[default]
    None,
    /// It was first missed at this time.
    Since(Instant),
    /// It is away, and that was told.
    Told,
}

impl Outage {
    /// Takes a look in. Whether the outage is to be told now.
    fn looked(&mut self, now: Instant, is_away: bool) -> bool {
        let (next, is_news) = match *self {
            _ if !is_away => (Self::None, false),
            Self::None => (Self::Since(now), false),
            Self::Since(since) if now < since + PATIENCE => (Self::Since(since), false),
            Self::Since(_) => (Self::Told, true),
            Self::Told => (Self::Told, false),
        };
        *self = next;
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    const NOBODY: Away = Away { coordinator: false, control: false };
    const BOTH: Away = Away { coordinator: true, control: true };

    /// What is told at these seconds, of looks that see this.
    fn told(looks: &[(u64, Away)]) -> Vec<(u64, &'static str)> {
        let start = Instant::now();
        let mut outages = Outages::default();
        let look = |(second, away): &(u64, Away)| {
            let words = outages.looked(start + Duration::from_secs(*second), *away);
            words.into_iter().map(|words| (*second, words)).collect::<Vec<_>>()
        };
        looks.iter().flat_map(look).collect()
    }

    #[test]
    fn an_outage_is_told_once_when_it_has_lasted() {
        let looks: Vec<(u64, Away)> = (0..40).map(|number| (10 * number, BOTH)).collect();
        assert_eq!(told(&looks), [(60, COORDINATOR), (60, CONTROL)]);
    }

    #[test]
    fn one_that_comes_back_in_time_is_not_told_and_the_next_counts_anew() {
        assert!(told(&[(0, BOTH), (59, BOTH), (60, NOBODY), (70, BOTH), (129, BOTH)]).is_empty());
        let looks = [(0, BOTH), (50, NOBODY), (60, BOTH), (119, BOTH), (120, BOTH)];
        assert_eq!(told(&looks), [(120, COORDINATOR), (120, CONTROL)]);
    }

    #[test]
    fn each_outage_is_told_in_the_same_words() {
        let away = Away { coordinator: true, control: false };
        let looks = [(0, away), (60, away), (70, away), (80, NOBODY), (90, away), (150, away), (160, away)];
        assert_eq!(told(&looks), [(60, COORDINATOR), (150, COORDINATOR)]);
    }

    #[test]
    fn the_two_are_told_apart() {
        let control = Away { coordinator: false, control: true };
        let looks = [(0, control), (30, BOTH), (60, BOTH), (89, BOTH), (90, BOTH)];
        assert_eq!(told(&looks), [(60, CONTROL), (90, COORDINATOR)]);
    }

    #[test]
    fn who_is_away_is_known_by_what_is_old() {
        let stale = AccessStatus::Stale(Timestamp(1), "control is away".to_owned());
        assert_eq!(Away::of(RoutingSource::Live, &AccessStatus::Current), NOBODY);
        for source in [RoutingSource::Nothing, RoutingSource::DiskCopy, RoutingSource::Memory] {
            assert_eq!(Away::of(source, &AccessStatus::Current), Away { coordinator: true, control: false });
        }
        for status in [AccessStatus::Nothing, stale] {
            assert_eq!(Away::of(RoutingSource::Live, &status), Away { coordinator: false, control: true });
        }
    }
}
