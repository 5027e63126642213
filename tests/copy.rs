//! What is copied to another repository is the same there, is sent once, and survives whatever happens on the way.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path, sync::Arc};

use heirloom_sim::{Options as PhoneOptions, Phone, Simulator};
use heirloom_store::{
    Copied, Copier, CopyProgress, Depth, Details, Entry, Error, Kind, MemoryStorage, Name, Outcome, Prefix,
    PruneOptions, RepairOptions, Repository, Result, Snapshot, Source, Unlock, repair,
};
use proptest::prelude::*;
use serde_json::Value;

use crate::{
    roundtrip::{OPTIONS, SERIES, assert_is, runs, take},
    support::{
        self, Files,
        beside::{Moments, beside},
        check_all,
        faulty_storage::{Fault, FaultyStorage, Torn},
        folder::{Folder, Thing, exported, folder_at, folder_of, read_whole},
        is_pack, make_small, noise, place,
        program::{Home, PASSWORD, Said, SmallBackup, assert_same, only_child},
        storage_of,
    },
};

fn new_repository() -> (Arc<MemoryStorage>, Repository) {
    let storage = Arc::new(MemoryStorage::default());
    let (repository, _) = Repository::create(storage.clone(), None, &OPTIONS).unwrap();
    (storage, repository)
}

fn open(files: &Files) -> Repository {
    open_in(&storage_of(files))
}

fn open_in(storage: &Arc<MemoryStorage>) -> Repository {
    Repository::open(storage.clone(), Unlock::Open, None).unwrap()
}

fn go_on(_: CopyProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Copies everything that `is_wanted`, and gives what became of it by the id in the source.
fn copy_those(
    source: &Repository,
    target: &Repository,
    mut is_wanted: impl FnMut(&Snapshot) -> bool,
) -> Result<Vec<(Snapshot, Copied)>> {
    let mut copier = Copier::new(source, target)?;
    let mut done = Vec::new();
    for snapshot in copier.snapshots().into_iter().filter(|snapshot| is_wanted(snapshot)) {
        let copied = copier.copy(&snapshot, &mut go_on)?;
        done.push((snapshot, copied));
    }
    Ok(done)
}

fn copy_all(source: &Repository, target: &Repository) -> Result<Vec<(Snapshot, Copied)>> {
    copy_those(source, target, |_| true)
}

/// Whether everything of `source` is in `target`, so that a copy writes nothing.
fn assert_sends_nothing(source: &Repository, target: &Repository) {
    let copier = Copier::new(source, target).unwrap();
    copier.snapshots().iter().for_each(|snapshot| assert!(copier.copy_of(snapshot).is_some(), "{snapshot:?}"));
    let copies = copy_all(source, target).unwrap();
    assert!(copies.iter().all(|(_, copied)| copied.stats.outcome == Outcome::Unchanged && copied.lost_count == 0));
}

fn assert_whole(repository: &Repository) {
    assert_eq!(check_all(repository, Depth::ReadData).unwrap().problems, []);
}

// ---- what comes out ----------------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Some snapshots are copied before the others, so that copies have predecessors, earlier ones, later ones, or none.
    #[test]
    fn every_copy_is_what_the_folder_was_and_is_sent_once(runs in runs(), first in any::<u8>(), detour in any::<u8>()) {
        let (_, source) = new_repository();
        let taken = take(&source, &runs);
        let (storage, target) = new_repository();
        let (_, between) = new_repository();
        let among = |mask: u8| move |snapshot: &Snapshot| mask >> snapshot.record.time & 1 == 1;
        copy_those(&source, &target, among(first)).unwrap();
        copy_those(&source, &between, among(detour)).unwrap();
        copy_all(&between, &target).unwrap();
        copy_all(&source, &target).unwrap();

        let list = target.snapshots().unwrap().snapshots;
        prop_assert_eq!(list.len(), taken.len());
        for (copy, (original, model)) in list.iter().zip(&taken) {
            assert_is(&target, copy, model);
            prop_assert_eq!(&copy.record.origin, &Some(format!("{}/{}", source.id(), original.id)));
            prop_assert_eq!(copy.record.time, original.record.time);
        }
        assert_whole(&target);
        let before = storage.files().clone();
        for (from, to) in [(&source, &target), (&target, &source), (&between, &target), (&between, &source)] {
            assert_sends_nothing(from, to);
        }
        prop_assert!(*storage.files() == before);
    }
}

