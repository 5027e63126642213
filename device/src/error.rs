//! What can go wrong between this computer and a phone.
//!
//! Each variant is one situation that a user can be told about; what only a programmer could act on is `Protocol`.

use std::{io, time::Duration};

use crate::PlistError;

/// The result of talking to a phone.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why talking to a phone failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection failed in a way that is none of the others.
    #[error("the connection to the phone failed: {0}")]
    Io(io::Error),
    /// Nothing came within the time that was set.
    #[error("the phone did not answer in time")]
    Timeout,
    /// The other side ended the connection, or the cable did.
    #[error("the connection to the phone was lost")]
    Disconnected,
    /// The peer said something that the protocol does not allow.
    #[error("the phone broke the protocol: {what}")]
    Protocol {
        /// What was met, and where.
        what: String,
    },
    /// A message is not a property list, or one that is too large.
    #[error("the phone sent a message that cannot be read: {0}")]
    Plist(#[from] PlistError),
    /// Text that is no address of a usbmuxd.
    #[error("{address:?} is neither UNIX:/path nor host:port")]
    Address {
        /// What was given.
        address: String,
    },
    /// Nothing serves the address where the phones are: usbmuxd, or Apple Mobile Device Service.
    #[error("no usbmuxd at {address}: {source}")]
    NoMux {
        /// The address tried.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// usbmuxd refused a request.
    #[error("usbmuxd refused {request} with result {code}")]
    Mux {
        /// The request's `MessageType`.
        request: &'static str,
        /// usbmuxd's result number.
        code: u64,
    },
    /// No phone is connected, or not the one that was named.
    #[error("{}", match udid {
        Some(udid) => format!("no phone {udid} is connected"),
        None => "no phone is connected".to_owned(),
    })]
    NoDevice {
        /// The phone that was looked for, if it was named.
        udid: Option<String>,
    },
    /// The phone does not listen on this port.
    #[error("the phone refused a connection to port {port}")]
    Refused {
        /// The port on the phone.
        port: u16,
    },
    /// No pair record for this phone is known on this computer.
    #[error("this computer is not paired with {udid}")]
    NotPaired {
        /// The phone.
        udid: String,
    },
    /// A pair record exists but cannot be used.
    #[error("the pair record of {udid} is unusable: {what}")]
    PairRecord {
        /// The phone.
        udid: String,
        /// What is wrong with the record.
        what: String,
    },
    /// The phone is locked with its passcode and must be unlocked for this.
    #[error("the phone is locked")]
    PasswordProtected,
    /// The phone shows "Trust This Computer?" and nobody has answered yet.
    #[error("the phone is waiting for an answer to \"Trust This Computer?\"")]
    TrustPending,
    /// Somebody answered "Don't Trust".
    #[error("trust was refused on the phone")]
    UserDenied,
    /// Pairing works over a cable only.
    #[error("the phone does not pair over this connection")]
    PairingProhibited,
    /// The phone has forgotten this computer, or was erased.
    #[error("the phone does not know this computer's pair record")]
    InvalidHostId,
    /// The phone is there and closed the connection while a session began, as phones do that have forgotten this computer.
    #[error("the phone closed the session while it began: it has forgotten this computer, or was erased")]
    Forgotten,
    /// The phone's iOS is older than those that heirloom speaks to.
    #[error("this phone has iOS {version}: heirloom speaks to iOS {} and later", crate::lockdown::OLDEST_IOS)]
    TooOld {
        /// Its `ProductVersion`.
        version: String,
    },
    /// lockdownd refused a request for a reason that no other variant has.
    #[error("the phone refused {request}: {code}")]
    Lockdown {
        /// The request, such as `GetValue`.
        request: &'static str,
        /// Its `Error` text.
        code: String,
    },
    /// The phone runs too many instances of the service; it may work a little later.
    #[error("the phone has no free instance of {name}")]
    ServiceLimit {
        /// The service, such as `com.apple.afc`.
        name: String,
    },
    /// A service refused to start, or refused a request.
    #[error("{name} answered: {code}")]
    Service {
        /// The service, such as `com.apple.afc`.
        name: String,
        /// Its own error text or number.
        code: String,
    },
    /// AFC refused an operation.
    #[error("{path}: {status}")]
    Afc {
        /// The path or operation.
        path: String,
        /// The phone's reason.
        status: crate::services::afc::Status,
    },
    /// TLS could not be agreed on.
    #[error("TLS with the phone failed: {0}")]
    Tls(String),
    /// Who answered does not hold the certificate that the phone got when it was paired.
    #[error("the phone showed another certificate than the one it was paired with")]
    WrongCertificate,
    /// The phone ended a backup or a restore with an error of its own.
    #[error("{0}")]
    MobileBackup(crate::mobilebackup2::Refusal),
    /// The phone says that the backup is done, and Status.plist that it is not whole.
    #[error("the phone ended the backup, but its Status.plist says {}", state.as_deref().unwrap_or("nothing"))]
    Unfinished {
        /// `SnapshotState`, if there is one.
        state: Option<String>,
    },
    /// Another computer or app is syncing with the phone, and did not end within ten seconds.
    #[error("another computer or app is syncing with the phone")]
    SyncLocked,
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// This computer's side failed: its disk, its memory, its files.
    #[error("this computer: {0}")]
    Host(io::Error),
}

/// How long an answer may take where the caller says nothing else.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

impl Error {
    /// A breach of the protocol, in words.
    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Error::Protocol { what: what.into() }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::*;
        match error.kind() {
            TimedOut | WouldBlock => Error::Timeout,
            UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected => Error::Disconnected,
            _ => crate::tls::error_within(&error).unwrap_or(Error::Io(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_become_situations() {
        let of = |kind: io::ErrorKind| Error::from(io::Error::from(kind));
        assert!(matches!(of(io::ErrorKind::WouldBlock), Error::Timeout));
        assert!(matches!(of(io::ErrorKind::TimedOut), Error::Timeout));
        assert!(matches!(of(io::ErrorKind::UnexpectedEof), Error::Disconnected));
        assert!(matches!(of(io::ErrorKind::BrokenPipe), Error::Disconnected));
        assert!(matches!(of(io::ErrorKind::PermissionDenied), Error::Io(_)));
    }
}
