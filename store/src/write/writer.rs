//! One snapshot being made: contents in, entries in, and the commit that makes them count.

mod undelete;

use std::{
    collections::{BTreeMap, HashSet},
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rayon::prelude::*;

use crate::{
    bytes::{Blocks, Span},
    clock::unix_seconds,
    error::{Error, Problem, Result},
    format::{
        chunk_list::chunks_of,
        chunker::{CHUNK_MAX_LEN, HEAD_LEN, Rule},
        entry::{ChunkRef, Chunks, Content, Entry},
        mark::read_marks_now,
        pack::{ChunkKind, PackKind, chunk_id, pack_file},
        phone_cipher::Unsealing,
        record::{RecordKind, Snapshot, SnapshotRecord, Source},
        tree::{self, ENTRY_MAX_LEN, TreeBuilder},
    },
    id::{ChunkId, FileHash, SnapshotId},
    index::SegmentBuilder,
    name::Name,
    read::{
        chunks::ChunkReader,
        walk::{is_content_held, is_tree_held, walk},
    },
    repository::{Repository, core::Core, session::Session},
    snapshots::{
        list::{base_of, read_snapshots},
        parked::{Parked, delete_parked, parked_of},
        spares::add_spares,
        trash::move_to_trash,
    },
    storage::layout::MARKS_FOLDER,
    write::{
        ingest::{Ingest, NewChunk},
        previous::{PreviousChunks, PreviousTree},
        rebuilt::Rebuilt,
    },
};

/// How often what marks name is stored again: others may mark more meanwhile.
const HOLDS_MAX: u32 = 5;
/// Twice the longest chunk, so that what is left of one read is moved seldom.
const BUFFER_LEN: usize = 2 * CHUNK_MAX_LEN;
/// So many new chunks are brought into the index at a time, to bound what a long run remembers.
const SEGMENT_ENTRIES: usize = 128 << 10;

impl Repository {
    /// Begins a snapshot of `series` that is made entry by entry.
    ///
    /// # Errors
    /// What the storage says, or [`Error::Unsupported`] if only a newer program may write here.
    pub fn write(&self, series: &str) -> Result<SnapshotWriter> {
        self.core().config.check_writable()?;
        SnapshotWriter::begin(self.core(), self.cache_dir(), series, None)
    }

    /// The same, and entries of `base` may be put into it as they are.
    pub(crate) fn write_after(&self, series: &str, base: Base) -> Result<SnapshotWriter> {
        self.core().config.check_writable()?;
        SnapshotWriter::begin(self.core(), self.cache_dir(), series, Some(base))
    }
}

/// Makes a snapshot. Dropped without [`commit`](SnapshotWriter::commit), it has not happened; packs that were written are used by the next.
pub struct SnapshotWriter {
    pub(crate) chunks: Arc<ChunkReader>,
    cache_dir: Option<PathBuf>,
    problems: Vec<Problem>,
    series: String,
    previous: Option<SnapshotId>,
    previous_tree: PreviousTree,
    known: Vec<Snapshot>,
    ingest: Ingest,
    segment: SegmentBuilder,
    /// Chunks of this run that the index does not know yet.
    fresh: HashSet<ChunkId>,
    /// The packs that this run has written, or taken chunks for known by.
    relied_on: Mutex<HashSet<FileHash>>,
    /// Whether some of what is carried over lies where a mark names it.
    is_base_marked: bool,
    /// Whether something was lost when this run began, which it may carry over.
    may_lack_data: bool,
    entries: Entries,
    buffer: Vec<u8>,
    stats: WriteStats,
    /// Ended last, when nothing of the above is needed any more.
    session: Session,
}

/// What a snapshot says of itself, beside its files.
#[derive(Debug, Clone)]
pub struct Details {
    /// When the backup was taken by its own account, seconds since 1970.
    pub time: i64,
    /// Of a copy, see [`SnapshotRecord::kept_at`].
    pub kept: Option<i64>,
    /// Where it came from.
    pub source: Source,
    /// Whether the phone had encrypted it.
    pub encrypted: bool,
    /// See [`SnapshotRecord::device`].
    pub device: BTreeMap<String, String>,
    /// What could not be read; all but the first hundred are only counted.
    pub warnings: Vec<String>,
    /// How many there were.
    pub warning_count: u64,
    /// Whether to make no snapshot if the series has one of the same time with the same files.
    pub skip_if_same: bool,
    /// See [`SnapshotRecord::origin`].
    pub origin: Option<String>,
    /// See [`SnapshotRecord::lost_files`].
    pub lost_files: u64,
}

impl Details {
    /// Those of a snapshot that takes the place of `record`, or is a copy of it: with the same time, kept since then.
    pub fn like(record: &SnapshotRecord) -> Details {
        Details {
            kept: Some(record.kept_at()),
            encrypted: record.encrypted,
            device: record.device.clone(),
            warnings: record.warnings.clone(),
            warning_count: record.warning_count,
            lost_files: record.lost_files,
            origin: record.origin.clone(),
            ..Details::new(record.time, record.source)
        }
    }

    /// Those of a backup that was taken at `time` and of which nothing else is known.
    pub fn new(time: i64, source: Source) -> Details {
        Details {
            time,
            kept: None,
            source,
            encrypted: false,
            device: BTreeMap::new(),
            warnings: Vec::new(),
            warning_count: 0,
            lost_files: 0,
            skip_if_same: false,
            origin: None,
        }
    }
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// A new snapshot.
    #[default]
    New,
    /// The series has it already.
    Unchanged,
}

/// What making a snapshot took.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteStats {
    /// Whether there is a new snapshot.
    pub outcome: Outcome,
    /// Bytes that the repository's packs grew by.
    pub added_bytes: u64,
    /// Chunks that were not there before, and those that were.
    pub new_chunks: u64,
    /// Chunks that the repository had.
    pub known_chunks: u64,
    /// Bytes that were read from sources.
    pub read_bytes: u64,
}

