//! What is still needed: a bit for each entry of the index, set where the repository keeps that copy of the chunk.
//!
//! Ids of data are gathered and looked up in ascending order, so that the index is read from front to back. Nodes and lists are looked up as they
//! are met, and walked once: a bit that is set already says that all below has been met.

use std::collections::{HashMap, HashSet};

use crate::{
    chunks::ChunkReader,
    error::Result,
    id::{ChunkId, FileHash},
    index::{
        Index, OpenSegment, Place, Presence, SegmentPack,
        segment::{LastBlock, SegmentEntry, class_len},
    },
    pack::ChunkKind,
    reach::walk,
};

/// So many ids are looked up at once: 16 MiB of them.
const BATCH_IDS: usize = 1 << 20;

/// The entries of an index that are needed.
pub(crate) struct Live<'a> {
    chunks: &'a ChunkReader,
    segments: Vec<Segment<'a>>,
    pending: Vec<ChunkId>,
}

/// One segment, and which of its entries are needed.
struct Segment<'a> {
    open: &'a OpenSegment,
    /// Of a pack that several segments name, the first alone counts, or its chunks would seem to have copies.
    counts: Vec<bool>,
    needed: Bits,
    /// Those that are needed, or that a forgotten snapshot reaches.
    known: Bits,
    /// Those whose bases have not been looked at yet.
    fresh: Bits,
    last: LastBlock,
}

/// Why a chunk is looked up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// A snapshot or a parked run reaches it.
    Needed,
    /// A forgotten snapshot does.
    Forgotten,
}

/// A copy of a chunk, by its entry in the index.
#[derive(Clone, Copy)]
struct Copy {
    segment: usize,
    number: u64,
    entry: SegmentEntry,
    is_doomed: bool,
}

/// What a pack holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackUse {
    pub(crate) pack: SegmentPack,
    pub(crate) is_doomed: bool,
    pub(crate) needed_chunks: u64,
    /// What needed chunks take of the length of the pack, about.
    pub(crate) needed_bytes: u64,
    /// Whether some chunk is neither needed nor of a forgotten snapshot: of a run that was cut off, or of one that goes on.
    pub(crate) has_unknown: bool,
}

