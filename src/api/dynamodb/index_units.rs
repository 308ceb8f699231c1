//! What writes cost an index, as AWS counts it: an index is written only where what it shows of the item changes.
//!
//! | before and after the write | write units |
//! |---|---|
//! | not in the index | none |
//! | new in it, or gone from it | those of what it shows |
//! | another value of its attribute | those of both: the old entry goes, a new one comes |
//! | the same in all that it shows | none |
//! | else | those of the larger |
//!
//! A unit is a begun KiB of what the index shows of the item, key attributes included. The same is counted here whether
//! the index holds what it shows or fetches it: clients see what they would pay for, not how it is stored.

use super::capacity::{half_units, item_bytes};
use crate::domain::document::Document;
use crate::domain::key::KeyValue;
use crate::domain::local_index::LocalIndex;
use crate::domain::usage::Cost;

/// An item as an index has it.
struct Shown {
    /// What it is ordered by.
    value: KeyValue,
    /// What is shown of it, without the table's key attributes.
    document: Document,
}

impl Shown {
    /// None where the item is not in the index.
    fn of(index: &LocalIndex, document: &Document) -> Option<Shown> {
        Some(Shown { value: index.value(document)?, document: index.project(document) })
    }

    fn half_units(&self, keys: &Document) -> u64 {
        half_units(&Cost::write(item_bytes(keys, &self.document), true))
    }
}

/// Write half units that this change of an item costs an index, as AWS counts them. `keys` are the key attributes of the item,
/// which the documents need not have.
pub fn write_half_units(
    index: &LocalIndex,
    keys: &Document,
    before: Option<&Document>,
    after: Option<&Document>,
) -> u64 {
    let before = before.and_then(|document| Shown::of(index, document));
    let after = after.and_then(|document| Shown::of(index, document));
    match (before, after) {
        (None, None) => 0,
        (Some(only), None) | (None, Some(only)) => only.half_units(keys),
        (Some(before), Some(after)) if before.value != after.value => before.half_units(keys) + after.half_units(keys),
        (Some(before), Some(after)) if before.document == after.document => 0,
        (Some(before), Some(after)) => before.half_units(keys).max(after.half_units(keys)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dynamodb::attribute_value::read_item;
    use crate::domain::key::KeyType;
    use crate::domain::local_index::IndexProjection;

    fn index(projection: IndexProjection) -> LocalIndex {
        LocalIndex::of("by-rank", "rank", KeyType::Integer, projection)
    }

    /// An item of this rank; `shown` and `hidden` are attributes of so many bytes.
    fn item(rank: i64, shown: usize, hidden: usize) -> Document {
        let (shown, hidden) = ("s".repeat(shown), "h".repeat(hidden));
        let json = serde_json::json!({
            "rank": {"N": rank.to_string()}, "shown": {"S": shown}, "hidden": {"S": hidden},
        });
        read_item(json.to_string().as_bytes()).unwrap()
    }

    fn units(index: &LocalIndex, before: Option<&Document>, after: Option<&Document>) -> u64 {
        let keys = read_item(br#"{"id":{"S":"a"},"sort":{"N":"1"}}"#).unwrap();
        write_half_units(index, &keys, before, after)
    }

    #[test]
    fn only_what_the_index_shows_costs() {
        let index = index(IndexProjection::Include(vec!["shown".to_owned()]));
        let small = item(1, 10, 5000);
        let large = item(1, 1500, 0);
        let elsewhere = read_item(br#"{"shown":{"S":"x"}}"#).unwrap();
        assert_eq!(units(&index, None, None), 0);
        assert_eq!(units(&index, None, Some(&elsewhere)), 0);
        assert_eq!(units(&index, None, Some(&small)), 2);
        assert_eq!(units(&index, Some(&small), Some(&elsewhere)), 2);
        assert_eq!(units(&index, Some(&large), None), 4);
        assert_eq!(units(&index, Some(&small), Some(&large)), 4);
        assert_eq!(units(&index, Some(&large), Some(&small)), 4);
        assert_eq!(units(&index, Some(&small), Some(&item(1, 10, 20))), 0, "what changed is not shown");
        assert_eq!(units(&index, Some(&small), Some(&item(2, 1500, 0))), 2 + 4, "it goes and comes again");
    }

    #[test]
    fn projections_decide_what_is_a_change() {
        let (one, other) = (item(1, 10, 5000), item(1, 11, 6000));
        assert_eq!(units(&index(IndexProjection::KeysOnly), Some(&one), Some(&other)), 0);
        assert_eq!(units(&index(IndexProjection::All), Some(&one), Some(&other)), 2 * 6);
        assert_eq!(units(&index(IndexProjection::All), Some(&one), Some(&one)), 0);
    }
}
