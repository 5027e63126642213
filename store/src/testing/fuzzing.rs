//! The parsers, for the fuzzer. Exists only under `--cfg fuzzing`.

use crate::{
    bytes::Cursor,
    format::{chunk_list, codec, config, entry::Entry, keys, pack::Directory, record::SnapshotRecord, tree::Node},
    id::FileHash,
    index::parse_contents,
    name::Name,
};

/// Gives `bytes` to one of the parsers.
pub fn parse(which: u8, bytes: &[u8]) {
    match which % 10 {
        0 => drop(Directory::parse(bytes, bytes.len() as u64)),
        1 => drop(Node::parse(bytes.to_vec())),
        2 => {
            if let Ok(entry) = Entry::parse(bytes) {
                assert_eq!(Entry::parse(&entry.emit()).as_ref(), Ok(&entry));
            }
        }
        3 => drop(chunk_list::parse_list(bytes)),
        4 => parse_contents(FileHash::of(b""), bytes.to_vec()),
        5 => drop(SnapshotRecord::parse(bytes, "snapshot")),
        6 => drop(config::checked_line(bytes, "config").map(|line| config::Config::parse(line, "config"))),
        7 => {
            drop(std::str::from_utf8(bytes).map(|line| (config::Config::parse(line, "config"), keys::parse_slot(line))))
        }
        8 => drop(Name::from_key(bytes)),
        _ => {
            let _ = (codec::decode_zstd(bytes, bytes.len() * 4), codec::decode_delta(bytes, b"base", bytes.len() * 4));
            let _ = (Cursor(bytes).varint(), Cursor(bytes).bytes());
        }
    }
}
