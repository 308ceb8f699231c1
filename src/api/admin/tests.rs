//! Who may ask what, on every route of the table, and a tenant's admin at work over real HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::permissions::{AdminNeed, admit, permit};
use super::routes::ROUTES;
use super::{AdminCall, AdminState, surface};
use crate::api::server::{self, Listener, RunningServer, ServerOptions};
use crate::domain::ids::{PrincipalId, SessionId};
use crate::domain::{Clock, Refusal, TenantName};
use crate::services::access::{AccessLists, TokenAuthenticator, TokenKeys};
use crate::services::control::testing::{Cluster, specification, table};
use crate::services::control::{PrincipalRequest, SessionStart};
use crate::services::ports::{Caller, Capability, Catalog};

const ALL: &[Capability] = &[Capability::Read, Capability::Write, Capability::Admin];

/// Two tenants; in `acme` a table, and a principal with a token and an access key.
struct World {
    cluster: Cluster,
    writer: PrincipalId,
    session: SessionId,
    access_key_id: String,
}

impl World {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        let acme = cluster.tenant("acme").await;
        cluster.tenant("globex").await;
        cluster.node(1, "a").await;
        cluster.plane.create_table(&cluster.root, &acme, &table("users"), specification(1, 1)).await.unwrap();
        let asked = PrincipalRequest {
            name: "writer".to_owned(),
            tenant: Some(acme),
            capabilities: vec![Capability::Read, Capability::Write],
        };
        let writer = cluster.plane.principal_create(&cluster.root, asked).await.unwrap().id;
        let granted = cluster.plane.session_start(&cluster.root, writer, SessionStart::default()).await.unwrap();
        let key = cluster.plane.access_key_create(&cluster.root, writer).await.unwrap();
        Self { cluster, writer, session: granted.session.id, access_key_id: key.access_key_id }
    }

    /// A principal of this tenant as whoever has proved to be it.
    fn caller(&self, tenant: &str, capabilities: &[Capability]) -> Caller {
        let name = TenantName::new(tenant).unwrap();
        let id = self.cluster.plane.tenant(&name).unwrap().id;
        Caller {
            principal: PrincipalId::from_bytes([9; 16]),
            name: "someone".to_owned(),
            tenant: Some((id, name)),
            capabilities: capabilities.to_vec(),
        }
    }

    /// A call of a route about what is `acme`'s, or the cluster's.
    fn call(&self, caller: &Caller, path: &str, method: &str, query: &[&'static str]) -> AdminCall {
        let writer = self.writer.to_string();
        let value = |name: &str| match name {
            "tenant" => "acme".to_owned(),
            "table" => "users".to_owned(),
            "principal" => writer.clone(),
            "session" => self.session.to_string(),
            "id" => self.access_key_id.clone(),
            "resource" => "table/acme/users".to_owned(),
            "kind" => "token".to_owned(),
            _ => PrincipalId::from_bytes([1; 16]).to_string(),
        };
        let named = |part: &'static str| part.strip_prefix('{')?.strip_suffix('}');
        let path: &'static str = ROUTES.iter().find(|route| route.path == path).unwrap().path;
        let parameters = path.split('/').filter_map(named).map(|name| (name, value(name))).collect();
        let asked = query.iter().filter(|name| ["tenant", "principal", "resource"].contains(*name));
        let query = asked.map(|name| (*name, value(name))).collect();
        let body = match (method, path) {
            ("POST", "/admin/v1/principal") => json!({"name": "new", "tenant": "acme", "capabilities": ["read"]}),
            _ => json!({ "principal": writer }),
        };
        AdminCall::of_test(Arc::new(caller.clone()), parameters, query, &body.to_string())
    }

    async fn may(&self, caller: &Caller, route: &super::routes::AdminRoute) -> Result<(), Refusal> {
        let call = self.call(caller, route.path, route.method, route.query);
        let tenant = Some(call.text("tenant")).filter(|tenant| !tenant.is_empty());
        admit(caller, route.need, tenant)?;
        permit(&self.cluster.plane, route.need, &call).await
    }
}

/// What each of these may ask, a line for each route.
async fn found(world: &World, callers: &[Caller]) -> String {
    let mut found = String::new();
    for route in ROUTES {
        found.push_str(&format!("{} {}:", route.method, route.path.trim_start_matches("/admin/v1/")));
        for caller in callers {
            found.push_str(match world.may(caller, route).await {
                Ok(()) => " yes",
                Err(refusal) if refusal.kind == crate::domain::RefusalKind::NotFound => " 404",
                Err(refusal) if refusal.kind == crate::domain::RefusalKind::Denied => " 403",
                Err(refusal) => panic!("{} {}: {refusal}", route.method, route.path),
            });
        }
        found.push('\n');
    }
    found
}

