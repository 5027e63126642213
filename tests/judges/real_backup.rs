//! The remains of a real phone's backup: its Manifest.db is whole, and few of its files are there.

use heirloom_device::backup::{Attributes, FileId, Kind, Record, Row, find_backups};

use crate::{
    judge::{Judge, real_backup, trials},
    support::program::Home,
};

const INCOMPLETE: i32 = 3;

trials! {
    is_read_whole: &[Judge::RealBackup],
    is_imported_as_far_as_it_is_there: &[Judge::RealBackup],
}

fn is_imported_as_far_as_it_is_there() {
    let (home, source) = (Home::new(), real_backup());
    let said = home.run(&["import", source.to_str().unwrap()]);
    assert_eq!(said.exit, INCOMPLETE, "{said:?}");
    assert!(said.stdout.contains("13 files"), "{said:?}");
    assert!(said.stderr.contains("1 079 files that Manifest.db names are not in the folder"), "{said:?}");
    home.assert_exact("latest", &source);
}

fn is_read_whole() {
    let folder = real_backup();
    let backup = find_backups(&folder).unwrap().backups.remove(0);
    let info = backup.info().unwrap();
    assert_eq!(info.udid.as_deref(), Some("1cb128eafa77c5be74283e9a3a2130af36a3c059"));
    assert_eq!((info.product_type.as_deref(), info.product_version.as_deref()), (Some("iPhone9,3"), Some("14.3")));
    assert!(info.last_backup.is_some());

    let db = backup.manifest_db().unwrap();
    assert_eq!((db.len(), db.damage()), (3721, None));
    let records: Vec<Record> = db
        .records()
        .unwrap()
        .map(|row| match row.unwrap() {
            Row::Record(record) => record,
            Row::Unusable { what, why } => panic!("{what}: {why}"),
        })
        .collect();
    let count = |kind| records.iter().filter(|record| record.kind == kind).count();
    assert_eq!([Kind::File, Kind::Directory, Kind::Symlink].map(count), [1089, 2618, 14]);
    let blobs = records.iter().filter(|record| folder.join(record.file_id.place()).is_file()).count();
    assert_eq!(blobs, 10);
    assert!(records.is_sorted_by_key(|record| (&record.domain, &record.relative_path)));
    for record in &records {
        assert_eq!(record.file_id, FileId::of(&record.domain, &record.relative_path));
        let attributes = record.attributes.as_ref().unwrap();
        let file_type = match record.kind {
            Kind::File => 0o100000,
            Kind::Directory => 0o040000,
            Kind::Symlink => 0o120000,
        };
        assert_eq!(attributes.mode.unwrap() & 0o170000, file_type);
        assert_eq!(attributes.target.is_some(), record.kind == Kind::Symlink);
        assert_eq!(attributes.encryption_key.as_ref().map(Vec::len), (record.kind == Kind::File).then_some(44));
    }
    let attributes = |has: fn(&Attributes) -> bool| {
        records.iter().filter(|record| record.attributes.as_ref().is_ok_and(has)).count()
    };
    assert_eq!(attributes(|file| file.digest.as_ref().is_some_and(|digest| digest.len() == 20)), 477);
    assert_eq!(attributes(|file| file.has_extended_attributes), 77);
}
