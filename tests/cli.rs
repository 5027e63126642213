//! The program as a person meets it: what it says word for word, how it ends, and how things are named.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use snapbox::{assert_data_eq, str};

use crate::support::{
    folder::{Thing, folder_at},
    program::{Home, PASSWORD, Said, SmallBackup, UDID, assert_same, blob, exit_of, only_child, phone_in, write_at},
};

const FAILED: i32 = 1;
const CHECK_KEYS: [&str; 9] =
    ["affected", "bytes_read", "chunks", "newer", "packs", "problems", "snapshots", "verified", "without_spare"];
const PAD: &str = "00008101-00AA11BB22CC33DD";
pub const VERBS: [&str; 26] = [
    "init",
    "import",
    "snapshots",
    "stats",
    "ls",
    "export",
    "check",
    "copy",
    "doctor",
    "key",
    "trust",
    "demo",
    "completions",
    "man",
    "devices",
    "pair",
    "backup",
    "restore",
    "encryption",
    "decrypt",
    "forget",
    "undelete",
    "pin",
    "unpin",
    "prune",
    "repair",
];

// ---- what it says ------------------------------------------------------------------------------------------------------------

/// Everything that was said and how it ended; stderr comes after stdout.
fn all(said: &Said) -> String {
    format!("{}{}exit {}\n", said.stdout, said.stderr, said.exit)
}

