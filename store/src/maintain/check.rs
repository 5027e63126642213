//! Whether everything is there and as it was written.
//!
//! A check looks at small files, at packs, and at trees. Small files are read each time. Of packs and trees a *ledger* in the cache folder
//! remembers what was whole in this place, not in a copy of the repository elsewhere, and what follows from that is not looked at again:
//!
//! - A pack whose directory was read well is not opened again while a file of its name and length is listed. So trusted is that what lies in
//!   it stays what it was: that bits of it rot is for [`Depth::Packs`] and [`Depth::ReadData`] to find, which always read.
//! - A tree that was whole is whole as long as all of these hold: every pack that the ledger knows is listed with its length; every segment that counts
//!   lists their chunks as their directories do, which is compared once for each segment; and this check has found nothing that cannot be read. Of
//!   another tree only the nodes are read that it does not share with a whole tree of its series. If any of it does not hold, every tree is
//!   walked.
//!
//! So with the ledger a check of the structure finds all that it finds without, but for changed bytes inside of packs that keep their length.
//! [`CheckOptions::full`] does without.
//!
//! Others may be at work. What a snapshot names was written before it, so snapshots are listed before segments and packs; and what was listed
//! and is gone when it is read is no damage if nothing names it when all is listed again.

use std::collections::{HashMap, HashSet};

mod keyless;
mod ledger;
mod packs;
mod reads;
mod trees;

#[cfg(test)]
mod tests;

use crate::{
    clock::unix_seconds,
    error::{Problem, Result},
    format::{
        pack::{SegmentPack, list_packs},
        parity,
        record::{RecordKind, Snapshot, SnapshotRecord},
    },
    id::{ChunkId, FileHash},
    index::{
        Index,
        segment::{SEGMENT_MAX_LEN, Segment, TOO_LONG},
    },
    name::Name,
    progress::OnEvent,
    read::chunks::ChunkReader,
    repository::Repository,
    snapshots::{
        list::{read_records, read_snapshots},
        pins::check_pins,
        spares::{list_lost, list_without, lost_snapshot},
    },
    storage::{
        Storage,
        layout::{INDEX_FOLDER, MARKS_FOLDER, PASSWORDS_FOLDER, SPARES_FOLDER},
        named::NAME_MISMATCH,
    },
};
pub use keyless::{Keyless, check_packs_without_key, lacking_beside};
use ledger::Ledger;
pub(crate) use packs::Unreadable;
use reads::Verdict;
use trees::{Losses, Trees};

/// Folders of small files that are named by their hash. Each of their files is read whole in every check, with or without the key.
const SMALL_FILES: [&str; 7] = [
    INDEX_FOLDER,
    RecordKind::Snapshot.folder(),
    RecordKind::Forgotten.folder(),
    SPARES_FOLDER,
    RecordKind::Parked.folder(),
    PASSWORDS_FOLDER,
    MARKS_FOLDER,
];
/// How often something is listed again because what was listed is gone.
const TRIES: u32 = 3;

/// How far a check goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Every file of the repository but packs is read, every pack's directory, and every tree; all chunks are there, and the bases of deltas, and
    /// segments list packs as they are. What the ledger knows is passed over.
    Structure,
    /// Beyond it, every pack's bytes match its name.
    Packs,
    /// Beyond it, every chunk decodes to what its id says.
    ReadData,
}

/// Of which packs more than the directory is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Subset {
    /// All of them.
    All,
    /// So many bytes of packs, and what is left of the last of them; those that were verified longest ago.
    Bytes(u64),
    /// The same as a part of all bytes, from 0 to 1.
    Share(f64),
    /// Those that fall into one of `of` groups, by their names: another computer tells the same. `number` is from 1 to `of`.
    Group {
        /// Which group.
        number: u64,
        /// How many there are.
        of: u64,
    },
}

/// What a check does.
#[derive(Clone, Copy)]
pub struct CheckOptions<'a> {
    /// How far it goes.
    pub depth: Depth,
    /// Whether it believes nothing of what earlier checks found.
    pub full: bool,
    /// What it reads, if `depth` is more than [`Depth::Structure`]: what was verified longest ago comes first.
    pub subset: Subset,
    /// Whether time is over: no other pack is read from then on, all else is done to its end. Asked before each pack.
    pub is_over: &'a (dyn Fn() -> bool + Sync),
    /// What the clock shows, in seconds since 1970, for the ledger.
    pub now: i64,
}

