//! `backup`: a phone streams its backup into a new snapshot; there is no copy of it anywhere else.
//!
//! The phone finds the newest snapshot as the folder of its last backup and sends what has changed since. Nothing is
//! committed until it says that it is done and its Status.plist agrees; a run that is cut off is parked, and harms no
//! snapshot.

use std::{collections::BTreeSet, time::SystemTime};

use heirloom_device::{
    Error as DeviceError,
    backup::{Error as BackupError, Info, ManifestPlist, Status},
    mobilebackup2::{BackupRequest, BackupSession, Meaning, Summary as Transferred},
    mux::{DeviceEntry, Mux},
};
use heirloom_store::{Details, Name, Outcome, Problem, Repository, Snapshot, Source, WriteStats};
use serde::Serialize;

use crate::{
    access,
    args::{Backup, Global},
    decrypt,
    failure::{Exit, Failure, Result, of_repository},
    host_folder::HostFolder,
    identity, info_plist, interrupt, manifest,
    missing::Missing,
    naming::OpenedManifest,
    operation::Operation,
    phone::{self, Phone},
    report::{Report, count, files, local_time, of_many, printable, size},
    snapshots::{Row as SnapshotRow, device_name, kept_line, taken_at},
    unlocking::{self, Chosen, Encrypting, Locked, Opening, Passwords, Unlocked},
    warnings::Warnings,
};

pub fn run(args: &Backup, global: &Global, report: &Report) -> Result<Exit> {
    let mux = phone::muxer()?;
    let phones = phone::choose(&mux, &args.udid)?;
    let repository = access::open(global, report)?;
    interrupt::catch();
    let passwords = unlocking::Options {
        plain_is_fine: args.plain_is_fine,
        remember: args.remember_password,
        as_ciphertext: args.as_ciphertext,
    };
    let options = Options { full: args.full, force: args.force, passwords };
    let mut summary = Summary::default();
    for found in phones {
        let title = found.title();
        report.note(format_args!("backing up {title}"));
        let taken = back_up(&repository, &mux, &found.device, options, report);
        let is_final = taken.as_ref().is_err_and(Failure::is_final);
        summary.add(found.device.udid, &title, taken, report)?;
        if is_final {
            break;
        }
    }
    summary.finish(report)
}

/// A phone's backup that is in the repository now.
pub struct Taken {
    pub snapshot: Snapshot,
    pub stats: WriteStats,
    pub transferred: Transferred,
    pub warnings: u64,
    /// What is wrong with the repository, as far as it was noticed.
    pub damage: Vec<Problem>,
}

/// How to back up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Have the phone send everything.
    pub full: bool,
    /// Make a snapshot even of a phone that has nothing new.
    pub force: bool,
    /// What becomes of the password of a phone that encrypts.
    pub passwords: unlocking::Options,
}

/// Backs up one phone into a new snapshot.
pub fn back_up(
    repository: &Repository,
    mux: &dyn Mux,
    device: &DeviceEntry,
    Options { full, force, passwords }: Options,
    report: &Report,
) -> Result<Taken> {
    let mut phone = Phone::connect(mux, device)?;
    let (series, name) = (phone.series(), phone.name());
    let newest = newest_of(repository, &series, report)?;
    let passwords = Passwords::new(repository, passwords, report);
    let manifest = match newest.as_ref().filter(|newest| newest.record.encrypted) {
        Some(encrypted) => Some((manifest::plist_of(repository, encrypted)?, local_time(taken_at(encrypted)))),
        None => None,
    };
    let newest_manifest = manifest.as_ref().map(|(manifest, date)| (manifest, date.as_str()));
    let encrypting = Encrypting { series: &series, name: &name, newest: newest_manifest, is_full: full };
    let password = if phone.is_encrypting()? { passwords.for_backup(encrypting)? } else { None };
    let info_plist = info_plist::make(&mut phone, report)?;
    let base = newest.filter(|newest| is_base(newest, report));
    let mut run = Run { repository, base, force, password, passwords: &passwords, info_plist: &info_plist, report };
    let mut attempted = run.attempt(&mut phone, if full { Begin::WithAll } else { Begin::WithChanges });
    if matches!(attempted, Err(Cut { has_begun_anew: true, .. })) {
        run.password = Some(passwords.after_change(encrypting)?);
        attempted = run.attempt(&mut Phone::connect(mux, device)?, Begin::WithAll);
    }
    match attempted {
        // A phone that makes nothing of what it left here can always begin anew.
        Err(Cut { is_disorder: true, failure, .. }) if !full || run.base.is_some() => {
            report.warn(format_args!("{}: trying a full backup", failure.message));
            run.attempt(&mut Phone::connect(mux, device)?, Begin::Anew).map_err(|cut| cut.failure)
        }
        attempted => attempted.map_err(|cut| cut.failure),
    }
}

