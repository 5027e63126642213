//! `key`: what opens the repository, listed and changed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use heirloom_store::{Error as StoreError, KeySlot, Repository, SlotKind, random_password};
use serde::Serialize;

use crate::{
    access,
    args::{Global, Key, KeyAction},
    failure::{Exit, Failure, Result},
    password::Password,
    recovery_key,
    report::{Align, Report, Table, local_time, rfc3339},
};

/// A key in JSON.
#[derive(Serialize)]
struct Row {
    id: String,
    /// `password`, `recovery`, `open` or `unknown`.
    kind: SlotKind,
    created: Option<String>,
    /// Whether the repository was opened by it just now.
    used: bool,
}

/// A new recovery key in JSON, which is the only time that its words are shown.
#[derive(Serialize)]
struct NewRecoveryKey {
    #[serde(flatten)]
    row: Row,
    recovery_key: String,
}

impl Row {
    fn of(slot: &KeySlot) -> Row {
        Row { id: slot.id.clone(), kind: slot.kind, created: rfc3339(slot.created), used: slot.is_used }
    }
}

pub fn run(args: &Key, global: &Global, report: &Report) -> Result<Exit> {
    let repository = access::open(global, report)?;
    match &args.action {
        KeyAction::List => list(&repository, report)?,
        KeyAction::Add { file } => add(&repository, file.as_deref(), report)?,
        KeyAction::Remove { key } => remove(&repository, key, report)?,
        KeyAction::Change => change(&repository, report)?,
        KeyAction::Recovery { no_verify } => recovery(&repository, *no_verify, report)?,
    }
    Ok(Exit::Ok)
}

fn list(repository: &Repository, report: &Report) -> Result<()> {
    let slots = repository.slots()?;
    if report.json {
        return report.json(&slots.iter().map(Row::of).collect::<Vec<_>>());
    }
    use Align::Left;
    let mut table = Table::new(&[("ID", Left), ("OPENS BY", Left), ("CREATED", Left), ("NOTES", Left)]);
    for slot in &slots {
        let note = if slot.is_used { "used now" } else { "" };
        table.row([slot.id.clone(), title(slot.kind).to_owned(), local_time(slot.created), note.to_owned()]);
    }
    table.print(report)
}

fn title(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Password => "password",
        SlotKind::Recovery => "recovery key",
        SlotKind::Open => "nothing: everybody can",
        SlotKind::Unknown => "what a newer heirloom knows",
    }
}

fn add(repository: &Repository, file: Option<&Path>, report: &Report) -> Result<()> {
    let added = match file {
        Some(file) => add_file(repository, file)?,
        None => repository.add_password(&new_password()?)?,
    };
    if report.json {
        return report.json(&Row::of(&added));
    }
    match file {
        Some(file) => report.line(format_args!(
            "added password {}: HEIRLOOM_PASSWORD_FILE={} opens the repository",
            added.id,
            file.display()
        ))?,
        None => report.line(format_args!("added password {}", added.id))?,
    }
    if !repository.needs_password() {
        report.note("everybody can still open the repository; `heirloom key change` sets a password instead");
    }
    Ok(())
}

/// Adds a password that a new file holds. If that fails, there is no such file.
fn add_file(repository: &Repository, path: &Path) -> Result<KeySlot> {
    let password = random_password()?;
    let failed = |error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    let file = create_private(path).map_err(failed)?;
    let added = write_line(file, &password)
        .map_err(failed)
        .and_then(|()| repository.add_password(&password).map_err(Failure::from));
    if added.is_err() {
        let _ = fs::remove_file(path);
    }
    added
}

/// Makes a file that nobody else reads.
fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn write_line(mut file: File, line: &str) -> io::Result<()> {
    file.write_all(line.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn remove(repository: &Repository, key: &str, report: &Report) -> Result<()> {
    let slots = repository.slots()?;
    let wanted: Vec<&KeySlot> = slots.iter().filter(|slot| slot.id.starts_with(key)).collect();
    let slot = match wanted[..] {
        [slot] => slot,
        [] => return Err(StoreError::NoSuchSlot { id: key.to_owned() }.into()),
        _ => return Err(Failure::failed(format!("{key} could be any of several keys")).hint("type more of the id")),
    };
    repository.remove_slot(&slot.id)?;
    if report.json {
        return report.json(&Row::of(slot));
    }
    report.line(format_args!("removed {} {}", title(slot.kind), slot.id))
}

fn change(repository: &Repository, report: &Report) -> Result<()> {
    let before = repository.slots()?;
    let added = repository.change_password(&new_password()?)?;
    if report.json {
        return report.json(&Row::of(&added));
    }
    let is_recovery = |slot: &&KeySlot| slot.kind == SlotKind::Recovery;
    if before.iter().filter(is_recovery).any(|slot| slot.is_used) {
        report.line(format_args!("added password {}", added.id))?;
        report.note("other passwords open the repository as before: `heirloom key list`, `heirloom key remove ID`");
    } else {
        report.line("the password is changed")?;
    }
    if !before.iter().any(|slot| is_recovery(&slot)) {
        report.note("there is no recovery key, should the password be lost: `heirloom key recovery` makes one");
    }
    Ok(())
}

fn recovery(repository: &Repository, no_verify: bool, report: &Report) -> Result<()> {
    let mut old = repository.slots()?;
    old.retain(|slot| slot.kind == SlotKind::Recovery);
    let (slot, key) = repository.add_recovery_key()?;
    if report.json {
        report.json(&NewRecoveryKey { row: Row::of(&slot), recovery_key: key.to_string() })?;
        report.flush()?;
    } else {
        recovery_key::hand_over(&key, no_verify, report)?;
    }
    // Not before the new one was shown.
    for slot in &old {
        if slot.is_used {
            report.warn(format_args!(
                "the recovery key that you gave opens the repository still: give another password and `heirloom key remove {}`",
                slot.id
            ));
        } else {
            repository.remove_slot(&slot.id)?;
            report.note("the recovery key before it opens the repository no more");
        }
    }
    Ok(())
}

fn new_password() -> Result<String> {
    let password = Password::NEW
        .chosen("New password for the repository: ")?
        .ok_or_else(|| Password::NEW.wanted("no new password is given, and there is no terminal to ask on"))?;
    if password.is_empty() { Err(Failure::failed("the password is empty")) } else { Ok(password) }
}
