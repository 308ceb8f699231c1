//! A listener that is open before what it serves is ready. The port is taken at the start, so that a process
//! that cannot have it fails at once and its address can be told; until the gate opens every request
//! is answered with what is waited for, instead of hanging in a queue of the kernel's.

use std::cell::OnceCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse};

use super::{body, error};
use crate::domain::Refusal;

/// What is served, once it is there.
pub struct Gate<S> {
    served: OnceLock<S>,
}

impl<S> Default for Gate<S> {
    fn default() -> Self {
        Self { served: OnceLock::new() }
    }
}

impl<S> Gate<S> {
    /// Serves this from now on. A gate opens once; what comes later is ignored.
    pub fn open(&self, served: S) {
        let _ = self.served.set(served);
    }
}

/// An answer in the making.
pub type Answering = Pin<Box<dyn Future<Output = HttpResponse>>>;

/// The function that answers requests by `surface` when the gate is open, and refuses them before.
pub fn surface<S, M, H>(
    gate: Arc<Gate<S>>,
    waiting: Arc<dyn Fn() -> Result<(), Refusal> + Send + Sync>,
    surface: M,
) -> impl Fn(HttpRequest, Payload) -> Answering
where
    S: Clone + 'static,
    M: Fn(S) -> H + 'static,
    H: Fn(HttpRequest, Payload) -> Answering + 'static,
{
    // One for each worker, made at its first request after the gate opened.
    let made: Rc<OnceCell<H>> = Rc::new(OnceCell::new());
    move |request, payload| {
        let Some(served) = gate.served.get() else {
            let refusal = waiting().err().unwrap_or_else(|| Refusal::unavailable("this process is starting", 1));
            return Box::pin(async move { body::close_after(error::response(&refusal, None), payload) });
        };
        made.get_or_init(|| surface(served.clone()))(request, payload)
    }
}
