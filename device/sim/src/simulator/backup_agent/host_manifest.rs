//! Manifest.db as the computer holds it: read to know what need not be sent again, and written from the phone's own.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use plist::{Dictionary, Uid, Value};
use rusqlite::{Connection, params};

use crate::file::Location;
use crate::manifest::dictionary;

/// A row of `Files`.
pub(super) struct Row {
    pub(super) location: Location,
    /// 1 file, 2 folder, 4 link.
    pub(super) flags: u8,
    pub(super) size: u64,
    pub(super) modified: i64,
    pub(super) inode: u64,
    /// The file's key as a keybag seals it.
    pub(super) key: Option<Vec<u8>>,
    /// Of a link.
    pub(super) target: Option<String>,
}

/// All rows by their file id. Fails if a row is not an archive of an `MBFile` or its id is not of its place.
pub(super) fn read(path: &Path) -> io::Result<HashMap<String, Row>> {
    let db = Connection::open(path).map_err(io::Error::other)?;
    let mut statement =
        db.prepare("SELECT fileID, domain, relativePath, flags, file FROM Files").map_err(io::Error::other)?;
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get(3)?, row.get::<_, Vec<u8>>(4)?))
    });
    let mut found = HashMap::new();
    for row in rows.map_err(io::Error::other)? {
        let (id, domain, path, flags, file): (String, _, _, u8, _) = row.map_err(io::Error::other)?;
        let location = Location::new(domain, path);
        let row = parse(location, flags, &file).filter(|row| row.location.file_id() == id);
        let row = row.ok_or_else(|| io::Error::other(format!("the row {id} makes no sense")))?;
        found.insert(id, row);
    }
    Ok(found)
}

fn parse(location: Location, flags: u8, file: &[u8]) -> Option<Row> {
    let archive: Dictionary = plist::from_bytes(file).ok()?;
    let objects = archive.get("$objects")?.as_array()?;
    let mb_file = objects.get(1)?.as_dictionary()?;
    let referred = |key: &str| objects.get(usize::try_from(mb_file.get(key)?.as_uid()?.get()).ok()?);
    let number = |key: &str| mb_file.get(key)?.as_signed_integer();
    let key = referred("EncryptionKey").and_then(|key| key.as_dictionary()?.get("NS.data")?.as_data());
    Some(Row {
        location,
        flags,
        size: number("Size")?.try_into().ok()?,
        modified: number("LastModified")?,
        inode: number("InodeNumber")?.try_into().ok()?,
        key: key.map(<[u8]>::to_vec),
        target: referred("Target").and_then(Value::as_string).map(str::to_owned),
    })
}

/// Takes the rows of `missing` out of the manifest at `path` and puts `keys` into theirs.
pub(super) fn adjust(path: &Path, missing: &[String], keys: &HashMap<String, Vec<u8>>) -> io::Result<()> {
    let mut db = Connection::open(path).map_err(io::Error::other)?;
    let outcome = (|| {
        let change = db.transaction()?;
        for id in missing {
            change.execute("DELETE FROM Files WHERE fileID = ?1", [id])?;
        }
        for (id, key) in keys {
            let file: Vec<u8> = change.query_row("SELECT file FROM Files WHERE fileID = ?1", [id], |row| row.get(0))?;
            let file = with_key(&file, key).ok_or(rusqlite::Error::InvalidQuery)?;
            change.execute("UPDATE Files SET file = ?2 WHERE fileID = ?1", params![id, file])?;
        }
        change.commit()
    })();
    outcome.map_err(io::Error::other)?;
    db.close().map_err(|(_, error)| io::Error::other(error))
}

fn with_key(file: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let mut archive: Dictionary = plist::from_bytes(file).ok()?;
    let objects = archive.get_mut("$objects")?.as_array_mut()?;
    let class = objects.len() as u64;
    objects.push(Value::Dictionary(dictionary([
        ("$classname", "NSMutableData".into()),
        ("$classes", Value::Array(vec!["NSMutableData".into(), "NSData".into(), "NSObject".into()])),
    ])));
    objects.push(Value::Dictionary(dictionary([
        ("NS.data", Value::Data(key.to_vec())),
        ("$class", Value::Uid(Uid::new(class))),
    ])));
    objects.get_mut(1)?.as_dictionary_mut()?.insert("EncryptionKey".into(), Value::Uid(Uid::new(class + 1)));
    let mut bytes = Vec::new();
    Value::Dictionary(archive).to_writer_binary(&mut bytes).ok()?;
    Some(bytes)
}
