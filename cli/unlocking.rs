//! Opening a backup that the phone encrypted: from its password to the key of each file.

use std::{
    io::{Read, Seek},
    path::Path,
};

use heirloom_device::backup::{
    Decrypted, Error as BackupError, FileKey, Keybag, KeybagError, Manifest, ManifestDb, ManifestPlist, UnlockedKeybag,
};
use heirloom_store::Repository;

use crate::{
    failure::{Exit, Failure, Result},
    password::Password,
    report::can_ask,
    typed,
};

/// The keys of one backup. They are in memory alone.
pub struct Unlocked {
    keybag: UnlockedKeybag,
    manifest_key: Option<FileKey>,
}

impl Unlocked {
    /// Unlocks the keybag of a backup.
    pub fn new(manifest: &ManifestPlist, password: &str) -> Result<Unlocked> {
        let bytes = manifest.keybag.as_deref().ok_or_else(|| Failure::failed("Manifest.plist holds no keybag"))?;
        let unreadable = |error: KeybagError| Failure::failed(format!("the keybag in Manifest.plist: {error}"));
        let keybag = unlock_by_any_form(&Keybag::parse(bytes).map_err(unreadable)?, password);
        let keybag = keybag.map_err(|error| match error {
            KeybagError::WrongPassword => {
                Failure::new(Exit::WrongBackupPassword, "that is not the password of this backup").hint(
                    "it is the password that held when this backup was made; without any, the backup is kept as it is",
                )
            }
            error => unreadable(error),
        })?;
        let manifest_key = match &manifest.manifest_key {
            Some(wrapped) => {
                Some(keybag.file_key(wrapped).map_err(|error| Failure::failed(format!("ManifestKey: {error}")))?)
            }
            None => None,
        };
        Ok(Unlocked { keybag, manifest_key })
    }

    /// The key of a file; none if it is not encrypted by this keybag.
    pub fn file_key(&self, wrapped: &[u8]) -> Option<FileKey> {
        self.keybag.file_key(wrapped).ok()
    }

    /// The key of Manifest.db; none if that is not encrypted.
    pub fn manifest_key(&self) -> Option<&FileKey> {
        self.manifest_key.as_ref()
    }
}

/// Unlocks a keybag by the password in one of the forms in which the phone may have been told it: a phone takes its bytes.
fn unlock_by_any_form(keybag: &Keybag, password: &str) -> std::result::Result<UnlockedKeybag, KeybagError> {
    let mut unlocked = Err(KeybagError::WrongPassword);
    for form in typed::forms(password) {
        unlocked = keybag.unlock(&form);
        if !matches!(unlocked, Err(KeybagError::WrongPassword)) {
            break;
        }
    }
    unlocked
}

/// Opens the Manifest.db that is read from `source`, and known as `path`: decrypted while it is read, if it is encrypted and there are keys.
pub fn open_manifest(
    source: impl Read + Seek + Send + 'static,
    path: &Path,
    unlocked: Option<&Unlocked>,
) -> std::result::Result<ManifestDb, BackupError> {
    let Some(key) = unlocked.and_then(Unlocked::manifest_key) else { return ManifestDb::of(source, path) };
    match Decrypted::new(source, key) {
        Ok(plaintext) => ManifestDb::of(plaintext, path),
        Err(source) => Err(BackupError::Io { path: path.to_owned(), source }),
    }
}

/// Opens what names the files of the backup in the folder `root`: Manifest.db, or in its absence the Manifest.mbdb of iOS 9 and before.
pub fn open_manifest_in(root: &Path, unlocked: Option<&Unlocked>) -> std::result::Result<Manifest, BackupError> {
    if let Some(old) = Manifest::old(root) {
        return old;
    }
    let path = root.join(Manifest::DB);
    let opened = ManifestDb::regular_file(&path).and_then(|file| open_manifest(file, &path, unlocked));
    opened.map(Manifest::Db)
}

/// An encrypted backup whose password is wanted.
pub struct Wanted<'a> {
    pub repository: &'a Repository,
    /// The device.
    pub series: &'a str,
    /// As a person knows it.
    pub title: &'a str,
    /// Manifest.plist, where it is known before the password is wanted.
    pub manifest: Option<&'a ManifestPlist>,
    pub options: Options,
}

/// What a person says of passwords of backups.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Plaintext may lie in a repository that everybody can read.
    pub plain_is_fine: bool,
    /// The repository keeps the password.
    pub remember: bool,
}

/// A password, and what it opened if it was tried.
struct Found {
    password: String,
    unlocked: Option<Unlocked>,
}

impl Wanted<'_> {
    /// The password: as given, as remembered, or as typed. `None` keeps the backup as it is.
    pub fn password(&self) -> Result<Option<String>> {
        Ok(self.find()?.map(|found| found.password))
    }

    /// Unlocks a backup by the password that is found as [`password`](Wanted::password) finds it.
    pub fn unlocked(&self, manifest: &ManifestPlist) -> Result<Option<Unlocked>> {
        let Some(Found { password, unlocked }) = self.find()? else { return Ok(None) };
        match unlocked {
            Some(unlocked) => self.remember(manifest, &password).map(|()| Some(unlocked)),
            None => self.unlock(manifest, &password).map(Some),
        }
    }

    /// Unlocks a backup with its password, and has the repository keep that if it shall.
    pub fn unlock(&self, manifest: &ManifestPlist, password: &str) -> Result<Unlocked> {
        let unlocked = Unlocked::new(manifest, password)?;
        self.remember(manifest, password)?;
        Ok(unlocked)
    }

    fn remember(&self, manifest: &ManifestPlist, password: &str) -> Result<()> {
        match manifest.keybag.as_deref().filter(|_| self.options.remember) {
            Some(keybag) => Ok(self.repository.remember_password(self.series, keybag, password)?),
            None => Ok(()),
        }
    }

    fn find(&self) -> Result<Option<Found>> {
        let untried = |password| Found { password, unlocked: None };
        let found = match Password::BACKUP.given()? {
            Some(given) => untried(given),
            None => match self.remembered()? {
                Some(remembered) => remembered,
                None if can_ask() => untried(
                    Password::BACKUP.ask(&format!("Backup password of {} (none: keep it as it is): ", self.title))?,
                ),
                None => return Ok(None),
            },
        };
        if found.password.is_empty() {
            return Ok(None);
        }
        if !self.repository.needs_password() && !self.options.plain_is_fine {
            return Err(Failure::failed(
                "the repository has no password: what the phone encrypted would be readable for whoever has the folder",
            )
            .hint("give --plain-is-fine if it may be, or do not give the backup's password, and the backup is kept as it is"));
        }
        Ok(Some(found))
    }

    /// The password that is remembered of this backup's keybag, or the newest of the device if it opens the backup.
    fn remembered(&self) -> Result<Option<Found>> {
        let remembered = self.repository.remembered_passwords(self.series)?;
        let keybag = self.manifest.map(|manifest| manifest.keybag.as_deref().unwrap_or_default());
        if let Some(known) = keybag.and_then(|keybag| remembered.iter().find(|known| known.is_of(keybag))) {
            return Ok(Some(Found { password: known.password.clone(), unlocked: None }));
        }
        let Some(newest) = remembered.first() else { return Ok(None) };
        match self.manifest.map(|manifest| Unlocked::new(manifest, &newest.password)) {
            Some(Err(_)) => Ok(None),
            tried => Ok(Some(Found { password: newest.password.clone(), unlocked: tried.and_then(Result::ok) })),
        }
    }
}
