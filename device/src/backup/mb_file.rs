//! MBFile: what the phone keeps of one file, the `file` column of Manifest.db.
//!
//! An NSKeyedArchiver archive in a binary property list: `$top.root` is a UID, an index into `$objects`, where an
//! MBFile lies as a dictionary whose larger values are UIDs again. There is one for each row, so it is read in place.

use crate::{
    PlistError,
    property_list::binary::{Document, Object, References, utf8, utf16},
};

/// An MBFile has some fifteen members; with more, one blob could name the same large value over and over.
const MAX_MEMBERS: usize = 64;

/// What the phone keeps of one file beside its name and content.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `Mode`: type and permissions, as in `st_mode`.
    pub mode: Option<u32>,
    /// `Size` in bytes, of the plaintext; zero for folders and links.
    pub size: Option<u64>,
    /// `LastModified`, Unix seconds.
    pub mtime: Option<i64>,
    /// `LastStatusChange`, Unix seconds.
    pub ctime: Option<i64>,
    /// `Birth`, Unix seconds.
    pub btime: Option<i64>,
    /// `UserID`.
    pub uid: Option<u32>,
    /// `GroupID`.
    pub gid: Option<u32>,
    /// `InodeNumber` on the phone.
    pub inode: Option<u64>,
    /// `Flags`, as in `st_flags`.
    pub flags: Option<u32>,
    /// `ProtectionClass`: 1 to 4 are Data Protection's classes A to D, 0 is none.
    pub protection_class: Option<u8>,
    /// `Target`, where a symbolic link points.
    pub target: Option<String>,
    /// `EncryptionKey`: the protection class in four bytes, little-endian, and the wrapped key of the blob. Rows of
    /// unencrypted backups may have one too, without use.
    pub encryption_key: Option<Vec<u8>>,
    /// `Digest`: SHA-1, of the content, in some rows.
    pub digest: Option<Vec<u8>>,
    /// Whether there are `ExtendedAttributes`.
    pub has_extended_attributes: bool,
}

/// Why a row's MBFile could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MbFileError {
    /// The column holds no blob, or one over 8 MiB.
    #[error("no MBFile, or one too large")]
    Absent,
    /// Not a binary property list.
    #[error("MBFile is {0}")]
    Plist(#[from] PlistError),
    /// Not a keyed archive.
    #[error("MBFile is not a keyed archive")]
    NotAnArchive,
    /// It has none of the values that every MBFile has.
    #[error("MBFile without mode, size and time")]
    Empty,
}

impl Attributes {
    /// Parses the blob of the `file` column. Time is linear in the blob's length.
    pub fn parse(blob: &[u8]) -> Result<Self, MbFileError> {
        let archive = Archive::open(blob)?;
        let mut attributes = Attributes::default();
        for (key, value) in archive.keys.iter().zip(archive.values.iter()) {
            let Object::Text(key) = archive.document.object(key)? else {
                continue;
            };
            match key {
                b"Mode" => attributes.mode = archive.integer(value)?,
                b"Size" => attributes.size = archive.integer(value)?,
                b"LastModified" => attributes.mtime = archive.integer(value)?,
                b"LastStatusChange" => attributes.ctime = archive.integer(value)?,
                b"Birth" => attributes.btime = archive.integer(value)?,
                b"UserID" => attributes.uid = archive.integer(value)?,
                b"GroupID" => attributes.gid = archive.integer(value)?,
                b"InodeNumber" => attributes.inode = archive.integer(value)?,
                b"Flags" => attributes.flags = archive.integer(value)?,
                b"ProtectionClass" => attributes.protection_class = archive.integer(value)?,
                b"Target" => attributes.target = archive.text(value)?,
                b"EncryptionKey" => attributes.encryption_key = archive.data(value)?.map(<[u8]>::to_vec),
                b"Digest" => attributes.digest = archive.data(value)?.map(<[u8]>::to_vec),
                b"ExtendedAttributes" => attributes.has_extended_attributes = archive.data(value)?.is_some(),
                _ => {}
            }
        }
        match &attributes {
            Attributes { mode: None, size: None, mtime: None, .. } => Err(MbFileError::Empty),
            _ => Ok(attributes),
        }
    }
}

/// Keys are kept out of logs.
impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attributes")
            .field("mode", &format_args!("{:o}", self.mode.unwrap_or_default()))
            .field("size", &self.size)
            .field("mtime", &self.mtime)
            .field("target", &self.target)
            .field("protection_class", &self.protection_class)
            .field("has_encryption_key", &self.encryption_key.is_some())
            .finish_non_exhaustive()
    }
}

/// A keyed archive whose root object is a dictionary.
struct Archive<'a> {
    document: Document<'a>,
    /// `$objects`, what UIDs index.
    objects: References<'a>,
    /// The MBFile.
    keys: References<'a>,
    values: References<'a>,
}

