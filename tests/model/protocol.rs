//! The protocol with a switch for each of its rules, and what can happen next to any process.

use super::state::*;

/// The rules of SPEC §11. All are on; where one is off that is needed, the search must find what it is for.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// A writer announces its session before it reads marks.
    pub announces_first: bool,
    /// A writer reads marks before it lists packs.
    pub marks_before_packs: bool,
    /// A writer that announces which marks it acknowledges keeps its first session file beside that.
    pub keeps_first_session: bool,
    /// A writer acknowledges no marks if they name the only copy of what it carries over from its base.
    pub acknowledges_what_it_can: bool,
    /// A writer chooses its base when its session is announced.
    pub chooses_base_late: bool,
    /// A copy in a marked pack is none: what a writer has is stored again.
    pub marked_copies_are_none: bool,
    /// A writer looks for its session before it writes the snapshot.
    pub looks_for_session: bool,
    /// The session that it looks for is the one that it announced before it read marks.
    pub looks_for_first_session: bool,
    /// A writer that misses its session before the snapshot announces another before it checks packs.
    pub announces_anew: bool,
    /// A writer looks for its session after it has written the snapshot.
    pub looks_for_session_again: bool,
    /// A writer that finds its session checks marks and packs nevertheless, before it writes the snapshot.
    pub checks_before: bool,
    /// The same after it has written the snapshot.
    pub checks_after: bool,
    /// A check reads marks before it looks for packs.
    pub checks_marks_first: bool,
    /// Chunks that lie only in marked packs when they are checked are stored again.
    pub stores_again: bool,
    /// A chunk that is there only as a delta counts only while its base does.
    pub deltas_need_bases: bool,
    /// An undelete reads marks and packs and looks for its session as a writer does.
    pub undelete_is_a_writer: bool,
    /// Chunks that are carried over from a base, or undeleted, are copied if only marked packs hold them.
    pub copies_what_it_carries: bool,
    /// An undelete does nothing if it finds a pruner.
    pub undelete_looks_for_pruners: bool,
    /// A reader whose pack is gone reads the index anew.
    pub readers_look_again: bool,
    /// A record that is moved is copied before it is deleted.
    pub copies_before_it_deletes: bool,
    /// A process that has moved a record to the trash looks whether the copy is still there.
    pub looks_for_copy: bool,
    /// A process that has deleted the copy of a snapshot in the trash looks whether the snapshot is still there.
    pub looks_for_snapshot_again: bool,
    /// A record that is in the trash, too, is that of a snapshot.
    pub both_is_a_snapshot: bool,
    /// The bases of needed deltas are needed.
    pub bases_are_needed: bool,
    /// Where listings may be late, a pruner waits before it lists sessions for the second time.
    pub waits_for_sessions: bool,
    /// The same before it lists roots for the second time.
    pub waits_for_roots: bool,
    /// Then it looks whether what it keeps is still there, and not marked.
    pub looks_at_plan_again: bool,
    /// A pruner does nothing if it finds another.
    pub prunes_alone: bool,
    /// A pruner reads marks before it lists sessions for the first time.
    pub marks_before_sessions: bool,
    /// A pruner lists sessions for the first time before it lists roots.
    pub sessions_before_roots: bool,
    /// A pruner lists snapshots before trash.
    pub roots_before_trash: bool,
    /// A pruner prefers a copy in no marked pack.
    pub prefers_unmarked: bool,
    /// A pruner moves what only marked packs hold, rather than to take such a pack off the list.
    pub moves_out_of_marked: bool,
    /// A pruner's mark is durable before it lists sessions for the second time.
    pub mark_before_sessions: bool,
    /// What only its own mark names is deleted only if the roots are what they were.
    pub lists_roots_again: bool,
    /// For this, what was not listed at all before the plan, and is in the trash, is a root, too.
    pub lists_trash_again: bool,
    /// What earlier marks name waits for this, too.
    pub old_marks_wait_for_roots: bool,
    /// A pruner stops if its own session is not in the second listing.
    pub looks_for_own_session: bool,
    /// What earlier marks name waits for the sessions of the first listing.
    pub waits_for_first_listing: bool,
    /// What earlier marks name waits for the sessions of the second listing.
    pub waits_for_second_listing: bool,
    /// Trash is deleted before packs.
    pub trash_before_packs: bool,
    /// Packs are deleted before the marks that name them.
    pub packs_before_marks: bool,
}

