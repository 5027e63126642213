//! What comes in comes out.
//!
//! Random edits of a backup folder are done twice: by [`SnapshotEditor`], and on a plain map in memory. Every so often both are made a
//! snapshot. In the end every snapshot must be what the map was when it was taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use heirloom_store::{
    Cipher, Details, Entry, FileHash, Kind, LocalStorage, MemoryStorage, Name, Options, Outcome, Prefix, Repository,
    Snapshot, SnapshotEditor, SnapshotReader, Source, Stat, Storage, Unlock, WriteStats,
};
use proptest::{prelude::*, sample::select};

use crate::support::{
    check_all,
    folder::{File, Folder, Thing, create_parents, exported},
    is_pack, noise, place,
};

pub const SERIES: &str = "00008101-001A2B3C4D5E6F78";
/// So small that a snapshot has several packs.
pub const OPTIONS: Options = Options { cipher: Cipher::Aes256Gcm, pack_bytes: 64 << 10, parity: false };

/// Bytes of a file, small to show and to shrink. Those of one seed have much in common.
#[derive(Debug, Clone)]
pub enum Bytes {
    Empty,
    Small {
        seed: u64,
        len: usize,
    },
    /// Some of its blocks changed in place.
    Sqlite {
        seed: u64,
        blocks: usize,
        changed: Vec<usize>,
    },
    Wal {
        seed: u64,
        frames: usize,
    },
    Media {
        seed: u64,
        len: usize,
    },
    /// Bytes were inserted at some places.
    Other {
        seed: u64,
        len: usize,
        inserted: Vec<usize>,
    },
    Repeats {
        byte: u8,
        len: usize,
    },
}

impl Bytes {
    fn make(&self) -> Vec<u8> {
        match self {
            Bytes::Empty => Vec::new(),
            Bytes::Small { seed, len } => noise(*seed, *len),
            Bytes::Sqlite { seed, blocks, changed } => {
                let mut bytes = [b"SQLite format 3\0".as_slice(), &noise(*seed, blocks * 65_536 - 16)].concat();
                changed.iter().for_each(|block| bytes[block % blocks * 65_536 + 4000] ^= 0xff);
                bytes
            }
            Bytes::Wal { seed, frames } => {
                let header = [b"\x37\x7f\x06\x82\0\0\0\0".as_slice(), &4096u32.to_be_bytes(), &[0; 20]].concat();
                [header, noise(*seed, frames * 4120)].concat()
            }
            Bytes::Media { seed, len } => [b"\xff\xd8\xff".as_slice(), &noise(*seed, *len)].concat(),
            Bytes::Other { seed, len, inserted } => {
                let mut bytes = noise(*seed, *len);
                inserted.iter().for_each(|&at| drop(bytes.splice(at % len..at % len, *b"inserted")));
                bytes
            }
            Bytes::Repeats { byte, len } => vec![*byte; *len],
        }
    }
}

fn bytes() -> impl Strategy<Value = Bytes> {
    let seed = 0u64..3;
    prop_oneof![
        4 => Just(Bytes::Empty),
        12 => (seed.clone(), 1usize..=2000).prop_map(|(seed, len)| Bytes::Small { seed, len }),
        2 => (seed.clone(), 65_500usize..65_600).prop_map(|(seed, len)| Bytes::Small { seed, len }),
        4 => (seed.clone(), 1usize..5, prop::collection::vec(0usize..5, 0..3))
            .prop_map(|(seed, blocks, changed)| Bytes::Sqlite { seed, blocks, changed }),
        2 => (seed.clone(), 1usize..50).prop_map(|(seed, frames)| Bytes::Wal { seed, frames }),
        4 => (seed.clone(), 70_000usize..400_000, prop::collection::vec(0usize..400_000, 0..3))
            .prop_map(|(seed, len, inserted)| Bytes::Other { seed, len, inserted }),
        // So many equal blocks that they do not fit in an entry.
        2 => (0u8..2, 1usize..9_000_000).prop_map(|(byte, len)| Bytes::Repeats { byte, len }),
        1 => seed.prop_map(|seed| Bytes::Media { seed, len: 5_000_000 }),
    ]
}

