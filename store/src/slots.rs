//! What opens a repository, listed and changed (SPEC §4).
//!
//! The secret stays what it is: whoever has a copy of a slot that was removed, and what opens it, can open the repository for ever.

use crate::{
    error::{Error, Result},
    keys::{RecoveryKey, Slot, SlotKind, Unlock, read_slots},
    repository::Repository,
};

/// One way to open a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySlot {
    /// 16 hexadecimal digits.
    pub id: String,
    /// By what it opens.
    pub kind: SlotKind,
    /// When it was made, seconds since 1970.
    pub created: i64,
    /// Whether the repository was opened by it.
    pub is_used: bool,
}

impl Repository {
    /// All slots that can be read, oldest first.
    ///
    /// # Errors
    /// What the storage says.
    pub fn slots(&self) -> Result<Vec<KeySlot>> {
        let mut slots: Vec<KeySlot> = self.read_slots()?.iter().map(|slot| self.describe(slot)).collect();
        slots.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        Ok(slots)
    }

    /// Has `password` open the repository beside what does already.
    ///
    /// # Errors
    /// What the storage says, or [`Error::Unsupported`] if only a newer program may write here.
    pub fn add_password(&self, password: &str) -> Result<KeySlot> {
        self.add(Unlock::Password(password))
    }

    /// Makes a recovery key beside those that there are.
    ///
    /// # Errors
    /// As [`add_password`](Repository::add_password).
    pub fn add_recovery_key(&self) -> Result<(KeySlot, RecoveryKey)> {
        let key = RecoveryKey::random()?;
        Ok((self.add(Unlock::Recovery(&key))?, key))
    }

    /// Has `password` open the repository in place of the password, or the absence of one, by which it was opened. Where that was a recovery key,
    /// nothing is removed.
    ///
    /// # Errors
    /// As [`add_password`](Repository::add_password). Whatever fails, the old password opens it, or the new one, or both.
    pub fn change_password(&self, password: &str) -> Result<KeySlot> {
        let added = self.add_password(password)?;
        if self.opened_by.kind() != SlotKind::Recovery {
            let storage = &*self.core().storage;
            self.opened_by.delete(storage)?;
            storage.sync_all()?;
        }
        Ok(added)
    }

    /// Removes a slot; not the one by which the repository was opened, so that whoever removes one is known to have another.
    ///
    /// # Errors
    /// [`Error::SlotInUse`], [`Error::NoSuchSlot`], what the storage says, or [`Error::Unsupported`].
    pub fn remove_slot(&self, id: &str) -> Result<()> {
        let core = self.core();
        core.config.check_writable()?;
        if id == self.opened_by.id() {
            return Err(Error::SlotInUse);
        }
        let slots = self.read_slots()?;
        let slot = slots.iter().find(|slot| slot.id() == id).ok_or_else(|| Error::NoSuchSlot { id: id.into() })?;
        slot.delete(&*core.storage)?;
        // Who opened the repository by that slot may have removed this one at the same moment: one of them must stay.
        if !self.read_slots()?.contains(&self.opened_by) {
            self.opened_by.write(&*core.storage)?;
        }
        core.storage.sync_all()
    }

    /// Writes a slot, and sees that it opens.
    fn add(&self, unlock: Unlock) -> Result<KeySlot> {
        let core = self.core();
        core.config.check_writable()?;
        let slot = Slot::new(unlock, &self.secret, core.config.cipher, self.opened_by.config().to_owned())?;
        if let Err(error) = slot.write(&*core.storage) {
            // One copy without the other would be reported for ever.
            let _ = slot.delete(&*core.storage);
            return Err(error);
        }
        core.storage.sync_all()?;
        let kept = self.read_slots()?.into_iter().find(|kept| *kept == slot);
        let opened = kept.map_or(Ok(None), |kept| kept.open(unlock, core.config.cipher))?;
        if opened.is_none_or(|secret| secret.0 != self.secret.0) {
            return Err(Error::damaged(slot.file(1), "it does not open by what it was made for"));
        }
        Ok(self.describe(&slot))
    }

    fn read_slots(&self) -> Result<Vec<Slot>> {
        read_slots(&*self.core().storage).map(|(slots, _)| slots)
    }

