//! Odd folders, disks and paths: where backups lie, where repositories are, and what is typed for either.

use std::{fs, path::Path};

use crate::support::program::{Home, SmallBackup, UDID, write_at};

/// A backup of this date in `folder`.
fn backup_of(date: &str, content: &[u8], folder: &Path) {
    let files = [("HomeDomain", "Library/SMS/sms.db", content)];
    SmallBackup { date, files: &files, ..SmallBackup::default() }.write(folder);
}

/// imazing-versions
#[test]
fn versions_of_imazing_become_history() {
    let home = Home::new();
    let backups = home.path("iMazing.Backups");
    backup_of("2024-05-03T12:00:00Z", b"newest", &backups.join(UDID));
    let versions = backups.join("iMazing.Versions/Versions").join(UDID);
    backup_of("2024-03-01T12:00:00Z", b"oldest", &versions.join("20240301-120000"));
    backup_of("2024-04-01T12:00:00Z", b"middle", &versions.join("20240401-120000"));
    fs::create_dir_all(backups.join("iMazing.Versions/Blueprints")).unwrap();
    fs::write(backups.join("iMazing.Versions/Readme.txt"), "").unwrap();

    home.ok(&["import", "iMazing.Backups"]);
    let listed = home.json(&["snapshots"]);
    let times: Vec<&str> = listed.as_array().unwrap().iter().map(|row| row["time"].as_str().unwrap()).collect();
    assert_eq!(times, ["2024-03-01T12:00:00Z", "2024-04-01T12:00:00Z", "2024-05-03T12:00:00Z"]);
    assert!(listed.as_array().unwrap().iter().all(|row| row["udid"] == UDID));
    home.assert_exact("latest~2", &versions.join("20240301-120000"));
    let said = home.ok(&["import", "."]);
    assert!(said.stderr.contains("3 already kept"), "{said:?}");
}

/// one-level-deeper
#[test]
fn the_parent_of_the_backups_does_as_well() {
    let home = Home::new();
    backup_of("2024-05-03T12:00:00Z", b"messages", &home.path("MobileSync/Backup").join(UDID));
    home.ok(&["import", "MobileSync"]);
    assert_eq!(home.json(&["snapshots"]).as_array().unwrap().len(), 1);
    fs::create_dir(home.path("Application Support")).unwrap();
    fs::rename(home.path("MobileSync"), home.path("Application Support/MobileSync")).unwrap();
    home.run(&["import", "Application Support"]).assert_failed(1, &["no backup in it", "MobileSync/Backup"]);
}

/// Files that other programs leave beside a backup's own are kept, and disturb nothing.
#[test]
fn leftovers_of_other_programs_disturb_no_import() {
    let home = Home::new();
    let folder = home.path("Backup").join(UDID);
    SmallBackup::default().write(&folder);
    for name in
        ["Manifest.db-wal", "Manifest.db-shm", "._Manifest.db", "._Info.plist", ".DS_Store", "3d/._3d0d", "Thumbs.db"]
    {
        write_at(&folder.join(name), b"left");
    }
    write_at(&home.path("Backup").join(format!("._{UDID}")), b"left");
    let said = home.ok(&["import", "Backup"]);
    assert!(!said.stderr.contains("warning"), "{said:?}");
    assert!(home.ok(&["ls", "-R", "latest"]).stdout.contains("HomeDomain:Library/SMS/sms.db"));
    home.assert_exact("latest", &folder);
}

/// A disk that is full has the folder of the backups moved to another, and a link in its place.
#[cfg(unix)]
#[test]
fn a_linked_folder_of_backups_is_named() {
    let home = Home::new();
    backup_of("2024-05-03T12:00:00Z", b"messages", &home.path("large disk/Backup").join(UDID));
    fs::create_dir(home.path("MobileSync")).unwrap();
    std::os::unix::fs::symlink("../large disk/Backup", home.path("MobileSync/Backup")).unwrap();
    home.run(&["import", "MobileSync"]).assert_failed(1, &["there are some in MobileSync/Backup"]);
    home.ok(&["import", "MobileSync/Backup"]);
}

