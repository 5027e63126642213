//! What there is at one moment: the files, and processes that are each before some step.

use std::fmt::{self, Write};

/// Runs that a scenario may have, and the lone prune at the end of everything.
pub const RUNS: usize = 7;
/// The lone prune.
pub const LAST: usize = RUNS - 1;
/// Packs that may be there at the beginning. Every run may write one more, whose number follows.
pub const FIRST_PACKS: usize = 2;
pub const PACKS: usize = FIRST_PACKS + RUNS;
/// Snapshots that may be there at the beginning. Every writer may write one more, whose number follows.
pub const FIRST_SNAPSHOTS: usize = 2;
pub const SNAPSHOTS: usize = FIRST_SNAPSHOTS + RUNS;
/// The mark of a prune that ended long ago. Every run may write one, which has its number.
pub const OLD_MARK: usize = RUNS;
pub const MARKS: usize = RUNS + 1;

/// Sets, as bits.
pub type Chunks = u8;
pub type Packs = u16;
pub type Snapshots = u16;
pub type Marks = u8;
pub type Sessions = u32;

/// The session files that one run may write: its first, the one that acknowledges marks, and the one that it announces anew.
const FILES: usize = 3;
pub const FIRST: usize = 0;
pub const ACKNOWLEDGING: usize = 1;
pub const ANEW: usize = 2;

/// All that what happens next depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct State {
    pub packs: Packs,
    /// What each pack holds or held. A name is used once.
    pub content: [Chunks; PACKS],
    pub marks: Marks,
    pub marked_by: [Packs; MARKS],
    pub sessions: Sessions,
    /// What the acknowledging session file of each run names.
    pub acknowledges: [Marks; RUNS],
    pub snapshots: Snapshots,
    pub trash: Snapshots,
    /// What each snapshot reaches.
    pub reach: [Chunks; SNAPSHOTS],
    pub runs: [Run; RUNS],
    pub crashes_left: u8,
    pub wrong_deaths_left: u8,
    /// Whether a session was ended while its process went on.
    pub was_wrong: bool,
}

/// A process: the step that it takes next, and what it remembers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Run {
    pub next: Step,
    /// What was there when the listing that is going on began.
    pub listing: Option<u32>,
    pub marks: Marks,
    pub packs: Packs,
    /// What a writer carries over from its base.
    pub carried: Chunks,
    pub roots: Snapshots,
    pub trash: Snapshots,
    /// Marks that some session does not acknowledge.
    pub unacknowledged: Marks,
    /// Whether there is a root that was not listed before the plan.
    pub has_come: bool,
    /// Packs that no mark named before its own.
    pub newly_marked: Packs,
    /// Packs that are to be deleted.
    pub swept: Packs,
    /// How often a reader has read the index.
    pub tries: u8,
    /// Whether its session was ended after it was seen to be there, but before it was looked for again.
    pub is_unsure: bool,
    pub has_committed: bool,
    pub has_withdrawn: bool,
}

/// What each kind of process does, step by step. A step is one operation on one file, or one listing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Step {
    /// There is no such process.
    #[default]
    None,
    Announce,
    LookForPruners,
    ReadMarks,
    ListPacks,
    ListSnapshots,
    Acknowledge,
    EndFirst,
    StoreChunks,
    LookForSession,
    AnnounceAnew,
    ReadMarksAnew,
    CheckPacks,
    Publish,
    LookForSessionAgain,
    ReadMarksAgain,
    CheckPacksAgain,
    Withdraw,
    ListSessions,
    ListRoots,
    ListTrash,
    MoveChunks,
    WriteMark,
    ListSessionsAgain,
    ListRootsAgain,
    ListTrashAgain,
    DeleteTrash,
    DeletePacks,
    DeleteMarks,
    Forget,
    ReadIndex,
    ReadChunks,
    End,
    Ended,
    /// It ended for want of a chunk.
    Failed,
    /// It vanished, and its session did not.
    Crashed,
}

impl Step {
    /// Whether there is a process that goes on.
    pub fn is_running(self) -> bool {
        !matches!(self, Step::None | Step::Ended | Step::Failed | Step::Crashed)
    }

