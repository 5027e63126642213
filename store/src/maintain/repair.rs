//! Mending what is damaged, as far as there is anything to mend it with (SPEC §16).
//!
//! The ladder: a second copy of the file, its parity, another repository, what can still be read of the file itself. Each step leaves the repository no worse than it was: what is
//! suspect is moved to `quarantine/`, nothing is deleted, and packs are durable before the segment that names them, that before a snapshot. So a repair may
//! be cut off anywhere, and done again.

use std::{collections::HashMap, sync::Arc};

mod fill_gaps;
mod packs;
mod quarantine;
mod records;
mod refill;

use crate::{
    error::{Error, Result},
    format::{
        config::{TEXT_MAX_LEN, checked_line, with_check_line},
        keys::slot_copies,
        pack::{PackKind, list_packs, pack_file},
        parity,
        record::Snapshot,
    },
    id::FileHash,
    maintain::check::{CheckOptions, CheckReport, Depth, check},
    progress::OnEvent,
    repository::{Repository, core::Core, session::Session},
    storage::{OverlayStorage, Storage, layout::CONFIG_FILE},
};
use quarantine::Aside;

/// How to repair.
#[derive(Default)]
pub struct RepairOptions<'a> {
    /// Another repository that may hold what is lost: a clone of this one, or one that snapshots were copied to or from.
    pub from: Option<&'a Repository>,
    /// Whether snapshots that stay incomplete are replaced by ones in which zeros stand for what is lost.
    pub mark_lost: bool,
    /// Whether nothing is changed: what would be done is told.
    pub dry_run: bool,
}

/// What came of a repair.
#[derive(Debug, Default)]
pub struct RepairReport {
    /// What was done, in this order.
    pub done: Vec<Mended>,
    /// What is still wrong and lost, as a check tells it.
    pub left: CheckReport,
}

/// Something that a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// Where in the ladder.
    pub step: RepairStep,
    /// The file of the repository.
    pub file: String,
    /// What was done with it.
    pub what: String,
}

/// The steps of a repair, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RepairStep {
    /// `config` and `keys/`.
    Keys,
    /// Packs.
    Packs,
    /// Segments.
    Index,
    /// Snapshots, and other records.
    Records,
    /// Lost files that another repository had.
    Refill,
    /// Snapshots that were replaced by ones with zeros for what is lost.
    MarkLost,
    /// Parity.
    Parity,
}

/// Repairs a repository.
///
/// # Errors
/// What the storage says, [`Error::Interrupted`], or [`Error::Unsupported`]; what was done until then is done, and the repair can be done again.
pub fn repair(repository: &Repository, options: &RepairOptions, on_event: OnEvent) -> Result<RepairReport> {
    repository.core().config.check_writable()?;
    let storage = repository.core().storage.clone();
    let storage: Arc<dyn Storage> = if options.dry_run {
        let trial = OverlayStorage::new(storage);
        Arc::new(trial.map_err(|source| Error::Storage { action: "try", name: "a repair".into(), source })?)
    } else {
        storage
    };
    // What is only tried must not be remembered.
    let scratch = options.dry_run.then(tempfile::tempdir).transpose();
    let scratch = scratch.map_err(|source| Error::Storage { action: "try", name: "a repair".into(), source })?;
    let cache_dir = scratch.as_ref().map_or(repository.cache_dir(), |scratch| Some(scratch.path()));
    let repository = repository.again(storage, cache_dir)?;
    Repair::new(&repository, options.from, on_event)?.run(options.mark_lost)
}

/// A repair under way.
struct Repair<'r> {
    repository: &'r Repository,
    core: &'r Arc<Core>,
    storage: &'r dyn Storage,
    from: Option<&'r Repository>,
    on_event: OnEvent<'r>,
    aside: Aside,
    done: Vec<Mended>,
    session: Session,
}

