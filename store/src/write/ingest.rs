//! New chunks on their way into packs: gathered into frames, compressed on all cores, sealed in order of arrival, written behind.
//!
//! The caller's thread reads, cuts and hashes, so an id is known at once and only what is new comes here. A chunk that has an earlier version becomes a
//! delta against it if that is much smaller; what is left of its neighbours shares a frame with it. What waits is bounded by bytes: the caller
//! blocks when [`QUEUE_MAX_BYTES`] are under way.

use std::{
    collections::HashSet,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use crate::{
    error::{Error, Result},
    format::{
        codec::{self, Encoding},
        pack::{Base, ChunkKind, Directory, NewFrame, Pack, PackBuilder, PackKind, SegmentPack},
        parity,
    },
    id::{ChunkId, FileHash},
    index::SegmentBuilder,
    read::chunks::ChunkReader,
    repository::core::Core,
};

/// Plaintext that may wait to be compressed.
const QUEUE_MAX_BYTES: usize = 32 << 20;
/// Chunks are handed to another core in batches of at most this size, of which one frame may be made: an eighth of it costs 5 % more on a phone's
/// databases, and twice as much saves 1 %.
const BATCH_MAX_BYTES: usize = 2 << 20;
/// A pack holds at least so many batches.
const BATCHES_A_PACK: usize = 8;
/// Data chunks of more are not looked for among neighbours: they have a frame of their own.
const SOLID_MAX_LEN: usize = 256 << 10;
const WRITER_THREADS: usize = 2;

/// A chunk that no pack holds yet.
pub(crate) struct NewChunk {
    pub(crate) id: ChunkId,
    pub(crate) kind: ChunkKind,
    pub(crate) plaintext: Vec<u8>,
    /// The version before it, which the repository holds.
    pub(crate) previous: Option<ChunkId>,
}

impl NewChunk {
    fn id_and_len(&self) -> (ChunkId, usize) {
        (self.id, self.plaintext.len())
    }
}

/// The way into packs. [`finish`](Ingest::finish) brings everything to the disk; dropping it leaves what was written so far.
pub(crate) struct Ingest {
    shared: Arc<Shared>,
    batch: Vec<NewChunk>,
    batch_bytes: usize,
    batch_max_bytes: usize,
    writers: Vec<JoinHandle<()>>,
}

struct Shared {
    core: Arc<Core>,
    /// For the bases of deltas.
    chunks: Arc<ChunkReader>,
    state: Mutex<State>,
    /// Signalled whenever bytes leave the queue or a pack is written.
    left: Condvar,
    data_packer: Mutex<Packer>,
    tree_packer: Mutex<Packer>,
}

#[derive(Default)]
struct State {
    queued_bytes: usize,
    failure: Option<Error>,
    /// Packs that are on the disk, for the next segment.
    written: SegmentBuilder,
    added_bytes: u64,
    packs_sent: u64,
    packs_written: u64,
    /// Packs of frames that were to be carried over, and are not whole.
    unreadable: HashSet<FileHash>,
}

/// Fills packs of one kind.
struct Packer {
    kind: PackKind,
    open: Option<PackBuilder>,
    full: Option<SyncSender<PackBuilder>>,
}

impl Ingest {
    pub(crate) fn new(chunks: &Arc<ChunkReader>) -> Ingest {
        let (full, receiver) = sync_channel(0);
        let packer = |kind| Mutex::new(Packer { kind, open: None, full: Some(full.clone()) });
        let shared = Arc::new(Shared {
            core: chunks.core.clone(),
            chunks: chunks.clone(),
            state: Mutex::default(),
            left: Condvar::new(),
            data_packer: packer(PackKind::Data),
            tree_packer: packer(PackKind::Tree),
        });
        let receiver = Arc::new(Mutex::new(receiver));
        let writers = (0..WRITER_THREADS).map(|_| {
            let (shared, receiver) = (shared.clone(), receiver.clone());
            std::thread::spawn(move || write_packs(&shared, &receiver))
        });
        let writers = writers.collect();
        let batch_max_bytes = BATCH_MAX_BYTES.min(chunks.core.config.pack_bytes as usize / BATCHES_A_PACK);
        Ingest { shared, batch: Vec::new(), batch_bytes: 0, batch_max_bytes, writers }
    }

    /// Takes a new chunk. Fails if anything has failed behind.
    pub(crate) fn add(&mut self, chunk: NewChunk) -> Result<()> {
        let len = chunk.plaintext.len();
        if len > SOLID_MAX_LEN {
            return self.send(vec![chunk], len);
        }
        if self.batch_bytes + len > self.batch_max_bytes {
            self.send_batch()?;
        }
        self.batch_bytes += len;
        self.batch.push(chunk);
        Ok(())
    }

    /// Takes frame `number` of a pack, as it lies there, to be carried over when it has been proved. One that is not whole is not carried over, and
    /// its pack [told](Ingest::take_unreadable).
    pub(crate) fn add_frame(&mut self, pack: Arc<Pack>, name: FileHash, number: u32, sealed: Vec<u8>) -> Result<()> {
        let bytes = sealed.len() + pack.directory.frames[number as usize].decoded_len;
        self.spawn(bytes, move |shared| match shared.carry(&pack, number, sealed) {
            Err(error) if error.is_damage() => {
                shared.lock().unreadable.insert(name);
                Ok(())
            }
            other => other,
        })
    }

    /// The packs whose frames were not whole.
    pub(crate) fn take_unreadable(&mut self) -> HashSet<FileHash> {
        std::mem::take(&mut self.shared.lock().unreadable)
    }

    fn send_batch(&mut self) -> Result<()> {
        let (batch, bytes) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.batch_bytes));
        self.send(batch, bytes)
    }

    fn send(&mut self, batch: Vec<NewChunk>, bytes: usize) -> Result<()> {
        self.spawn(bytes, move |shared| shared.encode(batch))
    }

    /// Hands work on so many bytes to another core, waiting for room. More than there is room for goes alone.
    fn spawn(&mut self, bytes: usize, work: impl FnOnce(&Shared) -> Result<()> + Send + 'static) -> Result<()> {
        let fits = |state: &State| state.queued_bytes == 0 || state.queued_bytes + bytes <= QUEUE_MAX_BYTES;
        let mut state = self.shared.wait(fits)?;
        state.queued_bytes += bytes;
        drop(state);
        let shared = self.shared.clone();
        rayon::spawn(move || {
            let result = work(&shared);
            shared.leave(bytes, result);
        });
        Ok(())
    }

    /// Packs that were written since the last call, for a segment.
    pub(crate) fn take_written(&mut self, at_least: usize) -> Option<SegmentBuilder> {
        let mut state = self.shared.lock();
        (state.written.entry_count() >= at_least).then(|| std::mem::take(&mut state.written))
    }

    /// Whether packs were written that no segment names yet.
    pub(crate) fn has_written(&self) -> Result<bool> {
        let state = self.shared.wait(|state| state.queued_bytes == 0)?;
        Ok(state.packs_sent != state.packs_written || !state.written.is_empty())
    }

    /// Waits until everything is in packs and those are written.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.send_batch()?;
        drop(self.shared.wait(|state| state.queued_bytes == 0)?);
        for packer in [&self.shared.data_packer, &self.shared.tree_packer] {
            let unwritten = lock(packer).open.take();
            unwritten.map_or(Ok(()), |pack| self.shared.write_pack(pack))?;
        }
        self.shared.wait(|state| state.packs_sent == state.packs_written).map(drop)
    }

    /// Flushes, and returns the packs for a segment, and how long all packs of this ingest are.
    pub(crate) fn finish(&mut self) -> Result<(SegmentBuilder, u64)> {
        self.flush()?;
        let mut state = self.shared.lock();
        Ok((std::mem::take(&mut state.written), state.added_bytes))
    }

    /// Ends the writer threads when they have written what they were given.
    fn stop(&mut self) {
        for packer in [&self.shared.data_packer, &self.shared.tree_packer] {
            lock(packer).full = None;
        }
        for writer in self.writers.drain(..) {
            if writer.join().is_err() {
                self.shared.fail(Error::Failed("a thread that writes packs has panicked".into()));
            }
        }
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        // What is still queued would find no writer: let it end first, then the threads.
        self.shared.fail(Error::Interrupted);
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits for `ready`, or for a failure behind.
    fn wait(&self, ready: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        loop {
            if let Some(error) = &state.failure {
                let earlier = Error::Failed(error.to_string());
                return Err(state.failure.replace(earlier).expect("there is a failure"));
            }
            if ready(&state) {
                return Ok(state);
            }
            state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn leave(&self, bytes: usize, result: Result<()>) {
        if let Err(error) = result {
            self.fail(error);
        }
        self.lock().queued_bytes -= bytes;
        self.left.notify_all();
    }

    /// Keeps the first failure.
    fn fail(&self, error: Error) {
        self.lock().failure.get_or_insert(error);
        self.left.notify_all();
    }

    /// Brings a batch into packs.
    fn encode(&self, batch: Vec<NewChunk>) -> Result<()> {
        if self.lock().failure.is_some() {
            return Ok(());
        }
        let mut solid = Solid::default();
        for chunk in batch {
            if let Some((base, delta)) = self.delta_of(&chunk) {
                self.put(Encoding::Delta, chunk.kind, Some(base), &[chunk.id_and_len()], &delta)?;
            } else if chunk.kind == ChunkKind::Data {
                solid.add(chunk);
            } else {
                self.put_encoded(chunk.kind, &[chunk.id_and_len()], &chunk.plaintext)?;
            }
        }
        if solid.chunks.is_empty() {
            Ok(())
        } else {
            self.put_encoded(ChunkKind::Data, &solid.chunks, &solid.plaintext)
        }
    }

    /// A chunk as a delta against an earlier version, if that is worth it. A base that cannot be read is none, nor is one that a mark names.
    fn delta_of(&self, chunk: &NewChunk) -> Option<(Base, Vec<u8>)> {
        let base = self.chunks.base_after(chunk.previous?).ok()??;
        if !self.chunks.holds(&base.id).ok()? {
            return None;
        }
        let plaintext = self.chunks.read(&base.id, chunk.kind).ok()?;
        Some((base, codec::encode_delta(&chunk.plaintext, &plaintext)?))
    }

    /// Brings a frame of another pack into one of these, if all chunks in it are whole.
    fn carry(&self, pack: &Pack, number: u32, sealed: Vec<u8>) -> Result<()> {
        let frame = &pack.directory.frames[number as usize];
        let plaintext = self.chunks.decode(pack, number, sealed.clone())?;
        let mut chunks = Vec::new();
        for (chunk, ordinal) in pack.directory.chunks.iter().zip(0u16..).filter(|(chunk, _)| chunk.frame == number) {
            self.chunks.chunk_of_frame(pack, ordinal, &plaintext, &chunk.id, frame.kind)?;
            chunks.push((chunk.id, chunk.len as usize));
        }
        let encoded = pack.unseal(number, sealed)?;
        self.put(frame.encoding, frame.kind, frame.base, &chunks, &encoded)
    }

    fn put_encoded(&self, kind: ChunkKind, chunks: &[(ChunkId, usize)], plaintext: &[u8]) -> Result<()> {
        codec::encode(plaintext, |encoding, encoded| self.put(encoding, kind, None, chunks, encoded))
    }

    /// Adds a frame to the pack of its kind.
    fn put(
        &self,
        encoding: Encoding,
        kind: ChunkKind,
        base: Option<Base>,
        chunks: &[(ChunkId, usize)],
        encoded: &[u8],
    ) -> Result<()> {
        let packer = if kind.pack() == PackKind::Data { &self.data_packer } else { &self.tree_packer };
        let mut packer = lock(packer);
        if let Some(full) = packer.add(&self.core, &NewFrame { encoding, kind, base, chunks, encoded })? {
            self.lock().packs_sent += 1;
            packer.send(full)?;
        }
        Ok(())
    }

    fn write_pack(&self, pack: PackBuilder) -> Result<()> {
        let kind = pack.kind();
        let Some((bytes, directory)) = pack.finish() else { return Ok(()) };
        let pack = SegmentPack { name: FileHash::of(&bytes), kind, len: bytes.len() as u64 };
        let core = &self.core;
        core.storage.put_file(&pack.file(), &bytes)?;
        if core.config.parity {
            parity::write(&*core.storage, &core.config.id, &pack.name, &bytes)?;
        }
        self.note_written(pack, &directory);
        Ok(())
    }

    fn note_written(&self, pack: SegmentPack, directory: &Directory) {
        let mut state = self.lock();
        state.added_bytes += pack.len;
        state.written.add_pack(pack, directory);
    }
}

/// Chunks that share a frame. Only data do: tree nodes are read one by one, and the hashes in them do not compress.
#[derive(Default)]
struct Solid {
    chunks: Vec<(ChunkId, usize)>,
    plaintext: Vec<u8>,
}

impl Solid {
    fn add(&mut self, chunk: NewChunk) {
        self.chunks.push(chunk.id_and_len());
        if self.plaintext.is_empty() {
            self.plaintext = chunk.plaintext;
        } else {
            self.plaintext.extend_from_slice(&chunk.plaintext);
        }
    }
}

impl Packer {
    /// Adds a frame; returns the pack before, if that had no room for it.
    fn add(&mut self, core: &Core, frame: &NewFrame) -> Result<Option<PackBuilder>> {
        let pack_bytes = core.config.pack_bytes as usize;
        let is_full =
            |pack: &PackBuilder| pack.len() + frame.encoded.len() > pack_bytes || !pack.has_room(frame.chunks.len());
        let full = self.open.take_if(|pack| is_full(pack));
        let pack = match &mut self.open {
            Some(pack) => pack,
            none => none.insert(PackBuilder::new(&core.sealer, self.kind, pack_bytes + (pack_bytes >> 5))?),
        };
        pack.add(frame);
        Ok(full)
    }

    /// Hands a pack to a writer thread, waiting for one. Those who have chunks for the next wait meanwhile.
    fn send(&self, full: PackBuilder) -> Result<()> {
        let sent = self.full.as_ref().map(|writers| writers.send(full));
        sent.and_then(Result::ok).ok_or_else(|| Error::Failed("nothing writes packs any more".into()))
    }
}

/// A writer thread: writes packs until nobody can send one.
fn write_packs(shared: &Shared, receiver: &Mutex<Receiver<PackBuilder>>) {
    loop {
        let received = lock(receiver).recv();
        let Ok(pack) = received else { return };
        let failed = shared.lock().failure.is_some();
        if let Err(error) = if failed { Ok(()) } else { shared.write_pack(pack) } {
            shared.fail(error);
        }
        shared.lock().packs_written += 1;
        shared.left.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Details, Entry, Kind, MemoryStorage, Name, Options, Repository, Snapshot, Source,
        format::{delta::DELTA_MAX_DEPTH, entry::Chunks},
    };

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    /// Makes a snapshot of one file.
    fn keep(repository: &Repository, time: i64, bytes: &[u8]) -> (Snapshot, u64) {
        let name = Name::new("HomeDomain", "Library/SMS/sms.db").unwrap();
        let mut writer = repository.write("phone").unwrap();
        let content = Some(writer.store(Some(&name), &mut &*bytes).unwrap());
        writer.put(&name, &Entry { content, ..Entry::new(Kind::File) }).unwrap();
        let (snapshot, stats) = writer.commit(Details::new(time, Source::Import)).unwrap();
        (snapshot, stats.added_bytes)
    }

    #[test]
    fn every_version_of_a_file_costs_its_change_and_none_is_deeper_than_eight() {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage, None, &Options::default()).unwrap();
        let mut bytes = [b"SQLite format 3\0".as_slice(), &noise(0, 300_000)].concat();
        let (mut versions, mut depths) = (Vec::new(), [0; 1 + DELTA_MAX_DEPTH as usize]);
        for time in 0..150 {
            let at = 100 + time as usize * 7919 % 65_000;
            bytes[at..at + 40].copy_from_slice(&noise(time as u64 + 1, 40));
            let (snapshot, added) = keep(&repository, time, &bytes);
            assert!(time == 0 || added < 30_000, "version {time} costs {added}");
            let reader = repository.read(&snapshot).unwrap();
            let (_, entry) = reader.entries(&crate::Prefix::all()).next().unwrap().unwrap();
            let content = entry.content.unwrap();
            let Chunks::Inline(chunks) = &content.chunks else { panic!("{content:?}") };
            let mut depth = 0;
            let mut below = reader.chunks.delta_of(&chunks[0].id).unwrap();
            while let Some(base) = below {
                depth += 1;
                below = reader.chunks.delta_of(&base.id).unwrap();
            }
            depths[depth] += 1;
            versions.push((snapshot, content, bytes.clone()));
        }
        assert!(depths[0] == 1 && depths[1..].iter().all(|&count| count > 0), "{depths:?}");
        for (snapshot, content, bytes) in versions {
            let mut read = Vec::new();
            repository.read(&snapshot).unwrap().read_file(&content, &mut read).unwrap();
            assert!(read == bytes);
        }
        let report = crate::check(&repository, crate::Depth::ReadData, &|_| std::ops::ControlFlow::Continue(()));
        assert!(report.unwrap().is_whole());
    }

    #[test]
    fn a_version_whose_base_is_lost_stands_alone() {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &Options::default()).unwrap();
        let mut bytes = noise(1, 50_000);
        keep(&repository, 0, &bytes);
        let data_pack = |files: &std::collections::BTreeMap<String, Vec<u8>>| {
            let is_data = |(name, _): &(&String, &Vec<u8>)| name.starts_with("packs/");
            files.iter().find(is_data).unwrap().0.clone()
        };
        let pack = data_pack(&storage.files());
        storage.files().get_mut(&pack).unwrap()[30_000] ^= 1;
        bytes[7] ^= 1;
        let (snapshot, added) = keep(&repository, 1, &bytes);
        assert!(added > 50_000);
        let reader = repository.read(&snapshot).unwrap();
        let (_, entry) = reader.entries(&crate::Prefix::all()).next().unwrap().unwrap();
        let mut read = Vec::new();
        reader.read_file(&entry.content.unwrap(), &mut read).unwrap();
        assert!(read == bytes);
    }
}
