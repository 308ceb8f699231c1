//! The log level that is wished for while the cluster runs.

use serde::{Deserialize, Serialize};

use crate::api::calls::{Answer, nothing, ok};
use crate::services::control::ControlPlane;

use super::AdminCall;

/// How long a level holds where nothing is said: an hour.
const SECONDS: u64 = 3600;

/// Which level, and for how long.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLevelRequest {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// How many seconds it holds.
    #[serde(default)]
    pub seconds: Option<u64>,
}

pub(super) async fn show(plane: &ControlPlane, _call: AdminCall) -> Answer {
    ok(&plane.log_level().await?)
}

pub(super) async fn set(plane: &ControlPlane, call: AdminCall) -> Answer {
    let asked: LogLevelRequest = call.body()?;
    let seconds = asked.seconds.unwrap_or(SECONDS);
    ok(&plane.log_level_set(&call.caller, asked.level.parse()?, seconds).await?)
}

pub(super) async fn reset(plane: &ControlPlane, call: AdminCall) -> Answer {
    plane.log_level_reset(&call.caller).await?;
    nothing()
}