/// Snapshots of a phone, and what is in each.
struct Story {
    source: Repository,
    storage: Arc<MemoryStorage>,
    /// By time, which begins at 1.
    folders: Vec<Folder>,
}

const GENERATIONS: u64 = 5;
/// Chunks that change a little from day to day.
const DATABASE_BLOCKS: usize = 6;

impl Story {
    fn new() -> Story {
        let (storage, source) = new_repository();
        let mut story = Story { source, storage, folders: Vec::new() };
        let mut database = [b"SQLite format 3\0".as_slice(), &noise(100, (DATABASE_BLOCKS << 16) - 16)].concat();
        let mut files: Vec<(String, Vec<u8>, i64)> =
            (0..20).map(|n| (format!("small/{n:02}"), noise(n, 900 + 40 * n as usize), n as i64)).collect();
        files.push(("empty".into(), Vec::new(), 2));
        files.push(("notes".into(), noise(101, 90_000), 3));
        for day in 1..=GENERATIONS {
            let block = day as usize % DATABASE_BLOCKS;
            database[(block << 16) + 5000] ^= day as u8;
            database[70_000] ^= 1;
            files.retain(|(path, ..)| !path.ends_with(&format!("{day:02}")) && path != "db/history.db");
            files.push((format!("new/{day}"), noise(200 + day, 3000), day as i64));
            files.push(("db/history.db".into(), database.clone(), day as i64));
            story.take(day, folder_of(files.iter().cloned()));
        }
        story
    }

    fn take(&mut self, day: u64, folder: Folder) {
        let newest = self.source.snapshots().unwrap().newest_of(SERIES).cloned();
        let mut editor = self.source.edit(SERIES, newest.as_ref()).unwrap();
        let (nothing, before) = (Folder::new(), self.folders.last());
        let before = before.unwrap_or(&nothing);
        before.keys().filter(|path| !folder.contains_key(*path)).for_each(|gone| editor.remove(&place(gone)));
        for (path, thing) in folder.iter().filter(|(path, thing)| before.get(*path) != Some(thing)) {
            let Thing::File(file) = thing else { continue };
            editor.write_file(&place(path), None, file.mtime_ns, &mut file.bytes.as_slice()).unwrap();
        }
        let mut naming = editor.name_files().unwrap();
        for path in folder.keys().filter(|path| path.starts_with("small/")) {
            naming
                .describe(&Name::new("HomeDomain", path).unwrap(), Some(&place(path)), Entry::new(Kind::File))
                .unwrap();
        }
        let details = Details {
            encrypted: day == 2,
            device: BTreeMap::from([("name".to_owned(), "Maria’s iPhone".to_owned())]),
            warnings: vec!["a warning".to_owned()],
            warning_count: 300,
            ..Details::new(day as i64, Source::Device)
        };
        naming.commit(details).unwrap();
        self.folders.push(folder);
    }

    fn assert_has(&self, target: &Repository, snapshot: &Snapshot, context: &str) {
        let folder = read_whole(target, snapshot).unwrap_or_else(|error| panic!("{context}: {error}"));
        let files = |folder: &Folder| {
            let files = folder.iter().filter(|(_, thing)| matches!(thing, Thing::File(_)));
            files.map(|(path, thing)| (path.clone(), thing.clone())).collect::<Folder>()
        };
        assert!(files(&folder) == files(&self.folders[snapshot.record.time as usize - 1]), "{context}: other files");
    }
}