impl SnapshotWriter {
    /// Begins a snapshot of `series`. Entries of `base` may be put into it as they are.
    pub(crate) fn begin(
        core: &Arc<Core>,
        cache_dir: Option<&Path>,
        series: &str,
        base: Option<Base>,
    ) -> Result<SnapshotWriter> {
        let mut session = Session::begin(core)?;
        core.storage.forget_listing(MARKS_FOLDER);
        let (mut index, mut problems) = core.load_index(cache_dir)?;
        let (segment, of_unlisted) = core.adopt_unlisted(&mut index, |_| true)?;
        problems.extend(of_unlisted);
        let snapshots = read_snapshots(&*core.storage, &core.sealer, cache_dir)?;
        if let Some(base) = &base {
            base.require(core)?;
        }
        problems.extend(snapshots.problems.iter().cloned());
        let previous = snapshots.newest_of(series);
        let chunks = Arc::new(ChunkReader::new(core.clone(), index));
        // What is carried over is not looked up: it may lie in any pack. If some of it lies where a mark names it, the prune is to wait.
        let relied_on = if base.is_some() { packs_that_stay(&chunks) } else { HashSet::new() };
        let may_lack_data = !problems.is_empty();
        let is_base_marked = base.is_some_and(|base| !base.stays(&chunks));
        if !is_base_marked {
            session.acknowledge(chunks.index().marks())?;
        }
        Ok(SnapshotWriter {
            previous: previous.map(|snapshot| snapshot.id),
            previous_tree: PreviousTree::new(previous.map(|snapshot| snapshot.record.root)),
            known: snapshots.snapshots.into_iter().filter(|snapshot| snapshot.record.series == series).collect(),
            cache_dir: cache_dir.map(Path::to_owned),
            problems,
            series: series.to_owned(),
            ingest: Ingest::new(&chunks),
            chunks,
            segment,
            fresh: HashSet::new(),
            relied_on: Mutex::new(relied_on),
            is_base_marked,
            may_lack_data,
            entries: Entries::default(),
            buffer: Vec::new(),
            stats: WriteStats::default(),
            session,
        })
    }

    /// What was damaged in the repository, but not fatal, when this began. Lost chunks are stored again if they come by.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Has changes told against the tree `root`, and no more against that of the series' newest snapshot.
    pub(crate) fn follow(&mut self, root: ChunkId) {
        self.previous_tree = PreviousTree::new(Some(root));
    }

    /// Stores all of `content`: reads and cuts it here, and has its new chunks compressed and written behind. Blocks while
    /// too many wait. What the series' newest snapshot calls by `name`, if that is known, is taken for the version before it.
    ///
    /// # Errors
    /// [`Error::Source`] if `content` cannot be read, after which the writer is as before; else the writer is of no more use.
    pub fn store(&mut self, name: Option<&Name>, content: &mut dyn Read) -> Result<Content> {
        self.store_by_name(name, |writer, previous| writer.store_after(previous, content))
    }

    /// Stores a file that the phone encrypted by `key`, as its plaintext. What [cannot](crate::Sealing::is_possible) be rebuilt from plaintext is refused.
    ///
    /// # Errors
    /// As [`store`](SnapshotWriter::store); [`Error::Source`] also where the ciphertext ends within a block.
    pub fn store_sealed(&mut self, name: Option<&Name>, ciphertext: &mut dyn Read, key: &[u8; 32]) -> Result<Content> {
        self.store_by_name(name, |writer, previous| writer.store_sealed_after(previous, ciphertext, key))
    }

