//! What of a range is measured, as the end of the question how much it stores.
//!
//! | bytes | what |
//! |---|---|
//! | none | all of it |
//! | 1: 1; 1: position | what this local index shows |
//! | 1: 2; the rest | the items of one ID: what their packed keys begin with |
//!
//! All of it is written as nothing, as it was before there were parts: nodes and proxies of both releases understand
//! each other as long as nobody asks for a part.

use bytes::{BufMut, BytesMut};

use super::{Reader, WireError, key};
use crate::services::ports::StoredPart;

const INDEX: u8 = 1;
const COLLECTION: u8 = 2;

/// How many bytes it takes.
pub(super) fn room(part: &StoredPart) -> usize {
    match part {
        StoredPart::Table => 0,
        StoredPart::Index(_) => 2,
        StoredPart::Collection(prefix) => 1 + prefix.len(),
    }
}

pub(super) fn put(buffer: &mut BytesMut, part: &StoredPart) {
    match part {
        StoredPart::Table => {}
        StoredPart::Index(position) => buffer.put_slice(&[INDEX, *position]),
        StoredPart::Collection(prefix) => {
            buffer.put_u8(COLLECTION);
            buffer.put_slice(prefix.as_bytes());
        }
    }
}

/// The part that is left of the message.
pub(super) fn read(reader: &mut Reader) -> Result<StoredPart, WireError> {
    if reader.end().is_ok() {
        return Ok(StoredPart::Table);
    }
    match reader.u8()? {
        INDEX => Ok(StoredPart::Index(reader.u8()?)),
        COLLECTION => {
            let prefix = key(reader.rest())?;
            // An ID alone is a packed key, too: one without a sort key.
            match prefix.decode() {
                Ok((_, None)) => Ok(StoredPart::Collection(prefix)),
                _ => Err(WireError::Field("collection")),
            }
        }
        _ => Err(WireError::Field("part of a range")),
    }
}
