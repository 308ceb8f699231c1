//! ItemCollectionMetrics: how large all items of one partition key are together, as an answer to a write tells it.
//!
//! ```json
//! {"ItemCollectionKey":{"Artist":{"S":"Nina"}},"SizeEstimateRangeGB":[0.0,1.0]}
//! ```
//!
//! Only tables with local secondary indexes have item collections. The size is asked for when the write is done, and is told as
//! the two whole numbers of GB that it lies between. It is an estimate while writes are on their way to files. How large a
//! collection may become has no limit here.
//!
//! What the next author must keep: a size that cannot be told now does not make a failure of a write that was done; the answer
//! goes without it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use super::batch::PARALLEL_MAX;
use crate::api::dynamodb::attribute_value;
use crate::api::dynamodb::call::Call;
use crate::domain::document::{Builder, Document};
use crate::domain::key::{KeyValue, PackedKey};
use crate::domain::table::{TableDefinition, TableSpecification};
use crate::services::ports::StoredPart;

const GB: u64 = 1 << 30;

/// The item collections of one table that were written to, each once: what their keys begin with, and the partition key
/// as an attribute.
#[derive(Default)]
pub(super) struct Collections(BTreeMap<PackedKey, Document>);

impl Collections {
    /// Notes that of an item with these key attributes, where its table has item collections.
    pub(super) fn note(&mut self, table: &TableSpecification, keys: &Document) {
        if !table.local_indexes.is_empty() {
            self.0.extend(collection(table, keys));
        }
    }

    /// The metrics of each as JSON, as far as they can be told.
    pub(super) async fn metrics(&self, call: &Call<'_>, table: &Arc<TableDefinition>) -> Vec<Vec<u8>> {
        let asked = self.0.iter().map(|(prefix, key)| measured(call, table, prefix, key));
        let told: Vec<Option<Vec<u8>>> = stream::iter(asked).buffered(PARALLEL_MAX).collect().await;
        told.into_iter().flatten().collect()
    }
}

/// The metrics, as JSON, of the item collection of the item with these key attributes, where they are asked for; none where
/// there is none, or its size cannot be told now.
pub(super) async fn metrics(call: &Call<'_>, table: &Arc<TableDefinition>, keys: Option<&Document>) -> Option<Vec<u8>> {
    let mut collections = Collections::default();
    collections.note(&table.specification, keys?);
    collections.metrics(call, table).await.pop()
}

fn collection(table: &TableSpecification, keys: &Document) -> Option<(PackedKey, Document)> {
    let node = keys.get(&table.id_name)?;
    let id = KeyValue::from_node(table.id_type, &node)?;
    let mut key = Builder::new();
    key.name(&table.id_name).ok()?;
    key.node(node).ok()?;
    Some((PackedKey::id_prefix(&id), key.finish().ok()?))
}

async fn measured(
    call: &Call<'_>,
    table: &Arc<TableDefinition>,
    prefix: &PackedKey,
    key: &Document,
) -> Option<Vec<u8>> {
    let stored = call.state.items.stored(table, StoredPart::Collection(prefix.clone())).await;
    let unknown = |refusal: &_| tracing::debug!(table = %table.id, %refusal, "how large a collection is is not known");
    let stored = stored.inspect_err(unknown).ok()?;
    let mut json = b"{\"ItemCollectionKey\":".to_vec();
    attribute_value::write_item(key, None, &mut json);
    let whole = stored.bytes / GB;
    json.extend_from_slice(format!(",\"SizeEstimateRangeGB\":[{whole}.0,{}.0]}}", whole + 1).as_bytes());
    Some(json)
}
