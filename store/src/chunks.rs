//! Chunks out of packs, each checked against its id.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    error::{Error, Result},
    id::{ChunkId, FileHash},
    index::{Index, Place, SegmentPack},
    pack::{ChunkKind, Pack, chunk_id},
    repository::Core,
    tree::ChunkSource,
};

/// Deltas are at most eight deep; a longer chain is a circle.
const DELTA_MAX_DEPTH: u32 = 8;
/// About 20 MB of directories.
const CACHED_CHUNKS_MAX: usize = 200_000;

/// Reads the chunks of a repository, as its index was when this was made.
pub(crate) struct ChunkReader {
    pub(crate) core: Arc<Core>,
    pub(crate) index: Index,
    packs: Mutex<PackCache>,
}

/// The packs whose directories were read last.
#[derive(Default)]
struct PackCache {
    packs: HashMap<FileHash, Arc<Pack>>,
    oldest_first: VecDeque<FileHash>,
    chunks: usize,
}

impl ChunkReader {
    pub(crate) fn new(core: Arc<Core>, index: Index) -> ChunkReader {
        ChunkReader { core, index, packs: Mutex::default() }
    }

    /// The pack with its directory, from memory if it was used lately.
    pub(crate) fn pack(&self, pack: &SegmentPack) -> Result<Arc<Pack>> {
        let lock = || self.packs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = lock().packs.get(&pack.name) {
            return Ok(open.clone());
        }
        let open = Arc::new(Pack::open(&*self.core.storage, &self.core.sealer, &pack.name, pack.len)?);
        let mut cache = lock();
        if cache.packs.insert(pack.name, open.clone()).is_none() {
            cache.chunks += open.directory.chunks.len();
            cache.oldest_first.push_back(pack.name);
        }
        while cache.chunks > CACHED_CHUNKS_MAX && cache.oldest_first.len() > 1 {
            let dropped = cache.oldest_first.pop_front().and_then(|oldest| cache.packs.remove(&oldest));
            cache.chunks -= dropped.map_or(0, |pack| pack.directory.chunks.len());
        }
        Ok(open)
    }

    /// Whether `id` lies in a pack that is there, and in which no damage was found.
    pub(crate) fn holds(&self, id: &ChunkId) -> Result<bool> {
        if !self.core.distrusts_any() {
            return self.index.contains(id);
        }
        Ok(self.index.places(id)?.iter().any(|place| !self.core.distrusts(&place.pack.name)))
    }

    /// The plaintext of `id`, which must be a chunk of `kind`, from the first of its places where it is whole.
    pub(crate) fn read(&self, id: &ChunkId, kind: ChunkKind) -> Result<Vec<u8>> {
        self.read_at_depth(id, kind, 0)
    }

    fn read_at_depth(&self, id: &ChunkId, kind: ChunkKind, depth: u32) -> Result<Vec<u8>> {
        let mut first_error = None;
        for place in self.index.places(id)? {
            match self.read_place(id, kind, &place, depth) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    if error.is_damage() {
                        self.core.distrust(place.pack.name);
                    }
                    first_error = first_error.or(Some(error));
                }
            }
        }
        Err(first_error.unwrap_or(Error::ChunkMissing { id: *id }))
    }

    fn read_place(&self, id: &ChunkId, kind: ChunkKind, place: &Place, depth: u32) -> Result<Vec<u8>> {
        let pack = self.pack(&place.pack)?;
        let number = pack.directory.chunks.get(usize::from(place.ordinal)).map(|chunk| chunk.frame);
        let number =
            number.ok_or_else(|| Error::damaged(&pack.file, "the index names a chunk that it does not hold"))?;
        let sealed = pack.read_frame(&*self.core.storage, number)?;
        let frame = self.decode(&pack, number, sealed, depth)?;
        self.chunk_of_frame(&pack, place.ordinal, &frame, id, kind).map(<[u8]>::to_vec)
    }

    /// The plaintext of a frame, its base read if it is a delta.
    pub(crate) fn decode(&self, pack: &Pack, number: u32, sealed: Vec<u8>, depth: u32) -> Result<Vec<u8>> {
        let frame = &pack.directory.frames[number as usize];
        let base = match frame.base {
            Some(_) if depth == DELTA_MAX_DEPTH => {
                return Err(Error::damaged(&pack.file, format!("frame {number} is a delta of too many deltas")));
            }
            Some(base) => Some(self.read_at_depth(&base, frame.kind, depth + 1)?),
            None => None,
        };
        pack.decode_frame(number, sealed, base.as_deref())
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