/// Who may ask what: a changed line here is a changed permission.
#[tokio::test]
async fn the_permissions_are_pinned() {
    let world = World::start().await;
    let callers = [
        world.cluster.root.clone(),
        world.caller("acme", ALL),
        world.caller("globex", ALL),
        world.caller("acme", &[Capability::Read, Capability::Write]),
    ];
    let found = found(&world, &callers).await;
    // root, an admin of the tenant, an admin of another one, a principal of the tenant without admin
    let expected = "\
        GET status: yes 403 403 403\n\
        GET tenant: yes yes yes 403\n\
        GET tenant/{tenant}: yes yes 404 403\n\
        PUT tenant/{tenant}: yes 403 404 403\n\
        POST tenant/{tenant}: yes 403 404 403\n\
        DELETE tenant/{tenant}: yes 403 404 403\n\
        GET tenant/{tenant}/table: yes yes 404 403\n\
        GET tenant/{tenant}/deleted-table: yes yes 404 403\n\
        GET tenant/{tenant}/table/{table}: yes yes 404 403\n\
        PUT tenant/{tenant}/table/{table}: yes yes 404 403\n\
        POST tenant/{tenant}/table/{table}: yes yes 404 403\n\
        DELETE tenant/{tenant}/table/{table}: yes yes 404 403\n\
        POST tenant/{tenant}/table/{table}/undelete: yes yes 404 403\n\
        GET tenant/{tenant}/table/{table}/range: yes yes 404 403\n\
        GET tenant/{tenant}/table/{table}/range/{range}: yes yes 404 403\n\
        POST tenant/{tenant}/table/{table}/range/{range}/move-leader: yes 403 404 403\n\
        POST tenant/{tenant}/table/{table}/range/{range}/move-replica: yes 403 404 403\n\
        POST tenant/{tenant}/table/{table}/range/{range}/split: yes 403 404 403\n\
        GET history: yes yes 404 403\n\
        GET notice: yes 403 403 403\n\
        POST notice/{component}/acknowledge: yes 403 403 403\n\
        GET usage: yes yes 404 403\n\
        POST invitation: yes 403 403 403\n\
        GET node: yes 403 403 403\n\
        GET node/{node}: yes 403 403 403\n\
        POST node/{node}/status: yes 403 403 403\n\
        POST node/{node}/drain: yes 403 403 403\n\
        POST node/{node}/hand-over: yes 403 403 403\n\
        DELETE node/{node}: yes 403 403 403\n\
        GET proxy: yes 403 403 403\n\
        DELETE proxy/{id}: yes 403 403 403\n\
        GET reporter: yes 403 403 403\n\
        DELETE reporter/{id}: yes 403 403 403\n\
        GET upgrade: yes 403 403 403\n\
        POST upgrade/finish: yes 403 403 403\n\
        GET log-level: yes 403 403 403\n\
        PUT log-level: yes 403 403 403\n\
        DELETE log-level: yes 403 403 403\n\
        GET key: yes 403 403 403\n\
        POST key/{kind}/rotate: yes 403 403 403\n\
        GET principal: yes yes 404 403\n\
        POST principal: yes yes 404 403\n\
        DELETE principal/{principal}: yes yes 404 403\n\
        GET access-key: yes yes 404 403\n\
        POST access-key: yes yes 404 403\n\
        DELETE access-key/{id}: yes yes 404 403\n\
        GET token: yes yes 404 403\n\
        POST token: yes yes 404 403\n\
        DELETE token/{session}: yes yes 404 403\n";
    assert_eq!(found, expected);
}

/// Otherwise a tenant's admin could make itself what it is not.
#[tokio::test]
async fn nobody_grants_more_than_it_has() {
    let world = World::start().await;
    let only_admin = world.caller("acme", &[Capability::Admin]);
    for (method, path) in [("POST", "principal"), ("POST", "token"), ("POST", "access-key")] {
        let path = format!("/admin/v1/{path}");
        let route = ROUTES.iter().find(|route| route.path == path && route.method == method).unwrap();
        let refusal = world.may(&only_admin, route).await.unwrap_err();
        assert_eq!(refusal.kind, crate::domain::RefusalKind::Denied, "{path}");
        assert!(refusal.message.contains("does not have read"), "{}", refusal.message);
    }
}

