//! Snapshots of one repository into another, which has another secret: contents are read as plaintext and stored anew by the other's rules.
//!
//! A snapshot is copied on top of one that the other repository has of its series. Best is the copy of a snapshot before it: then only what
//! differs between the two is looked at, and everything else keeps the entry that the copy has. Any other serves as well: files of the same
//! hash are not read again. A copy names its *origin* (SPEC §10), by which it is known for ever, through any number of repositories.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, Read},
    mem,
    ops::ControlFlow,
    sync::Arc,
};

use crate::{
    error::{Error, Problem, Result},
    format::{
        chunk_list::ChunkRefs,
        entry::{ChunkRef, Content, Entry},
        pack::ChunkKind,
        record::{RecordKind, Snapshot, SnapshotRecord, WARNINGS_MAX},
        tree::{TreeIter, parse_item, read_node},
    },
    id::{ChunkId, SnapshotId},
    name::Name,
    progress::{Progress, heed},
    read::{
        chunks::ChunkReader,
        diff::Diff,
        export::{Decoded, WINDOW_BYTES, WINDOW_PARTS, read_here},
    },
    repository::Repository,
    write::writer::{self, Details, Outcome, SnapshotWriter, WriteStats},
};

/// Copies snapshots of one repository into another.
pub struct Copier<'r> {
    source: &'r Repository,
    target: &'r Repository,
    chunks: Arc<ChunkReader>,
    /// All of the source, oldest first.
    snapshots: Vec<Snapshot>,
    /// Those of the target, one of each origin.
    known: Vec<Snapshot>,
    /// Of each origin the one that lacks the fewest files, by its number in `known`.
    by_origin: HashMap<String, usize>,
    problems: Vec<Problem>,
}

/// What became of a snapshot.
#[derive(Debug)]
pub struct Copied {
    /// As it is in the other repository. One that was there before is [`Outcome::Unchanged`], also if it lacks files that are damaged still.
    pub snapshot: Snapshot,
    /// What it took.
    pub stats: WriteStats,
    /// What is damaged in the source, and so is not in the copy, the first hundred.
    pub lost: Vec<String>,
    /// How many there are.
    pub lost_count: u64,
    /// What is damaged in the target, as far as it was noticed.
    pub problems: Vec<Problem>,
}

/// How far the copy of a snapshot has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyProgress {
    /// What is done with: read, or found to be there.
    pub passed: Progress,
    /// What of it was read.
    pub read_bytes: u64,
}

/// What is called while a snapshot is copied; `Break` ends it with [`Error::Interrupted`].
type OnProgress<'a> = &'a mut dyn FnMut(CopyProgress) -> ControlFlow<()>;

