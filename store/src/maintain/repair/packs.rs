//! Packs that are damaged or missing, and the index of what is there.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rayon::prelude::*;

use super::{Repair, RepairStep, quarantine};
use crate::{
    error::Result,
    format::{
        pack::{Pack, PackId, SegmentPack, chunk_id, list_packs},
        parity,
    },
    id::{ChunkId, FileHash},
    index::SegmentBuilder,
    progress::Tally,
    read::chunks::ChunkReader,
    storage::layout::INDEX_FOLDER,
    write::ingest::{Ingest, NewChunk},
};

impl Repair<'_> {
    /// Segments that are damaged: from a clone, or aside. What they named is read from the packs.
    pub(super) fn mend_segments(&mut self) -> Result<()> {
        for (name, len) in self.storage.list_named(INDEX_FOLDER)? {
            let file = format!("{INDEX_FOLDER}/{name}");
            if quarantine::has_name(self.storage, &file, len, &name)? {
                continue;
            }
            if let Some(bytes) = self.clone_storage().and_then(|clone| quarantine::read_whole(clone, &file, &name)) {
                self.replace(&file, &bytes)?;
                self.say(RepairStep::Index, file, "taken from the other repository");
            } else if self.set_aside(&file)? {
                self.say(RepairStep::Index, file, "moved to quarantine");
            }
        }
        self.storage.sync_all()
    }

    /// Brings packs back, saves what can be read of the others, and has the index name what is there.
    pub(super) fn mend_packs(&mut self) -> Result<()> {
        let (index, _) = self.core.load_index(self.repository.cache_dir())?;
        let broken = self.broken_packs(&index.named_packs())?;
        drop(index);
        let mut lost = Vec::new();
        for pack in broken {
            if !self.restore_pack(&pack)? {
                lost.push(pack);
            }
        }
        self.storage.sync_all()?;
        self.salvage(&lost)?;
        for pack in &lost {
            let file = pack.file();
            let was_there = self.set_aside(&file)?;
            self.set_aside(&parity::parity_file(&pack.name))?;
            let what = if was_there { "moved to quarantine" } else { "it is lost" };
            self.say(RepairStep::Packs, file, what);
        }
        self.storage.sync_all()
    }

    /// Reads every pack, and gives those that do not have their names, and those that only a segment names: each with the length that a segment says, or
    /// else that which it has.
    fn broken_packs(&self, named: &HashMap<PackId, u64>) -> Result<Vec<SegmentPack>> {
        let pack_of = |(&(kind, name), &len): (&PackId, &u64)| SegmentPack { name, kind, len };
        let listed = list_packs(self.storage)?;
        let packs: Vec<SegmentPack> = listed.iter().map(pack_of).collect();
        let tally = Tally::new(packs.len() as u64, packs.iter().map(|pack| pack.len).sum(), self.on_event);
        let is_whole = |pack: &SegmentPack| {
            let is_whole = quarantine::has_name(self.storage, &pack.file(), pack.len, &pack.name)?;
            tally.pass(pack.len).map(|()| is_whole)
        };
        let verdicts: Vec<bool> = packs.par_iter().map(is_whole).collect::<Result<_>>()?;
        let missing = named.iter().filter(|(pack, _)| !listed.contains_key(*pack)).map(pack_of);
        let damaged = packs.into_iter().zip(verdicts).filter(|(_, is_whole)| !is_whole);
        let damaged = damaged.map(|(pack, _)| SegmentPack { len: *named.get(&pack.id()).unwrap_or(&pack.len), ..pack });
        let mut broken: Vec<SegmentPack> = damaged.chain(missing).collect();
        broken.sort_unstable();
        Ok(broken)
    }

    /// Puts a pack back, if its bytes are to be had.
    fn restore_pack(&mut self, pack: &SegmentPack) -> Result<bool> {
        let file = pack.file();
        let Some((bytes, what)) = self.bytes_of(&file, &pack.name, pack.len) else { return Ok(false) };
        self.replace(&file, &bytes)?;
        self.say(RepairStep::Packs, file, what);
        Ok(true)
    }

    /// The bytes of a file that is damaged or missing, and where they are from. It had `len` bytes, as far as that is known.
    pub(super) fn bytes_of(&self, file: &str, name: &FileHash, len: u64) -> Option<(Vec<u8>, &'static str)> {
        let remains = self.remains(file);
        let cut = |file: &String| self.storage.read_exactly(file, 0, usize::try_from(len).ok()?).ok();
        let is_whole = |bytes: &Vec<u8>| FileHash::of(bytes) == *name;
        if let Some(bytes) = remains.iter().filter(|_| len < 1 << 31).filter_map(cut).find(is_whole) {
            return Some((bytes, "cut to its length"));
        }
        if let Some(bytes) = parity::restore(self.storage, name, &remains) {
            return Some((bytes, "restored from its parity"));
        }
        let bytes = self.clone_storage().and_then(|clone| quarantine::read_whole(clone, file, name))?;
        Some((bytes, "taken from the other repository"))
    }

    /// Writes what can be read of packs that are lost, and nowhere else, into new packs, and a segment that names what is there and nothing else.
    fn salvage(&mut self, lost: &[SegmentPack]) -> Result<()> {
        let (index, _) = self.core.load_index(self.repository.cache_dir())?;
        let chunks = Arc::new(ChunkReader::new(self.core.clone(), index));
        let mut salvage = Salvage {
            ingest: Ingest::new(&chunks),
            chunks: chunks.clone(),
            lost: lost.iter().map(|pack| pack.name).collect(),
            saved: HashSet::new(),
        };
        lost.iter().try_for_each(|pack| self.save_from(pack, &mut salvage))?;
        let Salvage { mut ingest, lost: gone, .. } = salvage;
        let (written, _) = ingest.finish()?;
        self.storage.sync_all()?;
        self.write_index(&chunks, &gone, written)
    }

    fn save_from(&mut self, pack: &SegmentPack, salvage: &mut Salvage) -> Result<()> {
        let (file, before) = (pack.file(), salvage.saved.len());
        for remains in self.remains(&file) {
            salvage.save(&remains, pack)?;
        }
        let count = salvage.saved.len() - before;
        if count > 0 {
            self.say(RepairStep::Packs, file, format!("{count} of its chunks are in new packs"));
        }
        Ok(())
    }

    /// Has a segment name the packs that none names, those that were `written`, and what is there of those that segments with packs that are `gone` name.
    fn write_index(&mut self, chunks: &ChunkReader, gone: &HashSet<FileHash>, written: SegmentBuilder) -> Result<()> {
        let mut index = chunks.index_mut();
        index.drop_packs(gone);
        let mut segment = index.begin_segment(|_| true)?;
        let unlisted = segment.packs().len();
        segment.append(written);
        for name in index.take_stale(&mut segment)? {
            let file = format!("{INDEX_FOLDER}/{name}");
            self.say(RepairStep::Index, file, "another segment stands in its place, without the packs that are lost");
        }
        if unlisted > 0 {
            self.say(RepairStep::Index, INDEX_FOLDER, format!("a segment names {unlisted} packs that none named"));
        }
        self.session.write_segment(&mut index, segment, self.repository.cache_dir())?;
        self.storage.sync_all()
    }
}

