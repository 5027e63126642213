//! Segments: sorted, immutable maps from chunk id to place (SPEC §7).
//!
//! Which packs a segment names, and which segments it replaces, stands in its *clear part*, for those who have no key; the rest is sealed. Both together,
//! one after the other, are its *contents*. They are read by position, a block of 4096 bytes at a time, from a verified copy in the cache folder: what
//! stays in memory is a filter of ten bits and a fence of a twentieth of a byte for each chunk.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use crate::{
    bytes::{Cursor, Malformed},
    error::{Error, Refused, Result},
    format::{
        pack::{Directory, PackKind, SegmentPack},
        seal::{FileKind, HEADER_LEN, Sealer, check_header},
    },
    id::{ChunkId, FileHash, RepositoryId},
    private,
    storage::{Storage, layout::INDEX_FOLDER, named::NAME_MISMATCH, positioned},
};

/// No file of a segment is longer, nor its contents.
pub(crate) const SEGMENT_MAX_LEN: u64 = 1 << 30;
/// Where the clear part's tables begin.
const CLEAR_FIXED_LEN: usize = 8;
/// Where the payload's tables begin.
const FIXED_LEN: usize = 32;
const PACK_LEN: usize = 40;
const DELTA_LEN: usize = 24;
const ENTRY_LEN: usize = 24;
pub(crate) const BLOCK_LEN: usize = 4096;
const BLOCK_ENTRIES: usize = BLOCK_LEN / ENTRY_LEN;
const FILTER_BLOCK_LEN: usize = 64;
const FILTER_BITS_PER_ENTRY: u64 = 10;
const FILTER_PROBES: u32 = 6;
const MAX_ENTRIES: u64 = 1 << 28;
const CHECK_LEN: usize = 32;
/// The complaint about a file that is longer than the longest of its kind may be.
pub(crate) const TOO_LONG: &str = "it is too long to be one of its kind";

/// A chunk's place, as a segment holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentEntry {
    pub(crate) id: ChunkId,
    /// Number of the pack in the segment's table.
    pub(crate) pack: u32,
    pub(crate) ordinal: u16,
    pub(crate) size_class: u8,
    pub(crate) flags: u8,
}

impl SegmentEntry {
    fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.pack.to_le_bytes());
        out.extend_from_slice(&self.ordinal.to_le_bytes());
        out.extend([self.size_class, self.flags]);
    }

    fn parse(bytes: &[u8]) -> SegmentEntry {
        let mut cursor = Cursor(bytes);
        let mut fields = || -> Result<SegmentEntry, Malformed> {
            let (id, pack) = (ChunkId(cursor.array()?), cursor.u32()?);
            let ordinal = u16::from_le_bytes(cursor.array()?);
            Ok(SegmentEntry { id, pack, ordinal, size_class: cursor.u8()?, flags: cursor.u8()? })
        };
        fields().expect("an entry's bytes are there")
    }
}

/// The part of a segment that can be read without the key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClearPart {
    pub(crate) packs: Vec<SegmentPack>,
    /// The segments that it contains and replaces.
    pub(crate) superseded: Vec<FileHash>,
}

impl ClearPart {
    /// How long it is, by its first bytes.
    fn len_of(fixed: &[u8; CLEAR_FIXED_LEN]) -> u64 {
        let (packs, superseded) = fixed.split_at(4);
        let count = |bytes: &[u8]| u64::from(Cursor(bytes).u32().expect("a count has four bytes"));
        CLEAR_FIXED_LEN as u64 + count(packs) * PACK_LEN as u64 + count(superseded) * 32
    }

    /// How long it is once it is written.
    fn len(&self) -> usize {
        CLEAR_FIXED_LEN + self.packs.len() * PACK_LEN + self.superseded.len() * 32
    }

    fn emit(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        for count in [self.packs.len(), self.superseded.len()] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        for pack in &self.packs {
            out.extend_from_slice(pack.name.as_bytes());
            out.extend_from_slice(&(pack.len as u32).to_le_bytes());
            out.extend([pack.kind as u8, 0, 0, 0]);
        }
        self.superseded.iter().for_each(|name| out.extend_from_slice(name.as_bytes()));
        out
    }

    fn parse(bytes: &[u8]) -> Result<ClearPart, Refused> {
        let short = |_: Malformed| "its clear part ends too early";
        let mut cursor = Cursor(bytes);
        let (packs, superseded) = (cursor.u32().map_err(short)?, cursor.u32().map_err(short)?);
        let mut clear = ClearPart::default();
        for _ in 0..packs {
            let (name, len) = (FileHash(cursor.array().map_err(short)?), cursor.u32().map_err(short)?);
            let [kind, zeros @ ..]: [u8; 4] = cursor.array().map_err(short)?;
            if kind == 0 || zeros != [0; 3] {
                return Err("it names a pack of no kind".into());
            }
            let kind = PackKind::from_number(kind).ok_or_else(|| Refused::Newer(format!("packs of kind {kind}")))?;
            clear.packs.push(SegmentPack { name, kind, len: u64::from(len) });
        }
        for _ in 0..superseded {
            clear.superseded.push(FileHash(cursor.array().map_err(short)?));
        }
        if cursor.0.is_empty() { Ok(clear) } else { Err("something follows its clear part".into()) }
    }

    /// Reads that of a segment of `len` bytes whose bytes have its name; nobody needs a key for it. Gives it as it lies there, with the header before it.
    fn read(storage: &dyn Storage, repository: &RepositoryId, file: &str, len: u64) -> Result<(Vec<u8>, ClearPart)> {
        let begin = storage.read_exactly(file, 0, HEADER_LEN.min(len as usize))?;
        check_header(&[FileKind::Segment], &begin, repository, file)?;
        let fixed = storage.read_exactly(file, HEADER_LEN as u64, CLEAR_FIXED_LEN)?;
        let clear_len = ClearPart::len_of(fixed.first_chunk().expect("so many bytes were read"));
        if HEADER_LEN as u64 + clear_len > len {
            return Err(Error::damaged(file, "it ends before its tables do"));
        }
        let clear = storage.read_exactly(file, HEADER_LEN as u64, clear_len as usize)?;
        let parsed = ClearPart::parse(&clear).map_err(|refused| refused.in_file(file))?;
        Ok(([begin, clear].concat(), parsed))
    }
}

