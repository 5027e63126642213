//! `check`: verifies the repository, and names every file of it that is not whole, and what snapshots have lost by it.

use std::{collections::BTreeSet, time::Instant};

use heirloom_store::{Affected, CheckOptions, CheckReport, Depth, Keyless, SnapshotId, Subset, Verified};
use serde::Serialize;

use crate::{
    access,
    args::{Check, Global},
    failure::{Exit, Failure, Result, USE_NEWER},
    interrupt, location,
    report::{Report, count, duration, local_time, of_many, printable, rfc3339, size},
    snapshots,
};

pub fn run(args: &Check, global: &Global, report: &Report) -> Result<Exit> {
    let started = Instant::now();
    let (checked, pins) = if args.packs {
        (check_files(args, global, report)?, BTreeSet::new())
    } else {
        check_content(args, global, report)?
    };
    if report.json {
        report.json(&Row::of(&checked, &pins))?;
    } else {
        print_problems(&checked, report)?;
        let found = what_is_wrong(&checked);
        report.line(format_args!("{found}: {} in {}", what_was_read(&checked), duration(started.elapsed())))?;
        print_verified(args, &checked, report)?;
        checked.keyless.iter().try_for_each(|keyless| print_keyless(keyless, report))?;
        note_without_spare(checked.without_spare, report);
        if !checked.newer.is_empty() {
            report.note(format_args!("{USE_NEWER} to check what this one does not know"));
        }
    }
    Ok(exit_of(&checked))
}

/// Gives 3 where a newer version would be needed to check all: that is no damage.
pub fn exit_of(checked: &CheckReport) -> Exit {
    if checked.is_whole() { Exit::in_spite_of(&checked.newer) } else { Exit::Damage }
}

/// Compares each file with its name, for which nobody needs a password.
fn check_files(args: &Check, global: &Global, report: &Report) -> Result<CheckReport> {
    let path = access::repository_path(global)?;
    let storage = access::unopened(path, report)?;
    if args.same_as.as_ref().is_some_and(|other| location::is_same(path, other)) {
        return Err(Failure::new(Exit::Usage, "both are one and the same repository, which proves nothing of a copy")
            .hint("give the folder of the other one with --same-as"));
    }
    let other = match &args.same_as {
        Some(other) => Some((other, access::unopened(other, report)?)),
        None => None,
    };
    interrupt::catch();
    let progress = report.progress("checking");
    let checked = heirloom_store::check_packs_without_key(&*storage, &|now| progress.step(now));
    let mut checked = checked.map_err(|error| access::failure_at(path, &*storage, error))?;
    if let Some((other, beside)) = other {
        let lacking = heirloom_store::lacking_beside(&*storage, &*beside);
        checked.problems.extend(lacking.map_err(|error| access::failure_at(other, &*beside, error))?);
    }
    Ok(checked)
}

/// Gives also which snapshots are pinned.
fn check_content(args: &Check, global: &Global, report: &Report) -> Result<(CheckReport, BTreeSet<SnapshotId>)> {
    let repository = access::open(global, report)?;
    interrupt::catch();
    let reads = args.read_data || is_partial(args);
    let end = args.max_time.and_then(|time| Instant::now().checked_add(time));
    let is_over = || end.is_some_and(|end| Instant::now() >= end);
    let options = CheckOptions {
        full: args.full,
        subset: args.read_data_subset.unwrap_or(Subset::All),
        is_over: &is_over,
        ..CheckOptions::from(if reads { Depth::ReadData } else { Depth::Structure })
    };
    let progress = report.progress("checking");
    let checked = heirloom_store::check(&repository, options, &|now| progress.step(now))?;
    Ok((checked, repository.pins()?))
}

/// Whether it reads no more than a part of the data.
fn is_partial(args: &Check) -> bool {
    args.read_data_subset.is_some() || args.max_time.is_some()
}

/// A line for each problem, and for each file that is lost.
pub fn print_problems(checked: &CheckReport, report: &Report) -> Result<()> {
    for problem in checked.problems.iter().chain(&checked.newer) {
        report.line(printable(&problem.to_string()))?;
    }
    checked.affected.iter().try_for_each(|affected| print_affected(affected, report))
}

