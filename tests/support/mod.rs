//! What the tests of the store share.

pub mod beside;
pub mod disks;
pub mod faulty_storage;
pub mod folder;
pub mod history;
pub mod phone;
pub mod program;
pub mod repositories;

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use heirloom_store::{
    CheckReport, Depth, Details, Entry, Kind, MemoryStorage, Name, Progress, Repository, Snapshot, Source, TreePath,
    check,
};

/// A repository's files, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A place that is known to be one.
pub fn place(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

/// `len` bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x0123_4567_89ab_cdef;
    let mut word = || {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mut bytes: Vec<u8> = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(word().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A storage that holds `files`.
pub fn storage_of(files: &Files) -> Arc<MemoryStorage> {
    let storage = MemoryStorage::default();
    *storage.files() = files.clone();
    Arc::new(storage)
}

/// Whether a file of a repository is a pack, of data or of trees.
pub fn is_pack(file: &str) -> bool {
    file.starts_with("packs/") || file.starts_with("trees/")
}

/// What the packs among `files` take.
pub fn pack_bytes(files: &Files) -> u64 {
    files.iter().filter(|(name, _)| is_pack(name)).map(|(_, bytes)| bytes.len() as u64).sum()
}

/// A check that nobody interrupts.
pub fn check_all(repository: &Repository, depth: Depth) -> heirloom_store::Result<CheckReport> {
    check(repository, depth, &go_on)
}

/// Wants to hear of nothing.
pub fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Makes a snapshot of another device, of time 3.
pub fn make_small(repository: &Repository) -> heirloom_store::Result<Snapshot> {
    let mut writer = repository.write("another")?;
    let name = Name::new("HomeDomain", "small")?;
    let content = Some(writer.store(Some(&name), &mut b"small".as_slice())?);
    writer.put(&name, &Entry { content, ..Entry::new(Kind::File) })?;
    Ok(writer.commit(Details::new(3, Source::Import))?.0)
}
