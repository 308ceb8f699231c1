//! What a user of a process that is its own control plane needs to begin: a token, a tenant, an access key.
//!
//! They are made at the first start and kept in `<data>/credentials.json`, mode 0600. A later start looks whether
//! what is kept still works (it may have been revoked, it may be about to end, the folder may be another plane's by
//! now) and makes anew only what does not.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::ids::PrincipalId;
use crate::domain::{Clock, Refusal, TenantName};
use crate::services::control::{ControlPlane, PrincipalRequest, SessionStart};
use crate::services::ports::{Authenticator, Caller, Capability, Catalog};

use super::node_parts::StartError;
use super::private_files;

/// The tenant that is there from the first start.
pub const DEFAULT_TENANT: &str = "default";
/// How long a token is good: it is made anew when it has less than half of this left.
const TOKEN_SECONDS: u64 = 365 * 24 * 3600;
/// The name of the file in the data folder.
pub const FILE_NAME: &str = "credentials.json";

/// What a user needs to begin. There is no `Debug`: most of it is secret.
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// Where clients are served.
    pub url: String,
    /// A token of root.
    pub token: String,
    /// The tenant that is there.
    pub tenant: String,
    /// An access key of that tenant.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
}

/// What the file holds.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    credentials: Credentials,
    token_expires_at_seconds: u64,
    #[serde(default)]
    admin_url: String,
}

/// What credentials are made with.
pub struct Maker<'a> {
    /// The control plane.
    pub control: &'a ControlPlane,
    /// Tells whether a token works.
    pub authenticator: &'a dyn Authenticator,
    /// The present time.
    pub clock: &'a dyn Clock,
    /// Who makes them, for the history.
    pub name: &'static str,
}

/// Says what was being done when a service refused.
pub fn told(what: &str) -> impl Fn(Refusal) -> StartError + '_ {
    move |refusal| StartError(format!("{what}: {refusal}"))
}

impl Maker<'_> {
    /// The credentials kept in the data folder, or new ones, with these addresses.
    ///
    /// # Errors
    /// Where they can be neither made nor kept.
    pub async fn ready(&self, data: &Path, url: &str, admin_url: &str) -> Result<Credentials, StartError> {
        let path = data.join(FILE_NAME);
        let kept: Option<Kept> = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let root = self.control.principal_root().await.map_err(told("the root principal"))?;
        let caller = Caller { principal: root.id, name: self.name.to_owned(), tenant: None, capabilities: Vec::new() };
        let (token, token_expires_at_seconds) = match self.kept_token(kept.as_ref()).await {
            Some(token) => token,
            None => self.make_token(&caller).await?,
        };
        let (access_key_id, secret_access_key) = match self.kept_access_key(kept.as_ref()).await? {
            Some(access_key) => access_key,
            None => self.make_access_key(&caller).await?,
        };
        let tenant = DEFAULT_TENANT.to_owned();
        let credentials = Credentials { url: url.to_owned(), token, tenant, access_key_id, secret_access_key };
        let kept = Kept { credentials: credentials.clone(), token_expires_at_seconds, admin_url: admin_url.to_owned() };
        let json = serde_json::to_vec_pretty(&kept).map_err(|error| StartError(error.to_string()))?;
        let json = zeroize::Zeroizing::new(json);
        if std::fs::read(&path).ok().as_deref() != Some(json.as_slice()) {
            private_files::replace(&path, &json).map_err(|error| StartError(format!("{}: {error}", path.display())))?;
        }
        Ok(credentials)
    }

    async fn kept_token(&self, kept: Option<&Kept>) -> Option<(String, u64)> {
        let kept = kept?;
        let now_seconds = self.clock.now().0 / 1_000_000;
        let is_fresh = kept.token_expires_at_seconds > now_seconds + TOKEN_SECONDS / 2;
        let token = &kept.credentials.token;
        let is_good = is_fresh && self.authenticator.authenticate(token).await.is_ok();
        is_good.then(|| (token.clone(), kept.token_expires_at_seconds))
    }

    async fn make_token(&self, caller: &Caller) -> Result<(String, u64), StartError> {
        let start = SessionStart { note: self.name.to_owned(), seconds: Some(TOKEN_SECONDS) };
        let granted = self.control.session_start(caller, caller.principal, start).await.map_err(told("a token"))?;
        Ok((granted.token.to_string(), self.clock.now().0 / 1_000_000 + TOKEN_SECONDS))
    }

    async fn kept_access_key(&self, kept: Option<&Kept>) -> Result<Option<(String, String)>, StartError> {
        let Some(kept) = kept else { return Ok(None) };
        let credentials = &kept.credentials;
        let tenant = TenantName::new(DEFAULT_TENANT).map_err(told("the default tenant"))?;
        let principals = self.control.principal_list(Some(&tenant)).await.map_err(told("principals"))?;
        let known = self.control.access_key_list(None).await.map_err(told("access keys"))?;
        let is_good = known.iter().any(|key| {
            key.access_key_id == credentials.access_key_id
                && key.revoked_at.is_none()
                && principals.iter().any(|owner| owner.id == key.principal && owner.revoked_at.is_none())
        });
        Ok(is_good.then(|| (credentials.access_key_id.clone(), credentials.secret_access_key.clone())))
    }

    /// Makes the default tenant too, where it is not there.
    async fn make_access_key(&self, caller: &Caller) -> Result<(String, String), StartError> {
        let tenant = TenantName::new(DEFAULT_TENANT).map_err(told("the default tenant"))?;
        self.control.create_tenant(caller, &tenant).await.map_err(told("the default tenant"))?;
        let owner = self.default_principal(caller, &tenant).await?;
        let made = self.control.access_key_create(caller, owner).await.map_err(told("an access key"))?;
        Ok((made.access_key_id, made.secret_access_key.to_string()))
    }

    async fn default_principal(&self, caller: &Caller, tenant: &TenantName) -> Result<PrincipalId, StartError> {
        let known = self.control.principal_list(Some(tenant)).await.map_err(told("principals"))?;
        if let Some(principal) = known.into_iter().find(|principal| principal.revoked_at.is_none()) {
            return Ok(principal.id);
        }
        let request = PrincipalRequest {
            name: "default".to_owned(),
            tenant: Some(tenant.clone()),
            capabilities: vec![Capability::Read, Capability::Write, Capability::Admin],
        };
        self.control.principal_create(caller, request).await.map(|made| made.id).map_err(told("a principal"))
    }
}
