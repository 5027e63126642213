//! Writes a phone as a computer's backup folder of iOS 10 and later, not encrypted, as idevicebackup2 leaves it.

use std::collections::HashSet;
use std::fs::{self, FileTimes};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use plist::{Dictionary, Value};

use crate::file::{File, Kind};
use crate::manifest::dictionary;
use crate::phone::Phone;
use crate::text;

/// What [`write_backup`] did to the contents. `Manifest.db` and the three property lists are written every time and not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteStats {
    /// Contents that were written, new or changed.
    pub written: u64,
    /// Bytes of those.
    pub written_bytes: u64,
    /// Contents that were left alone.
    pub unchanged: u64,
    /// Contents that were deleted, being no longer on the phone.
    pub removed: u64,
}

/// Brings the backup in `dir/<udid>` up to what is on the phone, making it if need be.
///
/// A content whose size and modification time are those on the phone is not touched. Others are written into `Snapshot/`
/// and moved over the old file, so that they get a new inode. Nothing else may have written into the folder.
pub fn write_backup(phone: &Phone, dir: &Path) -> io::Result<WriteStats> {
    let folder = Folder { root: &dir.join(phone.udid()) };
    let mut stats = WriteStats::default();
    fs::create_dir_all(folder.root.join("Snapshot"))?;
    let mut ids = HashSet::new();
    for (location, file) in phone.files().filter(|(_, file)| file.kind == Kind::File) {
        let id = location.file_id();
        let name = format!("{}/{id}", &id[..2]);
        if folder.holds(&name, file) {
            stats.unchanged += 1;
        } else {
            fs::create_dir_all(folder.root.join(&id[..2]))?;
            folder.replace(&name, &mut file.open()?, unix(file.modified))?;
            stats.written += 1;
            stats.written_bytes += file.size;
        }
        ids.insert(id);
    }
    stats.removed = folder.remove_all_but(&ids)?;
    folder.replace("Manifest.db", &mut fs::File::open(phone.manifest_db())?, phone.now())?;
    folder.replace("Manifest.plist", &mut &*binary(manifest_plist(phone))?, phone.now())?;
    folder.replace("Info.plist", &mut &*xml(info_plist(phone))?, phone.now())?;
    folder.replace("Status.plist", &mut &*binary(status_plist(phone))?, phone.now())?;
    fs::remove_dir_all(folder.root.join("Snapshot"))?;
    Ok(stats)
}

struct Folder<'a> {
    root: &'a Path,
}

