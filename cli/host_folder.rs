//! The folder that a phone uses as its host's disk: for a backup a snapshot being edited, for a restore one being read.
//! Neither is on a disk.

use std::{
    io::{self, ErrorKind, Read, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use heirloom_device::mobilebackup2::{DirEntry, HostDir, HostPath, Kind, Stat};
use heirloom_store::{
    Error as StoreError, Repository, Snapshot, SnapshotEditor, SnapshotFolder, Stat as StoreStat, TreePath,
};

use crate::{backup_folder::nanoseconds, failure::Failure, manifest::MANIFEST_DB};

/// Property lists of a backup are some kilobytes; with the icons of all apps some megabytes.
const PROPERTY_LIST_MAX_LEN: u64 = 64 << 20;
/// What the phone sends goes here first, and to its place when all of it has come.
const WORK_AREA: &str = "Snapshot";
/// Made by the host, anew for each backup.
const INFO_PLIST: &str = "Info.plist";
/// Free room that is kept from a phone whose contents are held back, for the files that are written beside them.
const RESERVE: u64 = 256 << 20;

/// A backup folder in a repository, for a phone to fill.
pub struct HostFolder<'r> {
    repository: &'r Repository,
    editor: SnapshotEditor,
    /// Bytes that the phone will send but that the repository has.
    known_bytes: u64,
    /// Whether contents wait for the keys by which the phone encrypted them.
    holds_back: bool,
    /// Whether anything but the work area was changed.
    is_rearranged: bool,
    begun: SystemTime,
    /// Why a file could not be read, the first time. Phones take it for a file that is missing.
    unread: Option<Failure>,
    /// Whether the phone goes on from the backup that is here, or begins anew.
    going_on: GoingOn,
}

/// A phone that goes on from a backup reads its Manifest.db first. One whose backup password was changed has other
/// keys, and begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GoingOn {
    /// It may do as it likes.
    Free,
    /// It is to go on, and has not read Manifest.db yet.
    Expected,
    /// It was about to begin anew, and was stopped before it sent anything.
    Stopped,
}

impl<'r> HostFolder<'r> {
    pub fn new(
        repository: &'r Repository,
        editor: SnapshotEditor,
        known_bytes: u64,
        holds_back: bool,
    ) -> HostFolder<'r> {
        HostFolder {
            repository,
            editor,
            known_bytes,
            holds_back,
            is_rearranged: false,
            begun: SystemTime::now(),
            unread: None,
            going_on: GoingOn::Free,
        }
    }

    /// Stops a phone that does not go on from the backup that is here, before it sends a file.
    pub fn stop_beginning_anew(&mut self) {
        let has_database = place(MANIFEST_DB).is_ok_and(|database| self.editor.stat(&database).is_some());
        self.going_on = if has_database { GoingOn::Expected } else { GoingOn::Free };
    }

    /// Whether the phone was stopped because it began anew.
    pub fn has_stopped(&self) -> bool {
        self.going_on == GoingOn::Stopped
    }

    /// Fails if something is about to be sent by a phone that has not read what it should go on from.
    fn check_going_on(&mut self, path: &HostPath) -> io::Result<()> {
        let is_in_work_area = HostPath::new(WORK_AREA).is_ok_and(|area| path.is_within(&area));
        if !is_in_work_area || self.going_on == GoingOn::Free {
            return Ok(());
        }
        self.going_on = GoingOn::Stopped;
        Err(io::Error::other("the phone begins anew"))
    }

    /// Why the store could not give the phone a file that it holds, if that has happened.
    pub fn unread(&mut self) -> Option<Failure> {
        self.unread.take()
    }

    /// How many bytes must be free on the disk for the phone to be told `told`.
    pub fn room_for(&self, told: u64) -> u64 {
        told.saturating_sub(self.known_bytes).saturating_add(self.reserve())
    }

    fn reserve(&self) -> u64 {
        if self.holds_back { RESERVE } else { 0 }
    }

    /// The editor, once the phone is done.
    pub fn into_editor(self) -> SnapshotEditor {
        self.editor
    }

    /// Whether a phone can begin anew on this folder as if it had not begun: what it has sent lies in the work area
    /// alone.
    pub fn can_be_parked(&self) -> bool {
        let is_begun = place(WORK_AREA).is_ok_and(|area| self.editor.stat(&area).is_some());
        is_begun && !self.is_rearranged && !self.holds_back
    }

    /// A property list of the backup, if it is there and as long as one may be.
    pub fn property_list(&mut self, name: &str) -> heirloom_store::Result<Option<Vec<u8>>> {
        let place = TreePath::new(name)?;
        property_list(self.editor.stat(&place), |bytes| self.editor.read_file(&place, bytes))
    }

    fn touch(&mut self, path: &HostPath) {
        let is_expected =
            path.as_str() == INFO_PLIST || HostPath::new(WORK_AREA).is_ok_and(|area| path.is_within(&area));
        self.is_rearranged |= !is_expected;
    }
}

