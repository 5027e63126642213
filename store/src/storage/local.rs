//! A folder on a disk, share or stick.
//!
//! A file is written in `tmp/`, synced, and renamed. File systems differ in what they can promise, and answer accordingly:
//! an exFAT stick cannot sync a folder, an SMB share may not sync at all, and a retried rename may find its work done. Those answers are
//! ordinary. That a file exists proves nothing to the readers of a repository, which is what makes this safe.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{LATE_LISTING, Storage, is_of_system, local_disk::is_on_local_disk};
use crate::{
    bytes::random,
    id::encode_hex,
    storage::layout::{CONFIG_FILE, FOLDERS, TEMPORARY_FOLDER},
};

/// Packs lie two folders deep.
const LIST_MAX_DEPTH: usize = 3;
/// How often what others, or an interrupt, may have spoilt is done again in all.
const TRIES: u32 = 10;
/// Errors of macOS for a share, or another file system, whose files it cannot sync, or not to the medium.
const OF_MACOS: [i32; 2] = [25, 45];

/// A repository in a folder.
#[derive(Debug)]
pub struct LocalStorage {
    root: PathBuf,
    calls: Box<dyn Calls>,
    /// Folders whose list of names changed since the last sync, or was read: what another process left there unsynced may be
    /// relied on from then on.
    unsynced: Mutex<BTreeSet<PathBuf>>,
}

