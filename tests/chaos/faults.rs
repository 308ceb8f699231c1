//! What goes wrong. Each fault begins, holds for a while, and ends; a schedule is drawn from a seed, so that a run that found
//! something can be had again. The order of events within the processes is not, which is what the simulation is for. Changes of
//! placement are among them: nothing goes wrong by them alone, but everything has to hold while they are under way.

use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::placement::Wish;

/// What goes wrong with whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Killed as it stands, and started again.
    Kill(String),
    /// Every node at once, as when the power fails.
    KillAllNodes,
    /// Stands still with its connections open.
    Pause(String),
    /// Reaches nobody, and nobody reaches it: its cable is pulled.
    Unplug(String),
    /// A node apart from the other nodes; proxies and the rest reach all of them.
    Part(String),
    /// A node does not hear the other nodes, and they hear it.
    Deaf(String),
    /// The other nodes do not hear a node, and it hears them.
    Mute(String),
    /// Packets are lost both ways.
    Lossy(String),
    /// Packets come late.
    Slow(String),
    /// A node's disk is full to the last byte.
    FullDisk(String),
    /// Asked to stop, and started again.
    Restart(String),
    /// Ranges split, copies and leaderships moved.
    Placement(Wish),
}

/// Draws a fault.
pub fn draw(cluster: &Cluster, dice: &mut StdRng) -> Fault {
    let node = cluster.nodes[dice.random_range(0..cluster.nodes.len())].host.name.clone();
    let proxy = cluster.proxies[dice.random_range(0..cluster.proxies.len())].host.name.clone();
    match dice.random_range(0..27) {
        0..=3 => Fault::Kill(node),
        4 => Fault::KillAllNodes,
        5..=7 => Fault::Pause(node),
        8 | 9 => Fault::Unplug(node),
        10 | 11 => Fault::Part(node),
        12 => Fault::Deaf(node),
        13 => Fault::Mute(node),
        14 => Fault::Lossy(node),
        15 => Fault::Slow(node),
        16 => Fault::FullDisk(node),
        17 => Fault::Restart(node),
        18 => Fault::Kill(proxy),
        19 => Fault::Unplug(proxy),
        20 => Fault::Kill("etcd".to_owned()),
        21 => Fault::Pause("etcd".to_owned()),
        22 => Fault::Kill("control".to_owned()),
        23 => Fault::Pause("control".to_owned()),
        _ => Fault::Placement(Wish::draw(node, dice)),
    }
}

impl Fault {
    /// Whether it only asks for another placement.
    pub fn is_placement(&self) -> bool {
        matches!(self, Fault::Placement(_))
    }

    /// Whom it befalls; none where it is several. Another placement is asked of control, who has to be there.
    pub fn victim(&self) -> Option<&str> {
        match self {
            Fault::KillAllNodes => None,
            Fault::Placement(_) => Some("control"),
            Fault::Kill(name)
            | Fault::Pause(name)
            | Fault::Unplug(name)
            | Fault::Part(name)
            | Fault::Deaf(name)
            | Fault::Mute(name)
            | Fault::Lossy(name)
            | Fault::Slow(name)
            | Fault::FullDisk(name)
            | Fault::Restart(name) => Some(name),
        }
    }

    /// Lets it happen.
    pub async fn begin(&self, cluster: &mut Cluster) {
        match self {
            Fault::Kill(name) => cluster.member(name).kill(),
            Fault::KillAllNodes => cluster.nodes.iter_mut().for_each(|node| node.kill()),
            Fault::Pause(name) => cluster.member(name).running().pause(),
            Fault::Unplug(name) => cluster.member(name).host.unplug(),
            Fault::Part(name) => {
                let (host, others) = (cluster.member(name).host.clone(), cluster.other_nodes(name));
                host.do_not_hear(&others);
                host.do_not_reach(&others);
            }
            Fault::Deaf(name) => {
                let others = cluster.other_nodes(name);
                cluster.member(name).host.do_not_hear(&others);
            }
            Fault::Mute(name) => {
                let others = cluster.other_nodes(name);
                cluster.member(name).host.do_not_reach(&others);
            }
            Fault::Lossy(name) => cluster.member(name).host.lose("0.2"),
            Fault::Slow(name) => cluster.member(name).host.slow_down(),
            Fault::FullDisk(name) => cluster.fill_disk(name),
            Fault::Restart(name) => {
                let code = cluster.member(name).running().wait_for_stop().await;
                assert_eq!(code, Some(0), "{name} stops well");
                cluster.member(name).process = None;
            }
            Fault::Placement(wish) => wish.ask(cluster).await,
        }
    }

    /// Makes it good. Whoever was killed is started, and not waited for.
    pub fn end(&self, cluster: &mut Cluster) {
        match self {
            Fault::Kill(name) | Fault::Restart(name) => cluster.begin(name),
            Fault::KillAllNodes => {
                let names: Vec<String> = cluster.nodes.iter().map(|node| node.host.name.clone()).collect();
                names.iter().for_each(|name| cluster.begin(name));
            }
            Fault::Pause(name) => cluster.member(name).running().resume(),
            Fault::FullDisk(name) => cluster.free_disk(name),
            Fault::Placement(_) => {}
            Fault::Unplug(name)
            | Fault::Part(name)
            | Fault::Deaf(name)
            | Fault::Mute(name)
            | Fault::Lossy(name)
            | Fault::Slow(name) => cluster.member(name).host.heal(),
        }
    }

    /// Begins it, holds it for a while, and makes it good.
    pub async fn wait_through(&self, cluster: &mut Cluster, seconds: f64) {
        self.begin(cluster).await;
        wait(seconds).await;
        self.end(cluster);
    }
}

/// Lets the clients work for a while.
pub async fn wait(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}