impl HostDir for HostFolder<'_> {
    fn list(&mut self, dir: &HostPath) -> io::Result<Vec<DirEntry>> {
        let folder = if dir.is_root() { None } else { Some(place(dir.as_str())?) };
        if let Some(folder) = &folder {
            match self.editor.stat(folder) {
                None => return Err(ErrorKind::NotFound.into()),
                Some(StoreStat::File { .. }) => return Err(ErrorKind::NotADirectory.into()),
                Some(StoreStat::Directory) => {}
            }
        }
        let listed = self.editor.list(folder.as_ref()).map_err(failed)?;
        Ok(listed.into_iter().map(|(name, found)| DirEntry { name, stat: stat_of(found, self.begun) }).collect())
    }

    fn stat(&mut self, path: &HostPath) -> io::Result<Stat> {
        if path.is_root() {
            return Ok(stat_of(StoreStat::Directory, self.begun));
        }
        let found = self.editor.stat(&place(path.as_str())?).ok_or(ErrorKind::NotFound)?;
        Ok(stat_of(found, self.begun))
    }

    fn read_file(&mut self, path: &HostPath, into: &mut dyn Write) -> io::Result<()> {
        let place = place(path.as_str())?;
        if path.as_str() == MANIFEST_DB && self.going_on == GoingOn::Expected {
            self.going_on = GoingOn::Free;
        }
        match self.editor.stat(&place) {
            None => Err(ErrorKind::NotFound.into()),
            Some(StoreStat::Directory) => Err(ErrorKind::IsADirectory.into()),
            Some(StoreStat::File { .. }) => self.editor.read_file(&place, into).map_err(|error| {
                if !matches!(error, StoreError::Source(_)) {
                    self.unread.get_or_insert_with(|| Failure::of_store(&error));
                }
                failed(error)
            }),
        }
    }

    fn write_file(&mut self, path: &HostPath, content: &mut dyn Read, _: &str) -> io::Result<()> {
        let place = place(path.as_str())?;
        self.check_going_on(path)?;
        if self.editor.stat(&place) == Some(StoreStat::Directory) {
            return Err(ErrorKind::IsADirectory.into());
        }
        let now = nanoseconds(SystemTime::now());
        // What arrives there is moved over the version before it when all has arrived.
        let arrived = path.as_str().strip_prefix(WORK_AREA).and_then(|rest| rest.strip_prefix('/'));
        let previous = arrived.and_then(|place| TreePath::new(place).ok());
        let written = match self.holds_back {
            true => self.editor.hold_file(&place, previous.as_ref(), now, content),
            false => self.editor.write_file(&place, previous.as_ref(), now, content),
        };
        written.map_err(failed)?;
        self.touch(path);
        Ok(())
    }

    fn create_dir(&mut self, path: &HostPath) -> io::Result<()> {
        if path.is_root() {
            return Ok(());
        }
        let place = place(path.as_str())?;
        self.check_going_on(path)?;
        if matches!(self.editor.stat(&place), Some(StoreStat::File { .. })) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.editor.create_dir(&place).map_err(failed)
    }

    fn rename(&mut self, from: &HostPath, to: &HostPath) -> io::Result<()> {
        let (source, target) = (place(from.as_str())?, place(to.as_str())?);
        self.editor.stat(&source).ok_or(ErrorKind::NotFound)?;
        self.editor.rename(&source, &target).map_err(failed)?;
        self.touch(from);
        self.touch(to);
        Ok(())
    }

    fn copy(&mut self, from: &HostPath, to: &HostPath) -> io::Result<()> {
        let (source, target) = (place(from.as_str())?, place(to.as_str())?);
        self.editor.stat(&source).ok_or(ErrorKind::NotFound)?;
        self.editor.copy(&source, &target).map_err(failed)?;
        self.touch(to);
        Ok(())
    }

    fn remove(&mut self, path: &HostPath) -> io::Result<()> {
        self.editor.remove(&place(path.as_str())?);
        self.touch(path);
        Ok(())
    }

    fn free_bytes(&mut self) -> io::Result<u64> {
        let free = free_bytes(self.repository).saturating_add(self.known_bytes);
        // What is held back is there twice while it is being kept. But a phone that is told half of the room refuses a
        // disk that could take everything, and a full disk ends the run in any case.
        Ok(free.saturating_sub(self.reserve()))
    }
}

