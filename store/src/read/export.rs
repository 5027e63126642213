//! A snapshot back into a folder, byte for byte.
//!
//! Files are read in windows of some megabytes. Within a window, chunks are read in the order in which they lie in packs, neighbours in one
//! read, and decoded on all cores; while one window is written, the next is read.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::{self, File},
    io::{self, Write},
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rayon::prelude::*;

use crate::{
    error::{Error, Problem, Result},
    format::{
        chunk_list::for_each_chunk,
        entry::{ChunkRef, Content, Entry, Kind},
        pack::{ChunkKind, Pack, SegmentPack},
        phone_cipher::Resealing,
    },
    id::{ChunkId, FileHash},
    name::TreePath,
    progress::{OnEvent, Progress, heed},
    read::{
        chunks::ChunkReader,
        reader::{Prefix, SnapshotReader},
    },
};

/// Decoded bytes of a window; two are in memory at a time.
pub(crate) const WINDOW_BYTES: u64 = 24 << 20;
pub(crate) const WINDOW_PARTS: usize = 4096;
/// Frames of a pack that are no farther apart are read at once, up to a length.
const READ_GAP_MAX: u64 = 128 << 10;
const READ_MAX: u64 = 4 << 20;

/// How to export.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExportOptions {
    /// Write into a folder that exists, replacing files of the same names. Others stay, but those of another backup, which no force
    /// mixes with a snapshot: with them in it the folder is refused.
    pub force: bool,
}

/// What an export did.
#[derive(Debug, Default)]
pub struct ExportStats {
    /// Files written, and their bytes.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Files that an earlier, broken run of this export had written.
    pub skipped_files: u64,
    /// Files that are whole, but have not the time that they should have: the folder does not take it.
    pub without_time: u64,
    /// Why it does not, of the first of them.
    pub why_without_time: Option<String>,
    /// Files that the snapshot names without content: they were not in the folder that was imported.
    pub missing: u64,
    /// Files that could not be written whole, by place; none of them is left half written.
    pub problems: Vec<Problem>,
}

/// Writes every file of a snapshot to the folder `target`.
///
/// # Errors
/// [`Error::TargetExists`] if there is something else, [`Error::OtherBackup`] if files of another backup would be left in it, [`Error::Target`] if the folder cannot be written, [`Error::SnapshotGone`] if the snapshot was forgotten and
/// pruned meanwhile. What is damaged in the repository is in [`ExportStats::problems`].
pub fn export(
    reader: &SnapshotReader,
    target: &Path,
    options: &ExportOptions,
    on_event: OnEvent,
) -> Result<ExportStats> {
    let (core, id) = (&reader.chunks.core, &reader.snapshot().id);
    let stats = write_all(reader, target, options, on_event).map_err(|error| core.explain(id, error))?;
    if !stats.problems.is_empty() {
        core.require(id)?;
    }
    Ok(stats)
}

fn write_all(
    reader: &SnapshotReader,
    target: &Path,
    options: &ExportOptions,
    on_event: OnEvent,
) -> Result<ExportStats> {
    let target = Target::begin(reader, target, options)?;
    write_to(target, reader, on_event)
}

