//! How the store is, for those who watch over it: under etcd's names, which dashboards and alerts know, and our own.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, IntGauge, Registry, TextEncoder};

use crate::raft::Node;

/// See the module.
pub(crate) struct Metrics {
    registry: Registry,
    streams: IntGauge,
}

impl Metrics {
    /// Of one member.
    ///
    /// # Errors
    /// A name that is there twice.
    pub(crate) fn new(node: &Arc<Node>) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let streams = IntGauge::new("ovs_cfg_watch_streams", "Watch streams that are open")?;
        registry.register(Box::new(streams.clone()))?;
        registry.register(Box::new(State::new(Arc::downgrade(node))?))?;
        Ok(Self { registry, streams })
    }

    /// Counts a watch stream while what it gives lives.
    pub(super) fn stream(&self) -> impl Drop + Send + use<> {
        struct Counted(IntGauge);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.dec();
            }
        }
        self.streams.inc();
        Counted(self.streams.clone())
    }

    /// All of them as text.
    ///
    /// # Errors
    /// That of the encoder.
    pub(super) fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Reads one number.
type Read = fn(&Node) -> i64;

/// What is read from the node when somebody asks.
struct State {
    node: std::sync::Weak<Node>,
    gauges: Vec<(IntGauge, Read)>,
}

impl State {
    fn new(node: std::sync::Weak<Node>) -> Result<Self, prometheus::Error> {
        let wanted: [(&str, &str, Read); 12] = [
            ("etcd_server_has_leader", "Whether somebody leads", |node| node.leader().is_some().into()),
            ("etcd_server_is_leader", "Whether this member leads", |node| node.is_leader().into()),
            ("etcd_server_is_learner", "Whether this member has no vote", |node| {
                (!node.status().voters.contains(&node.id)).into()
            }),
            ("etcd_server_leader_changes_seen_total", "Leaders that this member has seen", |node| {
                node.counts().leaders as i64
            }),
            ("etcd_server_proposals_committed_total", "Entries of the log that are applied", |node| {
                node.status().applied as i64
            }),
            ("etcd_server_proposals_applied_total", "Entries of the log that are applied", |node| {
                node.status().applied as i64
            }),
            ("etcd_server_proposals_pending", "Requests that wait to be agreed on", |node| {
                node.counts().pending as i64
            }),
            ("etcd_server_proposals_failed_total", "Requests that were not agreed on", |node| {
                node.counts().failed as i64
            }),
            ("etcd_mvcc_db_total_size_in_bytes", "What the store holds", |node| {
                node.read(crate::machine::Machine::bytes) as i64
            }),
            ("etcd_mvcc_db_total_size_in_use_in_bytes", "What the store holds", |node| {
                node.read(crate::machine::Machine::bytes) as i64
            }),
            ("ovs_cfg_revision", "Revision of the store", |node| {
                node.read(|machine| machine.store.revision())
            }),
            ("ovs_cfg_log_bytes", "What the log keeps in memory", |node| node.status().log_bytes as i64),
        ];
        let gauge = |(name, help, read): (&str, &str, Read)| Ok((IntGauge::new(name, help)?, read));
        Ok(Self { node, gauges: wanted.into_iter().map(gauge).collect::<Result<_, prometheus::Error>>()? })
    }
}

impl Collector for State {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(|(gauge, _)| gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(node) = self.node.upgrade() else { return Vec::new() };
        let one = |(gauge, read): &(IntGauge, Read)| {
            gauge.set(read(&node));
            gauge.collect()
        };
        self.gauges.iter().flat_map(one).collect()
    }
}
