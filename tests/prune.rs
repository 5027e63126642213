//! Whether prune deletes all that nothing needs and nothing else.
//!
//! Random histories of two devices that share data: backups, runs that are cut off, runs that are parked, snapshots that are forgotten. After every
//! prune each snapshot is compared with what was backed up, a check reads every byte, and the room that is taken is compared with that of a
//! repository that never held anything else. And one history whose prune is cut off, finds no room or damage, or has others beside it at every step.

mod beside;
mod cut_off;
mod damage;
mod deltas;
mod full;
mod late;
mod readers;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use heirloom_store::{
    Depth, Details, MemoryStorage, Options, Progress, PruneOptions, PruneOutcome, Repository, Result, Snapshot,
    SnapshotEditor, Source, Storage, Unlock,
};

use crate::support::{
    Files, check_all,
    folder::{Folder, Thing, folder_of, read_whole},
    go_on,
    history::{BLOCK, Dice, Kept, OPTIONS, Phone, SERIES, back_up, write},
    is_pack, noise, pack_bytes, place, storage_of,
};

const SEEDS: u64 = 8;
const DAYS: i64 = 25;

/// Two phones that share data, small enough for a prune at each of many points. What is forgotten leaves packs of which nothing is needed and packs
/// of which something is.
struct Story {
    /// Before anything is forgotten.
    files: Files,
    kept: Kept,
    forgotten: Kept,
}

impl Story {
    fn new(options: &Options) -> Story {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, options).unwrap();
        let mut made = Kept::new();
        let mut dice = Dice(5 << 32);
        let mut phones = [Phone::new(1), Phone::new(2)];
        for phone in &mut phones {
            phone.files.get_mut("db/sms.db").unwrap().0.truncate(2 * BLOCK);
            phone.files.insert("shared/film".to_owned(), (noise(7, 30_000), 0));
        }
        phones[0].files.insert("old/film".to_owned(), (noise(8, 70_000), 0));
        for (day, which) in [(0, 0), (1, 1), (2, 0), (3, 0)] {
            let folder = phones[which].folder();
            made.push((back_up(&repository, &made, SERIES[which], &folder, day).unwrap(), folder));
            phones[which].files.remove("old/film");
            phones[which].use_it(&mut dice, day + 1);
            phones[which].files.insert("new/of the day".to_owned(), (noise(90 + day as u64, 9_000), day));
        }
        let (forgotten, kept) = made.into_iter().partition(|(snapshot, _)| [0, 2].contains(&snapshot.record.time));
        let files = storage.files().clone();
        Story { files, kept, forgotten }
    }

    /// The same when they are forgotten.
    fn after_forgetting(&self) -> Files {
        let storage = storage_of(&self.files);
        open(&storage).forget(&snapshots_of(&self.forgotten)).unwrap();
        storage.files().clone()
    }
}

fn snapshots_of(kept: &Kept) -> Vec<Snapshot> {
    kept.iter().map(|(snapshot, _)| snapshot.clone()).collect()
}

fn open<S: Storage + 'static>(storage: &Arc<S>) -> Repository {
    Repository::open(storage.clone(), Unlock::Open, None).unwrap()
}

/// Ends all sessions, as if those whose they are were known to be dead.
fn end_sessions(repository: &Repository) {
    for session in repository.sessions().unwrap() {
        repository.end_session(&session.id).unwrap();
    }
}

/// A prune that leaves nothing that is not needed.
fn thorough() -> PruneOptions {
    PruneOptions { max_unused: 0.0, ..PruneOptions::default() }
}

fn prune(repository: &Repository, options: &PruneOptions) -> PruneOutcome {
    repository.prune(options, &go_on).unwrap()
}

/// All that is kept is whole, and a check finds nothing.
#[track_caller]
fn assert_whole(repository: &Repository, kept: &Kept, context: &str) {
    let list = repository.snapshots().unwrap();
    let ids = |kept: &mut dyn Iterator<Item = &Snapshot>| {
        let mut ids: Vec<String> = kept.map(|snapshot| snapshot.id.to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&mut list.snapshots.iter()), ids(&mut kept.iter().map(|(snapshot, _)| snapshot)), "{context}");
    for (snapshot, folder) in kept {
        let read = read_whole(repository, snapshot).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(read == *folder, "{context}: other files came out");
    }
    let report = check_all(repository, Depth::ReadData).unwrap();
    assert_eq!(report.problems, [], "{context}");
}

fn packs(files: &Files) -> Vec<String> {
    files.keys().filter(|name| is_pack(name)).cloned().collect()
}

/// What a repository takes that never held anything but `kept`.
fn bytes_of_fresh(kept: &Kept) -> u64 {
    let storage = Arc::new(MemoryStorage::default());
    let (repository, _) = Repository::create(storage.clone(), None, &OPTIONS).unwrap();
    let mut made = Kept::new();
    for (snapshot, folder) in kept {
        let record = &snapshot.record;
        let again = back_up(&repository, &made, &record.series, folder, record.time).unwrap();
        made.push((again, folder.clone()));
    }
    pack_bytes(&storage.files())
}

