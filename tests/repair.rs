//! What a repair brings back: every kind of file of a repository × every kind of damage × with parity and without.
//!
//! Whatever was damaged: nothing that could be read before cannot be read after, no byte of the repository is gone from it, what is read is what was stored, and a
//! second repair finds nothing to do. A repair that is cut off anywhere, and done again, comes to the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
};

use heirloom_store::{
    Affected, Cipher, Depth, Details, Entry, Kind, MemoryStorage, Name, Options, Prefix, PruneOptions, RepairOptions,
    RepairReport, RepairStep, Repository, Snapshot, SnapshotId, Source, Storage, Unlock, repair,
};

use crate::support::{
    Files,
    beside::{Moments, beside},
    check_all,
    disks::BadSectors,
    faulty_storage::{Fault, FaultyStorage, Torn},
    folder::exported,
    go_on, make_small, noise, storage_of,
};

const SERIES: &str = "00008101-001A2B3C4D5E6F78";
/// So many that a tree has several nodes.
const DIRECTORIES: usize = 200;
const KEY: [u8; 32] = [7; 32];

/// Names and contents of a backup.
type Backup = BTreeMap<String, Vec<u8>>;

/// A repository with two snapshots, of times 1 and 2.
struct Story {
    files: Files,
    backups: [Backup; 2],
    /// By what they are.
    targets: BTreeMap<&'static str, String>,
}

impl Story {
    fn new(parity: bool) -> Story {
        let storage = Arc::new(MemoryStorage::default());
        let options = Options { cipher: Cipher::Aes256Gcm, pack_bytes: 1 << 20, parity };
        let (repository, _) = Repository::create(storage.clone(), None, &options).unwrap();
        let backups = backups();
        let empty = storage.files().clone();
        back_up(&repository, &backups[0], 1);
        let one = storage.files().clone();
        back_up(&repository, &backups[1], 2);
        let files = storage.files().clone();
        let new = |before: &Files, after: &Files, folder: &str, kind: u8| {
            let is_new = |(name, bytes): &(&String, &Vec<u8>)| {
                name.starts_with(folder) && bytes[9] == kind && !before.contains_key(*name)
            };
            let mut found = after.iter().filter(is_new);
            let name = found.next().unwrap().0.clone();
            assert!(found.next().is_none(), "two files of a kind make the table ambiguous");
            name
        };
        let mut targets = BTreeMap::from([
            ("pack", new(&empty, &one, "packs/", 1)),
            ("pack of deltas", new(&one, &files, "packs/", 1)),
            ("tree pack", new(&one, &files, "trees/", 2)),
            ("segment", new(&empty, &one, "index/", 3)),
            ("snapshot", new(&one, &files, "snapshots/", 4)),
            ("spare", new(&one, &files, "spares/", 4)),
            ("slot", files.keys().find(|name| name.starts_with("keys/")).unwrap().clone()),
            ("config", "config".to_owned()),
        ]);
        if parity {
            targets.insert("sidecar", targets["pack"].replacen("packs", "parity", 1));
            assert!(files.contains_key(&targets["sidecar"]));
        }
        assert!(parity || !files.keys().any(|name| name.starts_with("parity/")));
        Story { files, backups, targets }
    }

    fn damaged(&self, target: &str, damage: Damage) -> Files {
        let mut files = self.files.clone();
        damage.apply(&mut files, &self.targets[target]);
        files
    }

    /// What can be read of the snapshots: times and names. Whatever is read is right.
    fn readable(&self, files: &Files) -> BTreeSet<(i64, String)> {
        self.readable_in(&open(files))
    }