#[derive(Debug, Clone)]
pub enum Edit {
    CreateDir(String),
    Write(String, i64, Bytes),
    Read(String),
    Rename(String, String),
    Copy(String, String),
    Remove(String),
    /// The run is cut off, and the next one goes on with it.
    Park,
}

/// How a run ends.
#[derive(Debug, Clone)]
pub enum Ending {
    /// Files are called what the base calls them.
    KeepNames,
    /// Only these files have names.
    Name(Vec<Description>),
}

#[derive(Debug, Clone)]
pub struct Description {
    domain: &'static str,
    path: &'static str,
    place: Option<String>,
    mode: u32,
}

/// Paths meet often.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(select(vec!["a", "b", "c", "3d"]), 1..4).prop_map(|parts| parts.join("/"))
}

fn edit() -> impl Strategy<Value = Edit> {
    // Times that every file system keeps.
    let mtime = (-1000i64..2_000_000_000).prop_map(|seconds| seconds * 1_000_000_000 + seconds % 1000 * 100);
    prop_oneof![
        2 => path().prop_map(Edit::CreateDir),
        8 => (path(), mtime, bytes()).prop_map(|(path, mtime_ns, bytes)| Edit::Write(path, mtime_ns, bytes)),
        2 => path().prop_map(Edit::Read),
        3 => (path(), path()).prop_map(|(from, to)| Edit::Rename(from, to)),
        3 => (path(), path()).prop_map(|(from, to)| Edit::Copy(from, to)),
        2 => path().prop_map(Edit::Remove),
        1 => Just(Edit::Park),
    ]
}

fn ending() -> impl Strategy<Value = Ending> {
    let domain = select(vec!["", "HomeDomain", "AppDomain-x", "HomeDomain-y"]);
    let path_of = select(vec!["a", "Library", "Library/SMS/sms.db", "Library/SMS/sms.db-wal", "Library2"]);
    let description = (domain, path_of, prop::option::weighted(0.8, path()), 0u32..0o200_000)
        .prop_map(|(domain, path, place, mode)| Description { domain, path, place, mode });
    prop_oneof![Just(Ending::KeepNames), prop::collection::vec(description, 0..12).prop_map(Ending::Name)]
}

/// Place, mode and file of every name.
type Entries = BTreeMap<Name, (Option<String>, Option<u32>, Option<File>)>;

/// A backup folder as plainly as can be, with what its files are called.
#[derive(Debug, Clone, Default)]
pub struct Model {
    folder: Folder,
    /// By place.
    described: BTreeMap<String, (Name, Entry)>,
    elsewhere: BTreeMap<Name, Entry>,
    /// The places of which something was told since the names were forgotten.
    named: BTreeSet<String>,
}

impl Model {
    fn is_file(&self, path: &str) -> bool {
        matches!(self.folder.get(path), Some(Thing::File(_)))
    }

    /// Whether something may be put at `path`.
    fn has_room_at(&self, path: &str) -> bool {
        path.match_indices('/').all(|(at, _)| !self.is_file(&path[..at]))
    }

    fn put(&mut self, path: &str, thing: Thing) {
        create_parents(&mut self.folder, path);
        self.folder.insert(path.to_owned(), thing);
    }

    /// What lies at and below `path`.
    fn at_and_below(&self, path: &str) -> Vec<(String, Thing)> {
        let is_inside =
            |other: &str| other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let inside = self.folder.iter().filter(|(other, _)| is_inside(other));
        inside.map(|(other, thing)| (other.clone(), thing.clone())).collect()
    }

    fn remove(&mut self, path: &str) {
        for (inside, _) in self.at_and_below(path) {
            self.folder.remove(&inside);
            self.described.remove(&inside);
        }
    }

