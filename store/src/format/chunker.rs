//! Where to cut a file into chunks (SPEC §8): by what kind of file it is, from its first bytes.
//!
//! Every constant here is fixed: a change ends deduplication with what was stored before. `tests/vectors/chunker.json` holds them.

/// A file up to this length is one chunk, and so many bytes decide its kind.
pub(crate) const HEAD_LEN: usize = 64 << 10;
/// No chunk is longer.
pub(crate) const CHUNK_MAX_LEN: usize = MEDIA_BLOCK_LEN;

const SQLITE_BLOCK_LEN: usize = 64 << 10;
const WAL_HEADER_LEN: usize = 32;
const WAL_FRAME_HEADER_LEN: usize = 24;
const WAL_BLOCK_FRAMES: usize = 16;
const MEDIA_BLOCK_LEN: usize = 4 << 20;

const MIN_LEN: usize = 16 << 10;
const NORMAL_LEN: usize = 64 << 10;
const MAX_LEN: usize = 256 << 10;
/// 18 bits until a chunk has its normal length, 14 from then on: lengths keep near the normal one.
const MASK_BEFORE_NORMAL: u64 = ((1 << 18) - 1) << 45;
const MASK_AFTER_NORMAL: u64 = ((1 << 14) - 1) << 49;

/// How a file was cut, by its number in the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    Whole,
    Sqlite,
    /// With the length of the blocks after the header.
    Wal {
        block_len: usize,
    },
    Media,
    Other,
}

impl Rule {
    /// The rule for a file that begins with `head`: its first `HEAD_LEN` bytes and one more, or all of it.
    pub(crate) fn of(head: &[u8]) -> Rule {
        if head.len() <= HEAD_LEN {
            Rule::Whole
        } else if head.starts_with(b"SQLite format 3\0") {
            Rule::Sqlite
        } else if let Some(page_len) = wal_page_len(head) {
            Rule::Wal { block_len: WAL_BLOCK_FRAMES * (WAL_FRAME_HEADER_LEN + page_len) }
        } else if is_media(head) {
            Rule::Media
        } else {
            Rule::Other
        }
    }

    pub(crate) fn number(self) -> u8 {
        match self {
            Rule::Whole => 1,
            Rule::Sqlite => 2,
            Rule::Wal { .. } => 3,
            Rule::Media => 4,
            Rule::Other => 5,
        }
    }
}

fn wal_page_len(head: &[u8]) -> Option<usize> {
    let is_wal = matches!(head.get(..4)?, [0x37, 0x7f, 0x06, 0x82 | 0x83]);
    let page_len = u32::from_be_bytes(head.get(8..12)?.try_into().ok()?) as usize;
    (is_wal && page_len.is_power_of_two() && (512..=65536).contains(&page_len)).then_some(page_len)
}

fn is_media(head: &[u8]) -> bool {
    const MAGICS: [&[u8]; 13] = [
        b"\xff\xd8\xff",
        b"\x89PNG",
        b"GIF8",
        b"PK\x03\x04",
        b"\x1f\x8b",
        b"ID3",
        b"RIFF",
        b"caff",
        b"#!AMR",
        b"bvx",
        b"\xfd7zXZ\0",
        b"\x28\xb5\x2f\xfd",
        b"\0\0\0\0ftyp",
    ];
    let (isobmff, begins) = MAGICS.split_last().expect("there are magics");
    begins.iter().any(|magic| head.starts_with(magic)) || head.get(4..8) == Some(&isobmff[4..])
}

/// Cuts the files of one repository.
pub(crate) struct Chunker {
    pub(crate) gear: [u64; 256],
    /// `gear` shifted left by one, for the first of two bytes that are taken in one step.
    gear_shifted: [u64; 256],
}

impl Chunker {
    pub(crate) fn new(chunker_key: &[u8; 32]) -> Chunker {
        let mut table = [0; 256 * 8];
        blake3::Hasher::new_keyed(chunker_key).update(b"gear").finalize_xof().fill(&mut table);
        let mut gear = [0; 256];
        for (value, bytes) in gear.iter_mut().zip(table.chunks_exact(8)) {
            *value = u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
        }
        Chunker { gear, gear_shifted: gear.map(|value| value << 1) }
    }

    /// The length of the chunk that begins `data`, which lies `offset` bytes into its file and holds at least
    /// [`CHUNK_MAX_LEN`] bytes or all the rest of it.
    pub(crate) fn cut(&self, rule: Rule, offset: u64, data: &[u8]) -> usize {
        let block_len = match rule {
            Rule::Whole => HEAD_LEN,
            Rule::Sqlite => SQLITE_BLOCK_LEN,
            Rule::Wal { .. } if offset == 0 => WAL_HEADER_LEN,
            Rule::Wal { block_len } => block_len,
            Rule::Media => MEDIA_BLOCK_LEN,
            Rule::Other => return self.cut_by_content(data),
        };
        block_len.min(data.len())
    }

