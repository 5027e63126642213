//! What everything that is needed is reached from: snapshots and parked runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::{Error, Result},
    id::{ChunkId, SnapshotId},
    pins::list_pins,
    repository::Core,
    snapshot::{RecordKind, Snapshot, SnapshotRecord, read_records, read_snapshots},
};

/// The snapshots and parked runs of a repository.
pub(crate) struct Roots {
    /// Oldest first.
    pub(crate) snapshots: Vec<Snapshot>,
    parked: BTreeMap<SnapshotId, SnapshotRecord>,
    /// Those that were pinned when they were just being forgotten: as needed as if they were not.
    pinned: Vec<ChunkId>,
    /// The other forgotten snapshots, with the roots of those that can be read.
    pub(crate) forgotten: BTreeMap<SnapshotId, Option<ChunkId>>,
}

impl Roots {
    /// Reads all of them. Of a snapshot that cannot be read nobody knows what it needs, so that nothing may be deleted; a parked run that cannot be
    /// read is none.
    pub(crate) fn read(core: &Core) -> Result<Roots> {
        let records = |kind| read_records(&*core.storage, &core.sealer, kind);
        // Before the snapshots: a parked run that becomes one meanwhile is found here, or there.
        let parked =
            records(RecordKind::Parked)?.into_iter().filter_map(|(id, record)| Some((id, record.ok()?))).collect();
        let list = read_snapshots(&*core.storage, &core.sealer, None)?;
        if let Some(problem) = list.problems.into_iter().next() {
            return Err(Error::Damaged { file: problem.file, what: problem.what });
        }
        let mut roots = Roots { snapshots: list.snapshots, parked, pinned: Vec::new(), forgotten: BTreeMap::new() };
        // After the snapshots: what is forgotten meanwhile is found there, or here.
        let forgotten = records(RecordKind::Forgotten)?;
        let pins = list_pins(core)?;
        for (id, record) in forgotten {
            let root = record.ok().map(|record| record.root);
            if pins.contains(&id) {
                roots.pinned.extend(root);
            } else if !roots.has(&id) {
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
        self.parked.values().map(|record| record.root).chain(self.pinned.iter().copied())
    }

    /// The roots of the newest snapshot of each series.
    pub(crate) fn newest_trees(&self) -> impl Iterator<Item = ChunkId> {
        let newest: BTreeMap<&str, ChunkId> =
            self.snapshots.iter().map(|snapshot| (snapshot.record.series.as_str(), snapshot.record.root)).collect();
        newest.into_values()
    }

    fn has(&self, id: &SnapshotId) -> bool {
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
