//! Packs: frames one after another, and a sealed directory at the end (SPEC §6).

use std::collections::HashMap;

use crate::{
    bytes::{Cursor, Malformed, put_varint},
    error::{Error, Refused, Result},
    format::{
        codec::{self, Encoding},
        seal::{FileKind, FrameKey, FrameNumber, HEADER_LEN, Sealer, TAG_LEN},
    },
    id::{ChunkId, FileHash},
    storage::{
        Storage,
        layout::{PACKS_FOLDER, TREES_FOLDER},
        named::{NAME_MISMATCH, list_by_digits},
    },
};

/// The index numbers chunks with 16 bits.
pub(crate) const PACK_MAX_CHUNKS: usize = 65_535;

const DIRECTORY_FRAME: FrameNumber = FrameNumber::Inner(u32::MAX);
const DIRECTORY_MAX_LEN: usize = 4 << 20;
const DECODED_MAX_LEN: usize = 16 << 20;
const PACK_MAX_LEN: u64 = (1 << 31) - 1;
const PADDED_TO: usize = 4096;
/// The header again, the length of the sealed directory, and how a pack ends.
pub(crate) const TRAILER_LEN: usize = HEADER_LEN + 4 + END_MAGIC.len();
const END_MAGIC: &[u8; 8] = b"heir-end";
/// Enough for the directory of most packs, so that one read finds it.
const TAIL_READ_LEN: u64 = 32 << 10;

/// What a chunk is for; part of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum ChunkKind {
    Data = 1,
    Node = 2,
    List = 3,
}

impl ChunkKind {
    fn from_number(number: u8) -> Option<ChunkKind> {
        [ChunkKind::Data, ChunkKind::Node, ChunkKind::List].into_iter().find(|&kind| kind as u8 == number)
    }

    /// The pack in which such chunks go.
    pub(crate) fn pack(self) -> PackKind {
        if self == ChunkKind::Data { PackKind::Data } else { PackKind::Tree }
    }
}

/// The use of a pack. Packs of each kind lie in a folder of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum PackKind {
    /// Contents of files.
    #[default]
    Data = FileKind::DataPack as u8,
    /// Nodes of trees, and chunk lists.
    Tree = FileKind::TreePack as u8,
}

impl PackKind {
    pub(crate) const ALL: [PackKind; 2] = [PackKind::Data, PackKind::Tree];

    /// The kind that a segment's table calls so.
    pub(crate) fn from_number(number: u8) -> Option<PackKind> {
        PackKind::ALL.into_iter().find(|&kind| kind as u8 == number)
    }

    /// Where packs of this kind lie.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            PackKind::Data => PACKS_FOLDER,
            PackKind::Tree => TREES_FOLDER,
        }
    }

    /// The kind of file that the header of such a pack names.
    pub(crate) fn file_kind(self) -> FileKind {
        match self {
            PackKind::Data => FileKind::DataPack,
            PackKind::Tree => FileKind::TreePack,
        }
    }
}

/// The id of `plaintext` as a chunk of `kind`.
pub(crate) fn chunk_id(id_key: &[u8; 32], kind: ChunkKind, plaintext: &[u8]) -> ChunkId {
    let hash = blake3::Hasher::new_keyed(id_key).update(plaintext).update(&[kind as u8]).finalize();
    ChunkId(*hash.as_bytes().first_chunk().expect("a hash is longer than an id"))
}

/// The repository's name for the pack of this kind and name.
pub(crate) fn pack_file(kind: PackKind, name: &FileHash) -> String {
    let digits = name.to_string();
    format!("{}/{}/{digits}", kind.folder(), &digits[..2])
}

/// One frame, by the pack's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) encoding: Encoding,
    pub(crate) kind: ChunkKind,
    /// Where its sealed bytes lie in the pack.
    pub(crate) offset: u64,
    pub(crate) sealed_len: usize,
    pub(crate) decoded_len: usize,
    /// What its plaintext is a delta against.
    pub(crate) base: Option<Base>,
}

/// What a delta is made against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) id: ChunkId,
    /// The delta's own number in the history of its chunk, from 1; that of what is no delta is 0.
    pub(crate) version: u8,
}