    /// A move takes the names along; a name is of one file alone, so a copy has none.
    fn transfer(&mut self, from: &str, to: &str, is_move: bool) {
        let things = self.at_and_below(from);
        let names: Vec<_> =
            things.iter().map(|(path, _)| self.described.get(path).cloned().filter(|_| is_move)).collect();
        if is_move {
            self.remove(from);
        }
        self.remove(to);
        for ((path, thing), name) in things.into_iter().zip(names) {
            let path = format!("{to}{}", &path[from.len()..]);
            self.put(&path, thing);
            self.described.extend(name.map(|name| (path, name)));
        }
    }

    /// How many files with how many bytes.
    fn size(&self) -> (u64, u64) {
        let files =
            self.folder.values().filter_map(|thing| if let Thing::File(file) = thing { Some(file) } else { None });
        files.fold((0, 0), |(files, bytes), file| (files + 1, bytes + file.bytes.len() as u64))
    }

    /// A name is the one that was told last. A file that loses its name so, or is told another one after its first, is not lost.
    fn describe(&mut self, name: Name, place: Option<&str>, about: Entry) -> bool {
        if name.domain().is_empty() {
            return false;
        }
        let file = place.filter(|place| self.is_file(place) && !self.named.contains(*place)).map(str::to_owned);
        self.described.retain(|_, (other, _)| *other != name);
        self.elsewhere.remove(&name);
        let found = file.is_some();
        match file {
            Some(place) => {
                self.named.insert(place.clone());
                self.described.insert(place, (name, about));
            }
            None => drop(self.elsewhere.insert(name, about)),
        }
        found || place.is_none()
    }

    fn forget_names(&mut self) {
        self.named.clear();
        self.described.clear();
        self.elsewhere.clear();
    }

    /// What the entries of a snapshot of this are.
    fn entries(&self) -> Entries {
        let mut entries = BTreeMap::new();
        for (path, thing) in &self.folder {
            let is_empty = self.at_and_below(path).len() == 1;
            let (name, mode) = match self.described.get(path) {
                Some((name, about)) => (name.clone(), about.phone.mode),
                None => (Name::of_place(&place(path)), None),
            };
            match thing {
                Thing::File(file) => drop(entries.insert(name, (Some(path.clone()), mode, Some(file.clone())))),
                Thing::Directory if is_empty => drop(entries.insert(name, (Some(path.clone()), None, None))),
                Thing::Directory => {}
            }
        }
        entries.extend(self.elsewhere.iter().map(|(name, about)| (name.clone(), (None, about.phone.mode, None))));
        entries
    }
}

/// Does `edit` to both. Whether it is refused must be the same.
fn apply(edit: &Edit, editor: &mut SnapshotEditor, model: &mut Model) {
    match edit {
        Edit::Park => panic!("the repository parks, not the editor alone"),
        Edit::CreateDir(path) => {
            let fits = model.has_room_at(path) && !model.is_file(path);
            assert_eq!(editor.create_dir(&place(path)).is_ok(), fits);
            if fits {
                model.put(path, Thing::Directory);
            }
        }
        Edit::Write(path, mtime_ns, bytes) => {
            let bytes = bytes.make();
            let fits = model.has_room_at(path) && model.folder.get(path) != Some(&Thing::Directory);
            assert_eq!(editor.write_file(&place(path), None, *mtime_ns, &mut bytes.as_slice()).is_ok(), fits);
            if fits {
                model.remove(path);
                model.put(path, Thing::File(File { bytes: Arc::new(bytes), mtime_ns: *mtime_ns }));
            }
        }
        Edit::Read(path) => {
            let mut bytes = Vec::new();
            let read = editor.read_file(&place(path), &mut bytes).map(|()| bytes);
            match model.folder.get(path) {
                Some(Thing::File(file)) => assert!(read.unwrap() == *file.bytes, "other bytes were read"),
                _ => assert!(read.is_err()),
            }
        }
        Edit::Rename(from, to) => transfer(editor, model, from, to, true),
        Edit::Copy(from, to) => transfer(editor, model, from, to, false),
        Edit::Remove(path) => {
            editor.remove(&place(path));
            model.remove(path);
        }
    }
}

