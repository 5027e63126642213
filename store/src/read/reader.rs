//! Files out of a snapshot.

use std::io::Write;

use crate::{
    error::{Error, Problem, Result},
    format::{
        chunk_list::for_each_chunk,
        entry::{Content, Entry},
        pack::ChunkKind,
        phone_cipher::Resealing,
        record::Snapshot,
        tree::{TreeIter, parse_item},
    },
    name::{Name, TreePath},
    read::chunks::ChunkReader,
    repository::Repository,
};

impl Repository {
    /// Reads a snapshot.
    ///
    /// # Errors
    /// Any failure of the storage.
    pub fn read(&self, snapshot: &Snapshot) -> Result<SnapshotReader> {
        Ok(SnapshotReader::new(self.chunks()?.0, snapshot.clone()))
    }

    /// The chunks, and what is wrong with the index.
    pub(crate) fn chunks(&self) -> Result<(ChunkReader, Vec<Problem>)> {
        let (index, problems) = self.core().load_index(self.cache_dir())?;
        Ok((ChunkReader::following(self.core().clone(), index, self.cache_dir()), problems))
    }
}

/// Reads one snapshot. Nobody who prunes waits for a reader: if the snapshot was forgotten and pruned meanwhile, what is read of it fails
/// with [`Error::SnapshotGone`].
pub struct SnapshotReader {
    pub(crate) chunks: ChunkReader,
    snapshot: Snapshot,
}

/// Which entries to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefix(Vec<u8>);

impl Prefix {
    /// Every entry.
    pub fn all() -> Prefix {
        Prefix::default()
    }

    /// Those of a domain.
    pub fn domain(domain: &str) -> Prefix {
        Prefix([domain.as_bytes(), b"\0"].concat())
    }

    /// Those below a path of a domain, without the path itself.
    pub fn below(domain: &str, path: &TreePath) -> Prefix {
        Prefix([domain.as_bytes(), b"\0", path.as_str().as_bytes(), b"/"].concat())
    }
}

impl SnapshotReader {
    pub(crate) fn new(chunks: ChunkReader, snapshot: Snapshot) -> SnapshotReader {
        SnapshotReader { chunks, snapshot }
    }

    /// The snapshot being read.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The entries of `prefix` by domain and path. What cannot be read is an error in its place.
    pub fn entries(&self, prefix: &Prefix) -> impl Iterator<Item = Result<(Name, Entry)>> + use<'_> {
        let prefix = prefix.0.clone();
        TreeIter::new(&self.chunks, self.snapshot.record.root, &prefix)
            .take_while(move |item| !matches!(item, Ok((key, _)) if !key.starts_with(&prefix)))
            .map(|item| item.and_then(|(key, entry)| parse_item(&key, &entry)).map_err(|error| self.explain(error)))
    }

    /// The entry of `name`, if there is one.
    ///
    /// # Errors
    /// What is damaged on the way to it.
    pub fn get(&self, name: &Name) -> Result<Option<Entry>> {
        let first = TreeIter::new(&self.chunks, self.snapshot.record.root, name.key()).next().transpose();
        let entry = first.and_then(|first| match first {
            Some((key, entry)) if key == name.key() => parse_item(&key, &entry).map(|(_, entry)| Some(entry)),
            _ => Ok(None),
        });
        entry.map_err(|error| self.explain(error))
    }

    /// Writes a content as it was in the backup folder, checked.
    ///
    /// # Errors
    /// What is damaged, after some bytes may have been written; [`Error::Source`] if `into` fails.
    pub fn read_file(&self, content: &Content, into: &mut dyn Write) -> Result<()> {
        read_content(&self.chunks, content, into).map_err(|error| self.explain(error))
    }

    /// Writes what the phone's user sees of a file: of a sealed content the plaintext, of any other what was in the folder.
    ///
    /// # Errors
    /// As [`read_file`](SnapshotReader::read_file).
    pub fn read_plaintext(&self, content: &Content, into: &mut dyn Write) -> Result<()> {
        if !content.is_sealed() {
            return self.read_file(content, into);
        }
        let written = for_each_chunk(&self.chunks, content, &mut |chunk| {
            into.write_all(&self.chunks.read(&chunk.id, ChunkKind::Data)?).map_err(Error::Source)
        });
        written.map_err(|error| self.explain(error))
    }

    fn explain(&self, error: Error) -> Error {
        self.chunks.core.explain(&self.snapshot.id, error)
    }
}

pub(crate) fn read_content(chunks: &ChunkReader, content: &Content, into: &mut dyn Write) -> Result<()> {
    let mut hasher = blake3::Hasher::new();
    let mut write = |bytes: &[u8]| {
        hasher.update(bytes);
        into.write_all(bytes).map_err(Error::Source)
    };
    let mut resealing = content.sealing.as_ref().map(Resealing::of);
    for_each_chunk(chunks, content, &mut |chunk| {
        let bytes = chunks.read(&chunk.id, ChunkKind::Data)?;
        match &mut resealing {
            Some(resealing) => write(&resealing.seal(&bytes).map_err(Error::Source)?),
            None => write(&bytes),
        }
    })?;
    if let (Some(resealing), Some(sealing)) = (resealing, &content.sealing) {
        write(&resealing.finish(sealing, content.length).map_err(Error::Source)?)?;
    }
    if *hasher.finalize().as_bytes() == content.hash { Ok(()) } else { Err(Error::WrongContent) }
}
