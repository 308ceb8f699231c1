//! End to end: engines on real files, real processes, real etcd, real clients. One binary, so that it
//! is linked once.

mod assignments;
mod backup;
mod bounds;
mod cluster;
mod conditional;
mod confidential;
mod control_etcd;
mod copies;
mod damage;
mod dev;
mod engine;
mod expiry;
mod exported;
mod flips;
mod full_disk;
mod integrity;
mod limits;
mod moves;
mod newcomer;
mod numbers;
mod observed;
mod outages;
mod process;
mod quantity;
mod ranges;
mod reporting;
mod restart;
mod restore;
mod retirement;
mod rotation;
mod splits;
mod standalone;
mod transcripts;
mod usage;
mod walk;
