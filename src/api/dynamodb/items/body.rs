//! The JSON of an answer: one object, member by member, in one buffer.

use super::batch;
use crate::api::dynamodb::attribute_value;
use crate::api::dynamodb::capacity::{self, Consumed};
use crate::api::dynamodb::request::ReturnConsumedCapacity;
use crate::domain::document::Document;
use crate::domain::json;

const ITEM_COLLECTION_METRICS: &str = "ItemCollectionMetrics";

/// The body of an answer.
pub(super) struct Body {
    json: Vec<u8>,
}

impl Body {
    /// An answer without members, with room for so many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut json = Vec::with_capacity(bytes + 2);
        json.push(b'{');
        Self { json }
    }

    /// Begins a member; its value is to be appended to what this gives.
    pub(super) fn member(&mut self, name: &str) -> &mut Vec<u8> {
        if self.json.len() > 1 {
            self.json.push(b',');
        }
        json::write_string(&mut self.json, name);
        self.json.push(b':');
        &mut self.json
    }

    /// An item under this name.
    pub(super) fn item(&mut self, name: &str, document: &Document, keys: Option<&Document>) {
        let json = self.member(name);
        attribute_value::write_item(document, keys, json);
    }

    /// What was consumed, where that is wanted.
    pub(super) fn consumed(&mut self, table: &str, consumed: &Consumed, wanted: ReturnConsumedCapacity) {
        if wanted != ReturnConsumedCapacity::None {
            let json = self.member("ConsumedCapacity");
            capacity::write_consumed(json, table, consumed, wanted);
        }
    }

    /// What was consumed of several tables, where that is wanted.
    pub(super) fn consumed_by_table<'t>(
        &mut self,
        tables: impl Iterator<Item = (&'t str, &'t Consumed)>,
        wanted: ReturnConsumedCapacity,
    ) {
        if wanted == ReturnConsumedCapacity::None {
            return;
        }
        let json = self.member("ConsumedCapacity");
        json.push(b'[');
        for (index, (table, consumed)) in tables.enumerate() {
            if index > 0 {
                json.push(b',');
            }
            capacity::write_consumed(json, table, consumed, wanted);
        }
        json.push(b']');
    }

    /// The metrics of an item collection, where there are any.
    pub(super) fn collection(&mut self, metrics: Option<&[u8]>) {
        if let Some(metrics) = metrics {
            self.member(ITEM_COLLECTION_METRICS).extend_from_slice(metrics);
        }
    }

    /// The metrics of the item collections of several tables, as far as there are any.
    pub(super) fn collections_by_table<'t>(&mut self, tables: impl Iterator<Item = (&'t str, &'t [Vec<u8>])>) {
        let mut tables = tables.filter(|(_, metrics)| !metrics.is_empty()).peekable();
        if tables.peek().is_none() {
            return;
        }
        batch::write_map(self.member(ITEM_COLLECTION_METRICS), tables, |(table, metrics), json| {
            json::write_string(json, table);
            json.extend_from_slice(b":[");
            json.extend_from_slice(&metrics.join(&b','));
            json.push(b']');
        });
    }

    /// The whole.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.json.push(b'}');
        self.json
    }
}
