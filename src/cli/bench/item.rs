//! Items of ten fields of a hundred bytes, as in YCSB: about 1 KiB of JSON. The values differ at every write, so that no
//! store can save the work by comparing; they are cut from one block of random letters at random places, because
//! making a thousand random bytes per write would cost the client more than sending them.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Fields of an item.
pub const FIELDS: usize = 10;
/// Bytes of a field's value.
pub const FIELD_BYTES: usize = 100;
const BLOCK_BYTES: usize = 64 * 1024;
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Gives values that have not been used before (with overwhelming probability).
pub struct Values {
    block: Vec<u8>,
    random: SmallRng,
    count: u64,
}

impl Values {
    /// A sequence of values that depends on `seed`.
    pub fn new(seed: u64) -> Values {
        let mut random = SmallRng::seed_from_u64(seed);
        let block = (0..BLOCK_BYTES).map(|_| LETTERS[random.random_range(0..LETTERS.len())]).collect();
        Values { block, random, count: 0 }
    }

    /// Appends a whole item as JSON.
    pub fn item(&mut self, body: &mut Vec<u8>) {
        for field in 0..FIELDS {
            body.extend_from_slice(if field == 0 { b"{\"field" } else { b",\"field" });
            body.push(b'0' + field as u8);
            body.extend_from_slice(b"\":\"");
            self.value(body);
            body.push(b'"');
        }
        body.push(b'}');
    }

    /// Appends an object with one field, chosen at random, as JSON.
    pub fn patch(&mut self, body: &mut Vec<u8>) {
        body.extend_from_slice(b"{\"field");
        body.push(b'0' + self.random.random_range(0..FIELDS) as u8);
        body.extend_from_slice(b"\":\"");
        self.value(body);
        body.extend_from_slice(b"\"}");
    }

    /// Appends the members of a whole item as DynamoDB's JSON, each after a comma: the key comes before them.
    pub fn typed_members(&mut self, body: &mut Vec<u8>) {
        for field in 0..FIELDS {
            body.extend_from_slice(b",\"field");
            body.push(b'0' + field as u8);
            body.extend_from_slice(b"\":{\"S\":\"");
            self.value(body);
            body.extend_from_slice(b"\"}");
        }
    }

    /// The number of a field, chosen at random.
    pub fn any_field(&mut self) -> usize {
        self.random.random_range(0..FIELDS)
    }

    /// Appends one value of [`FIELD_BYTES`] letters: a number that counts up, then a piece of the block.
    pub fn value(&mut self, body: &mut Vec<u8>) {
        self.count += 1;
        let mut rest = self.count;
        for _ in 0..8 {
            body.push(LETTERS[(rest % 64) as usize]);
            rest /= 64;
        }
        let length = FIELD_BYTES - 8;
        let place = self.random.random_range(0..BLOCK_BYTES - length);
        body.extend_from_slice(&self.block[place..place + length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_json_of_a_kibibyte_and_never_equal() {
        let mut values = Values::new(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1000 {
            let mut body = Vec::new();
            values.item(&mut body);
            let item: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&body).expect("is JSON");
            assert_eq!(item.len(), FIELDS);
            assert!((1000..1200).contains(&body.len()));
            for value in item.values() {
                let value = value.as_str().expect("is text").to_owned();
                assert_eq!(value.len(), FIELD_BYTES);
                assert!(seen.insert(value), "a value came twice");
            }
        }
    }
}
