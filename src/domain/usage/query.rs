//! Questions about what was used, and their answers: what `dstore control usage` asks control, and control a reporter.
//!
//! A question names an interval, how long a step of it is, and by what the counts are kept apart. Both ends are brought
//! to whole steps, outwards, and the answer says what came of it: nothing is ever counted in part. Steps are those of the roll-ups, minutes
//! and hours, and days, which are 24 hours in UTC.
//!
//! Between components a question travels as a query string, so that it is a GET that changes nothing.

use serde::{Deserialize, Serialize};

use super::counts::UsageCounts;
use crate::domain::Refusal;
use crate::domain::ids::{PrincipalId, TableId, TenantId};

/// How long a step of an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UsageStep {
    /// A minute.
    #[serde(rename = "1m")]
    Minute,
    /// An hour.
    #[serde(rename = "1h")]
    Hour,
    /// A day, in UTC.
    #[serde(rename = "1d")]
    Day,
}

impl UsageStep {
    /// Its length in milliseconds.
    pub fn length_ms(self) -> u64 {
        match self {
            UsageStep::Minute => 60_000,
            UsageStep::Hour => 3_600_000,
            UsageStep::Day => 86_400_000,
        }
    }

    /// The one that shows an interval of this length best.
    pub fn fitting(length_ms: u64) -> Self {
        match length_ms {
            0..=21_600_000 => UsageStep::Minute,
            21_600_001..=1_209_600_000 => UsageStep::Hour,
            _ => UsageStep::Day,
        }
    }
}

/// By what counts are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UsageBy {
    /// Tenants.
    Tenant,
    /// Tables of tenants.
    Table,
    /// What was asked for.
    Operation,
    /// Who asked.
    Principal,
    /// How it ended.
    Result,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuestion {
    /// The first moment that counts, in milliseconds since 1970.
    pub from_ms: u64,
    /// The first that counts no more.
    pub to_ms: u64,
    /// How long a step is.
    pub step: UsageStep,
    /// By what counts are kept apart.
    pub by: UsageBy,
    /// Of this tenant only.
    pub tenant: Option<TenantId>,
    /// Of this table only.
    pub table: Option<TableId>,
}

/// The parameters of a question's query string.
pub const QUESTION_PARAMETERS: [&str; 6] = ["from_ms", "to_ms", "step", "by", "tenant", "table"];

impl UsageQuestion {
    /// With both ends brought to whole steps.
    ///
    /// # Errors
    /// `BadInput` where nothing lies between them.
    pub fn aligned(self) -> Result<Self, Refusal> {
        let length = self.step.length_ms();
        if self.from_ms >= self.to_ms {
            return Err(Refusal::bad_input("the time asked for ends before it begins"));
        }
        let from_ms = self.from_ms - self.from_ms % length;
        let to_ms = self.to_ms.div_ceil(length).saturating_mul(length);
        Ok(Self { from_ms, to_ms, ..self })
    }

    /// As a query string. All of it are digits, letters and `-`.
    pub fn to_query(&self) -> String {
        let mut text =
            format!("from_ms={}&to_ms={}&step={}&by={}", self.from_ms, self.to_ms, word(&self.step), word(&self.by));
        if let Some(tenant) = self.tenant {
            text.push_str(&format!("&tenant={tenant}"));
        }
        if let Some(table) = self.table {
            text.push_str(&format!("&table={table}"));
        }
        text
    }

    /// From the parameters of a query string.
    ///
    /// # Errors
    /// `BadInput` where one is missing or not understood.
    pub fn from_parameters<'a>(parameter: impl Fn(&str) -> Option<&'a str>) -> Result<Self, Refusal> {
        let wrong = |name: &str| Refusal::bad_input(format!("the query parameter {name} is not understood"));
        let number = |name: &str| parameter(name).and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| wrong(name));
        let id = |name: &str| parameter(name).map(|text| text.parse().map_err(|_| wrong(name))).transpose();
        let tenant: Option<uuid::Uuid> = id("tenant")?;
        let table: Option<uuid::Uuid> = id("table")?;
        Ok(Self {
            from_ms: number("from_ms")?,
            to_ms: number("to_ms")?,
            step: parameter("step").and_then(of_word).ok_or_else(|| wrong("step"))?,
            by: parameter("by").and_then(of_word).ok_or_else(|| wrong("by"))?,
            tenant: tenant.map(TenantId),
            table: table.map(TableId),
        })
    }
}

/// The word of a choice, as JSON spells it.
fn word<T: Serialize>(choice: &T) -> String {
    serde_json::to_value(choice).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The choice of a word.
pub fn of_word<T: serde::de::DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(word.to_owned())).ok()
}

/// A time as people write it, RFC 3339 or a date (its first moment in UTC), in milliseconds since 1970.
///
/// # Errors
/// `BadInput` for anything else.
pub fn time_ms(text: &str) -> Result<u64, Refusal> {
    let date = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let time = text.parse::<jiff::Timestamp>().ok().or_else(|| date().map(|zoned| zoned.timestamp()));
    time.and_then(|time| u64::try_from(time.as_millisecond()).ok()).ok_or_else(|| {
        Refusal::bad_input(format!("{text:?} is no time; write it as 2026-01-31T15:00:00Z, or a date as 2026-01-31"))
    })
}

