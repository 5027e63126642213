//! `restore`: puts a snapshot onto a phone.

use heirloom_device::{
    backup::ManifestPlist,
    mobilebackup2::{BackupSession, Preset, RestoreRequest, info_plist::restore_applications},
};
use heirloom_store::{Repository, Snapshot, SnapshotList};

use crate::{
    access,
    args::{Global, PresetName, Restore},
    clock,
    failure::{Exit, Failure, Result},
    host_folder::SnapshotHostDir,
    interrupt,
    manifest::{self, MANIFEST_DB},
    missing::Missing,
    operation::Operation,
    password::Password,
    phone::{self, Phone},
    question,
    report::{Report, can_ask, files, local_time, of_many, printable, size},
    snapshot_spec, snapshots,
    unlocking::{Refused, Unlocked},
    warnings::Warnings,
};

/// So often a person is asked for the password of a snapshot.
const TRIES: usize = 3;

pub fn run(args: &Restore, global: &Global, report: &Report) -> Result<Exit> {
    let mux = phone::muxer()?;
    let found = phone::choose_one(&mux, args.udid.as_ref())?;
    let repository = access::open(global, report)?;
    let mut phone = Phone::connect(&mux, &found.device)?;
    let list = snapshots::list(&repository, report)?;
    let series = phone.series();
    let has_own = list.snapshots.iter().any(|snapshot| snapshot.record.series == series);
    let snapshot = match args.udid {
        // A phone that was named and has none of its own takes that of another.
        Some(_) if !has_own => snapshot_spec::find(&args.snapshot, &list.snapshots)?.clone(),
        _ => snapshot_spec::find_own(&args.snapshot, &list.snapshots, &series, &phone.name())?.clone(),
    };
    check_version(&snapshot, &phone)?;
    check_manifest(&repository, &snapshot, &phone)?;
    let concerns = concerns(&repository, &list, &snapshot, &series)?;
    let password = match snapshot.record.encrypted {
        true => Some(password_of(&repository, &snapshot, &manifest::plist_of(&repository, &snapshot)?, report)?),
        false => None,
    };
    concerns.iter().for_each(|concern| report.warn(format_args!("{}: {concern}", snapshots::title(&snapshot))));
    if !args.yes {
        confirm(&snapshot, &phone, args.preset, report)?;
    }
    interrupt::catch();
    let warnings = Warnings::new(report);
    let sent = restore(&repository, &snapshot, &mut phone, args.preset.into(), password.as_deref(), &warnings)?;
    let (warning_count, _) = warnings.finish();
    if report.json {
        report.json(&serde_json::json!({
            "snapshot": snapshot.id.to_string(), "udid": phone.udid, "sent_files": sent.files, "sent_bytes": sent.bytes,
            "warnings": warning_count, "concerns": concerns,
        }))?;
    } else {
        report.line(format_args!(
            "{} has taken {}: {}, {}",
            phone.name(),
            snapshots::title(&snapshot),
            files(sent.files),
            size(sent.bytes)
        ))?;
        report.note("it restarts now and finishes by itself; apps come from the App Store afterwards. Leave it on its cable until it is done");
    }
    Ok(if warning_count > 0 { Exit::Incomplete } else { Exit::Ok })
}

/// Sends the snapshot to the phone, and says what was sent.
pub fn restore(
    repository: &Repository,
    snapshot: &Snapshot,
    phone: &mut Phone,
    preset: Preset,
    password: Option<&str>,
    warnings: &Warnings,
) -> Result<heirloom_device::mobilebackup2::Tally> {
    let mut folder = SnapshotHostDir::new(repository, snapshot)?;
    let applications = match folder.property_list("Info.plist")? {
        Some(info_plist) => restore_applications(&info_plist).unwrap_or_else(|error| {
            warnings.add(format!("Info.plist: {error}; apps must be installed by hand"));
            None
        }),
        None => None,
    };
    let target_udid = phone.udid.clone();
    let mut notifications = phone.notifications()?;
    let mut sync_files = phone.sync_files()?;
    let _staying = phone.stay_in_reach()?;
    let request = RestoreRequest {
        target_udid: &target_udid,
        source_udid: &snapshot.record.series,
        options: preset.into(),
        password,
    };
    let operation = Operation::new("restoring", warnings);
    let transferred = operation.follow(&mut || None, |control| {
        let session = BackupSession::begin(&mut notifications, &mut sync_files, || phone.mobilebackup2(), control)?;
        session.restore(&mut folder, &request, applications.as_deref(), control)
    })?;
    Ok(transferred.sent)
}

