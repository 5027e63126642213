//! A generated iPhone: what is on it, what a day of use changes, the backup folder a computer would hold of it, and the phone
//! itself on a socket.
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! let mut phone = heirloom_sim::Phone::new(1, 300_000_000)?;
//! heirloom_sim::write_backup(&phone, "backups".as_ref())?;
//! phone.live_one_day()?;
//! let stats = heirloom_sim::write_backup(&phone, "backups".as_ref())?; // touches what changed, no more
//! println!("{stats:?}");
//! # Ok(())
//! # }
//! ```
//!
//! The same seed, size and number of days give the same bytes, whatever was written before and whenever it is written.
//!
//! [`Simulator`] attaches a phone to a socket that speaks as usbmuxd does, and behaves as a phone of iOS 16 and later: lockdownd with
//! pairing and mutual TLS, notification_proxy, AFC, installation_proxy, springboardservices, heartbeat and mobilebackup2.
//! It is strict: what a computer does wrong ends the operation with the code a phone would give, and is kept as a complaint.
//! It can be made to fail in the ways of [`Fault`].
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! use heirloom_sim::{After, Fault, Options, Phone, Simulator};
//! let simulator = Simulator::start(Phone::new(1, 20_000_000)?, Options::default())?;
//! println!("USBMUXD_SOCKET_ADDRESS={} idevicebackup2 backup .", simulator.address());
//! simulator.live_one_day()?;
//! simulator.set_fault(Some(Fault::Drop(After::Files(10))));
//! assert!(simulator.complaints().is_empty());
//! # Ok(())
//! # }
//! ```

mod backup_folder;
mod content;
mod databases;
mod file;
mod manifest;
mod phone;
mod photo;
mod simulator;
mod text;

pub use backup_folder::{WriteStats, write_backup};
pub use file::{File, Kind, Location};
pub use phone::{App, Phone};
pub use simulator::{After, Fault, Listen, Options, PathIn, RestoredFile, Simulator, Traffic, Trust};
