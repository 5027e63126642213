//! The repository's secret, the keys that follow from it, and the slots that hold it (SPEC §4).

use std::{collections::BTreeSet, fmt, str::FromStr};

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    bytes::random,
    clock::unix_seconds,
    error::{Error, Problem, Result},
    format::{
        config::{self, TEXT_MAX_LEN},
        seal::{Cipher, FrameNumber},
    },
    id::{decode_hex, encode_hex},
    storage::{Storage, layout::KEYS_FOLDER},
};

const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
const LANES: u32 = 1;
/// More than these would be an attack on the reader's memory and patience.
const MEMORY_MAX_KIB: u32 = 2 << 20;
const PASSES_MAX: u32 = 64;
const LANES_MAX: u32 = 16;
/// KiB times passes that all slots of one try may ask for together; as many slots as there may be, as they are written, ask for three quarters of it.
const WORK_MAX: u64 = 16 << 20;
/// Whoever can write to the folder can add slots without end.
pub(crate) const SLOTS_MAX: usize = 64;
/// Bytes of a label. A longer one counts as none.
pub const LABEL_MAX_LEN: usize = 100;

const SECRET_LEN: usize = 32;
const SEALED_LEN: usize = SECRET_LEN + crate::format::seal::TAG_LEN;
const SALT_LEN: usize = 16;
const RECOVERY_LEN: usize = 20;

/// The 32 bytes from which every key of a repository follows.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secret(pub(crate) [u8; SECRET_LEN]);

/// One key for each use.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Keys {
    pub(crate) seal: [u8; 32],
    pub(crate) id: [u8; 32],
    pub(crate) chunker: [u8; 32],
    pub(crate) tree: [u8; 32],
}

impl Secret {
    pub(crate) fn random() -> Result<Secret> {
        Ok(Secret(random().map_err(Error::Random)?))
    }

    /// A hash that tells whether a secret is the same as another, and nothing else of it.
    pub(crate) fn fingerprint(&self) -> String {
        encode_hex(&blake3::derive_key("heirloom 1 fingerprint", &self.0))
    }

    pub(crate) fn keys(&self) -> Keys {
        Keys {
            seal: blake3::derive_key("heirloom 1 seal", &self.0),
            id: blake3::derive_key("heirloom 1 chunk id", &self.0),
            chunker: blake3::derive_key("heirloom 1 chunker", &self.0),
            tree: blake3::derive_key("heirloom 1 tree", &self.0),
        }
    }
}

/// 160 random bits that open a repository when its password is forgotten; shown as 15 words of BIP 39's English list.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct RecoveryKey(pub(crate) [u8; RECOVERY_LEN]);

impl RecoveryKey {
    pub(crate) fn random() -> Result<RecoveryKey> {
        Ok(RecoveryKey(random().map_err(Error::Random)?))
    }
}

impl fmt::Display for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bip39::Mnemonic::from_entropy(&self.0).expect("160 bits make 15 words").fmt(f)
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryKey(…)")
    }
}

impl FromStr for RecoveryKey {
    type Err = Error;

    fn from_str(words: &str) -> Result<RecoveryKey> {
        let bad = |what: String| Error::BadRecoveryKey { what };
        // The paper has numbers before the words, and whoever types them may put commas between.
        let words = words.to_lowercase();
        let words: Vec<&str> =
            words.split(|letter: char| !letter.is_alphabetic()).filter(|word| !word.is_empty()).collect();
        let words = words.join(" ");
        let mnemonic =
            bip39::Mnemonic::parse_in(bip39::Language::English, words).map_err(|error| bad(error.to_string()))?;
        let entropy = Zeroizing::new(mnemonic.to_entropy());
        let bytes = entropy.as_slice().try_into().map_err(|_| bad("it has 15 words".into()))?;
        Ok(RecoveryKey(bytes))
    }
}

/// A password that nobody could guess or remember: 64 digits, for a file that a program reads.
///
/// # Errors
/// [`Error::Random`].
pub fn random_password() -> Result<Zeroizing<String>> {
    Ok(Zeroizing::new(encode_hex(&random::<32>().map_err(Error::Random)?)))
}

