//! Opening backups that phones encrypted: which passwords are tried, when a person is asked, and the key of each file.

use std::{
    cell::RefCell,
    collections::BTreeSet,
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
    report::{Report, can_ask},
    typed,
};

/// So often a person is asked for one password.
const TRIES: usize = 3;
/// Of the passwords that are remembered of a device, so many are tried on a keybag that none is known of: each try may
/// take seconds.
const REMEMBERED_TRIED: usize = 4;

/// The way to convert it later, said where ciphertext is the alternative.
pub const LATER: &str = "--as-ciphertext keeps the backup as the phone encrypts it, and `heirloom decrypt` converts it once the password is known";

/// The keys of one backup. They are in memory alone.
pub struct Unlocked {
    /// The password in the form that opened the keybag.
    password: String,
    keybag: UnlockedKeybag,
    manifest_key: Option<FileKey>,
}

/// Why a password does not open a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    WrongPassword,
    /// No password can: the keybag is missing or damaged, and how.
    NoKeybag(String),
}

impl Unlocked {
    /// Unlocks the keybag of a backup.
    pub fn new(manifest: &ManifestPlist, password: &str) -> Result<Unlocked, Refused> {
        let no_keybag = |why: String| Refused::NoKeybag(why);
        let bytes = manifest.keybag.as_deref();
        let bytes = bytes.ok_or_else(|| no_keybag("Manifest.plist holds no keybag".to_owned()))?;
        let unreadable = |error: KeybagError| no_keybag(format!("the keybag in Manifest.plist: {error}"));
        let unlocked = unlock_by_any_form(&Keybag::parse(bytes).map_err(unreadable)?, password);
        let (password, keybag) = unlocked.map_err(|error| match error {
            KeybagError::WrongPassword => Refused::WrongPassword,
            error => unreadable(error),
        })?;
        let manifest_key = match &manifest.manifest_key {
            Some(wrapped) => {
                Some(keybag.file_key(wrapped).map_err(|error| no_keybag(format!("ManifestKey: {error}")))?)
            }
            None => None,
        };
        Ok(Unlocked { password, keybag, manifest_key })
    }

    /// The password as the phone was told it: of its forms the one that opens the backup.
    pub fn password(&self) -> &str {
        &self.password
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

/// Unlocks a keybag by the password in one of the forms in which the phone may have been told it: a phone takes its
/// bytes. Tells which form it was.
fn unlock_by_any_form(keybag: &Keybag, password: &str) -> std::result::Result<(String, UnlockedKeybag), KeybagError> {
    for form in typed::forms(password) {
        match keybag.unlock(&form) {
            Err(KeybagError::WrongPassword) => {}
            unlocked => return unlocked.map(|unlocked| (form, unlocked)),
        }
    }
    Err(KeybagError::WrongPassword)
}

/// Opens the Manifest.db that is read from `source`, and known as `path`: decrypted while it is read, if it is
/// encrypted and there are keys.
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

/// Opens what names the files of the backup in the folder `root`: Manifest.db, or in its absence the Manifest.mbdb of
/// iOS 9 and before.
pub fn open_manifest_in(root: &Path, unlocked: Option<&Unlocked>) -> std::result::Result<Manifest, BackupError> {
    if let Some(old) = Manifest::old(root) {
        return old;
    }
    let path = root.join(Manifest::DB);
    let opened = ManifestDb::regular_file(&path).and_then(|file| open_manifest(file, &path, unlocked));
    opened.map(Manifest::Db)
}

/// What a person says of passwords of backups.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Plaintext may lie in a repository that everybody can read.
    pub plain_is_fine: bool,
    /// The repository keeps the password.
    pub remember: bool,
    /// Ciphertext of the phone is kept as it is, and no password is looked for.
    pub as_ciphertext: bool,
}

/// The passwords of backups that are known in one run of the program.
pub struct Passwords<'r> {
    repository: &'r Repository,
    options: Options,
    report: &'r Report,
    /// Those that were typed and opened a backup, with the device, last first.
    typed: RefCell<Vec<(String, String)>>,
    /// Keybags whose passwords nobody could give.
    given_up: RefCell<BTreeSet<Vec<u8>>>,
}

/// An encrypted backup.
#[derive(Clone, Copy)]
pub struct Locked<'a> {
    /// The device.
    pub series: &'a str,
    /// As a person knows it, safe to print.
    pub title: &'a str,
    pub manifest: &'a ManifestPlist,
}

