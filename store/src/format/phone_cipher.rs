//! Files that the phone encrypted, kept as plaintext with what rebuilds their ciphertext bit for bit (SPEC §9).
//!
//! A phone encrypts each file by AES-256 in CBC mode under a key of the file's own, the initialization vector zero, padded by PKCS #7. On whole blocks that
//! is a bijection: the plaintext of all blocks and the key give the ciphertext back, whatever the padding was and even if the key is wrong.

use std::{
    fmt,
    io::{self, ErrorKind, Read},
};

use aes::{
    Aes256Enc,
    cipher::{Array, BlockCipherEncrypt, KeyInit},
};
use aws_lc_rs::{
    cipher::{AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey},
    iv::FixedLength,
};
use zeroize::Zeroize;

use crate::{
    bytes::{Cursor, put_varint},
    error::Refused,
};

const BLOCK: usize = 16;
/// Ciphertext held at a time.
const PIECE: usize = 64 << 10;
/// The only cipher there is.
const AES_256_CBC: u8 = 1;

/// How the bytes of a file in the backup folder are made of the plaintext that is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealing {
    key: [u8; 32],
    /// Bytes of plaintext; what the ciphertext has more is padding.
    pub(crate) plaintext_len: u64,
}

impl Sealing {
    /// Whether ciphertext of this length can be rebuilt from plaintext: phones write whole blocks, and at least one.
    pub fn is_possible(ciphertext_len: u64) -> bool {
        ciphertext_len > 0 && ciphertext_len.is_multiple_of(BLOCK as u64)
    }

    pub(crate) fn emit(&self) -> Vec<u8> {
        let mut bytes = vec![AES_256_CBC];
        bytes.extend_from_slice(&self.key);
        put_varint(&mut bytes, self.plaintext_len);
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Sealing, Refused> {
        let short = |_| "an entry's sealing ends too early";
        let mut cursor = Cursor(bytes);
        match cursor.u8().map_err(short)? {
            AES_256_CBC => {}
            0 => return Err("an entry is sealed by no cipher".into()),
            cipher => return Err(Refused::Newer(format!("the cipher {cipher} of files of phones"))),
        }
        let sealing = Sealing { key: cursor.array().map_err(short)?, plaintext_len: cursor.varint().map_err(short)? };
        if cursor.is_empty() { Ok(sealing) } else { Err("an entry's sealing goes on after its end".into()) }
    }

    /// Whether `ciphertext_len` bytes can be made of the plaintext.
    pub(crate) fn fits(&self, ciphertext_len: u64) -> bool {
        let padding = ciphertext_len.checked_sub(self.plaintext_len);
        Sealing::is_possible(ciphertext_len) && padding.is_some_and(|padding| padding <= BLOCK as u64)
    }

    /// The same under another key.
    pub(crate) fn with_key(self, key: &[u8; 32]) -> Sealing {
        Sealing { key: *key, plaintext_len: self.plaintext_len }
    }
}

impl Drop for Sealing {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl fmt::Debug for Sealing {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").field("plaintext_len", &self.plaintext_len).finish_non_exhaustive()
    }
}

/// Reads the plaintext of ciphertext. Proves on the way that the plaintext gives the same ciphertext again, and hashes that.
pub(crate) struct Unsealing<'r> {
    ciphertext: &'r mut dyn Read,
    key: [u8; 32],
    decrypting: DecryptingKey,
    proof: Proof,
    /// The last block of ciphertext.
    previous: [u8; BLOCK],
    /// Of the ciphertext so far.
    pub(crate) hasher: blake3::Hasher,
    pub(crate) ciphertext_len: u64,
    piece: Vec<u8>,
    buffer: Vec<u8>,
    /// Plaintext of `buffer` that was not read yet.
    ready: std::ops::Range<usize>,
    /// The last block of plaintext: it is the end, or goes before the next piece.
    held: Option<[u8; BLOCK]>,
    is_at_end: bool,
}

