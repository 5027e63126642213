//! This library against the simulated phone, over its socket: from the muxer to a backup and a restore, in good order
//! and with everything that can go wrong.

mod connected;
#[path = "../../src/mobilebackup2/folder_host_dir.rs"]
mod folder_host_dir;

mod faults;
mod muxer;
mod operations;
mod pairing;

// What `folder_host_dir` finds above it in the library.
use heirloom_device::mobilebackup2::{DirEntry, HostDir, HostPath, Kind, Stat};
