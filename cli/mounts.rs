//! Disks that may not be mounted: where they appear, and whether one is there now.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// Below these, systems mount disks.
const MOUNT_FOLDERS: [&str; 4] = ["/run/media", "/media", "/mnt", "/Volumes"];

/// Whether nothing is at `path`, and that is so because the disk is not there on which it lies: it is below a folder in which disks appear, and none has.
pub fn is_missing_disk(path: &Path) -> bool {
    let Ok(path) = std::path::absolute(path) else { return false };
    is_missing_below(&MOUNT_FOLDERS.map(Path::new), &path)
}

fn is_missing_below(mount_folders: &[&Path], path: &Path) -> bool {
    let is_empty = fs::read_dir(path).map_or(true, |mut children| children.next().is_none());
    if !is_empty || path.is_file() {
        return false;
    }
    if let Some(Component::Prefix(drive)) = path.components().next() {
        return !Path::new(&drive.as_os_str()).join(std::path::MAIN_SEPARATOR_STR).exists();
    }
    let Some(folder) = mount_folders.iter().find(|folder| path.starts_with(folder)) else { return false };
    let is_mounted =
        |above: &Path| matches!((device_of(above), device_of(folder)), (Some(it), Some(other)) if it != other);
    !path.ancestors().take_while(|above| above != folder).map(PathBuf::from).any(|above| is_mounted(&above))
}

/// The number of the file system on which a folder lies, if it is there.
#[cfg(unix)]
fn device_of(folder: &Path) -> Option<u64> {
    std::os::unix::fs::MetadataExt::dev(&fs::metadata(folder).ok()?).into()
}

#[cfg(not(unix))]
fn device_of(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_place_for_disks_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, disk) = (dir.path(), dir.path().join("disk"));
        let is_missing = |path: &Path| is_missing_below(&[folder], path);
        assert!(is_missing(&disk) && is_missing(&disk.join("phones")), "it is not there");
        fs::create_dir(&disk).unwrap();
        assert!(is_missing(&disk) && is_missing(&disk.join("phones")), "an empty folder waits for it");
        fs::write(disk.join("file"), "").unwrap();
        assert!(!is_missing(&disk), "something is there");
        assert!(!is_missing(&disk.join("file")));
        assert!(!is_missing(Path::new("/nowhere/phones")), "no disks appear there");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn on_a_mounted_disk_nothing_is_missing() {
        // Another file system than that of its parent, on every Linux.
        assert!(!is_missing_below(&[Path::new("/")], Path::new("/proc/no-such-thing")));
    }
}