impl<'r> Unsealing<'r> {
    pub(crate) fn new(ciphertext: &'r mut dyn Read, key: &[u8; 32]) -> Unsealing<'r> {
        Unsealing {
            ciphertext,
            key: *key,
            decrypting: DecryptingKey::cbc(unbound(key)).expect(KEY_FITS),
            proof: Proof { key: Aes256Enc::new(key.into()), blocks: Vec::new() },
            previous: [0; BLOCK],
            hasher: blake3::Hasher::new(),
            ciphertext_len: 0,
            piece: Vec::new(),
            buffer: Vec::new(),
            ready: 0..0,
            held: None,
            is_at_end: false,
        }
    }

    /// What gives the ciphertext back, of which `plaintext_len` bytes came out here.
    pub(crate) fn sealing(&self, plaintext_len: u64) -> Sealing {
        Sealing { key: self.key, plaintext_len }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.piece.clear();
        self.piece.reserve_exact(PIECE);
        (&mut *self.ciphertext).take(PIECE as u64).read_to_end(&mut self.piece)?;
        let ciphertext = self.piece.as_slice();
        if !ciphertext.len().is_multiple_of(BLOCK) {
            return Err(io::Error::new(ErrorKind::InvalidData, "the ciphertext ends within a block"));
        }
        self.is_at_end = ciphertext.len() < PIECE;
        self.hasher.update(ciphertext);
        self.ciphertext_len += ciphertext.len() as u64;
        self.buffer.clear();
        self.buffer.extend(self.held.take().into_iter().flatten());
        let start = self.buffer.len();
        self.buffer.extend_from_slice(ciphertext);
        let context = DecryptionContext::Iv128(FixedLength::from(self.previous));
        self.decrypting.decrypt(&mut self.buffer[start..], context).map_err(io::Error::other)?;
        if !self.proof.holds(&self.buffer[start..], &self.previous, ciphertext) {
            return Err(io::Error::new(ErrorKind::InvalidData, "the plaintext does not give the ciphertext back"));
        }
        self.previous = ciphertext.last_chunk().copied().unwrap_or(self.previous);
        let mut end = self.buffer.len();
        if self.is_at_end {
            end -= padding_of(&self.buffer);
        } else {
            self.held = self.buffer.last_chunk().copied();
            end -= BLOCK;
        }
        self.ready = 0..end;
        Ok(())
    }
}

impl Read for Unsealing<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !self.is_at_end {
            self.fill()?;
        }
        let count = self.ready.len().min(into.len());
        into[..count].copy_from_slice(&self.buffer[self.ready.start..][..count]);
        self.ready.start += count;
        Ok(count)
    }
}

impl Drop for Unsealing<'_> {
    fn drop(&mut self) {
        self.key.zeroize();
        self.buffer.zeroize();
        self.proof.blocks.zeroize();
    }
}

/// Encrypts again, by another program than the one that decrypted. Because the ciphertext is known, no block waits for the one before it: this takes a
/// tenth of the time of making it.
struct Proof {
    key: Aes256Enc,
    blocks: Vec<u8>,
}

impl Proof {
    /// Whether whole blocks of plaintext give `ciphertext`, of which `previous` is the block before.
    fn holds(&mut self, plaintext: &[u8], previous: &[u8; BLOCK], ciphertext: &[u8]) -> bool {
        self.blocks.clear();
        self.blocks.extend_from_slice(plaintext);
        let (first, others) = self.blocks.split_at_mut(BLOCK.min(plaintext.len()));
        mix(first, previous);
        mix(others, ciphertext);
        self.key.encrypt_blocks(Array::slice_as_chunks_mut(&mut self.blocks).0);
        self.blocks == ciphertext
    }
}

/// Exclusive or, as far as the shorter goes.
fn mix(bytes: &mut [u8], with: &[u8]) {
    bytes.iter_mut().zip(with).for_each(|(byte, with)| *byte ^= with);
}

/// How many bytes at the end are PKCS #7's. What only looks like it may be taken for it: the ciphertext rebuilt is the same.
fn padding_of(plaintext: &[u8]) -> usize {
    let count = plaintext.last().map_or(0, |&last| usize::from(last));
    let is_padding = (1..=BLOCK).contains(&count)
        && count <= plaintext.len()
        && plaintext[plaintext.len() - count..].iter().all(|&byte| usize::from(byte) == count);
    if is_padding { count } else { 0 }
}