    /// Stores `plaintext`, what is kept of the content `of` in another repository, and proves that it gives the same bytes in the backup folder.
    ///
    /// # Errors
    /// As [`store`](SnapshotWriter::store); [`Error::WrongContent`] if it gives others, after which the writer is as before.
    pub(crate) fn store_copy(&mut self, name: &Name, of: &Content, plaintext: &mut dyn Read) -> Result<Content> {
        let mut rebuilt = Rebuilt::of(of);
        let Stored { rule, chunks, .. } = self.store_by_name(Some(name), |writer, previous| {
            writer.store_chunks(previous, plaintext, &mut |chunk| rebuilt.update(chunk))
        })?;
        rebuilt.verify(of)?;
        Ok(Content { hash: of.hash, length: of.length, sealing: of.sealing.clone(), rule, chunks })
    }

    fn store_by_name<T>(
        &mut self,
        name: Option<&Name>,
        store: impl FnOnce(&mut SnapshotWriter, Previous) -> Result<T>,
    ) -> Result<T> {
        let mut tree = std::mem::take(&mut self.previous_tree);
        let stored = store(self, &mut |chunks| tree.content(chunks, name?.key()));
        self.previous_tree = tree;
        stored
    }

    /// As [`store`](SnapshotWriter::store), after what `previous` gives.
    pub(crate) fn store_after(&mut self, previous: Previous, content: &mut dyn Read) -> Result<Content> {
        let mut hasher = blake3::Hasher::new();
        let stored = self.store_chunks(previous, content, &mut |chunk| {
            hasher.update(chunk);
        })?;
        let Stored { length, rule, chunks } = stored;
        Ok(Content { hash: *hasher.finalize().as_bytes(), length, sealing: None, rule, chunks })
    }

    /// As [`store_sealed`](SnapshotWriter::store_sealed), after what `previous` gives.
    pub(crate) fn store_sealed_after(
        &mut self,
        previous: Previous,
        ciphertext: &mut dyn Read,
        key: &[u8; 32],
    ) -> Result<Content> {
        let mut unsealing = Unsealing::new(ciphertext, key);
        let Stored { length, rule, chunks } = self.store_chunks(previous, &mut unsealing, &mut |_| ())?;
        Ok(Content {
            hash: *unsealing.hasher.finalize().as_bytes(),
            length: unsealing.ciphertext_len,
            sealing: Some(unsealing.sealing(length)),
            rule,
            chunks,
        })
    }