/// Parks a run and goes on with it. Nothing of this is a snapshot.
fn park(repository: &Repository, editor: SnapshotEditor, model: &Model) -> SnapshotEditor {
    let snapshots = repository.snapshots().unwrap().snapshots;
    let parked = editor.park().unwrap();
    let (files, bytes) = model.size();
    assert_eq!((parked.record.files, parked.record.bytes), (files, bytes));
    assert_eq!(repository.snapshots().unwrap().snapshots, snapshots);
    assert_eq!(repository.parked(SERIES).unwrap().as_ref(), Some(&parked));
    assert_eq!(repository.parked("another").unwrap(), None);
    repository.resume(&parked).unwrap()
}

/// Ends a run, and says so to the model.
fn end(editor: SnapshotEditor, model: &mut Model, ending: &Ending, details: Details) -> Snapshot {
    let Ending::Name(descriptions) = ending else { return editor.commit(details).unwrap().0 };
    let mut naming = editor.name_files().unwrap();
    model.forget_names();
    for Description { domain, path, place: at, mode } in descriptions {
        let name = Name::new(domain, path).unwrap();
        let mut about = Entry::new(if at.is_some() { Kind::File } else { Kind::Directory });
        about.phone.mode = Some(*mode);
        let found = naming.describe(&name, at.as_deref().map(place).as_ref(), about.clone()).unwrap();
        assert_eq!(found, model.describe(name, at.as_deref(), about));
    }
    naming.commit(details).unwrap().0
}

fn transfer(editor: &mut SnapshotEditor, model: &mut Model, from: &str, to: &str, is_move: bool) {
    let lies_inside = to.strip_prefix(from).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let fits = model.folder.contains_key(from) && !lies_inside && model.has_room_at(to);
    let (from_place, to_place) = (place(from), place(to));
    let done = if is_move { editor.rename(&from_place, &to_place) } else { editor.copy(&from_place, &to_place) };
    assert_eq!(done.is_ok(), fits);
    if fits {
        model.transfer(from, to, is_move);
    }
}

/// Whether the editor shows the folder that the model is.
fn assert_looks_the_same(editor: &SnapshotEditor, model: &Model) {
    let stat = |thing: &Thing| match thing {
        Thing::File(file) => Stat::File { length: file.bytes.len() as u64, mtime_ns: file.mtime_ns },
        Thing::Directory => Stat::Directory,
    };
    let list_of = |folder: &str| -> Vec<(String, Stat)> {
        let direct = model.folder.iter().filter_map(|(path, thing)| Some((path.strip_prefix(folder)?, thing)));
        direct.filter(|(rest, _)| !rest.contains('/')).map(|(rest, thing)| (rest.to_owned(), stat(thing))).collect()
    };
    assert_eq!(editor.list(None).unwrap(), list_of(""));
    for (path, thing) in &model.folder {
        assert_eq!(editor.stat(&place(path)), Some(stat(thing)), "{path}");
        match (thing, editor.list(Some(&place(path)))) {
            (Thing::Directory, listed) => assert_eq!(listed.unwrap(), list_of(&format!("{path}/")), "{path}"),
            (Thing::File(_), listed) => assert!(listed.is_err(), "{path} is a file"),
        }
    }
    assert_eq!(editor.stat(&place("never")), None);
    assert!(editor.list(Some(&place("never"))).is_err());
}

