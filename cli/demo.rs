//! `demo`: the main job against a made-up phone, nothing else needed.
//!
//! Three days of a phone are written as backup folders and taken in; the second day is exported and compared with a copy.

use std::{
    fs::{self, File, FileTimes},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use heirloom_device::backup::find_backups;
use heirloom_sim::{Phone, write_backup};
use heirloom_store::{Options, Repository, Snapshot, TreePath};

use crate::{
    access,
    args::{Demo, Global},
    backup_folder::{self, Contents},
    export,
    failure::{Exit, Failure, Result},
    identity::Identity,
    import::{self, Taken},
    interrupt,
    report::{Report, duration, files, size},
};

const SEED: u64 = 7;
const DAYS: u32 = 3;
/// The day that is exported and compared.
const COMPARED_DAY: u32 = 2;

pub fn run(args: &Demo, report: &Report) -> Result<Exit> {
    let started = Instant::now();
    make_new(&args.dir)?;
    interrupt::catch();
    let scratch = Scratch::new()?;
    let repository = create(&args.dir, report)?;
    report
        .line(format_args!("Three days of backups of a phone that does not exist, kept in {}.", args.dir.display()))?;
    report.line("The repository gets no password, so that you can look around in it.\n")?;
    let (compared, folders_bytes) = live(&repository, args.size, &scratch, report)?;
    let repository_bytes = read_folder(&args.dir)?.bytes;
    report.line(format_args!(
        "\nThree copies would take {}; the repository takes {}.",
        size(folders_bytes),
        size(repository_bytes)
    ))?;
    compare_export(&repository, &compared, &scratch, report)?;
    report.line(format_args!("That took {}. To look around:\n", duration(started.elapsed())))?;
    invite(&args.dir, report)?;
    Ok(Exit::Ok)
}

/// Reads a number of bytes: `60M`, `2G`, `1500000`; powers of 1000, as sizes are written.
pub fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let factor = match unit.trim().to_ascii_uppercase().trim_end_matches('B') {
        "" => 1.0,
        "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        _ => return Err(format!("{unit:?} is no unit: use K, M, G or T")),
    };
    let number: f64 = number.parse().map_err(|_| "not a size such as 60M".to_owned())?;
    Ok((number * factor) as u64)
}

/// Lives through the days, and returns the snapshot that is to be compared, and what all backup folders held together.
fn live(repository: &Repository, bytes: u64, scratch: &Scratch, report: &Report) -> Result<(Snapshot, u64)> {
    let mut phone = Phone::new(SEED, bytes).map_err(failed)?;
    let mut compared = None;
    let mut folders_bytes = 0;
    for day in 1..=DAYS {
        interrupt::check()?;
        if day > 1 {
            phone.live_one_day().map_err(failed)?;
        }
        let written = write_backup(&phone, &scratch.phone_backups()).map_err(failed)?;
        if day == COMPARED_DAY {
            copy_folder(&scratch.phone_backups().join(phone.udid()), &scratch.kept_copy())?;
        }
        let Taken { snapshot, .. } = take_in(repository, &scratch.phone_backups(), report)?;
        let record = &snapshot.record;
        folders_bytes += record.bytes;
        report.line(format_args!(
            "day {day}  {}: {}, {}; {} new or changed on the phone  ->  snapshot {}, {} added",
            crate::report::printable(phone.name()),
            files(record.files),
            size(record.bytes),
            size(written.written_bytes),
            snapshot.id.short(),
            size(record.added_bytes)
        ))?;
        report.flush()?;
        if day == COMPARED_DAY {
            compared = Some(snapshot);
        }
    }
    let compared = compared.ok_or_else(|| Failure::failed("the demo has no day to compare"))?;
    Ok((compared, folders_bytes))
}

fn take_in(repository: &Repository, folder: &Path, report: &Report) -> Result<Taken> {
    let found = find_backups(folder).map_err(|error| Failure::failed(error.to_string()))?;
    let backup = found.backups.first().ok_or_else(|| Failure::failed("the made-up phone left no backup"))?;
    import::take_in(repository, Identity::read(backup)?, import::Options::default(), report)
}

