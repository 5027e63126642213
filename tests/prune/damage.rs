//! Damage that a prune meets: it must not make it worse.

use std::collections::BTreeSet;

use heirloom_store::{Prefix, RepairOptions, repair};

use super::*;
use crate::support::disks::BadSectors;

/// The files that can be read, by snapshot.
fn readable(repository: &Repository, kept: &Kept) -> BTreeSet<(i64, String)> {
    let mut all = BTreeSet::new();
    for (snapshot, folder) in kept {
        let Ok(reader) = repository.read(snapshot) else { continue };
        for (name, entry) in reader.entries(&Prefix::all()).map_while(Result::ok) {
            let Some(content) = &entry.content else { continue };
            let (mut bytes, place) = (Vec::new(), entry.place_for(&name).unwrap().to_string());
            if reader.read_file(content, &mut bytes).is_ok() {
                let Some(Thing::File(file)) = folder.get(&place) else { panic!("{place} was never backed up") };
                assert!(*file.bytes == bytes, "{place}: other bytes came out");
                all.insert((snapshot.record.time, place));
            }
        }
    }
    all
}

/// Adds a snapshot that shares nothing with others, and forgets it.
fn and_one_more_that_is_forgotten(files: &Files) -> (Files, Snapshot) {
    let disk = storage_of(files);
    let folder = folder_of((0..20).map(|n| (format!("of its own/{n}"), noise(600 + n, 500), 0)));
    let snapshot = back_up(&open(&disk), &Kept::new(), "another", &folder, 8).unwrap();
    open(&disk).forget(std::slice::from_ref(&snapshot)).unwrap();
    let files = disk.files().clone();
    (files, snapshot)
}

