//! `check`: verifies the repository, and names every file of it that is not whole.

use std::{ops::ControlFlow, time::Instant};

use heirloom_store::{CheckReport, Depth};
use serde::Serialize;

use crate::{
    access,
    args::{Check, Global},
    failure::{Exit, Failure, Result},
    interrupt,
    report::{Report, duration, of_many, printable, size},
};

pub fn run(args: &Check, global: &Global, report: &Report) -> Result<Exit> {
    let started = Instant::now();
    let checked = if args.packs { check_files(global, report)? } else { check_content(args, global, report)? };
    if report.json {
        let problems =
            checked.problems.iter().map(|problem| ProblemRow { file: &problem.file, what: &problem.what }).collect();
        let CheckReport { snapshots, packs, chunks, bytes_read, .. } = checked;
        report.json(&Row { problems, snapshots, packs, chunks, bytes_read })?;
    } else {
        for problem in &checked.problems {
            report.line(printable(&problem.to_string()))?;
        }
        let found = match checked.problems.len() {
            0 => "no problems".to_owned(),
            number => of_many(number as u64, "problem", "problems"),
        };
        report.line(format_args!("{found}: {} in {}", what_was_read(&checked), duration(started.elapsed())))?;
    }
    Ok(if checked.problems.is_empty() { Exit::Ok } else { Exit::Damage })
}

/// Compares each file with its name, for which nobody needs a password.
fn check_files(global: &Global, report: &Report) -> Result<CheckReport> {
    let path = access::repository_path(global)?;
    let storage = access::storage(path);
    interrupt::catch();
    let progress = report.progress("checking");
    let checked = heirloom_store::check_packs_without_key(&*storage, &|now| step(&progress, now));
    checked.map_err(|error| Failure::from(error).about(path.display()))
}

fn check_content(args: &Check, global: &Global, report: &Report) -> Result<CheckReport> {
    let repository = access::open(global, report)?;
    interrupt::catch();
    let depth = if args.read_data { Depth::ReadData } else { Depth::Structure };
    let progress = report.progress("checking");
    Ok(heirloom_store::check(&repository, depth, &|now| step(&progress, now))?)
}

fn step(progress: &crate::report::Progress, now: heirloom_store::Progress) -> ControlFlow<()> {
    progress.update(now);
    if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// `3 snapshots, 12 packs, 1 234 chunks, 61 MB read`; without what could not be counted without the password.
fn what_was_read(checked: &CheckReport) -> String {
    let counted = [
        (checked.snapshots, "snapshot", "snapshots"),
        (checked.packs, "pack", "packs"),
        (checked.chunks, "chunk", "chunks"),
    ];
    let mut parts: Vec<String> = counted
        .iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, one, many)| of_many(*number, one, many))
        .collect();
    if checked.bytes_read > 0 {
        parts.push(format!("{} read", size(checked.bytes_read)));
    }
    if parts.is_empty() { "nothing is kept yet".to_owned() } else { parts.join(", ") }
}

/// The result in JSON.
#[derive(Serialize)]
struct Row<'a> {
    problems: Vec<ProblemRow<'a>>,
    snapshots: u64,
    packs: u64,
    chunks: u64,
    bytes_read: u64,
}

#[derive(Serialize)]
struct ProblemRow<'a> {
    file: &'a str,
    what: &'a str,
}