#[test]
fn after_any_history_all_that_is_kept_is_whole_and_what_is_not_is_gone() {
    let mut deleted = 0;
    for seed in 0..SEEDS {
        let mut dice = Dice(seed << 32);
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &OPTIONS).unwrap();
        let mut phones = [Phone::new(1), Phone::new(2)];
        let mut kept = Kept::new();
        for day in 0..DAYS {
            let which = dice.roll(2) as usize;
            let context = format!("seed {seed}, day {day}");
            match dice.roll(10) {
                0..=4 => {
                    phones[which].use_it(&mut dice, day);
                    let folder = phones[which].folder();
                    let snapshot = back_up(&repository, &kept, SERIES[which], &folder, day).unwrap();
                    kept.push((snapshot, folder));
                }
                5 => {
                    // Cut off, after some of it was written.
                    let mut phone = phones[which].clone();
                    phone.use_it(&mut dice, day);
                    phone.files.insert("lost".to_owned(), (noise(dice.roll(u64::MAX), 200_000), day));
                    let mut editor = repository.edit(SERIES[which], None).unwrap();
                    write(&mut editor, &Folder::new(), &phone.folder()).unwrap();
                    if dice.roll(2) == 0 {
                        editor.park().unwrap();
                    }
                }
                6..=7 if !kept.is_empty() => {
                    let (snapshot, _) = kept.remove(dice.roll(kept.len() as u64) as usize);
                    repository.forget(std::slice::from_ref(&snapshot)).unwrap();
                }
                _ => {
                    let max_unused = [0.0, 0.05, 0.5][dice.roll(3) as usize];
                    let max_rewrite = [None, None, Some(100_000)][dice.roll(3) as usize];
                    let options = PruneOptions { max_unused, max_rewrite };
                    let plan = repository.plan_prune(&options, &[], &go_on).unwrap();
                    let before = pack_bytes(&storage.files());
                    let outcome = prune(&repository, &options);
                    deleted += outcome.deleted_packs;
                    let after = pack_bytes(&storage.files());
                    assert_eq!(outcome.deleted_packs, plan.dead_packs + plan.rewritten_packs, "{context}");
                    assert_eq!(before - outcome.deleted_bytes + outcome.written_bytes, after, "{context}");
                    assert_eq!(outcome.waiting_packs + outcome.damaged_packs, 0, "{context}");
                    assert_whole(&repository, &kept, &context);
                    assert!(!storage.files().keys().any(|name| name.starts_with("gc/") || name.starts_with("trash/")));
                    if max_rewrite.is_none() {
                        let again = prune(&repository, &options);
                        assert_eq!(
                            (again.deleted_packs, again.written_bytes),
                            (0, 0),
                            "{context}: nothing is left to do"
                        );
                    }
                }
            }
        }
        // The parked runs end with the next snapshots.
        for which in [0, 1] {
            let folder = phones[which].folder();
            kept.push((back_up(&repository, &kept, SERIES[which], &folder, DAYS).unwrap(), folder));
        }
        prune(&repository, &PruneOptions { max_unused: 0.0, ..PruneOptions::default() });
        assert_whole(&repository, &kept, "at the end");
        let (is, fresh) = (pack_bytes(&storage.files()), bytes_of_fresh(&kept));
        assert!(is as f64 <= fresh as f64 * 1.1, "seed {seed}: {is} bytes for {fresh}");
    }
    assert!(deleted > 50, "too little was deleted to be of interest: {deleted}");
}

#[test]
fn what_is_moved_of_the_newest_snapshot_comes_together() {
    let storage = Arc::new(MemoryStorage::default());
    let (repository, _) = Repository::create(storage.clone(), None, &OPTIONS).unwrap();
    let folder_where = |is_there: fn(u64) -> bool| {
        folder_of((0..300).filter(|n| is_there(n % 3)).map(|n| (format!("{n:03}"), noise(n, 8_000), 0)))
    };
    // Every pack holds something that is forgotten, something that is old, and something that is in the newest, too.
    let whole = back_up(&repository, &Kept::new(), SERIES[0], &folder_where(|_| true), 1).unwrap();
    let mut kept = Kept::new();
    for (time, folder) in [(2, folder_where(|third| third != 0)), (3, folder_where(|third| third == 1))] {
        kept.push((back_up(&repository, &kept, SERIES[1], &folder, time).unwrap(), folder));
    }
    repository.forget(&[whole]).unwrap();
    prune(&repository, &thorough());
    assert_whole(&repository, &kept, "pruned");
    let files = storage.files().clone();
    let is_read = |pack: &&String| {
        let mut without = files.clone();
        without.remove(*pack);
        read_whole(&open(&storage_of(&without)), &kept[1].0).is_err()
    };
    let packs = packs(&files);
    let (all, read) = (packs.len(), packs.iter().filter(is_read).count());
    // It takes half of them.
    assert!(read <= all * 3 / 4 && all > 25, "the newest lies in {read} packs of {all}");
}

#[test]
fn a_prune_tells_how_far_it_is_with_what_it_moves() {
    let story = Story::new(&OPTIONS);
    let events = Mutex::new(Vec::new());
    let disk = storage_of(&story.after_forgetting());
    let outcome = open(&disk).prune(&thorough(), &|progress| {
        events.lock().unwrap().push(progress);
        go_on(progress)
    });
    assert!(outcome.unwrap().written_bytes > 0);
    let events = events.into_inner().unwrap();
    assert_eq!(events[0].files_total, story.kept.len() as u64, "trees are walked first");
    let is_moved = |progress: &&Progress| progress.bytes_done > 0;
    let (first, last) = (events.iter().find(is_moved).unwrap(), events.iter().rfind(is_moved).unwrap());
    assert_eq!(last.files_done, last.files_total, "{last:?}");
    assert!(first.files_done < last.files_done && first.bytes_done < last.bytes_done, "{first:?}, {last:?}");
}
