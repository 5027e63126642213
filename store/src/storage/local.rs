//! A folder on a disk, share or stick.
//!
//! A file is written in `tmp/`, synced, and renamed. File systems differ in what they can promise, and answer accordingly:
//! an exFAT stick cannot sync a folder, an SMB share may not sync at all, and a retried rename may find its work done. Those answers are
//! ordinary. That a file exists proves nothing to the readers of a repository, which is what makes this safe.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Storage;
use crate::{bytes::random, id::encode_hex};

/// Packs lie two folders deep.
const LIST_MAX_DEPTH: usize = 3;

/// A repository in a folder.
#[derive(Debug)]
pub struct LocalStorage {
    root: PathBuf,
    /// Folders whose list of names changed since the last sync, or was read: what another process left there unsynced may be
    /// relied on from then on.
    unsynced: Mutex<BTreeSet<PathBuf>>,
}

impl LocalStorage {
    /// The storage at `root`, which is touched only when something is written.
    pub fn new(root: &Path) -> LocalStorage {
        LocalStorage { root: root.to_owned(), unsynced: Mutex::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn note_unsynced(&self, path: &Path) {
        self.lock_unsynced().insert(path.parent().unwrap_or(&self.root).to_owned());
    }

    fn lock_unsynced(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates `path`'s folder, and notes which folders then hold new names.
    fn create_parent(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        if parent.is_dir() {
            return Ok(());
        }
        for missing in parent.ancestors().take_while(|folder| !folder.is_dir()) {
            self.note_unsynced(missing);
        }
        fs::create_dir_all(parent)
    }

    /// Opens a file in `tmp/` whose name nobody else has.
    fn create_temporary(&self) -> io::Result<(File, PathBuf)> {
        let path = self.path("tmp").join(encode_hex(&random::<16>()?));
        self.create_parent(&path)?;
        let file = retry(|| File::create_new(&path))?;
        Ok((file, path))
    }

    fn list_into(&self, folder: &Path, prefix: &str, depth: usize, files: &mut Vec<(String, u64)>) -> io::Result<()> {
        let entries = match retry(|| fs::read_dir(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        self.lock_unsynced().insert(folder.to_owned());
        for entry in entries {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type()?;
            if kind.is_dir() && depth > 1 {
                self.list_into(&entry.path(), &format!("{prefix}{name}/"), depth - 1, files)?;
            } else if kind.is_file() {
                match entry.metadata() {
                    Ok(metadata) => files.push((format!("{prefix}{name}"), metadata.len())),
                    // Deleted by another process since it was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn holds(&self, path: &Path, content: &[u8]) -> io::Result<bool> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.len() == content.len() as u64 => Ok(fs::read(path)? == content),
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Storage for LocalStorage {
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        if self.holds(&path, content)? {
            return Ok(());
        }
        self.create_parent(&path)?;
        let (mut file, temporary) = self.create_temporary()?;
        let written = file.write_all(content).and_then(|()| tolerate_unsupported(file.sync_all())).and_then(|()| {
            drop(file);
            rename_into_place(&temporary, &path)
        });
        match written {
            Ok(()) => {
                self.note_unsynced(&path);
                Ok(())
            }
            // A share may report a failure of what it did.
            Err(_) if !temporary.exists() && self.holds(&path, content).unwrap_or(false) => {
                self.note_unsynced(&path);
                Ok(())
            }
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(error)
            }
        }
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        read_part(retry(|| File::open(self.path(name)))?, offset, len)
    }

    fn read_anew(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = retry(|| File::open(self.path(name)))?;
        forget_pages(&file);
        read_part(file, offset, len)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        self.list_into(&self.path(folder), "", LIST_MAX_DEPTH, &mut files)?;
        Ok(files)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        self.create_parent(&to)?;
        match retry(|| fs::rename(&from, &to)) {
            Err(_) if !from.exists() && to.exists() => {}
            other => other?,
        }
        self.note_unsynced(&from);
        self.note_unsynced(&to);
        Ok(())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        match retry(|| fs::remove_file(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.note_unsynced(&path);
                Ok(())
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut unsynced = self.lock_unsynced();
        while let Some(folder) = unsynced.first() {
            sync_folder(folder)?;
            unsynced.pop_first();
        }
        Ok(())
    }

    /// Of the file system, as much as this user may take.
    fn spool(&self) -> io::Result<File> {
        let folder = self.path("tmp");
        fs::create_dir_all(&folder)?;
        tempfile::tempfile_in(folder)
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        let root = std::path::absolute(&self.root)?;
        let existing = root.ancestors().find(|folder| folder.is_dir()).unwrap_or(&root);
        retry(|| fs4::available_space(existing)).map(Some)
    }
}

fn read_part(mut file: File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let available = file.metadata()?.len().saturating_sub(offset);
    file.seek(SeekFrom::Start(offset))?;
    let len = (len as u64).min(available);
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Asks the system to forget what it holds of a file in memory. It may not listen.
#[cfg(target_os = "linux")]
fn forget_pages(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
fn forget_pages(_file: &File) {}

fn rename_into_place(temporary: &Path, path: &Path) -> io::Result<()> {
    match retry(|| fs::rename(temporary, path)) {
        // Some shares do not rename onto a name that exists. What is there is not what the name promises: `put` compared.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            retry(|| fs::rename(temporary, path))
        }
        other => other,
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    match retry(|| File::open(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(folder) => tolerate_unsupported(folder.sync_all()),
    }
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// A file system that cannot sync says so in one of several ways; there is nothing that could be done instead.
fn tolerate_unsupported(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => Ok(()),
        other => other,
    }
}

/// Calls again what a signal interrupted.
fn retry<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
