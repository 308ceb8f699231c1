//! The protocol of DynamoDB: `POST /` on the listener for clients, beside REST and over the same items. A call is
//! JSON in and JSON out, names its operation in the header `X-Amz-Target`, and is signed with an access key (AWS
//! Signature Version 4).
//!
//! The life of a call: [`crate::api::doors`] hands [`dispatch`] what stands at `/` → the operation is known →
//! [`sigv4`] reads what the client signed → the access key is known and good → the body is collected and unpacked
//! ([`encoding`]) → the signature is right → the capability is there → one function reads its parameters, calls a
//! service and writes JSON → [`answer`] makes a response of it. A [`Failure`] anywhere takes the same way out.
//!
//! | module | what |
//! |---|---|
//! | [`dispatch`], [`call`] | from a request to its function, and what the function is given |
//! | [`head`] | the headers that calls look at, found in one pass |
//! | [`sigv4`], [`credential`] | signatures, and whose they are |
//! | [`encoding`], [`answer`], [`cors`] | what stands around the JSON |
//! | [`body_budget`] | room for all bodies that are under way |
//! | [`failure`] | the one table of what calls fail with |
//! | `malformed` | what is found before any other mistake of an operation on items |
//! | `metered` | what of each call is counted and noted |
//! | [`attribute_value`], [`names`] | items and names as JSON |
//! | [`request`], [`expressions`], [`legacy`] | parameters that several operations have |
//! | [`table_lookup`], [`capacity`], [`index_units`] | tables, their keys and indexes; what a call consumed |
//! | [`items`], [`reading`], [`tables`] | the operations |
//! | [`fuzzing`] | requests of all of them, read and not answered, for the fuzzer |

pub mod answer;
pub mod attribute_value;
pub mod body_budget;
pub mod call;
pub mod capacity;
pub mod cors;
pub mod credential;
pub mod dispatch;
pub mod encoding;
pub mod expressions;
pub mod failure;
pub mod fuzzing;
pub mod head;
pub mod index_units;
pub mod items;
pub mod legacy;
mod malformed;
mod metered;
pub mod names;
pub mod reading;
pub mod request;
pub mod sigv4;
pub mod table_lookup;
pub mod tables;

#[cfg(test)]
mod tests;

pub use call::{Answered, Call, DynamoState};
pub use failure::Failure;
