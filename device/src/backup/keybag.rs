//! The keybag of an encrypted backup, `BackupKeyBag` of Manifest.plist: a key for each protection class, wrapped by the
//! backup password. Class keys, in turn, wrap the key of each blob and of Manifest.db.
//!
//! The layout is known from the iphone-dataprotection project. Entries follow one another: a tag of four letters, a length
//! in four bytes, a value; numbers are big-endian. The header (VERS TYPE UUID HMCK WRAP SALT ITER DPWT DPIC DPSL) ends
//! before the second UUID, and each UUID from there on begins a class (UUID CLAS WRAP KTYP WPKY).
//!
//! Keys are wrapped as in RFC 3394, by 32 bytes out of PBKDF2: with HMAC-SHA1, SALT and ITER iterations, of what since
//! iOS 10.2 has passed HMAC-SHA256 with DPSL and DPIC iterations, and before was the password itself.

use std::{fmt, num::NonZeroU32};

use aws_lc_rs::{
    key_wrap::{AES_256, AesKek, KeyWrap},
    pbkdf2,
};
use zeroize::Zeroizing;

/// Those of phones are below 2 KiB.
const MAX_KEYBAG_BYTES: usize = 64 << 10;
/// Phones have eleven.
const MAX_CLASSES: usize = 64;
/// Phones use 20.
const MAX_SALT_BYTES: usize = 64;
/// Phones use 10 000 000, a matter of seconds; this many take a minute on a slow computer.
const MAX_SHA256_ITERATIONS: u32 = 100_000_000;
/// Phones use 10 000; this many take half a minute on a slow computer.
const MAX_SHA1_ITERATIONS: u32 = 20_000_000;

/// The bits of a class's WRAP: the key is wrapped by one that never leaves the phone, by the password, or by both.
const WRAPPED_BY_DEVICE: u32 = 1;
const WRAPPED_BY_PASSWORD: u32 = 2;

/// A key of AES-256.
type Key = Zeroizing<[u8; 32]>;
/// A key as RFC 3394 wraps it.
type WrappedKey = [u8; 40];

/// A keybag as it lies in the backup, without a use until it is unlocked.
pub struct Keybag {
    sha256: Option<Pbkdf2>,
    sha1: Pbkdf2,
    /// Those that the password alone opens.
    classes: Vec<Class>,
}

/// The class keys of a backup, zeroed when dropped.
pub struct UnlockedKeybag {
    class_keys: Vec<(u32, Key)>,
}

/// The key of one blob, or of Manifest.db; zeroed when dropped.
#[derive(Clone)]
pub struct FileKey(Key);

/// Why a keybag could not be read or unlocked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeybagError {
    /// Longer than 64 KiB; its length in bytes.
    #[error("keybag of {0} bytes: too long to be one")]
    TooLong(usize),
    /// It ends within an entry.
    #[error("keybag ends within an entry")]
    Truncated,
    /// An entry that every keybag has is missing.
    #[error("keybag without {0}")]
    Without(&'static str),
    /// A value has a length that its kind never has.
    #[error("keybag whose {tag} has {bytes} bytes")]
    Length {
        /// The tag of the entry.
        tag: &'static str,
        /// The length of the value.
        bytes: usize,
    },
    /// A number of iterations that is zero, or that would keep a computer busy for minutes.
    #[error("keybag whose {tag} asks for {count} iterations; 1 to {max} are credible")]
    Iterations {
        /// `DPIC` or `ITER`.
        tag: &'static str,
        /// The number.
        count: u32,
        /// The largest that is accepted.
        max: u32,
    },
    /// More than 64 classes; their number.
    #[error("keybag of {0} classes: too many to be one")]
    TooManyClasses(usize),
    /// Two keys are said to be of this class.
    #[error("keybag with class {0} twice")]
    ClassTwice(u32),
    /// The password opens none of its classes, as in an unencrypted backup.
    #[error("keybag without a class that a password opens")]
    NothingToUnlock,
    /// Not the password of this keybag.
    #[error("wrong backup password")]
    WrongPassword,
}

