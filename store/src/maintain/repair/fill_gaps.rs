//! Snapshots that stay incomplete, replaced by ones that are whole and say what they lack.

use super::{Repair, RepairStep};
use crate::{
    error::{Error, Problem, Result},
    format::{
        chunk_list::{chunks_of, parse_list},
        entry::{ChunkRef, Chunks, Content, Entry},
        pack::ChunkKind,
        phone_cipher::Resealing,
        record::{RecordKind, Snapshot, WARNINGS_MAX},
        tree::{ChunkSource, TreeIter, parse_item},
    },
    id::SnapshotId,
    name::Name,
    read::{chunks::ChunkReader, walk::is_content_held},
    repository::Repository,
    write::writer::{self, Details, SnapshotWriter},
};

/// Zeros that stand for one chunk.
const GAP_MAX_LEN: u64 = 4 << 20;

impl Repair<'_> {
    /// Writes a snapshot in the place of each of `damaged`, and moves those to `quarantine/`.
    pub(super) fn mark_lost(&mut self, damaged: &[Snapshot]) -> Result<()> {
        for snapshot in damaged {
            let now = self.now()?;
            let file = RecordKind::Snapshot.file(&snapshot.id);
            let marked = Marking::begin(&now, snapshot).and_then(|marking| marking.finish(snapshot));
            let what = match marked {
                // Nobody here knows what else is in it: it stays, and the check names it.
                Err(error) if error.is_newer() => continue,
                marked => marked?,
            };
            let what = match what {
                Some((new, lost_files)) => {
                    now.move_pin(&snapshot.id, &new)?;
                    format!("{new} stands in its place, with zeros for what {lost_files} files have lost")
                }
                None => "moved to quarantine: nothing of the snapshot is left".to_owned(),
            };
            self.set_snapshot_aside(&snapshot.id)?;
            self.storage.sync_all()?;
            self.say(RepairStep::MarkLost, file, what);
        }
        Ok(())
    }

    /// Nobody goes on from a run that was cut off and has lost something.
    pub(super) fn set_damaged_parked_aside(&mut self, problems: &[Problem]) -> Result<()> {
        let mut files: Vec<&str> = problems.iter().map(|problem| problem.file.as_str()).collect();
        files.retain(|file| file.starts_with(RecordKind::Parked.folder()));
        files.dedup();
        for file in files {
            if self.set_aside(file)? {
                self.say(RepairStep::MarkLost, file, "moved to quarantine: what it has lost is sent again");
            }
        }
        self.storage.sync_all()
    }
}

/// A snapshot being made of what is left of another.
struct Marking {
    writer: SnapshotWriter,
    warnings: Vec<String>,
    warning_count: u64,
    lost_files: u64,
    entries: u64,
}

