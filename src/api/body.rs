//! Bodies: collected whole, within a size and a time. What arrives in one piece, as nearly every
//! item does, is handed on without a copy.
//!
//! A body that says beforehand that it is too large is refused before a byte is read. One that
//! trickles in is cut off when its time is over, however it spreads its bytes: the time is for the
//! whole body, since a limit between two bytes lets a client hold a connection for days.
//!
//! After an answer that did not wait for the body, the connection is closed, because the rest of the body
//! stands before the next request. actix-http would read a chunked rest to its end, for as long as the client
//! likes, if the payload were dropped before the answer is written; so [`close_after`] keeps it
//! until then. The next author must keep that, or one client without a credential holds a connection for ever.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use super::deadline::Deadline;
use crate::domain::limits::BODY_BYTES_MAX;
use crate::domain::{Refusal, RefusalKind};

/// Memory that is made at once for a body whose length is announced, as long as little of it is there.
const FIRST_BYTES_MAX: usize = 64 << 10;

/// What a body may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes, at most.
    pub bytes_max: usize,
    /// From the head of the request to the last byte of its body.
    pub time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_max: BODY_BYTES_MAX, time_max: Duration::from_secs(30) }
    }
}

/// Where the room for a body comes from, where that is shared with others.
pub trait Room {
    /// Makes sure of room for so many bytes of this body, all in all; called before they are kept.
    ///
    /// # Errors
    /// Why there is none, which ends the body.
    fn grow(&mut self, bytes: usize) -> impl Future<Output = Result<(), Refusal>>;
}

/// Room that is not counted.
struct Uncounted;

impl Room for Uncounted {
    async fn grow(&mut self, _: usize) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Collects the body of a request.
///
/// # Errors
/// `TooLarge`, `TooSlow`, or `BadInput` where the client broke off or sent a broken encoding.
pub async fn collect(request: &HttpRequest, payload: &mut Payload, limits: Limits) -> Result<Bytes, Refusal> {
    gather(request, payload, limits, true, &mut Uncounted).await
}

/// Collects the body of a request as long as there is room for it.
///
/// # Errors
/// As [`collect`], and those of the room.
pub async fn collect_within(
    request: &HttpRequest,
    payload: &mut Payload,
    limits: Limits,
    room: &mut impl Room,
) -> Result<Bytes, Refusal> {
    gather(request, payload, limits, true, room).await
}

/// Collects a body of which parts may be kept for long: in memory of its own, no larger than it must be. A body
/// that [`collect`] hands on without a copy is a slice of the connection's buffer, and would keep all of that.
///
/// # Errors
/// As [`collect`].
pub async fn collect_apart(request: &HttpRequest, payload: &mut Payload, limits: Limits) -> Result<Bytes, Refusal> {
    gather(request, payload, limits, false, &mut Uncounted).await
}

async fn gather(
    request: &HttpRequest,
    payload: &mut Payload,
    limits: Limits,
    may_share: bool,
    room: &mut impl Room,
) -> Result<Bytes, Refusal> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: usize| bytes > limits.bytes_max) {
        return Err(too_large(limits));
    }
    let mut pieces = Pieces::new(payload, limits.time_max);
    let Some(first) = pieces.next().await? else { return Ok(Bytes::new()) };
    if may_share && announced == Some(first.len()) {
        room.grow(first.len()).await?;
        return Ok(first);
    }
    // Room for more is made when more is there: an announcement costs a client nothing.
    let most = if may_share { first.len().max(FIRST_BYTES_MAX) } else { BODY_BYTES_MAX };
    let mut body = BytesMut::with_capacity(announced.unwrap_or(2 * first.len()).min(most));
    let mut piece = Some(first);
    while let Some(bytes) = piece {
        if body.len() + bytes.len() > limits.bytes_max {
            return Err(too_large(limits));
        }
        room.grow(body.len() + bytes.len()).await?;
        body.extend_from_slice(&bytes);
        piece = pieces.next().await?;
    }
    Ok(body.freeze())
}

/// What was thrown away of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discarded {
    /// Bytes.
    pub bytes: usize,
    /// Whether that was all of it.
    pub is_whole: bool,
}

