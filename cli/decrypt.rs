//! `unseal`: converts snapshots that are kept as the phone encrypted them, once their password is known.
//!
//! A snapshot is made anew of the same files, each read back and compared; only then is the old one forgotten. What is cut off is begun again.

use std::io;

use heirloom_device::backup::ManifestPlist;
use heirloom_store::{Details, Entry, Outcome, Prefix, Repository, Snapshot, SnapshotReader, TreePath};
use serde::Serialize;

use crate::{
    access,
    args::{Global, Unseal},
    failure::{Exit, Failure, Result},
    host_folder::HostFolder,
    interrupt,
    naming::OpenedManifest,
    password::Password,
    report::{Report, of_many, size},
    snapshots::{self, Row as SnapshotRow, title},
    unlocking::{self, Wanted},
    warnings::Warnings,
};

/// A snapshot in the JSON result: an array of them.
#[derive(Serialize)]
struct ResultRow {
    /// What was converted; it is listed no more.
    old: String,
    new: SnapshotRow,
}

pub fn run(args: &Unseal, global: &Global, report: &Report) -> Result<Exit> {
    let repository = access::open(global, report)?;
    let wanted = wanted(&repository, args, report)?;
    let mut rows = Vec::new();
    for snapshot in &wanted {
        let options = unlocking::Options { plain_is_fine: args.plain_is_fine, remember: args.remember_password };
        let converted =
            convert(&repository, snapshot, options, report).map_err(|failure| failure.about(title(snapshot)))?;
        if !report.json {
            report.line(format_args!(
                "{} is kept as plaintext now, as {}: {} new",
                title(snapshot),
                converted.id.short(),
                size(converted.record.added_bytes)
            ))?;
        }
        let pinned = repository.pins()?.contains(&converted.id);
        rows.push(ResultRow { old: snapshot.id.to_string(), new: SnapshotRow::of(&converted, pinned) });
    }
    if report.json {
        report.json(&rows)?;
    } else if wanted.is_empty() {
        report.note("no snapshot is kept as ciphertext");
    } else {
        report.note(format_args!(
            "{} converted; the ciphertext takes room until it is pruned",
            of_many(wanted.len() as u64, "snapshot", "snapshots")
        ));
    }
    Ok(Exit::Ok)
}

/// The snapshots that were named, or all that are kept as ciphertext.
fn wanted(repository: &Repository, args: &Unseal, report: &Report) -> Result<Vec<Snapshot>> {
    let is_ciphertext = |snapshot: &Snapshot| snapshot.record.encrypted && !snapshot.record.sealed;
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

fn convert(repository: &Repository, old: &Snapshot, options: unlocking::Options, report: &Report) -> Result<Snapshot> {
    let warnings = Warnings::new(report);
    let mut folder = HostFolder::new(repository, repository.edit(&old.record.series, Some(old))?, 0, false);
    let about = folder.property_list("Manifest.plist")?.unwrap_or_default();
    let mut editor = folder.into_editor();
    let about = ManifestPlist::parse(&about).map_err(|error| Failure::failed(error.to_string()))?;
    let (series, title) = (&*old.record.series, title(old));
    let wanted = Wanted { repository, series, title: &title, manifest: Some(&about), options };
    let Some(unlocked) = wanted.unlocked(&about)? else {
        return Err(Password::BACKUP.wanted("the backup's password is needed"));
    };
    interrupt::catch();
    let manifest = OpenedManifest::of(&mut editor, Some(&unlocked))?;
    if let Err(error) = &manifest.manifest {
        return Err(Failure::failed(error.to_string()));
    }
    let progress = report.progress("converting");
    let mut done = heirloom_store::Progress { files_total: old.record.files, ..Default::default() };
    let naming = manifest.name_files(editor, true, &warnings, &mut |_, _| {
        done.files_done += 1;
        progress.update(done);
        interrupt::check()
    })?;
    drop(progress);
    let record = &old.record;
    let details = Details {
        encrypted: record.encrypted,
        device: record.device.clone(),
        warnings: record.warnings.clone(),
        warning_count: record.warning_count,
        lost_files: record.lost_files,
        // One that was cut off between the new record and the old one's end is found again.
        skip_if_same: true,
        // It stays the copy that it is.
        origin: record.origin.clone(),
        ..Details::new(record.time, record.source)
    };
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

/// What lies where, in the order of places.
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