#[test]
fn a_copy_costs_what_the_original_does_and_reads_what_is_new() {
    let story = Story::new();
    let (_, target) = new_repository();
    let mut copier = Copier::new(&story.source, &target).unwrap();
    let mut read = Vec::new();
    for snapshot in copier.snapshots() {
        let mut last = CopyProgress::default();
        let copied = copier.copy(&snapshot, &mut |now| {
            assert!(now.read_bytes >= last.read_bytes && now.passed.bytes_done <= now.passed.bytes_total);
            last = now;
            ControlFlow::Continue(())
        });
        let copied = copied.unwrap();
        assert_eq!((last.passed.files_done, last.passed.bytes_done), (snapshot.record.files, snapshot.record.bytes));
        let (one, other) = (&snapshot.record, &copied.snapshot.record);
        assert_eq!(
            (one.time, one.source, one.encrypted, one.sealed),
            (other.time, other.source, other.encrypted, other.sealed)
        );
        assert_eq!(
            (&one.device, &one.warnings, one.warning_count),
            (&other.device, &other.warnings, other.warning_count)
        );
        assert_eq!((one.files, one.bytes, other.lost_files), (other.files, other.bytes, 0));
        assert!(
            other.added_bytes as f64 <= one.added_bytes as f64 * 1.05,
            "{} became {}",
            one.added_bytes,
            other.added_bytes
        );
        read.push(last.read_bytes);
        story.assert_has(&target, &copied.snapshot, "a copy");
    }
    let of_a_day = (DATABASE_BLOCKS << 16) as u64 + 3000;
    assert!(read[0] > of_a_day && read[1..].iter().all(|&bytes| bytes == of_a_day), "{read:?}");
    assert_whole(&target);
}

#[test]
fn what_the_other_repository_took_in_by_itself_is_not_copied_again() {
    let (one, other) = (Story::new(), Story::new());
    let copies = copy_all(&one.source, &other.source).unwrap();
    assert!(copies.iter().all(|(_, copied)| copied.stats.outcome == Outcome::Unchanged));
    assert_eq!(other.source.snapshots().unwrap().snapshots.len(), GENERATIONS as usize);
    // Into a clone, which has the same id and keys.
    let clone = open(&one.storage.files().clone());
    assert_sends_nothing(&one.source, &clone);
    let mut one = one;
    one.take(GENERATIONS + 1, one.folders[0].clone());
    let copies = copy_all(&one.source, &clone).unwrap();
    assert_eq!(copies.iter().filter(|(_, copied)| copied.stats.outcome == Outcome::New).count(), 1);
    one.assert_has(&clone, &copies.last().unwrap().1.snapshot, "a clone");
    assert_sends_nothing(&clone, &one.source);
}

// ---- what happens on the way -------------------------------------------------------------------------------------------------

/// A copy of `story` to a disk that may fail.
fn copy_to(story: &Story, disk: &Arc<FaultyStorage>) -> Result<()> {
    let target = Repository::open(disk.clone(), Unlock::Open, None)?;
    copy_all(&story.source, &target).map(drop)
}

/// Whether all that is there is exact, and the next copy makes it complete and stores nothing twice.
fn verify_cut(story: &Story, files: &Files, chunks: u64, context: &str) {
    for snapshot in &open(files).snapshots().unwrap().snapshots {
        story.assert_has(&open(files), snapshot, context);
    }
    let chunks_left = check_all(&open(files), Depth::ReadData).unwrap().chunks;
    let disk = Arc::new(FaultyStorage::new(files, Fault::None));
    copy_to(story, &disk).unwrap_or_else(|error| panic!("{context}: the next copy fails: {error}"));
    let target = open(&disk.files());
    let list = target.snapshots().unwrap().snapshots;
    assert_eq!(list.len(), GENERATIONS as usize, "{context}");
    list.iter().for_each(|snapshot| story.assert_has(&target, snapshot, context));
    assert_eq!(check_all(&target, Depth::ReadData).unwrap().chunks, chunks, "{context}: chunks are stored twice");
    if chunks_left == chunks {
        assert_eq!(disk.pack_bytes_put(), 0, "{context}: all packs were there");
    }
}

