//! The main story: a phone is paired, backed up on some days, and becomes again what it was on one of them.

use std::fs;

use heirloom_sim::{Options, Trust, write_backup};
use serde_json::json;

use super::{FAILED, INCOMPLETE, NOT_TRUSTED, REFUSED, USAGE};
use crate::support::{
    folder::{Folder, folder_at},
    phone::{
        Attached, FILES_OF_EACH_BACKUP, assert_restored, assert_whole, bytes_at, files_of, phone_on_day, place_of,
    },
    program::{PASSWORD, SmallBackup, assert_same, blob, write_at},
};

#[test]
fn a_phone_must_trust_the_computer_first() {
    let attached = Attached::stranger(Options::default());
    let udid = attached.phone.udid().to_owned();
    for args in [&["backup"][..], &["encryption", "status"], &["encryption", "off"]] {
        attached.fails(args, NOT_TRUSTED, &[&udid, "not paired", "`heirloom pair`"]);
    }
    let row = &attached.json(&["devices"])[0];
    assert_eq!(
        (&row["trusted"], &row["encrypted"], &row["product_version"]),
        (&false.into(), &json!(null), &json!(null))
    );
    let told = attached.ok(&["devices"]).stderr;
    assert!(told.contains("1 phone does not trust this computer yet: `heirloom pair`"), "{told}");

    let paired = attached.ok(&["pair"]);
    assert!(paired.stdout.contains("trusts this computer now"), "{paired:?}");
    let again = attached.ok(&["pair"]);
    assert!(again.stdout.contains("trusts this computer already"), "{again:?}");
    assert_eq!(attached.json(&["pair"])["outcome"], "known");
    assert_eq!(attached.json(&["pair", "--force"])["outcome"], "paired");
    attached.back_up(&[]);
    attached.assert_left_well();
}

#[test]
fn what_its_owner_does_about_trust_is_told() {
    let attached = Attached::stranger(Options { trust: Trust::Deny, ..Options::default() });
    attached.fails(&["pair"], NOT_TRUSTED, &["refused on the phone", "tap Trust"]);
    for (trust, exit, words) in [
        (Trust::Locked, REFUSED, "unlock the phone"),
        (Trust::Prohibited, NOT_TRUSTED, "with its cable"),
        (Trust::Deny, NOT_TRUSTED, "tap Trust"),
    ] {
        attached.phone.set_trust(trust);
        attached.fails(&["pair"], exit, &[words]);
        attached.fails(&["backup"], NOT_TRUSTED, &["not paired"]);
    }
    attached.phone.set_trust(Trust::Pending(1));
    let paired = attached.ok(&["pair"]);
    assert!(paired.stderr.contains("tap Trust, and enter its passcode"), "{paired:?}");
    attached.back_up(&[]);
    attached.assert_left_well();
}

#[test]
fn devices_are_listed_with_what_they_tell() {
    let attached = Attached::paired();
    let (udid, name) = (attached.phone.udid().to_owned(), attached.phone.phone().name().to_owned());
    let row = |last: serde_json::Value| {
        json!([{
            "udid": udid, "name": name, "product_type": "iPhone13,2", "product_version": "17.6.1", "connection": "usb",
            "trusted": true, "encrypted": false, "last_backup": last,
        }])
    };
    assert_eq!(attached.json(&["devices"]), row(json!(null)));
    let shown = attached.ok(&["devices"]).stdout;
    assert!(shown.contains(&udid) && shown.contains(&name) && shown.contains("never"), "{shown}");

    let (backup, _) = attached.back_up(&[]);
    assert_eq!(attached.json(&["devices"]), row(backup["snapshot"]["kept"].clone()));
    let without_repository = attached.home.said(attached.command(&["devices"]).env_remove("HEIRLOOM_REPOSITORY"));
    assert_eq!(without_repository.exit, 0, "{without_repository:?}");
    assert!(!without_repository.stdout.contains("LAST BACKUP"), "{without_repository:?}");
    attached.phone.set_locked(true);
    assert_eq!(attached.json(&["devices"])[0]["trusted"], true);
}

