//! Everything that the simulated phone can do wrong: what comes of it, within what time, and that nothing of it is left
//! in the next backup.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use heirloom_device::{
    Error, PlistError,
    lockdown::Lockdown,
    mobilebackup2::{HostDir, HostPath, Meaning, PathError, Refusal, Timeouts, Warning},
    mux::Mux,
};
use heirloom_sim::{After, Fault, Options, PathIn, Simulator};

use crate::{
    connected::{Connected, LABEL, Outcome, muxer, phone},
    folder_host_dir::FolderHostDir,
};

/// No fault may take longer: the phone gives this computer two seconds to be appalled.
const BOUND: Duration = Duration::from_secs(10);

/// Runs `operation` while `fault` is in force, and sees that it ends in time.
fn under(phone: &mut Connected, fault: &Fault, operation: impl FnOnce(&Connected) -> Outcome) -> Outcome {
    let timeouts = phone.timeouts;
    let second = Duration::from_secs(1);
    match fault {
        Fault::Stall(_) => phone.timeouts = Timeouts { handshake: second, operation: second },
        Fault::Pause(..) => phone.timeouts.handshake = second,
        _ => {}
    }
    phone.simulator.set_fault(Some(fault.clone()));
    let start = Instant::now();
    let outcome = operation(phone);
    assert!(start.elapsed() < BOUND, "{fault:?} took {:?}", start.elapsed());
    phone.simulator.set_fault(None);
    phone.timeouts = timeouts;
    outcome
}

type Verdict = fn(&Outcome) -> bool;

fn refused_as(outcome: &Outcome, meaning: Meaning) -> bool {
    matches!(&outcome.result, Err(Error::MobileBackup(why)) if why.meaning() == meaning)
}

fn is_well(outcome: &Outcome) -> bool {
    outcome.result.is_ok() && outcome.warnings.is_empty()
}

fn is_cut_off(outcome: &Outcome) -> bool {
    matches!(outcome.result, Err(Error::Disconnected))
}

fn is_silent(outcome: &Outcome) -> bool {
    matches!(outcome.result, Err(Error::Timeout))
}

fn is_nonsense(outcome: &Outcome) -> bool {
    matches!(outcome.result, Err(Error::Protocol { .. }))
}

/// Well but for files that the phone could not read, which were kept, or not.
fn lost_files(outcome: &Outcome, were_kept: bool) -> bool {
    let is_loss = |warning: &Warning| matches!(warning, Warning::UnreadableOnPhone { kept, .. } if *kept == were_kept);
    outcome.result.is_ok() && !outcome.warnings.is_empty() && outcome.warnings.iter().all(is_loss)
}

#[test]
fn each_fault_of_a_backup_has_its_error_and_the_next_backup_succeeds() {
    let table: [(Fault, Verdict); 29] = [
        (Fault::Drop(After::Files(0)), is_cut_off),
        (Fault::Drop(After::Files(7)), is_cut_off),
        (Fault::Drop(After::Bytes(1)), is_cut_off),
        (Fault::Drop(After::Bytes(200_000)), is_cut_off),
        (Fault::Stall(After::Files(7)), is_silent),
        (Fault::Stall(After::Bytes(200_000)), is_silent),
        (Fault::Pause(After::Files(7), Duration::from_secs(2)), is_well),
        (Fault::Pause(After::Bytes(200_000), Duration::from_secs(2)), is_well),
        (Fault::GarbageMessageLength, is_nonsense),
        (Fault::GarbageMessage, |outcome| matches!(outcome.result, Err(Error::Plist(PlistError::UnknownEncoding)))),
        (Fault::GarbageNameLength, is_nonsense),
        // A block may be of any length; this one only ends too early.
        (Fault::GarbageBlockLength, is_cut_off),
        (Fault::ZeroBlock, |outcome| lost_files(outcome, true)),
        (Fault::Locked, |outcome| refused_as(outcome, Meaning::Locked)),
        (Fault::NoSpace, |outcome| {
            // The phone lacks 1 GiB beside what was offered.
            let needed = (1u64 << 40) + (1 << 30);
            refused_as(outcome, Meaning::NoSpace)
                && matches!(&outcome.result, Err(Error::MobileBackup(Refusal { needed_bytes: Some(bytes), .. }))
                    if bytes.abs_diff(needed) < 1 << 28)
        }),
        // The notification and the error come over two connections.
        (Fault::Cancel, |outcome| {
            matches!(outcome.result, Err(Error::Cancelled)) || refused_as(outcome, Meaning::Unspecified)
        }),
        (Fault::UnknownMessage, |outcome| {
            outcome.result.is_ok()
                && outcome.warnings == [Warning::UnknownMessage { name: "DLMessageRearrangeFiles".into() }]
        }),
        (Fault::MissingFolder, is_well),
        (Fault::Slashes, is_well),
        (Fault::OddNames, is_well),
        (Fault::Disconnect, is_cut_off),
        (Fault::FileError(7), |outcome| lost_files(outcome, true)),
        (Fault::FileError(1), |outcome| outcome.result.is_ok() && !outcome.warnings.is_empty()),
        (Fault::MissingFile(7), |outcome| lost_files(outcome, false)),
        (Fault::MissingFile(1), |outcome| lost_files(outcome, false)),
        (Fault::ChangedFile(7), is_well),
        (
            Fault::NeverFinished,
            |outcome| matches!(&outcome.result, Err(Error::Unfinished { state: Some(state) }) if state == "moving"),
        ),
        (Fault::Impostor, |outcome| matches!(outcome.result, Err(Error::WrongCertificate))),
        (Fault::ServiceLimit(1), |outcome| matches!(outcome.result, Err(Error::ServiceLimit { .. }))),
    ];
    let mut phone = Connected::new(Options::default());
    let folder = tempfile::tempdir().unwrap();
    let mut host = FolderHostDir::new(folder.path());
    for (fault, is_right) in table {
        let outcome = under(&mut phone, &fault, |phone| phone.back_up(&mut host, true));
        assert!(is_right(&outcome), "{fault:?}: {outcome:?}");
        phone.back_up(&mut host, false).well();
        assert!(
            fs::read_dir(folder.path()).unwrap().all(|entry| entry.unwrap().file_name() != "Snapshot"),
            "{fault:?}"
        );
    }
    phone.restore(&mut host, None).well();
    phone.assert_restored();
    let complaints = phone.simulator.complaints();
    // The phone noticed that its impostor was not spoken to.
    assert!(complaints.iter().all(|complaint| complaint.starts_with("no TLS with lockdownd")), "{complaints:?}");
}