/// Reads what is left of a body and throws it away, so that a client that is still sending gets to the answer. Gives up after so
/// many bytes, or so much time.
pub async fn discard(payload: &mut Payload, bytes_max: usize, time_max: Duration) -> Discarded {
    let mut pieces = Pieces::new(payload, time_max);
    let mut bytes = 0;
    while bytes <= bytes_max {
        match pieces.next().await {
            Ok(Some(piece)) => bytes += piece.len(),
            Ok(None) => return Discarded { bytes, is_whole: true },
            Err(_) => break,
        }
    }
    Discarded { bytes, is_whole: false }
}

/// Checks that the body is one of these media types; none given is taken for the first. Parameters
/// (`; charset=…`) are not looked at: JSON is UTF-8 (RFC 8259 §8.1), and anything else will not parse. A
/// compressed body is refused: its size is not what would have to be kept.
///
/// # Errors
/// `UnsupportedMediaType`, naming those that are understood.
pub fn check_media_type(request: &HttpRequest, accepted: &[&str]) -> Result<(), Refusal> {
    let coded = |value: &header::HeaderValue| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if request.headers().get_all(header::CONTENT_ENCODING).any(coded) {
        let message = "the body has a Content-Encoding; send it as it is";
        return Err(Refusal::new(RefusalKind::UnsupportedMediaType, message));
    }
    let Some(given) = request.headers().get(header::CONTENT_TYPE) else { return Ok(()) };
    let bytes = given.as_bytes();
    let essence = bytes.split(|byte| *byte == b';').next().unwrap_or(bytes).trim_ascii();
    if accepted.iter().any(|accepted| essence.eq_ignore_ascii_case(accepted.as_bytes())) {
        return Ok(());
    }
    let given = String::from_utf8_lossy(&essence[..essence.len().min(80)]).into_owned();
    let message = format!("the body is {given:?}; send {} as Content-Type", accepted.join(" or "));
    Err(Refusal::new(RefusalKind::UnsupportedMediaType, message))
}

/// The answer to a request whose body was not read to its end: the connection ends after it.
pub fn close_after(answer: HttpResponse, payload: Payload) -> HttpResponse {
    match payload {
        Payload::None => answer,
        unread => answer.map_body(|_, body| BoxBody::new(Holding { body, _unread: unread })),
    }
}

/// A body that keeps what was not read of the request until it has been written.
struct Holding {
    body: BoxBody,
    _unread: Payload,
}

impl MessageBody for Holding {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

fn too_large(limits: Limits) -> Refusal {
    Refusal::new(RefusalKind::TooLarge, format!("the body is larger than {} bytes", limits.bytes_max))
}

thread_local! {
    /// Whether an answer is being polled on this thread for the first time.
    static IS_FIRST_POLL: Cell<bool> = const { Cell::new(false) };
}

/// An answer, of which bodies learn when it is polled for the first time: the server shows each request by this.
pub async fn shown<T>(answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    let mut is_first = true;
    poll_fn(|context| {
        IS_FIRST_POLL.set(std::mem::take(&mut is_first));
        let polled = answer.as_mut().poll(context);
        IS_FIRST_POLL.set(false);
        polled
    })
    .await
}

struct Pieces<'a> {
    payload: &'a mut Payload,
    time_max: Duration,
    deadline: Deadline,
}

impl<'a> Pieces<'a> {
    fn new(payload: &'a mut Payload, time_max: Duration) -> Self {
        Self { payload, time_max, deadline: Deadline::new(time_max) }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        poll_fn(|context| match self.look(context) {
            Poll::Ready(None) => Poll::Ready(Ok(None)),
            Poll::Ready(Some(Ok(piece))) => Poll::Ready(Ok(Some(piece))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(broken(&error))),
            Poll::Pending => self.until_late(context).map(Err),
        })
        .await
    }

