//! Contents that wait until it is known how to keep them, in a file without a name, sealed by a key that is in memory alone.
//!
//! A phone tells the keys of its files last. Until then their ciphertext lies here: it is gone with the process, however that ends.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
};

use crate::{
    bytes::random,
    error::{Error, Result},
    format::seal::{Cipher, FrameKey, FrameNumber},
    storage::Storage,
};

/// A few pages of a database: they are read at random.
const FRAME_LEN: usize = 64 << 10;
/// Frames that a [`Scratch`] remembers, 4 MiB.
const CACHED_FRAMES: usize = 64;
const SEALED_LEN: usize = FRAME_LEN + 16;

/// One long run of bytes, of which each content is a range.
pub(crate) struct Spool {
    file: File,
    key: FrameKey,
    /// Whole frames in the file.
    frames: u32,
    /// What comes after them.
    tail: Vec<u8>,
}

impl Spool {
    pub(crate) fn new(storage: &dyn Storage) -> Result<Spool> {
        storage.spool().map_err(failed("create")).and_then(Spool::of)
    }

    fn of(file: File) -> Result<Spool> {
        let key = Cipher::Aes256Gcm.key(&random().map_err(Error::Random)?);
        Ok(Spool { file, key, frames: 0, tail: Vec::with_capacity(FRAME_LEN) })
    }

    /// Takes all of `content`.
    ///
    /// # Errors
    /// [`Error::Source`] if `content` fails; what came of it stays, and is nothing's.
    pub(crate) fn append(&mut self, content: &mut dyn Read) -> Result<Range<u64>> {
        let start = self.len();
        loop {
            let room = FRAME_LEN - self.tail.len();
            let read = (&mut *content).take(room as u64).read_to_end(&mut self.tail).map_err(Error::Source)?;
            if read < room {
                return Ok(start..self.len());
            }
            self.write_frame().map_err(failed("write"))?;
        }
    }

    /// Everything so far.
    pub(crate) fn read_all(&mut self) -> SpoolReader<'_> {
        self.read(0..self.len())
    }

    /// Forgets everything, the key included: no frame is sealed twice under one.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.key = Cipher::Aes256Gcm.key(&random().map_err(Error::Random)?);
        self.frames = 0;
        self.tail.clear();
        self.file.set_len(0).map_err(failed("empty"))
    }

    /// Reads a range that [`append`](Spool::append) gave.
    pub(crate) fn read(&mut self, range: Range<u64>) -> SpoolReader<'_> {
        SpoolReader { spool: self, range, frame: Vec::new(), number: None }
    }

    fn len(&self) -> u64 {
        u64::from(self.frames) * FRAME_LEN as u64 + self.tail.len() as u64
    }

    fn write_frame(&mut self) -> io::Result<()> {
        let mut sealed = Vec::with_capacity(SEALED_LEN);
        self.key.seal(FrameNumber::Inner(self.frames), &[], &self.tail, &mut sealed);
        self.file.seek(SeekFrom::Start(u64::from(self.frames) * SEALED_LEN as u64))?;
        self.file.write_all(&sealed)?;
        // 2³² frames are 256 TiB.
        self.frames = self.frames.checked_add(1).ok_or(io::ErrorKind::StorageFull)?;
        self.tail.clear();
        Ok(())
    }

    fn read_frame(&mut self, number: u32) -> io::Result<Vec<u8>> {
        if number == self.frames {
            return Ok(self.tail.clone());
        }
        let mut sealed = vec![0; SEALED_LEN];
        self.file.seek(SeekFrom::Start(u64::from(number) * SEALED_LEN as u64))?;
        self.file.read_exact(&mut sealed)?;
        let opened = self.key.open(FrameNumber::Inner(number), &[], sealed);
        opened.ok_or_else(|| io::Error::other("a temporary file of the repository was changed by something else"))
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(FRAME_LEN - self.tail.len());
        self.tail.extend_from_slice(&bytes[..count]);
        if self.tail.len() == FRAME_LEN {
            self.write_frame().map_err(|error| {
                io::Error::new(error.kind(), format!("cannot write a temporary file of the repository: {error}"))
            })?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads one content of a [`Spool`].
pub(crate) struct SpoolReader<'s> {
    spool: &'s mut Spool,
    range: Range<u64>,
    /// The frame that was read last, and its number.
    frame: Vec<u8>,
    number: Option<u32>,
}

impl Read for SpoolReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.range.is_empty() {
            return Ok(0);
        }
        let number = (self.range.start / FRAME_LEN as u64) as u32;
        let inside = (self.range.start % FRAME_LEN as u64) as usize;
        if self.number != Some(number) {
            self.frame = self.spool.read_frame(number)?;
            self.number = Some(number);
        }
        let left = usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX);
        let count = into.len().min(left).min(self.frame.len().saturating_sub(inside));
        into[..count].copy_from_slice(&self.frame[inside..inside + count]);
        self.range.start += count as u64;
        Ok(count)
    }
}

