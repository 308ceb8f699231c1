//! What a request costs, in the units of capacity that DynamoDB counts in.
//!
//! | what | units |
//! |---|---|
//! | a strong read | 1 for each begun 4 KiB of the item; 1 where there is none |
//! | an eventual read | half of that |
//! | a page of a listing | the same for the sizes of its items added up first |
//! | a write | 1 for each begun KiB of what is written; 1 for a deletion |
//!
//! Sizes are those of [`crate::domain::item_size`], with the key. DynamoDB takes the larger of the item before and after a write.
//! Here whoever counts sees what was sent and not what was there: a replaced item counts by the new one, a merge by
//! the part that was sent.

/// Bytes of a unit of reading.
const READ_UNIT_BYTES: u64 = 4096;
/// Bytes of a unit of writing.
const WRITE_UNIT_BYTES: u64 = 1024;

/// See the module's essay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Bytes of items that were read.
    pub read_bytes: u64,
    /// Bytes of items that were written.
    pub written_bytes: u64,
    /// Read capacity in half units.
    pub read_half_units: u64,
    /// Write capacity in units.
    pub write_units: u64,
}

impl Cost {
    /// Of reading items of so many bytes together.
    pub fn read(bytes: u64, is_strong: bool) -> Self {
        let units = bytes.div_ceil(READ_UNIT_BYTES).max(1);
        Self { read_bytes: bytes, read_half_units: if is_strong { 2 * units } else { units }, ..Self::default() }
    }

    /// Of a write of so many bytes that was evaluated. One that changed nothing wrote no bytes, and costs the same.
    pub fn write(bytes: u64, has_changed: bool) -> Self {
        let write_units = bytes.div_ceil(WRITE_UNIT_BYTES).max(1);
        Self { written_bytes: if has_changed { bytes } else { 0 }, write_units, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_begun_ones_and_never_none() {
        for (bytes, strong) in [(0, 2), (1, 2), (4096, 2), (4097, 4), (400 << 10, 200)] {
            assert_eq!(Cost::read(bytes, true).read_half_units, strong, "{bytes}");
            assert_eq!(Cost::read(bytes, false).read_half_units, strong / 2, "{bytes}");
        }
        for (bytes, units) in [(0, 1), (1, 1), (1024, 1), (1025, 2)] {
            assert_eq!(Cost::write(bytes, true), Cost { written_bytes: bytes, write_units: units, ..Cost::default() });
            assert_eq!(Cost::write(bytes, false), Cost { write_units: units, ..Cost::default() });
        }
    }
}
