//! A reporter's part of the inside API: control asks it what was used.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse};

use super::{InsideNeed, admit, peer_of};
use crate::api::calls::{self, Route, ok};
use crate::domain::ids::{PlaneId, Role};
use crate::domain::usage::query::{QUESTION_PARAMETERS, UsageQuestion};
use crate::services::control::KeyOwner;
use crate::services::reporting::UsageReports;

type ReportingRoute = Route<Arc<dyn UsageReports>, Option<KeyOwner>, InsideNeed>;

/// What control asks a reporter.
pub static REPORTING_ROUTES: &[ReportingRoute] = &[ReportingRoute {
    method: "GET",
    path: "/inside/v1/usage",
    need: InsideNeed::Roles(&[Role::Control]),
    query: &QUESTION_PARAMETERS,
    handler: |reports, call| {
        Box::pin(async move {
            let question = UsageQuestion::from_parameters(|name| call.query(name))?;
            ok(&reports.usage(question).await?)
        })
    },
}];

/// The function that answers a reporter's inside requests, for [`crate::api::server::start`].
pub fn reporting_surface(
    reports: Arc<dyn UsageReports>,
    plane: PlaneId,
) -> impl Fn(HttpRequest, Payload) -> Pin<Box<dyn Future<Output = HttpResponse>>> + Clone {
    move |request, payload| {
        let reports = reports.clone();
        Box::pin(async move {
            let admit = async |need: &InsideNeed, request: &HttpRequest, _: &[(&'static str, String)]| {
                admit(*need, peer_of(request, plane))
            };
            calls::answer(REPORTING_ROUTES, reports, admit, request, payload).await
        })
    }
}
