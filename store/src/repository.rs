//! A repository: create, probe, open. What can be done with it hangs on it from where it is done.

pub(crate) mod core;
pub(crate) mod machine;
pub(crate) mod remembered;
pub(crate) mod reserve;
pub(crate) mod session;
pub(crate) mod slots;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use self::core::Core;
use crate::{
    bytes::random,
    clock::unix_seconds,
    error::{Error, Problem, Result},
    format::{
        chunker::Chunker,
        config::{Config, TEXT_MAX_LEN, checked_line, with_check_line},
        keys::{RecoveryKey, Secret, Slot, SlotKind, Unlock, open_any, read_slots},
        pack::list_packs,
        record::RecordKind,
        seal::{Cipher, Sealer},
    },
    id::{RepositoryId, encode_hex},
    storage::{
        Storage, is_of_system,
        layout::{CONFIG_FILE, KEYS_FOLDER, TEMPORARY_FOLDER},
    },
};

const DEFAULT_PACK_BYTES: u32 = 16 << 20;
const PACK_BYTES_MAX: u32 = 128 << 20;
/// Is wrong with an open slot beside others.
const UNUSED_OPEN_SLOT: &str = "it would open the repository without a password, although there is one, and is not used: \
                                this may be an attack by somebody who can write to this folder";

/// What is chosen when a repository is created, and never changes.
#[derive(Debug, Clone)]
pub struct Options {
    /// How files are sealed.
    pub cipher: Cipher,
    /// Bytes at which a pack is closed. A few packs are in memory at a time.
    pub pack_bytes: u32,
    /// Whether packs get parity, a twentieth of their length, that mends bad sectors.
    pub parity: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { cipher: Cipher::default(), pack_bytes: DEFAULT_PACK_BYTES, parity: false }
    }
}

/// What can be known of a repository without its password.
#[derive(Debug)]
pub struct Probe {
    /// Its id.
    pub id: RepositoryId,
    /// Whether it can only be opened with a password or recovery key.
    pub needs_password: bool,
    /// Why this program cannot open it whatever the password is, if that is so.
    unknown_keys: Option<Problem>,
    /// Slots that would open it without a password although others want one. None of them is used: whoever can write to the folder may have put them
    /// there.
    pub open_slots: Vec<String>,
    /// Whether its packs have parity.
    pub parity: bool,
    /// What is damaged among `config` and `keys/`.
    pub problems: Vec<Problem>,
}

impl Probe {
    fn of(unopened: Unopened) -> Probe {
        let needs_password = unopened.needs_password();
        let open_slots = unopened.unused_open_slots().map(|slot| slot.id().to_owned()).collect();
        let unknown_keys = unopened.refuse_unknown().err().map(|error| Problem::from_error(KEYS_FOLDER, error));
        let Unopened { config, problems, .. } = unopened;
        Probe { id: config.id, needs_password, unknown_keys, open_slots, parity: config.parity, problems }
    }

    /// Fails if only a newer program can open it, so that nobody need be asked for a password.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub fn require_known_keys(&self) -> Result<()> {
        self.unknown_keys.clone().map_or(Ok(()), |problem| Err(problem.into_error()))
    }
}

/// How a repository is opened, by whatever unlocks it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opening<'a> {
    /// Where what is read often is kept, in a folder of the repository's own.
    pub cache_dir: Option<&'a Path>,
    /// Whether it may have lost even its `config`.
    pub is_damaged: bool,
    /// The [mark](Repository::slot_mark) of the slot to try first.
    pub first_slot: Option<&'a str>,
}

/// A repository, open.
pub struct Repository {
    core: Arc<Core>,
    cache_dir: Option<PathBuf>,
    problems: Vec<Problem>,
    needs_password: bool,
    /// For new slots.
    pub(crate) secret: Secret,
    pub(crate) opened_by: Slot,
}

