//! Poor disks: what FAT does not allow, what a share forgets, and what cannot be read.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use heirloom_store::{MemoryStorage, Storage};

use super::{Files, noise};

const SECTOR_LEN: u64 = 4096;

/// A disk on which names that differ in case alone are one, nothing is renamed onto a name that exists, and files and folders have a
/// greatest size.
pub struct FatLike {
    disk: MemoryStorage,
    file_max_len: usize,
    folder_max_files: usize,
}

impl FatLike {
    pub fn new(file_max_len: usize, folder_max_files: usize) -> FatLike {
        FatLike { disk: MemoryStorage::default(), file_max_len, folder_max_files }
    }

    pub fn files(&self) -> Files {
        self.disk.files().clone()
    }

    /// The name that a file has, if it exists by any spelling.
    fn spelling(&self, name: &str) -> Option<String> {
        self.disk.files().keys().find(|existing| existing.eq_ignore_ascii_case(name)).cloned()
    }

    /// A file that is there in another spelling is there; one more must fit into its folder.
    fn create(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let (folder, _) = name.rsplit_once('/').unwrap_or(("", name));
        let in_folder = |other: &&String| other.rsplit_once('/').unwrap_or(("", other)).0.eq_ignore_ascii_case(folder);
        if content.len() > self.file_max_len {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.disk.files().keys().filter(in_folder).count() >= self.folder_max_files {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.disk.put(name, content)
    }
}

impl Storage for FatLike {
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        match self.spelling(name) {
            Some(existing) if self.disk.files()[&existing] == content => Ok(()),
            Some(existing) => {
                self.disk.delete(&existing)?;
                self.create(&existing, content)
            }
            None => self.create(name, content),
        }
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.disk.read(&self.spelling(name).ok_or(io::ErrorKind::NotFound)?, offset, len)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        self.disk.list(folder)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.spelling(name).map_or(Ok(()), |name| self.disk.delete(&name))
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A share that cannot sync, lists in any order, and now and then answers a change with an error, whether it has done it or not.
pub struct SmbLike(Mutex<Share>);

struct Share {
    disk: MemoryStorage,
    changes: usize,
    /// Every change of a number that this divides fails.
    fails_every: usize,
    /// When each file was written last.
    written: BTreeMap<String, usize>,
}

impl SmbLike {
    pub fn new(files: &Files, fails_every: usize) -> SmbLike {
        let disk = MemoryStorage::default();
        *disk.files() = files.clone();
        SmbLike(Mutex::new(Share { disk, changes: 0, fails_every, written: BTreeMap::new() }))
    }

    fn share(&self) -> MutexGuard<'_, Share> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many changes there were.
    pub fn changes(&self) -> usize {
        self.share().changes
    }

    /// The files after a cut: those written at change `from` or later have their names, and no bytes. Gives which those are.
    pub fn after_cut(&self, from: usize) -> (Files, BTreeSet<String>) {
        let share = self.share();
        let mut files = share.disk.files().clone();
        let is_late = |name: &String| share.written.get(name).is_some_and(|written| *written >= from);
        let emptied: BTreeSet<String> = files.keys().filter(|name| is_late(name)).cloned().collect();
        emptied.iter().for_each(|name| files.get_mut(name).expect("it was listed").clear());
        (files, emptied)
    }

    fn change(
        &self,
        written: &str,
        change: impl FnOnce(&MemoryStorage) -> io::Result<()>,
        failure: io::ErrorKind,
    ) -> io::Result<()> {
        let mut share = self.share();
        share.changes += 1;
        let number = share.changes;
        let fails = number.is_multiple_of(share.fails_every);
        if fails && (number / share.fails_every).is_multiple_of(2) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        change(&share.disk)?;
        share.written.insert(written.to_owned(), number);
        if fails { Err(failure.into()) } else { Ok(()) }
    }
}

impl Storage for SmbLike {
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        if self.share().disk.files().get(name).is_some_and(|existing| existing == content) {
            return Ok(());
        }
        self.change(name, |disk| disk.put(name, content), io::ErrorKind::Interrupted)
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.share().disk.read(name, offset, len)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let share = self.share();
        let mut list = share.disk.list(folder)?;
        let order = noise(share.changes as u64, list.len());
        for (at, byte) in order.into_iter().enumerate() {
            list.swap(at, usize::from(byte) % (at + 1));
        }
        Ok(list)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.change("", |disk| disk.delete(name), io::ErrorKind::Interrupted)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk on which a part of one file cannot be read, under whatever name, until it is written anew.
pub struct BadSectors {
    disk: MemoryStorage,
    file: Mutex<String>,
    bad: Range<u64>,
    /// What the system says of it.
    error: fn() -> io::Error,
}

impl BadSectors {
    /// One bad sector in the middle of a file.
    pub fn new(files: &Files, file: &str) -> BadSectors {
        let begin = files[file].len() as u64 / 2 / SECTOR_LEN * SECTOR_LEN;
        // EIO, or ERROR_CRC.
        let error = || io::Error::from_raw_os_error(if cfg!(windows) { 23 } else { 5 });
        BadSectors::that(error, files, file, begin..begin + SECTOR_LEN)
    }

    /// All of a file, and the system does not say why.
    pub fn unexplained(files: &Files, file: &str) -> BadSectors {
        BadSectors::that(|| io::Error::other("it did not work"), files, file, 0..u64::MAX)
    }

    fn that(error: fn() -> io::Error, files: &Files, file: &str, bad: Range<u64>) -> BadSectors {
        let disk = MemoryStorage::default();
        *disk.files() = files.clone();
        BadSectors { disk, file: Mutex::new(file.to_owned()), bad, error }
    }

    /// What it holds.
    pub fn files(&self) -> Files {
        self.disk.files().clone()
    }

    /// Returns what it can be made to give: zeros stand for what cannot be read.
    pub fn salvaged(&self) -> Files {
        let mut files = self.files();
        if let Some(bytes) = files.get_mut(&*self.file.lock().unwrap()) {
            let end = (bytes.len() as u64).min(self.bad.end);
            bytes[self.bad.start as usize..end as usize].fill(0);
        }
        files
    }
}

impl Storage for BadSectors {
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.disk.put(name, content)?;
        let mut file = self.file.lock().unwrap();
        if *file == name {
            file.clear();
        }
        Ok(())
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let is_bad =
            *self.file.lock().unwrap() == name && offset < self.bad.end && self.bad.start < offset + len as u64;
        if is_bad { Err((self.error)()) } else { self.disk.read(name, offset, len) }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        self.disk.list(folder)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.disk.delete(name)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
