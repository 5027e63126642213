//! Things that a later program may add to a repository, of each kind that SPEC §17 names: for the tests of this program.

use crate::{
    ChunkId, Prefix, Repository, Snapshot, SnapshotId,
    error::{Error, Result},
    format::{
        codec::Encoding,
        entry::{ChunkRef, Chunks, Content, Entry, Kind},
        pack::{ChunkKind, NewFrame, PackBuilder, SegmentPack, chunk_id},
        record::RecordKind,
        tree::TreeBuilder,
    },
    id::FileHash,
    index::SegmentBuilder,
    name::Name,
    snapshots::spares::add_spares,
};

/// Something that only a later program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Later {
    /// A snapshot that needs a feature.
    Needs,
    /// A snapshot that comes from elsewhere than from a device or an import.
    Source,
    /// A record of a snapshot of another version.
    RecordVersion,
    /// A file of another kind among the snapshots.
    RecordKind,
    /// A parked run that needs a feature.
    Parked,
    /// A forgotten snapshot that needs a feature.
    Forgotten,
    /// A snapshot in which an entry has a field that its content needs.
    EntryTag,
    /// A snapshot in which an entry is neither file nor directory nor link.
    EntryKind,
    /// A snapshot in which the phone's cipher of a file is another.
    EntryCipher,
    /// A snapshot whose tree is in a pack of another encoding.
    TreeEncoding,
    /// A snapshot of a file in a data pack of another encoding.
    DataEncoding,
    /// The same in a pack with chunks of another kind.
    DataKind,
    /// The same in a pack of another version.
    PackVersion,
    /// The same in a file of another kind.
    PackKind,
    /// A pack of another encoding that no segment names.
    Unindexed,
}

/// Changes the bytes that this program would write.
type Patch<'p> = &'p dyn Fn(&mut Vec<u8>);

impl Later {
    /// All of them.
    pub const ALL: [Later; 15] = [
        Later::Needs,
        Later::Source,
        Later::RecordVersion,
        Later::RecordKind,
        Later::Parked,
        Later::Forgotten,
        Later::EntryTag,
        Later::EntryKind,
        Later::EntryCipher,
        Later::TreeEncoding,
        Later::DataEncoding,
        Later::DataKind,
        Later::PackVersion,
        Later::PackKind,
        Later::Unindexed,
    ];

    /// Names what this program says that it does not know.
    pub fn what(self) -> &'static str {
        match self {
            Later::Needs | Later::Parked | Later::Forgotten => r#"the feature "time travel""#,
            Later::Source => r#"snapshots of the source "cloud""#,
            Later::RecordVersion | Later::PackVersion => "file version 2",
            Later::RecordKind | Later::PackKind => "files of kind 11",
            Later::EntryTag => "fields of tag 131",
            Later::EntryKind => "entries of kind 4",
            Later::EntryCipher => "the cipher 2 of files of phones",
            Later::TreeEncoding | Later::DataEncoding | Later::Unindexed => "frames of encoding 3",
            Later::DataKind => "chunks of kind 4",
        }
    }

    /// Adds it to a repository, in or beside a snapshot that is otherwise like `like`, which has an entry. Gives the
    /// snapshot, if there is one.
    ///
    /// # Errors
    /// What the repository says.
    pub fn add(self, repository: &Repository, like: &Snapshot) -> Result<Option<SnapshotId>> {
        let needs = |record: &mut serde_json::Value| record["needs"] = ["time travel"].into();
        let encoding: Patch = &|directory| directory[1] = 3;
        let untouched: Patch = &|_| ();
        match self {
            Later::Needs => put_record(repository, like, RecordKind::Snapshot, &needs, &[]),
            Later::Parked => put_record(repository, like, RecordKind::Parked, &needs, &[]),
            Later::Forgotten => put_record(repository, like, RecordKind::Forgotten, &needs, &[]),
            Later::Source => {
                let cloud = |record: &mut serde_json::Value| record["source"] = "cloud".into();
                put_record(repository, like, RecordKind::Snapshot, &cloud, &[])
            }
            Later::RecordVersion => put_record(repository, like, RecordKind::Snapshot, &|_| (), &[(8, 2)]),
            Later::RecordKind => put_record(repository, like, RecordKind::Snapshot, &|_| (), &[(9, 11)]),
            Later::EntryTag => put_tree(repository, like, &|entry| entry.extend([131, 1, 7]), untouched),
            Later::EntryKind => put_tree(repository, like, &|entry| entry[1] = 4, untouched),
            Later::EntryCipher => put_tree(repository, like, &|entry| entry.extend([129, 3, 2, 7, 7]), untouched),
            Later::TreeEncoding => put_tree(repository, like, untouched, encoding),
            Later::DataEncoding => put_file(repository, like, encoding, &[]),
            Later::DataKind => put_file(repository, like, &|directory| directory[2] = 4, &[]),
            Later::PackVersion => put_file(repository, like, untouched, &[(8, 2)]),
            Later::PackKind => put_file(repository, like, untouched, &[(9, 11)]),
            Later::Unindexed => {
                put_pack(repository, ChunkKind::Data, &[b"of a run that was cut off".to_vec()], encoding, &[])?;
                Ok(None)
            }
        }
    }
}