impl From<Depth> for CheckOptions<'_> {
    fn from(depth: Depth) -> Self {
        CheckOptions { depth, full: false, subset: Subset::All, is_over: &|| false, now: unix_seconds() }
    }
}

/// What a check found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// What is wrong with files of the repository.
    pub problems: Vec<Problem>,
    /// Files, and snapshots, of which something is known only to a newer program. That is no damage, and was not checked.
    pub newer: Vec<Problem>,
    /// What that means for snapshots, by time, oldest first: those that have lost something.
    pub affected: Vec<Affected>,
    /// Snapshots that could be read.
    pub snapshots: u64,
    /// Snapshots whose record has no second copy yet, by which its loss would be noticed. The next snapshot, or a repair, makes it.
    pub without_spare: u64,
    /// Packs that are there.
    pub packs: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Bytes of packs that were read whole.
    pub bytes_read: u64,
    /// How much of the repository was ever verified byte by byte, if there is a ledger that knows.
    pub verified: Option<Verified>,
    /// Results of a check without the key alone.
    pub keyless: Option<Keyless>,
}

impl CheckReport {
    /// Whether nothing is wrong, as far as this program can tell.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty() && self.affected.is_empty()
    }

    /// Puts problems in order, and what only a newer program knows apart from damage.
    fn sort(&mut self) {
        self.problems.sort();
        self.problems.dedup();
        self.newer.extend(self.problems.extract_if(.., |problem| problem.is_newer));
    }
}

/// A snapshot that has lost something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Files of which not all bytes can be read, by name.
    pub files: Vec<LostFile>,
    /// Parts of the tree that cannot be read: of what they held nothing is known.
    pub lost_parts: Vec<LostPart>,
    /// How many more files and parts there are than the first hundred, which are named.
    pub more: u64,
}

/// A file of which not all bytes can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostFile {
    /// Its name.
    pub name: Name,
    /// How many bytes cannot be read; of a sealed file, of its plaintext.
    pub lost_bytes: u64,
    /// How many it has.
    pub length: u64,
}

/// A part of a tree that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPart {
    /// The first name in it; `None` if it is the whole tree, or begins with what is no name.
    pub from: Option<Name>,
    /// Why it cannot be read.
    pub what: String,
}

/// How much of a repository was verified byte by byte, at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Bytes of packs that were verified.
    pub bytes: u64,
    /// Bytes of all packs.
    pub of: u64,
    /// When that was of which it is longest ago, seconds since 1970.
    pub since: Option<i64>,
}

/// Checks a repository, to a [`Depth`] or by [`CheckOptions`].
///
/// # Errors
/// Only what makes checking impossible; everything else is in the report.
pub fn check<'a>(
    repository: &Repository,
    options: impl Into<CheckOptions<'a>>,
    on_event: OnEvent,
) -> Result<CheckReport> {
    survey(repository, &options.into(), on_event).map(|(report, ..)| report)
}

