//! What is left when a run is cut off anywhere.
//!
//! A run makes two snapshots of a phone, the second as an edit of the first that is parked on its way. It is cut off at every change that
//! it makes to the disk, in several ways. Then: is every snapshot that was committed whole, does a check find nothing but the file that
//! was torn, does what was parked go on, and does the next run store only what is missing? And a change of the password, cut off alike: does
//! the old one open the repository, or the new? And what is forgotten and undeleted: is it in one of the two lists?

use std::{collections::BTreeSet, sync::Arc};

use heirloom_store::{
    Depth, Details, Error, LocalStorage, MemoryStorage, Options, Parked, Repository, Result, Snapshot, SnapshotEditor,
    Source, Storage, Unlock,
};

use crate::support::{
    Files, check_all,
    faulty_storage::{Fault, FaultyStorage, Torn, Unsynced},
    folder::{Folder, Thing, folder_of, read_whole},
    noise, place, storage_of,
};

const SERIES: &str = "00008101-001A2B3C4D5E6F78";
const OPTIONS: Options = Options { cipher: heirloom_store::Cipher::Aes256Gcm, pack_bytes: 64 << 10, parity: false };

/// A new repository, the phone that is backed up into it, and what an undisturbed run stores.
struct Story {
    empty: Files,
    generations: [Folder; 2],
    chunks: u64,
    changes: usize,
}

/// Files as a cut left them.
struct Wreck {
    files: Files,
    /// Files that are there, but not whole.
    torn: BTreeSet<String>,
    /// What was reported as committed.
    committed: Vec<Snapshot>,
}

impl Story {
    fn new() -> Story {
        let storage = Arc::new(MemoryStorage::default());
        Repository::create(storage.clone(), None, &OPTIONS).unwrap();
        let mut story = Story { empty: storage.files().clone(), generations: generations(), chunks: 0, changes: 0 };
        let disk = Arc::new(FaultyStorage::new(&story.empty, Fault::None));
        story.run(disk.clone(), &mut Vec::new()).unwrap();
        story.changes = disk.changes();
        let repository = Repository::open(storage_of(&disk.files()), Unlock::Open, None).unwrap();
        story.chunks = check_all(&repository, Depth::ReadData).unwrap().chunks;
        assert!(story.changes > 15 && story.chunks > 20, "too little happens to be of interest");
        story
    }

    /// Backs up both generations, and notes what was committed when it is.
    fn run(&self, storage: Arc<dyn Storage>, committed: &mut Vec<Snapshot>) -> Result<()> {
        let repository = Repository::open(storage, Unlock::Open, None)?;
        let mut editor = repository.edit(SERIES, None)?;
        self.write(&mut editor, 0)?;
        committed.push(editor.commit(Details::new(1, Source::Import))?.0);
        let mut editor = repository.edit(SERIES, committed.last())?;
        editor.write_file(&place("small/99"), None, 0, &mut noise(103, 20_000).as_slice())?;
        let parked = editor.park()?;
        assert_eq!(repository.parked(SERIES)?.as_ref(), Some(&parked));
        committed.push(self.resume(&repository, &parked)?);
        Ok(())
    }

    /// Makes the second generation of what was parked.
    fn resume(&self, repository: &Repository, parked: &Parked) -> Result<Snapshot> {
        let mut editor = repository.resume(parked)?;
        self.write(&mut editor, 1)?;
        Ok(editor.commit(Details::new(2, Source::Import))?.0)
    }

    /// Writes what is new in a generation.
    fn write(&self, editor: &mut SnapshotEditor, generation: usize) -> Result<()> {
        let (nothing, folder) = (Folder::new(), &self.generations[generation]);
        let before = generation.checked_sub(1).map_or(&nothing, |before| &self.generations[before]);
        before.keys().filter(|path| !folder.contains_key(*path)).for_each(|gone| editor.remove(&place(gone)));
        for (path, thing) in folder.iter().filter(|(path, thing)| before.get(*path) != Some(thing)) {
            let Thing::File(file) = thing else { continue };
            editor.write_file(&place(path), None, file.mtime_ns, &mut file.bytes.as_slice())?;
            // A phone that reads back makes the editor write a segment in the middle of the run.
            if path == "db/history.db" {
                editor.read_file(&place(path), &mut Vec::new())?;
            }
        }
        Ok(())
    }

