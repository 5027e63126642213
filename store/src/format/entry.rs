//! What a tree says of a name (SPEC §9): kind, place, content, and what the phone said.

use crate::{
    bytes::{Cursor, Malformed, put_varint, unzigzag, zigzag},
    error::Refused,
    format::phone_cipher::Sealing,
    id::ChunkId,
    name::{Name, TreePath},
};

/// More chunks than these are kept in a chunk list.
pub(crate) const INLINE_MAX_CHUNKS: usize = 32;
const CRITICAL_TAGS: u8 = 128;
const SEALING_TAG: u8 = 129;

/// What kind of thing a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A file; one without content was named by Manifest.db but not in the folder.
    File = 1,
    /// A directory on the phone; in the domain `""` an empty one of the backup folder.
    Directory = 2,
    /// A symbolic link on the phone.
    Symlink = 3,
}

/// An entry of a snapshot's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Where it lies in the backup folder, if that does not follow from its name; see [`Entry::place_for`].
    pub place: Option<TreePath>,
    /// When the file in the backup folder was modified, nanoseconds since 1970.
    pub place_mtime_ns: Option<i64>,
    /// The file's bytes.
    pub content: Option<Content>,
    /// Where a symbolic link points to.
    pub target: Option<String>,
    /// What Manifest.db says of it.
    pub phone: PhoneMetadata,
}

/// What Manifest.db says of a file: for people to see, and no part of what is restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of stat(2) and of Manifest.db")]
pub struct PhoneMetadata {
    pub mode: Option<u32>,
    pub user: Option<u32>,
    pub group: Option<u32>,
    pub inode: Option<u64>,
    /// Bytes.
    pub size: Option<u64>,
    /// Seconds since 1970, as the two below.
    pub mtime: Option<i64>,
    pub ctime: Option<i64>,
    pub btime: Option<i64>,
    pub protection_class: Option<u32>,
    pub flags: Option<u32>,
}

/// A file's bytes, as chunks of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The unkeyed BLAKE3 of the bytes.
    pub hash: [u8; 32],
    /// Bytes.
    pub length: u64,
    /// If the chunks are of plaintext, of which the bytes are the ciphertext.
    pub(crate) sealing: Option<Sealing>,
    pub(crate) rule: u8,
    pub(crate) chunks: Chunks,
}

/// The chunks that make up a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chunks {
    Inline(Vec<ChunkRef>),
    /// The id of a chunk list.
    List(ChunkId),
}

/// An item of a chunk list: a data chunk, or a list of the level below, with the bytes that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkRef {
    pub(crate) id: ChunkId,
    pub(crate) len: u64,
}

impl ChunkRef {
    pub(crate) fn emit(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        put_varint(out, self.len);
    }

    pub(crate) fn parse(cursor: &mut Cursor) -> Result<ChunkRef, Malformed> {
        let item = ChunkRef { id: ChunkId(cursor.array()?), len: cursor.varint()? };
        // Items of no length would let a few lists name endlessly many.
        if item.len == 0 { Err(Malformed) } else { Ok(item) }
    }
}

impl Entry {
    /// An entry of `kind` about which nothing else is known.
    pub fn new(kind: Kind) -> Entry {
        Entry { kind, place: None, place_mtime_ns: None, content: None, target: None, phone: PhoneMetadata::default() }
    }

    /// Where the thing called `name` lies in the backup folder: nothing for directories and links of the phone, and for
    /// files that were not there.
    pub fn place_for(&self, name: &Name) -> Option<TreePath> {
        let lies_in_folder = match self.kind {
            Kind::File => self.content.is_some(),
            Kind::Directory => name.domain().is_empty(),
            Kind::Symlink => false,
        };
        match (&self.place, lies_in_folder) {
            (_, false) => None,
            (Some(place), _) => Some(place.clone()),
            (None, _) if name.domain().is_empty() => TreePath::new(name.path()).ok(),
            (None, _) => Some(name.apples_place()),
        }
    }