/// Puts the record of a snapshot with other JSON in it, or another header. Gives its id if it is one of a snapshot.
fn put_record(
    repository: &Repository,
    like: &Snapshot,
    kind: RecordKind,
    patch: &dyn Fn(&mut serde_json::Value),
    header: &[(usize, u8)],
) -> Result<Option<SnapshotId>> {
    let core = repository.core();
    let mut record = serde_json::to_value(&like.record).expect("a record is plain JSON");
    record["created"] = (like.record.created + 1).into();
    patch(&mut record);
    let mut bytes = core.sealer.seal_payload(kind.file_kind(), record.to_string().as_bytes())?;
    header.iter().for_each(|(at, byte)| bytes[*at] = *byte);
    let id = FileHash::of(&bytes);
    core.storage.put_file(&kind.file(&id), &bytes)?;
    add_spares(&*core.storage)?;
    Ok((kind == RecordKind::Snapshot).then_some(id))
}

/// The keys and entries of a snapshot.
fn entries_of(repository: &Repository, snapshot: &Snapshot) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let reader = repository.read(snapshot)?;
    let emitted = |(name, entry): (Name, Entry)| (name.key().to_vec(), entry.emit());
    reader.entries(&Prefix::all()).map(|item| item.map(emitted)).collect()
}

/// Puts a snapshot with another tree: its first entry is another, or its pack.
fn put_tree(
    repository: &Repository,
    like: &Snapshot,
    first_entry: Patch,
    directory: Patch,
) -> Result<Option<SnapshotId>> {
    let mut entries = entries_of(repository, like)?;
    if let Some((_, entry)) = entries.first_mut() {
        first_entry(entry);
    }
    // So that the tree is another in any case.
    let name = Name::new("HomeDomain", "zz of a later program")?;
    entries.push((name.key().to_vec(), Entry::new(Kind::Directory).emit()));
    entries.sort();
    put_entries(repository, like, &entries, directory)
}

/// Puts a snapshot of one file more, which is in a data pack of its own.
fn put_file(
    repository: &Repository,
    like: &Snapshot,
    directory: Patch,
    header: &[(usize, u8)],
) -> Result<Option<SnapshotId>> {
    let plaintext = b"in a pack of a later program".to_vec();
    put_segment(
        repository,
        put_pack(repository, ChunkKind::Data, std::slice::from_ref(&plaintext), directory, header)?,
    )?;
    let id = chunk_id(&repository.core().keys.id, ChunkKind::Data, &plaintext);
    let (hash, length) = (*blake3::hash(&plaintext).as_bytes(), plaintext.len() as u64);
    let chunks = Chunks::Inline(vec![ChunkRef { id, len: length }]);
    let content = Content { hash, length, sealing: None, rule: 1, chunks };
    let file = Entry { content: Some(content), ..Entry::new(Kind::File) };
    let mut entries = entries_of(repository, like)?;
    entries.push((Name::new("HomeDomain", "zz of a later program")?.key().to_vec(), file.emit()));
    entries.sort();
    put_entries(repository, like, &entries, &|_| ())
}

