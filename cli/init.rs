//! `init`: creates a repository and shows its recovery key once.

use heirloom_store::{Cipher, Error as StoreError, Options, Repository};

use crate::{
    access,
    args::{CipherName, Global, Init},
    failure::{Exit, Failure, Result},
    recovery_key,
    report::{Report, for_shell},
    trust,
};

pub fn run(args: &Init, global: &Global, report: &Report) -> Result<Exit> {
    let path = access::repository_path(global)?;
    let cipher = match args.cipher {
        CipherName::Aes256Gcm => Cipher::Aes256Gcm,
        CipherName::ChaCha20Poly1305 => Cipher::ChaCha20Poly1305,
    };
    let storage = access::storage(path);
    if Repository::probe(&*storage).is_ok() {
        return Err(Failure::from(StoreError::Exists).about(path.display()));
    }
    let password = if args.no_password { None } else { Some(access::new_password()?) };
    let options = Options { cipher, parity: args.parity, ..Options::default() };
    let created = Repository::create(storage, password.as_deref(), &options);
    let (repository, key) = created.map_err(|error| Failure::from(error).about(path.display()))?;
    trust::remember_new(path, &repository, report);
    if report.json {
        let words = key.map(|key| key.to_string());
        report.json(&serde_json::json!({ "id": repository.id().to_string(), "path": path, "recovery_key": words }))?;
        return Ok(Exit::Ok);
    }
    report.line(format_args!("created repository {} in {}", repository.id(), path.display()))?;
    match key {
        Some(key) => recovery_key::hand_over(&key, args.no_verify, report)?,
        None => report.line("It has no password: whoever has the folder can read it.")?,
    }
    let repository = for_shell(path);
    report.note("\nNext, with a phone on its cable, or with backups that there are:");
    for command in ["pair", "backup", "import PATH"] {
        report.note(format_args!("  heirloom --repo {repository} {command}"));
    }
    Ok(Exit::Ok)
}
