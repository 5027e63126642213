//! Whether somebody who can write to the folder of a repository gets in, or puts something else in its place unseen.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use heirloom_store::{LocalStorage, Options, Repository, Unlock};
use serde_json::Value;

use super::support::{
    folder::{copy_folder, folder_at},
    program::{Home, PASSWORD, Said, SmallBackup, UDID},
};

const WITH_PASSWORD: [(&str, &str); 1] = [("HEIRLOOM_PASSWORD", PASSWORD)];

/// A home with a repository that has a password, and a backup to import.
fn home() -> Home {
    let home = Home::empty();
    assert_eq!(run(&home, &["init", "--no-verify"]).exit, 0);
    SmallBackup::default().write(&home.path(UDID));
    home
}

fn run(home: &Home, args: &[&str]) -> Said {
    home.run_with(&WITH_PASSWORD, args)
}

#[track_caller]
fn ok(home: &Home, args: &[&str]) -> Said {
    let said = run(home, args);
    assert_eq!(said.exit, 0, "{args:?}: {said:?}");
    said
}

/// Another repository in this home, that everybody can read.
fn open_repository(home: &Home, name: &str) -> PathBuf {
    let path = home.path(name);
    Repository::create(Arc::new(LocalStorage::new(&path)), None, &Options::default()).unwrap();
    path
}

/// Puts an open slot that somebody has made into the repository: of another repository, but for the same config.
fn inject_open_slot(home: &Home) -> String {
    let foreign = fs::read_dir(open_repository(home, "of the attacker").join("keys")).unwrap().next().unwrap().unwrap();
    let text = fs::read_to_string(foreign.path()).unwrap();
    let mut slot: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    slot["config"] = fs::read_to_string(home.path("repo/config")).unwrap().lines().next().unwrap().into();
    let id = slot["slot"].as_str().unwrap().to_owned();
    let line = serde_json::to_string(&slot).unwrap();
    for copy in [1, 2] {
        let hash = heirloom_store::FileHash::of(line.as_bytes());
        fs::write(home.path(&format!("repo/keys/{id}-{copy}")), format!("{line}\n{hash}\n")).unwrap();
    }
    id
}

