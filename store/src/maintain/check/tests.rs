use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use proptest::prelude::*;

use super::{reads::READ_DIFFERENTLY, *};
use crate::{
    Details, Entry, Kind, MemoryStorage, Options, Prefix, Source, Unlock,
    format::{
        chunk_list::for_each_chunk,
        pack::{ChunkKind, Pack},
    },
    id::SnapshotId,
    index::SegmentBuilder,
    progress::Progress,
    snapshots::spares::spare_file,
    storage::layout::INDEX_FOLDER,
};

type Files = BTreeMap<String, Vec<u8>>;
type Hook = Box<dyn FnOnce(&MemoryStorage) + Send>;

/// A disk that can be watched, that errs, and at which others are at work.
#[derive(Default)]
struct Disk {
    files: MemoryStorage,
    /// What was read of packs.
    pack_reads: AtomicUsize,
    /// How many more reads of a file give a wrong byte, and whether always the same.
    errs: Mutex<BTreeMap<String, (u8, bool)>>,
    /// What happens when a file is read for the first time.
    meanwhile: Mutex<Option<(String, Hook)>>,
    /// A file that this user may not read.
    forbidden: Mutex<Option<String>>,
}

impl Disk {
    fn of(files: &Files) -> Arc<Disk> {
        let disk = Disk::default();
        *disk.files.files() = files.clone();
        Arc::new(disk)
    }

    fn open(self: &Arc<Disk>, cache: Option<&Path>) -> Repository {
        Repository::open(self.clone(), Unlock::Open, cache).unwrap()
    }

    fn errs(&self, file: &str, times: u8, is_same: bool) {
        self.errs.lock().unwrap().insert(file.to_owned(), (times, is_same));
    }

    fn meanwhile(&self, file: &str, hook: impl FnOnce(&MemoryStorage) + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some((file.to_owned(), Box::new(hook)));
    }

    fn names(&self, folder: &str) -> Vec<String> {
        self.files.files().keys().filter(|name| name.starts_with(folder)).cloned().collect()
    }

    fn packs(&self) -> Vec<String> {
        self.files.files().keys().filter(|name| is_pack(name)).cloned().collect()
    }
}

fn is_pack(file: &str) -> bool {
    file.starts_with("packs/") || file.starts_with("trees/")
}