#[test]
fn devices_are_listed_without_a_password() {
    let attached = Attached::stranger(Options::default());
    let in_locked = |password: &[(&str, &str)], args: &[&str]| {
        attached.run_with(&[&[("HEIRLOOM_REPOSITORY", "locked")], password].concat(), args)
    };
    let password = [("HEIRLOOM_PASSWORD", PASSWORD)];
    assert_eq!(in_locked(&password, &["init"]).exit, 0);
    attached.ok(&["pair"]);
    assert_eq!(in_locked(&password, &["backup"]).exit, 0);

    let without = in_locked(&[], &["devices"]);
    assert!(without.exit == 0 && without.stdout.contains(attached.phone.udid()), "{without:?}");
    assert!(without.stderr.contains("needs its password") && !without.stdout.contains("LAST BACKUP"), "{without:?}");
    assert!(in_locked(&password, &["devices"]).stdout.contains("LAST BACKUP"));
    // Neither a wrong one nor a repository that is not there keeps a phone from being listed.
    let wrong = in_locked(&[("HEIRLOOM_PASSWORD", "wrong")], &["devices"]);
    assert!(
        wrong.exit == 0 && wrong.stderr.contains("warning: ") && wrong.stderr.contains("wrong password"),
        "{wrong:?}"
    );
    let nowhere = attached.run_with(&[("HEIRLOOM_REPOSITORY", "nowhere")], &["devices"]);
    assert!(nowhere.exit == 0 && nowhere.stderr.contains("no repository here"), "{nowhere:?}");
    attached.assert_left_well();
}

#[test]
fn a_phone_with_nothing_new_gets_no_snapshot() {
    for options in [Options::default(), Options { password: Some(PASSWORD.into()), ..Options::default() }] {
        let attached = Attached::paired_with(options.clone());
        let variables = [("HEIRLOOM_BACKUP_PASSWORD", PASSWORD)];
        let variables = if options.password.is_some() { &variables[..] } else { &[] };
        let back_up = |args: &[&str]| {
            let said = attached.run_with(variables, &[&["backup", "--plain-is-fine"], args].concat());
            assert_eq!(said.exit, 0, "{said:?}");
            (said.stdout, attached.snapshots())
        };
        let (_, first) = back_up(&[]);
        let kept = folder_at(&attached.home.path("repo"));
        // Also when it sends everything, encrypted anew.
        for args in [&[][..], &[], &["--full"]] {
            let (said, snapshots) = back_up(args);
            assert!(said.starts_with("nothing new on ") && said.contains(&first[0][..8]), "{args:?}: {said}");
            assert_eq!(snapshots, first, "{args:?}");
            assert_same(&folder_at(&attached.home.path("repo")), &kept);
        }
        let (said, _) = back_up(&["--json"]);
        let rows: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!((&rows[0]["outcome"], &rows[0]["snapshot"]["id"]), (&json!("known"), &json!(first[0])), "{rows}");
        assert_eq!(back_up(&["--force"]).1.len(), 2);
        attached.phone.live_one_day().unwrap();
        let (said, snapshots) = back_up(&[]);
        assert!(said.starts_with("kept ") && snapshots.len() == 3, "{said}");
        let exported = attached.home.exported("latest");
        assert!(
            options.password.is_some() || {
                assert_whole(&exported, &attached.phone.phone());
                true
            }
        );
        attached.ok(&["check", "--read-data"]);
        attached.assert_left_well();
    }
}

#[test]
fn three_days_are_kept_and_each_comes_out_as_it_was() {
    let attached = Attached::paired();
    let days = [0, 1, 2].map(phone_on_day);
    let files = |day: usize| files_of(&days[day]).count() as u64;

    let (first, sent) = attached.back_up(&[]);
    assert_eq!(sent.files_sent, files(0) + FILES_OF_EACH_BACKUP);
    let udid = attached.phone.udid().to_owned();
    assert_eq!(
        (&first["udid"], &first["received_files"], &first["received_bytes"], &first["error"]),
        (&udid.clone().into(), &sent.files_sent.into(), &sent.bytes_sent.into(), &json!(null))
    );
    let mut keys: Vec<_> = first.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["error", "outcome", "received_bytes", "received_files", "snapshot", "udid", "warnings"]);
    let listed = &attached.home.json(&["snapshots"])[0];
    assert_eq!(listed, &first["snapshot"]);
    assert_eq!(
        (&listed["source"], &listed["device_name"], &listed["product_version"], &listed["udid"], &listed["encrypted"]),
        (&"device".into(), &days[0].name().into(), &"17.6.1".into(), &udid.into(), &false.into())
    );
    assert_named(&attached);
    let mut exports = vec![attached.home.exported("latest")];

    for day in 1..3 {
        attached.phone.live_one_day().unwrap();
        let (row, sent) = attached.back_up(&[]);
        // Nothing but what has changed came.
        let (new, old) = (&days[day], &days[day - 1]);
        let changed = files_of(new).filter(|(location, file)| {
            let is_same = |(before, was): (_, &heirloom_sim::File)| {
                before == *location && (was.size, was.modified, was.inode) == (file.size, file.modified, file.inode)
            };
            !files_of(old).any(is_same)
        });
        let changed = changed.count() as u64;
        assert!(changed > 0 && changed < files(day) / 2, "{changed}");
        assert_eq!(sent.files_sent, changed + FILES_OF_EACH_BACKUP);
        assert_eq!(row["received_files"], sent.files_sent);
        exports.push(attached.home.exported("latest"));
    }
    assert_exports(&attached, &exports);

    // Everything comes again, and next to nothing of it is new.
    let (row, sent) = attached.back_up(&["--full"]);
    assert_eq!(sent.files_sent, files(2) + FILES_OF_EACH_BACKUP);
    let added = row["snapshot"]["added_bytes"].as_u64().unwrap();
    assert!(added < sent.bytes_sent / 20, "{added} of {}", sent.bytes_sent);
    exports.push(attached.home.exported("latest"));
    assert_exports(&attached, &exports);
    attached.ok(&["check", "--read-data"]);
    attached.assert_left_well();
}

