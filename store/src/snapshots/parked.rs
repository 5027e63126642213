//! Runs that were cut off: the folder as it was then, for the next run to go on with (SPEC §10).
//!
//! A parked run is nothing that anyone relies on: one that is stale or damaged is as good as none.

use crate::{
    error::Result,
    format::record::{RecordKind, SnapshotRecord},
    id::SnapshotId,
    repository::{Repository, core::Core},
    snapshots::list::read_records,
};

impl Repository {
    /// The newest run of `series` that was cut off and parked since the snapshot that the device goes on from, if any. One that cannot be read
    /// counts as none, as does one that began before the device made another.
    ///
    /// # Errors
    /// Any failure of the storage.
    pub fn parked(&self, series: &str) -> Result<Option<Parked>> {
        let base = self.snapshots()?.base_of(series).map(|snapshot| snapshot.id);
        let parked = parked_of(self.core(), series)?;
        Ok(parked.into_iter().rfind(|parked| parked.record.previous == base))
    }
}

/// A run that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The name of its file.
    pub id: SnapshotId,
    /// What the file says: `time` is when it was parked, `files` and `bytes` count what lay in the folder then, and `previous` is the
    /// newest snapshot of the series when the run began.
    pub record: SnapshotRecord,
}

/// The parked runs of a series that can be read, oldest first.
pub(crate) fn parked_of(core: &Core, series: &str) -> Result<Vec<Parked>> {
    let records = read_records(&*core.storage, &core.sealer, RecordKind::Parked)?;
    let whole = records.into_iter().filter_map(|(id, record)| Some(Parked { id, record: record.ok()? }));
    let mut parked: Vec<Parked> = whole.filter(|parked| parked.record.series == series).collect();
    parked.sort_by_key(|parked| (parked.record.created, parked.id));
    Ok(parked)
}