/// Reads the clear part of the segment `name`, which is listed with `len` bytes, once its bytes have that name.
pub(crate) fn read_clear_part(
    storage: &dyn Storage,
    repository: &RepositoryId,
    name: &FileHash,
    len: u64,
) -> Result<ClearPart> {
    let file = segment_file(name);
    check_name(storage, &file, name, len)?;
    Ok(ClearPart::read(storage, repository, &file, len)?.1)
}

/// Hashes a segment part by part, if it is not too long to be one.
fn check_name(storage: &dyn Storage, file: &str, name: &FileHash, len: u64) -> Result<()> {
    if len > SEGMENT_MAX_LEN {
        return Err(Error::damaged(file, TOO_LONG));
    }
    if storage.hash(file, len)? == *name { Ok(()) } else { Err(Error::damaged(file, NAME_MISMATCH)) }
}

/// The repository's name for a segment.
pub(crate) fn segment_file(name: &FileHash) -> String {
    format!("{INDEX_FOLDER}/{name}")
}

/// What goes into a segment.
#[derive(Debug, Default)]
pub(crate) struct SegmentBuilder {
    clear: ClearPart,
    entries: Vec<SegmentEntry>,
    /// The base of each delta chunk, by pack and ordinal.
    deltas: Vec<((u32, u16), ChunkId)>,
}

