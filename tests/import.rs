//! What an import does with every kind of backup folder: whole ones, damaged ones, and those that mean harm. Whatever can be kept comes
//! out again byte for byte, what cannot is named, and nothing outside of the folder is touched.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use heirloom_sim::write_backup;

use crate::support::{
    folder::{Thing, folder_at},
    noise,
    program::{
        Home, Said, SmallBackup, UDID, assert_same, blob, file_id, list, manifest_db, phone_in, plist, settle, write_at,
    },
};

const OK: i32 = 0;
const INCOMPLETE: i32 = 3;
const FAILED: i32 = 1;
const SMS: (&str, &str) = ("HomeDomain", "Library/SMS/sms.db");

/// A home with a repository and a small backup in it, to which something is done.
fn with_backup(change: impl FnOnce(&Path)) -> (Home, PathBuf) {
    let home = Home::new();
    let folder = home.path("Backup").join(UDID);
    SmallBackup::default().write(&folder);
    change(&folder);
    (home, folder)
}

/// Imports a small backup to which something was done, and sees that everything in it that can be kept comes out again.
#[track_caller]
fn import_exactly(case: &str, change: impl FnOnce(&Path)) -> (Home, Said) {
    let (home, folder) = with_backup(change);
    let before = folder_at(&home.path("Backup"));
    let said = home.run(&["import", "Backup"]);
    assert!(said.exit == OK || said.exit == INCOMPLETE, "{case}: {said:?}");
    home.assert_exact("latest", &folder);
    assert_same(&before, &folder_at(&home.path("Backup")));
    (home, said)
}

/// The same; the import must be incomplete, and a warning must contain the words.
#[track_caller]
fn warned(case: &str, words: &[&str], change: impl FnOnce(&Path)) -> Home {
    let (home, said) = import_exactly(case, change);
    assert_eq!(said.exit, INCOMPLETE, "{case}: {said:?}");
    for word in words {
        let has = |line: &str| line.starts_with("warning: ") && line.contains(word);
        assert!(said.stderr.lines().any(has), "{case}: {word}: {said:?}");
    }
    home
}

// ---- Manifest.db -------------------------------------------------------------------------------------------------------------

#[test]
fn a_manifest_that_is_cut_off_anywhere_is_named_and_everything_is_kept() {
    let many: Vec<String> = (0..300).map(|number| format!("Media/DCIM/IMG_{number:04}.HEIC")).collect();
    let database = |folder: &Path| {
        fs::remove_file(folder.join("Manifest.db")).unwrap();
        let database = manifest_db(&folder.join("Manifest.db"));
        database.execute_batch("BEGIN").unwrap();
        list(&database, &file_id(SMS.0, SMS.1), SMS.0, SMS.1);
        many.iter().for_each(|path| list(&database, &file_id("CameraRollDomain", path), "CameraRollDomain", path));
        database.execute_batch("COMMIT").unwrap();
    };
    let (_home, whole) = with_backup(database);
    let whole = fs::metadata(whole.join("Manifest.db")).unwrap().len();
    assert!(whole > 5 * 4096, "{whole}");
    for length in [0, 1, 15, 16, 99, 100, 512, 4095, 4096, 4097, whole / 2, whole - 4096, whole - 1] {
        warned(&format!("{length} of {whole} bytes"), &["Manifest.db"], |folder| {
            database(folder);
            File::options().write(true).open(folder.join("Manifest.db")).unwrap().set_len(length).unwrap();
        });
    }
}

