//! The pass over packs: their directories, names and chunks, and what of them cannot be read.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rayon::prelude::*;

use super::{
    CheckOptions, CheckReport, Depth, Subset,
    ledger::{Ledger, Listing, PackRecord},
    reads::{READ_DIFFERENTLY, Verdict, refresh_chunk, thrice},
};
use crate::{
    bytes::random,
    error::{Error, Problem, Result},
    format::pack::{Pack, SegmentPack, chunk_id, has_its_header_twice},
    id::{ChunkId, FileHash},
    index::{Index, OpenSegment, Place, Presence, segment::Segment},
    progress::{OnEvent, Tally},
    read::chunks::ChunkReader,
    storage::{Storage, layout::INDEX_FOLDER},
};

/// Problems with the chunks of one pack beyond this are only counted.
const NAMED_CHUNKS_MAX: usize = 20;

/// What of the packs that are there cannot be read, or must be looked at twice.
#[derive(Debug, Default)]
pub(crate) struct Unreadable {
    /// Packs of which nothing can be read.
    pub(crate) packs: HashSet<FileHash>,
    /// Chunks that cannot be read, by pack and ordinal; also deltas whose base can be read nowhere.
    pub(crate) chunks: HashMap<FileHash, HashSet<u16>>,
    /// Packs that are not what their names say: even their directories may be others than those of the index.
    pub(crate) misnamed: HashSet<FileHash>,
    /// Packs that only a newer program can read, and what of them it knows: nothing in them is lost.
    newer: HashMap<FileHash, String>,
}

impl Unreadable {
    pub(crate) fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.chunks.is_empty() && self.misnamed.is_empty()
    }

    /// If only a newer program can read a chunk: in which file, and what of that it knows.
    pub(super) fn newer_of(&self, chunks: &ChunkReader, id: &ChunkId) -> Result<Option<(String, String)>> {
        if self.newer.is_empty() {
            return Ok(None);
        }
        let places = chunks.places(id)?;
        let newer = |place: &Place| Some((place.pack.file(), self.newer.get(&place.pack.name)?.clone()));
        let is_read = |place: &Place| newer(place).is_none() && self.is_readable_at(chunks, id, place);
        Ok(places.iter().find_map(newer).filter(|_| !places.iter().any(is_read)))
    }

    /// Whether a chunk lies somewhere where it can be read, as far as this pass looked.
    pub(crate) fn is_readable(&self, chunks: &ChunkReader, id: &ChunkId) -> Result<bool> {
        if self.is_empty() {
            return chunks.index().reads(id);
        }
        Ok(chunks.places(id)?.iter().any(|place| self.is_readable_at(chunks, id, place)))
    }

    /// Whether a chunk can be read at one of its places.
    pub(crate) fn is_readable_at(&self, chunks: &ChunkReader, id: &ChunkId, place: &Place) -> bool {
        let Place { pack, ordinal } = place;
        let is_there = || {
            let open = chunks.pack(pack);
            open.is_ok_and(|open| open.directory.chunks.get(usize::from(*ordinal)).is_some_and(|chunk| chunk.id == *id))
        };
        !self.packs.contains(&pack.name)
            && !self.has_lost(&pack.name, *ordinal)
            && (!self.misnamed.contains(&pack.name) || is_there())
    }

    fn has_lost(&self, pack: &FileHash, ordinal: u16) -> bool {
        self.chunks.get(pack).is_some_and(|ordinals| ordinals.contains(&ordinal))
    }

    fn lose(&mut self, pack: FileHash, ordinal: u16) {
        self.chunks.entry(pack).or_default().insert(ordinal);
    }

    /// Adds the deltas whose bases can be read nowhere, and the deltas of those.
    pub(super) fn add_deltas(&mut self, chunks: &ChunkReader) -> Result<()> {
        let index = chunks.index();
        loop {
            let mut lost = Vec::new();
            for OpenSegment { segment, presence } in index.all_segments() {
                each_delta(segment, &mut |pack, ordinal, base| {
                    let is_there = |_: &&SegmentPack| presence[pack] != Presence::Absent;
                    let Some(name) = segment.packs.get(pack).filter(is_there).map(|pack| pack.name) else {
                        return Ok(());
                    };
                    if !self.packs.contains(&name)
                        && !self.has_lost(&name, ordinal)
                        && !self.is_readable(chunks, base)?
                    {
                        lost.push((name, ordinal));
                    }
                    Ok(())
                })?;
            }
            if lost.is_empty() {
                return Ok(());
            }
            lost.into_iter().for_each(|(pack, ordinal)| self.lose(pack, ordinal));
        }
    }
}

