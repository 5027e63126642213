//! Finding backup folders, and opening the files at their top.

use std::{
    ffi::{OsStr, OsString},
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{Error, Info, Manifest, ManifestDb, ManifestPlist, Status};
use crate::{PlistError, property_list::MAX_FILE_BYTES};

/// In a folder without backups so many names are looked at in the folders below.
const NAMES_BELOW_MAX: usize = 100_000;
/// Where iMazing keeps the versions of backups that lie beside it: in a folder for each device, one for each date.
const IMAZING_VERSIONS: [&str; 2] = ["iMazing.Versions", "Versions"];

/// What [`find_backups`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Backups, by folder name.
    pub backups: Vec<BackupFolder>,
    /// What looks like a backup and is none, by name.
    pub skipped: Vec<Skipped>,
}

/// One backup folder. It may be damaged or incomplete: what is known is that it holds at least one of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFolder {
    /// The folder.
    pub path: PathBuf,
    /// The UDID that its name states.
    pub udid: Option<String>,
    /// When Finder archived it, as its name states.
    pub archived: Option<ArchiveTime>,
}

/// A path that was not taken for a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The path.
    pub path: PathBuf,
    /// Why.
    pub why: SkipReason,
}

/// Why a path was not taken for a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SkipReason {
    /// Links inside a folder of backups are not followed.
    #[error("is a symbolic link")]
    SymbolicLink,
    /// Named like a backup, without any file of one.
    #[error("holds none of Manifest.db, Manifest.mbdb, Manifest.plist, Info.plist, Status.plist")]
    Empty,
    /// Not named like a backup, and without the pair of files that would make it one.
    #[error("holds a manifest without an Info.plist, or the reverse, and is not named like a backup")]
    Incomplete,
    /// The operating system refused to look inside.
    #[error("cannot be read")]
    Unreadable,
}

/// The time in the name of an archived backup, in the time zone of the computer that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArchiveTime {
    /// Four digits.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
}

/// Finds the backups at `path`: the folder itself, or those in it (Apple's `MobileSync/Backup`), and the versions that iMazing
/// keeps beside them; where there are none, those a folder deeper.
///
/// A folder named like a device is a backup if it holds any file that a backup has at its top; one with another name
/// needs a manifest and one more. `path` itself may be a symbolic link, its children may not.
pub fn find_backups(path: &Path) -> Result<Found, Error> {
    let real = fs::canonicalize(path).map_err(|source| Error::io(path, source))?;
    let names = sorted_names(&real).map_err(|source| Error::io(path, source))?;
    let itself = BackupFolder::named(&real, real.file_name());
    if itself.verdict() == Ok(true) {
        let itself = BackupFolder { path: path.to_owned(), ..itself };
        return Ok(Found { backups: vec![itself], skipped: Vec::new() });
    }
    let mut found = Found::default();
    let mut left = NAMES_BELOW_MAX;
    for name in &names {
        let mut child = BackupFolder::named(&path.join(name), Some(name));
        // Of iMazing's versions the folder above says whose they are.
        let is_named = child.udid.is_some();
        child.udid = child.udid.or_else(|| itself.udid.clone());
        match child.verdict() {
            Ok(true) => found.backups.push(child),
            Ok(false) => {}
            // A backup may lie in a folder that is named like itself.
            Err(SkipReason::Empty) => match backups_in(&child.path, &mut left) {
                deeper if !deeper.is_empty() => found.backups.extend(deeper),
                _ if is_named => found.skipped.push(Skipped { path: child.path, why: SkipReason::Empty }),
                _ => {}
            },
            Err(why) => found.skipped.push(Skipped { path: child.path, why }),
        }
    }
    found.backups.extend(versions_at(path, &real));
    if found.backups.is_empty() {
        found.backups = backups_below(path, &names);
    }
    Ok(found)
}

/// The backups in the folders of `names` in `path`.
fn backups_below(path: &Path, names: &[OsString]) -> Vec<BackupFolder> {
    let mut left = NAMES_BELOW_MAX;
    let mut found = Vec::new();
    for folder in names.iter().map(|name| path.join(name)).filter(|folder| is_folder(folder)) {
        found.extend(backups_in(&folder, &mut left));
        found.extend(versions_at(&folder, &folder));
    }
    found
}

