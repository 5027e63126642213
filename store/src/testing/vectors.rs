//! The vectors of tests/vectors, which an independent reader of SPEC.md wrote, held against every part of this library.
//!
//! A case says `ok`, `refuse`, or `newer` if only a newer program knows it; one that is marked `unspecified` may be either, and must only end.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    io::Read,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;

use crate::{
    bytes::put_varint,
    error::Refused,
    format::{
        chunk_list::{chunks_of, for_each_chunk, parse_list},
        chunker::{Chunker, HEAD_LEN, Rule},
        codec::Encoding,
        config::{self, Config, checked_line},
        entry::{ChunkRef, Chunks, Content},
        keys::{Keys, Secret},
        pack::{
            Base, ChunkKind, Directory, Frame, NewFrame, Pack, PackBuilder, PackKind, PackedChunk, SegmentPack,
            chunk_id,
        },
        phone_cipher::{Resealing, Sealing, Unsealing},
        seal::{FileKind, HEADER_LEN, Sealer, seal_blocks},
        tree::{ChunkSource, ENTRY_MAX_LEN, Node, TreeBuilder, TreeIter, begins_node, parse_item},
    },
    id::decode_hex,
    index::{
        Index, SegmentBuilder,
        segment::{Segment, SegmentEntry, size_class},
    },
    read::chunks::ChunkReader,
    repository::core::Core,
    storage::layout::INDEX_FOLDER,
    *,
};

// What the files hold.

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors")
}

fn vectors(file: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A list, which must hold something: a test of nothing would pass.
fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    let list = value[key].as_array().unwrap_or_else(|| panic!("there is no list {key}"));
    assert!(!list.is_empty(), "{key} is empty");
    list
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("there is no text {key} in {value}"))
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("there is no number {key} in {value}"))
}

fn unhex(digits: &str) -> Vec<u8> {
    let mut bytes = vec![0; digits.len() / 2];
    assert!(decode_hex(digits, &mut bytes), "{digits} are not hexadecimal digits");
    bytes
}

fn bytes(value: &Value, key: &str) -> Vec<u8> {
    unhex(text(value, key))
}

fn array<const N: usize>(value: &Value, key: &str) -> [u8; N] {
    bytes(value, key).try_into().unwrap_or_else(|_| panic!("{key} has not {N} bytes"))
}

fn id(value: &Value, key: &str) -> ChunkId {
    ChunkId(array(value, key))
}

/// The first bytes of the BLAKE3 of a label.
fn labelled(label: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The bytes that a formula stands for.
fn pieces(value: &Value, key: &str) -> Vec<u8> {
    let piece = |piece: &Value| match (piece["hex"].as_str(), piece["xof"].as_str()) {
        (Some(digits), _) => unhex(digits),
        (_, Some(label)) => labelled(label, number(piece, "length") as usize),
        _ => bytes(piece, "repeat").into_iter().cycle().take(number(piece, "length") as usize).collect(),
    };
    list(value, key).iter().flat_map(piece).collect()
}

/// Why a case was refused.
trait Reason {
    fn is_newer(&self) -> bool;
}

impl Reason for Error {
    fn is_newer(&self) -> bool {
        Error::is_newer(self)
    }
}

impl Reason for Refused {
    fn is_newer(&self) -> bool {
        matches!(self, Refused::Newer(_))
    }
}

impl Reason for &'static str {
    fn is_newer(&self) -> bool {
        false
    }
}

impl Reason for String {
    fn is_newer(&self) -> bool {
        false
    }
}

/// Holds what `judge` makes of each case against its verdict, and shows what it made to `look` where it is ok.
fn hold<T, E: Debug + Reason>(
    file: &Value,
    key: &str,
    judge: impl Fn(&Value) -> std::result::Result<T, E>,
    look: impl Fn(&Value, T),
) {
    let mut open = 0;
    for case in list(file, key) {
        let (name, result) = (text(case, "name"), judge(case));
        if case["unspecified"] == true {
            open += 1;
            continue;
        }
        match (text(case, "verdict").split(':').next(), result) {
            (Some("ok"), Ok(made)) => look(case, made),
            (Some("refuse"), Err(error)) if !error.is_newer() => {}
            (Some("newer"), Err(error)) if error.is_newer() => {}
            (verdict, result) => panic!("{key}, {name}: {:?} instead of {verdict:?}", result.map(drop)),
        }
    }
    println!("{key}: {} cases, {open} of them unspecified", list(file, key).len());
}

fn cipher(value: &Value) -> Cipher {
    serde_json::from_value(value["cipher"].clone()).unwrap()
}

fn sealer(file: &Value, cipher: Cipher) -> Sealer {
    Sealer::new(cipher, RepositoryId(array(file, "repository")), array(file, "seal_key"))
}

fn file_kind(number: u64) -> FileKind {
    use FileKind::*;
    [DataPack, TreePack, Segment, Snapshot, Session].into_iter().find(|&kind| kind as u64 == number).unwrap()
}

fn chunk_kind(number: u64) -> ChunkKind {
    use ChunkKind::*;
    [Data, Node, List].into_iter().find(|&kind| kind as u64 == number).unwrap()
}

fn chunk_ref(value: &Value) -> ChunkRef {
    ChunkRef { id: id(value, "id"), len: number(value, "length") }
}

/// Chunks in memory, as a source and as what is written.
#[derive(Default)]
struct Texts(RefCell<HashMap<ChunkId, Vec<u8>>>);

impl Texts {
    fn put(&self, id_key: &[u8; 32], kind: ChunkKind, text: &[u8]) -> ChunkId {
        let id = chunk_id(id_key, kind, text);
        self.0.borrow_mut().insert(id, text.to_vec());
        id
    }

