//! Query and Scan: items of one partition in the order of their sort keys or of an index, and items of a whole table or index in
//! the order in which it is laid out.
//!
//! Both go the same way: the parameters are read and checked ([`parameters`], [`select`]); IndexName says what is read, the table
//! or an index of it ([`index`]); what is said of keys becomes an interval of packed keys, or of an index's entries
//! ([`key_interval`] for a query, [`segment`] for a scan), which ExclusiveStartKey shortens ([`start_key`]); the interval is read
//! page by page, each item filtered, cut down and written as it comes ([`pages`]); and the answer tells where the next request
//! goes on ([`answer`]).
//!
//! What counts for the end of an answer is what was looked at, not what was found: Limit and the
//! mebibyte count items before the filter. An answer that ended at one of them has a LastEvaluatedKey even if nothing
//! follows; only one that saw the end of the interval has none.
//!
//! Indexes are local ones: their entries lie beside the items of their partition and are written with them. So a read of an
//! index may be consistent, and may ask for attributes that the index does not show.

mod answer;
mod index;
mod key_interval;
mod pages;
mod parameters;
mod query;
mod scan;
mod segment;
mod select;
mod start_key;
#[cfg(test)]
mod tests;

pub use query::query;
pub use scan::scan;

// For the fuzzer.
pub(super) use query::rehearse as rehearse_query;
pub(super) use scan::rehearse as rehearse_scan;
