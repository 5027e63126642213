//! Backups, restores and password changes that go well.

use std::time::Duration;

use heirloom_device::{
    Error,
    mobilebackup2::{HostDir, HostPath, Meaning},
};
use heirloom_sim::Options;

use crate::{connected::Connected, folder_host_dir::FolderHostDir};

#[test]
fn a_phone_is_backed_up_then_what_changed_then_restored() {
    for password in [None, Some("secret")] {
        let phone = Connected::new(Options { password: password.map(str::to_owned), ..Options::default() });
        assert_eq!(phone.will_encrypt(), password.is_some());
        let folder = tempfile::tempdir().unwrap();
        let mut host = FolderHostDir::new(folder.path());

        let outcome = phone.back_up(&mut host, false);
        let first = outcome.well();
        let traffic = phone.simulator.traffic();
        assert_eq!((first.received.files, first.received.bytes), (traffic.files_sent, traffic.bytes_sent));
        assert_eq!((first.sent.files, first.sent.bytes), (traffic.files_received, traffic.bytes_received));

        phone.simulator.live_one_day().unwrap();
        let second = phone.back_up(&mut host, false).well();
        assert!(second.received.files < first.received.files / 2, "{second:?} after {first:?}");
        // Manifest.db, Manifest.plist, Status.plist twice: a day on which nothing happens sends no more.
        assert_eq!(phone.back_up(&mut host, false).well().received.files, 4);
        assert!(phone.back_up(&mut host, true).well().received.files >= first.received.files);

        if password.is_some() {
            let refused = phone.restore(&mut host, Some("wrong")).result;
            assert!(matches!(&refused, Err(Error::MobileBackup(why)) if why.meaning() == Meaning::WrongPassword));
        }
        phone.restore(&mut host, password).well();
        phone.assert_restored();
        let applications = phone.simulator.media_file("/iTunesRestore/RestoreApplications.plist");
        assert!(applications.is_some_and(|plist| plist.starts_with(b"<?xml")));
        // It comes back from its restart.
        phone.back_up(&mut host, false).well();
        assert_eq!(phone.simulator.complaints(), [""; 0]);
    }
}

#[test]
fn encryption_is_switched_on_changed_and_off_and_each_backup_after_it_is_whole() {
    let phone = Connected::new(Options::default());
    let folder = tempfile::tempdir().unwrap();
    let mut host = FolderHostDir::new(folder.path());
    let full = phone.back_up(&mut host, false).well().received.files;
    for (old, new) in [(None, Some("one")), (Some("one"), Some("two")), (Some("two"), None)] {
        let wrong = phone.change_password(Some("wrong"), new);
        assert!(
            matches!(&wrong, Err(Error::MobileBackup(why)) if why.meaning() == Meaning::WrongPassword),
            "{wrong:?}"
        );
        phone.change_password(old, new).unwrap();
        assert_eq!(phone.will_encrypt(), new.is_some());
        // The keys are others: everything comes again.
        assert_eq!(phone.back_up(&mut host, false).well().received.files, full);
        phone.restore(&mut host, new).well();
        phone.assert_restored();
    }
    assert_eq!(phone.simulator.complaints(), [""; 0]);
}

#[test]
fn the_passcode_is_waited_for_and_told() {
    let passcode = Some(Duration::from_millis(700));
    let phone = Connected::new(Options { passcode, ..Options::default() });
    let folder = tempfile::tempdir().unwrap();
    let outcome = phone.back_up(&mut FolderHostDir::new(folder.path()), false);
    assert_eq!(outcome.prompts, [true, false]);
    outcome.well();
    assert_eq!(phone.simulator.complaints(), [""; 0]);
}

#[test]
fn a_backup_that_lost_a_file_here_is_refused_by_the_phone() {
    let phone = Connected::new(Options::default());
    let folder = tempfile::tempdir().unwrap();
    let mut host = FolderHostDir::new(folder.path());
    phone.back_up(&mut host, false).well();
    let lost = host.list(&HostPath::root()).unwrap().into_iter().find(|entry| entry.name.len() == 2).unwrap();
    host.remove(&HostPath::new(&lost.name).unwrap()).unwrap();
    let refused = phone.restore(&mut host, None).result;
    assert!(
        matches!(&refused, Err(Error::MobileBackup(why)) if why.meaning() == Meaning::BackupUnreadable),
        "{refused:?}"
    );
    assert!(phone.simulator.media_file("/iTunesRestore/RestoreApplications.plist").is_none());
    let refused = phone.back_up(&mut host, false).result;
    assert!(
        matches!(&refused, Err(Error::MobileBackup(why)) if why.meaning() == Meaning::BackupUnreadable),
        "{refused:?}"
    );
    phone.back_up(&mut host, true).well();
    phone.restore(&mut host, None).well();
    phone.assert_restored();
}
