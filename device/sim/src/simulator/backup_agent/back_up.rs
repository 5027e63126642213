//! A backup: what the computer holds already is learnt from its Manifest.db, the rest goes into `Snapshot/`, and only when
//! all of it is there does it take the place of the old. Then the phone reads back what matters.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use plist::{Dictionary, Value};
use sha1::{Digest, Sha1};

use super::host_manifest::{self, Row};
use super::keybag::{self, Decrypting, Encrypting, Key, Keybag};
use super::link::{Entry, Failure, Link, Upload};
use super::{Fault, code, text, xml_or_binary};
use crate::backup_folder;
use crate::file::{File, Kind, Location};
use crate::phone::Phone;

const BATCH_FILES: usize = 500;
const BATCH_BYTES: u64 = 64 << 20;

/// Room that must be left beside what is sent, and beyond that what is asked for at once.
const RESERVE: u64 = 128 << 20;
const PURGE_MORE: u64 = 2 << 30;

/// What the computer has of an earlier backup.
struct Base {
    rows: HashMap<String, Row>,
    /// Bytes of the three files by their names.
    sizes: BTreeMap<&'static str, u64>,
}

/// A file that is to be sent.
struct Job<'a> {
    id: String,
    location: &'a Location,
    file: &'a File,
    key: Option<Key>,
}

/// What the backup is to hold in the end: file id to bytes.
type Contents = BTreeMap<String, u64>;

pub(super) fn back_up(link: &mut Link, request: &Dictionary) -> Result<(), Failure> {
    let shared = link.shared;
    let phone = shared.phone();
    let keybag = shared.state().keybag.clone();
    let temporary = tempfile::tempdir()?;
    let mut run =
        Run { link, udid: shared.udid.clone(), phone: &phone, keybag: keybag.as_ref(), directory: temporary.path() };

    let options = request.get("Options").and_then(Value::as_dictionary);
    let is_forced = options.and_then(|options| options.get("ForceFullBackup")?.as_boolean()) == Some(true);
    let base = run.read_base(is_forced)?;
    let mut prefixes = run.survey(base.as_ref())?;
    let (mut kept, jobs) = run.compare(base.as_ref(), &prefixes)?;
    run.ask_for_room(jobs.iter().map(|job| job.file.size).sum())?;
    run.make_directories(&jobs)?;
    let (sent, keys) = run.send_contents(jobs)?;
    kept.0.extend(sent.iter().map(|(id, size)| (id.clone(), *size)));
    let mut keys_of_all = kept.1;
    keys_of_all.extend(keys);
    let metadata = run.send_metadata(&kept.0, &keys_of_all, base.is_none())?;
    run.put_in_place(base.as_ref(), &sent, &kept.0, &mut prefixes)?;
    run.finish(base.is_none())?;
    run.verify(&metadata, &kept.0)
}

struct Run<'a, 'l> {
    link: &'a mut Link<'l>,
    udid: String,
    phone: &'a Phone,
    keybag: Option<&'a Keybag>,
    directory: &'a Path,
}

