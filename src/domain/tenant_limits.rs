//! What a tenant may use at most. It stands in the tenant's record, so everyone who follows tenants knows it.
//!
//! Two limits, each of them optional: bytes that are stored, and capacity units a second of reads and writes together, a unit being
//! what it is in DynamoDB: a strong read of up to 4 KiB, two eventual ones, or a write of up to 1 KiB. One mode for both:
//! soft writes a notice, hard refuses.
//!
//! A limit of requests is shared evenly by all who serve clients. How many those are stands beside it ([`LimitShares`]),
//! written by control, so that each knows its share from the record alone, also while control is away.

use serde::{Deserialize, Deserializer, Serialize};

use super::refusal::Refusal;

/// The most that a limit of requests can be.
pub const REQUEST_UNITS_MAX: u64 = 1_000_000_000;

/// What happens past a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitMode {
    /// A notice is written, and nothing refused.
    Soft,
    /// A notice is written, and what goes beyond it is refused.
    #[default]
    Hard,
}

/// The limits of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TenantLimits {
    /// Bytes of items, as their size is defined for the largest item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_bytes: Option<u64>,
    /// Capacity units a second, reads and writes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_units: Option<u64>,
    /// What happens past them.
    #[serde(default)]
    pub mode: LimitMode,
    /// Among how many the limit of requests is shared; none without such a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<LimitShares>,
}

/// How many serve clients, as of when control last looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitShares {
    /// Proxies, each of which takes an equal share of the limit.
    pub proxies: u32,
    /// Nodes, which take shares of it among themselves for those who ask them directly.
    pub nodes: u32,
}

/// A change of them: what is not given stays, and `null` takes a limit away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantLimitsChange {
    /// Bytes of items.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub storage_bytes: Option<Option<u64>>,
    /// Capacity units a second.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub request_units: Option<Option<u64>>,
    /// What happens past them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<LimitMode>,
}

/// Tells `null` from what is not there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl TenantLimits {
    /// Whether nothing was ever said, or everything taken back: such limits do not stand in a record.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// These limits with a change made.
    ///
    /// # Errors
    /// `BadInput` where a limit is none that can be held.
    pub fn changed(self, change: &TenantLimitsChange) -> Result<Self, Refusal> {
        if change.storage_bytes == Some(Some(0)) {
            return Err(Refusal::bad_input(
                "storage_bytes is 1 or more, or null for no limit; to keep a tenant from writing, take its principals' write away",
            ));
        }
        if let Some(Some(units)) = change.request_units
            && !(1..=REQUEST_UNITS_MAX).contains(&units)
        {
            return Err(Refusal::bad_input(format!(
                "request_units is 1 to {REQUEST_UNITS_MAX} capacity units a second, or null for no limit"
            )));
        }
        let request_units = change.request_units.unwrap_or(self.request_units);
        Ok(Self {
            storage_bytes: change.storage_bytes.unwrap_or(self.storage_bytes),
            request_units,
            mode: change.mode.unwrap_or(self.mode),
            shares: self.shares.filter(|_| request_units.is_some()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(text: &str) -> TenantLimitsChange {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_not_given_stays_and_null_takes_away() {
        let limits = TenantLimits::default();
        assert!(limits.is_default());
        let limits = limits.changed(&change(r#"{"storage_bytes":10,"request_units":5}"#)).unwrap();
        assert_eq!((limits.storage_bytes, limits.request_units, limits.mode), (Some(10), Some(5), LimitMode::Hard));
        let shared = TenantLimits { shares: Some(LimitShares { proxies: 2, nodes: 3 }), ..limits };
        let soft = shared.changed(&change(r#"{"mode":"soft"}"#)).unwrap();
        assert_eq!(soft, TenantLimits { mode: LimitMode::Soft, ..shared });
        let gone = soft.changed(&change(r#"{"storage_bytes":null,"request_units":null,"mode":"hard"}"#)).unwrap();
        assert!(gone.is_default(), "{gone:?}");
        assert!(serde_json::from_str::<TenantLimitsChange>(r#"{"storage":1}"#).is_err());
    }

    #[test]
    fn a_change_says_null_and_nothing_apart() {
        for text in ["{}", r#"{"storage_bytes":null}"#, r#"{"request_units":7,"mode":"soft"}"#] {
            assert_eq!(serde_json::to_string(&change(text)).unwrap(), text);
        }
    }

    #[test]
    fn limits_that_cannot_be_held_are_refused() {
        for (text, said) in [
            (r#"{"storage_bytes":0}"#, "storage_bytes is 1 or more"),
            (r#"{"request_units":0}"#, "request_units is 1 to 1000000000"),
            (r#"{"request_units":1000000001}"#, "request_units is 1 to"),
        ] {
            let refusal = TenantLimits::default().changed(&change(text)).unwrap_err();
            assert!(refusal.message.contains(said), "{}", refusal.message);
        }
    }

    #[test]
    fn the_json_is_pinned() {
        let text = r#"{"storage_bytes":10,"request_units":5,"mode":"soft","shares":{"proxies":2,"nodes":3}}"#;
        let limits: TenantLimits = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&limits).unwrap(), text);
        let least: TenantLimits = serde_json::from_str(r#"{"request_units":5}"#).unwrap();
        assert_eq!(serde_json::to_string(&least).unwrap(), r#"{"request_units":5,"mode":"hard"}"#);
    }
}
