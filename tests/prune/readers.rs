//! One who only reads while a prune moves what is read.

use std::{
    io,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use heirloom_store::{Error, ExportOptions, Prefix, Result, Stat, TreePath, export};

use super::*;
use crate::support::{
    beside::{Moments, beside},
    folder::{Folder, folder_at, folder_of},
};

/// A disk that notes what it holds after each change.
#[derive(Default)]
struct Recorder {
    disk: MemoryStorage,
    states: Mutex<Vec<Files>>,
}

impl Recorder {
    fn note(&self) -> io::Result<()> {
        self.states.lock().unwrap().push(self.disk.files().clone());
        Ok(())
    }
}

impl Storage for Recorder {
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.disk.put(name, content).and_then(|()| self.note())
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.disk.read(name, offset, len)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        self.disk.list(folder)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.disk.delete(name).and_then(|()| self.note())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk that goes on to the next of what others make of it with every so many operations, and takes no changes.
struct Replay {
    states: Vec<Files>,
    pace: usize,
    operations: AtomicUsize,
    disk: MemoryStorage,
}

impl Replay {
    fn new(states: &[Files], pace: usize) -> Arc<Replay> {
        let disk = MemoryStorage::default();
        *disk.files() = states[0].clone();
        Arc::new(Replay { states: states.to_vec(), pace, operations: AtomicUsize::new(0), disk })
    }

    fn go_on(&self) {
        let operation = self.operations.fetch_add(1, Relaxed);
        if operation.is_multiple_of(self.pace) {
            let state = (operation / self.pace).min(self.states.len() - 1);
            *self.disk.files() = self.states[state].clone();
        }
    }

    /// What is left of the prune happens now.
    fn end(&self) {
        self.operations.store(self.pace * self.states.len(), Relaxed);
    }
}

impl Storage for Replay {
    fn put(&self, name: &str, _: &[u8]) -> io::Result<()> {
        panic!("one who reads writes {name}")
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.go_on();
        self.disk.read(name, offset, len)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        self.go_on();
        self.disk.list(folder)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        panic!("one who reads deletes {name}")
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// What the disk holds before and after every change of a prune, and the snapshots that stay.
fn states() -> (Vec<Files>, Kept) {
    let story = Story::new(&OPTIONS);
    let before = story.after_forgetting();
    let recorder = Arc::new(Recorder::default());
    *recorder.disk.files() = before.clone();
    let outcome = prune(&open(&recorder), &thorough());
    assert!(outcome.deleted_packs > 2 && outcome.written_bytes > 0, "{outcome:?}");
    let states = [before].into_iter().chain(recorder.states.lock().unwrap().drain(..)).collect();
    (states, story.kept)
}

const PACES: [usize; 6] = [1, 2, 3, 5, 11, 29];

#[test]
fn a_reader_that_was_there_before_the_prune_goes_on() {
    let (states, kept) = states();
    for (snapshot, folder) in &kept {
        for pace in PACES {
            let disk = Replay::new(&states, pace);
            let repository = open(&disk);
            let read = read_whole(&repository, snapshot).unwrap_or_else(|error| panic!("pace {pace}: {error}"));
            assert!(read == *folder, "pace {pace}: other files came out");
        }
        // All at once, after the reader has read its index.
        let disk = Replay::new(&states, usize::MAX);
        let reader = open(&disk).read(snapshot).unwrap();
        *disk.disk.files() = states.last().unwrap().clone();
        for item in reader.entries(&Prefix::all()) {
            let (_, entry) = item.unwrap();
            entry.content.iter().for_each(|content| reader.read_file(content, &mut Vec::new()).unwrap());
        }
    }
}

#[test]
fn an_export_beside_a_prune_comes_out_exact() {
    let (states, kept) = states();
    for ((snapshot, folder), pace) in kept.iter().flat_map(|kept| PACES.map(|pace| (kept, pace))) {
        let disk = Replay::new(&states, pace);
        let repository = open(&disk);
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("export");
        let reader = repository.read(snapshot).unwrap();
        export(&reader, &target, &ExportOptions::default(), &|progress| {
            if progress.files_done == 5 {
                disk.end();
            }
            go_on(progress)
        })
        .unwrap_or_else(|error| panic!("pace {pace}: {error}"));
        assert!(folder_at(&target) == *folder, "pace {pace}: other files came out");
    }
}

type Read = fn(&Repository, &Snapshot) -> Result<Folder>;

/// At any of its reads the snapshot is forgotten, and pruned.
#[test]
fn one_who_reads_what_is_pruned_meanwhile_hears_that_it_is_gone() {
    let ways: [(&str, Read); 3] = [("export", export_whole), ("names", read_whole), ("places", read_places)];
    let story = Story::new(&OPTIONS);
    let (snapshot, folder) = &story.kept[0];
    for (way, read) in ways {
        let (mut exact, mut gone) = (0, 0);
        for at in (0..).step_by(2) {
            let disk = storage_of(&story.files);
            let (to, of) = (disk.clone(), snapshot.clone());
            let forget = move || {
                open(&to).forget(&[of]).unwrap();
                prune(&open(&to), &thorough());
            };
            let (outcome, came) = beside(&disk, Moments::Reads, at, |repository| read(repository, snapshot), forget);
            match outcome {
                Ok(read) => {
                    assert!(read == *folder, "{way}, before read {at}: other files came out");
                    exact += 1;
                }
                Err(Error::SnapshotGone { id }) => {
                    assert_eq!(id, snapshot.id);
                    gone += 1;
                }
                Err(error) => panic!("{way}, before read {at}: {error}"),
            }
            if came.is_none() {
                break;
            }
        }
        assert!(exact > 0 && gone > 3, "{way}: {exact} came out, {gone} were gone");
    }
}

fn export_whole(repository: &Repository, snapshot: &Snapshot) -> Result<Folder> {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("export");
    let stats = export(&repository.read(snapshot)?, &target, &ExportOptions::default(), &go_on)?;
    assert_eq!(stats.problems, []);
    Ok(folder_at(&target))
}

fn read_places(repository: &Repository, snapshot: &Snapshot) -> Result<Folder> {
    let mut folder = repository.folder(snapshot)?;
    let (mut files, mut dirs) = (Vec::new(), vec![None]);
    while let Some(dir) = dirs.pop() {
        for (name, stat) in folder.list(dir.as_ref()) {
            let place = dir.as_ref().map_or(name.clone(), |dir| format!("{dir}/{name}"));
            let path = TreePath::new(&place).unwrap();
            match stat {
                Stat::Directory => dirs.push(Some(path)),
                Stat::File { mtime_ns, .. } => {
                    let mut bytes = Vec::new();
                    folder.read_file(&path, &mut bytes)?;
                    files.push((place, bytes, mtime_ns));
                }
            }
        }
    }
    Ok(folder_of(files))
}

#[test]
fn a_check_beside_a_prune_finds_no_damage() {
    let (states, _) = states();
    for depth in [Depth::Structure, Depth::ReadData] {
        for pace in PACES {
            let repository = open(&Replay::new(&states, pace));
            let report = check_all(&repository, depth).unwrap();
            assert_eq!(report.problems, [], "{depth:?}, pace {pace}");
            assert_eq!(report.affected, [], "{depth:?}, pace {pace}");
        }
    }
}
