//! Files that are named by the hash of their bytes.

use std::collections::HashMap;

use super::Storage;
use crate::{
    error::{Error, Result},
    id::FileHash,
};

/// The fault of a file whose bytes are not those that it is named by.
pub(crate) const NAME_MISMATCH: &str = "its bytes do not match its name";

/// A file that is named by its hash, as it lies there.
pub(crate) fn read_named_bytes(storage: &dyn Storage, file: &str, name: &FileHash, len: u64) -> Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(|_| Error::damaged(file, "it is too long"))?;
    let bytes = storage.read_exactly(file, 0, len)?;
    if FileHash::of(&bytes) != *name {
        return Err(Error::damaged(file, NAME_MISMATCH));
    }
    Ok(bytes)
}

/// The files of a folder that lie in folders of the first two digits of their names, with their lengths.
pub(crate) fn list_by_digits(storage: &dyn Storage, folder: &str) -> Result<HashMap<FileHash, u64>> {
    let named = |(name, len): (String, u64)| {
        let (folder, digits) = name.split_once('/')?;
        let hash = FileHash::from_hex(digits)?;
        (folder == &digits[..2]).then_some((hash, len))
    };
    Ok(storage.list_folder(folder)?.into_iter().filter_map(named).collect())
}