/// Calls `each` with the pack, by its number, and the ordinal of every delta of a segment, and its base.
fn each_delta(segment: &Segment, each: &mut dyn FnMut(usize, u16, &ChunkId) -> Result<()>) -> Result<()> {
    let mut deltas = segment.deltas.iter().peekable();
    if deltas.peek().is_none() {
        return Ok(());
    }
    let mut outcome = Ok(());
    segment.for_each(&mut |number, entry| {
        if let Some((_, base)) = deltas.next_if(|(delta, _)| *delta == number)
            && outcome.is_ok()
        {
            outcome = each(entry.pack as usize, entry.ordinal, base);
        }
    })?;
    outcome
}

/// The segments that do not list the chunks of their packs as the packs' directories do, or in such a way that they are not found. Where a
/// pack turns out to be another than its name says, it is the pack that is wrong.
pub(super) fn check_segments(
    chunks: &ChunkReader,
    ledger: &mut Ledger,
    unreadable: &mut Unreadable,
    problems: &mut Vec<Problem>,
    is_wanted: impl Fn(&Ledger, &Segment) -> bool,
) -> Result<HashSet<FileHash>> {
    let storage = &*chunks.core.storage;
    let mut wrong = HashSet::new();
    for OpenSegment { segment, presence } in
        chunks.index().all_segments().filter(|open| !Index::is_unlisted(&open.segment))
    {
        if !is_wanted(ledger, segment) {
            continue;
        }
        let (listings, mut is_wrong) = listings_of(segment)?;
        if is_wrong {
            problems.push(Problem::new(segment_file(segment), "chunks that it lists cannot be found by it"));
        }
        let there =
            segment.packs.iter().zip(&listings).zip(presence).filter(|(_, presence)| **presence != Presence::Absent);
        for ((pack, listing), _) in there {
            let is_other = |record: &PackRecord| record.directory_at != 0 && record.listing != *listing;
            if is_wrong || unreadable.misnamed.contains(&pack.name) || !ledger.pack(pack).is_some_and(is_other) {
                continue;
            }
            let file = pack.file();
            let verdict = Verdict::of_file(storage, &file, &pack.name, pack.len)?;
            if verdict.is_whole() {
                is_wrong = true;
                let what = format!("it does not list the chunks of {file} as they are");
                problems.push(Problem::new(segment_file(segment), what));
            } else {
                problems.extend(verdict.problem(&file));
                unreadable.misnamed.insert(pack.name);
                ledger.doubt(&pack.name);
            }
        }
        if is_wrong {
            wrong.insert(segment.name);
        }
    }
    Ok(wrong)
}

fn segment_file(segment: &Segment) -> String {
    format!("{INDEX_FOLDER}/{}", segment.name)
}

/// What a segment lists of each of its packs, and whether some of it cannot be found by it.
fn listings_of(segment: &Segment) -> Result<(Vec<Listing>, bool)> {
    let mut listings = vec![Listing::default(); segment.packs.len()];
    let (mut is_hidden, mut last) = (false, ChunkId([0; 16]));
    segment.for_each(&mut |number, entry| {
        is_hidden |= entry.id < last || !segment.lets_find(number, &entry.id);
        last = entry.id;
        if let Some(listing) = listings.get_mut(entry.pack as usize) {
            listing.add(&entry.id, entry.ordinal);
        }
    })?;
    Ok((listings, is_hidden))
}