impl SegmentBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.clear.packs.is_empty() && self.clear.superseded.is_empty()
    }

    pub(crate) fn entry_count(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn packs(&self) -> &[SegmentPack] {
        &self.clear.packs
    }

    /// The ids of all chunks.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &ChunkId> {
        self.entries.iter().map(|entry| &entry.id)
    }

    /// The ids of the bases of all deltas.
    pub(crate) fn bases(&self) -> impl Iterator<Item = &ChunkId> {
        self.deltas.iter().map(|(_, base)| base)
    }

    /// Adds what another builder holds.
    pub(crate) fn append(&mut self, other: SegmentBuilder) {
        let first = self.clear.packs.len() as u32;
        self.clear.packs.extend(other.clear.packs);
        self.clear.superseded.extend(other.clear.superseded);
        self.entries.extend(other.entries.into_iter().map(|entry| SegmentEntry { pack: first + entry.pack, ..entry }));
        self.deltas.extend(other.deltas.into_iter().map(|((pack, ordinal), base)| ((first + pack, ordinal), base)));
    }

    /// Leaves out the packs for which `keep` is false, with all their chunks.
    pub(crate) fn retain_packs(&mut self, keep: impl Fn(&SegmentPack) -> bool) {
        let mut next = 0..;
        let numbers: Vec<Option<u32>> =
            self.clear.packs.iter().map(|pack| keep(pack).then(|| next.next()).flatten()).collect();
        let number_of = |pack: u32| numbers[pack as usize];
        self.clear.packs.retain(&keep);
        let entries = std::mem::take(&mut self.entries).into_iter();
        self.entries =
            entries.filter_map(|entry| Some(SegmentEntry { pack: number_of(entry.pack)?, ..entry })).collect();
        let deltas = std::mem::take(&mut self.deltas).into_iter();
        self.deltas = deltas.filter_map(|((pack, ordinal), base)| Some(((number_of(pack)?, ordinal), base))).collect();
    }

    /// Adds a pack with all its chunks.
    pub(crate) fn add_pack(&mut self, pack: SegmentPack, directory: &Directory) {
        let number = self.clear.packs.len() as u32;
        self.clear.packs.push(pack);
        for (ordinal, chunk) in directory.chunks.iter().enumerate() {
            let frame = &directory.frames[chunk.frame as usize];
            let flags = u8::from(frame.base.is_some()) | (frame.kind as u8) << 1;
            let size_class = size_class(directory.stored_len(chunk));
            self.entries.push(SegmentEntry { id: chunk.id, pack: number, ordinal: ordinal as u16, size_class, flags });
            self.deltas.extend(frame.base.map(|base| ((number, ordinal as u16), base.id)));
        }
    }

    /// Adds all of another segment, in whose place the new one stands; packs for which `keep` is false are left out.
    pub(crate) fn add_segment(&mut self, segment: &Segment, keep: impl Fn(&SegmentPack) -> bool) -> Result<()> {
        self.clear.superseded.push(segment.name);
        self.clear.superseded.extend_from_slice(&segment.superseded);
        self.copy_from(segment, keep)
    }

    /// Says of no segment that it is superseded, but of those for which `is_there` is true.
    pub(crate) fn supersede_only(&mut self, is_there: impl Fn(&FileHash) -> bool) {
        self.clear.superseded.retain(is_there);
    }

    /// Adds a segment that is in no repository; packs for which `keep` is false are left out.
    pub(crate) fn adopt(&mut self, segment: &Segment, keep: impl Fn(&SegmentPack) -> bool) -> Result<()> {
        self.copy_from(segment, keep)
    }

    fn copy_from(&mut self, segment: &Segment, keep: impl Fn(&SegmentPack) -> bool) -> Result<()> {
        let mut numbers = Vec::with_capacity(segment.packs.len());
        for pack in &segment.packs {
            let kept = keep(pack);
            numbers.push(kept.then_some(self.clear.packs.len() as u32));
            self.clear.packs.extend(kept.then_some(*pack));
        }
        let mut deltas = segment.deltas.iter().peekable();
        segment.for_each(&mut |number, entry| {
            let base = deltas.next_if(|(delta, _)| *delta == number).map(|(_, base)| *base);
            let Some(pack) = numbers.get(entry.pack as usize).copied().flatten() else { return };
            self.entries.push(SegmentEntry { pack, ..entry });
            self.deltas.extend(base.map(|base| ((pack, entry.ordinal), base)));
        })
    }

    /// Cuts it into builders of contents of at most `limit` bytes each, or of one pack. The last says what is superseded.
    pub(crate) fn split(self, limit: u64) -> Vec<SegmentBuilder> {
        if self.is_empty() {
            return Vec::new();
        }
        if self.contents_len() <= limit {
            return vec![self];
        }
        // Of entries with their share of filter and fences.
        let mut lens = vec![(PACK_LEN + BLOCK_LEN) as u64; self.clear.packs.len()];
        self.entries.iter().for_each(|entry| lens[entry.pack as usize] += ENTRY_LEN as u64 + 3);
        self.deltas.iter().for_each(|((pack, _), _)| lens[*pack as usize] += DELTA_LEN as u64);
        let (mut parts, mut part_len) = (vec![SegmentBuilder::default()], 0);
        let mut places = Vec::with_capacity(lens.len());
        for (pack, len) in self.clear.packs.into_iter().zip(lens) {
            if part_len + len > limit && part_len > 0 {
                parts.push(SegmentBuilder::default());
                part_len = 0;
            }
            part_len += len;
            let (part, packs) = (parts.len() - 1, &mut parts.last_mut().expect("there is a first").clear.packs);
            places.push((part, packs.len() as u32));
            packs.push(pack);
        }
        for entry in self.entries {
            let (part, pack) = places[entry.pack as usize];
            parts[part].entries.push(SegmentEntry { pack, ..entry });
        }
        for ((pack, ordinal), base) in self.deltas {
            let (part, pack) = places[pack as usize];
            parts[part].deltas.push(((pack, ordinal), base));
        }
        parts.last_mut().expect("there is a first").clear.superseded = self.clear.superseded;
        parts
    }

    /// How long the contents will be.
    pub(crate) fn contents_len(&self) -> u64 {
        let entries = self.entries.len() as u64;
        let blocks = entries.div_ceil(BLOCK_ENTRIES as u64);
        let tables = FIXED_LEN as u64
            + (self.deltas.len() * DELTA_LEN) as u64
            + filter_blocks(entries) * FILTER_BLOCK_LEN as u64
            + blocks * 8;
        self.clear.len() as u64 + tables.next_multiple_of(BLOCK_LEN as u64) + blocks * BLOCK_LEN as u64
    }

    /// The contents of the segment.
    pub(crate) fn contents(mut self) -> Vec<u8> {
        self.entries.sort_unstable();
        self.deltas.sort_unstable();
        let base_of = |entry: &SegmentEntry| {
            let at = self.deltas.binary_search_by_key(&(entry.pack, entry.ordinal), |(place, _)| *place).ok()?;
            Some(self.deltas[at].1)
        };
        let deltas: Vec<(u64, ChunkId)> =
            self.entries.iter().enumerate().filter_map(|(n, entry)| Some((n as u64, base_of(entry)?))).collect();
        let (blocks, filter) = (self.entries.len().div_ceil(BLOCK_ENTRIES), Filter::of(&self.entries));
        let mut out = self.clear.emit();
        let payload_at = out.len();
        let pad = |out: &mut Vec<u8>| {
            let len = (out.len() - payload_at).next_multiple_of(BLOCK_LEN);
            out.resize(payload_at + len, 0);
        };
        out.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for count in [deltas.len(), filter.block_count(), blocks, 0, 0, 0] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        for (number, base) in &deltas {
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(base.as_bytes());
        }
        out.extend_from_slice(&filter.0);
        for block in self.entries.chunks(BLOCK_ENTRIES) {
            out.extend_from_slice(&block[0].id.as_bytes()[..8]);
        }
        for block in self.entries.chunks(BLOCK_ENTRIES) {
            pad(&mut out);
            block.iter().for_each(|entry| entry.emit(&mut out));
        }
        pad(&mut out);
        out
    }
}

/// The file of a segment with these contents.
pub(crate) fn seal_segment(sealer: &Sealer, contents: &[u8]) -> Result<Vec<u8>> {
    let fixed = contents.first_chunk().expect("a clear part begins with its counts");
    let (clear, payload) = contents.split_at(ClearPart::len_of(fixed) as usize);
    sealer.seal_after(FileKind::Segment, clear, payload)
}

fn filter_blocks(entries: u64) -> u64 {
    entries.saturating_mul(FILTER_BITS_PER_ENTRY).div_ceil(8 * FILTER_BLOCK_LEN as u64)
}

/// A Bloom filter in blocks of 64 bytes: one cache line decides.
#[derive(Debug)]
struct Filter(Vec<u8>);

impl Filter {
    fn of(entries: &[SegmentEntry]) -> Filter {
        let bits = entries.len() as u64 * FILTER_BITS_PER_ENTRY;
        let mut filter = Filter(vec![0; bits.div_ceil(8 * FILTER_BLOCK_LEN as u64) as usize * FILTER_BLOCK_LEN]);
        for entry in entries {
            for bit in filter.bits(&entry.id) {
                filter.0[bit / 8] |= 1 << (bit % 8);
            }
        }
        filter
    }

    fn block_count(&self) -> usize {
        self.0.len() / FILTER_BLOCK_LEN
    }

