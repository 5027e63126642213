//! What opens a repository, listed and changed (SPEC §4).
//!
//! The secret stays what it is: whoever has a copy of a slot that was removed, and what opens it, can open the repository for ever.

use crate::{
    error::{Error, Result},
    format::keys::{RecoveryKey, SLOTS_MAX, Slot, SlotKind, Unlock, read_slots},
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
    /// The name that a person gave it; empty if nobody did. Whoever can write to the folder can change it.
    pub label: String,
    /// Whether the repository was opened by it.
    pub is_used: bool,
}

impl Repository {
    /// All slots that can be read, oldest first.
    ///
    /// # Errors
    /// Any failure of the storage.
    pub fn slots(&self) -> Result<Vec<KeySlot>> {
        let mut slots: Vec<KeySlot> = self.read_slots()?.iter().map(|slot| self.describe(slot)).collect();
        slots.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        Ok(slots)
    }

    /// Has `password` open the repository beside what does already. Where that was everybody, it needs a password from then on.
    ///
    /// # Errors
    /// Any failure of the storage, [`Error::TooManySlots`], or [`Error::Unsupported`] if only a newer program may write
    /// here.
    pub fn add_password(&self, password: &str, label: &str) -> Result<KeySlot> {
        let added = self.add(Unlock::Password(password), label)?;
        if self.opened_by.kind() == SlotKind::Open {
            self.close_to_everybody()?;
        }
        Ok(added)
    }

    /// Makes a recovery key beside those that there are.
    ///
    /// # Errors
    /// As [`add_password`](Repository::add_password).
    pub fn add_recovery_key(&self) -> Result<(KeySlot, RecoveryKey)> {
        let key = RecoveryKey::random()?;
        Ok((self.add(Unlock::Recovery(&key), "")?, key))
    }

    /// Has `password` open the repository in place of the password, or the absence of one, by which it was opened. Where that was a recovery key,
    /// nothing is removed.
    ///
    /// # Errors
    /// As [`add_password`](Repository::add_password). Whatever fails, the old password opens it, or the new one, or both.
    pub fn change_password(&self, password: &str) -> Result<KeySlot> {
        let label = if self.opened_by.kind() == SlotKind::Password { self.opened_by.label() } else { "" };
        let added = self.add_password(password, label)?;
        if self.opened_by.kind() == SlotKind::Password {
            let storage = &*self.core().storage;
            self.opened_by.delete(storage)?;
            storage.sync_all()?;
        }
        Ok(added)
    }

    /// Deletes every slot that gives the secret to everybody. Open slots of another secret are not of this repository, and are reported.
    fn close_to_everybody(&self) -> Result<()> {
        let storage = &*self.core().storage;
        for slot in self.read_slots()?.iter().filter(|slot| slot.gives_away(&self.secret)) {
            slot.delete(storage)?;
        }
        storage.sync_all()
    }

    /// Removes a slot; not the one by which the repository was opened, so that whoever removes one is known to have another.
    ///
    /// # Errors
    /// [`Error::SlotInUse`], [`Error::NoSuchSlot`], what the storage says, or [`Error::Unsupported`].
    pub fn remove_slot(&self, id: &str) -> Result<()> {
        let core = self.core();
        core.config.check_writable()?;
        let slots = self.read_slots()?;
        let of_id = |is_open| slots.iter().find(|slot| slot.id() == id && (slot.kind() == SlotKind::Open) == is_open);
        if let (Some(_), Some(other)) = (of_id(true), of_id(false)) {
            if other.kind() == SlotKind::Unknown {
                return Err(Error::newer(other.file(1), "a key of another kind"));
            }
            // An open slot that somebody has put in place of a copy of another goes; the other stays.
            other.write(&*core.storage)?;
            return core.storage.sync_all();
        }
        if id == self.opened_by.id() {
            return Err(Error::SlotInUse);
        }
        let slot = slots.iter().find(|slot| slot.id() == id).ok_or_else(|| Error::NoSuchSlot { id: id.into() })?;
        slot.delete(&*core.storage)?;
        // Who opened the repository by that slot may have removed this one at the same moment: one of them must stay.
        if !self.read_slots()?.contains(&self.opened_by) {
            self.opened_by.write(&*core.storage)?;
        }
        core.storage.sync_all()
    }

    /// Writes a slot, and sees that it opens.
    fn add(&self, unlock: Unlock, label: &str) -> Result<KeySlot> {
        let core = self.core();
        core.config.check_writable()?;
        if self.read_slots()?.len() >= SLOTS_MAX {
            return Err(Error::TooManySlots);
        }
        let slot = Slot::new(unlock, &self.secret, core.config.cipher, self.opened_by.config().to_owned())?;
        let slot = slot.labelled(label);
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
        read_slots(&*self.core().storage, Some(&self.opened_by.mark())).map(|(slots, _)| slots)
    }

