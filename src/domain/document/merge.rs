//! JSON merge patch, RFC 7396: names in the patch replace those in the base; `null` removes; maps
//! merge; everything else is taken whole.

use super::{Document, Entries, Node, TAG_MAP, begin, end, put_bytes};
use crate::domain::refusal::Refusal;

impl Document {
    /// This document with the patch merged in.
    ///
    /// # Errors
    /// `BadInput` where the result would nest too deep; it cannot with the limits on both, but the
    /// result is checked all the same.
    pub fn merge_patch(&self, patch: &Document) -> Result<Document, Refusal> {
        let mut out = Vec::with_capacity(self.as_bytes().len() + patch.as_bytes().len());
        merge(&mut out, self.entries(), patch.entries());
        Document::from_bytes(out.into())
            .map_err(|_| Refusal::bad_input("the merged item would nest deeper than 32 levels"))
    }
}

fn merge(out: &mut Vec<u8>, mut base: Entries<'_>, patch: Entries<'_>) {
    let open = begin(out, TAG_MAP);
    let mut count = 0;
    let patches: hashbrown::HashMap<&str, Node<'_>> = patch.collect();
    let mut seen = hashbrown::HashSet::with_capacity(patches.len());
    while let Some((name, node, raw)) = base.next_raw() {
        match patches.get(name) {
            None => {
                put_bytes(out, name.as_bytes());
                out.extend_from_slice(raw);
                count += 1;
            }
            Some(change) => {
                seen.insert(name);
                count += usize::from(put_change(out, name, Some(node), *change));
            }
        }
    }
    let mut rest = patch;
    while let Some((name, change, raw)) = rest.next_raw() {
        if seen.contains(name) {
            continue;
        }
        if let Node::Map(_) | Node::Null = change {
            count += usize::from(put_change(out, name, None, change));
        } else {
            put_bytes(out, name.as_bytes());
            out.extend_from_slice(raw);
            count += 1;
        }
    }
    end(out, &open, count);
}

/// Writes an entry as the patch has it; says whether there is one.
fn put_change(out: &mut Vec<u8>, name: &str, base: Option<Node<'_>>, change: Node<'_>) -> bool {
    match change {
        Node::Null => return false,
        Node::Map(patch) => {
            put_bytes(out, name.as_bytes());
            let base = if let Some(Node::Map(entries)) = base { entries } else { Entries::empty() };
            merge(out, base, patch);
        }
        other => {
            put_bytes(out, name.as_bytes());
            super::json::put_node(out, other);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of RFC 7396, appendix A, whose target and patch are objects.
    #[test]
    fn the_examples_of_rfc_7396() {
        for (base, patch, expected) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
            (r#"{"a":1}"#, r#"{"a":[null,{"b":null}]}"#, r#"{"a":[null,{"b":null}]}"#),
        ] {
            let document = |text: &str| Document::from_json(text.as_bytes()).unwrap();
            assert_eq!(document(base).merge_patch(&document(patch)).unwrap(), document(expected), "{base} + {patch}");
        }
    }
}
