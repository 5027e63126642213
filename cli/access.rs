//! The way to the repository: where it is, and its password, which is never taken from the command line.

use std::{
    cell::Cell,
    env,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
};

use heirloom_store::{
    Error as StoreError, LocalStorage, Opening, Options, RecoveryKey, Repository, Snapshot, SnapshotId, Storage,
    Unlock, private,
};

use crate::{
    args::Global,
    failure::{Exit, Failure, Result},
    location, mounts,
    password::Password,
    report::{Report, can_ask, for_shell},
    trust::{self, Memory, Watched},
};

const TRIES_AT_THE_PROMPT: u32 = 3;

/// The folder of the repository, as it was given.
pub fn repository_path(global: &Global) -> Result<&Path> {
    let path = global.repo.as_deref().filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| {
        Failure::new(Exit::Usage, "it was not said which repository")
            .hint("give --repo PATH, or set HEIRLOOM_REPOSITORY")
    })?;
    as_folder(path)
}

/// The path of a repository, if there can be one.
fn as_folder(path: &Path) -> Result<&Path> {
    match location::local(path)? {
        file if file.is_file() => Err(Failure::new(Exit::NoRepository, format!("{} is a file", file.display()))
            .hint("create one in a folder: `heirloom --repo FOLDER init`")),
        path => Ok(path),
    }
}

/// The storage in the folder at `path`, untouched as yet.
pub fn storage(path: &Path) -> Arc<dyn Storage> {
    Arc::new(LocalStorage::new(path))
}

/// An open repository. What has come and gone in it is remembered when it is dropped.
pub struct Opened {
    repository: Repository,
    /// Nothing is remembered of a demonstration.
    watched: Option<Watched>,
    prunes: Cell<bool>,
}

impl Opened {
    /// Says that this run may delete snapshots for good, so that nobody is warned that they are gone.
    pub fn prunes(&self) {
        self.prunes.set(true);
        self.watched.iter().for_each(|watched| watched.prunes(&self.repository));
    }

    /// Moves snapshots to the trash; nobody is warned that they are gone from then on.
    pub fn forget(&self, snapshots: &[Snapshot]) -> Result<()> {
        self.watched.iter().for_each(|watched| watched.lets_go(snapshots));
        Ok(self.repository.forget(snapshots)?)
    }

    /// Forgets a snapshot whose place another has taken.
    pub fn replace(&self, old: &Snapshot, new: &SnapshotId) -> Result<()> {
        self.watched.iter().for_each(|watched| watched.lets_go(std::slice::from_ref(old)));
        Ok(self.repository.replace(old, new)?)
    }

    /// Brings a snapshot back from the trash.
    pub fn undelete(&self, snapshot: &Snapshot) -> Result<()> {
        self.repository.undelete(snapshot)?;
        self.watched.iter().for_each(|watched| watched.took_back(&snapshot.id));
        Ok(())
    }
}

impl Deref for Opened {
    type Target = Repository;

    fn deref(&self) -> &Repository {
        &self.repository
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(watched) = &self.watched {
            watched.end(&self.repository, self.prunes.get());
        }
    }
}

/// Opens the repository that was given, with a password if it needs one.
pub fn open(global: &Global, report: &Report) -> Result<Opened> {
    open_at(repository_path(global)?, Password::REPOSITORY, false, report)
}

/// The same, but asks nobody: `None` if it needs a password that the environment does not name.
pub fn open_unasked(global: &Global, report: &Report) -> Result<Option<Opened>> {
    let path = repository_path(global)?;
    let storage = storage(path);
    let probe = Repository::probe(&*storage).map_err(|error| failure_at(path, &*storage, error))?;
    if probe.needs_password && !Password::REPOSITORY.is_named() {
        return Ok(None);
    }
    open(global, report).map(Some)
}

/// The same of a repository that may have lost even its config.
pub fn open_damaged(global: &Global, report: &Report) -> Result<Opened> {
    open_at(repository_path(global)?, Password::REPOSITORY, true, report)
}

/// The storage of the repository in the folder at `path`, which stays closed. Fails if it is not what this computer
/// remembers of the place, as far as that can be told without a password.
pub fn unopened(path: &Path, report: &Report) -> Result<Arc<dyn Storage>> {
    let storage = storage(as_folder(path)?);
    let probe = Repository::probe(&*storage).map_err(|error| failure_at(path, &*storage, error))?;
    Memory::of(path, report).compare_probe(path, &probe)?;
    Ok(storage)
}

/// Opens another repository, at `path`, by `password` if it needs one.
pub fn open_other(path: &Path, password: Password, report: &Report) -> Result<Opened> {
    open_at(path, password, false, report)
}

/// Makes a repository for a demonstration, which everybody can read and of which nothing is remembered.
pub fn create_demo(path: &Path) -> Result<Opened> {
    trust::forget(path);
    let storage = storage(path);
    Repository::create(storage.clone(), None, &Options::default())?;
    let repository = Repository::open(storage, Unlock::Open, cache_dir().as_deref())?;
    Ok(Opened { repository, watched: None, prunes: Cell::new(false) })
}

/// Names the repository at `path` in a failure. The hint where there is none depends on whether something is left of
/// one.
pub fn failure_at(path: &Path, storage: &dyn Storage, error: StoreError) -> Failure {
    let program = format!("heirloom --repo {}", for_shell(path));
    let hint = match error {
        StoreError::NoRepository if Repository::probe_damaged(storage).is_ok() => {
            format!("if a copy was cut off, finish it; else put what is left in order with `{program} repair`")
        }
        StoreError::NoRepository if mounts::MissingDisk::of(path).is_some() => {
            format!("connect and mount the disk; only if it is a new one: `{program} init`")
        }
        StoreError::NoRepository => format!("create one with `{program} init`"),
        error => return Failure::from(error).about(path.display()),
    };
    Failure::from(error).hint(hint).about(path.display())
}

