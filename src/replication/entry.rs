//! A log entry's payload as bytes: an operation and the leader's time.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version, 1 |
//! | 1 | change: 1 put, 2 merge, 3 delete |
//! | 1 | flags: 1 if_match, 2 if_none_match, 4 client request, 8 receipt, 16 proxy's request |
//! | 8 | leader's time, microseconds since 1970, big-endian |
//! | 2 + n | packed key: length, bytes |
//! | each condition | 2: number of versions, 65,535 for `*`; then 8 bytes each |
//! | client request | 16 principal, 16 request id, 32 digest |
//! | proxy's request | 16; never beside a client's |
//! | receipt | 16 |
//! | rest | the document (put: the item; merge: the patch; delete: nothing) |
//!
//! The document stands last and without a length, so that decoding takes a slice of the record's
//! own buffer: the bytes that were read from the log are the bytes that serve reads.

use bytes::{BufMut, Bytes, BytesMut};

use crate::domain::Timestamp;
use crate::domain::document::Document;
use crate::domain::ids::{PrincipalId, ReceiptId, RequestId};
use crate::domain::key::PackedKey;
use crate::domain::version::ItemVersion;

use super::operation::{Change, ClientRequest, Operation, Preconditions, RequestIdentity, TagCondition};

/// The version of the format written here.
pub const FORMAT_VERSION: u8 = 1;
const FLAG_IF_MATCH: u8 = 1;
const FLAG_IF_NONE_MATCH: u8 = 2;
const FLAG_REQUEST: u8 = 4;
const FLAG_RECEIPT: u8 = 8;
const FLAG_PROXY_REQUEST: u8 = 16;
const FLAGS: u8 = FLAG_IF_MATCH | FLAG_IF_NONE_MATCH | FLAG_REQUEST | FLAG_RECEIPT | FLAG_PROXY_REQUEST;
const VERSIONS_ANY: u16 = u16::MAX;

/// Why bytes are no entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The bytes end early.
    #[error("the entry is cut short")]
    Short,
    /// Made by a later release.
    #[error("the entry has format {0}, which this release does not know")]
    Format(u8),
    /// A field holds what it cannot.
    #[error("the entry's {0} makes no sense")]
    Field(&'static str),
}

/// An operation with the time that its leader saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The leader's time when it took the operation.
    pub time: Timestamp,
    /// What is asked.
    pub operation: Operation,
}

/// The entry as bytes.
pub fn encode(time: Timestamp, operation: &Operation) -> Bytes {
    let mut buffer = BytesMut::with_capacity(encoded_bytes(operation));
    encode_into(&mut buffer, time, operation);
    buffer.freeze()
}

/// Room for the entry, unless it has many conditions.
pub fn encoded_bytes(operation: &Operation) -> usize {
    96 + operation.key.len() + document_bytes(operation).len()
}

/// Appends the entry, whose end is the end of the buffer.
pub fn encode_into(buffer: &mut BytesMut, time: Timestamp, operation: &Operation) {
    buffer.put_u8(FORMAT_VERSION);
    buffer.put_u8(match operation.change {
        Change::Put(_) => 1,
        Change::Merge(_) => 2,
        Change::Delete => 3,
    });
    buffer.put_u8(flags(operation));
    buffer.put_u64(time.0);
    buffer.put_u16(operation.key.len() as u16);
    buffer.put_slice(operation.key.as_bytes());
    for condition in [&operation.preconditions.if_match, &operation.preconditions.if_none_match].into_iter().flatten() {
        put_condition(buffer, condition);
    }
    match &operation.request {
        Some(RequestIdentity::Client(request)) => {
            buffer.put_slice(request.principal.as_bytes());
            buffer.put_slice(request.request_id.as_bytes());
            buffer.put_slice(&request.digest);
        }
        Some(RequestIdentity::Proxy(request)) => buffer.put_slice(request.as_bytes()),
        None => {}
    }
    if let Some(receipt) = &operation.receipt {
        buffer.put_slice(receipt.as_bytes());
    }
    buffer.put_slice(document_bytes(operation));
}

fn document_bytes(operation: &Operation) -> &[u8] {
    match &operation.change {
        Change::Put(document) | Change::Merge(document) => document.as_bytes(),
        Change::Delete => &[],
    }
}

fn flags(operation: &Operation) -> u8 {
    let mut flags = 0;
    if operation.preconditions.if_match.is_some() {
        flags |= FLAG_IF_MATCH;
    }
    if operation.preconditions.if_none_match.is_some() {
        flags |= FLAG_IF_NONE_MATCH;
    }
    flags |= match &operation.request {
        Some(RequestIdentity::Client(_)) => FLAG_REQUEST,
        Some(RequestIdentity::Proxy(_)) => FLAG_PROXY_REQUEST,
        None => 0,
    };
    if operation.receipt.is_some() {
        flags |= FLAG_RECEIPT;
    }
    flags
}

fn put_condition(buffer: &mut BytesMut, condition: &TagCondition) {
    match condition {
        TagCondition::Any => buffer.put_u16(VERSIONS_ANY),
        TagCondition::Versions(versions) => {
            let kept = &versions[..versions.len().min(VERSIONS_ANY as usize - 1)];
            buffer.put_u16(kept.len() as u16);
            for version in kept {
                buffer.put_u64(version.0);
            }
        }
    }
}

