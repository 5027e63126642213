//! `prune`: frees the room of what no snapshot needs.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

use heirloom_store::{Error as StoreError, PruneOptions, PruneOutcome, PrunePlan, Repository, SessionInfo, SnapshotId};
use serde::Serialize;

use crate::{
    access,
    args::{Global, Prune},
    failure::{Exit, Failure, Result},
    interrupt,
    report::{Report, duration, of_many, size},
};

pub fn run(args: &Prune, global: &Global, report: &Report) -> Result<Exit> {
    let repository = access::open(global, report)?;
    for id in &args.end_session {
        let ended = repository.end_session(id)?;
        report.note(format_args!("ended the session of {ended}"));
    }
    let options = PruneOptions { max_rewrite: args.max_rewrite, max_unused: args.max_unused };
    if args.dry_run {
        return tell_plan(&plan(&repository, &options, &[], report)?, report);
    }
    if args.now {
        refuse_if_busy(&repository)?;
    }
    repository.prunes();
    let (outcome, exit) = prune(&repository, &options, args.now, report)?;
    if report.json {
        report.json(&Row::of(&outcome))?;
    }
    Ok(exit)
}

/// What a prune would do if the snapshots `without` were forgotten, too.
pub fn plan(
    repository: &Repository,
    options: &PruneOptions,
    without: &[SnapshotId],
    report: &Report,
) -> Result<PrunePlan, StoreError> {
    interrupt::catch();
    let progress = report.progress("looking at what is needed");
    repository.plan_prune(options, without, &|now| progress.step(now))
}

/// Prunes, and says what came of it, but not in JSON. If it must be done `now`, nothing may be left to the next prune.
pub fn prune(
    repository: &Repository,
    options: &PruneOptions,
    now: bool,
    report: &Report,
) -> Result<(PruneOutcome, Exit)> {
    let started = Instant::now();
    interrupt::catch();
    let progress = report.progress("freeing room");
    // The time that is left falls; where it rises, another wait begins.
    let waiting = AtomicU64::new(0);
    let outcome = repository.prune(options, &|now| {
        if now.waiting_seconds > waiting.swap(now.waiting_seconds, Relaxed) {
            report.note(format_args!(
                "waiting {} s: what other computers have just written may be seen late here. Ctrl-C ends this, and nothing is lost",
                now.waiting_seconds
            ));
        }
        progress.step(now)
    })?;
    drop(progress);
    if !report.json {
        report.line(format_args!("{} in {}", what_was_done(&outcome), duration(started.elapsed())))?;
        tell_waiting(&outcome, report);
    }
    if outcome.damaged_packs > 0 {
        let packs = of_many(outcome.damaged_packs, "pack stays", "packs stay");
        report.warn(format_args!(
            "{packs}: something that is needed in them cannot be read. `heirloom check --read-data`"
        ));
        return Ok((outcome, Exit::Damage));
    }
    let exit = if now && outcome.waiting_packs > 0 { Exit::Busy } else { Exit::Ok };
    Ok((outcome, exit))
}

fn refuse_if_busy(repository: &Repository) -> Result<()> {
    match repository.sessions()?.first() {
        None => Ok(()),
        Some(session) => Err(Failure::new(Exit::Busy, format!("the repository is busy: {session} is at work")).hint(
            "wait for it, or leave --now away; if it is not at work any more: `heirloom prune --end-session ID`",
        )),
    }
}

fn tell_plan(plan: &PrunePlan, report: &Report) -> Result<Exit> {
    if report.json {
        report.json(&Row::of_plan(plan))?;
        return Ok(Exit::Ok);
    }
    let PrunePlan { packs, bytes, needed_bytes, dead_packs, rewritten_packs, rewritten_bytes, freed_bytes, .. } = *plan;
    report.line(format_args!(
        "{} in {}, of which {} is needed",
        size(bytes),
        of_many(packs, "pack", "packs"),
        size(needed_bytes)
    ))?;
    let rewritten = of_many(rewritten_packs, "pack", "packs");
    let written = size(rewritten_bytes);
    let deleted = of_many(dead_packs, "pack", "packs");
    report.line(format_args!(
        "would free about {}: {deleted} deleted, {rewritten} written anew ({written})",
        size(freed_bytes)
    ))?;
    Ok(Exit::Ok)
}

/// `freed 412 MB: 31 packs deleted, 12 MB written anew`
fn what_was_done(outcome: &PruneOutcome) -> String {
    let PruneOutcome { deleted_packs, deleted_bytes, written_bytes, .. } = *outcome;
    if deleted_packs == 0 && written_bytes == 0 {
        return "nothing was freed".to_owned();
    }
    let freed = size(deleted_bytes.saturating_sub(written_bytes));
    format!("freed {freed}: {} deleted, {} written anew", of_many(deleted_packs, "pack", "packs"), size(written_bytes))
}

fn tell_waiting(outcome: &PruneOutcome, report: &Report) {
    if outcome.waiting_packs == 0 {
        return;
    }
    let packs = of_many(outcome.waiting_packs, "pack is", "packs are");
    let who: Vec<String> = outcome.waits_for.iter().map(SessionInfo::to_string).collect();
    let who = if who.is_empty() { "somebody who was at work".to_owned() } else { who.join(", ") };
    report.note(format_args!("{packs} left to the next prune: {who} may rely on what is in them"));
}

/// A prune in JSON, planned or done.
#[derive(Serialize)]
pub struct Row {
    dry_run: bool,
    /// Packs that there were, what they took, and what of it is needed; null of one that was done.
    packs: Option<u64>,
    bytes: Option<u64>,
    needed_bytes: Option<u64>,
    deleted_packs: u64,
    deleted_bytes: u64,
    /// Of packs that are deleted, too, what is needed is written anew.
    rewritten_packs: Option<u64>,
    written_bytes: u64,
    freed_bytes: u64,
    waiting_packs: u64,
    waits_for: Vec<String>,
    damaged_packs: u64,
}

impl Row {
    fn of_plan(plan: &PrunePlan) -> Row {
        Row {
            dry_run: true,
            packs: Some(plan.packs),
            bytes: Some(plan.bytes),
            needed_bytes: Some(plan.needed_bytes),
            deleted_packs: plan.dead_packs + plan.rewritten_packs,
            deleted_bytes: plan.freed_bytes + plan.rewritten_bytes,
            rewritten_packs: Some(plan.rewritten_packs),
            written_bytes: plan.rewritten_bytes,
            freed_bytes: plan.freed_bytes,
            waiting_packs: 0,
            waits_for: Vec::new(),
            damaged_packs: 0,
        }
    }

    pub fn of(outcome: &PruneOutcome) -> Row {
        let PruneOutcome { deleted_packs, deleted_bytes, written_bytes, waiting_packs, damaged_packs, .. } = *outcome;
        Row {
            dry_run: false,
            packs: None,
            bytes: None,
            needed_bytes: None,
            deleted_packs,
            deleted_bytes,
            rewritten_packs: None,
            written_bytes,
            freed_bytes: deleted_bytes.saturating_sub(written_bytes),
            waiting_packs,
            waits_for: outcome.waits_for.iter().map(|session| session.id.clone()).collect(),
            damaged_packs,
        }
    }
}