impl Marking {
    fn begin(repository: &Repository, old: &Snapshot) -> Result<Marking> {
        let record = &old.record;
        let mut marking = Marking {
            writer: repository.write_after(&record.series, writer::Base::snapshot(old))?,
            warnings: record.warnings.clone(),
            warning_count: record.warning_count,
            lost_files: record.lost_files,
            entries: 0,
        };
        let chunks = repository.chunks()?.0;
        let mut last = Vec::new();
        for item in TreeIter::new(&chunks, record.root, b"") {
            match item {
                Ok((key, bytes)) => {
                    marking.keep(&chunks, &key, &bytes)?;
                    last = key;
                }
                Err(error) if error.is_damage() => {
                    let after = Name::from_key(&last).map_or_else(|_| String::new(), |name| format!(" after {name}"));
                    marking.lose(format!("a part of the list of files{after} is lost"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(marking)
    }

    fn lose(&mut self, what: String) {
        self.lost_files += 1;
        self.warning_count += 1;
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(what);
        }
    }

    /// Keeps an entry, with zeros for what it has lost.
    fn keep(&mut self, chunks: &ChunkReader, key: &[u8], bytes: &[u8]) -> Result<()> {
        self.entries += 1;
        let (name, entry) = match parse_item(key, bytes) {
            Err(error) if error.is_newer() => return Err(error),
            Err(_) => {
                self.writer.put_as_it_is(key, bytes);
                return Ok(());
            }
            Ok(item) => item,
        };
        let Some(content) = &entry.content else { return self.writer.put(&name, &entry) };
        if is_content_held(chunks, content, |id| chunks.holds(id))? {
            return self.writer.put(&name, &entry);
        }
        let (content, lost) = Filling::new(chunks, &mut self.writer, content).fill()?;
        self.lose(format!("{name} has lost {lost} of {} bytes, which are zeros now", content.length));
        self.writer.put(&name, &Entry { content: Some(content), ..entry })
    }

    /// Makes the snapshot, unless nothing is left of the old one; gives it, and how many files are not whole.
    fn finish(self, old: &Snapshot) -> Result<Option<(SnapshotId, u64)>> {
        let Marking { writer, warnings, warning_count, lost_files, entries } = self;
        if entries == 0 {
            return Ok(None);
        }
        let details = Details {
            warnings,
            warning_count,
            lost_files,
            // A repair that was cut off may have made it.
            skip_if_same: true,
            // With the old one's origin: a whole copy takes its place as it would have that one's.
            ..Details::like(&old.record)
        };
        let (snapshot, _) = writer.commit(details)?;
        Ok(Some((snapshot.id, lost_files)))
    }
}

/// A content being made of what is left of one.
struct Filling<'f> {
    chunks: &'f ChunkReader,
    writer: &'f mut SnapshotWriter,
    old: &'f Content,
    kept: Vec<ChunkRef>,
    hasher: blake3::Hasher,
    resealing: Option<Resealing>,
    lost: u64,
}

impl<'f> Filling<'f> {
    fn new(chunks: &'f ChunkReader, writer: &'f mut SnapshotWriter, old: &'f Content) -> Filling<'f> {
        let resealing = old.sealing.as_ref().map(Resealing::of);
        Filling { chunks, writer, old, kept: Vec::new(), hasher: blake3::Hasher::new(), resealing, lost: 0 }
    }

    /// The content, and how many of its bytes are zeros for others.
    fn fill(mut self) -> Result<(Content, u64)> {
        match &self.old.chunks {
            Chunks::Inline(chunks) => chunks.iter().try_for_each(|chunk| self.add(*chunk))?,
            Chunks::List(id) => self.add_list(ChunkRef { id: *id, len: self.old.plaintext_len() }, None)?,
        }
        if let (Some(resealing), Some(sealing)) = (self.resealing.take(), &self.old.sealing) {
            self.hasher.update(&resealing.finish(sealing, self.old.length).map_err(Error::Source)?);
        }
        let hash = *self.hasher.finalize().as_bytes();
        let writer = self.writer;
        let chunks = chunks_of(self.kept, &mut |_, _, list| writer.put_chunk(ChunkKind::List, list, |_, _| None))?;
        Ok((Content { hash, chunks, ..self.old.clone() }, self.lost))
    }

    /// Adds the chunks of a list; of one that is lost its length is known.
    fn add_list(&mut self, list: ChunkRef, level: Option<u8>) -> Result<()> {
        let read = match self.chunks.chunk(&list.id, ChunkKind::List) {
            Err(error) if !error.is_damage() => return Err(error),
            read => read.ok().and_then(|bytes| parse_list(&bytes).ok()),
        };
        let is_sum =
            |items: &[ChunkRef]| items.iter().try_fold(0u64, |sum, item| sum.checked_add(item.len)) == Some(list.len);
        match read.filter(|(found, items)| level.is_none_or(|level| level == *found) && is_sum(items)) {
            None => self.add_zeros(list.len),
            Some((0, chunks)) => chunks.into_iter().try_for_each(|chunk| self.add(chunk)),
            Some((level, lists)) => lists.into_iter().try_for_each(|list| self.add_list(list, Some(level - 1))),
        }
    }

    fn add(&mut self, chunk: ChunkRef) -> Result<()> {
        match self.chunks.read(&chunk.id, ChunkKind::Data) {
            Ok(bytes) if bytes.len() as u64 == chunk.len => {
                self.kept.push(chunk);
                self.hash(&bytes)
            }
            Err(error) if !error.is_damage() => Err(error),
            _ => self.add_zeros(chunk.len),
        }
    }

    fn add_zeros(&mut self, len: u64) -> Result<()> {
        self.lost += len;
        let mut left = len;
        while left > 0 {
            let zeros = vec![0; left.min(GAP_MAX_LEN) as usize];
            let id = self.writer.put_chunk(ChunkKind::Data, &zeros, |_, _| None)?;
            self.kept.push(ChunkRef { id, len: zeros.len() as u64 });
            self.hash(&zeros)?;
            left -= zeros.len() as u64;
        }
        Ok(())
    }

    fn hash(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.resealing {
            Some(resealing) => self.hasher.update(&resealing.seal(bytes).map_err(Error::Source)?),
            None => self.hasher.update(bytes),
        };
        Ok(())
    }
}
