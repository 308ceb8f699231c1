//! Who may do what, on every route of the table: whoever adds a route is tested here without knowing it.

use super::*;
use crate::api::auth::Need;
use crate::api::rest::parameters::Parameter;
use crate::api::rest::routes::{Endpoint, ROUTES, Route, Segment};
use crate::services::ports::Capability;

const ALL: &[Capability] = &[Capability::Read, Capability::Write, Capability::Admin];
const DEFINITION: &str = r#"{"id_type":"String"}"#;

/// A path of this route within this tenant.
fn path(route: &Route, tenant: &str) -> String {
    let sorted = route.pattern.contains(&Segment::Any(Parameter::Sort));
    let one = |segment: &Segment| match segment {
        Segment::Literal(text) => (*text).to_owned(),
        Segment::Any(Parameter::Tenant) => tenant.to_owned(),
        Segment::Any(Parameter::Table) => if sorted { "sorted" } else { "plain" }.to_owned(),
        Segment::Any(Parameter::Id) => "a".to_owned(),
        Segment::Any(Parameter::Sort) => "7".to_owned(),
        Segment::Any(Parameter::Receipt) => "00000000-0000-8000-8000-000000000000".to_owned(),
    };
    route.pattern.iter().map(|segment| format!("/{}", one(segment))).collect()
}

fn endpoints() -> impl Iterator<Item = (&'static Route, &'static Endpoint)> {
    ROUTES.iter().flat_map(|route| route.endpoints.iter().map(move |endpoint| (route, endpoint)))
}

async fn ask(fixture: &Fixture, token: &str, endpoint: &Endpoint, path: &str) -> Answer {
    let body = if endpoint.media_types.is_empty() { "" } else { DEFINITION };
    // The same tag for all: problems tell it, and are compared word for word.
    fixture.ask_as(token, endpoint.method.as_str(), path, &[("x-request-id", "one")], body).await
}

#[tokio::test]
async fn every_route_but_health_and_description_needs_a_credential() {
    let fixture = Fixture::start().await;
    for (route, endpoint) in endpoints() {
        for token in ["", "nonsense", "a.b.c.d.e"] {
            let answer = ask(&fixture, token, endpoint, &path(route, "acme")).await;
            let what = format!("{} {} with {token:?}", endpoint.method, route.template());
            if endpoint.need == Need::Nothing {
                assert_eq!(answer.status, 200, "{what}");
            } else {
                assert_eq!((answer.status, answer.problem().as_str()), (401, "unauthenticated"), "{what}");
                assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}");
                assert_eq!(answer.header("dstore-rid"), "", "{what}");
            }
        }
    }
}

#[tokio::test]
async fn another_tenant_is_not_there_on_any_route() {
    let fixture = Fixture::start().await;
    for capabilities in [ALL, &[]] {
        let token = fixture.token(Some("acme"), capabilities);
        for (route, endpoint) in endpoints() {
            if !route.pattern.contains(&Segment::Any(Parameter::Tenant)) {
                continue;
            }
            let what = format!("{} {}", endpoint.method, route.template());
            let there = ask(&fixture, &token, endpoint, &path(route, "globex")).await;
            let nowhere = ask(&fixture, &token, endpoint, &path(route, "nowhere")).await;
            assert_eq!((there.status, there.problem().as_str()), (404, "not-found"), "{what}");
            assert_eq!(there.text.replace("globex", "nowhere"), nowhere.text, "{what}: word for word the same");
            assert_eq!(there.headers.keys().collect::<Vec<_>>(), nowhere.headers.keys().collect::<Vec<_>>(), "{what}");
        }
    }
    let catalog = fixture.ask("GET", "/v1/tenant", &[], "").await;
    assert!(catalog.text.contains("globex") && !catalog.text.contains("nowhere"), "nothing was made or deleted");
}

#[tokio::test]
async fn within_its_tenant_a_principal_may_do_what_it_has_the_capability_for() {
    let fixture = Fixture::start().await;
    for (route, endpoint) in endpoints() {
        let wanted = match endpoint.need {
            Need::Nothing | Need::Anybody => continue,
            Need::AnyOf(wanted) => wanted,
            Need::Root => &[],
        };
        let lacking: Vec<Capability> = ALL.iter().copied().filter(|one| !wanted.contains(one)).collect();
        let what = format!("{} {}", endpoint.method, route.template());
        let path = path(route, "acme");
        let denied = ask(&fixture, &fixture.token(Some("acme"), &lacking), endpoint, &path).await;
        assert_eq!((denied.status, denied.problem().as_str()), (403, "denied"), "{what}");
        for capability in wanted {
            // Something may be missing (404) or there already (409), but it is not for want of a right.
            let allowed = ask(&fixture, &fixture.token(Some("acme"), &[*capability]), endpoint, &path).await;
            assert!(![401, 403].contains(&allowed.status), "{what} with {capability:?}: {allowed:?}");
        }
    }
}

#[tokio::test]
async fn root_may_do_everything() {
    let fixture = Fixture::start().await;
    for (route, endpoint) in endpoints() {
        let answer = ask(&fixture, &fixture.root, endpoint, &path(route, "acme")).await;
        assert!(![401, 403].contains(&answer.status), "{} {}: {answer:?}", endpoint.method, route.template());
    }
}

#[tokio::test]
async fn admin_and_inside_are_not_on_this_port() {
    let fixture = Fixture::start().await;
    for path in ["/admin/v1/status", "/inside/v1/range", "/metrics", "/v1", "/v1/", "/favicon.ico"] {
        for token in ["", fixture.root.as_str()] {
            let answer = fixture.ask_as(token, "GET", path, &[], "").await;
            assert_eq!((answer.status, answer.problem().as_str()), (404, "not-found"), "{path}");
        }
    }
}
