//! Reading again what came out wrong, before a disk is accused: cables, memory and controllers err too, and then not twice alike.

use crate::{
    error::{Problem, Result},
    format::delta::DELTA_MAX_DEPTH,
    id::{ChunkId, FileHash},
    read::chunks::ChunkReader,
    storage::{Storage, named::NAME_MISMATCH},
};

/// What is wrong with what was right when it was read once more. The file itself is whole.
pub(super) const READ_DIFFERENTLY: &str =
    "it was read differently twice, and whole at last: a bad cable, memory or controller, not the file";

/// What the reads of a file that is named by its hash say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Whole,
    /// A later read was whole.
    ReadDifferently,
    /// Three reads gave the same bytes, which have another name.
    Broken,
    /// Three reads gave other bytes each, none of them whole.
    BrokenEachTime,
}

impl Verdict {
    /// Reads until `hash`, which is told whether to read anew, gives `name`: three times at most. If a file cannot be read to its end, that is damage.
    pub(super) fn of(name: &FileHash, mut hash: impl FnMut(bool) -> Result<FileHash>) -> Result<Verdict> {
        let mut reads = Vec::new();
        for anew in [false, true, true] {
            match hash(anew) {
                Ok(found) if found == *name => return Ok(if anew { Verdict::ReadDifferently } else { Verdict::Whole }),
                Err(error) if !error.is_damage() => return Err(error),
                read => reads.push(read),
            }
        }
        let hashes: Vec<FileHash> = reads.into_iter().collect::<Result<_>>()?;
        let is_same = hashes.iter().all(|hash| *hash == hashes[0]);
        Ok(if is_same { Verdict::Broken } else { Verdict::BrokenEachTime })
    }

    /// The same of a file of `len` bytes, read in parts.
    pub(super) fn of_file(storage: &dyn Storage, file: &str, name: &FileHash, len: u64) -> Result<Verdict> {
        Verdict::of(name, |anew| if anew { storage.hash_anew(file, len) } else { storage.hash(file, len) })
    }

    /// What is wrong with the file, if anything is.
    pub(super) fn problem(self, file: &str) -> Option<Problem> {
        match self {
            Verdict::Whole => None,
            Verdict::ReadDifferently => Some(Problem::new(file, READ_DIFFERENTLY)),
            Verdict::Broken => Some(Problem::new(file, NAME_MISMATCH)),
            Verdict::BrokenEachTime => {
                Some(Problem::new(file, format!("{NAME_MISMATCH}, and are read differently each time")))
            }
        }
    }

    pub(super) fn is_whole(self) -> bool {
        matches!(self, Verdict::Whole | Verdict::ReadDifferently)
    }
}

/// Does `read` until it finds no damage, three times at most, and `refresh` in between. Gives whether it was not the first time.
pub(super) fn thrice<T>(mut read: impl FnMut() -> Result<T>, refresh: impl Fn()) -> Result<(T, bool)> {
    let first = match read() {
        Err(error) if error.is_damage() => error,
        other => return other.map(|value| (value, false)),
    };
    for _ in 0..2 {
        refresh();
        match read() {
            Ok(value) => return Ok((value, true)),
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Err(first)
}

/// Has the disk asked again for all that a chunk is made of, so that whoever reads it next is not given what the system remembers.
pub(super) fn refresh_chunk(chunks: &ChunkReader, id: &ChunkId) {
    let mut next = Some(*id);
    for _ in 0..=DELTA_MAX_DEPTH {
        let Some(id) = next.take() else { return };
        for place in chunks.places(&id).unwrap_or_default() {
            let Ok(pack) = chunks.pack(&place.pack) else { continue };
            let Some(chunk) = pack.directory.chunks.get(usize::from(place.ordinal)) else { continue };
            let frame = &pack.directory.frames[chunk.frame as usize];
            // What fails now fails again when it is read.
            let _ = chunks.core.storage.read_anew(&pack.file, frame.offset, frame.sealed_len);
            next = next.or(frame.base.map(|base| base.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::Error;

    #[test]
    fn three_reads_tell_the_disk_from_the_way_to_it() {
        let [right, one, two] = [1, 2, 3].map(|n| FileHash([n; 32]));
        for (reads, expected, used) in [
            ([right, one, one], Verdict::Whole, 1),
            ([one, right, one], Verdict::ReadDifferently, 2),
            ([one, two, right], Verdict::ReadDifferently, 3),
            ([one, one, one], Verdict::Broken, 3),
            ([one, two, one], Verdict::BrokenEachTime, 3),
            ([one, one, two], Verdict::BrokenEachTime, 3),
        ] {
            let mut asked = Vec::new();
            let verdict = Verdict::of(&right, |anew| {
                asked.push(anew);
                Ok(reads[asked.len() - 1])
            });
            assert_eq!((verdict.unwrap(), asked.len()), (expected, used));
            assert!(!asked[0] && asked[1..].iter().all(|anew| *anew), "only the first may be remembered");
        }
    }

    #[test]
    fn what_is_not_read_at_all_is_read_again_too() {
        let [right, wrong] = [1, 2].map(|n| FileHash([n; 32]));
        let unread = None;
        for (reads, expected, used) in [
            ([unread, Some(right), unread], Some(Verdict::ReadDifferently), 2),
            ([Some(wrong), unread, Some(right)], Some(Verdict::ReadDifferently), 3),
            ([unread, Some(wrong), Some(wrong)], None, 3),
            ([unread, unread, unread], None, 3),
        ] {
            let mut asked = 0;
            let verdict = Verdict::of(&right, |_| {
                asked += 1;
                reads[asked - 1].ok_or_else(|| Error::damaged("a", "b"))
            });
            assert!(verdict.as_ref().err().is_none_or(Error::is_damage));
            assert_eq!((verdict.ok(), asked), (expected, used));
        }
        let mut asked = 0;
        let failing = |_| {
            asked += 1;
            Err(Error::Interrupted)
        };
        assert!(Verdict::of(&right, failing).is_err() && asked == 1);
    }

    #[test]
    fn only_damage_is_read_again() {
        let damaged = || Err(Error::damaged("a", "b"));
        for (wrong_times, expected) in [(0, Some(false)), (1, Some(true)), (2, Some(true)), (3, None)] {
            let (reads, refreshed) = (Cell::new(0), Cell::new(0));
            let read = || {
                reads.set(reads.get() + 1);
                if reads.get() > wrong_times { Ok(()) } else { damaged() }
            };
            let found = thrice(read, || refreshed.set(refreshed.get() + 1)).ok().map(|((), again)| again);
            assert_eq!((found, refreshed.get()), (expected, wrong_times.min(2)));
        }
        let reads = Cell::new(0);
        let failing = || -> Result<()> {
            reads.set(reads.get() + 1);
            Err(Error::Interrupted)
        };
        assert!(thrice(failing, || ()).is_err() && reads.get() == 1);
    }
}
