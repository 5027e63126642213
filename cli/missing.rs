//! Files that a backup's Manifest.db names and that are not there: how many, and which of them a family would miss.

use heirloom_store::{Kind, Name, Prefix, SnapshotReader};

use crate::report::files;

/// More names than these are only counted.
const NAMES_MAX: usize = 100_000;
/// So few are named even if they are of no great matter.
const ALL_NAMED: u64 = 3;

/// Files that hold what people ask for first, by the ends of their paths, and what that is.
const MATTERS: [(&str, &str); 14] = [
    ("SMS/sms.db", "messages"),
    ("AddressBook/AddressBook.sqlitedb", "contacts"),
    ("CallHistory.storedata", "calls"),
    ("call_history.db", "calls"),
    ("PhotoData/Photos.sqlite", "the list of photos"),
    ("Voicemail/voicemail.db", "voicemail"),
    ("NoteStore.sqlite", "notes"),
    ("notes.sqlite", "notes"),
    ("ChatStorage.sqlite", "WhatsApp"),
    ("Calendar.sqlitedb", "calendars"),
    ("healthdb_secure.sqlite", "health"),
    ("CloudRecordings.db", "voice memos"),
    ("Recordings.db", "voice memos"),
    ("keychain-backup.plist", "saved passwords"),
];

/// Files that are missing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Missing {
    pub count: u64,
    /// As the phone calls them, the first of them.
    pub names: Vec<String>,
    /// Those that matter most, and what they hold.
    matters: Vec<String>,
}

impl Missing {
    pub fn add(&mut self, name: &Name) {
        self.count += 1;
        let is_it = |(end, _): &&(&str, &str)| {
            name.path().strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('/'))
        };
        if let Some((_, what)) = MATTERS.iter().find(is_it) {
            self.matters.push(format!("{name} ({what})"));
        }
        if self.names.len() < NAMES_MAX {
            self.names.push(name.to_string());
        }
    }

    /// Those of a snapshot.
    pub fn of(reader: &SnapshotReader) -> heirloom_store::Result<Missing> {
        let mut missing = Missing::default();
        for item in reader.entries(&Prefix::all()) {
            let (name, entry) = item?;
            if entry.kind == Kind::File && entry.content.is_none() {
                missing.add(&name);
            }
        }
        Ok(missing)
    }

    /// `40 files that Manifest.db names are not in the folder, among them …`; none if nothing is missing.
    pub fn told(&self, manifest: &str, one: &str, many: &str) -> Option<String> {
        if self.count == 0 {
            return None;
        }
        let sentence =
            format!("{} that {manifest} names {}", files(self.count), if self.count == 1 { one } else { many });
        let matters = self.matters.join(", ");
        Some(match (self.count, self.matters.len() as u64) {
            (count, told) if told == count => format!("{sentence}: {matters}"),
            (count, 0) if count <= ALL_NAMED => format!("{sentence}: {}", self.names.join(", ")),
            (_, 0) => sentence,
            _ => format!("{sentence}, among them {matters}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(paths: &[&str]) -> Option<String> {
        let mut missing = Missing::default();
        paths.iter().for_each(|path| missing.add(&Name::new("HomeDomain", path).unwrap()));
        missing.told("Manifest.db", "is not there", "are not there")
    }

    #[test]
    fn missing_files_that_matter_are_named() {
        assert_eq!(told(&[]), None);
        let sms = "HomeDomain:Library/SMS/sms.db (messages)";
        let one = format!("1 file that Manifest.db names is not there: {sms}");
        assert_eq!(told(&["Library/SMS/sms.db"]), Some(one));
        let two = format!("2 files that Manifest.db names are not there, among them {sms}");
        assert_eq!(told(&["Library/SMS/sms.db", "Library/SMS/not-sms.db"]), Some(two));
        let few = "2 files that Manifest.db names are not there: HomeDomain:a, HomeDomain:b";
        assert_eq!(told(&["a", "b"]), Some(few.to_owned()));
        assert_eq!(told(&["a", "b", "c", "d"]), Some("4 files that Manifest.db names are not there".to_owned()));
        assert!(told(&["old/sms.db", "b", "c", "d"]).is_some_and(|told| !told.contains("sms.db")));
    }
}
