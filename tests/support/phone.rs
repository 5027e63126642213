//! A simulated phone on a socket, a home with the program that backs it up, and what must hold of the two.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use heirloom_device::mux::{Mux, SocketAddress, Usbmuxd};
use heirloom_sim::{File, Kind, Location, Options, Phone, RestoredFile, Simulator, Traffic};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::{
    folder::{Folder, Thing, folder_at},
    program::{Home, Said},
};

const SEED: u64 = 3;
const BYTES: u64 = 6_000_000;
/// Without `RestoreSystemFiles` a phone leaves these as they are.
const SYSTEM_DOMAINS: [&str; 5] =
    ["KeychainDomain", "ManagedPreferencesDomain", "RootDomain", "SystemPreferencesDomain", "WirelessDomain"];
/// Files that a phone sends with every backup: Manifest.db, Manifest.plist, and Status.plist twice.
pub const FILES_OF_EACH_BACKUP: u64 = 4;

/// A phone in reach of a home that has a repository.
pub struct Attached {
    pub home: Home,
    pub phone: Simulator,
}

/// The same phone so many days after its first.
pub fn phone_on_day(day: u32) -> Phone {
    let mut phone = Phone::new(SEED, BYTES).unwrap();
    (0..day).for_each(|_| phone.live_one_day().unwrap());
    phone
}

impl Attached {
    /// A phone that trusts nobody.
    pub fn stranger(options: Options) -> Attached {
        Attached { home: Home::new(), phone: Simulator::start(phone_on_day(0), options).unwrap() }
    }

    /// A phone that trusts the computer.
    pub fn paired() -> Attached {
        Attached::paired_with(Options::default())
    }

    pub fn paired_with(options: Options) -> Attached {
        let attached = Attached::stranger(options);
        attached.ok(&["pair"]);
        attached
    }

    /// The program, which finds the phone.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.command(args);
        command.env("USBMUXD_SOCKET_ADDRESS", self.phone.address());
        command
    }

    pub fn run(&self, args: &[&str]) -> Said {
        self.home.said(&mut self.command(args))
    }

    pub fn run_with(&self, variables: &[(&str, &str)], args: &[&str]) -> Said {
        self.home.said(self.command(args).envs(variables.iter().copied()))
    }

    /// Runs the program, which must succeed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Said {
        let said = self.run(args);
        assert_eq!(said.exit, 0, "{args:?}: {said:?}");
        said
    }

    /// Runs the program, which must end like this, and gives what it said.
    #[track_caller]
    pub fn fails(&self, args: &[&str], exit: i32, words: &[&str]) -> Said {
        let said = self.run(args);
        said.assert_failed(exit, words);
        said
    }

    /// The JSON that the program says.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let said = self.run(&[&["--json"], args].concat());
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {said:?}"))
    }

    /// A backup that must make a snapshot of what is on the phone now, though it may be the same. Gives its row and what was sent for it.
    #[track_caller]
    pub fn back_up(&self, args: &[&str]) -> (Value, Traffic) {
        let before = self.phone.traffic();
        let rows = self.json(&[&["backup", "--force"], args].concat());
        assert_eq!((&rows[0]["outcome"], &rows[0]["warnings"]), (&"kept".into(), &0.into()), "{rows}");
        assert_whole(&self.home.exported("latest"), &self.phone.phone());
        (rows[0].clone(), since(before, self.phone.traffic()))
    }

    /// The ids of all snapshots, oldest first.
    #[track_caller]
    pub fn snapshots(&self) -> Vec<String> {
        let rows = self.home.json(&["snapshots"]);
        rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The phone has nothing to complain of, is free for others, and knows of each sync that it is over.
    #[track_caller]
    pub fn assert_left_well(&self) {
        assert_eq!(self.phone.complaints(), Vec::<String>::new());
        self.assert_released();
    }

    /// The phone is free for others, and knows of each sync that it is over.
    #[track_caller]
    pub fn assert_released(&self) {
        let is_over = || {
            let posted = self.phone.posted();
            let count = |what: &str| posted.iter().filter(|name| name.ends_with(what)).count();
            !self.phone.is_sync_locked()
                && count("syncDidFinish") >= count("syncWillStart")
                && posted.last().is_none_or(|last| last == "com.apple.itunes-mobdev.syncDidFinish")
        };
        // What was sent last arrives after the program has ended.
        assert!(eventually(is_over), "{:?}, locked: {}", self.phone.posted(), self.phone.is_sync_locked());
    }

    /// Runs a restore, which must succeed, waits until the phone has restarted, and gives what it took.
    #[track_caller]
    pub fn restore(&self, variables: &[(&str, &str)], args: &[&str]) -> BTreeMap<Location, RestoredFile> {
        let before = self.device_id();
        let said = self.run_with(variables, &[&["restore", "--yes"], args].concat());
        assert_eq!(said.exit, 0, "{said:?}");
        assert!(eventually(|| self.device_id().is_some_and(|id| Some(id) != before)), "it did not restart");
        self.phone.restored().expect("nothing was restored")
    }

    /// The muxer's number for the phone, if it is in reach: another one each time.
    fn device_id(&self) -> Option<u32> {
        let devices = Usbmuxd::new(SocketAddress::parse(&self.phone.address()).unwrap()).devices().unwrap();
        devices.first().map(|device| device.device_id)
    }

    /// Everything in the home but the repository, the cache and what is remembered of repositories: what no phone may ever change.
    pub fn around(&self) -> Folder {
        let children = fs::read_dir(self.home.path("")).unwrap().map(|child| child.unwrap().file_name());
        let kept = children.filter(|name| name != "repo" && name != "cache").map(|name| name.into_string().unwrap());
        kept.flat_map(|name| {
            let below = folder_at(&self.home.path(&name));
            let mut below: Folder = below.into_iter().map(|(path, thing)| (format!("{name}/{path}"), thing)).collect();
            below.insert(name, Thing::Directory);
            below
        })
        .filter(|(path, _)| !path.starts_with(".local/share/heirloom/trust/"))
        .collect()
    }
}