fn write_to(target: Target, reader: &SnapshotReader, on_event: OnEvent) -> Result<ExportStats> {
    let record = &reader.snapshot().record;
    let mut totals = Progress { files_total: record.files, bytes_total: record.bytes, ..Progress::default() };
    let (mut stats, mut window) = (ExportStats::default(), Window::default());
    // What was read of the window before the current one, on its way to the disk.
    let mut ready = Ready::default();
    for item in reader.entries(&Prefix::all()) {
        let (name, entry) = match item {
            Ok(item) => item,
            Err(error @ (Error::Storage { .. } | Error::SnapshotGone { .. })) => return Err(error),
            Err(error) => {
                stats.problems.push(Problem::from_error("a part of the snapshot's tree", error));
                continue;
            }
        };
        let Some(place) = entry.place_for(&name) else {
            stats.missing += u64::from(entry.kind == Kind::File);
            continue;
        };
        let Some(file) = target.file(place, entry, &mut stats)? else { continue };
        let queued = for_each_chunk(&reader.chunks, &file.content, &mut |chunk| {
            window.add(&file, chunk);
            if window.is_full() {
                ready = advance(reader, &target, &mut window, &ready, &mut stats)?;
                report(&mut totals, &stats, on_event)?;
            }
            Ok(())
        });
        match queued {
            Ok(()) => window.end(&file),
            Err(error) if error.is_unreadable() => file.give_up(error, &mut stats),
            Err(error) => return Err(error),
        }
        if window.is_full() {
            ready = advance(reader, &target, &mut window, &ready, &mut stats)?;
            report(&mut totals, &stats, on_event)?;
        }
    }
    ready = advance(reader, &target, &mut window, &ready, &mut stats)?;
    advance(reader, &target, &mut window, &ready, &mut stats)?;
    report(&mut totals, &stats, on_event)?;
    target.finish(&stats)?;
    stats.problems.sort();
    Ok(stats)
}

fn report(totals: &mut Progress, stats: &ExportStats, on_event: OnEvent) -> Result<()> {
    totals.files_done = stats.files + stats.skipped_files;
    totals.bytes_done = stats.bytes;
    heed(on_event(*totals))
}

/// Reads `window` while `ready` is written; returns what was read.
fn advance(
    reader: &SnapshotReader,
    target: &Target,
    window: &mut Window,
    ready: &Ready,
    stats: &mut ExportStats,
) -> Result<Ready> {
    let parts = std::mem::take(&mut window.parts);
    *window = Window::default();
    let (chunks, written) = rayon::join(|| read_chunks(&reader.chunks, &parts), || write_parts(target, ready));
    written?.into_iter().for_each(|outcome| outcome.count(stats));
    Ok(Ready { parts, chunks: chunks? })
}

/// Consecutive chunks of one file, to be written at once.
struct Part {
    file: Arc<ExportFile>,
    chunks: Vec<ChunkRef>,
    is_last: bool,
}

/// Parts being gathered.
#[derive(Default)]
struct Window {
    parts: Vec<Part>,
    bytes: u64,
}

impl Window {
    fn add(&mut self, file: &Arc<ExportFile>, chunk: ChunkRef) {
        self.part(file).chunks.push(chunk);
        self.bytes += chunk.len;
    }

    fn end(&mut self, file: &Arc<ExportFile>) {
        self.part(file).is_last = true;
    }

    fn part(&mut self, file: &Arc<ExportFile>) -> &mut Part {
        if !self.parts.last().is_some_and(|part| Arc::ptr_eq(&part.file, file)) {
            self.parts.push(Part { file: file.clone(), chunks: Vec::new(), is_last: false });
        }
        self.parts.last_mut().expect("one was pushed")
    }

    fn is_full(&self) -> bool {
        self.bytes >= WINDOW_BYTES || self.parts.len() >= WINDOW_PARTS
    }
}

/// Parts whose chunks are in memory.
#[derive(Default)]
struct Ready {
    parts: Vec<Part>,
    chunks: HashMap<ChunkId, Decoded>,
}

/// A chunk's bytes within its decoded frame.
#[derive(Clone, Default)]
pub(crate) struct Decoded {
    frame: Arc<Vec<u8>>,
    start: usize,
    len: usize,
}

