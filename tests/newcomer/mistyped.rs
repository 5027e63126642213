//! Words that are typed wrongly: each kind is refused with what to do, harms nothing, and is told in JSON as well.

use std::fs;

use serde_json::Value;

use crate::{
    cli::VERBS,
    support::{
        folder::folder_at,
        program::{Home, SmallBackup, UDID},
    },
};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NO_REPOSITORY: i32 = 10;

/// A home with a snapshot, a file `file` and an empty folder `folder`.
fn home_with_a_snapshot() -> Home {
    let home = Home::new();
    SmallBackup::default().write(&home.path(UDID));
    home.ok(&["import", UDID]);
    fs::write(home.path("file"), "").unwrap();
    fs::create_dir(home.path("folder")).unwrap();
    home
}

/// Runs it as it is and with `--json`: both fail alike with these words, and nothing changes.
#[track_caller]
fn assert_refused(home: &Home, args: &[&str], exit: i32, words: &str) {
    let before = folder_at(&home.path("repo"));
    let said = home.run(args);
    assert_eq!((said.exit, &*said.stdout), (exit, ""), "{args:?}: {said:?}");
    assert!(said.stderr.contains("error: ") && said.stderr.contains(words), "{args:?}: {words}: {said:?}");
    let told = home.run(&[&["--json"], args].concat());
    // An import has a row for each folder.
    let is_told = told.stdout.is_empty() || serde_json::from_str::<Value>(&told.stdout).is_ok();
    assert!(told.exit == exit && is_told, "{args:?}: {told:?}");
    let error: Value = serde_json::from_str(&told.stderr).unwrap_or_else(|error| panic!("{args:?}: {error}: {told:?}"));
    assert!(error["code"] == exit && error["message_type"] == "error" && error["hint"].is_string(), "{error}");
    assert!(folder_at(&home.path("repo")) == before, "{args:?} changed the repository");
}

#[test]
fn wrong_words_are_refused_with_what_to_do() {
    let home = home_with_a_snapshot();
    for (args, exit, words) in [
        // A folder where a snapshot is meant, and the other way round.
        (&["ls", "folder/"][..], FAILED, "not a folder"),
        (&["export", "./folder", "--to", "out"], FAILED, "not a folder"),
        (&["forget", "folder"], FAILED, "not a folder"),
        (&["import", "latest"], FAILED, "does not exist"),
        (&["import", "repo"], FAILED, "is a repository"),
        (&["copy", "--to", "latest"], NO_REPOSITORY, "there is no repository here"),
        // Snapshots and places in them.
        (&["ls", "latest~"], FAILED, "after ~ stands a number"),
        (&["pin", "latest~-1"], FAILED, "after ~ stands a number"),
        (&["stats", "@may"], FAILED, "dates are @2026"),
        (&["forget", "@2026-02-30"], FAILED, "dates are @2026"),
        (&["ls", "latest", "HomeDomain/Library"], FAILED, "a colon stands after the domain"),
        (&["ls", ""], USAGE, "the name of the snapshot is empty"),
        // Empty words.
        (&["import", ""], USAGE, "PATH"),
        (&["export", "latest", "--to", ""], USAGE, "--to"),
        (&["copy", "--to", ""], USAGE, "--to"),
        (&["doctor", ""], USAGE, "DIR"),
        (&["snapshots", "--udid", ""], USAGE, "--udid"),
        (&["prune", "--end-session", ""], USAGE, "--end-session"),
        (&["key", "add", "--file", ""], USAGE, "--file"),
        (&["check", "--packs", "--same-as", ""], USAGE, "--same-as"),
        (&["repair", "--from", ""], USAGE, "--from"),
        // Files where folders are meant.
        (&["export", "latest", "--to", "file"], FAILED, "is a file"),
        (&["export", "latest", "--to", "file/"], FAILED, "is a file"),
        (&["--repo", "file/", "snapshots"], NO_REPOSITORY, "is a file"),
        (&["import", "file/"], FAILED, "is not a folder"),
        (&["doctor", "file"], FAILED, "there is no such folder"),
        // Into the repository itself.
        (&["export", "latest", "--to", "repo"], USAGE, "outside of it"),
        (&["export", "latest", "--to", "repo/a/b"], USAGE, "outside of it"),
        (&["--repo", "repo/second", "init", "--no-password"], USAGE, "outside of it"),
        (&["key", "add", "--file", "repo/secret"], USAGE, "outside of it"),
        (&["copy", "--to", "folder/../repo"], USAGE, "to itself"),
        // Numbers out of range.
        (&["doctor", "folder", "--megabytes", "0"], USAGE, "--megabytes"),
        (&["doctor", "folder", "--megabytes", "99999999999999999999"], USAGE, "--megabytes"),
        (&["prune", "--max-unused", "-3"], USAGE, "-3"),
        (&["check", "--read-data-subset", "8/7"], USAGE, "2/7"),
        (&["forget", "--keep-last", "99999999999999999999"], USAGE, "--keep-last"),
        // What does not go together.
        (&["trust", "--reset", "--add"], USAGE, "--reset"),
        (&["snapshots", "latest", "--trash"], USAGE, "--trash"),
        (&["import", UDID, "--as-ciphertext", "--remember-password"], USAGE, "--as-ciphertext"),
    ] {
        assert_refused(&home, args, exit, words);
    }
}

