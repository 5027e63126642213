//! Why the program did not do what was asked: one place that turns every error into a message, a hint and an exit code.

use std::io;

use heirloom_store::Error as StoreError;

/// The result of a command and of its parts.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// How the program ends. The codes are part of its interface; those that restic has, too, are restic's.
/// In ascending order of gravity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// All of it was done.
    #[default]
    Ok,
    /// It was done, but something was missing or unreadable on the way in.
    Incomplete,
    /// It was not done.
    Failed,
    /// It could not be understood.
    Usage,
    /// There is no repository.
    NoRepository,
    /// The password is wrong, or there is none.
    WrongPassword,
    /// The repository is damaged.
    Damage,
    /// Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The number that the system gets.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Incomplete => 3,
            Exit::NoRepository => 10,
            Exit::WrongPassword => 12,
            Exit::Damage => 30,
            Exit::Interrupted => 130,
        }
    }
}

/// What is told to the person: what failed and why, and perhaps what to do about it.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), hint: None }
    }

    /// A failure of no special kind.
    pub fn failed(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Failed, message)
    }

    pub fn interrupted() -> Failure {
        Failure::new(Exit::Interrupted, "interrupted")
    }

    /// Stdout could not be written. A reader that has seen enough (`heirloom ls latest | head`) is no failure: the program
    /// ends, silently and well.
    pub fn of_stdout(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Exit::Ok, String::new()),
            _ => Failure::failed(format!("cannot write to stdout: {error}")),
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Says in front of the message what it is about.
    #[must_use]
    pub fn about(mut self, thing: impl std::fmt::Display) -> Failure {
        self.message = format!("{thing}: {}", self.message);
        self
    }

    /// Whether another part of the same run would fail for the same reason.
    pub fn is_final(&self) -> bool {
        matches!(self.exit, Exit::Ok | Exit::Interrupted | Exit::Damage)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let exit = match &error {
            StoreError::NoRepository => Exit::NoRepository,
            StoreError::PasswordNeeded | StoreError::WrongPassword => Exit::WrongPassword,
            StoreError::Interrupted => Exit::Interrupted,
            error if error.is_damage() => Exit::Damage,
            _ => Exit::Failed,
        };
        let hint = match &error {
            StoreError::NoRepository => Some("create one with `heirloom --repo PATH init`"),
            StoreError::Exists => Some("use it as it is, or give another folder with --repo"),
            StoreError::NotEmpty { .. } => Some("give a folder that is empty or does not exist yet"),
            StoreError::Unsupported { .. } => Some("use a newer version of heirloom"),
            StoreError::PasswordNeeded => Some("set HEIRLOOM_PASSWORD_FILE or HEIRLOOM_PASSWORD"),
            StoreError::WrongPassword => Some("the recovery key, all 15 words of it, opens the repository as well"),
            StoreError::TargetExists { .. } => Some("give another folder, or --force to write into this one"),
            error if error.is_full() => {
                Some("make room and run it again: what was stored is kept, and not stored twice")
            }
            error if error.is_damage() => Some("`heirloom check --read-data` names everything that is damaged"),
            _ => None,
        };
        Failure { exit, message: error.to_string(), hint: hint.map(str::to_owned) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is_one() {
        assert_eq!(Failure::of_stdout(&io::ErrorKind::BrokenPipe.into()).exit, Exit::Ok);
        assert_eq!(Failure::of_stdout(&io::ErrorKind::StorageFull.into()).exit, Exit::Failed);
    }

    #[test]
    fn the_graver_end_wins() {
        assert_eq!(Exit::Ok.max(Exit::Incomplete), Exit::Incomplete);
        assert_eq!(Exit::Incomplete.max(Exit::Failed), Exit::Failed);
        assert_eq!(Exit::Failed.max(Exit::Damage).max(Exit::Interrupted), Exit::Interrupted);
    }

    #[test]
    fn errors_of_the_store_have_their_exit_codes() {
        let damaged = StoreError::Damaged { file: "config".into(), what: "its hash does not fit".into() };
        for (error, code) in [
            (StoreError::NoRepository, 10),
            (StoreError::WrongPassword, 12),
            (StoreError::PasswordNeeded, 12),
            (damaged, 30),
            (StoreError::Exists, 1),
        ] {
            assert_eq!(Failure::from(error).exit.code(), code);
        }
    }
}
