//! `com.apple.afc`: the files of the media partition (DCIM, Books, iTunes_Control, ...).
//!
//! A packet is a header of 40 bytes, "CFA6LPAA" and four little-endian u64 {length of all, length without the payload,
//! number, operation}, then the operation's fields, then its payload. Text ends with a NUL. Each request has one
//! answer with its number: `STATUS`, or what was asked for. (libimobiledevice's afc.h.)

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{Error, Result, Stream, frame::read_bytes};

/// The service's name.
pub const NAME: &str = "com.apple.afc";

const MAGIC: &[u8; 8] = b"CFA6LPAA";
const HEADER_BYTES: usize = 40;
/// The most bytes of a file that one request reads or writes.
const BLOCK_BYTES: usize = 1 << 20;
/// The most bytes of an answer: a directory's listing is the largest.
const MAX_ANSWER_BYTES: usize = 16 << 20;

mod operation {
    pub const STATUS: u64 = 0x01;
    pub const DATA: u64 = 0x02;
    pub const READ_DIRECTORY: u64 = 0x03;
    pub const TRUNCATE_PATH: u64 = 0x07;
    pub const REMOVE: u64 = 0x08;
    pub const MAKE_DIRECTORY: u64 = 0x09;
    pub const FILE_INFO: u64 = 0x0a;
    pub const DEVICE_INFO: u64 = 0x0b;
    pub const OPEN: u64 = 0x0d;
    pub const OPEN_RESULT: u64 = 0x0e;
    pub const READ: u64 = 0x0f;
    pub const WRITE: u64 = 0x10;
    pub const SEEK: u64 = 0x11;
    pub const TELL: u64 = 0x12;
    pub const TELL_RESULT: u64 = 0x13;
    pub const CLOSE: u64 = 0x14;
    pub const SET_SIZE: u64 = 0x15;
    pub const RENAME: u64 = 0x18;
    pub const LOCK: u64 = 0x1b;
    pub const LINK: u64 = 0x1c;
    pub const SET_MODIFIED: u64 = 0x1e;
    pub const REMOVE_TREE: u64 = 0x22;
}

/// Why AFC refused an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Status {
    #[error("unknown error")]
    UnknownError,
    #[error("invalid header")]
    InvalidHeader,
    #[error("no resources")]
    NoResources,
    #[error("read error")]
    ReadError,
    #[error("write error")]
    WriteError,
    #[error("unknown packet type")]
    UnknownPacketType,
    #[error("invalid argument")]
    InvalidArgument,
    #[error("not found")]
    NotFound,
    #[error("is a directory")]
    IsDirectory,
    #[error("permission denied")]
    PermissionDenied,
    #[error("service not connected")]
    NotConnected,
    #[error("timed out on the phone")]
    TimedOut,
    #[error("too much data")]
    TooMuchData,
    #[error("end of data")]
    EndOfData,
    #[error("not supported")]
    NotSupported,
    #[error("exists already")]
    Exists,
    #[error("busy")]
    Busy,
    #[error("no space left on the phone")]
    NoSpace,
    #[error("locked by another program")]
    WouldBlock,
    #[error("input/output error on the phone")]
    IoError,
    #[error("interrupted")]
    Interrupted,
    #[error("in progress")]
    InProgress,
    #[error("internal error")]
    InternalError,
    #[error("muxer error")]
    MuxError,
    #[error("no memory")]
    NoMemory,
    #[error("not enough data")]
    NotEnoughData,
    #[error("directory not empty")]
    DirectoryNotEmpty,
    #[error("AFC status {0}")]
    Other(u64),
}

