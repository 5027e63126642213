//! Records: snapshots that are damaged or missing, and what nobody would miss.

use std::collections::BTreeSet;

use super::{Repair, RepairStep, quarantine};
use crate::{
    error::Result,
    format::{
        pack::ChunkKind,
        record::{RecordKind, Snapshot, SnapshotRecord},
        seal::FileKind,
    },
    id::{FileHash, SnapshotId},
    read::{chunks::ChunkReader, walk::is_tree_held},
    repository::Repository,
    snapshots::spares::{add_spares, list_lost, spare_file},
    storage::layout::SPARES_FOLDER,
};

/// Records besides snapshots, of which a damaged one is as good as none.
const OTHER_FOLDERS: [&str; 2] = ["parked", "passwords"];

impl Repair<'_> {
    /// Brings snapshots back, and moves aside what is left of those that are lost.
    pub(super) fn mend_records(&mut self) -> Result<()> {
        for id in self.damaged_of(RecordKind::Snapshot.folder())? {
            self.restore_snapshot_or_lose(&id)?;
        }
        for id in self.missing_snapshots()? {
            self.restore_snapshot_or_lose(&id)?;
        }
        for folder in OTHER_FOLDERS {
            for name in self.damaged_of(folder)? {
                let file = format!("{folder}/{name}");
                self.set_aside(&file)?;
                self.say(RepairStep::Records, file, "moved to quarantine: nothing depends on it");
            }
        }
        self.storage.sync_all()
    }

    /// The files of a folder that are not what their names say.
    fn damaged_of(&self, folder: &str) -> Result<Vec<FileHash>> {
        let mut damaged = Vec::new();
        for (name, len) in self.storage.list_named(folder)? {
            let file = format!("{folder}/{name}");
            // One that is not there any more was forgotten, or pruned.
            if !quarantine::has_name(self.storage, &file, len, &name)? && self.storage.has_file(&file)? {
                damaged.push(name);
            }
        }
        damaged.sort();
        Ok(damaged)
    }

    fn restore_snapshot_or_lose(&mut self, id: &SnapshotId) -> Result<()> {
        let file = RecordKind::Snapshot.file(id);
        let spare =
            quarantine::read_whole(self.storage, &spare_file(id), id).map(|bytes| (bytes, "taken from its spare"));
        // Nothing but its bytes tells how long it was.
        match spare.or_else(|| self.bytes_of(&file, id, 0)) {
            Some((bytes, what)) if self.is_of_use(&file, &bytes)? => {
                self.replace(&file, &bytes)?;
                self.say(RepairStep::Records, file, what);
            }
            _ => {
                if self.set_snapshot_aside(id)? {
                    self.say(RepairStep::Records, file, "moved to quarantine: the snapshot is lost");
                }
            }
        }
        Ok(())
    }

    /// Whether the bytes are of a snapshot of this repository. One of which no record is there may have been pruned: then nothing of it is left.
    fn is_of_use(&self, file: &str, bytes: &[u8]) -> Result<bool> {
        if bytes.len() > RecordKind::FILE_MAX_LEN {
            return Ok(false);
        }
        let payload = self.core.sealer.open_payload(FileKind::Snapshot, bytes, file);
        match payload.and_then(|payload| SnapshotRecord::parse(&payload, file)) {
            Ok(record) => {
                let is_known = |read: Result<_>| read.map_or_else(|error| error.is_newer(), |_| true);
                let root = |now: Repository| Ok(now.chunks()?.0.read(&record.root, ChunkKind::Node));
                Ok(self.storage.has_file(file)? || is_known(root(self.now()?)?))
            }
            // What only a later program knows.
            Err(error) => Ok(error.is_newer()),
        }
    }

    /// Moves what there is of a snapshot's record aside; gives false if there is nothing.
    pub(super) fn set_snapshot_aside(&mut self, id: &SnapshotId) -> Result<bool> {
        let spare = spare_file(id);
        // Durably before the record, or the spare would tell that it was lost; and after it, if another has made one until then.
        let had_spare = self.set_aside(&spare)?;
        self.storage.sync_all()?;
        let had_record = self.set_aside(&RecordKind::Snapshot.file(id))?;
        self.set_aside(&spare)?;
        Ok(had_spare || had_record)
    }

    /// Makes the spares that are missing or damaged.
    pub(super) fn mend_spares(&mut self) -> Result<()> {
        for id in self.damaged_of(SPARES_FOLDER)? {
            self.set_aside(&spare_file(&id))?;
        }
        for id in add_spares(self.storage)? {
            self.say(RepairStep::Records, spare_file(&id), "made anew");
        }
        Ok(())
    }

    /// Snapshots that are not here, though their spare is. And those of a clone of which the whole content is here: what was forgotten and pruned has lost some.
    fn missing_snapshots(&self) -> Result<BTreeSet<SnapshotId>> {
        let mut missing = list_lost(self.storage)?;
        let Some(from) = self.clone_of_this() else { return Ok(missing) };
        let mut known = self.storage.names_in(RecordKind::Snapshot.folder())?;
        known.extend(self.storage.names_in(RecordKind::Forgotten.folder())?);
        let (chunks, _) = self.repository.chunks()?;
        for snapshot in from.snapshots()?.snapshots {
            if !known.contains(&snapshot.id) && self.is_missed(&chunks, &snapshot)? {
                missing.insert(snapshot.id);
            }
        }
        Ok(missing)
    }

    /// Whether a snapshot that a clone has was lost here: what is forgotten, or replaced by a repair, is not.
    fn is_missed(&self, chunks: &ChunkReader, snapshot: &Snapshot) -> Result<bool> {
        let aside = self.aside.of(&RecordKind::Snapshot.file(&snapshot.id));
        if aside.is_empty() {
            return match is_tree_held(chunks, &snapshot.record.root) {
                Err(error) if error.is_newer() => Ok(false),
                held => held,
            };
        }
        Ok(aside.iter().all(|file| quarantine::read_whole(self.storage, file, &snapshot.id).is_none()))
    }
}
