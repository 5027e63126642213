//! Whose backup a folder holds, and of when, by its own property lists.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use heirloom_device::{
    backup::{ArchiveTime, BackupFolder, Error, Info, ManifestPlist},
    mux::canonical_udid,
};
use jiff::{civil::DateTime, tz::TimeZone};

use crate::{
    backup_folder::nanoseconds,
    failure::{Failure, Result},
    report::local_time,
};

/// What a backup says of itself. Whatever it does not say is absent; what is wrong with it is among the flaws.
#[derive(Debug)]
pub struct Identity {
    /// The folder, absolute and without links.
    pub path: PathBuf,
    pub udid: String,
    /// When it was taken, seconds since 1970.
    pub time: Option<i64>,
    pub is_encrypted: bool,
    /// As in a snapshot's record: `name`, `product_type`, `product_version`, `build_version`, `serial_number`,
    /// `folder`.
    pub device: BTreeMap<String, String>,
    pub flaws: Vec<String>,
    /// Manifest.plist, as far as it can be read.
    pub manifest: ManifestPlist,
}

impl Identity {
    /// Reads the property lists of a backup folder.
    ///
    /// # Errors
    /// If the folder is not there or nothing in it or its name says whose it is.
    pub fn read(folder: &BackupFolder) -> Result<Identity> {
        let path = fs::canonicalize(&folder.path)
            .map_err(|error| Failure::failed(format!("{}: {error}", folder.path.display())))?;
        let mut flaws = Vec::new();
        let mut flaw = |error: Error| flaws.push(flaw_text(&error, &folder.path));
        let info = folder.info().unwrap_or_else(|error| {
            flaw(error);
            Info::default()
        });
        let manifest = folder.manifest_plist().unwrap_or_else(|error| {
            flaw(error);
            ManifestPlist::default()
        });
        let status = folder.status().map_err(flaw).ok();
        if status.as_ref().is_some_and(|status| !status.is_finished()) {
            flaws.push("Status.plist: the phone had not finished this backup".to_owned());
        }
        let udids = [&folder.udid, &info.udid, &manifest.lockdown.unique_device_id].into_iter().flatten();
        let (udids, others): (Vec<&String>, Vec<&String>) = udids.partition(|udid| canonical_udid(udid).is_some());
        // It becomes the name of a series, and of folders.
        flaws.extend(
            others.into_iter().map(|other| format!("{other:?} cannot be the UDID of a device, and is passed over")),
        );
        let Some(udid) = udids.first().map(|udid| usual_case(udid)) else {
            return Err(Failure::failed(format!("{}: it does not say which device it is of", path.display()))
                .hint("give the folder the device's UDID as its name"));
        };
        let date = status.and_then(|status| status.date).or(info.last_backup).or(manifest.date);
        let archived = || folder.archived.and_then(|archived| archived_at(archived, TimeZone::system()));
        Ok(Identity {
            udid,
            time: date.map(seconds).or_else(archived),
            is_encrypted: manifest.is_encrypted,
            device: device(path.file_name().and_then(|name| name.to_str()), &info, &manifest),
            flaws,
            path,
            manifest,
        })
    }

    /// The device as a person knows it.
    pub fn device_name(&self) -> &str {
        self.device.get("name").map_or(&self.udid, String::as_str)
    }

    /// `Maria's iPhone of 2021-01-15 02:38`.
    pub fn title(&self) -> String {
        match self.time {
            Some(time) => format!("{} of {}", self.device_name(), local_time(time)),
            None => self.device_name().to_owned(),
        }
    }
}

/// What a backup in the folder of this name says of its device, as a snapshot's record keeps it.
pub fn device(folder: Option<&str>, info: &Info, manifest: &ManifestPlist) -> BTreeMap<String, String> {
    let lockdown = &manifest.lockdown;
    let folder = folder.map(str::to_owned);
    let known = [
        ("name", info.device_name.as_ref().or(info.display_name.as_ref()).or(lockdown.device_name.as_ref())),
        ("product_type", info.product_type.as_ref().or(lockdown.product_type.as_ref())),
        ("product_version", info.product_version.as_ref().or(lockdown.product_version.as_ref())),
        ("build_version", info.build_version.as_ref().or(lockdown.build_version.as_ref())),
        ("serial_number", info.serial_number.as_ref().or(lockdown.serial_number.as_ref())),
        ("folder", folder.as_ref()),
    ];
    known.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.clone()))).collect()
}

/// Folders and property lists write one UDID in either case, and 24 digits with or without their dash, but it is one
/// device: 40 digits are usually lower, 24 upper case.
pub fn usual_case(udid: &str) -> String {
    let udid = canonical_udid(udid).unwrap_or_else(|| udid.to_owned());
    if udid.contains('-') { udid.to_ascii_uppercase() } else { udid.to_ascii_lowercase() }
}

