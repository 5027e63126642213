//! Snapshots: small sealed records, the only thing that makes chunks reachable (SPEC §10).

use std::{collections::BTreeMap, fmt, path::Path};

mod copies;

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Problem, Result},
    id::{ChunkId, FileHash, SnapshotId},
    index::read_named_bytes,
    repository::Core,
    seal::{FileKind, Sealer},
    storage::Storage,
};
use copies::Copies;

const PAYLOAD_MAX_LEN: usize = 1 << 20;
/// More warnings than these are only counted.
pub const WARNINGS_MAX: usize = 100;
const WARNING_MAX_LEN: usize = 1000;
/// What is remembered of what a record says of the device, which heirloom writes in six short texts.
const DEVICE_TEXTS_MAX: usize = 32;
const DEVICE_TEXT_MAX_LEN: usize = 4096;

/// One backup, as it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The name of its file.
    pub id: SnapshotId,
    /// What the file says.
    pub record: SnapshotRecord,
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Features that a reader must know.
    #[serde(default)]
    pub(crate) needs: Vec<String>,
    /// Whose history this belongs to: the device's UDID.
    pub series: String,
    /// The snapshot of the series that was the newest when this was written.
    pub previous: Option<SnapshotId>,
    /// When the backup was taken by its own account, seconds since 1970.
    pub time: i64,
    /// When it was written here, seconds since 1970.
    pub created: i64,
    pub(crate) root: ChunkId,
    /// Files with content.
    pub files: u64,
    /// Their length together.
    pub bytes: u64,
    /// What the packs written for it take.
    pub added_bytes: u64,
    /// Where it came from.
    pub source: Source,
    /// Whether the phone had encrypted it.
    pub encrypted: bool,
    /// Whether it is kept as plaintext and rebuilt as ciphertext.
    pub sealed: bool,
    /// What is known of the device: `name`, `product_type`, `product_version`, `build_version`, `serial_number`, `folder`.
    #[serde(default)]
    pub device: BTreeMap<String, String>,
    /// What could not be read, the first hundred.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// How many there were.
    #[serde(default)]
    pub warning_count: u64,
    /// How many of its files are missing, or not what they were, because a repository lost something: a repair marked that, or a copy was made of the rest.
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

/// The snapshots of a repository, and those that cannot be read.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// By time, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// One for each that is broken.
    pub problems: Vec<Problem>,
}

impl SnapshotList {
    /// The newest of a series.
    pub fn newest_of(&self, series: &str) -> Option<&Snapshot> {
        self.snapshots.iter().rev().find(|snapshot| snapshot.record.series == series)
    }

    fn of(records: Vec<(SnapshotId, Result<SnapshotRecord>)>, kind: RecordKind) -> SnapshotList {
        let mut list = SnapshotList::default();
        for (id, record) in records {
            match record {
                Ok(record) => list.snapshots.push(Snapshot { id, record }),
                Err(error) => list.problems.push(Problem::from_error(&kind.file(&id), error)),
            }
        }
        list.snapshots.sort_by_key(|snapshot| (snapshot.record.time, snapshot.record.created, snapshot.id));
        list.problems.sort();
        list
    }
}

impl SnapshotRecord {
    /// Writes it into the folder of its kind.
    pub(crate) fn write(&mut self, core: &Core, kind: RecordKind) -> Result<SnapshotId> {
        self.shorten();
        let payload = serde_json::to_vec(self).expect("a record is plain JSON");
        if payload.len() > PAYLOAD_MAX_LEN {
            return Err(Error::Failed("what is known of the device takes more than 1 MiB".into()));
        }
        let bytes = core.sealer.seal_payload(kind.file_kind(), &payload)?;
        let id = FileHash::of(&bytes);
        core.storage.put_file(&kind.file(&id), &bytes)?;
        Ok(id)
    }

    pub(crate) fn parse(payload: &[u8], file: &str) -> Result<SnapshotRecord> {
        #[derive(Deserialize)]
        struct Needs {
            #[serde(default)]
            needs: Vec<String>,
        }
        let not_record = |error: serde_json::Error| Error::damaged(file, format!("it is not a snapshot: {error}"));
        let Needs { needs } = serde_json::from_slice(payload).map_err(not_record)?;
        match needs.first() {
            Some(feature) => Err(Error::Unsupported { file: file.into(), what: format!("the feature {feature:?}") }),
            None => {
                let mut record: SnapshotRecord = serde_json::from_slice(payload).map_err(not_record)?;
                record.shorten();
                Ok(record)
            }
        }
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
            RecordKind::Snapshot => "snapshots",
            RecordKind::Forgotten => "trash",
            RecordKind::Parked => "parked",
        }
    }

    fn file_kind(self) -> FileKind {
        match self {
            RecordKind::Snapshot | RecordKind::Forgotten => FileKind::Snapshot,
            RecordKind::Parked => FileKind::Parked,
        }
    }

    pub(crate) fn file(self, id: &SnapshotId) -> String {
        format!("{}/{id}", self.folder())
    }
}