impl Repository {
    /// Makes a repository in an empty place, with a password and a recovery key, or open to everyone.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NotEmpty`], or what the storage says.
    pub fn create(
        storage: Arc<dyn Storage>,
        password: Option<&str>,
        options: &Options,
    ) -> Result<(Repository, Option<RecoveryKey>)> {
        check_empty(&*storage)?;
        delete_leftover_slots(&*storage)?;
        let id = RepositoryId(random().map_err(Error::Random)?);
        let pack_bytes = options.pack_bytes.clamp(1, PACK_BYTES_MAX);
        let config = Config { parity: options.parity, ..Config::new(id, options.cipher, pack_bytes, unix_seconds()) };
        let secret = Secret::random()?;
        let recovery = password.map(|_| RecoveryKey::random()).transpose()?;
        let slot = |unlock| Slot::new(unlock, &secret, config.cipher, config.to_line());
        let opened_by = slot(password.map_or(Unlock::Open, Unlock::Password))?;
        opened_by.write(&*storage)?;
        if let Some(recovery) = &recovery {
            slot(Unlock::Recovery(recovery))?.write(&*storage)?;
        }
        storage.sync_all()?;
        storage.put_file(CONFIG_FILE, &with_check_line(&config.to_line()))?;
        storage.sync_all()?;
        let repository = Repository::with(storage, config, secret, opened_by, None, Vec::new());
        Ok((Repository { needs_password: password.is_some(), ..repository }, recovery))
    }

    /// Looks at a repository without opening it.
    ///
    /// # Errors
    /// [`Error::NoRepository`], or why neither `config` nor a slot can be read.
    pub fn probe(storage: &dyn Storage) -> Result<Probe> {
        Ok(Probe::of(Unopened::read(storage, false, None)?))
    }

    /// The same of a repository that has lost even its `config`, as far as it can be told from what else lies there.
    ///
    /// # Errors
    /// As [`probe`](Repository::probe).
    pub fn probe_damaged(storage: &dyn Storage) -> Result<Probe> {
        Ok(Probe::of(Unopened::read(storage, true, None)?))
    }

    /// Opens a repository. What is read often is kept in a folder of `cache_dir`, which can be deleted at any time.
    ///
    /// # Errors
    /// [`Error::NoRepository`], [`Error::WrongPassword`], [`Error::PasswordNeeded`], [`Error::Unsupported`], or
    /// [`Error::Damaged`] if no slot is left.
    pub fn open(storage: Arc<dyn Storage>, unlock: Unlock, cache_dir: Option<&Path>) -> Result<Repository> {
        Repository::open_with(storage, unlock, Opening { cache_dir, ..Opening::default() })
    }

    /// The same of a repository that has lost even its `config`, to be [repaired](crate::repair()): a slot has a copy.
    ///
    /// # Errors
    /// As [`open`](Repository::open).
    pub fn open_damaged(storage: Arc<dyn Storage>, unlock: Unlock, cache_dir: Option<&Path>) -> Result<Repository> {
        Repository::open_with(storage, unlock, Opening { cache_dir, is_damaged: true, ..Opening::default() })
    }

    /// The same, with all that can be said of how.
    ///
    /// # Errors
    /// As [`open`](Repository::open).
    pub fn open_with(storage: Arc<dyn Storage>, unlock: Unlock, opening: Opening) -> Result<Repository> {
        let unopened = Unopened::read(&*storage, opening.is_damaged, opening.first_slot)?;
        Repository::open_by(storage, unopened, unlock, opening)
    }

    fn open_by(storage: Arc<dyn Storage>, unopened: Unopened, unlock: Unlock, opening: Opening) -> Result<Repository> {
        let Unopened { config, slots, problems, .. } = &unopened;
        if slots.is_empty() {
            return Err(Error::damaged(KEYS_FOLDER, "no slot is left, so nothing can open the repository"));
        }
        unopened.refuse_unknown()?;
        if matches!(unlock, Unlock::Open) && unopened.needs_password() {
            return Err(Error::PasswordNeeded);
        }
        let Some((secret, slot)) = open_any(slots, unlock, config.cipher, opening.first_slot)? else {
            return Err(match problems.iter().find(|problem| problem.file.starts_with(KEYS_FOLDER)) {
                Some(Problem { file, what, .. }) => {
                    Error::damaged(file, format!("{what}, and no other slot is of its kind"))
                }
                None => Error::WrongPassword,
            });
        };
        let cache_dir = opening.cache_dir.map(|dir| dir.join(config.id.to_string()));
        let needs_password = !unopened.gives_away(&secret);
        let slot = slot.clone();
        let Unopened { config, problems, .. } = unopened;
        let repository = Repository::with(storage, config, secret, slot, cache_dir, problems);
        Ok(Repository { needs_password, ..repository })
    }

