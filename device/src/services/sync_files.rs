//! What a backup or a restore does through AFC: it holds the lock by which computers and apps take turns, and leaves
//! files for the phone to find.

use super::afc::{Afc, Handle, Lock, Mode};
use crate::{Result, mobilebackup2::DeviceFiles};

const LOCK_FILE: &str = "/com.apple.itunes.lock_sync";

/// AFC for one backup or restore.
pub struct SyncFiles {
    afc: Afc,
    lock_file: Option<Handle>,
}

impl SyncFiles {
    /// Over a connection that nothing else uses meanwhile.
    pub fn new(afc: Afc) -> Self {
        SyncFiles { afc, lock_file: None }
    }

    /// The connection.
    pub fn afc(&mut self) -> &mut Afc {
        &mut self.afc
    }
}

impl DeviceFiles for SyncFiles {
    fn try_lock(&mut self) -> Result<bool> {
        let file = match self.lock_file {
            Some(file) => file,
            None => *self.lock_file.insert(self.afc.open(LOCK_FILE, Mode::ReadWrite)?),
        };
        self.afc.lock(file, Lock::Exclusive)
    }

    fn unlock(&mut self) -> Result<()> {
        let Some(file) = self.lock_file.take() else { return Ok(()) };
        let unlocked = self.afc.lock(file, Lock::Unlock).map(drop);
        let closed = self.afc.close(file);
        unlocked.and(closed)
    }

    fn write(&mut self, path: &str, content: &[u8]) -> Result<()> {
        if let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            self.afc.make_directory(parent)?;
        }
        self.afc.write_file(path, content)
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        self.afc.remove(path)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::Script, *};

    /// Packets as AFC frames them.
    fn packet(number: u64, operation: u64, word: u64) -> Vec<u8> {
        [b"CFA6LPAA", &[48, 48, number, operation, word].map(u64::to_le_bytes).concat()[..]].concat()
    }

    /// The operations that were asked for.
    fn operations(mut heard: &[u8]) -> Vec<u64> {
        let word = |at: usize, bytes: &[u8]| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
        let mut operations = Vec::new();
        while !heard.is_empty() {
            operations.push(word(32, heard));
            heard = &heard[word(8, heard) as usize..];
        }
        operations
    }

    #[test]
    fn the_lock_is_tried_on_one_open_file_and_given_back() {
        let says = [packet(1, 0x0e, 3), packet(2, 1, 19), packet(3, 1, 0), packet(4, 1, 0), packet(5, 1, 0)];
        let (stream, heard) = Script::bytes(says.concat());
        let mut files = SyncFiles::new(Afc::new(stream));
        assert!(!files.try_lock().unwrap());
        assert!(files.try_lock().unwrap());
        files.unlock().unwrap();
        files.unlock().unwrap();
        assert_eq!(operations(&heard.lock().unwrap()), [0x0d, 0x1b, 0x1b, 0x1b, 0x14]);
    }

    #[test]
    fn files_are_written_with_their_parents() {
        let says = [packet(1, 1, 0), packet(2, 0x0e, 3), packet(3, 1, 0), packet(4, 1, 0)];
        let (stream, heard) = Script::bytes(says.concat());
        SyncFiles::new(Afc::new(stream)).write("/iTunesRestore/a.plist", b"x").unwrap();
        assert_eq!(operations(&heard.lock().unwrap()), [0x09, 0x0d, 0x10, 0x14]);
    }
}
