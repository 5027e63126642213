//! DeviceLink from the phone's side: each message, the files on its back, and the status that must answer it.
//! What the computer does wrong becomes an error with the code a phone would give.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use plist::{Dictionary, Value};

use super::super::connection::{Arrival, Connection};
use super::super::{After, Fault, PathIn, Shared};
use super::{code, response};

/// Longest data of a block that the phone takes. It holds a block in memory.
const MAX_BLOCK: u32 = 32 << 10;
const MAX_TEXT: u32 = 4096;

const SUCCESS: u8 = 0x00;
const LOCAL_ERROR: u8 = 0x06;
const REMOTE_ERROR: u8 = 0x0b;
const FILE_DATA: u8 = 0x0c;

const MISSING: i64 = -6;
const MULTI_STATUS: i64 = -13;
const DISK_FULL: i64 = -15;

/// Why an operation ends.
pub(super) enum Failure {
    /// The connection broke.
    Io(io::Error),
    /// The phone ends it with this code of MBErrorDomain.
    Error { code: u32, text: String },
}

/// A connection with the computer's backup program.
pub(super) struct Link<'a> {
    pub(super) shared: &'a Shared,
    connection: Connection,
    files: u64,
    bytes: u64,
    has_struck: bool,
    has_paused: bool,
}

/// What the computer answered.
pub(super) struct Status {
    pub(super) code: i64,
    pub(super) payload: Value,
}

/// An entry of a listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Directory,
    File(u64),
    Unknown,
}

/// A file to send.
pub(super) struct Upload<'a> {
    pub(super) device_path: String,
    pub(super) host_path: String,
    pub(super) size: u64,
    pub(super) content: Box<dyn FnOnce() -> io::Result<Box<dyn Read + 'a>> + 'a>,
    /// Whether faults of single files may strike it.
    pub(super) is_fragile: bool,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl Failure {
    pub(super) fn error(code: u32, text: impl Into<String>) -> Failure {
        Failure::Error { code, text: text.into() }
    }
}

