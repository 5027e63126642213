//! Backups that the phone encrypted: kept as plaintext, given back as the phone's ciphertext.

use std::{fs, path::PathBuf, process::Stdio, thread, time::Duration};

use heirloom_sim::{Options, Phone, Simulator};

use crate::support::{
    folder::{Thing, folder_at},
    program::{Home, Said, SmallBackup, only_child, plist, write_at},
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
            run(&["backup", "--full", "--as-ciphertext"]);
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
    // What remembers the first remembers the second from now on.
    let changed = ok(run(&change, &["encryption", "change-password"]));
    assert!(changed.stderr.contains("remembers the new password"), "{changed:?}");
    ok(run(&[], &["backup"]));
    ok(run(&[], &["backup", "--force"]));
    let listed: Vec<serde_json::Value> = serde_json::from_str(&ok(run(&[], &["--json", "snapshots"])).stdout).unwrap();
    assert!(listed.len() == 4 && listed.iter().all(|row| row["sealed"] == true), "{listed:?}");
    for snapshot in ["latest", "latest~3"] {
        ok(run(&[], &["restore", snapshot, "--yes"]));
        // The phone restarts.
        thread::sleep(Duration::from_millis(500));
    }
}

/// A phone whose first backup was kept by the password `first`, which another computer has changed to `second` since.
struct Changed {
    home: Home,
    phone: Simulator,
    address: String,
}

impl Changed {
    fn new(remember: bool) -> Changed {
        let options = Options { password: Some("first".to_owned()), ..Options::default() };
        let phone = Simulator::start(Phone::new(12, 6_000_000).unwrap(), options).unwrap();
        let changed = Changed { home: Home::empty(), address: phone.address(), phone };
        ok(changed.run(&[], &["init", "--no-verify"]));
        ok(changed.run(&[], &["pair"]));
        let args = ["backup", "--remember-password"];
        ok(changed.run(&[("HEIRLOOM_BACKUP_PASSWORD", "first")], &args[..if remember { 2 } else { 1 }]));
        changed.change("first", "second");
        changed
    }

    /// Without a word to the repository.
    fn change(&self, old: &str, new: &str) {
        let variables = [
            ("HEIRLOOM_REPOSITORY", "elsewhere"),
            ("HEIRLOOM_BACKUP_PASSWORD", old),
            ("HEIRLOOM_NEW_BACKUP_PASSWORD", new),
        ];
        ok(self.run(&variables, &["encryption", "change-password"]));
    }

    fn variables<'v>(&'v self, variables: &[(&'v str, &'v str)]) -> Vec<(&'v str, &'v str)> {
        let of_repository = [
            ("HEIRLOOM_REPOSITORY", "sealed"),
            ("HEIRLOOM_PASSWORD", "of the repository"),
            ("USBMUXD_SOCKET_ADDRESS", self.address.as_str()),
        ];
        [&of_repository[..], variables].concat()
    }

    fn run(&self, variables: &[(&str, &str)], args: &[&str]) -> Said {
        self.home.run_with(&self.variables(variables), args)
    }

    fn rows(&self) -> Vec<serde_json::Value> {
        serde_json::from_str(&ok(self.run(&[], &["--json", "snapshots"])).stdout).unwrap()
    }

    /// Everything that is kept: names and bytes.
    fn kept(&self) -> Vec<(String, Thing)> {
        let files = folder_at(&self.home.path("sealed")).into_iter();
        files
            .filter(|(path, _)| !path.starts_with("sessions") && !path.starts_with("tmp") && path != "reserve")
            .collect()
    }
}