    /// Stores all of `content`, of which `see` is shown every chunk.
    fn store_chunks(
        &mut self,
        previous: Previous,
        content: &mut dyn Read,
        see: &mut dyn FnMut(&[u8]),
    ) -> Result<Stored> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let stored = self.store_with(previous, content, see, &mut buffer);
        self.buffer = buffer;
        stored
    }

    fn store_with(
        &mut self,
        previous: Previous,
        content: &mut dyn Read,
        see: &mut dyn FnMut(&[u8]),
        buffer: &mut Vec<u8>,
    ) -> Result<Stored> {
        buffer.clear();
        let mut at_end = fill(content, buffer, HEAD_LEN + 1)?;
        let rule = Rule::of(buffer);
        let (mut length, mut chunks) = (0, Vec::new());
        let mut before = Before { previous, chunks: None };
        loop {
            if !at_end {
                at_end = fill(content, buffer, BUFFER_LEN)?;
            }
            let mut rest = buffer.as_slice();
            while rest.len() >= CHUNK_MAX_LEN || at_end && !rest.is_empty() {
                let (chunk, tail) = rest.split_at(self.chunks.core.chunker.cut(rule, length, rest));
                see(chunk);
                let id = self.put_data(chunk, &chunks, &mut before)?;
                chunks.push(ChunkRef { id, len: chunk.len() as u64 });
                length += chunk.len() as u64;
                rest = tail;
            }
            let consumed = buffer.len() - rest.len();
            buffer.drain(..consumed);
            if at_end {
                break;
            }
        }
        self.stats.read_bytes += length;
        let chunks = chunks_of(chunks, &mut |level, number, list| {
            let previous = before.chunks.as_ref().filter(|_| level == 0).and_then(|before| before.list(number));
            self.put_chunk(ChunkKind::List, list, |_, _| previous)
        })?;
        Ok(Stored { length, rule: rule.number(), chunks })
    }

    /// Puts the data chunk that comes after `passed` in its content.
    fn put_data(&mut self, chunk: &[u8], passed: &[ChunkRef], before: &mut Before) -> Result<ChunkId> {
        let mut is_new = false;
        let id = self.put_chunk(ChunkKind::Data, chunk, |chunks, id| {
            is_new = true;
            before.load(chunks, passed).advance(id)
        })?;
        if let Some(before) = before.chunks.as_mut().filter(|_| !is_new) {
            before.advance(&id);
        }
        Ok(id)
    }

    /// Whether all chunks of a remembered content are in the repository, so that the file need not be read again.
    ///
    /// # Errors
    /// Any failure of the storage.
    pub fn holds(&self, content: &Content) -> Result<bool> {
        is_content_held(&self.chunks, content, |id| self.has(id))
    }

    /// Puts an entry into the snapshot. The last one of a name counts; a file of the same name that lies elsewhere in the folder is then
    /// known by its place alone.
    ///
    /// # Errors
    /// [`Error::InvalidName`] if the entry is too long to be kept.
    pub fn put(&mut self, name: &Name, entry: &Entry) -> Result<()> {
        let bytes = entry.emit();
        if bytes.len() > ENTRY_MAX_LEN {
            return Err(Error::InvalidName { name: name.to_string(), why: "what is known of it is too long" });
        }
        self.entries.push(name.key(), &bytes);
        Ok(())
    }

    /// Puts an entry of another tree into the snapshot as it stood there.
    pub(crate) fn put_as_it_is(&mut self, key: &[u8], entry: &[u8]) {
        self.entries.push(key, entry);
    }

    /// Makes everything durable, and then the snapshot.
    ///
    /// # Errors
    /// Whatever failed, here or behind; there is no snapshot then.
    pub fn commit(self, details: Details) -> Result<(Snapshot, WriteStats)> {
        self.commit_unless(details, &mut |_, _| Ok(None))
    }

    /// As [`commit`](SnapshotWriter::commit), unless `find_same` gives a snapshot that stands for the tree of this one.
    pub(crate) fn commit_unless(mut self, details: Details, find_same: FindSame) -> Result<(Snapshot, WriteStats)> {
        let tree = self.put_tree()?;
        let same = |known: &&Snapshot| known.record.root == tree.root && known.record.time == details.time;
        if let Some(known) = self.known.iter().filter(|_| details.skip_if_same).find(same).cloned() {
            // Chunks that it had lost may have come by.
            self.finish_packs()?;
            self.stats.outcome = Outcome::Unchanged;
            return Ok((known, self.stats));
        }
        self.make_readable()?;
        if let Some(same) = find_same(&self.chunks, &tree.root)? {
            self.finish_unless_needless()?;
            self.stats.outcome = Outcome::Unchanged;
            // What was parked on the way here has been taken up.
            let _ = delete_parked(&self.chunks.core, &self.series, None);
            return Ok((same, self.stats));
        }
        let newest_created = self.known.iter().map(|known| known.record.created).max();
        let mut record = self.finish(tree, details, newest_created)?;
        self.hold(&record.root)?;
        let core = self.chunks.core.clone();
        let id = core.put_record(RecordKind::Snapshot, &mut record)?;
        core.storage.sync_all()?;
        let snapshot = Snapshot { id, record };
        self.hold_or_withdraw(&snapshot.id, &snapshot.record.root)?;
        // What has none has lost nothing, and gets it with the next snapshot.
        let _ = add_spares(&*core.storage);
        // One that stays behind is stale, and nobody minds.
        let _ = delete_parked(&core, &self.series, None);
        // Without room for it there is none.
        let _ = core.keep_reserve();
        Ok((snapshot, self.stats))
    }

    /// Makes sure that all that the tree `root` reaches is there to stay, whether or not others saw this run at work. What lies only where a mark names
    /// it is stored again.
    fn hold(&mut self, root: &ChunkId) -> Result<()> {
        // From here on nobody knows what was lost before.
        self.may_lack_data &= !self.session.renew()?;
        for _ in 0..HOLDS_MAX {
            if self.is_held()? {
                return Ok(());
            }
            self.store_again(root)?;
        }
        Err(Error::Overtaken)
    }

    /// Whether every pack that was relied on is there, and none is marked. The marks are read first: who has deleted a pack deletes its mark after it.
    fn is_held(&self) -> Result<bool> {
        let core = &self.chunks.core;
        let marks = read_marks_now(&*core.storage, &core.sealer)?;
        let relied_on = self.relied_on.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_base_marked || marks.iter().flat_map(|mark| &mark.packs).any(|pack| relied_on.contains(pack)) {
            return Ok(false);
        }
        Ok(missing_of(core, &relied_on)?.is_empty())
    }

    /// Reads marks and packs anew, and stores again what of the tree `root` lies in no pack that stays. What was lost before this run began is not missed.
    fn store_again(&mut self, root: &ChunkId) -> Result<()> {
        let core = self.chunks.core.clone();
        let (index, _) = core.load_index(self.cache_dir.as_deref())?;
        let before = std::mem::replace(&mut *self.chunks.index_mut(), index);
        self.fresh.clear();
        let chunks = self.chunks.clone();
        let gone = missing_of(&core, &packs_that_stay(&chunks))?;
        if !gone.is_empty() {
            chunks.index_mut().drop_packs(&gone);
        }
        walk(&chunks, root, &mut |kind, id| {
            if self.has(id)? {
                return Ok(true);
            }
            match chunks.read(id, kind) {
                Ok(bytes) => self.put_chunk(kind, &bytes, |_, _| None).map(|_| true),
                Err(error)
                    if is_gone(&error) && self.may_lack_data && kind == ChunkKind::Data && !before.reads(id)? =>
                {
                    Ok(true)
                }
                Err(error) => Err(error),
            }
        })
        .map_err(|error| if is_gone(&error) { Error::Overtaken } else { error })?;
        self.flush()?;
        core.storage.sync_all()?;
        *self.relied_on.lock().unwrap_or_else(PoisonError::into_inner) = packs_that_stay(&self.chunks);
        self.is_base_marked = false;
        Ok(())
    }

    /// Makes sure once more, now that there is a snapshot of the tree `root`, and else takes that back.
    fn hold_or_withdraw(&mut self, id: &SnapshotId, root: &ChunkId) -> Result<()> {
        self.hold(root).or_else(|error| {
            move_to_trash(&self.chunks.core, std::slice::from_ref(id))?;
            Err(error)
        })
    }

    /// Makes everything durable, and then a record that is no snapshot.
    ///
    /// # Errors
    /// As [`commit`](SnapshotWriter::commit).
    pub(crate) fn park(mut self) -> Result<Parked> {
        let earlier = parked_of(&self.chunks.core, &self.series)?;
        let newest_created = earlier.last().map(|parked| parked.record.created);
        self.previous = base_of(self.known.iter()).map(|base| base.id);
        let tree = self.put_tree()?;
        let mut record = self.finish(tree, Details::new(unix_seconds(), Source::Device), newest_created)?;
        self.hold(&record.root)?;
        let core = self.chunks.core.clone();
        let id = core.put_record(RecordKind::Parked, &mut record)?;
        core.storage.sync_all()?;
        self.hold(&record.root).or_else(|error| {
            core.storage.delete_file(&RecordKind::Parked.file(&id))?;
            Err(error)
        })?;
        let _ = delete_parked(&core, &self.series, Some(&id));
        Ok(Parked { id, record })
    }

    /// Brings all chunks into packs, and these into the index, and makes both durable.
    fn finish_packs(&mut self) -> Result<()> {
        let (written, added_bytes) = self.ingest.finish()?;
        self.write_segment(written)?;
        self.chunks.core.storage.sync_all()?;
        self.chunks.forget_unwritten();
        self.stats.added_bytes = added_bytes;
        Ok(())
    }

    /// The same of a run that makes no snapshot. Chunks that nobody has seen yet are dropped instead, if nothing that was
    /// lost can be among them.
    fn finish_unless_needless(&mut self) -> Result<()> {
        let may_mend = self.may_lack_data || self.chunks.core.distrusts_any();
        if may_mend || !self.chunks.reads_unwritten() || self.ingest.has_written()? {
            return self.finish_packs();
        }
        // Packs that others have left are named all the same, so that the next run need not read them again.
        self.write_segment(SegmentBuilder::default())
    }

    /// Makes all chunks durable, and the record of `tree` that is to be written then, newer than `newest_created`.
    fn finish(&mut self, tree: Tree, details: Details, newest_created: Option<i64>) -> Result<SnapshotRecord> {
        let Tree { root, files, bytes, is_sealed } = tree;
        self.finish_packs()?;
        let added_bytes = self.stats.added_bytes;
        Ok(SnapshotRecord {
            needs: Vec::new(),
            series: self.series.clone(),
            previous: self.previous,
            time: details.time,
            created: newest_created.map_or(i64::MIN, |created| created.saturating_add(1)).max(unix_seconds()),
            kept: details.kept,
            root,
            files,
            bytes,
            added_bytes,
            source: details.source,
            encrypted: details.encrypted,
            sealed: is_sealed,
            device: details.device,
            warnings: details.warnings,
            warning_count: details.warning_count,
            lost_files: details.lost_files,
            program: crate::PROGRAM.to_owned(),
            origin: details.origin,
        })
    }

    /// Puts the tree of all entries; gives its root, and how many files with how many bytes it holds.
    fn put_tree(&mut self) -> Result<Tree> {
        let (mut files, mut bytes, mut is_sealed) = (0, 0, false);
        let entries = std::mem::take(&mut self.entries).sorted();
        let mut previous = std::mem::take(&mut self.previous_tree);
        let mut builder = TreeBuilder::new(self.chunks.core.keys.tree, |level, first_key: &[u8], node: &[u8]| {
            self.put_chunk(ChunkKind::Node, node, |chunks, _| previous.node(chunks, level, first_key))
        });
        for (key, entry) in entries.iter() {
            let content = Entry::parse(entry).ok().and_then(|entry| entry.content);
            if let Some(content) = content {
                files += 1;
                bytes += content.length;
                is_sealed |= content.is_sealed();
            }
            builder.add(key, entry)?;
        }
        Ok(Tree { root: builder.finish()?, files, bytes, is_sealed })
    }

    fn has(&self, id: &ChunkId) -> Result<bool> {
        Ok(self.fresh.contains(id) || self.rely_on(id)?)
    }

    /// Whether the repository holds a chunk, in packs that are relied on from then on.
    fn rely_on(&self, id: &ChunkId) -> Result<bool> {
        self.chunks.holds_in(id, &|pack| {
            self.relied_on.lock().unwrap_or_else(PoisonError::into_inner).insert(*pack);
        })
    }

    /// The id of a chunk, which is on its way into a pack if the repository does not hold it. Only then `previous` is asked for the version before it.
    pub(crate) fn put_chunk(
        &mut self,
        kind: ChunkKind,
        plaintext: &[u8],
        previous: impl FnOnce(&ChunkReader, &ChunkId) -> Option<ChunkId>,
    ) -> Result<ChunkId> {
        let id = chunk_id(&self.chunks.core.keys.id, kind, plaintext);
        if self.has(&id)? {
            self.stats.known_chunks += 1;
            return Ok(id);
        }
        self.stats.new_chunks += 1;
        self.fresh.insert(id);
        self.chunks.keep_unwritten(id, kind, plaintext);
        let previous = previous(&self.chunks, &id);
        self.ingest.add(NewChunk { id, kind, plaintext: plaintext.to_vec(), previous })?;
        if self.fresh.len() >= SEGMENT_ENTRIES {
            self.index_written(SEGMENT_ENTRIES / 2)?;
        }
        Ok(id)
    }

    /// Makes everything that was stored so far readable: as long as it is little, it is without being written.
    pub(crate) fn make_readable(&mut self) -> Result<()> {
        if self.chunks.reads_unwritten() { Ok(()) } else { self.flush() }
    }

    /// Brings everything that was stored so far into packs, and these into the index.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        self.ingest.flush()?;
        self.index_written(0)?;
        self.chunks.forget_unwritten();
        Ok(())
    }

    /// Lets go of what a long run remembers of its chunks, before something else takes much memory.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if self.fresh.len() < SEGMENT_ENTRIES / 8 {
            return Ok(());
        }
        self.flush()?;
        self.fresh.shrink_to_fit();
        Ok(())
    }

    /// Brings the packs that are written into the index, if they hold enough chunks.
    fn index_written(&mut self, at_least: usize) -> Result<()> {
        let Some(written) = self.ingest.take_written(at_least) else { return Ok(()) };
        written.ids().for_each(|id| {
            self.fresh.remove(id);
        });
        self.write_segment(written)
    }

    /// Makes packs durable, and then writes a segment of them.
    fn write_segment(&mut self, written: SegmentBuilder) -> Result<()> {
        let core = &self.chunks.core;
        core.storage.sync_all()?;
        let mut segment = std::mem::take(&mut self.segment);
        segment.append(written);
        for base in segment.bases() {
            self.rely_on(base)?;
        }
        let written = segment.packs().iter().map(|pack| pack.name);
        self.relied_on.lock().unwrap_or_else(PoisonError::into_inner).extend(written);
        self.session.write_segment(&mut self.chunks.index_mut(), segment, self.cache_dir.as_deref())
    }
}