/// One chunk, by the pack's directory; its number there is its ordinal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedChunk {
    pub(crate) id: ChunkId,
    pub(crate) frame: u32,
    /// Where it begins in the decoded frame.
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// What a pack holds and where.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) frames: Vec<Frame>,
    pub(crate) chunks: Vec<PackedChunk>,
}

impl Directory {
    /// Bytes that the chunk takes in the pack: its share of its frame, rounded up.
    pub(crate) fn stored_len(&self, chunk: &PackedChunk) -> u64 {
        let frame = &self.frames[chunk.frame as usize];
        let share = frame.sealed_len as u64 * u64::from(chunk.len);
        share.div_ceil(frame.decoded_len.max(1) as u64)
    }

    fn emit(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 * self.chunks.len() + 8);
        put_varint(&mut out, self.frames.len() as u64);
        let mut chunks = self.chunks.chunk_by(|a, b| a.frame == b.frame);
        for frame in &self.frames {
            let inside = chunks.next().expect("no frame is without chunks");
            out.extend([frame.encoding as u8, frame.kind as u8]);
            put_varint(&mut out, frame.sealed_len as u64);
            put_varint(&mut out, inside.len() as u64);
            for chunk in inside {
                out.extend_from_slice(chunk.id.as_bytes());
                put_varint(&mut out, u64::from(chunk.len));
            }
            if let Some(Base { id, version }) = &frame.base {
                out.extend_from_slice(id.as_bytes());
                out.push(*version);
            }
        }
        out
    }

    /// Reads a directory, and checks that its frames fill exactly `frames_len` bytes after the header.
    pub(crate) fn parse(plaintext: &[u8], frames_len: u64) -> Result<Directory, Refused> {
        let mut cursor = Cursor(plaintext);
        let directory = Directory::parse_frames(&mut cursor)?;
        let end = directory.frames.last().map_or(HEADER_LEN as u64, |frame| frame.offset + frame.sealed_len as u64);
        if end != HEADER_LEN as u64 + frames_len {
            return Err("its frames do not fill the pack".into());
        }
        if cursor.0.iter().any(|&byte| byte != 0) {
            return Err("something follows the directory's frames".into());
        }
        Ok(directory)
    }

    fn parse_frames(cursor: &mut Cursor) -> Result<Directory, Refused> {
        let short = |_: Malformed| "its directory ends too early";
        let mut directory = Directory::default();
        let mut offset = HEADER_LEN as u64;
        for frame in 0..cursor.length().map_err(short)? {
            let (encoding, kind) = (cursor.u8().map_err(short)?, cursor.u8().map_err(short)?);
            let unknown = |what, number| move || Refused::Newer(format!("{what} {number}"));
            let encoding = Encoding::from_number(encoding).ok_or_else(unknown("frames of encoding", encoding))?;
            if kind == 0 {
                return Err("a frame's chunks are of no kind".into());
            }
            let kind = ChunkKind::from_number(kind).ok_or_else(unknown("chunks of kind", kind))?;
            let sealed_len = cursor.varint().map_err(short)?;
            if sealed_len < TAG_LEN as u64 || sealed_len > PACK_MAX_LEN {
                return Err("a frame's length is impossible".into());
            }
            let count = cursor.length().map_err(short)?;
            let mut decoded_len = 0;
            for _ in 0..count {
                let id = ChunkId(cursor.array().map_err(short)?);
                let len = cursor.varint().map_err(short)?;
                if len > (DECODED_MAX_LEN - decoded_len) as u64 {
                    return Err("a frame is too long".into());
                }
                let chunk = PackedChunk { id, frame: frame as u32, offset: decoded_len as u32, len: len as u32 };
                directory.chunks.push(chunk);
                decoded_len += len as usize;
            }
            let base = match encoding {
                Encoding::Delta => Some(parse_base(cursor, count)?),
                Encoding::Raw if sealed_len != (decoded_len + TAG_LEN) as u64 => {
                    return Err("a raw frame's length is wrong".into());
                }
                _ => None,
            };
            if count == 0 || directory.chunks.len() > PACK_MAX_CHUNKS {
                return Err("a frame has no chunks, or the pack too many".into());
            }
            let sealed_len = sealed_len as usize;
            directory.frames.push(Frame { encoding, kind, offset, sealed_len, decoded_len, base });
            offset += sealed_len as u64;
        }
        Ok(directory)
    }
}