#[test]
fn a_manifest_that_is_none_is_named_and_everything_is_kept() {
    let manifest = |folder: &Path| folder.join("Manifest.db");
    warned("garbage", &["Manifest.db"], |folder| write_at(&manifest(folder), &noise(1, 20_000)));
    warned("zeros", &["Manifest.db"], |folder| write_at(&manifest(folder), &[0; 20_000]));
    warned("garbage after the header", &["Manifest.db"], |folder| {
        let mut bytes = fs::read(manifest(folder)).unwrap();
        let len = bytes.len();
        bytes[100..].copy_from_slice(&noise(2, len - 100));
        write_at(&manifest(folder), &bytes);
    });
    warned("no table", &["Manifest.db", "Files"], |folder| {
        fs::remove_file(manifest(folder)).unwrap();
        let database = rusqlite::Connection::open(manifest(folder)).unwrap();
        database.execute_batch("CREATE TABLE Other (a)").unwrap();
    });
    warned("missing", &["Manifest.db is missing"], |folder| fs::remove_file(manifest(folder)).unwrap());
    warned("a folder", &["Manifest.db"], |folder| {
        fs::remove_file(manifest(folder)).unwrap();
        write_at(&manifest(folder).join("inside"), b"kept");
    });
}

#[test]
fn names_that_lead_out_of_the_folder_lead_nowhere() {
    let hostile = [
        ("HomeDomain", "../../../outside"),
        ("HomeDomain", "/outside"),
        ("HomeDomain", "a/../../outside"),
        ("..", "outside"),
        ("../..", "outside"),
        ("/", "outside"),
        ("", "outside"),
        ("HomeDomain", "nul\0nul"),
        ("HomeDomain", "C:\\outside"),
        ("HomeDomain", "..\\outside"),
    ];
    let (home, said) = import_exactly("names", |folder| {
        let database = rusqlite::Connection::open(folder.join("Manifest.db")).unwrap();
        for (domain, path) in hostile {
            list(&database, &file_id(domain, path), domain, path);
            write_at(&blob(folder, domain, path), path.as_bytes());
        }
        for id in ["../../outside", "/outside", "..", "", "ZZ"] {
            list(&database, id, "HomeDomain", &format!("with id {}", id.len()));
        }
        database.close().unwrap();
        write_at(&folder.parent().unwrap().join("outside"), b"a secret");
    });
    assert_eq!(said.exit, INCOMPLETE);
    for words in ["its path is not a relative path", "its domain is not a name", "its file ID is not a SHA-1"] {
        assert!(said.stderr.contains(words), "{words}: {said:?}");
    }
    assert!(!holds(&home, b"a secret"));
    let names = home.ok(&["ls", "-R", "latest"]).stdout;
    let leads_out = |name: &str| name.contains(":/") || name.split([':', '/']).any(|part| part == "..");
    assert!(names.contains("sms.db") && !names.lines().any(leads_out), "{names}");
}

/// Whether the latest snapshot holds a file with that content.
fn holds(home: &Home, content: &[u8]) -> bool {
    home.exported("latest").values().any(|thing| matches!(thing, Thing::File(file) if **file.bytes == *content))
}

#[test]
fn a_backup_that_the_phone_encrypted_is_kept_as_it_is() {
    let (home, said) = import_exactly("encrypted", |folder| {
        write_at(&folder.join("Manifest.plist"), plist("<key>IsEncrypted</key><true/>").as_bytes());
        write_at(&folder.join("Manifest.db"), &noise(3, 32_768));
        write_at(&blob(folder, SMS.0, SMS.1), &noise(4, 300_000));
    });
    assert_eq!(said.exit, OK, "{said:?}");
    assert!(said.stderr.contains("the phone encrypted this backup"), "{said:?}");
    assert_eq!(home.json(&["snapshots"])[0]["encrypted"], true);
    assert!(home.ok(&["snapshots"]).stdout.contains("encrypted"));
}

// ---- property lists ----------------------------------------------------------------------------------------------------------

