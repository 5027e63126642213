//! Apple File Conduit: the media partition over requests with a header of 40 bytes, little endian.
//! The tree is in memory and holds what a backup reads there, not the photos.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};

use plist::Value;

use super::connection::Connection;
use super::{Fault, Shared};
use crate::manifest::dictionary;
use crate::phone::Phone;

const MAGIC: &[u8; 8] = b"CFA6LPAA";
const HEADER: u64 = 40;
const MAX_REQUEST: u64 = 16 << 20;

const INVALID_ARGUMENT: u64 = 7;
const NOT_FOUND: u64 = 8;
const IS_DIRECTORY: u64 = 9;
const PERMISSION_DENIED: u64 = 10;
const EXISTS: u64 = 16;
const OPERATION_NOT_SUPPORTED: u64 = 15;
const WOULD_BLOCK: u64 = 19;
const DIRECTORY_NOT_EMPTY: u64 = 33;

const STATUS: u64 = 1;
const DATA: u64 = 2;

/// The sync lock.
pub(crate) const LOCK_SYNC: &str = "/com.apple.itunes.lock_sync";

/// The media partition: nodes by absolute path without a slash at the end; `/` is there.
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
    /// Who holds locks: path to (connection, is exclusive).
    locks: HashMap<String, Vec<(u64, bool)>>,
    connections: u64,
}

#[derive(Clone)]
enum Node {
    Directory,
    File(Vec<u8>),
    Link(String),
}

struct Open {
    path: String,
    position: u64,
    may_write: bool,
    appends: bool,
}

impl Tree {
    /// What is there on a phone that was used with a computer before.
    pub(crate) fn of(phone: &Phone) -> io::Result<Tree> {
        let mut preferences = Vec::new();
        let entries = dictionary([("iPodPrefs", Value::Data(phone.udid().into_bytes()))]);
        Value::Dictionary(entries).to_writer_xml(&mut preferences).map_err(io::Error::other)?;
        let files: [(&str, Vec<u8>); 5] = [
            (LOCK_SYNC, Vec::new()),
            ("/iTunes_Control/iTunes/iTunesPrefs", b"frpd\x01\0\0\0".to_vec()),
            ("/iTunes_Control/iTunes/iTunesPrefs.plist", preferences),
            ("/iTunes_Control/iTunes/IC-Info.sidv", vec![7; 64]),
            ("/DCIM/.keep", Vec::new()),
        ];
        let directories = ["/", "/Books", "/DCIM", "/Downloads", "/iTunes_Control", "/iTunes_Control/iTunes"];
        let mut nodes: BTreeMap<_, _> = directories.map(|path| (path.to_owned(), Node::Directory)).into();
        nodes.extend(files.map(|(path, bytes)| (path.to_owned(), Node::File(bytes))));
        Ok(Tree { nodes, locks: HashMap::new(), connections: 0 })
    }

