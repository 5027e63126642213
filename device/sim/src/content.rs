//! What a file holds: a recipe for a stream of bytes, or a database kept on disk.
//! Media is never held in memory, and a recipe is a few words however large its file is.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use plist::{Dictionary, Value};
use rand::{Rng, RngExt};

use crate::text;

/// Names the bytes of a file. Equal values give equal bytes.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Empty,
    /// Incompressible bytes behind the first bytes of a media format.
    Media {
        format: Media,
        key: u64,
        size: u64,
    },
    /// JSON lines in blocks of about 4 KB. A log with more blocks begins with the bytes it had.
    Log {
        key: u64,
        blocks: u64,
    },
    /// Settings of which each revision changes a few values.
    Plist {
        key: u64,
        revision: u64,
        binary: bool,
    },
    /// A file of the phone's own directory.
    Stored(PathBuf),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Media {
    Heic,
    Jpeg,
    QuickTime,
    Amr,
}

impl Media {
    fn magic(self) -> &'static [u8] {
        match self {
            Media::Heic => b"\0\0\0\x24ftypheic\0\0\0\0mif1MiHBheicmiaf",
            Media::Jpeg => b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x48\0\x48\0\0",
            Media::QuickTime => b"\0\0\0\x14ftypqt  \0\0\0\0qt  \0\0\0\x08wide",
            Media::Amr => b"#!AMR\n",
        }
    }
}

impl Content {
    /// Length in bytes. Walks through the stream of logs and property lists.
    pub(crate) fn size(&self) -> io::Result<u64> {
        match self {
            Content::Empty => Ok(0),
            Content::Media { size, .. } => Ok(*size),
            Content::Stored(path) => Ok(fs::metadata(path)?.len()),
            Content::Log { key, blocks } => Ok(log_size(*key, 0, *blocks)),
            Content::Plist { key, revision, binary } => Ok(settings(*key, *revision, *binary)?.len() as u64),
        }
    }

    pub(crate) fn open(&self) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Content::Empty => Box::new(io::empty()),
            Content::Stored(path) => Box::new(fs::File::open(path)?),
            Content::Plist { key, revision, binary } => Box::new(Cursor::new(settings(*key, *revision, *binary)?)),
            Content::Media { format, key, size } => Box::new(format.magic().chain(noise(*key)).take(*size)),
            Content::Log { key, blocks } => {
                let (key, mut numbers) = (*key, 0..*blocks);
                Box::new(Blocks::new(move |block| {
                    block.extend(numbers.next().map(|number| log_block(key, number)).unwrap_or_default().bytes());
                }))
            }
        })
    }
}

/// Bytes that `blocks` of a log take from block `first` on.
pub(crate) fn log_size(key: u64, first: u64, blocks: u64) -> u64 {
    (first..first + blocks).map(|number| log_block(key, number).len() as u64).sum()
}

/// Reads what `next` puts into an empty block, until it puts nothing there.
struct Blocks<F> {
    next: F,
    block: Vec<u8>,
    read: usize,
}

impl<F: FnMut(&mut Vec<u8>)> Blocks<F> {
    fn new(next: F) -> Blocks<F> {
        Blocks { next, block: Vec::new(), read: 0 }
    }
}

impl<F: FnMut(&mut Vec<u8>)> Read for Blocks<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.block.len() {
            self.block.clear();
            self.read = 0;
            (self.next)(&mut self.block);
        }
        let count = (&self.block[self.read..]).read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

/// Endless random bytes. Drawn in whole blocks, so that they do not depend on how they are read.
fn noise(key: u64) -> impl Read {
    let mut rng = text::rng(key, "media", 0);
    Blocks::new(move |block| {
        block.resize(64 << 10, 0);
        rng.fill_bytes(block);
    })
}

fn log_block(key: u64, number: u64) -> String {
    let mut rng = text::rng(key, "log", number);
    let mut block = String::new();
    while block.len() < 4000 {
        let time = 1_700_000_000_000 + number * 60_000 + rng.random_range(0..60_000);
        let (level, source) = (["debug", "info", "info", "warn"][rng.random_range(0..4)], text::word(&mut rng));
        let (count, id) = (rng.random_range(2..8), rng.random::<u32>());
        let message = text::sentence(&mut rng, count);
        let _ = writeln!(
            block,
            r#"{{"time":{time},"level":"{level}","source":"{source}","id":"{id:08x}","message":"{message}"}}"#
        );
    }
    block
}

