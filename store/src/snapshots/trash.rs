//! Forgetting: the record of a snapshot moves to `trash/`, and back if it is undeleted before the next prune (SPEC §10).
//!
//! To move is to copy, and then to delete: whoever is killed in between leaves a record in both folders, and that is a snapshot.

use crate::{
    Repository,
    error::{Error, Result},
    format::record::{RecordKind, Snapshot},
    id::{FileHash, SnapshotId},
    repository::core::Core,
    snapshots::list::{SnapshotList, read_trash},
};

/// So many records are held in memory while they are moved.
const COPIES_AT_ONCE: usize = 64;

impl Repository {
    /// Moves the records of snapshots to `trash/`: they are listed no more, and nothing of what they hold is deleted before the next
    /// prune.
    ///
    /// # Errors
    /// [`Error::Pinned`] if one of them is, and then none is moved; [`Error::SnapshotGone`] if somebody else has forgotten one; what the storage says; or [`Error::Unsupported`] if only a newer program
    /// may write here.
    pub fn forget(&self, snapshots: &[Snapshot]) -> Result<()> {
        self.core().config.check_writable()?;
        let pins = self.pins()?;
        if let Some(pinned) = snapshots.iter().find(|snapshot| pins.contains(&snapshot.id)) {
            return Err(Error::Pinned { id: pinned.id });
        }
        let ids: Vec<SnapshotId> = snapshots.iter().map(|snapshot| snapshot.id).collect();
        move_to_trash(self.core(), &ids)
    }

    /// Forgets a snapshot whose place another has taken, which is pinned then if that one was.
    ///
    /// # Errors
    /// As [`forget`](Repository::forget).
    pub fn replace(&self, old: &Snapshot, new: &SnapshotId) -> Result<()> {
        self.move_pin(&old.id, new)?;
        self.forget(std::slice::from_ref(old))
    }

    /// The snapshots that were forgotten since the last prune, and can be undeleted.
    ///
    /// # Errors
    /// What the storage says; a broken record is a problem in the list.
    pub fn trash(&self) -> Result<SnapshotList> {
        read_trash(&*self.core().storage, &self.core().sealer)
    }
}

/// Takes snapshots off the list, durably: each is copied before it is deleted, so that it is never nowhere.
///
/// # Errors
/// [`Error::SnapshotGone`], if one is not there, and then all stay; or what the storage says.
pub(crate) fn move_to_trash(core: &Core, ids: &[SnapshotId]) -> Result<()> {
    for ids in ids.chunks(COPIES_AT_ONCE) {
        let copy = |id| core.with_reserve(|| copy_record(core, id, RecordKind::Snapshot, RecordKind::Forgotten));
        let copies: Vec<Vec<u8>> = ids.iter().map(copy).collect::<Result<_>>()?;
        core.storage.sync_all()?;
        ids.iter().try_for_each(|id| core.storage.delete_file(&RecordKind::Snapshot.file(id)))?;
        for (id, bytes) in ids.iter().zip(copies) {
            // Who saw it in both places may have deleted the copy meanwhile.
            let copy = RecordKind::Forgotten.file(id);
            if !core.storage.has_file(&copy)? {
                core.storage.put_file(&copy, &bytes)?;
            }
        }
    }
    core.storage.sync_all()
}

/// Puts a copy of a forgotten snapshot back on the list, durably. Until its record in the trash is deleted, it is in both, and a snapshot.
pub(crate) fn copy_from_trash(core: &Core, id: &SnapshotId) -> Result<()> {
    copy_record(core, id, RecordKind::Forgotten, RecordKind::Snapshot)?;
    core.storage.sync_all()
}

/// Deletes the copy in the trash of what is a snapshot. It is durable with the next sync.
pub(crate) fn delete_left_over(core: &Core, id: &SnapshotId) -> Result<()> {
    let (record, copy) = (RecordKind::Snapshot.file(id), RecordKind::Forgotten.file(id));
    if !core.storage.has_file(&record)? {
        return Ok(());
    }
    let bytes = match core.storage.read_whole(&copy, RecordKind::FILE_MAX_LEN) {
        // One that cannot be read again could not be put back.
        Err(error) if error.is_missing_file() || error.is_damage() => return Ok(()),
        other => other?,
    };
    core.storage.delete_file(&copy)?;
    // Who forgets it meanwhile found the copy, and has deleted the record since.
    if !core.storage.has_file(&record)? && !core.storage.has_file(&copy)? {
        core.storage.put_file(&copy, &bytes)?;
    }
    Ok(())
}

