//! `quarantine/`: where what is suspect goes, under the path that it had.

use std::collections::BTreeSet;

use super::Repair;
use crate::{
    error::{Error, Result},
    id::FileHash,
    storage::{Storage, is_bad_sector, layout::QUARANTINE_FOLDER},
};

/// No file is longer that is read here.
const FILE_MAX_LEN: usize = (1 << 31) - 1;
/// The bytes that drives read, or fail to read, at once.
const SECTOR_LEN: usize = 4096;

/// What lies there.
pub(super) struct Aside {
    names: BTreeSet<String>,
}

impl Aside {
    pub(super) fn list(storage: &dyn Storage) -> Result<Aside> {
        let names = storage.list_folder(QUARANTINE_FOLDER)?.into_iter().map(|(name, _)| name).collect();
        Ok(Aside { names })
    }

    /// What lies there of a file, which may have been moved there more than once.
    pub(super) fn of(&self, file: &str) -> Vec<String> {
        let is_of = |name: &&String| {
            let suffix = name.strip_prefix(file);
            suffix.is_some_and(|suffix| suffix.is_empty() || suffix.starts_with('.'))
        };
        self.names.iter().filter(is_of).map(|name| format!("{QUARANTINE_FOLDER}/{name}")).collect()
    }

    /// A name that nothing has there.
    fn take_name(&mut self, file: &str) -> String {
        let names = std::iter::once(file.to_owned()).chain((1..).map(|number| format!("{file}.{number}")));
        let name = names.into_iter().find(|name| !self.names.contains(name)).expect("there are endlessly many");
        self.names.insert(name.clone());
        format!("{QUARANTINE_FOLDER}/{name}")
    }
}

impl Repair<'_> {
    /// Where a file may lie, whole or in part.
    pub(super) fn remains(&self, file: &str) -> Vec<String> {
        std::iter::once(file.to_owned()).chain(self.aside.of(file)).collect()
    }

    /// Moves a file aside: copies it there, durably, and then deletes it. Gives false if there is none.
    pub(super) fn set_aside(&mut self, file: &str) -> Result<bool> {
        let Some(bytes) = self.read_what_is_left(file)? else { return Ok(false) };
        if !self.is_aside(file, &bytes) {
            let aside = self.aside.take_name(file);
            self.core.with_reserve(|| self.storage.put_file(&aside, &bytes))?;
            self.storage.sync_all()?;
        }
        self.storage.delete_file(file)?;
        Ok(true)
    }

    /// Reads a file as far as it can be read, with zeros for bad sectors; nothing if there is no such file.
    fn read_what_is_left(&self, file: &str) -> Result<Option<Vec<u8>>> {
        match self.storage.read(file, 0, FILE_MAX_LEN) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) if is_bad_sector(&error) => self.read_by_sectors(file),
            Err(source) => Err(Error::Storage { action: "move aside", name: file.to_owned(), source }),
        }
    }

    fn read_by_sectors(&self, file: &str) -> Result<Option<Vec<u8>>> {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        let listed = self.storage.list_folder(folder)?.into_iter().find(|(listed, _)| listed == name);
        let Some((_, len)) = listed else { return Ok(None) };
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(FILE_MAX_LEN).min(FILE_MAX_LEN)];
        for (number, sector) in bytes.chunks_mut(SECTOR_LEN).enumerate() {
            let read = self.storage.read(file, (number * SECTOR_LEN) as u64, sector.len());
            if let Some(read) = read.ok().filter(|read| read.len() == sector.len()) {
                sector.copy_from_slice(&read);
            }
        }
        Ok(Some(bytes))
    }

    /// Puts `bytes` in the place of a file that is damaged or missing. What was there is aside before that, so that nothing is worse if this is cut off.
    pub(super) fn replace(&mut self, file: &str, bytes: &[u8]) -> Result<()> {
        match self.storage.read(file, 0, FILE_MAX_LEN) {
            Ok(damaged) if self.is_aside(file, &damaged) => {}
            Ok(damaged) => self.storage.put_file(&self.aside.take_name(file), &damaged)?,
            // Of what cannot be read no copy can be made.
            Err(_) => drop(self.set_aside(file)?),
        }
        self.storage.put_file(file, bytes)
    }

    /// Whether there is a copy aside: a repair that was cut off has made one.
    fn is_aside(&self, file: &str, bytes: &[u8]) -> bool {
        let copy = |aside: &String| self.storage.read(aside, 0, bytes.len() + 1);
        self.aside.of(file).iter().any(|aside| copy(aside).is_ok_and(|copy| copy == bytes))
    }
}

/// The bytes of a file, if it has its name.
pub(super) fn read_whole(storage: &dyn Storage, file: &str, name: &FileHash) -> Option<Vec<u8>> {
    storage.read(file, 0, FILE_MAX_LEN).ok().filter(|bytes| FileHash::of(bytes) == *name)
}

/// Whether the `len` bytes of a file are what its name says. Memory or a cable may err: what is not is read again, from the medium.
///
/// # Errors
/// Any failure of the storage.
pub(super) fn has_name(storage: &dyn Storage, file: &str, len: u64, name: &FileHash) -> Result<bool> {
    for hash in [<dyn Storage>::hash, <dyn Storage>::hash_anew] {
        match hash(storage, file, len) {
            Ok(found) if found == *name => return Ok(true),
            Ok(_) => {}
            Err(error) if error.is_damage() || error.is_missing_file() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
