//! `forget`: snapshots leave the list, by name or by rules, until they are undeleted or the next prune takes them for
//! good.

use std::collections::BTreeMap;

use heirloom_store::{Error as StoreError, PruneOptions, Repository, Snapshot, SnapshotId, SnapshotList};
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::{
    access,
    args::{Forget, Global, Keep},
    clock,
    failure::{Exit, Failure, Result},
    prune,
    report::{Align, Report, Table, local_time, of_many, printable, size},
    retention::{Rules, Taken, reasons_to_keep},
    snapshots::{self, Row as SnapshotRow, device_name, taken_at, title},
};

/// With more than these, the way to undo it names none.
const NAMED_TO_UNDO_MAX: usize = 8;

/// The result in JSON.
#[derive(Serialize)]
struct ResultRow {
    /// What the rules keep of the devices that they were applied to.
    kept: Vec<KeptRow>,
    removed: Vec<SnapshotRow>,
    dry_run: bool,
    /// What a prune would free with these forgotten, if that is known.
    would_free_bytes: Option<u64>,
    /// The outcome of --prune; null without it, and of a dry run.
    pruned: Option<prune::Row>,
}

#[derive(Serialize)]
struct KeptRow {
    #[serde(flatten)]
    snapshot: SnapshotRow,
    reasons: Vec<String>,
}

/// What is to be done with each snapshot that was looked at, oldest first.
struct Plan {
    verdicts: Vec<Verdict>,
}

struct Verdict {
    snapshot: Snapshot,
    is_pinned: bool,
    is_kept: bool,
    reasons: Vec<String>,
}

pub fn run(args: &Forget, global: &Global, report: &Report) -> Result<Exit> {
    let rules = rules(&args.keep);
    check_usage(args, rules.as_ref())?;
    let repository = access::open(global, report)?;
    let list = repository.snapshots()?;
    list.problems.iter().for_each(|problem| report.warn(problem));
    let plan = match &rules {
        Some(rules) => Plan::by_rules(&repository, &list, rules, args.udid.as_deref())?,
        None => Plan::by_names(&repository, &list, &args.snapshots)?,
    };
    let removed = plan.removed();
    if !report.json {
        plan.print(report)?;
    }
    let prunes = args.prune && !args.dry_run;
    let is_idle = prunes || removed.is_empty();
    let would_free_bytes = if is_idle { None } else { would_free(&repository, &removed, report)? };
    if !args.dry_run {
        repository.forget(&removed)?;
    }
    if !report.json {
        tell(args, &removed, would_free_bytes, report)?;
    }
    if prunes {
        repository.prunes();
    }
    let pruned = match prunes {
        true => Some(prune::prune(&repository, &PruneOptions::default(), false, report)),
        false => None,
    };
    // What was forgotten is told even where the prune failed.
    if report.json {
        let done = pruned.as_ref().and_then(|pruned| pruned.as_ref().ok());
        let row = done.map(|(outcome, _)| prune::Row::of(outcome));
        report.json(&ResultRow { pruned: row, ..plan.result(args.dry_run, would_free_bytes) })?;
    }
    let exit = pruned.transpose()?.map_or(Exit::Ok, |(_, exit)| exit);
    Ok(exit.max(Exit::in_spite_of(&list.problems)))
}

/// Counts the bytes that a prune would free if these were forgotten too; `None` if nobody can tell, because something
/// is damaged, or only a newer
/// program knows it.
fn would_free(repository: &Repository, forgotten: &[Snapshot], report: &Report) -> Result<Option<u64>> {
    let forgotten: Vec<_> = forgotten.iter().map(|snapshot| snapshot.id).collect();
    match prune::plan(repository, &PruneOptions::default(), &forgotten, report) {
        Ok(plan) => Ok(Some(plan.freed_bytes)),
        Err(error) if error.is_damage() || error.is_newer() => {
            report.warn(format_args!("what a prune would free is not known: {error}"));
            Ok(None)
        }
        Err(error) => Err(Failure::from(error)),
    }
}

/// The rules, if any was given.
fn rules(keep: &Keep) -> Option<Rules> {
    let Keep { keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly, keep_within } = keep;
    let counts = [keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly];
    if counts.iter().all(|count| count.is_none()) && keep_within.is_none() {
        return None;
    }
    let [last, hourly, daily, weekly, monthly, yearly] = counts.map(|count| count.unwrap_or_default());
    Some(Rules { last, hourly, daily, weekly, monthly, yearly, within: keep_within.clone().unwrap_or_default() })
}

fn check_usage(args: &Forget, rules: Option<&Rules>) -> Result<()> {
    let usage = |message: &str, hint: &str| Err(Failure::new(Exit::Usage, message).hint(hint));
    match rules {
        None if args.snapshots.is_empty() => usage(
            "it was not said which snapshots to forget",
            "name them, or say what to keep: --keep-daily 14 --keep-monthly 12, with --dry-run to see what would go",
        ),
        None if args.udid.is_some() => {
            usage("--udid chooses a device for rules", "leave it away, or name no snapshots")
        }
        Some(_) if !args.snapshots.is_empty() => {
            usage("snapshots are forgotten by name or by rules, not by both", "leave one of the two away")
        }
        Some(rules) if rules.keep_nothing() => {
            usage("these rules keep no snapshot at all", "give one of them a number above 0, or name the snapshots")
        }
        _ => Ok(()),
    }
}

