//! The program on a terminal: colours, questions, and tables that fit.

use std::{
    fs::{self, File},
    process::Command,
};

use crate::{
    judge::{Judge, trials},
    support::program::{Home, SmallBackup},
};

const FAILED: i32 = 1;

trials! {
    colours_are_for_terminals_without_no_color: &[Judge::Terminal],
    passwords_are_asked_for: &[Judge::Terminal],
    tables_hold_on_narrow_terminals: &[Judge::Terminal],
}

fn colours_are_for_terminals_without_no_color() {
    let home = Home::empty();
    assert!(!home.run(&["snapshots"]).stderr.contains('\x1b'), "a file is no terminal");
    for words in ["--repo none snapshots", "--nonsense"] {
        let (coloured, _) = on_a_terminal(&home, &[], words, "");
        assert!(coloured.contains("\x1b[1;31m") || coloured.contains("\x1b[1m\x1b[31m"), "{coloured:?}");
        let (plain, _) = on_a_terminal(&home, &[("NO_COLOR", "1")], words, "");
        assert!(plain.contains("error:") && !plain.contains('\x1b'), "{plain:?}");
    }
}

fn passwords_are_asked_for() {
    let home = Home::empty();
    let ask = |words: &str, answers: &str| on_a_terminal(&home, &[("NO_COLOR", "1")], words, answers);
    let (said, exit) = ask("init", "one\nother\n");
    assert!(said.contains("error: the two passwords are not the same"), "{said:?}");
    assert_eq!((exit, home.path("repo").exists()), (FAILED, false));

    let (said, exit) = ask("init", "one\none\nwrong\nskip\n");
    assert_eq!(exit, 0, "{said:?}");
    for words in ["Recovery key.", "Look at the list again.", "skipped"] {
        assert!(said.contains(words), "{words}: {said:?}");
    }
    let (said, exit) = ask("snapshots", "two\none\n");
    assert!(exit == 0 && said.contains("Password of repo: ") && said.contains("that is not the password"), "{said:?}");
    let (said, exit) = ask("snapshots", "two\ntwo\ntwo\n");
    assert!(exit == 12 && said.contains("error: repo: wrong password"), "{said:?}");
}

fn tables_hold_on_narrow_terminals() {
    let home = Home::new();
    let (udid, name) = ("7".repeat(40), "Großmutters altes 携帯電話 aus dem Arbeitszimmer");
    let backup = SmallBackup { udid: &udid, device_name: name, ..SmallBackup::default() };
    backup.write(&home.path(&udid));
    home.ok(&["import", &udid]);
    let id = home.json(&["snapshots"])[0]["id"].as_str().unwrap()[..8].to_owned();
    for columns in ["40", "80"] {
        let variables = [("COLUMNS", columns), ("NO_COLOR", "1")];
        for (words, needed) in [("snapshots", &id), ("stats", &udid), ("forget -n latest", &id), ("ls latest", &id)] {
            let (said, exit) = on_a_terminal(&home, &variables, &format!("--no-progress {words}"), "");
            assert_eq!(exit, 0, "{said}");
            for line in said.lines() {
                let width = unicode_width::UnicodeWidthStr::width(line.trim_end_matches('\r'));
                // Headings and sentences are for the terminal to break.
                let texts = [
                    "needed for them",
                    "a prune can free",
                    "1 snapshot of",
                    "Großmutters altes 携帯電話 aus dem Arbeitszimmer (",
                ];
                let is_text = texts.iter().any(|text| line.starts_with(text));
                assert!(width <= columns.parse().unwrap() || is_text, "{words} at {columns}: {line:?}");
            }
            assert!(words == "ls latest" || said.contains(needed.as_str()), "{words} at {columns}: {said}");
        }
    }
}

/// Returns what a person sees and how it ends, having typed `answers`.
fn on_a_terminal(home: &Home, variables: &[(&str, &str)], words: &str, answers: &str) -> (String, i32) {
    let program = home.command(&[]).get_program().to_str().unwrap().to_owned();
    fs::write(home.path("answers"), answers).unwrap();
    let mut script = Command::new("script");
    script.args(["-qec", &format!("'{program}' {words}"), "/dev/null"]).current_dir(home.path(""));
    script.env_clear().envs(["PATH", "SHELL"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    script.envs([("TERM", "xterm"), ("HEIRLOOM_REPOSITORY", "repo"), ("TZ", "UTC")]);
    script.envs(variables.iter().copied()).stdin(File::open(home.path("answers")).unwrap());
    let output = script.output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap_or(-1))
}
