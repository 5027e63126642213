//! What earlier checks found whole, so that a check costs what has changed.
//!
//! This is local and can be rebuilt: anything that goes wrong with it makes it empty, and a second process does without. What it holds is
//! trusted only by the rule in [`check`](crate::check()).

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::{
    bytes::{Cursor, Malformed, put_varint, unzigzag, zigzag},
    format::pack::{Directory, PackKind, SegmentPack},
    id::{ChunkId, FileHash},
    private,
};

const PACKS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("packs 2");
const ROOTS: TableDefinition<&[u8], ()> = TableDefinition::new("roots 1");
const SEGMENTS: TableDefinition<&[u8], ()> = TableDefinition::new("segments 1");
const CACHE_BYTES: usize = 4 << 20;
/// What was noted of packs is written down after so many bytes of them, or so many packs: a check that is killed has not read in vain.
const NOTED_MAX_BYTES: u64 = 4 << 30;
const NOTED_MAX_PACKS: usize = 8192;

/// What is known of a pack. Times are seconds since 1970, or 0 for never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PackRecord {
    pub(super) kind: PackKind,
    pub(super) len: u64,
    /// Chunks in it.
    pub(super) chunks: u64,
    pub(super) listing: Listing,
    /// When its directory was read well.
    pub(super) directory_at: i64,
    /// When its bytes had their name.
    pub(super) bytes_at: i64,
    /// When every chunk decoded to what its id says.
    pub(super) data_at: i64,
}

/// Which chunks lie where in a pack, in any order: a sum of ids that are random, each weighed by its ordinal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Listing(u128);

impl Listing {
    pub(super) fn of(directory: &Directory) -> Listing {
        let mut listing = Listing::default();
        for (ordinal, chunk) in directory.chunks.iter().enumerate() {
            listing.add(&chunk.id, ordinal as u16);
        }
        listing
    }

    pub(super) fn add(&mut self, id: &ChunkId, ordinal: u16) {
        let weight = 2 * u128::from(ordinal) + 1;
        self.0 = self.0.wrapping_add(u128::from_le_bytes(*id.as_bytes()).wrapping_mul(weight));
    }
}

impl PackRecord {
    fn emit(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        out.push(self.kind as u8);
        put_varint(&mut out, self.len);
        put_varint(&mut out, self.chunks);
        out.extend_from_slice(&self.listing.0.to_le_bytes());
        [self.directory_at, self.bytes_at, self.data_at].iter().for_each(|&at| put_varint(&mut out, zigzag(at)));
        out
    }

    fn parse(bytes: &[u8]) -> Result<PackRecord, Malformed> {
        let mut cursor = Cursor(bytes);
        let kind = PackKind::from_number(cursor.u8()?).ok_or(Malformed)?;
        let (len, chunks) = (cursor.varint()?, cursor.varint()?);
        let listing = Listing(u128::from_le_bytes(cursor.array()?));
        let mut time = || cursor.varint().map(unzigzag);
        Ok(PackRecord { kind, len, chunks, listing, directory_at: time()?, bytes_at: time()?, data_at: time()? })
    }
}

/// What is known, in memory, and in a database if there is one.
#[derive(Default)]
pub(super) struct Ledger {
    database: Option<Database>,
    packs: HashMap<FileHash, PackRecord>,
    /// Roots of trees that were whole.
    roots: HashSet<ChunkId>,
    /// Segments that list the chunks of their packs as these do, and the bases of whose deltas were there.
    segments: HashSet<FileHash>,
    /// Packs whose records are not in the database yet.
    noted: Vec<FileHash>,
    noted_bytes: u64,
}

impl Ledger {
    /// Opens the ledger in `dir`, or one that knows nothing if that cannot be.
    pub(super) fn open(dir: Option<&Path>) -> Ledger {
        let Some(dir) = dir else { return Ledger::default() };
        let path = dir.join("ledger.redb");
        let create = || Database::builder().set_cache_size(CACHE_BYTES).create(&path);
        let rebuild = || fs::remove_file(&path).ok().and_then(|()| create().ok());
        let database = private::create_folder(dir).ok().and_then(|()| match create() {
            Ok(database) => Some(database),
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => None,
            Err(_) => rebuild(),
        });
        let _ = private::restrict_file(&path);
        let mut ledger = Ledger { database, ..Ledger::default() };
        if ledger.read().is_err() {
            // It must be closed before its file goes.
            ledger = Ledger::default();
            ledger.database = rebuild();
        }
        ledger
    }

