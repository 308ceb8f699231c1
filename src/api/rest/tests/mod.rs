//! REST over real HTTP on loopback, against services in memory.

mod access;
mod bad_input;
mod counted;
mod definitions;
mod items;
mod listing;
mod observed;
mod two_nodes;

use crate::api::testing::{Answer, Fixture};

/// The path of an item in the table without sort key.
const PLAIN: &str = "/v1/tenant/acme/table/plain/id/";
/// The path of items in the table with a sort key.
const SORTED: &str = "/v1/tenant/acme/table/sorted/id/";

async fn put(fixture: &Fixture, id: &str, body: &str) -> Answer {
    fixture.ask("PUT", &format!("{PLAIN}{id}"), &[], body).await
}

async fn get(fixture: &Fixture, id: &str) -> Answer {
    fixture.ask("GET", &format!("{PLAIN}{id}"), &[], "").await
}