/// Whether a snapshot is what the model was.
pub fn assert_is(repository: &Repository, snapshot: &Snapshot, model: &Model) {
    let (folder, stats) = exported(repository, snapshot);
    assert_eq!(stats.problems, []);
    assert_eq!(folder, model.folder);
    let reader = repository.read(snapshot).unwrap();
    let expected = model.entries();
    assert_eq!(read_entries(&reader, &Prefix::all()), expected);
    for domain in ["", "HomeDomain", "Home"] {
        let of_domain = expected.iter().filter(|(name, _)| name.domain() == domain);
        let of_domain: BTreeMap<_, _> = of_domain.map(|(name, entry)| (name.clone(), entry.clone())).collect();
        assert_eq!(read_entries(&reader, &Prefix::domain(domain)), of_domain);
    }
    let below = |(name, _): &(&Name, &_)| name.domain() == "HomeDomain" && name.path().starts_with("Library/");
    let below: BTreeMap<_, _> =
        expected.iter().filter(below).map(|(name, entry)| (name.clone(), entry.clone())).collect();
    assert_eq!(read_entries(&reader, &Prefix::below("HomeDomain", &place("Library"))), below);
    assert_eq!(reader.get(&Name::new("HomeDomain", "never").unwrap()).unwrap(), None);
    assert_eq!((snapshot.record.files, snapshot.record.bytes), model.size());
}

/// What a reader gives, in the model's form.
fn read_entries(reader: &SnapshotReader, prefix: &Prefix) -> Entries {
    let mut entries = BTreeMap::new();
    for item in reader.entries(prefix) {
        let (name, entry) = item.unwrap();
        assert_eq!(reader.get(&name).unwrap().as_ref(), Some(&entry));
        let file = entry.content.as_ref().map(|content| {
            let mut bytes = Vec::new();
            reader.read_file(content, &mut bytes).unwrap();
            assert_eq!((content.length, content.hash), (bytes.len() as u64, *FileHash::of(&bytes).as_bytes()));
            File { bytes: Arc::new(bytes), mtime_ns: entry.place_mtime_ns.unwrap() }
        });
        let place = entry.place_for(&name).map(|place| place.to_string());
        assert!(entries.keys().next_back().is_none_or(|last| *last < name), "entries come in order");
        entries.insert(name, (place, entry.phone.mode, file));
    }
    entries
}

/// What is based on which snapshot, what is done to it, and how it ends.
pub type Run = (prop::sample::Index, Vec<Edit>, Ending);

pub fn runs() -> impl Strategy<Value = Vec<Run>> {
    prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(edit(), 0..20), ending()), 1..5)
}

/// Makes a snapshot of each run, and the model of what it must hold.
pub fn take(repository: &Repository, runs: &[Run]) -> Vec<(Snapshot, Model)> {
    let mut taken: Vec<(Snapshot, Model)> = Vec::new();
    for (time, (base, edits, ending)) in (1..).zip(runs) {
        // Each is based on any that is there.
        let base = (!taken.is_empty()).then(|| base.get(&taken).clone());
        let (base, mut model) = base.map_or((None, Model::default()), |(base, model)| (Some(base), model));
        let mut editor = repository.edit(SERIES, base.as_ref()).unwrap();
        assert_looks_the_same(&editor, &model);
        for edit in edits {
            match edit {
                Edit::Park => editor = park(repository, editor, &model),
                edit => apply(edit, &mut editor, &mut model),
            }
            assert_looks_the_same(&editor, &model);
        }
        let snapshot = end(editor, &mut model, ending, Details::new(time, Source::Import));
        assert_eq!(repository.parked(SERIES).unwrap(), None);
        assert_eq!(snapshot.record.previous, taken.last().map(|(snapshot, _)| snapshot.id));
        taken.push((snapshot, model));
    }
    taken
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_snapshot_is_what_the_folder_was(runs in runs()) {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &OPTIONS).unwrap();
        let taken = take(&repository, &runs);
        assert_eq!(storage.list("parked").unwrap(), []);
        let repository = Repository::open(storage, Unlock::Open, None).unwrap();
        let list = repository.snapshots().unwrap();
        assert_eq!(list.snapshots, taken.iter().map(|(snapshot, _)| snapshot.clone()).collect::<Vec<_>>());
        taken.iter().for_each(|(snapshot, model)| assert_is(&repository, snapshot, model));
        assert_eq!(check_all(&repository, heirloom_store::Depth::ReadData).unwrap().problems, []);
    }
}

