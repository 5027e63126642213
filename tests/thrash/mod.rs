//! Whether real processes of the program can be trusted with a real folder.
//!
//! In `at_once` two import, one forgets, undeletes, pins and prunes, another prunes, one copies and two read, all in one repository; then the same
//! while those that write are killed at any moment. In `kills` one command after another is killed. The oracle is what was imported: what was
//! reported as kept, and what nobody forgot, is listed and comes out exactly; nobody says anything that a person should not have to read.
//!
//! `HEIRLOOM_SEED` repeats the choices of a run, though not the moments at which the processes meet; `HEIRLOOM_THRASH_SECONDS` and `HEIRLOOM_KILLS` say how
//! long it takes; `HEIRLOOM_TEST_BINARY` names another program to run; with `HEIRLOOM_KEEP_FAILED` the folder of a run that fails is kept for a look.

mod at_once;
mod kills;
mod ledger;

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use heirloom_sim::{Phone, write_backup};
use serde_json::Value;

use crate::support::{
    folder::{Folder, Thing, folder_at},
    noise,
    program::{Home, Said, SmallBackup, assert_same, only_child},
};

const PHONE_BYTES: u64 = 5_000_000;
const SMALL_UDID: &str = "00008030-00000000000000B2";

/// Choices that a seed repeats.
struct Dice(u64);

impl Dice {
    /// One of `sides` numbers from 0.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        let word = noise(self.0, 8).try_into().expect("these are 8 bytes");
        u64::from_le_bytes(word) % sides
    }

    fn pick<'t, T>(&mut self, things: &'t [T]) -> &'t T {
        &things[self.roll(things.len() as u64) as usize]
    }

    /// Other choices for another.
    fn fork(&mut self) -> Dice {
        Dice(self.roll(u64::MAX))
    }
}

/// The seed of this run, which is told, so that a failure shows it.
fn seed() -> u64 {
    let now =
        || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64 % 1_000_000_000);
    let seed = number_of("HEIRLOOM_SEED").unwrap_or_else(now);
    println!("HEIRLOOM_SEED={seed}");
    seed
}

/// What a variable of the environment says.
fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Device and time: by that the backups here are told apart.
type Key = (String, String);

/// A backup folder, and what is in it.
struct Generation {
    path: PathBuf,
    folder: Folder,
    key: Key,
}

impl Generation {
    fn at(path: PathBuf) -> Generation {
        let status: plist::Dictionary = plist::from_file(path.join("Status.plist")).unwrap();
        let time = status["Date"].as_date().unwrap().to_xml_format();
        let udid = path.file_name().unwrap().to_str().unwrap().to_owned();
        Generation { folder: folder_at(&path), path, key: (udid, time) }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

/// What is imported, by device and time.
struct Generations(BTreeMap<Key, Generation>);

impl Generations {
    /// Days of a generated phone, in folders of `dir`.
    fn of_a_phone(seed: u64, days: u64, dir: &Path) -> Vec<Generation> {
        let mut phone = Phone::new(seed, PHONE_BYTES).unwrap();
        let days = (0..days).map(|day| {
            if day > 0 {
                phone.live_one_day().unwrap();
            }
            let dir = dir.join(format!("day{day}"));
            write_backup(&phone, &dir).unwrap();
            Generation::at(only_child(&dir))
        });
        days.collect()
    }

    /// A small phone, on which lie files of another one, different ones each day, beside one of its own.
    fn that_share(others: &[Generation], dir: &Path) -> Vec<Generation> {
        let days = others.iter().enumerate().map(|(day, other)| {
            let files = other.folder.values().filter_map(|thing| match thing {
                Thing::File(file) if file.bytes.len() > 20_000 => Some(file.bytes.clone()),
                _ => None,
            });
            let shared: Vec<_> = files.skip(day).step_by(3).enumerate().collect();
            let shared: Vec<_> = shared.iter().map(|(n, bytes)| (format!("Media/{n}"), bytes.as_slice())).collect();
            let own = noise(day as u64, 300_000);
            let mut files: Vec<_> =
                shared.iter().map(|(path, bytes)| ("CameraRollDomain", path.as_str(), *bytes)).collect();
            files.push(("HomeDomain", "own", &own));
            let folder = dir.join(format!("small{day}")).join(SMALL_UDID);
            let date = format!("2024-05-{:02}T12:00:00Z", day + 1);
            SmallBackup { udid: SMALL_UDID, device_name: "Ben’s iPad", date: &date, files: &files }.write(&folder);
            Generation::at(folder)
        });
        days.collect()
    }

    fn new(generations: impl IntoIterator<Item = Generation>) -> Generations {
        Generations(generations.into_iter().map(|generation| (generation.key.clone(), generation)).collect())
    }

    /// An exported folder is what was imported.
    #[track_caller]
    fn assert_exact(&self, key: &Key, exported: &Folder) {
        assert_same(exported, &self.0[key].folder);
    }
}

/// The program in a home, with variables: which repository, which cache.
struct Program<'h> {
    home: &'h Home,
    variables: Vec<(&'static str, String)>,
    tally: &'h Tally,
}

impl Program<'_> {
    /// Runs a command to its end, or until it is killed.
    fn run(&self, args: &[&str], life: Option<Duration>) -> Option<Said> {
        let started = Instant::now();
        let mut command = self.home.command(&[&["--json", "--quiet"], args].concat());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let said = self.home.said_within(&mut command, life);
        self.tally.count(args[0], said.as_ref().map(|said| said.exit), started.elapsed());
        said
    }

    /// A command that must succeed, and has nothing to warn of; gives its JSON.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> Value {
        let said = self.run(args, None).expect("nobody kills it");
        assert!(said.exit == 0 && said.stderr.is_empty(), "{args:?}: {said:?}");
        json(&said)
    }