impl From<PresetName> for Preset {
    fn from(name: PresetName) -> Preset {
        match name {
            PresetName::Migrate => Preset::Migrate,
            PresetName::Merge => Preset::Merge,
            PresetName::Settings => Preset::Settings,
        }
    }
}

/// A phone refuses a backup of a newer iOS than its own, but only after it has taken much of it.
fn check_version(snapshot: &Snapshot, phone: &Phone) -> Result<()> {
    let of_snapshot = snapshot.record.device.get("product_version").map_or("", String::as_str);
    let of_phone = phone.text("ProductVersion").unwrap_or_default();
    match (version(of_snapshot), version(of_phone)) {
        (Some(source), Some(target)) if source > target => Err(Failure::new(
            Exit::PhoneRefused,
            format!(
                "the snapshot is of iOS {}, but {} runs iOS {}",
                printable(of_snapshot),
                phone.name(),
                printable(of_phone)
            ),
        )
        .hint("update the phone first: Settings > General > Software Update")),
        _ => Ok(()),
    }
}

/// Phones that heirloom speaks to find no file in a backup of iOS 9 or before.
fn check_manifest(repository: &Repository, snapshot: &Snapshot, phone: &Phone) -> Result<()> {
    if !manifest::is_of_ios_9(repository, snapshot)? {
        return Ok(());
    }
    let title = snapshots::title(snapshot);
    let what = format!("{title} is of iOS 9 or earlier, and {} takes backups of iOS 10 and later alone", phone.name());
    let hint = "`heirloom export` gives its folder back, for a phone of that time; nothing was sent to this one";
    Err(Failure::new(Exit::PhoneRefused, what).hint(hint))
}

/// `17.6.1` as numbers, for comparing.
fn version(text: &str) -> Option<[u32; 3]> {
    let mut numbers = [0; 3];
    for (at, part) in text.split('.').enumerate() {
        *numbers.get_mut(at)? = part.parse().ok()?;
    }
    Some(numbers)
}

/// The password of an encrypted snapshot: as given, as remembered of its keybag, or as typed, in the form that opens
/// the snapshot: the phone knows no other. A keybag that cannot be read is the phone's to judge.
fn password_of(
    repository: &Repository,
    snapshot: &Snapshot,
    manifest: &ManifestPlist,
    report: &Report,
) -> Result<String> {
    let title = snapshots::title(snapshot);
    let opening = |password: &str| match Unlocked::new(manifest, password) {
        Ok(unlocked) => Some(unlocked.password().to_owned()),
        Err(Refused::WrongPassword) => None,
        Err(Refused::NoKeybag(_)) => Some(password.to_owned()),
    };
    let given = Password::BACKUP.given()?;
    if let Some(password) = given.as_deref().and_then(opening) {
        return Ok(password);
    }
    let keybag = manifest.keybag.as_deref().unwrap_or_default();
    let remembered = repository.remembered_passwords(&snapshot.record.series)?;
    if let Some(known) = remembered.iter().find(|known| known.is_of(keybag)).filter(|_| given.is_none()) {
        return Ok(opening(&known.password).unwrap_or_else(|| known.password.clone()));
    }
    if !can_ask() {
        return Err(match given {
            Some(_) => wrong_password(&title),
            None => Password::BACKUP.wanted("the snapshot is encrypted by the phone, and its password is needed"),
        });
    }
    if given.is_some() {
        report.warn(format_args!("{title}: the password that is given is not its password"));
    }
    for _ in 0..TRIES {
        let typed = Password::BACKUP.ask(&format!("Backup password of {title}: "))?;
        if let Some(password) = opening(&typed) {
            return Ok(password);
        }
        report.warn(format_args!("{title}: that is not its password"));
    }
    Err(wrong_password(&title))
}

