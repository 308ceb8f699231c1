//! The stored corpus, as text that a reviewer can read: `fuzz/corpus/<target>/*.txt`, one input a line.
//!
//! | line | input |
//! |---|---|
//! | `# …` or empty | none: a comment |
//! | `text …` | the UTF-8 bytes of the rest, with `\n`, `\r`, `\t`, `\0`, `\\` and `\xHH` |
//! | `hex …` | hexadecimal digits; spaces between bytes are allowed |
//! | `hex …*N` after a byte, as in `61*300` | that byte N times |
//!
//! Binary files were rejected: nobody can review them, and they grow without anyone asking why. A file may
//! have 64 KiB at most, which a test holds.

use std::path::{Path, PathBuf};

/// Where the corpus of `target` is stored.
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Reads all inputs of `target`, in the order of file names and lines.
///
/// # Errors
/// A message naming file and line where one cannot be read.
pub fn load(target: &str) -> Result<Vec<Vec<u8>>, String> {
    let folder = folder(target);
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let mut inputs = Vec::new();
    for file in files {
        let content = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        for (index, line) in content.lines().enumerate() {
            let input = parse(line).map_err(|error| format!("{}:{}: {error}", file.display(), index + 1))?;
            inputs.extend(input);
        }
    }
    Ok(inputs)
}

/// Reads one line; `None` for a comment.
pub fn parse(line: &str) -> Result<Option<Vec<u8>>, String> {
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line == "text" {
        return Ok(Some(Vec::new()));
    }
    match line.split_once(' ') {
        Some(("text", rest)) => unescape(rest).map(Some),
        Some(("hex", rest)) => unhex(rest).map(Some),
        _ => Err("a line starts with '#', 'text ' or 'hex '".to_owned()),
    }
}

/// Writes one input as a line that [`parse`] reads back: as text where it mostly is text.
pub fn line(input: &[u8]) -> String {
    if std::str::from_utf8(input).is_ok_and(|text| text.chars().filter(|c| c.is_control()).count() * 8 <= text.len()) {
        let mut escaped = String::from("text ");
        for character in String::from_utf8_lossy(input).chars() {
            match character {
                '\\' => escaped.push_str("\\\\"),
                '\n' => escaped.push_str("\\n"),
                '\r' => escaped.push_str("\\r"),
                '\t' => escaped.push_str("\\t"),
                control if control.is_ascii_control() => escaped.push_str(&format!("\\x{:02x}", control as u32)),
                other => escaped.push(other),
            }
        }
        return escaped;
    }
    let bytes: Vec<String> = input.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("hex {}", bytes.join(" "))
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match characters.next() {
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = characters.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits} is no byte"))?
            }
            other => return Err(format!("unknown escape {other:?}")),
        });
    }
    Ok(bytes)
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        let (digits, times) = match word.split_once('*') {
            Some((digits, count)) => (digits, count.parse().map_err(|_| format!("{count:?} is no count"))?),
            None => (word, 1),
        };
        if digits.len() % 2 != 0 || !digits.is_ascii() {
            return Err(format!("{digits:?} is not pairs of hexadecimal digits"));
        }
        let mut piece = Vec::new();
        for pair in 0..digits.len() / 2 {
            let pair = &digits[pair * 2..pair * 2 + 2];
            piece.push(u8::from_str_radix(pair, 16).map_err(|_| format!("{pair:?} is no byte"))?);
        }
        for _ in 0..times {
            bytes.extend_from_slice(&piece);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_as_text_or_hex() {
        let every: Vec<u8> = (0..=255).collect();
        for input in [&b""[..], b"plain", b"a\n\t\\ \x00 \x7f b and some more", &every, "ümlaut – ok".as_bytes()] {
            assert_eq!(parse(&line(input)).as_ref().map(|input| input.as_deref()), Ok(Some(input)));
        }
    }

    #[test]
    fn lines_that_mean_nothing_are_refused() {
        assert_eq!(parse("# a comment"), Ok(None));
        assert_eq!(parse("hex 61*3 62"), Ok(Some(b"aaab".to_vec())));
        for bad in ["plain", "hex 6", "hex zz", "text \\q", "text \\xzz", "hex 61*x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