    fn with(
        storage: Arc<dyn Storage>,
        config: Config,
        secret: Secret,
        opened_by: Slot,
        cache_dir: Option<PathBuf>,
        problems: Vec<Problem>,
    ) -> Repository {
        let keys = secret.keys();
        let sealer = Sealer::new(config.cipher, config.id, keys.seal);
        let chunker = Chunker::new(&keys.chunker);
        let core = Arc::new(Core { storage, config, keys, sealer, chunker, distrusted: Mutex::default() });
        Repository { core, cache_dir, problems, needs_password: true, secret, opened_by }
    }

    /// This repository as it is now, in `storage`, with nothing remembered of what was found damaged.
    pub(crate) fn again(&self, storage: Arc<dyn Storage>, cache_dir: Option<&Path>) -> Result<Repository> {
        let unopened = Unopened::read(&*storage, true, None)?;
        let needs_password = !unopened.gives_away(&self.secret);
        let (config, secret) = (self.core.config.clone(), self.secret.clone());
        let again = Repository::with(storage, config, secret, self.opened_by.clone(), None, unopened.problems);
        Ok(Repository { cache_dir: cache_dir.map(Path::to_owned), needs_password, ..again })
    }

    /// Whether nobody who has it can read it without a password or a recovery key: its secret lies in no slot for everybody.
    pub fn needs_password(&self) -> bool {
        self.needs_password
    }

    /// By which a repository with the same keys is known again; the keys do not follow from it (SPEC §4).
    pub fn fingerprint(&self) -> String {
        self.secret.fingerprint()
    }

    /// By which [`Opening::first_slot`] finds the slot again that opened this.
    pub fn slot_mark(&self) -> String {
        self.opened_by.mark()
    }

    /// The repository's id.
    pub fn id(&self) -> RepositoryId {
        self.core.config.id
    }

    /// Where this repository's rebuildable state is kept, if anywhere.
    pub fn cache_dir(&self) -> Option<&Path> {
        self.cache_dir.as_deref()
    }

    /// Where is kept what is known of the files in this place alone, and not of a copy elsewhere.
    pub(crate) fn place_dir(&self) -> Option<PathBuf> {
        let place = blake3::hash(self.core.storage.place().as_bytes());
        Some(self.cache_dir()?.join(format!("place-{}", encode_hex(&place.as_bytes()[..16]))))
    }

