//! A log entry's payload as bytes: an operation and the leader's time.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format version: 1, or 2 where there is a conditional, an update or a removal |
//! | 1 | change: 1 put, 2 merge, 3 delete; in version 2 alone: 4 update, 5 remove |
//! | 1 | flags: 1 if_match, 2 if_none_match, 4 client request, 8 receipt, 16 proxy's request; in version 2 alone: 32 conditional |
//! | 8 | leader's time, microseconds since 1970, big-endian |
//! | 2 + n | packed key: length, bytes |
//! | each condition | 2: number of versions, 65,535 for `*`; then 8 bytes each |
//! | client request | 16 principal, 16 request id, 32 digest |
//! | proxy's request | 16; never beside a client's |
//! | receipt | 16 |
//! | conditional | 1: flags (1 condition, 2 image before, 4 image after, 8 image before on failure, 16 of an update only what it touches); 4: bytes of the key; 4 + n: the key as a document; 4 + n: the condition ([`crate::expression::encoding`]), where there is one |
//! | rest | the document (put: the item; merge: the patch; delete, remove: nothing), or the update ([`crate::expression::encoding`]) |
//!
//! What an earlier release knows is written as it wrote it. Of the rest it says that it is of a later format, and touches nothing.
//!
//! The document stands last and without a length, so that decoding takes a slice of the record's
//! own buffer: the bytes that were read from the log are the bytes that serve reads.

use bytes::{BufMut, Bytes, BytesMut};

use crate::domain::Timestamp;
use crate::domain::document::Document;
use crate::domain::ids::{PrincipalId, ReceiptId, RequestId};
use crate::domain::key::PackedKey;
use crate::domain::version::ItemVersion;
use crate::expression::{Condition, Update};

use super::operation::{
    Change, ClientRequest, Conditional, Images, Operation, Preconditions, RequestIdentity, TagCondition,
};

/// The version of the format written here.
pub const FORMAT_VERSION: u8 = 1;
/// The same where there is a conditional, an update or a removal.
pub const FORMAT_VERSION_CONDITIONAL: u8 = 2;
const FLAG_IF_MATCH: u8 = 1;
const FLAG_IF_NONE_MATCH: u8 = 2;
const FLAG_REQUEST: u8 = 4;
const FLAG_RECEIPT: u8 = 8;
const FLAG_PROXY_REQUEST: u8 = 16;
const FLAGS: u8 = FLAG_IF_MATCH | FLAG_IF_NONE_MATCH | FLAG_REQUEST | FLAG_RECEIPT | FLAG_PROXY_REQUEST;
const FLAG_CONDITIONAL: u8 = 32;
const PART_CONDITION: u8 = 1;
const PART_BEFORE: u8 = 2;
const PART_AFTER: u8 = 4;
const PART_BEFORE_ON_FAILURE: u8 = 8;
const PART_TOUCHED_ONLY: u8 = 16;
const PARTS: u8 = PART_CONDITION | PART_BEFORE | PART_AFTER | PART_BEFORE_ON_FAILURE | PART_TOUCHED_ONLY;
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

/// Room for the entry, unless it has many conditions or expressions.
pub fn encoded_bytes(operation: &Operation) -> usize {
    96 + operation.key.len() + document_bytes(operation).len()
}

fn format_of(operation: &Operation) -> u8 {
    match operation.change {
        Change::Put(_) | Change::Merge(_) | Change::Delete if operation.conditional.is_none() => FORMAT_VERSION,
        _ => FORMAT_VERSION_CONDITIONAL,
    }
}

