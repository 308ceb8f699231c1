//! What commands need to be clients of the DynamoDB protocol themselves: an access key, signatures, and a connection.
//!
//! | file | what it does |
//! |---|---|
//! | [`credentials`] | finds the access key: a file, or the variables that every AWS tool reads |
//! | [`signing`] | signs a request (AWS Signature Version 4) |
//! | [`door`] | asks one operation, patiently, over HTTP or HTTPS |
//!
//! The server checks signatures by other code, in `api/dynamodb`, written from the same description. They share nothing on purpose: an
//! error in the one is found by the other, and both are held to answers that AWS's own client gave.

pub mod credentials;
pub mod door;
pub mod signing;