impl<'a> Link<'a> {
    pub(super) fn new(shared: &'a Shared, connection: Connection) -> io::Result<Link<'a>> {
        connection.set_read_timeout(Some(shared.options.patience))?;
        Ok(Link { shared, connection, files: 0, bytes: 0, has_struck: false, has_paused: false })
    }

    pub(super) fn exchange_versions(&mut self) -> io::Result<()> {
        self.send(vec!["DLMessageVersionExchange".into(), 400.into(), 0.into()])?;
        let answer = self.connection.read_plist()?;
        let wanted = ["DLMessageVersionExchange".into(), "DLVersionsOk".into(), 400.into()];
        if answer.as_array().is_none_or(|answer| answer[..] != wanted) {
            self.shared.complain(format!("a version exchange of {answer:?}"));
            return Err(io::Error::other("no common version of DeviceLink"));
        }
        self.send(vec!["DLMessageDeviceReady".into()])
    }

    /// The next request; none once the computer has disconnected.
    pub(super) fn next_request(&mut self) -> io::Result<Option<Dictionary>> {
        let message = loop {
            match self.connection.wait(Duration::from_millis(200))? {
                Arrival::End => return Ok(None),
                Arrival::Nothing if self.shared.stopped.load(Ordering::SeqCst) => return Ok(None),
                Arrival::Nothing => {}
                Arrival::Data => {
                    self.connection.set_read_timeout(Some(self.shared.options.patience))?;
                    break self.connection.read_plist()?;
                }
            }
        };
        let mut items = message.into_array().unwrap_or_default();
        match items.first().and_then(Value::as_string) {
            Some("DLMessageDisconnect") => Ok(None),
            Some("DLMessageProcessMessage") if items.len() == 2 => {
                Ok(Some(items.remove(1).into_dictionary().unwrap_or_default()))
            }
            other => {
                self.shared.complain(format!("{other:?} where a request is due"));
                Err(io::Error::other("not a request"))
            }
        }
    }

    pub(super) fn respond(&mut self, code: u32, text: Option<&str>, more: &[(&str, Value)]) -> io::Result<()> {
        self.connection.write_plist(&response(code, text, more))
    }

    pub(super) fn drain(&mut self) {
        self.connection.drain(Duration::from_secs(5));
    }

    /// Notes what the computer did wrong, for an error of this code.
    pub(super) fn wrong(&self, code: u32, what: impl Into<String>) -> Failure {
        let text = format!("{} (MBErrorDomain/{code})", what.into());
        self.shared.complain(text.clone());
        Failure::Error { code, text }
    }

    fn send(&mut self, items: Vec<Value>) -> io::Result<()> {
        self.connection.write_plist(&Value::Array(items))
    }

    fn status(&mut self, to: &str) -> Result<Status, Failure> {
        let answer = self.connection.read_plist()?;
        let items = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        let name = items.first().and_then(Value::as_string).unwrap_or_default();
        if name == "DLMessageDisconnect" {
            return Err(Failure::Io(io::ErrorKind::ConnectionAborted.into()));
        }
        let [_, number, text, payload] = items else {
            return Err(self.wrong(code::GENERIC, format!("{name} of {} items answers {to}", items.len())));
        };
        let number = number.as_signed_integer().or(number.as_unsigned_integer().map(|number| number as i64));
        match (name, number, text) {
            ("DLMessageStatusResponse", Some(code), Value::String(_)) => Ok(Status { code, payload: payload.clone() }),
            _ => Err(self.wrong(code::GENERIC, format!("{answer:?} answers {to}"))),
        }
    }

    fn expect_success(&mut self, to: &str, error: u32) -> Result<Status, Failure> {
        let status = self.status(to)?;
        match status.code {
            0 => Ok(status),
            DISK_FULL => Err(Failure::error(
                code::NO_SPACE,
                "Insufficient free disk space on drive to back up (MBErrorDomain/105)",
            )),
            code => Err(Failure::error(error, format!("{to} failed with {code} (MBErrorDomain/{error})"))),
        }
    }
}

/// Messages without files.
impl Link<'_> {
    /// Lists the folder `path`; nothing if it is not there.
    pub(super) fn list(&mut self, path: &str) -> Result<BTreeMap<String, Entry>, Failure> {
        self.send(vec!["DLContentsOfDirectory".into(), path.into()])?;
        let status = self.status("DLContentsOfDirectory")?;
        let Value::Dictionary(listing) = status.payload else {
            return Err(self.wrong(code::BAD_BACKUP, format!("the listing of {path} is not a dictionary")));
        };
        if status.code != 0 {
            return Err(self.wrong(code::BAD_BACKUP, format!("the listing of {path} failed with {}", status.code)));
        }
        let mut entries = BTreeMap::new();
        for (name, entry) in &listing {
            let entry =
                self.entry(entry).map_err(|what| self.wrong(code::BAD_BACKUP, format!("{path}/{name} {what}")))?;
            if name.is_empty() || name.contains('/') || name == "." || name == ".." {
                return Err(self.wrong(code::BAD_BACKUP, format!("{path} lists {name:?}")));
            }
            entries.insert(name.clone(), entry);
        }
        Ok(entries)
    }

    fn entry(&self, entry: &Value) -> Result<Entry, String> {
        let entry = entry.as_dictionary().ok_or("is not a dictionary")?;
        let size = entry.get("DLFileSize").and_then(Value::as_unsigned_integer).ok_or("has no size")?;
        let date = entry.get("DLFileModificationDate").and_then(Value::as_date).ok_or("has no date")?;
        // 2007-01-01: there were no phones before.
        if std::time::SystemTime::from(date) < std::time::UNIX_EPOCH + Duration::from_secs(1_167_609_600) {
            self.shared.complain(format!("a listing tells of a file changed at {date:?}"));
        }
        match entry.get("DLFileType").and_then(Value::as_string) {
            Some("DLFileTypeDirectory") => Ok(Entry::Directory),
            Some("DLFileTypeRegular") => Ok(Entry::File(size)),
            Some("DLFileTypeUnknown") => Ok(Entry::Unknown),
            other => Err(format!("is of type {other:?}")),
        }
    }

    /// Bytes that the computer says it has room for.
    pub(super) fn free_space(&mut self) -> Result<u64, Failure> {
        self.send(vec!["DLMessageGetFreeDiskSpace".into()])?;
        let status = self.expect_success("DLMessageGetFreeDiskSpace", code::NO_SPACE)?;
        let free = status.payload.as_unsigned_integer();
        free.ok_or_else(|| self.wrong(code::NO_SPACE, "the free space is not an integer"))
    }

    /// Asks for room; whether there is some now.
    pub(super) fn purge(&mut self, bytes: u64) -> Result<bool, Failure> {
        self.send(vec!["DLMessagePurgeDiskSpace".into(), bytes.into(), 4.into()])?;
        Ok(self.status("DLMessagePurgeDiskSpace")?.code == 0)
    }

