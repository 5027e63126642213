//! An iPhone as a set of services, and Apple's backup format.
//!
//! From the socket up:
//!
//! - [`mux`]: which phones are connected, and a [`Stream`] to a port of one of them.
//! - [`lockdown`]: the phone's front door: its values, pairing, and the [`services`] behind it, over TLS.
//! - [`pairing`], [`pair_record`]: what makes a phone trust this computer, and where that is kept.
//! - [`services`]: the smaller services, each a file.
//! - [`mobilebackup2`]: backing up and restoring.
//! - [`backup`]: a backup folder as Finder, iTunes and idevicebackup2 write it (iOS 10 and later):
//!   finding folders, their property lists, and Manifest.db.
//!
//! Everything read here is taken for hostile: parsers are total functions of their bytes, bounded in time, memory
//! and recursion. Everything blocks, with a time-out.

pub mod backup;
mod der;
mod error;
pub mod frame;
pub mod lockdown;
pub mod mobilebackup2;
pub mod mux;
pub mod pair_record;
pub mod pairing;
mod property_list;
pub mod services;
mod stream;
pub mod tls;

pub use error::{DEFAULT_TIMEOUT, Error, Result};
pub use property_list::PlistError;
pub use stream::Stream;
