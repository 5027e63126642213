//! XML property lists. Only character references and the five predefined entities are resolved; what a DOCTYPE
//! declares is not read.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use plist::{Dictionary, Integer, Value};
use quick_xml::{Reader, escape::resolve_xml_entity, events::Event};

use super::{Budget, PlistError, date_value, placeholder, whole};

/// More places that are not UTF-8 than this are no slips of a program: it is another encoding, or no text.
const BROKEN_LETTERS_MAX: usize = 10_000;

/// Reads one document of one value.
pub(super) fn read(bytes: &[u8], budget: &mut Budget) -> Result<Value, PlistError> {
    let text = match utf16(bytes) {
        Some(text) => Cow::Owned(text),
        None if bytes.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).nth(BROKEN_LETTERS_MAX).is_some() => {
            return Err(PlistError::UnknownEncoding);
        }
        None => String::from_utf8_lossy(bytes),
    };
    // Some programs write their buffer to its end.
    let text = text.trim_start_matches('\u{feff}').trim_end_matches('\0');
    if !text.trim_start().starts_with('<') {
        return Err(PlistError::UnknownEncoding);
    }
    let mut document = Document { reader: Reader::from_str(text), budget, declares_entities: false };
    document.reader.config_mut().expand_empty_elements = true;
    document.reader.config_mut().allow_dangling_amp = true;
    document.root()
}

/// The text of a file in UTF-16, with its mark or without; U+FFFD stands for what is none.
fn utf16(bytes: &[u8]) -> Option<String> {
    let unit: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] | [b'<', 0, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] | [0, b'<', ..] => u16::from_be_bytes,
        _ => return None,
    };
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    Some(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

struct Document<'a, 'b> {
    reader: Reader<&'a [u8]>,
    budget: &'b mut Budget,
    /// Whether it has entities of its own, as no program writes them into property lists.
    declares_entities: bool,
}

/// A tag between values.
enum Tag<'a> {
    Open(&'a str),
    Close,
    End,
}

impl<'a> Document<'a, '_> {
    /// The value within `<plist>`, or bare; nothing may follow it.
    fn root(&mut self) -> Result<Value, PlistError> {
        let Tag::Open(first) = self.next_tag()? else {
            return Err(PlistError::Malformed("no value"));
        };
        if first != "plist" {
            let value = whole(self.value(first, 0)?)?;
            return self.expect_end(value);
        }
        let Tag::Open(name) = self.next_tag()? else {
            return Err(PlistError::Malformed("no value"));
        };
        let value = whole(self.value(name, 0)?)?;
        match self.next_tag()? {
            Tag::Close => self.expect_end(value),
            _ => Err(PlistError::Malformed("more than one value")),
        }
    }

    fn expect_end(&mut self, value: Value) -> Result<Value, PlistError> {
        match self.next_tag()? {
            Tag::End => Ok(value),
            _ => Err(PlistError::Malformed("more than one value")),
        }
    }

    /// The value whose opening tag `name` was just read, up to its closing tag; none if it is impossible.
    fn value(&mut self, name: &str, depth: usize) -> Result<Option<Value>, PlistError> {
        self.budget.spend_value(depth)?;
        Ok(match name {
            "array" => Some(self.array(depth)?),
            "dict" => Some(self.dictionary(depth)?),
            "string" => Some(Value::String(self.text()?)),
            "data" => base64(self.text()?).map(Value::Data),
            "date" => unix_seconds(&self.text()?).and_then(date_value),
            "integer" => integer(self.text()?.trim()).map(Value::Integer),
            "real" => self.text()?.trim().parse().ok().map(Value::Real),
            "true" | "false" => {
                self.text()?;
                Some(Value::Boolean(name == "true"))
            }
            _ => {
                self.pass_over()?;
                None
            }
        })
    }

    /// Reads to the closing tag of an element whose opening tag was just read, whatever is in it.
    fn pass_over(&mut self) -> Result<(), PlistError> {
        let mut open = 1_usize;
        while open > 0 {
            match self.event()? {
                Event::Start(_) => open += 1,
                Event::End(_) => open -= 1,
                Event::Eof => return Err(PlistError::Malformed("ends within an element")),
                _ => {}
            }
        }
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<Value, PlistError> {
        let mut items = Vec::new();
        loop {
            match self.next_tag()? {
                Tag::Open(name) => items.push(self.value(name, depth + 1)?.unwrap_or_else(placeholder)),
                Tag::Close => return Ok(Value::Array(items)),
                Tag::End => return Err(PlistError::Malformed("ends within an array")),
            }
        }
    }

    fn dictionary(&mut self, depth: usize) -> Result<Value, PlistError> {
        let mut dictionary = Dictionary::new();
        loop {
            match self.next_tag()? {
                Tag::Open("key") => {}
                Tag::Close => return Ok(Value::Dictionary(dictionary)),
                Tag::Open(_) => return Err(PlistError::Malformed("a value without a key")),
                Tag::End => return Err(PlistError::Malformed("ends within a dictionary")),
            }
            self.budget.spend_value(depth + 1)?;
            let key = self.text()?;
            let Tag::Open(name) = self.next_tag()? else {
                return Err(PlistError::Malformed("a key without a value"));
            };
            if let Some(value) = self.value(name, depth + 1)? {
                dictionary.insert(key, value);
            }
        }
    }

    /// The next opening or closing tag; only white space may lie before it.
    fn next_tag(&mut self) -> Result<Tag<'a>, PlistError> {
        loop {
            match self.event()? {
                Event::Start(tag) => {
                    return Ok(Tag::Open(element_name(tag.local_name().into_inner())));
                }
                Event::End(_) => return Ok(Tag::Close),
                Event::Eof => return Ok(Tag::End),
                Event::Text(text) if text.chars().all(char::is_whitespace) => {}
                Event::DocType(declared) => self.declares_entities |= declared.contains("<!ENTITY"),
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
                _ => return Err(PlistError::Malformed("text outside an element")),
            }
        }
    }

    /// The text up to the closing tag.
    fn text(&mut self) -> Result<String, PlistError> {
        let mut content = String::new();
        loop {
            match self.event()? {
                Event::Text(text) => content.push_str(&text.xml10_content()),
                Event::CData(text) => content.push_str(&text.xml10_content()),
                Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                    Ok(Some(character)) => content.push(character),
                    Ok(None) => content.push_str(self.entity(&reference)?),
                    Err(_) => content.push(char::REPLACEMENT_CHARACTER),
                },
                Event::Comment(_) | Event::PI(_) => {}
                Event::End(_) => break,
                _ => return Err(PlistError::Malformed("an element within text")),
            }
        }
        self.budget.spend_content(content.len())?;
        Ok(content)
    }

    /// The text of an entity; U+FFFD for one that XML does not have.
    fn entity(&self, name: &str) -> Result<&'static str, PlistError> {
        match resolve_xml_entity(name) {
            Some(text) => Ok(text),
            None if self.declares_entities => Err(PlistError::Malformed("unknown XML entity")),
            None => Ok("\u{fffd}"),
        }
    }

    fn event(&mut self) -> Result<Event<'a>, PlistError> {
        self.reader.read_event().map_err(|_| PlistError::Malformed("XML is not well-formed"))
    }
}

