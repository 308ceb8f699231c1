//! Flattening: a document as cells, one for each leaf, and back.
//!
//! A cell's path names its leaf from the top: names separated by `.`, list positions as `[` six
//! digits `]`, so `a.b[000003]`. In names, `\` stands before `.`, `[` and `\`; control characters are
//! `\x` and two hexadecimal digits; the empty name is `\e`. So every name is possible, a path names
//! exactly one leaf, the order of paths keeps lists in order and children of one parent together, and
//! no path is empty (the empty path is the item's own row in the store).
//!
//! Empty maps and lists are leaves of types of their own; the empty item has no cells at all.

use super::document::{
    Document, DocumentError, Node, TAG_BINARY, TAG_BINARY_SET, TAG_FALSE, TAG_LIST, TAG_MAP, TAG_NULL, TAG_NUMBER,
    TAG_NUMBER_SET, TAG_STRING, TAG_STRING_SET, TAG_TRUE, begin, end, put_bytes, put_scalar,
};

/// What a cell holds; the numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CellType {
    /// `null`
    Null = 1,
    /// `false`
    False = 2,
    /// `true`
    True = 3,
    /// A number in canonical text.
    Number = 4,
    /// A string.
    String = 5,
    /// Bytes.
    Binary = 6,
    /// `{}`
    EmptyMap = 7,
    /// `[]`
    EmptyList = 8,
    /// A set of strings, in the document's form.
    StringSet = 9,
    /// A set of numbers, in the document's form.
    NumberSet = 10,
    /// A set of binaries, in the document's form.
    BinarySet = 11,
}

impl CellType {
    /// The type with this number.
    pub fn from_number(number: u8) -> Option<CellType> {
        use CellType::{
            Binary, BinarySet, EmptyList, EmptyMap, False, Null, Number, NumberSet, String, StringSet, True,
        };
        [Null, False, True, Number, String, Binary, EmptyMap, EmptyList, StringSet, NumberSet, BinarySet]
            .get(usize::from(number).checked_sub(1)?)
            .copied()
    }
}

/// What a cell's row holds beside its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CellData<'a> {
    /// The type says all.
    None,
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(std::borrow::Cow<'a, [u8]>),
}

/// One leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell<'a> {
    /// What it is.
    pub cell_type: CellType,
    /// What it holds.
    pub data: CellData<'a>,
}

/// All cells of a document in the order of their paths.
pub fn cells_of(document: &Document) -> Vec<(String, Cell<'_>)> {
    let mut cells = Vec::with_capacity(16);
    for (name, node) in document.entries() {
        let mut path = String::with_capacity(name.len());
        push_name(&mut path, name);
        flatten(path, node, &mut cells);
    }
    cells.sort_unstable_by(|(left, _), (right, _)| left.as_bytes().cmp(right.as_bytes()));
    cells
}

fn flatten<'a>(path: String, node: Node<'a>, cells: &mut Vec<(String, Cell<'a>)>) {
    let mut leaf = |cell_type, data| cells.push((path.clone(), Cell { cell_type, data }));
    match node {
        Node::Null => leaf(CellType::Null, CellData::None),
        Node::Boolean(value) => leaf(if value { CellType::True } else { CellType::False }, CellData::None),
        Node::Number(text) => leaf(CellType::Number, CellData::Text(text)),
        Node::String(text) => leaf(CellType::String, CellData::Text(text)),
        Node::Binary(bytes) => leaf(CellType::Binary, CellData::Bytes(bytes.into())),
        Node::StringSet(_) => leaf(CellType::StringSet, set_data(node)),
        Node::NumberSet(_) => leaf(CellType::NumberSet, set_data(node)),
        Node::BinarySet(_) => leaf(CellType::BinarySet, set_data(node)),
        Node::Map(entries) if entries.len() == 0 => leaf(CellType::EmptyMap, CellData::None),
        Node::List(nodes) if nodes.len() == 0 => leaf(CellType::EmptyList, CellData::None),
        Node::Map(entries) => {
            for (name, node) in entries {
                let mut child = String::with_capacity(path.len() + name.len() + 1);
                child.push_str(&path);
                child.push('.');
                push_name(&mut child, name);
                flatten(child, node, cells);
            }
        }
        Node::List(nodes) => {
            for (position, node) in nodes.enumerate() {
                flatten(format!("{path}[{position:06}]"), node, cells);
            }
        }
    }
}

