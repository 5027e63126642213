//! `export`: writes a snapshot as the backup folder that it was.

use std::path::PathBuf;

use heirloom_store::{ExportOptions, ExportStats, Repository, Snapshot, TreePath};

use crate::{
    access,
    args::{Export, Global},
    failure::{Exit, Failure, Result, USE_NEWER},
    interrupt, location,
    report::{Report, count, files, of_many, size},
    snapshots,
};

pub fn run(args: &Export, global: &Global, report: &Report) -> Result<Exit> {
    location::target(&args.to)?;
    let repository = access::open(global, report)?;
    let snapshot = snapshots::find(&repository, &args.snapshot, report)?;
    interrupt::catch();
    let (target, stats) = write(&repository, &snapshot, args.to.clone(), args.force, report)?;
    let outcome = match Exit::in_spite_of(&stats.problems) {
        Exit::Damage => {
            Err(Failure::new(Exit::Damage, "the repository is damaged: not all of the snapshot could be written")
                .hint("what was written is right; `heirloom check --read-data` names everything that is damaged"))
        }
        Exit::Incomplete => Err(Failure::new(
            Exit::Incomplete,
            "not all of the snapshot could be written: this version of heirloom does not know some of it",
        )
        .hint(format!("what was written is right; for the rest {USE_NEWER}"))),
        exit => Ok(exit),
    };
    stats.problems.iter().for_each(|problem| report.warn(problem));
    if let Some(why) = &stats.why_without_time {
        let number = files(stats.without_time);
        report.warn(format_args!("{number} could not be given the time of the backup, but the bytes are right: {why}"));
    }
    if report.json {
        let problems: Vec<String> = stats.problems.iter().map(ToString::to_string).collect();
        report.json(&serde_json::json!({
            "snapshot": snapshot.id.to_string(), "path": target.to_string_lossy(), "files": stats.files, "bytes": stats.bytes,
            "skipped_files": stats.skipped_files, "missing_files": stats.missing,
            "files_without_time": stats.without_time, "problems": problems,
            "warning_count": snapshot.record.warning_count,
        }))?;
        return outcome;
    }
    report.line(format_args!(
        "exported {} to {}: {}, {}",
        snapshots::title(&snapshot),
        target.display(),
        files(stats.files),
        size(stats.bytes)
    ))?;
    say_what_else(&snapshot, &stats, report);
    outcome
}

/// Writes the snapshot to `dir/<UDID>`, and says where that is and what was done.
pub fn write(
    repository: &Repository,
    snapshot: &Snapshot,
    dir: PathBuf,
    force: bool,
    report: &Report,
) -> Result<(PathBuf, ExportStats)> {
    let udid = &snapshot.record.series;
    if TreePath::new(udid).is_err() || udid.contains(['/', '\\']) {
        return Err(Failure::failed(format!("{udid:?} cannot be the name of a folder")));
    }
    let target = dir.join(udid);
    let progress = report.progress("exporting");
    let on_event = |now| progress.step(now);
    let stats = heirloom_store::export(&repository.read(snapshot)?, &target, &ExportOptions { force }, &on_event)?;
    Ok((target, stats))
}

fn say_what_else(snapshot: &Snapshot, stats: &ExportStats, report: &Report) {
    if stats.skipped_files > 0 {
        report.note(format_args!("{} of them were there already", count(stats.skipped_files)));
    }
    // An import warns of them.
    if stats.missing > 0 && snapshot.record.warning_count == 0 {
        report.note(format_args!(
            "{} that Manifest.db names were not in the backup when it was kept",
            files(stats.missing)
        ));
    }
    if snapshot.record.warning_count > 0 {
        let warnings = of_many(snapshot.record.warning_count, "warning", "warnings");
        report.note(format_args!("this backup was kept with {warnings}:"));
        snapshot
            .record
            .warnings
            .iter()
            .take(5)
            .for_each(|warning| report.note(format_args!("  {}", crate::report::printable(warning))));
    }
}
