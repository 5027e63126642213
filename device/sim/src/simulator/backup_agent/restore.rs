//! A restore: the phone reads the backup's manifest, asks for its contents, and keeps what it got as digests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::rc::Rc;

use plist::{Dictionary, Value};
use sha1::{Digest, Sha1};

use super::host_manifest::{self, Row};
use super::keybag::{Decrypting, Key, Keybag};
use super::link::{Failure, Link};
use super::{Fault, code, text, xml_or_binary};
use crate::file::{File, Kind, Location};

const BATCH_FILES: usize = 500;
const RESTORE_APPLICATIONS: &str = "/iTunesRestore/RestoreApplications.plist";

/// Domains that are restored only with `RestoreSystemFiles`.
const SYSTEM_DOMAINS: [&str; 5] =
    ["KeychainDomain", "ManagedPreferencesDomain", "RootDomain", "SystemPreferencesDomain", "WirelessDomain"];

/// What a restore put in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredFile {
    /// Whether it is a file, a folder or a link.
    pub kind: Kind,
    /// Bytes of its content; 0 for folders and links.
    pub size: u64,
    /// When its content changed last, in Unix seconds.
    pub modified: i64,
    /// SHA-1 of its content; of nothing for folders and links.
    pub digest: [u8; 20],
}

impl RestoredFile {
    /// Whether it is the same as `file` in kind, content and time.
    pub fn is_same(&self, file: &File) -> io::Result<bool> {
        if (&self.kind, self.size, self.modified) != (&file.kind, file.size, file.modified) {
            return Ok(false);
        }
        let (mut content, mut digest, mut buffer) = (file.open()?, Sha1::new(), vec![0; 64 << 10]);
        loop {
            match content.read(&mut buffer)? {
                0 => return Ok(digest.finalize()[..] == self.digest),
                count => digest.update(&buffer[..count]),
            }
        }
    }
}

pub(super) fn restore(link: &mut Link, request: &Dictionary, has_escrow: bool) -> Result<(), Failure> {
    let shared = link.shared;
    shared.state().restored = None;
    let options = request.get("Options").and_then(Value::as_dictionary).cloned().unwrap_or_default();
    let is_set = |name: &str| options.get(name).and_then(Value::as_boolean) == Some(true);
    let source = text(request, "SourceIdentifier").to_owned();
    if text(request, "TargetIdentifier") != shared.udid || source.is_empty() {
        return Err(link.wrong(code::GENERIC, "TargetIdentifier is not this phone's, or SourceIdentifier is missing"));
    }
    if shared.options.find_my {
        return Err(Failure::error(code::FIND_MY, "Find My iPhone must be disabled (MBErrorDomain/211)"));
    }
    if shared.is_locked() {
        return Err(Failure::error(code::LOCKED, "Device locked (MBErrorDomain/208)"));
    }
    if !super::is_sync_locked(shared) {
        shared.complain("a restore without the sync lock");
    }
    let had_applications = shared.afc().file(RESTORE_APPLICATIONS).is_some();
    let temporary = tempfile::tempdir()?;
    let folder = if shared.fault() == Some(Fault::TargetFolder) { shared.udid.clone() } else { source };
    let mut run = Run { link, folder, directory: temporary.path(), keybag: None };
    let rows = run.read_manifest(&options, has_escrow)?;
    if run.link.free_space()? == 0 {
        return Err(run.link.wrong(code::NO_SPACE, "a computer without any room"));
    }
    if !is_set("RestoreDontCopyBackup") {
        run.copy()?;
    }
    // What is asked for first is what is in the way; here it is nothing.
    run.link.download(&[], 1.0, &mut |_| Ok(Box::new(io::sink())))?;
    run.link.strike_once()?;
    if shared.fault() == Some(Fault::WritesInRestore) {
        run.link.write_in_restore(&run.folder)?;
    }
    let with_system = is_set("RestoreSystemFiles");
    let rows = rows.into_iter().filter(|(_, row)| with_system || !SYSTEM_DOMAINS.contains(&&*row.location.domain));
    let restored = run.read_contents(rows.collect())?;
    if !had_applications && shared.afc().file(RESTORE_APPLICATIONS).is_some() {
        shared.complain("RestoreApplications.plist was written after the restore was asked for");
    }
    shared.state().restored = Some(restored);
    Ok(())
}

struct Run<'a, 'l> {
    link: &'a mut Link<'l>,
    /// In which the computer has the backup.
    folder: String,
    directory: &'a Path,
    keybag: Option<Keybag>,
}

