//! How long writes wait while a range is split: the copies of its two parts are written meanwhile, so the time grows with what it
//! holds.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::cluster::{Cluster, TABLE};
use crate::probes::Probes;
use crate::process::DEADLINE;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Items written at the same time.
const AT_ONCE: usize = 32;
/// The text that makes an item a KiB.
const TEXT_BYTES: usize = 1000;

/// Fills the table and splits the range with the lowest hashes so often; a line of a table for each time.
pub async fn measure(cluster: &Cluster, probes: &Probes, count: usize, items: usize) -> Vec<String> {
    if count > 0 {
        fill(cluster, items).await;
    }
    let mut lines = Vec::with_capacity(count);
    for number in 0..count {
        let part = items >> number;
        let gap = split(cluster, probes).await;
        eprintln!("split {number}: about {part} items, worst gap {gap} ms");
        lines.push(format!("| split of a range with about {part} items, the worst key | 1 | {gap} ms | | | |"));
    }
    lines
}

/// The longest time in milliseconds that a key was not written while the range was split.
async fn split(cluster: &Cluster, probes: &Probes) -> u128 {
    // Parts of a split are split no further before all copies have begun them.
    let deadline = Instant::now() + DEADLINE;
    let before = loop {
        if let Some(before) = ranges(cluster).await {
            break before;
        }
        assert!(Instant::now() < deadline, "the ranges are listed");
        tokio::time::sleep(PAUSE).await;
    };
    let mut from = probes.now();
    while let Err(why) = cluster.ask(&["range", "split", "acme/things", "--hash", "0", "--no-wait"]).await {
        assert!(Instant::now() < deadline, "the range can be split: {why}");
        tokio::time::sleep(PAUSE).await;
        from = probes.now();
    }
    while ranges(cluster).await.is_none_or(|now| now <= before) {
        assert!(Instant::now() < deadline, "the range is split");
        tokio::time::sleep(PAUSE).await;
    }
    crate::until_complete(cluster).await;
    let keys: Vec<usize> = (0..probes.count()).collect();
    probes.until_gaps_end(&keys, probes.now()).await;
    keys.iter().map(|key| probes.longest_gap(*key, from)).max().unwrap_or_default().as_millis()
}

/// How many ranges the table has; none where nobody said.
async fn ranges(cluster: &Cluster) -> Option<usize> {
    let listed = cluster.ask(&["range", "list", "--tenant", "acme", "things"]).await.ok()?;
    Some(listed.as_array()?.len())
}

async fn fill(cluster: &Cluster, items: usize) {
    let item = json!({ "text": "x".repeat(TEXT_BYTES) });
    for first in (0..items).step_by(AT_ONCE) {
        let writes = (first..items.min(first + AT_ONCE)).map(|number| {
            let proxy = &cluster.proxies[number % cluster.proxies.len()];
            let url = format!("{}{TABLE}/id/filling-{number}", proxy.url());
            let item = &item;
            async move { assert_eq!(cluster.send(Method::PUT, &url, Some(item)).await.0 / 100, 2, "an item is written") }
        });
        futures_util::future::join_all(writes).await;
    }
}
