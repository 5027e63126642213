//! A year of a phone's message database: what each day costs, how deep deltas get, and how fast the newest and the oldest version are read.
//!
//!     cargo bench --bench versions -- [--days N] [--size MEGABYTES] --dir DIR

use std::{
    error::Error,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use heirloom_store::{
    Content, Details, Entry, Kind, LocalStorage, Name, Options, Repository, Snapshot, Source, Unlock,
};
use rusqlite::{Connection, params};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MESSAGES_A_DAY: u64 = 400;
const READ_A_DAY: u64 = 300;
const DELETED_A_DAY: u64 = 20;
const WORDS: [&str; 32] = [
    "the", "train", "is", "late", "again", "see", "you", "at", "home", "did", "call", "mother", "about", "dinner",
    "on", "sunday", "photos", "from", "lake", "were", "lovely", "bring", "bread", "and", "milk", "please", "love",
    "dad", "where", "are", "keys", "tomorrow",
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let Some(dir) = value("--dir").map(PathBuf::from) else {
        // As a test it has nothing to do: `cargo test --benches` gives no folder.
        return Ok(());
    };
    let number = |name: &str, default: u64| value(name).map_or(Ok(default), |text| text.parse());
    let (days, size) = (number("--days", 365)?, number("--size", 200)? * 1_000_000);
    fs::create_dir_all(&dir)?;
    year(&dir, days, size)
}

fn year(dir: &Path, days: u64, size: u64) -> Result<()> {
    let path = dir.join("sms.db");
    let _ = fs::remove_file(&path);
    let mut phone = Phone::new(&path)?;
    while fs::metadata(&path)?.len() < size {
        phone.receive(20_000)?;
    }
    let repository_dir = dir.join("repository");
    Repository::create(Arc::new(LocalStorage::new(&repository_dir)), Some("x"), &Options::default())?;
    let storage = Arc::new(LocalStorage::new(&repository_dir));
    let repository = Repository::open(storage, Unlock::Password("x"), Some(&dir.join("cache")))?;
    let (mut added, mut seconds, mut versions) = (Vec::new(), Vec::new(), Vec::new());
    for day in 0..days {
        if day > 0 {
            phone.live_a_day()?;
        }
        let started = Instant::now();
        let (snapshot, content, bytes) = keep(&repository, &path, day as i64)?;
        seconds.push(started.elapsed().as_secs_f64());
        added.push(bytes);
        versions.push((snapshot, content));
        if day % 30 == 0 {
            println!("day {day}: {} bytes, {bytes} added", fs::metadata(&path)?.len());
        }
    }
    let total: u64 = added.iter().sum();
    let (first, later) = (added.remove(0), added);
    seconds.remove(0);
    println!("{days} versions of {} bytes: {total} bytes in packs", fs::metadata(&path)?.len());
    println!("first {first}; then a day: median {}, most {}", median(&later), later.iter().max().unwrap_or(&0));
    println!(
        "a day takes {:.2} s (median)",
        median(&seconds.iter().map(|s| (s * 1000.0) as u64).collect::<Vec<_>>()) as f64 / 1000.0
    );
    for (what, (snapshot, content)) in [("newest", &versions[versions.len() - 1]), ("oldest", &versions[0])] {
        let started = Instant::now();
        repository.read(snapshot)?.read_file(content, &mut io::sink())?;
        println!("reading the {what}: {:.2} s", started.elapsed().as_secs_f64());
    }
    Ok(())
}

fn keep(repository: &Repository, path: &Path, time: i64) -> Result<(Snapshot, Content, u64)> {
    let name = Name::new("HomeDomain", "Library/SMS/sms.db")?;
    let mut writer = repository.write("phone")?;
    let content = writer.store(Some(&name), &mut File::open(path)?)?;
    writer.put(&name, &Entry { content: Some(content.clone()), ..Entry::new(Kind::File) })?;
    let (snapshot, stats) = writer.commit(Details::new(time, Source::Import))?;
    Ok((snapshot, content, stats.added_bytes))
}

fn median(numbers: &[u64]) -> u64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

/// Who writes to the database, as its phone does: messages come at the end, are read some days later, and seldom go.
struct Phone {
    database: Connection,
    random: u64,
    messages: u64,
}

impl Phone {
    fn new(path: &Path) -> Result<Phone> {
        let database = Connection::open(path)?;
        database.execute_batch(
            "PRAGMA page_size = 4096; PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;
             CREATE TABLE message (rowid INTEGER PRIMARY KEY, guid TEXT UNIQUE, text TEXT, body BLOB, handle INTEGER, date INTEGER, is_read INTEGER);
             CREATE INDEX message_date ON message (date); CREATE INDEX message_handle ON message (handle, date);",
        )?;
        Ok(Phone { database, random: 1, messages: 0 })
    }

    fn live_a_day(&mut self) -> Result<()> {
        let recent = self.messages.saturating_sub(20 * MESSAGES_A_DAY);
        for _ in 0..READ_A_DAY {
            let row = recent + self.below(self.messages - recent);
            self.database.prepare_cached("UPDATE message SET is_read = 1 WHERE rowid = ?1")?.execute([row as i64])?;
        }
        for _ in 0..DELETED_A_DAY {
            let row = self.below(self.messages);
            self.database.prepare_cached("DELETE FROM message WHERE rowid = ?1")?.execute([row as i64])?;
        }
        self.receive(MESSAGES_A_DAY)
    }

    fn receive(&mut self, count: u64) -> Result<()> {
        self.database.execute_batch("BEGIN")?;
        for _ in 0..count {
            self.messages += 1;
            let words = 3 + self.below(25);
            let text = (0..words).map(|_| WORDS[self.below(32) as usize]).collect::<Vec<_>>().join(" ");
            let guid = format!("{:016X}-{:016X}", self.next(), self.next());
            let body: Vec<u8> = (0..16 + self.below(24)).flat_map(|_| self.next().to_le_bytes()).collect();
            let (handle, date) = (self.below(200), 700_000_000 + self.messages * 60);
            self.database
                .prepare_cached("INSERT INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)")?
                .execute(params![self.messages as i64, guid, text, body, handle as i64, date as i64])?;
        }
        Ok(self.database.execute_batch("COMMIT")?)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// xorshift64*
    fn next(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}
