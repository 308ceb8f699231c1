//! Frames: many messages for one node, carried as one piece. Integers are big-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | protocol version, 1 |
//! | each message | 4: its length; its bytes |
//!
//! What a message says is none of this file's business: it has a version and kinds of its own. So the version here is
//! about this table alone, and a frame of another version is dropped whole by one who does not know it. A new kind
//! of message needs no new version of the frame; a new version is sent only when every node can read it.
//!
//! A frame takes messages up to [`FRAME_BYTES`]. One message alone may be larger, up to [`MESSAGE_BYTES_MAX`]: an entry
//! with the largest write that a client may send has to get through whole, or its group would stand still for ever.
//!
//! Rejected: a checksum (TLS has one, and so has each piece of a snapshot and each record of the log), compression (one
//! tenant's data would tell by the length of a frame what stands in another's), and a count of the messages at the
//! front (it could only be wrong).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::domain::limits::BODY_BYTES_MAX;

/// The version of the format written here.
pub const PROTOCOL_VERSION: u8 = 1;
/// Messages share a frame up to this many bytes.
pub const FRAME_BYTES: usize = 1024 * 1024;
/// The largest message, in bytes. It is larger than the largest question to a range, and so than any entry.
pub const MESSAGE_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;
/// The largest frame, in bytes.
pub const FRAME_BYTES_MAX: usize = HEAD_BYTES + LENGTH_BYTES + MESSAGE_BYTES_MAX;

const HEAD_BYTES: usize = 1;
const LENGTH_BYTES: usize = 4;

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes end early.
    #[error("the frame is cut short")]
    Short,
    /// Of a version that this release does not know.
    #[error("the frame has protocol version {0}, which this release does not know")]
    Version(u8),
    /// A message is larger than any may be.
    #[error("a message of {0} bytes is larger than any may be")]
    TooLarge(usize),
}

/// What a message adds to the length of a frame, in bytes.
pub fn framed_bytes(message: &Bytes) -> usize {
    LENGTH_BYTES + message.len()
}

/// A frame of these messages, each of [`MESSAGE_BYTES_MAX`] at most.
pub fn encode(messages: &[Bytes]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD_BYTES + messages.iter().map(framed_bytes).sum::<usize>());
    frame.put_u8(PROTOCOL_VERSION);
    for message in messages {
        frame.put_u32(message.len() as u32);
        frame.put_slice(message);
    }
    frame.freeze()
}

/// The messages of a frame, in their order. They are slices of it: whoever keeps a part of one for long copies it.
///
/// # Errors
/// Where the bytes are no frame of a version this release knows; nothing of it is used then.
pub fn decode(frame: &Bytes) -> Result<Vec<Bytes>, FrameError> {
    let mut rest = frame.clone();
    match rest.first() {
        None => return Err(FrameError::Short),
        Some(&PROTOCOL_VERSION) => rest.advance(HEAD_BYTES),
        Some(other) => return Err(FrameError::Version(*other)),
    }
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let length = *rest.first_chunk::<LENGTH_BYTES>().ok_or(FrameError::Short)?;
        rest.advance(LENGTH_BYTES);
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(FrameError::TooLarge(length));
        }
        if length > rest.len() {
            return Err(FrameError::Short);
        }
        messages.push(rest.split_to(length));
    }
    Ok(messages)
}

/// For the fuzzer: whatever the bytes, no panic; and what decodes, encodes to the same bytes.
#[doc(hidden)]
pub fn fuzz_frame(data: &[u8]) {
    if let Ok(messages) = decode(&Bytes::copy_from_slice(data)) {
        assert_eq!(encode(&messages), data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_are_pinned() {
        let frame = encode(&[Bytes::from_static(b"ab"), Bytes::new()]);
        assert_eq!(frame, [1, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0].as_slice());
        assert_eq!(decode(&frame), Ok(vec![Bytes::from_static(b"ab"), Bytes::new()]));
        assert_eq!(decode(&encode(&[])), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let decode = |bytes: &'static [u8]| decode(&Bytes::from_static(bytes));
        assert_eq!(decode(b""), Err(FrameError::Short));
        assert_eq!(decode(&[2, 0, 0, 0, 0]), Err(FrameError::Version(2)));
        assert_eq!(decode(&[1, 0, 0, 0]), Err(FrameError::Short));
        assert_eq!(decode(&[1, 0, 0, 0, 2, b'a']), Err(FrameError::Short));
        assert_eq!(decode(&[1, 255, 0, 0, 0, 1]), Err(FrameError::TooLarge(0xff00_0000)));
    }

    #[test]
    fn the_largest_write_fits_into_a_message() {
        // A question may be three bodies large; an append around it takes less than another one.
        const { assert!(MESSAGE_BYTES_MAX >= 3 * BODY_BYTES_MAX + 1024) };
        assert_eq!(encode(&[Bytes::from(vec![0; MESSAGE_BYTES_MAX])]).len(), FRAME_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let messages: Vec<Bytes> = messages.into_iter().map(Bytes::from).collect();
            let frame = encode(&messages);
            prop_assert_eq!(frame.len(), 1 + messages.iter().map(framed_bytes).sum::<usize>());
            prop_assert_eq!(decode(&frame), Ok(messages));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            fuzz_frame(&bytes);
            // Most random bytes fail at the version; these do not.
            fuzz_frame(&[&[PROTOCOL_VERSION][..], &bytes].concat());
        }
    }
}
