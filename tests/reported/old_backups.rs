//! Backups of iOS 9 and before, and property lists in which a value is impossible.

use std::{fs, path::Path};

use crate::support::phone::Attached;
use crate::support::program::{Home, SmallBackup, UDID, file_id, plist, write_at};

const OLD_UDID: &str = "1cb128eafa77c5be74283e9a3a2130af36a3c059";
const BACKUP_PASSWORD: &str = "pässword";
/// Made with Python's `hashlib.pbkdf2_hmac` and `cryptography`'s `aes_key_wrap`: a keybag of iOS 4, which knows SHA-1 alone,
/// of one class, 3; the key of a file, wrapped by it; and the ciphertext of `MESSAGES` under that key.
const KEYBAG: &str = "VkVSUwAAAAQAAAADVFlQRQAAAAQAAAABVVVJRAAAABAAAQIDBAUGBwgJCgsMDQ4PSE1DSwAAACgAAQIDBAUGBwgJCgsMDQ4PEBES\
    ExQVFhcYGRobHB0eHyAhIiMkJSYnV1JBUAAAAAQAAAAAU0FMVAAAABSAgYKDhIWGh4iJiouMjY6PkJGSk0lURVIAAAAEAAAABVVVSUQAAAAQEBESExQVFhcY\
    GRobHB0eH0NMQVMAAAAEAAAAA1dSQVAAAAAEAAAAAktUWVAAAAAEAAAAAFdQS1kAAAAoC4yGNQfB2Rg2X3HhIaVfBrYv3v14h+A1fxoUoGIXM5zT04YandfQ0g==";
const FILE_KEY: &str = "03000000e1498c612c3549dde4c1a00c64366d9c1c1952e0a28d4efe6846ab14caef63f31529d2b96a9dd5a2";
const CIPHERTEXT: &str = "14a8827aa7a4c5890ccc1df72b2d24db1ab6b6a0e5e68fb28f5c4763836f452d";
const MESSAGES: &[u8] = b"messages of an old phone";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A record of Manifest.mbdb.
fn record(domain: &str, path: &str, mode: u16, target: Option<&str>, key: Option<&[u8]>) -> Vec<u8> {
    let string = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) => [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat(),
        None => vec![0xff, 0xff],
    };
    let texts = [Some(domain.as_bytes()), Some(path.as_bytes()), target.map(str::as_bytes), None, key];
    let mut record: Vec<u8> = texts.into_iter().flat_map(string).collect();
    record.extend(mode.to_be_bytes());
    record.extend([0; 8]);
    record.extend([501_u32, 501, 1_300_000_000, 1_300_000_000, 1_300_000_000].into_iter().flat_map(u32::to_be_bytes));
    record.extend(24_u64.to_be_bytes());
    record.extend([3, 0]);
    record
}

/// A backup of iOS 4 in `folder`: a database, a folder and a link, the blob in the folder itself.
fn old_backup(folder: &Path, is_encrypted: bool) {
    let info = format!(
        "<key>Device Name</key><string>Old iPhone</string><key>Target Identifier</key><string>{OLD_UDID}</string>\
         <key>Product Version</key><string>4.3.5</string><key>Last Backup Date</key><date>2011-08-01T10:00:00Z</date>"
    );
    write_at(&folder.join("Info.plist"), plist(&info).as_bytes());
    let keybag = format!("<key>BackupKeyBag</key><data>{KEYBAG}</data><key>IsEncrypted</key><true/>");
    let manifest = if is_encrypted { &*keybag } else { "<key>IsEncrypted</key><false/>" };
    write_at(&folder.join("Manifest.plist"), plist(manifest).as_bytes());
    let status = "<key>Date</key><date>2011-08-01T10:00:00Z</date><key>SnapshotState</key><string>finished</string>";
    write_at(&folder.join("Status.plist"), plist(status).as_bytes());
    let key = bytes(FILE_KEY);
    let records = [
        record("HomeDomain", "Library/SMS", 0x41ed, None, None),
        record("HomeDomain", "Library/SMS/sms.db", 0x81a4, None, is_encrypted.then_some(&key)),
        record("CameraRollDomain", "Media/link", 0xa1ff, Some("/var/mobile"), None),
    ];
    write_at(&folder.join("Manifest.mbdb"), &[&b"mbdb\x05\x00"[..], &records.concat()].concat());
    write_at(&folder.join("Manifest.mbdx"), b"mbdx\x02\x00\0\0\0\0");
    let content = if is_encrypted { bytes(CIPHERTEXT) } else { MESSAGES.to_vec() };
    write_at(&folder.join(file_id("HomeDomain", "Library/SMS/sms.db")), &content);
}

