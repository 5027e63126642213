//! Out of a repository: chunks by their ids, the entries and files of a snapshot, and whole folders.

pub(crate) mod chunks;
pub(crate) mod diff;
pub(crate) mod export;
pub(crate) mod folder;
pub(crate) mod reader;
pub(crate) mod snapshot_folder;
pub(crate) mod walk;
