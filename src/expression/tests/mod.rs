//! Texts and what they become, texts of errors and their order, limits; and properties against a naive model.

mod bounds;
mod conditions;
mod model;
mod printer;
mod properties;
mod requests;
mod trees;
mod updates;

use std::collections::BTreeMap;

use super::*;
use crate::domain::document::Document;

/// Names of the substitutions below.
const NAMES: &[(&str, &str)] = &[("#a", "a"), ("#b", "b"), ("#n", "name"), ("#dot", "x.y")];
/// Values of the substitutions below.
const VALUES: &str = r#"{"n":5,"one":1,"two":2,"s":"abc","t":"abd","bool":true,"null":null,"l":[1,2],"m":{"x":1},"x":{"$binary":"AAE="},
    "ss":{"$string_set":["a","b"]},"sb":{"$string_set":["b","c"]},"ns":{"$number_set":[1,2]},"bs":{"$binary_set":["AA=="]},
    "type":"S","wrong":"STRING"}"#;

fn names() -> BTreeMap<String, String> {
    NAMES.iter().map(|(placeholder, name)| ((*placeholder).to_owned(), (*name).to_owned())).collect()
}

fn json(text: &str) -> Document {
    Document::from_json(text.as_bytes()).unwrap()
}

fn with<T>(run: impl FnOnce(&mut Substitutions<'_>) -> Result<T, ExpressionError>) -> Result<T, String> {
    let names = names();
    let mut substitutions = Substitutions::new(Some(&names), Some(json(VALUES))).map_err(|error| error.message)?;
    run(&mut substitutions).map_err(|error| error.message)
}

fn condition(text: &str) -> Result<Condition, String> {
    with(|substitutions| super::condition::parse(Role::Condition, text, substitutions))
}

fn update(text: &str) -> Result<Update, String> {
    with(|substitutions| super::update::parse(text, substitutions))
}

fn projection(text: &str) -> Result<Projection, String> {
    with(|substitutions| super::projection::parse(text, substitutions))
}

fn key_condition(text: &str) -> Result<KeyCondition, String> {
    with(|substitutions| super::key_condition::parse(text, substitutions))
}

/// Checks (text, error without its beginning) pairs.
fn refused<T>(read: impl Fn(&str) -> Result<T, String>, role: Role, cases: &[(&str, &str)]) {
    for (text, error) in cases {
        let found = read(text).map(|_| ()).unwrap_err();
        assert_eq!(found, format!("Invalid {role}: {error}"), "{text}");
    }
}

const ITEM: &str = r#"{"a":{"b":[1,{"c":"x"},3],"c":{}},"num":5,"str":"abcdef","tags":{"$string_set":["a","b"]},"lst":[1,2,3],
    "nums":{"$number_set":[1,2.5]},"bin":{"$binary":"AAEC"},"x.y":1,"yes":true}"#;
