//! Passwords of backups that the repository keeps for its owner (SPEC §10): by device and keybag, because a phone's password changes and its
//! old backups keep theirs.

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::{
    Repository,
    clock::unix_seconds,
    error::{Error, Result},
    format::{
        config::TEXT_MAX_LEN,
        seal::{FileKind, read_named},
    },
    id::FileHash,
    storage::layout::PASSWORDS_FOLDER,
};

/// A password that is remembered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedPassword {
    /// The device.
    series: String,
    /// BLAKE3 of the keybag that it opens, 64 digits; empty if the phone has made no backup by it yet.
    keybag: String,
    /// What the phone's owner typed.
    pub password: String,
    /// Seconds since 1970.
    created: i64,
}

impl RememberedPassword {
    /// Whether it is known to open this keybag.
    pub fn is_of(&self, keybag: &[u8]) -> bool {
        self.keybag == FileHash::of(keybag).to_string()
    }

    /// Whether the phone was given it, and has made no backup by it yet.
    pub fn is_untried(&self) -> bool {
        self.keybag.is_empty()
    }
}

impl Drop for RememberedPassword {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

impl std::fmt::Debug for RememberedPassword {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RememberedPassword").field("series", &self.series).finish_non_exhaustive()
    }
}

impl Repository {
    /// Remembers the password that opens a keybag of a device's backups, or, without one, that of its next backup. One that is remembered
    /// already is left.
    ///
    /// # Errors
    /// What the storage says, or [`Error::Unsupported`] if only a newer program may write here.
    pub fn remember_password(&self, series: &str, keybag: Option<&[u8]>, password: &str) -> Result<()> {
        self.core().config.check_writable()?;
        let known = self.remembered_passwords(series)?;
        let keybag = keybag.map_or(String::new(), |keybag| FileHash::of(keybag).to_string());
        // Of those that wait for their first backup only the newest counts.
        let mut known_of = known.iter().take(if keybag.is_empty() { 1 } else { usize::MAX });
        if known_of.any(|known| known.keybag == keybag && known.password == password) {
            return Ok(());
        }
        let newest = known.first().map_or(i64::MIN, |known| known.created);
        let remembered = RememberedPassword {
            series: series.to_owned(),
            keybag,
            password: password.to_owned(),
            created: unix_seconds().max(newest.saturating_add(1)),
        };
        let core = self.core();
        let payload = serde_json::to_vec(&remembered).map_err(|error| Error::Failed(error.to_string()))?;
        let bytes = core.sealer.seal_payload(FileKind::Password, &payload)?;
        core.storage.put_file(&format!("{PASSWORDS_FOLDER}/{}", FileHash::of(&bytes)), &bytes)?;
        core.storage.sync_all()
    }

    /// The passwords that are remembered for a device, newest first. What cannot be read is none.
    ///
    /// # Errors
    /// Any failure of the storage.
    pub fn remembered_passwords(&self, series: &str) -> Result<Vec<RememberedPassword>> {
        let core = self.core();
        let mut found: Vec<RememberedPassword> = Vec::new();
        let listed = core.storage.list_named(PASSWORDS_FOLDER)?;
        for (id, len) in listed.into_iter().filter(|(_, len)| *len <= TEXT_MAX_LEN as u64) {
            let file = format!("{PASSWORDS_FOLDER}/{id}");
            let read = read_named(&*core.storage, &core.sealer, FileKind::Password, &file, &id, len);
            let parsed = read.ok().and_then(|payload| serde_json::from_slice::<RememberedPassword>(&payload).ok());
            found.extend(parsed.filter(|password| password.series == series));
        }
        found.sort_by(|one, other| other.created.cmp(&one.created).then_with(|| one.keybag.cmp(&other.keybag)));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{MemoryStorage, Options, Storage};

    #[test]
    fn passwords_are_remembered_by_device_and_keybag() {
        let storage = Arc::new(MemoryStorage::default());
        let (repository, _) = Repository::create(storage.clone(), Some("open"), &Options::default()).unwrap();
        assert!(repository.remembered_passwords("phone").unwrap().is_empty());
        for (series, keybag, password) in [("phone", "1", "old"), ("phone", "2", "new"), ("pad", "3", "other")] {
            repository.remember_password(series, Some(keybag.as_bytes()), password).unwrap();
            repository.remember_password(series, Some(keybag.as_bytes()), password).unwrap();
        }
        let of_phone = repository.remembered_passwords("phone").unwrap();
        assert_eq!(of_phone.len(), 2);
        let of_keybag = |keybag: &[u8]| of_phone.iter().find(|known| known.is_of(keybag)).map(|known| &*known.password);
        assert_eq!((of_keybag(b"1"), of_keybag(b"2"), of_keybag(b"3")), (Some("old"), Some("new"), None));
        for (name, _) in storage.list("passwords").unwrap() {
            let file = format!("passwords/{name}");
            let bytes = storage.read(&file, 0, 9999).unwrap();
            assert!(!bytes.windows(3).any(|window| window == b"old"));
            storage.put(&file, &bytes[1..]).unwrap();
        }
        assert!(repository.remembered_passwords("phone").unwrap().is_empty(), "what is broken is none");
    }

    #[test]
    fn a_password_set_last_comes_first() {
        let (repository, _) =
            Repository::create(Arc::new(MemoryStorage::default()), Some("open"), &Options::default()).unwrap();
        repository.remember_password("phone", Some(b"1"), "first").unwrap();
        for password in ["second", "third", "second", "second"] {
            repository.remember_password("phone", None, password).unwrap();
            let known = repository.remembered_passwords("phone").unwrap();
            assert!(known[0].is_untried() && known[0].password == password && !known[0].is_of(b""));
        }
        assert_eq!(repository.remembered_passwords("phone").unwrap().len(), 4);
        repository.remember_password("phone", Some(b"2"), "second").unwrap();
        assert!(repository.remembered_passwords("phone").unwrap()[0].is_of(b"2"));
    }
}
