//! Parity: what mends a pack when sectors of a disk go bad (SPEC §16).
//!
//! A sidecar lies beside each pack and is made of its bytes as they are on the disk: neither making it nor using it takes a key. Nothing in it is
//! believed: what it gives back counts if it has the name of the pack that was lost.

use std::collections::HashMap;

use rayon::prelude::*;
use reed_solomon_simd::{
    engine::DefaultEngine,
    rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder},
};

use crate::{
    bytes::Cursor,
    error::{Error, Problem, Result},
    format::seal::{self, FileKind, HEADER_LEN},
    id::{FileHash, RepositoryId},
    storage::{Storage, layout::PARITY_FOLDER, named::list_by_digits},
};

/// A disk loses sectors of this length, so that of a shard begins and ends with one.
const SECTOR: usize = 4096;
/// About so many shards make up a long file.
const DATA_SHARDS: usize = 200;
/// A recovery shard for so many data shards.
const DATA_SHARDS_EACH: usize = 20;
const HASH_LEN: usize = 16;
const COUNTS_LEN: usize = 16;
const CHECK_LEN: usize = 32;
/// A reader's limits.
const SHARDS_MAX: usize = 1024;
const PROTECTED_MAX_LEN: usize = (1 << 31) - 1;
/// So much of every shard is coded at a time: all of that fits a core's cache.
const COLUMN_LEN: usize = 4096;

/// The repository's name for the sidecar of the file `name`.
pub(crate) fn parity_file(name: &FileHash) -> String {
    let digits = name.to_string();
    format!("{PARITY_FOLDER}/{}/{digits}", &digits[..2])
}

/// Writes the sidecar of the file `name`, which holds `bytes`.
pub(crate) fn write(storage: &dyn Storage, repository: &RepositoryId, name: &FileHash, bytes: &[u8]) -> Result<()> {
    storage.put_file(&parity_file(name), &sidecar(repository, name, bytes))
}

/// The bytes of the file that had this name, of its sidecar and of what is left of the file in `remains`, each of which may be damaged or missing.
/// `None` if there is no sidecar, or if too much is lost of all of them together.
pub(crate) fn restore(storage: &dyn Storage, name: &FileHash, remains: &[String]) -> Option<Vec<u8>> {
    let bytes = Head::read(storage, name).ok()?.restore(storage, name, remains)?;
    (FileHash::of(&bytes) == *name).then_some(bytes)
}

/// Deletes the sidecar of the file `name`, if there is one.
pub(crate) fn delete(storage: &dyn Storage, name: &FileHash) -> Result<()> {
    storage.delete_file(&parity_file(name))
}

/// The files that have a sidecar, each with the sidecar's length.
pub(crate) fn list(storage: &dyn Storage) -> Result<HashMap<FileHash, u64>> {
    list_by_digits(storage, PARITY_FOLDER)
}

/// What is wrong with the sidecars of `names`: each is to be `listed`, and whole. `deep` reads all of them, and otherwise their heads are read.
pub(crate) fn check(
    storage: &dyn Storage,
    names: &[FileHash],
    listed: &HashMap<FileHash, u64>,
    deep: bool,
) -> Vec<(FileHash, Problem)> {
    let check = |name: &FileHash| {
        let file = parity_file(name);
        let problem = match listed.get(name) {
            Some(&len) => Problem::from_error(&file, check_one(storage, name, len, deep).err()?),
            None => Problem::new(file, "it is missing"),
        };
        Some((*name, problem))
    };
    names.par_iter().filter_map(check).collect()
}

fn check_one(storage: &dyn Storage, name: &FileHash, len: u64, deep: bool) -> Result<()> {
    let damaged = |what: String| Err(Error::damaged(parity_file(name), what));
    let head = Head::read(storage, name)?;
    let shape = head.shape;
    let whole_len = (shape.head_len() + shape.recovery * shape.shard_len) as u64;
    if len != whole_len {
        return damaged(format!("it is {len} bytes long, not {whole_len}"));
    }
    let is_lost = |&number: &usize| deep && head.read_recovery(storage, name, number).is_none();
    match (0..shape.recovery).filter(is_lost).count() {
        0 => Ok(()),
        lost => damaged(format!("{lost} of its {} recovery shards are not what was written", shape.recovery)),
    }
}

/// How a file is cut into shards. There is at least one of either kind, and each data shard holds something of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    data: usize,
    recovery: usize,
    shard_len: usize,
    /// Of the file.
    len: usize,
}