/// What is wrong with a file of the backup at `root`, named by its place in it.
pub fn flaw_text(error: &Error, root: &Path) -> String {
    let inside = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    match error {
        Error::Missing { path } => format!("{} is missing", inside(path)),
        error => error.to_string().replace(&format!("{}{}", root.display(), std::path::MAIN_SEPARATOR), ""),
    }
}

/// When a backup was archived, by the name of its folder; none on a day that no calendar has.
fn archived_at(archived: ArchiveTime, zone: TimeZone) -> Option<i64> {
    let ArchiveTime { year, month, day, hour, minute, second } = archived;
    let [month, day, hour, minute, second] = [month, day, hour, minute, second.min(59)].map(i8::try_from);
    let year = year.try_into().ok()?;
    let time = DateTime::new(year, month.ok()?, day.ok()?, hour.ok()?, minute.ok()?, second.ok()?, 0).ok()?;
    Some(time.to_zoned_datetime(zone).ok()?.timestamp().as_second())
}

/// Seconds since 1970, of a fraction those that are past.
pub fn seconds(time: SystemTime) -> i64 {
    nanoseconds(time).div_euclid(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use heirloom_device::backup::udid_from_folder_name;

    use super::*;

    #[test]
    fn one_device_has_one_udid_in_either_case() {
        assert_eq!(usual_case("00008030-001a2b3c4d5e6f70"), "00008030-001A2B3C4D5E6F70");
        // udid-without-dash
        assert_eq!(usual_case("00008030001a2b3c4d5e6f70"), "00008030-001A2B3C4D5E6F70");
        assert_eq!(usual_case("ABCDEF0123456789abcdef0123456789abcdef01"), "abcdef0123456789abcdef0123456789abcdef01");
    }

    #[test]
    fn what_cannot_be_a_udid_names_no_device() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, key: &str, value: &str| {
            let text = format!("<plist><dict>{key}<string>{value}</string></dict></plist>");
            fs::write(dir.path().join(file), text).unwrap();
        };
        let folder = BackupFolder { path: dir.path().to_owned(), udid: None, archived: None };
        for hostile in ["../../outside", "a/b", "", ".", "a b", "\u{1b}[2J", &"x".repeat(65)] {
            write("Info.plist", "<key>Unique Identifier</key>", &hostile.replace('\u{1b}', "&#27;"));
            assert!(Identity::read(&folder).is_err(), "{hostile}");
        }
        fs::write(
            dir.path().join("Manifest.plist"),
            "<plist><dict><key>Lockdown</key><dict><key>UniqueDeviceID</key><string>00008030001a2b3c4d5e6f70</string></dict></dict></plist>",
        )
        .unwrap();
        let identity = Identity::read(&folder).unwrap();
        assert_eq!(identity.udid, "00008030-001A2B3C4D5E6F70");
        assert!(identity.flaws.iter().any(|flaw| flaw.contains("cannot be the UDID")), "{:?}", identity.flaws);
    }

    #[test]
    fn times_before_1970_round_down() {
        assert_eq!(seconds(SystemTime::UNIX_EPOCH - Duration::from_millis(1)), -1);
        assert_eq!(seconds(SystemTime::UNIX_EPOCH + Duration::from_millis(1999)), 1);
    }

    #[test]
    fn days_that_no_calendar_has_are_no_dates() {
        let of = |name: &str| {
            let (_, archived) = udid_from_folder_name(&format!("{}{name}", "ab".repeat(20)))?;
            archived_at(archived?, TimeZone::UTC)
        };
        assert_eq!(of("-20190102-030405"), Some(1_546_398_245));
        assert_eq!(of("-20161231-235960"), of("-20161231-235959"));
        assert_eq!(of("-20190231-000000"), None);
    }

    #[test]
    fn a_folder_without_property_lists_is_known_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00008030-001a2b3c4d5e6f70");
        fs::create_dir(&path).unwrap();
        let folder =
            BackupFolder { path: path.clone(), udid: Some("00008030-001a2b3c4d5e6f70".into()), archived: None };
        let identity = Identity::read(&folder).unwrap();
        assert_eq!(identity.udid, "00008030-001A2B3C4D5E6F70");
        assert_eq!(identity.device_name(), "00008030-001A2B3C4D5E6F70");
        assert_eq!(identity.flaws, ["Info.plist is missing", "Manifest.plist is missing", "Status.plist is missing"]);
        assert!(Identity::read(&BackupFolder { path, udid: None, archived: None }).is_err());
    }
}
