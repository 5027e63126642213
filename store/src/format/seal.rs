//! Sealed files: the header, the key that follows from it, and numbered frames (SPEC §5).
//!
//! Each file has a key of its own, so the number of a frame within its file is nonce enough, and no counter has to survive
//! anywhere.

use std::ops::Range;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use crate::{
    bytes::random,
    error::{Error, Result},
    id::{FileHash, RepositoryId},
    storage::{Storage, named::read_named_bytes},
};

/// What a sealed frame is longer than its plaintext.
pub(crate) const TAG_LEN: usize = 16;
/// The length of a sealed file's header.
pub(crate) const HEADER_LEN: usize = 64;
/// A payload is sealed in blocks of this length.
pub(crate) const BLOCK_LEN: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"heirloom";
const VERSION: u8 = 1;

/// How a repository's files are encrypted and authenticated, chosen at `init`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Cipher {
    /// For machines with AES instructions, which is nearly all.
    #[default]
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
    /// For machines without.
    #[serde(rename = "chacha20-poly1305")]
    ChaCha20Poly1305,
}

impl Cipher {
    fn algorithm(self) -> &'static Algorithm {
        match self {
            Cipher::Aes256Gcm => &AES_256_GCM,
            Cipher::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    pub(crate) fn key(self, bytes: &[u8; 32]) -> FrameKey {
        let unbound = UnboundKey::new(self.algorithm(), bytes).expect("both ciphers take 32 bytes");
        FrameKey(LessSafeKey::new(unbound))
    }
}

/// The key of one file, or of one slot.
pub(crate) struct FrameKey(LessSafeKey);

/// Which frame of its file: no two frames of a file share one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FrameNumber {
    Inner(u32),
    /// The last block of a payload, so that a file cut between blocks does not open.
    LastBlock(u32),
}

impl FrameKey {
    /// Appends the sealed form of `plaintext` to `out`.
    pub(crate) fn seal(&self, number: FrameNumber, associated: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(plaintext);
        let tag = self
            .0
            .seal_in_place_separate_tag(number.nonce(), Aad::from(associated), &mut out[start..])
            .expect("a frame is far shorter than the cipher's limit");
        out.extend_from_slice(tag.as_ref());
    }

    /// Opens `sealed` in place and leaves the plaintext in it; `None` if it was not sealed with this key, number and associated data.
    pub(crate) fn open(&self, number: FrameNumber, associated: &[u8], mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let len = self.0.open_in_place(number.nonce(), Aad::from(associated), &mut sealed).ok()?.len();
        sealed.truncate(len);
        Some(sealed)
    }
}

impl FrameNumber {
    /// Block `number` of `count`.
    fn block(number: usize, count: usize) -> FrameNumber {
        let ordinal = number as u32;
        if number + 1 == count { FrameNumber::LastBlock(ordinal) } else { FrameNumber::Inner(ordinal) }
    }

    fn nonce(self) -> Nonce {
        let (number, last) = match self {
            FrameNumber::Inner(number) => (number, 0),
            FrameNumber::LastBlock(number) => (number, 1),
        };
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        bytes[4] = last;
        Nonce::assume_unique_for_key(bytes)
    }
}

/// What a sealed file holds, by its header's ninth byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum FileKind {
    DataPack = 1,
    TreePack = 2,
    Segment = 3,
    Snapshot = 4,
    Session = 5,
    Mark = 6,
    Parity = 7,
    Parked = 8,
    Password = 9,
    Pin = 10,
}

impl FileKind {
    fn from_number(number: u8) -> Option<FileKind> {
        use FileKind::{DataPack, Mark, Parity, Parked, Password, Pin, Segment, Session, Snapshot, TreePack};
        let all = [DataPack, TreePack, Segment, Snapshot, Session, Mark, Parity, Parked, Password, Pin];
        all.into_iter().find(|&kind| kind as u8 == number)
    }
}

/// What seals the files of one repository.
pub(crate) struct Sealer {
    cipher: Cipher,
    repository: RepositoryId,
    seal_key: [u8; 32],
}

impl Sealer {
    pub(crate) fn new(cipher: Cipher, repository: RepositoryId, seal_key: [u8; 32]) -> Sealer {
        Sealer { cipher, repository, seal_key }
    }

