//! The memory that this computer has of repositories, so that nobody who can write to the folder puts other keys, or
//! another repository, in its place.
//!
//! It is a file for each place in the data folder, and is compared whenever a repository is opened. A repository is
//! taken for what it is the first time; after that another id at the same place, another secret, or a password that is
//! not needed any more is refused, and a newest snapshot that is gone is told of, once. A file that cannot be read or
//! written is as good as none: it costs a warning, and no backup.
//!
//! Runs of this computer change it at the same time, and may be killed. So a run writes down that it lets go of a
//! snapshot before it does so, and changes the file as it is by then, under a lock.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use heirloom_store::{
    Error as StoreError, FileHash, KeySlot, Probe, RecordPlace, Repository, SlotKind, Snapshot, SnapshotId,
    SnapshotList, private,
};
use serde::{Deserialize, Serialize};

use crate::{
    access,
    args::{Global, Trust},
    failure::{Exit, Failure, Result},
    report::{Report, local_time, rfc3339},
    snapshots,
};

/// Repositories that are remembered of one place: disks that take turns at it.
const REPOSITORIES_MAX: usize = 8;
/// Series of which the newest snapshot is remembered.
const SERIES_MAX: usize = 256;
/// Snapshots that this computer let go of, as far back as it remembers.
const LET_GO_MAX: usize = 512;
/// Time to wait for another run that changes the file. It takes a moment; where a lock cannot be had, the file is
/// changed without.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// A file that is longer is none of ours.
const FILE_MAX_LEN: u64 = 1 << 20;
/// Snapshots that are gone, of which each is named.
const NAMED_MAX: usize = 8;

/// The file of a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    location: String,
    /// The one that was opened last comes first.
    repositories: Vec<Remembered>,
}

/// The memory of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    id: String,
    needs_password: bool,
    /// By which its keys are known again; they do not follow from it.
    keys: String,
    /// The slot that opened it last.
    #[serde(default)]
    slot: String,
    /// By series.
    #[serde(default)]
    newest: BTreeMap<String, Newest>,
    /// A hash of the ids of all snapshots, which tells whether there is anything new.
    #[serde(default)]
    listed: String,
    /// The ids of snapshots that this computer has forgotten, or is about to: nobody is warned that they are gone. The
    /// last one comes last.
    #[serde(default)]
    let_go: Vec<String>,
}

/// The newest snapshot of a series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Newest {
    id: String,
    /// As a person knows it.
    title: String,
    created: i64,
}

/// The memory of the place of a repository that is being opened.
pub struct Memory {
    /// `None` where nothing is remembered: the system has no data folder.
    file: Option<PathBuf>,
    place: Place,
}

