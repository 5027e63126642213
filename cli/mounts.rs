//! Disks that may not be mounted: where they appear, and whether one is there now.

use std::{
    fs::{self, File},
    io::Read,
    path::{Component, Path, PathBuf},
};

/// Below these, systems mount disks.
const MOUNT_FOLDERS: [&str; 4] = ["/run/media", "/media", "/mnt", "/Volumes"];

/// In these systemd finds what belongs where.
const UNIT_FOLDERS: [&str; 2] = ["/etc/systemd/system", "/run/systemd/system"];
/// Longer than any table of mounts.
const TABLE_MAX_LEN: u64 = 1 << 20;

/// A disk that is not there, on which a path seems to lie.
#[derive(Debug, PartialEq, Eq)]
pub enum MissingDisk {
    /// The system is told to mount one at this folder, and nothing is mounted there.
    Declared(PathBuf),
    /// The path is below a folder in which disks appear, nothing is there, and no disk has appeared.
    Usual,
}

impl MissingDisk {
    /// The disk that `path` waits for, if it seems to wait for one.
    pub fn of(path: &Path) -> Option<MissingDisk> {
        let path = std::path::absolute(path).ok()?;
        let mounted = mount_points(&text_of(Path::new("/proc/self/mountinfo")));
        if let Some(point) = missing_point(&path, &declared_points(), &mounted) {
            return Some(MissingDisk::Declared(point));
        }
        is_missing_below(&MOUNT_FOLDERS.map(Path::new), &path).then_some(MissingDisk::Usual)
    }

    /// Says what is suspected of a path.
    pub fn told(&self, path: &Path) -> String {
        match self {
            MissingDisk::Declared(point) => {
                format!("nothing is mounted at {}, though this computer is told to mount a disk there", point.display())
            }
            MissingDisk::Usual => format!("{} looks like a place on a disk that is not mounted", path.display()),
        }
    }
}

/// The folder on the way to a path that should have something mounted, and has not. Nothing is known without a list of
/// mounts.
fn missing_point(path: &Path, declared: &[PathBuf], mounted: &[PathBuf]) -> Option<PathBuf> {
    let is_missing = |above: &&Path| {
        above.parent().is_some() && declared.iter().any(|point| point == above) && !mounted.iter().any(|at| at == above)
    };
    path.ancestors().find(is_missing).filter(|_| !mounted.is_empty()).map(Path::to_owned)
}

/// Where the system is told to mount something: by `/etc/fstab` and by systemd's own units.
fn declared_points() -> Vec<PathBuf> {
    let units = UNIT_FOLDERS.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let units = units.map(|unit| unit.path()).filter(|unit| unit.extension().is_some_and(|kind| kind == "mount"));
    let points = units.flat_map(|unit| unit_points(&text_of(&unit)));
    fstab_points(&text_of(Path::new("/etc/fstab"))).into_iter().chain(points).collect()
}

fn fstab_points(fstab: &str) -> Vec<PathBuf> {
    let lines = fstab.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    folders(lines.filter_map(|line| line.split_whitespace().nth(1)))
}

fn unit_points(unit: &str) -> Vec<PathBuf> {
    folders(unit.lines().filter_map(|line| line.trim().strip_prefix("Where=")))
}

fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    folders(mountinfo.lines().filter_map(|line| line.split_whitespace().nth(4)))
}

/// Paths of the tables of mounts, in which a space is `\040`.
fn folders<'t>(words: impl Iterator<Item = &'t str>) -> Vec<PathBuf> {
    let written = |word: &str| word.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
    words.map(|word| PathBuf::from(written(word.trim()))).filter(|folder| folder.is_absolute()).collect()
}

/// A text of the system; nothing if it cannot be read.
fn text_of(file: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(TABLE_MAX_LEN).read_to_end(&mut bytes));
    read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&bytes).into_owned())
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

    #[test]
    fn a_declared_disk_that_is_not_mounted_is_missing() {
        let fstab = "/dev/sda / ext4\n# /dev/sdz /mnt/none ext4\n/dev/sdb1 /mnt/disk ext4 noauto 0 0\n\n\
                     LABEL=x\t/srv/a\\040b  auto\n/dev/sdc none swap\n";
        let mut declared = fstab_points(fstab);
        declared.extend(unit_points("[Mount]\nWhat=/dev/sdd\nWhere=/home/anna/disk\n"));
        assert_eq!(declared, ["/", "/mnt/disk", "/srv/a b", "/home/anna/disk"].map(PathBuf::from));
        let mounted =
            mount_points("22 1 8:1 / /x rw - ext4 /dev/sda rw\n40 22 8:2 / /srv/a\\040b rw - vfat /dev/sde rw\n");
        let missing = |path: &str| missing_point(Path::new(path), &declared, &mounted);
        assert_eq!(missing("/mnt/disk/phones"), Some("/mnt/disk".into()));
        assert_eq!(missing("/mnt/disk"), Some("/mnt/disk".into()));
        assert_eq!(missing("/home/anna/disk/a/b"), Some("/home/anna/disk".into()));
        for there in ["/srv/a b/phones", "/mnt/none/phones", "/mnt/diskette", "/home/anna/phones"] {
            assert_eq!(missing(there), None, "{there}");
        }
        assert_eq!(missing_point(Path::new("/mnt/disk"), &declared, &[]), None, "nobody knows what is mounted");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn on_a_mounted_disk_nothing_is_missing() {
        // Another file system than that of its parent, on every Linux.
        assert!(!is_missing_below(&[Path::new("/")], Path::new("/proc/no-such-thing")));
    }
}
