//! The keybag of an encrypted backup and the ciphers around it: class keys wrapped (RFC 3394) under a key from the
//! password, file keys wrapped under class keys, contents in AES-256-CBC with an IV of zeros and PKCS #7.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, StreamingDecryptingKey, StreamingEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::key_wrap::{self, AesKek, KeyWrap};
use aws_lc_rs::{pbkdf2, rand};

/// A key of AES-256.
pub(super) type Key = [u8; 32];

const CLASSES: [u32; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];
const PIECE: usize = 32 << 10;

/// A backup's keys.
#[derive(Clone)]
pub(crate) struct Keybag {
    password: String,
    /// As in Manifest.plist: each entry a tag of four letters, a length in four bytes big endian, a value.
    blob: Vec<u8>,
    classes: BTreeMap<u32, Key>,
}

impl Keybag {
    /// A fresh keybag. The password passes PBKDF2 twice: SHA-256 in `rounds` × 100, then SHA-1 in `rounds`.
    pub(crate) fn new(password: &str, rounds: u32) -> io::Result<Keybag> {
        let (salt, second_salt): ([u8; 20], [u8; 20]) = (random()?, random()?);
        let first_rounds = rounds.saturating_mul(100);
        let key = derive(password, &second_salt, first_rounds, &salt, rounds)?;
        let mut blob = Vec::new();
        let mut entry = |tag: &[u8; 4], value: &[u8]| {
            blob.extend(tag);
            blob.extend((value.len() as u32).to_be_bytes());
            blob.extend(value);
        };
        entry(b"VERS", &5u32.to_be_bytes());
        entry(b"TYPE", &1u32.to_be_bytes());
        entry(b"UUID", &random::<16>()?);
        entry(b"HMCK", &random::<40>()?);
        entry(b"WRAP", &1u32.to_be_bytes());
        entry(b"SALT", &salt);
        entry(b"ITER", &rounds.to_be_bytes());
        entry(b"DPWT", &1u32.to_be_bytes());
        entry(b"DPIC", &first_rounds.to_be_bytes());
        entry(b"DPSL", &second_salt);
        let mut classes = BTreeMap::new();
        for class in CLASSES {
            let class_key = random()?;
            entry(b"UUID", &random::<16>()?);
            entry(b"CLAS", &class.to_be_bytes());
            entry(b"WRAP", &2u32.to_be_bytes());
            entry(b"KTYP", &0u32.to_be_bytes());
            entry(b"WPKY", &wrap(&key, &class_key)?);
            classes.insert(class, class_key);
        }
        Ok(Keybag { password: password.to_owned(), blob, classes })
    }

    /// Opens the keybag of a backup; none if it makes no sense or the password is wrong.
    pub(super) fn open(blob: &[u8], password: &str) -> Option<Keybag> {
        let entries = entries(blob)?;
        let head = |tag: &[u8; 4]| entries.iter().find(|(name, _)| *name == tag).map(|(_, value)| *value);
        let number = |value: &[u8]| value.try_into().ok().map(u32::from_be_bytes);
        let (first, second) = (number(head(b"DPIC")?)?, number(head(b"ITER")?)?);
        let key = derive(password, head(b"DPSL")?, first, head(b"SALT")?, second).ok()?;
        let mut classes = BTreeMap::new();
        let mut class = 0;
        for (tag, value) in &entries {
            match *tag {
                b"CLAS" => class = number(value)?,
                b"WPKY" => drop(classes.insert(class, unwrap(&key, value)?)),
                _ => {}
            }
        }
        Some(Keybag { password: password.to_owned(), blob: blob.to_vec(), classes })
    }

    pub(super) fn is_password(&self, password: &str) -> bool {
        self.password == password
    }

    pub(super) fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// `key` as it stands in a manifest: the class in four bytes little endian, and the key wrapped under the class's.
    pub(super) fn seal(&self, class: u32, key: &Key) -> io::Result<Vec<u8>> {
        let class_key = self.classes.get(&class).ok_or_else(|| io::Error::other("no such class"))?;
        Ok([&class.to_le_bytes()[..], &wrap(class_key, key)?].concat())
    }

    /// The inverse of [`seal`](Self::seal); none if it is not of this keybag.
    pub(super) fn unseal(&self, sealed: &[u8]) -> Option<Key> {
        let (class, wrapped) = sealed.split_first_chunk::<4>()?;
        unwrap(self.classes.get(&u32::from_le_bytes(*class))?, wrapped)
    }
}

