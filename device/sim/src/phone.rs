//! What is on the phone: files by domain and path with their metadata, and how a day of use changes them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use plist::Dictionary;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::content::{self, Content, Media};
use crate::databases::{self, Database};
use crate::file::{File, Kind, Location};
use crate::manifest::{self, dictionary};
use crate::photo::{CAMERA_ROLL, Photo, scale};
use crate::text;

/// An iPhone at a moment of its life.
///
/// Equal seeds and sizes give equal phones, a day at a time. Its databases lie in a temporary directory that goes with it;
/// everything else is generated as it is read.
pub struct Phone {
    key: u64,
    size: u64,
    day: u32,
    now: i64,
    name: String,
    files: BTreeMap<Location, File>,
    bytes: u64,
    next_inode: u64,
    apps: Vec<App>,
    photos: Vec<u32>,
    photos_taken: u32,
    changed: BTreeSet<Location>,
    directory: TempDir,
}

/// An app that its owner installed.
#[derive(Clone, Debug)]
pub struct App {
    /// As `com.example.app`.
    pub bundle_id: String,
    /// As `3.14`.
    pub version: String,
}

const DAY: i64 = 86_400;
const CHATS_DOMAIN: &str = "AppDomainGroup-group.net.whatsapp.WhatsApp.shared";

/// What there is and how to read it.
impl Phone {
    /// All files, folders and links in the order of domain and path, each folder before what is in it.
    pub fn files(&self) -> impl Iterator<Item = (&Location, &File)> {
        self.files.iter()
    }

    /// The phone's own index of its files as a backup has it, an SQLite database.
    pub fn manifest_db(&self) -> PathBuf {
        self.directory.path().join("Manifest.db")
    }

    /// Bytes of all contents.
    pub fn total_bytes(&self) -> u64 {
        self.bytes
    }

    /// The unique device identifier in the form of phones since 2018, as `00008101-000123456789ABCD`.
    pub fn udid(&self) -> String {
        format!("00008101-{:016X}", self.key >> 8)
    }

    /// The name its owner gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The phone's clock.
    pub fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.now.unsigned_abs())
    }

    /// The installed apps.
    pub fn apps(&self) -> &[App] {
        &self.apps
    }

    /// What lockdown tells without a domain: `DeviceName`, `ProductVersion`, `SerialNumber` and so on.
    pub fn lockdown_values(&self) -> Dictionary {
        let mut rng = text::rng(self.key, "identity", 0);
        let mut digits =
            |count: usize| -> String { (0..count).map(|_| char::from(b'0' + rng.random_range(0..10))).collect() };
        dictionary([
            ("DeviceName", self.name.as_str().into()),
            ("DeviceClass", "iPhone".into()),
            ("ProductName", "iPhone OS".into()),
            ("ProductType", "iPhone13,2".into()),
            ("ProductVersion", "17.6.1".into()),
            ("BuildVersion", "21G93".into()),
            ("UniqueDeviceID", self.udid().into()),
            ("SerialNumber", format!("F17{}Q6L4", digits(5)).into()),
            ("InternationalMobileEquipmentIdentity", format!("35{}", digits(13)).into()),
            ("MobileEquipmentIdentifier", format!("35{}", digits(12)).into()),
            ("IntegratedCircuitCardIdentity", format!("8949{}", digits(15)).into()),
            ("PhoneNumber", format!("+49 151 {}", digits(8)).into()),
        ])
    }
}

/// How it begins.
impl Phone {
    /// The phone of `seed` with about `total_bytes` of files, 5 MB or more: some 58 % photos and other media,
    /// 30 % databases, ten files to a MB.
    ///
    /// Fails if the temporary directory cannot be written.
    pub fn new(seed: u64, total_bytes: u64) -> io::Result<Phone> {
        Phone::begin(seed, total_bytes, None)
    }

    /// The same, but its clock says `now`, in seconds since 1970, when it begins.
    pub fn new_at(seed: u64, total_bytes: u64, now: i64) -> io::Result<Phone> {
        Phone::begin(seed, total_bytes, Some(now))
    }

