//! What damage does: every kind of file of a repository × every kind of damage × what comes next.
//!
//! Two snapshots were taken and a third run was cut off. Then one file is damaged, and a table says who notices, what is still
//! readable, and what the next backup of the phone makes of it. Whatever is read is compared with what was stored: a wrong byte, or a
//! file that is missing without an error, fails at once. Damages with the same outcome share a row.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
};

use heirloom_store::{
    CheckReport, Cipher, Depth, Details, Entry, Error, Kind, MemoryStorage, Name, Options, Prefix, Problem,
    RecoveryKey, Repository, Snapshot, SnapshotEditor, Source, Unlock, check_packs_without_key,
};

use crate::support::{
    Files, check_all,
    folder::{File, Folder, Thing, exported, folder_of},
    go_on, noise, place, storage_of,
};

const SERIES: &str = "00008101-001A2B3C4D5E6F78";
const OPTIONS: Options = Options { cipher: Cipher::Aes256Gcm, pack_bytes: 64 << 10, parity: false };
/// So many that most trees have several nodes.
const DIRECTORIES: usize = 100;
const TRAILER_LEN: usize = 12;
const MTIME_NS: i64 = 1_600_000_000_000_000_000;

#[derive(Clone, Copy)]
enum Damage {
    /// One bit of the byte there.
    FlipAt(usize),
    FlipMiddle,
    /// One bit of the byte so far from the end.
    FlipFromEnd(usize),
    /// One bit in the middle of a pack's directory.
    FlipDirectory,
    Empty,
    Half,
    MinusOne,
    Append,
    Delete,
    /// By another file of its kind.
    Replace,
}

/// Those that make sense for every file.
const COMMON: [(&str, Damage); 9] = [
    ("first byte", Damage::FlipAt(0)),
    ("middle", Damage::FlipMiddle),
    ("last byte", Damage::FlipFromEnd(1)),
    ("cut or grown", Damage::Empty),
    ("cut or grown", Damage::Half),
    ("cut or grown", Damage::MinusOne),
    ("cut or grown", Damage::Append),
    ("replaced", Damage::Replace),
    ("deleted", Damage::Delete),
];

/// Magic, version, kind, zeros, repository and salt of a sealed file; and a pack's parts.
const HEADER: [(&str, Damage); 5] = [
    ("header", Damage::FlipAt(8)),
    ("header", Damage::FlipAt(9)),
    ("header", Damage::FlipAt(10)),
    ("header", Damage::FlipAt(20)),
    ("header", Damage::FlipAt(40)),
];
const PACK: [(&str, Damage); 4] = [
    ("first frame", Damage::FlipAt(70)),
    ("directory", Damage::FlipDirectory),
    ("directory's length", Damage::FlipFromEnd(TRAILER_LEN)),
    ("header at the end", Damage::FlipFromEnd(TRAILER_LEN + 24)),
];

/// `files` with `target` damaged; `other` is what it may be replaced by.
fn damaged(files: &Files, target: &str, other: &str, damage: Damage) -> Files {
    let mut files = files.clone();
    let other = files[other].clone();
    let bytes = files.get_mut(target).unwrap();
    let len = bytes.len();
    let mut flip = |at: usize| bytes[at] ^= 1;
    match damage {
        Damage::FlipAt(at) => flip(at),
        Damage::FlipMiddle => flip(len / 2),
        Damage::FlipFromEnd(distance) => flip(len - distance),
        Damage::FlipDirectory => {
            let sealed_len = u32::from_le_bytes(bytes[len - TRAILER_LEN..len - 8].try_into().unwrap()) as usize;
            bytes[len - TRAILER_LEN - sealed_len / 2] ^= 1;
        }
        Damage::Empty => bytes.clear(),
        Damage::Half => bytes.truncate(len / 2),
        Damage::MinusOne => bytes.truncate(len - 1),
        Damage::Append => bytes.push(0),
        Damage::Delete => drop(files.remove(target)),
        Damage::Replace => *bytes = other,
    }
    files
}