#[test]
fn changed_password_ends_before_the_phone_sends() {
    for remember in [true, false] {
        let changed = Changed::new(remember);
        let (kept, sent) = (changed.kept(), changed.phone.traffic().files_sent);
        let given: &[(&str, &str)] = if remember { &[] } else { &[("HEIRLOOM_BACKUP_PASSWORD", "first")] };
        let wrongs: [(&[(&str, &str)], &str); 3] = [
            (given, "does not go on from its newest backup"),
            (&[("HEIRLOOM_BACKUP_PASSWORD", "mistyped")], "nothing was taken from the phone"),
            // The right one cannot be told from a mistyped one.
            (&[("HEIRLOOM_BACKUP_PASSWORD", "second")], "`heirloom backup --full` goes by the new one"),
        ];
        for (variables, words) in wrongs {
            let said = changed.run(variables, &["backup"]);
            said.assert_failed(23, &[words, "--as-ciphertext", "heirloom decrypt"]);
            assert_eq!((changed.phone.traffic().files_sent, changed.rows().len()), (sent, 1), "{said:?}");
            assert!(changed.kept() == kept, "{said:?}");
        }
        ok(changed.run(&[("HEIRLOOM_BACKUP_PASSWORD", "second")], &["backup", "--full"]));
        ok(changed.run(&[("HEIRLOOM_BACKUP_PASSWORD", "second")], &["backup"]));
        assert!(changed.rows().iter().all(|row| row["sealed"] == true));
        assert_eq!(changed.phone.complaints(), [""; 0]);
    }
}

#[test]
fn wrong_password_of_a_first_backup_keeps_nothing() {
    let changed = Changed::new(false);
    let (kept, wrong) = (changed.kept(), [("HEIRLOOM_BACKUP_PASSWORD", "mistyped")]);
    // Nothing tells before the phone is done.
    let said = changed.run(&wrong, &["backup", "--full"]);
    said.assert_failed(23, &["nothing was kept", "heirloom decrypt"]);
    assert!(changed.kept() == kept);
    changed.run(&[], &["backup"]).assert_failed(23, &["their password is not known", "--as-ciphertext"]);
    ok(changed.run(&[], &["backup", "--as-ciphertext"]));
    let rows = changed.rows();
    assert_eq!(rows.iter().map(|row| row["sealed"] == true).collect::<Vec<_>>(), [true, false]);
}

#[cfg(target_os = "linux")]
#[test]
fn changed_password_is_asked_for_on_a_terminal() {
    let changed = Changed::new(true);
    let typed = |lines: &[&str]| {
        let said = changed.home.typed(&changed.variables(&[]), &["backup"], lines);
        said.unwrap_or_else(|| panic!("`script` of util-linux is needed"))
    };
    // The phone begins anew: asked twice, because nothing can prove it yet; after that the phone's own keybag does.
    let said = typed(&["mistyped", "mistyped", "again", "second"]);
    assert_eq!(said.exit, 0, "{said:?}");
    for words in ["does not go on from its newest backup", "that is not the password by which"] {
        assert!(said.stdout.contains(words), "{words}: {said:?}");
    }
    assert!(changed.rows().iter().all(|row| row["sealed"] == true) && changed.rows().len() == 2);
    // What was typed here is not what is remembered.
    changed.change("second", "third");
    let said = typed(&["other", "third", "third"]);
    assert!(said.exit == 0 && said.stdout.contains("type the new one again"), "{said:?}");
    let said = typed(&["", "wrong", "wronger"]);
    assert_eq!(said.exit, 23, "{said:?}");
    assert_eq!(changed.rows().len(), 3);
    assert_eq!(changed.phone.complaints(), [""; 0]);
}

#[test]
fn decrypt_converts_what_its_passwords_open() {
    let options = Options { password: Some("first".to_owned()), ..Options::default() };
    let phone = Simulator::start(Phone::new(12, 6_000_000).unwrap(), options).unwrap();
    let changed = Changed { home: Home::empty(), address: phone.address(), phone };
    ok(changed.run(&[], &["init", "--no-verify"]));
    ok(changed.run(&[], &["pair"]));
    ok(changed.run(&[], &["backup", "--as-ciphertext"]));
    changed.change("first", "second");
    ok(changed.run(&[], &["backup", "--as-ciphertext"]));
    let before = changed.rows();
    let said = changed.run(&[("HEIRLOOM_BACKUP_PASSWORD", "neither")], &["decrypt"]);
    said.assert_failed(23, &["that is not the password of this backup"]);
    assert_eq!(changed.rows(), before);

    let said = changed.run(&[("HEIRLOOM_BACKUP_PASSWORD", "second")], &["decrypt", "--remember-password"]);
    assert!(said.exit == 3 && said.stdout.contains("is kept as plaintext now"), "{said:?}");
    assert_eq!(changed.rows().iter().map(|row| row["sealed"] == true).collect::<Vec<_>>(), [false, true]);
    // The order is what it was, though the newer one was written anew.
    for (old, new) in before.iter().zip(changed.rows()) {
        assert_eq!((&old["time"], &old["kept"]), (&new["time"], &new["kept"]));
    }
    // The old verb does the same.
    ok(changed.run(&[("HEIRLOOM_BACKUP_PASSWORD", "first")], &["unseal"]));
    assert!(changed.rows().iter().all(|row| row["sealed"] == true));
    ok(changed.run(&[], &["check", "--read-data"]));
}

