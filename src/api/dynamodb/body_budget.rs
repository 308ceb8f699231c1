//! Room for bodies under way. A body is collected before its signature can be checked, since it is part of what is
//! signed; so whoever knows the id of an access key, which is no secret, could have this process keep 16 MiB for each
//! of its connections. All bodies together get no more than [`BYTES_MAX`].
//!
//! * Room is taken as bytes arrive, not when they are announced: an announcement costs a client nothing, so it must
//!   not take room from others either.
//! * A body of at most [`FREE_BYTES`] takes no room, a larger one takes it for all of it: nearly all calls are small, and
//!   what they take is bounded by the number of connections. So while large bodies fill the room, small ones pass as ever.
//! * Who finds no room waits for it for [`PATIENCE`], then is refused with ServiceUnavailable and `Retry-After`, which
//!   every SDK tries again. What it has so far is let go at once, so that of several who wait some get through.
//! * Room is kept until the call is answered ([`Held`]), since the body is kept as long.
//!
//! What it does not do: it tells nobody from anybody, so whoever fills it makes large bodies of others wait, for as
//! long as bodies may take to arrive (`limits.body_seconds`). That is better than a process that runs out of memory
//! with all that it serves. What is counted are bytes that arrived; a body that grows may have twice as much memory for a while.
//!
//! Rejected: room for what is announced. Sixteen connections that announce 16 MiB and send nothing would fill it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::encoding;
use super::failure::Failure;
use crate::api::body::{self, Limits, Room};
use crate::domain::{Refusal, RefusalKind};

/// Room for all bodies together.
const BYTES_MAX: usize = 256 << 20;
/// A body that is no larger takes no room.
const FREE_BYTES: usize = 64 << 10;
/// Room is counted in KiB, and taken in pieces of so many.
const PIECE_KIB: usize = 64;
/// How long room is waited for.
const PATIENCE: Duration = Duration::from_millis(250);
/// When to try again, in seconds.
const RETRY_SECONDS: u32 = 1;

/// See the module's essay. One for a process; its copies are the same.
#[derive(Debug, Clone)]
pub struct BodyBudget {
    /// KiB that are free.
    free: Arc<Semaphore>,
    patience: Duration,
}

impl Default for BodyBudget {
    fn default() -> Self {
        Self::new(BYTES_MAX, PATIENCE)
    }
}

impl BodyBudget {
    fn new(bytes: usize, patience: Duration) -> Self {
        Self { free: Arc::new(Semaphore::new(bytes >> 10)), patience }
    }

    /// Takes this much room away, as bodies would.
    #[cfg(test)]
    pub(super) fn take_all(&self) -> OwnedSemaphorePermit {
        let all = u32::try_from(self.free.available_permits()).expect("room is counted in a u32");
        Arc::clone(&self.free).try_acquire_many_owned(all).expect("what is free can be taken")
    }

    /// Room for so many more KiB; none where there was none in time.
    async fn take(&self, kib: u32) -> Option<OwnedSemaphorePermit> {
        if let Ok(room) = Arc::clone(&self.free).try_acquire_many_owned(kib) {
            return Some(room);
        }
        let room = Arc::clone(&self.free).acquire_many_owned(kib);
        tokio::time::timeout(self.patience, room).await.ok()?.ok()
    }
}

/// The room that one body has; it is given back when this is dropped.
#[derive(Debug, Default)]
pub struct Held(Option<OwnedSemaphorePermit>);

