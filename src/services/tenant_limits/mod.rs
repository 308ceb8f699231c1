//! What tenants may use at most, held by every process that serves clients and by every node, from what each of them knows
//! itself: neither control nor reporting is asked.
//!
//! ```text
//! routing table (tenants' records) ─┐
//!                                   ├▶ LimitBook ─▶ TenantLimiter   every request at a proxy, or at a node asked directly
//! stored/  (what nodes lead)       ─┘          └──▶ engine          every write at a node, before the log
//!    ▲
//!    └── StoredBytesTeller, at every node
//! ```
//!
//! * `book.rs`: the tenants that have limits, and how much each of them stores. Others are not in it, and cost a look.
//! * `limiter.rs`: admits requests by a bucket for each tenant, of which this process has a share; and writes by the book.
//! * `stored.rs`: a node says what it stores of tenants that have a limit of it.
//!
//! How exact it is. **Requests**: a share is the limit divided by the proxies that are alive (by the nodes, at a
//! node asked directly), so a tenant gets less than its limit where its clients use only some of the proxies, and up to twice of it
//! where they use both proxies and nodes. A proxy that comes or goes is known to all within a minute. **Storage**: nodes look every five seconds, and a
//! range counts at its leader; so what a tenant writes in some seconds may go beyond the limit, and for some fifteen after a
//! range changed its leader or was split it does not count, so that it never counts twice. With the coordinator away the last
//! that was told holds.
//!
//! Rejected: asking a common counter for each request, or for a batch of them: another thing that can be away. Giving the
//! unused share of one proxy to the others: worth its traffic only where clients keep to one of many proxies.

mod book;
mod limiter;
mod stored;
#[cfg(test)]
mod tests;

pub use book::{LimitBook, LimitedTenant};
pub use limiter::{Admitted, Door, TenantLimiter};
pub use stored::StoredBytesTeller;
