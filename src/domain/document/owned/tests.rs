//! Documents against plain trees, the examples of RFC 7396, and everything that must be refused.

use super::*;
use crate::domain::document::sample::{self, Tree, items, messy_map, tidy_map};
use crate::domain::document::{BuildError, Builder};
use proptest::prelude::*;

fn refused(json: &str) -> String {
    match Document::from_json(json.as_bytes()) {
        Ok(_) => panic!("{json} was read"),
        Err(refusal) => refusal.message,
    }
}

fn tidied(json: &str) -> String {
    Document::from_json(json.as_bytes()).unwrap_or_else(|refusal| panic!("{json}: {refusal}")).to_json()
}

#[test]
fn the_bytes_are_as_documented() {
    let document = Document::from_json(br#"{"n":-1.50,"b":[true,{}],"":""}"#).unwrap();
    let entries =
        [&[0, 5, 0][..], &[1, b'b', 8, 6, 0, 0, 0, 3, 7, 0, 0, 0, 0], &[1, b'n', 4, 4, b'-', b'1', b'.', b'5']];
    // Names 2, the list 3 + 2 elements, true 1, the empty map 3, -1.5 has two digits: 2.
    assert_eq!(document.item_size(), 2 + 5 + 1 + 3 + 2);
    assert_eq!(document.as_bytes(), [&[1, 13, 0, 0, 0][..], &entries.concat()].concat());
    assert_eq!(Document::empty(), Document::from_json(b" { } ").unwrap());
}

#[test]
fn nesting_is_limited_to_32_levels() {
    let lists = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    let maps = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    for nested in [&lists as &dyn Fn(usize) -> String, &maps] {
        assert_eq!(tidied(&nested(32)), nested(32));
        assert!(refused(&nested(33)).contains("32 levels"));
        assert!(refused(&nested(500)).contains("32 levels"));
        assert!(refused(&nested(100_000)).contains("32 levels"));
    }
    // What stands for a set or for binary is no level.
    let deepest = format!("{}{{\"$string_set\":[\"x\"]}}{}", "{\"a\":".repeat(32), "}".repeat(32));
    assert_eq!(tidied(&deepest), deepest);
    let special = format!("{}1{}", "{\"$binary\":".repeat(100_000), "}".repeat(100_000));
    refused(&special);
}

#[test]
fn what_cannot_be_stored_is_refused_with_its_place() {
    for (json, message) in [
        ("", "line 1"),
        ("[]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("{\"a\":1,\n \"a\":2}", "a name stands twice in one object; at line 2"),
        ("{\"a\":1,\"b\":2,\"a\":3}", "a name stands twice"),
        ("{\"b\":1,\"a\":2,\"\\u0061\":3}", "a name stands twice"),
        ("{\"x\":{\"b\":1,\"a\":2,\"b\":3}}", "a name stands twice"),
        ("{\"a\":123456789012345678901234567890123456789}", "38 significant digits"),
        ("{\"a\":1e126}", "9.9999"),
        ("{\"a\":1e-131}", "1E-130"),
        ("{\"a\":\"\\ud800\"}", "not JSON"),
        ("{\"a\":\"\\ud800\\u0041\"}", "not JSON"),
        ("{\"a\":\"\\udc00\\ud800\"}", "not JSON"),
        ("{\"a\":01}", "not JSON"),
        ("{\"a\":+1}", "not JSON"),
        ("{\"a\":.5}", "not JSON"),
        ("{\"a\":1.}", "not JSON"),
        ("{\"a\":NaN}", "not JSON"),
        ("{\"a\":-Infinity}", "not JSON"),
        ("{\"a\":nul}", "not JSON"),
        ("{\"a\":1,}", "not JSON"),
        ("{\"a\":[1,]}", "not JSON"),
        ("{\"a\":'x'}", "not JSON"),
        ("{a:1}", "not JSON"),
        ("{\"a\":\"\n\"}", "not JSON"),
        ("{\"a\" 1}", "not JSON"),
        ("{\"a\":1}\n\nx", "line 3, column 1"),
        ("{\"a\":1", "not JSON"),
        ("\u{feff}{}", "line 1"),
    ] {
        let told = refused(json);
        assert!(told.contains(message), "{json}: {told}");
        assert!(told.contains("; at line "), "{json}: {told}");
    }
    assert!(Document::from_json(b"{\"a\":\"\xff\"}").is_err());
    assert!(Document::from_json(b"{\"\xc3\":1}").is_err());
    assert!(Document::from_json(b"{\"a\":{\"$binary\":\"\xff\"}}").is_err());
    let digits = format!("{{\"a\":1{}}}", "0".repeat(5000));
    assert!(refused(&digits).contains("number"), "{}", refused(&digits));
    let name = "n".repeat(65_536);
    assert!(refused(&format!("{{\"{name}\":1}}")).contains("65535 bytes"));
    assert!(Document::from_json(format!("{{\"{}\":1}}", &name[1..]).as_bytes()).is_ok());
}

#[test]
fn special_objects_are_read_strictly() {
    for same in [
        r#"{"a":{"$binary":"AAH/"}}"#,
        r#"{"a":{"$string_set":["","a"]}}"#,
        r#"{"a":{"$number_set":[-10,-9.5,0,2,10]}}"#,
        r#"{"a":{"$binary_set":["","AA=="]}}"#,
        r#"{"a":{"$$binary":1}}"#,
        r#"{"a":{"$$$number_set":{"$$binary":null}}}"#,
        r#"{"a":{"$binary":1,"b":2}}"#,
        r#"{"a":{"$$binary":1,"$binary":2}}"#,
        r#"{"$binary":1}"#,
        r#"{"$$binary":1}"#,
        r#"{"a":{"$":1},"b":{"$other":1},"c":{"$$other":1}}"#,
    ] {
        assert_eq!(tidied(same), *same);
    }
    for bad in [
        r#"{"a":{"$binary":1}}"#,
        r#"{"a":{"$binary":null}}"#,
        r#"{"a":{"$binary":"AA"}}"#,
        r#"{"a":{"$binary":"AA==\n"}}"#,
        r#"{"a":{"$binary":"-_8="}}"#,
        r#"{"a":{"$string_set":[]}}"#,
        r#"{"a":{"$string_set":["a","b","a"]}}"#,
        r#"{"a":{"$string_set":[1]}}"#,
        r#"{"a":{"$string_set":"a"}}"#,
        r#"{"a":{"$number_set":["1"]}}"#,
        r#"{"a":{"$number_set":[1,1.0]}}"#,
        r#"{"a":{"$number_set":[1e999]}}"#,
        r#"{"a":{"$binary_set":["A"]}}"#,
        r#"{"a":{"$binary_set":["AA==","AA=="]}}"#,
    ] {
        refused(bad);
    }
}

/// RFC 7396, appendix A, where both sides are objects; a target that is none cannot be an item.
#[test]
fn merges_are_those_of_the_rfc() {
    for (base, patch, expected) in [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
        (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        // Section 3.
        (
            r#"{"title":"Goodbye!","author":{"givenName":"John","familyName":"Doe"},"tags":["example","sample"],"content":"This will be unchanged"}"#,
            r#"{"title":"Hello!","phoneNumber":"+01-123-456-7890","author":{"familyName":null},"tags":["example"]}"#,
            r#"{"author":{"givenName":"John"},"content":"This will be unchanged","phoneNumber":"+01-123-456-7890","tags":["example"],"title":"Hello!"}"#,
        ),
    ] {
        let read = |json: &str| Document::from_json(json.as_bytes()).unwrap();
        assert_eq!(read(base).merge_patch(&read(patch)).unwrap().to_json(), expected, "{base} + {patch}");
    }
}

#[test]
fn the_builder_refuses_what_makes_no_sense() {
    let fails = |build: &dyn Fn(&mut Builder) -> Result<(), BuildError>| build(&mut Builder::new()).unwrap_err();
    assert_eq!(fails(&|builder| builder.null()), BuildError::Unbalanced);
    assert_eq!(fails(&|builder| builder.close_map()), BuildError::Unbalanced);
    assert_eq!(fails(&|builder| builder.close_list()), BuildError::Unbalanced);
    assert_eq!(
        fails(&|builder| {
            builder.name("a")?;
            builder.name("b")
        }),
        BuildError::Unbalanced
    );
    assert_eq!(
        fails(&|builder| {
            builder.name("a")?;
            builder.open_list()?;
            builder.close_map()
        }),
        BuildError::Unbalanced
    );
    let mut open = Builder::new();
    open.name("a").unwrap();
    assert_eq!(open.finish().unwrap_err(), BuildError::Unbalanced);
    assert_eq!(
        fails(&|builder| {
            builder.name("a")?;
            builder.string_set([])
        }),
        BuildError::EmptySet
    );
}

#[test]
fn damaged_bytes_are_refused_each_for_its_reason() {
    let with = |body: &[u8], size: u8| Document::from_bytes([&[1, size, 0, 0, 0], body].concat().into());
    assert!(with(&[1, b'a', 1], 2).is_ok());
    for (body, size, error) in [
        (&[1, b'a', 1][..], 3, DocumentError::ItemSize),
        (&[1, b'a', 0], 2, DocumentError::Structure),
        (&[1, b'a', 12], 2, DocumentError::Structure),
        (&[1, b'a'], 2, DocumentError::Structure),
        (&[2, b'a', 1], 2, DocumentError::Structure),
        (&[0x81, 0, b'a', 1], 2, DocumentError::Structure),
        (&[1, b'b', 1, 1, b'a', 1], 4, DocumentError::Names),
        (&[1, b'a', 1, 1, b'a', 1], 4, DocumentError::Names),
        (&[1, 0xff, 1], 2, DocumentError::Text),
        (&[1, b'a', 5, 1, 0xff], 2, DocumentError::Text),
        (&[1, b'a', 4, 2, b'0', b'1'], 3, DocumentError::Number),
        (&[1, b'a', 4, 0], 2, DocumentError::Number),
        (&[1, b'a', 9, 0, 0, 0, 0], 1, DocumentError::Set),
        (&[1, b'a', 9, 4, 0, 0, 0, 1, b'b', 1, b'a'], 3, DocumentError::Set),
        (&[1, b'a', 10, 5, 0, 0, 0, 2, b'1', b'0', 1, b'9'], 5, DocumentError::Set),
    ] {
        assert_eq!(with(body, size), Err(error), "{body:?}");
    }
    assert_eq!(Document::from_bytes(Bytes::from_static(&[2, 0, 0, 0, 0])), Err(DocumentError::Format));
    assert_eq!(Document::from_bytes(Bytes::from_static(&[1, 0, 0])), Err(DocumentError::Structure));
}

#[test]
fn debug_shows_no_value() {
    let document = Document::from_json(br#"{"name":"secret"}"#).unwrap();
    assert!(!format!("{document:?} {:?} {:?}", document.root(), document.entries()).contains("secret"));
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(item in items()) {
        let document = sample::document(&item);
        prop_assert_eq!(document.to_json(), tidy_map(&item, true));
        prop_assert_eq!(document.item_size(), sample::item_size(&item));
        prop_assert_eq!(Document::from_bytes(document.bytes().clone()), Ok(document.clone()));
        prop_assert_eq!(&Document::from_json(document.to_json().as_bytes()).unwrap(), &document);
        // One buffer may serve for many documents.
        let mut buffer = b"[".to_vec();
        document.write_json(&mut buffer);
        prop_assert!(buffer[1..] == *document.to_json().as_bytes());
    }

    #[test]
    fn views_show_what_went_in(item in items()) {
        let document = sample::document(&item);
        let tidy = sample::document(&item).to_json();
        let Tree::Map(seen) = Tree::of(document.root()) else { panic!("the root is a map") };
        prop_assert_eq!(tidy_map(&seen, true), tidy);
        prop_assert_eq!(document.entries().len(), item.len());
        for (name, value) in &item {
            prop_assert_eq!(Tree::of(document.get(name).unwrap()).tidy(), value.tidy());
        }
        prop_assert!(document.get("a name that no item has").is_none());
    }

    #[test]
    fn other_parsers_read_what_is_written(item in items()) {
        let written: serde_json::Value = serde_json::from_str(&sample::document(&item).to_json()).unwrap();
        let expected: serde_json::Value = serde_json::from_str(&messy_map(&item, true)).unwrap();
        // Sets lose their order and numbers their spelling on the way; names stay.
        let names = |value: &serde_json::Value| value.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>());
        prop_assert_eq!(names(&written), names(&expected));
    }

    #[test]
    fn the_builder_copies_values(item in items()) {
        let document = sample::document(&item);
        let mut builder = Builder::new();
        // Backwards, so that it must sort.
        let entries: Vec<_> = document.entries().collect();
        for (name, node) in entries.into_iter().rev() {
            builder.name(name).unwrap();
            builder.node(node).unwrap();
        }
        prop_assert_eq!(builder.finish().unwrap(), document);
    }

    #[test]
    fn merges_follow_the_rfc(base in items(), patch in items()) {
        let merged = sample::document(&base).merge_patch(&sample::document(&patch)).unwrap();
        let Tree::Map(expected) = sample::merge_patch(Some(Tree::Map(base)), &Tree::Map(patch)) else { panic!("a map") };
        prop_assert_eq!(merged.to_json(), tidy_map(&expected, true));
        prop_assert_eq!(merged.item_size(), sample::item_size(&expected));
    }

    #[test]
    fn no_bytes_panic(item in items(), at: proptest::sample::Index, byte: u8, cut: bool) {
        let mut bytes = sample::document(&item).as_bytes().to_vec();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        fuzz_document(&bytes);
        let mut json = messy_map(&item, true).into_bytes();
        let at = at % json.len();
        if cut { json.truncate(at) } else { json[at] = byte }
        fuzz_json(&json);
    }
}
