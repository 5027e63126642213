//! Which packs go: those of which nothing is needed, and those that are worth writing anew.

use std::collections::{HashMap, HashSet};

use super::{
    PruneOptions,
    live::{Live, PackUse},
    roots::Roots,
};
use crate::{
    error::Result,
    format::pack::SegmentPack,
    id::{ChunkId, FileHash},
    progress::{OnEvent, Tally},
    read::chunks::ChunkReader,
};

/// What a prune would do, in estimates of a few percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrunePlan {
    /// Packs that are there.
    pub packs: u64,
    /// What they take.
    pub bytes: u64,
    /// What of it snapshots and parked runs need.
    pub needed_bytes: u64,
    /// Packs of which nothing is needed.
    pub dead_packs: u64,
    /// What they take.
    pub dead_bytes: u64,
    /// Packs of which something is needed, and that are written anew.
    pub rewritten_packs: u64,
    /// What is needed of them.
    pub rewritten_bytes: u64,
    /// What the repository shrinks by.
    pub freed_bytes: u64,
}

/// Who may rely on packs that no snapshot tells of.
pub(crate) enum Whom {
    /// Nobody is at work.
    Nobody,
    /// Somebody is: what he has written is not needed yet. The trees of forgotten snapshots tell what is not his.
    Others(Vec<ChunkId>),
}

/// The packs that go.
pub(crate) struct Plan {
    pub(crate) dead: Vec<SegmentPack>,
    pub(crate) moved: Vec<SegmentPack>,
    /// The ordinals of the needed chunks of each pack that is moved.
    pub(crate) needed: HashMap<FileHash, Vec<u16>>,
    /// Packs that are to stay for something that is needed, and that no segment names: what a prune had moved when it was cut off, say.
    pub(crate) unlisted: HashSet<FileHash>,
    pub(crate) summary: PrunePlan,
    /// Whether more would be moved if there were more room.
    pub(crate) is_short: bool,
}

impl Plan {
    pub(crate) fn make(
        chunks: &ChunkReader,
        roots: &Roots,
        whom: &Whom,
        options: &PruneOptions,
        on_event: OnEvent,
    ) -> Result<Plan> {
        let index = chunks.index();
        let mut live = Live::new(chunks, &index);
        let tally = Tally::new(roots.len(), 0, on_event);
        for root in roots.trees() {
            live.need_tree(&root)?;
            tally.pass(0)?;
        }
        live.need_bases()?;
        if let Whom::Others(forgotten) = whom {
            live.know(forgotten)?;
        }
        let room = chunks.core.storage.free_space()?.map(|bytes| bytes / 2);
        let mut uses = live.pack_uses()?;
        let mut plan = Plan::of(&mut uses, matches!(whom, Whom::Others(_)), room, options);
        let moved: HashSet<FileHash> = plan.moved.iter().map(|pack| pack.name).collect();
        plan.needed = live.needed_in(&moved)?;
        let unlisted: HashSet<FileHash> = index.unlisted_packs().iter().map(|pack| pack.name).collect();
        let staying = uses.iter().filter(|of| of.needed_chunks > 0).map(|of| of.pack.name);
        plan.unlisted = staying.filter(|name| unlisted.contains(name) && !moved.contains(name)).collect();
        Ok(plan)
    }

    /// What goes of `uses`. Where others are at work, what may be theirs stays.
    fn of(uses: &mut [PackUse], others: bool, room: Option<u64>, options: &PruneOptions) -> Plan {
        // The least needed first; where that is the same, the same order each time.
        uses.sort_by(|one, other| {
            one.needed_part().total_cmp(&other.needed_part()).then(one.pack.name.cmp(&other.pack.name))
        });
        let needed_bytes: u64 = uses.iter().map(|of| of.needed_bytes).sum();
        let may_go = |of: &&PackUse| of.is_marked || !(others && of.has_unknown);
        let dead: Vec<SegmentPack> =
            uses.iter().filter(|of| of.needed_chunks == 0).filter(may_go).map(|of| of.pack).collect();
        let mut unused: u64 = uses.iter().filter(|of| of.needed_chunks > 0).map(PackUse::unused_bytes).sum();
        let unused_max = (needed_bytes as f64 * options.max_unused) as u64;
        let (mut moved, mut moved_bytes, mut moved_unused, mut is_short) = (Vec::new(), 0, 0, false);
        // What a mark names must be moved before it can go.
        let (marked, others): (Vec<&PackUse>, Vec<&PackUse>) =
            uses.iter().filter(|of| of.needed_chunks > 0).filter(may_go).partition(|of| of.is_marked);
        for of in marked.into_iter().chain(others) {
            if !of.is_marked && (unused <= unused_max || of.unused_bytes() == 0) {
                continue;
            }
            let bytes = moved_bytes + of.needed_bytes;
            if !of.is_marked && options.max_rewrite.is_some_and(|max| bytes > max) {
                continue;
            }
            if room.is_some_and(|room| bytes > room) {
                is_short = true;
                continue;
            }
            unused -= of.unused_bytes();
            moved_unused += of.unused_bytes();
            moved_bytes = bytes;
            moved.push(of.pack);
        }
        let dead_bytes = dead.iter().map(|pack| pack.len).sum();
        let summary = PrunePlan {
            packs: uses.len() as u64,
            bytes: uses.iter().map(|of| of.pack.len).sum(),
            needed_bytes,
            dead_packs: dead.len() as u64,
            dead_bytes,
            rewritten_packs: moved.len() as u64,
            rewritten_bytes: moved_bytes,
            freed_bytes: dead_bytes + moved_unused,
        };
        Plan { dead, moved, needed: HashMap::new(), unlisted: HashSet::new(), summary, is_short }
    }
}

