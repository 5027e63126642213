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
    interrupt, location,
    password::Password,
    question, recovery_key,
    report::{Align, Report, Table, can_ask, local_time, rfc3339},
};

/// A key in JSON.
#[derive(Serialize)]
struct Row {
    id: String,
    /// `password`, `recovery`, `open` or `unknown`.
    kind: SlotKind,
    label: Option<String>,
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
        let label = Some(&slot.label).filter(|label| !label.is_empty()).cloned();
        Row { id: slot.id.clone(), kind: slot.kind, label, created: rfc3339(slot.created), used: slot.is_used }
    }
}

pub fn run(args: &Key, global: &Global, report: &Report) -> Result<Exit> {
    let repository = access::open(global, report)?;
    match &args.action {
        KeyAction::List => list(&repository, report)?,
        KeyAction::Add { label, file } => {
            add(&repository, label.as_deref().unwrap_or_default(), file.as_deref(), report)?;
        }
        KeyAction::Remove { key, yes } => remove(&repository, key, *yes, report)?,
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
    let columns = [("ID", Left), ("OPENS BY", Left), ("LABEL", Left), ("CREATED", Left), ("NOTES", Left)];
    let mut table = Table::new(&columns);
    for slot in &slots {
        let note = match slot.kind {
            _ if slot.is_used => "used now",
            SlotKind::Open => "not used: who has put it there?",
            _ => "",
        };
        let [kind, label] = [title(slot.kind).to_owned(), slot.label.clone()];
        table.row([slot.id.clone(), kind, label, local_time(slot.created), note.to_owned()]);
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

fn add(repository: &Repository, label: &str, file: Option<&Path>, report: &Report) -> Result<()> {
    let was_open = !repository.needs_password();
    let added = match file {
        Some(file) => add_file(repository, label, file)?,
        None => repository.add_password(&new_password()?, label)?,
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
    if was_open {
        report.note(
            "nobody can open the repository without a password any more; `heirloom key recovery` makes a recovery key",
        );
    }
    Ok(())
}

/// Adds a password that a new file holds. If that fails, there is no such file.
fn add_file(repository: &Repository, label: &str, path: &Path) -> Result<KeySlot> {
    location::outside_repositories(path)?;
    let password = random_password()?;
    let failed = |error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    // Ctrl-C between the two would leave a file that opens nothing.
    interrupt::catch();
    let file = create_private(path).map_err(failed)?;
    let added = write_line(file, &password)
        .map_err(failed)
        .and_then(|()| repository.add_password(&password, label).map_err(Failure::from))
        .and_then(|added| match interrupt::check() {
            Ok(()) => Ok(added),
            Err(interrupted) => repository.remove_slot(&added.id).map_err(Failure::from).and(Err(interrupted)),
        });
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

fn remove(repository: &Repository, key: &str, yes: bool, report: &Report) -> Result<()> {
    let slots = repository.slots()?;
    let wanted: Vec<&KeySlot> = slots.iter().filter(|slot| slot.id.starts_with(key)).collect();
    let slot = match wanted[..] {
        [slot] => slot,
        // Somebody has put an open key in place of a copy of another: it goes, the other stays.
        [one, other] if one.id == other.id => {
            if one.kind == SlotKind::Open {
                one
            } else {
                other
            }
        }
        [] => return Err(StoreError::NoSuchSlot { id: key.to_owned() }.into()),
        _ => return Err(Failure::failed(format!("{key} could be any of several keys")).hint("type more of the id")),
    };
    if !slot.is_used
        && !yes
        && let Some(what) = last_of(slot, &slots)
    {
        confirm(slot, &what, report)?;
    }
    repository.remove_slot(&slot.id)?;
    if report.json {
        return report.json(&Row::of(slot));
    }
    report.line(format_args!("removed {} {}", title(slot.kind), slot.id))
}

/// Says what would be gone with a slot: the last key of its kind, or of its label, which may be all that a person has.
/// An open slot is nobody's.
fn last_of(slot: &KeySlot, slots: &[KeySlot]) -> Option<String> {
    let others = || slots.iter().filter(|other| other.id != slot.id);
    match slot.kind {
        SlotKind::Open => None,
        _ if !slot.label.is_empty() && !others().any(|other| other.label == slot.label) => {
            Some(format!("the last key with the label {:?}", slot.label))
        }
        kind if !others().any(|other| other.kind == kind) => Some(format!("the last {}", title(kind))),
        _ => None,
    }
}

fn confirm(slot: &KeySlot, what: &str, report: &Report) -> Result<()> {
    report.note(format_args!("{} is {what}: who has nothing else cannot open the repository any more.", slot.id));
    if !can_ask() {
        return Err(Failure::new(Exit::Usage, format!("{} is {what}, and there is no terminal to ask on", slot.id))
            .hint("say --yes if it shall go"));
    }
    let answer = question::line("Type yes to remove it: ")?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Failure::failed("not confirmed: nothing was removed")) }
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
        let shown = report.json(&NewRecoveryKey { row: Row::of(&slot), recovery_key: key.to_string() });
        recovery_key::or_withdraw(shown.and_then(|()| report.flush()), &slot.id, repository)?;
    } else {
        recovery_key::hand_over(&key, &slot.id, repository, no_verify, report)?;
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
