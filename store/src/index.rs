//! The index: where each chunk is, from all segments together (SPEC §7).
//!
//! An entry counts only while its pack is there with its right length, so a chunk whose pack is lost is stored again by the next
//! backup. Packs that no segment names, left by a run that was cut off, are read through their directories. Those that a mark names are read from
//! only where there is nothing else, and what only they hold is stored again.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    path::Path,
    time::Duration,
};

pub(crate) mod segment;

pub(crate) use segment::SegmentBuilder;

use rayon::prelude::*;

use crate::{
    error::{Error, Problem, Result},
    format::{
        delta::DELTA_MAX_DEPTH,
        mark::{Mark, read_marks},
        pack::{Pack, PackId, SegmentPack, list_packs},
        seal::Sealer,
    },
    id::{ChunkId, FileHash},
    storage::{Storage, layout::INDEX_FOLDER, named::NAME_MISMATCH},
};
use segment::{SEGMENT_MAX_LEN, Segment, seal_segment, segment_file};

/// The name of the segment that lies in no file.
const UNLISTED: FileHash = FileHash([0; 32]);
/// Segments are merged when eight of them have about the same size, but not beyond this,
const MERGED_MAX_ENTRIES: u64 = 1 << 20;
/// nor beyond this length of their contents, which is far below what a reader takes.
const MERGED_MAX_LEN: u64 = SEGMENT_MAX_LEN / 4;
const TIER_FACTOR_BITS: u32 = 3;
const TIER_SEGMENTS: usize = 7;
/// Copies of a chunk that are looked at. Each writer and each prune that was cut off leaves one; more are an attack.
const PLACES_MAX: usize = 256;
/// How often a repository that changes while it is listed is listed again.
pub(crate) const LOADS_MAX: usize = 10;
/// How long a late list is waited for, first; then twice as long each time.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pack: SegmentPack,
    pub(crate) ordinal: u16,
}

/// All segments of a repository, as they were when it was loaded.
#[derive(Default)]
pub(crate) struct Index {
    segments: Vec<OpenSegment>,
    /// The packs that no segment names, as a segment of their own.
    unlisted: Option<OpenSegment>,
    /// Lengths of all packs that are there.
    packs: HashMap<PackId, u64>,
    marks: Vec<Mark>,
    marked: HashSet<FileHash>,
}

pub(crate) struct OpenSegment {
    pub(crate) segment: Segment,
    /// What is known of each pack of its table.
    pub(crate) presence: Vec<Presence>,
}

/// What can be expected of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It is gone, or not as long as it was.
    Absent,
    /// A mark says that it will be deleted.
    Marked,
    /// It is there, and whole as far as its length tells.
    There,
}

impl OpenSegment {
    /// Calls `each` for every entry of `id` whose pack can be expected anything of.
    fn find(&self, id: &ChunkId, each: &mut dyn FnMut(Presence, Place)) -> Result<()> {
        self.segment.find(id, &mut |_, entry| {
            let number = entry.pack as usize;
            if let Some(&presence) = self.presence.get(number).filter(|&&presence| presence != Presence::Absent) {
                each(presence, Place { pack: self.segment.packs[number], ordinal: entry.ordinal });
            }
        })
    }
}

impl Index {
    /// Reads what has changed since the copies in `cache` (a folder of this repository's alone) were made.
    pub(crate) fn load(storage: &dyn Storage, sealer: &Sealer, cache: Option<&Path>) -> Result<(Index, Vec<Problem>)> {
        let (mut loads, mut late) = (1, LateList::of(storage));
        loop {
            let marks = read_marks(storage, sealer)?;
            // Segments before packs: a pack may be newer than the list of segments, but none that a segment names may be.
            let listed = list_segments(storage)?;
            let loaded = Index::load_listed(storage, sealer, cache, marks, &listed);
            // A prune replaces segments before it deletes the packs that those named. A list may show neither one that was deleted meanwhile nor the
            // one in its place: then no segment names what both name.
            let (may_be_overtaken, may_be_late) = match &loaded {
                Ok((index, _)) => {
                    let lacks_packs = !index.missing_packs().is_empty();
                    (index.unlisted.is_some() || lacks_packs, lacks_packs)
                }
                Err(error) => (error.is_missing_file(), error.is_missing_file()),
            };
            if may_be_overtaken && loads < LOADS_MAX && list_segments(storage)? != listed {
                loads += 1;
                continue;
            }
            if may_be_late && late.outwait(storage, &listed)? {
                continue;
            }
            return loaded;
        }
    }

    fn load_listed(
        storage: &dyn Storage,
        sealer: &Sealer,
        cache: Option<&Path>,
        (marks, mut problems): (Vec<Mark>, Vec<Problem>),
        listed: &SegmentList,
    ) -> Result<(Index, Vec<Problem>)> {
        let marked = marks.iter().flat_map(|mark| &mark.packs).copied().collect();
        let segments = load_segments(storage, sealer, cache, listed, &mut problems)?;
        let packs = list_packs(storage)?;
        let mut index = Index { packs, marks, marked, ..Index::default() };
        index.segments = segments.into_iter().map(|segment| index.open_segment(segment)).collect();
        index.read_unlisted(storage, sealer, &mut problems)?;
        let missing = index.missing_packs().into_iter().map(|(pack, what)| Problem::new(pack.file(), what));
        problems.extend(missing);
        Ok((index, problems))
    }

    fn open_segment(&self, segment: Segment) -> OpenSegment {
        let presence = segment.packs.iter().map(|pack| self.presence(pack)).collect();
        OpenSegment { segment, presence }
    }

