//! Who may do what, decided in one place before any handler runs. The route table says what each
//! endpoint needs; nothing else in `api` looks at capabilities.
//!
//! | who | own tenant | another tenant, or one that is not there |
//! |---|---|---|
//! | root | everything | everything; 404 where it is not there |
//! | principal with what is needed | yes | 404 |
//! | principal without | 403 | 404 |
//! | no valid credential | 401 | 401 |
//!
//! The 404 for a tenant of others is the same, word for word, as for one that does not exist, and it
//! comes before capabilities are looked at: otherwise 403 would tell that there is something.
//! A tenant is the caller's own only if name and id are both the same: a tenant that was deleted and
//! made again under its old name is another one, and old tokens do not open it.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header;

use crate::domain::ids::TenantId;
use crate::domain::{Refusal, RefusalKind};
use crate::services::ports::{Authenticator, Caller, Capability};

/// What an endpoint asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing, not even a credential: health and the description of the service.
    Nothing,
    /// A valid credential of anybody; the answer shows only what is the caller's.
    Anybody,
    /// One of these, in the tenant that the path names; root has all.
    AnyOf(&'static [Capability]),
    /// A principal of the whole cluster.
    Root,
}

/// Tells who is asking, by the bearer token (RFC 6750 §2.1) of the request.
///
/// # Errors
/// `Unauthenticated`, saying what to send.
pub async fn authenticate(authenticator: &dyn Authenticator, request: &HttpRequest) -> Result<Arc<Caller>, Refusal> {
    let token = bearer_token(request)?;
    match authenticator.recall(token) {
        Some(caller) => Ok(caller),
        None => authenticator.authenticate(token).await,
    }
}

/// Checks that `caller` may use an endpoint with this need, on the tenant that the path names.
///
/// # Errors
/// `NotFound` for another tenant's path, else `Denied`.
pub fn authorise(caller: &Caller, need: Need, tenant: Option<&str>) -> Result<(), Refusal> {
    let Some((_, own)) = &caller.tenant else { return Ok(()) };
    if let Some(asked) = tenant
        && asked != own.as_str()
    {
        return Err(no_tenant(asked));
    }
    match need {
        Need::Nothing | Need::Anybody => Ok(()),
        Need::AnyOf(wanted) if wanted.iter().any(|one| caller.capabilities.contains(one)) => Ok(()),
        Need::AnyOf(wanted) => {
            let wanted: Vec<&str> = wanted.iter().map(|capability| capability_name(*capability)).collect();
            Err(denied(format!(
                "this needs the capability {}, which this principal does not have",
                wanted.join(" or ")
            )))
        }
        Need::Root => Err(denied("only a principal of the whole cluster may do this".to_owned())),
    }
}

/// Checks that a tenant found by its name is the caller's own by its id too.
///
/// # Errors
/// `NotFound`, as for a tenant that is not there.
pub fn own_tenant(caller: &Caller, id: TenantId, name: &str) -> Result<(), Refusal> {
    match &caller.tenant {
        Some((own, _)) if *own != id => Err(no_tenant(name)),
        _ => Ok(()),
    }
}

/// There is no such tenant, or it is not for this caller to know of: the same words for both.
pub fn no_tenant(name: &str) -> Refusal {
    Refusal::not_found(format!("there is no tenant {:?}", name.chars().take(80).collect::<String>()))
}

/// The capability as it is spelled in tokens and documents.
pub fn capability_name(capability: Capability) -> &'static str {
    match capability {
        Capability::Read => "read",
        Capability::Write => "write",
        Capability::Admin => "admin",
    }
}

fn bearer_token(request: &HttpRequest) -> Result<&str, Refusal> {
    const HOW: &str = "send `Authorization: Bearer TOKEN`";
    let unauthenticated = |what: &str| Refusal::new(RefusalKind::Unauthenticated, format!("{what}; {HOW}"));
    let mut given = request.headers().get_all(header::AUTHORIZATION);
    let value = given.next().ok_or_else(|| unauthenticated("no credential was sent"))?;
    if given.next().is_some() {
        return Err(unauthenticated("more than one credential was sent"));
    }
    let text = value.to_str().map_err(|_| unauthenticated("the credential holds characters that no token has"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim_ascii()),
        _ => Err(unauthenticated("the credential is not a bearer token")),
    }
}

fn denied(message: String) -> Refusal {
    Refusal::new(RefusalKind::Denied, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TenantName;
    use crate::domain::ids::PrincipalId;
    use actix_web::test::TestRequest;

    fn caller(tenant: Option<&str>, capabilities: &[Capability]) -> Caller {
        Caller {
            principal: PrincipalId::from_bytes([1; 16]),
            name: "someone".into(),
            tenant: tenant.map(|name| (TenantId::from_bytes([2; 16]), TenantName::new(name).unwrap())),
            capabilities: capabilities.to_vec(),
        }
    }

    #[test]
    fn the_table_of_who_may_do_what_holds() {
        use RefusalKind::{Denied, NotFound};
        let read = Need::AnyOf(&[Capability::Read]);
        let (root, reader, nobody) =
            (caller(None, &[]), caller(Some("acme"), &[Capability::Read]), caller(Some("acme"), &[]));
        let ask = |who: &Caller, need, tenant| authorise(who, need, tenant).map_err(|refusal| refusal.kind);
        for need in [Need::Anybody, read, Need::Root] {
            assert_eq!(ask(&root, need, Some("other")), Ok(()));
            assert_eq!(ask(&reader, need, Some("other")), Err(NotFound), "before capabilities are looked at");
            assert_eq!(ask(&nobody, need, Some("other")), Err(NotFound));
        }
        assert_eq!(ask(&reader, read, Some("acme")), Ok(()));
        assert_eq!(ask(&nobody, read, Some("acme")), Err(Denied));
        assert_eq!(ask(&reader, Need::AnyOf(&[Capability::Write, Capability::Admin]), Some("acme")), Err(Denied));
        assert_eq!(ask(&reader, Need::Root, Some("acme")), Err(Denied));
        assert_eq!(ask(&nobody, Need::Anybody, None), Ok(()));
    }

    #[test]
    fn a_tenant_made_again_is_not_the_old_one() {
        let old = caller(Some("acme"), &[Capability::Read]);
        assert!(own_tenant(&old, TenantId::from_bytes([2; 16]), "acme").is_ok());
        let refusal = own_tenant(&old, TenantId::from_bytes([3; 16]), "acme").unwrap_err();
        assert_eq!(refusal, no_tenant("acme"));
        assert!(own_tenant(&caller(None, &[]), TenantId::from_bytes([3; 16]), "acme").is_ok());
    }

    #[test]
    fn only_one_bearer_token_is_taken() {
        let with = |values: &[&str]| {
            let mut request = TestRequest::default();
            for value in values {
                request = request.append_header(("authorization", *value));
            }
            bearer_token(&request.to_http_request()).map(str::to_owned)
        };
        assert_eq!(with(&["Bearer abc"]).unwrap(), "abc");
        assert_eq!(with(&["bearer  abc "]).unwrap(), "abc");
        for bad in [&[][..], &["abc"], &["Basic abc"], &["Bearer"], &["Bearer a", "Bearer a"], &["Bearer ä"]] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
    }
}