    fn begin(seed: u64, total_bytes: u64, now: Option<i64>) -> io::Result<Phone> {
        let key = text::rng(seed, "phone", total_bytes).random();
        let mut rng = text::rng(key, "beginning", 0);
        let day = 1_709_254_800 + rng.random_range(0..365) * DAY;
        let mut phone = Phone {
            key,
            size: total_bytes,
            day: 0,
            now: now.unwrap_or(day),
            name: format!("{}’s iPhone", text::FIRST_NAMES[rng.random_range(0..text::FIRST_NAMES.len())]),
            files: BTreeMap::new(),
            bytes: 0,
            next_inode: 41_000,
            apps: Vec::new(),
            photos: Vec::new(),
            photos_taken: 0,
            changed: BTreeSet::new(),
            directory: tempfile::tempdir()?,
        };
        phone.install_apps(&mut rng);
        phone.create_databases()?;
        let databases = phone.bytes;
        phone.add_photos(|phone, _| phone.bytes - databases < phone.size / 100 * 52)?;
        phone.add_attachments(|phone, _| phone.bytes - databases < phone.size / 100 * 57)?;
        phone.add_voicemails((total_bytes / 20_000_000).clamp(2, 40) as u32)?;
        phone.add_oddities()?;
        phone.add_settings(&mut rng)?;
        phone.note_databases()?;
        phone.add_logs(&mut rng)?;
        phone.settle()?;
        Ok(phone)
    }

    fn install_apps(&mut self, rng: &mut ChaCha8Rng) {
        let count = (self.size / 8_000_000).clamp(5, 150);
        for number in 0..count {
            let (maker, name) = (text::word(rng), text::word(rng));
            let version = format!("{}.{}", rng.random_range(1..20), rng.random_range(0..30));
            self.apps.push(App { bundle_id: format!("com.{maker}.{name}{number}"), version });
        }
    }

    fn create_databases(&mut self) -> io::Result<()> {
        for database in databases::ALL {
            let size = self.size as f64 * 0.3 * database.share;
            database.create(self.directory.path(), size as u64, self.now, self.key).map_err(io::Error::other)?;
        }
        self.note_databases()
    }

    /// Empty files, empty folders and links.
    fn add_oddities(&mut self) -> io::Result<()> {
        for path in ["Library/Caches/.keep", "Library/Preferences/.GlobalPreferences.lock", "Library/Safari/.lock"] {
            self.put(Location::new("HomeDomain", path), Content::Empty)?;
        }
        for domain in ["KeychainDomain", "WirelessDomain", "ManagedPreferencesDomain", "TonesDomain"] {
            self.put_directory(Location::new(domain, ""));
        }
        self.put_directory(Location::new(CAMERA_ROLL, "Media/PhotoData/Mutations/DCIM/100APPLE"));
        for number in 0..self.apps.len() {
            let domain = app_domain(&self.apps[number]);
            self.put_directory(Location::new(&*domain, "Documents"));
            self.put_directory(Location::new(&*domain, "Library/Saved Application State"));
            if number % 5 == 0 {
                self.put(Location::new(&*domain, "Documents/.initialized"), Content::Empty)?;
                let link = Location::new(&*domain, "Library/WebKit/WebsiteData/IndexedDB/v0");
                let container = text::uuid(&mut text::rng(self.key, "container", number as u64));
                let target =
                    format!("/var/mobile/Containers/Data/Application/{container}/Library/WebKit/WebsiteData/IndexedDB");
                self.put_entry(link, Kind::Symlink(target), Content::Empty, 0);
            }
        }
        Ok(())
    }