    pub(crate) fn file(&self, path: &str) -> Option<Vec<u8>> {
        match self.nodes.get(path) {
            Some(Node::File(bytes)) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// Whether somebody holds the sync lock exclusively.
    pub(crate) fn is_locked_for_sync(&self) -> bool {
        self.locks.get(LOCK_SYNC).is_some_and(|locks| locks.iter().any(|(_, exclusive)| *exclusive))
    }

    fn names_in(&self, path: &str) -> Vec<&str> {
        let inside = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        let below = self.nodes.keys().filter_map(|key| key.strip_prefix(&inside));
        below.filter(|name| !name.is_empty() && !name.contains('/')).collect()
    }

    fn has_parent(&self, path: &str) -> bool {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        matches!(self.nodes.get(if parent.is_empty() { "/" } else { parent }), Some(Node::Directory))
    }

    fn remove(&mut self, path: &str, with_contents: bool) -> Result<(), u64> {
        if path == "/" || !self.nodes.contains_key(path) {
            return Err(NOT_FOUND);
        }
        if !with_contents && !self.names_in(path).is_empty() {
            return Err(DIRECTORY_NOT_EMPTY);
        }
        let inside = format!("{path}/");
        self.nodes.retain(|key, _| key != path && !key.starts_with(&inside));
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), u64> {
        if !self.nodes.contains_key(from) {
            return Err(NOT_FOUND);
        }
        let inside = format!("{from}/");
        let moved: Vec<_> = self.nodes.keys().filter(|key| *key == from || key.starts_with(&inside)).cloned().collect();
        for key in moved {
            if let Some(node) = self.nodes.remove(&key) {
                self.nodes.insert(format!("{to}{}", &key[from.len()..]), node);
            }
        }
        Ok(())
    }

    fn lock(&mut self, path: &str, connection: u64, operation: u64) -> Result<(), u64> {
        let locks = self.locks.entry(path.to_owned()).or_default();
        // The bits of flock(2): 1 shared, 2 exclusive, 4 do not wait, 8 unlock. AFC never waits.
        if operation & 8 != 0 {
            locks.retain(|(holder, _)| *holder != connection);
            return Ok(());
        }
        let exclusive = operation & 2 != 0;
        if operation & 3 == 0 {
            return Err(INVALID_ARGUMENT);
        }
        if locks.iter().any(|(holder, held)| *holder != connection && (exclusive || *held)) {
            return Err(WOULD_BLOCK);
        }
        locks.retain(|(holder, _)| *holder != connection);
        locks.push((connection, exclusive));
        Ok(())
    }

    fn unlock_all(&mut self, connection: u64) {
        self.locks.values_mut().for_each(|locks| locks.retain(|(holder, _)| *holder != connection));
    }
}

struct Request {
    operation: u64,
    number: u64,
    /// What is between the header and the payload.
    arguments: Vec<u8>,
    payload: Vec<u8>,
}

enum Reply {
    Status(u64),
    Data(Vec<u8>),
    /// The operation of the reply and its arguments.
    Of(u64, Vec<u8>),
}

/// Answers requests until the computer closes; then its locks are free.
pub(crate) fn serve(shared: &Shared, mut connection: Connection) -> io::Result<()> {
    let id = {
        let mut tree = shared.afc();
        tree.connections += 1;
        tree.connections
    };
    let mut handles = Handles { connection: id, open: HashMap::new(), next: 0 };
    let outcome = (|| {
        loop {
            let request = read_request(&mut connection)?;
            let is_refused = match shared.fault() {
                Some(Fault::ReadOnlyMedia) => is_change(&request),
                Some(Fault::NoSyncLock) => request.operation == 0x0d && request.arguments.ends_with(b"lock_sync\0"),
                _ => false,
            };
            let reply = match is_refused {
                true => Reply::Status(PERMISSION_DENIED),
                false => handles.answer(&mut shared.afc(), &request).unwrap_or_else(Reply::Status),
            };
            write_reply(&mut connection, request.number, &reply)?;
        }
    })();
    shared.afc().unlock_all(id);
    outcome
}

/// Whether a request removes, makes, cuts, writes, renames or links; the file of the sync lock may be opened.
fn is_change(request: &Request) -> bool {
    match request.operation {
        0x0d => request.arguments.first() != Some(&1) && !request.arguments.ends_with(b"lock_sync\0"),
        operation => matches!(operation, 0x07..=0x09 | 0x10 | 0x15 | 0x18 | 0x1c | 0x22),
    }
}

fn read_request(connection: &mut Connection) -> io::Result<Request> {
    let mut header = [0; HEADER as usize];
    connection.read_exact(&mut header)?;
    let mut words = header[8..].chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
    let mut word = || words.next().unwrap_or_default();
    let (whole, this, number, operation) = (word(), word(), word(), word());
    if !header.starts_with(MAGIC) || this < HEADER || whole < this || whole > MAX_REQUEST {
        return Err(io::Error::other("an AFC header that makes no sense"));
    }
    let mut arguments = vec![0; (this - HEADER) as usize];
    connection.read_exact(&mut arguments)?;
    let mut payload = vec![0; (whole - this) as usize];
    connection.read_exact(&mut payload)?;
    Ok(Request { operation, number, arguments, payload })
}

fn write_reply(connection: &mut Connection, number: u64, reply: &Reply) -> io::Result<()> {
    let (operation, arguments, payload) = match reply {
        Reply::Status(code) => (STATUS, code.to_le_bytes().to_vec(), &[][..]),
        Reply::Data(bytes) => (DATA, Vec::new(), bytes.as_slice()),
        Reply::Of(operation, arguments) => (*operation, arguments.clone(), &[][..]),
    };
    let this = HEADER + arguments.len() as u64;
    connection.write_all(MAGIC)?;
    for word in [this + payload.len() as u64, this, number, operation] {
        connection.write_all(&word.to_le_bytes())?;
    }
    connection.write_all(&arguments)?;
    connection.write_all(payload)?;
    connection.flush()
}

/// The open files of a connection.
struct Handles {
    connection: u64,
    open: HashMap<u64, Open>,
    next: u64,
}

impl Handles {
    fn answer(&mut self, tree: &mut Tree, request: &Request) -> Result<Reply, u64> {
        let arguments = &request.arguments;
        let number = |at: usize| -> Result<u64, u64> {
            let bytes = arguments.get(at * 8..at * 8 + 8).ok_or(INVALID_ARGUMENT)?;
            Ok(u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
        };
        let path = |from: usize| strings(arguments.get(from..).unwrap_or_default()).next().ok_or(INVALID_ARGUMENT);
        let done = |outcome: Result<(), u64>| outcome.map(|()| Reply::Status(0));
        match request.operation {
            0x03 => {
                let path = path(0)?;
                match tree.nodes.get(&path) {
                    Some(Node::Directory) => Ok(Reply::Data(list([".", ".."].into_iter().chain(tree.names_in(&path))))),
                    _ => Err(NOT_FOUND),
                }
            }
            0x08 => done(tree.remove(&path(0)?, false)),
            0x22 => done(tree.remove(&path(0)?, true)),
            0x09 => done(make_directories(tree, &path(0)?)),
            0x0a => file_info(tree, &path(0)?).map(Reply::Data),
            0x0b => Ok(Reply::Data(list(
                ["Model", "iPhone13,2", "FSTotalBytes", "128000000000", "FSFreeBytes", "64000000000"]
                    .into_iter()
                    .chain(["FSBlockSize", "4096"]),
            ))),
            0x0d => self.open(tree, &path(8)?, number(0)?),
            0x0f => self.read(tree, number(0)?, number(1)?),
            0x10 => self.write(tree, number(0)?, &request.payload),
            0x11 => self.seek(tree, number(0)?, number(1)?, number(2)?),
            0x12 => Ok(Reply::Of(0x13, self.file(number(0)?)?.position.to_le_bytes().to_vec())),
            0x14 => self.open.remove(&number(0)?).map(|_| Reply::Status(0)).ok_or(INVALID_ARGUMENT),
            0x15 => {
                let length = number(1)?;
                let file = self.file(number(0)?)?;
                done(resize(tree, &file.path.clone(), length))
            }
            0x07 => {
                let length = number(0)?;
                done(resize(tree, &path(8)?, length))
            }
            0x18 => {
                let mut names = strings(arguments);
                let (from, to) = (names.next().ok_or(INVALID_ARGUMENT)?, names.next().ok_or(INVALID_ARGUMENT)?);
                if to.strip_prefix(&from).is_some_and(|rest| rest.starts_with('/')) {
                    return Err(INVALID_ARGUMENT);
                }
                done(tree.rename(&from, &to))
            }
            0x1b => {
                let path = self.file(number(0)?)?.path.clone();
                done(tree.lock(&path, self.connection, number(1)?))
            }
            0x1c => {
                let mut names = arguments.get(8..).unwrap_or_default().split(|byte| *byte == 0);
                let mut name = || names.next().and_then(|name| String::from_utf8(name.to_vec()).ok());
                let (target, link) = (name().ok_or(INVALID_ARGUMENT)?, name().ok_or(INVALID_ARGUMENT)?);
                tree.nodes.insert(normal(&link), Node::Link(target));
                Ok(Reply::Status(0))
            }
            0x1e => tree.nodes.get(&path(8)?).map(|_| Reply::Status(0)).ok_or(NOT_FOUND),
            _ => Err(OPERATION_NOT_SUPPORTED),
        }
    }

    fn file(&mut self, handle: u64) -> Result<&mut Open, u64> {
        self.open.get_mut(&handle).ok_or(INVALID_ARGUMENT)
    }

    fn open(&mut self, tree: &mut Tree, path: &str, mode: u64) -> Result<Reply, u64> {
        // r, r+, w, w+, a, a+ are 1 to 6; all but the first two make the file, w and w+ empty it.
        match tree.nodes.get(path) {
            Some(Node::Directory) => return Err(IS_DIRECTORY),
            None if matches!(mode, 1) => return Err(NOT_FOUND),
            None if !tree.has_parent(path) => return Err(NOT_FOUND),
            Some(_) if !matches!(mode, 3 | 4) => {}
            _ => drop(tree.nodes.insert(path.to_owned(), Node::File(Vec::new()))),
        }
        if !(1..=6).contains(&mode) {
            return Err(INVALID_ARGUMENT);
        }
        self.next += 1;
        let open = Open { path: path.to_owned(), position: 0, may_write: mode != 1, appends: mode >= 5 };
        self.open.insert(self.next, open);
        Ok(Reply::Of(0x0e, self.next.to_le_bytes().to_vec()))
    }

    fn read(&mut self, tree: &Tree, handle: u64, length: u64) -> Result<Reply, u64> {
        let file = self.file(handle)?;
        let Some(Node::File(bytes)) = tree.nodes.get(&file.path) else { return Err(NOT_FOUND) };
        let rest = bytes.get(usize::try_from(file.position).unwrap_or(usize::MAX)..).unwrap_or_default();
        let part = &rest[..rest.len().min(length.min(MAX_REQUEST) as usize)];
        file.position += part.len() as u64;
        Ok(Reply::Data(part.to_vec()))
    }

    fn write(&mut self, tree: &mut Tree, handle: u64, data: &[u8]) -> Result<Reply, u64> {
        let file = self.file(handle)?;
        let Some(Node::File(bytes)) = tree.nodes.get_mut(&file.path) else { return Err(NOT_FOUND) };
        if !file.may_write {
            return Err(PERMISSION_DENIED);
        }
        let start = if file.appends { bytes.len() as u64 } else { file.position };
        let end = start + data.len() as u64;
        if end > MAX_REQUEST {
            return Err(18);
        }
        bytes.resize(bytes.len().max(end as usize), 0);
        bytes[start as usize..end as usize].copy_from_slice(data);
        file.position = end;
        Ok(Reply::Status(0))
    }

    fn seek(&mut self, tree: &Tree, handle: u64, whence: u64, offset: u64) -> Result<Reply, u64> {
        let file = self.file(handle)?;
        let length = match tree.nodes.get(&file.path) {
            Some(Node::File(bytes)) => bytes.len() as u64,
            _ => 0,
        };
        let base = [0, file.position, length].get(whence as usize).copied().ok_or(INVALID_ARGUMENT)?;
        file.position = base.checked_add_signed(offset as i64).ok_or(INVALID_ARGUMENT)?;
        Ok(Reply::Status(0))
    }
}

fn make_directories(tree: &mut Tree, path: &str) -> Result<(), u64> {
    let ends = path.match_indices('/').skip(1).map(|(end, _)| end).chain([path.len()]);
    for end in ends {
        match tree.nodes.entry(path[..end].to_owned()).or_insert(Node::Directory) {
            Node::Directory => {}
            _ => return Err(EXISTS),
        }
    }
    Ok(())
}

fn resize(tree: &mut Tree, path: &str, length: u64) -> Result<(), u64> {
    match tree.nodes.get_mut(path) {
        Some(Node::File(_)) if length > MAX_REQUEST => Err(18),
        Some(Node::File(bytes)) => {
            bytes.resize(length as usize, 0);
            Ok(())
        }
        _ => Err(NOT_FOUND),
    }
}

fn file_info(tree: &Tree, path: &str) -> Result<Vec<u8>, u64> {
    let node = tree.nodes.get(path).ok_or(NOT_FOUND)?;
    let (size, kind) = match node {
        Node::Directory => (64, "S_IFDIR"),
        Node::File(bytes) => (bytes.len(), "S_IFREG"),
        Node::Link(target) => (target.len(), "S_IFLNK"),
    };
    let (size, blocks) = (size.to_string(), size.div_ceil(512).to_string());
    let mut pairs = vec!["st_size", &size, "st_blocks", &blocks, "st_nlink", "1", "st_ifmt", kind];
    pairs.extend(["st_mtime", "1700000000000000000", "st_birthtime", "1700000000000000000"]);
    if let Node::Link(target) = node {
        pairs.extend(["LinkTarget", target]);
    }
    Ok(list(pairs.into_iter()))
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> Vec<u8> {
    names.flat_map(|name| name.bytes().chain([0])).collect()
}

/// The paths of a request, each ended by a zero byte, in the tree's form.
fn strings(bytes: &[u8]) -> impl Iterator<Item = String> {
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.filter_map(|part| Some(normal(std::str::from_utf8(part).ok()?)))
}

/// `path` from the root on, without dots: none leads out of the partition.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
