//! What becomes of a repository on file systems that are not a computer's own: sticks with exFAT or FAT, shares.
//!
//! The store lives through backups, a run that is
//! cut off and a snapshot that is forgotten on disks that allow no more than FAT does, and on a share that answers wrongly and that
//! loses what was written last.

use std::{collections::BTreeSet, sync::Arc};

use heirloom_store::{
    Depth, Details, Error, Options, PruneOptions, Repository, Result, Snapshot, SnapshotEditor, Source, Storage, Unlock,
};

use crate::support::{
    Files, check_all,
    disks::{FatLike, SmbLike},
    folder::{Folder, Thing, folder_of, read_whole},
    go_on, noise, place, storage_of,
};

const SERIES: &str = "00008101-001A2B3C4D5E6F78";
const OPTIONS: Options = Options { cipher: heirloom_store::Cipher::Aes256Gcm, pack_bytes: 64 << 10, parity: true };
/// How many backups of the phone a life has.
const GENERATIONS: u64 = 3;
const PACK_MAX_LEN: usize = 256 << 10;

/// The phone's folder of a day: files that change, one that stays, one that grows.
fn generation(number: u64) -> Folder {
    let small = |n| (format!("small/{n:02}"), noise(100 * (number / 2) + n, 2000 + 40 * n as usize), n as i64);
    let mut files: Vec<(String, Vec<u8>, i64)> = (0..20).map(small).collect();
    files.push(("stays".into(), noise(7, 150_000), 1));
    files.push(("grows".into(), noise(8, 60_000 * (1 + number as usize)), number as i64));
    folder_of(files)
}

fn write(editor: &mut SnapshotEditor, folder: &Folder) -> Result<()> {
    for (path, thing) in folder {
        if let Thing::File(file) = thing {
            editor.write_file(&place(path), None, file.mtime_ns, &mut file.bytes.as_slice())?;
        }
    }
    Ok(())
}

/// Backs up a generation as an edit of the one before, and by way of a parked run if its number is odd.
fn back_up(storage: Arc<dyn Storage>, number: u64) -> Result<Snapshot> {
    let repository = Repository::open(storage, Unlock::Open, None)?;
    let list = repository.snapshots()?;
    let mut editor = repository.edit(SERIES, list.newest_of(SERIES))?;
    if !number.is_multiple_of(2) {
        editor.write_file(&place("cut off"), None, 0, &mut noise(number, 10_000).as_slice())?;
        let parked = editor.park()?;
        editor = repository.resume(&parked)?;
        editor.remove(&place("cut off"));
    }
    write(&mut editor, &generation(number))?;
    Ok(editor.commit(Details::new(number as i64, Source::Import))?.0)
}

/// The snapshots of `days` are there and whole; gives what a check finds.
fn verify(files: &Files, days: impl Iterator<Item = u64>, context: &str) -> BTreeSet<String> {
    let repository = Repository::open(storage_of(files), Unlock::Open, None).unwrap();
    let list = repository.snapshots().unwrap();
    for day in days {
        let snapshot = list.snapshots.iter().rfind(|snapshot| snapshot.record.time == day as i64);
        let snapshot = snapshot.unwrap_or_else(|| panic!("{context}: day {day} is lost"));
        let folder = read_whole(&repository, snapshot).unwrap_or_else(|error| panic!("{context}, day {day}: {error}"));
        assert!(folder == generation(day), "{context}: other files came out of day {day}");
    }
    let problems = check_all(&repository, Depth::ReadData).unwrap().problems;
    problems.into_iter().map(|problem| problem.file).collect()
}

