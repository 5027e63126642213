//! Property lists from places that are not trusted, binary or XML, as a [`plist::Value`].
//!
//! The readers of the `plist` crate are not used: they allocate by lengths that the input states, and panic on some
//! dates. Here time, memory and recursion are bounded by the constants below.
//!
//! A value that is impossible spoils only itself: an impossible date, number or run of base64 is left out of its dictionary, and
//! an empty string stands for it in an array, where places count; of a text the bytes that are none become U+FFFD. What is
//! broken in the structure itself is refused.

pub(crate) mod binary;
mod xml;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plist::{Dictionary, Value};

/// A real phone's Info.plist holds the icons of all its apps: tens of megabytes.
pub(crate) const MAX_FILE_BYTES: u64 = 256 << 20;
const MAX_DEPTH: usize = 64;
/// Any document may have so many values, and one more for so many of its bytes: a message that moves a million files has two
/// million paths of some 70 bytes, and no document expands to more memory than in proportion to its length.
const VALUES: usize = 250_000;
const BYTES_OF_A_VALUE: usize = 32;
/// Binary property lists share equal strings, so their content may honestly exceed the file; by little.
const SHARED_CONTENT_BYTES: usize = 16 << 20;

/// Unix times of the first and the last second a property list can name: years 1 to 9999.
const DATES: std::ops::Range<f64> = -62_135_596_800.0..253_402_300_800.0;

/// Why a property list was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlistError {
    /// Larger than any known file of its kind.
    #[error("{bytes} bytes is too large for a property list")]
    TooLarge {
        /// Size of the input.
        bytes: u64,
    },
    /// Neither of the two encodings in use; an empty file is one case.
    #[error("neither a binary nor an XML property list")]
    UnknownEncoding,
    /// Nested deeper than 64 levels, or within itself.
    #[error("nested too deeply")]
    TooDeep,
    /// More values than any known file of its length; values referenced many times count as often.
    #[error("too many values")]
    TooManyValues,
    /// Its strings and data, counted as often as they are referenced, are far larger than the file.
    #[error("expands to far more than its size")]
    Expands,
    /// The root is something else than a dictionary.
    #[error("not a dictionary")]
    NotADictionary,
    /// The encoding is broken.
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

/// Reads a property list whose root is a dictionary, as all files of a backup are.
pub(crate) fn read_dictionary(bytes: &[u8]) -> Result<Dictionary, PlistError> {
    read_value(bytes)?.into_dictionary().ok_or(PlistError::NotADictionary)
}

/// Reads a property list of any root, as the messages of the phone's services are.
pub(crate) fn read_value(bytes: &[u8]) -> Result<Value, PlistError> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(PlistError::TooLarge { bytes: bytes.len() as u64 });
    }
    let mut budget = Budget::new(bytes.len());
    if bytes.starts_with(binary::MAGIC) {
        binary::Document::open(bytes)?.root_value(&mut budget)
    } else {
        xml::read(bytes, &mut budget)
    }
}

/// The text under `key`, if there is text.
pub(crate) fn string(dictionary: &Dictionary, key: &str) -> Option<String> {
    Some(dictionary.get(key)?.as_string()?.to_owned())
}

/// The boolean under `key`, if there is one.
pub(crate) fn boolean(dictionary: &Dictionary, key: &str) -> Option<bool> {
    dictionary.get(key)?.as_boolean()
}

/// The date under `key`, if there is one.
pub(crate) fn date(dictionary: &Dictionary, key: &str) -> Option<SystemTime> {
    Some(dictionary.get(key)?.as_date()?.into())
}

/// The bytes under `key`, if there are bytes.
pub(crate) fn data(dictionary: &Dictionary, key: &str) -> Option<Vec<u8>> {
    Some(dictionary.get(key)?.as_data()?.to_owned())
}

/// What a document may still expand to.
struct Budget {
    values: usize,
    content_bytes: usize,
}

impl Budget {
    fn new(file_bytes: usize) -> Self {
        Budget { values: VALUES + file_bytes / BYTES_OF_A_VALUE, content_bytes: 2 * file_bytes + SHARED_CONTENT_BYTES }
    }

