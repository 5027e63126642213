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
            Step::ReadMarks => {
                state.runs[run].marks = state.marks;
                let next = match () {
                    () if state.sessions & sessions_of(run) == 0 && !protocol.announces_first => Step::Announce,
                    () if protocol.marks_before_packs => Step::ListPacks,
                    () => Step::ListSnapshots,
                };
                (next, "reads marks")
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
            Step::LookForSession if self.session_is_there(state, run) => (Step::Publish, "finds its session"),
            Step::LookForSession => {
                let next = if protocol.announces_anew { Step::AnnounceAnew } else { Step::ReadMarksAnew };
                (next, "misses its session")
            }
            Step::AnnounceAnew => {
                state.sessions |= session(run, ANEW);
                (Step::ReadMarksAnew, "announces another session")
            }
            Step::ReadMarksAnew => {
                state.runs[run].marks = state.marks;
                (Step::CheckPacks, "reads marks anew")
            }
            Step::CheckPacks if self.is_whole(state, run) => {
                (Step::Publish, "finds all chunks in packs that are not marked")
            }
            Step::CheckPacks => {
                state.finish(run, Step::Failed);
                return "misses a chunk, and fails";
            }
            Step::Publish => return self.publish(state, run),
            Step::LookForSessionAgain if self.session_is_there(state, run) => {
                state.runs[run].has_committed = true;
                (Step::End, "finds its session, and says that the snapshot is committed")
            }
            Step::LookForSessionAgain => (Step::ReadMarksAgain, "misses its session after the snapshot"),
            Step::ReadMarksAgain => {
                state.runs[run].marks = state.marks;
                (Step::CheckPacksAgain, "reads marks again")
            }
            Step::CheckPacksAgain if self.is_whole(state, run) => {
                state.runs[run].has_committed = true;
                (Step::End, "finds all chunks in packs that are not marked, and says that the snapshot is committed")
            }
            Step::CheckPacksAgain => (Step::Withdraw, "misses a chunk"),
            Step::Withdraw => {
                state.retire(self.snapshot_of(run));
                state.runs[run].has_withdrawn = true;
                (Step::End, "withdraws the snapshot")
            }
            Step::End => {
                state.finish(run, Step::Ended);
                return "ends its session";
            }
            other => unreachable!("a writer does not {other:?}"),
        };
        state.runs[run].next = next;
        what
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
        let can_acknowledge = carried & !state.held_by(packs & !state.marked(marks)) == 0;
        let acknowledges =
            marks != 0 && !self.is_undelete(run) && (can_acknowledge || !self.protocol.acknowledges_what_it_can);
        if acknowledges { Step::Acknowledge } else { Step::StoreChunks }
    }

    /// Writes the pack of what the repository does not have. What is carried over is copied out of marked packs.
    fn store_chunks(&self, state: &mut State, run: usize) -> &'static str {
        let Run { packs, marks, carried, .. } = state.runs[run];
        let marked = if self.protocol.marked_copies_are_none { state.marked(marks) } else { 0 };
        let mut missing = state.reach[self.snapshot_of(run)] & !state.held_by(packs & !marked);
        if !self.protocol.copies_what_it_carries {
            missing &= !carried;
        }
        let own = if let Kind::Writer { own, .. } = self.kind(run) { own } else { 0 };
        if missing & !own & !state.held_by(state.packs) != 0 {
            state.finish(run, Step::Failed);
            return "cannot read what it carries over, and fails";
        }
        state.write_pack(run, missing);
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
        state.trash &= !(1 << snapshot);
        state.snapshots |= 1 << snapshot;
        if self.protocol.looks_for_session_again && (!is_undelete || self.protocol.undelete_is_a_writer) {
            state.runs[run].next = Step::LookForSessionAgain;
            return if is_undelete { "moves the snapshot back" } else { "writes the snapshot" };
        }
        state.runs[run].has_committed = true;
        state.runs[run].next = Step::End;
        if is_undelete {
            "moves the snapshot back, and says so"
        } else {
            "writes the snapshot, and says that it is committed"
        }
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
        let relied_on = state.packs & !state.marked(state.runs[run].marks);
        state.reach[self.snapshot_of(run)] & !state.held_by(relied_on) == 0
    }
}
