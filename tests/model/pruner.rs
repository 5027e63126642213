//! A pruner.

use super::{
    protocol::{Kind, Model},
    state::*,
};

impl Model<'_> {
    pub(super) fn pruner_step(&self, state: &mut State, run: usize) -> &'static str {
        match state.runs[run].next {
            Step::Announce => {
                state.sessions |= session(run, FIRST);
                state.runs[run].next = match self.protocol.prunes_alone {
                    true => Step::LookForPruners,
                    false => self.after_reading(Step::LookForPruners),
                };
                "announces a session that prunes"
            }
            Step::ListPacks => {
                state.runs[run].packs = state.packs;
                state.runs[run].next = self.after_reading(Step::ListPacks);
                "reads the index"
            }
            Step::MoveChunks => self.move_chunks(state, run),
            Step::WriteMark => {
                state.marks |= 1 << run;
                state.runs[run].next = self.after_planning(Step::WriteMark);
                "writes its mark"
            }
            step @ (Step::WaitForSessions | Step::WaitForRoots) => self.wait(state, run, step),
            Step::LookAtPlan => {
                state.runs[run].has_come |= state.runs[run].staying & !state.packs != 0;
                self.decide(state, run);
                "looks for the packs that it keeps"
            }
            Step::DeleteTrash => {
                let first = lowest(state.runs[run].trash);
                state.runs[run].trash &= !first;
                state.pruned |= state.trash & first & !state.snapshots;
                state.trash &= !first;
                self.sweep_on(state, run);
                "deletes trash"
            }
            Step::DeletePacks => {
                let first = lowest(state.runs[run].swept);
                state.runs[run].swept &= !first;
                state.packs &= !first;
                self.sweep_on(state, run);
                "deletes a pack"
            }
            Step::DeleteMarks => {
                let first = lowest(state.runs[run].marks.into()) as Marks;
                state.runs[run].marks &= !first;
                state.marks &= !first;
                self.sweep_on(state, run);
                "deletes a mark that is swept"
            }
            Step::End => {
                state.finish(run, Step::Ended);
                "ends its session"
            }
            other => unreachable!("a pruner does not {other:?}"),
        }
    }

    /// When it is over, whatever was changed before it began is listed by everybody.
    fn wait(&self, state: &mut State, run: usize, step: Step) -> &'static str {
        if state.runs[run].listing.take().is_none() {
            state.runs[run].listing = Some(0);
            state.runs[run].aging = state.recent;
            return "begins to wait";
        }
        let aging = std::mem::take(&mut state.runs[run].aging);
        state.recent = state.recent.each(&aging, |recent, aging| recent & !aging);
        state.runs[run].next = self.after_planning(step);
        "has waited"
    }

    pub(super) fn list_sessions(&self, state: &mut State, run: usize, seen: u32) -> &'static str {
        if self.protocol.waits_for_first_listing {
            // What is read after this is not known to be acknowledged by anybody.
            let marks = if self.protocol.marks_before_sessions { state.runs[run].marks } else { Marks::MAX };
            state.runs[run].unacknowledged = unacknowledged(state, run, seen, marks);
        }
        state.runs[run].next = self.after_reading(Step::ListSessions);
        "lists sessions"
    }

    pub(super) fn list_roots(&self, state: &mut State, run: usize, seen: u32) -> &'static str {
        state.runs[run].roots = seen as Snapshots;
        state.runs[run].next = self.after_reading(Step::ListRoots);
        "lists snapshots"
    }

    pub(super) fn list_trash(&self, state: &mut State, run: usize, seen: u32) -> &'static str {
        state.runs[run].trash = seen as Snapshots;
        if self.protocol.both_is_a_snapshot {
            let roots = state.runs[run].roots;
            state.runs[run].trash &= !roots;
            state.runs[run].left_over = seen as Snapshots & roots;
        } else {
            state.runs[run].roots &= !(seen as Snapshots);
        }
        state.runs[run].next = self.after_reading(Step::ListTrash);
        "lists trash"
    }

    /// What a pruner reads before it plans, in order.
    pub(super) fn after_reading(&self, step: Step) -> Step {
        let mut order = [
            Step::LookForPruners,
            Step::ReadMarks,
            Step::ListSessions,
            Step::ListPacks,
            Step::ListRoots,
            Step::ListTrash,
            Step::MoveChunks,
        ];
        if !self.protocol.roots_before_trash {
            order.swap(4, 5);
        }
        if !self.protocol.sessions_before_roots {
            order[2..6].rotate_left(1);
        }
        if !self.protocol.marks_before_sessions {
            order.swap(1, 2);
        }
        following(&order, step)
    }

    /// What comes after the plan, in order.
    fn after_planning(&self, step: Step) -> Step {
        let mut order = vec![Step::MoveChunks, Step::WriteMark, Step::ListSessionsAgain, Step::ListRootsAgain];
        if self.scenario.late_listings && self.protocol.waits_for_roots {
            order.insert(3, Step::WaitForRoots);
        }
        if self.scenario.late_listings && self.protocol.waits_for_sessions {
            order.insert(2, Step::WaitForSessions);
        }
        if !self.protocol.mark_before_sessions {
            order.swap(1, 2);
        }
        following(&order, step)
    }

    /// Plans: one copy of each live chunk is kept where it is or moved, and every pack that then holds anything else is to go.
    fn move_chunks(&self, state: &mut State, run: usize) -> &'static str {
        let Run { packs, marks, roots, .. } = state.runs[run];
        let marked = state.marked(marks);
        let kept = self.copies_to_keep(state, run, state.reached_from(roots), marked);
        let is_lavish = matches!(self.kind(run), Kind::Pruner { is_lavish: true, .. });
        let stays = |pack: &usize| {
            let is_marked = marked & 1 << *pack != 0;
            let is_full = kept[*pack] == state.content[*pack] || is_lavish && kept[*pack] != 0;
            is_full && !(is_marked && self.protocol.moves_out_of_marked)
        };
        let to_go = members(packs).filter(|pack| !stays(pack)).fold(0, |set, pack| set | 1 << pack);
        let moved = members(to_go).fold(0, |moved, pack| moved | kept[pack]);
        let deltas = members(to_go).fold(0, |deltas, pack| deltas | kept[pack] & state.deltas[pack]);
        if moved & !state.held_by(state.packs) != 0 {
            state.finish(run, Step::Failed);
            return "cannot read what it must move, and fails";
        }
        state.write_pack(run, 0, moved, deltas);
        // One that holds nothing, as of a chunk that is in no pack of the list, is not looked at.
        let holds_needed = |pack: &usize| kept[*pack] != 0;
        let staying = members(packs & !to_go).filter(holds_needed).fold(0, |set: Packs, pack| set | 1 << pack);
        state.runs[run].staying = staying | state.packs & 1 << (FIRST_PACKS + run);
        state.marked_by[run] = to_go;
        state.runs[run].packs = to_go;
        state.runs[run].newly_marked = to_go & !marked;
        state.runs[run].next = self.after_planning(Step::MoveChunks);
        if moved == 0 { "has nothing to move" } else { "moves chunks into a new pack" }
    }

    /// Returns the chunks of each pack that are kept: one copy of each, and the base of what is kept as a delta.
    fn copies_to_keep(&self, state: &State, run: usize, needed: Chunks, marked: Packs) -> [Chunks; PACKS] {
        let mut kept = [0; PACKS];
        let mut needed = needed;
        // The base is looked at last.
        while needed != 0 {
            let chunk = 1 << needed.ilog2();
            needed &= !chunk;
            // What lies in no pack of the list lies in one that is newer.
            let Some(pack) = self.copy_to_keep(state, run, chunk, marked) else { continue };
            kept[pack] |= chunk;
            if state.deltas[pack] & chunk != 0 && self.protocol.bases_are_needed {
                needed |= BASE;
            }
        }
        kept
    }

    fn copy_to_keep(&self, state: &State, run: usize, chunk: Chunks, marked: Packs) -> Option<usize> {
        let holds = |pack: &usize| state.content[*pack] & chunk != 0;
        let copies = members(state.runs[run].packs).filter(holds).fold(0, |set: Packs, pack| set | 1 << pack);
        let good = if self.protocol.prefers_unmarked && copies & !marked != 0 { copies & !marked } else { copies };
        let is_whole = |pack: &usize| state.deltas[*pack] & chunk == 0;
        let whole = members(good).filter(is_whole).fold(0, |set: Packs, pack| set | 1 << pack);
        let good = if whole != 0 { whole } else { good };
        match self.kind(run) {
            Kind::Pruner { keeps_old: false, .. } => good.checked_ilog2().map(|pack| pack as usize),
            _ => members(good).next(),
        }
    }

    pub(super) fn list_sessions_again(&self, state: &mut State, run: usize, seen: u32) -> &'static str {
        // It looks for its own by its name, where a list may be late.
        let own = if self.scenario.late_listings { state.sessions } else { seen };
        if self.protocol.looks_for_own_session && own & sessions_of(run) == 0 {
            state.finish(run, Step::Ended);
            return "misses its own session, and stops";
        }
        if unacknowledged(state, run, seen, 1 << run) != 0 {
            state.runs[run].newly_marked = 0;
        }
        if self.protocol.waits_for_second_listing {
            state.runs[run].unacknowledged |= unacknowledged(state, run, seen, state.runs[run].marks);
        }
        state.runs[run].next = self.after_planning(Step::ListSessionsAgain);
        "lists sessions again"
    }

    /// One that is gone was forgotten; one that has come may need what is to go.
    pub(super) fn list_roots_again(&self, state: &mut State, run: usize, seen: u32) -> &'static str {
        state.runs[run].has_come = seen & !u32::from(state.runs[run].roots) != 0;
        if self.protocol.lists_trash_again {
            state.runs[run].next = Step::ListTrashAgain;
        } else {
            self.decide(state, run);
        }
        "lists snapshots again"
    }

    pub(super) fn list_trash_again(&self, state: &mut State, run: usize, seen: u32) -> &'static str {
        let Run { roots, trash, .. } = state.runs[run];
        state.runs[run].has_come |= seen & !u32::from(roots | trash) != 0;
        if self.scenario.late_listings && self.protocol.looks_at_plan_again {
            state.runs[run].next = Step::ReadMarksAtLast;
        } else {
            self.decide(state, run);
        }
        "lists trash again"
    }

    /// Decides what is deleted.
    fn decide(&self, state: &mut State, run: usize) {
        // From the plan on, `packs` are those that are to go.
        let Run { marks, unacknowledged, packs: to_go, newly_marked, has_come, trash, .. } = state.runs[run];
        let mut swept = state.marked(marks & !unacknowledged) & to_go;
        if !has_come || !self.protocol.lists_roots_again {
            swept |= newly_marked;
        } else if self.protocol.old_marks_wait_for_roots {
            swept = 0;
        }
        let left = to_go & !swept;
        let is_swept = |mark: &usize| state.marked_by[*mark] & left == 0;
        let marks = members(marks | 1 << run).filter(is_swept).fold(0, |set, mark| set | 1 << mark);
        let Run { is_unsure, left_over, .. } = state.runs[run];
        state.runs[run] = Run { marks, trash, left_over, swept, is_unsure, ..Run::default() };
        self.sweep_on(state, run);
    }

    /// To what is deleted next.
    pub(super) fn sweep_on(&self, state: &mut State, run: usize) {
        let this = &mut state.runs[run];
        let mut order = [
            (Step::DeleteTrash, this.trash != 0),
            (Step::DeletePacks, this.swept != 0),
            (Step::DeleteMarks, this.marks != 0),
            (Step::LookForSnapshot, this.left_over != 0),
        ];
        if !self.protocol.trash_before_packs {
            order.swap(0, 1);
        }
        if !self.protocol.packs_before_marks {
            order.swap(1, 2);
        }
        this.next = order.iter().find(|(_, is_left)| *is_left).map_or(Step::End, |(step, _)| *step);
    }
}

/// Which of `marks` some session that was seen does not acknowledge.
fn unacknowledged(state: &State, run: usize, seen: Sessions, marks: Marks) -> Marks {
    let others = (0..RUNS).filter(|other| *other != run && seen & sessions_of(*other) != 0);
    others.fold(0, |unacknowledged, other| {
        let acknowledges = if seen & session(other, ACKNOWLEDGING) != 0 { state.acknowledges[other] } else { 0 };
        unacknowledged | marks & !acknowledges
    })
}

fn following(order: &[Step], step: Step) -> Step {
    let at = order.iter().position(|one| *one == step).expect("each is in its order");
    order[at + 1]
}
