//! The JSON under the keys that nodes, proxies and control share. Readers ignore names they do not
//! know, so that a newer component may add some; a name is never given a second meaning. What only
//! control reads (`control/…`) is defined by the services that own it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::ids::{NodeId, RangeId, ReplicaId, TableId, TenantId};
use crate::domain::{TableName, TenantName};
use crate::replication::split::{ChildReplicas, Split, SplitFrom};

/// `node/{uuid}/details`: stays when the node stops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeDetails {
    /// How the node is.
    pub status: NodeStatus,
    /// Where clients and proxies reach its table API.
    pub uri: String,
    /// Where other components reach it by mutual TLS; `None` where it is the same as `uri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside_uri: Option<String>,
    /// Its zone; replicas of a range are spread over zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// This data folder's incarnation: another one means the data is not the data that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Uuid>,
    /// The number of the node's last start over this folder that was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<u64>,
    /// The size of its data disk, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<u64>,
    /// What is free of it, in bytes, when last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// The program's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The highest version of the cluster's formats that the program knows; 1 where it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<u32>,
}

/// How a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeStatus {
    /// Serves.
    Okay,
    /// Serves, but is being emptied.
    Draining,
    /// Control has given it up, or it was stopped as planned.
    Down,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

/// `node/{uuid}/alive`: nothing; being there is what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct NodeAlive {}

/// `proxy/{uuid}/alive`: a proxy is there, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyAlive {
    /// Where other components reach it by mutual TLS.
    pub inside_uri: String,
    /// The program's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// `node/{uuid}/id/{tenant}/{table}/hash/{lowHash}`: a range given to the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedRange {
    /// The first hash.
    #[serde(rename = "lowHash")]
    pub low_hash: u32,
    /// The last hash, inclusive.
    #[serde(rename = "highHash")]
    pub high_hash: u32,
    /// The range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<RangeId>,
    /// The replica that the node is to have of it: the name of its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaId>,
    /// The table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_uuid: Option<TableId>,
    /// The copies that control wants the range to have, the same list under each of their nodes. A node whose
    /// own replica is not in it keeps its copy until the leader has taken it out of the group. Empty: only
    /// this node's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<AssignedReplica>,
    /// The node that is to lead where it can: a wish, obeyed when that copy is a voter and has caught up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<NodeId>,
    /// Whether the range is new, so that its copies begin with this very record. One that is brought back, or was changed since, is not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_new: bool,
}

/// One copy of a range as control wants it, in an [`AssignedRange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AssignedReplica {
    /// The node that holds it.
    pub node: NodeId,
    /// The copy. A copy that was lost and is made again has another id.
    pub replica: ReplicaId,
}

/// `node/{uuid}/id/{tenant}/{table}/details`: what a node says of a table it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableAtNode {
    /// `okay`, or a word for what is the matter.
    pub status: String,
    /// Copies that the node was given and had, and whose file is gone or of no use: they never vote again, and control
    /// gives the range a new copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<ReplicaId>,
    /// The table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_uuid: Option<TableId>,
}

/// `tenant/{tenant}/{table}/{lowHash}`: who serves a range, as its leader last published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The leader's node.
    pub node: NodeId,
    /// Where clients reach that node; a hint, `node/{uuid}/details` may know better.
    pub uri: String,
    /// Where other components reach it by mutual TLS; `None` where it is the same as `uri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside_uri: Option<String>,
    /// The last hash, inclusive; the first stands in the key.
    #[serde(rename = "highHash")]
    pub high_hash: u32,
    /// The range.
    pub range: RangeId,
    /// The number of this configuration; only grows for a range. 0 where control has made the range and
    /// no leader has published it yet: then, and only then, it starts empty.
    pub epoch: u64,
    /// The table. A table deleted and made again under its name has another.
    pub table_uuid: TableId,
    /// Every copy, the leader's included.
    #[serde(default)]
    pub replicas: Vec<RouteReplica>,
    /// Where it comes from, if it is a child of a split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_from: Option<SplitFrom>,
}

