//! Text that people type, and text that they are shown once.

use std::fs;

use crate::support::program::{Home, SmallBackup, UDID};

const PASSWORD: (&str, &str) = ("HEIRLOOM_PASSWORD", "of the repository");

/// A key is shown once: one that nobody saw opens nothing, and that is said.
#[cfg(target_os = "linux")]
#[test]
fn a_recovery_key_that_nobody_saw_opens_nothing() {
    let home = Home::empty();
    let into_full_disk = |args: &str| {
        let command = home.command(&[]);
        let program = command.get_program().to_str().unwrap();
        let line = format!("{program} {args} > /dev/full");
        home.said(home.program("bash").env(PASSWORD.0, PASSWORD.1).args(["-c", &line]))
    };
    let recovery_keys = || {
        let said = home.run_with(&[PASSWORD], &["--json", "key", "list"]);
        let slots: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        slots.as_array().unwrap().iter().filter(|slot| slot["kind"] == "recovery").count()
    };
    for args in ["init --no-verify", "--json init --no-verify"] {
        let said = into_full_disk(args);
        assert_eq!(said.exit, 1, "{said:?}");
        let words = ["could not be shown", "heirloom key recovery"];
        words.iter().for_each(|word| assert!(said.stderr.contains(word), "{word}: {said:?}"));
        assert_eq!(recovery_keys(), 0, "{args}");
        fs::remove_dir_all(home.path("repo")).unwrap();
    }
    assert_eq!(home.run_with(&[PASSWORD], &["init", "--no-verify"]).exit, 0);
    for args in ["key recovery --no-verify", "--json key recovery --no-verify"] {
        let said = into_full_disk(args);
        assert!(said.exit == 1 && said.stderr.contains("could not be shown"), "{said:?}");
        assert_eq!(recovery_keys(), 1, "the one before stays: {args}");
    }
}

/// Words are typed as they stand on the paper: with numbers, commas, capital letters.
#[test]
fn recovery_words_are_typed_in_many_ways() {
    let home = Home::empty();
    let said = home.run_with(&[PASSWORD], &["--json", "init", "--no-verify"]);
    let made: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let words = made["recovery_key"].as_str().unwrap();
    let numbered: Vec<String> = words.split(' ').enumerate().map(|(at, word)| format!("{}. {word}", at + 1)).collect();
    for typed in [words.to_uppercase(), words.replace(' ', ", "), words.replace(' ', "\u{a0}"), numbered.join("  ")] {
        assert_eq!(home.run_with(&[("HEIRLOOM_PASSWORD", &typed)], &["snapshots"]).exit, 0, "{typed}");
    }
}

/// name-as-typed: paths, too.
#[test]
fn paths_are_found_however_accents_are_typed() {
    let home = Home::new();
    let files: [(&str, &str, &[u8]); 2] =
        [("AppDomain-x", "Documents/Zoe\u{308}.txt", b"1"), ("AppDomain-x", "Notes/\u{e9}t\u{e9}/a", b"2")];
    SmallBackup { files: &files, device_name: "iPhone\u{a0}de\u{a0}Zo\u{eb}", ..SmallBackup::default() }
        .write(&home.path("Backup").join(UDID));
    home.ok(&["import", "Backup"]);
    for path in ["AppDomain-x:Documents/Zo\u{eb}.txt", "AppDomain-x:Documents/Zoe\u{308}.txt"] {
        home.ok(&["ls", "iPhone de Zoe\u{308}", path]);
    }
    for path in ["AppDomain-x:Notes/\u{e9}t\u{e9}", "AppDomain-x:Notes/e\u{301}te\u{301}"] {
        assert!(home.ok(&["ls", "iphone de zo\u{eb}", path]).stdout.contains('a'), "{path}");
    }
    assert_eq!(home.run(&["ls", "iphone de zoe", "AppDomain-x"]).exit, 1);
}
