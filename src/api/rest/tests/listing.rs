//! Listings: whole, in pages, in order, and only with cursors that were given out for them.

use super::*;
use serde_json::{Value, json};

const LIST: &str = "/v1/tenant/acme/table/plain/id";

fn entries<'a>(page: &'a Value, name: &str) -> Vec<&'a Value> {
    page["items"].as_array().unwrap().iter().map(|entry| &entry[name]).collect()
}

async fn fill_sorted(fixture: &Fixture) {
    for sort in [-5, 0, 3, 20, 100] {
        let path = format!("{SORTED}a/sort/{sort}");
        assert_eq!(fixture.ask("PUT", &path, &[], &format!(r#"{{"n":{sort}}}"#)).await.status, 201);
    }
    assert_eq!(fixture.ask("PUT", &format!("{SORTED}b/sort/1"), &[], "{}").await.status, 201);
}

#[tokio::test]
async fn a_table_is_listed_in_pages_without_gap_or_repetition() {
    let fixture = Fixture::start().await;
    for number in 0..7 {
        put(&fixture, &format!("id{number}"), &format!(r#"{{"n":{number}}}"#)).await;
    }
    let whole = fixture.ask("GET", LIST, &[], "").await.json();
    assert_eq!((entries(&whole, "id").len(), &whole["cursor"]), (7, &Value::Null));
    assert_eq!(whole["rid"], "rid:dStore:acme:NA:table:plain");
    let one = &whole["items"][0];
    let alone = get(&fixture, one["id"].as_str().unwrap()).await;
    assert_eq!((&one["item"], one["etag"].as_str()), (&alone.json(), Some(alone.header("etag"))));
    assert!(one.get("sort").is_none());
    let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = fixture.ask("GET", &format!("{LIST}?limit=3{cursor}"), &[], "").await.json();
        found.extend(entries(&page, "id").into_iter().cloned());
        pages += 1;
        let Some(next) = page["cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(pages, 3);
    assert_eq!(found.iter().collect::<Vec<_>>(), entries(&whole, "id"));
}

#[tokio::test]
async fn items_of_one_id_are_queried_by_sort_key() {
    let fixture = Fixture::start().await;
    fill_sorted(&fixture).await;
    let cases = [
        ("", vec![-5, 0, 3, 20, 100]),
        ("?descending=true", vec![100, 20, 3, 0, -5]),
        ("?sort_from=0&sort_to=20", vec![0, 3, 20]),
        ("?sort_from=1", vec![3, 20, 100]),
        ("?sort_to=-1", vec![-5]),
        ("?sort_from=5&sort_to=4", vec![]),
        ("?limit=2&consistency=eventual", vec![-5, 0]),
    ];
    for (query, expected) in cases {
        let page = fixture.ask("GET", &format!("{SORTED}a{query}"), &[], "").await.json();
        let expected: Vec<Value> = expected.into_iter().map(Value::from).collect();
        assert_eq!(entries(&page, "sort"), expected.iter().collect::<Vec<_>>(), "{query}");
        assert!(entries(&page, "id").iter().all(|id| **id == json!("a")), "{query}");
    }
}

#[tokio::test]
async fn queries_go_on_in_both_directions() {
    let fixture = Fixture::start().await;
    fill_sorted(&fixture).await;
    for (descending, expected) in [(false, [0, 3, 20]), (true, [20, 3, 0])] {
        let query = format!("{SORTED}a?sort_from=0&sort_to=20&descending={descending}");
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = fixture.ask("GET", &format!("{query}&limit=1{cursor}"), &[], "").await.json();
            found.extend(entries(&page, "sort").into_iter().filter_map(Value::as_i64));
            let Some(next) = page["cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, expected, "descending={descending}");
    }
}

#[tokio::test]
async fn string_sort_keys_are_queried_by_prefix() {
    let fixture = Fixture::start().await;
    let table = "/v1/tenant/acme/table/words";
    fixture.ask("PUT", table, &[], r#"{"id_type":"Integer","sort_type":"String"}"#).await;
    for sort in ["a", "ab", "ab%2Fc", "abc", "b"] {
        assert_eq!(fixture.ask("PUT", &format!("{table}/id/1/sort/{sort}"), &[], "{}").await.status, 201);
    }
    let page = fixture.ask("GET", &format!("{table}/id/1?sort_prefix=ab"), &[], "").await.json();
    assert_eq!(entries(&page, "sort"), [&json!("ab"), &json!("ab/c"), &json!("abc")]);
    let page = fixture.ask("GET", &format!("{table}/id/1?sort_prefix=ab&sort_from=abc"), &[], "").await.json();
    assert_eq!(entries(&page, "sort"), [&json!("abc")]);
}

#[tokio::test]
async fn a_cursor_fits_its_own_listing_only() {
    let fixture = Fixture::start().await;
    fill_sorted(&fixture).await;
    let query = format!("{SORTED}a?sort_from=0&limit=1");
    let page = fixture.ask("GET", &query, &[], "").await.json();
    let cursor = page["cursor"].as_str().unwrap();
    let with = |path: &str| format!("{path}{}cursor={cursor}", if path.contains('?') { "&" } else { "?" });
    assert_eq!(fixture.ask("GET", &with(&query), &[], "").await.status, 200);
    let larger = format!("{SORTED}a?sort_from=0&limit=9");
    assert_eq!(fixture.ask("GET", &with(&larger), &[], "").await.status, 200, "the size of a page may change");
    let others = [
        format!("{SORTED}a"),
        format!("{SORTED}a?sort_from=1"),
        format!("{SORTED}a?sort_from=0&descending=true"),
        format!("{SORTED}b?sort_from=0"),
        "/v1/tenant/acme/table/sorted/id".to_owned(),
        "/v1/tenant/globex/table/sorted/id/a?sort_from=0".to_owned(),
        "/v1/tenant/acme/table".to_owned(),
    ];
    for other in others {
        let answer = fixture.ask("GET", &with(&other), &[], "").await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-input"), "{other}");
    }
    let changed = format!("{}A{}", &cursor[..20], &cursor[21..]);
    let changed = if changed == cursor { cursor.replacen(&cursor[20..21], "B", 1) } else { changed };
    assert_eq!(fixture.ask("GET", &format!("{query}&cursor={changed}"), &[], "").await.status, 400);
    assert_eq!(fixture.ask("GET", &format!("{query}&cursor="), &[], "").await.status, 400);
}