    /// The texts of a case.
    fn of(id_key: &[u8; 32], kind: ChunkKind, case: &Value, key: &str) -> Texts {
        let texts = Texts::default();
        for text in list(case, key) {
            texts.put(id_key, kind, &unhex(text.as_str().unwrap()));
        }
        texts
    }
}

impl ChunkSource for Texts {
    fn chunk(&self, id: &ChunkId, _: ChunkKind) -> Result<Vec<u8>> {
        self.0.borrow().get(id).cloned().ok_or(Error::ChunkMissing { id: *id })
    }
}

// §8

#[test]
fn files_are_cut_where_the_vectors_say() {
    let file = vectors("chunker.json");
    let chunker = Chunker::new(&array(&file, "chunker_key"));
    let gear: Vec<String> = chunker.gear.iter().map(|number| format!("{number:016x}")).collect();
    assert_eq!(list(&file, "gear"), &gear[..8]);
    assert_eq!(text(&file, "gear_last"), gear[255]);
    for case in list(&file, "cases") {
        let data = pieces(case, "pieces");
        let rule = Rule::of(&data[..data.len().min(HEAD_LEN + 1)]);
        let (mut rest, mut cuts) = (data.as_slice(), Vec::new());
        while !rest.is_empty() {
            let at = data.len() - rest.len();
            let len = chunker.cut(rule, at as u64, rest);
            cuts.push(at + len);
            rest = &rest[len..];
        }
        assert_eq!(
            (u64::from(rule.number()), Value::from(cuts)),
            (number(case, "rule"), case["cuts"].clone()),
            "{case}"
        );
    }
}

// §3, §4

#[test]
fn keys_follow_from_the_secret_and_words_from_the_recovery_key() {
    let file = vectors("keys.json");
    let Keys { seal, id, chunker, tree } = &Secret(array(&file, "secret")).keys();
    for (key, name) in [(seal, "seal_key"), (id, "id_key"), (chunker, "chunker_key"), (tree, "tree_key")] {
        assert_eq!(*key, array(&file, name), "{name}");
    }
    for recovery in list(&file, "recovery") {
        let key: RecoveryKey = text(recovery, "words").parse().unwrap();
        assert_eq!((key.0.to_vec(), key.to_string().as_str()), (bytes(recovery, "entropy"), text(recovery, "words")));
    }
}

#[test]
fn configs_are_read_or_refused() {
    let file = vectors("keys.json");
    hold(&file, "configs", |case| Config::parse(text(case, "line"), "config"), |_, _| {});
    let line = |case: &Value| {
        let storage = MemoryStorage::default();
        storage.put("config", &pieces(case, "pieces")).unwrap();
        let storage: &dyn Storage = &storage;
        let whole = storage.read_whole("config", config::TEXT_MAX_LEN)?;
        checked_line(&whole, "config").map(str::len)
    };
    hold(&file, "line_files", line, |_, _| {});
}

/// Opens a repository that is nothing but the files of a case, and compares its keys.
fn open_files(file: &Value, case: &Value, files: &BTreeMap<String, String>) -> Result<Repository> {
    let storage = MemoryStorage::default();
    files.iter().for_each(|(name, text)| storage.put(name, text.as_bytes()).unwrap());
    let recovery = case["recovery"].as_str().map(str::parse::<RecoveryKey>).transpose()?;
    let unlock = match (case["password"].as_str(), &recovery) {
        (Some(password), _) => Unlock::Password(password),
        (_, Some(recovery)) => Unlock::Recovery(recovery),
        _ => Unlock::Open,
    };
    let opened = Repository::open(Arc::new(storage), unlock, None);
    let is_wrong = matches!(opened, Err(Error::WrongPassword));
    if let Some(expected) = case["wrong_password"].as_bool() {
        assert_eq!(is_wrong, expected, "{case}: {:?}", opened.map(drop));
    }
    let opened = opened?;
    assert_eq!(opened.core().keys.seal, array(file, "seal_key"), "{case}");
    Ok(opened)
}

#[test]
fn slots_open_or_are_refused() {
    let file = vectors("keys.json");
    let slot = |case: &Value| {
        let slot: Value = serde_json::from_str(text(case, "file").lines().next().unwrap()).unwrap();
        let config = config::with_check_line(text(case, "config"));
        let files = [
            ("config".to_owned(), String::from_utf8(config).unwrap()),
            (format!("keys/{}-1", text(&slot, "slot")), text(case, "file").to_owned()),
        ];
        open_files(&file, case, &files.into())
    };
    hold(&file, "slots", slot, |_, _| {});
    let files = |case: &Value| serde_json::from_value(case["files"].clone()).unwrap();
    let reported = |case: &Value, repository: Repository| {
        for begin in case["reported"].as_array().unwrap() {
            let begin = begin.as_str().unwrap();
            assert!(repository.problems().iter().any(|problem| problem.file.starts_with(begin)), "{begin} of {case}");
        }
    };
    hold(&file, "repositories", |case| open_files(&file, case, &files(case)), reported);
}

// §5