    fn readable_in(&self, repository: &Repository) -> BTreeSet<(i64, String)> {
        let mut readable = BTreeSet::new();
        for snapshot in repository.snapshots().unwrap().snapshots {
            let backup = &self.backups[snapshot.record.time as usize - 1];
            let reader = repository.read(&snapshot).unwrap();
            for (name, entry) in reader.entries(&Prefix::all()).flatten() {
                let Some(content) = entry.content else { continue };
                let mut bytes = Vec::new();
                if reader.read_file(&content, &mut bytes).is_ok() {
                    assert!(bytes == backup[name.path()], "{name} came out wrong");
                    readable.insert((snapshot.record.time, name.path().to_owned()));
                }
            }
        }
        readable
    }

    /// How much of either snapshot is there, and what a check of every byte finds.
    fn state(&self, files: &Files) -> String {
        let (readable, repository) = (self.readable(files), open(files));
        let list = repository.snapshots().unwrap();
        let mut state = String::new();
        for (time, backup) in (1..).zip(&self.backups) {
            let is_there = list.snapshots.iter().any(|snapshot| snapshot.record.time == time);
            let count = readable.iter().filter(|(of, _)| *of == time).count();
            let how_much = match count {
                _ if !is_there => "gone",
                0 => "none",
                count if count < backup.len() => "part",
                _ => "whole",
            };
            let _ = write!(state, "{how_much:<6}");
        }
        let found = check_all(&repository, Depth::ReadData).unwrap();
        let mut folders: BTreeSet<&str> =
            found.problems.iter().map(|problem| problem.file.split('/').next().unwrap()).collect();
        folders.extend(found.affected.first().map(|_| "lost"));
        let found =
            if folders.is_empty() { "clean".to_owned() } else { folders.into_iter().collect::<Vec<_>>().join(" ") };
        state + &found
    }

    /// Repairs `files`, and asks of the outcome all that must hold of any.
    fn repaired(&self, files: &Files, from: Option<&Repository>, context: &str) -> (Files, RepairReport) {
        let before = self.readable(files);
        let storage = storage_of(files);
        let report = repair(&open_in(storage.clone()), &RepairOptions { from, ..Default::default() }, &go_on).unwrap();
        let after = storage.files().clone();
        assert!(self.readable(&after).is_superset(&before), "{context}: something is readable no more");
        assert_nothing_gone(files, &after, context);
        let found = check_all(&open(&after), Depth::ReadData).unwrap();
        let said = (&report.left.problems, &report.left.affected);
        assert_eq!(said, (&found.problems, &found.affected), "{context}: the report is not what a check says");
        let again = repair(&open_in(storage.clone()), &RepairOptions { from, ..Default::default() }, &go_on).unwrap();
        assert_eq!(again.done, [], "{context}: it is not done");
        assert_eq!((again.left.problems, again.left.affected), (found.problems, found.affected), "{context}");
        assert!(*storage.files() == after, "{context}: nothing was said to be done");
        (after, report)
    }
}

fn backups() -> [Backup; 2] {
    let mut database = [b"SQLite format 3\0".as_slice(), &noise(1, (192 << 10) - 16)].concat();
    let file = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    let files = |database: &[u8], notes: u64| {
        Backup::from([
            file("db", database),
            file("notes", &noise(notes, 30_000)),
            file("photo", &noise(4, 90_000)),
            file("sealed", &noise(5, 40_000)),
            file("empty", b""),
        ])
    };
    let first = files(&database, 2);
    database[100_000..100_040].copy_from_slice(&noise(6, 40));
    [first, files(&database, 3)]
}

fn back_up(repository: &Repository, backup: &Backup, time: i64) -> Snapshot {
    let mut writer = repository.write(SERIES).unwrap();
    for (path, bytes) in backup {
        let name = Name::new("HomeDomain", path).unwrap();
        let content = match path.as_str() {
            "sealed" => writer.store_sealed(Some(&name), &mut bytes.as_slice(), &KEY),
            _ => writer.store(Some(&name), &mut bytes.as_slice()),
        };
        writer.put(&name, &Entry { content: Some(content.unwrap()), ..Entry::new(Kind::File) }).unwrap();
    }
    for number in 0..DIRECTORIES {
        let name = Name::new("HomeDomain", &format!("Library/{number:04}")).unwrap();
        writer.put(&name, &Entry::new(Kind::Directory)).unwrap();
    }
    writer.commit(Details::new(time, Source::Import)).unwrap().0
}