/// A pack to look at.
struct Job {
    pack: SegmentPack,
    /// Whether more than its directory is read, if there is time.
    is_read: bool,
}

/// Looks at every pack of which something is not known, and gives what cannot be read and whether a pack was gone.
pub(super) fn check_packs(
    chunks: &ChunkReader,
    options: &CheckOptions,
    ledger: &mut Ledger,
    report: &mut CheckReport,
    on_event: OnEvent,
) -> Result<(Unreadable, bool)> {
    let mut packs: Vec<SegmentPack> = chunks.index().packs().collect();
    let selected = select(&mut packs, options, ledger)?;
    let is_known = |pack: &SegmentPack| !options.full && ledger.pack(pack).is_some_and(|known| known.directory_at != 0);
    let known: HashSet<FileHash> = packs.iter().filter(|pack| is_known(pack)).map(|pack| pack.name).collect();
    let known_chunks = |pack: &SegmentPack| ledger.pack(pack).map_or(0, |record| record.chunks);
    let jobs: Vec<Job> = packs.into_iter().zip(0..).map(|(pack, at)| Job { pack, is_read: at < selected }).collect();
    let (passed, jobs): (Vec<Job>, Vec<Job>) =
        jobs.into_iter().partition(|job| !job.is_read && known.contains(&job.pack.name));
    report.packs = (passed.len() + jobs.len()) as u64;
    let chunk_count = AtomicU64::new(passed.iter().map(|job| known_chunks(&job.pack)).sum());
    let bytes_read = AtomicU64::new(0);
    let kept = Mutex::new(ledger);
    let note = |pack: &SegmentPack, looked: &Looked| {
        let mut ledger = kept.lock().unwrap_or_else(PoisonError::into_inner);
        looked.note_in(&mut ledger, pack, options.now);
    };
    // One after another in this order, and when time is over, no more than directories.
    let due = jobs.iter().map(|job| {
        let depth = if job.is_read && !(options.is_over)() { options.depth } else { Depth::Structure };
        (job.pack, depth)
    });
    let total = (jobs.len() as u64, jobs.iter().map(|job| job.pack.len).sum());
    let looked = each_pack(
        due,
        |(pack, _)| pack.len,
        total,
        on_event,
        |(pack, depth)| {
            if depth == Depth::Structure && known.contains(&pack.name) {
                let ledger = kept.lock().unwrap_or_else(PoisonError::into_inner);
                chunk_count.fetch_add(ledger.pack(&pack).map_or(0, |record| record.chunks), Ordering::Relaxed);
                return Ok(None);
            }
            let looked = check_pack(chunks, depth, &pack)?;
            note(&pack, &looked);
            chunk_count.fetch_add(looked.chunks, Ordering::Relaxed);
            bytes_read.fetch_add(if depth > Depth::Structure { pack.len } else { 0 }, Ordering::Relaxed);
            Ok((looked.is_gone || !looked.findings.is_empty()).then_some((pack, looked)))
        },
    );
    let ledger = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
    ledger.write_packs();
    report.chunks = chunk_count.into_inner();
    report.bytes_read = bytes_read.into_inner();
    Ok(tell(looked?, &mut report.problems))
}

/// Turns what was found into problems, and gives what cannot be read and whether a pack was gone.
fn tell(looked: Vec<(SegmentPack, Looked)>, problems: &mut Vec<Problem>) -> (Unreadable, bool) {
    let (mut unreadable, mut is_gone) = (Unreadable::default(), false);
    for (pack, looked) in looked {
        is_gone |= looked.is_gone;
        let (mut of_chunks, mut more) = (0, 0u64);
        for Finding { lost, problem } in looked.findings {
            match lost {
                Lost::Nothing => {}
                Lost::Newer => drop(unreadable.newer.insert(pack.name, problem.what.clone())),
                Lost::Pack => drop(unreadable.packs.insert(pack.name)),
                Lost::Name => drop(unreadable.misnamed.insert(pack.name)),
                Lost::Chunk(ordinal) => {
                    unreadable.lose(pack.name, ordinal);
                    of_chunks += 1;
                    if of_chunks > NAMED_CHUNKS_MAX {
                        more += 1;
                        continue;
                    }
                }
            }
            problems.push(problem);
        }
        if more > 0 {
            problems.push(Problem::new(pack.file(), format!("{more} more of its chunks cannot be read")));
        }
    }
    (unreadable, is_gone)
}

