//! What can be wrong with a backup folder as a whole.

use std::{io, path::PathBuf};

use crate::PlistError;

/// Why a folder, or a file of it, could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing is there.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The path looked at.
        path: PathBuf,
    },
    /// A folder was expected.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The path looked at.
        path: PathBuf,
    },
    /// A regular file was expected; symbolic links within a backup are not followed.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path looked at.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path worked on.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// A property list cannot be read.
    #[error("{file}: {source}")]
    Plist {
        /// `Info.plist`, `Status.plist` or `Manifest.plist`.
        file: &'static str,
        /// What is wrong with it.
        source: PlistError,
    },
    /// Manifest.db does not begin as an SQLite database: it is encrypted, empty, or something else altogether.
    #[error("{} is not an SQLite database: it is encrypted, empty or overwritten", path.display())]
    NotADatabase {
        /// The database.
        path: PathBuf,
    },
    /// An intact database, but its schema is not that of Manifest.db.
    #[error("{} is a database, but not the manifest of a backup: {why}", path.display())]
    NotAManifest {
        /// The database.
        path: PathBuf,
        /// What is different.
        why: String,
    },
    /// The database is damaged; rows delivered before this error are intact.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was met, and where.
        what: String,
    },
}

impl Error {
    pub(super) fn io(path: &std::path::Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Error::Missing { path },
            io::ErrorKind::NotADirectory => Error::NotAFolder { path },
            _ => Error::Io { path, source },
        }
    }
}
