//! The deletion of what nobody relies on any more, in the order that leaves a whole repository wherever it stops (SPEC §11).

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use super::PruneOutcome;
use crate::{
    error::Result,
    format::{
        mark::{self, Mark},
        pack::{PackKind, pack_file},
        parity,
        record::RecordKind,
    },
    id::{FileHash, SnapshotId},
    progress::{OnEvent, Tally},
    repository::core::{Core, index_cache},
    snapshots::{spares::delete_spares, trash::delete_left_over},
};

/// What goes.
pub(crate) struct Sweep<'a> {
    pub(crate) core: &'a Core,
    pub(crate) cache_dir: Option<&'a Path>,
    /// Packs that nothing needs, and on which nobody relies.
    pub(crate) packs: &'a BTreeSet<FileHash>,
    /// Forgotten snapshots, whose packs they were.
    pub(crate) trash: &'a [SnapshotId],
    /// Snapshots of which the trash has a copy.
    pub(crate) left_over: &'a [SnapshotId],
    pub(crate) marks: &'a [Mark],
}

impl Sweep<'_> {
    /// Deletes all of it, and the marks of which nothing is left.
    pub(crate) fn run(&self, outcome: &mut PruneOutcome, on_event: OnEvent) -> Result<()> {
        let packs = self.replace_segments()?;
        self.delete_trash(outcome)?;
        self.delete_packs(&packs, outcome, on_event)?;
        self.delete_marks(&packs)
    }

    /// Sees that no segment names what goes; gives the packs that are there, with their lengths.
    fn replace_segments(&self) -> Result<HashMap<FileHash, u64>> {
        let Sweep { core, packs, .. } = self;
        let cache = index_cache(self.cache_dir);
        core.with_reserve(|| {
            let (mut index, _) = core.load_index(self.cache_dir)?;
            if !self.packs.is_empty() {
                index.leave_out(&*core.storage, &core.sealer, cache.as_deref(), |pack| packs.contains(pack))?;
            }
            Ok(index.packs().map(|pack| (pack.name, pack.len)).collect())
        })
    }

    fn delete_trash(&self, outcome: &mut PruneOutcome) -> Result<()> {
        let Sweep { core, trash, .. } = self;
        // One that was undeleted since it was listed keeps its spare.
        let mut gone = trash.to_vec();
        gone.retain(|id| !core.storage.has_file(&RecordKind::Snapshot.file(id)).unwrap_or(true));
        // Before the records, or a repair would bring them back.
        delete_spares(&*core.storage, &gone)?;
        for id in &gone {
            // A record may have a sidecar, too.
            parity::delete(&*core.storage, id)?;
            core.storage.delete_file(&RecordKind::Forgotten.file(id))?;
            outcome.trash += 1;
        }
        self.left_over.iter().try_for_each(|id| delete_left_over(core, id))?;
        core.storage.sync_all()
    }

    fn delete_packs(
        &self,
        there: &HashMap<FileHash, u64>,
        outcome: &mut PruneOutcome,
        on_event: OnEvent,
    ) -> Result<()> {
        let tally = Tally::new(self.packs.len() as u64, 0, on_event);
        for pack in self.packs {
            // A mark tells no kinds.
            PackKind::ALL.iter().try_for_each(|kind| self.core.storage.delete_file(&pack_file(*kind, pack)))?;
            outcome.deleted_packs += u64::from(there.contains_key(pack));
            outcome.deleted_bytes += there.get(pack).unwrap_or(&0);
            tally.pass(0)?;
        }
        self.core.storage.sync_all()
    }

    fn delete_marks(&self, there: &HashMap<FileHash, u64>) -> Result<()> {
        let is_left = |pack: &FileHash| there.contains_key(pack) && !self.packs.contains(pack);
        for done in self.marks.iter().filter(|mark| !mark.packs.iter().any(is_left)) {
            done.packs.iter().try_for_each(|pack| parity::delete(&*self.core.storage, pack))?;
            self.core.storage.delete_file(&mark::file(&done.name))?;
        }
        self.core.storage.sync_all()
    }
}
