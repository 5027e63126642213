//! Files on the connection, between messages: received after `DLMessageUploadFiles`, sent after `DLMessageDownloadFiles`.
//!
//! A file is its path or paths, then blocks, each `u32 length, u8 code, length - 1 bytes`, numbers big-endian.

use std::io::{self, Read, Write};

use plist::Dictionary;

use super::{
    HostDir, Warning,
    files::{Fault, path_in, shortened},
    host_dir::MAX_PATH_BYTES,
    link::Link,
    message::{Payload, Status},
};
use crate::{Error, Result};

const SUCCESS: u8 = 0x00;
const LOCAL_ERROR: u8 = 0x06;
const REMOTE_ERROR: u8 = 0x0b;
const DATA: u8 = 0x0c;
const MULTI_STATUS: i64 = -13;

/// The most data in a block that is sent: the phone holds whole blocks in memory, and is killed when they are large.
const BLOCK_BYTES: usize = 32 << 10;
const BLOCK_HEADER_BYTES: usize = 5;
const MAX_REASON_BYTES: u64 = 4096;

/// Receives files until the phone ends the list, into `host`. After a first fault the rest is read and dropped, because
/// the phone hears of it only then.
///
/// # Errors
/// What ends the connection. A fault of one file does not: it is returned, to be answered.
pub(super) fn receive_files(link: &mut Link, host: &mut dyn HostDir, folders: &[&str]) -> Result<Option<Fault>> {
    let mut fault = None;
    while let Some(device_path) = read_path(link)? {
        // Only people read it, and apps name files as they like.
        let device_path = String::from_utf8_lossy(&device_path);
        let host_path = read_path(link)?.ok_or_else(|| Error::protocol("a file without a path on the host"))?;
        let host_path = String::from_utf8(host_path).map_err(|_| Error::protocol("a path that is not UTF-8"))?;
        let received = receive_file(link, host, folders, &device_path, &host_path, fault.is_none())?;
        fault = fault.or(received);
    }
    link.report("");
    Ok(fault)
}

fn receive_file(
    link: &mut Link,
    host: &mut dyn HostDir,
    folders: &[&str],
    device_path: &str,
    host_path: &str,
    wanted: bool,
) -> Result<Option<Fault>> {
    link.report(device_path);
    let mut content = Content { link, device_path, left: 0, has_data: false, end: None };
    let opened = content.next_block();
    opened.map_err(|error| content.link.cause(error))?;
    let is_lost = matches!(content.end, Some(End::Broken(_)));
    let kept = wanted && (content.has_data || !is_lost);
    let stored = if kept { store(&mut content, host, folders, host_path) } else { Ok(()) };
    if let Some(error) = content.link.failure() {
        return Err(error);
    }
    let drained = io::copy(&mut content, &mut io::sink());
    drained.map_err(|error| content.link.cause(error))?;
    let end = content.end.take();
    link.received.files += 1;
    let reason = match end {
        Some(End::Broken(reason)) => Some(reason),
        Some(End::Unmarked) => Some("it was ended by an empty block".to_owned()),
        Some(End::Complete) | None => None,
    };
    if let Some(reason) = reason {
        link.warn(Warning::UnreadableOnPhone {
            device_path: device_path.to_owned(),
            host_path: host_path.to_owned(),
            reason,
            kept: kept && stored.is_ok(),
        });
    }
    Ok(stored.err())
}

fn store(content: &mut Content, host: &mut dyn HostDir, folders: &[&str], host_path: &str) -> Result<(), Fault> {
    let path = path_in(folders, host_path)?;
    if path.is_root() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
    }
    let device_path = content.device_path;
    Ok(host.write_file(&path, content, device_path)?)
}

/// A path, or `None` for the zero that ends the list.
fn read_path(link: &mut Link) -> Result<Option<Vec<u8>>> {
    let length = read_u32(link).map_err(|error| link.cause(error))? as usize;
    if length == 0 {
        return Ok(None);
    }
    if length > MAX_PATH_BYTES {
        return Err(Error::protocol(format!("a path of {length} bytes")));
    }
    let mut bytes = vec![0; length];
    link.read_exact(&mut bytes).map_err(|error| link.cause(error))?;
    Ok(Some(bytes))
}

fn read_u32(from: &mut dyn Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

/// How a file ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Complete,
    /// By a length of zero instead of a block: what came is taken for all there is.
    Unmarked,
    /// The phone could not read on, for this reason.
    Broken(String),
}

/// The content of a file, block by block, however large the blocks are.
struct Content<'l, 'c, 'a> {
    link: &'l mut Link<'c, 'a>,
    device_path: &'l str,
    /// Of the block under way.
    left: u64,
    has_data: bool,
    end: Option<End>,
}

impl Content<'_, '_, '_> {
    /// Reads a block's head; and the whole block, if it ends the file.
    fn next_block(&mut self) -> io::Result<()> {
        let length = u64::from(read_u32(self.link)?);
        if length == 0 {
            self.end = Some(End::Unmarked);
            return Ok(());
        }
        let mut code = [0];
        self.link.read_exact(&mut code)?;
        if code[0] == DATA {
            self.left = length - 1;
            self.has_data = true;
            return Ok(());
        }
        let mut text = Vec::new();
        let mut body = Read::by_ref(self.link).take(length - 1);
        Read::by_ref(&mut body).take(MAX_REASON_BYTES).read_to_end(&mut text)?;
        io::copy(&mut body, &mut io::sink())?;
        self.end = Some(match code[0] {
            SUCCESS => End::Complete,
            REMOTE_ERROR | LOCAL_ERROR => End::Broken(shortened(&String::from_utf8_lossy(&text))),
            code => End::Broken(format!("it was ended by an unknown code, {code:#04x}")),
        });
        Ok(())
    }
}

