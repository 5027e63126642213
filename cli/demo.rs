//! `demo`: the main job against a simulated phone, nothing else needed.
//!
//! The phone is paired and backed up over a socket that speaks as usbmuxd does, on three days running; the first day is
//! exported, and restored to the phone. Both are compared with a second phone of the same seed that has not gone on.

use std::{
    env,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::Instant,
};

use heirloom_device::mobilebackup2::Preset;
use heirloom_sim::{Kind, Phone as SimulatedPhone, Simulator};
use heirloom_store::{Repository, Snapshot, TreePath};

use crate::{
    access,
    args::{Demo, Global},
    backup::{self, Taken},
    backup_folder::{self, Contents},
    clock, export,
    failure::{Exit, Failure, Result},
    interrupt, location,
    pair::pair,
    phone::{self, Phone},
    report::{Report, duration, files, for_shell, size},
    restore,
    warnings::Warnings,
};

const SEED: u64 = 7;
const DAYS: u32 = 3;
/// Where the demo proposes to export to.
const RESTORED: &str = "heirloom-demo-restored";

pub fn run(args: &Demo) -> Result<Exit> {
    // It is over in seconds, and says itself what it does.
    let report = Report::new(&Global { quiet: true, ..Global::default() });
    let exit = show(args, &report);
    report.flush()?;
    exit
}

fn show(args: &Demo, report: &Report) -> Result<Exit> {
    let started = Instant::now();
    if !args.dir.exists() {
        location::outside_repositories(&args.dir)?;
    }
    make_new(location::local(&args.dir)?)?;
    interrupt::catch();
    let scratch = Scratch::new()?;
    let repository = access::create_demo(&args.dir)?;
    let begins = beginning();
    let simulator = simulated(args.size, begins)?;
    let mux = phone::muxer_at(&simulator.address())?;
    let found = phone::choose_one(&mux, None)?;
    report.line(format_args!("A phone that does not exist, {}, is at {}.", found.title(), simulator.address()))?;
    let paired = pair(&mux, &found.device, report)?;
    report.line(format_args!("Paired: {} trusts this computer now.\n", paired.name()))?;
    drop(paired);
    let mut days = Vec::new();
    for day in 1..=DAYS {
        interrupt::check()?;
        if day > 1 {
            simulator.live_one_day().map_err(failed)?;
        }
        let taken = backup::back_up(&repository, &mux, &found.device, backup::Options::default(), report)?;
        report.line(line_of_day(day, &taken))?;
        report.flush()?;
        days.push(taken.snapshot);
    }
    let all_bytes = days.iter().map(|snapshot| snapshot.record.bytes).sum();
    report.line(format_args!(
        "\nThree copies would take {}; the repository, in {}, takes {}.",
        size(all_bytes),
        args.dir.display(),
        size(read_folder(&args.dir)?.bytes)
    ))?;
    let of_day_one = SimulatedPhone::new_at(SEED, args.size, begins).map_err(failed)?;
    compare_export(&repository, &days[0], &of_day_one, &scratch, report)?;
    let mut target = Phone::connect(&mux, &found.device)?;
    let warnings = Warnings::new(report);
    restore::restore(&repository, &days[0], &mut target, Preset::Migrate, None, &warnings)?;
    compare_restored(&simulator, &of_day_one, report)?;
    match simulator.complaints().first() {
        Some(complaint) => Err(Failure::failed(format!("the phone complained: {complaint}"))),
        None => invite(&args.dir, started, report),
    }
}

/// When the phone's first day is, in seconds since 1970: so that its last is today.
fn beginning() -> i64 {
    const DAY: i64 = 24 * 60 * 60;
    let today = clock::now().clamp(1_000_000_000, 4_000_000_000);
    today - i64::from(DAYS - 1) * DAY - 60
}

fn simulated(bytes: u64, begins: i64) -> Result<Simulator> {
    let phone = SimulatedPhone::new_at(SEED, bytes, begins).map_err(failed)?;
    Simulator::start(phone, heirloom_sim::Options::default()).map_err(failed)
}

fn line_of_day(day: u32, Taken { snapshot, transferred, .. }: &Taken) -> String {
    let record = &snapshot.record;
    format!(
        "Day {day}: {}, {} on the phone; it sent {}  ->  snapshot {}, {} added",
        files(record.files),
        size(record.bytes),
        size(transferred.received.bytes),
        snapshot.id.short(),
        size(record.added_bytes)
    )
}

