//! Backups that the phone encrypted: kept as plaintext, given back as the phone's ciphertext.

use std::{fs, path::PathBuf, process::Stdio, thread, time::Duration};

use heirloom_sim::{Options, Phone, Simulator};

use crate::support::{
    folder::{Thing, folder_at},
    program::{Home, Said, only_child},
};

const PASSWORD: &str = "a backup password";
const BYTES: u64 = 12_000_000;
const GENERATIONS: usize = 3;
/// Nothing that was encrypted may lie outside the repository, not even for a moment: there is no other place.
const NO_TEMPORARY_FILES: (&str, &str) = ("TMPDIR", "/there/is/no/such/folder");

/// A phone, and the folders of full backups of it on days that follow one another. Each file has a new key in each, if they are encrypted.
struct History {
    home: Home,
    folders: Vec<PathBuf>,
}

impl History {
    fn new(password: Option<&str>) -> History {
        let options = Options { password: password.map(str::to_owned), ..Options::default() };
        let simulator = Simulator::start(Phone::new(11, BYTES).unwrap(), options).unwrap();
        let address = simulator.address();
        let home = Home::new();
        let run = |args: &[&str]| ok(home.run_with(&[("USBMUXD_SOCKET_ADDRESS", &address)], args));
        run(&["pair"]);
        let mut folders = Vec::new();
        for day in 0..GENERATIONS {
            if day > 0 {
                simulator.live_one_day().unwrap();
            }
            run(&["backup", "--full"]);
            let to = home.path(&format!("day{day}"));
            run(&["export", "latest", "--to", to.to_str().unwrap()]);
            folders.push(only_child(&to));
        }
        assert_eq!(simulator.complaints(), [""; 0]);
        History { home, folders }
    }

    /// Imports each day into a repository with a password; returns what each made it grow by.
    fn import(&self, repository: &str, password: Option<&str>) -> Vec<u64> {
        let mut variables =
            vec![("HEIRLOOM_REPOSITORY", repository), ("HEIRLOOM_PASSWORD", "of the repository"), NO_TEMPORARY_FILES];
        variables.extend(password.map(|password| ("HEIRLOOM_BACKUP_PASSWORD", password)));
        let run = |args: &[&str]| ok(self.home.run_with(&variables, args));
        run(&["init", "--no-verify"]);
        for (day, folder) in self.folders.iter().enumerate() {
            run(&["import", folder.to_str().unwrap()]);
            let to = self.home.path(&format!("{repository}-day{day}"));
            run(&["export", "latest", "--to", to.to_str().unwrap()]);
            assert!(folder_at(&only_child(&to)) == folder_at(folder), "day {day} is not what it was");
        }
        let listed = run(&["--json", "snapshots"]).stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let of = |key: &str| listed.as_array().unwrap().iter().map(|row| row[key].clone()).collect::<Vec<_>>();
        assert!(of("sealed").iter().all(|sealed| sealed == &serde_json::json!(password.is_some())));
        of("added_bytes").iter().map(|bytes| bytes.as_u64().unwrap()).collect()
    }
}

#[track_caller]
fn ok(said: Said) -> Said {
    assert_eq!(said.exit, 0, "{said:?}");
    said
}

