//! Copies of snapshots' files in the cache folder, all in one file, so that the list of ten thousand is one read.
//!
//! They are what the repository holds, sealed as there, and nothing of them is believed: a copy counts if it has its name. That a file has been
//! damaged since it was copied is for a check to notice, which reads no copies.

use std::{
    collections::HashMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use crate::{
    bytes::Cursor,
    error::Result,
    id::{FileHash, SnapshotId},
    private,
};

const FILE: &str = "snapshots";
/// Of a record that is longer, no copy is kept: it is read each time. What heirloom writes is a few kilobytes long.
const COPY_MAX_LEN: u64 = 64 << 10;
/// All copies together, which are in memory at once.
const COPIES_MAX_LEN: usize = 128 << 20;

/// The copies as they were, and as they will be: of what was asked for.
#[derive(Default)]
pub(crate) struct Copies {
    path: Option<PathBuf>,
    old: Vec<u8>,
    /// Where in `old` each lies.
    known: HashMap<SnapshotId, Range<usize>>,
    new: Vec<u8>,
    is_changed: bool,
}

impl Copies {
    /// Knows nothing and keeps nothing.
    pub(crate) fn none() -> Copies {
        Copies::default()
    }

    /// Those in the folder `cache`, if there is one.
    pub(crate) fn open(cache: Option<&Path>) -> Copies {
        let path = cache.map(|cache| cache.join(FILE));
        let old = path.as_ref().and_then(|path| fs::read(path).ok()).unwrap_or_default();
        let mut known = HashMap::new();
        let mut cursor = Cursor(&old);
        // Each is its name, its length in four bytes, and its bytes.
        while let (Ok(id), Ok(len)) = (cursor.array(), cursor.u32())
            && let Ok(bytes) = cursor.take(len as usize)
        {
            let end = old.len() - cursor.0.len();
            known.insert(FileHash(id), end - bytes.len()..end);
        }
        Copies { path, old, known, new: Vec::new(), is_changed: false }
    }

    /// The file `id`, which is `len` bytes long: its copy, or what `read` gives, which has been found to have its name.
    pub(crate) fn get_or(
        &mut self,
        id: &SnapshotId,
        len: u64,
        read: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let is_kept = len <= COPY_MAX_LEN && self.new.len() < COPIES_MAX_LEN;
        let copy = self.known.get(id).map(|range| &self.old[range.clone()]);
        let bytes = match copy.filter(|copy| copy.len() as u64 == len && FileHash::of(copy) == *id) {
            Some(copy) => copy.to_vec(),
            None => {
                let bytes = read()?;
                self.is_changed |= is_kept;
                bytes
            }
        };
        if self.path.is_some() && is_kept {
            self.new.extend_from_slice(id.as_bytes());
            self.new.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            self.new.extend_from_slice(&bytes);
        }
        Ok(bytes)
    }

    /// Keeps what was asked for, if anything of it was not there. A failure means only that it is read again.
    pub(crate) fn save(&self) {
        let Some(path) = self.path.as_ref().filter(|_| self.is_changed) else { return };
        // Another process may write the same copies at this moment.
        let temporary = path.with_extension(std::process::id().to_string());
        let _ = path.parent().map_or(Ok(()), private::create_folder);
        let _ = private::write(&temporary, &self.new).and_then(|()| fs::rename(&temporary, path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn lost() -> Result<Vec<u8>> {
        Err(Error::Failed("it was read".into()))
    }

    #[test]
    fn a_copy_serves_while_it_has_its_name_and_length() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        let files: Vec<Vec<u8>> = (1..9u8).map(|n| vec![n; 100 * usize::from(n)]).collect();
        let mut copies = Copies::open(Some(&cache));
        for file in &files {
            assert_eq!(copies.get_or(&FileHash::of(file), file.len() as u64, || Ok(file.clone())).unwrap(), *file);
        }
        copies.save();
        let whole = fs::read(cache.join(FILE)).unwrap();
        let found = |copies: &mut Copies| {
            let get = |file: &&Vec<u8>| copies.get_or(&FileHash::of(file), file.len() as u64, lost).is_ok();
            files.iter().filter(get).count()
        };
        assert_eq!(found(&mut Copies::open(Some(&cache))), 8);
        assert_eq!(found(&mut Copies::none()), 0);
        assert!(Copies::open(Some(&cache)).get_or(&FileHash::of(&files[0]), 99, lost).is_err());
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x80;
            fs::write(cache.join(FILE), &damaged).unwrap();
            let mut copies = Copies::open(Some(&cache));
            assert!(found(&mut copies) < 8);
            fs::write(cache.join(FILE), &whole[..at]).unwrap();
            assert!(found(&mut Copies::open(Some(&cache))) < 8);
        }
    }

    #[test]
    fn long_records_are_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        for (len, is_kept) in [(COPY_MAX_LEN, true), (COPY_MAX_LEN + 1, false)] {
            let file = vec![7; len as usize];
            let mut copies = Copies::open(Some(dir.path()));
            copies.get_or(&FileHash::of(&file), len, || Ok(file.clone())).unwrap();
            assert_eq!(copies.is_changed, is_kept);
            copies.save();
            let mut copies = Copies::open(Some(dir.path()));
            assert_eq!(copies.get_or(&FileHash::of(&file), len, lost).is_ok(), is_kept);
        }
    }

    #[test]
    fn what_was_not_asked_for_goes_when_something_comes() {
        let dir = tempfile::tempdir().unwrap();
        let get = |copies: &mut Copies, n: u8| {
            copies.get_or(&FileHash::of(&[n]), 1, || Ok(vec![n])).unwrap();
        };
        let known = || Copies::open(Some(dir.path())).known.len();
        for (asked, kept) in [(vec![1, 2], 2), (vec![2], 2), (vec![2, 3], 2), (vec![1, 2, 3], 3)] {
            let mut copies = Copies::open(Some(dir.path()));
            asked.iter().for_each(|&n| get(&mut copies, n));
            copies.save();
            assert_eq!(known(), kept, "{asked:?}");
        }
    }
}