/// A repository before the damage.
struct Story {
    files: Files,
    snapshots: [Snapshot; 2],
    /// What the three runs backed up.
    folders: [Folder; 3],
    /// The files that each of them wrote, by what they are.
    written: [BTreeMap<&'static str, String>; 3],
}

impl Story {
    /// Keys decide where a tree's nodes end. The first tree is to have several, of which each later run changes the first and the root.
    fn new() -> Story {
        let is_fit = |[first, second, third]: [u64; 3]| first > 2 && second == 2 && third == 2;
        std::iter::repeat_with(Story::any).find(|(_, nodes)| is_fit(*nodes)).expect("most are").0
    }

    /// Some story, and the number of tree nodes that each run wrote.
    fn any() -> (Story, [u64; 3]) {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &OPTIONS).unwrap();
        let files = |names: &str| {
            let file = |name: char| (name.to_string(), noise(u64::from(name), 20_000), MTIME_NS);
            folder_of(names.chars().map(file))
        };
        let folders = [files("ab"), files("abcd"), files("abcdef")];
        let (mut written, mut snapshots, mut nodes, mut chunks) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (time, folder) in (1..).zip(&folders) {
            let before = storage.files().clone();
            snapshots.push(back_up(repository.edit(SERIES, None).unwrap(), folder, time).unwrap());
            written.push(what_is_new(&before, &storage.files()));
            let chunks_before =
                std::mem::replace(&mut chunks, check_all(&repository, Depth::Structure).unwrap().chunks);
            // Two files are new each time.
            nodes.push(chunks - chunks_before - 2);
        }
        // The third run was cut off when its first pack was written, and its session is still there.
        for part in ["tree pack", "segment", "snapshot", "spare"] {
            storage.files().remove(&written[2].remove(part).unwrap());
        }
        let session = repository.edit(SERIES, None).unwrap();
        let files = storage.files().clone();
        drop(session);
        let snapshots = [snapshots.remove(0), snapshots.remove(0)];
        (Story { files, snapshots, folders, written: written.try_into().unwrap() }, nodes.try_into().unwrap())
    }

    /// What comes of `files`, in which `target` is damaged, when the phone is backed up as it was in run `next`.
    fn outcome(&self, target: &str, files: &Files, next: usize) -> String {
        let storage = storage_of(files);
        let keyless = noticed(target, &check_packs_without_key(&*storage, &go_on).unwrap());
        let repository = Repository::open(storage.clone(), Unlock::Open, None).unwrap();
        let [structure, packs, data] =
            [Depth::Structure, Depth::Packs, Depth::ReadData].map(|depth| check_named(&repository, target, depth));
        let read_both = || [0, 1].map(|run| self.read(&repository, &self.snapshots[run], run));
        let [first, second] = read_both();
        let edit = repository.edit(SERIES, Some(&self.snapshots[1])).map(drop);
        let edit = edit.map_or_else(|error| kind_of(&error), |()| "ok");
        let snapshot = back_up(repository.edit(SERIES, None).unwrap(), &self.folders[next], 3).unwrap();
        let third = self.read(&repository, &snapshot, next);
        let [first_then, second_then] = read_both();
        let data_then = check_named(&repository, target, Depth::ReadData);
        let noticed = format!("{keyless:<2} {structure:<2} {packs:<2} {data:<2}");
        let then = format!("{third:<5} {first_then:<5} {second_then:<5}");
        format!("{noticed} | {first:<5} {second:<5} | {edit:<7} | {then} | {data_then:<2}")
    }

    /// How much of a snapshot can be read. What is read must be right, and what cannot be read must be an error.
    fn read(&self, repository: &Repository, snapshot: &Snapshot, run: usize) -> &'static str {
        let folder = &self.folders[run];
        if !repository.snapshots().unwrap().snapshots.contains(snapshot) {
            return "gone";
        }
        let reader = repository.read(snapshot).unwrap();
        let (mut read, mut errors) = (Folder::new(), 0);
        let mut entries = 0;
        for item in reader.entries(&Prefix::all()) {
            let Ok((name, entry)) = item else {
                errors += 1;
                continue;
            };
            entries += 1;
            let Some(content) = &entry.content else { continue };
            let mut bytes = Vec::new();
            match reader.read_file(content, &mut bytes) {
                Ok(()) => {
                    let file = File { bytes: Arc::new(bytes), mtime_ns: entry.place_mtime_ns.unwrap() };
                    read.insert(entry.place_for(&name).unwrap().to_string(), Thing::File(file));
                }
                Err(error) => {
                    assert!(error.is_damage(), "{error}");
                    errors += 1;
                }
            }
        }
        assert!(read.iter().all(|(path, thing)| folder.get(path) == Some(thing)), "what was read is wrong");
        let (written, stats) = exported(repository, snapshot);
        assert_eq!((&written, stats.problems.len()), (&read, errors), "an export writes what can be read");
        let expected = DIRECTORIES + folder.len();
        let all_there = entries == expected && read == *folder;
        assert_eq!(errors == 0, all_there, "something is missing without an error, or an error is for nothing");
        match (all_there, entries, read.len()) {
            (true, ..) => "whole",
            (false, 0, 0) => "none",
            _ => "part",
        }
    }
}