/// A check, with the chunks as it found them and what of them cannot be read: for those who mend.
pub(crate) fn survey(
    repository: &Repository,
    options: &CheckOptions,
    on_event: OnEvent,
) -> Result<(CheckReport, ChunkReader, Unreadable)> {
    let core = repository.core();
    let storage = &*core.storage;
    let mut ledger = Ledger::open(repository.place_dir().as_deref());
    let mut report = CheckReport { problems: repository.problems().to_vec(), ..CheckReport::default() };
    check_small_files(storage, &mut report)?;
    report.problems.extend(check_pins(core)?);
    // Before the index: what these name was written before them.
    let records = Records::read(repository)?;
    let (chunks, of_index) = settled_index(repository)?;
    if core.config.parity {
        // A pack that no segment names is of a run that goes on, or was cut off, perhaps before the sidecar.
        let named: HashSet<FileHash> = chunks.index().named_packs().into_keys().map(|(_, name)| name).collect();
        let is_named = |pack: &FileHash| named.contains(pack);
        report.problems.extend(check_parity(storage, is_named, options.depth > Depth::Structure)?);
    }
    if !report.problems.iter().any(|problem| problem.file.starts_with(INDEX_FOLDER)) {
        report.problems.extend(unnamed_snapshots(storage, &chunks, &records)?);
    }
    let is_expected = !options.full && ledger.packs().all(|pack| is_listed(&chunks, &pack));
    if !is_expected {
        ledger.distrust();
    }
    let (unreadable, is_gone) = packs::check_packs(&chunks, options, &mut ledger, &mut report, on_event)?;
    let mut view = View { repository, chunks, of_index, unreadable, is_settled: true };
    if is_gone {
        view.renew()?;
    }
    let (segments, is_trusted) = check_segments(&mut view, &mut ledger, is_expected, &mut report.problems)?;
    let known = if is_trusted { ledger.roots().clone() } else { HashSet::new() };
    let whole = check_trees(&mut view, &records, &known, &mut report)?;

    let View { chunks, of_index, unreadable, is_settled, .. } = view;
    let roots = records.roots().filter(|root| is_settled && whole.contains(root)).collect();
    report.snapshots = records.snapshots.len() as u64;
    report.problems.extend(records.problems.into_iter().chain(of_index).map(|problem| confirmed(storage, problem)));
    report.sort();
    report.verified = ledger.is_kept().then(|| verified(&chunks, &ledger));
    ledger.save(|pack| is_listed(&chunks, pack), roots, segments);
    Ok((report, chunks, unreadable))
}

/// The chunks, as far as they are known.
struct View<'r> {
    repository: &'r Repository,
    chunks: ChunkReader,
    /// What is wrong with the index.
    of_index: Vec<Problem>,
    unreadable: Unreadable,
    /// Whether the index was never read anew, so that all of the packs that it names were looked at.
    is_settled: bool,
}

impl View<'_> {
    /// Lists segments and packs again, because one that was listed is gone.
    fn renew(&mut self) -> Result<()> {
        (self.chunks, self.of_index) = settled_index(self.repository)?;
        self.is_settled = false;
        Ok(())
    }
}

/// Compares what is new of segments with their packs, and gives the segments that are right and whether what the ledger knows of trees holds,
/// `is_expected` being whether all of its packs are there.
fn check_segments(
    view: &mut View,
    ledger: &mut Ledger,
    is_expected: bool,
    problems: &mut Vec<Problem>,
) -> Result<(HashSet<FileHash>, bool)> {
    let View { chunks, unreadable, is_settled, .. } = view;
    let is_new = |ledger: &Ledger, segment: &Segment| !ledger.knows_segment(&segment.name);
    let wrong = packs::check_segments(chunks, ledger, unreadable, problems, is_new)?;
    let was_whole = is_expected && *is_settled && wrong.is_empty() && unreadable.is_empty();
    if !unreadable.is_empty() {
        unreadable.add_deltas(chunks)?;
    }
    let index = chunks.index();
    let listed = index.all_segments().map(|open| &open.segment).filter(|segment| !Index::is_unlisted(segment));
    Ok((listed.map(|segment| segment.name).filter(|name| !wrong.contains(name)).collect(), was_whole))
}

/// Tells what snapshots and parked runs have lost, where trees with one of the roots `known` have lost nothing, and gives all nodes below
/// which nothing is lost.
fn check_trees(
    view: &mut View,
    records: &Records,
    known: &HashSet<ChunkId>,
    report: &mut CheckReport,
) -> Result<HashSet<ChunkId>> {
    let mut whole = known.clone();
    for (at, snapshot) in records.snapshots.iter().enumerate() {
        let beside = nearest_of(known, &snapshot.record.series, &records.snapshots, at);
        let file = RecordKind::Snapshot.file(&snapshot.id);
        let losses = losses_of(view, &file, &snapshot.record.root, beside, &mut whole, &mut report.problems)?;
        report.affected.extend(losses.map(|Losses { files, lost_parts, more, .. }| Affected {
            snapshot: snapshot.clone(),
            files,
            lost_parts,
            more,
        }));
    }
    for (file, record) in &records.parked {
        let beside = nearest_of(known, &record.series, &records.snapshots, records.snapshots.len());
        let losses = losses_of(view, file, &record.root, beside, &mut whole, &mut report.problems)?;
        let what = |losses: Losses| format!("it has lost {} files or parts of its tree", losses.count());
        report.problems.extend(losses.map(|losses| Problem::new(file, what(losses))));
    }
    Ok(whole)
}