/// mbdb-names
#[test]
fn backups_of_ios_4_have_names_and_come_back() {
    let home = Home::new();
    let folder = home.path("Backup").join(OLD_UDID);
    old_backup(&folder, false);
    let said = home.ok(&["import", "Backup"]);
    assert!(!said.stderr.contains("warning"), "{said:?}");
    let listed = home.ok(&["ls", "-R", "latest"]).stdout;
    assert!(listed.contains("HomeDomain:Library/SMS/sms.db") && listed.contains("Media/link"), "{listed}");
    assert_eq!(home.json(&["snapshots"])[0]["product_version"], "4.3.5");
    home.assert_exact("latest", &folder);
    assert!(home.ok(&["import", "Backup"]).stdout.contains("already kept"));
}

#[test]
fn old_backup_goes_onto_no_phone_of_today() {
    for is_encrypted in [false, true] {
        let attached = Attached::paired();
        old_backup(&attached.home.path("Backup").join(OLD_UDID), is_encrypted);
        attached.ok(&["import", "Backup"]);
        let before = attached.phone.traffic();
        let args = ["restore", "latest", "--yes", "--udid", attached.phone.udid()];
        attached.fails(&args, 22, &["iOS 9 or earlier", "iOS 10 and later", "heirloom export"]);
        assert_eq!(attached.phone.traffic(), before);
        assert_eq!(attached.phone.posted(), [""; 0], "nothing was begun");
        attached.assert_left_well();
    }
}

#[test]
fn an_old_manifest_that_is_cut_off_is_named() {
    let home = Home::new();
    let folder = home.path("Backup").join(OLD_UDID);
    old_backup(&folder, false);
    let whole = fs::read(folder.join("Manifest.mbdb")).unwrap();
    write_at(&folder.join("Manifest.mbdb"), &whole[..whole.len() - 9]);
    let said = home.run(&["import", "Backup"]);
    assert_eq!(said.exit, 3, "{said:?}");
    assert!(said.stderr.contains("Manifest.mbdb is damaged"), "{said:?}");
    assert!(home.ok(&["ls", "-R", "latest"]).stdout.contains("sms.db"));
    home.assert_exact("latest", &folder);
}

#[test]
fn a_file_that_an_old_manifest_names_may_be_gone() {
    let home = Home::new();
    let folder = home.path("Backup").join(OLD_UDID);
    old_backup(&folder, false);
    fs::remove_file(folder.join(file_id("HomeDomain", "Library/SMS/sms.db"))).unwrap();
    let said = home.run(&["import", "Backup"]);
    assert_eq!(said.exit, 3, "{said:?}");
    assert!(said.stderr.contains("1 file that Manifest.mbdb names is not in the folder"), "{said:?}");
}

/// mbdb-password: the file is kept as plaintext, and comes back as ciphertext.
#[test]
fn encrypted_backups_of_ios_4_are_opened() {
    let home = Home::empty();
    let folder = home.path("Backup").join(OLD_UDID);
    old_backup(&folder, true);
    let variables = [("HEIRLOOM_PASSWORD", "of the repository"), ("HEIRLOOM_BACKUP_PASSWORD", BACKUP_PASSWORD)];
    let run = |args: &[&str]| home.run_with(&variables, args);
    assert_eq!(run(&["init", "--no-verify"]).exit, 0);
    let said = run(&["import", "Backup"]);
    assert_eq!(said.exit, 0, "{said:?}");
    assert!(!said.stderr.contains("warning"), "{said:?}");
    let listed = run(&["--json", "snapshots"]).stdout;
    assert!(listed.contains("\"sealed\":true") || listed.contains("\"sealed\": true"), "{listed}");
    let to = home.path("out");
    assert_eq!(run(&["export", "latest", "--to", to.to_str().unwrap()]).exit, 0);
    crate::support::program::assert_same(
        &crate::support::folder::folder_at(&to.join(OLD_UDID)),
        &crate::support::folder::folder_at(&folder),
    );
}

/// mbdb-password: without it names are there, it is said what is not, and it can be had later.
#[test]
fn encrypted_backups_of_ios_4_are_converted_later() {
    let home = Home::empty();
    let folder = home.path("Backup").join(OLD_UDID);
    old_backup(&folder, true);
    let of_repository = ("HEIRLOOM_PASSWORD", "of the repository");
    let run = |args: &[&str]| home.run_with(&[of_repository], args);
    assert_eq!(run(&["init", "--no-verify"]).exit, 0);
    let said = run(&["import", "Backup"]);
    assert_eq!(said.exit, 0, "{said:?}");
    assert!(said.stderr.contains("the phone encrypted this backup"), "{said:?}");
    assert!(run(&["ls", "-R", "latest"]).stdout.contains("sms.db"));
    let with_password = [of_repository, ("HEIRLOOM_BACKUP_PASSWORD", BACKUP_PASSWORD)];
    let said = home.run_with(&with_password, &["unseal"]);
    assert_eq!(said.exit, 0, "{said:?}");
    let listed = run(&["--json", "snapshots"]).stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["sealed"], true);
    assert!(run(&["ls", "-R", "latest"]).stdout.contains("sms.db"));
}

