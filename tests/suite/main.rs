//! End to end: engines on real files, real processes, real etcd, real clients. One binary, so that it
//! is linked once.

mod assignments;
mod bounds;
mod cluster;
mod confidential;
mod control_etcd;
mod copies;
mod damage;
mod dev;
mod engine;
mod flips;
mod full_disk;
mod integrity;
mod newcomer;
mod outages;
mod process;
mod quantity;
mod ranges;
mod restart;
mod restore;
mod retirement;
mod rotation;
mod splits;
mod standalone;
mod transcripts;
mod walk;
