//! A generated iPhone: what is on it, what a day of use changes, and the backup folder a computer would hold of it.
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

mod backup_folder;
mod content;
mod databases;
mod file;
mod manifest;
mod phone;
mod photo;
mod text;

pub use backup_folder::{WriteStats, write_backup};
pub use file::{File, Kind, Location};
pub use phone::{App, Phone};
