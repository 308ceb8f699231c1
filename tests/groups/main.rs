//! Groups of three nodes in one process: memory stores and a simulated disk under each, a network by calls between them.
//! What a client sees is asked through the nodes' range services, as a proxy would.

mod cluster;
mod cost;
mod failover;
mod gate;
mod rest;
mod rolled_back;
mod scrub;
mod splits;
