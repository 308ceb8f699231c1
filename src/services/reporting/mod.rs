//! Reporting: pulls what components have counted, keeps it, and exports it. It defines no reports; it is the funnel.
//!
//! ```text
//! proxies, nodes ── batches of a second ──► store: intervals, roll-ups, positions ── records ──► sinks
//!                    (pulled, mutual TLS)    (one encrypted file; one transaction a pull)   (at least once)
//! ```
//!
//! A batch is taken in once: its name and the sums that follow from it are written in one transaction. What is exported are
//! records of closed intervals, each with an id that follows from what it is about, so that a sink that gets one twice can tell. Each sink has a
//! position of its own; one that is away holds up nobody else, and what it lacks waits on the disk.
//!
//! | file | what |
//! |---|---|
//! | `record.rs` | [`record::ExportRecord`]: what sinks get |
//! | `ports.rs` | [`ports::Sink`] and [`ports::ExportLog`]: the two ends between which the exporter carries records |

pub mod ports;
pub mod record;
