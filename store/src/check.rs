//! Whether everything is there and as it was written.

use std::{
    collections::HashSet,
    ops::ControlFlow,
    sync::atomic::{AtomicU64, Ordering},
};

use rayon::prelude::*;

use crate::{
    Progress,
    chunks::ChunkReader,
    content::for_each_chunk,
    entry::{Content, Entry, Kind},
    error::{Error, Problem, Result},
    id::{ChunkId, FileHash},
    index::{INDEX_FOLDER, NAME_MISMATCH, Place, SegmentPack, list_packs},
    name::Name,
    pack::{Pack, chunk_id, pack_file},
    parity,
    repository::{Probe, Repository},
    snapshot::{RecordKind, SnapshotRecord, read_records, read_snapshots},
    storage::Storage,
    tree::{parse_item, read_node},
};

/// Problems with the files of one snapshot beyond this are only counted.
const NAMED_FILES_MAX: u64 = 100;

/// How far a check goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Every file of the repository but packs is read, every pack's directory, and every tree; all chunks are there.
    Structure,
    /// Beyond it, every pack's bytes match its name.
    Packs,
    /// Beyond it, every chunk decodes to what its id says.
    ReadData,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// What is wrong, by file.
    pub problems: Vec<Problem>,
    /// Snapshots that could be read.
    pub snapshots: u64,
    /// Packs that were looked at.
    pub packs: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Bytes of packs that were read whole.
    pub bytes_read: u64,
}

/// What is called while work goes on; `Break` ends it with [`Error::Interrupted`].
pub type OnEvent<'a> = &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync);

/// Checks a repository.
///
/// # Errors
/// Only what makes checking impossible; everything else is in the report.
pub fn check(repository: &Repository, depth: Depth, on_event: OnEvent) -> Result<CheckReport> {
    let storage = &*repository.core().storage;
    let mut report = CheckReport { problems: repository.problems().to_vec(), ..CheckReport::default() };
    report.problems.extend(check_names(storage, INDEX_FOLDER)?);
    let (chunks, problems) = repository.chunks()?;
    report.problems.extend(problems);
    let unreadable = check_packs(&chunks, depth, &mut report, on_event)?;
    if repository.core().config.parity {
        report.problems.extend(check_parity(storage, depth > Depth::Structure)?);
    }
    let snapshots = read_snapshots(storage, &repository.core().sealer, None)?;
    report.problems.extend(snapshots.problems);
    let mut trees = Trees { chunks: &chunks, unreadable, whole: HashSet::new() };
    for snapshot in &snapshots.snapshots {
        report.snapshots += 1;
        report.problems.extend(trees.check(&RecordKind::Snapshot.file(&snapshot.id), &snapshot.record)?);
    }
    for (id, record) in read_records(storage, &repository.core().sealer, RecordKind::Parked)? {
        let file = RecordKind::Parked.file(&id);
        match record {
            Ok(record) => report.problems.extend(trees.check(&file, &record)?),
            Err(error) => report.problems.push(Problem::from_error(&file, error)),
        }
    }
    report.problems.sort();
    report.problems.dedup();
    Ok(report)
}

/// Checks that packs, segments and snapshots match their names, which takes no password.
///
/// # Errors
/// Only what makes checking impossible; everything else is in the report.
pub fn check_packs_without_key(storage: &dyn Storage, on_event: OnEvent) -> Result<CheckReport> {
    let Probe { parity, problems, .. } = Repository::probe(storage)?;
    let mut report = CheckReport { problems, ..CheckReport::default() };
    report.problems.extend(check_names(storage, INDEX_FOLDER)?);
    report.problems.extend(check_names(storage, RecordKind::Snapshot.folder())?);
    report.problems.extend(check_names(storage, RecordKind::Parked.folder())?);
    let packs: Vec<SegmentPack> =
        list_packs(storage)?.into_iter().map(|(name, len)| SegmentPack { name, len }).collect();
    let problems = each_pack(&packs, on_event, |pack| {
        match read_pack(storage, pack).and_then(|bytes| check_name(pack, &bytes)) {
            Ok(()) => Vec::new(),
            Err(error) => vec![Problem::from_error(&pack_file(&pack.name), error)],
        }
    })?;
    report.problems.extend(problems);
    if parity {
        report.problems.extend(check_parity(storage, true)?);
    }
    report.packs = packs.len() as u64;
    report.bytes_read = packs.iter().map(|pack| pack.len).sum();
    report.problems.sort();
    Ok(report)
}

/// What is wrong with the sidecars of all packs and snapshots that are there.
fn check_parity(storage: &dyn Storage, deep: bool) -> Result<Vec<Problem>> {
    let snapshots = storage.list_folder(RecordKind::Snapshot.folder())?;
    let snapshots = snapshots.iter().filter_map(|(name, _)| FileHash::from_hex(name));
    let protected: Vec<FileHash> = list_packs(storage)?.into_keys().chain(snapshots).collect();
    Ok(parity::check(storage, &protected, deep)?.into_iter().map(|(_, problem)| problem).collect())
}