fn open_in(storage: Arc<dyn Storage>) -> Repository {
    Repository::open_damaged(storage, Unlock::Open, None).unwrap()
}

fn open(files: &Files) -> Repository {
    open_in(storage_of(files))
}

/// Every file that was there is there, or its bytes are in `quarantine`.
fn assert_nothing_gone(before: &Files, after: &Files, context: &str) {
    let aside: BTreeSet<&Vec<u8>> =
        after.iter().filter(|(name, _)| name.starts_with("quarantine/")).map(|(_, bytes)| bytes).collect();
    let lasts = |name: &str| !name.starts_with("sessions/") && !name.starts_with("tmp/");
    for (name, bytes) in before.iter().filter(|(name, _)| lasts(name)) {
        assert!(after.get(name) == Some(bytes) || aside.contains(bytes), "{context}: {name} is gone");
    }
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip,
    Cut,
    Delete,
}

impl Damage {
    const ALL: [Damage; 3] = [Damage::Flip, Damage::Cut, Damage::Delete];

    fn apply(self, files: &mut Files, target: &str) {
        let bytes = files.get_mut(target).unwrap();
        let len = bytes.len();
        match self {
            Damage::Flip => bytes[len / 2] ^= 0x10,
            Damage::Cut => bytes.truncate(len - len / 40),
            Damage::Delete => drop(files.remove(target)),
        }
    }
}

#[test]
fn what_comes_back() {
    let mut table = String::new();
    for parity in [true, false] {
        let story = Story::new(parity);
        assert_eq!(story.state(&story.files), "whole whole clean");
        let _ = writeln!(table, "{}", if parity { "with parity" } else { "without" });
        for target in story.targets.keys() {
            for damage in Damage::ALL {
                let files = story.damaged(target, damage);
                let context = format!("{target}, {damage:?}, parity: {parity}");
                let (after, report) = story.repaired(&files, None, &context);
                let steps: BTreeSet<RepairStep> = report.done.iter().map(|mended| mended.step).collect();
                let damage = format!("{damage:?}").to_lowercase();
                let (before, after) = (story.state(&files), story.state(&after));
                let _ = writeln!(table, "{target:<14} {damage:<6} | {before:<30} | {after:<20} | {steps:?}");
            }
        }
    }
    assert!(table == WHAT_COMES_BACK, "\n{table}\n");
}

