//! Repositories without contents, for measurements of size: packs of data are holes of the right length, everything else is as a writer leaves it.
//!
//! Index, trees and snapshots can be listed, looked up and gone on from; reading a file finds damage.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    ops::Range,
    sync::Arc,
};

use crate::{
    Details, PhoneMetadata, Source,
    error::{Error, Result},
    format::{
        codec::Encoding,
        entry::{ChunkRef, Chunks, Content, Entry, Kind},
        pack::{ChunkKind, Directory, Frame, PackKind, PackedChunk, SegmentPack, chunk_id},
        record::{RecordKind, SnapshotRecord},
        tree::{TreeBuilder, update},
    },
    id::{ChunkId, FileHash},
    index::SegmentBuilder,
    name::Name,
    read::chunks::ChunkReader,
    repository::{Repository, core::index_cache},
    write::{
        ingest::{Ingest, NewChunk},
        previous::PreviousTree,
    },
};

const SERIES: &str = "00008101-000A2C4E6F801E3A";
const CHUNK_BYTES: u64 = 64 << 10;
const PACK_CHUNKS: u64 = 256;
/// As many as a writer brings into the index at a time.
const SEGMENT_CHUNKS: u64 = 512 << 10;
const FILES_PER_APP: u64 = 1000;
/// Changed files are neighbours, as those of one app are.
const RUN_FILES: u64 = 50;
const FIRST_TIME: i64 = 1_600_000_000;

/// What is generated.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Data chunks of all snapshots together; half of them are of the first.
    pub chunks: u64,
    /// Snapshots of one series, a day apart.
    pub snapshots: u64,
    /// Files of each: nine in ten of apps, the rest photos.
    pub files: u64,
    /// Files in which a snapshot differs from the one before: a tenth of them are new photos, as many old ones go.
    pub changed_files: u64,
}

impl Shape {
    /// The name of file `number`: those of apps come first, photos have ever greater numbers.
    pub fn name(&self, number: u64) -> Name {
        let name = match number.checked_sub(self.app_files()) {
            None => Name::new(&Shape::domain(number / FILES_PER_APP), &app_path(number)),
            Some(photo) => {
                Name::new("CameraRollDomain", &format!("Media/DCIM/{:03}APPLE/IMG_{photo:08}.HEIC", photo / 1000))
            }
        };
        name.expect("a name of a few parts")
    }

    /// The domain of an app, of a thousand files.
    pub fn domain(app: u64) -> String {
        format!("AppDomain-org.example.app{app:05}")
    }

    /// The numbers of all files of a snapshot, by name.
    pub fn files_of(&self, snapshot: u64) -> Vec<u64> {
        let mut files = Vec::from_iter(0..self.app_files());
        files.sort_unstable_by_key(|&file| (file / RUN_FILES, mixed(file)));
        files.extend(self.photos(snapshot));
        files
    }

    fn photos(&self, snapshot: u64) -> Range<u64> {
        let first = self.app_files() + snapshot * self.new_photos();
        first..first + self.files - self.app_files()
    }

    /// How many files of apps there are; their numbers are the first.
    pub fn app_files(&self) -> u64 {
        self.files - self.files / 10
    }

    fn new_photos(&self) -> u64 {
        self.changed_files / 10
    }

    /// The numbers of a snapshot's new chunks.
    fn new_chunks(&self, snapshot: u64) -> Range<u64> {
        let first = self.chunks / 2;
        let until = |count: u64| first + (self.chunks - first) * count / (self.snapshots - 1).max(1);
        if snapshot == 0 { 0..first } else { until(snapshot - 1)..until(snapshot) }
    }

