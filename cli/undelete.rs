//! `undelete`: snapshots that were forgotten come back, as long as they are not pruned.

use crate::{
    access,
    args::{Global, Undelete},
    failure::{Exit, Failure, Result},
    report::Report,
    snapshots::{self, Row, title},
};

pub fn run(args: &Undelete, global: &Global, report: &Report) -> Result<Exit> {
    let repository = access::open(global, report)?;
    if args.snapshots.is_empty() {
        return snapshots::show_trash(&repository, None, report);
    }
    let trash = repository.trash()?;
    trash.problems.iter().for_each(|problem| report.warn(problem));
    if trash.snapshots.is_empty() {
        return Err(Failure::failed("the trash is empty: there is nothing to undelete")
            .hint("what was pruned cannot come back; `heirloom snapshots` lists what there is"));
    }
    let named = snapshots::find_all_forgotten(&trash, &args.snapshots)?;
    for snapshot in &named {
        repository.undelete(snapshot)?;
        if !report.json {
            report.line(format_args!("undeleted {} ({})", title(snapshot), snapshot.id.short()))?;
        }
    }
    if report.json {
        let pins = repository.pins()?;
        report
            .json(&named.iter().map(|snapshot| Row::of(snapshot, pins.contains(&snapshot.id))).collect::<Vec<_>>())?;
    }
    Ok(Exit::Ok)
}