/// Makes ciphertext of plaintext, piece by piece.
pub(crate) struct Resealing {
    key: EncryptingKey,
    previous: [u8; BLOCK],
    /// Plaintext that fills no block yet.
    rest: Vec<u8>,
}

impl Resealing {
    fn new(key: &[u8; 32]) -> Resealing {
        let key = EncryptingKey::cbc(unbound(key)).expect(KEY_FITS);
        Resealing { key, previous: [0; BLOCK], rest: Vec::new() }
    }

    /// Of a file that is kept by `sealing`.
    pub(crate) fn of(sealing: &Sealing) -> Resealing {
        Resealing::new(&sealing.key)
    }

    /// The ciphertext of the blocks that `plaintext` completes.
    pub(crate) fn seal(&mut self, plaintext: &[u8]) -> io::Result<Vec<u8>> {
        let mut blocks = std::mem::take(&mut self.rest);
        blocks.extend_from_slice(plaintext);
        self.rest = blocks.split_off(blocks.len() - blocks.len() % BLOCK);
        let context = EncryptionContext::Iv128(FixedLength::from(self.previous));
        self.key.less_safe_encrypt(&mut blocks, context).map_err(io::Error::other)?;
        self.previous = blocks.last_chunk().copied().unwrap_or(self.previous);
        Ok(blocks)
    }

    /// The ciphertext of the rest, and of the padding that makes all of it `ciphertext_len` bytes.
    pub(crate) fn finish(mut self, sealing: &Sealing, ciphertext_len: u64) -> io::Result<Vec<u8>> {
        let padding = ciphertext_len.saturating_sub(sealing.plaintext_len).min(BLOCK as u64) as usize;
        self.seal(&[padding as u8; BLOCK][..padding])
    }
}

const KEY_FITS: &str = "32 bytes are a key of AES-256";

