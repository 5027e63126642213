//! A record on its way between `snapshots/` and `trash/`: copied, and then deleted.

use super::{
    protocol::{Kind, Model},
    state::*,
};

impl Model<'_> {
    /// Takes the next step of a process that moves a record: one that forgets, a writer that withdraws, an undelete, and a pruner that finds a copy left over.
    pub(super) fn move_record(&self, state: &mut State, run: usize, kind: Kind) -> &'static str {
        let snapshot: Snapshots = match kind {
            Kind::Forget(snapshot) => 1 << snapshot,
            Kind::Pruner { .. } => lowest(state.runs[run].left_over),
            _ => 1 << self.snapshot_of(run),
        };
        match state.runs[run].next {
            Step::CopyToTrash if state.snapshots & snapshot == 0 => self.after_moving(state, run, "finds no snapshot"),
            Step::CopyToTrash => {
                state.trash |= snapshot;
                state.runs[run].has_withdrawn |= !matches!(kind, Kind::Forget(_));
                state.runs[run].next = Step::DeleteSnapshot;
                "copies the snapshot to the trash"
            }
            Step::DeleteSnapshot => {
                if self.protocol.copies_before_it_deletes {
                    state.in_hand |= state.snapshots & snapshot;
                }
                state.snapshots &= !snapshot;
                if self.protocol.looks_for_copy || !self.protocol.copies_before_it_deletes {
                    state.runs[run].next = Step::LookForCopy;
                    return "deletes the snapshot";
                }
                state.in_hand &= !snapshot;
                self.after_moving(state, run, "deletes the snapshot, and is done")
            }
            Step::LookForCopy => {
                state.stale |= snapshot & !state.trash;
                state.trash |= snapshot;
                state.in_hand &= !snapshot;
                self.after_moving(state, run, "sees that the copy is in the trash")
            }
            Step::LookForSnapshot if state.snapshots & state.trash & snapshot == 0 => {
                self.after_moving(state, run, "finds no copy in the trash of what is a snapshot")
            }
            Step::LookForSnapshot => {
                state.runs[run].next = Step::DeleteLeftOver;
                "finds a snapshot, and a copy of it in the trash"
            }
            Step::DeleteLeftOver => {
                state.in_hand |= state.trash & snapshot;
                state.trash &= !snapshot;
                state.runs[run].next = Step::LookForSnapshotAgain;
                "deletes the copy in the trash"
            }
            Step::LookForSnapshotAgain => {
                if state.snapshots & snapshot == 0 && self.protocol.looks_for_snapshot_again {
                    state.stale |= snapshot & !state.trash;
                    state.trash |= snapshot;
                }
                state.in_hand &= !snapshot;
                self.after_moving(state, run, "sees that the snapshot is still there, or puts the copy back")
            }
            other => unreachable!("to move a record is not to {other:?}"),
        }
    }

    fn after_moving(&self, state: &mut State, run: usize, what: &'static str) -> &'static str {
        match self.kind(run) {
            Kind::Forget(_) => state.finish(run, Step::Ended),
            Kind::Pruner { .. } => {
                state.runs[run].left_over &= state.runs[run].left_over.wrapping_sub(1);
                self.sweep_on(state, run);
            }
            _ => state.runs[run].next = Step::End,
        }
        what
    }
}