impl<'r> Copier<'r> {
    /// Looks at what both have.
    ///
    /// # Errors
    /// What a storage says, or [`Error::Unsupported`] if only a newer program may write to the target.
    pub fn new(source: &'r Repository, target: &'r Repository) -> Result<Copier<'r>> {
        target.core().config.check_writable()?;
        // Before the chunks: what these name was written before them.
        let list = source.snapshots()?;
        let (chunks, mut problems) = source.chunks()?;
        problems.extend(list.problems);
        let mut copier = Copier {
            source,
            target,
            chunks: Arc::new(chunks),
            snapshots: list.snapshots,
            known: Vec::new(),
            by_origin: HashMap::new(),
            problems,
        };
        target.snapshots()?.snapshots.into_iter().for_each(|known| copier.learn(known));
        Ok(copier)
    }

    /// What is damaged in the source, as far as it was noticed. Snapshots that cannot be read are among it.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// All snapshots of the source, those of a series one after another, oldest first: the order in which copies cost least.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let mut snapshots = self.snapshots.clone();
        snapshots.sort_by(|one, other| one.record.series.cmp(&other.record.series));
        snapshots
    }

    /// The same, oldest first.
    pub fn by_age(&self) -> &[Snapshot] {
        &self.snapshots
    }

    /// The copy of a snapshot that the target has, if it lacks nothing that the snapshot has.
    pub fn copy_of(&self, snapshot: &Snapshot) -> Option<&Snapshot> {
        self.best_copy_of(snapshot).filter(|copy| copy.record.lost_files <= snapshot.record.lost_files)
    }

    fn best_copy_of(&self, snapshot: &Snapshot) -> Option<&Snapshot> {
        self.by_origin.get(&origin_of(self.source, snapshot)).map(|&at| &self.known[at])
    }

    /// Copies a snapshot, unless it is there. Files that are damaged in the source are left out of it and named, and it is copied again in
    /// place of that copy once fewer are.
    ///
    /// # Errors
    /// What fails on either side, [`Error::SnapshotGone`] with its id if it was forgotten and pruned meanwhile, or the damage by which nothing of the
    /// snapshot can be read.
    pub fn copy(&mut self, snapshot: &Snapshot, on_progress: OnProgress) -> Result<Copied> {
        self.copy_now(snapshot, on_progress).map_err(|error| self.source.core().explain(&snapshot.id, error))
    }

    fn copy_now(&mut self, snapshot: &Snapshot, on_progress: OnProgress) -> Result<Copied> {
        if let Some(copy) = self.copy_of(snapshot) {
            let stats = WriteStats { outcome: Outcome::Unchanged, ..WriteStats::default() };
            return Ok(Copied { snapshot: copy.clone(), stats, lost: Vec::new(), lost_count: 0, problems: Vec::new() });
        }
        let incomplete = self.best_copy_of(snapshot).cloned();
        let of_predecessor = if incomplete.is_none() { self.predecessor(snapshot) } else { None };
        let after_predecessor = match of_predecessor {
            Some(base) => match self.copy_after(snapshot, Some(base), None, &mut *on_progress) {
                // A tree of one of the three cannot be read: what can be read of this one alone is another matter.
                Err(error) if error.is_unreadable() => None,
                other => Some(other?),
            },
            None => None,
        };
        let copied = match after_predecessor {
            Some(copied) => copied,
            None => {
                let base = incomplete.as_ref().or_else(|| self.nearest(snapshot)).map(Base::any);
                self.copy_after(snapshot, base, incomplete.as_ref(), on_progress)?
            }
        };
        if let Some(incomplete) = incomplete.filter(|_| copied.stats.outcome == Outcome::New) {
            self.target.replace(&incomplete, &copied.snapshot.id)?;
        }
        self.learn(copied.snapshot.clone());
        Ok(copied)
    }

    fn learn(&mut self, snapshot: Snapshot) {
        let origin = origin_of(self.target, &snapshot);
        let lost_files = snapshot.record.lost_files;
        match self.by_origin.get(&origin) {
            Some(&at) if self.known[at].record.lost_files <= lost_files => {}
            Some(&at) => self.known[at] = snapshot,
            None => {
                self.by_origin.insert(origin, self.known.len());
                self.known.push(snapshot);
            }
        }
    }

    /// The copy of the snapshot before this one in its series, or of the one before that.
    fn predecessor(&self, snapshot: &Snapshot) -> Option<Base> {
        let at = self.snapshots.iter().position(|other| other.id == snapshot.id)?;
        let of_series = |other: &&Snapshot| other.record.series == snapshot.record.series;
        self.snapshots[..at].iter().rev().filter(of_series).find_map(|before| {
            let copy = self.copy_of(before)?;
            is_exact(&before.record, &copy.record).then_some(Base {
                id: copy.id,
                root: copy.record.root,
                copy_of: Some(before.record.root),
            })
        })
    }

    /// The snapshot of the target with which this one has most in common, as far as that can be told.
    fn nearest(&self, snapshot: &Snapshot) -> Option<&Snapshot> {
        let of_series = || self.known.iter().filter(|known| known.record.series == snapshot.record.series);
        let earlier = of_series().filter(|known| known.record.order() <= snapshot.record.order());
        let order = |known: &&Snapshot| known.record.order();
        earlier.max_by_key(order).or_else(|| of_series().min_by_key(order))
    }

    fn copy_after(
        &self,
        snapshot: &Snapshot,
        base: Option<Base>,
        incomplete: Option<&Snapshot>,
        on_progress: OnProgress,
    ) -> Result<Copied> {
        let record = &snapshot.record;
        let passed = Progress { files_total: record.files, bytes_total: record.bytes, ..Progress::default() };
        let mut transfer = Transfer {
            chunks: &self.chunks,
            root: record.root,
            writer: match &base {
                Some(Base { id, root, .. }) => {
                    let base = writer::Base { kind: RecordKind::Snapshot, id: *id, root: *root };
                    self.target.write_after(&record.series, base)?
                }
                None => self.target.write(&record.series)?,
            },
            window: Vec::new(),
            window_bytes: 0,
            progress: CopyProgress { passed, read_bytes: 0 },
            on_progress,
            lost: Vec::new(),
            lost_count: 0,
        };
        transfer.take_entries(base.as_ref())?;
        transfer.store_window()?;
        let Transfer { writer, lost, lost_count, .. } = transfer;
        if lost_count > 0 {
            self.source.core().require(&snapshot.id)?;
        }
        let lost_files = record.lost_files + lost_count;
        let problems = writer.problems().to_vec();
        if let Some(incomplete) = incomplete.filter(|incomplete| lost_files >= incomplete.record.lost_files) {
            let stats = WriteStats { outcome: Outcome::Unchanged, ..WriteStats::default() };
            return Ok(Copied { snapshot: incomplete.clone(), stats, lost, lost_count, problems });
        }
        let (snapshot, stats) = writer.commit(Details {
            warnings: lost.iter().chain(&record.warnings).take(WARNINGS_MAX).cloned().collect(),
            warning_count: record.warning_count + lost_count,
            // The same backup may have been taken in there, too.
            skip_if_same: true,
            origin: Some(origin_of(self.source, snapshot)),
            lost_files,
            ..Details::like(record)
        })?;
        Ok(Copied { snapshot, stats, lost, lost_count, problems })
    }
}

