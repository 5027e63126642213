//! The files of a backup folder on disk, as they lie there, whatever Manifest.db says of them.
//!
//! The folder comes from elsewhere. Links are never followed, pipes and devices never opened, and what cannot be kept
//! is named. A folder of 500 000 files takes some 25 MB here, because a blob's place is kept as its 20 bytes.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use heirloom_device::backup::FileId;
use heirloom_store::{FileStamp, TreePath};

/// What a walk through a folder found.
#[derive(Debug, Default)]
pub struct Contents {
    /// Files at `ab/abcdef…`, or in backups of iOS 9 and before at `abcdef…`, by id.
    blobs: Vec<Blob>,
    /// All other files, by place.
    others: Vec<(TreePath, FileStamp)>,
    /// Folders with nothing in them that is kept.
    pub empty_folders: Vec<TreePath>,
    /// Whether the folder that was to be left out was there.
    pub has_left_out: bool,
    pub bytes: u64,
}

#[derive(Debug)]
struct Blob {
    id: FileId,
    /// Whether it lies in the backup folder itself.
    is_flat: bool,
    stamp: FileStamp,
    is_taken: bool,
}

impl Blob {
    fn place(&self) -> String {
        if self.is_flat { self.id.flat_place() } else { self.id.place() }
    }
}

impl Contents {
    /// Walks through the folder at `root`; each thing that cannot be kept is told to `warn`.
    ///
    /// # Errors
    /// Only if the folder itself cannot be read.
    pub fn read(root: &Path, warn: &mut dyn FnMut(String)) -> io::Result<Contents> {
        Contents::read_without(None, root, warn)
    }

    /// The same without the folder at `left_out`, which is a path as `root` is one.
    pub fn read_without(left_out: Option<&Path>, root: &Path, warn: &mut dyn FnMut(String)) -> io::Result<Contents> {
        let mut contents = Contents::default();
        let mut folders: Vec<Option<TreePath>> = vec![None];
        while let Some(folder) = folders.pop() {
            let path = folder.as_ref().map_or(root.to_owned(), |folder| root.join(folder.as_str()));
            if folder.is_some() && left_out == Some(&*path) {
                contents.has_left_out = true;
                continue;
            }
            let kept = match fs::read_dir(&path) {
                Ok(entries) => contents.add_all(entries, folder.as_ref(), &mut folders, warn),
                Err(error) if folder.is_none() => return Err(error),
                Err(error) => {
                    warn(format!("{} cannot be read: {error}", path.display()));
                    0
                }
            };
            contents.empty_folders.extend(folder.filter(|_| kept == 0));
        }
        contents.blobs.sort_unstable_by_key(|blob| (blob.id, blob.is_flat));
        contents.others.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        contents.empty_folders.sort_unstable();
        Ok(contents)
    }

