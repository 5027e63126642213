//! The name of a blob: SHA-1 over the place of the file on the phone.

use std::fmt;

use sha1::{Digest, Sha1};

/// Names a file of a backup: SHA-1 of `domain`, `-`, and its path relative to the domain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub [u8; 20]);

impl FileId {
    /// The id of the file at `relative_path` in `domain`.
    pub fn of(domain: &str, relative_path: &str) -> Self {
        let hash = Sha1::new().chain_update(domain).chain_update(b"-").chain_update(relative_path).finalize();
        FileId(hash.into())
    }

    /// Parses 40 lower-case hexadecimal digits, as in Manifest.db and as a blob's name.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: &[u8; 40] = text.as_bytes().try_into().ok()?;
        let mut id = [0; 20];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Some(FileId(id))
    }

    /// The path of the blob within the backup folder: `ab/abcdef...`.
    pub fn place(&self) -> String {
        format!("{:02x}/{self}", self.0[0])
    }

    /// The same in backups of iOS 9 and before: `abcdef...`.
    pub fn flat_place(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileId({self})")
    }
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The best known id of all: every forensic handbook gives it for sms.db.
    const SMS: &str = "3d0d7e5fb2ce288813306e4d4636395e047a3d28";

    #[test]
    fn the_messages_database_has_its_well_known_id() {
        let id = FileId::of("HomeDomain", "Library/SMS/sms.db");
        assert_eq!(id.to_string(), SMS);
        assert_eq!(id.place(), format!("3d/{SMS}"));
        assert_eq!(FileId::parse(SMS), Some(id));
    }

    #[test]
    fn only_forty_lower_case_digits_parse() {
        for text in ["", &SMS[1..], &format!("{SMS}0"), &SMS.to_uppercase(), &SMS.replace('d', "g"), &"é".repeat(20)] {
            assert_eq!(FileId::parse(text), None, "{text}");
        }
    }
}