#[test]
fn backups_under_new_keys_cost_what_they_would_unencrypted() {
    let plain = History::new(None).import("plain", None);
    let encrypted = History::new(Some(PASSWORD));
    let sealed = encrypted.import("sealed", Some(PASSWORD));
    let ciphertext = encrypted.import("ciphertext", None);
    println!("unencrypted {plain:?}, sealed {sealed:?}, as ciphertext {ciphertext:?}");
    assert!(sealed[0] as f64 <= plain[0] as f64 * 1.02);
    for day in 1..GENERATIONS {
        assert!(sealed[day] as f64 <= plain[day] as f64 * 1.10, "day {day}");
        assert!(ciphertext[day] > 2 * sealed[day], "the test asks nothing of day {day}");
    }

    let home = &encrypted.home;
    let of_repository = [("HEIRLOOM_REPOSITORY", "sealed"), ("HEIRLOOM_PASSWORD", "of the repository")];
    // Names are those of the phone.
    let listed = ok(home.run_with(&of_repository, &["ls", "latest", "HomeDomain:Library/SMS"])).stdout;
    assert!(listed.contains("sms.db"), "{listed}");
    ok(home.run_with(&of_repository, &["check", "--read-data"]));
    // No key of a phone's file, and no plaintext, is left in the cache.
    for thing in folder_at(&home.path("cache")).into_values() {
        assert!(!matches!(thing, Thing::File(file) if contains(&file.bytes, b"SQLite format 3")));
    }
    assert_eq!(fs::read_dir(home.path("tmp")).unwrap().count(), 0, "temporary files are left");
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[test]
fn a_phone_that_encrypts_costs_what_it_would_otherwise_and_gets_its_backup_back() {
    let of_repository = [("HEIRLOOM_REPOSITORY", "sealed"), ("HEIRLOOM_PASSWORD", "of the repository")];
    let growth = |options: Options, password: Option<&'static str>| {
        let simulator = Simulator::start(Phone::new(11, BYTES).unwrap(), options).unwrap();
        let address = simulator.address();
        let home = Home::empty();
        let run = |args: &[&str]| {
            let variables = [
                &of_repository[..],
                &[("USBMUXD_SOCKET_ADDRESS", address.as_str()), NO_TEMPORARY_FILES],
                password.map(|password| ("HEIRLOOM_BACKUP_PASSWORD", password)).as_slice(),
            ]
            .concat();
            home.run_with(&variables, args)
        };
        ok(run(&["init", "--no-verify"]));
        ok(run(&["pair"]));
        for kind in [&["backup"][..], &["backup"], &["backup", "--full"]] {
            ok(run(kind));
            simulator.live_one_day().unwrap();
        }
        // The phone opens what it gets back with the keys that it made.
        ok(run(&["restore", "latest~2", "--yes"]));
        let first_day = Phone::new(11, BYTES).unwrap();
        let restored = simulator.restored().unwrap();
        assert!(first_day.files().all(|(location, file)| restored[location].is_same(file).unwrap()));
        assert_eq!(simulator.complaints(), [""; 0]);
        assert_eq!(ok(run(&["check", "--read-data"])).exit, 0);
        assert_eq!(fs::read_dir(home.path("sealed/tmp")).map_or(0, Iterator::count), 0, "the spool is left");
        let listed: serde_json::Value = serde_json::from_str(&ok(run(&["--json", "snapshots"])).stdout).unwrap();
        let rows = listed.as_array().unwrap();
        assert!(rows.iter().all(|row| row["sealed"] == password.is_some() && row["encrypted"] == password.is_some()));
        rows.iter().map(|row| row["added_bytes"].as_u64().unwrap()).collect::<Vec<u64>>()
    };
    let plain = growth(Options::default(), None);
    let sealed = growth(Options { password: Some(PASSWORD.to_owned()), ..Options::default() }, Some(PASSWORD));
    println!("unencrypted {plain:?}, sealed {sealed:?}");
    for (sealed, plain) in sealed.into_iter().zip(plain) {
        assert!(sealed as f64 <= plain as f64 * 1.10 + 50_000.0, "{sealed} {plain}");
    }
}

#[test]
fn what_was_kept_as_ciphertext_is_converted_and_a_kill_loses_nothing() {
    let history = History::new(Some(PASSWORD));
    history.import("later", None);
    let of_repository = [("HEIRLOOM_REPOSITORY", "later"), ("HEIRLOOM_PASSWORD", "of the repository")];
    let with_password = [&of_repository[..], &[("HEIRLOOM_BACKUP_PASSWORD", PASSWORD)]].concat();
    let home = &history.home;
    let rows = || {
        let listed = ok(home.run_with(&of_repository, &["--json", "snapshots"])).stdout;
        serde_json::from_str::<Vec<serde_json::Value>>(&listed).unwrap()
    };
    let second = rows()[1]["id"].as_str().unwrap().to_owned();
    ok(home.run_with(&of_repository, &["pin", &second]));
    let before = rows();
    let wrong = [&of_repository[..], &[("HEIRLOOM_BACKUP_PASSWORD", "another")]].concat();
    assert_eq!(home.run_with(&wrong, &["unseal"]).exit, 23);
    assert_eq!(home.run_with(&of_repository, &["unseal"]).exit, 23, "no password");
    assert_eq!(rows(), before);

    for millis in [20, 60, 120, 200, 300, 450] {
        let mut child =
            home.command(&["unseal"]).envs(with_password.iter().copied()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(millis));
        child.kill().unwrap();
        child.wait().unwrap();
        ok(home.run_with(&of_repository, &["check", "--read-data"]));
    }
    ok(home.run_with(&with_password, &["unseal"]));
    let after = rows();
    assert_eq!(after.len(), before.len());
    for (day, (old, new)) in before.iter().zip(&after).enumerate() {
        assert!(new["sealed"] == true && old["sealed"] == false);
        for key in ["time", "files", "bytes", "encrypted", "device_name", "pinned"] {
            assert_eq!(old[key], new[key], "{key}");
        }
        let to = home.path(&format!("converted{day}"));
        ok(home.run_with(&of_repository, &["export", new["id"].as_str().unwrap(), "--to", to.to_str().unwrap()]));
        assert!(folder_at(&only_child(&to)) == folder_at(&history.folders[day]), "day {day} is not what it was");
    }
    ok(home.run_with(&of_repository, &["check", "--read-data"]));
    assert!(ok(home.run_with(&with_password, &["unseal"])).stderr.contains("no snapshot is kept as ciphertext"));
}