#[test]
fn sealed_files_open_or_are_refused() {
    let file = vectors("sealed.json");
    let mut whole = HashMap::new();
    for case in list(&file, "files") {
        let (sealer, kind) = (sealer(&file, cipher(case)), file_kind(number(case, "kind")));
        let header: [u8; HEADER_LEN] = array(case, "header");
        assert_eq!(blake3::keyed_hash(&array(&file, "seal_key"), &header).as_bytes(), &array(case, "file_key"));
        let (_, key) = sealer.resume(&[kind], &header, "x").unwrap();
        let payload = pieces(case, "payload");
        let sealed = seal_blocks(&header, &key, &payload);
        assert_eq!(
            (sealed.len() as u64, FileHash::of(&sealed).to_string().as_str()),
            (number(case, "length"), text(case, "blake3"))
        );
        assert!(case["file"].is_null() || bytes(case, "file") == sealed);
        assert_eq!(sealer.open_payload(kind, &sealed, "x").unwrap(), payload);
        whole.insert(text(case, "name"), (sealed, sealer));
    }
    let open = |case: &Value| {
        sealer(&file, cipher(case)).open_payload(file_kind(number(case, "kind")), &bytes(case, "file"), "x")
    };
    hold(&file, "cases", open, |_, _| {});
    let cut = |case: &Value| {
        let (whole, sealer) = &whole[text(case, "file")];
        let cut = [&whole[..number(case, "keep") as usize], &bytes(case, "more")].concat();
        sealer.open_payload(FileKind::Snapshot, &cut, "x")
    };
    hold(&file, "cuts", cut, |_, _| {});
}

// §6

/// Everything in a pack, as the only one of a repository.
fn read_pack(file: &Value, case: &Value) -> Result<(Pack, Vec<Vec<u8>>)> {
    let (cipher, bytes) = (cipher(case), bytes(case, "pack"));
    let kind = PackKind::from_number(number(case, "kind") as u8).unwrap();
    let pack = SegmentPack { name: FileHash::of(&bytes), kind, len: bytes.len() as u64 };
    let storage = Arc::new(MemoryStorage::default());
    storage.put(&pack.file(), &bytes).unwrap();
    let mut keys = Secret([0; 32]).keys();
    keys.id = array(file, "id_key");
    let chunker = Chunker::new(&keys.chunker);
    let config = Config::new(RepositoryId(array(file, "repository")), cipher, 1 << 24, 0);
    let core =
        Arc::new(Core { storage, config, keys, sealer: sealer(file, cipher), chunker, distrusted: Default::default() });
    let pack = Pack::open(&*core.storage, &core.sealer, &pack)?;
    let chunks = ChunkReader::new(core.clone(), Index::load(&*core.storage, &core.sealer, None)?.0);
    let kind = |chunk: &PackedChunk| pack.directory.frames[chunk.frame as usize].kind;
    let read = pack.directory.chunks.iter().map(|chunk| chunks.read(&chunk.id, kind(chunk)));
    let read = read.collect::<Result<_>>()?;
    Ok((pack, read))
}

#[test]
fn packs_are_read_or_refused() {
    let file = vectors("pack.json");
    for case in list(&file, "chunk_ids") {
        let made = chunk_id(&array(&file, "id_key"), chunk_kind(number(case, "kind")), &bytes(case, "plaintext"));
        assert_eq!(made, id(case, "id"));
    }
    for case in list(&file, "packs") {
        let (pack, texts) = read_pack(&file, case).unwrap();
        let expected: Vec<Vec<u8>> = list(case, "chunks").iter().map(|text| unhex(text.as_str().unwrap())).collect();
        assert_eq!(texts, expected);
        let mut chunks = pack.directory.chunks.iter();
        assert_eq!(list(case, "frames").len(), pack.directory.frames.len());
        for (number_, (expected, frame)) in list(case, "frames").iter().zip(&pack.directory.frames).enumerate() {
            assert_eq!(frame.encoding as u64, number(expected, "encoding"));
            assert_eq!(frame.kind as u64, number(expected, "kind"));
            assert_eq!(frame.offset, number(expected, "at"));
            assert_eq!(frame.sealed_len as u64, number(expected, "sealed_length"));
            assert_eq!(frame.base.map(|base| base.id), expected["base"].as_str().map(|_| id(expected, "base")));
            for (expected, chunk) in list(expected, "chunks").iter().zip(&mut chunks) {
                let expected = chunk_ref(expected);
                assert_eq!(
                    (chunk.id, u64::from(chunk.len), chunk.frame as usize),
                    (expected.id, expected.len, number_)
                );
            }
        }
        assert!(chunks.next().is_none());
    }
    hold(&file, "cases", |case| read_pack(&file, case), |_, _| {});
}

// §7

/// A pack's directory as far as a segment tells of it.
fn directory(pack: &Value) -> Directory {
    let mut directory = Directory::default();
    for (number, frame) in list(pack, "frames").iter().enumerate() {
        let chunks = frame[3].as_array().unwrap();
        let len = |chunk: &Value| chunk[1].as_u64().unwrap() as u32;
        let base = frame[2].as_str().map(|digits| ChunkId::from_hex(digits).unwrap());
        directory.frames.push(Frame {
            encoding: if base.is_some() { Encoding::Delta } else { Encoding::Zstd },
            kind: chunk_kind(frame[0].as_u64().unwrap()),
            offset: 0,
            sealed_len: frame[1].as_u64().unwrap() as usize,
            decoded_len: chunks.iter().map(|chunk| len(chunk) as usize).sum(),
            base: base.map(|id| Base { id, version: 1 }),
        });
        directory.chunks.extend(chunks.iter().map(|chunk| {
            let id = ChunkId::from_hex(chunk[0].as_str().unwrap()).unwrap();
            PackedChunk { id, frame: number as u32, offset: 0, len: len(chunk) }
        }));
    }
    directory
}

fn parse_segment(contents: Vec<u8>) -> Result<(Segment, Vec<SegmentEntry>)> {
    entries_of(Segment::from_contents(FileHash([0; 32]), contents, None)?)
}