    pub(crate) fn emit(&self) -> Vec<u8> {
        let mut out = Fields(Vec::with_capacity(160));
        let phone = &self.phone;
        out.number(0, Some(self.kind as u64));
        out.bytes(1, self.place.as_ref().map(|place| place.as_str().as_bytes()));
        out.number(2, self.place_mtime_ns.map(zigzag));
        if let Some(content) = &self.content {
            content.emit_into(&mut out);
        }
        out.number(8, phone.mode.map(u64::from));
        out.bytes(9, self.target.as_deref().map(str::as_bytes));
        out.number(10, phone.user.map(u64::from));
        out.number(12, phone.group.map(u64::from));
        out.number(14, phone.inode);
        out.number(16, phone.size);
        out.number(18, phone.mtime.map(zigzag));
        out.number(20, phone.ctime.map(zigzag));
        out.number(22, phone.btime.map(zigzag));
        out.number(24, phone.protection_class.map(u64::from));
        out.number(26, phone.flags.map(u64::from));
        if let Some(content) = &self.content {
            content.emit_sealing_into(&mut out);
        }
        out.0
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Entry, Refused> {
        let mut content = PartialContent::default();
        let mut kind = None;
        let mut entry = Entry::new(Kind::File);
        for_each_field(bytes, |tag, field| {
            let phone = &mut entry.phone;
            match (tag, field) {
                (0, Field::Number(number)) => kind = Some(number),
                (1, Field::Bytes(text)) => {
                    let place = std::str::from_utf8(text).ok().and_then(|text| TreePath::new(text).ok());
                    entry.place = Some(place.ok_or("an entry's place is refused")?);
                }
                (2, Field::Number(number)) => entry.place_mtime_ns = Some(unzigzag(number)),
                (3..=7 | SEALING_TAG, field) => content.take(tag, field)?,
                (8, Field::Number(number)) => phone.mode = Some(number as u32),
                (9, Field::Bytes(text)) => entry.target = Some(String::from_utf8_lossy(text).into_owned()),
                (10, Field::Number(number)) => phone.user = Some(number as u32),
                (12, Field::Number(number)) => phone.group = Some(number as u32),
                (14, Field::Number(number)) => phone.inode = Some(number),
                (16, Field::Number(number)) => phone.size = Some(number),
                (18, Field::Number(number)) => phone.mtime = Some(unzigzag(number)),
                (20, Field::Number(number)) => phone.ctime = Some(unzigzag(number)),
                (22, Field::Number(number)) => phone.btime = Some(unzigzag(number)),
                (24, Field::Number(number)) => phone.protection_class = Some(number as u32),
                (26, Field::Number(number)) => phone.flags = Some(number as u32),
                (CRITICAL_TAGS.., _) => return Err(Refused::Newer(format!("fields of tag {tag}"))),
                _ => {}
            }
            Ok(())
        })?;
        let kind = kind.filter(|kind| *kind != 0).ok_or("an entry is of no kind")?;
        entry.kind = [Kind::File, Kind::Directory, Kind::Symlink]
            .into_iter()
            .find(|&known| kind == known as u64)
            .ok_or_else(|| Refused::Newer(format!("entries of kind {kind}")))?;
        entry.content = content.finish()?;
        if entry.content.is_some() && entry.kind != Kind::File {
            return Err("an entry has content, but is no file".into());
        }
        Ok(entry)
    }
}

impl Content {
    /// Whether this is kept as plaintext, and the ciphertext rebuilt from it.
    pub fn is_sealed(&self) -> bool {
        self.sealing.is_some()
    }

    /// Bytes of what is kept: of the plaintext, if this is sealed.
    pub fn plaintext_len(&self) -> u64 {
        self.sealing.as_ref().map_or(self.length, |sealing| sealing.plaintext_len)
    }

    /// The [`hash`](Content::hash) of what `bytes` gives.
    ///
    /// # Errors
    /// Those of `bytes`.
    pub fn hash_of(bytes: &mut dyn std::io::Read) -> std::io::Result<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        std::io::copy(bytes, &mut hasher)?;
        Ok(*hasher.finalize().as_bytes())
    }

    /// The same, sealed by `key`: what is remembered of a sealed content outside of the repository has no key.
    #[must_use]
    pub fn with_key(self, key: &[u8; 32]) -> Content {
        Content { sealing: self.sealing.map(|sealing| sealing.with_key(key)), ..self }
    }

