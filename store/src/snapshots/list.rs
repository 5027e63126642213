//! Lists of snapshots, and of those that were forgotten.

use std::path::Path;

use super::cache::Copies;
use crate::{
    error::{Error, Problem, Result},
    format::{
        record::{RecordKind, Snapshot, SnapshotRecord, Source},
        seal::Sealer,
    },
    id::{FileHash, SnapshotId},
    repository::Repository,
    storage::{Storage, named::read_named_bytes},
};

/// Where the record of a snapshot lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordPlace {
    /// Among the snapshots.
    Snapshots,
    /// Among those that were forgotten.
    Trash,
}

impl Repository {
    /// All snapshots.
    ///
    /// # Errors
    /// What the storage says; a broken snapshot is a problem in the list, unless it was read before it broke and the cache has it.
    pub fn snapshots(&self) -> Result<SnapshotList> {
        read_listed(&*self.core().storage, &self.core().sealer, self.cache_dir())
    }

    /// The ids of all snapshots, whole or not, ascending. It reads none.
    ///
    /// # Errors
    /// Any failure of the storage.
    pub fn snapshot_ids(&self) -> Result<Vec<SnapshotId>> {
        let listed = self.core().storage.list_named(RecordKind::Snapshot.folder())?;
        let mut ids: Vec<SnapshotId> = listed.into_iter().map(|(id, _)| id).collect();
        ids.sort();
        Ok(ids)
    }

    /// Where the record of a snapshot lies; `None` if it is gone.
    ///
    /// # Errors
    /// Any failure of the storage.
    pub fn find_record(&self, id: &SnapshotId) -> Result<Option<RecordPlace>> {
        let has = |kind: RecordKind| self.core().storage.has_file(&kind.file(id));
        if has(RecordKind::Snapshot)? {
            return Ok(Some(RecordPlace::Snapshots));
        }
        if has(RecordKind::Forgotten)? {
            return Ok(Some(RecordPlace::Trash));
        }
        // It may have been undeleted meanwhile.
        Ok(has(RecordKind::Snapshot)?.then_some(RecordPlace::Snapshots))
    }
}

/// The snapshots of a repository, and those that cannot be read.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// In the [order](SnapshotRecord::order) of their age, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// One for each that is broken.
    pub problems: Vec<Problem>,
}

impl SnapshotList {
    /// The newest of a series.
    pub fn newest_of(&self, series: &str) -> Option<&Snapshot> {
        self.snapshots.iter().rev().find(|snapshot| snapshot.record.series == series)
    }

    /// The snapshot that the device of a series goes on from: the newest that it made itself, or else the newest.
    pub fn base_of(&self, series: &str) -> Option<&Snapshot> {
        base_of(self.snapshots.iter().filter(|snapshot| snapshot.record.series == series))
    }

    fn of(records: Vec<(SnapshotId, Result<SnapshotRecord>)>, kind: RecordKind) -> SnapshotList {
        let mut list = SnapshotList::default();
        for (id, record) in records {
            match record {
                Ok(record) => list.snapshots.push(Snapshot { id, record }),
                Err(error) => list.problems.push(Problem::from_error(&kind.file(&id), error)),
            }
        }
        list.snapshots.sort_by_key(Snapshot::age);
        list.problems.sort();
        list
    }
}

/// The snapshot that a device goes on from, of those of its series, oldest first.
pub(crate) fn base_of<'s>(of_series: impl DoubleEndedIterator<Item = &'s Snapshot> + Clone) -> Option<&'s Snapshot> {
    let mut newest_first = of_series.rev();
    newest_first.clone().find(|snapshot| snapshot.record.source == Source::Device).or_else(|| newest_first.next())
}

/// Reads every snapshot; those that were read before from their copies in the folder `cache`, if there is one.
pub(crate) fn read_snapshots(storage: &dyn Storage, sealer: &Sealer, cache: Option<&Path>) -> Result<SnapshotList> {
    let kind = RecordKind::Snapshot;
    Ok(SnapshotList::of(read_each(storage, sealer, kind, Copies::open(cache))?, kind))
}

