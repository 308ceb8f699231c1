//! `dstore node` as a member of a cluster: it stores ranges, serves them to proxies over mutual TLS, and answers clients that
//! ask it directly for what it holds.
//!
//! The two listeners take their ports first, because a node tells its addresses when it joins. Until its data is open they
//! answer what it waits for.

use std::sync::Arc;

use super::away;
use super::expiring;
use super::group_parts::Wires;
use super::inside::{InsideSocket, failed};
use super::lifecycle;
use super::limiting::Limiting;
use super::member::{Followed, Ground, Member};
use super::node_metrics;
use super::node_parts::{self, NodeIdentity, RunningNode, StartError};
use super::proxy::{START, stop_health};
use super::serving::{ClientListener, server_options, start_health};
use crate::api::gate::{self, Gate};
use crate::api::health::{Condition, Health};
use crate::api::inside::{self, NodeInside};
use crate::api::server::{self, RunningServer};
use crate::config::Config;
use crate::coordination::values::{NodeDetails, NodeStatus};
use crate::domain::ids::{NodeId, Role};
use crate::services::control::JoinRequest;
use crate::services::control::records::RECORDS_FORMAT;
use crate::services::items::OwnNode;
use crate::services::range_reports::NodeReporter;
use crate::services::tenant_limits::Door;
use crate::storage::keys::{FileKeys, KeyOwner};
use crate::transport::dialing::NodeDialer;
use crate::transport::links::Inbox;

