//! From a request to its handler. Everything that is checked for every request is checked here, in
//! this order, so that no answer tells a caller more than it may know:
//!
//! 1. the path is known (404) and has the method (405);
//! 2. the credential is valid (401), the tenant is the caller's (404), and the need is met (403);
//! 3. query parameters are known (400);
//! 4. tenant and table are there, and are those that the credential means (404);
//! 5. the body is of a known type (415), small enough (413) and fast enough (408).
//!
//! Handlers of items are awaited in place; the others are boxed, because the future of a request is as
//! large as its largest branch and is moved about.

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse};

use super::asked::{Asked, Target};
use super::parameters::Parameter;
use super::routes::{self, Action, Scope};
use super::state::RestState;
use super::{items, listing, metered, openapi, receipts, start_page, tables, tenants, write};
use crate::api::path::{Query, RawPath, decode_segment};
use crate::api::{auth, body, error, observed};
use crate::domain::observed::Stage;
use crate::domain::{Refusal, RefusalKind, TableName, TenantName};
use crate::services::observing;

/// Answers one request; as an error where its body may not have been read to its end.
pub async fn serve(
    state: &RestState,
    request: &HttpRequest,
    payload: &mut Payload,
) -> Result<HttpResponse, HttpResponse> {
    let began = std::time::Instant::now();
    let Some((route, given)) = RawPath::cut(request.uri().path()).and_then(|path| routes::find(&path)) else {
        let known = "there is nothing under this path; GET /v1/openapi.json lists what there is";
        return Err(error::response(&Refusal::not_found(known), None));
    };
    let Some(endpoint) = route.endpoint(request.method()) else {
        return Err(error::method_not_allowed(&route.allow()));
    };
    let mut asked = Asked {
        state,
        request,
        endpoint,
        given,
        query: Query::default(),
        caller: None,
        target: Target::Service,
        body: bytes::Bytes::new(),
        cost: Default::default(),
    };
    let answered = match prepare(&mut asked, payload).await {
        Ok(()) => handle(&asked).await,
        Err(refusal) => Err(refusal),
    };
    metered::count(&asked, began, &answered);
    observed::about(&asked);
    answered.map_err(|refusal| error::response(&sent_on(refusal, request), asked.rid().as_deref()))
}

/// The refusal with a location that can be asked as it stands: services name the node that holds the key, and
/// there the same path and query are asked.
fn sent_on(refusal: Refusal, request: &HttpRequest) -> Refusal {
    match refusal.location {
        Some(node) if refusal.kind == RefusalKind::WrongNode => {
            let asked = request.uri().path_and_query().map_or("/", |asked| asked.as_str());
            Refusal { location: Some(format!("{}{asked}", node.trim_end_matches('/'))), ..refusal }
        }
        _ => refusal,
    }
}

async fn prepare(asked: &mut Asked<'_>, payload: &mut Payload) -> Result<(), Refusal> {
    let endpoint = asked.endpoint;
    if endpoint.need != auth::Need::Nothing {
        let caller = auth::authenticate(&*asked.state.authenticator, asked.request).await?;
        let tenant = match asked.given.get(Parameter::Tenant) {
            Some(_) => Some(asked.parameter(Parameter::Tenant)?),
            None => None,
        };
        auth::authorise(&caller, endpoint.need, tenant.as_deref())?;
        observing::lap(Stage::Authenticate);
        asked.caller = Some(caller);
    }
    asked.query = Query::parse(asked.request.uri().query(), endpoint.query)?;
    asked.target = find_target(asked, endpoint.scope)?;
    observing::lap(Stage::Route);
    if !endpoint.media_types.is_empty() {
        body::check_media_type(asked.request, endpoint.media_types)?;
        asked.body = body::collect(asked.request, payload, asked.state.body_limits).await?;
        observing::lap(Stage::Body);
    }
    Ok(())
}

fn find_target(asked: &Asked<'_>, scope: Scope) -> Result<Target, Refusal> {
    if scope == Scope::Service {
        return Ok(Target::Service);
    }
    let tenant_text = asked.parameter(Parameter::Tenant)?;
    let tenant_name = TenantName::new(&tenant_text)?;
    let catalog = &asked.state.catalog;
    let missing_tenant = || auth::no_tenant(&tenant_text);
    if scope == Scope::Tenant {
        let tenant = catalog.tenant(&tenant_name).ok_or_else(missing_tenant)?;
        auth::own_tenant(asked.caller(), tenant.id, &tenant_text)?;
        return Ok(Target::Tenant(tenant));
    }
    let table_text = asked.parameter(Parameter::Table)?;
    let table_name = TableName::new(&table_text)?;
    let Some(table) = catalog.table(&tenant_name, &table_name) else {
        let tenant = catalog.tenant(&tenant_name).ok_or_else(missing_tenant)?;
        auth::own_tenant(asked.caller(), tenant.id, &tenant_text)?;
        return Err(tables::no_table(&table_text));
    };
    auth::own_tenant(asked.caller(), table.tenant_id, &tenant_text)?;
    Ok(Target::Table(table))
}

async fn handle(asked: &Asked<'_>) -> Result<HttpResponse, Refusal> {
    match asked.endpoint.action {
        Action::ReadItem => items::read(asked).await,
        Action::PutItem | Action::MergeItem | Action::DeleteItem => write::write(asked).await,
        Action::ListItems => Box::pin(listing::list(asked)).await,
        Action::ReadReceipt => Box::pin(receipts::read(asked)).await,
        Action::ReadTable => tables::read(asked),
        Action::ListTables => Box::pin(tables::list(asked)).await,
        Action::CreateTable => Box::pin(tables::create(asked)).await,
        Action::ChangeTable => Box::pin(tables::change(asked)).await,
        Action::DeleteTable => Box::pin(tables::delete(asked)).await,
        Action::ReadTenant => tenants::read(asked),
        Action::ListTenants => Box::pin(tenants::list(asked)).await,
        Action::CreateTenant => Box::pin(tenants::create(asked)).await,
        Action::DeleteTenant => Box::pin(tenants::delete(asked)).await,
        Action::TellAlive => Ok(start_page::alive()),
        Action::TellReady => (asked.state.readiness)().map(|()| start_page::ready()),
        Action::ShowOpenApi => Ok(openapi::show()),
        Action::ShowStartPage => Ok(start_page::show()),
    }
}

/// For the fuzzer: any target finds a route or none, and its parameters decode or are refused.
#[doc(hidden)]
pub fn fuzz_router(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    let Some((route, given)) = RawPath::cut(path).and_then(|path| routes::find(&path)) else { return };
    for parameter in [Parameter::Tenant, Parameter::Table, Parameter::Id, Parameter::Sort, Parameter::Receipt] {
        let _ = given.get(parameter).map(|raw| decode_segment(parameter.name(), raw));
    }
    for endpoint in route.endpoints {
        let _ = Query::parse(query, endpoint.query);
    }
}
