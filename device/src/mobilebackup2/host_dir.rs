//! What a phone asks of its host: a folder that it can fill, rearrange and read back.

use std::{
    fmt,
    io::{self, Read, Write},
    time::SystemTime,
};

/// The most bytes of a path from a phone.
pub(super) const MAX_PATH_BYTES: usize = 4096;
const MAX_PART_BYTES: usize = 255;

/// The folder of one device's backup, as the phone sees it while a backup or a restore runs.
///
/// The phone reads what it has written a moment ago, under its old name and under its new one. The kind of an error
/// reaches the phone: `NotFound`, `AlreadyExists`, `NotADirectory`, `IsADirectory` and `StorageFull` have codes of
/// their own.
pub trait HostDir {
    /// Everything directly in `dir`, files of zero bytes too: a phone that misses one starts over or fails.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory, `NotADirectory` if there is a file.
    fn list(&mut self, dir: &HostPath) -> io::Result<Vec<DirEntry>>;

    /// What lies at `path`.
    ///
    /// # Errors
    /// `NotFound` if there is nothing.
    fn stat(&mut self, path: &HostPath) -> io::Result<Stat>;

    /// Writes the file's content into `into`, and returns the first error of `into` as it is.
    ///
    /// # Errors
    /// `NotFound` if there is nothing, `IsADirectory` if there is a directory.
    fn read_file(&mut self, path: &HostPath, into: &mut dyn Write) -> io::Result<()>;

    /// Makes or replaces a file, and its parents, from `content`, read to its end. `device_path` is where the phone has
    /// it, for people to read.
    ///
    /// # Errors
    /// If `content` fails, the file was cut off: everything is as before, and its error is returned.
    fn write_file(&mut self, path: &HostPath, content: &mut dyn Read, device_path: &str) -> io::Result<()>;

    /// Makes a directory and its parents; one that exists is fine.
    ///
    /// # Errors
    /// `AlreadyExists` or `NotADirectory` if a file is in the way.
    fn create_dir(&mut self, path: &HostPath) -> io::Result<()>;

    /// Moves a file or a tree to a name where nothing is, and makes that name's parents. Neither path is the root, and
    /// neither lies below the other.
    ///
    /// # Errors
    /// `NotFound` if there is nothing at `from`.
    fn rename(&mut self, from: &HostPath, to: &HostPath) -> io::Result<()>;

    /// Copies a file or a tree to a name where nothing is; otherwise as [`rename`](HostDir::rename).
    ///
    /// # Errors
    /// As [`rename`](HostDir::rename).
    fn copy(&mut self, from: &HostPath, to: &HostPath) -> io::Result<()>;

    /// Removes a file, or a directory and all below it. What is not there is removed already. Never called for the root.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&mut self, path: &HostPath) -> io::Result<()>;

    /// How many bytes the phone may still send. A phone needs 128 MiB more than what it will send; a store that
    /// deduplicates may count what it holds already.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&mut self) -> io::Result<u64>;

    /// Makes room for `bytes` if it can, and returns how many bytes became free.
    ///
    /// # Errors
    /// What the system says.
    fn purge(&mut self, bytes: u64) -> io::Result<u64> {
        let _ = bytes;
        Ok(0)
    }
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name, without slashes.
    pub name: String,
    /// What it is.
    pub stat: Stat,
}

/// The entries of a directory.
pub(super) type Listing = Vec<DirEntry>;

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// File or directory.
    pub kind: Kind,
    /// The length of a file; whatever it may be for a directory.
    pub bytes: u64,
    /// When it was written.
    pub modified: SystemTime,
}

/// What kind of thing lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// Neither: a link, say.
    Other,
}

/// A path in the device's folder: relative, parts separated by `/`, none of them empty, `.` or `..`, without zero bytes;
/// at most 4096 bytes, each part at most 255. The root, the folder itself, is the empty path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPath(String);

/// Why a path was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// It begins outside the device's own folder.
    #[error("is not in the device's folder")]
    OtherFolder,
    /// It has an empty part.
    #[error("has an empty part")]
    EmptyPart,
    /// It has a part `.` or `..`.
    #[error("has a part that is . or ..")]
    DotPart,
    /// It contains a zero byte.
    #[error("contains a zero byte")]
    ZeroByte,
    /// It, or a part of it, is too long.
    #[error("is too long")]
    TooLong,
}