    /// The filter's bits that stand for `id`. There must be at least one block.
    fn bits(&self, id: &ChunkId) -> impl Iterator<Item = usize> + use<> {
        let bytes = id.as_bytes();
        let high = u32::from_be_bytes(*bytes.first_chunk().expect("an id has 16 bytes"));
        let block = (u64::from(high) * self.block_count() as u64) >> 32;
        let low = u64::from_le_bytes(bytes[4..12].try_into().expect("an id has 16 bytes"));
        (0..FILTER_PROBES).map(move |probe| {
            block as usize * FILTER_BLOCK_LEN * 8 + (low >> (9 * probe)) as usize % (FILTER_BLOCK_LEN * 8)
        })
    }

    fn may_contain(&self, id: &ChunkId) -> bool {
        !self.0.is_empty() && self.bits(id).all(|bit| self.0[bit / 8] & 1 << (bit % 8) != 0)
    }
}

/// Roughly the logarithm of `len`, to an eighth of an octave.
pub(crate) fn size_class(len: u64) -> u8 {
    let Some(exponent) = len.checked_ilog2() else { return 0 };
    let mantissa = if exponent >= 3 { len >> (exponent - 3) } else { len << (3 - exponent) };
    (8 * exponent + (mantissa & 7) as u32).min(255) as u8
}

/// What chunks of a size class take, about in the middle of the class.
pub(crate) fn class_len(class: u8) -> u64 {
    let (exponent, mantissa) = (u32::from(class / 8), u64::from(class % 8));
    if class == 0 { 0 } else { ((17 + 2 * mantissa) << exponent) >> 4 }
}

/// Where a segment's contents are read from.
#[derive(Debug)]
enum Contents {
    Memory(Vec<u8>),
    /// A copy in the cache folder: the contents and their BLAKE3.
    File(File),
}

impl Contents {
    fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        match self {
            Contents::Memory(bytes) => {
                let end = offset + len as u64;
                bytes.get(offset as usize..end as usize).map(<[u8]>::to_vec).ok_or(io::ErrorKind::UnexpectedEof.into())
            }
            Contents::File(file) => {
                let mut bytes = vec![0; len];
                positioned::read_exact_at(file, &mut bytes, offset)?;
                Ok(bytes)
            }
        }
    }
}

/// A segment open for look-ups.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) name: FileHash,
    pub(crate) packs: Vec<SegmentPack>,
    pub(crate) superseded: Vec<FileHash>,
    pub(crate) entry_count: u64,
    pub(crate) deltas: Vec<(u64, ChunkId)>,
    filter: Filter,
    fences: Vec<[u8; 8]>,
    contents: Contents,
    contents_len: u64,
    entries_offset: u64,
}

impl Segment {
    /// Takes contents that were just made, and leaves a copy of them in the folder `cache`, if there is one.
    pub(crate) fn from_contents(name: FileHash, contents: Vec<u8>, cache: Option<&Path>) -> Result<Segment> {
        let segment = Segment::parse(name, contents.len() as u64, Contents::Memory(contents))?;
        // Without a copy, memory serves as well.
        if let (Some(cache), Contents::Memory(contents)) = (cache, &segment.contents)
            && let Ok(mut copy) = NewCopy::begin(cache, &name)
        {
            copy.write(contents);
            if copy.finish().is_ok()
                && let Some(copy) = Segment::from_copy(name, cache)
            {
                return Ok(copy);
            }
        }
        Ok(segment)
    }

    /// Opens the segment `name`, which is listed with `len` bytes, into a copy in the folder `cache`, or into memory if there is none. No more than a part
    /// of it is read before its hash is known.
    pub(crate) fn from_storage(
        storage: &dyn Storage,
        sealer: &Sealer,
        name: FileHash,
        len: u64,
        cache: Option<&Path>,
    ) -> Result<Segment> {
        let file = segment_file(&name);
        check_name(storage, &file, &name, len)?;
        let (begin, _) = ClearPart::read(storage, sealer.repository(), &file, len)?;
        let (header, clear) = begin.split_at(HEADER_LEN);
        let (_, key) = sealer.resume_after(&[FileKind::Segment], header, clear, &file)?;
        let read = |offset: u64, len: usize| storage.read_exactly(&file, offset, len);
        if let Some(cache) = cache
            && let Ok(mut copy) = NewCopy::begin(cache, &name)
        {
            copy.write(clear);
            key.open_blocks(begin.len() as u64..len, read, &file, &mut |block| copy.write(block))?;
            if copy.finish().is_ok()
                && let Some(segment) = Segment::from_copy(name, cache)
            {
                return Ok(segment);
            }
        }
        let mut contents = clear.to_vec();
        key.open_blocks(begin.len() as u64..len, read, &file, &mut |block| contents.extend_from_slice(block))?;
        Segment::parse(name, contents.len() as u64, Contents::Memory(contents))
    }

    /// Opens the copy in the folder `cache`; `None` if there is no good one.
    pub(crate) fn from_copy(name: FileHash, cache: &Path) -> Option<Segment> {
        let mut file = File::open(cache.join(name.to_string())).ok()?;
        let len = file.metadata().ok()?.len().checked_sub(CHECK_LEN as u64)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader((&mut file).take(len)).ok()?;
        let mut check = [0; CHECK_LEN];
        file.read_exact(&mut check).ok()?;
        if *hasher.finalize().as_bytes() != check {
            return None;
        }
        Segment::parse(name, len, Contents::File(file)).ok()
    }

