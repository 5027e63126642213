//! What a host can ask a phone for.

use plist::Dictionary;

/// A backup.
#[derive(Debug, Clone, Copy)]
pub struct BackupRequest<'a> {
    /// The phone, and the folder of its backup: its UDID, in the case that the phone uses.
    pub udid: &'a str,
    /// Everything, even if the folder holds a backup that could be continued.
    pub full: bool,
    /// Info.plist, written into the folder before the phone is asked; see [`info_plist`](super::info_plist).
    pub info_plist: &'a [u8],
}

/// A restore.
#[derive(Clone, Copy)]
pub struct RestoreRequest<'a> {
    /// The phone that is written.
    pub target_udid: &'a str,
    /// The phone that the backup is of: the name of the folder in the paths.
    pub source_udid: &'a str,
    /// What is restored, and what becomes of what is on the phone.
    pub options: RestoreOptions,
    /// The backup's password, if it is encrypted.
    pub password: Option<&'a str>,
}

/// What a restore does with the phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreOptions {
    /// Restart the phone at the end. If not, the restore is incomplete until somebody does, and a second one fails.
    pub reboot: bool,
    /// Keep the phone's own settings rather than the backup's.
    pub preserve_settings: bool,
    /// Restore system files too.
    pub system_files: bool,
    /// Remove what is not in the backup, so that the phone becomes equal to it.
    pub remove_others: bool,
}

/// Options that make sense together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// The phone becomes what the backup is: for a new or an erased phone.
    Migrate,
    /// The backup's apps and data are added; the phone's settings stay, and so does what the backup does not have.
    Merge,
    /// As `Merge`, but with the settings and system files of the backup.
    Settings,
}

impl From<Preset> for RestoreOptions {
    fn from(preset: Preset) -> Self {
        let (preserve_settings, system_files, remove_others) = match preset {
            Preset::Migrate => (false, true, true),
            Preset::Merge => (true, false, false),
            Preset::Settings => (false, true, false),
        };
        RestoreOptions { reboot: true, preserve_settings, system_files, remove_others }
    }
}

impl BackupRequest<'_> {
    pub(super) fn message(&self) -> Dictionary {
        let mut message = named("Backup", self.udid);
        message.insert("SourceIdentifier".into(), self.udid.into());
        if self.full {
            let mut options = Dictionary::new();
            options.insert("ForceFullBackup".into(), true.into());
            message.insert("Options".into(), options.into());
        }
        message
    }
}

impl RestoreRequest<'_> {
    pub(super) fn message(&self) -> Dictionary {
        let mut options = Dictionary::new();
        for (key, value) in [
            ("RestoreShouldReboot", self.options.reboot),
            // Else the phone has the host copy the whole backup first.
            ("RestoreDontCopyBackup", true),
            ("RestorePreserveSettings", self.options.preserve_settings),
            ("RestoreSystemFiles", self.options.system_files),
            ("RemoveItemsNotRestored", self.options.remove_others),
        ] {
            options.insert(key.into(), value.into());
        }
        if let Some(password) = self.password {
            options.insert("Password".into(), password.into());
        }
        let mut message = named("Restore", self.target_udid);
        message.insert("SourceIdentifier".into(), self.source_udid.into());
        message.insert("Options".into(), options.into());
        message
    }
}

/// Without an old password encryption is switched on, without a new one off.
pub(super) fn change_password(udid: &str, old: Option<&str>, new: Option<&str>) -> Dictionary {
    let mut message = named("ChangePassword", udid);
    for (key, password) in [("OldPassword", old), ("NewPassword", new)] {
        if let Some(password) = password {
            message.insert(key.into(), password.into());
        }
    }
    message
}

fn named(name: &str, target_udid: &str) -> Dictionary {
    let mut message = Dictionary::new();
    message.insert("MessageName".into(), name.into());
    message.insert("TargetIdentifier".into(), target_udid.into());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_backup_has_options() {
        let request = BackupRequest { udid: "U", full: false, info_plist: b"" };
        assert!(!request.message().contains_key("Options"));
        let options = BackupRequest { full: true, ..request }.message().remove("Options").unwrap();
        assert_eq!(options.as_dictionary().unwrap().get("ForceFullBackup").unwrap().as_boolean(), Some(true));
    }

    #[test]
    fn a_migration_takes_everything_and_a_merge_nothing_away() {
        let options = |preset: Preset| {
            let request = RestoreRequest {
                target_udid: "NEW",
                source_udid: "OLD",
                options: preset.into(),
                password: Some("secret"),
            };
            let mut message = request.message();
            assert_eq!(message.get("TargetIdentifier").unwrap().as_string(), Some("NEW"));
            assert_eq!(message.get("SourceIdentifier").unwrap().as_string(), Some("OLD"));
            let options = message.remove("Options").unwrap().into_dictionary().unwrap();
            assert_eq!(options.get("Password").unwrap().as_string(), Some("secret"));
            let keys = ["RestorePreserveSettings", "RestoreSystemFiles", "RemoveItemsNotRestored"];
            keys.map(|key| options.get(key).unwrap().as_boolean().unwrap())
        };
        assert_eq!(options(Preset::Migrate), [false, true, true]);
        assert_eq!(options(Preset::Merge), [true, false, false]);
        assert_eq!(options(Preset::Settings), [false, true, false]);
    }

    #[test]
    fn an_absent_password_has_no_key() {
        let keys = |old, new| change_password("U", old, new).keys().skip(2).cloned().collect::<Vec<_>>();
        assert_eq!(keys(None, Some("n")), ["NewPassword"]);
        assert_eq!(keys(Some("o"), None), ["OldPassword"]);
        assert_eq!(keys(Some("o"), Some("n")), ["OldPassword", "NewPassword"]);
    }
}
