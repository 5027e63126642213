//! Golden repositories: written once, by the first program of a version of the format, and read by every later one.
//!
//! `tests/repositories/<name>` is a repository, `<name>.json` beside it says what went in: it was taken from the backup folders themselves, and not from the repository.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use heirloom_store::FileHash;
use serde::{Deserialize, Serialize};

use super::{
    Files,
    folder::{Folder, Thing},
    program::Home,
};

/// All of version 1.
pub const V1: [&str; 8] =
    ["v1-open", "v1-encrypted", "v1-chacha", "v1-sealed", "v1-deltas", "v1-pruned", "v1-parity", "v1-marked"];

/// What must be found in a golden repository, and what opens it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Expected {
    /// Of the repository; none if it is open.
    pub password: Option<String>,
    pub recovery_key: Option<String>,
    /// Of the backups in it.
    pub backup_password: Option<String>,
    /// Oldest first.
    pub snapshots: Vec<ExpectedSnapshot>,
    pub trash: Vec<ExpectedSnapshot>,
    /// How many parked runs and prune marks there are.
    pub parked: usize,
    pub marks: usize,
}

/// A snapshot, and the backup folder that it was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedSnapshot {
    pub id: String,
    pub pinned: bool,
    pub sealed: bool,
    /// What Manifest.db names, as `domain:path`, and where it lies.
    pub names: BTreeMap<String, String>,
    pub files: BTreeMap<String, ExpectedFile>,
    /// Those that hold nothing.
    pub directories: BTreeSet<String>,
}

/// A file of a backup folder, by its path there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedFile {
    pub length: usize,
    pub blake3: String,
    pub mtime_ns: i64,
}

impl Expected {
    pub fn of(name: &str) -> Expected {
        serde_json::from_slice(&fs::read(folder().join(format!("{name}.json"))).unwrap()).unwrap()
    }

    pub fn write(&self, name: &str) {
        fs::write(folder().join(format!("{name}.json")), serde_json::to_vec_pretty(self).unwrap()).unwrap();
    }

    /// What the program must be told to open it.
    pub fn variables(&self) -> Vec<(&str, &str)> {
        let password = self.password.as_deref().map(|password| ("HEIRLOOM_PASSWORD", password));
        let backup = self.backup_password.as_deref().map(|password| ("HEIRLOOM_BACKUP_PASSWORD", password));
        password.into_iter().chain(backup).collect()
    }
}

impl ExpectedSnapshot {
    /// Whether this is the folder that the snapshot was made of: bytes, times, and what is empty.
    #[track_caller]
    pub fn assert_is(&self, folder: &Folder, context: &str) {
        let (files, directories) = content_of(folder);
        let differ = |path: &&String| files.get(*path) != self.files.get(*path);
        let different: BTreeSet<&String> = files.keys().chain(self.files.keys()).filter(differ).collect();
        assert!(different.is_empty(), "{context}: {}: {different:?}", self.id);
        assert_eq!(directories, self.directories, "{context}: {}", self.id);
    }
}

/// Where the golden repositories lie.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/repositories")
}

/// A home with a copy of a golden repository, and what must be in it.
pub fn copy_of(name: &str) -> (Home, Expected) {
    let home = Home::empty();
    write_files(&home.path("repo"), &files_at(&folder().join(name)));
    (home, Expected::of(name))
}

/// The files and empty directories of a folder.
pub fn content_of(folder: &Folder) -> (BTreeMap<String, ExpectedFile>, BTreeSet<String>) {
    let (mut files, mut directories) = (BTreeMap::new(), BTreeSet::new());
    for (path, thing) in folder {
        let below = format!("{path}/");
        match thing {
            Thing::File(file) => {
                let blake3 = FileHash::of(&file.bytes).to_string();
                let expected = ExpectedFile { length: file.bytes.len(), blake3, mtime_ns: file.mtime_ns };
                files.insert(path.clone(), expected);
            }
            Thing::Directory if !folder.keys().any(|other| other.starts_with(&below)) => {
                directories.insert(path.clone());
            }
            Thing::Directory => {}
        }
    }
    (files, directories)
}

/// The files of a repository on disk.
pub fn files_at(dir: &Path) -> Files {
    super::folder::folder_at(dir)
        .into_iter()
        .filter_map(|(path, thing)| match thing {
            Thing::File(file) => Some((path, file.bytes.to_vec())),
            Thing::Directory => None,
        })
        .collect()
}

pub fn write_files(dir: &Path, files: &Files) {
    for (path, bytes) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}
