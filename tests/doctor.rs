//! What `doctor` says of a drive, and that it leaves nothing behind.

use std::{
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    folder::folder_at,
    program::{Home, exit_of},
};

#[test]
fn a_folder_that_works_is_fit_and_is_as_it_was() {
    let home = Home::empty();
    fs::create_dir(home.path("drive")).unwrap();
    fs::write(home.path("drive/other"), b"somebody's").unwrap();
    let before = folder_at(&home.path("drive"));
    let said = home.ok(&["doctor", "drive", "--megabytes", "9"]);
    for what in ["read back", "replace", "large files", "long names", "small files", "write", "read"] {
        assert!(said.stdout.lines().any(|line| line.starts_with(what)), "{what}: {said:?}");
    }
    assert!(said.stdout.contains("drive is fit for a repository"), "{said:?}");
    let row = home.json(&["doctor", "drive", "--megabytes", "9"]);
    assert!(row["verdict"] != "unfit" && row["holds_repository"] == false, "{row}");
    assert!(
        row["write_bytes_per_second"].as_u64().unwrap() > 0 && row["findings"].as_array().unwrap().len() > 12,
        "{row}"
    );
    assert!(folder_at(&home.path("drive")) == before);
}

#[test]
fn a_repository_in_the_folder_is_told_and_left_alone() {
    let home = Home::new();
    let before = folder_at(&home.path("repo"));
    let said = home.ok(&["doctor", "repo", "--megabytes", "4"]);
    assert!(said.stderr.contains("a repository in this folder"), "{said:?}");
    assert!(folder_at(&home.path("repo")) == before);
    home.ok(&["check"]);
}

#[test]
fn what_is_no_folder_or_takes_nothing_is_unfit() {
    let home = Home::empty();
    home.run(&["doctor", "nowhere"]).assert_failed(1, &["nowhere", "no such folder"]);
    if cfg!(target_os = "linux") {
        let said = home.run(&["doctor", "/proc/self"]);
        assert!(said.exit == 1 && said.stdout.contains("is not fit for a repository"), "{said:?}");
        assert!(said.stderr.contains("hint: "), "{said:?}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing_behind() {
    let home = Home::empty();
    fs::create_dir(home.path("drive")).unwrap();
    let mut command = home.command(&["doctor", "drive", "--megabytes", "100000"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let is_measuring = || {
        let folder = fs::read_dir(home.path("drive")).unwrap().next();
        folder.is_some_and(|folder| folder.unwrap().path().join("bulk").exists())
    };
    let started = Instant::now();
    while !is_measuring() {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not come to the measurement");
        thread::sleep(Duration::from_millis(5));
    }
    let interrupted = home.program("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(exit_of(child), 130);
    assert_eq!(fs::read_dir(home.path("drive")).unwrap().count(), 0);
}