/// What was sent between two times.
fn since(before: Traffic, now: Traffic) -> Traffic {
    Traffic {
        files_sent: now.files_sent - before.files_sent,
        bytes_sent: now.bytes_sent - before.bytes_sent,
        files_received: now.files_received - before.files_received,
        bytes_received: now.bytes_received - before.bytes_received,
    }
}

/// Whether something that takes a moment comes to be.
pub fn eventually(is_so: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        if is_so() {
            return true;
        }
        thread::sleep(Duration::from_millis(2));
    }
    false
}

/// The files of a phone, without its folders and links.
pub fn files_of(phone: &Phone) -> impl Iterator<Item = (&Location, &File)> {
    phone.files().filter(|(_, file)| file.kind == Kind::File)
}

/// Where the content of a file lies in a backup folder.
pub fn place_of(location: &Location) -> String {
    let id = location.file_id();
    format!("{}/{id}", &id[..2])
}

/// A folder is a finished backup of all that is on the phone, and of nothing else.
#[track_caller]
pub fn assert_whole(folder: &Folder, phone: &Phone) {
    let mut wanted = BTreeSet::from(["Info.plist", "Manifest.db", "Manifest.plist", "Status.plist"].map(str::to_owned));
    for (location, file) in files_of(phone) {
        let place = place_of(location);
        let mut bytes = Vec::new();
        file.open().unwrap().read_to_end(&mut bytes).unwrap();
        assert!(bytes_at(folder, &place).is_some_and(|kept| *kept == bytes), "{location} is not as on the phone");
        wanted.insert(place);
    }
    let kept: BTreeSet<String> =
        folder.iter().filter(|(_, thing)| matches!(thing, Thing::File(_))).map(|(path, _)| path.clone()).collect();
    assert_eq!(kept, wanted);
    assert!(!folder.contains_key("Snapshot"));
    let status: plist::Dictionary = plist::from_bytes(bytes_at(folder, "Status.plist").unwrap()).unwrap();
    assert_eq!(status["SnapshotState"].as_string(), Some("finished"));
    assert_manifest_whole(bytes_at(folder, "Manifest.db").unwrap(), phone);
}

/// The database is whole, and names the phone's files.
#[track_caller]
fn assert_manifest_whole(bytes: &[u8], phone: &Phone) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Manifest.db");
    fs::write(&path, bytes).unwrap();
    let database = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let mut statement = database.prepare("SELECT fileID FROM Files WHERE flags = 1").unwrap();
    let named = statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<BTreeSet<String>, _>>().unwrap();
    assert_eq!(named, files_of(phone).map(|(location, _)| location.file_id()).collect());
}

/// The bytes of a file in a folder.
pub fn bytes_at<'f>(folder: &'f Folder, path: &str) -> Option<&'f Vec<u8>> {
    match folder.get(path)? {
        Thing::File(file) => Some(&file.bytes),
        Thing::Directory => None,
    }
}

/// What a restore put on a phone is what was on `phone`, with or without its system files.
#[track_caller]
pub fn assert_restored(restored: &BTreeMap<Location, RestoredFile>, phone: &Phone, with_system: bool) {
    let is_wanted = |location: &Location| with_system || !SYSTEM_DOMAINS.contains(&&*location.domain);
    let wanted: Vec<_> = phone.files().filter(|(location, _)| is_wanted(location)).collect();
    assert!(with_system || wanted.len() < phone.files().count());
    assert!(restored.keys().eq(wanted.iter().map(|(location, _)| *location)));
    for (location, file) in wanted {
        assert!(restored[location].is_same(file).unwrap(), "{location}");
    }
}
