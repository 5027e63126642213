//! SQLite over any source of bytes, such as a database that is decrypted while it is read: it needs no file, and nothing of it lies on a disk.
//!
//! SQLite asks a *VFS* for files. The one here opens the sources that it was handed, each once, and nothing else: no journal, no temporary file. They
//! are read-only and, as far as SQLite is told, never change.
#![expect(unsafe_code, reason = "SQLite calls a VFS through C functions, and rusqlite has no wrapper for them")]

use std::{
    collections::HashMap,
    ffi::{CStr, c_char, c_int, c_void},
    io::{self, Read, Seek, SeekFrom},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr, slice,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rusqlite::{Connection, OpenFlags, ffi};

const VFS_NAME: &CStr = c"heirloom-source";
/// Names are decimal numbers.
const NAME_MAX_LEN: c_int = 32;

/// What SQLite can read.
pub(super) trait Source: Read + Seek + Send {}

impl<S: Read + Seek + Send> Source for S {}

/// The first error of a source, which SQLite does not tell.
#[derive(Clone, Default)]
pub(super) struct SourceError(Arc<Mutex<Option<io::Error>>>);

impl SourceError {
    pub(super) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, error: io::Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }
}

/// A source, and where its errors go.
struct Watched {
    source: Box<dyn Source>,
    error: SourceError,
}

/// Opens the database in `source`. What that fails with is kept in `error`.
pub(super) fn connect(source: Box<dyn Source>, error: &SourceError) -> rusqlite::Result<Connection> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    register()?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    waiting().insert(number, Watched { source, error: error.clone() });
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags_and_vfs(number.to_string(), flags, VFS_NAME);
    waiting().remove(&number);
    opened
}

/// Sources that SQLite has not opened yet, by their names.
fn waiting() -> MutexGuard<'static, HashMap<u64, Watched>> {
    static WAITING: OnceLock<Mutex<HashMap<u64, Watched>>> = OnceLock::new();
    WAITING.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

fn register() -> rusqlite::Result<()> {
    static REGISTERED: OnceLock<c_int> = OnceLock::new();
    let code = *REGISTERED.get_or_init(|| {
        let vfs = Box::leak(Box::new(vfs()));
        // SAFETY: the structure is complete, and lives as long as the process.
        unsafe { ffi::sqlite3_vfs_register(vfs, 0) }
    });
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)) }
}