/// Puts a snapshot of these entries, and their tree in a pack with this directory.
fn put_entries(
    repository: &Repository,
    like: &Snapshot,
    entries: &[(Vec<u8>, Vec<u8>)],
    directory: Patch,
) -> Result<Option<SnapshotId>> {
    let keys = &repository.core().keys;
    let mut nodes: Vec<Vec<u8>> = Vec::new();
    let mut builder = TreeBuilder::new(keys.tree, |_, _, node: &[u8]| {
        nodes.push(node.to_vec());
        Ok(chunk_id(&keys.id, ChunkKind::Node, node))
    });
    entries.iter().try_for_each(|(key, entry)| builder.add(key, entry))?;
    let root: ChunkId = builder.finish()?;
    put_segment(repository, put_pack(repository, ChunkKind::Node, &nodes, directory, &[])?)?;
    let with_root = |record: &mut serde_json::Value| record["root"] = root.to_string().into();
    put_record(repository, like, RecordKind::Snapshot, &with_root, &[])
}

/// Puts a pack with another directory, or another header, and gives what a segment says of it.
fn put_pack(
    repository: &Repository,
    kind: ChunkKind,
    plaintexts: &[Vec<u8>],
    directory: Patch,
    header: &[(usize, u8)],
) -> Result<SegmentBuilder> {
    let core = repository.core();
    let mut builder = PackBuilder::new(&core.sealer, kind.pack(), 0)?;
    for plaintext in plaintexts {
        let chunks = &[(chunk_id(&core.keys.id, kind, plaintext), plaintext.len())];
        builder.add(&NewFrame { encoding: Encoding::Raw, kind, base: None, chunks, encoded: plaintext });
    }
    let finished = builder.finish_as(|plaintext| directory(plaintext));
    let (mut bytes, directory) = finished.ok_or_else(|| Error::Failed("a pack of nothing".into()))?;
    let trailer_at = bytes.len() - crate::format::pack::TRAILER_LEN;
    for (at, byte) in header {
        bytes[*at] = *byte;
        bytes[trailer_at + at] = *byte;
    }
    let pack = SegmentPack { name: FileHash::of(&bytes), kind: kind.pack(), len: bytes.len() as u64 };
    core.storage.put_file(&pack.file(), &bytes)?;
    let mut segment = SegmentBuilder::default();
    segment.add_pack(pack, &directory);
    Ok(segment)
}

