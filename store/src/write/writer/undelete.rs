//! Forgotten snapshots that come back, which is writing: what they reach must be there to stay.

use std::sync::PoisonError;

use super::{SnapshotWriter, packs_that_stay};
use crate::{
    error::{Error, Result},
    format::record::{RecordKind, Snapshot},
    id::ChunkId,
    read::walk::walk,
    repository::Repository,
    snapshots::{
        spares::add_spares,
        trash::{copy_from_trash, delete_left_over},
    },
};

impl Repository {
    /// Moves the record of a snapshot that was forgotten back to where it was.
    ///
    /// # Errors
    /// [`Error::Busy`] while somebody prunes; [`Error::SnapshotGone`] if it is pruned already; what the storage says; or [`Error::Unsupported`] if only a newer
    /// program may write here.
    pub fn undelete(&self, snapshot: &Snapshot) -> Result<()> {
        let core = self.core();
        core.config.check_writable()?;
        let begin = || SnapshotWriter::begin(core, self.cache_dir(), &snapshot.record.series, None);
        core.with_reserve(begin)?.undelete(snapshot)
    }
}

impl SnapshotWriter {
    /// Brings a forgotten snapshot back, with all that it reaches in packs that are there to stay.
    pub(crate) fn undelete(mut self, snapshot: &Snapshot) -> Result<()> {
        // Who begins to prune from now on sees this session, and finds the snapshot when it has ended.
        self.session.refuse_prunes()?;
        let root = snapshot.record.root;
        let core = self.chunks.core.clone();
        *self.relied_on.lock().unwrap_or_else(PoisonError::into_inner) = packs_that_stay(&self.chunks);
        if !self.chunks.index().marks().is_empty()
            && let Err(error) = self.save_from_marked(&root)
        {
            // Who has begun to prune since may delete what is marked, and deletes the record before that.
            let is_there = core.storage.has_file(&RecordKind::Forgotten.file(&snapshot.id))?;
            return Err(if is_there { error } else { Error::SnapshotGone { id: snapshot.id } });
        }
        self.hold(&root)?;
        core.with_reserve(|| copy_from_trash(&core, &snapshot.id))?;
        self.hold_or_withdraw(&snapshot.id, &root)?;
        delete_left_over(&core, &snapshot.id)?;
        core.storage.sync_all()?;
        // A prune that was cut off may have deleted its spare.
        let _ = add_spares(&*core.storage);
        Ok(())
    }

    /// Stores again what of a tree lies only in packs that a mark names.
    fn save_from_marked(&mut self, root: &ChunkId) -> Result<()> {
        let chunks = self.chunks.clone();
        walk(&chunks, root, &mut |kind, id| {
            if !self.has(id)? {
                self.put_chunk(kind, &chunks.read(id, kind)?, |_, _| None)?;
            }
            Ok(true)
        })?;
        self.flush()?;
        chunks.core.storage.sync_all()
    }
}