/// How many files lie in a folder, which need not be there.
fn files_in(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

fn put_in_place(home: &Home, other: &Path) {
    fs::remove_dir_all(home.path("repo")).unwrap();
    copy_folder(other, &home.path("repo"));
}

fn without_memory(home: &Home) {
    fs::remove_dir_all(home.path(".local/share/heirloom/trust")).unwrap();
}

#[test]
fn injected_open_slot_gives_nothing_away() {
    for remembers in [true, false] {
        let home = home();
        if !remembers {
            without_memory(&home);
        }
        let id = inject_open_slot(&home);
        let said = run(&home, &["import", UDID]);
        assert_eq!(said.exit, 0, "{said:?}");
        assert!(said.stderr.contains("attack") && said.stderr.contains(&format!("key remove {id}")), "{said:?}");
        home.run(&["snapshots"]).assert_failed(12, &["needs its password"]);
        assert!(Repository::open(Arc::new(LocalStorage::new(&home.path("repo"))), Unlock::Open, None).is_err());
        assert_eq!(run(&home, &["check"]).exit, 30);
        let listed: Value = serde_json::from_str(&ok(&home, &["--json", "key", "list"]).stdout).unwrap();
        assert!(listed.as_array().unwrap().iter().any(|row| row["id"] == *id && row["used"] == false), "{listed}");
        ok(&home, &["key", "remove", &id]);
        assert_eq!(ok(&home, &["snapshots"]).stderr, "");
        assert_eq!(run(&home, &["check"]).exit, 0);
    }
}

#[test]
fn password_that_vanished_is_refused() {
    let home = home();
    let id = inject_open_slot(&home);
    for entry in fs::read_dir(home.path("repo/keys")).unwrap().map(Result::unwrap) {
        if !entry.file_name().to_str().unwrap().starts_with(&id) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    for variables in [&WITH_PASSWORD[..], &[]] {
        let said = home.run_with(variables, &["import", UDID]);
        said.assert_failed(13, &["had a password", "attack", "heirloom --repo repo trust", "--reset"]);
    }
    home.run(&["check", "--packs"]).assert_failed(13, &["had a password", "trust"]);
    // A computer that has never seen it does not use it either, where a password is given.
    without_memory(&home);
    run(&home, &["import", UDID]).assert_failed(12, &["opens without any", "HEIRLOOM_PASSWORD unset"]);
    assert_eq!(fs::read_dir(home.path("repo/snapshots")).map_or(0, Iterator::count), 0);
}

#[test]
fn another_repository_in_its_place_is_refused() {
    let home = home();
    ok(&home, &["import", UDID]);
    let other = [("HEIRLOOM_REPOSITORY", "other"), ("HEIRLOOM_PASSWORD", PASSWORD)];
    assert_eq!(home.run_with(&other, &["init", "--no-verify"]).exit, 0);
    let first = home.path("first");
    copy_folder(&home.path("repo"), &first);
    put_in_place(&home, &home.path("other"));
    // Known as it is: not here.
    run(&home, &["snapshots"]).assert_failed(13, &["another repository"]);
    // Disks that take turns.
    ok(&home, &["trust", "--add"]);
    ok(&home, &["snapshots"]);
    put_in_place(&home, &first);
    ok(&home, &["snapshots"]);
    let strange = home.path("strange");
    let storage = Arc::new(LocalStorage::new(&strange));
    Repository::create(storage, Some(PASSWORD), &Options::default()).unwrap();
    put_in_place(&home, &strange);
    for args in [&["snapshots"][..], &["import", UDID], &["check"], &["repair"], &["stats"], &["copy", "--to", "other"]]
    {
        run(&home, args).assert_failed(13, &["another repository", "trust --reset"]);
    }
    let from = [("HEIRLOOM_REPOSITORY", "other"), ("HEIRLOOM_PASSWORD", PASSWORD), ("HEIRLOOM_TO_PASSWORD", PASSWORD)];
    home.run_with(&from, &["copy", "--to", "repo"]).assert_failed(13, &["another repository"]);
    home.run(&["check", "--packs"]).assert_failed(13, &["another repository", "trust --reset"]);
    home.run(&["--repo", "other", "check", "--packs", "--same-as", "repo"]).assert_failed(13, &["another repository"]);
    let said = run(&home, &["trust"]);
    assert!(said.exit == 13 && said.stdout.contains("remembered of") && said.stdout.contains("there now"), "{said:?}");
    ok(&home, &["trust", "--reset"]);
    ok(&home, &["import", UDID]);
    assert_eq!(run(&home, &["trust"]).exit, 0);
}

#[test]
fn other_keys_under_the_same_id_are_refused() {
    let home = home();
    ok(&home, &["import", UDID]);
    // Somebody who has an open copy of nothing but the id.
    let id = inject_open_slot(&home);
    let config = fs::read_to_string(home.path("repo/config")).unwrap();
    let slot = fs::read_to_string(home.path(&format!("repo/keys/{id}-1"))).unwrap();
    let bare = home.path("bare");
    fs::create_dir_all(bare.join("keys")).unwrap();
    fs::write(bare.join("config"), config).unwrap();
    fs::write(bare.join(format!("keys/{id}-1")), &slot).unwrap();
    let elsewhere = Repository::open(Arc::new(LocalStorage::new(&bare)), Unlock::Open, None).unwrap();
    elsewhere.add_password(PASSWORD, "").unwrap();
    put_in_place(&home, &bare);
    run(&home, &["import", UDID]).assert_failed(13, &["other keys"]);
    // The same disk in another place, too.
    fs::rename(home.path("repo"), home.path("moved")).unwrap();
    let moved = [("HEIRLOOM_REPOSITORY", "moved"), ("HEIRLOOM_PASSWORD", PASSWORD)];
    home.run_with(&moved, &["snapshots"]).assert_failed(13, &["other keys"]);
}

#[test]
fn newest_snapshot_that_is_gone_is_told_once() {
    let home = home();
    ok(&home, &["import", UDID]);
    let before = home.path("before");
    copy_folder(&home.path("repo"), &before);
    ok(&home, &["import", "--force", UDID]);
    put_in_place(&home, &before);
    let said = ok(&home, &["snapshots"]);
    assert!(said.stderr.contains("is gone") && said.stderr.contains("older copy of the disk"), "{said:?}");
    assert_eq!(ok(&home, &["snapshots"]).stderr, "");
}

#[test]
fn own_doing_is_no_alarm() {
    let home = home();
    let quiet = |args: &[&str]| {
        let said = ok(&home, args);
        assert!(!said.stderr.contains("warning"), "{args:?}: {said:?}");
    };
    quiet(&["import", UDID]);
    quiet(&["import", "--force", UDID]);
    quiet(&["forget", "latest"]);
    quiet(&["undelete", "latest"]);
    quiet(&["forget", "latest"]);
    quiet(&["prune"]);
    quiet(&["import", "--force", UDID]);
    quiet(&["forget", "latest", "--prune"]);
    quiet(&["repair"]);
    let new = [("HEIRLOOM_PASSWORD", PASSWORD), ("HEIRLOOM_NEW_PASSWORD", "another")];
    assert_eq!(home.run_with(&new, &["key", "change"]).exit, 0);
    let said = home.run_with(&[("HEIRLOOM_PASSWORD", "another")], &["snapshots"]);
    assert_eq!((said.exit, said.stderr.as_str()), (0, ""));
    // Made anew in the same place.
    fs::remove_dir_all(home.path("repo")).unwrap();
    quiet(&["init", "--no-verify"]);
    quiet(&["import", UDID]);
    // Without a password, which comes later.
    fs::remove_dir_all(home.path("repo")).unwrap();
    assert_eq!(home.run(&["init", "--no-password"]).exit, 0);
    let open = home.path("while it was open");
    copy_folder(&home.path("repo"), &open);
    assert_eq!(home.run_with(&[("HEIRLOOM_NEW_PASSWORD", PASSWORD)], &["key", "change"]).exit, 0);
    quiet(&["import", UDID]);
    // That it has one is remembered at once.
    put_in_place(&home, &open);
    home.run(&["snapshots"]).assert_failed(13, &["had a password"]);
}

#[test]
fn what_another_computer_pruned_is_told() {
    let home = home();
    ok(&home, &["import", UDID]);
    let other = home.path("of another computer");
    fs::create_dir(&other).unwrap();
    let there = |args: &[&str]| {
        let mut command = home.command(args);
        command.env("HEIRLOOM_PASSWORD", PASSWORD).env("HOME", &other).env("XDG_CACHE_HOME", other.join("cache"));
        let said = home.said(&mut command);
        assert_eq!(said.exit, 0, "{said:?}");
    };
    there(&["forget", "latest"]);
    assert!(!ok(&home, &["snapshots"]).stderr.contains("warning"), "it is in the trash");
    there(&["prune"]);
    assert!(ok(&home, &["snapshots"]).stderr.contains("pruned by another computer"));
    // What this one prunes is no news to it, whoever has forgotten it.
    ok(&home, &["import", UDID]);
    there(&["forget", "latest"]);
    for args in [&["snapshots"][..], &["prune"], &["snapshots"]] {
        let said = ok(&home, args);
        assert!(!said.stderr.contains("warning"), "{args:?}: {said:?}");
    }
}

#[test]
fn own_doing_that_is_killed_is_no_alarm() {
    let home = Home::new();
    SmallBackup::default().write(&home.path(UDID));
    home.ok(&["import", UDID]);
    let trash = home.path("repo/trash");
    for args in [&["forget", "latest"][..], &["prune"], &["forget", "latest", "--prune"]] {
        if args[0] == "forget" {
            home.ok(&["import", "--force", UDID]);
        }
        let is_forgotten = || files_in(&trash) > 0;
        let mut killed = home.command(args).spawn().unwrap();
        // It dies as soon as it has done it, and before it can remember that.
        while args.contains(&"forget") && !is_forgotten() && killed.try_wait().unwrap().is_none() {}
        while args != ["forget", "latest"] && is_forgotten() && killed.try_wait().unwrap().is_none() {}
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert_eq!(home.run(&["snapshots"]).stderr, "", "{args:?}");
    }
    home.ok(&["prune"]);
    assert_eq!(home.run(&["snapshots"]).stderr, "");
}

#[test]
fn damaged_or_unwritable_memory_stops_nothing() {
    let home = home();
    let trust = home.path(".local/share/heirloom/trust");
    let file = fs::read_dir(&trust).unwrap().next().unwrap().unwrap().path();
    for damage in ["", "{", "[]", "\0\0\0"] {
        fs::write(&file, damage).unwrap();
        let said = ok(&home, &["import", "--force", UDID]);
        assert!(said.stderr.contains("cannot be read, and counts for nothing"), "{said:?}");
        assert_eq!(ok(&home, &["snapshots"]).stderr, "", "it is written anew");
    }
    fs::remove_dir_all(&trust).unwrap();
    fs::write(&trust, "a file in the folder's place").unwrap();
    let said = ok(&home, &["import", "--force", UDID]);
    assert!(said.stderr.contains("cannot be remembered") || said.stderr.contains("cannot be read"), "{said:?}");
}

#[test]
fn runs_at_once_leave_a_memory_that_can_be_read() {
    let home = home();
    ok(&home, &["import", UDID]);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..3).for_each(|_| drop(ok(&home, &["import", "--force", UDID]))));
        }
    });
    assert_eq!(ok(&home, &["snapshots"]).stderr, "");
    let left = folder_at(&home.path(".local/share/heirloom/trust"));
    assert_eq!(left.len(), 1, "{:?}", left.keys());
}