/// An empty repository, and what an undisturbed copy makes of it: chunks and changes.
fn undisturbed(story: &Story) -> (Files, u64, usize) {
    let empty = new_repository().0.files().clone();
    let disk = Arc::new(FaultyStorage::new(&empty, Fault::None));
    copy_to(story, &disk).unwrap();
    let chunks = check_all(&open(&disk.files()), Depth::ReadData).unwrap().chunks;
    assert!(disk.changes() > 40 && chunks > 40, "too little happens to be of interest");
    (empty, chunks, disk.changes())
}

#[test]
fn a_copy_that_is_cut_off_anywhere_goes_on_and_stores_nothing_twice() {
    let story = Story::new();
    let (empty, chunks, changes) = undisturbed(&story);
    for at in 0..changes {
        let torn = Torn::ALL[at % Torn::ALL.len()];
        let disk = Arc::new(FaultyStorage::new(&empty, Fault::Stop { at, torn }));
        let copied = copy_to(&story, &disk);
        assert!(copied.is_err() || !disk.misses_any(), "at {at}: a lost change was not noticed");
        verify_cut(&story, &disk.files(), chunks, &format!("stopped at {at}, {torn:?}"));
    }
}

#[test]
fn a_full_disk_is_told_as_such() {
    let story = Story::new();
    let (empty, chunks, changes) = undisturbed(&story);
    for from in 0..changes {
        let disk = Arc::new(FaultyStorage::new(&empty, Fault::Full { from }));
        match copy_to(&story, &disk) {
            Err(error) => assert!(error.is_full(), "from {from}: {error}"),
            Ok(()) => assert!(!disk.misses_any(), "from {from}: a file that was not written was not missed"),
        }
        verify_cut(&story, &disk.files(), chunks, &format!("full from {from}"));
    }
}

#[test]
fn a_source_that_goes_away_is_no_source_of_holes() {
    let story = Story::new();
    let disk = Arc::new(FaultyStorage::new(&story.storage.files().clone(), Fault::Stop { at: 0, torn: Torn::Nothing }));
    let source = Repository::open(disk, Unlock::Open, None).unwrap();
    let (_, target) = new_repository();
    let mut copier = Copier::new(&source, &target).unwrap();
    let first = &copier.snapshots()[0];
    // The first change stops the disk.
    let _ = source.write(SERIES);
    assert!(matches!(copier.copy(first, &mut go_on), Err(Error::Storage { .. })));
    assert_eq!(target.snapshots().unwrap().snapshots, []);
}