/// What is damaged, how | how much of the first and second snapshot can be read then, and where a check finds something | the same after a repair | what
/// that did. A cut takes the last fortieth of a file.
const WHAT_COMES_BACK: &str = "\
with parity
config         flip   | whole whole config             | whole whole clean    | {Keys}
config         cut    | whole whole config             | whole whole clean    | {Keys}
config         delete | whole whole config             | whole whole clean    | {Keys}
pack           flip   | part  part  lost packs         | whole whole clean    | {Packs}
pack           cut    | part  part  lost packs         | whole whole clean    | {Packs}
pack           delete | part  part  lost packs         | part  part  lost     | {Packs, Index}
pack of deltas flip   | whole part  lost packs         | whole whole clean    | {Packs}
pack of deltas cut    | whole part  lost packs         | whole whole clean    | {Packs}
pack of deltas delete | whole part  lost packs         | whole part  lost     | {Packs, Index}
segment        flip   | whole whole index              | whole whole clean    | {Index}
segment        cut    | whole whole index              | whole whole clean    | {Index}
segment        delete | whole whole index              | whole whole clean    | {Index}
sidecar        flip   | whole whole parity             | whole whole clean    | {Parity}
sidecar        cut    | whole whole parity             | whole whole clean    | {Parity}
sidecar        delete | whole whole parity             | whole whole clean    | {Parity}
slot           flip   | whole whole keys               | whole whole clean    | {Keys}
slot           cut    | whole whole keys               | whole whole clean    | {Keys}
slot           delete | whole whole keys               | whole whole clean    | {Keys}
snapshot       flip   | whole gone  snapshots          | whole whole clean    | {Records}
snapshot       cut    | whole gone  snapshots          | whole whole clean    | {Records}
snapshot       delete | whole gone  snapshots          | whole whole clean    | {Records}
spare          flip   | whole whole spares             | whole whole clean    | {Records}
spare          cut    | whole whole spares             | whole whole clean    | {Records}
spare          delete | whole whole clean              | whole whole clean    | {Records}
tree pack      flip   | whole none  lost trees         | whole whole clean    | {Packs}
tree pack      cut    | whole none  lost trees         | whole whole clean    | {Packs}
tree pack      delete | whole none  lost trees         | whole whole clean    | {Packs}
without
config         flip   | whole whole config             | whole whole clean    | {Keys}
config         cut    | whole whole config             | whole whole clean    | {Keys}
config         delete | whole whole config             | whole whole clean    | {Keys}
pack           flip   | part  part  lost packs         | part  part  lost     | {Packs, Index}
pack           cut    | part  part  lost packs         | part  part  lost     | {Packs, Index}
pack           delete | part  part  lost packs         | part  part  lost     | {Packs, Index}
pack of deltas flip   | whole part  lost packs         | whole part  lost     | {Packs, Index}
pack of deltas cut    | whole part  lost packs         | whole part  lost     | {Packs, Index}
pack of deltas delete | whole part  lost packs         | whole part  lost     | {Packs, Index}
segment        flip   | whole whole index              | whole whole clean    | {Index}
segment        cut    | whole whole index              | whole whole clean    | {Index}
segment        delete | whole whole index              | whole whole clean    | {Index}
slot           flip   | whole whole keys               | whole whole clean    | {Keys}
slot           cut    | whole whole keys               | whole whole clean    | {Keys}
slot           delete | whole whole keys               | whole whole clean    | {Keys}
snapshot       flip   | whole gone  snapshots          | whole whole clean    | {Records}
snapshot       cut    | whole gone  snapshots          | whole whole clean    | {Records}
snapshot       delete | whole gone  snapshots          | whole whole clean    | {Records}
spare          flip   | whole whole spares             | whole whole clean    | {Records}
spare          cut    | whole whole spares             | whole whole clean    | {Records}
spare          delete | whole whole clean              | whole whole clean    | {Records}
tree pack      flip   | whole none  lost trees         | whole none  lost     | {Packs, Index}
tree pack      cut    | whole none  lost trees         | whole none  lost     | {Packs, Index}
tree pack      delete | whole none  lost trees         | whole none  lost     | {Packs, Index}
";

/// What a repair without help leaves alone, a clone brings back.
#[test]
fn a_clone_brings_everything_back() {
    for parity in [true, false] {
        let story = Story::new(parity);
        let clone = open(&story.files);
        for damage in Damage::ALL {
            for targets in [&["pack"][..], &["pack", "tree pack"], &["segment", "pack of deltas"], &["snapshot"]] {
                let mut files = story.files.clone();
                for target in targets {
                    damage.apply(&mut files, &story.targets[target]);
                    let sidecar = story.targets[target].replacen("packs", "parity", 1).replacen("trees", "parity", 1);
                    files.remove(&sidecar);
                }
                let context = format!("{targets:?}, {damage:?}");
                let (after, _) = story.repaired(&files, Some(&clone), &context);
                assert_eq!(story.state(&after), "whole whole clean", "{context}");
                // Also when a repair without it has come first.
                let (after, _) = story.repaired(&files, None, &context);
                let (after, _) = story.repaired(&after, Some(&clone), &context);
                assert_eq!(story.state(&after), "whole whole clean", "{context}, later");
            }
        }
    }
}

