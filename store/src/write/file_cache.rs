//! What is remembered of files in backup folders, so that an unchanged one is not read again.
//!
//! This is local and can be rebuilt: anything that goes wrong with it makes it empty. redb lets one process in; a second one
//! does without.

use std::{fs, path::Path};

use redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition};

use crate::{
    bytes::{Cursor, put_varint, unzigzag, zigzag},
    format::entry::Content,
    private,
};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("files 1");
const CACHE_BYTES: usize = 16 << 20;
/// What is noted is written down when it takes so much memory.
const NOTED_MAX_BYTES: usize = 8 << 20;
/// What a note takes beside its bytes.
const NOTE_OVERHEAD: usize = 80;

/// What tells that a file has not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// The file system's number for it.
    pub inode: u64,
}

/// Remembers the content of files by their folder, place and stamp.
#[derive(Default)]
pub struct FileCache {
    database: Option<Database>,
    table: Option<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    /// Keys and values that are not in the database yet.
    noted: Vec<(Vec<u8>, Vec<u8>)>,
    noted_bytes: usize,
}

impl FileCache {
    /// A cache that knows nothing and remembers nothing.
    pub fn none() -> FileCache {
        FileCache::default()
    }

    /// Opens the cache in `dir`, or one that knows nothing if that cannot be.
    pub fn open(dir: &Path) -> FileCache {
        let path = dir.join("files.redb");
        let open = || Database::builder().set_cache_size(CACHE_BYTES).create(&path);
        let database = private::create_folder(dir).ok().and_then(|()| match open() {
            Ok(database) => Some(database),
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => None,
            Err(_) => fs::remove_file(&path).ok().and_then(|()| open().ok()),
        });
        let _ = private::restrict_file(&path);
        let mut cache = FileCache { database, ..FileCache::default() };
        cache.open_table();
        cache
    }

    /// The content that the file at `place` of the backup folder `folder` had when its stamp was the same. Of a sealed one, the key is
    /// nothing that is remembered: it has its key from [`Content::with_key`] alone.
    pub fn lookup(&self, folder: &str, place: &str, stamp: &FileStamp) -> Option<Content> {
        let value = self.table.as_ref()?.get(key(folder, place).as_slice()).ok()??;
        let mut cursor = Cursor(value.value());
        let known = FileStamp {
            size: cursor.varint().ok()?,
            mtime_ns: unzigzag(cursor.varint().ok()?),
            inode: cursor.varint().ok()?,
        };
        if known == *stamp { Content::parse(cursor.0) } else { None }
    }

    /// Notes a file's content, to be known after [`save`](FileCache::save) at the latest.
    pub fn remember(&mut self, folder: &str, place: &str, stamp: FileStamp, content: &Content) {
        if self.database.is_none() {
            return;
        }
        let mut value = Vec::with_capacity(96);
        put_varint(&mut value, stamp.size);
        put_varint(&mut value, zigzag(stamp.mtime_ns));
        put_varint(&mut value, stamp.inode);
        value.extend(content.clone().with_key(&[0; 32]).emit());
        let key = key(folder, place);
        self.noted_bytes += key.len() + value.len() + NOTE_OVERHEAD;
        self.noted.push((key, value));
        if self.noted_bytes >= NOTED_MAX_BYTES {
            self.write_noted();
            self.open_table();
        }
    }

    /// Writes down what was noted. A failure means only that those files are read again.
    pub fn save(mut self) {
        self.write_noted();
    }

    fn write_noted(&mut self) {
        // In order, redb writes each of its pages about once.
        self.noted.sort_unstable();
        // A reader would hold on to the pages that are replaced.
        self.table = None;
        let _ = self.try_write();
        self.noted.clear();
        self.noted_bytes = 0;
    }

    fn try_write(&self) -> Result<(), redb::Error> {
        let Some(database) = self.database.as_ref().filter(|_| !self.noted.is_empty()) else { return Ok(()) };
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in &self.noted {
                table.insert(key.as_slice(), value.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn open_table(&mut self) {
        self.table = self.database.as_ref().and_then(|database| database.begin_read().ok()?.open_table(TABLE).ok());
    }
}

/// Places of a folder are neighbours, in order.
fn key(folder: &str, place: &str) -> Vec<u8> {
    [&blake3::hash(folder.as_bytes()).as_bytes()[..16], place.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::entry::Chunks;

    fn content(n: u8) -> Content {
        Content { hash: [n; 32], length: 0, sealing: None, rule: 1, chunks: Chunks::Inline(Vec::new()) }
    }

    const STAMP: FileStamp = FileStamp { size: 5, mtime_ns: -7, inode: 9 };

    #[test]
    fn a_file_is_known_until_anything_of_its_stamp_changes() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = FileCache::open(dir.path());
        cache.remember("/a", "00/1", STAMP, &content(1));
        cache.save();
        let cache = FileCache::open(dir.path());
        assert_eq!(cache.lookup("/a", "00/1", &STAMP), Some(content(1)));
        for stamp in
            [FileStamp { size: 6, ..STAMP }, FileStamp { mtime_ns: -8, ..STAMP }, FileStamp { inode: 1, ..STAMP }]
        {
            assert_eq!(cache.lookup("/a", "00/1", &stamp), None);
        }
        assert_eq!(cache.lookup("/b", "00/1", &STAMP), None);
    }

    #[test]
    fn what_takes_much_memory_is_written_before_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = FileCache::open(dir.path());
        let notes = NOTED_MAX_BYTES / 128;
        for n in 0..notes {
            cache.remember("/a", &format!("{n:08}"), STAMP, &content(1));
            assert!(cache.noted_bytes < NOTED_MAX_BYTES);
        }
        cache.remember("/a", "00000000", STAMP, &content(2));
        cache.save();
        let cache = FileCache::open(dir.path());
        assert!((1..notes).all(|n| cache.lookup("/a", &format!("{n:08}"), &STAMP) == Some(content(1))));
        assert_eq!(cache.lookup("/a", "00000000", &STAMP), Some(content(2)), "the last word counts");
    }

    #[test]
    fn a_damaged_cache_is_an_empty_one_and_a_second_process_does_without() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("files.redb"), b"not a database").unwrap();
        let mut first = FileCache::open(dir.path());
        let mut second = FileCache::open(dir.path());
        second.remember("/a", "00/1", STAMP, &content(2));
        second.save();
        first.remember("/a", "00/1", STAMP, &content(1));
        first.save();
        assert_eq!(FileCache::open(dir.path()).lookup("/a", "00/1", &STAMP), Some(content(1)));
    }
}
