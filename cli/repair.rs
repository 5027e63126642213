//! `repair`: mends the repository, and says what it did and what is still lost.

use std::{ops::ControlFlow, time::Instant};

use heirloom_store::{RepairOptions, RepairStep};
use serde::Serialize;

use crate::{
    access,
    args::{Global, Repair},
    failure::{Exit, Result},
    interrupt,
    report::{Report, count, duration, of_many, printable},
};

pub fn run(args: &Repair, global: &Global, report: &Report) -> Result<Exit> {
    let started = Instant::now();
    let repository = access::open_damaged(global, report)?;
    let from = args.from.as_deref().map(|path| access::open_from(path, report)).transpose()?;
    interrupt::catch();
    let progress = report.progress("repairing");
    let options = RepairOptions { from: from.as_ref(), mark_lost: args.mark_lost, dry_run: args.dry_run };
    let repaired = heirloom_store::repair(&repository, &options, &|now| {
        progress.update(now);
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    drop(progress);
    if report.json {
        let done = repaired.done.iter();
        let done = done.map(|mended| DoneRow { step: name_of(mended.step), file: &mended.file, what: &mended.what });
        let problems = repaired.problems.iter();
        let problems = problems.map(|problem| ProblemRow { file: &problem.file, what: &problem.what });
        report.json(&Row { dry_run: args.dry_run, done: done.collect(), problems: problems.collect() })?;
    } else {
        for mended in &repaired.done {
            report.line(printable(&format!("{}: {}", mended.file, mended.what)))?;
        }
        for problem in &repaired.problems {
            report.line(printable(&format!("still: {problem}")))?;
        }
        let done = match (repaired.done.len() as u64, args.dry_run) {
            (0, _) => "nothing to mend".to_owned(),
            (number, false) => format!("{} done", of_many(number, "repair", "repairs")),
            (number, true) => format!("{} to be done", of_many(number, "repair", "repairs")),
        };
        let left = match repaired.problems.len() as u64 {
            0 => "no problems are left".to_owned(),
            1 => "1 problem is left".to_owned(),
            number => format!("{} problems are left", count(number)),
        };
        report.line(format_args!("{done}, {left}: {}", duration(started.elapsed())))?;
    }
    Ok(if repaired.problems.is_empty() { Exit::Ok } else { Exit::Damage })
}

/// A step in JSON.
fn name_of(step: RepairStep) -> &'static str {
    match step {
        RepairStep::Keys => "keys",
        RepairStep::Packs => "packs",
        RepairStep::Index => "index",
        RepairStep::Records => "records",
        RepairStep::Refill => "refill",
        RepairStep::MarkLost => "mark-lost",
        RepairStep::Parity => "parity",
    }
}

/// The result in JSON.
#[derive(Serialize)]
struct Row<'a> {
    dry_run: bool,
    done: Vec<DoneRow<'a>>,
    problems: Vec<ProblemRow<'a>>,
}

#[derive(Serialize)]
struct DoneRow<'a> {
    step: &'static str,
    file: &'a str,
    what: &'a str,
}

#[derive(Serialize)]
struct ProblemRow<'a> {
    file: &'a str,
    what: &'a str,
}