    /// The files of apps that a snapshot changes, by number, ascending.
    fn changed_app_files(&self, snapshot: u64) -> Vec<u64> {
        let runs = (self.changed_files - 2 * self.new_photos()).div_ceil(RUN_FILES);
        let run = |n: u64| mixed(snapshot << 20 | n) % (self.app_files() / RUN_FILES) * RUN_FILES;
        let mut files: Vec<u64> = (0..runs).map(run).flat_map(|first| first..first + RUN_FILES).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}

/// A content of one chunk, the one of this number; no repository has those from [`Shape::chunks`] on.
pub fn content(chunk: u64) -> Content {
    let chunks = Chunks::Inline(vec![ChunkRef { id: chunk_of_number(chunk), len: CHUNK_BYTES }]);
    Content {
        hash: *blake3::hash(&chunk.to_be_bytes()).as_bytes(),
        length: CHUNK_BYTES,
        sealing: None,
        rule: 1,
        chunks,
    }
}

/// What Manifest.db would say of a file.
pub fn metadata(number: u64) -> PhoneMetadata {
    let time = FIRST_TIME - (number % 10_000_000) as i64;
    PhoneMetadata {
        mode: Some(0o100_644),
        user: Some(501),
        group: Some(501),
        inode: Some(20_000_000 + number),
        size: Some(CHUNK_BYTES),
        mtime: Some(time),
        ctime: Some(time + 1),
        btime: Some(time - 5),
        protection_class: Some(3),
        flags: Some(0),
    }
}

/// Fills an empty repository. `make_hole` makes a file of so many bytes, whatever they are; `on_snapshot` is told the number of each.
///
/// # Errors
/// What the storage or `make_hole` says.
pub fn generate(
    repository: &Repository,
    shape: &Shape,
    make_hole: &dyn Fn(&str, u64) -> io::Result<()>,
    on_snapshot: &mut dyn FnMut(u64),
) -> Result<()> {
    let core = repository.core();
    let chunks = Arc::new(repository.chunks()?.0);
    let ingest = Ingest::new(&chunks);
    let mut generator = Generator { repository, shape, make_hole, chunks, ingest, segment: SegmentBuilder::default() };
    let (mut root, mut previous) = (None, None);
    for snapshot in 0..shape.snapshots {
        generator.put_data(snapshot)?;
        let new_root = generator.put_tree(snapshot, root)?;
        generator.ingest.flush()?;
        generator.segment.append(generator.ingest.take_written(0).unwrap_or_default());
        generator.write_segment()?;
        root = Some(new_root);
        previous = Some(core.put_record(RecordKind::Snapshot, &mut record(shape, snapshot, new_root, previous))?);
        on_snapshot(snapshot);
    }
    core.storage.sync_all()
}

struct Generator<'g> {
    repository: &'g Repository,
    shape: &'g Shape,
    make_hole: &'g dyn Fn(&str, u64) -> io::Result<()>,
    chunks: Arc<ChunkReader>,
    ingest: Ingest,
    segment: SegmentBuilder,
}

impl Generator<'_> {
    /// Makes holes for the packs of a snapshot's new data.
    fn put_data(&mut self, snapshot: u64) -> Result<()> {
        let new = self.shape.new_chunks(snapshot);
        for first in new.clone().step_by(PACK_CHUNKS as usize) {
            let numbers = first..new.end.min(first + PACK_CHUNKS);
            let directory = directory(numbers.clone());
            let pack = SegmentPack {
                name: FileHash::of(&first.to_le_bytes()),
                kind: PackKind::Data,
                len: (numbers.end - first) * CHUNK_BYTES,
            };
            (self.make_hole)(&pack.file(), pack.len).map_err(Error::Source)?;
            self.segment.add_pack(pack, &directory);
            if self.segment.entry_count() as u64 >= SEGMENT_CHUNKS {
                self.write_segment()?;
            }
        }
        Ok(())
    }

    fn write_segment(&mut self) -> Result<()> {
        let core = self.repository.core();
        let cache = index_cache(self.repository.cache_dir());
        let segment = std::mem::take(&mut self.segment);
        self.chunks.index_mut().write_segment(&*core.storage, &core.sealer, cache.as_deref(), segment)
    }

    /// Puts the tree of a snapshot, the one before of which has the root `before`.
    fn put_tree(&mut self, snapshot: u64, before: Option<ChunkId>) -> Result<ChunkId> {
        let Generator { shape, chunks, ingest, .. } = self;
        let keys = &chunks.core.keys;
        let mut fresh = HashSet::new();
        let mut previous = PreviousTree::new(before);
        let put = |level, first_key: &[u8], node: &[u8]| {
            let id = chunk_id(&keys.id, ChunkKind::Node, node);
            if !chunks.holds(&id)? && fresh.insert(id) {
                let previous = previous.node(&*chunks, level, first_key);
                ingest.add(NewChunk { id, kind: ChunkKind::Node, plaintext: node.to_vec(), previous })?;
            }
            Ok(id)
        };
        let mut edits = BTreeMap::new();
        let photos = shape.photos(snapshot);
        let Some(before) = before else {
            edits.extend((0..shape.app_files()).chain(photos).map(|file| edit(shape, file, snapshot)));
            let mut builder = TreeBuilder::new(keys.tree, put);
            edits.iter().try_for_each(|(key, entry)| builder.add(key, entry.as_deref().unwrap_or_default()))?;
            return builder.finish();
        };
        let gone = shape.photos(snapshot - 1).start..photos.start;
        edits.extend(gone.map(|file| (shape.name(file).key().to_vec(), None)));
        let new = shape.photos(snapshot - 1).end..photos.end;
        let changed = shape.changed_app_files(snapshot).into_iter().chain(new);
        edits.extend(changed.map(|file| edit(shape, file, snapshot)));
        let edits: Vec<_> = edits.into_iter().collect();
        update(&*chunks, before, &edits, keys.tree, put)
    }
}

