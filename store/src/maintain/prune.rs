//! Prune: room back from what no snapshot needs any more, while others may be at work (SPEC §11).
//!
//! Nothing is deleted before a mark has told everybody, and everybody who may not have read it has ended. What is needed of a pack that goes is
//! moved first. Killed anywhere, a prune leaves a whole repository, and the next one goes on.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::Arc,
};

mod live;
mod moving;
mod plan;
mod roots;
mod sweep;
mod waiting;

pub use plan::PrunePlan;
pub(crate) use roots::Roots;

use crate::{
    error::Result,
    format::{
        mark::{Mark, read_marks_now},
        pack::SegmentPack,
    },
    id::{FileHash, SnapshotId},
    index::Index,
    progress::OnEvent,
    read::chunks::ChunkReader,
    repository::{
        Repository,
        core::Core,
        session::{Moment, Session, SessionInfo, end_long_seen},
    },
};
use moving::Moving;
use plan::{Plan, Whom};
use sweep::Sweep;
use waiting::{listing_delay, outwait};

/// What part of what is needed may be taken by what nobody needs, by default.
const UNUSED_DEFAULT: f64 = 0.04;
/// How often a prune begins anew because snapshots come while it works.
const TRIES_MAX: u32 = 5;

/// How to prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// Bytes of packs that are partly needed and may be written anew; whatever it takes if `None`.
    pub max_rewrite: Option<u64>,
    /// What nobody needs may stay in packs that are partly needed, up to this part of all that is needed.
    pub max_unused: f64,
}

impl Default for PruneOptions {
    fn default() -> PruneOptions {
        PruneOptions { max_rewrite: None, max_unused: UNUSED_DEFAULT }
    }
}

/// What a prune did.
#[derive(Debug, Default)]
pub struct PruneOutcome {
    /// Packs that were deleted.
    pub deleted_packs: u64,
    /// What they took.
    pub deleted_bytes: u64,
    /// What was written anew of packs that were partly needed.
    pub written_bytes: u64,
    /// Packs that are to be deleted, but on which somebody may still rely.
    pub waiting_packs: u64,
    /// Who.
    pub waits_for: Vec<SessionInfo>,
    /// Packs that stay because something needed in them cannot be read.
    pub damaged_packs: u64,
    /// Forgotten snapshots that are gone for good.
    pub trash: u64,
}

impl Repository {
    /// What a prune would do now if nobody else were at work, and the snapshots `without` were forgotten.
    ///
    /// # Errors
    /// As [`prune`](Repository::prune).
    pub fn plan_prune(&self, options: &PruneOptions, without: &[SnapshotId], on_event: OnEvent) -> Result<PrunePlan> {
        let core = self.core();
        let mut roots = Roots::read(core)?;
        roots.snapshots.retain(|snapshot| !without.contains(&snapshot.id));
        let chunks = ChunkReader::new(core.clone(), known_index(core, self.cache_dir())?);
        Ok(Plan::make(&chunks, &roots, &Whom::Nobody, options, on_event)?.summary)
    }

    /// Deletes packs of which nothing is needed, and writes those anew of which little is. Forgotten snapshots are gone for good then.
    ///
    /// # Errors
    /// [`Error::Busy`](crate::Error::Busy) if another prune is at work;
    /// [`Error::Unsupported`](crate::Error::Unsupported) if it meets what only a newer program knows; damage, if a snapshot is lost, or it or its tree cannot be read, so that nobody knows what is needed: nothing was
    /// deleted then; [`Error::Interrupted`](crate::Error::Interrupted); or what the storage says. The repository is whole in any case.
    pub fn prune(&self, options: &PruneOptions, on_event: OnEvent) -> Result<PruneOutcome> {
        self.core().config.check_writable()?;
        let mut all = PruneOutcome::default();
        for tries in 1.. {
            let (outcome, again) = self.prune_once(options, on_event)?;
            let has_freed = outcome.deleted_packs > 0;
            all.add(outcome);
            let is_done = match again {
                Again::No => true,
                Again::AsThereIsRoom => !has_freed && !self.core().give_up_reserve()?,
                Again::AsThereIsMore => tries >= TRIES_MAX,
            };
            if is_done {
                break;
            }
        }
        // Without room for it there is none.
        let _ = self.core().keep_reserve();
        Ok(all)
    }