/// Reads every snapshot as [`read_snapshots`] does, but for broken copies whose whole record lies in the trash: an undelete was cut off there.
pub(crate) fn read_listed(storage: &dyn Storage, sealer: &Sealer, cache: Option<&Path>) -> Result<SnapshotList> {
    let kind = RecordKind::Snapshot;
    let mut listed = Vec::new();
    for (id, record) in read_each(storage, sealer, kind, Copies::open(cache))? {
        let is_broken = record.as_ref().is_err_and(Error::is_damage);
        if !(is_broken && lies_whole(storage, RecordKind::Forgotten, &id)?) {
            listed.push((id, record));
        }
    }
    Ok(SnapshotList::of(listed, kind))
}

/// Reads every snapshot that was forgotten, and is none.
pub(crate) fn read_trash(storage: &dyn Storage, sealer: &Sealer) -> Result<SnapshotList> {
    let kind = RecordKind::Forgotten;
    let records = read_records(storage, sealer, kind)?;
    // What is whole in both folders is a snapshot. Records come back before they leave the trash, so this list is the later one.
    let kept = storage.names_in(RecordKind::Snapshot.folder())?;
    let mut forgotten = Vec::new();
    for (id, record) in records {
        if !(kept.contains(&id) && lies_whole(storage, RecordKind::Snapshot, &id)?) {
            forgotten.push((id, record));
        }
    }
    Ok(SnapshotList::of(forgotten, kind))
}