/// Why the key of a blob could not be unwrapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileKeyError {
    /// It has not 44 bytes, but this many.
    #[error("wrapped key of {0} bytes instead of 44")]
    Length(usize),
    /// The keybag has no key for this protection class.
    #[error("the keybag opens no protection class {0}")]
    NoClass(u32),
    /// The class key does not unwrap it: it is damaged, or of another keybag.
    #[error("wrapped key of protection class {0} is damaged, or not of this keybag")]
    NotOfThisKeybag(u32),
}

impl Keybag {
    /// Parses the bytes of `BackupKeyBag`. Unknown entries are passed over.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeybagError> {
        if bytes.len() > MAX_KEYBAG_BYTES {
            return Err(KeybagError::TooLong(bytes.len()));
        }
        let entries = entries(bytes)?;
        let mut uuids = entries.iter().enumerate().filter(|(_, entry)| entry.tag == *b"UUID").map(|(index, _)| index);
        let header_end = uuids.nth(1).unwrap_or(entries.len());
        let (header, classes) = entries.split_at(header_end);
        let has_sha256 = find(header, "DPIC").is_some() || find(header, "DPSL").is_some();
        Ok(Keybag {
            sha256: has_sha256.then(|| Pbkdf2::read(header, "DPSL", "DPIC", MAX_SHA256_ITERATIONS)).transpose()?,
            sha1: Pbkdf2::read(header, "SALT", "ITER", MAX_SHA1_ITERATIONS)?,
            classes: classes_of_password(classes)?,
        })
    }

    /// Unwraps the class keys. Takes a few seconds for the keybag of a real phone, and never much over a minute.
    ///
    /// A key that is damaged is left out if the password opens another: then it is the right one.
    pub fn unlock(&self, password: &str) -> Result<UnlockedKeybag, KeybagError> {
        if self.classes.is_empty() {
            return Err(KeybagError::NothingToUnlock);
        }
        let key = self.password_key(password.as_bytes());
        // Of full capacity at once, since growing would leave keys behind.
        let mut class_keys = Vec::with_capacity(self.classes.len());
        class_keys.extend(self.classes.iter().filter_map(|class| Some((class.number, unwrap(&key, &class.wrapped)?))));
        if class_keys.is_empty() {
            return Err(KeybagError::WrongPassword);
        }
        Ok(UnlockedKeybag { class_keys })
    }

    fn password_key(&self, password: &[u8]) -> Key {
        match &self.sha256 {
            Some(sha256) => {
                self.sha1.derive(pbkdf2::PBKDF2_HMAC_SHA1, &*sha256.derive(pbkdf2::PBKDF2_HMAC_SHA256, password))
            }
            None => self.sha1.derive(pbkdf2::PBKDF2_HMAC_SHA1, password),
        }
    }
}

impl UnlockedKeybag {
    /// Unwraps the key of a blob ([`Attributes::encryption_key`](super::Attributes::encryption_key)) or of Manifest.db
    /// ([`ManifestPlist::manifest_key`](super::ManifestPlist::manifest_key)): the protection class in four bytes,
    /// little-endian, and 40 bytes of wrapped key.
    pub fn file_key(&self, wrapped: &[u8]) -> Result<FileKey, FileKeyError> {
        let refused = || FileKeyError::Length(wrapped.len());
        let (class, key) = wrapped.split_first_chunk().ok_or_else(refused)?;
        let class = u32::from_le_bytes(*class);
        let key = key.try_into().map_err(|_| refused())?;
        let (_, class_key) =
            self.class_keys.iter().find(|(number, _)| *number == class).ok_or(FileKeyError::NoClass(class))?;
        unwrap(class_key, key).map(FileKey).ok_or(FileKeyError::NotOfThisKeybag(class))
    }
}

impl FileKey {
    /// The key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        FileKey(Zeroizing::new(bytes))
    }

    /// The key of AES-256.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a password could be tried against is kept out of logs.
impl fmt::Debug for Keybag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes: Vec<_> = self.classes.iter().map(|class| class.number).collect();
        f.debug_struct("Keybag").field("classes", &classes).finish_non_exhaustive()
    }
}

/// Keys are kept out of logs.
impl fmt::Debug for UnlockedKeybag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes: Vec<_> = self.class_keys.iter().map(|(number, _)| number).collect();
        f.debug_struct("UnlockedKeybag").field("classes", &classes).finish_non_exhaustive()
    }
}

