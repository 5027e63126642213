//! A backup folder in memory: the plain truth with which snapshots are compared.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use heirloom_store::{ExportOptions, ExportStats, Prefix, Repository, Snapshot, export};

use super::go_on;

/// What lies in a folder, by path: files and all directories.
pub type Folder = BTreeMap<String, Thing>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    File(File),
    Directory,
}

#[derive(Clone, PartialEq, Eq)]
pub struct File {
    pub bytes: Arc<Vec<u8>>,
    pub mtime_ns: i64,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begin = &self.bytes[..self.bytes.len().min(8)];
        write!(f, "{} bytes {begin:02x?}… of {} ns", self.bytes.len(), self.mtime_ns)
    }
}

/// A folder of files with their directories.
pub fn folder_of(files: impl IntoIterator<Item = (String, Vec<u8>, i64)>) -> Folder {
    let mut folder = Folder::new();
    for (path, bytes, mtime_ns) in files {
        create_parents(&mut folder, &path);
        folder.insert(path, Thing::File(File { bytes: Arc::new(bytes), mtime_ns }));
    }
    folder
}

/// Puts the directories above `path` into `folder`.
pub fn create_parents(folder: &mut Folder, path: &str) {
    for (at, _) in path.match_indices('/') {
        folder.entry(path[..at].to_owned()).or_insert(Thing::Directory);
    }
}

/// What lies in the backup folder that `snapshot` is, read entry by entry.
pub fn read_whole(repository: &Repository, snapshot: &Snapshot) -> heirloom_store::Result<Folder> {
    let reader = repository.read(snapshot)?;
    let mut files = Vec::new();
    for item in reader.entries(&Prefix::all()) {
        let (name, entry) = item?;
        let Some(content) = &entry.content else { continue };
        let mut bytes = Vec::new();
        reader.read_file(content, &mut bytes)?;
        files.push((entry.place_for(&name).unwrap().to_string(), bytes, entry.place_mtime_ns.unwrap()));
    }
    Ok(folder_of(files))
}

/// What an export of `snapshot` writes.
pub fn exported(repository: &Repository, snapshot: &Snapshot) -> (Folder, ExportStats) {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("export");
    let reader = repository.read(snapshot).unwrap();
    let stats = export(&reader, &target, &ExportOptions::default(), &go_on).unwrap();
    (folder_at(&target), stats)
}

/// What lies in a folder on disk, without what no snapshot holds: links, pipes, sockets, names that are not UTF-8.
pub fn folder_at(dir: &Path) -> Folder {
    let mut folder = Folder::new();
    read_into(dir, "", &mut folder);
    folder
}

fn read_into(dir: &Path, prefix: &str, folder: &mut Folder) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{prefix}{name}");
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            read_into(&entry.path(), &format!("{path}/"), folder);
            folder.insert(path, Thing::Directory);
        } else if metadata.is_file() {
            let bytes = Arc::new(fs::read(entry.path()).unwrap());
            let mtime_ns = unix_ns(metadata.modified().unwrap());
            folder.insert(path, Thing::File(File { bytes, mtime_ns }));
        }
    }
}

/// Copies a folder with all that lies in it, but for times.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn unix_ns(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i64,
        Err(before) => -(before.duration().as_nanos() as i64),
    }
}