fn entries_of(segment: Segment) -> Result<(Segment, Vec<SegmentEntry>)> {
    let mut entries = Vec::new();
    segment.for_each(&mut |_, entry| entries.push(entry))?;
    for entry in &entries {
        segment.find(&entry.id, &mut |_, _| {})?;
    }
    Ok((segment, entries))
}

#[test]
fn segments_are_written_and_read_as_the_vectors_say() {
    let file = vectors("segment.json");
    let empty = |name: FileHash| Segment::from_contents(name, bytes(&file, "empty"), None).unwrap();
    let packs: Vec<(SegmentPack, Directory)> = list(&file, "packs")
        .iter()
        .map(|pack| {
            let kind = PackKind::from_number(number(pack, "kind") as u8).unwrap();
            (SegmentPack { name: FileHash(array(pack, "name")), kind, len: number(pack, "length") }, directory(pack))
        })
        .collect();
    let superseded: Vec<FileHash> =
        list(&file, "superseded").iter().map(|name| FileHash::from_hex(name.as_str().unwrap()).unwrap()).collect();
    let mut builder = SegmentBuilder::default();
    packs.iter().for_each(|(pack, directory)| builder.add_pack(*pack, directory));
    superseded.iter().for_each(|&name| builder.add_segment(&empty(name), |_| true).unwrap());
    assert!(builder.contents() == bytes(&file, "contents"), "the segment written is another one");

    let (segment, entries) = parse_segment(bytes(&file, "contents")).unwrap();
    assert_eq!((&segment.superseded, segment.entry_count), (&superseded, entries.len() as u64));
    assert_eq!(segment.packs, packs.iter().map(|(pack, _)| *pack).collect::<Vec<_>>());
    assert!(entries.is_sorted());
    let mut expected = Vec::new();
    for (pack, (_, directory)) in packs.iter().enumerate() {
        for (ordinal, chunk) in directory.chunks.iter().enumerate() {
            let frame = &directory.frames[chunk.frame as usize];
            let flags = frame.base.is_some() as u8 | (frame.kind as u8) << 1;
            expected.push((chunk.id, pack as u32, ordinal as u16, flags, frame.base.map(|base| base.id)));
        }
    }
    expected.sort_by_key(|&(id, pack, ordinal, ..)| (id, pack, ordinal));
    let base = |number: usize| segment.deltas.iter().find(|(n, _)| *n == number as u64).map(|(_, base)| *base);
    let read = entries.iter().enumerate().map(|(n, e)| (e.id, e.pack, e.ordinal, e.flags, base(n)));
    assert_eq!(read.collect::<Vec<_>>(), expected);

    for case in list(&file, "filter") {
        let id = id(case, "id");
        let mut found = false;
        segment.find(&id, &mut |_, _| found = true).unwrap();
        assert_eq!((segment.may_contain(&id), found), (case["filter"] == true, case["listed"] == true), "{case}");
    }
    for case in list(&file, "size_classes") {
        assert_eq!(u64::from(size_class(number(case, "bytes"))), number(case, "size_class"), "{case}");
    }
    assert!(parse_segment(bytes(&file, "empty")).unwrap().1.is_empty());
    assert_eq!(SegmentBuilder::default().contents(), bytes(&file, "empty"));
}

#[test]
fn segments_whose_counts_do_not_fit_are_refused() {
    let file = vectors("segment.json");
    let patched = |case: &Value| {
        let mut contents = bytes(&file, "contents");
        for patch in case["patches"].as_array().unwrap() {
            let (at, patch) = (number(patch, "at") as usize, bytes(patch, "hex"));
            contents[at..at + patch.len()].copy_from_slice(&patch);
        }
        contents.truncate(number(case, "keep") as usize);
        parse_segment(contents)
    };
    hold(&file, "cases", patched, |_, _| {});
}

#[test]
fn files_of_segments_open_or_are_refused() {
    let file = vectors("segment.json");
    let cache = tempfile::tempdir().unwrap();
    for cache in [None, Some(cache.path())] {
        let open = |case: &Value| {
            let (storage, bytes) = (MemoryStorage::default(), bytes(case, "file"));
            let name = FileHash::of(&bytes);
            storage.put(&format!("{INDEX_FOLDER}/{name}"), &bytes).unwrap();
            let sealer = sealer(&file, cipher(&file));
            entries_of(Segment::from_storage(&storage, &sealer, name, bytes.len() as u64, cache)?)
        };
        hold(&file, "files", open, |_, _| {});
    }
}

// §9

#[test]
fn names_and_places_are_those_of_the_vectors() {
    let file = vectors("tree.json");
    hold(
        &file,
        "keys",
        |case| Name::from_key(&bytes(case, "key")),
        |case, name| {
            assert_eq!((name.domain(), name.path()), (text(case, "domain"), text(case, "path")));
            assert_eq!(name.key(), bytes(case, "key"));
        },
    );
    let place = |case: &Value| {
        let text = String::from_utf8(bytes(case, "place")).map_err(|error| error.to_string())?;
        TreePath::new(&text).map_err(|error| error.to_string())
    };
    hold(&file, "places", place, |_, _| {});
    for case in list(&file, "places_of") {
        let name = Name::new(text(case, "domain"), text(case, "path")).unwrap();
        let place = Entry::parse(&bytes(case, "entry")).unwrap().place_for(&name);
        assert_eq!(place.as_ref().map(TreePath::as_str), case["place"].as_str(), "{case}");
    }
}

#[test]
fn boundaries_depend_on_keys_as_the_vectors_say() {
    let file = vectors("tree.json");
    for case in list(&file, "boundaries") {
        for level in 0..4 {
            let begins = begins_node(&array(&file, "tree_key"), &bytes(case, "key"), level);
            assert_eq!(begins, number(case, "zeros") >= 6 * (level as u64 + 1), "{case}, {level}");
        }
    }
}

