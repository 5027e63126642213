//! What everything that is needed is reached from: snapshots and parked runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::{Error, Result},
    format::record::{RecordKind, Snapshot, SnapshotRecord},
    id::{ChunkId, SnapshotId},
    repository::core::Core,
    snapshots::{
        list::{read_records, read_snapshots},
        pins::list_pins,
        spares::{list_lost, lost_snapshot},
    },
};

/// Records, each of which may be damaged.
type Records = Vec<(SnapshotId, Result<SnapshotRecord>)>;

/// Fails if one of the records is of a newer program.
fn known(records: Records) -> Result<Records> {
    let check = |(id, record)| match record {
        Err(error @ Error::Unsupported { .. }) => Err(error),
        record => Ok((id, record)),
    };
    records.into_iter().map(check).collect()
}

/// The snapshots and parked runs of a repository.
pub(crate) struct Roots {
    /// Oldest first.
    pub(crate) snapshots: Vec<Snapshot>,
    /// The trees of parked runs, and of snapshots that were pinned when they were just being forgotten: as needed as if they were not.
    others: Vec<ChunkId>,
    /// The other forgotten snapshots, with the roots of those that can be read.
    pub(crate) forgotten: BTreeMap<SnapshotId, Option<ChunkId>>,
    /// Snapshots of which the trash has a copy: somebody was cut off while moving it.
    pub(crate) left_over: Vec<SnapshotId>,
    /// Of snapshots, parked runs, and those that were pinned.
    ids: BTreeSet<SnapshotId>,
}

impl Roots {
    /// Reads all of them. Of a snapshot that is lost or cannot be read nobody knows what it needs, so that nothing may be deleted; a parked run that
    /// is damaged is none. Of anything that only a newer program knows nobody here can tell what it needs, either.
    pub(crate) fn read(core: &Core) -> Result<Roots> {
        for kind in [RecordKind::Parked, RecordKind::Snapshot, RecordKind::Forgotten] {
            core.storage.forget_listing(kind.folder());
        }
        let records = |kind| read_records(&*core.storage, &core.sealer, kind);
        // Before the snapshots: a parked run that becomes one meanwhile is found here, or there.
        let parked = records(RecordKind::Parked)?;
        let list = read_snapshots(&*core.storage, &core.sealer, None)?;
        let lost = list_lost(&*core.storage)?;
        if let Some(problem) = list.problems.into_iter().chain(lost.iter().map(lost_snapshot)).next() {
            return Err(problem.into_error());
        }
        let parked = known(parked)?;
        let ids = list.snapshots.iter().map(|snapshot| snapshot.id).chain(parked.iter().map(|(id, _)| *id)).collect();
        let others = parked.into_iter().filter_map(|(_, record)| Some(record.ok()?.root)).collect();
        let mut roots =
            Roots { snapshots: list.snapshots, others, forgotten: BTreeMap::new(), left_over: Vec::new(), ids };
        // After the snapshots: what is forgotten meanwhile is found there, or here.
        let forgotten = known(records(RecordKind::Forgotten)?)?;
        let pins = list_pins(core)?;
        for (id, record) in forgotten {
            let root = record.ok().map(|record| record.root);
            if roots.ids.contains(&id) {
                roots.left_over.push(id);
            } else if pins.contains(&id) {
                roots.others.extend(root);
                roots.ids.insert(id);
            } else {
                roots.forgotten.insert(id, root);
            }
        }
        Ok(roots)
    }

    pub(crate) fn len(&self) -> u64 {
        self.trees().count() as u64
    }

    /// The roots of all trees.
    pub(crate) fn trees(&self) -> impl Iterator<Item = ChunkId> {
        self.snapshots.iter().map(|snapshot| snapshot.record.root).chain(self.other_trees())
    }

    /// The roots of those that are no snapshots' of the list.
    pub(crate) fn other_trees(&self) -> impl Iterator<Item = ChunkId> {
        self.others.iter().copied()
    }

    /// The roots of the newest snapshot of each series.
    pub(crate) fn newest_trees(&self) -> impl Iterator<Item = ChunkId> {
        let newest: BTreeMap<&str, ChunkId> =
            self.snapshots.iter().map(|snapshot| (snapshot.record.series.as_str(), snapshot.record.root)).collect();
        newest.into_values()
    }

    /// Whether there is a snapshot or parked run now that is not among these, or one that was made and forgotten since.
    pub(crate) fn lack_any(&self, core: &Core) -> Result<bool> {
        // The trash last: what is forgotten meanwhile is found there, or before.
        for kind in [RecordKind::Parked, RecordKind::Snapshot, RecordKind::Forgotten] {
            core.storage.forget_listing(kind.folder());
            let was_forgotten = |id: &SnapshotId| kind == RecordKind::Forgotten && self.forgotten.contains_key(id);
            let is_new = |id: &SnapshotId| !self.ids.contains(id) && !was_forgotten(id);
            if core.storage.names_in(kind.folder())?.iter().any(is_new) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
