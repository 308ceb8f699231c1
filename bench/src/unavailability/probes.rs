//! Clients that write to one key each, one write after the other, and keep when each was acknowledged. A write that is not served is
//! sent again at once under the same Idempotency-Key, to the other proxy, as a careful client does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, NO_ITEM, TABLE};
use crate::process::DEADLINE;

/// Between two writes of a client, and before one is sent again.
const PAUSE: Duration = Duration::from_millis(10);

struct Shared {
    began: Instant,
    stopped: AtomicBool,
    unserved: AtomicU64,
    /// When each key's writes were acknowledged.
    acknowledged: Vec<Mutex<Vec<Duration>>>,
}

/// See the module's essay.
pub struct Probes {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

fn path(key: usize) -> String {
    format!("{TABLE}/id/probe-{key}")
}

impl Probes {
    /// Starts so many.
    pub fn start(cluster: &Cluster, count: usize) -> Probes {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            stopped: AtomicBool::new(false),
            unserved: AtomicU64::new(0),
            acknowledged: (0..count).map(|_| Mutex::default()).collect(),
        });
        let urls: Vec<String> = cluster.proxies.iter().map(|proxy| proxy.url()).collect();
        let client = |key: usize| {
            let (shared, urls) = (shared.clone(), urls.clone());
            let (http, token) = (cluster.client.clone(), cluster.token.clone());
            tokio::spawn(work(shared, http, token, urls, key))
        };
        Probes { clients: (0..count).map(client).collect(), shared }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.shared.acknowledged.len()
    }

    /// The time by which gaps are measured.
    pub fn now(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// Requests that were not served.
    pub fn unserved(&self) -> u64 {
        self.shared.unserved.load(Ordering::Relaxed)
    }

    /// The keys that this node leads: others it does not answer strongly.
    pub async fn led_by(&self, cluster: &Cluster, node: &str) -> Vec<usize> {
        let mut led = Vec::new();
        for key in 0..self.count() {
            let (status, body) = cluster.send(Method::GET, &format!("{node}{}", path(key)), None).await;
            if status == 200 || (status == 404 && body["detail"] == NO_ITEM) {
                led.push(key);
            }
        }
        led
    }

    /// Waits until every key was written once.
    pub async fn until_all_wrote(&self) {
        let keys: Vec<usize> = (0..self.count()).collect();
        self.until_gaps_end(&keys, Duration::ZERO).await;
    }

    /// Waits until each of these keys was written after this time; the gaps around it.
    pub async fn until_gaps_end(&self, keys: &[usize], at: Duration) -> Vec<Duration> {
        let (deadline, mut gaps) = (Instant::now() + DEADLINE, Vec::new());
        for key in keys {
            loop {
                let times = self.shared.acknowledged[*key].lock().await;
                let after = times.partition_point(|time| *time <= at);
                if let Some(first) = times.get(after) {
                    gaps.push(first.saturating_sub(after.checked_sub(1).map_or(at, |before| times[before])));
                    break;
                }
                drop(times);
                assert!(Instant::now() < deadline, "key {key} is not written any more");
                tokio::time::sleep(PAUSE).await;
            }
        }
        gaps
    }

    /// The longest gap of a key since this time.
    pub fn longest_gap(&self, key: usize, since: Duration) -> Duration {
        let Ok(times) = self.shared.acknowledged[key].try_lock() else { return Duration::ZERO };
        let from = times.partition_point(|time| *time < since);
        times[from..].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Stops all.
    pub async fn stop(self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for client in self.clients {
            let _ = client.await;
        }
    }
}

async fn work(shared: Arc<Shared>, http: reqwest::Client, token: String, urls: Vec<String>, key: usize) {
    let mut number = 0u64;
    while !shared.stopped.load(Ordering::Relaxed) {
        number += 1;
        for attempt in 0.. {
            let url = format!("{}{}", urls[(key + attempt) % urls.len()], path(key));
            let request = http.put(url).bearer_auth(&token).header("idempotency-key", format!("{key}-{number}"));
            let sent = request.header("content-type", "application/json").body(format!("{{\"n\":{number}}}")).send();
            if sent.await.is_ok_and(|answer| answer.status().is_success()) {
                let now = shared.began.elapsed();
                shared.acknowledged[key].lock().await.push(now);
                break;
            }
            shared.unserved.fetch_add(1, Ordering::Relaxed);
            if shared.stopped.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
