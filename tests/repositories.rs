//! Whether repositories that an earlier program wrote are read, gone on with and pruned by this one; and whether it refuses what only a later one can read.
//!
//! The golden repositories are never written again. `make` says how those of this version came to be.

mod make;

use std::{fs, sync::Arc};

use heirloom_store::{LocalStorage, Prefix, RecoveryKey, Repository, Unlock};
use serde_json::Value;

use crate::support::{
    Files,
    folder::folder_at,
    is_pack, noise,
    program::{Home, Said, SmallBackup, UDID, only_child, settle},
    repositories::{Expected, ExpectedSnapshot, V1, copy_of, files_at, folder, write_files},
};

/// What a new backup of little that is new may add: a pack of data, a pack of tree nodes.
const ADDED_MAX: u64 = 24 << 10;
const NEW_FILE: &str = "a new file";

#[track_caller]
fn ok(home: &Home, expected: &Expected, args: &[&str]) -> Said {
    let said = home.run_with(&expected.variables(), args);
    assert_eq!(said.exit, 0, "{args:?}: {said:?}");
    said
}

#[track_caller]
fn json(home: &Home, expected: &Expected, args: &[&str]) -> Value {
    serde_json::from_str(&ok(home, expected, &[&["--json"], args].concat()).stdout).unwrap()
}

#[track_caller]
fn assert_exported(home: &Home, expected: &Expected, snapshots: &[&ExpectedSnapshot], context: &str) {
    for snapshot in snapshots {
        let dir = tempfile::tempdir_in(home.path("")).unwrap();
        ok(home, expected, &["export", &snapshot.id, "--to", dir.path().to_str().unwrap()]);
        snapshot.assert_is(&folder_at(&only_child(dir.path())), context);
    }
}

#[track_caller]
fn assert_clean(home: &Home, expected: &Expected, context: &str) {
    let said = home.run_with(&expected.variables(), &["check", "--read-data"]);
    assert_eq!(said.exit, 0, "{context}: {said:?}");
    assert!(!said.stderr.contains("warning"), "{context}: {said:?}");
}

fn open(home: &Home, expected: &Expected) -> Repository {
    let unlock = expected.password.as_deref().map_or(Unlock::Open, Unlock::Password);
    Repository::open(Arc::new(LocalStorage::new(&home.path("repo"))), unlock, None).unwrap()
}

fn count(files: &Files, folder: &str) -> usize {
    files.keys().filter(|name| name.starts_with(folder)).count()
}

