//! What is left when a run is cut off anywhere.
//!
//! A run makes two snapshots of a phone, the second as an edit of the first. It is cut off at every change that it makes to the disk, in
//! several ways. Then: is every snapshot that was committed whole, does a check find nothing but the file that was torn, and does
//! the next run store only what is missing?

use std::{collections::BTreeSet, sync::Arc};

use heirloom_store::{
    Depth, Details, Error, LocalStorage, MemoryStorage, Options, Repository, Result, Snapshot, Source, Storage, Unlock,
};

use crate::support::{
    Files, check_all,
    faulty_storage::{Fault, FaultyStorage, Torn, Unsynced},
    folder::{Folder, Thing, folder_of, read_whole},
    noise, place, storage_of,
};

const SERIES: &str = "00008101-001A2B3C4D5E6F78";
const OPTIONS: Options = Options { cipher: heirloom_store::Cipher::Aes256Gcm, pack_bytes: 64 << 10 };

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
        let (mut base, mut before) = (None, &Folder::new());
        for (time, folder) in (1..).zip(&self.generations) {
            let mut editor = repository.edit(SERIES, base.as_ref())?;
            before.keys().filter(|path| !folder.contains_key(*path)).for_each(|gone| editor.remove(&place(gone)));
            for (path, thing) in folder.iter().filter(|(path, thing)| before.get(*path) != Some(thing)) {
                let Thing::File(file) = thing else { continue };
                editor.write_file(&place(path), file.mtime_ns, &mut file.bytes.as_slice())?;
                // A phone that reads back makes the editor write a segment in the middle of the run.
                if path == "db/history.db" {
                    editor.read_file(&place(path), &mut Vec::new())?;
                }
            }
            let (snapshot, _) = editor.commit(Details::new(time, Source::Import))?;
            committed.push(snapshot.clone());
            (base, before) = (Some(snapshot), folder);
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

    /// Asks everything of what a cut left, and gives what the next run made of it.
    fn verify(&self, wreck: &Wreck, context: &str) {
        self.verify_snapshots(&wreck.files, &wreck.committed, context);
        let chunks_left = self.verify_check(wreck, &wreck.files, context);
        let disk = Arc::new(FaultyStorage::new(&wreck.files, Fault::None));
        let mut committed = wreck.committed.clone();
        self.run(disk.clone(), &mut committed).unwrap_or_else(|error| panic!("{context}: the next run fails: {error}"));
        self.verify_snapshots(&disk.files(), &committed, context);
        assert_eq!(self.verify_check(wreck, &disk.files(), context), self.chunks, "{context}: chunks are stored twice");
        if chunks_left == self.chunks {
            assert_eq!(disk.pack_bytes_put(), 0, "{context}: all packs were there");
        }
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
        let lasting = |name: &&str| ["packs/", "index/", "snapshots/"].iter().any(|folder| name.starts_with(folder));
        let torn: BTreeSet<&str> = wreck.torn.iter().map(String::as_str).filter(lasting).collect();
        assert_eq!(found, torn, "{context}: {:?}", report.problems);
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
    for at in 0..story.changes + 3 {
        for torn in Torn::ALL {
            let (disk, committed) = story.stopped_run(&story.empty, at, torn);
            let wreck = Wreck { files: disk.files(), torn: disk.torn_file().into_iter().collect(), committed };
            story.verify(&wreck, &format!("stopped at {at}, {torn:?}"));
        }
    }
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
            Ok(()) => assert!(!disk.has_stopped(), "from {from}: a file that was not written was not missed"),
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
    editor.write_file(&place("a"), 0, &mut b"hello".as_slice()).unwrap();
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
    for left in ["config", "packs/", "index/", "snapshots/"] {
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
