//! Whether what is said to be unique to a snapshot is what forgetting it frees.
//!
//! Random histories of two devices that share data, with runs that are cut off or parked. Each snapshot and each series is forgotten in a copy of the
//! repository of its own.

use std::{ops::ControlFlow, sync::Arc};

use heirloom_store::{
    Details, Error, MemoryStorage, PruneOptions, Repository, Snapshot, SnapshotId, Source, Stats, Unlock,
};

use crate::support::{
    Files,
    folder::Folder,
    go_on,
    history::{Dice, Kept, OPTIONS, Phone, SERIES, back_up, write},
    noise, pack_bytes, place, storage_of,
};

fn new() -> (Arc<MemoryStorage>, Repository) {
    let storage = Arc::new(MemoryStorage::default());
    let (repository, _) = Repository::create(storage.clone(), None, &OPTIONS).unwrap();
    (storage, repository)
}

fn stats(repository: &Repository) -> Stats {
    repository.stats(&go_on).unwrap()
}

/// What a prune that leaves nothing unused would free with these forgotten, by its plan.
fn planned(repository: &Repository, forgotten: &[SnapshotId]) -> u64 {
    let options = PruneOptions { max_unused: 0.0, ..PruneOptions::default() };
    repository.plan_prune(&options, forgotten, &go_on).unwrap().freed_bytes
}

/// What the packs take when these are forgotten and all is pruned that can be.
fn left(files: &Files, forgotten: &[Snapshot]) -> u64 {
    let storage = storage_of(files);
    let repository = Repository::open(storage.clone(), Unlock::Open, None).unwrap();
    repository.forget(forgotten).unwrap();
    repository.prune(&PruneOptions { max_unused: 0.0, ..PruneOptions::default() }, &go_on).unwrap();
    pack_bytes(&storage.files())
}

#[test]
fn what_is_unique_is_what_forgetting_frees() {
    let (mut unique, mut freed) = (0, 0);
    for seed in 0..6 {
        let mut dice = Dice(seed << 32);
        let (storage, repository) = new();
        let mut phones = [Phone::new(1), Phone::new(2)];
        let mut kept = Kept::new();
        for day in 0..14 {
            let which = dice.roll(2) as usize;
            phones[which].use_it(&mut dice, day);
            let folder = phones[which].folder();
            if dice.roll(4) > 0 {
                kept.push((back_up(&repository, &kept, SERIES[which], &folder, day).unwrap(), folder));
                continue;
            }
            let mut editor = repository.edit(SERIES[which], None).unwrap();
            write(&mut editor, &Folder::new(), &folder).unwrap();
            if dice.roll(2) == 0 {
                editor.park().unwrap();
            }
        }
        // What is forgotten is needed by nobody.
        let forgotten = kept.remove(dice.roll(kept.len() as u64) as usize).0;
        repository.forget(&[forgotten]).unwrap();
        // Backups of two devices within a second are in the order of their ids.
        kept.sort_by_key(|(snapshot, _)| (snapshot.record.created, snapshot.id));

        let stats = stats(&repository);
        let files = storage.files().clone();
        let plan = repository.plan_prune(&PruneOptions::default(), &[], &go_on).unwrap();
        // A plan rounds for each pack.
        let assert_about = |one: u64, other: u64, context: &str| {
            assert!(one.abs_diff(other) <= plan.packs, "seed {seed}, {context}: {one} and {other}");
        };
        let now = planned(&repository, &[]);
        assert_about(stats.needed_bytes, plan.needed_bytes, "what is needed");
        assert_about(stats.unneeded_bytes, now, "what is not needed");
        let is_there: Vec<&Snapshot> = stats.snapshots.iter().map(|of| &of.snapshot).collect();
        assert_eq!(is_there, kept.iter().map(|(snapshot, _)| snapshot).collect::<Vec<_>>(), "seed {seed}");
        let left_now = left(&files, &[]);
        for of in &stats.snapshots {
            assert_about(of.unique_bytes, planned(&repository, &[of.snapshot.id]) - now, "a snapshot");
            unique += of.unique_bytes;
            freed += left_now - left(&files, std::slice::from_ref(&of.snapshot));
        }
        for of in &stats.series {
            let all = kept.iter().map(|(snapshot, _)| snapshot);
            let all: Vec<Snapshot> =
                all.filter(|snapshot| snapshot.record.series == of.newest.record.series).cloned().collect();
            let ids: Vec<SnapshotId> = all.iter().map(|snapshot| snapshot.id).collect();
            assert_about(of.unique_bytes, planned(&repository, &ids) - now, "a series");
            assert_eq!(of.snapshots, all.len() as u64);
            assert_eq!(of.bytes, all.iter().map(|snapshot| snapshot.record.bytes).sum::<u64>());
            assert_eq!(Some(&of.newest), all.last());
            let alone: u64 =
                stats.snapshots.iter().filter(|one| ids.contains(&one.snapshot.id)).map(|one| one.unique_bytes).sum();
            assert!(alone <= of.unique_bytes + all.len() as u64, "the whole is at least its parts");
        }
    }
    assert!(unique > 300_000, "too little is unique to be of interest: {unique}");
    assert!(unique.abs_diff(freed) <= unique / 8, "{unique} bytes were said to be unique, {freed} came free");
}

