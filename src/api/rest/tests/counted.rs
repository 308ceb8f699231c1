//! What is counted of requests over real HTTP: for whom, how they ended, and what they cost.

use super::*;
use crate::domain::document::Document;
use crate::domain::ids::{PrincipalId, TableId};
use crate::domain::key::{KeyValue, PackedKey};
use crate::domain::usage::{UsageCounts, UsageOperation as Op, UsageResult as Ended};
use crate::domain::{TableName, TenantName};
use crate::services::ports::{Capability, Catalog};
use crate::services::usage::meter::Taken;

/// What was counted since the last call, but for how long it took.
fn taken(fixture: &Fixture) -> Vec<(Option<TableId>, Op, Ended, UsageCounts)> {
    let mut taken = Taken::default();
    fixture.meter.take(&mut taken);
    let told = taken.counts.into_iter().map(|(key, counts)| {
        assert!(counts.latency.count() == counts.requests && key.principal == Some(PrincipalId::from_bytes([1; 16])));
        (key.table, key.operation, key.result, UsageCounts { latency: Default::default(), ..counts })
    });
    told.collect()
}

fn table(fixture: &Fixture, name: &str) -> Option<TableId> {
    let names = (TenantName::new("acme").unwrap(), TableName::new(name).unwrap());
    fixture.catalog.table(&names.0, &names.1).map(|table| table.id)
}

fn bytes(id: &str, text: &str) -> u64 {
    let key = PackedKey::new(&KeyValue::String(id.into()), None);
    (key.len() + Document::from_json(text.as_bytes()).unwrap().item_size()) as u64
}

#[tokio::test]
async fn reads_and_writes_cost_what_their_items_are_large() {
    let fixture = Fixture::start().await;
    taken(&fixture);
    let plain = table(&fixture, "plain");
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(5_000));
    let size = bytes("a", &long);
    assert_eq!(put(&fixture, "a", &long).await.status, 201);
    let written = UsageCounts { requests: 1, written_bytes: size, write_units: 5, ..UsageCounts::default() };
    assert_eq!(taken(&fixture), [(plain, Op::PutItem, Ended::Ok, written)]);

    assert_eq!(get(&fixture, "a").await.status, 200);
    assert_eq!(get(&fixture, "a?consistency=eventual").await.status, 200);
    let read = UsageCounts { requests: 2, read_bytes: 2 * size, read_half_units: 4 + 2, ..UsageCounts::default() };
    assert_eq!(taken(&fixture), [(plain, Op::GetItem, Ended::Ok, read)]);

    assert_eq!(get(&fixture, "b").await.status, 404);
    let missing = UsageCounts { requests: 1, read_half_units: 2, ..UsageCounts::default() };
    assert_eq!(taken(&fixture), [(plain, Op::GetItem, Ended::NotFound, missing)]);

    let refused = fixture.ask("PUT", &format!("{PLAIN}a"), &[("if-none-match", "*")], r#"{"a":1}"#).await;
    assert_eq!(refused.status, 412);
    assert_eq!(fixture.ask("POST", &format!("{PLAIN}a"), &[], r#"{"b":1}"#).await.status, 200);
    assert_eq!(fixture.ask("DELETE", &format!("{PLAIN}a"), &[], "").await.status, 204);
    let unit = UsageCounts { requests: 1, write_units: 1, ..UsageCounts::default() };
    let merged = UsageCounts { written_bytes: bytes("a", r#"{"b":1}"#), ..unit };
    let expected = [
        (plain, Op::PutItem, Ended::Conflict, unit),
        (plain, Op::UpdateItem, Ended::Ok, merged),
        (plain, Op::DeleteItem, Ended::Ok, unit),
    ];
    assert_eq!(taken(&fixture), expected);
}

#[tokio::test]
async fn a_page_adds_up_sizes_before_it_rounds() {
    let fixture = Fixture::start().await;
    for sort in 0..10 {
        let path = format!("{SORTED}a/sort/{sort}");
        assert_eq!(fixture.ask("PUT", &path, &[], r#"{"a":"xxxxxxxx"}"#).await.status, 201);
    }
    taken(&fixture);
    let sorted = table(&fixture, "sorted");
    assert_eq!(fixture.ask("GET", &format!("{SORTED}a"), &[], "").await.status, 200);
    assert_eq!(fixture.ask("GET", "/v1/tenant/acme/table/sorted/id", &[], "").await.status, 200);
    let told = taken(&fixture);
    assert_eq!((told.len(), told[0].0, told[0].1, told[0].2), (1, sorted, Op::ListItems, Ended::Ok));
    assert_eq!((told[0].3.requests, told[0].3.read_half_units), (2, 4), "one unit each, not ten");
    assert!(told[0].3.read_bytes > 2 * 10 * 9);
}

#[tokio::test]
async fn nobody_runs_up_the_usage_of_others() {
    let fixture = Fixture::start().await;
    let other = fixture.token(Some("globex"), &[Capability::Read]);
    taken(&fixture);
    let before = fixture.meter.totals();
    for (token, status) in [("", 401), ("nonsense", 401), (other.as_str(), 404)] {
        assert_eq!(fixture.ask_as(token, "GET", &format!("{PLAIN}a"), &[], "").await.status, status);
    }
    assert_eq!(fixture.ask("GET", "/v1/tenant/nobody", &[], "").await.status, 404);
    assert_eq!(fixture.ask("GET", "/v1/tenant", &[], "").await.status, 200);
    assert_eq!(fixture.ask("GET", "/healthz", &[], "").await.status, 200);
    assert_eq!(taken(&fixture), [], "they name no tenant that their sender may know of");
    let totals = fixture.meter.totals();
    let of = |operation: Op, result: Ended| {
        let [before, now] = [&before, &totals].map(|totals| totals.requests[operation as usize][result as usize]);
        now - before
    };
    assert_eq!((of(Op::GetItem, Ended::Refused), of(Op::GetItem, Ended::NotFound)), (2, 1));
    assert_eq!(
        (of(Op::Administer, Ended::NotFound), of(Op::Administer, Ended::Ok)),
        (1, 1),
        "health is no use of the store"
    );
    assert_eq!(fixture.ask("GET", "/v1/tenant/acme/table/plain", &[], "").await.status, 200);
    let told = taken(&fixture);
    assert_eq!((told.len(), told[0].0, told[0].1), (1, table(&fixture, "plain"), Op::Administer));
}