    fn describe(&self, slot: &Slot) -> KeySlot {
        KeySlot {
            id: slot.id().to_owned(),
            kind: slot.kind(),
            created: slot.created(),
            is_used: slot.id() == self.opened_by.id(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        MemoryStorage, Options,
        config::{CONFIG_FILE, with_check_line},
        storage::Storage,
    };

    fn open(storage: &Arc<MemoryStorage>, unlock: Unlock) -> Result<Repository> {
        Repository::open(storage.clone(), unlock, None)
    }

    fn is_wrong(opened: Result<Repository>) -> bool {
        matches!(opened, Err(Error::WrongPassword))
    }

    #[test]
    fn passwords_come_and_go_and_the_content_stays() {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, recovery) = Repository::create(storage.clone(), Some("one"), &Options::default()).unwrap();
        let recovery = recovery.unwrap();
        repository.add_password("two").unwrap();
        let by_two = open(&storage, Unlock::Password("two")).unwrap();
        assert_eq!(by_two.core().keys.seal, repository.core().keys.seal);
        let three = by_two.change_password("three").unwrap();
        assert!(is_wrong(open(&storage, Unlock::Password("two"))));
        let by_three = open(&storage, Unlock::Password("three")).unwrap();
        let slots = by_three.slots().unwrap();
        assert_eq!(slots.len(), 3, "{slots:?}");
        let used: Vec<_> = slots.iter().filter(|slot| slot.is_used).map(|slot| &slot.id).collect();
        assert_eq!(used, [&three.id]);
        assert!(matches!(by_three.remove_slot(&three.id), Err(Error::SlotInUse)));
        assert!(matches!(by_three.remove_slot("0123456789abcdef"), Err(Error::NoSuchSlot { .. })));
        let one = slots.iter().find(|slot| slot.kind == SlotKind::Password && !slot.is_used).unwrap();
        by_three.remove_slot(&one.id).unwrap();
        assert!(is_wrong(open(&storage, Unlock::Password("one"))));

        let by_words = open(&storage, Unlock::Recovery(&recovery)).unwrap();
        let (_, new_recovery) = by_words.add_recovery_key().unwrap();
        by_words.change_password("four").unwrap();
        for unlock in [
            Unlock::Recovery(&recovery),
            Unlock::Recovery(&new_recovery),
            Unlock::Password("three"),
            Unlock::Password("four"),
        ] {
            let opened = open(&storage, unlock).unwrap();
            assert_eq!((opened.id(), opened.problems()), (repository.id(), &[][..]));
        }
    }

    #[test]
    fn a_repository_that_everybody_reads_gets_a_password_later() {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &Options::default()).unwrap();
        repository.add_password("one").unwrap();
        assert!(!Repository::probe(&*storage).unwrap().needs_password, "the open slot is still there");
        repository.change_password("two").unwrap();
        assert!(Repository::probe(&*storage).unwrap().needs_password);
        assert!(matches!(open(&storage, Unlock::Open), Err(Error::PasswordNeeded)));
        assert!(open(&storage, Unlock::Password("one")).is_ok() && open(&storage, Unlock::Password("two")).is_ok());
    }

    #[test]
    fn two_who_remove_each_others_slot_leave_one() {
        let storage = Arc::new(MemoryStorage::default());
        let (by_one, _) = Repository::create(storage.clone(), Some("one"), &Options::default()).unwrap();
        let two = by_one.add_password("two").unwrap();
        by_one.opened_by.delete(&*storage).unwrap();
        by_one.remove_slot(&two.id).unwrap();
        assert!(open(&storage, Unlock::Password("one")).is_ok());
    }

    #[test]
    fn a_slot_copies_what_a_newer_program_wrote_into_config() {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), None, &Options::default()).unwrap();
        let line = repository.opened_by.config().replacen('{', r#"{"later":1,"#, 1);
        storage.put(CONFIG_FILE, &with_check_line(&line)).unwrap();
        repository.opened_by.delete(&*storage).unwrap();
        let newer = Slot::new(Unlock::Open, &repository.secret, repository.core().config.cipher, line).unwrap();
        newer.write(&*storage).unwrap();
        open(&storage, Unlock::Open).unwrap().change_password("new").unwrap();
        assert_eq!(open(&storage, Unlock::Password("new")).unwrap().problems(), []);
    }
}