    /// Property lists, until there are ten files to a megabyte; a small phone has more, so that it has some at all.
    fn add_settings(&mut self, rng: &mut ChaCha8Rng) -> io::Result<()> {
        let wanted = (self.size / 100_000) as usize;
        let files = self.files.values().filter(|file| file.kind == Kind::File).count();
        for number in 0..wanted.saturating_sub(files).max(40) {
            let location = match number % 10 {
                0 | 1 => {
                    let name = format!("Library/Preferences/com.apple.{}{number}.plist", text::word(rng));
                    Location::new("HomeDomain", name)
                }
                2 if number % 40 == 2 => {
                    Location::new("SystemPreferencesDomain", format!("SystemConfiguration/com.apple.{number}.plist"))
                }
                _ => {
                    let app = &self.apps[rng.random_range(0..self.apps.len())];
                    let (folder, name) = (text::word(rng), text::word(rng));
                    let path = match number % 3 {
                        0 => format!("Library/Preferences/{}.{name}{number}.plist", app.bundle_id),
                        1 => format!("Library/Application Support/{folder}/{name}{number}.plist"),
                        _ => format!("Documents/{folder}/{name}{number}.plist"),
                    };
                    Location::new(app_domain(app), path)
                }
            };
            let content = Content::Plist { key: rng.random(), revision: 0, binary: rng.random_bool(0.7) };
            self.put(location, content)?;
        }
        Ok(())
    }

    /// Logs and caches for the rest of the phone.
    fn add_logs(&mut self, rng: &mut ChaCha8Rng) -> io::Result<()> {
        let scale = (self.size as f64 / 1e8).clamp(0.05, 1.0);
        let mut number = 0;
        while self.bytes < self.size {
            let app = &self.apps[rng.random_range(0..self.apps.len())];
            let location = if number % 2 == 0 {
                Location::new(app_domain(app), format!("Library/Logs/{}{number}.log", text::word(rng)))
            } else {
                Location::new(app_domain(app), format!("Documents/Cache/{}{number}.json", text::word(rng)))
            };
            let rest = (self.size - self.bytes) / 4096 + 1;
            let blocks = (rng.random_range(25.0..500.0) * scale) as u64 + 1;
            self.put(location, Content::Log { key: rng.random(), blocks: blocks.min(rest) })?;
            number += 1;
        }
        Ok(())
    }
}

/// How it goes on.
impl Phone {
    /// A day of use: messages and calls come, photos are taken and deleted, settings and logs change, an app may be updated.
    ///
    /// Fails if the temporary directory cannot be written; the phone is of no use then.
    pub fn live_one_day(&mut self) -> io::Result<()> {
        self.day += 1;
        self.now += DAY;
        let mut rng = text::rng(self.key, "day", self.day.into());
        for database in databases::ALL {
            database.live_one_day(self.directory.path(), self.now, self.key).map_err(io::Error::other)?;
        }
        let often = (self.size as f64 / 3e8).sqrt().clamp(0.4, 4.0);
        let photos = (rng.random_range(5.0..11.0) * often) as u32;
        self.add_photos(|_, added| added < photos)?;
        let deleted = rng.random_range(1..=2);
        self.delete_photos(&mut rng, deleted)?;
        let attachments = (rng.random_range(1.0..4.0) * often) as u32;
        self.add_attachments(|_, added| added < attachments)?;
        self.add_voicemails(u32::from(rng.random_bool(0.4)))?;
        self.rewrite_settings(&mut rng)?;
        self.append_to_logs(&mut rng)?;
        if rng.random_bool(0.4) {
            self.update_app(&mut rng)?;
        }
        self.note_databases()?;
        self.settle()
    }

    fn delete_photos(&mut self, rng: &mut ChaCha8Rng, count: u32) -> io::Result<()> {
        for _ in 0..count {
            // The day's own photos are kept, and so are a small phone's last ones.
            let old = self.photos.len().saturating_sub(12);
            if old == 0 {
                break;
            }
            let number = self.photos.remove(rng.random_range(0..old));
            let photo = Photo::taken(self.key, self.size, number);
            self.change(&databases::PHOTOS, |db, _| databases::remove_asset(db, &photo.file_name()))?;
            for (location, _) in photo.files() {
                self.remove(&location);
            }
        }
        Ok(())
    }

