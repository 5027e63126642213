//! Pins: what is not to be forgotten (SPEC §10).
//!
//! A pin is the name of its file. What the file holds only tells when, so that a damaged pin still pins.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    Repository,
    clock::unix_seconds,
    error::{Problem, Result},
    format::seal::FileKind,
    id::SnapshotId,
    repository::core::Core,
    storage::layout::PINS_FOLDER,
};

const PIN_MAX_LEN: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Pin {
    created: i64,
}

impl Repository {
    /// The snapshots that are pinned; some may be there no more.
    ///
    /// # Errors
    /// Any failure of the storage.
    pub fn pins(&self) -> Result<BTreeSet<SnapshotId>> {
        list_pins(self.core())
    }

    /// Pins a snapshot: it cannot be forgotten until it is unpinned. One that is pinned stays so, and a damaged pin is made anew.
    ///
    /// # Errors
    /// What the storage says, or [`Error::Unsupported`](crate::Error::Unsupported) if only a newer program may write here.
    pub fn pin(&self, snapshot: &SnapshotId) -> Result<()> {
        let core = self.core();
        core.config.check_writable()?;
        if read_pin(core, snapshot).is_ok() {
            return Ok(());
        }
        core.put_json(FileKind::Pin, &pin_file(snapshot), &Pin { created: unix_seconds() })?;
        core.storage.sync_all()
    }

    /// Takes the pin of a snapshot away, if it has one.
    ///
    /// # Errors
    /// As [`pin`](Repository::pin).
    pub fn unpin(&self, snapshot: &SnapshotId) -> Result<()> {
        let core = self.core();
        core.config.check_writable()?;
        core.storage.delete_file(&pin_file(snapshot))?;
        core.storage.sync_all()
    }

    /// Pins `to` in the place of `from`, if that is pinned: as long as one of the two is there, one that is pinned is.
    pub(crate) fn move_pin(&self, from: &SnapshotId, to: &SnapshotId) -> Result<()> {
        if self.pins()?.contains(from) {
            self.pin(to)?;
            self.unpin(from)?;
        }
        Ok(())
    }
}

/// What is damaged among the pins. They pin all the same.
///
/// # Errors
/// That the folder cannot be listed.
pub(crate) fn check_pins(core: &Core) -> Result<Vec<Problem>> {
    let pins = list_pins(core)?.into_iter();
    let problem = |id: SnapshotId| match read_pin(core, &id) {
        Err(error) if !error.is_missing_file() => Some(Problem::from_error(&pin_file(&id), error)),
        _ => None,
    };
    Ok(pins.filter_map(problem).collect())
}

pub(crate) fn list_pins(core: &Core) -> Result<BTreeSet<SnapshotId>> {
    core.storage.names_in(PINS_FOLDER)
}

fn read_pin(core: &Core, snapshot: &SnapshotId) -> Result<Pin> {
    core.read_json(FileKind::Pin, &pin_file(snapshot), PIN_MAX_LEN)
}

fn pin_file(snapshot: &SnapshotId) -> String {
    format!("{PINS_FOLDER}/{snapshot}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{MemoryStorage, Options, Storage, id::FileHash};

    fn new() -> (Arc<MemoryStorage>, Repository) {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &Options::default()).unwrap();
        (storage, repository)
    }

    fn problems(repository: &Repository) -> Vec<String> {
        check_pins(repository.core()).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pins_come_and_go_and_outlive_what_they_pin() {
        let (storage, repository) = new();
        let [one, other] = [FileHash::of(b"one"), FileHash::of(b"other")];
        assert_eq!(repository.pins().unwrap(), BTreeSet::new());
        for id in [one, other, one] {
            repository.pin(&id).unwrap();
        }
        assert_eq!(repository.pins().unwrap(), BTreeSet::from([one, other]));
        assert_eq!(problems(&repository), [""; 0], "that there is no such snapshot is none");
        let before = storage.files().clone();
        repository.pin(&one).unwrap();
        assert_eq!(*storage.files(), before, "a pin that is whole is left");
        repository.unpin(&one).unwrap();
        repository.unpin(&one).unwrap();
        assert_eq!(repository.pins().unwrap(), BTreeSet::from([other]));
    }

    #[test]
    fn a_damaged_pin_still_pins_and_is_reported_until_it_is_made_anew() {
        let (storage, repository) = new();
        let id = FileHash::of(b"one");
        repository.pin(&id).unwrap();
        let (file, whole) = (pin_file(&id), storage.files().clone());
        let damages: [fn(&mut Vec<u8>); 4] =
            [|bytes| bytes[70] ^= 1, |bytes| bytes.truncate(40), Vec::clear, |bytes| bytes.resize(PIN_MAX_LEN + 1, 0)];
        for damage in damages {
            damage(storage.files().get_mut(&file).unwrap());
            assert_eq!(repository.pins().unwrap(), BTreeSet::from([id]));
            let found = problems(&repository);
            assert!(found.len() == 1 && found[0].starts_with(&file), "{found:?}");
            repository.pin(&id).unwrap();
            assert_eq!(problems(&repository), [""; 0]);
            *storage.files() = whole.clone();
        }
    }

    #[test]
    fn another_version_in_a_pin_is_damage() {
        let (storage, repository) = new();
        let id = FileHash::of(b"one");
        repository.pin(&id).unwrap();
        // No name tells whether a bit has flipped.
        for (at, byte) in [(8, 2), (9, 11)] {
            let whole = storage.files()[&pin_file(&id)].clone();
            storage.files().get_mut(&pin_file(&id)).unwrap()[at] = byte;
            let found = check_pins(repository.core()).unwrap();
            assert!(found.len() == 1 && !found[0].is_newer, "{found:?}");
            storage.files().insert(pin_file(&id), whole);
        }
    }

    #[test]
    fn what_is_sealed_as_something_else_is_no_pin_and_other_names_are_ignored() {
        let (storage, repository) = new();
        let core = repository.core();
        let id = FileHash::of(b"one");
        for (kind, payload) in [(FileKind::Session, &b"{\"created\":1}"[..]), (FileKind::Pin, b"{}")] {
            storage.put(&pin_file(&id), &core.sealer.seal_payload(kind, payload).unwrap()).unwrap();
            assert_eq!(problems(&repository).len(), 1, "{kind:?}");
        }
        repository.unpin(&id).unwrap();
        for name in [".DS_Store".to_owned(), format!("{id}.tmp"), format!("ab/{id}")] {
            storage.put(&format!("{PINS_FOLDER}/{name}"), b"").unwrap();
        }
        assert_eq!(repository.pins().unwrap(), BTreeSet::new());
    }
}