    /// actix-http shows a request before it hands on what came of the body together with the head, and looks at its answer
    /// again right after that: nobody has to be woken for it. If somebody were, the whole connection would be looked at once
    /// more after the answer, and its timers be set again. A request that stood behind another one is looked at again only
    /// when more of it comes; so the time of a body runs from the first look.
    fn look(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        let is_just_shown = IS_FIRST_POLL.get() && matches!(self.payload, Payload::H1 { .. });
        let mut quiet = Context::from_waker(Waker::noop());
        Pin::new(&mut *self.payload).poll_next(if is_just_shown { &mut quiet } else { context })
    }

    /// Waits until the time of the body is over.
    fn until_late(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        let time_max = self.time_max;
        self.deadline.poll(context).map(|()| {
            let message = format!("the body did not arrive within {} seconds", time_max.as_secs_f32());
            Refusal::new(RefusalKind::TooSlow, message)
        })
    }
}

fn broken(error: &PayloadError) -> Refusal {
    match error {
        PayloadError::Incomplete(_) => {
            Refusal::bad_input("the body ended before it was complete, or its chunks are malformed")
        }
        error => Refusal::bad_input(format!("the body could not be read to its end: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use actix_web::test::TestRequest;

    async fn collected(request: TestRequest, bytes_max: usize) -> Result<Bytes, RefusalKind> {
        let (request, mut payload) = request.to_http_parts();
        let limits = Limits { bytes_max, time_max: Duration::from_secs(30) };
        collect(&request, &mut payload, limits).await.map_err(|refusal| refusal.kind)
    }

    #[tokio::test]
    async fn a_body_is_taken_up_to_its_limit() {
        let body = |length| TestRequest::default().set_payload(vec![b'x'; length]);
        assert_eq!(collected(body(10), 10).await.unwrap().len(), 10);
        assert_eq!(collected(body(11), 10).await, Err(RefusalKind::TooLarge));
        assert_eq!(collected(TestRequest::default(), 10).await.unwrap().len(), 0);
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often a request is woken until its body is there, of which nothing is at its first poll and all at its second.
    fn woken_for_a_body(is_shown: bool) -> usize {
        let (mut sender, payload) = actix_http::h1::Payload::create(false);
        let mut payload = Payload::H1 { payload };
        let mut pieces = Pieces::new(&mut payload, Duration::from_secs(30));
        let next = Box::pin(pieces.next());
        let mut answer: Pin<Box<dyn Future<Output = _>>> = if is_shown { Box::pin(shown(next)) } else { next };
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        assert!(answer.as_mut().poll(&mut context).is_pending());
        sender.feed_data(Bytes::from_static(b"x"));
        sender.feed_eof();
        let Poll::Ready(Ok(Some(piece))) = answer.as_mut().poll(&mut context) else { panic!("it is there") };
        assert_eq!(piece, "x");
        woken.0.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_request_that_was_just_shown_is_not_woken_for_a_body_that_came_with_it() {
        assert_eq!(woken_for_a_body(true), 0);
        assert!(woken_for_a_body(false) > 0, "nobody else looks again by itself");
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_cut_off() {
        let nothing = futures_util::stream::pending::<Result<Bytes, PayloadError>>();
        let mut payload: Payload = Payload::Stream { payload: Box::pin(nothing) };
        let refused = Pieces::new(&mut payload, Duration::from_millis(5)).next().await.unwrap_err();
        assert_eq!(refused.kind, RefusalKind::TooSlow);
    }

    #[tokio::test]
    async fn an_announced_length_is_refused_before_it_is_read() {
        let request = TestRequest::default().insert_header(("content-length", "11"));
        assert_eq!(collected(request, 10).await, Err(RefusalKind::TooLarge));
    }

    #[test]
    fn media_types_are_compared_without_case_and_parameters() {
        let check = |given: &str| {
            let request = TestRequest::default().insert_header(("content-type", given)).to_http_request();
            check_media_type(&request, &["application/json", "application/merge-patch+json"]).is_ok()
        };
        assert!(check("application/json") && check("Application/JSON; charset=utf-8"));
        assert!(check("application/merge-patch+json"));
        assert!(!check("text/plain") && !check("application/jsonx") && !check(""));
        assert!(check_media_type(&TestRequest::default().to_http_request(), &["application/json"]).is_ok());
    }
}