#[test]
fn slot_that_opened_is_remembered_and_demos_are_not() {
    let home = home();
    ok(&home, &["snapshots"]);
    let said = ok(&home, &["--json", "trust"]);
    let row: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(row["remembered"][0]["id"], row["now"]["id"]);
    assert_eq!(row["remembered"][0]["needs_password"], true);
    assert_eq!(row["remembered"][0]["keys"].as_str().unwrap().len(), 64);
    let home = Home::empty();
    home.ok(&["demo", "--dir", "demo", "--size", "2M"]);
    assert!(!home.path(".local/share/heirloom/trust").exists());
}

#[cfg(unix)]
#[test]
fn cache_and_memory_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let home = home();
    fs::create_dir_all(home.path("cache/heirloom")).unwrap();
    fs::set_permissions(home.path("cache/heirloom"), fs::Permissions::from_mode(0o755)).unwrap();
    ok(&home, &["import", UDID]);
    ok(&home, &["snapshots"]);
    ok(&home, &["check"]);
    let mut looked_at = 0;
    let mut folders = vec![home.path("cache/heirloom"), home.path(".local/share/heirloom")];
    while let Some(folder) = folders.pop() {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700, "{folder:?}");
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                looked_at += 1;
                assert_eq!(mode(&path), 0o600, "{path:?}");
            }
        }
    }
    assert!(looked_at >= 4, "{looked_at}");
}

