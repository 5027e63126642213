//! What is needed of packs that go, written into new ones.
//!
//! Chunks that the newest snapshot of a series holds come first, in the order of its names, so that it is read in few pieces; what is left
//! follows pack by pack. A frame of which everything is needed is carried over as it is, its base with it; of others the chunks are packed anew.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    error::{Error, Result},
    format::pack::{Pack, SegmentPack},
    id::{ChunkId, FileHash},
    progress::{OnEvent, Progress, heed},
    read::{chunks::ChunkReader, walk::walk},
    write::ingest::{Ingest, NewChunk},
};

/// Moves chunks out of packs.
pub(crate) struct Moving<'a> {
    chunks: &'a Arc<ChunkReader>,
    ingest: Ingest,
    /// The needed chunks of each pack that have not been moved yet.
    left: HashMap<FileHash, Left>,
    progress: Progress,
    on_event: OnEvent<'a>,
    /// Packs of which something needed could not be read.
    damaged: HashSet<FileHash>,
}

struct Left {
    pack: SegmentPack,
    ordinals: BTreeSet<u16>,
}

impl<'a> Moving<'a> {
    /// `needed` are the ordinals of the needed chunks of each pack.
    pub(crate) fn new(
        chunks: &'a Arc<ChunkReader>,
        packs: &[SegmentPack],
        needed: &HashMap<FileHash, Vec<u16>>,
        on_event: OnEvent<'a>,
    ) -> Moving<'a> {
        let left = packs.iter().map(|&pack| {
            let ordinals = needed.get(&pack.name).into_iter().flatten().copied().collect();
            (pack.name, Left { pack, ordinals })
        });
        let left: HashMap<FileHash, Left> = left.collect();
        let files_total = left.values().map(|left| left.ordinals.len() as u64).sum();
        let progress = Progress { files_total, ..Progress::default() };
        Moving { chunks, ingest: Ingest::new(chunks), left, progress, on_event, damaged: HashSet::new() }
    }

    /// Moves what the tree `root` holds of it, in the order of names.
    pub(crate) fn move_tree(&mut self, root: &ChunkId) -> Result<()> {
        let chunks = self.chunks;
        walk(chunks, root, &mut |_, id| self.move_chunk(id).map(|()| true))
    }

    fn move_chunk(&mut self, id: &ChunkId) -> Result<()> {
        for place in self.chunks.places(id)? {
            if self.left.get(&place.pack.name).is_some_and(|left| left.ordinals.contains(&place.ordinal)) {
                self.move_frame_of(&place.pack, place.ordinal)?;
            }
        }
        Ok(())
    }

    /// Moves the rest; gives the packs of which something could not be read, and stays.
    pub(crate) fn finish(mut self) -> Result<(Ingest, HashSet<FileHash>)> {
        let packs: BTreeSet<FileHash> = self.left.keys().copied().collect();
        for name in packs {
            while let Some((pack, ordinal)) =
                self.left.get(&name).and_then(|left| Some((left.pack, *left.ordinals.first()?)))
            {
                self.move_frame_of(&pack, ordinal)?;
            }
        }
        self.ingest.flush()?;
        self.damaged.extend(self.ingest.take_unreadable());
        Ok((self.ingest, self.damaged))
    }

    /// Moves what is needed of the frame in which a chunk lies.
    fn move_frame_of(&mut self, pack: &SegmentPack, ordinal: u16) -> Result<()> {
        match self.try_move(pack, ordinal) {
            // It stays where it is, with all that its pack holds.
            Err(error) if error.is_damage() => {
                self.damaged.insert(pack.name);
                self.left.remove(&pack.name);
            }
            other => other?,
        }
        heed((self.on_event)(self.progress))
    }

    fn try_move(&mut self, name: &SegmentPack, ordinal: u16) -> Result<()> {
        let pack = self.chunks.pack(name)?;
        let inside = ordinals_beside(&pack, ordinal)
            .ok_or_else(|| Error::damaged(&pack.file, "the index names a chunk that it does not hold"))?;
        let Some(left) = self.left.get_mut(&name.name) else { return Ok(()) };
        let needed: Vec<u16> = inside.clone().filter(|ordinal| left.ordinals.remove(ordinal)).collect();
        let number = pack.directory.chunks[usize::from(ordinal)].frame;
        let sealed = pack.read_frame(&*self.chunks.core.storage, number)?;
        self.progress.files_done += needed.len() as u64;
        self.progress.bytes_done += sealed.len() as u64;
        if needed.len() == inside.len() {
            return self.ingest.add_frame(pack, name.name, number, sealed);
        }
        let frame = self.chunks.decode(&pack, number, sealed)?;
        let kind = pack.directory.frames[number as usize].kind;
        for ordinal in needed {
            let id = pack.directory.chunks[usize::from(ordinal)].id;
            let plaintext = self.chunks.chunk_of_frame(&pack, ordinal, &frame, &id, kind)?.to_vec();
            self.ingest.add(NewChunk { id, kind, plaintext, previous: None })?;
        }
        Ok(())
    }
}

/// The ordinals of the chunks that share a frame with this one.
fn ordinals_beside(pack: &Pack, ordinal: u16) -> Option<std::ops::Range<u16>> {
    let chunks = &pack.directory.chunks;
    let frame = chunks.get(usize::from(ordinal))?.frame;
    let first = chunks.partition_point(|chunk| chunk.frame < frame);
    let end = chunks.partition_point(|chunk| chunk.frame <= frame);
    Some(first as u16..end as u16)
}