/// A phone with a bit of everything.
fn phone() -> Model {
    let mut model = Model::default();
    let files = [
        Bytes::Empty,
        Bytes::Small { seed: 1, len: 1000 },
        Bytes::Sqlite { seed: 1, blocks: 5, changed: Vec::new() },
        Bytes::Other { seed: 2, len: 500_000, inserted: Vec::new() },
        Bytes::Repeats { byte: 7, len: 9_000_000 },
    ];
    for (n, bytes) in files.iter().enumerate() {
        let file = File { bytes: Arc::new(bytes.make()), mtime_ns: 1_600_000_000_000_000_000 + n as i64 };
        model.put(&format!("{n}/{n}"), Thing::File(file));
    }
    model
}

/// Makes a snapshot of `model` entry by entry, as an import does; what the newest snapshot holds is not read again.
fn put_all(repository: &Repository, model: &Model, details: Details) -> (Snapshot, WriteStats) {
    let newest = repository.snapshots().unwrap().newest_of(SERIES).cloned();
    let reader = newest.map(|newest| repository.read(&newest).unwrap());
    let mut writer = repository.write(SERIES).unwrap();
    for (path, thing) in &model.folder {
        let Thing::File(file) = thing else { continue };
        let name = Name::of_place(&place(path));
        let remembered = reader.as_ref().and_then(|reader| reader.get(&name).unwrap()?.content);
        let content = match remembered.filter(|content| content.hash == *FileHash::of(&file.bytes).as_bytes()) {
            Some(content) => {
                assert!(writer.holds(&content).unwrap(), "{path} is in the repository");
                content
            }
            None => writer.store(None, &mut file.bytes.as_slice()).unwrap(),
        };
        let entry = Entry { content: Some(content), place_mtime_ns: Some(file.mtime_ns), ..Entry::new(Kind::File) };
        writer.put(&name, &entry).unwrap();
    }
    writer.commit(details).unwrap()
}

#[test]
fn an_import_is_the_same_snapshot_as_an_edit_and_a_second_one_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(LocalStorage::new(&dir.path().join("repository")));
    let cache = dir.path().join("cache");
    Repository::create(storage.clone(), None, &OPTIONS).unwrap();
    let repository = Repository::open(storage.clone(), Unlock::Open, Some(&cache)).unwrap();
    let model = phone();

    let (first, stats) = put_all(&repository, &model, Details::new(1, Source::Import));
    assert_is(&repository, &first, &model);
    let list_packs = || [storage.list("packs").unwrap(), storage.list("trees").unwrap()].concat();
    let packs = list_packs();
    assert!(packs.len() > 5);
    assert_eq!(stats.added_bytes, packs.iter().map(|(_, len)| len).sum::<u64>());

    let mut editor = repository.edit(SERIES, None).unwrap();
    for (path, thing) in &model.folder {
        let Thing::File(file) = thing else { continue };
        editor.write_file(&place(path), None, file.mtime_ns, &mut file.bytes.as_slice()).unwrap();
    }
    let (second, stats) = editor.commit(Details::new(2, Source::Import)).unwrap();
    assert_eq!((stats.outcome, stats.new_chunks, stats.added_bytes), (Outcome::New, 0, 0));
    assert_is(&repository, &second, &model);

    let (third, stats) = put_all(&repository, &model, Details::new(3, Source::Import));
    assert_eq!((stats.read_bytes, stats.new_chunks, stats.added_bytes), (0, 0, 0));
    assert_is(&repository, &third, &model);
    assert_eq!(list_packs().len(), packs.len());
}

