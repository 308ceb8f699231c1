//! Puts items, many at a time. A wave of lines is cut into batches that are under way at the same time; the next wave begins when all of it
//! is acknowledged, so that of two lines with one key the later one wins, as it would line by line. Within a wave only the last of a
//! key is put at all (a batch may not name a key twice).
//!
//! A batch that the server finds wrong is put item by item, so that the one bad line is found and the others are not lost.
//!
//! What a batch leaves unprocessed is put again, more and more seldom; after [`TIMES_MAX`] in a row of which nothing was
//! processed, which takes some two minutes, it is given up. An answer that leaves open what became of an item ends the
//! import: nothing is taken for done that the server did not say is.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use serde_json::{Value, json};

use super::super::call::Failure;
use super::failed;
use crate::cli::dynamodb::door::{Door, Trouble};
use crate::domain::number::Number;

/// The most items that BatchWriteItem takes.
const BATCH_ITEMS_MAX: usize = 25;
/// The most text in one batch; a request may have 16 MB.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// What a wave may hold at most.
pub(super) const WAVE_ITEMS_MAX: usize = 8 * BATCH_ITEMS_MAX;
/// The same in bytes of lines.
pub(super) const WAVE_BYTES_MAX: usize = 16 << 20;
/// The shortest and the longest pause before what was not processed is put again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How often a batch is put, in a row, of which nothing is processed.
const TIMES_MAX: u32 = 30;
/// Refusals that are about what stands in the request.
const BAD_INPUT: &[&str] = &["ValidationException", "SerializationException"];

/// A line on its way.
pub(super) struct Waiting {
    /// Its number in the file.
    pub(super) number: u64,
    /// It as it was.
    pub(super) line: Vec<u8>,
    /// Its item.
    pub(super) item: Value,
}

/// How time is waited for.
pub(super) type Wait = fn(Duration) -> BoxFuture<'static, ()>;

/// By the clock.
pub(super) fn wait(pause: Duration) -> BoxFuture<'static, ()> {
    Box::pin(tokio::time::sleep(pause))
}

/// The table that items are put into.
pub(super) struct Table<'a> {
    /// The server.
    pub(super) door: &'a Door,
    /// Its name.
    pub(super) name: &'a str,
    /// The names of the attributes that are its key.
    pub(super) key: Vec<String>,
    /// How it is waited before what was not processed is put again.
    pub(super) wait: Wait,
}

