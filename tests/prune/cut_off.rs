//! What is left of a forget and a prune that are cut off anywhere, and what the next prune makes of it.

use std::collections::BTreeSet;

use super::*;
use crate::support::faulty_storage::{Fault, FaultyStorage, Torn, Unsynced};

/// A [`Story`], and what is left when its prune is not disturbed.
pub(super) struct Cuts {
    pub(super) story: Story,
    pub(super) changes: usize,
    parity: bool,
    chunks: u64,
    bytes: u64,
}

impl Cuts {
    pub(super) fn new(parity: bool) -> Cuts {
        let story = Story::new(&Options { parity, ..OPTIONS });
        let mut cuts = Cuts { story, changes: 0, parity, chunks: 0, bytes: 0 };
        let disk = Arc::new(FaultyStorage::new(&cuts.story.files, Fault::None));
        let outcome = cuts.run(disk.clone()).unwrap();
        let written = disk.pack_bytes_put();
        assert!(outcome.deleted_packs > 2 && written > 0 && outcome.trash == 2, "too little happens: {outcome:?}");
        let repository = open(&disk);
        cuts.changes = disk.changes();
        cuts.chunks = check_all(&repository, Depth::ReadData).unwrap().chunks;
        cuts.bytes = pack_bytes(&disk.files());
        assert_whole(&repository, &cuts.story.kept, "not disturbed");
        cuts
    }

    /// Forgets what is not forgotten yet, and prunes.
    pub(super) fn run(&self, storage: Arc<dyn Storage>) -> Result<PruneOutcome> {
        let repository = Repository::open(storage, Unlock::Open, None)?;
        let mut listed = repository.snapshots()?.snapshots;
        listed.retain(|snapshot| self.story.forgotten.iter().any(|(forgotten, _)| forgotten == snapshot));
        repository.forget(&listed)?;
        repository.prune(&thorough(), &go_on)
    }

    fn stopped_run(&self, files: &Files, at: usize, torn: Torn) -> Arc<FaultyStorage> {
        let disk = Arc::new(FaultyStorage::new(files, Fault::Stop { at, torn }));
        let outcome = self.run(disk.clone());
        // Nobody waits for the end of the session, and nobody needs the reserve.
        let is_done = !disk.files().keys().any(|name| name.starts_with("gc/") || name.starts_with("trash/"));
        assert!(outcome.is_err() || !disk.has_stopped() || is_done, "at {at}: a lost change was not noticed");
        disk
    }

    /// Asks everything of what a cut left, and of what the next prune makes of it.
    pub(super) fn verify(&self, files: &Files, torn: &BTreeSet<String>, context: &str) {
        let storage = storage_of(files);
        let repository = open(&storage);
        end_sessions(&repository);
        self.verify_whole(&repository, files, torn, self.parity, context);

        let outcome = self.run(storage.clone()).unwrap_or_else(|error| panic!("{context}: the next fails: {error}"));
        assert_eq!(outcome.waiting_packs + outcome.damaged_packs, 0, "{context}: {outcome:?}");
        let mut files = storage.files().clone();
        let chunks = self.verify_whole(&repository, &files, torn, false, context);
        assert_eq!(chunks, self.chunks, "{context}: chunks are left that nothing needs");
        assert_eq!(repository.snapshots().unwrap().snapshots.len(), self.story.kept.len(), "{context}");
        files.retain(|name, _| !torn.contains(name));
        self.verify_clean(&files, context);
    }

    /// Nothing is left but what is needed.
    fn verify_clean(&self, files: &Files, context: &str) {
        let is_transient =
            |name: &&String| ["gc/", "trash/", "sessions/", "tmp/"].iter().any(|of| name.starts_with(of));
        let left: Vec<&String> = files.keys().filter(is_transient).collect();
        assert!(left.is_empty(), "{context}: {left:?} are left");
        // How many packs the same chunks make is not the same each time, and each is padded.
        let bytes = pack_bytes(files);
        assert!(bytes <= self.bytes + self.bytes / 10, "{context}: {bytes} bytes are left, not {}", self.bytes);
        let name_of = |name: &String| name.rsplit('/').next().unwrap().to_owned();
        let in_folders = |folders: &[&str]| -> BTreeSet<String> {
            files.keys().filter(|name| folders.iter().any(|folder| name.starts_with(folder))).map(name_of).collect()
        };
        let protected = if self.parity { in_folders(&["packs/", "trees/"]) } else { BTreeSet::new() };
        assert_eq!(in_folders(&["parity/"]), protected, "{context}: a sidecar for each");
        assert_eq!(in_folders(&["spares/"]), in_folders(&["snapshots/"]), "{context}: a spare for each");
    }