/// A snapshot, and a line for each file and part that it has lost.
fn print_affected(affected: &Affected, report: &Report) -> Result<()> {
    let Affected { snapshot, files, lost_parts, more } = affected;
    let what = match (files.len() as u64, lost_parts.len() as u64) {
        (0, _) => "a part of it is lost".to_owned(),
        (1, 0) if *more == 0 => "1 file is damaged".to_owned(),
        (number, 0) => format!("{} files are damaged", count(number + more)),
        (number, _) => format!("{}, and a part of it is lost", of_many(number, "damaged file", "damaged files")),
    };
    report.line(format_args!("{} ({}): {what}", snapshots::title(snapshot), snapshot.id.short()))?;
    for file in files {
        let (lost, length) = (size(file.lost_bytes), size(file.length));
        report.line(format_args!("  {} has lost {lost} of {length}", printable(&file.name.to_string())))?;
    }
    for part in lost_parts {
        let from = part.from.as_ref().map_or_else(String::new, |name| format!(" from {name} on"));
        report.line(printable(&format!("  what it holds{from} cannot be told: {}", part.what)))?;
    }
    if *more > 0 { report.line(format_args!("  and {} more", count(*more))) } else { Ok(()) }
}

/// `no problems`, `2 problems, 1 snapshot has lost something`, `no problems, 1 thing needs a newer version`
pub fn what_is_wrong(checked: &CheckReport) -> String {
    let problems = match checked.problems.len() as u64 {
        0 => "no problems".to_owned(),
        number => of_many(number, "problem", "problems"),
    };
    let affected = match checked.affected.len() as u64 {
        0 => problems,
        number => format!("{problems}, {} something", of_many(number, "snapshot has lost", "snapshots have lost")),
    };
    match checked.newer.len() as u64 {
        0 => affected,
        number => format!("{affected}, {} a newer version", of_many(number, "thing needs", "things need")),
    }
}

/// `3 snapshots, 12 packs, 1 234 chunks, 61 MB read`; without what could not be counted without the password.
fn what_was_read(checked: &CheckReport) -> String {
    let counted = [
        (checked.snapshots, "snapshot", "snapshots"),
        (checked.packs, "pack", "packs"),
        (checked.chunks, "chunk", "chunks"),
    ];
    let mut parts: Vec<String> = counted
        .iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, one, many)| of_many(*number, one, many))
        .collect();
    if checked.bytes_read > 0 {
        parts.push(format!("{} read", size(checked.bytes_read)));
    }
    if parts.is_empty() { "nothing is kept yet".to_owned() } else { parts.join(", ") }
}

/// Prints what a check without the password has found, and what it leaves open.
fn print_keyless(keyless: &Keyless, report: &Report) -> Result<()> {
    report.line(format_args!("fingerprint {}, the same for a copy that holds the same", keyless.fingerprint))?;
    if keyless.unindexed_packs > 0 {
        let packs = of_many(keyless.unindexed_packs, "pack is", "packs are");
        report.note(format_args!(
            "{packs} named by no segment: a backup goes on or was cut off, or a segment is lost; `heirloom check` tells"
        ));
    }
    Ok(())
}

/// Nothing is lost where a spare is missing.
fn note_without_spare(number: u64, report: &Report) {
    if number > 0 {
        let whose = of_many(number, "snapshot has", "snapshots have");
        report.note(format_args!(
            "{whose} no spare, by which a loss would be noticed; the next snapshot, or a repair, makes it"
        ));
    }
}

/// Says how much was ever verified, unless all of it was just now.
fn print_verified(args: &Check, checked: &CheckReport, report: &Report) -> Result<()> {
    match checked.verified {
        Some(verified) if is_partial(args) || !args.read_data && verified.bytes > 0 => {
            verified_line(&verified).map_or(Ok(()), |line| report.line(line))
        }
        None if is_partial(args) => {
            report.note("what was read is not remembered: there is no cache folder, or another check is at work");
            Ok(())
        }
        _ => Ok(()),
    }
}

/// `everything verified since 2026-05-03 14:30`, `62 % verified (1.2 of 2.0 TB), the oldest of it on 2026-05-03 14:30`
fn verified_line(&Verified { bytes, of, since }: &Verified) -> Option<String> {
    let since = local_time(since?);
    Some(match bytes >= of {
        true => format!("everything verified since {since}"),
        false => {
            let percent = (bytes as f64 / of as f64 * 100.0).floor();
            format!("{percent} % verified ({} of {}), the oldest of it on {since}", size(bytes), size(of))
        }
    })
}

