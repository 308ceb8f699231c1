//! The rules of the commit log, each with a test named after it. Beside the tests in single files:
//! [`harness`] has what they share.

mod cleaning;
mod crash;
mod damage;
mod grouping;
mod harness;
mod keys;
mod space;
mod verify;