/// Runs a node until it is told to stop. Prints its addresses as one line of JSON as soon as it has them.
///
/// # Errors
/// Where it cannot start, with what to do.
pub async fn run(config: &Config) -> Result<(), StartError> {
    let health = Health::new("node", env!("CARGO_PKG_VERSION"));
    let ground = Ground::take(config, Role::Node, health.clone())?;
    let health_server = start_health(config.metrics.listen, &health)?;
    health.note(START, Condition::Waiting("it is starting".to_owned()));
    crate::storage::vfs::register(ground.random.clone()).map_err(|error| StartError(error.to_string()))?;
    let client = ClientListener::start(config, &health)?;
    let inside = InsideSocket::take(config.inside.listen, config.inside.advertise.as_deref())?;
    println!(
        "{}",
        serde_json::json!({
            "role": "node",
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
        eprintln!("stopping: handing leadership over, answering what is under way and writing memory to disk");
        // While all are answered still, so that nobody notices.
        running.node.groups.hand_over().await;
        client.stop().await;
        running.node.groups.depart().await;
        running.stop().await;
    }
    stop_health(health_server).await
}

struct Running {
    node: RunningNode,
    inside: RunningServer,
    followed: Followed,
    _member: Member,
    _limiting: Limiting,
    fresh: tokio::task::JoinHandle<()>,
    expiring: tokio::task::JoinHandle<()>,
    away: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        if let Err(error) = self.inside.stop().await {
            tracing::error!(%error, "the inside listener did not stop cleanly");
        }
        self.fresh.abort();
        self.expiring.abort();
        self.away.abort();
        self.node.stop().await;
        self.followed.stop().await;
    }
}

async fn start(
    ground: &Ground,
    config: &Config,
    client: &ClientListener,
    socket: InsideSocket,
) -> Result<Running, StartError> {
    let zone = &config.node.zone;
    let (uri, inside_uri) = (client.uri().to_owned(), socket.uri.clone());
    let describe = |request: &mut JoinRequest| {
        request.uri = Some(uri.clone());
        request.inside_uri = Some(inside_uri.clone());
        request.zone = Some(zone.clone());
    };
    let member = Member::enter(ground, config, describe).await?;
    // Before anything is waited for: a proxy that asks meanwhile is answered, and does not hang.
    let (gate, inside) = start_inside(ground, config, &member, socket)?;
    member.parts.wait(&ground.health).await?;
    let details = details(uri, inside_uri, zone);
    let node = NodeId(member.membership.id);
    let identity = NodeIdentity { node, plane: member.membership.plane, data: ground.data.clone(), details };
    let settings = lifecycle::node_settings(config, 1);
    let (clock, random) = (ground.clock.clone(), ground.random.clone());
    let (coordinator, parts) = (member.coordinator.clone(), member.parts.clone());
    let passphrase = ground.passphrase.clone();
    let dialer = NodeDialer::new(identity.plane, member.identity.clone(), &member.membership.authority_pem);
    let wires = Wires::Across(dialer);
    let running = node_parts::start(identity, settings, wires, coordinator, parts, passphrase, clock, random).await?;
    member.parts.started();
    node_metrics::watch(&ground.health, &running, None);
    let engine = running.engine.clone();
    ground.health.watch("storage", move || {
        engine.readiness().map_or_else(|refusal| Condition::Waiting(refusal.to_string()), |()| Condition::Good)
    });
    // Proxies are served as soon as the data is open: they check credentials themselves.
    let reporter =
        NodeReporter::new(running.engine.clone(), running.database.clone()).with_groups(running.groups.groups.clone());
    let (ranges, inbox) = (running.groups.ranges.clone(), running.groups.incoming.clone() as Arc<dyn Inbox>);
    let usage = running.usage.clone();
    gate.open(NodeInside {
        service: ranges.clone(),
        own: Arc::new(reporter),
        inbox: Some(inbox),
        usage: usage.clone(),
        observing: ground.observing.clone(),
    });
    let key = running.keys.newest(KeyOwner::Node);
    let key = key.map_err(|error| StartError(format!("the node's key: {error}")))?.key;
    let followed = member.follow(ground, key).await?;
    let own = OwnNode::new(node, ranges);
    let (coordinator, clock, notices) = (member.coordinator.clone(), ground.clock.clone(), running.notices.clone());
    let mut limiting = Limiting::start(Door::Node, &followed.routing, coordinator, clock, notices, &ground.health);
    limiting.at_node(&running, member.coordinator.clone());
    let expiring = expiring::at_node(&running, &followed, ground, config);
    let away = away::watch(followed.routing.clone(), followed.access.clone(), running.notices.clone());
    usage.begin();
    client.open(ground, &member, &followed, Arc::new(own), usage.meter(), limiting.limiter.clone());
    ground.health.note(START, Condition::Good);
    tracing::info!(plane = %member.membership.plane, id = %node, uri = client.uri(), "the node serves");
    let fresh = tokio::spawn(member.parts.clone().until_told());
    Ok(Running { node: running, inside, followed, _member: member, _limiting: limiting, fresh, expiring, away })
}

/// What the node says of itself; what it does not know yet it tells later.
fn details(uri: String, inside_uri: String, zone: &str) -> NodeDetails {
    NodeDetails {
        status: NodeStatus::Okay,
        uri,
        inside_uri: Some(inside_uri),
        zone: Some(zone.to_owned()),
        incarnation: None,
        boot: None,
        capacity_bytes: None,
        free_bytes: None,
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        format: Some(RECORDS_FORMAT),
    }
}

type InsideGate = Arc<Gate<NodeInside>>;

fn start_inside(
    ground: &Ground,
    config: &Config,
    member: &Member,
    socket: InsideSocket,
) -> Result<(InsideGate, RunningServer), StartError> {
    let (gate, plane, health): (InsideGate, _, _) = (Arc::default(), member.membership.plane, ground.health.clone());
    let waiting: Arc<dyn Fn() -> Result<(), crate::domain::Refusal> + Send + Sync> =
        Arc::new(move || health.readiness());
    let behind = gate.clone();
    let server = server::start(
        vec![socket.secured(&member.identity, &member.membership.authority_pem)?],
        &server_options(config),
        move || gate::surface(behind.clone(), waiting.clone(), move |to: NodeInside| inside::node_surface(to, plane)),
    );
    Ok((gate, server.map_err(|error| failed(&error))?))
}