#[test]
fn a_repository_with_the_same_files_brings_those_back() {
    let story = Story::new(false);
    let other = Arc::new(MemoryStorage::default());
    let options = Options { cipher: Cipher::ChaCha20Poly1305, ..Options::default() };
    let (other, _) = Repository::create(other, None, &options).unwrap();
    back_up(&other, &story.backups[1], 9);
    back_up(&other, &story.backups[0], 10);
    for damage in [Damage::Cut, Damage::Delete] {
        for target in ["pack", "pack of deltas"] {
            let files = story.damaged(target, damage);
            let (alone, _) = story.repaired(&files, None, target);
            assert!(story.state(&alone).contains("part"), "{target}: {}", story.state(&alone));
            let (after, report) = story.repaired(&files, Some(&other), target);
            assert_eq!(story.state(&after), "whole whole clean", "{target}, {damage:?}");
            assert!(report.done.iter().any(|mended| mended.step == RepairStep::Refill));
        }
    }
}

/// It may read it again tomorrow, or on another computer.
#[test]
fn what_the_disk_does_not_read_is_lost_to_no_repair() {
    for parity in [false, true] {
        let story = Story::new(parity);
        for file in story.files.keys() {
            let disk = Arc::new(BadSectors::unexplained(&story.files, file));
            let context = format!("{file}, parity {parity}");
            let repaired = Repository::open(disk.clone(), Unlock::Open, None)
                .and_then(|repository| repair(&repository, &RepairOptions::default(), &go_on));
            let after = disk.files();
            match repaired {
                // A sidecar can be made anew; nobody reads the reserve.
                Ok(_) => assert!(file.starts_with("parity/") || file == "reserve", "{context}"),
                Err(error) => {
                    assert!(!error.is_damage() && error.to_string().contains(file), "{context}: {error}");
                    assert!(after == story.files, "{context}: something was changed");
                }
            }
            assert_nothing_gone(&story.files, &after, &context);
            assert_eq!(story.state(&after), "whole whole clean", "{context}");
        }
    }
}

#[test]
fn a_bad_sector_is_damage_of_its_file_and_of_no_other() {
    for parity in [false, true] {
        let story = Story::new(parity);
        for (target, file) in &story.targets {
            let context = format!("{target}, parity {parity}");
            let disk = Arc::new(BadSectors::new(&story.files, file));
            let repository = open_in(disk.clone());
            let found = check_all(&repository, Depth::ReadData).unwrap();
            assert!(found.problems.iter().any(|problem| problem.file == *file), "{context}: {:?}", found.problems);
            let (damaged, flipped) = (story.readable_in(&repository), story.damaged(target, Damage::Flip));
            assert!(damaged.is_superset(&story.readable(&story.damaged(target, Damage::Delete))), "{context}");
            for of in found.affected.iter().filter(|of| of.lost_parts.is_empty()) {
                let told = of.files.iter().map(|lost| (of.snapshot.record.time, lost.name.path().to_owned())).collect();
                assert!(damaged.is_disjoint(&told), "{context}: {told:?} can be read");
                let all = story.backups[of.snapshot.record.time as usize - 1].len();
                let count = damaged.iter().filter(|(time, _)| *time == of.snapshot.record.time).count();
                assert_eq!(count + told.len(), all, "{context}");
            }
            for snapshot in repository.snapshots().unwrap().snapshots {
                let count = damaged.iter().filter(|(time, _)| *time == snapshot.record.time).count();
                assert_eq!(exported(&repository, &snapshot).1.files, count as u64, "{context}");
            }
            let mut before = disk.salvaged();
            repair(&repository, &RepairOptions::default(), &go_on).unwrap();
            let after = disk.files();
            // What stays in its place is as it was; of what was moved all is there that could be read.
            if after.get(file) == story.files.get(file) {
                before = story.files.clone();
            }
            assert_nothing_gone(&before, &after, &context);
            assert!(story.readable_in(&open_in(disk)).is_superset(&damaged), "{context}");
            assert_eq!(story.state(&after), story.state(&story.repaired(&flipped, None, &context).0), "{context}");
        }
    }
}