impl Shape {
    /// How writers cut a file of `len` bytes, which is not empty.
    fn of(len: usize) -> Shape {
        let shard_len = SECTOR * len.div_ceil(DATA_SHARDS * SECTOR);
        let data = len.div_ceil(shard_len);
        let recovery = if data == 1 { 1 } else { data.div_ceil(DATA_SHARDS_EACH).max(2) };
        Shape { data, recovery, shard_len, len }
    }

    /// Whether it is one that is read.
    fn is_possible(&self) -> bool {
        let Shape { data, recovery, shard_len, len } = *self;
        (1..=PROTECTED_MAX_LEN).contains(&len)
            && shard_len > 0
            && shard_len.is_multiple_of(64)
            && shard_len <= len.next_multiple_of(SECTOR)
            && (1..=SHARDS_MAX).contains(&recovery)
            && data <= SHARDS_MAX
            && data == len.div_ceil(shard_len)
    }

    fn head_len(&self) -> usize {
        let len = HEADER_LEN + COUNTS_LEN + HASH_LEN * (self.data + self.recovery) + CHECK_LEN;
        len.next_multiple_of(SECTOR)
    }

    /// How many bytes of the file lie in a data shard; the rest of it is zeros.
    fn filled_len(&self, number: usize) -> usize {
        self.shard_len.min(self.len - number * self.shard_len)
    }

    /// The columns of the shards, each as the place where it begins and its length.
    fn columns(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let shard_len = self.shard_len;
        (0..shard_len).step_by(COLUMN_LEN).map(move |at| (at, COLUMN_LEN.min(shard_len - at)))
    }
}

/// A whole sidecar.
fn sidecar(repository: &RepositoryId, name: &FileHash, bytes: &[u8]) -> Vec<u8> {
    let shape = Shape::of(bytes.len().max(1));
    let head_len = shape.head_len();
    let mut out = vec![0; head_len + shape.recovery * shape.shard_len];
    let (head, recovery) = out.split_at_mut(head_len);
    fill_recovery(shape, bytes, recovery);
    head[..HEADER_LEN].copy_from_slice(&seal::header(FileKind::Parity, repository, &name.0));
    let counts = [shape.data, shape.recovery, shape.shard_len, shape.len].map(|count| (count as u32).to_le_bytes());
    head[HEADER_LEN..][..COUNTS_LEN].copy_from_slice(counts.as_flattened());
    let data_hashes = bytes.chunks(shape.shard_len).map(|shard| hash_of(shard, shape.shard_len));
    let hashes = data_hashes.chain(recovery.chunks(shape.shard_len).map(|shard| hash_of(shard, shape.shard_len)));
    for (hash, place) in hashes.zip(head[HEADER_LEN + COUNTS_LEN..].chunks_mut(HASH_LEN)) {
        place.copy_from_slice(&hash);
    }
    let (before, check) = head.split_at_mut(head_len - CHECK_LEN);
    check.copy_from_slice(blake3::hash(before).as_bytes());
    out
}

/// The hash of a shard, which zeros fill up to its length.
fn hash_of(filled: &[u8], shard_len: usize) -> [u8; HASH_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(filled);
    if filled.len() < shard_len {
        hasher.update(&vec![0; shard_len - filled.len()]);
    }
    *hasher.finalize().as_bytes().first_chunk().expect("a hash is longer")
}

/// Makes the recovery shards of a file.
fn fill_recovery(shape: Shape, bytes: &[u8], recovery: &mut [u8]) {
    const FITS: &str = "writers make few shards, of even lengths";
    if shape.data == 1 {
        recovery[..bytes.len()].copy_from_slice(bytes);
        return;
    }
    let mut encoder =
        HighRateEncoder::new(shape.data, shape.recovery, COLUMN_LEN, DefaultEngine::new(), None).expect(FITS);
    for (at, len) in shape.columns() {
        for shard in bytes.chunks(shape.shard_len) {
            let filled = &shard[at.min(shard.len())..(at + len).min(shard.len())];
            let mut padded = [0; COLUMN_LEN];
            let column = if filled.len() == len {
                filled
            } else {
                padded[..filled.len()].copy_from_slice(filled);
                &padded[..len]
            };
            encoder.add_original_shard(column).expect(FITS);
        }
        let encoded = encoder.encode().expect(FITS);
        for (column, shard) in encoded.recovery_iter().zip(recovery.chunks_mut(shape.shard_len)) {
            shard[at..at + len].copy_from_slice(column);
        }
    }
}

