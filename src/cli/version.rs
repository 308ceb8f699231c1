//! What `dstore --version` prints: everything somebody needs who is asked which version it was.

use std::fmt::Write;

/// The commit this binary was built from; see `build.rs`.
pub const COMMIT: &str = env!("DSTORE_COMMIT");

/// Formats on disk whose version stands in the files; each is named by the module that writes it.
const FORMATS: &[(&str, u32)] = &[
    ("log", crate::storage::log::FORMAT_VERSION as u32),
    ("entry", crate::replication::entry::FORMAT_VERSION_CONDITIONAL as u32),
    ("file", crate::storage::vfs::header::FORMAT_VERSION),
];

/// Several lines: version, commit, SQLite, formats.
pub fn long() -> String {
    let mut text =
        format!("{}\ncommit:  {COMMIT}\nSQLite:  {}\nformats:", env!("CARGO_PKG_VERSION"), rusqlite::version());
    for (name, version) in FORMATS {
        // A `String` takes any text.
        let _ = write!(text, " {name} {version}");
    }
    text
}
