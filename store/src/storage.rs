//! The boundary to the disk: a few operations that every disk, share and bucket has (SPEC §2).
//!
//! A name is a relative path with `/` between its parts, made by this library alone. What a test wants a disk to do wrong, it
//! does in an implementation of [`Storage`].

use std::{collections::BTreeSet, io, time::Duration};

pub(crate) mod layout;
mod local;
mod local_disk;
mod memory;
pub(crate) mod named;
mod overlay;
pub(crate) mod positioned;
mod trial;

pub use local::LocalStorage;
pub use memory::MemoryStorage;
pub(crate) use overlay::OverlayStorage;
pub use trial::{Finding, Fitness, try_out};

use crate::{
    error::{Error, Result},
    id::FileHash,
    storage::layout::{CONFIG_FILE, KEYS_FOLDER},
};

/// Files and folders that systems keep at the root of a disk, in upper case, beside those hidden behind a dot and in
/// `FOUND.000`.
const OF_SYSTEMS: [&str; 18] = [
    "LOST+FOUND",
    "SYSTEM VOLUME INFORMATION",
    "$RECYCLE.BIN",
    "RECYCLER",
    "RECYCLED",
    "LOST.DIR",
    "NETWORK TRASH FOLDER",
    "TEMPORARY ITEMS",
    "@EADIR",
    "@RECYCLE",
    "@RECENTLY-SNAPSHOT",
    "#RECYCLE",
    "#SNAPSHOT",
    "DESKTOP.INI",
    "THUMBS.DB",
    "AUTORUN.INF",
    "AQUOTA.USER",
    "AQUOTA.GROUP",
];

/// Whether a file or folder of this name is one of the system's. None of ours is.
pub(crate) fn is_of_system(name: &str) -> bool {
    let name = name.to_uppercase();
    name.starts_with('.') || name.starts_with("FOUND.") || OF_SYSTEMS.contains(&&*name)
}

/// Longer than any client keeps a listing that we know of: those of NFS and macOS do for 60 seconds, Windows for 10.
pub(crate) const LATE_LISTING: Duration = Duration::from_secs(61);

/// Where a repository's files lie.
pub trait Storage: Send + Sync {
    /// Writes a whole file, so that it exists under `name` with its content on the disk, or not at all. Its existence is
    /// durable after the next [`sync`](Storage::sync). A file of the same name is left if it is equal and replaced if not.
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()>;

    /// Reads `len` bytes from `offset`; fewer where the file ends before. `NotFound` if there is no such file.
    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>>;

    /// The same from the medium itself, past what the system remembers of it, where that can be asked for. For one who does not believe
    /// what [`read`](Storage::read) gave; what is remembered is then what this gave.
    fn read_anew(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.read(name, offset, len)
    }

    /// All files below `folder`, with their lengths, in no order; names are relative to `folder`. A missing folder is empty;
    /// that of the name `""` is the whole place, of which files more than three folders deep may be left out, and so may what the
    /// system keeps at the root of a disk.
    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>>;

    /// Deletes a file; one that is not there is deleted already.
    fn delete(&self, name: &str) -> io::Result<()>;

    /// Makes every earlier `put` and `delete` durable.
    fn sync(&self) -> io::Result<()>;

    /// Returns a text that tells this place from others that hold a copy of the same files, as far as this computer can
    /// tell.
    fn place(&self) -> String {
        String::new()
    }

    /// How late a listing may show what others have created or deleted; zero where it shows at once what is there.
    fn listing_delay(&self) -> Duration {
        Duration::ZERO
    }

    /// Lets time pass, at least this much, while others work. A storage of a test has a time of its own.
    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// How many bytes there is room for, if that can be told.
    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// A file without a name for what must not outlive this process, near the repository if there is a near.
    fn spool(&self) -> io::Result<std::fs::File> {
        tempfile::tempfile()
    }
}