    fn prune_once(&self, options: &PruneOptions, on_event: OnEvent) -> Result<(PruneOutcome, Again)> {
        let core = self.core();
        if let Some(cache) = self.place_dir() {
            end_long_seen(core, &cache, &Moment::now())?;
        }
        let session = core.with_reserve(|| Session::begin_prune(core))?;
        let found = Found::read(core, &session)?;
        // The index after the marks, which others may sweep, and after the roots: whatever they reach was in the index before.
        let chunks = Arc::new(ChunkReader::new(core.clone(), known_index(core, self.cache_dir())?));
        let mut plan = Plan::make(&chunks, &found.roots, &found.whom(), options, on_event)?;
        let mut outcome = PruneOutcome::default();
        let going = self.move_needed(&chunks, &session, &mut plan, &found.roots, &mut outcome, on_event)?;
        let mut release = Release::of(core, &session, &found, &going, on_event)?;
        if !release.packs.is_empty()
            && !core.storage.listing_delay().is_zero()
            && !stays_as_planned(&chunks, &going, &release.marks)?
        {
            release.forbid();
        }
        outcome.waiting_packs = (going.len() - release.packs.len()) as u64;
        // Who forgets a snapshot may undelete it for as long as all of it is there.
        if !release.has_new_roots && (outcome.waiting_packs == 0 || !release.packs.is_empty()) {
            let trash: Vec<SnapshotId> = found.roots.forgotten.keys().copied().collect();
            let Release { packs, marks, .. } = &release;
            let sweep = Sweep {
                core,
                cache_dir: self.cache_dir(),
                packs,
                trash: &trash,
                left_over: &found.roots.left_over,
                marks,
            };
            sweep.run(&mut outcome, on_event)?;
        }
        let again = match release {
            Release { has_new_roots: true, .. } => Again::AsThereIsMore,
            _ if plan.is_short => Again::AsThereIsRoom,
            _ => Again::No,
        };
        outcome.waits_for = release.waits_for;
        Ok((outcome, again))
    }

    /// Writes what is needed of the packs that are to be moved into new ones, sees that a segment names all that is needed, and makes that durable; gives
    /// the packs of which nothing is needed then.
    fn move_needed(
        &self,
        chunks: &Arc<ChunkReader>,
        session: &Session,
        plan: &mut Plan,
        roots: &Roots,
        outcome: &mut PruneOutcome,
        on_event: OnEvent,
    ) -> Result<BTreeSet<FileHash>> {
        let mut going: BTreeSet<FileHash> = plan.dead.iter().map(|pack| pack.name).collect();
        if plan.moved.is_empty() && plan.unlisted.is_empty() {
            return Ok(going);
        }
        let staying = match self.try_move(chunks, session, plan, roots, outcome, on_event) {
            // Then what need not be moved goes first.
            Err(error) if error.is_full() => {
                plan.is_short = true;
                return Ok(going);
            }
            other => other?,
        };
        outcome.damaged_packs += staying.len() as u64;
        going.extend(plan.moved.iter().map(|pack| pack.name).filter(|pack| !staying.contains(pack)));
        Ok(going)
    }

    /// Gives the packs that must stay, because something needed in them cannot be read.
    fn try_move(
        &self,
        chunks: &Arc<ChunkReader>,
        session: &Session,
        plan: &Plan,
        roots: &Roots,
        outcome: &mut PruneOutcome,
        on_event: OnEvent,
    ) -> Result<HashSet<FileHash>> {
        let core = self.core();
        outcome.damaged_packs += self.name_unlisted(chunks, session, &plan.unlisted)?;
        if plan.moved.is_empty() {
            return Ok(HashSet::new());
        }
        let mut moving = Moving::new(chunks, &plan.moved, &plan.needed, on_event);
        roots.newest_trees().try_for_each(|root| moving.move_tree(&root))?;
        let (mut ingest, staying) = moving.finish()?;
        let (segment, written_bytes) = ingest.finish()?;
        core.storage.sync_all()?;
        session.write_segment(&mut chunks.index_mut(), segment, self.cache_dir())?;
        core.storage.sync_all()?;
        outcome.written_bytes += written_bytes;
        Ok(staying)
    }

    /// Has a segment name these packs, which none names. Gives how many are not what their names say, and stay without.
    fn name_unlisted(&self, chunks: &ChunkReader, session: &Session, packs: &HashSet<FileHash>) -> Result<u64> {
        if packs.is_empty() {
            return Ok(0);
        }
        let core = self.core();
        let mut index = chunks.index_mut();
        let (segment, problems) = core.adopt_unlisted(&mut index, |pack| packs.contains(&pack.name))?;
        core.storage.sync_all()?;
        session.write_segment(&mut index, segment, self.cache_dir())?;
        core.storage.sync_all()?;
        Ok(problems.len() as u64)
    }
}

/// The index, if there is nothing in it, nor a pack beside it, that only a newer program knows.
fn known_index(core: &Core, cache_dir: Option<&Path>) -> Result<Index> {
    let (index, problems) = core.load_index(cache_dir)?;
    match problems.into_iter().find(|problem| problem.is_newer) {
        Some(problem) => Err(problem.into_error()),
        None => Ok(index),
    }
}