/// The known element of this name, so that names need not outlive their event.
fn element_name(name: &str) -> &'static str {
    const NAMES: [&str; 11] =
        ["plist", "array", "dict", "key", "string", "data", "date", "integer", "real", "true", "false"];
    NAMES.into_iter().find(|known| *known == name).unwrap_or("unknown")
}

fn base64(mut text: String) -> Option<Vec<u8>> {
    text.retain(|character| !character.is_ascii_whitespace());
    BASE64.decode(text).ok()
}

/// A number of 64 bits, decimal or, as CoreFoundation takes it too, hexadecimal after `0x`.
fn integer(text: &str) -> Option<Integer> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let number = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(digits) if digits.starts_with(['+', '-']) => return None,
        Some(digits) => i128::from_str_radix(&format!("{sign}{digits}"), 16).ok()?,
        None => text.parse().ok()?,
    };
    i64::try_from(number).map(Integer::from).or_else(|_| u64::try_from(number).map(Integer::from)).ok()
}

/// The Unix time of `YYYY-MM-DDThh:mm:ssZ`, the one form Apple writes. Other programs write parts of seconds, which are
/// left out.
fn unix_seconds(date: &str) -> Option<f64> {
    let parse = || {
        let date = date.trim().strip_suffix('Z')?;
        let (date, part) = date.split_once('.').unwrap_or((date, "0"));
        let shape = b"0000-00-00T00:00:00";
        let fits = date.len() == shape.len()
            && date.bytes().zip(shape).all(|(byte, &like)| match like {
                b'0' => byte.is_ascii_digit(),
                _ => byte == like,
            });
        let number = |range: std::ops::Range<usize>| date.get(range)?.parse::<i64>().ok();
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        let valid = fits
            && !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        valid.then(|| ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
    };
    parse().map(|seconds| seconds as f64)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days of the proleptic Gregorian calendar, counted in years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}