/// The snapshot that the phone goes on from, if it can.
fn newest_of(repository: &Repository, series: &str, report: &Report) -> Result<Option<Snapshot>> {
    let list = repository.snapshots()?;
    list.problems.iter().for_each(|problem| report.warn(problem));
    Ok(list.base_of(series).cloned())
}

/// Whether a phone can go on from a snapshot.
fn is_base(newest: &Snapshot, report: &Report) -> bool {
    let record = &newest.record;
    if record.lost_files > 0 {
        report.note("the newest snapshot has lost files: the phone sends everything");
        return false;
    }
    if record.source == Source::Import && record.warning_count > 0 {
        report.note("the newest snapshot was imported incomplete: the phone sends everything");
        return false;
    }
    true
}

/// What a phone finds, and what it is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// Its newest snapshot; what has changed since.
    WithChanges,
    /// Its newest snapshot; everything.
    WithAll,
    /// Nothing; everything.
    Anew,
}

/// What all attempts to back up one phone share.
struct Run<'r> {
    repository: &'r Repository,
    base: Option<Snapshot>,
    force: bool,
    /// Opens what the phone encrypts; none keeps it as ciphertext.
    password: Option<Chosen>,
    passwords: &'r Passwords<'r>,
    info_plist: &'r [u8],
    report: &'r Report,
}

/// An attempt that was cut off.
struct Cut {
    failure: Failure,
    /// Whether the phone found the folder in disorder.
    is_disorder: bool,
    /// Whether the phone was stopped because it began anew, which it does after a change of its backup password.
    has_begun_anew: bool,
}

impl From<Failure> for Cut {
    fn from(failure: Failure) -> Cut {
        Cut { failure, is_disorder: false, has_begun_anew: false }
    }
}

impl From<DeviceError> for Cut {
    fn from(error: DeviceError) -> Cut {
        let is_disorder = matches!(
            &error,
            DeviceError::MobileBackup(refusal)
                if matches!(refusal.meaning(), Meaning::FolderInDisorder | Meaning::BackupUnreadable)
        );
        Cut { failure: error.into(), is_disorder, has_begun_anew: false }
    }
}

impl From<heirloom_store::Error> for Cut {
    fn from(error: heirloom_store::Error) -> Cut {
        Failure::from(error).into()
    }
}

impl<'r> Run<'r> {
    fn attempt(&self, phone: &mut Phone, begin: Begin) -> Result<Taken, Cut> {
        let warnings = Warnings::new(self.report);
        let mut folder = self.folder(phone, begin)?;
        if begin == Begin::WithChanges && self.password.as_ref().is_some_and(|password| password.is_proven) {
            folder.stop_beginning_anew();
        }
        match self.transfer(phone, &mut folder, begin != Begin::WithChanges, &warnings) {
            Ok((transferred, lost)) => {
                // A phone that could not go on from its newest snapshot needs another.
                let base = self.base.as_ref().filter(|_| begin != Begin::Anew);
                Ok(self.commit(phone, folder, base, transferred, &lost, warnings)?)
            }
            Err(cut) => {
                // After a failure of the store it cannot keep more, and after disorder the same folder is of no use.
                if folder.can_be_parked() && !cut.is_disorder && cut.failure.exit != Exit::Damage {
                    self.park(folder);
                }
                Err(cut)
            }
        }
    }