    /// As the fields 3 to 7 and 129 of an entry.
    pub(crate) fn emit(&self) -> Vec<u8> {
        let mut out = Fields(Vec::with_capacity(80));
        self.emit_into(&mut out);
        self.emit_sealing_into(&mut out);
        out.0
    }

    /// Reads what [`emit`](Content::emit) wrote.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Content> {
        let mut content = PartialContent::default();
        for_each_field(bytes, |tag, field| content.take(tag, field)).ok()?;
        content.finish().ok()?
    }

    fn emit_into(&self, out: &mut Fields) {
        out.bytes(3, Some(&self.hash));
        out.number(4, Some(self.length));
        if let Chunks::Inline(chunks) = &self.chunks {
            let mut items = Vec::with_capacity(20 * chunks.len());
            chunks.iter().for_each(|chunk| chunk.emit(&mut items));
            out.bytes(5, Some(&items));
        }
        out.number(6, Some(u64::from(self.rule)));
        if let Chunks::List(id) = &self.chunks {
            out.bytes(7, Some(id.as_bytes()));
        }
    }

    fn emit_sealing_into(&self, out: &mut Fields) {
        out.bytes(SEALING_TAG, self.sealing.as_ref().map(Sealing::emit).as_deref());
    }
}

/// An entry's fields being written, in ascending order of their tags.
struct Fields(Vec<u8>);

impl Fields {
    fn number(&mut self, tag: u8, value: Option<u64>) {
        if let Some(value) = value {
            self.0.push(tag);
            put_varint(&mut self.0, value);
        }
    }

    fn bytes(&mut self, tag: u8, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.0.push(tag);
            put_varint(&mut self.0, value.len() as u64);
            self.0.extend_from_slice(value);
        }
    }
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn for_each_field(bytes: &[u8], mut each: impl FnMut(u8, Field) -> Result<(), Refused>) -> Result<(), Refused> {
    let short = |_: Malformed| "an entry ends too early";
    let mut cursor = Cursor(bytes);
    let mut previous = None;
    while !cursor.is_empty() {
        let tag = cursor.u8().map_err(short)?;
        if previous.is_some_and(|previous| previous >= tag) {
            return Err("an entry's fields are not in order".into());
        }
        previous = Some(tag);
        let field = if tag % 2 == 0 {
            Field::Number(cursor.varint().map_err(short)?)
        } else {
            Field::Bytes(cursor.bytes().map_err(short)?)
        };
        each(tag, field)?;
    }
    Ok(())
}

/// The fields 3 to 7 and 129 of an entry, as far as they were read.
#[derive(Default)]
struct PartialContent {
    hash: Option<[u8; 32]>,
    length: Option<u64>,
    inline: Option<Vec<ChunkRef>>,
    rule: u8,
    list: Option<ChunkId>,
    sealing: Option<Sealing>,
}

impl PartialContent {
    fn take(&mut self, tag: u8, field: Field) -> Result<(), Refused> {
        match (tag, field) {
            (3, Field::Bytes(hash)) => {
                self.hash = Some(hash.try_into().map_err(|_| "a content's hash has a wrong length")?)
            }
            (4, Field::Number(length)) => self.length = Some(length),
            (5, Field::Bytes(items)) => {
                let mut cursor = Cursor(items);
                let mut chunks = Vec::new();
                while !cursor.is_empty() {
                    chunks.push(ChunkRef::parse(&mut cursor).map_err(|_| "a content's chunks end too early")?);
                }
                if chunks.len() > INLINE_MAX_CHUNKS {
                    return Err("a content has more chunks than an entry holds".into());
                }
                self.inline = Some(chunks);
            }
            (6, Field::Number(rule)) => self.rule = rule as u8,
            (7, Field::Bytes(id)) => {
                self.list = Some(ChunkId(id.try_into().map_err(|_| "a chunk list's id has a wrong length")?));
            }
            (SEALING_TAG, Field::Bytes(sealing)) => self.sealing = Some(Sealing::parse(sealing)?),
            _ => return Err("a content has an unknown field".into()),
        }
        Ok(())
    }

