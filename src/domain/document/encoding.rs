//! The bytes of a document: types, lengths, and a reader that walks them without panicking.

pub(super) const FORMAT_VERSION: u8 = 1;
/// Format version and item size.
pub(super) const HEADER_BYTES: usize = 5;

pub(super) const NULL: u8 = 1;
pub(super) const FALSE: u8 = 2;
pub(super) const TRUE: u8 = 3;
pub(super) const NUMBER: u8 = 4;
pub(super) const STRING: u8 = 5;
pub(super) const BINARY: u8 = 6;
pub(super) const MAP: u8 = 7;
pub(super) const LIST: u8 = 8;
pub(super) const STRING_SET: u8 = 9;
pub(super) const NUMBER_SET: u8 = 10;
pub(super) const BINARY_SET: u8 = 11;

/// Appends a length in LEB128.
#[inline]
pub(super) fn write_length(buffer: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        buffer.push(length as u8 | 0x80);
        length >>= 7;
    }
    buffer.push(length as u8);
}

/// Appends a length in LEB128 and the bytes.
#[inline]
pub(super) fn write_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    write_length(buffer, bytes.len());
    buffer.extend_from_slice(bytes);
}

/// Walks bytes from the front. Each step is none where the bytes are too short or not well formed.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// A length in LEB128, of up to 32 bits and no longer than needed.
    #[inline]
    pub(super) fn length(&mut self) -> Option<usize> {
        let first = self.byte()?;
        if first < 0x80 {
            return Some(usize::from(first));
        }
        let mut length = u64::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let byte = self.byte()?;
            length |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return if byte == 0 { None } else { u32::try_from(length).ok().map(|length| length as usize) };
            }
        }
        None
    }

    /// A length in LEB128 and as many bytes.
    #[inline]
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    /// A length of four bytes and as many bytes.
    pub(super) fn body(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        self.take(length as usize)
    }

    /// A value: its type and what it holds.
    #[inline]
    pub(super) fn value(&mut self) -> Option<Value<'a>> {
        let kind = self.byte()?;
        let content = match kind {
            NULL | FALSE | TRUE => &[],
            NUMBER | STRING | BINARY => self.bytes()?,
            MAP | LIST | STRING_SET | NUMBER_SET | BINARY_SET => self.body()?,
            _ => return None,
        };
        Some(Value { kind, content })
    }

    /// An entry of a map.
    #[inline]
    pub(super) fn entry(&mut self) -> Option<(&'a [u8], Value<'a>)> {
        let name = self.bytes()?;
        Some((name, self.value()?))
    }
}

/// A value as it lies in a document.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) kind: u8,
    /// The bytes behind type and length.
    pub(super) content: &'a [u8],
}