fn put_segment(repository: &Repository, segment: SegmentBuilder) -> Result<()> {
    let core = repository.core();
    let (mut index, _) = core.load_index(None)?;
    index.write_segment(&*core.storage, &core.sealer, None, segment)?;
    core.storage.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

    use super::*;
    use crate::{
        Copier, Depth, Details, ExportOptions, MemoryStorage, Options, Problem, PruneOptions, RepairOptions, Unlock,
        check, check_packs_without_key, error, export, repair,
    };

    /// A repository with a snapshot that this program has written.
    fn plain() -> (Arc<MemoryStorage>, Repository, Snapshot) {
        let storage = Arc::new(MemoryStorage::default());
        Repository::create(storage.clone(), None, &Options::default()).unwrap();
        let repository = Repository::open(storage.clone(), Unlock::Open, None).unwrap();
        let snapshot = back_up(&repository, "kept by this program");
        (storage, repository, snapshot)
    }

    fn back_up(repository: &Repository, text: &str) -> Snapshot {
        let mut writer = repository.write("phone").unwrap();
        let name = Name::new("HomeDomain", "notes").unwrap();
        let content = writer.store(Some(&name), &mut text.as_bytes()).unwrap();
        writer.put(&name, &Entry { content: Some(content), ..Entry::new(Kind::File) }).unwrap();
        writer.commit(Details::new(1, crate::Source::Import)).unwrap().0
    }

    type Files = BTreeMap<String, Vec<u8>>;

    fn files_of(storage: &MemoryStorage) -> Files {
        storage.files().iter().filter(|(name, _)| *name != "reserve").map(|(n, b)| (n.clone(), b.clone())).collect()
    }

    fn go_on(_: crate::Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// A repository to which each thing was added, that, and the snapshot that it is in.
    fn each(with: impl Fn(Later, &Arc<MemoryStorage>, &Repository, &Snapshot, Option<SnapshotId>)) {
        for later in Later::ALL {
            let (storage, repository, snapshot) = plain();
            let added = later.add(&repository, &snapshot).unwrap();
            println!("{later:?}");
            with(later, &storage, &repository, &snapshot, added);
        }
    }

    /// Whether it is in a record, which is not listed.
    fn is_in_record(later: Later) -> bool {
        matches!(later, Later::Needs | Later::Source | Later::RecordVersion | Later::RecordKind)
    }

    /// Whether it is in a tree, or its pack.
    fn is_in_tree(later: Later) -> bool {
        matches!(later, Later::EntryTag | Later::EntryKind | Later::EntryCipher | Later::TreeEncoding)
    }

    fn is_in_data(later: Later) -> bool {
        matches!(later, Later::DataEncoding | Later::DataKind | Later::PackVersion | Later::PackKind)
    }

    fn snapshot_of(repository: &Repository, id: Option<SnapshotId>) -> Option<Snapshot> {
        repository.snapshots().unwrap().snapshots.into_iter().find(|snapshot| Some(snapshot.id) == id)
    }

    #[track_caller]
    fn assert_newer(problems: &[Problem], later: Later) {
        let is_right = |problem: &Problem| problem.is_newer && problem.what.contains(later.what());
        assert!(problems.iter().all(is_right), "{later:?}: {problems:?}");
    }

    #[test]
    fn unknown_records_are_listed_as_newer() {
        each(|later, _, repository, plain, added| {
            let list = repository.snapshots().unwrap();
            assert_newer(&list.problems, later);
            assert_eq!(list.problems.len(), usize::from(is_in_record(later)), "{later:?}");
            assert!(list.snapshots.contains(plain));
            assert_eq!(snapshot_of(repository, added).is_some(), is_in_tree(later) || is_in_data(later));
            let trash = repository.trash().unwrap();
            assert_newer(&trash.problems, later);
            assert_eq!(trash.problems.len(), usize::from(later == Later::Forgotten));
        });
    }

    #[test]
    fn check_tells_what_is_newer_apart_from_damage() {
        each(|later, storage, repository, _, added| {
            for depth in [Depth::Structure, Depth::Packs, Depth::ReadData] {
                let report = check(repository, depth, &go_on).unwrap();
                assert!(report.is_whole(), "{later:?}: {:?} {:?}", report.problems, report.affected);
                assert_newer(&report.newer, later);
                assert_eq!(report.newer.is_empty(), later == Later::Forgotten, "only the name of it is looked at");
                let of_snapshot = added.map(|id| RecordKind::Snapshot.file(&id));
                assert!(of_snapshot.is_none_or(|file| report.newer.iter().any(|newer| newer.file == file)));
            }
            let report = check_packs_without_key(&**storage, &go_on).unwrap();
            assert!(report.is_whole() && report.newer.is_empty(), "{later:?}: {:?}", report.problems);
        });
    }

    #[test]
    fn flipped_bits_of_what_is_newer_are_damage() {
        for later in Later::ALL {
            let (storage, repository, snapshot) = plain();
            let before = files_of(&storage);
            later.add(&repository, &snapshot).unwrap();
            let whole = files_of(&storage);
            for file in whole.keys().filter(|name| !before.contains_key(*name)) {
                for at in [8, 9, 20, 40, 70] {
                    storage.files().get_mut(file).unwrap()[at] ^= 0x10;
                    let report = check(&repository, Depth::Packs, &go_on).unwrap();
                    assert!(report.problems.iter().any(|problem| problem.file == *file), "{later:?}: {file} {at}");
                    storage.files().insert(file.clone(), whole[file].clone());
                }
            }
        }
    }

    #[test]
    fn prune_refuses_what_is_newer() {
        each(|later, storage, repository, plain, _| {
            back_up(repository, "and something else");
            repository.forget(std::slice::from_ref(plain)).unwrap();
            let before = files_of(storage);
            match repository.prune(&PruneOptions::default(), &go_on) {
                Err(error) => {
                    assert!(error.is_newer() && error.to_string().contains(later.what()), "{later:?}: {error}");
                    assert!(files_of(storage) == before, "{later:?}");
                }
                // What a snapshot needs stays, whatever is in it.
                Ok(outcome) => {
                    assert!(is_in_data(later) && outcome.trash == 1, "{later:?}: {outcome:?}");
                    let report = check(repository, Depth::ReadData, &go_on).unwrap();
                    assert!(report.is_whole() && report.newer.len() == 2, "{later:?}: {report:?}");
                }
            }
            assert_eq!(repository.plan_prune(&PruneOptions::default(), &[], &go_on).is_ok(), is_in_data(later));
        });
    }

    #[test]
    fn repair_leaves_what_is_newer_as_it_is() {
        each(|later, storage, repository, _, _| {
            let before = files_of(storage);
            let options = RepairOptions { mark_lost: true, ..RepairOptions::default() };
            let report = repair(repository, &options, &go_on).unwrap();
            assert_eq!((report.done, report.left.is_whole()), (vec![], true), "{later:?}");
            assert!(files_of(storage) == before, "{later:?}");
        });
    }

    #[test]
    fn lost_record_of_a_newer_snapshot_comes_back() {
        each(|later, storage, repository, _, added| {
            let Some(file) = added.map(|id| RecordKind::Snapshot.file(&id)) else { return };
            let before = files_of(storage);
            storage.files().get_mut(&file).unwrap()[70] ^= 1;
            let report = repair(repository, &RepairOptions::default(), &go_on).unwrap();
            assert!(report.done.iter().any(|done| done.file == file && done.what.contains("spare")), "{later:?}");
            assert!(before.iter().all(|(name, bytes)| storage.files().get(name) == Some(bytes)), "{later:?}");
        });
    }

    #[test]
    fn backup_beside_what_is_newer_is_whole() {
        each(|later, _, repository, _, _| {
            let after = back_up(repository, "kept after it");
            let report = check(repository, Depth::ReadData, &go_on).unwrap();
            assert!(report.is_whole(), "{later:?}: {:?}", report.problems);
            assert!(report.newer.iter().all(|newer| !newer.file.contains(&after.id.to_string())), "{later:?}");
            assert!(repository.read(&after).unwrap().entries(&Prefix::all()).all(|item| item.is_ok()));
        });
    }

    #[test]
    fn readers_are_told_what_is_newer() {
        let dir = tempfile::tempdir().unwrap();
        each(|later, _, repository, plain, added| {
            let Some(snapshot) = snapshot_of(repository, added) else { return };
            let reader = repository.read(&snapshot).unwrap();
            let is_newer = |error: Error| error.is_newer() && error.to_string().contains(later.what());
            let read: Vec<error::Result<_>> = reader.entries(&Prefix::all()).collect();
            let errors: Vec<Error> = read.into_iter().filter_map(Result::err).collect();
            assert_eq!(!errors.is_empty(), is_in_tree(later));
            assert!(errors.into_iter().all(is_newer), "{later:?}");
            assert_eq!(repository.folder(&snapshot).err().is_some_and(is_newer), is_in_tree(later), "{later:?}");
            let target = dir.path().join(format!("{later:?}"));
            let stats = export(&reader, &target, &ExportOptions::default(), &go_on).unwrap();
            assert_newer(&stats.problems, later);
            assert_eq!(stats.problems.len(), 1, "{later:?}: {:?}", stats.problems);
            let changes: Vec<_> = repository.diff(plain, &snapshot).unwrap().collect();
            assert_eq!(changes.into_iter().filter_map(Result::err).any(is_newer), is_in_tree(later), "{later:?}");
            assert_eq!(repository.edit("phone", Some(&snapshot)).err().is_some_and(is_newer), is_in_tree(later));
        });
    }

    #[test]
    fn copier_copies_all_but_what_is_newer() {
        each(|later, _, source, plain, added| {
            let (target, _) =
                Repository::create(Arc::new(MemoryStorage::default()), None, &Options::default()).unwrap();
            let mut copier = Copier::new(source, &target).unwrap();
            assert_newer(copier.problems(), later);
            copier.copy(plain, &mut |_| ControlFlow::Continue(())).unwrap();
            if let Some(snapshot) = snapshot_of(source, added) {
                let error = copier.copy(&snapshot, &mut |_| ControlFlow::Continue(())).unwrap_err();
                assert!(error.is_newer() && error.to_string().contains(later.what()), "{later:?}: {error}");
            }
            drop(copier);
            assert_eq!(target.snapshots().unwrap().snapshots.len(), 1);
            assert!(check(&target, Depth::ReadData, &go_on).unwrap().is_whole());
        });
    }
}