/// A node as JSON has it; the names in a leaf are checked, as whoever reads one does.
fn read_node(case: &Value) -> Result<Node, String> {
    let node = Node::parse(bytes(case, "node"))?;
    for at in 0..node.len() {
        Name::from_key(node.key(at)).map_err(|error| error.to_string())?;
    }
    Ok(node)
}

#[test]
fn nodes_are_read_or_refused() {
    let file = vectors("tree.json");
    hold(&file, "nodes", read_node, |case, node| {
        let value = if node.level == 0 { "entry" } else { "child" };
        let items = case["items"].as_array().unwrap();
        assert_eq!((u64::from(node.level), node.len()), (number(case, "level"), items.len()));
        for (at, item) in items.iter().enumerate() {
            assert_eq!((node.key(at), node.value(at)), (&bytes(item, "key")[..], &bytes(item, value)[..]));
        }
        assert_eq!(chunk_id(&array(&file, "id_key"), ChunkKind::Node, &bytes(case, "node")), id(case, "id"));
    });
}

#[test]
fn entries_are_read_and_written_as_the_vectors_say() {
    hold_entries(&vectors("tree.json"));
}

fn hold_entries(file: &Value) {
    hold(
        file,
        "entries",
        |case| Entry::parse(&bytes(case, "entry")),
        |case, entry| {
            assert_eq!(fields(&entry), case["fields"], "{case}");
            let name = text(case, "name");
            // What a later version says, and what a writer would say otherwise.
            let is_other =
                ["unknown tag", "varint longer", "file without the rule"].iter().any(|begin| name.starts_with(begin));
            assert_eq!(entry.emit() == bytes(case, "entry"), !is_other, "{case}");
        },
    );
}

/// An entry as JSON has it.
fn fields(entry: &Entry) -> Value {
    let (phone, content) = (&entry.phone, entry.content.as_ref());
    let chunk = |chunk: &ChunkRef| serde_json::json!({"id": chunk.id.to_string(), "length": chunk.len});
    let (chunks, chunk_list) = match content.map(|content| &content.chunks) {
        Some(Chunks::Inline(chunks)) => (Value::from_iter(chunks.iter().map(chunk)), Value::Null),
        Some(Chunks::List(id)) => (Value::Null, id.to_string().into()),
        None => (Value::Null, Value::Null),
    };
    let mut fields = serde_json::json!({
        "kind": entry.kind as u8,
        "place": entry.place.as_ref().map(TreePath::as_str),
        "mtime": entry.place_mtime_ns,
        "hash": content.map(|content| FileHash(content.hash)),
        "length": content.map(|content| content.length),
        "chunks": chunks,
        "rule": content.map(|content| content.rule).filter(|&rule| rule != 0),
        "chunk_list": chunk_list,
        "target": entry.target.as_ref().map(|target| id::encode_hex(target.as_bytes())),
        "mode": phone.mode,
        "user": phone.user,
        "group": phone.group,
        "inode": phone.inode,
        "phone_length": phone.size,
        "phone_modified": phone.mtime,
        "phone_changed": phone.ctime,
        "phone_born": phone.btime,
        "protection_class": phone.protection_class,
        "flags": phone.flags,
        "sealing": content.and_then(|content| content.sealing.as_ref()).map(|sealing| serde_json::json!({
            "key": id::encode_hex(&sealing.emit()[1..33]),
            "plaintext_length": sealing.plaintext_len,
        })),
    });
    fields.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    fields
}

/// Builds the tree of `items`; its root, and the nodes by id.
fn build(file: &Value, items: &[(Vec<u8>, Vec<u8>)]) -> (ChunkId, Texts) {
    let (texts, id_key) = (Texts::default(), array(file, "id_key"));
    let mut builder =
        TreeBuilder::new(array(file, "tree_key"), |_, _, node: &[u8]| Ok(texts.put(&id_key, ChunkKind::Node, node)));
    items.iter().for_each(|(key, entry)| builder.add(key, entry).unwrap());
    let root = builder.finish().unwrap();
    (root, texts)
}

#[test]
fn trees_are_built_of_the_same_nodes() {
    let file = vectors("tree.json");
    let tree = &file["tree"];
    let items: Vec<_> = list(tree, "items").iter().map(|item| (bytes(item, "key"), bytes(item, "entry"))).collect();
    let (root, nodes) = build(&file, &items);
    let expected = list(tree, "nodes").iter().map(|node| (id(node, "id"), bytes(node, "bytes"))).collect();
    assert_eq!((root, nodes.0.into_inner()), (id(tree, "root"), expected));
    let roots: Vec<String> = (0..=items.len()).map(|count| build(&file, &items[..count]).0.to_string()).collect();
    assert_eq!(list(&file, "roots"), roots);
}

#[test]
fn long_nodes_end_at_the_same_byte() {
    let file = vectors("tree.json");
    for case in list(&file, "long_trees") {
        let item = |(n, length): (usize, &Value)| {
            let key = format!("HomeDomain\0{}/{n:04}", number(case, "folder")).into_bytes();
            let target = "a".repeat(length.as_u64().unwrap() as usize);
            (key, Entry { target: Some(target), ..Entry::new(Kind::Symlink) }.emit())
        };
        let items: Vec<_> = list(case, "lengths").iter().enumerate().map(item).collect();
        let (root, nodes) = build(&file, &items);
        let lengths: HashMap<_, _> =
            nodes.0.into_inner().into_iter().map(|(id, node)| (id, node.len() as u64)).collect();
        let expected = list(case, "nodes").iter().map(|node| (id(node, "id"), number(node, "length"))).collect();
        assert_eq!((root, lengths), (id(case, "root"), expected), "{case}");
    }
}

