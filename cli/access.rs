//! The way to the repository: where it is, and its password, which is never taken from the command line.

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use heirloom_store::{Error as StoreError, LocalStorage, RecoveryKey, Repository, Storage, Unlock};

use crate::{
    args::Global,
    failure::{Exit, Failure, Result},
    report::{Report, can_ask},
};

const PASSWORD_MAX_LEN: u64 = 64 << 10;
const TRIES_AT_THE_PROMPT: u32 = 3;

/// The folder of the repository, as it was given.
pub fn repository_path(global: &Global) -> Result<&Path> {
    let path = global.repo.as_deref().filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| {
        Failure::new(Exit::Usage, "it was not said which repository")
            .hint("give --repo PATH, or set HEIRLOOM_REPOSITORY")
    })?;
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
    let path = repository_path(global)?;
    let storage = storage(path);
    let probe = Repository::probe(&*storage).map_err(|error| Failure::from(error).about(path.display()))?;
    for problem in &probe.problems {
        report.warn(problem);
    }
    let unlock = |unlock: Unlock| Repository::open(storage.clone(), unlock, cache_dir().as_deref());
    let opened = if !probe.needs_password {
        unlock(Unlock::Open)
    } else if let Some(password) = given_password()? {
        unlock_with(&password, &unlock)
    } else if can_ask() {
        ask_and_unlock(path, report, &unlock)?
    } else {
        Err(StoreError::PasswordNeeded)
    };
    let repository = opened.map_err(|error| Failure::from(error).about(path.display()))?;
    report.detail(format_args!("opened repository {} in {}", repository.id(), path.display()));
    Ok(repository)
}

/// Chooses the password of a new repository.
pub fn new_password() -> Result<String> {
    if let Some(password) = given_password()? {
        return Ok(password);
    }
    if !can_ask() {
        let failure =
            Failure::new(Exit::WrongPassword, "a new repository needs a password, and there is no terminal to ask on");
        return Err(failure.hint("set HEIRLOOM_PASSWORD_FILE or HEIRLOOM_PASSWORD, or say --no-password"));
    }
    let password = ask("New password for the repository: ")?;
    if password.is_empty() {
        return Err(
            Failure::failed("the password is empty").hint("say --no-password if everybody may read the repository")
        );
    }
    if ask("The same again: ")? != password {
        return Err(Failure::failed("the two passwords are not the same"));
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

fn ask_and_unlock(path: &Path, report: &Report, unlock: &dyn Fn(Unlock) -> Opened) -> Result<Opened> {
    for _ in 1..TRIES_AT_THE_PROMPT {
        match unlock_with(&ask(&format!("Password of {}: ", path.display()))?, unlock) {
            Err(StoreError::WrongPassword) => report.warn("that is not the password"),
            opened => return Ok(opened),
        }
    }
    Ok(unlock_with(&ask(&format!("Password of {}: ", path.display()))?, unlock))
}

fn ask(prompt: &str) -> Result<String> {
    rpassword::prompt_password(prompt).map_err(|error| match error.kind() {
        std::io::ErrorKind::Interrupted | std::io::ErrorKind::UnexpectedEof => Failure::interrupted(),
        _ => Failure::new(Exit::WrongPassword, format!("cannot ask for the password: {error}")),
    })
}

/// The password that the environment gives. A variable that is empty counts as not set.
fn given_password() -> Result<Option<String>> {
    if let Some(password) = variable("HEIRLOOM_PASSWORD") {
        let password = password.into_string().map_err(|_| no_password("HEIRLOOM_PASSWORD is not UTF-8"))?;
        return Ok(Some(password));
    }
    if let Some(file) = variable("HEIRLOOM_PASSWORD_FILE") {
        let file = PathBuf::from(file);
        let mut bytes = Vec::new();
        let read = fs::File::open(&file).and_then(|open| open.take(PASSWORD_MAX_LEN).read_to_end(&mut bytes));
        read.map_err(|error| no_password(format!("cannot read the password from {}: {error}", file.display())))?;
        return first_line(bytes, &file.display().to_string()).map(Some);
    }
    if let Some(command) = variable("HEIRLOOM_PASSWORD_COMMAND") {
        let mut shell = if cfg!(windows) { Command::new("cmd") } else { Command::new("sh") };
        let output = shell
            .arg(if cfg!(windows) { "/C" } else { "-c" })
            .arg(command)
            .stdin(Stdio::inherit())
            .stderr(Stdio::inherit())
            .output();
        let output = output.map_err(|error| no_password(format!("cannot run HEIRLOOM_PASSWORD_COMMAND: {error}")))?;
        if !output.status.success() {
            return Err(no_password(format!("HEIRLOOM_PASSWORD_COMMAND failed: {}", output.status)));
        }
        return first_line(output.stdout, "HEIRLOOM_PASSWORD_COMMAND").map(Some);
    }
    Ok(None)
}

fn variable(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn no_password(message: impl Into<String>) -> Failure {
    Failure::new(Exit::WrongPassword, message)
}

fn first_line(bytes: Vec<u8>, source: &str) -> Result<String> {
    let text = String::from_utf8(bytes).map_err(|_| no_password(format!("{source}: the password is not UTF-8")))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(no_password(format!("{source}: the first line, which is the password, is empty"))),
    }
}

/// Where rebuildable files go, by the habit of the system; `None` if there is no home, and then there is no cache.
fn cache_dir() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = absolute("XDG_CACHE_HOME").or_else(|| {
        if cfg!(windows) {
            absolute("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            absolute("HOME").map(|home| home.join("Library/Caches"))
        } else {
            absolute("HOME").map(|home| home.join(".cache"))
        }
    });
    user.map(|user| user.join("heirloom"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_whole() {
        let line = |text: &str| first_line(text.as_bytes().to_vec(), "file").ok();
        assert_eq!(line("secret\n"), Some("secret".into()));
        assert_eq!(line("secret\r\nnote"), Some("secret".into()));
        assert_eq!(line("  with spaces "), Some("  with spaces ".into()));
        assert_eq!(line(""), None);
        assert_eq!(line("\nsecret"), None);
        assert!(first_line(vec![0xff], "file").is_err());
    }

    #[test]
    fn a_repository_is_a_folder_that_was_named() {
        let global = |repo: Option<&str>| Global { repo: repo.map(Into::into), ..Global::default() };
        assert_eq!(repository_path(&global(Some("/mnt/a"))).unwrap(), Path::new("/mnt/a"));
        for repo in [None, Some(""), Some("s3://bucket/x")] {
            assert_eq!(repository_path(&global(repo)).unwrap_err().exit, Exit::Usage);
        }
    }
}
