//! Backups that the phone encrypts, and the password by which it does.

use std::{io::Read, process::Command};

use heirloom_sim::{Fault, Options};
use serde_json::json;

use super::{REFUSED, WRONG_BACKUP_PASSWORD};
use crate::support::{
    folder::Thing,
    phone::{Attached, assert_restored, bytes_at, files_of, phone_on_day, place_of},
    program::assert_same,
};

const BACKUP_PASSWORD: &str = "HEIRLOOM_BACKUP_PASSWORD";
const NEW_PASSWORD: &str = "HEIRLOOM_NEW_BACKUP_PASSWORD";

#[track_caller]
fn assert_state(attached: &Attached, encrypted: bool) {
    assert_eq!(attached.phone.is_encrypting(), encrypted);
    let status = attached.json(&["encryption", "status"]);
    let name = attached.phone.phone().name().to_owned();
    assert_eq!(status, json!({ "udid": attached.phone.udid(), "name": name, "encrypted": encrypted }));
    let words = if encrypted { "encrypts its backups" } else { "does not encrypt its backups" };
    assert!(attached.ok(&["encryption", "status"]).stdout.contains(words));
    assert_eq!(attached.json(&["devices"])[0]["encrypted"], encrypted);
}

#[test]
fn a_password_is_set_changed_and_removed() {
    let attached = Attached::paired();
    let change = |action: &str, variables: &[(&str, &str)], exit: i32| {
        let said = attached.run_with(variables, &["encryption", action]);
        assert_eq!(said.exit, exit, "{action} {variables:?}: {said:?}");
        said
    };
    assert_state(&attached, false);
    change("off", &[(BACKUP_PASSWORD, "x")], 1);
    change("change-password", &[(BACKUP_PASSWORD, "x"), (NEW_PASSWORD, "y")], 1);
    // Nobody is there to be asked.
    change("on", &[], WRONG_BACKUP_PASSWORD).assert_failed(WRONG_BACKUP_PASSWORD, &["HEIRLOOM_NEW_BACKUP_PASSWORD"]);
    change("on", &[(BACKUP_PASSWORD, "the old one")], WRONG_BACKUP_PASSWORD);
    assert_state(&attached, false);
    change("on", &[(NEW_PASSWORD, "first")], 0);
    assert_state(&attached, true);
    change("on", &[(NEW_PASSWORD, "second")], 1);
    change("change-password", &[(BACKUP_PASSWORD, "wrong"), (NEW_PASSWORD, "second")], WRONG_BACKUP_PASSWORD);
    change("change-password", &[(BACKUP_PASSWORD, "first")], WRONG_BACKUP_PASSWORD);
    change("off", &[(BACKUP_PASSWORD, "second")], WRONG_BACKUP_PASSWORD);
    assert_state(&attached, true);
    change("change-password", &[(BACKUP_PASSWORD, "first"), (NEW_PASSWORD, "second")], 0);
    change("off", &[(BACKUP_PASSWORD, "first")], WRONG_BACKUP_PASSWORD);
    change("off", &[(BACKUP_PASSWORD, "second")], 0);
    assert_state(&attached, false);
    assert_eq!(attached.phone.complaints(), Vec::<String>::new());
}

#[test]
fn an_encrypted_backup_is_kept_and_opens_with_its_password_alone() {
    let attached = Attached::paired_with(Options { password: Some("secret".into()), ..Options::default() });
    let mut exports = Vec::new();
    for day in 0..2 {
        if day > 0 {
            attached.phone.live_one_day().unwrap();
        }
        let before = attached.phone.traffic().files_sent;
        let rows = attached.json(&["backup", "--as-ciphertext"]);
        assert_eq!((&rows[0]["outcome"], &rows[0]["snapshot"]["encrypted"]), (&"kept".into(), &true.into()), "{rows}");
        let sent = attached.phone.traffic().files_sent - before;
        assert_eq!(sent < 100, day > 0, "{sent}");
        exports.push(attached.home.exported("latest"));
    }
    for (snapshot, export) in ["latest~1", "latest"].iter().zip(&exports) {
        assert_same(&attached.home.exported(snapshot), export);
        for (location, file) in files_of(&attached.phone.phone()).filter(|(_, file)| file.size > 0) {
            let mut clear = Vec::new();
            file.open().unwrap().read_to_end(&mut clear).unwrap();
            assert_ne!(bytes_at(export, &place_of(location)), Some(&clear), "{location} is not encrypted");
        }
        assert!(!bytes_at(export, "Manifest.db").unwrap().starts_with(b"SQLite"));
        assert!(export.values().filter(|thing| matches!(thing, Thing::File(_))).count() > 100);
    }

    let traffic = attached.phone.traffic();
    attached.fails(&["restore", "latest", "--yes"], WRONG_BACKUP_PASSWORD, &[BACKUP_PASSWORD]);
    assert_eq!(attached.phone.traffic(), traffic);
    let wrong = attached.run_with(&[(BACKUP_PASSWORD, "wrong")], &["restore", "latest", "--yes"]);
    wrong.assert_failed(WRONG_BACKUP_PASSWORD, &["password is wrong"]);
    assert!(attached.phone.restored().is_none());
    for (snapshot, day) in [("latest", 1), ("latest~1", 0)] {
        let restored = attached.restore(&[(BACKUP_PASSWORD, "secret")], &[snapshot]);
        assert_restored(&restored, &phone_on_day(day), true);
    }
    attached.assert_left_well();
}