fn parse_base(cursor: &mut Cursor, chunk_count: usize) -> Result<Base, &'static str> {
    let id = ChunkId(cursor.array().map_err(|_| "its directory ends too early")?);
    let version = cursor.u8().map_err(|_| "its directory ends too early")?;
    if chunk_count != 1 || version == 0 {
        return Err("a delta is not of one chunk, or has no version");
    }
    Ok(Base { id, version })
}

/// A frame that is not in a pack yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewFrame<'a> {
    pub(crate) encoding: Encoding,
    pub(crate) kind: ChunkKind,
    pub(crate) base: Option<Base>,
    /// Ids and lengths of the chunks whose concatenation was encoded.
    pub(crate) chunks: &'a [(ChunkId, usize)],
    pub(crate) encoded: &'a [u8],
}

/// A pack being filled, in memory.
pub(crate) struct PackBuilder {
    kind: PackKind,
    key: FrameKey,
    bytes: Vec<u8>,
    directory: Directory,
}

impl PackBuilder {
    pub(crate) fn new(sealer: &Sealer, kind: PackKind, capacity: usize) -> Result<PackBuilder> {
        let (header, key) = sealer.begin(kind.file_kind())?;
        Ok(PackBuilder::after(kind, &header, key, capacity))
    }

    /// Goes on after a header.
    pub(crate) fn after(kind: PackKind, header: &[u8; HEADER_LEN], key: FrameKey, capacity: usize) -> PackBuilder {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend_from_slice(header);
        PackBuilder { kind, key, bytes, directory: Directory::default() }
    }

    pub(crate) fn kind(&self) -> PackKind {
        self.kind
    }

    /// Bytes so far, without the directory.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn has_room(&self, chunks: usize) -> bool {
        self.directory.chunks.len() + chunks <= PACK_MAX_CHUNKS
    }

    /// Seals `frame` as the next one.
    pub(crate) fn add(&mut self, frame: &NewFrame) {
        let &NewFrame { encoding, kind, base, chunks, encoded } = frame;
        let offset = self.bytes.len();
        let number = self.directory.frames.len() as u32;
        self.key.seal(FrameNumber::Inner(number), &[], encoded, &mut self.bytes);
        let sealed_len = self.bytes.len() - offset;
        let mut decoded_len = 0;
        for &(id, len) in chunks {
            self.directory.chunks.push(PackedChunk { id, frame: number, offset: decoded_len as u32, len: len as u32 });
            decoded_len += len;
        }
        self.directory.frames.push(Frame { encoding, kind, offset: offset as u64, sealed_len, decoded_len, base });
    }

    /// The pack's bytes and directory; nothing if nothing was added.
    pub(crate) fn finish(self) -> Option<(Vec<u8>, Directory)> {
        self.finish_as(|_| ())
    }

    /// The same, and `patch` may change the directory's plaintext.
    pub(crate) fn finish_as(mut self, patch: impl FnOnce(&mut Vec<u8>)) -> Option<(Vec<u8>, Directory)> {
        if self.directory.chunks.is_empty() {
            return None;
        }
        let mut plaintext = self.directory.emit();
        patch(&mut plaintext);
        let unpadded = self.bytes.len() + plaintext.len() + TAG_LEN + TRAILER_LEN;
        plaintext.resize(plaintext.len() + unpadded.next_multiple_of(PADDED_TO) - unpadded, 0);
        let sealed_len = (plaintext.len() + TAG_LEN) as u32;
        // What grows by itself would take twice the room of a pack.
        self.bytes.reserve_exact(plaintext.len() + TAG_LEN + TRAILER_LEN);
        self.key.seal(DIRECTORY_FRAME, &[], &plaintext, &mut self.bytes);
        self.bytes.extend_from_within(..HEADER_LEN);
        self.bytes.extend_from_slice(&sealed_len.to_le_bytes());
        self.bytes.extend_from_slice(END_MAGIC);
        Some((self.bytes, self.directory))
    }
}

