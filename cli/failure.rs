//! Why the program did not do what was asked: one place that turns every error into a message, a hint and an exit code.

use std::io;

use heirloom_device::{
    Error as DeviceError,
    mobilebackup2::{Meaning, Refusal},
};
use heirloom_store::{Error as StoreError, Problem};

use crate::interrupt;

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
    /// Somebody else is at work in the repository.
    Busy,
    /// The password is wrong, or there is none.
    WrongPassword,
    /// The repository is not the one that this computer knows.
    Changed,
    /// No phone is in reach, or not the one that was named.
    NoDevice,
    /// The phone does not trust this computer, or is not the one that it was paired with.
    NotTrusted,
    /// The phone did not do it.
    PhoneRefused,
    /// The password of the phone's backups is wrong, or there is none.
    WrongBackupPassword,
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
            Exit::Busy => 11,
            Exit::WrongPassword => 12,
            Exit::Changed => 13,
            Exit::NoDevice => 20,
            Exit::NotTrusted => 21,
            Exit::PhoneRefused => 22,
            Exit::WrongBackupPassword => 23,
            Exit::Damage => 30,
            Exit::Interrupted => 130,
        }
    }
}

impl Exit {
    /// How the program ends that has done what it could in spite of these problems of the repository.
    pub fn in_spite_of(problems: &[Problem]) -> Exit {
        match (problems.iter().any(|problem| !problem.is_newer), problems.is_empty()) {
            (true, _) => Exit::Damage,
            (false, false) => Exit::Incomplete,
            (false, true) => Exit::Ok,
        }
    }
}

/// Words a warning of a problem of `whose` repository that did not stop what was done.
pub fn of_repository(whose: &str, problem: &Problem) -> String {
    if problem.is_newer { problem.to_string() } else { format!("{whose} repository is damaged: {problem}") }
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

    /// The command line cannot be understood.
    pub fn of_usage(error: &clap::Error) -> Failure {
        if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Failure::new(Exit::Usage, "it was not said what to do").hint("`heirloom help` lists the commands");
        }
        let text = error.render().to_string();
        let joined = |lines: &mut dyn Iterator<Item = &str>| lines.map(str::trim).collect::<Vec<_>>().join(" ");
        let is_said = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("[subcommands:");
        let message = joined(&mut text.lines().take_while(is_said));
        let tips: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("tip: ")).collect();
        let hint = if tips.is_empty() { "`heirloom help COMMAND` has examples".to_owned() } else { tips.join("; ") };
        Failure::new(Exit::Usage, message.strip_prefix("error: ").unwrap_or(&message)).hint(hint)
    }

    /// Stdout could not be written. A reader that has seen enough (`heirloom ls latest | head`) is no failure: a
    /// listing ends, silently and well.
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
        Failure::of_store(&error)
    }
}