impl Memory {
    /// Reads the memory of the place at `path`.
    pub fn of(path: &Path, report: &Report) -> Memory {
        let location =
            fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned());
        let file = folder().map(|folder| folder.join(file_name(&location)));
        let place = match file.as_deref().map(read) {
            Some(Ok(place)) => place,
            Some(Err(what)) => {
                report.warn(format_args!(
                    "what this computer remembers of {} cannot be read, and counts for nothing: {what}",
                    path.display()
                ));
                None
            }
            None => None,
        };
        let place =
            place.unwrap_or_else(|| Place { location: location.to_string_lossy().into_owned(), ..Place::default() });
        Memory { file, place }
    }

    /// Fails if there is another repository, or one without the password that it had: all that can be told before a
    /// password is given away to it, or without one.
    pub fn compare_probe(&self, path: &Path, probe: &Probe) -> Result<()> {
        let id = probe.id.to_string();
        let is_new_here = !self.place.repositories.iter().any(|known| known.id == id);
        if is_new_here && !self.place.repositories.is_empty() {
            return Err(another(path));
        }
        match self.find(&id) {
            Some(known) if known.needs_password && !probe.needs_password => {
                Err(changed(path, "the repository had a password, and now opens without one"))
            }
            _ => Ok(()),
        }
    }

    /// Fails if the repository has other keys than it had, or is not the one that was looked at before it was opened.
    pub fn compare_keys(&self, path: &Path, probe: &Probe, repository: &Repository) -> Result<()> {
        if repository.id() != probe.id {
            return Err(changed(path, "the repository was replaced while it was opened"));
        }
        match self.find(&probe.id.to_string()) {
            // Not known yet of one that was added unopened.
            Some(known) if !known.keys.is_empty() && known.keys != repository.fingerprint() => {
                Err(changed(path, "the repository has other keys than the ones that this computer knows"))
            }
            _ => Ok(()),
        }
    }

    /// Whether this very repository was known to be open to everybody.
    pub fn knows_as_open(&self, probe: &Probe) -> bool {
        self.find(&probe.id.to_string()).is_some_and(|known| !known.needs_password)
    }

    /// The slot that opened it last.
    pub fn slot(&self, probe: &Probe) -> Option<String> {
        self.find(&probe.id.to_string()).map(|known| known.slot).filter(|slot| !slot.is_empty())
    }

    /// Returns the memory of the repository `id`: here, or where else it was seen, as a disk has another place each
    /// time that it is plugged in.
    fn find(&self, id: &str) -> Option<Remembered> {
        let of = |place: &Place| place.repositories.iter().find(|known| known.id == id).cloned();
        of(&self.place).or_else(|| {
            let elsewhere = all_files().into_iter().filter_map(|file| read(&file).ok().flatten());
            // A copy of it may be older, which is no news.
            elsewhere.filter_map(|place| of(&place)).next().map(|known| Remembered {
                newest: BTreeMap::new(),
                listed: String::new(),
                let_go: Vec::new(),
                ..known
            })
        })
    }

    /// Returns the memory of the repository `id` at this very place.
    fn here(&self, id: &str) -> Option<Remembered> {
        self.place.repositories.iter().find(|known| known.id == id).cloned()
    }

    /// Takes the place as it is remembered now.
    fn refresh(&mut self) {
        if let Some(place) = self.file.as_deref().and_then(|file| read(file).ok().flatten()) {
            self.place = place;
        }
    }

    /// Changes what is remembered of a repository as it is remembered now; as `known` where nothing is. No other run
    /// changes it meanwhile.
    fn change(&mut self, known: &Remembered, change: impl FnOnce(&mut Remembered)) -> std::io::Result<()> {
        let _lock = lock();
        self.refresh();
        let mut now = self.here(&known.id).unwrap_or_else(|| known.clone());
        change(&mut now);
        self.put(now);
        self.save()
    }

    /// Puts what is known of a repository first.
    fn put(&mut self, known: Remembered) {
        self.place.repositories.retain(|other| other.id != known.id);
        self.place.repositories.insert(0, known);
        self.place.repositories.truncate(REPOSITORIES_MAX);
    }

    /// Writes it down, if it is not there already.
    fn save(&self) -> std::io::Result<()> {
        static WRITTEN: AtomicU32 = AtomicU32::new(0);
        let Some(file) = &self.file else { return Ok(()) };
        if read(file).is_ok_and(|there| there.as_ref() == Some(&self.place)) {
            return Ok(());
        }
        let bytes = serde_json::to_vec_pretty(&self.place)?;
        // Both folders of ours.
        for folder in [access::data_dir(), file.parent().map(Path::to_owned)].iter().flatten() {
            private::create_folder(folder)?;
        }
        // Another run may write the same file at this moment: each writes one of its own, and the last one counts.
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let unfinished = file.with_extension(format!("{}-{number}.new", std::process::id()));
        let written = write_durably(&unfinished, &bytes).and_then(|()| fs::rename(&unfinished, file));
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written
    }
}