/// The result of the attempt to open a backup.
pub enum Opening {
    Open(Box<Unlocked>),
    /// No password is known, and nobody gives one.
    NoPassword,
    /// No password can open it, and why.
    NoKeybag(String),
}

/// The password that is to open a phone's next backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub password: String,
    /// Whether it opens the newest backup of the phone.
    pub is_proven: bool,
}

/// A phone that encrypts its backups.
#[derive(Clone, Copy)]
pub struct Encrypting<'a> {
    pub series: &'a str,
    /// As a person knows it, safe to print.
    pub name: &'a str,
    /// The newest backup that the phone made, if that is encrypted: its Manifest.plist and its date.
    pub newest: Option<(&'a ManifestPlist, &'a str)>,
    /// Whether the phone is to send everything, whatever it made before.
    pub is_full: bool,
}

impl<'r> Passwords<'r> {
    pub fn new(repository: &'r Repository, options: Options, report: &'r Report) -> Passwords<'r> {
        Passwords { repository, options, report, typed: RefCell::default(), given_up: RefCell::default() }
    }

    /// Opens a backup by a password that is given, known or typed. On a terminal a wrong one is asked for again.
    ///
    /// # Errors
    /// If a password is given and wrong, and nobody can be asked for another; or if plaintext may not lie in this
    /// repository.
    pub fn open(&self, locked: Locked) -> Result<Opening> {
        if self.options.as_ciphertext {
            return Ok(Opening::NoPassword);
        }
        let keybag = locked.manifest.keybag.clone().unwrap_or_default();
        let given = Password::BACKUP.given()?;
        for password in given.iter().cloned().chain(self.known(locked.series, &keybag)?) {
            match self.try_on(locked, &password)? {
                Ok(unlocked) => return Ok(Opening::Open(Box::new(unlocked))),
                Err(Refused::NoKeybag(why)) => return Ok(Opening::NoKeybag(why)),
                Err(Refused::WrongPassword) => {}
            }
        }
        if let Err(Refused::NoKeybag(why)) = Unlocked::check(locked.manifest) {
            return Ok(Opening::NoKeybag(why));
        }
        match given {
            Some(_) if !can_ask() => Err(wrong(locked.title)),
            None if !can_ask() => Ok(Opening::NoPassword),
            _ if self.given_up.borrow().contains(&keybag) => Ok(Opening::NoPassword),
            given => {
                if given.is_some() {
                    self.report.warn(format_args!("{}: the password that is given does not open it", locked.title));
                }
                self.ask_to_open(locked, keybag)
            }
        }
    }

    fn ask_to_open(&self, locked: Locked, keybag: Vec<u8>) -> Result<Opening> {
        for _ in 0..TRIES {
            let typed =
                Password::BACKUP.ask(&format!("Backup password of {} (none: keep it as it is): ", locked.title))?;
            if typed.is_empty() {
                self.given_up.borrow_mut().insert(keybag);
                return Ok(Opening::NoPassword);
            }
            match self.try_on(locked, &typed)? {
                Ok(unlocked) => {
                    self.typed.borrow_mut().insert(0, (locked.series.to_owned(), typed));
                    return Ok(Opening::Open(Box::new(unlocked)));
                }
                Err(Refused::NoKeybag(why)) => return Ok(Opening::NoKeybag(why)),
                Err(Refused::WrongPassword) => {
                    self.report.warn(format_args!("{}: that is not its password", locked.title));
                }
            }
        }
        self.given_up.borrow_mut().insert(keybag);
        Err(wrong(locked.title))
    }

    /// Tries one password. What it opens may be kept as plaintext here, and the password is remembered if it shall be.
    fn try_on(&self, locked: Locked, password: &str) -> Result<Result<Unlocked, Refused>> {
        let unlocked = Unlocked::new(locked.manifest, password);
        if unlocked.is_ok() {
            self.check_plaintext()?;
            self.remember(locked, password)?;
        }
        Ok(unlocked)
    }

    fn remember(&self, Locked { series, manifest, .. }: Locked, password: &str) -> Result<()> {
        let Some(keybag) = manifest.keybag.as_deref() else { return Ok(()) };
        let is_untried = |known: &heirloom_store::RememberedPassword| known.is_untried() && known.password == password;
        if self.options.remember || self.repository.remembered_passwords(series)?.iter().any(is_untried) {
            self.repository.remember_password(series, Some(keybag), password)?;
        }
        Ok(())
    }

    /// The passwords that may open a keybag of a device, most likely first.
    fn known(&self, series: &str, keybag: &[u8]) -> Result<Vec<String>> {
        let typed = self.typed.borrow();
        let mut known: Vec<String> =
            typed.iter().filter(|(device, _)| device == series).map(|(_, password)| password.clone()).collect();
        let remembered = self.repository.remembered_passwords(series)?;
        if let Some(fitting) = remembered.iter().find(|known| known.is_of(keybag)) {
            known.insert(0, fitting.password.clone());
        } else {
            known.extend(remembered.iter().take(REMEMBERED_TRIED).map(|known| known.password.clone()));
        }
        let mut seen = BTreeSet::new();
        known.retain(|password| seen.insert(password.clone()));
        Ok(known)
    }

    fn check_plaintext(&self) -> Result<()> {
        if self.repository.needs_password() || self.options.plain_is_fine {
            return Ok(());
        }
        Err(Failure::failed(
            "the repository has no password: what the phone encrypted would be readable for whoever has the folder",
        )
        .hint(format!("give --plain-is-fine if it may be; {LATER}")))
    }

    /// The password for a backup that a phone is about to make; `None` if it is to be kept as ciphertext. Ends before
    /// the phone is asked for anything if a password is missing, or is not the one of its newest backup, unless a
    /// person at the terminal says otherwise.
    pub fn for_backup(&self, phone: Encrypting) -> Result<Option<Chosen>> {
        if self.options.as_ciphertext {
            return Ok(None);
        }
        let chosen = match self.without_asking(phone)? {
            Some(chosen) if chosen.is_proven || phone.newest.is_none() || phone.is_full => chosen,
            Some(changed) if self.is_untried(phone.series, &changed.password)? => changed,
            misfit if can_ask() => {
                if let (Some(_), Some((_, date))) = (misfit, phone.newest) {
                    let name = phone.name;
                    self.report.warn(format_args!(
                        "the password that is given is not that of {name}'s newest backup, of {date}"
                    ));
                }
                self.ask_for_backup(phone)?
            }
            Some(_) => return Err(not_of_newest(phone)),
            None => {
                let message = format!("{} encrypts its backups, and their password is not known", phone.name);
                return Err(Failure::new(Exit::WrongBackupPassword, message)
                    .hint(format!("set HEIRLOOM_BACKUP_PASSWORD_FILE or HEIRLOOM_BACKUP_PASSWORD; {LATER}")));
            }
        };
        self.check_plaintext()?;
        Ok(Some(chosen))
    }

    /// The password that is given, or else the one that is remembered.
    fn without_asking(&self, phone: Encrypting) -> Result<Option<Chosen>> {
        let chosen = |password: String| Chosen { is_proven: is_proven(phone, &password), password };
        if let Some(given) = Password::BACKUP.given()? {
            return Ok(Some(chosen(given)));
        }
        let remembered = self.repository.remembered_passwords(phone.series)?;
        let newest = remembered.first().map(|known| known.password.clone());
        if let Some(set) = remembered.first().filter(|known| known.is_untried()) {
            return Ok(Some(chosen(set.password.clone())));
        }
        let mut known = self.known(phone.series, phone.keybag())?.into_iter().map(chosen);
        Ok(known
            .find(|chosen| chosen.is_proven)
            .or(newest.filter(|_| phone.newest.is_none() || phone.is_full).map(chosen)))
    }

    /// Whether it was set on the phone by this program, and no backup was made since.
    fn is_untried(&self, series: &str, password: &str) -> Result<bool> {
        let newest = self.repository.remembered_passwords(series)?.into_iter().next();
        Ok(newest.is_some_and(|known| known.is_untried() && known.password == password))
    }

    /// Asks for the password of the next backup. One that cannot be proven yet is typed twice.
    fn ask_for_backup(&self, phone: Encrypting) -> Result<Chosen> {
        let name = phone.name;
        let mut last = None;
        for _ in 0..TRIES {
            let typed = Password::BACKUP.ask(&format!("Backup password of {name}: "))?;
            if typed.is_empty() {
                self.report.warn(format_args!("without its password a backup can only be kept as ciphertext: {LATER}"));
                continue;
            }
            if is_proven(phone, &typed) {
                return Ok(Chosen { password: typed, is_proven: true });
            }
            match phone.newest {
                None if Password::BACKUP.ask("The same again: ")? != typed => {
                    self.report.warn("the two passwords are not the same");
                }
                Some((_, date)) if last.as_ref() != Some(&typed) => self.report.warn(format_args!(
                    "that is not the password of {name}'s newest backup, of {date}; if it was changed since, type the new one again"
                )),
                _ => return Ok(Chosen { password: typed, is_proven: false }),
            }
            last = Some(typed);
        }
        Err(not_of_newest(phone))
    }

    /// Asks for the password of a phone that begins anew though its password fits its newest backup, as after a change.
    ///
    /// # Errors
    /// If nobody can be asked.
    pub fn after_change(&self, phone: Encrypting) -> Result<Chosen> {
        let name = phone.name;
        let changed = format!(
            "{name} does not go on from its newest backup, as after a change of its backup password: nothing was taken from it"
        );
        if !can_ask() {
            return Err(Failure::new(Exit::WrongBackupPassword, changed).hint(format!(
                "give the password that holds now, with --full; `heirloom backup --full` is right, too, if it was not changed; {LATER}"
            )));
        }
        self.report.warn(changed);
        self.ask_for_backup(Encrypting { newest: None, ..phone })
    }

    /// Opens what a phone has sent. Where the password does not fit, others that are known are tried, and a person is
    /// asked: the phone is done, and nobody waits.
    ///
    /// # Errors
    /// If no password fits: then nothing is to be kept.
    pub fn open_arrived(&self, locked: Locked, chosen: &Chosen) -> Result<Opening> {
        let known = self.known(locked.series, locked.manifest.keybag.as_deref().unwrap_or_default())?;
        for password in std::iter::once(&chosen.password).chain(&known) {
            match self.try_on(locked, password)? {
                Ok(unlocked) => return Ok(Opening::Open(Box::new(unlocked))),
                Err(Refused::NoKeybag(why)) => return Ok(Opening::NoKeybag(why)),
                Err(Refused::WrongPassword) => {}
            }
        }
        let title = locked.title;
        for _ in 0..if can_ask() { TRIES } else { 0 } {
            self.report.warn(format_args!("that is not the password by which {title} encrypts its backups now"));
            let typed = Password::BACKUP.ask(&format!("Backup password of {title}: "))?;
            if let Ok(unlocked) = self.try_on(locked, &typed)? {
                return Ok(Opening::Open(Box::new(unlocked)));
            }
        }
        Err(Failure::new(
            Exit::WrongBackupPassword,
            format!("that is not the password by which {title} encrypts its backups now: nothing was kept"),
        )
        .hint(format!("give the one that holds now; {LATER}")))
    }
}