/// A snapshot for a phone to read. Nothing that it asks for changes it.
pub struct SnapshotHostDir<'r> {
    repository: &'r Repository,
    folder: SnapshotFolder,
    begun: SystemTime,
}

impl<'r> SnapshotHostDir<'r> {
    pub fn new(repository: &'r Repository, snapshot: &Snapshot) -> heirloom_store::Result<SnapshotHostDir<'r>> {
        Ok(SnapshotHostDir { repository, folder: repository.folder(snapshot)?, begun: SystemTime::now() })
    }

    /// As [`HostFolder::property_list`].
    pub fn property_list(&mut self, name: &str) -> heirloom_store::Result<Option<Vec<u8>>> {
        let place = TreePath::new(name)?;
        property_list(self.folder.stat(&place), |bytes| self.folder.read_file(&place, bytes))
    }

    /// Of the place of an entry, what lies there.
    fn find(&self, path: &HostPath) -> io::Result<(Option<TreePath>, StoreStat)> {
        if path.is_root() {
            return Ok((None, StoreStat::Directory));
        }
        let place = place(path.as_str())?;
        let found = self.folder.stat(&place).ok_or(ErrorKind::NotFound)?;
        Ok((Some(place), found))
    }
}

impl HostDir for SnapshotHostDir<'_> {
    fn list(&mut self, dir: &HostPath) -> io::Result<Vec<DirEntry>> {
        match self.find(dir)? {
            (_, StoreStat::File { .. }) => Err(ErrorKind::NotADirectory.into()),
            (place, StoreStat::Directory) => {
                let listed = self.folder.list(place.as_ref()).into_iter();
                Ok(listed.map(|(name, found)| DirEntry { name, stat: stat_of(found, self.begun) }).collect())
            }
        }
    }

    fn stat(&mut self, path: &HostPath) -> io::Result<Stat> {
        self.find(path).map(|(_, found)| stat_of(found, self.begun))
    }