/// The files of a folder whose bytes do not match their names.
fn check_names(storage: &dyn Storage, folder: &str) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for (name, len) in storage.list_folder(folder)? {
        let Some(hash) = FileHash::from_hex(&name) else { continue };
        let file = format!("{folder}/{name}");
        match storage.hash(&file, len) {
            Ok(found) if found == hash => {}
            Ok(_) => problems.push(Problem::new(file, NAME_MISMATCH)),
            Err(error) if error.is_missing_file() => {}
            Err(error) => problems.push(Problem::from_error(&file, error)),
        }
    }
    Ok(problems)
}

/// Looks at every pack, and returns what cannot be read.
fn check_packs(chunks: &ChunkReader, depth: Depth, report: &mut CheckReport, on_event: OnEvent) -> Result<Unreadable> {
    let packs: Vec<SegmentPack> = chunks.index().packs().collect();
    let chunk_count = AtomicU64::new(0);
    let findings = each_pack(&packs, on_event, |pack| match check_pack(chunks, depth, pack) {
        Ok((count, findings)) => {
            chunk_count.fetch_add(count as u64, Ordering::Relaxed);
            findings
        }
        Err(error) => vec![Finding { pack: pack.name, lost: Lost::Pack, error }],
    })?;
    report.packs = packs.len() as u64;
    report.chunks = chunk_count.into_inner();
    if depth > Depth::Structure {
        report.bytes_read = packs.iter().map(|pack| pack.len).sum();
    }
    let mut unreadable = Unreadable::default();
    for Finding { pack, lost, error } in findings {
        match lost {
            Lost::Pack => unreadable.packs.insert(pack),
            Lost::Name => unreadable.misnamed.insert(pack),
            Lost::Chunk(ordinal) => unreadable.chunks.insert((pack, ordinal)),
        };
        report.problems.push(Problem::from_error(&pack_file(&pack), error));
    }
    Ok(unreadable)
}

/// What cannot be read, or must be looked at twice.
#[derive(Default)]
struct Unreadable {
    packs: HashSet<FileHash>,
    /// By pack and ordinal.
    chunks: HashSet<(FileHash, u16)>,
    /// Packs that are not what their names say: even their directories may be others than those of the index.
    misnamed: HashSet<FileHash>,
}

/// Something wrong with a pack.
struct Finding {
    pack: FileHash,
    lost: Lost,
    error: Error,
}

/// What cannot be relied on.
enum Lost {
    Pack,
    /// Its name is not its bytes', but it may still hold whole chunks: those are judged one by one.
    Name,
    /// The chunk of this ordinal.
    Chunk(u16),
}

fn check_pack(chunks: &ChunkReader, depth: Depth, pack: &SegmentPack) -> Result<(usize, Vec<Finding>)> {
    let core = &chunks.core;
    let open = Pack::open(&*core.storage, &core.sealer, &pack.name, pack.len)?;
    let mut findings = Vec::new();
    if depth >= Depth::Packs {
        let bytes = read_pack(&*core.storage, pack)?;
        let misnamed = check_name(pack, &bytes);
        // Which chunks of a pack that is not what it was are lost is worth a look at any depth.
        if depth == Depth::ReadData || misnamed.is_err() {
            findings.extend(check_chunks(chunks, &open, pack.name, &bytes));
        }
        findings.extend(misnamed.err().map(|error| Finding { pack: pack.name, lost: Lost::Name, error }));
    }
    Ok((open.directory.chunks.len(), findings))
}

fn read_pack(storage: &dyn Storage, pack: &SegmentPack) -> Result<Vec<u8>> {
    let file = pack_file(&pack.name);
    let len = usize::try_from(pack.len).ok().filter(|&len| len < 1 << 31);
    storage.read_exactly(&file, 0, len.ok_or_else(|| Error::damaged(&file, "it is too long"))?)
}

fn check_name(pack: &SegmentPack, bytes: &[u8]) -> Result<()> {
    let is_named = FileHash::of(bytes) == pack.name;
    if is_named { Ok(()) } else { Err(Error::damaged(pack_file(&pack.name), NAME_MISMATCH)) }
}

/// Decodes every frame of a pack, and checks the id of every chunk.
fn check_chunks(chunks: &ChunkReader, pack: &Pack, name: FileHash, bytes: &[u8]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut ordinals = 0u16..;
    for (number, inside) in pack.directory.chunks.chunk_by(|a, b| a.frame == b.frame).enumerate() {
        let frame = &pack.directory.frames[number];
        let sealed = bytes[frame.offset as usize..][..frame.sealed_len].to_vec();
        let decoded = chunks.decode(pack, number as u32, sealed);
        for (chunk, ordinal) in inside.iter().zip(&mut ordinals) {
            let whole = decoded.as_ref().map(|frame_bytes| {
                let plaintext = &frame_bytes[chunk.offset as usize..][..chunk.len as usize];
                chunk_id(&chunks.core.keys.id, frame.kind, plaintext) == chunk.id
            });
            let what = match whole {
                Ok(true) => continue,
                Ok(false) => format!("chunk {ordinal} is not what its id says"),
                Err(error) => format!("chunk {ordinal} cannot be read: {error}"),
            };
            findings.push(Finding { pack: name, lost: Lost::Chunk(ordinal), error: Error::damaged(&pack.file, what) });
        }
    }
    findings
}