impl Decoded {
    /// One that has its frame to itself.
    pub(crate) fn alone(bytes: Vec<u8>) -> Decoded {
        Decoded { start: 0, len: bytes.len(), frame: Arc::new(bytes) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.frame[self.start..self.start + self.len]
    }
}

/// Chunks of one pack to be read at once, by frame.
struct Run {
    pack: Arc<Pack>,
    first_frame: u32,
    last_frame: u32,
    wanted: Vec<(u32, u16, ChunkId)>,
}

/// Every chunk of `parts` that can be read.
fn read_chunks(chunks: &ChunkReader, parts: &[Part]) -> Result<HashMap<ChunkId, Decoded>> {
    let wanted = parts.iter().flat_map(|part| &part.chunks).map(|chunk| chunk.id);
    let runs = plan(chunks, wanted)?;
    let read: Vec<Vec<(ChunkId, Decoded)>> = runs.par_iter().map(|run| read_run(chunks, run)).collect();
    Ok(read.into_iter().flatten().collect())
}

/// The same for any chunks, on this thread alone.
pub(crate) fn read_here(
    chunks: &ChunkReader,
    wanted: impl Iterator<Item = ChunkId>,
) -> Result<HashMap<ChunkId, Decoded>> {
    Ok(plan(chunks, wanted)?.iter().flat_map(|run| read_run(chunks, run)).collect())
}

/// The reads that bring chunks, in the order of packs. A pack that cannot be opened is left to the slow path.
fn plan(chunks: &ChunkReader, wanted: impl Iterator<Item = ChunkId>) -> Result<Vec<Run>> {
    let mut seen = HashSet::new();
    let mut by_pack: BTreeMap<FileHash, (SegmentPack, Vec<(u16, ChunkId)>)> = BTreeMap::new();
    for id in wanted {
        if seen.insert(id)
            && let Some(place) = chunks.places(&id)?.first()
        {
            by_pack.entry(place.pack.name).or_insert((place.pack, Vec::new())).1.push((place.ordinal, id));
        }
    }
    let mut runs = Vec::new();
    for (pack, wanted) in by_pack.into_values() {
        if let Ok(open) = chunks.pack(&pack) {
            plan_pack(&open, wanted, &mut runs);
        }
    }
    Ok(runs)
}

fn plan_pack(pack: &Arc<Pack>, wanted: Vec<(u16, ChunkId)>, runs: &mut Vec<Run>) {
    let frame_of = |ordinal: u16| pack.directory.chunks.get(usize::from(ordinal)).map(|chunk| chunk.frame);
    let mut wanted: Vec<(u32, u16, ChunkId)> =
        wanted.into_iter().filter_map(|(ordinal, id)| Some((frame_of(ordinal)?, ordinal, id))).collect();
    wanted.sort_unstable();
    let frames = &pack.directory.frames;
    let first_new = runs.len();
    for item in wanted {
        let frame = &frames[item.0 as usize];
        let fits = |run: &Run| {
            let (first, last) = (&frames[run.first_frame as usize], &frames[run.last_frame as usize]);
            let gap = frame.offset.saturating_sub(last.offset + last.sealed_len as u64);
            gap <= READ_GAP_MAX && frame.offset + frame.sealed_len as u64 - first.offset <= READ_MAX
        };
        match runs[first_new..].last_mut().filter(|run| fits(run)) {
            Some(run) => {
                run.last_frame = item.0;
                run.wanted.push(item);
            }
            None => runs.push(Run { pack: pack.clone(), first_frame: item.0, last_frame: item.0, wanted: vec![item] }),
        }
    }
}

/// The chunks of a run that are whole.
fn read_run(chunks: &ChunkReader, run: &Run) -> Vec<(ChunkId, Decoded)> {
    let frames = &run.pack.directory.frames;
    let (first, last) = (&frames[run.first_frame as usize], &frames[run.last_frame as usize]);
    let len = (last.offset + last.sealed_len as u64 - first.offset) as usize;
    let Ok(bytes) = chunks.core.storage.read_exactly(&run.pack.file, first.offset, len) else { return Vec::new() };
    let mut read = Vec::with_capacity(run.wanted.len());
    for wanted in run.wanted.chunk_by(|a, b| a.0 == b.0) {
        let number = wanted[0].0;
        let frame = &frames[number as usize];
        let sealed = bytes[(frame.offset - first.offset) as usize..][..frame.sealed_len].to_vec();
        let Ok(decoded) = chunks.decode(&run.pack, number, sealed) else { continue };
        let decoded = Arc::new(decoded);
        for (_, ordinal, id) in wanted {
            if chunks.chunk_of_frame(&run.pack, *ordinal, &decoded, id, ChunkKind::Data).is_ok() {
                let chunk = &run.pack.directory.chunks[usize::from(*ordinal)];
                let (start, len) = (chunk.offset as usize, chunk.len as usize);
                read.push((*id, Decoded { frame: decoded.clone(), start, len }));
            }
        }
    }
    read
}

/// What became of a part.
enum Outcome {
    Written {
        bytes: u64,
        is_last: bool,
        /// Why it has not its time.
        without_time: Option<io::Error>,
    },
    Failed(Problem),
    /// The file had failed before.
    Nothing,
}

impl Outcome {
    fn count(self, stats: &mut ExportStats) {
        match self {
            Outcome::Written { bytes, is_last, without_time } => {
                stats.bytes += bytes;
                stats.files += u64::from(is_last);
                if let Some(error) = without_time {
                    stats.without_time += 1;
                    stats.why_without_time.get_or_insert_with(|| error.to_string());
                }
            }
            Outcome::Failed(problem) => stats.problems.push(problem),
            Outcome::Nothing => {}
        }
    }
}

fn write_parts(target: &Target, ready: &Ready) -> Result<Vec<Outcome>> {
    ready.parts.par_iter().map(|part| write_part(target, part, &ready.chunks)).collect()
}

fn write_part(target: &Target, part: &Part, decoded: &HashMap<ChunkId, Decoded>) -> Result<Outcome> {
    let mut progress = part.file.progress.lock().unwrap_or_else(PoisonError::into_inner);
    let mut open = match std::mem::replace(&mut *progress, FileProgress::Ended) {
        FileProgress::Ended => return Ok(Outcome::Nothing),
        FileProgress::Open(open) => open,
        FileProgress::New => match OpenFile::create(target, &part.file) {
            Ok(open) => Box::new(open),
            // Of two places, or of two that a file system takes for one, the first has it.
            Err(Error::Target { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                return Ok(Outcome::Failed(Problem::new(part.file.place.as_str(), "another file has this place")));
            }
            Err(error) => return Err(error),
        },
    };
    let mut bytes = 0;
    for chunk in &part.chunks {
        let written = match decoded.get(&chunk.id) {
            Some(chunk) => open.write(chunk.bytes()),
            None => match target.chunks.read(&chunk.id, ChunkKind::Data) {
                Ok(plaintext) => open.write(&plaintext),
                Err(error) => return open.give_up(&part.file, error),
            },
        };
        bytes += written.map_err(|source| target_error(&open.path, source))?;
    }
    if part.is_last {
        bytes += open.write_end(&part.file.content).map_err(|source| target_error(&open.path, source))?;
    }
    let mut without_time = None;
    if !part.is_last {
        *progress = FileProgress::Open(open);
    } else if *open.hasher.finalize().as_bytes() != part.file.content.hash {
        return open.give_up(&part.file, Error::WrongContent);
    } else {
        without_time = open.finish(part.file.mtime_ns, target.set_time).err();
    }
    Ok(Outcome::Written { bytes, is_last: part.is_last, without_time })
}

/// A file on its way out; its parts are written one after another.
struct ExportFile {
    place: TreePath,
    content: Content,
    mtime_ns: Option<i64>,
    progress: Mutex<FileProgress>,
}

enum FileProgress {
    New,
    Open(Box<OpenFile>),
    Ended,
}

impl ExportFile {
    /// Nothing more is written, and what was is removed.
    fn give_up(&self, error: Error, stats: &mut ExportStats) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if let FileProgress::Open(open) = std::mem::replace(&mut *progress, FileProgress::Ended) {
            let _ = fs::remove_file(&open.path);
        }
        stats.problems.push(Problem::of(self.place.as_str(), error));
    }
}

struct OpenFile {
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    /// Of a sealed content.
    resealing: Option<Resealing>,
}

impl OpenFile {
    /// Creates the file; what has its name is replaced, never followed.
    fn create(target: &Target, file: &ExportFile) -> Result<OpenFile> {
        let path = target.path_of(&file.place)?;
        if let Some(parent) = path.parent() {
            target.create_folder(parent)?;
        }
        if target.existed {
            match fs::remove_file(&path) {
                Err(_) if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) => {
                    return Err(in_the_way(&path, "a file"));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(target_error(&path, error)),
                _ => {}
            }
        }
        let created = File::create_new(&path).map_err(|error| target_error(&path, error))?;
        let resealing = file.content.sealing.as_ref().map(Resealing::of);
        Ok(OpenFile { path, file: created, hasher: blake3::Hasher::new(), resealing })
    }

