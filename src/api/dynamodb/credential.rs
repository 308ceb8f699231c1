//! Whose signature it is. An access key stands for one principal of one tenant, so a request says by its key alone
//! for which tenant it is; where tenants have hosts of their own (`TENANT.DOMAIN`, setting `client.domain`), the host must be
//! that tenant's. A key of another tenant looks there as if it did not exist.

use std::sync::Arc;

use super::call::DynamoState;
use super::failure::Failure;
use super::sigv4::{Signed, bare_host};
use crate::domain::ids::TenantId;
use crate::domain::observed::Stage;
use crate::domain::{TenantName, Timestamp};
use crate::services::access_keys::AccessKey;
use crate::services::observing;
use crate::services::ports::{Caller, Capability};

/// The access key that a signature names. Where it was not at hand and news of keys had to be waited for, that ends the stage of
/// authentication.
///
/// # Errors
/// Where it is not known, or not at this host.
pub async fn find(
    state: &DynamoState,
    signed: &Signed<'_>,
    host: &str,
    now: Timestamp,
) -> Result<Arc<AccessKey>, Failure> {
    let key = match state.access.access_keys.find(signed.access_key_id) {
        // It took no time: that of the body may begin here, without a look at the clock.
        Some(known) => known,
        None => {
            let asked = state.access.access_key(signed.access_key_id, now).await;
            observing::lap(Stage::Authenticate);
            asked.ok_or_else(Failure::unrecognized_client)?
        }
    };
    let (_, tenant) = tenant_of(key.caller())?;
    match state.domain.as_deref().and_then(|domain| tenant_of_host(host, domain)) {
        Some(asked) if !asked.eq_ignore_ascii_case(tenant.as_str()) => Err(Failure::unrecognized_client()),
        _ => Ok(key),
    }
}

/// The tenant that a caller belongs to.
///
/// # Errors
/// Where it belongs to none: such a caller has no access key.
pub fn tenant_of(caller: &Caller) -> Result<&(TenantId, TenantName), Failure> {
    caller.tenant.as_ref().ok_or_else(Failure::unrecognized_client)
}

/// The tenant that a host names: what stands before the domain. None where it is no host below the domain.
fn tenant_of_host<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    let host = bare_host(host);
    let at = host.len().checked_sub(domain.len())?;
    let (before, end) = (host.get(..at)?, host.get(at..)?);
    if !end.eq_ignore_ascii_case(domain) {
        return None;
    }
    before.strip_suffix('.').filter(|tenant| !tenant.is_empty())
}

/// Checks that a caller has one of these capabilities.
///
/// # Errors
/// AccessDeniedException, which names who asked and what for.
pub fn check(caller: &Caller, wanted: &[Capability], operation: &str) -> Result<(), Failure> {
    if wanted.iter().any(|one| caller.capabilities.contains(one)) {
        return Ok(());
    }
    let tenant = caller.tenant.as_ref().map_or("", |(_, name)| name.as_str());
    let name = &caller.name;
    Err(Failure::access_denied(format!(
        "User: arn:aws:iam::{tenant}:user/{name} is not authorized to perform: dynamodb:{operation} because no \
         capability of this principal allows it"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_below_the_domain_names_a_tenant() {
        fn tenant(host: &str) -> Option<&str> {
            tenant_of_host(host, "db.example")
        }
        assert_eq!(tenant("acme.db.example"), Some("acme"));
        assert_eq!(tenant("Acme.DB.Example:8000"), Some("Acme"));
        for other in ["db.example", ".db.example", "acmedb.example", "localhost:8080", "", "127.0.0.1", "x.example"] {
            assert_eq!(tenant(other), None, "{other}");
        }
    }
}