/// The same operations with errors that name the file, and reads that are whole or fail.
impl dyn Storage + '_ {
    pub(crate) fn put_file(&self, name: &str, content: &[u8]) -> Result<()> {
        self.put(name, content).map_err(storage_error("write", name))
    }

    /// Exactly `len` bytes from `offset`.
    pub(crate) fn read_exactly(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.exactly(self.read(name, offset, len), name, offset, len)
    }

    /// The same by [`read_anew`](Storage::read_anew).
    pub(crate) fn read_exactly_anew(&self, name: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.exactly(self.read_anew(name, offset, len), name, offset, len)
    }

    /// The files of a folder that are named by a hash, with their lengths. No other is one of ours.
    pub(crate) fn list_named(&self, folder: &str) -> Result<Vec<(FileHash, u64)>> {
        let listed = self.list_folder(folder)?.into_iter();
        Ok(listed.filter_map(|(name, len)| Some((FileHash::from_hex(&name)?, len))).collect())
    }

    /// The names of these files.
    pub(crate) fn names_in(&self, folder: &str) -> Result<BTreeSet<FileHash>> {
        Ok(self.list_named(folder)?.into_iter().map(|(name, _)| name).collect())
    }

    /// Whether there is a file of this name.
    pub(crate) fn has_file(&self, name: &str) -> Result<bool> {
        match self.read_exactly(name, 0, 0) {
            Ok(_) => Ok(true),
            Err(error) if error.is_missing_file() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The whole file, if it is at most `limit` bytes long.
    pub(crate) fn read_whole(&self, name: &str, limit: usize) -> Result<Vec<u8>> {
        let bytes = self.read(name, 0, limit + 1).map_err(|source| self.unread(name, source))?;
        if bytes.len() > limit {
            Err(Error::damaged(name, format!("it is longer than {limit} bytes")))
        } else {
            Ok(bytes)
        }
    }

    /// The name that the first `len` bytes of a file have.
    pub(crate) fn hash(&self, name: &str, len: u64) -> Result<FileHash> {
        hash_of(len, |offset, len| self.read_exactly(name, offset, len))
    }

    /// The same by [`read_anew`](Storage::read_anew).
    pub(crate) fn hash_anew(&self, name: &str, len: u64) -> Result<FileHash> {
        hash_of(len, |offset, len| self.read_exactly_anew(name, offset, len))
    }

    pub(crate) fn list_folder(&self, folder: &str) -> Result<Vec<(String, u64)>> {
        self.list(folder).map_err(storage_error("list", if folder.is_empty() { "the folders" } else { folder }))
    }

    /// Sees that the next list of a folder is none that this computer remembers: where it has changed something itself it lists anew. That a list may
    /// be late all the same is what waiting is for, so it is no failure if this cannot be done.
    pub(crate) fn forget_listing(&self, folder: &str) {
        if self.listing_delay().is_zero() {
            return;
        }
        let Ok(number) = crate::bytes::random::<8>() else { return };
        let name = format!("{folder}/.look-{}", crate::id::encode_hex(&number));
        let _ = self.put(&name, b"look").and_then(|()| self.delete(&name));
    }

    pub(crate) fn delete_file(&self, name: &str) -> Result<()> {
        self.delete(name).map_err(storage_error("delete", name))
    }

    pub(crate) fn sync_all(&self) -> Result<()> {
        self.sync().map_err(storage_error("sync", "folders"))
    }

    pub(crate) fn free_space(&self) -> Result<Option<u64>> {
        self.free_bytes().map_err(storage_error("measure", "the free room"))
    }

    fn exactly(&self, read: io::Result<Vec<u8>>, name: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
        let bytes = read.map_err(|source| self.unread(name, source))?;
        if bytes.len() == len {
            return Ok(bytes);
        }
        Err(Error::damaged(name, format!("it ends at {}, before {}", offset + bytes.len() as u64, offset + len as u64)))
    }

    /// Why a file was not read. A bad sector is that file's misfortune, and damage; a disk that was unplugged is none of its files'.
    fn unread(&self, name: &str, source: io::Error) -> Error {
        if is_bad_sector(&source) && self.reads_another(name) {
            return Error::damaged(name, format!("the disk does not read it: {source}"));
        }
        storage_error("read", name)(source)
    }

    fn reads_another(&self, than: &str) -> bool {
        let is_read = |name: &str| self.read_anew(name, 0, 1).is_ok();
        if than != CONFIG_FILE {
            return is_read(CONFIG_FILE);
        }
        self.list(KEYS_FOLDER)
            .is_ok_and(|slots| slots.iter().any(|(slot, _)| is_read(&format!("{KEYS_FOLDER}/{slot}"))))
    }
}

/// What systems call a sector that cannot be read: EIO, or ERROR_CRC and ERROR_IO_DEVICE.
pub(crate) fn is_bad_sector(error: &io::Error) -> bool {
    let codes: &[i32] = if cfg!(windows) { &[23, 1117] } else { &[5] };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

fn hash_of(len: u64, read: impl Fn(u64, usize) -> Result<Vec<u8>>) -> Result<FileHash> {
    const PART_LEN: u64 = 4 << 20;
    let mut hasher = blake3::Hasher::new();
    for offset in (0..len).step_by(PART_LEN as usize) {
        hasher.update(&read(offset, PART_LEN.min(len - offset) as usize)?);
    }
    Ok(FileHash(*hasher.finalize().as_bytes()))
}

fn storage_error<'a>(action: &'static str, name: &'a str) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Storage { action, name: name.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every storage must do, run against each.
    pub(super) fn conforms(storage: &dyn Storage) {
        assert_eq!(storage.list("packs").unwrap(), []);
        assert_eq!(storage.read("config", 0, 9).unwrap_err().kind(), io::ErrorKind::NotFound);
        storage.put("config", b"one").unwrap();
        storage.put("config", b"one").unwrap();
        storage.put("packs/ab/abcd", b"0123456789").unwrap();
        storage.put("packs/cd/cdef", b"").unwrap();
        assert_eq!(storage.read("packs/ab/abcd", 3, 4).unwrap(), b"3456");
        assert_eq!(storage.read("packs/ab/abcd", 8, 10).unwrap(), b"89");
        assert_eq!(storage.read("packs/ab/abcd", 100, 10).unwrap(), b"");
        assert_eq!(storage.read_anew("packs/ab/abcd", 3, 4).unwrap(), b"3456");
        assert_eq!(storage.read_anew("packs/ab/none", 0, 4).unwrap_err().kind(), io::ErrorKind::NotFound);
        let mut listed = storage.list("packs").unwrap();
        listed.sort();
        assert_eq!(listed, [("ab/abcd".to_owned(), 10), ("cd/cdef".to_owned(), 0)]);
        let mut everything = storage.list("").unwrap();
        // A disk that fails leaves some there.
        everything.retain(|(name, _)| !name.starts_with("tmp/"));
        everything.sort();
        let expected = [("config", 3), ("packs/ab/abcd", 10), ("packs/cd/cdef", 0)];
        assert_eq!(everything, expected.map(|(name, len)| (name.to_owned(), len)));
        storage.put("packs/ab/abcd", b"other").unwrap();
        assert_eq!(storage.read("packs/ab/abcd", 0, 99).unwrap(), b"other");
        storage.sync().unwrap();
        storage.delete("packs/ab/abcd").unwrap();
        storage.delete("packs/ab/abcd").unwrap();
        assert_eq!(storage.list("packs").unwrap(), [("cd/cdef".to_owned(), 0)]);
        storage.sync().unwrap();
    }

    #[test]
    fn every_storage_conforms() {
        conforms(&MemoryStorage::default());
        let below = std::sync::Arc::new(MemoryStorage::default());
        conforms(&OverlayStorage::new(below.clone()).unwrap());
        assert!(below.files().is_empty(), "what is tried changes nothing");
        let dir = tempfile::tempdir().unwrap();
        conforms(&LocalStorage::new(dir.path()));
        assert_eq!(MemoryStorage::default().free_bytes().unwrap(), None);
        for missing in ["", "not/there/yet"] {
            assert!(LocalStorage::new(&dir.path().join(missing)).free_bytes().unwrap().is_some_and(|bytes| bytes > 0));
        }
        assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0, "nothing stays in tmp/");
    }
}