    /// Adds what is in one folder, and says how many things of it are kept.
    fn add_all(
        &mut self,
        entries: fs::ReadDir,
        folder: Option<&TreePath>,
        folders: &mut Vec<Option<TreePath>>,
        warn: &mut dyn FnMut(String),
    ) -> u64 {
        let mut kept = 0;
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    warn(format!("{} cannot be read: {error}", folder.map_or(".", TreePath::as_str)));
                    break;
                }
            };
            match place_of(&entry, folder).and_then(|place| {
                Ok((entry.metadata().map_err(|error| format!("{place} cannot be read: {error}"))?, place))
            }) {
                Ok((metadata, place)) if metadata.is_dir() => folders.push(Some(place)),
                Ok((metadata, place)) if metadata.is_file() => self.add(place, stamp_of(&metadata)),
                Ok((metadata, place)) => {
                    warn(format!("{place} is {} and is not kept", kind_of(&metadata)));
                    continue;
                }
                Err(why) => {
                    warn(why);
                    continue;
                }
            }
            kept += 1;
        }
        kept
    }

    fn add(&mut self, place: TreePath, stamp: FileStamp) {
        self.bytes = self.bytes.saturating_add(stamp.size);
        match blob_id(&place) {
            Some((id, is_flat)) => self.blobs.push(Blob { id, is_flat, stamp, is_taken: false }),
            None => self.others.push((place, stamp)),
        }
    }

    pub fn files(&self) -> u64 {
        (self.blobs.len() + self.others.len()) as u64
    }

    /// Whether it holds files as iOS 3 and before named them, which no manifest names.
    pub fn is_of_ios_3(&self) -> bool {
        self.others
            .iter()
            .any(|(place, _)| place.as_str().ends_with(".mdinfo") || place.as_str().ends_with(".mdbackup"))
    }

    /// The time of the newest file, in seconds since 1970.
    pub fn newest(&self) -> Option<i64> {
        let stamps = self.blobs.iter().map(|blob| &blob.stamp).chain(self.others.iter().map(|(_, stamp)| stamp));
        stamps.map(|stamp| stamp.mtime_ns.div_euclid(1_000_000_000)).max()
    }

    /// Returns the stamp that tells whether the file at `place` has changed, if there is one.
    pub fn stamp(&self, place: &TreePath) -> Option<FileStamp> {
        match blob_id(place) {
            Some(key) => {
                let at = self.blobs.binary_search_by_key(&key, |blob| (blob.id, blob.is_flat));
                at.ok().map(|at| self.blobs[at].stamp)
            }
            None => self.others.binary_search_by(|(other, _)| other.cmp(place)).ok().map(|at| self.others[at].1),
        }
    }

    /// Place and stamp of the blob of an id, if it is there; each can be had once.
    pub fn take(&mut self, id: FileId) -> Option<(String, FileStamp)> {
        // One that lies as since iOS 10 comes before one that lies as before.
        let first = self.blobs.partition_point(|blob| blob.id < id);
        let blob = self.blobs[first..].iter_mut().take_while(|blob| blob.id == id).next()?;
        (!std::mem::replace(&mut blob.is_taken, true)).then(|| (blob.place(), blob.stamp))
    }

    /// All files that were not taken, in the order of their places, blobs last.
    pub fn into_rest(self) -> impl Iterator<Item = (TreePath, FileStamp)> {
        let blobs = self.blobs.into_iter().filter(|blob| !blob.is_taken);
        let places = blobs.filter_map(|blob| Some((TreePath::new(&blob.place()).ok()?, blob.stamp)));
        self.others.into_iter().chain(places)
    }
}

/// Opens the file at `place` for reading if it is a regular file still; neither waits for a pipe nor follows a link.
pub fn open(root: &Path, place: &TreePath) -> io::Result<(File, FileStamp)> {
    let path: PathBuf = root.join(place.as_str());
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(&path)?;
    let opened = file.metadata()?;
    let named = fs::symlink_metadata(&path)?;
    if !opened.is_file() || !named.is_file() {
        return Err(io::Error::other("it is not a regular file any more"));
    }
    if stamp_of(&opened).inode != stamp_of(&named).inode {
        return Err(io::Error::other("it was replaced at this moment"));
    }
    Ok((file, stamp_of(&opened)))
}

/// What tells whether a file has changed.
pub fn stamp_of(metadata: &Metadata) -> FileStamp {
    let mtime_ns = metadata.modified().map_or(0, nanoseconds);
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let inode = 0;
    FileStamp { size: metadata.len(), mtime_ns, inode }
}

/// Nanoseconds since 1970, as far as 64 bits reach: from 1677 to 2262.
pub fn nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanoseconds| -nanoseconds),
    }
}

fn place_of(entry: &fs::DirEntry, folder: Option<&TreePath>) -> Result<TreePath, String> {
    let name = entry.file_name();
    let inside = |name: &str| folder.map_or(name.to_owned(), |folder| format!("{folder}/{name}"));
    match name.to_str() {
        Some(name) => TreePath::new(&inside(name)).map_err(|error| format!("not kept: {error}")),
        None => Err(format!("{} has a name that is not UTF-8, and is not kept", inside(&name.to_string_lossy()))),
    }
}

/// The id that a place such as `3d/3d0d7e5f…` or `3d0d7e5f…` is made of, and whether it is of the second form.
fn blob_id(place: &TreePath) -> Option<(FileId, bool)> {
    match place.as_str().split_once('/') {
        Some((_, digits)) => FileId::parse(digits).filter(|id| id.place() == place.as_str()).map(|id| (id, false)),
        None => FileId::parse(place.as_str()).map(|id| (id, true)),
    }
}

