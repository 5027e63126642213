//! Manifest.db: the SQLite database that lists the files of a backup, in one table:
//! `Files (fileID TEXT PRIMARY KEY, domain TEXT, relativePath TEXT, flags INTEGER, file BLOB)`.
//!
//! The database comes from outside. It is read through [`sqlite_source`] with SQLite's defences on, no index, view, trigger or
//! function of its schema takes part in reading, and the work is bounded by the file's size: in an honest database
//! row ids ascend and the values together are smaller than the file, so [`survey`] stops where that ends.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rusqlite::{Connection, ErrorCode, OptionalExtension, Statement, config::DbConfig, limits::Limit, types::ValueRef};

use super::{
    Attributes, Error, FileId, MbFileError,
    folder::regular_file_bytes,
    sqlite_source::{self, SourceError},
};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const MAX_VALUE_BYTES: i32 = 16 << 20;
const MAX_SCHEMA_SQL_BYTES: i32 = 1 << 20;
const MAX_DOMAIN_BYTES: usize = 255;
const MAX_PATH_BYTES: usize = 4096;

/// Virtual machine instructions between two looks at the budget.
const INSTRUCTIONS_PER_TICK: i32 = 1 << 14;
/// A row is over a hundred bytes and costs about a hundred instructions to read and sort; this is ten times that.
const INSTRUCTIONS_PER_BYTE: u64 = 10;
const BASE_INSTRUCTIONS: u64 = 50_000_000;

/// Values beyond their limits read as NULL, and are never loaded: `octet_length` looks at the row's header alone.
const DOMAIN: &str = "CASE WHEN octet_length(domain) <= 255 THEN domain END";
const PATH: &str = "CASE WHEN octet_length(relativePath) <= 4096 THEN relativePath END";
const FILE_ID: &str = "CASE WHEN octet_length(fileID) <= 40 THEN fileID END";
const BLOB: &str = "CASE WHEN octet_length(file) <= 8388608 THEN file END";

/// An open Manifest.db. Nothing is ever written, neither to it nor beside it.
pub struct ManifestDb {
    path: PathBuf,
    connection: Connection,
    source_error: SourceError,
    instructions: Instructions,
    readable: Survey,
}

/// A row of `Files`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly every row is a record, and none is kept as a row")]
pub enum Row {
    /// A file, folder or link of the phone.
    Record(Record),
    /// A row whose content makes no sense, or is dangerous to use.
    Unusable {
        /// The file's domain and path, escaped for printing, or else the row's number.
        what: String,
        /// What is wrong with it.
        why: RowFlaw,
    },
}

/// A file, folder or link of the phone. Domain and path are checked: see [`RowFlaw`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The name of the blob, as stated; in an honest backup it equals [`FileId::of`] domain and path.
    pub file_id: FileId,
    /// For example `HomeDomain` or `AppDomain-com.example.app`; 1 to 255 bytes.
    pub domain: String,
    /// The path within the domain; empty for the domain's root.
    pub relative_path: String,
    /// What it is.
    pub kind: Kind,
    /// What else the phone keeps of it, or why that cannot be read.
    pub attributes: Result<Attributes, MbFileError>,
}

/// The `flags` column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 1: has a blob in the backup.
    File,
    /// 2
    Directory,
    /// 4
    Symlink,
}

/// Why a row is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowFlaw {
    /// Not text, empty, over 255 bytes, `.` or `..`, or with `/` or control characters.
    #[error("its domain is not a name")]
    Domain,
    /// Not text, absolute, over 4096 bytes, with NUL, or with a part that is empty, `.` or `..`.
    #[error("its path is not a relative path")]
    RelativePath,
    /// Not 40 lower-case hexadecimal digits.
    #[error("its file ID is not a SHA-1")]
    FileId,
    /// Neither 1 (file), 2 (folder) nor 4 (link).
    #[error("its flags say neither file, folder nor link")]
    Flags,
    /// The row before has the same domain and path.
    #[error("it is listed twice")]
    Duplicate,
}

/// The rows that can be read, and what ended them early.
struct Survey {
    rows: usize,
    damage: Option<String>,
}

impl ManifestDb {
    /// Opens the database at `path`, as [`of`](ManifestDb::of) does.
    pub fn open(path: &Path) -> Result<Self, Error> {
        ManifestDb::of(ManifestDb::regular_file(path)?, path)
    }

    /// Opens the file at `path`, which is neither a link nor a pipe.
    pub fn regular_file(path: &Path) -> Result<File, Error> {
        regular_file_bytes(path)?;
        File::open(path).map_err(|source| Error::io(path, source))
    }