/// A snapshot or parked run whose entries are carried over.
pub(crate) struct Base {
    pub(crate) kind: RecordKind,
    pub(crate) id: SnapshotId,
    pub(crate) root: ChunkId,
}

impl Base {
    pub(crate) fn snapshot(snapshot: &Snapshot) -> Base {
        Base { kind: RecordKind::Snapshot, id: snapshot.id, root: snapshot.record.root }
    }

    pub(crate) fn parked(parked: &Parked) -> Base {
        Base { kind: RecordKind::Parked, id: parked.id, root: parked.record.root }
    }

    /// Fails if it was forgotten since it was listed: a prune may have come since.
    fn require(&self, core: &Core) -> Result<()> {
        let is_there = core.storage.has_file(&self.kind.file(&self.id))?;
        if is_there { Ok(()) } else { Err(Error::SnapshotGone { id: self.id }) }
    }

    /// Whether all that it reaches lies in packs that no mark names.
    fn stays(&self, chunks: &ChunkReader) -> bool {
        chunks.index().marks().is_empty() || is_tree_held(chunks, &self.root).unwrap_or(false)
    }
}

/// The packs that are there, and that no mark names.
fn packs_that_stay(chunks: &ChunkReader) -> HashSet<FileHash> {
    let index = chunks.index();
    let marked: HashSet<&FileHash> = index.marks().iter().flat_map(|mark| &mark.packs).collect();
    index.packs().map(|pack| pack.name).filter(|name| !marked.contains(name)).collect()
}

