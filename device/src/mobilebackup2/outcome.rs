//! How a phone refuses or fails an operation: the numbers of MBErrorDomain, what they mean, and what to do.

use std::fmt;

/// An operation that the phone ended with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The number within MBErrorDomain.
    pub code: i64,
    /// The phone's words, if it had any.
    pub description: Option<String>,
    /// How many free bytes a backup would have needed, if it was for want of them.
    pub needed_bytes: Option<u64>,
}

/// What the numbers mean that phones are known to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Meaning {
    /// 1: no reason of its own; often that the phone is managed, and must encrypt its backups.
    Unspecified,
    /// 3: the phone could not make its snapshot, because that of an earlier run is there.
    SnapshotLeftOver,
    /// 4, 11, 100: the phone found its backup folder in disorder.
    FolderInDisorder,
    /// 102: an earlier restore was not completed.
    RestorePending,
    /// 104: the phone could not send some of its files.
    FilesUnreadable,
    /// 105: not enough free space for the backup.
    NoSpace,
    /// 205: the backup that was offered is incomplete or altered.
    BackupUnreadable,
    /// 207: the password of the backup is wrong.
    WrongPassword,
    /// 208: the phone is locked, or its passcode was not entered in time.
    Locked,
    /// 211: Find My is on.
    FindMyOn,
    /// 212: the phone is not set up.
    NotSetUp,
    /// Any other number.
    Unknown,
}

/// What a phone adds to the space that it lacks when it asks to make room.
const PURGE_MARGIN: u64 = 2 << 30;

impl Refusal {
    /// What the number means.
    pub fn meaning(&self) -> Meaning {
        match self.code {
            1 => Meaning::Unspecified,
            3 => Meaning::SnapshotLeftOver,
            4 | 11 | 100 => Meaning::FolderInDisorder,
            102 => Meaning::RestorePending,
            104 => Meaning::FilesUnreadable,
            105 => Meaning::NoSpace,
            205 => Meaning::BackupUnreadable,
            207 => Meaning::WrongPassword,
            208 => Meaning::Locked,
            211 => Meaning::FindMyOn,
            212 => Meaning::NotSetUp,
            _ => Meaning::Unknown,
        }
    }
}

impl Meaning {
    /// What is wrong, as a clause; `None` where only the phone's words say it.
    pub fn sentence(self) -> Option<&'static str> {
        Some(match self {
            Meaning::Unspecified | Meaning::Unknown => return None,
            Meaning::SnapshotLeftOver => "the phone still holds the snapshot of a backup that was cut off",
            Meaning::FolderInDisorder => "the phone found the backup folder in disorder",
            Meaning::RestorePending => "an earlier restore has not been completed on the phone",
            Meaning::FilesUnreadable => "the phone could not read some of its files",
            Meaning::NoSpace => "there is not enough free space for the backup",
            Meaning::BackupUnreadable => "the phone found the backup incomplete or altered",
            Meaning::WrongPassword => "the backup password is wrong",
            Meaning::Locked => "the phone is locked, or its passcode was not entered in time",
            Meaning::FindMyOn => "Find My is on",
            Meaning::NotSetUp => "the phone has not been set up",
        })
    }

    /// What a user can do; `None` where nothing is known.
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Meaning::Unknown => return None,
            Meaning::Unspecified => {
                "if the phone is managed, switch on backup encryption; else restart the phone and retry"
            }
            Meaning::SnapshotLeftOver => "restart the phone and retry",
            Meaning::FolderInDisorder => "retry with a full backup",
            Meaning::RestorePending => "restart the phone, let the restore end, and retry",
            Meaning::FilesUnreadable => "unlock the phone, keep it unlocked, and retry",
            Meaning::NoSpace => "free some space, or keep the backups elsewhere",
            Meaning::BackupUnreadable => {
                "for a backup, retry with a full one; for a restore, check the snapshot or choose another"
            }
            Meaning::WrongPassword => "use the password that was set when this backup was made",
            Meaning::Locked => "unlock the phone and enter its passcode when it asks, within three minutes",
            Meaning::FindMyOn => "switch it off on the phone: Settings > your name > Find My",
            Meaning::NotSetUp => "finish the setup assistant on the phone",
        })
    }
}

impl fmt::Display for Refusal {
    /// What is wrong, and the phone's words. What to do, [`Meaning::advice`] says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = self.meaning();
        match meaning.sentence() {
            Some(sentence) => write!(f, "{sentence} (error {}", self.code)?,
            None => write!(f, "the phone ended the operation with an error ({}", self.code)?,
        }
        if let Some(description) = &self.description {
            write!(f, ": {}", super::files::shortened(description))?;
        }
        f.write_str(")")?;
        if let Some(bytes) = self.needed_bytes {
            write!(f, "; {:.1} GB must be free", bytes as f64 / 1e9)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// How much must be free, from what the phone asked to purge after it was told how much is: it asks for what it lacks
/// and 2 GiB.
pub(super) fn needed_bytes(purge: u64, reported: u64) -> u64 {
    reported.saturating_add(purge).saturating_sub(PURGE_MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: i64) -> Refusal {
        Refusal { code, description: Some("in the phone's words".into()), needed_bytes: None }
    }

    #[test]
    fn every_known_number_is_explained_in_its_own_words() {
        let mut sentences = std::collections::HashSet::new();
        for code in [3, 4, 102, 104, 105, 205, 207, 208, 211, 212] {
            let meaning = refusal(code).meaning();
            assert!(sentences.insert(meaning.sentence().unwrap()), "{code}");
            assert!(meaning.advice().is_some(), "{code}");
        }
        for code in [11, 100] {
            assert_eq!(refusal(code).meaning(), Meaning::FolderInDisorder);
        }
    }

    #[test]
    fn the_phone_s_number_and_words_are_always_told() {
        for code in [1, 3, 208, 999, -5, i64::MIN] {
            let text = refusal(code).to_string();
            assert!(text.contains("in the phone's words") && text.contains(&code.to_string()), "{text}");
        }
    }

    #[test]
    fn the_space_needed_is_what_was_free_and_what_was_lacking() {
        assert_eq!(needed_bytes((5 << 30) + PURGE_MARGIN, 3 << 30), 8 << 30);
        assert_eq!(needed_bytes(0, 5), 0);
        assert_eq!(needed_bytes(u64::MAX, u64::MAX), u64::MAX - PURGE_MARGIN);
        let refusal = Refusal { needed_bytes: Some(86_000_000_000), ..refusal(105) };
        assert!(refusal.to_string().contains("86.0 GB"), "{refusal}");
    }
}