    fn describe(&self, slot: &Slot) -> KeySlot {
        KeySlot {
            id: slot.id().to_owned(),
            kind: slot.kind(),
            created: slot.created(),
            label: slot.label().to_owned(),
            is_used: *slot == self.opened_by,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Cipher, MemoryStorage, Options,
        format::{
            config::with_check_line,
            keys::{LABEL_MAX_LEN, Secret},
        },
        repository::Opening,
        storage::{Storage, layout::CONFIG_FILE},
    };
    use std::sync::Arc;

    use super::*;

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
        repository.add_password("two", "").unwrap();
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
        repository.add_password("one", "").unwrap();
        assert!(Repository::probe(&*storage).unwrap().needs_password, "an open slot beside it would protect nothing");
        repository.change_password("two").unwrap();
        assert!(Repository::probe(&*storage).unwrap().needs_password);
        assert!(matches!(open(&storage, Unlock::Open), Err(Error::PasswordNeeded)));
        assert!(open(&storage, Unlock::Password("one")).is_ok() && open(&storage, Unlock::Password("two")).is_ok());
    }

    /// Has a slot hold what only a newer program knows, in both of its copies.
    fn put_unknown(storage: &MemoryStorage, slot: &Slot) {
        let line = serde_json::json!({
            "slot": slot.id(), "kind": "token", "created": 1, "config": slot.config(), "salt": 7, "sealed": ["a", "b"],
        });
        let text = with_check_line(&line.to_string());
        (1..=2).for_each(|copy| storage.put(&slot.file(copy), &text).unwrap());
    }

    #[test]
    fn only_slots_of_unknown_kinds_are_newer() {
        for password in [None, Some("one")] {
            let storage = Arc::new(MemoryStorage::default());
            let (repository, _) = Repository::create(storage.clone(), password, &Options::default()).unwrap();
            for slot in repository.read_slots().unwrap() {
                put_unknown(&storage, &slot);
            }
            for unlock in [Unlock::Open, Unlock::Password("one"), Unlock::Password("two")] {
                let error = open(&storage, unlock).err().unwrap();
                assert!(error.is_newer() && error.to_string().contains("keys/"), "{error}");
            }
            let probe = Repository::probe(&*storage).unwrap();
            assert!(probe.needs_password && probe.require_known_keys().is_err_and(|error| error.is_newer()));
            assert_eq!(probe.problems, []);
        }
    }