#[test]
fn entries_beyond_the_longest_are_not_written() {
    let longest = number(&vectors("tree.json"), "longest_entry") as usize;
    assert_eq!(ENTRY_MAX_LEN, longest);
    let (repository, _) = Repository::create(Arc::new(MemoryStorage::default()), None, &Options::default()).unwrap();
    let mut writer = repository.write("series").unwrap();
    let mut entry = Entry { target: Some("a".repeat(longest - 6)), ..Entry::new(Kind::Symlink) };
    assert_eq!(entry.emit().len(), longest);
    writer.put(&Name::new("D", "x").unwrap(), &entry).unwrap();
    entry.target.as_mut().unwrap().push('a');
    assert!(writer.put(&Name::new("D", "x").unwrap(), &entry).is_err());
}

#[test]
fn trees_are_walked_or_refused() {
    let file = vectors("tree.json");
    let walk = |case: &Value| {
        let nodes = Texts::of(&array(&file, "id_key"), ChunkKind::Node, case, "nodes");
        let items = TreeIter::new(&nodes, id(case, "root"), b"");
        items.map(|item| item.and_then(|(key, entry)| parse_item(&key, &entry))).collect::<Result<Vec<_>>>()
    };
    hold(&file, "tree_cases", walk, |case, items| assert!(!items.is_empty(), "{case}"));
}

fn chunk_refs(case: &Value) -> Vec<ChunkRef> {
    list(case, "items").iter().map(chunk_ref).collect()
}

#[test]
fn chunk_lists_are_read_or_refused() {
    let file = vectors("tree.json");
    hold(
        &file,
        "lists",
        |case| parse_list(&bytes(case, "list")),
        |case, (level, items)| assert_eq!((u64::from(level), items), (number(case, "level"), chunk_refs(case))),
    );
    let walk = |case: &Value| {
        let lists = Texts::of(&array(&file, "id_key"), ChunkKind::List, case, "lists");
        let (length, chunks) = (number(case, "length"), Chunks::List(id(case, "id")));
        let mut items = Vec::new();
        for_each_chunk(&lists, &Content { hash: [0; 32], length, sealing: None, rule: 5, chunks }, &mut |item| {
            items.push(item);
            Ok(())
        })?;
        Ok::<_, Error>(items)
    };
    hold(&file, "list_cases", walk, |case, items| assert_eq!(items, chunk_refs(case)));
}

#[test]
fn chunk_lists_end_where_the_vectors_say() {
    let file = vectors("tree.json");
    for case in list(&file, "written_lists") {
        let begin = bytes(case, "begin");
        let chunk = |n: u64| {
            let mut id = labelled(&format!("list item {n}"), 16);
            id[..begin.len()].copy_from_slice(&begin);
            ChunkRef { id: ChunkId(id.try_into().unwrap()), len: 1000 + n }
        };
        let mut levels = [0u64; 4];
        let kept = chunks_of((0..number(case, "count")).map(chunk).collect(), &mut |_, _, list| {
            levels[usize::from(list[0])] += 1;
            Ok(chunk_id(&array(&file, "id_key"), ChunkKind::List, list))
        });
        assert_eq!(kept.unwrap(), Chunks::List(id(case, "id")), "{case}");
        assert_eq!(Value::from(levels.to_vec()), case["levels"]);
    }
}

/// Makes the ciphertext of `plaintext`, handed over in pieces of `step` bytes.
fn sealed(sealing: &Sealing, plaintext: &[u8], ciphertext_len: u64, step: usize) -> Vec<u8> {
    let mut resealing = Resealing::of(sealing);
    let mut made: Vec<u8> = plaintext.chunks(step).flat_map(|piece| resealing.seal(piece).unwrap()).collect();
    made.extend(resealing.finish(sealing, ciphertext_len).unwrap());
    made
}

#[test]
fn sealed_contents_are_what_the_vectors_say() {
    let file = vectors("sealing.json");
    hold_entries(&file);
    for case in list(&file, "files") {
        let (plaintext, ciphertext_len) = (pieces(case, "plaintext"), number(case, "ciphertext_length"));
        assert_eq!(plaintext.len() as u64, number(case, "length"));
        let mut field = [&[1], &bytes(case, "key")[..]].concat();
        put_varint(&mut field, number(case, "length"));
        let sealing = Sealing::parse(&field).unwrap();
        assert!(sealing.fits(ciphertext_len), "{case}");
        let ciphertext = sealed(&sealing, &plaintext, ciphertext_len, usize::MAX);
        assert_eq!(FileHash::of(&ciphertext).to_string(), text(case, "blake3"), "{case}");
        assert!(case["ciphertext"].is_null() || bytes(case, "ciphertext") == ciphertext, "{case}");
        for step in [1, 15, 16, 17, 4096] {
            assert!(sealed(&sealing, &plaintext, ciphertext_len, step) == ciphertext, "{case}, {step}");
        }
        let (mut source, mut unsealed) = (&ciphertext[..], Vec::new());
        let mut unsealing = Unsealing::new(&mut source, &array(case, "key"));
        unsealing.read_to_end(&mut unsealed).unwrap();
        assert!(unsealed == plaintext, "{case}");
        assert_eq!(unsealing.sealing(unsealed.len() as u64), sealing);
    }
}

// §10

