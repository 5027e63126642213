//! The cipher of a blob: AES-256 in CBC mode, the initialization vector zero, under a key of the blob's own.
//!
//! On whole blocks this is a bijection: plaintext, key and [`Padding`] give the ciphertext back bit for bit, whatever
//! the padding was and even if the key is wrong.

use std::{
    io::{self, ErrorKind, Read},
    ops::Range,
};

use aws_lc_rs::{
    cipher::{AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey},
    iv::FixedLength,
};

use super::FileKey;

const BLOCK: usize = 16;
/// Bytes held at a time.
const PIECE: usize = 64 << 10;
const KEY_FITS: &str = "32 bytes are a key of AES-256";

/// What follows the plaintext of a blob in its last block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// PKCS #7, as phones write: 1 to 16 bytes, each of which is their count.
    Pkcs7,
    /// Nothing: the plaintext is whole blocks.
    None,
}

impl Padding {
    /// Splits plaintext from the padding after it, given its last block or more. What only looks like PKCS #7 counts as
    /// PKCS #7: the ciphertext rebuilt is the same.
    pub fn strip(padded: &[u8]) -> (&[u8], Padding) {
        let count = padded.last().map_or(0, |last| usize::from(*last));
        match padded.split_at_checked(padded.len().wrapping_sub(count)) {
            Some((plaintext, padding))
                if (1..=BLOCK).contains(&count) && padding.iter().all(|byte| usize::from(*byte) == count) =>
            {
                (plaintext, Padding::Pkcs7)
            }
            _ => (padded, Padding::None),
        }
    }

    /// Length of the ciphertext of so many bytes of plaintext; none if they cannot have this padding.
    pub fn ciphertext_len(self, plaintext_len: u64) -> Option<u64> {
        let rest = plaintext_len % BLOCK as u64;
        match self {
            Padding::Pkcs7 => (plaintext_len - rest).checked_add(BLOCK as u64),
            Padding::None => (rest == 0).then_some(plaintext_len),
        }
    }
}

/// Reads the plaintext of the ciphertext that `R` gives. Reading fails with [`ErrorKind::InvalidData`] where the
/// ciphertext ends within a block; whoever knows better gives no more than the whole blocks.
pub struct Decrypting<R> {
    ciphertext: R,
    key: DecryptingKey,
    /// The ciphertext block before `held`.
    previous: [u8; BLOCK],
    buffer: Vec<u8>,
    /// The plaintext in `buffer` not yet read.
    ready: Range<usize>,
    /// The ciphertext in `buffer` not yet decrypted: the last block waits until it is known whether it ends the blob.
    held: Range<usize>,
    keeps_padding: bool,
    /// Known at the end.
    padding: Option<Padding>,
}

impl<R: Read> Decrypting<R> {
    /// Reads the plaintext without its padding.
    pub fn new(ciphertext: R, key: &FileKey) -> Self {
        Decrypting {
            ciphertext,
            key: DecryptingKey::cbc(unbound(key)).expect(KEY_FITS),
            previous: [0; BLOCK],
            buffer: vec![0; PIECE],
            ready: 0..0,
            held: 0..0,
            keeps_padding: false,
            padding: None,
        }
    }

    /// Reads all blocks as they are, the padding included.
    pub fn padded(ciphertext: R, key: &FileKey) -> Self {
        Decrypting { keeps_padding: true, ..Decrypting::new(ciphertext, key) }
    }

    /// The padding; known once a read has given 0 bytes.
    pub fn padding(&self) -> Option<Padding> {
        self.padding.filter(|_| self.ready.is_empty())
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.held.clone(), 0);
        self.held = 0..self.held.len();
        let is_end = fill(&mut self.ciphertext, &mut self.buffer, &mut self.held.end)?;
        if is_end && !self.held.end.is_multiple_of(BLOCK) {
            return Err(io::Error::new(ErrorKind::InvalidData, "the ciphertext ends within a block"));
        }
        let len = if is_end { self.held.end } else { self.held.end - BLOCK };
        self.held.start = len;
        let blocks = &mut self.buffer[..len];
        let last = blocks.last_chunk().copied();
        let context = DecryptionContext::Iv128(FixedLength::from(self.previous));
        self.key.decrypt(blocks, context).map_err(io::Error::other)?;
        self.previous = last.unwrap_or(self.previous);
        self.ready = 0..len;
        if is_end {
            let (plaintext, padding) = Padding::strip(blocks);
            self.ready.end = if self.keeps_padding { len } else { plaintext.len() };
            self.padding = Some(padding);
        }
        Ok(())
    }
}

