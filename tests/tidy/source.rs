//! Reading Rust source without a parser: which files there are, the same text with comments and literals blanked
//! out, the functions in it, and where its tests begin. A real parser (syn) was rejected: it would be the
//! largest dependency of the fastest test, and these questions need only a lexer.

use std::path::{Path, PathBuf};

/// One source file.
pub struct Source {
    /// Path from the root of the project, with `/`.
    pub path: String,
    /// The text as it is.
    pub text: String,
    /// The text with comments and the inside of literals replaced by spaces; lines stay where they are.
    pub code: String,
}

impl Source {
    /// Reads a file below the root.
    pub fn read(path: &str) -> Source {
        let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let code = blank(&text);
        Source { path: path.to_owned(), text, code }
    }

    /// The module directly under the crate that this file belongs to (`storage` for `src/storage/log/mod.rs`),
    /// for files in `src` other than `lib.rs` and `main.rs`.
    pub fn module(&self) -> Option<&str> {
        let inner = self.path.strip_prefix("src/")?;
        let first = inner.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (!matches!(name, "lib" | "main")).then_some(name)
    }

    /// True where the whole file is test code.
    pub fn is_test(&self) -> bool {
        let in_tests = self.path.starts_with("tests/") || self.path.contains("/tests/");
        in_tests
            || self.text.contains("\n#![cfg(test)]")
            || self.path.ends_with("tests.rs")
            || self.path.ends_with("/contract.rs")
    }

    /// The lines of code, numbered from 1, each with whether it is test code: in a file of tests, or below the
    /// first `#[cfg(test)]` that opens a module.
    pub fn lines(&self) -> Vec<(usize, &str, bool)> {
        let mut test = self.is_test();
        let mut lines = Vec::new();
        let code: Vec<&str> = self.code.lines().collect();
        for (index, line) in code.iter().enumerate() {
            let next = code.get(index + 1).copied().unwrap_or_default().trim_start();
            if line.trim_start().starts_with("#[cfg(test)]") && next.contains("mod ") && next.contains('{') {
                test = true;
            }
            lines.push((index + 1, *line, test));
        }
        lines
    }
}

/// One function.
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line on which its signature begins, from 1.
    pub line: usize,
    /// Lines from signature to closing brace.
    pub length: usize,
    /// Byte range in the code.
    pub range: std::ops::Range<usize>,
}

/// The root of the project.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the project whose name ends with `suffix`, as paths from the root, sorted; build output,
/// git's own files and everything hidden apart.
pub fn files(suffix: &str) -> Vec<String> {
    fn walk(folder: &Path, suffix: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let hidden = name.starts_with('.') && name != ".ci";
            if hidden || matches!(name.as_str(), "target" | "dist" | "dstore-data") {
                continue;
            }
            if path.is_dir() {
                walk(&path, suffix, found);
            } else if name.ends_with(suffix) {
                let inner = path.strip_prefix(root()).unwrap_or(&path);
                found.push(inner.to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), suffix, &mut found);
    found.sort();
    found
}

/// All Rust sources.
pub fn sources() -> Vec<Source> {
    files(".rs").iter().map(|path| Source::read(path)).collect()
}

/// Replaces comments and the inside of string and character literals by spaces.
pub fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"//") {
            at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            at + block_comment(rest)
        } else if let Some((open, hashes)) = raw_string(bytes, at) {
            let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
            let inside = at + open;
            let length = bytes[inside..].windows(close.len()).position(|window| window == close);
            length.map_or(bytes.len(), |length| inside + length + close.len())
        } else if bytes[at] == b'"' {
            at + quoted(rest, b'"')
        } else if bytes[at] == b'\'' && is_character(rest) {
            at + quoted(rest, b'\'')
        } else {
            at += 1;
            continue;
        };
        let literal = bytes[at] == b'"' || bytes[at] == b'\'';
        for (index, byte) in out[at..end].iter_mut().enumerate() {
            let edge = literal && (index == 0 || index + 1 == end - at);
            if *byte != b'\n' && !edge {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Where a raw string begins at `at`: the length of its opening and the number of its hashes.
fn raw_string(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let before = at.checked_sub(1).map(|before| bytes[before]);
    if before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return None;
    }
    let rest = &bytes[at..];
    let prefix = [&b"br"[..], b"cr", b"r"].into_iter().find(|prefix| rest.starts_with(prefix))?.len();
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    (rest.get(prefix + hashes) == Some(&b'"')).then_some((prefix + hashes + 1, hashes))
}

/// The length of a literal that begins and ends with `quote`.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Tells a character literal from a lifetime.
fn is_character(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(byte) if byte.is_ascii() => rest.get(2) == Some(&b'\''),
        Some(_) => true,
        None => false,
    }
}

/// The functions with a body in blanked code.
pub fn functions(code: &str) -> Vec<Function> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let before = at.checked_sub(1).map(|before| bytes[before]);
        if before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(open) = body(bytes, at) else { continue };
        if name.is_empty() {
            continue;
        }
        let close = matching_brace(bytes, open);
        let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
        let length = 1 + bytes[at..close].iter().filter(|byte| **byte == b'\n').count();
        found.push(Function { name, line, length, range: at..close });
    }
    found
}

/// The opening brace of the function that begins at `at`; none where a semicolon comes first.
fn body(bytes: &[u8], at: usize) -> Option<usize> {
    let mut nested = 0i32;
    for (offset, byte) in bytes[at..].iter().enumerate() {
        match byte {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested -= 1,
            b'{' if nested == 0 => return Some(at + offset),
            b';' if nested == 0 => return None,
            _ => {}
        }
    }
    None
}

fn matching_brace(bytes: &[u8], open: usize) -> usize {
    let mut depth = 0;
    for (offset, byte) in bytes[open..].iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return open + offset;
                }
            }
            _ => {}
        }
    }
    bytes.len()
}