/// Makes a snapshot of `folder` from nothing, as an import does.
fn back_up(mut editor: SnapshotEditor, folder: &Folder, time: i64) -> heirloom_store::Result<Snapshot> {
    for (path, thing) in folder {
        let Thing::File(file) = thing else { continue };
        editor.write_file(&place(path), None, file.mtime_ns, &mut file.bytes.as_slice())?;
    }
    let mut naming = editor.name_files()?;
    for n in 0..DIRECTORIES {
        naming.describe(&Name::new("HomeDomain", &format!("Library/{n:04}"))?, None, Entry::new(Kind::Directory))?;
    }
    naming.commit(Details::new(time, Source::Import)).map(|(snapshot, _)| snapshot)
}

/// The files that a run added, by what they are; it adds at most one of each kind.
fn what_is_new(before: &Files, after: &Files) -> BTreeMap<&'static str, String> {
    let mut new = BTreeMap::new();
    for (name, bytes) in after.iter().filter(|(name, _)| !before.contains_key(*name) && *name != "reserve") {
        let kind = match name.starts_with("spares/") {
            true => "spare",
            false => ["", "data pack", "tree pack", "segment", "snapshot"][usize::from(bytes[9])],
        };
        assert_eq!(new.insert(kind, name.clone()), None, "two files of a kind make the table ambiguous");
    }
    new
}

/// Which files a check names.
fn check_named(repository: &Repository, target: &str, depth: Depth) -> String {
    check_all(repository, depth).map_or_else(|error| kind_of(&error).into(), |report| noticed(target, &report))
}

/// The same of what a check found.
fn noticed(target: &str, report: &CheckReport) -> String {
    let lost = report.affected.iter().map(|affected| format!("snapshots/{}", affected.snapshot.id));
    let lost = lost.map(|file| Problem { file, what: "it has lost something".to_owned(), is_newer: false });
    let named = named(target, &report.problems.iter().cloned().chain(lost).collect::<Vec<_>>());
    if report.without_spare > 0 { named.replace('-', "") + "N" } else { named }
}

/// `N` where it is noted that a snapshot has no spare, `F` for the damaged file, `S` for a snapshot that has lost something by it, `I` for segments that must have been there, `K` for slots that do not fit to a config.
fn named(target: &str, problems: &[Problem]) -> String {
    let name = |problem: &Problem| match problem.file.as_str() {
        file if file == target => "F",
        file if file.starts_with("snapshots/") => "S",
        "index" if target.starts_with("index/") => "I",
        file if file.starts_with("keys/") && target == "config" => "K",
        file => panic!("{file} is not damaged: {problem}"),
    };
    let named: BTreeSet<&str> = problems.iter().map(name).collect();
    if named.is_empty() { "-".to_owned() } else { named.into_iter().collect() }
}

fn kind_of(error: &Error) -> &'static str {
    match error {
        error if error.is_damage() => "damaged",
        Error::NoRepository => "no repository",
        Error::Unsupported { .. } => "unsupported",
        Error::WrongPassword => "wrong password",
        other => panic!("nothing else may happen: {other}"),
    }
}

/// A line for each outcome, with the damages that have it.
fn rows(damages: &[(&str, Damage)], outcome: impl Fn(Damage) -> String) -> String {
    let mut rows: Vec<(String, Vec<&str>)> = Vec::new();
    for &(what, damage) in damages {
        let outcome = outcome(damage);
        match rows.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, whats)) if whats.last() == Some(&what) => {}
            Some((_, whats)) => whats.push(what),
            None => rows.push((outcome, vec![what])),
        }
    }
    rows.iter().map(|(outcome, whats)| format!("{outcome} | {}\n", whats.join(", "))).collect()
}