impl<R: Read> Read for Decrypting<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() && self.padding.is_none() {
            self.fill()?;
        }
        Ok(take(&self.buffer, &mut self.ready, into))
    }
}

/// Reads the ciphertext of the plaintext that `R` gives. Reading fails with [`ErrorKind::InvalidData`] where plaintext
/// without padding ends within a block.
pub struct Encrypting<R> {
    plaintext: R,
    key: EncryptingKey,
    padding: Padding,
    /// The last ciphertext block.
    previous: [u8; BLOCK],
    /// A piece, and room for its padding.
    buffer: Vec<u8>,
    /// The ciphertext in `buffer` not yet read.
    ready: Range<usize>,
    /// End of the plaintext in `buffer`.
    filled: usize,
    is_end: bool,
}

impl<R: Read> Encrypting<R> {
    /// Reads the ciphertext of the plaintext with this padding.
    pub fn new(plaintext: R, padding: Padding, key: &FileKey) -> Self {
        Encrypting {
            plaintext,
            key: EncryptingKey::cbc(unbound(key)).expect(KEY_FITS),
            padding,
            previous: [0; BLOCK],
            buffer: vec![0; PIECE + BLOCK],
            ready: 0..0,
            filled: 0,
            is_end: false,
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let is_end = fill(&mut self.plaintext, &mut self.buffer[..PIECE], &mut self.filled)?;
        let padding = match self.padding {
            Padding::Pkcs7 if is_end => BLOCK - self.filled % BLOCK,
            Padding::None if !self.filled.is_multiple_of(BLOCK) => {
                return Err(io::Error::new(ErrorKind::InvalidData, "plaintext without padding ends within a block"));
            }
            _ => 0,
        };
        let len = self.filled + padding;
        self.buffer[self.filled..len].fill(padding as u8);
        let blocks = &mut self.buffer[..len];
        let context = EncryptionContext::Iv128(FixedLength::from(self.previous));
        self.key.less_safe_encrypt(blocks, context).map_err(io::Error::other)?;
        self.previous = blocks.last_chunk().copied().unwrap_or(self.previous);
        self.ready = 0..len;
        self.filled = 0;
        self.is_end = is_end;
        Ok(())
    }
}

impl<R: Read> Read for Encrypting<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() && !self.is_end {
            self.fill()?;
        }
        Ok(take(&self.buffer, &mut self.ready, into))
    }
}

fn unbound(key: &FileKey) -> UnboundCipherKey {
    UnboundCipherKey::new(&AES_256, key.as_bytes()).expect(KEY_FITS)
}