#[test]
fn property_lists_that_explode_are_named_and_kept() {
    let deep = plist(&format!("<key>a</key>{}{}", "<array>".repeat(200_000), "</array>".repeat(200_000)));
    let laughs: String = (1..40).map(|n| format!("<!ENTITY l{n} \"&l{};&l{0};\">", n - 1)).collect();
    let laughs = format!(
        "<?xml version=\"1.0\"?><!DOCTYPE plist [<!ENTITY l0 \"lol\">{laughs}]><plist><dict><key>a</key><string>&l39;</string></dict></plist>"
    );
    let cases: [(&str, Vec<u8>); 5] = [
        ("deep", deep.into_bytes()),
        ("a billion laughs", laughs.into_bytes()),
        ("a billion laughs in binary", binary_bomb()),
        ("garbage", noise(5, 5000)),
        ("nothing", Vec::new()),
    ];
    for file in ["Info.plist", "Manifest.plist", "Status.plist"] {
        for (case, bytes) in &cases {
            warned(&format!("{file}: {case}"), &[file], |folder| write_at(&folder.join(file), bytes));
        }
        warned(&format!("{file}: missing"), &[&format!("{file} is missing")], |folder| {
            fs::remove_file(folder.join(file)).unwrap();
        });
    }
}

/// A binary property list of sixty arrays, each of which holds the next one twice.
fn binary_bomb() -> Vec<u8> {
    let mut bytes = b"bplist00".to_vec();
    let mut offsets = Vec::new();
    let mut object = |bytes: &mut Vec<u8>, content: &[u8]| {
        offsets.push(bytes.len() as u8);
        bytes.extend(content);
    };
    object(&mut bytes, &[0xd1, 1, 2]);
    object(&mut bytes, &[0x51, b'a']);
    (2..62).for_each(|number| object(&mut bytes, &[0xa2, number + 1, number + 1]));
    object(&mut bytes, &[0x51, b'b']);
    let table = bytes.len() as u64;
    bytes.extend(&offsets);
    bytes.extend([0, 0, 0, 0, 0, 0, 1, 1]);
    [offsets.len() as u64, 0, table].iter().for_each(|number| bytes.extend(number.to_be_bytes()));
    bytes
}

#[test]
fn a_backup_that_the_phone_did_not_finish_is_kept_and_said_to_be_so() {
    warned("unfinished", &["the phone had not finished this backup"], |folder| {
        let status =
            "<key>Date</key><date>2024-05-03T12:00:00Z</date><key>SnapshotState</key><string>uploading</string>";
        write_at(&folder.join("Status.plist"), plist(status).as_bytes());
    });
}

// ---- files -------------------------------------------------------------------------------------------------------------------

#[test]
fn a_blob_that_is_gone_is_counted() {
    let home = warned("gone", &["1 file that Manifest.db names is not in the folder"], |folder| {
        fs::remove_file(blob(folder, SMS.0, SMS.1)).unwrap();
    });
    let listed = home.ok(&["ls", "-l", "latest", "HomeDomain:Library/SMS"]).stdout;
    assert!(listed.contains("missing") && listed.contains("sms.db"), "{listed}");
    assert_eq!(home.json(&["snapshots"])[0]["files"], 6);
}

#[test]
fn what_manifest_db_does_not_know_is_kept_too() {
    let (_, said) = import_exactly("unknown", |folder| {
        write_at(&folder.join("notes.txt"), b"mine");
        write_at(&folder.join("ab/ab00000000000000000000000000000000000000"), b"a blob without a name");
        write_at(&folder.join("a/deep/er/file with spaces: and\nmore"), b"");
        fs::create_dir_all(folder.join("Snapshot/nothing in it")).unwrap();
        fs::create_dir_all(folder.join("ff")).unwrap();
        let (long, longer) = ("n".repeat(255), vec!["d".repeat(200); 15].join("/"));
        write_at(&folder.join(long), b"a long name");
        write_at(&folder.join(longer).join("file"), b"a long path");
    });
    assert_eq!(said.exit, OK, "{said:?}");
}

#[cfg(unix)]
mod unix {
    use std::os::unix::{ffi::OsStrExt, fs::PermissionsExt, fs::symlink, net::UnixListener};

    use super::*;