/// Backs up a folder that holds these files, each of its own noise.
fn of_files(repository: &Repository, series: &str, files: &[(u64, usize)], time: i64) -> Snapshot {
    let mut editor = repository.edit(series, None).unwrap();
    for (seed, len) in files {
        editor.write_file(&place(&seed.to_string()), None, 0, &mut noise(*seed, *len).as_slice()).unwrap();
    }
    editor.commit(Details::new(time, Source::Import)).unwrap().0
}

/// Whether it is `bytes`, of packs: of a little more than files hold, by an index that knows it to an eighth.
#[track_caller]
fn assert_size(unique: u64, bytes: u64) {
    assert!((bytes * 7 / 8..=bytes * 9 / 8 + 12_000).contains(&unique), "{unique} for {bytes}");
}

#[test]
fn what_is_shared_is_nobodys() {
    let (_storage, repository) = new();
    assert_eq!((stats(&repository).bytes(), stats(&repository).snapshots.len()), (0, 0));
    of_files(&repository, SERIES[0], &[(1, 100_000), (2, 200_000)], 1);
    of_files(&repository, SERIES[0], &[(1, 100_000), (2, 200_000), (3, 300_000)], 2);
    of_files(&repository, SERIES[1], &[(1, 100_000), (4, 400_000)], 3);
    of_files(&repository, SERIES[1], &[(1, 100_000), (4, 400_000)], 4);
    let found = stats(&repository);
    for (of, bytes) in found.snapshots.iter().zip([0, 300_000, 0, 0]) {
        assert_size(of.unique_bytes, bytes);
    }
    // By UDID: the second comes first.
    for (of, bytes) in found.series.iter().zip([400_000, 500_000]) {
        assert_size(of.unique_bytes, bytes);
    }
    assert_eq!(
        (found.series[0].newest.record.time, found.series[0].snapshots, found.series[0].bytes),
        (4, 2, 1_000_000)
    );
    assert_eq!(found.bytes(), 1_900_000);
    assert_size(found.needed_bytes, 1_000_000);
    assert!(found.unneeded_bytes < 10, "{found:?}");
}

#[test]
fn what_a_parked_run_holds_is_nobodys() {
    let (_storage, repository) = new();
    of_files(&repository, SERIES[0], &[(1, 100_000), (2, 200_000)], 1);
    let mut editor = repository.edit(SERIES[0], None).unwrap();
    for (seed, len) in [(2, 200_000), (3, 300_000)] {
        editor.write_file(&place(&seed.to_string()), None, 0, &mut noise(seed, len).as_slice()).unwrap();
    }
    editor.park().unwrap();
    let found = stats(&repository);
    assert_eq!(found.snapshots.len(), 1);
    assert_size(found.snapshots[0].unique_bytes, 100_000);
    assert_size(found.series[0].unique_bytes, 100_000);
    assert_eq!((found.series[0].snapshots, found.bytes()), (1, 300_000));
    assert_size(found.needed_bytes, 600_000);
}

#[test]
fn the_base_of_a_delta_is_all_theirs_who_need_the_delta() {
    let (_storage, repository) = new();
    let database = [b"SQLite format 3\0".as_slice(), &noise(1, 65_520)].concat();
    let mut changed = database.clone();
    changed[5000..5040].copy_from_slice(&noise(2, 40));
    let mut before = None;
    for (time, bytes) in [(1, &database), (2, &changed)] {
        let mut editor = repository.edit(SERIES[0], before.as_ref()).unwrap();
        editor.write_file(&place("sms.db"), None, time, &mut bytes.as_slice()).unwrap();
        before = Some(editor.commit(Details::new(time, Source::Device)).unwrap().0);
    }
    let found = stats(&repository);
    assert!(found.needed_bytes < 90_000, "the second is a delta: {found:?}");
    for of in &found.snapshots {
        assert!(of.unique_bytes < 10_000, "the first is not free without the second: {found:?}");
    }
    assert_size(found.series[0].unique_bytes, found.needed_bytes);
}

#[test]
fn all_files_are_counted_once() {
    let (storage, repository) = new();
    of_files(&repository, SERIES[0], &[(1, 100_000)], 1);
    storage.files().insert("quarantine/packs/ab/cd".to_owned(), vec![0; 777]);
    storage.files().insert("parity/ab/cd".to_owned(), vec![0; 55]);
    let disk = stats(&repository).disk;
    let files = storage.files();
    let of = |folder: &str| -> u64 {
        files.iter().filter(|(name, _)| name.starts_with(folder)).map(|(_, bytes)| bytes.len() as u64).sum()
    };
    assert_eq!((disk.all().files, disk.all().bytes), (files.len() as u64, of("")));
    assert_eq!((disk.data_packs.bytes, disk.tree_packs.bytes), (of("packs/"), of("trees/")));
    assert!(disk.tree_packs.bytes < 20_000 && disk.tree_packs.files == 1, "{disk:?}");
    assert_eq!((disk.index.bytes, disk.parity.bytes, disk.index.files), (of("index/"), 55, 1));
}

#[test]
fn it_can_be_interrupted_and_damage_is_told() {
    let (storage, repository) = new();
    of_files(&repository, SERIES[0], &[(1, 100)], 1);
    let interrupted = repository.stats(&|_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(interrupted, Error::Interrupted), "{interrupted}");
    storage.files().iter_mut().filter(|(name, _)| name.starts_with("snapshots/")).for_each(|(_, bytes)| bytes[70] ^= 1);
    assert!(repository.stats(&go_on).is_err_and(|error| error.is_damage()));
}