#[test]
fn a_repository_needs_no_more_than_fat_allows() {
    let disk = Arc::new(FatLike::new(PACK_MAX_LEN, 100));
    Repository::create(disk.clone(), None, &OPTIONS).unwrap();
    for number in 0..GENERATIONS {
        back_up(disk.clone(), number).unwrap();
    }
    let repository = Repository::open(disk.clone(), Unlock::Open, None).unwrap();
    let oldest = repository.snapshots().unwrap().snapshots[0].clone();
    repository.forget(std::slice::from_ref(&oldest)).unwrap();
    let files = disk.files();
    assert_eq!(verify(&files, 1..GENERATIONS, "FAT"), BTreeSet::new());
    assert!(files.contains_key(&format!("trash/{}", oldest.id)));
    let pruned = repository.prune(&PruneOptions { max_unused: 0.0, ..PruneOptions::default() }, &go_on).unwrap();
    assert!(pruned.deleted_packs > 0 && pruned.trash == 1, "{pruned:?}");
    assert_eq!(verify(&disk.files(), 1..GENERATIONS, "FAT, pruned"), BTreeSet::new());
    let spellings: BTreeSet<String> = files.keys().map(|name| name.to_lowercase()).collect();
    assert_eq!(spellings.len(), files.len(), "names that differ in case alone");
}

#[test]
fn a_file_that_fat_refuses_is_an_error_that_names_it() {
    let disk: Arc<dyn Storage> = Arc::new(FatLike::new(32 << 10, 100));
    Repository::create(disk.clone(), None, &OPTIONS).unwrap();
    let error = back_up(disk.clone(), 0).unwrap_err();
    let Error::Storage { name, source, .. } = &error else { panic!("{error}") };
    assert!(name.starts_with("packs/"), "{error}");
    assert_eq!(source.kind(), std::io::ErrorKind::FileTooLarge, "{error}");
    let sessions = disk.list("sessions").unwrap();
    assert_eq!(sessions, [], "a session is left");
}

#[test]
fn what_a_share_answers_wrongly_costs_a_run_and_no_more() {
    let empty = {
        let disk = Arc::new(SmbLike::new(&Files::new(), usize::MAX));
        Repository::create(disk.clone(), None, &OPTIONS).unwrap();
        disk.after_cut(usize::MAX).0
    };
    let mut failures = 0;
    for fails_every in [11, 13, 17, 23] {
        let disk = Arc::new(SmbLike::new(&empty, fails_every));
        for number in 0..GENERATIONS {
            while let Err(error) = back_up(disk.clone(), number) {
                failures += 1;
                assert!(failures < 100, "failing every {fails_every}th change: {error}");
                verify(&disk.after_cut(usize::MAX).0, 0..number, &format!("failing every {fails_every}th change"));
            }
        }
        let files = disk.after_cut(usize::MAX).0;
        assert_eq!(verify(&files, 0..GENERATIONS, &format!("failing every {fails_every}th change")), BTreeSet::new());
    }
    assert!(failures > 3, "only {failures} runs met a wrong answer");
}

#[test]
fn what_a_share_lost_is_noticed_and_stored_again_by_the_next_backup() {
    let disk = Arc::new(SmbLike::new(&Files::new(), usize::MAX));
    Repository::create(disk.clone(), None, &OPTIONS).unwrap();
    let mut begun = Vec::new();
    for number in 0..GENERATIONS {
        begun.push(disk.changes() + 1);
        back_up(disk.clone(), number).unwrap();
    }
    for from in begun[1]..=disk.changes() {
        let context = format!("written from {from} on is empty");
        let (files, emptied) = disk.after_cut(from);
        // A share that does not sync promises nothing of what it was given last; what is older stays.
        let kept = begun.iter().filter(|begun| **begun <= from).count() as u64 - 1;
        let lasting: BTreeSet<String> =
            emptied.into_iter().filter(|name| !name.starts_with("sessions/") && !name.starts_with("tmp/")).collect();
        let found = verify(&files, 0..kept, &context);
        let unnoticed: Vec<&String> = lasting.difference(&found).collect();
        assert!(unnoticed.is_empty(), "{context}: {unnoticed:?} are not noticed");
        let storage = storage_of(&files);
        let snapshot = back_up(storage.clone(), kept).unwrap_or_else(|error| panic!("{context}: {error}"));
        let healed = storage.files().clone();
        let repository = Repository::open(storage.clone(), Unlock::Open, None).unwrap();
        assert!(read_whole(&repository, &snapshot).unwrap() == generation(kept), "{context}");
        verify(&healed, 0..=kept, &context);
    }
}
