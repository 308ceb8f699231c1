//! Where reporting finds those who count: the inside listeners of all nodes and proxies that are there now.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::coordination::layout;
use crate::coordination::values::{ProxyAlive, from_json};
use crate::domain::Refusal;
use crate::domain::ids::Role;
use crate::domain::usage::Component;

use super::history::refusal;
use super::keys::KeyOwner;
use super::plane::ControlPlane;
use super::wire::{WireMember, WireMembers};

impl ControlPlane {
    /// The nodes and proxies that are alive, for a member that asks.
    ///
    /// # Errors
    /// `Denied` where it is none any more; `Unavailable` where the coordinator cannot be asked.
    pub async fn inside_members(&self, peer: KeyOwner) -> Result<WireMembers, Refusal> {
        self.member_check(peer).await?;
        let nodes = self.node_rows().await?.into_iter().filter(|(_, row)| row.alive).map(|(node, row)| WireMember {
            component: Component { role: Role::Node, id: node.0 },
            inside_url: row.details.inside_uri.unwrap_or(row.details.uri),
        });
        let mut members: Vec<WireMember> = nodes.collect();
        let known: BTreeSet<Uuid> =
            self.member_records(Role::Proxy).await?.into_iter().map(|member| member.id).collect();
        for entry in self.coordinator.list(layout::PROXIES).await.map_err(refusal)?.entries {
            let Some(proxy) = layout::parse_proxy_alive(&entry.key).filter(|proxy| known.contains(&proxy.0)) else {
                continue;
            };
            match from_json::<ProxyAlive>(&entry.value) {
                Ok(ProxyAlive { inside_uri, .. }) => {
                    let component = Component { role: Role::Proxy, id: proxy.0 };
                    members.push(WireMember { component, inside_url: inside_uri });
                }
                Err(_) => tracing::warn!(key = %entry.key, "a proxy's sign of life cannot be read"),
            }
        }
        Ok(WireMembers { members })
    }
}
