//! File systems of other machines, in images that are mounted for as long as a test takes.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// A file system in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    ExFat,
    Vfat,
    /// Without room that only root may use.
    Ext4,
}

/// A mounted image. Dropping it unmounts it.
pub struct Image {
    _loop_device: LoopDevice,
    pub mounted_at: PathBuf,
}

struct LoopDevice(String);

impl Image {
    /// Makes an image in `dir` and mounts it, or says what this machine has not got.
    pub fn mount(file_system: FileSystem, dir: &Path) -> Result<Image, String> {
        let (image, mounted_at) = (dir.join("image"), dir.join("mounted"));
        let image_bytes = if file_system == FileSystem::Ext4 { 200_000_000 } else { 64 << 20 };
        File::create(&image).and_then(|file| file.set_len(image_bytes)).unwrap();
        fs::create_dir(&mounted_at).unwrap();
        let (maker, options, name): (_, &[&str], _) = match file_system {
            FileSystem::ExFat => ("mkfs.exfat", &[], "exfat"),
            FileSystem::Vfat => ("mkfs.vfat", &[], "vfat"),
            FileSystem::Ext4 => ("mkfs.ext4", &["-q", "-m", "0"], "ext4"),
        };
        run(Command::new(maker).args(options).arg(&image))?;
        let loop_device = LoopDevice(run(Command::new("losetup").args(["-f", "--show"]).arg(&image))?);
        let mut by_kernel = Command::new("mount");
        by_kernel.args(["-t", name, &loop_device.0]);
        let mut in_user_space = match file_system {
            FileSystem::ExFat => Command::new("mount.exfat-fuse"),
            FileSystem::Vfat => Command::new("fusefat"),
            FileSystem::Ext4 => Command::new("fuse2fs"),
        };
        match file_system {
            FileSystem::ExFat | FileSystem::Ext4 => in_user_space.arg(&loop_device.0),
            // As mount.exfat-fuse does by itself, it has the kernel hold the device.
            FileSystem::Vfat => {
                in_user_space.args(["-o", &format!("rw+,blkdev,fsname={}", loop_device.0)]).arg(&loop_device.0)
            }
        };
        let mounted = run(by_kernel.arg(&mounted_at))
            .or_else(|kernel| run(in_user_space.arg(&mounted_at)).map_err(|user| format!("{kernel}; {user}")));
        mounted.map(|_| Image { _loop_device: loop_device, mounted_at })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg(&self.mounted_at));
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = run(Command::new("losetup").args(["-d", &self.0]));
    }
}

/// What a command says, or why it failed.
fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Ok(output) => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{name}: {error}")),
    }
}
