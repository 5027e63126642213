//! What the phone asks for besides contents: listing, moving, copying, removing; and what is answered when it fails.

use std::io;

use super::{
    HostDir, HostPath, Kind, PathError,
    message::{self, Payload},
};
use crate::Error;

/// Why a request of the phone could not be met.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is not allowed.
    Path { path: String, why: PathError },
    /// It failed here.
    Host(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Host(error)
    }
}

impl Fault {
    /// The code that DeviceLink has for it: what Apple's `errno` became, or -1.
    pub fn code(&self) -> i64 {
        match self {
            Fault::Path { .. } => -1,
            Fault::Host(error) => code_of(error),
        }
    }

    /// Why, for the phone's log.
    pub fn text(&self) -> String {
        match self {
            Fault::Path { why, .. } => format!("the path {why}"),
            Fault::Host(error) if error.kind() == io::ErrorKind::NotFound => "No such file or directory".to_owned(),
            Fault::Host(error) => error.to_string(),
        }
    }

    /// Whether all that is wrong is that nothing is there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Fault::Host(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// The error for the caller of the operation.
    pub fn into_error(self) -> Error {
        match self {
            Fault::Path { path, why } => Error::protocol(format!("the path {path:?} {why}")),
            Fault::Host(error) => Error::Host(error),
        }
    }
}

/// The path within the folder that the phone means by `sent`; `folders` are the names that the folder goes by.
pub(super) fn path_in(folders: &[&str], sent: &str) -> Result<HostPath, Fault> {
    HostPath::from_device(folders, sent).map_err(|why| Fault::Path { path: shortened(sent), why })
}

/// As much of a phone's text as belongs into a message.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}

/// The entries of a directory, as they are answered.
pub(super) fn list(host: &mut dyn HostDir, path: &HostPath) -> io::Result<Payload> {
    host.list(path).map(message::listing)
}

/// Moves `from` to `to`, over whatever is there.
pub(super) fn move_item(host: &mut dyn HostDir, from: &HostPath, to: &HostPath) -> io::Result<()> {
    if make_way(host, from, to)? { host.rename(from, to) } else { Ok(()) }
}

/// Copies `from` to `to`, over whatever is there.
pub(super) fn copy_item(host: &mut dyn HostDir, from: &HostPath, to: &HostPath) -> io::Result<()> {
    if make_way(host, from, to)? { host.copy(from, to) } else { Ok(()) }
}

/// Removes `path`; of the root, all that is in it.
pub(super) fn remove(host: &mut dyn HostDir, path: &HostPath) -> io::Result<()> {
    if !path.is_root() {
        return host.remove(path);
    }
    for entry in host.list(path)? {
        let inside = path.join(&entry.name).map_err(io::Error::other)?;
        host.remove(&inside)?;
    }
    Ok(())
}

/// Removes what is at `to`, unless `from` is the same (false), is missing, or would go with it.
fn make_way(host: &mut dyn HostDir, from: &HostPath, to: &HostPath) -> io::Result<bool> {
    host.stat(from)?;
    if from == to {
        return Ok(false);
    }
    if from.is_within(to) || to.is_within(from) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "one of the two paths lies in the other"));
    }
    match host.stat(to) {
        Ok(stat) if stat.kind == Kind::Directory => remove(host, to)?,
        Ok(_) => host.remove(to)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(true)
}

/// ELOOP and EIO, which have no kind of their own.
#[cfg(unix)]
const LOOP: i32 = if cfg!(any(target_os = "linux", target_os = "android")) { 40 } else { 62 };
#[cfg(unix)]
const IO: i32 = 5;

fn code_of(error: &io::Error) -> i64 {
    use io::ErrorKind::*;
    #[cfg(unix)]
    match error.raw_os_error() {
        Some(LOOP) => return -10,
        Some(IO) => return -11,
        _ => {}
    }
    match error.kind() {
        NotFound => -6,
        AlreadyExists => -7,
        NotADirectory => -8,
        IsADirectory => -9,
        // Damage in the place where the backup is kept.
        InvalidData | UnexpectedEof => -11,
        StorageFull | QuotaExceeded => -15,
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mobilebackup2::folder_host_dir::FolderHostDir;

    fn path(text: &str) -> HostPath {
        HostPath::new(text).unwrap()
    }

    fn sample() -> (tempfile::TempDir, FolderHostDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut host = FolderHostDir::new(folder.path());
        for (name, content) in [("a/one", "1"), ("a/deep/two", "2"), ("b/old", "0"), ("file", "f")] {
            host.write_file(&path(name), &mut content.as_bytes(), "").unwrap();
        }
        (folder, host)
    }

    fn content(host: &mut FolderHostDir, name: &str) -> Option<String> {
        let mut bytes = Vec::new();
        host.read_file(&path(name), &mut bytes).ok()?;
        String::from_utf8(bytes).ok()
    }

    #[test]
    fn a_directory_moves_over_a_full_one() {
        let (_folder, mut host) = sample();
        move_item(&mut host, &path("a"), &path("b")).unwrap();
        assert_eq!(content(&mut host, "b/deep/two").unwrap(), "2");
        assert_eq!(content(&mut host, "b/old"), None);
        assert!(host.stat(&path("a")).is_err());
    }

    #[test]
    fn the_parents_of_a_target_are_made() {
        let (_folder, mut host) = sample();
        move_item(&mut host, &path("file"), &path("x/y/z")).unwrap();
        assert_eq!(content(&mut host, "x/y/z").unwrap(), "f");
    }

    #[test]
    fn a_copied_directory_is_whole() {
        let (_folder, mut host) = sample();
        copy_item(&mut host, &path("a"), &path("c")).unwrap();
        assert_eq!(content(&mut host, "c/deep/two").unwrap(), "2");
        assert_eq!(content(&mut host, "a/deep/two").unwrap(), "2");
    }

    #[test]
    fn nothing_is_lost_when_the_paths_overlap_or_the_source_is_missing() {
        let (_folder, mut host) = sample();
        move_item(&mut host, &path("a"), &path("a")).unwrap();
        for (from, to) in [("a/one", "a"), ("a", "a/x"), ("", "b"), ("a", ""), ("missing", "b")] {
            assert!(move_item(&mut host, &path(from), &path(to)).is_err(), "{from} {to}");
            assert!(copy_item(&mut host, &path(from), &path(to)).is_err(), "{from} {to}");
        }
        for name in ["a/one", "a/deep/two", "b/old", "file"] {
            assert!(content(&mut host, name).is_some(), "{name}");
        }
    }

    #[test]
    fn removing_is_recursive_and_missing_is_done() {
        let (_folder, mut host) = sample();
        remove(&mut host, &path("a")).unwrap();
        remove(&mut host, &path("a")).unwrap();
        assert!(host.stat(&path("a")).is_err());
        remove(&mut host, &HostPath::root()).unwrap();
        assert_eq!(host.list(&HostPath::root()).unwrap(), []);
    }

    #[test]
    fn kinds_have_the_codes_that_phones_know() {
        use io::ErrorKind::*;
        for (kind, code) in [
            (NotFound, -6),
            (AlreadyExists, -7),
            (NotADirectory, -8),
            (IsADirectory, -9),
            (InvalidData, -11),
            (StorageFull, -15),
            (PermissionDenied, -1),
        ] {
            assert_eq!(code_of(&kind.into()), code, "{kind}");
        }
        #[cfg(unix)]
        for (errno, code) in [(2, -6), (LOOP, -10), (5, -11), (28, -15), (13, -1)] {
            assert_eq!(code_of(&io::Error::from_raw_os_error(errno)), code, "{errno}");
        }
    }
}