/// Writes a file for its owner alone, to the disk.
fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = private::create_file(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn changed(path: &Path, what: &str) -> Failure {
    let program = format!("heirloom --repo {} trust", path.display());
    Failure::new(Exit::Changed, format!("{what}: this may be an attack by somebody who can write to the folder"))
        .about(path.display())
        .hint(format!("`{program}` shows both; if you have changed it yourself, `{program} --reset`"))
}

/// Refuses another repository at the same place. Disks that take turns there are met with this, too.
fn another(path: &Path) -> Failure {
    let failure = changed(path, "another repository is here than the one that this computer knows");
    let hint = failure.hint.clone().unwrap_or_default();
    failure.hint(format!("{hint}; if two disks take turns here, `heirloom --repo {} trust --add`", path.display()))
}

/// Where all of it is.
fn folder() -> Option<PathBuf> {
    access::data_dir().map(|folder| folder.join("trust"))
}

fn file_name(location: &Path) -> String {
    let hash = FileHash::of(location.as_os_str().as_encoded_bytes()).to_string();
    format!("{}.json", &hash[..32])
}

/// Keeps other runs from changing what is remembered, until it is dropped; `None` where that cannot be had.
fn lock() -> Option<fs::File> {
    // The folder itself: a file made for it would have to be deleted again.
    let folder = fs::File::open(folder()?).ok()?;
    let begun = Instant::now();
    while folder.try_lock().is_err() {
        if begun.elapsed() > LOCK_PATIENCE {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
    Some(folder)
}

fn all_files() -> Vec<PathBuf> {
    let entries = folder().and_then(|folder| fs::read_dir(folder).ok());
    let files = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
}

/// Reads a file; `None` if there is none.
fn read(file: &Path) -> Result<Option<Place>, String> {
    use std::io::Read;
    let open = match fs::File::open(file) {
        Ok(open) => open,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    open.take(FILE_MAX_LEN).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| error.to_string())
}

/// Remembers a repository that was made just now, whatever was in its place before.
pub fn remember_new(path: &Path, repository: &Repository, report: &Report) {
    let mut memory = Memory::of(path, report);
    memory.put(Remembered {
        id: repository.id().to_string(),
        needs_password: repository.needs_password(),
        keys: repository.fingerprint(),
        slot: repository.slot_mark(),
        newest: BTreeMap::new(),
        listed: String::new(),
        let_go: Vec::new(),
    });
    tell_if_unwritten(memory.save(), report);
}

/// Forgets what is remembered of a place where something else is made.
pub fn forget(path: &Path) {
    let location = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(folder) = folder() {
        // Nothing is remembered of most of them.
        let _ = fs::remove_file(folder.join(file_name(&location)));
    }
}

fn tell_if_unwritten(saved: std::io::Result<()>, report: &Report) {
    if let Err(error) = saved {
        report.warn(format_args!(
            "what this repository is cannot be remembered in {}: {error}",
            folder().unwrap_or_default().display()
        ));
    }
}

/// An open repository that is compared and remembered; what has come and gone meanwhile is remembered at the end.
pub struct Watched {
    memory: RefCell<Memory>,
    known: Remembered,
}

impl Watched {
    /// Compares the snapshots of a repository with what is remembered of it, and tells of what is gone.
    pub fn begin(mut memory: Memory, repository: &Repository, needs_password: bool, report: &Report) -> Watched {
        // Somebody may have been asked for a password since it was read.
        memory.refresh();
        let id = repository.id().to_string();
        let (newest, listed, let_go) = match memory.find(&id) {
            Some(known) => (known.newest, known.listed, known.let_go),
            None => Default::default(),
        };
        let gone: Vec<Newest> =
            newest.values().filter(|snapshot| place_of(repository, snapshot).is_none()).cloned().collect();
        let (keys, slot) = (repository.fingerprint(), repository.slot_mark());
        let known = Remembered { id, needs_password, keys, slot, newest, listed, let_go };
        let mut told = Vec::new();
        let saved = memory.change(&known, |now| {
            now.needs_password |= needs_password;
            (now.keys, now.slot) = (known.keys.clone(), known.slot.clone());
            for snapshot in gone {
                now.newest.retain(|_, newest| newest.id != snapshot.id);
                now.listed.clear();
                // Asked of what is remembered now: another run may have pruned it after it was read.
                if !now.let_go.contains(&snapshot.id) {
                    told.push(snapshot);
                }
            }
        });
        if !told.is_empty() {
            tell_gone(&told, report);
        }
        tell_if_unwritten(saved, report);
        Watched { memory: RefCell::new(memory), known }
    }

    /// Remembers that this run is about to let go of `snapshots`. Nothing may have been done to them yet.
    pub fn lets_go(&self, snapshots: &[Snapshot]) {
        let mut oldest_first: Vec<_> = snapshots.iter().collect();
        oldest_first.sort_by_key(|snapshot| snapshot.record.created);
        self.let_go_of(oldest_first.into_iter().map(|snapshot| snapshot.id.to_string()));
    }

    /// Remembers that this run is about to delete for good what is in the trash.
    pub fn prunes(&self, repository: &Repository) {
        let newest = self.memory.borrow().here(&self.known.id).map(|known| known.newest).unwrap_or_default();
        let in_trash = newest.into_values().filter(|of| place_of(repository, of) == Some(RecordPlace::Trash));
        self.let_go_of(in_trash.map(|snapshot| snapshot.id));
    }

    fn let_go_of(&self, ids: impl Iterator<Item = String>) {
        // Where it cannot be written, the next run tells.
        let _ = self.memory.borrow_mut().change(&self.known, |now| {
            for id in ids {
                now.let_go.retain(|other| *other != id);
                now.let_go.push(id);
            }
            now.let_go.drain(..now.let_go.len().saturating_sub(LET_GO_MAX));
        });
    }

    /// Remembers that a snapshot is back.
    pub fn took_back(&self, snapshot: &SnapshotId) {
        let back = snapshot.to_string();
        let _ = self.memory.borrow_mut().change(&self.known, |now| now.let_go.retain(|id| *id != back));
    }

    /// Remembers what is newest at the end of a run, which may have deleted snapshots for good if it `prunes`.
    pub fn end(&self, repository: &Repository, prunes: bool) {
        let Ok(ids) = repository.snapshot_ids() else { return };
        let listed = hash_of(&ids);
        let mut memory = self.memory.borrow_mut();
        // Another run may have remembered something meanwhile.
        memory.refresh();
        let known = memory.here(&self.known.id).unwrap_or_else(|| self.known.clone());
        let needs_password = known.needs_password || has_password(repository);
        if known.listed == listed && known.needs_password == needs_password && !prunes {
            return;
        }
        let Ok(list) = repository.snapshots() else { return };
        let places: BTreeMap<&str, Option<RecordPlace>> =
            known.newest.values().map(|newest| (newest.id.as_str(), place_of(repository, newest))).collect();
        // The next run is told if it fails there, too.
        let _ = memory.change(&self.known, |now| {
            now.needs_password = needs_password;
            let let_go = &now.let_go;
            now.newest.retain(|_, newest| match places.get(newest.id.as_str()) {
                // It is listed, and perhaps not the newest any more.
                Some(Some(RecordPlace::Snapshots)) => false,
                // The others are kept, so that the next run tells of them.
                Some(Some(RecordPlace::Trash)) => !let_go.contains(&newest.id),
                Some(None) => !(prunes || let_go.contains(&newest.id)),
                None => true,
            });
            for (series, snapshot) in newest_of(&list) {
                now.newest.entry(series).or_insert(snapshot);
            }
            now.listed = listed;
        });
    }
}

/// Whether it has got a password, perhaps just now.
fn has_password(repository: &Repository) -> bool {
    let is_one = |slot: &KeySlot| matches!(slot.kind, SlotKind::Password | SlotKind::Recovery);
    repository.slots().is_ok_and(|slots| slots.iter().any(is_one))
}

fn place_of(repository: &Repository, snapshot: &Newest) -> Option<RecordPlace> {
    let Some(id) = SnapshotId::from_hex(&snapshot.id) else { return Some(RecordPlace::Snapshots) };
    // A disk that fails here fails again where somebody is told.
    repository.find_record(&id).unwrap_or(Some(RecordPlace::Snapshots))
}

fn hash_of(ids: &[SnapshotId]) -> String {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
    FileHash::of(&bytes).to_string()
}

/// The newest snapshot of each series, by the order in which they were written.
fn newest_of(list: &SnapshotList) -> BTreeMap<String, Newest> {
    let mut by_age: Vec<_> = list.snapshots.iter().collect();
    by_age.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.record.created, snapshot.id)));
    let mut newest = BTreeMap::new();
    for snapshot in by_age {
        let (series, title) = (snapshot.record.series.clone(), snapshots::title(snapshot));
        if newest.len() < SERIES_MAX || newest.contains_key(&series) {
            let (id, created) = (snapshot.id.to_string(), snapshot.record.created);
            newest.entry(series).or_insert(Newest { id, title, created });
        }
    }
    newest
}

