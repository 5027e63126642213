//! Two backup folders, compared.

use std::collections::BTreeSet;

use plist::{Dictionary, Value};

use crate::support::folder::{Folder, Thing};

/// Keys of Info.plist that no two programs write alike: random, of the moment, of the program's own version, and apps and settings of
/// iTunes, which a folder that is written directly leaves out.
const INFO_OF_ITS_OWN: [&str; 6] =
    ["Applications", "GUID", "Last Backup Date", "iTunes Files", "iTunes Settings", "iTunes Version"];

/// A folder that a program has just made is byte for byte the one that was written directly, except Info.plist, which the computer
/// writes, and the word in Status.plist that a backup is a full one.
#[track_caller]
pub fn assert_as_written_directly(made: &Folder, direct: &Folder, is_full: bool) {
    let status = differing_keys(made, direct, "Status.plist");
    assert_eq!(status, if is_full { set(&["IsFullBackup"]) } else { set(&[]) });
    assert_eq!(differing_keys(made, direct, "Info.plist"), set(&INFO_OF_ITS_OWN));
    let mut others = differing(made, direct);
    others.retain(|path| path != "Info.plist" && path != "Status.plist");
    assert_eq!(others, set(&[]));
}

/// What differs or is in one folder only, by its path. Times do not count.
pub fn differing(one: &Folder, other: &Folder) -> BTreeSet<String> {
    let is_same = |path: &String| match (one.get(path), other.get(path)) {
        (Some(Thing::File(one)), Some(Thing::File(other))) => one.bytes == other.bytes,
        (one, other) => one == other,
    };
    one.keys().chain(other.keys()).filter(|path| !is_same(path)).cloned().collect()
}

/// Keys of the property list `name` whose values differ or are in one of the two only.
pub fn differing_keys(one: &Folder, other: &Folder, name: &str) -> BTreeSet<String> {
    let (one, other) = (property_list(one, name), property_list(other, name));
    one.keys().chain(other.keys()).filter(|key| one.get(key) != other.get(key)).cloned().collect()
}

/// The property list `name` of a backup folder.
pub fn property_list(folder: &Folder, name: &str) -> Dictionary {
    let Some(Thing::File(file)) = folder.get(name) else { panic!("{name} is not there") };
    plist::from_bytes::<Value>(&file.bytes).unwrap().into_dictionary().unwrap()
}

/// The names as a set.
pub fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