/// Which of `packs` are not there. Each is looked for by its name: a list may be late.
fn missing_of(core: &Core, packs: &HashSet<FileHash>) -> Result<HashSet<FileHash>> {
    let is_there = |pack: &FileHash| -> Result<bool> {
        let has = |kind| core.storage.has_file(&pack_file(kind, pack));
        Ok(has(PackKind::Data)? || has(PackKind::Tree)?)
    };
    let missing = packs.par_iter().filter_map(|pack| match is_there(pack) {
        Ok(true) => None,
        Ok(false) => Some(Ok(*pack)),
        Err(error) => Some(Err(error)),
    });
    missing.collect()
}

/// Whether a chunk was not read because it, or the pack that it was in, is not there or not whole.
fn is_gone(error: &Error) -> bool {
    error.is_damage() || error.is_missing_file()
}

/// Finds the version of a content before the one that is stored.
pub(crate) type Previous<'a> = &'a mut dyn FnMut(&ChunkReader) -> Option<Content>;

/// Gives the snapshot that stands for a tree, by its root, if there is one.
type FindSame<'a> = &'a mut dyn FnMut(&Arc<ChunkReader>, &ChunkId) -> Result<Option<Snapshot>>;

/// The chunks before those of a content, looked up when the first new one comes.
struct Before<'a> {
    previous: Previous<'a>,
    chunks: Option<PreviousChunks>,
}