#[test]
fn of_two_copies_the_rotten_one_is_not_kept_alone() {
    let storage = Arc::new(MemoryStorage::default());
    let (repository, _) = Repository::create(storage.clone(), None, &OPTIONS).unwrap();
    let folder = Phone::new(4).folder();
    // Two who do not see each other store the same.
    let mut editors = SERIES.map(|series| repository.edit(series, None).unwrap());
    editors.iter_mut().for_each(|editor| write(editor, &Folder::new(), &folder).unwrap());
    let mut kept = Kept::new();
    for (time, editor) in (0..).zip(editors) {
        kept.push((editor.commit(Details::new(time, Source::Device)).unwrap().0, folder.clone()));
    }
    let whole = storage.files().clone();
    let chunks = check_all(&repository, Depth::ReadData).unwrap().chunks;
    for pack in packs(&whole) {
        let mut files = whole.clone();
        let bytes = files.get_mut(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[100] ^= 1;
        bytes[middle] ^= 1;
        let storage = storage_of(&files);
        let repository = open(&storage);
        prune(&repository, &thorough());
        assert_whole(&repository, &kept, &pack);
        let left = check_all(&repository, Depth::ReadData).unwrap().chunks;
        assert!(left <= chunks / 2 + 2, "{left} of {chunks} chunks are left");
    }
}

#[test]
fn a_prune_that_cannot_tell_what_is_needed_deletes_nothing() {
    let story = Story::new(&OPTIONS);
    let before = story.after_forgetting();
    let record = format!("snapshots/{}", story.kept[0].0.id);
    let damages: [fn(&mut Files, &str); 4] = [
        |files, record| files.get_mut(record).unwrap()[70] ^= 1,
        |files, record| files.get_mut(record).unwrap().clear(),
        |files, record| files.get_mut(record).unwrap().truncate(100),
        |files, record| drop(files.remove(record)),
    ];
    for damage in damages {
        let mut files = before.clone();
        damage(&mut files, &record);
        let storage = storage_of(&files);
        let refused = open(&storage).prune(&thorough(), &go_on).unwrap_err();
        assert!(refused.is_damage() && refused.to_string().contains(&record), "{refused}");
        let mut left = storage.files().clone();
        left.remove("reserve");
        files.remove("reserve");
        assert!(left == files, "something was deleted or written");
    }
}

/// It stays, and hinders nothing.
#[test]
fn a_forgotten_snapshot_that_is_pinned_and_broken_is_left_alone() {
    let story = Story::new(&OPTIONS);
    let storage = storage_of(&story.after_forgetting());
    let pinned = story.forgotten[0].0.id;
    open(&storage).pin(&pinned).unwrap();
    let record = format!("trash/{pinned}");
    storage.files().get_mut(&record).unwrap()[70] ^= 1;
    let outcome = prune(&open(&storage), &thorough());
    assert!(outcome.deleted_packs > 0 && outcome.waiting_packs == 0, "{outcome:?}");
    assert!(storage.files().contains_key(&record));
    let report = check_all(&open(&storage), Depth::ReadData).unwrap();
    assert!(report.problems.iter().all(|problem| problem.file == record) && report.affected.is_empty(), "{report:?}");
}

/// Each pack in turn: of those that hold trees the prune is refused, of those with data it goes on around the damage.
#[test]
fn what_could_be_read_before_can_be_read_after() {
    let story = Story::new(&OPTIONS);
    let before = story.after_forgetting();
    let (mut refused, mut around) = (0, 0);
    for pack in packs(&before) {
        for (from, part) in [(64, 8), (64, 2), (2000, 3)] {
            let mut files = before.clone();
            let bytes = files.get_mut(&pack).unwrap();
            let end = (from + bytes.len() / part).min(bytes.len());
            bytes[from.min(end)..end].iter_mut().for_each(|byte| *byte ^= 0x55);
            let storage = storage_of(&files);
            let could_be = readable(&open(&storage), &story.kept);
            let can_tell = open(&storage).plan_prune(&thorough(), &[], &go_on).is_ok();
            let context = format!("{pack} from {from}, one part of {part}");
            match open(&storage).prune(&thorough(), &go_on) {
                Ok(outcome) => {
                    around += u32::from(outcome.damaged_packs > 0);
                    let is_there = storage.files().contains_key(&pack);
                    assert!(outcome.damaged_packs == 0 || is_there, "{context}: what is damaged stays");
                }
                Err(error) => {
                    assert!(error.is_damage() && !can_tell, "{context}: {error}");
                    refused += 1;
                    assert_eq!(packs(&storage.files()), packs(&before), "{context}: nothing was deleted");
                }
            }
            let can_be = readable(&open(&storage), &story.kept);
            assert!(can_be.is_superset(&could_be), "{context}: {:?} are lost", could_be.difference(&can_be));
        }
    }
    assert!(refused > 0 && around > 0, "{refused} refused, {around} went on around the damage");
}

/// Beside somebody it tells what is not his.
#[test]
fn a_forgotten_tree_that_cannot_be_read_hinders_no_prune_beside_somebody() {
    let story = Story::new(&OPTIONS);
    let before = story.after_forgetting();
    let (files, other) = and_one_more_that_is_forgotten(&before);
    let mut unreadable = 0;
    for pack in packs(&files).into_iter().filter(|pack| !before.contains_key(pack)) {
        let disk = storage_of(&files);
        disk.files().get_mut(&pack).unwrap()[64..].fill(0x55);
        let repository = open(&disk);
        let reader = repository.read(&other);
        let is_read = reader.is_ok_and(|reader| reader.entries(&Prefix::all()).all(|entry| entry.is_ok()));
        unreadable += u32::from(!is_read);
        let _somebody = repository.edit("third", None).unwrap();
        let outcome = prune(&open(&disk), &thorough());
        assert!(outcome.waiting_packs > 0, "{pack}: {outcome:?}");
        for (snapshot, folder) in &story.kept {
            assert!(read_whole(&repository, snapshot).unwrap() == *folder, "{pack}");
        }
    }
    assert!(unreadable > 0, "its tree lies in packs of its own");
}

/// The disk may read it again tomorrow.
#[test]
fn what_the_disk_does_not_read_is_no_damage_and_stays() {
    let story = Story::new(&OPTIONS);
    let shared = story.after_forgetting();
    let (before, _) = and_one_more_that_is_forgotten(&shared);
    let (mut refused, mut refused_for_forgotten) = (0, 0);
    for pack in packs(&before) {
        // Only beside somebody is a forgotten tree read.
        if !shared.contains_key(&pack) {
            let disk = Arc::new(BadSectors::unexplained(&before, &pack));
            let _somebody = open(&disk).edit("third", None).unwrap();
            refused_for_forgotten += u32::from(open(&disk).prune(&thorough(), &go_on).is_err());
        }
        let disk = Arc::new(BadSectors::unexplained(&before, &pack));
        match open(&disk).prune(&thorough(), &go_on) {
            Ok(outcome) => assert_eq!(outcome.damaged_packs, 0, "{pack} was not read"),
            Err(error) => {
                assert!(!error.is_damage(), "{pack}: {error}");
                assert!(disk.files().contains_key(&pack));
                refused += 1;
            }
        }
        let storage = storage_of(&disk.files());
        end_sessions(&open(&storage));
        assert_whole(&open(&storage), &story.kept, &pack);
    }
    assert!(refused > 3 && refused_for_forgotten > 0, "{refused}, {refused_for_forgotten}");
}

/// Of a pack what can be read is moved, and then it stays; so does every other file that is needed.
#[test]
fn a_bad_sector_costs_no_more_than_it_did() {
    let story = Story::new(&OPTIONS);
    let before = story.after_forgetting();
    let (mut refused, mut around) = (0, 0);
    for file in before.keys() {
        let disk = Arc::new(BadSectors::new(&before, file));
        let could_be = readable(&open(&disk), &story.kept);
        match open(&disk).prune(&thorough(), &go_on) {
            Ok(outcome) => around += u32::from(outcome.damaged_packs > 0),
            Err(error) => {
                assert!(error.is_damage(), "{file}: {error}");
                assert_eq!(packs(&disk.files()), packs(&before), "{file}: nothing was deleted");
                refused += 1;
            }
        }
        assert!(readable(&open(&disk), &story.kept).is_superset(&could_be), "{file}");
        // The disk reads it again. A segment then names packs that were pruned meanwhile, until a repair.
        let again = storage_of(&disk.files());
        if file.starts_with("index/") {
            repair(&open(&again), &RepairOptions::default(), &go_on).unwrap();
        }
        assert_whole(&open(&again), &story.kept, file);
    }
    assert!(refused > 0 && around > 0, "{refused} refused, {around} went on around it");
}

/// Its name says other bytes: no segment may call it whole.
#[test]
fn of_packs_that_no_segment_names_a_damaged_one_is_told_and_stays_without() {
    let story = Story::new(&OPTIONS);
    let (mut before, _) = and_one_more_that_is_forgotten(&story.after_forgetting());
    before.retain(|name, _| !name.starts_with("index/"));
    let lavish = PruneOptions { max_unused: 9.0, ..PruneOptions::default() };
    let (mut told, mut gone) = (0, 0);
    for pack in packs(&before) {
        let mut files = before.clone();
        files.get_mut(&pack).unwrap()[100] ^= 1;
        let storage = storage_of(&files);
        let Ok(outcome) = open(&storage).prune(&lavish, &go_on) else { continue };
        if !storage.files().contains_key(&pack) {
            assert_eq!(outcome.damaged_packs, 0, "{pack}: nothing needs it");
            gone += 1;
            continue;
        }
        assert_eq!((outcome.damaged_packs, outcome.written_bytes), (1, 0), "{pack}");
        let problems = check_all(&open(&storage), Depth::Packs).unwrap().problems;
        assert!(problems.iter().all(|problem| problem.file == pack) && !problems.is_empty(), "{pack}: {problems:?}");
        told += 1;
    }
    assert!(told > 3 && gone > 0, "{told} told, {gone} gone");
}
