//! `stats`: what the repository takes, and what of it is whose.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_store::{DiskUse, FileCount, SeriesStats, SnapshotId, SnapshotStats, Stats as RepositoryStats};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::{
    access,
    args::{Global, Stats},
    clock,
    failure::{Exit, Result},
    interrupt,
    report::{Align, Report, Table, count, local_time, of_many, size},
    snapshots::{self, Row as SnapshotRow, device_name, taken_at},
};

pub fn run(args: &Stats, global: &Global, report: &Report) -> Result<Exit> {
    let repository = access::open(global, report)?;
    let list = snapshots::list(&repository, report)?;
    let wanted = match args.snapshots.as_slice() {
        [] => snapshots::of_device(&list.snapshots, args.udid.as_deref())?.into_iter().cloned().collect(),
        named => snapshots::find_all(&list, named)?,
    };
    let wanted: Vec<SnapshotId> = wanted.iter().map(|snapshot| snapshot.id).collect();
    interrupt::catch();
    let progress = report.progress("looking at what is needed");
    let stats = repository.stats(&|now| progress.step(now))?;
    drop(progress);
    let shown = Shown::of(&stats, &wanted);
    if report.json {
        report.json(&StatsRow::of(&stats, &shown, &repository.pins()?))?;
        return Ok(Exit::Ok);
    }
    if args.snapshots.is_empty() {
        if args.udid.is_none() {
            print_repository(&stats, report)?;
        }
        if !shown.series.is_empty() {
            print_devices(&shown.series, report)?;
            print_growth(&shown.series, &stats, report)?;
        }
    }
    if !shown.snapshots.is_empty() {
        print_snapshots(&shown.snapshots, report)?;
    }
    Ok(Exit::Ok)
}

/// What of a repository is shown: some snapshots, and their devices.
struct Shown<'s> {
    snapshots: Vec<&'s SnapshotStats>,
    series: Vec<&'s SeriesStats>,
}

impl<'s> Shown<'s> {
    fn of(stats: &'s RepositoryStats, wanted: &[SnapshotId]) -> Shown<'s> {
        let snapshots: Vec<&SnapshotStats> =
            stats.snapshots.iter().filter(|of| wanted.contains(&of.snapshot.id)).collect();
        let is_shown =
            |of: &&SeriesStats| snapshots.iter().any(|one| one.snapshot.record.series == of.newest.record.series);
        Shown { series: stats.series.iter().filter(is_shown).collect(), snapshots }
    }
}

/// The snapshots of a month, by local time.
#[derive(Default)]
struct Month {
    snapshots: u64,
    added_bytes: u64,
}

/// Bytes that the snapshots of a device have added, by months such as `2024-05`. Those whose time is in no calendar are left
/// out.
fn growth(series: &SeriesStats, stats: &RepositoryStats) -> BTreeMap<String, Month> {
    let mut months: BTreeMap<String, Month> = BTreeMap::new();
    let now = clock::now();
    let records = stats.snapshots.iter().map(|of| &of.snapshot.record);
    for record in records.filter(|record| record.series == series.newest.record.series) {
        let Ok(time) = Timestamp::from_second(record.credible_time(now)) else { continue };
        let month = time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m").to_string();
        let month = months.entry(month).or_default();
        month.snapshots += 1;
        month.added_bytes = month.added_bytes.saturating_add(record.added_bytes);
    }
    months
}

fn print_repository(stats: &RepositoryStats, report: &Report) -> Result<()> {
    let RepositoryStats { disk, needed_bytes, unneeded_bytes, .. } = stats;
    let held = stats.bytes();
    let snapshots = of_many(stats.snapshots.len() as u64, "snapshot", "snapshots");
    let devices = of_many(stats.series.len() as u64, "device", "devices");
    report.line(format_args!("{snapshots} of {devices}: {} of files", size(held)))?;
    let times = if held > *needed_bytes && *needed_bytes > 0 {
        format!(", {:.1} times less", held as f64 / *needed_bytes as f64)
    } else {
        String::new()
    };
    report.line(format_args!("needed for them: about {} of packs{times}", size(*needed_bytes)))?;
    report.line(format_args!("a prune can free: about {} at most", size(*unneeded_bytes)))?;
    report.line("")?;
    let mut table = Table::new(&[("ON DISK", Align::Left), ("FILES", Align::Right), ("SIZE", Align::Right)]);
    for (name, part) in parts(disk).into_iter().chain([("all", disk.all())]) {
        table.row([name.to_owned(), count(part.files), size(part.bytes)]);
    }
    table.print(report)?;
    report.line("")
}

fn parts(disk: &DiskUse) -> [(&'static str, FileCount); 5] {
    let DiskUse { data_packs, tree_packs, index, parity, other } = *disk;
    [("data packs", data_packs), ("tree packs", tree_packs), ("index", index), ("parity", parity), ("other", other)]
}

fn print_devices(series: &[&SeriesStats], report: &Report) -> Result<()> {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("DEVICE", Left),
        ("UDID", Left),
        ("SNAPSHOTS", Right),
        ("NEWEST", Right),
        ("ALL", Right),
        ("UNIQUE", Right),
    ]);
    for SeriesStats { newest, snapshots, bytes, unique_bytes } in series {
        table.row([
            device_name(newest).to_owned(),
            newest.record.series.clone(),
            count(*snapshots),
            size(newest.record.bytes),
            size(*bytes),
            size(*unique_bytes),
        ]);
    }
    table.print(report)?;
    report.line("")
}