/// The backups in a folder that are named like a device. At most `left` names are looked at, and taken off.
fn backups_in(folder: &Path, left: &mut usize) -> Vec<BackupFolder> {
    let entries = fs::read_dir(folder).into_iter().flatten().map_while(Result::ok).take(*left);
    let mut found: Vec<BackupFolder> = entries
        .map(|entry| {
            *left -= 1;
            BackupFolder::named(&entry.path(), Some(&entry.file_name()))
        })
        .filter(|child| child.udid.is_some() && child.verdict() == Ok(true))
        .collect();
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// Earlier backups that iMazing keeps at `path`, by device and date.
fn versions_at(path: &Path, real: &Path) -> Vec<BackupFolder> {
    let [outer, inner] = IMAZING_VERSIONS;
    let is_called = |path: Option<&Path>, name| path.and_then(Path::file_name).is_some_and(|found| found == name);
    let root = if is_called(Some(real), inner) && is_called(real.parent(), outer) {
        path.to_owned()
    } else if is_called(Some(real), outer) {
        path.join(inner)
    } else {
        path.join(outer).join(inner)
    };
    let children = |folder: &Path| {
        let is_real = is_folder(folder) || folder == path;
        let names = if is_real { sorted_names(folder).unwrap_or_default() } else { Vec::new() };
        names.into_iter().map(|name| BackupFolder::named(&folder.join(&name), Some(&name))).collect::<Vec<_>>()
    };
    let mut versions = Vec::new();
    for device in children(&root).into_iter().filter(|device| device.udid.is_some()) {
        let of_device = |version| BackupFolder { udid: device.udid.clone(), ..version };
        versions.extend(children(&device.path).into_iter().map(of_device).filter(|child| child.verdict() == Ok(true)));
    }
    versions
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

fn sorted_names(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// Reads a folder's name: a UDID of 40 hexadecimal digits, or of 8, `-`, and 16 (since the iPhone XS; some programs leave the
/// dash out), as it is written; and, for a backup that Finder archived, the time after it, as `-YYYYMMDD-hhmmss`.
pub fn udid_from_folder_name(name: &str) -> Option<(String, Option<ArchiveTime>)> {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_udid = |udid: &str| match udid.len() {
        24 | 40 => is_hex(udid),
        25 => udid.as_bytes()[8] == b'-' && is_hex(&udid[..8]) && is_hex(&udid[9..]),
        _ => false,
    };
    if !name.is_ascii() {
        return None;
    }
    if is_udid(name) {
        return Some((name.to_owned(), None));
    }
    let (udid, time) = name.split_at_checked(name.len().checked_sub("-YYYYMMDD-hhmmss".len())?)?;
    is_udid(udid).then_some(())?;
    Some((udid.to_owned(), Some(ArchiveTime::parse(time)?)))
}

impl BackupFolder {
    /// Reads Info.plist.
    pub fn info(&self) -> Result<Info, Error> {
        Info::parse(&self.read("Info.plist")?)
    }

    /// Reads Status.plist.
    pub fn status(&self) -> Result<Status, Error> {
        Status::parse(&self.read("Status.plist")?)
    }

    /// Reads Manifest.plist.
    pub fn manifest_plist(&self) -> Result<ManifestPlist, Error> {
        ManifestPlist::parse(&self.read("Manifest.plist")?)
    }

    /// Opens Manifest.db.
    pub fn manifest_db(&self) -> Result<ManifestDb, Error> {
        ManifestDb::open(&self.path.join("Manifest.db"))
    }

    fn named(path: &Path, name: Option<&OsStr>) -> Self {
        let (udid, archived) = name
            .and_then(OsStr::to_str)
            .and_then(udid_from_folder_name)
            .map_or((None, None), |(udid, archived)| (Some(udid), archived));
        BackupFolder { path: path.to_owned(), udid, archived }
    }

    /// Whether this is a backup; an error if it only looks like one.
    fn verdict(&self) -> Result<bool, SkipReason> {
        let is_named = self.udid.is_some();
        let kind = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata.file_type(),
            Err(_) if is_named => return Err(SkipReason::Unreadable),
            Err(_) => return Ok(false),
        };
        if kind.is_symlink() {
            return Err(SkipReason::SymbolicLink);
        }
        if !kind.is_dir() {
            return Ok(false);
        }
        if is_named && fs::read_dir(&self.path).is_err() {
            return Err(SkipReason::Unreadable);
        }
        let has = |file| fs::symlink_metadata(self.path.join(file)).is_ok_and(|file| file.is_file());
        let (db, plist) = (has(Manifest::DB) || has(Manifest::MBDB), has("Manifest.plist"));
        let (info, status) = (has("Info.plist"), has("Status.plist"));
        match is_named {
            true if db || plist || info || status => Ok(true),
            true => Err(SkipReason::Empty),
            false if (db || plist) && [db, plist, info, status].into_iter().filter(|&has| has).count() >= 2 => Ok(true),
            false if db || plist || (info && status) => Err(SkipReason::Incomplete),
            // Any bundle may have an Info.plist.
            false => Ok(false),
        }
    }

    /// Reads a property list at the top of the backup.
    fn read(&self, file: &'static str) -> Result<Vec<u8>, Error> {
        let path = self.path.join(file);
        let bytes = regular_file_bytes(&path)?;
        if bytes > MAX_FILE_BYTES {
            return Err(Error::Plist { file, source: PlistError::TooLarge { bytes } });
        }
        let mut content = Vec::new();
        fs::File::open(&path)
            // One byte more, so that a file that grew meanwhile is refused by the parser.
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content))
            .map_err(|source| Error::io(&path, source))?;
        Ok(content)
    }
}

