//! The list of fuzz targets: each parser and each format that is read from disk or wire. To add one, write a
//! `#[doc(hidden)] pub fn fuzz_…(data: &[u8])` beside the parser (it may also check that what was
//! parsed can be written and read again), name it here, and store seeds in `fuzz/corpus/<name>/seeds.txt`.

use dstore::storage::vfs::fuzz as vfs;

/// One target.
pub struct Target {
    /// Its name on the command line and the folder of its corpus.
    pub name: &'static str,
    /// What kind of bytes it reads, for people.
    pub reads: &'static str,
    /// Runs it once; must return for every input.
    pub run: fn(&[u8]),
}

/// Every target, by name.
pub const ALL: &[Target] = &[
    Target { name: "names", reads: "names of tenants and tables", run: names },
    Target { name: "vfs-file-header", reads: "header blocks of encrypted SQLite files", run: vfs::fuzz_file_header },
    Target { name: "vfs-page", reads: "sealed pages and log headers of SQLite files", run: vfs::fuzz_open_page },
    Target { name: "vfs-pieces", reads: "offsets and lengths of SQLite's reads", run: vfs::fuzz_pieces },
    Target {
        name: "routing-copy",
        reads: "the opened body of the routing table's copy on disk",
        run: dstore::services::routing::fuzz_routing_copy,
    },
];

/// The target called `name`.
pub fn find(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}

/// A name that was accepted reads back as itself, and never holds what a path or a key of the
/// coordinator could trip over.
fn names(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(name) = dstore::domain::TenantName::new(&text) {
        assert_eq!(name.as_str(), text);
        assert!(!text.is_empty() && !text.contains(['/', '.', '%', '\0']));
    }
    if let Ok(name) = dstore::domain::TableName::new(&text) {
        assert_eq!(name.as_str(), text);
        assert!(text.len() >= 3 && !text.contains(['/', '%', '\0']) && text != "..");
    }
}
