//! The reserve: room that the repository keeps, to be given up where a full disk would stop what frees room (SPEC §11).

use crate::{
    error::{Error, Result},
    repository::core::Core,
    storage::layout::{INDEX_FOLDER, RESERVE_FILE},
};

const RESERVE_MIN_LEN: u64 = 256 << 10;
const RESERVE_MAX_LEN: u64 = 64 << 20;

impl Core {
    /// Does `work`, and where the disk is full does it again without the reserve.
    pub(crate) fn with_reserve<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        match work() {
            Err(error) if error.is_full() => {
                self.give_up_reserve()?;
                work()
            }
            other => other,
        }
    }

    /// Makes room of the reserve; tells whether there was one.
    pub(crate) fn give_up_reserve(&self) -> Result<bool> {
        let is_there = self.storage.has_file(RESERVE_FILE).unwrap_or(false);
        self.storage.delete_file(RESERVE_FILE)?;
        Ok(is_there)
    }

    /// Sees that there is a reserve for the index written anew, twice. Without room there is none.
    pub(crate) fn keep_reserve(&self) -> Result<()> {
        let index_len: u64 = self.storage.list_folder(INDEX_FOLDER)?.iter().map(|(_, len)| len).sum();
        let len = (2 * index_len).next_power_of_two().clamp(RESERVE_MIN_LEN, RESERVE_MAX_LEN);
        let is_there = self.storage.read(RESERVE_FILE, len - 1, 1).is_ok_and(|last| !last.is_empty());
        if is_there {
            return Ok(());
        }
        // What compresses would be no room.
        let mut bytes = vec![0; len as usize];
        let seed = crate::bytes::random::<32>().map_err(Error::Random)?;
        blake3::Hasher::new_keyed(&seed).finalize_xof().fill(&mut bytes);
        self.storage.put_file(RESERVE_FILE, &bytes)
    }
}
