//! `copy`: snapshots into another repository, which has another password and other keys.

use std::{cell::Cell, collections::BTreeSet};

use heirloom_store::{
    Copied, Copier, CopyProgress, Error as StoreError, Outcome, Problem, Progress, Repository, Snapshot,
};
use serde::Serialize;

use crate::{
    access,
    args::{CopySnapshots, Global},
    failure::{Exit, Failure, Result, of_repository},
    interrupt, location,
    password::Password,
    report::{Report, count, files, of_many, size},
    snapshot_spec,
    snapshots::{self, Row as SnapshotRow, title},
};

/// A snapshot counts for the time that is left by what it made its repository grow, and by this part of its length.
const LENGTH_COUNTS: u64 = 200;

pub fn run(args: &CopySnapshots, global: &Global, report: &Report) -> Result<Exit> {
    let from = access::repository_path(global)?;
    if location::is_same(from, &args.to) {
        return Err(Failure::new(Exit::Usage, "the repository cannot be copied to itself")
            .hint("give the folder of another one with --to"));
    }
    let source = access::open(global, report)?;
    let target = access::open_other(&args.to, Password::TO, report)?;
    let copier = Copier::new(&source, &target)?;
    let mut summary = Summary::default();
    for problem in copier.problems() {
        report.warn(of_repository("the", problem));
        summary.exit = Exit::Incomplete;
    }
    let wanted = wanted(&copier, args)?;
    check_open_to_all(&copier, &target, &wanted, args)?;
    if args.dry_run {
        return dry_run(&copier, &wanted, report).map(|()| summary.exit);
    }
    interrupt::catch();
    copy_all(copier, (&*source, &*target), &wanted, &mut summary, report)?;
    summary.finish(report)
}

/// The snapshots that were named, or all, of the devices that are meant.
fn wanted(copier: &Copier, args: &CopySnapshots) -> Result<Vec<Snapshot>> {
    let mut wanted = copier.snapshots();
    if !args.snapshots.is_empty() {
        let all = copier.by_age();
        let named = args.snapshots.iter().map(|spec| snapshot_spec::find(spec, all).map(|snapshot| snapshot.id));
        let named = named.collect::<Result<Vec<_>>>()?;
        wanted.retain(|snapshot| named.contains(&snapshot.id));
    }
    Ok(snapshots::of_device(&wanted, args.udid.as_deref())?.into_iter().cloned().collect())
}

/// Refuses to lay open what the phone had encrypted, unless that was said to be fine.
fn check_open_to_all(copier: &Copier, target: &Repository, wanted: &[Snapshot], args: &CopySnapshots) -> Result<()> {
    let is_laid_open = |snapshot: &&Snapshot| snapshot.record.sealed && copier.copy_of(snapshot).is_none();
    match wanted.iter().find(is_laid_open) {
        Some(snapshot) if !target.needs_password() && !args.plain_is_fine => Err(Failure::failed(format!(
            "{}: {} has no password: what the phone encrypted would be readable for whoever has the folder",
            title(snapshot),
            args.to.display()
        ))
        .hint("give --plain-is-fine if it may be, or set a password with `heirloom key change`")),
        _ => Ok(()),
    }
}

fn dry_run(copier: &Copier, wanted: &[Snapshot], report: &Report) -> Result<()> {
    let mut rows = Vec::new();
    let mut added_bytes = 0;
    for snapshot in wanted {
        let copy = copier.copy_of(snapshot);
        rows.push(ResultRow::new(snapshot, if copy.is_some() { "known" } else { "wanted" }, copy, false));
        if copy.is_none() {
            added_bytes += snapshot.record.added_bytes;
            if !report.json {
                report.line(format_args!("would copy {}", line_of(snapshot)))?;
            }
        }
    }
    if report.json {
        report.json(&rows)?;
    } else {
        let missing = rows.iter().filter(|row| row.outcome == "wanted").count() as u64;
        report.note(format_args!(
            "{} of {} would be copied, about {}",
            count(missing),
            of_many(rows.len() as u64, "snapshot", "snapshots"),
            size(added_bytes)
        ));
    }
    Ok(())
}

