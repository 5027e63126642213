//! The check that takes no key: which files must be there by what lies in the clear, whether each is what its name says, and a fingerprint of all of them
//! (SPEC §16.3).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{CheckReport, SMALL_FILES, check_parity, check_small_files, packs, reads::READ_DIFFERENTLY};
use crate::{
    error::{Error, Problem, Result},
    format::{
        config::TEXT_MAX_LEN,
        keys::is_slot_name,
        pack::{PackId, PackKind, SegmentPack, list_packs, pack_file},
        record::RecordKind,
    },
    id::{FileHash, RepositoryId},
    index::{
        LOADS_MAX, LateList, list_segments,
        segment::{read_clear_part, segment_file},
        what_is_missing,
    },
    progress::OnEvent,
    repository::{Probe, Repository, session::is_anybody_at_work},
    storage::{
        Storage,
        layout::{CONFIG_FILE, KEYS_FOLDER, PINS_FOLDER, SPARES_FOLDER},
    },
};

/// The result of a check without the key, beside problems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyless {
    /// 32 digits that are the same for two places exactly if both hold the same files of content, each of them whole.
    pub fingerprint: String,
    /// Packs that no segment names: a run that goes on or was cut off has left them, or a segment is lost. They tell themselves what they hold.
    pub unindexed_packs: u64,
}

/// Checks that all files are there of which that can be told without the key, and that each matches its name. This takes no password.
///
/// # Errors
/// Only what makes checking impossible; everything else is in the report.
pub fn check_packs_without_key(storage: &dyn Storage, on_event: OnEvent) -> Result<CheckReport> {
    let Probe { id, parity, problems, .. } = Repository::probe(storage)?;
    let mut report = CheckReport { problems, ..CheckReport::default() };
    let (listed, named) = settled_packs(storage, &id, &mut report.problems)?;
    // Only now no list of segments is late.
    let content = list_content(storage)?;
    check_small_files(storage, &mut report)?;
    // What a segment replaces that only a newer program can read is not to be told here.
    if !report.problems.iter().any(|problem| problem.is_newer) {
        report.problems.extend(missing_packs(&listed, &named));
    }
    report.problems.extend(missing_trees(storage, &listed)?);
    if parity {
        // Somebody may have written a pack, and be about to write its sidecar: without the key nobody can tell.
        let is_quiet = !is_anybody_at_work(storage)?;
        report.problems.extend(check_parity(storage, |_| is_quiet, true)?);
    }
    let packs: Vec<SegmentPack> = listed.iter().map(|(&(kind, name), &len)| SegmentPack { name, kind, len }).collect();
    packs::check_names(storage, &packs, &mut report, on_event)?;
    report.sort();
    let named: HashSet<PackId> = named.iter().map(SegmentPack::id).collect();
    report.keyless = Some(Keyless {
        fingerprint: fingerprint(&content, &report.problems),
        unindexed_packs: listed.keys().filter(|pack| !named.contains(*pack)).count() as u64,
    });
    Ok(report)
}

/// The files of content that another place has and this one has not, or with another length. Both must be places of the same repository.
///
/// # Errors
/// [`Error::OtherRepository`] if they are not, or what the storages say.
pub fn lacking_beside(storage: &dyn Storage, other: &dyn Storage) -> Result<Vec<Problem>> {
    if Repository::probe(storage)?.id != Repository::probe(other)?.id {
        return Err(Error::OtherRepository);
    }
    let here = list_content(storage)?;
    let lacking = list_content(other)?.into_iter().filter(|(file, what)| here.get(file) != Some(what));
    let what = |file: &String| match here.contains_key(file) {
        true => "it is not the same in the other place",
        false => "it is missing here, and in the other place it is there",
    };
    Ok(lacking.map(|(file, _)| Problem::new(&file, what(&file))).collect())
}

/// The packs that are listed, and those that segments name, once no segment is replaced between both lists.
fn settled_packs(
    storage: &dyn Storage,
    id: &RepositoryId,
    problems: &mut Vec<Problem>,
) -> Result<(HashMap<PackId, u64>, BTreeSet<SegmentPack>)> {
    let (mut loads, mut late) = (1, LateList::of(storage));
    loop {
        // Segments before packs, as an index is read.
        let segments = list_segments(storage)?;
        let mut of_segments = Vec::new();
        let named = named_packs(storage, id, &segments, &mut of_segments)?;
        let listed = list_packs(storage)?;
        let is_whole = missing_packs(&listed, &named).next().is_none() && of_segments.is_empty();
        let is_settled = is_whole || loads == LOADS_MAX || list_segments(storage)? == segments;
        if is_settled && (is_whole || !late.outwait(storage, &segments)?) {
            problems.extend(of_segments);
            return Ok((listed, named));
        }
        loads += usize::from(!is_settled);
    }
}

