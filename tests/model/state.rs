//! What there is at one moment: the files, and processes that are each before some step.

use std::fmt::{self, Write};

/// Runs that a scenario may have, and the lone prune at the end of everything.
pub const RUNS: usize = 7;
/// The lone prune.
pub const LAST: usize = RUNS - 1;
/// Packs that may be there at the beginning. Every run may write two more, whose numbers follow.
pub const FIRST_PACKS: usize = 2;
pub const PACKS: usize = FIRST_PACKS + 2 * RUNS;
/// The chunk that deltas are against.
pub const BASE: Chunks = 1;
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
    /// Which of these are there as deltas against [`BASE`].
    pub deltas: [Chunks; PACKS],
    pub marks: Marks,
    pub marked_by: [Packs; MARKS],
    pub sessions: Sessions,
    /// The names in the acknowledging session file of each run.
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
    /// Files that a listing that is served late may not show yet.
    pub recent: Files,
    /// Records that were ever there, that a prune has deleted, and that are nowhere for a moment, while one who moves them has them in memory, or has
    /// crashed with them: then a spare tells.
    pub written: Snapshots,
    pub pruned: Snapshots,
    pub in_hand: Snapshots,
    /// Records that were put back into the trash because they were nowhere: meanwhile a prune may have missed them.
    pub stale: Snapshots,
}

/// Files of the folders that decisions rest on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Files {
    pub sessions: Sessions,
    pub snapshots: Snapshots,
    pub trash: Snapshots,
    pub marks: Marks,
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
    /// Packs that hold what is needed and stay.
    pub staying: Packs,
    /// Snapshots of which the trash has a copy.
    pub left_over: Snapshots,
    /// Files that were recent when a wait began that goes on.
    pub aging: Files,
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
    LookAtPacks,
    CheckPacks,
    StoreAgain,
    Publish,
    LookForSessionAgain,
    AnnounceAgain,
    ReadMarksAgain,
    LookAtPacksAgain,
    CheckPacksAgain,
    StoreOnceMore,
    /// To move a record to the trash.
    CopyToTrash,
    DeleteSnapshot,
    LookForCopy,
    /// To delete the copy in the trash of what is a snapshot.
    LookForSnapshot,
    DeleteLeftOver,
    LookForSnapshotAgain,
    ListSessions,
    ListRoots,
    ListTrash,
    MoveChunks,
    WriteMark,
    WaitForSessions,
    ListSessionsAgain,
    WaitForRoots,
    ListRootsAgain,
    ListTrashAgain,
    ReadMarksAtLast,
    LookAtPlan,
    DeleteTrash,
    DeletePacks,
    DeleteMarks,
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

    /// Whether a record is being moved between folders.
    pub fn is_of_moving(self) -> bool {
        use Step::*;
        let to_trash = matches!(self, CopyToTrash | DeleteSnapshot | LookForCopy);
        to_trash || matches!(self, LookForSnapshot | DeleteLeftOver | LookForSnapshotAgain)
    }

    /// Whether a writer has seen or announced its session before the snapshot, and has not yet checked that it lacks nothing after it.
    pub fn is_between_looks(self) -> bool {
        use Step::*;
        let before = matches!(self, ReadMarksAnew | LookAtPacks | CheckPacks | StoreAgain | Publish);
        before || self.is_checking_at_last()
    }

    /// Whether a writer has written its snapshot, and not yet said that it is committed.
    pub fn is_checking_at_last(self) -> bool {
        use Step::*;
        let looks =
            matches!(self, LookForSessionAgain | AnnounceAgain | ReadMarksAgain | LookAtPacksAgain | CheckPacksAgain);
        looks || matches!(self, StoreOnceMore | CopyToTrash | DeleteSnapshot)
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

/// The lowest of a set, alone.
pub fn lowest(set: u16) -> u16 {
    set & set.wrapping_neg()
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
    /// Returns what some packs hold together. A delta counts while its base is there.
    pub fn held_by(&self, packs: Packs) -> Chunks {
        let whole = members(packs).fold(0, |chunks, pack| chunks | self.content[pack] & !self.deltas[pack]);
        if whole & BASE != 0 { self.named_by(packs) } else { whole }
    }

    /// Returns what some packs hold together, be it of use or not.
    pub fn named_by(&self, packs: Packs) -> Chunks {
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

    /// Writes the pack of `run` of this number, if there is something to put into it.
    pub fn write_pack(&mut self, run: usize, number: usize, content: Chunks, deltas: Chunks) {
        if content != 0 {
            let pack = FIRST_PACKS + number * RUNS + run;
            self.packs |= 1 << pack;
            self.content[pack] = content;
            self.deltas[pack] = deltas & content;
        }
    }

    /// The files of the folders that decisions rest on.
    pub fn files(&self) -> Files {
        Files { sessions: self.sessions, snapshots: self.snapshots, trash: self.trash, marks: self.marks }
    }

    /// Notes that what is other than in `before` was changed just now.
    pub fn note_changes(&mut self, before: &State) {
        let changed = before.files().each(&self.files(), |was, is| was ^ is);
        self.recent = self.recent.each(&changed, |recent, changed| recent | changed);
        for run in &mut self.runs {
            run.aging = run.aging.each(&changed, |aging, changed| aging & !changed);
        }
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

impl Files {
    /// Joins the sets of two, each with its like.
    pub fn each(&self, other: &Files, join: impl Fn(u32, u32) -> u32) -> Files {
        Files {
            sessions: join(self.sessions, other.sessions),
            snapshots: join(self.snapshots.into(), other.snapshots.into()) as Snapshots,
            trash: join(self.trash.into(), other.trash.into()) as Snapshots,
            marks: join(self.marks.into(), other.marks.into()) as Marks,
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