fn unbound(key: &[u8; 32]) -> UnboundCipherKey {
    UnboundCipherKey::new(&AES_256, key).expect(KEY_FITS)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        Details, Entry, Error, ExportOptions, Kind, MemoryStorage, Name, Options, Repository, Source, TreePath,
    };

    /// NIST SP 800-38A, F.2.5: CBC-AES256, but for the vector, which is zero here: the first block is as if mixed with theirs.
    #[test]
    fn it_is_aes_256_in_cbc_mode() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let key = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4").try_into().unwrap();
        let vector = hex("000102030405060708090a0b0c0d0e0f");
        let mut plaintext = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
        plaintext.iter_mut().zip(&vector).for_each(|(byte, mixed)| *byte ^= mixed);
        let ciphertext = hex("f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d");
        assert_eq!(Resealing::new(&key).seal(&plaintext).unwrap(), ciphertext);
    }

    fn round_trip(ciphertext: &[u8], key: &[u8; 32], step: usize) -> (Vec<u8>, Vec<u8>) {
        let mut source = ciphertext;
        let mut unsealing = Unsealing::new(&mut source, key);
        let mut plaintext = Vec::new();
        unsealing.read_to_end(&mut plaintext).unwrap();
        assert_eq!(unsealing.hasher.finalize(), blake3::hash(ciphertext));
        let sealing = unsealing.sealing(plaintext.len() as u64);
        assert_eq!(Sealing::parse(&sealing.emit()).as_ref(), Ok(&sealing));
        assert!(sealing.fits(ciphertext.len() as u64));
        let mut resealing = Resealing::of(&sealing);
        let mut rebuilt: Vec<u8> = plaintext.chunks(step).flat_map(|piece| resealing.seal(piece).unwrap()).collect();
        rebuilt.extend(resealing.finish(&sealing, ciphertext.len() as u64).unwrap());
        (plaintext, rebuilt)
    }

    proptest! {
        #[test]
        fn any_blocks_under_any_key_come_back(blocks in prop::collection::vec(any::<[u8; 16]>(), 1..300), key: [u8; 32], step in 1usize..5000) {
            let ciphertext = blocks.concat();
            prop_assert!(round_trip(&ciphertext, &key, step).1 == ciphertext);
        }

        #[test]
        fn what_a_phone_encrypts_comes_out_without_padding(plaintext: Vec<u8>, key: [u8; 32]) {
            let padding = BLOCK - plaintext.len() % BLOCK;
            let mut resealing = Resealing::new(&key);
            let padded = [plaintext.as_slice(), &vec![padding as u8; padding]].concat();
            let ciphertext = resealing.seal(&padded).unwrap();
            prop_assert!(round_trip(&ciphertext, &key, 1000) == (plaintext, ciphertext));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(sealing) = Sealing::parse(&bytes) {
                prop_assert!(sealing.emit().len() <= bytes.len());
            }
        }
    }

    #[test]
    fn long_files_come_back_at_every_end_of_a_piece() {
        for len in [PIECE - BLOCK, PIECE, PIECE + BLOCK, 3 * PIECE] {
            let ciphertext: Vec<u8> = (0..len).map(|at| (at * 7 % 251) as u8).collect();
            assert_eq!(round_trip(&ciphertext, &[9; 32], 70_000).1, ciphertext);
        }
    }

    #[test]
    fn what_ends_within_a_block_is_refused() {
        let mut plaintext = Vec::new();
        let error = Unsealing::new(&mut &[1u8; 40][..], &[0; 32]).read_to_end(&mut plaintext).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(!Sealing::is_possible(40) && !Sealing::is_possible(0) && Sealing::is_possible(48));
    }

    #[test]
    fn a_file_under_two_keys_is_kept_once_and_comes_back_under_each() {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage, None, &Options::default()).unwrap();
        let plaintext: Vec<u8> = (0..300_001u32).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let place = |key: u8| Name::of_place(&TreePath::new(&format!("file{key}")).unwrap());
        let sealed = |key: u8| {
            let mut resealing = Resealing::new(&[key; 32]);
            let padding = BLOCK - plaintext.len() % BLOCK;
            [resealing.seal(&plaintext).unwrap(), resealing.seal(&vec![padding as u8; padding]).unwrap()].concat()
        };
        let mut writer = repository.write("phone").unwrap();
        for key in [1, 2] {
            let ciphertext = sealed(key);
            let content = writer.store_sealed(None, &mut ciphertext.as_slice(), &[key; 32]).unwrap();
            assert_eq!((content.length, content.plaintext_len()), (ciphertext.len() as u64, plaintext.len() as u64));
            writer.put(&place(key), &Entry { content: Some(content), ..Entry::new(Kind::File) }).unwrap();
        }
        assert!(writer.store_sealed(None, &mut [0; 40].as_slice(), &[1; 32]).is_err(), "no whole blocks");
        let (snapshot, stats) = writer.commit(Details::new(1, Source::Import)).unwrap();
        assert!(snapshot.record.sealed && stats.added_bytes < 1_300_000, "{stats:?}");

        let dir = tempfile::tempdir().unwrap();
        let reader = repository.read(&snapshot).unwrap();
        let target = dir.path().join("out");
        crate::export(&reader, &target, &ExportOptions::default(), &|_| std::ops::ControlFlow::Continue(())).unwrap();
        for key in [1, 2] {
            let content = reader.get(&place(key)).unwrap().unwrap().content.unwrap();
            let (mut folder, mut user) = (Vec::new(), Vec::new());
            reader.read_file(&content, &mut folder).unwrap();
            reader.read_plaintext(&content, &mut user).unwrap();
            assert!(folder == sealed(key) && user == plaintext);
            assert!(std::fs::read(target.join(format!("file{key}"))).unwrap() == sealed(key));
            let mut writer = repository.write("phone").unwrap();
            let copied = writer.store_copy(&place(key), &content, &mut plaintext.as_slice()).unwrap();
            assert_eq!(copied, content, "the same chunks in the same repository");
            for (of, bytes) in
                [(content.clone().with_key(&[9; 32]), &plaintext[..]), (content.clone(), &plaintext[1..])]
            {
                let copied = writer.store_copy(&place(key), &of, &mut &*bytes);
                assert!(matches!(copied, Err(Error::WrongContent)));
            }
            drop(writer);
            let other = content.with_key(&[9; 32]);
            assert!(matches!(reader.read_file(&other, &mut Vec::new()), Err(Error::WrongContent)), "another key");
        }
    }
}