impl Held {
    fn kib(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

/// A body on its way, which takes room as it grows.
struct Growing<'a> {
    budget: &'a BodyBudget,
    held: &'a mut Held,
}

impl Room for Growing<'_> {
    async fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        if bytes <= FREE_BYTES {
            return Ok(());
        }
        let wanted = bytes.div_ceil(1024).div_ceil(PIECE_KIB).saturating_mul(PIECE_KIB);
        let missing = u32::try_from(wanted.saturating_sub(self.held.kib())).unwrap_or(u32::MAX);
        if missing == 0 {
            return Ok(());
        }
        let Some(more) = self.budget.take(missing).await else {
            let message = "Too many large requests are under way; try again in a moment.";
            return Err(Refusal::unavailable(message, RETRY_SECONDS));
        };
        match &mut self.held.0 {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

/// Collects the body of a call, within the room that there is; `held` keeps its room.
///
/// # Errors
/// RequestEntityTooLarge, RequestTimeout, ServiceUnavailable where there is no room, and ValidationException where
/// the client broke off. No room is held then.
pub async fn collect(
    budget: &BodyBudget,
    request: &HttpRequest,
    payload: &mut Payload,
    limits: Limits,
    held: &mut Held,
) -> Result<Bytes, Failure> {
    let collected = body::collect_within(request, payload, limits, &mut Growing { budget, held: &mut *held }).await;
    collected.map_err(|refusal| {
        // Before the rest of the body is read and thrown away, which takes a while.
        *held = Held::default();
        match (refusal.kind, refusal.retry_after_seconds) {
            (RefusalKind::TooLarge, _) => encoding::too_large(),
            (_, Some(seconds)) => Failure::from(refusal).retry_after(seconds),
            (_, None) => Failure::from(refusal),
        }
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const KIB: usize = 1024;

    async fn collected(budget: &BodyBudget, bytes: usize, held: &mut Held) -> Result<usize, Failure> {
        let (request, mut payload) = TestRequest::default().set_payload(vec![b'x'; bytes]).to_http_parts();
        let limits = Limits { bytes_max: encoding::BODY_BYTES_MAX, time_max: Duration::from_secs(30) };
        collect(budget, &request, &mut payload, limits, held).await.map(|body| body.len())
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_share_the_room_and_small_ones_need_none() {
        let budget = BodyBudget::new(192 * KIB, PATIENCE);
        let (mut first, mut second, mut small) = (Held::default(), Held::default(), Held::default());
        assert_eq!(collected(&budget, 100 * KIB, &mut first).await.unwrap(), 100 * KIB);
        assert_eq!(first.kib(), 128);
        let refused = collected(&budget, 100 * KIB, &mut second).await.unwrap_err();
        assert_eq!((refused.status(), refused.name()), (503, "ServiceUnavailable"));
        assert_eq!((refused.retry_after_seconds(), second.kib()), (Some(RETRY_SECONDS), 0));
        let all = budget.take_all();
        assert_eq!(collected(&budget, FREE_BYTES, &mut small).await.unwrap(), FREE_BYTES);
        assert_eq!(small.kib(), 0);
        drop((first, all));
        assert_eq!(collected(&budget, 100 * KIB, &mut second).await.unwrap(), 100 * KIB);
    }

    #[tokio::test(start_paused = true)]
    async fn room_that_comes_in_time_is_taken() {
        let budget = BodyBudget::new(192 * KIB, PATIENCE);
        let (all, mut held) = (budget.take_all(), Held::default());
        let mut waiting = Box::pin(collected(&budget, 100 * KIB, &mut held));
        let early = tokio::time::timeout(PATIENCE / 2, &mut waiting).await;
        assert!(early.is_err(), "it waits for a while");
        drop(all);
        assert_eq!(waiting.await.unwrap(), 100 * KIB);
    }

    /// Collects a body that comes in so many pieces of 100 KiB.
    async fn collected_in(budget: &BodyBudget, pieces: usize, held: &mut Held) -> Result<usize, Failure> {
        let piece = |_| Ok::<_, actix_web::error::PayloadError>(Bytes::from(vec![b'x'; 100 * KIB]));
        let pieces = futures_util::stream::iter((0..pieces).map(piece));
        let mut payload: Payload = Payload::Stream { payload: Box::pin(pieces) };
        let limits = Limits { bytes_max: encoding::BODY_BYTES_MAX, time_max: Duration::from_secs(30) };
        let request = TestRequest::default().to_http_request();
        collect(budget, &request, &mut payload, limits, held).await.map(|body| body.len())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_taken_holds_no_room() {
        const { assert!(BYTES_MAX >= encoding::BODY_BYTES_MAX, "the largest body has room") };
        let (budget, mut held) = (BodyBudget::new(256 * KIB, PATIENCE), Held::default());
        assert_eq!(collected_in(&budget, 2, &mut held).await.unwrap(), 200 * KIB);
        assert_eq!(held.kib(), 256, "it grew in two steps");
        held = Held::default();
        assert_eq!(collected_in(&budget, 3, &mut held).await.unwrap_err().status(), 503);
        assert_eq!((held.kib(), budget.free.available_permits()), (0, 256));
    }
}