impl Before<'_> {
    fn load(&mut self, source: &ChunkReader, passed: &[ChunkRef]) -> &mut PreviousChunks {
        self.chunks.get_or_insert_with(|| {
            let content = (self.previous)(source);
            let mut chunks =
                content.map_or_else(PreviousChunks::default, |content| PreviousChunks::of(source, &content));
            for chunk in passed {
                chunks.advance(&chunk.id);
            }
            chunks
        })
    }
}

/// What was stored of a content, as it is kept.
struct Stored {
    length: u64,
    rule: u8,
    chunks: Chunks,
}

/// A tree that was written, and what a record says of it.
struct Tree {
    root: ChunkId,
    files: u64,
    bytes: u64,
    is_sealed: bool,
}

/// Appends to `buffer` until it is `len` bytes long or `source` ends, which is told.
fn fill(source: &mut dyn Read, buffer: &mut Vec<u8>, len: usize) -> Result<bool> {
    let missing = len.saturating_sub(buffer.len());
    buffer.reserve_exact(missing);
    let read = source.take(missing as u64).read_to_end(buffer).map_err(Error::Source)?;
    Ok(read < missing)
}

/// Entries as they will stand in the tree, compact: a phone has half a million.
#[derive(Default)]
struct Entries {
    bytes: Blocks,
    spans: Vec<EntrySpan>,
}

/// Where a key lies, with its entry behind it.
#[derive(Clone, Copy)]
struct EntrySpan {
    bytes: Span,
    key_len: u32,
}

impl EntrySpan {
    fn of<'b>(&self, bytes: &'b Blocks) -> (&'b [u8], &'b [u8]) {
        bytes.get(self.bytes).split_at(self.key_len as usize)
    }
}

impl Entries {
    fn push(&mut self, key: &[u8], entry: &[u8]) {
        let bytes = self.bytes.push(&[key, entry]);
        self.spans.push(EntrySpan { bytes, key_len: key.len() as u32 });
    }

