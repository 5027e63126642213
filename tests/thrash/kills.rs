//! One command after another, killed at any moment of its life.
//!
//! Each kind of command has a repository in which there is work for it. It runs there undisturbed once, which tells how long it takes; then in copies of
//! that repository, in which it is killed, asked for what it left, killed again perhaps, and in the end let finish.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use heirloom_sim::{Options, Phone, Simulator};

use super::{Dice, Generation, Generations, Key, PHONE_BYTES, Program, Tally, assert_nothing_is_left, number_of, seed};
use crate::support::{
    folder::copy_folder,
    program::{Home, Said, only_child},
};

const KILLS_DEFAULT: u64 = 12;
const DAYS: u64 = 4;
const BACKUP_PASSWORD: &str = "a backup password";
/// A run is killed so often before it may finish.
const KILLS_EACH: u64 = 3;

/// Work for one kind of command.
struct Work {
    args: Vec<String>,
    /// The folder that holds the repositories in which there is work.
    before: PathBuf,
    /// The one that the command changes.
    changed: &'static str,
    /// What must come out of that at any moment, and at the end. Nothing else is in it.
    always: BTreeSet<Key>,
    finally: BTreeSet<Key>,
    /// Whether what it is to mend is damaged until it has ended.
    mends: bool,
    takes: Duration,
}

/// All that is killed.
struct Kills {
    home: Home,
    generations: Generations,
    tally: Tally,
    /// How often a kill came too late, and how often what was left had files without parity.
    late: u32,
    without_parity: u32,
}

impl Kills {
    fn new(dice: &mut Dice) -> (Kills, Vec<Work>) {
        let home = Home::new();
        let mut days = Generations::of_a_phone(dice.roll(1000), DAYS, &home.path(""));
        let encrypted = encrypted_days(&home, dice.roll(1000));
        let paths: Vec<String> = days.iter().map(|day| day.path().to_owned()).collect();
        let keys: Vec<Key> = days.iter().map(|day| day.key.clone()).collect();
        let of_ciphertext: BTreeSet<Key> = encrypted.iter().map(|day| day.key.clone()).collect();
        days.extend(encrypted);
        let kills =
            Kills { home, generations: Generations::new(days), tally: Tally::default(), late: 0, without_parity: 0 };
        let all: BTreeSet<Key> = keys.iter().cloned().collect();
        let of = |days: &[usize]| days.iter().map(|day| keys[*day].clone()).collect::<BTreeSet<Key>>();

        let mut works = vec![
            kills.work("import", &["import", &paths[1], &paths[2]], of(&[0]), of(&[0, 1, 2])),
            kills.work("prune", &["prune", "--max-unused", "0"], of(&[1, 3]), of(&[1, 3])),
            kills.work("copy", &["copy", "--to", "{second}"], BTreeSet::new(), all.clone()),
            kills.work("unseal", &["unseal", "--plain-is-fine"], of_ciphertext.clone(), of_ciphertext),
            kills.work("repair", &["repair"], all.clone(), all),
        ];
        works[2].changed = "second";
        works[4].mends = true;
        for (work, prepare) in
            works.iter().zip([prepare_import, prepare_prune, prepare_copy, prepare_unseal, prepare_repair])
        {
            prepare(&kills.home, &work.before, &paths);
        }
        works.iter_mut().for_each(|work| work.takes = kills.measure(work));
        (kills, works)
    }

    fn work(&self, verb: &str, args: &[&str], always: BTreeSet<Key>, finally: BTreeSet<Key>) -> Work {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let before = self.home.path(&format!("before-{verb}"));
        fs::create_dir(&before).unwrap();
        Work { args, before, changed: "repo", always, finally, mends: false, takes: Duration::ZERO }
    }

    /// Runs it undisturbed; gives how long that takes.
    fn measure(&self, work: &Work) -> Duration {
        let run = Run::new(self, work);
        let started = Instant::now();
        run.ok();
        let takes = started.elapsed();
        run.verify(&work.finally, true);
        takes
    }

    /// Kills the same run up to so many times; gives how often that was.
    fn kill(&mut self, work: &Work, most: u64, dice: &mut Dice) -> u64 {
        let run = Run::new(self, work);
        let mut kills = 0;
        let (mut late, mut without_parity) = (0, 0);
        while kills < most {
            let life = work.takes * dice.roll(1000) as u32 / 1000;
            let Some(said) = run.command(Some(life)) else {
                kills += 1;
                without_parity += u32::from(!work.mends && !run.verify(&work.always, false));
                continue;
            };
            assert!(said.exit == 0 && said.stderr.is_empty(), "{said:?}");
            late += 1;
            break;
        }
        run.ok();
        without_parity += u32::from(!run.verify(&work.finally, true));
        self.late += late;
        self.without_parity += without_parity;
        kills
    }
}

/// A copy of the repositories of a [`Work`].
struct Run<'k> {
    kills: &'k Kills,
    work: &'k Work,
    dir: tempfile::TempDir,
}