impl HostPath {
    /// The device's folder itself.
    pub fn root() -> Self {
        HostPath(String::new())
    }

    /// A path within the device's folder.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn new(path: &str) -> Result<Self, PathError> {
        if path.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        if !path.is_empty() {
            path.split('/').try_for_each(check_part)?;
        }
        Ok(HostPath(path.to_owned()))
    }

    /// A path as the phone sends it: one of `folders`, which are UDIDs, then the path within it. Slashes around all of
    /// it mean nothing.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn from_device(folders: &[&str], sent: &str) -> Result<Self, PathError> {
        if sent.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        let sent = sent.trim_matches('/');
        let (first, rest) = sent.split_once('/').unwrap_or((sent, ""));
        if first.is_empty() || !folders.contains(&first) {
            return Err(PathError::OtherFolder);
        }
        HostPath::new(rest)
    }

    /// The path; empty for the root.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the device's folder itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The entry `name` of this directory.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn join(&self, name: &str) -> Result<Self, PathError> {
        HostPath::new(&if self.is_root() { name.to_owned() } else { format!("{self}/{name}") })
    }

    /// Whether this is `ancestor`, or lies below it.
    pub fn is_within(&self, ancestor: &HostPath) -> bool {
        match self.0.strip_prefix(ancestor.as_str()) {
            Some(rest) => ancestor.is_root() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_part(part: &str) -> Result<(), PathError> {
    match part {
        "" => Err(PathError::EmptyPart),
        "." | ".." => Err(PathError::DotPart),
        _ if part.contains('\0') => Err(PathError::ZeroByte),
        _ if part.len() > MAX_PART_BYTES => Err(PathError::TooLong),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_device_s_folder_is_taken_off() {
        let path = |sent: &str| HostPath::from_device(&["ABC", "DEF"], sent).map(|path| path.0);
        for folder in ["ABC", "DEF"] {
            for (sent, within) in [("", ""), ("/Snapshot/ab/ab12", "Snapshot/ab/ab12"), ("/Snapshot", "Snapshot")] {
                for (before, after) in [("", ""), ("", "/"), ("/", ""), ("//", "//")] {
                    assert_eq!(path(&format!("{before}{folder}{sent}{after}")), Ok(within.into()));
                }
            }
        }
    }

    #[test]
    fn paths_out_of_the_folder_are_refused() {
        let long_part = format!("U/{}", "x".repeat(256));
        let long_path = format!("U{}", "/x".repeat(2048));
        for (sent, expected) in [
            ("", PathError::OtherFolder),
            ("/", PathError::OtherFolder),
            ("/etc/passwd", PathError::OtherFolder),
            ("../U/a", PathError::OtherFolder),
            ("u/a", PathError::OtherFolder),
            ("V/a", PathError::OtherFolder),
            ("Ua", PathError::OtherFolder),
            ("U/..", PathError::DotPart),
            ("U/a/../b", PathError::DotPart),
            ("U/./a", PathError::DotPart),
            ("U/a//b", PathError::EmptyPart),
            ("U//a", PathError::EmptyPart),
            ("/U//a/", PathError::EmptyPart),
            ("U/a\0b", PathError::ZeroByte),
            (&long_part, PathError::TooLong),
            (&long_path, PathError::TooLong),
        ] {
            assert_eq!(HostPath::from_device(&["U"], sent), Err(expected), "{sent}");
        }
    }

    #[test]
    fn within_goes_by_parts() {
        let path = |text| HostPath::new(text).unwrap();
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("a")));
        assert!(path("a").is_within(&HostPath::root()));
        assert!(!path("ab").is_within(&path("a")));
        assert!(!path("a").is_within(&path("a/b")));
    }

    proptest! {
        #[test]
        fn what_is_accepted_stays_inside(sent in "U?(/|\\.|[a-c]|\0|\\PC){0,12}") {
            if let Ok(path) = HostPath::from_device(&["U", ""], &sent) {
                let inside = std::path::Path::new(path.as_str())
                    .components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)));
                prop_assert!(inside, "{sent:?}");
            }
        }
    }
}