impl<'a> Live<'a> {
    pub(crate) fn new(chunks: &'a ChunkReader, index: &'a Index) -> Live<'a> {
        let mut named = HashSet::new();
        let segments = index.all_segments().map(|open| {
            let counts = open.segment.packs.iter().zip(&open.presence);
            let counts =
                counts.map(|(pack, presence)| *presence != Presence::Absent && named.insert(pack.name)).collect();
            let bits = || Bits::new(open.segment.entry_count);
            Segment { open, counts, needed: bits(), known: bits(), fresh: bits(), last: LastBlock::default() }
        });
        Live { chunks, segments: segments.collect(), pending: Vec::new() }
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
        loop {
            for at in 0..self.segments.len() {
                let segment = &mut self.segments[at];
                let fresh = std::mem::replace(&mut segment.fresh, Bits::new(segment.open.segment.entry_count));
                let deltas = segment.open.segment.deltas.iter().filter(|(number, _)| fresh.get(*number));
                self.pending.extend(deltas.map(|(_, base)| *base));
                if self.pending.len() >= BATCH_IDS {
                    self.meet_pending(why)?;
                }
            }
            if !self.segments.iter().any(|segment| segment.fresh.any()) && self.pending.is_empty() {
                return Ok(());
            }
            self.meet_pending(why)?;
        }
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
        let copies = self.copies(id)?;
        let is_met = copies.iter().any(|copy| {
            let Segment { needed, known, .. } = &self.segments[copy.segment];
            if why == Why::Needed { needed.get(copy.number) } else { known.get(copy.number) }
        });
        if is_met {
            return Ok(false);
        }
        for copy in &copies {
            self.segments[copy.segment].known.set(copy.number);
        }
        let kept = if why == Why::Needed { self.to_keep(id, copies) } else { copies };
        for copy in kept {
            let segment = &mut self.segments[copy.segment];
            segment.fresh.set(copy.number);
            if why == Why::Needed {
                segment.needed.set(copy.number);
            }
        }
        Ok(true)
    }

    /// All copies, those in doomed packs last.
    fn copies(&mut self, id: &ChunkId) -> Result<Vec<Copy>> {
        let mut copies = Vec::new();
        for (at, Segment { open, counts, last, .. }) in self.segments.iter_mut().enumerate() {
            open.segment.find_near(id, last, &mut |number, entry| {
                let pack = entry.pack as usize;
                if counts.get(pack) == Some(&true) {
                    copies.push(Copy {
                        segment: at,
                        number,
                        entry,
                        is_doomed: open.presence[pack] == Presence::Doomed,
                    });
                }
            })?;
        }
        copies.sort_by_key(|copy| copy.is_doomed);
        Ok(copies)
    }

    /// Of several copies one that is no delta, once it has been read. Deltas against different bases are all kept: two chunks that are deltas
    /// against each other in one copy each would otherwise lose the others.
    fn to_keep(&self, id: &ChunkId, copies: Vec<Copy>) -> Vec<Copy> {
        if copies.len() < 2 {
            return copies;
        }
        let mut one_of_each: Vec<(Option<ChunkId>, Copy)> = Vec::new();
        for copy in &copies {
            let base = self.segments[copy.segment].open.segment.base_of(copy.number);
            let is_known = one_of_each.iter().any(|(known, _)| *known == base);
            if !is_known && self.is_whole(id, copy) {
                one_of_each.push((base, *copy));
            }
        }
        match one_of_each.iter().find(|(base, _)| base.is_none()) {
            Some((_, whole)) => vec![*whole],
            None if one_of_each.is_empty() => copies,
            None => one_of_each.into_iter().map(|(_, copy)| copy).collect(),
        }
    }

    fn is_whole(&self, id: &ChunkId, copy: &Copy) -> bool {
        let pack = self.segments[copy.segment].open.segment.packs[copy.entry.pack as usize];
        self.chunks.is_whole(id, &Place { pack, ordinal: copy.entry.ordinal })
    }

    /// What each pack holds.
    pub(crate) fn pack_uses(&self) -> Result<Vec<PackUse>> {
        let mut uses = Vec::new();
        for Segment { open, counts, needed, known, .. } in &self.segments {
            let mut sums = vec![Sums::default(); counts.len()];
            open.segment.for_each(&mut |number, entry| {
                if let Some(sums) = sums.get_mut(entry.pack as usize) {
                    sums.add(class_len(entry.size_class), needed.get(number));
                    sums.has_unknown |= !known.get(number);
                }
            })?;
            let packs = open.segment.packs.iter().zip(&open.presence).zip(counts).zip(&sums);
            uses.extend(packs.filter(|((_, counts), _)| **counts).map(|(((pack, presence), _), sums)| PackUse {
                pack: *pack,
                is_doomed: *presence == Presence::Doomed,
                needed_chunks: sums.needed_chunks,
                needed_bytes: sums.needed_of(pack.len),
                has_unknown: sums.has_unknown,
            }));
        }
        Ok(uses)
    }

    /// The ordinals of the needed chunks of each of `packs`.
    pub(crate) fn needed_in(&self, packs: &HashSet<FileHash>) -> Result<HashMap<FileHash, Vec<u16>>> {
        let mut ordinals: HashMap<FileHash, Vec<u16>> = HashMap::new();
        for Segment { open, counts, needed, .. } in &self.segments {
            let wanted: Vec<bool> = open
                .segment
                .packs
                .iter()
                .zip(counts)
                .map(|(pack, counts)| *counts && packs.contains(&pack.name))
                .collect();
            if !wanted.contains(&true) {
                continue;
            }
            open.segment.for_each(&mut |number, entry| {
                let pack = entry.pack as usize;
                if wanted.get(pack) == Some(&true) && needed.get(number) {
                    ordinals.entry(open.segment.packs[pack].name).or_default().push(entry.ordinal);
                }
            })?;
        }
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

/// A bit for each number.
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: u64) -> Bits {
        Bits(vec![0; count.div_ceil(64) as usize])
    }

    fn get(&self, number: u64) -> bool {
        self.0.get((number / 64) as usize).is_some_and(|bits| bits & 1 << (number % 64) != 0)
    }

    fn any(&self) -> bool {
        self.0.iter().any(|bits| *bits != 0)
    }

    fn set(&mut self, number: u64) {
        self.0[(number / 64) as usize] |= 1 << (number % 64);
    }
}