    /// Writes the next bytes of what is kept, and says how many bytes of the file they made.
    fn write(&mut self, bytes: &[u8]) -> io::Result<u64> {
        match &mut self.resealing {
            Some(resealing) => {
                let ciphertext = resealing.seal(bytes)?;
                self.write_out(&ciphertext)
            }
            None => self.write_out(bytes),
        }
    }

    /// Writes what a sealed content ends with, as [`write`](OpenFile::write).
    fn write_end(&mut self, content: &Content) -> io::Result<u64> {
        match (self.resealing.take(), &content.sealing) {
            (Some(resealing), Some(sealing)) => self.write_out(&resealing.finish(sealing, content.length)?),
            _ => Ok(0),
        }
    }

    fn write_out(&mut self, bytes: &[u8]) -> io::Result<u64> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)?;
        Ok(bytes.len() as u64)
    }

    /// Sets the time last: a file that has it is whole. Some shares refuse it, which spoils nothing but that a broken export
    /// writes the file again.
    fn finish(self, mtime_ns: Option<i64>, set_time: SetTime) -> io::Result<()> {
        mtime_ns.map_or(Ok(()), |mtime_ns| set_time(&self.file, system_time(mtime_ns)))
    }

    fn give_up(self, file: &ExportFile, error: Error) -> Result<Outcome> {
        let _ = fs::remove_file(&self.path);
        if error.is_unreadable() { Ok(Outcome::Failed(Problem::of(file.place.as_str(), error))) } else { Err(error) }
    }
}