    /// The repository whose files these are.
    pub(crate) fn repository(&self) -> &RepositoryId {
        &self.repository
    }

    /// A header with a fresh salt, and its file's key.
    pub(crate) fn begin(&self, kind: FileKind) -> Result<([u8; HEADER_LEN], FrameKey)> {
        let salt = random().map_err(Error::Random)?;
        let header = header(kind, &self.repository, &salt);
        let key = self.key(&header, &[]);
        Ok((header, key))
    }

    /// The key of a file that begins so. What of it is not sealed is authentic only if what is sealed opens.
    fn key(&self, header: &[u8], clear: &[u8]) -> FrameKey {
        let mut hasher = blake3::Hasher::new_keyed(&self.seal_key);
        self.cipher.key(hasher.update(header).update(clear).finalize().as_bytes())
    }

    /// The key of the file that begins with `header`, once everything in it is as it must be. `file` is for the error.
    pub(crate) fn resume(&self, kinds: &[FileKind], header: &[u8], file: &str) -> Result<(FileKind, FrameKey)> {
        self.resume_after(kinds, header, &[], file)
    }

    /// The same of a file that has a clear part between its header and what is sealed.
    pub(crate) fn resume_after(
        &self,
        kinds: &[FileKind],
        header: &[u8],
        clear: &[u8],
        file: &str,
    ) -> Result<(FileKind, FrameKey)> {
        let kind = check_header(kinds, header, &self.repository, file)?;
        Ok((kind, self.key(header, clear)))
    }

    /// A whole file of `kind` (not a pack) with `payload`.
    pub(crate) fn seal_payload(&self, kind: FileKind, payload: &[u8]) -> Result<Vec<u8>> {
        self.seal_after(kind, &[], payload)
    }

    /// The same with a clear part after the header.
    pub(crate) fn seal_after(&self, kind: FileKind, clear: &[u8], payload: &[u8]) -> Result<Vec<u8>> {
        let (header, _) = self.begin(kind)?;
        Ok(seal_blocks(&[&header, clear].concat(), &self.key(&header, clear), payload))
    }

    /// The payload of a whole file that [`seal_payload`](Sealer::seal_payload) made.
    pub(crate) fn open_payload(&self, kind: FileKind, bytes: &[u8], file: &str) -> Result<Vec<u8>> {
        let header = &bytes[..HEADER_LEN.min(bytes.len())];
        let (_, key) = self.resume(&[kind], header, file)?;
        let mut payload = Vec::with_capacity(bytes.len() - HEADER_LEN);
        let read = |offset: u64, len: usize| Ok(bytes[offset as usize..][..len].to_vec());
        let whole = HEADER_LEN as u64..bytes.len() as u64;
        key.open_blocks(whole, read, file, &mut |block| payload.extend_from_slice(block))?;
        Ok(payload)
    }
}

impl FrameKey {
    /// Opens the blocks of a payload that lies at `range` of a file, and gives them to `each`, one after another.
    pub(crate) fn open_blocks(
        &self,
        range: Range<u64>,
        read: impl Fn(u64, usize) -> Result<Vec<u8>>,
        file: &str,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        const SEALED_LEN: u64 = (BLOCK_LEN + TAG_LEN) as u64;
        let len = range.end.saturating_sub(range.start);
        // An empty payload is still one block, so a file of only a header is a truncated one.
        if len == 0 {
            return Err(Error::damaged(file, "it ends after its header"));
        }
        let count = len.div_ceil(SEALED_LEN) as usize;
        for (number, offset) in (range.start..range.end).step_by(SEALED_LEN as usize).enumerate() {
            let sealed = read(offset, SEALED_LEN.min(range.end - offset) as usize)?;
            match self.open(FrameNumber::block(number, count), &[], sealed) {
                Some(plain) => each(&plain),
                None => return Err(Error::damaged(file, format!("block {number} is not what was written"))),
            }
        }
        if count > 1 && len % SEALED_LEN == TAG_LEN as u64 {
            return Err(Error::damaged(file, "it ends in an empty block"));
        }
        Ok(())
    }
}