/// Copies the record of a snapshot as it is, and gives it. A whole one is never replaced by a damaged one.
fn copy_record(core: &Core, id: &SnapshotId, from: RecordKind, to: RecordKind) -> Result<Vec<u8>> {
    let read = |kind: RecordKind| core.storage.read_whole(&kind.file(id), RecordKind::FILE_MAX_LEN);
    let bytes = match read(from) {
        Err(error) if error.is_missing_file() => return Err(Error::SnapshotGone { id: *id }),
        other => other?,
    };
    if FileHash::of(&bytes) != *id
        && let Some(whole) = read(to).ok().filter(|bytes| FileHash::of(bytes) == *id)
    {
        return Ok(whole);
    }
    core.storage.put_file(&to.file(id), &bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Depth, Details, MemoryStorage, Options, Source, Storage, TreePath, check};

    /// A repository with snapshots of a phone, which were taken at these times.
    fn with_snapshots(times: &[i64]) -> (Arc<MemoryStorage>, Repository, Vec<Snapshot>) {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &Options::default()).unwrap();
        let snapshots = times.iter().map(|&time| {
            let mut editor = repository.edit("phone", None).unwrap();
            editor.write_file(&TreePath::new("notes").unwrap(), None, 8, &mut &time.to_le_bytes()[..]).unwrap();
            editor.commit(Details::new(time, Source::Import)).unwrap().0
        });
        let snapshots = snapshots.collect();
        (storage, repository, snapshots)
    }

    fn problems(repository: &Repository) -> Vec<String> {
        let report = check(repository, Depth::ReadData, &|_| std::ops::ControlFlow::Continue(())).unwrap();
        report.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_forgotten_is_listed_no_more_and_comes_back_as_it_was() {
        let (storage, repository, snapshots) = with_snapshots(&[3, 1, 2]);
        let before = storage.files().clone();
        let [third, first, second] = &snapshots[..] else { unreachable!() };
        repository.forget(&[third.clone(), first.clone()]).unwrap();
        assert_eq!(repository.snapshots().unwrap().snapshots, std::slice::from_ref(second));
        assert_eq!(repository.trash().unwrap().snapshots, [first.clone(), third.clone()], "oldest first");
        assert_eq!(storage.files().len(), before.len(), "nothing is deleted");
        assert_eq!(problems(&repository), [""; 0]);

        assert!(repository.forget(std::slice::from_ref(first)).is_err(), "it is forgotten already");
        assert!(repository.undelete(second).is_err(), "it was not forgotten");
        repository.undelete(first).unwrap();
        repository.undelete(third).unwrap();
        assert_eq!(*storage.files(), before, "and no session is left");
        assert_eq!(repository.trash().unwrap().snapshots, []);
    }

    #[test]
    fn a_pinned_snapshot_keeps_all_that_were_to_be_forgotten_with_it() {
        let (storage, repository, snapshots) = with_snapshots(&[1, 2, 3]);
        repository.pin(&snapshots[2].id).unwrap();
        // A damaged pin pins as well.
        storage.put(&format!("pins/{}", snapshots[2].id), b"").unwrap();
        let refused = repository.forget(&snapshots).unwrap_err();
        assert!(matches!(refused, Error::Pinned { id } if id == snapshots[2].id), "{refused}");
        assert_eq!(repository.snapshots().unwrap().snapshots, snapshots);
        repository.unpin(&snapshots[2].id).unwrap();
        repository.forget(&snapshots).unwrap();
        assert_eq!(repository.snapshots().unwrap().snapshots, []);
    }

    #[test]
    fn a_broken_record_in_the_trash_is_told_and_hides_no_other() {
        let (storage, repository, snapshots) = with_snapshots(&[1, 2]);
        let parked = repository.edit("phone", None).unwrap().park().unwrap();
        let bytes = storage.files()[&RecordKind::Parked.file(&parked.id)].clone();
        storage.put(&RecordKind::Forgotten.file(&parked.id), &bytes).unwrap();
        repository.forget(&snapshots).unwrap();
        storage.files().get_mut(&RecordKind::Forgotten.file(&snapshots[0].id)).unwrap()[70] ^= 1;
        let SnapshotList { snapshots: found, problems } = repository.trash().unwrap();
        assert_eq!(found, &snapshots[1..]);
        assert_eq!(problems.len(), 2, "a parked run is no snapshot: {problems:?}");
        assert!(problems.iter().all(|problem| problem.file.starts_with("trash/")), "{problems:?}");
    }
}