impl Run<'_, '_> {
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    fn read_manifest(&mut self, options: &Dictionary, has_escrow: bool) -> Result<Vec<(String, Row)>, Failure> {
        let unreadable = |name: &str| {
            Failure::error(code::BAD_BACKUP, format!("Error reading backup properties: {name} (MBErrorDomain/205)"))
        };
        let names = ["Status.plist", "Manifest.plist", "Manifest.db", "Info.plist"];
        let paths = names.map(|name| self.path(name));
        let directory = self.directory;
        let mut sink = |at: usize| Ok(Box::new(fs::File::create(directory.join(names[at]))?) as Box<dyn Write>);
        let there = self.link.download(&paths, 0.0, &mut sink)?;
        if let Some(at) = there.iter().position(|there| !there) {
            return Err(unreadable(names[at]));
        }
        let read = |name| xml_or_binary(&fs::read(directory.join(name)).ok()?).ok_or(()).ok();
        let status = read("Status.plist").ok_or_else(|| unreadable("Status.plist"))?;
        let manifest = read("Manifest.plist").ok_or_else(|| unreadable("Manifest.plist"))?;
        let info = read("Info.plist").ok_or_else(|| unreadable("Info.plist"))?;
        if text(&status, "SnapshotState") != "finished" {
            return Err(unreadable("SnapshotState"));
        }
        if text(&info, "Product Version").is_empty() || text(&info, "Target Identifier").is_empty() {
            return Err(self.link.wrong(code::BAD_BACKUP, "Info.plist lacks what a restore needs"));
        }
        let database = directory.join("Manifest.db");
        if manifest.get("IsEncrypted").and_then(Value::as_boolean) == Some(true) {
            let is_right = self.open_keybag(&manifest, text(options, "Password"), has_escrow)?;
            let key = manifest.get("ManifestKey").and_then(Value::as_data).and_then(|key| is_right.unseal(key));
            let key = key.ok_or_else(|| unreadable("ManifestKey"))?;
            let mut plain = Decrypting::new(Vec::new(), &key)?;
            io::copy(&mut fs::File::open(&database)?, &mut plain)?;
            fs::write(&database, plain.finish().map_err(|_| unreadable("Manifest.db"))?)?;
            self.keybag = Some(is_right);
        }
        let rows = host_manifest::read(&database).map_err(|_| unreadable("Manifest.db"))?;
        let mut rows: Vec<_> = rows.into_iter().collect();
        rows.sort_by(|(_, one), (_, other)| one.location.cmp(&other.location));
        Ok(rows)
    }

    fn open_keybag(&self, manifest: &Dictionary, password: &str, has_escrow: bool) -> Result<Keybag, Failure> {
        if !has_escrow {
            return Err(Failure::error(code::LOCKED, "Device locked (MBErrorDomain/208)"));
        }
        let blob = manifest.get("BackupKeyBag").and_then(Value::as_data).unwrap_or_default();
        let keybag = Keybag::open(blob, password).filter(|_| !password.is_empty());
        keybag.ok_or_else(|| Failure::error(code::PASSWORD, "Invalid password (MBErrorDomain/207)"))
    }

    /// Has the backup copied, looks at the copy, and has it removed.
    fn copy(&mut self) -> Result<(), Failure> {
        let (source, copy) = (self.folder.clone(), format!("{}-copy", self.folder));
        self.link.copy_item(&source, &copy)?;
        let (one, other) = (self.link.list(&source)?, self.link.list(&copy)?);
        if one.is_empty() || one != other {
            return Err(self.link.wrong(code::BAD_BACKUP, "the copy of the backup differs"));
        }
        self.link.remove_items(&[copy], 1.0)
    }

    fn read_contents(&mut self, rows: Vec<(String, Row)>) -> Result<BTreeMap<Location, RestoredFile>, Failure> {
        let mut restored = BTreeMap::new();
        let (files, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, row)| row.flags == 1);
        for (_, row) in others {
            let kind = row.target.map_or(Kind::Directory, Kind::Symlink);
            let file = RestoredFile { kind, size: 0, modified: row.modified, digest: Sha1::digest([]).into() };
            restored.insert(row.location, file);
        }
        let count = files.len().max(1) as f64;
        for batch in files.chunks(BATCH_FILES) {
            let paths: Vec<_> = batch.iter().map(|(id, _)| self.path(&format!("{}/{id}", &id[..2]))).collect();
            let keys = batch.iter().map(|(_, row)| self.key(row)).collect::<Result<Vec<_>, _>>()?;
            let received: Rc<RefCell<Vec<(u64, Sha1)>>> = Rc::default();
            let mut sink = |at: usize| -> io::Result<Box<dyn Write>> {
                received.borrow_mut().push((0, Sha1::new()));
                let sink = Received { of: Rc::clone(&received) };
                Ok(match &keys[at] {
                    Some(key) => Box::new(Ending(Some(Decrypting::new(sink, key)?))),
                    None => Box::new(sink),
                })
            };
            let there = self.link.download(&paths, 100.0 * restored.len() as f64 / count, &mut sink)?;
            if let Some(at) = there.iter().position(|there| !there) {
                let text = format!("Multiple errors downloading files: {} (MBErrorDomain/205)", paths[at]);
                return Err(Failure::error(code::BAD_BACKUP, text));
            }
            for ((id, row), (size, digest)) in batch.iter().zip(received.take()) {
                if size != row.size {
                    let text = format!("{id} has {size} bytes, not {} (MBErrorDomain/205)", row.size);
                    return Err(Failure::error(code::BAD_BACKUP, text));
                }
                let digest = digest.finalize().into();
                let file = RestoredFile { kind: Kind::File, size, modified: row.modified, digest };
                restored.insert(row.location.clone(), file);
            }
        }
        Ok(restored)
    }

    fn key(&self, row: &Row) -> Result<Option<Key>, Failure> {
        let Some(keybag) = &self.keybag else { return Ok(None) };
        let key = row.key.as_deref().and_then(|key| keybag.unseal(key));
        let lacking = || Failure::error(code::BAD_BACKUP, format!("{} has no key (MBErrorDomain/205)", row.location));
        key.ok_or_else(lacking).map(Some)
    }
}

/// Counts and digests what is written into the last entry.
struct Received {
    of: Rc<RefCell<Vec<(u64, Sha1)>>>,
}

impl Write for Received {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some((size, digest)) = self.of.borrow_mut().last_mut() {
            *size += bytes.len() as u64;
            digest.update(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Ends the cipher at the flush that ends a file.
struct Ending(Option<Decrypting<Received>>);

impl Write for Ending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_mut().ok_or(io::ErrorKind::WriteZero)?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.take().map_or(Ok(()), |cipher| cipher.finish().map(drop))
    }
}
