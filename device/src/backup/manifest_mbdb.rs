//! Manifest.mbdb: the list of the files of a backup of iOS 4 to 9, whose blobs lie in one folder under the same ids as later.
//!
//! The layout is known from the iphonebackupbrowser and iphone-dataprotection projects: `mbdb` and a version of two bytes, then records, one after
//! another. All numbers are big-endian; a string is a length in two bytes and so many bytes, and the length ff ff stands for none.
//!
//! ```text
//! string domain, path, target of a link, SHA-1 of the content, encryption key
//! u16    mode, of which the four highest bits say what it is: 4 folder, 8 file, 10 link
//! u64    inode
//! u32    user, group
//! i32    modification, status change, birth (seconds since 1970)
//! u64    length
//! u8     protection class
//! u8     number of properties; each is a string for its name, and one for its value
//! ```
//!
//! An encryption key is four bytes and a key that the class key of the record's protection class has wrapped. The file itself is
//! never encrypted. It comes from outside: no length is believed, and a record takes four bytes of memory beside the
//! file's own. Manifest.mbdx, which iOS 4 has beside it, repeats what follows from the names.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::{
    Attributes, Error, FileId, Kind, Record, Row, RowFlaw,
    folder::regular_file_bytes,
    manifest_db::{is_domain, is_relative_path, printable},
};
use crate::property_list::MAX_FILE_BYTES;

const MAGIC: &[u8; 4] = b"mbdb";
/// The only version that is known.
const VERSION: [u8; 2] = [5, 0];
const HEADER_BYTES: usize = 6;
/// The length of a string that is not there.
const NONE: u16 = 0xffff;

/// A Manifest.mbdb in memory.
pub struct ManifestMbdb {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Where records begin, in the order of their names.
    starts: Vec<u32>,
    damage: Option<String>,
}

impl ManifestMbdb {
    /// None is longer that is read.
    pub const MAX_BYTES: u64 = MAX_FILE_BYTES;

    /// Reads the file at `path`, which is neither a link nor a pipe.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let length = regular_file_bytes(path)?;
        if length > MAX_FILE_BYTES {
            return Err(not_a_manifest(path, format!("{length} bytes are too many")));
        }
        let mut bytes = Vec::new();
        File::open(path)
            // What it grew meanwhile is left for the next reading.
            .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
            .map_err(|source| Error::io(path, source))?;
        ManifestMbdb::of(bytes, path)
    }

    /// Takes the bytes of a file, which is at `path` for whoever reads of errors.
    ///
    /// A file that ends within a record is no error here: [`records`](ManifestMbdb::records) delivers those before it.
    pub fn of(bytes: Vec<u8>, path: &Path) -> Result<Self, Error> {
        let path = path.to_owned();
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(not_a_manifest(&path, format!("{} bytes are too many", bytes.len())));
        }
        match bytes.get(..HEADER_BYTES) {
            Some(header) if header[..4] == *MAGIC && header[4..] == VERSION => {}
            Some(header) if header[..4] == *MAGIC => {
                return Err(not_a_manifest(&path, format!("its version is {}.{}", header[4], header[5])));
            }
            _ => return Err(not_a_manifest(&path, "it does not begin with mbdb".to_owned())),
        }
        let mut starts = Vec::new();
        let mut rest = Rest(&bytes[HEADER_BYTES..]);
        let mut damage = None;
        while !rest.0.is_empty() {
            let start = bytes.len() - rest.0.len();
            match rest.record() {
                // Within `MAX_FILE_BYTES`.
                Some(_) => starts.push(start as u32),
                None => {
                    damage = Some(format!("it ends within a record, after {} records", starts.len()));
                    break;
                }
            }
        }
        let mut manifest = ManifestMbdb { path, bytes, starts: Vec::new(), damage };
        starts.sort_by(|one, other| manifest.name_at(*one).cmp(&manifest.name_at(*other)));
        manifest.starts = starts;
        Ok(manifest)
    }

    /// All records, ordered by domain and path, bytewise. If the file is cut off, the records before that come first, and
    /// [`Error::Damaged`] last.
    pub fn records(&self) -> impl Iterator<Item = Result<Row, Error>> + '_ {
        let names = self.starts.iter().map(|start| self.name_at(*start));
        let before = std::iter::once(None).chain(names.map(Some));
        let rows = self.starts.iter().zip(before).map(|(start, before)| Ok(self.row_at(*start, before)));
        let damage = self.damage.iter().map(|what| Err(Error::Damaged { path: self.path.clone(), what: what.clone() }));
        rows.chain(damage)
    }

    fn record_at(&self, start: u32) -> Option<RawRecord<'_>> {
        Rest(self.bytes.get(start as usize..)?).record()
    }

    /// Domain and path of a record, which are its first two strings.
    fn name_at(&self, start: u32) -> (&[u8], &[u8]) {
        let mut rest = Rest(self.bytes.get(start as usize..).unwrap_or_default());
        (rest.string().unwrap_or_default(), rest.string().unwrap_or_default())
    }

    fn row_at(&self, start: u32, before: Option<(&[u8], &[u8])>) -> Row {
        let unusable = |what: Option<String>, why| Row::Unusable {
            what: what.unwrap_or_else(|| format!("the record at {start}")),
            why,
        };
        let Some(record) = self.record_at(start) else { return unusable(None, RowFlaw::Flags) };
        let (domain, path) = (text(record.domain), text(record.path));
        let what = domain.zip(path).map(|(domain, path)| printable(domain, path));
        let Some(domain) = domain.filter(|domain| is_domain(domain)) else { return unusable(what, RowFlaw::Domain) };
        let Some(path) = path.filter(|path| is_relative_path(path)) else {
            return unusable(what, RowFlaw::RelativePath);
        };
        let kind = match record.mode >> 12 {
            0x4 => Kind::Directory,
            0x8 => Kind::File,
            0xa => Kind::Symlink,
            _ => return unusable(what, RowFlaw::Flags),
        };
        if before == Some((record.domain, record.path)) {
            return unusable(what, RowFlaw::Duplicate);
        }
        let (domain, relative_path) = (domain.to_owned(), path.to_owned());
        let file_id = FileId::of(&domain, &relative_path);
        Row::Record(Record { file_id, domain, relative_path, kind, attributes: Ok(record.attributes()) })
    }
}