fn print_growth(series: &[&SeriesStats], stats: &RepositoryStats, report: &Report) -> Result<()> {
    use Align::{Left, Right};
    let mut table = Table::new(&[("DEVICE", Left), ("MONTH", Left), ("SNAPSHOTS", Right), ("ADDED", Right)]);
    for of in series {
        for (month, Month { snapshots, added_bytes }) in growth(of, stats) {
            table.row([device_name(&of.newest).to_owned(), month, count(snapshots), size(added_bytes)]);
        }
    }
    table.print(report)?;
    report.line("")
}

fn print_snapshots(snapshots: &[&SnapshotStats], report: &Report) -> Result<()> {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("ID", Left),
        ("TIME", Left),
        ("DEVICE", Left),
        ("SIZE", Right),
        ("ADDED", Right),
        ("UNIQUE", Right),
    ]);
    for SnapshotStats { snapshot, unique_bytes } in snapshots {
        table.row([
            snapshot.id.short(),
            local_time(taken_at(snapshot)),
            device_name(snapshot).to_owned(),
            size(snapshot.record.bytes),
            size(snapshot.record.added_bytes),
            size(*unique_bytes),
        ]);
    }
    table.print(report)
}

/// All of it in JSON. The repository is shown whole, of devices and snapshots those that were asked for.
#[derive(Serialize)]
struct StatsRow {
    repository: RepositoryRow,
    devices: Vec<DeviceRow>,
    snapshots: Vec<UniqueRow>,
}

impl StatsRow {
    fn of(stats: &RepositoryStats, shown: &Shown, pins: &BTreeSet<SnapshotId>) -> StatsRow {
        let row = |SnapshotStats { snapshot, unique_bytes }: &SnapshotStats| UniqueRow {
            snapshot: SnapshotRow::of(snapshot, pins.contains(&snapshot.id)),
            unique_bytes: *unique_bytes,
        };
        StatsRow {
            repository: RepositoryRow::of(stats),
            devices: shown.series.iter().map(|series| DeviceRow::of(series, stats)).collect(),
            snapshots: shown.snapshots.iter().map(|of| row(of)).collect(),
        }
    }
}

#[derive(Serialize)]
struct RepositoryRow {
    snapshots: u64,
    /// What all snapshots hold.
    bytes: u64,
    needed_bytes: u64,
    unneeded_bytes: u64,
    disk: BTreeMap<String, CountRow>,
}

#[derive(Serialize)]
struct CountRow {
    files: u64,
    bytes: u64,
}

impl RepositoryRow {
    fn of(stats: &RepositoryStats) -> RepositoryRow {
        let row =
            |(name, FileCount { files, bytes }): (&str, FileCount)| (name.replace(' ', "_"), CountRow { files, bytes });
        RepositoryRow {
            snapshots: stats.snapshots.len() as u64,
            bytes: stats.bytes(),
            needed_bytes: stats.needed_bytes,
            unneeded_bytes: stats.unneeded_bytes,
            disk: parts(&stats.disk).map(row).into(),
        }
    }
}

#[derive(Serialize)]
struct DeviceRow {
    udid: String,
    device_name: Option<String>,
    snapshots: u64,
    newest_bytes: u64,
    bytes: u64,
    unique_bytes: u64,
    growth: Vec<MonthRow>,
}

#[derive(Serialize)]
struct MonthRow {
    month: String,
    snapshots: u64,
    added_bytes: u64,
}

impl DeviceRow {
    fn of(series: &SeriesStats, stats: &RepositoryStats) -> DeviceRow {
        let SeriesStats { newest, snapshots, bytes, unique_bytes } = series;
        let months = growth(series, stats).into_iter();
        DeviceRow {
            udid: newest.record.series.clone(),
            device_name: newest.record.device.get("name").cloned(),
            snapshots: *snapshots,
            newest_bytes: newest.record.bytes,
            bytes: *bytes,
            unique_bytes: *unique_bytes,
            growth: months
                .map(|(month, Month { snapshots, added_bytes })| MonthRow { month, snapshots, added_bytes })
                .collect(),
        }
    }
}

#[derive(Serialize)]
struct UniqueRow {
    #[serde(flatten)]
    snapshot: SnapshotRow,
    unique_bytes: u64,
}