impl Plan {
    fn by_rules(repository: &Repository, list: &SnapshotList, rules: &Rules, udid: Option<&str>) -> Result<Plan> {
        let wanted = snapshots::of_device(&list.snapshots, udid)?;
        let pins = repository.pins()?;
        let now = clock::now();
        let taken: Vec<Taken> = wanted
            .iter()
            .map(|Snapshot { id, record }| Taken {
                time: record.credible_time(now),
                doubtful: record.is_time_doubtful(now).then_some(record.time),
                series: &record.series,
                is_pinned: pins.contains(id),
            })
            .collect();
        let reasons = reasons_to_keep(&taken, rules, now, &TimeZone::system());
        let verdicts = wanted.into_iter().zip(&taken).zip(reasons).map(|((snapshot, taken), reasons)| Verdict {
            snapshot: snapshot.clone(),
            is_pinned: taken.is_pinned,
            is_kept: !reasons.is_empty(),
            reasons: if reasons.is_empty() { vec!["no rule keeps it".to_owned()] } else { reasons },
        });
        Ok(Plan { verdicts: verdicts.collect() })
    }

    fn by_names(repository: &Repository, list: &SnapshotList, names: &[String]) -> Result<Plan> {
        let mut named = snapshots::find_all(list, names)?;
        let pins = repository.pins()?;
        if let Some(pinned) = named.iter().find(|snapshot| pins.contains(&snapshot.id)) {
            let failure = Failure::from(StoreError::Pinned { id: pinned.id }).about(title(pinned));
            return Err(failure.hint(format!("`heirloom unpin {}` lets go of it", pinned.id.short())));
        }
        named.sort_by_key(Snapshot::age);
        let verdicts = named.into_iter().map(|snapshot| Verdict {
            snapshot,
            is_pinned: false,
            is_kept: false,
            reasons: vec!["named".to_owned()],
        });
        Ok(Plan { verdicts: verdicts.collect() })
    }

    fn removed(&self) -> Vec<Snapshot> {
        self.verdicts.iter().filter(|verdict| !verdict.is_kept).map(|verdict| verdict.snapshot.clone()).collect()
    }

    /// A table for each device.
    fn print(&self, report: &Report) -> Result<()> {
        let mut devices: BTreeMap<&str, Vec<&Verdict>> = BTreeMap::new();
        for verdict in &self.verdicts {
            devices.entry(&verdict.snapshot.record.series).or_default().push(verdict);
        }
        for (udid, verdicts) in devices {
            // It may have been renamed since the first of them.
            let name = verdicts.last().map_or(udid, |verdict| device_name(&verdict.snapshot));
            report.line(format_args!("{} ({})", printable(name), printable(udid)))?;
            use Align::Left;
            let mut table = Table::new(&[("ID", Left), ("TIME", Left), ("", Left), ("REASON", Left)]);
            for Verdict { snapshot, is_kept, reasons, .. } in verdicts {
                let what = if *is_kept { "kept" } else { "removed" };
                table.row([snapshot.id.short(), local_time(taken_at(snapshot)), what.to_owned(), reasons.join(", ")]);
            }
            table.print(report)?;
            report.line("")?;
        }
        Ok(())
    }

    fn result(self, dry_run: bool, would_free_bytes: Option<u64>) -> ResultRow {
        let (kept, removed): (Vec<Verdict>, Vec<Verdict>) =
            self.verdicts.into_iter().partition(|verdict| verdict.is_kept);
        let row = |verdict: &Verdict| SnapshotRow::of(&verdict.snapshot, verdict.is_pinned);
        ResultRow {
            kept: kept
                .into_iter()
                .map(|verdict| KeptRow { snapshot: row(&verdict), reasons: verdict.reasons })
                .collect(),
            removed: removed.iter().map(row).collect(),
            dry_run,
            would_free_bytes,
            pruned: None,
        }
    }
}

/// What was done, or would be, and how to undo it.
fn tell(args: &Forget, removed: &[Snapshot], would_free_bytes: Option<u64>, report: &Report) -> Result<()> {
    let number = of_many(removed.len() as u64, "snapshot", "snapshots");
    match (removed.is_empty(), args.dry_run) {
        (true, _) => report.line("nothing to forget")?,
        (false, true) => report.line(format_args!("{number} would be forgotten"))?,
        (false, false) => report.line(format_args!("forgot {number}"))?,
    }
    if let Some(bytes) = would_free_bytes {
        report.line(format_args!("a prune would free {}", size(bytes)))?;
    }
    if !removed.is_empty() && !args.dry_run && !args.prune {
        let ids: Vec<&SnapshotId> = removed.iter().map(|snapshot| &snapshot.id).collect();
        report.note(format_args!("undo: heirloom undelete {}, until the next prune", to_undo(&ids)));
    }
    Ok(())
}

fn to_undo(ids: &[&SnapshotId]) -> String {
    if ids.len() > NAMED_TO_UNDO_MAX {
        return "ID".to_owned();
    }
    ids.iter().map(|id| id.short()).collect::<Vec<_>>().join(" ")
}