fn kind_of(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        return "a symbolic link";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a pipe";
        } else if kind.is_socket() {
            return "a socket";
        } else if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    "not a regular file"
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: &str = "3d/3d0d7e5fb2ce288813306e4d4636395e047a3d28";

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        dir
    }

    fn read(dir: &tempfile::TempDir) -> (Contents, Vec<String>) {
        let mut warnings = Vec::new();
        let contents = Contents::read(dir.path(), &mut |warning| warnings.push(warning)).unwrap();
        (contents, warnings)
    }

    #[test]
    fn blobs_are_had_by_id_once_and_the_rest_is_left() {
        let upper = BLOB.to_uppercase();
        let misplaced = "aa/3d0d7e5fb2ce288813306e4d4636395e047a3d28";
        let dir = folder(&[BLOB, misplaced, &upper, "Info.plist", "deep/er/file"]);
        let (mut contents, warnings) = read(&dir);
        assert_eq!((contents.files(), warnings.len()), (5, 0));
        let id = FileId::parse(&BLOB[3..]).unwrap();
        let (place, stamp) = contents.take(id).unwrap();
        assert_eq!((&*place, stamp.size), (BLOB, BLOB.len() as u64));
        assert_eq!(contents.take(id), None);
        assert_eq!(contents.take(FileId([0; 20])), None);
        let rest: Vec<String> = contents.into_rest().map(|(place, _)| place.to_string()).collect();
        assert_eq!(rest, [&upper, "Info.plist", misplaced, "deep/er/file"]);
    }

    #[test]
    fn blobs_of_old_backups_lie_in_the_folder_itself() {
        let (mut contents, _) = read(&folder(&[&BLOB[3..]]));
        let (place, _) = contents.take(FileId::parse(&BLOB[3..]).unwrap()).unwrap();
        assert_eq!(place, BLOB[3..]);
        // One beside it that lies as newer ones do is what the newer database names.
        let (mut contents, _) = read(&folder(&[BLOB, &BLOB[3..]]));
        assert_eq!(contents.take(FileId::parse(&BLOB[3..]).unwrap()).unwrap().0, BLOB);
        assert_eq!(contents.take(FileId::parse(&BLOB[3..]).unwrap()), None);
        let rest: Vec<String> = contents.into_rest().map(|(place, _)| place.to_string()).collect();
        assert_eq!(rest, [&BLOB[3..]]);
    }

    #[test]
    fn blobs_that_nobody_takes_are_left_too() {
        let rest: Vec<String> = read(&folder(&[BLOB])).0.into_rest().map(|(place, _)| place.to_string()).collect();
        assert_eq!(rest, [BLOB]);
    }

    /// repository-in-the-backup
    #[test]
    fn a_folder_can_be_left_out() {
        let dir = folder(&["a/file", "repo/config", "repo/packs/ab/abcd", "b/repo/kept"]);
        let contents = Contents::read_without(Some(&dir.path().join("repo")), dir.path(), &mut |_| ()).unwrap();
        assert!(contents.has_left_out && contents.empty_folders.is_empty());
        let rest: Vec<String> = contents.into_rest().map(|(place, _)| place.to_string()).collect();
        assert_eq!(rest, ["a/file", "b/repo/kept"]);
    }

    #[test]
    fn empty_folders_are_seen() {
        let dir = folder(&["a/file"]);
        fs::create_dir_all(dir.path().join("a/empty")).unwrap();
        fs::create_dir_all(dir.path().join("Snapshot")).unwrap();
        let (contents, _) = read(&dir);
        let empty: Vec<&str> = contents.empty_folders.iter().map(TreePath::as_str).collect();
        assert_eq!(empty, ["Snapshot", "a/empty"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_neither_kept_nor_followed() {
        let dir = folder(&["inside"]);
        let outside = folder(&["secret"]);
        std::os::unix::fs::symlink(outside.path(), dir.path().join("folder")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
        let (contents, mut warnings) = read(&dir);
        warnings.sort();
        assert_eq!(contents.files(), 1);
        assert_eq!(warnings, ["file is a symbolic link and is not kept", "folder is a symbolic link and is not kept"]);
        assert!(open(dir.path(), &TreePath::new("file").unwrap()).is_err());
        assert!(open(dir.path(), &TreePath::new("inside").unwrap()).is_ok());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_not_utf8_are_named() {
        use std::os::unix::ffi::OsStrExt;
        let dir = folder(&["fine"]);
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"b\xffd")), "").unwrap();
        let (contents, warnings) = read(&dir);
        assert_eq!((contents.files(), warnings.len()), (1, 1));
        assert!(warnings[0].contains("not UTF-8"), "{warnings:?}");
    }
}