#[test]
fn snapshots_are_read_or_refused() {
    let file = vectors("snapshot.json");
    let whole = bytes(&file, "file");
    assert_eq!(FileHash::of(&whole).to_string(), text(&file, "id"));
    let payload = sealer(&file, cipher(&file)).open_payload(FileKind::Snapshot, &whole, "x").unwrap();
    assert_eq!(payload, text(&file, "payload").as_bytes());
    let record = SnapshotRecord::parse(&payload, "x").unwrap();
    assert_eq!(serde_json::to_value(&record).unwrap(), serde_json::from_slice::<Value>(&payload).unwrap());
    hold(&file, "cases", |case| SnapshotRecord::parse(text(case, "payload").as_bytes(), "x"), |_, _| {});
}

// §14

/// The writer's own bytes for a pack of one raw chunk, from the header on.
fn raw_pack(sealer: &Sealer, expected: &[u8], chunk: (ChunkId, ChunkKind, &[u8])) -> (SegmentPack, Directory) {
    let header: [u8; HEADER_LEN] = *expected.first_chunk().unwrap();
    let kind = chunk.1.pack();
    let (_, key) = sealer.resume(&[kind.file_kind()], &header, "x").unwrap();
    let mut pack = PackBuilder::after(kind, &header, key, 0);
    let chunks = &[(chunk.0, chunk.2.len())];
    pack.add(&NewFrame { encoding: Encoding::Raw, kind: chunk.1, base: None, chunks, encoded: chunk.2 });
    let (made, directory) = pack.finish().unwrap();
    assert!(made == expected, "the pack written is another one");
    (SegmentPack { name: FileHash::of(&made), kind, len: made.len() as u64 }, directory)
}

#[test]
fn the_worked_example_is_what_this_library_writes() {
    let file = vectors("example.json");
    let keys = Secret(array(&file, "secret")).keys();
    assert_eq!(
        (keys.seal, keys.id, keys.tree),
        (array(&file, "seal_key"), array(&file, "id_key"), array(&file, "tree_key"))
    );
    let hello = chunk_id(&keys.id, ChunkKind::Data, b"hello");
    assert_eq!(hello, id(&file, "chunk_id"));
    let chunks = Chunks::Inline(vec![ChunkRef { id: hello, len: 5 }]);
    let content = Content { hash: *blake3::hash(b"hello").as_bytes(), length: 5, sealing: None, rule: 1, chunks };
    let mtime = Some(1_700_000_000_000_000_000);
    let entry = Entry { place_mtime_ns: mtime, content: Some(content), ..Entry::new(Kind::File) };
    assert_eq!(entry.emit(), bytes(&file, "entry"));
    let name = Name::new("HomeDomain", "hi.txt").unwrap();
    assert_eq!(entry.place_for(&name).unwrap().as_str(), text(&file, "place"));
    let (root, nodes) = build(&file, &[(name.key().to_vec(), entry.emit())]);
    assert_eq!((root, nodes.chunk(&root, ChunkKind::Node).unwrap()), (id(&file, "root"), bytes(&file, "leaf")));

    let sealer = sealer(&file, cipher(&file));
    let leaf = bytes(&file, "leaf");
    let mut segment = SegmentBuilder::default();
    for (pack, chunk) in
        [("data_pack", (hello, ChunkKind::Data, &b"hello"[..])), ("tree_pack", (root, ChunkKind::Node, &leaf[..]))]
    {
        let (pack, directory) = raw_pack(&sealer, &bytes(&file, pack), chunk);
        segment.add_pack(pack, &directory);
    }
    assert!(segment.contents() == bytes(&file, "segment_contents"), "the segment written is another one");
    let (storage, segment) = (MemoryStorage::default(), bytes(&file, "segment"));
    let name = FileHash::of(&segment);
    storage.put(&format!("{INDEX_FOLDER}/{name}"), &segment).unwrap();
    let segment = Segment::from_storage(&storage, &sealer, name, segment.len() as u64, None).unwrap();
    assert!(segment.contents() == bytes(&file, "segment_contents"));
    let snapshot = bytes(&file, "snapshot");
    assert_eq!(FileHash::of(&snapshot).to_string(), text(&file, "snapshot_id"));
    let payload = sealer.open_payload(FileKind::Snapshot, &snapshot, "x").unwrap();
    assert_eq!(payload, text(&file, "snapshot_payload").as_bytes());
}

