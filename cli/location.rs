//! Paths as they are typed: `~` at the beginning, and what is no path but names a place on another computer.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{MAIN_SEPARATOR, Path, PathBuf},
};

use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser};
use heirloom_store::{LocalStorage, Repository};

use crate::failure::{Exit, Failure, Result};

/// Before a colon these tell other programs of their kind where a repository is.
const SCHEMES: [&str; 28] = [
    "afp", "azure", "b2", "dav", "davs", "dropbox", "file", "ftp", "ftps", "gdrive", "gs", "http", "https", "local",
    "nfs", "onedrive", "rclone", "rest", "rsync", "s3", "scp", "sftp", "smb", "ssh", "swift", "sync", "webdav",
    "webdavs",
];

/// Takes a path from the command line. Shells leave `--to=~/phones` and a `~` in quotes as they are.
pub fn typed() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|path| if path.is_empty() { Err("it is empty") } else { Ok(expand(path)) })
}

/// The same of a path that a variable may give; an empty one counts as not given.
pub fn typed_or_none() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(expand)
}

/// Takes the name or number of a thing, which is not empty.
pub fn named() -> impl TypedValueParser<Value = String> {
    NonEmptyStringValueParser::new()
}

/// A path in which `~` at the beginning is the home of this person.
pub fn expand(path: OsString) -> PathBuf {
    let home = env::var_os(if cfg!(windows) { "USERPROFILE" } else { "HOME" }).map(PathBuf::from);
    expand_by(&path, home.as_deref().filter(|home| home.is_absolute()))
}

fn expand_by(path: &OsStr, home: Option<&Path>) -> PathBuf {
    let mut parts = Path::new(path).components();
    let bare: PathBuf = parts.clone().collect();
    match home.filter(|_| parts.next().is_some_and(|first| first.as_os_str() == "~")) {
        Some(home) => home.join(parts.as_path()),
        // `file/` would be told to be missing.
        None if bare.is_file() => bare,
        None => path.into(),
    }
}

/// Whether two paths lead to the same folder, also where one goes by a link or another mount.
pub fn is_same(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(one), Ok(other)) = (fs::metadata(one), fs::metadata(other)) {
        use std::os::unix::fs::MetadataExt;
        return (one.dev(), one.ino()) == (other.dev(), other.ino());
    }
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

/// Refuses a folder to write into that is a file, or that lies in a repository, where it would be in the way.
pub fn target(path: &Path) -> Result<&Path> {
    local(path)?;
    if path.is_file() {
        return Err(Failure::failed(format!("{} is a file, not a folder", path.display())).hint("give a folder"));
    }
    outside_repositories(path)?;
    Ok(path)
}

/// Refuses a path inside a repository.
pub fn outside_repositories(path: &Path) -> Result<()> {
    let Ok(absolute) = std::path::absolute(path) else { return Ok(()) };
    let there = absolute.ancestors().find_map(|above| above.canonicalize().ok()).unwrap_or(absolute);
    match there.ancestors().find(|above| Repository::probe(&LocalStorage::new(above)).is_ok()) {
        Some(repository) => {
            let message = format!("{} lies in the repository {}", path.display(), repository.display());
            Err(Failure::new(Exit::Usage, message).hint("give a place outside of it"))
        }
        None => Ok(()),
    }
}

/// Refuses what would become a folder of an odd name here, but was meant to be elsewhere.
pub fn local(path: &Path) -> Result<&Path> {
    let Some(text) = path.to_str() else { return Ok(path) };
    let here = format!(".{MAIN_SEPARATOR}{text}");
    let refused = |what: String, hint: &str| {
        let hint = format!("{hint}; a folder of that name here is {here}");
        Err(Failure::new(Exit::Usage, what).hint(hint))
    };
    if let Some(scheme) = remote(text) {
        return refused(
            format!("{text}: {scheme} is a place on another computer, and heirloom works in folders"),
            "mount it, and give the path of the folder",
        );
    }
    if text.starts_with('~') && !path.exists() {
        return refused(format!("{text}: heirloom does not know whose home that is"), "give the whole path");
    }
    Ok(path)
}

/// Returns the part that makes `text` a place elsewhere: the scheme of a URL or of restic and its like, or `user@host`.
fn remote(text: &str) -> Option<&str> {
    let (before, after) = text.split_once(':')?;
    let is_drive = before.len() == 1 && before.starts_with(|letter: char| letter.is_ascii_alphabetic());
    if before.is_empty() || is_drive || before.contains(['/', '\\']) {
        return None;
    }
    let is_scheme = SCHEMES.contains(&&*before.to_ascii_lowercase());
    // `nas:/phones` is where scp and rsync would go.
    (is_scheme || before.contains('@') || after.starts_with('/')).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tilde
    #[test]
    fn a_tilde_at_the_beginning_is_home() {
        let home = Some(Path::new("/home/maria"));
        for (typed, meant) in [
            ("~", "/home/maria"),
            ("~/phones", "/home/maria/phones"),
            ("~/a/../~/b", "/home/maria/a/../~/b"),
            ("./~/phones", "./~/phones"),
            ("/mnt/~", "/mnt/~"),
            ("~paul/phones", "~paul/phones"),
            ("a~", "a~"),
            ("", ""),
        ] {
            assert_eq!(expand_by(OsStr::new(typed), home), Path::new(meant), "{typed}");
        }
        assert_eq!(expand_by(OsStr::new("~/phones"), None), Path::new("~/phones"));
        for refused in ["~", "~/phones", "~paul/phones"] {
            assert_eq!(local(Path::new(refused)).unwrap_err().exit, Exit::Usage, "{refused}");
        }
    }

    /// remote-path
    #[test]
    fn places_on_other_computers_are_refused() {
        for refused in [
            "sftp:user@nas:/phones",
            "SFTP:nas",
            "rest:https://nas:8000/",
            "s3:https://host/bucket",
            "s3://bucket/prefix",
            "unknown://host/x",
            "rclone:remote:path",
            "maria@nas:/x",
            "maria@nas:phones",
            "nas:/phones",
            "file:///mnt/phones",
        ] {
            let failure = local(Path::new(refused)).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{refused}");
            assert!(failure.hint.unwrap().contains(&format!(".{MAIN_SEPARATOR}{refused}")), "{refused}");
        }
        for path in ["/mnt/a:b", "./sftp:x", "a:b", "C:/phones", "C:\\phones", "phones 12:30", ":x", "x"] {
            assert_eq!(remote(path), None, "{path}");
        }
    }
}
