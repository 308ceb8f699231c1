//! All limits in one place. Names put the unit last.

/// The largest item by the item-size formula of DynamoDB, in bytes.
pub const ITEM_BYTES_MAX: usize = 400 * 1024;
/// The largest REST body of text, in bytes.
pub const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How deep maps and lists may nest in an item.
pub const NESTING_LEVELS_MAX: usize = 32;
/// Significant digits of a number.
pub const NUMBER_DIGITS_MAX: usize = 38;
/// The longest ID, in bytes of its canonical form (DynamoDB's partition key).
pub const ID_BYTES_MAX: usize = 2048;
/// The longest sort key, in bytes of its canonical form.
pub const SORT_BYTES_MAX: usize = 1024;
/// The longest attribute name in an item, in bytes.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = 64 * 1024 - 1;
/// Items in one page of a listing, at most.
pub const PAGE_ITEMS_MAX: usize = 1000;
/// Items in one page of a listing, where none is asked for.
pub const PAGE_ITEMS_DEFAULT: usize = 100;
/// Bytes of items in one page of a listing, at most.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// How long a client's request id is remembered, in seconds.
pub const REQUEST_WINDOW_SECONDS: u64 = 600;
/// How long a receipt is kept, in seconds.
pub const RECEIPT_SECONDS: u64 = 24 * 3600;
/// The longest Idempotency-Key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// How long a deleted table can be brought back, in seconds.
pub const UNDELETE_SECONDS: u64 = 7 * 24 * 3600;