    /// Opens the database in `source`, which is at `path` for whoever reads of errors, and reads through its names once, to know how far it is
    /// readable. Nothing of it is written anywhere.
    ///
    /// Damage within the table is no error here: [`ManifestDb::records`] delivers the rows before it.
    pub fn of(mut source: impl Read + Seek + Send + 'static, path: &Path) -> Result<Self, Error> {
        let file_bytes = source.seek(SeekFrom::End(0)).map_err(|error| Error::io(path, error))?;
        expect_magic(&mut source, path)?;
        let instructions = Instructions::new(file_bytes);
        let source_error = SourceError::default();
        let failed = |error| sqlite_error(path, &source_error, error);
        let connection = connect(Box::new(source), &source_error, &instructions).map_err(failed)?;
        if let Some(why) = schema_flaw(&connection).map_err(failed)? {
            return Err(Error::NotAManifest { path: path.to_owned(), why });
        }
        let readable = survey(&connection, file_bytes).map_err(failed)?;
        if let Some(source) = source_error.take() {
            return Err(Error::io(path, source));
        }
        Ok(ManifestDb { path: path.to_owned(), connection, source_error, instructions, readable })
    }

    /// The number of rows that [`ManifestDb::records`] delivers, if the blobs are undamaged.
    pub fn len(&self) -> usize {
        self.readable.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What ends the readable rows early, if anything does.
    pub fn damage(&self) -> Option<&str> {
        self.readable.damage.as_deref()
    }

    /// All rows, ordered by domain and path, bytewise. Takes 8 bytes of memory a row, and their names while they are sorted.
    ///
    /// If the database is damaged, the rows before the damage come first, in order, and [`Error::Damaged`] last.
    pub fn records(&self) -> Result<Records<'_>, Error> {
        self.instructions.refill();
        let failed = |error| self.failed(error);
        let order = sorted_row_ids(&self.connection, self.readable.rows).map_err(failed)?;
        let sql = format!("SELECT {DOMAIN}, {PATH}, {FILE_ID}, flags, {BLOB} FROM Files NOT INDEXED WHERE rowid = ?1");
        Ok(Records {
            db: self,
            row: self.connection.prepare(&sql).map_err(failed)?,
            order: order.into_iter(),
            previous: Default::default(),
            is_ended: false,
        })
    }
}

impl ManifestDb {
    fn failed(&self, error: rusqlite::Error) -> Error {
        sqlite_error(&self.path, &self.source_error, error)
    }
}

/// The rows of a Manifest.db, in order. After an error there are no more.
pub struct Records<'db> {
    db: &'db ManifestDb,
    row: Statement<'db>,
    order: std::vec::IntoIter<i64>,
    /// Domain and path of the last record; no record's domain is empty.
    previous: (String, String),
    is_ended: bool,
}

impl Iterator for Records<'_> {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_ended {
            return None;
        }
        let Some(row_id) = self.order.next() else {
            self.is_ended = true;
            return self.db.damage().map(|what| Err(damaged(&self.db.path, what.to_owned())));
        };
        let row = self.row.query_row([row_id], |row| Ok(read_row(row, row_id))).optional();
        match row {
            Ok(Some(row)) => Some(Ok(self.unless_duplicate(row))),
            Ok(None) => self.end(damaged(&self.db.path, format!("row {row_id} is not where it should be"))),
            Err(error) => self.end(self.db.failed(error)),
        }
    }
}

impl Records<'_> {
    fn end(&mut self, error: Error) -> Option<Result<Row, Error>> {
        self.is_ended = true;
        Some(Err(error))
    }

    /// Rows come sorted, so that equal names are neighbours.
    fn unless_duplicate(&mut self, row: Row) -> Row {
        let Row::Record(record) = &row else {
            return row;
        };
        let (domain, path) = &mut self.previous;
        if *domain == record.domain && *path == record.relative_path {
            let what = printable(&record.domain, &record.relative_path);
            return Row::Unusable { what, why: RowFlaw::Duplicate };
        }
        domain.clone_from(&record.domain);
        path.clone_from(&record.relative_path);
        row
    }
}

/// A budget of SQLite's virtual machine instructions, so that no database takes for ever.
#[derive(Clone)]
struct Instructions {
    full: u64,
    left: Arc<AtomicU64>,
}

impl Instructions {
    fn new(file_bytes: u64) -> Self {
        let full = file_bytes.saturating_mul(INSTRUCTIONS_PER_BYTE).saturating_add(BASE_INSTRUCTIONS);
        Instructions { full, left: Arc::new(AtomicU64::new(full)) }
    }