/// The packs that whole segments name which no other whole one supersedes.
fn named_packs(
    storage: &dyn Storage,
    id: &RepositoryId,
    segments: &BTreeSet<(String, u64)>,
    problems: &mut Vec<Problem>,
) -> Result<BTreeSet<SegmentPack>> {
    let mut parts = Vec::new();
    for (name, len) in segments {
        let Some(name) = FileHash::from_hex(name) else { continue };
        match read_clear_part(storage, id, &name, *len) {
            Ok(part) => parts.push((name, part)),
            Err(error) if error.is_unreadable() || error.is_missing_file() => {
                problems.push(Problem::from_error(&segment_file(&name), error));
            }
            Err(error) => return Err(error),
        }
    }
    let superseded: HashSet<FileHash> = parts.iter().flat_map(|(_, part)| &part.superseded).copied().collect();
    let live = parts.into_iter().filter(|(name, _)| !superseded.contains(name));
    Ok(live.flat_map(|(_, part)| part.packs).collect())
}

fn missing_packs<'a>(
    listed: &'a HashMap<PackId, u64>,
    named: &'a BTreeSet<SegmentPack>,
) -> impl Iterator<Item = Problem> + 'a {
    let missing = named.iter().filter(|pack| listed.get(&pack.id()) != Some(&pack.len));
    missing.map(|pack| Problem::new(pack.file(), what_is_missing(pack, listed.get(&pack.id()).copied())))
}

/// Each snapshot has a tree. So where there is none, and no segment that would say so, packs and segments are lost together.
fn missing_trees(storage: &dyn Storage, listed: &HashMap<PackId, u64>) -> Result<Option<Problem>> {
    let is_alone = !listed.keys().any(|(kind, _)| *kind == PackKind::Tree)
        && !storage.names_in(RecordKind::Snapshot.folder())?.is_empty();
    Ok(is_alone.then(|| Problem::new(PackKind::Tree.folder(), "there are snapshots, but no pack of a tree")))
}

/// The files that a repository's content consists of, and what is to be the same of each: its length, if it is named by its hash, and else its hash.
fn list_content(storage: &dyn Storage) -> Result<BTreeMap<String, String>> {
    let mut content = BTreeMap::new();
    let slots = storage.list_folder(KEYS_FOLDER)?.into_iter().map(|(slot, _)| format!("{KEYS_FOLDER}/{slot}"));
    let is_slot = |file: &String| file.rsplit('/').next().is_some_and(is_slot_name);
    for file in slots.filter(is_slot).chain([CONFIG_FILE.to_owned()]) {
        match storage.read_whole(&file, TEXT_MAX_LEN) {
            Ok(bytes) => drop(content.insert(file, FileHash::of(&bytes).to_string())),
            Err(error) if error.is_damage() || error.is_missing_file() => {}
            Err(error) => return Err(error),
        }
    }
    for folder in SMALL_FILES.into_iter().filter(|folder| *folder != SPARES_FOLDER) {
        let files = storage.list_named(folder)?.into_iter();
        content.extend(files.map(|(name, len)| (format!("{folder}/{name}"), len.to_string())));
    }
    let pins = storage.list_named(PINS_FOLDER)?.into_iter();
    content.extend(pins.map(|(name, _)| (format!("{PINS_FOLDER}/{name}"), String::new())));
    let packs = list_packs(storage)?.into_iter();
    content.extend(packs.map(|((kind, name), len)| (pack_file(kind, &name), len.to_string())));
    Ok(content)
}

/// The fingerprint of what is whole of these files.
fn fingerprint(content: &BTreeMap<String, String>, problems: &[Problem]) -> String {
    let is_broken = |problem: &&Problem| problem.what != READ_DIFFERENTLY;
    let broken: HashSet<&str> = problems.iter().filter(is_broken).map(|problem| problem.file.as_str()).collect();
    let mut hasher = blake3::Hasher::new();
    for (file, what) in content.iter().filter(|(file, _)| !broken.contains(file.as_str())) {
        hasher.update(format!("{file} {what}\n").as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}