    fn rewrite_settings(&mut self, rng: &mut ChaCha8Rng) -> io::Result<()> {
        let rewritten = self.pick(|content| match content {
            Content::Plist { key, revision, binary } if rng.random_bool(0.025) => {
                Some(Content::Plist { key: *key, revision: revision + 1, binary: *binary })
            }
            _ => None,
        });
        rewritten.into_iter().try_for_each(|(location, content)| self.put(location, content))
    }

    fn append_to_logs(&mut self, rng: &mut ChaCha8Rng) -> io::Result<()> {
        let appended = self.pick(|content| match content {
            Content::Log { key, blocks } if rng.random_bool(0.4) => {
                Some(Content::Log { key: *key, blocks: blocks + rng.random_range(1..=4) })
            }
            _ => None,
        });
        appended.into_iter().try_for_each(|(location, content)| self.put(location, content))
    }

    /// An update begins the app's logs and caches anew and writes settings of its own.
    fn update_app(&mut self, rng: &mut ChaCha8Rng) -> io::Result<()> {
        let number = rng.random_range(0..self.apps.len());
        let app = &mut self.apps[number];
        let (major, minor) = app.version.split_once('.').unwrap_or((&app.version, "0"));
        app.version = format!("{major}.{}", minor.parse::<u32>().unwrap_or(0) + 1);
        let domain = app_domain(app);
        let migration = format!("Library/Application Support/Migration/{}.plist", app.version);
        let scale = (self.size as f64 / 1e8).clamp(0.05, 1.0);
        let fresh: Vec<_> = self
            .files
            .iter()
            .filter(|(location, file)| location.domain == domain && matches!(file.content, Content::Log { .. }))
            .map(|(location, _)| location.clone())
            .collect();
        for location in fresh {
            let blocks = (rng.random_range(25.0..200.0) * scale) as u64 + 1;
            self.put(location, Content::Log { key: rng.random(), blocks })?;
        }
        self.put(Location::new(domain, migration), Content::Plist { key: rng.random(), revision: 0, binary: true })
    }

    /// The places whose content `change` gives another.
    fn pick(&self, mut change: impl FnMut(&Content) -> Option<Content>) -> Vec<(Location, Content)> {
        let changed = self.files.iter().filter_map(|(location, file)| Some((location.clone(), change(&file.content)?)));
        changed.collect()
    }
}

/// What comes on both the first day and later ones.
impl Phone {
    /// Takes photos while `go_on` with the phone and the number taken so far.
    fn add_photos(&mut self, go_on: impl Fn(&Phone, u32) -> bool) -> io::Result<()> {
        let mut taken = Vec::new();
        while go_on(self, taken.len() as u32) {
            self.photos_taken += 1;
            let photo = Photo::taken(self.key, self.size, self.photos_taken);
            for (location, content) in photo.files() {
                self.put(location, content)?;
            }
            self.photos.push(photo.number);
            taken.push((photo, self.moment()));
        }
        self.change(&databases::PHOTOS, |db, rng| {
            taken.iter().try_for_each(|(photo, at)| databases::add_asset(db, rng, &photo.asset(*at)))
        })
    }

    /// Receives pictures in messages and chats while `go_on` with the phone and the number received so far.
    fn add_attachments(&mut self, go_on: impl Fn(&Phone, u32) -> bool) -> io::Result<()> {
        let mut rng = text::rng(self.key, "attachments", self.day.into());
        let mut received = Vec::new();
        let mut count = 0;
        while go_on(self, count) {
            let size = (rng.random_range(60_000.0..600_000.0) * scale(self.size)) as u64;
            let content = Content::Media { format: Media::Jpeg, key: rng.random(), size };
            let id = text::uuid(&mut rng);
            let (one, two) = (rng.random_range(0..16), rng.random_range(0..16));
            if count % 2 == 0 {
                let path =
                    format!("Library/SMS/Attachments/{one:x}{two:x}/{:02}/{id}/IMG_{:04}.jpeg", two, count % 9999);
                received.push((path.clone(), size, self.moment()));
                self.put(Location::new("MediaDomain", path), content)?;
            } else {
                let (_, person) = text::Person::close(self.key, &mut rng);
                let path = format!("Message/Media/{}@s.whatsapp.net/{one:x}/{two:x}/{id}.jpg", &person.phone[1..]);
                self.put(Location::new(CHATS_DOMAIN, path), content)?;
            }
            count += 1;
        }
        let key = self.key;
        self.change(&databases::MESSAGES, |db, rng| {
            let mut received = received.iter();
            received.try_for_each(|(path, size, at)| databases::add_attachment(db, rng, key, *at, path, *size))
        })
    }