/// Copies what is not there yet. What is pinned here is pinned there, too.
fn copy_all(
    mut copier: Copier,
    (source, target): (&Repository, &Repository),
    wanted: &[Snapshot],
    summary: &mut Summary,
    report: &Report,
) -> Result<()> {
    let pins = source.pins()?;
    let missing = wanted.iter().filter(|snapshot| copier.copy_of(snapshot).is_none());
    let pace = Pace { all: missing.map(weight).sum(), ..Pace::default() };
    let progress = report.progress("copying");
    for snapshot in wanted {
        interrupt::check()?;
        let is_known = copier.copy_of(snapshot).is_some();
        if !is_known {
            report.detail(format_args!("copying {}", line_of(snapshot)));
        }
        let copied = copier.copy(snapshot, &mut |now| {
            let (done, part) = pace.at(snapshot, now);
            progress.update_part(done, Some(part));
            interrupt::go_on()
        });
        if !is_known {
            pace.end(snapshot);
        }
        match copied {
            Ok(copied) => {
                let is_pinned = pins.contains(&snapshot.id);
                if is_pinned {
                    target.pin(&copied.snapshot.id)?;
                }
                summary.add(snapshot, copied, is_pinned, report)?;
            }
            Err(StoreError::SnapshotGone { id }) if id == snapshot.id => {
                report.note(format_args!("{} was forgotten meanwhile, and is not copied", title(snapshot)));
                summary.rows.push(ResultRow::new(snapshot, "forgotten", None, false));
            }
            Err(error) if error.is_damage() || error.is_newer() => {
                summary.lose(snapshot, &Failure::from(error), report)
            }
            Err(error) => return Err(Failure::from(error)),
        }
    }
    Ok(())
}

/// How far all of it is.
#[derive(Default)]
struct Pace {
    all: u64,
    done: Cell<u64>,
    files: Cell<u64>,
    read_bytes: Cell<u64>,
    /// Of the snapshot that is being copied.
    current: Cell<CopyProgress>,
}

impl Pace {
    /// Files passed and bytes read so far, and which part of all that is.
    fn at(&self, snapshot: &Snapshot, now: CopyProgress) -> (Progress, f64) {
        self.current.set(now);
        let passed = now.passed.bytes_done as f64 / now.passed.bytes_total.max(1) as f64;
        let done = self.done.get() as f64 + passed.min(1.0) * weight(snapshot) as f64;
        let progress = Progress {
            files_done: self.files.get() + now.passed.files_done,
            bytes_done: self.read_bytes.get() + now.read_bytes,
            ..Progress::default()
        };
        (progress, done / self.all.max(1) as f64)
    }

    fn end(&self, snapshot: &Snapshot) {
        let CopyProgress { passed, read_bytes } = self.current.take();
        self.done.set(self.done.get() + weight(snapshot));
        self.files.set(self.files.get() + passed.files_done);
        self.read_bytes.set(self.read_bytes.get() + read_bytes);
    }
}

fn weight(snapshot: &Snapshot) -> u64 {
    snapshot.record.added_bytes + snapshot.record.bytes / LENGTH_COUNTS + 1
}

/// A snapshot in the JSON result: an array of them, in the order of copying.
#[derive(Serialize)]
struct ResultRow {
    /// In the repository that was copied from.
    id: String,
    /// `copied`, `known` (it was there before), `incomplete` (what was there before lacks files, which are damaged
    /// still), `forgotten` (meanwhile, where it was to be copied from), `failed`, or `wanted` with --dry-run.
    outcome: &'static str,
    /// As it is in the other repository.
    snapshot: Option<SnapshotRow>,
    /// How many files the copy lacks because they are damaged.
    lost_files: u64,
    error: Option<String>,
}

