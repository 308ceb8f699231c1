//! Flattening: a document as cells, one for each leaf, and back.
//!
//! A cell is a row of storage: path, type, data. What is a leaf: everything but maps and lists that hold
//! something. Empty maps and lists are leaves of types of their own; the empty item has no cells at all.
//!
//! | piece of a path | what it stands for |
//! |---|---|
//! | name | an attribute, or an entry of a map; between two names stands `.` |
//! | `[000003]` | the fourth value of a list, six digits |
//! | `\.` `\[` `\\` | the character behind `\`, in a name |
//! | `\x0a` | a control character (U+0000 to U+001F and U+007F), in a name |
//! | `\e` | the empty name |
//!
//! So `{"a":{"b":[1,[]]},"c.d":{},"":null}` has the paths `\e`, `a.b[000000]`, `a.b[000001]`, `c\.d`.
//! Every name is possible, every leaf has exactly one path, and no path is empty: the empty path
//! is the item's own row in the store. Paths are compared as bytes: then lists are in order, and
//! what lies in one map or list stands together, since its paths share a beginning that ends in `.`
//! or `[`, which no name has unescaped. Maps are *not* in order of their names (`a!` comes before `a.b`);
//! the builder sorts where needed.
//!
//! | type | number | data |
//! |---|---|---|
//! | null, false, true | 1, 2, 3 | none |
//! | number | 4 | canonical text |
//! | string | 5 | text |
//! | binary | 6 | bytes |
//! | empty map, empty list | 7, 8 | none |
//! | string, number, binary set | 9, 10, 11 | each element: length in LEB128, bytes |
//!
//! [`diff_cells`] compares two documents without flattening them: what is equal is skipped as a whole.

mod diff;
mod flatten;
mod path;
mod rebuild;
mod types;

pub use diff::{CellChange, diff_cells};
pub use flatten::{cells_of, for_each_cell};
pub use path::{attribute_path, fuzz_path};
pub use rebuild::{Assembler, from_cells};
pub use types::{Cell, CellData, CellType};