/// The size of a regular file; anything else, such as a pipe, is refused before it is opened.
pub(super) fn regular_file_bytes(path: &Path) -> Result<u64, Error> {
    let metadata = fs::symlink_metadata(path).map_err(|source| Error::io(path, source))?;
    if !metadata.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    Ok(metadata.len())
}

impl ArchiveTime {
    /// Parses `-YYYYMMDD-hhmmss`.
    fn parse(text: &str) -> Option<Self> {
        let digits = |range: std::ops::Range<usize>| {
            let digits = text.get(range)?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)
        };
        let number = |start: usize| digits(start..start + 2)?.parse::<u8>().ok();
        let time = ArchiveTime {
            year: digits(1..5)?.parse().ok()?,
            month: number(5)?,
            day: number(7)?,
            hour: number(10)?,
            minute: number(12)?,
            second: number(14)?,
        };
        let is_time = text.len() == 16
            && text.starts_with('-')
            && text.as_bytes()[9] == b'-'
            && (1..=12).contains(&time.month)
            && (1..=31).contains(&time.day)
            && time.hour < 24
            && time.minute < 60
            && time.second <= 60;
        is_time.then_some(time)
    }
}

impl fmt::Display for ArchiveTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ArchiveTime { year, month, day, hour, minute, second } = self;
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "1cb128eafa77c5be74283e9a3a2130af36a3c059";
    const NEW: &str = "00008030-001A2B3C4D5E6F78";

    fn folder(parent: &Path, name: &str, files: &[&str]) -> PathBuf {
        let path = parent.join(name);
        fs::create_dir(&path).unwrap();
        for file in files {
            fs::write(path.join(file), b"x").unwrap();
        }
        path
    }

    fn names(found: &Found) -> Vec<&str> {
        found.backups.iter().map(|backup| backup.path.file_name().unwrap().to_str().unwrap()).collect()
    }

    fn reasons(found: &Found) -> Vec<(&str, SkipReason)> {
        found.skipped.iter().map(|skipped| (skipped.path.file_name().unwrap().to_str().unwrap(), skipped.why)).collect()
    }

    #[test]
    fn folder_names_state_device_and_archive_time() {
        for udid in [OLD, NEW, &OLD.to_uppercase()] {
            assert_eq!(udid_from_folder_name(udid), Some((udid.to_owned(), None)));
            let (read, archived) = udid_from_folder_name(&format!("{udid}-20240229-235958")).unwrap();
            assert_eq!(read, udid);
            assert_eq!(archived.unwrap().to_string(), "2024-02-29 23:59:58");
        }
        for name in [
            "",
            "Backup",
            &OLD[1..],
            &NEW.replace('-', "0"),
            &format!("{OLD}-"),
            &format!("{OLD}-20241329-235958"),
            &format!("{OLD}-20240229-245958"),
            &format!("{OLD}-20240229_235958"),
            &format!("{OLD}-+0240229-235958"),
            &format!("{OLD}20240229-235958-"),
            "x-20240229-235958",
            &"é".repeat(20),
            &format!("0000803é{}", &NEW[9..]),
        ] {
            assert_eq!(udid_from_folder_name(name), None, "{name}");
        }
    }

    fn places(root: &Path, found: &Found) -> Vec<(String, String)> {
        let of = |backup: &BackupFolder| {
            let path = backup.path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            (path, backup.udid.clone().unwrap())
        };
        found.backups.iter().map(of).collect()
    }

    /// udid-without-dash
    #[test]
    fn udids_of_24_digits_are_known() {
        let name = NEW.replace('-', "");
        assert_eq!(udid_from_folder_name(&name), Some((name.clone(), None)));
        assert!(udid_from_folder_name(&format!("{name}-20240229-235958")).unwrap().1.is_some());
    }

    /// imazing-versions
    #[test]
    fn versions_of_imazing_belong_to_the_device_above() {
        let root = tempfile::tempdir().unwrap();
        let backups = root.path().join("iMazing.Backups");
        fs::create_dir_all(backups.join("iMazing.Versions/Blueprints")).unwrap();
        fs::create_dir_all(backups.join("iMazing.Versions/Versions").join(NEW)).unwrap();
        folder(&backups, NEW, &["Manifest.db", "Info.plist"]);
        let versions = backups.join("iMazing.Versions/Versions").join(NEW);
        for date in ["2024-03-01 10.00.00", "2024-04-01 10.00.00"] {
            folder(&versions, date, &["Manifest.db", "Info.plist"]);
        }
        folder(&versions, "not a backup", &["file"]);
        let version = |date: &str| (format!("iMazing.Backups/iMazing.Versions/Versions/{NEW}/{date}"), NEW.to_owned());
        let old = [version("2024-03-01 10.00.00"), version("2024-04-01 10.00.00")];
        let newest = [(format!("iMazing.Backups/{NEW}"), NEW.to_owned())];
        for path in ["", "iMazing.Backups"] {
            let found = find_backups(&root.path().join(path)).unwrap();
            assert_eq!(places(root.path(), &found), [&newest[..], &old].concat(), "{path}");
            assert_eq!(found.skipped, []);
        }
        for path in ["iMazing.Versions", "iMazing.Versions/Versions", &format!("iMazing.Versions/Versions/{NEW}")] {
            let found = find_backups(&backups.join(path)).unwrap();
            assert_eq!(places(root.path(), &found), old, "{path}");
        }
    }

    /// one-level-deeper
    #[test]
    fn backups_a_folder_deeper_are_found_where_there_are_no_others() {
        let root = tempfile::tempdir().unwrap();
        for name in ["Backup", "Other"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        folder(&root.path().join("Backup"), OLD, &["Status.plist"]);
        folder(&root.path().join("Backup"), "renamed", &["Manifest.db", "Info.plist"]);
        folder(&root.path().join("Other"), NEW, &["other"]);
        let found = find_backups(root.path()).unwrap();
        assert_eq!(places(root.path(), &found), [(format!("Backup/{OLD}"), OLD.to_owned())]);

        folder(root.path(), NEW, &["Status.plist"]);
        assert_eq!(names(&find_backups(root.path()).unwrap()), [NEW]);
    }

    /// idevicebackup2, told to write into the folder of a device, makes another one in it.
    #[test]
    fn a_backup_in_a_folder_of_its_own_name_is_found() {
        let root = tempfile::tempdir().unwrap();
        folder(root.path(), OLD, &[]);
        folder(&root.path().join(OLD), OLD, &["Manifest.db", "Info.plist"]);
        folder(root.path(), NEW, &["Manifest.db", "Info.plist"]);
        let found = find_backups(root.path()).unwrap();
        let expected = [(NEW.to_owned(), NEW.to_owned()), (format!("{OLD}/{OLD}"), OLD.to_owned())];
        assert_eq!(places(root.path(), &found), expected);
        assert_eq!(found.skipped, []);
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_no_deeper() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        folder(elsewhere.path(), OLD, &["Status.plist"]);
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join("link")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join("iMazing.Versions")).unwrap();
        assert_eq!(find_backups(root.path()).unwrap().backups, []);
    }

    /// mbdb-names
    #[test]
    fn a_manifest_of_ios_9_makes_a_backup() {
        let root = tempfile::tempdir().unwrap();
        folder(root.path(), "renamed", &["Manifest.mbdb", "Info.plist"]);
        assert_eq!(names(&find_backups(root.path()).unwrap()), ["renamed"]);
    }

    #[test]
    fn a_folder_of_backups_is_read_in_order_of_names() {
        let root = tempfile::tempdir().unwrap();
        folder(root.path(), OLD, &["Info.plist", "Manifest.db"]);
        folder(root.path(), NEW, &["Status.plist"]);
        folder(root.path(), &format!("{OLD}-20240229-235958"), &["Manifest.plist"]);
        folder(root.path(), "renamed", &["Manifest.db", "Info.plist"]);
        folder(root.path(), "bundle.app", &["Info.plist"]);
        folder(root.path(), "half", &["Manifest.db"]);
        folder(root.path(), &OLD.replace('1', "2"), &["other"]);
        fs::write(root.path().join(".DS_Store"), b"x").unwrap();

        let found = find_backups(root.path()).unwrap();
        assert_eq!(names(&found), [NEW, OLD, &format!("{OLD}-20240229-235958"), "renamed"]);
        assert_eq!(found.backups[0].udid.as_deref(), Some(NEW));
        assert_eq!(found.backups[3].udid, None);
        let empty = OLD.replace('1', "2");
        assert_eq!(reasons(&found), [(&*empty, SkipReason::Empty), ("half", SkipReason::Incomplete)]);
    }

    #[test]
    fn a_backup_folder_itself_is_found_however_it_is_named_on_the_way() {
        let root = tempfile::tempdir().unwrap();
        let backup = folder(root.path(), OLD, &["Status.plist"]);
        folder(&backup, NEW, &["Status.plist"]);
        for path in [backup.clone(), backup.join("."), backup.join(NEW).join("..")] {
            let found = find_backups(&path).unwrap();
            assert_eq!(found.backups.len(), 1);
            assert_eq!(found.backups[0].udid.as_deref(), Some(OLD), "{}", path.display());
        }
    }

    #[test]
    fn a_path_that_is_no_folder_is_named_in_the_error() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, b"x").unwrap();
        assert!(matches!(find_backups(&root.path().join("none")), Err(Error::Missing { .. })));
        assert!(matches!(find_backups(&file), Err(Error::NotAFolder { path }) if path == file));
    }

    #[test]
    fn a_missing_property_list_is_told_from_a_broken_one() {
        let root = tempfile::tempdir().unwrap();
        folder(root.path(), OLD, &["Info.plist"]);
        let backup = find_backups(root.path()).unwrap().backups.remove(0);
        assert!(matches!(backup.info(), Err(Error::Plist { file: "Info.plist", .. })));
        assert!(matches!(backup.status(), Err(Error::Missing { .. })));
        assert!(matches!(backup.manifest_db(), Err(Error::Missing { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        use std::os::unix::fs::symlink;
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let outside = folder(elsewhere.path(), OLD, &["Info.plist", "Manifest.db"]);
        symlink(&outside, root.path().join(NEW)).unwrap();
        let linked = folder(root.path(), OLD, &["Status.plist"]);
        symlink(outside.join("Info.plist"), linked.join("Info.plist")).unwrap();

        let found = find_backups(root.path()).unwrap();
        assert_eq!(names(&found), [OLD]);
        assert_eq!(reasons(&found), [(NEW, SkipReason::SymbolicLink)]);
        assert!(matches!(found.backups[0].info(), Err(Error::NotAFile { .. })));
        // What the user names may be a link.
        assert_eq!(find_backups(&root.path().join(NEW)).unwrap().backups[0].udid.as_deref(), Some(OLD));
    }
}
