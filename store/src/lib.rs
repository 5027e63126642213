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

// Words that everything speaks.
mod bytes;
mod clock;
mod error;
mod id;
mod name;
pub mod private;
mod progress;

// The layers, from the disk up: each knows those above it in this list alone, but for `snapshots` and `read`, which do not know each other.
mod storage;

mod format;

mod index;

mod repository;

mod read;
mod snapshots;

mod write;

mod maintain;

#[cfg(any(test, fuzzing, feature = "generate", feature = "stages"))]
mod testing;

pub use error::{Error, Problem, Result};
pub use format::{
    entry::{Content, Entry, Kind, PhoneMetadata},
    keys::{LABEL_MAX_LEN, RecoveryKey, SlotKind, Unlock, random_password},
    phone_cipher::Sealing,
    record::{Snapshot, SnapshotRecord, Source},
    seal::Cipher,
};
pub use id::{ChunkId, FileHash, RepositoryId, SnapshotId};
pub use maintain::{
    check::{
        Affected, CheckOptions, CheckReport, Depth, Keyless, LostFile, LostPart, Subset, Verified, check,
        check_packs_without_key, lacking_beside,
    },
    copy::{Copied, Copier, CopyProgress},
    prune::{PruneOptions, PruneOutcome, PrunePlan},
    repair::{Mended, RepairOptions, RepairReport, RepairStep, repair},
    stats::{DiskUse, FileCount, SeriesStats, SnapshotStats, Stats},
};
pub use name::{Name, TreePath};
pub use progress::{OnEvent, Progress};
pub use read::{
    diff::{Change, Diff},
    export::{ExportOptions, ExportStats, export},
    folder::Stat,
    reader::{Prefix, SnapshotReader},
    snapshot_folder::SnapshotFolder,
};
pub use repository::{
    Opening, Options, Probe, Repository, remembered::RememberedPassword, session::SessionInfo, slots::KeySlot,
};
pub use snapshots::{
    list::{RecordPlace, SnapshotList},
    parked::Parked,
};
pub use storage::{Finding, Fitness, LocalStorage, MemoryStorage, Storage, try_out};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use testing::fuzzing;
#[cfg(feature = "generate")]
#[doc(hidden)]
pub use testing::generated;
#[cfg(any(test, feature = "generate"))]
#[doc(hidden)]
pub use testing::later;
#[cfg(feature = "stages")]
#[doc(hidden)]
pub use testing::stages;
pub use write::{
    editor::{Naming, SnapshotEditor},
    file_cache::{FileCache, FileStamp},
    spool::Scratch,
    writer::{Details, Outcome, SnapshotWriter, WriteStats},
};

/// What snapshots and sessions name as their writer.
const PROGRAM: &str = concat!("heirloom ", env!("CARGO_PKG_VERSION"));