/// A property list of 300 B to about 8 KB, small ones being more usual.
fn settings(key: u64, revision: u64, binary: bool) -> io::Result<Vec<u8>> {
    let mut rng = text::rng(key, "plist", 0);
    let size: f64 = rng.random();
    let count = 6 + (size.powi(4) * 130.0) as usize;
    let mut entries = Dictionary::new();
    for number in 0..count {
        let name =
            format!("{}{}{number}", text::capitalized(text::word(&mut rng)), text::capitalized(text::word(&mut rng)));
        entries.insert(name, setting(&mut rng));
    }
    // Later revisions keep what earlier ones changed.
    for revision in 1..=revision {
        let mut rng = text::rng(key, "revision", revision);
        for _ in 0..rng.random_range(1..=3) {
            let at = rng.random_range(0..count);
            if let Some(value) = entries.values_mut().nth(at) {
                *value = setting(&mut rng);
            }
        }
    }
    entries.insert("LaunchCount".into(), revision.into());
    let mut bytes = Vec::new();
    let value = Value::Dictionary(entries);
    let written = if binary { value.to_writer_binary(&mut bytes) } else { value.to_writer_xml(&mut bytes) };
    written.map_err(io::Error::other)?;
    Ok(bytes)
}

fn setting(rng: &mut impl Rng) -> Value {
    match rng.random_range(0..8) {
        0 | 1 => rng.random_bool(0.5).into(),
        2 => rng.random_range(0..100_000i64).into(),
        3 => f64::from(rng.random_range(0..10_000)).sqrt().into(),
        4 => {
            let seconds = rng.random_range(1_600_000_000..1_720_000_000);
            Value::Date((SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).into())
        }
        5 => Value::Data(text::bytes(rng, 20)),
        6 => text::uuid(rng).into(),
        _ => {
            let count = rng.random_range(1..8);
            text::sentence(rng, count).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: &Content) -> Vec<u8> {
        let mut bytes = Vec::new();
        content.open().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn does_every_content_have_the_size_it_tells() {
        for content in [
            Content::Empty,
            Content::Media { format: Media::Heic, key: 1, size: 200_001 },
            Content::Media { format: Media::Amr, key: 1, size: 3 },
            Content::Log { key: 2, blocks: 5 },
            Content::Plist { key: 3, revision: 2, binary: true },
            Content::Plist { key: 3, revision: 0, binary: false },
        ] {
            assert_eq!(content.size().unwrap(), bytes(&content).len() as u64, "{content:?}");
        }
    }

    #[test]
    fn is_media_the_same_in_reads_of_any_length() {
        let content = Content::Media { format: Media::Jpeg, key: 7, size: 150_000 };
        let (mut reader, mut pieces) = (content.open().unwrap(), Vec::<u8>::new());
        let mut buffer = [0; 777];
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => break,
                count => pieces.extend(&buffer[..count]),
            }
        }
        assert!(pieces == bytes(&content));
    }

    #[test]
    fn does_a_longer_log_begin_with_the_shorter_one() {
        let (short, long) = (Content::Log { key: 9, blocks: 3 }, Content::Log { key: 9, blocks: 4 });
        assert!(bytes(&long).starts_with(&bytes(&short)));
        assert!(bytes(&long).len() > bytes(&short).len());
    }

    #[test]
    fn does_a_revision_change_little() {
        let [old, new] = [0, 1].map(|revision| {
            let bytes = bytes(&Content::Plist { key: 12, revision, binary: false });
            plist::from_bytes::<Dictionary>(&bytes).unwrap()
        });
        assert!(old.keys().eq(new.keys()));
        let changed = old.iter().filter(|(name, value)| new[name] != **value).count();
        assert!((1..=4).contains(&changed), "{changed} of {} entries changed", old.len());
    }
}