/// `control/range/{uuid}`: what control asks of a range's leader. It stands there until it is done and control has given the
/// children to their nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeWish {
    /// The table, by the names under which its routes stand.
    pub tenant: TenantName,
    /// Its own name.
    pub table: TableName,
    /// The table.
    pub table_uuid: TableId,
    /// How it is to be split.
    pub split: SplitWish,
}

/// A split as control asks for it. All ids in it are new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitWish {
    /// The first hash of the upper child.
    pub at: u32,
    /// The lower child.
    pub lower: RangeId,
    /// The upper child.
    pub upper: RangeId,
    /// The parent's members, each with its copies of the children.
    pub members: Vec<SplitMember>,
}

/// A member of a range that is to be split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitMember {
    /// The parent's copy.
    pub replica: ReplicaId,
    /// The lower child's.
    pub lower: ReplicaId,
    /// The upper child's.
    pub upper: ReplicaId,
}

impl SplitWish {
    /// The split that is put into the log.
    pub fn split(&self) -> Split {
        let copies =
            |member: &SplitMember| (member.replica, ChildReplicas { lower: member.lower, upper: member.upper });
        Split { at: self.at, lower: self.lower, upper: self.upper, members: self.members.iter().map(copies).collect() }
    }
}

/// One copy of a range, in a [`Route`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteReplica {
    /// Its node.
    pub node: NodeId,
    /// Where clients reach that node.
    pub uri: String,
    /// Where other components reach it by mutual TLS; `None` where it is the same as `uri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside_uri: Option<String>,
    /// What it may do.
    pub state: ReplicaState,
    /// The copy's own id, by which the group knows it; `None` where control made the route with one replica only, or an
    /// older version did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaId>,
}

/// What a copy of a range may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaState {
    /// Votes, may lead, may answer eventual reads.
    Voter,
    /// Is being filled; answers nothing.
    Learner,
    /// A word of a newer version: answers nothing.
    #[serde(other)]
    Unknown,
}

/// `stored/{uuid}`: what a node stores of tenants that have a limit of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoredBytes {
    /// Bytes of items in the ranges that the node leads, by tenant.
    pub tenants: BTreeMap<TenantId, u64>,
}

/// `notice/{uuid}/{timestamp}`: something a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What happened and what to do, in a sentence or two.
    pub details: String,
    /// The table it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_uuid: Option<TableId>,
    /// How often it was said, the last time at the key's time.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub count: u64,
}

impl Notice {
    /// Said so often.
    pub fn new(details: impl Into<String>, count: u64) -> Self {
        Self { details: details.into(), table_uuid: None, count }
    }
}

fn once() -> u64 {
    1
}

fn is_once(count: &u64) -> bool {
    *count == 1
}

/// The JSON bytes of a value. None of the types that go in here can fail to be written.
pub fn to_json<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_default()
}

