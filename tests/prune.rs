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
mod readers;

use std::{collections::BTreeMap, sync::Arc};

use heirloom_store::{
    Cipher, Depth, Details, MemoryStorage, Options, PruneOptions, PruneOutcome, Repository, Result, Snapshot,
    SnapshotEditor, Source, Storage, Unlock,
};

use crate::support::{
    Files, check_all,
    folder::{Folder, Thing, folder_of, read_whole},
    go_on, noise, place, storage_of,
};

const OPTIONS: Options = Options { cipher: Cipher::Aes256Gcm, pack_bytes: 64 << 10, parity: false };
const SERIES: [&str; 2] = ["00008101-001A2B3C4D5E6F78", "00008030-000A1D0C3E38802E"];
const SEEDS: u64 = 8;
const DAYS: i64 = 25;
const BLOCK: usize = 64 << 10;

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 += 1;
        u64::from_le_bytes(noise(self.0, 8).try_into().unwrap()) % sides
    }
}

/// A phone: a database that changes here and there, small files, and something that both devices have.
#[derive(Clone)]
struct Phone {
    files: BTreeMap<String, (Vec<u8>, i64)>,
}

impl Phone {
    fn new(seed: u64) -> Phone {
        let mut files = BTreeMap::new();
        let database = [b"SQLite format 3\0".as_slice(), &noise(seed, 4 * BLOCK - 16)].concat();
        files.insert("db/sms.db".to_owned(), (database, 0));
        files.insert("shared/film".to_owned(), (noise(7, 150_000), 0));
        for n in 0..12 {
            files.insert(format!("small/{n}"), (noise(seed * 100 + n, 500 + 300 * n as usize), 0));
        }
        Phone { files }
    }

    /// A day of use.
    fn use_it(&mut self, dice: &mut Dice, day: i64) {
        let (database, time) = self.files.get_mut("db/sms.db").unwrap();
        for _ in 0..1 + dice.roll(3) {
            let at = 100 + dice.roll(database.len() as u64 - 200) as usize;
            database[at..at + 40].copy_from_slice(&noise(dice.roll(u64::MAX), 40));
        }
        *time = day;
        for _ in 0..dice.roll(4) {
            let name = format!("small/{}", dice.roll(30));
            if dice.roll(3) == 0 {
                self.files.remove(&name);
            } else {
                let len = dice.roll(20_000) as usize;
                self.files.insert(name, (noise(dice.roll(1000), len), day));
            }
        }
    }

    fn folder(&self) -> Folder {
        folder_of(self.files.iter().map(|(path, (bytes, time))| (path.clone(), bytes.clone(), *time)))
    }
}

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
        let files = storage.files().clone();
        files
    }
}

fn snapshots_of(kept: &Kept) -> Vec<Snapshot> {
    kept.iter().map(|(snapshot, _)| snapshot.clone()).collect()
}

fn open<S: Storage + 'static>(storage: &Arc<S>) -> Repository {
    Repository::open(storage.clone(), Unlock::Open, None).unwrap()
}

/// A prune that leaves nothing that is not needed.
fn thorough() -> PruneOptions {
    PruneOptions { max_unused: 0.0, ..PruneOptions::default() }
}

fn write(editor: &mut SnapshotEditor, before: &Folder, folder: &Folder) -> Result<()> {
    before.keys().filter(|path| !folder.contains_key(*path)).for_each(|gone| editor.remove(&place(gone)));
    for (path, thing) in folder.iter().filter(|(path, thing)| before.get(*path) != Some(thing)) {
        let Thing::File(file) = thing else { continue };
        editor.write_file(&place(path), None, file.mtime_ns, &mut file.bytes.as_slice())?;
    }
    Ok(())
}

/// What has been backed up, and is not forgotten.
type Kept = Vec<(Snapshot, Folder)>;

fn newest<'k>(kept: &'k Kept, series: &str) -> Option<&'k (Snapshot, Folder)> {
    kept.iter().rev().find(|(snapshot, _)| snapshot.record.series == series)
}

/// Backs up `folder` as what follows the newest snapshot of its series.
fn back_up(repository: &Repository, kept: &Kept, series: &str, folder: &Folder, time: i64) -> Result<Snapshot> {
    let before = newest(kept, series);
    let mut editor = repository.edit(series, before.map(|(snapshot, _)| snapshot))?;
    write(&mut editor, before.map_or(&Folder::new(), |(_, folder)| folder), folder)?;
    Ok(editor.commit(Details::new(time, Source::Device))?.0)
}

fn prune(repository: &Repository, options: &PruneOptions) -> PruneOutcome {
    repository.prune(options, &go_on).unwrap()
}

fn pack_bytes(files: &Files) -> u64 {
    files.iter().filter(|(name, _)| name.starts_with("packs/")).map(|(_, bytes)| bytes.len() as u64).sum()
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
    let bytes = pack_bytes(&storage.files());
    bytes
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
                    let options = PruneOptions { max_unused, max_rewrite, ..PruneOptions::default() };
                    let plan = repository.plan_prune(&options, &go_on).unwrap();
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
