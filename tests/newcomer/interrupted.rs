//! Ctrl-C: at a question, and in the midst of long work.

use std::{
    fs,
    io::{Read, Write},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use heirloom_sim::Options;

use crate::support::{
    noise,
    phone::Attached,
    program::{Home, PASSWORD, SmallBackup, exit_of},
};

const INTERRUPTED: i32 = 130;
/// A person waits no longer; programs that were built for tests, beside others, may.
const PROMPTLY: Duration = Duration::from_secs(5);

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_at_a_question_leaves_the_terminal_in_order() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        return;
    }
    let home = Home::empty();
    let with = |args: &[&str], variables: &[(&str, &str)]| assert_eq!(home.run_with(variables, args).exit, 0);
    let password = ("HEIRLOOM_PASSWORD", PASSWORD);
    with(&["init"], &[password]);
    with(&["key", "add", "--label", "Anna"], &[password, ("HEIRLOOM_NEW_PASSWORD", "of Anna")]);
    let slots = || home.run_with(&[password], &["--json", "key", "list"]).stdout;
    let before = slots();
    let listed: serde_json::Value = serde_json::from_str(&before).unwrap();
    let labelled = listed.as_array().unwrap().iter().find(|slot| slot["label"] == "Anna").unwrap();
    let of_anna = labelled["id"].as_str().unwrap();
    for (args, variables, question) in [
        (&["--repo", "new", "init"][..], &[][..], "New password for the repository: "),
        (&["--repo", "/media/heirloom-no-such-disk", "init"], &[], "Type yes to create it"),
        (&["snapshots"], &[], "Password of repo: "),
        (&["--json", "snapshots"], &[], "Password of repo: "),
        (&["key", "add"], &[password], "New password for the repository: "),
        (&["key", "remove", of_anna], &[password], "Type yes to remove it: "),
    ] {
        let said = interrupted_at(&home, args, variables, question);
        assert!(said.contains("ended with 130\r\n") && said.contains("interrupted"), "{args:?}: {said:?}");
        assert!(said.contains("\r\nechoes\r\n"), "{args:?} leaves the terminal mute: {said:?}");
    }
    assert_eq!(slots(), before);
    assert!(!home.path("new").exists());
}

/// The phone's part: questions for its backup password, and before a restore.
#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_at_a_question_sends_the_phone_nothing() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        return;
    }
    let options = Options { password: Some("of the phone".into()), ..Options::default() };
    let attached = Attached::paired_with(options);
    attached.ok(&["backup", "--as-ciphertext"]);
    attached.ok(&["export", "latest", "--to", "out"]);
    let before = attached.phone.traffic();
    let address = attached.phone.address();
    let variables = [("USBMUXD_SOCKET_ADDRESS", &*address), ("HEIRLOOM_BACKUP_PASSWORD", "of the phone")];
    for (args, variables, question) in [
        (&["backup"][..], &variables[..1], "Backup password of "),
        (&["import", "out", "--plain-is-fine"], &variables[..1], "Backup password of "),
        (&["decrypt", "--plain-is-fine"], &variables[..1], "Backup password of "),
        (&["encryption", "off"], &variables[..1], "Backup password of "),
        (&["restore", "latest"], &variables[..1], "Backup password of "),
        (&["restore", "latest"], &variables, "Type yes to go on: "),
    ] {
        let said = interrupted_at(&attached.home, args, variables, question);
        assert!(said.contains("ended with 130\r\n") && said.contains("interrupted"), "{args:?}: {said:?}");
        assert!(said.contains("\r\nechoes\r\n"), "{args:?} leaves the terminal mute: {said:?}");
    }
    assert_eq!(attached.phone.traffic().files_received, before.files_received);
    assert_eq!(attached.snapshots().len(), 1);
    assert_eq!(attached.json(&["encryption", "status"])["encrypted"], true);
    attached.ok(&["check"]);
}