impl<'r> Repair<'r> {
    fn new(repository: &'r Repository, from: Option<&'r Repository>, on_event: OnEvent<'r>) -> Result<Repair<'r>> {
        let core = repository.core();
        let (session, aside) = (Session::begin(core)?, Aside::list(&*core.storage)?);
        let (storage, done) = (&*core.storage, Vec::new());
        Ok(Repair { repository, core, storage, from, on_event, aside, done, session })
    }

    fn run(mut self, mark_lost: bool) -> Result<RepairReport> {
        self.mend_keys()?;
        self.mend_segments()?;
        self.mend_packs()?;
        self.mend_records()?;
        let mut found = self.check()?;
        if self.refill(&snapshots_of(&found))? {
            found = self.check()?;
        }
        if mark_lost {
            self.mark_lost(&snapshots_of(&found))?;
            self.set_damaged_parked_aside(&found.problems)?;
        }
        self.mend_spares()?;
        self.mend_parity()?;
        self.storage.sync_all()?;
        let left = self.check()?;
        Ok(RepairReport { done: self.done, left })
    }

    fn say(&mut self, step: RepairStep, file: impl Into<String>, what: impl Into<String>) {
        self.done.push(Mended { step, file: file.into(), what: what.into() });
    }

    /// The other repository, if it is a copy of this one file by file.
    fn clone_of_this(&self) -> Option<&'r Repository> {
        self.from.filter(|from| from.id() == self.repository.id())
    }

    fn clone_storage(&self) -> Option<&'r dyn Storage> {
        Some(&*self.clone_of_this()?.core().storage)
    }

    /// What is wrong now.
    fn check(&self) -> Result<CheckReport> {
        check(&self.now()?, CheckOptions { full: true, ..Depth::Structure.into() }, self.on_event)
    }

    /// The repository as it is now.
    fn now(&self) -> Result<Repository> {
        self.repository.again(self.core.storage.clone(), self.repository.cache_dir())
    }

    /// `config` from the slot that opened the repository, and each slot's copies from each other.
    fn mend_keys(&mut self) -> Result<()> {
        let text = self.storage.read_whole(CONFIG_FILE, TEXT_MAX_LEN);
        if text.and_then(|text| checked_line(&text, CONFIG_FILE).map(drop)).is_err() {
            self.replace(CONFIG_FILE, &with_check_line(self.repository.opened_by.config()))?;
            self.say(RepairStep::Keys, CONFIG_FILE, "written anew from a slot");
        }
        for copies in slot_copies(self.storage)? {
            let whole = copies.iter().find_map(|(_, text)| text.clone());
            for (file, _) in copies.into_iter().filter(|(_, text)| text.is_none()) {
                match &whole {
                    Some(text) => {
                        self.replace(&file, text)?;
                        self.say(RepairStep::Keys, file, "written anew from its other copy");
                    }
                    None => {
                        if self.set_aside(&file)? {
                            let what = "moved to quarantine: what it was made for opens the repository no more";
                            self.say(RepairStep::Keys, file, what);
                        }
                    }
                }
            }
        }
        self.storage.sync_all()
    }

    /// Makes the sidecars that are missing or damaged.
    fn mend_parity(&mut self) -> Result<()> {
        if !self.core.config.parity {
            return Ok(());
        }
        let kinds: HashMap<FileHash, PackKind> =
            list_packs(self.storage)?.into_keys().map(|(kind, name)| (name, kind)).collect();
        let names: Vec<FileHash> = kinds.keys().copied().collect();
        for (name, _) in parity::check(self.storage, &names, &parity::list(self.storage)?, true) {
            if let Some(bytes) = quarantine::read_whole(self.storage, &pack_file(kinds[&name], &name), &name) {
                let sidecar = parity::parity_file(&name);
                self.set_aside(&sidecar)?;
                parity::write(self.storage, &self.core.config.id, &name, &bytes)?;
                self.say(RepairStep::Parity, sidecar, "made anew");
            }
        }
        Ok(())
    }
}

/// The snapshots that a check has found to have lost something.
fn snapshots_of(found: &CheckReport) -> Vec<Snapshot> {
    found.affected.iter().map(|affected| affected.snapshot.clone()).collect()
}