/// The calls that change a folder and that file systems answer each in their way; tests answer for them.
trait Calls: Debug + Send + Sync {
    fn create(&self, path: &Path) -> io::Result<File> {
        File::create_new(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<fs::ReadDir> {
        fs::read_dir(path)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    /// As far as the file system does it by itself: macOS is asked to sync to the medium first, which not all can.
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    fn sync_plainly(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fsync(file)?)
    }

    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    fn sync_plainly(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

#[derive(Debug)]
struct SystemCalls;

impl Calls for SystemCalls {}

impl LocalStorage {
    /// The storage at `root`, which is touched only when something is written.
    pub fn new(root: &Path) -> LocalStorage {
        LocalStorage::with_calls(root, Box::new(SystemCalls))
    }

    fn with_calls(root: &Path, calls: Box<dyn Calls>) -> LocalStorage {
        LocalStorage { root: root.to_owned(), calls, unsynced: Mutex::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder itself, or the one above it that there is.
    fn existing(&self) -> io::Result<PathBuf> {
        let root = std::path::absolute(&self.root)?;
        let existing = root.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned);
        Ok(existing.unwrap_or(root))
    }

    fn note_unsynced(&self, path: &Path) {
        self.lock_unsynced().insert(path.parent().unwrap_or(&self.root).to_owned());
    }

    fn lock_unsynced(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if a folder of the repository in which `path` lies is a link. Whoever can write to the repository can make one, and what is behind it is
    /// nothing that this repository may change.
    fn refuse_links(&self, path: &Path) -> io::Result<()> {
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.root) {
            if is_link(folder) {
                let name = folder.strip_prefix(&self.root).unwrap_or(folder).display();
                return Err(io::Error::other(format!("{name} is a link, and behind a link nothing is changed")));
            }
        }
        Ok(())
    }

    /// Creates `path`'s folder, and notes which folders then hold new names.
    fn create_parent(&self, path: &Path) -> io::Result<()> {
        self.refuse_links(path)?;
        let Some(parent) = path.parent() else { return Ok(()) };
        if parent.is_dir() {
            return Ok(());
        }
        for missing in parent.ancestors().take_while(|folder| !folder.is_dir()) {
            self.note_unsynced(missing);
        }
        fs::create_dir_all(parent)
    }

    /// Opens a file in `tmp/` whose name nobody else has.
    fn create_temporary(&self) -> io::Result<(File, PathBuf)> {
        let path = self.path(TEMPORARY_FOLDER).join(encode_hex(&random::<16>()?));
        self.create_parent(&path)?;
        let file = retry(|| self.calls.create(&path))?;
        Ok((file, path))
    }

    fn write_temporary(&self, content: &[u8]) -> io::Result<PathBuf> {
        // A call that was interrupted had done its work. Nobody else has that name, and nobody needs it.
        let (mut file, temporary) = again_if(io::ErrorKind::AlreadyExists, || self.create_temporary())?;
        let written = file.write_all(content).and_then(|()| self.sync_file(&file));
        drop(file);
        match written {
            Ok(()) => Ok(temporary),
            Err(error) => {
                let _ = self.calls.remove(&temporary);
                Err(error)
            }
        }
    }

    fn rename_into_place(&self, temporary: &Path, path: &Path) -> io::Result<()> {
        match retry(|| self.calls.rename(temporary, path)) {
            // Some shares do not rename onto a name that exists. What is there is not what the name promises: `put` compared. But if
            // nothing is left to rename, it was done before the answer came, and what is there is what was written.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_there(temporary) => {
                self.remove(path)?;
                retry(|| self.calls.rename(temporary, path))
            }
            other => other,
        }
    }

    /// Removes a file; an interrupted call may have removed it already.
    fn remove(&self, path: &Path) -> io::Result<()> {
        match retry(|| self.calls.remove(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// A file system that cannot sync says so in one of several ways; there is nothing that could be done instead.
    fn sync_file(&self, file: &File) -> io::Result<()> {
        let synced = match retry(|| self.calls.sync(file)) {
            Err(error) if is_unsupported(&error) => retry(|| self.calls.sync_plainly(file)),
            other => other,
        };
        synced.or_else(|error| if is_unsupported(&error) { Ok(()) } else { Err(error) })
    }

    #[cfg(unix)]
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        match retry(|| File::open(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(folder) => self.sync_file(&folder),
        }
    }

    #[cfg(not(unix))]
    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list_into(&self, folder: &Path, prefix: &str, depth: usize, files: &mut Vec<(String, u64)>) -> io::Result<()> {
        let entries = match self.calls.read_dir(folder) {
            // A link to a disk that is not there is no empty folder. A folder that is there by now was made by another process a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_link(folder) => return Ok(()),
            other => other?,
        };
        self.lock_unsynced().insert(folder.to_owned());
        for entry in entries {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let metadata = match entry.metadata() {
                // Deleted by another process since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if metadata.is_dir() && depth > 1 {
                // At the root of a disk, and on some servers in each folder, lies what nobody may look into.
                if is_of_system(&name) {
                    continue;
                }
                match self.list_into(&entry.path(), &format!("{prefix}{name}/"), depth - 1, files) {
                    Err(error) if is_denied(&error) && folder == self.root && !FOLDERS.contains(&&*name) => {}
                    other => other?,
                }
            } else if metadata.is_file() {
                files.push((format!("{prefix}{name}"), metadata.len()));
            }
        }
        Ok(())
    }

    fn holds(&self, path: &Path, content: &[u8]) -> io::Result<bool> {
        match open(path) {
            Ok(file) if file.metadata()?.len() == content.len() as u64 => {
                Ok(read_part(file, 0, content.len())? == content)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn try_put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        if self.holds(&path, content)? {
            return Ok(());
        }
        self.create_parent(&path)?;
        let temporary = self.write_temporary(content)?;
        match self.rename_into_place(&temporary, &path) {
            // A share may report a failure of what it did.
            Err(error) if is_there(&temporary) || !self.holds(&path, content).unwrap_or(false) => {
                let _ = self.calls.remove(&temporary);
                Err(error)
            }
            _ => {
                self.note_unsynced(&path);
                Ok(())
            }
        }
    }
}

impl Storage for LocalStorage {
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        // Another process may have taken the temporary file for a leftover.
        again_if(io::ErrorKind::NotFound, || self.try_put(name, content))
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        read_part(open(&self.path(name))?, offset, len)
    }

    fn read_anew(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let file = open(&self.path(name))?;
        forget_pages(&file);
        read_part(file, offset, len)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        // A list that was interrupted is not continued: what it has left out would count as absent.
        retry(|| {
            let mut files = Vec::new();
            self.list_into(&self.path(folder), "", LIST_MAX_DEPTH, &mut files)?;
            Ok(files)
        })
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        self.refuse_links(&path)?;
        self.remove(&path)?;
        self.note_unsynced(&path);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut unsynced = self.lock_unsynced();
        while let Some(folder) = unsynced.first() {
            self.sync_folder(folder)?;
            unsynced.pop_first();
        }
        Ok(())
    }

    /// Of the file system, as much as this user may take.
    fn spool(&self) -> io::Result<File> {
        let folder = self.path(TEMPORARY_FOLDER);
        self.refuse_links(&folder.join("spool"))?;
        fs::create_dir_all(&folder)?;
        tempfile::tempfile_in(folder)
    }

    /// The path, and when `config` was made here: a copy at the same path, as on another stick, was made at another time. Of times that tools copy one
    /// more is taken, where there is one, that they cannot.
    fn place(&self) -> String {
        let path = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        let config = fs::metadata(self.path(CONFIG_FILE)).ok();
        let created = config.as_ref().and_then(|config| config.created().ok());
        let created = created.and_then(|created| created.duration_since(std::time::UNIX_EPOCH).ok());
        format!("{}\n{created:?}\n{:?}", path.display(), config.as_ref().and_then(changed_at))
    }

    fn listing_delay(&self) -> Duration {
        if self.existing().is_ok_and(|folder| is_on_local_disk(&folder)) { Duration::ZERO } else { LATE_LISTING }
    }

    fn free_bytes(&self) -> io::Result<Option<u64>> {
        let existing = self.existing()?;
        retry(|| fs4::available_space(&existing)).map(Some)
    }
}

/// When the system has noted a change of a file, its creation among them, in seconds and nanoseconds.
#[cfg(unix)]
fn changed_at(metadata: &fs::Metadata) -> Option<(i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(not(unix))]
fn changed_at(_metadata: &fs::Metadata) -> Option<(i64, i64)> {
    None
}

fn is_link(path: &Path) -> bool {
    retry(|| fs::symlink_metadata(path)).is_ok_and(|metadata| metadata.is_symlink())
}

fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Opens a file to be read. A folder, a pipe or a device in its place, which nobody lists either, is no file: some would never give an answer.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        // Or it would wait for one who writes into the pipe, or take a terminal for its own.
        options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32);
    }
    let file = retry(|| options.read(true).open(path))?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "it is no regular file"))
}

fn read_part(mut file: File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let available = file.metadata()?.len().saturating_sub(offset);
    file.seek(SeekFrom::Start(offset))?;
    let len = (len as u64).min(available);
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Asks the system to forget what it holds of a file in memory. It may not listen.
#[cfg(target_os = "linux")]
fn forget_pages(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
fn forget_pages(_file: &File) {}

/// Whether there is such a file; if that cannot be told, there is.
fn is_there(path: &Path) -> bool {
    retry(|| path.try_exists()).unwrap_or(true)
}

/// Whether a file system says that it cannot sync.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)
        || cfg!(unix) && error.raw_os_error().is_some_and(|code| OF_MACOS.contains(&code))
}

/// Does again, with other names, what fails so.
fn again_if<T>(kind: io::ErrorKind, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES {
        match operation() {
            Err(error) if error.kind() == kind => {}
            other => return other,
        }
    }
    operation()
}

/// Calls again what a signal interrupted.
fn retry<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{
        Depth, Details, Options, PruneOptions, Repository, Source, TreePath, Unlock, check, storage::tests::conforms,
    };

    /// What file systems are known to answer.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Answer {
        /// Every third call was interrupted, and did nothing.
        InterruptedBefore,
        /// Every third call was interrupted when it had done its work.
        InterruptedAfter,
        /// Of three files two exist already when they are created, because a call that was interrupted had created them.
        CreatedExists,
        /// What was renamed is not there any more, because it was renamed.
        RenamedIsMissing,
        /// Its new name exists, because it was renamed.
        RenamedExists,
        /// Nothing is renamed onto a name that exists.
        NeverReplaces,
        CannotSync(io::ErrorKind),
        CannotSyncOnMacOs(i32),
        /// It is not synced to the medium, but as far as the file system does it.
        SyncsPlainly,
    }

    const ANSWERS: [Answer; 11] = [
        Answer::InterruptedBefore,
        Answer::InterruptedAfter,
        Answer::CreatedExists,
        Answer::RenamedIsMissing,
        Answer::RenamedExists,
        Answer::NeverReplaces,
        Answer::CannotSync(io::ErrorKind::Unsupported),
        Answer::CannotSync(io::ErrorKind::InvalidInput),
        Answer::CannotSyncOnMacOs(OF_MACOS[0]),
        Answer::CannotSyncOnMacOs(OF_MACOS[1]),
        Answer::SyncsPlainly,
    ];

    #[derive(Debug)]
    struct Answering {
        answer: Answer,
        calls: AtomicUsize,
        /// Counts files that were synced plainly.
        plain_syncs: Arc<AtomicUsize>,
        fails_plainly: bool,
    }

    impl Answering {
        fn is_third(&self) -> bool {
            self.calls.fetch_add(1, Ordering::Relaxed) % 3 == 2
        }

        fn call<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
            match self.answer {
                Answer::InterruptedBefore if self.is_third() => Err(io::ErrorKind::Interrupted.into()),
                Answer::InterruptedAfter if self.is_third() => call().and(Err(io::ErrorKind::Interrupted.into())),
                _ => call(),
            }
        }
    }

    impl Calls for Answering {
        fn create(&self, path: &Path) -> io::Result<File> {
            match self.answer {
                Answer::CreatedExists if !self.is_third() => {
                    File::create_new(path).and(Err(io::ErrorKind::AlreadyExists.into()))
                }
                _ => self.call(|| File::create_new(path)),
            }
        }

        fn sync(&self, file: &File) -> io::Result<()> {
            match self.answer {
                Answer::CannotSync(kind) => Err(kind.into()),
                Answer::CannotSyncOnMacOs(code) => Err(io::Error::from_raw_os_error(code)),
                Answer::SyncsPlainly => Err(io::Error::from_raw_os_error(OF_MACOS[1])),
                _ => self.call(|| file.sync_all()),
            }
        }

        fn sync_plainly(&self, file: &File) -> io::Result<()> {
            self.plain_syncs.fetch_add(1, Ordering::Relaxed);
            match self.answer {
                Answer::SyncsPlainly if self.fails_plainly => Err(io::Error::other("input/output error")),
                Answer::SyncsPlainly => file.sync_all(),
                _ => self.sync(file),
            }
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            match self.answer {
                Answer::NeverReplaces if to.exists() => Err(io::ErrorKind::AlreadyExists.into()),
                Answer::RenamedIsMissing => fs::rename(from, to).and(Err(io::ErrorKind::NotFound.into())),
                Answer::RenamedExists => fs::rename(from, to).and(Err(io::ErrorKind::AlreadyExists.into())),
                _ => self.call(|| fs::rename(from, to)),
            }
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            self.call(|| fs::remove_file(path))
        }
    }

    /// Lets nobody look into folders of some names.
    #[derive(Debug)]
    struct Denying(&'static [&'static str]);