/// What a sidecar says before its recovery shards.
struct Head {
    shape: Shape,
    /// Of data shards, then of recovery shards.
    hashes: Vec<[u8; HASH_LEN]>,
}

impl Head {
    /// Reads the head of the sidecar of the file `name`.
    fn read(storage: &dyn Storage, name: &FileHash) -> Result<Head> {
        let file = parity_file(name);
        let fixed = storage.read_exactly(&file, 0, HEADER_LEN + COUNTS_LEN)?;
        let shape = parse_fixed(&fixed, name).map_err(|what| Error::damaged(&file, what))?;
        let head = storage.read_exactly(&file, 0, shape.head_len())?;
        let (before, check) = head.split_at(head.len() - CHECK_LEN);
        if blake3::hash(before).as_bytes() != check {
            return Err(Error::damaged(&file, "its head is not what was written"));
        }
        let hashes = before[HEADER_LEN + COUNTS_LEN..].as_chunks::<HASH_LEN>().0;
        Ok(Head { shape, hashes: hashes[..shape.data + shape.recovery].to_vec() })
    }

    /// The file, of what is whole of it in `remains` and of the recovery shards. What is read is not more than what lies there.
    fn restore(&self, storage: &dyn Storage, name: &FileHash, remains: &[String]) -> Option<Vec<u8>> {
        let shape = self.shape;
        let read = |number| remains.iter().find_map(|file| self.read_data(storage, file, number));
        let mut data: Vec<Option<Vec<u8>>> = (0..shape.data).map(read).collect();
        let missing = data.iter().filter(|shard| shard.is_none()).count();
        if missing > shape.recovery {
            return None;
        }
        let recovery: Vec<(usize, Vec<u8>)> = (0..shape.recovery)
            .filter_map(|number| Some((number, self.read_recovery(storage, name, number)?)))
            .take(missing)
            .collect();
        if recovery.len() < missing {
            return None;
        }
        if missing > 0 {
            decode(shape, &mut data, &recovery)?;
        }
        let mut bytes: Vec<u8> = data.into_iter().flatten().flatten().collect();
        bytes.truncate(shape.len);
        Some(bytes)
    }

    /// A data shard, if it can be read and is whole. A disk that cannot read a sector has lost the shard, and nothing else.
    fn read_data(&self, storage: &dyn Storage, file: &str, number: usize) -> Option<Vec<u8>> {
        let offset = (number * self.shape.shard_len) as u64;
        let mut shard = storage.read_exactly(file, offset, self.shape.filled_len(number)).ok()?;
        let is_whole = hash_of(&shard, self.shape.shard_len) == self.hashes[number];
        shard.resize(self.shape.shard_len, 0);
        is_whole.then_some(shard)
    }

    fn read_recovery(&self, storage: &dyn Storage, name: &FileHash, number: usize) -> Option<Vec<u8>> {
        let Shape { data, shard_len, .. } = self.shape;
        let offset = (self.shape.head_len() + number * shard_len) as u64;
        let shard = storage.read_exactly(&parity_file(name), offset, shard_len).ok()?;
        (hash_of(&shard, shard_len) == self.hashes[data + number]).then_some(shard)
    }
}

/// Checks the first bytes of the sidecar of the file `name`.
fn parse_fixed(fixed: &[u8], name: &FileHash) -> Result<Shape, &'static str> {
    if !seal::is_header_of(fixed, FileKind::Parity) {
        return Err("it does not begin as parity");
    }
    if fixed[HEADER_LEN - name.0.len()..HEADER_LEN] != name.0 {
        return Err("it is of another file");
    }
    let mut cursor = Cursor(&fixed[HEADER_LEN..]);
    let mut count = || cursor.u32().map(|count| count as usize).map_err(|_| "it ends too early");
    let shape = Shape { data: count()?, recovery: count()?, shard_len: count()?, len: count()? };
    if shape.is_possible() { Ok(shape) } else { Err("its shards are impossible") }
}