impl Protocol {
    /// All of it.
    pub const WHOLE: Protocol = Protocol {
        announces_first: true,
        marks_before_packs: true,
        keeps_first_session: true,
        acknowledges_what_it_can: true,
        chooses_base_late: true,
        marked_copies_are_none: true,
        looks_for_session: true,
        looks_for_first_session: true,
        announces_anew: true,
        looks_for_session_again: true,
        checks_before: true,
        checks_after: true,
        checks_marks_first: true,
        stores_again: true,
        deltas_need_bases: true,
        copies_before_it_deletes: true,
        looks_for_copy: true,
        looks_for_snapshot_again: true,
        both_is_a_snapshot: true,
        bases_are_needed: true,
        waits_for_sessions: true,
        waits_for_roots: true,
        looks_at_plan_again: true,
        undelete_is_a_writer: true,
        copies_what_it_carries: true,
        undelete_looks_for_pruners: true,
        readers_look_again: true,
        prunes_alone: true,
        marks_before_sessions: true,
        sessions_before_roots: true,
        roots_before_trash: true,
        prefers_unmarked: true,
        moves_out_of_marked: true,
        mark_before_sessions: true,
        lists_roots_again: true,
        lists_trash_again: true,
        old_marks_wait_for_roots: true,
        looks_for_own_session: true,
        waits_for_first_listing: true,
        waits_for_second_listing: true,
        trash_before_packs: true,
        packs_before_marks: true,
    };
}

/// Who a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Writes a snapshot of `own`, which it has, and of what snapshot `base` reaches, which it has not.
    Writer {
        own: Chunks,
        base: Option<usize>,
    },
    Undelete(usize),
    Forget(usize),
    Reader(usize),
    /// Of several copies it keeps the one in the pack of the lowest number, or of the highest. One that is lavish leaves what nobody needs in packs of
    /// which something is needed.
    Pruner {
        keeps_old: bool,
        is_lavish: bool,
    },
}

/// Processes, the files that they find, and what may befall them.
pub struct Scenario {
    pub name: &'static str,
    pub packs: &'static [Chunks],
    /// Which chunks of each are there as deltas.
    pub deltas: &'static [Chunks],
    /// Whether writers store deltas where they can: C against A.
    pub writes_deltas: bool,
    /// Packs that a mark names which a prune left.
    pub old_mark: Packs,
    pub snapshots: &'static [Chunks],
    pub trash: &'static [Chunks],
    /// Each begins when the run of this number is over, if there is a number.
    pub runs: &'static [(Kind, Option<usize>)],
    pub crashes: u8,
    pub wrong_deaths: u8,
    /// Whether a listing takes time, in which others go on.
    pub slow_listings: bool,
    /// Whether a listing may show any state of the last while. A pruner's wait is longer than that while.
    pub late_listings: bool,
}

/// A scenario under a protocol.
pub struct Model<'a> {
    pub protocol: &'a Protocol,
    pub scenario: &'a Scenario,
}

/// The use that is made of a listing.
type Then<'m> = fn(&Model<'m>, &mut State, usize, u32) -> &'static str;

/// What a run did, or what was done to it, and what came of it.
pub struct Event {
    pub run: usize,
    pub what: &'static str,
    pub state: State,
}

impl Scenario {
    fn files(&self) -> State {
        let mut state = State::default();
        for (pack, content) in self.packs.iter().enumerate() {
            state.packs |= 1 << pack;
            state.content[pack] = *content;
            state.deltas[pack] = self.deltas.get(pack).copied().unwrap_or_default();
        }
        if self.old_mark != 0 {
            state.marks = 1 << OLD_MARK;
            state.marked_by[OLD_MARK] = self.old_mark;
        }
        let trash = self.trash.iter().map(|reach| (reach, true));
        for (snapshot, (reach, is_trash)) in self.snapshots.iter().map(|reach| (reach, false)).chain(trash).enumerate()
        {
            *(if is_trash { &mut state.trash } else { &mut state.snapshots }) |= 1 << snapshot;
            state.written |= 1 << snapshot;
            state.reach[snapshot] = *reach;
        }
        state
    }
}

