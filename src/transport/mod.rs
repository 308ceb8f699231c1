//! Floor 2: how components talk to each other across processes: certificates, mutual TLS, and a
//! client that knows whom it is talking to. What is said is defined above, beside the handlers.
//!
//! | file | what |
//! |---|---|
//! | `pki.rs` | the certificate authority; certificates that name a role and a UUID |
//! | `tls.rs` | rustls for both sides; certificates exchanged while serving |
//! | `links.rs` | one-way messages between nodes: queues, and the tasks that empty them |
//! | `frames.rs` | many messages as one piece |
//! | `frame_client.rs` | brings frames to other nodes over HTTP |
//! | `dialing.rs` | TLS and clients that reach one node and no other |
//! | `memory.rs` | a network within one process, with faults where a test wants them |
//! | `client.rs` | JSON over HTTP, and refusals on the way back |

pub mod client;
pub mod dialing;
pub mod frame_client;
pub mod frames;
pub mod links;
pub mod memory;
pub mod pki;
pub mod tls;

#[cfg(test)]
mod tests;