    /// The same by key, of equal keys the last. A file whose name another entry has taken gets the name of its place.
    fn sorted(mut self) -> Entries {
        self.sort();
        let overridden = self.overridden();
        if !overridden.is_empty() {
            overridden.iter().for_each(|(name, entry)| self.push(name.key(), &entry.emit()));
            self.sort();
        }
        let Entries { bytes, spans } = &mut self;
        spans.dedup_by(|later, first| later.of(bytes).0 == first.of(bytes).0);
        self
    }

    /// By key, of equal keys the last first.
    fn sort(&mut self) {
        let Entries { bytes, spans } = self;
        let key = |span: &EntrySpan| span.of(bytes).0;
        spans.sort_unstable_by(|a, b| key(a).cmp(key(b)).then(b.bytes.cmp(&a.bytes)));
    }

    /// The files whose names other entries have taken, under the names of their places.
    fn overridden(&self) -> Vec<(Name, Entry)> {
        let key = |span: &EntrySpan| span.of(&self.bytes).0;
        let mut kept = Vec::new();
        for same in self.spans.chunk_by(|one, other| key(one) == key(other)).filter(|same| same.len() > 1) {
            let entry = |span: &EntrySpan| tree::parse_item(key(span), span.of(&self.bytes).1).ok();
            let place = |span: &EntrySpan| entry(span).and_then(|(name, entry)| Some((entry.place_for(&name)?, entry)));
            let mut taken = HashSet::from([place(&same[0]).map(|(place, _)| place)]);
            for (place, entry) in same[1..].iter().filter_map(place) {
                if taken.insert(Some(place.clone())) {
                    let Entry { kind, place_mtime_ns, content, .. } = entry;
                    kept.push((Name::of_place(&place), Entry { place_mtime_ns, content, ..Entry::new(kind) }));
                }
            }
        }
        kept
    }

    /// Keys and entries.
    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.spans.iter().map(|span| span.of(&self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Depth, Kind, Options, Prefix, Repository, Storage, TreePath, check, storage::MemoryStorage};

    #[test]
    fn of_two_files_with_one_name_none_is_lost() {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage, None, &crate::Options::default()).unwrap();
        let mut writer = repository.write("phone").unwrap();
        let name = Name::new("HomeDomain", "notes").unwrap();
        for place in ["aa/one", "bb/two", "aa/one"] {
            let content = Some(writer.store(None, &mut place.as_bytes()).unwrap());
            let place = Some(TreePath::new(place).unwrap());
            writer.put(&name, &Entry { content, place, ..Entry::new(Kind::File) }).unwrap();
        }
        writer.put(&name, &Entry::new(Kind::Directory)).unwrap();
        let (snapshot, _) = writer.commit(Details::new(0, Source::Import)).unwrap();
        let reader = repository.read(&snapshot).unwrap();
        let kept: Vec<String> =
            reader.entries(&Prefix::all()).map(|item| item.map(|(name, _)| name.to_string()).unwrap()).collect();
        assert_eq!(kept, ["aa/one", "bb/two", "HomeDomain:notes"]);
        assert_eq!(snapshot.record.files, 2);
    }

    #[test]
    fn no_segment_names_a_pack_that_was_deleted_when_the_run_was_taken_for_dead() {
        for is_indexed in [false, true] {
            let storage = Arc::new(MemoryStorage::default());
            let options = Options { pack_bytes: 4096, ..Options::default() };
            let (repository, _) = Repository::create(storage.clone(), None, &options).unwrap();
            let mut writer = repository.write("phone").unwrap();
            let store = |writer: &mut SnapshotWriter, text: &str| {
                let content = Some(writer.store(None, &mut text.as_bytes()).unwrap());
                writer.put(&Name::new("HomeDomain", text).unwrap(), &Entry { content, ..Entry::new(Kind::File) })
            };
            store(&mut writer, "before").unwrap();
            if is_indexed {
                writer.flush().unwrap()
            } else {
                writer.ingest.flush().unwrap()
            }
            let names = |folder: &str| storage.list(folder).unwrap().into_iter().map(move |(name, _)| name);
            for folder in ["sessions", "packs", "index"] {
                let mut files = names(folder).map(|name| format!("{folder}/{name}")).collect::<Vec<_>>().into_iter();
                assert!(files.len() > 0 || folder == "index" && !is_indexed);
                files.try_for_each(|file| storage.delete(&file)).unwrap();
            }
            store(&mut writer, "after").unwrap();
            let committed = writer.commit(Details::new(0, Source::Import));
            assert!(matches!(committed, Err(Error::Overtaken)), "{:?}", committed.map(drop));
            let found = check(&repository, Depth::ReadData, &|_| std::ops::ControlFlow::Continue(())).unwrap();
            assert_eq!(found.problems, [], "indexed: {is_indexed}");
        }
    }
}