#[test]
fn what_is_pruned_while_it_is_to_be_copied_leaves_no_copy_with_holes() {
    let story = Story::new();
    let (_, target) = new_repository();
    let mut copier = Copier::new(&story.source, &target).unwrap();
    let pruner = Repository::open(story.storage.clone(), Unlock::Open, None).unwrap();
    let all = pruner.snapshots().unwrap().snapshots;
    let (last, others) = all.split_last().unwrap();
    pruner.forget(others).unwrap();
    pruner.prune(&PruneOptions { max_unused: 0.0, ..PruneOptions::default() }, &|_| ControlFlow::Continue(())).unwrap();
    let mut gone = 0;
    for snapshot in copier.snapshots() {
        match copier.copy(&snapshot, &mut go_on) {
            Ok(copied) => assert_eq!(copied.lost_count, 0),
            Err(Error::SnapshotGone { id }) => gone += u32::from(id == snapshot.id && id != last.id),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(gone > 0, "all of it was there still");
    assert!(target.snapshots().unwrap().snapshots.iter().all(|copy| copy.record.lost_files == 0));
}

#[test]
fn what_is_backed_up_while_the_rest_is_copied_is_copied_or_left_for_the_next_time() {
    let (storage, source) = new_repository();
    make_small(&source).unwrap();
    let files = storage.files().clone();
    let mut copied_too = 0;
    for at in 0.. {
        let disk = storage_of(&files);
        let (_, target) = new_repository();
        let other = open_in(&disk);
        let more = move || {
            let mut editor = other.edit(SERIES, None).unwrap();
            editor.write_file(&place("more"), None, 0, &mut noise(7, 50_000).as_slice()).unwrap();
            editor.commit(Details::new(4, Source::Import)).unwrap();
        };
        let copy = |source: &Repository| copy_all(source, &target);
        let (copies, came) = beside(&disk, Moments::Reads, at, copy, more);
        let copies = copies.unwrap_or_else(|error| panic!("before read {at}: {error}"));
        assert!(copies.iter().all(|(_, copied)| copied.lost_count == 0), "before read {at}");
        copied_too += copies.len() - 1;
        assert_whole(&target);
        if came.is_none() {
            break;
        }
    }
    assert!(copied_too > 0, "nothing came before the list of snapshots");
}

#[test]
fn a_copy_that_is_interrupted_says_so() {
    let story = Story::new();
    let (_, target) = new_repository();
    let mut copier = Copier::new(&story.source, &target).unwrap();
    let first = &copier.snapshots()[0];
    for times in [0, 1, 30] {
        let mut left = times;
        let stop = copier.copy(first, &mut |_| {
            left -= 1;
            if left < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(stop, Err(Error::Interrupted)), "after {times}");
    }
    assert_eq!(target.snapshots().unwrap().snapshots, []);
}

// ---- damage ------------------------------------------------------------------------------------------------------------------

#[test]
fn what_is_whole_of_a_damaged_source_is_copied_and_the_rest_when_it_is_whole() {
    let story = Story::new();
    let whole = story.storage.files().clone();
    let mut holes = 0;
    for pack in whole.keys().filter(|name| is_pack(name)) {
        let mut damaged = whole.clone();
        let at = damaged[pack].len() / 2;
        damaged.get_mut(pack).unwrap()[at.min(300)] ^= 1;
        holes += u32::from(verify_damage(&story, &whole, &damaged, pack));
        damaged.remove(pack);
        holes += u32::from(verify_damage(&story, &whole, &damaged, pack));
    }
    assert!(holes > 10, "only {holes} damages left holes");
}

/// Gives whether copies lack anything.
fn verify_damage(story: &Story, whole: &Files, damaged: &Files, context: &str) -> bool {
    let source = open(damaged);
    let (storage, target) = new_repository();
    let mut copier = Copier::new(&source, &target).unwrap();
    let mut unreadable = 0;
    for snapshot in copier.snapshots() {
        let copied = match copier.copy(&snapshot, &mut go_on) {
            Ok(copied) => copied,
            Err(error) => {
                assert!(error.is_damage(), "{context}: {error}");
                unreadable += 1;
                continue;
            }
        };
        assert_eq!(copied.lost_count, copied.snapshot.record.lost_files, "{context}");
        assert_eq!(copied.lost.len() as u64, copied.lost_count.min(100), "{context}");
        let warnings = &copied.snapshot.record.warnings;
        assert!(copied.lost.iter().all(|lost| warnings.contains(lost)), "{context}: a loss is not recorded");
        assert_eq!(copied.snapshot.record.warning_count, 300 + copied.lost_count, "{context}");
        assert_eq!(copier.copy_of(&snapshot).is_some(), copied.lost_count == 0, "{context}");
        // What an export of the damaged one gives is there, and nothing else.
        let (readable, there) = (exported(&source, &snapshot), exported(&target, &copied.snapshot));
        assert_eq!(there.1.problems, [], "{context}");
        assert!(only_files(&readable.0) == only_files(&there.0), "{context}: other files");
    }
    assert_whole(&target);
    let lacking = target.snapshots().unwrap().snapshots.iter().filter(|copy| copy.record.lost_files > 0).count();

    // It is damaged still: nothing changes.
    let before = target.snapshots().unwrap().snapshots;
    let mut copier = Copier::new(&source, &target).unwrap();
    for snapshot in copier.snapshots() {
        let _ = copier.copy(&snapshot, &mut go_on);
    }
    assert_eq!(target.snapshots().unwrap().snapshots, before, "{context}");

    // It is whole again.
    let mended = open(whole);
    let copies = copy_all(&mended, &target).unwrap();
    let renewed = copies.iter().filter(|(_, copied)| copied.stats.outcome == Outcome::New).count();
    assert_eq!(renewed, lacking + unreadable, "{context}");
    let list = target.snapshots().unwrap().snapshots;
    assert_eq!(list.len(), GENERATIONS as usize, "{context}");
    for copy in &list {
        story.assert_has(&target, copy, context);
        assert_eq!((copy.record.lost_files, copy.record.warning_count), (0, 300), "{context}");
    }
    let retired = storage.files().keys().filter(|name| name.starts_with("trash/")).count();
    assert_eq!(retired, lacking, "{context}");
    assert_sends_nothing(&mended, &target);
    lacking + unreadable > 0
}

fn only_files(folder: &Folder) -> Folder {
    let files = folder.iter().filter(|(_, thing)| matches!(thing, Thing::File(_)));
    files.map(|(path, thing)| (path.clone(), thing.clone())).collect()
}

/// What a copy is made on may have been damaged since.
#[test]
fn what_is_damaged_in_the_target_is_sent_again() {
    let story = Story::new();
    let (storage, target) = new_repository();
    // The first holds no deltas, which would be lost with what they were made against.
    copy_those(&story.source, &target, |snapshot| snapshot.record.time == 1).unwrap();
    let files = storage.files().clone();
    for pack in files.keys().filter(|name| is_pack(name)) {
        let mut damaged = files.clone();
        damaged.remove(pack);
        let target = open(&damaged);
        for (original, copied) in copy_all(&story.source, &target).unwrap() {
            assert_eq!(copied.lost_count, 0, "{pack}");
            if original.record.time > 1 {
                story.assert_has(&target, &copied.snapshot, pack);
            }
        }
    }
}

/// A copy with zeros in the place of what was lost is the copy of its snapshot still.
#[test]
fn what_a_repair_has_marked_is_replaced_by_a_whole_copy() {
    let story = Story::new();
    let (storage, target) = new_repository();
    copy_all(&story.source, &target).unwrap();
    let files = storage.files().clone();
    let mut marked = 0;
    for pack in files.keys().filter(|name| is_pack(name)) {
        let mut damaged = files.clone();
        damaged.remove(pack);
        let storage = storage_of(&damaged);
        let options = RepairOptions { mark_lost: true, ..RepairOptions::default() };
        repair(&Repository::open(storage.clone(), Unlock::Open, None).unwrap(), &options, &support::go_on).unwrap();
        let target = Repository::open(storage, Unlock::Open, None).unwrap();
        let lacking = |target: &Repository| {
            let list = target.snapshots().unwrap().snapshots;
            list.iter().filter(|snapshot| snapshot.record.lost_files > 0).count()
        };
        marked += lacking(&target);
        for (_, copied) in copy_all(&story.source, &target).unwrap() {
            story.assert_has(&target, &copied.snapshot, pack);
        }
        assert_eq!((target.snapshots().unwrap().snapshots.len() as u64, lacking(&target)), (GENERATIONS, 0), "{pack}");
        assert_whole(&target);
    }
    assert!(marked > 0);
}

// ---- the program -------------------------------------------------------------------------------------------------------------

#[track_caller]
fn ok(said: Said) -> Said {
    assert_eq!(said.exit, 0, "{said:?}");
    said
}

/// The snapshots of a repository in a home, by device and time.
fn list(home: &Home, repository: &str) -> Vec<Value> {
    let variables = [("HEIRLOOM_REPOSITORY", repository), ("HEIRLOOM_PASSWORD", PASSWORD)];
    let said = ok(home.run_with(&variables, &["--json", "snapshots"]));
    let mut list: Vec<Value> = serde_json::from_str(&said.stdout).unwrap();
    list.sort_by_key(|row| row["udid"].to_string());
    list
}

fn export(home: &Home, repository: &str, snapshot: &Value) -> Folder {
    let variables = [("HEIRLOOM_REPOSITORY", repository), ("HEIRLOOM_PASSWORD", PASSWORD)];
    let to = tempfile::tempdir_in(home.path("")).unwrap();
    let snapshot = snapshot["id"].as_str().unwrap();
    ok(home.run_with(&variables, &["export", snapshot, "--to", to.path().to_str().unwrap()]));
    folder_at(&only_child(to.path()))
}

#[test]
fn what_the_phone_encrypted_is_copied_without_its_password() {
    let options = PhoneOptions { password: Some("of the phone".to_owned()), ..PhoneOptions::default() };
    let simulator = Simulator::start(Phone::new(11, 8_000_000).unwrap(), options).unwrap();
    let home = Home::empty();
    let address = simulator.address();
    let run = |variables: &[(&str, &str)], args: &[&str]| {
        let of_both = [("HEIRLOOM_PASSWORD", PASSWORD), ("HEIRLOOM_TO_PASSWORD", PASSWORD), ("TMPDIR", "/nowhere")];
        home.run_with(&[&of_both[..], variables].concat(), args)
    };
    ok(run(&[], &["init", "--no-verify"]));
    let phone = [("USBMUXD_SOCKET_ADDRESS", address.as_str()), ("HEIRLOOM_BACKUP_PASSWORD", "of the phone")];
    ok(run(&phone, &["pair"]));
    for _ in 0..2 {
        ok(run(&phone, &["backup", "--full"]));
        simulator.live_one_day().unwrap();
    }
    ok(run(&[("HEIRLOOM_REPOSITORY", "second")], &["init", "--no-verify", "--cipher", "chacha20-poly1305"]));
    ok(run(&[], &["copy", "--to", "second"]));
    let (originals, copies) = (list(&home, "repo"), list(&home, "second"));
    assert_eq!(copies.len(), 2);
    for (original, copy) in originals.iter().zip(&copies) {
        for key in ["time", "udid", "device_name", "encrypted", "sealed", "files", "bytes", "source"] {
            assert_eq!(original[key], copy[key], "{key}");
        }
        assert!(copy["sealed"] == true);
        assert_same(&export(&home, "repo", original), &export(&home, "second", copy));
        let (one, other) = (original["added_bytes"].as_f64().unwrap(), copy["added_bytes"].as_f64().unwrap());
        assert!(other <= one * 1.05, "{one} became {other}");
    }
    ok(run(&[("HEIRLOOM_REPOSITORY", "second")], &["check", "--read-data"]));

    ok(run(&[("HEIRLOOM_REPOSITORY", "open")], &["init", "--no-password"]));
    let said = run(&[], &["copy", "--to", "open"]);
    said.assert_failed(1, &["--plain-is-fine"]);
    assert_eq!(list(&home, "open").len(), 0);
    ok(run(&[], &["copy", "--to", "open", "--plain-is-fine"]));
    assert_same(&export(&home, "repo", &originals[1]), &export(&home, "open", &list(&home, "open")[1]));
}

/// A home with two snapshots of two phones in `repo`.
fn home_with_two() -> Home {
    let home = Home::new();
    SmallBackup::default().write(&home.path("one"));
    SmallBackup { udid: "00008030-0000000000000002", device_name: "Ben’s iPad", ..SmallBackup::default() }
        .write(&home.path("two"));
    ok(home.run(&["import", "one", "two"]));
    home
}

#[test]
fn it_says_what_it_does() {
    let home = home_with_two();
    home.run(&["copy", "--to", "second"]).assert_failed(10, &["second", "heirloom --repo second init"]);
    home.run(&["copy", "--to", "repo/../repo"]).assert_failed(2, &["to itself"]);
    home.run(&["copy", "--to", "s3://x"]).assert_failed(2, &["folder"]);
    let with = |variables: &[(&str, &str)], args: &[&str]| home.run_with(variables, args);
    ok(with(&[("HEIRLOOM_REPOSITORY", "second"), ("HEIRLOOM_PASSWORD", PASSWORD)], &["init", "--no-verify"]));
    let copy = ["copy", "--to", "second"];
    with(&[], &copy).assert_failed(12, &["HEIRLOOM_TO_PASSWORD_FILE"]);
    with(&[("HEIRLOOM_TO_PASSWORD", "another")], &copy).assert_failed(12, &["wrong password"]);

    let password = [("HEIRLOOM_TO_PASSWORD_COMMAND", "echo 'correct horse'")];
    let said = ok(with(&password, &["copy", "--to", "second", "--dry-run"]));
    assert!(said.stdout.contains("would copy Maria’s iPhone of 2024-05-03 12:00: 7 files"), "{said:?}");
    assert!(said.stderr.contains("2 of 2 snapshots would be copied"), "{said:?}");
    assert!(list(&home, "second").is_empty());
    let said = ok(with(&password, &["copy", "--to", "second", "--udid", "ben's ipad"]));
    assert!(said.stdout.starts_with("copied Ben’s iPad of 2024-05-03 12:00: ") && said.stdout.lines().count() == 1);
    let said = ok(with(&password, &copy));
    assert!(
        said.stdout.starts_with("copied Maria’s iPhone") && said.stderr.contains("1 copied, 1 there already"),
        "{said:?}"
    );
    let said = ok(with(&password, &["--json", "copy", "ben's ipad", "--to", "second"]));
    let rows: Vec<Value> = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((rows.len(), &rows[0]["outcome"], &rows[0]["lost_files"]), (1, &"known".into(), &0.into()));
    with(&password, &["copy", "nobody", "--to", "second"]).assert_failed(1, &["nobody"]);
    for (one, other) in list(&home, "repo").iter().zip(&list(&home, "second")) {
        assert_same(&export(&home, "repo", one), &export(&home, "second", other));
    }
}

#[test]
fn damage_is_named_and_told_by_the_exit_code() {
    let home = home_with_two();
    ok(home.run_with(&[("HEIRLOOM_REPOSITORY", "second")], &["init", "--no-password"]));
    let copy = ["copy", "--to", "second"];
    let pack = data_packs(&home.path("repo")).remove(0);
    let whole = std::fs::read(&pack).unwrap();
    let mut damaged = whole.clone();
    damaged[80] ^= 1;
    std::fs::write(&pack, &damaged).unwrap();
    let said = home.run(&copy);
    assert_eq!(said.exit, 3, "{said:?}");
    assert!(said.stderr.contains("is damaged where it was copied from: packs/"), "{said:?}");
    assert!(said.stdout.contains(" damaged file"), "{said:?}");
    let said = home.run(&copy);
    assert!(said.exit == 3 && said.stderr.contains("still incomplete"), "{said:?}");
    std::fs::write(&pack, &whole).unwrap();
    ok(home.run(&copy));
    let copies = list(&home, "second");
    assert_eq!(copies.len(), 2);
    for (one, other) in list(&home, "repo").iter().zip(&copies) {
        assert_same(&export(&home, "repo", one), &export(&home, "second", other));
    }
}

fn data_packs(repository: &Path) -> Vec<std::path::PathBuf> {
    let files = folder_at(&repository.join("packs")).into_iter();
    let packs = files.filter(|(_, thing)| matches!(thing, Thing::File(_)));
    packs.map(|(path, _)| repository.join("packs").join(path)).collect()
}

#[test]
fn a_sealed_file_is_the_same_under_its_key() {
    let (_, source) = new_repository();
    let ciphertext = |n: u64| noise(n, 200_000 / 16 * 16);
    let mut writer = source.write(SERIES).unwrap();
    for n in 0..3u64 {
        let name = Name::of_place(&place(&format!("file{n}")));
        let content = writer.store_sealed(None, &mut ciphertext(n).as_slice(), &[n as u8; 32]).unwrap();
        writer.put(&name, &Entry { content: Some(content), ..Entry::new(Kind::File) }).unwrap();
    }
    let (snapshot, _) = writer.commit(Details::new(1, Source::Import)).unwrap();
    let (_, target) = new_repository();
    let copies = copy_all(&source, &target).unwrap();
    let copy = &copies[0].1.snapshot;
    assert!(copy.record.sealed && snapshot.record.bytes == copy.record.bytes);
    let reader = target.read(copy).unwrap();
    for (n, item) in reader.entries(&Prefix::all()).enumerate() {
        let content = item.unwrap().1.content.unwrap();
        let mut bytes = Vec::new();
        reader.read_file(&content, &mut bytes).unwrap();
        assert!(content.is_sealed() && bytes == ciphertext(n as u64));
    }
}