fn tell_gone(gone: &[Newest], report: &Report) {
    for snapshot in gone.iter().take(NAMED_MAX) {
        let id = snapshot.id.get(..8).unwrap_or_default();
        report.warn(format_args!(
            "{} ({id}), the newest that this computer knew, is gone, and not in the trash either",
            snapshot.title
        ));
    }
    if gone.len() > NAMED_MAX {
        report.warn(format_args!("and {} others", gone.len() - NAMED_MAX));
    }
    report.warn(
        "that can mean: an older copy of the disk, somebody who took the list of snapshots back, a damaged disk (`heirloom check`), or that it \
         was forgotten and pruned by another computer. This is told once",
    );
}

// ---- the verb ----------------------------------------------------------------------------------------------------------------

/// The result in JSON.
#[derive(Serialize)]
struct Row<'a> {
    location: &'a str,
    remembered: Vec<RememberedRow<'a>>,
    now: Option<NowRow>,
}

/// The memory of a repository, in JSON.
#[derive(Serialize)]
struct RememberedRow<'a> {
    id: &'a str,
    needs_password: bool,
    keys: &'a str,
    newest: Vec<NewestRow<'a>>,
}

/// The newest snapshot of a series, in JSON.
#[derive(Serialize)]
struct NewestRow<'a> {
    udid: &'a str,
    id: &'a str,
    title: &'a str,
    created: Option<String>,
}