/// Every export is again what it was, oldest first.
#[track_caller]
fn assert_exports(attached: &Attached, exports: &[Folder]) {
    for (back, export) in exports.iter().rev().enumerate() {
        assert_same(&attached.home.exported(&format!("latest~{back}")), export);
    }
}

/// Files have the names that they have on the phone.
#[track_caller]
fn assert_named(attached: &Attached) {
    let everything = attached.home.ok(&["ls", "-R", "latest"]).stdout;
    for (location, _) in attached.phone.phone().files() {
        let line = format!("{}:{}", location.domain, location.path);
        assert!(location.path.is_empty() || everything.lines().any(|listed| listed == line), "{line}");
    }
    let listed = attached.home.ok(&["ls", "latest", "HomeDomain:Library/SMS"]).stdout;
    assert!(listed.lines().any(|line| line.ends_with("sms.db")), "{listed}");
}

#[test]
fn a_phone_becomes_again_what_it_was() {
    let attached = Attached::paired();
    attached.back_up(&[]);
    attached.phone.live_one_day().unwrap();
    attached.back_up(&[]);
    let days = [phone_on_day(1), phone_on_day(0)];
    for (snapshot, phone) in ["latest", "latest~1"].iter().zip(&days) {
        for (preset, with_system) in [("migrate", true), ("merge", false), ("settings", true)] {
            let restored = attached.restore(&[], &[snapshot, "--preset", preset]);
            assert_restored(&restored, phone, with_system);
        }
    }
    let said = attached.run(&["--json", "restore", "latest", "--yes"]);
    let told: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&told["udid"], &told["warnings"]), (&attached.phone.udid().into(), &0.into()));
    assert!(attached.phone.media_file("/iTunesRestore/RestoreApplications.plist").is_some());
    assert_eq!(attached.snapshots().len(), 2);
    attached.assert_left_well();
}

#[test]
fn an_imported_backup_is_gone_on_from_and_restored() {
    let attached = Attached::paired();
    write_backup(&phone_on_day(0), &attached.home.path("Backup")).unwrap();
    attached.ok(&["import", "Backup"]);
    attached.phone.live_one_day().unwrap();
    let (row, sent) = attached.back_up(&[]);
    assert!(sent.files_sent < files_of(&phone_on_day(1)).count() as u64 / 2, "{sent:?}");
    assert!(row["snapshot"]["added_bytes"].as_u64().unwrap() <= sent.bytes_sent);
    attached.home.assert_exact("latest~1", &attached.home.path("Backup").join(attached.phone.udid()));
    assert_restored(&attached.restore(&[], &["latest~1"]), &phone_on_day(0), true);
    attached.assert_left_well();

    // What is missing from an import would be missing in all that follows.
    let (location, _) =
        phone_on_day(0).files().map(|(location, file)| (location.clone(), file.size)).max_by_key(|it| it.1).unwrap();
    fs::remove_file(attached.home.path("Backup").join(attached.phone.udid()).join(place_of(&location))).unwrap();
    let other = Attached::paired();
    fs::rename(attached.home.path("Backup"), other.home.path("Backup")).unwrap();
    assert_eq!(other.run(&["import", "Backup"]).exit, INCOMPLETE);
    let (_, sent) = other.back_up(&[]);
    assert_eq!(sent.files_sent, files_of(&phone_on_day(0)).count() as u64 + FILES_OF_EACH_BACKUP);
    other.assert_left_well();
}