    /// The run on `files`, stopped at change `at`.
    fn stopped_run(&self, files: &Files, at: usize, torn: Torn) -> (Arc<FaultyStorage>, Vec<Snapshot>) {
        let disk = Arc::new(FaultyStorage::new(files, Fault::Stop { at, torn }));
        let mut committed = Vec::new();
        let outcome = self.run(disk.clone(), &mut committed);
        // The very last change ends the session, and nobody waits for it.
        assert!(
            outcome.is_err() || !disk.has_stopped() || committed.len() == 2,
            "at {at}: a lost change was not noticed"
        );
        (disk, committed)
    }

    /// Asks everything of what a cut left, and of what the next run makes of it; gives whether something was parked.
    fn verify(&self, wreck: &Wreck, context: &str) -> bool {
        self.verify_snapshots(&wreck.files, &wreck.committed, context);
        let chunks_left = self.verify_check(wreck, &wreck.files, context);
        let is_parked = self.verify_parked(wreck, context);
        let disk = Arc::new(FaultyStorage::new(&wreck.files, Fault::None));
        let mut committed = wreck.committed.clone();
        self.run(disk.clone(), &mut committed).unwrap_or_else(|error| panic!("{context}: the next run fails: {error}"));
        self.verify_snapshots(&disk.files(), &committed, context);
        assert!(!disk.files().keys().any(|name| name.starts_with("parked/")), "{context}: something is still parked");
        assert_eq!(self.verify_check(wreck, &disk.files(), context), self.chunks, "{context}: chunks are stored twice");
        if chunks_left == self.chunks {
            assert_eq!(disk.pack_bytes_put(), 0, "{context}: all packs were there");
        }
        is_parked
    }

    /// Whether what is parked, if anything, goes on.
    fn verify_parked(&self, wreck: &Wreck, context: &str) -> bool {
        let storage = storage_of(&wreck.files);
        let repository = Repository::open(storage.clone(), Unlock::Open, None).unwrap();
        let Some(parked) = repository.parked(SERIES).unwrap() else { return false };
        let list = repository.snapshots().unwrap();
        assert_eq!(parked.record.previous, list.newest_of(SERIES).map(|snapshot| snapshot.id), "{context}");
        let resumed = self.resume(&repository, &parked).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(resumed.record.previous, parked.record.previous, "{context}");
        let files = storage.files().clone();
        self.verify_snapshots(&files, &[&wreck.committed[..], &[resumed]].concat(), context);
        true
    }

    /// Whether every snapshot in the list is whole, and all of `committed` are in it.
    fn verify_snapshots(&self, files: &Files, committed: &[Snapshot], context: &str) {
        let repository = Repository::open(storage_of(files), Unlock::Open, None).unwrap();
        let list = repository.snapshots().unwrap();
        for snapshot in committed {
            assert!(list.snapshots.contains(snapshot), "{context}: a committed snapshot is lost");
        }
        for snapshot in &list.snapshots {
            let folder = read_whole(&repository, snapshot).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(folder == self.generations[snapshot.record.time as usize - 1], "{context}: other files came out");
        }
    }

    /// Whether a check finds what is torn and nothing else; gives the number of chunks in whole packs.
    fn verify_check(&self, wreck: &Wreck, files: &Files, context: &str) -> u64 {
        let repository = Repository::open(storage_of(files), Unlock::Open, None).unwrap();
        let report = check_all(&repository, Depth::ReadData).unwrap();
        let found: BTreeSet<&str> = report.problems.iter().map(|problem| problem.file.as_str()).collect();
        // Nothing depends on sessions and on what lies in `tmp/`.
        let folders = ["packs/", "trees/", "index/", "snapshots/", "spares/"];
        let lasting = |name: &&str| folders.iter().any(|folder| name.starts_with(folder));
        // What is parked is gone as soon as there is a snapshot.
        let parked = |name: &&str| name.starts_with("parked/") && files.contains_key(*name);
        let torn = wreck.torn.iter().map(String::as_str).filter(|name| lasting(name) || parked(name));
        let torn: BTreeSet<&str> = torn.collect();
        assert_eq!(found, torn, "{context}: {:?}", report.problems);
        assert_eq!(report.affected, [], "{context}");
        report.chunks
    }
}