/// The very first snapshot of which this is a copy, perhaps itself.
fn origin_of(repository: &Repository, snapshot: &Snapshot) -> String {
    snapshot.record.origin.clone().unwrap_or_else(|| format!("{}/{}", repository.id(), snapshot.id))
}

/// Whether two snapshots of one origin have the same entries: neither lacks any, and none was converted since.
fn is_exact(one: &SnapshotRecord, other: &SnapshotRecord) -> bool {
    let counted = |record: &SnapshotRecord| (record.files, record.bytes, record.sealed, record.lost_files);
    counted(one) == counted(other) && one.lost_files == 0
}

/// The snapshot of the target on which a copy is made.
struct Base {
    id: SnapshotId,
    root: ChunkId,
    /// The tree in the source that has the same entries, if that is known.
    copy_of: Option<ChunkId>,
}

impl Base {
    fn any(snapshot: &Snapshot) -> Base {
        Base { id: snapshot.id, root: snapshot.record.root, copy_of: None }
    }
}

/// A snapshot on its way.
struct Transfer<'c> {
    /// Of the source.
    chunks: &'c Arc<ChunkReader>,
    root: ChunkId,
    writer: SnapshotWriter,
    /// Files that are read next, all together, in the order in which they lie in packs.
    window: Vec<File>,
    window_bytes: u64,
    progress: CopyProgress,
    on_progress: OnProgress<'c>,
    lost: Vec<String>,
    lost_count: u64,
}

/// A file that is to be stored.
struct File {
    name: Name,
    /// Without its content.
    entry: Entry,
    /// In the source.
    content: Content,
    /// The first of its chunks, or all.
    chunks: Vec<ChunkRef>,
}

type Ahead = Arc<HashMap<ChunkId, Decoded>>;