/// The kind of the file that begins with `header`, if it is one of `kinds` and of this repository. Whether the header is
/// authentic takes the key, and with another version or kind the file's name: callers compare that before they believe
/// [`Error::Unsupported`].
pub(crate) fn check_header(
    kinds: &[FileKind],
    header: &[u8],
    repository: &RepositoryId,
    file: &str,
) -> Result<FileKind> {
    let header: &[u8; HEADER_LEN] =
        header.try_into().map_err(|_| Error::damaged(file, "it is shorter than its header"))?;
    if &header[..8] != MAGIC {
        return Err(Error::damaged(file, "it does not begin as a file of a repository"));
    }
    if header[8] != VERSION {
        return Err(Error::newer(file, format!("file version {}", header[8])));
    }
    if &header[16..32] != repository.as_bytes() {
        return Err(Error::damaged(file, "it belongs to another repository"));
    }
    let not_of_its_kind = || Error::damaged(file, "its header is not one of its kind");
    match FileKind::from_number(header[9]) {
        _ if header[10..16] != [0; 6] => Err(not_of_its_kind()),
        Some(kind) if kinds.contains(&kind) => Ok(kind),
        None if header[9] != 0 => Err(Error::newer(file, format!("files of kind {}", header[9]))),
        _ => Err(not_of_its_kind()),
    }
}

/// How a file of `kind` begins. What is not sealed has something else than a salt.
pub(crate) fn header(kind: FileKind, repository: &RepositoryId, salt: &[u8; 32]) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(MAGIC);
    header[8] = VERSION;
    header[9] = kind as u8;
    header[16..32].copy_from_slice(repository.as_bytes());
    header[32..].copy_from_slice(salt);
    header
}

/// Whether a file that begins with `bytes` is one of `kind`, of whatever repository.
pub(crate) fn is_header_of(bytes: &[u8], kind: FileKind) -> bool {
    bytes.len() >= HEADER_LEN
        && &bytes[..8] == MAGIC
        && bytes[8] == VERSION
        && bytes[9] == kind as u8
        && bytes[10..16] == [0; 6]
}

/// A whole file that begins with `begin`, its header and what is clear.
pub(crate) fn seal_blocks(begin: &[u8], key: &FrameKey, payload: &[u8]) -> Vec<u8> {
    let blocks = payload.len().div_ceil(BLOCK_LEN).max(1);
    let mut bytes = Vec::with_capacity(begin.len() + payload.len() + blocks * TAG_LEN);
    bytes.extend_from_slice(begin);
    for number in 0..blocks {
        let end = payload.len().min((number + 1) * BLOCK_LEN);
        key.seal(FrameNumber::block(number, blocks), &[], &payload[number * BLOCK_LEN..end], &mut bytes);
    }
    bytes
}

/// The payload of a file that is named by its hash.
pub(crate) fn read_named(
    storage: &dyn Storage,
    sealer: &Sealer,
    kind: FileKind,
    file: &str,
    name: &FileHash,
    len: u64,
) -> Result<Vec<u8>> {
    sealer.open_payload(kind, &read_named_bytes(storage, file, name, len)?, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(cipher: Cipher) -> Sealer {
        Sealer::new(cipher, RepositoryId([7; 16]), [9; 32])
    }

    #[test]
    fn payloads_of_every_length_go_round_and_every_flip_is_noticed() {
        for cipher in [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
            let sealer = sealer(cipher);
            for len in [0, 1, BLOCK_LEN - 1, BLOCK_LEN, BLOCK_LEN + 1] {
                let payload = vec![5; len];
                let file = sealer.seal_payload(FileKind::Snapshot, &payload).unwrap();
                assert_eq!(sealer.open_payload(FileKind::Snapshot, &file, "x").unwrap(), payload);
                assert!(sealer.open_payload(FileKind::Segment, &file, "x").is_err());
                for at in (0..HEADER_LEN).chain([HEADER_LEN, file.len() / 2, file.len() - 1]) {
                    let mut damaged = file.clone();
                    damaged[at.min(file.len() - 1)] ^= 1;
                    assert!(sealer.open_payload(FileKind::Snapshot, &damaged, "x").is_err(), "{len} {at}");
                }
                for end in [0, 8, HEADER_LEN, file.len() - 1, (HEADER_LEN + BLOCK_LEN + TAG_LEN).min(file.len() - 1)] {
                    assert!(sealer.open_payload(FileKind::Snapshot, &file[..end], "x").is_err(), "{len} {end}");
                }
            }
        }
    }
}