    pub(super) fn create_directory(&mut self, path: &str) -> Result<(), Failure> {
        self.send(vec!["DLMessageCreateDirectory".into(), path.into(), empty()])?;
        self.expect_success("DLMessageCreateDirectory", code::UPLOADS).map(drop)
    }

    pub(super) fn move_items(&mut self, moves: &[(String, String)], progress: f64) -> Result<(), Failure> {
        for part in moves.chunks(1000) {
            let part: Dictionary = part.iter().map(|(from, to)| (from.clone(), Value::from(to.as_str()))).collect();
            self.send(vec!["DLMessageMoveItems".into(), Value::Dictionary(part), empty(), progress.into()])?;
            self.expect_success("DLMessageMoveItems", code::UPLOADS)?;
        }
        Ok(())
    }

    pub(super) fn remove_items(&mut self, paths: &[String], progress: f64) -> Result<(), Failure> {
        for part in paths.chunks(1000) {
            let part = part.iter().map(|path| path.as_str().into()).collect();
            self.send(vec!["DLMessageRemoveItems".into(), Value::Array(part), empty(), progress.into()])?;
            self.expect_success("DLMessageRemoveItems", code::UPLOADS)?;
        }
        Ok(())
    }

    pub(super) fn copy_item(&mut self, from: &str, to: &str) -> Result<(), Failure> {
        self.send(vec!["DLMessageCopyItem".into(), from.into(), to.into(), empty(), 0.into()])?;
        self.expect_success("DLMessageCopyItem", code::BAD_BACKUP).map(drop)
    }
}