/// The repository that is there now, as far as it can be told without a password, in JSON.
#[derive(Serialize)]
struct NowRow {
    id: String,
    needs_password: bool,
    /// Keys that would open it without a password, and are not used.
    open_keys: Vec<String>,
}

pub fn run(args: &Trust, global: &Global, report: &Report) -> Result<Exit> {
    let path = access::repository_path(global)?;
    let memory = Memory::of(path, report);
    let now = Repository::probe(&*access::storage(path)).ok();
    if args.reset {
        return reset(&memory, now.as_ref(), report);
    }
    if args.add {
        return add(memory, path, now.as_ref(), report);
    }
    if report.json {
        report.json(&row_of(&memory.place, now.as_ref()))?;
    } else {
        print(&memory.place, now.as_ref(), report)?;
    }
    let Some(now) = now else { return Ok(Exit::Ok) };
    Ok(if memory.compare_probe(path, &now).is_ok() { Exit::Ok } else { Exit::Changed })
}

/// Takes the repository that is there now for one that may be there. Its keys are remembered when it is opened.
fn add(mut memory: Memory, path: &Path, now: Option<&Probe>, report: &Report) -> Result<Exit> {
    let Some(now) = now else { return Err(Failure::from(StoreError::NoRepository).about(path.display())) };
    let id = now.id.to_string();
    if !memory.place.repositories.iter().any(|known| known.id == id) {
        let [keys, slot, listed] = [String::new(), String::new(), String::new()];
        let (newest, let_go) = (BTreeMap::new(), Vec::new());
        memory.put(Remembered { id, needs_password: now.needs_password, keys, slot, newest, listed, let_go });
        let failed = |error: std::io::Error| Failure::failed(format!("cannot remember it: {error}"));
        memory.save().map_err(failed)?;
    }
    if report.json {
        report.json(&row_of(&memory.place, Some(now)))?;
    } else {
        report.line(format_args!("repository {} may be here from now on, too", now.id))?;
    }
    Ok(Exit::Ok)
}

