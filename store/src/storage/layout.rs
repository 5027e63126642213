//! Names of the folders and files of a repository (SPEC §2).

/// What the repository is, in the clear.
pub(crate) const CONFIG_FILE: &str = "config";
/// Room that a full disk gives back to a prune.
pub(crate) const RESERVE_FILE: &str = "reserve";

pub(crate) const KEYS_FOLDER: &str = "keys";
pub(crate) const PACKS_FOLDER: &str = "packs";
pub(crate) const TREES_FOLDER: &str = "trees";
pub(crate) const INDEX_FOLDER: &str = "index";
pub(crate) const SNAPSHOTS_FOLDER: &str = "snapshots";
pub(crate) const SPARES_FOLDER: &str = "spares";
pub(crate) const PARKED_FOLDER: &str = "parked";
pub(crate) const PASSWORDS_FOLDER: &str = "passwords";
pub(crate) const SESSIONS_FOLDER: &str = "sessions";
pub(crate) const PINS_FOLDER: &str = "pins";
pub(crate) const TRASH_FOLDER: &str = "trash";
pub(crate) const MARKS_FOLDER: &str = "gc";
pub(crate) const PARITY_FOLDER: &str = "parity";
pub(crate) const QUARANTINE_FOLDER: &str = "quarantine";
pub(crate) const TEMPORARY_FOLDER: &str = "tmp";

/// All folders.
pub(crate) const FOLDERS: [&str; 15] = [
    KEYS_FOLDER,
    PACKS_FOLDER,
    TREES_FOLDER,
    INDEX_FOLDER,
    SNAPSHOTS_FOLDER,
    SPARES_FOLDER,
    PARKED_FOLDER,
    PASSWORDS_FOLDER,
    SESSIONS_FOLDER,
    PINS_FOLDER,
    TRASH_FOLDER,
    MARKS_FOLDER,
    PARITY_FOLDER,
    QUARANTINE_FOLDER,
    TEMPORARY_FOLDER,
];
