//! Whether a folder lies on a disk of this computer, whose listings show at once what others have written, or on a share, as far as the system tells.

use std::path::Path;

/// Whether it is known that nothing but this system lists the folder. It is not known of a share, nor of a folder that a
/// program alone provides.
#[cfg(target_os = "linux")]
pub(super) fn is_on_local_disk(folder: &Path) -> bool {
    const FUSE: u32 = 0x6573_5546;
    rustix::fs::statfs(folder).is_ok_and(|found| match found.f_type as u32 {
        FUSE => is_on_fuse_disk(folder).unwrap_or(false),
        kind => is_local_kind(kind),
    })
}

/// Whether a program (exfat-fuse, ntfs-3g) provides the folder from a disk that the kernel holds for it. All else that
/// programs provide may come from another computer: the source that they name is a text of their own.
#[cfg(target_os = "linux")]
fn is_on_fuse_disk(folder: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(folder)?.dev();
    let device = (rustix::fs::major(device), rustix::fs::minor(device));
    Ok(is_fuse_disk(&std::fs::read("/proc/self/mountinfo")?, device))
}

/// Whether the file system with this number is of the kind `fuseblk` by the mounts that proc_pid_mountinfo(5) lists: for
/// that kind alone the kernel opens a block device, and takes the device's number for the file system's.
#[cfg(target_os = "linux")]
fn is_fuse_disk(mounts: &[u8], (major, minor): (u32, u32)) -> bool {
    let device = format!("{major}:{minor}");
    mounts.split(|&byte| byte == b'\n').any(|mount| {
        // No field holds a space: the kernel writes those of names as \040. Before the kind stand six fields, some that
        // are optional, and `-`.
        let mut fields = mount.split(|&byte| byte == b' ').skip(2);
        let has_number = fields.next() == Some(device.as_bytes());
        let kind = fields.skip(3).skip_while(|field| *field != b"-").nth(1);
        has_number && kind.is_some_and(|kind| kind == b"fuseblk" || kind.starts_with(b"fuseblk."))
    })
}

/// The system says of each file system whether it is local.
#[cfg(target_os = "macos")]
pub(super) fn is_on_local_disk(folder: &Path) -> bool {
    const MNT_LOCAL: u32 = 0x1000;
    rustix::fs::statfs(folder).is_ok_and(|found| found.f_flags & MNT_LOCAL != 0)
}

/// A full path tells of a share, whatever letter it has.
#[cfg(windows)]
pub(super) fn is_on_local_disk(folder: &Path) -> bool {
    use std::path::{Component, Prefix};
    let Ok(path) = folder.canonicalize() else { return false };
    let Some(Component::Prefix(prefix)) = path.components().next() else { return false };
    matches!(prefix.kind(), Prefix::Disk(_) | Prefix::VerbatimDisk(_))
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
pub(super) fn is_on_local_disk(_folder: &Path) -> bool {
    false
}

/// Whether a kind of file system, by its number in statfs(2), is one of disks. That of programs (FUSE), and all that
/// several computers may have at once, are not.
#[cfg(target_os = "linux")]
fn is_local_kind(kind: u32) -> bool {
    const EXT: u32 = 0xEF53;
    const XFS: u32 = 0x5846_5342;
    const BTRFS: u32 = 0x9123_683E;
    const BCACHEFS: u32 = 0xCA45_1A4E;
    const ZFS: u32 = 0x2FC1_2FC1;
    const F2FS: u32 = 0xF2F5_2010;
    const JFS: u32 = 0x3153_464A;
    const REISERFS: u32 = 0x5265_4973;
    const FAT: u32 = 0x4D44;
    const EXFAT: u32 = 0x2011_BAB0;
    const NTFS: u32 = 0x5346_544E;
    const NTFS3: u32 = 0x7366_746E;
    const HFS: u32 = 0x4244;
    const HFS_PLUS: u32 = 0x482B;
    const APFS: u32 = 0x4253_584E;
    const UDF: u32 = 0x1501_3346;
    const TMPFS: u32 = 0x0102_1994;
    const RAMFS: u32 = 0x8584_58F6;
    const OVERLAY: u32 = 0x794C_7630;
    const ECRYPTFS: u32 = 0xF15F;
    const DISKS: [u32; 20] = [
        EXT, XFS, BTRFS, BCACHEFS, ZFS, F2FS, JFS, REISERFS, FAT, EXFAT, NTFS, NTFS3, HFS, HFS_PLUS, APFS, UDF, TMPFS,
        RAMFS, OVERLAY, ECRYPTFS,
    ];
    DISKS.contains(&kind)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn disks_are_local_and_shares_are_not() {
        assert!(is_on_local_disk(&std::env::temp_dir()));
        // NFS, SMB (two numbers), CIFS, 9P, FUSE, AFS, Ceph, GFS2, OCFS2, Lustre, VirtualBox's, and a number of none.
        let shares: [u32; 13] = [
            0x6969,
            0x517B,
            0xFE53_4D42,
            0xFF53_4D42,
            0x0102_1997,
            0x6573_5546,
            0x5346_414F,
            0x00C3_6400,
            0x0116_1970,
            0x7461_636F,
            0x0BD0_0BD0,
            0x786F_4256,
            0,
        ];
        assert!(!shares.into_iter().any(is_local_kind));
        assert!(!is_on_local_disk(Path::new("/there/is/no/such/folder")));
        assert!(!is_on_local_disk(Path::new("/proc")));
    }

    #[test]
    fn fuse_is_local_where_the_kernel_holds_a_disk() {
        let mounts = br"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
45 30 7:0 / /media/my\040stick rw,nosuid,nodev,relatime shared:5 master:1 - fuseblk /dev/loop0 rw,user_id=0,blksize=4096
46 30 8:1 / /media/- rw - fuseblk.ntfs-3g /dev/sda1 rw
47 30 0:40 / /media/image rw,nosuid,nodev,relatime - fuse.fusefat fusefat rw,user_id=0,group_id=0
48 30 0:41 / /media/cloud rw - fuse.fuseblk /dev/sda1 rw,subtype=fuseblk
49 30 0:42 / /media/\040-\040fuseblk\040 rw - fuse.sshfs -\040fuseblk rw
50 30 0:43 / /media/bare rw - fuse /dev/sda1 rw
51 30 0:44 fuseblk - fuseblk
52 30 0:45
";
        let is_local = |device| is_fuse_disk(mounts, device);
        assert!(is_local((7, 0)) && is_local((8, 1)));
        assert!(!(40..=46).any(|minor| is_local((0, minor))), "a program says so, or nothing does");
        assert!(!is_local((254, 0)) && !is_fuse_disk(b"", (7, 0)));
    }
}
