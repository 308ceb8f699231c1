//! The sockets of a process that does everything: taken before anything else, so that what is wrong with them is told at once.

use std::net::{Ipv4Addr, SocketAddr};

use super::OneProcessOptions;
use crate::api::server::Listener;
use crate::roles::node_parts::StartError;

/// Both listeners, bound and not yet served.
pub(super) struct Sockets {
    pub(super) client: Listener,
    pub(super) admin: Listener,
    pub(super) url: String,
    pub(super) admin_url: String,
}

impl Sockets {
    pub(super) fn take(options: &OneProcessOptions) -> Result<Self, StartError> {
        let scheme = if options.tls.is_some() { "https" } else { "http" };
        let client = Listener::bind(options.listen, options.tls.clone()).map_err(|error| {
            StartError(format!(
                "cannot listen on {}: {error}. Choose another with --listen, port 0 takes a free one",
                options.listen
            ))
        })?;
        let admin = Self::take_admin(options)?;
        let address = |listener: &Listener| listener.address().map_err(|error| StartError(error.to_string()));
        let bound = format!("{scheme}://{}", address(&client)?);
        let url = options.advertise.as_ref().map_or(bound, |url| url.trim_end_matches('/').to_owned());
        let admin_url = format!("http://{}", address(&admin)?);
        Ok(Self { client, admin, url, admin_url })
    }

    /// The admin listener's usual port, unless someone chose one; where nobody did and it is taken, or clients get a free
    /// port too, a free one: the admin commands find it by their context.
    pub(super) fn take_admin(options: &OneProcessOptions) -> Result<Listener, StartError> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let is_chosen = options.is_admin_chosen;
        let wanted = if is_chosen || options.listen.port() != 0 { options.admin_listen } else { any };
        let error = match Listener::bind(wanted, None) {
            Ok(listener) => return Ok(listener),
            Err(error) => error,
        };
        if !is_chosen && let Ok(listener) = Listener::bind(any, None) {
            tracing::info!(%error, "the usual address of the admin API, {wanted}, is taken; it has a free port instead");
            return Ok(listener);
        }
        Err(StartError(format!(
            "cannot serve the admin API on {wanted}: {error}. Choose another with --admin-listen, port 0 takes a free one"
        )))
    }
}
