//! What reporting asks of whoever counts: batches of usage, until it has them. A node answers it beside its ranges; it is all
//! that a proxy answers inside.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::{HttpRequest, HttpResponse};

use super::{InsideNeed, admit, peer_of};
use crate::api::calls::{self, Answer, Call, Route, ok};
use crate::domain::ids::{PlaneId, Role};
use crate::domain::{Refusal, RefusalKind};
use crate::services::control::KeyOwner;
use crate::services::usage::UsageSource;

/// Where usage is asked for, with POST.
pub const USAGE_PATH: &str = "/inside/v1/usage";

type UsageRoute = Route<Arc<dyn UsageSource>, Option<KeyOwner>, InsideNeed>;

/// What reporting asks.
pub static USAGE_ROUTES: &[UsageRoute] = &[UsageRoute {
    method: "POST",
    path: USAGE_PATH,
    need: InsideNeed::Roles(&[Role::Reporting]),
    query: &[],
    handler: |source, call| Box::pin(async move { pull(&*source, call).await }),
}];

async fn pull(source: &dyn UsageSource, call: Call<Option<KeyOwner>>) -> Answer {
    let unknown = || Refusal::new(RefusalKind::Unauthenticated, "this is for members of the cluster");
    let reporter = call.caller.ok_or_else(unknown)?;
    ok(&source.pull(reporter.id, call.body()?).await?)
}

/// Answers one request.
pub(super) async fn answer(
    source: Arc<dyn UsageSource>,
    plane: PlaneId,
    request: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let admit = async |need: &InsideNeed, request: &HttpRequest, _: &[(&'static str, String)]| {
        admit(*need, peer_of(request, plane))
    };
    calls::answer(USAGE_ROUTES, source, admit, request, payload).await
}

/// The function that answers a proxy's inside requests, for [`crate::api::server::start`].
pub fn usage_surface(
    source: Arc<dyn UsageSource>,
    plane: PlaneId,
) -> impl Fn(HttpRequest, Payload) -> Pin<Box<dyn Future<Output = HttpResponse>>> + Clone {
    move |request, payload| Box::pin(answer(source.clone(), plane, request, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::usage::{Component, KeptUpTo, UsagePull, UsagePulled};
    use async_trait::async_trait;
    use uuid::Uuid;

    struct Repeats;

    #[async_trait]
    impl UsageSource for Repeats {
        async fn pull(&self, reporter: Uuid, pull: UsagePull) -> Result<UsagePulled, Refusal> {
            let component = Component { role: Role::Proxy, id: reporter };
            Ok(UsagePulled { component, batches: Vec::new(), dropped: pull.batches_max.into() })
        }
    }

    #[test]
    fn the_json_is_pinned() {
        let acknowledged = Some(KeptUpTo { boot: Uuid::from_bytes([0x11; 16]), interval: 7 });
        let pull = UsagePull { acknowledged, batches_max: 9 };
        let text = r#"{"acknowledged":{"boot":"11111111-1111-1111-1111-111111111111","interval":7},"batches_max":9}"#;
        assert_eq!(serde_json::to_string(&pull).unwrap(), text);
        let nothing: UsagePull = serde_json::from_str(r#"{"acknowledged":null,"batches_max":9}"#).unwrap();
        assert_eq!(nothing, UsagePull { acknowledged: None, ..pull });
    }

    #[tokio::test]
    async fn who_asks_is_who_the_certificate_names() {
        let body = r#"{"acknowledged":null,"batches_max":9}"#;
        let reporter = KeyOwner { role: Role::Reporting, id: Uuid::from_bytes([5; 16]) };
        let call = |caller| Call::of_test(caller, Vec::new(), Vec::new(), body);
        let (status, told) = pull(&Repeats, call(Some(reporter))).await.unwrap();
        assert_eq!((status, &told["dropped"]), (200, &9.into()));
        assert_eq!(told["component"]["id"], reporter.id.to_string());
        assert_eq!(pull(&Repeats, call(None)).await.unwrap_err().kind, RefusalKind::Unauthenticated);
    }
}