#[test]
fn a_snapshot_that_is_there_is_not_made_again_if_that_is_not_wanted() {
    let (repository, _) = Repository::create(Arc::new(MemoryStorage::default()), None, &OPTIONS).unwrap();
    let mut model = phone();
    let details = |time| Details { skip_if_same: true, ..Details::new(time, Source::Import) };
    let (first, stats) = put_all(&repository, &model, details(1));
    assert_eq!(stats.outcome, Outcome::New);
    let (again, stats) = put_all(&repository, &model, details(1));
    assert_eq!((&again, stats.outcome), (&first, Outcome::Unchanged));
    assert_eq!(repository.snapshots().unwrap().snapshots.len(), 1);
    assert_eq!(put_all(&repository, &model, details(2)).1.outcome, Outcome::New, "it was taken at another time");
    model.remove("1/1");
    assert_eq!(put_all(&repository, &model, details(1)).1.outcome, Outcome::New, "it holds other files");
    let (_, stats) = put_all(&repository, &model, Details::new(1, Source::Import));
    assert_eq!(stats.outcome, Outcome::New, "it was wanted");
}

#[test]
fn a_content_is_held_only_while_all_of_it_is_there() {
    let storage = Arc::new(MemoryStorage::default());
    let (repository, _) = Repository::create(storage.clone(), None, &OPTIONS).unwrap();
    let (snapshot, _) = put_all(&repository, &phone(), Details::new(1, Source::Import));
    let reader = repository.read(&snapshot).unwrap();
    let content = |path: &str| reader.get(&Name::of_place(&place(path))).unwrap().unwrap().content.unwrap();
    let contents = [content("2/2"), content("4/4")];
    let packs: Vec<String> = storage.files().keys().filter(|name| is_pack(name)).cloned().collect();
    let mut lost = [0; 2];
    for pack in packs {
        let bytes = storage.files().remove(&pack).unwrap();
        let writer = repository.write(SERIES).unwrap();
        for (lost, content) in lost.iter_mut().zip(&contents) {
            let mut read = Vec::new();
            let readable = repository.read(&snapshot).unwrap().read_file(content, &mut read).is_ok();
            assert_eq!(writer.holds(content).unwrap(), readable);
            *lost += u32::from(!readable);
        }
        drop(writer);
        storage.files().insert(pack, bytes);
    }
    assert!(lost[0] > 1 && lost[1] > 1, "a content lies in several packs, or in one and a list in another");
}

#[test]
fn a_file_that_cannot_be_read_leaves_the_editor_as_it_was() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("unreadable"))
        }
    }
    let (repository, _) = Repository::create(Arc::new(MemoryStorage::default()), None, &OPTIONS).unwrap();
    let (mut editor, mut model) = (repository.edit(SERIES, None).unwrap(), Model::default());
    apply(&Edit::Write("a/b".into(), 5, Bytes::Small { seed: 1, len: 10 }), &mut editor, &mut model);
    assert!(editor.write_file(&place("a/b"), None, 6, &mut Broken).is_err());
    assert!(editor.write_file(&place("a/c"), None, 6, &mut Broken).is_err());
    assert_looks_the_same(&editor, &model);
    let (snapshot, _) = editor.commit(Details::new(1, Source::Import)).unwrap();
    assert_is(&repository, &snapshot, &model);
}

#[test]
fn a_refused_move_leaves_everything_where_it_was() {
    let (repository, _) = Repository::create(Arc::new(MemoryStorage::default()), None, &OPTIONS).unwrap();
    let (mut editor, mut model) = (repository.edit(SERIES, None).unwrap(), Model::default());
    let deep = |times: usize| vec!["d".repeat(250); times].join("/");
    apply(&Edit::Write(format!("a/{}", deep(10)), 5, Bytes::Empty), &mut editor, &mut model);
    apply(&Edit::Write("a/b".into(), 5, Bytes::Empty), &mut editor, &mut model);
    assert!(editor.rename(&place("a"), &place(&deep(10))).is_err(), "the path would be too long");
    assert_looks_the_same(&editor, &model);
}
