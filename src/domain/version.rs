//! Versions of items, and how they look in HTTP: a strong entity tag `"v<number>"` (RFC 9110 §8.8.3).

use super::refusal::Refusal;

/// The log index of an item's last write. Never repeats for a key, even after deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ItemVersion(pub u64);

impl ItemVersion {
    /// The entity tag, quotes included.
    pub fn to_etag(self) -> String {
        format!("\"v{}\"", self.0)
    }
}

/// What an If-Match or If-None-Match header names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntityTags {
    /// `*`
    Any,
    /// Tags of ours; foreign ones match nothing and are left out.
    Versions(Vec<ItemVersion>),
}

/// Reads the value of an If-Match or If-None-Match header (RFC 9110 §13.1). Weak tags count where
/// `weak_counts`, as in If-None-Match.
///
/// # Errors
/// `BadInput` where it is neither `*` nor a list of quoted tags.
pub fn parse_entity_tags(text: &str, weak_counts: bool) -> Result<EntityTags, Refusal> {
    let text = text.trim();
    if text == "*" {
        return Ok(EntityTags::Any);
    }
    let malformed =
        || Refusal::bad_input("If-Match and If-None-Match take * or a list of quoted tags, such as \"v17\"");
    let mut versions = Vec::new();
    let mut rest = text;
    loop {
        let (weak, tag) = match rest.strip_prefix("W/") {
            Some(tag) => (true, tag),
            None => (false, rest),
        };
        let (tag, after) = tag.strip_prefix('"').and_then(|tag| tag.split_once('"')).ok_or_else(malformed)?;
        let ours = tag
            .strip_prefix('v')
            .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|number| number.parse().ok());
        if let Some(number) = ours
            && (!weak || weak_counts)
        {
            versions.push(ItemVersion(number));
        }
        match after.trim_start().strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None if after.trim().is_empty() => return Ok(EntityTags::Versions(versions)),
            None => return Err(malformed()),
        }
    }
}

/// For the fuzzer: no header text may panic.
#[doc(hidden)]
pub fn fuzz_entity_tags(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = parse_entity_tags(text, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_and_foreign_ones_left_out() {
        let versions = |text: &str, weak| match parse_entity_tags(text, weak) {
            Ok(EntityTags::Versions(versions)) => versions.into_iter().map(|version| version.0).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(parse_entity_tags(" * ", false), Ok(EntityTags::Any));
        assert_eq!(versions(&ItemVersion(17).to_etag(), false), [17]);
        assert_eq!(versions("\"v1\" , W/\"v2\",\"other\"", false), [1]);
        assert_eq!(versions("\"v1\", W/\"v2\"", true), [1, 2]);
        assert_eq!(versions("\"v18446744073709551616\"", true), [0u64; 0]);
        for bad in ["", "v1", "\"v1", "\"v1\" \"v2\"", "\"v1\","] {
            assert!(parse_entity_tags(bad, true).is_err(), "{bad}");
        }
    }
}
