//! Whether each warning that is said in JSON is counted there.

use std::fs;

use serde_json::Value;

use crate::{
    cli::VERBS,
    support::{
        folder::folder_at,
        phone::Attached,
        program::{Home, Said, SmallBackup, UDID, list},
    },
};

/// Verbs that open no repository, and have nothing to warn of.
const WARN_OF_NOTHING: [&str; 5] = ["pair", "doctor", "demo", "completions", "man"];

/// How many warnings were said, which must be how many the last line tells.
#[track_caller]
fn counted(said: &Said) -> u64 {
    let lines =
        said.stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {said:?}")));
    let lines: Vec<Value> = lines.collect();
    let of_type = |wanted: &str| lines.iter().filter(|line| line["message_type"] == wanted).count() as u64;
    let (warnings, summaries) = (of_type("warning"), of_type("summary"));
    assert_eq!(summaries, u64::from(warnings > 0), "{said:?}");
    if let Some(last) = lines.last().filter(|_| warnings > 0) {
        let told = (&last["message_type"], &last["warnings"], &last["code"]);
        assert_eq!(told, (&"summary".into(), &warnings.into(), &said.exit.into()), "{said:?}");
    }
    warnings
}

#[test]
fn every_warning_is_counted_whatever_the_verb() {
    let attached = Attached::paired();
    let home = &attached.home;
    SmallBackup::default().write(&home.path(UDID));
    home.ok(&["import", UDID]);
    home.ok(&["--repo", "second", "init", "--no-password"]);
    fs::create_dir(home.path("Dropbox")).unwrap();
    let slot = fs::read_dir(home.path("repo/keys")).unwrap().next().unwrap().unwrap().path();
    let remembered = home.path(".local/share/heirloom/trust");
    let commands = [
        &["--repo", "Dropbox/phones", "init", "--no-password"][..],
        &["devices"],
        &["backup"],
        &["import", UDID],
        &["snapshots"],
        &["snapshots", "latest"],
        &["snapshots", "--trash"],
        &["stats"],
        &["ls", "latest"],
        &["ls", "-R", "latest"],
        &["ls", "nobody"],
        &["export", UDID, "--to", "out"],
        &["check"],
        &["check", "--read-data"],
        &["copy", "--to", "second", "--dry-run"],
        &["copy", "--to", "second"],
        &["pin", UDID],
        &["unpin", UDID],
        &["forget", UDID, "--dry-run"],
        &["forget", UDID],
        &["undelete"],
        &["undelete", UDID],
        &["prune", "--dry-run"],
        &["prune"],
        &["decrypt"],
        &["key", "list"],
        &["trust"],
        &["encryption", "on"],
        &["repair", "--dry-run"],
        &["repair"],
        &["restore", "latest", "--yes"],
    ];
    for args in commands {
        fs::write(&slot, "damaged").unwrap();
        if args == ["trust"] {
            folder_at(&remembered).keys().for_each(|file| fs::write(remembered.join(file), "damaged").unwrap());
        }
        let variables = [("HEIRLOOM_NEW_BACKUP_PASSWORD", "of the phone")];
        let said = attached.run_with(&variables, &[&["--json"], args].concat());
        assert!(counted(&said) > 0, "{args:?}: {said:?}");
    }
    for verb in VERBS.iter().filter(|verb| !WARN_OF_NOTHING.contains(verb)) {
        assert!(commands.iter().any(|args| args.contains(verb)), "{verb} is not asked");
    }
}

#[test]
fn warnings_of_a_backup_are_in_its_row_and_snapshot() {
    const ODD: u64 = 25;
    let home = Home::new();
    SmallBackup::default().write(&home.path(UDID));
    let database = rusqlite::Connection::open(home.path(UDID).join("Manifest.db")).unwrap();
    (0..ODD).for_each(|at| list(&database, &format!("no id {at}"), "HomeDomain", &format!("file {at}")));
    database.close().unwrap();
    let said = home.run(&["--json", "import", UDID]);
    let rows: Value = serde_json::from_str(&said.stdout).unwrap();
    let warnings = counted(&said);
    assert!(warnings >= ODD, "{said:?}");
    assert_eq!(rows[0]["warnings"], warnings, "{rows}");
    assert_eq!(rows[0]["snapshot"]["warning_count"], warnings, "{rows}");
    for args in [&["snapshots"][..], &["snapshots", "latest"], &["import", UDID]] {
        let rows = home.json(args);
        let row = if args[0] == "import" { &rows[0]["snapshot"] } else { &rows[0] };
        assert_eq!(row["warning_count"], warnings, "{args:?}: {rows}");
    }
    assert_eq!(home.json(&["export", "latest", "--to", "out"])["warning_count"], warnings);
    let told = home.run(&["import", UDID]).stderr;
    assert!(
        told.matches("warning: ").count() == 21 && told.contains("and 5 warnings more"),
        "a person sees fewer: {told}"
    );
}