/// The entry that a file has from a snapshot on.
fn edit(shape: &Shape, file: u64, snapshot: u64) -> (Vec<u8>, Option<Vec<u8>>) {
    let new = shape.new_chunks(snapshot);
    let chunk = new.start + mixed(file) % (new.end - new.start).max(1);
    let entry = Entry {
        content: Some(content(chunk)),
        place_mtime_ns: Some((FIRST_TIME + 86_400 * snapshot as i64) * 1_000_000_000),
        phone: metadata(file),
        ..Entry::new(Kind::File)
    };
    (shape.name(file).key().to_vec(), Some(entry.emit()))
}

fn record(shape: &Shape, snapshot: u64, root: ChunkId, previous: Option<FileHash>) -> SnapshotRecord {
    let time = FIRST_TIME + 86_400 * snapshot as i64;
    let details = Details::new(time, Source::Device);
    let about = [
        ("name", "Anna’s iPhone"),
        ("product_type", "iPhone13,2"),
        ("product_version", "17.6.1"),
        ("build_version", "21G93"),
        ("serial_number", "F4GXXXXXXXXX"),
        ("folder", SERIES),
    ];
    SnapshotRecord {
        needs: Vec::new(),
        series: SERIES.to_owned(),
        previous,
        time,
        created: time + 60,
        kept: None,
        root,
        files: shape.files,
        bytes: shape.files * CHUNK_BYTES,
        added_bytes: shape.new_chunks(snapshot).count() as u64 * CHUNK_BYTES,
        source: details.source,
        encrypted: details.encrypted,
        sealed: false,
        device: about.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        warnings: details.warnings,
        lost_files: 0,
        warning_count: 0,
        program: crate::PROGRAM.to_owned(),
        origin: None,
    }
}

/// A pack of the chunks with these numbers.
fn directory(numbers: Range<u64>) -> Directory {
    let mut directory = Directory::default();
    for (frame, number) in numbers.enumerate() {
        let len = CHUNK_BYTES as usize;
        directory.frames.push(Frame {
            encoding: Encoding::Raw,
            kind: ChunkKind::Data,
            offset: 0,
            sealed_len: len,
            decoded_len: len,
            base: None,
        });
        let id = chunk_of_number(number);
        directory.chunks.push(PackedChunk { id, frame: frame as u32, offset: 0, len: len as u32 });
    }
    directory
}

fn chunk_of_number(number: u64) -> ChunkId {
    ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes().first_chunk().expect("a hash is longer than an id"))
}

fn app_path(number: u64) -> String {
    let digits = mixed(number);
    format!("Library/Caches/{:02}/{digits:016x}.data", number % FILES_PER_APP / RUN_FILES)
}

/// A number that looks like any other (SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{MemoryStorage, Options, Prefix, Storage};

    #[test]
    fn snapshots_hold_what_the_shape_says() {
        let shape = Shape { chunks: 5000, snapshots: 5, files: 20_000, changed_files: 500 };
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &Options::default()).unwrap();
        let make_hole = |name: &str, len: u64| storage.put(name, &vec![0; len as usize]);
        generate(&repository, &shape, &make_hole, &mut |_| {}).unwrap();
        let list = repository.snapshots().unwrap();
        assert_eq!((list.snapshots.len(), list.problems), (5, vec![]));
        for snapshot in &list.snapshots {
            assert_eq!(repository.read(snapshot).unwrap().entries(&Prefix::all()).count(), 20_000);
        }
        let changes: Vec<_> =
            repository.diff(&list.snapshots[1], &list.snapshots[2]).unwrap().map(Result::unwrap).collect();
        let (added, removed) = (|c: &&crate::Change| c.before.is_none(), |c: &&crate::Change| c.after.is_none());
        assert_eq!((changes.iter().filter(added).count(), changes.iter().filter(removed).count()), (50, 50));
        assert!((450..=500).contains(&changes.len()), "{}", changes.len());
        let writer = repository.write(SERIES).unwrap();
        assert_eq!(writer.problems(), []);
        assert!((0..5000).all(|n| writer.holds(&content(n)).unwrap()));
        assert!((5000..10_000).all(|n| !writer.holds(&content(n)).unwrap()));
    }
}
