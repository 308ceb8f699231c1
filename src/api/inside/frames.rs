//! Frames of messages from other nodes: a body each, handed to the inbox as it is and answered at once.
//!
//! Only nodes may send any, and who sends is who the certificate names. The body is not looked into here.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;

use super::{InsideNeed, admit, peer_of};
use crate::api::{body, error};
use crate::domain::Refusal;
use crate::domain::ids::{NodeId, PlaneId, Role};
use crate::transport::frames::FRAME_BYTES_MAX;
use crate::transport::links::Inbox;

/// Who may send frames.
pub const FRAMES_NEED: InsideNeed = InsideNeed::Roles(&[Role::Node]);
/// What a frame may take.
const LIMITS: body::Limits = body::Limits { bytes_max: FRAME_BYTES_MAX, time_max: Duration::from_secs(30) };

/// Takes one frame. Without an inbox, this node has no groups.
pub(super) async fn take(
    inbox: Option<Arc<dyn Inbox>>,
    plane: PlaneId,
    request: HttpRequest,
    mut payload: Payload,
) -> HttpResponse {
    match frame(plane, &request, &mut payload).await {
        Ok((from, frame)) => match inbox {
            Some(inbox) => {
                inbox.deliver(from, frame);
                HttpResponse::NoContent().finish()
            }
            None => error::response(&Refusal::unavailable("this node takes no messages of other nodes", 5), None),
        },
        // The frame may not have been read to its end.
        Err(refusal) => body::close_after(error::response(&refusal, None), payload),
    }
}

async fn frame(plane: PlaneId, request: &HttpRequest, payload: &mut Payload) -> Result<(NodeId, Bytes), Refusal> {
    let peer = peer_of(request, plane);
    admit(FRAMES_NEED, peer.clone())?;
    let from = NodeId(peer?.id);
    if request.method() != Method::POST {
        return Err(Refusal::not_found("there is nothing here but POST of frames"));
    }
    Ok((from, body::collect(request, payload, LIMITS).await?))
}

#[cfg(test)]
mod tests;