/// Puts packs in the order in which they are to be read, and gives how many of them are, from the first.
fn select(packs: &mut [SegmentPack], options: &CheckOptions, ledger: &Ledger) -> Result<usize> {
    if options.depth == Depth::Structure {
        return Ok(0);
    }
    // Packs of one age in any order, but another each time: then even without a ledger all of them have their turn.
    let mask = u64::from_le_bytes(random().map_err(Error::Random)?);
    let turn = |name: &FileHash| first_number(name) ^ mask;
    let age = |pack: &SegmentPack| ledger.pack(pack).map_or(0, |record| record.data_at);
    packs.sort_unstable_by_key(|pack| (age(pack), turn(&pack.name), Reverse(pack.name)));
    let total: u64 = packs.iter().map(|pack| pack.len).sum();
    let first_bytes = |bytes: u64| {
        let mut before = 0;
        packs
            .iter()
            .take_while(|pack| {
                before < bytes && {
                    before += pack.len;
                    true
                }
            })
            .count()
    };
    Ok(match options.subset {
        Subset::All => packs.len(),
        Subset::Bytes(bytes) => first_bytes(bytes),
        Subset::Share(share) => first_bytes((total as f64 * share.clamp(0.0, 1.0)).ceil() as u64),
        Subset::Group { number, of } => {
            let is_in = |pack: &SegmentPack| first_number(&pack.name) % of.max(1) == number % of.max(1);
            packs.sort_by_key(|pack| !is_in(pack));
            packs.partition_point(is_in)
        }
    })
}

fn first_number(name: &FileHash) -> u64 {
    u64::from_le_bytes(*name.as_bytes().first_chunk().expect("a hash is longer than eight bytes"))
}

/// What a look at a pack found.
#[derive(Default)]
struct Looked {
    chunks: u64,
    listing: Listing,
    has_directory: bool,
    has_name: bool,
    has_data: bool,
    /// It was listed, and was not there when it was read.
    is_gone: bool,
    findings: Vec<Finding>,
}

/// Something wrong with a pack.
struct Finding {
    lost: Lost,
    problem: Problem,
}

/// What cannot be relied on.
enum Lost {
    /// It was read well in the end.
    Nothing,
    /// Only a newer program can read the pack.
    Newer,
    Pack,
    /// Its name is not its bytes', but it may still hold whole chunks: those are judged one by one.
    Name,
    /// The chunk of this ordinal.
    Chunk(u16),
}

impl Looked {
    fn note_in(&self, ledger: &mut Ledger, pack: &SegmentPack, now: i64) {
        if self.is_gone {
            return ledger.doubt(&pack.name);
        }
        // Trees may rely on a pack in spite of what is wrong with it: it is expected to be there from now on.
        let is_whole = self.findings.is_empty();
        let before = ledger.pack(pack).filter(|_| is_whole).copied().unwrap_or_default();
        let at = |is_found: bool, before: i64| if is_found && is_whole { now } else { before };
        ledger.note(
            pack.name,
            PackRecord {
                kind: pack.kind,
                len: pack.len,
                chunks: self.chunks,
                listing: self.listing,
                directory_at: at(self.has_directory, before.directory_at),
                bytes_at: at(self.has_name, before.bytes_at),
                data_at: at(self.has_data, before.data_at),
            },
        );
    }
}

