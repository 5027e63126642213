//! What is still needed: a bit for each entry of the index, set where the repository keeps that copy of the chunk.
//!
//! Ids of data are gathered and looked up many at once. Nodes and lists are looked up as they are met, and walked once: a bit that is set already
//! says that all below has been met.

use std::collections::{HashMap, HashSet};

use crate::{
    error::Result,
    format::pack::{ChunkKind, SegmentPack},
    id::{ChunkId, FileHash},
    index::{Index, segment::class_len},
    maintain::entry_numbers::{BATCH_IDS, Bits, NumberedIndex, NumberedPack},
    read::{chunks::ChunkReader, walk::walk},
};

/// The entries of an index that are needed.
pub(crate) struct Live<'a> {
    chunks: &'a ChunkReader,
    index: NumberedIndex<'a>,
    needed: Bits,
    /// Those that are needed, or that a forgotten snapshot reaches.
    known: Bits,
    /// Those whose bases have not been looked at yet.
    fresh: Bits,
    pending: Vec<ChunkId>,
}

/// Why a chunk is looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// A snapshot or a parked run reaches it.
    Needed,
    /// A forgotten snapshot does.
    Forgotten,
}

/// What a pack holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackUse {
    pub(crate) pack: SegmentPack,
    pub(crate) is_marked: bool,
    pub(crate) needed_chunks: u64,
    /// What needed chunks take of the length of the pack, about.
    pub(crate) needed_bytes: u64,
    /// Whether some chunk is neither needed nor of a forgotten snapshot: of a run that was cut off, or of one that goes on.
    pub(crate) has_unknown: bool,
}

impl<'a> Live<'a> {
    pub(crate) fn new(chunks: &'a ChunkReader, index: &'a Index) -> Live<'a> {
        let index = NumberedIndex::new(chunks, index);
        let bits = || Bits::new(index.len());
        let (needed, known, fresh) = (bits(), bits(), bits());
        Live { chunks, index, needed, known, fresh, pending: Vec::new() }
    }

    /// Needs all that the tree `root` reaches.
    pub(crate) fn need_tree(&mut self, root: &ChunkId) -> Result<()> {
        let chunks = self.chunks;
        walk(chunks, root, &mut |kind, id| match kind {
            ChunkKind::Data => self.meet_later(id, Why::Needed).map(|()| false),
            ChunkKind::Node | ChunkKind::List => self.meet(id, Why::Needed),
        })
    }

    /// Needs the bases of all deltas that are needed, and theirs. To be called when all trees are.
    pub(crate) fn need_bases(&mut self) -> Result<()> {
        self.meet_bases(Why::Needed)
    }

    /// Knows all that the trees of forgotten snapshots reach, as far as it can be read. To be called when all that is needed is.
    pub(crate) fn know(&mut self, roots: &[ChunkId]) -> Result<()> {
        // A node that is known may be known as the base of a delta, and nothing below it is met then.
        let (chunks, mut walked) = (self.chunks, HashSet::new());
        for root in roots {
            let met = walk(chunks, root, &mut |kind, id| match kind {
                ChunkKind::Data => self.meet_later(id, Why::Forgotten).map(|()| false),
                ChunkKind::Node | ChunkKind::List => self.meet(id, Why::Forgotten).map(|_| walked.insert(*id)),
            });
            match met {
                Err(error) if error.is_damage() => {}
                other => other?,
            }
        }
        self.meet_bases(Why::Forgotten)
    }

    fn meet_later(&mut self, id: &ChunkId, why: Why) -> Result<()> {
        self.pending.push(*id);
        if self.pending.len() == BATCH_IDS { self.meet_pending(why) } else { Ok(()) }
    }

    fn meet_bases(&mut self, why: Why) -> Result<()> {
        self.meet_pending(why)?;
        while self.fresh.any() {
            let fresh = self.fresh.take();
            for segment in 0..self.index.segment_count() {
                let deltas = self.index.deltas(segment).filter(|(number, _)| fresh.get(*number));
                self.pending.extend(deltas.map(|(_, base)| base));
                if self.pending.len() >= BATCH_IDS {
                    self.meet_pending(why)?;
                }
            }
            self.meet_pending(why)?;
        }
        Ok(())
    }

    fn meet_pending(&mut self, why: Why) -> Result<()> {
        let mut ids = std::mem::take(&mut self.pending);
        ids.sort_unstable();
        ids.dedup();
        ids.iter().try_for_each(|id| self.meet(id, why).map(drop))?;
        ids.clear();
        self.pending = ids;
        Ok(())
    }

    /// Whether the chunk was not met before for the same reason, or a better one. One that has no copy is for a check to find.
    fn meet(&mut self, id: &ChunkId, why: Why) -> Result<bool> {
        let copies = self.index.copies(id)?;
        let met = if why == Why::Needed { &self.needed } else { &self.known };
        if copies.iter().any(|copy| met.get(copy.number)) {
            return Ok(false);
        }
        for copy in &copies {
            self.known.set(copy.number);
        }
        let kept = if why == Why::Needed { self.index.to_keep(id, copies) } else { copies };
        for copy in kept {
            self.fresh.set(copy.number);
            if why == Why::Needed {
                self.needed.set(copy.number);
            }
        }
        Ok(true)
    }

    /// What each pack holds.
    pub(crate) fn pack_uses(&self) -> Result<Vec<PackUse>> {
        let mut sums = vec![Sums::default(); self.index.packs().len()];
        self.index.for_each(&|_| true, &mut |number, pack, entry| {
            sums[pack].add(class_len(entry.size_class), self.needed.get(number));
            sums[pack].has_unknown |= !self.known.get(number);
        })?;
        let uses = self.index.packs().iter().zip(&sums).map(|(&NumberedPack { pack, is_marked }, sums)| PackUse {
            pack,
            is_marked,
            needed_chunks: sums.needed_chunks,
            needed_bytes: sums.needed_of(pack.len),
            has_unknown: sums.has_unknown,
        });
        Ok(uses.collect())
    }

    /// The ordinals of the needed chunks of each of `packs`.
    pub(crate) fn needed_in(&self, packs: &HashSet<FileHash>) -> Result<HashMap<FileHash, Vec<u16>>> {
        let name = |pack: usize| self.index.packs()[pack].pack.name;
        let wanted: Vec<bool> = (0..self.index.packs().len()).map(|pack| packs.contains(&name(pack))).collect();
        let mut ordinals: HashMap<FileHash, Vec<u16>> = HashMap::new();
        self.index.for_each(&|pack| wanted[pack], &mut |number, pack, entry| {
            if self.needed.get(number) {
                ordinals.entry(name(pack)).or_default().push(entry.ordinal);
            }
        })?;
        ordinals.values_mut().for_each(|ordinals| ordinals.sort_unstable());
        Ok(ordinals)
    }
}

/// What the chunks of a pack take by their size classes.
#[derive(Clone, Copy, Default)]
struct Sums {
    all_bytes: u64,
    needed_bytes: u64,
    needed_chunks: u64,
    has_unknown: bool,
}

impl Sums {
    fn add(&mut self, len: u64, is_needed: bool) {
        self.all_bytes += len;
        if is_needed {
            self.needed_bytes += len;
            self.needed_chunks += 1;
        }
    }

    /// The needed part of `len` bytes.
    fn needed_of(&self, len: u64) -> u64 {
        let part = u128::from(len) * u128::from(self.needed_bytes) / u128::from(self.all_bytes.max(1));
        if self.needed_chunks == 0 { 0 } else { part as u64 }
    }
}
