//! Limits of expressions, as AWS documents them (developer guide, "Constraints: Expression parameters"), and our own
//! where trees come as bytes. Names put the unit last.

/// The longest text of one expression.
pub const EXPRESSION_BYTES_MAX: usize = 4 * 1024;
/// Operators and functions in one expression.
pub const OPERATORS_MAX: usize = 300;
/// Operands on the right of one IN.
pub const IN_OPERANDS_MAX: usize = 100;
/// Elements of one document path, the attribute included.
pub const PATH_ELEMENTS_MAX: usize = 32;
/// The largest index of a list in a path.
pub const LIST_INDEX_MAX: u32 = i32::MAX as u32;
/// The longest placeholder, its first character included.
pub const PLACEHOLDER_BYTES_MAX: usize = 255;
/// All placeholders and what stands for them, of one request.
pub const SUBSTITUTIONS_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How deep conditions nest. Text cannot come near: every second level has an operator besides NOT, and what that
/// compares is one more.
pub const CONDITION_LEVELS_MAX: usize = 256;
/// How deep functions stand in functions. In a condition more than two are an error anyway, in an update AWS allows
/// more.
pub const FUNCTION_LEVELS_MAX: usize = 64;
/// The longest condition or update as bytes: all values that a request can give, and a megabyte of names. Two of them
/// and an item fit a message between nodes.
pub const TREE_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Nodes, operands and paths of a tree that comes as bytes.
pub const TREE_PARTS_MAX: usize = 64 * 1024;
