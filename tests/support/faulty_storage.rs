//! A disk that stops, tears what it was writing, forgets what was not synced, or is full.

use std::{
    collections::BTreeSet,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use heirloom_store::{MemoryStorage, Storage};

use super::{Files, storage_of};

/// Faults, counted in changes: `put`, `delete` and `sync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Change number `at` and every operation after it fails.
    Stop {
        at: usize,
        torn: Torn,
    },
    /// Every `put` from change number `from` on finds the disk full.
    Full {
        from: usize,
    },
}

/// What the `put` that was stopped leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Torn {
    Nothing,
    /// A share that renamed a file before it had all of its bytes.
    HalfOfIt,
    /// The same, before it had any.
    AnEmptyFile,
    /// What it was renamed from.
    ATemporaryFile,
}

impl Torn {
    pub const ALL: [Torn; 4] = [Torn::Nothing, Torn::HalfOfIt, Torn::AnEmptyFile, Torn::ATemporaryFile];
}

/// What a power cut does to a change that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    Kept,
    Lost,
    /// A file keeps its name and no bytes; other changes are lost.
    Emptied,
}

/// [`MemoryStorage`] with a [`Fault`].
pub struct FaultyStorage(Mutex<State>);

struct State {
    disk: MemoryStorage,
    /// What the disk holds for sure.
    synced: Files,
    unsynced: Vec<Change>,
    changes: usize,
    fault: Fault,
    stopped: bool,
    torn_file: Option<String>,
    /// The files whose changes did not come about, or were not made durable, when the fault came to pass.
    missed: Vec<String>,
    pack_bytes_put: u64,
}

enum Change {
    Put(String, Vec<u8>),
    Delete(String),
}

impl Change {
    fn name(&self) -> &str {
        match self {
            Change::Put(name, _) | Change::Delete(name) => name,
        }
    }

    fn apply(&self, disk: &MemoryStorage) {
        let changed = match self {
            Change::Put(name, content) => disk.put(name, content),
            Change::Delete(name) => disk.delete(name),
        };
        changed.expect("memory takes every change");
    }
}

impl FaultyStorage {
    pub fn new(files: &Files, fault: Fault) -> FaultyStorage {
        let disk = MemoryStorage::default();
        *disk.files() = files.clone();
        FaultyStorage(Mutex::new(State {
            disk,
            synced: files.clone(),
            unsynced: Vec::new(),
            changes: 0,
            fault,
            stopped: false,
            torn_file: None,
            missed: Vec::new(),
            pack_bytes_put: 0,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mends the disk.
    pub fn mend(&self) {
        self.state().fault = Fault::None;
    }

    /// How many changes there were.
    pub fn changes(&self) -> usize {
        self.state().changes
    }

    /// Whether the fault came to pass.
    pub fn has_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Whether the fault came to pass at a change that somebody waits for. Nobody does for the end of a session, the reserve, or a spare.
    pub fn misses_any(&self) -> bool {
        let is_missed = |name: &String| !["sessions/", "reserve", "spares/"].iter().any(|of| name.starts_with(of));
        self.state().missed.iter().any(is_missed)
    }

    /// The files as they are.
    pub fn files(&self) -> Files {
        self.state().disk.files().clone()
    }

    /// The file of a [`Torn`] `put`, if it left one under its name.
    pub fn torn_file(&self) -> Option<String> {
        self.state().torn_file.clone()
    }

    /// Bytes of the packs that were put.
    pub fn pack_bytes_put(&self) -> u64 {
        self.state().pack_bytes_put
    }

    /// The files after a power cut that does `fate` to each change since the last sync, and which of them are not whole.
    pub fn after_power_cut(&self, mut fate: impl FnMut() -> Unsynced) -> (Files, BTreeSet<String>) {
        let state = self.state();
        let disk = storage_of(&state.synced);
        let mut emptied = BTreeSet::new();
        for change in &state.unsynced {
            match (fate(), change) {
                (Unsynced::Kept, change) => change.apply(&disk),
                (Unsynced::Emptied, Change::Put(name, _)) => {
                    Change::Put(name.clone(), Vec::new()).apply(&disk);
                    emptied.insert(name.clone());
                }
                _ => {}
            }
        }
        let files = disk.files().clone();
        emptied.retain(|name| files.get(name).is_some_and(Vec::is_empty));
        (files, emptied)
    }
}

impl State {
    /// A full disk still reads, lists, deletes and syncs.
    fn check_alive(&self) -> io::Result<()> {
        let is_dead = self.stopped && matches!(self.fault, Fault::Stop { .. });
        if is_dead { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }

    /// Counts a change and lets it happen, unless the fault is here.
    fn change(&mut self, change: Change) -> io::Result<()> {
        let number = self.count()?;
        if let (Fault::Full { from }, Change::Put(..)) = (self.fault, &change)
            && number >= from
        {
            self.stopped = true;
            self.missed.push(change.name().to_owned());
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Fault::Stop { at, torn } = self.fault
            && number == at
        {
            self.stopped = true;
            self.missed.push(change.name().to_owned());
            self.tear(torn, &change);
            return Err(io::Error::other("the disk stopped"));
        }
        if let Change::Put(name, content) = &change
            && super::is_pack(name)
        {
            self.pack_bytes_put += content.len() as u64;
        }
        change.apply(&self.disk);
        self.unsynced.push(change);
        Ok(())
    }

    /// The number of the change that comes now.
    fn count(&mut self) -> io::Result<usize> {
        self.check_alive()?;
        self.changes += 1;
        Ok(self.changes - 1)
    }

    fn tear(&mut self, torn: Torn, change: &Change) {
        let Change::Put(name, content) = change else { return };
        let half = content[..content.len() / 2].to_vec();
        let (name, left) = match torn {
            Torn::Nothing => return,
            Torn::HalfOfIt => (name.clone(), half),
            Torn::AnEmptyFile => (name.clone(), Vec::new()),
            Torn::ATemporaryFile => ("tmp/0123456789abcdef0123456789abcdef".to_owned(), half),
        };
        if torn != Torn::ATemporaryFile {
            self.torn_file = Some(name.clone());
        }
        Change::Put(name, left).apply(&self.disk);
    }
}

impl Storage for FaultyStorage {
    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.state().change(Change::Put(name.to_owned(), content.to_vec()))
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let state = self.state();
        state.check_alive()?;
        state.disk.read(name, offset, len)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        state.check_alive()?;
        state.disk.list(folder)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.state().change(Change::Delete(name.to_owned()))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        let number = state.count()?;
        if matches!(state.fault, Fault::Stop { at, .. } if at == number) {
            state.stopped = true;
            state.missed = state.unsynced.iter().map(|change| change.name().to_owned()).collect();
            return Err(io::Error::other("the disk stopped"));
        }
        let files = state.disk.files().clone();
        state.synced = files;
        state.unsynced.clear();
        Ok(())
    }
}