/// What the tree of the record in `file` has lost, if anything; nothing if the record is gone by now.
fn losses_of(
    view: &mut View,
    file: &str,
    root: &ChunkId,
    beside: Option<ChunkId>,
    whole: &mut HashSet<ChunkId>,
    problems: &mut Vec<Problem>,
) -> Result<Option<Losses>> {
    let mut tries = TRIES;
    let losses = loop {
        let mut trees =
            Trees { chunks: &view.chunks, unreadable: &view.unreadable, whole, lists: HashMap::new(), problems };
        match trees.check(root, beside.as_ref()) {
            Err(error) if error.is_missing_file() && tries > 0 => tries -= 1,
            other => break other?,
        }
        view.renew()?;
    };
    if losses.is_empty() && losses.newer.is_none() || !view.repository.core().storage.has_file(file)? {
        return Ok(None);
    }
    let newer = losses.newer.as_ref().map(|(part, what)| format!("{what} in {part}"));
    problems.extend(newer.map(|what| Problem { file: file.to_owned(), what, is_newer: true }));
    Ok((!losses.is_empty()).then_some(losses))
}

/// The small files that are not what their names say, and snapshots of which only the spare is left.
fn check_small_files(storage: &dyn Storage, report: &mut CheckReport) -> Result<()> {
    for folder in SMALL_FILES {
        for (name, len) in storage.list_named(folder)? {
            let file = format!("{folder}/{name}");
            // A copy that was left over while a record was moved, perhaps not whole, is none of what counts.
            if folder == RecordKind::Forgotten.folder() && storage.has_file(&RecordKind::Snapshot.file(&name))? {
                continue;
            }
            if len > SEGMENT_MAX_LEN {
                report.problems.push(Problem::new(file, TOO_LONG));
                continue;
            }
            match Verdict::of_file(storage, &file, &name, len) {
                Ok(verdict) => report.problems.extend(verdict.problem(&file)),
                Err(error) if error.is_missing_file() => {}
                Err(error) if error.is_damage() => report.problems.push(Problem::from_error(&file, error)),
                Err(error) => return Err(error),
            }
        }
    }
    report.problems.extend(list_lost(storage)?.iter().map(lost_snapshot));
    report.without_spare = list_without(storage)?.len() as u64;
    Ok(())
}

/// A segment names the packs of a snapshot before there is the snapshot: where none does, one is lost. Nothing else is, for the packs are read by
/// themselves.
fn unnamed_snapshots(storage: &dyn Storage, chunks: &ChunkReader, records: &Records) -> Result<Option<Problem>> {
    let index = chunks.index();
    let mut unnamed = 0;
    for Snapshot { id, record } in &records.snapshots {
        let is_unnamed = index.is_only_unlisted(&record.root)?;
        // What was forgotten since may be just being pruned, and segments go before packs.
        unnamed += u64::from(is_unnamed && storage.has_file(&RecordKind::Snapshot.file(id))?);
    }
    let whose = if unnamed == 1 { "a snapshot".to_owned() } else { format!("{unnamed} snapshots") };
    let what = format!("segments are missing that name packs of {whose}; a backup or a repair makes them anew");
    Ok((unnamed > 0).then(|| Problem::new(INDEX_FOLDER, what)))
}

/// What is wrong with the sidecars of packs that are there and stay there. There is to be one of each pack that `is_required`.
fn check_parity(storage: &dyn Storage, is_required: impl Fn(&FileHash) -> bool, deep: bool) -> Result<Vec<Problem>> {
    let packs = names_of_packs(storage)?;
    let listed = parity::list(storage)?;
    let due = packs.iter().filter(|pack| is_required(pack) || listed.contains_key(pack));
    let names: Vec<FileHash> = due.copied().collect();
    let mut found = parity::check(storage, &names, &listed, deep);
    if !found.is_empty() {
        // A prune may have deleted some meanwhile.
        let left = names_of_packs(storage)?;
        found.retain(|(name, _)| left.contains(name));
    }
    Ok(found.into_iter().map(|(_, problem)| problem).collect())
}