    #[test]
    fn links_are_named_and_not_followed() {
        let sms = blob(Path::new(""), SMS.0, SMS.1).to_str().unwrap().to_owned();
        let outside = |folder: &Path| {
            let outside = folder.ancestors().nth(2).unwrap().join("outside");
            write_at(&outside.join("secret"), b"a secret");
            outside
        };
        let home = warned("a blob", &[&format!("{sms} is a symbolic link")], |folder| {
            let blob = blob(folder, SMS.0, SMS.1);
            fs::remove_file(&blob).unwrap();
            symlink(outside(folder).join("secret"), &blob).unwrap();
        });
        assert!(!holds(&home, b"a secret"));
        let home = warned("a folder of blobs", &[&format!("{} is a symbolic link", &sms[..2])], |folder| {
            let (blobs, outside) = (folder.join(&sms[..2]), outside(folder));
            fs::rename(&blobs, outside.join("blobs")).unwrap();
            symlink(outside.join("blobs"), &blobs).unwrap();
        });
        assert!(!holds(&home, b"messages"));
        for file in ["Manifest.db", "Info.plist", "Manifest.plist", "Status.plist"] {
            let home = warned(file, &[&format!("{file} is a symbolic link")], |folder| {
                let place = outside(folder).join("file");
                fs::rename(folder.join(file), &place).unwrap();
                symlink(&place, folder.join(file)).unwrap();
            });
            assert!(!home.exported("latest").contains_key(file), "{file}");
            // The folder's own name says whose it is, and another list says when it was taken.
            let snapshot = home.json(&["snapshots"]);
            assert_eq!((&snapshot[0]["udid"], &snapshot[0]["time"]), (&UDID.into(), &"2024-05-03T12:00:00Z".into()));
        }
    }

    #[test]
    fn a_link_in_place_of_a_backup_is_skipped_and_said() {
        let (home, folder) = with_backup(|_| ());
        fs::rename(&folder, home.path("elsewhere")).unwrap();
        symlink(home.path("elsewhere"), &folder).unwrap();
        let said = home.run(&["import", "Backup"]);
        assert_eq!(said.exit, FAILED, "{said:?}");
        assert!(said.stderr.contains(UDID) && said.stderr.contains("symbolic link"), "{said:?}");
        assert_eq!(home.json(&["snapshots"]), serde_json::json!([]));
    }

    #[test]
    fn pipes_sockets_and_folders_in_place_of_files_are_named() {
        let sms = blob(Path::new(""), SMS.0, SMS.1).to_str().unwrap().to_owned();
        let make_fifo = |path: &Path| {
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        };
        let gone = "1 file that Manifest.db names is not in the folder";
        warned("a pipe", &[&format!("{sms} is a pipe"), gone], |folder| {
            fs::remove_file(folder.join(&sms)).unwrap();
            make_fifo(&folder.join(&sms));
        });
        for file in ["Manifest.db", "Info.plist"] {
            warned("a pipe", &[file], |folder| {
                fs::remove_file(folder.join(file)).unwrap();
                make_fifo(&folder.join(file));
            });
        }
        let home = warned("a socket", &["socket is a socket"], |folder| {
            UnixListener::bind(folder.join("socket")).unwrap();
        });
        assert!(!home.exported("latest").contains_key("socket"));
        warned("a folder", &[gone], |folder| {
            fs::remove_file(folder.join(&sms)).unwrap();
            fs::create_dir(folder.join(&sms)).unwrap();
        });
        warned("a folder with a file", &[gone], |folder| {
            fs::remove_file(folder.join(&sms)).unwrap();
            write_at(&folder.join(&sms).join("inside"), b"kept");
        });
    }

    #[test]
    fn what_may_not_be_read_is_named_and_the_rest_is_kept() {
        let (home, folder) = with_backup(|folder| {
            fs::set_permissions(blob(folder, SMS.0, SMS.1), fs::Permissions::from_mode(0o000)).unwrap();
        });
        let sms = blob(&folder, SMS.0, SMS.1);
        let said = home.run_as_nobody(&[], &["import", "Backup"]);
        assert_eq!(said.exit, INCOMPLETE, "{said:?}");
        let id = file_id(SMS.0, SMS.1);
        assert!(said.stderr.lines().any(|line| line.contains(&id) && line.contains("cannot be read")), "{said:?}");
        fs::remove_dir_all(sms.parent().unwrap()).unwrap();
        home.assert_exact("latest", &folder);
    }