/// Reads into `buffer` from `filled` on until it is full; true if the input ended before. After an error it can go on.
fn fill(input: &mut impl Read, buffer: &mut [u8], filled: &mut usize) -> io::Result<bool> {
    while *filled < buffer.len() {
        match input.read(&mut buffer[*filled..]) {
            Ok(0) => return Ok(true),
            Ok(count) => *filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Moves what fits from `ready` of `buffer`.
fn take(buffer: &[u8], ready: &mut Range<usize>, into: &mut [u8]) -> usize {
    let count = ready.len().min(into.len());
    into[..count].copy_from_slice(&buffer[ready.start..ready.start + count]);
    ready.start += count;
    count
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::cipher::PaddedBlockEncryptingKey;
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn key() -> FileKey {
        FileKey::new(std::array::from_fn(|index| 0xa0 + index as u8))
    }

    /// Bytes without a period that fits a piece.
    fn content(len: usize) -> Vec<u8> {
        (0..len as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    fn encrypted(plaintext: &[u8], padding: Padding) -> Vec<u8> {
        let mut ciphertext = Vec::new();
        Encrypting::new(plaintext, padding, &key()).read_to_end(&mut ciphertext).unwrap();
        ciphertext
    }

    fn decrypted(ciphertext: &[u8]) -> (Vec<u8>, Padding) {
        let (mut plaintext, mut reader) = (Vec::new(), Decrypting::new(ciphertext, &key()));
        reader.read_to_end(&mut plaintext).unwrap();
        (plaintext, reader.padding().unwrap())
    }

    /// The whole at once, by another part of the library.
    fn reference(plaintext: &[u8]) -> Vec<u8> {
        let mut ciphertext = plaintext.to_vec();
        let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(unbound(&key())).unwrap();
        cipher.less_safe_encrypt(&mut ciphertext, EncryptionContext::Iv128(FixedLength::from([0; 16]))).unwrap();
        ciphertext
    }

    /// Gives a few bytes at a time, and an error before each.
    struct Reluctant<'a> {
        bytes: &'a [u8],
        at_most: usize,
        refuses: bool,
        with: ErrorKind,
    }

    impl Read for Reluctant<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.refuses = !self.refuses;
            if self.refuses {
                return Err(self.with.into());
            }
            let at_most = self.at_most.min(into.len());
            self.bytes.read(&mut into[..at_most])
        }
    }

    /// Reads to the end, again after each error.
    fn insist(mut reader: impl Read) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), [0; 1000]);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return all,
                Ok(count) => all.extend(&buffer[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    /// NIST SP 800-38A, F.2.5. Its initialization vector goes into the first block, as CBC does with it.
    #[test]
    fn the_cipher_is_that_of_the_standard() {
        let key =
            FileKey::new(bytes("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4").try_into().unwrap());
        let mut plaintext = bytes(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
             30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        );
        let ciphertext = bytes(
            "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d\
             39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
        );
        for (byte, vector) in plaintext.iter_mut().zip(0..16) {
            *byte ^= vector;
        }
        let (mut there, mut back) = (Vec::new(), Vec::new());
        Encrypting::new(&plaintext[..], Padding::None, &key).read_to_end(&mut there).unwrap();
        Decrypting::new(&ciphertext[..], &key).read_to_end(&mut back).unwrap();
        assert_eq!((there, back), (ciphertext, plaintext));
    }

    /// Made with Python's `cryptography`.
    #[test]
    fn a_blob_encrypted_elsewhere_is_read_and_rebuilt() {
        let ciphertext = bytes("72f71c3accef9f09af7a8e9fe5d62b1c5e5d2df218cdd8acb43ec845400ee85c");
        assert_eq!(decrypted(&ciphertext), (b"heirloom keeps the whole hist".into(), Padding::Pkcs7));
        assert_eq!(encrypted(b"heirloom keeps the whole hist", Padding::Pkcs7), ciphertext);
    }

    #[test]
    fn contents_of_every_size_around_a_block_and_a_piece_survive() {
        for blocks in [0, 1, 2, PIECE / BLOCK - 1, PIECE / BLOCK, PIECE / BLOCK + 1, 3 * PIECE / BLOCK] {
            for rest in [0, 1, 8, 15] {
                let plaintext = content(blocks * BLOCK + rest);
                let ciphertext = encrypted(&plaintext, Padding::Pkcs7);
                assert!(ciphertext == reference(&plaintext), "{blocks} blocks and {rest} bytes");
                assert!(decrypted(&ciphertext) == (plaintext, Padding::Pkcs7), "{blocks} blocks and {rest} bytes");
            }
        }
    }

    #[test]
    fn it_does_not_matter_how_the_input_comes() {
        let plaintext = content(2 * PIECE + 5);
        let ciphertext = reference(&plaintext);
        for with in [ErrorKind::Interrupted, ErrorKind::WouldBlock] {
            let reluctant = |bytes| Reluctant { bytes, at_most: 7777, refuses: false, with };
            assert!(insist(Encrypting::new(reluctant(&plaintext), Padding::Pkcs7, &key())) == ciphertext);
            assert!(insist(Decrypting::new(reluctant(&ciphertext), &key())) == plaintext);
        }
    }

    #[test]
    fn what_ends_within_a_block_is_refused_for_good() {
        for len in [1, 15, 17, PIECE - 1, PIECE + 1, 2 * PIECE + 15] {
            let (ciphertext, key) = (content(len), key());
            let mut plaintext = Vec::new();
            let mut reader = Decrypting::new(&ciphertext[..], &key);
            assert_eq!(reader.read_to_end(&mut plaintext).unwrap_err().kind(), ErrorKind::InvalidData, "{len}");
            assert_eq!(reader.read(&mut [0; 99]).unwrap_err().kind(), ErrorKind::InvalidData, "{len}");
            assert_eq!(reader.padding(), None);
            let mut reader = Encrypting::new(&ciphertext[..], Padding::None, &key);
            assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap_err().kind(), ErrorKind::InvalidData, "{len}");
            assert_eq!(reader.read(&mut [0; 99]).unwrap_err().kind(), ErrorKind::InvalidData, "{len}");
        }
    }

    #[test]
    fn padding_is_known_at_the_end_alone() {
        let ciphertext = encrypted(b"two blocks of content", Padding::Pkcs7);
        let mut reader = Decrypting::new(&ciphertext[..], &key());
        let mut plaintext = [0; 21];
        assert_eq!(reader.padding(), None);
        reader.read_exact(&mut plaintext[..20]).unwrap();
        assert_eq!(reader.padding(), None);
        reader.read_exact(&mut plaintext[20..]).unwrap();
        assert_eq!((reader.read(&mut [0; 9]).unwrap(), reader.padding()), (0, Some(Padding::Pkcs7)));
        assert_eq!(&plaintext, b"two blocks of content");
    }

    #[test]
    fn only_pkcs_7_counts_as_padding() {
        let block = |end: &[u8]| [&b"................"[end.len()..], end].concat();
        for count in 1..=16 {
            let padded = block(&vec![count; count.into()]);
            assert_eq!(Padding::strip(&padded), (&padded[..16 - usize::from(count)], Padding::Pkcs7));
        }
        let zeros: &[u8] = &[0; 16];
        let seventeen: &[u8] = &[17; 32];
        let others = [block(&[0]), block(&[0, 3]), block(&[3, 2, 3]), block(&[17]), block(&[0, 0, 255])];
        for padded in others.iter().map(Vec::as_slice).chain([zeros, seventeen, &[], &[2], &[16; 15]]) {
            assert_eq!(Padding::strip(padded), (padded, Padding::None));
        }
    }

    #[test]
    fn the_length_of_a_ciphertext_follows_from_that_of_the_plaintext() {
        for len in [0, 1, 15, 16, 17, 31, 32, 100] {
            let of_blocks = (len % 16 == 0).then_some(len);
            assert_eq!(Padding::None.ciphertext_len(len), of_blocks);
            assert_eq!(Padding::Pkcs7.ciphertext_len(len), Some(reference(&content(len as usize)).len() as u64));
        }
        assert_eq!(Padding::Pkcs7.ciphertext_len(u64::MAX - 16), Some(u64::MAX - 15));
        assert_eq!(Padding::Pkcs7.ciphertext_len(u64::MAX - 15), None);
        assert_eq!(Padding::None.ciphertext_len(u64::MAX), None);
    }

    proptest! {
        /// Among them plaintexts whose padding is of no known kind, as with a wrong key.
        #[test]
        fn any_whole_blocks_are_rebuilt(
            blocks in prop::collection::vec(any::<[u8; BLOCK]>(), 0..8),
            tail in prop::collection::vec(0u8..4, BLOCK),
            decrypts_to_tail: bool,
        ) {
            let mut ciphertext = blocks.concat();
            if decrypts_to_tail {
                ciphertext = encrypted(&[ciphertext, tail].concat(), Padding::None);
            }
            let (plaintext, padding) = decrypted(&ciphertext);
            prop_assert_eq!(padding.ciphertext_len(plaintext.len() as u64), Some(ciphertext.len() as u64));
            prop_assert!(encrypted(&plaintext, padding) == ciphertext);

            let mut padded = Vec::new();
            Decrypting::padded(&ciphertext[..], &key()).read_to_end(&mut padded).unwrap();
            prop_assert_eq!(Padding::strip(&padded), (&plaintext[..], padding));
            prop_assert!(encrypted(&padded, Padding::None) == ciphertext);
        }
    }
}
