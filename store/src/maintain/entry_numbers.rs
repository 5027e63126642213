//! The entries of an index, numbered through all of its segments: what is said of chunks is kept in arrays by these numbers.
//!
//! Many ids are gathered, and looked up in ascending order, so that the index is read from front to back.

use std::collections::HashSet;

use crate::{
    error::Result,
    format::pack::SegmentPack,
    id::ChunkId,
    index::{
        Index, OpenSegment, Place, Presence,
        segment::{LastBlock, SegmentEntry},
    },
    read::chunks::ChunkReader,
};

/// So many ids are looked up at once: 16 MiB of them.
pub(crate) const BATCH_IDS: usize = 1 << 20;

/// An index whose entries and packs have numbers, from 0 on.
pub(crate) struct NumberedIndex<'a> {
    chunks: &'a ChunkReader,
    segments: Vec<NumberedSegment<'a>>,
    packs: Vec<NumberedPack>,
    len: u64,
}

struct NumberedSegment<'a> {
    open: &'a OpenSegment,
    /// The number of its first entry.
    first: u64,
    /// The numbers of the packs of its table. Those that are absent have none. Of a pack that several segments name, the first alone counts, or its
    /// chunks would seem to have copies.
    packs: Vec<Option<usize>>,
    last: LastBlock,
}

/// A pack of which something can be expected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NumberedPack {
    pub(crate) pack: SegmentPack,
    pub(crate) is_marked: bool,
}

/// A copy of a chunk, by its entry in the index.
#[derive(Clone, Copy)]
pub(crate) struct Copy {
    pub(crate) number: u64,
    segment: usize,
    place: Place,
    is_marked: bool,
}

impl<'a> NumberedIndex<'a> {
    /// Numbers what `index` holds, which is that of `chunks`.
    pub(crate) fn new(chunks: &'a ChunkReader, index: &'a Index) -> NumberedIndex<'a> {
        let (mut packs, mut segments, mut len) = (Vec::new(), Vec::new(), 0);
        let mut named = HashSet::new();
        for open in index.all_segments() {
            let mut number = |(pack, presence): (&SegmentPack, &Presence)| {
                let counts = *presence != Presence::Absent && named.insert(pack.name);
                counts.then(|| {
                    packs.push(NumberedPack { pack: *pack, is_marked: *presence == Presence::Marked });
                    packs.len() - 1
                })
            };
            let numbers = open.segment.packs.iter().zip(&open.presence).map(&mut number).collect();
            segments.push(NumberedSegment { open, first: len, packs: numbers, last: LastBlock::default() });
            len += open.segment.entry_count;
        }
        NumberedIndex { chunks, segments, packs, len }
    }

    /// How many entries there are, of absent packs and second mentions too.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The packs that count, by their numbers.
    pub(crate) fn packs(&self) -> &[NumberedPack] {
        &self.packs
    }

    /// All copies, those in marked packs last.
    pub(crate) fn copies(&mut self, id: &ChunkId) -> Result<Vec<Copy>> {
        let mut copies = Vec::new();
        for (segment, NumberedSegment { open, first, packs, last }) in self.segments.iter_mut().enumerate() {
            open.segment.find_near(id, last, &mut |number, entry| {
                if let Some(&Some(pack)) = packs.get(entry.pack as usize) {
                    let NumberedPack { pack, is_marked } = self.packs[pack];
                    let place = Place { pack, ordinal: entry.ordinal };
                    copies.push(Copy { number: *first + number, segment, place, is_marked });
                }
            })?;
        }
        copies.sort_by_key(|copy| copy.is_marked);
        Ok(copies)
    }

    /// Of several copies one that is no delta, once it has been read. Deltas against different bases are all kept: two chunks that are deltas
    /// against each other in one copy each would otherwise lose the others.
    pub(crate) fn to_keep(&self, id: &ChunkId, copies: Vec<Copy>) -> Vec<Copy> {
        if copies.len() < 2 {
            return copies;
        }
        let mut one_of_each: Vec<(Option<ChunkId>, Copy)> = Vec::new();
        for copy in &copies {
            let NumberedSegment { open, first, .. } = &self.segments[copy.segment];
            let base = open.segment.base_of(copy.number - first);
            let is_known = one_of_each.iter().any(|(known, _)| *known == base);
            if !is_known && self.chunks.is_whole(id, &copy.place) {
                one_of_each.push((base, *copy));
            }
        }
        match one_of_each.iter().find(|(base, _)| base.is_none()) {
            Some((_, whole)) => vec![*whole],
            None if one_of_each.is_empty() => copies,
            None => one_of_each.into_iter().map(|(_, copy)| copy).collect(),
        }
    }

    /// How many segments there are.
    pub(crate) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// The deltas of a segment: the numbers of their entries, and the ids of their bases.
    pub(crate) fn deltas(&self, segment: usize) -> impl Iterator<Item = (u64, ChunkId)> {
        let NumberedSegment { open, first, .. } = &self.segments[segment];
        open.segment.deltas.iter().map(|(number, base)| (*first + number, *base))
    }

    /// Calls `each` with the number and the pack's number of every entry of the packs that are `wanted`.
    pub(crate) fn for_each(
        &self,
        wanted: &dyn Fn(usize) -> bool,
        each: &mut dyn FnMut(u64, usize, SegmentEntry),
    ) -> Result<()> {
        for NumberedSegment { open, first, packs, .. } in &self.segments {
            if !packs.iter().flatten().any(|pack| wanted(*pack)) {
                continue;
            }
            open.segment.for_each(&mut |number, entry| {
                let pack = packs.get(entry.pack as usize).copied().flatten();
                if let Some(pack) = pack.filter(|pack| wanted(*pack)) {
                    each(*first + number, pack, entry);
                }
            })?;
        }
        Ok(())
    }
}

/// A bit for each number.
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn new(count: u64) -> Bits {
        Bits(vec![0; count.div_ceil(64) as usize])
    }

    pub(crate) fn get(&self, number: u64) -> bool {
        self.0.get((number / 64) as usize).is_some_and(|bits| bits & 1 << (number % 64) != 0)
    }

    pub(crate) fn any(&self) -> bool {
        self.0.iter().any(|bits| *bits != 0)
    }

    pub(crate) fn set(&mut self, number: u64) {
        self.0[(number / 64) as usize] |= 1 << (number % 64);
    }

    /// All of them, and none is set then.
    pub(crate) fn take(&mut self) -> Bits {
        let none = vec![0; self.0.len()];
        Bits(std::mem::replace(&mut self.0, none))
    }
}