/// The key is kept out of logs.
impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKey").finish_non_exhaustive()
    }
}

/// A protection class whose key the password unwraps.
struct Class {
    number: u32,
    wrapped: WrappedKey,
}

/// One pass of PBKDF2, to 32 bytes.
struct Pbkdf2 {
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl Pbkdf2 {
    fn read(header: &[Entry<'_>], salt: &'static str, iterations: &'static str, max: u32) -> Result<Self, KeybagError> {
        let (salt_tag, salt) = (salt, find(header, salt).ok_or(KeybagError::Without(salt))?);
        if salt.is_empty() || salt.len() > MAX_SALT_BYTES {
            return Err(KeybagError::Length { tag: salt_tag, bytes: salt.len() });
        }
        let count = number(header, iterations)?;
        let credible = NonZeroU32::new(count).filter(|count| count.get() <= max);
        let iterations = credible.ok_or(KeybagError::Iterations { tag: iterations, count, max })?;
        Ok(Pbkdf2 { salt: salt.to_vec(), iterations })
    }

    fn derive(&self, algorithm: pbkdf2::Algorithm, secret: &[u8]) -> Key {
        let mut key = Key::default();
        pbkdf2::derive(algorithm, self.iterations, &self.salt, secret, &mut *key);
        key
    }
}

/// The key that `wrapping` has wrapped; none if its integrity check fails.
fn unwrap(wrapping: &Key, wrapped: &WrappedKey) -> Option<Key> {
    let mut key = Key::default();
    AesKek::new(&AES_256, &**wrapping).ok()?.unwrap(wrapped, &mut *key).ok()?;
    Some(key)
}

struct Entry<'a> {
    tag: [u8; 4],
    value: &'a [u8],
}

fn entries(mut bytes: &[u8]) -> Result<Vec<Entry<'_>>, KeybagError> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (entry, rest) = split_entry(bytes).ok_or(KeybagError::Truncated)?;
        entries.push(entry);
        bytes = rest;
    }
    Ok(entries)
}

fn split_entry(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (tag, bytes) = bytes.split_first_chunk()?;
    let (length, bytes) = bytes.split_first_chunk()?;
    let (value, rest) = bytes.split_at_checked(u32::from_be_bytes(*length).try_into().ok()?)?;
    Some((Entry { tag: *tag, value }, rest))
}

fn classes_of_password(entries: &[Entry<'_>]) -> Result<Vec<Class>, KeybagError> {
    let mut classes: Vec<Class> = Vec::new();
    let groups = || entries.chunk_by(|_, next| next.tag != *b"UUID");
    if groups().count() > MAX_CLASSES {
        return Err(KeybagError::TooManyClasses(groups().count()));
    }
    for group in groups() {
        if number(group, "WRAP")? & (WRAPPED_BY_DEVICE | WRAPPED_BY_PASSWORD) != WRAPPED_BY_PASSWORD {
            continue;
        }
        let number = number(group, "CLAS")?;
        let wrapped = find(group, "WPKY").ok_or(KeybagError::Without("WPKY"))?;
        let wrapped = wrapped.try_into().map_err(|_| KeybagError::Length { tag: "WPKY", bytes: wrapped.len() })?;
        if classes.iter().any(|class| class.number == number) {
            return Err(KeybagError::ClassTwice(number));
        }
        classes.push(Class { number, wrapped });
    }
    Ok(classes)
}

/// The value of the first entry with this tag.
fn find<'a>(entries: &[Entry<'a>], tag: &str) -> Option<&'a [u8]> {
    entries.iter().find(|entry| entry.tag == tag.as_bytes()).map(|entry| entry.value)
}

