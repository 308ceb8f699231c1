//! `dstore proxy`: the public entry. It holds no data but sealed copies of what it was told, so that it goes on and even
//! starts while control and the coordinator are away.
//!
//! Beside the listener for clients it has one for reporting, which asks it for what was counted.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::away;
use super::inside::{InsideSocket, failed};
use super::lifecycle;
use super::limiting::Limiting;
use super::member::{Followed, Ground, Member, ProxyKeys};
use super::node_parts::StartError;
use super::proxy_presence::ProxyPresence;
use super::serving::{ClientListener, server_options, start_health};
use crate::api::health::{Condition, Health};
use crate::api::inside::usage_surface;
use crate::api::server::{self, RunningServer, ServerOptions};
use crate::api::usage_metrics;
use crate::config::{Config, Origin, Origins};
use crate::coordination::values::ProxyAlive;
use crate::domain::ids::{NodeId, ProxyId, Role};
use crate::domain::usage::Component;
use crate::services::engine::notices::Notices;
use crate::services::items::{RemoteNodes, RemoteOptions};
use crate::services::notices::NoticeWriter;
use crate::services::tenant_limits::Door;
use crate::services::usage::{Usage, UsageParts, UsageSource};
use crate::storage::keys::{FileKeys, KeyOwner};

/// Runs a proxy until it is told to stop. Prints its addresses as one line of JSON as soon as it has them.
///
/// # Errors
/// Where it cannot start, with what to do.
pub async fn run(config: &Config, origins: &Origins) -> Result<(), StartError> {
    let health = Health::new("proxy", env!("CARGO_PKG_VERSION"));
    let ground = Ground::take(config, Role::Proxy, health.clone())?;
    let health_server = start_health(config.metrics.listen, &health)?;
    health.note(START, Condition::Waiting("it is starting".to_owned()));
    let client = ClientListener::start(config, &health)?;
    let inside = InsideSocket::take(inside_listen(config, origins), config.inside.advertise.as_deref())?;
    println!(
        "{}",
        serde_json::json!({
            "role": "proxy",
            "client": client.addresses(),
            "inside": [inside.address],
            "metrics": health_server.addresses(),
        })
    );
    let stop = lifecycle::stop_asked();
    tokio::pin!(stop);
    let started = tokio::select! {
        started = start(&ground, config, &client, inside) => Some(started?),
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

/// Where reporting is served: on a free port of this machine where nobody chose another, since a node beside has the usual one.
fn inside_listen(config: &Config, origins: &Origins) -> SocketAddr {
    match origins.get("inside.listen") {
        Some((_, Origin::Default)) | None => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        Some(_) => config.inside.listen,
    }
}

struct Running {
    followed: Followed,
    member: Member,
    usage: Arc<Usage>,
    inside: RunningServer,
    presence: ProxyPresence,
    limiting: Limiting,
    tasks: [tokio::task::JoinHandle<()>; 3],
}

impl Running {
    async fn stop(self) {
        // Everything is answered by now, so the last counts are in it.
        self.usage.stop().await;
        self.presence.leave().await;
        if let Err(error) = self.inside.stop().await {
            tracing::error!(%error, "the inside listener did not stop cleanly");
        }
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        drop(self.limiting);
        self.followed.stop().await;
        drop(self.member);
    }
}

async fn start(
    ground: &Ground,
    config: &Config,
    client: &ClientListener,
    socket: InsideSocket,
) -> Result<Running, StartError> {
    let member = Member::enter(ground, config, |_| {}).await?;
    member.parts.wait(&ground.health).await?;
    let keys = member.proxy_keys(ground)?;
    let key = keys.newest(KeyOwner::Node).map_err(|error| StartError(error.to_string()))?.key;
    let followed = member.follow(ground, key).await?;
    let (plane, authority_pem) = (member.membership.plane, &member.membership.authority_pem);
    let options = RemoteOptions::default();
    let nodes =
        Arc::new(RemoteNodes::new(plane, member.identity.clone(), authority_pem, ground.clock.clone(), options));
    let counted = nodes.clone();
    ground.health.count(move |metrics| {
        let clients = counted.client_count() as f64;
        metrics.gauge("dstore_proxy_nodes", "Nodes that this proxy asks.", &[], clients);
    });
    let (usage, notices) = count_usage(ground, config, &member, keys);
    let inside_uri = socket.uri.clone();
    let inside = serve_inside(config, &member, socket, usage.clone())?;
    let proxy = ProxyId(member.membership.id);
    let alive = ProxyAlive { inside_uri, version: Some(env!("CARGO_PKG_VERSION").to_owned()) };
    let presence = ProxyPresence::begin(proxy, alive, member.coordinator.clone());
    usage.begin();
    let (coordinator, clock) = (member.coordinator.clone(), ground.clock.clone());
    let limiting = Limiting::start(Door::Proxy, &followed.routing, coordinator, clock, notices.clone(), &ground.health);
    client.open(ground, &member, &followed, nodes, usage.meter(), limiting.limiter.clone());
    ground.health.note(START, Condition::Good);
    tracing::info!(%plane, id = %member.membership.id, uri = client.uri(), "the proxy serves");
    let writer = NoticeWriter::new(NodeId(proxy.0), member.coordinator.clone(), ground.clock.clone());
    let away = away::watch(followed.routing.clone(), followed.access.clone(), notices.clone());
    let tasks = [tokio::spawn(member.parts.clone().follow()), tokio::spawn(writer.follow(notices)), away];
    Ok(Running { followed, member, usage, inside, presence, limiting, tasks })
}

/// Counts what is served, and shows it in `/metrics`; what a person should know of it goes to the notices.
fn count_usage(ground: &Ground, config: &Config, member: &Member, keys: ProxyKeys) -> (Arc<Usage>, Arc<Notices>) {
    let notices = Arc::new(Notices::default());
    let parts = UsageParts {
        component: Component { role: Role::Proxy, id: member.membership.id },
        plane: member.membership.plane,
        folder: member.folder.join("usage"),
        keys: Arc::new(keys),
        clock: ground.clock.clone(),
        random: ground.random.clone(),
        notices: notices.clone(),
        gauges: None,
    };
    let usage = Usage::new(parts, lifecycle::usage_settings(config));
    let told = usage.clone();
    ground.health.count(move |metrics| usage_metrics::tell(metrics, &told.numbers()));
    (usage, notices)
}

fn serve_inside(
    config: &Config,
    member: &Member,
    socket: InsideSocket,
    usage: Arc<dyn UsageSource>,
) -> Result<RunningServer, StartError> {
    let plane = member.membership.plane;
    let options = ServerOptions { workers: 1, connections_max: 256, ..server_options(config) };
    server::start(vec![socket.secured(&member.identity, &member.membership.authority_pem)?], &options, move || {
        usage_surface(usage.clone(), plane)
    })
    .map_err(|error| failed(&error))
}

/// Ends the listener for health, the last of all.
///
/// # Errors
/// Those that ended it before.
pub(super) async fn stop_health(server: RunningServer) -> Result<(), StartError> {
    server.stop().await.map_err(|error| StartError(error.to_string()))
}