#[test]
fn nothing_is_sent_to_a_phone_that_cannot_or_may_not_take_it() {
    let attached = Attached::paired();
    attached.back_up(&[]);
    let snapshot = attached.snapshots()[0].clone();
    let newer = attached.home.path("Backup").join("00008030-001A2B3C4D5E6F70");
    SmallBackup::default().write(&newer);
    let info = fs::read_to_string(newer.join("Info.plist")).unwrap().replace("17.1", "17.10");
    write_at(&newer.join("Info.plist"), info.as_bytes());
    let imported = attached.json(&["import", "Backup"]);
    let newer = imported[0]["snapshot"]["id"].as_str().unwrap();

    let (traffic, posted) = (attached.phone.traffic(), attached.phone.posted());
    attached.fails(&["restore", newer, "--yes"], REFUSED, &["17.10", "17.6.1", "update the phone first"]);
    let asked = attached.fails(&["restore", &snapshot], USAGE, &["must be confirmed", "--yes"]);
    assert!(asked.stderr.contains("Everything on the phone is replaced"), "{asked:?}");
    attached.fails(&["restore", "nothing", "--yes"], FAILED, &["nothing"]);
    assert_eq!((attached.phone.traffic(), attached.phone.posted()), (traffic, posted));
    assert!(attached.phone.restored().is_none());
    attached.assert_left_well();
}

#[test]
fn find_my_forbids_a_restore() {
    let attached = Attached::paired_with(Options { find_my: true, ..Options::default() });
    attached.back_up(&[]);
    attached.fails(&["restore", "latest", "--yes"], REFUSED, &["Find My is on (error 211"]);
    assert!(attached.phone.media_file("/iTunesRestore/RestoreApplications.plist").is_none());
    assert!(attached.phone.restored().is_none());
    attached.assert_left_well();
}

#[test]
fn an_export_is_what_the_phone_sent_and_no_more() {
    let attached = Attached::paired();
    attached.back_up(&[]);
    let export = attached.home.exported("latest");
    assert_whole(&export, &phone_on_day(0));
    let info: plist::Dictionary = plist::from_bytes(bytes_at(&export, "Info.plist").unwrap()).unwrap();
    assert_eq!(info["Unique Identifier"].as_string(), Some(attached.phone.udid().to_uppercase().as_str()));
    assert_eq!(info["Product Version"].as_string(), Some("17.6.1"));
    let apps = info["Installed Applications"].as_array().unwrap();
    assert_eq!(apps.len(), attached.phone.phone().apps().len());
    attached.assert_left_well();
}

#[test]
fn restore_says_what_the_snapshot_is_not() {
    let attached = Attached::paired();
    let (udid, name) = (attached.phone.udid().to_owned(), attached.phone.phone().name().to_owned());
    let ask = |spec: &str| attached.fails(&["restore", spec], USAGE, &["must be confirmed"]).stderr;
    let other = SmallBackup { date: "2024-05-03T12:00:00Z", ..SmallBackup::default() };
    other.write(&attached.home.path("other"));
    let imported = attached.json(&["import", "other"]);
    attached.fails(&["restore", "latest", "--yes"], FAILED, &["no snapshot of", &name, "name the one that is meant"]);
    let said = ask(imported[0]["snapshot"]["id"].as_str().unwrap());
    assert!(said.contains("it is of another device: Maria’s iPhone"), "{said}");
    assert!(!said.contains("newer") && !said.contains("are not in it"), "{said}");

    // Its own, older than the other's, and without what matters most.
    for (folder, date) in [("whole", "2024-02-02T12:00:00Z"), ("holes", "2024-01-01T12:00:00Z")] {
        let folder = attached.home.path(folder);
        SmallBackup { udid: &udid, date, ..SmallBackup::default() }.write(&folder);
        if folder.ends_with("holes") {
            fs::remove_file(blob(&folder, "HomeDomain", "Library/SMS/sms.db")).unwrap();
        }
    }
    let holes = attached.json(&["import", "holes"]);
    let said = ask("latest");
    let id = holes[0]["snapshot"]["id"].as_str().unwrap();
    let lacks = "1 file that Manifest.db names is not in it: HomeDomain:Library/SMS/sms.db (messages)";
    for words in [&id[..8], lacks, "it was kept with 1 warning"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    attached.json(&["import", "whole"]);
    let said = ask(id);
    assert!(said.contains("there is a newer one of its device") && said.contains(lacks), "{said}");
    let said = ask("latest");
    assert!(!said.contains("warning:"), "{said}");
    assert!(attached.phone.restored().is_none());
}
