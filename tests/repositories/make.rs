//! How the golden repositories of version 1 were made:
//!
//!     cargo test --test heirloom repositories::make -- --ignored
//!
//! Version 1 is frozen: its golden repositories are not made again. A later version of the format gets some of its own, beside these.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use heirloom_sim::{Kind, Options, Phone, Simulator};
use heirloom_store::{LocalStorage, PruneOptions, Repository, Unlock};

use super::{json, ok};
use crate::support::{
    Files,
    faulty_storage::{Fault, FaultyStorage, Torn},
    folder::folder_at,
    go_on, noise, place,
    program::{Home, PASSWORD, SmallBackup, UDID, blob, only_child},
    repositories::{Expected, ExpectedSnapshot, content_of, files_at, folder, write_files},
};

const BACKUP_PASSWORD: &str = "a backup password";
const SMALLEST_PHONE: u64 = 1;
/// A block, and a piece of one.
const DATABASE_LEN: usize = 72 << 10;
/// A golden repository is committed.
const BYTES_MAX: usize = 300_000;

/// A repository being made, and what went in.
struct Making {
    name: &'static str,
    home: Home,
    expected: Expected,
    /// By the ids of their snapshots.
    put_in: BTreeMap<String, ExpectedSnapshot>,
}

impl Making {
    fn open(name: &'static str, init: &[&str]) -> Making {
        Making::new(name, Expected::default(), &[&["init", "--no-password"], init].concat())
    }

    fn new(name: &'static str, expected: Expected, init: &[&str]) -> Making {
        let mut made = Making { name, home: Home::empty(), expected, put_in: BTreeMap::new() };
        let created = json(&made.home, &made.expected, init);
        made.expected.recovery_key = created["recovery_key"].as_str().map(str::to_owned);
        made
    }

    fn ok(&self, args: &[&str]) {
        ok(&self.home, &self.expected, args);
    }

    /// Backs the phone up as it is on a day; gives the snapshot's id.
    fn back_up(&mut self, day: u32) -> String {
        let source = self.home.path(&format!("day{day}")).join(UDID);
        let files = files_on(day);
        let files: Vec<(&str, &str, &[u8])> =
            files.iter().map(|(domain, path, bytes)| (*domain, path.as_str(), bytes.as_slice())).collect();
        let date = format!("2026-03-{day:02}T12:00:00Z");
        SmallBackup { date: &date, files: &files, ..SmallBackup::default() }.write(&source);
        let place = |domain, path| blob(Path::new(""), domain, path).to_str().unwrap().to_owned();
        let names = files.iter().map(|(domain, path, _)| (format!("{domain}:{path}"), place(domain, path)));
        self.import(&source, names.collect())
    }

    fn import(&mut self, source: &Path, names: BTreeMap<String, String>) -> String {
        self.ok(&["import", source.to_str().unwrap()]);
        let rows = json(&self.home, &self.expected, &["snapshots"]);
        let id = rows.as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
        let (files, directories) = content_of(&folder_at(source));
        let sealed = self.expected.backup_password.is_some();
        let snapshot = ExpectedSnapshot { id: id.clone(), pinned: false, sealed, names, files, directories };
        assert!(self.put_in.insert(id.clone(), snapshot).is_none(), "it is no new snapshot");
        id
    }

    fn repository(&self) -> PathBuf {
        self.home.path("repo")
    }

    /// The library's view of it; it has no password.
    fn opened(&self) -> Repository {
        Repository::open(Arc::new(LocalStorage::new(&self.repository())), Unlock::Open, None).unwrap()
    }

    /// Keeps what is there, and what is expected of it.
    fn keep(mut self) {
        let of = |args: &[&str]| -> Vec<ExpectedSnapshot> {
            let rows = json(&self.home, &self.expected, args);
            let row = |row: &serde_json::Value| {
                let snapshot = self.put_in[row["id"].as_str().unwrap()].clone();
                ExpectedSnapshot { pinned: row["pinned"] == true, ..snapshot }
            };
            rows.as_array().unwrap().iter().map(row).collect()
        };
        (self.expected.snapshots, self.expected.trash) = (of(&["snapshots"]), of(&["snapshots", "--trash"]));
        let mut files = files_at(&self.repository());
        files.retain(|name, _| name != "reserve" && !name.starts_with("sessions/") && !name.starts_with("tmp/"));
        self.expected.parked = super::count(&files, "parked/");
        self.expected.marks = super::count(&files, "gc/");
        let bytes: usize = files.values().map(Vec::len).sum();
        assert!(bytes < BYTES_MAX, "{}: {bytes} bytes", self.name);
        let target = folder().join(self.name);
        fs::create_dir(&target).expect("a golden repository is made once");
        write_files(&target, &files);
        self.expected.write(self.name);
    }
}

/// A phone: messages that change every day, a photo that stays, one a day, small files of which some come and go, text, and nothing at all.
fn files_on(day: u32) -> Vec<(&'static str, String, Vec<u8>)> {
    let mut database = [b"SQLite format 3\0".as_slice(), &noise(1, 24 << 10)].concat();
    database.resize(DATABASE_LEN, 0);
    for past in 1..=day {
        let at = 5_000 * past as usize;
        database[at..at + 60].copy_from_slice(&noise(1000 + u64::from(past), 60));
    }
    let photo = |seed: u64, len| [b"\xff\xd8\xff\xe0".as_slice(), &noise(seed, len)].concat();
    let text: String =
        (0..3_000).map(|line| format!("{line}: nothing has happened up to day {}\n", line % 7)).collect();
    let mut files = vec![
        ("HomeDomain", "Library/SMS/sms.db".to_owned(), database),
        ("CameraRollDomain", "Media/DCIM/100APPLE/IMG_0001.JPG".to_owned(), photo(2, 12_000)),
        ("CameraRollDomain", format!("Media/DCIM/100APPLE/IMG_1{day:03}.JPG"), photo(100 + u64::from(day), 3_000)),
        ("HomeDomain", "Library/Logs/everything.log".to_owned(), text.into_bytes()),
        ("HomeDomain", "Library/Notes/ñandú – 1.txt".to_owned(), Vec::new()),
    ];
    for number in day..day + 8 {
        let settings = format!("<plist><dict><key>number</key><integer>{number}</integer></dict></plist>\n");
        files.push(("AppDomain-org.example.app", format!("Library/Preferences/{number}.plist"), settings.into_bytes()));
    }
    files
}

