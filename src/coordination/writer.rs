//! Who may read and write which keys. A handle on the coordinator belongs to one [`Writer`]; the
//! embedded store checks it in its transaction layer, and `etcd::install_roles` turns the same two
//! lists into etcd's roles, so both refuse the same things.
//!
//! | writer | may write | may read |
//! |---|---|---|
//! | control | everything | everything |
//! | node | `node/{own}/`, `notice/{own}/`, `stored/{own}`, `tenant/` | those, `node/`, `stored/`, and the public part of control |
//! | proxy | `proxy/{own}/`, `notice/{own}/` | those, `tenant/`, `node/`, `stored/`, and the public part of control |
//! | reporting | nothing | `tenant/`, `node/`, `stored/`, `notice/`, and the public part of control |
//!
//! The public part of control is what a component needs to serve: tenants, tables (dropped ones too), the cluster's
//! record, and what is asked of a range's leader. Principals, sessions, access keys and sealed keys
//! are not in it: components get what they need of those from control itself, over mutual TLS.
//! `tenant/` is the one place with two kinds of writers: control makes a route, the leader renews it.

use crate::domain::ids::{NodeId, ProxyId, ReporterId};

use super::layout;

/// To whom a handle on the coordinator belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Writer {
    /// The control plane.
    Control,
    /// A node.
    Node(NodeId),
    /// A proxy.
    Proxy(ProxyId),
    /// A reporting process.
    Reporting(ReporterId),
}

const PUBLIC: [&str; 8] = [
    layout::ROUTES,
    layout::NODES,
    layout::STORED,
    layout::CONTROL_TENANTS,
    layout::CONTROL_TABLES,
    // A node deletes files of a table only when the table is in neither of the two.
    layout::CONTROL_TABLES_DELETED,
    layout::CONTROL_RANGES,
    layout::CONTROL_CLUSTER,
];

impl Writer {
    /// Prefixes under which it may write; the empty prefix is everything.
    pub fn writable_prefixes(&self) -> Vec<String> {
        match self {
            Writer::Control => vec![String::new()],
            Writer::Node(node) => {
                let own = [layout::node(*node), layout::node_notices(*node), layout::stored(*node)];
                own.into_iter().chain([layout::ROUTES.to_owned()]).collect()
            }
            Writer::Proxy(proxy) => vec![layout::proxy(*proxy), layout::node_notices(NodeId(proxy.0))],
            Writer::Reporting(_) => Vec::new(),
        }
    }

    /// Prefixes under which it may read; the empty prefix is everything.
    pub fn readable_prefixes(&self) -> Vec<String> {
        let public = PUBLIC.iter().map(|prefix| (*prefix).to_owned());
        match self {
            Writer::Control => vec![String::new()],
            Writer::Node(node) => public.chain([layout::node_notices(*node)]).collect(),
            Writer::Proxy(_) => public.chain(self.writable_prefixes()).collect(),
            Writer::Reporting(_) => public.chain([layout::NOTICES.to_owned()]).collect(),
        }
    }

    /// Whether it may write this key.
    pub fn may_write(&self, key: &str) -> bool {
        match self {
            Writer::Control => true,
            _ => self.writable_prefixes().iter().any(|prefix| key.starts_with(prefix.as_str())),
        }
    }

    /// Whether it may read this key, or all keys under this prefix.
    pub fn may_read(&self, key_or_prefix: &str) -> bool {
        match self {
            Writer::Control => true,
            _ => self.readable_prefixes().iter().any(|prefix| key_or_prefix.starts_with(prefix.as_str())),
        }
    }

    /// The name of its user and role in etcd, and in logs.
    pub fn name(&self) -> String {
        match self {
            Writer::Control => "control".to_owned(),
            Writer::Node(node) => format!("node-{node}"),
            Writer::Proxy(proxy) => format!("proxy-{proxy}"),
            Writer::Reporting(reporter) => format!("reporting-{reporter}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_do_what() {
        let own = NodeId::from_bytes([1; 16]);
        let other = NodeId::from_bytes([2; 16]);
        let node = Writer::Node(own);
        let proxy = Writer::Proxy(ProxyId::from_bytes([3; 16]));
        let reporting = Writer::Reporting(ReporterId::from_bytes([4; 16]));
        for (key, writes) in [
            (layout::node_details(own), true),
            (layout::node_details(other), false),
            ("notice/".to_owned() + &own.to_string() + "/x", true),
            (layout::node_notices(other), false),
            ("tenant/acme/users/0000000000".to_owned(), true),
            ("control/table/acme/users".to_owned(), false),
        ] {
            assert_eq!(node.may_write(&key), writes, "{key}");
            assert!(Writer::Control.may_write(&key));
            assert!(!proxy.may_write(&key) && !reporting.may_write(&key));
        }
        assert!(node.may_write(&layout::stored(own)) && !node.may_write(&layout::stored(other)));
        assert!(proxy.may_read("stored/") && !proxy.may_write(&layout::stored(own)));
        let own_proxy = ProxyId::from_bytes([3; 16]);
        assert!(
            proxy.may_write(&layout::proxy_alive(own_proxy)) && !proxy.may_write(&layout::proxy_alive(ProxyId(own.0)))
        );
        assert!(
            proxy.may_write(&layout::node_notices(NodeId(own_proxy.0)))
                && !node.may_write(&layout::proxy_alive(own_proxy))
        );
        assert!(node.may_read("node/") && node.may_read("control/table/acme/users"));
        assert!(!node.may_read("control/key/x") && !node.may_read("") && !node.may_read(&layout::node_notices(other)));
        assert!(!proxy.may_read("control/") && !proxy.may_read("notice/") && proxy.may_read("tenant/"));
        assert!(reporting.may_read("notice/") && !reporting.may_read("control/access-key/x"));
    }

    #[test]
    fn whoever_writes_reads_what_it_wrote() {
        for writer in [Writer::Node(NodeId::from_bytes([1; 16])), Writer::Proxy(ProxyId::from_bytes([3; 16]))] {
            assert!(writer.writable_prefixes().iter().all(|prefix| writer.may_read(prefix)));
        }
    }
}