/// A pack whose directory has been read.
pub(crate) struct Pack {
    pub(crate) file: String,
    pub(crate) directory: Directory,
    key: FrameKey,
}

impl Pack {
    /// Reads the directory of a pack, and its header as it is repeated at the end: most often both by one read. Where
    /// that header is damaged, the
    /// one at the beginning does as well.
    pub(crate) fn open(storage: &dyn Storage, sealer: &Sealer, pack: &SegmentPack) -> Result<Pack> {
        let (file, len) = (pack.file(), pack.len);
        match Pack::open_at(storage, sealer, pack, &file) {
            // Of a newer program, or a flipped bit: only a pack that has its name is believed.
            Err(Error::Unsupported { .. }) if storage.hash(&file, len)? != pack.name => {
                Err(Error::damaged(file, NAME_MISMATCH))
            }
            other => other,
        }
    }

    /// Opens the pack that once had a name and now lies in `file`, by whichever of its headers is whole.
    pub(crate) fn open_at(storage: &dyn Storage, sealer: &Sealer, pack: &SegmentPack, file: &str) -> Result<Pack> {
        let tail = Tail::read(storage, file, pack.len)?;
        Pack::open_by(storage, sealer, pack, file, &tail, &tail.header).or_else(|error| {
            let header = storage.read_exactly(file, 0, HEADER_LEN)?;
            let opened = Pack::open_by(storage, sealer, pack, file, &tail, &header);
            if opened.is_err() && error.is_newer() { Err(error) } else { opened }
        })
    }

    fn open_by(
        storage: &dyn Storage,
        sealer: &Sealer,
        pack: &SegmentPack,
        file: &str,
        tail: &Tail,
        header: &[u8],
    ) -> Result<Pack> {
        let (_, key) = sealer.resume(&[pack.kind.file_kind()], header, file)?;
        let from_end = (tail.sealed_len + TRAILER_LEN) as u64;
        let sealed = match (tail.bytes.len() as u64).checked_sub(from_end) {
            Some(at) => tail.bytes[at as usize..][..tail.sealed_len].to_vec(),
            None => storage.read_exactly(file, pack.len - from_end, tail.sealed_len)?,
        };
        let plaintext = key
            .open(DIRECTORY_FRAME, &[], sealed)
            .ok_or_else(|| Error::damaged(file, "its directory is not what was written"))?;
        let frames_len = pack.len - from_end - HEADER_LEN as u64;
        let directory = Directory::parse(&plaintext, frames_len).map_err(|refused| refused.in_file(file))?;
        Ok(Pack { file: file.to_owned(), directory, key })
    }

    /// The plaintext of frame `number` from its sealed bytes; `base` is the decoded base of a delta.
    pub(crate) fn decode_frame(&self, number: u32, sealed: Vec<u8>, base: Option<&[u8]>) -> Result<Vec<u8>> {
        let frame = &self.directory.frames[number as usize];
        let encoded = self.unseal(number, sealed)?;
        let decoded = match (frame.encoding, base) {
            (Encoding::Raw, _) => Some(encoded),
            (Encoding::Zstd, _) => codec::decode_zstd(&encoded, frame.decoded_len),
            (Encoding::Delta, Some(base)) => codec::decode_delta(&encoded, base, frame.decoded_len),
            (Encoding::Delta, None) => None,
        };
        decoded.ok_or_else(|| Error::damaged(&self.file, format!("frame {number} does not decode to its length")))
    }

    /// The encoded form of frame `number` from its sealed bytes.
    pub(crate) fn unseal(&self, number: u32, sealed: Vec<u8>) -> Result<Vec<u8>> {
        let opened = self.key.open(FrameNumber::Inner(number), &[], sealed);
        opened.ok_or_else(|| Error::damaged(&self.file, format!("frame {number} is not what was written")))
    }