/// Deletes the parked runs of a series but `keep`, and those that are damaged.
pub(crate) fn delete_parked(core: &Core, series: &str, keep: Option<&SnapshotId>) -> Result<()> {
    for (id, record) in read_records(&*core.storage, &core.sealer, RecordKind::Parked)? {
        let is_done_with = match record {
            Ok(record) => record.series == series,
            Err(error) => error.is_damage(),
        };
        if is_done_with && keep != Some(&id) {
            core.storage.delete_file(&RecordKind::Parked.file(&id))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Depth, Details, Error, MemoryStorage, Name, Options, Repository, Snapshot, SnapshotEditor, Source, Storage,
        TreePath, check,
    };

    fn is_pack(file: &str) -> bool {
        file.starts_with("packs/") || file.starts_with("trees/")
    }

    fn new() -> (Arc<MemoryStorage>, Repository) {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &Options::default()).unwrap();
        (storage, repository)
    }

    fn place(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn write(editor: &mut SnapshotEditor, at: &str) {
        editor.write_file(&place(at), None, 5, &mut at.as_bytes()).unwrap();
    }

    fn commit(editor: SnapshotEditor) -> Snapshot {
        editor.commit(Details::new(1, Source::Device)).unwrap().0
    }

    fn problems(repository: &Repository) -> Vec<String> {
        let report = check(repository, Depth::ReadData, &|_| std::ops::ControlFlow::Continue(())).unwrap();
        assert_eq!(report.affected, []);
        report.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_run_goes_on_where_it_was_cut_off() {
        let (storage, repository) = new();
        let name = Name::new("HomeDomain", "notes").unwrap();
        let mut editor = repository.edit("phone", None).unwrap();
        write(&mut editor, "aa/notes");
        let mut naming = editor.name_files().unwrap();
        assert!(naming.describe(&name, Some(&place("aa/notes")), crate::Entry::new(crate::Kind::File)).unwrap());
        let (base, _) = naming.commit(Details::new(1, Source::Device)).unwrap();

        let mut editor = repository.edit("phone", Some(&base)).unwrap();
        write(&mut editor, "new");
        let first = editor.park().unwrap();
        assert_eq!((first.record.files, first.record.bytes, first.record.previous), (2, 11, Some(base.id)));
        let mut editor = repository.resume(&first).unwrap();
        write(&mut editor, "newer");
        let second = editor.park().unwrap();
        assert_eq!(repository.parked("phone").unwrap(), Some(second.clone()));
        assert_eq!(storage.list("parked").unwrap().len(), 1, "the first is replaced");
        assert_eq!(problems(&repository), [""; 0]);

        let mut editor = repository.resume(&second).unwrap();
        let mut read = Vec::new();
        editor.read_file(&place("new"), &mut read).unwrap();
        assert_eq!(read, b"new");
        drop(editor);
        assert_eq!(repository.parked("phone").unwrap(), Some(second.clone()), "who only looks changes nothing");
        let snapshot = commit(repository.resume(&second).unwrap());
        assert_eq!((snapshot.record.previous, snapshot.record.files), (Some(base.id), 3));
        let reader = repository.read(&snapshot).unwrap();
        assert!(reader.get(&name).unwrap().is_some(), "names outlive parking");
        assert_eq!(storage.list("parked").unwrap(), []);
    }

    #[test]
    fn one_that_is_stale_or_damaged_counts_as_none_and_goes_with_the_next_snapshot() {
        let (storage, repository) = new();
        let mut editor = repository.edit("phone", None).unwrap();
        write(&mut editor, "a");
        editor.park().unwrap();
        let other = repository.edit("other", None).unwrap().park().unwrap();
        let before = storage.files().clone();
        commit(repository.edit("phone", None).unwrap());
        let left: Vec<_> = storage.list("parked").unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(left, [other.id.to_string()], "those of others stay");

        // As if what deleted it was lost.
        let parked = before.iter().filter(|(name, _)| name.starts_with("parked/"));
        parked.for_each(|(name, bytes)| drop(storage.files().insert(name.clone(), bytes.clone())));
        assert_eq!(repository.parked("phone").unwrap(), None, "it is stale");
        let file = RecordKind::Parked.file(&other.id);
        storage.files().get_mut(&file).unwrap()[70] ^= 1;
        assert_eq!(repository.parked("other").unwrap(), None, "it is damaged");
        assert_eq!(problems(&repository), [format!("{file}: its bytes do not match its name")]);
        commit(repository.edit("phone", None).unwrap());
        assert_eq!(storage.list("parked").unwrap(), []);
        assert_eq!(problems(&repository), [""; 0]);
    }

    #[test]
    fn what_it_has_lost_is_told_and_hinders_nothing() {
        let (storage, repository) = new();
        let before = storage.files().clone();
        let mut editor = repository.edit("phone", None).unwrap();
        write(&mut editor, "a");
        let parked = editor.park().unwrap();
        storage.files().retain(|name, _| !is_pack(name) || before.contains_key(name));
        let file = RecordKind::Parked.file(&parked.id);
        assert!(problems(&repository).iter().any(|problem| problem.starts_with(&file)), "{:?}", problems(&repository));
        let parked = repository.parked("phone").unwrap().unwrap();
        assert!(repository.resume(&parked).is_err_and(|error| error.is_damage()));
        commit(repository.edit("phone", None).unwrap());
        assert_eq!(repository.parked("phone").unwrap(), None);
    }

    #[test]
    fn it_is_no_snapshot_wherever_it_lies() {
        let (storage, repository) = new();
        let parked = repository.edit("phone", None).unwrap().park().unwrap();
        assert_eq!(repository.snapshots().unwrap().snapshots, []);
        let bytes = storage.files()[&RecordKind::Parked.file(&parked.id)].clone();
        storage.put(&RecordKind::Snapshot.file(&parked.id), &bytes).unwrap();
        let list = repository.snapshots().unwrap();
        assert_eq!((list.snapshots.len(), list.problems.len()), (0, 1));
    }

    #[test]
    fn a_damaged_base_is_told_as_such() {
        let (storage, repository) = new();
        let mut editor = repository.edit("phone", None).unwrap();
        write(&mut editor, "a");
        let base = commit(editor);
        let packs: Vec<String> = storage.files().keys().filter(|name| is_pack(name)).cloned().collect();
        let whole = storage.files().clone();
        let damages: [fn(&mut Vec<u8>); 3] = [|bytes| bytes[70] ^= 1, |bytes| bytes.truncate(100), Vec::clear];
        for damage in damages {
            packs.iter().for_each(|pack| damage(storage.files().get_mut(pack).unwrap()));
            let error = repository.edit("phone", Some(&base)).map(drop).unwrap_err();
            assert!(error.is_damage() && !matches!(error, Error::WrongContent), "{error}");
            *storage.files() = whole.clone();
        }
        commit(repository.edit("phone", Some(&base)).unwrap());
    }
}
