//! Backing up and restoring: the service `com.apple.mobilebackup2`, which speaks DeviceLink.
//!
//! The host asks once, for a backup or a restore; from there the phone drives, and uses the host as its disk.
//!
//! - [`BackupSession`]: a backup or a restore with everything around it: notifications, the lock against other computers.
//! - [`Client`]: the service itself: the handshake, one request, and the loop that answers the phone.
//! - [`HostDir`]: what the phone asks of its host. Paths arrive as [`HostPath`], already checked.
//! - [`Control`], [`Event`]: time-outs and cancelling in, progress and warnings out.
//! - [`Refusal`]: what the phone's own errors mean, and what to do.
//! - [`info_plist`]: the file that the host adds to a backup.

mod client;
mod control;
mod files;
mod host_dir;
pub mod info_plist;
mod link;
mod message;
mod outcome;
mod request;
mod session;
mod transfer;

#[cfg(test)]
mod folder_host_dir;
#[cfg(test)]
mod tests;

pub use client::{Client, Summary};
pub use control::{Control, Event, Phase, Progress, Tally, Timeouts, Warning};
pub use host_dir::{DirEntry, HostDir, HostPath, Kind, PathError, Stat};
pub use message::DeviceMessage;
pub use outcome::{Meaning, Refusal};
pub use request::{BackupRequest, Preset, RestoreOptions, RestoreRequest};
pub use session::{BackupSession, DeviceFiles, Notifications, OBSERVED};