    fn refill(&self) {
        self.left.store(self.full, Ordering::Relaxed);
    }

    /// Whether the budget is used up.
    fn tick(&self) -> bool {
        let left = self.left.load(Ordering::Relaxed).saturating_sub(INSTRUCTIONS_PER_TICK as u64);
        self.left.store(left, Ordering::Relaxed);
        left == 0
    }
}

fn expect_magic(source: &mut (impl Read + Seek), path: &Path) -> Result<(), Error> {
    let mut start = Vec::new();
    source
        .seek(SeekFrom::Start(0))
        .and_then(|_| source.take(MAGIC.len() as u64).read_to_end(&mut start))
        .map_err(|source| Error::io(path, source))?;
    if start == MAGIC { Ok(()) } else { Err(Error::NotADatabase { path: path.to_owned() }) }
}

fn connect(
    source: Box<dyn sqlite_source::Source>,
    source_error: &SourceError,
    instructions: &Instructions,
) -> rusqlite::Result<Connection> {
    let mut connection = sqlite_source::connect(source, source_error)?;
    let budget = instructions.clone();
    connection.progress_handler(INSTRUCTIONS_PER_TICK, Some(move || budget.tick()))?;
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SCHEMA_SQL_BYTES),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
        (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 3),
        (Limit::SQLITE_LIMIT_VDBE_OP, 25_000),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 1),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, value)?;
    }
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
    ] {
        connection.set_db_config(setting, on)?;
    }
    // What is sorted stays in memory: there are no temporary files.
    connection.execute_batch(
        "PRAGMA query_only = ON; PRAGMA cell_size_check = ON; PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY",
    )?;
    Ok(connection)
}

/// What makes the schema another one than Manifest.db's, if anything does.
fn schema_flaw(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let encoding: String = connection.query_row("PRAGMA encoding", [], |row| row.get(0))?;
    if encoding != "UTF-8" {
        // The order of rows is that of their bytes.
        return Ok(Some(format!("its text is {encoding}")));
    }
    let table = connection
        .query_row("PRAGMA main.table_list('Files')", [], |row| Ok((row.get::<_, String>("type")?, row.get("wr")?)))
        .optional()?;
    match table {
        None => return Ok(Some("it has no table Files".into())),
        Some((kind, without_row_id)) if kind != "table" || without_row_id => {
            return Ok(Some("its Files is not an ordinary table".into()));
        }
        Some(_) => {}
    }
    let mut statement = connection.prepare("PRAGMA main.table_xinfo('Files')")?;
    let columns = statement
        .query_map([], |row| Ok((row.get::<_, String>("name")?.to_ascii_lowercase(), row.get::<_, i64>("hidden")?)))?;
    let columns = columns.collect::<rusqlite::Result<Vec<_>>>()?;
    // A column of this name hides the real row id.
    if columns.iter().any(|(name, _)| name == "rowid") {
        return Ok(Some("its table Files has a column rowid".into()));
    }
    let is_stored = |wanted: &&str| columns.iter().any(|(name, hidden)| name == wanted && *hidden == 0);
    let missing = ["fileid", "domain", "relativepath", "flags", "file"].into_iter().find(|name| !is_stored(name));
    Ok(missing.map(|name| format!("its table Files has no stored column {name}")))
}

/// Reads through the names in the order they are stored in, up to the end, or to the first sign of damage.
fn survey(connection: &Connection, file_bytes: u64) -> rusqlite::Result<Survey> {
    let sql = format!(
        "SELECT rowid, {DOMAIN}, {PATH},
            coalesce(octet_length(fileID), 0) + coalesce(octet_length(domain), 0)
            + coalesce(octet_length(relativePath), 0) + coalesce(octet_length(file), 0)
         FROM Files NOT INDEXED"
    );
    let mut statement = connection.prepare(&sql)?;
    let mut stored = statement.query([])?;
    let (mut rows, mut bytes, mut previous) = (0, 0u64, None);
    let damage = loop {
        let row = match stored.next() {
            Ok(Some(row)) => row,
            Ok(None) => break None,
            Err(error) => break Some(reason(error)),
        };
        let row_id: i64 = row.get(0)?;
        bytes = bytes.saturating_add(row.get::<_, i64>(3)?.unsigned_abs());
        if previous.is_some_and(|previous| row_id <= previous) || bytes > file_bytes {
            break Some("its rows overlap".to_owned());
        }
        previous = Some(row_id);
        rows += 1;
    };
    let damage = damage.map(|what| format!("{what}, after {rows} rows"));
    Ok(Survey { rows, damage })
}

