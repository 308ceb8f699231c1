//! Control over a real embedded coordinator: what is promised of tables, keys, members and access.

mod access;
mod golden;
mod keys;
mod limits;
mod log_level;
mod node_side;
mod placement;
mod placement_commands;
mod ranges;
mod recovery;
mod splits;
mod tables;
