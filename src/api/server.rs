//! The HTTP server under each surface: sockets, TLS, limits and a graceful stop. A surface (REST,
//! admin, inside) is one async function from a request to an answer; how it finds its handlers is its own
//! business. actix-web calls it as the default service of an application without routes, so that a
//! request passes no router, no extractor and no middleware of which nothing is used.
//!
//! actix-web runs one single-threaded runtime per worker, and a connection stays on the worker that
//! accepted it. So handlers need not be `Send`, and nothing is handed between threads on the way.
//! The next author must keep that handlers never block: a worker that waits for a disk waits with
//! all its connections. Services answer through channels or from memory.
//!
//! What cuts off who takes too long: headers must arrive within `header_timeout`, TLS handshakes too; a body
//! within [`super::body::Limits`]; an idle connection is closed after `keep_alive`. What cuts off who
//! sends too much: 128 KiB and 96 headers for the head (fixed in actix-http, answered 400 or 431), the body's limit, and
//! `connections_max` for each worker.
//!
//! Signals are not handled here: a process has several servers, and only `roles` knows in which order
//! they stop.

use std::any::Any;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use actix_web::dev::{Extensions, Payload, ServerHandle, ServiceRequest, ServiceResponse, fn_service};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use rustls::ServerConfig;

use super::body;
use crate::transport::pki::PeerIdentity;

/// A socket that listens, with TLS or without.
pub struct Listener {
    socket: TcpListener,
    tls: Option<ServerConfig>,
}

impl Listener {
    /// Binds `address`; port 0 takes a free one. Without `tls` it speaks plain HTTP/1.1, with it
    /// whatever `tls` negotiates by ALPN.
    ///
    /// # Errors
    /// Those of `bind`: the port is taken, or the address is not this machine's.
    pub fn bind(address: SocketAddr, tls: Option<ServerConfig>) -> std::io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address)?, tls })
    }

    /// A socket that is bound already.
    pub fn over(socket: TcpListener, tls: Option<ServerConfig>) -> Self {
        Self { socket, tls }
    }

    /// Where it listens: with the port that was taken, if 0 was asked for.
    ///
    /// # Errors
    /// Those of `getsockname`.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// How a server treats its connections.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Threads that serve; each has its own runtime.
    pub workers: usize,
    /// Connections of one worker at the same time, at most; more wait in the kernel's queue.
    pub connections_max: usize,
    /// How long the head of a request, or a TLS handshake, may take.
    pub header_timeout: Duration,
    /// How long a connection may be idle between two requests.
    pub keep_alive: Duration,
    /// How long a graceful stop waits for requests that are being answered.
    pub stop_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(2, usize::from),
            connections_max: 25_000,
            header_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            stop_timeout: Duration::from_secs(30),
        }
    }
}

/// Who the client's certificate says it is; none where that names no component. Read once, when the
/// connection is made, and kept with it ([`HttpRequest::conn_data`]); not there at all where the client
/// showed no certificate.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub Option<PeerIdentity>);

/// A server that runs until it is stopped.
pub struct RunningServer {
    addresses: Vec<SocketAddr>,
    handle: ServerHandle,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl RunningServer {
    /// Where it listens, in the order of the listeners.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no more connections, answers what is being asked, and ends.
    ///
    /// # Errors
    /// Those that ended the server.
    pub async fn stop(self) -> std::io::Result<()> {
        self.handle.stop(true).await;
        self.ended().await
    }

    /// Waits until the server ends by itself, which it does only by an error.
    ///
    /// # Errors
    /// Those that ended the server.
    pub async fn ended(self) -> std::io::Result<()> {
        self.task.await.map_err(std::io::Error::other)?
    }
}

/// Starts a server on these listeners. `surface` is called once for each worker and gives the
/// function that answers requests there. Must be called within a Tokio runtime.
///
/// # Errors
/// Those of registering the sockets with the runtime.
pub fn start<M, H, R>(listeners: Vec<Listener>, options: &ServerOptions, surface: M) -> std::io::Result<RunningServer>
where
    M: Fn() -> H + Send + Clone + 'static,
    H: Fn(HttpRequest, Payload) -> R + 'static,
    R: Future<Output = HttpResponse> + 'static,
{
    let mut server = HttpServer::new(move || {
        let answer = Rc::new(surface());
        App::new().default_service(fn_service(move |asked: ServiceRequest| {
            let (request, payload) = asked.into_parts();
            let answered = answer(request.clone(), payload);
            async move { Ok::<_, actix_web::Error>(ServiceResponse::new(request, body::shown(answered).await)) }
        }))
    })
    .workers(options.workers)
    .max_connections(options.connections_max)
    .client_request_timeout(options.header_timeout)
    .tls_handshake_timeout(options.header_timeout)
    .keep_alive(options.keep_alive)
    .shutdown_timeout(options.stop_timeout.as_secs())
    .tcp_nodelay(true)
    .on_connect(keep_peer)
    .disable_signals();
    let mut addresses = Vec::with_capacity(listeners.len());
    for listener in listeners {
        addresses.push(listener.address()?);
        listener.socket.set_nonblocking(true)?;
        server = match listener.tls {
            Some(tls) => server.listen_rustls_0_23(listener.socket, tls)?,
            None => server.listen(listener.socket)?,
        };
    }
    let server = server.run();
    let handle = server.handle();
    Ok(RunningServer { addresses, handle, task: tokio::spawn(server) })
}

type TlsStream = actix_tls::accept::rustls_0_23::TlsStream<tokio::net::TcpStream>;

fn keep_peer(stream: &dyn Any, connection: &mut Extensions) {
    let Some(stream) = stream.downcast_ref::<TlsStream>() else { return };
    if let Some(own) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        connection.insert(Peer(PeerIdentity::of_certificate(own).ok()));
    }
}
