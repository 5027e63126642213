//! Repositories on sticks with exFAT or FAT. The limits of such file systems are asked of the store in `tests/filesystems.rs`.

use std::path::Path;

use crate::{
    images::{FileSystem, Image},
    judge::{Judge, trials},
    support::{
        folder::folder_at,
        program::{Home, SmallBackup, assert_same, only_child},
    },
};

trials! {
    exfat_keeps_a_repository: &[Judge::Mounts(FileSystem::ExFat)],
    vfat_keeps_a_repository: &[Judge::Mounts(FileSystem::Vfat)],
}

fn exfat_keeps_a_repository() {
    live_on(FileSystem::ExFat);
}

fn vfat_keeps_a_repository() {
    live_on(FileSystem::Vfat);
}

fn live_on(file_system: FileSystem) {
    let dir = tempfile::tempdir().unwrap();
    let image = Image::mount(file_system, dir.path()).unwrap();
    live_with_the_program_in(&image.mounted_at.join("repo"));
}

/// Backs up twice, checks and exports with the program, in the repository at `repo`.
fn live_with_the_program_in(repo: &Path) {
    let home = Home::empty();
    let repo = repo.to_str().unwrap();
    let ok = |args: &[&str]| home.ok(&[&["--repo", repo], args].concat());
    ok(&["init", "--no-password"]);
    let (first, second) = (home.path("first"), home.path("second"));
    SmallBackup::default().write(&first);
    let changed = [("HomeDomain", "Library/SMS/sms.db", b"more messages".as_slice())];
    SmallBackup { files: &changed, date: "2024-05-04T12:00:00Z", ..SmallBackup::default() }.write(&second);
    for folder in [&first, &second, &second] {
        ok(&["import", folder.to_str().unwrap()]);
    }
    ok(&["check", "--read-data"]);
    for (snapshot, folder) in [("latest~1", &first), ("latest", &second)] {
        let to = home.path(snapshot);
        ok(&["export", snapshot, "--to", to.to_str().unwrap()]);
        let exported = folder_at(&only_child(&to));
        assert_same(&exported, &folder_at(folder));
    }
    ok(&["forget", "latest~1"]);
    let pruned = ok(&["prune", "--max-unused", "0"]);
    assert!(!pruned.stderr.contains("waiting"), "a stick is a disk of this computer: {pruned:?}");
    ok(&["check", "--read-data"]);
    let to = home.path("after the prune");
    ok(&["export", "latest", "--to", to.to_str().unwrap()]);
    assert_same(&folder_at(&only_child(&to)), &folder_at(&second));
}