/// A record as it lies in the file.
struct RawRecord<'a> {
    domain: &'a [u8],
    path: &'a [u8],
    target: &'a [u8],
    digest: &'a [u8],
    encryption_key: &'a [u8],
    mode: u16,
    inode: u64,
    user: u32,
    group: u32,
    mtime: i32,
    ctime: i32,
    btime: i32,
    length: u64,
    protection_class: u8,
    properties: u8,
}

impl RawRecord<'_> {
    fn attributes(&self) -> Attributes {
        let bytes = |bytes: &[u8]| (!bytes.is_empty()).then(|| bytes.to_vec());
        Attributes {
            mode: Some(self.mode.into()),
            size: Some(self.length),
            mtime: Some(self.mtime.into()),
            ctime: Some(self.ctime.into()),
            btime: Some(self.btime.into()),
            uid: Some(self.user),
            gid: Some(self.group),
            inode: Some(self.inode),
            flags: None,
            protection_class: Some(self.protection_class),
            target: text(self.target).filter(|target| !target.is_empty()).map(str::to_owned),
            encryption_key: self.wrapped_key(),
            digest: bytes(self.digest),
            has_extended_attributes: self.properties > 0,
        }
    }
}

impl RawRecord<'_> {
    /// The wrapped key in the form of later backups: the protection class in four bytes, little-endian, before it.
    fn wrapped_key(&self) -> Option<Vec<u8>> {
        let mut key = self.encryption_key.to_vec();
        if let Some(class) = key.first_chunk_mut().filter(|_| self.protection_class != 0) {
            *class = u32::from(self.protection_class).to_le_bytes();
        }
        (!key.is_empty()).then_some(key)
    }
}

