//! The list of a backup's files, in either of its forms.

use std::path::Path;

use super::{Error, ManifestDb, ManifestMbdb, Row};

/// The list that names the files of a backup.
pub enum Manifest {
    /// Since iOS 10.
    Db(ManifestDb),
    /// Of iOS 4 to 9.
    Mbdb(ManifestMbdb),
}

impl Manifest {
    /// Where a database lies in a backup folder.
    pub const DB: &str = "Manifest.db";
    /// Where the older form lies in a backup folder.
    pub const MBDB: &str = "Manifest.mbdb";

    /// Opens the older form in a backup folder that has no Manifest.db; none if it has one, or neither.
    pub fn old(folder: &Path) -> Option<Result<Manifest, Error>> {
        let is_there = |file| folder.join(file).symlink_metadata().is_ok();
        (!is_there(Manifest::DB) && is_there(Manifest::MBDB))
            .then(|| ManifestMbdb::open(&folder.join(Manifest::MBDB)).map(Manifest::Mbdb))
    }

    /// The name of its file.
    pub fn file_name(&self) -> &'static str {
        match self {
            Manifest::Db(_) => Manifest::DB,
            Manifest::Mbdb(_) => Manifest::MBDB,
        }
    }

    /// All rows, ordered by domain and path, bytewise. After an error there are no more.
    pub fn records(&self) -> Result<Box<dyn Iterator<Item = Result<Row, Error>> + '_>, Error> {
        Ok(match self {
            Manifest::Db(database) => Box::new(database.records()?),
            Manifest::Mbdb(manifest) => Box::new(manifest.records()),
        })
    }
}

impl From<ManifestDb> for Manifest {
    fn from(database: ManifestDb) -> Manifest {
        Manifest::Db(database)
    }
}