    fn read_file(&mut self, path: &HostPath, into: &mut dyn Write) -> io::Result<()> {
        match self.find(path)? {
            (Some(place), StoreStat::File { .. }) => self.folder.read_file(&place, into).map_err(failed),
            _ => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn write_file(&mut self, _: &HostPath, _: &mut dyn Read, _: &str) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn create_dir(&mut self, path: &HostPath) -> io::Result<()> {
        match self.find(path) {
            Ok((_, StoreStat::Directory)) => Ok(()),
            _ => Err(ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    fn rename(&mut self, _: &HostPath, _: &HostPath) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn copy(&mut self, _: &HostPath, _: &HostPath) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&mut self, path: &HostPath) -> io::Result<()> {
        match self.find(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            _ => Err(ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    fn free_bytes(&mut self) -> io::Result<u64> {
        Ok(free_bytes(self.repository))
    }
}

/// Returns the free room of the disk. Where nobody knows it, the storage will say when it is full.
fn free_bytes(repository: &Repository) -> u64 {
    repository.free_bytes().ok().flatten().unwrap_or(u64::MAX >> 16)
}

fn property_list(
    found: Option<StoreStat>,
    read: impl FnOnce(&mut Vec<u8>) -> heirloom_store::Result<()>,
) -> heirloom_store::Result<Option<Vec<u8>>> {
    match found {
        Some(StoreStat::File { length, .. }) if length <= PROPERTY_LIST_MAX_LEN => {
            let mut bytes = Vec::new();
            read(&mut bytes).map(|()| Some(bytes))
        }
        _ => Ok(None),
    }
}

fn place(path: &str) -> io::Result<TreePath> {
    TreePath::new(path).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))
}

/// A directory has no time of its own: it was changed when the run began, as far as a phone cares.
fn stat_of(found: StoreStat, begun: SystemTime) -> Stat {
    match found {
        StoreStat::Directory => Stat { kind: Kind::Directory, bytes: 0, modified: begun },
        StoreStat::File { length, mtime_ns } => {
            let after = u64::try_from(mtime_ns).map_or(Duration::ZERO, Duration::from_nanos);
            Stat { kind: Kind::File, bytes: length, modified: UNIX_EPOCH + after }
        }
    }
}

/// What the store says, by the kinds that have a code of their own for phones.
fn failed(error: StoreError) -> io::Error {
    match error {
        StoreError::Source(error) => error,
        StoreError::NoSuchEntry { .. } => io::Error::new(ErrorKind::NotADirectory, error),
        error if error.is_full() => io::Error::new(ErrorKind::StorageFull, error),
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, sync::Arc};

    use heirloom_store::{Details, MemoryStorage, Options, Source, Storage};

    use super::*;

    const FREE: u64 = 100 << 30;

    /// A disk that has room, but not for what is held back.
    #[derive(Default)]
    struct FullForSpools(MemoryStorage);

    impl Storage for FullForSpools {
        fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
            self.0.put(name, content)
        }

        fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
            self.0.read(name, offset, len)
        }

        fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
            self.0.list(folder)
        }

        fn delete(&self, name: &str) -> io::Result<()> {
            self.0.delete(name)
        }

        fn sync(&self) -> io::Result<()> {
            self.0.sync()
        }

        fn free_bytes(&self) -> io::Result<Option<u64>> {
            Ok(Some(FREE))
        }

        fn spool(&self) -> io::Result<File> {
            File::options().read(true).write(true).open("/dev/full")
        }
    }

    fn repository() -> Repository {
        Repository::create(Arc::new(FullForSpools::default()), None, &Options::default()).unwrap().0
    }

    fn path(text: &str) -> HostPath {
        HostPath::new(text).unwrap()
    }

    #[test]
    fn phones_are_told_the_room_that_there_is() {
        let repository = repository();
        let told = |known, holds_back| {
            let editor = repository.edit("U", None).unwrap();
            let mut folder = HostFolder::new(&repository, editor, known, holds_back);
            let told = folder.free_bytes().unwrap();
            assert_eq!(folder.room_for(told), FREE);
            told
        };
        assert_eq!(told(0, false), FREE);
        assert_eq!(told(5, false), FREE + 5);
        assert_eq!(told(0, true), FREE - RESERVE);
        let editor = repository.edit("U", None).unwrap().name_files().unwrap();
        let (snapshot, _) = editor.commit(Details::new(0, Source::Device)).unwrap();
        assert_eq!(SnapshotHostDir::new(&repository, &snapshot).unwrap().free_bytes().unwrap(), FREE);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn full_disk_is_told_of_what_is_held_back() {
        let repository = repository();
        let mut folder = HostFolder::new(&repository, repository.edit("U", None).unwrap(), 0, true);
        let mut content = io::repeat(7).take(1 << 20);
        let error = folder.write_file(&path("Snapshot/ab/abcd"), &mut content, "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        assert_eq!(folder.stat(&path("Snapshot/ab/abcd")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn snapshot_refuses_only_real_changes() {
        let repository = repository();
        let mut editor = repository.edit("U", None).unwrap();
        let place = TreePath::new("ab/abcd").unwrap();
        editor.write_file(&place, None, 0, &mut &b"content"[..]).unwrap();
        let (snapshot, _) = editor.name_files().unwrap().commit(Details::new(0, Source::Device)).unwrap();
        let mut folder = SnapshotHostDir::new(&repository, &snapshot).unwrap();
        for dir in ["", "ab"] {
            folder.create_dir(&path(dir)).unwrap();
        }
        folder.remove(&path("Manifest.mbdx")).unwrap();
        folder.remove(&path("none/at/all")).unwrap();
        for error in [
            folder.create_dir(&path("new")),
            folder.create_dir(&path("ab/abcd")),
            folder.remove(&path("ab/abcd")),
            folder.write_file(&path("ab/new"), &mut io::empty(), ""),
        ] {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
        }
    }
}