/// Messages with files.
impl Link<'_> {
    /// Sends files; for each the bytes that went, none if it could not be read.
    pub(super) fn upload(&mut self, files: Vec<Upload>, progress: f64) -> Result<Vec<Option<u64>>, Failure> {
        let total: u64 = files.iter().map(|file| file.size).sum();
        self.strike_message()?;
        self.send(vec!["DLMessageUploadFiles".into(), empty(), progress.into(), total.into()])?;
        let mut sent = Vec::new();
        for file in files {
            sent.push(self.upload_one(file)?);
        }
        self.connection.write_all(&[0; 4])?;
        self.expect_success("DLMessageUploadFiles", code::UPLOADS)?;
        Ok(sent)
    }

    fn upload_one(&mut self, file: Upload) -> Result<Option<u64>, Failure> {
        let fault = self.shared.fault();
        self.strike_files()?;
        if fault == Some(Fault::GarbageNameLength) {
            return self.strike_length(&u32::MAX.to_be_bytes());
        }
        let mut device_path = file.device_path.into_bytes();
        if fault == Some(Fault::OddNames) {
            device_path.extend(b"/caf\xe9");
        }
        for path in [&device_path[..], file.host_path.as_bytes()] {
            self.connection.write_all(&(path.len() as u32).to_be_bytes())?;
            self.connection.write_all(path)?;
        }
        self.files += 1;
        let strikes = |every: u64| file.is_fragile && every > 0 && self.files.is_multiple_of(every);
        let mut end = file.size;
        let mut error = None;
        match fault {
            Some(Fault::GarbageBlockLength) => {
                return self.strike_length(&[&0xffff_fff0u32.to_be_bytes()[..], &[FILE_DATA; 100]].concat());
            }
            Some(Fault::MissingFile(every)) if strikes(every) => {
                self.block(REMOTE_ERROR, b"No such file or directory (2)")?;
                return Ok(None);
            }
            Some(Fault::FileError(every)) if strikes(every) => {
                (end, error) = (file.size / 2, Some(b"Input/output error (5)"));
            }
            _ => {}
        }
        let mut content = (file.content)()?;
        if let Some(Fault::ChangedFile(every)) = fault
            && strikes(every)
        {
            content = Box::new(content.chain(&b"written while it was sent"[..]));
            end += 25;
        }
        let sent = self.upload_data(&mut content.take(end))?;
        match error {
            Some(text) => self.block(REMOTE_ERROR, text)?,
            None if fault == Some(Fault::ZeroBlock) && file.is_fragile => self.connection.write_all(&[0; 4])?,
            None => self.block(SUCCESS, b"")?,
        }
        self.shared.state().traffic.files_sent += 1;
        Ok(if error.is_some() && sent == 0 { None } else { Some(sent) })
    }

    fn upload_data(&mut self, content: &mut dyn Read) -> Result<u64, Failure> {
        let mut block = vec![0; self.shared.options.block];
        let mut sent = 0;
        loop {
            let mut count = 0;
            while count < block.len() {
                match content.read(&mut block[count..])? {
                    0 => break,
                    read => count += read,
                }
            }
            if count == 0 {
                return Ok(sent);
            }
            self.strike_bytes(count as u64)?;
            self.block(FILE_DATA, &block[..count])?;
            sent += count as u64;
            self.shared.state().traffic.bytes_sent += count as u64;
        }
    }

    fn block(&mut self, kind: u8, data: &[u8]) -> io::Result<()> {
        self.connection.write_all(&(data.len() as u32 + 1).to_be_bytes())?;
        self.connection.write_all(&[kind])?;
        self.connection.write_all(data)
    }

    /// Asks for files and writes each into what `sink` gives for its number. Tells which ones the computer has.
    pub(super) fn download(
        &mut self,
        paths: &[String],
        progress: f64,
        sink: &mut dyn FnMut(usize) -> io::Result<Box<dyn Write>>,
    ) -> Result<Vec<bool>, Failure> {
        self.strike_message()?;
        let list = paths.iter().map(|path| path.as_str().into()).collect();
        self.send(vec!["DLMessageDownloadFiles".into(), Value::Array(list), empty(), progress.into(), 0.into()])?;
        let mut there = vec![false; paths.len()];
        let mut answered = 0;
        loop {
            let length = self.word()?;
            if length == 0 {
                break;
            }
            let name = self.bytes(length, "the name of a file")?;
            if paths.get(answered).is_none_or(|path| path.as_bytes() != name) {
                let name = String::from_utf8_lossy(&name).into_owned();
                return Err(self.wrong(code::BAD_BACKUP, format!("{name:?} comes out of turn")));
            }
            there[answered] = self.download_one(&paths[answered], &mut *sink(answered)?)?;
            answered += 1;
        }
        let status = self.status("DLMessageDownloadFiles")?;
        self.check_download(&status, paths, &there)?;
        Ok(there)
    }

    fn download_one(&mut self, path: &str, sink: &mut dyn Write) -> Result<bool, Failure> {
        self.strike_files()?;
        loop {
            let length = self.word()?;
            let kind = self.bytes(1, "a code")?[0];
            match kind {
                FILE_DATA if (2..=MAX_BLOCK + 1).contains(&length) => {
                    let data = self.bytes(length - 1, "a block")?;
                    self.strike_bytes(data.len() as u64)?;
                    self.shared.state().traffic.bytes_received += data.len() as u64;
                    sink.write_all(&data)?;
                }
                SUCCESS if length == 1 => {
                    sink.flush()?;
                    self.files += 1;
                    self.shared.state().traffic.files_received += 1;
                    return Ok(true);
                }
                LOCAL_ERROR if (1..=MAX_TEXT).contains(&length) => {
                    self.bytes(length - 1, "an error text")?;
                    return Ok(false);
                }
                _ => {
                    return Err(self.wrong(
                        code::BAD_BACKUP,
                        format!("a block of {length} bytes and code {kind:#04x} for {path}"),
                    ));
                }
            }
        }
    }

    fn check_download(&self, status: &Status, paths: &[String], there: &[bool]) -> Result<(), Failure> {
        let Some(first) = there.iter().position(|there| !there) else {
            return if status.code == 0 {
                Ok(())
            } else {
                Err(self.wrong(code::BAD_BACKUP, format!("downloads all came and failed with {}", status.code)))
            };
        };
        let errors = status.payload.as_dictionary();
        let error = errors.and_then(|errors| errors.get(&paths[first])?.as_dictionary());
        let number = error.and_then(|error| error.get("DLFileErrorCode"));
        let number = number.and_then(|it| it.as_signed_integer().or(it.as_unsigned_integer().map(|it| it as i64)));
        let has_text = error.is_some_and(|error| error.get("DLFileErrorString").and_then(Value::as_string).is_some());
        match (status.code, number) {
            (MULTI_STATUS, Some(MISSING)) if has_text => Ok(()),
            (code, number) => Err(self.wrong(
                code::BAD_BACKUP,
                format!("{} did not come, with status {code} and error {number:?}", paths[first]),
            )),
        }
    }

    fn word(&mut self) -> io::Result<u32> {
        let mut word = [0; 4];
        self.connection.read_exact(&mut word)?;
        Ok(u32::from_be_bytes(word))
    }

    fn bytes(&mut self, length: u32, what: &str) -> Result<Vec<u8>, Failure> {
        if length > MAX_BLOCK {
            return Err(self.wrong(code::BAD_BACKUP, format!("{what} of {length} bytes")));
        }
        let mut bytes = vec![0; length as usize];
        self.connection.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Faults.
impl Link<'_> {
    /// Breaks the connection.
    fn break_off(&mut self) -> Failure {
        self.connection.close();
        Failure::Io(io::ErrorKind::ConnectionAborted.into())
    }

    /// Neither sends nor reads while the fault lasts, then breaks the connection.
    fn stall(&mut self) -> Failure {
        // What was sent before is on its way.
        let _ = self.connection.flush();
        while matches!(self.shared.fault(), Some(Fault::Stall(_))) && !self.shared.stopped.load(Ordering::SeqCst) {
            self.shared.sleep(Duration::from_millis(10));
        }
        self.break_off()
    }

    /// Neither sends nor reads for this long, once.
    fn pause(&mut self, time: Duration) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.has_paused, true) {
            self.connection.flush()?;
            self.shared.sleep(time);
        }
        Ok(())
    }

    fn strike_files(&mut self) -> Result<(), Failure> {
        match self.shared.fault() {
            Some(Fault::Pause(After::Files(files), time)) if self.files >= files => self.pause(time),
            Some(Fault::Drop(After::Files(files))) if self.files >= files => Err(self.break_off()),
            Some(Fault::Stall(After::Files(files))) if self.files >= files => Err(self.stall()),
            _ => Ok(()),
        }
    }

    fn strike_bytes(&mut self, more: u64) -> Result<(), Failure> {
        self.bytes += more;
        match self.shared.fault() {
            Some(Fault::Pause(After::Bytes(bytes), time)) if self.bytes >= bytes => self.pause(time),
            Some(Fault::Drop(After::Bytes(bytes))) if self.bytes >= bytes => Err(self.break_off()),
            Some(Fault::Stall(After::Bytes(bytes))) if self.bytes >= bytes => Err(self.stall()),
            _ => Ok(()),
        }
    }

    fn strike_message(&mut self) -> Result<(), Failure> {
        match self.shared.fault() {
            Some(Fault::GarbageMessageLength) => self.strike_length(&0xffff_fff0u32.to_be_bytes()).map(drop),
            Some(Fault::GarbageMessage) => self.strike_length(b"\0\0\0\x10not a plist at a").map(drop),
            _ => Ok(()),
        }
    }

    /// Sends this, gives the computer two seconds to be appalled, and breaks off.
    fn strike_length(&mut self, bytes: &[u8]) -> Result<Option<u64>, Failure> {
        self.connection.write_all(bytes)?;
        self.connection.drain(Duration::from_secs(2));
        Err(self.break_off())
    }

    /// The faults that strike once, between messages.
    pub(super) fn strike_once(&mut self) -> Result<(), Failure> {
        if std::mem::replace(&mut self.has_struck, true) {
            return Ok(());
        }
        match self.shared.fault() {
            Some(Fault::Escape(message, path)) => self.escape(message, &path),
            Some(Fault::Cancel) => {
                self.shared.notify("com.apple.itunes-client.syncCancelRequest");
                Err(Failure::error(code::GENERIC, "Cancelled on the device (MBErrorDomain/1)"))
            }
            Some(Fault::MissingFolder) => self.list(&format!("{}/nowhere", self.shared.udid)).map(drop),
            Some(Fault::Slashes) => self.write_slashes(),
            Some(Fault::UnknownMessage) => {
                self.send(vec!["DLMessageRearrangeFiles".into(), Value::Array(Vec::new()), empty()])?;
                self.expect_refusal("DLMessageRearrangeFiles")
            }
            Some(Fault::Disconnect) => {
                self.send(vec!["DLMessageDisconnect".into(), "Phone went away".into()])?;
                self.connection.drain(Duration::from_secs(2));
                Err(self.break_off())
            }
            _ => Ok(()),
        }
    }

    fn write_slashes(&mut self) -> Result<(), Failure> {
        let udid = self.shared.udid.clone();
        let folder = format!("/{udid}/Snapshot/slashes/");
        self.create_directory(&folder)?;
        if !self.list(&format!("{udid}/Snapshot/"))?.contains_key("slashes") {
            return Err(self.wrong(code::BAD_BACKUP, format!("{folder} was made somewhere else")));
        }
        self.remove_items(&[folder], 1.0)
    }

    /// Tries to change what only a backup may change; what changes nothing must succeed.
    pub(super) fn write_in_restore(&mut self, source: &str) -> Result<(), Failure> {
        self.create_directory(source)?;
        self.remove_items(&[format!("{source}/Manifest.mbdx")], 1.0)?;
        let file = format!("{source}/Status.plist");
        for (what, message) in [
            ("making a folder", vec!["DLMessageCreateDirectory".into(), format!("{source}/new").into(), empty()]),
            (
                "removing",
                vec!["DLMessageRemoveItems".into(), Value::Array(vec![file.as_str().into()]), empty(), 1.into()],
            ),
        ] {
            self.send(message)?;
            self.expect_refusal(what)?;
        }
        self.send(vec!["DLMessageUploadFiles".into(), empty(), 1.0.into(), 7.into()])?;
        self.send_small("/var/mobile/log", &file)?;
        self.expect_refusal("writing")
    }

    /// Sends one file of seven bytes, and the end of the list.
    fn send_small(&mut self, device_path: &str, host_path: &str) -> io::Result<()> {
        for name in [device_path, host_path] {
            self.connection.write_all(&(name.len() as u32).to_be_bytes())?;
            self.connection.write_all(name.as_bytes())?;
        }
        self.block(FILE_DATA, b"escaped")?;
        self.block(SUCCESS, b"")?;
        self.connection.write_all(&[0; 4])
    }

    fn escape(&mut self, message: PathIn, path: &str) -> Result<(), Failure> {
        let udid = self.shared.udid.clone();
        let inside = format!("{udid}/Snapshot/escape");
        let moves =
            |from: &str, to: &str| Value::Dictionary([(from.to_owned(), Value::from(to))].into_iter().collect());
        let paths = || Value::Array(vec![path.into()]);
        match message {
            PathIn::Upload => {
                self.send(vec!["DLMessageUploadFiles".into(), empty(), 1.0.into(), 7.into()])?;
                self.send_small("/var/mobile/escape", path)?;
            }
            PathIn::Download => return self.escape_by_download(path),
            PathIn::Contents => {
                self.send(vec!["DLContentsOfDirectory".into(), path.into()])?;
                let status = self.status("DLContentsOfDirectory")?;
                if status.code == 0 && status.payload.as_dictionary().is_none_or(|listing| !listing.is_empty()) {
                    self.shared.complain(format!("{path:?} was listed"));
                }
                return Ok(());
            }
            PathIn::CreateDirectory => self.send(vec!["DLMessageCreateDirectory".into(), path.into(), empty()])?,
            PathIn::MoveFrom | PathIn::MoveTo => {
                let status = format!("{udid}/Status.plist");
                let moves = if message == PathIn::MoveTo { moves(&status, path) } else { moves(path, &inside) };
                self.send(vec!["DLMessageMoveItems".into(), moves, empty(), 1.0.into()])?;
            }
            PathIn::Remove => self.send(vec!["DLMessageRemoveItems".into(), paths(), empty(), 1.0.into()])?,
            PathIn::CopyFrom => self.send(vec!["DLMessageCopyItem".into(), path.into(), inside.into()])?,
            PathIn::CopyTo => {
                self.send(vec!["DLMessageCopyItem".into(), format!("{udid}/Info.plist").into(), path.into()])?;
            }
        }
        self.expect_refusal(&format!("{message:?} {path:?}"))
    }

    fn escape_by_download(&mut self, path: &str) -> Result<(), Failure> {
        let list = Value::Array(vec![path.into()]);
        self.send(vec!["DLMessageDownloadFiles".into(), list, empty(), 1.0.into(), 0.into()])?;
        loop {
            let length = self.word()?;
            if length == 0 {
                break;
            }
            self.bytes(length, "the name of a file")?;
            if self.download_one(path, &mut io::sink())? {
                self.shared.complain(format!("{path:?} was sent"));
            }
        }
        self.expect_refusal(&format!("Download {path:?}"))
    }

    fn expect_refusal(&mut self, what: &str) -> Result<(), Failure> {
        if self.status(what)?.code == 0 {
            self.shared.complain(format!("{what} was not refused"));
        }
        Ok(())
    }
}

/// The dictionary that iOS puts where it might tell of its callbacks.
fn empty() -> Value {
    Value::Dictionary(Dictionary::from_iter([("DLDeviceIOCallbacks", Value::from(0))]))
}
