//! Into a repository: entries and contents become chunks, these packs, and all of it a snapshot.

pub(crate) mod editor;
pub(crate) mod file_cache;
pub(crate) mod ingest;
pub(crate) mod previous;
pub(crate) mod rebuilt;
pub(crate) mod spool;
pub(crate) mod writer;