impl<'a> Run<'a, '_> {
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.udid)
    }

    /// What there is to go on from; none for a full backup.
    fn read_base(&mut self, is_forced: bool) -> Result<Option<Base>, Failure> {
        let Some(status) = self.fetch("Status.plist")? else { return Ok(None) };
        if is_forced {
            return Ok(None);
        }
        let unreadable = || Failure::error(code::BAD_BACKUP, "Error reading backup properties (MBErrorDomain/205)");
        let state = xml_or_binary(&status).ok_or_else(unreadable)?;
        if text(&state, "SnapshotState") != "finished" {
            return Ok(None);
        }
        let properties = self.fetch("Manifest.plist")?.ok_or_else(unreadable)?;
        // How pymobiledevice3 asks for a full backup. Without the first, 205: github.com/redromnon/iBackep/issues/10.
        if properties.is_empty() && state.get("IsFullBackup").and_then(Value::as_boolean) == Some(true) {
            return Ok(None);
        }
        let manifest = xml_or_binary(&properties).ok_or_else(unreadable)?;
        if manifest.get("BackupKeyBag").and_then(Value::as_data) != self.keybag.map(Keybag::blob) {
            return Ok(None);
        }
        let path = self.directory.join("old.db");
        let size = self.fetch_manifest(&manifest, &path)?.ok_or_else(unreadable)?;
        let rows = host_manifest::read(&path).map_err(|_| unreadable())?;
        let sizes = [("Status.plist", status.len() as u64), ("Manifest.plist", properties.len() as u64)];
        Ok(Some(Base { rows, sizes: sizes.into_iter().chain([("Manifest.db", size)]).collect() }))
    }

    fn fetch(&mut self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.directory.join("fetched");
        let there = self.link.download(&[self.path(name)], 0.0, &mut |_| Ok(Box::new(fs::File::create(&path)?)))?;
        if there == [true] { Ok(Some(fs::read(&path)?)) } else { Ok(None) }
    }

    /// Puts the computer's Manifest.db into `path`, in the clear; its bytes as they came.
    fn fetch_manifest(&mut self, properties: &Dictionary, path: &Path) -> Result<Option<u64>, Failure> {
        let sealed = self.directory.join("sealed.db");
        let name = self.path("Manifest.db");
        let there = self.link.download(&[name], 0.0, &mut |_| Ok(Box::new(fs::File::create(&sealed)?)))?;
        if there != [true] {
            return Ok(None);
        }
        let size = fs::metadata(&sealed)?.len();
        match self.keybag {
            None => fs::rename(sealed, path)?,
            Some(keybag) => {
                let key = properties.get("ManifestKey").and_then(Value::as_data).and_then(|key| keybag.unseal(key));
                let key = key.ok_or_else(|| Failure::error(code::BAD_BACKUP, "no manifest key (MBErrorDomain/205)"))?;
                let mut plain = Decrypting::new(fs::File::create(path)?, &key)?;
                io::copy(&mut fs::File::open(sealed)?, &mut plain)?;
                plain.finish()?;
            }
        }
        Ok(Some(size))
    }

    /// Lists what is there, clears an old `Snapshot/` away, and checks the listing against what was read.
    /// Gives the folders of contents.
    fn survey(&mut self, base: Option<&Base>) -> Result<BTreeSet<String>, Failure> {
        let listing = self.link.list(&self.udid.clone())?;
        let snapshot = self.path("Snapshot");
        // A folder that is not there is not asked for: pymobiledevice3 would end, and does not.
        if listing.contains_key("Snapshot") && !self.link.list(&snapshot)?.is_empty() {
            self.link.remove_items(std::slice::from_ref(&snapshot), 0.0)?;
            if !self.link.list(&snapshot)?.is_empty() {
                return Err(self.link.wrong(code::UPLOADS, "Error removing snapshot directory"));
            }
        }
        if !matches!(listing.get("Info.plist"), Some(Entry::File(1..))) {
            self.link.shared.complain("a backup was asked for before its Info.plist was written");
        }
        for (name, size) in base.iter().flat_map(|base| &base.sizes) {
            if listing.get(*name) != Some(&Entry::File(*size)) {
                let what = format!("{name} of {size} bytes is listed as {:?}", listing.get(*name));
                return Err(self.link.wrong(code::BAD_BACKUP, what));
            }
        }
        let is_prefix = |name: &str| name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        Ok(listing
            .into_iter()
            .filter(|(name, entry)| is_prefix(name) && *entry == Entry::Directory)
            .map(|it| it.0)
            .collect())
    }

    /// What stays, with the keys it has, and what must be sent.
    #[allow(clippy::type_complexity)]
    fn compare(
        &mut self,
        base: Option<&Base>,
        prefixes: &BTreeSet<String>,
    ) -> Result<((Contents, HashMap<String, Vec<u8>>), Vec<Job<'a>>), Failure> {
        let held = self.list_contents(base, prefixes)?;
        let (mut kept, mut keys, mut jobs) = (Contents::new(), HashMap::new(), Vec::new());
        for (location, file) in self.phone.files().filter(|(_, file)| file.kind == Kind::File) {
            let id = location.file_id();
            let row = base.and_then(|base| base.rows.get(&id));
            let is_same = row.is_some_and(|row| {
                (row.size, row.modified, row.inode) == (file.size, file.modified, file.inode)
                    && row.key.is_some() == self.keybag.is_some()
                    && held.get(&id) == Some(&self.stored_size(file.size))
            });
            if is_same {
                keys.extend(row.and_then(|row| row.key.clone()).map(|key| (id.clone(), key)));
                kept.insert(id, self.stored_size(file.size));
            } else {
                let key = self.keybag.map(|_| keybag::random()).transpose()?;
                jobs.push(Job { id, location, file, key });
            }
        }
        Ok(((kept, keys), jobs))
    }

    /// Every content that the old manifest names must be listed, whatever its size.
    fn list_contents(&mut self, base: Option<&Base>, prefixes: &BTreeSet<String>) -> Result<Contents, Failure> {
        let mut held = Contents::new();
        let Some(base) = base else { return Ok(held) };
        for prefix in prefixes {
            let listing = self.link.list(&self.path(prefix))?;
            held.extend(listing.into_iter().filter_map(|(name, entry)| match entry {
                Entry::File(size) => Some((name, size)),
                _ => None,
            }));
        }
        match base.rows.iter().find(|(id, row)| row.flags == 1 && !held.contains_key(*id)) {
            Some((id, _)) => {
                Err(self.link.wrong(code::BAD_BACKUP, format!("Manifest references files not in backup: {id}")))
            }
            None => Ok(held),
        }
    }

    fn stored_size(&self, size: u64) -> u64 {
        if self.keybag.is_some() { keybag::sealed_size(size) } else { size }
    }

    fn ask_for_room(&mut self, wanted: u64) -> Result<(), Failure> {
        let fault = self.link.shared.fault();
        let no_space = fault == Some(Fault::NoSpace);
        let needed = RESERVE + if let Some(Fault::WantsRoom(bytes)) = fault { bytes } else { wanted };
        let free = self.link.free_space()?;
        if free > needed && !no_space {
            return Ok(());
        }
        let deficit = if no_space { 1 << 30 } else { needed - free };
        let is_purged = self.link.purge(deficit + PURGE_MORE)?;
        if !no_space && is_purged && self.link.free_space()? > needed {
            return Ok(());
        }
        Err(Failure::error(code::NO_SPACE, "Insufficient free disk space on drive to back up (MBErrorDomain/105)"))
    }

    fn make_directories(&mut self, jobs: &[Job]) -> Result<(), Failure> {
        self.link.create_directory(&self.udid.clone())?;
        self.link.create_directory(&self.path("Snapshot"))?;
        let prefixes: BTreeSet<_> = jobs.iter().map(|job| &job.id[..2]).collect();
        for prefix in prefixes {
            self.link.create_directory(&self.path(&format!("Snapshot/{prefix}")))?;
        }
        Ok(())
    }

    /// What was sent, and the keys of it.
    fn send_contents(&mut self, jobs: Vec<Job>) -> Result<(Contents, HashMap<String, Vec<u8>>), Failure> {
        let (mut sent, mut keys, mut lost) = (Contents::new(), HashMap::new(), Vec::new());
        let count = jobs.len().max(1) as f64;
        let mut jobs = jobs.into_iter().peekable();
        while jobs.peek().is_some() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while batch.len() < BATCH_FILES && bytes < BATCH_BYTES {
                let Some(job) = jobs.next() else { break };
                bytes += job.file.size;
                batch.push(job);
            }
            let numbered = batch.iter().zip(sent.len() as u64..);
            let uploads = numbered.map(|(job, number)| self.upload(job, number)).collect();
            let progress = 5.0 + 90.0 * sent.len() as f64 / count;
            let outcomes = self.link.upload(uploads, progress)?;
            for (job, outcome) in batch.into_iter().zip(outcomes) {
                match outcome {
                    None => lost.push(self.path(&format!("Snapshot/{}/{}", &job.id[..2], job.id))),
                    Some(bytes) => {
                        if let (Some(keybag), Some(key)) = (self.keybag, job.key) {
                            keys.insert(job.id.clone(), keybag.seal(job.file.protection_class.into(), &key)?);
                        }
                        sent.insert(job.id, bytes);
                    }
                }
            }
            self.link.strike_once()?;
        }
        self.link.strike_once()?;
        self.link.remove_items(&lost, 95.0)?;
        Ok((sent, keys))
    }

    fn upload<'u>(&self, job: &Job<'u>, number: u64) -> Upload<'u> {
        let (file, key) = (job.file, job.key);
        let is_odd = matches!(self.link.shared.fault(), Some(Fault::OddLength(every)) if number.is_multiple_of(every));
        let tail: &[u8] = if is_odd && key.is_some() { b"tail" } else { b"" };
        Upload {
            device_path: device_path(job.location),
            host_path: self.path(&format!("Snapshot/{}/{}", &job.id[..2], job.id)),
            size: self.stored_size(file.size) + tail.len() as u64,
            content: Box::new(move || Ok(Box::new(encrypted(file.open()?, key.as_ref())?.chain(tail)))),
            is_fragile: true,
        }
    }

    /// Sends the manifest and the property lists; gives their digests by name.
    fn send_metadata(
        &mut self,
        contents: &Contents,
        keys: &HashMap<String, Vec<u8>>,
        is_full: bool,
    ) -> Result<BTreeMap<&'static str, [u8; 20]>, Failure> {
        let path = self.directory.join("Manifest.db");
        fs::copy(self.phone.manifest_db(), &path)?;
        let files = self.phone.files().filter(|(_, file)| file.kind == Kind::File);
        let missing: Vec<_> =
            files.map(|(location, _)| location.file_id()).filter(|id| !contents.contains_key(id)).collect();
        if !missing.is_empty() || !keys.is_empty() {
            host_manifest::adjust(&path, &missing, keys)?;
        }
        let mut properties = backup_folder::manifest_plist(self.phone);
        let mut database = fs::read(&path)?;
        if let Some(keybag) = self.keybag {
            let key = keybag::random()?;
            properties.insert("IsEncrypted".into(), true.into());
            properties.insert("BackupKeyBag".into(), Value::Data(keybag.blob().to_vec()));
            properties.insert("ManifestKey".into(), Value::Data(keybag.seal(4, &key)?));
            let mut sealed = Vec::new();
            Encrypting::new(database.as_slice(), &key)?.read_to_end(&mut sealed)?;
            database = sealed;
        }
        let files = [
            if self.has_mbdx() { ("Manifest.mbdx", b"mbdx\x02\0".to_vec()) } else { ("Manifest.db", database) },
            ("Manifest.plist", backup_folder::binary(properties)?),
            ("Status.plist", self.status("uploading", is_full)?),
        ];
        let digests = files.iter().map(|(name, bytes)| (*name, Sha1::digest(bytes).into())).collect();
        let uploads = files.map(|(name, bytes)| self.upload_bytes(&format!("Snapshot/{name}"), bytes));
        self.link.upload(uploads.into(), 96.0)?;
        Ok(digests)
    }

    fn has_mbdx(&self) -> bool {
        self.link.shared.fault() == Some(Fault::NoManifestDb)
    }

    fn status(&self, state: &str, is_full: bool) -> io::Result<Vec<u8>> {
        let mut status = backup_folder::status_plist(self.phone);
        status.insert("SnapshotState".into(), state.into());
        status.insert("IsFullBackup".into(), is_full.into());
        backup_folder::binary(status)
    }

    fn upload_bytes<'u>(&self, name: &str, bytes: Vec<u8>) -> Upload<'u> {
        Upload {
            device_path: format!("/.b/6/{name}"),
            host_path: self.path(name),
            size: bytes.len() as u64,
            content: Box::new(move || Ok(Box::new(io::Cursor::new(bytes)))),
            is_fragile: false,
        }
    }

    /// Removes what is gone and moves what was sent to its final place: whole folders where none is to be kept.
    fn put_in_place(
        &mut self,
        base: Option<&Base>,
        sent: &Contents,
        contents: &Contents,
        prefixes: &mut BTreeSet<String>,
    ) -> Result<(), Failure> {
        let fresh: BTreeSet<String> = sent.keys().map(|id| id[..2].to_owned()).collect();
        let gone: Vec<_> = match base {
            Some(base) => {
                let gone = base.rows.iter().filter(|(id, row)| row.flags == 1 && !contents.contains_key(*id));
                gone.map(|(id, _)| self.path(&format!("{}/{id}", &id[..2]))).collect()
            }
            None => prefixes.difference(&fresh).map(|prefix| self.path(prefix)).collect(),
        };
        self.link.remove_items(&gone, 97.0)?;
        if base.is_none() {
            prefixes.clear();
        }
        let place = |name: &str| (self.path(&format!("Snapshot/{name}")), self.path(name));
        let folders = fresh.difference(prefixes).map(|prefix| place(prefix));
        let files = sent.keys().filter(|id| prefixes.contains(&id[..2])).map(|id| place(&format!("{}/{id}", &id[..2])));
        let manifest = if self.has_mbdx() { "Manifest.mbdx" } else { "Manifest.db" };
        let mut moves = vec![place("Status.plist"), place(manifest), place("Manifest.plist")];
        moves.extend(folders);
        moves.extend(files);
        self.link.move_items(&moves, 98.0)?;
        self.link.remove_items(&[self.path("Snapshot")], 99.0)?;
        if self.link.list(&self.udid.clone())?.contains_key("Snapshot") {
            return Err(self.link.wrong(code::UPLOADS, "Error removing snapshot directory"));
        }
        Ok(())
    }

    fn finish(&mut self, is_full: bool) -> Result<(), Failure> {
        let is_finished = self.link.shared.fault() != Some(Fault::NeverFinished);
        let status = self.status(if is_finished { "finished" } else { "moving" }, is_full)?;
        let upload = self.upload_bytes("Status.plist", status);
        self.link.upload(vec![upload], 100.0).map(drop)
    }

    /// Reads back what the next backup will begin with, and sees that everything is where it should be.
    fn verify(&mut self, metadata: &BTreeMap<&'static str, [u8; 20]>, contents: &Contents) -> Result<(), Failure> {
        for (name, wanted) in metadata {
            let bytes = self.fetch(name)?.unwrap_or_default();
            let is_right = match *name {
                "Status.plist" => {
                    xml_or_binary(&bytes).is_some_and(|status| text(&status, "SnapshotState") != "uploading")
                }
                _ => Sha1::digest(&bytes)[..] == wanted[..],
            };
            if !is_right {
                return Err(self.link.wrong(code::BAD_BACKUP, format!("{name} is not what was sent")));
            }
        }
        let mut wanted: BTreeMap<&str, BTreeMap<String, Entry>> = BTreeMap::new();
        for (id, size) in contents {
            wanted.entry(&id[..2]).or_default().insert(id.clone(), Entry::File(*size));
        }
        for (prefix, wanted) in wanted {
            let listing = self.link.list(&self.path(prefix))?;
            if listing != wanted {
                let differs = |name: &&String| listing.get(*name) != wanted.get(*name);
                let name = listing.keys().chain(wanted.keys()).find(differs).cloned().unwrap_or_default();
                let what = format!("{prefix}/{name} is {:?}, not {:?}", listing.get(&name), wanted.get(&name));
                return Err(self.link.wrong(code::BAD_BACKUP, what));
            }
        }
        Ok(())
    }
}

fn encrypted<'u>(content: Box<dyn Read + 'u>, key: Option<&Key>) -> io::Result<Box<dyn Read + 'u>> {
    match key {
        None => Ok(content),
        Some(key) => Ok(Box::new(Encrypting::new(content, key)?)),
    }
}

/// Where the phone has a file: not in the form of the manifest.
fn device_path(location: &Location) -> String {
    let Location { domain, path } = location;
    match domain.split_once('-') {
        Some(("AppDomain", app)) => format!("/var/mobile/Containers/Data/Application/{app}/{path}"),
        Some((kind, name)) => format!("/.ba/mobile/{kind}/{name}/{path}"),
        None if domain == "HomeDomain" || domain == "CameraRollDomain" || domain == "MediaDomain" => {
            format!("/var/mobile/{path}")
        }
        None => format!("/.b/6/{domain}/{path}"),
    }
}