/// What a person has to open a repository with.
#[derive(Debug, Clone, Copy)]
pub enum Unlock<'a> {
    /// The password.
    Password(&'a str),
    /// The recovery key.
    Recovery(&'a RecoveryKey),
    /// Nothing: for a repository without a password.
    Open,
}

impl Unlock<'_> {
    /// The kind of the slots that it may open.
    pub(crate) fn kind(&self) -> SlotKind {
        match self {
            Unlock::Password(_) => SlotKind::Password,
            Unlock::Recovery(_) => SlotKind::Recovery,
            Unlock::Open => SlotKind::Open,
        }
    }
}

/// One way to the secret: a line of JSON in `keys/<slot>-1` and `-2`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot {
    slot: String,
    kind: SlotKind,
    created: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
    config: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    salt: String,
    #[serde(default, skip_serializing_if = "Option::is_none", flatten)]
    costs: Option<Costs>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    sealed: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    secret: String,
}

/// By what a slot opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotKind {
    /// By a password.
    Password,
    /// By a recovery key.
    Recovery,
    /// By nothing: everybody can.
    Open,
    /// By something that this program does not know.
    #[serde(other)]
    Unknown,
}

/// Argon2id's.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Costs {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Slot {
    /// A slot of the kind of `unlock`, in a repository whose config's first line is `config`.
    pub(crate) fn new(unlock: Unlock, secret: &Secret, cipher: Cipher, config: String) -> Result<Slot> {
        let id = encode_hex(&random::<8>().map_err(Error::Random)?);
        let mut slot = Slot { slot: id, created: unix_seconds(), ..Slot::nothing(config) };
        if let Unlock::Open = unlock {
            slot.secret = encode_hex(&secret.0);
            return Ok(slot);
        }
        let salt = random::<SALT_LEN>().map_err(Error::Random)?;
        slot.salt = encode_hex(&salt);
        (slot.kind, slot.costs) = match unlock {
            Unlock::Password(_) => {
                (SlotKind::Password, Some(Costs { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES }))
            }
            _ => (SlotKind::Recovery, None),
        };
        let key = slot.key(unlock, &salt)?.expect("the slot is of the kind of what opens it");
        let mut sealed = Vec::with_capacity(SEALED_LEN);
        cipher.key(&key).seal(
            FrameNumber::Inner(0),
            blake3::hash(slot.config.as_bytes()).as_bytes(),
            &secret.0,
            &mut sealed,
        );
        slot.sealed = encode_hex(&sealed);
        Ok(slot)
    }

    /// An open slot that holds nothing yet.
    fn nothing(config: String) -> Slot {
        let (slot, label, salt, sealed, secret) = Default::default();
        Slot { slot, kind: SlotKind::Open, created: 0, label, config, salt, costs: None, sealed, secret }
    }

    /// The same slot, called `label`, of which as much is kept as a label may have.
    pub(crate) fn labelled(mut self, label: &str) -> Slot {
        label[..label.floor_char_boundary(LABEL_MAX_LEN)].clone_into(&mut self.label);
        self
    }

    /// The name that a person gave it; empty if nobody did.
    pub(crate) fn label(&self) -> &str {
        if self.label.len() > LABEL_MAX_LEN { "" } else { &self.label }
    }

    /// Its id and a hash of all that it says, by which it is known again, and not if somebody changed it.
    pub(crate) fn mark(&self) -> String {
        let line = serde_json::to_string(self).expect("a slot is plain JSON");
        format!("{}-{}", self.slot, encode_hex(&blake3::hash(line.as_bytes()).as_bytes()[..8]))
    }

    #[cfg(test)]
    pub(crate) fn rename(&mut self, id: &str) {
        id.clone_into(&mut self.slot);
    }

    /// KiB times passes that it takes to try a password.
    fn work(&self) -> u64 {
        self.costs.map_or(0, |costs| u64::from(costs.memory_kib) * u64::from(costs.passes))
    }

    /// Whether its secret, which lies there for everybody, is `secret`.
    pub(crate) fn gives_away(&self, secret: &Secret) -> bool {
        self.kind == SlotKind::Open && self.secret == encode_hex(&secret.0)
    }

    /// 16 digits, by which its files are named.
    pub(crate) fn id(&self) -> &str {
        &self.slot
    }

    pub(crate) fn kind(&self) -> SlotKind {
        self.kind
    }

    /// When it was made, seconds since 1970.
    pub(crate) fn created(&self) -> i64 {
        self.created
    }

    /// The copy of config's first line.
    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    /// The secret, or `None` if `unlock` is not of this slot's kind, or wrong.
    pub(crate) fn open(&self, unlock: Unlock, cipher: Cipher) -> Result<Option<Secret>> {
        let damaged = |what: &str| Error::damaged(self.file(1), what);
        let mut secret = Secret([0; SECRET_LEN]);
        if let (Unlock::Open, SlotKind::Open) = (unlock, self.kind) {
            return if decode_hex(&self.secret, &mut secret.0) {
                Ok(Some(secret))
            } else {
                Err(damaged("it holds no secret"))
            };
        }
        let (mut salt, mut sealed) = ([0; SALT_LEN], vec![0; SEALED_LEN]);
        if self.kind == SlotKind::Open || self.kind == SlotKind::Unknown {
            return Ok(None);
        }
        if !decode_hex(&self.salt, &mut salt) || !decode_hex(&self.sealed, &mut sealed) {
            return Err(damaged("its salt or sealed secret has a wrong length"));
        }
        let Some(key) = self.key(unlock, &salt)? else { return Ok(None) };
        let associated = blake3::hash(self.config.as_bytes());
        let Some(opened) = cipher.key(&key).open(FrameNumber::Inner(0), associated.as_bytes(), sealed) else {
            return Ok(None);
        };
        secret.0.copy_from_slice(&Zeroizing::new(opened));
        Ok(Some(secret))
    }

    /// The key that seals the secret in this slot; `None` if `unlock` is for a slot of another kind.
    fn key(&self, unlock: Unlock, salt: &[u8; SALT_LEN]) -> Result<Option<Zeroizing<[u8; 32]>>> {
        let mut key = Zeroizing::new([0; 32]);
        match (unlock, self.kind, &self.costs) {
            (Unlock::Password(password), SlotKind::Password, Some(costs)) => {
                let normal = Zeroizing::new(password.nfc().collect::<String>());
                self.argon2(costs)?
                    .hash_password_into(normal.as_bytes(), salt, key.as_mut())
                    .map_err(|error| Error::damaged(self.file(1), error.to_string()))?;
            }
            (Unlock::Recovery(recovery), SlotKind::Recovery, _) => {
                let material = Zeroizing::new([recovery.0.as_slice(), salt].concat());
                *key = blake3::derive_key("heirloom 1 recovery", &material);
            }
            (Unlock::Password(_), SlotKind::Password, None) => {
                return Err(Error::damaged(self.file(1), "it does not say what its password costs"));
            }
            _ => return Ok(None),
        }
        Ok(Some(key))
    }

    fn argon2(&self, costs: &Costs) -> Result<Argon2<'static>> {
        if costs.memory_kib > MEMORY_MAX_KIB || costs.passes > PASSES_MAX || costs.lanes > LANES_MAX {
            return Err(self.asks_for_too_much());
        }
        let params = Params::new(costs.memory_kib, costs.passes, costs.lanes, Some(32))
            .map_err(|error| Error::damaged(self.file(1), error.to_string()))?;
        Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
    }

    fn asks_for_too_much(&self) -> Error {
        Error::damaged(self.file(1), "it asks for more work than any password needs")
    }

    /// The name of one of its two copies.
    pub(crate) fn file(&self, copy: u8) -> String {
        format!("{KEYS_FOLDER}/{}-{copy}", self.slot)
    }

    /// Writes both copies.
    pub(crate) fn write(&self, storage: &dyn Storage) -> Result<()> {
        let line = serde_json::to_string(self).expect("a slot is plain JSON");
        let text = config::with_check_line(&line);
        (1..=2).try_for_each(|copy| storage.put_file(&self.file(copy), &text))
    }

    /// Deletes both copies.
    pub(crate) fn delete(&self, storage: &dyn Storage) -> Result<()> {
        (1..=2).try_for_each(|copy| storage.delete_file(&self.file(copy)))
    }
}