/// Forgets what is remembered of a place, and of the repository that is there now wherever it was seen.
fn reset(memory: &Memory, now: Option<&Probe>, report: &Report) -> Result<Exit> {
    let id = now.map(|now| now.id.to_string());
    let failed = |error: std::io::Error| Failure::failed(format!("cannot forget what is remembered: {error}"));
    for file in all_files() {
        let is_of_it = |place: &Place| place.repositories.iter().any(|known| Some(&known.id) == id.as_ref());
        if Some(&file) == memory.file.as_ref() || read(&file).ok().flatten().is_some_and(|place| is_of_it(&place)) {
            fs::remove_file(&file).map_err(failed)?;
        }
    }
    if report.json {
        report.json(&row_of(&Place { location: memory.place.location.clone(), ..Place::default() }, now))?;
    } else {
        report.line("nothing is remembered of it any more: what is there is taken for what it is when it is opened the next time")?;
    }
    Ok(Exit::Ok)
}

fn row_of<'a>(place: &'a Place, now: Option<&Probe>) -> Row<'a> {
    let newest = |known: &'a Remembered| {
        let row = |(udid, of): (&'a String, &'a Newest)| NewestRow {
            udid,
            id: &of.id,
            title: &of.title,
            created: rfc3339(of.created),
        };
        known.newest.iter().map(row).collect()
    };
    let remembered = place.repositories.iter().map(|known| RememberedRow {
        id: &known.id,
        needs_password: known.needs_password,
        keys: &known.keys,
        newest: newest(known),
    });
    let now = now.map(|now| NowRow {
        id: now.id.to_string(),
        needs_password: now.needs_password,
        open_keys: now.open_slots.clone(),
    });
    Row { location: &place.location, remembered: remembered.collect(), now }
}

fn print(place: &Place, now: Option<&Probe>, report: &Report) -> Result<()> {
    let password = |needs: bool| if needs { "needed" } else { "none: everybody can open it" };
    if place.repositories.is_empty() {
        report.line(format_args!("nothing is remembered of {}", place.location))?;
    }
    for known in &place.repositories {
        report.line(format_args!("remembered of {}", place.location))?;
        report.line(format_args!("  repository  {}", known.id))?;
        report.line(format_args!("  password    {}", password(known.needs_password)))?;
        report.line(format_args!("  keys        {}", known.keys.get(..16).unwrap_or_default()))?;
        for of in known.newest.values() {
            let id = of.id.get(..8).unwrap_or_default();
            report.line(format_args!("  newest      {} ({id}), written {}", of.title, local_time(of.created)))?;
        }
    }
    let Some(now) = now else { return report.line("there now: no repository") };
    report.line("there now")?;
    report.line(format_args!("  repository  {}", now.id))?;
    report.line(format_args!("  password    {}", password(now.needs_password)))?;
    for slot in &now.open_slots {
        report.line(format_args!(
            "  not used    key {slot}, which opens without a password: `heirloom key remove {slot}`"
        ))?;
    }
    Ok(())
}