impl ResultRow {
    fn new(source: &Snapshot, outcome: &'static str, copy: Option<&Snapshot>, is_pinned: bool) -> ResultRow {
        let lost_files = copy.map_or(0, |copy| copy.record.lost_files);
        ResultRow {
            id: source.id.to_string(),
            outcome,
            snapshot: copy.map(|copy| SnapshotRow::of(copy, is_pinned)),
            lost_files,
            error: None,
        }
    }
}

/// What came of all snapshots of a run.
#[derive(Default)]
struct Summary {
    exit: Exit,
    rows: Vec<ResultRow>,
    added_bytes: u64,
    /// What is wrong with the other repository.
    damage: BTreeSet<Problem>,
}

impl Summary {
    fn add(&mut self, source: &Snapshot, copied: Copied, is_pinned: bool, report: &Report) -> Result<()> {
        let Copied { snapshot, stats, lost, lost_count, problems } = copied;
        for problem in problems {
            if self.damage.insert(problem.clone()) {
                report.warn(of_repository("the other", &problem));
            }
        }
        let outcome = match (stats.outcome, lost_count) {
            (Outcome::New, _) => "copied",
            (Outcome::Unchanged, 0) => "known",
            (Outcome::Unchanged, _) => "incomplete",
        };
        lost.iter().for_each(|lost| report.warn(format_args!("{}: {lost}", title(source))));
        if lost_count > lost.len() as u64 {
            let more = lost_count - lost.len() as u64;
            report.warn(format_args!("{}: and {} more are damaged", title(source), files(more)));
        }
        if lost_count > 0 {
            self.exit = self.exit.max(Exit::Incomplete);
        }
        self.added_bytes += stats.added_bytes;
        self.rows.push(ResultRow::new(source, outcome, Some(&snapshot), is_pinned));
        if report.json || outcome == "known" {
            return Ok(());
        }
        let lacks = match lost_count {
            0 => String::new(),
            lost => format!(", without {}", of_many(lost, "damaged file", "damaged files")),
        };
        let (verb, id) = (if outcome == "copied" { "copied" } else { "copied before:" }, snapshot.id.short());
        report.line(format_args!("{verb} {} as {id}, {} new{lacks}", line_of(source), size(stats.added_bytes)))
    }

    /// A snapshot of which nothing can be read, or that only a newer program knows.
    fn lose(&mut self, source: &Snapshot, failure: &Failure, report: &Report) {
        self.exit = self.exit.max(Exit::Incomplete);
        report.warn(format_args!("{} cannot be copied: {}", title(source), failure.message));
        self.rows
            .push(ResultRow { error: Some(failure.message.clone()), ..ResultRow::new(source, "failed", None, false) });
    }

    fn finish(self, report: &Report) -> Result<Exit> {
        if report.json {
            report.json(&self.rows)?;
            return Ok(self.exit);
        }
        let number = |outcome| self.rows.iter().filter(|row| row.outcome == outcome).count() as u64;
        let counted = [
            (number("copied"), "copied"),
            (number("known"), "there already"),
            (number("incomplete"), "still incomplete"),
            (number("failed"), "not copied"),
        ];
        let parts: Vec<String> =
            counted.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
        let all = of_many(self.rows.len() as u64, "snapshot", "snapshots");
        let parts = if parts.is_empty() { "nothing to copy".to_owned() } else { parts.join(", ") };
        report.note(format_args!("{all}: {parts}, {} new", size(self.added_bytes)));
        Ok(self.exit)
    }
}

/// `Maria's iPhone of 2021-01-15 02:38: 13 files, 3.5 MB`
fn line_of(snapshot: &Snapshot) -> String {
    format!("{}: {}, {}", title(snapshot), files(snapshot.record.files), size(snapshot.record.bytes))
}