/// Of a snapshot that is marked every good byte is as it was, zeros stand for the others, and hashes are of what is there now.
#[test]
fn marking_keeps_every_good_byte() {
    let story = Story::new(false);
    let mark = RepairOptions { mark_lost: true, ..Default::default() };
    for (target, damage) in [("pack", Damage::Flip), ("pack", Damage::Delete), ("pack of deltas", Damage::Delete)] {
        let context = format!("{target}, {damage:?}");
        let files = story.damaged(target, damage);
        let storage = storage_of(&files);
        let damaged = open_in(storage.clone());
        damaged.snapshots().unwrap().snapshots.iter().for_each(|snapshot| damaged.pin(&snapshot.id).unwrap());
        let report = repair(&damaged, &mark, &go_on).unwrap();
        assert_eq!((report.left.problems, report.left.affected), (Vec::new(), Vec::new()), "{context}");
        let after = storage.files().clone();
        assert_nothing_gone(&files, &after, &context);
        let repository = open(&after);
        assert!(check_all(&repository, Depth::ReadData).unwrap().is_whole(), "{context}");
        let before = story.readable(&files);
        let snapshots = repository.snapshots().unwrap().snapshots;
        assert_eq!(snapshots.iter().map(|snapshot| snapshot.record.time).collect::<Vec<_>>(), [1, 2], "{context}");
        let ids: BTreeSet<SnapshotId> = snapshots.iter().map(|snapshot| snapshot.id).collect();
        assert_eq!(repository.pins().unwrap(), ids, "{context}: what was pinned is");
        let mut lost_files = 0;
        for snapshot in &snapshots {
            let record = &snapshot.record;
            let backup = &story.backups[record.time as usize - 1];
            let reader = repository.read(snapshot).unwrap();
            let (mut lost, mut seen) = (0, BTreeSet::new());
            for item in reader.entries(&Prefix::all()) {
                let (name, entry) = item.unwrap();
                let Some(content) = entry.content else { continue };
                let (wanted, mut bytes, mut plaintext) = (&backup[name.path()], Vec::new(), Vec::new());
                reader.read_file(&content, &mut bytes).unwrap();
                reader.read_plaintext(&content, &mut plaintext).unwrap();
                assert_eq!(bytes.len(), wanted.len());
                seen.insert(name.path().to_owned());
                if bytes == *wanted {
                    continue;
                }
                lost += 1;
                assert!(!before.contains(&(record.time, name.path().to_owned())), "{context}: {name} was whole");
                assert!(record.warnings.iter().any(|warning| warning.contains(name.path())), "{context}: {name}");
                if name.path() != "sealed" {
                    let is_kept = |(byte, wanted): (&u8, &u8)| byte == wanted || *byte == 0;
                    assert!(bytes.iter().zip(wanted).all(is_kept), "{context}: {name} has other bytes");
                }
                assert!(plaintext.chunks(64).any(|part| part.iter().all(|&byte| byte == 0)), "{context}: no zeros");
                if name.path() == "db" && matches!(damage, Damage::Flip) {
                    assert!(bytes.chunks(1000).any(|part| part.iter().any(|&byte| byte != 0)), "{context}: all zeros");
                }
            }
            assert!(backup.keys().eq(&seen), "{context}: {seen:?}");
            assert_eq!(record.lost_files, lost, "{context}: {record:?}");
            assert_eq!(record.warning_count, record.lost_files, "{context}");
            lost_files += record.lost_files;
        }
        assert!(lost_files > 0, "{context}: nothing was lost");
        let again = repair(&open_in(storage.clone()), &mark, &go_on).unwrap();
        assert_eq!((again.done, again.left.problems), (Vec::new(), Vec::new()), "{context}");
        assert!(*storage.files() == after, "{context}");
    }
}