    fn parse(name: FileHash, len: u64, contents: Contents) -> Result<Segment> {
        let damaged = |what: &str| Error::damaged(segment_file(&name), what);
        let read = |offset: u64, wanted: u64| {
            let end = offset.checked_add(wanted).filter(|&end| end <= len);
            end.ok_or_else(|| damaged("it ends before its tables do"))?;
            contents.read(offset, wanted as usize).map_err(|error| damaged(&error.to_string()))
        };
        let begin = read(0, CLEAR_FIXED_LEN as u64)?;
        let clear_len = ClearPart::len_of(begin.first_chunk().expect("so many bytes were read"));
        let clear = ClearPart::parse(&read(0, clear_len)?);
        let clear = clear.map_err(|refused| refused.in_file(segment_file(&name)))?;
        let fixed = read(clear_len, FIXED_LEN as u64)?;
        let mut cursor = Cursor(&fixed);
        let entry_count = cursor.u64().expect("the fixed part has 32 bytes");
        let [deltas, filter, blocks, zeros @ ..]: [u64; 6] =
            std::array::from_fn(|_| u64::from(cursor.u32().expect("the fixed part has 32 bytes")));
        let expected_blocks = entry_count.div_ceil(BLOCK_ENTRIES as u64);
        let fit = filter == filter_blocks(entry_count) && blocks == expected_blocks && zeros == [0; 3];
        if entry_count > MAX_ENTRIES || !fit {
            return Err(damaged("its counts do not fit together"));
        }
        let deltas_at = FIXED_LEN as u64;
        let filter_at = deltas_at + deltas * DELTA_LEN as u64;
        let fences_at = filter_at + filter * FILTER_BLOCK_LEN as u64;
        let entries_at = (fences_at + blocks * 8).next_multiple_of(BLOCK_LEN as u64);
        if clear_len + entries_at + blocks * BLOCK_LEN as u64 != len {
            return Err(damaged("its length is not that of its tables"));
        }
        let delta_table = read(clear_len + deltas_at, deltas * DELTA_LEN as u64)?;
        let fence_table = read(clear_len + fences_at, blocks * 8)?;
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("a table's row has its length"));
        Ok(Segment {
            name,
            packs: clear.packs,
            superseded: clear.superseded,
            entry_count,
            deltas: delta_table
                .chunks_exact(DELTA_LEN)
                .map(|row| (number(&row[..8]), ChunkId(row[8..].try_into().expect("a table's row has its length"))))
                .collect(),
            filter: Filter(read(clear_len + filter_at, filter * FILTER_BLOCK_LEN as u64)?),
            fences: fence_table.chunks_exact(8).map(|row| row.try_into().expect("rows of eight")).collect(),
            contents,
            contents_len: len,
            entries_offset: clear_len + entries_at,
        })
    }

    /// How long its contents are.
    pub(crate) fn contents_len(&self) -> u64 {
        self.contents_len
    }

    /// All of its contents.
    #[cfg(test)]
    pub(crate) fn contents(&self) -> Vec<u8> {
        self.contents.read(0, self.contents_len as usize).unwrap()
    }

    /// Whether the filter lets `id` pass.
    pub(crate) fn may_contain(&self, id: &ChunkId) -> bool {
        self.filter.may_contain(id)
    }

    /// Whether [`find`](Segment::find) is led to the entry `number`, whose id is `id`, if all ids ascend.
    pub(crate) fn lets_find(&self, number: u64, id: &ChunkId) -> bool {
        let begins_block = number.is_multiple_of(BLOCK_ENTRIES as u64);
        let fence = self.fences.get(number as usize / BLOCK_ENTRIES);
        self.may_contain(id) && (!begins_block || fence.is_some_and(|fence| id.as_bytes().starts_with(fence)))
    }

    /// Calls `each` for every entry of `id`, with its number.
    pub(crate) fn find(&self, id: &ChunkId, each: &mut dyn FnMut(u64, SegmentEntry)) -> Result<()> {
        self.find_near(id, &mut LastBlock::default(), each)
    }

    /// The same, faster for one who asks for many ids in ascending order.
    pub(crate) fn find_near(
        &self,
        id: &ChunkId,
        last: &mut LastBlock,
        each: &mut dyn FnMut(u64, SegmentEntry),
    ) -> Result<()> {
        if !self.may_contain(id) {
            return Ok(());
        }
        let prefix = &id.as_bytes()[..8];
        // The block before the first whose fence is not less may end with the id.
        let first = self.fences.partition_point(|fence| fence.as_slice() < prefix).saturating_sub(1);
        for block in first..self.fences.len() {
            if self.fences[block].as_slice() > prefix {
                break;
            }
            if last.block != Some(block) {
                *last = LastBlock { block: Some(block), entries: self.read_block(block)? };
            }
            let from = last.entries.partition_point(|entry| entry.id < *id);
            let found = last.entries[from..].iter().take_while(|entry| entry.id == *id);
            found.zip(from..).for_each(|(entry, at)| each((block * BLOCK_ENTRIES + at) as u64, *entry));
        }
        Ok(())
    }

    /// What the chunk of entry `number` is a delta against, if it is one.
    pub(crate) fn base_of(&self, number: u64) -> Option<ChunkId> {
        let at = self.deltas.binary_search_by_key(&number, |(delta, _)| *delta).ok()?;
        Some(self.deltas[at].1)
    }

    /// Calls `each` with every entry and its number, in order.
    pub(crate) fn for_each(&self, each: &mut dyn FnMut(u64, SegmentEntry)) -> Result<()> {
        for block in 0..self.fences.len() {
            let first = (block * BLOCK_ENTRIES) as u64;
            self.read_block(block)?.into_iter().zip(first..).for_each(|(entry, number)| each(number, entry));
        }
        Ok(())
    }

    fn read_block(&self, block: usize) -> Result<Vec<SegmentEntry>> {
        let offset = self.entries_offset + (block * BLOCK_LEN) as u64;
        let bytes = self.contents.read(offset, BLOCK_LEN).map_err(|source| Error::Storage {
            action: "read",
            name: format!("index/{} (its local copy)", self.name),
            source,
        })?;
        let count = (self.entry_count - (block * BLOCK_ENTRIES) as u64).min(BLOCK_ENTRIES as u64);
        Ok(bytes.chunks_exact(ENTRY_LEN).take(count as usize).map(SegmentEntry::parse).collect())
    }
}