/// How a file gets its time; a test refuses it.
type SetTime = fn(&File, SystemTime) -> io::Result<()>;

/// The folder that is written.
struct Target<'a> {
    chunks: &'a ChunkReader,
    root: PathBuf,
    /// Lies beside the folder while it is not complete, and names the snapshot.
    marker: PathBuf,
    /// Whether the folder held something before.
    existed: bool,
    resumed: bool,
    set_time: SetTime,
    folders: Mutex<HashSet<PathBuf>>,
}

impl<'a> Target<'a> {
    fn begin(reader: &'a SnapshotReader, root: &Path, options: &ExportOptions) -> Result<Target<'a>> {
        let snapshot = reader.snapshot().id.to_string();
        let exists = || Error::TargetExists { target: root.to_owned() };
        let name = root.file_name().and_then(|name| name.to_str()).ok_or_else(exists)?;
        let marker = root.with_file_name(format!(".{name}.heirloom-export"));
        let existed = match fs::symlink_metadata(root) {
            Ok(metadata) if !metadata.is_dir() => return Err(in_the_way(root, "a folder")),
            Ok(_) => fs::read_dir(root).map_err(|error| target_error(root, error))?.next().is_some(),
            Err(_) => false,
        };
        let resumed = existed && fs::read_to_string(&marker).is_ok_and(|text| text == snapshot);
        if existed && !resumed {
            if !options.force {
                return Err(exists());
            }
            refuse_mixture(reader, root)?;
        }
        // What was there before does not count as written by this export, should that be broken off.
        let said = if existed && !resumed { format!("{snapshot} over what was there") } else { snapshot };
        let folders = Mutex::new(HashSet::from([root.to_owned()]));
        let target = Target {
            chunks: &reader.chunks,
            root: root.to_owned(),
            marker,
            existed,
            resumed,
            set_time: File::set_modified,
            folders,
        };
        fs::create_dir_all(root).map_err(|error| target_error(root, error))?;
        fs::write(&target.marker, said).map_err(|error| target_error(&target.marker, error))?;
        Ok(target)
    }

    /// The file to write for an entry that lies at `place`; nothing if there is nothing to write.
    fn file(&self, place: TreePath, entry: Entry, stats: &mut ExportStats) -> Result<Option<Arc<ExportFile>>> {
        let path = self.path_of(&place)?;
        let Some(content) = entry.content else {
            self.create_folder(&path)?;
            return Ok(None);
        };
        if self.resumed && is_written(&path, content.length, entry.place_mtime_ns) {
            stats.skipped_files += 1;
            stats.bytes += content.length;
            return Ok(None);
        }
        let progress = Mutex::new(FileProgress::New);
        Ok(Some(Arc::new(ExportFile { place, content, mtime_ns: entry.place_mtime_ns, progress })))
    }

    /// Where `place` is on this system, where some names mean more than a name.
    fn path_of(&self, place: &TreePath) -> Result<PathBuf> {
        let is_name = |part: &str| {
            let mut components = Path::new(part).components();
            matches!(components.next(), Some(Component::Normal(name)) if name == part) && components.next().is_none()
        };
        if place.parts().all(is_name) {
            Ok(place.parts().fold(self.root.clone(), |path, part| path.join(part)))
        } else {
            Err(Error::InvalidName { name: place.to_string(), why: "it is no file name on this system" })
        }
    }

    /// Creates a folder below the root, and refuses one that leads elsewhere.
    fn create_folder(&self, folder: &Path) -> Result<()> {
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missing: Vec<&Path> = folder.ancestors().take_while(|above| !folders.contains(*above)).collect();
        while let Some(folder) = missing.pop() {
            match fs::create_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let metadata = fs::symlink_metadata(folder).map_err(|error| target_error(folder, error))?;
                    if !metadata.is_dir() {
                        return Err(in_the_way(folder, "a folder"));
                    }
                }
                other => other.map_err(|error| target_error(folder, error))?,
            }
            folders.insert(folder.to_owned());
        }
        Ok(())
    }

    /// Takes the marker away, if nothing is left to be done better.
    fn finish(&self, stats: &ExportStats) -> Result<()> {
        if !stats.problems.is_empty() {
            return Ok(());
        }
        fs::remove_file(&self.marker).map_err(|error| target_error(&self.marker, error))
    }
}

