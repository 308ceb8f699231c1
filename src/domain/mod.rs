//! Floor 0: the words of dStore. Everything here is plain data and pure functions: ids, names,
//! keys, documents, limits and refusals. No async, no file, no socket, no clock, no dice: time and
//! randomness come in through the traits in [`ambient`].

pub mod ambient;
pub mod byte_size;
pub mod cell;
pub mod document;
pub mod hash;
pub mod ids;
pub mod item_size;
pub mod json;
pub mod key;
pub mod limits;
pub mod local_index;
pub mod mutation;
pub mod names;
pub mod number;
pub mod observed;
pub mod refusal;
pub mod rid;
pub mod table;
pub mod table_options;
pub mod tenant_limits;
pub mod throttle;
pub mod usage;
pub mod version;
pub mod watermark;

pub use ambient::{Clock, Random, Timestamp};
pub use names::{TableName, TenantName};
pub use refusal::{Refusal, RefusalKind};