/// Appends the entry, whose end is the end of the buffer.
pub fn encode_into(buffer: &mut BytesMut, time: Timestamp, operation: &Operation) {
    buffer.put_u8(format_of(operation));
    buffer.put_u8(match operation.change {
        Change::Put(_) => 1,
        Change::Merge(_) => 2,
        Change::Delete => 3,
        Change::Update(_) => 4,
        Change::Remove => 5,
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
    if let Some(conditional) = &operation.conditional {
        put_conditional(buffer, conditional);
    }
    match &operation.change {
        Change::Update(update) => update.encode(buffer),
        _ => buffer.put_slice(document_bytes(operation)),
    }
}

fn document_bytes(operation: &Operation) -> &[u8] {
    match &operation.change {
        Change::Put(document) | Change::Merge(document) => document.as_bytes(),
        Change::Delete | Change::Update(_) | Change::Remove => &[],
    }
}

fn put_conditional(buffer: &mut BytesMut, conditional: &Conditional) {
    let Images { before, after, before_on_failure, touched_only } = conditional.images;
    let mut parts = if conditional.condition.is_some() { PART_CONDITION } else { 0 };
    let images = [
        (before, PART_BEFORE),
        (after, PART_AFTER),
        (before_on_failure, PART_BEFORE_ON_FAILURE),
        (touched_only, PART_TOUCHED_ONLY),
    ];
    for (is_wanted, part) in images {
        parts |= if is_wanted { part } else { 0 };
    }
    buffer.put_u8(parts);
    buffer.put_u32(conditional.key_bytes);
    buffer.put_u32(conditional.keys.as_bytes().len() as u32);
    buffer.put_slice(conditional.keys.as_bytes());
    if let Some(condition) = &conditional.condition {
        // Its length is known when it stands there.
        let place = buffer.len();
        buffer.put_u32(0);
        condition.encode(buffer);
        let length = (buffer.len() - place - 4) as u32;
        buffer[place..place + 4].copy_from_slice(&length.to_be_bytes());
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
    if operation.conditional.is_some() {
        flags |= FLAG_CONDITIONAL;
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
    let (known, last_change) = match reader.u8()? {
        FORMAT_VERSION => (FLAGS, 3),
        FORMAT_VERSION_CONDITIONAL => (FLAGS | FLAG_CONDITIONAL, 5),
        other => return Err(EntryError::Format(other)),
    };
    let change = reader.u8()?;
    let flags = reader.u8()?;
    if flags & !known != 0 || flags & FLAG_REQUEST != 0 && flags & FLAG_PROXY_REQUEST != 0 {
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
    let conditional = if flags & FLAG_CONDITIONAL != 0 { Some(Box::new(reader.conditional()?)) } else { None };
    let rest = payload.slice(reader.position..);
    let document = || Document::from_bytes(rest.clone()).map_err(|_| EntryError::Field("document"));
    let change = match change {
        1 => Change::Put(document()?),
        2 => Change::Merge(document()?),
        3 if rest.is_empty() => Change::Delete,
        4 if last_change >= 4 => {
            Change::Update(Box::new(Update::decode(&rest).map_err(|_| EntryError::Field("update"))?))
        }
        5 if last_change >= 5 && rest.is_empty() => Change::Remove,
        _ => return Err(EntryError::Field("change")),
    };
    let preconditions = Preconditions { if_match, if_none_match };
    Ok(Entry { time, operation: Operation { key, change, preconditions, conditional, request, receipt } })
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

    fn counted(&mut self) -> Result<Bytes, EntryError> {
        let length = u32::from_be_bytes(self.array()?);
        self.take(length as usize)
    }

    fn conditional(&mut self) -> Result<Conditional, EntryError> {
        let parts = self.u8()?;
        if parts & !PARTS != 0 {
            return Err(EntryError::Field("flags of the conditional"));
        }
        let key_bytes = u32::from_be_bytes(self.array()?);
        let keys = Document::from_bytes(self.counted()?).map_err(|_| EntryError::Field("key attributes"))?;
        let condition = if parts & PART_CONDITION == 0 {
            None
        } else {
            Some(Condition::decode(&self.counted()?).map_err(|_| EntryError::Field("condition"))?)
        };
        let images = Images {
            before: parts & PART_BEFORE != 0,
            after: parts & PART_AFTER != 0,
            before_on_failure: parts & PART_BEFORE_ON_FAILURE != 0,
            touched_only: parts & PART_TOUCHED_ONLY != 0,
        };
        Ok(Conditional { condition, keys, images, key_bytes })
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
    use crate::expression::{Comparison, Operand, Path, SetOperand, SetValue, Step, Value as ExpressionValue};
    use proptest::prelude::*;

    fn condition() -> impl Strategy<Value = Option<TagCondition>> {
        prop_oneof![
            Just(None),
            Just(Some(TagCondition::Any)),
            proptest::collection::vec(any::<u64>().prop_map(ItemVersion), 0..4)
                .prop_map(|versions| Some(TagCondition::Versions(versions))),
        ]
    }

    fn path(name: &str) -> Path {
        Path { attribute: name.into(), steps: vec![Step::Attribute("b".into()), Step::Index(3)] }
    }

    fn value(number: u32) -> ExpressionValue {
        let document = Document::from_json(format!(r#"{{"n":{number}}}"#).as_bytes()).unwrap();
        ExpressionValue::new(document.get("n").unwrap()).unwrap()
    }

    fn expression() -> impl Strategy<Value = Condition> {
        let name = "[a-z]{1,5}";
        prop_oneof![
            name.prop_map(|name| Condition::NotExists(path(&name))),
            (name, any::<u32>()).prop_map(|(name, number)| Condition::And(vec![
                Condition::Exists(path(&name)),
                Condition::Compare(Operand::Path(path(&name)), Comparison::Less, Operand::Value(value(number))),
            ])),
        ]
    }

    fn conditional() -> impl Strategy<Value = Option<Box<Conditional>>> {
        let parts = (proptest::option::of(expression()), "[a-z]{0,9}", any::<[bool; 4]>(), any::<u32>());
        proptest::option::of(parts.prop_map(
            |(condition, id, [before, after, before_on_failure, touched_only], key_bytes)| {
                let keys = Document::from_json(format!(r#"{{"id":"{id}"}}"#).as_bytes()).unwrap();
                Box::new(Conditional {
                    condition,
                    keys,
                    images: Images { before, after, before_on_failure, touched_only },
                    key_bytes,
                })
            },
        ))
    }

    fn update() -> impl Strategy<Value = Update> {
        ("[a-z]{1,5}", any::<u32>()).prop_map(|(name, number)| Update {
            sets: vec![(path(&format!("s{name}")), SetValue::Operand(SetOperand::Value(value(number))))],
            removes: vec![path(&format!("r{name}"))],
            adds: vec![(path(&format!("a{name}")), value(number))],
            deletes: Vec::new(),
        })
    }

    pub(crate) fn operation() -> impl Strategy<Value = Operation> {
        let change = prop_oneof![
            "[a-z]{0,20}"
                .prop_map(|text| Change::Put(Document::from_json(format!(r#"{{"a":"{text}"}}"#).as_bytes()).unwrap())),
            Just(Change::Merge(Document::from_json(br#"{"a":null}"#).unwrap())),
            Just(Change::Delete),
            update().prop_map(|update| Change::Update(Box::new(update))),
            Just(Change::Remove),
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
        ("[a-z]{1,20}", change, condition(), condition(), conditional(), request, receipt).prop_map(
            |(id, change, if_match, if_none_match, conditional, request, receipt)| Operation {
                key: PackedKey::new(&KeyValue::String(id.as_str().into()), None),
                change,
                preconditions: Preconditions { if_match, if_none_match },
                conditional,
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

        /// Nobody pays for what a write does not ask for, and an earlier release reads what it always read.
        #[test]
        fn the_format_is_the_earliest_that_can_say_it(operation in operation()) {
            let is_new = operation.conditional.is_some() || matches!(operation.change, Change::Update(_) | Change::Remove);
            let bytes = encode(Timestamp(1), &operation);
            prop_assert_eq!(bytes[0], if is_new { FORMAT_VERSION_CONDITIONAL } else { FORMAT_VERSION });
            if is_new {
                let mut older = bytes.to_vec();
                older[0] = FORMAT_VERSION;
                prop_assert!(decode(&older.into()).is_err(), "what is new is in no entry of the first format");
            }
        }
    }

    #[test]
    fn a_later_format_is_named() {
        assert_eq!(decode(&Bytes::from_static(&[3, 1, 0])), Err(EntryError::Format(3)));
    }
}