#[tokio::test]
async fn a_tenant_made_again_is_not_the_old_ones_admins() {
    let world = World::start().await;
    let old = world.caller("globex", ALL);
    let globex = old.tenant.as_ref().unwrap().1.clone();
    world.cluster.plane.delete_tenant(&world.cluster.root, &globex, true).await.unwrap();
    world.cluster.plane.create_tenant(&world.cluster.root, &globex).await.unwrap();
    let route = ROUTES.iter().find(|route| route.path.ends_with("/table/{table}/range")).unwrap();
    let parameters = vec![("tenant", "globex".to_owned()), ("table", "users".to_owned())];
    let call = AdminCall::of_test(Arc::new(old.clone()), parameters, Vec::new(), "");
    admit(&old, route.need, Some("globex")).unwrap();
    let refusal = permit(&world.cluster.plane, route.need, &call).await.unwrap_err();
    assert_eq!(refusal.kind, crate::domain::RefusalKind::NotFound);
}

/// The admin API over real HTTP.
struct Served {
    world: World,
    address: SocketAddr,
    client: reqwest::Client,
    _server: RunningServer,
    feed: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.feed.abort();
    }
}

impl Served {
    async fn start() -> Self {
        let world = World::start().await;
        let plane = world.cluster.plane.clone();
        let (keys, lists) = (Arc::new(TokenKeys::new(Vec::new())), Arc::new(AccessLists::default()));
        let feed = plane.access_follow(keys.clone(), lists.clone()).await.unwrap();
        let clock: Arc<dyn Clock> = world.cluster.clock.clone();
        let authenticator = Arc::new(TokenAuthenticator::new(keys, lists, clock));
        let state = Arc::new(AdminState { plane, authenticator });
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), None).unwrap();
        let options = ServerOptions { workers: 1, ..ServerOptions::default() };
        let server = server::start(vec![listener], &options, move || surface(state.clone())).unwrap();
        // Another test may have been first; any provider will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { world, address: server.addresses()[0], client, _server: server, feed }
    }

    async fn ask(&self, token: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("http://{}/admin/v1/{path}", self.address);
        let mut request = self.client.request(method.parse().unwrap(), url);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    /// A token of a new principal, which this server knows already.
    async fn token(&self, tenant: &str, capabilities: &[Capability]) -> String {
        let cluster = &self.world.cluster;
        let asked = PrincipalRequest {
            name: format!("made for a test {}", capabilities.len()),
            tenant: Some(TenantName::new(tenant).unwrap()),
            capabilities: capabilities.to_vec(),
        };
        let principal = cluster.plane.principal_create(&cluster.root, asked).await.unwrap();
        let granted = cluster.plane.session_start(&cluster.root, principal.id, SessionStart::default()).await.unwrap();
        self.known(&granted.token).await;
        granted.token.to_string()
    }

    /// Waits until the server has heard of the token's principal.
    async fn known(&self, token: &str) {
        let asked = async {
            while self.ask(token, "GET", "tenant", &Value::Null).await.0 == 401 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), asked).await.expect("the token is heard of");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_in_without_a_credential() {
    let served = Served::start().await;
    for route in ROUTES {
        let path = route.path.trim_start_matches("/admin/v1/");
        let path = path.replace(['{', '}'], "");
        for token in ["", "nonsense"] {
            let (status, problem) = served.ask(token, route.method, &path, &Value::Null).await;
            assert_eq!(status, 401, "{} {path}: {problem}", route.method);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_of_a_tenant_looks_after_it_and_sees_no_other() {
    let served = Served::start().await;
    let (admin, other) = (served.token("acme", ALL).await, served.token("globex", ALL).await);
    let (status, made) =
        served.ask(&admin, "PUT", "tenant/acme/table/posts", &json!({"id_type": "String", "initial_ranges": 1})).await;
    assert_eq!((status, made["name"].as_str()), (201, Some("posts")));
    let asked = json!({"name": "reader", "tenant": "acme", "capabilities": ["read"]});
    let (status, reader) = served.ask(&admin, "POST", "principal", &asked).await;
    assert_eq!(status, 201, "{reader}");
    let (status, granted) = served.ask(&admin, "POST", "token", &json!({"principal": reader["id"]})).await;
    assert_eq!(status, 201, "{granted}");
    let session = granted["id"].as_str().unwrap().to_owned();
    let (_, key) = served.ask(&admin, "POST", "access-key", &json!({"principal": reader["id"]})).await;
    let key = key["access_key_id"].as_str().unwrap().to_owned();

    // The other tenant's admin sees nothing of all that, and learns nothing from the words.
    for path in ["principal", "token", "access-key"] {
        let (status, seen) = served.ask(&other, "GET", path, &Value::Null).await;
        assert_eq!((status, seen.as_array().unwrap().len()), (200, if path == "access-key" { 0 } else { 1 }), "{path}");
    }
    let (_, tenants) = served.ask(&other, "GET", "tenant", &Value::Null).await;
    assert_eq!(tenants.as_array().unwrap().len(), 1);
    let random = "01010101-0101-4101-8101-010101010101";
    for (method, path, there, nowhere) in [
        ("DELETE", "principal/", reader["id"].as_str().unwrap(), random),
        ("DELETE", "token/", session.as_str(), random),
        ("DELETE", "access-key/", key.as_str(), "DSTKAAAAAAAAAAAAAAAA"),
        ("GET", "token?principal=", reader["id"].as_str().unwrap(), random),
        ("GET", "history?resource=token/", session.as_str(), random),
        ("GET", "history?resource=access-key/", key.as_str(), "DSTKAAAAAAAAAAAAAAAA"),
        ("GET", "history?resource=table/acme/", "posts", "nothing"),
    ] {
        let (status, one) = served.ask(&other, method, &format!("{path}{there}"), &Value::Null).await;
        let (_, two) = served.ask(&other, method, &format!("{path}{nowhere}"), &Value::Null).await;
        assert_eq!(status, 404, "{method} {path}: {one}");
        assert_eq!(one.to_string().replace(there, nowhere), two.to_string(), "{method} {path}");
    }

    // Its own admin sees the history of its own, and ends what it has made.
    for resource in [format!("token/{session}"), format!("access-key/{key}"), "principal/acme/reader".to_owned()] {
        let (status, told) = served.ask(&admin, "GET", &format!("history?resource={resource}"), &Value::Null).await;
        assert_eq!((status, told[0]["who"].as_str()), (200, Some("made for a test 3")), "{resource}");
    }
    for resource in ["principal/-/root", "node/01010101-0101-0101-0101-010101010101", "nonsense"] {
        let (status, _) = served.ask(&admin, "GET", &format!("history?resource={resource}"), &Value::Null).await;
        assert_eq!(status, 403, "{resource}");
    }
    for path in [format!("token/{session}"), format!("access-key/{key}")] {
        assert_eq!(served.ask(&admin, "DELETE", &path, &Value::Null).await.0, 204, "{path}");
    }
    let path = format!("principal/{}", reader["id"].as_str().unwrap());
    assert_eq!(served.ask(&admin, "DELETE", &path, &Value::Null).await.0, 204);
    let root = json!({"name": "me too"});
    assert_eq!(served.ask(&admin, "POST", "principal", &root).await.0, 403, "a root principal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_an_earlier_tenant_of_the_name_is_not_told() {
    let served = Served::start().await;
    let (cluster, globex) = (&served.world.cluster, TenantName::new("globex").unwrap());
    cluster.plane.create_table(&cluster.root, &globex, &table("secret"), specification(1, 1)).await.unwrap();
    cluster.plane.delete_tenant(&cluster.root, &globex, true).await.unwrap();
    cluster.clock.forward(1);
    cluster.plane.create_tenant(&cluster.root, &globex).await.unwrap();
    let admin = served.token("globex", ALL).await;
    let (status, _) = served.ask(&admin, "GET", "history?resource=table/globex/secret", &Value::Null).await;
    assert_eq!(status, 404);
    let (status, told) = served.ask(&admin, "GET", "history?resource=tenant/globex", &Value::Null).await;
    assert_eq!((status, told.as_array().unwrap().len()), (200, 1));
}

#[test]
fn the_protocol_document_lists_exactly_these_routes() {
    let document = include_str!("../../../docs/PROTOCOL.md");
    let section = document.split("\n## Admin API\n").nth(1).expect("a section on this API");
    let section = section.split("\n## ").next().unwrap_or_default();
    let told: Vec<(&str, &str)> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| {
            let (route, rest) = line.split_once("` | ")?;
            Some((route, rest.split_once(" | ")?.0))
        })
        .collect();
    let there: Vec<(String, &str)> = ROUTES
        .iter()
        .map(|route| {
            let query = if route.query.is_empty() { String::new() } else { format!("?{}", route.query.join("&")) };
            let who = if route.need == AdminNeed::Root { "root" } else { "admin" };
            (format!("{} {}{query}", route.method, route.path), who)
        })
        .collect();
    let there: Vec<(&str, &str)> = there.iter().map(|(route, who)| (route.as_str(), *who)).collect();
    assert_eq!(told, there);
}
