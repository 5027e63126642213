//! Chunks out of packs, each checked against its id.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::{
    error::{Error, Result},
    format::{
        delta::{self, DELTA_MAX_DEPTH},
        pack::{Base, ChunkKind, Pack, SegmentPack, chunk_id},
        tree::ChunkSource,
    },
    id::{ChunkId, FileHash},
    index::{Index, Place},
    repository::core::Core,
};

/// About 20 MB of directories, by their chunks.
const CACHED_CHUNKS_MAX: usize = 200_000;
/// Copies of chunks that are tried for one that is wanted, those of the bases of deltas included.
const ATTEMPTS_MAX: u32 = 256;
/// Decoded frames, by their bytes.
const CACHED_FRAME_BYTES_MAX: usize = 24 << 20;
/// Chunks on their way into packs, by their bytes: more than a backup writes that brings nothing new. A disk that is full is
/// found out so much later.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;

/// Reads the chunks of a repository, as its index was when this was made, or is since a pack was missed.
pub(crate) struct ChunkReader {
    pub(crate) core: Arc<Core>,
    index: RwLock<Index>,
    /// For one who only reads, and has no session: how the index is read anew.
    reload: Option<Reload>,
    packs: Mutex<Cache<FileHash, Pack>>,
    /// Packs that only a newer program knows, and what of them: to tell that took all of their bytes.
    newer: Mutex<HashMap<FileHash, String>>,
    /// Neighbours are mostly wanted one after another, and so are the bases of deltas.
    frames: Mutex<Cache<(FileHash, u32), Decoded>>,
    unwritten: Mutex<Unwritten>,
}

/// Chunks that a writer can read before they are in packs, as long as these are all that it has under way.
#[derive(Default)]
struct Unwritten {
    chunks: HashMap<ChunkId, (ChunkKind, Vec<u8>)>,
    bytes: usize,
    /// Whether there were more than are kept in memory, so that none is any more.
    is_over: bool,
}

/// How one who only reads goes on when a prune has deleted packs that were there.
struct Reload {
    cache_dir: Option<PathBuf>,
    /// The packs that were missed: once each.
    missed: Mutex<HashSet<FileHash>>,
}

/// The plaintext of a frame.
struct Decoded {
    bytes: Vec<u8>,
    /// How many deltas it is made of.
    deltas: u32,
}

/// Looking for one chunk among its copies and those of the bases that these are deltas against. Without it, k copies of a chunk that are deltas of
/// each other would cost k to the power of how deep deltas go.
#[derive(Default)]
struct Search {
    /// Chunks that could not be read, each with the least number of deltas that was above it.
    failed: Vec<(ChunkId, u32)>,
    attempts: u32,
}

impl Search {
    /// Whether `id` with so many deltas above it has failed, or is being read: then it is a delta of itself.
    fn has_failed(&self, id: &ChunkId, depth: u32) -> bool {
        self.failed.iter().any(|(failed, least)| failed == id && *least <= depth)
    }

    /// Counts an attempt. Gives whether there may be one more.
    fn may_try(&mut self) -> bool {
        self.attempts += 1;
        self.attempts <= ATTEMPTS_MAX
    }
}

/// What was read last, up to a weight.
struct Cache<K, V> {
    held: HashMap<K, (Arc<V>, usize)>,
    oldest_first: VecDeque<K>,
    weight: usize,
}

impl<K: Hash + Eq + Copy, V> Cache<K, V> {
    fn new() -> Cache<K, V> {
        Cache { held: HashMap::new(), oldest_first: VecDeque::new(), weight: 0 }
    }

    fn get(&self, key: &K) -> Option<Arc<V>> {
        self.held.get(key).map(|(value, _)| value.clone())
    }

