//! Writing and reading paths of cells. The grammar stands in the module above.

use std::borrow::Cow;

use crate::domain::document::DocumentError;

/// The path of the cell of an attribute of the item itself, where that is a leaf.
pub fn attribute_path(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    push_name(&mut path, name);
    path
}

/// Appends a name, escaped.
pub(super) fn push_name(path: &mut String, name: &str) {
    if name.is_empty() {
        path.push_str("\\e");
        return;
    }
    let mut rest = name;
    while let Some(at) = rest.bytes().position(is_escaped) {
        path.push_str(&rest[..at]);
        let byte = rest.as_bytes()[at];
        path.push('\\');
        if matches!(byte, b'.' | b'[' | b'\\') {
            path.push(char::from(byte));
        } else {
            path.push('x');
            path.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0')));
        }
        // All bytes that are escaped are characters of their own.
        rest = &rest[at + 1..];
    }
    path.push_str(rest);
}

fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || matches!(byte, b'.' | b'[' | b'\\' | 0x7f)
}

/// Appends an index.
pub(super) fn push_index(path: &mut String, index: usize) {
    let mut digits = [b'0'; 6];
    let mut left = index;
    for digit in digits.iter_mut().rev() {
        *digit += (left % 10) as u8;
        left /= 10;
    }
    path.push('[');
    path.extend(digits.map(char::from));
    path.push(']');
}

/// Reads the name that `path` begins with; also how many bytes it takes.
pub(super) fn read_name(path: &str) -> Result<(Cow<'_, str>, usize), DocumentError> {
    let bytes = path.as_bytes();
    let end = bytes.iter().position(|byte| is_escaped(*byte)).unwrap_or(bytes.len());
    match bytes.get(end) {
        None | Some(b'.' | b'[') if end > 0 => return Ok((Cow::Borrowed(&path[..end]), end)),
        Some(b'\\') => {}
        _ => return Err(DocumentError::Path),
    }
    if let [b'\\', b'e', rest @ ..] = bytes {
        let ends = matches!(rest.first(), None | Some(b'.' | b'['));
        return if ends { Ok((Cow::Borrowed(""), 2)) } else { Err(DocumentError::Path) };
    }
    let mut name = path[..end].to_owned();
    let mut at = end;
    while bytes.get(at) == Some(&b'\\') {
        let (byte, length) = read_escape(&bytes[at..])?;
        name.push(char::from(byte));
        at += length;
        let plain = bytes[at..].iter().position(|byte| is_escaped(*byte)).unwrap_or(bytes.len() - at);
        name.push_str(&path[at..at + plain]);
        at += plain;
    }
    match bytes.get(at) {
        None | Some(b'.' | b'[') => Ok((Cow::Owned(name), at)),
        _ => Err(DocumentError::Path),
    }
}

fn read_escape(bytes: &[u8]) -> Result<(u8, usize), DocumentError> {
    match bytes {
        [_, byte @ (b'.' | b'[' | b'\\'), ..] => Ok((*byte, 2)),
        [_, b'x', high, low, ..] => {
            let digit = |byte: u8| match byte {
                b'0'..=b'9' => Some(byte - b'0'),
                b'a'..=b'f' => Some(byte - b'a' + 10),
                _ => None,
            };
            let byte = digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low);
            byte.filter(|byte| *byte < 0x20 || *byte == 0x7f).map(|byte| (byte, 4)).ok_or(DocumentError::Path)
        }
        _ => Err(DocumentError::Path),
    }
}

/// Reads the index that `path` begins with; also how many bytes it takes.
pub(super) fn read_index(path: &str) -> Result<(usize, usize), DocumentError> {
    match path.as_bytes() {
        [b'[', digits @ ..] if digits.len() >= 7 && digits[6] == b']' && digits[..6].iter().all(u8::is_ascii_digit) => {
            Ok((digits[..6].iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')), 8))
        }
        _ => Err(DocumentError::Path),
    }
}

/// Reads any bytes as a path. A document with one null at its end must flatten to the same path; lists
/// beginning later than at 0 are refused by the assembler, so those paths are only read.
#[doc(hidden)]
pub fn fuzz_path(data: &[u8]) {
    let Ok(path) = std::str::from_utf8(data) else { return };
    let mut assembler = super::Assembler::default();
    if assembler.add(path, super::CellType::Null, &[]).is_ok()
        && let Ok(document) = assembler.finish()
    {
        let paths: Vec<String> = super::cells_of(&document).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, [path]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_escaped_as_documented() {
        for (name, path) in [
            ("", "\\e"),
            ("a", "a"),
            ("a.b", "a\\.b"),
            ("[0]", "\\[0]"),
            ("\\e", "\\\\e"),
            ("\0\n\u{7f}é", "\\x00\\x0a\\x7fé"),
        ] {
            assert_eq!(attribute_path(name), path);
            assert_eq!(read_name(path).unwrap(), (name.into(), path.len()));
        }
    }

    #[test]
    fn what_is_no_name_or_index_is_refused() {
        for bad in [
            "", ".", "[", "\\", "a\\", "\\a", "a\\e", "\\ea", "\\x", "\\x0", "\\x0A", "\\x41", "\\xé", "a\nb",
            "a\u{7f}",
        ] {
            assert_eq!(read_name(bad), Err(DocumentError::Path), "{bad:?}");
        }
        for bad in ["", "[", "[0]", "[00000]", "[0000000]", "[00000a]", "[000000", "[+00001]"] {
            assert_eq!(read_index(bad), Err(DocumentError::Path), "{bad:?}");
        }
        assert_eq!(read_index("[000042].a"), Ok((42, 8)));
    }

    proptest! {
        #[test]
        fn names_read_back_up_to_what_follows(name in prop_oneof![any::<String>(), "[a.\\[\\\\\\]\"\0\n\u{7f}é]{0,6}"], tail in "(\\..*|\\[.*)?") {
            let mut path = String::new();
            push_name(&mut path, &name);
            let length = path.len();
            path.push_str(&tail);
            prop_assert_eq!(read_name(&path), Ok((name.as_str().into(), length)));
        }

        #[test]
        fn order_of_indexes_is_order_of_paths(left in 0usize..1_000_000, right in 0usize..1_000_000) {
            let path = |index| {
                let mut path = String::new();
                push_index(&mut path, index);
                path
            };
            prop_assert_eq!(path(left).cmp(&path(right)), left.cmp(&right));
            prop_assert_eq!(read_index(&path(left)), Ok((left, 8)));
        }

        #[test]
        fn no_path_panics(path in prop_oneof![any::<String>(), "[a.\\[\\\\\\]0xe]{0,12}", "a(\\[00000[01]\\]){0,3}"]) {
            fuzz_path(path.as_bytes());
        }
    }
}