impl Transfer<'_> {
    /// Puts all entries, but for files that wait in the window.
    fn take_entries(&mut self, base: Option<&Base>) -> Result<()> {
        let target_chunks = self.writer.chunks.clone();
        let known = base.map(|base| TreeIter::new(&*target_chunks, base.root, b""));
        let mut known = known.into_iter().flatten().peekable();
        let before = base.and_then(|base| base.copy_of);
        if let Some(base) = base {
            self.writer.follow(base.root);
        }
        read_node(self.chunks, &self.root, None)?;
        for change in changes(self.chunks, before, self.root) {
            let (name, entry) = match change {
                Err(error) if error.is_damage() && before.is_none() => {
                    self.note_loss(format!("a part of the list of files is lost, and all that it names: {error}"));
                    continue;
                }
                change => change?,
            };
            while let Some(item) = known.next_if(|item| !item.as_ref().is_ok_and(|(key, _)| **key >= *name.key())) {
                self.pass(item, before.is_some())?;
            }
            let same_name = known.next_if(|item| item.as_ref().is_ok_and(|(key, _)| **key == *name.key()));
            let same_name = same_name.and_then(Result::ok).and_then(|(_, entry)| Entry::parse(&entry).ok());
            if let Some(entry) = entry {
                self.take(name, entry, same_name.and_then(|entry| entry.content))?;
            }
        }
        known.try_for_each(|item| self.pass(item, before.is_some()))
    }

    /// Goes past what the base alone has, which is an entry of this snapshot, too, if only differences are looked at.
    fn pass(&mut self, item: Result<(Vec<u8>, Vec<u8>)>, is_kept: bool) -> Result<()> {
        if !is_kept {
            return Ok(());
        }
        let (key, bytes) = item?;
        let (name, entry) = parse_item(&key, &bytes)?;
        match &entry.content {
            Some(content) if !self.writer.holds(content)? => self.take_again(name),
            Some(content) => {
                self.writer.put_as_it_is(&key, &bytes);
                self.passed(content.length)
            }
            None => {
                self.writer.put_as_it_is(&key, &bytes);
                Ok(())
            }
        }
    }

    /// Takes an entry of which the copy in the target is damaged.
    fn take_again(&mut self, name: Name) -> Result<()> {
        let item = TreeIter::new(&**self.chunks, self.root, name.key()).next().transpose();
        match item? {
            Some((key, bytes)) if key == name.key() => self.take(name, parse_item(&key, &bytes)?.1, None),
            _ => Err(Error::damaged("a tree", format!("it does not have {name}"))),
        }
    }

    /// Takes an entry of the source. `known` is what the base has under the same name.
    fn take(&mut self, name: Name, mut entry: Entry, known: Option<Content>) -> Result<()> {
        let Some(content) = entry.content.take() else { return self.writer.put(&name, &entry) };
        if let Some(known) = known.filter(|known| is_same(known, &content))
            && self.writer.holds(&known)?
        {
            self.writer.put(&name, &Entry { content: Some(known), ..entry })?;
            return self.passed(content.length);
        }
        let mut chunks = ChunkRefs::of(&**self.chunks, &content);
        let first = match next_window(&mut chunks) {
            Err(error) if error.is_damage() => return self.lose(&name, entry, content.length, &error),
            first => first?,
        };
        let file = File { name, entry, content, chunks: first };
        if is_window(&file.chunks) {
            self.store_window()?;
            let ahead = self.read_ahead(std::slice::from_ref(&file))?;
            return self.store(file, Some(chunks), ahead);
        }
        self.window_bytes += file.content.plaintext_len();
        self.window.push(file);
        if self.window_bytes >= WINDOW_BYTES || self.window.len() >= WINDOW_PARTS {
            self.store_window()
        } else {
            Ok(())
        }
    }

    fn store_window(&mut self) -> Result<()> {
        self.window_bytes = 0;
        let files = mem::take(&mut self.window);
        let ahead = self.read_ahead(&files)?;
        files.into_iter().try_for_each(|file| self.store(file, None, ahead.clone()))
    }

    fn read_ahead(&self, files: &[File]) -> Result<Ahead> {
        let wanted = files.iter().flat_map(|file| &file.chunks).map(|chunk| chunk.id);
        Ok(Arc::new(read_here(self.chunks, wanted)?))
    }

    /// Stores a file of which `rest` are the chunks after the first.
    fn store(&mut self, file: File, rest: Option<ChunkRefs<ChunkReader>>, ahead: Ahead) -> Result<()> {
        let File { name, entry, content, chunks } = file;
        let mut reader = ContentReader {
            chunks: self.chunks,
            queue: chunks.into(),
            rest,
            ahead,
            piece: Decoded::default(),
            at: 0,
            progress: self.progress,
            on_progress: &mut *self.on_progress,
            failure: None,
        };
        let stored = self.writer.store_copy(&name, &content, &mut reader);
        self.progress.read_bytes = reader.progress.read_bytes;
        match (stored, reader.failure) {
            (Ok(stored), _) => {
                self.writer.put(&name, &Entry { content: Some(stored), ..entry })?;
                self.passed(content.length)
            }
            (Err(Error::Source(_)), Some(error)) if error.is_damage() => {
                self.lose(&name, entry, content.length, &error)
            }
            (Err(Error::Source(_)), Some(error)) => Err(error),
            (Err(error @ Error::WrongContent), _) => self.lose(&name, entry, content.length, &error),
            (Err(error), _) => Err(error),
        }
    }

    /// Leaves out a file that cannot be read. What Manifest.db names stays a name without content, as if it had not been in the folder.
    fn lose(&mut self, name: &Name, entry: Entry, length: u64, error: &Error) -> Result<()> {
        self.note_loss(format!("{name} is damaged where it was copied from: {error}"));
        if !name.domain().is_empty() {
            self.writer.put(name, &Entry { place: None, place_mtime_ns: None, ..entry })?;
        }
        self.passed(length)
    }

    fn note_loss(&mut self, what: String) {
        self.lost_count += 1;
        if self.lost.len() < WARNINGS_MAX {
            self.lost.push(what);
        }
    }

    fn passed(&mut self, length: u64) -> Result<()> {
        self.progress.passed.files_done += 1;
        self.progress.passed.bytes_done += length;
        heed((self.on_progress)(self.progress))
    }
}

