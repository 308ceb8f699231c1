//! What was used, asked of a reporter over its inside listener. Reporters say themselves where they are ([`super::members`]); the one that
//! joined first is asked first, since it has gathered the longest, and the others where it does not answer.

use std::sync::Arc;

use async_trait::async_trait;

use crate::coordination::values::from_json;
use crate::coordination::{Coordinator, layout};
use crate::domain::ids::{PlaneId, Role};
use crate::domain::usage::query::{UsageAnswer, UsageQuestion};
use crate::domain::{Refusal, RefusalKind};
use crate::services::reporting::UsageReports;
use crate::transport::client::JsonClient;
use crate::transport::pki::PeerIdentity;
use crate::transport::tls::{Identity, client_config_of};

use super::history::refusal;
use super::records::MemberRecord;
use super::usage::no_reporter;

/// See the module's text.
pub struct RemoteUsageReports {
    /// The control plane.
    pub plane: PlaneId,
    /// Where reporters are recorded.
    pub coordinator: Arc<dyn Coordinator>,
    /// The certificate that is shown.
    pub identity: Arc<Identity>,
    /// Who signed those of reporters.
    pub authority_pem: String,
}

#[async_trait]
impl UsageReports for RemoteUsageReports {
    async fn usage(&self, question: UsageQuestion) -> Result<UsageAnswer, Refusal> {
        let listing = self.coordinator.list(layout::CONTROL_REPORTERS).await.map_err(refusal)?;
        let mut reporters: Vec<MemberRecord> =
            listing.entries.iter().filter_map(|entry| from_json(&entry.value).ok()).collect();
        reporters.sort_by_key(|reporter| (reporter.joined_at, reporter.id));
        let mut last = no_reporter();
        for reporter in reporters {
            match self.ask(&reporter, &question).await {
                Err(refusal) if matches!(refusal.kind, RefusalKind::Unavailable | RefusalKind::Denied) => {
                    last = Refusal::unavailable(format!("no reporter answers: {refusal}"), 5);
                }
                answered => return answered,
            }
        }
        Err(last)
    }
}

impl RemoteUsageReports {
    async fn ask(&self, reporter: &MemberRecord, question: &UsageQuestion) -> Result<UsageAnswer, Refusal> {
        let address = reporter.inside_url.as_ref().ok_or_else(|| {
            Refusal::unavailable(
                format!("the reporter {} has not said yet where it is; is it running?", reporter.id),
                5,
            )
        })?;
        let peer = PeerIdentity { plane: self.plane, role: Role::Reporting, id: reporter.id };
        let tls = client_config_of(self.identity.clone(), &self.authority_pem, peer)
            .map_err(|problem| Refusal::internal(problem.to_string()))?;
        JsonClient::new(address, Some(tls))?.get(&format!("/inside/v1/usage?{}", question.to_query())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::control::testing::Cluster;
    use crate::services::control::{KeyOwner, UsageAsked};
    use crate::transport::pki::certificate_request;
    use uuid::Uuid;

    #[tokio::test]
    async fn reporters_are_asked_where_they_say_they_are() {
        let cluster = Cluster::start().await;
        let (key_pem, request_pem) = certificate_request().unwrap();
        let certificate_pem = cluster.plane.certificate_for_control(Uuid::from_u128(1), &request_pem).await.unwrap();
        let authority_pem = cluster.plane.cluster().authority_pem.clone();
        cluster.plane.ask_reporters_through(Arc::new(RemoteUsageReports {
            plane: cluster.plane.plane(),
            coordinator: cluster.coordinator.clone(),
            identity: Identity::new(&certificate_pem, &key_pem, &authority_pem).unwrap(),
            authority_pem,
        }));
        let ask = async || cluster.plane.usage(UsageAsked::default()).await.unwrap_err();
        assert_eq!(ask().await.kind, RefusalKind::NotFound);

        let peer = KeyOwner { role: Role::Reporting, id: Uuid::from_u128(2) };
        let say = async |url: &str| cluster.plane.member_address_set(peer, url.to_owned()).await;
        assert_eq!(say("https://127.0.0.1:1").await.unwrap_err().kind, RefusalKind::Denied, "it is no member");
        cluster.plane.member_register_local(Role::Reporting, peer.id, None).await.unwrap();
        assert!(ask().await.message.contains("has not said yet where it is"));
        assert_eq!(say("http://127.0.0.1:1").await.unwrap_err().kind, RefusalKind::BadInput);
        // Nobody listens there.
        say("https://127.0.0.1:1").await.unwrap();
        let refusal = ask().await;
        assert!(refusal.kind == RefusalKind::Unavailable && refusal.message.contains("127.0.0.1:1"), "{refusal}");
        cluster.plane.member_remove(&cluster.root, Role::Reporting, peer.id).await.unwrap();
        assert_eq!(ask().await.kind, RefusalKind::NotFound);
    }
}