/// Fills in the data shards that are missing; `None` if there are more of them than recovery shards.
fn decode(shape: Shape, data: &mut [Option<Vec<u8>>], recovery: &[(usize, Vec<u8>)]) -> Option<()> {
    let missing: Vec<usize> = (0..data.len()).filter(|&number| data[number].is_none()).collect();
    let mut found = vec![vec![0; shape.shard_len]; missing.len()];
    let (column_len, engine) = (COLUMN_LEN.min(shape.shard_len), DefaultEngine::new());
    let mut decoder = HighRateDecoder::new(shape.data, shape.recovery, column_len, engine, None).ok()?;
    for (at, len) in shape.columns() {
        decoder.reset(shape.data, shape.recovery, len).ok()?;
        for (number, shard) in data.iter().enumerate() {
            if let Some(shard) = shard {
                decoder.add_original_shard(number, &shard[at..at + len]).ok()?;
            }
        }
        for (number, shard) in recovery {
            decoder.add_recovery_shard(*number, &shard[at..at + len]).ok()?;
        }
        let decoded = decoder.decode().ok()?;
        for (number, shard) in missing.iter().zip(&mut found) {
            shard[at..at + len].copy_from_slice(decoded.restored_original(*number)?);
        }
    }
    missing.into_iter().zip(found).for_each(|(number, shard)| data[number] = Some(shard));
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::MemoryStorage;

    const FILE: &str = "packs/file";

    fn restored(storage: &MemoryStorage, name: &FileHash) -> Option<Vec<u8>> {
        restore(storage, name, &[FILE.to_owned()])
    }

    fn checked(storage: &MemoryStorage, names: &[FileHash], deep: bool) -> Vec<(FileHash, Problem)> {
        check(storage, names, &list(storage).unwrap(), deep)
    }

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    /// A file of `len` bytes with its sidecar.
    fn protected(len: usize) -> (MemoryStorage, FileHash, Vec<u8>) {
        let (storage, bytes) = (MemoryStorage::default(), noise(len as u64, len));
        let name = FileHash::of(&bytes);
        storage.put(FILE, &bytes).unwrap();
        write(&storage, &RepositoryId([7; 16]), &name, &bytes).unwrap();
        (storage, name, bytes)
    }

    #[test]
    fn files_of_every_length_are_cut_as_the_contract_says() {
        let shape = |len| {
            let Shape { data, recovery, shard_len, .. } = Shape::of(len);
            (data, recovery, shard_len)
        };
        assert_eq!(shape(1), (1, 1, 4096));
        assert_eq!(shape(4096), (1, 1, 4096));
        assert_eq!(shape(4097), (2, 2, 4096));
        assert_eq!(shape(200 * 4096), (200, 10, 4096));
        assert_eq!(shape(200 * 4096 + 1), (101, 6, 8192));
        assert_eq!(shape(16 << 20), (196, 10, 86_016));
        for len in (1..40_000_000).step_by(99_991).chain([PROTECTED_MAX_LEN]) {
            let shape = Shape::of(len);
            assert!(shape.is_possible() && shape.data <= DATA_SHARDS, "{shape:?}");
        }
    }

    #[test]
    fn as_many_shards_as_there_is_recovery_for_come_back_and_no_more() {
        for len in [1, 4096, 4097, 40_000, 250_000, 1_000_000] {
            let (storage, name, bytes) = protected(len);
            let shape = Shape::of(len);
            assert_eq!(restored(&storage, &name).as_ref(), Some(&bytes), "nothing is lost");
            for lost in 1..=shape.recovery.min(shape.data) + 1 {
                let mut damaged = bytes.clone();
                // The last ones, and of each its last byte.
                let shards = (0..shape.data).rev().take(lost);
                shards.for_each(|shard| damaged[shard * shape.shard_len + shape.filled_len(shard) - 1] ^= 0x10);
                storage.put(FILE, &damaged).unwrap();
                let expected = (lost <= shape.recovery || shape.data <= shape.recovery).then_some(&bytes);
                assert_eq!(restored(&storage, &name).as_ref(), expected, "{lost} of {len} bytes");
            }
        }
    }

    #[test]
    fn what_is_cut_grown_or_gone_comes_back_as_far_as_there_is_recovery_for_it() {
        for len in [3000, 10_000, 250_000] {
            let (storage, name, bytes) = protected(len);
            let shape = Shape::of(len);
            let room = shape.recovery * shape.shard_len;
            for end in (0..=len).step_by(997).chain([len]) {
                storage.put(FILE, &bytes[..end]).unwrap();
                let whole_shards = if end == len { shape.data } else { end / shape.shard_len };
                let expected = (shape.data - whole_shards) * shape.shard_len <= room;
                assert_eq!(restored(&storage, &name) == Some(bytes.clone()), expected, "{end} of {len}");
            }
            storage.put(FILE, &[&bytes[..], b"more"].concat()).unwrap();
            assert_eq!(restored(&storage, &name), Some(bytes));
            storage.delete(FILE).unwrap();
            assert_eq!(restored(&storage, &name).is_some(), shape.recovery >= shape.data);
        }
    }

    #[test]
    fn every_flip_in_a_sidecar_is_noticed_and_costs_at_most_one_shard_of_recovery() {
        let (storage, name, bytes) = protected(250_000);
        let shape = Shape::of(250_000);
        assert_eq!((shape.data, shape.recovery), (62, 4));
        let file = parity_file(&name);
        let names = [name];
        assert_eq!(checked(&storage, &names, true), []);
        let mut damaged = bytes.clone();
        (0..3).for_each(|shard| damaged[shard * 20 * shape.shard_len] ^= 1);
        storage.put(FILE, &damaged).unwrap();
        let sidecar_len = storage.files()[&file].len();
        for at in (0..sidecar_len).step_by(97) {
            storage.files().get_mut(&file).unwrap()[at] ^= 4;
            assert_eq!(checked(&storage, &names, true).len(), 1, "{at}");
            assert_eq!(checked(&storage, &names, false).len(), usize::from(at < shape.head_len()), "{at}");
            assert_eq!(restored(&storage, &name).is_some(), at >= shape.head_len(), "{at}");
            storage.files().get_mut(&file).unwrap()[at] ^= 4;
        }
        for end in [0, 70, 90, shape.head_len(), sidecar_len - 1] {
            let whole = storage.files()[&file].clone();
            storage.put(&file, &whole[..end]).unwrap();
            assert_eq!(checked(&storage, &names, false).len(), 1, "{end}");
            storage.put(&file, &whole).unwrap();
        }
        delete(&storage, &name).unwrap();
        assert_eq!(checked(&storage, &names, false), [(name, Problem::new(file, "it is missing"))]);
        assert_eq!(restored(&storage, &name), None);
    }

    /// The contract's equations, in its own arithmetic.
    #[test]
    fn shards_are_a_codeword_as_the_contract_says() {
        const BASIS: [u16; 16] = [
            0x0001, 0xacca, 0x3c0e, 0x163e, 0xc582, 0xed2e, 0x914c, 0x4012, 0x6c98, 0x10d8, 0x6a72, 0xb900, 0xfdb8,
            0xfb34, 0xff38, 0x991e,
        ];
        let element =
            |number: u16| (0..16).filter(|bit| number >> bit & 1 == 1).fold(0, |sum, bit| sum ^ BASIS[bit as usize]);
        let multiply = |a: u16, b: u16| {
            let product = (0..16).filter(|bit| b >> bit & 1 == 1).fold(0u32, |sum, bit| sum ^ u32::from(a) << bit);
            (16..32).rev().fold(product, |rest, bit| rest ^ ((0x1002d << (bit - 16)) * (rest >> bit & 1))) as u16
        };
        let (storage, name, bytes) = protected(250_000);
        let shape = Shape::of(bytes.len());
        let sidecar = storage.files()[&parity_file(&name)].clone();
        let recovery = sidecar[shape.head_len()..].chunks(shape.shard_len);
        let points = (0..).zip(recovery.chain(bytes.chunks(shape.shard_len)));
        for symbol in [0, 1, 31, 32, 700, 2047] {
            let at = symbol / 32 * 64 + symbol % 32;
            let byte = |shard: &[u8], at: usize| shard.get(at).copied().unwrap_or(0);
            for power in 0..shape.recovery {
                let sum = points.clone().fold(0, |sum, (point, shard)| {
                    let value = element(u16::from_le_bytes([byte(shard, at), byte(shard, at + 32)]));
                    sum ^ (0..power).fold(value, |value, _| multiply(value, element(point)))
                });
                assert_eq!(sum, 0, "symbol {symbol}, power {power}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_sidecar_is_read_or_refused(counts: [u32; 4], small in prop::collection::vec(0u32..70, 4), body: Vec<u8>) {
            let (storage, name, bytes) = protected(9000);
            for counts in [counts, [small[0], small[1], small[2] * 64, 9000], [small[0], small[1], 4096, small[3] * 200]] {
                let mut head = seal::header(FileKind::Parity, &RepositoryId([7; 16]), &name.0).to_vec();
                head.extend(counts.map(u32::to_le_bytes).as_flattened());
                head.extend_from_slice(&body);
                if let Ok(shape) = parse_fixed(&head, &name) {
                    head.resize(shape.head_len() - CHECK_LEN, 0);
                    head.extend_from_slice(blake3::hash(&head).as_bytes());
                }
                storage.put(&parity_file(&name), &head).unwrap();
                prop_assert!(restored(&storage, &name).is_none_or(|restored| restored == bytes));
                let _ = checked(&storage, &[name], true);
            }
        }
    }
}