/// A phone's folder, and the same a day later.
fn generations() -> [Folder; 2] {
    let small =
        |n: u64| (format!("small/{n:02}"), noise(n, 900 + 40 * n as usize), 1_600_000_000_000_000_000 + n as i64);
    let mut database = [b"SQLite format 3\0".as_slice(), &noise(100, (192 << 10) - 16)].concat();
    let mut files: Vec<(String, Vec<u8>, i64)> = (0..20).map(small).collect();
    files.push(("db/history.db".into(), database.clone(), 1));
    files.push(("empty".into(), Vec::new(), 2));
    files.push(("notes".into(), noise(101, 90_000), 3));
    let first = folder_of(files.iter().cloned());
    database[70_000] ^= 1;
    files.retain(|(path, ..)| path != "small/07");
    files.push(("db/history.db".into(), database, 4));
    files.push(("small/99".into(), noise(102, 70_000), 5));
    [first, folder_of(files)]
}

#[test]
fn a_run_that_stops_anywhere_loses_nothing_that_was_committed() {
    let story = Story::new();
    let mut parked = 0;
    for at in 0..story.changes + 3 {
        for torn in Torn::ALL {
            let (disk, committed) = story.stopped_run(&story.empty, at, torn);
            let wreck = Wreck { files: disk.files(), torn: disk.torn_file().into_iter().collect(), committed };
            parked += u32::from(story.verify(&wreck, &format!("stopped at {at}, {torn:?}")));
        }
    }
    assert!(parked > 10, "only {parked} cuts left something parked");
}

#[test]
fn a_power_cut_anywhere_loses_nothing_that_was_committed() {
    let story = Story::new();
    for at in 0..story.changes + 3 {
        let (disk, committed) = story.stopped_run(&story.empty, at, Torn::Nothing);
        for fates in fates_of_the_unsynced(at as u64) {
            let mut fate = fates.iter().cycle();
            let (files, torn) = disk.after_power_cut(|| *fate.next().expect("a cycle does not end"));
            let wreck = Wreck { files, torn, committed: committed.clone() };
            story.verify(&wreck, &format!("power cut at {at}, {fates:?}"));
        }
    }
}

/// All lost, all emptied, and some of both in two ways.
fn fates_of_the_unsynced(seed: u64) -> [Vec<Unsynced>; 4] {
    let any = |seed| {
        let fates = noise(seed, 13).into_iter().map(|byte| match byte % 3 {
            0 => Unsynced::Kept,
            1 => Unsynced::Lost,
            _ => Unsynced::Emptied,
        });
        fates.collect()
    };
    [vec![Unsynced::Lost], vec![Unsynced::Emptied], any(2 * seed), any(2 * seed + 1)]
}

#[test]
fn the_run_after_a_crash_may_crash_too() {
    let story = Story::new();
    for first in 0..story.changes {
        let torn = Torn::ALL[first % 3];
        let (disk, committed) = story.stopped_run(&story.empty, first, torn);
        let (files, torn_first) = (disk.files(), disk.torn_file());
        for second in (first % 5..story.changes).step_by(5) {
            let torn_second = Torn::ALL[(first + second) % 3];
            let (disk, committed_second) = story.stopped_run(&files, second, torn_second);
            let wreck = Wreck {
                files: disk.files(),
                torn: torn_first.iter().cloned().chain(disk.torn_file()).collect(),
                committed: committed.iter().cloned().chain(committed_second).collect(),
            };
            story.verify(&wreck, &format!("stopped at {first}, {torn:?}, then at {second}, {torn_second:?}"));
        }
    }
}

#[test]
fn a_full_disk_is_told_as_such_and_the_run_succeeds_when_there_is_room() {
    let story = Story::new();
    for from in 0..story.changes {
        let disk = Arc::new(FaultyStorage::new(&story.empty, Fault::Full { from }));
        let mut committed = Vec::new();
        match story.run(disk.clone(), &mut committed) {
            Err(error) => assert!(error.is_full(), "from {from}: {error}"),
            Ok(()) => assert!(!disk.misses_any(), "from {from}: a file that was not written was not missed"),
        }
        let files = disk.files();
        assert!(!files.keys().any(|name| name.starts_with("sessions/")), "from {from}: a session is left");
        story.verify(
            &Wreck { files, torn: BTreeSet::new(), committed: committed.clone() },
            &format!("full from {from}"),
        );
        disk.mend();
        story.run(disk.clone(), &mut committed).unwrap();
        story.verify_snapshots(&disk.files(), &committed, &format!("full from {from}, then mended"));
    }
}

