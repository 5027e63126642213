//! Prune marks: packs that are about to be deleted, told before they are (SPEC §11).
//!
//! A pack that was ever in a mark is never relied on again: what is still needed of it is written anew. So it does no harm if a pack is
//! deleted late, or by one who does not know what has happened since.

use std::collections::BTreeSet;

use crate::{
    error::{Error, Problem, Result},
    format::seal::{FileKind, Sealer, read_named},
    id::FileHash,
    storage::{Storage, layout::MARKS_FOLDER},
};

/// A million packs.
const MARK_MAX_LEN: u64 = 33 << 20;
const NAME_LEN: usize = 32;

/// Packs that will be deleted when nobody relies on them any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) name: FileHash,
    pub(crate) packs: Vec<FileHash>,
}

impl Mark {
    /// Writes a mark. It counts when it is durable.
    pub(crate) fn write(storage: &dyn Storage, sealer: &Sealer, packs: &BTreeSet<FileHash>) -> Result<Mark> {
        let payload: Vec<u8> = packs.iter().flat_map(|pack| *pack.as_bytes()).collect();
        let bytes = sealer.seal_payload(FileKind::Mark, &payload)?;
        let name = FileHash::of(&bytes);
        storage.put_file(&file(&name), &bytes)?;
        Ok(Mark { name, packs: packs.iter().copied().collect() })
    }

    fn read(storage: &dyn Storage, sealer: &Sealer, name: FileHash, len: u64) -> Result<Mark> {
        let file = file(&name);
        if len > MARK_MAX_LEN {
            return Err(Error::damaged(file, "it is too long"));
        }
        let payload = read_named(storage, sealer, FileKind::Mark, &file, &name, len)?;
        let (packs, rest) = payload.as_chunks::<NAME_LEN>();
        if !rest.is_empty() {
            return Err(Error::damaged(file, "it does not end after a name"));
        }
        Ok(Mark { name, packs: packs.iter().map(|&name| FileHash(name)).collect() })
    }
}

/// The repository's name for a mark.
pub(crate) fn file(name: &FileHash) -> String {
    format!("{MARKS_FOLDER}/{name}")
}

/// All marks, as they are now, where a list may be one that is remembered.
pub(crate) fn read_marks_now(storage: &dyn Storage, sealer: &Sealer) -> Result<Vec<Mark>> {
    storage.forget_listing(MARKS_FOLDER);
    Ok(read_marks(storage, sealer)?.0)
}

/// All marks. One that cannot be read binds nobody, and nobody acts on it.
pub(crate) fn read_marks(storage: &dyn Storage, sealer: &Sealer) -> Result<(Vec<Mark>, Vec<Problem>)> {
    let (mut marks, mut problems) = (Vec::new(), Vec::new());
    for (name, len) in storage.list_named(MARKS_FOLDER)? {
        match Mark::read(storage, sealer, name, len) {
            Ok(mark) => marks.push(mark),
            Err(error) if error.is_missing_file() => {}
            Err(error @ (Error::Unsupported { .. } | Error::Storage { .. })) => return Err(error),
            Err(error) => problems.push(Problem::from_error(&file(&name), error)),
        }
    }
    marks.sort_by_key(|mark| mark.name);
    Ok((marks, problems))
}
