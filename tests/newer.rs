//! What each verb does with what only a newer program knows: it says so, never that it is damage, reads all else, and deletes nothing.

use std::{fs, sync::Arc};

use heirloom_store::{FileHash, LocalStorage, Repository, Snapshot, SnapshotId, Unlock, later::Later};

use crate::support::{
    Files,
    program::{Home, Said, SmallBackup, UDID},
    repositories::files_at,
};

const USE_NEWER: &str = "use a newer version of heirloom";

/// A home with a snapshot of this program, `plain`, and something of a later one.
struct Found {
    later: Later,
    home: Home,
    plain: String,
    /// The snapshot that has it in it.
    added: Option<String>,
    files: Files,
}

fn short(id: &SnapshotId) -> String {
    id.to_string()[..12].to_owned()
}

impl Found {
    fn new(later: Later) -> Found {
        let home = Home::new();
        SmallBackup::default().write(&home.path("Backup").join(UDID));
        home.ok(&["import", "Backup"]);
        let storage = Arc::new(LocalStorage::new(&home.path("repo")));
        let repository = Repository::open(storage, Unlock::Open, None).unwrap();
        let plain: Snapshot = repository.snapshots().unwrap().snapshots.remove(0);
        let added = later.add(&repository, &plain).unwrap().map(|id| short(&id));
        let files = Found::files(&home);
        Found { later, home, plain: short(&plain.id), added, files }
    }

    /// What lies in the repository, but for room that is held free, and announcements.
    fn files(home: &Home) -> Files {
        let mut files = files_at(&home.path("repo"));
        files.retain(|name, _| name != "reserve");
        files
    }

    #[track_caller]
    fn assert_untouched(&self) {
        assert!(Found::files(&self.home) == self.files, "{:?}: it was changed", self.later);
    }

    /// Runs a verb, of which nothing may say that there is damage.
    #[track_caller]
    fn run(&self, args: &[&str], exit: i32) -> Said {
        let said = self.home.run(args);
        assert_eq!(said.exit, exit, "{:?}, {args:?}: {said:?}", self.later);
        let text = said.stdout.clone() + &said.stderr;
        assert!(!text.contains("damage"), "{:?}, {args:?}: {said:?}", self.later);
        if exit != 0 {
            assert!(text.contains(self.later.what()), "{:?}, {args:?}: {said:?}", self.later);
        }
        said
    }

    /// Whether the record of the snapshot is not understood, so that it is not listed.
    fn is_record(&self) -> bool {
        matches!(self.later, Later::Needs | Later::Source | Later::RecordVersion | Later::RecordKind)
    }

    fn is_tree(&self) -> bool {
        matches!(self.later, Later::EntryTag | Later::EntryKind | Later::EntryCipher | Later::TreeEncoding)
    }

    fn is_data(&self) -> bool {
        matches!(self.later, Later::DataEncoding | Later::DataKind | Later::PackVersion | Later::PackKind)
    }

    /// The snapshot that has it in it, if that is listed.
    fn listed(&self) -> Option<&str> {
        self.added.as_deref().filter(|_| !self.is_record())
    }
}

fn each(with: impl Fn(Found)) {
    Later::ALL.into_iter().for_each(|later| with(Found::new(later)));
}

#[test]
fn snapshots_lists_all_others() {
    each(|found| {
        let said = found.run(&["snapshots"], if found.is_record() { 3 } else { 0 });
        assert!(said.stdout.contains(&found.plain[..8]), "{said:?}");
        assert_eq!(found.added.as_ref().is_some_and(|id| said.stdout.contains(&id[..8])), found.listed().is_some());
        found.assert_untouched();
    });
}

#[test]
fn check_has_a_class_for_what_is_newer() {
    each(|found| {
        let is_seen = found.later != Later::Forgotten;
        for args in [&["check"][..], &["check", "--read-data"]] {
            let said = found.run(args, if is_seen { 3 } else { 0 });
            assert_eq!(said.stderr.contains(USE_NEWER), is_seen, "{said:?}");
            assert!(said.stdout.contains("no problems"), "{said:?}");
        }
        let json = found.home.json(&["check"]);
        assert_eq!((json["problems"].as_array().unwrap().len(), json["affected"].as_array().unwrap().len()), (0, 0));
        let newer = json["newer"].as_array().unwrap();
        assert!(newer.iter().all(|one| one["what"].as_str().unwrap().contains(found.later.what())), "{newer:?}");
        assert_eq!(newer.is_empty(), !is_seen);
        found.run(&["check", "--packs"], 0);
        found.assert_untouched();
    });
}