#[test]
fn the_first_evening() {
    let home = Home::empty();
    let (_phone, folder) = phone_in(&home.path("Backup"), 6_000_000);
    let with_password = [("HEIRLOOM_PASSWORD", PASSWORD)];
    let say = |args: &[&str]| all(&home.run_with(&with_password, args));

    assert_data_eq!(
        say(&["snapshots"]),
        str![[r#"
error: repo: there is no repository here
hint: create one with `heirloom --repo repo init`
exit 10

"#]]
    );
    assert_data_eq!(
        say(&["init"]),
        str![[r#"
created repository [..] in repo

Recovery key. It opens the repository if the password is lost, and is shown this once:

     1 [..]
     6 [..]
    11 [..]15 [..]

Write the words on paper, in this order, and keep the paper away from the disk.

Next, with a phone on its cable, or with backups that there are:
  heirloom --repo repo pair
  heirloom --repo repo backup
  heirloom --repo repo import PATH
exit 0

"#]]
    );
    assert_data_eq!(
        say(&["snapshots"]),
        str![[r#"
no snapshots yet
exit 0

"#]]
    );
    assert_data_eq!(
        say(&["import", "Backup"]),
        str![[r#"
kept Noah’s iPhone of 2025-02-02 01:00 as [..]: 140 files, 6.3 MB, [..] MB new
importing Noah’s iPhone of 2025-02-02 01:00 from [HOME]/Backup/00008101-00960DB2A23A94B0
exit 0

"#]]
    );
    assert_data_eq!(
        say(&["import", "Backup"]),
        str![[r#"
Noah’s iPhone of 2025-02-02 01:00 is already kept as [..]: nothing new
importing Noah’s iPhone of 2025-02-02 01:00 from [HOME]/Backup/00008101-00960DB2A23A94B0
exit 0

"#]]
    );
    assert_data_eq!(
        say(&["snapshots"]),
        str![[r#"
ID        TIME              DEVICE         IOS     FILES    SIZE   ADDED  FROM    NOTES
[..]  2025-02-02 01:00  Noah’s iPhone  17.6.1    140  6.3 MB  [..] MB  import
exit 0

"#]]
    );
    assert_data_eq!(
        say(&["ls", "latest"]),
        str![[r#"
DOMAIN                                             FILES    SIZE
:                                                      4  285 KB  the backup's own files
AppDomain-com.after.water2                            12  170 KB
AppDomain-com.apple.mobilesafari                       2   74 KB
AppDomain-com.call.train3                              8   17 KB
AppDomain-com.do.about4                                7  206 KB
AppDomain-com.problem.right1                           6   46 KB
AppDomain-com.sun.station0                             7  6.5 KB
AppDomainGroup-group.net.whatsapp.WhatsApp.shared     10  508 KB
CameraRollDomain                                      52  3.4 MB
HealthDomain                                           2  242 KB
HomeDomain                                            19  1.2 MB
KeychainDomain                                         0     0 B
ManagedPreferencesDomain                               0     0 B
MediaDomain                                           10  161 KB
SystemPreferencesDomain                                1   593 B
TonesDomain                                            0     0 B
WirelessDomain                                         0     0 B
exit 0

"#]]
    );
    assert_data_eq!(
        say(&["ls", "latest", ":"]),
        str![[r#"
Info.plist
Manifest.db
Manifest.plist
Status.plist
exit 0

"#]]
    );
    assert_data_eq!(
        say(&["ls", "-l", "latest", "HomeDomain:Library/SMS"]),
        str![[r#"
-rw-r--r--    926 KB  2024-06-30 12:39  sms.db
exit 0

"#]]
    );
    assert_data_eq!(
        say(&["ls", "-R", "latest", "HomeDomain:Library/SMS"]),
        str![[r#"
HomeDomain:Library/SMS
HomeDomain:Library/SMS/sms.db
exit 0

"#]]
    );
    assert_data_eq!(
        say(&["ls", "latest", "HomeDomain:Library/Sms"]),
        str![[r#"
error: HomeDomain:Library/Sms: there is no such thing in snapshot [..]
hint: `heirloom ls latest` lists the domains, `heirloom ls -R latest` everything
exit 1

"#]]
    );
    assert_data_eq!(
        say(&["export", "latest", "--to", "restored"]),
        str![[r#"
exported Noah’s iPhone of 2025-02-02 01:00 to restored/00008101-00960DB2A23A94B0: 140 files, 6.3 MB
exit 0

"#]]
    );
    assert_same(&folder_at(&only_child(&home.path("restored"))), &folder_at(&folder));
    assert_data_eq!(
        say(&["export", "latest", "--to", "restored"]),
        str![[r#"
error: restored/00008101-00960DB2A23A94B0 exists
hint: give another folder, or --force to write into this one
exit 1

"#]]
    );
    assert_data_eq!(
        say(&["export", "latest", "--to", "restored", "--force"]),
        str![[r#"
exported Noah’s iPhone of 2025-02-02 01:00 to restored/00008101-00960DB2A23A94B0: 140 files, 6.3 MB
exit 0

"#]]
    );
    assert_data_eq!(
        say(&["check"]),
        str![[r#"
no problems: 1 snapshot, 2 packs, [..] chunks in [..] s
exit 0

"#]]
    );
    assert_data_eq!(
        all(&home.run(&["check", "--packs"])),
        str![[r#"
no problems: 2 packs, [..] MB read in [..] s
fingerprint [..], the same for a copy that holds the same
exit 0

"#]]
    );
    assert_data_eq!(
        say(&["check", "--read-data"]),
        str![[r#"
no problems: 1 snapshot, 2 packs, [..] chunks, [..] MB read in [..] s
exit 0

"#]]
    );
}

#[test]
fn a_demo_shows_the_main_job() {
    let home = Home::empty();
    let said = home.ok(&["demo", "--size", "6M"]);
    assert_data_eq!(
        all(&said),
        str![[r#"
A phone that does not exist, Hugo’s iPhone (00008101-007B1CEE1DF87A21), is at 127.0.0.1:[..].
Paired: Hugo’s iPhone trusts this computer now.

Day 1: 136 files, 6.3 MB on the phone; it sent 6.3 MB  ->  snapshot [..], [..] MB added
Day 2: 139 files, 6.5 MB on the phone; it sent [..] MB  ->  snapshot [..], [..] KB added
Day 3: 140 files, 6.8 MB on the phone; it sent [..] MB  ->  snapshot [..], [..] KB added

Three copies would take 20 MB; the repository, in heirloom-demo, takes [..] MB.
Exported day 1 as a folder for Finder: 132 files, every byte as it was on the phone.
Restored the phone to day 1: 132 files, every byte and time as it was.
That took [..] s. The repository has no password; to look around:

  [..] --repo heirloom-demo snapshots
  [..] --repo heirloom-demo ls latest
  [..] --repo heirloom-demo ls latest HomeDomain:Library/SMS
  [..] --repo heirloom-demo export latest~1 --to heirloom-demo-restored
  [..] --repo heirloom-demo check --read-data
exit 0

"#]]
    );
    // How much exactly depends on the date.
    for day in ["Day 2: ", "Day 3: "] {
        let line = said.stdout.lines().chain(said.stderr.lines()).find(|line| line.starts_with(day)).unwrap();
        let sent = line.split_once("it sent ").and_then(|(_, rest)| rest.split(' ').next()).unwrap();
        assert!((2.0..=3.5).contains(&sent.parse::<f64>().unwrap()), "{line}");
    }
    #[cfg(unix)]
    for command in said.stdout.lines().filter(|line| line.starts_with("  ")) {
        let typed = home.said(home.program("sh").args(["-c", command.trim()]));
        assert!(typed.exit == 0 && !typed.stdout.is_empty(), "{command}: {typed:?}");
    }
    assert_eq!(fs::read_dir(home.path("tmp")).unwrap().count(), 0, "it tidies up");
    let snapshots = home.json(&["--repo", "heirloom-demo", "snapshots"]);
    assert_eq!(snapshots.as_array().unwrap().len(), 3);

    assert_data_eq!(
        all(&home.run(&["demo", "--size", "6M"])),
        str![[r#"
error: heirloom-demo exists
hint: the demo overwrites nothing: delete the folder if it is from an earlier demo, or give another with --dir
exit 1

"#]]
    );
}

#[test]
fn the_help_of_every_verb_has_examples_that_are_understood() {
    let home = Home::empty();
    for verb in VERBS {
        let help = home.ok(&[verb, "--help"]).stdout;
        let examples = help.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{verb}: {help}")).1;
        let lines: Vec<&str> = examples.lines().take_while(|line| line.starts_with("  ")).collect();
        assert!(lines.iter().all(|line| line.contains("heirloom ")), "{verb}: {lines:?}");
        assert!(lines.iter().any(|line| line.contains(&format!(" {verb}"))), "{verb}: {lines:?}");
    }
    for help in VERBS.iter().map(|verb| home.ok(&[verb, "--help"])).chain([home.ok(&["--help"])]) {
        for line in help.stdout.lines() {
            assert!(line.chars().count() <= 100 && !line.contains("\\\""), "{line}");
        }
    }
    let help = home.ok(&["--help"]).stdout;
    for (code, what) in [(2, "usage"), (3, "incomplete"), (10, "no repository"), (12, "password"), (30, "damage")] {
        assert!(help.lines().any(|line| line.contains(&code.to_string()) && line.contains(what)), "{code}: {help}");
    }
}

#[test]
fn help_is_a_verb_too() {
    let home = Home::empty();
    assert_eq!(home.ok(&["help"]).stdout, home.ok(&["--help"]).stdout);
    for verb in VERBS {
        assert_eq!(home.ok(&["help", verb]).stdout, home.ok(&[verb, "--help"]).stdout, "{verb}");
    }
    assert!(home.ok(&["help", "key", "add"]).stdout.contains("--file"));
    home.run(&["help", "frobnicate"]).assert_failed(2, &["frobnicate"]);
}

#[test]
fn a_dry_run_has_a_short_option_everywhere() {
    let home = Home::empty();
    let mut found = 0;
    for verb in VERBS {
        let help = home.ok(&[verb, "--help"]).stdout;
        let mut options = help.lines().filter(|line| line.contains("--dry-run") && line.trim().starts_with('-'));
        if let Some(option) = options.next() {
            assert!(option.contains("-n, --dry-run"), "{verb}: {option}");
            found += 1;
        }
    }
    assert!(found >= 4);
}

#[test]
fn shells_complete_every_verb() {
    let home = Home::empty();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = home.ok(&["completions", shell]);
        assert_eq!(script.stderr, "");
        for word in VERBS.iter().chain(&["full-read", "read-data"]) {
            assert!(script.stdout.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(home.run(&["completions", "tcsh"]).exit, 2);
}

#[test]
fn there_is_a_manual_page_for_every_verb() {
    let home = Home::empty();
    home.ok(&["man", "man1"]);
    for page in VERBS.map(|verb| format!("man1/heirloom-{verb}.1")).iter().chain(&["man1/heirloom.1".to_owned()]) {
        let page = fs::read_to_string(home.path(page)).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
    }
    for action in ["list", "add", "remove", "change", "recovery"] {
        assert!(home.path(&format!("man1/heirloom-key-{action}.1")).exists(), "{action}");
    }
    let written = fs::read_dir(home.path("man1")).unwrap().count();
    let all = home.ok(&["man"]).stdout;
    assert_eq!(all.matches(".SH SYNOPSIS").count(), written);
    for line in ["   30  damage found", "  heirloom snapshots"] {
        assert!(all.lines().any(|of_page| of_page == line), "{line} is no line of a page");
    }
}

#[test]
fn quiet_says_results_and_what_is_wrong_and_no_more() {
    let home = Home::new();
    SmallBackup::default().write(&home.path("phone").join(UDID));
    let said = home.ok(&["--quiet", "import", "phone"]);
    assert_eq!(said.stderr, "");
    assert!(said.stdout.starts_with("kept Maria’s iPhone of 2024-05-03 12:00 as "), "{said:?}");

    fs::remove_file(home.path("phone").join(UDID).join("Info.plist")).unwrap();
    let said = home.run(&["--quiet", "import", "phone"]);
    assert_eq!((said.exit, &*said.stderr), (3, "warning: Info.plist is missing\n"));
}

// ---- how it ends -------------------------------------------------------------------------------------------------------------

#[test]
fn what_cannot_be_understood_ends_with_2() {
    let home = Home::new();
    for args in [
        &["frobnicate"][..],
        &[],
        &["import"],
        &["export", "latest"],
        &["check", "--packs", "--read-data"],
        &["-q", "-v", "snapshots"],
        &["--repo", "", "snapshots"],
        &["--repo", "s3://bucket/phones", "snapshots"],
        &["--json", "man"],
        &["ls", ""],
        &["demo", "--size", "much"],
        &["key"],
        &["key", "remove", ""],
        &["forget"],
        &["forget", "--dry-run"],
        &["forget", "--keep-last", "0"],
        &["forget", "--keep-daily", "-1"],
        &["forget", "--keep-within", "3w"],
        &["forget", "latest", "--keep-last", "1"],
        &["forget", "latest", "--udid", UDID],
        &["pin"],
        &["unpin"],
        &["pin", ""],
    ] {
        let said = home.run(args);
        assert_eq!((said.exit, &*said.stdout), (2, ""), "{args:?}: {said:?}");
        assert!(!said.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn what_cannot_be_understood_is_told_in_json_too() {
    let home = Home::empty();
    for (args, words) in [
        (&["--json", "frobnicate"][..], "frobnicate"),
        (&["snapshots", "--json", "--nonsense"], "--nonsense"),
        (&["--json", "import"], "PATH"),
        (&["--json"], "subcommand"),
        (&["key", "--json"], "subcommand"),
        (&["--json", "demo", "--size", "much"], "much"),
        (&["--json", "man"], "JSON"),
        (&["--json", "forget"], "which snapshots"),
    ] {
        let said = home.run(args);
        assert_eq!((said.exit, &*said.stdout), (2, ""), "{args:?}: {said:?}");
        let error: Value = serde_json::from_str(&said.stderr).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        assert_eq!(keys(&error), ["code", "hint", "message", "message_type"]);
        assert_eq!((&error["message_type"], &error["code"]), (&json!("error"), &json!(2)));
        assert!(error["message"].as_str().unwrap().contains(words) && error["hint"].is_string(), "{error}");
    }
    assert!(home.ok(&["--json", "--version"]).stdout.starts_with("heirloom "));
    assert!(home.run(&["import", "--", "--json"]).stderr.contains("error: "), "a path is no option");
}

#[test]
fn without_a_repository_it_ends_with_10() {
    let home = Home::empty();
    fs::create_dir(home.path("folder")).unwrap();
    fs::write(home.path("file"), "").unwrap();
    SmallBackup::default().write(&home.path(UDID));
    for repository in ["nowhere", "folder", "file"] {
        for args in [&["snapshots"][..], &["ls", "latest"], &["check"], &["check", "--packs"], &["import", UDID]] {
            let said = home.run(&[&["--repo", repository], args].concat());
            assert_eq!(said.exit, 10, "{repository} {args:?}: {said:?}");
            assert!(said.stderr.contains(repository) && said.stderr.contains("hint: create one"), "{said:?}");
        }
    }
    assert!(!home.path("nowhere").exists(), "nothing was made by asking");
}

/// A copy of the folder that was cut off may have left it without its config.
#[test]
fn what_is_left_of_a_repository_is_not_to_be_made_anew() {
    let home = Home::new();
    SmallBackup::default().write(&home.path(UDID));
    home.ok(&["import", UDID]);
    fs::remove_file(home.path("repo/config")).unwrap();
    for args in [&["snapshots"][..], &["check", "--packs"]] {
        home.run(args).assert_failed(10, &["there is no repository here", "heirloom --repo repo repair"]);
    }
    home.ok(&["repair"]);
    home.ok(&["check", "--read-data"]);
}

#[test]
fn passwords_come_from_three_variables_or_are_the_recovery_key() {
    let home = Home::empty();
    let said = home.run(&["init"]);
    assert_eq!(said.exit, 12, "{said:?}");
    assert!(said.stderr.contains("HEIRLOOM_PASSWORD_FILE") && !home.path("repo").exists(), "{said:?}");

    let created = home.run_with(&[("HEIRLOOM_PASSWORD", PASSWORD)], &["--json", "init"]);
    let created: Value = serde_json::from_str(&created.stdout).unwrap();
    let words = created["recovery_key"].as_str().unwrap();
    assert_eq!(words.split(' ').count(), 15);
    fs::write(home.path("secret"), format!("{PASSWORD}\nmore")).unwrap();
    fs::write(home.path("empty"), "\n").unwrap();

    let shouted = words.to_uppercase();
    let prints = format!("echo {PASSWORD}");
    for (variables, exit) in [
        (&[("HEIRLOOM_PASSWORD", PASSWORD)][..], 0),
        (&[("HEIRLOOM_PASSWORD_FILE", "secret")], 0),
        (&[("HEIRLOOM_PASSWORD_COMMAND", &*prints)], 0),
        (&[("HEIRLOOM_PASSWORD", ""), ("HEIRLOOM_PASSWORD_FILE", "secret")], 0),
        (&[("HEIRLOOM_PASSWORD", words)], 0),
        (&[("HEIRLOOM_PASSWORD", &*shouted)], 0),
        (&[], 12),
        (&[("HEIRLOOM_PASSWORD", "Correct horse")], 12),
        (&[("HEIRLOOM_PASSWORD", "wrong"), ("HEIRLOOM_PASSWORD_FILE", "secret")], 12),
        (&[("HEIRLOOM_PASSWORD_FILE", "nowhere")], 12),
        (&[("HEIRLOOM_PASSWORD_FILE", "empty")], 12),
        (&[("HEIRLOOM_PASSWORD_COMMAND", "exit 7")], 12),
    ] {
        let said = home.run_with(variables, &["snapshots"]);
        assert_eq!(said.exit, exit, "{variables:?}: {said:?}");
        assert!(exit == 0 || said.stderr.starts_with("error: "), "{variables:?}: {said:?}");
        assert!(!said.stderr.contains(PASSWORD), "{said:?}");
    }
    assert_eq!(home.run(&["check", "--packs"]).exit, 0, "which needs none");
}

#[test]
fn keys_are_added_changed_and_removed() {
    let home = Home::empty();
    let run = |password: &str, new: &str, args: &[&str]| {
        home.run_with(&[("HEIRLOOM_PASSWORD", password), ("HEIRLOOM_NEW_PASSWORD", new)], args)
    };
    let json = |password: &str, args: &[&str]| -> Value {
        let said = run(password, "", &[&["--json"], args].concat());
        assert_eq!(said.exit, 0, "{said:?}");
        serde_json::from_str(&said.stdout).unwrap()
    };
    let opens = |password: &str| match run(password, "", &["snapshots"]).exit {
        0 => true,
        12 => false,
        other => panic!("{password}: {other}"),
    };
    let old_words = json("first", &["init"])["recovery_key"].as_str().unwrap().to_owned();
    assert_eq!(run("first", "second", &["key", "add"]).exit, 0);
    let listed = json("first", &["key", "list"]);
    assert_eq!(keys(&listed[0]), ["created", "id", "kind", "label", "used"]);
    let kinds: Vec<&str> = listed.as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "password").count(), 2, "{listed}");
    assert!(kinds.len() == 3 && kinds.contains(&"recovery"), "{listed}");
    let used = listed.as_array().unwrap().iter().find(|row| row["used"] == true).unwrap();
    let first = used["id"].as_str().unwrap();

    run("first", "", &["key", "remove", first]).assert_failed(1, &["this very key", "recovery key"]);
    run("first", "", &["key", "remove", "no-such"]).assert_failed(1, &["no-such", "key list"]);
    assert_eq!(run("second", "", &["key", "remove", &first[..8]]).exit, 0);
    assert!(!opens("first") && opens("second"));

    assert_eq!(run("second", "third", &["key", "change"]).stdout, "the password is changed\n");
    assert!(!opens("second") && opens("third") && opens(&old_words));
    run("third", "", &["key", "change"]).assert_failed(12, &["HEIRLOOM_NEW_PASSWORD_FILE"]);
    run("second", "fourth", &["key", "change"]).assert_failed(12, &["wrong password"]);

    let new_words = json("third", &["key", "recovery"])["recovery_key"].as_str().unwrap().to_owned();
    assert!(opens(&new_words) && !opens(&old_words));
    let said = run(&new_words, "fourth", &["key", "change"]);
    assert!(said.exit == 0 && said.stderr.contains("key remove ID"), "{said:?}");
    assert!(opens("third") && opens("fourth") && opens(&new_words));

    let by_file = |file: &str, args: &[&str]| home.run_with(&[("HEIRLOOM_PASSWORD_FILE", file)], args).exit;
    assert_eq!(run("third", "", &["key", "add", "--file", "nightly"]).exit, 0);
    assert_eq!(by_file("nightly", &["snapshots"]), 0);
    run("third", "", &["key", "add", "--file", "nightly"]).assert_failed(1, &["nightly"]);
    assert_eq!(by_file("nightly", &["snapshots"]), 0, "the file is as it was");
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(home.path("nightly")).unwrap().permissions()) & 0o777,
        0o600
    );
    assert_eq!(run("third", "", &["check"]).exit, 0);
}

#[test]
fn a_repository_without_a_password_gets_one() {
    for (verb, words) in [("add", "without a password any more"), ("change", "`heirloom key recovery` makes one")] {
        let home = Home::new();
        let said = home.run_with(&[("HEIRLOOM_NEW_PASSWORD", PASSWORD)], &["key", verb]);
        assert!(said.exit == 0 && said.stderr.contains(words), "{said:?}");
        assert_eq!(home.run(&["snapshots"]).exit, 12);
        let said = home.run_with(&[("HEIRLOOM_PASSWORD", PASSWORD)], &["snapshots"]);
        assert!(said.exit == 0 && !said.stderr.contains("warning"), "{said:?}");
    }
}

#[test]
fn files_of_snapshots_that_are_damaged_are_named() {
    let home = Home::new();
    SmallBackup::default().write(&home.path(UDID));
    home.ok(&["import", UDID]);
    assert_eq!(home.json(&["check"])["affected"], json!([]));
    let holds_data = |pack: &String| fs::read(pack).unwrap()[9] == 1;
    let pack = files_below(&home.path("repo/packs")).into_iter().find(holds_data).unwrap();
    fs::remove_file(pack).unwrap();
    let said = home.run(&["check"]);
    assert_eq!(said.exit, 30, "{said:?}");
    for words in [
        "it is missing",
        "Maria’s iPhone of 2024-05-03 12:00 (",
        " files are damaged\n",
        "  HomeDomain:Library/SMS/sms.db has lost 8 B of 8 B\n",
        "1 problem, 1 snapshot has lost something: ",
    ] {
        assert!(said.stdout.contains(words), "{words}: {said:?}");
    }
    let found = home.json(&["check"]);
    assert_eq!(keys(&found), CHECK_KEYS);
    let affected = &found["affected"][0];
    assert_eq!(keys(affected), ["files", "lost_parts", "more", "snapshot"]);
    let sms = json!({ "domain": "HomeDomain", "path": "Library/SMS/sms.db", "lost_bytes": 8, "bytes": 8 });
    assert!(affected["files"].as_array().unwrap().contains(&sms), "{found}");
    assert_eq!(affected["snapshot"]["id"], home.json(&["snapshots"])[0]["id"]);
}

#[test]
fn what_was_verified_and_when_is_told() {
    let home = Home::new();
    SmallBackup::default().write(&home.path(UDID));
    home.ok(&["import", UDID]);
    assert!(!home.ok(&["check"]).stdout.contains("verified"), "nothing was");
    let packs = packs_of(&home).len();
    assert_eq!(packs, 2);
    let part = home.ok(&["check", "--read-data-subset", "1"]).stdout;
    assert!(part.contains(" % verified (") && part.contains(", the oldest of it on "), "{part}");
    let all = home.ok(&["check", "--max-time", "10h"]).stdout;
    assert!(all.contains("\neverything verified since "), "{all}");
    assert!(home.ok(&["check"]).stdout.contains("\neverything verified since "));
    let verified = &home.json(&["check", "--full"])["verified"];
    assert_eq!(verified["bytes"], verified["of_bytes"]);
    assert!(verified["since"].as_str().unwrap().ends_with('Z'), "{verified}");
    for args in [["--max-time", "soon"], ["--read-data-subset", "0"], ["--packs", "--full"]] {
        assert_eq!(home.run(&[&["check"], &args[..]].concat()).exit, 2, "{args:?}");
    }
}

#[test]
fn damage_ends_with_30_and_is_named() {
    let home = Home::new();
    SmallBackup::default().write(&home.path(UDID));
    home.ok(&["import", UDID]);
    let packs = packs_of(&home);
    for pack in &packs {
        let mut bytes = fs::read(pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(pack, bytes).unwrap();
    }
    let name = packs[0].rsplit('/').next().unwrap();
    for args in [&["check", "--packs"][..], &["check", "--read-data"]] {
        let said = home.run(args);
        assert_eq!(said.exit, 30, "{args:?}: {said:?}");
        assert!(said.stdout.contains(name), "{args:?}: {said:?}");
    }
    let found = home.json(&["check", "--packs"]);
    assert_eq!(found["problems"].as_array().unwrap().len(), packs.len(), "{found}");
    let said = home.run(&["export", "latest", "--to", "out"]);
    assert_eq!(said.exit, 30, "{said:?}");
    assert!(said.stderr.contains("hint: "), "{said:?}");
}

#[test]
fn a_repair_says_what_it_did_and_what_is_left() {
    let home = Home::empty();
    home.ok(&["init", "--no-password", "--parity"]);
    let folder = home.path(UDID);
    SmallBackup::default().write(&folder);
    home.ok(&["import", UDID]);
    for file in files_below(&home.path("repo")) {
        let copy = home.path("copy").join(Path::new(&file).strip_prefix(home.path("repo")).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(file, copy).unwrap();
    }
    let packs = packs_of(&home);
    let damage = || {
        for pack in &packs {
            let mut bytes = fs::read(pack).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(pack, bytes).unwrap();
        }
    };
    damage();
    let said = home.ok(&["repair", "--dry-run"]);
    assert!(said.stdout.contains("2 repairs to be done, no problems left: "), "{said:?}");
    assert_eq!(home.run(&["check", "--packs"]).exit, 30);
    let said = home.ok(&["repair"]);
    assert!(said.stdout.contains("restored from its parity\n2 repairs done, no problems left: "), "{said:?}");
    home.ok(&["check", "--read-data"]);
    home.assert_exact("latest", &folder);

    fs::remove_dir_all(home.path("repo/parity")).unwrap();
    damage();
    let said = home.json(&["repair", "--dry-run"]);
    assert_eq!((&said["dry_run"], said["left"]["affected"].as_array().unwrap().len()), (&json!(true), 1), "{said}");
    let said = home.ok(&["repair", "--from", "copy"]);
    assert!(said.stdout.contains("taken from the other repository"), "{said:?}");
    home.ok(&["check", "--read-data"]);
    home.assert_exact("latest", &folder);

    fs::remove_dir_all(home.path("repo/parity")).unwrap();
    let data = packs.iter().find(|pack| fs::read(pack).unwrap()[9] == 1).unwrap();
    fs::remove_file(data).unwrap();
    let said = home.run(&["repair"]);
    assert_eq!(said.exit, 30, "{said:?}");
    assert!(said.stdout.contains("left:\n") && said.stdout.contains(" has lost "), "{said:?}");
    let said = home.ok(&["repair", "--mark-lost"]);
    assert!(said.stdout.contains("stands in its place, with zeros"), "{said:?}");
    home.ok(&["check", "--read-data"]);
    home.ok(&["export", "latest", "--to", "marked"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_with_130_and_leaves_a_whole_repository() {
    let home = Home::new();
    let folder = home.path(UDID);
    SmallBackup::default().write(&folder);
    // Takes minutes to read, and no room.
    File::create(folder.join("huge")).unwrap().set_len(200 << 30).unwrap();

    let mut child = home.command(&["import", UDID]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert!(said.starts_with("importing "), "{said}");
    thread::sleep(Duration::from_millis(300));
    let pressed = Instant::now();
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(exit_of(child), 130);
    assert!(pressed.elapsed() < Duration::from_secs(10), "{:?}", pressed.elapsed());
    stderr.read_to_string(&mut said).unwrap();
    assert!(said.ends_with("error: interrupted\n"), "{said}");

    assert_eq!(home.json(&["snapshots"]), json!([]));
    home.ok(&["check", "--read-data"]);
    fs::remove_file(folder.join("huge")).unwrap();
    home.ok(&["import", UDID]);
    home.assert_exact("latest", &folder);
    home.ok(&["check", "--read-data"]);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let home = Home::new();
    SmallBackup::default().write(&home.path(UDID));
    home.ok(&["import", UDID]);
    for args in [&["ls", "-R", "latest"][..], &["snapshots"], &["--json", "ls", "latest"], &["completions", "bash"]] {
        let mut child = home.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = child.stderr.take().unwrap();
        assert_eq!(exit_of(child), 0, "{args:?}");
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(said, "", "{args:?}");
    }
}

#[test]
fn a_check_that_nobody_reads_still_ends_as_it_must() {
    let home = Home::new();
    SmallBackup::default().write(&home.path(UDID));
    home.ok(&["import", UDID]);
    let pack = &files_below(&home.path("repo/packs"))[0];
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(pack, bytes).unwrap();
    let unread = |args: &[&str]| {
        let mut child = home.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = child.stderr.take().unwrap();
        let exit = exit_of(child);
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        (exit, said)
    };
    for args in [&["check", "--packs"][..], &["check", "--read-data"], &["--json", "check", "--packs"]] {
        assert_eq!(unread(args), (30, String::new()), "{args:?}");
    }
    // What changes something does so to its end.
    SmallBackup { date: "2024-06-03T12:00:00Z", ..SmallBackup::default() }.write(&home.path("later"));
    assert_eq!(unread(&["-q", "import", "later"]).0, 0);
    assert_eq!(home.json(&["snapshots"]).as_array().unwrap().len(), 2);
}

// ---- JSON --------------------------------------------------------------------------------------------------------------------

#[test]
fn snapshots_in_json_have_these_keys_and_no_others() {
    let home = Home::new();
    SmallBackup::default().write(&home.path(UDID));
    home.ok(&["import", UDID]);
    let mut snapshots = home.json(&["snapshots"]);
    let [id, added, kept] = ["id", "added_bytes", "kept"].map(|key| snapshots[0][key].take());
    assert!(id.as_str().is_some_and(|id| id.len() == 64), "{id}");
    assert!(added.as_u64().is_some_and(|added| added > 0), "{added}");
    assert!(kept.as_str().is_some_and(|kept| kept.ends_with('Z')), "{kept}");
    let bytes: u64 = files_below(&home.path(UDID)).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    let expected = json!([{
        "id": null, "time": "2024-05-03T12:00:00Z", "time_doubtful": false, "kept": null, "udid": UDID, "device_name": "Maria’s iPhone",
        "product_type": "iPhone12,1", "product_version": "17.1", "encrypted": false, "sealed": false,
        "files": 7, "bytes": bytes, "added_bytes": null, "source": "import", "pinned": false,
        "warning_count": 0,
    }]);
    assert_eq!(snapshots, expected);
}

#[test]
fn every_result_has_a_shape_in_json() {
    let home = Home::empty();
    assert_eq!(keys(&home.json(&["init", "--no-password"])), ["id", "path", "recovery_key"]);
    SmallBackup::default().write(&home.path(UDID));
    let imported = home.json(&["import", UDID]);
    assert_eq!(keys(&imported[0]), ["error", "missing", "missing_files", "outcome", "path", "snapshot", "warnings"]);
    assert_eq!(imported[0]["outcome"], "kept");
    assert_eq!(home.json(&["import", UDID])[0]["outcome"], "known");
    assert_eq!(imported[0]["snapshot"], home.json(&["snapshots"])[0]);

    let domains = home.json(&["ls", "latest"]);
    assert_eq!(domains[1], json!({ "domain": "CameraRollDomain", "files": 2, "bytes": 20 }));
    let file = home.json(&["ls", "latest", "HomeDomain:Library/SMS"]);
    let place = blob(Path::new(""), "HomeDomain", "Library/SMS/sms.db");
    assert_eq!(
        file,
        json!([{
            "domain": "HomeDomain", "path": "Library/SMS/sms.db", "kind": "file", "bytes": 8, "place": place,
            "target": null, "mode": null, "modified": "2024-05-03T12:00:00Z",
        }])
    );
    let everything = home.json(&["ls", "-R", "latest"]);
    assert!(everything.as_array().unwrap().contains(&file[0]), "{everything}");

    let exported = home.json(&["export", "latest", "--to", "out"]);
    let of_files = ["bytes", "files", "files_without_time", "missing_files", "path", "problems", "skipped_files"];
    assert_eq!(keys(&exported), [&of_files[..], &["snapshot", "warning_count"]].concat());
    assert_eq!(exported["path"], json!(format!("out/{UDID}")));
    assert_eq!(keys(&home.json(&["check"])), CHECK_KEYS);

    let said = home.run(&["--json", "ls", "nobody"]);
    let error: Value = serde_json::from_str(&said.stderr).unwrap();
    assert_eq!(error["message_type"], "error");
    assert_eq!(error["code"], said.exit);
    assert_eq!(keys(&error), ["code", "hint", "message", "message_type"]);

    write_at(&home.path(UDID).join("Status.plist"), b"garbage");
    let said = home.run(&["--json", "import", UDID]);
    assert_eq!(said.exit, 3);
    let (warnings, summary) = said.stderr.trim_end().rsplit_once('\n').unwrap();
    let summary: Value = serde_json::from_str(summary).unwrap();
    let expected = json!({ "message_type": "summary", "code": 3, "warnings": warnings.lines().count() });
    assert_eq!(summary, expected);
    for line in warnings.lines() {
        let warning: Value = serde_json::from_str(line).unwrap();
        assert_eq!(warning["message_type"], "warning");
        assert!(warning["message"].as_str().unwrap().contains("Status.plist"), "{warning}");
    }
}

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

// ---- names of snapshots ------------------------------------------------------------------------------------------------------

#[test]
fn snapshots_are_named_in_many_ways() {
    let home = two_histories();
    let snapshots = home.json(&["snapshots"]);
    let ids = ids(&snapshots);
    // What an export says is where and of what time the snapshot is.
    let named = |name: &str| {
        let export = home.json(&["export", name, "--to", "out", "--force"]);
        ids.iter().position(|id| export["snapshot"] == *id).unwrap_or_else(|| panic!("{name}: {export}"))
    };
    for (name, at) in [
        (ids[1], 1),
        (&ids[2][..8], 2),
        (&ids[0].to_uppercase()[..12], 0),
        ("latest", 3),
        ("latest~1", 2),
        ("latest~3", 0),
        ("Maria's iPhone", 3),
        ("maria’s iphone~2", 0),
        ("iPad", 1),
        (PAD, 1),
        ("@2024", 1),
        ("@2024-05", 0),
        ("@2025-01-01 12:00", 2),
        ("@2025-01-01T09:00:00Z", 2),
        ("Maria's iPhone@2024", 0),
    ] {
        assert_eq!(named(name), at, "{name}");
    }

    let refused = |name: &str| all(&home.run(&["ls", name]));
    assert_data_eq!(
        refused("latest~4"),
        str![[r#"
error: latest~4: there are only 3 snapshots before [..]
hint: `heirloom snapshots` lists them all
exit 1

"#]]
    );
    assert_data_eq!(
        refused("@2023"),
        str![[r#"
error: @2023: no snapshot is as old as that
hint: `heirloom snapshots` lists them all
exit 1

"#]]
    );
    assert_data_eq!(
        refused("Nobody's iPhone"),
        str![[r#"
error: no snapshot is called Nobody's iPhone
hint: `heirloom snapshots` lists them all
exit 1

"#]]
    );
    assert_data_eq!(
        refused("iPad~1"),
        str![[r#"
error: iPad~1: there is no snapshot before [..]
hint: `heirloom snapshots` lists them all
exit 1

"#]]
    );

    // A second phone of the same name.
    let twin = "00008101-00EE11EE22EE33EE";
    SmallBackup { udid: twin, date: "2024-12-24T18:00:00Z", ..SmallBackup::default() }
        .write(&home.path("twin").join(twin));
    home.ok(&["import", "twin"]);
    assert_data_eq!(
        refused("Maria's iPhone"),
        str![[r#"
error: Maria's iPhone could be any of these:
  [..]  2024-05-03 12:00  Maria’s iPhone (00008030-001A2B3C4D5E6F70)
  [..]  2024-12-24 18:00  Maria’s iPhone (00008101-00EE11EE22EE33EE)
  [..]  2025-01-01 09:00  Maria’s iPhone (00008030-001A2B3C4D5E6F70)
  [..]  2025-01-01 21:00  Maria’s iPhone (00008030-001A2B3C4D5E6F70)
hint: type more of the id, or the UDID instead of the name
exit 1

"#]]
    );
    assert_eq!(home.json(&["snapshots", "--udid", "Maria's iPhone"]).as_array().unwrap().len(), 4);
    assert_eq!(home.json(&["snapshots", "--udid", twin]).as_array().unwrap().len(), 1);
    assert_data_eq!(
        all(&home.run(&["snapshots", "--udid", "Nobody's"])),
        str![[r#"
no snapshots of Nobody's
exit 0

"#]]
    );
}

/// A home with snapshots of a phone and, as the second by time, of a tablet.
fn two_histories() -> Home {
    let home = Home::new();
    for (at, (udid, device_name, date)) in [
        (UDID, "Maria’s iPhone", "2024-05-03T12:00:00Z"),
        (PAD, "iPad", "2024-06-30T08:00:00Z"),
        (UDID, "Maria’s iPhone", "2025-01-01T09:00:00Z"),
        (UDID, "Maria’s iPhone", "2025-01-01T21:00:00Z"),
    ]
    .iter()
    .enumerate()
    {
        let folder = format!("{at}/{udid}");
        SmallBackup { udid, device_name, date, ..SmallBackup::default() }.write(&home.path(&folder));
        home.ok(&["import", &folder]);
    }
    home
}

fn ids(snapshots: &Value) -> Vec<&str> {
    snapshots.as_array().unwrap().iter().map(|snapshot| snapshot["id"].as_str().unwrap()).collect()
}

// ---- forgetting --------------------------------------------------------------------------------------------------------------

#[test]
fn what_is_forgotten_by_rules_is_told_with_reasons_and_comes_back() {
    let home = two_histories();
    let before = home.json(&["snapshots"]);
    let dry_run = ["forget", "--keep-daily", "1", "--keep-within", "6h", "--dry-run"];
    assert_data_eq!(
        all(&home.run(&dry_run)),
        str![[r#"
Maria’s iPhone (00008030-001A2B3C4D5E6F70)
ID        TIME                       REASON
[..]  2024-05-03 12:00  removed  no rule keeps it
[..]  2025-01-01 09:00  removed  no rule keeps it
[..]  2025-01-01 21:00  kept     daily 2025-01-01, within 6h

iPad (00008101-00AA11BB22CC33DD)
ID        TIME                    REASON
[..]  2024-06-30 08:00  kept  daily 2024-06-30, within 6h

2 snapshots would be forgotten
a prune would free [..]
exit 0

"#]]
    );
    let planned = home.json(&dry_run);
    assert_eq!(keys(&planned), ["dry_run", "kept", "pruned", "removed", "would_free_bytes"]);
    assert_eq!(planned["removed"], json!([before[0], before[2]]));
    assert_eq!(planned["kept"][1]["reasons"], json!(["daily 2025-01-01", "within 6h"]));
    assert_eq!(planned["kept"][1]["id"], before[3]["id"]);
    assert_eq!(home.json(&["snapshots"]), before, "a dry run does nothing");
    assert_eq!(home.ok(&["snapshots", "--trash"]).stderr, "the trash is empty\n");
    home.run(&["undelete", "latest"]).assert_failed(1, &["the trash is empty"]);

    let forgotten = home.json(&["forget", "--keep-daily", "1", "--udid", "Maria's iPhone"]);
    assert_eq!((forgotten["dry_run"].clone(), ids(&forgotten["removed"])), (json!(false), ids(&planned["removed"])));
    assert_eq!(ids(&forgotten["kept"]), [ids(&before)[3]]);
    assert_eq!(home.json(&["snapshots"]), json!([before[1], before[3]]));
    assert_eq!(home.json(&["snapshots", "--trash"]), forgotten["removed"]);
    assert_eq!(home.json(&["undelete"]), forgotten["removed"]);
    home.run(&["ls", ids(&before)[0]]).assert_failed(1, &["no snapshot is called"]);
    home.run(&["undelete", ids(&before)[1]]).assert_failed(1, &["no snapshot is called", "snapshots --trash"]);
    assert_eq!(home.ok(&["forget", "--keep-daily", "1"]).stdout.lines().last(), Some("nothing to forget"));
    home.run(&["forget", "--keep-last", "1", "--udid", "nobody"]).assert_failed(1, &["nobody"]);

    let first = &ids(&before)[0][..8];
    assert_eq!(
        home.ok(&["undelete", first]).stdout,
        format!("undeleted Maria’s iPhone of 2024-05-03 12:00 ({first})\n")
    );
    assert_eq!(home.json(&["undelete", "Maria's iPhone", "latest"]), json!([before[2]]), "each once");
    assert_eq!(home.json(&["snapshots"]), before);
    home.ok(&["check", "--read-data"]);
}

#[test]
fn dry_runs_and_runs_have_the_same_keys_in_json() {
    let home = two_histories();
    home.ok(&["--repo", "second", "init", "--no-password"]);
    let commands = [
        &["copy", "--to", "second", "latest"][..],
        &["prune"],
        &["forget", "latest"],
        &["forget", "--keep-last", "1", "--prune"],
        &["prune", "--max-unused", "0"],
        &["repair"],
    ];
    for verb in VERBS.iter().filter(|verb| home.ok(&[verb, "--help"]).stdout.contains("--dry-run\n")) {
        assert!(commands.iter().any(|args| args[0] == *verb), "{verb} is not asked");
    }
    for args in commands {
        let planned = home.json(&[args, &["--dry-run"]].concat());
        let done = home.json(args);
        let row = |value: &Value| if value.is_array() { value[0].clone() } else { value.clone() };
        let (planned, done) = (row(&planned), row(&done));
        assert_eq!(keys(&planned), keys(&done), "{args:?}");
        if args.contains(&"--prune") {
            let pruned = &done["pruned"];
            assert!(planned["pruned"].is_null() && pruned["deleted_packs"].as_u64() > Some(0), "{done}");
            assert_eq!(keys(pruned), keys(&home.json(&["prune"])));
        }
        if planned["dry_run"].is_boolean() {
            assert_eq!((&planned["dry_run"], &done["dry_run"]), (&json!(true), &json!(false)), "{args:?}");
        }
    }
}

#[test]
fn snapshots_are_forgotten_by_name_all_or_none() {
    let home = two_histories();
    let before = home.json(&["snapshots"]);
    let ids = ids(&before);
    home.run(&["forget", ids[0], "nobody"]).assert_failed(1, &["nobody"]);
    home.ok(&["pin", "iPad"]);
    home.run(&["forget", ids[0], ids[1]]).assert_failed(1, &[ids[1], &format!("heirloom unpin {}", &ids[1][..8])]);
    home.run(&["forget", ids[1], "--dry-run"]).assert_failed(1, &["is pinned"]);
    home.ok(&["unpin", "iPad"]);
    assert_eq!(home.json(&["snapshots"]), before, "nothing is forgotten beside what cannot be");
    assert_data_eq!(
        all(&home.run(&["forget", "latest~1", "@2024-05", ids[0]])),
        str![[r#"
Maria’s iPhone (00008030-001A2B3C4D5E6F70)
ID        TIME                       REASON
[..]  2024-05-03 12:00  removed  named
[..]  2025-01-01 09:00  removed  named

forgot 2 snapshots
a prune would free [..]
undo: heirloom undelete [..] [..], until the next prune
exit 0

"#]]
    );
    assert_eq!(home.json(&["snapshots"]), json!([before[1], before[3]]));
    // What is forgotten is not kept: the same backup makes a snapshot again.
    assert_eq!(home.json(&["import", "0"])[0]["outcome"], "kept");
}

#[test]
fn pinned_snapshots_are_marked_and_stay() {
    let home = two_histories();
    let before = home.json(&["snapshots"]);
    let ids = ids(&before);
    let first = &ids[0][..8];
    let title = format!("Maria’s iPhone of 2024-05-03 12:00 ({first})");
    assert_eq!(home.ok(&["pin", first]).stdout, format!("pinned {title}\n"));
    assert_eq!(home.ok(&["pin", ids[0], first]).stderr, format!("{title} is pinned already\n"));
    assert!(home.ok(&["snapshots"]).stdout.lines().nth(1).unwrap().ends_with("  import  pinned"));
    let of = |snapshots: Value| -> Vec<bool> {
        snapshots.as_array().unwrap().iter().map(|snapshot| snapshot["pinned"].as_bool().unwrap()).collect()
    };
    assert_eq!(of(home.json(&["snapshots"])), [true, false, false, false]);
    assert_eq!(home.json(&["import", "0"])[0]["snapshot"]["pinned"], true);

    let forgotten = home.json(&["forget", "--keep-last", "1"]);
    assert_eq!(forgotten["kept"][0]["reasons"], json!(["pinned"]));
    assert_eq!(of(home.json(&["snapshots"])), [true, false, false]);
    assert_eq!(home.json(&["unpin", first])[0], before[0]);
    assert_eq!(home.ok(&["unpin", first]).stderr, format!("{title} is not pinned\n"));
    assert_eq!(home.json(&["forget", "--keep-last", "1"])["removed"], json!([before[0]]));
}

#[test]
fn what_is_whose_is_told() {
    let home = two_histories();
    assert_data_eq!(
        all(&home.ok(&["stats"])),
        str![[r#"
4 snapshots of 2 devices: 86 KB of files
needed for them: about [..] KB of packs, [..] times less
a prune can free: about [..] at most

ON DISK     FILES [..] SIZE
data packs      4 [..] KB
tree packs      4 [..] KB
index           4 [..] KB
parity          0 [..] B
other          12 [..] KB
all            24 [..] KB

DEVICE          UDID                       SNAPSHOTS  NEWEST    ALL [..] UNIQUE
Maria’s iPhone  00008030-001A2B3C4D5E6F70          3   21 KB  64 KB [..]B
iPad            00008101-00AA11BB22CC33DD          1   21 KB  21 KB [..]B

DEVICE          MONTH    SNAPSHOTS   ADDED
Maria’s iPhone  2024-05          1 [..] KB
Maria’s iPhone  2025-01          2 [..] KB
iPad            2024-06          1 [..] KB

ID        TIME              DEVICE           SIZE   ADDED [..]UNIQUE
[..]  2024-05-03 12:00  Maria’s iPhone  21 KB [..]B
[..]  2024-06-30 08:00  iPad            21 KB [..]B
[..]  2025-01-01 09:00  Maria’s iPhone  21 KB [..]B
[..]  2025-01-01 21:00  Maria’s iPhone  21 KB [..]B
exit 0

"#]]
    );
    assert_data_eq!(
        all(&home.ok(&["stats", "latest", "iPad"])),
        str![[r#"
ID        TIME              DEVICE           SIZE   ADDED [..]UNIQUE
[..]  2024-06-30 08:00  iPad            21 KB [..]B
[..]  2025-01-01 21:00  Maria’s iPhone  21 KB [..]B
exit 0

"#]]
    );
    let stats = home.json(&["stats"]);
    assert_eq!(keys(&stats), ["devices", "repository", "snapshots"]);
    let repository = &stats["repository"];
    assert_eq!(keys(repository), ["bytes", "disk", "needed_bytes", "snapshots", "unneeded_bytes"]);
    assert_eq!(keys(&repository["disk"]), ["data_packs", "index", "other", "parity", "tree_packs"]);
    let on_disk: u64 =
        repository["disk"].as_object().unwrap().values().map(|part| part["bytes"].as_u64().unwrap()).sum();
    let files = files_below(&home.path("repo"));
    assert_eq!(on_disk, files.iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>());

    let snapshots = home.json(&["snapshots"]);
    for (of, snapshot) in stats["snapshots"].as_array().unwrap().iter().zip(snapshots.as_array().unwrap()) {
        assert!(of["unique_bytes"].is_u64());
        for (key, value) in snapshot.as_object().unwrap() {
            assert_eq!(of[key], *value, "{key}");
        }
    }
    let devices = &stats["devices"];
    assert_eq!(
        keys(&devices[0]),
        ["bytes", "device_name", "growth", "newest_bytes", "snapshots", "udid", "unique_bytes"]
    );
    assert_eq!((&devices[0]["udid"], &devices[0]["snapshots"]), (&json!(UDID), &json!(3)));
    let growth = devices[0]["growth"].as_array().unwrap();
    let months: Vec<&Value> = growth.iter().map(|of| &of["month"]).collect();
    assert_eq!(months, ["2024-05", "2025-01"]);
    let added = |of: &Value| of["added_bytes"].as_u64().unwrap();
    assert_eq!(growth[1]["snapshots"], 2);
    assert_eq!(added(&growth[1]), added(&snapshots[2]) + added(&snapshots[3]));

    let one = home.json(&["stats", "--udid", PAD]);
    assert_eq!((&one["repository"], ids(&one["snapshots"])), (repository, vec![ids(&snapshots)[1]]));
    assert_eq!(one["devices"], json!([devices[1]]));
    home.run(&["stats", "--udid", "nobody"]).assert_failed(FAILED, &["no snapshots of nobody"]);
    home.run(&["stats", "nobody"]).assert_failed(FAILED, &["no snapshot is called nobody"]);
    home.run(&["stats", "latest", "--udid", PAD]).assert_failed(2, &["cannot be used with"]);
}

#[test]
fn a_snapshot_that_cannot_be_read_is_left_where_it_is() {
    let home = two_histories();
    let newest = home.json(&["snapshots"])[3]["id"].as_str().unwrap().to_owned();
    let file = home.path("repo/snapshots").join(&newest);
    fs::write(&file, b"broken").unwrap();
    fs::remove_dir_all(home.path("cache")).unwrap();
    let said = home.run(&["--json", "forget", "--keep-last", "1"]);
    assert!(said.exit == 30 && said.stderr.contains(&newest), "{said:?}");
    let forgotten: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(forgotten["kept"][1]["time"], "2025-01-01T09:00:00Z", "it counts for nothing");
    assert_eq!(fs::read(&file).unwrap(), b"broken");
}

/// Packs of data, and of trees.
fn packs_of(home: &Home) -> Vec<String> {
    ["repo/packs", "repo/trees"].iter().flat_map(|folder| files_below(&home.path(folder))).collect()
}

fn files_below(dir: &Path) -> Vec<String> {
    folder_at(dir)
        .iter()
        .filter(|(_, thing)| matches!(thing, Thing::File(_)))
        .map(|(path, _)| dir.join(path).to_str().unwrap().to_owned())
        .collect()
}