    /// Whether what is noted will be known to later checks.
    pub(super) fn is_kept(&self) -> bool {
        self.database.is_some()
    }

    /// What is known of a pack while it has its length.
    pub(super) fn pack(&self, pack: &SegmentPack) -> Option<&PackRecord> {
        self.packs.get(&pack.name).filter(|record| (record.kind, record.len) == (pack.kind, pack.len))
    }

    /// All packs, by what they were.
    pub(super) fn packs(&self) -> impl Iterator<Item = SegmentPack> {
        self.packs.iter().map(|(&name, record)| SegmentPack { name, kind: record.kind, len: record.len })
    }

    pub(super) fn roots(&self) -> &HashSet<ChunkId> {
        &self.roots
    }

    pub(super) fn knows_segment(&self, name: &FileHash) -> bool {
        self.segments.contains(name)
    }

    /// Notes what was found of a pack.
    pub(super) fn note(&mut self, name: FileHash, record: PackRecord) {
        self.packs.insert(name, record);
        self.noted.push(name);
        self.noted_bytes += record.len;
        if self.noted_bytes >= NOTED_MAX_BYTES || self.noted.len() >= NOTED_MAX_PACKS {
            self.write_packs();
        }
    }

    /// Notes that a pack is not what it was. That it is expected to be there stays known: trees rely on it.
    pub(super) fn doubt(&mut self, name: &FileHash) {
        if let Some(record) = self.packs.get(name) {
            self.note(*name, PackRecord { directory_at: 0, bytes_at: 0, data_at: 0, ..*record });
        }
    }

    /// Forgets what it knows of trees and segments, now and for all.
    pub(super) fn distrust(&mut self) {
        self.roots.clear();
        self.segments.clear();
        self.write(|ledger, database| ledger.try_write(database, &HashSet::new()));
    }

    /// Writes down what was noted of packs.
    pub(super) fn write_packs(&mut self) {
        self.write(|ledger, database| ledger.try_write_noted(database));
        self.noted.clear();
        self.noted_bytes = 0;
    }

    /// Writes down what holds now: of packs those for which `is_there`, and all of the trees and segments that are whole.
    pub(super) fn save(
        mut self,
        is_there: impl Fn(&SegmentPack) -> bool,
        roots: HashSet<ChunkId>,
        segments: HashSet<FileHash>,
    ) {
        let gone: HashSet<FileHash> = self.packs().filter(|pack| !is_there(pack)).map(|pack| pack.name).collect();
        self.packs.retain(|name, _| !gone.contains(name));
        (self.roots, self.segments) = (roots, segments);
        self.write(|ledger, database| ledger.try_write(database, &gone));
    }

    /// What cannot be written is not kept: the database is given up, so that nothing in it is believed that is no longer so.
    fn write(&mut self, write: impl FnOnce(&Ledger, &Database) -> Result<(), redb::Error>) {
        let Some(database) = self.database.take() else { return };
        if write(self, &database).is_ok() {
            self.database = Some(database);
        }
    }

    fn read(&mut self) -> Result<(), redb::Error> {
        let Some(database) = &self.database else { return Ok(()) };
        let transaction = database.begin_write()?;
        transaction.open_table(PACKS)?;
        transaction.open_table(ROOTS)?;
        transaction.open_table(SEGMENTS)?;
        transaction.commit()?;
        let transaction = database.begin_read()?;
        for item in transaction.open_table(PACKS)?.iter()? {
            let (name, record) = item?;
            let record = PackRecord::parse(record.value()).map_err(|Malformed| malformed())?;
            self.packs.insert(FileHash(array(name.value())?), record);
        }
        for item in transaction.open_table(ROOTS)?.iter()? {
            self.roots.insert(ChunkId(array(item?.0.value())?));
        }
        for item in transaction.open_table(SEGMENTS)?.iter()? {
            self.segments.insert(FileHash(array(item?.0.value())?));
        }
        Ok(())
    }