    fn presence(&self, pack: &SegmentPack) -> Presence {
        match self.packs.get(&pack.id()) {
            Some(len) if *len != pack.len => Presence::Absent,
            Some(_) if self.marked.contains(&pack.name) => Presence::Marked,
            Some(_) => Presence::There,
            None => Presence::Absent,
        }
    }

    fn read_unlisted(&mut self, storage: &dyn Storage, sealer: &Sealer, problems: &mut Vec<Problem>) -> Result<()> {
        let named: HashSet<PackId> =
            self.segments.iter().flat_map(|open| &open.segment.packs).map(SegmentPack::id).collect();
        let mut builder = SegmentBuilder::default();
        let mut gone = HashSet::new();
        for pack in self.packs().filter(|pack| !named.contains(&pack.id())) {
            match Pack::open(storage, sealer, &pack) {
                Ok(open) => builder.add_pack(pack, &open.directory),
                Err(error) if error.is_missing_file() => drop(gone.insert(pack.id())),
                Err(error) => problems.push(Problem::from_error(&pack.file(), error)),
            }
        }
        self.packs.retain(|pack, _| !gone.contains(pack));
        if !builder.is_empty() {
            let segment = Segment::from_contents(UNLISTED, builder.contents(), None)?;
            self.unlisted = Some(self.open_segment(segment));
        }
        Ok(())
    }

    /// Reads in full the packs that no segment names and that are `wanted`, and leaves out those whose bytes do not match their names: a run that was
    /// cut off may have left anything, and what the next segment names is relied on.
    pub(crate) fn verify_unlisted(
        &mut self,
        storage: &dyn Storage,
        wanted: impl Fn(&SegmentPack) -> bool,
    ) -> Result<Vec<Problem>> {
        let problem_of = |pack: &SegmentPack| {
            let file = pack.file();
            match storage.hash(&file, pack.len) {
                Ok(found) if found == pack.name => Ok(None),
                Ok(_) => Ok(Some((pack.name, Some(Problem::new(file, NAME_MISMATCH))))),
                // Pruned since it was listed.
                Err(error) if error.is_missing_file() => Ok(Some((pack.name, None))),
                Err(error) => Err(error),
            }
        };
        let packs: Vec<SegmentPack> = self.unlisted_packs().into_iter().filter(wanted).collect();
        let found: Vec<_> = packs.par_iter().filter_map(|pack| problem_of(pack).transpose()).collect::<Result<_>>()?;
        let (gone, problems): (HashSet<FileHash>, Vec<Option<Problem>>) = found.into_iter().unzip();
        if !gone.is_empty() {
            self.drop_packs(&gone);
        }
        Ok(problems.into_iter().flatten().collect())
    }

    /// The packs that no segment names, and that are relied on.
    pub(crate) fn unlisted_packs(&self) -> Vec<SegmentPack> {
        let packs = self.unlisted.iter().flat_map(|open| open.segment.packs.iter().zip(&open.presence));
        packs.filter(|(_, presence)| **presence == Presence::There).map(|(pack, _)| *pack).collect()
    }

    fn missing_packs(&self) -> Vec<(SegmentPack, String)> {
        let named = self.segments.iter().flat_map(|open| open.segment.packs.iter().zip(&open.presence));
        let mut missing: Vec<_> = named
            .filter(|(_, presence)| **presence == Presence::Absent)
            .map(|(pack, _)| (*pack, what_is_missing(pack, self.packs.get(&pack.id()).copied())))
            .collect();
        missing.sort();
        missing.dedup();
        missing
    }

    /// Everything that is known of chunks: the segments, and the packs that no segment names as one more.
    pub(crate) fn all_segments(&self) -> impl Iterator<Item = &OpenSegment> {
        self.segments.iter().chain(&self.unlisted)
    }

    /// The marks that were there.
    pub(crate) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Whether a segment is that of the packs that none names.
    pub(crate) fn is_unlisted(segment: &Segment) -> bool {
        segment.name == UNLISTED
    }

    /// Every place where `id` lies, in packs that are there; those in marked packs last.
    pub(crate) fn places(&self, id: &ChunkId) -> Result<Vec<Place>> {
        let (mut places, mut marked) = (Vec::new(), Vec::new());
        for open in self.all_segments() {
            open.find(id, &mut |presence, place| {
                let places = if presence == Presence::There { &mut places } else { &mut marked };
                if places.len() < PLACES_MAX {
                    places.push(place);
                }
            })?;
        }
        places.append(&mut marked);
        Ok(places)
    }

    /// Whether `id` lies in a pack that is there to stay and that is `trusted`; of a delta, whether its base does, too. A prune leaves deltas that
    /// nothing needs in packs that stay, and may delete their bases.
    pub(crate) fn contains(&self, id: &ChunkId, trusted: &dyn Fn(&FileHash) -> bool) -> Result<bool> {
        self.contains_at_depth(id, &|presence, pack| presence == Presence::There && trusted(pack), 0, &mut Vec::new())
    }

    /// Whether `id` lies only in packs that no segment names though one should. Those that a mark names are left out of segments, and until they are
    /// deleted somebody may be about to name others for them.
    pub(crate) fn is_only_unlisted(&self, id: &ChunkId) -> Result<bool> {
        let Some(unlisted) = &self.unlisted else { return Ok(false) };
        let (mut is_there, mut is_marked, mut is_named) = (false, false, false);
        unlisted.find(id, &mut |presence, _| {
            if presence == Presence::Marked { is_marked = true } else { is_there = true }
        })?;
        for open in &self.segments {
            open.segment.find(id, &mut |_, _| is_named = true)?;
        }
        Ok(is_there && !is_marked && !is_named)
    }