/// A length of time as people write it, such as `90m`, `24h` or `30d`, in milliseconds.
///
/// # Errors
/// `BadInput` for anything else.
pub fn span_ms(text: &str) -> Result<u64, Refusal> {
    let unit_ms = match text.chars().last() {
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => 0,
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|number| number.parse::<u32>().ok());
    match number.unwrap_or(0) {
        number if number > 0 && unit_ms > 0 => Ok(u64::from(number) * unit_ms),
        _ => Err(Refusal::bad_input(format!("{text:?} is no length of time; write it as 90m, 24h or 30d"))),
    }
}

/// What was counted of one kind in one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// When the step begins, in milliseconds since 1970.
    pub at_ms: u64,
    /// What the counts are of, by what was asked for.
    #[serde(flatten)]
    pub of: UsageOf,
    /// What was counted.
    pub counts: UsageCounts,
}

/// What counts are of. What they are not kept apart by is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct UsageOf {
    /// The tenant's name, as it was last known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_name: Option<String>,
    /// The table's name, as it was last known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_name: Option<String>,
    /// The tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// The table; none also for requests that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableId>,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<PrincipalId>,
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageAnswer {
    /// The beginning of the first step.
    pub from_ms: u64,
    /// The end of the last one.
    pub to_ms: u64,
    /// How long a step is.
    pub step: UsageStep,
    /// By what counts are kept apart.
    pub by: UsageBy,
    /// Everything together.
    pub total: UsageCounts,
    /// Steps and kinds of which something was counted, in order of time.
    pub rows: Vec<UsageRow>,
}

/// For the fuzzer: a question that was understood is told and understood as itself.
#[doc(hidden)]
pub fn fuzz_usage_question(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let parameters: Vec<(&str, &str)> = text.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let of = |wanted: &str| parameters.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    if let Ok(question) = UsageQuestion::from_parameters(of) {
        let told = question.to_query();
        let again: Vec<(&str, &str)> = told.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let of = |wanted: &str| again.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        assert_eq!(UsageQuestion::from_parameters(of).as_ref(), Ok(&question));
        if let Ok(aligned) = question.clone().aligned() {
            assert!(aligned.from_ms <= question.from_ms);
            assert!(aligned.to_ms >= question.to_ms || aligned.to_ms == u64::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn questions_come_back(from_ms: u64, to_ms: u64, tenant: Option<[u8; 16]>, table: Option<[u8; 16]>, choice in 0usize..15) {
            let steps = [UsageStep::Minute, UsageStep::Hour, UsageStep::Day];
            let bys = [UsageBy::Tenant, UsageBy::Table, UsageBy::Operation, UsageBy::Principal, UsageBy::Result];
            let question = UsageQuestion {
                from_ms,
                to_ms,
                step: steps[choice % 3],
                by: bys[choice / 3],
                tenant: tenant.map(TenantId::from_bytes),
                table: table.map(TableId::from_bytes),
            };
            let told = question.to_query();
            let pairs: Vec<(&str, &str)> = told.split('&').map(|pair| pair.split_once('=').unwrap()).collect();
            prop_assert!(pairs.iter().all(|(name, _)| QUESTION_PARAMETERS.contains(name)));
            let of = |wanted: &str| pairs.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
            prop_assert_eq!(UsageQuestion::from_parameters(of), Ok(question));
        }

        #[test]
        fn anything_is_understood_or_refused(text in "(from_ms|to_ms|step|by|tenant|x)=[0-9a-z-]{0,20}(&(from_ms|to_ms|step|by|table)=[0-9a-z-]{0,40}){0,6}") {
            fuzz_usage_question(text.as_bytes());
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(time_ms("2026-01-01"), Ok(1_767_225_600_000));
        assert_eq!(time_ms("2026-01-01T01:00:00+01:00"), Ok(1_767_225_600_000));
        assert_eq!((span_ms("90m"), span_ms("24h"), span_ms("2d")), (Ok(5_400_000), Ok(86_400_000), Ok(172_800_000)));
        for wrong in ["", "yesterday", "1960-01-01", "2026-13-01"] {
            assert!(time_ms(wrong).unwrap_err().message.contains("2026-01-31"), "{wrong}");
        }
        for wrong in ["", "h", "0h", "24", "-1h", "1.5h", "24 h", "€h"] {
            assert!(span_ms(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ends_are_brought_to_whole_steps() {
        let question = |from_ms, to_ms, step| UsageQuestion {
            from_ms,
            to_ms,
            step,
            by: UsageBy::Tenant,
            tenant: None,
            table: None,
        };
        let aligned = question(61_000, 120_001, UsageStep::Minute).aligned().unwrap();
        assert_eq!((aligned.from_ms, aligned.to_ms), (60_000, 180_000));
        let whole = question(60_000, 120_000, UsageStep::Minute).aligned().unwrap();
        assert_eq!((whole.from_ms, whole.to_ms), (60_000, 120_000), "whole ones stay");
        assert!(question(5, 5, UsageStep::Day).aligned().is_err());
        let hours = [(1, UsageStep::Minute), (24, UsageStep::Hour), (24 * 30, UsageStep::Day)];
        assert!(hours.iter().all(|(hours, step)| UsageStep::fitting(hours * 3_600_000) == *step));
    }
}
