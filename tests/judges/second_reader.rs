//! Whether the data comes out without this program: the second reader, which knows SPEC.md and nothing else, extracts a repository
//! that the program made.

use std::{
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

use heirloom_sim::write_backup;
use heirloom_store::{LocalStorage, Repository, Unlock, later::Later};
use serde_json::Value;

use crate::{
    judge::{Judge, python, trials},
    support::{
        folder::folder_at,
        program::{Home, PASSWORD, SmallBackup, UDID, assert_same, phone_in},
        repositories::{V1, copy_of},
    },
};

trials! {
    gets_everything_out: &[Judge::SecondReader],
    reads_the_golden_repositories: &[Judge::SecondReader],
    tells_what_is_newer_from_damage: &[Judge::SecondReader],
}

fn read_repo(python: &Path, home: &Home, secret: (&str, &str), args: &[&str]) -> Output {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/read_repo.py");
    let mut command = Command::new(python);
    command.arg(reader).arg(home.path("repo")).args(args).current_dir(home.path(""));
    command.env_remove("HEIRLOOM_PASSWORD").env_remove("HEIRLOOM_RECOVERY").env(secret.0, secret.1);
    command.output().unwrap()
}

fn gets_everything_out() {
    let python = python().unwrap();
    let home = Home::empty();
    let password = ("HEIRLOOM_PASSWORD", PASSWORD);
    let created: Value = serde_json::from_str(&home.run_with(&[password], &["--json", "init"]).stdout).unwrap();
    let recovery = ("HEIRLOOM_RECOVERY", created["recovery_key"].as_str().unwrap());
    let (mut phone, folder) = phone_in(&home.path("Backup"), 6_000_000);
    assert_eq!(home.run_with(&[password], &["import", "Backup"]).exit, 0);
    let first_day = folder_at(&folder);
    phone.live_one_day().unwrap();
    write_backup(&phone, &home.path("Backup")).unwrap();
    assert_eq!(home.run_with(&[password], &["import", "Backup"]).exit, 0);

    let snapshots = home.run_with(&[password], &["--json", "snapshots"]).stdout;
    let snapshots: Value = serde_json::from_str(&snapshots).unwrap();
    let first = snapshots[0]["id"].as_str().unwrap();
    for (case, secret, args, expected) in [
        ("password", password, &["extract", "latest"][..], &folder_at(&folder)),
        ("first", password, &["extract", first], &first_day),
        ("no-index", password, &["--no-index", "extract", "latest"], &folder_at(&folder)),
        ("recovery", recovery, &["extract", &first[..8]], &first_day),
    ] {
        let output = read_repo(&python, &home, secret, &[args, &[case]].concat());
        assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
        assert_same(&folder_at(&home.path(case)), expected);
    }
    assert!(!read_repo(&python, &home, ("HEIRLOOM_PASSWORD", "wrong"), &["list"]).status.success());
}

fn tells_what_is_newer_from_damage() {
    let python = python().unwrap();
    for later in Later::ALL {
        let home = Home::new();
        SmallBackup::default().write(&home.path("Backup").join(UDID));
        home.ok(&["import", "Backup"]);
        let storage = Arc::new(LocalStorage::new(&home.path("repo")));
        let repository = Repository::open(storage, Unlock::Open, None).unwrap();
        let plain = repository.snapshots().unwrap().snapshots.remove(0);
        let added = later.add(&repository, &plain).unwrap();
        let listed = added.filter(|id| repository.snapshots().unwrap().snapshots.iter().any(|one| one.id == *id));
        let wanted = listed.unwrap_or(plain.id).to_string();
        let output = read_repo(&python, &home, ("UNUSED", ""), &["extract", &wanted, "out"]);
        let said = String::from_utf8_lossy(&output.stderr);
        // It reads neither parked runs nor what was forgotten.
        let is_read = !matches!(later, Later::Parked | Later::Forgotten);
        assert_eq!(output.status.code(), Some(if is_read { 3 } else { 0 }), "{later:?}: {said}");
        assert!(said.lines().all(|line| line.ends_with("it needs a newer program")), "{later:?}: {said}");
    }
}

fn reads_the_golden_repositories() {
    let python = python().unwrap();
    for name in V1 {
        let (home, expected) = copy_of(name);
        let password = expected.password.as_deref().map(|password| ("HEIRLOOM_PASSWORD", password));
        let recovery = expected.recovery_key.as_deref().map(|key| ("HEIRLOOM_RECOVERY", key));
        // An open one is read without either.
        for secret in [password, recovery.or(password)].map(|secret| secret.unwrap_or(("UNUSED", ""))) {
            let listed = read_repo(&python, &home, secret, &["list"]);
            let ids: Vec<String> = String::from_utf8_lossy(&listed.stdout)
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(
                ids,
                expected.snapshots.iter().map(|of| of.id.clone()).collect::<Vec<_>>(),
                "{name}: {listed:?}"
            );
            for (snapshot, options) in expected.snapshots.iter().zip([&["--no-index"][..], &[]].into_iter().cycle()) {
                let to = tempfile::tempdir_in(home.path("")).unwrap();
                let args = [options, &["extract", &snapshot.id, to.path().to_str().unwrap()]].concat();
                let output = read_repo(&python, &home, secret, &args);
                assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
                snapshot.assert_is(&folder_at(to.path()), name);
            }
        }
    }
}