/// Looks at a pack. One that this user may not read is no damage.
fn check_pack(chunks: &ChunkReader, depth: Depth, pack: &SegmentPack) -> Result<Looked> {
    let mut looked = Looked::default();
    match look_into(chunks, depth, pack, &mut looked) {
        Ok(()) => {}
        Err(error) if error.is_missing_file() => looked.is_gone = true,
        Err(error) if error.is_unreadable() => {
            let lost = if error.is_newer() { Lost::Newer } else { Lost::Pack };
            looked.findings.push(Finding { lost, problem: Problem::from_error(&pack.file(), error) });
        }
        Err(error) => return Err(error),
    }
    Ok(looked)
}

fn look_into(chunks: &ChunkReader, depth: Depth, pack: &SegmentPack, looked: &mut Looked) -> Result<()> {
    let core = &chunks.core;
    let (storage, file) = (&*core.storage, pack.file());
    let open = || Pack::open(storage, &core.sealer, pack);
    let (open, mut is_unsteady) = thrice(open, || drop(storage.hash_anew(&file, pack.len)))?;
    looked.chunks = open.directory.chunks.len() as u64;
    looked.listing = Listing::of(&open.directory);
    looked.has_directory = true;
    if depth >= Depth::Packs {
        let len = usize::try_from(pack.len).ok().filter(|&len| len < 1 << 31);
        let len = len.ok_or_else(|| Error::damaged(&file, "it is too long"))?;
        let (bytes, broken) = match read_pack(storage, pack, &file, len) {
            Ok((bytes, verdict)) => {
                is_unsteady |= verdict == Verdict::ReadDifferently;
                let broken = verdict.problem(&file).filter(|_| !verdict.is_whole());
                let is_other = || !has_its_header_twice(&bytes);
                let broken = broken.or_else(|| is_other().then(|| Problem::new(&file, "its two headers differ")));
                (bytes, broken)
            }
            Err(error) if error.is_damage() => {
                (read_frames(storage, &open, len)?, Some(Problem::from_error(&file, error)))
            }
            Err(error) => return Err(error),
        };
        looked.has_name = broken.is_none();
        // Which chunks of a pack that is not what it was are lost is worth a look at any depth.
        if depth == Depth::ReadData || broken.is_some() {
            is_unsteady |= check_chunks(chunks, &open, &bytes, &mut looked.findings);
            looked.has_data = looked.findings.is_empty();
        }
        looked.findings.extend(broken.map(|problem| Finding { lost: Lost::Name, problem }));
    }
    if is_unsteady {
        looked.findings.push(Finding { lost: Lost::Nothing, problem: Problem::new(file, READ_DIFFERENTLY) });
    }
    Ok(())
}

/// The bytes of a pack as they were read last, and what is to be thought of them.
fn read_pack(storage: &dyn Storage, pack: &SegmentPack, file: &str, len: usize) -> Result<(Vec<u8>, Verdict)> {
    let mut bytes = Vec::new();
    let verdict = Verdict::of(&pack.name, |anew| {
        // Two at a time would take twice the room.
        bytes = Vec::new();
        bytes = if anew { storage.read_exactly_anew(file, 0, len) } else { storage.read_exactly(file, 0, len) }?;
        Ok(FileHash::of(&bytes))
    })?;
    Ok((bytes, verdict))
}