/// The phone compares bytes: it gets the form by which it encrypted, whatever was typed.
#[test]
fn phone_is_told_the_form_that_opens_a_backup() {
    let (composed, decomposed) = ("pass\u{e9}", "passe\u{301}");
    let attached = Attached::paired_with(Options { password: Some(composed.into()), ..Options::default() });
    let typed = [(BACKUP_PASSWORD, decomposed)];
    let said = attached.run_with(&typed, &["backup", "--remember-password", "--plain-is-fine"]);
    assert_eq!(said.exit, 0, "{said:?}");
    for variables in [&typed[..], &[]] {
        let restored = attached.restore(variables, &["latest"]);
        assert_restored(&restored, &phone_on_day(0), true);
    }
    attached.assert_left_well();
}

#[test]
fn a_change_of_the_password_begins_anew_and_older_backups_keep_theirs() {
    let attached = Attached::paired();
    attached.back_up(&[]);
    let passwords = ["first", "second"];
    let on = attached.run_with(&[(NEW_PASSWORD, passwords[0])], &["encryption", "on"]);
    assert_eq!(on.exit, 0, "{on:?}");
    assert_eq!(attached.json(&["backup", "--as-ciphertext"])[0]["snapshot"]["encrypted"], true);
    let change = [(BACKUP_PASSWORD, passwords[0]), (NEW_PASSWORD, passwords[1])];
    let changed = attached.run_with(&change, &["encryption", "change-password"]);
    assert_eq!(changed.exit, 0, "{changed:?}");
    let everything = files_of(&phone_on_day(0)).count() as u64;
    let rows = attached.json(&["backup", "--as-ciphertext"]);
    assert!(rows[0]["received_files"].as_u64().unwrap() > everything, "{rows}");
    for (snapshot, password, exit) in [
        ("latest", passwords[0], WRONG_BACKUP_PASSWORD),
        ("latest", passwords[1], 0),
        ("latest~1", passwords[1], WRONG_BACKUP_PASSWORD),
        ("latest~1", passwords[0], 0),
        ("latest~2", "", 0),
    ] {
        if exit == 0 {
            let restored = attached.restore(&[(BACKUP_PASSWORD, password)], &[snapshot]);
            assert_restored(&restored, &phone_on_day(0), true);
        } else {
            let said = attached.run_with(&[(BACKUP_PASSWORD, password)], &["restore", "--yes", snapshot]);
            assert_eq!(said.exit, exit, "{snapshot} {password}: {said:?}");
        }
    }
    attached.assert_left_well();
}

/// Bytes that are free where the home is.
#[cfg(unix)]
fn free_bytes(attached: &Attached) -> u64 {
    let said = Command::new("df").arg("-Pk").arg(attached.home.path("")).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    said.lines().nth(1).unwrap().split_whitespace().nth(3).unwrap().parse::<u64>().unwrap() << 10
}

#[cfg(unix)]
#[test]
fn encrypting_phone_is_told_all_the_room() {
    let attached = Attached::paired_with(Options { password: Some("secret".into()), ..Options::default() });
    let of_repository = [("HEIRLOOM_REPOSITORY", "sealed"), ("HEIRLOOM_PASSWORD", "of the repository")];
    let variables = [&of_repository[..], &[(BACKUP_PASSWORD, "secret")]].concat();
    assert_eq!(attached.run_with(&variables, &["init", "--no-verify"]).exit, 0);
    // More than half of it, and less than other tests may take meanwhile.
    attached.phone.set_fault(Some(Fault::WantsRoom(free_bytes(&attached) / 4 * 3)));
    let said = attached.run_with(&variables, &["backup"]);
    assert_eq!(said.exit, 0, "{said:?}");
    let wanted = free_bytes(&attached) * 2;
    attached.phone.set_fault(Some(Fault::WantsRoom(wanted)));
    let said = attached.run_with(&variables, &["backup", "--full"]);
    // 128 MiB are the phone's own reserve, 256 MiB are ours.
    let needed = (wanted + (384 << 20)) as f64 / 1e9;
    said.assert_failed(REFUSED, &["not enough free space", &format!("{needed:.1} GB must be free")]);
    attached.assert_left_well();
}

#[test]
fn odd_ciphertext_is_kept_bit_for_bit() {
    let attached = Attached::paired_with(Options { password: Some("secret".into()), ..Options::default() });
    attached.phone.set_fault(Some(Fault::OddLength(4)));
    let secret = [(BACKUP_PASSWORD, "secret")];
    let said = attached.run_with(&secret, &["backup", "--plain-is-fine"]);
    assert_eq!(said.exit, 0, "{said:?}");
    let export = attached.home.exported("latest");
    let is_odd = |bytes: &Vec<u8>| bytes.len() % 16 == 4 && bytes.ends_with(b"tail");
    let odd = files_of(&attached.phone.phone())
        .filter(|(location, _)| bytes_at(&export, &place_of(location)).is_some_and(is_odd))
        .count();
    assert!(odd > 10, "{odd}");
    attached.phone.set_fault(None);
    let said = attached.run_with(&secret, &["backup", "--plain-is-fine"]);
    assert_eq!(said.exit, 0, "{said:?}");
    assert_restored(&attached.restore(&secret, &["latest"]), &phone_on_day(0), true);
    attached.assert_left_well();
}