    impl Calls for Denying {
        fn read_dir(&self, path: &Path) -> io::Result<fs::ReadDir> {
            match path.file_name().and_then(|name| name.to_str()) {
                Some(name) if self.0.contains(&name) => Err(io::ErrorKind::PermissionDenied.into()),
                _ => fs::read_dir(path),
            }
        }
    }

    /// volume-root-init: what the system keeps there, and other people.
    #[test]
    fn a_repository_lives_at_the_root_of_a_disk() {
        const SYSTEM: &[&str] = &[
            "lost+found",
            ".Trashes",
            ".Spotlight-V100",
            "System Volume Information",
            "$Recycle.Bin",
            "@eaDir",
            "paul",
        ];
        let dir = tempfile::tempdir().unwrap();
        for name in SYSTEM {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("file"), b"foreign").unwrap();
        }
        fs::write(dir.path().join("desktop.ini"), b"foreign").unwrap();
        let at = |denied| Arc::new(LocalStorage::with_calls(dir.path(), Box::new(Denying(denied)))) as Arc<dyn Storage>;
        Repository::create(at(SYSTEM), None, &Options::default()).unwrap();
        fs::create_dir_all(dir.path().join("packs/@eaDir")).unwrap();
        let repository = Repository::open(at(SYSTEM), Unlock::Open, None).unwrap();
        let mut editor = repository.edit("A phone", None).unwrap();
        editor.write_file(&TreePath::new("file").unwrap(), None, 0, &mut &b"content"[..]).unwrap();
        editor.name_files().unwrap().commit(Details::new(0, Source::Device)).unwrap();
        assert!(
            check(&repository, Depth::ReadData, &|_| std::ops::ControlFlow::Continue(())).unwrap().problems.is_empty()
        );
        assert!(repository.stats(&|_| std::ops::ControlFlow::Continue(())).is_ok());
        // What is ours and may not be read is no empty repository.
        for ours in [&["snapshots"][..], &["packs"], &["keys"]] {
            let opened = Repository::open(at(ours), Unlock::Open, None)
                .and_then(|repository| repository.snapshots().map(drop).and(repository.write("A phone").map(drop)));
            assert!(matches!(opened, Err(crate::Error::Storage { .. })), "{ours:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_no_empty_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path().join("not mounted"), dir.path().join("snapshots")).unwrap();
        let storage = LocalStorage::new(dir.path());
        assert!(storage.list("snapshots").is_err());
        assert_eq!(storage.list("spares").unwrap(), []);
    }

    /// Another process makes each folder, just after this one has found that it is not there.
    #[derive(Debug)]
    struct Appearing;

    impl Calls for Appearing {
        fn read_dir(&self, path: &Path) -> io::Result<fs::ReadDir> {
            let listed = fs::read_dir(path);
            fs::create_dir_all(path)?;
            listed
        }
    }

    #[test]
    fn folder_that_appears_meanwhile_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let storage = LocalStorage::with_calls(dir.path(), Box::new(Appearing));
        assert_eq!(storage.list("index").unwrap(), []);
        assert!(dir.path().join("index").is_dir());
    }