/// The bytes that are still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// The next record; none if the file ends before it does.
    fn record(&mut self) -> Option<RawRecord<'a>> {
        let [domain, path, target] = [self.string()?, self.string()?, self.string()?];
        let [digest, encryption_key] = [self.string()?, self.string()?];
        let mode = u16::from_be_bytes(self.array()?);
        let inode = u64::from_be_bytes(self.array()?);
        let [user, group] = [u32::from_be_bytes(self.array()?), u32::from_be_bytes(self.array()?)];
        let [mtime, ctime, btime] = [self.time()?, self.time()?, self.time()?];
        let length = u64::from_be_bytes(self.array()?);
        let [protection_class, properties] = self.array()?;
        for _ in 0..properties {
            self.string()?;
            self.string()?;
        }
        Some(RawRecord {
            domain,
            path,
            target,
            digest,
            encryption_key,
            mode,
            inode,
            user,
            group,
            mtime,
            ctime,
            btime,
            length,
            protection_class,
            properties,
        })
    }

    /// A string, empty if there is none.
    fn string(&mut self) -> Option<&'a [u8]> {
        match u16::from_be_bytes(self.array()?) {
            NONE => Some(&[]),
            length => self.take(length.into()),
        }
    }

    fn time(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn not_a_manifest(path: &Path, why: String) -> Error {
    Error::NotAManifest { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn string(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
    }

    /// A record as iOS wrote it, byte for byte as the layout at the head says.
    fn record(domain: &[u8], path: &[u8], mode: u16, target: Option<&[u8]>, key: Option<&[u8]>) -> Vec<u8> {
        let optional = |bytes: Option<&[u8]>| bytes.map_or(vec![0xff, 0xff], string);
        let mut bytes =
            [string(domain), string(path), optional(target), optional(Some(&[9; 20])), optional(key)].concat();
        bytes.extend(mode.to_be_bytes());
        bytes.extend(55_569_u64.to_be_bytes());
        for number in [501_u32, 502, 1_400_000_001, 1_400_000_002, 1_400_000_003] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(5_000_000_000_u64.to_be_bytes());
        bytes.extend([3, 2]);
        for text in [&b"com.apple.assetsd.UUID"[..], &[0xff; 16], b"name", b""] {
            bytes.extend(string(text));
        }
        bytes
    }

    fn file(records: &[Vec<u8>]) -> Vec<u8> {
        [&b"mbdb\x05\x00"[..], &records.concat()].concat()
    }

    fn open(bytes: Vec<u8>) -> Result<ManifestMbdb, Error> {
        ManifestMbdb::of(bytes, Path::new("Manifest.mbdb"))
    }

    fn rows(bytes: Vec<u8>) -> Vec<Result<Row, Error>> {
        open(bytes).unwrap().records().collect()
    }

    /// mbdb-names: a record written by hand, hexadecimal, and everything that is in it.
    #[test]
    fn every_field_is_read() {
        let vector = "6d6264620500\
            000a486f6d65446f6d61696e00124c6962726172792f534d532f736d732e6462\
            ffff\
            0014000102030405060708090a0b0c0d0e0f10111213\
            0005aabbccddee\
            81a4\
            0000000000001234\
            000001f5000001f6\
            4fc2e3a04fc2e3a1ffffffff\
            0000000000010000\
            0300";
        let bytes: Vec<u8> =
            (0..vector.len()).step_by(2).map(|at| u8::from_str_radix(&vector[at..at + 2], 16).unwrap()).collect();
        let expected = Record {
            file_id: FileId::parse("3d0d7e5fb2ce288813306e4d4636395e047a3d28").unwrap(),
            domain: "HomeDomain".into(),
            relative_path: "Library/SMS/sms.db".into(),
            kind: Kind::File,
            attributes: Ok(Attributes {
                mode: Some(0o100644),
                size: Some(65_536),
                mtime: Some(1_338_172_320),
                ctime: Some(1_338_172_321),
                btime: Some(-1),
                uid: Some(501),
                gid: Some(502),
                inode: Some(0x1234),
                protection_class: Some(3),
                encryption_key: Some(vec![3, 0, 0, 0, 0xee]),
                digest: Some((0..20).collect()),
                ..Attributes::default()
            }),
        };
        let read = rows(bytes).remove(0).unwrap();
        assert_eq!(read, Row::Record(expected));
    }

    #[test]
    fn records_come_in_the_order_of_their_bytes() {
        let names = [("b", "a"), ("B", "z"), ("B", "é"), ("B", "Z"), ("B", ""), ("Ba", "a"), ("a-", "")];
        let records = names.map(|(domain, path)| record(domain.as_bytes(), path.as_bytes(), 0x81a4, None, None));
        let order: Vec<String> = rows(file(&records))
            .into_iter()
            .map(|row| match row.unwrap() {
                Row::Record(record) => format!("{}:{}", record.domain, record.relative_path),
                Row::Unusable { what, .. } => panic!("{what}"),
            })
            .collect();
        assert_eq!(order, ["B:", "B:Z", "B:z", "B:é", "Ba:a", "a-:", "b:a"]);
    }

    #[test]
    fn folders_and_links_are_told_from_files() {
        let records =
            [record(b"D", b"a", 0x41ed, None, None), record(b"D", b"b", 0xa1ff, Some(b"/var/x"), Some(&[7; 44]))];
        let kinds: Vec<_> = rows(file(&records))
            .into_iter()
            .map(|row| match row.unwrap() {
                Row::Record(record) => (record.kind, record.attributes.unwrap().target),
                Row::Unusable { what, .. } => panic!("{what}"),
            })
            .collect();
        assert_eq!(kinds, [(Kind::Directory, None), (Kind::Symlink, Some("/var/x".into()))]);
    }

    #[test]
    fn hostile_and_senseless_records_are_named() {
        let cases: [(&[u8], &[u8], u16, RowFlaw); 9] = [
            (b"", b"a", 0x81a4, RowFlaw::Domain),
            (b"..", b"a", 0x81a4, RowFlaw::Domain),
            (b"a/b", b"a", 0x81a4, RowFlaw::Domain),
            (b"D\xff", b"a", 0x81a4, RowFlaw::Domain),
            (b"D", b"../x", 0x81a4, RowFlaw::RelativePath),
            (b"D", b"/etc/passwd", 0x81a4, RowFlaw::RelativePath),
            (b"D", b"a\0b", 0x81a4, RowFlaw::RelativePath),
            (b"D", b"\xff", 0x81a4, RowFlaw::RelativePath),
            (b"D", b"a", 0x01a4, RowFlaw::Flags),
        ];
        for (domain, path, mode, expected) in cases {
            let row = rows(file(&[record(domain, path, mode, None, None)])).remove(0).unwrap();
            assert!(matches!(&row, Row::Unusable { why, .. } if *why == expected), "{expected:?}: {row:?}");
        }
        let twice = rows(file(&[record(b"D", b"a", 0x81a4, None, None), record(b"D", b"a", 0x81a4, None, None)]));
        assert!(matches!(twice[0], Ok(Row::Record(_))));
        assert!(matches!(twice[1], Ok(Row::Unusable { why: RowFlaw::Duplicate, .. })));
    }

    #[test]
    fn a_file_that_is_cut_off_gives_what_came_before() {
        let whole = file(&[record(b"D", b"a", 0x81a4, None, None), record(b"D", b"b", 0x81a4, None, None)]);
        let first = record(b"D", b"a", 0x81a4, None, None).len() + HEADER_BYTES;
        for length in HEADER_BYTES..whole.len() {
            let rows = rows(whole[..length].to_vec());
            let records = rows.iter().filter(|row| matches!(row, Ok(Row::Record(_)))).count();
            assert_eq!(records, usize::from(length >= first), "{length}");
            let is_cut = !matches!(length, HEADER_BYTES) && length != first;
            assert_eq!(matches!(rows.last(), Some(Err(Error::Damaged { .. }))), is_cut, "{length}");
        }
        for bytes in [&b""[..], b"mbdb", b"mbdx\x02\x00", b"mbdb\x06\x00", b"SQLite format 3\0"] {
            assert!(matches!(open(bytes.to_vec()), Err(Error::NotAManifest { .. })), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            rows(file(&[bytes])).into_iter().for_each(drop);
        }

        #[test]
        fn flipped_bytes_end_in_a_verdict(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut bytes = file(&[record(b"D", b"a", 0x81a4, None, Some(&[1; 44])), record(b"E", b"b", 0x41ed, None, None)]);
            for (place, byte) in flips {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Ok(manifest) = open(bytes) {
                assert!(manifest.records().count() <= 16);
            }
        }

        #[test]
        fn names_go_in_and_come_out(names in prop::collection::btree_set(("[a-zA-Z]{1,9}", "[a-z]{1,9}(/[a-zé]{1,9}){0,3}"), 0..20)) {
            let records: Vec<_> =
                names.iter().rev().map(|(d, p)| record(d.as_bytes(), p.as_bytes(), 0x81a4, None, None)).collect();
            let read: Vec<_> = rows(file(&records))
                .into_iter()
                .map(|row| match row.unwrap() {
                    Row::Record(record) => (record.domain, record.relative_path),
                    Row::Unusable { what, .. } => panic!("{what}"),
                })
                .collect();
            prop_assert_eq!(read, names.into_iter().collect::<Vec<_>>());
        }
    }
}
