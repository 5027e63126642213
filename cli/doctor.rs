//! `doctor`: whether a drive is fit for a repository.

use std::{borrow::Cow, fs, path::Path};

use heirloom_store::{Finding, Fitness, LocalStorage, Progress, Repository, Storage, try_out};
use serde::Serialize;

use crate::{
    args::Doctor,
    drive::{self, Speed},
    failure::{Exit, Failure, Result},
    interrupt, location,
    report::{Align, Report, Table, of_many, size},
    synced_folder::{not_in_a_synced_folder, synced_by},
};

/// A drive with less room is hardly worth a repository.
const LITTLE_ROOM: u64 = 10_000_000_000;
const SMALL_FILES: u32 = 100;

pub fn run(args: &Doctor, report: &Report) -> Result<Exit> {
    let dir = location::local(&args.dir)?;
    if !dir.is_dir() {
        return Err(Failure::failed(format!("{}: there is no such folder", dir.display()))
            .hint("give a folder on the drive, such as the one where the repository will be"));
    }
    interrupt::catch();
    let examined = examine(dir, args.megabytes.saturating_mul(1_000_000), report)?;
    let verdict = examined.findings.iter().map(|finding| finding.fitness).max().unwrap_or(Fitness::Unfit);
    if report.json {
        report.json(&Row::new(dir, &examined, verdict))?;
    } else {
        print(dir, &examined, verdict, report)?;
    }
    Ok(if verdict == Fitness::Unfit { Exit::Failed } else { Exit::Ok })
}

/// What was found.
struct Examined {
    file_system: Option<String>,
    free_bytes: Option<u64>,
    holds_repository: bool,
    findings: Vec<Finding>,
    speed: Speed,
}

/// Tries everything out in a folder of its own, which is gone afterwards.
fn examine(dir: &Path, bulk_bytes: u64, report: &Report) -> Result<Examined> {
    let storage = LocalStorage::new(dir);
    let mut examined = Examined {
        file_system: drive::file_system(dir),
        free_bytes: storage.free_bytes().ok().flatten(),
        holds_repository: Repository::probe(&storage).is_ok(),
        findings: Vec::new(),
        speed: Speed::default(),
    };
    let folder = match Folder::create(dir) {
        Ok(folder) => folder,
        Err(error) => {
            examined.findings.push(Finding::unfit("write", format!("no folder can be made here: {error}")));
            return Ok(examined);
        }
    };
    let (file_system, free) = (examined.file_system.as_deref(), examined.free_bytes);
    let findings = &mut examined.findings;
    findings.push(drive::about_file_system(file_system));
    findings.extend(synced_by(dir).map(|program| Finding::note("kept the same", not_in_a_synced_folder(&program))));
    findings.extend(free.map(room));
    findings.extend(try_out(&LocalStorage::new(&folder.0.join("repository"))));
    if findings.iter().all(|finding| finding.fitness < Fitness::Unfit) {
        interrupt::check()?;
        findings.push(drive::syncing(&folder.0));
        findings.extend(drive::names(&folder.0));
        findings.push(drive::times(&folder.0));
        findings.push(drive::large_file(&folder.0, drive::LARGE, file_system, free));
        measure(&folder.0, bulk_bytes, free, &mut examined, report)?;
    }
    folder.remove()?;
    Ok(examined)
}

fn measure(folder: &Path, bulk_bytes: u64, free: Option<u64>, examined: &mut Examined, report: &Report) -> Result<()> {
    // Never more than a part of what there is.
    let bytes = free.map_or(bulk_bytes, |free| bulk_bytes.min(free / 4));
    let progress = report.progress("measuring");
    let step = |bytes_done| {
        progress.update(Progress { bytes_done, bytes_total: 2 * bytes, ..Progress::default() });
        interrupt::check()
    };
    examined.findings.push(drive::small_files(folder, SMALL_FILES, &mut examined.speed, &interrupt::check)?);
    examined.findings.extend(drive::bulk(folder, bytes, &mut examined.speed, &step)?);
    Ok(())
}

fn room(free: u64) -> Finding {
    if free < LITTLE_ROOM {
        Finding::note(
            "room",
            format!("{} free is little: the first backup of a phone takes about what is on it", size(free)),
        )
    } else {
        Finding::fit("room", format!("{} free", size(free)))
    }
}

/// A folder that is removed with all that is in it.
struct Folder(std::path::PathBuf);

impl Folder {
    fn create(dir: &Path) -> std::io::Result<Folder> {
        let name = |number: u32| dir.join(format!("heirloom-doctor-{}-{number}", std::process::id()));
        let mut number = 0;
        loop {
            match fs::create_dir(name(number)) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                created => return created.map(|()| Folder(name(number))),
            }
        }
    }

    fn remove(self) -> Result<()> {
        let removed = fs::remove_dir_all(&self.0);
        removed.map_err(|error| Failure::failed(format!("cannot remove {}: {error}", self.0.display())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn print(dir: &Path, examined: &Examined, verdict: Fitness, report: &Report) -> Result<()> {
    let mut table = Table::new(&[("TRIED", Align::Left), ("RESULT", Align::Left), ("", Align::Left)]);
    for Finding { what, fitness, detail } in &examined.findings {
        table.row([(*what).to_owned(), word(*fitness).to_owned(), detail.clone()]);
    }
    table.print(report)?;
    if examined.holds_repository {
        report.note("There is a repository in this folder. It was left alone; `heirloom check` looks at it.");
    }
    let notes = examined.findings.iter().filter(|finding| finding.fitness == Fitness::Note).count() as u64;
    let dir = dir.display();
    report.line(match verdict {
        Fitness::Fit => format!("{dir} is fit for a repository"),
        Fitness::Note => format!("{dir} is fit for a repository, with {}", of_many(notes, "note", "notes")),
        Fitness::Unfit => format!("{dir} is not fit for a repository"),
    })?;
    if verdict == Fitness::Unfit {
        report.note("hint: see that you may write there and that there is room; else try another cable or port, format the drive anew, or take another one");
    }
    Ok(())
}

fn word(fitness: Fitness) -> &'static str {
    match fitness {
        Fitness::Fit => "ok",
        Fitness::Note => "note",
        Fitness::Unfit => "unfit",
    }
}

/// The result in JSON.
#[derive(Serialize)]
struct Row<'a> {
    path: Cow<'a, str>,
    /// `ok`, `note` or `unfit`, as for each finding.
    verdict: &'static str,
    file_system: Option<&'a str>,
    free_bytes: Option<u64>,
    holds_repository: bool,
    write_bytes_per_second: u64,
    read_bytes_per_second: u64,
    small_file_seconds: f64,
    findings: Vec<FindingRow<'a>>,
}

#[derive(Serialize)]
struct FindingRow<'a> {
    what: &'a str,
    result: &'static str,
    detail: &'a str,
}

impl<'a> Row<'a> {
    fn new(path: &'a Path, examined: &'a Examined, verdict: Fitness) -> Row<'a> {
        let row = |finding: &'a Finding| FindingRow {
            what: finding.what,
            result: word(finding.fitness),
            detail: &finding.detail,
        };
        Row {
            path: path.to_string_lossy(),
            verdict: word(verdict),
            file_system: examined.file_system.as_deref(),
            free_bytes: examined.free_bytes,
            holds_repository: examined.holds_repository,
            write_bytes_per_second: examined.speed.write,
            read_bytes_per_second: examined.speed.read,
            small_file_seconds: examined.speed.small_file.as_secs_f64(),
            findings: examined.findings.iter().map(row).collect(),
        }
    }
}
