//! What is noted of a single request while it is answered, in words that cost nothing: its tag ([`tag`]), where it stands in
//! a trace ([`trace_context`]), and how long each stage took ([`stages`]). All of them are small values that are copied; none
//! holds a key, a value or a query string.

pub mod stages;
pub mod tag;
pub mod trace_context;

pub use stages::{Stage, Stages};
pub use tag::RequestTag;
pub use trace_context::TraceContext;