/// udid-without-dash
#[test]
fn a_udid_of_24_digits_is_the_same_device() {
    let home = Home::new();
    backup_of("2024-05-03T12:00:00Z", b"one", &home.path("one").join(UDID));
    let bare = UDID.replace('-', "");
    backup_of("2024-05-04T12:00:00Z", b"two", &home.path("two").join(bare.to_lowercase()));
    home.ok(&["import", "one", "two"]);
    let listed = home.json(&["snapshots", "--udid", &bare]);
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(listed[1]["udid"], UDID);
}

/// renamed-phone
#[test]
fn a_name_means_the_whole_history_of_a_device() {
    let home = Home::new();
    let folder = home.path("Backup").join(UDID);
    for (name, date) in [("iPhone", "2024-05-03T12:00:00Z"), ("Maria’s iPhone", "2024-06-03T12:00:00Z")] {
        SmallBackup { device_name: name, date, ..SmallBackup::default() }.write(&folder);
        home.ok(&["import", "--full-read", "Backup"]);
        fs::remove_dir_all(&folder).unwrap();
    }
    for name in ["Maria's iPhone", "iPhone"] {
        assert_eq!(home.json(&["snapshots", "--udid", name]).as_array().unwrap().len(), 2, "{name}");
    }
    let plan = home.ok(&["forget", "--dry-run", "--udid", "maria's iphone", "--keep-last", "1"]);
    assert!(plan.stdout.contains("2024-05-03"), "{plan:?}");
}

/// repository-in-the-backup
#[test]
fn the_repository_is_no_part_of_a_backup() {
    let home = Home::empty();
    let folder = home.path("Backup").join(UDID);
    SmallBackup::default().write(&folder);
    let repository = folder.join("repo");
    let run = |args: &[&str]| {
        let said = home.run_with(&[("HEIRLOOM_REPOSITORY", repository.to_str().unwrap())], args);
        assert_eq!(said.exit, 0, "{args:?}: {said:?}");
        said
    };
    run(&["init", "--no-password"]);
    let said = run(&["import", "Backup"]);
    assert!(said.stderr.contains("the repository itself lies in this folder"), "{said:?}");
    assert!(run(&["import", "Backup"]).stdout.contains("already kept"));
    assert!(!run(&["ls", "-R", "latest"]).stdout.contains("repo/"));
}

/// volume-root-init
#[test]
fn a_repository_may_be_the_root_of_a_disk() {
    let home = Home::empty();
    for name in ["lost+found", ".Trashes/501", ".Spotlight-V100", "System Volume Information", "$RECYCLE.BIN", "@eaDir"]
    {
        write_at(&home.path("repo").join(name).join("file"), b"the system's");
    }
    write_at(&home.path("repo/desktop.ini"), b"the system's");
    home.ok(&["init", "--no-password"]);
    SmallBackup::default().write(&home.path("Backup").join(UDID));
    home.ok(&["import", "Backup"]);
    for verb in [&["check", "--read-data"][..], &["check", "--packs"], &["stats"], &["prune"], &["repair"]] {
        home.ok(verb);
    }
    assert!(home.path("repo/lost+found/file").exists());
    // What is somebody's is not written beside.
    write_at(&home.path("other/diary"), b"mine");
    home.run(&["--repo", "other", "init", "--no-password"]).assert_failed(1, &["not empty"]);
}

/// tilde
#[test]
fn a_tilde_that_no_shell_expanded_is_home() {
    let home = Home::empty();
    home.ok(&["--repo=~/phones", "init", "--no-password"]);
    assert!(home.path("phones/config").is_file() && !home.path("~").exists());
    SmallBackup::default().write(&home.path("Backup").join(UDID));
    let variables = [("HEIRLOOM_REPOSITORY", "~/phones")];
    assert_eq!(home.run_with(&variables, &["import", "~/Backup"]).exit, 0);
    assert_eq!(home.run_with(&variables, &["export", "latest", "--to=~/out"]).exit, 0);
    assert!(home.path("out").join(UDID).is_dir() && !home.path("~").exists());
    home.run(&["--repo=~nobody-here/phones", "init", "--no-password"]).assert_failed(2, &["whose home"]);
    assert!(!home.path("~nobody-here").exists());
}