/// A value from its JSON bytes.
///
/// # Errors
/// Where the bytes are not this type's JSON; the caller logs the key and leaves the value alone.
pub fn from_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: T, text: &str) {
        assert_eq!(std::str::from_utf8(&to_json(&value)).unwrap(), text);
        assert_eq!(from_json::<T>(text.as_bytes()).unwrap(), value);
    }

    const UUID_1: &str = "11111111-1111-1111-1111-111111111111";
    const UUID_2: &str = "22222222-2222-2222-2222-222222222222";
    const UUID_3: &str = "33333333-3333-3333-3333-333333333333";

    #[test]
    fn the_json_of_nodes_is_pinned() {
        let uri = "https://abc123:8080/".to_owned();
        let least = NodeDetails {
            status: NodeStatus::Okay,
            uri: uri.clone(),
            inside_uri: None,
            zone: Some("fra-1".into()),
            incarnation: None,
            boot: None,
            capacity_bytes: None,
            free_bytes: None,
            version: None,
            format: None,
        };
        golden(least, r#"{"status":"okay","uri":"https://abc123:8080/","zone":"fra-1"}"#);
        let all = NodeDetails {
            status: NodeStatus::Draining,
            uri,
            inside_uri: Some("https://abc123:8081/".into()),
            zone: Some("fra-1".into()),
            incarnation: Some(Uuid::from_bytes([0x11; 16])),
            boot: Some(30_064_771_075),
            capacity_bytes: Some(7),
            free_bytes: Some(5),
            version: Some("0.1.0".into()),
            format: Some(2),
        };
        let text = concat!(
            r#"{"status":"draining","uri":"https://abc123:8080/","inside_uri":"https://abc123:8081/","zone":"fra-1","#,
            r#""incarnation":"11111111-1111-1111-1111-111111111111","boot":30064771075,"capacity_bytes":7,"free_bytes":5,"version":"0.1.0","format":2}"#
        );
        golden(all, text);
        golden(NodeStatus::Down, r#""down""#);
        golden(NodeAlive {}, "{}");
        let proxy = ProxyAlive { inside_uri: "https://p:8081/".into(), version: None };
        golden(proxy.clone(), r#"{"inside_uri":"https://p:8081/"}"#);
        let text = r#"{"inside_uri":"https://p:8081/","version":"0.1.0"}"#;
        golden(ProxyAlive { version: Some("0.1.0".into()), ..proxy }, text);
        let least = AssignedRange {
            low_hash: 0,
            high_hash: 32767,
            range: None,
            replica: None,
            table_uuid: None,
            replicas: Vec::new(),
            leader: None,
            is_new: false,
        };
        golden(least.clone(), r#"{"lowHash":0,"highHash":32767}"#);
        let all = AssignedRange {
            range: Some(RangeId::from_bytes([0x11; 16])),
            replica: Some(ReplicaId::from_bytes([0x22; 16])),
            table_uuid: Some(TableId::from_bytes([0x33; 16])),
            replicas: vec![AssignedReplica {
                node: NodeId::from_bytes([0x11; 16]),
                replica: ReplicaId::from_bytes([0x22; 16]),
            }],
            leader: Some(NodeId::from_bytes([0x11; 16])),
            is_new: true,
            ..least
        };
        let copies =
            format!(r#""replicas":[{{"node":"{UUID_1}","replica":"{UUID_2}"}}],"leader":"{UUID_1}","is_new":true"#);
        let ids = format!(r#""range":"{UUID_1}","replica":"{UUID_2}","table_uuid":"{UUID_3}""#);
        golden(all, &format!(r#"{{"lowHash":0,"highHash":32767,{ids},{copies}}}"#));
        golden(TableAtNode { status: "okay".into(), lost: Vec::new(), table_uuid: None }, r#"{"status":"okay"}"#);
        let all =
            TableAtNode { status: "okay".into(), lost: Vec::new(), table_uuid: Some(TableId::from_bytes([0x33; 16])) };
        golden(all, &format!(r#"{{"status":"okay","table_uuid":"{UUID_3}"}}"#));
    }

    #[test]
    fn the_json_of_stored_bytes_is_pinned() {
        let tenants = BTreeMap::from([(TenantId::from_bytes([0x22; 16]), 7)]);
        golden(StoredBytes { tenants }, &format!(r#"{{"tenants":{{"{UUID_2}":7}}}}"#));
    }

    #[test]
    fn the_json_of_notices_is_pinned() {
        golden(Notice::new("disk nearly full", 1), r#"{"details":"disk nearly full"}"#);
        let table_uuid = Some(TableId::from_bytes([0x33; 16]));
        let all = Notice { table_uuid, ..Notice::new("disk nearly full", 3) };
        golden(all, &format!(r#"{{"details":"disk nearly full","table_uuid":"{UUID_3}","count":3}}"#));
    }

    #[test]
    fn the_json_of_routes_is_pinned() {
        let (node, uri) = (NodeId::from_bytes([0x11; 16]), "https://abc123:8080/".to_owned());
        let learner =
            RouteReplica { node, uri: uri.clone(), inside_uri: None, state: ReplicaState::Learner, replica: None };
        golden(learner, &format!(r#"{{"node":"{UUID_1}","uri":"https://abc123:8080/","state":"learner"}}"#));
        let route = Route {
            node,
            uri: uri.clone(),
            inside_uri: None,
            high_hash: 32767,
            range: RangeId::from_bytes([0x22; 16]),
            epoch: 3,
            table_uuid: TableId::from_bytes([0x33; 16]),
            replicas: vec![RouteReplica { node, uri, inside_uri: None, state: ReplicaState::Voter, replica: None }],
            split_from: None,
        };
        let text = concat!(
            r#"{"node":"11111111-1111-1111-1111-111111111111","uri":"https://abc123:8080/","highHash":32767,"#,
            r#""range":"22222222-2222-2222-2222-222222222222","epoch":3,"#,
            r#""table_uuid":"33333333-3333-3333-3333-333333333333","#,
            r#""replicas":[{"node":"11111111-1111-1111-1111-111111111111","uri":"https://abc123:8080/","state":"voter"}]}"#
        );
        golden(route.clone(), text);
        let inside_uri = Some("https://abc123:8081/".to_owned());
        let replica = RouteReplica { inside_uri: inside_uri.clone(), ..route.replicas[0].clone() };
        let elsewhere = Route { inside_uri, replicas: vec![replica], ..route };
        let text = concat!(
            r#"{"node":"11111111-1111-1111-1111-111111111111","uri":"https://abc123:8080/","#,
            r#""inside_uri":"https://abc123:8081/","highHash":32767,"#,
            r#""range":"22222222-2222-2222-2222-222222222222","epoch":3,"#,
            r#""table_uuid":"33333333-3333-3333-3333-333333333333","#,
            r#""replicas":[{"node":"11111111-1111-1111-1111-111111111111","uri":"https://abc123:8080/","#,
            r#""inside_uri":"https://abc123:8081/","state":"voter"}]}"#
        );
        golden(elsewhere.clone(), text);
        let from = SplitFrom { range: RangeId::from_bytes([0x44; 16]), index: 7, begun: false };
        let child = Route { split_from: Some(from), ..elsewhere };
        let from = r#","split_from":{"range":"44444444-4444-4444-4444-444444444444","index":7,"begun":false}}"#;
        golden(child, &(text[..text.len() - 1].to_owned() + from));
    }

    #[test]
    fn the_json_of_wishes_is_pinned() {
        let id = |byte: u8| [byte; 16];
        let member = SplitMember {
            replica: ReplicaId::from_bytes(id(0x66)),
            lower: ReplicaId::from_bytes(id(0x77)),
            upper: ReplicaId::from_bytes(id(0x88)),
        };
        let wish = RangeWish {
            tenant: TenantName::new("acme").unwrap(),
            table: TableName::new("users").unwrap(),
            table_uuid: TableId::from_bytes(id(0x33)),
            split: SplitWish {
                at: 32768,
                lower: RangeId::from_bytes(id(0x44)),
                upper: RangeId::from_bytes(id(0x55)),
                members: vec![member],
            },
        };
        let text = concat!(
            r#"{"tenant":"acme","table":"users","table_uuid":"33333333-3333-3333-3333-333333333333","#,
            r#""split":{"at":32768,"lower":"44444444-4444-4444-4444-444444444444","#,
            r#""upper":"55555555-5555-5555-5555-555555555555","members":[{"#,
            r#""replica":"66666666-6666-6666-6666-666666666666","lower":"77777777-7777-7777-7777-777777777777","#,
            r#""upper":"88888888-8888-8888-8888-888888888888"}]}}"#
        );
        golden(wish.clone(), text);
        assert_eq!(wish.split.split().members.len(), 1);
    }

    #[test]
    fn newer_words_and_names_are_read_past() {
        let details: NodeDetails = from_json(br#"{"status":"dreaming","uri":"u","mood":"good"}"#).unwrap();
        assert_eq!(details.status, NodeStatus::Unknown);
        assert!(from_json::<NodeDetails>(br#"{"uri":"u"}"#).is_err());
    }
}