#[test]
fn same_backup_without_its_password_is_known() {
    let history = History::new(Some(PASSWORD));
    let folder = history.folders[0].to_str().unwrap();
    for readable_first in [true, false] {
        let repository = if readable_first { "readable" } else { "ciphertext" };
        let of_repository = [("HEIRLOOM_REPOSITORY", repository), ("HEIRLOOM_PASSWORD", "of the repository")];
        let import = |with_password: bool| {
            let password = [("HEIRLOOM_BACKUP_PASSWORD", PASSWORD)];
            let variables = [&of_repository[..], if with_password { &password } else { &[] }].concat();
            let said = ok(history.home.run_with(&variables, &["--json", "import", folder]));
            serde_json::from_str::<serde_json::Value>(&said.stdout).unwrap()[0]["outcome"].clone()
        };
        ok(history.home.run_with(&of_repository, &["init", "--no-verify"]));
        let outcomes = if readable_first { ["kept", "known", "known"] } else { ["kept", "decrypted", "known"] };
        let order = if readable_first { [true, false, true] } else { [false, true, false] };
        let before: Vec<_> = order.into_iter().map(import).collect();
        assert_eq!(before, outcomes);
        let listed = ok(history.home.run_with(&of_repository, &["--json", "snapshots"])).stdout;
        let rows: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
        assert!(rows.len() == 1 && rows[0]["sealed"] == true, "{rows:?}");
        if readable_first {
            let of_packs = |(path, thing): (String, Thing)| match thing {
                Thing::File(file) if path.starts_with("packs") || path.starts_with("trees") => file.bytes.len() as u64,
                _ => 0,
            };
            let packed: u64 = folder_at(&history.home.path(repository)).into_iter().map(of_packs).sum();
            assert_eq!(rows[0]["added_bytes"].as_u64(), Some(packed), "something was stored again");
        }
        let to = history.home.path(&format!("{repository}-again"));
        ok(history.home.run_with(&of_repository, &["export", "latest", "--to", to.to_str().unwrap()]));
        assert!(folder_at(&only_child(&to)) == folder_at(&history.folders[0]), "it is not what it was");
    }
}

#[test]
fn a_backup_without_keybag_is_kept_with_a_warning() {
    let home = Home::empty();
    let variables = [("HEIRLOOM_PASSWORD", "of the repository"), ("HEIRLOOM_BACKUP_PASSWORD", PASSWORD)];
    ok(home.run_with(&variables, &["init", "--no-verify"]));
    SmallBackup::default().write(&home.path("Backup"));
    write_at(&home.path("Backup/Manifest.plist"), plist("<key>IsEncrypted</key><true/>").as_bytes());
    let said = home.run_with(&variables, &["import", "Backup"]);
    assert!(said.exit == 3 && said.stderr.contains("Manifest.plist holds no keybag: it is kept"), "{said:?}");
    let said = home.run_with(&variables, &["decrypt"]);
    assert!(said.exit == 1 && said.stderr.contains("no keybag; it stays as it is"), "{said:?}");
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
    let quiet = history.home.run_with(&variables, &["-q", "import", history.folders[0].to_str().unwrap()]);
    assert!(quiet.error().contains("[HOME]/day0/"), "{quiet:?}");
    // One choice is not to have it opened.
    ok(history.home.run_with(&variables, &["import", "--as-ciphertext", history.folders[1].to_str().unwrap()]));
    ok(history.home.run_with(&variables[..2], &["forget", "latest", "--prune"]));
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