/// What lies below a node of the tree that is lost is gone, and all else stays.
#[test]
fn marking_keeps_what_the_tree_still_names() {
    let mark = RepairOptions { mark_lost: true, ..Default::default() };
    let (mut are_part, mut are_gone) = (0, 0);
    // Keys decide where a tree's nodes end: a few trees, of which one has more than a node.
    for _ in 0..20 {
        if are_part > 0 && are_gone > 0 {
            break;
        }
        let story = Story::new(false);
        for at in (64..4096).step_by(64) {
            let mut files = story.files.clone();
            files.get_mut(&story.targets["tree pack"]).unwrap()[at] ^= 1;
            let names = |files: &Files| -> Option<BTreeSet<String>> {
                let repository = open(files);
                let list = repository.snapshots().unwrap();
                let snapshot = list.snapshots.iter().find(|snapshot| snapshot.record.time == 2)?;
                let reader = repository.read(snapshot).unwrap();
                Some(reader.entries(&Prefix::all()).flatten().map(|(name, _)| name.to_string()).collect())
            };
            let before = names(&files).unwrap();
            let storage = storage_of(&files);
            let report = repair(&open_in(storage.clone()), &mark, &go_on).unwrap();
            assert!(report.left.is_whole(), "{at}: {:?}", report.left);
            let after = storage.files().clone();
            assert_nothing_gone(&files, &after, "a tree");
            assert_eq!(names(&after).unwrap_or_default(), before, "{at}");
            let list = open(&after).snapshots().unwrap().snapshots;
            match list.iter().find(|snapshot| snapshot.record.time == 2) {
                Some(snapshot) if snapshot.record.lost_files > 0 => {
                    assert!(snapshot.record.warnings[0].contains("a part of the list of files"), "{at}");
                    are_part += 1;
                }
                Some(_) => {}
                None => are_gone += 1,
            }
        }
    }
    assert!(are_part > 0 && are_gone > 0, "{are_part} {are_gone}");
}

#[test]
fn a_dry_run_says_the_same_and_changes_nothing() {
    for parity in [true, false] {
        let story = Story::new(parity);
        for target in story.targets.keys() {
            for damage in Damage::ALL {
                let files = story.damaged(target, damage);
                let storage = storage_of(&files);
                let options = RepairOptions { dry_run: true, mark_lost: true, ..Default::default() };
                let dry = repair(&open_in(storage.clone()), &options, &go_on).unwrap();
                assert!(*storage.files() == files, "{target}, {damage:?}");
                let options = RepairOptions { dry_run: false, ..options };
                let wet = repair(&open_in(storage.clone()), &options, &go_on).unwrap();
                let files_of = |report: &RepairReport| -> Vec<_> {
                    report.done.iter().map(|mended| (mended.step, mended.file.clone())).collect()
                };
                // Sidecars of new packs have names that nobody can foretell.
                let is_foretold = |(step, _): &(RepairStep, String)| *step != RepairStep::Parity;
                let foretold = |report| files_of(report).into_iter().filter(is_foretold).collect::<Vec<_>>();
                assert_eq!(foretold(&dry), foretold(&wet), "{target}, {damage:?}");
                assert_eq!(
                    (dry.left.problems, dry.left.affected.len()),
                    (wet.left.problems, wet.left.affected.len()),
                    "{target}, {damage:?}"
                );
            }
        }
    }
}

