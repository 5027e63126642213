//! Typed identifiers: a chunk's, a file's, a repository's.

use std::fmt;

/// Declares a newtype over bytes that reads and shows itself as hexadecimal digits.
macro_rules! id_type {
    ($(#[$meta:meta])* $name:ident, $len:expr) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) [u8; $len]);

        impl $name {
            /// The identifier's bytes.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Parses lower-case hexadecimal digits; `None` for anything else.
            pub fn from_hex(text: &str) -> Option<Self> {
                let mut bytes = [0; $len];
                decode_hex(text, &mut bytes).then_some($name(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&encode_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
                $name::from_hex(&text).ok_or_else(|| serde::de::Error::custom("not an id of the right length"))
            }
        }
    };
}

id_type!(
    /// A chunk's id: the first 16 bytes of the keyed BLAKE3 of its plaintext and kind (SPEC §6).
    ChunkId,
    16
);
id_type!(
    /// A file's name in the repository: the BLAKE3 of its bytes (SPEC §2).
    FileHash,
    32
);
id_type!(
    /// A repository's id, public and random (SPEC §3).
    RepositoryId,
    16
);

/// A snapshot's id is the name of its file.
pub type SnapshotId = FileHash;

impl FileHash {
    /// The name that `bytes` have as a file.
    pub fn of(bytes: &[u8]) -> FileHash {
        FileHash(*blake3::hash(bytes).as_bytes())
    }

    /// The first eight digits, enough for a person.
    pub fn short(&self) -> String {
        encode_hex(&self.0[..4])
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub(crate) fn encode_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|digit| DIGITS[usize::from(digit)] as char).collect()
}

/// Fills `bytes` from exactly as many lower-case digits; `false` if `text` is anything else.
pub(crate) fn decode_hex(text: &str, bytes: &mut [u8]) -> bool {
    fn value(digit: u8) -> Option<u8> {
        match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }
    text.len() == 2 * bytes.len()
        && text.as_bytes().chunks_exact(2).zip(bytes).all(|(pair, byte)| match (value(pair[0]), value(pair[1])) {
            (Some(high), Some(low)) => {
                *byte = high << 4 | low;
                true
            }
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_goes_round_and_refuses_everything_else() {
        let id = ChunkId(*b"\x00\x01\x7f\x80\xff5678901234a");
        assert_eq!(ChunkId::from_hex(&id.to_string()), Some(id));
        for bad in ["", "00", "0G017f80ff3536373839303132333461", "00017F80FF3536373839303132333461"] {
            assert_eq!(ChunkId::from_hex(bad), None, "{bad}");
        }
    }
}
