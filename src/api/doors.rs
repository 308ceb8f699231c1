//! The port of clients. Two protocols are spoken there: REST, and at `/` that of DynamoDB ([`crate::api::dynamodb`]), but for the
//! start page that a browser asks for. Both work with the same state, and are noted in the same way.
//!
//! Which it is is looked at before anything is made for a request: the future of each is as large as what it may have to hold,
//! is allocated once and moved there, and none pays for the other.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse};

use super::rest::RestState;
use super::{body, dynamodb, observed, rest};

/// The function that answers requests, for [`crate::api::server::start`].
pub fn surface(
    state: Arc<RestState>,
) -> impl Fn(HttpRequest, Payload) -> Pin<Box<dyn Future<Output = HttpResponse>>> + Clone {
    move |request, payload| {
        let state = Arc::clone(&state);
        if dynamodb::dispatch::is_door(&request) {
            Box::pin(by_dynamodb(state, request, payload))
        } else {
            Box::pin(by_rest(state, request, payload))
        }
    }
}

// The answer is pinned where it is: it is large, and would be moved from one future to the next.

async fn by_rest(state: Arc<RestState>, request: HttpRequest, mut payload: Payload) -> HttpResponse {
    let answer = pin!(async {
        let answered = rest::dispatch::serve(&state, &request, &mut payload).await;
        answered.unwrap_or_else(|refused| body::close_after(refused, payload))
    });
    observed::client(&state.observing, observed::sent(&request), answer).await
}

async fn by_dynamodb(state: Arc<RestState>, request: HttpRequest, mut payload: Payload) -> HttpResponse {
    let answer = pin!(async {
        let answered = dynamodb::dispatch::serve(&state, &request, &mut payload).await;
        answered.unwrap_or_else(|refused| body::close_after(refused, payload))
    });
    let sent = observed::with_long_tag(observed::sent(&request), &state.observing);
    observed::client(&state.observing, sent, answer).await
}