fn set_data(node: Node<'_>) -> CellData<'_> {
    let mut bytes = Vec::new();
    super::document::json::put_node(&mut bytes, node);
    CellData::Bytes(bytes.into())
}

fn push_name(path: &mut String, name: &str) {
    if name.is_empty() {
        path.push_str("\\e");
    }
    for character in name.chars() {
        match character {
            '.' | '[' | '\\' => {
                path.push('\\');
                path.push(character);
            }
            '\0'..='\x1f' => path.push_str(&format!("\\x{:02x}", character as u32)),
            other => path.push(other),
        }
    }
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Name(String),
    Position(usize),
}

fn parse_path(path: &str) -> Result<Vec<Step>, DocumentError> {
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        let (name, after) = parse_name(rest)?;
        steps.push(Step::Name(name));
        rest = after;
        while let Some(inner) = rest.strip_prefix('[') {
            let (digits, after) = inner.split_once(']').ok_or(DocumentError)?;
            if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(DocumentError);
            }
            steps.push(Step::Position(digits.parse().map_err(|_| DocumentError)?));
            rest = after;
        }
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(steps),
            None => return Err(DocumentError),
        }
    }
}

fn parse_name(text: &str) -> Result<(String, &str), DocumentError> {
    if let Some(after) = text.strip_prefix("\\e") {
        return Ok((String::new(), after));
    }
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '.' | '[' => return if name.is_empty() { Err(DocumentError) } else { Ok((name, &text[at..])) },
            '\\' => match characters.next() {
                Some((_, escaped @ ('.' | '[' | '\\'))) => name.push(escaped),
                Some((at, 'x')) => {
                    let code = text
                        .get(at + 1..at + 3)
                        .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                        .filter(|code| *code < 0x20);
                    name.push(char::from(code.ok_or(DocumentError)?));
                    characters.next();
                    characters.next();
                }
                _ => return Err(DocumentError),
            },
            other => name.push(other),
        }
    }
    if name.is_empty() { Err(DocumentError) } else { Ok((name, "")) }
}

/// A map or list that is being built.
struct Building {
    open: super::document::Open,
    is_list: bool,
    count: usize,
}

/// Puts cells together into a document, one after the other in the order of their paths.
pub struct Assembler {
    out: Vec<u8>,
    stack: Vec<Building>,
    steps: Vec<Step>,
}

impl Default for Assembler {
    fn default() -> Self {
        let mut out = Vec::with_capacity(1024);
        let open = begin(&mut out, TAG_MAP);
        Self { out, stack: vec![Building { open, is_list: false, count: 0 }], steps: Vec::new() }
    }
}

impl Assembler {
    /// Adds the next cell.
    ///
    /// # Errors
    /// Where its path or data make no sense, or do not go with what came before.
    pub fn add(&mut self, path: &str, cell_type: CellType, text_or_bytes: &[u8]) -> Result<(), DocumentError> {
        let steps = if is_plain(path) { vec![Step::Name(path.to_owned())] } else { parse_path(path)? };
        let shared = self.steps.iter().zip(&steps).take_while(|(old, new)| old == new).count();
        if shared == steps.len() || (shared == self.steps.len() && shared > 0) {
            return Err(DocumentError);
        }
        self.close_to(shared + 1);
        for (depth, step) in steps.iter().enumerate().skip(shared) {
            self.enter(step)?;
            match steps.get(depth + 1) {
                None => self.leaf(cell_type, text_or_bytes)?,
                Some(next) => {
                    let is_list = matches!(next, Step::Position(_));
                    let open = begin(&mut self.out, if is_list { TAG_LIST } else { TAG_MAP });
                    self.stack.push(Building { open, is_list, count: 0 });
                }
            }
        }
        self.steps = steps;
        Ok(())
    }

    /// The document.
    ///
    /// # Errors
    /// Where it would not be one: nested too deep, or names that come twice.
    pub fn finish(mut self) -> Result<Document, DocumentError> {
        self.close_to(0);
        Document::from_bytes(self.out.into())
    }

    fn close_to(&mut self, depth: usize) {
        while self.stack.len() > depth {
            if let Some(built) = self.stack.pop() {
                end(&mut self.out, &built.open, built.count);
            }
        }
    }

    fn enter(&mut self, step: &Step) -> Result<(), DocumentError> {
        let parent = self.stack.last_mut().ok_or(DocumentError)?;
        match step {
            Step::Name(name) if !parent.is_list => put_bytes(&mut self.out, name.as_bytes()),
            Step::Position(position) if parent.is_list && *position == parent.count => {}
            _ => return Err(DocumentError),
        }
        parent.count += 1;
        Ok(())
    }

    fn leaf(&mut self, cell_type: CellType, data: &[u8]) -> Result<(), DocumentError> {
        match cell_type {
            CellType::Null => self.out.push(TAG_NULL),
            CellType::False => self.out.push(TAG_FALSE),
            CellType::True => self.out.push(TAG_TRUE),
            CellType::Number => put_scalar(&mut self.out, TAG_NUMBER, data),
            CellType::String => put_scalar(&mut self.out, TAG_STRING, data),
            CellType::Binary => put_scalar(&mut self.out, TAG_BINARY, data),
            CellType::EmptyMap | CellType::EmptyList => {
                let open = begin(&mut self.out, if cell_type == CellType::EmptyMap { TAG_MAP } else { TAG_LIST });
                end(&mut self.out, &open, 0);
            }
            CellType::StringSet | CellType::NumberSet | CellType::BinarySet => {
                let tag = match cell_type {
                    CellType::StringSet => TAG_STRING_SET,
                    CellType::NumberSet => TAG_NUMBER_SET,
                    _ => TAG_BINARY_SET,
                };
                if data.first() != Some(&tag) {
                    return Err(DocumentError);
                }
                self.out.extend_from_slice(data);
            }
        }
        Ok(())
    }
}

