//! Records: snapshots that are damaged or missing, and what nobody would miss.

use std::collections::HashSet;

use super::{Repair, RepairStep, aside};
use crate::{
    chunks::ChunkReader,
    error::Result,
    id::{FileHash, SnapshotId},
    index::list_packs,
    parity,
    reach::is_tree_held,
    seal::{self, FileKind},
    snapshot::{RecordKind, Snapshot},
};

/// Records besides snapshots, of which a damaged one is as good as none.
const OTHER_FOLDERS: [&str; 2] = ["parked", "passwords"];

impl Repair<'_> {
    /// Brings snapshots back, and moves aside what is left of those that are lost.
    pub(super) fn mend_records(&mut self) -> Result<()> {
        for id in self.damaged_of(RecordKind::Snapshot.folder())? {
            let file = RecordKind::Snapshot.file(&id);
            if self.restore_snapshot(&id)? {
                continue;
            }
            self.set_aside(&file)?;
            self.set_aside(&parity::parity_file(&id))?;
            self.say(RepairStep::Records, file, "moved to lost+found: the snapshot is lost");
        }
        for id in self.missing_snapshots()? {
            self.restore_snapshot(&id)?;
        }
        for folder in OTHER_FOLDERS {
            for name in self.damaged_of(folder)? {
                let file = format!("{folder}/{name}");
                self.set_aside(&file)?;
                self.say(RepairStep::Records, file, "moved to lost+found: nothing depends on it");
            }
        }
        self.storage.sync_all()
    }

    /// The files of a folder that are not what their names say.
    fn damaged_of(&self, folder: &str) -> Result<Vec<FileHash>> {
        let mut damaged = Vec::new();
        for (name, len) in self.storage.list_folder(folder)? {
            let Some(hash) = FileHash::from_hex(&name) else { continue };
            if !aside::has_name(self.storage, &format!("{folder}/{name}"), len, &hash)? {
                damaged.push(hash);
            }
        }
        damaged.sort();
        Ok(damaged)
    }

    fn restore_snapshot(&mut self, id: &SnapshotId) -> Result<bool> {
        let file = RecordKind::Snapshot.file(id);
        // Nothing but its bytes tells how long it was.
        let Some((bytes, what)) = self.bytes_of(&file, id, 0) else { return Ok(false) };
        if !seal::is_header_of(&bytes, FileKind::Snapshot) {
            return Ok(false);
        }
        self.replace(&file, &bytes)?;
        self.say(RepairStep::Records, file, what);
        Ok(true)
    }

    /// Snapshots that are not here, though something of them is: a sidecar, whose record is deleted after it for good, or damaged remains. And those of a clone of which the
    /// whole content is here: what was forgotten and pruned has lost some.
    fn missing_snapshots(&self) -> Result<Vec<SnapshotId>> {
        let names = |folder: &str| -> Result<HashSet<FileHash>> {
            let listed = self.storage.list_folder(folder)?;
            Ok(listed.iter().filter_map(|(name, _)| FileHash::from_hex(name)).collect())
        };
        let mut known = names(RecordKind::Snapshot.folder())?;
        known.extend(names(RecordKind::Forgotten.folder())?);
        let (chunks, _) = self.repository.chunks()?;
        let named = chunks.index().named_packs();
        let mut missing: HashSet<FileHash> = parity::list(self.storage)?.into_keys().collect();
        let packs = list_packs(self.storage)?;
        missing.retain(|name| !packs.contains_key(name) && !named.contains_key(name));
        for snapshot in
            self.clone_of_this().map_or(Ok(Vec::new()), |from| from.snapshots().map(|list| list.snapshots))?
        {
            if !known.contains(&snapshot.id) && self.is_missed(&chunks, &snapshot)? {
                missing.insert(snapshot.id);
            }
        }
        let mut missing: Vec<SnapshotId> = missing.difference(&known).copied().collect();
        missing.sort();
        Ok(missing)
    }

    /// Whether a snapshot that a clone has was lost here: what is forgotten, or replaced by a repair, is not.
    fn is_missed(&self, chunks: &ChunkReader, snapshot: &Snapshot) -> Result<bool> {
        let aside = self.aside.of(&RecordKind::Snapshot.file(&snapshot.id));
        if aside.is_empty() {
            return is_tree_held(chunks, &snapshot.record.root);
        }
        Ok(aside.iter().all(|file| aside::read_whole(self.storage, file, &snapshot.id).is_none()))
    }
}