#[test]
fn a_repository_whose_creation_stops_anywhere_can_be_created_again_or_opened() {
    let passwords_and_ways = [(None, &Torn::ALL[..]), (Some("correct horse"), &[Torn::HalfOfIt][..])];
    for (password, ways) in passwords_and_ways {
        let unlock = password.map_or(Unlock::Open, Unlock::Password);
        for (at, &torn) in (0..8).flat_map(|at| ways.iter().map(move |torn| (at, torn))) {
            let disk = Arc::new(FaultyStorage::new(&Files::new(), Fault::Stop { at, torn }));
            let created = Repository::create(disk.clone(), password, &OPTIONS).is_ok();
            assert_eq!(created, !disk.has_stopped());
            verify_created(disk.files(), password, unlock, &format!("stopped at {at}, {torn:?}"));
            let (files, _) = disk.after_power_cut(|| Unsynced::Lost);
            assert!(!created || files == disk.files(), "what was created is durable");
            verify_created(files, password, unlock, &format!("power cut at {at}"));
        }
    }
}

fn verify_created(files: Files, password: Option<&str>, unlock: Unlock, context: &str) {
    let storage = storage_of(&files);
    let torn_config = match Repository::create(storage.clone(), password, &OPTIONS) {
        Ok(_) => None,
        Err(Error::Exists) => Some("config").filter(|_| !storage.files()["config"].ends_with(b"\n")),
        Err(error) => panic!("{context}: {error}"),
    };
    let repository = Repository::open(storage, unlock, None).unwrap_or_else(|error| panic!("{context}: {error}"));
    let problems: Vec<&str> = repository.problems().iter().map(|problem| problem.file.as_str()).collect();
    assert_eq!(problems, torn_config.into_iter().collect::<Vec<_>>(), "{context}");
    let mut editor = repository.edit(SERIES, None).unwrap();
    editor.write_file(&place("a"), None, 0, &mut b"hello".as_slice()).unwrap();
    let (snapshot, _) = editor.commit(Details::new(1, Source::Import)).unwrap();
    assert_eq!(
        read_whole(&repository, &snapshot).unwrap(),
        folder_of([("a".to_owned(), b"hello".to_vec(), 0)]),
        "{context}"
    );
}

#[test]
fn nothing_is_created_over_what_is_left_of_a_repository() {
    let story = Story::new();
    let whole = Arc::new(FaultyStorage::new(&story.empty, Fault::None));
    story.run(whole.clone(), &mut Vec::new()).unwrap();
    for left in ["config", "packs/", "trees/", "index/", "snapshots/"] {
        let dir = tempfile::tempdir().unwrap();
        let local = Arc::new(LocalStorage::new(dir.path()));
        for (name, content) in
            whole.files().iter().filter(|(name, _)| name.starts_with(left) || name.starts_with("keys/"))
        {
            local.put(name, content).unwrap();
        }
        let before = local.list("").unwrap().len();
        assert!(Repository::create(local.clone(), None, &OPTIONS).is_err(), "{left} and keys are left");
        assert_eq!(local.list("").unwrap().len(), before, "{left}: something was deleted or written");
    }
}

/// From a repository that everybody can read, whose slot is quick to try.
#[test]
fn a_password_change_that_is_cut_off_leaves_one_that_opens() {
    let storage = Arc::new(MemoryStorage::default());
    Repository::create(storage.clone(), None, &OPTIONS).unwrap();
    let files = storage.files().clone();
    let change = |fault| {
        let disk = Arc::new(FaultyStorage::new(&files, fault));
        let changed = Repository::open(disk.clone(), Unlock::Open, None).unwrap().change_password("new");
        (disk, changed.is_ok())
    };
    let opens = |files: &Files, unlock| Repository::open(storage_of(files), unlock, None).is_ok();
    let (disk, _) = change(Fault::None);
    assert!(!opens(&disk.files(), Unlock::Open) && opens(&disk.files(), Unlock::Password("new")));
    for (at, torn) in (0..disk.changes()).flat_map(|at| Torn::ALL.map(|torn| (at, torn))) {
        let (disk, is_changed) = change(Fault::Stop { at, torn });
        assert!(!is_changed, "{at} {torn:?}");
        let cuts = [Unsynced::Kept, Unsynced::Lost, Unsynced::Emptied].map(|fate| disk.after_power_cut(|| fate).0);
        for left in cuts.iter().chain([&disk.files()]) {
            assert!(opens(left, Unlock::Open) || opens(left, Unlock::Password("new")), "{at} {torn:?}");
        }
    }
}