impl PruneOutcome {
    /// Goes on with what was done after it.
    fn add(&mut self, later: PruneOutcome) {
        self.deleted_packs += later.deleted_packs;
        self.deleted_bytes += later.deleted_bytes;
        self.written_bytes += later.written_bytes;
        self.trash += later.trash;
        self.waiting_packs = later.waiting_packs;
        self.waits_for = later.waits_for;
        self.damaged_packs = later.damaged_packs;
    }
}

/// Whether there is a reason to do all of it again.
enum Again {
    No,
    /// What was freed, or the reserve, is room for what could not be moved.
    AsThereIsRoom,
    /// A snapshot came meanwhile.
    AsThereIsMore,
}

/// What a prune found when it began.
struct Found {
    marks: Vec<Mark>,
    others: Vec<SessionInfo>,
    roots: Roots,
}

impl Found {
    fn read(core: &Core, session: &Session) -> Result<Found> {
        let marks = read_marks_now(&*core.storage, &core.sealer)?;
        let others = session.others()?;
        Ok(Found { marks, others, roots: Roots::read(core)? })
    }

    fn whom(&self) -> Whom {
        if self.others.is_empty() {
            Whom::Nobody
        } else {
            Whom::Others(self.roots.forgotten.values().flatten().copied().collect())
        }
    }
}

/// The packs that go and on which nobody relies.
struct Release {
    packs: BTreeSet<FileHash>,
    /// All marks, with the one that was made for those that no other names.
    marks: Vec<Mark>,
    /// Who may rely on the others.
    waits_for: Vec<SessionInfo>,
    /// Whether a snapshot, a parked run or another prune has come since, for which what goes may be needed.
    has_new_roots: bool,
}

impl Release {
    /// Marks what goes, where it is not marked yet. Who is at work and what there is are listed only then: whoever acknowledges no mark of a pack may
    /// rely on it, and who has ended has left a snapshot, or nothing. Where lists may be late, each is made when it must show what was there at the step
    /// before it.
    fn of(
        core: &Core,
        session: &Session,
        found: &Found,
        going: &BTreeSet<FileHash>,
        on_event: OnEvent,
    ) -> Result<Release> {
        let mut marks = found.marks.clone();
        let marked: HashSet<&FileHash> = found.marks.iter().flat_map(|mark| &mark.packs).collect();
        let unmarked: BTreeSet<FileHash> = going.iter().copied().filter(|pack| !marked.contains(pack)).collect();
        if !unmarked.is_empty() {
            marks.push(core.with_reserve(|| Mark::write(&*core.storage, &core.sealer, &unmarked))?);
            core.storage.sync_all()?;
        }
        let mut release = Release { packs: going.clone(), marks, waits_for: Vec::new(), has_new_roots: false };
        let others = session.others()?;
        release.wait_for(&others);
        let delay = listing_delay(core, &others);
        if !release.packs.is_empty() && !delay.is_zero() {
            outwait(core, delay, on_event)?;
            release.wait_for(&session.others()?);
        }
        if !release.packs.is_empty() {
            outwait(core, delay, on_event)?;
        }
        if found.roots.lack_any(core)? {
            release.forbid();
        }
        Ok(release)
    }

    /// Keeps the packs on which one of `others` may rely.
    fn wait_for(&mut self, others: &[SessionInfo]) {
        for other in others {
            let acknowledged: HashSet<&FileHash> =
                self.marks.iter().filter(|mark| other.acknowledges(mark)).flat_map(|mark| &mark.packs).collect();
            let before = self.packs.len();
            self.packs.retain(|pack| acknowledged.contains(pack));
            if self.packs.len() < before {
                self.waits_for.push(other.clone());
            }
        }
    }

    /// Keeps all packs: something has come that may need them.
    fn forbid(&mut self) {
        self.has_new_roots = true;
        self.packs.clear();
    }
}

/// Whether all that the plan keeps is still there and in no mark that it did not know: another prune may have begun whose session, marks or deletions
/// were listed late. Packs are looked for by their names.
fn stays_as_planned(chunks: &ChunkReader, going: &BTreeSet<FileHash>, marks: &[Mark]) -> Result<bool> {
    let core = &chunks.core;
    if read_marks_now(&*core.storage, &core.sealer)?.iter().any(|mark| !marks.contains(mark)) {
        return Ok(false);
    }
    let staying: Vec<SegmentPack> = chunks.index().packs().filter(|pack| !going.contains(&pack.name)).collect();
    for pack in staying {
        if !core.storage.has_file(&pack.file())? {
            return Ok(false);
        }
    }
    Ok(true)
}
