//! Certificates are exchanged at two thirds of their life, while serving: control signs a new one for the
//! connection that the old one still proves, it is kept on disk, and the next handshake shows it.
//! Connections that are open go on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::membership::Membership;
use crate::domain::{Clock, Refusal};
use crate::services::control::remote::RemoteControl;
use crate::transport::tls::Identity;

/// How often a component looks whether it is time.
const LOOK_PAUSE: Duration = Duration::from_secs(600);

/// What renews a member's certificate.
pub struct Renewal {
    /// Control, which signs.
    pub control: RemoteControl,
    /// The certificate in use.
    pub identity: Arc<Identity>,
    /// The data folder where it is kept.
    pub data: PathBuf,
    /// What is kept.
    pub membership: Mutex<Membership>,
    /// Tells whether it is time.
    pub clock: Arc<dyn Clock>,
}

impl Renewal {
    /// Renews the certificate if it is time. Whether it was.
    ///
    /// # Errors
    /// What control refuses; the certificate before stays. One that could not be written to disk is used all the same.
    pub async fn look(&self) -> Result<bool, Refusal> {
        if !self.identity.renewal_due(self.clock.now()) {
            return Ok(false);
        }
        let (certificate_pem, key_pem) = self.control.certificate_renew().await?;
        let renewed = self.membership.lock().renewed(certificate_pem, &key_pem);
        if let Err(error) = renewed.keep(&self.data) {
            tracing::error!(%error, "the new certificate could not be kept: the next start begins with the old one");
        }
        *self.membership.lock() = renewed;
        Ok(true)
    }

    /// Looks now and then until dropped.
    pub async fn run(self: Arc<Self>) {
        let mut tick = tokio::time::interval(LOOK_PAUSE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match self.look().await {
                Ok(true) => tracing::info!("the certificate was renewed"),
                Ok(false) => {}
                Err(refusal) => tracing::warn!(%refusal, "the certificate could not be renewed; trying again"),
            }
        }
    }
}