    /// Counts one value at `depth`, before it is built.
    fn spend_value(&mut self, depth: usize) -> Result<(), PlistError> {
        if depth > MAX_DEPTH {
            return Err(PlistError::TooDeep);
        }
        self.values = self.values.checked_sub(1).ok_or(PlistError::TooManyValues)?;
        Ok(())
    }

    /// Counts the content of a string or of data, before it is copied.
    fn spend_content(&mut self, bytes: usize) -> Result<(), PlistError> {
        self.content_bytes = self.content_bytes.checked_sub(bytes).ok_or(PlistError::Expands)?;
        Ok(())
    }
}

/// The value at the top of a document, which nothing can stand for.
fn whole(root: Option<Value>) -> Result<Value, PlistError> {
    root.ok_or(PlistError::Malformed("an impossible value"))
}

/// Stands for an impossible value where its neighbours are known by their places.
fn placeholder() -> Value {
    Value::String(String::new())
}

/// A date within the years that [`plist::Date`] can print; none if it is not.
fn date_value(unix_seconds: f64) -> Option<Value> {
    if !DATES.contains(&unix_seconds) {
        return None;
    }
    let distance = Duration::from_secs_f64(unix_seconds.abs());
    let time = if unix_seconds < 0.0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    Some(Value::Date(time?.into()))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    /// A binary property list of these objects, the first one its root; references are two bytes.
    pub(crate) fn binary(objects: &[Vec<u8>]) -> Vec<u8> {
        let mut file = b"bplist00".to_vec();
        let mut offsets = Vec::new();
        for object in objects {
            offsets.extend_from_slice(&(file.len() as u32).to_be_bytes());
            file.extend_from_slice(object);
        }
        let table = file.len() as u64;
        file.extend_from_slice(&offsets);
        file.extend_from_slice(&[0, 0, 0, 0, 0, 0, 4, 2]);
        for word in [objects.len() as u64, 0, table] {
            file.extend_from_slice(&word.to_be_bytes());
        }
        file
    }

    /// An array of `count` times the same object.
    fn array_of(object: u16, count: u8) -> Vec<u8> {
        let mut bytes = vec![0xaf, 0x10, count];
        for _ in 0..count {
            bytes.extend_from_slice(&object.to_be_bytes());
        }
        bytes
    }

    /// A dictionary from the string object `key` to the object `value`.
    fn dictionary_of(key: u16, value: u16) -> Vec<u8> {
        [&[0xd1][..], &key.to_be_bytes(), &value.to_be_bytes()].concat()
    }

    fn sample() -> Value {
        let mut inner = Dictionary::new();
        inner.insert("ü€🎁".into(), Value::String("naïve".into()));
        inner.insert("data".into(), Value::Data((0..=255).collect()));
        let mut root = Dictionary::new();
        for (key, value) in [
            ("negative", Value::Integer((-5).into())),
            ("large", Value::Integer(u64::MAX.into())),
            ("real", Value::Real(1.5)),
            ("yes", Value::Boolean(true)),
            ("when", Value::Date(plist::Date::from_xml_format("2024-02-29T23:59:58Z").unwrap())),
            ("before", Value::Date(plist::Date::from_xml_format("1969-12-31T00:00:01Z").unwrap())),
            ("escaped", Value::String("<a> & \"b\"\n c ".into())),
            ("empty", Value::String(String::new())),
            ("list", Value::Array(vec![Value::Dictionary(inner), Value::Array(Vec::new())])),
        ] {
            root.insert(key.into(), value);
        }
        Value::Dictionary(root)
    }

    #[test]
    fn both_encodings_of_the_plist_crate_read_back_equal() {
        let value = sample();
        let (mut binary, mut xml) = (Vec::new(), Vec::new());
        value.to_writer_binary(&mut binary).unwrap();
        value.to_writer_xml(&mut xml).unwrap();
        assert_eq!(Value::Dictionary(read_dictionary(&binary).unwrap()), value);
        assert_eq!(Value::Dictionary(read_dictionary(&xml).unwrap()), value);
    }

    #[test]
    fn xml_character_data_and_references_are_text() {
        let xml = b"<?xml version='1.0'?><plist><dict><key>k</key>\
                    <string>a<![CDATA[<b>]]>&#65;&lt;<!-- no --></string><key>e</key><true/></dict></plist>";
        let dictionary = read_dictionary(xml).unwrap();
        assert_eq!(string(&dictionary, "k").unwrap(), "a<b>A<");
        assert_eq!(boolean(&dictionary, "e"), Some(true));
    }

    #[test]
    fn exponential_references_are_refused_quickly() {
        let mut objects = vec![dictionary_of(1, 2), b"\x51k".to_vec()];
        for level in 0..30 {
            objects.push(array_of(3 + level, 100));
        }
        objects.push(b"\x51x".to_vec());
        let started = Instant::now();
        assert_eq!(read_dictionary(&binary(&objects)), Err(PlistError::TooManyValues));
        assert!(started.elapsed().as_secs() < 5);
    }

    #[test]
    fn a_long_message_may_have_many_values() {
        let path = |number: u32, folder: &str| format!("00008101-000A/{folder}{:02x}/{number:040x}", number % 256);
        let moves: Dictionary = (0..200_000).map(|n| (path(n, "Snapshot/"), Value::from(path(n, "")))).collect();
        let message = Value::Array(vec!["DLMessageMoveItems".into(), Value::Dictionary(moves)]);
        let mut bytes = Vec::new();
        message.to_writer_binary(&mut bytes).unwrap();
        assert!(read_value(&bytes).unwrap() == message);
        // Many in few bytes are not.
        let row = array_of(5, 200);
        let objects =
            [dictionary_of(1, 2), b"\x51k".to_vec(), array_of(3, 200), array_of(4, 200), row, b"\x51x".to_vec()];
        assert_eq!(read_dictionary(&binary(&objects)), Err(PlistError::TooManyValues));
    }

    #[test]
    fn one_large_string_referenced_often_is_refused() {
        let mut long = vec![0x5f, 0x12];
        long.extend_from_slice(&(1u32 << 20).to_be_bytes());
        long.resize(long.len() + (1 << 20), b'x');
        let objects = [dictionary_of(1, 2), b"\x51k".to_vec(), array_of(3, 200), long];
        assert_eq!(read_dictionary(&binary(&objects)), Err(PlistError::Expands));
    }

    #[test]
    fn cycles_and_deep_nesting_are_refused() {
        let cycle = [dictionary_of(1, 2), b"\x51k".to_vec(), array_of(2, 1)];
        assert_eq!(read_dictionary(&binary(&cycle)), Err(PlistError::TooDeep));
        let deep = format!("<plist><dict><key>k</key>{}", "<array>".repeat(1_000_000));
        assert_eq!(read_dictionary(deep.as_bytes()), Err(PlistError::TooDeep));
    }

    #[test]
    fn lengths_beyond_the_file_are_refused_without_allocating() {
        for marker in [0x4f, 0x5f, 0x6f, 0xaf, 0xdf] {
            let hostile = [&[marker, 0x13][..], &(u64::MAX / 2).to_be_bytes()].concat();
            let objects = [dictionary_of(1, 2), b"\x51k".to_vec(), hostile];
            assert!(matches!(read_dictionary(&binary(&objects)), Err(PlistError::Malformed(_))), "{marker:x}");
        }
        let mut many_objects = binary(&[dictionary_of(1, 1), b"\x51k".to_vec()]);
        let count = many_objects.len() - 24;
        many_objects[count..count + 8].copy_from_slice(&u64::MAX.to_be_bytes());
        assert!(matches!(read_dictionary(&many_objects), Err(PlistError::Malformed(_))));
    }

    #[test]
    fn entities_are_never_expanded() {
        let mut xml = String::from("<?xml version='1.0'?><!DOCTYPE lolz [<!ENTITY lol0 'lollollol'>");
        for level in 1..10 {
            let references = format!("&lol{};", level - 1).repeat(10);
            xml.push_str(&format!("<!ENTITY lol{level} '{references}'>"));
        }
        xml.push_str("]><plist><dict><key>k</key><string>&lol9;</string></dict></plist>");
        assert_eq!(read_dictionary(xml.as_bytes()), Err(PlistError::Malformed("unknown XML entity")));
    }

    #[test]
    fn parts_of_seconds_are_left_out() {
        let of = |date: &str| {
            read_dictionary(format!("<plist><dict><key>k</key><date>{date}</date></dict></plist>").as_bytes())
        };
        for written in ["2024-02-29T23:59:58.5Z", "2024-02-29T23:59:58.000000001Z"] {
            assert_eq!(of(written), of("2024-02-29T23:59:58Z"), "{written}");
        }
        for written in ["2024-02-29T23:59:58.Z", "2024-02-29T23:59:58.5.5Z", "2024-02-29T23:59.5Z"] {
            assert_eq!(of(written), Ok(Dictionary::new()), "{written}");
        }
    }

    #[test]
    fn impossible_dates_are_left_out() {
        for date in ["9999-12-31T23:59:59-23:59", "2024-02-30T00:00:00Z", "2024-01-01T24:00:00Z", "", "-", "Z"] {
            let xml = format!("<plist><dict><key>k</key><date>{date}</date><key>n</key><true/></dict></plist>");
            assert_eq!(read_dictionary(xml.as_bytes()).unwrap(), neighbour(), "{date}");
        }
        for seconds in [f64::NAN, f64::INFINITY, -f64::INFINITY, 1e300, -1e300, 3e11, -63_145_526_400.0] {
            let date = [&[0x33][..], &seconds.to_be_bytes()].concat();
            assert_eq!(read_dictionary(&beside(&date)).unwrap(), neighbour(), "{seconds}");
        }
    }

    /// A binary dictionary of `k`, which is `object`, and of `n`, which is true.
    fn beside(object: &[u8]) -> Vec<u8> {
        let dictionary = vec![0xd2, 0, 1, 0, 2, 0, 3, 0, 4];
        binary(&[dictionary, b"\x51k".to_vec(), b"\x51n".to_vec(), object.to_vec(), vec![0x09]])
    }

    fn neighbour() -> Dictionary {
        Dictionary::from_iter([("n".to_owned(), Value::Boolean(true))])
    }

    /// plist-one-bad-value.
    #[test]
    fn an_impossible_value_spoils_only_itself() {
        for bad in [
            "<integer>0x</integer>",
            "<integer>twelve</integer>",
            "<integer>99999999999999999999999</integer>",
            "<real>1,5</real>",
            "<data>####</data>",
            "<null/>",
            "<set><integer>1</integer><set/></set>",
        ] {
            let xml = format!("<plist><dict><key>k</key>{bad}<key>n</key><true/></dict></plist>");
            assert_eq!(read_dictionary(xml.as_bytes()).unwrap(), neighbour(), "{bad}");
            let xml = format!("<plist><dict><key>l</key><array><true/>{bad}<false/></array></dict></plist>");
            let list = vec![true.into(), placeholder(), false.into()];
            assert_eq!(read_dictionary(xml.as_bytes()).unwrap()["l"], Value::Array(list), "{bad}");
        }
        let large = [&[0x14][..], &[0x7f; 16]].concat();
        for bad in [large, vec![0x00], vec![0x0f], vec![0x70]] {
            assert_eq!(read_dictionary(&beside(&bad)).unwrap(), neighbour(), "{bad:x?}");
        }
        // A key that is no text costs its value alone.
        let objects = [vec![0xd2, 0, 4, 0, 2, 0, 3, 0, 4], vec![0x09], b"\x51n".to_vec(), vec![0x10, 7], vec![0x09]];
        assert_eq!(read_dictionary(&binary(&objects)).unwrap(), neighbour());
    }

    #[test]
    fn xml_of_other_programs_is_read() {
        let xml = "<?xml version='1.0'?><plist><dict><key>k</key><string>n\u{ef}\u{1f381}</string></dict></plist>\n";
        let utf16 = |text: &str, unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        let marked = format!("\u{feff}{xml}");
        for bytes in [
            utf16(&marked, u16::to_le_bytes),
            utf16(&marked, u16::to_be_bytes),
            utf16(xml, u16::to_le_bytes),
            utf16(xml, u16::to_be_bytes),
            marked.clone().into_bytes(),
            format!("{xml}\0\0\0").into_bytes(),
        ] {
            assert_eq!(string(&read_dictionary(&bytes).unwrap(), "k").as_deref(), Some("n\u{ef}\u{1f381}"));
        }
        let odd = [utf16(&marked, u16::to_le_bytes), vec![0]].concat();
        assert!(read_dictionary(&odd).is_ok());
        assert!(read_dictionary(b"\xff\xfe").is_err() && read_dictionary(b"\xff\xfe\x00\xd8").is_err());
    }

    #[test]
    fn what_is_hardly_text_is_refused() {
        let of = |broken: &[u8]| {
            read_dictionary(&[&b"<plist><dict><key>k</key><string>"[..], broken, b"</string></dict></plist>"].concat())
        };
        assert!(of(&[0xff; 10_000]).is_ok());
        assert_eq!(of(&[0xff; 10_001]), Err(PlistError::UnknownEncoding));
    }

    #[test]
    fn integers_may_be_hexadecimal() {
        for (written, number) in [("0x1F", 31), ("-0X10", -16), ("+5", 5), (" 7 ", 7)] {
            let xml = format!("<plist><dict><key>k</key><integer>{written}</integer></dict></plist>");
            assert_eq!(read_dictionary(xml.as_bytes()).unwrap()["k"], Value::from(number), "{written}");
        }
        let xml = b"<plist><dict><key>k</key><integer>0xffffffffffffffff</integer></dict></plist>";
        assert_eq!(read_dictionary(xml).unwrap()["k"], Value::from(u64::MAX));
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let text = Value::from("Ren\u{fffd}");
        let expected = Dictionary::from_iter([("k".to_owned(), text), ("n".to_owned(), Value::from(true))]);
        let xml = b"<plist><dict><key>k</key><string>Ren\xe9</string><key>n</key><true/></dict></plist>";
        assert_eq!(read_dictionary(xml).unwrap(), expected);
        for text in [&b"\x54Ren\xe9"[..], &[0x64, 0, b'R', 0, b'e', 0, b'n', 0xd8, 0]] {
            assert_eq!(read_dictionary(&beside(text)).unwrap(), expected);
        }
        for (written, read) in [("a&#0;b", "a\u{fffd}b"), ("a&#xD800;b", "a\u{fffd}b"), ("Tom & Anna", "Tom & Anna")] {
            let xml = format!("<plist><dict><key>k</key><string>{written}</string><key>n</key><true/></dict></plist>");
            let dictionary = read_dictionary(xml.as_bytes()).unwrap();
            assert_eq!((&dictionary["k"], &dictionary["n"]), (&read.into(), &true.into()), "{written}");
        }
        let xml = b"<plist><dict><key>k</key><string>a&nbsp;b</string><key>n</key><true/></dict></plist>";
        assert_eq!(read_dictionary(xml).unwrap()["k"], Value::from("a\u{fffd}b"));
    }

    #[test]
    fn broken_documents_are_refused() {
        for bytes in [
            &b""[..],
            b"bplist00",
            b"not a plist",
            b"<plist>",
            b"<plist></plist>",
            b"<plist><dict>",
            b"<plist><dict><key>k</key></dict></plist>",
            b"<plist><dict><string>k</string><true/></dict></plist>",
            b"<plist><dict/><dict/></plist>",
            b"<plist><string>text</string></plist>",
            b"<dict><key>k</key><string></dict>",
            b"<plist><dict/></plist>trailing",
            b"\xff\xfe<\0p\0",
        ] {
            assert!(read_dictionary(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
        assert!(read_dictionary(b"<plist><dict/></plist>\n").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read_dictionary(&bytes);
            let _ = read_dictionary(&[&b"<plist><dict><key>k</key>"[..], &bytes].concat());
            let _ = read_dictionary(&binary(&[bytes]));
        }

        #[test]
        fn flipped_bytes_end_in_a_verdict(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            xml in any::<bool>(),
        ) {
            let mut file = Vec::new();
            if xml { sample().to_writer_xml(&mut file).unwrap() } else { sample().to_writer_binary(&mut file).unwrap() }
            for (place, byte) in flips {
                let place = place.index(file.len());
                file[place] = byte;
            }
            // Printing is part of the promise: dates that cannot be printed panic there.
            if let Ok(dictionary) = read_dictionary(&file) {
                let _ = format!("{dictionary:?}");
            }
        }
    }
}