impl Status {
    /// By AFC's number; `None` is success.
    pub fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            0 => return None,
            1 => Status::UnknownError,
            2 => Status::InvalidHeader,
            3 => Status::NoResources,
            4 => Status::ReadError,
            5 => Status::WriteError,
            6 => Status::UnknownPacketType,
            7 => Status::InvalidArgument,
            8 => Status::NotFound,
            9 => Status::IsDirectory,
            10 => Status::PermissionDenied,
            11 => Status::NotConnected,
            12 => Status::TimedOut,
            13 => Status::TooMuchData,
            14 => Status::EndOfData,
            15 => Status::NotSupported,
            16 => Status::Exists,
            17 => Status::Busy,
            18 => Status::NoSpace,
            19 => Status::WouldBlock,
            20 => Status::IoError,
            21 => Status::Interrupted,
            22 => Status::InProgress,
            23 => Status::InternalError,
            30 => Status::MuxError,
            31 => Status::NoMemory,
            32 => Status::NotEnoughData,
            33 => Status::DirectoryNotEmpty,
            other => Status::Other(other),
        })
    }
}

/// How a file is opened, as in C's `fopen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `r`
    Read = 1,
    /// `r+`; made if it is not there.
    ReadWrite = 2,
    /// `w`
    Write = 3,
    /// `w+`
    WriteRead = 4,
    /// `a`
    Append = 5,
    /// `a+`
    AppendRead = 6,
}

/// An advisory lock on an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Together with other shared ones.
    Shared = 1 | 4,
    /// Alone.
    Exclusive = 2 | 4,
    /// Given up.
    Unlock = 8 | 4,
}

/// Where [`Afc::seek`] counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// The file's beginning.
    Start = 0,
    /// The current position.
    Current = 1,
    /// The file's end.
    End = 2,
}

/// A kind of link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// Another name of the same file.
    Hard = 1,
    /// A path.
    Symbolic = 2,
}

/// An open file of the connection that opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle(u64);

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// `S_IFREG`
    Regular,
    /// `S_IFDIR`
    Directory,
    /// `S_IFLNK`
    Symlink,
    /// A device, a socket, or what else there may be.
    Other,
}

/// A file's attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// What it is.
    pub kind: FileKind,
    /// Its length in bytes.
    pub bytes: u64,
    /// When its content last changed.
    pub modified: Option<SystemTime>,
    /// Where it points, if it is a symbolic link.
    pub link_target: Option<String>,
}

/// The phone's storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Such as `iPhone14,5`.
    pub model: Option<String>,
    /// Size of the data partition.
    pub total_bytes: Option<u64>,
    /// Free of it.
    pub free_bytes: Option<u64>,
}

/// A connection to the service. Paths are absolute within the media partition.
pub struct Afc {
    stream: Box<dyn Stream>,
    last_number: u64,
}

/// An answer that is no refusal: its operation, and all that follows the header.
struct Answer {
    operation: u64,
    content: Vec<u8>,
}

// Every operation fails with `Error::Afc` if the phone refuses it, and otherwise as the connection does.
#[allow(clippy::missing_errors_doc)]
impl Afc {
    /// Over the stream of a started service.
    pub fn new(stream: Box<dyn Stream>) -> Self {
        Afc { stream, last_number: 0 }
    }

    /// The names in a directory, without `.` and `..`. They are the phone's words: check before using them as paths.
    pub fn read_directory(&mut self, path: &str) -> Result<Vec<String>> {
        let content = self.ask_for_data(path, operation::READ_DIRECTORY, &text([path])?, MAX_ANSWER_BYTES)?;
        Ok(texts(&content).filter(|name| !matches!(name.as_str(), "" | "." | "..")).collect())
    }

    /// Makes a directory and its parents; that it exists is no error.
    pub fn make_directory(&mut self, path: &str) -> Result<()> {
        self.ask_for_ok(path, operation::MAKE_DIRECTORY, &text([path])?, &[])
    }

    /// Removes a file or an empty directory.
    pub fn remove(&mut self, path: &str) -> Result<()> {
        self.ask_for_ok(path, operation::REMOVE, &text([path])?, &[])
    }

    /// Removes a file, or a directory with all that it holds.
    pub fn remove_tree(&mut self, path: &str) -> Result<()> {
        self.ask_for_ok(path, operation::REMOVE_TREE, &text([path])?, &[])
    }

