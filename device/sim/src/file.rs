//! A file of the phone: where it lies, what is known of it, what it holds.

use std::fmt;
use std::io::{self, Read};

use sha1::{Digest, Sha1};

use crate::content::Content;

/// Where a file lies: a backup domain and the path within it, `/` between names, no `/` at either end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// As `HomeDomain` or `AppDomain-com.example.app`.
    pub domain: String,
    /// As `Library/SMS/sms.db`; empty for the domain's own folder.
    pub path: String,
}

/// A file, folder or link with its metadata. Times are Unix seconds.
#[derive(Clone, Debug)]
pub struct File {
    /// Whether it is a file, a folder or a link.
    pub kind: Kind,
    /// Bytes of its content; 0 for folders and links.
    pub size: u64,
    /// Its number in the phone's file system. Files that are replaced rather than written in place get another.
    pub inode: u64,
    /// When it was made.
    pub birth: i64,
    /// When its content changed last. Differs whenever the content differs.
    pub modified: i64,
    /// When its metadata changed last.
    pub status_changed: i64,
    /// Data protection class, 1 to 4; 0 for folders and links.
    pub protection_class: u8,
    pub(crate) content: Content,
}

/// What kind of thing a [`File`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link to this path.
    Symlink(String),
}

impl Location {
    /// The place at `path` of `domain`.
    pub fn new(domain: impl Into<String>, path: impl Into<String>) -> Location {
        Location { domain: domain.into(), path: path.into() }
    }

    /// Name of the content in a backup: SHA-1 of `domain-path` in lower-case hex.
    pub fn file_id(&self) -> String {
        let digest = Sha1::new().chain_update(&self.domain).chain_update("-").chain_update(&self.path).finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The folder it is in; none for the domain's own folder.
    pub(crate) fn parent(&self) -> Option<Location> {
        if self.path.is_empty() {
            return None;
        }
        let parent = self.path.rsplit_once('/').map_or("", |(parent, _)| parent);
        Some(Location::new(&*self.domain, parent))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.domain, self.path)
    }
}

impl File {
    /// The content as a stream of [`size`](Self::size) bytes. Fails if the phone's temporary directory has gone.
    pub fn open(&self) -> io::Result<Box<dyn Read>> {
        self.content.open()
    }

    /// The POSIX mode with its type bits.
    pub fn mode(&self) -> u32 {
        match self.kind {
            Kind::File => 0o100_644,
            Kind::Directory => 0o040_755,
            Kind::Symlink(_) => 0o120_755,
        }
    }
}