fn wrong_password(title: &str) -> Failure {
    Failure::new(
        Exit::WrongBackupPassword,
        format!("{title}: the backup password is wrong; nothing was sent to the phone"),
    )
    .hint("it is the one that held when the backup was made")
}

/// Lists the concerns about a snapshot before it goes onto a phone: what it lacks, whose it is, and what is newer.
fn concerns(repository: &Repository, list: &SnapshotList, snapshot: &Snapshot, series: &str) -> Result<Vec<String>> {
    let record = &snapshot.record;
    let mut concerns = Vec::new();
    if record.series != series {
        concerns.push(format!("it is of another device: {}", printable(snapshots::device_name(snapshot))));
    }
    if let Some(newer) = list.newest_of(&record.series).filter(|newest| newest.id != snapshot.id) {
        concerns.push(format!(
            "there is a newer one of its device: {} ({})",
            snapshots::title(newer),
            newer.id.short()
        ));
    }
    if record.is_time_doubtful(clock::now()) {
        let (says, kept) = (local_time(record.time), local_time(record.kept_at()));
        concerns.push(format!("its date is doubtful: it says {says}, and was kept {kept}"));
    }
    concerns.extend(Missing::of(&repository.read(snapshot)?)?.told(MANIFEST_DB, "is not in it", "are not in it"));
    if record.lost_files > 0 {
        concerns.push(format!("{} of it are lost or damaged", files(record.lost_files)));
    }
    if record.warning_count > 0 {
        let first = record.warnings.first().map_or(String::new(), |first| format!(", the first: {first}"));
        let count = of_many(record.warning_count, "warning", "warnings");
        concerns.push(format!("it was kept with {count}{first} (`heirloom snapshots {}`)", snapshot.id.short()));
    }
    if record.encrypted && Unlocked::check(&manifest::plist_of(repository, snapshot)?).is_err() {
        concerns.push(
            "it says that it is encrypted, but no password can open it: its keybag is missing or damaged".to_owned(),
        );
    }
    Ok(concerns)
}

fn confirm(snapshot: &Snapshot, phone: &Phone, preset: PresetName, report: &Report) -> Result<()> {
    let record = &snapshot.record;
    let ios = |version: Option<&str>| version.map_or(String::new(), |version| format!(", iOS {}", printable(version)));
    let of_phone = ios(phone.text("ProductVersion"));
    let of_snapshot = ios(record.device.get("product_version").map(String::as_str));
    let consequence = match preset {
        PresetName::Migrate => "Everything on the phone is replaced: what is not in the snapshot is removed from it.",
        PresetName::Merge => {
            "Files of the snapshot replace those on the phone; its settings and what else is on it stay."
        }
        PresetName::Settings => {
            "Files and settings of the snapshot replace those on the phone; what else is on it stays."
        }
    };
    report.note(format_args!("onto   {} ({}{of_phone})", phone.name(), phone.udid));
    report.note(format_args!(
        "from   {} ({}{of_snapshot}): {}, {}",
        snapshots::title(snapshot),
        snapshot.id.short(),
        files(record.files),
        size(record.bytes)
    ));
    report.note(consequence);
    if !can_ask() {
        return Err(Failure::new(Exit::Usage, "a restore must be confirmed, and there is no terminal to ask on")
            .hint("say --yes if that is what you want"));
    }
    let answer = question::line("Type yes to go on: ")?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::failed("not confirmed: nothing was done")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(version("9.3.5") < version("10.0"));
        assert!(version("17.6.1") > version("17.6"));
        assert_eq!(version("17.0"), version("17"));
        assert_eq!((version(""), version("17.x"), version("1.2.3.4")), (None, None, None));
    }
}