    /// All that is kept, and of what is forgotten what is still listed, is whole; a check finds what is torn, and nothing else unless sidecars
    /// may be missing. Gives the number of chunks.
    fn verify_whole(
        &self,
        repository: &Repository,
        files: &Files,
        torn: &BTreeSet<String>,
        sidecars_may_miss: bool,
        context: &str,
    ) -> u64 {
        let list = repository.snapshots().unwrap();
        assert_eq!(list.problems, [], "{context}");
        for (snapshot, _) in &self.story.kept {
            assert!(list.snapshots.contains(snapshot), "{context}: a snapshot that is kept is lost");
        }
        for snapshot in &list.snapshots {
            let mut all = self.story.kept.iter().chain(&self.story.forgotten);
            let (_, folder) = all.find(|(known, _)| known == snapshot).expect("no other was made");
            let read = read_whole(repository, snapshot).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(read == *folder, "{context}: other files came out");
        }
        let report = check_all(repository, Depth::ReadData).unwrap();
        assert_eq!(report.affected, [], "{context}");
        let mut found: BTreeSet<String> = report.problems.into_iter().map(|problem| problem.file).collect();
        found.retain(|file| !sidecars_may_miss || !file.starts_with("parity/"));
        let lasting = |name: &&String| ["packs/", "trees/", "index/", "gc/"].iter().any(|of| name.starts_with(of));
        let there = |name: &&String| files.contains_key(*name);
        assert_eq!(found, torn.iter().filter(there).filter(lasting).cloned().collect(), "{context}");
        report.chunks
    }
}

#[test]
fn a_prune_that_stops_anywhere_loses_nothing_and_the_next_leaves_no_more_than_one_that_was_not_disturbed() {
    for parity in [false, true] {
        let cuts = Cuts::new(parity);
        for at in 0..cuts.changes + 2 {
            // Sidecars double the changes, and are torn like others.
            let ways = if parity { &Torn::ALL[at % 4..][..1] } else { &Torn::ALL[..] };
            for &torn in ways {
                let disk = cuts.stopped_run(&cuts.story.files, at, torn);
                let torn_file = disk.torn_file().into_iter().collect();
                cuts.verify(&disk.files(), &torn_file, &format!("parity {parity}, stopped at {at}, {torn:?}"));
            }
        }
    }
}

#[test]
fn a_power_cut_anywhere_in_a_prune_loses_nothing() {
    let cuts = Cuts::new(false);
    for at in 0..cuts.changes + 2 {
        let disk = cuts.stopped_run(&cuts.story.files, at, Torn::Nothing);
        let mut dice = Dice(at as u64);
        let mut mixture = || [Unsynced::Kept, Unsynced::Lost, Unsynced::Emptied][dice.roll(3) as usize];
        let lefts = [
            disk.after_power_cut(|| Unsynced::Lost),
            disk.after_power_cut(|| Unsynced::Emptied),
            disk.after_power_cut(&mut mixture),
            disk.after_power_cut(&mut mixture),
        ];
        for (fate, (files, emptied)) in ["lost", "emptied", "mixed", "mixed again"].iter().zip(lefts) {
            cuts.verify(&files, &emptied, &format!("power cut at {at}, {fate}"));
        }
    }
}

#[test]
fn the_prune_after_a_cut_may_be_cut_off_too() {
    let cuts = Cuts::new(false);
    for first in (0..cuts.changes).step_by(2) {
        let torn = Torn::ALL[first / 2 % 4];
        let disk = cuts.stopped_run(&cuts.story.files, first, torn);
        let storage = storage_of(&disk.files());
        let repository = open(&storage);
        end_sessions(&repository);
        let files = storage.files().clone();
        for second in (first / 2 % 6..cuts.changes).step_by(6) {
            let torn_second = Torn::ALL[(first + second) % 4];
            let disk_second = Arc::new(FaultyStorage::new(&files, Fault::Stop { at: second, torn: torn_second }));
            let _ = cuts.run(disk_second.clone());
            let torn_files = disk.torn_file().into_iter().chain(disk_second.torn_file()).collect();
            let context = format!("stopped at {first}, {torn:?}, then at {second}, {torn_second:?}");
            cuts.verify(&disk_second.files(), &torn_files, &context);
        }
    }
}