#[test]
fn last_key_of_a_person_is_not_removed_unasked() {
    let home = home();
    let add = |new: &str, label: &str| {
        let variables = [("HEIRLOOM_PASSWORD", PASSWORD), ("HEIRLOOM_NEW_PASSWORD", new)];
        let said = home.run_with(&variables, &["--json", "key", "add", "--label", label]);
        let row: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(row["label"], label);
        row["id"].as_str().unwrap().to_owned()
    };
    let (anna, again) = (add("of Anna", "Anna"), add("of Anna on paper", "Anna"));
    assert!(ok(&home, &["key", "list"]).stdout.contains("Anna"));
    ok(&home, &["key", "remove", &again]);
    run(&home, &["key", "remove", &anna]).assert_failed(2, &["\"Anna\"", "--yes"]);
    ok(&home, &["key", "remove", &anna, "--yes"]);
    let listed: Value = serde_json::from_str(&ok(&home, &["--json", "key", "list"]).stdout).unwrap();
    let recovery = listed.as_array().unwrap().iter().find(|row| row["kind"] == "recovery").unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    run(&home, &["key", "remove", &recovery]).assert_failed(2, &["the last recovery key"]);
    ok(&home, &["key", "remove", &recovery, "--yes"]);
    run(&home, &["key", "add", "--label", &"x".repeat(101)]).assert_failed(2, &["100 bytes"]);
}

#[test]
fn texts_from_a_repository_are_harmless_on_a_terminal() {
    let home = home();
    let nasty = "\u{1b}[2J\u{61c}\u{202e}\u{2028}\u{2029}\u{feff}\u{9b}31m";
    let name = format!("Maria{nasty}");
    SmallBackup { device_name: &name, ..SmallBackup::default() }.write(&home.path("nasty"));
    let mut said = vec![ok(&home, &["-v", "import", "nasty"])];
    for args in [
        &["snapshots"][..],
        &["stats"],
        &["forget", "latest", "--dry-run"],
        &["pin", "latest"],
        &["export", "latest", "--to", "out"],
        &["trust"],
    ] {
        said.push(ok(&home, args));
    }
    for said in said {
        for text in [&said.stdout, &said.stderr] {
            let harmful = |c: char| c.is_control() && c != '\n' || nasty.contains(c) && !c.is_ascii_graphic();
            assert!(!text.contains(harmful), "{text:?}");
        }
    }
}