/// The block that a segment was asked for last.
#[derive(Default)]
pub(crate) struct LastBlock {
    block: Option<usize>,
    entries: Vec<SegmentEntry>,
}

#[cfg(test)]
impl SegmentEntry {
    /// The kind of the chunk; `None` if the flags hold none.
    pub(crate) fn kind(&self) -> Option<crate::format::pack::ChunkKind> {
        use crate::format::pack::ChunkKind;
        [ChunkKind::Data, ChunkKind::Node, ChunkKind::List].into_iter().find(|&kind| kind as u8 == self.flags >> 1 & 3)
    }
}

/// A copy of a segment's contents that is being written.
struct NewCopy {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    outcome: io::Result<()>,
}

impl NewCopy {
    fn begin(cache: &Path, name: &FileHash) -> io::Result<NewCopy> {
        private::create_folder(cache)?;
        // Another process may write the same copy at this moment.
        let temporary = cache.join(format!("{name}.{}", std::process::id()));
        let (path, file) = (cache.join(name.to_string()), private::create_file(&temporary)?);
        Ok(NewCopy { path, temporary, file, hasher: blake3::Hasher::new(), outcome: Ok(()) })
    }

    /// Adds bytes; what fails is told at the end.
    fn write(&mut self, bytes: &[u8]) {
        if self.outcome.is_ok() {
            self.hasher.update(bytes);
            self.outcome = self.file.write_all(bytes);
        }
    }

    fn finish(mut self) -> io::Result<()> {
        std::mem::replace(&mut self.outcome, Ok(()))?;
        self.file.write_all(self.hasher.finalize().as_bytes())?;
        fs::rename(&self.temporary, &self.path)
    }
}

impl Drop for NewCopy {
    fn drop(&mut self) {
        // After the end it has another name.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{
        codec::Encoding,
        pack::{Base, ChunkKind, Frame, PackedChunk},
    };
    use proptest::prelude::*;

