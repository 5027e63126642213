//! A writer, and an undelete, which is a writer whose snapshot comes out of the trash.

use super::{
    protocol::{Kind, Model},
    state::*,
};

impl Model<'_> {
    /// The snapshot that a writer or an undelete puts into `snapshots/`.
    pub fn snapshot_of(&self, run: usize) -> usize {
        match self.kind(run) {
            Kind::Undelete(snapshot) => snapshot,
            _ => FIRST_SNAPSHOTS + run,
        }
    }

    fn is_undelete(&self, run: usize) -> bool {
        matches!(self.kind(run), Kind::Undelete(_))
    }

    pub(super) fn writer_step(&self, state: &mut State, run: usize) -> &'static str {
        let protocol = self.protocol;
        let is_undelete = self.is_undelete(run);
        let (next, what) = match state.runs[run].next {
            Step::Announce => {
                state.sessions |= session(run, FIRST);
                let next = match () {
                    () if is_undelete && protocol.undelete_looks_for_pruners => Step::LookForPruners,
                    () if is_undelete => self.after_looking_for_pruners(),
                    () if protocol.announces_first && protocol.marks_before_packs => Step::ReadMarks,
                    () => Step::ListPacks,
                };
                (next, "announces a session")
            }
            Step::ListPacks => {
                state.runs[run].packs = state.packs;
                let next = if protocol.marks_before_packs { Step::ListSnapshots } else { Step::ReadMarks };
                (next, "reads the index")
            }
            Step::ListSnapshots => (self.choose_base(state, run), "lists snapshots and chooses its base"),
            Step::Acknowledge => {
                state.acknowledges[run] = state.runs[run].marks;
                state.sessions |= session(run, ACKNOWLEDGING);
                let next = if protocol.keeps_first_session { Step::StoreChunks } else { Step::EndFirst };
                (next, "announces which marks it acknowledges")
            }
            Step::EndFirst => {
                state.sessions &= !session(run, FIRST);
                (Step::StoreChunks, "deletes its first session file")
            }
            Step::StoreChunks => return self.store_chunks(state, run),
            Step::LookForSession if self.session_is_there(state, run) => {
                (if protocol.checks_before { self.first_of_check() } else { Step::Publish }, "finds its session")
            }
            Step::LookForSession => {
                let next = if protocol.announces_anew { Step::AnnounceAnew } else { self.first_of_check() };
                (next, "misses its session")
            }
            Step::AnnounceAnew => {
                state.sessions |= session(run, ANEW);
                (self.first_of_check(), "announces another session")
            }
            Step::LookAtPacks => {
                state.runs[run].packs = state.packs;
                (Step::ReadMarksAnew, "looks for packs")
            }
            Step::CheckPacks if self.is_whole(state, run) => {
                (Step::Publish, "finds all chunks in packs that are not marked")
            }
            Step::CheckPacks if protocol.stores_again => (Step::StoreAgain, "misses a chunk"),
            Step::CheckPacks => {
                state.finish(run, Step::Failed);
                return "misses a chunk, and fails";
            }
            Step::StoreAgain => match self.store_again(state, run) {
                Again::Stored => (self.first_of_check(), "stores again what is marked"),
                Again::TooOften => (Step::End, "gives up: more is marked than it can store again"),
                Again::Gone => {
                    state.finish(run, Step::Failed);
                    return "cannot read a chunk, and fails";
                }
            },
            Step::Publish => return self.publish(state, run),
            Step::LookForSessionAgain if self.session_is_there(state, run) && !protocol.checks_after => {
                return self.commit(state, run);
            }
            Step::LookForSessionAgain if self.session_is_there(state, run) => {
                (self.first_of_last_check(), "finds its session after the snapshot")
            }
            Step::LookForSessionAgain => {
                let next = if protocol.announces_anew { Step::AnnounceAgain } else { self.first_of_last_check() };
                (next, "misses its session after the snapshot")
            }
            Step::AnnounceAgain => {
                state.sessions |= session(run, ANEW);
                (self.first_of_last_check(), "announces another session")
            }
            Step::LookAtPacksAgain => {
                state.runs[run].packs = state.packs;
                (Step::ReadMarksAgain, "looks for packs")
            }
            Step::CheckPacksAgain if self.is_whole(state, run) => return self.commit(state, run),
            Step::CheckPacksAgain if protocol.stores_again => (Step::StoreOnceMore, "misses a chunk"),
            Step::CheckPacksAgain => (Step::CopyToTrash, "misses a chunk, and withdraws"),
            Step::StoreOnceMore => match self.store_again(state, run) {
                Again::Stored => (self.first_of_last_check(), "stores again what is marked"),
                Again::TooOften | Again::Gone => (Step::CopyToTrash, "cannot store a chunk again, and withdraws"),
            },
            Step::End => {
                state.finish(run, Step::Ended);
                return "ends its session";
            }
            other => unreachable!("a writer does not {other:?}"),
        };
        state.runs[run].next = next;
        what
    }

    /// Returns the steps after the first reading of marks.
    pub(super) fn after_reading_marks(&self, state: &State, run: usize) -> Step {
        match () {
            () if state.sessions & sessions_of(run) == 0 && !self.protocol.announces_first => Step::Announce,
            () if self.protocol.marks_before_packs => Step::ListPacks,
            () => Step::ListSnapshots,
        }
    }

    fn first_of_check(&self) -> Step {
        if self.protocol.checks_marks_first { Step::ReadMarksAnew } else { Step::LookAtPacks }
    }

    fn first_of_last_check(&self) -> Step {
        if self.protocol.checks_marks_first { Step::ReadMarksAgain } else { Step::LookAtPacksAgain }
    }

    /// Writes what the snapshot reaches and no pack that stays holds into a second pack. There is room for one.
    fn store_again(&self, state: &mut State, run: usize) -> Again {
        let missing =
            state.reach[self.snapshot_of(run)] & !self.held(state, state.packs & !state.marked(state.runs[run].marks));
        if missing & !state.held_by(state.packs) != 0 {
            return Again::Gone;
        }
        if state.content[FIRST_PACKS + RUNS + run] != 0 {
            return Again::TooOften;
        }
        state.write_pack(run, 1, missing, 0);
        Again::Stored
    }

    /// Says that the snapshot is committed.
    fn commit(&self, state: &mut State, run: usize) -> &'static str {
        state.runs[run].has_committed = true;
        state.runs[run].next = if self.is_undelete(run) { Step::LookForSnapshot } else { Step::End };
        "finds that nothing is missing, and says that the snapshot is committed"
    }

    /// Returns the chunks that a writer takes for there.
    fn held(&self, state: &State, packs: Packs) -> Chunks {
        if self.protocol.deltas_need_bases { state.held_by(packs) } else { state.named_by(packs) }
    }

    /// What an undelete does when nobody prunes.
    pub(super) fn after_looking_for_pruners(&self) -> Step {
        if self.protocol.undelete_is_a_writer { Step::ReadMarks } else { Step::Publish }
    }

    fn choose_base(&self, state: &mut State, run: usize) -> Step {
        let is_in = |set: Snapshots, base: &usize| set & 1 << *base != 0 || !self.protocol.chooses_base_late;
        let (own, base) = match self.kind(run) {
            Kind::Writer { own, base } => (own, base.filter(|base| is_in(state.snapshots, base))),
            Kind::Undelete(base) => (0, Some(base).filter(|base| is_in(state.trash, base))),
            kind => unreachable!("{kind:?} is no writer"),
        };
        let carried = base.map_or(0, |base| state.reach[base]);
        if own | carried == 0 {
            return Step::End;
        }
        state.reach[self.snapshot_of(run)] = own | carried;
        state.runs[run].carried = carried;
        let Run { marks, packs, .. } = state.runs[run];
        let can_acknowledge = carried & !self.held(state, packs & !state.marked(marks)) == 0;
        let acknowledges =
            marks != 0 && !self.is_undelete(run) && (can_acknowledge || !self.protocol.acknowledges_what_it_can);
        if acknowledges { Step::Acknowledge } else { Step::StoreChunks }
    }

    /// Writes the pack of what the repository does not have. What is carried over is copied out of marked packs.
    fn store_chunks(&self, state: &mut State, run: usize) -> &'static str {
        let Run { packs, marks, carried, .. } = state.runs[run];
        let marked = if self.protocol.marked_copies_are_none { state.marked(marks) } else { 0 };
        let held = self.held(state, packs & !marked);
        let mut missing = state.reach[self.snapshot_of(run)] & !held;
        if !self.protocol.copies_what_it_carries {
            missing &= !carried;
        }
        let own = if let Kind::Writer { own, .. } = self.kind(run) { own } else { 0 };
        if missing & !own & !state.held_by(state.packs) != 0 {
            state.finish(run, Step::Failed);
            return "cannot read what it carries over, and fails";
        }
        let deltas = if self.scenario.writes_deltas && held & BASE != 0 { !BASE } else { 0 };
        state.write_pack(run, 0, missing, deltas);
        state.runs[run].next = if self.protocol.looks_for_session { Step::LookForSession } else { Step::Publish };
        if missing == 0 { "knows all chunks" } else { "stores chunks" }
    }

    fn publish(&self, state: &mut State, run: usize) -> &'static str {
        let snapshot = self.snapshot_of(run);
        let is_undelete = self.is_undelete(run);
        if is_undelete && state.trash & 1 << snapshot == 0 {
            state.runs[run].next = Step::End;
            return "finds that the trash was deleted";
        }
        state.snapshots |= 1 << snapshot;
        state.written |= 1 << snapshot;
        if self.protocol.looks_for_session_again && (!is_undelete || self.protocol.undelete_is_a_writer) {
            state.runs[run].next = Step::LookForSessionAgain;
            return if is_undelete { "copies the snapshot back" } else { "writes the snapshot" };
        }
        self.commit(state, run)
    }

    /// Whether nobody ended the session that was announced before the marks were read. One that acknowledges marks was announced later.
    fn session_is_there(&self, state: &State, run: usize) -> bool {
        let announced = session(run, FIRST) | session(run, ANEW);
        let counts = match self.protocol.looks_for_first_session && self.protocol.keeps_first_session {
            true => announced,
            false => announced | session(run, ACKNOWLEDGING),
        };
        state.sessions & counts != 0
    }

    /// Whether every chunk of the snapshot lies in a pack that is there, and not marked by the marks that were read.
    fn is_whole(&self, state: &State, run: usize) -> bool {
        let there = if self.protocol.checks_marks_first { state.packs } else { state.runs[run].packs };
        let relied_on = there & !state.marked(state.runs[run].marks);
        state.reach[self.snapshot_of(run)] & !self.held(state, relied_on) == 0
    }
}

/// The outcome of storing again.
enum Again {
    Stored,
    TooOften,
    Gone,
}
