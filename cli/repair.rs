//! `repair`: mends the repository, and says what it did and what is still lost.

use std::time::Instant;

use heirloom_store::{RepairOptions, RepairStep};
use serde::Serialize;

use crate::{
    access,
    args::{Global, Repair},
    check,
    failure::{Exit, Failure, Result},
    interrupt, location,
    password::Password,
    report::{Report, duration, of_many, printable},
};

pub fn run(args: &Repair, global: &Global, report: &Report) -> Result<Exit> {
    let started = Instant::now();
    if let (Ok(path), Some(from)) = (access::repository_path(global), &args.from)
        && location::is_same(path, from)
    {
        return Err(Failure::new(Exit::Usage, "the repository cannot be repaired from itself")
            .hint("give the folder of a copy with --from"));
    }
    let repository = access::open_damaged(global, report)?;
    let from = args.from.as_deref().map(|path| access::open_other(path, Password::FROM, report)).transpose()?;
    interrupt::catch();
    repository.prunes();
    let progress = report.progress("repairing");
    let options = RepairOptions { from: from.as_deref(), mark_lost: args.mark_lost, dry_run: args.dry_run };
    let repaired = heirloom_store::repair(&repository, &options, &|now| progress.step(now))?;
    drop(progress);
    if report.json {
        let done = repaired.done.iter();
        let done = done.map(|mended| DoneRow { step: name_of(mended.step), file: &mended.file, what: &mended.what });
        report.json(&Row {
            dry_run: args.dry_run,
            done: done.collect(),
            left: check::Row::of(&repaired.left, &repository.pins()?),
        })?;
    } else {
        for mended in &repaired.done {
            report.line(printable(&format!("{}: {}", mended.file, mended.what)))?;
        }
        if check::exit_of(&repaired.left) != Exit::Ok {
            report.line("left:")?;
        }
        check::print_problems(&repaired.left, report)?;
        let done = match (repaired.done.len() as u64, args.dry_run) {
            (0, _) => "nothing to mend".to_owned(),
            (number, false) => format!("{} done", of_many(number, "repair", "repairs")),
            (number, true) => format!("{} to be done", of_many(number, "repair", "repairs")),
        };
        let left = check::what_is_wrong(&repaired.left);
        report.line(format_args!("{done}, {left} left: {}", duration(started.elapsed())))?;
    }
    Ok(check::exit_of(&repaired.left))
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
    left: check::Row<'a>,
}

#[derive(Serialize)]
struct DoneRow<'a> {
    step: &'static str,
    file: &'a str,
    what: &'a str,
}
