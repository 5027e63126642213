//! What a repository holds and takes, and what of it is whose.
//!
//! *Unique* are the bytes of packs that would not be needed any more without a snapshot, or without all snapshots of a series: what forgetting it, and
//! nothing else, would let a prune free that leaves nothing unused. A chunk is needed by all whose trees reach it, and by all who need a delta against
//! it. So what two snapshots have in common is unique to neither, even if both are forgotten, and what a parked run reaches, or a snapshot that
//! was pinned while it was forgotten, is unique to nobody.
//!
//! The index knows what a chunk takes to an eighth, and so are all these numbers estimates, of a few percent where there are many chunks.

use std::collections::BTreeMap;

mod owners;

use crate::{
    error::Result,
    format::record::Snapshot,
    maintain::prune::Roots,
    progress::{OnEvent, Tally},
    read::chunks::ChunkReader,
    repository::{Repository, core::Core},
    storage::layout::{INDEX_FOLDER, PARITY_FOLDER, QUARANTINE_FOLDER},
};
use owners::{Owned, Owners};

/// How often the work begins anew because a prune deletes what is read.
const TRIES_MAX: u32 = 5;

/// What a repository holds and takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// What its files take.
    pub disk: DiskUse,
    /// What is needed of its packs, in bytes, about: by snapshots, parked runs, and snapshots that were pinned while they were forgotten.
    pub needed_bytes: u64,
    /// What is not needed of its packs, in bytes, about: what a prune could free.
    pub unneeded_bytes: u64,
    /// The devices, by their UDIDs.
    pub series: Vec<SeriesStats>,
    /// Oldest first.
    pub snapshots: Vec<SnapshotStats>,
}

/// What the files of a repository take, by what they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Packs of what files hold.
    pub data_packs: FileCount,
    /// Packs of the trees of snapshots.
    pub tree_packs: FileCount,
    /// Where each chunk is.
    pub index: FileCount,
    /// What mends damage.
    pub parity: FileCount,
    /// All else: snapshots and their second copies, slots, the reserve, what a repair moved away, and packs that cannot be read.
    pub other: FileCount,
}

/// A number of files, and their length together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileCount {
    /// How many.
    pub files: u64,
    /// What they take, in bytes.
    pub bytes: u64,
}

/// One device's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesStats {
    /// The newest of its snapshots.
    pub newest: Snapshot,
    /// How many it has.
    pub snapshots: u64,
    /// What all of them hold, in bytes.
    pub bytes: u64,
    /// What nothing but its snapshots needs, in bytes, about.
    pub unique_bytes: u64,
}

/// One snapshot's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotStats {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What nothing else needs, in bytes, about.
    pub unique_bytes: u64,
}

impl Repository {
    /// What the repository holds and takes, by device and by snapshot. Reads the trees of all snapshots, what they have in common once or
    /// a few times, and tells of each. Takes four bytes of memory for each chunk, beside the index.
    ///
    /// # Errors
    /// Damage, if a snapshot is lost, or it or its tree cannot be read, so that nobody knows what is needed; [`Error::Interrupted`](crate::Error::Interrupted);
    /// or what the storage says.
    pub fn stats(&self, on_event: OnEvent) -> Result<Stats> {
        let mut tries = 1;
        loop {
            match self.stats_once(on_event) {
                Err(error) if error.is_missing_file() && tries < TRIES_MAX => tries += 1,
                other => return other,
            }
        }
    }

