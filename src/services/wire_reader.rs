//! Takes a message that came from another process apart, from its front. Everything in it may be wrong.

use bytes::Bytes;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end early.
    #[error("the message is cut short")]
    Short,
    /// Made by a later release.
    #[error("the message has format {0}, which this release does not know")]
    Format(u8),
    /// A field holds what it cannot.
    #[error("the message's {0} makes no sense")]
    Field(&'static str),
}

/// What is left of a message. What it gives are slices of it; integers are big-endian.
pub(in crate::services) struct Reader {
    rest: Bytes,
}

impl Reader {
    /// A message behind its version, which must be this one.
    pub(in crate::services) fn new(message: &Bytes, version: u8) -> Result<Self, WireError> {
        let mut reader = Self { rest: message.clone() };
        match reader.u8()? {
            found if found == version => Ok(reader),
            other => Err(WireError::Format(other)),
        }
    }

    pub(in crate::services) fn take(&mut self, length: usize) -> Result<Bytes, WireError> {
        if length > self.rest.len() { Err(WireError::Short) } else { Ok(self.rest.split_to(length)) }
    }

    pub(in crate::services) fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], WireError> {
        let array = *self.rest.first_chunk().ok_or(WireError::Short)?;
        let _ = self.rest.split_to(LENGTH);
        Ok(array)
    }

    pub(in crate::services) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.array::<1>()?[0])
    }

    pub(in crate::services) fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(in crate::services) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(in crate::services) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Bytes behind their length, in four bytes.
    pub(in crate::services) fn counted(&mut self) -> Result<Bytes, WireError> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    pub(in crate::services) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    pub(in crate::services) fn end(&self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Field("end")) }
    }

    /// One byte of which only the bits of `known` may be set.
    pub(in crate::services) fn flags(&mut self, known: u8) -> Result<u8, WireError> {
        let flags = self.u8()?;
        if flags & !known == 0 { Ok(flags) } else { Err(WireError::Field("flags")) }
    }
}
