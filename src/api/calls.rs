//! Routes of JSON in and JSON out, as data: what the admin and the inside API are made of. Items have
//! their own, faster way in `rest`; here a request a second is much.
//!
//! A surface is a table of [`Route`]s and a function that says who is asking. For every request, in this
//! order: the path and method are known (404, 405), the caller may ask this route (401, 403, 404), query
//! parameters are known and the body is small enough and JSON (400, 413), and the caller may ask for what query and
//! body name (403, 404). Only then does a handler run. Tests walk the tables, so a route without an entry for who may
//! ask cannot exist: the field is not optional.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::path::{Query, decode_segment};
use super::{body, error};
use crate::domain::Refusal;

/// Bodies of these APIs, at most, in bytes.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// What a handler answers: a status and JSON; `Null` is no body.
pub type Answer = Result<(u16, Value), Refusal>;

/// A handler: state and the call in, the answer out.
pub type Handler<S, C> = fn(S, Call<C>) -> Pin<Box<dyn Future<Output = Answer>>>;

/// One route.
pub struct Route<S, C, N> {
    /// `GET`, `PUT`, `POST` or `DELETE`.
    pub method: &'static str,
    /// The path; a segment in braces is a parameter.
    pub path: &'static str,
    /// Who may ask.
    pub need: N,
    /// Query parameters that are known.
    pub query: &'static [&'static str],
    /// What answers.
    pub handler: Handler<S, C>,
}

/// A request that has been let in.
pub struct Call<C> {
    /// Who is asking.
    pub caller: C,
    parameters: Vec<(&'static str, String)>,
    query: Vec<(&'static str, String)>,
    body: Bytes,
}

impl<C> Call<C> {
    /// A call as a test makes it.
    #[cfg(test)]
    pub(super) fn of_test(
        caller: C,
        parameters: Vec<(&'static str, String)>,
        query: Vec<(&'static str, String)>,
        body: &str,
    ) -> Self {
        Self { caller, parameters, query, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    /// A parameter of the path, parsed.
    ///
    /// # Errors
    /// `BadInput` where it cannot be.
    pub fn parameter<T: std::str::FromStr>(&self, name: &str) -> Result<T, Refusal> {
        self.text(name).parse().map_err(|_| Refusal::bad_input(format!("the {name} in the path is not understood")))
    }

    /// A parameter of the path as text.
    pub fn text(&self, name: &str) -> &str {
        self.parameters.iter().find(|(given, _)| *given == name).map_or("", |(_, value)| value)
    }

    /// A parameter of the query as text.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// A parameter of the query, parsed.
    ///
    /// # Errors
    /// `BadInput` where it cannot be.
    pub fn query_parsed<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let parse = |text: &str| {
            text.parse().map_err(|_| Refusal::bad_input(format!("the query parameter {name} is not understood")))
        };
        self.query(name).map(parse).transpose()
    }

    /// The body; an empty one is read as `{}`.
    ///
    /// # Errors
    /// `BadInput` that names line and column.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let text: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(text).map_err(|problem| Refusal::bad_input(format!("the body: {problem}")))
    }
}

/// 200 with this.
///
/// # Errors
/// Never; the type is the handlers'.
pub fn ok<T: Serialize>(answer: &T) -> Answer {
    Ok((200, serde_json::to_value(answer).unwrap_or_default()))
}

/// 204 without a body.
///
/// # Errors
/// Never; the type is the handlers'.
pub fn nothing() -> Answer {
    Ok((204, Value::Null))
}

/// Finds the route, or says what is wrong.
enum Found<'r, S, C, N> {
    Route(&'r Route<S, C, N>, Vec<(&'static str, String)>),
    OtherMethods(String),
    Unknown,
}

fn find<'r, S, C, N>(routes: &'r [Route<S, C, N>], method: &str, path: &str) -> Result<Found<'r, S, C, N>, Refusal> {
    let mut others = Vec::new();
    for route in routes {
        let pattern: Vec<&'static str> = route.path.split('/').collect();
        let given: Vec<&str> = path.split('/').collect();
        let parameter = |part: &&'static str| part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
        let fits = pattern.len() == given.len()
            && pattern.iter().zip(&given).all(|(pattern, given)| parameter(pattern).is_some() || pattern == given);
        if !fits {
            continue;
        }
        if route.method != method {
            others.push(route.method);
            continue;
        }
        let mut parameters = Vec::new();
        for (pattern, given) in pattern.iter().zip(given) {
            if let Some(name) = parameter(pattern) {
                parameters.push((name, decode_segment(name, given)?.into_owned()));
            }
        }
        return Ok(Found::Route(route, parameters));
    }
    Ok(if others.is_empty() { Found::Unknown } else { Found::OtherMethods(others.join(", ")) })
}

/// Answers one request. `admit` says who is asking and refuses who may not ask this route.
pub async fn answer<S, C, N, A>(
    routes: &[Route<S, C, N>],
    state: S,
    admit: A,
    request: HttpRequest,
    payload: Payload,
) -> HttpResponse
where
    A: AsyncFnOnce(&N, &HttpRequest, &[(&'static str, String)]) -> Result<C, Refusal>,
{
    answer_permitted(routes, state, admit, async |_: &S, _: &N, _: &Call<C>| Ok(()), request, payload).await
}

/// As [`answer`]; `permit` sees query and body, too, and refuses who may not ask for what they name.
pub async fn answer_permitted<S, C, N, A, P>(
    routes: &[Route<S, C, N>],
    state: S,
    admit: A,
    permit: P,
    request: HttpRequest,
    mut payload: Payload,
) -> HttpResponse
where
    A: AsyncFnOnce(&N, &HttpRequest, &[(&'static str, String)]) -> Result<C, Refusal>,
    P: AsyncFnOnce(&S, &N, &Call<C>) -> Result<(), Refusal>,
{
    let answered = async {
        let (route, parameters) = match find(routes, request.method().as_str(), request.uri().path())? {
            Found::Route(route, parameters) => (route, parameters),
            Found::OtherMethods(allow) => return Ok(error::method_not_allowed(&allow)),
            Found::Unknown => return Err(Refusal::not_found("there is nothing under this path")),
        };
        let caller = admit(&route.need, &request, &parameters).await?;
        let query = Query::parse(request.uri().query(), route.query)?;
        let query = route.query.iter().filter_map(|name| Some((*name, query.get(name)?.to_owned()))).collect();
        let limits = body::Limits { bytes_max: BODY_BYTES_MAX, time_max: Duration::from_secs(30) };
        let body = if request.method() == "GET" {
            Bytes::new()
        } else {
            body::collect(&request, &mut payload, limits).await?
        };
        let call = Call { caller, parameters, query, body };
        permit(&state, &route.need, &call).await?;
        let (status, json) = (route.handler)(state, call).await?;
        let status = actix_web::http::StatusCode::from_u16(status).unwrap_or_default();
        Ok(match json {
            Value::Null => HttpResponse::build(status).finish(),
            json => HttpResponse::build(status).json(json),
        })
    };
    answered.await.unwrap_or_else(|refusal: Refusal| error::response(&refusal, None))
}