    /// The folder that the phone finds.
    fn folder(&self, phone: &mut Phone, begin: Begin) -> Result<HostFolder<'r>> {
        let series = phone.series();
        let parked = if begin == Begin::WithChanges { self.repository.parked(&series)? } else { None };
        let editor = match (&parked, self.base.as_ref().filter(|_| begin != Begin::Anew)) {
            (Some(parked), _) => {
                self.report.note(format_args!(
                    "an earlier backup was cut off: {} of it are here already",
                    size(parked.record.bytes.saturating_sub(self.base.as_ref().map_or(0, |base| base.record.bytes)))
                ));
                self.repository.resume(parked)?
            }
            (None, Some(base)) => match self.repository.edit(&series, Some(base)) {
                Err(error) if error.is_damage() || error.is_newer() => {
                    let what = if error.is_damage() { "is damaged" } else { "cannot be read here" };
                    self.report.warn(format_args!("the newest snapshot {what}: {error}; the phone sends everything"));
                    self.repository.edit(&series, None)?
                }
                edited => edited?,
            },
            (None, None) => self.repository.edit(&series, None)?,
        };
        // A full backup sends again what the newest snapshot holds. What the phone encrypts is another each time.
        let known_bytes = match &self.base {
            Some(base) if begin != Begin::WithChanges && !base.record.encrypted && !phone.is_encrypting()? => {
                base.record.bytes
            }
            _ => 0,
        };
        Ok(HostFolder::new(self.repository, editor, known_bytes, self.password.is_some()))
    }

    /// Has the phone send its backup. Returns also the places of files that it could not read.
    fn transfer(
        &self,
        phone: &mut Phone,
        folder: &mut HostFolder,
        full: bool,
        warnings: &Warnings,
    ) -> Result<(Transferred, BTreeSet<String>), Cut> {
        let udid = phone.udid.clone();
        let mut notifications = phone.notifications()?;
        let mut files = phone.sync_files()?;
        let _staying = phone.stay_in_reach()?;
        let request = BackupRequest { udid: &udid, full, info_plist: self.info_plist };
        let operation = Operation::new("receiving", warnings);
        let transferred = operation.follow(&mut || None, |control| {
            let session = BackupSession::begin(&mut notifications, &mut files, || phone.mobilebackup2(), control)?;
            session.back_up(folder, &request, control)
        });
        let transferred = transferred.map_err(|mut error| {
            if let DeviceError::MobileBackup(refusal) = &mut error {
                refusal.needed_bytes = refusal.needed_bytes.map(|told| folder.room_for(told));
            }
            let cut = Cut::from(error);
            if folder.has_stopped() {
                return Cut { has_begun_anew: true, is_disorder: false, ..cut };
            }
            // What failed here is why the phone gave up.
            match folder.unread() {
                Some(failure) if cut.failure.exit == Exit::PhoneRefused => {
                    Cut { is_disorder: cut.is_disorder && failure.exit == Exit::Damage, failure, ..cut }
                }
                _ => cut,
            }
        })?;
        Ok((transferred, operation.into_lost()))
    }

    /// Makes the folder that the phone has filled a snapshot.
    fn commit(
        &self,
        phone: &Phone,
        mut folder: HostFolder,
        base: Option<&Snapshot>,
        transferred: Transferred,
        lost: &BTreeSet<String>,
        warnings: Warnings,
    ) -> Result<Taken> {
        let mut read = |name| Ok::<_, Failure>(folder.property_list(name)?.unwrap_or_default());
        let unreadable = |error: BackupError| warnings.add(error.to_string());
        let info = Info::parse(&read("Info.plist")?).map_err(unreadable).unwrap_or_default();
        let about = ManifestPlist::parse(&read("Manifest.plist")?).map_err(unreadable).unwrap_or_default();
        let status = Status::parse(&read("Status.plist")?).map_err(unreadable).ok();
        let mut editor = folder.into_editor();
        let damage = editor.problems().to_vec();
        let unlocked = self.unlock(phone, &about, &warnings)?;
        let opened = OpenedManifest::of(&mut editor, unlocked.as_ref())?;
        let mut missing = Missing::default();
        let naming = opened.name_files(editor, about.is_encrypted, &warnings, &mut |name, place, is_there| {
            if place.is_some_and(|place| !is_there && !lost.contains(place.as_str())) {
                missing.add(name);
            }
            Ok(())
        })?;
        missing
            .told(manifest::MANIFEST_DB, "did not come", "did not come")
            .into_iter()
            .for_each(|told| warnings.add(told));
        let (warning_count, recorded) = warnings.finish();
        let date = status.and_then(|status| status.date).or(about.date).unwrap_or_else(SystemTime::now);
        let details = Details {
            encrypted: about.is_encrypted,
            device: identity::device(Some(&phone.udid), &info, &about),
            warnings: recorded,
            warning_count,
            ..Details::new(identity::seconds(date), Source::Device)
        };
        let (snapshot, stats) = match base.filter(|_| !self.force) {
            Some(base) if self.may_stand_for(base, &details, &about)? => {
                naming.commit_if_new(details, base, &is_of_the_backup_itself)?
            }
            _ => naming.commit(details)?,
        };
        Ok(Taken { snapshot, stats, transferred, warnings: warning_count, damage })
    }

    /// Whether `base` could stand for a backup with these details, if its files are the same: it is whole, of the same
    /// device, opens with the same password, and is no ciphertext where plaintext can be kept.
    fn may_stand_for(&self, base: &Snapshot, details: &Details, about: &ManifestPlist) -> Result<bool> {
        let record = &base.record;
        if record.warning_count > 0 || details.warning_count > 0 {
            return Ok(false);
        }
        if (record.encrypted, &record.device) != (details.encrypted, &details.device) {
            return Ok(false);
        }
        if self.password.is_some() && decrypt::is_ciphertext(base) {
            return Ok(false);
        }
        // What the base has lost is kept once more.
        Ok(manifest::plist_of(self.repository, base).is_ok_and(|of_base| of_base.keybag == about.keybag))
    }

    /// Opens the keybag of what has arrived.
    fn unlock(&self, phone: &Phone, about: &ManifestPlist, warnings: &Warnings) -> Result<Option<Unlocked>> {
        let Some(password) = self.password.as_ref().filter(|_| about.is_encrypted) else { return Ok(None) };
        let locked = Locked { series: &phone.series(), title: &phone.name(), manifest: about };
        match self.passwords.open_arrived(locked, password)? {
            Opening::Open(unlocked) => Ok(Some(*unlocked)),
            Opening::NoPassword => Ok(None),
            Opening::NoKeybag(why) => {
                warnings.add(format!("{why}; the backup is kept as the phone encrypted it"));
                Ok(None)
            }
        }
    }

    /// Keeps what has arrived. The run has failed already: that this fails too is a detail.
    fn park(&self, folder: HostFolder) {
        match folder.into_editor().park() {
            Ok(_) => self.report.note("what has arrived is kept, and is not stored again by the next backup"),
            Err(error) => self.report.detail(format_args!("what has arrived could not be kept: {error}")),
        }
    }
}

