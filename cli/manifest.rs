//! The names that Manifest.db, or in backups of iOS 9 and before Manifest.mbdb, gives to the files of a backup, as a
//! snapshot keeps them.

use std::{path::Path, sync::mpsc::sync_channel, thread};

use heirloom_device::backup::{
    Attributes, Error as BackupError, FileId, Kind as RecordKind, Manifest, ManifestPlist, Record, Row,
};
use heirloom_store::{Entry, Kind, Name, PhoneMetadata, Repository, Snapshot, TreePath};

use crate::{
    failure::{Failure, Result},
    identity::flaw_text,
    report::of_many,
    warnings::Warnings,
};

/// Where it lies in a backup folder.
pub const MANIFEST_DB: &str = "Manifest.db";

/// Rows that are read ahead: a few hundred bytes each.
const BATCH_ROWS: usize = 256;
const BATCHES: usize = 4;

/// The longest path that a system takes is the longest that a link can point to.
const TARGET_MAX_LEN: usize = 4096;

/// A file, directory or link of the phone.
pub struct Named {
    pub name: Name,
    /// Without place and content.
    pub entry: Entry,
    /// What a file is called in the backup's folder.
    pub file_id: Option<FileId>,
    /// The key by which the phone encrypted it, wrapped by the backup's keybag.
    pub wrapped_key: Option<Vec<u8>>,
}

/// Property lists of a backup are some kilobytes; with the icons of all apps some megabytes.
const PROPERTY_LIST_MAX_LEN: u64 = 64 << 20;

/// A snapshot's Manifest.plist, as far as it can be read.
pub fn plist_of(repository: &Repository, snapshot: &Snapshot) -> Result<ManifestPlist> {
    let reader = repository.read(snapshot)?;
    let entry = reader.get(&Name::of_place(&TreePath::new("Manifest.plist")?))?;
    let mut bytes = Vec::new();
    if let Some(content) =
        entry.and_then(|entry| entry.content).filter(|content| content.length <= PROPERTY_LIST_MAX_LEN)
    {
        reader.read_file(&content, &mut bytes)?;
    }
    Ok(ManifestPlist::parse(&bytes).unwrap_or_default())
}

/// Whether a snapshot is of iOS 9 or before, by what names its files.
pub fn is_of_ios_9(repository: &Repository, snapshot: &Snapshot) -> Result<bool> {
    let reader = repository.read(snapshot)?;
    let has = |place| Ok::<_, Failure>(reader.get(&Name::of_place(&TreePath::new(place)?))?.is_some());
    Ok(has(Manifest::MBDB)? && !has(MANIFEST_DB)?)
}

/// Reads the manifest that was opened in the folder `root`, and gives what it names to `each`, in the order of a
/// snapshot's tree. What cannot be read is warned of; files that are never named are known by their places.
pub fn for_each(
    opened: std::result::Result<Manifest, BackupError>,
    root: &Path,
    is_encrypted: bool,
    warnings: &Warnings,
    each: &mut dyn FnMut(Named) -> Result<()>,
) -> Result<()> {
    let failed = |error: BackupError| {
        warnings.add(format!("{}; the files that it names are kept by their places", flaw_text(&error, root)));
    };
    let manifest = match opened {
        Ok(manifest) => manifest,
        Err(BackupError::NotADatabase { .. }) if is_encrypted => {
            warnings.report.note("the phone encrypted this backup: it is kept as it is, and its files have no names until its password is used");
            return Ok(());
        }
        Err(error) => {
            failed(error);
            return Ok(());
        }
    };
    let file = manifest.file_name();
    let mut without_metadata = 0;
    for_each_row(manifest, &mut |row| match row {
        Ok(Row::Record(record)) => {
            without_metadata += u64::from(record.attributes.is_err());
            named(&record, file, warnings).map_or(Ok(()), &mut *each)
        }
        Ok(Row::Unusable { what, why }) => {
            warnings.add(format!("{file}: {what}: {why}"));
            Ok(())
        }
        Err(error) => {
            failed(error);
            Ok(())
        }
    })?;
    if without_metadata > 0 {
        let rows = of_many(without_metadata, "row", "rows");
        warnings.report.detail(format_args!("{rows} of {file} have no metadata that can be read"));
    }
    Ok(())
}

/// Gives the rows to `each`, while the next are read on another core.
fn for_each_row(
    manifest: Manifest,
    each: &mut dyn FnMut(std::result::Result<Row, BackupError>) -> Result<()>,
) -> Result<()> {
    let (sender, receiver) = sync_channel(BATCHES);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut rows = match manifest.records() {
                Ok(rows) => rows,
                Err(error) => return drop(sender.send(vec![Err(error)])),
            };
            loop {
                let batch: Vec<_> = rows.by_ref().take(BATCH_ROWS).collect();
                // Nobody listens any more after an error.
                if batch.is_empty() || sender.send(batch).is_err() {
                    return;
                }
            }
        });
        // By value: that it is gone ends the reading.
        receiver.into_iter().flatten().try_for_each(each)
    })
}

fn named(record: &Record, file: &str, warnings: &Warnings) -> Option<Named> {
    let name = match Name::new(&record.domain, &record.relative_path) {
        Ok(name) => name,
        Err(error) => {
            warnings.add(format!("{file}: {error}; the file is kept by its place"));
            return None;
        }
    };
    let mut entry = Entry::new(match record.kind {
        RecordKind::File => Kind::File,
        RecordKind::Directory => Kind::Directory,
        RecordKind::Symlink => Kind::Symlink,
    });
    if let Ok(attributes) = &record.attributes {
        entry.phone = metadata_of(attributes);
        entry.target = attributes.target.clone();
    }
    if entry.target.as_ref().is_some_and(|target| target.len() > TARGET_MAX_LEN) {
        warnings.add(format!(
            "{file}: {name}: where this link points is longer than {TARGET_MAX_LEN} bytes, and is not kept"
        ));
        entry.target = None;
    }
    let file_id = (record.kind == RecordKind::File).then_some(record.file_id);
    let wrapped_key = record.attributes.as_ref().ok().and_then(|attributes| attributes.encryption_key.clone());
    Some(Named { name, entry, file_id, wrapped_key })
}

fn metadata_of(attributes: &Attributes) -> PhoneMetadata {
    PhoneMetadata {
        mode: attributes.mode,
        user: attributes.uid,
        group: attributes.gid,
        inode: attributes.inode,
        size: attributes.size,
        mtime: attributes.mtime,
        ctime: attributes.ctime,
        btime: attributes.btime,
        protection_class: attributes.protection_class.map(u32::from),
        flags: attributes.flags,
    }
}