impl<'k> Run<'k> {
    fn new(kills: &'k Kills, work: &'k Work) -> Run<'k> {
        let dir = tempfile::tempdir_in(kills.home.path("")).unwrap();
        copy_folder(&work.before, dir.path());
        Run { kills, work, dir }
    }

    fn program(&self, repository: &str) -> Program<'k> {
        let path = |inside: &str| self.dir.path().join(inside).to_str().unwrap().to_owned();
        let variables = vec![
            ("HEIRLOOM_REPOSITORY", path(repository)),
            ("XDG_CACHE_HOME", path("cache")),
            ("HEIRLOOM_BACKUP_PASSWORD", BACKUP_PASSWORD.to_owned()),
        ];
        Program { home: &self.kills.home, variables, tally: &self.kills.tally }
    }

    fn args(&self) -> Vec<String> {
        let second = self.dir.path().join("second").to_str().unwrap().to_owned();
        self.work.args.iter().map(|arg| arg.replace("{second}", &second)).collect()
    }

    fn command(&self, life: Option<Duration>) -> Option<Said> {
        let args = self.args();
        self.program("repo").run(&args.iter().map(String::as_str).collect::<Vec<_>>(), life)
    }

    fn ok(&self) {
        let said = self.command(None).expect("nobody kills it");
        assert!(said.exit == 0 && said.stderr.is_empty(), "{said:?}");
    }

    /// All of `wanted` is there, everything that is there is exact, and a check finds nothing; gives whether it did not even find a file that
    /// has no parity yet, which costs nobody anything.
    fn verify(&self, wanted: &BTreeSet<Key>, is_at_end: bool) -> bool {
        let program = self.program(self.work.changed);
        let said = program.run(&["check", "--read-data"], None).expect("nobody kills it");
        let found: serde_json::Value =
            serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        let problems = found["problems"].as_array().unwrap();
        let lacks_parity = |problem: &serde_json::Value| {
            problem["what"] == "it is missing" && problem["file"].as_str().unwrap().starts_with("parity/")
        };
        assert!(problems.iter().all(lacks_parity) && found["affected"] == serde_json::json!([]), "{said:?}");
        let listed = program.listed();
        let there: BTreeSet<Key> = listed.iter().map(|(_, key)| key.clone()).collect();
        assert!(there.is_superset(wanted), "{:?} are lost", wanted.difference(&there));
        listed.iter().for_each(|(id, key)| program.assert_exact(id, key, &self.kills.generations));
        if is_at_end {
            assert_eq!(there, *wanted);
            assert_nothing_is_left(&self.dir.path().join(self.work.changed));
        }
        problems.is_empty()
    }
}

/// Full backups of a phone that encrypts, kept as ciphertext in `repo` of the home, and what they are.
fn encrypted_days(home: &Home, seed: u64) -> Vec<Generation> {
    let options = Options { password: Some(BACKUP_PASSWORD.to_owned()), ..Options::default() };
    let simulator = Simulator::start(Phone::new(seed, PHONE_BYTES).unwrap(), options).unwrap();
    let address = simulator.address();
    let run = |args: &[&str]| {
        let said = home.run_with(&[("USBMUXD_SOCKET_ADDRESS", &address)], args);
        assert_eq!(said.exit, 0, "{said:?}");
    };
    run(&["pair"]);
    let days = (0..2).map(|day| {
        if day > 0 {
            simulator.live_one_day().unwrap();
        }
        run(&["backup", "--full", "--as-ciphertext"]);
        let to = home.path(&format!("encrypted{day}"));
        run(&["export", "latest", "--to", to.to_str().unwrap()]);
        Generation::at(only_child(&to))
    });
    days.collect()
}

/// A repository into which some days were imported.
fn with_days(home: &Home, before: &Path, days: &[String]) -> String {
    let repository = before.join("repo").to_str().unwrap().to_owned();
    home.ok(&["--repo", &repository, "init", "--no-password", "--parity"]);
    for day in days {
        home.ok(&["--repo", &repository, "import", day]);
    }
    repository
}

fn prepare_import(home: &Home, before: &Path, days: &[String]) {
    with_days(home, before, &days[..1]);
}

fn prepare_prune(home: &Home, before: &Path, days: &[String]) {
    let repository = with_days(home, before, days);
    home.ok(&["--repo", &repository, "forget", "latest~1", "latest~3"]);
}

/// The copy goes into `second` beside it.
fn prepare_copy(home: &Home, before: &Path, days: &[String]) {
    with_days(home, before, days);
    home.ok(&["--repo", before.join("second").to_str().unwrap(), "init", "--no-password", "--parity"]);
}

fn prepare_unseal(home: &Home, before: &Path, _: &[String]) {
    copy_folder(&home.path("repo"), &before.join("repo"));
}

/// A sector of each pack is bad, and a segment and a snapshot's record are.
fn prepare_repair(home: &Home, before: &Path, days: &[String]) {
    let repository = PathBuf::from(with_days(home, before, days));
    let mut files: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    for folder in ["packs", "trees", "index", "snapshots"] {
        collect_files(&repository.join(folder), files.entry(folder).or_default());
    }
    let damaged =
        files["packs"].iter().chain(&files["trees"]).chain(files["index"].first()).chain(files["snapshots"].first());
    for path in damaged {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() / 3;
        bytes[at..at + 10].iter_mut().for_each(|byte| *byte ^= 0xff);
        fs::write(path, bytes).unwrap();
    }
}

fn collect_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect_files(&path, into) } else { into.push(path) }
    }
    into.sort();
}

#[test]
fn a_kill_at_any_moment_costs_a_run_and_no_more() {
    let mut dice = Dice(seed());
    let (mut kills, works) = Kills::new(&mut dice);
    let mut left = number_of("HEIRLOOM_KILLS").unwrap_or(KILLS_DEFAULT);
    for work in works.iter().cycle() {
        if left == 0 {
            break;
        }
        left -= kills.kill(work, (1 + dice.roll(KILLS_EACH)).min(left), &mut dice);
    }
    for work in &works {
        println!("{} takes {:.2} s", work.args[0], work.takes.as_secs_f64());
    }
    let Kills { late, without_parity, tally, .. } = &kills;
    tally.print(format_args!(
        "{} kills, {late} came too late, {without_parity} left a file without parity",
        tally.killed()
    ));
}