fn open_at(path: &Path, password: Password, is_damaged: bool, report: &Report) -> Result<Opened> {
    let storage = storage(as_folder(path)?);
    let failed = |error: StoreError| match error {
        StoreError::PasswordNeeded => password.wanted(&error.to_string()).about(path.display()),
        error => failure_at(path, &*storage, error),
    };
    let probe = if is_damaged { Repository::probe_damaged } else { Repository::probe };
    let probe = probe(&*storage).map_err(failed)?;
    for problem in &probe.problems {
        report.warn(problem);
    }
    if let [slot, ..] = &probe.open_slots[..] {
        report.note(format_args!("to be rid of it: `heirloom --repo {} key remove {slot}`", path.display()));
    }
    let memory = Memory::of(path, report);
    memory.compare_probe(path, &probe)?;
    probe.require_known_keys().map_err(failed)?;
    let (cache_dir, first_slot) = (cache_dir(), memory.slot(&probe));
    let opening = Opening { cache_dir: cache_dir.as_deref(), is_damaged, first_slot: first_slot.as_deref() };
    let unlock = |unlock: Unlock| Repository::open_with(storage.clone(), unlock, opening);
    let opened = if !probe.needs_password {
        if password.is_given() && !memory.knows_as_open(&probe) {
            return Err(open_although_given(path, password));
        }
        unlock(Unlock::Open)
    } else if let Some(password) = password.given()? {
        unlock_with(&password, &unlock)
    } else if can_ask() {
        ask_and_unlock(path, password, report, &unlock)?
    } else {
        return Err(password.wanted(&format!("{} needs its password", path.display())));
    };
    let repository = opened.map_err(failed)?;
    memory.compare_keys(path, &probe, &repository)?;
    report.detail(format_args!("opened repository {} in {}", repository.id(), path.display()));
    let watched = Watched::begin(memory, &repository, probe.needs_password, report);
    Ok(Opened { repository, watched: Some(watched), prunes: Cell::new(false) })
}

/// Why a repository is not opened that this computer has not seen before, and that wants no password.
fn open_although_given(path: &Path, password: Password) -> Failure {
    let message = "a password is given, and the repository opens without any: somebody who can write to the folder may have seen to that";
    let hint = format!("if it never had a password, leave {} unset", password.variable);
    Failure::new(password.exit, message).about(path.display()).hint(hint)
}

/// Chooses the password of a new repository.
pub fn new_password() -> Result<String> {
    let password = Password::REPOSITORY.chosen("New password for the repository: ")?.ok_or_else(|| {
        Failure::new(Exit::WrongPassword, "a new repository needs a password, and there is no terminal to ask on")
            .hint("set HEIRLOOM_PASSWORD_FILE or HEIRLOOM_PASSWORD, or say --no-password")
    })?;
    if password.is_empty() {
        return Err(
            Failure::failed("the password is empty").hint("say --no-password if everybody may read the repository")
        );
    }
    Ok(password)
}

type Tried = std::result::Result<Repository, StoreError>;

/// Tries `password`, and the recovery key that it may be.
fn unlock_with(password: &str, unlock: &dyn Fn(Unlock) -> Tried) -> Tried {
    let opened = unlock(Unlock::Password(password));
    match (&opened, password.parse::<RecoveryKey>()) {
        (Err(StoreError::WrongPassword), Ok(key)) => unlock(Unlock::Recovery(&key)),
        _ => opened,
    }
}

fn ask_and_unlock(path: &Path, password: Password, report: &Report, unlock: &dyn Fn(Unlock) -> Tried) -> Result<Tried> {
    let ask = || password.ask(&format!("Password of {}: ", path.display()));
    for _ in 1..TRIES_AT_THE_PROMPT {
        match unlock_with(&ask()?, unlock) {
            Err(StoreError::WrongPassword) => report.warn("that is not the password"),
            opened => return Ok(opened),
        }
    }
    Ok(unlock_with(&ask()?, unlock))
}

/// Where rebuildable files go, by the habit of the system; `None` if there is no home, and then there is no cache.
fn cache_dir() -> Option<PathBuf> {
    let folder = folder_of("XDG_CACHE_HOME", "LOCALAPPDATA", "Library/Caches", ".cache")?;
    // It tells what is on a phone. One that is not there yet is made so.
    let _ = private::restrict_folder(&folder);
    Some(folder)
}

/// Where files of this person go that cannot be made again; `None` if there is no home.
pub fn data_dir() -> Option<PathBuf> {
    folder_of("XDG_DATA_HOME", "APPDATA", "Library/Application Support", ".local/share")
}

/// Our folder in the one of a variable, or else in that which Windows names by a variable, and macOS and others by a
/// place in HOME.
fn folder_of(variable: &str, windows: &str, macos: &str, other: &str) -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let of_system = || match cfg!(windows) {
        true => absolute(windows),
        false => absolute("HOME").map(|home| home.join(if cfg!(target_os = "macos") { macos } else { other })),
    };
    absolute(variable).or_else(of_system).map(|folder| folder.join("heirloom"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_a_folder_that_was_named() {
        let global = |repo: Option<&str>| Global { repo: repo.map(Into::into), ..Global::default() };
        assert_eq!(repository_path(&global(Some("/mnt/a"))).unwrap(), Path::new("/mnt/a"));
        for repo in [None, Some(""), Some("s3://bucket/x")] {
            assert_eq!(repository_path(&global(repo)).unwrap_err().exit, Exit::Usage);
        }
    }
}
