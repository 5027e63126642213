//! The stages that contents go through, one by one, for measurement. Exists only with the feature `stages`.

use crate::{
    format::{
        chunker::{Chunker, Rule},
        codec::{self, Encoding},
        pack::{
            ChunkKind, Directory, Frame, NewFrame, Pack, PackBuilder, PackKind, PackedChunk, SegmentPack, chunk_id,
        },
        seal::{Cipher, Sealer},
    },
    id::{ChunkId, FileHash, RepositoryId},
    index::{SegmentBuilder, segment::Segment},
    storage::{MemoryStorage, Storage},
};

const KEY: [u8; 32] = [7; 32];

/// Cuts `bytes` by the rule of their kind; returns the number of chunks.
pub fn cut(bytes: &[u8]) -> usize {
    let (chunker, rule) = (Chunker::new(&KEY), Rule::of(bytes));
    let (mut at, mut chunks) = (0, 0);
    while at < bytes.len() {
        at += chunker.cut(rule, at as u64, &bytes[at..]);
        chunks += 1;
    }
    chunks
}

/// The id of a chunk.
pub fn id(bytes: &[u8]) -> ChunkId {
    chunk_id(&KEY, ChunkKind::Data, bytes)
}

/// A frame of `bytes`, compressed if that is worth it, proved.
pub fn encode(bytes: &[u8]) -> Vec<u8> {
    codec::encode(bytes, |_, encoded| encoded.to_vec())
}

/// A frame of `len` bytes, decompressed.
pub fn decode(encoded: &[u8], len: usize) -> Option<Vec<u8>> {
    codec::decode_zstd(encoded, len)
}

/// `bytes` as a delta against `base`, if that is worth it, proved.
pub fn encode_delta(bytes: &[u8], base: &[u8]) -> Option<Vec<u8>> {
    codec::encode_delta(bytes, base)
}

/// A delta undone.
pub fn decode_delta(delta: &[u8], base: &[u8], len: usize) -> Option<Vec<u8>> {
    codec::decode_delta(delta, base, len)
}

fn sealer(cipher: Cipher) -> Sealer {
    Sealer::new(cipher, RepositoryId([1; 16]), KEY)
}

/// A pack of `chunks`, each a raw frame, sealed by `cipher` and named.
pub fn pack(cipher: Cipher, chunks: &[&[u8]]) -> (FileHash, Vec<u8>) {
    let len = chunks.iter().map(|chunk| chunk.len() + 64).sum();
    let mut builder = PackBuilder::new(&sealer(cipher), PackKind::Data, len).expect("random numbers");
    for (number, &encoded) in chunks.iter().enumerate() {
        let chunks = &[(numbered(number as u64), encoded.len())];
        let (encoding, kind) = (Encoding::Raw, ChunkKind::Data);
        builder.add(&NewFrame { encoding, kind, base: None, chunks, encoded });
    }
    let (bytes, _) = builder.finish().expect("chunks");
    (FileHash::of(&bytes), bytes)
}

/// Opens a pack of raw frames and reads every one of them; returns their bytes.
pub fn unpack(cipher: Cipher, name: &FileHash, bytes: &[u8]) -> u64 {
    let storage = MemoryStorage::default();
    let pack = SegmentPack { name: *name, kind: PackKind::Data, len: bytes.len() as u64 };
    storage.put(&pack.file(), bytes).expect("memory");
    let pack = Pack::open(&storage, &sealer(cipher), &pack).expect("a pack");
    let frames = 0..pack.directory.frames.len() as u32;
    let read = |number| {
        let sealed = pack.read_frame(&storage, number).expect("a frame");
        pack.decode_frame(number, sealed, None).expect("a frame").len() as u64
    };
    frames.map(read).sum()
}

/// A segment of the index.
pub struct Lookup(Segment);

impl Lookup {
    /// One with the chunks of the numbers from 0 on.
    pub fn new(count: u64) -> Lookup {
        let mut builder = SegmentBuilder::default();
        for first in (0..count).step_by(10_000) {
            let mut directory = Directory::default();
            for number in first..count.min(first + 10_000) {
                let (frame, kind) = (directory.frames.len() as u32, ChunkKind::Data);
                let (sealed_len, decoded_len) = (60_016, 60_000);
                directory.frames.push(Frame {
                    encoding: Encoding::Raw,
                    kind,
                    offset: 0,
                    sealed_len,
                    decoded_len,
                    base: None,
                });
                directory.chunks.push(PackedChunk { id: numbered(number), frame, offset: 0, len: 60_000 });
            }
            let name = FileHash::of(&first.to_le_bytes());
            builder.add_pack(SegmentPack { name, kind: PackKind::Data, len: 1 << 24 }, &directory);
        }
        Lookup(Segment::from_contents(FileHash::of(b""), builder.contents(), None).expect("a segment"))
    }

    /// Whether the chunk of this number is in it.
    pub fn holds(&self, number: u64) -> bool {
        let mut found = false;
        self.0.find(&numbered(number), &mut |_, _| found = true).expect("memory");
        found
    }
}

fn numbered(number: u64) -> ChunkId {
    id(&number.to_le_bytes())
}