    fn try_write_noted(&self, database: &Database) -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        self.put_noted(&transaction)?;
        transaction.commit()?;
        Ok(())
    }

    fn try_write(&self, database: &Database, gone: &HashSet<FileHash>) -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        self.put_noted(&transaction)?;
        {
            let mut packs = transaction.open_table(PACKS)?;
            for name in gone {
                packs.remove(name.as_bytes().as_slice())?;
            }
        }
        replace(&transaction, ROOTS, self.roots.iter().map(|root| root.as_bytes().as_slice()))?;
        replace(&transaction, SEGMENTS, self.segments.iter().map(|name| name.as_bytes().as_slice()))?;
        transaction.commit()?;
        Ok(())
    }

    fn put_noted(&self, transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
        let mut noted: Vec<(&FileHash, &PackRecord)> =
            self.noted.iter().filter_map(|name| Some((name, self.packs.get(name)?))).collect();
        noted.sort_unstable_by_key(|(name, _)| **name);
        let mut packs = transaction.open_table(PACKS)?;
        for (name, record) in noted {
            packs.insert(name.as_bytes().as_slice(), record.emit().as_slice())?;
        }
        Ok(())
    }
}

/// Makes a table hold `keys` and no others.
fn replace<'k>(
    transaction: &redb::WriteTransaction,
    table: TableDefinition<&'static [u8], ()>,
    keys: impl Iterator<Item = &'k [u8]>,
) -> Result<(), redb::Error> {
    transaction.delete_table(table)?;
    let mut keys: Vec<&[u8]> = keys.collect();
    keys.sort_unstable();
    let mut table = transaction.open_table(table)?;
    for key in keys {
        table.insert(key, ())?;
    }
    Ok(())
}

fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], redb::Error> {
    bytes.try_into().map_err(|_| malformed())
}

fn malformed() -> redb::Error {
    redb::Error::Corrupted("a row of the ledger is not what was written".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: PackRecord = PackRecord {
        kind: PackKind::Data,
        len: 4096,
        chunks: 3,
        listing: Listing(u128::MAX - 5),
        directory_at: 1,
        bytes_at: 1_700_000_000,
        data_at: 0,
    };

    fn name(n: u8) -> FileHash {
        FileHash([n; 32])
    }

    #[test]
    fn what_was_saved_is_known_and_what_went_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(Some(dir.path()));
        for n in 0..3 {
            ledger.note(name(n), RECORD);
        }
        ledger.save(|pack| pack.name != name(2), [ChunkId([7; 16])].into(), [name(9)].into());
        let mut ledger = Ledger::open(Some(dir.path()));
        assert_eq!(ledger.pack(&SegmentPack { name: name(0), kind: PackKind::Data, len: 4096 }), Some(&RECORD));
        assert_eq!(
            ledger.pack(&SegmentPack { name: name(0), kind: PackKind::Data, len: 4095 }),
            None,
            "it has another length"
        );
        assert_eq!(ledger.packs().count(), 2);
        assert_eq!((ledger.roots().len(), ledger.knows_segment(&name(9))), (1, true));

        ledger.doubt(&name(0));
        ledger.write_packs();
        drop(ledger);
        let mut ledger = Ledger::open(Some(dir.path()));
        let doubted = ledger.pack(&SegmentPack { name: name(0), kind: PackKind::Data, len: 4096 }).unwrap();
        assert_eq!(*doubted, PackRecord { directory_at: 0, bytes_at: 0, ..RECORD }, "it is still expected");
        assert_eq!(ledger.roots().len(), 1);
        ledger.distrust();
        drop(ledger);
        let ledger = Ledger::open(Some(dir.path()));
        assert_eq!((ledger.packs().count(), ledger.roots().len(), ledger.knows_segment(&name(9))), (2, 0, false));
    }

    #[test]
    fn a_damaged_ledger_is_an_empty_one_and_a_second_process_does_without() {
        let dir = tempfile::tempdir().unwrap();
        for garbage in [&b"not a database"[..], &[0; 5000]] {
            fs::write(dir.path().join("ledger.redb"), garbage).unwrap();
            let mut first = Ledger::open(Some(dir.path()));
            let mut second = Ledger::open(Some(dir.path()));
            assert!(first.is_kept() && !second.is_kept());
            second.note(name(1), RECORD);
            second.save(|_| true, HashSet::new(), HashSet::new());
            first.note(name(2), RECORD);
            first.save(|_| true, HashSet::new(), HashSet::new());
            let known: Vec<_> = Ledger::open(Some(dir.path())).packs().map(|pack| pack.name).collect();
            assert_eq!(known, [name(2)]);
        }
        let database = Database::create(dir.path().join("ledger.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(ROOTS).unwrap().insert(&b"too short"[..], ()).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let ledger = Ledger::open(Some(dir.path()));
        assert!(ledger.is_kept() && ledger.packs().count() == 0 && ledger.roots().is_empty());
    }
}
