//! Histories of two phones in memory, with days that look random.

use std::collections::BTreeMap;

use heirloom_store::{Cipher, Details, Options, Repository, Result, Snapshot, SnapshotEditor, Source};

use super::{
    folder::{Folder, Thing, folder_of},
    noise, place,
};

pub const OPTIONS: Options = Options { cipher: Cipher::Aes256Gcm, pack_bytes: 64 << 10, parity: false };
pub const SERIES: [&str; 2] = ["00008101-001A2B3C4D5E6F78", "00008030-000A1D0C3E38802E"];
pub const BLOCK: usize = 64 << 10;

/// Numbers that look random, the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 += 1;
        u64::from_le_bytes(noise(self.0, 8).try_into().unwrap()) % sides
    }
}

/// A phone: a database that changes here and there, small files, and something that both devices have.
#[derive(Clone)]
pub struct Phone {
    pub files: BTreeMap<String, (Vec<u8>, i64)>,
}

impl Phone {
    pub fn new(seed: u64) -> Phone {
        let mut files = BTreeMap::new();
        let database = [b"SQLite format 3\0".as_slice(), &noise(seed, 4 * BLOCK - 16)].concat();
        files.insert("db/sms.db".to_owned(), (database, 0));
        files.insert("shared/film".to_owned(), (noise(7, 150_000), 0));
        for n in 0..12 {
            files.insert(format!("small/{n}"), (noise(seed * 100 + n, 500 + 300 * n as usize), 0));
        }
        Phone { files }
    }

    /// A day of use.
    pub fn use_it(&mut self, dice: &mut Dice, day: i64) {
        let (database, time) = self.files.get_mut("db/sms.db").unwrap();
        for _ in 0..1 + dice.roll(3) {
            let at = 100 + dice.roll(database.len() as u64 - 200) as usize;
            database[at..at + 40].copy_from_slice(&noise(dice.roll(u64::MAX), 40));
        }
        *time = day;
        for _ in 0..dice.roll(4) {
            let name = format!("small/{}", dice.roll(30));
            if dice.roll(3) == 0 {
                self.files.remove(&name);
            } else {
                let len = dice.roll(20_000) as usize;
                self.files.insert(name, (noise(dice.roll(1000), len), day));
            }
        }
    }

    pub fn folder(&self) -> Folder {
        folder_of(self.files.iter().map(|(path, (bytes, time))| (path.clone(), bytes.clone(), *time)))
    }
}

/// Makes `folder` of `before`.
pub fn write(editor: &mut SnapshotEditor, before: &Folder, folder: &Folder) -> Result<()> {
    before.keys().filter(|path| !folder.contains_key(*path)).for_each(|gone| editor.remove(&place(gone)));
    for (path, thing) in folder.iter().filter(|(path, thing)| before.get(*path) != Some(thing)) {
        let Thing::File(file) = thing else { continue };
        editor.write_file(&place(path), None, file.mtime_ns, &mut file.bytes.as_slice())?;
    }
    Ok(())
}

/// What has been backed up, and is not forgotten.
pub type Kept = Vec<(Snapshot, Folder)>;

fn newest<'k>(kept: &'k Kept, series: &str) -> Option<&'k (Snapshot, Folder)> {
    kept.iter().rev().find(|(snapshot, _)| snapshot.record.series == series)
}

/// Backs up `folder` as what follows the newest snapshot of its series.
pub fn back_up(repository: &Repository, kept: &Kept, series: &str, folder: &Folder, time: i64) -> Result<Snapshot> {
    let before = newest(kept, series);
    let mut editor = repository.edit(series, before.map(|(snapshot, _)| snapshot))?;
    write(&mut editor, before.map_or(&Folder::new(), |(_, folder)| folder), folder)?;
    Ok(editor.commit(Details::new(time, Source::Device))?.0)
}
