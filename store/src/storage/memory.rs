//! A storage in memory, for tests and measurements.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Storage;

/// Files in a map. Nothing outlives it.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Counts reads.
    #[cfg(test)]
    pub(crate) reads: std::sync::atomic::AtomicU64,
}

impl MemoryStorage {
    /// The files, to look at and to damage.
    pub fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.files().insert(name.to_owned(), content.to_vec());
        Ok(())
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        #[cfg(test)]
        self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let files = self.files();
        let bytes = files.get(name).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Ok(bytes[start..bytes.len().min(start.saturating_add(len))].to_vec())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let below = |name: &String| name.strip_prefix(&prefix).map(str::to_owned);
        Ok(self.files().iter().filter_map(|(name, bytes)| Some((below(name)?, bytes.len() as u64))).collect())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.files().remove(name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
