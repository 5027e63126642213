//! Bytes that become types, and types that become bytes: a file for each part of SPEC.md.
//!
//! Everything here is given its bytes, or reads one file through [`Storage`](crate::Storage). Nothing here knows of a
//! repository.

pub(crate) mod chunk_list;
pub(crate) mod chunker;
pub(crate) mod codec;
pub(crate) mod config;
pub(crate) mod delta;
pub(crate) mod entry;
pub(crate) mod keys;
pub(crate) mod mark;
pub(crate) mod pack;
pub(crate) mod parity;
pub(crate) mod phone_cipher;
pub(crate) mod record;
pub(crate) mod seal;
pub(crate) mod tree;