fn vfs() -> ffi::sqlite3_vfs {
    ffi::sqlite3_vfs {
        iVersion: 1,
        szOsFile: size_of::<File>() as c_int,
        mxPathname: NAME_MAX_LEN,
        pNext: ptr::null_mut(),
        zName: VFS_NAME.as_ptr(),
        pAppData: ptr::null_mut(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: Some(dl_open),
        xDlError: Some(dl_error),
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: None,
        xCurrentTimeInt64: None,
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }
}

/// A source as SQLite holds it: in memory of its own, of the length that it was told.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    /// From [`Box::into_raw`], until SQLite closes the file.
    source: *mut Watched,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let file = file.cast::<File>();
    // SAFETY: SQLite gives `szOsFile` bytes for the file. Without methods it does not close it.
    unsafe { (*file).base.pMethods = ptr::null() };
    if name.is_null() || flags & ffi::SQLITE_OPEN_MAIN_DB == 0 {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: a name that is not null is a string that ends with a zero.
    let name = unsafe { CStr::from_ptr(name) };
    let number = name.to_str().ok().and_then(|name| name.parse().ok());
    let Some(source) = number.and_then(|number: u64| waiting().remove(&number)) else { return ffi::SQLITE_CANTOPEN };
    // SAFETY: as above; `out_flags` may be null, and is an integer otherwise.
    unsafe {
        (*file).source = Box::into_raw(Box::new(source));
        (*file).base.pMethods = &METHODS;
        if !out_flags.is_null() {
            *out_flags = ffi::SQLITE_OPEN_READONLY | ffi::SQLITE_OPEN_MAIN_DB;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file that `open` gave, once.
    let source = unsafe { Box::from_raw((*file.cast::<File>()).source) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(source)));
    ffi::SQLITE_OK
}

/// Gives the source of a file to `with`; a panic there is an error like any other.
///
/// # Safety
/// `file` is one that `open` gave and that is not closed; SQLite uses it from one thread at a time.
unsafe fn with_source(file: *mut ffi::sqlite3_file, with: impl FnOnce(&mut dyn Source) -> io::Result<c_int>) -> c_int {
    // SAFETY: by what is asked of the caller.
    let Watched { source, error } = unsafe { &mut *(*file.cast::<File>()).source };
    match catch_unwind(AssertUnwindSafe(|| with(&mut **source))) {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => {
            error.keep(failure);
            ffi::SQLITE_IOERR
        }
        Err(_) => ffi::SQLITE_IOERR,
    }
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, into: *mut c_void, len: c_int, offset: i64) -> c_int {
    let (Ok(len), Ok(offset)) = (usize::try_from(len), u64::try_from(offset)) else { return ffi::SQLITE_IOERR_READ };
    // SAFETY: SQLite gives room for `len` bytes, which is initialized here first.
    let into = unsafe {
        ptr::write_bytes(into.cast::<u8>(), 0, len);
        slice::from_raw_parts_mut(into.cast::<u8>(), len)
    };
    // SAFETY: the file is open.
    unsafe {
        with_source(file, |source| {
            let is_whole = read_at(source, offset, into)?;
            Ok(if is_whole { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ })
        })
    }
}

/// Whether `into` could be filled before the end.
fn read_at(source: &mut dyn Source, offset: u64, mut into: &mut [u8]) -> io::Result<bool> {
    source.seek(SeekFrom::Start(offset))?;
    while !into.is_empty() {
        match source.read(into) {
            Ok(0) => return Ok(false),
            Ok(count) => into = &mut into[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: the file is open, and `size` is an integer.
    unsafe {
        with_source(file, |source| {
            *size = i64::try_from(source.seek(SeekFrom::End(0))?).map_err(io::Error::other)?;
            Ok(ffi::SQLITE_OK)
        })
    }
}

unsafe extern "C" fn write(_: *mut ffi::sqlite3_file, _: *const c_void, _: c_int, _: i64) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn truncate(_: *mut ffi::sqlite3_file, _: i64) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn sync(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_: *mut ffi::sqlite3_file, is_locked: *mut c_int) -> c_int {
    // SAFETY: SQLite gives an integer.
    unsafe { *is_locked = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_IMMUTABLE
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, _: *const c_char, _: c_int) -> c_int {
    ffi::SQLITE_READONLY
}

/// Nothing exists beside a source.
unsafe extern "C" fn access(_: *mut ffi::sqlite3_vfs, _: *const c_char, _: c_int, exists: *mut c_int) -> c_int {
    // SAFETY: SQLite gives an integer.
    unsafe { *exists = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    into: *mut c_char,
) -> c_int {
    // SAFETY: the name is a string that ends with a zero.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    if !usize::try_from(room).is_ok_and(|room| name.len() <= room) {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: `into` has `room` bytes.
    unsafe { ptr::copy_nonoverlapping(name.as_ptr().cast(), into, name.len()) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn dl_open(_: *mut ffi::sqlite3_vfs, _: *const c_char) -> *mut c_void {
    ptr::null_mut()
}

unsafe extern "C" fn dl_error(_: *mut ffi::sqlite3_vfs, room: c_int, message: *mut c_char) {
    if room > 0 {
        // SAFETY: `message` has `room` bytes.
        unsafe { *message = 0 };
    }
}

/// SQLite takes what is random from its default VFS.
unsafe extern "C" fn randomness(_: *mut ffi::sqlite3_vfs, _: c_int, _: *mut c_char) -> c_int {
    0
}

unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, _: c_int) -> c_int {
    0
}

/// No query here asks for it.
unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, time: *mut f64) -> c_int {
    // SAFETY: SQLite gives a number.
    unsafe { *time = 0.0 };
    ffi::SQLITE_OK
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A database of so many rows.
    fn database(rows: i64) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE numbers (n INTEGER); BEGIN").unwrap();
        for n in 0..rows {
            connection.prepare_cached("INSERT INTO numbers VALUES (?1)").unwrap().execute([n]).unwrap();
        }
        connection.execute_batch("COMMIT").unwrap();
        connection.close().unwrap();
        std::fs::read(path).unwrap()
    }

    fn sum(connection: &Connection) -> rusqlite::Result<i64> {
        connection.query_row("SELECT sum(n) FROM numbers", [], |row| row.get(0))
    }

    /// Gives so many reads, and then fails in its way.
    struct Failing {
        source: Cursor<Vec<u8>>,
        reads: u32,
        panics: bool,
    }

    impl Read for Failing {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.reads = match self.reads.checked_sub(1) {
                Some(left) => left,
                None if self.panics => panic!("a source that panics"),
                None => return Err(io::ErrorKind::ConnectionReset.into()),
            };
            self.source.read(into)
        }
    }

    impl Seek for Failing {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.source.seek(to)
        }
    }

    #[test]
    fn databases_are_read_from_memory_several_at_once() {
        let threads = [1000, 20_000].map(|rows| {
            std::thread::spawn(move || {
                let connection = connect(Box::new(Cursor::new(database(rows))), &SourceError::default()).unwrap();
                (0..50).for_each(|_| assert_eq!(sum(&connection).unwrap(), rows * (rows - 1) / 2));
                assert!(connection.execute_batch("CREATE TABLE other (n)").is_err());
                assert!(connection.execute_batch("ATTACH '/etc/passwd' AS other").is_err());
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(waiting().is_empty());
    }

    #[test]
    fn a_source_that_ends_fails_or_panics_is_an_error() {
        let bytes = database(20_000);
        for reads in [0, 1, 2, 5, 20] {
            for panics in [false, true] {
                let source = Cursor::new(bytes.clone());
                let (source, error) = (Box::new(Failing { source, reads, panics }), SourceError::default());
                let result = connect(source, &error).and_then(|opened| sum(&opened));
                assert!(result.is_err(), "{reads} {panics}");
                let kind = error.take().map(|error| error.kind());
                assert_eq!(kind, (!panics).then_some(io::ErrorKind::ConnectionReset), "{reads}");
            }
        }
        for len in [0, 10, 100, 5000, bytes.len() / 2] {
            let cut = Cursor::new(bytes[..len].to_vec());
            assert!(connect(Box::new(cut), &SourceError::default()).and_then(|opened| sum(&opened)).is_err(), "{len}");
        }
        assert!(waiting().is_empty());
    }
}