/// Whether a path is a single name without escapes, as most are.
fn is_plain(path: &str) -> bool {
    !path.is_empty() && !path.bytes().any(|byte| matches!(byte, b'.' | b'[' | b'\\'))
}

/// For the fuzzer: any path, and what parses is written back the same.
#[doc(hidden)]
pub fn fuzz_path(data: &[u8]) {
    let Ok(path) = std::str::from_utf8(data) else { return };
    let mut assembler = Assembler::default();
    if assembler.add(path, CellType::Null, &[]).is_ok()
        && let Ok(document) = assembler.finish()
    {
        assert_eq!(cells_of(&document).len(), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        let name = prop_oneof![
            "[a-c.\\[\\]\\\\$\"\u{0}\u{7}é]{0,4}",
            Just("$binary".to_owned()),
            Just("$$string_set".to_owned())
        ];
        let value = leaf.prop_recursive(5, 40, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map(name.clone(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        proptest::collection::btree_map(".{0,6}", value, 0..5).prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    /// The text with every object that would be taken for a set or binary escaped, as a client would.
    fn escaped(value: &serde_json::Value, top: bool) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::Array(items) => items.iter().map(|item| escaped(item, false)).collect::<Vec<_>>().into(),
            Value::Object(map) => {
                let single = map.len() == 1 && !top;
                let special = |name: &str| {
                    name.starts_with('$')
                        && ["binary", "string_set", "number_set", "binary_set"].contains(&name.trim_start_matches('$'))
                };
                let rename = |name: &String| if single && special(name) { format!("${name}") } else { name.clone() };
                Value::Object(map.iter().map(|(name, value)| (rename(name), escaped(value, false))).collect())
            }
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn documents_come_back_from_text_and_from_cells(value in json()) {
            let text = escaped(&value, true).to_string();
            let document = Document::from_json(text.as_bytes()).unwrap();
            let written: serde_json::Value = serde_json::from_str(&document.to_json()).unwrap();
            prop_assert_eq!(&written, &escaped(&value, true));
            let mut assembler = Assembler::default();
            for (path, cell) in cells_of(&document) {
                prop_assert!(!path.is_empty());
                let data = match &cell.data {
                    CellData::None => &[][..],
                    CellData::Text(text) => text.as_bytes(),
                    CellData::Bytes(bytes) => bytes,
                };
                assembler.add(&path, cell.cell_type, data).unwrap();
            }
            prop_assert_eq!(assembler.finish().unwrap(), document);
        }
    }

    #[test]
    fn sets_and_binaries_come_back() {
        let text = r#"{"b":{"$binary":"AAH/"},"s":{"$string_set":["a","b"]},"n":{"$number_set":[1,2.5]},"x":{"$binary_set":["AA==","AQ=="]}}"#;
        let document = Document::from_json(text.as_bytes()).unwrap();
        assert_eq!(document.to_json(), text);
        assert_eq!(cells_of(&document).len(), 4);
        for bad in [
            r#"{"a":{"$binary":1}}"#,
            r#"{"a":{"$string_set":[]}}"#,
            r#"{"a":{"$string_set":["a","a"]}}"#,
            r#"{"a":{"$number_set":["1"]}}"#,
        ] {
            assert!(Document::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_name_leaves() {
        let document = Document::from_json(br#"{"a":{"b":[1,[]]},"c.d":{},"":null}"#).unwrap();
        let paths: Vec<String> = cells_of(&document).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["\\e", "a.b[000000]", "a.b[000001]", "c\\.d"]);
    }

    #[test]
    fn thirty_two_levels_go_in_and_thirty_three_do_not() {
        let nested = |levels: usize| format!("{{\"a\":{}1{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(Document::from_json(nested(32).as_bytes()).is_ok());
        assert!(Document::from_json(nested(33).as_bytes()).is_err());
        assert!(Document::from_json(format!("{{\"a\":{}", "[".repeat(100_000)).as_bytes()).is_err());
    }

    #[test]
    fn bad_json_is_told_by_line_and_column() {
        let refusal = Document::from_json(b"{\n  \"a\": nope}").unwrap_err();
        assert!(refusal.message.contains("line 2"), "{}", refusal.message);
        for bad in [
            &b"[]"[..],
            b"1",
            b"",
            b"{",
            b"{\"a\":1}x",
            b"{\"a\":1,\"a\":2}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":NaN}",
            b"{\"a\":\"\xff\"}",
        ] {
            assert!(Document::from_json(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