    /// Renames a file or directory.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.ask_for_ok(from, operation::RENAME, &text([from, to])?, &[])
    }

    /// Makes `path` a link to `target`.
    pub fn link(&mut self, kind: LinkKind, target: &str, path: &str) -> Result<()> {
        let fields = [&(kind as u64).to_le_bytes()[..], &text([target, path])?].concat();
        self.ask_for_ok(path, operation::LINK, &fields, &[])
    }

    /// Attributes of a file; links are not followed.
    pub fn file_info(&mut self, path: &str) -> Result<FileInfo> {
        let content = self.ask_for_data(path, operation::FILE_INFO, &text([path])?, MAX_ANSWER_BYTES)?;
        let mut pairs = pairs(&content);
        let number = |pairs: &BTreeMap<String, String>, key: &str| pairs.get(key)?.parse::<u64>().ok();
        let bytes = number(&pairs, "st_size").ok_or_else(|| Error::protocol("AFC gave a file without a size"))?;
        let modified = number(&pairs, "st_mtime").and_then(|nanos| UNIX_EPOCH.checked_add(Duration::from_nanos(nanos)));
        let kind = match pairs.get("st_ifmt").map(String::as_str) {
            Some("S_IFREG") => FileKind::Regular,
            Some("S_IFDIR") => FileKind::Directory,
            Some("S_IFLNK") => FileKind::Symlink,
            _ => FileKind::Other,
        };
        Ok(FileInfo { kind, bytes, modified, link_target: pairs.remove("LinkTarget") })
    }

    /// The phone's storage.
    pub fn device_info(&mut self) -> Result<DeviceInfo> {
        let content = self.ask_for_data("device info", operation::DEVICE_INFO, &[], MAX_ANSWER_BYTES)?;
        let mut pairs = pairs(&content);
        let mut number = |key| pairs.remove(key)?.parse().ok();
        let (total_bytes, free_bytes) = (number("FSTotalBytes"), number("FSFreeBytes"));
        Ok(DeviceInfo { model: pairs.remove("Model"), total_bytes, free_bytes })
    }

    /// Sets when a file was last changed.
    pub fn set_modified(&mut self, path: &str, time: SystemTime) -> Result<()> {
        let nanos = time.duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_nanos()).ok());
        let nanos = nanos.ok_or(Error::Afc { path: path.to_owned(), status: Status::InvalidArgument })?;
        let fields = [&nanos.to_le_bytes()[..], &text([path])?].concat();
        self.ask_for_ok(path, operation::SET_MODIFIED, &fields, &[])
    }

    /// Cuts or lengthens a file that need not be open.
    pub fn truncate_path(&mut self, path: &str, bytes: u64) -> Result<()> {
        let fields = [&bytes.to_le_bytes()[..], &text([path])?].concat();
        self.ask_for_ok(path, operation::TRUNCATE_PATH, &fields, &[])
    }

    /// Opens a file.
    pub fn open(&mut self, path: &str, mode: Mode) -> Result<Handle> {
        let fields = [&(mode as u64).to_le_bytes()[..], &text([path])?].concat();
        let answer = self.ask(path, operation::OPEN, &fields, &[], HEADER_BYTES)?;
        number_of(&answer, operation::OPEN_RESULT).map(Handle)
    }

    /// Closes a file, which releases its lock.
    pub fn close(&mut self, file: Handle) -> Result<()> {
        self.ask_for_ok("close", operation::CLOSE, &file.0.to_le_bytes(), &[])
    }

    /// At most `bytes` bytes, and at most 1 MiB, from the current position; none at the end.
    pub fn read(&mut self, file: Handle, bytes: usize) -> Result<Vec<u8>> {
        let bytes = bytes.min(BLOCK_BYTES);
        let fields = words([file.0, bytes as u64]);
        match self.ask_for_data("read", operation::READ, &fields, bytes) {
            Err(Error::Afc { status: Status::EndOfData, .. }) => Ok(Vec::new()),
            content => content,
        }
    }

    /// Writes all of `bytes` at the current position.
    pub fn write(&mut self, file: Handle, bytes: &[u8]) -> Result<()> {
        bytes
            .chunks(BLOCK_BYTES)
            .try_for_each(|block| self.ask_for_ok("write", operation::WRITE, &file.0.to_le_bytes(), block))
    }

    /// Moves the current position.
    pub fn seek(&mut self, file: Handle, whence: Whence, offset: i64) -> Result<()> {
        let fields = words([file.0, whence as u64, offset.cast_unsigned()]);
        self.ask_for_ok("seek", operation::SEEK, &fields, &[])
    }

    /// The current position.
    pub fn tell(&mut self, file: Handle) -> Result<u64> {
        let answer = self.ask("tell", operation::TELL, &file.0.to_le_bytes(), &[], HEADER_BYTES)?;
        number_of(&answer, operation::TELL_RESULT)
    }

    /// Cuts or lengthens an open file.
    pub fn truncate(&mut self, file: Handle, bytes: u64) -> Result<()> {
        self.ask_for_ok("truncate", operation::SET_SIZE, &words([file.0, bytes]), &[])
    }

    /// Takes or releases a lock; false if another program has one that excludes it.
    pub fn lock(&mut self, file: Handle, lock: Lock) -> Result<bool> {
        match self.ask_for_ok("lock", operation::LOCK, &words([file.0, lock as u64]), &[]) {
            Ok(()) => Ok(true),
            Err(Error::Afc { status: Status::WouldBlock, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A whole file of at most `limit` bytes; a larger one is refused with [`Status::TooMuchData`].
    pub fn read_file(&mut self, path: &str, limit: usize) -> Result<Vec<u8>> {
        let file = self.open(path, Mode::Read)?;
        let content = self.read_to_end(file, limit);
        let closed = self.close(file);
        match content? {
            Some(content) => closed.map(|()| content),
            None => Err(Error::Afc { path: path.to_owned(), status: Status::TooMuchData }),
        }
    }

    /// Makes or replaces a file.
    pub fn write_file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let file = self.open(path, Mode::Write)?;
        let written = self.write(file, content);
        let closed = self.close(file);
        written.and(closed)
    }

    fn read_to_end(&mut self, file: Handle, limit: usize) -> Result<Option<Vec<u8>>> {
        let mut content = Vec::new();
        loop {
            let block = self.read(file, BLOCK_BYTES)?;
            if block.is_empty() {
                return Ok(Some(content));
            }
            if block.len() > limit - content.len() {
                return Ok(None);
            }
            content.extend_from_slice(&block);
        }
    }

    fn ask_for_ok(&mut self, what: &str, operation: u64, fields: &[u8], payload: &[u8]) -> Result<()> {
        let answer = self.ask(what, operation, fields, payload, HEADER_BYTES)?;
        expect(&answer, operation::STATUS)
    }

    /// As `ask`, where success without data is an empty answer.
    fn ask_for_data(&mut self, what: &str, operation: u64, fields: &[u8], limit: usize) -> Result<Vec<u8>> {
        let answer = self.ask(what, operation, fields, &[], limit)?;
        if answer.operation == operation::STATUS {
            return Ok(Vec::new());
        }
        expect(&answer, operation::DATA)?;
        Ok(answer.content)
    }

    /// Sends one packet and reads its answer, of which at most `limit` bytes follow the header (and a status always
    /// fits).
    fn ask(&mut self, what: &str, operation: u64, fields: &[u8], payload: &[u8], limit: usize) -> Result<Answer> {
        self.last_number += 1;
        let packet = packet(self.last_number, operation, fields, payload);
        self.stream.write_all(&packet)?;
        self.stream.flush()?;
        let answer = self.read_answer(limit.max(HEADER_BYTES))?;
        if answer.operation == operation::STATUS {
            let code = answer.content.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
            let code = code.ok_or_else(|| Error::protocol("AFC answered with an empty status"))?;
            if let Some(status) = Status::from_code(code) {
                return Err(Error::Afc { path: what.to_owned(), status });
            }
        }
        Ok(answer)
    }

    fn read_answer(&mut self, limit: usize) -> Result<Answer> {
        let header = read_bytes(&mut *self.stream, HEADER_BYTES)?;
        let (magic, rest) = header.split_at(MAGIC.len());
        let mut words = rest.chunks_exact(8).map(|word| word.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte)));
        let mut word = || words.next().unwrap_or_default();
        let (length, length_without_payload, number, operation) = (word(), word(), word(), word());
        if magic != MAGIC {
            return Err(Error::protocol("AFC sent something that is no packet"));
        }
        if number != self.last_number {
            return Err(Error::protocol(format!("AFC answered request {number} instead of {}", self.last_number)));
        }
        let content_bytes = usize::try_from(length).ok().and_then(|length| length.checked_sub(HEADER_BYTES));
        match content_bytes {
            Some(bytes) if bytes <= limit && (HEADER_BYTES as u64..=length).contains(&length_without_payload) => {
                Ok(Answer { operation, content: read_bytes(&mut *self.stream, bytes)? })
            }
            _ => Err(Error::protocol(format!("AFC sent an answer of {length} bytes, where {limit} is the most"))),
        }
    }
}