fn names_of_packs(storage: &dyn Storage) -> Result<HashSet<FileHash>> {
    Ok(list_packs(storage)?.into_keys().map(|(_, name)| name).collect())
}

/// What holds chunks.
struct Records {
    snapshots: Vec<Snapshot>,
    /// By file.
    parked: Vec<(String, SnapshotRecord)>,
    problems: Vec<Problem>,
}

impl Records {
    fn read(repository: &Repository) -> Result<Records> {
        let core = repository.core();
        let list = read_snapshots(&*core.storage, &core.sealer, None)?;
        let mut records = Records { snapshots: list.snapshots, parked: Vec::new(), problems: list.problems };
        for (id, record) in read_records(&*core.storage, &core.sealer, RecordKind::Parked)? {
            let file = RecordKind::Parked.file(&id);
            match record {
                Ok(record) => records.parked.push((file, record)),
                Err(error) => records.problems.push(Problem::from_error(&file, error)),
            }
        }
        Ok(records)
    }

    fn roots(&self) -> impl Iterator<Item = ChunkId> {
        let parked = self.parked.iter().map(|(_, record)| record.root);
        self.snapshots.iter().map(|snapshot| snapshot.record.root).chain(parked)
    }
}

/// The chunks and what is wrong with the index, once two readings of it agree: somebody may be replacing segments and packs, and what one
/// reading misses is there in the next.
fn settled_index(repository: &Repository) -> Result<(ChunkReader, Vec<Problem>)> {
    let mut before: Option<Vec<Problem>> = None;
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match repository.chunks() {
            Ok((chunks, mut problems)) => {
                problems.sort();
                if problems.is_empty() || tries == 0 || before.as_ref() == Some(&problems) {
                    return Ok((chunks, problems));
                }
                before = Some(problems);
            }
            Err(error) if error.is_missing_file() && tries > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

/// A problem of a small file by its name, unless the file is whole when it is read again.
fn confirmed(storage: &dyn Storage, problem: Problem) -> Problem {
    let name = problem.file.rsplit('/').next().and_then(FileHash::from_hex);
    let Some(name) = name.filter(|_| problem.what == NAME_MISMATCH) else { return problem };
    let Some((folder, digits)) = problem.file.split_once('/') else { return problem };
    let listed = storage.list_folder(folder).unwrap_or_default();
    let is_whole = |len| storage.hash_anew(&problem.file, len).is_ok_and(|found| found == name);
    match listed.into_iter().find(|(listed, _)| listed == digits) {
        Some((_, len)) if is_whole(len) => Problem::new(problem.file, reads::READ_DIFFERENTLY),
        _ => problem,
    }
}

fn is_listed(chunks: &ChunkReader, pack: &SegmentPack) -> bool {
    chunks.index().has_pack(pack)
}

/// The one of the roots `known` that is nearest to snapshot number `at` in a series.
fn nearest_of(known: &HashSet<ChunkId>, series: &str, snapshots: &[Snapshot], at: usize) -> Option<ChunkId> {
    let is_fit = |other: &&Snapshot| known.contains(&other.record.root) && other.record.series == *series;
    if known.is_empty() {
        return None;
    }
    let before = snapshots[..at].iter().rev().find(is_fit);
    before.or_else(|| snapshots[at..].iter().find(is_fit)).map(|other| other.record.root)
}

fn verified(chunks: &ChunkReader, ledger: &Ledger) -> Verified {
    let mut verified = Verified::default();
    for pack in chunks.index().packs() {
        verified.of += pack.len;
        if let Some(at) = ledger.pack(&pack).map(|record| record.data_at).filter(|at| *at != 0) {
            verified.bytes += pack.len;
            verified.since = Some(verified.since.map_or(at, |since| since.min(at)));
        }
    }
    verified
}
