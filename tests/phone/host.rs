//! What can go wrong on this side of the cable: the disk, a kill, Ctrl-C, a damaged repository.

use std::{
    fs::{self, File},
    process::{Child, Command},
    sync::Arc,
};

use heirloom_sim::{After, Fault, Options};
use heirloom_store::{LocalStorage, Repository, Unlock, later::Later};

use super::{DAMAGE, FAILED, INTERRUPTED};
use crate::support::{
    folder::{Folder, folder_at},
    is_pack,
    phone::{Attached, assert_whole, eventually, files_of},
    program::{assert_same, exit_of, only_child},
};

const BLOCK: usize = 16 << 10;

/// A phone that was backed up on its first day, and has lived another.
fn with_a_base() -> (Attached, Folder) {
    let attached = Attached::paired_with(Options { block: BLOCK, ..Options::default() });
    attached.back_up(&[]);
    let first = attached.home.exported("latest");
    attached.phone.live_one_day().unwrap();
    (attached, first)
}

/// Starts a backup, and leaves it waiting for the phone once so many bytes have gone either way.
fn stalled_after(attached: &Attached, bytes: u64, args: &[&str]) -> Child {
    let moved = || attached.phone.traffic().bytes_sent + attached.phone.traffic().bytes_received;
    let before = moved();
    attached.phone.set_fault(Some(Fault::Stall(After::Bytes(bytes))));
    let mut command = attached.command(&[&["backup"], args].concat());
    let child = command.stderr(File::create(attached.home.path("stderr")).unwrap()).spawn().unwrap();
    assert!(eventually(|| moved() - before + BLOCK as u64 >= bytes), "{} of {bytes} bytes moved", moved() - before);
    child
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// The next backup is whole, what the first one kept is as it was, and nothing in the repository is damaged.
#[track_caller]
fn assert_recovers(attached: &Attached, first: &Folder) {
    attached.phone.set_fault(None);
    attached.back_up(&[]);
    assert_same(&attached.home.exported(&attached.snapshots()[0]), first);
    attached.ok(&["check", "--read-data"]);
}

#[test]
fn a_kill_at_any_moment_harms_nothing() {
    let (attached, first) = with_a_base();
    // A full one has six megabytes to be killed in.
    for bytes in [1, 100_000, 2_000_000, 4_500_000] {
        let mut child = stalled_after(&attached, bytes, &["--full"]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(attached.snapshots().len(), 1, "{bytes}");
        assert_same(&attached.home.exported("latest"), &first);
        // The phone finds out when it goes on.
        attached.phone.set_fault(None);
        assert!(eventually(|| !attached.phone.is_sync_locked()));
    }
    assert_recovers(&attached, &first);
    assert_eq!(attached.phone.complaints(), Vec::<String>::new());
}

#[test]
fn a_kill_while_the_snapshot_is_made_leaves_it_or_none() {
    let (attached, first) = with_a_base();
    let finished = || attached.phone.posted().iter().filter(|name| name.ends_with("syncDidFinish")).count();
    for _ in 0..3 {
        let (before, snapshots) = (finished(), attached.snapshots().len());
        let mut child = attached.command(&["backup"]).stderr(std::process::Stdio::null()).spawn().unwrap();
        assert!(eventually(|| finished() > before));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(attached.snapshots().len() <= snapshots + 1);
        if attached.snapshots().len() > snapshots {
            assert_whole(&attached.home.exported("latest"), &attached.phone.phone());
        }
        attached.phone.live_one_day().unwrap();
    }
    assert_recovers(&attached, &first);
    attached.assert_left_well();
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_it_and_what_has_come_is_kept() {
    let (attached, first) = with_a_base();
    let stored = |attached: &Attached| {
        let packs = folder_at(&attached.home.path("repo/packs"));
        packs.keys().filter(|path| path.len() > 3).count()
    };
    for (bytes, args) in [(300_000, &[][..]), (2_000_000, &["--full"])] {
        let before = stored(&attached);
        let child = stalled_after(&attached, bytes, args);
        signal(&child, "-INT");
        assert_eq!(exit_of(child), INTERRUPTED);
        let told = fs::read_to_string(attached.home.path("stderr")).unwrap();
        assert!(told.contains("what has arrived is kept") && told.contains("interrupted"), "{told}");
        attached.phone.set_fault(None);
        attached.assert_left_well();
        assert!(stored(&attached) > before);
        assert_eq!(attached.snapshots().len(), 1);
        assert_same(&attached.home.exported("latest"), &first);
        attached.ok(&["check", "--read-data"]);
    }
    let next = attached.ok(&["backup"]);
    assert!(
        next.stderr.contains("an earlier backup was cut off") && next.stderr.contains("are here already"),
        "{next:?}"
    );
    assert_whole(&attached.home.exported("latest"), &attached.phone.phone());
    let after = attached.ok(&["backup"]);
    assert!(!after.stderr.contains("cut off"), "{after:?}");
    assert_recovers(&attached, &first);
    attached.assert_left_well();
}

#[cfg(unix)]
#[test]
fn a_disk_that_takes_no_more_is_named_and_the_phone_is_told() {
    let (attached, first) = with_a_base();
    // Blocks of 512 bytes. The signal would end the program; without it, writing fails.
    let script = "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\"";
    let program = attached.command(&[]);
    let mut limited = Command::new("sh");
    limited.args(["-c", script]).arg(program.get_program()).args(["backup", "--full"]);
    limited.env_clear().current_dir(program.get_current_dir().unwrap());
    limited.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let before = attached.phone.traffic();
    let said = attached.home.said(&mut limited);
    assert_eq!(said.exit, FAILED, "{said:?}");
    assert!(said.error().contains("File too large") && said.error().contains("packs/"), "{said:?}");
    assert!(attached.phone.traffic().files_sent > before.files_sent);
    // What the phone cannot read back it takes for missing, and complains.
    attached.assert_released();
    assert_eq!(attached.snapshots().len(), 1);
    assert_recovers(&attached, &first);
}

#[cfg(unix)]
#[test]
fn a_repository_that_cannot_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt;

    let (attached, first) = with_a_base();
    let allow = |mode| {
        let repository = attached.home.path("repo");
        let folders =
            fs::read_dir(&repository).unwrap().map(|child| child.unwrap().path()).filter(|path| path.is_dir());
        folders.chain([repository.clone()]).for_each(|path| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        });
    };
    allow(0o555);
    let address = attached.phone.address();
    let said = attached.home.run_as_nobody(&[("USBMUXD_SOCKET_ADDRESS", &address)], &["backup"]);
    allow(0o755);
    said.assert_failed(FAILED, &["repo", "ermission denied"]);
    attached.assert_left_well();
    assert_recovers(&attached, &first);
}

#[test]
fn a_repository_in_the_way_is_named() {
    let (attached, first) = with_a_base();
    // Folders of packs that are files: whoever runs this, nothing can be written there.
    let packs = attached.home.path("repo/packs");
    let aside = attached.home.path("aside");
    fs::rename(&packs, &aside).unwrap();
    fs::write(&packs, "").unwrap();
    let said = attached.run(&["backup", "--full"]);
    assert!(said.exit != 0 && said.error().contains("packs"), "{said:?}");
    fs::remove_file(&packs).unwrap();
    fs::rename(&aside, &packs).unwrap();
    attached.assert_left_well();
    assert_eq!(attached.snapshots().len(), 1);
    assert_recovers(&attached, &first);
}

#[test]
fn a_base_that_is_damaged_is_told_and_the_phone_sends_everything() {
    let (attached, _) = with_a_base();
    let files = folder_at(&attached.home.path("repo"));
    let packs: Vec<&String> = files.keys().filter(|path| is_pack(path) && path.len() > "packs/00/".len()).collect();
    let everything = files_of(&attached.phone.phone()).count() as u64;
    let (mut of_trees, mut of_contents) = (0, 0);
    for pack in packs {
        let whole = fs::read(attached.home.path("repo").join(pack)).unwrap();
        for at in [whole.len() / 3, whole.len() - 200] {
            let damaged = attached.home.path("damaged");
            copy(&attached.home.path("repo"), &damaged);
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(damaged.join(pack), &bytes).unwrap();
            fs::remove_dir_all(attached.home.path("cache")).unwrap();
            let before = attached.phone.traffic().files_sent;
            let in_damaged = |args: &[&str]| attached.run_with(&[("HEIRLOOM_REPOSITORY", "damaged")], args);
            let said = in_damaged(&["backup"]);
            let is_full = attached.phone.traffic().files_sent - before > everything;
            let is_named =
                said.stderr.lines().any(|line| line.starts_with("warning: ") && line.contains(pack.as_str()));
            assert_eq!(is_named, is_full, "{pack} at {at}: {said:?}");
            assert_eq!(in_damaged(&["check", "--read-data"]).exit, DAMAGE);
            attached.assert_released();
            if is_full {
                // What was found damaged holds nothing that the new snapshot relies on.
                assert_eq!(said.exit, 0, "{said:?}");
                let to = tempfile::tempdir_in(attached.home.path("tmp")).unwrap();
                let exported = in_damaged(&["export", "latest", "--to", to.path().to_str().unwrap()]);
                assert!([0, DAMAGE].contains(&exported.exit), "{exported:?}");
                assert_whole(&folder_at(&only_child(to.path())), &attached.phone.phone());
            }
            *(if said.stderr.contains("the newest snapshot is damaged") { &mut of_trees } else { &mut of_contents }) +=
                1;
            fs::remove_dir_all(&damaged).unwrap();
        }
    }
    assert!(of_trees >= 2 && of_contents >= 2, "{of_trees} {of_contents}");
}

#[test]
fn newer_base_is_told_and_the_phone_sends_everything() {
    let (attached, _) = with_a_base();
    let storage = Arc::new(LocalStorage::new(&attached.home.path("repo")));
    let repository = Repository::open(storage, Unlock::Open, None).unwrap();
    let plain = repository.snapshots().unwrap().snapshots.remove(0);
    Later::EntryTag.add(&repository, &plain).unwrap();
    let (before, everything) = (attached.phone.traffic().files_sent, files_of(&attached.phone.phone()).count() as u64);
    let said = attached.run(&["backup"]);
    assert_eq!(said.exit, 0, "{said:?}");
    assert!(said.stderr.contains("fields of tag 131") && !said.stderr.contains("damage"), "{said:?}");
    assert!(attached.phone.traffic().files_sent - before > everything);
    let to = tempfile::tempdir_in(attached.home.path("tmp")).unwrap();
    let newest = attached.snapshots().pop().unwrap();
    assert_eq!(attached.run(&["export", &newest, "--to", to.path().to_str().unwrap()]).exit, 0);
    assert_whole(&folder_at(&only_child(to.path())), &attached.phone.phone());
    attached.assert_released();
}

/// As `cp -r` does.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}