/// The ids of the first `rows` rows, ordered by domain and path. Rows beyond those are not touched.
fn sorted_row_ids(connection: &Connection, rows: usize) -> rusqlite::Result<Vec<i64>> {
    let sql = format!(
        "SELECT id
         FROM (SELECT rowid AS id, {DOMAIN} AS d, {PATH} AS p FROM Files NOT INDEXED ORDER BY rowid LIMIT ?1)
         ORDER BY d COLLATE BINARY, p COLLATE BINARY, id"
    );
    let mut statement = connection.prepare(&sql)?;
    let ids = statement.query_map([rows as i64], |row| row.get(0))?;
    ids.collect()
}

/// Reads domain, path, file ID, flags and MBFile.
fn read_row(row: &rusqlite::Row<'_>, row_id: i64) -> Row {
    let (domain, path) = (text(row, 0), text(row, 1));
    let unusable = |why| {
        let what = match (domain, path) {
            (Some(domain), Some(path)) => printable(domain, path),
            _ => format!("row {row_id}"),
        };
        Row::Unusable { what, why }
    };
    let Some(domain) = domain.filter(|domain| is_domain(domain)) else {
        return unusable(RowFlaw::Domain);
    };
    let Some(path) = path.filter(|path| is_relative_path(path)) else {
        return unusable(RowFlaw::RelativePath);
    };
    let Some(file_id) = text(row, 2).and_then(FileId::parse) else {
        return unusable(RowFlaw::FileId);
    };
    let kind = match row.get_ref(3) {
        Ok(ValueRef::Integer(1)) => Kind::File,
        Ok(ValueRef::Integer(2)) => Kind::Directory,
        Ok(ValueRef::Integer(4)) => Kind::Symlink,
        _ => return unusable(RowFlaw::Flags),
    };
    let attributes = match row.get_ref(4) {
        Ok(ValueRef::Blob(blob)) => Attributes::parse(blob),
        _ => Err(MbFileError::Absent),
    };
    Row::Record(Record { file_id, domain: domain.to_owned(), relative_path: path.to_owned(), kind, attributes })
}

