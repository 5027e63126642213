//! Binary property lists ("bplist00") in place: nothing is copied or allocated until it is asked for.
//!
//! The layout is that of CoreFoundation's CFBinaryPList.c: magic, objects, a table of their offsets, a trailer of 32
//! bytes. A reference is an index into the table. All numbers are big-endian.

use plist::{Dictionary, Integer, Uid, Value};

use super::{Budget, PlistError, date_value, placeholder, whole};

pub(crate) const MAGIC: &[u8] = b"bplist00";
const TRAILER_BYTES: usize = 32;
/// Unix time of 2001-01-01, where property lists count from.
const EPOCH_UNIX_SECONDS: f64 = 978_307_200.0;

/// A document whose trailer and offset table lie within it.
pub(crate) struct Document<'a> {
    /// The file up to the offset table.
    objects: &'a [u8],
    offsets: &'a [u8],
    offset_bytes: usize,
    reference_bytes: usize,
    root: u64,
}

/// One object; containers hold references only.
pub(crate) enum Object<'a> {
    Boolean(bool),
    Integer(i128),
    Real(f64),
    /// Seconds since 2001-01-01 UTC.
    Date(f64),
    Data(&'a [u8]),
    /// ASCII, or what claims to be.
    Text(&'a [u8]),
    /// UTF-16, big-endian.
    WideText(&'a [u8]),
    /// A keyed archive's reference, an index into its `$objects`.
    Uid(u64),
    Array(References<'a>),
    Dictionary {
        keys: References<'a>,
        values: References<'a>,
    },
    /// Of a kind that property lists of phones do not have, such as null.
    Unknown,
}

/// A run of references.
#[derive(Clone, Copy)]
pub(crate) struct References<'a> {
    bytes: &'a [u8],
    width: usize,
}

impl<'a> Document<'a> {
    /// Checks the frame of the document; objects are checked when they are read.
    pub(crate) fn open(file: &'a [u8]) -> Result<Self, PlistError> {
        let body = file.strip_prefix(MAGIC).ok_or(PlistError::UnknownEncoding)?;
        let trailer_start =
            body.len().checked_sub(TRAILER_BYTES).ok_or(PlistError::Malformed("shorter than its trailer"))?
                + MAGIC.len();
        let trailer = &file[trailer_start..];
        let (offset_bytes, reference_bytes) = (usize::from(trailer[6]), usize::from(trailer[7]));
        if !(1..=8).contains(&offset_bytes) || !(1..=8).contains(&reference_bytes) {
            return Err(PlistError::Malformed("width of offsets or references"));
        }
        let [count, root, table] = [8, 16, 24].map(|at| uint(&trailer[at..at + 8]));
        let table_end = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(offset_bytes)?.checked_add(usize::try_from(table).ok()?))
            .filter(|&end| end <= trailer_start)
            .ok_or(PlistError::Malformed("offset table outside the file"))?;
        let (objects, rest) = file.split_at(table as usize);
        Ok(Document { objects, offsets: &rest[..table_end - table as usize], offset_bytes, reference_bytes, root })
    }

    /// The object at the top.
    pub(crate) fn root(&self) -> Result<Object<'a>, PlistError> {
        self.object(self.root)
    }

    /// The object that `reference` names.
    pub(crate) fn object(&self, reference: u64) -> Result<Object<'a>, PlistError> {
        const OUTSIDE: PlistError = PlistError::Malformed("object outside the file");
        let start = usize::try_from(reference)
            .ok()
            .and_then(|index| index.checked_mul(self.offset_bytes))
            .and_then(|start| self.offsets.get(start..)?.get(..self.offset_bytes))
            .and_then(|offset| usize::try_from(uint(offset)).ok())
            .ok_or(PlistError::Malformed("reference without an object"))?;
        let (&marker, rest) = self.objects.get(start..).and_then(<[u8]>::split_first).ok_or(OUTSIDE)?;
        let (kind, low) = (marker >> 4, marker & 0x0f);
        match (kind, low) {
            (0x0, 0x8) => Ok(Object::Boolean(false)),
            (0x0, 0x9) => Ok(Object::Boolean(true)),
            (0x1, 0..=4) => Ok(Object::Integer(integer(take(rest, 1 << low)?))),
            (0x2, 2) => Ok(Object::Real(f32::from_be_bytes(array(rest)?).into())),
            (0x2, 3) => Ok(Object::Real(f64::from_be_bytes(array(rest)?))),
            (0x3, 3) => Ok(Object::Date(f64::from_be_bytes(array(rest)?))),
            (0x8, 0..=7) => Ok(Object::Uid(uint(take(rest, usize::from(low) + 1)?))),
            (0x4..=0x6 | 0xa | 0xd, _) => self.sized_object(kind, low, rest),
            _ => Ok(Object::Unknown),
        }
    }

    fn sized_object(&self, kind: u8, low: u8, rest: &'a [u8]) -> Result<Object<'a>, PlistError> {
        let (length, rest) = length(low, rest)?;
        let references = |bytes| References { bytes, width: self.reference_bytes };
        let run = |width: usize| {
            let bytes = length.checked_mul(width).ok_or(PlistError::Malformed("length outside the file"))?;
            take(rest, bytes)
        };
        Ok(match kind {
            0x4 => Object::Data(run(1)?),
            0x5 => Object::Text(run(1)?),
            0x6 => Object::WideText(run(2)?),
            0xa => Object::Array(references(run(self.reference_bytes)?)),
            _ => {
                let (keys, values) = run(2 * self.reference_bytes)?.split_at(length * self.reference_bytes);
                Object::Dictionary { keys: references(keys), values: references(values) }
            }
        })
    }

    pub(super) fn root_value(&self, budget: &mut Budget) -> Result<Value, PlistError> {
        whole(self.value(self.root, budget, 0)?)
    }

    /// The value of an object; none if it is impossible.
    fn value(&self, reference: u64, budget: &mut Budget, depth: usize) -> Result<Option<Value>, PlistError> {
        budget.spend_value(depth)?;
        Ok(match self.object(reference)? {
            Object::Boolean(boolean) => Some(Value::Boolean(boolean)),
            Object::Integer(integer) => integer_value(integer),
            Object::Real(real) => Some(Value::Real(real)),
            Object::Date(seconds) => date_value(seconds + EPOCH_UNIX_SECONDS),
            Object::Uid(uid) => Some(Value::Uid(Uid::new(uid))),
            Object::Data(data) => {
                budget.spend_content(data.len())?;
                Some(Value::Data(data.to_vec()))
            }
            Object::Text(text) => {
                budget.spend_content(text.len())?;
                Some(Value::String(utf8(text)))
            }
            Object::WideText(text) => {
                budget.spend_content(text.len())?;
                Some(Value::String(utf16(text)))
            }
            Object::Array(items) => {
                let value = |item| Ok(self.value(item, budget, depth + 1)?.unwrap_or_else(placeholder));
                Some(Value::Array(items.iter().map(value).collect::<Result<_, PlistError>>()?))
            }
            Object::Dictionary { keys, values } => Some(self.dictionary(keys, values, budget, depth)?),
            Object::Unknown => None,
        })
    }

    fn dictionary(
        &self,
        keys: References<'a>,
        values: References<'a>,
        budget: &mut Budget,
        depth: usize,
    ) -> Result<Value, PlistError> {
        let mut dictionary = Dictionary::new();
        for (key, value) in keys.iter().zip(values.iter()) {
            let key = self.value(key, budget, depth + 1)?;
            let value = self.value(value, budget, depth + 1)?;
            if let (Some(Value::String(key)), Some(value)) = (key, value) {
                dictionary.insert(key, value);
            }
        }
        Ok(Value::Dictionary(dictionary))
    }
}

