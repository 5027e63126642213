//! Apple's backup format.
//!
//! - [`backup`]: a backup folder as Finder, iTunes and idevicebackup2 write it (iOS 10 and later):
//!   finding folders, their property lists, and Manifest.db.
//!
//! Everything read here is taken for hostile: parsers are total functions of their bytes, bounded in time, memory
//! and recursion.

pub mod backup;
mod property_list;

pub use property_list::PlistError;