    /// A file outside of a repository, and a link to its folder in the place of one of the repository's.
    #[cfg(unix)]
    fn with_link(link: &str) -> (tempfile::TempDir, PathBuf, LocalStorage) {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("repository"), dir.path().join("outside"));
        fs::create_dir_all(root.join(link).parent().unwrap()).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), b"private").unwrap();
        std::os::unix::fs::symlink(&outside, root.join(link)).unwrap();
        (dir, outside, LocalStorage::new(&root))
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_changed_behind_a_link() {
        for link in ["tmp", "trash", "packs", "packs/ab"] {
            let (_dir, outside, storage) = with_link(link);
            let file = format!("{link}/file");
            assert!(storage.put(&file, b"other").is_err() && storage.delete(&file).is_err(), "{link}");
            assert!(storage.put(&format!("{link}/new"), b"new").is_err(), "{link}");
            assert_eq!(storage.read(&file, 0, 9).unwrap(), b"private", "{link}: reading does no harm");
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{link}");
        }
        let (_dir, _, storage) = with_link("tmp");
        assert!(storage.put("packs/ab/abcd", b"pack").is_err() && storage.spool().is_err());
    }

    #[cfg(unix)]
    #[test]
    fn link_in_place_of_tmp_costs_nobody_a_file() {
        let (_dir, outside, storage) = with_link("tmp");
        let root = storage.root.clone();
        fs::remove_file(root.join("tmp")).unwrap();
        Repository::create(Arc::new(storage), None, &Options::default()).unwrap();
        fs::remove_dir_all(root.join("tmp")).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("tmp")).unwrap();
        let repository = Repository::open(Arc::new(LocalStorage::new(&root)), Unlock::Open, None).unwrap();
        let pruned = repository.prune(&PruneOptions::default(), &|_| std::ops::ControlFlow::Continue(()));
        let said = format!("{:?}", pruned.unwrap_err());
        assert!(said.contains("tmp is a link"), "{said}");
        assert!(repository.write("A phone").is_err());
        assert!(outside.join("file").exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_no_regular_file_is_no_file() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let dir = tempfile::tempdir().unwrap();
        let storage = LocalStorage::new(dir.path());
        mknodat(CWD, dir.path().join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("device")).unwrap();
        for name in ["pipe", "folder", "device"] {
            for read in [storage.read(name, 0, 9), storage.read_anew(name, 0, 9)] {
                assert_eq!(read.unwrap_err().kind(), io::ErrorKind::NotFound, "{name}");
            }
        }
        storage.put("pipe", b"").unwrap();
        assert_eq!(storage.read("pipe", 0, 9).unwrap(), b"", "and a file takes its place");
    }

    fn answering(dir: &Path, answer: Answer) -> LocalStorage {
        LocalStorage::with_calls(dir, Box::new(answers(answer)))
    }

    fn answers(answer: Answer) -> Answering {
        Answering { answer, calls: AtomicUsize::new(0), plain_syncs: Arc::default(), fails_plainly: false }
    }

    #[test]
    fn what_is_not_synced_to_the_medium_is_synced_plainly() {
        let dir = tempfile::tempdir().unwrap();
        let (answering, failing) = (answers(Answer::SyncsPlainly), answers(Answer::SyncsPlainly));
        let synced = answering.plain_syncs.clone();
        let storage = LocalStorage::with_calls(dir.path(), Box::new(answering));
        storage.put("config", b"one").unwrap();
        assert_eq!(synced.load(Ordering::Relaxed), 1);
        storage.sync().unwrap();
        assert!(synced.load(Ordering::Relaxed) > 1 || !cfg!(unix), "the folders, too");
        let storage = LocalStorage::with_calls(dir.path(), Box::new(Answering { fails_plainly: true, ..failing }));
        assert!(storage.put("other", b"two").is_err(), "what fails then is told");
        assert!(!dir.path().join("other").exists());
    }

    #[test]
    fn copy_of_a_folder_is_another_place() {
        let dir = tempfile::tempdir().unwrap();
        let (first, moved) = (dir.path().join("first"), dir.path().join("moved"));
        let place = |path: &Path| LocalStorage::new(path).place();
        LocalStorage::new(&first).put("config", b"one").unwrap();
        let before = place(&first);
        assert_eq!(before, place(&first));
        LocalStorage::new(&first).put("packs/ab/abcd", b"one").unwrap();
        assert_eq!(before, place(&dir.path().join("first/../first")), "by another name");
        // A stick with a copy is put in the place of the first.
        fs::rename(&first, &moved).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        fs::create_dir(&first).unwrap();
        fs::copy(moved.join("config"), first.join("config")).unwrap();
        assert!(place(&first) != before && place(&moved) != before && place(&first) != place(&moved));
    }

    #[test]
    fn whatever_a_file_system_answers_what_it_did_counts() {
        for answer in ANSWERS {
            let dir = tempfile::tempdir().unwrap();
            println!("{answer:?}");
            conforms(&answering(dir.path(), answer));
            let leftovers = fs::read_dir(dir.path().join("tmp")).unwrap().count();
            // An interrupted call may have created a file of which nobody was told.
            let may_leave = matches!(answer, Answer::InterruptedAfter | Answer::CreatedExists);
            assert!(leftovers == 0 || may_leave, "{answer:?}: {leftovers} files stay in tmp/");
        }
    }

    #[test]
    fn a_repository_lives_on_whatever_answers() {
        for answer in ANSWERS {
            let dir = tempfile::tempdir().unwrap();
            let storage: Arc<dyn Storage> = Arc::new(answering(dir.path(), answer));
            let options = Options { pack_bytes: 4096, ..Options::default() };
            Repository::create(storage.clone(), None, &options).unwrap();
            let repository = Repository::open(storage, Unlock::Open, None).unwrap();
            let mut base = None;
            for generation in 0..4_u8 {
                let mut editor = repository.edit("a phone", base.as_ref()).unwrap();
                let content: Vec<u8> =
                    (0..20_000_u32).flat_map(|n| (n ^ u32::from(generation)).to_le_bytes()).collect();
                let place = TreePath::new(&format!("file {generation}")).unwrap();
                editor.write_file(&place, None, 0, &mut content.as_slice()).unwrap();
                base = Some(editor.commit(Details::new(generation.into(), Source::Import)).unwrap().0);
            }
            repository.forget(&[base.unwrap()]).unwrap();
            repository.prune(&PruneOptions::default(), &|_| std::ops::ControlFlow::Continue(())).unwrap();
            let repository = Repository::open(Arc::new(LocalStorage::new(dir.path())), Unlock::Open, None).unwrap();
            assert_eq!(repository.snapshots().unwrap().snapshots.len(), 3, "{answer:?}");
            let go_on = |_| std::ops::ControlFlow::Continue(());
            let report = check(&repository, Depth::ReadData, &go_on).unwrap();
            assert!(report.problems.is_empty(), "{answer:?}: {:?}", report.problems);
            assert_eq!(fs::read_dir(dir.path().join("sessions")).unwrap().count(), 0, "{answer:?}: a session is left");
        }
    }
}
