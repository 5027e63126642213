//! Naming the files of a folder that was edited, by the Manifest.db in it.

use std::path::Path;

use heirloom_device::backup::{Error as BackupError, FileId, Manifest, ManifestMbdb};
use heirloom_store::{Error as StoreError, Kind, Name, Naming, SnapshotEditor, Stat, TreePath};

use crate::{
    failure::Result,
    manifest::{self, MANIFEST_DB, Named},
    unlocking::{self, Unlocked},
    warnings::Warnings,
};

/// Told of a name in the manifest: its place, unless it is of no file, and whether the file lies there.
type OnNamed<'f> = &'f mut dyn FnMut(&Name, Option<&TreePath>, bool) -> Result<()>;

/// Manifest.db of an edited folder, or in its absence Manifest.mbdb, opened.
pub struct OpenedManifest<'u> {
    pub manifest: std::result::Result<Manifest, BackupError>,
    unlocked: Option<&'u Unlocked>,
    place: TreePath,
}

impl<'u> OpenedManifest<'u> {
    /// Opens the manifest of `editor`, decrypted if the phone encrypted it. Where there is none, no file has a name.
    pub fn of(editor: &mut SnapshotEditor, unlocked: Option<&'u Unlocked>) -> Result<OpenedManifest<'u>> {
        let place = TreePath::new(MANIFEST_DB)?;
        let old = TreePath::new(Manifest::MBDB)?;
        if editor.stat(&place).is_none() && editor.stat(&old).is_some() {
            let mut bytes = Vec::new();
            if matches!(editor.stat(&old), Some(Stat::File { length, .. }) if length <= ManifestMbdb::MAX_BYTES) {
                editor.read_file(&old, &mut bytes)?;
            }
            let manifest = ManifestMbdb::of(bytes, Path::new(Manifest::MBDB)).map(Manifest::Mbdb);
            return Ok(OpenedManifest { manifest, unlocked, place: old });
        }
        let path = Path::new(MANIFEST_DB);
        let mut copy = editor.scratch()?;
        let database = match editor.read_file(&place, &mut copy) {
            Ok(()) => unlocking::open_manifest(copy, path, unlocked),
            // Phones before iOS 10 send none.
            Err(StoreError::NoSuchEntry { .. }) => Err(BackupError::Missing { path: path.to_owned() }),
            Err(error) => return Err(error.into()),
        };
        Ok(OpenedManifest { manifest: database.map(Manifest::Db), unlocked, place })
    }

    /// Gives each file its name, and keeps what its key opens as plaintext. `each` is told what Manifest.db names,
    /// where a file should lie, and whether it does; of what is no file there is no place.
    pub fn name_files(
        self,
        editor: SnapshotEditor,
        is_encrypted: bool,
        warnings: &Warnings,
        each: OnNamed,
    ) -> Result<Naming> {
        let place_of = match &self.manifest {
            Ok(Manifest::Mbdb(_)) => FileId::flat_place,
            _ => FileId::place,
        };
        let mut naming = editor.name_files()?;
        if let Some(key) = self.unlocked.and_then(Unlocked::manifest_key) {
            naming.unseal(&self.place, key.as_bytes())?;
        }
        let mut name = |Named { name, entry, file_id, wrapped_key }: Named| {
            let place = file_id.map(|id| TreePath::new(&place_of(&id))).transpose()?;
            let key = wrapped_key.and_then(|wrapped| self.unlocked?.file_key(&wrapped));
            if let (Some(place), Some(key)) = (&place, key) {
                naming.unseal(place, key.as_bytes())?;
            }
            let is_file = entry.kind == Kind::File;
            let is_there = naming.describe(&name, place.as_ref(), entry)?;
            each(&name, place.as_ref().filter(|_| is_file), is_there)
        };
        manifest::for_each(self.manifest, Path::new(""), is_encrypted, warnings, &mut name)?;
        Ok(naming)
    }
}
