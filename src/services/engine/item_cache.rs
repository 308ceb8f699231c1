//! A cache of items that were read or flushed lately, shared by all ranges of a node and bounded in
//! bytes. It stands between the in-memory table and the files: a hit costs no thread hop, no SQLite
//! and no decryption.
//!
//! It is never asked before the in-memory table, so an entry may be older than memory and no harm is
//! done; a flush brings the cache up to date before it empties memory. A read that fills the cache
//! does so only if no flush of its range ended in between (the caller checks, see
//! [`super::replica`]). Those two rules together keep stale items out.

use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

use crate::domain::document::Document;
use crate::domain::key::PackedKey;
use crate::domain::version::ItemVersion;

/// What a cached entry costs beside its bytes.
const ENTRY_BYTES: u64 = 120;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OwnedKey {
    range: u64,
    key: PackedKey,
}

#[derive(Hash)]
struct BorrowedKey<'a> {
    range: u64,
    key: &'a PackedKey,
}

impl Equivalent<OwnedKey> for BorrowedKey<'_> {
    fn equivalent(&self, owned: &OwnedKey) -> bool {
        self.range == owned.range && *self.key == owned.key
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<OwnedKey, (Document, ItemVersion)> for Weight {
    fn weight(&self, key: &OwnedKey, value: &(Document, ItemVersion)) -> u64 {
        ENTRY_BYTES + (key.key.len() + value.0.as_bytes().len()) as u64
    }
}

/// See the module's essay.
pub struct ItemCache {
    cache: Cache<OwnedKey, (Document, ItemVersion), Weight>,
}

impl ItemCache {
    /// A cache of at most `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> Self {
        let items_estimated = (bytes_max / 1024).max(64) as usize;
        Self { cache: Cache::with_weighter(items_estimated, bytes_max, Weight) }
    }

    /// A cached item of the range with this number (see [`super::replica::Replica`]).
    pub fn get(&self, range: u64, key: &PackedKey) -> Option<(Document, ItemVersion)> {
        self.cache.get(&BorrowedKey { range, key })
    }

    /// Takes an item in.
    pub fn insert(&self, range: u64, key: PackedKey, document: Document, version: ItemVersion) {
        self.cache.insert(OwnedKey { range, key }, (document, version));
    }

    /// Forgets an item.
    pub fn remove(&self, range: u64, key: &PackedKey) {
        self.cache.remove(&BorrowedKey { range, key });
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> u64 {
        self.cache.weight()
    }
}
