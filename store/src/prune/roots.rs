//! What everything that is needed is reached from: snapshots and parked runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::{Error, Result},
    id::{ChunkId, SnapshotId},
    repository::Core,
    snapshot::{RecordKind, Snapshot, SnapshotRecord, read_records, read_snapshots},
};

/// The snapshots and parked runs of a repository.
pub(crate) struct Roots {
    /// Oldest first.
    pub(crate) snapshots: Vec<Snapshot>,
    parked: BTreeMap<SnapshotId, SnapshotRecord>,
}

impl Roots {
    /// Reads all of them. Of a snapshot that cannot be read nobody knows what it needs, so that nothing may be deleted; a parked run that cannot be
    /// read is none.
    pub(crate) fn read(core: &Core) -> Result<Roots> {
        let list = read_snapshots(&*core.storage, &core.sealer, None)?;
        if let Some(problem) = list.problems.into_iter().next() {
            return Err(Error::Damaged { file: problem.file, what: problem.what });
        }
        let parked = read_records(&*core.storage, &core.sealer, RecordKind::Parked)?;
        let parked = parked.into_iter().filter_map(|(id, record)| Some((id, record.ok()?))).collect();
        Ok(Roots { snapshots: list.snapshots, parked })
    }

    pub(crate) fn len(&self) -> u64 {
        (self.snapshots.len() + self.parked.len()) as u64
    }

    /// The roots of all trees.
    pub(crate) fn trees(&self) -> impl Iterator<Item = ChunkId> {
        self.snapshots.iter().map(|snapshot| &snapshot.record).chain(self.parked.values()).map(|record| record.root)
    }

    /// The roots of the newest snapshot of each series.
    pub(crate) fn newest_trees(&self) -> impl Iterator<Item = ChunkId> {
        let newest: BTreeMap<&str, ChunkId> =
            self.snapshots.iter().map(|snapshot| (snapshot.record.series.as_str(), snapshot.record.root)).collect();
        newest.into_values()
    }

    pub(crate) fn has(&self, id: &SnapshotId) -> bool {
        self.parked.contains_key(id) || self.snapshots.iter().any(|snapshot| snapshot.id == *id)
    }

    /// Whether there is none that `others` do not have.
    pub(crate) fn are_among(&self, others: &Roots) -> bool {
        let ids = |roots: &Roots| {
            let ids = roots.snapshots.iter().map(|snapshot| snapshot.id).chain(roots.parked.keys().copied());
            ids.collect::<BTreeSet<SnapshotId>>()
        };
        ids(self).is_subset(&ids(others))
    }
}

/// The files in `trash/`, with the roots of the trees of those that can be read.
pub(crate) fn read_trash(core: &Core) -> Result<BTreeMap<SnapshotId, Option<ChunkId>>> {
    let records = read_records(&*core.storage, &core.sealer, RecordKind::Forgotten)?;
    Ok(records.into_iter().map(|(id, record)| (id, record.ok().map(|record| record.root))).collect())
}