/// Calls `look` for every pack on all cores, and gathers what it finds.
fn each_pack<F: Send>(
    packs: &[SegmentPack],
    on_event: OnEvent,
    look: impl Fn(&SegmentPack) -> Vec<F> + Sync,
) -> Result<Vec<F>> {
    let (files_done, bytes_done) = (AtomicU64::new(0), AtomicU64::new(0));
    let (files_total, bytes_total) = (packs.len() as u64, packs.iter().map(|pack| pack.len).sum());
    let found: Vec<Vec<F>> = packs
        .par_iter()
        .map(|pack| {
            let found = look(pack);
            let files_done = files_done.fetch_add(1, Ordering::Relaxed) + 1;
            let bytes_done = bytes_done.fetch_add(pack.len, Ordering::Relaxed) + pack.len;
            match on_event(Progress { files_done, files_total, bytes_done, bytes_total }) {
                ControlFlow::Continue(()) => Ok(found),
                ControlFlow::Break(()) => Err(Error::Interrupted),
            }
        })
        .collect::<Result<_>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// Walks trees, nodes that are shared by snapshots once.
struct Trees<'a> {
    chunks: &'a ChunkReader,
    unreadable: Unreadable,
    /// Nodes below which nothing is wrong.
    whole: HashSet<ChunkId>,
}

impl Trees<'_> {
    /// What is wrong with the tree of the record in `file`.
    fn check(&mut self, file: &str, record: &SnapshotRecord) -> Result<Vec<Problem>> {
        let (mut problems, mut more) = (Vec::new(), 0u64);
        let mut note = |what: String| {
            if (problems.len() as u64) < NAMED_FILES_MAX {
                problems.push(Problem::new(file, what));
            } else {
                more += 1;
            }
        };
        self.check_node(&record.root, None, &mut note)?;
        if more > 0 {
            problems.push(Problem::new(file, format!("{more} more of its files are damaged")));
        }
        Ok(problems)
    }

    /// Whether all below the node is whole.
    fn check_node(&mut self, id: &ChunkId, above: Option<(u8, &[u8])>, note: &mut dyn FnMut(String)) -> Result<bool> {
        if self.whole.contains(id) {
            return Ok(true);
        }
        let node = match read_node(self.chunks, id, above) {
            Ok(node) => node,
            Err(error @ Error::Storage { .. }) => return Err(error),
            Err(error) => {
                let from = above.map_or_else(String::new, |(_, key)| format!(" from {}", name_of(key)));
                note(format!("a part of its tree{from} on is lost: {error}"));
                return Ok(false);
            }
        };
        let mut whole = true;
        for at in 0..node.len() {
            whole &= if node.level > 0 {
                self.check_node(&node.child(at), Some((node.level - 1, node.key(at))), note)?
            } else {
                self.check_entry(node.key(at), node.value(at), note)?
            };
        }
        if whole {
            self.whole.insert(*id);
        }
        Ok(whole)
    }

    fn check_entry(&self, key: &[u8], value: &[u8], note: &mut dyn FnMut(String)) -> Result<bool> {
        let (name, entry) = match parse_item(key, value) {
            Ok(item) => item,
            Err(error) => {
                note(error.to_string());
                return Ok(false);
            }
        };
        let Entry { kind: Kind::File, content: Some(content), .. } = &entry else { return Ok(true) };
        match self.lost_bytes(content) {
            Ok(0) => Ok(true),
            Ok(lost) => {
                note(format!("{name} has lost {lost} of {} bytes", content.length));
                Ok(false)
            }
            Err(error @ Error::Storage { .. }) => Err(error),
            Err(error) => {
                note(format!("{name} is lost: {error}"));
                Ok(false)
            }
        }
    }

    /// How many bytes of a content lie in no pack that can be read.
    fn lost_bytes(&self, content: &Content) -> Result<u64> {
        let mut lost = 0;
        for_each_chunk(self.chunks, content, &mut |chunk| {
            let places = self.chunks.places(&chunk.id)?;
            let readable = places.iter().any(|place| self.is_readable(&chunk.id, place));
            lost += if readable { 0 } else { chunk.len };
            Ok(())
        })?;
        Ok(lost)
    }

    fn is_readable(&self, id: &ChunkId, Place { pack, ordinal }: &Place) -> bool {
        let Unreadable { packs, chunks, misnamed } = &self.unreadable;
        let is_there = || {
            let open = self.chunks.pack(pack);
            open.is_ok_and(|open| open.directory.chunks.get(usize::from(*ordinal)).is_some_and(|chunk| chunk.id == *id))
        };
        !packs.contains(&pack.name)
            && !chunks.contains(&(pack.name, *ordinal))
            && (!misnamed.contains(&pack.name) || is_there())
    }
}

fn name_of(key: &[u8]) -> String {
    Name::from_key(key).map_or_else(|_| String::from_utf8_lossy(key).into_owned(), |name| name.to_string())
}
