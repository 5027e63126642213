//! What every way of failing that a phone has does to a backup: a table.
//!
//! `cargo test phone::faults -- --nocapture` prints it.

use std::{
    fs,
    io::Read,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use heirloom_sim::{After, Fault, Options, PathIn};

use super::{INCOMPLETE, NO_DEVICE, NOT_TRUSTED, REFUSED, WRONG_BACKUP_PASSWORD};
use crate::support::{
    folder::{Folder, Thing},
    phone::{Attached, assert_restored, assert_whole, bytes_at, eventually, files_of, place_of},
    program::{Said, assert_same, exit_of, write_at},
};

const CANARY: &str = "canary/passwd";

/// A fault, and how a backup ends that meets it.
struct Case {
    fault: Fault,
    exit: i32,
    /// Of the error, or of the warnings if the backup is kept all the same.
    words: String,
}

fn case(fault: Fault, exit: i32, words: &str) -> Case {
    Case { fault, exit, words: words.to_owned() }
}

/// A phone that was backed up once, in a home with something in it that must stay.
struct Bench {
    attached: Attached,
    first: Folder,
    around: Folder,
    outside: String,
}

impl Bench {
    fn new() -> Bench {
        let attached = Attached::paired();
        write_at(&attached.home.path(CANARY), b"nobody writes here");
        attached.back_up(&[]);
        let (first, around) = (attached.home.exported("latest"), attached.around());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let outside = format!("heirloom-escape-{}", now.as_nanos());
        Bench { attached, first, around, outside }
    }

    /// Backs up under a fault. Prints a row of the table, and sees that it ended as it should and harmed nothing.
    #[track_caller]
    fn strike(&self, Case { fault, exit, words }: &Case) {
        let before = self.attached.snapshots();
        let complaints = self.attached.phone.complaints().len();
        let said = self.back_up_under(fault);
        self.attached.phone.set_fault(None);
        println!("{} | {} | {}", shown(fault), said.exit, told(&said));
        assert_eq!(said.exit, *exit, "{fault:?}: {said:?}");
        assert!(told(&said).contains(words), "{fault:?}: {words}: {said:?}");
        let is_kept = [0, INCOMPLETE].contains(exit);
        assert_eq!(self.attached.snapshots().len(), before.len() + usize::from(is_kept), "{fault:?}: {said:?}");
        self.assert_nothing_escaped();
        self.attached.assert_released();
        // Whoever is not the phone is turned away, and may not like it.
        let is_impostor = *fault == Fault::Impostor;
        let complaints = self.attached.phone.complaints().split_off(complaints);
        assert!(complaints.iter().all(|complaint| is_impostor && complaint.contains("no TLS")), "{complaints:?}");
    }

    /// The same for each fault, on a day of its own that the phone recovers on.
    #[track_caller]
    fn strike_each(&self, cases: &[Case]) {
        println!("fault | exit | message");
        for case in cases {
            self.attached.phone.live_one_day().unwrap();
            self.strike(case);
            self.recover();
        }
        self.attached.ok(&["check", "--read-data"]);
    }

    fn back_up_under(&self, fault: &Fault) -> Said {
        self.attached.phone.set_fault(Some(fault.clone()));
        let is_silent = matches!(fault, Fault::Stall(_));
        let variables: &[(&str, &str)] = if is_silent { &[("HEIRLOOM_TEST_TIMEOUT_MS", "500")] } else { &[] };
        self.attached.run_with(variables, &["backup"])
    }

    #[track_caller]
    fn assert_nothing_escaped(&self) {
        assert_same(&self.attached.around(), &self.around);
        for above in self.attached.home.path("").ancestors() {
            assert!(!above.join(&self.outside).exists(), "{above:?}");
        }
    }

    /// The next backup is whole, and the first snapshot is as it was.
    #[track_caller]
    fn recover(&self) {
        self.attached.back_up(&[]);
        assert_same(&self.attached.home.exported(&self.attached.snapshots()[0]), &self.first);
    }
}

/// The last error, or else the first warning.
fn told(said: &Said) -> String {
    if !said.error().is_empty() {
        return said.error().to_owned();
    }
    let mut warnings = said.stderr.lines().filter(|line| line.starts_with("warning: "));
    let first = warnings.next().unwrap_or_default().to_owned();
    match warnings.count() {
        0 => first,
        more => format!("{first} (and {more} more)"),
    }
}

fn shown(fault: &Fault) -> String {
    let text = format!("{fault:?}");
    if text.len() > 90 { format!("{}…", text.chars().take(90).collect::<String>()) } else { text }
}

#[test]
fn every_fault_of_a_transfer_is_told_and_the_next_backup_is_whole() {
    let lost = "the connection to the phone was lost";
    Bench::new().strike_each(&[
        case(Fault::Drop(After::Files(0)), NO_DEVICE, lost),
        case(Fault::Drop(After::Files(5)), NO_DEVICE, lost),
        case(Fault::Drop(After::Bytes(1)), NO_DEVICE, lost),
        case(Fault::Drop(After::Bytes(100_000)), NO_DEVICE, lost),
        case(Fault::Stall(After::Files(0)), REFUSED, "did not answer in time"),
        case(Fault::Stall(After::Bytes(100_000)), REFUSED, "did not answer in time"),
        case(Fault::GarbageMessageLength, REFUSED, "a message of 4294967280 bytes"),
        case(Fault::GarbageNameLength, REFUSED, "a path of 4294967295 bytes"),
        case(Fault::GarbageBlockLength, NO_DEVICE, lost),
        case(Fault::GarbageMessage, REFUSED, "cannot be read"),
        case(Fault::ZeroBlock, INCOMPLETE, "ended by an empty block"),
        case(Fault::UnknownMessage, INCOMPLETE, "DLMessageRearrangeFiles"),
        case(Fault::MissingFolder, 0, ""),
        case(Fault::Slashes, 0, ""),
        case(Fault::OddNames, 0, ""),
        case(Fault::OddMuxer, 0, ""),
        case(Fault::Disconnect, NO_DEVICE, lost),
        case(Fault::FileError(3), INCOMPLETE, "could not read it to the end: Input/output error (5)"),
        case(Fault::MissingFile(3), INCOMPLETE, "could not read it: No such file or directory (2)"),
        case(Fault::ChangedFile(3), 0, ""),
        case(Fault::NeverFinished, REFUSED, "Status.plist says moving"),
    ]);
}

#[test]
fn every_refusal_is_told_and_the_next_backup_is_whole() {
    let bench = Bench::new();
    bench.strike_each(&[
        case(Fault::Locked, REFUSED, "the phone is locked"),
        case(Fault::NoSpace, REFUSED, "not enough free space for the backup (error 105"),
        // The phone's error may come before the word that it was cancelled.
        case(Fault::Cancel, REFUSED, "ancelled on the "),
        case(Fault::Impostor, NOT_TRUSTED, "another certificate"),
        case(Fault::ServiceLimit(2), 0, ""),
        case(Fault::ServiceLimit(100), REFUSED, "no free instance"),
    ]);
    bench.attached.phone.live_one_day().unwrap();
    for (code, exit, words) in [
        (1, REFUSED, "The phone's words (MBErrorDomain/1)"),
        (3, REFUSED, "still holds the snapshot"),
        (4, REFUSED, "in disorder"),
        (11, REFUSED, "in disorder"),
        (100, REFUSED, "in disorder"),
        (102, REFUSED, "restore has not been completed"),
        (104, REFUSED, "could not read some of its files"),
        (105, REFUSED, "not enough free space"),
        (205, REFUSED, "incomplete or altered"),
        (207, WRONG_BACKUP_PASSWORD, "password is wrong"),
        (208, REFUSED, "locked, or its passcode was not entered"),
        (211, REFUSED, "Find My is on"),
        (212, REFUSED, "has not been set up"),
        (999, REFUSED, "The phone's words (MBErrorDomain/999)"),
    ] {
        let told = format!("The phone's words (MBErrorDomain/{code})");
        bench.strike(&case(Fault::FinalError(code, told), exit, words));
    }
    bench.recover();
}

#[test]
fn no_path_leads_out_of_the_backup() {
    let bench = Bench::new();
    let udid = bench.attached.phone.udid().to_owned();
    let outside = &bench.outside;
    let paths = [
        format!("../{outside}"),
        bench.attached.home.path(CANARY).to_str().unwrap().to_owned(),
        format!("{udid}/../{outside}"),
        format!("{udid}//{outside}"),
        format!("{udid}/{}", "x/".repeat(2500)),
        format!("00008101-0000000000000000/{outside}"),
    ];
    println!("fault | exit | message");
    for message in PathIn::ALL {
        bench.attached.phone.live_one_day().unwrap();
        let is_only_asked = [PathIn::Download, PathIn::Contents].contains(&message);
        for path in &paths {
            let fault = Fault::Escape(message, path.clone());
            let case = match is_only_asked {
                true => case(fault, INCOMPLETE, "a path that was refused"),
                false => case(fault, REFUSED, "path"),
            };
            bench.strike(&case);
        }
        bench.recover();
    }
    bench.attached.ok(&["check", "--read-data"]);
}

#[test]
fn a_phone_that_finds_disorder_is_asked_for_everything_once() {
    for code in [4, 11, 100, 205] {
        let attached = Attached::paired();
        attached.back_up(&[]);
        attached.phone.live_one_day().unwrap();
        let before = attached.phone.traffic();
        attached.phone.set_fault(Some(Fault::FinalError(code, "Disorder".into())));
        let stderr = attached.home.path("tmp/stderr");
        let mut command = attached.command(&["backup"]);
        command.stderr(fs::File::create(&stderr).unwrap());
        let child = command.spawn().unwrap();
        let is_trying = || fs::read_to_string(&stderr).unwrap().contains("trying a full backup");
        assert!(eventually(is_trying), "{code}");
        attached.phone.set_fault(None);
        assert_eq!(exit_of(child), 0, "{code}");
        let sent = attached.phone.traffic().files_sent - before.files_sent;
        assert!(sent > files_of(&attached.phone.phone()).count() as u64, "{sent}");
        assert_whole(&attached.home.exported("latest"), &attached.phone.phone());
        assert_eq!(attached.snapshots().len(), 2);
        attached.assert_left_well();
    }
}

#[test]
fn what_a_phone_could_not_read_is_left_out_or_cut_off_and_the_rest_is_exact() {
    for (fault, is_cut) in [(Fault::MissingFile(4), false), (Fault::FileError(4), true)] {
        let attached = Attached::paired();
        attached.phone.set_fault(Some(fault));
        let said = attached.run(&["backup"]);
        assert_eq!(said.exit, INCOMPLETE, "{said:?}");
        let export = attached.home.exported("latest");
        let (mut whole, mut cut, mut gone) = (0, 0, 0);
        for (location, file) in files_of(&attached.phone.phone()) {
            let mut bytes = Vec::new();
            file.open().unwrap().read_to_end(&mut bytes).unwrap();
            match bytes_at(&export, &place_of(location)) {
                Some(kept) if *kept == bytes => whole += 1,
                Some(kept) if bytes.starts_with(kept) => cut += 1,
                Some(_) => panic!("{location} is another"),
                None => gone += 1,
            }
        }
        assert!(whole > (cut + gone) * 2 && (cut > 0) == is_cut && (cut + gone) > 10, "{whole} {cut} {gone}");
        assert_eq!(
            attached.json(&["snapshots"])[0]["files"],
            export.values().filter(|thing| matches!(thing, Thing::File(_))).count()
        );
        attached.phone.set_fault(None);
        attached.back_up(&[]);
        attached.assert_left_well();
    }
}

/// The apps that Info.plist of the newest snapshot lists, those that can be installed again, and the icons.
fn apps_of(attached: &Attached) -> (usize, usize, usize) {
    let export = attached.home.exported("latest");
    let info: plist::Dictionary = plist::from_bytes(bytes_at(&export, "Info.plist").unwrap()).unwrap();
    let apps = info["Applications"].as_dictionary().unwrap();
    let icons = apps.values().filter(|app| app.as_dictionary().unwrap().contains_key("PlaceholderIcon"));
    (info["Installed Applications"].as_array().unwrap().len(), apps.len(), icons.count())
}

#[test]
fn closed_springboard_costs_icons_alone() {
    let attached = Attached::paired();
    let all = attached.phone.phone().apps().len();
    for icons in [0, 2] {
        attached.phone.set_fault(Some(Fault::SpringboardCloses(icons)));
        attached.back_up(&[]);
        assert_eq!(apps_of(&attached), (all, all, icons as usize));
    }
    attached.assert_left_well();
}

#[test]
fn no_session_waits_while_apps_are_listed() {
    let attached = Attached::paired_with(Options { idle: Duration::from_secs(2), ..Options::default() });
    attached.phone.set_fault(Some(Fault::SlowApps(Duration::from_secs(4))));
    attached.back_up(&[]);
    let all = attached.phone.phone().apps().len();
    assert_eq!(apps_of(&attached), (all, all, all));
    attached.assert_left_well();
}

#[test]
fn lost_session_is_begun_again() {
    let attached = Attached::paired();
    // Apps, icons, their files, notifications, the lock, the backup itself.
    for service in 0..6 {
        attached.phone.set_fault(Some(Fault::SessionLost(service)));
        attached.back_up(&[]);
        assert_eq!(attached.phone.fault(), None, "service {service} was not asked for");
    }
    attached.assert_left_well();
}

#[test]
fn phone_without_a_sync_lock_is_backed_up() {
    let attached = Attached::paired();
    attached.phone.set_fault(Some(Fault::NoSyncLock));
    let said = attached.ok(&["backup"]);
    assert!(said.stderr.contains("goes on unlocked") && !said.stderr.contains("warning"), "{said:?}");
    assert_whole(&attached.home.exported("latest"), &attached.phone.phone());
    attached.ok(&["restore", "latest", "--yes"]);
    assert_restored(&attached.phone.restored().unwrap(), &attached.phone.phone(), true);
    attached.assert_left_well();
}

#[test]
fn backup_without_manifest_db_is_kept_by_places() {
    let attached = Attached::paired();
    attached.phone.set_fault(Some(Fault::NoManifestDb));
    let said = attached.run(&["backup"]);
    assert_eq!(said.exit, INCOMPLETE, "{said:?}");
    assert!(told(&said).contains("Manifest.db is missing"), "{said:?}");
    let export = attached.home.exported("latest");
    assert!(bytes_at(&export, "Manifest.mbdx").is_some() && bytes_at(&export, "Manifest.db").is_none());
    for (location, file) in files_of(&attached.phone.phone()) {
        assert_eq!(bytes_at(&export, &place_of(location)).unwrap().len() as u64, file.size, "{location}");
    }
    attached.assert_left_well();
}

#[test]
fn restore_goes_on_where_nothing_is_lost() {
    let attached = Attached::paired();
    attached.back_up(&[]);
    for (fault, words) in [
        (Fault::ReadOnlyMedia, "apps must be installed by hand"),
        (Fault::WritesInRestore, "the phone wanted to make something in the backup, which stays as it is"),
    ] {
        attached.phone.set_fault(Some(fault));
        let said = attached.run(&["restore", "latest", "--yes"]);
        assert_eq!(said.exit, INCOMPLETE, "{said:?}");
        let mut warnings = said.stderr.lines().filter(|line| line.starts_with("warning: "));
        assert!(warnings.any(|line| line.contains(words)), "{said:?}");
        assert_restored(&attached.phone.restored().unwrap(), &attached.phone.phone(), true);
        assert!(eventually(|| attached.run(&["devices"]).exit == 0));
    }
    attached.ok(&["check", "--read-data"]);
    attached.assert_left_well();
}