/// The result in JSON.
#[derive(Serialize)]
pub struct Row<'a> {
    problems: Vec<ProblemRow<'a>>,
    newer: Vec<ProblemRow<'a>>,
    affected: Vec<AffectedRow<'a>>,
    snapshots: u64,
    without_spare: u64,
    packs: u64,
    chunks: u64,
    bytes_read: u64,
    verified: Option<VerifiedRow>,
    #[serde(flatten)]
    keyless: Option<KeylessRow<'a>>,
}

/// Without the password alone.
#[derive(Serialize)]
struct KeylessRow<'a> {
    fingerprint: &'a str,
    unindexed_packs: u64,
}

#[derive(Serialize)]
struct ProblemRow<'a> {
    file: &'a str,
    what: &'a str,
}

#[derive(Serialize)]
struct AffectedRow<'a> {
    snapshot: snapshots::Row,
    files: Vec<FileRow<'a>>,
    lost_parts: Vec<PartRow<'a>>,
    more: u64,
}

#[derive(Serialize)]
struct FileRow<'a> {
    domain: &'a str,
    path: &'a str,
    lost_bytes: u64,
    bytes: u64,
}

/// Domain and path are null if the part is all of the snapshot.
#[derive(Serialize)]
struct PartRow<'a> {
    from_domain: Option<&'a str>,
    from_path: Option<&'a str>,
    what: &'a str,
}

#[derive(Serialize)]
struct VerifiedRow {
    bytes: u64,
    of_bytes: u64,
    since: Option<String>,
}

impl<'a> Row<'a> {
    pub fn of(checked: &'a CheckReport, pins: &BTreeSet<SnapshotId>) -> Row<'a> {
        let problem = |problem: &'a heirloom_store::Problem| ProblemRow { file: &problem.file, what: &problem.what };
        let verified =
            |Verified { bytes, of, since }| VerifiedRow { bytes, of_bytes: of, since: since.and_then(rfc3339) };
        Row {
            problems: checked.problems.iter().map(problem).collect(),
            newer: checked.newer.iter().map(problem).collect(),
            affected: checked.affected.iter().map(|affected| AffectedRow::of(affected, pins)).collect(),
            snapshots: checked.snapshots,
            without_spare: checked.without_spare,
            packs: checked.packs,
            chunks: checked.chunks,
            bytes_read: checked.bytes_read,
            verified: checked.verified.map(verified),
            keyless: checked.keyless.as_ref().map(|Keyless { fingerprint, unindexed_packs }| KeylessRow {
                fingerprint,
                unindexed_packs: *unindexed_packs,
            }),
        }
    }
}

impl<'a> AffectedRow<'a> {
    fn of(affected: &'a Affected, pins: &BTreeSet<SnapshotId>) -> AffectedRow<'a> {
        let file = |file: &'a heirloom_store::LostFile| FileRow {
            domain: file.name.domain(),
            path: file.name.path(),
            lost_bytes: file.lost_bytes,
            bytes: file.length,
        };
        let part = |part: &'a heirloom_store::LostPart| PartRow {
            from_domain: part.from.as_ref().map(|name| name.domain()),
            from_path: part.from.as_ref().map(|name| name.path()),
            what: &part.what,
        };
        AffectedRow {
            snapshot: snapshots::Row::of(&affected.snapshot, pins.contains(&affected.snapshot.id)),
            files: affected.files.iter().map(file).collect(),
            lost_parts: affected.lost_parts.iter().map(part).collect(),
            more: affected.more,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_verified_is_told_with_its_age() {
        let line = |bytes, since| verified_line(&Verified { bytes, of: 2_000_000, since });
        assert_eq!(line(0, None), None);
        let all = line(2_000_000, Some(1_777_777_777)).unwrap();
        assert!(all.starts_with("everything verified since 2026-05-0"), "{all}");
        let part = line(1_999_999, Some(1_777_777_777)).unwrap();
        assert!(part.starts_with("99 % verified (2.0 MB of 2.0 MB), the oldest of it on 2026-05-0"), "{part}");
    }
}
