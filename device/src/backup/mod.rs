//! A backup folder (iOS 10 and later): `<UDID>/` with Info.plist, Status.plist, Manifest.plist, Manifest.db, and the
//! blobs at `ab/abcdef...`, named by [`FileId`]. From iOS 4 to 9 there is a [`ManifestMbdb`] instead of the database, and the
//! blobs lie in the folder itself.
//!
//! [`find_backups`] finds folders; [`BackupFolder`] opens what they hold. Nothing here writes. In an encrypted backup a
//! [`Keybag`] opens the [`FileKey`] of each blob and of Manifest.db, which [`Decrypted`] takes.

mod decrypted;
mod error;
mod file_id;
mod folder;
mod info;
mod keybag;
mod manifest;
mod manifest_db;
mod manifest_mbdb;
mod manifest_plist;
mod mb_file;
mod sqlite_source;
mod status;

pub use decrypted::Decrypted;
pub use error::Error;
pub use file_id::FileId;
pub use folder::{ArchiveTime, BackupFolder, Found, SkipReason, Skipped, find_backups, udid_from_folder_name};
pub use info::Info;
pub use keybag::{FileKey, FileKeyError, Keybag, KeybagError, UnlockedKeybag};
pub use manifest::Manifest;
pub use manifest_db::{Kind, ManifestDb, Record, Records, Row, RowFlaw};
pub use manifest_mbdb::ManifestMbdb;
pub use manifest_plist::{Lockdown, ManifestPlist};
pub use mb_file::{Attributes, MbFileError};
pub use status::Status;
