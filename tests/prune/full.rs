//! Room where there is none: a prune on a full disk.

use std::{
    collections::BTreeSet,
    io,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use super::{cut_off::Cuts, *};
use crate::support::faulty_storage::{Fault, FaultyStorage};

const RESERVE: &str = "reserve";

/// A disk of so many bytes.
struct Quota {
    disk: MemoryStorage,
    bytes: AtomicU64,
    /// Whether it says how many are free.
    tells: bool,
    /// How many sessions were begun.
    sessions: AtomicUsize,
    /// How often there was no room for what was to be written.
    refused: AtomicUsize,
}

impl Quota {
    fn new(files: &Files, free: u64) -> Arc<Quota> {
        Quota::of(files, free, true)
    }

    fn that_tells_nothing(files: &Files, free: u64) -> Arc<Quota> {
        Quota::of(files, free, false)
    }

    fn of(files: &Files, free: u64, tells: bool) -> Arc<Quota> {
        let disk = MemoryStorage::default();
        *disk.files() = files.clone();
        let quota = Quota {
            disk,
            bytes: AtomicU64::new(0),
            tells,
            sessions: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        };
        quota.leave_free(free);
        Arc::new(quota)
    }

    fn used(&self) -> u64 {
        self.disk.files().values().map(|bytes| bytes.len() as u64).sum()
    }

    /// Makes the disk as large as leaves so much.
    fn leave_free(&self, bytes: u64) {
        self.bytes.store(self.used() + bytes, Relaxed);
    }

    fn files(&self) -> Files {
        self.disk.files().clone()
    }
}

impl Storage for Quota {
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        // What is replaced is there until what replaces it is.
        if self.used() + content.len() as u64 > self.bytes.load(Relaxed) {
            self.refused.fetch_add(1, Relaxed);
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.sessions.fetch_add(usize::from(name.starts_with("sessions/")), Relaxed);
        self.disk.put(name, content)
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.disk.read(name, offset, len)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        self.disk.list(folder)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.disk.delete(name)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        Ok(self.tells.then(|| self.bytes.load(Relaxed).saturating_sub(self.used())))
    }
}

/// A phone whose every pack is half of a snapshot that is forgotten, and half of one that is kept.
fn halves() -> (Files, Kept) {
    let storage = Arc::new(MemoryStorage::default());
    let (repository, _) = Repository::create(storage.clone(), None, &OPTIONS).unwrap();
    let mut phone = Phone { files: BTreeMap::new() };
    for n in 0..60 {
        phone.files.insert(format!("{n:02}"), (noise(n, 8_000), 0));
    }
    let whole = back_up(&repository, &Kept::new(), SERIES[0], &phone.folder(), 1).unwrap();
    phone.files.retain(|name, _| name.as_bytes()[1].is_multiple_of(2));
    let kept = vec![(back_up(&repository, &Kept::new(), SERIES[1], &phone.folder(), 2).unwrap(), phone.folder())];
    repository.forget(&[whole]).unwrap();
    let files = storage.files().clone();
    (files, kept)
}

#[test]
fn on_a_disk_that_is_full_from_any_write_on_nothing_is_lost() {
    let cuts = Cuts::new(false);
    let mut done = 0;
    for from in 0..cuts.changes {
        let disk = Arc::new(FaultyStorage::new(&cuts.story.files, Fault::Full { from }));
        match cuts.run(disk.clone()) {
            Err(error) => assert!(error.is_full(), "from {from}: {error}"),
            Ok(_) => done += 1,
        }
        let files = disk.files();
        assert!(!files.keys().any(|name| name.starts_with("sessions/")), "from {from}: a session is left");
        cuts.verify(&files, &BTreeSet::new(), &format!("full from {from}"));
    }
    assert!(done > 0 && done < cuts.changes, "{done} prunes of {} needed no room", cuts.changes);
}

#[test]
fn a_full_repository_becomes_one_with_room_by_giving_up_its_reserve() {
    let story = Story::new(&OPTIONS);
    assert!(story.files.contains_key(RESERVE), "a backup leaves one");
    let disk = Quota::new(&story.files, 0);
    let repository = open(&disk);
    let mut folder = story.kept[0].1.clone();
    folder.extend(folder_of([("more".to_owned(), noise(500, 50_000), 9)]));
    let backup = |kept: &Kept| back_up(&repository, kept, &story.kept[0].0.record.series, &folder, 9);
    assert!(backup(&story.kept).is_err_and(|error| error.is_full()), "a backup leaves the reserve alone");
    assert!(disk.files() == story.files, "what was not written leaves nothing");
    repository.forget(&snapshots_of(&story.forgotten)).unwrap();

    let without = disk.files().into_iter().filter(|(name, _)| name != RESERVE).collect();
    let refused = open(&Quota::new(&without, 0)).prune(&thorough(), &go_on).unwrap_err();
    assert!(refused.is_full(), "there is nothing to give up: {refused}");

    let outcome = repository.prune(&thorough(), &go_on).unwrap();
    assert!(outcome.deleted_packs > 0 && outcome.written_bytes > 0, "{outcome:?}");
    assert_whole(&repository, &story.kept, "pruned");
    let mut kept = story.kept.clone();
    kept.push((backup(&kept).unwrap(), folder.clone()));
    assert_whole(&repository, &kept, "backed up");
    disk.leave_free(1 << 20);
    prune(&repository, &thorough());
    assert!(disk.files().contains_key(RESERVE), "it is there again");
}

#[test]
fn what_there_is_no_room_to_write_anew_at_once_is_written_in_rounds() {
    let (files, kept) = halves();
    let alone = storage_of(&files);
    prune(&open(&alone), &thorough());
    let undisturbed = pack_bytes(&alone.files());
    let mut rounds = Vec::new();
    // The reserve is the last room that there is.
    for free in [1 << 20, 200_000, 100_000, 40_000, 30_000, 20_000, 15_000, 10_000, 5_000, 0] {
        let disk = Quota::new(&files, free);
        let repository = open(&disk);
        prune(&repository, &thorough());
        assert_whole(&repository, &kept, &format!("{free} bytes free"));
        rounds.push(disk.sessions.load(Relaxed));
        // Nothing is tried for which there is no room, where there is room for the least that is written at a time.
        assert!(disk.refused.load(Relaxed) == 0 || free < 30_000, "{free} bytes free");
        let left = pack_bytes(&disk.files());
        assert!(left <= undisturbed + undisturbed / 10, "{free} bytes free: {left} are left, not {undisturbed}");
    }
    assert_eq!(rounds[0], 1, "there is room for all of it");
    assert!(rounds[2] > 1, "{rounds:?}");
}

/// What nobody needs goes first; where that is nothing, the reserve is the room.
#[test]
fn on_a_disk_that_does_not_tell_how_full_it_is_what_there_was_no_room_for_is_moved_when_there_is() {
    let story = Story::new(&OPTIONS);
    for (files, kept) in [(story.after_forgetting(), story.kept), halves()] {
        let alone = storage_of(&files);
        let expected = prune(&open(&alone), &thorough());
        let undisturbed = pack_bytes(&alone.files());
        assert!(expected.written_bytes > 20_000, "what is moved finds room on any disk: {expected:?}");
        for free in [20_000, 5_000, 0] {
            let disk = Quota::that_tells_nothing(&files, free);
            let repository = open(&disk);
            let outcome = prune(&repository, &thorough());
            let context = format!("{free} bytes free: {outcome:?}");
            assert!(outcome.damaged_packs + outcome.waiting_packs == 0, "{context}");
            assert_whole(&repository, &kept, &context);
            let left = pack_bytes(&disk.files());
            assert!(left <= undisturbed + undisturbed / 10, "{context}: {left} are left, not {undisturbed}");
            // Without any room it gives up the reserve before it begins.
            assert!(free == 0 || disk.sessions.load(Relaxed) > 1, "{context}: there was room at once");
        }
    }
}