    fn add_voicemails(&mut self, count: u32) -> io::Result<()> {
        let mut rng = text::rng(self.key, "voicemail", self.day.into());
        for _ in 0..count {
            let (key, at) = (self.key, self.moment());
            let seconds = rng.random_range(4..60);
            let row =
                self.change(&databases::VOICEMAIL, |db, rng| databases::add_voicemail(db, rng, key, at, seconds))?;
            // AMR at 12.2 kbit/s has fifty frames of 32 bytes a second.
            let size = 6 + seconds * 50 * 32;
            let path = format!("Library/Voicemail/{row}.amr");
            self.put(
                Location::new("HomeDomain", path),
                Content::Media { format: Media::Amr, key: rng.random(), size },
            )?;
        }
        Ok(())
    }

    fn change<T>(
        &self,
        database: &Database,
        change: impl FnOnce(&rusqlite::Connection, &mut ChaCha8Rng) -> rusqlite::Result<T>,
    ) -> io::Result<T> {
        let mut rng = text::rng(self.key, "change", self.next_inode);
        database.change(self.directory.path(), |db| change(db, &mut rng)).map_err(io::Error::other)
    }

    /// Takes the database files as they are now.
    fn note_databases(&mut self) -> io::Result<()> {
        for database in databases::ALL {
            let file = self.directory.path().join(database.file_name());
            self.put(Location::new(database.domain, database.path), Content::Stored(file.clone()))?;
            if database.leaves_wal {
                let log = Content::Stored(databases::beside(&file, "-wal"));
                self.put(Location::new(database.domain, format!("{}-wal", database.path)), log)?;
            }
        }
        Ok(())
    }

    /// Brings Manifest.db up to what has changed.
    fn settle(&mut self) -> io::Result<()> {
        let changed = std::mem::take(&mut self.changed);
        let changes = changed.iter().map(|location| (location, self.files.get(location)));
        manifest::update(&self.manifest_db(), changes).map_err(io::Error::other)
    }

    fn put(&mut self, location: Location, content: Content) -> io::Result<()> {
        let before = self.files.get(&location).map(|file| (&file.content, file.size));
        let size = match (&content, before) {
            (Content::Log { key, blocks }, Some((Content::Log { key: same, blocks: old }, size))) if key == same => {
                size + content::log_size(*key, *old, blocks - old)
            }
            _ => content.size()?,
        };
        self.put_entry(location, Kind::File, content, size);
        Ok(())
    }

    fn put_directory(&mut self, location: Location) {
        if !self.files.contains_key(&location) {
            self.put_entry(location, Kind::Directory, Content::Empty, 0);
        }
    }

    fn put_entry(&mut self, location: Location, kind: Kind, content: Content, size: u64) {
        let modified = self.moment();
        let before = self.files.get(&location).map(|file| (file.inode, file.birth, file.size));
        if before.is_none() {
            self.note_in_parent(&location, modified);
        }
        let in_place = matches!(content, Content::Log { .. } | Content::Stored(_));
        let (inode, birth) = match before {
            Some((inode, birth, _)) if in_place => (inode, birth),
            _ => {
                self.next_inode += 1;
                (self.next_inode, before.map_or(modified, |(_, birth, _)| birth))
            }
        };
        let protection_class = if kind == Kind::File { 3 } else { 0 };
        self.bytes = self.bytes - before.map_or(0, |(.., size)| size) + size;
        let file = File { kind, size, inode, birth, modified, status_changed: modified, protection_class, content };
        self.files.insert(location.clone(), file);
        self.changed.insert(location);
    }