/// Fails if the folder `root` holds files that are named like those of a backup, but that the snapshot has not.
fn refuse_mixture(reader: &SnapshotReader, root: &Path) -> Result<()> {
    let mut others = files_of_a_backup(root).map_err(|error| target_error(root, error))?;
    for item in reader.entries(&Prefix::all()) {
        match item {
            Ok((name, entry)) => {
                if let Some(place) = entry.place_for(&name) {
                    others.remove(place.as_str());
                }
            }
            // What belongs to the snapshot cannot be told then.
            Err(error) if error.is_unreadable() => return Ok(()),
            Err(error) => return Err(error),
        }
        if others.is_empty() {
            return Ok(());
        }
    }
    match others.first() {
        None => Ok(()),
        Some(file) => {
            Err(Error::OtherBackup { target: root.to_owned(), files: others.len() as u64, file: file.clone() })
        }
    }
}

/// The places of files in `root` that every backup has, or that are named by a hash as the phone's files are.
fn files_of_a_backup(root: &Path) -> io::Result<BTreeSet<String>> {
    const OWN: [&str; 6] =
        ["Info.plist", "Manifest.db", "Manifest.mbdb", "Manifest.mbdx", "Manifest.plist", "Status.plist"];
    let is_hex = |name: &str, len: usize| name.len() == len && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut places = BTreeSet::new();
    for child in fs::read_dir(root)? {
        let child = child?;
        let Ok(name) = child.file_name().into_string() else { continue };
        if child.file_type()?.is_dir() && is_hex(&name, 2) {
            for below in fs::read_dir(child.path())? {
                let below = below?.file_name().into_string();
                places.extend(below.ok().filter(|below| is_hex(below, 40)).map(|below| format!("{name}/{below}")));
            }
        } else if OWN.contains(&&*name) || is_hex(&name, 40) {
            places.insert(name);
        }
    }
    Ok(places)
}

