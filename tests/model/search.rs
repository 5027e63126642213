//! Breadth first through every state that can be reached, with a judgement of each.

use std::{
    collections::{HashSet, VecDeque},
    fmt::Write,
};

use super::{
    protocol::{Event, Kind, Model},
    state::*,
};

/// What a search found.
pub struct Found {
    pub states: usize,
    /// What does not hold somewhere, and the shortest way there, a line for each step.
    pub violation: Option<String>,
}

/// Walks until something does not hold, or every state was seen.
pub fn search(model: &Model) -> Found {
    let first = model.first_state();
    let mut seen: HashSet<State> = HashSet::from([first]);
    // By which event of which earlier state each was reached.
    let mut origins: Vec<(u32, u16)> = vec![(0, 0)];
    let mut queue = VecDeque::from([first]);
    let mut pruned = HashSet::new();
    for number in 0.. {
        let Some(state) = queue.pop_front() else { break };
        if let Some(what) = judge(model, &state).or_else(|| judge_lone_prune(model, &state, &mut pruned)) {
            let violation = format!("{}: {what}\n{}", model.scenario.name, way_to(model, &origins, number));
            return Found { states: seen.len(), violation: Some(violation) };
        }
        for (event, Event { state, .. }) in model.events(&state).into_iter().enumerate() {
            if seen.insert(state) {
                origins.push((number, event as u16));
                queue.push_back(state);
            }
        }
    }
    Found { states: seen.len(), violation: None }
}

/// What must hold at every moment.
fn judge(model: &Model, state: &State) -> Option<String> {
    let held = state.held_by(state.packs);
    let lost = |snapshot: &usize| Some(state.reach[*snapshot] & !held).filter(|lost| *lost != 0);
    let kept = |set: Snapshots| members(set).filter(|snapshot| !is_unsure(model, state, *snapshot));
    if let Some((snapshot, lost)) = kept(state.snapshots).find_map(|snapshot| Some((snapshot, lost(&snapshot)?))) {
        return Some(format!("snapshot {snapshot} lacks {}", letters(lost)));
    }
    let may_lack = |snapshot: &usize| is_withdrawn(model, state, *snapshot) || state.stale & 1 << *snapshot != 0;
    let mut kept = kept(state.trash).filter(|snapshot| !may_lack(snapshot));
    if let Some((snapshot, lost)) = kept.find_map(|snapshot| Some((snapshot, lost(&snapshot)?))) {
        return Some(format!("trash {snapshot} can no more be undeleted: it lacks {}", letters(lost)));
    }
    let nowhere = state.written & !(state.snapshots | state.trash | state.pruned | state.in_hand);
    if nowhere != 0 {
        return Some(format!("the record of snapshot {} is lost", numbers(nowhere)));
    }
    let is_stale = |run: &usize| is_writer(model, *run) && state.stale & 1 << model.snapshot_of(*run) != 0;
    let failed = (0..RUNS).find(|run| state.runs[*run].next == Step::Failed && !is_stale(run))?;
    // One that began just after a mark, and read it late, may find that what it relied on is gone.
    (!state.was_wrong && !model.scenario.late_listings).then(|| format!("run {failed} failed for want of a chunk"))
}

/// Whether a writer's session was ended wrongly about when it wrote this snapshot, or was perhaps listed late, and it has not said that it is committed.
fn is_unsure(model: &Model, state: &State, snapshot: usize) -> bool {
    let is_unsure = |run: usize| state.runs[run].is_unsure || model.scenario.late_listings;
    writers_of(model, snapshot).any(|run| is_unsure(run) && !state.runs[run].has_committed)
}

fn is_withdrawn(model: &Model, state: &State, snapshot: usize) -> bool {
    writers_of(model, snapshot).any(|run| state.runs[run].has_withdrawn)
}

fn writers_of(model: &Model, snapshot: usize) -> impl Iterator<Item = usize> {
    let runs = 0..model.scenario.runs.len();
    runs.filter(|run| is_writer(model, *run)).filter(move |run| model.snapshot_of(*run) == snapshot)
}

fn is_writer(model: &Model, run: usize) -> bool {
    matches!(model.kind(run), Kind::Writer { .. } | Kind::Undelete(_))
}

/// If every process ended here, and then one prunes alone: nothing is lost, and no garbage is left.
fn judge_lone_prune(model: &Model, state: &State, pruned: &mut HashSet<State>) -> Option<String> {
    let is_unsure = members(state.snapshots).any(|snapshot| is_unsure(model, state, snapshot));
    let mut state = files_alone(state);
    if is_unsure || !pruned.insert(state) {
        return None;
    }
    state.runs[LAST].next = Step::Announce;
    while state.runs[LAST].next.is_running() {
        let mut events = Vec::new();
        model.step(&state, LAST, &mut events);
        state = events.pop()?.state;
    }
    let mut live = state.reached_from(state.snapshots);
    let lost = live & !state.held_by(state.packs);
    if members(state.packs).any(|pack| state.deltas[pack] & live != 0) {
        live |= BASE;
    }
    let copies: u32 = members(state.packs).map(|pack| state.content[pack].count_ones()).sum();
    let (packs, marks, trash) = (numbers(state.packs), numbers(state.marks), numbers(state.trash));
    match () {
        () if lost != 0 => Some(format!("a prune that runs alone after this loses {}", letters(lost))),
        () if copies > live.count_ones() || state.trash != 0 || state.marks != 0 => Some(format!(
            "a prune that runs alone after this leaves garbage in packs {packs}, marks {marks}, trash {trash}"
        )),
        () => None,
    }
}

/// The files of a state in which no process is left.
fn files_alone(state: &State) -> State {
    let State { packs, mut content, mut deltas, marks, mut marked_by, snapshots, trash, reach, .. } = *state;
    (0..PACKS).filter(|pack| packs & 1 << pack == 0).for_each(|pack| (content[pack], deltas[pack]) = (0, 0));
    (0..MARKS).filter(|mark| marks & 1 << mark == 0).for_each(|mark| marked_by[mark] = 0);
    State { packs, content, deltas, marks, marked_by, snapshots, trash, reach, ..State::default() }
}

/// How a state is reached: a line for each step.
fn way_to(model: &Model, origins: &[(u32, u16)], number: u32) -> String {
    let steps = std::iter::successors(Some(number), |number| Some(origins[*number as usize].0));
    let mut events: Vec<u16> =
        steps.take_while(|number| *number != 0).map(|number| origins[number as usize].1).collect();
    let mut state = model.first_state();
    let mut text = String::from("    at first there is ");
    state.write_changes(&State { reach: state.reach, ..State::default() }, &mut text).expect("text grows");
    while let Some(event) = events.pop() {
        let Event { run, what, state: after } = model.events(&state).swap_remove(event.into());
        let who = match model.kind(run) {
            Kind::Writer { .. } => "writer",
            Kind::Undelete(_) => "undelete",
            Kind::Forget(_) => "forget",
            Kind::Reader(_) => "reader",
            Kind::Pruner { .. } => "pruner",
        };
        write!(text, "\n    {who} {run} {what}").expect("text grows");
        let mut changes = String::new();
        after.write_changes(&state, &mut changes).expect("text grows");
        if !changes.is_empty() {
            write!(text, ": {changes}").expect("text grows");
        }
        state = after;
    }
    text
}