/// What can be read of a pack that cannot be read to its end, and zeros for the other frames.
fn read_frames(storage: &dyn Storage, pack: &Pack, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    for (number, frame) in (0..).zip(&pack.directory.frames) {
        match pack.read_frame(storage, number) {
            Ok(sealed) => bytes[frame.offset as usize..][..frame.sealed_len].copy_from_slice(&sealed),
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Decodes every frame of a pack, and checks the id of every chunk. Gives whether one came out right only when it was read again.
fn check_chunks(chunks: &ChunkReader, pack: &Pack, bytes: &[u8], findings: &mut Vec<Finding>) -> bool {
    let (mut is_unsteady, mut ordinal) = (false, 0u16);
    for (number, inside) in pack.directory.chunks.chunk_by(|a, b| a.frame == b.frame).enumerate() {
        let mut wrong = check_frame(chunks, pack, number, bytes, ordinal);
        for _ in 0..2 {
            if wrong.is_empty() {
                break;
            }
            // The pack has been read again already.
            if let Some(base) = pack.directory.frames[number].base {
                refresh_chunk(chunks, &base.id);
            }
            let again = check_frame(chunks, pack, number, bytes, ordinal);
            is_unsteady |= again.is_empty();
            wrong = again;
        }
        findings.extend(
            wrong
                .into_iter()
                .map(|(ordinal, what)| Finding { lost: Lost::Chunk(ordinal), problem: Problem::new(&pack.file, what) }),
        );
        ordinal = ordinal.wrapping_add(inside.len() as u16);
    }
    is_unsteady
}

/// What is wrong with the chunks of a frame, of which the first has the ordinal `first`.
fn check_frame(chunks: &ChunkReader, pack: &Pack, number: usize, bytes: &[u8], first: u16) -> Vec<(u16, String)> {
    let frame = &pack.directory.frames[number];
    let sealed = bytes[frame.offset as usize..][..frame.sealed_len].to_vec();
    let decoded = chunks.decode(pack, number as u32, sealed);
    let inside = pack.directory.chunks[usize::from(first)..].iter().take_while(|chunk| chunk.frame as usize == number);
    let judge = |(ordinal, chunk): (u16, &crate::format::pack::PackedChunk)| match &decoded {
        Ok(plaintext) => {
            let plaintext = &plaintext[chunk.offset as usize..][..chunk.len as usize];
            let is_right = chunk_id(&chunks.core.keys.id, frame.kind, plaintext) == chunk.id;
            (!is_right).then(|| (ordinal, format!("chunk {ordinal} is not what its id says")))
        }
        // A prune leaves deltas that nothing needs, and deletes their bases. Where one is needed, a tree tells.
        Err(Error::ChunkMissing { .. }) if frame.base.is_some() => None,
        // The base is in a pack that is told of by itself.
        Err(error) if error.is_newer() => None,
        Err(error) => Some((ordinal, format!("chunk {ordinal} cannot be read: {error}"))),
    };
    (first..=u16::MAX).zip(inside).filter_map(judge).collect()
}

/// Compares packs with their names, for which nobody needs a key. What is gone when it is read is left out.
pub(super) fn check_names(
    storage: &dyn Storage,
    packs: &[SegmentPack],
    report: &mut CheckReport,
    on_event: OnEvent,
) -> Result<()> {
    let total = (packs.len() as u64, packs.iter().map(|pack| pack.len).sum());
    let problems = each_pack(
        packs.iter(),
        |pack| pack.len,
        total,
        on_event,
        |pack| {
            let file = pack.file();
            match Verdict::of_file(storage, &file, &pack.name, pack.len) {
                Ok(verdict) => Ok(verdict.problem(&file)),
                Err(error) if error.is_missing_file() => Ok(None),
                Err(error) if error.is_damage() => Ok(Some(Problem::from_error(&file, error))),
                Err(error) => Err(error),
            }
        },
    )?;
    report.problems.extend(problems);
    (report.packs, report.bytes_read) = total;
    Ok(())
}

/// Calls `look` for every job on all cores, each begun in its turn, and gathers what it finds.
fn each_pack<J: Send, F: Send>(
    jobs: impl Iterator<Item = J> + Send,
    len: impl Fn(&J) -> u64 + Sync,
    (files_total, bytes_total): (u64, u64),
    on_event: OnEvent,
    look: impl Fn(J) -> Result<Option<F>> + Sync,
) -> Result<Vec<F>> {
    let tally = Tally::new(files_total, bytes_total, on_event);
    jobs.par_bridge()
        .map(|job| {
            let len = len(&job);
            let found = look(job)?;
            tally.pass(len).map(|()| found)
        })
        .filter_map(Result::transpose)
        .collect()
}