impl<'a> Archive<'a> {
    fn open(blob: &'a [u8]) -> Result<Self, MbFileError> {
        let document = Document::open(blob)?;
        let top = member(&document, document.root()?, "$top")?;
        let Some(Object::Array(objects)) = member(&document, document.root()?, "$objects")? else {
            return Err(MbFileError::NotAnArchive);
        };
        let Some(top) = top else {
            return Err(MbFileError::NotAnArchive);
        };
        let Some(Object::Uid(root)) = member(&document, top, "root")? else {
            return Err(MbFileError::NotAnArchive);
        };
        let root = objects.get(root).ok_or(MbFileError::NotAnArchive)?;
        let (keys, values) = members(document.object(root)?)?;
        Ok(Archive { document, objects, keys, values })
    }

    /// The object itself, or the one its UID names.
    fn resolve(&self, reference: u64) -> Result<Object<'a>, MbFileError> {
        match self.document.object(reference)? {
            Object::Uid(uid) => {
                let reference = self.objects.get(uid).ok_or(MbFileError::NotAnArchive)?;
                Ok(self.document.object(reference)?)
            }
            object => Ok(object),
        }
    }

    /// `None` for another type, or out of `T`'s range.
    fn integer<T: TryFrom<i128>>(&self, reference: u64) -> Result<Option<T>, MbFileError> {
        Ok(match self.document.object(reference)? {
            Object::Integer(integer) => T::try_from(integer).ok(),
            _ => None,
        })
    }

    /// A string; `None` for another type, for bytes that are no text, and for the archiver's placeholder of nothing.
    fn text(&self, reference: u64) -> Result<Option<String>, MbFileError> {
        let text = match self.resolve(reference)? {
            Object::Text(b"$null") => None,
            Object::Text(text) => Some(utf8(text)),
            Object::WideText(text) => Some(utf16(text)),
            _ => None,
        };
        Ok(text.filter(|text| !text.contains(char::REPLACEMENT_CHARACTER)))
    }

    /// Bytes, bare or as an NSData object; `None` for another type.
    fn data(&self, reference: u64) -> Result<Option<&'a [u8]>, MbFileError> {
        let object = match self.resolve(reference)? {
            object @ Object::Dictionary { .. } => member(&self.document, object, "NS.data")?,
            object => Some(object),
        };
        Ok(match object {
            Some(Object::Data(data)) => Some(data),
            _ => None,
        })
    }
}

/// The member `name` of a dictionary, if it has one.
fn member<'a>(document: &Document<'a>, dictionary: Object<'a>, name: &str) -> Result<Option<Object<'a>>, MbFileError> {
    let (keys, values) = members(dictionary)?;
    for (key, value) in keys.iter().zip(values.iter()) {
        if matches!(document.object(key)?, Object::Text(key) if key == name.as_bytes()) {
            return Ok(Some(document.object(value)?));
        }
    }
    Ok(None)
}

