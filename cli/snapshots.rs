//! `snapshots`: the list of them, and of those that were forgotten.

use std::collections::BTreeSet;

use heirloom_store::{Repository, Snapshot, SnapshotId, SnapshotList};
use serde::Serialize;

use crate::{
    access,
    args::{Global, Snapshots},
    clock,
    failure::{Exit, Failure, Result},
    report::{Align, JsonArray, Report, Table, count, files, local_time, of_many, printable, rfc3339, size},
    snapshot_spec,
};

pub fn run(args: &Snapshots, global: &Global, report: &Report) -> Result<Exit> {
    let repository = access::open(global, report)?;
    let udid = args.udid.as_deref();
    if args.trash {
        return show_trash(&repository, udid, report);
    }
    if !args.snapshots.is_empty() {
        return show_in_full(&repository, &args.snapshots, report);
    }
    show(&repository.snapshots()?, &repository.pins()?, udid, "no snapshots yet", report)
}

/// Lists what was forgotten and can be undeleted.
pub fn show_trash(repository: &Repository, udid: Option<&str>, report: &Report) -> Result<Exit> {
    show(&repository.trash()?, &repository.pins()?, udid, "the trash is empty", report)
}

fn show(
    list: &SnapshotList,
    pins: &BTreeSet<SnapshotId>,
    udid: Option<&str>,
    none: &str,
    report: &Report,
) -> Result<Exit> {
    list.problems.iter().for_each(|problem| report.warn(problem));
    let devices = udid.map(|udid| snapshot_spec::devices(udid, &list.snapshots));
    let is_wanted =
        |snapshot: &&Snapshot| devices.as_ref().is_none_or(|devices| devices.contains(&snapshot.record.series));
    let wanted: Vec<&Snapshot> = list.snapshots.iter().filter(is_wanted).collect();
    if report.json {
        let mut array = JsonArray::new(report);
        wanted.iter().try_for_each(|snapshot| array.item(&Row::of(snapshot, pins.contains(&snapshot.id))))?;
        array.finish()?;
    } else if wanted.is_empty() {
        match udid {
            Some(udid) if !list.snapshots.is_empty() => report.note(format_args!("no snapshots of {udid}")),
            _ => report.note(none),
        }
    } else {
        print_table(&wanted, pins, report)?;
    }
    Ok(Exit::in_spite_of(&list.problems))
}

/// Says of some snapshots all that their records hold.
fn show_in_full(repository: &Repository, specs: &[String], report: &Report) -> Result<Exit> {
    let list = list(repository, report)?;
    let pins = repository.pins()?;
    let wanted = find_all(&list, specs)?;
    if report.json {
        let full = |snapshot: &Snapshot| FullRow {
            row: Row::of(snapshot, pins.contains(&snapshot.id)),
            warnings: snapshot.record.warnings.clone(),
            lost_files: snapshot.record.lost_files,
            origin: snapshot.record.origin.clone(),
            program: snapshot.record.program.clone(),
        };
        let mut array = JsonArray::new(report);
        wanted.iter().try_for_each(|snapshot| array.item(&full(snapshot)))?;
        array.finish()?;
    } else {
        for (at, snapshot) in wanted.iter().enumerate() {
            if at > 0 {
                report.line("")?;
            }
            full_lines(snapshot, pins.contains(&snapshot.id))
                .iter()
                .try_for_each(|line| report.line(printable(line)))?;
        }
    }
    Ok(Exit::in_spite_of(&list.problems))
}

/// A snapshot in JSON, with all of its warnings.
#[derive(Serialize)]
struct FullRow {
    #[serde(flatten)]
    row: Row,
    /// The first hundred.
    warnings: Vec<String>,
    lost_files: u64,
    origin: Option<String>,
    program: String,
}

fn full_lines(snapshot: &Snapshot, pinned: bool) -> Vec<String> {
    let record = &snapshot.record;
    let device = |key| record.device.get(key).cloned().unwrap_or_default();
    let says = format!("by its own account {}", local_time(record.time));
    let mut lines = vec![
        title(snapshot),
        format!("  id       {}", snapshot.id),
        format!("  device   {} {} iOS {}", record.series, device("product_type"), device("product_version")),
        format!("  taken    {}, kept {}", says, local_time(record.kept_at())),
        format!("  from     {}, by {}", record.source, record.program),
        format!("  holds    {}, {}; {} new", files(record.files), size(record.bytes), size(record.added_bytes)),
    ];
    let notes = notes(snapshot, pinned);
    lines.extend((!notes.is_empty()).then(|| format!("  notes    {notes}")));
    lines.extend((record.lost_files > 0).then(|| format!("  lost     {}", files(record.lost_files))));
    lines.extend(record.warnings.iter().map(|warning| format!("  warning  {warning}")));
    let more = record.warning_count.saturating_sub(record.warnings.len() as u64);
    lines.extend(
        (more > 0).then(|| format!("  and {} more, which were not recorded", of_many(more, "warning", "warnings"))),
    );
    lines
}

/// All snapshots. Those that cannot be read are warned of, because `latest` might be one of them.
pub fn list(repository: &Repository, report: &Report) -> Result<SnapshotList> {
    let list = repository.snapshots()?;
    list.problems.iter().for_each(|problem| report.warn(problem));
    Ok(list)
}

/// Those of the device of this UDID or name, or all if none is given; fails if a device has none.
pub fn of_device<'s>(snapshots: &'s [Snapshot], udid: Option<&str>) -> Result<Vec<&'s Snapshot>> {
    let devices = udid.map(|udid| snapshot_spec::devices(udid, snapshots));
    let is_wanted =
        |snapshot: &&Snapshot| devices.as_ref().is_none_or(|devices| devices.contains(&snapshot.record.series));
    let wanted: Vec<&Snapshot> = snapshots.iter().filter(is_wanted).collect();
    match udid {
        Some(udid) if wanted.is_empty() => {
            Err(Failure::failed(format!("there are no snapshots of {udid}"))
                .hint("`heirloom snapshots` lists them all"))
        }
        _ => Ok(wanted),
    }
}

