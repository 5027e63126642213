//! `init`: creates a repository and shows its recovery key once.

use std::path::Path;

use heirloom_store::{Cipher, Error as StoreError, Options, Repository, SlotKind};

use crate::{
    access,
    args::{CipherName, Global, Init},
    failure::{Exit, Failure, Result},
    location,
    mounts::MissingDisk,
    question, recovery_key,
    report::{Report, can_ask, for_shell},
    synced_folder::{not_in_a_synced_folder, synced_by},
    trust,
};

pub fn run(args: &Init, global: &Global, report: &Report) -> Result<Exit> {
    let path = access::repository_path(global)?;
    let cipher = match args.cipher {
        CipherName::Aes256Gcm => Cipher::Aes256Gcm,
        CipherName::ChaCha20Poly1305 => Cipher::ChaCha20Poly1305,
    };
    if let Some(program) = synced_by(path) {
        report.warn(not_in_a_synced_folder(&program));
    }
    let storage = access::storage(path);
    if Repository::probe(&*storage).is_ok() {
        return Err(Failure::from(StoreError::Exists).about(path.display()));
    }
    location::outside_repositories(path)?;
    if let Some(missing) = MissingDisk::of(path).filter(|_| !args.yes) {
        report.warn(missing.told(path));
        confirm(path, &missing)?;
    }
    let password = if args.no_password { None } else { Some(access::new_password()?) };
    let options = Options { cipher, parity: args.parity, ..Options::default() };
    let created = Repository::create(storage, password.as_deref(), &options);
    let (repository, key) = created.map_err(|error| Failure::from(error).about(path.display()))?;
    trust::remember_new(path, &repository, report);
    if report.json {
        let words = key.as_ref().map(ToString::to_string);
        let object = serde_json::json!({ "id": repository.id().to_string(), "path": path.to_string_lossy(), "recovery_key": words });
        let shown = report.json(&object).and_then(|()| report.flush());
        match key {
            Some(_) => recovery_key::or_withdraw(shown, &recovery_slot(&repository)?, &repository)?,
            None => shown?,
        }
        return Ok(Exit::Ok);
    }
    let said = report.line(format_args!("created repository {} in {}", repository.id(), path.display()));
    match key {
        Some(key) => {
            let slot = recovery_slot(&repository)?;
            recovery_key::or_withdraw(said, &slot, &repository)?;
            recovery_key::hand_over(&key, &slot, &repository, args.no_verify, report)?;
        }
        None => said.and_then(|()| report.line("It has no password: whoever has the folder can read it."))?,
    }
    let repository = for_shell(path);
    report.note("\nNext, with a phone on its cable, or with backups that there are:");
    for command in ["pair", "backup", "import PATH"] {
        report.note(format_args!("  heirloom --repo {repository} {command}"));
    }
    Ok(Exit::Ok)
}

/// Asks whether the repository shall lie where a disk seems to be missing. Without a terminal only what is sure is
/// refused.
fn confirm(path: &Path, missing: &MissingDisk) -> Result<()> {
    const WHAT_TO_DO: &str =
        "connect and mount the disk; --yes if the repository shall lie on the disk of this computer";
    if !can_ask() {
        return match missing {
            MissingDisk::Declared(_) => Err(Failure::failed("no repository was created").hint(WHAT_TO_DO)),
            MissingDisk::Usual => Ok(()),
        };
    }
    let question = format!("Type yes to create it all the same, in {}: ", path.display());
    match question::line(&question)?.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::failed("not confirmed: no repository was created").hint(WHAT_TO_DO)),
    }
}

/// The slot of the recovery key, which a new repository has once.
fn recovery_slot(repository: &Repository) -> Result<String> {
    let slots = repository.slots()?.into_iter();
    Ok(slots.filter(|slot| slot.kind == SlotKind::Recovery).map(|slot| slot.id).next().unwrap_or_default())
}
