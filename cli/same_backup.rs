//! Whether the repository has a backup already: the same files with the same bytes at the same places. By which keys
//! they are kept, what they are called and when a disk says that they were changed makes no other backup of it.

use std::{
    io::{self, Read},
    path::Path,
};

use heirloom_store::{
    Content, Entry, Error as StoreError, FileCache, FileStamp, Kind, Name, Prefix, Repository, Snapshot,
    SnapshotReader, SnapshotWriter, TreePath,
};

use crate::{
    backup_folder::{self, Contents},
    failure::Result,
    interrupt,
    manifest::MANIFEST_DB,
    missing::Missing,
    report::Progress,
};

/// Files that a phone writes anew for each backup: looked at first, because here two of them differ.
const LISTS: [&str; 4] = ["Status.plist", "Manifest.plist", MANIFEST_DB, "Info.plist"];

/// A backup folder, to be compared with what is kept.
pub struct Folder<'f> {
    pub root: &'f Path,
    pub contents: &'f Contents,
    pub cache: Option<&'f mut FileCache>,
    pub cache_key: &'f str,
    /// Read files that look unchanged, too.
    pub full_read: bool,
    /// Files modified later than this are not remembered.
    pub settled_ns: i64,
    pub progress: &'f Progress<'f>,
}

/// A snapshot that is the same backup.
pub struct Same {
    pub snapshot: Snapshot,
    /// Files that its Manifest.db names and it lacks.
    pub missing: Missing,
}

impl Folder<'_> {
    /// The snapshot of the series that is the same backup: one that can be read, if there is one. `time` is when the
    /// backup was taken, if it says so.
    pub fn find_in(
        &mut self,
        repository: &Repository,
        writer: &SnapshotWriter,
        series: &str,
        time: Option<i64>,
    ) -> Result<Option<Same>> {
        let (files, bytes) = (self.contents.files(), self.contents.bytes);
        let list = repository.snapshots()?;
        // Of the same time, ciphertext comes last.
        let candidates = list.snapshots.into_iter().rev().filter(|Snapshot { record, .. }| {
            let is_counted = (record.files, record.bytes, record.lost_files) == (files, bytes, 0);
            record.series == series && is_counted && time.is_none_or(|time| record.time == time)
        });
        for snapshot in candidates {
            let reader = repository.read(&snapshot)?;
            match self.missing_if_same(&reader, writer) {
                Ok(Some(missing)) => return Ok(Some(Same { snapshot, missing })),
                Ok(None) => {}
                // What has lost something, or cannot be read here, is kept again.
                Err(Trouble::Store(error))
                    if error.is_damage() || error.is_newer() || matches!(error, StoreError::SnapshotGone { .. }) => {}
                // An import tells which file cannot be read.
                Err(Trouble::Folder) => interrupt::check()?,
                Err(Trouble::Store(error)) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The files that the snapshot lacks, if it is the same backup.
    fn missing_if_same(
        &mut self,
        reader: &SnapshotReader,
        writer: &SnapshotWriter,
    ) -> Result<Option<Missing>, Trouble> {
        for list in LISTS {
            let place = TreePath::new(list)?;
            let kept = reader.get(&Name::of_place(&place))?.and_then(|entry| entry.content);
            match (kept, self.contents.stamp(&place)) {
                (None, None) => {}
                (Some(kept), Some(stamp)) if self.is_same(&place, &stamp, &kept)? => {}
                _ => return Ok(None),
            }
        }
        let (mut places, mut missing) = (Vec::new(), Missing::default());
        for item in reader.entries(&Prefix::all()) {
            let (name, entry) = item?;
            match (entry.place_for(&name), entry) {
                (Some(place), Entry { content: Some(content), .. }) => match self.contents.stamp(&place) {
                    Some(stamp) if stamp.size == content.length => places.push((place, stamp, content)),
                    _ => return Ok(None),
                },
                (_, Entry { kind: Kind::File, content: None, .. }) => missing.add(&name),
                _ => {}
            }
        }
        let mut done = heirloom_store::Progress {
            files_total: places.len() as u64,
            bytes_total: self.contents.bytes,
            ..Default::default()
        };
        for (place, stamp, content) in places {
            if !writer.holds(&content)? || !self.is_same(&place, &stamp, &content)? {
                return Ok(None);
            }
            done.files_done += 1;
            done.bytes_done += stamp.size;
            self.progress.update(done);
        }
        Ok(Some(missing))
    }

    /// Whether the file at `place` has the bytes of a content that is kept.
    fn is_same(&mut self, place: &TreePath, stamp: &FileStamp, kept: &Content) -> Result<bool, Trouble> {
        if stamp.size != kept.length {
            return Ok(false);
        }
        let cache = self.cache.as_ref().filter(|_| !self.full_read);
        if let Some(known) = cache.and_then(|cache| cache.lookup(self.cache_key, place.as_str(), stamp)) {
            return Ok(known.hash == kept.hash);
        }
        let (file, opened) = backup_folder::open(self.root, place).map_err(|_| Trouble::Folder)?;
        let hash = Content::hash_of(&mut Interruptible(&file)).map_err(|_| Trouble::Folder)?;
        let after = file.metadata().map_err(|_| Trouble::Folder)?;
        let is_steady = opened == *stamp && backup_folder::stamp_of(&after) == *stamp;
        let is_same = is_steady && hash == kept.hash;
        if let Some(cache) = self.cache.as_mut().filter(|_| is_same && stamp.mtime_ns < self.settled_ns) {
            cache.remember(self.cache_key, place.as_str(), *stamp, kept);
        }
        Ok(is_same)
    }
}

/// The reason why two backups cannot be compared: the repository, or the folder.
enum Trouble {
    Store(StoreError),
    Folder,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        Trouble::Store(error)
    }
}

/// A file whose reading ends early on Ctrl-C.
struct Interruptible<'f>(&'f std::fs::File);

impl Read for Interruptible<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match interrupt::requested() {
            true => Err(io::Error::other("interrupted")),
            false => self.0.read(buffer),
        }
    }
}
