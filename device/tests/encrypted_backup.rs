//! An encrypted backup that the simulated phone wrote, opened with its password: every file comes out as it is on the
//! phone, and back as the blob it was.

#[expect(dead_code, reason = "shared with the tests of whole operations")]
#[path = "simulator/connected.rs"]
mod connected;
#[path = "../src/mobilebackup2/folder_host_dir.rs"]
mod folder_host_dir;

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Read},
};

use connected::Connected;
use folder_host_dir::FolderHostDir;
use heirloom_device::backup::{
    Decrypted, FileKey, Keybag, KeybagError, Kind as RowKind, ManifestDb, Record, Row, find_backups,
};
// What `folder_host_dir` finds above it in the library.
use heirloom_device::mobilebackup2::{DirEntry, HostDir, HostPath, Kind, Stat};
use heirloom_sim::Options;

fn read(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The plaintext of a blob that a phone wrote, which is padded as PKCS #7 says.
fn opened(blob: &[u8], key: &FileKey) -> Vec<u8> {
    let plaintext = read(Decrypted::new(Cursor::new(blob), key).unwrap());
    assert_eq!(plaintext.len() / 16 * 16 + 16, blob.len());
    plaintext
}

#[test]
fn every_file_of_an_encrypted_backup_opens_and_is_rebuilt() {
    let phone = Connected::new(Options { password: Some("secret".into()), ..Options::default() });
    let folder = tempfile::tempdir().unwrap();
    phone.back_up(&mut FolderHostDir::new(folder.path()), false).well();

    let backup = find_backups(folder.path()).unwrap().backups.remove(0);
    let manifest = backup.manifest_plist().unwrap();
    let keybag = Keybag::parse(&manifest.keybag.unwrap()).unwrap();
    assert_eq!(keybag.unlock("Secret").unwrap_err(), KeybagError::WrongPassword);
    let keys = keybag.unlock("secret").unwrap();

    let manifest_db = fs::read(folder.path().join("Manifest.db")).unwrap();
    let manifest_db = opened(&manifest_db, &keys.file_key(&manifest.manifest_key.unwrap()).unwrap());
    let place = folder.path().join("opened.db");
    fs::write(&place, manifest_db).unwrap();

    let manifest_db = ManifestDb::open(&place).unwrap();
    let records = manifest_db.records().unwrap().map(|row| match row.unwrap() {
        Row::Record(record) => record,
        Row::Unusable { what, why } => panic!("{what}: {why}"),
    });
    let files = records.filter(|record| record.kind == RowKind::File);
    let opened_files: BTreeMap<_, _> = files
        .map(|Record { domain, relative_path, file_id, attributes, .. }| {
            let attributes = attributes.unwrap();
            let key = keys.file_key(&attributes.encryption_key.unwrap()).unwrap();
            let plaintext = opened(&fs::read(folder.path().join(file_id.place())).unwrap(), &key);
            assert_eq!(Some(plaintext.len() as u64), attributes.size);
            ((domain, relative_path), plaintext)
        })
        .collect();

    let phone = phone.simulator.phone();
    let files = phone.files().filter(|(_, file)| file.kind == heirloom_sim::Kind::File);
    let expected: BTreeMap<_, _> = files
        .map(|(location, file)| ((location.domain.clone(), location.path.clone()), read(file.open().unwrap())))
        .collect();
    assert!(!expected.is_empty() && opened_files == expected);
}
