//! The way to the repository: where it is, and its password, which is never taken from the command line.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
};

use heirloom_store::{Error as StoreError, LocalStorage, Probe, RecoveryKey, Repository, Storage, Unlock};

use crate::{
    args::Global,
    failure::{Exit, Failure, Result},
    password::Password,
    report::{Report, can_ask},
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

fn as_folder(path: &Path) -> Result<&Path> {
    match path.to_str().and_then(|text| text.split_once("://")) {
        Some((scheme, _)) => {
            Err(Failure::new(Exit::Usage, format!("{scheme}: repositories are folders"))
                .hint("give the path of a folder"))
        }
        None => Ok(path),
    }
}

/// The storage in the folder at `path`, untouched as yet.
pub fn storage(path: &Path) -> Arc<dyn Storage> {
    Arc::new(LocalStorage::new(path))
}

/// Opens the repository that was given, with a password if it needs one.
pub fn open(global: &Global, report: &Report) -> Result<Repository> {
    open_at(repository_path(global)?, Password::REPOSITORY, Repository::probe, Repository::open, report)
}

/// The same of a repository that may have lost even its config.
pub fn open_damaged(global: &Global, report: &Report) -> Result<Repository> {
    let path = repository_path(global)?;
    open_at(path, Password::REPOSITORY, Repository::probe_damaged, Repository::open_damaged, report)
}

/// Opens another repository, at `path`, by `password` if it needs one.
pub fn open_other(path: &Path, password: Password, report: &Report) -> Result<Repository> {
    open_at(path, password, Repository::probe, Repository::open, report)
}

/// What failed with the repository at `path`. What to do where there is none depends on whether something is left of one.
pub fn failure_at(path: &Path, storage: &dyn Storage, error: StoreError) -> Failure {
    let program = format!("heirloom --repo {}", path.display());
    let hint = match error {
        StoreError::NoRepository if Repository::probe_damaged(storage).is_ok() => {
            format!("if a copy was cut off, finish it; else put what is left in order with `{program} repair`")
        }
        StoreError::NoRepository => format!("create one with `{program} init`"),
        error => return Failure::from(error).about(path.display()),
    };
    Failure::from(error).hint(hint).about(path.display())
}

fn open_at(
    path: &Path,
    password: Password,
    probe: fn(&dyn Storage) -> std::result::Result<Probe, StoreError>,
    open: fn(Arc<dyn Storage>, Unlock, Option<&Path>) -> Opened,
    report: &Report,
) -> Result<Repository> {
    let storage = storage(as_folder(path)?);
    let failed = |error: StoreError| match error {
        StoreError::PasswordNeeded => password.wanted(&error.to_string()).about(path.display()),
        error => failure_at(path, &*storage, error),
    };
    let probe = probe(&*storage).map_err(failed)?;
    for problem in &probe.problems {
        report.warn(problem);
    }
    let unlock = |unlock: Unlock| open(storage.clone(), unlock, cache_dir().as_deref());
    let opened = if !probe.needs_password {
        unlock(Unlock::Open)
    } else if let Some(password) = password.given()? {
        unlock_with(&password, &unlock)
    } else if can_ask() {
        ask_and_unlock(path, password, report, &unlock)?
    } else {
        return Err(password.wanted(&format!("{} needs its password", path.display())));
    };
    let repository = opened.map_err(failed)?;
    report.detail(format_args!("opened repository {} in {}", repository.id(), path.display()));
    Ok(repository)
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

type Opened = std::result::Result<Repository, StoreError>;

/// Tries `password`, and the recovery key that it may be.
fn unlock_with(password: &str, unlock: &dyn Fn(Unlock) -> Opened) -> Opened {
    let opened = unlock(Unlock::Password(password));
    match (&opened, password.parse::<RecoveryKey>()) {
        (Err(StoreError::WrongPassword), Ok(key)) => unlock(Unlock::Recovery(&key)),
        _ => opened,
    }
}

fn ask_and_unlock(
    path: &Path,
    password: Password,
    report: &Report,
    unlock: &dyn Fn(Unlock) -> Opened,
) -> Result<Opened> {
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
    folder_of("XDG_CACHE_HOME", "LOCALAPPDATA", "Library/Caches", ".cache")
}

/// Where files of this person go that cannot be made again; `None` if there is no home.
pub fn data_dir() -> Option<PathBuf> {
    folder_of("XDG_DATA_HOME", "APPDATA", "Library/Application Support", ".local/share")
}

/// Our folder in the one of a variable, or else in that which Windows names by a variable, and macOS and others by a place in HOME.
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