impl<'m> Model<'m> {
    /// The files, and nobody has begun.
    pub fn first_state(&self) -> State {
        let mut state = self.scenario.files();
        for (run, (kind, _)) in self.scenario.runs.iter().enumerate() {
            state.runs[run].next = match kind {
                Kind::Forget(_) if self.protocol.copies_before_it_deletes => Step::CopyToTrash,
                Kind::Forget(_) => Step::DeleteSnapshot,
                Kind::Reader(_) => Step::ReadIndex,
                Kind::Writer { .. } if !self.protocol.announces_first => Step::ReadMarks,
                _ => Step::Announce,
            };
        }
        state.crashes_left = self.scenario.crashes;
        state.wrong_deaths_left = self.scenario.wrong_deaths;
        state
    }

    pub fn kind(&self, run: usize) -> Kind {
        self.scenario.runs.get(run).map_or(Kind::Pruner { keeps_old: true, is_lavish: false }, |(kind, _)| *kind)
    }

    pub fn is_pruner(&self, run: usize) -> bool {
        matches!(self.kind(run), Kind::Pruner { .. })
    }

    /// Everything that can happen next.
    pub fn events(&self, state: &State) -> Vec<Event> {
        let mut events = Vec::new();
        for (run, (_, after)) in self.scenario.runs.iter().enumerate() {
            let waits = after.is_some_and(|before| state.runs[before].next.is_running());
            if state.runs[run].next.is_running() && !waits {
                self.step(state, run, &mut events);
                crash(state, run, &mut events);
            }
            end_session(state, run, &mut events);
        }
        if self.scenario.late_listings {
            events.iter_mut().for_each(|event| event.state.note_changes(state));
        }
        events
    }

