//! XML property lists. Only character references and the five predefined entities are resolved; what a DOCTYPE
//! declares is not read.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use plist::{Dictionary, Integer, Value};
use quick_xml::{Reader, escape::resolve_xml_entity, events::Event};

use super::{Budget, PlistError, date_value};

/// Reads one document of one value.
pub(super) fn read(bytes: &[u8], budget: &mut Budget) -> Result<Value, PlistError> {
    let text = std::str::from_utf8(bytes).map_err(|_| PlistError::UnknownEncoding)?;
    let text = text.trim_start_matches('\u{feff}');
    if !text.trim_start().starts_with('<') {
        return Err(PlistError::UnknownEncoding);
    }
    let mut document = Document { reader: Reader::from_str(text), budget };
    document.reader.config_mut().expand_empty_elements = true;
    document.root()
}

struct Document<'a, 'b> {
    reader: Reader<&'a [u8]>,
    budget: &'b mut Budget,
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
            let value = self.value(first, 0)?;
            return self.expect_end(value);
        }
        let Tag::Open(name) = self.next_tag()? else {
            return Err(PlistError::Malformed("no value"));
        };
        let value = self.value(name, 0)?;
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

    /// The value whose opening tag `name` was just read, up to its closing tag.
    fn value(&mut self, name: &str, depth: usize) -> Result<Value, PlistError> {
        self.budget.spend_value(depth)?;
        match name {
            "array" => self.array(depth),
            "dict" => self.dictionary(depth),
            "string" => Ok(Value::String(self.text()?)),
            "data" => Ok(Value::Data(base64(self.text()?)?)),
            "date" => date_value(unix_seconds(&self.text()?)?),
            "integer" => Ok(Value::Integer(integer(self.text()?.trim())?)),
            "real" => {
                let real = self.text()?.trim().parse().map_err(|_| PlistError::Malformed("real number"))?;
                Ok(Value::Real(real))
            }
            "true" | "false" => {
                self.text()?;
                Ok(Value::Boolean(name == "true"))
            }
            _ => Err(PlistError::Malformed("unknown element")),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, PlistError> {
        let mut items = Vec::new();
        loop {
            match self.next_tag()? {
                Tag::Open(name) => items.push(self.value(name, depth + 1)?),
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
            dictionary.insert(key, self.value(name, depth + 1)?);
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
                Event::Decl(_) | Event::DocType(_) | Event::PI(_) | Event::Comment(_) => {}
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
                Event::GeneralRef(reference) => {
                    match reference.resolve_char_ref().map_err(|_| PlistError::Malformed("character reference"))? {
                        Some(character) => content.push(character),
                        None => content.push_str(
                            resolve_xml_entity(&reference).ok_or(PlistError::Malformed("unknown XML entity"))?,
                        ),
                    }
                }
                Event::Comment(_) | Event::PI(_) => {}
                Event::End(_) => break,
                _ => return Err(PlistError::Malformed("an element within text")),
            }
        }
        self.budget.spend_content(content.len())?;
        Ok(content)
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

fn base64(mut text: String) -> Result<Vec<u8>, PlistError> {
    text.retain(|character| !character.is_ascii_whitespace());
    BASE64.decode(text).map_err(|_| PlistError::Malformed("base64 data"))
}

fn integer(text: &str) -> Result<Integer, PlistError> {
    text.parse::<i64>()
        .map(Integer::from)
        .or_else(|_| text.parse::<u64>().map(Integer::from))
        .map_err(|_| PlistError::Malformed("integer"))
}

/// The Unix time of `YYYY-MM-DDThh:mm:ssZ`, the one form Apple writes. Other programs write parts of seconds, which are
/// left out.
fn unix_seconds(date: &str) -> Result<f64, PlistError> {
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
    parse().map(|seconds| seconds as f64).ok_or(PlistError::Malformed("date"))
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