    fn cut_by_content(&self, data: &[u8]) -> usize {
        let end = data.len().min(MAX_LEN);
        let normal = end.min(NORMAL_LEN);
        let mut hash = 0;
        if end <= MIN_LEN {
            return end;
        }
        self.find(&data[..normal], MIN_LEN, MASK_BEFORE_NORMAL, &mut hash)
            .or_else(|| self.find(&data[..end], normal, MASK_AFTER_NORMAL, &mut hash))
            .unwrap_or(end)
    }

    /// The end of the chunk whose last byte is the first from `start` on where the hash is zero under `mask`.
    fn find(&self, data: &[u8], start: usize, mask: u64, hash: &mut u64) -> Option<usize> {
        let mask_shifted = mask << 1;
        let mut h = *hash;
        let pairs = data[start..].chunks_exact(2);
        let last = pairs.remainder();
        for (i, pair) in pairs.enumerate() {
            // Two steps in one: the first is tested one bit to the left of where it would lie.
            h = (h << 2).wrapping_add(self.gear_shifted[usize::from(pair[0])]);
            if h & mask_shifted == 0 {
                return Some(start + 2 * i + 1);
            }
            h = h.wrapping_add(self.gear[usize::from(pair[1])]);
            if h & mask == 0 {
                return Some(start + 2 * i + 2);
            }
        }
        if let [byte] = *last {
            h = (h << 1).wrapping_add(self.gear[usize::from(byte)]);
            if h & mask == 0 {
                return Some(data.len());
            }
        }
        *hash = h;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// SPEC §8 to the letter, a byte a step.
    fn slow_cut(chunker: &Chunker, data: &[u8]) -> usize {
        let mut hash = 0u64;
        for (i, &byte) in data.iter().enumerate().skip(MIN_LEN).take(MAX_LEN - MIN_LEN) {
            hash = (hash << 1).wrapping_add(chunker.gear[usize::from(byte)]);
            let mask = if i < NORMAL_LEN { MASK_BEFORE_NORMAL } else { MASK_AFTER_NORMAL };
            if hash & mask == 0 {
                return i + 1;
            }
        }
        data.len().min(MAX_LEN)
    }

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn two_bytes_a_step_cut_as_one_does(seed: u64, len in 0usize..600_000, key: [u8; 32]) {
            let chunker = Chunker::new(&key);
            let data = noise(seed, len);
            let mut rest = data.as_slice();
            while !rest.is_empty() {
                let len = chunker.cut(Rule::Other, 0, rest);
                prop_assert_eq!(len, slow_cut(&chunker, rest));
                rest = &rest[len..];
            }
        }
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let chunker = Chunker::new(&[4; 32]);
        let cuts = |data: &[u8]| {
            let (mut rest, mut ids) = (data, std::collections::HashSet::new());
            while !rest.is_empty() {
                let (chunk, tail) = rest.split_at(chunker.cut(Rule::Other, 0, rest));
                ids.insert(blake3::hash(chunk));
                rest = tail;
            }
            ids
        };
        let mut data = noise(1, 8 << 20);
        let before = cuts(&data);
        data.splice(1_000_000..1_000_000, *b"seven b");
        assert!(before.len() > 80 && cuts(&data).difference(&before).count() <= 3);
    }

    #[test]
    fn kinds_are_known_by_their_first_bytes() {
        let head = |begin: &[u8], len: usize| [begin, &vec![0; len - begin.len()]].concat();
        let wal = |page: u32| [&[0x37, 0x7f, 0x06, 0x83, 0, 0, 0, 0], page.to_be_bytes().as_slice()].concat();
        assert_eq!(Rule::of(&head(b"SQLite format 3\0", HEAD_LEN)), Rule::Whole);
        assert_eq!(Rule::of(&head(b"SQLite format 3\0", HEAD_LEN + 1)), Rule::Sqlite);
        assert_eq!(Rule::of(&head(&wal(4096), HEAD_LEN + 1)), Rule::Wal { block_len: 16 * 4120 });
        assert_eq!(Rule::of(&head(&wal(4097), HEAD_LEN + 1)), Rule::Other);
        assert_eq!(Rule::of(&head(b"\0\0\0\x18ftypheic", HEAD_LEN + 1)), Rule::Media);
        assert_eq!(Rule::of(&head(b"PK\x03\x04", HEAD_LEN + 1)), Rule::Media);
        assert_eq!(Rule::of(&head(b"bplist00", HEAD_LEN + 1)), Rule::Other);
    }
}