    /// The snapshots that are listed: id, device and time.
    #[track_caller]
    fn listed(&self) -> Vec<(String, Key)> {
        rows(&self.ok(&["snapshots"]))
    }

    /// Exports a snapshot that must be there, and compares it.
    #[track_caller]
    fn assert_exact(&self, id: &str, key: &Key, generations: &Generations) {
        let to = tempfile::tempdir_in(self.home.path("")).unwrap();
        self.ok(&["export", id, "--to", to.path().to_str().unwrap()]);
        generations.assert_exact(key, &folder_at(&only_child(to.path())));
    }
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// Id, device and time of snapshots in JSON.
fn rows(listed: &Value) -> Vec<(String, Key)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |row: &Value| (text(&row["id"]), (text(&row["udid"]), text(&row["time"])));
    listed.as_array().unwrap().iter().map(row).collect()
}

/// No session, mark, or temporary file is left in a repository.
#[track_caller]
fn assert_nothing_is_left(repository: &Path) {
    for folder in
        ["sessions", "gc", "tmp"].map(|folder| repository.join(folder)).iter().filter(|folder| folder.exists())
    {
        let left: Vec<String> = folder_at(folder).into_keys().collect();
        assert_eq!(left, [""; 0], "in {}", folder.display());
    }
}

/// How many commands there were, how they ended, and how long those took that were not killed.
#[derive(Default)]
struct Tally(Mutex<BTreeMap<String, Ends>>);

#[derive(Default)]
struct Ends {
    by_exit: BTreeMap<i32, u32>,
    killed: u32,
    longest: Duration,
}

impl Tally {
    fn count(&self, verb: &str, exit: Option<i32>, took: Duration) {
        let mut ends = self.0.lock().unwrap();
        let ends = ends.entry(verb.to_owned()).or_default();
        match exit {
            Some(exit) => {
                *ends.by_exit.entry(exit).or_default() += 1;
                ends.longest = ends.longest.max(took);
            }
            None => ends.killed += 1,
        }
    }

    /// A random moment in the life of a command.
    fn moment(&self, verb: &str, dice: &mut Dice) -> Duration {
        let longest = self.0.lock().unwrap().get(verb).map_or(Duration::ZERO, |ends| ends.longest);
        Duration::from_micros(dice.roll(longest.max(Duration::from_millis(100)).as_micros() as u64))
    }

    fn killed(&self) -> u32 {
        self.0.lock().unwrap().values().map(|ends| ends.killed).sum()
    }

    /// Tells all of it.
    fn print(&self, what: impl Display) {
        println!("{what}");
        println!("{:<12} {:>6} {:>6}  exit codes", "command", "runs", "killed");
        for (verb, Ends { by_exit, killed, .. }) in &*self.0.lock().unwrap() {
            let exits: Vec<String> = by_exit.iter().map(|(exit, number)| format!("{exit}: {number}")).collect();
            let runs = killed + by_exit.values().sum::<u32>();
            println!("{verb:<12} {runs:>6} {killed:>6}  {}", exits.join(", "));
        }
    }
}
