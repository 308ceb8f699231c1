//! Usage: what was asked, by whom, how it ended and what it took, counted in intervals.
//!
//! A component counts into [`Counts`], one for each [`UsageKey`], and closes an interval at least every second. What it
//! counted leaves it as a [`UsageBatch`], which never changes afterwards and is named by [`BatchId`]: whoever reads it twice can tell. All
//! numbers are sums, so that batches can be added up to longer intervals in any order, and a batch that is read again changes
//! nothing where its name is known.
//!
//! Nothing here holds a key or a value of an item.
//!
//! | file | what |
//! |---|---|
//! | `key.rs` | [`UsageKey`]: whose requests, and which |
//! | `counts.rs` | [`Counts`], with the latency histogram |
//! | `batch.rs` | [`UsageBatch`]: one interval of one component, as it is kept and sent |

mod batch;
mod counts;
mod key;

pub use batch::{BatchId, Component, DiskUsage, NodeUsage, RangeUsage, UsageBatch, UsageRow, fuzz_usage_batch};
pub use counts::{Counts, LATENCY_BOUNDS_MICROS, LATENCY_BUCKETS, Latencies, Sample};
pub use key::{Named, Outcome, UsageKey};
