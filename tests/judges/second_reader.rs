//! Whether the data comes out without this program: the second reader, which knows SPEC.md and nothing else, extracts a repository
//! that the program made.

use std::{
    path::Path,
    process::{Command, Output},
};

use heirloom_sim::write_backup;
use serde_json::Value;

use crate::{
    judge::{Judge, python, trials},
    support::{
        folder::folder_at,
        program::{Home, PASSWORD, assert_same, phone_in},
    },
};

trials! {
    gets_everything_out: &[Judge::SecondReader],
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