    /// Elsewhere disks have no such names.
    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_are_not_text_are_named() {
        let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
        warned("a file", &["caf", "not UTF-8"], |folder| fs::write(folder.join(name), "").unwrap());
        warned("a folder", &["caf", "not UTF-8"], |folder| write_at(&folder.join(name).join("inside"), b""));
        let said = import_exactly("odd", |folder| write_at(&folder.join("\x1b[2Jgone"), b"")).1;
        assert!(!said.stderr.contains('\x1b') && !said.stdout.contains('\x1b'), "{said:?}");
    }
}

// ---- several backups, and none -----------------------------------------------------------------------------------------------

#[test]
fn archives_and_the_live_backup_become_snapshots_in_their_order() {
    let home = Home::new();
    let dates = ["2024-01-01T10:10:10Z", "2024-02-02T20:20:20Z", "2024-05-03T12:00:00Z"];
    let names = [format!("{UDID}-20240101-101010"), format!("{UDID}-20240202-202020"), UDID.to_owned()];
    for (name, date) in names.iter().zip(dates) {
        let content = name.as_bytes();
        SmallBackup { date, files: &[("HomeDomain", "file", content)], ..SmallBackup::default() }
            .write(&home.path("Backup").join(name));
    }
    // The live folder, whose name comes first, is the newest.
    let imported = home.json(&["import", "Backup"]);
    let order: Vec<_> = (0..3).map(|at| imported[at]["snapshot"]["time"].clone()).collect();
    assert_eq!(order, dates);
    let snapshots = home.json(&["snapshots"]);
    for (at, (name, date)) in names.iter().zip(dates).enumerate() {
        assert_eq!((&snapshots[at]["time"], &snapshots[at]["udid"]), (&date.into(), &UDID.into()));
        home.assert_exact(snapshots[at]["id"].as_str().unwrap(), &home.path("Backup").join(name));
    }
    assert_eq!(snapshots.as_array().unwrap().len(), 3);
    let again = home.ok(&["import", "Backup", &format!("Backup/{UDID}")]);
    assert!(again.stderr.ends_with("3 backups: 3 already kept\n"), "{again:?}");
}

#[test]
fn what_is_no_backup_is_refused_and_what_is_one_beside_it_is_kept() {
    let (home, folder) = with_backup(|_| ());
    fs::create_dir(home.path("empty")).unwrap();
    write_at(&home.path("photos/2024/IMG_1.JPG"), b"a photo");
    write_at(&home.path("file"), b"a file");
    for path in ["empty", "photos", "file", "nowhere"] {
        let said = home.run(&["import", path]);
        assert_eq!((said.exit, &*said.stdout), (FAILED, ""), "{path}: {said:?}");
        assert!(said.stderr.starts_with("error: ") && said.stderr.contains(path), "{path}: {said:?}");
    }
    assert_eq!(home.json(&["snapshots"]), serde_json::json!([]));
    let said = home.run(&["import", "nowhere", "Backup", "photos"]);
    assert_eq!(said.exit, FAILED, "{said:?}");
    home.assert_exact("latest", &folder);
}

// ---- again -------------------------------------------------------------------------------------------------------------------

