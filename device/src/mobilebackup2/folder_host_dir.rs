//! A plain folder as a [`HostDir`], for tests: it trusts the folder not to hold links.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use super::{DirEntry, HostDir, HostPath, Kind, Stat};

/// A folder; files come into it whole or not at all.
pub(super) struct FolderHostDir {
    root: PathBuf,
    /// How many bytes may still be written before the disk is full.
    pub room: u64,
    /// How many files may still be written before the disk is full.
    pub files_left: u64,
    /// What `device_path` was for each file written.
    pub device_paths: Vec<String>,
}

impl FolderHostDir {
    pub fn new(root: &Path) -> Self {
        FolderHostDir { root: root.to_owned(), room: 1 << 40, files_left: u64::MAX, device_paths: Vec::new() }
    }

    fn place(&self, path: &HostPath) -> PathBuf {
        self.root.join(path.as_str())
    }

    fn make_parent(&self, path: &HostPath) -> io::Result<()> {
        self.place(path).parent().map_or(Ok(()), fs::create_dir_all)
    }
}

impl HostDir for FolderHostDir {
    fn list(&mut self, dir: &HostPath) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.place(dir))? {
            let name = entry?.file_name().into_string().map_err(|_| io::ErrorKind::InvalidData)?;
            let stat = self.stat(&dir.join(&name).map_err(io::Error::other)?)?;
            entries.push(DirEntry { name, stat });
        }
        Ok(entries)
    }

    fn stat(&mut self, path: &HostPath) -> io::Result<Stat> {
        let about = fs::symlink_metadata(self.place(path))?;
        let kind = match about.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_file() => Kind::File,
            _ => Kind::Other,
        };
        Ok(Stat { kind, bytes: about.len(), modified: about.modified().unwrap_or(UNIX_EPOCH) })
    }

    fn read_file(&mut self, path: &HostPath, into: &mut dyn Write) -> io::Result<()> {
        io::copy(&mut fs::File::open(self.place(path))?, into).map(drop)
    }

    fn write_file(&mut self, path: &HostPath, content: &mut dyn Read, device_path: &str) -> io::Result<()> {
        self.files_left = self.files_left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        self.make_parent(path)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.root)?;
        let bytes = io::copy(&mut content.take(self.room), &mut file)?;
        self.room -= bytes;
        if self.room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.persist(self.place(path))?;
        self.device_paths.push(device_path.to_owned());
        Ok(())
    }

    fn create_dir(&mut self, path: &HostPath) -> io::Result<()> {
        fs::create_dir_all(self.place(path))
    }

    fn rename(&mut self, from: &HostPath, to: &HostPath) -> io::Result<()> {
        self.make_parent(to)?;
        fs::rename(self.place(from), self.place(to))
    }

    fn copy(&mut self, from: &HostPath, to: &HostPath) -> io::Result<()> {
        self.make_parent(to)?;
        if self.stat(from)?.kind != Kind::Directory {
            return fs::copy(self.place(from), self.place(to)).map(drop);
        }
        self.create_dir(to)?;
        for entry in self.list(from)? {
            let [from, to] = [from, to].map(|path| path.join(&entry.name).map_err(io::Error::other));
            self.copy(&from?, &to?)?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &HostPath) -> io::Result<()> {
        let place = self.place(path);
        match self.stat(path) {
            Ok(Stat { kind: Kind::Directory, .. }) => fs::remove_dir_all(place),
            Ok(_) => fs::remove_file(place),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn free_bytes(&mut self) -> io::Result<u64> {
        Ok(self.room)
    }
}
