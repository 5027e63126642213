//! `pin` and `unpin`: snapshots that `forget` is not to take, and those that it may take again.

use crate::{
    access,
    args::{Global, Pin, Unpin},
    failure::{Exit, Result},
    report::Report,
    snapshots::{self, Row, title},
};

pub fn pin(args: &Pin, global: &Global, report: &Report) -> Result<Exit> {
    set(&args.snapshots, true, global, report)
}

pub fn unpin(args: &Unpin, global: &Global, report: &Report) -> Result<Exit> {
    set(&args.snapshots, false, global, report)
}

fn set(names: &[String], pinned: bool, global: &Global, report: &Report) -> Result<Exit> {
    let repository = access::open(global, report)?;
    let list = snapshots::list(&repository, report)?;
    let named = snapshots::find_all(&list, names)?;
    let before = repository.pins()?;
    for snapshot in &named {
        if pinned { repository.pin(&snapshot.id) } else { repository.unpin(&snapshot.id) }?;
        if !report.json {
            let (word, title, id) = (if pinned { "pinned" } else { "unpinned" }, title(snapshot), snapshot.id.short());
            match (before.contains(&snapshot.id) == pinned, pinned) {
                (false, _) => report.line(format_args!("{word} {title} ({id})"))?,
                (true, true) => report.note(format_args!("{title} ({id}) is pinned already")),
                (true, false) => report.note(format_args!("{title} ({id}) is not pinned")),
            }
        }
    }
    if report.json {
        report.json(&named.iter().map(|snapshot| Row::of(snapshot, pinned)).collect::<Vec<_>>())?;
    }
    Ok(Exit::Ok)
}
