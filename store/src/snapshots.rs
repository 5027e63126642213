//! The records of a repository: its snapshots, those that were forgotten, their spares and pins, and runs that were cut off.

mod cache;
pub(crate) mod list;
pub(crate) mod parked;
pub(crate) mod pins;
pub(crate) mod spares;
pub(crate) mod trash;