fn packet(number: u64, operation: u64, fields: &[u8], payload: &[u8]) -> Vec<u8> {
    let without_payload = HEADER_BYTES + fields.len();
    let length = without_payload + payload.len();
    let words = words([length as u64, without_payload as u64, number, operation]);
    [&MAGIC[..], &words, fields, payload].concat()
}

fn words<const N: usize>(words: [u64; N]) -> Vec<u8> {
    words.map(u64::to_le_bytes).concat()
}

/// Each text with a NUL after it. One with a NUL within would be read as another.
fn text<const N: usize>(texts: [&str; N]) -> Result<Vec<u8>> {
    match texts.iter().find(|text| text.contains('\0')) {
        Some(odd) => Err(Error::Afc { path: odd.replace('\0', "\u{fffd}"), status: Status::InvalidArgument }),
        None => Ok(texts.iter().flat_map(|text| text.bytes().chain([0])).collect()),
    }
}

/// The texts of a list, each ended by a NUL. What is no UTF-8 shows replacement characters.
fn texts(content: &[u8]) -> impl Iterator<Item = String> {
    let content = content.strip_suffix(&[0]).unwrap_or(content);
    content.split(|&byte| byte == 0).map(|text| String::from_utf8_lossy(text).into_owned())
}

/// The keys and values of a list in which they alternate.
fn pairs(content: &[u8]) -> BTreeMap<String, String> {
    let mut texts = texts(content);
    std::iter::from_fn(|| Some((texts.next()?, texts.next()?))).collect()
}