fn compare_export(repository: &Repository, snapshot: &Snapshot, scratch: &Scratch, report: &Report) -> Result<()> {
    let (target, _) = export::write(repository, snapshot, scratch.exports(), false, report)?;
    let same = compare(&scratch.kept_copy(), &target)?;
    report.line(format_args!(
        "Exported day {COMPARED_DAY} and compared it with a copy made on that day: {}, every byte and time the same.",
        files(same)
    ))
}

/// Compares two folders: names, times, bytes. Returns how many files they have.
fn compare(one: &Path, other: &Path) -> Result<u64> {
    let (contents, others) = (read_folder(one)?, read_folder(other)?);
    if contents.empty_folders != others.empty_folders {
        return Err(Failure::failed("the export has other empty folders than the copy"));
    }
    let number = contents.files();
    if number != others.files() {
        return Err(Failure::failed(format!("the export has {} instead of {}", files(others.files()), files(number))));
    }
    for ((place, stamp), (other_place, other_stamp)) in contents.into_rest().zip(others.into_rest()) {
        let is_same = place == other_place
            && (stamp.size, stamp.mtime_ns) == (other_stamp.size, other_stamp.mtime_ns)
            && same_bytes(&mut open(one, &place)?, &mut open(other, &place)?).map_err(failed)?;
        if !is_same {
            return Err(Failure::failed(format!("{place} is not the same in the export as in the copy")));
        }
    }
    Ok(number)
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

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let contents = read_folder(from)?;
    for folder in &contents.empty_folders {
        fs::create_dir_all(to.join(folder.as_str())).map_err(failed)?;
    }
    for (place, _) in contents.into_rest() {
        let (from, to) = (from.join(place.as_str()), to.join(place.as_str()));
        copy_file(&from, &to).map_err(failed)?;
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    to.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::copy(from, to)?;
    let modified: SystemTime = fs::metadata(from)?.modified()?;
    File::options().write(true).open(to)?.set_times(FileTimes::new().set_modified(modified))
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

fn create(dir: &Path, report: &Report) -> Result<Repository> {
    Repository::create(access::storage(dir), None, &Options::default())?;
    access::open(&Global { repo: Some(dir.to_owned()), ..Global::default() }, report)
}

fn invite(dir: &Path, report: &Report) -> Result<()> {
    let repository = dir.display();
    for command in [
        "snapshots",
        "ls latest",
        "ls latest HomeDomain:Library/SMS",
        "export latest~1 --to restored",
        "check --read-data",
    ] {
        report.line(format_args!("  heirloom --repo {repository} {command}"))?;
    }
    Ok(())
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

    fn phone_backups(&self) -> PathBuf {
        self.0.join("phone")
    }

    fn kept_copy(&self) -> PathBuf {
        self.0.join("copy")
    }

    fn exports(&self) -> PathBuf {
        self.0.join("export")
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
    fn sizes_are_read_as_they_are_written() {
        for (text, bytes) in [("60M", 60_000_000), ("1.5 GB", 1_500_000_000), ("17", 17), ("2k", 2000)] {
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for bad in ["", "M", "1.2.3M", "-5", "5 parsecs"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_copy_is_the_same_until_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        fs::create_dir_all(one.join("a")).unwrap();
        fs::write(one.join("a/file"), "x".repeat(3 << 20)).unwrap();
        fs::write(one.join("empty"), "").unwrap();
        fs::create_dir(one.join("nothing")).unwrap();
        copy_folder(&one, &other).unwrap();
        assert_eq!(compare(&one, &other).unwrap(), 2);

        let modified = fs::metadata(other.join("a/file")).unwrap().modified().unwrap();
        fs::write(other.join("a/file"), "x".repeat((3 << 20) - 1) + "y").unwrap();
        File::options()
            .write(true)
            .open(other.join("a/file"))
            .unwrap()
            .set_times(FileTimes::new().set_modified(modified))
            .unwrap();
        assert!(compare(&one, &other).unwrap_err().message.contains("a/file"), "a byte differs");

        fs::remove_file(other.join("a/file")).unwrap();
        assert!(compare(&one, &other).is_err(), "a file is gone");
    }
}