impl Storage for Disk {
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.files.put(name, content)
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        if self.forbidden.lock().unwrap().as_deref() == Some(name) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let hook = self.meanwhile.lock().unwrap().take_if(|(file, _)| name == file);
        if let Some((_, hook)) = hook {
            hook(&self.files);
        }
        if is_pack(name) {
            self.pack_reads.fetch_add(1, Ordering::Relaxed);
        }
        let mut bytes = self.files.read(name, offset, len)?;
        if let Some((times, is_same)) = self.errs.lock().unwrap().get_mut(name)
            && *times > 0
            && let Some(last) = bytes.last_mut()
        {
            *last ^= if *is_same { 1 } else { *times };
            *times -= 1;
        }
        Ok(bytes)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        self.files.list(folder)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.files.delete(name)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Makes a snapshot number `day` of a phone: files that stay, one that is new, and a database and a log that change a little.
fn keep(repository: &Repository, series: &str, day: u64) -> Snapshot {
    let mut writer = repository.write(series).unwrap();
    let mut database = [b"SQLite format 3\0".as_slice(), &noise(900, 200_000)].concat();
    for past in 0..=day as usize {
        database[100 + 7919 * past % 60_000] ^= 1;
    }
    // So many chunks that they are kept in lists.
    let log = [noise(901, 3_000_000), noise(902 + day, 100)].concat();
    let mut files = vec![("a.db".to_owned(), database), ("b.log".to_owned(), log)];
    files.extend((0..=day + 3).map(|n| (format!("files/{n:03}"), noise(n, 20_000))));
    for n in 0..400 {
        files.push((format!("small/{n:03}"), format!("{series} {n}").into_bytes()));
    }
    for (path, bytes) in files {
        let name = Name::new("HomeDomain", &path).unwrap();
        let content = Some(writer.store(Some(&name), &mut bytes.as_slice()).unwrap());
        writer.put(&name, &Entry { content, ..Entry::new(Kind::File) }).unwrap();
    }
    writer.commit(Details::new(day as i64, Source::Import)).unwrap().0
}

/// A repository of `days` snapshots of a phone.
fn repository_of(days: u64) -> Arc<Disk> {
    let disk = Arc::new(Disk::default());
    let options = Options { pack_bytes: 128 << 10, ..Options::default() };
    let (repository, _) = Repository::create(disk.clone(), None, &options).unwrap();
    (0..days).for_each(|day| drop(keep(&repository, "phone", day)));
    disk
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn run<'a>(repository: &Repository, options: impl Into<CheckOptions<'a>>) -> CheckReport {
    check(repository, options, &go_on).unwrap()
}

/// What a report finds wrong.
fn wrong(report: &CheckReport) -> (Vec<String>, Vec<Affected>) {
    (report.problems.iter().map(ToString::to_string).collect(), report.affected.clone())
}

/// A check of the structure with the ledger in `cache`, which must find what one without finds.
fn same_as_without(files: &Files, cache: &Path) -> CheckReport {
    let (with, other) = (Disk::of(files).open(Some(cache)), tempfile::tempdir().unwrap());
    let without = Disk::of(files).open(Some(other.path()));
    // A segment that was read before it broke is known to both.
    let [from, to] = [&with, &without].map(|repository| repository.cache_dir().unwrap().join("index"));
    fs::create_dir_all(&to).unwrap();
    for copy in fs::read_dir(from).into_iter().flatten() {
        let copy = copy.unwrap();
        fs::copy(copy.path(), to.join(copy.file_name())).unwrap();
    }
    let [with, without] = [with, without].map(|repository| run(&repository, Depth::Structure));
    assert_eq!(wrong(&with), wrong(&without));
    assert_eq!((with.snapshots, with.packs, with.chunks), (without.snapshots, without.packs, without.chunks));
    with
}

fn one_pack(files: &Files, kind: u8) -> String {
    files.iter().find(|(name, bytes)| is_pack(name) && bytes[9] == kind).unwrap().0.clone()
}

#[test]
fn what_was_verified_of_a_repository_is_not_of_its_copy() {
    let (disk, folder, cache) = (repository_of(2), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let place = |name: &str| Arc::new(crate::LocalStorage::new(&folder.path().join(name)));
    for name in ["first", "copy"] {
        for (file, bytes) in &*disk.files.files() {
            place(name).put(file, bytes).unwrap();
        }
    }
    let verified = |name: &str, depth| {
        let repository = Repository::open(place(name), Unlock::Open, Some(cache.path())).unwrap();
        run(&repository, depth).verified.unwrap().bytes
    };
    assert!(verified("first", Depth::ReadData) > 0);
    assert!(verified("first", Depth::Structure) > 0, "it is remembered");
    assert_eq!(verified("copy", Depth::Structure), 0);
}

#[test]
fn what_was_whole_is_not_read_again_and_of_a_new_tree_only_what_is_new() {
    let disk = repository_of(3);
    let cache = tempfile::tempdir().unwrap();
    let repository = disk.open(Some(cache.path()));
    let first = run(&repository, Depth::Structure);
    assert!(first.is_whole() && disk.pack_reads.swap(0, Ordering::Relaxed) > 0);
    let again = run(&repository, Depth::Structure);
    assert!(again.is_whole() && (again.chunks, again.packs) == (first.chunks, first.packs));
    assert_eq!(disk.pack_reads.swap(0, Ordering::Relaxed), 0);

    let packs = disk.packs().len();
    keep(&repository, "phone", 3);
    let new_packs = disk.packs().len() - packs;
    disk.pack_reads.store(0, Ordering::Relaxed);
    let repository = disk.open(Some(cache.path()));
    assert!(run(&repository, Depth::Structure).is_whole());
    let with = disk.pack_reads.swap(0, Ordering::Relaxed);
    assert!(run(&repository, CheckOptions { full: true, ..Depth::Structure.into() }).is_whole());
    let without = disk.pack_reads.swap(0, Ordering::Relaxed);
    assert!(new_packs > 0 && with >= 2 * new_packs && with * 3 < without, "{with} of {without} reads");
    assert!(run(&repository, Depth::Structure).is_whole());
    assert_eq!(disk.pack_reads.load(Ordering::Relaxed), 0, "what a full check found is known as well");
}

#[test]
fn a_ledger_hides_nothing_but_changed_bytes_in_packs() {
    let disk = repository_of(3);
    let whole = disk.files.files().clone();
    let (data, tree) = (one_pack(&whole, 1), one_pack(&whole, 2));
    let segments: Vec<String> = disk.names("index/");
    let without = |gone: &[&String]| -> Files {
        let is_kept = |(name, _): &(&String, &Vec<u8>)| !gone.contains(name);
        whole.iter().filter(is_kept).map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
    };
    let cut = |file: &str| {
        let mut files = whole.clone();
        files.get_mut(file).unwrap().pop();
        files
    };
    let clean = |files: &Files| {
        let cache = tempfile::tempdir().unwrap();
        assert!(run(&Disk::of(files).open(Some(cache.path())), Depth::Structure).is_whole());
        cache
    };
    for files in [without(&[&data]), without(&[&tree]), cut(&data), cut(&tree), cut(&segments[0])] {
        let report = same_as_without(&files, clean(&whole).path());
        assert!(!report.problems.is_empty());
    }
    let all_segments: Vec<&String> = segments.iter().collect();
    let report = same_as_without(&without(&all_segments), clean(&whole).path());
    assert!(report.affected.is_empty(), "packs tell what they hold");
    assert!(matches!(&report.problems[..], [problem] if problem.file == INDEX_FOLDER), "{:?}", report.problems);
    for pack in [&data, &tree] {
        let gone: Vec<&String> = segments.iter().chain([pack]).collect();
        assert!(!same_as_without(&without(&gone), clean(&whole).path()).affected.is_empty(), "nothing names the pack");
        // Twice, and then it is back.
        let cache = clean(&whole);
        for _ in 0..2 {
            assert!(!same_as_without(&without(&gone), cache.path()).is_whole());
        }
        assert!(same_as_without(&whole, cache.path()).is_whole());
    }
}

#[test]
fn a_segment_that_lists_something_else_is_found_though_all_packs_are_there() {
    let disk = repository_of(2);
    let cache = tempfile::tempdir().unwrap();
    let repository = disk.open(Some(cache.path()));
    assert!(run(&repository, Depth::Structure).is_whole());
    let core = repository.core();
    let (chunks, _) = repository.chunks().unwrap();
    let mut builder = SegmentBuilder::default();
    chunks.index().all_segments().for_each(|open| builder.add_segment(&open.segment, |_| false).unwrap());
    let packs: Vec<SegmentPack> = chunks.index().packs().collect();
    let has_several = |pack: &&SegmentPack| chunks.pack(pack).unwrap().directory.chunks.len() > 1;
    let lacking = *packs.iter().find(has_several).unwrap();
    for &pack in &packs {
        let mut open = Pack::open(&*core.storage, &core.sealer, &pack).unwrap();
        if pack == lacking {
            open.directory.chunks.pop();
        }
        builder.add_pack(pack, &open.directory);
    }
    Index::default().write_segment(&*core.storage, &core.sealer, None, builder).unwrap();
    let report = same_as_without(&disk.files.files().clone(), cache.path());
    let names_it = |problem: &Problem| problem.what.contains(&lacking.file());
    assert!(report.problems.iter().any(|problem| problem.file.starts_with("index/") && names_it(problem)));
    assert!(!report.affected.is_empty());
}

#[test]
fn parts_cover_everything_and_what_was_verified_longest_ago_comes_first() {
    let disk = repository_of(4);
    let cache = tempfile::tempdir().unwrap();
    let repository = disk.open(Some(cache.path()));
    let lens = |folder: &str| disk.list(folder).unwrap().iter().map(|(_, len)| len).sum::<u64>();
    let total = lens("packs") + lens("trees");
    let part = |now: i64| {
        let subset = Subset::Share(0.2);
        run(&repository, CheckOptions { now, subset, ..Depth::ReadData.into() })
    };
    let mut runs = 0;
    for now in 1.. {
        let report = part(now);
        assert!(report.is_whole() && report.bytes_read >= total / 5 && report.bytes_read < total / 2);
        let verified = report.verified.unwrap();
        assert_eq!((verified.of, verified.since), (total, Some(1)));
        runs = now;
        if verified.bytes == total {
            break;
        }
    }
    assert!((3..=5).contains(&runs), "{runs}");
    assert_eq!(part(100).verified.unwrap().since, Some(2), "those of the first run were read again");

    // Groups need no ledger.
    let repository = disk.open(None);
    let group = |number| CheckOptions { subset: Subset::Group { number, of: 3 }, ..Depth::ReadData.into() };
    let read: Vec<u64> = (1..=3).map(|number| run(&repository, group(number)).bytes_read).collect();
    assert_eq!(read.iter().sum::<u64>(), total);
    assert!(read.iter().all(|&read| read > 0), "{read:?}");
    let bytes = CheckOptions { subset: Subset::Bytes(1), ..Depth::ReadData.into() };
    let report = run(&repository, bytes);
    assert!(report.bytes_read > 0 && report.bytes_read < total / 5 && report.verified.is_none());
}

#[test]
fn when_time_is_over_it_ends_between_packs_and_goes_on_the_next_time() {
    let disk = repository_of(3);
    let cache = tempfile::tempdir().unwrap();
    let repository = disk.open(Some(cache.path()));
    let mut verified_bytes = 0;
    loop {
        let asked = AtomicUsize::new(0);
        let is_over = || asked.fetch_add(1, Ordering::Relaxed) >= 5;
        let report = run(&repository, CheckOptions { is_over: &is_over, ..Depth::ReadData.into() });
        assert!(report.is_whole() && report.snapshots == 3);
        let verified = report.verified.unwrap();
        assert!(verified.bytes > verified_bytes && verified.bytes <= verified_bytes + report.bytes_read, "it goes on");
        verified_bytes = verified.bytes;
        if verified.bytes == verified.of {
            break;
        }
        assert!(report.bytes_read < verified.of / 2);
    }
    // Damage in what is read first is found however little time there is.
    let pack = one_pack(&disk.files.files(), 1);
    disk.files.files().get_mut(&pack).unwrap()[70] ^= 1;
    let all = run(&repository, Depth::ReadData);
    assert!(!all.affected.is_empty());
    // Others may hold deltas against what it holds.
    let damaged: HashSet<&str> = all.problems.iter().map(|problem| problem.file.as_str()).collect();
    let asked = AtomicUsize::new(0);
    let is_over = || asked.fetch_add(1, Ordering::Relaxed) >= damaged.len();
    let first = run(&repository, CheckOptions { is_over: &is_over, ..Depth::ReadData.into() });
    assert_eq!(wrong(&first), wrong(&all), "what is damaged was never verified, so it comes first");
}

#[test]
fn an_interrupted_check_has_not_read_in_vain() {
    let disk = repository_of(2);
    let cache = tempfile::tempdir().unwrap();
    let repository = disk.open(Some(cache.path()));
    let packs = AtomicUsize::new(0);
    let stop = |_: Progress| match packs.fetch_add(1, Ordering::Relaxed) {
        0..4 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    assert!(matches!(check(&repository, Depth::ReadData, &stop), Err(crate::Error::Interrupted)));
    assert!(run(&repository, Depth::Structure).verified.unwrap().bytes > 0);
}

#[test]
fn what_is_right_when_it_is_read_again_is_no_damage_and_is_told() {
    let disk = repository_of(2);
    let files = disk.files.files().clone();
    let (data, tree) = (one_pack(&files, 1), one_pack(&files, 2));
    let [segment, snapshot] = ["index/", "snapshots/"].map(|folder| disk.names(folder)[0].clone());
    for depth in [Depth::Structure, Depth::Packs, Depth::ReadData] {
        for file in [&data, &tree, &segment, &snapshot] {
            for times in 1..=2 {
                let disk = Disk::of(&files);
                let repository = disk.open(None);
                disk.errs(file, times, true);
                let (report, _, unreadable) = survey(&repository, &depth.into(), &go_on).unwrap();
                // That a base was misread is told of the pack whose delta was being read.
                let (problems, lost) = wrong(&report);
                let is_told = !problems.is_empty() && problems.iter().all(|what| what.ends_with(READ_DIFFERENTLY));
                assert!(is_told && lost.is_empty(), "{file} {depth:?} {times}: {problems:?}");
                assert!(unreadable.is_empty());
            }
        }
    }
    for file in [&data, &tree] {
        let disk = Disk::of(&files);
        disk.errs(file, 1, true);
        let report = check_packs_without_key(&*disk, &go_on).unwrap();
        assert_eq!(wrong(&report).0, [format!("{file}: {READ_DIFFERENTLY}")]);
    }
    // Reads that are wrong each time are the disk's, whether they are the same or not.
    for (is_same, what) in [(true, ""), (false, ", and are read differently each time")] {
        let disk = Disk::of(&files);
        disk.errs(&data, 3, is_same);
        let report = check_packs_without_key(&*disk, &go_on).unwrap();
        assert_eq!(wrong(&report).0, [format!("{data}: {NAME_MISMATCH}{what}")]);
    }
}

/// A repository without a snapshot and the packs that only it needed, as a prune leaves it.
fn pruned(files: &Files, packs: &[String], snapshot: &SnapshotId) -> Files {
    let disk = Disk::of(files);
    let repository = disk.open(None);
    let core = repository.core();
    let mut builder = SegmentBuilder::default();
    let (chunks, _) = repository.chunks().unwrap();
    let is_kept = |pack: &SegmentPack| !packs.contains(&pack.file());
    chunks.index().all_segments().for_each(|open| builder.add_segment(&open.segment, is_kept).unwrap());
    Index::default().write_segment(&*disk, &core.sealer, None, builder).unwrap();
    let is_old = |name: &&String| name.starts_with("index/");
    files.keys().filter(is_old).for_each(|old| disk.delete(old).unwrap());
    disk.delete(&spare_file(snapshot)).unwrap();
    disk.delete(&RecordKind::Snapshot.file(snapshot)).unwrap();
    packs.iter().for_each(|pack| disk.delete(pack).unwrap());
    disk.files.files().clone()
}

#[test]
fn what_a_prune_takes_away_meanwhile_is_no_damage() {
    let disk = repository_of(2);
    let of_phone: BTreeSet<String> = disk.packs().into_iter().collect();
    let other = keep(&disk.open(None), "other", 40);
    let files = disk.files.files().clone();
    let alone: Vec<String> = disk.packs().into_iter().filter(|pack| !of_phone.contains(pack)).collect();
    let snapshot = RecordKind::Snapshot.file(&other.id);
    let pruned = pruned(&files, &alone, &other.id);
    assert!(alone.len() > 1 && run(&Disk::of(&pruned).open(None), Depth::ReadData).is_whole());
    let segments = disk.names("index/");
    for depth in [Depth::Structure, Depth::ReadData] {
        for file in alone.iter().chain([&snapshot]).chain(&segments) {
            let disk = Disk::of(&files);
            let repository = disk.open(None);
            let then = pruned.clone();
            disk.meanwhile(file, move |files| *files.files() = then);
            let report = run(&repository, depth);
            assert!(report.is_whole(), "{file}: {:?}", wrong(&report));
        }
    }
    // What is gone and still named is damage.
    let disk = Disk::of(&files);
    let repository = disk.open(None);
    let gone = alone[0].clone();
    disk.meanwhile(&alone[0], move |files| drop(files.files().remove(&gone)));
    let report = run(&repository, Depth::ReadData);
    assert_eq!(wrong(&report).0, [format!("{}: it is missing", alone[0])]);
    assert!(report.affected.iter().all(|affected| affected.snapshot == other) && !report.affected.is_empty());
}

#[test]
fn what_was_cut_off_before_its_parity_is_no_damage_and_gets_it_before_a_segment_names_it() {
    let disk = Arc::new(Disk::default());
    Repository::create(disk.clone(), None, &Options { parity: true, ..Options::default() }).unwrap();
    let snapshot = keep(&disk.open(None), "phone", 40);
    let packs = disk.packs();
    let sidecars: Vec<String> = packs.iter().map(|pack| format!("parity/{}", &pack["packs/".len()..])).collect();
    disk.files.files().retain(|name, _| !sidecars.contains(name));
    assert_eq!(run(&disk.open(None), Depth::Structure).problems.len(), packs.len(), "a segment names them");

    let unnamed = [RecordKind::Snapshot.file(&snapshot.id), spare_file(&snapshot.id)];
    disk.files.files().retain(|name, _| !name.starts_with("index/") && !unnamed.contains(name));
    assert!(run(&disk.open(None), Depth::ReadData).is_whole());
    keep(&disk.open(None), "phone", 40);
    assert!(run(&disk.open(None), Depth::ReadData).is_whole());
    assert!(sidecars.iter().all(|sidecar| disk.names("parity/").contains(sidecar)));
}

/// What can be read of a snapshot: the files that have lost bytes, how many, and whether parts of the tree are lost.
fn by_reading(disk: &Arc<Disk>, snapshot: &Snapshot) -> (BTreeMap<Name, u64>, bool) {
    let reader = disk.open(None).read(snapshot).unwrap();
    let (mut files, mut has_lost_parts) = (BTreeMap::new(), false);
    for item in reader.entries(&Prefix::all()) {
        let Ok((name, entry)) = item else {
            has_lost_parts = true;
            continue;
        };
        let Some(content) = &entry.content else { continue };
        let mut lost = 0;
        let listed = for_each_chunk(&reader.chunks, content, &mut |chunk| {
            lost += reader.chunks.read(&chunk.id, ChunkKind::Data).map_or(chunk.len, |_| 0);
            Ok(())
        });
        let is_whole = reader.read_file(content, &mut io::sink()).is_ok();
        assert_eq!(is_whole, lost == 0 && listed.is_ok());
        if !is_whole {
            // Of a list that cannot be read it is not known how much of it the chunks would have told.
            files.insert(name, if listed.is_ok() { lost } else { u64::MAX });
        }
    }
    (files, has_lost_parts)
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, prop::sample::Index),
    Cut(prop::sample::Index),
    Delete(prop::sample::Index),
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    use prop::sample::Index;
    let damage = prop_oneof![
        3 => any::<(Index, Index)>().prop_map(|(file, at)| Damage::Flip(file, at)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => any::<Index>().prop_map(Damage::Delete),
    ];
    prop::collection::vec(damage, 1..4)
}

/// Does `damages` to files below one of `folders`; flips only if `flips`.
fn damaged(files: &Files, folders: &[&str], damages: &[Damage], flips: bool) -> Files {
    let mut files = files.clone();
    for damage in damages {
        let is_target = |name: &&String| folders.iter().any(|folder| name.starts_with(folder));
        let names: Vec<String> = files.keys().filter(is_target).cloned().collect();
        let name = |at: &prop::sample::Index| names[at.index(names.len())].clone();
        match damage {
            Damage::Flip(file, at) if flips => {
                let bytes = files.get_mut(&name(file)).unwrap();
                let at = at.index(bytes.len().max(1));
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 4);
            }
            Damage::Cut(file) => drop(files.get_mut(&name(file)).unwrap().pop()),
            Damage::Flip(file, _) | Damage::Delete(file) => drop(files.remove(&name(file))),
        }
    }
    files
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_files_that_are_named_are_those_that_cannot_be_read(damages in damages()) {
        static WHOLE: std::sync::LazyLock<Files> = std::sync::LazyLock::new(|| repository_of(4).files.files().clone());
        let disk = Disk::of(&damaged(&WHOLE, &["packs/", "trees/"], &damages, true));
        let report = run(&disk.open(None), Depth::ReadData);
        prop_assert!(!report.problems.is_empty());
        for snapshot in disk.open(None).snapshots().unwrap().snapshots {
            let (files, has_lost_parts) = by_reading(&disk, &snapshot);
            let Some(affected) = report.affected.iter().find(|affected| affected.snapshot == snapshot) else {
                prop_assert!(files.is_empty() && !has_lost_parts, "{:?}", files);
                continue;
            };
            let named = (affected.files.len() + affected.lost_parts.len()) as u64;
            prop_assert_eq!(named.min(100), if affected.more > 0 { 100 } else { named });
            if affected.more == 0 {
                prop_assert_eq!(has_lost_parts, !affected.lost_parts.is_empty());
                prop_assert!(affected.files.iter().map(|file| &file.name).eq(files.keys()));
            }
            for file in &affected.files {
                prop_assert!(file.lost_bytes > 0 && file.lost_bytes <= file.length);
                prop_assert!([file.lost_bytes, u64::MAX].contains(&files[&file.name]), "{}", file.name);
            }
        }
    }

    #[test]
    fn a_ledger_hides_nothing_that_is_gone_or_cut(damages in damages(), more in damages(), day in 3u64..6) {
        static WHOLE: std::sync::LazyLock<Files> = std::sync::LazyLock::new(|| repository_of(3).files.files().clone());
        let cache = tempfile::tempdir().unwrap();
        let folders = ["packs/", "trees/", "index/", "snapshots/"];
        same_as_without(&WHOLE, cache.path());
        let files = damaged(&WHOLE, &folders, &damages, false);
        same_as_without(&files, cache.path());
        let disk = Disk::of(&files);
        keep(&disk.open(None), "phone", day);
        let files = disk.files.files().clone();
        same_as_without(&files, cache.path());
        same_as_without(&damaged(&files, &folders, &more, false), cache.path());
        same_as_without(&WHOLE, cache.path());
    }
}

fn keyless(disk: &Disk) -> CheckReport {
    check_packs_without_key(disk, &go_on).unwrap()
}

fn fingerprint(files: &Files) -> String {
    keyless(&Disk::of(files)).keyless.unwrap().fingerprint
}

#[test]
fn what_a_copy_lacks_is_told_without_the_key() {
    let disk = repository_of(2);
    let files = disk.files.files().clone();
    let whole = keyless(&disk);
    assert!(whole.is_whole() && whole.keyless.as_ref().unwrap().unindexed_packs == 0, "{whole:?}");
    for pack in disk.packs() {
        let mut lacking = files.clone();
        lacking.remove(&pack);
        assert_eq!(wrong(&keyless(&Disk::of(&lacking))).0, [format!("{pack}: it is missing")]);
        let mut cut = files.clone();
        cut.get_mut(&pack).unwrap().pop();
        let len = files[&pack].len();
        let told = wrong(&keyless(&Disk::of(&cut))).0;
        assert!(told.contains(&format!("{pack}: it is {} bytes long, not {len}", len - 1)), "{told:?}");
    }
    // A segment takes with it that its packs must be there, and they tell themselves what they hold.
    let segment = disk.names("index/")[0].clone();
    let mut lacking = files.clone();
    lacking.remove(&segment);
    let found = keyless(&Disk::of(&lacking));
    assert!(found.is_whole() && found.keyless.unwrap().unindexed_packs > 0);
    // Without either nothing tells of contents, but each snapshot has a tree.
    let mut lacking = files.clone();
    lacking.retain(|file, _| !is_pack(file) && !file.starts_with("index/"));
    assert_eq!(wrong(&keyless(&Disk::of(&lacking))).0, ["trees: there are snapshots, but no pack of a tree"]);
    let snapshot = disk.names("snapshots/")[0].clone();
    let mut lacking = files.clone();
    lacking.remove(&snapshot);
    assert_eq!(
        wrong(&keyless(&Disk::of(&lacking))).0,
        [format!("{snapshot}: the record is missing, its spare is there")]
    );
}

#[test]
fn a_fingerprint_is_that_of_what_is_whole() {
    let disk = repository_of(2);
    let repository = disk.open(None);
    let snapshot = repository.snapshots().unwrap().snapshots.remove(0);
    repository.pin(&snapshot.id).unwrap();
    let whole = disk.files.files().clone();
    let expected = fingerprint(&whole);
    assert!(expected.len() == 32 && expected == fingerprint(&whole));
    for file in whole.keys() {
        let is_content = !["spares/", "sessions/", "tmp/", "reserve"].iter().any(|other| file.starts_with(other));
        let mut lacking = whole.clone();
        lacking.remove(file);
        if file != "config" {
            assert_eq!(fingerprint(&lacking) == expected, !is_content, "{file} is missing");
        }
        let mut damaged = whole.clone();
        damaged.get_mut(file).unwrap()[20] ^= 1;
        // A damaged pin pins as well.
        assert_eq!(fingerprint(&damaged) == expected, !is_content || file.starts_with("pins/"), "{file} is damaged");
    }
    keep(&disk.open(None), "phone", 9);
    assert_ne!(fingerprint(&disk.files.files()), expected);
}

#[test]
fn what_another_place_has_is_named() {
    let disk = repository_of(2);
    let whole = disk.files.files().clone();
    assert_eq!(lacking_beside(&*disk, &*Disk::of(&whole)).unwrap(), []);
    for file in whole.keys().filter(|file| is_pack(file) || file.starts_with("snapshots/") || file.starts_with("keys/"))
    {
        let mut less = whole.clone();
        less.remove(file);
        let less = Disk::of(&less);
        let told = lacking_beside(&*less, &*disk).unwrap();
        assert_eq!(told.iter().map(|problem| &problem.file).collect::<Vec<_>>(), [file]);
        assert_eq!(lacking_beside(&*disk, &*less).unwrap(), [], "it may have more");
    }
    let other = repository_of(1);
    assert!(matches!(lacking_beside(&*disk, &*other), Err(crate::Error::OtherRepository)));
}

#[test]
fn a_prune_meanwhile_is_no_loss_without_the_key() {
    let disk = repository_of(1);
    let before = disk.files.files().clone();
    let snapshot = keep(&disk.open(None), "another phone", 30);
    let files = disk.files.files().clone();
    let alone: Vec<String> = disk.packs().into_iter().filter(|pack| !before.contains_key(pack)).collect();
    let then = pruned(&files, &alone, &snapshot.id);
    for segment in disk.names("index/") {
        let disk = Disk::of(&files);
        let then = then.clone();
        disk.meanwhile(&segment, move |files| *files.files() = then);
        let report = keyless(&disk);
        assert!(report.is_whole(), "{:?}", wrong(&report));
    }
}

#[test]
fn a_pack_that_may_not_be_read_is_no_loss() {
    let disk = repository_of(1);
    for pack in disk.packs() {
        *disk.forbidden.lock().unwrap() = Some(pack.clone());
        let repository = disk.open(None);
        for depth in [Depth::Structure, Depth::Packs, Depth::ReadData] {
            let error = check(&repository, depth, &go_on).unwrap_err();
            assert!(!error.is_damage() && error.to_string().contains(&pack), "{error}");
        }
        let error = check_packs_without_key(&*disk, &go_on).unwrap_err();
        assert!(!error.is_damage() && error.to_string().contains(&pack), "{error}");
    }
}

/// Only its head is ever read.
#[test]
fn a_segment_that_is_too_long_is_not_read() {
    let disk = repository_of(1);
    let name = FileHash([7; 32]);
    let long = Sparse { disk: disk.files.files().clone(), file: format!("index/{name}"), len: 6 << 30 };
    let long = Arc::new(long);
    let told = [format!("index/{name}: {TOO_LONG}")];
    assert_eq!(wrong(&check_packs_without_key(&*long, &go_on).unwrap()).0, told);
    let repository = Repository::open(long.clone(), Unlock::Open, None).unwrap();
    assert_eq!(wrong(&run(&repository, Depth::Structure)).0, told);
    assert_eq!(repository.snapshots().unwrap().problems, []);
}

/// A disk with one more file, of zeros, that must not be read.
struct Sparse {
    disk: Files,
    file: String,
    len: u64,
}

impl Storage for Sparse {
    fn put(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        assert_ne!(name, self.file, "it is read");
        Disk::of(&self.disk).read(name, offset, len)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let mut listed = Disk::of(&self.disk).list(folder)?;
        listed.extend(self.file.strip_prefix(&format!("{folder}/")).map(|name| (name.to_owned(), self.len)));
        Ok(listed)
    }

    fn delete(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
