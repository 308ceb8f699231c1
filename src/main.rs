//! The dstore binary.
fn main() {}
