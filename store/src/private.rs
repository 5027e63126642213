//! Files outside of the repository for nobody but the person who runs the program: the cache tells what is on a phone.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    path::Path,
};

/// Makes a folder that only its owner can enter, and its parents where they are missing. One that is there becomes such a folder.
///
/// # Errors
/// Any failure of the system.
pub fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    restrict_folder(path)
}

/// Lets only its owner enter a folder that is there.
///
/// # Errors
/// Any failure of the system.
pub fn restrict_folder(path: &Path) -> io::Result<()> {
    restrict(path, 0o700)
}

/// Creates a file that only its owner can read, or empties one, which becomes such a file.
///
/// # Errors
/// Any failure of the system.
pub fn create_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    restrict(path, 0o600)?;
    Ok(file)
}

/// Writes such a file.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    io::Write::write_all(&mut create_file(path)?, bytes)
}

/// Lets only the owner at a file that another library has made.
pub(crate) fn restrict_file(path: &Path) -> io::Result<()> {
    restrict(path, 0o600)
}

#[cfg(unix)]
fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if fs::metadata(path)?.permissions().mode() & 0o777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// The folders of a person are private by themselves.
#[cfg(not(unix))]
fn restrict(path: &Path, _: u32) -> io::Result<()> {
    fs::metadata(path).map(drop)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_written_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, file) = (dir.path().join("a/b"), dir.path().join("a/b/file"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        create_folder(&folder).unwrap();
        write(&file, b"secret").unwrap();
        assert_eq!([mode(folder.parent().unwrap()), mode(&folder), mode(&file)], [0o700, 0o700, 0o600]);
        for (path, wide) in [(&folder, 0o755), (&file, 0o644)] {
            fs::set_permissions(path, fs::Permissions::from_mode(wide)).unwrap();
        }
        create_folder(&folder).unwrap();
        write(&file, b"again").unwrap();
        assert_eq!((mode(&folder), mode(&file), fs::read(&file).unwrap()), (0o700, 0o600, b"again".to_vec()));
    }
}
