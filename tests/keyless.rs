//! Proof of a repository, or of a copy of it, without its password: by `check --packs` as a person runs it.

use std::fs;

use serde_json::Value;

use super::support::{
    folder::{Thing, copy_folder, folder_at},
    program::{Home, PASSWORD, Said, SmallBackup, UDID},
};

const WITH_PASSWORD: [(&str, &str); 1] = [("HEIRLOOM_PASSWORD", PASSWORD)];
const CHECK_KEYS: [&str; 11] = [
    "affected",
    "bytes_read",
    "chunks",
    "fingerprint",
    "newer",
    "packs",
    "problems",
    "snapshots",
    "unindexed_packs",
    "verified",
    "without_spare",
];

/// A home with a repository that has a password and one snapshot, and a copy of it.
fn home_with_copy() -> Home {
    let home = Home::empty();
    with_password(&home, &["init", "--no-verify"]);
    SmallBackup::default().write(&home.path(UDID));
    with_password(&home, &["import", UDID]);
    copy_folder(&home.path("repo"), &home.path("copy"));
    home
}

fn with_password(home: &Home, args: &[&str]) {
    let said = home.run_with(&WITH_PASSWORD, args);
    assert_eq!(said.exit, 0, "{args:?}: {said:?}");
}

/// Compares the repository at one place with that at another.
fn compare(home: &Home, repo: &str, other: &str) -> Said {
    home.run(&["--repo", repo, "check", "--packs", "--same-as", other])
}

fn checked(home: &Home, repo: &str) -> Value {
    home.json(&["--repo", repo, "check", "--packs"])
}

/// The files below `folder` of the repository, with their paths in it.
fn files(home: &Home, folder: &str) -> Vec<String> {
    let is_file = |thing: &Thing| matches!(thing, Thing::File(_));
    let there = folder_at(&home.path("repo").join(folder));
    there.iter().filter(|(_, thing)| is_file(thing)).map(|(path, _)| format!("{folder}/{path}")).collect()
}

#[test]
fn whole_copy_is_proven_the_same() {
    let home = home_with_copy();
    for (repo, other) in [("copy", "repo"), ("repo", "copy")] {
        let said = compare(&home, repo, other);
        assert!(said.exit == 0 && said.stdout.contains("no problems: "), "{said:?}");
    }
    let (one, other) = (checked(&home, "repo"), checked(&home, "copy"));
    assert_eq!(one.as_object().unwrap().keys().collect::<Vec<_>>(), CHECK_KEYS);
    assert_eq!(one["fingerprint"].as_str().unwrap().len(), 32);
    assert_eq!((&one["fingerprint"], &one["unindexed_packs"]), (&other["fingerprint"], &0.into()));
}

#[test]
fn a_repository_is_no_proof_of_itself() {
    let home = home_with_copy();
    #[cfg(unix)]
    std::os::unix::fs::symlink(home.path("repo"), home.path("link")).unwrap();
    for other in [
        "repo",
        "repo/",
        "./repo/.",
        #[cfg(unix)]
        "link",
    ] {
        compare(&home, "repo", other).assert_failed(2, &["one and the same repository"]);
        home.run(&["repair", "--from", other]).assert_failed(2, &["cannot be repaired from itself"]);
        home.run(&["copy", "--to", other]).assert_failed(2, &["cannot be copied to itself"]);
    }
}

#[test]
fn what_a_copy_lacks_is_named() {
    let home = home_with_copy();
    with_password(&home, &["import", "--force", UDID]);
    let said = compare(&home, "copy", "repo");
    assert_eq!(said.exit, 30, "{said:?}");
    let here = files(&home, "snapshots");
    let new = here.iter().find(|file| !home.path("copy").join(file).exists()).unwrap();
    assert!(
        said.stdout.contains(&format!("{new}: it is missing here, and in the other place it is there")),
        "{said:?}"
    );
    // All of the copy is there.
    assert_eq!(compare(&home, "repo", "copy").exit, 0);
    assert_ne!(checked(&home, "repo")["fingerprint"], checked(&home, "copy")["fingerprint"]);
    let args = ["--repo", "copy", "check", "--packs", "--same-as", "repo"];
    let problems = home.json(&args)["problems"].take();
    assert!(problems.as_array().unwrap().iter().any(|problem| problem["file"] == **new), "{problems}");
}

#[test]
fn other_place_must_hold_the_same_repository() {
    let home = home_with_copy();
    assert_eq!(home.run(&["--repo", "other", "init", "--no-password"]).exit, 0);
    fs::create_dir(home.path("empty")).unwrap();
    let said = compare(&home, "repo", "other");
    assert!(said.exit == 1 && said.error().contains("other"), "{said:?}");
    compare(&home, "repo", "empty").assert_failed(10, &["empty"]);
    let said = home.run(&["check", "--same-as", "copy"]);
    assert!(said.exit == 2 && said.stderr.contains("--packs"), "{said:?}");
}

#[test]
fn packs_that_no_segment_names_are_counted() {
    let home = home_with_copy();
    for file in files(&home, "index") {
        fs::remove_file(home.path("repo").join(file)).unwrap();
    }
    let found = checked(&home, "repo");
    let packs = files(&home, "packs").len() + files(&home, "trees").len();
    assert_eq!((&found["unindexed_packs"], &found["problems"]), (&packs.into(), &Value::Array(Vec::new())));
    let said = home.run(&["check", "--packs"]);
    assert!(said.exit == 0 && said.stderr.contains("named by no segment"), "{said:?}");
    assert_ne!(found["fingerprint"], checked(&home, "copy")["fingerprint"]);
    assert_eq!(compare(&home, "repo", "copy").exit, 30);
}

#[cfg(unix)]
#[test]
fn pack_that_may_not_be_read_is_no_damage() {
    use std::os::unix::fs::PermissionsExt;
    let home = home_with_copy();
    let pack = files(&home, "packs").remove(0);
    fs::set_permissions(home.path("repo").join(&pack), fs::Permissions::from_mode(0o000)).unwrap();
    for (variables, args) in [(&[][..], ["check", "--packs"]), (&WITH_PASSWORD[..], ["check", "--read-data"])] {
        let said = home.run_as_nobody(variables, &args);
        assert_eq!((said.exit, said.stdout.as_str()), (1, ""), "{args:?}: {said:?}");
        assert!(said.error().contains(&pack) && said.error().contains("denied"), "{args:?}: {said:?}");
    }
}