/// mbdb-password: a password that opens the keybag and no file is not passed over in silence.
#[test]
fn a_password_that_opens_no_file_is_said() {
    let home = Home::empty();
    let folder = home.path("Backup").join(OLD_UDID);
    old_backup(&folder, true);
    let records = record("HomeDomain", "Library/SMS/sms.db", 0x81a4, None, None);
    write_at(&folder.join("Manifest.mbdb"), &[&b"mbdb\x05\x00"[..], &records].concat());
    let variables = [("HEIRLOOM_PASSWORD", "of the repository"), ("HEIRLOOM_BACKUP_PASSWORD", BACKUP_PASSWORD)];
    assert_eq!(home.run_with(&variables, &["init", "--no-verify"]).exit, 0);
    let said = home.run_with(&variables, &["import", "Backup"]);
    assert_eq!(said.exit, 3, "{said:?}");
    assert!(said.stderr.contains("opens none of the files"), "{said:?}");
}

/// status-of-ios3
#[test]
fn a_backup_of_ios_3_counts_as_finished() {
    let home = Home::new();
    let folder = home.path("Backup").join(OLD_UDID);
    old_backup(&folder, false);
    fs::remove_file(folder.join("Manifest.mbdb")).unwrap();
    write_at(&folder.join("0a1b2c3d4e5f60718293a4b5c6d7e8f901234567.mdinfo"), b"bplist00");
    let status = "<key>Backup Success</key><true/><key>Date</key><date>2009-08-01T10:00:00Z</date>";
    write_at(&folder.join("Status.plist"), plist(status).as_bytes());
    let said = home.run(&["import", "Backup"]);
    assert!(!said.stderr.contains("had not finished"), "{said:?}");
    assert!(said.stderr.contains("iOS 3 or earlier"), "{said:?}");
    home.assert_exact("latest", &folder);
}

/// plist-one-bad-value
#[test]
fn one_bad_value_costs_no_other() {
    let home = Home::new();
    let folder = home.path("Backup").join(UDID);
    SmallBackup::default().write(&folder);
    let mut info = b"<plist><dict><key>Device Name</key><string>Ren".to_vec();
    info.extend(b"\xe9</string><key>Last Backup Date</key><date>0000-12-30T00:00:00Z</date><key>iTunes Version</key>");
    info.extend(b"<integer>0xZZ</integer><key>Product Version</key><string>9.3.5</string></dict></plist>");
    write_at(&folder.join("Info.plist"), &info);
    let manifest = "<key>Date</key><date>99999-01-01T00:00:00Z</date><key>IsEncrypted</key><false/>";
    write_at(&folder.join("Manifest.plist"), plist(manifest).as_bytes());
    let said = home.ok(&["import", "Backup"]);
    assert!(!said.stderr.contains("warning"), "{said:?}");
    let snapshot = &home.json(&["snapshots"])[0];
    assert_eq!((&snapshot["device_name"], &snapshot["product_version"]), (&"Ren\u{fffd}".into(), &"9.3.5".into()));
    assert_eq!((&snapshot["encrypted"], &snapshot["time"]), (&false.into(), &"2024-05-03T12:00:00Z".into()));
}

/// A copy has other times than the backup had, but Finder has written its date into its name.
#[test]
fn archived_backup_without_dates_is_not_newest() {
    let home = Home::new();
    let backups = home.path("Backup");
    SmallBackup::default().write(&backups.join(UDID));
    let archived = backups.join(format!("{UDID}-20190102-120000"));
    SmallBackup { files: &[("HomeDomain", "old", b"old")], ..SmallBackup::default() }.write(&archived);
    for list in ["Info.plist", "Manifest.plist", "Status.plist"] {
        fs::write(archived.join(list), "").unwrap();
    }
    assert_eq!(home.run(&["import", "Backup"]).exit, 3);
    let listed = home.json(&["snapshots"]);
    let times: Vec<&str> = listed.as_array().unwrap().iter().map(|row| &row["time"].as_str().unwrap()[..7]).collect();
    assert_eq!(times, ["2019-01", "2024-05"]);
    assert!(home.ok(&["ls", "-R", "latest"]).stdout.contains("sms.db"));
}
