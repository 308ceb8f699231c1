//! Suite.
fn main(){}