fn entries(blob: &[u8]) -> Option<Vec<(&[u8; 4], &[u8])>> {
    let (mut entries, mut rest) = (Vec::new(), blob);
    while !rest.is_empty() {
        let (tag, after) = rest.split_first_chunk::<4>()?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let (value, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        entries.push((tag, value));
        rest = after;
    }
    Some(entries)
}

pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

fn derive(password: &str, first_salt: &[u8], first: u32, second_salt: &[u8], second: u32) -> io::Result<Key> {
    let rounds = |rounds| NonZeroU32::new(rounds).ok_or_else(|| io::Error::other("no rounds"));
    let (mut between, mut key) = ([0; 32], [0; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds(first)?, first_salt, password.as_bytes(), &mut between);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA1, rounds(second)?, second_salt, &between, &mut key);
    Ok(key)
}

fn wrap(under: &Key, key: &Key) -> io::Result<Vec<u8>> {
    let mut wrapped = [0; 40];
    let kek = AesKek::new(&key_wrap::AES_256, under).map_err(io::Error::other)?;
    Ok(kek.wrap(key, &mut wrapped).map_err(io::Error::other)?.to_vec())
}

fn unwrap(under: &Key, wrapped: &[u8]) -> Option<Key> {
    let mut key = [0; 40];
    AesKek::new(&key_wrap::AES_256, under).ok()?.unwrap(wrapped, &mut key).ok()?.try_into().ok()
}

/// Length of the ciphertext of `size` bytes: the padding is always there.
pub(super) fn sealed_size(size: u64) -> u64 {
    (size / 16 + 1) * 16
}

/// The ciphertext of what `plain` gives.
pub(super) struct Encrypting<R> {
    plain: R,
    key: Option<StreamingEncryptingKey>,
    ready: Vec<u8>,
    read: usize,
}

impl<R: Read> Encrypting<R> {
    pub(super) fn new(plain: R, key: &Key) -> io::Result<Encrypting<R>> {
        let key = UnboundCipherKey::new(&AES_256, key).map_err(io::Error::other)?;
        let context = EncryptionContext::Iv128(FixedLength::from([0; 16]));
        let key = StreamingEncryptingKey::less_safe_cbc_pkcs7(key, context).map_err(io::Error::other)?;
        Ok(Encrypting { plain, key: Some(key), ready: Vec::new(), read: 0 })
    }

    fn fill(&mut self) -> io::Result<()> {
        let Some(mut key) = self.key.take() else { return Ok(()) };
        let mut piece = vec![0; PIECE];
        self.ready.resize(PIECE + 16, 0);
        self.read = 0;
        let written = match self.plain.read(&mut piece)? {
            0 => key.finish(&mut self.ready).map_err(io::Error::other)?.1.written().len(),
            count => {
                let written = key.update(&piece[..count], &mut self.ready).map_err(io::Error::other)?.written().len();
                self.key = Some(key);
                written
            }
        };
        self.ready.truncate(written);
        Ok(())
    }
}

impl<R: Read> Read for Encrypting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.ready.len() && self.key.is_some() {
            self.fill()?;
        }
        let count = (&self.ready[self.read..]).read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

/// Writes the plaintext of what is written to it. The end comes with [`finish`](Self::finish).
pub(super) struct Decrypting<W> {
    plain: W,
    key: StreamingDecryptingKey,
}

impl<W: Write> Decrypting<W> {
    pub(super) fn new(plain: W, key: &Key) -> io::Result<Decrypting<W>> {
        let key = UnboundCipherKey::new(&AES_256, key).map_err(io::Error::other)?;
        let context = DecryptionContext::Iv128(FixedLength::from([0; 16]));
        Ok(Decrypting { plain, key: StreamingDecryptingKey::cbc_pkcs7(key, context).map_err(io::Error::other)? })
    }

    /// Fails if the padding is not right.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let mut rest = [0; 32];
        let update = self.key.finish(&mut rest).map_err(io::Error::other)?;
        self.plain.write_all(update.written())?;
        self.plain.flush()?;
        Ok(self.plain)
    }
}

impl<W: Write> Write for Decrypting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut plain = vec![0; bytes.len() + 16];
        let update = self.key.update(bytes, &mut plain).map_err(io::Error::other)?;
        self.plain.write_all(update.written())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.plain.flush()
    }
}
