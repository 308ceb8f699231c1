//! Requests of clients, admitted or refused by their tenant's limits; see the module above.
//!
//! A tenant without a limit of requests costs one look into the book. One with a limit has a bucket here
//! ([`crate::domain::throttle`]), made when it first asks.
//!
//! That a tenant is over its limit is said once: when its bucket is found empty, and not again before the bucket has been half
//! full in between. Where the limit is soft, nothing else happens.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::book::{LimitBook, LimitedTenant};
use crate::domain::ids::TenantId;
use crate::domain::tenant_limits::LimitMode;
use crate::domain::throttle::{LEAST_HALF_UNITS, Rate, TokenBucket};
use crate::domain::usage::Cost;
use crate::domain::{Clock, Refusal, RefusalKind};
use crate::services::engine::notices::Notices;

/// Who else has a share of a tenant's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Nobody: all clients ask this process.
    Alone,
    /// The other proxies.
    Proxy,
    /// The other nodes, for clients that ask nodes directly.
    Node,
}

/// See the module's essay.
pub struct TenantLimiter {
    book: Arc<LimitBook>,
    door: Door,
    clock: Arc<dyn Clock>,
    notices: Arc<Notices>,
    meters: RwLock<HashMap<TenantId, Arc<Mutex<Meter>>>>,
    refused: AtomicU64,
}

struct Meter {
    bucket: TokenBucket,
    is_over: bool,
}

/// A request that was let in. What it has taken is charged when that is known.
pub struct Admitted(Option<Arc<Mutex<Meter>>>);

impl Admitted {
    /// A request that nobody counts.
    pub fn free() -> Self {
        Self(None)
    }

    /// Charges what it has cost; that is asked only where it counts.
    pub fn charge(self, cost: impl FnOnce() -> Cost) {
        if let Some(meter) = self.0 {
            let Cost { read_half_units, write_units, .. } = cost();
            let half_units = read_half_units + 2 * write_units;
            meter.lock().bucket.charge(half_units.saturating_sub(LEAST_HALF_UNITS));
        }
    }
}

impl TenantLimiter {
    /// A limiter by this book.
    pub fn new(book: Arc<LimitBook>, door: Door, clock: Arc<dyn Clock>, notices: Arc<Notices>) -> Self {
        Self { book, door, clock, notices, meters: RwLock::default(), refused: AtomicU64::new(0) }
    }

    /// Lets a request of a tenant in.
    ///
    /// # Errors
    /// `Throttled` where the tenant is over its limit of requests; `StorageFull` where it asks to write what `may_grow` and
    /// stores as much as it may.
    pub fn admit(&self, tenant: TenantId, may_grow: bool) -> Result<Admitted, Refusal> {
        let Some(limited) = self.book.get(tenant) else { return Ok(Admitted::free()) };
        if may_grow {
            self.book.admit_write(tenant)?;
        }
        let Some(units) = limited.limits.request_units else { return Ok(Admitted::free()) };
        let (rate, now) = (self.rate(&limited, units), self.clock.now());
        let metered = self.meter(tenant, || TokenBucket::full(rate, now));
        let mut meter = metered.lock();
        match meter.bucket.admit(rate, now) {
            Ok(()) => meter.is_over &= !meter.bucket.is_half_full(rate),
            Err(wait_us) => {
                if !std::mem::replace(&mut meter.is_over, true) {
                    self.notices.write(over(&limited, units));
                }
                if limited.limits.mode == LimitMode::Hard {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(throttled(&limited, units, wait_us));
                }
                meter.bucket.charge(LEAST_HALF_UNITS);
                meter.bucket.forgive(rate);
            }
        }
        drop(meter);
        Ok(Admitted(Some(metered)))
    }

    /// Requests refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn rate(&self, limited: &LimitedTenant, units: u64) -> Rate {
        let shares = limited.limits.shares.map_or(1, |shares| match self.door {
            Door::Alone => 1,
            Door::Proxy => shares.proxies,
            Door::Node => shares.nodes,
        });
        Rate::share(units, shares)
    }

    fn meter(&self, tenant: TenantId, bucket: impl FnOnce() -> TokenBucket) -> Arc<Mutex<Meter>> {
        if let Some(meter) = self.meters.read().get(&tenant) {
            return Arc::clone(meter);
        }
        let mut meters = self.meters.write();
        if !meters.contains_key(&tenant) {
            // Those of tenants that are gone, or have no limits any more.
            let limited = self.book.all();
            meters.retain(|known, _| limited.contains_key(known));
        }
        let new = || Arc::new(Mutex::new(Meter { bucket: bucket(), is_over: false }));
        Arc::clone(meters.entry(tenant).or_insert_with(new))
    }
}

/// The same words each time, so that it stays one notice.
fn over(limited: &LimitedTenant, units: u64) -> String {
    let (name, what) = (
        &limited.name,
        match limited.limits.mode {
            LimitMode::Soft => "the limit is soft, so nothing is refused",
            LimitMode::Hard => "requests beyond it are answered 429",
        },
    );
    format!(
        "the tenant {name} asks for more than its limit of {units} capacity units a second: {what}. Raise it with `dstore control tenant set {name} --request-limit UNITS`"
    )
}

fn throttled(limited: &LimitedTenant, units: u64, wait_us: u64) -> Refusal {
    let seconds = u32::try_from(wait_us.div_ceil(1_000_000)).unwrap_or(u32::MAX);
    let name = &limited.name;
    let message = format!(
        "the tenant {name} is over its limit of {units} capacity units a second: try again in {seconds} s, or have the operator raise the limit with `dstore control tenant set {name} --request-limit UNITS`"
    );
    Refusal { retry_after_seconds: Some(seconds), ..Refusal::new(RefusalKind::Throttled, message) }
}