#[test]
fn a_repair_that_stops_anywhere_and_is_done_again_comes_to_the_same() {
    for parity in [true, false] {
        let story = Story::new(parity);
        let damages = [
            vec![("pack", Damage::Flip)],
            vec![("pack", Damage::Delete), ("segment", Damage::Flip)],
            vec![("pack of deltas", Damage::Cut), ("snapshot", Damage::Flip)],
            vec![("config", Damage::Flip), ("slot", Damage::Delete)],
        ];
        for (number, damages) in damages.into_iter().enumerate() {
            let mut files = story.files.clone();
            damages.iter().for_each(|(target, damage)| damage.apply(&mut files, &story.targets[target]));
            for mark_lost in [false, true] {
                let options = RepairOptions { mark_lost, ..Default::default() };
                let finish = |storage: Arc<dyn Storage>| {
                    let report = repair(&open_in(storage), &options, &go_on).unwrap();
                    let of = |affected: Affected| (affected.snapshot.record.time, affected.files, affected.lost_parts);
                    (report.left.problems, report.left.affected.into_iter().map(of).collect::<Vec<_>>())
                };
                let disk = Arc::new(FaultyStorage::new(&files, Fault::None));
                let problems = finish(disk.clone());
                let state = |files: &Files| if mark_lost { snapshots_of(files) } else { story.state(files) };
                let expected = state(&disk.files());
                for at in 0..disk.changes() {
                    let torn = Torn::ALL[(at + number) % Torn::ALL.len()];
                    let context =
                        format!("{damages:?}, parity: {parity}, mark: {mark_lost}, stopped at {at}, {torn:?}");
                    let stopped = Arc::new(FaultyStorage::new(&files, Fault::Stop { at, torn }));
                    let outcome = repair(&open_in(stopped.clone()), &options, &go_on);
                    assert!(outcome.is_err() || !stopped.misses_any(), "{context}: a lost change was not noticed");
                    let left = storage_of(&stopped.files());
                    assert_eq!(finish(left.clone()), problems, "{context}");
                    assert_eq!(state(&left.files()), expected, "{context}");
                    assert_nothing_gone(&files, &left.files(), &context);
                }
            }
        }
    }
}

/// Times, hashes of all files, and what is lost of each.
fn snapshots_of(files: &Files) -> String {
    let repository = open(files);
    let mut text = String::new();
    for snapshot in repository.snapshots().unwrap().snapshots {
        let record = &snapshot.record;
        let _ = writeln!(text, "{} {} {:?}", record.time, record.lost_files, record.warnings);
        for (name, entry) in repository.read(&snapshot).unwrap().entries(&Prefix::all()).flatten() {
            let _ = writeln!(text, "{name} {:?}", entry.content.map(|content| content.hash));
        }
    }
    text
}

/// A snapshot is forgotten, or another device is backed up, at any moment of a repair that replaces damaged snapshots.
#[test]
fn what_others_do_beside_a_repair_stays_done() {
    let story = Story::new(false);
    let files = story.damaged("pack of deltas", Damage::Delete);
    let first = open(&files).snapshots().unwrap().snapshots[0].clone();
    let mark = RepairOptions { mark_lost: true, ..Default::default() };
    for (moments, step) in [(Moments::Changes, 1), (Moments::Reads, 3)] {
        for (at, forgets) in (0..).step_by(step).flat_map(|at| [(at, true), (at, false)]) {
            let context = format!("{moments:?} {at}, forgets: {forgets}");
            let disk = storage_of(&files);
            let (other, gone) = (open_in(disk.clone()), first.clone());
            let act = move || if forgets { other.forget(&[gone]).is_ok() } else { make_small(&other).is_ok() };
            let (outcome, acted) = beside(&disk, moments, at, |repository| repair(repository, &mark, &go_on), act);
            let report = outcome.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(report.left.is_whole(), "{context}: {:?}", report.left);
            let Some(acted) = acted else { break };
            assert!(acted, "{context}");
            let repository = open_in(disk.clone());
            let times: Vec<i64> =
                repository.snapshots().unwrap().snapshots.iter().map(|snapshot| snapshot.record.time).collect();
            assert_eq!(times, if forgets { vec![2] } else { vec![1, 2, 3] }, "{context}");
            assert_eq!(repository.trash().unwrap().snapshots.len(), usize::from(forgets), "{context}");
            repository.prune(&PruneOptions::default(), &go_on).unwrap();
            assert!(check_all(&repository, Depth::ReadData).unwrap().is_whole(), "{context}");
        }
    }
}
