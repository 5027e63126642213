//! Forgetting: the record of a snapshot moves to `trash/`, and back if it is undeleted before the next prune (SPEC §10).

use std::io;

use crate::{
    Repository,
    error::{Error, Result},
    id::SnapshotId,
    repository::Core,
    snapshot::{RecordKind, Snapshot, SnapshotList, read_trash},
    writer::SnapshotWriter,
};

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
        let core = self.core();
        for snapshot in snapshots {
            core.with_reserve(|| move_to_trash(core, &snapshot.id))?;
        }
        core.storage.sync_all()
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

    /// Moves the record of a snapshot that was forgotten back to where it was.
    ///
    /// # Errors
    /// [`Error::Busy`] while somebody prunes; [`Error::SnapshotGone`] if it is pruned already; what the storage says; or [`Error::Unsupported`] if only a newer
    /// program may write here.
    pub fn undelete(&self, snapshot: &Snapshot) -> Result<()> {
        let core = self.core();
        core.config.check_writable()?;
        let begin = || SnapshotWriter::begin(core, self.cache_dir(), &snapshot.record.series, None);
        core.with_reserve(begin)?.undelete(snapshot)
    }
}

/// Takes a snapshot off the list. It is durable with the next sync.
pub(crate) fn move_to_trash(core: &Core, snapshot: &SnapshotId) -> Result<()> {
    move_record(core, "forget", snapshot, RecordKind::Snapshot, RecordKind::Forgotten)
}

/// Puts a forgotten snapshot back on the list. It is durable with the next sync.
pub(crate) fn take_from_trash(core: &Core, snapshot: &SnapshotId) -> Result<()> {
    move_record(core, "undelete", snapshot, RecordKind::Forgotten, RecordKind::Snapshot)
}

fn move_record(core: &Core, action: &'static str, id: &SnapshotId, from: RecordKind, to: RecordKind) -> Result<()> {
    let (from, to) = (from.file(id), to.file(id));
    match core.storage.rename(&from, &to) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Err(Error::SnapshotGone { id: *id }),
        moved => moved.map_err(|source| Error::Storage { action, name: from, source }),
    }
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
        storage.rename(&RecordKind::Parked.file(&parked.id), &RecordKind::Forgotten.file(&parked.id)).unwrap();
        repository.forget(&snapshots).unwrap();
        storage.files().get_mut(&RecordKind::Forgotten.file(&snapshots[0].id)).unwrap()[70] ^= 1;
        let SnapshotList { snapshots: found, problems } = repository.trash().unwrap();
        assert_eq!(found, &snapshots[1..]);
        assert_eq!(problems.len(), 2, "a parked run is no snapshot: {problems:?}");
        assert!(problems.iter().all(|problem| problem.file.starts_with("trash/")), "{problems:?}");
    }
}
