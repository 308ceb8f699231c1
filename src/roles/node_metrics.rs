//! What a node tells of itself in numbers. No number carries the name of a range or a table: what there is of each
//! node, lane or state is few, however many ranges there are, and is counted where it happens or when somebody asks. What was
//! served to clients stands in [`crate::api::usage_metrics`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::group_parts::NodeGroups;
use super::node_parts::RunningNode;
use crate::api::health::{Health, Metrics};
use crate::api::usage_metrics;
use crate::crypto::page::PAGE_LENGTH;
use crate::services::engine::Engine;
use crate::services::group::host::Groups;
use crate::services::group::incoming::Incoming;
use crate::services::scrubbing::ScrubCounters;
use crate::services::usage::Usage;
use crate::transport::links::{Lane, Links};

/// Whose numbers they are.
struct Watched {
    engine: Arc<Engine>,
    groups: Arc<Groups>,
    links: Arc<Links>,
    incoming: Arc<Incoming>,
    unpublished: Arc<AtomicUsize>,
    scrub: Arc<ScrubCounters>,
    usage: Arc<Usage>,
}

/// Has `health` tell of a node. Where there are several in the process, each number carries which of them it is of.
pub fn watch(health: &Health, node: &RunningNode, number: Option<u16>) {
    let NodeGroups { groups, links, incoming, .. } = &node.groups;
    let watched = Watched {
        engine: Arc::clone(&node.engine),
        groups: Arc::clone(groups),
        links: Arc::clone(links),
        incoming: Arc::clone(incoming),
        unpublished: Arc::clone(&node.unpublished),
        scrub: Arc::clone(&node.scrub),
        usage: Arc::clone(&node.usage),
    };
    let count = move |metrics: &mut Metrics| {
        watched.ranges(metrics);
        watched.log(metrics);
        watched.groups(metrics);
        watched.standing(metrics);
        watched.links(metrics);
        watched.scrub(metrics);
        usage_metrics::tell(metrics, &watched.usage.numbers());
    };
    match number {
        Some(number) => health.count_as("node", number.to_string(), count),
        None => health.count(count),
    }
}

impl Watched {
    fn ranges(&self, metrics: &mut Metrics) {
        let replicas = self.engine.replicas();
        let damaged = replicas.iter().filter(|replica| replica.damage().is_some()).count();
        let help = "Ranges that this node holds.";
        metrics.gauge("dstore_node_ranges", help, &[("state", "serving")], (replicas.len() - damaged) as f64);
        metrics.gauge("dstore_node_ranges", help, &[("state", "damaged")], damaged as f64);
        let help = "Routes of ranges led from this node that the coordinator does not show yet.";
        metrics.gauge("dstore_node_routes_unpublished", help, &[], self.unpublished.load(Ordering::Relaxed) as f64);
    }

    fn log(&self, metrics: &mut Metrics) {
        let log = self.engine.log().counters();
        metrics.gauge("dstore_node_log_bytes", "Bytes of the commit log's segments.", &[], log.bytes_total as f64);
        let mut count = |name: &str, help: &str, value: u64| metrics.counter(name, help, &[], value as f64);
        count("dstore_node_log_records_total", "Records that the commit log made durable.", log.records);
        count("dstore_node_log_syncs_total", "Times that the commit log was synced.", log.syncs);
        count("dstore_node_log_written_bytes_total", "Bytes written to the commit log.", log.bytes_written);
        let admission = self.engine.admission();
        let help = "Writes that were refused, since too many were under way or the disk was nearly full.";
        count("dstore_node_writes_refused_total", help, admission.refused());
        let is_low = f64::from(u8::from(admission.is_near_full()));
        metrics.gauge("dstore_node_disk_low", "1 where the disk has less room than limits.disk_notice.", &[], is_low);
    }

    fn scrub(&self, metrics: &mut Metrics) {
        let scrub = &self.scrub;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let help = "Pages of files that were verified in the background.";
        metrics.counter("dstore_node_scrub_pages_total", help, &[], read(&scrub.pages));
        let help = "Bytes of files that were verified in the background.";
        let bytes = read(&scrub.pages) * PAGE_LENGTH as f64 + read(&scrub.segment_bytes);
        metrics.counter("dstore_node_scrub_bytes_total", help, &[], bytes);
        let help = "Pages that were found damaged.";
        metrics.counter("dstore_node_scrub_damaged_pages_total", help, &[], read(&scrub.damaged_pages));
        let help = "Segments of the commit log that were found damaged.";
        metrics.counter("dstore_node_scrub_damaged_segments_total", help, &[], read(&scrub.damaged_segments));
        let help =
            "Damaged segments that the commit log still needs: the node does not start again while there are any.";
        metrics.gauge("dstore_node_log_damaged_segments", help, &[], read(&scrub.damaged_segments_left));
        let help = "Ranges led from this node whose copies were compared.";
        metrics.counter("dstore_node_scrub_ranges_compared_total", help, &[], read(&scrub.compared));
        let help = "Copies that differed from the majority of their range's.";
        metrics.counter("dstore_node_scrub_copies_differing_total", help, &[], read(&scrub.differing));
        let help = "Copies on this node that were given up because they are damaged.";
        metrics.counter("dstore_node_scrub_copies_given_up_total", help, &[], read(&scrub.given_up));
        let help =
            "When all files had last been verified, in seconds since 1970; 0 where they were not since the start.";
        metrics.gauge("dstore_node_scrub_completed_seconds", help, &[], read(&scrub.completed_at));
    }