/// Returns what the terminal shows when Ctrl-C is pressed at a question: how that ended, and whether it echoes
/// afterwards.
#[cfg(target_os = "linux")]
fn interrupted_at(home: &Home, args: &[&str], variables: &[(&str, &str)], question: &str) -> String {
    let program = home.command(&[]).get_program().to_str().unwrap().to_owned();
    let words: Vec<String> = [&[&*program], args].concat().iter().map(|word| format!("'{word}'")).collect();
    let line = format!(
        "trap : INT; {}; echo \"ended with $?\"; stty -a | grep -q -- ' echo ' && echo echoes; true",
        words.join(" ")
    );
    let mut command = home.program("script");
    command.args(["-qec", &line, "/dev/null"]).envs(variables.iter().copied()).env("NO_COLOR", "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut said, mut pressed) = (Vec::new(), None);
    let mut some = [0; 4096];
    loop {
        let read = stdout.read(&mut some).unwrap_or(0);
        if read == 0 {
            break;
        }
        said.extend_from_slice(&some[..read]);
        if pressed.is_none() && String::from_utf8_lossy(&said).contains(question) {
            thread::sleep(Duration::from_millis(150));
            stdin.write_all(b"\x03").unwrap();
            pressed = Some(Instant::now());
        }
    }
    drop(stdin);
    exit_of(child);
    let said = String::from_utf8_lossy(&said).into_owned();
    let pressed = pressed.unwrap_or_else(|| panic!("{args:?} did not ask {question:?}: {said:?}"));
    assert!(pressed.elapsed() < PROMPTLY, "{args:?}: {:?}", pressed.elapsed());
    said
}

#[cfg(unix)]
#[test]
fn ctrl_c_while_a_key_is_made_leaves_all_of_it_or_none() {
    let home = Home::empty();
    let password = [("HEIRLOOM_PASSWORD", PASSWORD)];
    assert_eq!(home.run_with(&password, &["init"]).exit, 0);
    let slots = || home.run_with(&password, &["--json", "key", "list"]).stdout.matches("\"kind\"").count();
    for delay in [100, 300, 600] {
        let before = slots();
        let mut command = home.command(&["key", "add", "--file", "secret"]);
        let child = command.envs(password).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(delay));
        let pressed = Instant::now();
        Command::new("kill").args(["-INT", &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
        let exit = exit_of(child);
        assert!(pressed.elapsed() < PROMPTLY, "{:?}", pressed.elapsed());
        let is_made = home.path("secret").exists();
        assert_eq!((exit == 0, slots() > before), (is_made, is_made), "after {delay} ms: {exit}");
        if is_made {
            assert_eq!(home.run_with(&[("HEIRLOOM_PASSWORD_FILE", "secret")], &["snapshots"]).exit, 0);
            fs::remove_file(home.path("secret")).unwrap();
        }
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_in_long_work_ends_it_and_leaves_nothing_half_done() {
    let home = Home::new();
    let photos: Vec<(String, Vec<u8>)> =
        (0..6).map(|at| (format!("Media/DCIM/{at}.HEIC"), noise(at, 3_000_000))).collect();
    let of = |range: std::ops::Range<usize>| -> Vec<(&str, &str, &[u8])> {
        photos[range].iter().map(|(path, bytes)| ("CameraRollDomain", &**path, &**bytes)).collect()
    };
    let write = |date: &str, files: &[(&str, &str, &[u8])], folder: &str| {
        SmallBackup { date, files, ..SmallBackup::default() }.write(&home.path(folder));
    };
    write("2024-05-03T12:00:00Z", &of(0..4), "first");
    write("2024-05-04T12:00:00Z", &of(2..6), "second");
    home.ok(&["import", "first"]);
    let before = home.json(&["snapshots"]);
    for args in [
        &["import", "second"][..],
        &["export", "latest", "--to", "out", "--force"],
        &["check", "--full"],
        &["check", "--read-data"],
        &["check", "--packs"],
        &["stats"],
        &["ls", "-R", "latest"],
        &["prune"],
        &["prune", "--dry-run"],
        &["repair"],
        &["copy", "--to", "other"],
        &["forget", "latest", "--dry-run"],
        &["doctor", "."],
    ] {
        for delay in [5, 40, 150] {
            if args[0] == "copy" {
                let _ = fs::remove_dir_all(home.path("other"));
                home.ok(&["--repo", "other", "init", "--no-password"]);
            }
            let child = home.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            thread::sleep(Duration::from_millis(delay));
            let pressed = Instant::now();
            Command::new("kill").args(["-INT", &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
            // Before the work has begun the signal itself ends it, which a shell tells as 130, too. Some work is done
            // by then.
            let exit = exit_of(child);
            assert!([INTERRUPTED, -1, 0].contains(&exit), "{args:?}: {exit}");
            assert!(pressed.elapsed() < PROMPTLY, "{args:?}: {:?}", pressed.elapsed());
            if exit == INTERRUPTED {
                for folder in ["repo/sessions", "repo/tmp", "other/sessions", "other/tmp"] {
                    let left = fs::read_dir(home.path(folder)).map_or(0, Iterator::count);
                    assert_eq!(left, 0, "{args:?} leaves something in {folder}");
                }
            }
        }
        home.ok(&["check"]);
    }
    let now = home.json(&["snapshots"]);
    assert!(now == before || now[0] == before[0] && now.as_array().unwrap().len() == 2, "{now}");
    home.ok(&["check", "--read-data"]);
    home.assert_exact(before[0]["id"].as_str().unwrap(), &home.path("first"));
    home.ok(&["import", "second"]);
    home.assert_exact("latest", &home.path("second"));
}