#[test]
fn each_error_of_the_phone_is_told_by_its_meaning() {
    let mut phone = Connected::new(Options::default());
    let folder = tempfile::tempdir().unwrap();
    let mut host = FolderHostDir::new(folder.path());
    phone.back_up(&mut host, false).well();
    for (code, meaning) in [
        (1, Meaning::Unspecified),
        (3, Meaning::SnapshotLeftOver),
        (4, Meaning::FolderInDisorder),
        (11, Meaning::FolderInDisorder),
        (100, Meaning::FolderInDisorder),
        (102, Meaning::RestorePending),
        (104, Meaning::FilesUnreadable),
        (105, Meaning::NoSpace),
        (205, Meaning::BackupUnreadable),
        (207, Meaning::WrongPassword),
        (208, Meaning::Locked),
        (211, Meaning::FindMyOn),
        (212, Meaning::NotSetUp),
        (4711, Meaning::Unknown),
    ] {
        let fault = Fault::FinalError(code, "in the phone's words".into());
        let outcome = under(&mut phone, &fault, |phone| phone.back_up(&mut host, false));
        assert!(refused_as(&outcome, meaning), "{code}: {outcome:?}");
        let told = outcome.result.unwrap_err().to_string();
        assert!(told.contains("in the phone's words") && told.contains(&code.to_string()), "{told}");
    }
    phone.back_up(&mut host, false).well();
    assert_eq!(phone.simulator.complaints(), [""; 0]);
}

#[test]
fn each_fault_of_a_restore_has_its_error_and_the_next_restore_succeeds() {
    let mut phone = Connected::new(Options::default());
    let folder = tempfile::tempdir().unwrap();
    let mut host = FolderHostDir::new(folder.path());
    phone.back_up(&mut host, false).well();
    let table: [(Fault, Verdict); 9] = [
        (Fault::Drop(After::Files(20)), is_cut_off),
        (Fault::Drop(After::Bytes(500_000)), is_cut_off),
        (Fault::Stall(After::Files(20)), is_silent),
        (Fault::Stall(After::Bytes(500_000)), is_silent),
        (Fault::GarbageMessageLength, is_nonsense),
        (Fault::GarbageMessage, |outcome| matches!(outcome.result, Err(Error::Plist(_)))),
        (Fault::Disconnect, is_cut_off),
        (Fault::Locked, |outcome| refused_as(outcome, Meaning::Locked)),
        (Fault::Impostor, |outcome| matches!(outcome.result, Err(Error::WrongCertificate))),
    ];
    for (fault, is_right) in table {
        let outcome = under(&mut phone, &fault, |phone| phone.restore(&mut host, None));
        assert!(is_right(&outcome), "{fault:?}: {outcome:?}");
        if fault != Fault::Impostor && !matches!(fault, Fault::Drop(_) | Fault::Stall(_)) {
            let applications = phone.simulator.media_file("/iTunesRestore/RestoreApplications.plist");
            assert!(applications.is_none(), "{fault:?} left the list of apps behind");
        }
    }
    phone.restore(&mut host, None).well();
    phone.assert_restored();
}

