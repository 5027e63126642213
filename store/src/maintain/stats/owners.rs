//! Whose each chunk is: of one snapshot, of several of one series, or shared.
//!
//! Four bytes for each entry of the index say who needs it. Every tree is walked, but below a node only if that has changed the node's owner: whoever
//! needs a node needs all below it. Owners change from nobody to a snapshot, to a series, to all, so that no node is gone below more than three times,
//! and what snapshots have in common is not walked for each of them.

use crate::{
    error::Result,
    format::pack::{ChunkKind, PackKind},
    id::ChunkId,
    index::{Index, segment::class_len},
    maintain::entry_numbers::{BATCH_IDS, Bits, NumberedIndex},
    read::{chunks::ChunkReader, walk::walk},
};

/// Who needs a chunk: nobody, one of the snapshots from 1 on, one of the series that are numbered after them, or others too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Owner(u32);

impl Owner {
    const NOBODY: Owner = Owner(0);
    const SHARED: Owner = Owner(u32::MAX);
}

/// The snapshots and series of a repository.
struct Owning {
    snapshots: usize,
    /// The series of each owner but the last; of nobody, nobody.
    series: Vec<Owner>,
}

impl Owning {
    /// `series` are the numbers of the snapshots' series, from 0 on.
    fn new(series: &[usize]) -> Owning {
        let (snapshots, count) = (series.len(), series.iter().max().map_or(0, |last| last + 1));
        let of_series = |number: usize| Owner((1 + snapshots + number) as u32);
        let all = series.iter().copied().chain(0..count).map(of_series);
        Owning { snapshots, series: std::iter::once(Owner::NOBODY).chain(all).collect() }
    }

    /// Who needs what both need.
    fn join(&self, one: Owner, other: Owner) -> Owner {
        let series = |owner: Owner| self.series.get(owner.0 as usize).copied();
        match (one, other) {
            (Owner::NOBODY, owner) | (owner, Owner::NOBODY) => owner,
            _ if one == other => one,
            _ => series(one).filter(|known| series(other) == Some(*known)).unwrap_or(Owner::SHARED),
        }
    }
}

/// The entries of an index with their owners.
pub(crate) struct Owners<'a> {
    chunks: &'a ChunkReader,
    index: NumberedIndex<'a>,
    owning: Owning,
    /// By the numbers of entries; those of copies that a prune would not keep are nobody's.
    owners: Vec<Owner>,
    /// Those whose owners are not yet told to their bases.
    fresh: Bits,
    pending: Vec<(ChunkId, Owner)>,
}

/// What is needed of the packs, in bytes; all but `all` are estimates.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) packs: u64,
    pub(crate) all: u64,
    pub(crate) tree_packs: u64,
    /// What tree packs take.
    pub(crate) trees: u64,
    pub(crate) needed: u64,
    /// What each snapshot alone needs.
    pub(crate) of_snapshot: Vec<u64>,
    /// What each series alone needs, with what its snapshots do.
    pub(crate) of_series: Vec<u64>,
}

