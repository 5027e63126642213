//! What a caller hands to a running operation, and what it hears from it.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::{HostPath, PathError};

/// How a caller steers an operation and hears of it. Nothing here is kept after the call.
pub struct Control<'a> {
    /// Once true, the operation ends with [`Error::Cancelled`](crate::Error::Cancelled) within half a second.
    pub cancel: &'a AtomicBool,
    /// Hears what happens; called between messages and blocks, so it must return quickly.
    pub events: &'a mut dyn FnMut(Event<'_>),
    /// The next name that notification_proxy has relayed, if one waits; must not block.
    pub notifications: &'a mut dyn FnMut() -> Option<String>,
    /// How long silence is borne.
    pub timeouts: Timeouts,
}

impl Control<'_> {
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// How long a phone may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// While the connection is set up.
    pub handshake: Duration,
    /// From the request on, wherever the phone falls silent or stops reading: between messages, before a file, within
    /// one. It waits three minutes for its passcode, and scans its disk without a word.
    pub operation: Duration,
}

impl Default for Timeouts {
    /// Half a minute, and a quarter of an hour.
    fn default() -> Self {
        Timeouts { handshake: Duration::from_secs(30), operation: Duration::from_secs(15 * 60) }
    }
}

/// Something a caller may want to show.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// The operation entered a phase.
    Phase(Phase),
    /// How far it is: at each file, at each MiB of a large one, and when the phone states a percentage.
    Progress(Progress<'a>),
    /// The phone shows (true) or has hidden its sheet for the passcode.
    PasscodePrompt(bool),
    /// Something that does not end the operation, but that belongs into its record.
    Warning(Warning),
}

/// What an operation is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The phone has the request, and scans, compares, or waits for its passcode.
    Preparing,
    /// Files flow.
    Transferring,
    /// The phone puts what it sent into its place, and verifies.
    Finishing,
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress<'a> {
    /// The phone's own estimate, 0 to 100; it does not follow the bytes.
    pub percent: Option<f64>,
    /// From the phone.
    pub received: Tally,
    /// To the phone.
    pub sent: Tally,
    /// The file in transfer: its path on the phone in a backup, in the backup in a restore. Empty between files.
    pub current: &'a str,
}

/// What has crossed the connection in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Files that came to their end.
    pub files: u64,
    /// Bytes of their contents, and of the one under way.
    pub bytes: u64,
}

/// Something odd that does not end an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The phone could not read one of its files to the end.
    UnreadableOnPhone {
        /// Its path on the phone.
        device_path: String,
        /// Its path in the backup, as sent.
        host_path: String,
        /// The phone's reason.
        reason: String,
        /// Whether what came was kept; a file of which nothing came is absent.
        kept: bool,
    },
    /// A file that the phone asked for could not be read here. Missing files are not reported: phones ask for files to
    /// find out whether they exist.
    UnreadableHere {
        /// Its path in the backup, as the phone sent it.
        path: String,
        /// Why.
        reason: String,
    },
    /// The phone named something to move or copy that is not there.
    NothingToMove {
        /// What it named.
        path: HostPath,
    },
    /// The phone used a path that was refused.
    RefusedPath {
        /// The path, as far as it can be shown.
        path: String,
        /// Why.
        why: PathError,
    },
    /// The phone asked for a change of a folder that an operation other than a backup only reads. It was told so.
    RefusedChange {
        /// The change that it asked for, as a verb: `write`, `make`, `move`, `copy`, `remove`.
        change: &'static str,
        /// Why it was refused.
        reason: String,
    },
    /// The list of apps could not be left on the phone: after the restore it does not install them by itself.
    NoApplications {
        /// Why.
        reason: String,
    },
    /// The phone does not let the sync lock be taken; the operation goes on without it.
    NoSyncLock {
        /// Why.
        reason: String,
    },
    /// The phone sent a message that this program does not know; it was answered with an error.
    UnknownMessage {
        /// Its name.
        name: String,
    },
    /// The phone speaks a newer DeviceLink than any known one; it was accepted.
    NewerVersion {
        /// The phone's.
        major: u64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::UnreadableOnPhone { device_path, reason, kept: true, .. } => {
                write!(f, "{device_path}: the phone could not read it to the end: {reason}")
            }
            Warning::UnreadableOnPhone { device_path, reason, kept: false, .. } => {
                write!(f, "{device_path}: the phone could not read it: {reason}")
            }
            Warning::UnreadableHere { path, reason } => write!(f, "{path}: could not be sent: {reason}"),
            Warning::NothingToMove { path } => write!(f, "{path}: the phone moved it, but it is not there"),
            Warning::RefusedPath { path, why } => write!(f, "the phone used a path that was refused: {path:?}: {why}"),
            Warning::RefusedChange { change, reason } => {
                write!(f, "the phone wanted to {change} something in the backup, which stays as it is: {reason}")
            }
            Warning::NoApplications { reason } => {
                write!(
                    f,
                    "the list of apps could not be left on the phone, so apps must be installed by hand: {reason}"
                )
            }
            Warning::NoSyncLock { reason } => {
                write!(f, "the phone lets nobody lock it for a sync, so it goes on unlocked: {reason}")
            }
            Warning::UnknownMessage { name } => write!(f, "the phone sent an unknown message, {name:?}"),
            Warning::NewerVersion { major } => write!(f, "the phone speaks a newer DeviceLink, {major}"),
        }
    }
}