impl Table<'_> {
    /// Puts a wave. Gives the lines that the server refused, by their place in it, with its reason.
    pub(super) async fn put(&self, wave: &[Waiting]) -> Result<Vec<(usize, String)>, Failure> {
        let keys: Vec<String> = wave.iter().map(|waiting| self.key_of(&waiting.item)).collect();
        let (mut last, mut chosen) = (HashMap::new(), Vec::new());
        for (at, waiting) in wave.iter().enumerate() {
            if self.key.iter().all(|name| waiting.item[name.as_str()].is_object()) {
                last.insert(&keys[at], at);
            } else {
                // What has no key is refused by the server, each for itself.
                chosen.push(at);
            }
        }
        chosen.extend(last.into_values());
        chosen.sort_unstable();
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut bytes = 0;
        for at in chosen {
            let more = wave[at].line.len();
            match batches.last_mut().filter(|batch| batch.len() < BATCH_ITEMS_MAX && bytes + more <= BATCH_BYTES_MAX) {
                Some(batch) => batch.push(at),
                None => {
                    batches.push(vec![at]);
                    bytes = 0;
                }
            }
            bytes += more;
        }
        let mut refused = Vec::new();
        for ended in join_all(batches.into_iter().map(|batch| self.put_batch(wave, &keys, batch))).await {
            refused.extend(ended.map_err(failed)?);
        }
        refused.sort_unstable_by_key(|(at, _)| *at);
        Ok(refused)
    }

    /// Puts some of a wave, whose items have these keys.
    async fn put_batch(
        &self,
        wave: &[Waiting],
        keys: &[String],
        mut batch: Vec<usize>,
    ) -> Result<Vec<(usize, String)>, Trouble> {
        let (mut pause, mut in_vain) = (PAUSES.0, 0);
        while !batch.is_empty() {
            let puts: Vec<Value> = batch.iter().map(|at| json!({ "PutRequest": { "Item": wave[*at].item } })).collect();
            let body = json!({ "RequestItems": { (self.name): puts } });
            let mut answer = match self.door.ask("BatchWriteItem", &body).await {
                Err(Trouble::Refused { name, .. }) if BAD_INPUT.contains(&name.as_str()) => {
                    return self.put_each(wave, batch).await;
                }
                answer => answer?,
            };
            let left = self.left(keys, &batch, &mut answer)?;
            (pause, in_vain) = if left.len() < batch.len() { (PAUSES.0, 0) } else { (pause, in_vain + 1) };
            batch = left;
            if in_vain >= TIMES_MAX {
                let text = "leaves all items of a batch unprocessed, and has done so";
                return Err(Trouble::Unreached(format!("the table {} {text} {TIMES_MAX} times in a row", self.name)));
            }
            if !batch.is_empty() {
                (self.wait)(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
        Ok(Vec::new())
    }

    /// Which of a batch were left unprocessed; `keys` are those of the whole wave.
    fn left(&self, keys: &[String], batch: &[usize], answer: &mut Value) -> Result<Vec<usize>, Trouble> {
        let unclear = |what: &str| Trouble::Unreached(format!("BatchWriteItem was answered {what}"));
        let Some(Value::Object(tables)) = answer.get_mut("UnprocessedItems").map(Value::take) else {
            return Err(unclear("without UnprocessedItems"));
        };
        let mut left = Vec::new();
        for requests in tables.values() {
            let requests = requests.as_array().ok_or_else(|| unclear("with UnprocessedItems that are no list"))?;
            for request in requests {
                let key = self.key_of(&request["PutRequest"]["Item"]);
                let at = batch.iter().find(|at| keys[**at] == key);
                left.push(*at.ok_or_else(|| unclear("with UnprocessedItems that were not in the batch"))?);
            }
        }
        left.sort_unstable();
        left.dedup();
        Ok(left)
    }

    async fn put_each(&self, wave: &[Waiting], batch: Vec<usize>) -> Result<Vec<(usize, String)>, Trouble> {
        let mut refused = Vec::new();
        for at in batch {
            let body = json!({ "TableName": self.name, "Item": wave[at].item });
            match self.door.ask("PutItem", &body).await {
                Err(Trouble::Refused { name, message }) if BAD_INPUT.contains(&name.as_str()) => {
                    refused.push((at, format!("{name}: {message}")));
                }
                ended => drop(ended?),
            }
        }
        Ok(refused)
    }

    /// A text that two items share if they have the same key; numbers are the same however they are written.
    fn key_of(&self, item: &Value) -> String {
        let part = |name: &String| match &item[name.as_str()] {
            Value::Object(typed) => match typed.get("N").and_then(Value::as_str).map(Number::parse) {
                Some(Ok(number)) => format!("N{}", number.to_text()),
                _ => Value::Object(typed.clone()).to_string(),
            },
            other => other.to_string(),
        };
        self.key.iter().map(part).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Server, json_answer};
    use super::*;

    fn table<'a>(door: &'a Door, key: &[&str]) -> Table<'a> {
        let key = key.iter().map(|name| (*name).to_owned()).collect();
        Table { door, name: "t", key, wait: |_| Box::pin(std::future::ready(())) }
    }

    fn wave(ids: &[&str]) -> Vec<Waiting> {
        let item = |id: &str| json!({ "id": { "S": id } });
        (1..).zip(ids).map(|(number, id)| Waiting { number, line: Vec::new(), item: item(id) }).collect()
    }

    fn left_of(items: &[&Value]) -> Vec<u8> {
        let puts: Vec<Value> = items.iter().map(|item| json!({ "PutRequest": { "Item": item } })).collect();
        json_answer(&json!({ "UnprocessedItems": if puts.is_empty() { json!({}) } else { json!({ "t": puts }) } }))
    }

    /// The items that a BatchWriteItem puts.
    fn items(body: &Value) -> Vec<&Value> {
        body["RequestItems"]["t"].as_array().unwrap().iter().map(|put| &put["PutRequest"]["Item"]).collect()
    }

    #[tokio::test]
    async fn keys_are_compared_as_values() {
        let server = Server::start(|_, _, _| Vec::new()).await;
        let door = server.door();
        let table = table(&door, &["id", "sort"]);
        let key = |id: &str, sort: &str| table.key_of(&json!({ "id": { "N": id }, "sort": { "S": sort }, "x": {} }));
        assert_eq!(key("1", "a"), key("1.0", "a"));
        assert_ne!(key("1", "a"), key("1", "b"));
        assert_ne!(key("1", "a"), table.key_of(&json!({ "id": { "S": "1" }, "sort": { "S": "a" } })));
        assert_eq!(table.key_of(&json!({})), table.key_of(&json!({})), "what has no key is for the server to refuse");
    }

    #[tokio::test]
    async fn the_last_line_of_a_key_is_put_and_each_that_has_none() {
        // Once an item is left, which is told in another spelling of its key.
        let server = Server::start(|number, _, _| match number {
            0 => left_of(&[&json!({ "id": { "N": "1" } })]),
            _ => left_of(&[]),
        })
        .await;
        let door = server.door();
        let line = |number: u64, item: Value| Waiting { number, line: Vec::new(), item };
        let last = json!({ "id": { "N": "1.0" }, "x": { "S": "last" } });
        let wave = [
            line(1, json!({ "id": { "N": "1" } })),
            line(2, json!({ "x": { "S": "a" } })),
            line(3, json!({ "x": { "S": "b" } })),
            line(4, last.clone()),
        ];
        assert!(table(&door, &["id"]).put(&wave).await.unwrap().is_empty());
        let asked: Vec<Vec<Value>> =
            server.asked().iter().map(|(_, body)| items(body).into_iter().cloned().collect()).collect();
        assert_eq!(asked, [vec![wave[1].item.clone(), wave[2].item.clone(), last.clone()], vec![last]]);
    }

    #[tokio::test]
    async fn what_is_left_is_put_again_for_as_long_as_any_of_it_is_taken() {
        // Of each batch one item is taken, and only every twentieth time.
        let server = Server::start(|number, _, body| {
            let all = items(body);
            left_of(&all[usize::from(number % 20 == 19)..])
        })
        .await;
        let door = server.door();
        let refused = table(&door, &["id"]).put(&wave(&["a", "b", "c"])).await.unwrap();
        assert!(refused.is_empty());
        let sizes: Vec<usize> = server.asked().iter().map(|(_, body)| items(body).len()).collect();
        assert_eq!(sizes, [[3; 20], [2; 20], [1; 20]].concat(), "what was taken is not put again");
    }

    #[tokio::test]
    async fn a_server_that_takes_nothing_is_given_up() {
        let server = Server::start(|_, _, body| left_of(&items(body))).await;
        let door = server.door();
        let failure = table(&door, &["id"]).put(&wave(&["a", "b"])).await.unwrap_err();
        let text = format!("{failure:?}");
        assert!(text.contains("unprocessed") && text.contains("30 times") && text.contains("to go on"), "{text}");
        assert_eq!(server.asked().len(), TIMES_MAX as usize);
        let total: Duration = (0..TIMES_MAX).map(|time| (PAUSES.0 * 2u32.pow(time.min(10))).min(PAUSES.1)).sum();
        assert!((60..300).contains(&total.as_secs()), "{total:?} is long enough for what passes, and no longer");
    }

    #[tokio::test]
    async fn an_answer_that_leaves_open_what_was_done_is_no_success() {
        let answers = [
            json!(null),
            json!([]),
            json!("fine"),
            json!({}),
            json!({ "UnprocessedItems": null }),
            json!({ "UnprocessedItems": [] }),
            json!({ "UnprocessedItems": { "t": {} } }),
            json!({ "UnprocessedItems": { "t": [{}] } }),
            json!({ "UnprocessedItems": { "t": [{ "PutRequest": { "Item": { "id": { "S": "other" } } } }] } }),
        ];
        for answer in answers {
            let told = answer.clone();
            let server = Server::start(move |_, _, _| json_answer(&told)).await;
            let door = server.door();
            let failure = table(&door, &["id"]).put(&wave(&["a"])).await.unwrap_err();
            let failure = format!("{failure:?}");
            assert!(failure.contains("BatchWriteItem was answered with"), "{answer}: {failure}");
            assert_eq!(server.asked().len(), 1, "{answer}");
        }
    }
}