    /// What `run` may do next.
    pub fn step(&self, state: &State, run: usize, events: &mut Vec<Event>) {
        let (files, recent) = (state.files(), state.recent);
        let [snapshots, trash] = [files.snapshots, files.trash].map(u32::from);
        let [new_snapshots, new_trash] = [recent.snapshots, recent.trash].map(u32::from);
        let list = match state.runs[run].next {
            Step::LookForPruners => (files.sessions, recent.sessions, Self::look_for_pruners as Then<'m>),
            Step::ListSessions => (files.sessions, recent.sessions, Self::list_sessions as Then<'m>),
            Step::ListSessionsAgain => (files.sessions, recent.sessions, Self::list_sessions_again as Then<'m>),
            Step::ListRoots => (snapshots, new_snapshots, Self::list_roots as Then<'m>),
            Step::ListTrash => (trash, new_trash, Self::list_trash as Then<'m>),
            Step::ListRootsAgain => (snapshots, new_snapshots, Self::list_roots_again as Then<'m>),
            Step::ListTrashAgain => (trash, new_trash, Self::list_trash_again as Then<'m>),
            Step::ReadMarks | Step::ReadMarksAnew | Step::ReadMarksAgain | Step::ReadMarksAtLast => {
                return self.read_marks(state, run, events);
            }
            _ => return self.change(state, run, events),
        };
        self.list(state, run, list, events);
    }

    /// Takes the next step of `run` where that is no listing.
    fn change(&self, state: &State, run: usize, events: &mut Vec<Event>) {
        let mut after = *state;
        let what = match (self.kind(run), state.runs[run].next) {
            (kind, step) if step.is_of_moving() => self.move_record(&mut after, run, kind),
            (Kind::Writer { .. } | Kind::Undelete(_), _) => self.writer_step(&mut after, run),
            (Kind::Pruner { .. }, _) => self.pruner_step(&mut after, run),
            (Kind::Reader(snapshot), _) => self.reader_step(&mut after, run, snapshot),
            (Kind::Forget(_), step) => unreachable!("one who forgets does not {step:?}"),
        };
        events.push(Event { run, what, state: after });
    }

    /// Marks are few, and their listing takes no time; but it may be late.
    fn read_marks(&self, state: &State, run: usize, events: &mut Vec<Event>) {
        let perhaps = if self.scenario.late_listings { state.marks & state.recent.marks } else { 0 };
        for seen in subsets(perhaps.into()) {
            let mut after = *state;
            let what = self.then_read_marks(&mut after, run, state.marks & !perhaps | seen as Marks);
            events.push(Event { run, what, state: after });
        }
    }

    fn then_read_marks(&self, state: &mut State, run: usize, seen: Marks) -> &'static str {
        let next = state.runs[run].next;
        if next == Step::ReadMarksAtLast {
            // Another prune has marked something that this one may keep.
            state.runs[run].has_come |= seen & !(state.runs[run].marks | 1 << run) != 0;
            state.runs[run].next = Step::LookAtPlan;
            return "reads marks at last";
        }
        state.runs[run].marks = seen;
        state.runs[run].next = match next {
            Step::ReadMarksAnew => Step::CheckPacks,
            Step::ReadMarksAgain => Step::CheckPacksAgain,
            _ if self.is_pruner(run) => self.after_reading(Step::ReadMarks),
            _ => self.after_reading_marks(state, run),
        };
        "reads marks"
    }

    /// A listing shows what was there all the while, and some, all or nothing of what came or went meanwhile, or lately where it may be late. What is
    /// listed though it is gone is not there when it is read.
    fn list(&self, state: &State, run: usize, (there, recent, then): (u32, u32, Then<'m>), events: &mut Vec<Event>) {
        let mut state = *state;
        let (surely, perhaps) = if self.scenario.late_listings {
            (there & !recent, there & recent)
        } else {
            let before = state.runs[run].listing.take().or((!self.scenario.slow_listings).then_some(there));
            let Some(before) = before else {
                state.runs[run].listing = Some(there);
                return events.push(Event { run, what: "begins to list", state });
            };
            (before & there, before ^ there)
        };
        for seen in subsets(perhaps) {
            let mut after = state;
            let what = then(self, &mut after, run, surely | seen);
            events.push(Event { run, what, state: after });
        }
    }

    /// A pruner, or an undelete, looks whether somebody prunes.
    fn look_for_pruners(&self, state: &mut State, run: usize, seen: u32) -> &'static str {
        let mut others = (0..RUNS).filter(|other| *other != run && self.is_pruner(*other));
        if others.any(|other| seen & sessions_of(other) != 0) {
            state.runs[run].next = Step::End;
            return "finds that somebody prunes";
        }
        state.runs[run].next = match self.is_pruner(run) {
            true => self.after_reading(Step::LookForPruners),
            false => self.after_looking_for_pruners(),
        };
        "finds that nobody prunes"
    }

    /// A reader has no session. A prune deletes the pack that it wanted to read at most once.
    fn reader_step(&self, state: &mut State, run: usize, snapshot: usize) -> &'static str {
        if state.snapshots & 1 << snapshot == 0 {
            state.finish(run, Step::Ended);
            return "finds that its snapshot was forgotten";
        }
        let this = state.runs[run];
        if this.next == Step::ReadIndex {
            state.runs[run] = Run { next: Step::ReadChunks, packs: state.packs, tries: this.tries + 1, ..this };
            return "reads the index";
        }
        if state.reach[snapshot] & !state.held_by(this.packs & state.packs) == 0 {
            state.finish(run, Step::Ended);
            return "reads all chunks";
        }
        let prunes = (0..RUNS).filter(|run| *run < LAST && self.is_pruner(*run)).count();
        if self.protocol.readers_look_again && usize::from(this.tries) <= prunes {
            state.runs[run].next = Step::ReadIndex;
            return "misses a pack";
        }
        state.finish(run, Step::Failed);
        "misses a pack, and gives up"
    }
}

/// Every subset of `set`, all of it first.
fn subsets(set: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(set), move |seen| (*seen != 0).then(|| (seen - 1) & set))
}

fn crash(state: &State, run: usize, events: &mut Vec<Event>) {
    if state.crashes_left > 0 && (state.sessions & sessions_of(run) != 0 || state.runs[run].next.is_of_moving()) {
        let mut state = *state;
        state.crashes_left -= 1;
        state.finish(run, Step::Crashed);
        events.push(Event { run, what: "crashes", state });
    }
}

/// Others end the session of a process that is gone, or that they wrongly presume to be.
fn end_session(state: &State, run: usize, events: &mut Vec<Event>) {
    let mut ended = *state;
    ended.sessions &= !sessions_of(run);
    if ended.sessions == state.sessions {
        return;
    }
    if state.runs[run].next == Step::Crashed {
        events.push(Event { run, what: "is found dead, and its session is ended", state: ended });
    } else if state.wrong_deaths_left > 0 {
        ended.wrong_deaths_left -= 1;
        ended.was_wrong = true;
        ended.runs[run].is_unsure |= state.runs[run].next.is_between_looks();
        events.push(Event { run, what: "is presumed dead wrongly, and its session is ended", state: ended });
    }
}
