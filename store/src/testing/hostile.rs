//! Repositories that somebody who knows the secret has made to exhaust whoever reads them, and what they cost, counted in reads.

use std::{
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use crate::{
    Depth, Details, MemoryStorage, Options, Prefix, PruneOptions, Repository, Snapshot, Source, Storage,
    bytes::put_varint,
    check,
    format::{
        codec::Encoding,
        entry::{ChunkRef, Chunks, Content, Entry, Kind},
        pack::{Base, ChunkKind, NewFrame, PackBuilder, PackKind, chunk_id, pack_file},
        record::RecordKind,
    },
    id::{ChunkId, FileHash},
};

/// A repository in the making.
struct Hostile {
    disk: Arc<MemoryStorage>,
    repository: Repository,
}

impl Hostile {
    fn new() -> Hostile {
        let disk = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(disk.clone(), None, &Options::default()).unwrap();
        Hostile { disk, repository }
    }

    fn id(&self, kind: ChunkKind, plaintext: &[u8]) -> ChunkId {
        chunk_id(&self.repository.core().keys.id, kind, plaintext)
    }

    /// Writes a pack of one frame.
    fn put(&self, kind: ChunkKind, chunk: (ChunkId, usize), encoded: &[u8], base: Option<ChunkId>) {
        let pack = if kind == ChunkKind::Data { PackKind::Data } else { PackKind::Tree };
        let mut builder = PackBuilder::new(&self.repository.core().sealer, pack, 0).unwrap();
        let encoding = if base.is_some() { Encoding::Delta } else { Encoding::Raw };
        let base = base.map(|id| Base { id, version: 1 });
        builder.add(&NewFrame { encoding, kind, base, chunks: &[chunk], encoded });
        let (bytes, _) = builder.finish().unwrap();
        self.disk.put(&pack_file(pack, &FileHash::of(&bytes)), &bytes).unwrap();
    }

    fn chunk(&self, kind: ChunkKind, plaintext: &[u8]) -> ChunkId {
        let id = self.id(kind, plaintext);
        self.put(kind, (id, plaintext.len()), plaintext, None);
        id
    }

    /// A snapshot with this root, and nothing else.
    fn snapshot(&self, root: ChunkId) -> Snapshot {
        let writer = self.repository.write("phone").unwrap();
        let (mut snapshot, _) = writer.commit(Details::new(1, Source::Import)).unwrap();
        for folder in ["snapshots", "spares"] {
            self.disk.delete(&format!("{folder}/{}", snapshot.id)).unwrap();
        }
        snapshot.record.root = root;
        snapshot.id = self.repository.core().put_record(RecordKind::Snapshot, &mut snapshot.record).unwrap();
        snapshot
    }

    /// How many reads all that looks into a snapshot takes.
    fn reads(&self, snapshot: &Snapshot) -> u64 {
        let before = self.disk.reads.load(Relaxed);
        let go_on = |_| ControlFlow::Continue(());
        let _ = self.repository.read(snapshot).map(|reader| reader.entries(&Prefix::all()).count());
        let _ = self.repository.folder(snapshot).map(drop);
        check(&self.repository, Depth::Structure, &go_on).unwrap();
        check(&self.repository, Depth::ReadData, &go_on).unwrap();
        let _ = self.repository.plan_prune(&PruneOptions::default(), &[], &go_on);
        let _ = self.repository.stats(&go_on);
        self.disk.reads.load(Relaxed) - before
    }
}

fn leaf(keys: &[&[u8]], entry: &[u8]) -> Vec<u8> {
    let mut node = vec![0];
    put_varint(&mut node, keys.len() as u64);
    for key in keys {
        put_varint(&mut node, 0);
        put_varint(&mut node, key.len() as u64);
        node.extend_from_slice(key);
        put_varint(&mut node, entry.len() as u64);
        node.extend_from_slice(entry);
    }
    node
}

#[test]
fn deltas_of_themselves_are_tried_once() {
    let hostile = Hostile::new();
    let root = leaf(&[b"HomeDomain\0notes"], &Entry::new(Kind::Directory).emit());
    let id = hostile.id(ChunkKind::Node, &root);
    for copy in 0..6u8 {
        hostile.put(ChunkKind::Node, (id, root.len()), &[copy; 40], Some(id));
    }
    // Without a bound it is six to the power of eight for each look.
    let reads = hostile.reads(&hostile.snapshot(id));
    assert!(reads < 3000, "{reads}");
}

#[test]
fn chain_of_deltas_in_copies_is_tried_once() {
    let hostile = Hostile::new();
    let ids: Vec<ChunkId> = (0..10u8).map(|n| ChunkId([n; 16])).collect();
    for pair in ids.windows(2) {
        (0..5u8).for_each(|copy| hostile.put(ChunkKind::Node, (pair[0], 40), &[copy; 40], Some(pair[1])));
    }
    let reads = hostile.reads(&hostile.snapshot(ids[0]));
    assert!(reads < 20_000, "{reads}");
}

#[test]
fn delta_behind_broken_copies_is_read() {
    let hostile = Hostile::new();
    let root = leaf(&[b"HomeDomain\0notes"], &Entry::new(Kind::Directory).emit());
    let id = hostile.id(ChunkKind::Node, &root);
    for copy in 0..20u8 {
        hostile.put(ChunkKind::Node, (id, root.len()), &[copy; 40], Some(id));
    }
    hostile.chunk(ChunkKind::Node, &root);
    let snapshot = hostile.snapshot(id);
    let reader = hostile.repository.read(&snapshot).unwrap();
    assert_eq!(reader.entries(&Prefix::all()).filter(Result::is_ok).count(), 1);
}

#[test]
fn lists_of_one_list_are_read_once() {
    let hostile = Hostile::new();
    let data = [7; 4096];
    let mut item = ChunkRef { id: hostile.chunk(ChunkKind::Data, &data), len: 4096 };
    for level in 0..3 {
        let mut list = vec![level];
        put_varint(&mut list, 4096);
        (0..4096).for_each(|_| item.emit(&mut list));
        item = ChunkRef { id: hostile.chunk(ChunkKind::List, &list), len: item.len * 4096 };
    }
    let content = Content { hash: [0; 32], length: item.len, sealing: None, rule: 5, chunks: Chunks::List(item.id) };
    let entry = Entry { content: Some(content), ..Entry::new(Kind::File) }.emit();
    let root = hostile.chunk(ChunkKind::Node, &leaf(&[b"HomeDomain\0notes", b"HomeDomain\0other"], &entry));
    let reads = hostile.reads(&hostile.snapshot(root));
    assert!(reads < 3000, "{reads}");
}

#[test]
fn long_texts_of_a_record_are_cut() {
    let hostile = Hostile::new();
    let root = hostile.chunk(ChunkKind::Node, &leaf(&[], &[]));
    let mut record = hostile.snapshot(root).record;
    record.warnings = vec!["ä".repeat(600); 300];
    record.device = (0..100).map(|n| (n.to_string(), "x".repeat(6000))).collect();
    let payload = serde_json::to_vec(&record).unwrap();
    let read = crate::format::record::SnapshotRecord::parse(&payload, "snapshots/x").unwrap();
    assert_eq!((read.warnings.len(), read.warnings[0].len()), (100, 1000));
    assert!(read.device.len() == 32 && read.device.values().all(|text| text.len() == 4096));
}