    fn id(n: u64) -> ChunkId {
        ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes().first_chunk().unwrap())
    }

    fn directory(ids: impl Iterator<Item = ChunkId>) -> Directory {
        let mut directory = Directory::default();
        for (n, id) in ids.enumerate() {
            let base = (n % 5 == 4).then_some(self::id(1_000_000 + n as u64));
            let encoding = if base.is_some() { Encoding::Delta } else { Encoding::Raw };
            directory.frames.push(Frame {
                encoding,
                kind: ChunkKind::Data,
                offset: 0,
                sealed_len: 100,
                decoded_len: 84,
                base: base.map(|id| Base { id, version: 1 }),
            });
            directory.chunks.push(PackedChunk { id, frame: n as u32, offset: 0, len: 84 });
        }
        directory
    }

    fn segment(count: u64, cache: Option<&Path>) -> Segment {
        let mut builder = SegmentBuilder::default();
        for first in (0..count).step_by(1000) {
            let pack = SegmentPack { name: FileHash::of(&first.to_le_bytes()), kind: PackKind::Data, len: first };
            builder.add_pack(pack, &directory((first..count.min(first + 1000)).map(id)));
        }
        Segment::from_contents(FileHash([1; 32]), builder.contents(), cache).unwrap()
    }

    fn places(segment: &Segment, id: &ChunkId) -> Vec<(u64, u16)> {
        let mut found = Vec::new();
        segment.find(id, &mut |_, entry| found.push((segment.packs[entry.pack as usize].len, entry.ordinal))).unwrap();
        found
    }

    #[test]
    fn what_is_in_is_found_and_what_is_not_is_not() {
        let dir = tempfile::tempdir().unwrap();
        for count in [0, 1, 169, 170, 171, 5000] {
            for cache in [None, Some(dir.path())] {
                let segment = segment(count, cache);
                for n in 0..count {
                    assert_eq!(places(&segment, &id(n)), [(n / 1000 * 1000, (n % 1000) as u16)]);
                }
                let false_hits = (count..count + 5000).filter(|&n| segment.filter.may_contain(&id(n))).count();
                assert!(false_hits < 150, "{false_hits} of 5000 pass the filter");
                assert!((count..count + 5000).all(|n| places(&segment, &id(n)).is_empty()));
            }
        }
    }

    #[test]
    fn a_merged_segment_holds_both_and_keeps_bases() {
        let (one, two) = (segment(3000, None), segment(200, None));
        let mut builder = SegmentBuilder::default();
        builder.add_segment(&one, |pack| pack.len != 1000).unwrap();
        builder.add_segment(&two, |_| true).unwrap();
        let merged = Segment::from_contents(FileHash([2; 32]), builder.contents(), None).unwrap();
        assert_eq!(merged.entry_count, 2200);
        assert_eq!(merged.superseded, [one.name, two.name]);
        assert_eq!(places(&merged, &id(5)), [(0, 5), (0, 5)]);
        assert_eq!(places(&merged, &id(1005)), []);
        assert_eq!(merged.deltas.len(), 440);
        merged
            .for_each(&mut |number, entry| {
                let base = merged.deltas.iter().find(|(delta, _)| *delta == number).map(|(_, base)| *base);
                let expected = (entry.ordinal % 5 == 4).then_some(id(1_000_000 + u64::from(entry.ordinal)));
                assert_eq!((base, entry.flags & 1 == 1), (expected, expected.is_some()));
            })
            .unwrap();
    }

    /// Four packs of 1000 chunks each, of which the second is left out, by two ways.
    #[test]
    fn builders_that_are_joined_and_cut_keep_each_chunk_in_its_pack() {
        let pack =
            |first: u64| SegmentPack { name: FileHash::of(&first.to_le_bytes()), kind: PackKind::Data, len: first };
        let builder_of = |firsts: [u64; 2]| {
            let mut builder = SegmentBuilder::default();
            firsts.iter().for_each(|&first| builder.add_pack(pack(first), &directory((first..first + 1000).map(id))));
            builder
        };
        let mut cut = builder_of([0, 1000]);
        assert!(!cut.is_empty() && cut.ids().count() == 2000);
        cut.append(builder_of([2000, 3000]));
        let whole = Segment::from_contents(FileHash([4; 32]), builder_of([0, 1000]).contents(), None).unwrap();
        let mut adopted = SegmentBuilder::default();
        assert!(adopted.is_empty());
        adopted.adopt(&whole, |pack| pack.len != 1000).unwrap();
        adopted.append(builder_of([2000, 3000]));
        cut.retain_packs(|pack| pack.len != 1000);
        for builder in [cut, adopted] {
            assert_eq!(builder.packs(), [pack(0), pack(2000), pack(3000)]);
            let segment = Segment::from_contents(FileHash([5; 32]), builder.contents(), None).unwrap();
            assert_eq!((segment.entry_count, segment.superseded.len()), (3000, 0));
            for n in 0..4000 {
                let mut found = Vec::new();
                segment.find(&id(n), &mut |number, entry| found.push((number, entry))).unwrap();
                let Some(&(number, entry)) = found.first() else {
                    assert!((1000..2000).contains(&n), "{n} is lost");
                    continue;
                };
                let of = segment.packs[entry.pack as usize].len;
                assert_eq!((found.len(), of, u64::from(entry.ordinal)), (1, n / 1000 * 1000, n % 1000));
                let base = (n % 5 == 4).then(|| id(1_000_000 + n % 1000));
                assert_eq!((segment.base_of(number), entry.kind()), (base, Some(ChunkKind::Data)), "{n}");
                assert!(segment.lets_find(number, &entry.id));
            }
        }
    }

    #[test]
    fn an_entry_says_what_its_chunk_is() {
        for kind in [ChunkKind::Data, ChunkKind::Node, ChunkKind::List] {
            let mut directory = directory((0..5).map(id));
            directory.frames.iter_mut().for_each(|frame| frame.kind = kind);
            let mut builder = SegmentBuilder::default();
            builder.add_pack(SegmentPack { name: FileHash([1; 32]), kind: PackKind::Data, len: 1 }, &directory);
            let segment = Segment::from_contents(FileHash([1; 32]), builder.contents(), None).unwrap();
            segment.for_each(&mut |_, entry| assert_eq!(entry.kind(), Some(kind))).unwrap();
        }
        let entry = SegmentEntry { id: id(0), pack: 0, ordinal: 0, size_class: 0, flags: 1 };
        assert_eq!(entry.kind(), None);
    }

    #[test]
    fn all_places_of_a_chunk_are_found_in_however_many_blocks() {
        let mut builder = SegmentBuilder::default();
        for n in 0..600u64 {
            let pack = SegmentPack { name: FileHash::of(&n.to_le_bytes()), kind: PackKind::Data, len: n };
            builder.add_pack(pack, &directory([id(1), id(2 + n)].into_iter()));
        }
        let segment = Segment::from_contents(FileHash([1; 32]), builder.contents(), None).unwrap();
        let mut found = places(&segment, &id(1));
        found.sort_unstable();
        assert_eq!(found, (0..600).map(|n| (n, 0)).collect::<Vec<_>>());
    }

    #[test]
    fn an_entry_that_a_look_up_would_miss_is_told() {
        let mut builder = SegmentBuilder::default();
        builder.add_pack(
            SegmentPack { name: FileHash([1; 32]), kind: PackKind::Data, len: 1 },
            &directory((0..400).map(id)),
        );
        let whole = builder.contents();
        let missed = |payload: &[u8]| {
            let segment = Segment::from_contents(FileHash([1; 32]), payload.to_vec(), None).unwrap();
            let mut missed = Vec::new();
            let each = &mut |number, entry: SegmentEntry| {
                if !segment.lets_find(number, &entry.id) {
                    missed.push(number);
                }
            };
            segment.for_each(each).unwrap();
            missed
        };
        assert_eq!(missed(&whole), [0u64; 0]);
        let filter_at = CLEAR_FIXED_LEN + PACK_LEN + FIXED_LEN + 80 * DELTA_LEN;
        let fences_at = filter_at + 8 * FILTER_BLOCK_LEN;
        let mut without_filter = whole.clone();
        without_filter[filter_at..fences_at].fill(0);
        assert_eq!(missed(&without_filter), (0..400).collect::<Vec<_>>());
        let mut without_fence = whole;
        without_fence[fences_at + 8] ^= 1;
        assert_eq!(missed(&without_fence), [BLOCK_ENTRIES as u64]);
    }

    /// The tables end anywhere in a block.
    #[test]
    fn a_segment_of_any_number_of_packs_is_read() {
        for packs in 1..110u64 {
            let mut builder = SegmentBuilder::default();
            for n in 0..packs {
                let pack = SegmentPack { name: FileHash::of(&n.to_le_bytes()), kind: PackKind::Data, len: n };
                let count = if n == 0 { 20 * BLOCK_ENTRIES as u64 } else { 0 };
                builder.add_pack(pack, &directory((0..count).map(id)));
            }
            let segment = Segment::from_contents(FileHash([1; 32]), builder.contents(), None).unwrap();
            assert_eq!(places(&segment, &id(170)), [(0, 170)], "{packs} packs");
        }
    }

    #[test]
    fn counts_that_do_not_fit_together_are_refused() {
        // Of one pack.
        let clear_len = CLEAR_FIXED_LEN + PACK_LEN;
        let whole = segment(300, None).contents.read(0, clear_len + FIXED_LEN).unwrap();
        let refused = |bytes: &[u8]| Segment::from_contents(FileHash([1; 32]), bytes.to_vec(), None).unwrap_err();
        let do_not_fit = |bytes: &[u8]| refused(bytes).to_string().contains("its counts do not fit together");
        assert!(!do_not_fit(&whole), "its tables are missing");
        // Of the filter and of the entries, and what is always 0.
        for at in [12, 16, 20, 24, 28] {
            let mut bytes = whole.clone();
            bytes[clear_len + at] += 1;
            assert!(do_not_fit(&bytes), "{at}");
        }
        let of_entries = |count: u64| {
            let blocks = count.div_ceil(BLOCK_ENTRIES as u64) as u32;
            let counts: Vec<u8> =
                [0, filter_blocks(count) as u32, blocks, 0, 0, 0].into_iter().flat_map(u32::to_le_bytes).collect();
            [&[0; CLEAR_FIXED_LEN], count.to_le_bytes().as_slice(), &counts].concat()
        };
        assert!(!do_not_fit(&of_entries(MAX_ENTRIES)) && do_not_fit(&of_entries(MAX_ENTRIES + 1)));
    }

    #[test]
    fn a_clear_part_is_read_as_written_or_refused() {
        let pack = |n: u8, kind| SegmentPack { name: FileHash([n; 32]), kind, len: 4096 * u64::from(n) };
        let packs = vec![pack(1, PackKind::Tree), pack(2, PackKind::Data)];
        let clear = ClearPart { packs, superseded: vec![FileHash([3; 32])] };
        let bytes = clear.emit();
        assert_eq!((bytes.len(), ClearPart::len_of(bytes.first_chunk().unwrap())), (clear.len(), bytes.len() as u64));
        assert_eq!(ClearPart::parse(&bytes), Ok(clear));
        for end in 0..bytes.len() {
            assert!(ClearPart::parse(&bytes[..end]).is_err(), "{end}");
        }
        assert!(ClearPart::parse(&[&bytes, [0].as_slice()].concat()).is_err());
        let kind_at = CLEAR_FIXED_LEN + 36;
        for (at, value) in [(kind_at, 0), (kind_at, 3), (kind_at + 1, 1), (kind_at + 3, 1)] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            assert!(ClearPart::parse(&bytes).is_err(), "{at}");
        }
    }

    #[test]
    fn a_builder_that_is_split_keeps_everything() {
        let mut builder = SegmentBuilder::default();
        for first in (0..5000u64).step_by(100) {
            let pack = SegmentPack { name: FileHash::of(&first.to_le_bytes()), kind: PackKind::Data, len: first };
            builder.add_pack(pack, &directory((first..first + 100).map(id)));
        }
        builder.add_segment(&segment(10, None), |_| true).unwrap();
        let packs = builder.packs().to_vec();
        let whole = Segment::from_contents(FileHash([1; 32]), builder.contents(), None).unwrap();
        let again = || {
            let mut builder = SegmentBuilder::default();
            builder.add_segment(&whole, |_| true).unwrap();
            builder
        };
        assert_eq!(again().split(whole.contents_len() + 99).len(), 1);
        assert!(SegmentBuilder::default().split(9).is_empty());
        for limit in [1, 20_000, 100_000] {
            let parts = again().split(limit);
            assert!(parts.len() > 1 && parts.iter().all(|part| limit == 1 || part.contents_len() <= limit));
            let (last, others) = parts.split_last().unwrap();
            assert!(others.iter().all(|part| part.clear.superseded.is_empty()) && last.clear.superseded.len() == 2);
            let named: Vec<SegmentPack> = parts.iter().flat_map(|part| part.packs().to_vec()).collect();
            assert_eq!(named, packs);
            let open = |part: SegmentBuilder| Segment::from_contents(FileHash([2; 32]), part.contents(), None).unwrap();
            let parts: Vec<Segment> = parts.into_iter().map(open).collect();
            for n in 0..5000 {
                let found: Vec<_> = parts.iter().flat_map(|part| places(part, &id(n))).collect();
                assert_eq!(found, places(&whole, &id(n)), "{n}");
            }
            assert_eq!(parts.iter().map(|part| part.deltas.len()).sum::<usize>(), whole.deltas.len());
        }
    }

    #[test]
    fn the_length_of_contents_is_known_before() {
        for (packs, chunks) in [(0, 0), (1, 0), (1, 1), (3, 170), (7, 5000)] {
            let mut builder = SegmentBuilder::default();
            for n in 0..packs {
                let pack = SegmentPack { name: FileHash([n; 32]), kind: PackKind::Tree, len: 1 };
                builder.add_pack(pack, &directory((0..chunks).map(id)));
            }
            let expected = builder.contents_len();
            assert_eq!(builder.contents().len() as u64, expected, "{packs} {chunks}");
        }
    }

    #[test]
    fn a_damaged_copy_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let name = segment(300, Some(dir.path())).name;
        assert!(Segment::from_copy(name, dir.path()).is_some());
        let path = dir.path().join(name.to_string());
        let mut bytes = fs::read(&path).unwrap();
        bytes[5000] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(Segment::from_copy(name, dir.path()).is_none());
        fs::write(&path, &bytes[..10]).unwrap();
        assert!(Segment::from_copy(name, dir.path()).is_none());
    }

    #[test]
    fn size_classes_grow_with_lengths() {
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(size_class), [0, 0, 8, 12, 16, 18, 20, 22]);
        assert_eq!([8, 9, 16, 65_536].map(size_class), [24, 25, 32, 128]);
        assert!((0..200_000).map(size_class).is_sorted());
        for len in 8..200_000u64 {
            assert!(class_len(size_class(len)).abs_diff(len) <= len / 8, "{len}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, entries in 0u64..400) {
            let _ = Segment::from_contents(FileHash([1; 32]), bytes.clone(), None);
            let mut plausible = segment(entries, None).contents.read(0, 32).unwrap();
            plausible.extend(bytes);
            let _ = Segment::from_contents(FileHash([1; 32]), plausible, None);
        }
    }
}
