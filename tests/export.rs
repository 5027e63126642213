//! Does an export end well: after it was broken off, into a folder that is not empty, past links, and on a damaged repository?

use std::{
    fs,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use heirloom_store::{
    Details, Error, ExportOptions, ExportStats, MemoryStorage, Options, Progress, Repository, Result, Snapshot, Source,
    export,
};

use crate::support::{
    folder::{Folder, Thing, folder_at, folder_of},
    go_on, noise, place,
};

/// Small files, one that takes several windows, one that is empty, and one that repeats itself.
fn files() -> Folder {
    let mut files: Vec<(String, Vec<u8>, i64)> = (0..300u64)
        .map(|n| {
            (
                format!("{:02x}/{n:040x}", n % 256),
                noise(n, 2000 + 40 * n as usize),
                1_600_000_000_000_000_000 + n as i64,
            )
        })
        .collect();
    files.push(("aa/large".into(), noise(1000, 60 << 20), -5));
    files.push(("aa/repeated".into(), noise(1001, 4 << 20).repeat(3), 7));
    files.push(("Status.plist".into(), Vec::new(), 0));
    folder_of(files)
}

struct Kept {
    repository: Repository,
    storage: Arc<MemoryStorage>,
    snapshot: Snapshot,
    folder: Folder,
}

fn kept() -> Kept {
    let (storage, folder) = (Arc::new(MemoryStorage::default()), files());
    let (repository, _) = Repository::create(storage.clone(), None, &Options::default()).unwrap();
    let mut editor = repository.edit("phone", None).unwrap();
    for (path, thing) in &folder {
        if let Thing::File(file) = thing {
            editor.write_file(&place(path), None, file.mtime_ns, &mut file.bytes.as_slice()).unwrap();
        }
    }
    let (snapshot, _) = editor.commit(Details::new(1_600_000_000, Source::Import)).unwrap();
    Kept { repository, storage, snapshot, folder }
}

impl Kept {
    fn export(&self, target: &Path, force: bool) -> Result<ExportStats> {
        let reader = self.repository.read(&self.snapshot).unwrap();
        export(&reader, target, &ExportOptions { force }, &go_on)
    }

    /// Exports until so many files are written.
    fn break_off(&self, target: &Path, files: u64) {
        let reader = self.repository.read(&self.snapshot).unwrap();
        let stop = |progress: Progress| {
            if progress.files_done >= files { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let error = export(&reader, target, &ExportOptions::default(), &stop).unwrap_err();
        assert!(matches!(error, Error::Interrupted), "{error}");
    }
}

#[test]
fn a_broken_export_goes_on_where_it_was() {
    let (kept, dir) = (kept(), tempfile::tempdir().unwrap());
    let target = dir.path().join("phone");
    kept.break_off(&target, 100);
    // A file that was cut off has a time of its own, and one that was not written at all has none.
    let whole = folder_at(&target);
    assert!(whole.len() < kept.folder.len());
    let stats = kept.export(&target, false).unwrap();
    assert!(stats.skipped_files >= 100, "{stats:?}");
    assert_eq!(stats.files + stats.skipped_files, 303);
    assert_eq!(folder_at(&target), kept.folder);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no marker is left");
    assert!(
        matches!(kept.export(&target, false), Err(Error::TargetExists { .. })),
        "it is complete: a folder like any other"
    );
}

#[test]
fn another_snapshot_does_not_go_on_in_a_broken_export() {
    let (kept, dir) = (kept(), tempfile::tempdir().unwrap());
    let target = dir.path().join("phone");
    kept.break_off(&target, 1);
    let (other, _) =
        kept.repository.edit("phone", Some(&kept.snapshot)).unwrap().commit(Details::new(2, Source::Import)).unwrap();
    let reader = kept.repository.read(&other).unwrap();
    let result = export(&reader, &target, &ExportOptions::default(), &go_on);
    assert!(matches!(result, Err(Error::TargetExists { .. })));
}

#[test]
fn what_is_there_is_only_replaced_by_force_and_links_are_never_followed() {
    let (kept, dir) = (kept(), tempfile::tempdir().unwrap());
    let target = dir.path().join("phone");
    fs::create_dir_all(target.join("aa")).unwrap();
    fs::write(target.join("aa/repeated"), "mine").unwrap();
    fs::write(target.join("diary"), "mine").unwrap();
    assert!(matches!(kept.export(&target, false), Err(Error::TargetExists { .. })));
    assert_eq!(fs::read(target.join("aa/repeated")).unwrap(), b"mine");

    let outside = dir.path().join("outside");
    fs::write(&outside, "mine").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&outside, target.join("Status.plist")).unwrap();
    kept.export(&target, true).unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"mine", "the link was replaced, not followed");
    let mut written = folder_at(&target);
    assert!(written.remove("diary").is_some(), "what the snapshot does not name stays");
    assert_eq!(written, kept.folder);
}

#[test]
fn two_snapshots_are_never_mixed_in_a_folder() {
    let (kept, dir) = (kept(), tempfile::tempdir().unwrap());
    let target = dir.path().join("phone");
    kept.export(&target, false).unwrap();
    let (gone, changed) = (format!("05/{:040x}", 5), format!("06/{:040x}", 6));
    let mut editor = kept.repository.edit("phone", Some(&kept.snapshot)).unwrap();
    editor.remove(&place(&gone));
    editor.write_file(&place(&changed), None, 1, &mut &b"another"[..]).unwrap();
    let (later, _) = editor.commit(Details::new(2, Source::Import)).unwrap();
    let later = Kept { snapshot: later, ..kept };
    let before = folder_at(&target);
    match later.export(&target, true) {
        Err(Error::OtherBackup { files: 1, file, .. }) => assert_eq!(file, gone),
        other => panic!("{other:?}"),
    }
    assert_eq!(folder_at(&target), before, "nothing was written");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no marker is left");

    // Without what would be mixed in, what is left is replaced, also if that is broken off.
    fs::remove_file(target.join(&gone)).unwrap();
    let reader = later.repository.read(&later.snapshot).unwrap();
    let stop = |_: Progress| ControlFlow::Break(());
    let broken = export(&reader, &target, &ExportOptions { force: true }, &stop);
    assert!(matches!(broken, Err(Error::Interrupted)));
    assert!(
        matches!(later.export(&target, false), Err(Error::TargetExists { .. })),
        "old files do not count as written"
    );
    let stats = later.export(&target, true).unwrap();
    assert_eq!(stats.skipped_files, 0);
    let mut expected = later.folder.clone();
    expected.remove(&gone);
    let written = folder_at(&target);
    assert_eq!(written.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(matches!(&written[&changed], Thing::File(file) if file.bytes.as_slice() == b"another"));
}

#[cfg(unix)]
#[test]
fn a_folder_that_leads_elsewhere_is_refused() {
    let (kept, dir) = (kept(), tempfile::tempdir().unwrap());
    let (target, outside) = (dir.path().join("phone"), dir.path().join("outside"));
    fs::create_dir_all(&target).unwrap();
    fs::create_dir_all(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, target.join("aa")).unwrap();
    assert!(matches!(kept.export(&target, true), Err(Error::TargetInTheWay { path, .. }) if path.ends_with("aa")));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_damaged_file_is_named_and_left_out_and_all_others_are_exact() {
    let (kept, dir) = (kept(), tempfile::tempdir().unwrap());
    let target = dir.path().join("phone");
    // The middle of the largest pack holds a part of the large file.
    let pack = kept.storage.files().iter().max_by_key(|(_, bytes)| bytes.len()).map(|(name, _)| name.clone()).unwrap();
    let middle = kept.storage.files()[&pack].len() / 2;
    kept.storage.files().get_mut(&pack).unwrap()[middle] ^= 1;
    let stats = kept.export(&target, false).unwrap();
    assert_eq!(stats.problems.len(), 1, "{:?}", stats.problems);
    let (lost, what) = (&stats.problems[0].file, &stats.problems[0].what);
    assert!(what.contains(&pack) && what.contains("damaged"), "{what}");
    let mut expected = kept.folder.clone();
    assert!(expected.remove(lost).is_some());
    assert_eq!(folder_at(&target), expected);
    // The marker stays, so that the export can go on once the repository is repaired.
    kept.storage.files().get_mut(&pack).unwrap()[middle] ^= 1;
    let stats = kept.export(&target, false).unwrap();
    assert_eq!((stats.files, stats.problems.len()), (1, 0));
    assert_eq!(folder_at(&target), kept.folder);
}

#[test]
fn progress_reaches_its_total() {
    let (kept, dir) = (kept(), tempfile::tempdir().unwrap());
    let bytes = AtomicU64::new(0);
    let reader = kept.repository.read(&kept.snapshot).unwrap();
    let watch = |progress: Progress| {
        assert!(progress.bytes_done >= bytes.swap(progress.bytes_done, Ordering::Relaxed));
        ControlFlow::Continue(())
    };
    export(&reader, &dir.path().join("phone"), &ExportOptions::default(), &watch).unwrap();
    assert_eq!(bytes.into_inner(), kept.snapshot.record.bytes);
}
