//! `snapshots`: the list of them.

use heirloom_store::{Repository, Snapshot};
use serde::Serialize;

use crate::{
    access,
    args::{Global, Snapshots},
    failure::{Exit, Result},
    report::{Align, JsonArray, Report, Table, count, files, local_time, of_many, printable, rfc3339, size},
    snapshot_spec,
};

pub fn run(args: &Snapshots, global: &Global, report: &Report) -> Result<Exit> {
    let list = access::open(global, report)?.snapshots()?;
    list.problems.iter().for_each(|problem| report.warn(problem));
    let is_wanted = |snapshot: &&Snapshot| args.udid.as_ref().is_none_or(|udid| is_of(snapshot, udid));
    let wanted: Vec<&Snapshot> = list.snapshots.iter().filter(is_wanted).collect();
    if report.json {
        let mut array = JsonArray::new(report);
        wanted.iter().try_for_each(|snapshot| array.item(&Row::of(snapshot)))?;
        array.finish()?;
    } else if wanted.is_empty() {
        match &args.udid {
            Some(udid) if !list.snapshots.is_empty() => report.note(format_args!("no snapshots of {udid}")),
            _ => report.note("no snapshots yet"),
        }
    } else {
        print_table(&wanted, report)?;
    }
    Ok(if list.problems.is_empty() { Exit::Ok } else { Exit::Damage })
}

/// The one snapshot that `spec` names. Snapshots that cannot be read are warned of, because `latest` might be one of them.
pub fn find(repository: &Repository, spec: &str, report: &Report) -> Result<Snapshot> {
    let list = repository.snapshots()?;
    list.problems.iter().for_each(|problem| report.warn(problem));
    snapshot_spec::find(spec, &list.snapshots).cloned()
}

/// `Maria's iPhone of 2021-01-15 02:38`, safe to print.
pub fn title(snapshot: &Snapshot) -> String {
    format!("{} of {}", printable(device_name(snapshot)), local_time(snapshot.record.time))
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
    time: Option<String>,
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
}

impl Row {
    pub fn of(snapshot: &Snapshot) -> Row {
        let record = &snapshot.record;
        let device = |key| record.device.get(key).cloned();
        Row {
            id: snapshot.id.to_string(),
            time: rfc3339(record.time),
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
        }
    }
}

fn print_table(snapshots: &[&Snapshot], report: &Report) -> Result<()> {
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
            local_time(record.time),
            device_name(snapshot).to_owned(),
            record.device.get("product_version").cloned().unwrap_or_default(),
            count(record.files),
            size(record.bytes),
            size(record.added_bytes),
            record.source.to_string(),
            notes(snapshot),
        ]);
    }
    table.print(report)
}

fn notes(snapshot: &Snapshot) -> String {
    let record = &snapshot.record;
    let warnings = (record.warning_count > 0).then(|| of_many(record.warning_count, "warning", "warnings"));
    let notes =
        [record.encrypted.then(|| "encrypted".to_owned()), record.sealed.then(|| "sealed".to_owned()), warnings];
    notes.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn device_name(snapshot: &Snapshot) -> &str {
    snapshot.record.device.get("name").unwrap_or(&snapshot.record.series)
}

/// Whether a snapshot is of the device that is meant by a UDID or name.
pub fn is_of(snapshot: &Snapshot, device: &str) -> bool {
    let record = &snapshot.record;
    snapshot_spec::is_device(device, &record.series, record.device.get("name").map(String::as_str))
}