    /// Frame `number` as it lies in the pack.
    pub(crate) fn read_frame(&self, storage: &dyn Storage, number: u32) -> Result<Vec<u8>> {
        let frame = &self.directory.frames[number as usize];
        storage.read_exactly(&self.file, frame.offset, frame.sealed_len)
    }
}

/// The end of a pack.
struct Tail {
    bytes: Vec<u8>,
    header: [u8; HEADER_LEN],
    sealed_len: usize,
}

impl Tail {
    fn read(storage: &dyn Storage, file: &str, len: u64) -> Result<Tail> {
        if len > PACK_MAX_LEN || len < (HEADER_LEN + TAG_LEN + TRAILER_LEN) as u64 {
            return Err(Error::damaged(file, format!("no pack is {len} bytes long")));
        }
        let tail_len = len.min(TAIL_READ_LEN);
        let bytes = storage.read_exactly(file, len - tail_len, tail_len as usize)?;
        let (header, sealed_len) = parse_trailer(&bytes, len).map_err(|what| Error::damaged(file, what))?;
        Ok(Tail { bytes, header, sealed_len })
    }
}

/// The header and the length of the sealed directory, from the last bytes of a pack.
fn parse_trailer(tail: &[u8], pack_len: u64) -> Result<([u8; HEADER_LEN], usize), &'static str> {
    let Some((_, trailer)) = tail.split_last_chunk::<TRAILER_LEN>() else { return Err("it does not end as a pack") };
    let (header, end) = trailer.split_first_chunk::<HEADER_LEN>().expect("the trailer begins with the header");
    if &end[4..] != END_MAGIC {
        return Err("it does not end as a pack");
    }
    let len = Cursor(end).u32().expect("the trailer has twelve bytes after the header") as usize;
    let room = pack_len as usize - HEADER_LEN - TRAILER_LEN;
    if len < TAG_LEN || len > room || len > DIRECTORY_MAX_LEN {
        return Err("the length of its directory is impossible");
    }
    Ok((*header, len))
}

/// Whether a whole pack says the same at its end as at its beginning.
pub(crate) fn has_its_header_twice(bytes: &[u8]) -> bool {
    let trailer = bytes.len().checked_sub(TRAILER_LEN).map(|at| &bytes[at..]);
    trailer.is_some_and(|trailer| bytes[..HEADER_LEN] == trailer[..HEADER_LEN])
}

/// A pack as it lies in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentPack {
    pub(crate) name: FileHash,
    pub(crate) kind: PackKind,
    pub(crate) len: u64,
}

impl SegmentPack {
    /// The repository's name for it.
    pub(crate) fn file(&self) -> String {
        pack_file(self.kind, &self.name)
    }

    /// Its kind and name, which tell it from all others that may be listed.
    pub(crate) fn id(&self) -> PackId {
        (self.kind, self.name)
    }
}

/// Where a pack lies: the folder of its kind, and its name in it.
pub(crate) type PackId = (PackKind, FileHash);