impl PackUse {
    fn unused_bytes(&self) -> u64 {
        self.pack.len.saturating_sub(self.needed_bytes)
    }

    fn needed_part(&self) -> f64 {
        self.needed_bytes as f64 / self.pack.len.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::PackKind;

    const LEN: u64 = 1000;

    /// A pack of which so many bytes are needed.
    fn pack_of(number: u8, needed_bytes: u64) -> PackUse {
        let pack = SegmentPack { name: FileHash([number; 32]), kind: PackKind::Data, len: LEN };
        PackUse { pack, is_marked: false, needed_chunks: needed_bytes / 100, needed_bytes, has_unknown: false }
    }

    fn all_unused() -> PruneOptions {
        PruneOptions { max_unused: 0.0, max_rewrite: None }
    }

    /// What goes at once, what is moved, and whether more would be if there were room.
    fn planned(uses: &[PackUse], others: bool, room: Option<u64>, options: &PruneOptions) -> (Vec<u8>, Vec<u8>, bool) {
        let plan = Plan::of(&mut uses.to_vec(), others, room, options);
        let numbers = |packs: &[SegmentPack]| packs.iter().map(|pack| pack.name.0[0]).collect();
        (numbers(&plan.dead), numbers(&plan.moved), plan.is_short)
    }

    #[test]
    fn the_least_needed_is_moved_first_and_what_is_all_needed_never() {
        let uses = [pack_of(1, 900), pack_of(2, LEN), pack_of(4, 400), pack_of(3, 400), pack_of(5, 0)];
        assert_eq!(planned(&uses, false, None, &all_unused()), (vec![5], vec![3, 4, 1], false));
        let mut long = pack_of(6, 1000);
        long.pack.len = 10 * LEN;
        assert_eq!(planned(&[pack_of(1, 900), long], false, None, &all_unused()).1, [6, 1], "a tenth of it is needed");
        let summary = Plan::of(&mut uses.to_vec(), false, None, &all_unused()).summary;
        let expected = PrunePlan {
            packs: 5,
            bytes: 5 * LEN,
            needed_bytes: 2700,
            dead_packs: 1,
            dead_bytes: LEN,
            rewritten_packs: 3,
            rewritten_bytes: 1700,
            freed_bytes: LEN + 600 + 600 + 100,
        };
        assert_eq!(summary, expected);
    }

    #[test]
    fn no_more_is_moved_than_the_limits_ask_for() {
        // 2000 bytes are needed.
        let uses = [pack_of(1, 500), pack_of(2, 500), pack_of(3, LEN), pack_of(4, 0)];
        let within = |max_unused, max_rewrite| planned(&uses, false, None, &PruneOptions { max_unused, max_rewrite }).1;
        assert_eq!(within(0.5, None), [0u8; 0], "1000 may stay");
        assert_eq!(within(0.49, None), [1]);
        assert_eq!(within(0.25, None), [1], "500 may stay");
        assert_eq!(within(0.24, None), [1, 2]);
        assert_eq!(within(0.0, Some(499)), [0u8; 0]);
        assert_eq!(within(0.0, Some(500)), [1]);
        assert_eq!(within(0.0, Some(1000)), [1, 2]);
        let in_room = |room| planned(&uses, false, Some(room), &all_unused());
        assert_eq!(in_room(499), (vec![4], vec![], true));
        assert_eq!(in_room(500), (vec![4], vec![1], true));
        assert_eq!(in_room(1000), (vec![4], vec![1, 2], false));
    }

    #[test]
    fn what_may_be_of_somebody_at_work_stays() {
        let unknown = |of| PackUse { has_unknown: true, ..of };
        let uses = [unknown(pack_of(1, 0)), pack_of(2, 0), unknown(pack_of(3, 500)), pack_of(4, 500)];
        assert_eq!(planned(&uses, true, None, &all_unused()), (vec![2], vec![4], false));
        assert_eq!(planned(&uses, false, None, &all_unused()), (vec![1, 2], vec![3, 4], false));
    }

    /// Whatever the limits say: only so can it go. But it needs room.
    #[test]
    fn what_a_mark_names_is_always_moved() {
        let marked = |of| PackUse { is_marked: true, has_unknown: true, ..of };
        let uses = [marked(pack_of(1, 0)), pack_of(2, 100), marked(pack_of(3, LEN)), marked(pack_of(4, 500))];
        let strict = PruneOptions { max_unused: 9.0, max_rewrite: Some(0) };
        assert_eq!(planned(&uses, true, None, &strict), (vec![1], vec![4, 3], false));
        assert_eq!(planned(&uses, true, Some(999), &strict), (vec![1], vec![4], true));
    }
}