    fn stats_once(&self, on_event: OnEvent) -> Result<Stats> {
        let core = self.core();
        let roots = Roots::read(core)?;
        // After the roots: whatever they reach was in the index before.
        let (index, _) = core.load_index(self.cache_dir())?;
        let chunks = ChunkReader::new(core.clone(), index);
        let (newest, series) = series_of(&roots.snapshots);
        let owned = owned(&chunks, &roots, &series, on_event)?;
        let disk = DiskUse::of(core, &owned)?;
        let mut all: Vec<SeriesStats> = newest
            .into_iter()
            .zip(owned.of_series)
            .map(|(newest, unique_bytes)| SeriesStats { newest: newest.clone(), snapshots: 0, bytes: 0, unique_bytes })
            .collect();
        for (snapshot, series) in roots.snapshots.iter().zip(series) {
            all[series].snapshots += 1;
            all[series].bytes = all[series].bytes.saturating_add(snapshot.record.bytes);
        }
        let snapshots = roots.snapshots.into_iter().zip(owned.of_snapshot);
        Ok(Stats {
            disk,
            needed_bytes: owned.needed,
            unneeded_bytes: owned.all.saturating_sub(owned.needed),
            series: all,
            snapshots: snapshots.map(|(snapshot, unique_bytes)| SnapshotStats { snapshot, unique_bytes }).collect(),
        })
    }
}

impl Stats {
    /// What all snapshots hold, in bytes.
    pub fn bytes(&self) -> u64 {
        self.series.iter().fold(0, |sum, series| sum.saturating_add(series.bytes))
    }
}

impl DiskUse {
    fn of(core: &Core, owned: &Owned) -> Result<DiskUse> {
        let mut disk = DiskUse {
            data_packs: FileCount { files: owned.packs - owned.tree_packs, bytes: owned.all - owned.trees },
            tree_packs: FileCount { files: owned.tree_packs, bytes: owned.trees },
            ..DiskUse::default()
        };
        // It is deeper than what a list of everything shows.
        let lost = format!("{QUARANTINE_FOLDER}/");
        let files = core.storage.list_folder("")?.into_iter().filter(|(file, _)| !file.starts_with(&lost));
        let mut all = FileCount::default();
        files.chain(core.storage.list_folder(QUARANTINE_FOLDER)?).for_each(|(file, len)| {
            all.add(len);
            match file.split('/').next() {
                Some(INDEX_FOLDER) => disk.index.add(len),
                Some(PARITY_FOLDER) => disk.parity.add(len),
                _ => {}
            }
        });
        let told = disk.all();
        // Something may have been deleted since the packs were listed.
        disk.other =
            FileCount { files: all.files.saturating_sub(told.files), bytes: all.bytes.saturating_sub(told.bytes) };
        Ok(disk)
    }

    /// All of it.
    pub fn all(&self) -> FileCount {
        let parts = [self.data_packs, self.tree_packs, self.index, self.parity, self.other];
        FileCount { files: parts.iter().map(|part| part.files).sum(), bytes: parts.iter().map(|part| part.bytes).sum() }
    }
}

impl FileCount {
    fn add(&mut self, len: u64) {
        self.files += 1;
        self.bytes += len;
    }
}

/// The newest snapshot of each series, by UDID, and the number of each snapshot's series in this order.
fn series_of(snapshots: &[Snapshot]) -> (Vec<&Snapshot>, Vec<usize>) {
    let newest: BTreeMap<&str, &Snapshot> =
        snapshots.iter().map(|snapshot| (snapshot.record.series.as_str(), snapshot)).collect();
    let numbers: BTreeMap<&str, usize> = newest.keys().copied().zip(0..).collect();
    let series = snapshots.iter().map(|snapshot| numbers[snapshot.record.series.as_str()]).collect();
    (newest.into_values().collect(), series)
}

fn owned(chunks: &ChunkReader, roots: &Roots, series: &[usize], on_event: OnEvent) -> Result<Owned> {
    let index = chunks.index();
    let mut owners = Owners::new(chunks, &index, series);
    // First what is nobody's: nothing of it is walked again.
    roots.other_trees().try_for_each(|root| owners.share(&root))?;
    let tally = Tally::new(roots.snapshots.len() as u64, 0, on_event);
    for (number, snapshot) in roots.snapshots.iter().enumerate() {
        owners.own(number, &snapshot.record.root)?;
        tally.pass(0)?;
    }
    owners.own_bases()?;
    owners.sum()
}