/// What is saved of packs that are lost.
struct Salvage {
    chunks: Arc<ChunkReader>,
    ingest: Ingest,
    lost: HashSet<FileHash>,
    saved: HashSet<ChunkId>,
}

impl Salvage {
    /// Saves the chunks of a pack that can be read from `file`.
    fn save(&mut self, file: &str, pack: &SegmentPack) -> Result<()> {
        let core = self.chunks.core.clone();
        let Ok(pack) = Pack::open_at(&*core.storage, &core.sealer, pack, file) else { return Ok(()) };
        for (number, inside) in (0u32..).zip(pack.directory.chunks.chunk_by(|a, b| a.frame == b.frame)) {
            let mut wanted = Vec::new();
            for chunk in inside {
                if !self.is_held(&chunk.id)? {
                    wanted.push(chunk);
                }
            }
            if wanted.is_empty() {
                continue;
            }
            let sealed = pack.read_frame(&*core.storage, number);
            let Ok(frame) = sealed.and_then(|sealed| self.chunks.decode(&pack, number, sealed)) else { continue };
            let kind = pack.directory.frames[number as usize].kind;
            for chunk in wanted {
                let plaintext = &frame[chunk.offset as usize..][..chunk.len as usize];
                if chunk_id(&core.keys.id, kind, plaintext) == chunk.id && self.saved.insert(chunk.id) {
                    let plaintext = plaintext.to_vec();
                    self.ingest.add(NewChunk { id: chunk.id, kind, plaintext, previous: None })?;
                }
            }
        }
        Ok(())
    }

    /// Whether a chunk was saved, or lies in a pack that stays.
    fn is_held(&self, id: &ChunkId) -> Result<bool> {
        Ok(self.saved.contains(id) || self.chunks.index().contains(id, &|pack| !self.lost.contains(pack))?)
    }
}