#[test]
fn a_verb_without_what_it_needs_names_it() {
    let home = home_with_a_snapshot();
    let needs = [
        ("import", "<PATH>"),
        ("ls", "<SNAP>"),
        ("export", "<SNAP>"),
        ("restore", "<SNAP>"),
        ("pin", "<SNAP>"),
        ("unpin", "<SNAP>"),
        ("copy", "--to"),
        ("doctor", "<DIR>"),
        ("encryption", "<ACTION>"),
        ("key", "subcommand"),
        ("completions", "<SHELL>"),
        ("forget", "which snapshots"),
    ];
    for (verb, what) in needs {
        assert_refused(&home, &[verb], USAGE, what);
    }
    for verb in VERBS {
        assert_refused(&home, &[verb, "--no-such-option"], USAGE, "--no-such-option");
        assert_refused(&home, &[&format!("{verb}x")], USAGE, "unrecognized subcommand");
    }
}

#[test]
fn without_snapshots_it_is_said_how_one_comes() {
    let home = home_with_a_snapshot();
    home.ok(&["forget", "latest"]);
    for args in [&["forget", "latest"][..], &["ls", "latest"], &["export", "latest", "--to", "out"]] {
        for words in ["`heirloom backup`", "`heirloom import PATH`", "`heirloom undelete`"] {
            assert_refused(&home, args, FAILED, words);
        }
    }
}

#[test]
fn slashes_at_the_ends_of_a_place_do_no_harm() {
    let home = home_with_a_snapshot();
    let listed = home.ok(&["ls", "latest", "HomeDomain:Library"]).stdout;
    for place in ["HomeDomain:/Library", "HomeDomain:Library/", "HomeDomain:/Library//"] {
        assert_eq!(home.ok(&["ls", "latest", place]).stdout, listed, "{place}");
    }
    home.ok(&["--repo", "repo/", "check"]);
    home.ok(&["export", "latest", "--to", "out/"]);
}

#[cfg(target_os = "linux")]
#[test]
fn words_that_are_not_utf_8_are_borne() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let home = home_with_a_snapshot();
    let odd = OsStr::from_bytes(b"odd\xff");
    for (args, exit) in [
        (&["export", "latest", "--to"][..], 0),
        (&["import"], 0),
        (&["doctor", "--megabytes", "1"], 0),
        (&["init", "--no-password", "--repo"], 0),
        (&["snapshots", "--repo"], 0),
        (&["ls"], USAGE),
        (&["ls", "latest"], USAGE),
        (&["snapshots", "--udid"], USAGE),
    ] {
        if args.contains(&"init") {
            fs::remove_dir_all(home.path("").join(odd)).unwrap();
        }
        let said = home.said(home.command(&[&["--json"], args].concat()).arg(odd));
        assert_eq!(said.exit, exit, "{args:?}: {said:?}");
        let told = if exit == 0 { &said.stdout } else { &said.stderr };
        serde_json::from_str::<Value>(told).unwrap_or_else(|error| panic!("{args:?}: {error}: {said:?}"));
    }
}

#[test]
fn without_a_home_everything_works() {
    let home = home_with_a_snapshot();
    for args in [&["snapshots"][..], &["check", "--read-data"], &["trust"], &["import", UDID], &["man"]] {
        let said = home.said(home.command(args).env_remove("HOME").env_remove("XDG_CACHE_HOME"));
        assert!(said.exit == 0 && !said.stderr.contains("warning"), "{args:?}: {said:?}");
    }
}