    fn remove(&mut self, location: &Location) {
        if let Some(file) = self.files.remove(location) {
            self.bytes -= file.size;
            self.note_in_parent(location, self.moment());
            self.changed.insert(location.clone());
        }
    }

    /// Makes the folders above `location`, and tells the nearest that its entries changed.
    fn note_in_parent(&mut self, location: &Location, at: i64) {
        let Some(parent) = location.parent() else {
            return;
        };
        self.put_directory(parent.clone());
        if let Some(folder) = self.files.get_mut(&parent) {
            folder.modified = folder.modified.max(at);
            folder.status_changed = folder.modified;
        }
        self.changed.insert(parent);
    }

    /// A time of this day, or on the first day one of the two years before it.
    fn moment(&self) -> i64 {
        let mut rng = text::rng(self.key, "moment", self.next_inode);
        let ago = if self.day == 0 { rng.random_range(0..2 * 365 * DAY) } else { rng.random_range(0..80_000) };
        self.now - ago
    }
}

fn app_domain(app: &App) -> String {
    format!("AppDomain-{}", app.bundle_id)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn bytes_of(phone: &Phone, is_counted: impl Fn(&Content) -> bool) -> u64 {
        phone.files().filter(|(_, file)| is_counted(&file.content)).map(|(_, file)| file.size).sum()
    }

    #[test]
    fn is_there_as_much_on_the_phone_as_asked_for() {
        for size in [5_000_000, 20_000_000] {
            let phone = Phone::new(3, size).unwrap();
            let total = bytes_of(&phone, |_| true);
            assert_eq!(total, phone.total_bytes());
            assert!((size / 10 * 9..size / 10 * 11).contains(&total), "{total} bytes of {size}");
            let media = bytes_of(&phone, |content| matches!(content, Content::Media { .. }));
            let databases = bytes_of(&phone, |content| matches!(content, Content::Stored(_)));
            assert!((50..65).contains(&(media * 100 / size)), "{media} bytes of media of {size}");
            assert!((25..40).contains(&(databases * 100 / size)), "{databases} bytes of databases of {size}");
            let files = phone.files().filter(|(_, file)| file.kind == Kind::File).count() as u64;
            assert!((size / 110_000..size / 100_000 + 80).contains(&files), "{files} files in {size} bytes");
        }
    }

    #[test]
    fn is_every_file_in_a_folder() {
        let mut phone = Phone::new(3, 5_000_000).unwrap();
        phone.live_one_day().unwrap();
        for (location, _) in phone.files() {
            if let Some(parent) = location.parent() {
                let folder = phone.files.get(&parent).unwrap_or_else(|| panic!("no folder for {location}"));
                assert_eq!(folder.kind, Kind::Directory, "{parent}");
            }
        }
        let kinds =
            [Kind::File, Kind::Directory].map(|kind| phone.files().filter(|(_, file)| file.kind == kind).count());
        assert!(phone.files().count() > kinds[0] + kinds[1], "there are links");
        assert!(phone.files().any(|(_, file)| file.kind == Kind::File && file.size == 0), "there are empty files");
    }

    #[test]
    fn does_a_changed_content_get_a_later_time() {
        let mut phone = Phone::new(4, 20_000_000).unwrap();
        let (old, yesterday) = (phone.files.clone(), phone.now);
        phone.live_one_day().unwrap();
        let read = |file: &File| {
            let mut bytes = Vec::new();
            file.open().unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        let mut changed = 0;
        for (location, file) in phone.files() {
            assert!(file.modified <= phone.now);
            let Some(before) = old.get(location) else {
                continue;
            };
            if matches!(file.content, Content::Log { .. } | Content::Plist { .. }) && read(file) != read(before) {
                assert!(file.modified > yesterday && before.modified <= yesterday, "{location}");
                changed += 1;
            }
        }
        assert!(changed > 0);
    }
}