    /// Whether a writer has seen or announced its session before the snapshot, and not yet looked for it after the snapshot.
    pub fn is_between_looks(self) -> bool {
        matches!(self, Step::ReadMarksAnew | Step::CheckPacks | Step::Publish | Step::LookForSessionAgain)
    }
}

/// A session file.
pub fn session(run: usize, file: usize) -> Sessions {
    1 << (run * FILES + file)
}

/// All session files of a run.
pub fn sessions_of(run: usize) -> Sessions {
    ((1 << FILES) - 1) << (run * FILES)
}

/// The numbers in a set.
pub fn members(set: impl Into<u32>) -> impl Iterator<Item = usize> {
    let mut set = set.into();
    std::iter::from_fn(move || {
        let next = (set != 0).then(|| set.trailing_zeros() as usize);
        set &= set.wrapping_sub(1);
        next
    })
}

impl State {
    /// What some packs hold together.
    pub fn held_by(&self, packs: Packs) -> Chunks {
        members(packs).fold(0, |chunks, pack| chunks | self.content[pack])
    }

    /// What some marks name together.
    pub fn marked(&self, marks: Marks) -> Packs {
        members(marks).fold(0, |packs, mark| packs | self.marked_by[mark])
    }

    /// What some snapshots reach together.
    pub fn reached_from(&self, snapshots: Snapshots) -> Chunks {
        members(snapshots).fold(0, |chunks, snapshot| chunks | self.reach[snapshot])
    }

    /// Writes the pack of `run`, if there is something to put into it.
    pub fn write_pack(&mut self, run: usize, content: Chunks) {
        if content != 0 {
            self.packs |= 1 << (FIRST_PACKS + run);
            self.content[FIRST_PACKS + run] = content;
        }
    }

    /// Moves a snapshot to the trash, if it is there.
    pub fn retire(&mut self, snapshot: usize) {
        let moved = self.snapshots & 1 << snapshot;
        self.snapshots &= !moved;
        self.trash |= moved;
    }

    /// Ends a process. What it remembered is forgotten, so that states which do not differ in what counts are one.
    pub fn finish(&mut self, run: usize, how: Step) {
        let Run { is_unsure, has_committed, has_withdrawn, .. } = self.runs[run];
        self.runs[run] = Run { next: how, is_unsure, has_committed, has_withdrawn, ..Run::default() };
        if how != Step::Crashed {
            self.sessions &= !sessions_of(run);
        }
    }

    /// Writes what is there now and was not in `before`, and the other way round.
    pub fn write_changes(&self, before: &State, text: &mut String) -> fmt::Result {
        let mut separator = "";
        let mut compare = |was: u32, is: u32, name: &dyn Fn(usize) -> String| {
            let changed = members(was ^ is).map(|n| (if is & 1 << n == 0 { "-" } else { "+" }, name(n)));
            changed
                .into_iter()
                .try_for_each(|(sign, name)| write!(text, "{}{sign}{name}", std::mem::replace(&mut separator, ", ")))
        };
        compare(before.packs.into(), self.packs.into(), &|n| format!("pack {n} {}", letters(self.content[n])))?;
        compare(before.marks.into(), self.marks.into(), &|n| {
            format!("mark {n} of packs {}", numbers(self.marked_by[n]))
        })?;
        compare(before.sessions, self.sessions, &|bit| self.session_name(bit))?;
        compare(before.snapshots.into(), self.snapshots.into(), &|n| {
            format!("snapshot {n} {}", letters(self.reach[n]))
        })?;
        compare(before.trash.into(), self.trash.into(), &|n| format!("trash {n} {}", letters(self.reach[n])))
    }

    fn session_name(&self, bit: usize) -> String {
        let run = bit / FILES;
        match bit % FILES {
            ACKNOWLEDGING => format!("session {run}b that acknowledges marks {}", numbers(self.acknowledges[run])),
            ANEW => format!("session {run}c"),
            _ => format!("session {run}"),
        }
    }
}

/// Chunks as letters.
pub fn letters(chunks: Chunks) -> String {
    members(chunks).map(|chunk| char::from(b'A' + chunk as u8)).collect()
}

/// A set as its numbers.
pub fn numbers(set: impl Into<u32>) -> String {
    let numbers: Vec<String> = members(set).map(|n| n.to_string()).collect();
    format!("{{{}}}", numbers.join(" "))
}