fn ids(rows: &Value) -> Vec<&str> {
    rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[test]
fn what_was_put_in_is_listed_and_comes_out() {
    for name in V1 {
        let (home, expected) = copy_of(name);
        let before = files_at(&home.path("repo"));
        let rows = json(&home, &expected, &["snapshots"]);
        assert_eq!(ids(&rows), expected.snapshots.iter().map(|of| &of.id).collect::<Vec<_>>(), "{name}");
        for (row, of) in rows.as_array().unwrap().iter().zip(&expected.snapshots) {
            assert_eq!((&row["pinned"], &row["sealed"]), (&of.pinned.into(), &of.sealed.into()), "{name}");
        }
        let trash = json(&home, &expected, &["snapshots", "--trash"]);
        assert_eq!(ids(&trash), expected.trash.iter().map(|of| &of.id).collect::<Vec<_>>(), "{name}");
        assert_exported(&home, &expected, &expected.snapshots.iter().collect::<Vec<_>>(), name);
        assert_clean(&home, &expected, name);
        assert_eq!((count(&before, "parked/"), count(&before, "gc/")), (expected.parked, expected.marks), "{name}");
        assert!(files_at(&home.path("repo")) == before, "{name}: reading has changed it");
    }
}

#[test]
fn files_are_known_by_their_names_on_the_phone() {
    for name in V1 {
        let (home, expected) = copy_of(name);
        let repository = open(&home, &expected);
        let list = repository.snapshots().unwrap();
        for (snapshot, of) in list.snapshots.iter().zip(&expected.snapshots) {
            let reader = repository.read(snapshot).unwrap();
            let entries = reader.entries(&Prefix::all()).map(Result::unwrap);
            let named = entries.filter(|(name, entry)| !name.domain().is_empty() && entry.content.is_some());
            let named = named.map(|(name, entry)| {
                (format!("{}:{}", name.domain(), name.path()), entry.place_for(&name).unwrap().to_string())
            });
            assert_eq!(named.collect::<std::collections::BTreeMap<_, _>>(), of.names, "{name}");
        }
    }
}

#[test]
fn a_copy_of_it_is_gone_on_with() {
    for name in V1 {
        let (home, expected) = copy_of(name);
        let (backup, new) = next_backup(&home, &expected);
        let rows = json(&home, &expected, &["import", &backup]);
        assert_eq!(rows[0]["outcome"], "kept", "{name}: {rows}");
        let rows = json(&home, &expected, &["snapshots"]);
        let newest = rows.as_array().unwrap().last().unwrap();
        let [added, bytes] = ["added_bytes", "bytes"].map(|key| newest[key].as_u64().unwrap());
        assert!(added <= ADDED_MAX && bytes > 2 * ADDED_MAX, "{name}: {added} were added of {bytes}");
        let snapshot = ExpectedSnapshot { id: newest["id"].as_str().unwrap().to_owned(), ..new };
        assert_exported(&home, &expected, &[&snapshot], name);
        assert_exported(&home, &expected, &expected.snapshots.iter().collect::<Vec<_>>(), name);
        assert_clean(&home, &expected, name);
    }
}

/// A backup that is the newest snapshot with one file more.
fn next_backup(home: &Home, expected: &Expected) -> (String, ExpectedSnapshot) {
    ok(home, expected, &["export", "latest", "--to", home.path("next").to_str().unwrap()]);
    let backup = only_child(&home.path("next"));
    fs::write(backup.join(NEW_FILE), noise(99, 3000)).unwrap();
    settle(&backup.join(NEW_FILE));
    let mut new = expected.snapshots.last().unwrap().clone();
    (new.files, new.directories) = crate::support::repositories::content_of(&folder_at(&backup));
    (backup.to_str().unwrap().to_owned(), new)
}

#[test]
fn a_copy_of_it_is_pruned() {
    for name in V1 {
        let (home, expected) = copy_of(name);
        let oldest = expected.snapshots.iter().find(|of| !of.pinned).unwrap();
        let kept: Vec<&ExpectedSnapshot> = expected.snapshots.iter().filter(|of| of.id != oldest.id).collect();
        ok(&home, &expected, &["forget", &oldest.id]);
        let outcome = json(&home, &expected, &["prune", "--max-unused", "0", "--now"]);
        assert!(outcome["deleted_packs"].as_u64() > Some(0), "{name}: {outcome}");
        assert_eq!(outcome["waiting_packs"], 0, "{name}: {outcome}");
        let after = files_at(&home.path("repo"));
        assert_eq!((count(&after, "trash/"), count(&after, "gc/")), (0, 0), "{name}");
        assert_eq!(count(&after, "parked/"), expected.parked, "{name}");
        let rows = json(&home, &expected, &["snapshots"]);
        assert_eq!(ids(&rows), kept.iter().map(|of| &of.id).collect::<Vec<_>>(), "{name}");
        assert_exported(&home, &expected, &kept, name);
        assert_clean(&home, &expected, name);
    }
}

#[test]
fn what_is_pinned_stays_and_what_is_in_the_trash_comes_back() {
    let (home, expected) = copy_of("v1-pruned");
    let pinned = expected.snapshots.iter().find(|of| of.pinned).unwrap();
    assert_ne!(home.run(&["forget", &pinned.id]).exit, 0);
    for forgotten in &expected.trash {
        ok(&home, &expected, &["undelete", &forgotten.id]);
    }
    let all: Vec<&ExpectedSnapshot> = expected.snapshots.iter().chain(&expected.trash).collect();
    assert!(all.len() > expected.snapshots.len());
    assert_exported(&home, &expected, &all, "v1-pruned");
    assert_clean(&home, &expected, "v1-pruned");
    // The parked run is there for the next.
    let repository = open(&home, &expected);
    let series = &repository.snapshots().unwrap().snapshots[0].record.series.clone();
    assert!(repository.parked(series).unwrap().is_some());
}

#[test]
fn password_and_recovery_key_open_it_and_nothing_else_does() {
    let (home, expected) = copy_of("v1-encrypted");
    let repo = home.path("repo");
    let open = |unlock| Repository::open(Arc::new(LocalStorage::new(&repo)), unlock, None);
    let key: RecoveryKey = expected.recovery_key.as_ref().unwrap().parse().unwrap();
    assert_eq!(open(Unlock::Recovery(&key)).unwrap().snapshots().unwrap().snapshots.len(), expected.snapshots.len());
    assert!(open(Unlock::Password(expected.password.as_ref().unwrap())).is_ok());
    for (wrong, exit) in [(&[("HEIRLOOM_PASSWORD", "wrong horse")][..], 12), (&[], 12)] {
        assert_eq!(home.run_with(wrong, &["snapshots"]).exit, exit);
    }
}

#[test]
fn parity_mends_a_sector_of_each_pack_and_each_snapshot() {
    let (home, expected) = copy_of("v1-parity");
    let whole = files_at(&home.path("repo"));
    for (file, bytes) in whole.iter().filter(|(file, _)| is_pack(file) || file.starts_with("snapshots/")) {
        let mut damaged = bytes.clone();
        let sector = bytes.len() / 4096 / 2 * 4096;
        let end = bytes.len().min(sector + 4096);
        damaged[sector..end].fill(0xa5);
        fs::write(home.path("repo").join(file), &damaged).unwrap();
    }
    assert_eq!(home.run_with(&expected.variables(), &["check"]).exit, 30);
    ok(&home, &expected, &["repair"]);
    let after = files_at(&home.path("repo"));
    assert!(whole.iter().all(|(file, bytes)| after.get(file) == Some(bytes)), "not every file is as it was");
    assert_exported(&home, &expected, &expected.snapshots.iter().collect::<Vec<_>>(), "v1-parity");
}

/// `config`, and the copy of it in the slots, with one thing in it replaced.
fn with_config(files: &Files, from: &str, to: &str) -> Files {
    let mut files = files.clone();
    for (name, bytes) in files.iter_mut().filter(|(name, _)| *name == "config" || name.starts_with("keys/")) {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let line = text.lines().next().unwrap();
        let changed = if name == "config" {
            line.replace(from, to)
        } else {
            line.replace(&from.replace('"', "\\\""), &to.replace('"', "\\\""))
        };
        assert_ne!(line, changed, "{name}");
        let hash = heirloom_store::FileHash::of(changed.as_bytes());
        *bytes = format!("{changed}\n{hash}\n").into_bytes();
    }
    files
}

fn home_with(files: &Files) -> Home {
    let home = Home::empty();
    write_files(&home.path("repo"), files);
    home
}

#[test]
fn a_later_version_and_what_a_reader_must_know_is_refused_whatever_is_asked() {
    let files = files_at(&folder().join("v1-open"));
    for (from, to, said) in [
        (r#""heirloom":1"#, r#""heirloom":2"#, "format 2"),
        (r#""read_needs":[]"#, r#""read_needs":["time travel"]"#, r#"the feature "time travel""#),
        (r#""cipher":"aes-256-gcm""#, r#""cipher":"aes-512""#, r#"the cipher "aes-512""#),
    ] {
        let later = with_config(&files, from, to);
        let home = home_with(&later);
        SmallBackup::default().write(&home.path("Backup").join(UDID));
        for args in [
            &["snapshots"][..],
            &["ls", "latest"],
            &["export", "latest", "--to", "out"],
            &["check"],
            &["check", "--packs"],
            &["import", "Backup"],
            &["forget", "latest"],
            &["prune"],
            &["repair"],
            &["key", "list"],
        ] {
            let refused = home.run(args);
            assert!(refused.exit != 0 && refused.exit != 30, "{args:?}: {refused:?}");
            assert!(refused.error().contains(said), "{args:?}: {refused:?}");
        }
        assert!(files_at(&home.path("repo")) == later, "{to}: it was changed");
    }
}

#[test]
fn where_a_writer_must_know_more_all_is_read_and_nothing_written() {
    let files = files_at(&folder().join("v1-open"));
    let later = with_config(&files, r#""write_needs":[]"#, r#""write_needs":["time travel"]"#);
    let (home, expected) = (home_with(&later), Expected::of("v1-open"));
    assert_exported(&home, &expected, &expected.snapshots.iter().collect::<Vec<_>>(), "write_needs");
    assert_clean(&home, &expected, "write_needs");
    let (backup, _) = next_backup(&home, &expected);
    for args in [
        &["import", &backup][..],
        &["forget", "latest"],
        &["prune"],
        &["pin", "latest"],
        &["unpin", "latest"],
        &["repair"],
        &["key", "add"],
    ] {
        let refused = home.run_with(&[("HEIRLOOM_NEW_PASSWORD", "of this test")], args);
        assert_eq!(refused.exit, 1, "{args:?}: {refused:?}");
        assert!(refused.error().contains(r#"the feature "time travel""#), "{args:?}: {refused:?}");
    }
    assert!(files_at(&home.path("repo")) == later, "it was changed");
}

#[test]
fn what_a_later_program_may_add_to_config_is_ignored() {
    let files = files_at(&folder().join("v1-open"));
    let home = home_with(&with_config(&files, r#""heirloom":1"#, r#""heirloom":1,"colour":"blue""#));
    let expected = Expected::of("v1-open");
    assert_exported(&home, &expected, &expected.snapshots.iter().collect::<Vec<_>>(), "an unknown key");
    assert_clean(&home, &expected, "an unknown key");
    let (backup, _) = next_backup(&home, &expected);
    ok(&home, &expected, &["import", &backup]);
    // A new slot has a copy of it as it is.
    assert_eq!(home.run_with(&[("HEIRLOOM_NEW_PASSWORD", "of this test")], &["key", "add"]).exit, 0);
    let by_password = home.run_with(&[("HEIRLOOM_PASSWORD", "of this test")], &["snapshots"]);
    assert_eq!((by_password.exit, by_password.stderr.as_str()), (0, ""), "{by_password:?}");
}
