//! The tag of a request: the client's, or one of its own, in every answer and every problem.

use super::*;

fn tag(answer: &Answer) -> String {
    answer.header("x-request-id").to_owned()
}

#[tokio::test]
async fn every_answer_has_a_tag_of_its_own_or_the_clients() {
    let fixture = Fixture::start().await;
    put(&fixture, "a", "{}").await;
    let mut seen = std::collections::HashSet::new();
    for (path, status) in [("a", 200), ("missing", 404), ("a?no-such=1", 400)] {
        let answer = get(&fixture, path).await;
        assert_eq!(answer.status, status);
        assert_eq!(tag(&answer).len(), 32, "{path}");
        assert!(seen.insert(tag(&answer)));
        let chosen = fixture.ask("GET", &format!("{PLAIN}{path}"), &[("X-Request-ID", "mine.7")], "").await;
        assert_eq!((chosen.status, tag(&chosen).as_str()), (status, "mine.7"));
        for bad in ["with space", "a/b", &"x".repeat(65)] {
            let answer = fixture.ask("GET", &format!("{PLAIN}{path}"), &[("x-request-id", bad)], "").await;
            assert_eq!((answer.status, tag(&answer).len()), (status, 32), "{bad:?} counts as not sent");
        }
    }
}

#[tokio::test]
async fn problems_tell_the_tag() {
    let fixture = Fixture::start().await;
    let asked = [("DELETE", "/v1/tenant"), ("GET", "/nothing"), ("GET", "/v1/tenant/acme/table/plain/id/missing")];
    for (method, path) in asked {
        let answer = fixture.ask(method, path, &[("x-request-id", "mine")], "").await;
        let problem: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!((problem["request_id"].as_str(), tag(&answer).as_str()), (Some("mine"), "mine"), "{method} {path}");
    }
    let made = get(&fixture, "missing").await;
    assert!(made.text.contains(&tag(&made)), "{}", made.text);
}
