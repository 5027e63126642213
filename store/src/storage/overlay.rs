//! A storage on which changes are tried: reads find them, and the storage below is as it was.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::Storage;
use crate::storage::positioned;

/// What was written lies in a file without a name.
pub(crate) struct OverlayStorage {
    below: Arc<dyn Storage>,
    state: Mutex<State>,
}

struct State {
    /// The files that are other than below.
    changed: BTreeMap<String, Place>,
    written: File,
    end: u64,
}

/// Where a file lies that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Written { offset: u64, len: u64 },
}

impl OverlayStorage {
    pub(crate) fn new(below: Arc<dyn Storage>) -> io::Result<OverlayStorage> {
        let written = tempfile::tempfile()?;
        Ok(OverlayStorage { below, state: Mutex::new(State { changed: BTreeMap::new(), written, end: 0 }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a file lies, if not below.
    fn place(&self, name: &str) -> Option<Place> {
        self.state().changed.get(name).copied()
    }
}

impl Storage for OverlayStorage {
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let offset = state.end;
        state.written.seek(SeekFrom::Start(offset))?;
        state.written.write_all(content)?;
        state.end += content.len() as u64;
        state.changed.insert(name.to_owned(), Place::Written { offset, len: content.len() as u64 });
        Ok(())
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        match self.place(name) {
            None => self.below.read(name, offset, len),
            Some(Place::Nowhere) => Err(io::ErrorKind::NotFound.into()),
            Some(Place::Written { offset: start, len: whole }) => {
                let offset = offset.min(whole);
                let mut bytes = vec![0; (len as u64).min(whole - offset) as usize];
                positioned::read_exact_at(&self.state().written, &mut bytes, start + offset)?;
                Ok(bytes)
            }
        }
    }

    fn read_anew(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        match self.place(name) {
            None => self.below.read_anew(name, offset, len),
            Some(_) => self.read(name, offset, len),
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let mut files: BTreeMap<String, u64> = self.below.list(folder)?.into_iter().collect();
        let changed = self.state().changed.clone();
        for (name, place) in changed.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix)) {
            let name = name[prefix.len()..].to_owned();
            match place {
                Place::Nowhere => files.remove(&name),
                Place::Written { len, .. } => files.insert(name, *len),
            };
        }
        Ok(files.into_iter().collect())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.state().changed.insert(name.to_owned(), Place::Nowhere);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn place(&self) -> String {
        self.below.place()
    }

    fn listing_delay(&self) -> Duration {
        self.below.listing_delay()
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        self.below.free_bytes()
    }
}
