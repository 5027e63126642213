//! `encryption`: whether a phone encrypts its backups, and by which password. The phone itself holds both, for all
//! computers.

use std::{
    thread,
    time::{Duration, Instant},
};

use heirloom_device::{
    Error as DeviceError,
    mobilebackup2::{Client, Notifications, OBSERVED, Refusal},
    mux::Mux,
};

use crate::{
    access,
    args::{Encryption, EncryptionAction, Global},
    failure::{Exit, Failure, Result},
    interrupt,
    operation::Operation,
    password::Password,
    phone::{self, InReach, Phone},
    report::{Report, can_ask},
    warnings::Warnings,
};

/// After a change phones refuse connections for some seconds.
const SETTLING: Duration = Duration::from_secs(20);
const SETTLING_POLL: Duration = Duration::from_millis(500);

pub fn run(args: &Encryption, global: &Global, report: &Report) -> Result<Exit> {
    let mux = phone::muxer()?;
    let found = phone::choose_one(&mux, args.udid.as_ref())?;
    let mut phone = Phone::connect(&mux, &found.device)?;
    let is_encrypting = phone.is_encrypting()?;
    let encrypts = match (args.action, is_encrypting) {
        (EncryptionAction::Status, _) => is_encrypting,
        (EncryptionAction::On, true) => {
            return Err(Failure::failed(format!("{} encrypts its backups already", phone.name()))
                .hint("`heirloom encryption change-password` sets another password"));
        }
        (EncryptionAction::Off | EncryptionAction::ChangePassword, false) => {
            return Err(Failure::failed(format!("{} does not encrypt its backups", phone.name()))
                .hint("`heirloom encryption on` makes it encrypt them"));
        }
        (action, _) => {
            let keeper = keeper(args, global, &phone.series(), report)?;
            let password = change(&mut phone, action, report)?;
            // The change is only believed when the phone itself says so.
            let encrypts = state_after(&mux, &found)?;
            if encrypts != (action != EncryptionAction::Off) {
                return Err(Failure::new(
                    Exit::PhoneRefused,
                    format!("{} said that it was done, but nothing has changed", phone.name()),
                ));
            }
            if let (Some(keeper), Some(password)) = (keeper, password) {
                keeper.remember_password(&phone.series(), None, &password)?;
                report.note("the repository remembers the new password");
            }
            encrypts
        }
    };
    say(&phone, args.action, encrypts, report)?;
    Ok(Exit::Ok)
}

/// The repository that is to remember a new password: because that was said, or because it remembers another of the
/// phone.
fn keeper(args: &Encryption, global: &Global, series: &str, report: &Report) -> Result<Option<access::Opened>> {
    if args.action == EncryptionAction::Off {
        return Ok(None);
    }
    if args.remember_password {
        return access::open(global, report).map(Some);
    }
    match global.repo.is_some().then(|| access::open(global, report)) {
        Some(Ok(repository)) => {
            let remembers = !repository.remembered_passwords(series)?.is_empty();
            Ok(remembers.then_some(repository))
        }
        Some(Err(failure)) if failure.exit != Exit::NoRepository => {
            report.warn(format_args!("{}: if it remembers a backup password, that is not changed", failure.message));
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Has the phone change its password, and gives the new one, if there is one.
fn change(phone: &mut Phone, action: EncryptionAction, report: &Report) -> Result<Option<String>> {
    let old = match action {
        EncryptionAction::On => None,
        _ => Some(wanted(Password::BACKUP, &format!("Backup password of {}: ", phone.name()), false)?),
    };
    let new = match action {
        EncryptionAction::Off => None,
        _ => Some(wanted(Password::NEW_BACKUP, &format!("New backup password for {}: ", phone.name()), true)?),
    };
    interrupt::catch();
    let udid = phone.udid.clone();
    let mut notifications = phone.notifications()?;
    OBSERVED.iter().try_for_each(|name| notifications.observe(name))?;
    let warnings = Warnings::new(report);
    let operation = Operation::new("changing", &warnings);
    let changed = operation.follow(&mut || Notifications::poll(&mut notifications), |control| {
        let mut client = Client::connect(phone.mobilebackup2()?, control)?;
        let changed = client.change_password(&udid, old.as_deref(), new.as_deref(), control);
        client.disconnect();
        changed
    });
    changed.map_err(|error| match error {
        DeviceError::MobileBackup(Refusal { code: 207, .. }) => {
            Failure::new(Exit::WrongBackupPassword, "that is not the backup password of this phone").hint(
                "a forgotten password can only be removed on the phone: Settings > General > Transfer or Reset > Reset All Settings",
            )
        }
        error => error.into(),
    })?;
    Ok(new)
}

/// A password from the environment, or the prompt.
fn wanted(password: Password, prompt: &str, is_new: bool) -> Result<String> {
    if let Some(given) = password.given()? {
        return Ok(given);
    }
    if !can_ask() {
        return Err(password.wanted("a backup password is needed, and there is no terminal to ask on"));
    }
    let typed = if is_new { password.ask_twice(prompt)? } else { password.ask(prompt)? };
    match typed.is_empty() {
        true => Err(Failure::new(password.exit, "the backup password is empty")),
        false => Ok(typed),
    }
}

fn state_after(mux: &dyn Mux, found: &InReach) -> Result<bool> {
    let until = Instant::now() + SETTLING;
    loop {
        match Phone::connect(mux, &found.device).and_then(|mut phone| phone.is_encrypting()) {
            Err(_) if Instant::now() < until => thread::sleep(SETTLING_POLL),
            state => return state,
        }
    }
}

fn say(phone: &Phone, action: EncryptionAction, encrypts: bool, report: &Report) -> Result<()> {
    if report.json {
        return report.json(&serde_json::json!({
            "udid": phone.udid, "name": phone.text("DeviceName"), "encrypted": encrypts,
        }));
    }
    let name = phone.name();
    report.line(match action {
        EncryptionAction::Status if encrypts => format!("{name} encrypts its backups"),
        EncryptionAction::Status => format!("{name} does not encrypt its backups"),
        EncryptionAction::On => {
            format!("{name} encrypts its backups from now on; keep the password, nothing else opens them")
        }
        EncryptionAction::Off => format!("{name} does not encrypt its backups any more"),
        EncryptionAction::ChangePassword => {
            format!(
                "{name} encrypts its backups by the new password; older backups keep the one that they were made with"
            )
        }
    })
}
