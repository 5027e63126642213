//! Status.plist: whether the backup in the folder is whole.

use std::time::SystemTime;

use super::Error;
use crate::property_list as plist;

/// Status.plist. Written by the phone, as the last file of a backup. Every value may be absent, and counts as absent
/// when its type is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Identifies this run of the backup.
    pub uuid: Option<String>,
    /// Whether the phone sent everything, or only what had changed.
    pub is_full_backup: Option<bool>,
    /// `finished` in a whole backup; see [`Status::is_finished`].
    pub snapshot_state: Option<String>,
    /// For example `new`.
    pub backup_state: Option<String>,
    /// When the phone wrote it.
    pub date: Option<SystemTime>,
    /// The version of its format, for example `3.3`.
    pub version: Option<String>,
    /// `Backup Success`, which iOS 3 and before said instead of a state.
    pub was_successful: Option<bool>,
}

impl Status {
    /// Parses the bytes of Status.plist.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let root = plist::read_dictionary(bytes).map_err(|source| Error::Plist { file: "Status.plist", source })?;
        Ok(Status {
            uuid: plist::string(&root, "UUID"),
            is_full_backup: plist::boolean(&root, "IsFullBackup"),
            snapshot_state: plist::string(&root, "SnapshotState"),
            backup_state: plist::string(&root, "BackupState"),
            date: plist::date(&root, "Date"),
            version: plist::string(&root, "Version"),
            was_successful: plist::boolean(&root, "Backup Success"),
        })
    }

    /// Whether the phone declared the backup whole.
    pub fn is_finished(&self) -> bool {
        match &self.snapshot_state {
            Some(state) => state == "finished",
            None => self.was_successful == Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn every_value_is_read() {
        let xml = b"<plist version='1.0'><dict><key>BackupState</key><string>new</string>\
                    <key>Date</key><date>2021-12-03T19:33:15Z</date><key>IsFullBackup</key><false/>\
                    <key>SnapshotState</key><string>finished</string><key>UUID</key><string>0A-1B</string>\
                    <key>Version</key><string>3.3</string></dict></plist>";
        let status = Status::parse(xml).unwrap();
        assert!(status.is_finished());
        let expected = Status {
            uuid: Some("0A-1B".into()),
            is_full_backup: Some(false),
            snapshot_state: Some("finished".into()),
            backup_state: Some("new".into()),
            date: Some(UNIX_EPOCH + Duration::from_secs(1_638_559_995)),
            version: Some("3.3".into()),
            was_successful: None,
        };
        assert_eq!(status, expected);
    }

    #[test]
    fn a_status_that_does_not_say_finished_is_not() {
        let status = Status::parse(b"<plist><dict/></plist>").unwrap();
        assert!(!status.is_finished());
    }

    /// status-of-ios3.
    #[test]
    fn success_counts_where_there_is_no_state() {
        let finished = |values: &str| {
            Status::parse(format!("<plist><dict>{values}</dict></plist>").as_bytes()).unwrap().is_finished()
        };
        assert!(finished("<key>Backup Success</key><true/>"));
        assert!(!finished("<key>Backup Success</key><false/>"));
        let state = "<key>SnapshotState</key><string>uploading</string>";
        assert!(!finished(&format!("<key>Backup Success</key><true/>{state}")));
    }
}