// All of it

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap().map(std::result::Result::unwrap) {
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_folder(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

fn modified_ns(path: &Path) -> i64 {
    let modified = path.metadata().unwrap().modified().unwrap();
    match modified.duration_since(std::time::UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as i64,
        Err(before) => -(before.duration().as_nanos() as i64),
    }
}

/// Opens a copy of a repository that another program wrote, compares all that it holds, and hands it to `look`.
fn read_repository(name: &str, look: impl Fn(&Value, &Repository)) {
    let file = vectors(&format!("{name}.json"));
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("repository");
    copy_folder(&folder().join(name), &copy);
    let recovery = text(&file, "recovery").parse().unwrap();
    for (run, unlock) in
        [Unlock::Password(text(&file, "password")), Unlock::Recovery(&recovery)].into_iter().enumerate()
    {
        let cache = dir.path().join(format!("cache {run}"));
        let repository = Repository::open(Arc::new(LocalStorage::new(&copy)), unlock, Some(&cache)).unwrap();
        let expected = list(&file, "snapshots");
        let report = check(&repository, Depth::ReadData, &|_| ControlFlow::Continue(())).unwrap();
        assert_eq!((report.problems, report.affected, report.snapshots), (vec![], vec![], expected.len() as u64));
        let found = repository.snapshots().unwrap();
        assert_eq!((found.problems.len(), found.snapshots.len()), (0, expected.len()));
        assert_eq!(found.snapshots.last().unwrap().id.to_string(), text(&file, "latest"));
        for (expected, snapshot) in expected.iter().zip(&found.snapshots) {
            assert_eq!(snapshot.id.to_string(), text(expected, "id"));
            let target = dir.path().join(format!("{run} {}", snapshot.id));
            compare(expected, &repository.read(snapshot).unwrap(), &target);
        }
        look(&file, &repository);
    }
}

/// Every frame of a repository, by the ids of its chunks, with the pack that it lies in.
fn frames(repository: &Repository) -> HashMap<ChunkId, (FileHash, Frame, usize)> {
    let (chunks, problems) = repository.chunks().unwrap();
    assert_eq!(problems, []);
    let mut frames = HashMap::new();
    for pack in chunks.index().packs() {
        let directory = &chunks.pack(&pack).unwrap().directory;
        for inside in directory.chunks.chunk_by(|a, b| a.frame == b.frame) {
            let frame = &directory.frames[inside[0].frame as usize];
            frames.extend(inside.iter().map(|chunk| (chunk.id, (pack.name, frame.clone(), inside.len()))));
        }
    }
    frames
}

#[test]
fn a_repository_that_another_program_wrote_comes_out_whole() {
    read_repository("repository", |_, repository| {
        assert!(frames(repository).values().any(|(_, frame, _)| frame.encoding == Encoding::Delta));
    });
}

#[test]
fn a_repository_of_deltas_solid_frames_and_sealed_files_comes_out_whole() {
    read_repository("repository-deltas", |file, repository| {
        let frames = frames(repository);
        let depth = |id: &ChunkId| {
            std::iter::successors(frames[id].1.base, |base| frames[&base.id].1.base).take(frames.len()).count()
        };
        assert_eq!(frames.keys().map(depth).max(), Some(8));
        for kind in [ChunkKind::Data, ChunkKind::Node, ChunkKind::List] {
            let deltas = frames.values().filter(|(_, frame, _)| frame.kind == kind);
            let deltas: Vec<_> = deltas.filter_map(|(pack, frame, _)| Some((pack, &frames[&frame.base?.id]))).collect();
            assert!(deltas.iter().any(|(pack, base)| base.0 != **pack), "no {kind:?} is a delta of another pack's");
            assert!(deltas.iter().any(|(_, base)| base.2 > 1), "no {kind:?} is a delta of one in a solid frame");
            assert!(deltas.iter().any(|(_, base)| base.1.base.is_some()), "no {kind:?} is a delta of a delta");
        }
        assert!(rewrite_segments(repository) > 0);
        let series = text(&file["remembered"], "series");
        assert_eq!(repository.parked(series).unwrap().unwrap().id.to_string(), text(file, "parked"));
        let remembered = repository.remembered_passwords(series).unwrap();
        assert_eq!(serde_json::to_value(&remembered).unwrap(), serde_json::json!([file["remembered"]]));
        assert!(remembered[0].is_of(&bytes(file, "keybag")));
    });
}

/// Writes every segment anew from the directories of its packs; the number of deltas in them.
fn rewrite_segments(repository: &Repository) -> usize {
    let Core { storage, sealer, .. } = &**repository.core();
    let (chunks, _) = repository.chunks().unwrap();
    let segment = |(name, len): (String, u64)| {
        let name = FileHash::from_hex(&name).unwrap();
        let segment = Segment::from_storage(&**storage, sealer, name, len, None).unwrap();
        let mut builder = SegmentBuilder::default();
        segment.packs.iter().for_each(|pack| builder.add_pack(*pack, &chunks.pack(pack).unwrap().directory));
        for &superseded in &segment.superseded {
            let empty = Segment::from_contents(superseded, SegmentBuilder::default().contents(), None).unwrap();
            builder.add_segment(&empty, |_| true).unwrap();
        }
        assert!(builder.contents() == segment.contents(), "{name} is written as another one");
        segment.deltas.len()
    };
    storage.list_folder(INDEX_FOLDER).unwrap().into_iter().map(segment).sum()
}

/// Compares a snapshot with what it should hold: read by name, and exported to `target`.
fn compare(expected: &Value, reader: &SnapshotReader, target: &Path) {
    let stats = export(reader, target, &ExportOptions::default(), &|_| ControlFlow::Continue(())).unwrap();
    assert_eq!((stats.problems.len(), stats.files), (0, list(expected, "files").len() as u64));
    for file in list(expected, "files") {
        let name = Name::new(text(file, "domain"), text(file, "path")).unwrap();
        let entry = reader.get(&name).unwrap().unwrap();
        assert_eq!(entry.place_for(&name).unwrap().as_str(), text(file, "place"));
        assert_eq!(entry.place_mtime_ns, file["mtime"].as_i64());
        let (mut read, content) = (Vec::new(), entry.content.unwrap());
        reader.read_file(&content, &mut read).unwrap();
        assert_eq!(
            (read.len() as u64, FileHash::of(&read).to_string().as_str()),
            (number(file, "length"), text(file, "blake3"))
        );
        assert_eq!(content.is_sealed(), file["plaintext_length"].is_u64());
        if content.is_sealed() {
            let mut plaintext = Vec::new();
            reader.read_plaintext(&content, &mut plaintext).unwrap();
            assert_eq!(
                (plaintext.len() as u64, FileHash::of(&plaintext).to_string().as_str()),
                (number(file, "plaintext_length"), text(file, "plaintext_blake3"))
            );
        }
        let path = target.join(text(file, "place"));
        assert!(std::fs::read(&path).unwrap() == read, "{file}");
        assert_eq!(Some(modified_ns(&path)), file["mtime"].as_i64());
    }
    for directory in list(expected, "directories") {
        assert!(target.join(directory.as_str().unwrap()).is_dir());
    }
}