#[test]
fn pairing_goes_on_over_a_new_connection() {
    let simulator = Simulator::start(phone(7), Options::default()).unwrap();
    simulator.set_fault(Some(Fault::PairingLost));
    let mux = muxer(&simulator);
    let device = mux.devices().unwrap().remove(0);
    let record = Lockdown::connect(&mux, &device, LABEL).unwrap().pair("BUID", None, &mut || false).unwrap();
    assert_eq!(simulator.fault(), None);
    Lockdown::connect(&mux, &device, LABEL).unwrap().start_session(&record).unwrap();
}

#[test]
fn restore_bears_what_costs_it_nothing() {
    let mut phone = Connected::new(Options::default());
    let folder = tempfile::tempdir().unwrap();
    let mut host = FolderHostDir::new(folder.path());
    phone.back_up(&mut host, false).well();
    for fault in [Fault::MissingFolder, Fault::TargetFolder, Fault::Pause(After::Bytes(9), Duration::from_secs(2))] {
        under(&mut phone, &fault, |phone| phone.restore(&mut host, None)).well();
        phone.assert_restored();
    }
    let outcome = under(&mut phone, &Fault::ReadOnlyMedia, |phone| phone.restore(&mut host, None));
    assert!(matches!(&outcome.warnings[..], [Warning::NoApplications { .. }]), "{outcome:?}");
    outcome.result.unwrap();
    phone.assert_restored();
    assert_eq!(phone.simulator.complaints(), [""; 0]);
}

#[test]
fn no_path_leads_out_of_the_folder() {
    let mut phone = Connected::new(Options::default());
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join(&phone.record.udid);
    let other = outer.path().join("00008030-000000000000001E");
    for (dir, name) in [(&folder, "Info.plist"), (&other, "Status.plist")] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join(name), "of another").unwrap();
    }
    fs::write(outer.path().join("outside"), "outside").unwrap();
    let mut host = FolderHostDir::new(&folder);
    phone.back_up(&mut host, false).well();
    let udid = phone.record.udid.clone();
    let hostile = [
        "../outside".to_owned(),
        format!("{udid}/../outside"),
        format!("{udid}/Snapshot/../../outside"),
        outer.path().join("outside").to_str().unwrap().to_owned(),
        "00008030-000000000000001E/Status.plist".to_owned(),
        format!("{udid}//Status.plist"),
        format!("/{udid}//Snapshot/"),
        format!("{udid}/./Status.plist"),
        format!("{udid}/a\0b"),
        format!("{udid}/{}", "x".repeat(256)),
        format!("{udid}{}", "/x".repeat(2100)),
        String::new(),
    ];
    for path in hostile {
        for message in PathIn::ALL {
            let fault = Fault::Escape(message, path.clone());
            let outcome = under(&mut phone, &fault, |phone| phone.back_up(&mut host, false));
            let is_right = match message {
                // A path that is not sent, and one that leads astray, harm nobody; what was to be found there is told.
                PathIn::Download | PathIn::Contents => {
                    outcome.result.is_ok()
                        && matches!(&outcome.warnings[..], [Warning::RefusedPath { why, .. }] if is_known(*why))
                }
                // The folder is not what the phone takes it for.
                _ => is_nonsense(&outcome),
            };
            assert!(is_right, "{fault:?}: {outcome:?}");
        }
        phone.back_up(&mut host, false).well();
        let mut names: Vec<_> = fs::read_dir(outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let mut expected = ["outside", "00008030-000000000000001E", udid.as_str()].map(std::ffi::OsString::from);
        expected.sort();
        assert_eq!(names, expected, "{path:?}");
    }
    assert_eq!(fs::read(outer.path().join("outside")).unwrap(), b"outside");
    assert_eq!(fs::read(other.join("Status.plist")).unwrap(), b"of another");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    phone.restore(&mut host, None).well();
    phone.assert_restored();
    assert_eq!(phone.simulator.complaints(), [""; 0]);
}

fn is_known(why: PathError) -> bool {
    use PathError::*;
    matches!(why, OtherFolder | EmptyPart | DotPart | ZeroByte | TooLong)
}

#[test]
fn a_disk_that_fills_up_here_is_told_to_the_phone_and_to_the_caller() {
    let phone = Connected::new(Options::default());
    for files_left in [0, 1, 2, 40] {
        let folder = tempfile::tempdir().unwrap();
        let mut host = FolderHostDir::new(folder.path());
        host.files_left = files_left;
        let outcome = phone.back_up(&mut host, false);
        assert!(
            matches!(&outcome.result, Err(Error::Host(error)) if error.kind() == io::ErrorKind::StorageFull),
            "{files_left}: {outcome:?}"
        );
        assert!(host.stat(&HostPath::new("Status.plist").unwrap()).is_err());
        assert!(files_below(folder.path()) as u64 <= files_left);
        host.files_left = u64::MAX;
        phone.back_up(&mut host, false).well();
        phone.restore(&mut host, None).well();
        phone.assert_restored();
    }
    assert_eq!(phone.simulator.complaints(), [""; 0]);
}

fn files_below(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files_below(&path) } else { 1 }).sum()
}