impl Read for Content<'_, '_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            if self.end.is_some() {
                return Ok(0);
            }
            self.next_block()?;
        }
        let most = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.link.read(&mut into[..most])?;
        self.left -= count as u64;
        self.link.received.bytes += count as u64;
        self.link.report_bytes(self.device_path);
        Ok(count)
    }
}

/// Sends the files at `paths`, each or the reason why not, and returns the answer that goes after them.
///
/// # Errors
/// What ends the connection.
pub(super) fn send_files(
    link: &mut Link,
    host: &mut dyn HostDir,
    folders: &[&str],
    paths: &[String],
) -> Result<Status> {
    let mut faults = Dictionary::new();
    for path in paths {
        if let Some(fault) = send_file(link, host, folders, path)? {
            let mut about = Dictionary::new();
            about.insert("DLFileErrorString".into(), fault.text().into());
            about.insert("DLFileErrorCode".into(), fault.code().into());
            faults.insert(path.clone(), plist::Value::Dictionary(about));
            report_fault(link, path, fault);
        }
    }
    link.write_all(&[0; 4]).map_err(|error| link.cause(error))?;
    link.report("");
    if faults.is_empty() {
        return Ok(Status::ok(Payload::Dictionary(faults)));
    }
    Ok(Status { code: MULTI_STATUS, text: Some("Multi status".to_owned()), payload: Payload::Dictionary(faults) })
}

fn report_fault(link: &mut Link, path: &str, fault: Fault) {
    match fault {
        Fault::Path { path, why } => link.warn(Warning::RefusedPath { path, why }),
        fault if fault.is_missing() => {}
        fault => link.warn(Warning::UnreadableHere { path: shortened(path), reason: fault.text() }),
    }
}

fn send_file(link: &mut Link, host: &mut dyn HostDir, folders: &[&str], path: &str) -> Result<Option<Fault>> {
    // The length of an empty path is the end of the list.
    if path.is_empty() {
        return Ok(path_in(folders, path).err());
    }
    link.report(path);
    let mut blocks = Blocks::new(link, path);
    let read = path_in(folders, path).and_then(|path| Ok(host.read_file(&path, &mut blocks)?));
    let ended = match &read {
        _ if blocks.link.has_failed() => Ok(()),
        Ok(()) => blocks.finish(),
        Err(fault) => blocks.fail(&fault.text()),
    };
    if let Some(error) = link.failure() {
        return Err(error);
    }
    ended?;
    link.sent.files += u64::from(read.is_ok());
    Ok(read.err())
}

/// Cuts what is written into blocks. Each goes out with its head in one write; the path goes with the first, the end
/// with the last.
struct Blocks<'l, 'c, 'a> {
    link: &'l mut Link<'c, 'a>,
    path: &'l str,
    out: Vec<u8>,
    /// Where in `out` the block under way begins, if one does.
    block: Option<usize>,
}

impl<'l, 'c, 'a> Blocks<'l, 'c, 'a> {
    fn new(link: &'l mut Link<'c, 'a>, path: &'l str) -> Self {
        let mut out = Vec::with_capacity(4 + path.len() + 2 * BLOCK_HEADER_BYTES);
        out.extend_from_slice(&(path.len() as u32).to_be_bytes());
        out.extend_from_slice(path.as_bytes());
        Blocks { link, path, out, block: None }
    }

    /// The bytes in the block under way.
    fn filled(&self) -> usize {
        self.block.map_or(0, |start| self.out.len() - start - BLOCK_HEADER_BYTES)
    }

    fn close_block(&mut self) {
        let length = self.filled() as u32 + 1;
        if let Some(start) = self.block.take() {
            self.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        }
    }

    fn send(&mut self) -> io::Result<()> {
        self.link.write_all(&self.out)?;
        self.out.clear();
        self.link.report_bytes(self.path);
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.close_block();
        self.end(SUCCESS, &[])
    }

    fn fail(mut self, reason: &str) -> io::Result<()> {
        if let Some(start) = self.block.take() {
            self.out.truncate(start);
        }
        self.end(LOCAL_ERROR, reason.as_bytes())
    }

    fn end(&mut self, code: u8, text: &[u8]) -> io::Result<()> {
        self.out.extend_from_slice(&(text.len() as u32 + 1).to_be_bytes());
        self.out.push(code);
        self.out.extend_from_slice(text);
        self.send()?;
        self.link.flush()
    }
}

impl Write for Blocks<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.block.is_none() {
            self.block = Some(self.out.len());
            self.out.extend_from_slice(&[0, 0, 0, 0, DATA]);
        }
        let count = bytes.len().min(BLOCK_BYTES - self.filled());
        self.out.extend_from_slice(&bytes[..count]);
        self.link.sent.bytes += count as u64;
        if self.filled() == BLOCK_BYTES {
            self.close_block();
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
