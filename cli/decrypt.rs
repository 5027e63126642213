//! `decrypt`: converts snapshots that are kept as the phone encrypted them, once their password is known.
//!
//! A snapshot is made anew of the same files, each read back and compared; only then is the old one forgotten. What is
//! cut off is begun again. A snapshot that no password opens stays as it is, and stops nothing else.

use std::io;

use heirloom_store::{Details, Entry, Outcome, Prefix, Repository, Snapshot, SnapshotReader, TreePath};
use serde::Serialize;

use crate::{
    access::{self, Opened},
    args::{Decrypt, Global},
    failure::{Exit, Failure, Result},
    interrupt, manifest,
    naming::OpenedManifest,
    report::{Report, of_many, size},
    snapshots::{self, Row as SnapshotRow, title},
    unlocking::{self, Locked, Opening, Passwords, Unlocked},
    warnings::Warnings,
};

/// A snapshot in the JSON result: an array of them.
#[derive(Serialize)]
struct ResultRow {
    /// Snapshot that was converted and is listed no more, or that stays.
    old: String,
    /// `null` if it stays.
    new: Option<SnapshotRow>,
    warnings: u64,
    /// Why it stays.
    error: Option<String>,
}

pub fn run(args: &Decrypt, global: &Global, report: &Report) -> Result<Exit> {
    let repository = access::open(global, report)?;
    let wanted = wanted(&repository, args, report)?;
    let options = unlocking::Options {
        plain_is_fine: args.plain_is_fine,
        remember: args.remember_password,
        ..Default::default()
    };
    let opened = open_all(&repository, &wanted, options, report)?;
    interrupt::catch();
    let mut rows = Vec::new();
    let (mut converted, mut exit) = (0, Exit::Ok);
    for (snapshot, opened) in wanted.iter().zip(opened) {
        let warnings = Warnings::new(report);
        let convert = |unlocked: Box<Unlocked>| convert(&repository, snapshot, &unlocked, &warnings);
        let result = opened.and_then(|unlocked| convert(unlocked).map_err(|failure| failure.about(title(snapshot))));
        let (warnings, _) = warnings.finish();
        match result {
            Ok(new) => {
                converted += 1;
                rows.push(ResultRow { warnings, ..tell_converted(&repository, snapshot, &new, report)? });
            }
            Err(failure) if failure.is_final() => return Err(failure),
            Err(failure) => {
                exit = exit.max(failure.exit);
                report.error(&failure);
                let old = snapshot.id.to_string();
                rows.push(ResultRow { old, new: None, warnings, error: Some(failure.message) });
            }
        }
    }
    if report.json {
        report.json(&rows)?;
    } else if wanted.is_empty() {
        report.note("no snapshot is kept as ciphertext");
    } else if converted > 0 {
        report.note(format_args!(
            "{} converted; the ciphertext takes room until it is pruned",
            of_many(converted, "snapshot", "snapshots")
        ));
    }
    Ok(if converted > 0 && exit != Exit::Ok { Exit::Incomplete } else { exit })
}

fn tell_converted(repository: &Repository, old: &Snapshot, new: &Snapshot, report: &Report) -> Result<ResultRow> {
    if !report.json {
        report.line(format_args!(
            "{} is kept as plaintext now, as {}: {} new",
            title(old),
            new.id.short(),
            size(new.record.added_bytes)
        ))?;
    }
    let pinned = repository.pins()?.contains(&new.id);
    Ok(ResultRow { old: old.id.to_string(), new: Some(SnapshotRow::of(new, pinned)), warnings: 0, error: None })
}

/// The snapshots that were named, or all that are kept as ciphertext.
fn wanted(repository: &Repository, args: &Decrypt, report: &Report) -> Result<Vec<Snapshot>> {
    let list = snapshots::list(repository, report)?;
    if args.snapshots.is_empty() {
        return Ok(list.snapshots.into_iter().filter(is_ciphertext).collect());
    }
    let wanted = snapshots::find_all(&list, &args.snapshots)?;
    match wanted.iter().find(|snapshot| !is_ciphertext(snapshot)) {
        Some(other) => Err(Failure::new(Exit::Usage, format!("{} is not kept as ciphertext", title(other)))),
        None => Ok(wanted),
    }
}