fn number(entries: &[Entry<'_>], tag: &'static str) -> Result<u32, KeybagError> {
    let value = find(entries, tag).ok_or(KeybagError::Without(tag))?;
    let bytes = value.try_into().map_err(|_| KeybagError::Length { tag, bytes: value.len() })?;
    Ok(u32::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Made with Python's `hashlib.pbkdf2_hmac` and `cryptography`'s `aes_key_wrap`: password "pässword", DPSL 40 41 ..,
    /// DPIC 7, SALT 80 81 .., ITER 5. The classes are 3 and 4, wrapped by the password (WRAP 2), and 11, wrapped by the
    /// phone too (WRAP 3); the key of class c begins with 16 c and counts up.
    const KEYBAG: &str = "\
        5645525300000004000000045459504500000004000000015555494400000010000102030405060708090a0b0c0d0e0f484d434b\
        00000028101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30313233343536375752415000000004\
        0000000053414c5400000014808182838485868788898a8b8c8d8e8f909192934954455200000004000000054450575400000004\
        000000014450494300000004000000074450534c00000014404142434445464748494a4b4c4d4e4f50515253\
        5555494400000010030405060708090a0b0c0d0e0f101112434c415300000004000000035752415000000004000000024b545950\
        000000040000000057504b590000002811dd92dfc125094294f4af449a62a4056875636756f7a17d2c143967f9036ee338c44c8c\
        5ac13aa6\
        55554944000000100405060708090a0b0c0d0e0f10111213434c415300000004000000045752415000000004000000024b545950\
        000000040000000057504b5900000028b341ee4ad3b2c511357e243f2d7b877a650d1d6761ca934ae488dd5741e46e9ea600a889\
        2ca008aa\
        55554944000000100b0c0d0e0f101112131415161718191a434c4153000000040000000b5752415000000004000000034b545950\
        000000040000000057504b5900000028c5685ed6838e2a451d70d333141e7c9c29417060dee97687059dccb430801ca36a59a286\
        a625190f";
    const PASSWORD: &str = "pässword";
    /// The key a0 a1 .. of a blob, wrapped by class 3 in the same way.
    const BLOB_KEY: &str = "03000000e1498c612c3549dde4c1a00c64366d9c1c1952e0a28d4efe6846ab14caef63f31529d2b96a9dd5a2";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn counting_up(first: u8) -> [u8; 32] {
        std::array::from_fn(|index| first + index as u8)
    }

    fn entry(tag: &str, value: &[u8]) -> Vec<u8> {
        [tag.as_bytes(), &(value.len() as u32).to_be_bytes(), value].concat()
    }

    fn number(tag: &str, value: u32) -> Vec<u8> {
        entry(tag, &value.to_be_bytes())
    }

    fn header(changed: &[u8]) -> Vec<u8> {
        // The first of a tag counts.
        [changed, &entry("UUID", &[1; 16]), &entry("SALT", &[2; 20]), &number("ITER", 1)].concat()
    }

    fn class(class: u32, wrap: u32, wrapped: &[u8]) -> Vec<u8> {
        let numbers = [number("CLAS", class), number("WRAP", wrap), number("KTYP", 0)].concat();
        [entry("UUID", &[3; 16]), numbers, entry("WPKY", wrapped)].concat()
    }

    fn refusal(keybag: &[u8]) -> KeybagError {
        Keybag::parse(keybag).unwrap_err()
    }

    /// The class keys that a password opens; none where that would take long.
    fn opened(keybag: &[u8], password: &str) -> Option<BTreeSet<[u8; 32]>> {
        let keybag = Keybag::parse(keybag).ok()?;
        let passes = keybag.sha256.iter().chain([&keybag.sha1]);
        if passes.map(|pass| u64::from(pass.iterations.get())).sum::<u64>() > 10_000 {
            return None;
        }
        Some(keybag.unlock(password).ok()?.class_keys.iter().map(|(_, key)| **key).collect())
    }

    #[test]
    fn a_keybag_made_elsewhere_opens_the_key_of_a_blob() {
        let keybag = Keybag::parse(&bytes(KEYBAG)).unwrap();
        let unlocked = keybag.unlock(PASSWORD).unwrap();
        assert_eq!(unlocked.file_key(&bytes(BLOB_KEY)).unwrap().as_bytes(), &counting_up(0xa0));
        assert_eq!(*unlocked.class_keys, [3, 4].map(|class| (class, Key::new(counting_up(16 * class as u8)))));
        for wrong in ["", "password", "pässword ", "Pässword"] {
            assert_eq!(keybag.unlock(wrong).unwrap_err(), KeybagError::WrongPassword, "{wrong:?}");
        }
    }

    /// The examples of hashcat's modes 14700 (before iOS 10.2, two of them) and 14800: WPKY, ITER, SALT, DPIC and DPSL.
    #[test]
    fn the_examples_of_a_password_cracker_open() {
        let examples = [
            "ebd7f9b33293b2511f0a4139d5b213feff51476968863cef60ec38d720497b6ff39a0bb63fa9f84e*10000\
             *2202015774208421818002001652122401871832**",
            "b8e3f3a970239b22ac199b622293fe4237b9d16e74bad2c3c3568cd1bd3c471615a6c4f867265642*10000\
             *4542263740587424862267232255853830404566**",
            "17a3b858e79bc273be43a9f113b71efe7ec8e7e401396b350180b4592ef45db67ffef7b2d64329a5*10000\
             *2721336781705041205314422175267631184867*1000*99fafc983e732998adb9fadc162a2e382143f115",
            "8b715f516ff8e64442c478c2d9abb046fc6979ab079007d3dbcef3ddd84217f4c3db01362d88fa68*10000\
             *2353363784073608264337337723324886300850*10000000*425b4bb4e200b5fd4c66979c9caca31716052063",
        ];
        for example in examples {
            let [wpky, iter, salt, dpic, dpsl] = *example.split('*').collect::<Vec<_>>() else { unreachable!() };
            let mut keybag = [number("ITER", iter.parse().unwrap()), entry("SALT", &bytes(salt))].concat();
            if !dpic.is_empty() {
                keybag.extend([number("DPIC", dpic.parse().unwrap()), entry("DPSL", &bytes(dpsl))].concat());
            }
            let keybag = [header(&keybag), class(3, 2, &bytes(wpky))].concat();
            let keybag = Keybag::parse(&keybag).unwrap();
            assert!(keybag.unlock("hashcat").is_ok(), "{example}");
            if dpic.len() < 5 {
                assert_eq!(keybag.unlock("hashcap").unwrap_err(), KeybagError::WrongPassword, "{example}");
            }
        }
    }

    /// RFC 3394, 4.6.
    #[test]
    fn a_key_is_unwrapped_as_in_its_rfc() {
        let wrapped = "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21";
        let key = unwrap(&Key::new(counting_up(0)), &bytes(wrapped).try_into().unwrap()).unwrap();
        assert_eq!(*key, *bytes("00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f"));
    }

    /// The second vector of RFC 6070, of 20 bytes, and the first of RFC 7914, 11, as far as it goes here.
    #[test]
    fn passwords_are_derived_from_as_in_their_rfcs() {
        let pass = |salt: &[u8], count| Pbkdf2 { salt: salt.into(), iterations: NonZeroU32::new(count).unwrap() };
        let key = pass(b"salt", 2).derive(pbkdf2::PBKDF2_HMAC_SHA1, b"password");
        assert_eq!(key[..20], bytes("ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"));
        let key = pass(b"salt", 1).derive(pbkdf2::PBKDF2_HMAC_SHA256, b"passwd");
        assert_eq!(key[..], bytes("55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"));
    }

    #[test]
    fn a_blob_key_of_another_shape_class_or_keybag_is_refused() {
        let unlocked = Keybag::parse(&bytes(KEYBAG)).unwrap().unlock(PASSWORD).unwrap();
        let key = bytes(BLOB_KEY);
        let long = [&key[..], &[0]].concat();
        for wrong in [&key[..0], &key[..4], &key[..43], &long] {
            assert_eq!(unlocked.file_key(wrong).unwrap_err(), FileKeyError::Length(wrong.len()));
        }
        // Of class 11 the password opens but the outer wrapping.
        for class in [0u32, 11, u32::MAX] {
            let other = [&class.to_le_bytes(), &key[4..]].concat();
            assert_eq!(unlocked.file_key(&other).unwrap_err(), FileKeyError::NoClass(class));
        }
        let other = [&4u32.to_le_bytes(), &key[4..]].concat();
        assert_eq!(unlocked.file_key(&other).unwrap_err(), FileKeyError::NotOfThisKeybag(4));
        for bit in 32..key.len() * 8 {
            let mut damaged = key.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unlocked.file_key(&damaged).unwrap_err(), FileKeyError::NotOfThisKeybag(3), "bit {bit}");
        }
    }

    #[test]
    fn one_damaged_class_does_not_close_the_others() {
        let mut keybag = bytes(KEYBAG);
        let first_class_key = keybag.windows(4).position(|tag| tag == b"WPKY").unwrap() + 8;
        keybag[first_class_key] ^= 1;
        let unlocked = Keybag::parse(&keybag).unwrap().unlock(PASSWORD).unwrap();
        assert_eq!(unlocked.file_key(&bytes(BLOB_KEY)).unwrap_err(), FileKeyError::NoClass(3));
        assert_eq!(*unlocked.class_keys, [(4, Key::new(counting_up(64)))]);
    }

    #[test]
    fn counts_that_would_take_minutes_are_refused_before_they_do() {
        let refused = |tag, count, max| KeybagError::Iterations { tag, count, max };
        for (tag, max) in [("ITER", MAX_SHA1_ITERATIONS), ("DPIC", MAX_SHA256_ITERATIONS)] {
            let keybag = |count| header(&[number(tag, count), number("DPIC", 1), entry("DPSL", &[4; 20])].concat());
            for count in [0, max + 1, u32::MAX] {
                assert_eq!(refusal(&keybag(count)), refused(tag, count, max));
            }
            assert!(Keybag::parse(&keybag(max)).is_ok());
        }
        let told = refused("DPIC", 4_000_000_000, MAX_SHA256_ITERATIONS).to_string();
        assert!(told.contains("DPIC") && told.contains("4000000000"), "{told}");
    }

    #[test]
    fn what_every_keybag_has_is_required_in_its_size() {
        let length = |tag, bytes| KeybagError::Length { tag, bytes };
        assert_eq!(refusal(b""), KeybagError::Without("SALT"));
        assert_eq!(refusal(&entry("SALT", &[2; 20])), KeybagError::Without("ITER"));
        assert_eq!(refusal(&header(&number("DPIC", 1))), KeybagError::Without("DPSL"));
        assert_eq!(refusal(&header(&entry("DPSL", &[2; 20]))), KeybagError::Without("DPIC"));
        assert_eq!(refusal(&header(&entry("SALT", &[]))), length("SALT", 0));
        assert_eq!(refusal(&header(&entry("SALT", &[2; 65]))), length("SALT", 65));
        assert_eq!(refusal(&header(&entry("ITER", &[0; 5]))), length("ITER", 5));

        let with = |class: &[u8]| refusal(&[header(&[]), class.to_vec()].concat());
        let uuid = entry("UUID", &[3; 16]);
        assert_eq!(with(&uuid), KeybagError::Without("WRAP"));
        assert_eq!(with(&[&uuid[..], &number("WRAP", 2)].concat()), KeybagError::Without("CLAS"));
        assert_eq!(with(&[uuid, number("WRAP", 2), number("CLAS", 1)].concat()), KeybagError::Without("WPKY"));
        for wrong in [0, 32, 39, 41, 48] {
            assert_eq!(with(&class(1, 2, &vec![0; wrong])), length("WPKY", wrong));
        }
        assert_eq!(with(&[class(7, 2, &[0; 40]), class(7, 2, &[1; 40])].concat()), KeybagError::ClassTwice(7));
    }

    #[test]
    fn keybags_too_large_to_be_one_are_refused() {
        let classes =
            |count| [header(&[]), (0..count).flat_map(|number| class(number, 2, &[0; 40])).collect()].concat();
        assert!(Keybag::parse(&classes(64)).is_ok());
        assert_eq!(refusal(&classes(65)), KeybagError::TooManyClasses(65));
        assert_eq!(refusal(&vec![0; MAX_KEYBAG_BYTES + 1]), KeybagError::TooLong(MAX_KEYBAG_BYTES + 1));
        // Lengths of zero make the most entries.
        assert_eq!(refusal(&entry("UUID", &[]).repeat(MAX_KEYBAG_BYTES / 8)), KeybagError::Without("SALT"));
    }

    #[test]
    fn a_keybag_without_classes_of_the_password_cannot_be_unlocked() {
        // WRAP 1 is that of unencrypted backups, where the wrapped key has no integrity check and 32 bytes.
        for classes in [vec![], class(1, 1, &[0; 32]), class(1, 3, &[0; 40]), class(1, 0, &[])] {
            let keybag = Keybag::parse(&[header(&[]), classes].concat()).unwrap();
            assert_eq!(keybag.unlock(PASSWORD).unwrap_err(), KeybagError::NothingToUnlock);
        }
    }

    #[test]
    fn entries_of_later_versions_are_passed_over() {
        let keybag = [entry("NEWS", &[9; 300]), bytes(KEYBAG), entry("PBKY", &[9; 32])].concat();
        assert_eq!(opened(&keybag, PASSWORD), opened(&bytes(KEYBAG), PASSWORD));
    }

    #[test]
    fn keys_are_not_printed() {
        let keybag = Keybag::parse(&bytes(KEYBAG)).unwrap();
        let unlocked = keybag.unlock(PASSWORD).unwrap();
        let key = unlocked.file_key(&bytes(BLOB_KEY)).unwrap();
        let told = format!("{keybag:?} {unlocked:?} {key:?}");
        assert_eq!(told, "Keybag { classes: [3, 4], .. } UnlockedKeybag { classes: [3, 4], .. } FileKey { .. }");
    }

    #[test]
    fn a_keybag_cut_within_an_entry_is_refused_and_no_other_opens_more_than_the_whole() {
        let whole = bytes(KEYBAG);
        let keys = opened(&whole, PASSWORD).unwrap();
        let mut entry_end = 0;
        for len in 0..whole.len() {
            if len == entry_end {
                entry_end += 8 + u32::from_be_bytes(whole[len + 4..len + 8].try_into().unwrap()) as usize;
                assert!(opened(&whole[..len], PASSWORD).is_none_or(|opened| opened.is_subset(&keys)), "{len}");
            } else {
                assert_eq!(refusal(&whole[..len]), KeybagError::Truncated, "{len}");
            }
        }
    }

    /// Anything that begins as an entry with a tag of keybags.
    fn hostile_entries() -> impl Strategy<Value = Vec<u8>> {
        let tags = ["UUID", "SALT", "ITER", "DPIC", "DPSL", "CLAS", "WRAP", "WPKY", "DPWT"];
        let value = prop_oneof![
            (0u32..4).prop_map(|number| number.to_be_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..50),
            prop::collection::vec(any::<u8>(), 40),
        ];
        let entry = (prop::sample::select(tags.to_vec()), value).prop_map(|(tag, value)| entry(tag, &value));
        prop::collection::vec(entry, 0..40).prop_map(|entries| entries.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..300), entries in hostile_entries()) {
            let _ = Keybag::parse(&bytes);
            prop_assert_eq!(opened(&entries, PASSWORD), None);
            prop_assert_eq!(opened(&[header(&[]), entries, bytes].concat(), PASSWORD), None);
        }

        #[test]
        fn a_damaged_keybag_opens_no_key_but_its_own(
            flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..6),
        ) {
            let keys = opened(&bytes(KEYBAG), PASSWORD).unwrap();
            let mut damaged = bytes(KEYBAG);
            for (at, bit) in flips {
                let at = at.index(damaged.len());
                damaged[at] ^= 1 << bit;
            }
            // The key of class 11 is still the phone's secret, but its WRAP may be what was damaged.
            let keys = keys.into_iter().chain([counting_up(16 * 11)]).collect();
            prop_assert!(opened(&damaged, PASSWORD).is_none_or(|opened| opened.is_subset(&keys)));
            prop_assert_eq!(opened(&damaged, "password"), None);
        }

        #[test]
        fn any_blob_key_ends_in_a_verdict(wrapped in prop::collection::vec(any::<u8>(), 0..60), class in 3u32..5) {
            let unlocked = UnlockedKeybag { class_keys: vec![(3, Key::default()), (4, Key::new([4; 32]))] };
            prop_assert!(unlocked.file_key(&wrapped).is_err());
            prop_assert!(unlocked.file_key(&[&class.to_le_bytes(), &wrapped[..]].concat()).is_err());
        }
    }
}
