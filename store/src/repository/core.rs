//! All that the parts of an open repository share.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, Problem, Result},
    format::{
        chunker::Chunker,
        config::Config,
        keys::Keys,
        pack::SegmentPack,
        parity,
        record::{RecordKind, SnapshotRecord},
        seal::{FileKind, Sealer},
    },
    id::{FileHash, SnapshotId},
    index::{Index, SegmentBuilder},
    storage::Storage,
};

/// What every part of an open repository needs.
pub(crate) struct Core {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) config: Config,
    pub(crate) keys: Keys,
    pub(crate) sealer: Sealer,
    pub(crate) chunker: Chunker,
    /// Packs in which damage was found since the repository was opened: what they hold is stored again if it comes by.
    pub(crate) distrusted: Mutex<HashSet<FileHash>>,
}

impl Core {
    /// What went wrong with a snapshot that was read: if it is not there any more, what is missing of it is no damage.
    pub(crate) fn explain(&self, snapshot: &SnapshotId, error: Error) -> Error {
        if error.is_damage() { self.require(snapshot).err().unwrap_or(error) } else { error }
    }

    /// Fails if a snapshot is not in the repository any more.
    pub(crate) fn require(&self, snapshot: &SnapshotId) -> Result<()> {
        match self.storage.has_file(&RecordKind::Snapshot.file(snapshot)) {
            Ok(false) => Err(Error::SnapshotGone { id: *snapshot }),
            _ => Ok(()),
        }
    }

    pub(crate) fn distrust(&self, pack: FileHash) {
        self.distrusted().insert(pack);
    }

    pub(crate) fn distrusts(&self, pack: &FileHash) -> bool {
        self.distrusted().contains(pack)
    }

    pub(crate) fn distrusts_any(&self) -> bool {
        !self.distrusted().is_empty()
    }

    fn distrusted(&self) -> MutexGuard<'_, HashSet<FileHash>> {
        self.distrusted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn load_index(&self, cache_dir: Option<&Path>) -> Result<(Index, Vec<Problem>)> {
        Index::load(&*self.storage, &self.sealer, index_cache(cache_dir).as_deref())
    }

    /// Begins a segment with those of the packs that none names which are `wanted`, once their bytes have shown to be what their names say and they
    /// have the sidecars that they lacked. One whose bytes are others counts as gone, and is told of.
    pub(crate) fn adopt_unlisted(
        &self,
        index: &mut Index,
        wanted: impl Fn(&SegmentPack) -> bool,
    ) -> Result<(SegmentBuilder, Vec<Problem>)> {
        let problems = index.verify_unlisted(&*self.storage, &wanted)?;
        let packs: Vec<SegmentPack> = index.unlisted_packs().into_iter().filter(&wanted).collect();
        // Nothing depends on it: a check tells if this fails.
        let _ = self.add_parity(&packs);
        Ok((index.begin_segment(wanted)?, problems))
    }

    /// Writes the sidecars that packs lack, if the repository has parity: a run that was cut off may have written a pack alone.
    pub(crate) fn add_parity(&self, packs: &[SegmentPack]) -> Result<()> {
        if packs.is_empty() || !self.config.parity {
            return Ok(());
        }
        let (storage, listed) = (&*self.storage, parity::list(&*self.storage)?);
        for pack in packs.iter().filter(|pack| !listed.contains_key(&pack.name)) {
            let bytes = storage.read_exactly(&pack.file(), 0, pack.len as usize)?;
            parity::write(storage, &self.config.id, &pack.name, &bytes)?;
        }
        Ok(())
    }

    /// Writes a record into the folder of its kind.
    pub(crate) fn put_record(&self, kind: RecordKind, record: &mut SnapshotRecord) -> Result<SnapshotId> {
        let bytes = self.sealer.seal_payload(kind.file_kind(), &record.payload()?)?;
        let id = FileHash::of(&bytes);
        self.storage.put_file(&kind.file(&id), &bytes)?;
        Ok(id)
    }

    /// Writes a small file of JSON, sealed as one of `kind`.
    pub(crate) fn put_json(&self, kind: FileKind, file: &str, value: &impl Serialize) -> Result<()> {
        let payload = serde_json::to_vec(value).expect("it is plain JSON");
        self.storage.put_file(file, &self.sealer.seal_payload(kind, &payload)?)
    }

    /// Reads what [`put_json`](Core::put_json) wrote, if the file is at most `limit` bytes long.
    pub(crate) fn read_json<T: DeserializeOwned>(&self, kind: FileKind, file: &str, limit: usize) -> Result<T> {
        let bytes = self.storage.read_whole(file, limit)?;
        let payload = self.sealer.open_payload(kind, &bytes, file).map_err(|error| match error {
            // No name tells whether a bit has flipped.
            Error::Unsupported { what, .. } => Error::damaged(file, format!("its header says {what}")),
            error => error,
        })?;
        serde_json::from_slice(&payload)
            .map_err(|error| Error::damaged(file, format!("what is sealed in it is not understood: {error}")))
    }
}

/// Where the copies of segments are kept.
pub(crate) fn index_cache(cache_dir: Option<&Path>) -> Option<PathBuf> {
    cache_dir.map(|dir| dir.join("index"))
}