/// All files that are named as packs, with their lengths.
pub(crate) fn list_packs(storage: &dyn Storage) -> Result<HashMap<PackId, u64>> {
    let mut packs = HashMap::new();
    for kind in PackKind::ALL {
        packs.extend(list_by_digits(storage, kind.folder())?.into_iter().map(|(name, len)| ((kind, name), len)));
    }
    Ok(packs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{format::seal::Cipher, id::RepositoryId, storage::MemoryStorage};
    use proptest::prelude::*;

    fn sealer() -> Sealer {
        Sealer::new(Cipher::default(), RepositoryId([7; 16]), [9; 32])
    }

    fn pack_of(chunks: &[Vec<u8>]) -> (MemoryStorage, SegmentPack) {
        let mut builder = PackBuilder::new(&sealer(), PackKind::Data, 0).unwrap();
        for chunk in chunks {
            let id = chunk_id(&[1; 32], ChunkKind::Data, chunk);
            codec::encode(chunk, |encoding, encoded| {
                let chunks = &[(id, chunk.len())];
                builder.add(&NewFrame { encoding, kind: ChunkKind::Data, base: None, chunks, encoded });
            });
        }
        let (bytes, _) = builder.finish().unwrap();
        let storage = MemoryStorage::default();
        let pack = put(&storage, &bytes);
        (storage, pack)
    }

    fn put(storage: &MemoryStorage, bytes: &[u8]) -> SegmentPack {
        let pack = SegmentPack { name: FileHash::of(bytes), kind: PackKind::Data, len: bytes.len() as u64 };
        storage.put(&pack.file(), bytes).unwrap();
        pack
    }

    proptest! {
        #[test]
        fn chunks_come_out_as_they_went_in(chunks in prop::collection::vec(prop::collection::vec(0u8..4, 1..3000), 1..20)) {
            let (storage, pack) = pack_of(&chunks);
            prop_assert_eq!(pack.len % PADDED_TO as u64, 0);
            let pack = Pack::open(&storage, &sealer(), &pack).unwrap();
            for (chunk, packed) in chunks.iter().zip(&pack.directory.chunks) {
                let sealed = pack.read_frame(&storage, packed.frame).unwrap();
                prop_assert_eq!(&pack.decode_frame(packed.frame, sealed, None).unwrap(), chunk);
                prop_assert_eq!(packed.id, chunk_id(&[1; 32], ChunkKind::Data, chunk));
            }
        }

        #[test]
        fn any_bytes_as_a_directory_are_read_or_refused(bytes: Vec<u8>, frames_len in 0u64..10_000) {
            let _ = Directory::parse(&bytes, frames_len);
        }
    }

    #[test]
    fn every_flip_is_noticed_by_the_directory_or_by_its_frame() {
        let (storage, pack) = pack_of(&[b"one".repeat(50), b"another".repeat(50)]);
        let (file, trailer_at) = (pack.file(), pack.len as usize - TRAILER_LEN);
        for at in 0..pack.len as usize {
            storage.files().get_mut(&file).unwrap()[at] ^= 0x10;
            let noticed = match Pack::open(&storage, &sealer(), &pack) {
                Err(_) => true,
                Ok(pack) => (0..2).any(|n| pack.decode_frame(n, pack.read_frame(&storage, n).unwrap(), None).is_err()),
            };
            let has_one_header = has_its_header_twice(&storage.files()[&file]);
            let is_of_a_header = at < HEADER_LEN || (trailer_at..trailer_at + HEADER_LEN).contains(&at);
            assert!(if is_of_a_header { !noticed && !has_one_header } else { noticed }, "{at}");
            storage.files().get_mut(&file).unwrap()[at] ^= 0x10;
        }
        assert!(has_its_header_twice(&storage.files()[&file]));
        for len in 0..pack.len {
            assert!(Pack::open(&storage, &sealer(), &SegmentPack { len, ..pack }).is_err(), "{len}");
        }
    }

    #[test]
    fn pack_opens_by_either_header() {
        let (storage, pack) = pack_of(&[b"one".repeat(50)]);
        let (file, whole) = (pack.file(), storage.files()[&pack.file()].clone());
        let trailer_at = whole.len() - TRAILER_LEN;
        let opens = |damages: &[usize]| {
            let mut bytes = whole.clone();
            damages.iter().for_each(|&at| bytes[at] ^= 1);
            storage.put(&file, &bytes).unwrap();
            Pack::open(&storage, &sealer(), &pack).is_ok()
        };
        assert!(opens(&[]));
        for at in [0, 8, 9, 12, 20, 40] {
            assert!(opens(&[at]) && opens(&[trailer_at + at]), "{at}");
            assert!(!opens(&[at, trailer_at + at]), "{at}");
        }
    }

    #[test]
    fn a_pack_of_another_kind_is_refused() {
        let (storage, pack) = pack_of(&[b"one".repeat(50)]);
        let other = SegmentPack { kind: PackKind::Tree, ..pack };
        let bytes = storage.files()[&pack.file()].clone();
        storage.put(&other.file(), &bytes).unwrap();
        let error = Pack::open(&storage, &sealer(), &other).err().unwrap();
        assert!(error.is_damage(), "{error}");
    }

    /// A directory of frames of these encodings, lengths and chunks, as one would write it.
    fn emitted(frames: &[(Encoding, u64, &[usize])]) -> Vec<u8> {
        let mut directory = Directory::default();
        for (number, &(encoding, sealed_len, lens)) in (0..).zip(frames) {
            let base = (encoding == Encoding::Delta).then_some(Base { id: ChunkId([5; 16]), version: 1 });
            let (kind, sealed_len) = (ChunkKind::Data, sealed_len as usize);
            directory.frames.push(Frame { encoding, kind, offset: 0, sealed_len, decoded_len: 0, base });
            let chunk = |&len: &usize| PackedChunk { id: ChunkId([3; 16]), frame: number, offset: 0, len: len as u32 };
            directory.chunks.extend(lens.iter().map(chunk));
        }
        directory.emit()
    }

    /// The fault of a damaged directory.
    fn damage(refused: Refused) -> &'static str {
        match refused {
            Refused::Damaged(what) => what,
            Refused::Newer(what) => panic!("{what}"),
        }
    }

    #[test]
    fn unknown_encoding_or_kind_is_newer() {
        let read = |encoding: u8, kind: u8| Directory::parse(&[1, encoding, kind, 0, 1, 2, 3], 99).unwrap_err();
        for (encoding, kind, what) in
            [(3, 1, "frames of encoding 3"), (255, 9, "frames of encoding 255"), (1, 4, "chunks of kind 4")]
        {
            assert_eq!(read(encoding, kind), Refused::Newer(what.into()));
        }
        assert!(matches!(read(1, 0), Refused::Damaged(_)) && matches!(read(1, 1), Refused::Damaged(_)));
        assert!(matches!(Directory::parse(&[1, 3], 99), Err(Refused::Damaged(_))), "it ends there");
    }

    #[test]
    fn a_directory_may_say_what_fits_and_no_more() {
        let read = |frames: &[(Encoding, u64, &[usize])]| {
            let frames_len = frames.iter().map(|(_, sealed_len, _)| sealed_len).sum();
            Directory::parse(&emitted(frames), frames_len).map(|_| ()).map_err(damage)
        };
        let tag = TAG_LEN as u64;
        assert_eq!(read(&[]), Ok(()));
        assert_eq!(read(&[(Encoding::Raw, tag, &[0])]), Ok(()));
        assert_eq!(read(&[(Encoding::Zstd, PACK_MAX_LEN, &[1])]), Ok(()));
        for sealed_len in [tag - 1, PACK_MAX_LEN + 1] {
            assert_eq!(read(&[(Encoding::Zstd, sealed_len, &[1])]), Err("a frame's length is impossible"));
        }
        assert_eq!(read(&[(Encoding::Zstd, 99, &[DECODED_MAX_LEN])]), Ok(()));
        assert_eq!(read(&[(Encoding::Zstd, 99, &[DECODED_MAX_LEN - 1, 1])]), Ok(()));
        assert_eq!(read(&[(Encoding::Zstd, 99, &[DECODED_MAX_LEN + 1])]), Err("a frame is too long"));
        assert_eq!(read(&[(Encoding::Zstd, 99, &[DECODED_MAX_LEN - 1, 2])]), Err("a frame is too long"));
        for sealed_len in [tag + 2, tag + 4] {
            assert_eq!(read(&[(Encoding::Raw, sealed_len, &[3])]), Err("a raw frame's length is wrong"));
        }
        assert_eq!(read(&[(Encoding::Delta, 99, &[3])]), Ok(()));
        assert!(read(&[(Encoding::Delta, 99, &[3, 3])]).is_err(), "a delta of two chunks");
        let most = vec![1; PACK_MAX_CHUNKS];
        assert_eq!(read(&[(Encoding::Zstd, 99, &most)]), Ok(()));
        let refused = Err("a frame has no chunks, or the pack too many");
        assert_eq!(read(&[(Encoding::Zstd, 99, &most), (Encoding::Zstd, 99, &[1])]), refused);
        // A frame without chunks cannot be written.
        let of_no_chunk = Directory::parse(&[1, Encoding::Zstd as u8, ChunkKind::Data as u8, 99, 0], 99);
        assert_eq!(of_no_chunk.map(|_| ()).map_err(damage), refused);
    }

    #[test]
    fn the_length_of_a_directory_is_believed_only_where_it_fits() {
        let read = |len: usize, pack_len: usize| {
            let trailer = [&[7; HEADER_LEN], (len as u32).to_le_bytes().as_slice(), END_MAGIC].concat();
            parse_trailer(&trailer, pack_len as u64).ok().map(|(header, len)| {
                assert_eq!(header, [7; HEADER_LEN]);
                len
            })
        };
        let around = HEADER_LEN + TRAILER_LEN;
        for (len, pack_len) in [(TAG_LEN, around + TAG_LEN), (5000, around + 5000), (DIRECTORY_MAX_LEN, 1 << 30)] {
            assert_eq!(read(len, pack_len), Some(len));
        }
        for (len, pack_len) in [(TAG_LEN - 1, 1 << 20), (5001, around + 5000), (DIRECTORY_MAX_LEN + 1, 1 << 30)] {
            assert_eq!(read(len, pack_len), None, "{len}");
        }
        let storage = MemoryStorage::default();
        let refused = |len| {
            let pack = SegmentPack { name: FileHash::of(b""), kind: PackKind::Data, len };
            Pack::open(&storage, &sealer(), &pack).err().unwrap().to_string()
        };
        let (least, most) = ((around + TAG_LEN) as u64, i32::MAX as u64);
        for (len, is_one) in [(least - 1, false), (least, true), (most, true), (most + 1, false)] {
            assert_eq!(!refused(len).contains("no pack is"), is_one, "{len}");
        }
    }

    #[test]
    fn a_pack_takes_as_many_chunks_as_the_index_can_number_and_all_come_out() {
        let mut builder = PackBuilder::new(&sealer(), PackKind::Data, 0).unwrap();
        assert!(builder.has_room(PACK_MAX_CHUNKS) && !builder.has_room(PACK_MAX_CHUNKS + 1));
        assert_eq!(builder.len(), HEADER_LEN);
        let chunks: Vec<(ChunkId, usize)> =
            (0..PACK_MAX_CHUNKS as u32).map(|n| (chunk_id(&[1; 32], ChunkKind::Data, &n.to_le_bytes()), 4)).collect();
        let encoded: Vec<u8> = (0..PACK_MAX_CHUNKS as u32).flat_map(u32::to_le_bytes).collect();
        let (first, rest) = chunks.split_at(3);
        let mut add = |chunks: &[(ChunkId, usize)], encoded: &[u8]| {
            builder.add(&NewFrame { encoding: Encoding::Raw, kind: ChunkKind::Data, base: None, chunks, encoded });
            builder.len()
        };
        assert_eq!(add(first, &encoded[..12]), HEADER_LEN + 12 + TAG_LEN);
        add(rest, &encoded[12..]);
        assert!(builder.has_room(0) && !builder.has_room(1));
        let (bytes, directory) = builder.finish().unwrap();
        let storage = MemoryStorage::default();
        let pack = put(&storage, &bytes);
        // Its directory is longer than what is read of the end at once.
        let pack = Pack::open(&storage, &sealer(), &pack).unwrap();
        assert!(pack.directory == directory && directory.chunks.len() == PACK_MAX_CHUNKS);
        assert_eq!(pack.decode_frame(1, pack.read_frame(&storage, 1).unwrap(), None).unwrap(), &encoded[12..]);
    }

    #[test]
    fn a_pack_of_a_newer_version_is_told_from_one_whose_version_is_damaged() {
        let (storage, pack) = pack_of(&[b"one".repeat(50)]);
        let mut bytes = storage.files()[&pack.file()].clone();
        let trailer_at = bytes.len() - TRAILER_LEN;
        bytes[8] += 1;
        bytes[trailer_at + 8] += 1;
        storage.put(&pack.file(), &bytes).unwrap();
        let damaged = Pack::open(&storage, &sealer(), &pack).err().unwrap();
        assert!(damaged.is_damage(), "{damaged}");
        let error = Pack::open(&storage, &sealer(), &put(&storage, &bytes)).err().unwrap();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }
}
