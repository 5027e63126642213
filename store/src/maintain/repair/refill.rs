//! What snapshots have lost, out of another repository: a clone has the same chunks, any other perhaps the same files.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    io::{self, Read, Write},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use super::{Repair, RepairStep};
use crate::{
    error::{Error, Result},
    format::{
        chunk_list::for_each_chunk_once,
        entry::Content,
        pack::ChunkKind,
        record::{RecordKind, Snapshot},
        tree::{ChunkSource, TreeIter, parse_item},
    },
    id::ChunkId,
    index::SegmentBuilder,
    read::{
        chunks::ChunkReader,
        reader::{Prefix, SnapshotReader},
        walk::is_content_held,
    },
    repository::Repository,
    write::ingest::{Ingest, NewChunk},
};

/// Pieces of a file that wait between reading and storing it.
const PIECES_MAX: usize = 4;

impl Repair<'_> {
    /// Stores what `damaged` have lost and the other repository holds. Gives whether it was anything.
    pub(super) fn refill(&mut self, damaged: &[Snapshot]) -> Result<bool> {
        if damaged.is_empty() {
            return Ok(false);
        }
        match (self.clone_of_this(), self.from) {
            (Some(clone), _) => self.refill_chunks(clone, damaged),
            (None, Some(other)) => self.refill_files(other, damaged),
            (None, None) => Ok(false),
        }
    }

    /// Of a clone: chunk by chunk.
    fn refill_chunks(&mut self, clone: &Repository, damaged: &[Snapshot]) -> Result<bool> {
        let now = self.now()?;
        let chunks = Arc::new(now.chunks()?.0);
        let (there, _) = clone.chunks()?;
        let both = Both { here: &chunks, there: &there, found: RefCell::default() };
        let mut ingest = Ingest::new(&chunks);
        let mut stored = HashSet::new();
        for snapshot in damaged {
            let before = stored.len();
            for item in TreeIter::new(&both, snapshot.record.root, b"") {
                both.store(&mut ingest, &mut stored)?;
                let content = item.and_then(|(key, entry)| Ok(parse_item(&key, &entry)?.1.content));
                let walked = content.and_then(|content| match content {
                    Some(content) => for_each_chunk_once(&both, &content, &mut |chunk| both.find(&chunk.id)),
                    None => Ok(()),
                });
                both.store(&mut ingest, &mut stored)?;
                walked.or_else(|error| if error.is_unreadable() { Ok(()) } else { Err(error) })?;
            }
            if stored.len() > before {
                let what = format!("{} of its chunks are taken from the other repository", stored.len() - before);
                self.say(RepairStep::Refill, RecordKind::Snapshot.file(&snapshot.id), what);
            }
        }
        let (written, _) = ingest.finish()?;
        self.storage.sync_all()?;
        self.write_segment(&chunks, written)?;
        Ok(!stored.is_empty())
    }

    fn write_segment(&self, chunks: &ChunkReader, written: SegmentBuilder) -> Result<()> {
        let mut index = chunks.index_mut();
        let mut segment = index.begin_segment(|_| true)?;
        segment.append(written);
        self.session.write_segment(&mut index, segment, self.repository.cache_dir())?;
        self.storage.sync_all()
    }

    /// Of another repository: file by file, each cut as it was.
    fn refill_files(&mut self, other: &Repository, damaged: &[Snapshot]) -> Result<bool> {
        let now = self.now()?;
        let mut lost: HashMap<[u8; 32], (Content, String)> = HashMap::new();
        for snapshot in damaged {
            let reader = now.read(snapshot)?;
            for (name, entry) in reader.entries(&Prefix::all()).flatten() {
                if let Some(content) = entry.content
                    && !lost.contains_key(&content.hash)
                    && !is_held_or_newer(&reader.chunks, &content)?
                {
                    lost.insert(content.hash, (content, name.to_string()));
                }
            }
        }
        let mut writer = now.write("")?;
        let mut is_any = false;
        for snapshot in other.snapshots()?.snapshots {
            if lost.is_empty() {
                break;
            }
            let reader = other.read(&snapshot)?;
            for (_, entry) in reader.entries(&Prefix::all()).flatten() {
                let Some(there) = entry.content else { continue };
                let Some((here, name)) = lost.get(&there.hash).filter(|(here, _)| can_serve(here, &there)) else {
                    continue;
                };
                let stored = piped(&reader, &there, here.is_sealed(), |plaintext| writer.store(None, plaintext));
                match stored {
                    Ok(stored) if stored.chunks == here.chunks => {
                        self.say(RepairStep::Refill, name.clone(), "taken from the other repository");
                        lost.remove(&there.hash);
                        is_any = true;
                    }
                    // It was cut otherwise, or is damaged there, too.
                    Ok(_) | Err(Error::Source(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        writer.flush()?;
        self.storage.sync_all()?;
        Ok(is_any)
    }
}

/// Chunks that are read from a clone where they are not here.
struct Both<'b> {
    here: &'b ChunkReader,
    there: &'b ChunkReader,
    /// What was read there, to be stored here.
    found: RefCell<Vec<NewChunk>>,
}

impl Both<'_> {
    /// Looks for a data chunk that is not here.
    fn find(&self, id: &ChunkId) -> Result<()> {
        if self.here.holds(id)? {
            return Ok(());
        }
        match self.fetch(id, ChunkKind::Data) {
            Err(error) if !error.is_damage() => Err(error),
            _ => Ok(()),
        }
    }

    fn fetch(&self, id: &ChunkId, kind: ChunkKind) -> Result<Vec<u8>> {
        let plaintext = self.there.read(id, kind)?;
        self.found.borrow_mut().push(NewChunk { id: *id, kind, plaintext: plaintext.clone(), previous: None });
        Ok(plaintext)
    }

    fn store(&self, ingest: &mut Ingest, stored: &mut HashSet<ChunkId>) -> Result<()> {
        let found = std::mem::take(&mut *self.found.borrow_mut());
        found.into_iter().filter(|chunk| stored.insert(chunk.id)).try_for_each(|chunk| ingest.add(chunk))
    }
}

impl ChunkSource for Both<'_> {
    fn chunk(&self, id: &ChunkId, kind: ChunkKind) -> Result<Vec<u8>> {
        match self.here.read(id, kind) {
            Err(error) if error.is_damage() => self.fetch(id, kind),
            read => read,
        }
    }
}

/// Whether nothing of a content is lost; so is nothing that only a newer program can read.
fn is_held_or_newer(chunks: &ChunkReader, content: &Content) -> Result<bool> {
    match is_content_held(chunks, content, |id| chunks.holds(id)) {
        Err(error) if error.is_newer() => Ok(true),
        held => held,
    }
}

/// Whether a file of the same hash gives the chunks of one here: those of its plaintext only if it is kept as that there, too.
fn can_serve(here: &Content, there: &Content) -> bool {
    here.length == there.length && (!here.is_sealed() || here.sealing == there.sealing)
}

/// Has `store` read a file, or its plaintext, while another thread reads it from its repository.
fn piped<T>(
    reader: &SnapshotReader,
    content: &Content,
    is_plaintext: bool,
    store: impl FnOnce(&mut dyn Read) -> Result<T>,
) -> Result<T> {
    let (sender, receiver) = sync_channel(PIECES_MAX);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut into = PipeWriter(sender);
            let read = if is_plaintext {
                reader.read_plaintext(content, &mut into)
            } else {
                reader.read_file(content, &mut into)
            };
            if let Err(error) = read {
                // Nobody may be listening any more.
                let _ = into.0.send(Err(io::Error::other(error)));
            }
        });
        store(&mut PipeReader { receiver, piece: Vec::new(), at: 0 })
    })
}

type Piece = io::Result<Vec<u8>>;

struct PipeWriter(SyncSender<Piece>);

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(Ok(bytes.to_vec())).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct PipeReader {
    receiver: Receiver<Piece>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for PipeReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.piece, self.at) = (piece?, 0),
                Err(_) => return Ok(0),
            }
        }
        let count = into.len().min(self.piece.len() - self.at);
        into[..count].copy_from_slice(&self.piece[self.at..][..count]);
        self.at += count;
        Ok(count)
    }
}