#[test]
fn a_password_is_remembered_by_the_keybag_that_it_opens() {
    let simulator = Simulator::start(Phone::new(12, 6_000_000).unwrap(), Options::default()).unwrap();
    let address = simulator.address();
    let home = Home::empty();
    let run = |variables: &[(&str, &str)], args: &[&str]| {
        let of_repository = [
            ("HEIRLOOM_REPOSITORY", "sealed"),
            ("HEIRLOOM_PASSWORD", "of the repository"),
            ("USBMUXD_SOCKET_ADDRESS", &address),
        ];
        home.run_with(&[&of_repository[..], variables].concat(), args)
    };
    ok(run(&[], &["init", "--no-verify"]));
    ok(run(&[], &["pair"]));
    ok(run(&[("HEIRLOOM_NEW_BACKUP_PASSWORD", "first")], &["encryption", "on"]));
    ok(run(&[("HEIRLOOM_BACKUP_PASSWORD", "first")], &["backup", "--remember-password"]));
    ok(run(&[], &["backup", "--force"]));
    let change = [("HEIRLOOM_BACKUP_PASSWORD", "first"), ("HEIRLOOM_NEW_BACKUP_PASSWORD", "second")];
    ok(run(&change, &["encryption", "change-password"]));
    // The one that is remembered does not fit any more: the backup is not lost.
    let said = run(&[], &["backup"]);
    assert!(said.exit == 3 && said.stderr.contains("kept as the phone encrypted it"), "{said:?}");
    ok(run(&[("HEIRLOOM_BACKUP_PASSWORD", "second")], &["unseal", "--remember-password"]));
    ok(run(&[], &["backup", "--force"]));
    let listed: Vec<serde_json::Value> = serde_json::from_str(&ok(run(&[], &["--json", "snapshots"])).stdout).unwrap();
    assert!(listed.len() == 4 && listed.iter().all(|row| row["sealed"] == true), "{listed:?}");
    for snapshot in ["latest", "latest~3"] {
        ok(run(&[], &["restore", snapshot, "--yes"]));
        // The phone restarts.
        thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn a_wrong_password_is_told_before_any_work() {
    let history = History::new(Some(PASSWORD));
    let variables = [
        ("HEIRLOOM_REPOSITORY", "sealed"),
        ("HEIRLOOM_PASSWORD", "of the repository"),
        ("HEIRLOOM_BACKUP_PASSWORD", "another"),
    ];
    ok(history.home.run_with(&variables, &["init", "--no-verify"]));
    let said = history.home.run_with(&variables, &["import", history.folders[0].to_str().unwrap()]);
    assert_eq!(said.exit, 23, "{said:?}");
    assert!(said.stderr.contains("not the password of this backup"), "{said:?}");
    let listed = ok(history.home.run_with(&variables, &["--json", "snapshots"])).stdout;
    assert_eq!(listed.trim(), "[]");
}

#[test]
fn a_repository_that_everybody_can_read_takes_plaintext_only_if_that_is_said() {
    let history = History::new(Some(PASSWORD));
    let folder = history.folders[0].to_str().unwrap();
    let variables = [("HEIRLOOM_REPOSITORY", "open"), ("HEIRLOOM_BACKUP_PASSWORD", PASSWORD)];
    ok(history.home.run_with(&variables, &["init", "--no-password"]));
    let said = history.home.run_with(&variables, &["import", folder]);
    assert!(said.exit == 1 && said.stderr.contains("--plain-is-fine"), "{said:?}");
    ok(history.home.run_with(&variables, &["import", "--plain-is-fine", folder]));
}