#[test]
fn damage_to_sealed_files() {
    let story = Story::new();
    let [first, second, third] = &story.written;
    let (data, tree, segment, snapshot, spare) = ("data pack", "tree pack", "segment", "snapshot", "spare");
    let session = story.files.keys().find(|name| name.starts_with("sessions/")).unwrap();
    let sealed = [&COMMON[..], &HEADER].concat();
    let pack = [&sealed[..], &PACK].concat();
    // What is damaged, what replaces it, and what the phone holds at the next backup.
    let targets = [
        ("a data pack", &first[data], &second[data], 1, &pack),
        ("a data pack of the run that was cut off", &third[data], &second[data], 2, &pack),
        ("the tree pack of the second snapshot, the next backup being the same", &second[tree], &first[tree], 1, &pack),
        ("the tree pack of the second snapshot, the next backup being another", &second[tree], &first[tree], 2, &pack),
        ("a segment", &first[segment], &second[segment], 1, &sealed),
        ("the first snapshot", &first[snapshot], &second[snapshot], 1, &sealed),
        ("its spare", &first[spare], &second[spare], 1, &sealed),
        ("a session", session, &first[snapshot], 1, &sealed),
    ];
    let mut table = String::new();
    for (title, target, other, next, damages) in targets {
        let lens = [target, other].map(|file| story.files[file].len());
        assert!(
            !title.contains("pack") || lens[0] == lens[1],
            "a pack is replaced by one of its length, the hardest case"
        );
        let rows = rows(damages, |damage| story.outcome(target, &damaged(&story.files, target, other, damage), next));
        let _ = write!(table, "{title}\n{rows}");
    }
    assert!(table == SEALED_FILES, "\n{table}\n");
}

/// Who notices: without the key, structure, packs, data | how much of the first and second snapshot can be read | whether the second
/// can be edited | how much of the next backup, and of the first and second after it | who then notices | damages, flips unless they say
/// otherwise.
///
/// - That a file is gone is told by what names it. Nothing names a session, or a pack without a segment; that a segment is gone is told
///   by snapshots, which come after it, and that a snapshot is gone by its spare.
/// - The header at a pack's beginning is there once more at its end, by which it is opened.
/// - That a pack was replaced by another is told by the segment that names it: it lists other chunks.
/// - A chunk counts as stored while its pack is there with its length, and nothing was found damaged in it since the repository was opened; here
///   all of it was read before. So a backup heals what is missing, cut or grown, and what was noticed.
const SEALED_FILES: &str = "\
a data pack
F  -  F  F  | whole whole | ok      | whole whole whole | F  | first byte, header, header at the end
F  -  FS FS | part  part  | ok      | whole whole whole | F  | middle, first frame
F  FS FS FS | part  part  | ok      | whole whole whole | F  | last byte, cut or grown, replaced, deleted, directory, directory's length
a data pack of the run that was cut off
F  -  F  F  | whole whole | ok      | whole whole whole | F  | first byte, middle, replaced, header, first frame, header at the end
F  F  F  F  | whole whole | ok      | whole whole whole | F  | last byte, cut or grown, directory, directory's length
-  -  -  -  | whole whole | ok      | whole whole whole | -  | deleted
the tree pack of the second snapshot, the next backup being the same
F  -  F  F  | whole whole | ok      | whole whole whole | F  | first byte, header, header at the end
F  FS FS FS | whole none  | damaged | whole whole whole | F  | middle, last byte, cut or grown, replaced, deleted, directory, directory's length
F  S  FS FS | whole part  | damaged | whole whole whole | F  | first frame
the tree pack of the second snapshot, the next backup being another
F  -  F  F  | whole whole | ok      | whole whole whole | F  | first byte, header, header at the end
F  FS FS FS | whole none  | damaged | whole whole none  | FS | middle, last byte, cut or grown, replaced, deleted, directory, directory's length
F  S  FS FS | whole part  | damaged | whole whole part  | FS | first frame
a segment
F  F  F  F  | whole whole | ok      | whole whole whole | F  | first byte, middle, last byte, cut or grown, replaced, header
-  I  I  I  | whole whole | ok      | whole whole whole | -  | deleted
the first snapshot
F  F  F  F  | gone  whole | ok      | whole gone  whole | F  | first byte, middle, last byte, cut or grown, replaced, deleted, header
its spare
F  F  F  F  | whole whole | ok      | whole whole whole | F  | first byte, middle, last byte, cut or grown, replaced, header
N  N  N  N  | whole whole | ok      | whole whole whole | -  | deleted
a session
-  -  -  -  | whole whole | ok      | whole whole whole | -  | first byte, middle, last byte, cut or grown, replaced, deleted, header
";