    fn put(&mut self, key: K, value: Arc<V>, weight: usize, weight_max: usize) {
        if self.held.insert(key, (value, weight)).is_none() {
            self.weight += weight;
            self.oldest_first.push_back(key);
        }
        while self.weight > weight_max && self.oldest_first.len() > 1 {
            let dropped = self.oldest_first.pop_front().and_then(|oldest| self.held.remove(&oldest));
            self.weight -= dropped.map_or(0, |(_, weight)| weight);
        }
    }
}

impl ChunkReader {
    /// For one whose session protects what it reads.
    pub(crate) fn new(core: Arc<Core>, index: Index) -> ChunkReader {
        let (packs, frames) = (Mutex::new(Cache::new()), Mutex::new(Cache::new()));
        let (newer, unwritten) = Default::default();
        ChunkReader { core, index: RwLock::new(index), reload: None, packs, newer, frames, unwritten }
    }

    /// For one who only reads: what a prune moves meanwhile is looked for again.
    pub(crate) fn following(core: Arc<Core>, index: Index, cache_dir: Option<&Path>) -> ChunkReader {
        let reload = Reload { cache_dir: cache_dir.map(Path::to_owned), missed: Mutex::default() };
        ChunkReader { reload: Some(reload), ..ChunkReader::new(core, index) }
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every place where `id` lies, in packs that are there.
    pub(crate) fn places(&self, id: &ChunkId) -> Result<Vec<Place>> {
        self.index().places(id)
    }

    /// The pack with its directory, from memory if it was used lately.
    pub(crate) fn pack(&self, pack: &SegmentPack) -> Result<Arc<Pack>> {
        let packs = || self.packs.lock().unwrap_or_else(PoisonError::into_inner);
        let known = packs().get(&pack.name);
        if let Some(open) = known {
            return Ok(open);
        }
        let newer = || self.newer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(what) = newer().get(&pack.name) {
            return Err(Error::newer(pack.file(), what));
        }
        let opened = Pack::open(&*self.core.storage, &self.core.sealer, pack);
        if let Err(Error::Unsupported { what, .. }) = &opened {
            newer().insert(pack.name, what.clone());
        }
        let open = Arc::new(opened?);
        packs().put(pack.name, open.clone(), open.directory.chunks.len(), CACHED_CHUNKS_MAX);
        Ok(open)
    }

    /// Whether `id` lies in a pack that is there to stay, and in which no damage was found.
    pub(crate) fn holds(&self, id: &ChunkId) -> Result<bool> {
        if self.core.distrusts_any() {
            self.index().contains(id, &|pack| !self.core.distrusts(pack))
        } else {
            self.index().contains(id, &|_| true)
        }
    }

    /// The same, and notes the packs that it goes by.
    pub(crate) fn holds_in(&self, id: &ChunkId, note: &dyn Fn(&FileHash)) -> Result<bool> {
        let trusted = |pack: &FileHash| {
            let is_trusted = !self.core.distrusts_any() || !self.core.distrusts(pack);
            if is_trusted {
                note(pack);
            }
            is_trusted
        };
        self.index().contains(id, &trusted)
    }

    fn unwritten(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a chunk that is on its way into a pack readable, as long as there are few.
    pub(crate) fn keep_unwritten(&self, id: ChunkId, kind: ChunkKind, plaintext: &[u8]) {
        let mut unwritten = self.unwritten();
        unwritten.bytes += plaintext.len();
        if unwritten.is_over || unwritten.bytes > UNWRITTEN_BYTES_MAX {
            *unwritten = Unwritten { is_over: true, ..Unwritten::default() };
        } else {
            unwritten.chunks.insert(id, (kind, plaintext.to_vec()));
        }
    }

    /// Whether every chunk that was kept readable still is.
    pub(crate) fn reads_unwritten(&self) -> bool {
        !self.unwritten().is_over
    }

    /// Lets go of chunks that are in packs, and in the index, now.
    pub(crate) fn forget_unwritten(&self) {
        *self.unwritten() = Unwritten::default();
    }

    /// The plaintext of `id`, which must be a chunk of `kind`, from the first of its places where it is whole.
    pub(crate) fn read(&self, id: &ChunkId, kind: ChunkKind) -> Result<Vec<u8>> {
        if let Some((_, plaintext)) = self.unwritten().chunks.get(id).filter(|(of, _)| *of == kind) {
            return Ok(plaintext.clone());
        }
        self.read_at_depth(id, kind, 0, &mut Search::default()).map(|(bytes, _)| bytes)
    }

    /// The same, and how many deltas it is made of, where `depth` of them are above it.
    fn read_at_depth(&self, id: &ChunkId, kind: ChunkKind, depth: u32, search: &mut Search) -> Result<(Vec<u8>, u32)> {
        if search.has_failed(id, depth) {
            return Err(Error::ChunkMissing { id: *id });
        }
        // Until it is read.
        search.failed.push((*id, depth));
        loop {
            let (mut reason, mut missed) = (None, Vec::new());
            for place in self.places(id)? {
                if !search.may_try() {
                    break;
                }
                match self.read_place(id, kind, &place, depth, search) {
                    Ok(read) => {
                        search.failed.retain(|failed| *failed != (*id, depth));
                        return Ok(read);
                    }
                    Err(error) => {
                        // That the base of a delta is gone is no fault of the pack.
                        if error.is_unreadable() && !matches!(error, Error::ChunkMissing { .. }) {
                            self.core.distrust(place.pack.name);
                        }
                        missed.extend(error.is_missing_file().then_some(place.pack.name));
                        // What a newer program can read is not lost.
                        if error.is_newer() || reason.is_none() {
                            reason = Some(error);
                        }
                    }
                }
            }
            if !self.reload_without(&missed)? {
                return Err(reason.unwrap_or(Error::ChunkMissing { id: *id }));
            }
        }
    }

    /// Reads the index anew if that may help one who has missed these packs.
    fn reload_without(&self, missed: &[FileHash]) -> Result<bool> {
        let Some(reload) = self.reload.as_ref().filter(|_| !missed.is_empty()) else { return Ok(false) };
        let mut known = reload.missed.lock().unwrap_or_else(PoisonError::into_inner);
        if missed.iter().filter(|pack| known.insert(**pack)).count() > 0 {
            let (index, _) = self.core.load_index(reload.cache_dir.as_deref())?;
            *self.index_mut() = index;
            return Ok(true);
        }
        // Another thread has missed them, and read the index since this one asked for places.
        let index = self.index();
        Ok(missed.iter().any(|name| !index.packs().any(|pack| pack.name == *name)))
    }

    /// Whether the copy of `id` that lies at `place` can be read.
    pub(crate) fn is_whole(&self, id: &ChunkId, place: &Place) -> bool {
        let kind = self.pack(&place.pack).and_then(|pack| {
            let number = frame_of(&pack, place)?;
            Ok(pack.directory.frames[number as usize].kind)
        });
        kind.is_ok_and(|kind| self.read_place(id, kind, place, 0, &mut Search::default()).is_ok())
    }

    fn read_place(
        &self,
        id: &ChunkId,
        kind: ChunkKind,
        place: &Place,
        depth: u32,
        search: &mut Search,
    ) -> Result<(Vec<u8>, u32)> {
        let pack = self.pack(&place.pack)?;
        let number = frame_of(&pack, place)?;
        let frames = || self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let known = frames().get(&(place.pack.name, number));
        let frame = match known {
            Some(frame) => frame,
            None => {
                let sealed = pack.read_frame(&*self.core.storage, number)?;
                let frame = Arc::new(self.decode_at_depth(&pack, number, sealed, depth, search)?);
                frames().put((place.pack.name, number), frame.clone(), frame.bytes.len(), CACHED_FRAME_BYTES_MAX);
                frame
            }
        };
        let chunk = self.chunk_of_frame(&pack, place.ordinal, &frame.bytes, id, kind)?;
        Ok((chunk.to_vec(), frame.deltas))
    }

    /// What a version after that of chunk `previous` is to be a delta against. `None` if it is to stand alone.
    pub(crate) fn base_after(&self, previous: ChunkId) -> Result<Option<Base>> {
        let (mut id, mut below) = (previous, self.delta_of(&previous)?);
        let Some(version) = delta::next_version(below.map_or(0, |base| base.version)) else { return Ok(None) };
        let wanted = delta::parent(version);
        for _ in 0..DELTA_MAX_DEPTH {
            let Some(base) = below.filter(|base| base.version > wanted) else { break };
            (id, below) = (base.id, self.delta_of(&base.id)?);
        }
        // Prune may have written anything below anew.
        for _ in 0..DELTA_MAX_DEPTH {
            let Some(base) = below else { return Ok(Some(Base { id, version })) };
            below = self.delta_of(&base.id)?;
        }
        Ok(None)
    }

    /// What a chunk was written against.
    pub(crate) fn delta_of(&self, id: &ChunkId) -> Result<Option<Base>> {
        let Some(place) = self.places(id)?.first().copied() else { return Err(Error::ChunkMissing { id: *id }) };
        let pack = self.pack(&place.pack)?;
        Ok(pack.directory.frames[frame_of(&pack, &place)? as usize].base)
    }

    /// The plaintext of a frame, its base read if it is a delta.
    pub(crate) fn decode(&self, pack: &Pack, number: u32, sealed: Vec<u8>) -> Result<Vec<u8>> {
        self.decode_at_depth(pack, number, sealed, 0, &mut Search::default()).map(|frame| frame.bytes)
    }

    fn decode_at_depth(
        &self,
        pack: &Pack,
        number: u32,
        sealed: Vec<u8>,
        depth: u32,
        search: &mut Search,
    ) -> Result<Decoded> {
        let frame = &pack.directory.frames[number as usize];
        let Some(base) = frame.base else {
            return Ok(Decoded { bytes: pack.decode_frame(number, sealed, None)?, deltas: 0 });
        };
        let too_deep = || Error::damaged(&pack.file, format!("frame {number} is a delta of too many deltas"));
        if depth == DELTA_MAX_DEPTH {
            return Err(too_deep());
        }
        let (base, deltas) = self.read_at_depth(&base.id, frame.kind, depth + 1, search)?;
        // What is remembered has been read at another depth.
        if depth + deltas >= DELTA_MAX_DEPTH {
            return Err(too_deep());
        }
        Ok(Decoded { bytes: pack.decode_frame(number, sealed, Some(&base))?, deltas: deltas + 1 })
    }

    /// The chunk with `ordinal` out of its decoded frame, once it has the id and kind that were asked for.
    pub(crate) fn chunk_of_frame<'f>(
        &self,
        pack: &Pack,
        ordinal: u16,
        frame: &'f [u8],
        id: &ChunkId,
        kind: ChunkKind,
    ) -> Result<&'f [u8]> {
        let chunk = &pack.directory.chunks[usize::from(ordinal)];
        let start = chunk.offset as usize;
        let bytes = &frame[start..start + chunk.len as usize];
        if chunk_id(&self.core.keys.id, kind, bytes) == *id {
            Ok(bytes)
        } else {
            Err(Error::damaged(&pack.file, format!("chunk {ordinal} is not {id}")))
        }
    }
}

impl ChunkSource for ChunkReader {
    fn chunk(&self, id: &ChunkId, kind: ChunkKind) -> Result<Vec<u8>> {
        self.read(id, kind)
    }
}

/// The number of the frame in which a chunk lies.
fn frame_of(pack: &Pack, place: &Place) -> Result<u32> {
    let chunk = pack.directory.chunks.get(usize::from(place.ordinal));
    chunk
        .map(|chunk| chunk.frame)
        .ok_or_else(|| Error::damaged(&pack.file, "the index names a chunk that it does not hold"))
}