impl Unlocked {
    /// Whether the keybag of a backup can be opened by any password.
    pub fn check(manifest: &ManifestPlist) -> Result<(), Refused> {
        match manifest.keybag.as_deref().map(Keybag::parse) {
            None => Err(Refused::NoKeybag("Manifest.plist holds no keybag".to_owned())),
            Some(Err(error)) => Err(Refused::NoKeybag(format!("the keybag in Manifest.plist: {error}"))),
            Some(Ok(_)) => Ok(()),
        }
    }
}

impl Encrypting<'_> {
    fn keybag(&self) -> &[u8] {
        self.newest.and_then(|(manifest, _)| manifest.keybag.as_deref()).unwrap_or_default()
    }
}

fn is_proven(phone: Encrypting, password: &str) -> bool {
    phone.newest.is_some_and(|(manifest, _)| Unlocked::new(manifest, password).is_ok())
}

fn wrong(title: &str) -> Failure {
    Failure::new(Exit::WrongBackupPassword, format!("{title}: that is not the password of this backup")).hint(
        "it is the one that held when the backup was made; without any, or with --as-ciphertext, it is kept as it is, and `heirloom decrypt` converts it later",
    )
}

fn not_of_newest(Encrypting { name, newest, .. }: Encrypting) -> Failure {
    let what = match newest {
        Some((_, date)) => format!("that is not the password of {name}'s newest backup, of {date}"),
        None => format!("the backup password of {name} was not given"),
    };
    Failure::new(Exit::WrongBackupPassword, format!("{what}: nothing was taken from the phone"))
        .hint(format!("if it was changed since, `heirloom backup --full` goes by the new one; {LATER}"))
}