    #[test]
    fn slot_of_an_unknown_kind_stays_as_it_is() {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), Some("one"), &Options::default()).unwrap();
        let other = repository.read_slots().unwrap().into_iter().find(|slot| *slot != repository.opened_by).unwrap();
        put_unknown(&storage, &other);
        let before = storage.files()[&other.file(1)].clone();
        let opened = open(&storage, Unlock::Password("one")).unwrap();
        assert_eq!(opened.problems(), []);
        assert!(is_wrong(open(&storage, Unlock::Password("two"))));
        assert!(opened.slots().unwrap().iter().any(|slot| slot.kind == SlotKind::Unknown));
        storage.put(&other.file(1), b"broken").unwrap();
        let go_on = |_| std::ops::ControlFlow::Continue(());
        crate::repair(&opened, &crate::RepairOptions::default(), &go_on).unwrap();
        assert!((1..=2).all(|copy| storage.files()[&other.file(copy)] == before));
        // An open slot beside it may be an attack as well.
        opened.opened_by.delete(&*storage).unwrap();
        let config = opened.opened_by.config().to_owned();
        let injected = Slot::new(Unlock::Open, &Secret::random().unwrap(), Cipher::default(), config).unwrap();
        injected.write(&*storage).unwrap();
        assert!(open(&storage, Unlock::Open).is_err_and(|error| error.is_newer()));
        assert!(opened.remove_slot(other.id()).is_ok());
    }

    #[test]
    fn two_who_remove_each_others_slot_leave_one() {
        let storage = Arc::new(MemoryStorage::default());
        let (by_one, _) = Repository::create(storage.clone(), Some("one"), &Options::default()).unwrap();
        let two = by_one.add_password("two", "").unwrap();
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

    /// A repository with the password `one`, and what opened it.
    fn with_password() -> (Arc<MemoryStorage>, Repository) {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), Some("one"), &Options::default()).unwrap();
        (storage, repository)
    }

    /// A slot that somebody has made who can write to the folder, with a secret of his own.
    fn injected(repository: &Repository) -> Slot {
        let config = repository.opened_by.config().to_owned();
        Slot::new(Unlock::Open, &Secret::random().unwrap(), repository.core().config.cipher, config).unwrap()
    }

    #[track_caller]
    fn assert_not_taken_in(storage: &Arc<MemoryStorage>, repository: &Repository, injected: &Slot) {
        let probe = Repository::probe(&**storage).unwrap();
        assert!(probe.needs_password);
        assert_eq!(probe.open_slots, [injected.id()]);
        assert!(matches!(open(storage, Unlock::Open), Err(Error::PasswordNeeded)));
        let opened = open(storage, Unlock::Password("one")).unwrap();
        assert_eq!(opened.fingerprint(), repository.fingerprint());
        assert!(opened.needs_password(), "what is written is for nobody else");
        assert!(opened.problems().iter().any(|problem| problem.what.contains("attack")), "{:?}", opened.problems());
        // Nor does a new password hold the secret of the attacker.
        opened.change_password("two").unwrap();
        assert_eq!(open(storage, Unlock::Password("two")).unwrap().fingerprint(), repository.fingerprint());
    }

    #[test]
    fn injected_open_slot_is_not_used() {
        let (storage, repository) = with_password();
        let injected = injected(&repository);
        injected.write(&*storage).unwrap();
        assert_not_taken_in(&storage, &repository, &injected);
    }

    #[test]
    fn open_slot_in_place_of_a_copy_is_not_used() {
        let (storage, repository) = with_password();
        let mut injected = injected(&repository);
        injected.rename(repository.opened_by.id());
        let before = storage.files()[&injected.file(1)].clone();
        injected.write(&*storage).unwrap();
        storage.put(&injected.file(1), &before).unwrap();
        // It goes alone.
        repository.remove_slot(injected.id()).unwrap();
        let [probe, opened] = [
            Repository::probe(&*storage).unwrap().problems,
            open(&storage, Unlock::Password("one")).unwrap().problems().to_vec(),
        ];
        assert_eq!([probe, opened], [vec![], vec![]]);
        storage.put(&injected.file(2), &with_check_line(&serde_json::to_string(&injected).unwrap())).unwrap();
        assert_not_taken_in(&storage, &repository, &injected);
    }

    #[test]
    fn open_slot_with_a_config_of_its_own_is_not_used() {
        let (storage, repository) = with_password();
        let line = repository.opened_by.config().replacen('{', r#"{"mine":1,"#, 1);
        let secret = Secret::random().unwrap();
        let injected = Slot::new(Unlock::Open, &secret, repository.core().config.cipher, line.clone()).unwrap();
        injected.write(&*storage).unwrap();
        storage.put(CONFIG_FILE, &with_check_line(&line)).unwrap();
        assert!(Repository::probe(&*storage).unwrap().needs_password);
        assert!(matches!(open(&storage, Unlock::Open), Err(Error::PasswordNeeded)));
        assert!(open(&storage, Unlock::Password("one")).is_err(), "its slot is for another config");
        // A config that is broken is made from the slot of who has a password.
        storage.put(CONFIG_FILE, b"broken").unwrap();
        let opened = open(&storage, Unlock::Password("one")).unwrap();
        assert_eq!(opened.fingerprint(), repository.fingerprint());
    }

    #[test]
    fn secret_in_an_open_slot_is_for_everybody() {
        let (storage, repository) = with_password();
        let config = repository.opened_by.config().to_owned();
        let cipher = repository.core().config.cipher;
        Slot::new(Unlock::Open, &repository.secret, cipher, config).unwrap().write(&*storage).unwrap();
        assert!(!open(&storage, Unlock::Password("one")).unwrap().needs_password());
    }

    #[test]
    fn slots_without_end_keep_nobody_out() {
        let (storage, repository) = with_password();
        let config = repository.opened_by.config();
        for n in 0..3 * SLOTS_MAX {
            let line = format!(
                r#"{{"slot":"{n:016x}","kind":"password","created":1,"config":{},"salt":"{:032x}","memory_kib":1048576,"passes":4,"lanes":1,"sealed":"{:096x}"}}"#,
                serde_json::to_string(config).unwrap(),
                n,
                n
            );
            storage.put(&format!("keys/{n:016x}-1"), &with_check_line(&line)).unwrap();
        }
        let mark = repository.slot_mark();
        let unlock = Unlock::Password("one");
        let opening = Opening { first_slot: Some(&mark), ..Opening::default() };
        let opened = Repository::open_with(storage.clone(), unlock, opening).unwrap();
        assert!(opened.problems().iter().any(|problem| problem.what.contains("only 64 are looked at")));
        assert!(matches!(opened.add_password("two", ""), Err(Error::TooManySlots)));
        assert_eq!(opened.slots().unwrap().len(), SLOTS_MAX);
        assert_eq!(Repository::probe(&*storage).unwrap().id, repository.id());
    }

    #[test]
    fn label_is_kept_through_a_change() {
        let (storage, repository) = with_password();
        let long = "ä".repeat(LABEL_MAX_LEN);
        let labels =
            [repository.add_password("two", "Anna").unwrap().label, repository.add_password("3", &long).unwrap().label];
        assert_eq!(labels, ["Anna".to_owned(), long[..LABEL_MAX_LEN].to_owned()]);
        assert_eq!(open(&storage, Unlock::Password("two")).unwrap().change_password("four").unwrap().label, "Anna");
    }
}