/// Exports a snapshot and compares each file's bytes with the phone's own.
fn compare_export(
    repository: &Repository,
    snapshot: &Snapshot,
    phone: &SimulatedPhone,
    scratch: &Scratch,
    report: &Report,
) -> Result<()> {
    let (folder, _) = export::write(repository, snapshot, scratch.0.clone(), false, report)?;
    let mut same = 0;
    for (location, file) in phone.files().filter(|(_, file)| file.kind == Kind::File) {
        let id = location.file_id();
        let mut exported = open(&folder, &TreePath::new(&format!("{}/{id}", &id[..2]))?)?;
        if !same_bytes(&mut exported, &mut *file.open().map_err(failed)?).map_err(failed)? {
            return Err(Failure::failed(format!("{location} is not the same in the export as on the phone")));
        }
        same += 1;
    }
    report.line(format_args!(
        "Exported day 1 as a folder for Finder: {}, every byte as it was on the phone.",
        files(same)
    ))
}

fn compare_restored(simulator: &Simulator, phone: &SimulatedPhone, report: &Report) -> Result<()> {
    let restored = simulator.restored().unwrap_or_default();
    let mut same = 0;
    for (location, file) in phone.files() {
        let there = restored.get(location).map_or(Ok(false), |restored| restored.is_same(file)).map_err(failed)?;
        if !there {
            return Err(Failure::failed(format!("{location} is not as it was on day 1")));
        }
        same += u64::from(file.kind == Kind::File);
    }
    if restored.len() != phone.files().count() {
        return Err(Failure::failed("the phone holds more than it did on day 1"));
    }
    report.line(format_args!("Restored the phone to day 1: {}, every byte and time as it was.", files(same)))
}

fn same_bytes(one: &mut dyn Read, other: &mut dyn Read) -> io::Result<bool> {
    let (mut these, mut those) = (Vec::new(), Vec::new());
    loop {
        these.clear();
        those.clear();
        one.take(1 << 20).read_to_end(&mut these)?;
        other.take(1 << 20).read_to_end(&mut those)?;
        if these != those {
            return Ok(false);
        }
        if these.is_empty() {
            return Ok(true);
        }
    }
}

fn open(root: &Path, place: &TreePath) -> Result<File> {
    backup_folder::open(root, place).map(|(file, _)| file).map_err(failed)
}

fn read_folder(path: &Path) -> Result<Contents> {
    let mut odd = Vec::new();
    let contents = Contents::read(path, &mut |warning| odd.push(warning)).map_err(failed)?;
    odd.pop().map_or(Ok(contents), |warning| Err(Failure::failed(warning)))
}

fn make_new(dir: &Path) -> Result<()> {
    fs::create_dir(dir).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::failed(format!("{} exists", dir.display())).hint(
            "the demo overwrites nothing: delete the folder if it is from an earlier demo, or give another with --dir",
        ),
        _ => Failure::failed(format!("cannot create {}: {error}", dir.display())),
    })
}

fn invite(dir: &Path, started: Instant, report: &Report) -> Result<Exit> {
    report.line(format_args!(
        "That took {}. The repository has no password; to look around:\n",
        duration(started.elapsed())
    ))?;
    let (program, repository) = (as_typed(), for_shell(dir));
    let restored = for_shell(&dir.with_file_name(RESTORED));
    for command in [
        "snapshots".to_owned(),
        "ls latest".to_owned(),
        "ls latest HomeDomain:Library/SMS".to_owned(),
        format!("export latest~1 --to {restored}"),
        "check --read-data".to_owned(),
    ] {
        report.line(format_args!("  {program} --repo {repository} {command}"))?;
    }
    Ok(Exit::Ok)
}

/// How this program is started from where the person is: by its name if the system finds that, else by its path.
fn as_typed() -> String {
    const NAME: &str = "heirloom";
    let Ok(program) = env::current_exe().and_then(fs::canonicalize) else { return NAME.to_owned() };
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(program.file_name().unwrap_or(NAME.as_ref())));
    let first = found.into_iter().find(|found| found.is_file());
    if first.and_then(|found| fs::canonicalize(found).ok()).as_ref() == Some(&program) {
        return NAME.to_owned();
    }
    let here = env::current_dir().and_then(fs::canonicalize).ok();
    let below = here.and_then(|here| program.strip_prefix(here).map(Path::to_owned).ok());
    // Without a folder in front, a shell would not look here.
    for_shell(&below.map_or(program, |below| Path::new(".").join(below)))
}

fn failed(error: io::Error) -> Failure {
    Failure::failed(format!("the demo failed: {error}"))
}

/// A new folder beside other temporary things, deleted in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch> {
        let path = std::env::temp_dir().join(format!("heirloom-demo-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| Failure::failed(format!("cannot create {}: {error}", path.display())))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is in the system's folder for that.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_the_same_until_they_are_not() {
        let long = "x".repeat(3 << 20);
        let same = |one: &str, other: &str| same_bytes(&mut one.as_bytes(), &mut other.as_bytes()).unwrap();
        assert!(same(&long, &long));
        assert!(!same(&long, &long[1..]));
        assert!(!same(&long, &(long[1..].to_owned() + "y")));
    }
}