    fn groups(&self, metrics: &mut Metrics) {
        let stats = self.groups.stats();
        let help = "Groups that this node has a replica of and that were awake since it started.";
        metrics.gauge("dstore_node_groups", help, &[("state", "awake")], stats.slots.awake as f64);
        metrics.gauge("dstore_node_groups", help, &[("state", "asleep")], stats.slots.asleep as f64);
        let help = "Groups that are led from this node; of those that sleep, that were when they fell asleep.";
        metrics.gauge("dstore_node_groups_leading", help, &[("state", "awake")], stats.slots.leading as f64);
        metrics.gauge("dstore_node_groups_leading", help, &[("state", "asleep")], stats.leading_asleep as f64);
        let mut count = |name: &str, help: &str, value: u64| metrics.counter(name, help, &[], value as f64);
        count("dstore_node_elections_total", "Elections that a replica of this node won.", stats.elections);
        count("dstore_node_groups_woken_total", "Groups that woke up.", stats.woken);
        count("dstore_node_groups_slept_total", "Groups that fell asleep.", stats.fallen_asleep);
        count("dstore_node_groups_looked_at_total", "Groups that the regular look looked at.", stats.looked_at);
        count("dstore_node_beacons_total", "Beacons sent to other nodes.", stats.beacons);
        count("dstore_node_snapshots_sent_total", "Snapshots that others took in from here.", stats.snapshots_sent);
        count("dstore_node_snapshots_taken_total", "Snapshots taken in from others.", stats.snapshots_taken);
    }

    fn standing(&self, metrics: &mut Metrics) {
        let standing = self.groups.standing();
        let help = "Entries that the furthest behind copy on that node lacks, of groups awake and led from here.";
        for (peer, lag) in standing.lags {
            metrics.gauge("dstore_node_replication_lag_entries", help, &[("peer", &peer.to_string())], lag as f64);
        }
        let help = "Groups led from this node of which a voting copy is away or far behind.";
        metrics.gauge("dstore_node_groups_under_replicated", help, &[], standing.under_replicated as f64);
        let help = "Groups that are awake on this node and of which no leader is known.";
        metrics.gauge("dstore_node_groups_leaderless", help, &[], standing.leaderless as f64);
    }

    fn links(&self, metrics: &mut Metrics) {
        for (name, lane) in [("small", Lane::Small), ("bulk", Lane::Bulk), ("signs", Lane::Signs)] {
            let counts = self.links.counts(lane);
            let labels = [("lane", name)];
            let mut count = |name: &str, help: &str, value: u64| metrics.counter(name, help, &labels, value as f64);
            count("dstore_link_frames_total", "Frames brought to other nodes.", counts.frames);
            count("dstore_link_messages_total", "Messages in frames brought to other nodes.", counts.messages);
            count("dstore_link_bytes_total", "Bytes of frames brought to other nodes.", counts.bytes);
            count("dstore_link_frames_failed_total", "Frames that did not get through.", counts.frames_failed);
            count(
                "dstore_link_messages_lost_total",
                "Messages in frames that did not get through.",
                counts.messages_lost,
            );
            let help = "Messages that were not taken, since too much waited for their node.";
            count("dstore_link_messages_refused_total", help, counts.messages_refused);
            let help = "Times that a node was reached again after a frame had failed.";
            count("dstore_link_reconnects_total", help, counts.reconnects);
            let help = "Nodes whose last frame did not get through.";
            metrics.gauge("dstore_link_unreached", help, &labels, self.links.unreached(lane) as f64);
        }
        let incoming = self.incoming.counts();
        let mut count = |name: &str, help: &str, value: u64| metrics.counter(name, help, &[], value as f64);
        count("dstore_link_received_frames_total", "Frames that other nodes brought.", incoming.frames);
        count("dstore_link_received_messages_total", "Messages that other nodes brought.", incoming.messages);
        let help = "Frames and messages that were not understood.";
        count("dstore_link_received_senseless_total", help, incoming.senseless + incoming.unknown);
        metrics.gauge(
            "dstore_link_waiting_bytes",
            "Bytes that wait to be sent.",
            &[],
            self.links.waiting_bytes() as f64,
        );
    }
}