/// Whether the file of a record has the bytes that its name promises.
fn lies_whole(storage: &dyn Storage, kind: RecordKind, id: &SnapshotId) -> Result<bool> {
    match storage.read_whole(&kind.file(id), RecordKind::FILE_MAX_LEN) {
        Ok(bytes) => Ok(FileHash::of(&bytes) == *id),
        Err(error) if error.is_missing_file() || error.is_damage() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads every record of a kind, each of which may be broken; not those that go meanwhile.
pub(crate) fn read_records(
    storage: &dyn Storage,
    sealer: &Sealer,
    kind: RecordKind,
) -> Result<Vec<(SnapshotId, Result<SnapshotRecord>)>> {
    read_each(storage, sealer, kind, Copies::none())
}

fn read_each(
    storage: &dyn Storage,
    sealer: &Sealer,
    kind: RecordKind,
    mut copies: Copies,
) -> Result<Vec<(SnapshotId, Result<SnapshotRecord>)>> {
    let mut records = Vec::new();
    for (id, len) in storage.list_named(kind.folder())? {
        let file = kind.file(&id);
        let read = if len > RecordKind::FILE_MAX_LEN as u64 {
            Err(Error::damaged(&file, "it is too long"))
        } else {
            copies
                .get_or(&id, len, || read_named_bytes(storage, &file, &id, len))
                .and_then(|bytes| sealer.open_payload(kind.file_kind(), &bytes, &file))
                .and_then(|payload| SnapshotRecord::parse(&payload, &file))
        };
        if !read.as_ref().is_err_and(Error::is_missing_file) {
            records.push((id, read));
        }
    }
    copies.save();
    Ok(records)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Copier, Details, Entry, Kind, MemoryStorage, Name, Options, PruneOptions, RepairOptions, Repository,
        format::record::DAY, repair, snapshots::spares::delete_spares,
    };
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = SnapshotRecord::parse(&bytes, "snapshots/x");
        }
    }

    /// A record with these dates, of a snapshot whose file has the name `id`.
    fn dated(source: Source, time: i64, created: i64, id: u8) -> Snapshot {
        let record = serde_json::json!({
            "series": "phone", "previous": null, "time": time, "created": created, "root": "00".repeat(16), "files": 0, "bytes": 0,
            "added_bytes": 0, "source": source, "encrypted": false, "sealed": false,
        });
        Snapshot { id: FileHash([id; 32]), record: serde_json::from_value(record).unwrap() }
    }

    fn listed(snapshots: Vec<Snapshot>) -> SnapshotList {
        SnapshotList::of(snapshots.into_iter().map(|one| (one.id, Ok(one.record))).collect(), RecordKind::Snapshot)
    }

    fn ids(list: &SnapshotList) -> Vec<u8> {
        list.snapshots.iter().map(|snapshot| snapshot.id.as_bytes()[0]).collect()
    }

    const NOW: i64 = 1_780_000_000;
    const YEAR: i64 = 365 * DAY;

    #[test]
    fn a_phones_wrong_clock_does_not_decide_the_newest() {
        use Source::{Device, Import};
        let list = listed(vec![
            dated(Device, NOW + 5 * YEAR, NOW - 9 * DAY, 1),
            dated(Device, 0, NOW - 8 * DAY, 2),
            dated(Device, NOW - 7 * DAY, NOW - 7 * DAY, 3),
            dated(Import, NOW + 5 * YEAR, NOW - DAY, 4),
            dated(Import, NOW - 8 * DAY - 9, NOW, 5),
        ]);
        assert_eq!(ids(&list), [4, 1, 5, 2, 3], "imports lie where they were taken, or before all if that cannot be");
        assert_eq!(list.newest_of("phone").unwrap().id, FileHash([3; 32]));
    }

    #[test]
    fn a_device_goes_on_from_its_own_newest() {
        use Source::{Device, Import};
        let own = || vec![dated(Device, NOW - YEAR, NOW - YEAR, 1), dated(Import, NOW - DAY, NOW, 2)];
        let list = listed(own());
        assert_eq!(ids(&list), [1, 2]);
        assert_eq!(list.base_of("phone").unwrap().id, FileHash([1; 32]));
        assert_eq!(listed(own().split_off(1)).base_of("phone").unwrap().id, FileHash([2; 32]));
        assert_eq!(list.base_of("another"), None);
    }

    #[test]
    fn ciphertext_is_older_than_the_same_backup_to_be_read() {
        let mut ciphertext = dated(Source::Import, NOW, NOW + 9, 1);
        ciphertext.record.encrypted = true;
        let mut readable = dated(Source::Import, NOW, NOW + 5, 2);
        (readable.record.encrypted, readable.record.sealed) = (true, true);
        assert_eq!(ids(&listed(vec![readable, ciphertext])), [1, 2]);
    }

    #[test]
    fn what_takes_a_snapshots_place_keeps_its_age() {
        let mut converted = dated(Source::Device, NOW - 3 * DAY, NOW, 1);
        converted.record.kept = Some(NOW - 3 * DAY + 60);
        let list = listed(vec![converted, dated(Source::Device, NOW - 2 * DAY, NOW - 2 * DAY, 2)]);
        assert_eq!(ids(&list), [1, 2]);
        assert_eq!(list.snapshots[0].record.credible_time(NOW), NOW - 3 * DAY);
    }

    #[test]
    fn copies_keep_the_order_of_their_originals() {
        let new = || {
            let storage = Arc::new(MemoryStorage::default());
            Repository::create(storage, None, &Options::default()).unwrap().0
        };
        let (source, target, third) = (new(), new(), new());
        // The phone's clock goes backwards.
        let made: Vec<Snapshot> = (0..4)
            .map(|number| {
                let editor = source.edit("phone", None).unwrap();
                editor.commit(Details::new(NOW - number * DAY, Source::Device)).unwrap().0
            })
            .collect();
        let copy_into = |from: &Repository, to: &Repository, order: [usize; 4]| {
            let mut copier = Copier::new(from, to).unwrap();
            let all = from.snapshots().unwrap().snapshots;
            let go_on = &mut |_| std::ops::ControlFlow::Continue(());
            order.iter().for_each(|&at| drop(copier.copy(&all[at], go_on).unwrap()));
        };
        copy_into(&source, &target, [3, 0, 2, 1]);
        copy_into(&target, &third, [1, 2, 3, 0]);
        for repository in [&source, &target, &third] {
            let list = repository.snapshots().unwrap();
            let dates: Vec<_> = list.snapshots.iter().map(|one| (one.record.time, one.record.kept_at())).collect();
            assert_eq!(dates, made.iter().map(|one| (one.record.time, one.record.created)).collect::<Vec<_>>());
            assert_eq!(list.newest_of("phone").unwrap().record.time, NOW - 3 * DAY);
        }
    }

    #[test]
    fn impossible_dates_give_way_to_when_it_was_kept() {
        use Source::{Device, Import};
        for (source, time, kept_at, credible, is_doubtful) in [
            (Device, NOW - 60, NOW, NOW - 60, false),
            (Device, NOW + 60, NOW, NOW, false),
            (Device, NOW + 2 * DAY, NOW, NOW, true),
            (Device, NOW - 6 * DAY, NOW, NOW - 6 * DAY, false),
            (Device, NOW - YEAR, NOW, NOW, true),
            // The computer's clock is ahead, and knows nothing better.
            (Device, NOW - YEAR, NOW + YEAR, NOW - YEAR, false),
            (Import, NOW - YEAR, NOW, NOW - YEAR, false),
            (Import, i64::MAX, NOW, NOW, true),
            (Import, i64::MIN, NOW, i64::MIN, false),
            (Device, i64::MAX, i64::MIN, i64::MIN, true),
            (Device, i64::MIN, i64::MAX, i64::MIN, false),
        ] {
            let record = dated(source, time, kept_at, 1).record;
            assert_eq!(record.credible_time(NOW), credible, "{source} {time} {kept_at}");
            assert_eq!(record.is_time_doubtful(NOW), is_doubtful, "{source} {time} {kept_at}");
        }
    }

    #[test]
    fn a_needed_feature_is_named() {
        let error = SnapshotRecord::parse(br#"{"needs":["time travel"]}"#, "snapshots/x").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"snapshots/x needs the feature "time travel", which this version of heirloom does not know"#
        );
    }

    #[test]
    fn what_a_later_program_wrote_is_told_of_and_kept_and_all_else_is_as_ever() {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &Options::default()).unwrap();
        let name = Name::new("HomeDomain", "notes").unwrap();
        let back_up = |text: &str| {
            let mut writer = repository.write("phone").unwrap();
            let content = writer.store(Some(&name), &mut text.as_bytes()).unwrap();
            writer.put(&name, &Entry { content: Some(content), ..Entry::new(Kind::File) }).unwrap();
            writer.commit(Details::new(1, Source::Import)).unwrap().0
        };
        let (mut later, plain) = (back_up("later"), back_up("plain"));
        delete_spares(&*storage, &[later.id]).unwrap();
        storage.delete(&RecordKind::Snapshot.file(&later.id)).unwrap();
        later.record.needs = vec!["time travel".to_owned()];
        let later = repository.core().put_record(RecordKind::Snapshot, &mut later.record).unwrap();

        let list = repository.snapshots().unwrap();
        assert_eq!(list.snapshots.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>(), [plain.id]);
        let [problem] = &list.problems[..] else { panic!("{:?}", list.problems) };
        assert!(problem.file.ends_with(&later.to_string()) && problem.to_string().contains("time travel"), "{problem}");
        repository.forget(&[plain]).unwrap();
        back_up("after");

        // Nobody here knows what it reaches, and it is not broken.
        let before = storage.files().clone();
        let go_on = |_| std::ops::ControlFlow::Continue(());
        let refused = repository.prune(&PruneOptions::default(), &go_on).unwrap_err();
        assert!(refused.to_string().contains("time travel"), "{refused}");
        let report = repair(&repository, &RepairOptions::default(), &go_on).unwrap();
        assert_eq!(report.done, []);
        assert!(before.iter().all(|(file, bytes)| file == "reserve" || storage.files().get(file) == Some(bytes)));
    }
}