/// The one snapshot that `spec` names.
pub fn find(repository: &Repository, spec: &str, report: &Report) -> Result<Snapshot> {
    snapshot_spec::find(spec, &list(repository, report)?.snapshots).cloned()
}

/// The snapshots that are named, in this order, each once.
pub fn find_all(list: &SnapshotList, specs: &[String]) -> Result<Vec<Snapshot>> {
    each_once(specs, |spec| snapshot_spec::find(spec, &list.snapshots))
}

/// The same of those in the trash.
pub fn find_all_forgotten(trash: &SnapshotList, specs: &[String]) -> Result<Vec<Snapshot>> {
    each_once(specs, |spec| snapshot_spec::find_forgotten(spec, &trash.snapshots))
}

fn each_once<'s>(specs: &[String], find: impl Fn(&str) -> Result<&'s Snapshot>) -> Result<Vec<Snapshot>> {
    let mut found: Vec<Snapshot> = Vec::new();
    for spec in specs {
        let snapshot = find(spec)?;
        if found.iter().all(|known| known.id != snapshot.id) {
            found.push(snapshot.clone());
        }
    }
    Ok(found)
}

/// When it was taken, as far as that can be believed; seconds since 1970.
pub fn taken_at(snapshot: &Snapshot) -> i64 {
    snapshot.record.credible_time(clock::now())
}

/// `Maria's iPhone of 2021-01-15 02:38`, safe to print.
pub fn title(snapshot: &Snapshot) -> String {
    format!("{} of {}", printable(device_name(snapshot)), local_time(taken_at(snapshot)))
}

/// `kept Maria's iPhone of 2021-01-15 02:38 as 1f3a9c2e: 13 files, 3.5 MB, 812 KB new`
pub fn kept_line(snapshot: &Snapshot) -> String {
    let record = &snapshot.record;
    let added = match record.added_bytes {
        0 => "nothing".to_owned(),
        bytes => size(bytes),
    };
    let (number, bytes) = (files(record.files), size(record.bytes));
    format!("kept {} as {}: {number}, {bytes}, {added} new", title(snapshot), snapshot.id.short())
}

/// A snapshot in JSON.
#[derive(Serialize)]
pub struct Row {
    id: String,
    /// By the backup's own account.
    time: Option<String>,
    /// Whether that cannot be: a clock was wrong by more than a day.
    time_doubtful: bool,
    /// When it was first kept; not before it was taken, unless a clock was wrong.
    kept: Option<String>,
    udid: String,
    device_name: Option<String>,
    product_type: Option<String>,
    product_version: Option<String>,
    encrypted: bool,
    sealed: bool,
    files: u64,
    bytes: u64,
    added_bytes: u64,
    source: String,
    pinned: bool,
    /// With how many warnings it was kept.
    warning_count: u64,
}

impl Row {
    pub fn of(snapshot: &Snapshot, pinned: bool) -> Row {
        let record = &snapshot.record;
        let device = |key| record.device.get(key).cloned();
        Row {
            id: snapshot.id.to_string(),
            time: rfc3339(record.time),
            time_doubtful: record.is_time_doubtful(clock::now()),
            kept: rfc3339(record.kept_at()),
            udid: record.series.clone(),
            device_name: device("name"),
            product_type: device("product_type"),
            product_version: device("product_version"),
            encrypted: record.encrypted,
            sealed: record.sealed,
            files: record.files,
            bytes: record.bytes,
            added_bytes: record.added_bytes,
            source: record.source.to_string(),
            pinned,
            warning_count: record.warning_count,
        }
    }
}

fn print_table(snapshots: &[&Snapshot], pins: &BTreeSet<SnapshotId>, report: &Report) -> Result<()> {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("ID", Left),
        ("TIME", Left),
        ("DEVICE", Left),
        ("IOS", Left),
        ("FILES", Right),
        ("SIZE", Right),
        ("ADDED", Right),
        ("FROM", Left),
        ("NOTES", Left),
    ]);
    for snapshot in snapshots {
        let record = &snapshot.record;
        table.row([
            snapshot.id.short(),
            local_time(taken_at(snapshot)),
            device_name(snapshot).to_owned(),
            record.device.get("product_version").cloned().unwrap_or_default(),
            count(record.files),
            size(record.bytes),
            size(record.added_bytes),
            record.source.to_string(),
            notes(snapshot, pins.contains(&snapshot.id)),
        ]);
    }
    table.print(report)
}

fn notes(snapshot: &Snapshot, pinned: bool) -> String {
    let record = &snapshot.record;
    let warnings = (record.warning_count > 0).then(|| of_many(record.warning_count, "warning", "warnings"));
    let words = [(pinned, "pinned"), (record.encrypted, "encrypted"), (record.sealed, "sealed")];
    let words = words.into_iter().filter(|(holds, _)| *holds).map(|(_, word)| word.to_owned());
    let is_doubtful = record.is_time_doubtful(clock::now());
    let date = is_doubtful.then(|| format!("date doubtful: says {}", local_time(record.time)));
    words.chain(date).chain(warnings).collect::<Vec<_>>().join(", ")
}

/// What the device is called, or else its UDID.
pub fn device_name(snapshot: &Snapshot) -> &str {
    snapshot.record.device.get("name").unwrap_or(&snapshot.record.series)
}
