//! Spares: a second copy of each snapshot's record, by which a lost one is noticed and brought back (SPEC §10).
//!
//! A spare is written when its record is durable, and is deleted, durably, before it. So a spare without a record tells of a snapshot that was lost.

use std::collections::BTreeSet;

use crate::{
    error::{Problem, Result},
    format::record::RecordKind,
    id::{FileHash, SnapshotId},
    storage::{Storage, layout::SPARES_FOLDER},
};

pub(crate) fn spare_file(id: &SnapshotId) -> String {
    format!("{SPARES_FOLDER}/{id}")
}

/// The snapshots of which only the spare is left.
pub(crate) fn list_lost(storage: &dyn Storage) -> Result<BTreeSet<SnapshotId>> {
    let mut lost = spares_alone(storage)?;
    if lost.is_empty() {
        return Ok(lost);
    }
    // One that was undeleted between two lists is in the next, and of one that was pruned there is no spare any more. Of one that was written by another
    // computer a list may not know yet.
    lost = &lost & &spares_alone(storage)?;
    let mut missing = BTreeSet::new();
    for id in lost {
        if !storage.has_file(&RecordKind::Snapshot.file(&id))? && !storage.has_file(&RecordKind::Forgotten.file(&id))? {
            missing.insert(id);
        }
    }
    Ok(missing)
}

/// What is wrong with a snapshot of which only the spare is left.
pub(crate) fn lost_snapshot(id: &SnapshotId) -> Problem {
    Problem::new(RecordKind::Snapshot.file(id), "the record is missing, its spare is there")
}

/// The snapshots that have no spare, because who wrote them was cut off, or knew of none.
pub(crate) fn list_without(storage: &dyn Storage) -> Result<BTreeSet<SnapshotId>> {
    Ok(&storage.names_in(RecordKind::Snapshot.folder())? - &storage.names_in(SPARES_FOLDER)?)
}

/// Makes the spares that snapshots lack; gives those.
pub(crate) fn add_spares(storage: &dyn Storage) -> Result<Vec<SnapshotId>> {
    let (without, mut added) = (list_without(storage)?, Vec::new());
    if without.is_empty() {
        return Ok(added);
    }
    // Others may have written some of the records just now.
    storage.sync_all()?;
    for id in without {
        let record = RecordKind::Snapshot.file(&id);
        let bytes = storage.read_whole(&record, RecordKind::FILE_MAX_LEN);
        let Some(bytes) = bytes.ok().filter(|bytes| FileHash::of(bytes) == id) else { continue };
        storage.put_file(&spare_file(&id), &bytes)?;
        if storage.has_file(&record)? {
            added.push(id);
        } else {
            // Who has forgotten and pruned it meanwhile has found no spare.
            storage.delete_file(&spare_file(&id))?;
        }
    }
    storage.sync_all()?;
    Ok(added)
}

/// Deletes the spares of snapshots whose records are to be deleted, durably.
pub(crate) fn delete_spares(storage: &dyn Storage, ids: &[SnapshotId]) -> Result<()> {
    ids.iter().try_for_each(|id| storage.delete_file(&spare_file(id)))?;
    storage.sync_all()
}

fn spares_alone(storage: &dyn Storage) -> Result<BTreeSet<SnapshotId>> {
    // Spares first, because records are there before them; the trash last, because a record may be moved there meanwhile.
    let mut spares = storage.names_in(SPARES_FOLDER)?;
    for kind in [RecordKind::Snapshot, RecordKind::Forgotten] {
        if !spares.is_empty() {
            spares = &spares - &storage.names_in(kind.folder())?;
        }
    }
    Ok(spares)
}