#[test]
fn an_unchanged_folder_is_not_read_again() {
    let (home, folder) = with_backup(|_| ());
    let first = home.json(&["import", "Backup"]);
    let again = home.ok(&["import", "Backup"]);
    assert!(again.stdout.contains("is already kept as") && again.stdout.contains("nothing new"), "{again:?}");

    // Nobody but a liar changes a file in place and sets its old time; that it is not seen shows that it is not read.
    let sms = blob(&folder, SMS.0, SMS.1);
    fs::write(&sms, b"Messages").unwrap();
    settle(&sms);
    assert_eq!(home.json(&["import", "Backup"])[0]["outcome"], "known");
    let second = home.json(&["import", "--full-read", "Backup"]);
    assert_eq!(second[0]["outcome"], "kept");
    home.assert_exact(second[0]["snapshot"]["id"].as_str().unwrap(), &folder);
    home.ok(&["export", first[0]["snapshot"]["id"].as_str().unwrap(), "--to", "out"]);
    assert_eq!(fs::read(blob(&home.path("out").join(UDID), SMS.0, SMS.1)).unwrap(), b"messages");

    assert_eq!(home.json(&["import", "Backup"])[0]["outcome"], "known");
    assert_eq!(home.json(&["import", "--force", "Backup"])[0]["outcome"], "kept");
    assert_eq!(home.json(&["snapshots"]).as_array().unwrap().len(), 3);
}

#[test]
fn after_a_change_only_that_is_new() {
    let (home, folder) = with_backup(|folder| {
        write_at(&blob(folder, "CameraRollDomain", "Media/DCIM/IMG_0001.HEIC"), &noise(7, 2_000_000));
        write_at(&folder.join("more"), &noise(8, 1_000_000));
    });
    home.ok(&["import", "Backup"]);
    write_at(&blob(&folder, SMS.0, SMS.1), &noise(9, 50_000));
    let imported = home.json(&["import", "Backup"]);
    let added = imported[0]["snapshot"]["added_bytes"].as_u64().unwrap();
    assert!((50_000..80_000).contains(&added), "{added}");
    home.assert_exact(imported[0]["snapshot"]["id"].as_str().unwrap(), &folder);
}

#[test]
fn three_days_come_out_as_they_were() {
    let home = Home::new();
    let (mut phone, folder) = phone_in(&home.path("Backup"), 20_000_000);
    let mut days = vec![folder_at(&folder)];
    home.ok(&["import", "Backup"]);
    for _ in 1..3 {
        phone.live_one_day().unwrap();
        write_backup(&phone, &home.path("Backup")).unwrap();
        home.ok(&["import", "Backup"]);
        days.push(folder_at(&folder));
    }
    let assert_all_exact = |repository: &str| {
        fs::remove_dir_all(home.path("cache")).unwrap();
        for (back, day) in days.iter().rev().enumerate() {
            let to = format!("{repository}-{back}");
            home.ok(&["--repo", repository, "export", &format!("latest~{back}"), "--to", &to]);
            assert_same(&folder_at(&home.path(&to).join(phone.udid())), day);
        }
        home.ok(&["--repo", repository, "check", "--read-data"]);
        let again = home.json(&["--repo", repository, "import", "Backup"]);
        assert_eq!(again[0]["outcome"], "known");
    };
    assert!(home.path("cache").is_dir());
    assert_all_exact("repo");
    copy_recursively(&home.path("repo"), &home.path("copy"));
    assert_all_exact("copy");
}