impl Folder<'_> {
    fn holds(&self, name: &str, file: &File) -> bool {
        fs::metadata(self.root.join(name))
            .is_ok_and(|held| held.len() == file.size && held.modified().is_ok_and(|at| at == unix(file.modified)))
    }

    fn replace(&self, name: &str, content: &mut dyn Read, modified: SystemTime) -> io::Result<()> {
        let new = self.root.join("Snapshot").join(name.rsplit('/').next().unwrap_or(name));
        let mut file = BufWriter::with_capacity(64 << 10, fs::File::create(&new)?);
        io::copy(content, &mut file)?;
        file.flush()?;
        file.get_ref().set_times(FileTimes::new().set_modified(modified))?;
        fs::rename(new, self.root.join(name))
    }

    fn remove_all_but(&self, ids: &HashSet<String>) -> io::Result<u64> {
        let mut removed = 0;
        for folder in fs::read_dir(self.root)? {
            let folder = folder?;
            if folder.file_name().len() != 2 {
                continue;
            }
            for file in fs::read_dir(folder.path())? {
                let file = file?;
                if !file.file_name().to_str().is_some_and(|id| ids.contains(id)) {
                    fs::remove_file(file.path())?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

fn unix(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs())
}

pub(crate) fn manifest_plist(phone: &Phone) -> Dictionary {
    let apps = phone.apps().iter().map(|app| {
        let fields = dictionary([
            ("CFBundleIdentifier", app.bundle_id.as_str().into()),
            ("CFBundleVersion", app.version.as_str().into()),
            ("ContainerContentClass", "Data/Application".into()),
        ]);
        (app.bundle_id.clone(), Value::Dictionary(fields))
    });
    let told = phone.lockdown_values();
    let known = ["DeviceName", "ProductType", "ProductVersion", "BuildVersion", "SerialNumber", "UniqueDeviceID"];
    let lockdown = known.iter().filter_map(|key| Some(((*key).to_owned(), told.get(key)?.clone())));
    dictionary([
        ("Version", "10.0".into()),
        ("Date", Value::Date(phone.now().into())),
        ("SystemDomainsVersion", "24.0".into()),
        ("IsEncrypted", false.into()),
        ("WasPasscodeSet", true.into()),
        ("Lockdown", Value::Dictionary(lockdown.collect())),
        ("Applications", Value::Dictionary(apps.collect())),
    ])
}

pub(crate) fn status_plist(phone: &Phone) -> Dictionary {
    dictionary([
        ("UUID", identifier(phone, "status").into()),
        ("Date", Value::Date(phone.now().into())),
        ("BackupState", "new".into()),
        ("SnapshotState", "finished".into()),
        ("IsFullBackup", false.into()),
        ("Version", "3.3".into()),
    ])
}

/// The keys that idevicebackup2 writes.
fn info_plist(phone: &Phone) -> Dictionary {
    let told = phone.lockdown_values();
    let apps: Vec<_> = phone.apps().iter().map(|app| Value::from(app.bundle_id.as_str())).collect();
    let mut info = dictionary([
        ("Applications", Value::Dictionary(Dictionary::new())),
        ("Display Name", phone.name().into()),
        ("GUID", identifier(phone, "guid").replace('-', "").into()),
        ("Installed Applications", Value::Array(apps)),
        ("Last Backup Date", Value::Date(phone.now().into())),
        ("Target Identifier", phone.udid().into()),
        ("Target Type", "Device".into()),
        ("Unique Identifier", phone.udid().to_uppercase().into()),
        ("iTunes Files", Value::Dictionary(Dictionary::new())),
        ("iTunes Settings", Value::Dictionary(Dictionary::new())),
        ("iTunes Version", "12.13.2".into()),
    ]);
    for (key, source) in [
        ("Device Name", "DeviceName"),
        ("Build Version", "BuildVersion"),
        ("Product Type", "ProductType"),
        ("Product Version", "ProductVersion"),
        ("Serial Number", "SerialNumber"),
        ("ICCID", "IntegratedCircuitCardIdentity"),
        ("IMEI", "InternationalMobileEquipmentIdentity"),
        ("MEID", "MobileEquipmentIdentifier"),
        ("Phone Number", "PhoneNumber"),
    ] {
        info.extend(told.get(source).map(|value| (key.to_owned(), value.clone())));
    }
    info.sort_keys();
    info
}

/// An identifier of this backup, for each purpose another.
fn identifier(phone: &Phone, purpose: &str) -> String {
    let now = phone.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    text::uuid(&mut text::rng(now, &format!("{purpose} {}", phone.udid()), 0))
}

pub(crate) fn binary(dictionary: Dictionary) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Value::Dictionary(dictionary).to_writer_binary(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

fn xml(dictionary: Dictionary) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Value::Dictionary(dictionary).to_writer_xml(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::PathBuf;

    use rusqlite::Connection;

    use super::*;

    fn written(phone: &Phone, dir: &Path) -> WriteStats {
        write_backup(phone, dir).unwrap()
    }

    fn phone_after(days: u32, size: u64) -> Phone {
        let mut phone = Phone::new(7, size).unwrap();
        (0..days).for_each(|_| phone.live_one_day().unwrap());
        phone
    }

    /// Files below `dir` by their path in it.
    fn files(dir: &Path) -> BTreeMap<String, PathBuf> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                let below = files(&entry.path()).into_iter();
                found.extend(below.map(|(path, file)| (format!("{name}/{path}"), file)));
            } else {
                found.insert(name, entry.path());
            }
        }
        found
    }

    fn contents(dir: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
        let with_content = |(name, path): (String, PathBuf)| {
            (name, (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap()))
        };
        files(dir).into_iter().map(with_content).collect()
    }

    /// Opens a copy of `dir`'s Manifest.db, for a database in WAL mode cannot be opened without files beside it.
    fn manifest(root: &Path, copy: &Path) -> Connection {
        let copy = copy.join("Manifest.db");
        fs::copy(root.join("Manifest.db"), &copy).unwrap();
        Connection::open(copy).unwrap()
    }

    #[test]
    fn is_an_updated_folder_the_same_as_a_fresh_one() {
        let [updated, fresh] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let mut phone = phone_after(0, 5_000_000);
        written(&phone, updated.path());
        phone.live_one_day().unwrap();
        written(&phone, updated.path());
        phone.live_one_day().unwrap();
        phone.live_one_day().unwrap();
        written(&phone, updated.path());
        written(&phone_after(3, 5_000_000), fresh.path());
        let [updated, fresh] = [contents(updated.path()), contents(fresh.path())];
        assert!(updated.keys().eq(fresh.keys()));
        for (name, content) in &fresh {
            assert!(updated[name] == *content, "{name} differs");
        }
    }

    #[test]
    fn does_another_seed_or_size_give_another_phone() {
        let udids = [Phone::new(1, 5_000_000), Phone::new(2, 5_000_000), Phone::new(1, 5_000_001)];
        let udids: BTreeSet<_> = udids.into_iter().map(|phone| phone.unwrap().udid()).collect();
        assert_eq!(udids.len(), 3);
    }

    #[cfg(unix)]
    #[test]
    fn does_a_day_touch_only_what_changed() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let inodes = |root: &Path| -> BTreeMap<String, (u64, i64)> {
            let inode = |path: PathBuf| fs::metadata(path).map(|file| (file.ino(), file.ctime_nsec())).unwrap();
            files(root).into_iter().map(|(name, path)| (name, inode(path))).collect()
        };
        let mut phone = phone_after(0, 20_000_000);
        let root = dir.path().join(phone.udid());
        let first = written(&phone, dir.path());
        let (old_files, old_inodes, old) = (files(&root), inodes(&root), contents(&root));
        let again = written(&phone, dir.path());
        assert_eq!(again, WriteStats { unchanged: first.written, ..WriteStats::default() });

        phone.live_one_day().unwrap();
        let stats = written(&phone, dir.path());
        let (new_inodes, new) = (inodes(&root), contents(&root));
        let blobs: Vec<_> = old_files.keys().filter(|name| name.contains('/')).collect();
        let kept = blobs.iter().filter(|name| new_inodes.get(**name) == old_inodes.get(**name)).count();
        assert_eq!(kept as u64, stats.unchanged);
        for name in blobs.iter().filter(|name| new.contains_key(**name)) {
            let is_same = old[*name].0 == new[*name].0;
            assert!(is_same || old_inodes[*name].0 != new_inodes[*name].0, "{name} changed in place");
        }
        assert!(stats.removed >= 2, "a photo and its thumbnail are gone");
        assert!(stats.unchanged > first.written / 10 * 7, "{stats:?}");
        assert!((30..first.written / 2).contains(&stats.written), "{stats:?}");
    }

    #[test]
    fn is_every_database_whole() {
        let [dir, copy] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let phone = phone_after(2, 5_000_000);
        written(&phone, dir.path());
        let root = dir.path().join(phone.udid());
        let blob = |id: String| root.join(&id[..2]).join(id);
        let mut checked = 0;
        let mut logs = 0;
        for (location, _) in phone.files().filter(|(_, file)| file.kind == Kind::File) {
            let path = blob(location.file_id());
            if !fs::read(&path).unwrap().starts_with(b"SQLite format 3\0") {
                continue;
            }
            let copy = copy.path().join(format!("{checked}"));
            fs::copy(path, &copy).unwrap();
            let mut log = location.clone();
            log.path += "-wal";
            if blob(log.file_id()).exists() {
                fs::copy(blob(log.file_id()), format!("{}-wal", copy.display())).unwrap();
                logs += 1;
            }
            let verdict: String =
                Connection::open(&copy).unwrap().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(verdict, "ok", "{location}");
            checked += 1;
        }
        assert_eq!((checked, logs), (9, 3));
        let verdict: String =
            manifest(&root, copy.path()).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
    }

    #[test]
    fn does_the_manifest_name_every_content_and_no_other() {
        let [dir, copy] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let mut phone = phone_after(0, 5_000_000);
        written(&phone, dir.path());
        phone.live_one_day().unwrap();
        written(&phone, dir.path());
        let root = dir.path().join(phone.udid());
        let db = manifest(&root, copy.path());
        let mut rows = db.prepare("SELECT fileID, domain, relativePath, flags, file FROM Files").unwrap();
        let mut rows = rows.query([]).unwrap();
        let mut named = BTreeSet::new();
        let mut count = 0;
        while let Some(row) = rows.next().unwrap() {
            let id: String = row.get(0).unwrap();
            let location = crate::Location::new(row.get::<_, String>(1).unwrap(), row.get::<_, String>(2).unwrap());
            assert_eq!(id, location.file_id());
            let archive: Value = plist::from_bytes(&row.get::<_, Vec<u8>>(4).unwrap()).unwrap();
            let objects = archive.as_dictionary().unwrap()["$objects"].as_array().unwrap();
            let mb_file = objects[1].as_dictionary().unwrap();
            let referred = |key: &str| objects[mb_file[key].as_uid().unwrap().get() as usize].as_string();
            assert_eq!(referred("RelativePath"), Some(&*location.path));
            let flags: u8 = row.get(3).unwrap();
            if flags == 1 {
                let blob = fs::metadata(root.join(&id[..2]).join(&id)).unwrap();
                assert_eq!(mb_file["Size"].as_unsigned_integer(), Some(blob.len()));
                named.insert(format!("{}/{id}", &id[..2]));
            }
            assert_eq!(flags == 4, mb_file.contains_key("Target"));
            count += 1;
        }
        let contents: BTreeSet<_> = files(&root).into_keys().filter(|name| name.contains('/')).collect();
        assert_eq!(named, contents);
        assert_eq!(count, phone.files().count());
        let others: Vec<_> = files(&root).into_keys().filter(|name| !name.contains('/')).collect();
        assert_eq!(others, ["Info.plist", "Manifest.db", "Manifest.plist", "Status.plist"]);
    }
}