impl Failure {
    /// What the store says.
    pub fn of_store(error: &StoreError) -> Failure {
        let exit = match error {
            StoreError::NoRepository => Exit::NoRepository,
            StoreError::PasswordNeeded | StoreError::WrongPassword => Exit::WrongPassword,
            StoreError::Interrupted => Exit::Interrupted,
            StoreError::Busy { .. } => Exit::Busy,
            error if error.is_damage() => Exit::Damage,
            _ => Exit::Failed,
        };
        let hint = match error {
            StoreError::NoRepository => Some("create one with `heirloom --repo PATH init`"),
            StoreError::Exists => Some("use it as it is, or give another folder with --repo"),
            StoreError::NotEmpty { .. } => Some("give a folder that is empty or does not exist yet"),
            StoreError::Unsupported { .. } => Some(USE_NEWER),
            StoreError::PasswordNeeded => Some("set HEIRLOOM_PASSWORD_FILE or HEIRLOOM_PASSWORD"),
            StoreError::WrongPassword => Some("the recovery key, all 15 words of it, opens the repository as well"),
            StoreError::SlotInUse => Some("give another password, or the recovery key, to show that you have one"),
            StoreError::Busy { .. } => {
                Some("let it finish; if it is not at work any more: `heirloom prune --end-session ID`")
            }
            StoreError::NoSuchSession { .. } => Some("give its first digits, as they were shown, or more of them"),
            StoreError::SnapshotGone { .. } => {
                Some("somebody has forgotten or pruned it a moment ago: `heirloom snapshots` lists what there is")
            }
            StoreError::Overtaken => Some("run it again: what is still there is not stored twice"),
            StoreError::NoSuchSlot { .. } => Some("`heirloom key list` lists them"),
            StoreError::Pinned { .. } => Some("`heirloom unpin` lets go of it"),
            StoreError::OtherBackup { .. } => {
                Some("give another folder, or delete that one: --force replaces files, and removes none")
            }
            StoreError::TargetExists { .. } => Some("give another folder, or --force to write into this one"),
            StoreError::TargetInTheWay { .. } => Some("move it away, or give another folder"),
            error if error.is_too_large() => Some(
                "the system or the disk limits how long a file may be: `ulimit -f` tells, and FAT32 takes none of 4 GiB",
            ),
            error if error.is_full() => {
                Some("make room and run it again: what was stored is kept, and not stored twice")
            }
            error if error.is_damage() => Some("`heirloom check --read-data` names everything that is damaged"),
            _ => None,
        };
        Failure { exit, message: error.to_string(), hint: hint.map(str::to_owned) }
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Failure {
        use DeviceError::*;
        let (exit, hint) = match error {
            Host(error) => return of_host(error),
            Cancelled if interrupt::requested() => return Failure::interrupted(),
            Cancelled => return Failure::new(Exit::PhoneRefused, "it was cancelled on the phone"),
            MobileBackup(refusal) => return of_refusal(&refusal),
            NoMux { .. } => (Exit::NoDevice, Some(NO_MUX)),
            NoDevice { .. } => (
                Exit::NoDevice,
                Some("connect it with its cable and unlock it; `heirloom devices` lists what is in reach"),
            ),
            Disconnected => {
                (Exit::NoDevice, Some("check the cable and run it again: what has arrived need not be stored again"))
            }
            NotPaired { .. } | InvalidHostId | Forgotten | PairRecord { .. } => {
                (Exit::NotTrusted, Some("`heirloom pair` makes the phone trust this computer"))
            }
            TooOld { .. } => (Exit::PhoneRefused, Some(TOO_OLD)),
            TrustPending => (Exit::NotTrusted, Some("unlock the phone, tap Trust, and run `heirloom pair` again")),
            UserDenied => (
                Exit::NotTrusted,
                Some("unplug the phone and plug it in again, then run `heirloom pair` and tap Trust"),
            ),
            PairingProhibited => (Exit::NotTrusted, Some("connect the phone with its cable to pair it")),
            WrongCertificate => (
                Exit::NotTrusted,
                Some(
                    "nothing was sent to it. If the phone was erased since, `heirloom pair` pairs it anew; if not, another device claims to be it",
                ),
            ),
            Tls(_) => (Exit::NotTrusted, Some("`heirloom pair` pairs the phone anew")),
            PasswordProtected => (Exit::PhoneRefused, Some("unlock the phone and run it again")),
            SyncLocked => (Exit::PhoneRefused, Some("let it finish, or unplug the phone and plug it in again")),
            Timeout => {
                (Exit::PhoneRefused, Some("unlock the phone, look whether it asks for something, and run it again"))
            }
            ServiceLimit { .. } => (Exit::PhoneRefused, Some("wait a minute and run it again, or restart the phone")),
            Unfinished { .. } => (Exit::PhoneRefused, Some("run it again; `--full` if that does not help")),
            Address { .. } => (Exit::Usage, Some("set USBMUXD_SOCKET_ADDRESS to UNIX:/path or host:port, or unset it")),
            Protocol { .. }
            | Plist(_)
            | Lockdown { .. }
            | Service { .. }
            | Afc { .. }
            | Mux { .. }
            | Refused { .. } => (Exit::PhoneRefused, Some("restart the phone and run it again")),
            _ => (Exit::Failed, None),
        };
        Failure { exit, message: error.to_string(), hint: hint.map(str::to_owned) }
    }
}

pub const USE_NEWER: &str = "use a newer version of heirloom";

const NO_MUX: &str = if cfg!(windows) {
    "install the Apple Devices app or iTunes: their service speaks to phones"
} else if cfg!(target_os = "macos") {
    "usbmuxd belongs to macOS; restart the computer"
} else {
    "install and start usbmuxd (`apt install usbmuxd`), or set USBMUXD_SOCKET_ADDRESS"
};

const TOO_OLD: &str =
    "back it up with Finder, the Apple Devices app or idevicebackup2, and keep that with `heirloom import`";

/// What a phone says when it ends an operation by itself.
fn of_refusal(refusal: &Refusal) -> Failure {
    let meaning = refusal.meaning();
    let exit = if meaning == Meaning::WrongPassword { Exit::WrongBackupPassword } else { Exit::PhoneRefused };
    let failure = Failure::new(exit, refusal.to_string());
    match meaning.advice() {
        Some(advice) => failure.hint(advice),
        None => failure,
    }
}

/// What failed on this side while a phone used it as its disk.
fn of_host(error: io::Error) -> Failure {
    if !error.get_ref().is_some_and(|inner| inner.is::<StoreError>()) {
        return Failure::failed(format!("this computer: {error}"));
    }
    match error.into_inner().map(|inner| inner.downcast::<StoreError>()) {
        Some(Ok(error)) => Failure::from(*error),
        _ => Failure::failed("this computer failed"),
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