/// Whether an earlier run of this export wrote the file to its end.
fn is_written(path: &Path, length: u64, mtime_ns: Option<i64>) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    let modified = metadata.modified().ok();
    metadata.is_file() && metadata.len() == length && mtime_ns.is_some() && modified == mtime_ns.map(system_time)
}

fn system_time(unix_ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(unix_ns.unsigned_abs());
    if unix_ns < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
}

fn in_the_way(path: &Path, wanted: &'static str) -> Error {
    Error::TargetInTheWay { path: path.to_owned(), wanted }
}

fn target_error(path: &Path, source: io::Error) -> Error {
    Error::Target { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::{Details, MemoryStorage, Options, Repository, Source, Unlock};

    fn repository() -> Repository {
        let storage = Arc::new(MemoryStorage::default());
        Repository::create(storage.clone(), None, &Options::default()).unwrap();
        let repository = Repository::open(storage, Unlock::Open, None).unwrap();
        let mut editor = repository.edit("A phone", None).unwrap();
        for place in ["Info.plist", "3d/3d0d", "3d/3e0e"] {
            editor.write_file(&TreePath::new(place).unwrap(), None, 1, &mut place.as_bytes()).unwrap();
        }
        editor.name_files().unwrap().commit(Details::new(0, Source::Device)).unwrap();
        repository
    }

    /// export-without-times
    #[test]
    fn a_folder_that_takes_no_times_gets_all_files() {
        let repository = repository();
        let reader = repository.read(&repository.snapshots().unwrap().snapshots[0]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("A phone");
        let begin = || Target::begin(&reader, &root, &ExportOptions::default()).unwrap();
        let target = Target { set_time: |_, _| Err(io::ErrorKind::PermissionDenied.into()), ..begin() };
        let stats = write_to(target, &reader, &|_| ControlFlow::Continue(())).unwrap();
        assert_eq!((stats.files, stats.without_time, stats.problems.len()), (3, 3, 0));
        assert!(stats.why_without_time.is_some());
        for place in ["Info.plist", "3d/3d0d", "3d/3e0e"] {
            assert_eq!(fs::read(root.join(place)).unwrap(), place.as_bytes());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no marker is left");
    }

    /// hint-that-was-followed: --force does not help, so it is not advised.
    #[test]
    fn what_is_in_the_way_is_named() {
        let repository = repository();
        let reader = repository.read(&repository.snapshots().unwrap().snapshots[0]).unwrap();
        let export_to = |make: &dyn Fn(&Path)| {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("A phone");
            make(&root);
            export(&reader, &root, &ExportOptions { force: true }, &|_| ControlFlow::Continue(()))
                .unwrap_err()
                .to_string()
        };
        let file = |root: &Path| {
            fs::create_dir(root).unwrap();
            fs::write(root.join("3d"), "").unwrap();
        };
        assert!(export_to(&file).ends_with("3d is in the way: it is not a folder"));
        let folder = |root: &Path| fs::create_dir_all(root.join("Info.plist/inside")).unwrap();
        assert!(export_to(&folder).ends_with("Info.plist is in the way: it is not a file"));
        let root = |root: &Path| fs::write(root, "").unwrap();
        assert!(export_to(&root).ends_with("A phone is in the way: it is not a folder"));
    }
}