/// Whether a phone writes it for each backup, whatever is new.
fn is_of_the_backup_itself(name: &Name) -> bool {
    name.domain().is_empty() && ["Info.plist", "Manifest.db", "Manifest.plist", "Status.plist"].contains(&name.path())
}

/// What came of all phones of a run.
#[derive(Default)]
struct Summary {
    exit: Exit,
    rows: Vec<ResultRow>,
    damage: BTreeSet<Problem>,
}

/// A phone in the JSON result: an array of them, in the order of backing up.
#[derive(Serialize)]
struct ResultRow {
    udid: String,
    /// `kept`, `known` (nothing is new since this snapshot) or `failed`.
    outcome: &'static str,
    snapshot: Option<SnapshotRow>,
    received_files: u64,
    received_bytes: u64,
    warnings: u64,
    error: Option<String>,
}

impl Summary {
    fn add(&mut self, udid: String, title: &str, taken: Result<Taken>, report: &Report) -> Result<()> {
        let Taken { snapshot, stats, transferred, warnings, damage } = match taken {
            Ok(taken) => taken,
            Err(failure) => {
                self.fail(udid, failure.about(title), report);
                return Ok(());
            }
        };
        let is_known = stats.outcome == Outcome::Unchanged;
        for problem in damage {
            if self.damage.insert(problem.clone()) {
                report.warn(of_repository("the", &problem));
            }
        }
        if warnings > 0 {
            self.exit = self.exit.max(Exit::Incomplete);
        }
        self.rows.push(ResultRow {
            udid,
            outcome: if is_known { "known" } else { "kept" },
            snapshot: Some(SnapshotRow::of(&snapshot, false)),
            received_files: transferred.received.files,
            received_bytes: transferred.received.bytes,
            warnings,
            error: None,
        });
        if report.json {
            return Ok(());
        }
        let received = transferred.received;
        report.detail(format_args!("{} and {} came from the phone", files(received.files), size(received.bytes)));
        report.line(if is_known { known_line(&snapshot) } else { kept_line(&snapshot) })
    }

    fn fail(&mut self, udid: String, failure: Failure, report: &Report) {
        self.exit = self.exit.max(failure.exit);
        self.rows.push(ResultRow {
            udid,
            outcome: "failed",
            snapshot: None,
            received_files: 0,
            received_bytes: 0,
            warnings: 0,
            error: Some(failure.message.clone()),
        });
        report.error(&failure);
    }

    fn finish(self, report: &Report) -> Result<Exit> {
        let failed = self.rows.iter().filter(|row| row.error.is_some()).count() as u64;
        if report.json {
            report.json(&self.rows)?;
        } else if self.rows.len() > 1 {
            let kept = self.rows.len() as u64 - failed;
            let failed = if failed > 0 { format!(", {} failed", count(failed)) } else { String::new() };
            report.note(format_args!("{} backed up{failed}", of_many(kept, "phone", "phones")));
        }
        Ok(self.exit)
    }
}

/// `nothing new on Maria's iPhone since 2021-01-15 02:38 (1f3a9c2e); --force makes a snapshot all the same`
fn known_line(snapshot: &Snapshot) -> String {
    let (name, time) = (printable(device_name(snapshot)), local_time(taken_at(snapshot)));
    format!("nothing new on {name} since {time} ({}); --force makes a snapshot all the same", snapshot.id.short())
}
