//! Naming the files of a folder that was edited, by the Manifest.db in it.

use std::path::Path;

use heirloom_device::backup::{Error as BackupError, ManifestDb};
use heirloom_store::{Error as StoreError, Kind, Naming, SnapshotEditor, TreePath};

use crate::{
    failure::Result,
    manifest::{self, MANIFEST_DB, Named},
    unlocking::{self, Unlocked},
    warnings::Warnings,
};

/// Manifest.db of an edited folder, opened.
pub struct OpenedManifest<'u> {
    pub database: std::result::Result<ManifestDb, BackupError>,
    unlocked: Option<&'u Unlocked>,
    place: TreePath,
}

impl<'u> OpenedManifest<'u> {
    /// Opens Manifest.db of `editor`, decrypted if the phone encrypted it. Where it is missing, no file has a name.
    pub fn of(editor: &mut SnapshotEditor, unlocked: Option<&'u Unlocked>) -> Result<OpenedManifest<'u>> {
        let place = TreePath::new(MANIFEST_DB)?;
        let path = Path::new(MANIFEST_DB);
        let mut copy = editor.scratch()?;
        let database = match editor.read_file(&place, &mut copy) {
            Ok(()) => unlocking::open_manifest(copy, path, unlocked),
            // Phones before iOS 10 send none.
            Err(StoreError::NoSuchEntry { .. }) => Err(BackupError::Missing { path: path.to_owned() }),
            Err(error) => return Err(error.into()),
        };
        Ok(OpenedManifest { database, unlocked, place })
    }

    /// Gives each file its name, and keeps what its key opens as plaintext. `each` is told where a file that Manifest.db names should lie, and
    /// whether it does; of what is no file there is no place.
    pub fn name_files(
        self,
        editor: SnapshotEditor,
        is_encrypted: bool,
        warnings: &Warnings,
        each: &mut dyn FnMut(Option<&TreePath>, bool) -> Result<()>,
    ) -> Result<Naming> {
        let mut naming = editor.name_files()?;
        if let Some(key) = self.unlocked.and_then(Unlocked::manifest_key) {
            naming.unseal(&self.place, key.as_bytes())?;
        }
        let mut name = |Named { name, entry, file_id, wrapped_key }: Named| {
            let place = file_id.map(|id| TreePath::new(&id.place())).transpose()?;
            let key = wrapped_key.and_then(|wrapped| self.unlocked?.file_key(&wrapped));
            if let (Some(place), Some(key)) = (&place, key) {
                naming.unseal(place, key.as_bytes())?;
            }
            let is_file = entry.kind == Kind::File;
            let is_there = naming.describe(&name, place.as_ref(), entry)?;
            each(place.as_ref().filter(|_| is_file), is_there)
        };
        manifest::for_each(self.database, Path::new(""), is_encrypted, warnings, &mut name)?;
        Ok(naming)
    }
}
