//! The plaintext of a file that the phone encrypted, read at any place: AES-256 in CBC mode, the initialization vector zero, under a key of the file's
//! own. A block needs nothing but the ciphertext block before it.

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};

use aws_lc_rs::{
    cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey},
    iv::FixedLength,
};
use zeroize::Zeroize;

use super::FileKey;

const BLOCK: usize = 16;
/// Bytes decrypted at a time: a few pages of a database.
const PIECE: usize = 16 << 10;

/// Reads the plaintext of `R`, without its padding.
pub struct Decrypted<R> {
    ciphertext: R,
    key: DecryptingKey,
    /// Bytes of ciphertext, and of plaintext.
    sealed_len: u64,
    len: u64,
    /// Where the next read begins.
    at: u64,
    /// The plaintext from `start` on that was decrypted last.
    piece: Vec<u8>,
    start: u64,
}

impl<R: Read + Seek> Decrypted<R> {
    /// Begins at the start of the plaintext.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] if the ciphertext does not consist of whole blocks; what `ciphertext` says.
    pub fn new(mut ciphertext: R, key: &FileKey) -> io::Result<Self> {
        let sealed_len = ciphertext.seek(SeekFrom::End(0))?;
        if !sealed_len.is_multiple_of(BLOCK as u64) {
            return Err(io::Error::new(ErrorKind::InvalidData, "the ciphertext ends within a block"));
        }
        let key = UnboundCipherKey::new(&AES_256, key.as_bytes()).and_then(DecryptingKey::cbc);
        let key = key.map_err(io::Error::other)?;
        let mut decrypted =
            Decrypted { ciphertext, key, sealed_len, len: sealed_len, at: 0, piece: Vec::new(), start: 0 };
        if sealed_len > 0 {
            decrypted.load(sealed_len - BLOCK as u64)?;
            decrypted.len -= padding_of(&decrypted.piece) as u64;
        }
        Ok(decrypted)
    }

    /// Decrypts from `start`, the begin of a block, on.
    fn load(&mut self, start: u64) -> io::Result<()> {
        let before = start.min(BLOCK as u64);
        let len = (self.sealed_len - start).min(PIECE as u64);
        self.piece.zeroize();
        self.ciphertext.seek(SeekFrom::Start(start - before))?;
        let mut vector = [0; BLOCK];
        self.ciphertext.read_exact(&mut vector[..before as usize])?;
        self.piece.resize(len as usize, 0);
        let read = self.ciphertext.read_exact(&mut self.piece);
        let context = DecryptionContext::Iv128(FixedLength::from(vector));
        let decrypted =
            read.and_then(|()| self.key.decrypt(&mut self.piece, context).map(drop).map_err(io::Error::other));
        if decrypted.is_err() {
            self.piece.clear();
        }
        self.start = start;
        decrypted
    }
}

impl<R: Read + Seek> Read for Decrypted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(self.at)).unwrap_or(usize::MAX).min(into.len());
        if left == 0 {
            return Ok(0);
        }
        if !(self.start..self.start + self.piece.len() as u64).contains(&self.at) {
            self.load(self.at / PIECE as u64 * PIECE as u64)?;
        }
        let ready = &self.piece[(self.at - self.start) as usize..];
        let count = ready.len().min(left);
        into[..count].copy_from_slice(&ready[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl<R> Seek for Decrypted<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl<R> Drop for Decrypted<R> {
    fn drop(&mut self) {
        self.piece.zeroize();
    }
}

/// How many of the last bytes are PKCS #7's: 1 to 16, each of them that number. Anything else is none.
fn padding_of(plaintext: &[u8]) -> usize {
    let count = plaintext.last().map_or(0, |&last| usize::from(last));
    let is_padding = (1..=BLOCK).contains(&count)
        && plaintext
            .len()
            .checked_sub(count)
            .is_some_and(|at| plaintext[at..].iter().all(|&byte| usize::from(byte) == count));
    if is_padding { count } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext, PaddedBlockEncryptingKey};
    use proptest::prelude::*;

    use super::*;

    fn unbound() -> UnboundCipherKey {
        UnboundCipherKey::new(&AES_256, &[7; 32]).unwrap()
    }

    fn vector() -> EncryptionContext {
        EncryptionContext::Iv128(FixedLength::from([0; BLOCK]))
    }

    /// As phones do it.
    fn padded(plaintext: &[u8]) -> Vec<u8> {
        let mut bytes = plaintext.to_vec();
        PaddedBlockEncryptingKey::cbc_pkcs7(unbound()).unwrap().less_safe_encrypt(&mut bytes, vector()).unwrap();
        bytes
    }

    fn decrypted(ciphertext: Vec<u8>) -> io::Result<Decrypted<Cursor<Vec<u8>>>> {
        Decrypted::new(Cursor::new(ciphertext), &FileKey::new([7; 32]))
    }

    proptest! {
        #[test]
        fn any_part_reads_as_it_was(len in 0usize..60_000, reads in prop::collection::vec((0usize..70_000, 0usize..9000), 1..20)) {
            let plaintext: Vec<u8> = (0..len).map(|n| ((n * 31) >> 3) as u8).collect();
            let mut source = decrypted(padded(&plaintext)).unwrap();
            prop_assert_eq!(source.seek(SeekFrom::End(0)).unwrap(), len as u64);
            for (at, count) in reads {
                source.seek(SeekFrom::Start(at as u64)).unwrap();
                let mut read = Vec::new();
                (&mut source).take(count as u64).read_to_end(&mut read).unwrap();
                let expected = plaintext.get(at..).unwrap_or_default();
                prop_assert_eq!(read, &expected[..count.min(expected.len())]);
            }
        }
    }

    #[test]
    fn blocks_without_padding_are_all_plaintext_and_half_a_block_is_refused() {
        let plaintext = [vec![9; 31], vec![0]].concat();
        let mut bytes = plaintext.clone();
        EncryptingKey::cbc(unbound()).unwrap().less_safe_encrypt(&mut bytes, vector()).unwrap();
        let mut read = Vec::new();
        decrypted(bytes.clone()).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, plaintext);
        assert_eq!(decrypted(bytes[..20].to_vec()).err().map(|error| error.kind()), Some(ErrorKind::InvalidData));
        assert_eq!(decrypted(Vec::new()).unwrap().read(&mut [0; 9]).unwrap(), 0);
    }
}