/// As `cp -r` does.
fn copy_recursively(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_recursively(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}

// ---- the same again, and dates ---------------------------------------------------------------------------------------------------

/// The bytes of all packs of the repository.
fn packed(home: &Home) -> u64 {
    let files = folder_at(&home.path("repo"));
    let packs = files.iter().filter(|(path, _)| path.starts_with("packs/") || path.starts_with("trees/"));
    packs.map(|(_, thing)| if let Thing::File(file) = thing { file.bytes.len() as u64 } else { 0 }).sum()
}

#[test]
fn same_backup_with_other_times_is_known() {
    let (home, folder) = with_backup(|_| ());
    let first = home.json(&["import", "Backup"]);
    let before = packed(&home);
    // As SMB, exFAT and `cp -r` do.
    copy_recursively(&folder, &home.path("copy"));
    for args in [&["import", "copy"][..], &["import", "copy"], &["import", "--full-read", "copy"]] {
        let again = home.json(args);
        assert_eq!((&again[0]["outcome"], &again[0]["snapshot"]["id"]), (&"known".into(), &first[0]["snapshot"]["id"]));
    }
    fs::remove_dir_all(home.path("cache")).unwrap();
    assert_eq!(home.json(&["import", "copy"])[0]["outcome"], "known");
    assert_eq!((home.json(&["snapshots"]).as_array().unwrap().len(), packed(&home)), (1, before));

    // One byte makes it another.
    fs::write(blob(&home.path("copy"), SMS.0, SMS.1), b"Messages").unwrap();
    assert_eq!(home.json(&["import", "copy"])[0]["outcome"], "kept");
    home.assert_exact("latest", &home.path("copy"));
    assert_eq!(home.json(&["import", "Backup"])[0]["snapshot"]["id"], first[0]["snapshot"]["id"]);
    fs::write(home.path("copy/more"), b"one more file").unwrap();
    assert_eq!(home.json(&["import", "copy"])[0]["outcome"], "kept");
}

#[test]
fn undated_backup_with_other_times_is_known() {
    let (home, folder) = with_backup(|folder| {
        ["Info.plist", "Status.plist"].iter().for_each(|list| fs::remove_file(folder.join(list)).unwrap());
    });
    assert_eq!(home.json(&["import", "Backup"])[0]["outcome"], "kept");
    copy_recursively(&folder, &home.path(&format!("{UDID}-copy")));
    fs::create_dir(home.path("other")).unwrap();
    fs::rename(home.path(&format!("{UDID}-copy")), home.path("other").join(UDID)).unwrap();
    assert_eq!(home.json(&["import", "other"])[0]["outcome"], "known");
}

#[test]
fn known_backup_tells_its_warnings_again() {
    let (home, folder) = with_backup(|folder| fs::remove_file(blob(folder, SMS.0, SMS.1)).unwrap());
    let first = home.json(&["import", "Backup"]);
    copy_recursively(&folder, &home.path("copy"));
    for path in ["Backup", "copy"] {
        let again = home.json(&["import", path]);
        assert_eq!(again[0]["outcome"], "known");
        for key in ["warnings", "missing_files", "missing"] {
            assert_eq!(again[0][key], first[0][key], "{key}");
        }
        let said = home.run(&["import", path]);
        assert!(said.exit == INCOMPLETE && said.stderr.contains("sms.db (messages)"), "{said:?}");
    }
}

#[test]
fn missing_messages_are_named() {
    let gone = [SMS.1, "Library/Voicemail/voicemail.db", "a", "b", "c"];
    let (home, _) = with_backup(|folder| {
        fs::remove_file(blob(folder, SMS.0, SMS.1)).unwrap();
        let database = rusqlite::Connection::open(folder.join("Manifest.db")).unwrap();
        gone[1..].iter().for_each(|path| list(&database, &file_id("HomeDomain", path), "HomeDomain", path));
    });
    let said = home.run(&["-v", "import", "Backup"]);
    let words = "5 files that Manifest.db names are not in the folder, among them HomeDomain:Library/SMS/sms.db (messages), \
                 HomeDomain:Library/Voicemail/voicemail.db (voicemail)";
    assert!(said.exit == INCOMPLETE && said.stderr.contains(words), "{said:?}");
    gone.iter().for_each(|path| assert!(said.stderr.contains(&format!("missing: HomeDomain:{path}\n")), "{said:?}"));
    let mut names = home.json(&["import", "--force", "Backup"])[0]["missing"].clone();
    names.as_array_mut().unwrap().sort_by_key(|name| name.to_string());
    let mut wanted = gone.map(|path| format!("HomeDomain:{path}"));
    wanted.sort();
    assert_eq!(names, serde_json::json!(wanted));

    // They are found again.
    let shown = home.ok(&["snapshots", "latest"]).stdout;
    assert!(shown.contains(&format!("warning  {words}")), "{shown}");
    let row = &home.json(&["snapshots", "latest"])[0];
    assert!(row["warning_count"] == 1 && row["warnings"][0].as_str().unwrap().contains("sms.db"), "{row}");
}

#[test]
fn clock_ahead_does_not_decide_latest() {
    let home = Home::new();
    for (number, date) in ["2024-01-01T10:10:10Z", "2099-02-02T20:20:20Z", "2024-05-03T12:00:00Z"].iter().enumerate() {
        let file = number.to_string();
        let files = [("HomeDomain", "file", file.as_bytes())];
        SmallBackup { date, files: &files, ..SmallBackup::default() }.write(&home.path(&format!("{number}")));
        home.ok(&["import", &number.to_string()]);
    }
    let rows = home.json(&["snapshots"]);
    let of = |key: &str| rows.as_array().unwrap().iter().map(|row| row[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("time"), ["2099-02-02T20:20:20Z", "2024-01-01T10:10:10Z", "2024-05-03T12:00:00Z"]);
    assert_eq!(of("time_doubtful"), [true, false, false]);
    let shown = home.ok(&["snapshots"]).stdout;
    assert!(shown.lines().nth(1).unwrap().ends_with("date doubtful: says 2099-02-02 20:20"), "{shown}");
    for spec in ["latest", "Maria's iPhone", "@2024", "@2098-01-01~0"] {
        let exported = tempfile::tempdir().unwrap();
        home.ok(&["export", spec, "--to", exported.path().to_str().unwrap()]);
        let file = blob(&exported.path().join(UDID), "HomeDomain", "file");
        assert_eq!(fs::read(&file).unwrap(), b"2", "{spec}");
    }
    // The doubtful one takes nobody's place.
    let forgotten = home.json(&["forget", "--keep-last", "2", "--dry-run"]);
    assert_eq!(forgotten["removed"], serde_json::json!([]), "{forgotten}");
}

/// The program with a clock that says `seconds` since 1970, where that can be made.
#[cfg(target_os = "linux")]
fn at_time(home: &Home, seconds: i64) -> Option<std::path::PathBuf> {
    let (source, library) = (home.path("clock.c"), home.path(&format!("clock{seconds}.so")));
    let code = format!(
        "#define _GNU_SOURCE\n#include <time.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
         int clock_gettime(clockid_t id, struct timespec *now) {{\n\
         if (id == CLOCK_REALTIME) {{ now->tv_sec = {seconds}LL; now->tv_nsec = 0; return 0; }}\n\
         return syscall(SYS_clock_gettime, id, now); }}\n"
    );
    fs::write(&source, code).unwrap();
    let compile = ["-shared", "-fPIC", "-o", library.to_str().unwrap(), source.to_str().unwrap()];
    let made = std::process::Command::new("cc").args(compile).status().is_ok_and(|status| status.success());
    made.then_some(library)
}

#[cfg(target_os = "linux")]
#[test]
fn clock_outside_the_calendar_stops_nothing() {
    let (home, folder) = with_backup(|_| ());
    home.ok(&["import", "Backup"]);
    for (number, seconds) in [400_000_000_000, -100_000_000_000, 9_000_000_000_000_000_000i64].into_iter().enumerate() {
        let Some(library) = at_time(&home, seconds) else {
            println!("skipped: there is no C compiler");
            return;
        };
        let run = |args: &[&str]| {
            let said = home.said(home.command(args).env("LD_PRELOAD", &library));
            assert_eq!(said.exit, OK, "{seconds} {args:?}: {said:?}");
            said
        };
        write_at(&folder.join("more"), number.to_string().as_bytes());
        run(&["import", "Backup"]);
        run(&["snapshots"]);
        run(&["snapshots", "latest"]);
        run(&["--json", "snapshots"]);
        run(&["ls", "@2024"]);
        run(&["stats"]);
        run(&["pin", "latest"]);
        run(&["check", "--read-data"]);
        run(&["forget", "--keep-daily", "3", "--keep-within", "9d", "--dry-run"]);
        run(&["forget", "--keep-yearly", "1"]);
        run(&["undelete"]);
        run(&["prune"]);
    }
    home.ok(&["check", "--read-data"]);
}