fn text<'row>(row: &'row rusqlite::Row<'_>, column: usize) -> Option<&'row str> {
    match row.get_ref(column) {
        Ok(ValueRef::Text(text)) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

pub(super) fn is_domain(domain: &str) -> bool {
    (1..=MAX_DOMAIN_BYTES).contains(&domain.len())
        && domain != "."
        && domain != ".."
        && !domain.chars().any(|character| character == '/' || character.is_control())
}

pub(super) fn is_relative_path(path: &str) -> bool {
    path.is_empty()
        || path.len() <= MAX_PATH_BYTES
            && !path.contains('\0')
            && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

pub(super) fn printable(domain: &str, path: &str) -> String {
    format!("{}:{}", domain.escape_debug(), path.escape_debug())
}

fn damaged(path: &Path, what: String) -> Error {
    Error::Damaged { path: path.to_owned(), what }
}

fn sqlite_error(path: &Path, source_error: &SourceError, error: rusqlite::Error) -> Error {
    if let Some(source) = source_error.take() {
        return Error::io(path, source);
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::NotADatabase { path: path.to_owned() },
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::DiskFull | ErrorCode::OutOfMemory) => {
            Error::Io { path: path.to_owned(), source: std::io::Error::other(error) }
        }
        _ => damaged(path, reason(error)),
    }
}

fn reason(error: rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => "reading takes far more work than its size allows".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use rusqlite::{params, types::Value};
    use tempfile::TempDir;

    use super::*;
    use crate::backup::mb_file::tests::archive;

    const SCHEMA: &str = "
        CREATE TABLE Files (fileID TEXT PRIMARY KEY, domain TEXT, relativePath TEXT, flags INTEGER, file BLOB);
        CREATE INDEX FilesDomainIdx ON Files(domain);
        CREATE INDEX FilesRelativePathIdx ON Files(relativePath);
        CREATE INDEX FilesFlagsIdx ON Files(flags);
        CREATE TABLE Properties (key TEXT PRIMARY KEY, value BLOB);";

    /// A Manifest.db in a folder of its own.
    struct Made {
        folder: TempDir,
    }

    impl Made {
        fn with(make: impl FnOnce(&Connection)) -> Self {
            let made = Made { folder: tempfile::tempdir().unwrap() };
            let connection = Connection::open(made.path()).unwrap();
            make(&connection);
            connection.close().unwrap();
            made
        }

        fn with_rows(rows: usize) -> Self {
            Self::with(|connection| {
                connection.execute_batch(SCHEMA).unwrap();
                connection.execute_batch("BEGIN").unwrap();
                for number in 0..rows {
                    // Not in the order of the table.
                    let number = (number * 7919) % rows;
                    insert(connection, &format!("Domain{}", number % 7), &format!("Library/é{number}/file.db"));
                }
                connection.execute_batch("COMMIT").unwrap();
            })
        }

        fn of_bytes(bytes: &[u8]) -> Self {
            let made = Made { folder: tempfile::tempdir().unwrap() };
            fs::write(made.path(), bytes).unwrap();
            made
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("Manifest.db")
        }

        fn open(&self) -> Result<ManifestDb, Error> {
            ManifestDb::open(&self.path())
        }
    }

    fn insert(connection: &Connection, domain: &str, path: &str) {
        let id = FileId::of(domain, path).to_string();
        let sql = "INSERT INTO Files VALUES (?1, ?2, ?3, 1, ?4)";
        connection.prepare_cached(sql).unwrap().execute(params![id, domain, path, archive(|_| {})]).unwrap();
    }

    fn rows(db: &ManifestDb) -> Vec<Row> {
        db.records().unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// The flaw of a database's only row, and what it is called.
    fn flaw(values: [Value; 5]) -> Option<(String, RowFlaw)> {
        let made = Made::with(|connection| {
            // No affinities, so that types stay as they are given.
            connection.execute_batch("CREATE TABLE Files (fileID, domain, relativePath, flags, file)").unwrap();
            let sql = "INSERT INTO Files VALUES (?1, ?2, ?3, ?4, ?5)";
            connection.execute(sql, rusqlite::params_from_iter(values)).unwrap();
        });
        match rows(&made.open().unwrap()).remove(0) {
            Row::Record(_) => None,
            Row::Unusable { what, why } => Some((what, why)),
        }
    }

    fn row_of(domain: &str, path: &str) -> [Value; 5] {
        let id = FileId::of(domain, path).to_string();
        [id.into(), domain.to_owned().into(), path.to_owned().into(), 1.into(), Value::Null]
    }

    /// Reads everything there is, whatever it is.
    fn exhaust(made: &Made) -> (usize, Option<Error>) {
        let db = match made.open() {
            Ok(db) => db,
            Err(error) => return (0, Some(error)),
        };
        let (mut rows, mut error) = (0, None);
        match db.records() {
            Err(failed) => error = Some(failed),
            Ok(records) => {
                for row in records {
                    assert!(error.is_none(), "a row after an error");
                    match row {
                        Ok(_) => rows += 1,
                        Err(failed) => error = Some(failed),
                    }
                }
            }
        }
        (rows, error)
    }

    #[test]
    fn what_the_source_fails_with_is_told_and_is_no_damage() {
        struct Fails(std::io::Cursor<Vec<u8>>, u64);
        impl Read for Fails {
            fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
                if self.0.position() >= self.1 { Err(std::io::ErrorKind::TimedOut.into()) } else { self.0.read(into) }
            }
        }
        impl Seek for Fails {
            fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
                self.0.seek(to)
            }
        }
        let bytes = fs::read(Made::with_rows(2000).path()).unwrap();
        for end in [0, 4096, 20_000, bytes.len() as u64 / 2] {
            let source = Fails(std::io::Cursor::new(bytes.clone()), end);
            match ManifestDb::of(source, Path::new("Manifest.db")) {
                Err(Error::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::TimedOut),
                other => panic!("{end}: {:?}", other.map(|db| db.len())),
            }
        }
    }

    #[test]
    fn rows_come_in_the_order_of_their_bytes() {
        let made = Made::with(|connection| {
            connection.execute_batch(SCHEMA).unwrap();
            for (domain, path) in [("b", "a"), ("B", "z"), ("B", "é"), ("B", "Z"), ("B", ""), ("Ba", "a"), ("a-", "")]
            {
                insert(connection, domain, path);
            }
        });
        let order: Vec<String> = rows(&made.open().unwrap())
            .into_iter()
            .map(|row| match row {
                Row::Record(record) => format!("{}:{}", record.domain, record.relative_path),
                Row::Unusable { what, .. } => panic!("{what}"),
            })
            .collect();
        assert_eq!(order, ["B:", "B:Z", "B:z", "B:é", "Ba:a", "a-:", "b:a"]);
    }

    #[test]
    fn nothing_appears_beside_the_database_whatever_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a b?mode=rwc#%41&ü");
        fs::create_dir(&odd).unwrap();
        let path = odd.join("Manifest.db");
        fs::copy(Made::with_rows(10).path(), &path).unwrap();
        let before = fs::read(&path).unwrap();
        let doubled = PathBuf::from(format!("/{}", path.display()));
        assert_eq!(rows(&ManifestDb::open(&doubled).unwrap()).len(), 10);
        let db = ManifestDb::open(&path).unwrap();
        assert_eq!(rows(&db).len(), 10);
        assert!(db.connection.execute("DELETE FROM Files", []).is_err());
        let names: Vec<_> = fs::read_dir(&odd).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["Manifest.db"]);
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn hostile_and_senseless_rows_are_named() {
        for domain in ["HomeDomain", "AppDomain-com.foo", "AppDomainGroup-group.x", "SysContainerDomain-é é", "-"] {
            assert_eq!(flaw(row_of(domain, "")), None, "{domain}");
        }
        for path in ["", "a", "a/b", "...", "..a", "a\nb", "a\\b", "é", "C:", &"x".repeat(4096)] {
            assert_eq!(flaw(row_of("D", path)), None, "{path}");
        }
        for domain in ["", ".", "..", "a/b", "/", "a\0", "a\u{1b}[2J", &"x".repeat(256)] {
            assert_eq!(flaw(row_of(domain, "a")).unwrap().1, RowFlaw::Domain, "{domain}");
        }
        for path in ["/", "/etc", "../..", "a/..", "..", ".", "a/./b", "a//b", "a/", "a\0b", &"x".repeat(4097)] {
            assert_eq!(flaw(row_of("D", path)).unwrap().1, RowFlaw::RelativePath, "{path}");
        }
        assert_eq!(flaw(row_of("D", "../\u{1b}")).unwrap().0, "D:../\\u{1b}");
        assert_eq!(flaw(row_of("D", &"x".repeat(5000))).unwrap().0, "row 1");

        let text = |text: &str| Value::Text(text.to_owned());
        let blob = |text: &str| Value::Blob(text.as_bytes().to_vec());
        let id = FileId::of("D", "a").to_string();
        for (column, value, why) in [
            (0, Value::Null, RowFlaw::FileId),
            (0, blob(&id), RowFlaw::FileId),
            (0, text("../../etc/passwd"), RowFlaw::FileId),
            (0, text(&id.to_uppercase()), RowFlaw::FileId),
            (0, text(&format!("{id}0")), RowFlaw::FileId),
            (1, Value::Null, RowFlaw::Domain),
            (1, Value::Integer(1), RowFlaw::Domain),
            (1, blob("D"), RowFlaw::Domain),
            (2, Value::Null, RowFlaw::RelativePath),
            (2, Value::Real(1.5), RowFlaw::RelativePath),
            (2, blob("a"), RowFlaw::RelativePath),
            (3, Value::Null, RowFlaw::Flags),
            (3, text("1"), RowFlaw::Flags),
            (3, Value::Integer(0), RowFlaw::Flags),
            (3, Value::Integer(3), RowFlaw::Flags),
            (3, Value::Integer(i64::MIN), RowFlaw::Flags),
        ] {
            let mut values = row_of("D", "a");
            values[column] = value.clone();
            assert_eq!(flaw(values).unwrap().1, why, "{value:?}");
        }
    }

    #[test]
    fn text_that_is_not_utf_8_is_unusable() {
        let made = Made::with(|connection| {
            connection.execute_batch(SCHEMA).unwrap();
            let sql = "INSERT INTO Files VALUES (?1, 'D', CAST(x'61ff' AS TEXT), 1, NULL)";
            connection.execute(sql, [FileId::of("D", "a").to_string()]).unwrap();
        });
        let rows = rows(&made.open().unwrap());
        assert!(matches!(&rows[..], [Row::Unusable { why: RowFlaw::RelativePath, .. }]));
    }

    #[test]
    fn a_record_without_a_readable_mb_file_is_still_a_record() {
        let mut rows_made = Vec::new();
        for (path, blob) in [("a", Value::Null), ("b", Value::Blob(b"junk".to_vec())), ("c", Value::Text("x".into()))] {
            let mut values = row_of("D", path);
            values[4] = blob;
            rows_made.push(values);
        }
        let made = Made::with(|connection| {
            connection.execute_batch(SCHEMA).unwrap();
            for values in rows_made {
                let sql = "INSERT INTO Files VALUES (?1, ?2, ?3, ?4, ?5)";
                connection.execute(sql, rusqlite::params_from_iter(values)).unwrap();
            }
        });
        let verdicts: Vec<_> = rows(&made.open().unwrap())
            .into_iter()
            .map(|row| match row {
                Row::Record(record) => record.attributes.unwrap_err(),
                Row::Unusable { what, .. } => panic!("{what}"),
            })
            .collect();
        let not_a_plist = MbFileError::Plist(crate::PlistError::UnknownEncoding);
        assert_eq!(verdicts, [MbFileError::Absent, not_a_plist, MbFileError::Absent]);
    }

    #[test]
    fn a_file_listed_twice_is_unusable_the_second_time() {
        let made = Made::with(|connection| {
            connection.execute_batch("CREATE TABLE Files (fileID, domain, relativePath, flags, file)").unwrap();
            for _ in 0..2 {
                let sql = "INSERT INTO Files VALUES (?1, ?2, ?3, ?4, ?5)";
                connection.execute(sql, rusqlite::params_from_iter(row_of("D", "a"))).unwrap();
            }
        });
        let rows = rows(&made.open().unwrap());
        assert!(matches!(rows[0], Row::Record(_)));
        assert!(matches!(&rows[1], Row::Unusable { why: RowFlaw::Duplicate, what } if what == "D:a"));
    }

    #[test]
    fn values_far_too_large_are_passed_over() {
        let made = Made::with(|connection| {
            connection.execute_batch(SCHEMA).unwrap();
            insert(connection, "D", "a");
            let sql = "INSERT INTO Files VALUES (?1, 'D', ?2, 1, zeroblob(20000000))";
            connection.execute(sql, [FileId::of("D", "b").to_string(), "x".repeat(20_000_000)]).unwrap();
            connection.execute(sql, [FileId::of("D", "c").to_string(), "c".to_owned()]).unwrap();
        });
        let rows = rows(&made.open().unwrap());
        assert_eq!(rows.len(), 3);
        assert!(matches!(&rows[0], Row::Unusable { why: RowFlaw::RelativePath, what } if what == "row 2"));
        assert!(matches!(&rows[2], Row::Record(Record { attributes: Err(MbFileError::Absent), .. })));
    }

    #[test]
    fn other_schemas_are_refused() {
        for schema in [
            "",
            "CREATE TABLE Other (a)",
            "CREATE TABLE Files (fileID, domain, relativePath, flags)",
            "CREATE TABLE Files (fileID, domain, relativePath, flags, file AS (zeroblob(1000000000)))",
            "CREATE TABLE Files (fileID, domain, relativePath, flags, file AS (flags) STORED)",
            "CREATE TABLE Files (fileID, domain, relativePath, flags, file, rowid)",
            "CREATE TABLE Files (fileID PRIMARY KEY, domain, relativePath, flags, file) WITHOUT ROWID",
            "CREATE TABLE T (fileID, domain, relativePath, flags, file); CREATE VIEW Files AS SELECT * FROM T",
            "CREATE VIEW Files AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)
                SELECT x AS fileID, x AS domain, x AS relativePath, 1 AS flags, zeroblob(1000000) AS file FROM c",
            "CREATE VIRTUAL TABLE Files USING fts5(fileID, domain, relativePath, flags, file)",
            "PRAGMA encoding = 'UTF-16'; CREATE TABLE Files (fileID, domain, relativePath, flags, file)",
        ] {
            let made = Made::with(|connection| {
                connection.execute_batch(schema).unwrap();
                connection.execute_batch("CREATE TABLE more (a)").unwrap();
            });
            let refused = made.open().err();
            assert!(matches!(refused, Some(Error::NotAManifest { .. })), "{schema}: {refused:?}");
        }
    }

    #[test]
    fn other_things_in_the_schema_take_no_part() {
        let made = Made::with(|connection| {
            connection.execute_batch(SCHEMA).unwrap();
            insert(connection, "D", "a");
            let more = "
                CREATE VIEW endless AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c;
                CREATE TRIGGER t AFTER INSERT ON Files BEGIN SELECT * FROM endless; END;
                CREATE INDEX partial ON Files(domain, relativePath) WHERE flags = 99;
                PRAGMA journal_mode = WAL;";
            connection.execute_batch(more).unwrap();
        });
        assert_eq!(rows(&made.open().unwrap()).len(), 1);
    }

    #[test]
    fn what_is_no_database_is_told_from_a_damaged_one() {
        for bytes in [&b""[..], b"SQLite", &[0x5a; 4096], b"bplist00"] {
            assert!(matches!(Made::of_bytes(bytes).open(), Err(Error::NotADatabase { .. })));
        }
        let whole = fs::read(Made::with_rows(500).path()).unwrap();
        let cut = Made::of_bytes(&whole[..whole.len() / 2]);
        assert!(matches!(cut.open(), Err(Error::Damaged { .. })));
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(ManifestDb::open(&folder.path().join("none")), Err(Error::Missing { .. })));
        assert!(matches!(ManifestDb::open(folder.path()), Err(Error::NotAFile { .. })));
    }

    #[test]
    fn rows_before_the_damage_are_delivered_in_order() {
        let made = Made::with_rows(2000);
        // The leaf that holds the middle of the table; `dbstat` lists leaves in the order of their rows.
        let connection = Connection::open(made.path()).unwrap();
        let sql =
            "SELECT pageno FROM dbstat WHERE name = 'Files' AND pagetype = 'leaf' ORDER BY path LIMIT 1 OFFSET 100";
        let page = connection.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap() as usize;
        connection.close().unwrap();
        let mut bytes = fs::read(made.path()).unwrap();
        bytes[(page - 1) * 4096..page * 4096].fill(0xff);
        let made = Made::of_bytes(&bytes);

        let db = made.open().unwrap();
        assert!((100..1900).contains(&db.len()), "{}", db.len());
        let mut records: Vec<_> = db.records().unwrap().collect();
        assert!(matches!(records.pop(), Some(Err(Error::Damaged { .. }))));
        assert_eq!(records.len(), db.len());
        let names: Vec<_> = records
            .iter()
            .map(|row| match row {
                Ok(Row::Record(record)) => (&record.domain, &record.relative_path),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(names.is_sorted());
    }

    #[test]
    fn truncation_anywhere_ends_in_a_verdict() {
        let whole = fs::read(Made::with_rows(300).path()).unwrap();
        let lengths = (0..600).step_by(7).chain((600..whole.len()).step_by(2048));
        for length in lengths {
            let (_, error) = exhaust(&Made::of_bytes(&whole[..length]));
            assert!(error.is_some(), "{length} bytes of {}", whole.len());
        }
    }

    #[test]
    fn flipped_bytes_end_in_a_verdict() {
        let whole = fs::read(Made::with_rows(60).path()).unwrap();
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 11) as usize % bound
        };
        let started = Instant::now();
        for round in 0..1500 {
            let mut bytes = whole.clone();
            for _ in 0..1 + round % 5 {
                // Headers of the file and of its pages are where structure is.
                let page = next(bytes.len() / 4096) * 4096;
                let place = if next(2) == 0 { page + next(120) } else { next(bytes.len()) };
                bytes[place] = next(256) as u8;
            }
            exhaust(&Made::of_bytes(&bytes));
        }
        assert!(started.elapsed().as_secs() < 300, "{:?}", started.elapsed());
    }

    /// An interior page whose children are all the same page, level upon level: exponentially many rows in few bytes.
    #[test]
    fn pages_shared_by_many_parents_end_quickly() {
        let made = Made::with_rows(2000);
        let connection = Connection::open(made.path()).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'Files'";
        let root = connection.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap() as usize;
        connection.close().unwrap();
        let mut bytes = fs::read(made.path()).unwrap();
        let root = (root - 1) * 4096;
        assert_eq!(bytes[root], 5, "an interior page");
        let cells = u16::from_be_bytes([bytes[root + 3], bytes[root + 4]]) as usize;
        let cell = |index: usize| {
            root + u16::from_be_bytes([bytes[root + 12 + 2 * index], bytes[root + 13 + 2 * index]]) as usize
        };
        let places: Vec<usize> = (0..cells).map(cell).collect();
        let first: Vec<u8> = bytes[places[0]..places[0] + 4].to_vec();
        for place in places {
            bytes[place..place + 4].copy_from_slice(&first);
        }
        let started = Instant::now();
        let (rows, error) = exhaust(&Made::of_bytes(&bytes));
        assert!(rows < 2000);
        assert!(matches!(error, Some(Error::Damaged { .. })));
        assert!(started.elapsed().as_secs() < 5);
    }

    #[test]
    fn the_work_is_bounded() {
        let made = Made::with_rows(10);
        let db = made.open().unwrap();
        let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";
        let error = db.connection.query_row(endless, [], |row| row.get::<_, i64>(0)).unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(ErrorCode::OperationInterrupted));
        // The next reading starts with a full budget.
        assert_eq!(rows(&db).len(), 10);
    }
}