const PASSWORD: &str = "correct horse";

/// What comes of `files`, in which `target` of `keys/` or `config` is damaged.
fn outcome_of_keys(target: &str, files: &Files, recovery: &RecoveryKey, folder: &Folder) -> String {
    let storage = storage_of(files);
    let probed = match Repository::probe(&*storage) {
        Ok(probe) => format!("{:<2}", named(target, &probe.problems)),
        Err(error) => kind_of(&error).to_owned(),
    };
    let by_password = Repository::open(storage.clone(), Unlock::Password(PASSWORD), None).map(drop);
    let by_password = by_password.map_or_else(|error| kind_of(&error), |()| "opens");
    let repository = match Repository::open(storage, Unlock::Recovery(recovery), None) {
        Ok(repository) => repository,
        Err(error) => return format!("{probed} | {by_password} {}", kind_of(&error)),
    };
    let data = check_named(&repository, target, Depth::ReadData);
    let snapshot = &repository.snapshots().unwrap().snapshots[0];
    let read = if exported(&repository, snapshot).0 == *folder { "whole" } else { "wrong" };
    let next = back_up(repository.edit(SERIES, None).unwrap(), folder, 2).unwrap();
    let read_next = if exported(&repository, &next).0 == *folder { "whole" } else { "wrong" };
    let data_then = check_named(&repository, target, Depth::ReadData);
    format!("{probed} | {by_password} opens | {data:<2} | {read} {read_next} | {data_then:<2}")
}

#[test]
fn damage_to_keys_and_config() {
    let folder = folder_of([("a".to_owned(), noise(1, 1000), MTIME_NS)]);
    let new = || {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, recovery) = Repository::create(storage.clone(), Some(PASSWORD), &OPTIONS).unwrap();
        back_up(repository.edit(SERIES, None).unwrap(), &folder, 1).unwrap();
        let files = storage.files().clone();
        (files, recovery.unwrap())
    };
    let ((mut files, recovery), (others, _)) = (new(), new());
    let slot = |files: &Files, kind: &str, copy: &str| {
        let is_it = |(name, text): &(&String, &Vec<u8>)| {
            name.starts_with("keys/") && name.ends_with(copy) && String::from_utf8_lossy(text).contains(kind)
        };
        files.iter().find(is_it).unwrap().0.clone()
    };
    let targets = [
        ("config", "config".to_owned(), "config".to_owned()),
        ("the password's first copy", slot(&files, "password", "-1"), slot(&others, "password", "-1")),
        ("the password's second copy", slot(&files, "password", "-2"), slot(&others, "password", "-2")),
        ("the recovery key's first copy", slot(&files, "recovery", "-1"), slot(&others, "recovery", "-1")),
    ];
    let mut table = String::new();
    for (title, target, other) in &targets {
        let other = format!("another/{other}");
        files.insert(other.clone(), others[other.trim_start_matches("another/")].clone());
        let outcome = |damage| outcome_of_keys(target, &damaged(&files, target, &other, damage), &recovery, &folder);
        let _ = write!(table, "{title}\n{}", rows(&COMMON, outcome));
    }
    assert!(table == KEYS_AND_CONFIG, "\n{table}\n");
}

/// Who notices without the key | what opens: password, recovery key | who notices by data | what can be read of the first snapshot
/// and of the next backup | who then notices | damages, as above.
const KEYS_AND_CONFIG: &str = "\
config
F  | opens opens | F  | whole whole | F  | first byte, middle, last byte, cut or grown
K  | damaged damaged | replaced
no repository | no repository no repository | deleted
the password's first copy
F  | opens opens | F  | whole whole | F  | first byte, middle, last byte, cut or grown, replaced, deleted
the password's second copy
F  | opens opens | F  | whole whole | F  | first byte, middle, last byte, cut or grown, replaced, deleted
the recovery key's first copy
F  | opens opens | F  | whole whole | F  | first byte, middle, last byte, cut or grown, replaced, deleted
";