impl<'a> Owners<'a> {
    /// `series` are the numbers of the snapshots' series, from 0 on.
    pub(crate) fn new(chunks: &'a ChunkReader, index: &'a Index, series: &[usize]) -> Owners<'a> {
        let index = NumberedIndex::new(chunks, index);
        let (owners, fresh) = (vec![Owner::NOBODY; index.len() as usize], Bits::new(index.len()));
        Owners { chunks, index, owning: Owning::new(series), owners, fresh, pending: Vec::new() }
    }

    /// Everything that a snapshot reaches is its own, unless others reach it. Snapshots are numbered as their series were given.
    pub(crate) fn own(&mut self, snapshot: usize, root: &ChunkId) -> Result<()> {
        self.meet_tree(root, Owner(1 + snapshot as u32))
    }

    /// Everything that something else than a snapshot reaches is no snapshot's own.
    pub(crate) fn share(&mut self, root: &ChunkId) -> Result<()> {
        self.meet_tree(root, Owner::SHARED)
    }

    /// Who needs a delta needs its base. To be called when all trees are met.
    pub(crate) fn own_bases(&mut self) -> Result<()> {
        self.meet_pending()?;
        while self.fresh.any() {
            let fresh = self.fresh.take();
            for segment in 0..self.index.segment_count() {
                let deltas = self.index.deltas(segment).filter(|(number, _)| fresh.get(*number));
                self.pending.extend(deltas.map(|(number, base)| (base, self.owners[number as usize])));
                if self.pending.len() >= BATCH_IDS {
                    self.meet_pending()?;
                }
            }
            self.meet_pending()?;
        }
        Ok(())
    }

    fn meet_tree(&mut self, root: &ChunkId, owner: Owner) -> Result<()> {
        let chunks = self.chunks;
        walk(chunks, root, &mut |kind, id| match kind {
            ChunkKind::Data => {
                self.pending.push((*id, owner));
                if self.pending.len() == BATCH_IDS { self.meet_pending().map(|()| false) } else { Ok(false) }
            }
            ChunkKind::Node | ChunkKind::List => self.meet(id, owner),
        })
    }

    fn meet_pending(&mut self) -> Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.sort_unstable();
        pending.dedup();
        pending.iter().try_for_each(|(id, owner)| self.meet(id, *owner).map(drop))?;
        pending.clear();
        self.pending = pending;
        Ok(())
    }

    /// Whether that changed whose it is. A chunk that has no copy is for a check to find.
    fn meet(&mut self, id: &ChunkId, owner: Owner) -> Result<bool> {
        let copies = self.index.copies(id)?;
        let is_owned = |number: u64| self.owners[number as usize] != Owner::NOBODY;
        let kept = if copies.iter().any(|copy| is_owned(copy.number)) {
            copies.into_iter().filter(|copy| is_owned(copy.number)).collect()
        } else {
            self.index.to_keep(id, copies)
        };
        let mut has_changed = kept.is_empty();
        for copy in kept {
            let before = &mut self.owners[copy.number as usize];
            let joined = self.owning.join(*before, owner);
            if joined != *before {
                *before = joined;
                self.fresh.set(copy.number);
                has_changed = true;
            }
        }
        Ok(has_changed)
    }

    /// What is needed of the packs, and by whom. A chunk takes its part of the length of its pack, by what the index knows of sizes.
    pub(crate) fn sum(&self) -> Result<Owned> {
        let packs = self.index.packs();
        let mut pack_sums = vec![0; packs.len()];
        self.index.for_each(&|_| true, &mut |_, pack, entry| {
            pack_sums[pack] += class_len(entry.size_class);
        })?;
        let (mut of_owner, mut shared) = (vec![0.0; self.owning.series.len()], 0.0);
        self.index.for_each(&|_| true, &mut |number, pack, entry| {
            let part = class_len(entry.size_class) as f64 / pack_sums[pack].max(1) as f64;
            let owner = self.owners[number as usize].0 as usize;
            *of_owner.get_mut(owner).unwrap_or(&mut shared) += part * packs[pack].pack.len as f64;
        })?;
        let tree_lens = packs.iter().filter(|of| of.pack.kind == PackKind::Tree).map(|of| of.pack.len);
        let (of_snapshot, of_several) = of_owner[1..].split_at(self.owning.snapshots);
        let mut of_series = of_several.to_vec();
        for (bytes, series) in of_snapshot.iter().zip(&self.owning.series[1..]) {
            of_series[series.0 as usize - 1 - self.owning.snapshots] += bytes;
        }
        let whole = |bytes: &[f64]| bytes.iter().map(|bytes| bytes.round() as u64).collect();
        Ok(Owned {
            packs: packs.len() as u64,
            all: packs.iter().map(|of| of.pack.len).sum(),
            tree_packs: tree_lens.clone().count() as u64,
            trees: tree_lens.sum(),
            needed: (shared + of_owner[1..].iter().sum::<f64>()).round() as u64,
            of_snapshot: whole(of_snapshot),
            of_series: whole(&of_series),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_need_is_of_their_series_or_shared() {
        // Snapshots 1, 3 and 4 are of the first series, 2 is of the second.
        let owning = Owning::new(&[0, 1, 0, 0]);
        let (nobody, shared) = (0, u32::MAX);
        let cases = [
            (nobody, nobody, nobody),
            (nobody, 3, 3),
            (nobody, shared, shared),
            (3, 3, 3),
            (1, 3, 5),
            (5, 4, 5),
            (2, 2, 2),
            (2, 6, 6),
            (1, 2, shared),
            (5, 2, shared),
            (5, 6, shared),
            (1, shared, shared),
            (6, shared, shared),
            (shared, shared, shared),
        ];
        for (one, other, both) in cases {
            assert_eq!(owning.join(Owner(one), Owner(other)).0, both, "{one} and {other}");
            assert_eq!(owning.join(Owner(other), Owner(one)).0, both, "{other} and {one}");
        }
    }
}