#[test]
fn a_password_change_on_a_full_disk_changes_nothing() {
    let storage = Arc::new(MemoryStorage::default());
    Repository::create(storage.clone(), None, &OPTIONS).unwrap();
    let files = storage.files().clone();
    for from in 0..2 {
        let disk = Arc::new(FaultyStorage::new(&files, Fault::Full { from }));
        let repository = Repository::open(disk.clone(), Unlock::Open, None).unwrap();
        let error = repository.change_password("new").unwrap_err();
        assert!(error.is_full(), "{error}");
        assert!(disk.files() == files, "after {from} of two copies");
    }
}

/// Both snapshots are forgotten, one is undeleted, the other pinned in the end.
#[test]
fn what_is_forgotten_or_undeleted_as_a_run_is_cut_off_is_in_one_of_two_lists() {
    let story = Story::new();
    let whole = Arc::new(FaultyStorage::new(&story.empty, Fault::None));
    let mut snapshots = Vec::new();
    story.run(whole.clone(), &mut snapshots).unwrap();
    let files = whole.files();
    let change = |fault| {
        let disk = Arc::new(FaultyStorage::new(&files, fault));
        let repository = Repository::open(disk.clone(), Unlock::Open, None).unwrap();
        let mut done = Vec::new();
        let changed = (|| -> Result<()> {
            repository.forget(&snapshots)?;
            done.push("forgotten");
            repository.undelete(&snapshots[0])?;
            done.push("undeleted");
            repository.pin(&snapshots[0].id)?;
            done.push("pinned");
            Ok(())
        })();
        (disk, changed.is_ok(), done)
    };
    let look = |files: &Files, done: &[&str], context: &str| {
        let repository = Repository::open(storage_of(files), Unlock::Open, None).unwrap();
        let [listed, trash] = [repository.snapshots().unwrap(), repository.trash().unwrap()];
        assert!(listed.problems.is_empty() && trash.problems.is_empty(), "{context}");
        let mut all: Vec<Snapshot> = listed.snapshots.iter().chain(&trash.snapshots).cloned().collect();
        all.sort_by_key(|snapshot| snapshot.record.time);
        assert_eq!(all, snapshots, "{context}");
        match done.last() {
            // What comes next may have begun.
            None => {}
            Some(&"forgotten") => assert!(trash.snapshots.contains(&snapshots[1]), "{context}"),
            Some(_) => assert_eq!(listed.snapshots, &snapshots[..1], "{context}"),
        }
        assert!(!done.contains(&"pinned") || repository.pins().unwrap().contains(&snapshots[0].id), "{context}");
        for snapshot in &listed.snapshots {
            read_whole(&repository, snapshot).unwrap();
        }
    };
    let (disk, is_changed, done) = change(Fault::None);
    assert!(is_changed && disk.changes() >= 9, "{}", disk.changes());
    look(&disk.after_power_cut(|| Unsynced::Lost).0, &done, "not cut off");
    for (at, torn) in (0..disk.changes()).flat_map(|at| Torn::ALL.map(|torn| (at, torn))) {
        let (disk, is_changed, done) = change(Fault::Stop { at, torn });
        assert!(!is_changed || !disk.has_stopped(), "{at} {torn:?}");
        let cuts = [Unsynced::Kept, Unsynced::Lost, Unsynced::Emptied].map(|fate| disk.after_power_cut(|| fate).0);
        for left in cuts.iter().chain([&disk.files()]) {
            look(left, &done, &format!("stopped at {at}, {torn:?}, after {done:?}"));
        }
    }
}