/// The entry in these bytes; documents are slices of them.
///
/// # Errors
/// Where the bytes are no entry of a format this release knows.
pub fn decode(payload: &Bytes) -> Result<Entry, EntryError> {
    let mut reader = Reader { payload, position: 0 };
    let format = reader.u8()?;
    if format != FORMAT_VERSION {
        return Err(EntryError::Format(format));
    }
    let change = reader.u8()?;
    let flags = reader.u8()?;
    if flags & !FLAGS != 0 || flags & FLAG_REQUEST != 0 && flags & FLAG_PROXY_REQUEST != 0 {
        return Err(EntryError::Field("flags"));
    }
    let time = Timestamp(reader.u64()?);
    let key_length = reader.u16()? as usize;
    let key = PackedKey::from_bytes(reader.take(key_length)?).map_err(|_| EntryError::Field("key"))?;
    let if_match = if flags & FLAG_IF_MATCH != 0 { Some(reader.condition()?) } else { None };
    let if_none_match = if flags & FLAG_IF_NONE_MATCH != 0 { Some(reader.condition()?) } else { None };
    let request = match flags & (FLAG_REQUEST | FLAG_PROXY_REQUEST) {
        FLAG_REQUEST => Some(RequestIdentity::Client(reader.request()?)),
        FLAG_PROXY_REQUEST => Some(RequestIdentity::Proxy(RequestId::from_bytes(reader.array()?))),
        _ => None,
    };
    let receipt = if flags & FLAG_RECEIPT != 0 { Some(ReceiptId::from_bytes(reader.array()?)) } else { None };
    let rest = payload.slice(reader.position..);
    let document = || Document::from_bytes(rest.clone()).map_err(|_| EntryError::Field("document"));
    let change = match change {
        1 => Change::Put(document()?),
        2 => Change::Merge(document()?),
        3 if rest.is_empty() => Change::Delete,
        _ => return Err(EntryError::Field("change")),
    };
    let preconditions = Preconditions { if_match, if_none_match };
    Ok(Entry { time, operation: Operation { key, change, preconditions, request, receipt } })
}

struct Reader<'a> {
    payload: &'a Bytes,
    position: usize,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Result<Bytes, EntryError> {
        let end =
            self.position.checked_add(length).filter(|end| *end <= self.payload.len()).ok_or(EntryError::Short)?;
        let slice = self.payload.slice(self.position..end);
        self.position = end;
        Ok(slice)
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], EntryError> {
        let end = self.position.checked_add(LENGTH).ok_or(EntryError::Short)?;
        let slice = self.payload.get(self.position..end).ok_or(EntryError::Short)?;
        self.position = end;
        slice.try_into().map_err(|_| EntryError::Short)
    }

    fn u8(&mut self) -> Result<u8, EntryError> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, EntryError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, EntryError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn condition(&mut self) -> Result<TagCondition, EntryError> {
        let count = self.u16()?;
        if count == VERSIONS_ANY {
            return Ok(TagCondition::Any);
        }
        (0..count).map(|_| self.u64().map(ItemVersion)).collect::<Result<_, _>>().map(TagCondition::Versions)
    }

    fn request(&mut self) -> Result<ClientRequest, EntryError> {
        Ok(ClientRequest {
            principal: PrincipalId::from_bytes(self.array()?),
            request_id: RequestId::from_bytes(self.array()?),
            digest: self.array()?,
        })
    }
}

/// For the fuzzer: whatever the bytes, no panic; and what decodes, encodes to something equal.
#[doc(hidden)]
pub fn fuzz_entry(data: &[u8]) {
    if let Ok(entry) = decode(&Bytes::copy_from_slice(data)) {
        let again = decode(&encode(entry.time, &entry.operation));
        assert_eq!(again.as_ref(), Ok(&entry));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::key::KeyValue;
    use proptest::prelude::*;

    fn condition() -> impl Strategy<Value = Option<TagCondition>> {
        prop_oneof![
            Just(None),
            Just(Some(TagCondition::Any)),
            proptest::collection::vec(any::<u64>().prop_map(ItemVersion), 0..4)
                .prop_map(|versions| Some(TagCondition::Versions(versions))),
        ]
    }

    pub(crate) fn operation() -> impl Strategy<Value = Operation> {
        let change = prop_oneof![
            "[a-z]{0,20}"
                .prop_map(|text| Change::Put(Document::from_json(format!(r#"{{"a":"{text}"}}"#).as_bytes()).unwrap())),
            Just(Change::Merge(Document::from_json(br#"{"a":null}"#).unwrap())),
            Just(Change::Delete),
        ];
        let client = any::<([u8; 16], [u8; 16], [u8; 32])>().prop_map(|(principal, id, digest)| {
            RequestIdentity::Client(ClientRequest {
                principal: PrincipalId::from_bytes(principal),
                request_id: RequestId::from_bytes(id),
                digest,
            })
        });
        let proxy = any::<[u8; 16]>().prop_map(|id| RequestIdentity::Proxy(RequestId::from_bytes(id)));
        let request = proptest::option::of(prop_oneof![client, proxy]);
        let receipt = proptest::option::of(any::<[u8; 16]>().prop_map(ReceiptId::from_bytes));
        ("[a-z]{1,20}", change, condition(), condition(), request, receipt).prop_map(
            |(id, change, if_match, if_none_match, request, receipt)| Operation {
                key: PackedKey::new(&KeyValue::String(id.as_str().into()), None),
                change,
                preconditions: Preconditions { if_match, if_none_match },
                request,
                receipt,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_equal(time: u64, operation in operation()) {
            let bytes = encode(Timestamp(time), &operation);
            prop_assert_eq!(decode(&bytes).unwrap(), Entry { time: Timestamp(time), operation });
        }

        #[test]
        fn a_cut_entry_is_refused_or_shorter_by_the_document_only(operation in operation(), cut in 0usize..64) {
            let bytes = encode(Timestamp(1), &operation);
            let cut = cut.min(bytes.len().saturating_sub(1));
            prop_assert!(decode(&bytes.slice(..cut)).is_err() || matches!(operation.change, Change::Delete));
        }
    }
}