/// What the tree `after` has where it differs from `before`, or all that it has, by name.
fn changes<'c>(
    chunks: &'c Arc<ChunkReader>,
    before: Option<ChunkId>,
    after: ChunkId,
) -> Box<dyn Iterator<Item = Result<(Name, Option<Entry>)>> + 'c> {
    match before {
        Some(before) => {
            let diff = Diff::new(chunks.clone(), before, after);
            Box::new(diff.map(|change| change.map(|change| (change.name, change.after))))
        }
        None => Box::new(TreeIter::new(&**chunks, after, b"").map(|item| {
            let (key, entry) = item?;
            parse_item(&key, &entry).map(|(name, entry)| (name, Some(entry)))
        })),
    }
}

/// Whether two contents are of the same bytes, kept in the same way.
fn is_same(one: &Content, other: &Content) -> bool {
    (one.hash, one.length, &one.sealing) == (other.hash, other.length, &other.sealing)
}

/// As many chunks as are read at once.
fn next_window(chunks: &mut ChunkRefs<ChunkReader>) -> Result<Vec<ChunkRef>> {
    let mut window = Vec::new();
    while !is_window(&window)
        && let Some(chunk) = chunks.next()
    {
        window.push(chunk?);
    }
    Ok(window)
}

fn is_window(chunks: &[ChunkRef]) -> bool {
    chunks.len() >= WINDOW_PARTS || chunks.iter().map(|chunk| chunk.len).sum::<u64>() >= WINDOW_BYTES
}

/// What is kept of a content, chunk after chunk.
struct ContentReader<'t> {
    chunks: &'t ChunkReader,
    queue: VecDeque<ChunkRef>,
    /// What comes after the queue.
    rest: Option<ChunkRefs<'t, ChunkReader>>,
    /// What of the queue has been read.
    ahead: Ahead,
    /// The chunk that is being handed out, and how much of it was.
    piece: Decoded,
    at: usize,
    progress: CopyProgress,
    on_progress: OnProgress<'t>,
    /// Why a read failed.
    failure: Option<Error>,
}

impl ContentReader<'_> {
    fn next_piece(&mut self) -> Result<Option<Decoded>> {
        if self.queue.is_empty()
            && let Some(rest) = &mut self.rest
        {
            self.queue = next_window(rest)?.into();
            self.ahead = Arc::new(read_here(self.chunks, self.queue.iter().map(|chunk| chunk.id))?);
        }
        let Some(ChunkRef { id, .. }) = self.queue.pop_front() else { return Ok(None) };
        let piece = match self.ahead.get(&id) {
            Some(piece) => piece.clone(),
            None => Decoded::alone(self.chunks.read(&id, ChunkKind::Data)?),
        };
        self.progress.read_bytes += piece.bytes().len() as u64;
        self.progress.passed.bytes_done += piece.bytes().len() as u64;
        heed((self.on_progress)(self.progress))?;
        Ok(Some(piece))
    }
}

impl Read for ContentReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.bytes().len() {
            match self.next_piece() {
                Ok(Some(piece)) => (self.piece, self.at) = (piece, 0),
                Ok(None) => return Ok(0),
                Err(error) => {
                    // Not ErrorKind::Interrupted, after which readers try again.
                    self.failure = Some(error);
                    return Err(io::Error::other("the content cannot be read"));
                }
            }
        }
        let rest = &self.piece.bytes()[self.at..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}