/// Reads every snapshot; those that were read before from their copies in the folder `cache`, if there is one.
pub(crate) fn read_snapshots(storage: &dyn Storage, sealer: &Sealer, cache: Option<&Path>) -> Result<SnapshotList> {
    let kind = RecordKind::Snapshot;
    Ok(SnapshotList::of(read_each(storage, sealer, kind, Copies::open(cache))?, kind))
}

/// Reads every snapshot that was forgotten.
pub(crate) fn read_trash(storage: &dyn Storage, sealer: &Sealer) -> Result<SnapshotList> {
    let kind = RecordKind::Forgotten;
    Ok(SnapshotList::of(read_records(storage, sealer, kind)?, kind))
}

/// Reads every record of a kind, each of which may be broken; not those that go meanwhile.
pub(crate) fn read_records(
    storage: &dyn Storage,
    sealer: &Sealer,
    kind: RecordKind,
) -> Result<Vec<(SnapshotId, Result<SnapshotRecord>)>> {
    read_each(storage, sealer, kind, Copies::none())
}

fn read_each(
    storage: &dyn Storage,
    sealer: &Sealer,
    kind: RecordKind,
    mut copies: Copies,
) -> Result<Vec<(SnapshotId, Result<SnapshotRecord>)>> {
    let mut records = Vec::new();
    for (id, len) in storage.list_named(kind.folder())? {
        let file = kind.file(&id);
        let read = if len > RecordKind::FILE_MAX_LEN as u64 {
            Err(Error::damaged(&file, "it is too long"))
        } else {
            copies
                .get_or(&id, len, || read_named_bytes(storage, &file, &id, len))
                .and_then(|bytes| sealer.open_payload(kind.file_kind(), &bytes, &file))
                .and_then(|payload| SnapshotRecord::parse(&payload, &file))
        };
        if !read.as_ref().is_err_and(Error::is_missing_file) {
            records.push((id, read));
        }
    }
    copies.save();
    Ok(records)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        Details, Entry, Kind, MemoryStorage, Name, Options, PruneOptions, RepairOptions, Repository, repair,
        spares::delete_spares,
    };
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = SnapshotRecord::parse(&bytes, "snapshots/x");
        }
    }

    #[test]
    fn a_needed_feature_is_named() {
        let error = SnapshotRecord::parse(br#"{"needs":["time travel"]}"#, "snapshots/x").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"snapshots/x needs the feature "time travel", which this version of heirloom does not know"#
        );
    }

    #[test]
    fn what_a_later_program_wrote_is_told_of_and_kept_and_all_else_is_as_ever() {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &Options::default()).unwrap();
        let name = Name::new("HomeDomain", "notes").unwrap();
        let back_up = |text: &str| {
            let mut writer = repository.write("phone").unwrap();
            let content = writer.store(Some(&name), &mut text.as_bytes()).unwrap();
            writer.put(&name, &Entry { content: Some(content), ..Entry::new(Kind::File) }).unwrap();
            writer.commit(Details::new(1, Source::Import)).unwrap().0
        };
        let (mut later, plain) = (back_up("later"), back_up("plain"));
        delete_spares(&*storage, &[later.id]).unwrap();
        storage.delete(&RecordKind::Snapshot.file(&later.id)).unwrap();
        later.record.needs = vec!["time travel".to_owned()];
        let later = later.record.write(repository.core(), RecordKind::Snapshot).unwrap();

        let list = repository.snapshots().unwrap();
        assert_eq!(list.snapshots.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>(), [plain.id]);
        let [problem] = &list.problems[..] else { panic!("{:?}", list.problems) };
        assert!(problem.file.ends_with(&later.to_string()) && problem.to_string().contains("time travel"), "{problem}");
        repository.forget(&[plain]).unwrap();
        back_up("after");

        // Nobody here knows what it reaches, and it is not broken.
        let before = storage.files().clone();
        let go_on = |_| std::ops::ControlFlow::Continue(());
        let refused = repository.prune(&PruneOptions::default(), &go_on).unwrap_err();
        assert!(refused.to_string().contains("time travel"), "{refused}");
        let report = repair(&repository, &RepairOptions::default(), &go_on).unwrap();
        assert_eq!(report.done, []);
        assert!(before.iter().all(|(file, bytes)| file == "reserve" || storage.files().get(file) == Some(bytes)));
    }
}
