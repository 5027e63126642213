//! What can go wrong, each error naming the thing and what was wrong with it.

use std::io;

use crate::id::{ChunkId, SnapshotId};

/// The result of this library's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a repository failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder holds no `config`.
    #[error("there is no repository here")]
    NoRepository,
    /// `create` found a repository.
    #[error("there is a repository here already")]
    Exists,
    /// `create` found other things.
    #[error("the folder is not empty: it holds {found:?}")]
    NotEmpty {
        /// The first thing found.
        found: String,
    },
    /// A newer format, or something that only a newer program knows. It is authentic, and no damage.
    #[error("{file} needs {what}, which this version of heirloom does not know")]
    Unsupported {
        /// The file of the repository that says so.
        file: String,
        /// The version, the feature, or what else is not known.
        what: String,
    },
    /// The repository has no open slot, and no password was given.
    #[error("the repository needs its password")]
    PasswordNeeded,
    /// No slot opens with this password or recovery key.
    #[error("wrong password for this repository")]
    WrongPassword,
    /// The words do not form a recovery key.
    #[error("not a recovery key: {what}")]
    BadRecoveryKey {
        /// What is wrong with the words.
        what: String,
    },
    /// The slot that was to be removed is the one by which the repository was opened.
    #[error("the repository was opened by this very key")]
    SlotInUse,
    /// No slot has this id.
    #[error("no key has the id {id}")]
    NoSuchSlot {
        /// The id as it was given.
        id: String,
    },
    /// There are as many slots as there may be.
    #[error("no more keys fit: there are 64")]
    TooManySlots,
    /// No session, or more than one, has an id that begins so.
    #[error("no session has the id {id}")]
    NoSuchSession {
        /// The id as it was given.
        id: String,
    },
    /// Somebody else does what only one may do at a time.
    #[error("the repository is busy: {session} is freeing room")]
    Busy {
        /// Who.
        session: String,
    },
    /// Others did not see that this run was at work, or ended its session, and deleted what it relied on.
    #[error("others did not see that this was at work, or took it for dead, and have deleted what it relied on")]
    Overtaken,
    /// A snapshot that was to be forgotten is pinned.
    #[error("snapshot {id} is pinned")]
    Pinned {
        /// The snapshot.
        id: SnapshotId,
    },
    /// A snapshot that was to be gone on with has been forgotten since it was listed.
    #[error("snapshot {id} is not there any more")]
    SnapshotGone {
        /// The snapshot, or parked run.
        id: SnapshotId,
    },
    /// Bytes of the repository that cannot be what was written.
    #[error("{file} is damaged: {what}")]
    Damaged {
        /// The file of the repository, such as `packs/ab/ab12…`.
        file: String,
        /// What did not hold.
        what: String,
    },
    /// A chunk that a snapshot needs is in no pack that can be read.
    #[error("chunk {id} is missing from the repository")]
    ChunkMissing {
        /// The chunk.
        id: ChunkId,
    },
    /// What was read is not the content that was once stored.
    #[error("the content does not have the hash that its snapshot names")]
    WrongContent,
    /// A path or name that the format refuses (SPEC §9).
    #[error("{name:?} cannot be a name in a backup: {why}")]
    InvalidName {
        /// The name as it was given.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// A name that a snapshot does not hold, or not as what was asked for.
    #[error("{name:?}: {what}")]
    NoSuchEntry {
        /// The name or place.
        name: String,
        /// What is there instead.
        what: &'static str,
    },
    /// The folder to export to holds something else.
    #[error("{} exists", target.display())]
    TargetExists {
        /// The folder.
        target: std::path::PathBuf,
    },
    /// Something lies in the folder to export to where something of another kind belongs.
    #[error("{} is in the way: it is not {wanted}", path.display())]
    TargetInTheWay {
        /// The path.
        path: std::path::PathBuf,
        /// `a file` or `a folder`.
        wanted: &'static str,
    },
    /// The folder to export to holds files of another backup, which would be mixed with those of the snapshot.
    #[error("{} holds {number} of another backup, such as {file}", target.display(), number = number_of_files(*files))]
    OtherBackup {
        /// The folder.
        target: std::path::PathBuf,
        /// How many there are that the snapshot has not.
        files: u64,
        /// The first of them, by its place.
        file: String,
    },
    /// Writing an exported file failed.
    #[error("cannot write {}: {source}", path.display())]
    Target {
        /// The file or folder.
        path: std::path::PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The stream that the caller gave could not be read or written.
    #[error("{0}")]
    Source(io::Error),
    /// The system gave no random bytes.
    #[error("the system gives no random numbers: {0}")]
    Random(io::Error),
    /// The storage failed.
    #[error("cannot {action} {name} in the repository: {source}")]
    Storage {
        /// `read`, `write`, `list`, …
        action: &'static str,
        /// The file or folder of the repository.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Two places that were to be of one repository are not.
    #[error("it is another repository")]
    OtherRepository,
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// An earlier failure of this writer, which cannot be used any more.
    #[error("the backup failed earlier: {0}")]
    Failed(String),
}

fn number_of_files(files: u64) -> String {
    if files == 1 { "a file".to_owned() } else { format!("{files} files") }
}

impl Error {
    /// Whether a disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Error::Storage { source, .. } | Error::Target { source, .. } | Error::Source(source) => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// Whether a file would have grown longer than the system or the disk allows.
    pub fn is_too_large(&self) -> bool {
        let source = match self {
            Error::Storage { source, .. } | Error::Target { source, .. } | Error::Source(source) => source,
            _ => return false,
        };
        source.kind() == io::ErrorKind::FileTooLarge
    }

    /// Whether bytes of the repository are damaged or gone.
    pub fn is_damage(&self) -> bool {
        matches!(self, Error::Damaged { .. } | Error::ChunkMissing { .. } | Error::WrongContent)
    }

    /// Whether this is no damage, but something that only a newer program knows.
    pub fn is_newer(&self) -> bool {
        matches!(self, Error::Unsupported { .. })
    }

    /// Whether something cannot be read here, be it damaged or only known to a newer program.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.is_damage() || self.is_newer()
    }

    /// Whether a file of the repository is not there: deleted, perhaps, since it was listed.
    pub(crate) fn is_missing_file(&self) -> bool {
        matches!(self, Error::Storage { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    pub(crate) fn damaged(file: impl Into<String>, what: impl Into<String>) -> Error {
        Error::Damaged { file: file.into(), what: what.into() }
    }

    pub(crate) fn newer(file: impl Into<String>, what: impl Into<String>) -> Error {
        Error::Unsupported { file: file.into(), what: what.into() }
    }
}

/// Why a parser refuses bytes that somebody with the key has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// They break the format.
    Damaged(&'static str),
    /// They hold something that only a newer program knows.
    Newer(String),
}

impl Refused {
    /// The error of who has read them in `file`.
    pub(crate) fn in_file(self, file: impl Into<String>) -> Error {
        match self {
            Refused::Damaged(what) => Error::damaged(file, what),
            Refused::Newer(what) => Error::newer(file, what),
        }
    }
}

impl From<&'static str> for Refused {
    fn from(what: &'static str) -> Refused {
        Refused::Damaged(what)
    }
}

/// Something wrong with one file of a repository that did not stop the operation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file of the repository, such as `packs/ab/ab12…`.
    pub file: String,
    /// The fault, or the thing that is not known.
    pub what: String,
    /// Whether it is no damage: only a newer program knows what is in the file.
    pub is_newer: bool,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.is_newer {
            true => write!(f, "{} needs {}, which this version of heirloom does not know", self.file, self.what),
            false => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

impl Problem {
    pub(crate) fn new(file: impl Into<String>, what: impl std::fmt::Display) -> Problem {
        Problem { file: file.into(), what: what.to_string(), is_newer: false }
    }

    /// The problem that `error` is for `thing`, which it kept from being read.
    pub(crate) fn of(thing: &str, error: Error) -> Problem {
        match error {
            Error::Unsupported { file, what } if file != thing => {
                Problem { file: thing.to_owned(), what: format!("{what} in {file}"), is_newer: true }
            }
            Error::Unsupported { file, what } => Problem { file, what, is_newer: true },
            error => Problem::new(thing, error),
        }
    }

    /// The error that it is for whoever can do nothing because of it.
    pub(crate) fn into_error(self) -> Error {
        let Problem { file, what, is_newer } = self;
        if is_newer { Error::newer(file, what) } else { Error::damaged(file, what) }
    }

    /// The problem that `error` is, seen while reading `file`.
    pub(crate) fn from_error(file: &str, error: Error) -> Problem {
        match error {
            Error::Damaged { file, what } => Problem::new(file, what),
            Error::Storage { name, source, .. } => Problem::new(name, source),
            Error::Unsupported { file, what } => Problem { file, what, is_newer: true },
            other => Problem::new(file, other),
        }
    }
}