/// A content that is written once, and then read at any place: sealed on the disk, without a name there, gone with the process.
pub struct Scratch {
    spool: Spool,
    at: u64,
    /// Frames that were read last, the newest at the end.
    frames: Vec<(u32, Vec<u8>)>,
}

impl Scratch {
    pub(crate) fn new(storage: &dyn Storage) -> Result<Scratch> {
        Ok(Scratch { spool: Spool::new(storage)?, at: 0, frames: Vec::new() })
    }

    fn frame(&mut self, number: u32) -> io::Result<&[u8]> {
        let known = self.frames.iter().rposition(|(known, _)| *known == number);
        let frame = match known {
            Some(at) => self.frames.remove(at),
            None => (number, self.spool.read_frame(number)?),
        };
        if self.frames.len() == CACHED_FRAMES {
            self.frames.remove(0);
        }
        Ok(&self.frames.push_mut(frame).1)
    }
}

impl Write for Scratch {
    /// Appends, wherever reading is.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.frames.clear();
        self.spool.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Scratch {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() || self.at >= self.spool.len() {
            return Ok(0);
        }
        let inside = (self.at % FRAME_LEN as u64) as usize;
        let frame = self.frame((self.at / FRAME_LEN as u64) as u32)?;
        let ready = &frame[inside..];
        let count = ready.len().min(into.len());
        into[..count].copy_from_slice(&ready[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Scratch {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.spool.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Storage { action, name: "a temporary file".to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::LocalStorage;

    #[test]
    fn contents_come_back_in_any_order_and_nothing_of_them_lies_on_the_disk_in_the_clear() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(&LocalStorage::new(dir.path())).unwrap();
        let content = |n: usize| [format!("content {n} ").as_bytes(), &vec![n as u8; n * 70_001 % 700_000]].concat();
        let ranges: Vec<Range<u64>> = (0..20).map(|n| spool.append(&mut content(n).as_slice()).unwrap()).collect();
        let empty = spool.append(&mut io::empty()).unwrap();
        for n in (0..20).rev().chain([7]) {
            let mut read = Vec::new();
            spool.read(ranges[n].clone()).read_to_end(&mut read).unwrap();
            assert!(read == content(n), "{n}");
        }
        assert_eq!(spool.read(empty).read(&mut [0; 9]).unwrap(), 0);
        assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0, "it has a name");
        let mut on_disk = Vec::new();
        spool.file.seek(SeekFrom::Start(0)).unwrap();
        spool.file.read_to_end(&mut on_disk).unwrap();
        assert!(on_disk.len() > 4_000_000 && !on_disk.windows(8).any(|window| window == b"content "));
    }

    #[test]
    fn a_scratch_reads_what_was_written_at_any_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut scratch = Scratch::new(&LocalStorage::new(dir.path())).unwrap();
        let content: Vec<u8> = (0..9_000_000u32).map(|n| ((n * 7) >> 5) as u8).collect();
        content.chunks(70_001).for_each(|part| scratch.write_all(part).unwrap());
        assert_eq!(scratch.seek(SeekFrom::End(0)).unwrap(), 9_000_000);
        assert_eq!(scratch.read(&mut [0; 9]).unwrap(), 0);
        for n in 0..3000 {
            let (at, mut read) = (n * 7919 * 4096 % 8_990_000, [0; 5000]);
            scratch.seek(SeekFrom::Start(at as u64)).unwrap();
            scratch.read_exact(&mut read).unwrap();
            assert!(read == content[at..at + 5000], "{at}");
        }
        assert!(scratch.seek(SeekFrom::Current(-9_000_000)).is_err());
        assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0, "it has a name");
    }

    #[test]
    fn a_content_that_fails_harms_no_other() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let mut spool = Spool::new(&crate::storage::MemoryStorage::default()).unwrap();
        let first = spool.append(&mut "first".as_bytes()).unwrap();
        assert!(matches!(spool.append(&mut "lost".as_bytes().chain(Fails)), Err(Error::Source(_))));
        let second = spool.append(&mut "second".as_bytes()).unwrap();
        for (range, text) in [(first, "first"), (second, "second")] {
            let mut read = String::new();
            spool.read(range).read_to_string(&mut read).unwrap();
            assert_eq!(read, text);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_one_and_no_failure_of_the_source() {
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let mut spool = Spool::of(full).unwrap();
        let small = spool.append(&mut "small".as_bytes()).unwrap();
        for _ in 0..2 {
            let error = spool.append(&mut io::repeat(7).take(2 * FRAME_LEN as u64)).unwrap_err();
            assert!(error.is_full(), "{error}");
        }
        assert_eq!(small, 0..5);
        let error = spool.write_all(&[7; 2 * FRAME_LEN]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("a temporary file of the repository"), "{error}");
    }
}
