//! Versions of items, and the entity tags that show them.
//!
//! An item's version is the log index of its last write. It never repeats for a key, even after a deletion,
//! so a tag that matches proves that nothing was written in between. As an entity tag it reads `"v17"`:
//! opaque to clients, strong (RFC 9110 §8.8.3). Tags that are not ours are no error in a condition; they
//! match nothing, as RFC 9110 wants of any unknown tag.
//!
//! If-Match compares strongly: a weak tag (`W/"v17"`) never matches, so it is dropped from the list.
//! If-None-Match compares weakly: `W/` is ignored there (RFC 9110 §8.8.3.2, §13.1.1, §13.1.2).

use super::refusal::Refusal;

/// The log index of an item's last write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ItemVersion(pub u64);

impl ItemVersion {
    /// The entity tag, quoted: `"v17"`.
    pub fn to_etag(self) -> String {
        format!("\"v{}\"", self.0)
    }

    /// The version that the quoted part of an entity tag shows; none where the tag is not one of ours.
    fn from_opaque(opaque: &str) -> Option<Self> {
        let digits = opaque.strip_prefix('v')?;
        let canonical = !digits.starts_with('0') || digits == "0";
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        (canonical && plain).then(|| digits.parse().ok()).flatten().map(Self)
    }
}

/// What If-Match or If-None-Match names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntityTags {
    /// `*`: any version.
    Any,
    /// These versions. May be empty: tags were given, but none that an item of ours can have.
    Versions(Vec<ItemVersion>),
}

impl EntityTags {
    /// Whether it names this version.
    pub fn names(&self, version: ItemVersion) -> bool {
        match self {
            Self::Any => true,
            Self::Versions(versions) => versions.contains(&version),
        }
    }
}

/// Reads the value of an If-Match or If-None-Match header (RFC 9110 §13.1). Weak tags count where
/// `weak_counts`, as in If-None-Match.
///
/// # Errors
/// `BadInput` where it is neither `*` nor a list of quoted tags.
pub fn parse_entity_tags(text: &str, weak_counts: bool) -> Result<EntityTags, Refusal> {
    let wrong = || Refusal::bad_input("If-Match and If-None-Match take * or a list of quoted tags, such as \"v17\"");
    let mut rest = trim(text);
    if rest == "*" {
        return Ok(EntityTags::Any);
    }
    let mut versions = Vec::new();
    let mut seen = 0;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(',') {
            rest = trim(after);
            continue;
        }
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let inner = quoted.strip_prefix('"').ok_or_else(wrong)?;
        let end = inner.find('"').ok_or_else(wrong)?;
        let opaque = &inner[..end];
        if !opaque.bytes().all(|byte| byte == 0x21 || (0x23..=0x7e).contains(&byte) || byte >= 0x80) {
            return Err(wrong());
        }
        seen += 1;
        if !weak || weak_counts {
            versions.extend(ItemVersion::from_opaque(opaque));
        }
        rest = trim(&inner[end + 1..]);
        if !rest.is_empty() && !rest.starts_with(',') {
            return Err(wrong());
        }
    }
    if seen == 0 { Err(wrong()) } else { Ok(EntityTags::Versions(versions)) }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// Reads any bytes as conditions; what is read must survive being written.
#[doc(hidden)]
pub fn fuzz_entity_tags(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for list in [false, true].map(|weak_counts| parse_entity_tags(&text, weak_counts)).into_iter().flatten() {
        if let EntityTags::Versions(versions) = &list {
            let written: Vec<String> = versions.iter().map(|version| version.to_etag()).collect();
            if !written.is_empty() {
                assert_eq!(parse_entity_tags(&written.join(", "), false).as_ref(), Ok(&list));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn versions(numbers: &[u64]) -> EntityTags {
        EntityTags::Versions(numbers.iter().copied().map(ItemVersion).collect())
    }

    #[test]
    fn lists_are_read_as_the_rfc_says() {
        assert_eq!(parse_entity_tags(" * ", false), Ok(EntityTags::Any));
        assert_eq!(parse_entity_tags(r#""v7""#, false), Ok(versions(&[7])));
        assert_eq!(parse_entity_tags(r#""v7" ,, "v18446744073709551615""#, false), Ok(versions(&[7, u64::MAX])));
        assert_eq!(parse_entity_tags(r#"W/"v7", "v8""#, false), Ok(versions(&[8])));
        assert_eq!(parse_entity_tags(r#"W/"v7", "v8""#, true), Ok(versions(&[7, 8])));
        assert_eq!(parse_entity_tags(r#""xyzzy", "a,b", "v07", "v", """#, false), Ok(versions(&[])));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for bad in ["", ",", "v7", "\"v7", "\"v7\" \"v8\"", "\"v7\"x", "w/\"v7\"", "*, \"v7\"", "\"a b\"", "\"a\tb\""] {
            assert!(parse_entity_tags(bad, false).is_err(), "{bad}");
            assert!(parse_entity_tags(bad, true).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn tags_read_back(numbers in proptest::collection::vec(any::<u64>(), 1..5)) {
            let text: Vec<String> = numbers.iter().map(|number| ItemVersion(*number).to_etag()).collect();
            prop_assert_eq!(parse_entity_tags(&text.join(","), false), Ok(versions(&numbers)));
        }

        #[test]
        fn no_text_panics(text: String) {
            fuzz_entity_tags(text.as_bytes());
        }
    }
}
