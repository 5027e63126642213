//! Manifest.db: the index of a backup, one row for each file, folder and link, kept up to date as the phone changes.
//! Schema and the shape of `file`, an `MBFile` in an NSKeyedArchiver property list, are those of iOS 10 and later.

use std::path::Path;

use plist::{Dictionary, Uid, Value};
use rusqlite::{Connection, Result, params};

use crate::file::{File, Kind, Location};

/// Writes `changes` into the Manifest.db at `path`, making it if it is not there. A place without a file is removed.
pub(crate) fn update<'a>(path: &Path, changes: impl Iterator<Item = (&'a Location, Option<&'a File>)>) -> Result<()> {
    let db = Connection::open(path)?;
    db.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -64000;
         PRAGMA journal_mode = WAL; PRAGMA user_version = 2; BEGIN;
         CREATE TABLE IF NOT EXISTS Files (fileID TEXT PRIMARY KEY, domain TEXT, relativePath TEXT, flags INTEGER, file BLOB);
         CREATE INDEX IF NOT EXISTS FilesDomainIdx ON Files(domain);
         CREATE INDEX IF NOT EXISTS FilesRelativePathIdx ON Files(relativePath);
         CREATE INDEX IF NOT EXISTS FilesFlagsIdx ON Files(flags);
         CREATE TABLE IF NOT EXISTS Properties (key TEXT PRIMARY KEY, value BLOB);",
    )?;
    for (location, file) in changes {
        let Some(file) = file else {
            db.prepare_cached("DELETE FROM Files WHERE fileID = ?1")?.execute([location.file_id()])?;
            continue;
        };
        db.prepare_cached(
            "INSERT INTO Files VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (fileID) DO UPDATE SET flags = excluded.flags, file = excluded.file",
        )?
        .execute(params![
            location.file_id(),
            location.domain,
            location.path,
            flags(&file.kind),
            mb_file(location, file)?
        ])?;
    }
    db.execute_batch("COMMIT")?;
    db.close().map_err(|(_, error)| error)
}

fn flags(kind: &Kind) -> u8 {
    match kind {
        Kind::File => 1,
        Kind::Directory => 2,
        Kind::Symlink(_) => 4,
    }
}

fn mb_file(location: &Location, file: &File) -> Result<Vec<u8>> {
    let mut objects = vec![Value::from("$null"), Value::Boolean(false), Value::from(location.path.as_str())];
    let mut fields = dictionary([
        ("LastModified", file.modified.into()),
        ("Flags", 0.into()),
        ("GroupID", 501.into()),
        ("LastStatusChange", file.status_changed.into()),
        ("RelativePath", Value::Uid(Uid::new(2))),
        ("Birth", file.birth.into()),
        ("Size", file.size.into()),
        ("InodeNumber", file.inode.into()),
        ("Mode", file.mode().into()),
        ("UserID", 501.into()),
        ("ProtectionClass", file.protection_class.into()),
    ]);
    if let Kind::Symlink(target) = &file.kind {
        fields.insert("Target".into(), Value::Uid(Uid::new(objects.len() as u64)));
        objects.push(target.as_str().into());
    }
    fields.insert("$class".into(), Value::Uid(Uid::new(objects.len() as u64)));
    objects.push(Value::Dictionary(dictionary([
        ("$classname", "MBFile".into()),
        ("$classes", Value::Array(vec!["MBFile".into(), "NSObject".into()])),
    ])));
    objects[1] = Value::Dictionary(fields);
    let archive = dictionary([
        ("$version", 100_000.into()),
        ("$archiver", "NSKeyedArchiver".into()),
        ("$top", Value::Dictionary(dictionary([("root", Value::Uid(Uid::new(1)))]))),
        ("$objects", Value::Array(objects)),
    ]);
    let mut bytes = Vec::new();
    let written = Value::Dictionary(archive).to_writer_binary(&mut bytes);
    written.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    Ok(bytes)
}

pub(crate) fn dictionary<const N: usize>(entries: [(&str, Value); N]) -> Dictionary {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