    /// What was damaged, but not fatal, when the repository was opened.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many bytes can still be written here, if the storage can tell.
    ///
    /// # Errors
    /// Any failure of the storage.
    pub fn free_bytes(&self) -> Result<Option<u64>> {
        self.core.storage.free_space()
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

/// What can be read without the secret.
struct Unopened {
    config: Config,
    slots: Vec<Slot>,
    /// Slots that were made for another config, and are not used.
    foreign: Vec<Slot>,
    problems: Vec<Problem>,
}

impl Unopened {
    /// A config that is missing is damaged, if that `may_be_lost` and there is something that needs it.
    fn read(storage: &dyn Storage, may_be_lost: bool, first_slot: Option<&str>) -> Result<Unopened> {
        let text = match storage.read_whole(CONFIG_FILE, TEXT_MAX_LEN) {
            Err(Error::Storage { source, .. }) if is_missing(&source) => {
                if !(may_be_lost && holds_anything(storage)?) {
                    return Err(Error::NoRepository);
                }
                Err(Error::damaged(CONFIG_FILE, "it is missing"))
            }
            other => other,
        };
        let (slots, mut problems) = read_slots(storage, first_slot)?;
        let line = match text.and_then(|text| checked_line(&text, CONFIG_FILE).map(str::to_owned)) {
            // Each slot has a copy; that of an open one says least, because anybody can write one.
            Err(error) if error.is_damage() && !slots.is_empty() => {
                problems.push(Problem::from_error(CONFIG_FILE, error));
                let slot = slots.iter().find(|slot| slot.kind() != SlotKind::Open).unwrap_or(&slots[0]);
                slot.config().to_owned()
            }
            other => other?,
        };
        let config = Config::parse(&line, CONFIG_FILE)?;
        let (slots, foreign): (Vec<Slot>, Vec<Slot>) = slots.into_iter().partition(|slot| slot.config() == line);
        problems.extend(foreign.iter().map(|slot| Problem::new(slot.file(1), "it was made for another config")));
        let mut unopened = Unopened { config, slots, foreign, problems };
        let open =
            unopened.unused_open_slots().map(|slot| Problem::new(slot.file(1), UNUSED_OPEN_SLOT)).collect::<Vec<_>>();
        unopened.problems.extend(open);
        Ok(unopened)
    }

    fn all_slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().chain(&self.foreign)
    }

    /// Whether there is a password, a recovery key, or what only a newer program can ask for, whatever else there is.
    fn has_password(&self) -> bool {
        self.all_slots().any(|slot| slot.kind() != SlotKind::Open)
    }

    /// Fails if no slot is left that this program could use, but some that a newer one can.
    fn refuse_unknown(&self) -> Result<()> {
        let unknown = self.slots.iter().find(|slot| slot.kind() == SlotKind::Unknown);
        let is_usable = |slot: &&Slot| matches!(slot.kind(), SlotKind::Password | SlotKind::Recovery);
        match unknown.filter(|_| !self.slots.iter().any(|slot| is_usable(&slot))) {
            Some(slot) => Err(Error::newer(slot.file(1), "a key of another kind")),
            None => Ok(()),
        }
    }

    fn needs_password(&self) -> bool {
        self.has_password() || !self.slots.iter().any(|slot| slot.kind() == SlotKind::Open)
    }

    /// The open slots that are beside passwords or recovery keys.
    fn unused_open_slots(&self) -> impl Iterator<Item = &Slot> {
        let has_password = self.has_password();
        self.all_slots().filter(move |slot| has_password && slot.kind() == SlotKind::Open)
    }

    fn gives_away(&self, secret: &Secret) -> bool {
        self.all_slots().any(|slot| slot.gives_away(secret))
    }
}

/// Whether there are packs or snapshots, as an interrupted `create` leaves none.
fn holds_anything(storage: &dyn Storage) -> Result<bool> {
    Ok(!list_packs(storage)?.is_empty() || !storage.list_folder(RecordKind::Snapshot.folder())?.is_empty())
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// Refuses what is a repository, and any folder but one that an interrupted `create` left: slots, and no config.
fn check_empty(storage: &dyn Storage) -> Result<()> {
    match storage.read_whole(CONFIG_FILE, TEXT_MAX_LEN) {
        Err(Error::Storage { source, .. }) if is_missing(&source) => {}
        Err(error) if !error.is_damage() => return Err(error),
        _ => return Err(Error::Exists),
    }
    let foreign = |(name, _): &(String, u64)| {
        !name.split('/').next().is_some_and(is_of_system)
            && !name.starts_with(&format!("{KEYS_FOLDER}/"))
            && !name.starts_with(&format!("{TEMPORARY_FOLDER}/"))
    };
    match storage.list_folder("")?.into_iter().find(foreign) {
        Some((found, _)) => Err(Error::NotEmpty { found }),
        None => Ok(()),
    }
}

/// Slots without a config open nothing, and beside a new one each would be reported for ever.
fn delete_leftover_slots(storage: &dyn Storage) -> Result<()> {
    let slots = storage.list_folder(KEYS_FOLDER)?;
    slots.into_iter().try_for_each(|(name, _)| storage.delete_file(&format!("{KEYS_FOLDER}/{name}")))
}
