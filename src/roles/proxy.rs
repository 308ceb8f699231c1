//! `dstore proxy`: the public entry. It holds no data but sealed copies of what it was told, so that it goes on and even
//! starts while control and the coordinator are away.

use std::sync::Arc;

use super::lifecycle;
use super::member::{Followed, Ground, Member};
use super::node_parts::StartError;
use super::serving::{ClientListener, start_health};
use crate::api::health::{Condition, Health};
use crate::api::server::RunningServer;
use crate::config::Config;
use crate::domain::ids::Role;
use crate::services::items::{RemoteNodes, RemoteOptions};

/// Runs a proxy until it is told to stop. Prints its addresses as one line of JSON as soon as it has them.
///
/// # Errors
/// Where it cannot start, with what to do.
pub async fn run(config: &Config) -> Result<(), StartError> {
    let health = Health::new("proxy", env!("CARGO_PKG_VERSION"));
    let ground = Ground::take(config, Role::Proxy, health.clone())?;
    let health_server = start_health(config.metrics.listen, &health)?;
    health.note(START, Condition::Waiting("it is starting".to_owned()));
    let client = ClientListener::start(config, &health)?;
    println!(
        "{}",
        serde_json::json!({ "role": "proxy", "client": client.addresses(), "metrics": health_server.addresses() })
    );
    let stop = lifecycle::stop_asked();
    tokio::pin!(stop);
    let started = tokio::select! {
        started = start(&ground, config, &client) => Some(started?),
        () = &mut stop => None,
    };
    if let Some(running) = started {
        stop.await;
        eprintln!("stopping: answering what is under way");
        client.stop().await;
        running.stop().await;
    }
    stop_health(health_server).await
}

/// What `/readyz` calls a start that is under way.
pub(super) const START: &str = "start";

struct Running {
    followed: Followed,
    _member: Member,
    parts: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.parts.abort();
        self.followed.stop().await;
    }
}

async fn start(ground: &Ground, config: &Config, client: &ClientListener) -> Result<Running, StartError> {
    let member = Member::enter(ground, config, |_| {}).await?;
    member.parts.wait(&ground.health).await?;
    let followed = member.follow(ground, member.proxy_key(ground)?).await?;
    let (plane, authority_pem) = (member.membership.plane, &member.membership.authority_pem);
    let options = RemoteOptions::default();
    let nodes =
        Arc::new(RemoteNodes::new(plane, member.identity.clone(), authority_pem, ground.clock.clone(), options));
    let counted = nodes.clone();
    ground.health.count(move |metrics| {
        let clients = counted.client_count() as f64;
        metrics.gauge("dstore_proxy_nodes", "Nodes that this proxy asks.", &[], clients);
    });
    client.open(ground, &member, &followed, nodes);
    ground.health.note(START, Condition::Good);
    tracing::info!(%plane, id = %member.membership.id, uri = client.uri(), "the proxy serves");
    let parts = tokio::spawn(member.parts.clone().follow());
    Ok(Running { followed, _member: member, parts })
}

/// Ends the listener for health, the last of all.
///
/// # Errors
/// Those that ended it before.
pub(super) async fn stop_health(server: RunningServer) -> Result<(), StartError> {
    server.stop().await.map_err(|error| StartError(error.to_string()))
}