#[test]
#[ignore = "golden repositories are made once"]
fn v1() {
    for (name, init) in
        [("v1-open", &[][..]), ("v1-chacha", &["--cipher", "chacha20-poly1305"]), ("v1-parity", &["--parity"])]
    {
        let mut making = Making::open(name, init);
        for day in [1, 2] {
            making.back_up(day);
        }
        making.keep();
    }
    encrypted();
    sealed();
    deltas();
    pruned();
    marked();
}

fn encrypted() {
    let expected = Expected { password: Some(PASSWORD.to_owned()), ..Expected::default() };
    let mut making = Making::new("v1-encrypted", expected, &["init", "--no-verify"]);
    for day in [1, 2] {
        making.back_up(day);
    }
    making.keep();
}

/// Backups that a phone encrypted, with new keys each time, kept as plaintext. What the phone sent was kept as it came by a repository without its password.
fn sealed() {
    let options = Options { password: Some(BACKUP_PASSWORD.to_owned()), ..Options::default() };
    let simulator = Simulator::start(Phone::new(11, SMALLEST_PHONE).unwrap(), options).unwrap();
    let address = simulator.address();
    let locked = Home::new();
    let run = |args: &[&str]| {
        let said = locked.run_with(&[("USBMUXD_SOCKET_ADDRESS", &address)], args);
        assert_eq!(said.exit, 0, "{said:?}");
    };
    run(&["pair"]);
    let expected = Expected {
        password: Some(PASSWORD.to_owned()),
        backup_password: Some(BACKUP_PASSWORD.to_owned()),
        ..Expected::default()
    };
    let mut making = Making::new("v1-sealed", expected, &["init", "--no-verify"]);
    for day in 0..2 {
        run(&["backup", "--full", "--as-ciphertext"]);
        let to = locked.path(&format!("day{day}"));
        run(&["export", "latest", "--to", to.to_str().unwrap()]);
        let phone = simulator.phone();
        let files = phone.files().filter(|(_, file)| file.kind == Kind::File);
        let place = |id: String| format!("{}/{id}", &id[..2]);
        let names = files.map(|(at, _)| (format!("{}:{}", at.domain, at.path), place(at.file_id())));
        making.import(&only_child(&to), names.collect());
    }
    making.keep();
}

fn deltas() {
    let mut making = Making::open("v1-deltas", &[]);
    (1..=8).for_each(|day| drop(making.back_up(day)));
    making.keep();
}

/// Two snapshots are gone, with packs that were partly needed; then one is pinned, one is forgotten, and a run is cut off.
fn pruned() {
    let mut making = Making::open("v1-pruned", &[]);
    let [first, second, third, fourth, _] = [1, 2, 3, 4, 5].map(|day| making.back_up(day));
    making.ok(&["forget", &first, &second]);
    let outcome = json(&making.home, &making.expected, &["prune", "--max-unused", "0"]);
    assert!(outcome["written_bytes"].as_u64() > Some(0) && outcome["deleted_packs"].as_u64() > Some(1), "{outcome}");
    making.ok(&["pin", &third]);
    making.ok(&["forget", &fourth]);
    let repository = making.opened();
    let list = repository.snapshots().unwrap();
    let mut run = repository.edit(UDID, list.newest_of(UDID)).unwrap();
    let arrived = noise(77, 2_000);
    run.write_file(&place("Snapshot/ab/arrived"), None, 1_714_737_600_000_000_000, &mut arrived.as_slice()).unwrap();
    run.park().unwrap();
    making.keep();
}

/// A prune was cut off when its mark was durable and nothing was deleted yet: what is needed lies in marked packs, and in new ones.
fn marked() {
    let mut making = Making::open("v1-marked", &[]);
    let [first, ..] = [1, 2, 3].map(|day| making.back_up(day));
    making.ok(&["forget", &first]);
    let files = files_at(&making.repository());
    let cut_off = (0..).find_map(|at| after_pruning_until(&files, at)).unwrap();
    let of = |files: &Files| super::count(files, "packs/") + super::count(files, "trees/");
    assert!(of(&cut_off) > of(&files), "nothing was moved");
    assert!(files.keys().all(|name| name == "reserve" || cut_off.contains_key(name)), "something was deleted");
    write_files(&making.repository(), &cut_off);
    making.keep();
}

/// The files after a prune that was stopped at a change of the disk, if its mark was there by then.
fn after_pruning_until(files: &Files, at: usize) -> Option<Files> {
    let disk = Arc::new(FaultyStorage::new(files, Fault::Stop { at, torn: Torn::Nothing }));
    let repository = Repository::open(disk.clone(), Unlock::Open, None).unwrap();
    let pruned = repository.prune(&PruneOptions { max_unused: 0.0, ..PruneOptions::default() }, &go_on);
    assert!(pruned.is_err(), "it ended before it wrote a mark");
    let after = disk.files();
    after.keys().any(|name| name.starts_with("gc/")).then_some(after)
}
