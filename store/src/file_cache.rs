//! What is remembered of files in backup folders, so that an unchanged one is not read again.
//!
//! This is local and can be rebuilt: anything that goes wrong with it makes it empty. redb lets one process in; a second one
//! does without.

use std::{fs, path::Path};

use redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition};

use crate::{
    bytes::{Cursor, put_varint, unzigzag, zigzag},
    entry::Content,
};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("files 1");
const CACHE_BYTES: usize = 16 << 20;

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
    remembered: Vec<(Vec<u8>, Vec<u8>)>,
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
        let database = fs::create_dir_all(dir).ok().and_then(|()| match open() {
            Ok(database) => Some(database),
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => None,
            Err(_) => fs::remove_file(&path).ok().and_then(|()| open().ok()),
        });
        let table = database.as_ref().and_then(|database| database.begin_read().ok()?.open_table(TABLE).ok());
        FileCache { database, table, remembered: Vec::new() }
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

    /// Notes a file's content, to be known after [`save`](FileCache::save).
    pub fn remember(&mut self, folder: &str, place: &str, stamp: FileStamp, content: &Content) {
        if self.database.is_none() {
            return;
        }
        let mut value = Vec::with_capacity(96);
        put_varint(&mut value, stamp.size);
        put_varint(&mut value, zigzag(stamp.mtime_ns));
        put_varint(&mut value, stamp.inode);
        value.extend(content.clone().with_key(&[0; 32]).emit());
        self.remembered.push((key(folder, place), value));
    }

    /// Writes down what was noted. A failure means only that those files are read again.
    pub fn save(mut self) {
        // In order, redb writes each of its pages about once.
        self.remembered.sort_unstable();
        self.table = None;
        let _ = self.try_save();
    }

    fn try_save(&self) -> Result<(), redb::Error> {
        let Some(database) = self.database.as_ref().filter(|_| !self.remembered.is_empty()) else { return Ok(()) };
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in &self.remembered {
                table.insert(key.as_slice(), value.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Places of a folder are neighbours, in order.
fn key(folder: &str, place: &str) -> Vec<u8> {
    [&blake3::hash(folder.as_bytes()).as_bytes()[..16], place.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Chunks;

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