fn expect(answer: &Answer, operation: u64) -> Result<()> {
    if answer.operation == operation {
        return Ok(());
    }
    Err(Error::protocol(format!("AFC answered with operation {} instead of {operation}", answer.operation)))
}

fn number_of(answer: &Answer, operation: u64) -> Result<u64> {
    expect(answer, operation)?;
    let number = answer.content.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    number.ok_or_else(|| Error::protocol("AFC answered without the number asked for"))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
        thread,
    };

    use proptest::prelude::*;

    use super::{super::tests::Script, *};
    use crate::tls::tests::sockets;

    fn status(number: u64, code: u64) -> Vec<u8> {
        packet(number, operation::STATUS, &words([code]), &[])
    }

    fn data(number: u64, content: &[u8]) -> Vec<u8> {
        packet(number, operation::DATA, &[], content)
    }

    fn afc(answers: &[Vec<u8>]) -> (Afc, std::sync::Arc<std::sync::Mutex<Vec<u8>>>) {
        let (stream, heard) = Script::bytes(answers.concat());
        (Afc::new(stream), heard)
    }

    #[test]
    fn packets_are_as_documented() {
        let (mut afc, heard) = afc(&[packet(1, operation::OPEN_RESULT, &words([5]), &[]), status(2, 0)]);
        let file = afc.open("/a", Mode::ReadWrite).unwrap();
        afc.write(file, b"xyz").unwrap();
        let open = [&b"CFA6LPAA"[..], &words([51, 51, 1, 0x0d, 2]), b"/a\0"].concat();
        let write = [&b"CFA6LPAA"[..], &words([51, 48, 2, 0x10, 5]), b"xyz"].concat();
        assert_eq!(*heard.lock().unwrap(), [open, write].concat());
    }

    #[test]
    fn every_operation_sends_its_number_and_fields() {
        type Ask = fn(&mut Afc) -> Result<()>;
        const FILE: Handle = Handle(7);
        let cases: [(u64, Vec<u8>, Ask); 13] = [
            (0x09, b"/d\0".to_vec(), |afc| afc.make_directory("/d")),
            (0x08, b"/d\0".to_vec(), |afc| afc.remove("/d")),
            (0x22, b"/d\0".to_vec(), |afc| afc.remove_tree("/d")),
            (0x18, b"/a\0/b\0".to_vec(), |afc| afc.rename("/a", "/b")),
            (0x1c, [&words([2])[..], b"/t\0/l\0"].concat(), |afc| afc.link(LinkKind::Symbolic, "/t", "/l")),
            (0x07, [&words([9])[..], b"/a\0"].concat(), |afc| afc.truncate_path("/a", 9)),
            (0x15, words([7, 9]), |afc| afc.truncate(FILE, 9)),
            (0x14, words([7]), |afc| afc.close(FILE)),
            (0x11, words([7, 2, u64::MAX]), |afc| afc.seek(FILE, Whence::End, -1)),
            (0x1b, words([7, 5]), |afc| afc.lock(FILE, Lock::Shared).map(drop)),
            (0x1b, words([7, 6]), |afc| afc.lock(FILE, Lock::Exclusive).map(drop)),
            (0x1b, words([7, 12]), |afc| afc.lock(FILE, Lock::Unlock).map(drop)),
            (0x1e, [&words([1_500_000_000])[..], b"/a\0"].concat(), |afc| {
                afc.set_modified("/a", UNIX_EPOCH + Duration::from_millis(1500))
            }),
        ];
        for (operation, fields, ask) in cases {
            let (mut afc, heard) = afc(&[status(1, 0)]);
            ask(&mut afc).unwrap();
            assert_eq!(*heard.lock().unwrap(), packet(1, operation, &fields, &[]), "{operation:#x}");
        }
    }

    #[test]
    fn answers_are_understood() {
        let info = b"st_size\x0012\0st_ifmt\0S_IFLNK\0st_mtime\x001500000000\0LinkTarget\0/t\0";
        let (mut afc, _) = afc(&[
            data(1, b".\0..\0a b\0\xc3\xbc\0"),
            data(2, info),
            data(3, b"Model\0iPhone1,1\0FSTotalBytes\x00100\0FSFreeBytes\x0050\0"),
            packet(4, operation::TELL_RESULT, &words([77]), &[]),
            status(5, 19),
            status(6, 8),
            status(7, 999),
        ]);
        assert_eq!(afc.read_directory("/").unwrap(), ["a b", "ü"]);
        let expected = FileInfo {
            kind: FileKind::Symlink,
            bytes: 12,
            modified: Some(UNIX_EPOCH + Duration::from_millis(1500)),
            link_target: Some("/t".into()),
        };
        assert_eq!(afc.file_info("/l").unwrap(), expected);
        let storage = afc.device_info().unwrap();
        assert_eq!(
            storage,
            DeviceInfo { model: Some("iPhone1,1".into()), total_bytes: Some(100), free_bytes: Some(50) }
        );
        assert_eq!(afc.tell(Handle(1)).unwrap(), 77);
        assert!(!afc.lock(Handle(1), Lock::Exclusive).unwrap());
        let missing = afc.remove("/gone").unwrap_err();
        assert_eq!(missing.to_string(), "/gone: not found");
        assert!(matches!(afc.remove("/x"), Err(Error::Afc { status: Status::Other(999), .. })));
    }

    /// Serves one file of `content` for reading, in the blocks that are asked for.
    fn serve(mut socket: TcpStream, content: &[u8]) {
        let mut position = 0;
        for number in 1.. {
            let mut header = [0; HEADER_BYTES];
            if socket.read_exact(&mut header).is_err() {
                return;
            }
            let word = |index: usize| u64::from_le_bytes(*header[8 + 8 * index..].first_chunk().unwrap());
            let mut rest = vec![0; word(0) as usize - HEADER_BYTES];
            socket.read_exact(&mut rest).unwrap();
            let answer = match word(3) {
                operation::OPEN => packet(number, operation::OPEN_RESULT, &words([3]), &[]),
                operation::READ => {
                    let asked = u64::from_le_bytes(*rest[8..].first_chunk().unwrap()) as usize;
                    let block = &content[position..content.len().min(position + asked)];
                    position += block.len();
                    data(number, block)
                }
                _ => status(number, 0),
            };
            socket.write_all(&answer).unwrap();
        }
    }

    #[test]
    fn whole_files_are_read_up_to_a_limit() {
        let content: Vec<u8> = (0..2_500_000u32).map(|n| (n % 251) as u8).collect();
        for (limit, fits) in [(content.len(), true), (content.len() - 1, false), (0, false)] {
            let (ours, theirs) = sockets();
            thread::scope(|scope| {
                scope.spawn(|| serve(theirs, &content));
                let mut afc = Afc::new(Box::new(ours));
                match afc.read_file("/f", limit) {
                    Ok(read) => assert!(fits && read == content),
                    Err(error) => {
                        assert!(!fits && matches!(error, Error::Afc { status: Status::TooMuchData, .. }), "{error:?}")
                    }
                }
                // The connection is in step after a refusal, too.
                afc.make_directory("/d").unwrap();
            });
        }
    }

    #[test]
    fn a_path_with_a_nul_is_not_sent() {
        let (mut afc, heard) = afc(&[]);
        assert!(matches!(afc.remove("/a\0b"), Err(Error::Afc { status: Status::InvalidArgument, .. })));
        assert!(heard.lock().unwrap().is_empty());
    }

    #[test]
    fn hostile_answers_are_refused() {
        let broken = |edit: fn(&mut Vec<u8>)| {
            let mut answer = status(1, 0);
            edit(&mut answer);
            afc(&[answer]).0.remove("/a").unwrap_err()
        };
        let says = |error: Error| error.to_string();
        assert!(says(broken(|answer| answer[0] = b'X')).contains("no packet"));
        assert!(says(broken(|answer| answer[24] = 9)).contains("request 9"));
        assert!(says(broken(|answer| answer[8..16].fill(0xff))).contains("18446744073709551615"));
        assert!(says(broken(|answer| answer[8] = 39)).contains("39 bytes"));
        assert!(says(broken(|answer| answer[16..24].fill(0xff))).contains("bytes"));
        assert!(says(broken(|answer| (answer[8], answer[16]) = (40, 40))).contains("empty status"));
        assert!(says(broken(|answer| answer[32] = 0x50)).contains("operation 80"));
        assert!(matches!(broken(|answer| answer.truncate(45)), Error::Timeout));
        // More than was asked for.
        let (mut afc, _) = afc(&[data(1, &[0; 100])]);
        assert!(matches!(afc.read(Handle(1), 99), Err(Error::Protocol { .. })));
    }

    proptest! {
        #[test]
        fn any_answer_ends_in_a_verdict(content in prop::collection::vec(any::<u8>(), 0..200), raw in any::<bool>()) {
            let answer = if raw { content } else { data(1, &content) };
            let _ = afc(std::slice::from_ref(&answer)).0.file_info("/a");
            let _ = afc(std::slice::from_ref(&answer)).0.read_directory("/a");
            let _ = afc(std::slice::from_ref(&answer)).0.device_info();
            let _ = afc(&[answer]).0.open("/a", Mode::Read);
        }
    }
}