/// remote-path
#[test]
fn a_place_on_another_computer_becomes_no_folder() {
    let home = Home::new();
    SmallBackup::default().write(&home.path("Backup").join(UDID));
    home.ok(&["import", "Backup"]);
    for place in
        ["sftp:user@nas:/phones", "rest:https://nas:8000/", "s3:https://host/bucket", "user@nas:/phones", "nas:/x"]
    {
        home.run(&["--repo", place, "init", "--no-password"]).assert_failed(2, &[place, "another computer"]);
        home.run(&["export", "latest", "--to", place]).assert_failed(2, &["another computer"]);
        home.run(&["copy", "--to", place]).assert_failed(2, &["another computer"]);
    }
    let names: Vec<_> = fs::read_dir(home.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_str().unwrap().contains(':')), "{names:?}");
    home.ok(&["--repo", "./sftp:here", "init", "--no-password"]);
}

/// hint-that-was-followed
#[test]
fn a_file_in_the_place_of_a_folder_is_named() {
    let home = Home::new();
    write_at(&home.path("file"), b"mine");
    home.run(&["--repo", "file", "init", "--no-password"]).assert_failed(10, &["file is a file", "a folder"]);
    home.run(&["--repo", "file", "snapshots"]).assert_failed(10, &["file is a file"]);
    SmallBackup::default().write(&home.path("Backup").join(UDID));
    home.ok(&["import", "Backup"]);
    write_at(&home.path("out").join(UDID).join("3d"), b"mine");
    home.run(&["export", "latest", "--to", "out", "--force"]).assert_failed(1, &["is in the way", "move it away"]);
    write_at(&home.path("out2").join(UDID), b"mine");
    home.run(&["export", "latest", "--to", "out2", "--force"]).assert_failed(1, &["is in the way", "move it away"]);
}

/// file-size-limit
#[cfg(unix)]
#[test]
fn a_limit_on_the_length_of_files_is_an_error() {
    let home = Home::new();
    let folder = home.path("Backup").join(UDID);
    let noise = crate::support::noise(1, 3_000_000);
    SmallBackup { files: &[("HomeDomain", "Library/large", &noise)], ..SmallBackup::default() }.write(&folder);
    let limited = |args: &str| {
        let command = home.command(&[]);
        let program = command.get_program().to_str().unwrap();
        home.said(home.program("bash").args(["-c", &format!("ulimit -f 100; exec {program} {args}")]))
    };
    limited("import Backup").assert_failed(1, &["File too large", "ulimit -f"]);
    home.ok(&["import", "Backup"]);
    limited("export latest --to out").assert_failed(1, &["File too large", "ulimit -f"]);
    home.ok(&["check", "--read-data"]);
}

/// password-file-marks
#[test]
fn a_password_file_may_be_of_any_editor() {
    let home = Home::empty();
    let utf16 = "\u{feff}p\u{e4}ssword\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    write_at(&home.path("bom"), "\u{feff}p\u{e4}ssword\r\n".as_bytes());
    write_at(&home.path("plain"), "pa\u{308}ssword\n".as_bytes());
    write_at(&home.path("utf16"), &utf16);
    let run = |file: &str, args: &[&str]| home.run_with(&[("HEIRLOOM_PASSWORD_FILE", file)], args);
    assert_eq!(run("bom", &["init", "--no-verify"]).exit, 0);
    for file in ["bom", "plain", "utf16", "~/plain"] {
        assert_eq!(run(file, &["snapshots"]).exit, 0, "{file}");
    }
    assert_eq!(home.run_with(&[("HEIRLOOM_PASSWORD", "p\u{e4}ssword\r")], &["snapshots"]).exit, 0);
    write_at(&home.path("latin"), b"p\xe4ssword");
    run("latin", &["snapshots"]).assert_failed(12, &["UTF-8"]);
}
