//! Records of snapshots: small sealed files, the only thing that makes chunks reachable (SPEC §10).

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    format::{config::is_known, seal::FileKind},
    id::{ChunkId, SnapshotId},
    storage::layout::{PARKED_FOLDER, SNAPSHOTS_FOLDER, TRASH_FOLDER},
};

const PAYLOAD_MAX_LEN: usize = 1 << 20;
pub(crate) const DAY: i64 = 24 * 60 * 60;
/// A phone that claims an earlier time than this before its backup was written is not believed.
const WEEK: i64 = 7 * DAY;
/// More warnings than these are only counted.
pub const WARNINGS_MAX: usize = 100;
const WARNING_MAX_LEN: usize = 1000;
/// Texts about the device in a record that are remembered; heirloom writes six short ones.
const DEVICE_TEXTS_MAX: usize = 32;
const DEVICE_TEXT_MAX_LEN: usize = 4096;

/// One backup, as it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The name of its file.
    pub id: SnapshotId,
    /// The content of the file.
    pub record: SnapshotRecord,
}

/// All that a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Features that a reader must know.
    #[serde(default)]
    pub(crate) needs: Vec<String>,
    /// The history that this belongs to: the device's UDID.
    pub series: String,
    /// The snapshot of the series that was the newest when this was written.
    pub previous: Option<SnapshotId>,
    /// When the backup was taken by its own account, seconds since 1970.
    pub time: i64,
    /// When it was written here, seconds since 1970.
    pub created: i64,
    /// Of a copy, when the first snapshot that it is a copy of was written, seconds since 1970; see
    /// [`kept_at`](SnapshotRecord::kept_at).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<i64>,
    pub(crate) root: ChunkId,
    /// Files with content.
    pub files: u64,
    /// Their length together.
    pub bytes: u64,
    /// Bytes of the packs written for it.
    pub added_bytes: u64,
    /// Where it came from.
    pub source: Source,
    /// Whether the phone had encrypted it.
    pub encrypted: bool,
    /// Whether it is kept as plaintext and rebuilt as ciphertext.
    pub sealed: bool,
    /// Texts about the device: `name`, `product_type`, `product_version`, `build_version`, `serial_number`, `folder`.
    #[serde(default)]
    pub device: BTreeMap<String, String>,
    /// The first hundred things that could not be read.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// How many there were.
    #[serde(default)]
    pub warning_count: u64,
    /// How many of its files are missing, or not what they were, because a repository lost something: a repair marked
    /// that, or a copy was made of the rest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_files: u64,
    /// Name and version of the writer.
    #[serde(default)]
    pub program: String,
    /// Of a copy, which snapshot of which repository it is of: `<repository id>/<snapshot id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where a snapshot came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A folder that another program had made.
    Import,
    /// The device itself.
    Device,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Import => "import",
            Source::Device => "device",
        })
    }
}

impl Snapshot {
    /// A key that is greater the newer a snapshot is (SPEC §10). Of backups of one time those that can be read count as
    /// newer than ciphertext.
    pub fn age(&self) -> impl Ord + use<> {
        let record = &self.record;
        let is_readable = record.sealed || !record.encrypted;
        (record.order(), is_readable, record.created, self.id)
    }
}

/// Dates are claims: the phone's clock, that of the computer, or both may have been wrong.
impl SnapshotRecord {
    /// When it was written, or, if it is a copy, what it is a copy of; seconds since 1970.
    pub fn kept_at(&self) -> i64 {
        self.kept.unwrap_or(self.created)
    }

    /// The time that decides which of two snapshots is newer, seconds since 1970: of a device's own backups when they
    /// were written, of imports
    /// when they were taken. An import that claims to be of the future may be of any time, and is older than all
    /// others.
    pub fn order(&self) -> i64 {
        let kept_at = self.kept_at();
        match self.source {
            Source::Device => kept_at,
            Source::Import if self.time > kept_at.saturating_add(DAY) => i64::MIN,
            Source::Import => self.time.min(kept_at),
        }
    }

    /// When it was taken, as far as that can be believed at the time `now`: seconds since 1970, all of them. No backup
    /// is taken after it is
    /// written, and a device writes its own when it takes them, unless the computer's clock was wrong.
    pub fn credible_time(&self, now: i64) -> i64 {
        let kept_at = self.kept_at();
        let is_long_before = self.time < kept_at.saturating_sub(WEEK) && kept_at <= now;
        let is_after = self.time > kept_at;
        if is_after || self.source == Source::Device && is_long_before { kept_at } else { self.time }
    }

    /// Whether what it says of its own time cannot be: a clock was wrong by more than a day.
    pub fn is_time_doubtful(&self, now: i64) -> bool {
        self.time.abs_diff(self.credible_time(now)) > DAY as u64
    }

    /// What is sealed in its file.
    pub(crate) fn payload(&mut self) -> Result<Vec<u8>> {
        self.shorten();
        let payload = serde_json::to_vec(self).expect("a record is plain JSON");
        if payload.len() > PAYLOAD_MAX_LEN {
            return Err(Error::Failed("what is known of the device takes more than 1 MiB".into()));
        }
        Ok(payload)
    }

    pub(crate) fn parse(payload: &[u8], file: &str) -> Result<SnapshotRecord> {
        /// These decide whether the rest can be understood.
        #[derive(Deserialize)]
        struct Needs {
            #[serde(default)]
            needs: Vec<String>,
            source: Option<String>,
        }
        let not_record = |error: serde_json::Error| Error::damaged(file, format!("it is not a snapshot: {error}"));
        let Needs { needs, source } = serde_json::from_slice(payload).map_err(not_record)?;
        if let Some(feature) = needs.first() {
            return Err(Error::newer(file, format!("the feature {feature:?}")));
        }
        if let Some(source) = source.filter(|source| !is_known::<Source>(source)) {
            return Err(Error::newer(file, format!("snapshots of the source {source:?}")));
        }
        let mut record: SnapshotRecord = serde_json::from_slice(payload).map_err(not_record)?;
        record.shorten();
        Ok(record)
    }

    /// Leaves out what is beyond the format's limits: there may be very many records in memory at once.
    fn shorten(&mut self) {
        let cut = |text: &mut String, len| text.truncate(text.floor_char_boundary(len));
        self.warnings.truncate(WARNINGS_MAX);
        self.warnings.iter_mut().for_each(|warning| cut(warning, WARNING_MAX_LEN));
        while self.device.len() > DEVICE_TEXTS_MAX {
            self.device.pop_last();
        }
        self.device.values_mut().for_each(|text| cut(text, DEVICE_TEXT_MAX_LEN));
    }
}

/// What a record is of: a snapshot, one that was forgotten, or a run that was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Snapshot,
    /// A snapshot that may be undeleted.
    Forgotten,
    Parked,
}

impl RecordKind {
    /// What a record takes at most, sealed.
    pub(crate) const FILE_MAX_LEN: usize = 2 * PAYLOAD_MAX_LEN;

    pub(crate) const fn folder(self) -> &'static str {
        match self {
            RecordKind::Snapshot => SNAPSHOTS_FOLDER,
            RecordKind::Forgotten => TRASH_FOLDER,
            RecordKind::Parked => PARKED_FOLDER,
        }
    }

    pub(crate) fn file_kind(self) -> FileKind {
        match self {
            RecordKind::Snapshot | RecordKind::Forgotten => FileKind::Snapshot,
            RecordKind::Parked => FileKind::Parked,
        }
    }

    pub(crate) fn file(self, id: &SnapshotId) -> String {
        format!("{}/{id}", self.folder())
    }
}