impl<'a> References<'a> {
    /// The references in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = u64> + 'a {
        self.bytes.chunks_exact(self.width).map(uint)
    }

    /// The number of references.
    pub(crate) fn len(self) -> usize {
        self.bytes.len() / self.width
    }

    /// The reference at `index`.
    pub(crate) fn get(self, index: u64) -> Option<u64> {
        let start = usize::try_from(index).ok()?.checked_mul(self.width)?;
        self.bytes.get(start..)?.get(..self.width).map(uint)
    }
}

/// Text of ASCII, or of UTF-8, which contains it; U+FFFD stands for what is neither.
pub(crate) fn utf8(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Text of UTF-16 in big-endian order; U+FFFD stands for what is none.
pub(crate) fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// The length of an object: in the marker, or, if that says 15, an integer after it.
fn length(low: u8, rest: &[u8]) -> Result<(usize, &[u8]), PlistError> {
    const MALFORMED: PlistError = PlistError::Malformed("length of an object");
    if low != 0x0f {
        return Ok((usize::from(low), rest));
    }
    let (&marker, rest) = rest.split_first().ok_or(MALFORMED)?;
    if !(0x10..=0x13).contains(&marker) {
        return Err(MALFORMED);
    }
    let width = 1 << (marker & 0x0f);
    let length = usize::try_from(uint(take(rest, width)?)).map_err(|_| MALFORMED)?;
    Ok((length, &rest[width..]))
}

/// Integers of up to four bytes are unsigned; longer ones are signed.
fn integer(bytes: &[u8]) -> i128 {
    match bytes.len() {
        8 => i128::from(uint(bytes) as i64),
        16 => bytes.iter().fold(0, |number, &byte| number << 8 | i128::from(byte)),
        _ => i128::from(uint(bytes)),
    }
}

/// None if it is beyond 64 bits.
fn integer_value(integer: i128) -> Option<Value> {
    let integer = i64::try_from(integer).map(Integer::from).or_else(|_| u64::try_from(integer).map(Integer::from));
    integer.ok().map(Value::Integer)
}

/// A big-endian number of at most eight bytes.
fn uint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn take(bytes: &[u8], length: usize) -> Result<&[u8], PlistError> {
    bytes.get(..length).ok_or(PlistError::Malformed("length outside the file"))
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], PlistError> {
    bytes.first_chunk().copied().ok_or(PlistError::Malformed("length outside the file"))
}
