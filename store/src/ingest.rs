//! New chunks on their way into packs: compressed on all cores, sealed in order of arrival, written behind.
//!
//! The caller's thread reads, cuts and hashes, so an id is known at once and only what is new comes here. What waits is bounded by bytes:
//! the caller blocks when [`QUEUE_MAX_BYTES`] are under way.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use crate::{
    codec::{self, Encoding},
    error::{Error, Result},
    id::{ChunkId, FileHash},
    index::{SegmentBuilder, SegmentPack},
    pack::{ChunkKind, Directory, PackBuilder, pack_file},
    repository::Core,
    seal::FileKind,
};

/// Plaintext that may wait to be compressed.
const QUEUE_MAX_BYTES: usize = 32 << 20;
/// Chunks are handed to another core in batches of about this size.
const BATCH_BYTES: usize = 256 << 10;
const WRITER_THREADS: usize = 2;

/// A chunk that no pack holds yet.
struct NewChunk {
    id: ChunkId,
    kind: ChunkKind,
    plaintext: Vec<u8>,
}

/// The way into packs. [`finish`](Ingest::finish) brings everything to the disk; dropping it leaves what was written so far.
pub(crate) struct Ingest {
    shared: Arc<Shared>,
    batch: Vec<NewChunk>,
    batch_bytes: usize,
    writers: Vec<JoinHandle<()>>,
}

struct Shared {
    core: Arc<Core>,
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
}

/// Fills packs of one kind.
struct Packer {
    kind: FileKind,
    open: Option<PackBuilder>,
    full: Option<SyncSender<PackBuilder>>,
}

impl Ingest {
    pub(crate) fn new(core: &Arc<Core>) -> Ingest {
        let (full, receiver) = sync_channel(0);
        let packer = |kind| Mutex::new(Packer { kind, open: None, full: Some(full.clone()) });
        let shared = Arc::new(Shared {
            core: core.clone(),
            state: Mutex::default(),
            left: Condvar::new(),
            data_packer: packer(FileKind::DataPack),
            tree_packer: packer(FileKind::TreePack),
        });
        let receiver = Arc::new(Mutex::new(receiver));
        let writers = (0..WRITER_THREADS).map(|_| {
            let (shared, receiver) = (shared.clone(), receiver.clone());
            std::thread::spawn(move || write_packs(&shared, &receiver))
        });
        let writers = writers.collect();
        Ingest { shared, batch: Vec::new(), batch_bytes: 0, writers }
    }

    /// Takes a new chunk. Fails if anything has failed behind.
    pub(crate) fn add(&mut self, id: ChunkId, kind: ChunkKind, plaintext: Vec<u8>) -> Result<()> {
        self.batch_bytes += plaintext.len();
        self.batch.push(NewChunk { id, kind, plaintext });
        if self.batch_bytes >= BATCH_BYTES { self.send() } else { Ok(()) }
    }

    /// Hands the batch to another core, waiting for room.
    fn send(&mut self) -> Result<()> {
        let (batch, bytes) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.batch_bytes));
        let mut state = self.shared.wait(|state| state.queued_bytes + bytes <= QUEUE_MAX_BYTES)?;
        state.queued_bytes += bytes;
        drop(state);
        let shared = self.shared.clone();
        rayon::spawn(move || {
            let result = batch.into_iter().try_for_each(|chunk| shared.encode(&chunk));
            shared.leave(bytes, result);
        });
        Ok(())
    }

    /// Packs that were written since the last call, for a segment.
    pub(crate) fn take_written(&mut self, at_least: usize) -> Option<SegmentBuilder> {
        let mut state = self.shared.lock();
        (state.written.entry_count() >= at_least).then(|| std::mem::take(&mut state.written))
    }

    /// Waits until everything is in packs and those are written.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.send()?;
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

    fn encode(&self, chunk: &NewChunk) -> Result<()> {
        if self.lock().failure.is_some() {
            return Ok(());
        }
        let packer = if chunk.kind.pack() == FileKind::DataPack { &self.data_packer } else { &self.tree_packer };
        codec::encode(&chunk.plaintext, |encoding, encoded| {
            let mut packer = lock(packer);
            if let Some(full) = packer.add(&self.core, chunk, encoding, encoded)? {
                self.lock().packs_sent += 1;
                packer.send(full)?;
            }
            Ok(())
        })
    }

    fn write_pack(&self, pack: PackBuilder) -> Result<()> {
        let Some((bytes, directory)) = pack.finish() else { return Ok(()) };
        let pack = SegmentPack { name: FileHash::of(&bytes), len: bytes.len() as u64 };
        self.core.storage.put_file(&pack_file(&pack.name), &bytes)?;
        self.note_written(pack, &directory);
        Ok(())
    }

    fn note_written(&self, pack: SegmentPack, directory: &Directory) {
        let mut state = self.lock();
        state.added_bytes += pack.len;
        state.written.add_pack(pack, directory);
    }
}

impl Packer {
    /// Adds a chunk; returns the pack before, if that had no room for it.
    fn add(
        &mut self,
        core: &Core,
        chunk: &NewChunk,
        encoding: Encoding,
        encoded: &[u8],
    ) -> Result<Option<PackBuilder>> {
        let pack_bytes = core.config.pack_bytes as usize;
        let full = self.open.take_if(|pack| pack.len() + encoded.len() > pack_bytes || !pack.has_room());
        let pack = match &mut self.open {
            Some(pack) => pack,
            none => none.insert(PackBuilder::new(&core.sealer, self.kind, pack_bytes + (pack_bytes >> 5))?),
        };
        pack.add(chunk.id, chunk.kind, chunk.plaintext.len(), encoding, encoded);
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