#[test]
fn repair_leaves_what_is_newer() {
    each(|found| {
        let exit = if found.later == Later::Forgotten { 0 } else { 3 };
        let said = found.run(&["repair", "--mark-lost"], exit);
        assert!(said.stdout.contains("nothing to mend"), "{said:?}");
        found.assert_untouched();
    });
}

#[test]
fn prune_does_nothing_beside_what_is_newer() {
    each(|found| {
        if found.is_data() {
            // What a snapshot needs stays, whatever is in it.
            found.run(&["prune"], 0);
            found.run(&["check", "--read-data"], 3);
            return;
        }
        found.run(&["prune", "--dry-run"], 1);
        found.run(&["prune"], 1).assert_failed(1, &[found.later.what(), USE_NEWER]);
        found.assert_untouched();
    });
}

#[test]
fn forget_moves_only_what_is_known() {
    each(|found| {
        let exit = if found.is_record() { 3 } else { 0 };
        let said = found.run(&["forget", &found.plain], exit);
        assert_eq!(said.stderr.contains("is not known"), !found.is_data(), "{said:?}");
        let files = Found::files(&found.home);
        let moved = |name: &String| name.starts_with("snapshots/") && name.contains(&found.plain);
        assert!(found.files.iter().all(|(name, bytes)| moved(name) || files.get(name) == Some(bytes)));
    });
}

#[test]
fn what_is_in_a_tree_or_file_is_told_by_readers() {
    each(|found| {
        let Some(added) = found.listed() else { return };
        let exit = if found.is_tree() { 1 } else { 0 };
        found.run(&["ls", added, "--recursive"], exit);
        found.run(&["stats"], exit);
        let said = found.run(&["export", added, "--to", "out"], 3);
        assert!(said.stderr.contains(USE_NEWER), "{said:?}");
        found.run(&["export", &found.plain, "--to", "plain"], 0);
        found.run(&["ls", &found.plain, "--recursive"], 0);
        found.assert_untouched();
    });
}

#[test]
fn copy_copies_all_but_what_is_newer() {
    each(|found| {
        let exit = if found.added.is_some() || found.later == Later::Unindexed { 3 } else { 0 };
        found.home.ok(&["--repo", "other", "init", "--no-password"]);
        found.run(&["copy", "--to", "other"], exit);
        let copied = found.home.json(&["--repo", "other", "snapshots"]);
        assert_eq!(copied.as_array().unwrap().len(), 1, "{:?}", found.later);
        found.home.ok(&["--repo", "other", "check", "--read-data"]);
        found.assert_untouched();
    });
}

#[test]
fn import_goes_on_beside_what_is_newer() {
    each(|found| {
        let next = SmallBackup {
            date: "2024-06-03T12:00:00Z",
            files: &[("HomeDomain", "Library/SMS/sms.db", b"more messages")],
            ..SmallBackup::default()
        };
        next.write(&found.home.path("Next").join(UDID));
        found.run(&["import", "Next"], 0);
        let newest = found.home.exported("latest");
        assert!(!newest.is_empty());
        let files = Found::files(&found.home);
        assert!(found.files.iter().all(|(name, bytes)| files.get(name) == Some(bytes)), "{:?}", found.later);
    });
}

#[test]
fn keys_of_unknown_kinds_are_named() {
    let home = Home::new();
    SmallBackup::default().write(&home.path("Backup").join(UDID));
    home.ok(&["import", "Backup"]);
    for name in fs::read_dir(home.path("repo/keys")).unwrap().map(|slot| slot.unwrap().path()) {
        let text = fs::read_to_string(&name).unwrap();
        let line = text.lines().next().unwrap().replace(r#""kind":"open""#, r#""kind":"token","salt":7"#);
        assert!(line.contains("token"));
        fs::write(&name, format!("{line}\n{}\n", FileHash::of(line.as_bytes()))).unwrap();
    }
    let before = Found::files(&home);
    for args in [&["snapshots"][..], &["ls", "latest"], &["check"], &["import", "Backup"], &["prune"], &["repair"]] {
        // With a password, too, which cannot be right or wrong.
        for variables in [&[][..], &[("HEIRLOOM_PASSWORD", "any")]] {
            home.run_with(variables, args).assert_failed(1, &["a key of another kind", USE_NEWER]);
        }
    }
    home.ok(&["check", "--packs"]);
    assert!(Found::files(&home) == before);
}