    /// Whether `id` can be read, marked or not, as far as the index tells.
    pub(crate) fn reads(&self, id: &ChunkId) -> Result<bool> {
        self.contains_at_depth(id, &|presence, _| presence != Presence::Absent, 0, &mut Vec::new())
    }

    fn contains_at_depth(
        &self,
        id: &ChunkId,
        counts: &dyn Fn(Presence, &FileHash) -> bool,
        depth: u32,
        failed: &mut Vec<(ChunkId, u32)>,
    ) -> Result<bool> {
        // Of chunks that are deltas of each other each is looked at once, and not all of very many.
        let has_failed = failed.iter().any(|(failed, least)| failed == id && *least <= depth);
        if has_failed || failed.len() >= PLACES_MAX {
            return Ok(false);
        }
        if depth > 0 {
            failed.push((*id, depth));
        }
        for OpenSegment { segment, presence } in self.all_segments() {
            let (mut is_found, mut bases) = (false, Vec::new());
            segment.find(id, &mut |number, entry| {
                let pack = entry.pack as usize;
                if presence.get(pack).is_some_and(|&presence| counts(presence, &segment.packs[pack].name)) {
                    match segment.base_of(number) {
                        None => is_found = true,
                        Some(base) if bases.len() < PLACES_MAX && !bases.contains(&base) => bases.push(base),
                        Some(_) => {}
                    }
                }
            })?;
            while let Some(base) = bases.pop().filter(|_| !is_found && depth < DELTA_MAX_DEPTH) {
                is_found = self.contains_at_depth(&base, counts, depth + 1, failed)?;
            }
            if is_found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All packs that are there, with their lengths.
    pub(crate) fn packs(&self) -> impl Iterator<Item = SegmentPack> {
        self.packs.iter().map(|(&(kind, name), &len)| SegmentPack { name, kind, len })
    }

    /// The packs that segments name, there or not, with the lengths that they say.
    pub(crate) fn named_packs(&self) -> HashMap<PackId, u64> {
        self.segments.iter().flat_map(|open| &open.segment.packs).map(|pack| (pack.id(), pack.len)).collect()
    }

    /// Counts packs as gone.
    pub(crate) fn drop_packs(&mut self, gone: &HashSet<FileHash>) {
        self.packs.retain(|(_, name), _| !gone.contains(name));
        let segments = std::mem::take(&mut self.segments);
        self.segments = segments.into_iter().map(|open| self.open_segment(open.segment)).collect();
        self.unlisted = self.unlisted.take().map(|open| self.open_segment(open.segment));
    }

    /// Takes out the segments that name packs which are gone, and adds to `builder` what is left of them, so that it replaces them. Gives their names.
    pub(crate) fn take_stale(&mut self, builder: &mut SegmentBuilder) -> Result<Vec<FileHash>> {
        let stale: Vec<OpenSegment> =
            self.segments.extract_if(.., |open| open.presence.contains(&Presence::Absent)).collect();
        for OpenSegment { segment, .. } in &stale {
            builder.add_segment(segment, |pack| self.packs.get(&pack.id()) == Some(&pack.len))?;
        }
        Ok(stale.into_iter().map(|open| open.segment.name).collect())
    }

    /// Whether a pack is there and as long as it was.
    pub(crate) fn has_pack(&self, pack: &SegmentPack) -> bool {
        self.packs.get(&pack.id()) == Some(&pack.len)
    }

    /// What the next segment is to hold beside new packs: those that no segment names and that are `wanted`.
    pub(crate) fn begin_segment(&self, wanted: impl Fn(&SegmentPack) -> bool) -> Result<SegmentBuilder> {
        let mut builder = SegmentBuilder::default();
        if let Some(OpenSegment { segment, .. }) = &self.unlisted {
            builder.adopt(segment, |pack| self.presence(pack) == Presence::There && wanted(pack))?;
        }
        Ok(builder)
    }

    /// Writes `builder` as a segment, merged with earlier ones of its size if there are many, and takes it in. All packs that it names must
    /// be durable.
    pub(crate) fn write_segment(
        &mut self,
        storage: &dyn Storage,
        sealer: &Sealer,
        cache: Option<&Path>,
        mut builder: SegmentBuilder,
    ) -> Result<()> {
        if builder.is_empty() {
            return Ok(());
        }
        self.packs.extend(builder.packs().iter().map(|pack| (pack.id(), pack.len)));
        let merged = self.take_mergeable(builder.entry_count() as u64, builder.contents_len());
        for OpenSegment { segment, .. } in &merged {
            builder.add_segment(segment, |pack| self.presence(pack) == Presence::There)?;
        }
        let named: HashSet<PackId> = builder.packs().iter().map(SegmentPack::id).collect();
        self.put_segment(storage, sealer, cache, builder)?;
        self.unlisted.take_if(|unlisted| unlisted.segment.packs.iter().all(|pack| named.contains(&pack.id())));
        Ok(())
    }

    /// Puts others in the place of all segments that name a pack that `goes`, and makes that durable. What is superseded is deleted then.
    pub(crate) fn leave_out(
        &mut self,
        storage: &dyn Storage,
        sealer: &Sealer,
        cache: Option<&Path>,
        goes: impl Fn(&FileHash) -> bool,
    ) -> Result<()> {
        let there: HashSet<FileHash> =
            list_segments(storage)?.iter().filter_map(|(name, _)| FileHash::from_hex(name)).collect();
        let is_named = |open: &mut OpenSegment| open.segment.packs.iter().any(|pack| goes(&pack.name));
        let (mut replaced, mut superseded) = (Vec::new(), HashSet::new());
        let mut builder = SegmentBuilder::default();
        for OpenSegment { segment, .. } in self.segments.extract_if(.., is_named).collect::<Vec<_>>() {
            replaced.push(segment.name);
            superseded.extend(segment.superseded.iter().copied());
            builder.add_segment(&segment, |pack| !goes(&pack.name))?;
            if builder.entry_count() as u64 >= MERGED_MAX_ENTRIES || builder.contents_len() >= MERGED_MAX_LEN {
                let mut full = std::mem::take(&mut builder);
                full.supersede_only(|name| there.contains(name));
                self.put_segment(storage, sealer, cache, full)?;
            }
        }
        builder.supersede_only(|name| there.contains(name));
        self.put_segment(storage, sealer, cache, builder)?;
        storage.sync_all()?;
        superseded.extend(self.segments.iter().flat_map(|open| &open.segment.superseded));
        // What is superseded by nothing any more would be read again.
        for name in superseded.iter().chain(&replaced).filter(|name| there.contains(name)) {
            storage.delete_file(&format!("{INDEX_FOLDER}/{name}"))?;
        }
        storage.sync_all()
    }

    /// Writes `builder` as a segment and takes it in; not one that names nothing, and as several where one would be too long.
    fn put_segment(
        &mut self,
        storage: &dyn Storage,
        sealer: &Sealer,
        cache: Option<&Path>,
        builder: SegmentBuilder,
    ) -> Result<()> {
        let mut parts = builder.split(2 * MERGED_MAX_LEN).into_iter().peekable();
        while let Some(part) = parts.next() {
            let contents = part.contents();
            let bytes = seal_segment(sealer, &contents)?;
            let name = FileHash::of(&bytes);
            storage.put_file(&segment_file(&name), &bytes)?;
            drop(bytes);
            // The last supersedes what all of them stand for.
            if parts.peek().is_some() {
                storage.sync_all()?;
            }
            let segment = Segment::from_contents(name, contents, cache)?;
            self.segments.push(self.open_segment(segment));
        }
        Ok(())
    }

    /// Removes the segments that one of `entries`, of contents of `len` bytes, should be merged with: whenever a tier is full, all of it.
    fn take_mergeable(&mut self, mut entries: u64, mut len: u64) -> Vec<OpenSegment> {
        let mut taken = Vec::new();
        loop {
            let in_tier = |open: &mut OpenSegment| tier(open.segment.entry_count) == tier(entries);
            let (mut count, mut sum, mut sum_len) = (0, entries, len);
            for open in self.segments.iter_mut() {
                if in_tier(open) {
                    count += 1;
                    sum += open.segment.entry_count;
                    sum_len += open.segment.contents_len();
                }
            }
            if count < TIER_SEGMENTS || sum > MERGED_MAX_ENTRIES || sum_len > MERGED_MAX_LEN {
                return taken;
            }
            taken.extend(self.segments.extract_if(.., in_tier));
            (entries, len) = (sum, sum_len);
        }
    }
}

/// Says what is wrong with a pack that a segment names, where one of `len` bytes is listed, or none.
pub(crate) fn what_is_missing(pack: &SegmentPack, len: Option<u64>) -> String {
    match len {
        None => "it is missing".to_owned(),
        Some(len) => format!("it is {len} bytes long, not {}", pack.len),
    }
}

/// Parses a segment and reads all of it.
#[cfg(fuzzing)]
pub(crate) fn parse_contents(name: FileHash, contents: Vec<u8>) {
    if let Ok(segment) = Segment::from_contents(name, contents, None) {
        segment.for_each(&mut |_, entry| segment.find(&entry.id, &mut |_, _| {}).unwrap()).unwrap();
    }
}

/// The files in `index/`, with their lengths.
pub(crate) type SegmentList = BTreeSet<(String, u64)>;

pub(crate) fn list_segments(storage: &dyn Storage) -> Result<SegmentList> {
    Ok(storage.list_folder(INDEX_FOLDER)?.into_iter().collect())
}

fn tier(entries: u64) -> u32 {
    (entries | 1).ilog2() / TIER_FACTOR_BITS
}

/// Waits for a list of segments that names none that was deleted, as one does that is late (SPEC §11).
pub(crate) struct LateList {
    /// How late a list may still be.
    left: Duration,
    next_wait: Duration,
}

impl LateList {
    pub(crate) fn of(storage: &dyn Storage) -> LateList {
        LateList { left: storage.listing_delay(), next_wait: Duration::ZERO }
    }

    /// Whether the list names a segment that is not there, and another list may not: then the time has passed after which
    /// to ask for it.
    ///
    /// # Errors
    /// Any failure of the storage.
    pub(crate) fn outwait(&mut self, storage: &dyn Storage, listed: &SegmentList) -> Result<bool> {
        if self.left.is_zero() || !names_deleted(storage, listed)? {
            return Ok(false);
        }
        // The first may be another already if this computer has changed something there.
        storage.forget_listing(INDEX_FOLDER);
        let wait = self.next_wait.min(self.left);
        storage.pause(wait);
        self.left -= wait;
        self.next_wait = (2 * self.next_wait).max(SHORTEST_WAIT);
        Ok(true)
    }
}

/// Whether a list names a segment that is not there. A look by name is never late.
fn names_deleted(storage: &dyn Storage, listed: &SegmentList) -> Result<bool> {
    for (name, _) in listed {
        if let Some(name) = FileHash::from_hex(name)
            && !storage.has_file(&segment_file(&name))?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn load_segments(
    storage: &dyn Storage,
    sealer: &Sealer,
    cache: Option<&Path>,
    listed: &SegmentList,
    problems: &mut Vec<Problem>,
) -> Result<Vec<Segment>> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut superseded = HashSet::new();
    // Those that counted when this was last called, and long ones before shorter: what a segment contains need not be read after it.
    let copies = cache.map_or_else(HashSet::new, names_of_copies);
    let mut listed: Vec<&(String, u64)> = listed.iter().collect();
    listed.sort_unstable_by_key(|(name, len)| (!copies.contains(name), Reverse(*len)));
    for (name, len) in listed {
        let Some(hash) = FileHash::from_hex(name).filter(|hash| !superseded.contains(hash)) else { continue };
        let copy = cache.and_then(|cache| Segment::from_copy(hash, cache));
        match copy.map_or_else(|| Segment::from_storage(storage, sealer, hash, *len, cache), Ok) {
            Ok(segment) => {
                superseded.extend(segment.superseded.iter().copied());
                segments.push(segment);
            }
            Err(error @ (Error::Unsupported { .. } | Error::Storage { .. })) => return Err(error),
            Err(error) => problems.push(Problem::from_error(&format!("{INDEX_FOLDER}/{name}"), error)),
        }
    }
    segments.retain(|segment| !superseded.contains(&segment.name));
    if let Some(cache) = cache {
        drop_other_copies(cache, &segments);
    }
    Ok(segments)
}

fn names_of_copies(cache: &Path) -> HashSet<String> {
    let copies = fs::read_dir(cache).into_iter().flatten().flatten();
    copies.filter_map(|copy| copy.file_name().into_string().ok()).collect()
}

/// Deletes copies of segments that are no longer read. What cannot be deleted only takes room.
fn drop_other_copies(cache: &Path, segments: &[Segment]) {
    let Ok(copies) = fs::read_dir(cache) else { return };
    for copy in copies.flatten() {
        let hash = copy.file_name().to_str().and_then(FileHash::from_hex);
        if hash.is_some_and(|hash| segments.iter().all(|segment| segment.name != hash)) {
            let _ = fs::remove_file(copy.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        io,
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
    };

    use super::*;
    use crate::{
        format::{
            codec::Encoding,
            pack::{Base, ChunkKind, Directory, Frame, NewFrame, PackBuilder, PackKind, PackedChunk},
            seal::Cipher,
        },
        id::RepositoryId,
        storage::MemoryStorage,
    };

    fn sealer() -> Sealer {
        Sealer::new(Cipher::default(), RepositoryId([7; 16]), [9; 32])
    }

    fn id(n: u32) -> ChunkId {
        ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes().first_chunk().unwrap())
    }

    /// Two blocks of entries, so that what is merged is longer.
    const SEGMENT_CHUNKS: u32 = 200;

    /// A segment of one pack of chunks, from the first number on.
    fn segment_of(storage: &MemoryStorage, first: u32) -> SegmentBuilder {
        let pack = SegmentPack { name: FileHash::of(&first.to_le_bytes()), kind: PackKind::Data, len: 4 };
        storage.put(&pack.file(), &first.to_le_bytes()).unwrap();
        let (encoding, kind, offset) = (Encoding::Raw, ChunkKind::Data, 0);
        let frame = Frame { encoding, kind, offset, sealed_len: 4, decoded_len: 4, base: None };
        let chunks = (first..first + SEGMENT_CHUNKS).map(|n| PackedChunk { id: id(n), frame: 0, offset: 0, len: 0 });
        let mut builder = SegmentBuilder::default();
        builder.add_pack(pack, &Directory { frames: vec![frame], chunks: chunks.collect() });
        builder
    }

    /// 200 segments, many merged into others.
    fn of_many_segments() -> (MemoryStorage, Sealer, Index) {
        let storage = MemoryStorage::default();
        let sealer = sealer();
        let mut index = Index::default();
        for n in 0..200 {
            let segment = segment_of(&storage, n * SEGMENT_CHUNKS);
            index.write_segment(&storage, &sealer, None, segment).unwrap();
        }
        (storage, sealer, index)
    }

    /// The names of the segments that count.
    fn live(index: &Index) -> BTreeSet<String> {
        index.segments.iter().map(|open| open.segment.name.to_string()).collect()
    }

    /// How many chunks of [`of_many_segments`] are there.
    fn found(index: &Index) -> u32 {
        (0..200 * SEGMENT_CHUNKS).map(|n| u32::from(index.contains(&id(n), &|_| true).unwrap())).sum()
    }

    /// Knows that these packs are there, and nothing else.
    fn of_packs(packs: &[SegmentPack]) -> Index {
        Index { packs: packs.iter().map(|pack| (pack.id(), pack.len)).collect(), ..Index::default() }
    }

    /// A segment that lies in no file.
    fn open(index: &Index, payload: Vec<u8>) -> OpenSegment {
        index.open_segment(Segment::from_contents(UNLISTED, payload, None).unwrap())
    }

    /// A repository whose `index/` is listed in these ways before it is as it is, and of which a file may not be read.
    #[derive(Default)]
    struct Shifting {
        disk: MemoryStorage,
        lists: Mutex<VecDeque<Vec<(String, u64)>>>,
        listed: AtomicUsize,
        unread: Mutex<Option<(String, io::ErrorKind)>>,
        /// How late lists may be.
        delay: Duration,
        paused: Mutex<Duration>,
    }

    impl Storage for Shifting {
        fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
            self.disk.put(name, content)
        }

        fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
            match &*self.unread.lock().unwrap() {
                Some((file, kind)) if file == name => Err((*kind).into()),
                _ => self.disk.read(name, offset, len),
            }
        }

        fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
            if folder != INDEX_FOLDER {
                return self.disk.list(folder);
            }
            self.listed.fetch_add(1, Relaxed);
            self.lists.lock().unwrap().pop_front().map_or_else(|| self.disk.list(folder), Ok)
        }

        fn delete(&self, name: &str) -> io::Result<()> {
            self.disk.delete(name)
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn listing_delay(&self) -> Duration {
            self.delay
        }

        fn pause(&self, time: Duration) {
            *self.paused.lock().unwrap() += time;
        }
    }

    #[test]
    fn late_list_of_segments_is_outwaited() {
        let sealer = sealer();
        for (delay, late_lists) in [(61, 0), (61, 4), (61, 99), (0, 1), (0, 99)] {
            let shifting = Shifting { delay: Duration::from_secs(delay), ..Shifting::default() };
            let disk = &shifting.disk;
            let segment = segment_of_one_chunk(disk, &sealer);
            let pack = segment.packs()[0].name;
            Index::default().write_segment(disk, &sealer, None, segment).unwrap();
            // It was deleted by who has merged it into the one that is there.
            let old = vec![(FileHash::of(b"an old segment").to_string(), 400)];
            *shifting.lists.lock().unwrap() = std::iter::repeat_n(old, late_lists).collect();
            let loaded = Index::load(&shifting, &sealer, None);
            let (waited, is_bounded) = (*shifting.paused.lock().unwrap(), shifting.listed.load(Relaxed) < 30);
            assert!(waited <= shifting.delay && is_bounded, "{late_lists} lists: {waited:?}");
            match loaded {
                Ok((index, problems)) => {
                    let named: Vec<FileHash> = index.named_packs().into_keys().map(|(_, name)| name).collect();
                    assert!(late_lists < 99 && named == [pack] && problems.is_empty(), "{problems:?}");
                }
                Err(error) => assert!(late_lists == 99 && error.is_missing_file(), "{error}"),
            }
            assert_eq!(late_lists == 99 && delay > 0, !waited.is_zero() && waited == shifting.delay);
        }
    }

    #[test]
    fn an_index_that_a_prune_overtakes_is_listed_again_and_no_other() {
        let sealer = sealer();
        let shifting = Shifting::default();
        let disk = &shifting.disk;
        Index::default().write_segment(disk, &sealer, None, segment_of(disk, 0)).unwrap();
        let old = disk.list(INDEX_FOLDER).unwrap();
        let old_bytes = disk.files()[&format!("{INDEX_FOLDER}/{}", old[0].0)].clone();
        // In its place one that names another pack.
        disk.delete(&format!("{INDEX_FOLDER}/{}", old[0].0)).unwrap();
        disk.files().retain(|name, _| !name.starts_with("packs/"));
        let segment = segment_of_one_chunk(disk, &sealer);
        let new_pack = segment.packs()[0].name;
        Index::default().write_segment(disk, &sealer, None, segment).unwrap();
        let new = disk.list(INDEX_FOLDER).unwrap();
        disk.put(&format!("{INDEX_FOLDER}/{}", old[0].0), &old_bytes).unwrap();

        let load = |lists: &[&Vec<(String, u64)>]| {
            *shifting.lists.lock().unwrap() = lists.iter().map(|&list| list.clone()).collect();
            let (index, problems) = Index::load(&shifting, &sealer, None).unwrap();
            let named: Vec<FileHash> = index.named_packs().into_keys().map(|(_, name)| name).collect();
            (named, problems.len(), shifting.listed.swap(0, Relaxed))
        };
        let old_pack = FileHash::of(&0u32.to_le_bytes());
        let none = Vec::new();
        assert_eq!(load(&[&new, &none]), (vec![new_pack], 0, 1), "nothing is missing");
        assert_eq!(load(&[&old, &new, &new]), (vec![new_pack], 0, 3), "a pack was missing");
        assert_eq!(load(&[&none, &new, &new]), (vec![new_pack], 0, 3), "a pack was not named");
        assert_eq!(load(&[&none, &none]), (vec![], 0, 2), "none names it, and that does not change");
        let changing: Vec<&Vec<_>> = [&old, &none].into_iter().cycle().take(2 * LOADS_MAX + 9).collect();
        let (named, _, listed) = load(&changing);
        assert_eq!((named, listed), (vec![old_pack], 2 * LOADS_MAX - 1), "at some time it is what it is");
    }

    /// A segment of a pack that is one.
    fn segment_of_one_chunk(disk: &MemoryStorage, sealer: &Sealer) -> SegmentBuilder {
        let mut pack = PackBuilder::new(sealer, PackKind::Data, 0).unwrap();
        let (kind, chunks) = (ChunkKind::Data, [(id(1), 5)]);
        pack.add(&NewFrame { encoding: Encoding::Raw, kind, base: None, chunks: &chunks, encoded: b"chunk" });
        let (bytes, directory) = pack.finish().unwrap();
        let name = FileHash::of(&bytes);
        let pack = SegmentPack { name, kind: PackKind::Data, len: bytes.len() as u64 };
        disk.put(&pack.file(), &bytes).unwrap();
        let mut segment = SegmentBuilder::default();
        segment.add_pack(pack, &directory);
        segment
    }

    /// A prune deletes them at any moment.
    #[test]
    fn of_packs_that_no_segment_names_what_is_gone_is_no_problem_and_what_is_not_read_is_one() {
        let sealer = sealer();
        let shifting = Shifting::default();
        let name = segment_of_one_chunk(&shifting.disk, &sealer).packs()[0].name;
        let unread = |kind: Option<io::ErrorKind>| {
            *shifting.unread.lock().unwrap() =
                kind.map(|kind| (crate::format::pack::pack_file(PackKind::Data, &name), kind));
        };
        let load = || Index::load(&shifting, &sealer, None);
        unread(Some(io::ErrorKind::NotFound));
        let (index, problems) = load().unwrap();
        assert_eq!((index.packs().count(), problems), (0, vec![]));
        unread(Some(io::ErrorKind::PermissionDenied));
        assert_eq!(load().unwrap().1.len(), 1);
        let verified = |kind| {
            unread(None);
            let (mut index, problems) = load().unwrap();
            assert_eq!((index.unlisted_packs().len(), problems), (1, vec![]));
            unread(kind);
            let problems = index.verify_unlisted(&shifting, |_| true);
            (problems.map(|problems| problems.len()).ok(), index.unlisted_packs().len())
        };
        assert_eq!(verified(None), (Some(0), 1));
        assert_eq!(verified(Some(io::ErrorKind::NotFound)), (Some(0), 0));
        assert_eq!(verified(Some(io::ErrorKind::PermissionDenied)), (None, 1));
    }

    #[test]
    fn superseded_segments_are_not_read() {
        let (storage, sealer, index) = of_many_segments();
        let live = live(&index);
        assert!(live.len() < 30, "{} segments", live.len());
        let mut superseded = 0;
        for (name, bytes) in storage.files().iter_mut().filter(|(name, _)| name.starts_with("index/")) {
            if !live.contains(name.trim_start_matches("index/")) {
                bytes.fill(0);
                superseded += 1;
            }
        }
        assert_eq!(superseded + live.len(), 200);
        // Of each size up to its eighth.
        let written: usize =
            storage.files().iter().filter(|(name, _)| name.starts_with("index/")).map(|(_, bytes)| bytes.len()).sum();
        assert!(written < 4 * 200 * 12_000, "{written} bytes were written");
        let (index, problems) = Index::load(&storage, &sealer, None).unwrap();
        assert_eq!(problems, []);
        let count = 200 * SEGMENT_CHUNKS;
        assert!(found(&index) == count && !index.contains(&id(count), &|_| true).unwrap());
    }

    #[test]
    fn eight_segments_of_a_size_become_one_unless_that_were_too_long() {
        let storage = MemoryStorage::default();
        let sealer = sealer();
        let mut index = Index::default();
        for n in 0..8 {
            assert_eq!(index.segments.len(), n);
            let segment = segment_of(&storage, n as u32 * SEGMENT_CHUNKS);
            index.write_segment(&storage, &sealer, None, segment).unwrap();
        }
        assert_eq!(index.segments.len(), 1);
        index.write_segment(&storage, &sealer, None, SegmentBuilder::default()).unwrap();
        assert_eq!(index.segments.len(), 1, "one that names nothing is not written");
        assert_eq!([1, 7, 8, 63, 64].map(tier), [0, 0, 1, 1, 2]);
        let of_entries = |entry_count| {
            let mut index = Index::default();
            for n in 0..7 {
                let builder = segment_of(&storage, n);
                let mut open = open(&index, builder.contents());
                open.segment.entry_count = entry_count;
                index.segments.push(open);
            }
            index
        };
        let eighth = MERGED_MAX_ENTRIES / 8;
        assert_eq!(of_entries(eighth).take_mergeable(eighth, 0).len(), 7);
        assert_eq!(of_entries(eighth).take_mergeable(eighth + 1, 0).len(), 0);
    }

    #[test]
    fn what_leaves_out_a_pack_replaces_the_segments_that_name_it_and_nothing_is_left_of_them() {
        let (storage, sealer, mut index) = of_many_segments();
        for (left_out, n) in (1..).zip([3, 150]) {
            let before = list_segments(&storage).unwrap();
            let gone = FileHash::of(&(n * SEGMENT_CHUNKS).to_le_bytes());
            index.leave_out(&storage, &sealer, None, |pack| *pack == gone).unwrap();
            let named: HashSet<FileHash> = index.named_packs().into_keys().map(|(_, name)| name).collect();
            assert!(named.len() == 200 - left_out && !named.contains(&gone));
            let files: BTreeSet<String> = list_segments(&storage).unwrap().into_iter().map(|(name, _)| name).collect();
            assert_eq!(files, live(&index));
            let was_there = |name: &FileHash| before.iter().any(|(file, _)| *file == name.to_string());
            let new = index.segments.iter().map(|open| &open.segment).filter(|segment| !was_there(&segment.name));
            let mut superseded = new.flat_map(|segment| &segment.superseded);
            assert!(superseded.all(was_there), "of those that had gone before nobody need know");
        }
        let (index, problems) = Index::load(&storage, &sealer, None).unwrap();
        // What was left out is named by none, and no pack in fact.
        assert_eq!((found(&index), problems.len()), (198 * SEGMENT_CHUNKS, 2), "{problems:?}");
    }

    #[test]
    fn copies_of_the_segments_that_count_are_kept_and_read_in_their_place() {
        let (storage, sealer, index) = of_many_segments();
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("of this repository");
        fs::create_dir(&cache).unwrap();
        for stranger in ["a note".to_owned(), "ab".repeat(32)] {
            fs::write(cache.join(stranger), b"no segment").unwrap();
        }
        let live = live(&index);
        Index::load(&storage, &sealer, Some(&cache)).unwrap();
        let mut copies: BTreeSet<String> = names_of_copies(&cache).into_iter().collect();
        assert!(copies.remove("a note"), "what is no copy is left alone");
        assert_eq!(copies, live);
        for (_, bytes) in storage.files().iter_mut().filter(|(name, _)| name.starts_with("index/")) {
            bytes.fill(0);
        }
        let (index, problems) = Index::load(&storage, &sealer, Some(&cache)).unwrap();
        assert_eq!((problems, index.segments.len()), (vec![], live.len()), "nothing else was read");
        assert_eq!(found(&index), 200 * SEGMENT_CHUNKS);
    }

    #[test]
    fn what_a_broken_segment_superseded_is_read() {
        let (storage, sealer, index) = of_many_segments();
        let largest = index.segments.iter().max_by_key(|open| open.segment.entry_count).unwrap().segment.name;
        storage.files().get_mut(&format!("{INDEX_FOLDER}/{largest}")).unwrap()[100] ^= 1;
        let (index, problems) = Index::load(&storage, &sealer, None).unwrap();
        // The pack that was new when it was merged is named by no other, and no pack in fact.
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!(found(&index), 199 * SEGMENT_CHUNKS);
    }

    #[test]
    fn what_is_only_in_packs_that_no_segment_names_is_told_but_for_what_a_mark_names() {
        let storage = MemoryStorage::default();
        let in_both = SEGMENT_CHUNKS - 1;
        let of_second = SEGMENT_CHUNKS;
        let mut both = segment_of(&storage, 0);
        both.append(segment_of(&storage, 1));
        let packs = both.packs().to_vec();
        let payload = both.contents();
        let mut index = of_packs(&packs);
        let open = |index: &Index| open(index, payload.clone());
        let left = |index: &Index| [0, in_both, of_second].map(|n| index.is_only_unlisted(&id(n)).unwrap());
        assert_eq!(left(&index), [false; 3], "it is nowhere");
        index.unlisted = Some(open(&index));
        assert_eq!(left(&index), [true; 3]);
        index.marked.insert(packs[0].name);
        index.unlisted = Some(open(&index));
        assert_eq!(left(&index), [false, false, true]);
        index.segments.push(open(&index));
        assert_eq!(left(&index), [false; 3], "it is named");
    }

    #[test]
    fn what_is_marked_is_read_where_there_is_nothing_else_and_counts_for_nothing() {
        let storage = MemoryStorage::default();
        let mut twice = segment_of(&storage, 0);
        twice.append(segment_of(&storage, 1));
        let (packs, payload) = (twice.packs().to_vec(), twice.contents());
        let in_both = id(5);
        for marked in [0, 1] {
            let mut index = of_packs(&packs);
            index.marked.insert(packs[marked].name);
            index.segments.push(open(&index, payload.clone()));
            let places: Vec<SegmentPack> = index.places(&in_both).unwrap().iter().map(|place| place.pack).collect();
            assert_eq!(places, [packs[1 - marked], packs[marked]]);
            assert!(index.contains(&in_both, &|_| true).unwrap() && index.reads(&in_both).unwrap());
            let only_in = id(if marked == 0 { 0 } else { SEGMENT_CHUNKS });
            assert!(!index.contains(&only_in, &|_| true).unwrap() && index.reads(&only_in).unwrap());
            index.drop_packs(&HashSet::from([packs[marked].name]));
            assert!(!index.reads(&only_in).unwrap() && index.places(&in_both).unwrap().len() == 1);
        }
    }

    /// Each chunk of a chain is a delta against the next; `last` is what the last is against.
    fn chain(deltas: u32, last: Option<ChunkId>) -> Index {
        let mut directory = Directory::default();
        for n in 0..=deltas {
            let base = if n < deltas { Some(id(n + 1)) } else { last };
            let encoding = if base.is_some() { Encoding::Delta } else { Encoding::Raw };
            let base = base.map(|id| Base { id, version: 1 });
            let kind = ChunkKind::Data;
            directory.frames.push(Frame { encoding, kind, offset: 0, sealed_len: 4, decoded_len: 4, base });
            directory.chunks.push(PackedChunk { id: id(n), frame: n, offset: 0, len: 4 });
        }
        let pack = SegmentPack { name: FileHash([1; 32]), kind: PackKind::Data, len: 4 };
        let mut builder = SegmentBuilder::default();
        builder.add_pack(pack, &directory);
        let mut index = of_packs(&[pack]);
        index.segments.push(open(&index, builder.contents()));
        index
    }

    #[test]
    fn a_delta_counts_while_its_base_does_and_a_ring_of_them_never() {
        let is_there = |index: Index| index.contains(&id(0), &|_| true).unwrap();
        assert!(is_there(chain(0, None)) && is_there(chain(1, None)) && is_there(chain(DELTA_MAX_DEPTH, None)));
        assert!(!is_there(chain(DELTA_MAX_DEPTH + 1, None)), "longer ones are not written");
        assert!(!is_there(chain(3, Some(id(99)))), "the base of the last is nowhere");
        assert!(!is_there(chain(0, Some(id(0)))) && !is_there(chain(1, Some(id(0)))), "a ring");
    }

    /// Each of many copies of a chunk is a delta of the next chunk, of which it is the same; so the last is asked for endlessly often.
    #[test]
    fn deltas_of_each_other_are_looked_at_once() {
        let mut directory = Directory::default();
        for n in 0..400u32 {
            let base = Some(Base { id: id(n / 40 + 1), version: 1 });
            let (kind, encoding) = (ChunkKind::Data, Encoding::Delta);
            directory.frames.push(Frame { encoding, kind, offset: 0, sealed_len: 4, decoded_len: 4, base });
            directory.chunks.push(PackedChunk { id: id(n / 40), frame: n, offset: 0, len: 4 });
        }
        let pack = SegmentPack { name: FileHash([1; 32]), kind: PackKind::Data, len: 4 };
        let mut builder = SegmentBuilder::default();
        builder.add_pack(pack, &directory);
        let mut index = of_packs(&[pack]);
        index.segments.push(open(&index, builder.contents()));
        let asked = std::cell::Cell::new(0);
        let counts = |_: &FileHash| {
            asked.set(asked.get() + 1);
            true
        };
        assert!(!index.contains(&id(0), &counts).unwrap());
        assert!(asked.get() <= 400, "{}", asked.get());
        assert!(index.places(&id(0)).unwrap().len() == 40);
    }
}
