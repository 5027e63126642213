//! Files of a person that nobody else should read.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    path::Path,
};

/// Makes a folder that only its owner can enter, and its parents where they are missing. One that is there becomes such a folder, and so does the one
/// that it lies in if that is ours, too.
pub fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    restrict_folder(path)?;
    match path.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "heirloom")) {
        Some(parent) => restrict_folder(parent),
        None => Ok(()),
    }
}

/// Writes a file that only its owner can read, to the disk.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Lets only its owner enter a folder that is there.
#[cfg(unix)]
pub fn restrict_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match fs::metadata(path)?.permissions().mode() & 0o777 {
        0o700 => Ok(()),
        _ => fs::set_permissions(path, fs::Permissions::from_mode(0o700)),
    }
}

/// The folders of a person are private by themselves.
#[cfg(not(unix))]
pub fn restrict_folder(path: &Path) -> io::Result<()> {
    fs::metadata(path).map(drop)
}
