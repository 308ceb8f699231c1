//! A node's part of the inside API: what proxies, and other nodes, ask of the ranges it holds.
//!
//! This is the way of each item between a proxy and its node, so it goes without the routes of JSON that
//! control's part has: one path, one question in the body, its answer in the body, both in the
//! bytes of [`crate::services::ranges::wire`]. Refusals travel in the same bytes, whole; the HTTP status
//! only repeats them for those who look at the traffic.
//!
//! Messages of other nodes come in frames ([`super::frames`]). Beside it stands what control asks ([`NODE_ROUTES`]), as JSON, because it is asked now and then by people.
//!
//! The body of a question is read into memory of its own, because a node keeps the document in it for
//! as long as it is the item.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse};

use super::usage::{self, USAGE_PATH};
use super::{InsideNeed, admit, frames, peer_of};
use crate::api::calls::{self, Route, ok};
use crate::api::{body, error, observed};
use crate::domain::ids::{PlaneId, Role};
use crate::domain::observed::Stage;
use crate::domain::{Refusal, RefusalKind};
use crate::services::control::KeyOwner;
use crate::services::observing::{self, Observing, Subject};
use crate::services::range_reports::OwnRanges;
use crate::services::ranges::wire::{Answer, QUESTION_BYTES_MAX, Question, RANGE_PATH, encode_refusal};
use crate::services::ranges::{RangeAddress, RangeService};
use crate::services::usage::UsageSource;
use crate::transport::frame_client::FRAMES_PATH;
use crate::transport::links::Inbox;

type NodeRoute = Route<Arc<dyn OwnRanges>, Option<KeyOwner>, InsideNeed>;

/// What control asks a node.
pub static NODE_ROUTES: &[NodeRoute] = &[NodeRoute {
    method: "GET",
    path: "/inside/v1/table/{table}/range",
    need: InsideNeed::Roles(&[Role::Control]),
    query: &[],
    handler: |own, call| Box::pin(async move { ok(&own.of_table(call.parameter("table")?).await?) }),
}];

/// Who may ask a node for items.
pub const RANGE_NEED: InsideNeed = InsideNeed::Roles(&[Role::Node, Role::Proxy]);
/// What a question may take.
const LIMITS: body::Limits = body::Limits { bytes_max: QUESTION_BYTES_MAX, time_max: Duration::from_secs(30) };

/// What a node serves inside.
#[derive(Clone)]
pub struct NodeInside {
    /// Has its ranges.
    pub service: Arc<dyn RangeService>,
    /// Says what they are.
    pub own: Arc<dyn OwnRanges>,
    /// Takes the messages of other nodes, where this one has groups.
    pub inbox: Option<Arc<dyn Inbox>>,
    /// Has counted what clients that asked this node used.
    pub usage: Arc<dyn UsageSource>,
    /// Notes what is asked of ranges.
    pub observing: Arc<Observing>,
}

/// The function that answers a node's inside requests. For [`crate::api::server::start`].
pub fn node_surface(
    inside: NodeInside,
    plane: PlaneId,
) -> impl Fn(HttpRequest, Payload) -> Pin<Box<dyn Future<Output = HttpResponse>>> + Clone {
    move |request: HttpRequest, payload| -> Pin<Box<dyn Future<Output = HttpResponse>>> {
        if request.uri().path() == RANGE_PATH {
            let (service, observing) = (inside.service.clone(), inside.observing.clone());
            return Box::pin(async move {
                let answer = respond(service, plane, &request, payload);
                observed::inside(&observing, &request, answer).await
            });
        }
        if request.uri().path() == FRAMES_PATH {
            return Box::pin(frames::take(inside.inbox.clone(), plane, request, payload));
        }
        if request.uri().path() == USAGE_PATH {
            return Box::pin(usage::answer(inside.usage.clone(), plane, request, payload));
        }
        let own = inside.own.clone();
        Box::pin(async move {
            let admit = async |need: &InsideNeed, request: &HttpRequest, _: &[(&'static str, String)]| {
                admit(*need, peer_of(request, plane))
            };
            calls::answer(NODE_ROUTES, own, admit, request, payload).await
        })
    }
}

async fn respond(
    service: Arc<dyn RangeService>,
    plane: PlaneId,
    request: &HttpRequest,
    mut payload: Payload,
) -> HttpResponse {
    match question(plane, request, &mut payload).await {
        Ok((address, question)) => match ask(&*service, address, question).await {
            Ok(answer) => HttpResponse::Ok().body(answer.encode()),
            Err(refusal) => refused(&refusal),
        },
        // The question may not have been read to its end.
        Err(refusal) => body::close_after(refused(&refusal), payload),
    }
}

async fn question(
    plane: PlaneId,
    request: &HttpRequest,
    payload: &mut Payload,
) -> Result<(RangeAddress, Question), Refusal> {
    admit(RANGE_NEED, peer_of(request, plane))?;
    if request.method() != Method::POST {
        return Err(Refusal::not_found("there is nothing here but POST of questions to ranges"));
    }
    let bytes = body::collect_apart(request, payload, LIMITS).await?;
    observing::lap(Stage::Body);
    let decoded = Question::decode(&bytes);
    decoded.map_err(|problem| Refusal::bad_input(format!("this is no question to a range: {problem}")))
}

async fn ask(service: &dyn RangeService, address: RangeAddress, question: Question) -> Result<Answer, Refusal> {
    observing::about(Subject { operation: question.word(), tenant: None, is_quick: true });
    observing::lap(Stage::Prepare);
    match question {
        Question::Read { key, consistency } => service.read(address, key, consistency).await.map(Answer::Item),
        Question::Write { operation, respond_async } => {
            service.write(address, operation, respond_async).await.map(Answer::Written)
        }
        Question::List(request) => service.list(address, request).await.map(Answer::Page),
        Question::Receipt(receipt) => service.receipt(address, receipt).await.map(Answer::Receipt),
        Question::Stored { hash, part } => service.stored(address, hash, part).await.map(Answer::Stored),
    }
}

fn refused(refusal: &Refusal) -> HttpResponse {
    let mut answer = HttpResponse::build(error::problem_kind(refusal.kind).status_code());
    if matches!(refusal.kind, RefusalKind::TooLarge | RefusalKind::TooSlow) {
        // What is left of the question is not read, so the connection cannot carry another.
        answer.force_close();
    }
    answer.body(encode_refusal(refusal))
}