/// Whether the phone encrypted it, and it is kept like that.
pub fn is_ciphertext(snapshot: &Snapshot) -> bool {
    snapshot.record.encrypted && !snapshot.record.sealed
}

/// The keys of each snapshot, or why there are none. All questions are asked here, before the work.
fn open_all(
    repository: &Repository,
    wanted: &[Snapshot],
    options: unlocking::Options,
    report: &Report,
) -> Result<Vec<Result<Box<Unlocked>>>> {
    let passwords = Passwords::new(repository, options, report);
    let open = |snapshot: &Snapshot| -> Result<Box<Unlocked>> {
        let manifest = manifest::plist_of(repository, snapshot)?;
        let locked = Locked { series: &snapshot.record.series, title: &title(snapshot), manifest: &manifest };
        match passwords.open(locked)? {
            Opening::Open(unlocked) => Ok(unlocked),
            Opening::NoPassword => Err(no_password().about(title(snapshot))),
            Opening::NoKeybag(why) => Err(Failure::failed(format!("{why}; it stays as it is")).about(title(snapshot))),
        }
    };
    let mut opened = Vec::new();
    for snapshot in wanted {
        match open(snapshot) {
            Err(failure) if failure.is_final() => return Err(failure),
            other => opened.push(other),
        }
    }
    Ok(opened)
}

fn no_password() -> Failure {
    Failure::new(Exit::WrongBackupPassword, "its backup password is not known: it stays as it is")
        .hint("set HEIRLOOM_BACKUP_PASSWORD_FILE or HEIRLOOM_BACKUP_PASSWORD")
}

/// Makes a snapshot of ciphertext anew as plaintext, and forgets the old one.
pub fn convert(repository: &Opened, old: &Snapshot, unlocked: &Unlocked, warnings: &Warnings) -> Result<Snapshot> {
    let report = warnings.report;
    let mut editor = repository.edit(&old.record.series, Some(old))?;
    let manifest = OpenedManifest::of(&mut editor, Some(unlocked))?;
    if let Err(error) = &manifest.manifest {
        return Err(Failure::failed(error.to_string()));
    }
    let progress = report.progress("converting");
    let mut done = heirloom_store::Progress { files_total: old.record.files, ..Default::default() };
    let naming = manifest.name_files(editor, true, warnings, &mut |_, _, _| {
        done.files_done += 1;
        progress.update(done);
        interrupt::check()
    })?;
    drop(progress);
    // One that was cut off between the new record and the old one's end is found again.
    let details = Details { skip_if_same: true, ..Details::like(&old.record) };
    let (new, stats) = naming.commit(details)?;
    if stats.outcome == Outcome::Unchanged {
        report.detail("it had been converted before");
    }
    verify(repository, old, &new, report)?;
    repository.replace(old, &new.id)?;
    Ok(new)
}

/// Reads every file of the new snapshot, and compares with the old one what is said of all places.
fn verify(repository: &Repository, old: &Snapshot, new: &Snapshot, report: &Report) -> Result<()> {
    let differs = || Failure::failed("the converted snapshot is not the same: the old one stays");
    let (old_reader, new_reader) = (repository.read(old)?, repository.read(new)?);
    if places(&old_reader)? != places(&new_reader)? || !new.record.sealed {
        return Err(differs());
    }
    let progress = report.progress("verifying");
    let mut done =
        heirloom_store::Progress { files_total: new.record.files, bytes_total: new.record.bytes, ..Default::default() };
    for item in new_reader.entries(&Prefix::all()) {
        interrupt::check()?;
        let Some(content) = item?.1.content else { continue };
        new_reader.read_file(&content, &mut io::sink())?;
        done.files_done += 1;
        done.bytes_done += content.length;
        progress.update(done);
    }
    Ok(())
}

/// A file of a backup folder: its place, hash, length and time.
type Placed = (TreePath, [u8; 32], u64, Option<i64>);

/// Files by their places, in the order of places.
fn places(reader: &SnapshotReader) -> Result<Vec<Placed>> {
    let mut places = Vec::new();
    for item in reader.entries(&Prefix::all()) {
        let (name, entry) = item?;
        let place = entry.place_for(&name);
        if let (Some(place), Entry { content: Some(content), place_mtime_ns, .. }) = (place, entry) {
            places.push((place, content.hash, content.length, place_mtime_ns));
        }
    }
    places.sort_unstable();
    Ok(places)
}
