//! Trees of files in, deduplicated and encrypted snapshots of them, and files out again, byte for byte.
//!
//! SPEC.md is the contract of what lies on the disk. This library knows nothing of phones: it keeps entries by *name* (a domain
//! and a path in it), each with its *place* in a backup folder. It prints nothing, reads no environment, and never exits.
//!
//! ```
//! use std::{collections::BTreeMap, sync::Arc};
//! use heirloom_store::*;
//!
//! let storage = Arc::new(MemoryStorage::default());
//! let (repository, recovery_key) = Repository::create(storage, Some("correct horse"), &Options::default())?;
//! assert_eq!(recovery_key.unwrap().to_string().split(' ').count(), 15);
//!
//! let mut editor = repository.edit("00008101-001A2B3C4D5E6F78", None)?;
//! let place = TreePath::new("3d/3d0d7e5fb2ce288813306e4d4636395e047a3d28")?;
//! editor.write_file(&place, None, 0, &mut "hello".as_bytes())?;
//! let mut naming = editor.name_files()?;
//! naming.describe(&Name::new("HomeDomain", "Library/SMS/sms.db")?, Some(&place), Entry::new(Kind::File))?;
//! let (snapshot, _) = naming.commit(Details::new(1_600_000_000, Source::Import))?;
//!
//! let reader = repository.read(&snapshot)?;
//! let (name, entry) = reader.entries(&Prefix::domain("HomeDomain")).next().unwrap()?;
//! let mut bytes = Vec::new();
//! reader.read_file(&entry.content.unwrap(), &mut bytes)?;
//! assert_eq!((name.path(), bytes.as_slice()), ("Library/SMS/sms.db", b"hello".as_slice()));
//! # Ok::<(), heirloom_store::Error>(())
//! ```

// The repository and its snapshots.
mod parked;
mod pins;
mod remembered;
mod repair;
mod repository;
mod session;
mod slots;
mod snapshot;
mod trash;

// Room back, and whose it is.
mod numbered;
mod prune;
mod reach;
mod reserve;
mod stats;

// Into it.
mod chunker;
mod copy;
mod editor;
mod file_cache;
mod folder;
mod ingest;
mod previous;
mod writer;

// Out of it.
mod check;
mod chunks;
mod diff;
mod export;
mod reader;
mod snapshot_folder;

// What it is made of.
mod config;
mod content;
mod delta;
mod entry;
mod index;
mod keys;
mod mark;
mod pack;
mod parity;
mod rebuilt;
mod record;
mod sealing;
mod spares;
mod tree;

// Below.
mod bytes;
mod clock;
mod codec;
mod error;
mod id;
mod layout;
mod machine;
mod name;
mod positioned;
pub mod private;
mod progress;
mod seal;
mod spool;
mod storage;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod vectors;

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(feature = "stages")]
#[doc(hidden)]
pub mod stages;

#[cfg(feature = "generate")]
#[doc(hidden)]
pub mod generated;

#[cfg(any(test, feature = "generate"))]
#[doc(hidden)]
pub mod later;

pub use check::{
    Affected, CheckOptions, CheckReport, Depth, Keyless, LostFile, LostPart, Subset, Verified, check,
    check_packs_without_key, lacking_beside,
};
pub use copy::{Copied, Copier, CopyProgress};
pub use diff::{Change, Diff};
pub use editor::{Naming, SnapshotEditor};
pub use entry::{Content, Entry, Kind, PhoneMetadata};
pub use error::{Error, Problem, Result};
pub use export::{ExportOptions, ExportStats, export};
pub use file_cache::{FileCache, FileStamp};
pub use folder::Stat;
pub use id::{ChunkId, FileHash, RepositoryId, SnapshotId};
pub use keys::{LABEL_MAX_LEN, RecoveryKey, SlotKind, Unlock, random_password};
pub use name::{Name, TreePath};
pub use parked::Parked;
pub use progress::{OnEvent, Progress};
pub use prune::{PruneOptions, PruneOutcome, PrunePlan};
pub use reader::{Prefix, SnapshotReader};
pub use record::{Snapshot, SnapshotRecord, Source};
pub use remembered::RememberedPassword;
pub use repair::{Mended, RepairOptions, RepairReport, RepairStep, repair};
pub use repository::{Opening, Options, Probe, Repository};
pub use seal::Cipher;
pub use sealing::Sealing;
pub use session::SessionInfo;
pub use slots::KeySlot;
pub use snapshot::{RecordPlace, SnapshotList};
pub use snapshot_folder::SnapshotFolder;
pub use spool::Scratch;
pub use stats::{DiskUse, FileCount, SeriesStats, SnapshotStats, Stats};
pub use storage::{Finding, Fitness, LocalStorage, MemoryStorage, Storage, try_out};
pub use writer::{Details, Outcome, SnapshotWriter, WriteStats};

/// What snapshots and sessions name as their writer.
const PROGRAM: &str = concat!("heirloom ", env!("CARGO_PKG_VERSION"));
