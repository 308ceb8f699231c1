//! The wished log level: how long it holds, who is remembered for it, and what is refused.

use crate::domain::Clock;
use crate::services::control::testing::Cluster;
use crate::services::log_level::{LogLevel, WishedLevel};

#[tokio::test]
async fn a_wish_ends_by_itself_or_is_taken_back() {
    let cluster = Cluster::start().await;
    let plane = &cluster.plane;
    assert_eq!(plane.log_level().await, Ok(None));
    plane.log_level_reset(&cluster.root).await.unwrap();
    assert!(plane.history("log-level", None, 10).await.is_err(), "nothing was changed");
    for seconds in [0, 9, 8 * 24 * 3600] {
        assert!(plane.log_level_set(&cluster.root, LogLevel::Debug, seconds).await.is_err());
    }
    let wish = plane.log_level_set(&cluster.root, LogLevel::Debug, 3600).await.unwrap();
    assert_eq!(wish, WishedLevel { level: LogLevel::Debug, ends_at: cluster.clock.now().plus_seconds(3600) });
    assert_eq!(plane.log_level().await, Ok(Some(wish)));
    cluster.clock.forward(3600);
    assert_eq!(plane.log_level().await, Ok(None), "it has ended");
    plane.log_level_set(&cluster.root, LogLevel::Trace, 60).await.unwrap();
    plane.log_level_reset(&cluster.root).await.unwrap();
    assert_eq!(plane.log_level().await, Ok(None));
    let history = plane.history("log-level", None, 10).await.unwrap().versions;
    assert_eq!(history.len(), 3);
    assert!(history[0].after.is_none() && history.iter().all(|version| version.who == cluster.root.name));
}