    fn finish(self) -> Result<Option<Content>, Refused> {
        let Some(length) = self.length else {
            let nothing = self.hash.is_none() && self.inline.is_none() && self.list.is_none() && self.sealing.is_none();
            return if nothing { Ok(None) } else { Err("a content has no length".into()) };
        };
        let hash = self.hash.ok_or("a content has no hash")?;
        if self.sealing.as_ref().is_some_and(|sealing| !sealing.fits(length)) {
            return Err("a content's plaintext does not make up its length".into());
        }
        let plaintext_len = self.sealing.as_ref().map_or(length, |sealing| sealing.plaintext_len);
        let chunks = match (self.inline, self.list) {
            (Some(chunks), None) => {
                let sum = chunks.iter().try_fold(0u64, |sum, chunk| sum.checked_add(chunk.len));
                if sum != Some(plaintext_len) {
                    return Err("a content's chunks do not make up its length".into());
                }
                Chunks::Inline(chunks)
            }
            (None, Some(id)) => Chunks::List(id),
            _ => return Err("a content has no chunks, or two kinds of them".into()),
        };
        Ok(Some(Content { hash, length, sealing: self.sealing, rule: self.rule, chunks }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full() -> Entry {
        let chunk = ChunkRef { id: ChunkId([5; 16]), len: 70_000 };
        Entry {
            kind: Kind::File,
            place: Some(TreePath::new("ab/other").unwrap()),
            place_mtime_ns: Some(-5),
            content: Some(Content {
                hash: [6; 32],
                length: 140_000,
                sealing: None,
                rule: 5,
                chunks: Chunks::Inline(vec![chunk; 2]),
            }),
            target: Some("elsewhere".into()),
            phone: PhoneMetadata {
                mode: Some(0o100644),
                user: Some(501),
                group: Some(501),
                inode: Some(1 << 40),
                size: Some(140_000),
                mtime: Some(1_610_674_669),
                ctime: Some(-1),
                btime: Some(0),
                protection_class: Some(3),
                flags: Some(4),
            },
        }
    }

    #[test]
    fn entries_go_round() {
        let listed =
            Content { hash: [1; 32], length: 1 << 33, sealing: None, rule: 2, chunks: Chunks::List(ChunkId([8; 16])) };
        let with_list = Entry { content: Some(listed.clone()), ..full() };
        for entry in [full(), with_list, Entry::new(Kind::Directory), Entry::new(Kind::Symlink)] {
            assert_eq!(Entry::parse(&entry.emit()), Ok(entry));
        }
        assert_eq!(Content::parse(&listed.emit()), Some(listed));
    }

    #[test]
    fn unknown_fields_are_skipped_unless_critical() {
        let mut bytes = full().emit();
        bytes.extend([127, 2, 0xff, 0xff]);
        assert_eq!(Entry::parse(&bytes), Ok(full()));
        bytes.extend([129, 0]);
        assert!(Entry::parse(&bytes).is_err());
        assert!(Entry::parse(&[2, 0, 0, 1]).is_err(), "order");
        assert!(Entry::parse(&[]).is_err(), "kind");
        assert!(Entry::parse(&[0, 1, 4, 1]).is_err(), "a length without chunks");
        assert!(Entry::parse(&[0, 1, 1, 2, b'.', b'.']).is_err(), "a hostile place");
    }

    #[test]
    fn places_follow_from_names_unless_given() {
        let name = Name::new("HomeDomain", "Library/SMS/sms.db").unwrap();
        let mut entry = full();
        assert_eq!(entry.place_for(&name).unwrap().as_str(), "ab/other");
        entry.place = None;
        assert_eq!(entry.place_for(&name), Some(name.apples_place()));
        let place = TreePath::new("Info.plist").unwrap();
        assert_eq!(entry.place_for(&Name::of_place(&place)), Some(place.clone()));
        entry.content = None;
        assert_eq!(entry.place_for(&name), None);
        assert_eq!(Entry::new(Kind::Directory).place_for(&name), None);
        assert_eq!(Entry::new(Kind::Directory).place_for(&Name::of_place(&place)), Some(place));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(entry) = Entry::parse(&bytes) {
                prop_assert_eq!(Entry::parse(&entry.emit()), Ok(entry));
            }
        }
    }
}