/// Keys and values of a dictionary of credible size.
fn members(object: Object<'_>) -> Result<(References<'_>, References<'_>), MbFileError> {
    match object {
        Object::Dictionary { keys, values } if keys.len() <= MAX_MEMBERS => Ok((keys, values)),
        _ => Err(MbFileError::NotAnArchive),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use plist::{Dictionary, Uid, Value};
    use proptest::prelude::*;

    use super::*;

    fn dictionary<const N: usize>(members: [(&str, Value); N]) -> Dictionary {
        members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The archive of one MBFile, as a phone would write it, with changes made to the MBFile's own dictionary.
    pub(in crate::backup) fn archive(change: impl FnOnce(&mut Dictionary)) -> Vec<u8> {
        let integer = |integer: i64| Value::Integer(integer.into());
        let uid = |uid| Value::Uid(Uid::new(uid));
        let mut file = dictionary([
            ("LastModified", integer(1_610_659_523)),
            ("Flags", integer(128)),
            ("GroupID", integer(501)),
            ("$class", uid(6)),
            ("LastStatusChange", integer(1_610_659_524)),
            ("RelativePath", uid(2)),
            ("Birth", integer(-1)),
            ("EncryptionKey", uid(3)),
            ("Size", integer(5_000_000_000)),
            ("Mode", integer(0o100644)),
            ("UserID", integer(4_294_967_294)),
            ("InodeNumber", integer(55_569)),
            ("ProtectionClass", integer(3)),
            ("Target", uid(5)),
            ("Digest", Value::Data(vec![9; 20])),
            ("ExtendedAttributes", uid(3)),
        ]);
        change(&mut file);
        let key = dictionary([("NS.data", Value::Data(vec![7; 44])), ("$class", uid(4))]);
        let objects = vec![
            Value::String("$null".into()),
            Value::Dictionary(file),
            Value::String("Library/x".into()),
            Value::Dictionary(key),
            Value::Dictionary(dictionary([("$classname", Value::String("NSMutableData".into()))])),
            Value::String("/var/é".into()),
            Value::Dictionary(dictionary([("$classname", Value::String("MBFile".into()))])),
        ];
        let root = dictionary([
            ("$version", integer(100_000)),
            ("$archiver", Value::String("NSKeyedArchiver".into())),
            ("$top", Value::Dictionary(dictionary([("root", uid(1))]))),
            ("$objects", Value::Array(objects)),
        ]);
        let mut bytes = Vec::new();
        Value::Dictionary(root).to_writer_binary(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn every_attribute_is_read() {
        let expected = Attributes {
            mode: Some(0o100644),
            size: Some(5_000_000_000),
            mtime: Some(1_610_659_523),
            ctime: Some(1_610_659_524),
            btime: Some(-1),
            uid: Some(4_294_967_294),
            gid: Some(501),
            inode: Some(55_569),
            flags: Some(128),
            protection_class: Some(3),
            target: Some("/var/é".into()),
            encryption_key: Some(vec![7; 44]),
            digest: Some(vec![9; 20]),
            has_extended_attributes: true,
        };
        assert_eq!(Attributes::parse(&archive(|_| {})), Ok(expected));
    }

    #[test]
    fn optional_values_may_be_missing_null_or_of_a_wrong_type() {
        let blob = archive(|file| {
            file.remove("Birth");
            file.remove("EncryptionKey");
            file.insert("Target".into(), Value::Uid(Uid::new(0)));
            file.insert("Digest".into(), Value::Uid(Uid::new(0)));
            file.insert("UserID".into(), Value::String("root".into()));
            file.insert("ProtectionClass".into(), Value::Integer(300.into()));
        });
        let attributes = Attributes::parse(&blob).unwrap();
        assert_eq!((attributes.btime, attributes.uid, attributes.protection_class), (None, None, None));
        assert_eq!((attributes.target, attributes.encryption_key, attributes.digest), (None, None, None));
    }

    /// plist-one-bad-value: the file's key and all else that is known of it stay.
    #[test]
    fn impossible_numbers_cost_only_themselves() {
        for key in ["Mode", "Size", "LastModified"] {
            for value in [Value::Integer((-1).into()), Value::String("x".into()), Value::Uid(Uid::new(0))] {
                let attributes = Attributes::parse(&archive(|file| drop(file.insert(key.into(), value)))).unwrap();
                assert_eq!(attributes.encryption_key, Some(vec![7; 44]), "{key}");
                let known = [attributes.mode.is_some(), attributes.size.is_some(), attributes.mtime.is_some()];
                let is_time = key == "LastModified" && attributes.mtime == Some(-1);
                assert_eq!(known.into_iter().filter(|known| *known).count(), if is_time { 3 } else { 2 }, "{key}");
            }
        }
        let nothing = archive(|file| ["Mode", "Size", "LastModified"].iter().for_each(|key| drop(file.remove(key))));
        assert_eq!(Attributes::parse(&nothing), Err(MbFileError::Empty));
    }

    #[test]
    fn uids_beyond_the_objects_and_to_themselves_end() {
        for uid in [1, 7, u64::MAX] {
            let blob = archive(|file| drop(file.insert("EncryptionKey".into(), Value::Uid(Uid::new(uid)))));
            assert!(!matches!(Attributes::parse(&blob), Ok(Attributes { encryption_key: Some(_), .. })), "{uid}");
        }
    }

    #[test]
    fn one_large_value_named_over_and_over_ends_quickly() {
        use crate::property_list::tests::binary;
        // Two bytes for each reference: keys, then values.
        let dictionary = |count: u16, key: u16, value: u16| {
            let mut bytes = vec![0xdf, 0x11];
            bytes.extend_from_slice(&count.to_be_bytes());
            bytes.extend(key.to_be_bytes().repeat(count.into()));
            bytes.extend(value.to_be_bytes().repeat(count.into()));
            bytes
        };
        let text = |text: &str| [&[0x50 | text.len() as u8][..], text.as_bytes()].concat();
        let mut long = vec![0x5f, 0x12, 0, 0x40, 0, 0];
        long.resize(long.len() + (4 << 20), b'x');
        for count in [64, u16::MAX] {
            let objects = [
                vec![0xd2, 0, 1, 0, 2, 0, 3, 0, 4],
                text("$top"),
                text("$objects"),
                vec![0xd1, 0, 5, 0, 6],
                vec![0xa2, 0, 7, 0, 8],
                text("root"),
                vec![0x80, 0],
                dictionary(count, 9, 10),
                dictionary(count, 11, 11),
                vec![0x5d].into_iter().chain(*b"EncryptionKey").collect(),
                vec![0x80, 1],
                long.clone(),
            ];
            let started = std::time::Instant::now();
            let refused = Attributes::parse(&binary(&objects)).unwrap_err();
            let expected = if count == 64 { MbFileError::Empty } else { MbFileError::NotAnArchive };
            assert_eq!(refused, expected);
            assert!(started.elapsed().as_secs() < 2, "{:?}", started.elapsed());
        }
    }

    #[test]
    fn keys_are_not_printed() {
        assert!(!format!("{:?}", Attributes::parse(&archive(|_| {}))).contains("7, 7"));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Attributes::parse(&bytes);
        }

        #[test]
        fn flipped_and_cut_bytes_end_in_a_verdict(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            length in any::<prop::sample::Index>(),
        ) {
            let mut blob = archive(|_| {});
            for (place, byte) in flips {
                let place = place.index(blob.len());
                blob[place] = byte;
            }
            let _ = Attributes::parse(&blob);
            let _ = Attributes::parse(&blob[..length.index(blob.len())]);
        }
    }
}