/// Opens one of `slots` by `unlock`: first the one of the mark `first`, by which it was opened the last time, then those that cost least, so that
/// a right password does not wait for what somebody has added. Gives the secret and the slot.
///
/// # Errors
/// [`Error::WrongPassword`] if `unlock` opens none that can be asked, or why none can be. `None` if none is of its
/// kind.
pub(crate) fn open_any<'s>(
    slots: &'s [Slot],
    unlock: Unlock,
    cipher: Cipher,
    first: Option<&str>,
) -> Result<Option<(Secret, &'s Slot)>> {
    let mut tried: Vec<&Slot> = slots.iter().filter(|slot| slot.kind == unlock.kind()).collect();
    tried.sort_by_cached_key(|slot| (first.is_none_or(|first| slot.mark() != first), slot.work()));
    let (mut failure, mut is_wrong, mut work) = (None, false, 0u64);
    for slot in tried {
        let opened = match work.checked_add(slot.work()).filter(|&sum| sum <= WORK_MAX) {
            Some(sum) => {
                work = sum;
                slot.open(unlock, cipher)
            }
            None => Err(slot.asks_for_too_much()),
        };
        match opened {
            Ok(Some(secret)) => return Ok(Some((secret, slot))),
            Ok(None) => is_wrong = true,
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        // What one slot says of the password counts more than that another cannot be asked.
        _ if is_wrong => Err(Error::WrongPassword),
        Some(error) => Err(error),
        None => Ok(None),
    }
}

/// Every slot that has a whole copy, and what is wrong with the others. Of more slots than there may be it is the first ones, and among them the one of
/// the mark `first`.
pub(crate) fn read_slots(storage: &dyn Storage, first: Option<&str>) -> Result<(Vec<Slot>, Vec<Problem>)> {
    let files: BTreeSet<String> =
        storage.list_folder(KEYS_FOLDER)?.into_iter().map(|(name, _)| name).filter(|name| is_slot_name(name)).collect();
    let mut ids: Vec<String> = files.iter().map(|name| name[..16].to_owned()).collect();
    ids.dedup();
    ids.sort_by_cached_key(|id| first.is_none_or(|first| !first.starts_with(id)));
    let (mut slots, mut problems) = (Vec::<Slot>::new(), Vec::new());
    if ids.len() > SLOTS_MAX {
        problems
            .push(Problem::new(KEYS_FOLDER, format!("{} keys lie there: only {SLOTS_MAX} are looked at", ids.len())));
        ids.truncate(SLOTS_MAX);
    }
    for name in ids.iter().flat_map(|id| [format!("{id}-1"), format!("{id}-2")]) {
        let file = format!("{KEYS_FOLDER}/{name}");
        if !files.contains(&name) {
            problems.push(Problem::new(file, "the slot's other copy is missing"));
            continue;
        }
        match read_slot(storage, &file) {
            Ok(slot) if slot.slot != name[..16] => {
                problems.push(Problem::new(file, "it holds another slot than its name says"))
            }
            Ok(slot) if slots.contains(&slot) => {}
            Ok(slot) => {
                if slots.iter().any(|other| other.slot == slot.slot) {
                    problems.push(Problem::new(
                        file,
                        "it is another slot than its other copy: somebody may have put it there",
                    ));
                }
                slots.push(slot);
            }
            Err(error) => problems.push(Problem::from_error(&file, error)),
        }
    }
    Ok((slots, problems))
}

/// A file of a slot, and its text if it is whole.
pub(crate) type SlotCopy = (String, Option<Vec<u8>>);

/// The two files of every slot of which there is one.
pub(crate) fn slot_copies(storage: &dyn Storage) -> Result<Vec<[SlotCopy; 2]>> {
    let names = storage.list_folder(KEYS_FOLDER)?.into_iter().map(|(name, _)| name).filter(|name| is_slot_name(name));
    let slots: BTreeSet<String> = names.map(|name| name[..16].to_owned()).collect();
    let copy = |slot: &str, number: u8| -> Result<SlotCopy> {
        let file = format!("{KEYS_FOLDER}/{slot}-{number}");
        match read_slot(storage, &file) {
            Ok(read) if read.slot == slot => Ok((file.clone(), Some(storage.read_whole(&file, TEXT_MAX_LEN)?))),
            Ok(_) => Ok((file, None)),
            Err(error) if error.is_damage() || error.is_missing_file() => Ok((file, None)),
            Err(error) => Err(error),
        }
    };
    slots.iter().map(|slot| Ok([copy(slot, 1)?, copy(slot, 2)?])).collect()
}

fn read_slot(storage: &dyn Storage, file: &str) -> Result<Slot> {
    let text = storage.read_whole(file, TEXT_MAX_LEN)?;
    let line = config::checked_line(&text, file)?;
    parse_slot(line).map_err(|error| Error::damaged(file, format!("it is not a slot: {error}")))
}

pub(crate) fn parse_slot(line: &str) -> serde_json::Result<Slot> {
    /// Nothing else of a slot of another kind can be relied on.
    #[derive(Deserialize)]
    struct Begin {
        slot: String,
        kind: SlotKind,
        #[serde(default)]
        created: i64,
        config: String,
    }
    let Begin { slot, kind, created, config } = serde_json::from_str(line)?;
    if kind == SlotKind::Unknown {
        return Ok(Slot { slot, kind, created, ..Slot::nothing(config) });
    }
    serde_json::from_str(line)
}

pub(crate) fn is_slot_name(name: &str) -> bool {
    let copy = name.strip_suffix("-1").or_else(|| name.strip_suffix("-2"));
    copy.is_some_and(|slot| decode_hex(slot, &mut [0; 8]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{format::config::Config, id::RepositoryId, storage::MemoryStorage};

    fn config() -> Config {
        Config::new(RepositoryId([1; 16]), Cipher::default(), 1 << 24, 0)
    }

    #[test]
    fn each_slot_opens_with_its_own_and_nothing_else() {
        let (config, secret, recovery) = (config(), Secret::random().unwrap(), RecoveryKey::random().unwrap());
        let unlocks = [Unlock::Password("pässword"), Unlock::Recovery(&recovery), Unlock::Open];
        for (i, unlock) in unlocks.into_iter().enumerate() {
            let slot = Slot::new(unlock, &secret, config.cipher, config.to_line()).unwrap();
            for (j, other) in unlocks.into_iter().enumerate() {
                let opened = slot.open(other, config.cipher).unwrap();
                assert_eq!(opened.map(|found| found.0), (i == j).then_some(secret.0), "{i} {j}");
            }
        }
        let slot = Slot::new(Unlock::Password("pa\u{308}ssword"), &secret, config.cipher, config.to_line()).unwrap();
        assert!(slot.open(Unlock::Password("p\u{e4}ssword"), config.cipher).unwrap().is_some(), "composed or not");
        assert!(slot.open(Unlock::Password("password"), config.cipher).unwrap().is_none());
        let mut moved = slot.clone();
        moved.config = moved.config.replace("16777216", "16777217");
        assert!(moved.open(Unlock::Password("pässword"), config.cipher).unwrap().is_none(), "config is bound");
    }

    #[test]
    fn a_recovery_key_is_fifteen_words_and_a_typing_error_is_noticed() {
        let key = RecoveryKey::random().unwrap();
        let words = key.to_string();
        assert_eq!(words.split(' ').count(), 15);
        assert_eq!(words.to_uppercase().replace(' ', "\n  ").parse::<RecoveryKey>().unwrap(), key);
        assert!(words.rsplit_once(' ').unwrap().0.parse::<RecoveryKey>().is_err());
        assert!("not a key at all".parse::<RecoveryKey>().is_err());
    }

    #[test]
    fn one_copy_of_a_slot_is_enough_and_the_other_is_reported() {
        let storage = MemoryStorage::default();
        let secret = Secret::random().unwrap();
        Slot::new(Unlock::Open, &secret, Cipher::default(), config().to_line()).unwrap().write(&storage).unwrap();
        assert_eq!(read_slots(&storage, None).map(|(slots, problems)| (slots.len(), problems.len())).unwrap(), (1, 0));
        storage.put("keys/what a person put there", b"").unwrap();
        let first = storage.files().keys().next().unwrap().clone();
        let whole = storage.files()[&first].clone();
        let are_whole = || {
            let copies = slot_copies(&storage).unwrap();
            let is_whole = |(_, text): &SlotCopy| text.as_ref() == Some(&whole);
            copies.iter().map(|copies| copies.each_ref().map(is_whole)).collect::<Vec<_>>()
        };
        assert_eq!(are_whole(), vec![[true; 2]]);
        storage.files().get_mut(&first).unwrap()[40] ^= 1;
        let (slots, problems) = read_slots(&storage, None).unwrap();
        assert_eq!((slots.len(), problems[0].file.as_str()), (1, first.as_str()));
        assert_eq!(are_whole(), vec![[false, true]]);
        storage.files().remove(&first);
        let (slots, problems) = read_slots(&storage, None).unwrap();
        assert_eq!((slots.len(), problems[0].file.as_str()), (1, first.as_str()));
        assert_eq!(are_whole(), vec![[false, true]]);
    }

    #[test]
    fn a_slot_under_the_name_of_another_is_reported_and_not_used() {
        let storage = MemoryStorage::default();
        let slot = Slot::new(Unlock::Open, &Secret::random().unwrap(), Cipher::default(), config().to_line()).unwrap();
        slot.write(&storage).unwrap();
        for copy in [1, 2] {
            let bytes = storage.files().remove(&slot.file(copy)).unwrap();
            storage.put(&format!("{KEYS_FOLDER}/0123456789abcdef-{copy}"), &bytes).unwrap();
        }
        let (slots, problems) = read_slots(&storage, None).unwrap();
        assert_eq!((slots.len(), problems.len()), (0, 2), "{problems:?}");
        let copies = slot_copies(&storage).unwrap();
        assert!(copies.iter().flatten().all(|(_, whole)| whole.is_none()) && copies.len() == 1);
    }

    #[test]
    fn what_is_secret_is_not_shown_by_mistake_and_never_the_same() {
        let key = RecoveryKey::random().unwrap();
        assert_eq!(format!("{key:?}"), "RecoveryKey(…)");
        let passwords = [random_password().unwrap(), random_password().unwrap()];
        assert!(passwords.iter().all(|password| decode_hex(password, &mut [0; 32])) && passwords[0] != passwords[1]);
    }

    #[test]
    fn costs_beyond_reason_are_refused() {
        let before = unix_seconds();
        let slot = Slot::new(Unlock::Password("p"), &Secret::random().unwrap(), Cipher::default(), config().to_line())
            .unwrap();
        assert!((before..=unix_seconds()).contains(&slot.created()));
        let most = Costs { memory_kib: MEMORY_MAX_KIB, passes: PASSES_MAX, lanes: LANES_MAX };
        assert!(slot.argon2(&most).is_ok());
        let greedy = [
            Some(Costs { memory_kib: MEMORY_MAX_KIB + 1, ..most }),
            Some(Costs { passes: PASSES_MAX + 1, ..most }),
            Some(Costs { lanes: LANES_MAX + 1, ..most }),
            None,
        ];
        for costs in greedy {
            let slot = Slot { costs, ..slot.clone() };
            assert!(slot.open(Unlock::Password("p"), Cipher::default()).is_err_and(|error| error.is_damage()));
        }
    }

    #[test]
    fn cheap_slots_are_tried_first_and_dear_ones_never() {
        let (config, secret) = (config(), Secret::random().unwrap());
        let slot = Slot::new(Unlock::Password("p"), &secret, config.cipher, config.to_line()).unwrap();
        let costs = |memory_kib, passes| Slot { costs: Some(Costs { memory_kib, passes, lanes: 1 }), ..slot.clone() };
        // Each of these would take seconds, and all of them minutes.
        let mut slots = vec![costs(1 << 20, 4); SLOTS_MAX - 1];
        slots.push(slot.clone());
        let (found, opened) = open_any(&slots, Unlock::Password("p"), config.cipher, None).unwrap().unwrap();
        assert!(found.0 == secret.0 && *opened == slot);
        let dear = costs(MEMORY_MAX_KIB, PASSES_MAX);
        let refused = open_any(std::slice::from_ref(&dear), Unlock::Password("p"), config.cipher, None);
        assert!(refused.is_err_and(|error| error.is_damage()));
        // A slot that was changed is not the one that opened the last time.
        assert_ne!(dear.mark(), slot.mark());
        assert!(open_any(&[], Unlock::Open, config.cipher, None).unwrap().is_none());
    }

    #[test]
    fn as_many_slots_as_there_may_be_are_tried() {
        let written = u64::from(MEMORY_KIB) * u64::from(PASSES);
        assert!(SLOTS_MAX as u64 * written <= WORK_MAX);
    }
}
